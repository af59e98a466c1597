//! What a run has to meet: a comparison of refusals alone would prove nothing.

use crate::question::Question;
use crate::reply::{Reply, limit};
use crate::table::Table;

/// A property of a question and our reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Address records below an apex (D2).
    Addresses,
    /// Address records at an apex (H3).
    ApexAddresses,
    /// The addresses of `ns.dns.<zone>` (D5).
    NameServerAddresses,
    /// The apex's SOA, as an answer (D5).
    Soa,
    /// The apex's NS with glue (D5, D17).
    NsWithGlue,
    /// A host without records of the type (D3).
    NoDataOfHost,
    /// An ancestor of a host (D3).
    EmptyNonTerminal,
    /// DS of a zone that lies in another one (Z3).
    NestedDs,
    NxDomain,
    Refused,
    BadVers,
    /// Cut at 512 octets without EDNS (D13).
    CutAt512,
    /// Cut at 1232 octets (D13).
    CutAt1232,
    /// Over TCP, and larger than any UDP reply.
    LargeOverTcp,
    /// Asked with capital letters, and answered (D15).
    UpperCase,
    /// The names of an address (D22).
    Pointers,
    /// The services of a host (D23).
    Services,
    /// A name above an address or a service (D22, D23)
    AboveFurther,
}

impl Kind {
    /// Every kind.
    pub(crate) const ALL: [Kind; 18] = [
        Kind::Addresses,
        Kind::ApexAddresses,
        Kind::NameServerAddresses,
        Kind::Soa,
        Kind::NsWithGlue,
        Kind::NoDataOfHost,
        Kind::EmptyNonTerminal,
        Kind::NestedDs,
        Kind::NxDomain,
        Kind::Refused,
        Kind::BadVers,
        Kind::CutAt512,
        Kind::CutAt1232,
        Kind::LargeOverTcp,
        Kind::UpperCase,
        Kind::Pointers,
        Kind::Services,
        Kind::AboveFurther,
    ];

    /// The kinds of one reply.
    pub(crate) fn of(table: &Table, question: &Question, reply: &Reply) -> Vec<Kind> {
        let view = reply.view();
        let spelled = question.name.to_ascii();
        let lower = spelled.to_ascii_lowercase();
        let name = lower.trim_end_matches('.');
        let zone = table.zone_of(name).unwrap_or_default();
        let relative = name.strip_suffix(zone).unwrap_or_default();
        let is_apex = !zone.is_empty() && relative.is_empty();
        let is_nested = is_apex && table.zone_above(name).is_some();
        let is_host = table.hosts.contains_key(name);
        let answer = view.answers.first().map_or("", String::as_str);
        let addresses = answer.contains(" in a ") || answer.contains(" in aaaa ");
        let nodata = view.rcode == 0 && view.authoritative && answer.is_empty() && !view.truncated;
        let infrastructure = ["", "dns.", "ns.dns."].contains(&relative);
        let is_above_service = ["_tcp.", "_udp."].iter().any(|label| {
            name.strip_prefix(label)
                .and_then(|host| table.hosts.get(host))
                .is_some_and(|host| !host.services.is_empty())
        });
        let kinds = [
            (addresses && !is_apex && is_host, Kind::Addresses),
            (addresses && is_apex, Kind::ApexAddresses),
            (addresses && relative == "ns.dns.", Kind::NameServerAddresses),
            (answer.contains(" in soa "), Kind::Soa),
            (answer.contains(" in ns ") && !view.additional.is_empty(), Kind::NsWithGlue),
            (nodata && is_host, Kind::NoDataOfHost),
            (nodata && !is_host && !infrastructure, Kind::EmptyNonTerminal),
            (nodata && is_nested && question.rtype == 43, Kind::NestedDs),
            (view.rcode == 3, Kind::NxDomain),
            (view.rcode == 5, Kind::Refused),
            (view.rcode == 16, Kind::BadVers),
            (view.truncated && limit(question) == 512, Kind::CutAt512),
            (view.truncated && limit(question) == 1232, Kind::CutAt1232),
            (question.tcp && reply.octets.len() > 1232, Kind::LargeOverTcp),
            (addresses && spelled != lower, Kind::UpperCase),
            (answer.contains(" in ptr "), Kind::Pointers),
            (answer.contains(" in srv "), Kind::Services),
            (
                nodata && !is_host && (is_above_service || zone.ends_with(".arpa") && !infrastructure),
                Kind::AboveFurther,
            ),
        ];
        kinds.into_iter().filter(|(holds, _)| *holds).map(|(_, kind)| kind).collect()
    }
}
