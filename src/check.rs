//! What `globaldns check` finds beyond what every server finds (F3): of ranges, of ports, and of zones in the world.
//!
//! Synchronous, over what was read once: [`Read::of`] keeps of an object what the looks below need.

pub mod places;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::entry::{self, Entry, EntryId, Origin};
use crate::finding::{Code, Finding};
use crate::limits::MOST_ITEMS;
use crate::zone::{Host, Zones};

/// Who has the addresses of a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// The cluster gives them to its pods.
    Pods,
    /// To its Services.
    Services,
    /// Its nodes have them.
    Nodes,
    /// Somebody else allocates VIPs from it.
    Allocator {
        /// Who, for the message.
        name: String,
        /// The namespace in which that one writes entries of its own.
        namespace: Option<String>,
    },
}

/// A range of addresses, and who has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The range; of one address as well.
    pub net: IpNet,
    /// Whose it is.
    pub holder: Holder,
}

/// The namespace Admiral writes its entries to unless it is told otherwise (`--sync_namespace`).
const ADMIRAL_NAMESPACE: &str = "admiral-sync";

impl Range {
    /// The ranges from which others allocate by default. Istio's are those of pilot/pkg/features/pilot.go
    /// (`PILOT_IP_AUTOALLOCATE_IPV4_PREFIX`, `…_IPV6_PREFIX`), Admiral's follows from its flag `--se_ip_prefix 240.0`.
    pub fn usual() -> [Range; 3] {
        let range = |net: ([u8; 4], u8), name: &str, namespace: Option<&str>| Range {
            net: IpNet::new_assert(IpAddr::from(net.0), net.1),
            holder: Holder::Allocator { name: name.to_owned(), namespace: namespace.map(str::to_owned) },
        };
        let v6 = IpNet::new_assert(IpAddr::from([0x2001, 2, 0, 0, 0, 0, 0, 0]), 48);
        [
            range(([240, 240, 0, 0], 16), "istiod", None),
            Range { net: v6, ..range(([240, 240, 0, 0], 16), "istiod", None) },
            range(([240, 0, 0, 0], 16), "Admiral", Some(ADMIRAL_NAMESPACE)),
        ]
    }
}

/// What is kept of an entry.
#[derive(Debug)]
pub struct Read {
    id: EntryId,
    /// The first host in our zones.
    host: Host,
    /// The first two hosts without an address: two tell whether somebody's host is another one.
    bare: Vec<Host>,
    /// Addresses given by hand that are served, with their position in `spec.addresses`.
    addresses: Vec<(usize, IpAddr)>,
    resolution_none: bool,
    /// istiod may allocate addresses to it (A2).
    allocatable: bool,
    /// The namespaces that see it; nothing if all do.
    seen_by: Option<BTreeSet<String>>,
    /// Ports whose traffic tells nothing of the host, with their position in `spec.ports`.
    opaque: Vec<(usize, u16)>,
}

impl Read {
    /// What is needed of an object and the entry it became; nothing of one that has no host in our zones.
    pub fn of(object: &Value, entry: &Entry) -> Option<Read> {
        let host = entry.claims.first()?.host.clone();
        // What istiod may allocate is seen in a cluster, and never in a file.
        let stays_bare =
            |host: &&Host| entry.id.origin == Origin::Object || !entry.allocated || host.wildcard;
        let without = entry.claims.iter().filter(|claim| claim.addresses.is_empty());
        let mut bare: Vec<Host> = Vec::new();
        for host in without.map(|claim| &claim.host).filter(stays_bare) {
            if bare.len() < 2 && bare.first() != Some(host) {
                bare.push(host.clone());
            }
        }
        let spec = object.get("spec");
        let list = |key: &str| spec.and_then(|spec| spec.get(key)).and_then(Value::as_array);
        let items = |key: &str| list(key).into_iter().flatten().enumerate();
        let served = |address: &IpAddr| entry.claims.iter().any(|claim| claim.addresses.contains(address));
        let addresses = items("addresses").filter_map(|(at, text)| Some((at, one_address(text.as_str()?)?)));
        let port = |(at, port): (usize, &Value)| {
            let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or_default();
            let number = port.get("number").and_then(Value::as_u64)?;
            let opaque = OPAQUE.iter().any(|known| protocol.eq_ignore_ascii_case(known));
            opaque.then_some((at, u16::try_from(number).ok()?))
        };
        let seen_by =
            items("exportTo").filter_map(|(_, target)| target.as_str()).map(|target| match target {
                "." => entry.id.namespace.to_string(),
                namespace => namespace.to_owned(),
            });
        Some(Read {
            id: entry.id.clone(),
            host,
            addresses: if entry.allocated {
                Vec::new()
            } else {
                addresses.filter(|(_, address)| served(address)).collect()
            },
            resolution_none: entry.resolution_none,
            allocatable: entry.allocated,
            seen_by: if entry.public { None } else { Some(seen_by.take(MOST_ITEMS).collect()) },
            opaque: if bare.is_empty() { Vec::new() } else { items("ports").filter_map(port).collect() },
            bare,
        })
    }

    fn finding(
        &self,
        code: Code,
        field: String,
        value: &str,
        why: impl Into<String>,
        remedy: &str,
    ) -> Finding {
        Finding::new(code, self.id.to_string(), field, value, why, remedy)
    }
}

/// Protocols in which a client does not say whom it wants to talk to; the names are Istio's.
const OPAQUE: [&str; 4] = ["TCP", "MONGO", "MYSQL", "REDIS"];

/// An address as A1 has it.
fn one_address(text: &str) -> Option<IpAddr> {
    let net = entry::network(text)?;
    (net.prefix_len() == net.max_prefix_len()).then(|| net.addr())
}

/// Every finding of F3 about entries that needs more than the index, for entries by who they are.
pub fn search(read: &BTreeMap<EntryId, Read>, ranges: Vec<Range>) -> Vec<Finding> {
    let ranges = Ranges::new(ranges, read);
    let of_ranges = read.values().flat_map(|entry| ranges.search(entry));
    of_ranges.chain(ports(read)).collect()
}

/// Ranges, so that the addresses of a million entries are found in those of thousands of nodes.
struct Ranges {
    single: HashMap<IpAddr, Holder>,
    wide: Vec<Range>,
}

impl Ranges {
    /// Ranges in which something may clash: of an allocator that writes its own entries, only if it has written some.
    fn new(ranges: Vec<Range>, read: &BTreeMap<EntryId, Read>) -> Ranges {
        let is_there = |range: &Range| match &range.holder {
            Holder::Allocator { namespace: Some(namespace), .. } => {
                read.keys().any(|id| *id.namespace == **namespace)
            }
            _ => true,
        };
        let (single, mut wide): (Vec<_>, Vec<_>) = ranges
            .into_iter()
            .filter(is_there)
            .partition(|range| range.net.prefix_len() == range.net.max_prefix_len());
        // What the cluster itself has says more than who might allocate.
        wide.sort_by_key(|range| matches!(range.holder, Holder::Allocator { .. }));
        let single = single.into_iter().map(|range| (range.net.addr(), range.holder)).collect();
        Ranges { single, wide }
    }

    fn holder(&self, address: IpAddr) -> Option<(&Holder, String)> {
        let wide = || self.wide.iter().find(|range| range.net.contains(&address));
        let single = self.single.get(&address).map(|holder| (holder, address.to_string()));
        single.or_else(|| wide().map(|range| (&range.holder, range.net.to_string())))
    }

    fn search(&self, entry: &Read) -> Vec<Finding> {
        // With NONE the mesh sends traffic on to the very address: it is meant to be somebody's.
        if entry.resolution_none {
            return Vec::new();
        }
        let find = |(at, address): &(usize, IpAddr)| {
            let (holder, range) = self.holder(*address)?;
            let field = format!("spec.addresses[{at}]");
            let value = address.to_string();
            let whose = match holder {
                Holder::Pods => "pods",
                Holder::Services => "Services",
                Holder::Nodes => "nodes",
                Holder::Allocator { namespace: Some(own), .. } if *entry.id.namespace == **own => {
                    return None;
                }
                Holder::Allocator { name, .. } => {
                    return Some(entry.finding(
                        Code::AddressAllocatable,
                        field,
                        &value,
                        format!("{name} allocates addresses from {range}, and may give this one to another host"),
                        "choose an address outside of that range, or leave spec.addresses out and let it allocate one",
                    ));
                }
            };
            Some(entry.finding(
                Code::AddressInCluster,
                field,
                &value,
                format!(
                    "it is among the addresses of the cluster's {whose} ({range}): who has no sidecar reaches whoever \
                     has it, and not {}",
                    entry.host
                ),
                "choose an address that nobody has, such as one from 240.0.0.0/4 outside of the ranges others allocate \
                 from",
            ))
        };
        entry.addresses.iter().filter_map(find).collect()
    }
}

/// A host without an address on a port, and the position of that in its entry.
#[derive(Clone, Copy)]
struct User<'r> {
    entry: &'r Read,
    at: usize,
    host: &'r Host,
}

/// Users of a port: the first, and the first with another host than that one's.
#[derive(Default)]
struct Users<'r> {
    first: Option<User<'r>>,
    other: Option<User<'r>>,
}

impl<'r> Users<'r> {
    fn add(&mut self, user: User<'r>) {
        let first = self.first.get_or_insert(user);
        if first.host != user.host {
            self.other.get_or_insert(user);
        }
    }

    /// Whoever has another host.
    fn beside(&self, host: &Host) -> Option<User<'r>> {
        self.first.filter(|first| first.host != host).or(self.other)
    }
}

/// Users of a port by who sees them.
#[derive(Default)]
struct Seen<'r> {
    by_all: Users<'r>,
    by_some: Users<'r>,
    by_namespace: HashMap<&'r str, Users<'r>>,
}

impl<'r> Seen<'r> {
    fn add(&mut self, user: User<'r>) {
        let Some(namespaces) = &user.entry.seen_by else { return self.by_all.add(user) };
        for namespace in namespaces {
            self.by_some.add(user);
            self.by_namespace.entry(namespace).or_default().add(user);
        }
    }

    /// Whoever has another host and is seen by somebody who sees this one.
    fn beside(&self, user: &User<'r>) -> Option<User<'r>> {
        let all = self.by_all.beside(user.host);
        all.or_else(|| match &user.entry.seen_by {
            None => self.by_some.beside(user.host),
            Some(namespaces) => {
                let mut groups =
                    namespaces.iter().filter_map(|namespace| self.by_namespace.get(&**namespace));
                groups.find_map(|users| users.beside(user.host))
            }
        })
    }
}

/// Hosts without an address on one TCP port: where somebody sees both, the mesh has only the port to tell their traffic
/// apart, in whatever namespace they are.
fn ports(read: &BTreeMap<EntryId, Read>) -> Vec<Finding> {
    let mut by_port: BTreeMap<u16, Vec<User<'_>>> = BTreeMap::new();
    for entry in read.values() {
        for (at, port) in &entry.opaque {
            let users = entry.bare.iter().map(|host| User { entry, at: *at, host });
            by_port.entry(*port).or_default().extend(users);
        }
    }
    let mut findings = Vec::new();
    for (port, users) in by_port {
        let mut seen = Seen::default();
        users.iter().for_each(|user| seen.add(*user));
        let clashes = users.iter().filter_map(|user| Some((user, seen.beside(user)?)));
        // Once for an entry, whose hosts are beside each other.
        let mut told: Option<(&EntryId, usize)> = None;
        for (user, other) in clashes {
            if told.replace((&user.entry.id, user.at)) != Some((&user.entry.id, user.at)) {
                findings.push(port_shared(port, user, &other));
            }
        }
    }
    findings
}

fn port_shared(port: u16, user: &User<'_>, other: &User<'_>) -> Finding {
    let User { entry, at, host } = user;
    let own = entry.id == other.entry.id;
    let whose = if own { "this entry".to_owned() } else { other.entry.id.to_string() };
    let given = if own {
        "give each of them an entry of its own, with an address in spec.addresses"
    } else {
        "give each of them an address of its own in spec.addresses"
    };
    let remedy = if entry.resolution_none {
        format!("{given}; with resolution NONE istiod allocates none")
    } else if host.wildcard {
        format!("{given}; istiod allocates none to a wildcard")
    } else if entry.allocatable {
        format!("{given}, or let istiod allocate them")
    } else {
        given.to_owned()
    };
    entry.finding(
        Code::PortShared,
        format!("spec.ports[{at}].number"),
        &port.to_string(),
        format!(
            "{host} and {} of {whose} have no address and the same TCP port, so the mesh cannot tell them apart",
            other.host
        ),
        &remedy,
    )
}

/// Zones that the world has, too.
pub fn public_zones(zones: &Zones) -> Vec<Finding> {
    let find = |name: String| {
        let suffix = psl::suffix(name.as_bytes())?;
        let public = suffix.as_bytes() == name.as_bytes() && suffix.typ() == Some(psl::Type::Icann);
        public.then(|| {
            Finding::new(
                Code::ZonePublic,
                name.clone(),
                "--zone",
                &name,
                format!(
                    "{name} is a public suffix, below which anybody may register names: who asks this server cannot \
                     look those up, and what does not come here asks public DNS for the names of the mesh"
                ),
                "nothing, if nobody needs public names below it; else choose zones below a domain of your own",
            )
        })
    };
    zones.iter().filter_map(|zone| find(zone.apex().to_string())).collect()
}

#[cfg(test)]
mod tests;
