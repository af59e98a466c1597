//! What is to be said of the entries: about each by itself, and what only all of them together show (A7, O3, O4).
//!
//! Searched on demand, while events go on: nothing of it is kept up to date by a change.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::arena::Number;
use super::packed::View;
use super::{Claimant, Entries, Index, lock, winners};
use crate::entry::{self, EntryId};
use crate::finding::{Code, Finding};
use crate::zone::Host;

/// Claims that a search for findings looks at before it lets an event pass (L7).
pub(super) const SEARCH_STEP: usize = 256;
/// How long a search waits while an event does.
const GIVE_WAY: Duration = Duration::from_micros(50);

impl Index {
    /// Every finding: those of the entries, of the sources, and those that only all entries together
    /// show (A7, O3, O4). Computed on call, in an order that depends on the set alone.
    ///
    /// Events pass between the steps of this, so it may see some entries before and some after one; the version
    /// has moved then.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings: BTreeSet<Finding> =
            lock(&self.source_findings).values().flatten().cloned().collect();
        let numbers: Vec<Number> = lock(&self.entries).by_identity.iter().copied().collect();
        // An address, hashed, and the entry that has it: eight octets each, because there may be a million.
        let mut addresses: Vec<(u32, Number)> = Vec::with_capacity(numbers.len());
        self.in_steps(&numbers, |entries, number| {
            self.search_entry(entries, *number, &mut findings, &mut addresses);
            entries.view(*number).map_or(0, |entry| entry.claim_count())
        });
        let listed: Vec<Host> = self.claims.iter().map(|item| item.key().clone()).collect();
        self.in_steps(&listed, |entries, host| self.search_host(entries, host, &mut findings));
        addresses.sort_unstable();
        addresses.dedup();
        for group in addresses.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1) {
            let mut uses = HashMap::new();
            self.in_steps(group, |entries, (hash, number)| {
                self.collect_uses(entries, *hash, *number, &mut uses)
            });
            findings.extend(uses.into_iter().flat_map(|(address, uses)| shared_address(address, uses)));
        }
        findings.into_iter().collect()
    }

    /// Does something for each item under the lock of the entries, which is given up often enough for events to pass.
    /// `act` returns how many claims it looked at.
    fn in_steps<T>(&self, items: &[T], mut act: impl FnMut(&Entries, &T) -> usize) {
        let mut rest = items.iter();
        while !rest.as_slice().is_empty() {
            self.step(&mut rest, &mut act);
        }
    }

    /// One such step, for those who have something to do between two.
    pub(super) fn step<T>(
        &self,
        rest: &mut std::slice::Iter<'_, T>,
        act: &mut impl FnMut(&Entries, &T) -> usize,
    ) {
        let entries = lock(&self.entries);
        let mut work = 0;
        while work < SEARCH_STEP
            && let Some(item) = rest.next()
        {
            work += 1 + act(&entries, item);
        }
        drop(entries);
        // A lock that is free for a moment goes to whoever runs, and that is this thread.
        while self.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::sleep(GIVE_WAY);
        }
    }

    /// What one entry says by itself; its addresses are collected.
    fn search_entry(
        &self,
        entries: &Entries,
        number: Number,
        findings: &mut BTreeSet<Finding>,
        addresses: &mut Vec<(u32, Number)>,
    ) {
        let Some(entry) = entries.view(number) else { return };
        findings.extend(entries.findings.get(&number).into_iter().flat_map(|own| own.iter().cloned()));
        let mut outside = entry.outside().peekable();
        if outside.peek().is_some() {
            let id = self.id(&entry);
            findings.extend(outside.map(|(position, host)| entry::outside_finding(&id, position, host)));
        }
        for (_, claim) in entry.claims() {
            addresses.extend(claim.addresses().map(|address| (self.short_hash(address), number)));
        }
    }

    fn short_hash(&self, address: IpAddr) -> u32 {
        self.hasher.hash_one(address) as u32
    }

    /// What the claims to one host say together (A7, O3). Of a host that is not listed there is nothing to say: its
    /// only claim answers it.
    fn search_host(&self, entries: &Entries, host: &Host, findings: &mut BTreeSet<Finding>) -> usize {
        let claimants = self.claimants(entries, &self.claims_of(entries, host).0);
        let winners = winners(&self.policy, &claimants);
        for claimant in &claimants {
            if !claimant.has_addresses() {
                findings.extend(self.no_address(claimant, host, winners.is_empty()));
            } else if let Some(winner) = winners.first()
                && !winners.iter().any(|w| std::ptr::eq(*w, claimant))
            {
                findings.insert(self.claim_lost(claimant, winner, host));
            }
        }
        claimants.len()
    }

    /// An entry's uses of the addresses of one hash; returns how many claims it has.
    fn collect_uses(
        &self,
        entries: &Entries,
        hash: u32,
        number: Number,
        uses: &mut HashMap<IpAddr, Vec<Use>>,
    ) -> usize {
        let Some(entry) = entries.view(number) else { return 0 };
        let id = self.id(&entry);
        for (_, claim) in entry.claims() {
            for address in claim.addresses().filter(|address| self.short_hash(*address) == hash) {
                let (host, allocated) = (self.host(&claim), entry.is_allocated());
                uses.entry(address).or_default().push(Use { host, entry: id.clone(), allocated });
            }
        }
        entry.claim_count()
    }

    /// O3.
    fn claim_lost(&self, loser: &Claimant<'_>, winner: &Claimant<'_>, host: &Host) -> Finding {
        let reason = if winner.entry.is_public() && !loser.entry.is_public() {
            "is exported to every namespace and this one is not"
        } else {
            "has the preferred or older namespace"
        };
        Finding::new(
            Code::ClaimLost,
            self.id(&loser.entry).to_string(),
            loser.field(),
            &host.to_string(),
            format!("{} owns the host: it {reason}", self.id(&winner.entry)),
            "remove the host from one of the entries, or decide with --prefer-namespace",
        )
    }

    fn id(&self, entry: &View<'_>) -> EntryId {
        entry.id(&lock(&self.paths))
    }

    /// A7, unless the default address or another entry serves the host.
    fn no_address(&self, claimant: &Claimant<'_>, host: &Host, nobody_has: bool) -> Option<Finding> {
        let entry = &claimant.entry;
        let defaults = !self.policy.default_addresses.is_empty();
        if nobody_has && defaults && !entry.is_resolution_none() {
            return None;
        }
        let why = if nobody_has {
            "the host has no address, so it does not exist in DNS"
        } else {
            "this entry gives the host no address; another entry answers it"
        };
        let remedy = if entry.is_resolution_none() {
            "list addresses in spec.addresses (with resolution NONE neither automatic allocation nor --default-address applies)"
        } else {
            "list addresses in spec.addresses, let istiod allocate them (status.addresses), or set --default-address"
        };
        Some(Finding::new(
            Code::HostNoAddress,
            self.id(&claimant.entry).to_string(),
            claimant.field(),
            &host.to_string(),
            why,
            remedy,
        ))
    }
}

impl Claimant<'_> {
    /// The path of the claim, for findings.
    fn field(&self) -> String {
        format!("spec.hosts[{}]", self.claim.field())
    }
}

/// One use of an address.
struct Use {
    host: Host,
    entry: EntryId,
    allocated: bool,
}

/// O4: one finding for each entry that uses an address another entry uses for another host.
fn shared_address(address: IpAddr, mut uses: Vec<Use>) -> Vec<Finding> {
    // A host list of one entry may have very many.
    if uses.windows(2).all(|pair| pair[0].entry == pair[1].entry) {
        return Vec::new();
    }
    uses.sort_by(|a, b| (&a.host, &a.entry).cmp(&(&b.host, &b.entry)));
    let one_host = uses.first().map(|u| &u.host) == uses.last().map(|u| &u.host);
    if one_host {
        return Vec::new();
    }
    let mut reported = HashSet::new();
    let mut findings = Vec::new();
    for Use { host, entry, allocated } in &uses {
        if reported.contains(entry) {
            continue;
        }
        let Some(other) = uses.iter().find(|u| u.host != *host && u.entry != *entry) else {
            continue;
        };
        reported.insert(entry);
        findings.push(Finding::new(
            Code::AddressShared,
            entry.to_string(),
            if *allocated { "status.addresses" } else { "spec.addresses" },
            &address.to_string(),
            format!(
                "{host} and {} of {} have the same address; on TCP ports the mesh cannot tell them apart",
                other.host, other.entry
            ),
            "give every host an address of its own",
        ));
    }
    findings
}
