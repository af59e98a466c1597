//! Names of addresses (D22) and of services (D23): what there is at them, and why not.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;
use ipnet::IpNet;

use super::cause::Cause;
use super::evidence::{self, Evidence, Sight};
use super::judge::{self, Verdict};
use super::question::Question;
use super::{Remedy, Ttl};
use crate::finding::{Code, Finding};
use crate::index::{Inspected, Standing};
use crate::wire::name::{self, Name};
use crate::zone::answer::Family;
use crate::zone::{Found, Further, Host, Table, Zone, reverse};

/// Hosts of an address and services of a host that are told.
const MOST: usize = 5;

/// What a name has beside addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Beside {
    /// The PTR records of this address.
    Pointers(IpAddr),
    /// The SRV records of a service of this host.
    Services(Name),
    /// Nothing of its own, but such a name lies below it.
    Above,
}

impl Beside {
    /// From the table.
    pub(super) fn of(table: &Table, zone: &Zone, name: &Name, apex_at: usize) -> Option<Beside> {
        Some(match table.read().further(zone, name.wire(), apex_at)? {
            Further::Pointers(address) => Beside::Pointers(address),
            Further::Services(_, host_at, _) => Beside::Services(Name::from_tail(&name.wire()[host_at..])),
            Further::Above => Beside::Above,
        })
    }
}

impl Evidence<'_> {
    fn wants_srv(&self) -> bool {
        self.question.types.contains(&RecordType::SRV)
    }

    /// Whether every record of the replies is one of these names, and none is a host's.
    pub(super) fn is_further(&self) -> bool {
        let answered = matches!(self.sight, Sight::Answered(_));
        let further = |rtype: &str| matches!(rtype, "PTR" | "SRV") || rtype == "ANY" && !answered;
        self.beside.is_some()
            && self.replies.iter().filter(|reply| reply.answers > 0).all(|reply| further(&reply.rtype))
    }
}

/// Why one of these names resolves.
pub(super) fn resolves(evidence: &Evidence<'_>) -> Option<String> {
    match evidence.beside.as_ref().filter(|_| evidence.is_further())? {
        Beside::Pointers(address) => {
            let hosts = evidence.subject.index.table().pointed(*address).hosts;
            let told: Vec<String> = hosts.iter().take(MOST).map(Name::to_string).collect();
            let more = match hosts.len().saturating_sub(MOST) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let verb = if hosts.len() == 1 { "is" } else { "are" };
            Some(format!("{}{more} {verb} answered with {address} (D22)", told.join(", ")))
        }
        Beside::Services(host) => {
            Some(format!("it is a service of {host}, a named port of its entries (D23)"))
        }
        Beside::Above => None,
    }
}

/// The TTL of what is no address.
pub(super) fn ttl(evidence: &Evidence<'_>) -> Option<Ttl> {
    let mut answered = evidence.replies.iter().filter(|reply| reply.answers > 0).peekable();
    answered.peek()?;
    if !matches!(evidence.sight, Sight::Probe) && answered.all(|reply| reply.rtype == "TXT") {
        return Some(Ttl { seconds: 0, from: "TXT, which says what is so at the moment (D24)".to_owned() });
    }
    let table = evidence.subject.index.table();
    match evidence.beside.as_ref().filter(|_| evidence.is_further())? {
        Beside::Pointers(address) => Some(Ttl {
            seconds: table.pointed(*address).ttl,
            from: "the answers of these hosts, the lowest (D22)".to_owned(),
        }),
        Beside::Services(host) => {
            let (zone, apex_at) = table.zones().covering(host.wire())?;
            let reader = table.read();
            let Found::Host(answers) = reader.find(zone, host.wire(), apex_at) else { return None };
            Some(Ttl { seconds: answers.ttl(), from: format!("the answer of {host} (D23)") })
        }
        Beside::Above => None,
    }
}

/// One of these names, without a record of what was asked for, or one that does not exist.
pub(super) fn absent(evidence: &Evidence<'_>, name: &Name, zone: &Zone) -> Option<Verdict> {
    let apex = evidence.relative().is_empty();
    Some(match &evidence.beside {
        Some(Beside::Pointers(address)) => Verdict::new(
            Cause::TypeUnserved,
            format!("the name is that of the address {address}, and has PTR records only (D22)"),
            Remedy::flag("--type PTR", "ask for PTR of it, or for the addresses of a host"),
        ),
        Some(Beside::Services(host)) => Verdict::new(
            Cause::TypeUnserved,
            format!("the name is that of a service of {host}, and has SRV records only (D23)"),
            Remedy::flag("--type SRV", format!("ask for SRV of it, or for the addresses of {host}")),
        ),
        _ if apex && zone.is_reverse() => Verdict::new(
            Cause::ZoneApex,
            "the name is the reverse zone itself, which has SOA and NS records only (D22)",
            Remedy::text("ask for PTR of the name of an address in it, as dig -x does"),
        ),
        Some(Beside::Above) if zone.is_reverse() => Verdict::new(
            Cause::EmptyNonTerminal,
            "the name is that of a network, and exists only because addresses in it have names (D22)",
            Remedy::text("ask for PTR of the name of an address in it, as dig -x does"),
        ),
        None if zone.is_reverse() => no_such_address(name),
        Some(Beside::Above) | None => {
            return no_such_service(evidence, name).or_else(|| no_host_of_service(evidence, name));
        }
    })
}

/// D22.
fn no_such_address(name: &Name) -> Verdict {
    let addresses = reverse::addresses(name.wire()).map(|addresses| (*addresses.start(), *addresses.end()));
    let (what, which) = match addresses {
        Some((address, last)) if address == last => {
            (format!("no host but, maybe, a wildcard is answered with {address}"), address.to_string())
        }
        Some((first, last)) => (
            format!("no host but, maybe, a wildcard is answered with an address from {first} to {last}"),
            "one of these addresses".to_owned(),
        ),
        None => ("the name lies in a reverse zone and is no address's".to_owned(), "an address".to_owned()),
    };
    Verdict::new(
        Cause::NoSuchAddress,
        format!("{what}, so nothing has this name (D22)"),
        Remedy {
            field: Some("spec.addresses".to_owned()),
            ..Remedy::text(format!(
                "list {which} in spec.addresses of an entry whose host is no wildcard, and ask for the name of that \
                 address, as dig -x does; no entry can have the name itself as its host"
            ))
        },
    )
}

/// A name of an address, in no zone.
pub(super) fn not_reversed(evidence: &Evidence<'_>, name: &Name) -> Option<Verdict> {
    let addresses = reverse::addresses(name.wire())?;
    let (address, last) = (*addresses.start(), *addresses.end());
    // What only meshes take addresses from, else a network that may be somebody's alone.
    let length = match (address, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let usual = if first.octets()[0] >= 240 { 8 } else { 24 };
            usual.min((first.to_bits() ^ last.to_bits()).leading_zeros())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => 64.min((first.to_bits() ^ last.to_bits()).leading_zeros()),
        _ => return None,
    };
    let length = u8::try_from(length).ok()?;
    let network = IpNet::new(address, length).ok()?.trunc();
    if reverse::zones(&[network]).is_err() {
        return None;
    }
    let flag = format!("--reverse {network}");
    let (mut first, mut looked): (Option<Name>, usize) = (None, 0);
    evidence.subject.index.table().for_each(|host, answers| {
        looked += 1;
        let of = |family| answers.addresses(family);
        let mut all = of(Family::V4).chain(of(Family::V6));
        if looked <= evidence.subject.budget
            && !host.wildcard
            && all.any(|of| addresses.contains(&of))
            && first.as_ref().is_none_or(|first| host.name < *first)
        {
            first = Some(host.name);
        }
    });
    let (what, with) = match address == last {
        true => (format!("the address {address}"), "it"),
        false => (format!("addresses from {address} to {last}"), "one of them"),
    };
    let (why, remedy) = match first {
        Some(host) => (
            format!("{host} is answered with {with}"),
            Remedy::flag(
                &flag,
                format!(
                    "serve the names of the range that VIPs are taken from, as with {flag}, and add its zone to the stub \
                     domains of cluster DNS"
                ),
            ),
        ),
        None => (
            format!("no exact host is answered with {with}"),
            Remedy::text(format!(
                "ask the server of these names; if VIPs are taken from there, serve the range with --reverse, such as \
                 {flag}"
            )),
        ),
    };
    Some(Verdict::new(
        Cause::OutsideZones,
        format!("the name is that of {what}, which no --reverse covers, so it is refused; {why} (D22)"),
        remedy,
    ))
}

/// A name as services have it: what is in front of the host, and the host.
fn as_service<'e>(evidence: &'e Evidence<'_>, name: &Name) -> Option<(Vec<&'e [u8]>, Name)> {
    let labels: Vec<&[u8]> = name::labels(evidence.relative()).take(2).collect();
    let is_protocol = |label: &[u8]| matches!(label, b"_tcp" | b"_udp");
    let front = match labels[..] {
        [protocol, ..] if is_protocol(protocol) => vec![protocol],
        [service, protocol] if service.starts_with(b"_") && is_protocol(protocol) => vec![service, protocol],
        _ => return None,
    };
    let host_at: usize = front.iter().map(|label| 1 + label.len()).sum();
    Some((front, Name::from_tail(&name.wire()[host_at..])))
}

fn joined(front: &[&[u8]]) -> String {
    front.iter().map(|label| String::from_utf8_lossy(label)).collect::<Vec<_>>().join(".")
}

/// D23: a name as services have it, of a host that is not answered, for its own reason.
fn no_host_of_service(evidence: &Evidence<'_>, name: &Name) -> Option<Verdict> {
    let (front, host) = as_service(evidence, name)?;
    if evidence.near.first().is_some_and(|near| near.served) {
        return None;
    }
    // One host is looked for, not that of a service of a service.
    if name::labels(host.wire()).take(2).any(|label| matches!(label, b"_tcp" | b"_udp")) {
        return None;
    }
    let question = Question {
        text: host.to_string(),
        name: Ok(host.clone()),
        meant: None,
        types: vec![RecordType::A, RecordType::AAAA],
    };
    let of_host = Evidence::gather(evidence.subject, &question);
    if of_host.resolves() {
        return None;
    }
    let verdict = judge::judge(&of_host);
    let remedy = match verdict.remedy.ask {
        Some(meant) => {
            let meant = format!("{}.{meant}", joined(&front));
            Remedy {
                flag: (!evidence.wants_srv()).then(|| "--type SRV".to_owned()),
                ..Remedy::ask(
                    &meant,
                    format!(
                        "ask for SRV of {meant}, if that is meant; else write a ServiceEntry with the host {host}"
                    ),
                )
            }
        }
        None => verdict.remedy,
    };
    let why =
        format!("the name is one of a service of {host} (D23), which does not resolve: {}", verdict.why);
    Some(Verdict { why, remedy, ..verdict })
}

/// D23: a name as services have it, of a host that is answered.
fn no_such_service(evidence: &Evidence<'_>, name: &Name) -> Option<Verdict> {
    let (front, host) = as_service(evidence, name)?;
    let services = services(evidence, &host)?;
    if evidence.subject.index.table().zones().is_cut_off(name.wire(), host.wire()) {
        return None;
    }
    let service = joined(&front);
    if !evidence.subject.services {
        return Some(Verdict::new(
            Cause::NoSuchService,
            format!("{host} is answered, and no host has services here, as --srv is not set (D23)"),
            Remedy::flag("--srv", format!("set --srv, or ask for the addresses of {host}")),
        ));
    }
    let claims = answering(evidence, &host);
    if let Some((id, finding)) =
        claims.iter().find_map(|claim| Some((&claim.id, invalid_port(claim, &service)?)))
    {
        return Some(Verdict::new(
            Cause::NoSuchService,
            format!(
                "{host} has no service {service}: {} of {id} is left out: {}: {} (D23)",
                finding.field, finding.value, finding.why
            ),
            Remedy::change(id, &finding.field, format!("in {id}: {}", finding.remedy)),
        ));
    }
    let Some(any) = services.first() else {
        let text = "list the port with its name and number in spec.ports";
        return Some(Verdict::new(
            Cause::NoSuchService,
            format!("{host} is answered, and the entries that answer have no port with a name (D23)"),
            match claims.first() {
                Some(Inspected { id, .. }) => Remedy::change(id, "spec.ports", format!("{text} of {id}")),
                None => Remedy::text(format!("{text} of its entry")),
            },
        ));
    };
    let protocol = *front.last()?;
    // The same over the other protocol, or another one over the same.
    let same = services.iter().find(|other| other.split('.').next() == service.split('.').next());
    let over = || services.iter().find(|other| other.ends_with(&*String::from_utf8_lossy(protocol)));
    let meant = format!("{}.{host}", same.or_else(over).unwrap_or(any));
    let told: Vec<&str> = services.iter().take(MOST).map(String::as_str).collect();
    let told = told.join(", ");
    let (cause, why) = match evidence.beside {
        Some(_) => (
            Cause::EmptyNonTerminal,
            format!("the name exists only because services of {host} lie below it: {told} (D23)"),
        ),
        None => (Cause::NoSuchService, format!("{host} has no service {service}, but {told} (D23)")),
    };
    let remedy = Remedy {
        flag: (!evidence.wants_srv()).then(|| "--type SRV".to_owned()),
        ..Remedy::ask(
            &meant,
            format!(
                "ask for SRV of {meant}; another service needs a port of its name in spec.ports of an entry"
            ),
        )
    };
    Some(Verdict::new(cause, why, remedy))
}

/// A host is answered, and has no SRV records at its own name.
pub(super) fn no_srv_of_host(evidence: &Evidence<'_>, name: &Name) -> Option<Verdict> {
    if !evidence.wants_srv() {
        return None;
    }
    if let Some(verdict) = no_such_service(evidence, name) {
        return Some(verdict);
    }
    let meant = format!("{}.{name}", services(evidence, name)?.first()?);
    Some(Verdict::new(
        Cause::TypeUnserved,
        "the name is a host's, whose SRV records are at the names of its services (D23)",
        Remedy::ask(
            &meant,
            format!("ask for SRV of {meant}, as clients put _PORT._PROTOCOL in front of the host"),
        ),
    ))
}

/// The claims that a host, or a wildcard above it, is answered from.
fn answering(evidence: &Evidence<'_>, host: &Name) -> Vec<Inspected> {
    let index = evidence.subject.index;
    let wildcards = std::iter::successors(name::parent(host.wire()), |up| name::parent(up))
        .filter(|up| up.len() > 1)
        .map(|up| Host { name: Name::from_tail(up), wildcard: true });
    let mut hosts = std::iter::once(Host { name: host.clone(), wildcard: false }).chain(wildcards);
    let host = hosts.find(|host| index.table().has(host));
    let mut claims = host.map_or_else(Vec::new, |host| index.inspect(&host, evidence::MOST).0);
    claims.retain(|claim| matches!(claim.standing, Standing::Owns | Standing::Default));
    claims
}

/// What is wrong with the port of this name, if it is.
fn invalid_port<'c>(claim: &'c Inspected, service: &str) -> Option<&'c Finding> {
    let name = service.split('.').next()?.strip_prefix('_')?;
    let named = format!("name {name:?},");
    let mut ports = claim.findings.iter().filter(|finding| finding.code == Code::PortInvalid);
    ports.find(|finding| finding.value.to_ascii_lowercase().starts_with(&named))
}

/// The services of a host, by what is in front of it; `None` if it is not answered.
fn services(evidence: &Evidence<'_>, host: &Name) -> Option<Vec<String>> {
    let table = evidence.subject.index.table();
    let (zone, apex_at) = table.zones().covering(host.wire())?;
    let reader = table.read();
    let Found::Host(answers) = reader.find(zone, host.wire(), apex_at) else { return None };
    let services = answers.extra().into_iter().flat_map(|extra| extra.services());
    Some(services.map(ToString::to_string).collect())
}
