//! From an object's JSON to what it contributes.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use super::fields::{Fields, Keys, PORTS, Path, STATUS_ADDRESSES};
use super::{
    Claim, Entry, EntryId, Origin, Rules, TTL_ANNOTATION, TTL_RANGE, Unserved, is_namespace, is_object_name,
};
use crate::finding::Code;
use crate::limits::{MOST_ADDRESSES, MOST_ITEMS};
use crate::wire::name::{Name, NameError};
use crate::wire::probe;
use crate::zone::extra::{MOST_SERVICES, Protocol, Service};
use crate::zone::{Host, Zones};

const NAMESPACE: Keys = &["metadata", "namespace"];
const NAME: Keys = &["metadata", "name"];
const CREATED: Keys = &["metadata", "creationTimestamp"];
const ANNOTATIONS: Keys = &["metadata", "annotations"];
const LABELS: Keys = &["metadata", "labels"];
const HOSTS: Keys = &["spec", "hosts"];
const ADDRESSES: Keys = &["spec", "addresses"];
const RESOLUTION: Keys = &["spec", "resolution"];
const EXPORT_TO: Keys = &["spec", "exportTo"];
/// Istio's label that switches automatic allocation off (A2).
pub(super) const AUTO_ALLOCATE_LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

impl Entry {
    /// Reads a ServiceEntry. `object` is the whole object as JSON.
    pub fn read(object: &Value, origin: Origin, zones: &Zones, rules: &Rules) -> Entry {
        let id = EntryId::of(object, origin);
        #[cfg(test)]
        crate::panics::trip("object", id.name.as_bytes());
        let mut reading = Reading { fields: Fields::new(object, &id), zones, unserved: Vec::new() };
        reading.fields.require_map(&["metadata"]);
        reading.fields.require_map(&["spec"]);
        // An API server has seen to that itself.
        if matches!(id.origin, Origin::Document { .. }) {
            reading.identity();
        }
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
        // Without a host there is nothing that they could be services of.
        let mut services = Vec::new();
        if rules.services && !claims.is_empty() {
            services = reading.services();
        }
        if let Some((code, why, remedy)) = hidden {
            services.clear();
            let left_out = |claim: Claim| Unserved {
                field: claim.field,
                reason: code,
                host: claim.host.to_string().into_boxed_str(),
            };
            reading.unserved.extend(claims.drain(..).map(left_out));
            reading.fields.report(code, Path::Field(&[]), "", why, remedy);
        }
        let Reading { fields, unserved, .. } = reading;
        let (findings, public) = (fields.into_findings(), export == Export::All);
        Entry { id, created, public, resolution_none, allocated, ttl, claims, services, findings, unserved }
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
    unserved: Vec<Unserved>,
}

impl Reading<'_> {
    /// What [`EntryId::of`] has made of namespace and name: a file may say of both what no object has.
    fn identity(&mut self) {
        if let Some(text) =
            self.fields.string(NAMESPACE).filter(|text| !text.is_empty() && !is_namespace(text))
        {
            self.fields.report(
                Code::FieldType,
                Path::Field(NAMESPACE),
                text,
                "no namespace can be called so, and no API server would take the entry",
                "write a label of lower-case letters, digits and '-', at most 63 octets",
            );
        }
        if let Some(text) = self.fields.string(NAME).filter(|text| !text.is_empty() && !is_object_name(text))
        {
            self.fields.report(
                Code::FieldType,
                Path::Field(NAME),
                text,
                "no object can be called so, and no API server would take the entry",
                "write lower-case letters, digits, '-' and '.', at most 253 octets, each label beginning and ending with \
                 a letter or digit",
            );
        }
    }

    fn created(&mut self) -> Option<i64> {
        let text = self.fields.string(CREATED)?;
        match text.parse::<jiff::Timestamp>() {
            Ok(time) => Some(time.as_second()),
            Err(error) => {
                self.fields.report(
                    Code::FieldType,
                    Path::Field(CREATED),
                    text,
                    format!("it is not an RFC 3339 time ({error}), so the entry counts as the newest"),
                    "write it as 2024-01-31T12:00:00Z, or leave it out",
                );
                None
            }
        }
    }

    fn ttl(&mut self) -> Option<u32> {
        let text = self.fields.map_entry(ANNOTATIONS, TTL_ANNOTATION)?;
        let ttl = text.parse::<u32>().ok().filter(|ttl| TTL_RANGE.contains(ttl));
        if ttl.is_none() {
            self.fields.report(
                Code::TtlInvalid,
                Path::Entry(ANNOTATIONS, TTL_ANNOTATION),
                text,
                "it is not a TTL, so --ttl applies",
                format!("write seconds from {} to {}", TTL_RANGE.start(), TTL_RANGE.end()),
            );
        }
        ttl
    }

    /// NONE is the API's default; a value we do not know is some other resolution (S5).
    fn resolution_none(&mut self) -> bool {
        self.fields.string(RESOLUTION).is_none_or(|r| r == "NONE" || r.is_empty())
    }

    fn export(&mut self) -> Export {
        let targets = self.fields.strings(EXPORT_TO);
        if targets.iter().any(|(_, target)| *target == "~") {
            Export::Hidden
        } else if targets.is_empty()
            // Who it is hidden from may be among those that are not read (S7).
            || targets.len() < MOST_ITEMS && targets.iter().any(|(_, target)| *target == "*")
        {
            Export::All
        } else {
            Export::Some
        }
    }

    fn claims(&mut self, rules: &Rules, allocated: bool) -> Vec<Claim> {
        let hosts = self.fields.strings(HOSTS);
        if !hosts.is_empty() && hosts.iter().all(|(_, text)| self.is_outside(text)) {
            // Its addresses are nothing to us.
            let outside = |(i, text): (usize, &str)| Unserved {
                field: i as u32,
                reason: Code::HostOutsideZones,
                host: text.into(),
            };
            self.unserved.extend(hosts.into_iter().map(outside));
            return Vec::new();
        }
        let mut shared = Distinct::default();
        for (i, text) in self.fields.strings(ADDRESSES) {
            shared.extend(self.address(Path::Item(ADDRESSES, i), text));
        }
        self.report_too_many(&shared, ADDRESSES);
        let shared: Arc<[IpAddr]> = shared.in_order.into();
        let mut status: HashMap<String, Vec<(usize, &str)>> = HashMap::new();
        if allocated {
            for (i, value, host) in self.fields.status_addresses() {
                status.entry(plain_host(host)).or_default().push((i, value));
            }
        }

        if self.fields.list_is_empty(HOSTS) {
            self.fields.report(
                Code::HostsEmpty,
                Path::Field(HOSTS),
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
                    own.extend(self.address(Path::ItemField(STATUS_ADDRESSES, *j, "value"), value));
                }
                self.report_too_many(&own, STATUS_ADDRESSES);
                addresses = own.in_order.into();
            }
            claims.push(Claim { host, addresses, field: i as u32 });
        }
        claims
    }

    /// D23: the named ports.
    fn services(&mut self) -> Vec<Service> {
        let mut services = Vec::new();
        for (i, port) in self.fields.ports(MOST_SERVICES) {
            let text = |key: &str| port.get(key).and_then(Value::as_str);
            let number = port.get("number").and_then(Value::as_u64).and_then(|n| u16::try_from(n).ok());
            let (name, number) = (text("name").unwrap_or_default(), number.unwrap_or_default());
            match Service::new(name, Protocol::of(text("protocol").unwrap_or_default()), number) {
                Some(service) if services.contains(&service) => {}
                Some(service) => services.push(service),
                None => {
                    let at = |key: &str| {
                        port.get(key).map(ToString::to_string).unwrap_or_else(|| "none".to_owned())
                    };
                    self.fields.report(
                        Code::PortInvalid,
                        Path::Item(PORTS, i),
                        &format!("name {}, number {}", at("name"), at("number")),
                        "it is no service that an SRV record can name, so it has none",
                        "give it a name of letters, digits, '-' and '_', at most 62 of them, and a number from 1 to 65535",
                    );
                }
            }
        }
        services
    }

    fn report_too_many(&mut self, addresses: &Distinct, keys: Keys) {
        if addresses.beyond > 0 {
            let value = format!("{} addresses", addresses.in_order.len() + addresses.beyond);
            self.fields.too_many(keys, value, MOST_ADDRESSES, "addresses of a host");
        }
    }

    /// A2: istiod's own conditions for its automatically allocated addresses.
    fn takes_allocated(&mut self, resolution_none: bool) -> bool {
        let disabled = |fields: &mut Fields<'_>| {
            fields
                .map_entry(LABELS, AUTO_ALLOCATE_LABEL)
                .is_some_and(|value| value.eq_ignore_ascii_case("false"))
        };
        self.fields.list_is_empty(ADDRESSES) && !resolution_none && !disabled(&mut self.fields)
    }

    /// H2: whether it is a host of somebody else's.
    fn is_outside(&self, text: &str) -> bool {
        let name = Name::parse(text.strip_prefix("*.").unwrap_or(text));
        let is_short = text.strip_suffix('.').unwrap_or(text).len() <= 253;
        is_short && name.is_ok_and(|name| self.zones.covering(name.wire()).is_none())
    }

    /// H1–H3, H5, D5, D18 and O6 for one string of `spec.hosts`.
    fn host(&mut self, i: usize, text: &str, rules: &Rules) -> Option<Host> {
        let path = Path::Item(HOSTS, i);
        let (wildcard, name) = match text.strip_prefix("*.") {
            Some(suffix) => (true, suffix),
            None => (false, text),
        };
        let name = match Name::parse(name) {
            // "253 in all" counts the wildcard label too.
            Ok(_) if text.strip_suffix('.').unwrap_or(text).len() > 253 => {
                return self.bad_host(path, text, &NameError::TooLong(text.len()));
            }
            Ok(name) => name,
            Err(error) => return self.bad_host(path, text, &error),
        };
        let Some((zone, apex_at)) = self.zones.covering(name.wire()) else {
            self.unserved.push(Unserved {
                field: i as u32,
                reason: Code::HostOutsideZones,
                host: text.into(),
            });
            return None;
        };
        if zone.is_reverse() {
            let why = "the name belongs to a reverse zone, whose names come from the addresses of hosts (--reverse)";
            self.fields.report(Code::HostReserved, path, text, why, "choose another host name");
            return None;
        }
        let namespace = &self.fields.id().namespace;
        if let Some((suffix, owners)) = self.zones.owned_by_others(&name, namespace) {
            let owners: Vec<&str> = owners.iter().map(String::as_str).collect();
            self.fields.report(
                Code::HostNotOwner,
                path,
                text,
                format!(
                    "names at and below {suffix} are taken only from entries of {} (--zone-owner), and this one is in \
                     {namespace}",
                    owners.join(", ")
                ),
                "choose a host outside of that suffix, move the entry, or add its namespace to --zone-owner",
            );
            return None;
        }
        if wildcard && apex_at == 0 && !rules.apex_wildcards {
            self.fields.report(
                Code::HostApexWildcard,
                path,
                text,
                "a wildcard directly under a zone captures every name a search path can make, so it is not served",
                "use a more specific wildcard, or set --apex-wildcards",
            );
            return None;
        }
        let owner = if name == zone.dns_name() || name == zone.ns_name() {
            Some("the name belongs to the zone's own name server")
        } else if probe::is_probe(&name.wire()[..apex_at]) {
            Some(
                "a name of this form belongs to the probes that show whether the zone is forwarded to globaldns",
            )
        } else {
            None
        };
        if let Some(owner) = owner.filter(|_| !wildcard) {
            self.fields.report(Code::HostReserved, path, text, owner, "choose another host name");
            return None;
        }
        Some(Host { name, wildcard })
    }

    fn bad_host(&mut self, path: Path, text: &str, error: &NameError) -> Option<Host> {
        if is_placeholder(text) {
            self.placeholder(path, text, "a host name", "the host name");
        } else if text.contains('*') {
            self.fields.report(
                Code::HostInvalid,
                path,
                text,
                "a wildcard is the whole leftmost label, followed by a suffix",
                "write it as *.suffix",
            );
        } else {
            self.fields.report(
                Code::HostInvalid,
                path,
                text,
                format!("it is not a host name: {error}"),
                "write a DNS name such as name.namespace.global",
            );
        }
        None
    }

    /// A1 for one string.
    fn address(&mut self, path: Path, text: &str) -> Option<IpAddr> {
        let address = match super::network(text) {
            Some(net) if net.prefix_len() == net.max_prefix_len() => net.addr(),
            Some(_) => {
                self.fields.report(
                    Code::AddressRange,
                    path,
                    text,
                    "a CIDR of more than one address is no answer",
                    "list single addresses (or /32 and /128) in spec.addresses",
                );
                return None;
            }
            _ if is_placeholder(text) => {
                self.placeholder(path, text, "an IP address", "the IP address");
                return None;
            }
            _ => {
                self.fields.report(
                    Code::AddressInvalid,
                    path,
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
                path,
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
            self.fields.report(code, path, text, why, "use an address from 240.0.0.0/4 or your own range");
        }
        Some(address)
    }

    fn placeholder(&mut self, path: Path, text: &str, what: &str, missing: &str) {
        self.fields.report(
            Code::Placeholder,
            path,
            text,
            format!("it is a placeholder that was not replaced, not {what}"),
            format!("fill in {missing}"),
        );
    }
}

/// Addresses in listed order, each once (A6), as many as a host can have (S7).
#[derive(Default)]
struct Distinct {
    in_order: Vec<IpAddr>,
    seen: HashSet<IpAddr>,
    beyond: usize,
}

impl Distinct {
    fn extend(&mut self, address: Option<IpAddr>) {
        let Some(address) = address.filter(|address| self.seen.insert(*address)) else { return };
        if self.in_order.len() < MOST_ADDRESSES {
            self.in_order.push(address);
        } else {
            self.beyond += 1;
        }
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
