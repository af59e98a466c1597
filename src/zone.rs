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
pub mod extra;
mod near;
mod node;
mod owned;
mod pointers;
pub mod reverse;
mod zones;

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::wire::name::{self, Name};
use crate::wire::probe;
use answer::{Answers, AnswersRef, Family};
use extra::Protocol;
use node::{Key, KeyRef, Node};
pub use owned::Ownership;
use pointers::{HostName, Pointers};
pub use pointers::{MOST_POINTING, Pointed, Stale};
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

/// A [`Host`] where the table keeps it: looking at a million of them makes none.
#[derive(Clone, Copy)]
pub struct Kept<'t> {
    zone: &'t Zone,
    octets: &'t [u8],
    wildcard: bool,
}

impl<'t> Kept<'t> {
    /// Its zone.
    pub fn zone(self) -> &'t Zone {
        self.zone
    }

    /// The host.
    pub fn to_host(self) -> Host {
        let name = Name::from_tail([self.octets, self.zone.apex().wire()].concat());
        Host { name, wildcard: self.wildcard }
    }

    /// Puts its text in the place of what is in `out`.
    pub fn write_to(self, out: &mut String) {
        out.clear();
        if self.wildcard {
            out.push_str("*.");
        }
        for label in name::labels(self.octets).chain(name::labels(self.zone.apex().labels_wire())) {
            // Labels are letters, digits, - and _ (H1).
            out.push_str(std::str::from_utf8(label).unwrap_or("?"));
            out.push('.');
        }
        out.pop();
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

/// What a name has beside what [`Found`] says (D22, D23).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Further<'t> {
    /// PTR records; [`Table::pointed`] has them.
    Pointers(IpAddr),
    /// SRV records: services of the host whose name begins at this offset, by what is in front of it.
    Services(AnswersRef<'t>, usize, Protocol),
    /// Nothing of its own, but something lies below it.
    Above,
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
    pointers: Pointers,
    /// Whether a name may have anything beside addresses.
    has_further: AtomicBool,
}

/// A read of the table: what it returns lives as long as it does. Take one per query or batch.
pub struct Reader<'t> {
    zones: &'t Zones,
    generation: &'t AtomicU64,
    pointers: &'t Pointers,
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
            has_further: AtomicBool::new(zones.has_reverse()),
            pointers: Pointers::default(),
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
        Reader {
            zones: &self.zones,
            generation: &self.generation,
            pointers: &self.pointers,
            names: self.names.pin(),
        }
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
        let mut stale = Stale::default();
        self.publish(host, answers, owner, now, &mut stale, |_, _| ());
        self.retire(stale, now);
    }

    /// The same, but PTR records that are true no more stay until [`Table::retire`]: an address that one host gives
    /// another keeps its name all the time. `changes` is told of the answers before and after if they differ.
    pub fn publish(
        &self,
        host: &Host,
        answers: Option<Answers>,
        owner: Owner,
        now: u32,
        stale: &mut Stale,
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
        let points = self.zones.has_reverse() && !host.wildcard;
        let pointing = |answers| self.pointing(answers);
        let pointing = points.then(|| (pointing(had), pointing(answers.as_ref().map(Answers::view))));
        if answers.as_ref().is_some_and(|answers| answers.view().extra().is_some()) {
            self.has_further.store(true, Ordering::Release);
        }
        let ttl = answers.as_ref().map_or(0, |answers| answers.view().ttl());
        self.edit(&lock, key, |node| node.set(host, answers, owner));
        if removed {
            zone.has_removed(host);
        }
        zone.has_changed(now);
        zone.is_worth(after.wrapping_sub(before));
        if let Some((before, after)) = pointing {
            // One for all its rows; none where there are none.
            let name: HostName =
                if before.len() + after.len() > 0 { host.name.wire().into() } else { Arc::default() };
            for address in &after {
                self.point(*address, &name, ttl, now);
            }
            let gone = before.into_iter().filter(|address| !after.contains(address));
            stale.0.extend(gone.map(|address| (address, name.clone())));
        }
        // After this change is visible and before the next one begins: see Reader::judge.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Takes out PTR records that are true no more.
    pub fn retire(&self, stale: Stale, now: u32) {
        for (address, host) in stale.0 {
            if let Some(ttl) = self.pointers.remove(address, &host)
                && let Some(zone) = self.zones.reverse_of(address)
            {
                zone.counts_pointer(false);
                zone.is_worth(digest::of_pointer(address, &host, ttl).wrapping_neg());
                zone.has_changed(now);
            }
        }
    }

    fn point(&self, address: IpAddr, host: &HostName, ttl: u32, now: u32) {
        let Some(zone) = self.zones.reverse_of(address) else { return };
        let before = self.pointers.insert(address, host, ttl);
        if before == Some(ttl) {
            return;
        }
        match before {
            None => zone.counts_pointer(true),
            Some(before) => zone.is_worth(digest::of_pointer(address, host, before).wrapping_neg()),
        }
        zone.is_worth(digest::of_pointer(address, host, ttl));
        zone.has_changed(now);
    }

    /// The addresses that a host's answers give PTR records, each once.
    fn pointing(&self, answers: Option<AnswersRef<'_>>) -> Vec<IpAddr> {
        let mut pointing = Vec::new();
        for address in answers.into_iter().flat_map(|answers| {
            [Family::V4, Family::V6].into_iter().flat_map(move |family| answers.addresses(family))
        }) {
            if pointing.len() == MOST_POINTING {
                break;
            }
            if self.zones.reverse_of(address).is_some() && !pointing.contains(&address) {
                pointing.push(address);
            }
        }
        pointing
    }

    /// Whether a name may have anything beside addresses: nobody needs to look for it else.
    pub fn has_further(&self) -> bool {
        self.has_further.load(Ordering::Acquire)
    }

    /// The PTR records of an address (D22).
    pub fn pointed(&self, address: IpAddr) -> Pointed {
        self.pointers.of(address)
    }

    /// Every address that has PTR records, in order.
    pub fn pointed_addresses(&self) -> Vec<IpAddr> {
        self.pointers.addresses()
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

    /// Whether a host has answers of its own: an exact one not by a wildcard above it.
    pub fn has(&self, host: &Host) -> bool {
        let Some((_, key)) = self.place(host) else { return false };
        self.names.pin().get(&key).is_some_and(|node| node.answers(host).is_some())
    }

    /// Every host with its answers, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(Host, AnswersRef<'_>)) {
        let _ = self.visit(|host, answers| {
            visit(host.to_host(), answers);
            ControlFlow::<()>::Continue(())
        });
    }

    /// Shows every host where it is kept, in no order, until `visit` has seen enough. Holds up nobody, but what is
    /// replaced meanwhile stays in memory until it ends.
    pub fn visit<B>(
        &self,
        mut visit: impl FnMut(Kept<'_>, AnswersRef<'_>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        for (key, node) in self.names.pin().iter() {
            let KeyRef { zone, octets } = key.view();
            let Some(zone) = self.zones.get(usize::from(zone)) else { continue };
            for (answers, wildcard) in [(node.host(), false), (node.wildcard(), true)] {
                if let Some(answers) = answers {
                    visit(Kept { zone, octets, wildcard }, answers)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The answers of exactly this host, if it has any.
    pub fn with_host<T>(&self, host: &Host, read: impl FnOnce(&Zone, AnswersRef<'_>) -> T) -> Option<T> {
        let (zone, key) = self.place(host)?;
        self.names.pin().get(&key).and_then(|node| node.answers(host)).map(|answers| read(zone, answers))
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
            if matches!(found, Found::Host(_)) || self.is_of_now(sighting) {
                return found;
            }
            sighting = self.sight(zone, name, apex_at);
        }
    }

    /// Whether nothing has changed since a sighting.
    pub fn is_of_now(&self, sighting: Sighting<'_>) -> bool {
        self.generation.load(Ordering::Acquire) == sighting.generation
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

    /// What a name has beside what was found (D22, D23).
    #[cold]
    pub fn further(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Option<Further<'_>> {
        if zone.is_reverse() {
            let addresses = reverse::addresses(name)?;
            let whole = addresses.start() == addresses.end();
            return self.pointers.has_any(&addresses).then(|| match whole {
                true => Further::Pointers(*addresses.start()),
                false => Further::Above,
            });
        }
        let first = name::labels(&name[..apex_at]).next()?;
        // The host behind a protocol's label, if it may answer for this name.
        let host_behind = |at: usize| {
            let label = name[..apex_at].get(at..at + Protocol::LABEL)?;
            let protocol = Protocol::BOTH.into_iter().find(|p| p.label()[..] == *label)?;
            let host_at = at + Protocol::LABEL;
            let host = &name[host_at..];
            match self.find(zone, host, apex_at - host_at) {
                Found::Host(answers) if !self.zones.is_cut_off(name, host) => {
                    Some((answers, answers.extra()?, host_at, protocol))
                }
                _ => None,
            }
        };
        let service = || {
            let (answers, extra, host_at, protocol) = host_behind(1 + first.len())?;
            let service = extra.of(first.strip_prefix(b"_")?, protocol).next();
            service.map(|_| Further::Services(answers, host_at, protocol))
        };
        let above = || {
            let (_, extra, _, protocol) = host_behind(0)?;
            extra.services().iter().any(|service| service.protocol == protocol).then_some(Further::Above)
        };
        service().or_else(above)
    }

    /// The offset of the suffix of the wildcard that answers a name which has no answers of its own.
    pub fn answering_wildcard(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Option<usize> {
        if self.sight(zone, name, apex_at).node.is_some_and(|node| node.host().is_some()) {
            return None;
        }
        let key = KeyRef { zone: zone.number(), octets: &name[..apex_at] };
        let suffix = std::iter::successors(key.parent(), |key| key.parent())
            .find(|key| self.names.get(key).is_some_and(|node| node.wildcard().is_some()))?;
        Some(apex_at - suffix.octets.len())
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
