//! One cause, and one thing to do about it.
//!
//! The order is that of what somebody would look at first: the question itself, an entry that has just this host, what a
//! client may have made of the name, wildcards, a name that was meant instead; and only then that nobody has it.

use std::net::IpAddr;

use hickory_proto::rr::RecordType;

use super::Remedy;
use super::cause::Cause;
use super::evidence::{self, Evidence, Level, Sight, object};
use super::further;
use super::near::{Fit, Of};
use super::question;
use crate::entry::EntryId;
use crate::finding::Code;
use crate::index::{Bearing, Inspected, Standing, UnservedHost};
use crate::limits;
use crate::wire::name::Name;
use crate::wire::probe;
use crate::wire::rtype;
use crate::zone::answer::Family;
use crate::zone::{Host, NS_LABELS, Zone};

/// Suffixes beside the public ones of which many people use a part, so nobody is told to serve all of one (RFC 6762, RFC
/// 8375, and what ICANN keeps for private networks).
const SHARED: [&str; 3] = ["internal", "local", "home.arpa"];

/// What is said first.
pub(super) struct Verdict {
    pub(super) cause: Cause,
    pub(super) why: String,
    pub(super) remedy: Remedy,
    /// What keeps wildcards from the name.
    pub(super) guard: Option<String>,
}

impl Verdict {
    pub(super) fn new(cause: Cause, why: impl Into<String>, remedy: Remedy) -> Verdict {
        Verdict { cause, why: why.into(), remedy, guard: None }
    }
}

impl Remedy {
    pub(super) fn text(text: impl Into<String>) -> Remedy {
        Remedy { text: text.into(), ..Remedy::default() }
    }

    pub(super) fn ask(name: &str, text: impl Into<String>) -> Remedy {
        Remedy { ask: Some(name.to_owned()), ..Remedy::text(text) }
    }

    pub(super) fn change(id: &EntryId, field: &str, text: impl Into<String>) -> Remedy {
        Remedy { object: object(id), field: Some(field.to_owned()), ..Remedy::text(text) }
    }

    pub(super) fn flag(flag: impl Into<String>, text: impl Into<String>) -> Remedy {
        Remedy { flag: Some(flag.into()), ..Remedy::text(text) }
    }
}

/// See the module.
pub(super) fn judge(evidence: &Evidence<'_>) -> Verdict {
    let Some(name) = &evidence.name else { return invalid(evidence) };
    if evidence.resolves() {
        return resolves(evidence);
    }
    if let Some(refused) = refused_type(evidence) {
        return refused;
    }
    let Some((zone, _)) = evidence.zone else { return outside(evidence, name) };
    if !evidence.subject.index.table().is_complete() {
        return Verdict::new(
            Cause::NotLoaded,
            "not every source has delivered its first complete list, so nothing in the zones is answered yet (D9)",
            Remedy::text(
                "wait for /ready of the admin listener, which names what is missing; the log says why it does not come",
            ),
        );
    }
    match evidence.sight {
        Sight::Answered(level) => no_such_type(evidence, name, &evidence.levels[level]),
        Sight::Probe => Verdict::new(
            Cause::Reserved,
            "the name is a probe's: it proves that queries reach this server, and has a TXT record only (D18)",
            Remedy::text("ask for its TXT record, or for the name of a host"),
        ),
        Sight::Empty | Sight::Missing | Sight::Outside => absent(evidence, name, zone),
    }
}

fn invalid(evidence: &Evidence<'_>) -> Verdict {
    let why = evidence.question.name.as_ref().err().cloned().unwrap_or_default();
    let (text, types) = (&evidence.question.text, &evidence.question.types);
    let remedy = match &evidence.question.meant {
        Some(meant) if text.parse::<IpAddr>().is_ok() => {
            let meant = meant.to_string();
            Remedy {
                flag: (!types.contains(&RecordType::PTR)).then(|| "--type PTR".to_owned()),
                ..Remedy::ask(
                    &meant,
                    format!("ask for PTR of {meant}, which has the hosts with this address (D22)"),
                )
            }
        }
        None if text.contains(question::is_foreign) => Remedy::text(
            "ask for the name as clients do, and as spec.hosts has to list it: with letters a to z, digits and hyphens, other \
             letters in punycode, as xn--mnchen-3ya (RFC 3492)",
        ),
        Some(meant) => {
            let meant = meant.to_string();
            Remedy::ask(&meant, format!("ask for {meant}, if that is the name in it"))
        }
        None => Remedy::text("ask for a DNS name such as name.namespace.global"),
    };
    Verdict::new(
        Cause::NameInvalid,
        format!("what was asked for is no name that a host can have: {why}"),
        remedy,
    )
}

fn resolves(evidence: &Evidence<'_>) -> Verdict {
    let from = match (further::resolves(evidence), evidence.sight) {
        (Some(further), _) => further,
        (None, Sight::Answered(level)) => {
            let level = &evidence.levels[level];
            let owners: Vec<String> = level
                .claims
                .iter()
                .filter(|claim| matches!(claim.standing, Standing::Owns | Standing::Default))
                .take(3)
                .map(|claim| claim.id.to_string())
                .collect();
            let wildcard = if level.host.wildcard { "the wildcard " } else { "" };
            let of =
                if owners.is_empty() { "an entry that has just come".to_owned() } else { owners.join(", ") };
            format!("it is answered from {wildcard}{} of {of}", level.host)
        }
        _ => "it is a name of the zone's own (D5, D18)".to_owned(),
    };
    let zone = evidence.zone.map_or_else(String::new, |(zone, _)| zone.apex().to_string());
    Verdict::new(
        Cause::Resolves,
        from,
        Remedy::text(format!(
            "nothing here; if clients do not see it, their resolver does not send {zone} to this server, which \
             globaldns stub-domains status tells"
        )),
    )
}

/// D10: types nobody is answered.
fn refused_type(evidence: &Evidence<'_>) -> Option<Verdict> {
    let refused = |asked: &&RecordType| {
        matches!(u16::from(**asked), rtype::AXFR | rtype::IXFR | rtype::OPT | rtype::MAILA | rtype::MAILB)
    };
    let types = &evidence.question.types;
    if !types.iter().all(|asked| refused(&asked)) {
        return None;
    }
    Some(Verdict::new(
        Cause::TypeRefused,
        format!("no name is answered for {} (D10)", types[0]),
        Remedy::flag("--type A", "ask for A and AAAA; globaldns export --format zone prints whole zones"),
    ))
}

/// The name is answered, but not for what was asked.
fn no_such_type(evidence: &Evidence<'_>, name: &Name, level: &Level) -> Verdict {
    let wanted: Vec<Family> =
        [Family::V4, Family::V6].into_iter().filter(|family| evidence.wants(*family)).collect();
    if wanted.is_empty() {
        if let Some(verdict) = further::no_srv_of_host(evidence, name) {
            return verdict;
        }
        let (asked, text) = (evidence.question.types[0], &evidence.question.text);
        return Verdict::new(
            Cause::TypeUnserved,
            format!(
                "the name exists, and has addresses, as the names of hosts do, and no {asked} records (D3)"
            ),
            Remedy {
                flag: Some("--type A".to_owned()),
                ..Remedy::text(format!(
                    "ask for A or AAAA of {text}; a client that needs {asked} needs another server"
                ))
            },
        );
    }
    let has =
        |claim: &Inspected| claim.addresses.iter().any(|address| wanted.contains(&Family::of(*address)));
    let (asked, other) = match wanted[..] {
        [Family::V6] => ("IPv6", "IPv4"),
        _ => ("IPv4", "IPv6"),
    };
    let lost = level.claims.iter().filter(|claim| claim.standing != Standing::Owns && has(claim));
    let lost = lost.min_by_key(|claim| claim.standing == Standing::NotPublic);
    let winner = level.claims.iter().find(|claim| claim.standing == Standing::Owns);
    if let (Some(loser), Some(winner)) = (lost, winner) {
        return claim_lost(evidence, level, (loser, winner), asked);
    }
    let owner =
        level.claims.iter().find(|claim| matches!(claim.standing, Standing::Owns | Standing::Default));
    let mut broader = evidence.levels.iter().filter(|other| other.has_answers && other.host != level.host);
    if let Some(broader) = broader.find(|other| {
        other.host.wildcard && other.claims.iter().any(|claim| claim.standing == Standing::Owns && has(claim))
    }) && let Some(owner) = owner
    {
        return Verdict::new(
            Cause::Shadowed,
            format!(
                "{} has {asked} addresses, but {} is more specific, answers alone and has none (H4)",
                broader.host, level.host
            ),
            Remedy::change(
                &owner.id,
                "spec.addresses",
                format!("list the {asked} address in spec.addresses of {}, too", owner.id),
            ),
        );
    }
    let remedy = match owner {
        Some(owner) => Remedy::change(
            &owner.id,
            "spec.addresses",
            format!(
                "nothing, if clients ask for {other}, too, as they do; else list an {asked} address in spec.addresses of {}",
                owner.id
            ),
        ),
        None => Remedy::text(format!("ask for {other}")),
    };
    Verdict::new(Cause::FamilyMissing, format!("the host has {other} addresses only (D3)"), remedy)
}

/// O1: somebody gives an address of the family, and somebody without one owns the host.
fn claim_lost(
    evidence: &Evidence<'_>,
    level: &Level,
    (loser, winner): (&Inspected, &Inspected),
    asked: &str,
) -> Verdict {
    let preferred = &evidence.subject.index.policy().prefer_namespaces;
    let (of_loser, of_winner) = (&*loser.id.namespace, &*winner.id.namespace);
    let preference = |of: &str| preferred.iter().position(|name| name == of).unwrap_or(usize::MAX);
    if loser.standing == Standing::NotPublic {
        // They are in the order of rank.
        let first = level.claims.iter().find(|claim| [&loser.id, &winner.id].contains(&&claim.id));
        let older = first.is_some_and(|first| first.id == loser.id);
        let wins = of_loser == of_winner || (preference(of_loser), !older) < (preference(of_winner), older);
        let others = level
            .claims
            .iter()
            .filter(|claim| claim.public && !claim.addresses.is_empty() && claim.id != winner.id);
        let others = match others.count() {
            0 => String::new(),
            _ => ", and from the other entries that are exported to every namespace".to_owned(),
        };
        let remedy = if wins {
            let text = format!("export {} to \"*\", or remove the host from {}{others}", loser.id, winner.id);
            Remedy::change(&loser.id, "spec.exportTo", text)
        } else {
            let text = format!(
                "remove the host from {}{others}, or list an {asked} address in its spec.addresses, too",
                winner.id
            );
            Remedy::change(&winner.id, &format!("spec.hosts[{}]", winner.field), text)
        };
        let why = format!(
            "{} gives {asked} addresses, but {}, which is exported to every namespace, owns the host (O1)",
            loser.id, winner.id
        );
        return Verdict::new(Cause::ClaimLost, why, remedy);
    }
    let (flag, put) = if preference(of_winner) < preference(of_loser) {
        let mut order: Vec<&str> =
            preferred.iter().map(String::as_str).filter(|name| *name != of_loser).collect();
        let at = order.iter().position(|name| *name == of_winner).unwrap_or(0);
        order.insert(at, of_loser);
        let flag = format!("--prefer-namespace {}", order.join(","));
        let put = format!("put {of_loser} before {of_winner} in --prefer-namespace, as in {flag}");
        (flag, put)
    } else {
        let flag = format!("--prefer-namespace {of_loser}");
        let put = format!("prefer the other with {flag}");
        (flag, put)
    };
    Verdict::new(
        Cause::ClaimLost,
        format!("{} gives {asked} addresses, but {} owns the host and has none (O1)", loser.id, winner.id),
        Remedy::flag(flag, format!("remove the host from {}, or {put}", winner.id)),
    )
}

/// The name does not exist, or has nothing.
fn absent(evidence: &Evidence<'_>, name: &Name, zone: &Zone) -> Verdict {
    let zones = evidence.subject.index.table().zones();
    let relative = evidence.relative();
    if relative == NS_LABELS || relative == &NS_LABELS[3..] {
        return own_name(evidence, zone);
    }
    let exact = evidence.levels.first().filter(|level| !level.host.wildcard);
    if let Some(verdict) = exact.and_then(no_address) {
        return verdict;
    }
    if let Some((Fit::Exact, unserved)) = evidence.unserved.first() {
        return not_served(evidence, unserved, name);
    }
    if let Some(verdict) = further::absent(evidence, name, zone) {
        return verdict;
    }
    if relative.is_empty() {
        return Verdict::new(
            Cause::ZoneApex,
            "the name is the zone itself, which has SOA and NS records, and addresses only if an entry has it as its host (H3)",
            Remedy::text(format!("ask for a name below {name}, or list {name} in spec.hosts of an entry")),
        );
    }
    let answering = evidence.levels.iter().find(|level| level.host.wildcard && level.has_answers);
    if zones.is_search_path_product(relative) {
        return search_path(evidence, name, zone, answering);
    }
    if let Some(wildcard) = answering
        && zones.is_cut_off(name.wire(), wildcard.host.name.wire())
    {
        let guard = format!("--zone-owner keeps {} from the names of an owned suffix (O6)", wildcard.host);
        return Verdict {
            guard: Some(guard),
            ..Verdict::new(
                Cause::CutOff,
                format!(
                    "{} would match, but a suffix between belongs to namespaces of its own (O6)",
                    wildcard.host
                ),
                Remedy::text(
                    "list the name, or a wildcard at or below the owned suffix, in an entry of its owners",
                ),
            )
        };
    }
    if let Some(verdict) = evidence.levels.iter().find_map(no_address) {
        return verdict;
    }
    let below = Host { name: name.clone(), wildcard: true };
    if evidence.subject.index.table().has(&below) {
        let owner = evidence.subject.index.inspect(&below, 1).0.into_iter().next();
        let object = owner.map(|owner| owner.id.to_string());
        let of = object.as_ref().map_or_else(String::new, |object| format!(" of {object}"));
        return Verdict::new(
            Cause::WildcardSuffix,
            format!("{below} stands for every name below {name}, and never for {name} itself (H4)"),
            Remedy {
                object,
                field: Some("spec.hosts".to_owned()),
                ..Remedy::text(format!(
                    "list {name} beside {below} in spec.hosts{of}, or ask for a name below it"
                ))
            },
        );
    }
    if let Some((_, unserved)) = evidence.unserved.first() {
        return not_served(evidence, unserved, name);
    }
    if let Some(verdict) = meant(evidence) {
        return verdict;
    }
    if evidence.sight == Sight::Empty {
        return Verdict::new(
            Cause::EmptyNonTerminal,
            "no entry has this host; the name exists only because something lies below it (D3)",
            Remedy::text(format!("ask for one of the names below, or list {name} in spec.hosts of an entry")),
        );
    }
    nobody(evidence, name)
}

/// D5.
fn own_name(evidence: &Evidence<'_>, zone: &Zone) -> Verdict {
    if let Some((Fit::Exact, unserved)) = evidence.unserved.first() {
        return not_served(evidence, unserved, zone.apex());
    }
    Verdict::new(
        Cause::Reserved,
        "the name belongs to the zone's own name server (D5)",
        Remedy::text(
            "ask for the name of a host; --advertise-address or --advertise-service gives the name server its addresses",
        ),
    )
}

/// H6.
fn search_path(evidence: &Evidence<'_>, name: &Name, zone: &Zone, wildcard: Option<&Level>) -> Verdict {
    let meant = evidence.near.iter().find(|near| near.served);
    let apex = zone.apex();
    let guard =
        wildcard.map(|level| format!("{} does not answer names that a search path made (H6)", level.host));
    let why = format!(
        "a client's search path has made the name: a resolver puts each suffix of its search list behind a name of fewer \
         dots than its ndots says (5 in pods), and {apex} is on that list, or the name was completed twice. No wildcard \
         answers such names (H6)"
    );
    let remedy = match meant {
        Some(meant) => Remedy::ask(
            &meant.name,
            format!(
                "ask for {}, with a dot at its end where the client allows it; take {apex} off the search list \
                 (dnsConfig.searches of the pod), or set ndots to 1 in its dnsConfig.options",
                meant.name
            ),
        ),
        None => Remedy::text(format!(
            "nothing here, if the name without .{apex} resolves; take {apex} off the search list (dnsConfig.searches of \
             the pod), or set ndots to 1 in its dnsConfig.options, so that {name} is not asked for"
        )),
    };
    Verdict { guard, ..Verdict::new(Cause::SearchPath, why, remedy) }
}

/// A7: an entry has the host and nobody gives it an address.
fn no_address(level: &Level) -> Option<Verdict> {
    if level.has_answers {
        return None;
    }
    let claim = level.claims.first()?;
    let id = &claim.id;
    let host = &level.host;
    if let Some(first) = claim.of_bearing(Bearing::Rejected).next() {
        let cause = match first.code {
            Code::AddressRange => Cause::AddressRange,
            Code::AddressUnspecified => Cause::AddressUnspecified,
            Code::Placeholder => Cause::AddressPlaceholder,
            Code::FieldType => Cause::AddressType,
            _ => Cause::AddressInvalid,
        };
        let why = format!(
            "{id} has the host {host}, and every address it lists is rejected: {} {:?}: {}",
            first.field, first.value, first.why
        );
        return Some(Verdict::new(
            cause,
            why,
            Remedy::change(id, &first.field, format!("in {id}: {}", first.remedy)),
        ));
    }
    let list = format!("list an address of its own in spec.addresses of {id}, such as one from 240.0.0.0/4");
    // pilot/pkg/controllers/ipallocate: wildcards only with DYNAMIC_DNS.
    let others = if host.wildcard {
        "set --default-address; istiod allocates none to wildcards"
    } else {
        "let istiod allocate one (PILOT_ENABLE_IP_AUTOALLOCATE), or set --default-address"
    };
    let remedy = |field: &str, text: String| Remedy::change(id, field, text);
    let (cause, why, remedy) = if claim.resolution_none {
        (
            Cause::ResolutionNone,
            "lists no address, and with resolution NONE, which is the default, it gets neither an allocated one nor \
             --default-address (A2, A3)",
            remedy("spec.addresses", list),
        )
    } else if !claim.allocated {
        (
            Cause::AllocationOff,
            "lists no address, and its label networking.istio.io/enable-autoallocate-ip says false, so none is allocated (A2)",
            remedy("spec.addresses", format!("{list}, or take the label away")),
        )
    } else {
        (
            Cause::NotAllocated,
            "lists no address, and istiod has allocated none to it in status.addresses (A2)",
            remedy("spec.addresses", format!("{list}; or {others}")),
        )
    };
    Some(Verdict::new(cause, format!("{id} has the host {host}, but {why}"), remedy))
}

/// A host that would be the name and is not served.
fn not_served(evidence: &Evidence<'_>, unserved: &UnservedHost, name: &Name) -> Verdict {
    let UnservedHost { id, host, code, .. } = unserved;
    let host = limits::shorten(host, 260);
    let why = format!("{id} has the host {host:?}, but {}", evidence::why_unserved(unserved));
    let remedy = match code {
        Code::HostOutsideZones => return outside_host(evidence, unserved, name),
        Code::ExportHidden => {
            Remedy::change(id, "spec.exportTo", format!("remove \"~\" from spec.exportTo of {id}"))
        }
        Code::ExportNotPublic => Remedy::change(
            id,
            "spec.exportTo",
            format!("export {id} to \"*\" in spec.exportTo, or run without --public-only"),
        ),
        Code::ResolutionNoneSkipped => Remedy::change(
            id,
            "spec.resolution",
            format!("set spec.resolution of {id} to STATIC or DNS, or run without --skip-resolution-none"),
        ),
        Code::FieldType => {
            Remedy::change(id, &unserved.field, format!("write spec.hosts of {id} as a list: [{host:?}]"))
        }
        Code::HostApexWildcard => Remedy {
            object: object(id),
            field: Some(unserved.field.clone()),
            ..Remedy::flag(
                "--apex-wildcards",
                format!("use a more specific wildcard in {id}, or set --apex-wildcards"),
            )
        },
        _ => Remedy::change(id, &unserved.field, format!("in {id}: {}", unserved.remedy)),
    };
    Verdict::new(Cause::of_unserved(*code), why, remedy)
}

/// H2, Z2.
fn outside_host(evidence: &Evidence<'_>, unserved: &UnservedHost, name: &Name) -> Verdict {
    let UnservedHost { id, host, field, .. } = unserved;
    let zones = evidence.subject.index.table().zones();
    if zones.cluster_domain().covers(name) {
        return Verdict::new(
            Cause::HostInClusterDomain,
            format!(
                "{id} has the host {host}, which lies in the cluster's own domain {}: cluster DNS answers that, and this \
                 server never does (Z2)",
                zones.cluster_domain()
            ),
            Remedy::change(
                id,
                field,
                format!("give {id} a host in a zone, such as name.namespace.{}", first_zone(evidence)),
            ),
        );
    }
    let zone = zone_for(host);
    Verdict::new(
        Cause::HostOutsideZones,
        format!("{id} has the host {host}, but no zone of this server covers it (H2)"),
        Remedy::flag(
            format!("--zone {zone}"),
            format!(
                "add --zone {zone} beside the zones there are, and to the stub domains of cluster DNS; then every other name in \
                 {zone} that no entry has does not exist for clients"
            ),
        ),
    )
}

/// A zone that covers a host and takes no more from others than it has to.
fn zone_for(host: &str) -> String {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let (wildcard, host) = match host.strip_prefix("*.") {
        Some(suffix) => (true, suffix),
        None => (false, host.as_str()),
    };
    // Below a public suffix, what is above the host is somebody's.
    let public = psl::suffix(host.as_bytes()).is_some_and(|suffix| suffix.is_known());
    // A wildcard at the apex of its zone is not served (H5). Else name.namespace.suffix, as multi-cluster meshes have it.
    let zone = host.splitn(if wildcard { 2 } else { 3 }, '.').nth(if wildcard { 1 } else { 2 });
    zone.filter(|zone| !public && !SHARED.contains(zone)).unwrap_or(host).to_owned()
}

fn first_zone(evidence: &Evidence<'_>) -> String {
    let zones = evidence.subject.index.table().zones();
    zones.get(0).map_or_else(String::new, |zone| zone.apex().to_string())
}

/// D8.
fn outside(evidence: &Evidence<'_>, name: &Name) -> Verdict {
    let zones = evidence.subject.index.table().zones();
    let listed = |between: &str| {
        let zones = zones.iter().filter(|zone| !zone.is_reverse()).take(5);
        zones.map(|zone| zone.apex().to_string()).collect::<Vec<_>>().join(between)
    };
    if let Some((_, unserved)) = evidence.unserved.first() {
        return not_served(evidence, unserved, name);
    }
    if let Some(verdict) = further::not_reversed(evidence, name) {
        return verdict;
    }
    if let Some(verdict) = meant(evidence) {
        return verdict;
    }
    let cluster = zones.cluster_domain();
    if cluster.covers(name) {
        return Verdict::new(
            Cause::ClusterName,
            format!(
                "the name lies in the cluster's own domain {cluster}, which cluster DNS answers and this server never does (Z2)"
            ),
            Remedy::text(format!("ask cluster DNS; names of other clusters end in {}", listed(" or "))),
        );
    }
    Verdict::new(
        Cause::OutsideZones,
        format!(
            "no zone covers the name (the zones are {}), and no entry has it: it is refused (D8)",
            listed(", ")
        ),
        Remedy::text(
            "ask the server of that name; if it is to be answered here, write a ServiceEntry with the host and add its zone with --zone",
        ),
    )
}

/// A name that is served and was probably meant.
fn meant(evidence: &Evidence<'_>) -> Option<Verdict> {
    let near = evidence.near.first()?;
    let (name, meant) = (&evidence.question.text, &near.name);
    let exists = match &near.of {
        _ if near.served => "exists".to_owned(),
        Some(Of { host, object, .. }) if host.starts_with("*.") => {
            format!("matches the host {host} of {object}, which is not served")
        }
        of => {
            let object = of.as_ref().map_or("an entry", |of| &of.object);
            format!("is the host of {object}, and is not served either")
        }
    };
    let why = match near.how {
        Cause::ZoneMissing => format!("{name} has no zone at its end; {meant} {exists}"),
        Cause::OtherZone => format!("nobody has {name}; in another zone {meant} {exists}"),
        Cause::SvcInName => format!("{name} has svc or the cluster domain in it; {meant} {exists}"),
        Cause::SearchPath => format!(
            "a client's search path has put names of the cluster behind {meant}, which {exists}: a resolver does so with names \
             of fewer dots than its ndots says (5 in pods), and goes on to the name itself"
        ),
        Cause::LabelsSwapped => {
            format!("nobody has {name}; with two labels in the other order {meant} {exists}")
        }
        Cause::LabelExtra => format!("nobody has {name}; with one label less {meant} {exists}"),
        Cause::LabelMissing => format!("nobody has {name}; with one label more {meant} {exists}"),
        _ => format!("nobody has {name}; {meant} differs in {} of its letters and {exists}", near.letters),
    };
    let remedy = match &near.of {
        // Whether it would be answered with this host is for its entry to say, so it is asked for afterwards.
        Some(Of { host, object, field }) => Remedy {
            object: Some(object.clone()),
            field: Some(field.clone()),
            ..Remedy::text(format!(
                "correct {field} of {object}, {host}, {} {name}; if {meant} is meant, globaldns explain {meant} tells why it is \
                 not served",
                if host.starts_with("*.") { "so that it matches" } else { "to" }
            ))
        },
        None if near.how == Cause::SearchPath => Remedy::ask(
            meant,
            format!(
                "ask for {meant}, with a dot at its end where the client allows it; else nothing, as the client's next tries \
                 come to it"
            ),
        ),
        None => Remedy::ask(
            meant,
            format!("ask for {meant}, if that is meant; else write a ServiceEntry with the host"),
        ),
    };
    Some(Verdict::new(near.how, why, remedy))
}

/// D4.
fn nobody(evidence: &Evidence<'_>, name: &Name) -> Verdict {
    let hosts = "write a ServiceEntry with the host in spec.hosts and an address in spec.addresses";
    if evidence.subject.index.entry_count() == 0 {
        return Verdict::new(
            Cause::NoEntries,
            "no ServiceEntry was read at all, so no name exists",
            Remedy::text(
                "look at --file and --namespace, and whether the cluster has the CRD of networking.istio.io and ServiceEntries; \
                 objects of other kinds are passed over",
            ),
        );
    }
    let more = if probe::is_probe(evidence.relative()) { " (nor is it a probe)" } else { "" };
    Verdict::new(
        Cause::NoEntry,
        format!("no ServiceEntry that was read has the host {name} or a wildcard above it{more} (D4)"),
        Remedy {
            field: Some("spec.hosts".to_owned()),
            ..Remedy::text(format!("{hosts}; if there is one, look at --namespace and --file"))
        },
    )
}
