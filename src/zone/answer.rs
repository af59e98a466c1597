//! One host's answers: the addresses as octets, ready to be copied into a reply.

use std::net::IpAddr;
use std::sync::Arc;

use super::extra::Extra;
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

/// The A and AAAA record sets of one host, in listed order (A6). A copy shares them: the hosts of one entry have the
/// same, and there may be ten thousand with a thousand addresses (S7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    ttl: u32,
    v4: Arc<[[u8; 4]]>,
    v6: Arc<[[u8; 16]]>,
    extra: Option<Arc<Extra>>,
}

/// [`Answers`] wherever they are kept.
#[derive(Clone, Copy, Debug)]
pub enum AnswersRef<'t> {
    /// A single IPv4 address and its TTL in seconds: what nearly every host of a mesh has.
    One(&'t [[u8; 4]; 1], u16),
    /// Any.
    Many(&'t Answers),
}

impl Answers {
    /// Answers from addresses; `None` without any, because such a host does not exist (A7). `ttl` in seconds.
    pub fn new(addresses: &[IpAddr], ttl: u32) -> Option<Answers> {
        let v4 = |a: &IpAddr| if let IpAddr::V4(a) = a { Some(a.octets()) } else { None };
        let v6 = |a: &IpAddr| if let IpAddr::V6(a) = a { Some(a.octets()) } else { None };
        (!addresses.is_empty()).then(|| Answers {
            ttl,
            v4: shared(addresses.iter().filter_map(v4)),
            v6: shared(addresses.iter().filter_map(v6)),
            extra: None,
        })
    }

    /// The same with another TTL in seconds.
    pub fn with_ttl(&self, ttl: u32) -> Answers {
        Answers { ttl, ..self.clone() }
    }

    /// The same with what the host has beside addresses.
    pub fn with_extra(self, extra: Option<Arc<Extra>>) -> Answers {
        Answers { extra, ..self }
    }

    /// The same, borrowed.
    pub fn view(&self) -> AnswersRef<'_> {
        AnswersRef::Many(self)
    }
}

/// Nearly every host lacks one family: nothing takes no room.
fn shared<T>(records: impl Iterator<Item = T>) -> Arc<[T]> {
    let records: Vec<T> = records.collect();
    if records.is_empty() { Arc::default() } else { records.into() }
}

impl<'t> AnswersRef<'t> {
    /// A copy to keep.
    pub fn to_answers(self) -> Answers {
        match self {
            AnswersRef::One(v4, ttl) => {
                Answers { ttl: ttl.into(), v4: Arc::new(*v4), v6: Arc::default(), extra: None }
            }
            AnswersRef::Many(answers) => answers.clone(),
        }
    }

    /// RDATA of the A records, in listed order (RFC 1035 section 3.4.1).
    pub fn v4(self) -> &'t [[u8; 4]] {
        match self {
            AnswersRef::One(v4, _) => v4,
            AnswersRef::Many(answers) => &answers.v4,
        }
    }

    /// RDATA of the AAAA records, in listed order (RFC 3596 section 2.2).
    pub fn v6(self) -> &'t [[u8; 16]] {
        match self {
            AnswersRef::One(..) => &[],
            AnswersRef::Many(answers) => &answers.v6,
        }
    }

    /// The TTL all records share, in seconds.
    pub fn ttl(self) -> u32 {
        match self {
            AnswersRef::One(_, ttl) => ttl.into(),
            AnswersRef::Many(answers) => answers.ttl,
        }
    }

    /// What the host has beside addresses, if that is kept.
    pub fn extra(self) -> Option<&'t Extra> {
        match self {
            AnswersRef::One(..) => None,
            AnswersRef::Many(answers) => answers.extra.as_deref(),
        }
    }

    /// Whether there are addresses of one family.
    pub fn has(self, family: Family) -> bool {
        match family {
            Family::V4 => !self.v4().is_empty(),
            Family::V6 => !self.v6().is_empty(),
        }
    }

    /// The addresses of one family in listed order.
    pub fn addresses(self, family: Family) -> impl Iterator<Item = IpAddr> + use<'t> {
        let (v4, v6): (&'t [_], &'t [_]) = match family {
            Family::V4 => (self.v4(), &[]),
            Family::V6 => (&[], self.v6()),
        };
        v4.iter().map(|a| IpAddr::from(*a)).chain(v6.iter().map(|a| IpAddr::from(*a)))
    }
}

impl PartialEq for AnswersRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.ttl(), self.v4(), self.v6(), self.extra())
            == (other.ttl(), other.v4(), other.v6(), other.extra())
    }
}

impl Eq for AnswersRef<'_> {}
