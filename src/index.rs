//! Live entries of every source → who owns each host, and with which addresses (chapter O, A3).
//!
//! Synchronous: sources call [`Index::apply`], [`Index::delete`], [`Index::reset`] and [`Index::reset_files`]; every
//! change is broken down into changes of hosts, and a host's answers are recomputed from all its live claims each time, so
//! they depend on the set of entries and never on the order of events (O2).
//!
//! A panic in deciding about a host leaves that host as it is (L9). Any other one in the middle of a change leaves this
//! broken: then nothing changes any more ([`crate::panics`] says why, and what follows).
//!
//! Entries are kept packed (`packed`) in an `arena`, because there may be a million of them. Nearly every host is
//! claimed by one entry and has answers: then the table itself remembers the entry ([`Table::owner`]). Only for the
//! others there is a list of claims.

mod arena;
mod copy;
mod findings;
pub mod history;
mod inspect;
mod packed;

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dashmap::DashMap;
use foldhash::fast::RandomState;
use hashbrown::{HashTable, hash_table};

use crate::entry::provenance::Provenance;
use crate::entry::{Entry, EntryId};
use crate::finding::Finding;
use crate::limits::MOST_ADDRESSES;
use crate::panics::{self, Place};
use crate::zone::answer::Answers;
use crate::zone::extra::Extra;
use crate::zone::{Host, Stale, Table};
use arena::{Arena, Number};
use history::{History, MOST_OF_A_LIST};
pub use inspect::{Bearing, Inspected, Standing, UnservedHost};
pub use packed::Packed;
use packed::{ClaimView, Paths, View};

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

impl Policy {
    /// O1: where a claim's namespace stands in `--prefer-namespace`, the lower the better.
    fn preference(&self, claimant: &Claimant<'_>) -> usize {
        let named = self.prefer_namespaces.iter().position(|name| name == claimant.entry.namespace());
        named.unwrap_or(usize::MAX)
    }
}

/// A clock for serials: Unix seconds.
pub type Clock = fn() -> u32;

/// An entry of more hosts has its claims listed: the table's word for who owns a host would mean looking through all
/// of them.
const MOST_CLAIMS_UNLISTED: usize = 32;
/// The index. Share it by reference; every method takes `&self`.
pub struct Index {
    policy: Policy,
    /// `--txt` (D24).
    diagnoses: bool,
    table: Arc<Table>,
    clock: Clock,
    hasher: RandomState,
    entries: Mutex<Entries>,
    /// The claims to every host that more than one entry claims, that has no answers, or whose entry has very many
    /// hosts. Changed under the lock of `entries` only.
    claims: DashMap<Host, Vec<Claim>, RandomState>,
    paths: Mutex<Paths>,
    history: History,
    /// Findings of the sources themselves.
    source_findings: Mutex<HashMap<Partition, Vec<Finding>>>,
    version: AtomicU64,
    /// Events that wait for the entries.
    waiting: AtomicUsize,
    /// Held by whoever copies: there is one list of those that come meanwhile.
    copying: Mutex<()>,
    /// A change was broken off by a panic.
    broken: AtomicBool,
}

/// Every entry, by number and by identity.
#[derive(Default)]
struct Entries {
    arena: Arena,
    by_identity: HashTable<Number>,
    count: HashMap<Partition, usize>,
    /// What is wrong with entries by themselves; usually with few.
    findings: HashMap<Number, Box<[Finding]>, RandomState>,
    /// Those that came since a copy began.
    came: Option<Vec<Number>>,
    /// The partitions that a complete list has come of.
    listed: HashSet<Partition>,
}

/// Who wrote entries, as far as that is known.
/// In the order of their numbers once they are looked for.
type Written = Vec<(Number, Box<Provenance>)>;

/// A claim: its entry, and where it begins in the entry's run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    entry: Number,
    at: u32,
}

/// What happens to a host: a claim comes or goes.
struct Change {
    /// Of the host, to bring its changes together.
    hash: u64,
    claim: Claim,
    comes: bool,
}

/// What a change comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// An event of a watch.
    Event,
    /// Files that were changed.
    Files,
    /// The first complete list of a source.
    FirstList,
    /// A later one.
    List,
}

/// Entries that come and go together.
struct Batch<'b> {
    come: Vec<Packed>,
    gone: &'b [Number],
    /// Who took out what is gone.
    deleted_by: Option<Box<Provenance>>,
    cause: Cause,
}

/// What a change has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// Hosts whose answers are others now.
    pub hosts: usize,
    /// Entries that were not there before.
    pub new: usize,
}

/// A claim with what decides about it.
struct Claimant<'e> {
    number: Number,
    entry: View<'e>,
    claim: ClaimView<'e>,
}

impl Claimant<'_> {
    fn has_addresses(&self) -> bool {
        self.claim.addresses().next().is_some()
    }
}

impl Index {
    /// An empty index that publishes to `table`.
    pub fn new(policy: Policy, table: Arc<Table>, clock: Clock) -> Index {
        Index {
            policy,
            diagnoses: false,
            table,
            clock,
            hasher: RandomState::default(),
            entries: Mutex::default(),
            claims: DashMap::with_hasher(RandomState::default()),
            paths: Mutex::default(),
            history: History::default(),
            source_findings: Mutex::default(),
            version: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            copying: Mutex::default(),
            broken: AtomicBool::new(false),
        }
    }

    /// The same, keeping with every host the entries that its answers come from (D24).
    pub fn diagnosing(self, diagnoses: bool) -> Index {
        Index { diagnoses, ..self }
    }

    /// The last changes of the table (I6).
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The table this index publishes to.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Makes an entry ready to be put in. What a source collects takes a fifth of the room that way.
    pub fn pack(&self, partition: Partition, entry: Entry) -> Packed {
        Packed::new(partition, entry, self.table.zones(), &mut lock(&self.paths))
    }

    /// An entry is new or has changed.
    pub fn apply(&self, partition: Partition, entry: Entry) {
        self.apply_packed(self.pack(partition, entry));
    }

    /// The same for an entry that is packed.
    pub fn apply_packed(&self, packed: Packed) -> Applied {
        let batch = Batch { come: vec![packed], gone: &[], deleted_by: None, cause: Cause::Event };
        self.change(&mut self.lock_for_event(), batch)
    }

    /// An entry is gone. Honoured for entries that never could be read, too (S6).
    pub fn delete(&self, partition: Partition, id: &EntryId) {
        self.delete_as(partition, id, None);
    }

    /// The same, with what is known of its deletion.
    pub fn delete_as(&self, partition: Partition, id: &EntryId, by: Option<Box<Provenance>>) -> Applied {
        let mut entries = self.lock_for_event();
        let identity = packed::identity(partition, id, |path| lock(&self.paths).number(path));
        let Some(number) = identity.and_then(|identity| entries.find(&self.hasher, &identity)) else {
            return Applied::default();
        };
        let batch = Batch { come: Vec::new(), gone: &[number], deleted_by: by, cause: Cause::Event };
        self.change(&mut entries, batch)
    }

    /// Whether an entry is there already, as it is: then it changes nothing.
    pub fn holds(&self, packed: &Packed) -> bool {
        let entries = lock(&self.entries);
        let held = entries.find(&self.hasher, packed.identity());
        held.is_some_and(|number| entries.holds(number, packed))
    }

    /// These are all entries of a partition: whatever is not among them is gone (L3).
    pub fn reset(&self, partition: Partition, listed: Vec<Packed>) {
        let first = lock(&self.entries).listed.insert(partition);
        let cause = if first { Cause::FirstList } else { Cause::List };
        self.replace(listed, cause, |entry| entry.identity.partition == partition.0 as u32);
    }

    /// These are all entries of some files of a partition, all at once: a host that moves from one to another is
    /// never missing meanwhile. Returns how many are gone.
    pub fn reset_files(&self, partition: Partition, files: &[Arc<str>], listed: Vec<Packed>) -> usize {
        if files.is_empty() {
            return 0;
        }
        let files: HashSet<u32> = {
            let paths = lock(&self.paths);
            files.iter().filter_map(|path| paths.number(path)).collect()
        };
        self.replace(listed, Cause::Files, |entry| {
            entry.identity.partition == partition.0 as u32
                && entry.path().is_some_and(|path| files.contains(&path))
        })
    }

    /// Puts entries in, and takes those out that are `replaced` and not among them; returns how many.
    fn replace(&self, listed: Vec<Packed>, cause: Cause, replaced: impl Fn(&View<'_>) -> bool) -> usize {
        let mut entries = self.lock_for_event();
        let kept: HashSet<Number, RandomState> =
            listed.iter().filter_map(|packed| entries.find(&self.hasher, packed.identity())).collect();
        let gone: Vec<Number> = entries
            .by_identity
            .iter()
            .filter(|number| !kept.contains(number) && entries.view(**number).is_some_and(|e| replaced(&e)))
            .copied()
            .collect();
        self.change(&mut entries, Batch { come: listed, gone: &gone, deleted_by: None, cause });
        gone.len()
    }

    /// Replaces the findings of a source itself: an unreadable file, an absent CRD.
    pub fn set_source_findings(&self, partition: Partition, findings: Vec<Finding>) {
        let mut all = lock(&self.source_findings);
        // An absent CRD is told every two seconds, and a search of all entries follows every version.
        if all.get(&partition).map_or(&[][..], Vec::as_slice) != findings {
            all.insert(partition, findings);
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Grows with every call that may change findings.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// How many entries a partition holds.
    pub fn entries(&self, partition: Partition) -> usize {
        lock(&self.entries).count.get(&partition).copied().unwrap_or(0)
    }

    /// The entries that own a host, best first; empty if none gives it an address.
    pub fn owners(&self, host: &Host) -> Vec<EntryId> {
        self.owners_of(std::slice::from_ref(host)).pop().unwrap_or_default()
    }

    /// The same of several hosts, while events pass.
    pub fn owners_of(&self, hosts: &[Host]) -> Vec<Vec<EntryId>> {
        let mut owners = Vec::with_capacity(hosts.len());
        self.in_steps(hosts, |entries, host| {
            let claimants = self.claimants(entries, &self.claims_of(entries, host).0);
            let paths = lock(&self.paths);
            owners.push(
                winners(&self.policy, &claimants).into_iter().map(|winner| winner.entry.id(&paths)).collect(),
            );
            claimants.len()
        });
        owners
    }

    /// Whether a change was broken off by a panic (L9): then nothing changes any more, and what is in here is no whole.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    /// Puts entries in and takes others out, all at once. Nothing, if it is broken or breaks.
    fn change(&self, entries: &mut Entries, batch: Batch<'_>) -> Applied {
        if self.is_broken() {
            return Applied::default();
        }
        panics::contain(Place::Index, || self.change_whole(entries, batch)).unwrap_or_else(|| {
            self.broken.store(true, Ordering::Release);
            Applied::default()
        })
    }

    fn change_whole(&self, entries: &mut Entries, batch: Batch<'_>) -> Applied {
        let Batch { come, gone, deleted_by, cause } = batch;
        let mut changes = Vec::new();
        let mut leaving = gone.to_vec();
        let mut news = !gone.is_empty();
        let mut applied = Applied::default();
        let mut written = Written::default();
        if let ([number], Some(by)) = (gone, deleted_by) {
            written.push((*number, by));
        }
        for mut packed in come {
            let by = packed.provenance.take();
            let Some((number, old)) = entries.insert(&self.hasher, packed) else { continue };
            applied.new += usize::from(old.is_none());
            leaving.extend(old);
            if let Some(by) = by
                && cause != Cause::FirstList
            {
                written.push((number, by));
            }
            self.note(entries, number, true, &mut changes);
            news = true;
        }
        for number in gone {
            entries.forget(&self.hasher, *number);
        }
        for number in &leaving {
            self.note(entries, *number, false, &mut changes);
        }
        written.sort_unstable_by_key(|(number, _)| *number);
        applied.hosts = self.commit(entries, changes, cause, &written);
        for number in leaving {
            entries.arena.remove(number);
        }
        if news {
            self.version.fetch_add(1, Ordering::Relaxed);
        }
        applied
    }

    /// Notes what an entry's coming or going means for its hosts.
    fn note(&self, entries: &Entries, number: Number, comes: bool, changes: &mut Vec<Change>) {
        let claims = entries.view(number).into_iter().flat_map(|entry| entry.claims());
        changes.extend(claims.map(|(at, claim)| Change {
            hash: self.hasher.hash_one(claim.key()),
            claim: Claim { entry: number, at },
            comes,
        }));
    }

    /// Applies changes host by host: first everything that ends with an answer, then the removals, so
    /// that a name kept alive by another host of the same batch never blinks (L3, D3). Returns how many hosts have
    /// other answers now.
    fn commit(
        &self,
        entries: &Entries,
        mut changes: Vec<Change>,
        cause: Cause,
        written: &[(Number, Box<Provenance>)],
    ) -> usize {
        let key = |change: &Change| entries.claim(change.claim).map(|claim| claim.key());
        // By host, but seldom reading one; of a host, the claims that go before those that come.
        changes.sort_unstable_by(|a, b| {
            let by_host = a.hash.cmp(&b.hash).then_with(|| key(a).cmp(&key(b)));
            by_host.then_with(|| (a.comes, a.claim.entry).cmp(&(b.comes, b.claim.entry)))
        });
        let now = (self.clock)();
        self.table.expect(changes.iter().filter(|change| change.comes).count());
        let mut gone = Vec::new();
        let mut stale = Stale::default();
        let mut made = Made::default();
        let (mut hosts, mut worth_telling) = (0, 0);
        let mut set = |host: &Host, answers, owner, claim: Claim| {
            self.table.publish(host, answers, owner, now, &mut stale, |before, after| {
                hosts += 1;
                if cause == Cause::FirstList || !history::is_worth_telling(before, after) {
                    return;
                }
                worth_telling += 1;
                if cause != Cause::Event && worth_telling > MOST_OF_A_LIST {
                    return;
                }
                let entry = entries.view(claim.entry);
                let by = written.binary_search_by_key(&claim.entry, |(number, _)| *number);
                self.history.push(history::Change {
                    sequence: 0,
                    at: now,
                    host: host.clone(),
                    before: before.map(|answers| answers.to_answers().with_extra(None)),
                    after: after.map(|answers| answers.clone().with_extra(None)),
                    entry: entry.map(|entry| entry.label(|| lock(&self.paths))).unwrap_or_default(),
                    listed: cause == Cause::List,
                    provenance: by.ok().map(|at| written[at].1.clone()),
                });
            });
        };
        for group in changes.chunk_by(|a, b| a.hash == b.hash && key(a) == key(b)) {
            let Some(claim) = entries.claim(group[0].claim) else { continue };
            let host = self.host(&claim);
            let (leaving, coming) = group.split_at(group.partition_point(|change| !change.comes));
            let leaves = |entry| leaving.binary_search_by_key(&entry, |change| change.claim.entry).is_ok();
            let (mut claims, listed) = self.claims_of(entries, &host);
            claims.extend(coming.iter().map(|change| change.claim));
            claims.retain(|claim| !leaves(claim.entry));
            let decide = || self.answers(&host, &self.claimants(entries, &claims), &mut made);
            let Some(answers) = panics::contain(Place::Host, decide) else {
                // It keeps the answers it has. Its claims are listed, for the next change of them.
                self.remember(entries, &host, claims, listed, false);
                continue;
            };
            let answered = answers.is_some();
            let owner = self.remember(entries, &host, claims, listed, answered);
            // What comes is behind what goes.
            let by = group[group.len() - 1].claim;
            if answered {
                set(&host, answers, owner, by);
            } else {
                gone.push((host, by));
            }
        }
        for (host, by) in gone {
            set(&host, None, None, by);
        }
        self.table.retire(stale, now);
        if cause != Cause::Event {
            self.history.leave_out(worth_telling.saturating_sub(MOST_OF_A_LIST) as u64);
        }
        hosts
    }

    /// Every live claim to a host, and whether they are listed.
    fn claims_of(&self, entries: &Entries, host: &Host) -> (Vec<Claim>, bool) {
        match self.claims.get(host) {
            Some(claims) => (claims.clone(), true),
            None => (self.claim_of_owner(entries, host).into_iter().collect(), false),
        }
    }

    /// The only claim to a host whose claims are not listed.
    fn claim_of_owner(&self, entries: &Entries, host: &Host) -> Option<Claim> {
        let entry = self.table.owner(host)?;
        let key = packed::key(self.table.zones(), host)?;
        let (at, _) = entries.view(entry)?.claims().find(|(_, claim)| claim.key() == key)?;
        Some(Claim { entry, at })
    }

    /// Keeps the claims to a host, or leaves it to the table to remember the only one: then returns whose.
    fn remember(
        &self,
        entries: &Entries,
        host: &Host,
        mut claims: Vec<Claim>,
        listed: bool,
        answered: bool,
    ) -> Option<Number> {
        #[cfg(test)]
        panics::trip("index", host.to_string().as_bytes());
        let only = match claims[..] {
            [claim] if answered => Some(claim.entry),
            _ => None,
        };
        let owner = only.filter(|number| {
            entries.view(*number).is_some_and(|entry| entry.claim_count() <= MOST_CLAIMS_UNLISTED)
        });
        if owner.is_some() || claims.is_empty() {
            if listed {
                self.claims.remove(host);
            }
        } else {
            claims.shrink_to_fit();
            self.claims.insert(host.clone(), claims);
        }
        owner
    }

    fn host(&self, claim: &ClaimView<'_>) -> Host {
        claim.host(self.table.zones())
    }

    /// What decides about claims, in the order of their rank.
    fn claimants<'e>(&self, entries: &'e Entries, claims: &[Claim]) -> Vec<Claimant<'e>> {
        let claimant = |claim: &Claim| {
            let (entry, of_host) = (entries.view(claim.entry)?, entries.claim(*claim)?);
            Some(Claimant { number: claim.entry, entry, claim: of_host })
        };
        let mut claimants: Vec<Claimant<'e>> = claims.iter().filter_map(claimant).collect();
        if claimants.len() > 1 {
            let paths = lock(&self.paths);
            claimants.sort_by(|a, b| a.entry.rank(&paths).cmp(&b.entry.rank(&paths)));
        }
        claimants
    }

    /// The answers of a host from all its live claims.
    fn answers(&self, _host: &Host, claimants: &[Claimant<'_>], made: &mut Made) -> Option<Answers> {
        #[cfg(test)]
        panics::trip("host", _host.to_string().as_bytes());
        let policy = &self.policy;
        let ttl = |claimants: &mut dyn Iterator<Item = &Claimant<'_>>| {
            claimants.map(|c| c.entry.ttl().unwrap_or(policy.ttl)).min().unwrap_or(policy.ttl)
        };
        let winners = winners(policy, claimants);
        if winners.is_empty() {
            let takers = self.takers(claimants);
            let answers = Answers::new(&policy.default_addresses, ttl(&mut takers.iter().copied()));
            return answers
                .filter(|_| !takers.is_empty())
                .map(|answers| answers.with_extra(self.extra(&takers)));
        }
        let ttl = ttl(&mut winners.iter().copied());
        if let [winner] = winners[..] {
            return made.of(&winner.claim, ttl, || self.extra(&winners));
        }
        let addresses: Vec<IpAddr> =
            merged(&winners).map(|(_, address)| address).take(MOST_ADDRESSES).collect();
        Answers::new(&addresses, ttl).map(|answers| answers.with_extra(self.extra(&winners)))
    }

    /// A3: who takes the default address of a host that nobody gives one; none where there is no such address.
    fn takers<'c, 'e>(&self, claimants: &'c [Claimant<'e>]) -> Vec<&'c Claimant<'e>> {
        let takes =
            |c: &&Claimant<'_>| !self.policy.default_addresses.is_empty() && !c.entry.is_resolution_none();
        claimants.iter().filter(takes).collect()
    }

    /// D23, D24: what the entries that a host's answers come from give it beside addresses.
    fn extra(&self, from: &[&Claimant<'_>]) -> Option<Arc<Extra>> {
        let entries = from.iter().filter(|_| self.diagnoses).map(|claimant| claimant.entry.object());
        Extra::new(from.iter().flat_map(|claimant| claimant.entry.services()), entries)
    }

    /// The entries, for an event: a search gives way to it.
    fn lock_for_event(&self) -> MutexGuard<'_, Entries> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let entries = lock(&self.entries);
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        entries
    }
}

/// Answers that were made in one change, by the list they are of: the hosts of an entry share them.
#[derive(Default)]
struct Made(HashMap<*const u8, Answers, RandomState>);

impl Made {
    fn of(
        &mut self,
        claim: &ClaimView<'_>,
        ttl: u32,
        extra: impl FnOnce() -> Option<Arc<Extra>>,
    ) -> Option<Answers> {
        if let Some(made) = self.0.get(&claim.list()) {
            return Some(made.with_ttl(ttl));
        }
        let addresses: Vec<IpAddr> = claim.addresses().take(MOST_ADDRESSES).collect();
        let answers = Answers::new(&addresses, ttl)?.with_extra(extra());
        // One address alone is kept in place.
        if addresses.len() > 1 || answers.view().extra().is_some() {
            self.0.insert(claim.list(), answers.clone());
        }
        Some(answers)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Entries {
    fn view(&self, number: Number) -> Option<View<'_>> {
        View::new(self.arena.get(number))
    }

    fn claim(&self, claim: Claim) -> Option<ClaimView<'_>> {
        View::claim(self.arena.get(claim.entry), claim.at)
    }

    fn find(&self, hasher: &RandomState, identity: &[u8]) -> Option<Number> {
        let same = |number: &Number| self.arena.get(*number).starts_with(identity);
        self.by_identity.find(hasher.hash_one(identity), same).copied()
    }

    /// Whether an entry is there already, as it is.
    fn holds(&self, number: Number, packed: &Packed) -> bool {
        let findings = self.findings.get(&number).map_or(&[][..], |findings| findings);
        *self.arena.get(number) == *packed.octets && *findings == packed.findings
    }

    /// Puts an entry in; returns the number of its old version, too, whose run stays. `None` if it was there already, as
    /// it is.
    fn insert(&mut self, hasher: &RandomState, packed: Packed) -> Option<(Number, Option<Number>)> {
        let old = self.find(hasher, packed.identity());
        if old.is_some_and(|old| self.holds(old, &packed)) {
            return None;
        }
        let number = self.arena.insert(&packed.octets);
        let Entries { arena, by_identity, findings, .. } = self;
        let hash = |number: &Number| hasher.hash_one(View::identity_run(arena.get(*number)));
        let place = hasher.hash_one(packed.identity());
        match by_identity.entry(place, |number| Some(*number) == old, hash) {
            hash_table::Entry::Occupied(mut entry) => *entry.get_mut() = number,
            hash_table::Entry::Vacant(entry) => {
                entry.insert(number);
            }
        }
        match old {
            Some(old) => _ = findings.remove(&old),
            None => *self.count_of(number) += 1,
        }
        if !packed.findings.is_empty() {
            self.findings.insert(number, packed.findings.into());
        }
        if let Some(came) = &mut self.came {
            came.push(number);
        }
        Some((number, old))
    }

    /// Takes an entry out; its run stays.
    fn forget(&mut self, hasher: &RandomState, number: Number) {
        let hash = hasher.hash_one(View::identity_run(self.arena.get(number)));
        if let Ok(found) = self.by_identity.find_entry(hash, |n| *n == number) {
            found.remove();
            self.findings.remove(&number);
            *self.count_of(number) -= 1;
        }
    }

    fn count_of(&mut self, number: Number) -> &mut usize {
        let partition = self.view(number).map_or(0, |entry| entry.identity.partition as usize);
        self.count.entry(Partition(partition)).or_default()
    }
}

/// O1: the claims that are merged into the answer, oldest first. `claimants` are in rank order.
fn winners<'c, 'e>(policy: &Policy, claimants: &'c [Claimant<'e>]) -> Vec<&'c Claimant<'e>> {
    let mut candidates: Vec<&Claimant<'_>> = claimants.iter().filter(|c| c.has_addresses()).collect();
    if candidates.iter().any(|c| c.entry.is_public()) {
        candidates.retain(|c| c.entry.is_public());
    }
    // Candidates are in rank order, and min_by_key returns the first of equals: the oldest.
    let Some(first) = candidates.iter().copied().min_by_key(|c| policy.preference(c)) else {
        return Vec::new();
    };
    let namespace = first.entry.namespace();
    candidates.retain(|c| c.entry.namespace() == namespace);
    candidates
}

/// Every claim, and whether it is one of the winners, who are in the same order.
fn standings<'c, 'e>(
    claimants: &'c [Claimant<'e>],
    winners: &[&'c Claimant<'e>],
) -> impl Iterator<Item = (&'c Claimant<'e>, bool)> {
    let mut next = winners.iter().peekable();
    claimants
        .iter()
        .map(move |claimant| (claimant, next.next_if(|winner| std::ptr::eq(**winner, claimant)).is_some()))
}

/// O1: the addresses of merged claims, oldest first and each once, with the position of the claim that gives it.
fn merged(winners: &[&Claimant<'_>]) -> impl Iterator<Item = (usize, IpAddr)> {
    let mut seen = HashSet::new();
    let listed = winners.iter().enumerate().flat_map(|(at, w)| w.claim.addresses().map(move |a| (at, a)));
    listed.filter(move |(_, address)| seen.insert(*address))
}

#[cfg(test)]
mod tests;
