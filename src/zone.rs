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

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use crate::wire::name::{self, Name};
use answer::Answers;

/// The labels of `ns.dns` in front of a zone: its name server (D5).
pub const NS_LABELS: &[u8] = b"\x02ns\x03dns";
/// The label in front of a zone in the mailbox of its SOA (D5).
pub const HOSTMASTER_LABEL: &[u8] = b"\x0ahostmaster";
/// REFRESH, RETRY and EXPIRE of the SOA, seconds (D5).
pub const SOA_TIMERS: [u32; 3] = [7200, 1800, 86400];

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

/// One zone we are authoritative for.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    /// Position in [`Zones::iter`], for dense counters.
    index: usize,
    parent: Option<usize>,
    serial: AtomicU32,
    hosts: AtomicUsize,
    wildcards: AtomicUsize,
}

impl Zone {
    /// The zone's name.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// Position among the zones, `0..`.
    pub fn index(&self) -> usize {
        self.index
    }

    /// SOA serial (D6).
    pub fn serial(&self) -> u32 {
        self.serial.load(Ordering::Relaxed)
    }

    /// Hosts with answers, wildcards included.
    pub fn hosts(&self) -> usize {
        self.hosts.load(Ordering::Relaxed)
    }

    /// `dns.<zone>`.
    pub fn dns_name(&self) -> Name {
        self.apex.prepend("dns")
    }

    /// `ns.dns.<zone>`, the zone's name server.
    pub fn ns_name(&self) -> Name {
        self.dns_name().prepend("ns")
    }
}

/// The zones of this server and the names no wildcard may capture. Fixed for the life of the process.
#[derive(Debug)]
pub struct Zones {
    zones: Vec<Zone>,
    by_apex: HashMap<Name, usize, RandomState>,
    most_labels: usize,
    cluster_domain: Name,
}

/// Why a list of zones is refused (Z2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// No zone at all.
    #[error("no zone is given; name at least one, for example --zone global")]
    None,
    /// The cluster domain itself.
    #[error(
        "zone {0:?} is the cluster domain, which the cluster DNS serves; choose another name, or set --cluster-domain if this is not the cluster's domain"
    )]
    ClusterDomain(String),
    /// A parent of the cluster domain: its names would be hijacked.
    #[error(
        "zone {0:?} is a parent of the cluster domain {1:?} and would capture every name of it; choose another name"
    )]
    AboveCluster(String, String),
    /// No room for the names of its SOA.
    #[error("zone {0:?} is too long: hostmaster.<zone> must fit 255 octets; choose a shorter name")]
    TooLong(String),
    /// The zone would take the name of another's name server.
    #[error("zone {0:?} is the name of the name server of zone {1:?}; choose another name")]
    NameServer(String, String),
    /// A child of the cluster domain.
    #[error(
        "zone {0:?} lies inside the cluster domain {1:?}, which the cluster DNS serves; choose another name"
    )]
    BelowCluster(String, String),
}

impl Zones {
    /// Zones from names; a repeated name is one zone. `now` becomes the first serial (Unix seconds).
    pub fn new(names: Vec<Name>, cluster_domain: Name, now: u32) -> Result<Zones, ZoneError> {
        let mut apexes: Vec<Name> = Vec::new();
        for apex in names {
            let text = apex.to_string();
            if apex == cluster_domain {
                return Err(ZoneError::ClusterDomain(text));
            } else if apex.covers(&cluster_domain) {
                return Err(ZoneError::AboveCluster(text, cluster_domain.to_string()));
            } else if cluster_domain.covers(&apex) {
                return Err(ZoneError::BelowCluster(text, cluster_domain.to_string()));
            }
            if apex.wire().len() + HOSTMASTER_LABEL.len() > name::MAX_WIRE {
                return Err(ZoneError::TooLong(text));
            }
            if !apexes.contains(&apex) {
                apexes.push(apex);
            }
        }
        if apexes.is_empty() {
            return Err(ZoneError::None);
        }
        for zone in &apexes {
            let dns = zone.prepend("dns");
            if let Some(taken) = apexes.iter().find(|apex| **apex == dns || **apex == dns.prepend("ns")) {
                return Err(ZoneError::NameServer(taken.to_string(), zone.to_string()));
            }
        }
        let by_apex: HashMap<Name, usize, RandomState> =
            apexes.iter().cloned().enumerate().map(|(i, apex)| (apex, i)).collect();
        let zones = apexes
            .iter()
            .enumerate()
            .map(|(index, apex)| Zone {
                apex: apex.clone(),
                index,
                parent: std::iter::successors(name::parent(apex.wire()), |up| name::parent(up))
                    .find_map(|up| by_apex.get(up).copied()),
                serial: AtomicU32::new(now),
                hosts: AtomicUsize::new(0),
                wildcards: AtomicUsize::new(0),
            })
            .collect();
        let most_labels =
            apexes.iter().map(|apex| name::offsets(apex.labels_wire()).count()).max().unwrap_or(0);
        Ok(Zones { zones, by_apex, most_labels, cluster_domain })
    }

    /// In the order they were configured.
    pub fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// How many zones there are: at least one.
    pub fn count(&self) -> usize {
        self.zones.len()
    }

    /// The longest zone a lower-case wire name ends in (Z3), and the offset of its apex in the name.
    pub fn covering(&self, name: &[u8]) -> Option<(&Zone, usize)> {
        let run = name.get(..name.len().checked_sub(1)?)?;
        let skip = name::offsets(run).count().saturating_sub(self.most_labels);
        name::offsets(run)
            .skip(skip)
            .find_map(|at| self.by_apex.get(&name[at..]).map(|i| (&self.zones[*i], at)))
    }

    /// The zone above a nested one, if it is ours too.
    pub fn parent(&self, zone: &Zone) -> Option<&Zone> {
        zone.parent.map(|i| &self.zones[i])
    }

    /// The zones whose next zone up is `zone`.
    pub fn children<'a>(&'a self, zone: &'a Zone) -> impl Iterator<Item = &'a Zone> {
        self.zones.iter().filter(move |child| child.parent == Some(zone.index))
    }

    /// H6: is this what a resolver's search path makes of another name? `relative` is a name's part
    /// before the zone, as a run of labels.
    fn is_search_path_product(&self, relative: &[u8]) -> bool {
        let cluster = self.cluster_domain.labels_wire();
        name::ends_in(relative, cluster)
            || self.zones.iter().any(|zone| name::ends_in(relative, zone.apex.labels_wire()))
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
            for fixed in [zone.apex.clone(), zone.dns_name(), zone.ns_name()] {
                let lock = table.lock();
                table.edit(&lock, &fixed, |node| node.fixed = true);
            }
            // Z3: a delegated child keeps the names between it and the parent's apex alive.
            if let Some(parent) = table.zones.parent(zone)
                && let Some(up) = name::parent(zone.apex.wire())
                && up != parent.apex.wire()
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
            // Counted before it is visible: a reader that sees the count at zero skips wildcards.
            zone.hosts.fetch_add(1, Ordering::Relaxed);
            if host.wildcard {
                zone.wildcards.fetch_add(1, Ordering::Release);
            }
        }
        self.edit(&lock, &host.name, |node| *node.slot_mut(host) = answers);
        if removed {
            zone.hosts.fetch_sub(1, Ordering::Relaxed);
            if host.wildcard {
                zone.wildcards.fetch_sub(1, Ordering::Release);
            }
        }
        zone.serial.fetch_max(now, Ordering::Relaxed);
        // After this change is visible and before the next one begins: see Reader::find.
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Something outside the table that every zone shows has changed (D5, D6).
    pub fn touch_serials(&self, now: u32) {
        for zone in self.zones.iter() {
            zone.serial.fetch_max(now, Ordering::Relaxed);
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
        if zone.wildcards.load(Ordering::Acquire) == 0 {
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
