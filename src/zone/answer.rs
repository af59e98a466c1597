//! One host's answers, encoded once when the host changes; a query only copies octets.

use std::net::IpAddr;

use crate::wire::reply::QUESTION_POINTER;
use crate::wire::{CLASS_IN, rtype};

/// Octets of an encoded A record whose owner is a pointer.
pub const A_RECORD: usize = 16;
/// Octets of an encoded AAAA record whose owner is a pointer.
pub const AAAA_RECORD: usize = 28;

/// Address family of a record set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// A records.
    V4,
    /// AAAA records.
    V6,
}

impl Family {
    /// The family an address belongs to.
    pub fn of(address: IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Record type number.
    pub fn rtype(self) -> u16 {
        match self {
            Family::V4 => rtype::A,
            Family::V6 => rtype::AAAA,
        }
    }

    /// Octets of one encoded record.
    pub fn record_size(self) -> usize {
        match self {
            Family::V4 => A_RECORD,
            Family::V6 => AAAA_RECORD,
        }
    }
}

/// The A and AAAA record sets of one host, in listed order (A6), owner names left to the query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    v4: Box<[u8]>,
    v6: Box<[u8]>,
}

impl Answers {
    /// Encodes addresses; `None` without any, because such a host does not exist (A7).
    pub fn encode(addresses: &[IpAddr], ttl: u32) -> Option<Answers> {
        if addresses.is_empty() {
            return None;
        }
        let family = |family: Family| {
            let mut out = Vec::new();
            for address in addresses.iter().filter(|a| Family::of(**a) == family) {
                out.extend_from_slice(&QUESTION_POINTER);
                out.extend_from_slice(&family.rtype().to_be_bytes());
                out.extend_from_slice(&CLASS_IN.to_be_bytes());
                out.extend_from_slice(&ttl.to_be_bytes());
                match address {
                    IpAddr::V4(a) => {
                        out.extend_from_slice(&4u16.to_be_bytes());
                        out.extend_from_slice(&a.octets());
                    }
                    IpAddr::V6(a) => {
                        out.extend_from_slice(&16u16.to_be_bytes());
                        out.extend_from_slice(&a.octets());
                    }
                }
            }
            out.into_boxed_slice()
        };
        Some(Answers { v4: family(Family::V4), v6: family(Family::V6) })
    }

    /// The encoded records of one family.
    pub fn records(&self, family: Family) -> &[u8] {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    /// The TTL all records share, in seconds.
    pub fn ttl(&self) -> u32 {
        let records = if self.v4.is_empty() { &self.v6 } else { &self.v4 };
        u32::from_be_bytes([records[6], records[7], records[8], records[9]])
    }

    /// The addresses of one family in listed order.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> + '_ {
        self.records(family).chunks_exact(family.record_size()).map(|record| {
            let rdata = &record[12..];
            match <[u8; 4]>::try_from(rdata) {
                Ok(v4) => IpAddr::from(v4),
                Err(_) => IpAddr::from(<[u8; 16]>::try_from(rdata).unwrap_or_default()),
            }
        })
    }
}
