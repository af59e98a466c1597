//! What is to be done at a [`Layer`]: nothing, a change, or something that only people can do. Pure: nothing is
//! written here.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use kube::api::DynamicObject;
use serde_json::Value;

use super::corefile::{self, Bind, Block, Corefile, Plugin};
use super::edit::Edit;
use super::emit;
use super::layout::{Environment, Family, Layer, Neighbour, Place, STUB_DOMAINS, Version, layers, writers};
use super::survey::Survey;
use super::{DNS_PORT, Ours, Refusal, RefusalKind, Stub, custom_dns, kube_dns, openshift};
use crate::check::Holder;
use crate::kubernetes::MANAGER;
use crate::wire::name::Name;
use crate::zone::reverse;

/// CoreDNS before this release has no `forward` that can be relied on.
const FORWARD_SINCE: Version = Version(1, 1, 0);
/// From this release on a change of an imported file is noticed.
pub const IMPORTS_RELOADED_SINCE: Version = Version(1, 6, 1);

/// Ranges that pods get no addresses from but on purpose: reserved (RFC 1112) and for benchmarks (RFC 5180).
const NO_PODS: [&str; 2] = ["240.0.0.0/4", "2001:2::/48"];

/// A layer, and what is to be done there.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The layer; its place may have been settled differently from what the survey alone says.
    pub layer: Layer,
    /// What is wanted there: only servers of the families it can ask. `None`: nothing of ours.
    pub stub: Option<Stub>,
    /// What is to be done.
    pub outcome: Outcome,
    /// What the reader should know beside.
    pub notes: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is as it should be.
    InPlace,
    /// The field's text has to change.
    Change(Change),
    /// Someone else has to change something first.
    Refused(Refusal),
    /// Someone else writes the place: this is for them.
    Emit(String),
}

/// The text of one field of one object, before and after; `None` where there is no such field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is there.
    pub before: Option<String>,
    /// What is to be there.
    pub after: Option<String>,
}

impl Change {
    /// The reverse.
    pub fn undone(&self) -> Change {
        Change { before: self.after.clone(), after: self.before.clone() }
    }

    /// A unified diff of the field, as `diff -u` writes it.
    pub fn diff(&self, name: &str) -> String {
        let line = |text: &Option<String>| text.clone().unwrap_or_default();
        let (before, after) = (line(&self.before), line(&self.after));
        let diff = similar::TextDiff::from_lines(before.as_str(), after.as_str());
        let mut text = String::new();
        let _ = write!(text, "{}", diff.unified_diff().context_radius(3).header(name, name));
        text
    }
}

/// Plans one layer. `edit_managed`: write also where others are known to write.
pub fn plan(
    survey: &Survey,
    layer: Layer,
    wanted: Option<&Stub>,
    ours: &Ours,
    edit_managed: bool,
) -> Planned {
    let mut notes = Vec::new();
    let layer = settle(survey, layer, ours);
    let stub = match wanted.map(|stub| of_families(stub, &layer.families)).transpose() {
        Ok(stub) => stub,
        Err(refusal) => {
            return Planned { layer, stub: None, outcome: Outcome::Refused(refusal), notes };
        }
    };
    let refused = stub
        .as_ref()
        .and_then(|stub| looping(survey, &layer, stub).or_else(|| capturing(survey, &layer, stub)));
    if let Some(refusal) = refused {
        return Planned { layer, stub: None, outcome: Outcome::Refused(refusal), notes };
    }
    let ours = stub.iter().fold(ours.clone(), Ours::with);
    let mut outcome = match change(survey, &layer, stub.as_ref(), &ours, &mut notes) {
        Ok(None) => Outcome::InPlace,
        Ok(Some(change)) => Outcome::Change(change),
        Err(refusal) => Outcome::Refused(refusal),
    };
    let by_hand = matches!(layer.place, Place::Nowhere) || (!layer.managed_by.is_empty() && !edit_managed);
    if by_hand && matches!(outcome, Outcome::Change(_)) {
        outcome = Outcome::Emit(by_hand_text(&layer, stub.as_ref(), &outcome));
    }
    Planned { layer, stub, outcome, notes }
}

/// A block of ours that is already in the main Corefile stays there, also where a better place has come up: the same
/// zone twice in one process would keep it from starting. Where it is in both, our own key is the one to go.
fn settle(survey: &Survey, layer: Layer, ours: &Ours) -> Layer {
    let Place::DataKey { config_map, key, port, bind, beside } = &layer.place else { return layer };
    let holds_ours = |text: &str| {
        layer
            .environment
            .process(|process| corefile::edit(text, None, ours, process))
            .is_ok_and(|edit| edit.changes())
    };
    if survey.text(config_map, key).is_some_and(holds_ours) {
        return layer;
    }
    let Some(there) = beside.iter().find(|other| holds_ours(&other.text)).cloned() else { return layer };
    let beside = beside.iter().filter(|other| **other != there).cloned().collect();
    let managed_by = writers(survey, &there.config_map, &there.key);
    let place = Place::Corefile {
        config_map: there.config_map,
        key: there.key,
        port: *port,
        bind: bind.clone(),
        beside,
    };
    Layer { place, managed_by, ..layer }
}

fn of_families(stub: &Stub, families: &[Family]) -> Result<Stub, Refusal> {
    let reachable =
        stub.servers().iter().filter(|s| families.is_empty() || families.contains(&Family::of(s.ip())));
    Stub::new(stub.zones().iter().cloned(), reachable.copied()).map_err(|_| {
        let servers: Vec<_> = stub.servers().iter().map(|s| s.ip().to_string()).collect();
        Refusal::new(
            RefusalKind::Unsure,
            "",
            format!("cluster DNS has no address of the family of {}", servers.join(", ")),
            "give the Service of globaldns the same ipFamilies as the Service of cluster DNS",
        )
    })
}

/// A server that is cluster DNS itself: it would ask itself for ever.
fn looping(survey: &Survey, layer: &Layer, stub: &Stub) -> Option<Refusal> {
    let cluster_ips: Vec<_> = survey.cluster_ips().into_iter().map(|ip| ip.to_canonical()).collect();
    let endpoints: Vec<_> =
        layers(survey).into_iter().flat_map(|other| other.endpoints).chain(layer.endpoints.clone()).collect();
    let what = |server: &SocketAddr| {
        let ip = server.ip().to_canonical();
        let link_local = match ip {
            IpAddr::V4(ip) => ip.is_link_local(),
            IpAddr::V6(ip) => ip.is_unicast_link_local(),
        };
        let endpoint = |other: &SocketAddr| {
            // On the network of a node someone else may answer on another port.
            other.ip().to_canonical() == ip && other.port() == server.port()
        };
        match () {
            () if ip.is_loopback() => Some("a loopback address, where cluster DNS asks itself"),
            () if cluster_ips.contains(&ip) => Some("the ClusterIP of cluster DNS itself"),
            () if link_local => Some("a link-local address, as those of NodeLocal DNSCache"),
            () if endpoints.iter().any(endpoint) => Some("an address of cluster DNS itself"),
            () => None,
        }
    };
    let (server, what) = stub.servers().iter().find_map(|server| Some((server, what(server)?)))?;
    Some(Refusal::new(
        RefusalKind::Invalid,
        "",
        format!("{server} is {what}: what is forwarded there would go in a circle"),
        "give the ClusterIP of the Service in front of globaldns (--service or --dns-ip)",
    ))
}

/// A reverse zone with an address that is no VIP: names of pods and services are cluster DNS's to tell (D22).
fn capturing(survey: &Survey, layer: &Layer, stub: &Stub) -> Option<Refusal> {
    let mut theirs: Vec<(IpNet, &str)> = Vec::new();
    let mut add = |ip: IpAddr, what| theirs.push((IpNet::from(ip.to_canonical()), what));
    survey.cluster_ips().into_iter().for_each(|ip| add(ip, "the ClusterIP of cluster DNS"));
    stub.servers().iter().for_each(|server| add(server.ip(), "the address globaldns is asked at"));
    let endpoints =
        layers(survey).into_iter().flat_map(|other| other.endpoints).chain(layer.endpoints.clone());
    endpoints.for_each(|endpoint| add(endpoint.ip(), "an address of cluster DNS"));
    theirs.extend(survey.told.iter().flat_map(|told| &told.ranges).map(|range| match range.holder {
        Holder::Pods => (range.net, "a range of pods"),
        Holder::Nodes => (range.net, "the address of a node"),
        _ => (range.net, "a range of Services"),
    }));
    let captured = stub.zones().iter().find_map(|zone| {
        let ours = reverse::addresses(zone.wire())?;
        let meets = |(net, _): &&(IpNet, &str)| net.network() <= *ours.end() && *ours.start() <= net.broadcast();
        let (net, what) = theirs.iter().find(meets)?;
        let shown = if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() };
        Some(Refusal::new(
            RefusalKind::Unsure,
            "",
            format!(
                "the reverse zone {zone} has {shown} in it, {what}: cluster DNS would no longer tell the names of pods \
                 and services there"
            ),
            "give --reverse a range from which nothing but VIPs is taken",
        ))
    });
    captured.or_else(|| unsure(survey, stub))
}

/// Whether everything is known that a reverse zone might take from cluster DNS.
fn unsure(survey: &Survey, stub: &Stub) -> Option<Refusal> {
    let mut reverse = stub.zones().iter().filter(|zone| reverse::addresses(zone.wire()).is_some());
    let first = reverse.clone().next()?;
    let refusal = |zone: &Name, why: String, remedy: &str| {
        let why = format!(
            "whether the reverse zone {zone} has addresses of pods or Services in it is unknown: {why}"
        );
        Some(Refusal::new(RefusalKind::Unsure, "", why, remedy))
    };
    let Some(told) = &survey.told else {
        return refusal(first, "the cluster was not asked".to_owned(), "let it be asked");
    };
    if let Some(why) = &told.no_nodes {
        return refusal(first, format!("nodes cannot be listed ({why})"), "grant the verb list on nodes");
    }
    if let Some((cidrs, services)) = &told.no_services {
        let why = format!("neither ServiceCIDRs ({cidrs}) nor Services ({services}) can be listed");
        return refusal(
            first,
            why,
            "grant the verb list on servicecidrs.networking.k8s.io, before Kubernetes 1.33 on services",
        );
    }
    if told.pods {
        return None;
    }
    let has_no_pods = |zone: &&Name| {
        let nets = NO_PODS.iter().filter_map(|net| net.parse::<IpNet>().ok());
        let addresses = reverse::addresses(zone.wire());
        let inside = |net: &IpNet| {
            addresses.as_ref().is_some_and(|of| net.contains(of.start()) && net.contains(of.end()))
        };
        nets.into_iter().any(|net| inside(&net))
    };
    let unclear = reverse.find(|zone| !has_no_pods(zone))?;
    refusal(
        unclear,
        "not every node has a spec.podCIDR, so the network plugin hands out addresses by itself".to_owned(),
        "give --reverse a range of 240.0.0.0/4 or 2001:2::/48 (Istio allocates from these), or tell cluster DNS of this zone \
         yourself (globaldns stub-domains emit)",
    )
}

fn change(
    survey: &Survey,
    layer: &Layer,
    stub: Option<&Stub>,
    ours: &Ours,
    notes: &mut Vec<String>,
) -> Result<Option<Change>, Refusal> {
    if let Some(config_map @ (namespace, name)) = layer.place.config_map()
        && survey.config_map(config_map).is_some_and(|map| map.immutable == Some(true))
    {
        return Err(Refusal::new(
            RefusalKind::Unsure,
            "immutable",
            format!("ConfigMap {namespace}/{name} is immutable"),
            "replace it by one that is not",
        ));
    }
    match &layer.place {
        Place::DataKey { config_map, key, port, bind, beside } => {
            no_conflict(beside, stub, *port, &layer.environment)?;
            if layer.version.is_some_and(|version| version < IMPORTS_RELOADED_SINCE) {
                notes.push(format!(
                    "CoreDNS before {IMPORTS_RELOADED_SINCE} does not notice changes of imported files: restart its pods"
                ));
            }
            let live = survey.text(config_map, key);
            let texts = live.into_iter().chain(beside.iter().map(|other| other.text.as_str()));
            let block = stub.map(|stub| block(stub, *port, bind, layer.version, texts));
            let change = edit_text(live, block.as_ref(), ours, layer, notes)?;
            let alone = match live {
                None => true,
                Some(text) => edit_text(Some(text), None, ours, layer, &mut Vec::new())?
                    .is_some_and(|without| without.after.is_none()),
            };
            // In a key of our own nobody else needs to see where our part begins and ends.
            Ok(change.map(|change| match (&block, alone) {
                (Some(block), true) => Change { after: Some(block.bare()), ..change },
                _ => change,
            }))
        }
        Place::Corefile { config_map, key, port, bind, beside } => {
            no_conflict(beside, stub, *port, &layer.environment)?;
            let live = survey.text(config_map, key);
            let texts = live.into_iter().chain(beside.iter().map(|other| other.text.as_str()));
            let block = stub.map(|stub| block(stub, *port, bind, layer.version, texts));
            edit_text(live, block.as_ref(), ours, layer, notes)
        }
        Place::StubDomains { config_map, beside, node_local } => {
            no_conflict(beside, stub, DNS_PORT, &layer.environment)?;
            let live = survey.text(config_map, STUB_DOMAINS);
            let edit = kube_dns::edit(live, stub, ours)?;
            if let (Edit::Set(text), true) = (&edit, *node_local) {
                kube_dns::check_for_node_local(text)?;
            }
            Ok(changed(live.map(str::to_owned), edit))
        }
        Place::OpenShift => {
            let servers = field(survey.openshift.as_ref(), "servers");
            let edit = openshift::edit(servers, stub, ours)?;
            Ok(changed_json(servers, edit))
        }
        Place::CustomDns => {
            let zones = field(survey.custom_dns.as_ref(), "zones");
            let edit = custom_dns::edit(zones, stub, ours)?;
            Ok(changed_json(zones, edit))
        }
        Place::Nowhere => Ok(stub.map(|_| Change { before: None, after: None })),
        Place::Unclear(refusal) => match stub {
            Some(_) => Err(refusal.clone()),
            None => Ok(None),
        },
    }
}

/// `texts`: what the process reads.
fn block<'t>(
    stub: &Stub,
    port: u16,
    bind: &Bind,
    version: Option<Version>,
    texts: impl Iterator<Item = &'t str>,
) -> Block {
    let is_old = version.is_some_and(|version| version < FORWARD_SINCE);
    // A tag may say anything: only what is in use there for certain is loaded.
    let plugin = if is_old && uses_proxy(texts) { Plugin::Proxy } else { Plugin::Forward };
    Block { bind: bind.clone(), plugin, ..Block::new(stub.clone(), port) }
}

/// Whether `proxy` is a directive there, and `forward` none.
fn uses_proxy<'t>(texts: impl Iterator<Item = &'t str>) -> bool {
    let (mut proxy, mut forward) = (false, false);
    for text in texts {
        let mut line = 0;
        for token in corefile::lex(text).tokens {
            if token.line > line {
                proxy |= token.text == "proxy";
                forward |= token.text == "forward";
            }
            line = token.last_line();
        }
    }
    proxy && !forward
}

fn edit_text(
    live: Option<&str>,
    block: Option<&Block>,
    ours: &Ours,
    layer: &Layer,
    notes: &mut Vec<String>,
) -> Result<Option<Change>, Refusal> {
    let text = live.unwrap_or_default();
    let names_ours =
        text.contains(MANAGER) || ours.servers.iter().any(|server| text.contains(&server.ip().to_string()));
    if block.is_none() && !names_ours {
        // A removal must not fail because of a text that cannot be read, and that nothing of ours can be in.
        return Ok(None);
    }
    let edit = layer.environment.process(|process| corefile::edit(text, block, ours, process))?;
    notes.extend(edit.warnings);
    if edit.steps.is_empty() {
        return Ok(None);
    }
    // A Corefile stays, be it empty: one that is imported by its name has to exist.
    let stays = !matches!(layer.place, Place::DataKey { .. }) || !edit.text.trim().is_empty();
    let after = stays.then_some(edit.text);
    Ok(Some(Change { before: live.map(str::to_owned), after }))
}

/// No other text of the same process may serve one of the zones on the same port: that process would not start again.
fn no_conflict(
    beside: &[Neighbour],
    stub: Option<&Stub>,
    port: u16,
    environment: &Environment,
) -> Result<(), Refusal> {
    let Some(stub) = stub else { return Ok(()) };
    for other in beside {
        environment.process(|process| {
            let at = |refusal: Refusal| Refusal {
                place: format!("{} {}", other.name(), refusal.place),
                ..refusal
            };
            let file = Corefile::parse(&other.text, process).map_err(at)?;
            let served = file.claims().find_map(|claim| {
                let zone = stub.zones().iter().find(|zone| claim.serves(zone, port))?;
                Some((claim.line, zone))
            });
            let Some((line, zone)) = served else { return Ok(()) };
            Err(Refusal::new(
                RefusalKind::Conflict,
                format!("{} line {line}", other.name()),
                format!(
                    "{zone} is served there already, and a zone served twice keeps CoreDNS from starting"
                ),
                format!("remove that block, or take {zone} from --zone"),
            ))
        })?;
    }
    Ok(())
}

fn field<'o>(object: Option<&'o DynamicObject>, name: &str) -> Option<&'o Value> {
    object?.data.get("spec")?.get(name)
}

fn changed(before: Option<String>, edit: Edit<String>) -> Option<Change> {
    match edit {
        Edit::Unchanged => None,
        Edit::Set(after) => Some(Change { before, after: Some(after) }),
        Edit::Remove => Some(Change { before, after: None }),
    }
}

fn changed_json(before: Option<&Value>, edit: Edit<Value>) -> Option<Change> {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    let before = before.map(pretty);
    changed(
        before,
        match edit {
            Edit::Unchanged => Edit::Unchanged,
            Edit::Set(value) => Edit::Set(pretty(&value)),
            Edit::Remove => Edit::Remove,
        },
    )
}

/// What the owner of the place is told: the distribution's own way, or else the change itself.
fn by_hand_text(layer: &Layer, stub: Option<&Stub>, outcome: &Outcome) -> String {
    let (Some(stub), Outcome::Change(change)) = (stub, outcome) else {
        return match outcome {
            Outcome::Change(change) => change.diff(&layer.place.name()),
            _ => String::new(),
        };
    };
    let live = match &layer.place {
        Place::Corefile { .. } | Place::StubDomains { .. } => change.before.as_deref(),
        _ => None,
    };
    let live = live.filter(|_| layer.flavour.live().is_some());
    // Of a text `emit` knows only what it says itself, and without one nothing: where the process listens elsewhere, its
    // text would be for another port.
    let port = match &layer.place {
        Place::Corefile { port, .. } | Place::DataKey { port, .. } => *port,
        _ => DNS_PORT,
    };
    let known = || {
        let process = corefile::Process::default();
        live.and_then(|text| Corefile::parse(text, &process).ok()?.root_port()).unwrap_or(DNS_PORT)
    };
    if port != known() {
        return change.diff(&layer.place.name());
    }
    match emit::emit(layer.flavour, stub, live) {
        Ok(emitted) => {
            let (text, beside) = emitted.file();
            beside.into_iter().map(|line| format!("# {line}\n")).chain([text]).collect()
        }
        Err(refusal) => format!("# {refusal}\n{}", change.diff(&layer.place.name())),
    }
}

#[cfg(test)]
mod tests;
