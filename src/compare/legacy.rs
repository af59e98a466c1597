//! What istiocoredns makes of the entries that we read, too.
//!
//! Its plugin keeps a map from hosts as they are written to IPv4 addresses. An entry that the validation of Istio 1.1
//! rejects is not in it, nor one whose JSON has a field that API did not have; a host that several entries have is
//! whichever was put in last, and that changes. Only what is certain of it is here: a drop that is not modelled leaves
//! a difference unexplained, which is the safe side.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde_json::Value;

use super::judge::{Class, Reason};
use crate::entry::{Entry, EntryId};
use crate::zone::Host;

/// Fields of `spec` in Istio 1.1, and one that came too early after it to be held against anybody.
const SPEC: [&str; 8] =
    ["hosts", "addresses", "ports", "location", "resolution", "endpoints", "exportTo", "subjectAltNames"];
/// Fields of `spec.ports[]` there.
const PORT: [&str; 3] = ["number", "protocol", "name"];
/// Protocols that tell hosts apart on one port; with any other, several hosts were invalid.
const TELLS_HOSTS_APART: [&str; 7] = ["HTTP", "HTTP2", "HTTPS", "GRPC", "GRPC-WEB", "TLS", "HTTP_PROXY"];

/// All entries, by host and by identity.
#[derive(Debug, Default)]
pub struct Legacy {
    entries: Vec<Known>,
    /// By the host exactly as it is written, `*.` included.
    written: HashMap<Box<str>, Vec<usize>>,
    by_id: HashMap<EntryId, usize>,
}

/// One entry as both servers have it.
#[derive(Debug)]
pub struct Known {
    /// `namespace/name`, or where in which file.
    pub object: String,
    /// Whose it is (O6).
    pub namespace: Box<str>,
    /// `spec.hosts` as written.
    pub hosts: Vec<Box<str>>,
    /// What we read: hosts of our zones with their addresses.
    pub claims: Vec<(Host, Arc<[IpAddr]>)>,
    /// The addresses istiocoredns has of it; none if it drops the entry.
    pub served: Vec<Ipv4Addr>,
    /// Why it drops the entry, or addresses of it.
    pub dropped: Vec<(Class, &'static str)>,
    /// `exportTo` keeps it from us (O5).
    pub hidden: bool,
}

impl Legacy {
    /// Takes an object with what we read from it.
    pub fn insert(&mut self, object: &Value, entry: &Entry) {
        let known = Known::new(object, entry);
        let at = self.entries.len();
        for host in &known.hosts {
            self.written.entry(host.clone()).or_default().push(at);
        }
        self.by_id.insert(entry.id.clone(), at);
        self.entries.push(known);
    }

    /// Every entry.
    pub fn entries(&self) -> &[Known] {
        &self.entries
    }

    /// The entry of an identity.
    pub fn get(&self, id: &EntryId) -> Option<&Known> {
        self.by_id.get(id).map(|at| &self.entries[*at])
    }

    /// The host under which the plugin finds a name, spelled as asked, and the entries that may have won it.
    pub fn candidates(&self, spelling: &str) -> Option<(&str, Vec<&Known>)> {
        if let Some(found) = self.of_host(spelling) {
            return Some(found);
        }
        // The longest suffix first; of one label it looks up none.
        let mut rest = spelling;
        while let Some((_, suffix)) = rest.split_once('.') {
            if suffix.contains('.')
                && let Some(found) = self.of_host(&format!("*.{suffix}"))
            {
                return Some(found);
            }
            rest = suffix;
        }
        None
    }

    fn of_host(&self, host: &str) -> Option<(&str, Vec<&Known>)> {
        let (host, entries) = self.written.get_key_value(host)?;
        let served: Vec<_> =
            entries.iter().map(|at| &self.entries[*at]).filter(|known| !known.served.is_empty()).collect();
        (!served.is_empty()).then_some((&**host, served))
    }
}

impl Known {
    fn new(object: &Value, entry: &Entry) -> Known {
        let spec = object.get("spec").unwrap_or(&Value::Null);
        let strings = |key: &str| -> Vec<&str> {
            spec.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let hosts = strings("hosts");
        let addresses = strings("addresses");
        let resolution = spec.get("resolution").and_then(Value::as_str).unwrap_or("NONE");
        let mut drops = Vec::new();
        if is_ipv6(&addresses) {
            drops.push((
                Class::Ipv6Entry,
                "spec.addresses has an IPv6 address, which was invalid and lost it the entry",
            ));
        }
        if !["NONE", "STATIC", "DNS"].contains(&resolution) {
            drops.push((
                Class::Strict,
                "spec.resolution is younger than istiocoredns, which lost it the entry",
            ));
        } else if resolution == "NONE" {
            drops.push((Class::ResolutionNone, "resolution is NONE, which istiocoredns skips"));
        }
        if has_other_fields(spec) {
            drops
                .push((Class::Strict, "spec has a field younger than istiocoredns, which lost it the entry"));
        }
        if hosts.len() > 1 && resolution != "NONE" && !tells_hosts_apart(spec) {
            drops.push((Class::Strict, "several hosts on a TCP port were invalid, which lost it the entry"));
        }
        let mut served = Vec::new();
        if drops.is_empty() {
            served.extend(addresses.iter().filter_map(|text| text.parse::<Ipv4Addr>().ok()));
            if addresses.iter().any(|text| text.contains('/')) {
                drops.push((
                    Class::Cidr,
                    "spec.addresses has an address with a prefix length, which istiocoredns drops",
                ));
            }
            if addresses.is_empty() {
                drops.push((
                    Class::Allocated,
                    "the address is in status.addresses, which istiocoredns does not read",
                ));
            }
        }
        let hidden = strings("exportTo").contains(&"~");
        Known {
            object: entry.id.to_string(),
            namespace: entry.id.namespace.clone(),
            hosts: hosts.into_iter().map(Box::from).collect(),
            claims: entry.claims.iter().map(|claim| (claim.host.clone(), claim.addresses.clone())).collect(),
            served,
            dropped: drops,
            hidden,
        }
    }

    /// Whether istiocoredns, asked for a host of it, answers just these addresses.
    pub fn serves(&self, addresses: &BTreeSet<IpAddr>) -> bool {
        self.served.iter().copied().map(IpAddr::V4).collect::<BTreeSet<_>>() == *addresses
    }

    /// The addresses we give one host of it.
    pub fn ours(&self, host: &Host) -> &[IpAddr] {
        self.claims.iter().find(|(claimed, _)| claimed == host).map_or(&[], |(_, addresses)| addresses)
    }

    /// Why istiocoredns has nothing, or less, of it.
    pub fn reasons(&self) -> Vec<Reason> {
        self.dropped
            .iter()
            .map(|(class, why)| Reason::new(*class, format!("{}: {why}", self.object)))
            .collect()
    }
}

fn is_ipv6(addresses: &[&str]) -> bool {
    addresses.iter().any(|text| {
        let address = text.split_once('/').map_or(*text, |(address, _)| address);
        matches!(address.parse(), Ok(IpAddr::V6(_)))
    })
}

fn ports(spec: &Value) -> impl Iterator<Item = &Value> {
    spec.get("ports").and_then(Value::as_array).into_iter().flatten()
}

fn has_other_fields(spec: &Value) -> bool {
    let other = |value: &Value, known: &[&str]| {
        value.as_object().is_some_and(|map| map.keys().any(|key| !known.contains(&key.as_str())))
    };
    other(spec, &SPEC) || ports(spec).any(|port| other(port, &PORT))
}

fn tells_hosts_apart(spec: &Value) -> bool {
    ports(spec).all(|port| {
        let protocol = port.get("protocol").and_then(Value::as_str).unwrap_or("TCP");
        TELLS_HOSTS_APART.iter().any(|known| known.eq_ignore_ascii_case(protocol))
    })
}
