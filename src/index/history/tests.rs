use std::net::IpAddr;

use serde_json::{Value, json};

use super::*;
use crate::entry::{Entry, EntryId, Origin, Rules};
use crate::index::{Index, Packed, Partition, Policy};
use crate::wire::name::Name;
use crate::zone::{Table, Zones};

const P0: Partition = Partition(0);

fn host(text: &str) -> Host {
    let (wildcard, name) = text.strip_prefix("*.").map_or((false, text), |suffix| (true, suffix));
    Host { name: Name::parse(name).expect(text), wildcard }
}

fn index() -> Index {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("valid zones");
    let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
    Index::new(policy, Arc::new(Table::new(zones)), || 1_700_000_000)
}

fn object(name: &str, hosts: &[&str], address: &str) -> Value {
    json!({
        "metadata": {
            "namespace": "ns", "name": name, "resourceVersion": "7", "creationTimestamp": "2023-11-14T00:00:00Z",
            "managedFields": [{"manager": "helm", "time": "2023-11-14T22:13:00Z"}]
        },
        "spec": {"hosts": hosts, "addresses": [address], "resolution": "STATIC"}
    })
}

fn packed(index: &Index, object: &Value) -> Packed {
    let entry = Entry::read(object, Origin::Object, index.table().zones(), &Rules::default());
    index.pack(P0, entry).written(Provenance::of(object))
}

fn id(name: &str) -> EntryId {
    EntryId { namespace: "ns".into(), name: name.into(), origin: Origin::Object }
}

/// `host before→after`, newest first.
fn told(index: &Index, wanted: Wanted<'_>) -> Vec<String> {
    let answers = |answers: &Option<Answers>| {
        answers.as_ref().map_or("-".to_owned(), |answers| {
            let addresses: Vec<_> =
                answers.view().addresses(Family::V4).map(|address: IpAddr| address.to_string()).collect();
            addresses.join("+")
        })
    };
    let changes = index.history().read(wanted).changes;
    changes.iter().map(|c| format!("{} {}→{}", c.host, answers(&c.before), answers(&c.after))).collect()
}

/// [I6]
#[test]
fn a_change_is_told_with_the_answers_before_and_after_and_who_made_it() {
    let index = index();
    index.apply_packed(packed(&index, &object("a", &["a.global", "*.w.global"], "240.0.0.1")));
    index.apply_packed(packed(&index, &object("a", &["a.global"], "240.0.0.2")));
    // What changes no answer is no change.
    index.apply_packed(packed(&index, &object("a", &["a.global", "x.example.com"], "240.0.0.2")));
    index.delete(P0, &id("a"));
    assert_eq!(
        told(&index, Wanted::default())[..3],
        ["a.global 240.0.0.2→-", "*.w.global 240.0.0.1→-", "a.global 240.0.0.1→240.0.0.2"]
    );
    assert_eq!(told(&index, Wanted::default()).len(), 5);
    assert_eq!(
        told(&index, Wanted { host: Some(&host("*.w.global")), ..Wanted::default() }),
        ["*.w.global 240.0.0.1→-", "*.w.global -→240.0.0.1"]
    );
    let since = Wanted { since: 3, most: Some(1), ..Wanted::default() };
    assert_eq!(told(&index, since), ["a.global 240.0.0.2→-"]);
    assert_eq!(index.history().read(since).last, 5);
    let changed = &index.history().read(Wanted::default()).changes[2];
    assert_eq!(
        serde_json::to_value(&**changed).expect("JSON"),
        json!({
            "sequence": changed.sequence, "time": "2023-11-14T22:13:20Z", "host": "a.global",
            "before": {"addresses": ["240.0.0.1"], "ttl": 30}, "after": {"addresses": ["240.0.0.2"], "ttl": 30},
            "entry": "ns/a", "listed": false, "manager": "helm", "objectTime": "2023-11-14T22:13:00Z",
            "resourceVersion": "7"
        })
    );
    // Who wrote it last has not deleted it.
    let gone = index.history().last_of(&host("a.global")).expect("a change");
    assert_eq!((&*gone.entry, &gone.provenance), ("ns/a", &None));
}

/// [I6]
#[test]
fn a_host_that_changes_hands_names_the_entry_that_came() {
    let index = index();
    index.apply_packed(packed(&index, &object("a", &["h.global"], "240.0.0.1")));
    let other = object("b", &["h.global"], "240.0.0.2");
    index.reset(P0, vec![packed(&index, &other)]);
    assert_eq!(told(&index, Wanted::default()).len(), 1, "the first list is none");
    index.reset(P0, vec![packed(&index, &object("c", &["h.global"], "240.0.0.3"))]);
    let last = index.history().last_of(&host("h.global")).expect("a change");
    assert_eq!((&*last.entry, last.listed), ("ns/c", true));
    assert_eq!(last.provenance.as_ref().and_then(|by| by.manager.as_deref()), Some("helm"));
}

/// [I6] [L3]
#[test]
fn a_list_leaves_half_of_the_ring_to_others() {
    let index = index();
    let list = |address: &str, hosts: usize| -> Vec<Packed> {
        let names = (0..hosts).map(|n| (format!("e{n}"), format!("h{n}.global")));
        names.map(|(name, host)| packed(&index, &object(&name, &[&host], address))).collect()
    };
    index.reset(P0, list("240.0.0.1", 700));
    assert!(told(&index, Wanted::default()).is_empty(), "nothing has changed by learning of it");
    index.apply_packed(packed(&index, &object("kept", &["kept.global"], "240.0.0.9")));
    let mut second = list("240.0.0.2", 700);
    second.push(packed(&index, &object("kept", &["kept.global"], "240.0.0.9")));
    index.reset(P0, second);
    let changes = index.history().read(Wanted::default());
    assert_eq!((changes.changes.len(), changes.left_out, changes.last), (501, 200, 501));
    assert!(index.history().last_of(&host("kept.global")).is_some());
}

/// [I6] [S7]
#[test]
fn the_ring_is_bounded_in_number_and_in_octets() {
    let index = index();
    for number in 0..MOST_CHANGES + 50 {
        let address = format!("240.0.{}.{}", number / 256, number % 256);
        index.apply_packed(packed(&index, &object("a", &["a.global"], &address)));
    }
    let changes = index.history().read(Wanted::default());
    assert_eq!((changes.changes.len(), changes.last), (MOST_CHANGES, MOST_CHANGES as u64 + 50));
    // Hosts with a thousand addresses: 4 KiB before and after.
    for round in 0..300u32 {
        let addresses: Vec<_> = (0..1000u32)
            .map(|n| IpAddr::from(((240 << 24) + round * 1000 + n).to_be_bytes()).to_string())
            .collect();
        let mut object = object("a", &["a.global"], "240.0.0.1");
        object["spec"]["addresses"] = json!(addresses);
        index.apply_packed(packed(&index, &object));
    }
    let kept = index.history().0.lock().expect("no panic");
    let octets: usize = kept.changes.iter().map(|change| change.octets()).sum();
    assert_eq!(kept.octets, octets);
    assert!(kept.octets <= MOST_CHANGES_OCTETS && kept.changes.len() < 200, "{}", kept.changes.len());
}

/// [I6] [D23]
#[test]
fn what_a_host_has_beside_addresses_is_neither_told_nor_kept() {
    let index = index();
    let with_port = |port: u16, address: &str| {
        let mut object = object("a", &["a.global"], address);
        object["spec"]["ports"] = json!([{"name": "http", "number": port, "protocol": "HTTP"}]);
        let rules = Rules { services: true, ..Rules::default() };
        index.pack(P0, Entry::read(&object, Origin::Object, index.table().zones(), &rules))
    };
    index.apply_packed(with_port(80, "240.0.0.1"));
    assert_eq!(index.apply_packed(with_port(81, "240.0.0.1")).hosts, 1, "its answers are others");
    index.apply_packed(with_port(82, "240.0.0.2"));
    assert_eq!(told(&index, Wanted::default()), ["a.global 240.0.0.1→240.0.0.2", "a.global -→240.0.0.1"]);
    for change in index.history().read(Wanted::default()).changes {
        for answers in [&change.before, &change.after].into_iter().flatten() {
            assert_eq!(answers.view().extra(), None);
        }
    }
}

/// [I6]
#[test]
fn files_that_change_at_once_leave_half_of_the_ring_to_others() {
    let index = index();
    let path: Arc<str> = "many.yaml".into();
    let files = |address: &str, hosts: u32| -> Vec<Packed> {
        let entry = |at: u32| {
            let origin = Origin::Document { path: path.clone(), position: (1, at + 1) };
            let object = object(&format!("e{at}"), &[&format!("h{at}.global")], address);
            index.pack(P0, Entry::read(&object, origin, index.table().zones(), &Rules::default()))
        };
        (0..hosts).map(entry).collect()
    };
    index.reset(P0, files("240.0.0.1", 700));
    index.apply_packed(packed(&index, &object("kept", &["kept.global"], "240.0.0.9")));
    index.reset_files(P0, std::slice::from_ref(&path), files("240.0.0.2", 700));
    let changes = index.history().read(Wanted::default());
    assert_eq!((changes.changes.len(), changes.left_out, changes.last), (501, 200, 501));
    assert!(index.history().last_of(&host("kept.global")).is_some());
    // Few of them are all told, and as what they are.
    index.reset_files(P0, std::slice::from_ref(&path), files("240.0.0.2", 690));
    let changes = index.history().read(Wanted::default());
    assert_eq!((changes.changes.len(), changes.left_out, changes.last), (511, 200, 511));
    assert!(changes.changes.iter().all(|change| !change.listed));
}
