//! What is asked: text of a person as a name and types.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use crate::limits;
use crate::wire::name::{Name, NameError};
use crate::zone::reverse;

/// Characters of a name that are told; more than any name has.
const LONGEST: usize = 300;
/// Types of one question.
const MOST_TYPES: usize = 16;

/// A name and the types it is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// As it was written, shortened.
    pub text: String,
    /// The name, or why it is none.
    pub name: Result<Name, String>,
    /// The name that may have been meant, where it is none: an address's, or one in the text.
    pub meant: Option<Name>,
    /// At least one.
    pub types: Vec<RecordType>,
}

impl Question {
    /// Reads a name and types; A and AAAA without any. An error is a type's, with the remedy.
    pub fn new(text: &str, types: &[String]) -> Result<Question, String> {
        let mut read: Vec<RecordType> = Vec::new();
        for text in types {
            let rtype = record_type(text)?;
            if !read.contains(&rtype) {
                read.push(rtype);
            }
        }
        if read.is_empty() {
            read = vec![RecordType::A, RecordType::AAAA];
        }
        if read.len() > MOST_TYPES {
            return Err(format!("{} types are too many; ask for {MOST_TYPES} at a time", read.len()));
        }
        let name = parse(text);
        let meant = match text.parse() {
            Ok(address) => Some(reverse::name_of(address)),
            Err(_) if name.is_err() => tidy(text),
            Err(_) => None,
        };
        Ok(Question { text: limits::shorten(text, LONGEST), name, meant, types: read })
    }
}

/// A type by its name or as `TYPE257`.
fn record_type(text: &str) -> Result<RecordType, String> {
    let upper = text.trim().to_ascii_uppercase();
    let numbered = upper.strip_prefix("TYPE").and_then(|number| number.parse::<u16>().ok());
    numbered.map(RecordType::from).or_else(|| upper.parse().ok()).ok_or_else(|| {
        let text = limits::shorten(text, 40);
        format!(
            "{text:?} is no record type; write A, AAAA, TXT or another one's name, or TYPE and its number"
        )
    })
}

/// A name that somebody may ask for: a host's, or with `*` as its first label.
pub(super) fn parse(text: &str) -> Result<Name, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("it is an address, not a name".to_owned());
    }
    let why = |error: NameError| error.to_string();
    match text.strip_prefix("*.") {
        None => Name::parse(text).map_err(why),
        Some(suffix) => {
            let suffix = Name::parse(suffix).map_err(why)?;
            if suffix.wire().len() + 2 > crate::wire::name::MAX_WIRE {
                return Err(NameError::TooLong(text.len()).to_string());
            }
            Ok(suffix.prepend("*"))
        }
    }
}

/// The name in a text that is more than a name: in a URL, with a port, with blanks, quotes or too many dots.
pub(super) fn tidy(text: &str) -> Option<Name> {
    let text = limits::shorten(text, LONGEST);
    let host = text.split_once("://").map_or(&*text, |(_, rest)| rest);
    let host = host.split(['/', '?', '#']).next()?;
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    let host = host.split_once(':').map_or(host, |(host, _)| host);
    // Without a letter it is another name.
    if host.contains(is_foreign) {
        return None;
    }
    let labels = host.split(['.', '。']).map(|label| {
        let kept = label.chars().filter(|c| c.is_ascii_alphanumeric() || ['-', '_'].contains(c));
        kept.collect::<String>()
    });
    let labels: Vec<String> = labels.filter(|label| !label.is_empty()).collect();
    parse(&labels.join(".")).ok()
}

/// A letter or digit that a name has only in punycode.
pub(super) fn is_foreign(c: char) -> bool {
    !c.is_ascii() && c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [I2]
    #[test]
    fn what_is_more_than_a_name_has_a_name_in_it() {
        let cases = [
            ("http://echo.default.global:80/path?x#y", "echo.default.global"),
            ("user@echo.default.global", "echo.default.global"),
            (" echo.default.global ", "echo.default.global"),
            ("echo..default.global", "echo.default.global"),
            (".echo.default.global..", "echo.default.global"),
            ("\"echo.default.global\"", "echo.default.global"),
            ("echo.default.global:8080", "echo.default.global"),
            ("ec ho.default.global", "echo.default.global"),
        ];
        for (text, meant) in cases {
            let question = Question::new(text, &[]).expect("no types");
            assert!(question.name.is_err(), "{text}");
            assert_eq!(question.meant.map(|name| name.to_string()).as_deref(), Some(meant), "{text}");
        }
        for text in ["", "..", "***", "ünï.global"] {
            let question = Question::new(text, &[]).expect("no types");
            assert!(question.name.is_err() && question.meant.is_none(), "{text}");
        }
        let address = Question::new("240.0.0.1", &[]).expect("no types");
        assert!(address.name.is_err());
        assert_eq!(address.meant.map(|name| name.to_string()).as_deref(), Some("1.0.0.240.in-addr.arpa"));
        for text in ["Echo.Default.GLOBAL.", "*.bar.global", "_x._tcp.a.global"] {
            assert!(Question::new(text, &[]).is_ok_and(|question| question.name.is_ok()), "{text}");
        }
    }

    /// [I1]
    #[test]
    fn types_have_names_or_numbers() {
        let types = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            Question::new("a.global", &texts).map(|question| question.types)
        };
        assert_eq!(types(&[]), Ok(vec![RecordType::A, RecordType::AAAA]));
        assert_eq!(types(&["aaaa", "AAAA"]), Ok(vec![RecordType::AAAA]));
        assert_eq!(types(&["txt", "type1"]), Ok(vec![RecordType::TXT, RecordType::A]));
        let error = types(&["AAA"]).expect_err("no type");
        assert!(error.contains("\"AAA\" is no record type; write"), "{error}");
    }
}
