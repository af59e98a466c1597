//! What is to be said of the entries: about each by itself, and what only all of them together show (A7, O3, O4).
//!
//! Searched on demand, while events go on: nothing of it is kept up to date by a change.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::arena::Number;
use super::inspect::{Standing, standing};
use super::packed::{ClaimView, View};
use super::{Claimant, Entries, Index, lock, merged, standings, winners};
use crate::entry::{self, EntryId, Unserved};
use crate::finding::{Code, Finding};
use crate::limits::MOST_ADDRESSES;
use crate::zone::extra::MOST_SERVICES;
use crate::zone::{Host, MOST_POINTING};

/// Claims that a search for findings looks at before it lets an event pass (L7).
pub(super) const SEARCH_STEP: usize = 256;
/// How long a search waits while an event does.
const GIVE_WAY: Duration = Duration::from_micros(50);

impl Index {
    /// Every finding, in an order that depends on the set alone.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = BTreeSet::new();
        self.search(&mut |finding| _ = findings.insert(finding));
        findings.into_iter().collect()
    }

    /// Shows every finding: those of the entries, of the sources, and those that only all entries together show (A7, O3,
    /// O4). In no order, and without keeping any: an entry may have findings of many times its own size. Returns how much
    /// was looked at, which grows as what is read does (S7).
    ///
    /// Events pass between the steps of this, so it may see some entries before and some after one; the version
    /// has moved then.
    pub fn search(&self, show: &mut impl FnMut(Finding)) -> usize {
        let of_sources: Vec<Finding> = lock(&self.source_findings).values().flatten().cloned().collect();
        of_sources.into_iter().for_each(&mut *show);
        let numbers: Vec<Number> = lock(&self.entries).by_identity.iter().copied().collect();
        // An address, hashed, and the entry that has it: eight octets each, because there may be a million.
        let mut addresses: Vec<(u32, Number)> = Vec::with_capacity(numbers.len());
        let mut looked = self
            .in_steps(&numbers, |entries, number| self.search_entry(entries, *number, show, &mut addresses));
        let listed: Vec<Host> = self.claims.iter().map(|item| item.key().clone()).collect();
        looked += self.in_steps(&listed, |entries, host| self.search_host(entries, host, show));
        addresses.sort_unstable();
        addresses.dedup();
        let shared: Vec<_> =
            addresses.chunk_by(|a, b| a.0 == b.0).filter(|group| group.len() > 1).flatten().collect();
        let hashes: HashSet<u32, RandomState> = shared.iter().map(|(hash, _)| *hash).collect();
        let mut users: Vec<Number> = shared.iter().map(|(_, number)| *number).collect();
        drop(addresses);
        users.sort_unstable();
        users.dedup();
        let mut uses = Uses::default();
        looked +=
            self.in_steps(&users, |entries, number| self.collect_uses(entries, *number, &hashes, &mut uses));
        looked + uses.search(show)
    }

    /// Does something for each item under the lock of the entries, which is given up often enough for events to pass.
    /// `act` returns how many claims and addresses it looked at; this, how many all did.
    pub(super) fn in_steps<T>(&self, items: &[T], mut act: impl FnMut(&Entries, &T) -> usize) -> usize {
        let (mut rest, mut looked) = (items.iter(), 0);
        let mut act = |entries: &Entries, item: &T| {
            let at = 1 + act(entries, item);
            looked += at;
            at
        };
        while !rest.as_slice().is_empty() {
            self.step(&mut rest, &mut act);
        }
        looked
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
        show: &mut impl FnMut(Finding),
        addresses: &mut Vec<(u32, Number)>,
    ) -> usize {
        let Some(entry) = entries.view(number) else { return 0 };
        let (before, mut looked) = (addresses.len(), 0);
        entries.findings.get(&number).into_iter().flatten().cloned().for_each(&mut *show);
        let unserved = entry.unserved().map(|(tag, host)| Unserved::new(tag, host));
        let mut outside = unserved.filter(|host| host.reason == Code::HostOutsideZones).peekable();
        if outside.peek().is_some() {
            let id = self.id(&entry);
            let zones = self.table.zones();
            for host in outside {
                show(entry::outside_finding(zones, &id, host.field, &host.host));
                looked += zones.count();
            }
        }
        if !entry.is_public() && entry.claim_count() > 0 {
            show(export_beyond(&self.id(&entry)));
        }
        let (mut last, mut exact, mut pointing) = (None, false, 0);
        for (_, claim) in entry.claims() {
            exact |= !claim.key().2;
            // The hosts of an entry share a list.
            if last.replace(claim.list()) != Some(claim.list()) {
                addresses.extend(claim.addresses().map(|address| (self.short_hash(address), number)));
                pointing = pointing.max(self.pointing(claim.addresses()));
            }
        }
        if exact && pointing > MOST_POINTING {
            let field = if entry.is_allocated() { "status.addresses" } else { "spec.addresses" };
            show(too_many_pointing(&self.id(&entry), field, "", format!("a host has {pointing} addresses")));
        }
        looked + entry.claim_count() + addresses.len() - before
    }

    /// How many of some addresses lie in reverse zones (D22).
    fn pointing(&self, addresses: impl Iterator<Item = IpAddr>) -> usize {
        let zones = self.table.zones();
        if !zones.has_reverse() {
            return 0;
        }
        addresses.filter(|address| zones.reverse_of(*address).is_some()).count()
    }

    fn short_hash(&self, address: IpAddr) -> u32 {
        self.hasher.hash_one(address) as u32
    }

    /// What the claims to one host say together (A7, O3). Of a host that is not listed there is nothing to say: its
    /// only claim answers it.
    fn search_host(&self, entries: &Entries, host: &Host, show: &mut impl FnMut(Finding)) -> usize {
        let claimants = self.claimants(entries, &self.claims_of(entries, host).0);
        let winners = winners(&self.policy, &claimants);
        // Made for the first that loses.
        let mut answered: Option<HashSet<IpAddr, RandomState>> = None;
        for (claimant, wins) in standings(&claimants, &winners) {
            if !claimant.has_addresses() {
                self.no_address(claimant, host, winners.is_empty()).into_iter().for_each(&mut *show);
            } else if let Some(winner) = winners.first().filter(|_| !wins) {
                let answered = answered
                    .get_or_insert_with(|| winners.iter().flat_map(|w| w.claim.addresses()).collect());
                show(self.claim_lost(claimant, winner, host, answered));
            }
        }
        let takers = if winners.is_empty() { self.takers(&claimants) } else { Vec::new() };
        let answering = if winners.is_empty() { &takers } else { &winners };
        claimants.len()
            + self.search_merged(host, &winners, show)
            + self.search_services(host, answering, show)
    }

    /// S7: who gives addresses to a host that has too many together.
    fn search_merged(&self, host: &Host, winners: &[&Claimant<'_>], show: &mut impl FnMut(Finding)) -> usize {
        if winners.len() < 2 {
            return 0;
        }
        let served = merged(winners).map(|(_, address)| address).take(MOST_ADDRESSES);
        let pointing = if host.wildcard { 0 } else { self.pointing(served) };
        if let Some(last) = winners.last().filter(|_| pointing > MOST_POINTING) {
            show(too_many_pointing(
                &self.id(&last.entry),
                &last.field(),
                &host.to_string(),
                format!("with those of older entries the host has {pointing} addresses"),
            ));
        }
        self.too_many((host, winners), merged(winners).map(|(at, _)| at), MOST_ADDRESSES, "addresses", show)
    }

    /// The same of services (D23). `from`: who answers the host, oldest first.
    fn search_services(&self, host: &Host, from: &[&Claimant<'_>], show: &mut impl FnMut(Finding)) -> usize {
        if from.len() < 2 {
            return 0;
        }
        let mut seen = HashSet::new();
        let listed = from.iter().enumerate().flat_map(|(at, c)| c.entry.services().map(move |s| (at, s)));
        let distinct = listed.filter(move |(_, service)| seen.insert(service.clone())).map(|(at, _)| at);
        self.too_many((host, from), distinct, MOST_SERVICES, "services", show)
    }

    /// S7: whose items are beyond the `most` that a host has. `given`: by which of `from` each item is, in order.
    fn too_many(
        &self,
        (host, from): (&Host, &[&Claimant<'_>]),
        given: impl Iterator<Item = usize>,
        most: usize,
        what: &str,
        show: &mut impl FnMut(Finding),
    ) -> usize {
        let mut beyond = vec![0; from.len()];
        let mut all = 0;
        for at in given {
            all += 1;
            beyond[at] += usize::from(all > most);
        }
        for (claimant, beyond) in from.iter().zip(beyond).filter(|(_, beyond)| *beyond > 0) {
            show(Finding::new(
                Code::LimitExceeded,
                self.id(&claimant.entry).to_string(),
                claimant.field(),
                &host.to_string(),
                format!(
                    "with those of older entries the host has {all} {what}; only the first {most} are served, and not \
                     {beyond} of this entry"
                ),
                format!("give the host fewer {what}"),
            ));
        }
        all
    }

    /// Notes which addresses of these hashes an entry gives, and to whom.
    fn collect_uses(
        &self,
        entries: &Entries,
        number: Number,
        hashes: &HashSet<u32, RandomState>,
        uses: &mut Uses,
    ) -> usize {
        let Some(entry) = entries.view(number) else { return 0 };
        let mut lists: HashMap<*const u8, (ClaimView<'_>, BTreeSet<Host>), RandomState> = HashMap::default();
        for (_, claim) in entry.claims() {
            let (_, hosts) = lists.entry(claim.list()).or_insert_with(|| (claim, BTreeSet::new()));
            hosts.insert(self.host(&claim));
            // Two tell whether somebody's host is another one.
            if hosts.len() > 2 {
                hosts.pop_last();
            }
        }
        let (user, before) = (uses.users.len(), uses.uses.len());
        for (claim, hosts) in lists.into_values() {
            let list = uses.lists.len();
            let shared = claim.addresses().filter(|address| hashes.contains(&self.short_hash(*address)));
            uses.uses.extend(shared.map(|address| (address, list as u32)));
            uses.lists.push(List { user, hosts: hosts.into_iter().collect() });
        }
        uses.users.push((self.id(&entry), entry.is_allocated()));
        entry.claim_count() + uses.uses.len() - before
    }

    /// O3.
    fn claim_lost(
        &self,
        loser: &Claimant<'_>,
        winner: &Claimant<'_>,
        host: &Host,
        answered: &HashSet<IpAddr, RandomState>,
    ) -> Finding {
        let (reason, remedy) = match standing(&self.policy, loser, Some(&winner)) {
            Standing::NotPublic => (
                "it is exported to every namespace and this one is not",
                "remove the host from one of the entries, or export this one to \"*\", so that --prefer-namespace or age \
                 decides",
            ),
            Standing::LessPreferred => (
                "its namespace comes first in --prefer-namespace",
                "remove the host from one of the entries, or change the order of --prefer-namespace",
            ),
            Standing::Younger => {
                ("it is older", "remove the host from one of the entries, or decide with --prefer-namespace")
            }
            _ => (
                "it is as old, and its namespace, name or place in the files comes first",
                "remove the host from one of the entries, or decide with --prefer-namespace",
            ),
        };
        // Nothing routes a client to what this entry gives: it asks for the host, and hears of the other addresses.
        let split = match loser.claim.addresses().find(|address| !answered.contains(address)) {
            Some(address) => format!("; {address}, which this entry gives it, is not answered"),
            None => String::new(),
        };
        Finding::new(
            Code::ClaimLost,
            self.id(&loser.entry).to_string(),
            loser.field(),
            &host.to_string(),
            format!("{} owns the host: {reason}{split}", self.id(&winner.entry)),
            remedy,
        )
    }

    pub(super) fn id(&self, entry: &View<'_>) -> EntryId {
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
        } else if entry.is_allocated() && !host.wildcard {
            "list addresses in spec.addresses, let istiod allocate them (status.addresses), or set --default-address"
        } else {
            "list addresses in spec.addresses, or set --default-address (istiod allocates none to a wildcard, to an entry that \
             lists something, or to one with the label networking.istio.io/enable-autoallocate-ip: false)"
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

/// S7, D22: the last addresses of a host that has very many have no PTR record.
fn too_many_pointing(id: &EntryId, field: &str, value: &str, what: String) -> Finding {
    Finding::new(
        Code::LimitExceeded,
        id.to_string(),
        field,
        value,
        format!(
            "{what} in reverse zones; only the first {MOST_POINTING} of them, IPv4 before IPv6, have PTR records"
        ),
        "give the host fewer addresses, or none that needs a name",
    )
}

/// O5: what a stub domain cannot keep to.
fn export_beyond(id: &EntryId) -> Finding {
    Finding::new(
        Code::ExportBeyond,
        id.to_string(),
        "spec.exportTo",
        "",
        "the entry is exported to some namespaces only, and DNS answers its hosts to everybody: a stub domain does not \
         tell which namespace asks",
        "nothing, if everybody may see these names; else leave such entries out with --public-only",
    )
}

impl Claimant<'_> {
    /// The path of the claim, for findings.
    fn field(&self) -> String {
        format!("spec.hosts[{}]", self.claim.field())
    }
}

/// Who gives addresses that several entries seem to give.
#[derive(Default)]
struct Uses {
    /// Entries, and whether their addresses were allocated.
    users: Vec<(EntryId, bool)>,
    lists: Vec<List>,
    /// An address and the list it is in.
    uses: Vec<(IpAddr, u32)>,
}

/// A list of addresses, and its entry.
struct List {
    user: usize,
    /// The first two of those that have it.
    hosts: Vec<Host>,
}

impl Uses {
    /// O4: one finding for each entry that uses an address another entry uses for another host. Returns how much was
    /// looked at.
    fn search(mut self, show: &mut impl FnMut(Finding)) -> usize {
        let mut looked = 0;
        self.uses.sort_unstable();
        for group in self.uses.chunk_by(|a, b| a.0 == b.0) {
            looked += self.search_address(group, show);
        }
        looked
    }

    fn search_address(&self, group: &[(IpAddr, u32)], show: &mut impl FnMut(Finding)) -> usize {
        let lists = || group.iter().map(|(_, list)| &self.lists[*list as usize]);
        let mut looked = group.len();
        // A host list of one entry may have very many.
        if lists().all(|list| list.user == lists().next().map_or(0, |first| first.user)) {
            return looked;
        }
        let mut uses: Vec<(&Host, usize)> =
            lists().flat_map(|list| list.hosts.iter().map(|host| (host, list.user))).collect();
        uses.sort_unstable_by_key(|(host, user)| (*host, &self.users[*user].0));
        // Where another host than the first begins; without one, all is as it should be.
        let Some(others) = uses.iter().position(|(host, _)| *host != uses[0].0) else { return looked };
        let mut reported = HashSet::new();
        for (host, user) in &uses {
            if reported.contains(user) {
                continue;
            }
            let from = if *host == uses[0].0 { others } else { 0 };
            let is_another = |(another, by): &&(&Host, usize)| {
                looked += 1;
                another != host && by != user
            };
            let Some((other, by)) = uses[from..].iter().find(is_another) else { continue };
            reported.insert(*user);
            let (entry, allocated) = &self.users[*user];
            show(Finding::new(
                Code::AddressShared,
                entry.to_string(),
                if *allocated { "status.addresses" } else { "spec.addresses" },
                &group[0].0.to_string(),
                format!(
                    "{host} and {other} of {} have the same address; on TCP ports the mesh cannot tell them apart",
                    self.users[*by].0
                ),
                "give every host an address of its own",
            ));
        }
        looked
    }
}
