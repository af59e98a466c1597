//! Domain names in lower-case wire form.
//!
//! A [`Name`] is the key of the name table, so a query's name is looked up by its own (lowered)
//! octets without building anything. Comparison without ASCII case (D15) is lowering once on entry.

use std::borrow::Borrow;
use std::fmt;

/// RFC 1035 section 3.1: a name is at most 255 octets on the wire, length octets and root included.
pub const MAX_WIRE: usize = 255;
/// RFC 1035 section 3.1: a label is at most 63 octets.
pub const MAX_LABEL: usize = 63;

/// Why a text is not a host or zone name (H1, Z2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing, or only a dot.
    #[error("it is empty")]
    Empty,
    /// Two dots in a row, or a leading dot.
    #[error("it has an empty label")]
    EmptyLabel,
    /// A label above 63 octets.
    #[error("label {0:?} is longer than 63 octets")]
    LabelTooLong(String),
    /// The name above 253 octets as text.
    #[error("it is {0} octets long; 253 are allowed")]
    TooLong(usize),
    /// An octet outside letters, digits, `-` and `_`.
    #[error("{0:?} is not allowed; labels are letters, digits, '-' and '_'")]
    Character(char),
}

/// A domain name: lower-case, wire form, root label included, never the root itself.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<[u8]>);

impl Name {
    /// Reads a name as H1 allows it; a trailing dot is fine, upper case is lowered.
    pub fn parse(text: &str) -> Result<Name, NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(NameError::Empty);
        }
        if text.len() > MAX_WIRE - 2 {
            return Err(NameError::TooLong(text.len()));
        }
        let mut wire = Vec::with_capacity(text.len() + 2);
        for label in text.split('.') {
            if label.is_empty() {
                return Err(NameError::EmptyLabel);
            }
            if let Some(bad) = label.chars().find(|c| !allowed(*c)) {
                return Err(NameError::Character(bad));
            }
            if label.len() > MAX_LABEL {
                return Err(NameError::LabelTooLong(label.to_owned()));
            }
            wire.push(label.len() as u8);
            wire.extend(label.bytes().map(|b| b.to_ascii_lowercase()));
        }
        wire.push(0);
        Ok(Name(wire.into_boxed_slice()))
    }

    /// The octets, root label included.
    pub fn wire(&self) -> &[u8] {
        &self.0
    }

    /// The octets without the root label: what another name ends in when it lies below this one.
    pub fn labels_wire(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// The name with `label` put in front. `label` must be a valid lower-case label.
    pub fn prepend(&self, label: &str) -> Name {
        debug_assert!((1..=MAX_LABEL).contains(&label.len()));
        let mut wire = Vec::with_capacity(self.0.len() + 1 + label.len());
        wire.push(label.len() as u8);
        wire.extend_from_slice(label.as_bytes());
        wire.extend_from_slice(&self.0);
        Name(wire.into_boxed_slice())
    }

    /// A name from the tail of a valid one: `wire` must start at a label of a [`Name`].
    pub fn from_tail(wire: impl Into<Box<[u8]>>) -> Name {
        let wire = wire.into();
        debug_assert!(wire.len() > 1 && wire.ends_with(&[0]));
        Name(wire)
    }

    /// True for this name and every name below it.
    pub fn covers(&self, other: &Name) -> bool {
        ends_in(other.labels_wire(), self.labels_wire())
    }
}

fn allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '-' || c == '_'
}

impl fmt::Display for Name {
    /// Without the trailing dot, as ServiceEntries and flags write names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, label) in labels(self.labels_wire()).enumerate() {
            if i > 0 {
                f.write_str(".")?;
            }
            f.write_str(std::str::from_utf8(label).unwrap_or("?"))?;
        }
        Ok(())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The name one label up, or `None` at a top-level name (whose parent is the root).
pub fn parent(wire: &[u8]) -> Option<&[u8]> {
    let up = wire.get(1 + usize::from(*wire.first()?)..)?;
    (up.len() > 1).then_some(up)
}

/// The labels of a run of wire-form labels (no root label).
pub fn labels(mut wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (&len, rest) = wire.split_first()?;
        let (label, tail) = rest.split_at_checked(usize::from(len))?;
        wire = tail;
        Some(label)
    })
}

/// The offset of every label in a run of wire-form labels, leftmost first.
pub fn offsets(wire: &[u8]) -> impl Iterator<Item = usize> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let len = *wire.get(at)?;
        let here = at;
        at += 1 + usize::from(len);
        Some(here)
    })
}

/// Any wire name as text, without the trailing dot; the root is a dot. Octets that are no graphic ASCII, and those with
/// a meaning in zone files, are escaped (RFC 1035 section 5.1).
pub fn presentation(wire: &[u8]) -> String {
    let mut text = String::with_capacity(wire.len());
    for label in labels(wire).take_while(|label| !label.is_empty()) {
        if !text.is_empty() {
            text.push('.');
        }
        for octet in label {
            match octet {
                b'.' | b'\\' | b'"' | b'(' | b')' | b';' | b'@' | b'$' => {
                    text.extend(['\\', char::from(*octet)])
                }
                0x21..=0x7e => text.push(char::from(*octet)),
                _ => text.push_str(&format!("\\{octet:03}")),
            }
        }
    }
    if text.is_empty() { ".".to_owned() } else { text }
}

/// True if a run of labels equals or ends in another run, at a label boundary.
pub fn ends_in(run: &[u8], tail: &[u8]) -> bool {
    run.ends_with(tail) && offsets(run).any(|at| at == run.len() - tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).expect(text)
    }

    /// [H1] [D15]
    #[test]
    fn names_are_lowered_and_lose_the_trailing_dot() {
        assert_eq!(name("Echo.Default.GLOBAL."), name("echo.default.global"));
        assert_eq!(name("Echo.Default.GLOBAL.").to_string(), "echo.default.global");
        assert_eq!(name("a_b-1.global").wire(), b"\x05a_b-1\x06global\x00");
        assert_eq!(format!("{:?}", name("A.global")), "\"a.global\"");
    }

    /// [H1]
    #[test]
    fn what_is_not_a_name_says_why() {
        let long = "a".repeat(64);
        let label = "a".repeat(63);
        let cases: &[(&str, NameError)] = &[
            ("", NameError::Empty),
            (".", NameError::Empty),
            ("a..b", NameError::EmptyLabel),
            (".a", NameError::EmptyLabel),
            ("a.b..", NameError::EmptyLabel),
            ("a b.global", NameError::Character(' ')),
            ("*.global", NameError::Character('*')),
            ("münchen.global", NameError::Character('ü')),
            ("<hostname>", NameError::Character('<')),
        ];
        for (text, why) in cases {
            assert_eq!(Name::parse(text).as_ref(), Err(why), "{text}");
        }
        assert_eq!(Name::parse(&long), Err(NameError::LabelTooLong(long.clone())));
        assert!(Name::parse(&label).is_ok());
        let longest = format!("{label}.{label}.{label}.{}", "a".repeat(61));
        assert_eq!(longest.len(), 253);
        assert_eq!(name(&longest).wire().len(), MAX_WIRE);
        let over = format!("{label}.{label}.{label}.{}", "a".repeat(62));
        assert_eq!(Name::parse(&over), Err(NameError::TooLong(254)));
    }

    /// [D15] [Z3]
    #[test]
    fn suffixes_match_at_label_boundaries_only() {
        assert!(name("global").covers(&name("a.global")));
        assert!(name("global").covers(&name("GLOBAL")));
        assert!(!name("global").covers(&name("notglobal")));
        assert!(!name("a.global").covers(&name("global")));
        // The octets of "\x01a" also end the label "b\x01a"; a boundary check must tell them apart.
        assert!(!ends_in(b"\x03b\x01a", b"\x01a"));
        assert!(ends_in(b"\x01b\x01a", b"\x01a"));
    }

    /// [I9]
    #[test]
    fn a_name_of_any_octets_is_a_text_of_graphic_ones() {
        let cases: [(&[u8], &str); 5] = [
            (b"\x05Echo_\x06global\x00", "Echo_.global"),
            (b"\x00", "."),
            (b"", "."),
            (b"\x04a.b\\\x03\"\x0a\xff\x00", "a\\.b\\\\.\\\"\\010\\255"),
            (b"\x01*\x02 \x7f\x00", "*.\\032\\127"),
        ];
        for (wire, text) in cases {
            assert_eq!(presentation(wire), text);
        }
    }

    #[test]
    fn parents_stop_below_the_root() {
        let n = name("a.bc.global");
        let up = parent(n.wire()).expect("a parent");
        assert_eq!(up, name("bc.global").wire());
        assert_eq!(parent(name("global").wire()), None);
        assert_eq!(Name::from_tail(up), name("bc.global"));
        assert_eq!(name("global").prepend("ns"), name("ns.global"));
        assert_eq!(labels(n.labels_wire()).collect::<Vec<_>>(), [&b"a"[..], b"bc", b"global"]);
        assert_eq!(offsets(n.labels_wire()).collect::<Vec<_>>(), [0, 2, 5]);
    }
}
