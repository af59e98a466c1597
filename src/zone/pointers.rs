//! The PTR records of reverse zones (D22): which hosts are answered with an address.
//!
//! A row for each host and address, in the order of addresses: so the names between a zone and its addresses, which exist
//! as empty non-terminals, are ranges, and a million hosts with one address cost what a million with one each do. Kept
//! only where there is a reverse zone. It has a lock, unlike the names of hosts: it is held for a row at a time, and
//! readers that want another name do not see it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{PoisonError, RwLock};

use crate::wire::name::Name;

/// PTR records of one address that are answered (D22). More are a shared VIP, and the names say no more than the first.
pub(super) const MOST_POINTERS: usize = 64;

/// An address and the octets of a host's name.
type Row = (IpAddr, Box<[u8]>);

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
pub struct Stale(pub(super) Vec<(IpAddr, Name)>);

impl Pointers {
    /// Puts a row in; the TTL that it had before.
    pub(super) fn insert(&self, address: IpAddr, host: &Name, ttl: u32) -> Option<u32> {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert((address, host.wire().into()), ttl)
    }

    /// Takes a row out; its TTL.
    pub(super) fn remove(&self, address: IpAddr, host: &Name) -> Option<u32> {
        let row = (address, host.wire().into());
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&row)
    }

    /// Whether one of these addresses has a row.
    pub(super) fn has_any(&self, addresses: &RangeInclusive<IpAddr>) -> bool {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        rows.range(first(*addresses.start())..).next().is_some_and(|((a, _), _)| a <= addresses.end())
    }

    /// The hosts of an address; none if it has none.
    pub(super) fn of(&self, address: IpAddr) -> Pointed {
        let rows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut pointed = Pointed { hosts: Vec::new(), ttl: u32::MAX };
        for ((_, host), ttl) in
            rows.range(first(address)..).take_while(|((a, _), _)| *a == address).take(MOST_POINTERS)
        {
            pointed.hosts.push(Name::from_tail(host.clone()));
            pointed.ttl = pointed.ttl.min(*ttl);
        }
        pointed
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
    (address, Box::default())
}
