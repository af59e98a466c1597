//! The name table as text: RFC 1035 zone files, a hosts file, JSON.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::IpAddr;

use serde::Serialize;

use crate::index::Index;
use crate::wire::name::{self, Name};
use crate::zone::answer::{AnswersRef, Family};
use crate::zone::extra::{PRIORITY, Service, WEIGHT};
use crate::zone::{Host, SOA_TIMERS, reverse};

/// A copy of the table, sorted.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// In configured order.
    pub zones: Vec<ExportedZone>,
    #[serde(skip)]
    ttl: u32,
    #[serde(skip)]
    negative_ttl: u32,
}

/// One zone.
#[derive(Debug, Serialize)]
pub struct ExportedZone {
    /// Its name, without trailing dot.
    pub zone: String,
    /// SOA serial.
    pub serial: u32,
    /// In canonical order (RFC 4034 section 6.1): by labels, the last one first.
    pub hosts: Vec<ExportedHost>,
    /// Of a reverse zone (D22), in the order of addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pointers: Vec<ExportedPointer>,
    /// Nested zones of ours to delegate to (Z3).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delegations: Vec<String>,
}

/// One host.
#[derive(Debug, Serialize)]
pub struct ExportedHost {
    /// Its name, with `*.` for a wildcard.
    pub host: String,
    /// Seconds.
    pub ttl: u32,
    /// IPv4 addresses in listed order.
    pub a: Vec<IpAddr>,
    /// IPv6 addresses in listed order.
    pub aaaa: Vec<IpAddr>,
    /// Its services, sorted (D23).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<ExportedService>,
    /// The entries the answer comes from; empty for `--default-address`.
    pub owners: Vec<String>,
}

/// A service of a host: an SRV record.
#[derive(Debug, Serialize)]
pub struct ExportedService {
    /// What is put in front of the host: `_http._tcp`.
    pub service: String,
    /// Its number.
    pub port: u16,
}

/// The PTR records of one address.
#[derive(Debug, Serialize)]
pub struct ExportedPointer {
    /// The address.
    pub address: IpAddr,
    /// Seconds.
    pub ttl: u32,
    /// The hosts it has, as they are answered.
    pub hosts: Vec<String>,
}

impl Exported {
    /// Copies the index's table. TTLs in seconds.
    pub fn new(index: &Index, ttl: u32, negative_ttl: u32) -> Exported {
        let zones = index.table().zones();
        let mut by_zone: BTreeMap<usize, Vec<(Host, ExportedHost)>> = BTreeMap::new();
        index.table().for_each(|host, answers| {
            if let Some((zone, _)) = zones.covering(host.name.wire()) {
                let exported = ExportedHost::new(index, &host, answers);
                by_zone.entry(zone.index()).or_default().push((host, exported));
            }
        });
        let mut pointers: BTreeMap<usize, Vec<ExportedPointer>> = BTreeMap::new();
        for address in index.table().pointed_addresses() {
            if let Some((zone, _)) = zones.covering(reverse::name_of(address).wire()) {
                let pointed = index.table().pointed(address);
                let hosts = pointed.hosts.iter().map(ToString::to_string).collect();
                let exported = ExportedPointer { address, ttl: pointed.ttl, hosts };
                pointers.entry(zone.index()).or_default().push(exported);
            }
        }
        let zones = zones
            .iter()
            .map(|zone| ExportedZone {
                zone: zone.apex().to_string(),
                serial: zone.serial(),
                hosts: in_order(by_zone.remove(&zone.index()).unwrap_or_default()),
                pointers: pointers.remove(&zone.index()).unwrap_or_default(),
                delegations: zones.children(zone).map(|child| child.apex().to_string()).collect(),
            })
            .collect();
        Exported { zones, ttl, negative_ttl }
    }
}

fn in_order(mut hosts: Vec<(Host, ExportedHost)>) -> Vec<ExportedHost> {
    hosts.sort_by_cached_key(|(host, _)| {
        let mut labels: Vec<Vec<u8>> = name::labels(host.name.labels_wire()).map(<[u8]>::to_vec).collect();
        labels.reverse();
        labels.extend(host.wildcard.then(|| b"*".to_vec()));
        labels
    });
    hosts.into_iter().map(|(_, exported)| exported).collect()
}

impl ExportedHost {
    fn new(index: &Index, host: &Host, answers: AnswersRef<'_>) -> ExportedHost {
        ExportedHost {
            host: host.to_string(),
            ttl: answers.ttl(),
            a: answers.addresses(Family::V4).collect(),
            aaaa: answers.addresses(Family::V6).collect(),
            services: answers
                .extra()
                .into_iter()
                .flat_map(|extra| extra.services())
                .map(ExportedService::of)
                .collect(),
            owners: index.owners(host).iter().map(ToString::to_string).collect(),
        }
    }
}

impl ExportedService {
    fn of(service: &Service) -> ExportedService {
        ExportedService { service: service.to_string(), port: service.port }
    }
}

/// One zone as an RFC 1035 master file. Every name is absolute.
pub fn zone_file(zone: &ExportedZone, exported: &Exported, name_server: &[IpAddr]) -> String {
    let mut out = String::new();
    let apex = &zone.zone;
    let [refresh, retry, expire] = SOA_TIMERS;
    let (ttl, negative) = (exported.ttl, exported.negative_ttl);
    // Writing to a String cannot fail.
    let _ = writeln!(out, "; zone {apex}, exported by globaldns {}", crate::VERSION);
    if zone.hosts.iter().any(|host| host.host.starts_with("*.")) {
        let _ = writeln!(
            out,
            "; wildcards here follow RFC 4592; globaldns itself lets no sibling name block them"
        );
        if zone.hosts.iter().any(|host| host.host.starts_with("*.") && !host.services.is_empty()) {
            let _ = writeln!(
                out,
                "; services of wildcards are left out: their names cannot be written in a zone file"
            );
        }
    }
    let _ = writeln!(out, "$ORIGIN {apex}.\n$TTL {ttl}");
    let _ = writeln!(
        out,
        "{apex}. {negative} IN SOA ns.dns.{apex}. hostmaster.{apex}. {} {refresh} {retry} {expire} {negative}",
        zone.serial
    );
    let mut name_server_of = |zone: &str| {
        let _ = writeln!(out, "{zone}. {ttl} IN NS ns.dns.{zone}.");
        for address in name_server {
            let _ = writeln!(out, "ns.dns.{zone}. {ttl} IN {} {address}", record_type(address));
        }
    };
    name_server_of(apex);
    for child in &zone.delegations {
        name_server_of(child);
    }
    for host in &zone.hosts {
        for address in host.a.iter().chain(&host.aaaa) {
            let _ = writeln!(out, "{}. {} IN {} {address}", host.host, host.ttl, record_type(address));
        }
        let ExportedHost { host, ttl, services, .. } = host;
        for ExportedService { service, port } in services.iter().filter(|_| !host.starts_with("*.")) {
            let owner = format!("{service}.{host}");
            // Nobody can ask for a longer one.
            if Name::parse(&owner).is_ok() {
                let _ = writeln!(out, "{owner}. {ttl} IN SRV {PRIORITY} {WEIGHT} {port} {host}.");
            }
        }
    }
    for ExportedPointer { address, ttl, hosts } in &zone.pointers {
        for host in hosts {
            let _ = writeln!(out, "{}. {ttl} IN PTR {host}.", reverse::name_of(*address));
        }
    }
    out
}

fn record_type(address: &IpAddr) -> &'static str {
    match Family::of(*address) {
        Family::V4 => "A",
        Family::V6 => "AAAA",
    }
}

/// Lines for `/etc/hosts`; a wildcard cannot be written there and becomes a comment.
pub fn hosts_file(exported: &Exported) -> String {
    let mut out = String::new();
    for host in exported.zones.iter().flat_map(|zone| &zone.hosts) {
        let comment = if host.host.starts_with("*.") { "# a hosts file has no wildcards: " } else { "" };
        for address in host.a.iter().chain(&host.aaaa) {
            let _ = writeln!(out, "{comment}{address} {}", host.host);
        }
    }
    out
}
