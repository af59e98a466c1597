//! The query of a request, read strictly: what is not known, or is there twice, is refused and not ignored.

use std::ops::RangeInclusive;

use axum::http::Uri;

use super::reply::Refused;

/// Octets of a query that are read: the longest cursor has fewer.
const LONGEST: usize = 8 << 10;

/// What is left to be read of a query.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn of(uri: &Uri) -> Result<Parameters, Refused> {
        let query = uri.query().unwrap_or_default();
        if query.len() > LONGEST {
            let reason = format!("it has {} octets, and {LONGEST} are read", query.len());
            return Err(Refused::parameter("query", query, reason, "ask for less at a time"));
        }
        let pairs = form_urlencoded::parse(query.as_bytes());
        Ok(Parameters(pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()))
    }

    /// A parameter, taken out; an empty one is none.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Refused> {
        let Some(at) = self.0.iter().position(|(found, _)| found == name) else { return Ok(None) };
        let (_, value) = self.0.swap_remove(at);
        if self.0.iter().any(|(found, _)| found == name) {
            return Err(Refused::parameter(name, &value, "it is given twice", "give it once"));
        }
        Ok(Some(value).filter(|value| !value.is_empty()))
    }

    pub(super) fn number(
        &mut self,
        name: &'static str,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> Result<usize, Refused> {
        let Some(text) = self.text(name)? else { return Ok(default) };
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let remedy = format!("give a whole number from {} to {}", range.start(), range.end());
            Refused::parameter(name, &text, "it is no number in the range", remedy)
        })
    }

    /// One of the words that a parameter can be.
    pub(super) fn one_of<T: Copy>(
        &mut self,
        name: &'static str,
        all: impl Iterator<Item = T> + Clone,
        word: impl Fn(T) -> &'static str,
    ) -> Result<Option<T>, Refused> {
        let Some(text) = self.text(name)? else { return Ok(None) };
        match all.clone().find(|one| word(*one) == text) {
            Some(one) => Ok(Some(one)),
            None => {
                let words: Vec<_> = all.map(word).collect();
                Err(Refused::parameter(
                    name,
                    &text,
                    "there is none of this name",
                    format!("give one of {}", words.join(", ")),
                ))
            }
        }
    }

    /// All were read; `known` are those that can be given.
    pub(super) fn done(self, known: &[&str]) -> Result<(), Refused> {
        let Some((name, _)) = self.0.first() else { return Ok(()) };
        let remedy = if known.is_empty() {
            "leave it out; nothing can be chosen here".to_owned()
        } else {
            format!("leave it out; there are {}", known.join(", "))
        };
        Err(Refused::parameter("query", name, "no parameter of this endpoint has this name", remedy))
    }
}
