//! The last changes of the table: what a host was answered with before and after, when, and through whom (I6).
//!
//! A ring of bounded length. The first complete list of a source is no change of anything; what later lists change, and
//! files that change at once, is kept, but of each at most half of the ring, lest an interruption or a directory that is
//! written anew wipe out what came before it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::entry::provenance::Provenance;
use crate::limits::{MOST_CHANGES, MOST_CHANGES_OCTETS};
use crate::zone::Host;
use crate::zone::answer::{Answers, AnswersRef, Family};

/// What is kept of one list, or of files that change at once.
pub(super) const MOST_OF_A_LIST: usize = MOST_CHANGES / 2;

/// The last changes.
#[derive(Default)]
pub struct History(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// Oldest first.
    changes: VecDeque<Arc<Change>>,
    octets: usize,
    /// How many were kept so far.
    count: u64,
    left_out: u64,
}

/// A change of one host's answers.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    /// Counts them, from 1.
    pub sequence: u64,
    /// When it could be answered, by our clock, Unix seconds.
    pub at: u32,
    /// Whose answers changed.
    pub host: Host,
    /// Those before; `None` if there were none. Addresses and TTL alone, here and in `after`.
    pub before: Option<Answers>,
    /// Those since; `None` if there are none.
    pub after: Option<Answers>,
    /// The entry that came, changed or went: `namespace/name`, or file and document.
    pub entry: Box<str>,
    /// A complete list showed it, so it may have happened any time since the list before (L2).
    pub listed: bool,
    /// Who wrote or deleted the entry, as far as the object tells.
    pub provenance: Option<Box<Provenance>>,
}

/// What [`History::read`] looks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted<'h> {
    /// Changes of this host alone.
    pub host: Option<&'h Host>,
    /// Changes after this one: a sequence number that was seen before.
    pub since: u64,
    /// At most so many; `None` for all.
    pub most: Option<usize>,
}

/// What is left of the history.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Changes {
    /// Newest first.
    #[serde(serialize_with = "each")]
    pub changes: Vec<Arc<Change>>,
    /// The number of the last change, whether or not it is among them: what to ask `since` for the next time.
    pub last: u64,
    /// Changes that lists and files have made beyond what is kept of one.
    pub left_out: u64,
}

/// Whether addresses or TTL differ. What a host has beside them is not kept.
pub(super) fn is_worth_telling(before: Option<AnswersRef<'_>>, after: Option<&Answers>) -> bool {
    match (before, after.map(Answers::view)) {
        (Some(before), Some(after)) => {
            (before.ttl(), before.v4(), before.v6()) != (after.ttl(), after.v4(), after.v6())
        }
        _ => true,
    }
}

impl History {
    /// Keeps a change and gives it its number.
    pub(super) fn push(&self, change: Change) {
        let mut kept = self.lock();
        kept.count += 1;
        let change = Arc::new(Change { sequence: kept.count, ..change });
        kept.octets += change.octets();
        kept.changes.push_back(change);
        while kept.changes.len() > MOST_CHANGES || kept.octets > MOST_CHANGES_OCTETS {
            let Some(oldest) = kept.changes.pop_front() else { return };
            kept.octets -= oldest.octets();
        }
    }

    /// A list, or files, have made so many changes more than are kept of one.
    pub(super) fn leave_out(&self, changes: u64) {
        if changes > 0 {
            self.lock().left_out += changes;
        }
    }

    /// The changes that are kept, newest first.
    pub fn read(&self, wanted: Wanted<'_>) -> Changes {
        let kept = self.lock();
        let newest = kept.changes.iter().rev().take_while(|change| change.sequence > wanted.since);
        let of_host = newest.filter(|change| wanted.host.is_none_or(|host| change.host == *host));
        let changes = of_host.take(wanted.most.unwrap_or(usize::MAX)).cloned().collect();
        Changes { changes, last: kept.count, left_out: kept.left_out }
    }

    /// The last change of a host, if it is still kept.
    pub fn last_of(&self, host: &Host) -> Option<Arc<Change>> {
        self.read(Wanted { host: Some(host), most: Some(1), ..Wanted::default() }).changes.pop()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Change {
    /// About the memory it takes. Addresses may be the table's own, but it may outlive those.
    fn octets(&self) -> usize {
        let addresses = |answers: &Option<Answers>| {
            answers.as_ref().map_or(0, |answers| {
                let answers = answers.view();
                answers.v4().len() * 4 + answers.v6().len() * 16
            })
        };
        let provenance = self.provenance.as_ref().map_or(0, |provenance| {
            let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
            size_of::<Provenance>() + text(&provenance.manager) + text(&provenance.resource_version)
        });
        let texts = self.host.name.wire().len() + self.entry.len();
        size_of::<Change>() + texts + addresses(&self.before) + addresses(&self.after) + provenance
    }
}

fn each<S: Serializer>(changes: &[Arc<Change>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(changes.iter().map(|change| &**change))
}

/// A change as the API shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown<'c> {
    sequence: u64,
    time: Option<Timestamp>,
    host: String,
    before: Option<ShownAnswers>,
    after: Option<ShownAnswers>,
    entry: &'c str,
    listed: bool,
    manager: Option<&'c str>,
    object_time: Option<Timestamp>,
    resource_version: Option<&'c str>,
}

#[derive(Serialize)]
struct ShownAnswers {
    addresses: Vec<std::net::IpAddr>,
    ttl: u32,
}

impl ShownAnswers {
    fn new(answers: &Answers) -> ShownAnswers {
        let answers = answers.view();
        let of = |family| answers.addresses(family);
        ShownAnswers { addresses: of(Family::V4).chain(of(Family::V6)).collect(), ttl: answers.ttl() }
    }
}

impl Serialize for Change {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let provenance = self.provenance.as_deref();
        let shown = Shown {
            sequence: self.sequence,
            time: Timestamp::from_second(self.at.into()).ok(),
            host: self.host.to_string(),
            before: self.before.as_ref().map(ShownAnswers::new),
            after: self.after.as_ref().map(ShownAnswers::new),
            entry: &self.entry,
            listed: self.listed,
            manager: provenance.and_then(|p| p.manager.as_deref()),
            object_time: provenance.and_then(|p| Timestamp::from_second(p.time?).ok()),
            resource_version: provenance.and_then(|p| p.resource_version.as_deref()),
        };
        shown.serialize(serializer)
    }
}

#[cfg(test)]
mod tests;
