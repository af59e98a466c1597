//! Entries that come, change and go, through the API server, and a model that is told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Shared;
use super::model::{Content, Entry, Model, NOT_YET};
use super::question::ZONES;
use crate::cluster::{Cluster, code};
use crate::random::Random;

/// Hosts of each kind in each zone.
const PLAIN: usize = 200;
const WILDCARDS: usize = 25;
const MERGED: usize = 25;
const CONTESTED: usize = 25;
/// Changes a second.
const RATE: u32 = 20;
/// Timestamps have whole seconds: an entry that is to be younger is created so much later.
const YOUNGER: Duration = Duration::from_secs(3);

/// Every host and entry there may be, all live.
pub(crate) fn populate(model: &mut Model, random: &mut Random) {
    let mut next = 0;
    let mut add = |model: &mut Model, namespace: String, hosts: Vec<usize>| {
        next += 1;
        let content = draw(random, hosts[0]);
        model.add_entry(Entry { namespace, name: format!("e-{next}"), hosts, live: Some(content) });
    };
    for zone in ZONES {
        for number in 0..PLAIN {
            let namespace = format!("soak-{}", number % 10);
            let host = model.add_host(format!("h{number}.soak.{zone}"), false);
            // Every tenth may be called otherwise one day.
            let other =
                (number % 10 == 0).then(|| model.add_host(format!("moved{number}.soak.{zone}"), false));
            add(model, namespace, [host].into_iter().chain(other).collect());
        }
        for number in 0..WILDCARDS {
            let host = model.add_host(format!("w{number}.soak.{zone}"), true);
            add(model, format!("soak-{}", number % 10), vec![host]);
        }
        for number in 0..MERGED {
            let host = model.add_host(format!("m{number}.soak.{zone}"), false);
            for _ in 0..2 {
                add(model, format!("soak-{}", number % 10), vec![host]);
            }
        }
        for number in 0..CONTESTED {
            let host = model.add_host(format!("c{number}.soak.{zone}"), false);
            for other in 0..2 {
                add(model, format!("soak-{}", (number + other) % 10), vec![host]);
            }
        }
    }
}

/// Sends all entries, and learns when each was created.
pub(crate) fn create_all(model: &mut Model, cluster: &Cluster) {
    for namespace in (0..10).map(|number| format!("soak-{number}")) {
        let entries = model.entries.iter().filter(|entry| entry.namespace == namespace);
        cluster.create_entries(&namespace, entries.map(|entry| entry.object(model)).collect());
    }
    for object in cluster.list_entries() {
        let is_it = |entry: &&mut Entry| {
            object["metadata"]["namespace"] == entry.namespace && object["metadata"]["name"] == entry.name
        };
        let live = model.entries.iter_mut().find(is_it).and_then(|entry| entry.live.as_mut());
        live.expect("an entry of ours").created = created(&object);
    }
}

/// Changes entries until it is over.
pub(crate) fn make(shared: &Shared, cluster: &Cluster, mut random: Random) {
    let mut due = Instant::now();
    while !shared.quiet.load(Ordering::SeqCst) {
        due = (due + Duration::from_secs(1) / RATE).max(Instant::now());
        let entry = random.range(0..shared.model().entries.len());
        let change = Change::draw(&shared.model(), entry, &mut random);
        if let Some(change) = change {
            shared.model().begin(entry, change.next.clone());
            let created = change.carry_out(shared, cluster, entry);
            shared.model().acknowledge(entry, created);
            shared.counts.changes.fetch_add(1, Ordering::Relaxed);
        }
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

struct Change {
    method: &'static str,
    path: String,
    content_type: &'static str,
    body: Value,
    next: Option<Content>,
}

impl Change {
    /// What might happen to an entry next; `None` if nothing may now.
    fn draw(model: &Model, entry: usize, random: &mut Random) -> Option<Self> {
        let entry = &model.entries[entry];
        let collection =
            format!("/apis/networking.istio.io/v1/namespaces/{}/serviceentries", entry.namespace);
        let path = format!("{collection}/{}", entry.name);
        let Some(live) = &entry.live else {
            let rivals = model.entries.iter().filter(|other| other.hosts[0] == entry.hosts[0]);
            if rivals.filter_map(|other| other.live.as_ref()).any(|live| live.since.elapsed() < YOUNGER) {
                return None;
            }
            let host = *random.pick(&entry.hosts);
            let next = draw(random, host);
            let mut body = object(entry, &next, model);
            body["apiVersion"] = "networking.istio.io/v1".into();
            body["kind"] = "ServiceEntry".into();
            return Some(Self {
                method: "POST",
                path: collection,
                content_type: "application/json",
                body,
                next: Some(next),
            });
        };
        if random.chance(12) {
            return Some(Self {
                method: "DELETE",
                path,
                content_type: "application/json",
                body: Value::Null,
                next: None,
            });
        }
        let host = if random.chance(30) { *random.pick(&entry.hosts) } else { live.host };
        let next = Content { created: live.created.clone(), since: live.since, ..draw(random, host) };
        let mut body = object(entry, &next, model);
        if next.ttl.is_none() {
            body["metadata"]["annotations"] = json!({ "globaldns.io/ttl": null });
        }
        Some(Self {
            method: "PATCH",
            path,
            content_type: "application/merge-patch+json",
            body,
            next: Some(next),
        })
    }

    /// Sends it until the API server has confirmed it; returns when an entry was created. An error of a server that
    /// goes away tells nothing about what it did before.
    fn carry_out(&self, shared: &Shared, cluster: &Cluster, entry: usize) -> Option<String> {
        let mut repeated = false;
        loop {
            let error = match cluster.call(self.method, &self.path, self.content_type, &self.body) {
                Ok(object) => return (self.method == "POST").then(|| created(&object)),
                Err(error) => error,
            };
            match (self.method, code(&error)) {
                ("POST", 409) if repeated => {
                    let path = format!("{}/{}", self.path, shared.model().entries[entry].name);
                    if let Ok(object) = cluster.call("GET", &path, self.content_type, &Value::Null) {
                        return Some(created(&object));
                    }
                }
                ("DELETE", 404) if repeated => return None,
                // Nobody there, or one that starts or ends: 403 before its rights are read, 404 before its CRDs are.
                (_, 0 | 401 | 403 | 404 | 409 | 429 | 500..) => {}
                _ => shared.fault(format!("the test's own: {} {}: {error}", self.method, self.path)),
            }
            repeated = true;
            shared.counts.repeated.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Entry {
    fn object(&self, model: &Model) -> Value {
        object(self, self.live.as_ref().expect("live"), model)
    }
}

fn object(entry: &Entry, content: &Content, model: &Model) -> Value {
    let host = &model.hosts[content.host];
    let host = if host.wildcard { format!("*.{}", host.name) } else { host.name.clone() };
    let mut addresses: Vec<String> = content.addresses.iter().map(IpAddr::to_string).collect();
    if content.partly_bad {
        addresses.insert(0, "not an address".into());
    }
    let mut spec = crate::entries::spec(&host, &[]);
    spec["addresses"] = json!(addresses);
    let mut object = json!({
        "metadata": { "namespace": entry.namespace, "name": entry.name }, "spec": spec,
    });
    if let Some(ttl) = content.ttl {
        object["metadata"]["annotations"] = json!({ "globaldns.io/ttl": ttl.to_string() });
    }
    object
}

/// Something new, with addresses that nothing had before.
fn draw(random: &mut Random, host: usize) -> Content {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for _ in 0..random.range(1..4) {
        addresses.push(Ipv4Addr::from(0xf000_0000 | (random.next() as u32 >> 4)).into());
    }
    for _ in 0..random.range(0..3) {
        addresses.push(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(random.next())).into());
    }
    Content {
        host,
        addresses,
        ttl: random.chance(20).then(|| random.range(1..3601) as u32),
        partly_bad: random.chance(5),
        created: NOT_YET.into(),
        since: Instant::now(),
    }
}

fn created(object: &Value) -> String {
    object["metadata"]["creationTimestamp"].as_str().expect("a creationTimestamp").to_owned()
}
