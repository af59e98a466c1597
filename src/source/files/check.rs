//! Files of any octets, and entries with anything in every field, as JSON and as YAML (S2, S3, S5, S6, A1, A2, A6, H1,
//! H5, O5): read alike and as a model reads them, and gone without a trace when deleted.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use serde_json::{Map, json};

use super::*;
use crate::compare::legacy::Legacy;
use crate::compare::questions::Plan;
use crate::entry::{Entry, Rules};
use crate::index::{Index, Partition, Policy};
use crate::lifecycle::Readiness;
use crate::source::cluster::object::Object;
use crate::source::{Pending, Status};
use crate::testing::{Octets, value};
use crate::wire::name::Name;
use crate::zone::{Host, Table, Zones};

const FILE: &str = "file";
const FILES: Partition = Partition(0);

/// Makes a file of octets, and panics where what is read of it breaks a rule.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    if octets.below(4) == 0 {
        any_octets(octets.rest());
    } else {
        drawn(&mut octets);
    }
}

/// Whatever it is: no panic, and what is JSON and YAML means the same as both.
fn any_octets(octets: &[u8]) {
    // An API server's object is read whatever is in it; a list or a watch must not end by it.
    if let Ok(object) = serde_json::from_slice::<Value>(octets) {
        assert!(serde_json::from_slice::<Object>(octets).is_ok(), "{object}");
        let nothing = Read::yaml(b"", &Rules::default()).expect("no document");
        as_an_old_server_reads_it(&object, &nothing.feed);
        nothing.comes_and_goes();
    }
    let (json, yaml) = (Read::json(octets, &Rules::default()), Read::yaml(octets, &Rules::default()));
    for read in json.as_ref().ok().into_iter().chain(yaml.as_ref().ok()) {
        read.comes_and_goes();
    }
    // What follows the first JSON document is no YAML, and the other way round.
    if let (Ok(json), Ok(yaml)) = (json, yaml)
        && json.documents == 1
    {
        // Parsers differ in the last bit of a number, which only a finding about it shows.
        let [json, yaml] = [json, yaml].map(|read| {
            let mut entries = read.entries;
            let findings = entries.iter_mut().flat_map(|entry| &mut entry.findings);
            findings
                .filter(|finding| finding.code == Code::FieldType)
                .for_each(|finding| finding.value = "".into());
            entries
        });
        assert_eq!(json, yaml, "{}", String::from_utf8_lossy(octets));
    }
}

/// For `compare`: what istiocoredns made of any object can be told, and asked for.
fn as_an_old_server_reads_it(object: &Value, feed: &Feed) {
    let mut legacy = Legacy::default();
    legacy.insert(object, &feed.read(object, Origin::Object));
    let mut plan = Plan::new(feed.index().table().zones(), vec![1]);
    plan.add_hosts(&legacy);
    plan.add_outside(&legacy, true);
    for question in plan.finish().0.iter().flat_map(|subject| subject.questions()) {
        assert_eq!(question.wire().to_ascii_lowercase(), question.name.wire());
        let _ = legacy.candidates(&question.spelling);
    }
}

/// What was read of a file.
struct Read {
    feed: Feed,
    packed: Vec<Packed>,
    entries: Vec<Entry>,
    documents: u32,
}

impl Read {
    fn json(octets: &[u8], rules: &Rules) -> serde_json::Result<Read> {
        Read::of(rules, |reader| reader.read_json(octets))
    }

    fn yaml(octets: &[u8], rules: &Rules) -> Result<Read, serde_saphyr::Error> {
        Read::of(rules, |reader| reader.read_yaml(octets))
    }

    fn of<E>(rules: &Rules, read: impl FnOnce(&mut Reader<'_>) -> Result<(), E>) -> Result<Read, E> {
        let name = |text: &str| Name::parse(text).expect(text);
        let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("a zone");
        let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
        let index = Arc::new(Index::new(policy, Arc::new(Table::new(zones)), || 1000));
        let status = Arc::new(Status::new(NAME, FILES));
        let (pending, awaited) = (Pending::new(1, index.clone()), Readiness::default().await_for(NAME));
        let seen: Arc<Mutex<Vec<Entry>>> = Arc::default();
        let onlooker = {
            let seen = seen.clone();
            Arc::new(move |_: &Value, entry: &Entry| {
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(entry.clone());
            })
        };
        let feed = Feed::new(index, Arc::new(rules.clone()), status, pending, awaited).seen_by(onlooker);
        let mut packed = Vec::new();
        let mut reader = Reader { origin: FILE.into(), feed: &feed, document: 0, entries: &mut packed };
        let done = read(&mut reader);
        let documents = reader.document;
        if let Err(error) = done {
            feed.reset(Vec::new());
            return Err(error);
        }
        let mut entries = std::mem::take(&mut *seen.lock().unwrap_or_else(PoisonError::into_inner));
        // Items of what turned out to be no list were read in vain.
        entries.drain(..entries.len() - packed.len());
        Ok(Read { feed, packed, entries, documents })
    }

    /// S6: what came goes, and leaves nothing.
    fn comes_and_goes(&self) {
        let index = self.feed.index();
        let again = self.entries.iter().map(|entry| index.pack(FILES, entry.clone()));
        self.feed.reset(again.collect());
        assert_eq!(index.entries(FILES), self.packed.len());
        index.findings();
        for entry in &self.entries {
            self.feed.delete(&entry.id, None);
        }
        let zone = index.table().zones().get(0).expect("a zone");
        let left = (index.entries(FILES), zone.hosts(), zone.digest(), index.findings());
        assert_eq!(left, (0, 0, 0, Vec::new()));
        index.table().for_each(|host, _| panic!("{host} is left"));
    }
}

/// Objects of which we know what they contribute, in some order and form.
fn drawn(octets: &mut Octets<'_>) {
    let switches = octets.octet();
    let rules = Rules {
        apex_wildcards: switches & 1 != 0,
        skip_resolution_none: switches & 2 != 0,
        public_only: switches & 4 != 0,
        services: false,
    };
    let objects: Vec<(Value, Model)> = (0..1 + octets.below(3)).map(|_| object(octets)).collect();
    let list = switches & 8 != 0;
    let documents: Vec<Value> = match list {
        true => {
            let items: Vec<_> = objects.iter().map(|(object, _)| object).collect();
            vec![json!({"apiVersion": "v1", "kind": "List", "items": items, "metadata": {}})]
        }
        false => objects.iter().map(|(object, _)| object.clone()).collect(),
    };
    let json: Vec<String> = documents.iter().map(Value::to_string).collect();
    let pretty: Vec<String> = documents.iter().map(|document| format!("{document:#}")).collect();
    let yaml: Vec<String> = documents.iter().map(in_blocks).collect();
    let read = Read::json(json.concat().as_bytes(), &rules).expect("JSON");
    let shown = || json.join("\n");
    let as_yaml = Read::yaml(yaml.join("---\n").as_bytes(), &rules);
    let as_yaml = as_yaml.unwrap_or_else(|error| panic!("{error}\n{}", yaml.join("---\n")));
    assert_eq!(as_yaml.entries, read.entries, "{}", yaml.join("---\n"));
    // JSON is YAML, but for characters that YAML wants escaped.
    if let Ok(flow) = Read::yaml(pretty.join("\n---\n").as_bytes(), &rules) {
        assert_eq!(flow.entries, read.entries, "{}", shown());
    } else {
        assert!(json.iter().any(|text| !text.chars().all(|c| matches!(c, ' '..='~'))), "{}", shown());
    }
    assert_eq!(read.entries.len(), objects.len(), "{}", shown());
    for ((entry, (object, model)), n) in read.entries.iter().zip(&objects).zip(1..) {
        let position = if list { (1, n) } else { (n, 0) };
        let origin = Origin::Document { path: FILE.into(), position };
        assert_eq!(entry.id.origin, origin);
        assert_eq!(*entry, read.feed.read(object, origin), "{object}");
        as_an_old_server_reads_it(object, &read.feed);
        let claims = entry.claims.iter().map(|claim| (claim.host.clone(), claim.addresses.to_vec()));
        assert_eq!(claims.collect::<Vec<_>>(), model.claims(&rules), "{object}");
    }
    read.comes_and_goes();
}

/// What an object is known to hold.
#[derive(Default)]
struct Model {
    /// Good ones in listed order.
    hosts: Vec<&'static str>,
    addresses: Vec<IpAddr>,
    /// Whether `spec.addresses` lists nothing, not even something bad.
    no_addresses: bool,
    allocated: Vec<(&'static str, IpAddr)>,
    resolution_none: bool,
    never_allocates: bool,
    export: Vec<&'static str>,
}

impl Model {
    fn claims(&self, rules: &Rules) -> Vec<(Host, Vec<IpAddr>)> {
        let public = self.export.is_empty() || self.export.contains(&"*");
        if self.export.contains(&"~")
            || rules.public_only && !public
            || rules.skip_resolution_none && self.resolution_none
        {
            return Vec::new();
        }
        let allocates = self.no_addresses && !self.resolution_none && !self.never_allocates;
        let mut claims: Vec<(Host, Vec<IpAddr>)> = Vec::new();
        for text in &self.hosts {
            let plain = text.trim_end_matches('.').to_ascii_lowercase();
            let (wildcard, name) = plain.strip_prefix("*.").map_or((false, &*plain), |suffix| (true, suffix));
            if wildcard && name == "global" && !rules.apex_wildcards {
                continue;
            }
            let host = Host { name: Name::parse(name).expect("a good host"), wildcard };
            if claims.iter().any(|(known, _)| *known == host) {
                continue;
            }
            let mut addresses: Vec<IpAddr> = Vec::new();
            let of_host = |(for_host, _): &&(&str, IpAddr)| for_host.to_ascii_lowercase() == plain;
            let own = self.allocated.iter().filter(of_host).map(|(_, address)| *address);
            let listed: Vec<IpAddr> = if allocates { own.collect() } else { self.addresses.clone() };
            for address in listed {
                if !addresses.contains(&address) {
                    addresses.push(address);
                }
            }
            claims.push((host, addresses));
        }
        claims
    }
}

/// The good ones first; those without a zone of ours are good hosts of others.
const HOSTS: [&str; 16] = [
    "a.global",
    "A.Global.",
    "*.b.global",
    "*.global",
    "global",
    "a.b.c.global",
    "a_b-1.global",
    "x.com",
    "*.x.com",
    "bad host.global",
    "ns.dns.global",
    "_probe-x.global",
    "",
    "<hostname>.global",
    "a.*.global",
    "a..global",
];
const GOOD_HOSTS: usize = 7;
const ADDRESSES: [(&str, bool); 14] = [
    ("240.0.0.1", true),
    ("240.0.0.1/32", true),
    ("240.0.0.2", true),
    ("2001:db8::1", true),
    ("2001:DB8:0::1/128", true),
    ("127.0.0.1", true),
    ("fe80::1", true),
    ("224.0.0.1", true),
    ("10.0.0.0/8", false),
    ("0.0.0.0", false),
    ("::", false),
    ("010.0.0.1", false),
    ("fe80::1%eth0", false),
    ("${VIP}", false),
];
const EXPORTS: [&str; 5] = ["*", "*", ".", "foo", "~"];

fn good_address((text, is_good): (&'static str, bool)) -> Option<IpAddr> {
    is_good.then(|| text.split('/').next().and_then(|text| text.parse().ok()).expect("an address"))
}

/// An object, and what is good of it. Most fields may be anything.
fn object(octets: &mut Octets<'_>) -> (Value, Model) {
    let mut model = Model { no_addresses: true, resolution_none: true, ..Model::default() };
    let (mut metadata, mut spec, mut status) = (Map::new(), Map::new(), Map::new());
    let mut object = Map::new();
    let key = str::to_owned;
    metadata.insert(key("name"), if octets.one_in(8) { value(octets, 1) } else { "e".into() });
    for field in ["namespace", "creationTimestamp", "annotations", "managedFields", "unheard-of"] {
        if octets.one_in(4) {
            metadata.insert(key(field), value(octets, 2));
        }
    }
    if octets.one_in(4) {
        metadata.insert(key("annotations"), json!({"globaldns.io/ttl": value(octets, 0)}));
    }
    match octets.below(8) {
        0 => {
            model.never_allocates = true;
            let off = octets.pick(&["false", "False"]);
            metadata.insert(key("labels"), json!({"networking.istio.io/enable-autoallocate-ip": off}));
        }
        1 => _ = metadata.insert(key("labels"), json!({octets.text(): value(octets, 1)})),
        2 => _ = metadata.insert(key("labels"), value(octets, 0)),
        _ => {}
    }
    if let Some(hosts) = list(octets, |octets| {
        let n = octets.below(HOSTS.len());
        model.hosts.extend((n < GOOD_HOSTS).then_some(HOSTS[n]));
        HOSTS[n].into()
    }) {
        spec.insert(key("hosts"), hosts);
    }
    if let Some(addresses) = list(octets, |octets| {
        let address = octets.pick(&ADDRESSES);
        model.addresses.extend(good_address(address));
        address.0.into()
    }) {
        model.no_addresses = addresses.is_null() || addresses.as_array().is_some_and(Vec::is_empty);
        spec.insert(key("addresses"), addresses);
    }
    if let Some(export) = list(octets, |octets| {
        let target = octets.pick(&EXPORTS);
        model.export.push(target);
        target.into()
    }) {
        spec.insert(key("exportTo"), export);
    }
    if let Some(addresses) = list(octets, |octets| {
        let (host, address) =
            (octets.pick(&["a.global", "*.B.global", "global.", "x.com"]), octets.pick(&ADDRESSES));
        model.allocated.extend(good_address(address).map(|address| (host.trim_end_matches('.'), address)));
        json!({"host": host, "value": address.0, "unheard-of": value(octets, 0)})
    }) {
        status.insert(key("addresses"), addresses);
    }
    match octets.below(8) {
        0..4 => {
            model.resolution_none = false;
            spec.insert(key("resolution"), octets.pick(&["DNS", "STATIC", "SOMETHING_NEW"]).into());
        }
        n @ 4..7 => _ = spec.insert(key("resolution"), [json!("NONE"), json!(""), json!(7)][n - 4].clone()),
        _ => {}
    }
    for field in ["ports", "location", "endpoints", "unheard-of"] {
        if octets.one_in(4) {
            spec.insert(key(field), value(octets, 3));
        }
    }
    object
        .insert(key("apiVersion"), octets.pick(&["networking.istio.io/v1", "networking.istio.io/v9"]).into());
    object.insert(key("kind"), "ServiceEntry".into());
    for (field, map) in [("metadata", metadata), ("spec", spec), ("status", status)] {
        object.insert(key(field), map.into());
    }
    (object.into(), model)
}

/// A list of what is drawn, among which there may be what belongs in no list of strings; or nothing, or null.
fn list(octets: &mut Octets<'_>, mut item: impl FnMut(&mut Octets<'_>) -> Value) -> Option<Value> {
    match octets.below(16) {
        0 => return None,
        1 => return Some(Value::Null),
        _ => {}
    }
    let items = (0..octets.below(6)).map(|_| match octets.below(8) {
        0 => [json!(null), json!(7), json!({"a": 1}), json!(["a.global"]), json!(true)][octets.below(5)]
            .clone(),
        _ => item(octets),
    });
    Some(items.collect())
}

/// A document as people write YAML, with every text in quotes.
fn in_blocks(document: &Value) -> String {
    let mut text = String::new();
    block(document, 0, &mut text);
    text.trim_start_matches('\n').to_owned() + "\n"
}

fn block(value: &Value, depth: usize, text: &mut String) {
    let line = |text: &mut String| text.extend(["\n", &"  ".repeat(depth)]);
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                line(text);
                text.push_str(&quoted(key));
                text.push(':');
                block(value, depth + 1, text);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                line(text);
                text.push('-');
                block(item, depth + 1, text);
            }
        }
        Value::String(string) => text.extend([" ", &quoted(string)]),
        other => text.extend([" ", &other.to_string()]),
    }
}

/// YAML 1.2 section 5.7.
fn quoted(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        ' '..='~' => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
