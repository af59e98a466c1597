//! One host's answers: the addresses as octets, ready to be copied into a reply.

use std::net::IpAddr;

use crate::wire::rtype;

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

    /// Octets of one address.
    pub fn address_size(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }
}

/// The A and AAAA record sets of one host, in listed order (A6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    ttl: u32,
    v4: Box<[[u8; 4]]>,
    v6: Box<[[u8; 16]]>,
}

/// [`Answers`] wherever they are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswersRef<'t> {
    /// Seconds.
    pub(super) ttl: u32,
    /// RDATA of the A records, RFC 1035 section 3.4.1.
    pub v4: &'t [[u8; 4]],
    /// RDATA of the AAAA records, RFC 3596 section 2.2.
    pub v6: &'t [[u8; 16]],
}

impl Answers {
    /// Answers from addresses; `None` without any, because such a host does not exist (A7). `ttl` in seconds.
    pub fn new(addresses: &[IpAddr], ttl: u32) -> Option<Answers> {
        let v4 = |a: &IpAddr| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None };
        let v6 = |a: &IpAddr| if let IpAddr::V6(a) = a { Some(a.octets()) } else { None };
        (!addresses.is_empty()).then(|| Answers {
            ttl,
            v4: addresses.iter().filter_map(v4).collect(),
            v6: addresses.iter().filter_map(v6).collect(),
        })
    }

    /// The same, borrowed.
    pub fn view(&self) -> AnswersRef<'_> {
        AnswersRef { ttl: self.ttl, v4: &self.v4, v6: &self.v6 }
    }
}

impl<'t> AnswersRef<'t> {
    /// How many addresses of one family there are.
    pub fn count(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.len(),
            Family::V6 => self.v6.len(),
        }
    }

    /// The TTL all records share, in seconds.
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The addresses of one family in listed order.
    pub fn addresses(&self, family: Family) -> impl Iterator<Item = IpAddr> + use<'t> {
        let (v4, v6): (&'t [_], &'t [_]) = match family {
            Family::V4 => (self.v4, &[]),
            Family::V6 => (&[], self.v6),
        };
        v4.iter().map(|a| IpAddr::from(*a)).chain(v6.iter().map(|a| IpAddr::from(*a)))
    }
}
