//! A random table: ServiceEntries as YAML, and what the zones must hold because of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use crate::random::Random;

/// TTL of entries without the annotation: the default of `--ttl` (D2).
pub(crate) const DEFAULT_TTL: u32 = 30;
/// Few labels, so that hosts become each other's ancestors, siblings and near-misses.
pub(crate) const LABELS: [&str; 18] = [
    "a", "b", "c", "aa", "ab", "svc", "echo", "httpbin", "x_1", "_tcp", "a-b", "0", "eu", "global", "dns",
    "ns", "cluster2", "deep",
];
/// The longest text of a name (H1).
const MAX_NAME: usize = 253;

/// `--reverse`: some of the IPv4 addresses that are drawn, and all IPv6 addresses.
pub(crate) const REVERSE: [&str; 3] = ["240.0.0.0/8", "241.0.0.0/8", "fd00::/16"];
/// Names of ports, and protocols with their label.
const PORTS: [(&str, &str, &str); 5] = [
    ("http", "HTTP", "_tcp"),
    ("HTTP", "GRPC", "_tcp"),
    ("dns", "UDP", "_udp"),
    ("a-b", "TLS", "_tcp"),
    ("dns", "TCP", "_tcp"),
];
/// Zones with what is in them.
pub(crate) struct Table {
    /// Apexes, lower-case, without trailing dot.
    pub(crate) zones: Vec<String>,
    /// The reverse zones of [`REVERSE`].
    pub(crate) reverse: Vec<String>,
    /// `--advertise-address`.
    pub(crate) name_servers: Vec<IpAddr>,
    /// Lower-case names in our zones, with what answers them.
    pub(crate) hosts: BTreeMap<String, Records>,
    /// Names that a service or an address has, and no host.
    pub(crate) further: Vec<String>,
    entries: Vec<Entry>,
}

/// What one host holds.
#[derive(Default)]
pub(crate) struct Records {
    pub(crate) ttl: Option<u32>,
    pub(crate) addresses: BTreeSet<IpAddr>,
    /// The same in the order of the entries.
    listed: Vec<IpAddr>,
    /// `_name._protocol`, and the port.
    pub(crate) services: BTreeSet<(String, u16)>,
}

struct Entry {
    hosts: Vec<String>,
    addresses: Vec<String>,
    ttl: Option<u32>,
    /// Into [`PORTS`], and the number.
    ports: Vec<(usize, u16)>,
}

impl Table {
    /// The table of a seed's sequence.
    pub(crate) fn random(random: &mut Random) -> Table {
        let mut zones: Vec<String> = ["global", "eu.global", "cluster2"].map(str::to_owned).into();
        for more in ["deep.b.eu.global", "x_1.cluster2", "a-b.example"] {
            if random.chance(40) {
                zones.push(more.to_owned());
            }
        }
        let most = if random.chance(20) { 60 } else { 4 };
        let name_servers = (0..random.range(1..most)).map(|_| address(random, 50)).collect();
        let reverse = ["240.in-addr.arpa", "241.in-addr.arpa", "0.0.d.f.ip6.arpa"].map(str::to_owned).into();
        let mut table = Table {
            zones,
            reverse,
            name_servers,
            hosts: BTreeMap::new(),
            further: Vec::new(),
            entries: Vec::new(),
        };
        for _ in 0..random.range(20..120) {
            table.add_entry(random);
        }
        table.further = table.names_beside_hosts();
        table
    }

    fn add_entry(&mut self, random: &mut Random) {
        let hosts: Vec<String> = (0..random.range(1..4)).map(|_| self.host(random)).collect();
        let count = match random.range(0..100) {
            0..55 => random.range(1..5),
            55..90 => random.range(5..41),
            _ => random.range(41..120),
        };
        let ipv6_percent = *random.pick(&[0, 30, 100]);
        let mut addresses: Vec<IpAddr> = (0..count).map(|_| address(random, ipv6_percent)).collect();
        // A6: an address that is there already, in this entry or in one it is merged with.
        if random.chance(20) {
            addresses.push(addresses[0]);
        }
        if let Some(records) = self.hosts.get(&lower(&hosts[0]))
            && random.chance(50)
        {
            addresses.extend(records.addresses.iter().take(2));
        }
        let most = *random.pick(&[DEFAULT_TTL, 3600]) as usize;
        let ttl = random.chance(30).then(|| random.range(1..most + 1) as u32);
        let count = if random.chance(50) { random.range(1..4) } else { 0 };
        let port = |random: &mut Random| (random.range(0..PORTS.len()), 80 + random.range(0..3) as u16);
        let ports: Vec<_> = (0..count).map(|_| port(random)).collect();
        for host in &hosts {
            let name = lower(host);
            if self.zone_of(&name).is_none_or(|zone| is_reserved(&name, zone)) {
                continue;
            }
            let records = self.hosts.entry(name).or_default();
            let new = addresses.iter().filter(|address| records.addresses.insert(**address));
            records.listed.extend(new);
            records.services.extend(ports.iter().map(|(at, number)| {
                let (name, _, protocol) = PORTS[*at];
                (format!("_{}.{protocol}", name.to_ascii_lowercase()), *number)
            }));
            // D2: the lowest of the merged entries, and one without annotation has the default.
            records.ttl = records.ttl.into_iter().chain([ttl.unwrap_or(DEFAULT_TTL)]).min();
        }
        let addresses = addresses.iter().map(|address| spelled(*address, random)).collect();
        self.entries.push(Entry { hosts, addresses, ttl, ports });
    }

    /// A host as an entry writes it: new, or one that another entry has, too.
    fn host(&self, random: &mut Random) -> String {
        let zone = random.pick(&self.zones);
        let mut name = match random.range(0..100) {
            0..5 => zone.clone(),
            5..30 if !self.hosts.is_empty() => {
                let nth = random.range(0..self.hosts.len());
                self.hosts.keys().nth(nth).expect("the index is below the length").clone()
            }
            30..32 => format!("{}.outside.example", random.pick(&LABELS)),
            32..34 => format!("{}.ns.dns.{zone}", random.pick(&LABELS)),
            34..35 => format!("{}dns.{zone}", random.pick(&["", "ns."])),
            _ => below(zone, random),
        };
        if random.chance(25) {
            name = name.chars().map(|c| if random.chance(50) { c.to_ascii_uppercase() } else { c }).collect();
        }
        if random.chance(10) {
            name.push('.');
        }
        name
    }

    /// The longest zone a name ends in.
    pub(crate) fn zone_of(&self, name: &str) -> Option<&str> {
        let covers = |zone: &&String| {
            name.strip_suffix(zone.as_str()).is_some_and(|l| l.is_empty() || l.ends_with('.'))
        };
        self.all_zones().filter(covers).max_by_key(|zone| zone.len()).map(String::as_str)
    }

    /// Every zone, the reverse ones too.
    pub(crate) fn all_zones(&self) -> impl Iterator<Item = &String> {
        self.zones.iter().chain(&self.reverse)
    }

    fn names_beside_hosts(&self) -> Vec<String> {
        let services = self.hosts.iter().flat_map(|(host, records)| {
            records.services.iter().map(move |(service, _)| format!("{service}.{host}"))
        });
        services.chain(self.hosts.values().flat_map(|records| self.pointing(records))).collect()
    }

    /// Writes the entries as some YAML files of some documents each.
    pub(crate) fn write(&self, directory: &Path) -> std::io::Result<()> {
        for (file, entries) in self.entries.chunks(25).enumerate() {
            let documents: Vec<String> =
                entries.iter().enumerate().map(|(i, entry)| entry.yaml(&format!("e{file}-{i}"))).collect();
            std::fs::write(directory.join(format!("{file}.yaml")), documents.join("---\n"))?;
        }
        Ok(())
    }

    /// The lines of a zone's file, but for SOA, comments and directives.
    pub(crate) fn lines(&self, zone: &str) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for apex in self.all_zones().filter(|apex| *apex == zone || self.zone_above(apex) == Some(zone)) {
            lines.insert(format!("{apex}. {DEFAULT_TTL} IN NS ns.dns.{apex}."));
            lines.extend(self.glue(apex));
        }
        for (host, records) in self.hosts.iter().filter(|(host, _)| self.zone_of(host) == Some(zone)) {
            let ttl = records.ttl.unwrap_or(DEFAULT_TTL);
            lines
                .extend(records.addresses.iter().map(|a| format!("{host}. {ttl} IN {} {a}", record_type(a))));
            let service = |(service, port): &(String, u16)| {
                let owner = format!("{service}.{host}");
                (owner.len() <= MAX_NAME).then(|| format!("{owner}. {ttl} IN SRV 0 100 {port} {host}."))
            };
            lines.extend(records.services.iter().filter_map(service));
        }
        let mut pointers: BTreeMap<String, Vec<(&String, u32)>> = BTreeMap::new();
        for (host, records) in &self.hosts {
            for name in self.pointing(records) {
                let ttl = records.ttl.unwrap_or(DEFAULT_TTL);
                pointers.entry(name).or_default().push((host, ttl));
            }
        }
        for (name, hosts) in pointers.iter().filter(|(name, _)| self.zone_of(name) == Some(zone)) {
            let ttl = hosts.iter().map(|(_, ttl)| *ttl).min().unwrap_or_default();
            lines.extend(hosts.iter().map(|(host, _)| format!("{name}. {ttl} IN PTR {host}.")));
        }
        lines
    }

    /// D22: where a host has PTR records.
    fn pointing(&self, records: &Records) -> impl Iterator<Item = String> {
        let of = |v4: bool| records.listed.iter().filter(move |address| address.is_ipv4() == v4);
        let names = of(true).chain(of(false)).map(pointer_name);
        names.filter(|name| self.zone_of(name).is_some()).take(16)
    }

    /// The zone that delegates a nested one (Z3).
    pub(crate) fn zone_above(&self, apex: &str) -> Option<&str> {
        self.zone_of(apex.split_once('.')?.1)
    }

    /// The glue of a zone, as lines like those of [`Table::lines`].
    pub(crate) fn glue(&self, zone: &str) -> BTreeSet<String> {
        let line = |a: &IpAddr| format!("ns.dns.{zone}. {DEFAULT_TTL} IN {} {a}", record_type(a));
        self.name_servers.iter().map(line).collect()
    }
}

impl Entry {
    fn yaml(&self, name: &str) -> String {
        let mut out = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata:\n  name: {name}\n  namespace: n\n"
        );
        if let Some(ttl) = self.ttl {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "  annotations:\n    globaldns.io/ttl: \"{ttl}\"");
        }
        out.push_str("spec:\n  hosts:\n");
        for host in &self.hosts {
            let _ = writeln!(out, "  - \"{host}\"");
        }
        out.push_str("  addresses:\n");
        for address in &self.addresses {
            let _ = writeln!(out, "  - \"{address}\"");
        }
        if !self.ports.is_empty() {
            out.push_str("  ports:\n");
        }
        for (at, number) in &self.ports {
            let (name, protocol, _) = PORTS[*at];
            let _ = writeln!(out, "  - {{name: {name}, number: {number}, protocol: {protocol}}}");
        }
        out.push_str("  resolution: STATIC\n");
        out
    }
}

/// A host as names are compared.
fn lower(host: &str) -> String {
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// D5: names an entry cannot take.
fn is_reserved(name: &str, zone: &str) -> bool {
    name.strip_suffix(zone).is_some_and(|labels| ["dns.", "ns.dns."].contains(&labels))
}

/// A name of one to five labels below a zone.
pub(crate) fn below(zone: &str, random: &mut Random) -> String {
    let mut name = zone.to_owned();
    for _ in 0..random.range(1..6) {
        let long = random.chance(3);
        let label = if long { "l".repeat(random.range(20..64)) } else { (*random.pick(&LABELS)).to_owned() };
        if label.len() + 1 + name.len() <= MAX_NAME {
            name = format!("{label}.{name}");
        }
    }
    name
}

fn address(random: &mut Random, ipv6_percent: usize) -> IpAddr {
    let low = random.next();
    if random.chance(ipv6_percent) {
        Ipv6Addr::from(0xfd00 << 112 | u128::from(low)).into()
    } else {
        Ipv4Addr::from(0xf000_0000 | (low as u32 & 0x0fff_ffff) | 1).into()
    }
}

/// The name that an address has its PTR records at.
fn pointer_name(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, d] = v4.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(v6) => {
            let nibbles: Vec<char> =
                v6.octets().iter().flat_map(|o| format!("{o:02x}").chars().collect::<Vec<_>>()).collect();
            nibbles.iter().rev().map(|nibble| format!("{nibble}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// An address as entries write it: alone, or as a CIDR that holds it only (A1).
fn spelled(address: IpAddr, random: &mut Random) -> String {
    let bits = if address.is_ipv4() { 32 } else { 128 };
    if random.chance(10) { format!("{address}/{bits}") } else { address.to_string() }
}

fn record_type(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "A" } else { "AAAA" }
}
