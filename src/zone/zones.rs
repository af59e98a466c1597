//! The zones of this server (chapter Z) and what each counts.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use foldhash::fast::RandomState;

use super::owned::{Owned, Ownership};
use super::{Host, reverse};
use crate::wire::name::{self, Name};

/// The labels of `ns.dns` in front of a zone: its name server (D5).
pub const NS_LABELS: [u8; 7] = *b"\x02ns\x03dns";
/// The label in front of a zone in the mailbox of its SOA (D5).
pub const HOSTMASTER_LABEL: [u8; 11] = *b"\x0ahostmaster";
/// REFRESH, RETRY and EXPIRE of the SOA, seconds (D5).
pub const SOA_TIMERS: [u32; 3] = [7200, 1800, 86400];

/// One zone we are authoritative for.
#[derive(Debug)]
pub struct Zone {
    apex: Name,
    /// Position in [`Zones::iter`], for dense counters.
    index: usize,
    parent: Option<usize>,
    reverse: bool,
    serial: AtomicU32,
    hosts: AtomicUsize,
    wildcards: AtomicUsize,
    digest: AtomicU64,
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

    /// Hosts with answers, wildcards included; PTR records of a reverse zone.
    pub fn hosts(&self) -> usize {
        self.hosts.load(Ordering::Relaxed)
    }

    /// A hash of all answers, below 2⁵³: a number that a metric can hold (L8).
    pub fn digest(&self) -> u64 {
        self.digest.load(Ordering::Relaxed) >> 11
    }

    /// Whether its names are those of addresses (D22).
    pub fn is_reverse(&self) -> bool {
        self.reverse
    }

    /// The same, as the table's keys have it.
    pub(super) fn number(&self) -> u16 {
        self.index as u16
    }

    /// A host is about to get answers. Counted before it is visible: a reader that sees no wildcard in the count
    /// does not look for one.
    pub(super) fn adds(&self, host: &Host) {
        self.hosts.fetch_add(1, Ordering::Relaxed);
        if host.wildcard {
            self.wildcards.fetch_add(1, Ordering::Release);
        }
    }

    /// A host has lost its answers.
    pub(super) fn has_removed(&self, host: &Host) {
        self.hosts.fetch_sub(1, Ordering::Relaxed);
        if host.wildcard {
            self.wildcards.fetch_sub(1, Ordering::Release);
        }
    }

    /// The hash of all answers is another by `difference`.
    pub(super) fn is_worth(&self, difference: u64) {
        self.digest.fetch_add(difference, Ordering::Relaxed);
    }

    /// A PTR record has come or gone.
    pub(super) fn counts_pointer(&self, comes: bool) {
        if comes {
            self.hosts.fetch_add(1, Ordering::Relaxed);
        } else {
            self.hosts.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Something visible has changed (D6). `now` in Unix seconds.
    pub(super) fn has_changed(&self, now: u32) {
        self.serial.fetch_max(now, Ordering::Relaxed);
    }

    /// Whether any wildcard is served.
    pub(super) fn has_wildcards(&self) -> bool {
        self.wildcards.load(Ordering::Acquire) > 0
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
    /// Of most tails of a name the length alone tells that they are no zone, or which one they can be.
    by_length: [OfLength; name::MAX_WIRE + 1],
    cluster_domain: Name,
    owned: Owned,
    /// The addresses of the reverse zones and their positions, in order: none meets another.
    reverse: Vec<(RangeInclusive<IpAddr>, usize)>,
}

/// The zones whose name has so many octets.
#[derive(Clone, Copy, Debug)]
enum OfLength {
    None,
    One(u16),
    Many,
}

/// Why a list of zones is refused (Z2).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ZoneError {
    /// More than the table's keys can tell apart.
    #[error("{0} zones are given; at most 65536 can be served")]
    TooMany(usize),
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
    /// A suffix with owners, and no names here (O6).
    #[error(
        "{0:?} is in none of the zones, so nobody can own its names here; give a suffix that is, or its zone with --zone"
    )]
    OwnedOutside(String),
    /// A reverse zone that is, or lies in, another zone, or the other way round.
    #[error(
        "zone {0:?} of --reverse and zone {1:?} of --zone lie in one another; leave one out: --reverse has the names of \
         addresses, --zone those that entries list"
    )]
    ReverseInside(String, String),
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
        if apexes.len() > usize::from(u16::MAX) + 1 {
            return Err(ZoneError::TooMany(apexes.len()));
        }
        for zone in &apexes {
            let dns = zone.prepend("dns");
            if let Some(taken) = apexes.iter().find(|apex| **apex == dns || **apex == dns.prepend("ns")) {
                return Err(ZoneError::NameServer(taken.to_string(), zone.to_string()));
            }
        }
        let mut zones = Zones {
            zones: Vec::new(),
            by_apex: apexes.iter().cloned().enumerate().map(|(i, apex)| (apex, i)).collect(),
            by_length: [OfLength::None; name::MAX_WIRE + 1],
            cluster_domain,
            owned: Owned::default(),
            reverse: Vec::new(),
        };
        for apex in apexes {
            zones.push(apex, false, now);
        }
        Ok(zones)
    }

    /// The same zones, and reverse ones (D22), which [`super::reverse::zones`] has made.
    pub fn with_reverse(mut self, apexes: Vec<Name>, now: u32) -> Result<Zones, ZoneError> {
        for apex in apexes {
            let touches =
                |zone: &&Zone| !zone.reverse && (zone.apex.covers(&apex) || apex.covers(&zone.apex));
            if let Some(zone) = self.zones.iter().find(touches) {
                return Err(ZoneError::ReverseInside(apex.to_string(), zone.apex.to_string()));
            }
            if self.zones.len() > usize::from(u16::MAX) {
                return Err(ZoneError::TooMany(self.zones.len() + 1));
            }
            self.by_apex.insert(apex.clone(), self.zones.len());
            self.reverse
                .extend(reverse::addresses(apex.wire()).map(|addresses| (addresses, self.zones.len())));
            self.push(apex, true, now);
        }
        self.reverse.sort_unstable_by_key(|(addresses, _)| *addresses.start());
        Ok(self)
    }

    fn push(&mut self, apex: Name, reverse: bool, now: u32) {
        let index = self.zones.len();
        let known = &mut self.by_length[apex.wire().len()];
        *known = if matches!(known, OfLength::None) { OfLength::One(index as u16) } else { OfLength::Many };
        self.zones.push(Zone {
            parent: std::iter::successors(name::parent(apex.wire()), |up| name::parent(up))
                .find_map(|up| self.by_apex.get(up).copied()),
            apex,
            index,
            reverse,
            serial: AtomicU32::new(now),
            hosts: AtomicUsize::new(0),
            wildcards: AtomicUsize::new(0),
            digest: AtomicU64::new(0),
        });
    }

    /// Whether any zone is a reverse one.
    pub fn has_reverse(&self) -> bool {
        !self.reverse.is_empty()
    }

    /// The reverse zone that an address has its name in.
    pub fn reverse_of(&self, address: IpAddr) -> Option<&Zone> {
        let behind = self.reverse.partition_point(|(addresses, _)| *addresses.start() <= address);
        let (addresses, at) = self.reverse.get(behind.checked_sub(1)?)?;
        addresses.contains(&address).then(|| &self.zones[*at])
    }

    /// The same zones, where some suffixes belong to some namespaces (O6).
    pub fn owned_by(self, ownerships: Vec<Ownership>) -> Result<Zones, ZoneError> {
        if let Some(outside) = ownerships.iter().find(|owned| self.covering(owned.suffix.wire()).is_none()) {
            return Err(ZoneError::OwnedOutside(outside.suffix.to_string()));
        }
        Ok(Zones { owned: Owned::new(ownerships), ..self })
    }

    /// O6: the owned suffix that keeps `namespace` from giving a host of this name, and whose it is. The name of a
    /// wildcard is its suffix: what it answers lies below.
    pub fn owned_by_others(&self, name: &Name, namespace: &str) -> Option<(&Name, &BTreeSet<String>)> {
        self.owned.covering(name.wire()).filter(|(_, namespaces)| !namespaces.contains(namespace))
    }

    /// O6: whether an owned suffix lies between a name and the suffix of a wildcard above it, and is not that suffix.
    /// Both as lower-case wire names.
    pub fn is_cut_off(&self, name: &[u8], wildcard: &[u8]) -> bool {
        self.owned.covering(name).is_some_and(|(owned, _)| owned.wire().len() > wildcard.len())
    }

    /// The cluster's own domain, which is none of the zones (Z2).
    pub fn cluster_domain(&self) -> &Name {
        &self.cluster_domain
    }

    /// In the order they were configured.
    pub fn iter(&self) -> impl Iterator<Item = &Zone> {
        self.zones.iter()
    }

    /// The zone of an index.
    pub fn get(&self, index: usize) -> Option<&Zone> {
        self.zones.get(index)
    }

    /// How many zones there are: at least one.
    pub fn count(&self) -> usize {
        self.zones.len()
    }

    /// The longest zone a lower-case wire name ends in (Z3), and the offset of its apex in the name.
    pub fn covering(&self, name: &[u8]) -> Option<(&Zone, usize)> {
        let run = name.get(..name.len().checked_sub(1)?)?;
        name::offsets(run).find_map(|at| {
            let tail = &name[at..];
            let zone = match self.by_length.get(tail.len())? {
                OfLength::None => return None,
                OfLength::One(i) => &self.zones[usize::from(*i)],
                OfLength::Many => &self.zones[*self.by_apex.get(tail)?],
            };
            (zone.apex.wire() == tail).then_some((zone, at))
        })
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
    pub fn is_search_path_product(&self, relative: &[u8]) -> bool {
        let cluster = self.cluster_domain.labels_wire();
        name::ends_in(relative, cluster)
            || self.zones.iter().any(|zone| name::ends_in(relative, zone.apex.labels_wire()))
    }
}
