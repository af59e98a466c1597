//! Reverse zones (D22): from networks to the zones that cover exactly them, and from a name in one to its addresses.
//!
//! A zone of `in-addr.arpa` begins at an octet of an address (RFC 1035 section 3.5), one of `ip6.arpa` at a nibble (RFC
//! 3596 section 2.5). A network between two such boundaries is several zones.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::wire::name::{self, Name};

/// The most reverse zones. The least convenient network takes 128.
pub const MOST_ZONES: usize = 256;
/// The shortest prefixes: whoever has more of an address space than this has its reverse zone from elsewhere.
const SHORTEST: (u8, u8) = (8, 16);
/// Networks whose addresses belong to nobody, or to everybody: no mesh serves them, and resolvers have answers of their
/// own for them (RFC 6303, RFC 6761).
const SPECIAL: [(&str, &str); 8] = [
    ("0.0.0.0/8", "the addresses of \"this network\""),
    ("127.0.0.0/8", "loopback addresses"),
    ("169.254.0.0/16", "link-local addresses"),
    ("224.0.0.0/4", "multicast addresses"),
    ("255.255.255.255/32", "the broadcast address"),
    ("::/16", "loopback and mapped addresses"),
    ("fe80::/10", "link-local addresses"),
    ("ff00::/8", "multicast addresses"),
];

/// Why networks cannot be reverse zones.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReverseError {
    /// The address goes on behind the length.
    #[error("{0} has bits behind its length; write the network, {1}")]
    HostBits(IpNet, IpNet),
    /// More than anybody has.
    #[error(
        "{0} is too wide: its reverse zone would take the look-ups of addresses that are not the mesh's, those of pods \
         and services among them; give the range that VIPs are taken from, at least a /{1}"
    )]
    TooWide(IpNet, u8),
    /// Not for a mesh.
    #[error(
        "{0} overlaps {1}, {2}, which no reverse zone here can be for; give the range that VIPs are taken from"
    )]
    Special(IpNet, String, String),
    /// Too many.
    #[error(
        "they make {0} reverse zones, and at most {MOST_ZONES} can be served; give networks that end at an octet (/8, \
         /16, /24) or, for IPv6, at a nibble (/32, /36 and so on)"
    )]
    TooMany(usize),
}

/// The zones that cover exactly these networks, each once and none inside another; in the order of their addresses, IPv4
/// first.
pub fn zones(networks: &[IpNet]) -> Result<Vec<Name>, ReverseError> {
    for network in networks {
        check(*network)?;
    }
    let mut all = 0;
    let mut found = Vec::new();
    let mut aggregated = IpNet::aggregate(&networks.to_vec());
    aggregated.sort();
    for network in aggregated {
        // At most 128 each, since a network is cut at the next boundary.
        all += pieces(network).count();
        if all <= MOST_ZONES {
            found.extend(pieces(network));
        }
    }
    if all > MOST_ZONES {
        return Err(ReverseError::TooMany(all));
    }
    Ok(found.into_iter().map(zone).collect())
}

/// A network, cut at the next boundary.
fn pieces(network: IpNet) -> impl Iterator<Item = IpNet> {
    let step = if network.addr().is_ipv4() { 8 } else { 4 };
    network.subnets(network.prefix_len().next_multiple_of(step)).into_iter().flatten()
}

/// Zones of networks that resolvers answer by themselves, without asking anybody (RFC 6303, RFC 7793), of those that
/// VIPs may be taken from: what a text for such a resolver has to make an exception for.
pub fn answered_by_resolvers() -> Vec<Name> {
    const NETWORKS: [&str; 9] = [
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "100.64.0.0/10",
        "192.0.2.0/24",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "fd00::/8",
        "2001:db8::/32",
    ];
    let networks = NETWORKS.iter().filter_map(|network| network.parse::<IpNet>().ok());
    networks.flat_map(pieces).map(zone).collect()
}

fn check(network: IpNet) -> Result<(), ReverseError> {
    let shortest = if network.addr().is_ipv4() { SHORTEST.0 } else { SHORTEST.1 };
    if network.prefix_len() < shortest {
        return Err(ReverseError::TooWide(network, shortest));
    }
    if network.trunc() != network {
        return Err(ReverseError::HostBits(network, network.trunc()));
    }
    for (special, what) in SPECIAL {
        if let Ok(other) = special.parse::<IpNet>()
            && (other.contains(&network) || network.contains(&other))
            // 240.0.0.0/4 is a range that meshes take VIPs from, and its last address is not one of them.
            && (other.prefix_len() < other.max_prefix_len() || network == other)
        {
            return Err(ReverseError::Special(network, special.to_owned(), what.to_owned()));
        }
    }
    Ok(())
}

/// The zone of a network that ends at a boundary.
fn zone(network: IpNet) -> Name {
    let labels = match network {
        IpNet::V4(_) => usize::from(network.prefix_len() / 8),
        IpNet::V6(_) => usize::from(network.prefix_len() / 4),
    };
    let address = name_of(network.addr());
    let all = name::offsets(address.labels_wire()).count() - 2;
    let at = name::offsets(address.labels_wire()).nth(all - labels).unwrap_or_default();
    Name::from_tail(&address.wire()[at..])
}

/// The name under which an address has its PTR records.
pub fn name_of(address: IpAddr) -> Name {
    let mut text = String::with_capacity(72);
    // Writing to a String cannot fail, and what is written is a name.
    match address {
        IpAddr::V4(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(text, "{octet}.");
            }
            text.push_str("in-addr.arpa");
        }
        IpAddr::V6(address) => {
            for octet in address.octets().iter().rev() {
                let _ = write!(text, "{:x}.{:x}.", octet & 0xf, octet >> 4);
            }
            text.push_str("ip6.arpa");
        }
    }
    match Name::parse(&text) {
        Ok(name) => name,
        Err(error) => unreachable!("{text} is a name: {error}"),
    }
}

/// The addresses whose names are a lower-case wire name or lie below it: one for a whole address. `None` where that is no
/// name of addresses, as `01.0.0.240.in-addr.arpa`.
pub fn addresses(name: &[u8]) -> Option<RangeInclusive<IpAddr>> {
    const V4: &[u8] = b"\x07in-addr\x04arpa\x00";
    const V6: &[u8] = b"\x03ip6\x04arpa\x00";
    if let Some(run) = name.strip_suffix(V4) {
        let (mut octets, mut count) = ([0; 4], 0);
        for label in labels_backwards(run)?.into_iter().rev() {
            *octets.get_mut(count)? = octet(label)?;
            count += 1;
        }
        let network = Ipv4Net::new(Ipv4Addr::from(octets), count as u8 * 8).ok()?;
        Some(network.network().into()..=network.broadcast().into())
    } else {
        let run = name.strip_suffix(V6)?;
        let (mut octets, mut count) = ([0; 16], 0);
        for label in labels_backwards(run)?.into_iter().rev() {
            let nibble = nibble(label)?;
            *octets.get_mut(count / 2)? |= if count % 2 == 0 { nibble << 4 } else { nibble };
            count += 1;
        }
        let network = Ipv6Net::new(Ipv6Addr::from(octets), count as u8 * 4).ok()?;
        Some(network.network().into()..=network.broadcast().into())
    }
}

/// The labels of a run, if it is made of whole ones and they are not too many for an address.
fn labels_backwards(run: &[u8]) -> Option<Vec<&[u8]>> {
    let labels: Vec<_> = name::labels(run).take(33).collect();
    let octets: usize = labels.iter().map(|label| label.len() + 1).sum();
    (octets == run.len()).then_some(labels)
}

/// RFC 1035 section 3.5: decimal, without leading zeros.
fn octet(label: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(label).ok()?;
    let octet: u8 = text.parse().ok()?;
    (octet.to_string() == text).then_some(octet)
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit @ b'0'..=b'9'] => Some(digit - b'0'),
        [digit @ b'a'..=b'f'] => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
