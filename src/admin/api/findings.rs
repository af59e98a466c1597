//! Findings (F1), searched when asked for: there may be many times more of them than of what they are about (S7), so none
//! but the page is kept.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;

use super::parameters::Parameters;
use super::reply::Refused;
use crate::finding::{Code, Finding, Severity};
use crate::index::Index;

/// Findings on a page.
const PAGE: usize = 100;
const MOST: usize = 500;

const SEVERITIES: [Severity; 3] = [Severity::Error, Severity::Warning, Severity::Info];

/// Which ones.
#[derive(Debug)]
pub(super) struct Search {
    severity: Option<Severity>,
    code: Option<Code>,
    object: Option<String>,
    limit: usize,
    after: Option<Place>,
}

/// Where a page ends: the finding's severity and the finding.
type Place = (Severity, [String; 5]);

/// The worst first, and then by code, object and field.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    findings: Vec<Shown>,
    /// Findings that match, on all pages.
    matched: usize,
    /// The same by severity.
    severities: BTreeMap<&'static str, usize>,
    /// The value of `after` for the next page.
    next: Option<String>,
}

#[derive(Debug, Serialize)]
struct Shown {
    code: &'static str,
    severity: &'static str,
    object: String,
    field: String,
    value: String,
    why: String,
    remedy: String,
}

impl Search {
    pub(super) fn read(mut parameters: Parameters) -> Result<Search, Refused> {
        let after = parameters.text("after")?;
        let search = Search {
            severity: parameters.one_of("severity", SEVERITIES.into_iter(), Severity::as_str)?,
            code: parameters.one_of("code", Code::ALL.iter().copied(), Code::as_str)?,
            object: parameters.text("object")?,
            limit: parameters.number("limit", 1..=MOST, PAGE)?,
            after: after
                .map(|text| {
                    read_place(&text).ok_or_else(|| {
                        let remedy = "give what `next` was on the page before, or leave it out";
                        Refused::parameter("after", &text, "it is no place in the list", remedy)
                    })
                })
                .transpose()?,
        };
        parameters.done(&["severity", "code", "object", "limit", "after"])?;
        Ok(search)
    }

    /// Looks at everything, while events go on.
    pub(super) fn run(&self, index: &Index) -> Page {
        let mut seen: BTreeSet<(Place, String)> = BTreeSet::new();
        let mut severities: BTreeMap<_, _> = SEVERITIES.map(|severity| (severity.as_str(), 0)).into();
        let mut behind = 0;
        index.search(&mut |finding| {
            let severity = finding.code.severity();
            let matches = self.severity.is_none_or(|wanted| wanted == severity)
                && self.code.is_none_or(|wanted| wanted == finding.code)
                && self.object.as_ref().is_none_or(|part| finding.object.contains(&**part));
            if !matches {
                return;
            }
            *severities.entry(severity.as_str()).or_default() += 1;
            let (place, remedy) = place(finding);
            if self.after.as_ref().is_some_and(|after| place <= *after) {
                return;
            }
            behind += 1;
            seen.insert((place, remedy));
            if seen.len() > self.limit {
                seen.pop_last();
            }
        });
        let next = seen.last().filter(|_| behind > seen.len()).map(|(place, _)| write_place(place));
        Page {
            findings: seen.into_iter().map(Shown::new).collect(),
            matched: severities.values().sum(),
            severities,
            next,
        }
    }
}

fn place(finding: Finding) -> (Place, String) {
    let severity = finding.code.severity();
    let Finding { code, object, field, value, why, remedy } = finding;
    ((severity, [code.as_str().to_owned(), object, field, value, why]), remedy)
}

impl Shown {
    fn new(((severity, [code, object, field, value, why]), remedy): (Place, String)) -> Shown {
        let code = Code::ALL.iter().find(|known| known.as_str() == code).map_or("", |known| known.as_str());
        Shown { code, severity: severity.as_str(), object, field, value, why, remedy }
    }
}

/// Opaque to whoever asks.
fn write_place((_, place): &Place) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(place).unwrap_or_default())
}

fn read_place(text: &str) -> Option<Place> {
    let place: [String; 5] = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(text).ok()?).ok()?;
    let code = Code::ALL.iter().find(|code| code.as_str() == place[0])?;
    Some((code.severity(), place))
}
