//! Who may ask (D21): networks, the most specific of which decides.
//!
//! Lists become ranges of addresses once; a look-up is a binary search over them, however many networks there are.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// A network as a flag names it: `ADDRESS/LENGTH`, or one address. IPv4-mapped IPv6 is IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Network(IpNet);

impl Network {
    /// The first address and the last.
    fn range(self) -> (u128, u128) {
        (number(self.0.network()), number(self.0.broadcast()))
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Network, String> {
        const FORM: &str = "write ADDRESS/LENGTH (10.0.0.0/8, 2001:db8::/32) or one address";
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => text.parse::<IpNet>().map_err(|_| format!("it is no network; {FORM}"))?,
        };
        if network.addr() != network.network() {
            let meant = network.trunc();
            let one = network.addr();
            return Err(format!(
                "the address has bits set beyond the first {}; write {meant} for the network, or {one} for the address",
                network.prefix_len()
            ));
        }
        match network {
            IpNet::V6(v6) if v6.prefix_len() >= MAPPED => match v6.addr().to_ipv4_mapped() {
                // A length of 96 to 128 leaves 0 to 32.
                Some(v4) => {
                    IpNet::new(v4.into(), v6.prefix_len() - MAPPED).map(Network).map_err(|e| e.to_string())
                }
                None => Ok(Network(network)),
            },
            _ => Ok(Network(network)),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The length of `::ffff:0:0/96`, RFC 4291 section 2.5.5.2.
const MAPPED: u8 = 96;

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A choice for every address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    v4: Ranges,
    v6: Ranges,
}

/// Where a range begins, up to the next one, and whether it is allowed. The first begins at 0.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranges(Vec<(u128, bool)>);

impl Access {
    /// From `--allow` and `--deny`; `None` where neither is given and everybody may ask.
    pub fn new(allow: &[Network], deny: &[Network]) -> Option<Access> {
        if allow.is_empty() && deny.is_empty() {
            return None;
        }
        Some(Access::with_default(allow, deny, allow.is_empty()))
    }

    /// These networks, and nothing else.
    pub fn only(networks: &[Network]) -> Access {
        Access::with_default(networks, &[], false)
    }

    fn with_default(allow: &[Network], deny: &[Network], default: bool) -> Access {
        let of = |v4: bool| {
            let listed = allow.iter().map(|n| (*n, true)).chain(deny.iter().map(|n| (*n, false)));
            Ranges::new(listed.filter(|(network, _)| network.0.addr().is_ipv4() == v4).collect(), v4, default)
        };
        Access { v4: of(true), v6: of(false) }
    }

    /// Whether an address, which is no IPv4-mapped one, is allowed.
    pub fn allows(&self, address: IpAddr) -> bool {
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        ranges.get(number(address))
    }

    /// Whether no address at all is.
    pub fn is_empty(&self) -> bool {
        [&self.v4, &self.v6].iter().all(|ranges| ranges.0.iter().all(|(_, allowed)| !allowed))
    }
}

impl Ranges {
    fn new(mut networks: Vec<(Network, bool)>, v4: bool, default: bool) -> Ranges {
        // Wider ones first, and of the same one that which denies last: whoever comes later decides.
        networks.sort_by_key(|(network, allowed)| (network.0.prefix_len(), *network, !allowed));
        let last = if v4 { u128::from(u32::MAX) } else { u128::MAX };
        let mut ranges = Ranges(vec![(0, default)]);
        for (network, allowed) in networks {
            ranges.set(network.range(), last, allowed);
        }
        ranges.0.dedup_by_key(|(_, allowed)| *allowed);
        ranges
    }

    /// Overwrites a range. One network lies in another or beside it, and wider ones are set before: so this one lies in a
    /// single range that is there.
    fn set(&mut self, (from, to): (u128, u128), last: u128, allowed: bool) {
        let around = self.get(from);
        let first = self.0.partition_point(|(start, _)| *start < from);
        let end = self.0.partition_point(|(start, _)| *start <= to);
        let goes_on = to < last && self.0.get(end).is_none_or(|(start, _)| *start != to + 1);
        let rest = goes_on.then(|| (to + 1, around));
        self.0.splice(first..end, std::iter::once((from, allowed)).chain(rest));
    }

    fn get(&self, address: u128) -> bool {
        self.0[self.0.partition_point(|(start, _)| *start <= address) - 1].1
    }
}

#[cfg(test)]
mod tests;
