//! Live entries of every source → who owns each host, and with which addresses (chapter O, A3).
//!
//! Synchronous: sources call [`Index::apply`], [`Index::delete`] and [`Index::reset`]; every change is
//! broken down into changes of hosts, and a host's answers are recomputed from all its live claims each
//! time, so they depend on the set of entries and never on the order of events (O2).
//!
//! Claims live in a `dashmap` by host. Recomputing and publishing a host happens under its shard's lock,
//! which makes it atomic against other sources; the table it publishes to never calls back.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering as AtomicOrdering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use foldhash::fast::RandomState;

use crate::entry::{Claim, Entry, EntryId};
use crate::finding::{Code, Finding};
use crate::zone::answer::Answers;
use crate::zone::{Host, Table};

/// One source of entries (the files, the cluster, one namespace of it): its entries are replaced together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(pub usize);

/// The settings that decide who owns a host.
#[derive(Clone, Debug)]
pub struct Policy {
    /// `--prefer-namespace`, most preferred first (O1).
    pub prefer_namespaces: Vec<String>,
    /// `--default-address`, at most one per family (A3).
    pub default_addresses: Vec<IpAddr>,
    /// `--ttl` in seconds (D2).
    pub ttl: u32,
}

/// A clock for serials: Unix seconds.
pub type Clock = fn() -> u32;

/// The index. Share it by reference; every method takes `&self`.
pub struct Index {
    policy: Policy,
    table: Arc<Table>,
    clock: Clock,
    hosts: DashMap<Host, Vec<Claimant>, RandomState>,
    partitions: Mutex<HashMap<Partition, PartitionState>>,
    version: AtomicU64,
}

#[derive(Default)]
struct PartitionState {
    entries: HashMap<EntryId, Arc<Entry>, RandomState>,
    /// Those of `entries` that have findings: usually few, so that they are copied under the lock quickly.
    flawed: HashMap<EntryId, Arc<Entry>, RandomState>,
    /// Findings of the source itself.
    findings: Vec<Finding>,
}

/// The shards of the map of claims. A shard is locked while findings are made of it and an event may wait for
/// it (L7), so shards are many and small.
const SHARDS: usize = 1024;

/// One entry's claim to a host.
#[derive(Clone)]
struct Claimant {
    entry: Arc<Entry>,
    claim: usize,
}

impl Claimant {
    fn claim(&self) -> &Claim {
        &self.entry.claims[self.claim]
    }

    fn has_addresses(&self) -> bool {
        !self.claim().addresses.is_empty()
    }
}

/// What happens to one host's claims: out with the old version of an entry, in with the new one.
struct Change {
    host: Host,
    remove: Option<Arc<Entry>>,
    add: Option<Claimant>,
}

impl Index {
    /// An empty index that publishes to `table`.
    pub fn new(policy: Policy, table: Arc<Table>, clock: Clock) -> Index {
        Index {
            policy,
            table,
            clock,
            hosts: DashMap::with_hasher_and_shard_amount(RandomState::default(), SHARDS),
            partitions: Mutex::new(HashMap::new()),
            version: AtomicU64::new(0),
        }
    }

    /// The table this index publishes to.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// An entry is new or has changed.
    pub fn apply(&self, partition: Partition, entry: Entry) {
        self.update(partition, vec![entry], &[]);
    }

    /// An entry is gone. Honoured for entries that never could be read, too (S6).
    pub fn delete(&self, partition: Partition, id: &EntryId) {
        self.update(partition, Vec::new(), std::slice::from_ref(id));
    }

    /// Some entries are new or changed and others are gone, all at once: a host that moves from one to
    /// another is never missing meanwhile.
    pub fn update(&self, partition: Partition, entries: Vec<Entry>, gone: &[EntryId]) {
        let mut partitions = self.lock();
        let state = partitions.entry(partition).or_default();
        let mut changes = Vec::new();
        let mut changed = false;
        for entry in entries {
            changed |= state.replace(entry, &mut changes);
        }
        for old in gone.iter().filter_map(|id| state.remove(id)) {
            changes.extend(removals(&old));
            changed = true;
        }
        self.commit(changes);
        if changed {
            self.version.fetch_add(1, AtomicOrdering::Relaxed);
        }
    }

    /// These are all entries of a partition: whatever is not among them is gone (L3).
    pub fn reset(&self, partition: Partition, entries: Vec<Entry>) {
        let listed: HashSet<&EntryId> = entries.iter().map(|entry| &entry.id).collect();
        let gone: Vec<EntryId> = match self.lock().get(&partition) {
            Some(state) => state.entries.keys().filter(|id| !listed.contains(id)).cloned().collect(),
            None => Vec::new(),
        };
        self.update(partition, entries, &gone);
    }

    /// Replaces the findings of a source itself: an unreadable file, an absent CRD.
    pub fn set_source_findings(&self, partition: Partition, findings: Vec<Finding>) {
        self.lock().entry(partition).or_default().findings = findings;
        self.version.fetch_add(1, AtomicOrdering::Relaxed);
    }

    /// Grows with every call that may change findings.
    pub fn version(&self) -> u64 {
        self.version.load(AtomicOrdering::Relaxed)
    }

    /// How many entries a partition holds.
    pub fn entries(&self, partition: Partition) -> usize {
        self.lock().get(&partition).map_or(0, |state| state.entries.len())
    }

    /// The entries that own a host, best first; empty if none gives it an address.
    pub fn owners(&self, host: &Host) -> Vec<EntryId> {
        let Some(claimants) = self.hosts.get(host) else { return Vec::new() };
        winners(&self.policy, &claimants).iter().map(|w| w.entry.id.clone()).collect()
    }

    /// Every finding: those of the entries, of the sources, and those that only all entries together
    /// show (A7, O3, O4). Computed on call, in an order that depends on the set alone.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = BTreeSet::new();
        // Copied out first: a source that has an event must not wait for the texts.
        let mut flawed = Vec::new();
        for state in self.lock().values() {
            findings.extend(state.findings.iter().cloned());
            flawed.extend(state.flawed.values().cloned());
        }
        findings.extend(flawed.iter().flat_map(|entry| entry.findings()));
        let mut by_address: HashMap<IpAddr, Vec<(Host, Arc<Entry>)>, RandomState> = HashMap::default();
        for item in &self.hosts {
            let claimants = item.value();
            let winners = winners(&self.policy, claimants);
            for claimant in claimants {
                if !claimant.has_addresses() {
                    findings.extend(self.no_address(claimant, winners.is_empty()));
                } else if let Some(winner) = winners.first()
                    && !winners.iter().any(|w| Arc::ptr_eq(&w.entry, &claimant.entry))
                {
                    findings.insert(claim_lost(claimant, winner));
                }
                for address in claimant.claim().addresses.iter() {
                    let uses = by_address.entry(*address).or_default();
                    uses.push((item.key().clone(), claimant.entry.clone()));
                }
            }
        }
        for (address, uses) in by_address {
            findings.extend(shared_address(address, uses));
        }
        findings.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Partition, PartitionState>> {
        self.partitions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Applies changes host by host: first everything that ends with an answer, then the removals, so
    /// that a name kept alive by another host of the same batch never blinks (L3, D3).
    fn commit(&self, mut changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        changes.sort_by(|a, b| a.host.cmp(&b.host));
        let now = (self.clock)();
        let mut gone = Vec::new();
        for group in changes.chunk_by_mut(|a, b| a.host == b.host) {
            let host = group[0].host.clone();
            let mut claimants = self.hosts.entry(host.clone()).or_default();
            for change in group {
                if let Some(old) = &change.remove {
                    claimants.retain(|c| !Arc::ptr_eq(&c.entry, old));
                }
                if let Some(new) = change.add.take() {
                    let at = claimants.partition_point(|c| c.entry.rank(&new.entry) == Ordering::Less);
                    claimants.insert(at, new);
                }
            }
            claimants.shrink_to_fit();
            match answers(&self.policy, &claimants) {
                Some(answers) => self.table.set(&host, Some(answers), now),
                None => gone.push(host.clone()),
            }
            let empty = claimants.is_empty();
            drop(claimants);
            if empty {
                self.hosts.remove_if(&host, |_, claimants| claimants.is_empty());
            }
        }
        for host in gone {
            // Asked again under the lock: another source may have claimed the host meanwhile.
            let claimants = self.hosts.get(&host);
            let answers = claimants.as_deref().and_then(|c| answers(&self.policy, c));
            self.table.set(&host, answers, now);
        }
    }

    /// A7, unless the default address or another entry serves the host.
    fn no_address(&self, claimant: &Claimant, nobody_has: bool) -> Option<Finding> {
        let entry = &claimant.entry;
        let defaults = !self.policy.default_addresses.is_empty();
        if nobody_has && defaults && !entry.resolution_none {
            return None;
        }
        let why = if nobody_has {
            "the host has no address, so it does not exist in DNS"
        } else {
            "this entry gives the host no address; another entry answers it"
        };
        let remedy = if entry.resolution_none {
            "list addresses in spec.addresses (with resolution NONE neither automatic allocation nor --default-address applies)"
        } else {
            "list addresses in spec.addresses, let istiod allocate them (status.addresses), or set --default-address"
        };
        Some(Finding::new(
            Code::HostNoAddress,
            entry.id.to_string(),
            format!("spec.hosts[{}]", claimant.claim().field),
            &claimant.claim().host.to_string(),
            why,
            remedy,
        ))
    }
}

impl PartitionState {
    /// Puts an entry in and notes what that changes. False for an entry that is there already.
    fn replace(&mut self, entry: Entry, changes: &mut Vec<Change>) -> bool {
        if self.entries.get(&entry.id).is_some_and(|old| **old == entry) {
            return false;
        }
        let new = Arc::new(entry);
        changes.extend(self.remove(&new.id).iter().flat_map(removals));
        changes.extend(new.claims.iter().enumerate().map(|(claim, c)| Change {
            host: c.host.clone(),
            remove: None,
            add: Some(Claimant { entry: new.clone(), claim }),
        }));
        if new.has_findings() {
            self.flawed.insert(new.id.clone(), new.clone());
        }
        self.entries.insert(new.id.clone(), new);
        true
    }

    fn remove(&mut self, id: &EntryId) -> Option<Arc<Entry>> {
        self.flawed.remove(id);
        self.entries.remove(id)
    }
}

fn removals(entry: &Arc<Entry>) -> impl Iterator<Item = Change> + '_ {
    entry.claims.iter().map(|claim| Change {
        host: claim.host.clone(),
        remove: Some(entry.clone()),
        add: None,
    })
}

/// O1: the claims that are merged into the answer, oldest first. `claimants` are in rank order.
fn winners<'c>(policy: &Policy, claimants: &'c [Claimant]) -> Vec<&'c Claimant> {
    let mut candidates: Vec<&Claimant> = claimants.iter().filter(|c| c.has_addresses()).collect();
    if candidates.iter().any(|c| c.entry.public) {
        candidates.retain(|c| c.entry.public);
    }
    let preference = |c: &&Claimant| {
        policy.prefer_namespaces.iter().position(|n| **n == *c.entry.id.namespace).unwrap_or(usize::MAX)
    };
    // Candidates are in rank order, and min_by_key returns the first of equals: the oldest.
    let Some(first) = candidates.iter().copied().min_by_key(preference) else {
        return Vec::new();
    };
    let namespace = &first.entry.id.namespace;
    candidates.retain(|c| c.entry.id.namespace == *namespace);
    candidates
}

/// The answers of a host from all its live claims.
fn answers(policy: &Policy, claimants: &[Claimant]) -> Option<Answers> {
    let ttl = |claimants: &mut dyn Iterator<Item = &Claimant>| {
        claimants.map(|c| c.entry.ttl.unwrap_or(policy.ttl)).min().unwrap_or(policy.ttl)
    };
    let winners = winners(policy, claimants);
    if winners.is_empty() {
        let mut takers = claimants.iter().filter(|c| !c.entry.resolution_none).peekable();
        takers.peek()?;
        return Answers::encode(&policy.default_addresses, ttl(&mut takers));
    }
    let mut seen = HashSet::new();
    let listed = winners.iter().flat_map(|w| w.claim().addresses.iter().copied());
    let addresses: Vec<IpAddr> = listed.filter(|address| seen.insert(*address)).collect();
    Answers::encode(&addresses, ttl(&mut winners.iter().copied()))
}

/// O3.
fn claim_lost(loser: &Claimant, winner: &Claimant) -> Finding {
    let reason = if winner.entry.public && !loser.entry.public {
        "is exported to every namespace and this one is not"
    } else {
        "has the preferred or older namespace"
    };
    Finding::new(
        Code::ClaimLost,
        loser.entry.id.to_string(),
        format!("spec.hosts[{}]", loser.claim().field),
        &loser.claim().host.to_string(),
        format!("{} owns the host: it {reason}", winner.entry.id),
        "remove the host from one of the entries, or decide with --prefer-namespace",
    )
}

/// O4: one finding for each entry that uses an address another entry uses for another host.
fn shared_address(address: IpAddr, mut uses: Vec<(Host, Arc<Entry>)>) -> Vec<Finding> {
    // Most addresses have one user; a host list of one entry may have very many.
    if uses.windows(2).all(|pair| Arc::ptr_eq(&pair[0].1, &pair[1].1)) {
        return Vec::new();
    }
    uses.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| a.1.id.cmp(&b.1.id)));
    let one_host = uses.first().map(|u| &u.0) == uses.last().map(|u| &u.0);
    if one_host {
        return Vec::new();
    }
    let mut reported = HashSet::new();
    let mut findings = Vec::new();
    for (host, entry) in &uses {
        if reported.contains(&entry.id) {
            continue;
        }
        let Some((other_host, other)) = uses.iter().find(|(h, e)| h != host && !Arc::ptr_eq(e, entry)) else {
            continue;
        };
        reported.insert(&entry.id);
        findings.push(Finding::new(
            Code::AddressShared,
            entry.id.to_string(),
            if entry.allocated { "status.addresses" } else { "spec.addresses" },
            &address.to_string(),
            format!(
                "{host} and {other_host} of {} have the same address; on TCP ports the mesh cannot tell them apart",
                other.id
            ),
            "give every host an address of its own",
        ));
    }
    findings
}

#[cfg(test)]
mod tests;
