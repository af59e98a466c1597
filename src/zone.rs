//! Zones and the name table: which names exist, and with what.
//!
//! The table is read by every query and written by the index, host by host. Reads take no lock:
//! the map is [`papaya`], and a node is replaced whole, so a query sees a host before or after a
//! change, never between (L3). Ancestors (empty non-terminals, D3) are added before and removed after
//! their children, so no existing name is ever NXDOMAIN on the way.
//!
//! A wildcard `*.suffix` is kept on the node of `suffix`: the most specific wildcard of a name is then
//! the first one met on the way up (H4).

pub mod answer;
mod zones;

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::wire::name::{self, Name};
use answer::Answers;
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
    Host(&'t Answers),
    /// It exists without addresses: empty non-terminal or infrastructure (D3, D5).
    Empty,
    /// It does not exist.
    Missing,
}

#[derive(Debug, Default)]
struct Node {
    host: Option<Arc<Answers>>,
    wildcard: Option<Arc<Answers>>,
    /// Nodes one label down. Written under [`Table::writer`] only.
    children: AtomicU32,
    /// Apex, `dns.<zone>` or `ns.dns.<zone>`: always there, never matched by a wildcard (D5).
    fixed: bool,
    /// What keeps the way to a nested zone in existence (Z3).
    delegation: bool,
}

impl Node {
    fn is_needed(&self) -> bool {
        self.host.is_some()
            || self.wildcard.is_some()
            || self.fixed
            || self.delegation
            || self.children.load(Ordering::Relaxed) > 0
    }

    fn copy(&self) -> Node {
        Node {
            host: self.host.clone(),
            wildcard: self.wildcard.clone(),
            children: AtomicU32::new(self.children.load(Ordering::Relaxed)),
            fixed: self.fixed,
            delegation: self.delegation,
        }
    }
}

/// The zones and every name in them.
#[derive(Debug)]
pub struct Table {
    zones: Zones,
    names: papaya::HashMap<Name, Node, RandomState>,
    writer: Mutex<()>,
    complete: AtomicBool,
    generation: AtomicU64,
}

/// A read of the table: what it returns lives as long as it does. Take one per query or batch.
pub struct Reader<'t> {
    zones: &'t Zones,
    generation: &'t AtomicU64,
    names: papaya::HashMapRef<'t, Name, Node, RandomState, papaya::LocalGuard<'t>>,
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
        for zone in table.zones.iter() {
            for fixed in [zone.apex().clone(), zone.dns_name(), zone.ns_name()] {
                let lock = table.lock();
                table.edit(&lock, &fixed, |node| node.fixed = true);
            }
            // Z3: a delegated child keeps the names between it and the parent's apex alive.
            if let Some(parent) = table.zones.parent(zone)
                && let Some(up) = name::parent(zone.apex().wire())
                && up != parent.apex().wire()
            {
                let lock = table.lock();
                table.edit(&lock, &Name::from_tail(up), |node| node.delegation = true);
            }
        }
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

    /// Sets or removes a host's answers. `now` (Unix seconds) moves the zone's serial if anything
    /// changed (D6). Hosts outside every zone and infrastructure names are not the caller's to set.
    pub fn set(&self, host: &Host, answers: Option<Answers>, now: u32) {
        let Some((zone, _)) = self.zones.covering(host.name.wire()) else {
            return;
        };
        let lock = self.lock();
        let had = self.names.pin().get(&host.name).and_then(|node| node.slot(host).clone());
        if had.as_deref() == answers.as_ref() {
            return;
        }
        let (added, removed) = (answers.is_some() && had.is_none(), answers.is_none());
        let answers = answers.map(Arc::new);
        if added {
            zone.adds(host);
        }
        self.edit(&lock, &host.name, |node| *node.slot_mut(host) = answers);
        if removed {
            zone.has_removed(host);
        }
        zone.has_changed(now);
        // After this change is visible and before the next one begins: see Reader::find.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Something outside the table that every zone shows has changed (D5, D6).
    pub fn touch_serials(&self, now: u32) {
        for zone in self.zones.iter() {
            zone.has_changed(now);
        }
    }

    /// Every host with its answers, in no order.
    pub fn for_each(&self, mut visit: impl FnMut(Host, &Answers)) {
        for (name, node) in self.names.pin().iter() {
            for (slot, wildcard) in [(&node.host, false), (&node.wildcard, true)] {
                if let Some(answers) = slot {
                    visit(Host { name: name.clone(), wildcard }, answers);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        // The guarded value is (): a panicked writer leaves nothing half-done in it.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces one node by an edited copy, adding missing ancestors first, and removes it and the
    /// ancestors it alone kept afterwards.
    fn edit(&self, _writer: &MutexGuard<'_, ()>, name: &Name, change: impl FnOnce(&mut Node)) {
        let names = self.names.pin();
        let mut node = names.get(name).map(Node::copy).unwrap_or_default();
        let was = names.contains_key(name);
        change(&mut node);
        if !was && !node.is_needed() {
            return;
        }
        if !was && let Some(up) = self.parent_in_zone(name) {
            self.grow(&up);
        }
        if node.is_needed() {
            names.insert(name.clone(), node);
        } else {
            names.remove(name);
            self.shrink(name);
        }
    }

    /// Counts one more child at `name`, which is created (and its ancestors before it) if missing.
    fn grow(&self, name: &Name) {
        let names = self.names.pin();
        if let Some(node) = names.get(name) {
            node.children.fetch_add(1, Ordering::Relaxed);
            return;
        }
        if let Some(up) = self.parent_in_zone(name) {
            self.grow(&up);
        }
        names.insert(name.clone(), Node { children: AtomicU32::new(1), ..Node::default() });
    }

    /// Counts one child less above the removed `name`, and removes what is no longer needed.
    fn shrink(&self, name: &Name) {
        let names = self.names.pin();
        let mut removed = name.clone();
        while let Some(up) = self.parent_in_zone(&removed) {
            let Some(node) = names.get(&up) else { return };
            node.children.fetch_sub(1, Ordering::Relaxed);
            if node.is_needed() {
                return;
            }
            names.remove(&up);
            removed = up;
        }
    }

    /// The name one label up, if it is still in the same zone.
    fn parent_in_zone(&self, name: &Name) -> Option<Name> {
        let (_, apex_at) = self.zones.covering(name.wire())?;
        (apex_at > 0).then(|| name::parent(name.wire()).map(Name::from_tail)).flatten()
    }
}

impl Node {
    fn slot(&self, host: &Host) -> &Option<Arc<Answers>> {
        if host.wildcard { &self.wildcard } else { &self.host }
    }

    fn slot_mut(&mut self, host: &Host) -> &mut Option<Arc<Answers>> {
        if host.wildcard { &mut self.wildcard } else { &mut self.host }
    }
}

impl Reader<'_> {
    /// Looks up a lower-case wire name whose covering zone has its apex at offset `apex_at`.
    ///
    /// The name and the wildcards above it are separate reads. When a host changes hands between them (an exact
    /// host comes, its wildcard goes), both reads may miss; so without an answer, a change meanwhile means
    /// looking again (L3).
    pub fn find(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Found<'_> {
        loop {
            let before = self.generation.load(Ordering::Acquire);
            let found = self.find_once(zone, name, apex_at);
            if matches!(found, Found::Host(_)) || self.generation.load(Ordering::Acquire) == before {
                return found;
            }
        }
    }

    fn find_once(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Found<'_> {
        let node = self.names.get(name);
        if let Some(node) = node {
            if let Some(answers) = &node.host {
                return Found::Host(answers);
            }
            if node.fixed {
                return Found::Empty;
            }
        }
        if let Some(answers) = self.wildcard(zone, name, apex_at) {
            return Found::Host(answers);
        }
        if node.is_some() { Found::Empty } else { Found::Missing }
    }

    /// The most specific wildcard above a name, unless the name is guarded (H4, H6). Not for the apex itself,
    /// which is infrastructure.
    fn wildcard(&self, zone: &Zone, name: &[u8], apex_at: usize) -> Option<&Answers> {
        if !zone.has_wildcards() {
            return None;
        }
        let answers = name::offsets(&name[..apex_at])
            .skip(1)
            .chain([apex_at])
            .find_map(|at| self.names.get(&name[at..])?.wildcard.as_deref())?;
        (!self.zones.is_search_path_product(&name[..apex_at])).then_some(answers)
    }
}

#[cfg(test)]
mod tests;
