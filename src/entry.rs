//! What one ServiceEntry contributes: hosts, their addresses, its rank, and findings (chapters A, H, S5).
//!
//! Entries are read from untyped JSON, whether they came from a file or from the API server: every
//! field may be missing, have another type or hold a value we have never heard of, and only that field
//! is lost (S5). The rules that need other entries (who owns a host, the default address) are the
//! index's.

mod fields;

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::Value;

use crate::finding::{Code, Finding};
use crate::wire::name::{Name, NameError};
use crate::zone::{Host, Zones};
use fields::Fields;

/// Default and range of a TTL in seconds (D2).
pub const TTL_RANGE: std::ops::RangeInclusive<u32> = 1..=3600;
/// The annotation that sets one entry's TTL (D2).
pub const TTL_ANNOTATION: &str = "globaldns.io/ttl";
/// Istio's label that switches automatic allocation off (A2).
const AUTO_ALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// The settings that decide what an entry contributes.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `--apex-wildcards` (H5).
    pub apex_wildcards: bool,
    /// `--skip-resolution-none` (A5).
    pub skip_resolution_none: bool,
    /// `--public-only` (O5).
    pub public_only: bool,
}

/// Where an entry came from: its identity, and the last part of its rank (O1).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Origin {
    /// An object of the API server; namespace and name are the entry's.
    Object,
    /// A document of a file; several may hold the same namespace and name.
    Document {
        /// The file as it was named or found.
        path: Arc<str>,
        /// Position in the file: document (from 1) and item in a `kind: List` (from 1; 0 outside one).
        position: (u32, u32),
    },
}

/// Identity of an entry inside its source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EntryId {
    /// `metadata.namespace`, or `default`.
    pub namespace: Box<str>,
    /// `metadata.name`.
    pub name: Box<str>,
    /// Where it came from.
    pub origin: Origin,
}

impl EntryId {
    /// The identity of an object as JSON.
    pub fn of(object: &Value, origin: Origin) -> EntryId {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        EntryId {
            namespace: text("/metadata/namespace").filter(|n| !n.is_empty()).unwrap_or("default").into(),
            name: text("/metadata/name").unwrap_or_default().into(),
            origin,
        }
    }
}

impl fmt::Display for EntryId {
    /// The object as F1 names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Origin::Object => write!(f, "{}/{}", self.namespace, self.name),
            Origin::Document { path, position: (document, 0) } => write!(f, "{path}:{document}"),
            Origin::Document { path, position: (document, item) } => {
                write!(f, "{path}:{document}[{item}]")
            }
        }
    }
}

/// One host an entry claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The host, in one of our zones.
    pub host: Host,
    /// A1 or A2 addresses, de-duplicated, in listed order; may be empty.
    pub addresses: Arc<[IpAddr]>,
    /// Position in `spec.hosts`, for findings.
    pub field: u32,
}

/// What one ServiceEntry contributes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who it is.
    pub id: EntryId,
    /// `metadata.creationTimestamp`, Unix seconds.
    pub created: Option<i64>,
    /// Exported to `*`, or without `exportTo` (O1).
    pub public: bool,
    /// `resolution: NONE`, the default of the API (A2, A3).
    pub resolution_none: bool,
    /// Its addresses are those of `status.addresses` (A2).
    pub allocated: bool,
    /// TTL annotation, seconds.
    pub ttl: Option<u32>,
    /// Its hosts in our zones.
    pub claims: Vec<Claim>,
    /// What is wrong with it, but for `outside`.
    findings: Vec<Finding>,
    /// Hosts outside every zone (H2) with their position: in a large mesh most hosts are, so they become
    /// findings only when asked for.
    outside: Vec<(u32, Box<str>)>,
}

impl Entry {
    /// The order of claims (O1): older first, ties by namespace, name and origin; entries without a
    /// timestamp count as newest, ordered by path and position.
    pub fn rank(&self, other: &Entry) -> Ordering {
        match (self.created, other.created) {
            (Some(a), Some(b)) => a.cmp(&b).then_with(|| self.id.cmp(&other.id)),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => self.id.origin.cmp(&other.id.origin).then_with(|| self.id.cmp(&other.id)),
        }
    }

    /// What is wrong with it by itself.
    pub fn findings(&self) -> impl Iterator<Item = Finding> + '_ {
        let outside = self.outside.iter().map(|(i, host)| {
            Finding::new(
                Code::HostOutsideZones,
                self.id.to_string(),
                format!("spec.hosts[{i}]"),
                host,
                "no zone of this server covers the host, so it is not answered here",
                "nothing, if another server answers it; else add its suffix with --zone",
            )
        });
        self.findings.iter().cloned().chain(outside)
    }

    /// Reads a ServiceEntry. `object` is the whole object as JSON.
    pub fn read(object: &Value, origin: Origin, zones: &Zones, rules: &Rules) -> Entry {
        let id = EntryId::of(object, origin);
        let mut reading = Reading { fields: Fields::new(object, id.to_string()), zones, outside: Vec::new() };
        reading.fields.require_map("metadata");
        reading.fields.require_map("spec");
        let created = reading.created();
        let ttl = reading.ttl();
        let resolution_none = reading.resolution_none();
        let export = reading.export();
        let allocated = reading.takes_allocated(resolution_none);
        let mut claims = reading.claims(rules, allocated);
        let hidden = match export {
            Export::Hidden => Some((
                Code::ExportHidden,
                "the entry is exported to nobody, so its hosts are not served",
                "remove \"~\" from spec.exportTo to serve them",
            )),
            Export::Some if rules.public_only => Some((
                Code::ExportNotPublic,
                "the entry is not exported to every namespace and --public-only is set, so its hosts are not served",
                "export it to \"*\", or run without --public-only",
            )),
            _ if resolution_none && rules.skip_resolution_none => Some((
                Code::ResolutionNoneSkipped,
                "entries with resolution NONE are skipped because --skip-resolution-none is set",
                "run without --skip-resolution-none, or set spec.resolution",
            )),
            _ => None,
        };
        if let Some((code, why, remedy)) = hidden {
            claims.clear();
            reading.fields.report(code, "", "", why, remedy);
        }
        Entry {
            id,
            created,
            public: export == Export::All,
            resolution_none,
            allocated,
            ttl,
            claims,
            outside: reading.outside,
            findings: reading.fields.into_findings(),
        }
    }
}

/// Who an entry is exported to (O5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Export {
    All,
    Some,
    Hidden,
}

struct Reading<'o> {
    fields: Fields<'o>,
    zones: &'o Zones,
    outside: Vec<(u32, Box<str>)>,
}

impl Reading<'_> {
    fn created(&mut self) -> Option<i64> {
        let text = self.fields.string("metadata.creationTimestamp")?;
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Some(time.as_second()),
            Err(error) => {
                self.fields.report(
                    Code::FieldType,
                    "metadata.creationTimestamp",
                    text,
                    format!("it is not an RFC 3339 time ({error}), so the entry counts as the newest"),
                    "write it as 2024-01-31T12:00:00Z, or leave it out",
                );
                None
            }
        }
    }

    fn ttl(&mut self) -> Option<u32> {
        let field = format!("metadata.annotations[{TTL_ANNOTATION}]");
        let text = self.fields.map_entry("metadata.annotations", TTL_ANNOTATION)?;
        let ttl = text.parse::<u32>().ok().filter(|ttl| TTL_RANGE.contains(ttl));
        if ttl.is_none() {
            self.fields.report(
                Code::TtlInvalid,
                field,
                text,
                "it is not a TTL, so --ttl applies",
                format!("write seconds from {} to {}", TTL_RANGE.start(), TTL_RANGE.end()),
            );
        }
        ttl
    }

    /// NONE is the API's default; a value we do not know is some other resolution (S5).
    fn resolution_none(&mut self) -> bool {
        self.fields.string("spec.resolution").is_none_or(|r| r == "NONE" || r.is_empty())
    }

    fn export(&mut self) -> Export {
        let targets = self.fields.strings("spec.exportTo");
        if targets.iter().any(|(_, target)| *target == "~") {
            Export::Hidden
        } else if targets.is_empty() || targets.iter().any(|(_, target)| *target == "*") {
            Export::All
        } else {
            Export::Some
        }
    }

    fn claims(&mut self, rules: &Rules, allocated: bool) -> Vec<Claim> {
        let listed = self.fields.strings("spec.addresses");
        let mut shared = Distinct::default();
        for (i, text) in listed {
            shared.extend(self.address(&format!("spec.addresses[{i}]"), text));
        }
        let shared: Arc<[IpAddr]> = shared.in_order.into();
        let mut status: HashMap<String, Vec<(usize, &str)>> = HashMap::new();
        if allocated {
            for (i, value, host) in self.fields.status_addresses() {
                status.entry(plain_host(host)).or_default().push((i, value));
            }
        }

        let hosts = self.fields.strings("spec.hosts");
        if self.fields.list_is_empty("spec.hosts") {
            self.fields.report(
                Code::HostsEmpty,
                "spec.hosts",
                "",
                "the entry names no host",
                "list the names it stands for in spec.hosts",
            );
        }
        let mut claims: Vec<Claim> = Vec::new();
        let mut seen = HashSet::new();
        for (i, text) in hosts {
            let Some(host) = self.host(i, text, rules) else { continue };
            if !seen.insert(host.clone()) {
                continue;
            }
            let mut addresses = shared.clone();
            if allocated {
                let mut own = Distinct::default();
                for (j, value) in status.get(&plain_host(text)).into_iter().flatten() {
                    own.extend(self.address(&format!("status.addresses[{j}].value"), value));
                }
                addresses = own.in_order.into();
            }
            claims.push(Claim { host, addresses, field: i as u32 });
        }
        claims
    }

    /// A2: istiod's own conditions for its automatically allocated addresses.
    fn takes_allocated(&mut self, resolution_none: bool) -> bool {
        let disabled = |fields: &mut Fields<'_>| {
            fields
                .map_entry("metadata.labels", AUTO_ALLOCATE_LABEL)
                .is_some_and(|value| value.eq_ignore_ascii_case("false"))
        };
        self.fields.list_is_empty("spec.addresses") && !resolution_none && !disabled(&mut self.fields)
    }

    /// H1–H3, H5 and D5 for one string of `spec.hosts`.
    fn host(&mut self, i: usize, text: &str, rules: &Rules) -> Option<Host> {
        let field = &format!("spec.hosts[{i}]");
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(suffix) => (true, suffix),
            None => (false, text),
        };
        let name = match Name::parse(name) {
            // "253 in all" counts the wildcard label too.
            Ok(_) if text.strip_suffix('.').unwrap_or(text).len() > 253 => {
                return self.bad_host(field, text, &NameError::TooLong(text.len()));
            }
            Ok(name) => name,
            Err(error) => return self.bad_host(field, text, &error),
        };
        let Some((zone, apex_at)) = self.zones.covering(name.wire()) else {
            self.outside.push((i as u32, text.into()));
            return None;
        };
        if wildcard && apex_at == 0 && !rules.apex_wildcards {
            self.fields.report(
                Code::HostApexWildcard,
                field,
                text,
                "a wildcard directly under a zone captures every name a search path can make, so it is not served",
                "use a more specific wildcard, or set --apex-wildcards",
            );
            return None;
        }
        if !wildcard && (name == zone.dns_name() || name == zone.ns_name()) {
            self.fields.report(
                Code::HostReserved,
                field,
                text,
                "the name belongs to the zone's own name server",
                "choose another host name",
            );
            return None;
        }
        Some(Host { name, wildcard })
    }

    fn bad_host(&mut self, field: &str, text: &str, error: &NameError) -> Option<Host> {
        if is_placeholder(text) {
            self.placeholder(field, text, "a host name", "the host name");
        } else if text.contains('*') {
            self.fields.report(
                Code::HostInvalid,
                field,
                text,
                "a wildcard is the whole leftmost label, followed by a suffix",
                "write it as *.suffix",
            );
        } else {
            self.fields.report(
                Code::HostInvalid,
                field,
                text,
                format!("it is not a host name: {error}"),
                "write a DNS name such as name.namespace.global",
            );
        }
        None
    }

    /// A1 for one string.
    fn address(&mut self, field: &str, text: &str) -> Option<IpAddr> {
        let address = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
            (Ok(address), _) => address,
            (_, Ok(net)) if net.prefix_len() == net.max_prefix_len() => net.addr(),
            (_, Ok(_)) => {
                self.fields.report(
                    Code::AddressRange,
                    field,
                    text,
                    "a CIDR of more than one address is no answer",
                    "list single addresses (or /32 and /128) in spec.addresses",
                );
                return None;
            }
            _ if is_placeholder(text) => {
                self.placeholder(field, text, "an IP address", "the IP address");
                return None;
            }
            _ => {
                self.fields.report(
                    Code::AddressInvalid,
                    field,
                    text,
                    "it is neither an IP address nor a CIDR",
                    "write an address such as 240.0.0.2 or 2001:db8::2",
                );
                return None;
            }
        };
        let unusual = if address.is_unspecified() {
            self.fields.report(
                Code::AddressUnspecified,
                field,
                text,
                "the unspecified address reaches nothing",
                "write the address clients shall dial",
            );
            return None;
        } else if address.is_loopback() {
            Some((
                Code::AddressLoopback,
                "it is served, but traffic to a loopback address never leaves the pod and newer sidecars do not capture it",
            ))
        } else if address.is_multicast() {
            Some((
                Code::AddressMulticast,
                "it is served, but multicast addresses are not routed to a service",
            ))
        } else if is_link_local(address) {
            Some((Code::AddressLinkLocal, "it is served, but link-local addresses are not routed"))
        } else {
            None
        };
        if let Some((code, why)) = unusual {
            self.fields.report(code, field, text, why, "use an address from 240.0.0.0/4 or your own range");
        }
        Some(address)
    }

    fn placeholder(&mut self, field: &str, text: &str, what: &str, missing: &str) {
        self.fields.report(
            Code::Placeholder,
            field,
            text,
            format!("it is a placeholder that was not replaced, not {what}"),
            format!("fill in {missing}"),
        );
    }
}

/// Addresses in listed order, each once (A6).
#[derive(Default)]
struct Distinct {
    in_order: Vec<IpAddr>,
    seen: HashSet<IpAddr>,
}

impl Distinct {
    fn extend(&mut self, address: Option<IpAddr>) {
        self.in_order.extend(address.filter(|address| self.seen.insert(*address)));
    }
}

/// A host as A2 compares it: without case and trailing dot.
fn plain_host(text: &str) -> String {
    text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

/// Text a template engine, a shell or a reader of a walkthrough should have replaced.
fn is_placeholder(text: &str) -> bool {
    [("<", ">"), ("$(", ")"), ("${", "}"), ("{{", "}}"), ("[[", "]]"), ("%", "%")]
        .iter()
        .any(|(open, close)| text.find(open).is_some_and(|at| text[at + open.len()..].contains(close)))
}

#[cfg(test)]
mod tests;
