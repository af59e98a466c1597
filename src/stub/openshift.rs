//! `spec.servers` of OpenShift's `dnses.operator.openshift.io/default`, from which its operator writes the Corefile.
//!
//! The list has no key in the CRD, so server-side apply would claim it whole: it is read, edited and written back.
//! The operator writes one server block per element and does not look for zones that come twice, with which
//! CoreDNS does not load at all; so we look.

use serde_json::{Value, json};

use super::edit::{Edit, all_ours, elements, read_server, same_servers, texts, zones_are_subdomains};
use super::{Ours, Refusal, RefusalKind, Stub, server_text};
use crate::wire::name::Name;

/// The name of our element: an IANA service name (RFC 6335), at most 15 octets.
pub const NAME: &str = "globaldns";

const LIST: &str = "spec.servers";

/// The element that a stub is.
pub fn element(stub: &Stub) -> Value {
    json!({
        "name": NAME,
        "zones": zones(stub),
        "forwardPlugin": { "policy": "Random", "upstreams": upstreams(stub) },
    })
}

/// Makes `servers` (`spec.servers`; `None`: absent) say what is wanted; `wanted: None` takes our elements out.
///
/// Fields of our element that are not ours (`policy`, `transportConfig`, …) stay, as do all other elements.
///
/// # Errors
///
/// `Conflict`: another element has one of our zones. `Invalid`: the list is something the operator could make no
/// working Corefile of, or one of our zones is. `Unsure`: an element with our name serves someone else's zone.
pub fn edit(servers: Option<&Value>, wanted: Option<&Stub>, ours: &Ours) -> Result<Edit<Value>, Refusal> {
    let ours = wanted.map_or_else(|| ours.clone(), |stub| ours.clone().with(stub));
    let before = elements(servers, LIST)?;
    let mut mine = Vec::new();
    for (at, element) in before.iter().enumerate() {
        if element["name"] == NAME {
            is_ours(element, at, &ours)?;
            mine.push(at);
        }
    }
    let mut after = before.clone();
    match wanted {
        Some(stub) => {
            zones_are_subdomains(stub, "OpenShift")?;
            check_others(&before, stub)?;
            match mine.first() {
                Some(at) => update(&mut after[*at], stub),
                None => after.push(element(stub)),
            }
            for at in mine.iter().skip(1).rev() {
                after.remove(*at);
            }
        }
        None => {
            for at in mine.iter().rev() {
                after.remove(*at);
            }
        }
    }
    Ok(match after {
        after if after == before => Edit::Unchanged,
        after if after.is_empty() => Edit::Remove,
        after => Edit::Set(Value::Array(after)),
    })
}

fn zones(stub: &Stub) -> Vec<String> {
    stub.zones().iter().map(Name::to_string).collect()
}

fn upstreams(stub: &Stub) -> Vec<String> {
    stub.servers().iter().map(server_text).collect()
}

/// An element with our name is ours if it sends to us, or has no zone but ours.
fn is_ours(element: &Value, at: usize, ours: &Ours) -> Result<(), Refusal> {
    let upstreams = texts(&element["forwardPlugin"]["upstreams"]);
    if !upstreams.is_empty() && all_ours(upstreams, &ours.servers) {
        return Ok(());
    }
    let not_ours = |text: &&str| Name::parse(text).is_ok_and(|zone| !ours.zones.contains(&zone));
    match texts(&element["zones"]).into_iter().find(not_ours) {
        None => Ok(()),
        Some(zone) => Err(Refusal::new(
            RefusalKind::Unsure,
            place(at),
            format!("it has our name {NAME}, but sends the zone {zone} to servers that are not ours"),
            "give that element another name",
        )),
    }
}

fn place(at: usize) -> String {
    format!("{LIST}[{at}]")
}

/// What the operator, or CoreDNS after it, makes of the elements of others together with ours.
fn check_others(elements: &[Value], stub: &Stub) -> Result<(), Refusal> {
    let mut seen: Vec<(Name, usize)> = Vec::new();
    for (at, element) in elements.iter().enumerate().filter(|(_, element)| element["name"] != NAME) {
        check_tls(element, at)?;
        for zone in texts(&element["zones"]).into_iter().filter_map(|text| Name::parse(text).ok()) {
            if stub.zones().contains(&zone) {
                return Err(Refusal::new(
                    RefusalKind::Conflict,
                    place(at),
                    format!("the server {} has our zone {zone}", element["name"]),
                    "take the zone out of that server first, or choose another zone",
                ));
            }
            if let Some((_, first)) = seen.iter().find(|(other, _)| *other == zone) {
                return Err(Refusal::new(
                    RefusalKind::Invalid,
                    place(at),
                    format!(
                        "the zone {zone} is in {} as well, and CoreDNS does not load one that comes twice",
                        place(*first)
                    ),
                    "take one of them out",
                ));
            }
            seen.push((zone, at));
        }
    }
    Ok(())
}

/// The operator writes no Corefile at all while one element asks for TLS without what TLS needs.
fn check_tls(element: &Value, at: usize) -> Result<(), Refusal> {
    let forward = &element["forwardPlugin"];
    let transport = &forward["transportConfig"];
    if transport["transport"] != "TLS" {
        return Ok(());
    }
    let why = if transport["tls"]["serverName"].as_str().is_none_or(str::is_empty) {
        "it asks for TLS without a serverName"
    } else if texts(&forward["upstreams"]).iter().any(|text| read_server(text).is_none()) {
        "it asks for TLS with an upstream that is no address"
    } else {
        return Ok(());
    };
    Err(Refusal::new(
        RefusalKind::Invalid,
        place(at),
        format!("{why}, so the operator writes no Corefile and nothing we write would take effect"),
        "correct that server",
    ))
}

/// Writes zones and servers where they differ in meaning.
fn update(element: &mut Value, stub: &Stub) {
    let mut there: Vec<_> =
        texts(&element["zones"]).into_iter().map(|text| Name::parse(text).map_err(|_| text)).collect();
    let mut wanted: Vec<_> = stub.zones().iter().cloned().map(Ok).collect();
    there.sort();
    wanted.sort();
    if there != wanted {
        element["zones"] = json!(zones(stub));
    }
    if !element["forwardPlugin"].is_object() {
        element["forwardPlugin"] = json!({});
    }
    let forward = &mut element["forwardPlugin"];
    if !same_servers(&texts(&forward["upstreams"]), stub.servers()) {
        forward["upstreams"] = json!(upstreams(stub));
    }
}

#[cfg(test)]
mod tests;
