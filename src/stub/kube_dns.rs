//! `stubDomains` of the ConfigMap `kube-dns`: what kube-dns and NodeLocal DNSCache read.
//!
//! The value is a string that holds a JSON object, domain to servers. It is read as a whole or not at all: one
//! entry that is not valid and every entry of the new text is ignored
//! (<https://github.com/istio/istio/issues/22852>), so all of them are checked before ours is written.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::edit::{Edit, all_ours, is_subdomain, read_server, zones_are_subdomains};
use super::{Ours, Refusal, RefusalKind, Stub, server_text};
use crate::wire::name::Name;

/// Where a refusal points when the whole value is meant.
const KEY: &str = "stubDomains";

/// Makes `stub_domains` (`None`: the key is absent) say what is wanted; `wanted: None` takes ours out.
///
/// Entries of others keep their place and their servers; ours are added sorted, at the end. A zone that is in `ours`
/// but no longer wanted is dropped, unless its servers are someone else's by now.
///
/// # Errors
///
/// `Conflict`: one of our zones has servers that are not `ours`. `Invalid`: the value, an entry of it or one of our
/// zones is something kube-dns does not take. `Unsure`: a domain of someone else is written twice.
pub fn edit(stub_domains: Option<&str>, wanted: Option<&Stub>, ours: &Ours) -> Result<Edit<String>, Refusal> {
    let ours = wanted.map_or_else(|| ours.clone(), |stub| ours.clone().with(stub));
    let text = stub_domains.unwrap_or_default();
    let before = read(text)?;
    let mut after: Vec<Entry> = before.iter().filter(|entry| !entry.is_of(&ours)).cloned().collect();
    match wanted {
        Some(stub) => put(&mut after, &before, stub)?,
        // With nothing of ours there the value is not ours to judge.
        None if after.len() == before.len() => return Ok(Edit::Unchanged),
        None => {}
    }
    after.iter().try_for_each(Entry::check)?;
    once(&after)?;
    if meaning(&after) == meaning(&before) {
        return Ok(Edit::Unchanged);
    }
    Ok(if after.is_empty() { Edit::Remove } else { Edit::Set(write(&after, text)) })
}

/// What NodeLocal DNSCache does not take, or breaks on, although kube-dns accepts it.
///
/// # Errors
///
/// `Invalid`: a server is a host name (<https://github.com/kubernetes/dns/issues/539>), or there is none.
pub fn check_for_node_local(stub_domains: &str) -> Result<(), Refusal> {
    for entry in read(stub_domains)? {
        let why = if entry.servers()?.is_empty() {
            "it has no server, and NodeLocal DNSCache writes a forward without one, which does not load"
        } else if entry.servers()?.iter().any(|text| read_server(text).is_none()) {
            "a server is a host name, and NodeLocal DNSCache ignores the whole ConfigMap then"
        } else {
            continue;
        };
        return Err(Refusal::new(RefusalKind::Invalid, entry.place(), why, "write IP addresses there"));
    }
    Ok(())
}

/// One member of the object, as it stands there.
#[derive(Clone)]
struct Entry {
    domain: String,
    value: Value,
}

impl Entry {
    fn place(&self) -> String {
        format!("{KEY}[{:?}]", self.domain)
    }

    fn is_of(&self, ours: &Ours) -> bool {
        let is_our_zone = Name::parse(&self.domain).is_ok_and(|zone| ours.zones.contains(&zone));
        is_our_zone && self.servers().is_ok_and(|servers| all_ours(servers, &ours.servers))
    }

    /// No list is an empty one to kube-dns.
    fn servers(&self) -> Result<Vec<&str>, Refusal> {
        let list = match &self.value {
            Value::Null => return Ok(Vec::new()),
            Value::Array(list) => list.iter().map(|item| item.as_str().unwrap_or_default()).collect(),
            _ => Vec::from([""]),
        };
        if list.contains(&"") {
            return Err(self.invalid(format!("{} is not a list of servers", self.value)));
        }
        Ok(list)
    }

    /// The rules of kube-dns, which ignores every entry if one breaks them.
    fn check(&self) -> Result<(), Refusal> {
        if !is_subdomain(&self.domain) {
            return Err(self.invalid(
                "the domain is not a lower-case DNS name of letters, digits and inner '-'".to_owned(),
            ));
        }
        let bad = |text: &&str| read_server(text).is_none() && !is_subdomain(text);
        match self.servers()?.into_iter().find(bad) {
            None => Ok(()),
            Some(server) => Err(self.invalid(format!("{server:?} is not a server: IP, IP:port or a name"))),
        }
    }

    fn invalid(&self, why: String) -> Refusal {
        Refusal::new(
            RefusalKind::Invalid,
            self.place(),
            format!("{why}, so kube-dns ignores the whole ConfigMap and nothing we write would take effect"),
            "correct that entry or take it out",
        )
    }
}

/// Puts ours where they were in `before`, and the new ones, sorted, at the end. `after` has the entries of others.
fn put(after: &mut Vec<Entry>, before: &[Entry], stub: &Stub) -> Result<(), Refusal> {
    zones_are_subdomains(stub, "kube-dns")?;
    let mut zones: Vec<String> = stub.zones().iter().map(Name::to_string).collect();
    zones.sort();
    if let Some(theirs) = after.iter().find(|entry| zones.contains(&entry.domain)) {
        return Err(Refusal::new(
            RefusalKind::Conflict,
            theirs.place(),
            format!("someone else sends this zone to {}", theirs.value),
            "take that entry out first, or choose another zone",
        ));
    }
    let value = Value::from_iter(stub.servers().iter().map(server_text));
    let ours = |domain: String| Entry { domain, value: value.clone() };
    let mut others = std::mem::take(after).into_iter().peekable();
    for entry in before {
        if others.peek().is_some_and(|other| other.domain == entry.domain) {
            after.extend(others.next());
        } else if let Some(at) = zones.iter().position(|zone| *zone == entry.domain) {
            after.push(ours(zones.remove(at)));
        }
    }
    after.extend(zones.into_iter().map(ours));
    Ok(())
}

fn once(entries: &[Entry]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    match entries.iter().find(|entry| !seen.insert(&entry.domain)) {
        None => Ok(()),
        Some(twice) => Err(Refusal::new(
            RefusalKind::Unsure,
            twice.place(),
            "the domain is written twice, and which one counts is up to the reader",
            "keep one of them",
        )),
    }
}

/// What the reader makes of it: order, port 53 and repetitions say nothing, and of two equal keys the last counts.
fn meaning(entries: &[Entry]) -> BTreeMap<&str, BTreeSet<String>> {
    let canonical = |text: &str| read_server(text).map_or_else(|| text.to_owned(), |s| server_text(&s));
    entries
        .iter()
        .map(|entry| {
            let servers = entry.servers().unwrap_or_default();
            (entry.domain.as_str(), servers.into_iter().map(canonical).collect())
        })
        .collect()
}

fn read(text: &str) -> Result<Vec<Entry>, Refusal> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str::<Option<Entries>>(text).map(|entries| entries.unwrap_or_default().0).map_err(
        |error| {
            Refusal::new(
                RefusalKind::Invalid,
                KEY,
                format!("it is not a JSON object, so kube-dns ignores the whole ConfigMap ({error})"),
                "correct it, or take the key out",
            )
        },
    )
}

/// One line, or one entry per line where the live text has lines.
fn write(entries: &[Entry], live: &str) -> String {
    let member = |entry: &Entry| format!("{}:{}", Value::from(entry.domain.as_str()), entry.value);
    let members: Vec<String> = entries.iter().map(member).collect();
    let end = if live.ends_with('\n') { "\n" } else { "" };
    if live.trim().contains('\n') {
        format!("{{\n  {}\n}}{end}", members.join(",\n  "))
    } else {
        format!("{{{}}}{end}", members.join(","))
    }
}

/// A JSON object in its own order, with keys that come twice: what a map would lose.
#[derive(Default)]
struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries::default())
    }
}

impl<'de> Visitor<'de> for Entries {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of domains")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Entries, A::Error> {
        while let Some((domain, value)) = map.next_entry()? {
            self.0.push(Entry { domain, value });
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests;
