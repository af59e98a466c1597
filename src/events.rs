//! Findings about the cluster's entries as Kubernetes Events (F4).
//!
//! The search for findings ([`crate::index::Index::search`]) is one for all: whoever makes it shows what it finds to a
//! [`Round`] of the [`Desk`]. The [`ledger`] keeps what was told, as hashes, and the few findings that are told next; the
//! [`teller`] writes while this replica holds the Lease, and keeps a [`record`] in the cluster.
//!
//! **Told once.** The record says what was told and still stands, so neither a restart nor another leader nor the end of
//! an Event's life (an hour, by default) tells it again. It is saved a few seconds after the Event: a leader that dies
//! in between leaves an Event whose name the next one makes, too, since that is of the object's uid and the finding.
//!
//! **What is no news.** A finding is told when it has stood for five seconds, for istiod needs a moment to allocate an
//! address; and it is gone when it was absent for as long. One that comes back has changed, and is told again: the
//! same Event, counted, if it is still there. That a finding is gone is not told: `kubectl describe` says how old an
//! Event is, and an Event that calls for nothing is noise.

pub mod ledger;
pub mod record;
pub mod tally;
pub mod teller;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::finding::{Code, Finding, Severity};
use crate::kubernetes::recorder::key;
use ledger::Ledger;
pub use ledger::Round;

/// Where the search for findings and the teller meet.
pub struct Desk {
    ledger: Mutex<Ledger>,
    changed: Notify,
    /// What was not read yet; `None` once everything was.
    awaited: Mutex<Option<String>>,
}

impl Default for Desk {
    fn default() -> Desk {
        let awaited = Mutex::new(Some("the first search for findings".to_owned()));
        Desk { ledger: Mutex::default(), changed: Notify::new(), awaited }
    }
}

impl Desk {
    /// Whether a search is wanted although nothing has changed. Asked once for each.
    pub fn wants_search(&self) -> bool {
        self.ledger().wants_search()
    }

    /// Begins to look on at a search; `None` if another replica tells.
    pub fn begin(&self) -> Option<Round> {
        self.ledger().begin()
    }

    /// The search is over. It was `still` if nothing has changed meanwhile; else it may have missed what is there.
    pub fn finish(&self, round: Round, still: bool) {
        self.ledger().finish(round, still, Instant::now());
        self.changed.notify_one();
    }

    /// What has to be read before anything is told; most of what seems to be missing until then is not.
    pub fn awaits(&self, what: Option<String>) {
        let before = std::mem::replace(&mut *self.awaited_lock(), what);
        if before.is_some() && self.awaited_lock().is_none() {
            self.changed.notify_one();
        }
    }

    fn awaited(&self) -> Option<String> {
        self.awaited_lock().clone()
    }

    fn awaited_lock(&self) -> MutexGuard<'_, Option<String>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry of the cluster that a finding worth an Event is about: namespace and name. Files and sources have no object
/// that anybody could describe.
fn subject(finding: &Finding) -> Option<(&str, &str)> {
    let is_of_source =
        matches!(finding.code, Code::AdvertiseService | Code::CrdAbsent | Code::FileUnreadable);
    if finding.code.severity() == Severity::Info || is_of_source {
        return None;
    }
    // A document of a file has a colon, which no object's name has.
    let (namespace, name) = finding.object.split_once('/')?;
    let is_name = |text: &str| !text.is_empty() && !text.contains(['/', ':']);
    (is_name(namespace) && is_name(name)).then_some((namespace, name))
}

/// What makes a finding the same as before: what is in the entry. Why that is wrong may name another entry, and one that
/// changes would have hundreds told again; and another version may word it better, as it may the remedy.
fn identity(finding: &Finding) -> u64 {
    key([finding.code.as_str(), &finding.object, &finding.field, &finding.value])
}

/// What makes an Event the same as before: it says the same, for nobody can change its note.
fn event_key(finding: &Finding) -> u64 {
    key([identity(finding).to_string().as_str(), &finding.why])
}

/// `host-no-address` as Events have it: `HostNoAddress`.
fn reason(code: Code) -> String {
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    code.as_str().split('-').map(capital).collect()
}

/// What an Event says of a finding: that it is about the object is seen from where it is.
fn note(finding: &Finding) -> String {
    let mut place = finding.field.clone();
    if !finding.value.is_empty() {
        // As in the log: nothing that an entry holds can steer a terminal.
        place = format!("{place} {:?}", finding.value).trim_start().to_owned();
    }
    let separator = if place.is_empty() { "" } else { ": " };
    format!("{place}{separator}{}; {}", finding.why, finding.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(code: Code, object: &str) -> Finding {
        Finding::new(code, object, "spec.hosts[0]", "a.global", "it is so", "do this")
    }

    /// [F4]
    #[test]
    fn only_an_entry_of_the_cluster_that_is_wrong_has_an_event() {
        let cases = [
            (Code::HostNoAddress, "ns/name", Some(("ns", "name"))),
            (Code::HostInvalid, "ns/a.b-c", Some(("ns", "a.b-c"))),
            (Code::HostOutsideZones, "ns/name", None),
            (Code::HostInvalid, "dir/file.yaml:1", None),
            (Code::HostInvalid, "dir/file.yaml:1[2]", None),
            (Code::HostInvalid, "/abs/dir/file.yaml:1", None),
            (Code::FileUnreadable, "dir/file.yaml", None),
            (Code::AdvertiseService, "istio-system/globaldns", None),
            (Code::CrdAbsent, "serviceentries.networking.istio.io", None),
        ];
        for (code, object, expected) in cases {
            assert_eq!(subject(&finding(code, object)), expected, "{code:?} {object}");
        }
    }

    /// [F4]
    #[test]
    fn an_event_says_why_and_what_to_do() {
        let found = finding(Code::HostNoAddress, "ns/name");
        assert_eq!(reason(found.code), "HostNoAddress");
        assert_eq!(note(&found), "spec.hosts[0] \"a.global\": it is so; do this");
        let whole = Finding::new(Code::EntryUnread, "ns/name", "", "", "it is so", "do this");
        assert_eq!(note(&whole), "it is so; do this");
        let value = Finding::new(Code::EntryUnread, "ns/name", "", "\u{1b}[31m", "it is so", "do this");
        assert!(note(&value).starts_with("\"\\u{1b}[31m\": it"), "{}", note(&value));
    }

    /// [F4]
    #[test]
    fn every_code_makes_a_reason() {
        for code in Code::ALL {
            let reason = reason(*code);
            assert!(reason.chars().all(|c| c.is_ascii_alphanumeric()) && reason.len() <= 128, "{reason}");
        }
    }

    /// [F4]
    #[test]
    fn another_wording_of_why_and_of_the_remedy_is_no_other_finding() {
        let found = finding(Code::HostNoAddress, "ns/name");
        let reworded = Finding { remedy: "do that".to_owned(), ..found.clone() };
        assert_eq!((identity(&found), event_key(&found)), (identity(&reworded), event_key(&reworded)));
        let for_another = Finding { why: "another one is so".to_owned(), ..found.clone() };
        assert_eq!(identity(&found), identity(&for_another));
        assert_ne!(event_key(&found), event_key(&for_another), "its note would not be true");
        let others = [
            Finding { code: Code::HostInvalid, ..found.clone() },
            Finding { object: "ns/other".to_owned(), ..found.clone() },
            Finding { field: "spec.hosts[1]".to_owned(), ..found.clone() },
            Finding { value: "b.global".to_owned(), ..found.clone() },
        ];
        for other in others {
            assert_ne!(identity(&found), identity(&other), "{other}");
        }
    }
}
