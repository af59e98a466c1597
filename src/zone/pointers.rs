//! The PTR records of reverse zones (D22): which hosts are answered with an address.
//!
//! A row for each host and address, in the order of addresses: so the names between a zone and its addresses, which exist
//! as empty non-terminals, are ranges, and a million hosts with one address cost what a million with one each do. Kept
//! only where there is a reverse zone, and of a host at most 16, which share its name. It has a lock, unlike the names of
//! hosts: a writer holds it for a row at a time, a reader for the rows of an address, and neither makes or copies a name
//! meanwhile. Readers that want another name do not see it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};

use crate::wire::name::Name;

/// PTR records of one address that are answered (D22). More are a shared VIP, and the names say no more than the first.
pub(super) const MOST_POINTERS: usize = 64;
/// Addresses of one host that have PTR records, IPv4 before IPv6 (S7). The hosts of an entry share their addresses, and
/// rows cannot be shared: without a bound one entry might make ten million.
pub const MOST_POINTING: usize = 16;

/// The octets of a host's name.
pub(super) type HostName = Arc<[u8]>;
/// An address and a host.
type Row = (IpAddr, HostName);

/// The rows, each with the TTL of its host's answers in seconds.
#[derive(Default)]
pub(super) struct Pointers(RwLock<BTreeMap<Row, u32>>);

/// The hosts of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pointed {
    /// At most 64, in the order of their octets on the wire.
    pub hosts: Vec<Name>,
    /// The lowest of theirs, in seconds: records of one set share it (RFC 2181 section 5.2).
    pub ttl: u32,
}

/// Rows that are no longer true, to be taken out once everything that is true is in.
#[derive(Default)]
#[must_use = "rows stay until they are taken out"]
pub struct Stale(pub(super) Vec<(IpAddr, HostName)>);

impl Pointers {
    /// Puts a row in; the TTL that it had before.
    pub(super) fn insert(&self, address: IpAddr, host: &HostName, ttl: u32) -> Option<u32> {
        let row = (address, host.clone());
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(row, ttl)
    }

    /// Takes a row out; its TTL.
    pub(super) fn remove(&self, address: IpAddr, host: &HostName) -> Option<u32> {
        let row = (address, host.clone());
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&row)
    }

    /// Whether one of these addresses has a row.
    pub(super) fn has_any(&self, addresses: &RangeInclusive<IpAddr>) -> bool {
        let first = first(*addresses.start());
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.range(first..).next().is_some_and(|((a, _), _)| a <= addresses.end())
    }

    /// The hosts of an address; none if it has none.
    pub(super) fn of(&self, address: IpAddr) -> Pointed {
        let first = first(address);
        let mut hosts: Vec<HostName> = Vec::with_capacity(MOST_POINTERS);
        let mut lowest = u32::MAX;
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        for ((_, host), ttl) in
            rows.range(first..).take_while(|((a, _), _)| *a == address).take(MOST_POINTERS)
        {
            hosts.push(host.clone());
            lowest = lowest.min(*ttl);
        }
        drop(rows);
        Pointed { hosts: hosts.into_iter().map(|host| Name::from_tail(&host[..])).collect(), ttl: lowest }
    }

    /// Every address that has a row, in order.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut addresses: Vec<_> = rows.keys().map(|(address, _)| *address).collect();
        addresses.dedup();
        addresses
    }
}

/// What comes before every row of an address.
fn first(address: IpAddr) -> Row {
    (address, Arc::default())
}
