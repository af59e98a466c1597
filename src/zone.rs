//! Zones and the name table: which names exist, and with what.
//!
//! The table is read by every query and written by the index, host by host. Reads take no lock:
//! the map is [`papaya`], and a node is replaced whole, so a query sees a host before or after a
//! change, never between (L3). Ancestors (empty non-terminals, D3) are added before and removed after
//! their children, so no existing name is ever NXDOMAIN on the way.
//!
//! A wildcard `*.suffix` is kept on the node of `suffix`: the most specific wildcard of a name is then
//! the first one met on the way up (H4).
//!
//! # Why papaya
//!
//! Measured by `cargo bench -p globaldns-bench --bench tables`, whose stand-in has this table's shape (one run, two
//! cores, built without link-time optimisation). ns per look-up in batches of 64, of which making the batch is 3 to
//! 5; octets are resident:
//!
//! ```text
//!                             10,000 names                   1,000,000 names
//!                      1 thread  2 threads  a change  1 thread  2 threads  a change  octets a name,
//!                      spread    spread hot           spread    spread hot           900,000 1,000,000
//! dashmap                  24       67  145   0.1 µs      78      126  135   0.3 µs       75       136
//! whole map, arc-swap      13       13   11    78 µs      64       73   12    77 ms       75       136
//! 1,024 shards of it       25       29   24   0.5 µs     101      107   26    20 µs      109       138
//! papaya                   21       23   10   0.2 µs      76       77   13   0.5 µs      101        99
//! papaya, pin for each     27       29   16   0.2 µs      99      121   18   0.5 µs      101        99
//! ```
//!
//! - The whole map is faster to read on spread names (one step less to the entry): 1.6 to 1.7 times with 10,000,
//!   1.1 to 1.2 times with 1,000,000; but of 1,000 changes a second it made 10 with 1,000,000 names, with a second map in memory.
//! - dashmap's changes are the cheapest, and with one thread its spread look-ups are within a fifth of papaya's. Its
//!   locks show with the second: 11 to 15 times papaya's time for a hot name.
//! - A `HashMap` doubles just below 1,000,000 names. Before it does it takes three quarters of papaya's memory.
//! - papaya needs its pin once per batch. Taken for each look-up it is no faster than shards on spread names.
//! - 1,000 changes a second leave all look-ups within a fifth or so, but those of the whole map at 10,000 names,
//!   spread: 13 become 18.

pub mod answer;
mod digest;
mod node;
mod owned;
mod zones;

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::wire::name::{self, Name};
use crate::wire::probe;
use answer::{Answers, AnswersRef};
use node::{Key, KeyRef, Node};
pub use owned::Ownership;
pub use zones::{HOSTMASTER_LABEL, NS_LABELS, SOA_TIMERS, Zone, ZoneError, Zones};

/// A host of a ServiceEntry: a name, or every name below one (`*.suffix`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host {
    /// The name itself, or the suffix of a wildcard.
    pub name: Name,
    /// True for `*.name`.
    pub wildcard: bool,
}

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.wildcard {
            f.write_str("*.")?;
        }
        self.name.fmt(f)
    }
}

/// What the table knows about a name in one of our zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found<'t> {
    /// A host, or a name a wildcard matches.
    Host(AnswersRef<'t>),
    /// It exists without addresses: empty non-terminal or infrastructure (D3, D5).
    Empty,
    /// A probe of its zone (D18).
    Probe,
    /// It does not exist.
    Missing,
}

/// A number the caller keeps with a host that has answers: who it is from. None of the table's business.
pub type Owner = Option<NonZeroU32>;

/// The zones and every name in them.
pub struct Table {
    zones: Zones,
    names: papaya::HashMap<Key, Node, RandomState>,
    writer: Mutex<()>,
    complete: AtomicBool,
    generation: AtomicU64,
}

/// A read of the table: what it returns lives as long as it does. Take one per query or batch.
pub struct Reader<'t> {
    zones: &'t Zones,
    generation: &'t AtomicU64,
    names: papaya::HashMapRef<'t, Key, Node, RandomState, papaya::LocalGuard<'t>>,
}

/// A name's node, and how many changes there had been when it was fetched.
#[derive(Clone, Copy)]
pub struct Sighting<'r> {
    node: Option<&'r Node>,
    generation: u64,
}

impl Table {
    /// A table that holds the infrastructure of its zones and no host yet.
    pub fn new(zones: Zones) -> Table {
        let table = Table {
            zones,
            names: papaya::HashMap::with_hasher(RandomState::default()),
            writer: Mutex::new(()),
            complete: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        };
        let lock = table.lock();
        for zone in table.zones.iter() {
            for octets in [&[], &NS_LABELS[3..], &NS_LABELS] {
                table.edit(&lock, KeyRef { zone: zone.number(), octets }, Node::set_fixed);
            }
            // Z3: a delegated child keeps the names between it and the parent's apex alive.
            if let Some(parent) = table.zones.parent(zone)
                && let Some(up) = name::parent(zone.apex().wire())
                && up != parent.apex().wire()
            {
                let octets = &up[..up.len() - parent.apex().wire().len()];
                table.edit(&lock, KeyRef { zone: parent.number(), octets }, Node::set_delegation);
            }
        }
        drop(lock);
        table
    }

    /// The zones.
    pub fn zones(&self) -> &Zones {
        &self.zones
    }

    /// Begins a read.
    pub fn read(&self) -> Reader<'_> {
        Reader { zones: &self.zones, generation: &self.generation, names: self.names.pin() }
    }

    /// Every source has delivered a complete list: from now on a missing name is NXDOMAIN (D9).
    pub fn set_complete(&self) {
        self.complete.store(true, Ordering::Release);
    }

    /// Whether [`Table::set_complete`] was called.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Grows with every visible change.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Sets or removes a host's answers and their owner. `now` (Unix seconds) moves the zone's serial if anything
    /// visible changed (D6). Hosts outside every zone and infrastructure names are not the caller's to set.
    pub fn set(&self, host: &Host, answers: Option<Answers>, owner: Owner, now: u32) {
        self.replace(host, answers, owner, now, |_, _| ());
    }

    /// The same; `changes` is told of the answers before and after if they differ.
    pub fn replace(
        &self,
        host: &Host,
        answers: Option<Answers>,
        owner: Owner,
        now: u32,
        changes: impl FnOnce(Option<AnswersRef<'_>>, Option<&Answers>),
    ) {
        let Some((zone, key)) = self.place(host) else { return };
        let lock = self.lock();
        let names = self.names.pin();
        let node = names.get(&key);
        let had = node.and_then(|node| node.answers(host));
        if had == answers.as_ref().map(Answers::view) {
            if had.is_some() && node.is_some_and(|node| node.owner(host) != owner) {
                self.edit(&lock, key, |node| node.set(host, answers, owner));
            }
            return;
        }
        changes(had, answers.as_ref());
        let (added, removed) = (answers.is_some() && had.is_none(), answers.is_none());
        let digest = |answers| digest::of(host, key.octets, answers);
        let before = had.map_or(0, digest);
        let after = answers.as_ref().map_or(0, |answers| digest(answers.view()));
        if added {
            zone.adds(host);
        }
        self.edit(&lock, key, |node| node.set(host, answers, owner));
        if removed {
            zone.has_removed(host);
        }
        zone.has_changed(now);
        zone.is_worth(after.wrapping_sub(before));
        // After this change is visible and before the next one begins: see Reader::judge.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Makes room for `hosts` in all. Otherwise the map doubles again and again on the way, and what it has grown
    /// out of stays a hole in memory.
    pub fn expect(&self, hosts: usize) {
        let names = self.names.pin();
        if let Some(more) = hosts.checked_sub(names.len()) {
            names.reserve(more);
        }
    }

    /// The owner of a host, if it has answers.
    pub fn owner(&self, host: &Host) -> Owner {
        let (_, key) = self.place(host)?;
        self.names.pin().get(&key)?.owner(host)
    }

    /// Something outside the table that every zone shows has changed (D5, D6).
    pub fn touch_serials(&self, now: u32) {
        for zone in self.zones.iter() {
            zone.has_changed(now);
        }
    }

    /// A zone's serial never goes below this one, which it had before a restart (D6).
    pub fn keep_serial(&self, apex: &Name, serial: u32) {
        if let Some(zone) = self.zones.iter().find(|zone| zone.apex() == apex) {
            zone.has_changed(serial);
        }
    }

    /// Every host with its answers, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(Host, AnswersRef<'_>)) {
        for (key, node) in self.names.pin().iter() {
            let KeyRef { zone, octets } = key.view();
            let Some(zone) = self.zones.get(usize::from(zone)) else { continue };
            for (answers, wildcard) in [(node.host(), false), (node.wildcard(), true)] {
                if let Some(answers) = answers {
                    let name = Name::from_tail([octets, zone.apex().wire()].concat());
                    visit(Host { name, wildcard }, answers);
                }
            }
        }
    }

    /// The zone of a host and the key of its node.
    fn place<'h>(&self, host: &'h Host) -> Option<(&Zone, KeyRef<'h>)> {
        let name = host.name.wire();
        let (zone, apex_at) = self.zones.covering(name)?;
        Some((zone, KeyRef { zone: zone.number(), octets: &name[..apex_at] }))
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // The guarded value is (): a panicked writer leaves nothing half-done in it.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces one node by an edited copy, adding missing ancestors first, and removes it and the
    /// ancestors it alone kept afterwards.
    fn edit(&self, _writer: &MutexGuard<'_, ()>, key: KeyRef<'_>, change: impl FnOnce(&mut Node)) {
        let names = self.names.pin();
        let old = names.get(&key);
        let mut node = old.map(Node::copy).unwrap_or_default();
        change(&mut node);
        if old.is_none() && !node.is_needed() {
            return;
        }
        if old.is_none()
            && let Some(up) = key.parent()
        {
            self.grow(up);
        }
        if node.is_needed() {
            names.insert(key.to_key(), node);
        } else {
            names.remove(&key);
            self.shrink(key);
        }
    }

    /// Counts one more child at `key`, which is created (and its ancestors before it) if missing.
    fn grow(&self, key: KeyRef<'_>) {
        let names = self.names.pin();
        if let Some(node) = names.get(&key) {
            node.children.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(up) = key.parent() {
            self.grow(up);
        }
        names.insert(key.to_key(), Node::above(1));
    }

    /// Counts one child less above the removed `key`, and removes what is no longer needed.
    fn shrink(&self, key: KeyRef<'_>) {
        let names = self.names.pin();
        let mut removed = key;
        while let Some(up) = removed.parent() {
            let Some(node) = names.get(&up) else { return };
            node.children.fetch_sub(1, Ordering::Relaxed);
            if node.is_needed() {
                return;
            }
            names.remove(&up);
            removed = up;
        }
    }
}

impl Reader<'_> {
    /// Looks up a lower-case wire name whose covering zone has its apex at offset `apex_at`.
    pub fn find(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Found<'_> {
        self.judge(self.sight(zone, name, apex_at), zone, name, apex_at)
    }

    /// The first half of a look-up: fetches the name's node, which in a large table is nowhere near the processor. Done
    /// for many names in a row, the processor fetches several at a time.
    pub fn sight(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Sighting<'_> {
        let generation = self.generation.load(Ordering::Acquire);
        Sighting {
            node: self.names.get(&KeyRef { zone: zone.number(), octets: &name[..apex_at] }),
            generation,
        }
    }

    /// The second half.
    ///
    /// The name and the wildcards above it are separate reads. When a host changes hands between them (an exact
    /// host comes, its wildcard goes), both reads may miss; so without an answer, a change meanwhile means
    /// looking again (L3).
    pub fn judge<'r>(
        &'r self,
        sighting: Sighting<'r>,
        zone: &Zone,
        name: &[u8],
        apex_at: usize,
    ) -> Found<'r> {
        let mut sighting = sighting;
        loop {
            let found = self.judge_once(sighting.node, zone, name, apex_at);
            if matches!(found, Found::Host(_))
                || self.generation.load(Ordering::Acquire) == sighting.generation
            {
                return found;
            }
            sighting = self.sight(zone, name, apex_at);
        }
    }

    fn judge_once<'r>(
        &'r self,
        node: Option<&'r Node>,
        zone: &Zone,
        name: &[u8],
        apex_at: usize,
    ) -> Found<'r> {
        if let Some(node) = node {
            if let Some(answers) = node.host() {
                return Found::Host(answers);
            }
            if node.is_fixed() {
                return Found::Empty;
            }
        }
        // No entry can take it, so only a name without a host of its own can be one; and no wildcard captures it.
        if probe::is_probe(&name[..apex_at]) {
            return Found::Probe;
        }
        if let Some(answers) = self.wildcard(zone, name, apex_at) {
            return Found::Host(answers);
        }
        if node.is_some() { Found::Empty } else { Found::Missing }
    }

    /// The most specific wildcard above a name, unless the name is guarded (H4, H6, O6). Not for the apex itself,
    /// which is infrastructure.
    fn wildcard(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Option<AnswersRef<'_>> {
        if !zone.has_wildcards() {
            return None;
        }
        let key = KeyRef { zone: zone.number(), octets: &name[..apex_at] };
        let mut above = std::iter::successors(key.parent(), |key| key.parent());
        let (suffix, answers) =
            above.find_map(|key| Some((key.octets, self.names.get(&key)?.wildcard()?)))?;
        let suffix = &name[apex_at - suffix.len()..];
        let guarded =
            self.zones.is_search_path_product(&name[..apex_at]) || self.zones.is_cut_off(name, suffix);
        (!guarded).then_some(answers)
    }
}

#[cfg(test)]
mod tests;
