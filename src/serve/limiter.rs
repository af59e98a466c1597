//! Response rate limiting (D20): so many UDP replies a second for each network of clients.
//!
//! Who answers whatever comes can be made to send to somebody who never asked: the address of a query is easily a lie.
//! So the replies to each network are counted in a table that all workers share and that never grows. It has no locks:
//! a network's count of the current second is one number, in one of the eight places of a cache line that a keyed hash
//! chooses. A network that is new takes the place of one that was quiet in this second, else of the one with the lowest
//! count. So whatever is forgotten is forgotten to somebody's advantage, and a flood from millions of networks
//! costs nobody his answers. What could cost them is that 24 more bits of the hash are equal: in the same line, for one
//! pair of networks in 16 million.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use siphasher::sip::SipHasher13;

use super::access::Access;
use crate::lifecycle::random;

/// Counts of a cache line.
const PLACES: usize = 8;
/// Lines of the table: 65,536 networks in a second, in 512 KiB.
const LINES: usize = 8192;
/// Tries to write a count, against other workers that write the same one. Whoever loses them all is answered.
const TRIES: usize = 100;
/// A count stops here.
const MOST_COUNTED: u64 = (1 << COUNT_BITS) - 1;
const COUNT_BITS: u32 = 20;
const SECOND_BITS: u32 = 20;
/// The largest `--rate-limit`.
pub const MOST: u32 = 500_000;
const _: () = assert!(MOST as u64 + SLOWEST_SLIP as u64 <= MOST_COUNTED);
/// The largest `--rate-limit-slip`, which is BIND's.
pub const SLOWEST_SLIP: u32 = 10;

/// `--rate-limit` and the flags that begin so.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Replies a second for each network, 1 to [`MOST`].
    pub rate: u32,
    /// Bits of an IPv4 address that make a network, 1 to 32.
    pub prefix_v4: u8,
    /// Bits of an IPv6 address that make a network, 1 to 128.
    pub prefix_v6: u8,
    /// Every n-th limited reply is sent truncated, up to [`SLOWEST_SLIP`]; 0 is none.
    pub slip: u32,
    /// Whom it never concerns.
    pub exempt: Access,
}

/// What becomes of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is sent.
    Pass,
    /// It is over the limit, and its turn to be sent in a short form.
    Slip,
    /// It is over the limit.
    Drop,
}

/// A cache line of counts.
#[repr(align(64))]
#[derive(Default)]
struct Line([AtomicU64; PLACES]);

/// Counts replies. Shared by all workers.
pub struct Limiter {
    limits: Limits,
    hasher: SipHasher13,
    lines: Box<[Line]>,
}

impl Limiter {
    /// With these limits; nobody outside can tell who shares a line.
    pub fn new(limits: Limits) -> Limiter {
        Limiter {
            limits,
            hasher: SipHasher13::new_with_key(&random()),
            lines: (0..LINES).map(|_| Line::default()).collect(),
        }
    }

    /// Counts one reply to a client, which is no IPv4-mapped address, in the second `now` of any clock: a clock that
    /// jumps begins a new second, and no more.
    pub fn take(&self, client: IpAddr, now: u32) -> Verdict {
        let Limits { rate, slip, ref exempt, .. } = self.limits;
        if exempt.allows(client) {
            return Verdict::Pass;
        }
        let Some(over) = self.count(self.network(client), now).checked_sub(rate).filter(|over| *over > 0)
        else {
            return Verdict::Pass;
        };
        if slip > 0 && over.is_multiple_of(slip) { Verdict::Slip } else { Verdict::Drop }
    }

    /// The octets of a client's network, and which family it is of.
    fn network(&self, client: IpAddr) -> [u8; 17] {
        let Limits { prefix_v4, prefix_v6, .. } = self.limits;
        let mut network = [0; 17];
        match client {
            IpAddr::V4(address) => {
                let bits = address.to_bits() & !u32::MAX.checked_shr(prefix_v4.into()).unwrap_or(0);
                network[..4].copy_from_slice(&bits.to_be_bytes());
                network[16] = 4;
            }
            IpAddr::V6(address) => {
                let bits = address.to_bits() & !u128::MAX.checked_shr(prefix_v6.into()).unwrap_or(0);
                network[..16].copy_from_slice(&bits.to_be_bytes());
                network[16] = 6;
            }
        }
        network
    }

    /// How many replies a network has had in this second, this one among them.
    fn count(&self, network: [u8; 17], now: u32) -> u32 {
        let hash = self.hasher.hash(&network);
        let Line(line) = &self.lines[hash as usize % LINES];
        // Of the hash, what did not choose the line; and the second, of which twelve days are told apart.
        let tag = hash >> (COUNT_BITS + SECOND_BITS);
        let second = u64::from(now) & ((1 << SECOND_BITS) - 1);
        for _ in 0..TRIES {
            let (place, old) = choose(line, tag, second);
            let counted = if place_of(old) == (tag, second) { old & MOST_COUNTED } else { 0 };
            let count = match counted + 1 {
                // It begins anew just above the limit, so that every n-th goes on to be sent.
                count if count > MOST_COUNTED => u64::from(self.limits.rate) + 1,
                count => count,
            };
            let new = tag << (COUNT_BITS + SECOND_BITS) | second << COUNT_BITS | count;
            if place.compare_exchange(old, new, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return count as u32;
            }
        }
        0
    }
}

/// The tag and the second of a place.
fn place_of(octets: u64) -> (u64, u64) {
    (octets >> (COUNT_BITS + SECOND_BITS), octets >> COUNT_BITS & ((1 << SECOND_BITS) - 1))
}

/// The place of a network in its line, else the one it may take: of those of another second, or with the lowest count.
fn choose(line: &[AtomicU64; PLACES], tag: u64, second: u64) -> (&AtomicU64, u64) {
    let mut chosen = (&line[0], line[0].load(Ordering::Relaxed));
    let mut least = u64::MAX;
    for place in line {
        let value = place.load(Ordering::Relaxed);
        let (its_tag, its_second) = place_of(value);
        if its_tag == tag && its_second == second {
            return (place, value);
        }
        let worth = if its_second == second { value & MOST_COUNTED } else { 0 };
        if worth < least {
            (chosen, least) = ((place, value), worth);
        }
    }
    chosen
}

#[cfg(test)]
mod tests;
