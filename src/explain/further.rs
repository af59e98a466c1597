//! Names of addresses (D22) and of services (D23): what there is at them, and why not.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use super::Remedy;
use super::cause::Cause;
use super::evidence::{Evidence, Sight};
use super::judge::Verdict;
use crate::wire::name::{self, Name};
use crate::zone::{Found, Further, Table, Zone, reverse};

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
            Some(format!("{} is answered with {address}{more} (D22)", told.join(", ")))
        }
        Beside::Services(host) => {
            Some(format!("it is a service of {host}, a named port of its entries (D23)"))
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
        Some(Beside::Above) | None => return no_such_service(evidence, name),
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

/// D23: a name as services have it, of a host that is answered.
fn no_such_service(evidence: &Evidence<'_>, name: &Name) -> Option<Verdict> {
    let labels: Vec<&[u8]> = name::labels(evidence.relative()).take(2).collect();
    let is_protocol = |label: &[u8]| matches!(label, b"_tcp" | b"_udp");
    let (front, protocol) = match labels[..] {
        [protocol, ..] if is_protocol(protocol) => (vec![protocol], protocol),
        [service, protocol] if service.starts_with(b"_") && is_protocol(protocol) => {
            (vec![service, protocol], protocol)
        }
        _ => return None,
    };
    let host_at: usize = front.iter().map(|label| 1 + label.len()).sum();
    let host = Name::from_tail(&name.wire()[host_at..]);
    let services = services(evidence, &host)?;
    if evidence.subject.index.table().zones().is_cut_off(name.wire(), host.wire()) {
        return None;
    }
    let service = front.iter().map(|label| String::from_utf8_lossy(label)).collect::<Vec<_>>().join(".");
    let Some(any) = services.first() else {
        return Some(Verdict::new(
            Cause::NoSuchService,
            format!(
                "{host} is answered and has no services here: --srv is not set, or its entries have no ports with a name (D23)"
            ),
            Remedy::flag(
                "--srv",
                format!(
                    "set --srv, and give the port a name in spec.ports of the entry; or ask for the addresses of {host}"
                ),
            ),
        ));
    };
    // The same over the other protocol, or another one over the same.
    let same = services.iter().find(|other| other.split('.').next() == service.split('.').next());
    let over = || services.iter().find(|other| other.ends_with(&*String::from_utf8_lossy(protocol)));
    let meant = format!("{}.{host}", same.or_else(over).unwrap_or(any));
    let told: Vec<&str> = services.iter().take(MOST).map(String::as_str).collect();
    let told = told.join(", ");
    let wants_srv = evidence.question.types.contains(&RecordType::SRV);
    let (cause, why) = match evidence.beside {
        Some(_) => (
            Cause::EmptyNonTerminal,
            format!("the name exists only because services of {host} lie below it: {told} (D23)"),
        ),
        None => (Cause::NoSuchService, format!("{host} has no service {service}, but {told} (D23)")),
    };
    let remedy = Remedy {
        flag: (!wants_srv).then(|| "--type SRV".to_owned()),
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
    if !evidence.question.types.contains(&RecordType::SRV) {
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

/// The services of a host, by what is in front of it; `None` if it is not answered.
fn services(evidence: &Evidence<'_>, host: &Name) -> Option<Vec<String>> {
    let table = evidence.subject.index.table();
    let (zone, apex_at) = table.zones().covering(host.wire())?;
    let reader = table.read();
    let Found::Host(answers) = reader.find(zone, host.wire(), apex_at) else { return None };
    let services = answers.extra().into_iter().flat_map(|extra| extra.services());
    Some(services.map(ToString::to_string).collect())
}
