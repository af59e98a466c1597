//! `spec.zones` of Alibaba Cloud's `customdnsconfigs.networking.alibabacloud.com/default`, which managed CoreDNS
//! reads (<https://www.alibabacloud.com/help/en/cs/user-guide/managed-coredns-support-custom-parameter-configuration>).

use serde_json::{Value, json};

use super::edit::{Edit, all_ours, elements, same_servers, texts, zones_are_subdomains};
use super::{Ours, Refusal, RefusalKind, Stub, server_text};
use crate::wire::name::Name;

const LIST: &str = "spec.zones";

/// The elements that a stub is: one per zone.
///
/// # Errors
///
/// `Invalid`: a server is not IPv4, or a zone is no RFC 1123 subdomain.
pub fn zones(stub: &Stub) -> Result<Vec<Value>, Refusal> {
    zones_are_subdomains(stub, "CustomDNSConfig")?;
    if let Some(server) = stub.servers().iter().find(|server| !server.is_ipv4()) {
        return Err(Refusal::new(
            RefusalKind::Invalid,
            "",
            format!("CustomDNSConfig takes IPv4 servers only, and {} is none", server.ip()),
            "give IPv4 addresses only",
        ));
    }
    let element =
        |zone: &Name| json!({ "name": zone.to_string(), "forward": { "upstreams": upstreams(stub) } });
    Ok(stub.zones().iter().map(element).collect())
}

/// Makes `zones` (`spec.zones`; `None`: absent) say what is wanted; `wanted: None` takes ours out.
///
/// Fields that are not ours (`hosts`, `protocolStrategy`, …) stay, as do the zones of others. A zone with `hosts`
/// loses only its `forward`.
///
/// # Errors
///
/// `Conflict`: one of our zones goes somewhere else. `Invalid`: the list is broken, a server of ours is not IPv4, or
/// a zone of ours is no RFC 1123 subdomain.
pub fn edit(zones: Option<&Value>, wanted: Option<&Stub>, ours: &Ours) -> Result<Edit<Value>, Refusal> {
    let ours = wanted.map_or_else(|| ours.clone(), |stub| ours.clone().with(stub));
    let before = elements(zones, LIST)?;
    let mut missing = wanted.map_or_else(|| Ok(Vec::new()), self::zones)?;
    let mut after = Vec::new();
    for (at, element) in before.iter().enumerate() {
        let zone = name_of(element);
        let is_wanted =
            wanted.is_some_and(|stub| stub.zones().iter().any(|wanted| Some(wanted) == zone.as_ref()));
        let is_ours = zone.is_some_and(|zone| ours.zones.contains(&zone)) && sends_to(element, &ours);
        match (is_ours, is_wanted) {
            (false, false) => after.push(element.clone()),
            (false, true) => return Err(conflict(element, at)),
            (true, false) => after.extend(without_forward(element)),
            (true, true) => {
                let same = |new: &Value| name_of(new) == name_of(element);
                // Gone if this zone stands here a second time.
                if let (Some(position), Some(stub)) = (missing.iter().position(same), wanted) {
                    missing.remove(position);
                    after.push(updated(element, stub));
                }
            }
        }
    }
    after.append(&mut missing);
    Ok(match after {
        after if after == before => Edit::Unchanged,
        after if after.is_empty() => Edit::Remove,
        after => Edit::Set(Value::Array(after)),
    })
}

fn upstreams(stub: &Stub) -> Vec<String> {
    stub.servers().iter().map(server_text).collect()
}

fn name_of(element: &Value) -> Option<Name> {
    Name::parse(element["name"].as_str()?).ok()
}

/// A zone without upstreams goes to PrivateZone, so it is not ours.
fn sends_to(element: &Value, ours: &Ours) -> bool {
    let upstreams = texts(&element["forward"]["upstreams"]);
    !upstreams.is_empty() && all_ours(upstreams, &ours.servers)
}

fn conflict(element: &Value, at: usize) -> Refusal {
    let upstreams = &element["forward"]["upstreams"];
    let whereto = if upstreams.is_null() { "PrivateZone".to_owned() } else { upstreams.to_string() };
    Refusal::new(
        RefusalKind::Conflict,
        format!("{LIST}[{at}]"),
        format!("someone else sends the zone {} to {whereto}", element["name"]),
        "take that element out first, or choose another zone",
    )
}

fn updated(element: &Value, stub: &Stub) -> Value {
    let mut element = element.clone();
    if !same_servers(&texts(&element["forward"]["upstreams"]), stub.servers()) {
        element["forward"]["upstreams"] = json!(upstreams(stub));
    }
    element
}

/// What is left of an element of ours that we take out: the fixed hosts someone put beside it.
fn without_forward(element: &Value) -> Option<Value> {
    let hosts = element["hosts"].as_array().is_some_and(|hosts| !hosts.is_empty());
    let mut element = element.clone();
    element.as_object_mut()?.remove("forward");
    hosts.then_some(element)
}

#[cfg(test)]
mod tests;
