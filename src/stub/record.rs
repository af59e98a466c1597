//! What we have written, and where it stands: kept in a ConfigMap of our own, because annotations on other people's
//! objects get lost (kubernetes/kubernetes#88811), and written before the object itself, because a writer may die
//! between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Ours, Stub};
use crate::wire::name::Name;

/// The ConfigMap's name, in our own namespace; the Lease's, too.
pub const NAME: &str = "globaldns-stub-domains";
/// Its one key.
pub const KEY: &str = "record.json";

/// Where a layer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum State {
    /// Found, nothing decided.
    #[default]
    Detected,
    /// An edit is due: it waits for a leader, for `manage`, or for our own address to answer.
    Planned,
    /// The API server has the edit; cluster DNS may not have read it.
    Propagating,
    /// A probe came back through every endpoint.
    Verified,
    /// Someone else serves a zone of ours there.
    Conflict,
    /// What is there is broken, or we cannot be sure of it: nothing is written.
    Refused,
    /// In place, but no proof can be had from here; it is left alone.
    Unproved,
    /// Not proved in time, and undone.
    RolledBack,
    /// Someone else keeps undoing it: we have stopped.
    Fighting,
    /// Only people, or their tools, can write the place.
    EmitOnly,
    /// Taken out on request.
    Removed,
}

impl State {
    /// Every state.
    pub const ALL: [State; 11] = [
        State::Detected,
        State::Planned,
        State::Propagating,
        State::Verified,
        State::Conflict,
        State::Refused,
        State::Unproved,
        State::RolledBack,
        State::Fighting,
        State::EmitOnly,
        State::Removed,
    ];

    /// As metrics and messages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Detected => "Detected",
            State::Planned => "Planned",
            State::Propagating => "Propagating",
            State::Verified => "Verified",
            State::Conflict => "Conflict",
            State::Refused => "Refused",
            State::Unproved => "Unproved",
            State::RolledBack => "RolledBack",
            State::Fighting => "Fighting",
            State::EmitOnly => "EmitOnly",
            State::Removed => "Removed",
        }
    }

    /// Nothing more happens by itself.
    pub fn is_final(self) -> bool {
        !matches!(self, State::Detected | State::Planned | State::Propagating)
    }

    /// It works, or there is nothing to do.
    pub fn is_good(self) -> bool {
        matches!(self, State::Verified | State::Removed)
    }
}

/// The whole record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Record {
    /// When `stub-domains remove` asked us to take everything out and stay out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
    /// By the name of the place.
    pub places: BTreeMap<String, Entry>,
}

/// One place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Entry {
    /// Where it stands.
    pub state: State,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Why, in a sentence.
    pub message: String,
    /// What we last wanted there.
    pub zones: Vec<String>,
    /// The servers of the same.
    pub servers: Vec<SocketAddr>,
    /// Zones that are ours if they are still there: of edits before the last.
    pub earlier_zones: BTreeSet<String>,
    /// The same of servers.
    pub earlier_servers: BTreeSet<SocketAddr>,
    /// What was proved there before the last edit: a rollback goes back to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// What is wanted was proved.
    pub proved: bool,
    /// The field before our last edit, for people; left out where it is large.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// The [`fingerprint`] of the field as a rollback left it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
    /// Which of our processes wrote it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// When we wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub written: Option<Timestamp>,
    /// The endpoints that answered anything at all before the edit.
    pub answered: BTreeSet<SocketAddr>,
    /// When others undid it, latest last.
    pub reverts: Vec<Timestamp>,
}

/// Zones and servers of a stub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Previous {
    zones: Vec<String>,
    servers: Vec<SocketAddr>,
}

/// The longest text that is kept for people: a ConfigMap holds 1 MiB in all.
const MAX_BEFORE: usize = 128 * 1024;
/// The longest message.
const MAX_MESSAGE: usize = 2000;

/// Tells one text from another.
pub fn fingerprint(text: Option<&str>) -> String {
    format!("{:016x}", foldhash::quality::FixedState::with_seed(0).hash_one(text))
}

impl Entry {
    /// Whether this was the stub wanted last.
    pub fn wants(&self, stub: &Stub) -> bool {
        let zones: Vec<_> = stub.zones().iter().map(Name::to_string).collect();
        self.zones == zones && self.servers == stub.servers()
    }

    /// From now on this is wanted; what was wanted before may still be found.
    pub fn want(&mut self, stub: &Stub) {
        if self.wants(stub) {
            return;
        }
        self.previous =
            self.proved.then(|| Previous { zones: self.zones.clone(), servers: self.servers.clone() });
        self.proved = false;
        self.earlier_zones.extend(self.zones.drain(..));
        self.earlier_servers.extend(self.servers.drain(..));
        self.zones = stub.zones().iter().map(Name::to_string).collect();
        self.servers = stub.servers().to_vec();
    }

    /// Moves to a state; `since` counts from the first time.
    pub fn enter(&mut self, state: State, message: impl Into<String>, now: Timestamp) {
        if self.state != state || self.since.is_none() {
            self.since = Some(now);
        }
        self.state = state;
        self.message = message.into();
        if let Some((end, _)) = self.message.char_indices().nth(MAX_MESSAGE) {
            self.message.truncate(end);
            self.message.push('…');
        }
    }

    /// What a rollback goes back to; `None`: nothing of ours.
    pub fn stub_before(&self) -> Option<Stub> {
        let Previous { zones, servers } = self.previous.clone()?;
        Stub::new(zones.iter().filter_map(|zone| Name::parse(zone).ok()), servers).ok()
    }

    /// Keeps the text before an edit, if it is not too long.
    pub fn keep(&mut self, before: Option<&str>) {
        self.before = before.filter(|text| text.len() <= MAX_BEFORE).map(str::to_owned);
    }

    /// What there may be ours.
    pub fn ours(&self) -> Ours {
        let names = self.zones.iter().chain(&self.earlier_zones);
        Ours {
            zones: names.filter_map(|zone| Name::parse(zone).ok()).collect(),
            servers: self.servers.iter().chain(&self.earlier_servers).copied().collect(),
        }
    }
}
