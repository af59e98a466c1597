//! Edits of `stubDomains` (kube-dns), `spec.servers` (OpenShift) and `spec.zones` (CustomDNSConfig), whatever is there
//! (T3, T4): done once, undone whole, and nothing of others touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use super::Octets;
use crate::client::parse_server;
use crate::stub::edit::Edit;
use crate::stub::{Ours, Refusal, Stub, custom_dns, kube_dns, openshift};
use crate::wire::name::Name;

const ZONES: [&str; 8] = ["global", "cluster2", "eu.global", "zz", "Global.", "my_zone", "corp", "."];
const SERVERS: [&str; 8] = [
    "10.96.0.53",
    "10.96.0.53:53",
    "10.96.0.54:5353",
    "[fd00::35]:53",
    "fd00::35",
    "10.0.0.1",
    "dns.corp",
    "$(ip)",
];

pub(super) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let stubs = (stub(&mut octets), stub(&mut octets));
    let (Some(wanted), Some(recorded)) = stubs else { return };
    let ours = if octets.one_in(4) { Ours::default() } else { Ours::default().with(&recorded) };
    match octets.below(4) {
        0 => stub_domains(&String::from_utf8_lossy(octets.rest()), &wanted, &ours),
        1 => stub_domains(&drawn_object(&mut octets), &wanted, &ours),
        2 => list(&OPENSHIFT, &drawn_list(&mut octets), &wanted, &ours),
        _ => list(&CUSTOM_DNS, &drawn_list(&mut octets), &wanted, &ours),
    }
}

fn stub(octets: &mut Octets<'_>) -> Option<Stub> {
    let zones: Vec<Name> =
        (0..1 + octets.below(3)).filter_map(|_| Name::parse(octets.pick(&ZONES)).ok()).collect();
    let servers: Vec<_> =
        (0..1 + octets.below(3)).filter_map(|_| parse_server(octets.pick(&SERVERS))).collect();
    Stub::new(zones, servers).ok()
}

/// The members of an object in their order, those of equal names too.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

fn members(text: Option<&str>) -> Vec<(String, Value)> {
    let text = text.filter(|text| !text.trim().is_empty()).unwrap_or("null");
    serde_json::from_str::<Option<Members>>(text)
        .expect("what was edited is JSON")
        .map_or(Vec::new(), |m| m.0)
}

fn servers(value: &Value) -> BTreeSet<Option<SocketAddr>> {
    let list = value.as_array().into_iter().flatten();
    list.map(|server| server.as_str().and_then(parse_unbracketed)).collect()
}

/// An address as these objects write it: `[fd00::1]` alone is none.
fn parse_unbracketed(text: &str) -> Option<SocketAddr> {
    parse_server(text).filter(|_| !text.ends_with(']'))
}

fn is_ours(zone: &str, value: &Value, ours: &Ours) -> bool {
    Name::parse(zone).is_ok_and(|zone| ours.zones.contains(&zone))
        && (value.is_null() || value.is_array())
        && servers(value).iter().all(|server| server.is_some_and(|server| ours.servers.contains(&server)))
}

fn stub_domains(text: &str, wanted: &Stub, ours: &Ours) {
    let with_wanted = ours.clone().with(wanted);
    let others = |text: Option<&str>| -> Vec<_> {
        members(text).into_iter().filter(|(zone, value)| !is_ours(zone, value, &with_wanted)).collect()
    };
    let edited = kube_dns::edit(Some(text), Some(wanted), ours);
    if let Ok(edited) = edited {
        let after = edited.applied(Some(text.to_owned())).expect("ours are in it");
        let again = kube_dns::edit(Some(&after), Some(wanted), ours);
        assert_eq!(again, Ok(Edit::Unchanged), "{text:?} → {after:?}");
        assert_eq!(others(Some(&after)), others(Some(text)), "{text:?} → {after:?}");
        let all = members(Some(&after));
        let goes_to: BTreeSet<_> = wanted.servers().iter().copied().map(Some).collect();
        for zone in wanted.zones() {
            // Of two equal keys the last counts.
            let last = all.iter().rfind(|(domain, _)| *domain == zone.to_string());
            assert!(last.is_some_and(|(_, value)| servers(value) == goes_to), "{zone} in {after:?}");
        }
        let removed =
            kube_dns::edit(Some(&after), None, &with_wanted).expect("what we wrote can be taken out");
        let removed = removed.applied(Some(after.clone()));
        assert_eq!(members(removed.as_deref()), others(Some(text)), "{text:?} → {after:?} → {removed:?}");
    }
    if let Ok(removed) = kube_dns::edit(Some(text), None, ours) {
        let is_unchanged = removed == Edit::Unchanged;
        let left = removed.applied(Some(text.to_owned()));
        let mut expected = members(Some(text));
        expected.retain(|(zone, value)| !is_ours(zone, value, ours));
        let there = members(left.as_deref());
        if is_unchanged {
            // Of two equal keys the last counts, so one of ours before it may stay.
            let meaning = |all: &[(String, Value)]| -> BTreeMap<String, _> {
                all.iter().map(|(zone, value)| (zone.clone(), servers(value))).collect()
            };
            assert_eq!(meaning(&there), meaning(&expected), "{text:?}");
        } else {
            assert_eq!(there, expected, "{text:?} → {left:?}");
        }
        assert_eq!(kube_dns::edit(left.as_deref(), None, ours), Ok(Edit::Unchanged), "{left:?}");
    }
    let _ = kube_dns::check_for_node_local(text);
}

type EditList = fn(Option<&Value>, Option<&Stub>, &Ours) -> Result<Edit<Value>, Refusal>;

/// A format that is a list of objects.
struct Format {
    edit: EditList,
    /// Where the servers of an element are.
    forward: &'static str,
    /// Whether an element stays as it is, whatever becomes of ours.
    is_other: fn(&Value, &Ours) -> bool,
    /// What an element sends to its servers.
    zones: fn(&Value) -> Vec<Name>,
}

const OPENSHIFT: Format = Format {
    edit: openshift::edit,
    forward: "forwardPlugin",
    is_other: |element, _| element["name"] != openshift::NAME,
    zones: |element| match element["name"] == openshift::NAME {
        true => texts(&element["zones"]).filter_map(|zone| Name::parse(zone).ok()).collect(),
        false => Vec::new(),
    },
};

const CUSTOM_DNS: Format = Format {
    edit: custom_dns::edit,
    forward: "forward",
    is_other: |element, ours| {
        let upstreams = &element["forward"]["upstreams"];
        let mine = element["name"].as_str().is_some_and(|zone| is_ours(zone, upstreams, ours));
        !mine || servers(upstreams).is_empty()
    },
    zones: |element| element["name"].as_str().and_then(|zone| Name::parse(zone).ok()).into_iter().collect(),
};

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

fn list(format: &Format, before: &Value, wanted: &Stub, ours: &Ours) {
    let with_wanted = ours.clone().with(wanted);
    // Fixed hosts that someone put beside our forward stay when that goes, and are nobody's then.
    let others = |list: Option<&Value>, ours: &Ours| -> Vec<Value> {
        let elements = list.and_then(Value::as_array).into_iter().flatten();
        let bare = |element: &&Value| element["hosts"].is_array() && element.get(format.forward).is_none();
        elements.filter(|element| (format.is_other)(element, ours) && !bare(element)).cloned().collect()
    };
    if let Ok(edited) = (format.edit)(Some(before), Some(wanted), ours) {
        let after = edited.applied(Some(before.clone())).expect("ours are in it");
        let again = (format.edit)(Some(&after), Some(wanted), ours);
        assert_eq!(again, Ok(Edit::Unchanged), "{before} → {after}");
        let shown = || format!("{before} → {after}");
        assert_eq!(others(Some(&after), &with_wanted), others(Some(before), &with_wanted), "{}", shown());
        let elements = after.as_array().expect("a list");
        for zone in wanted.zones() {
            let serving: Vec<_> =
                elements.iter().filter(|element| (format.zones)(element).contains(zone)).collect();
            let [element] = serving[..] else { panic!("{zone} {} times: {}", serving.len(), shown()) };
            let upstreams = &element[format.forward]["upstreams"];
            let goes_to: BTreeSet<_> = wanted.servers().iter().copied().map(Some).collect();
            assert_eq!(servers(upstreams), goes_to, "{}", shown());
        }
        let removed =
            (format.edit)(Some(&after), None, &with_wanted).expect("what we wrote can be taken out");
        let removed = removed.applied(Some(after.clone()));
        assert_eq!(others(removed.as_ref(), &with_wanted), others(Some(before), &with_wanted), "{}", shown());
        for element in removed.as_ref().and_then(Value::as_array).into_iter().flatten() {
            assert!((format.is_other)(element, &with_wanted), "{element} is left of {}", shown());
        }
    }
    if let Ok(removed) = (format.edit)(Some(before), None, ours) {
        let left = removed.applied(Some(before.clone()));
        assert_eq!(others(left.as_ref(), ours), others(Some(before), ours), "{before} → {left:?}");
        assert_eq!((format.edit)(left.as_ref(), None, ours), Ok(Edit::Unchanged), "{left:?}");
    }
}

fn drawn_list(octets: &mut Octets<'_>) -> Value {
    match octets.below(16) {
        0 => return serde_json::from_slice(octets.rest()).unwrap_or_default(),
        1 => return value(octets, 2),
        _ => {}
    }
    (0..octets.below(6)).map(|_| element(octets)).collect()
}

fn element(octets: &mut Octets<'_>) -> Value {
    if octets.one_in(16) {
        return value(octets, 2);
    }
    let mut element = Map::new();
    let forward = |octets: &mut Octets<'_>| {
        let mut forward = Map::new();
        if !octets.one_in(8) {
            forward.insert("upstreams".to_owned(), drawn_servers(octets));
        }
        if octets.one_in(4) {
            let tls = json!({"transport": octets.pick(&["TLS", "Cleartext"]), "tls": {"serverName": octets.pick(&["", "a"])}});
            forward.insert("transportConfig".to_owned(), tls);
        }
        Value::from(forward)
    };
    for key in ["name", "zones", "forward", "forwardPlugin", "hosts", "policy"] {
        let drawn = match (octets.below(16), key) {
            (0, _) => continue,
            (1, _) => value(octets, 2),
            (n, "name") => octets.pick(if n < 8 { &["globaldns", "corp"] } else { &ZONES }).into(),
            (_, "zones") => (0..octets.below(4)).map(|_| octets.pick(&ZONES)).collect(),
            (_, "forward" | "forwardPlugin") => forward(octets),
            (n, _) if n < 12 => continue,
            (_, _) => json!([{"hostName": "a.eu", "ipAddress": "10.0.0.1"}]),
        };
        element.insert(key.to_owned(), drawn);
    }
    element.into()
}

fn drawn_servers(octets: &mut Octets<'_>) -> Value {
    if octets.one_in(16) {
        return value(octets, 1);
    }
    // Mostly those that may be ours.
    let known = if octets.one_in(4) { SERVERS.len() } else { 5 };
    (0..octets.below(4)).map(|_| octets.pick(&SERVERS[..known])).collect()
}

/// The text of an object, with what a map would lose: order, equal keys, white space.
fn drawn_object(octets: &mut Octets<'_>) -> String {
    let space = octets.pick(&["", " ", "\n", "\r\n  "]);
    let member = |octets: &mut Octets<'_>| {
        let domain = if octets.one_in(8) { octets.text() } else { octets.pick(&ZONES).to_owned() };
        format!("{space}{}{space}:{space}{}", Value::from(domain), drawn_servers(octets))
    };
    let members: Vec<_> = (0..octets.below(5)).map(|_| member(octets)).collect();
    format!("{{{}{space}}}{space}", members.join(","))
}

/// Any JSON, so deep at most.
pub(crate) fn value(octets: &mut Octets<'_>, depth: usize) -> Value {
    match octets.below(if depth == 0 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => octets.one_in(2).into(),
        2 => i64::from(octets.u16() as i16).into(),
        // One that every parser reads alike, to the last bit.
        3 => (f64::from(octets.u16()) / 8.0).into(),
        4 => octets.text().into(),
        5 => octets.pick(&["240.0.0.1", "*", "~", "NONE", "a.global", "true", "2024-01-31T12:00:00Z"]).into(),
        6 => (0..octets.below(4)).map(|_| value(octets, depth - 1)).collect(),
        _ => {
            let members = (0..octets.below(4)).map(|_| (octets.text(), value(octets, depth - 1)));
            Value::Object(members.collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub::server_text;

    #[test]
    fn a_server_is_written_as_it_is_read() {
        let known: Vec<_> = SERVERS.iter().filter_map(|text| parse_unbracketed(text)).collect();
        assert_eq!(known.len(), 6);
        assert!(known.iter().all(|server| parse_unbracketed(&server_text(server)) == Some(*server)));
    }
}
