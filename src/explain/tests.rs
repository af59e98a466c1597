use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::entry::{Entry, Origin, Rules};
use crate::index::{Partition, Policy};
use crate::serve::responder::Settings;
use crate::stub::layout::Role;
use crate::stub::record::State;
use crate::stub::tally::AtPlace;
use crate::wire::name::Name;
use crate::zone::{Table, Zones};

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

/// An index with entries, and who answers from it.
struct World {
    index: Index,
    responder: Responder,
}

impl World {
    fn new(entries: &[Value]) -> World {
        World::with(entries, &[], &[])
    }

    fn with(entries: &[Value], prefer_namespaces: &[&str], default_addresses: &[&str]) -> World {
        let zones = Zones::new(vec![name("global"), name("cluster2")], name("cluster.local"), 1_700_000_000)
            .expect("zones");
        let table = Arc::new(Table::new(zones));
        table.set_complete();
        let policy = Policy {
            prefer_namespaces: prefer_namespaces.iter().map(|name| (*name).to_owned()).collect(),
            default_addresses: default_addresses.iter().map(|ip| ip.parse::<IpAddr>().expect(ip)).collect(),
            ttl: 30,
        };
        let index = Index::new(policy, table.clone(), || 1_700_000_100);
        for object in entries {
            let entry = Entry::read(object, Origin::Object, index.table().zones(), &Rules::default());
            index.apply(Partition(0), entry);
        }
        let settings = Settings { ttl: 30, negative_ttl: 5, rotate: true, nsid: Vec::new() };
        let responder = Responder::new(table, settings, Vec::new()).for_everybody();
        World { index, responder }
    }

    fn explain(&self, name: &str, types: &[&str]) -> Explanation {
        self.explain_within(name, types, BUDGET)
    }

    fn explain_within(&self, name: &str, types: &[&str], budget: usize) -> Explanation {
        let types: Vec<String> = types.iter().map(|rtype| (*rtype).to_owned()).collect();
        let question = Question::new(name, &types).expect("types");
        let (index, responder) = (&self.index, &self.responder);
        explain(&Subject { index, responder, serving: true, services: false, budget }, &question)
    }
}

/// `namespace/name` with one host.
fn entry(id: &str, created: u32, host: &str, addresses: &[&str]) -> Value {
    let (namespace, name) = id.split_once('/').expect("an id");
    let created = jiff::Timestamp::from_second(i64::from(created)).expect("a time").to_string();
    json!({"metadata": {"namespace": namespace, "name": name, "creationTimestamp": created},
           "spec": {"hosts": [host], "addresses": addresses, "resolution": "STATIC"}})
}

fn exported(mut entry: Value, to: &str) -> Value {
    entry["spec"]["exportTo"] = json!([to]);
    entry
}

/// [I2]
#[test]
fn causes_are_unique() {
    let codes: BTreeSet<&str> = Cause::ALL.iter().map(|cause| cause.as_str()).collect();
    assert_eq!(codes.len(), Cause::ALL.len());
    for cause in Cause::ALL {
        assert_eq!(json!(cause), json!(cause.as_str()));
    }
}

/// [I2] [D9]
#[test]
fn before_the_first_list_nothing_else_is_the_cause() {
    let mut world = World::new(&[entry("a/x", 1, "x.global", &["240.0.0.1"])]);
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 1).expect("zones");
    let table = Arc::new(Table::new(zones));
    let policy = Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 };
    world.index = Index::new(policy, table.clone(), || 1);
    world.responder = Responder::new(table, world.responder.settings().clone(), Vec::new());
    let explained = world.explain("x.global", &["A"]);
    assert_eq!((explained.cause, explained.resolves), (Cause::NotLoaded, false));
    assert_eq!(explained.replies[0].status, "SERVFAIL");
    world.index.table().set_complete();
    assert_eq!(world.explain("x.global", &["A"]).cause, Cause::NoEntries);
}

/// [I1] [O1] Every step of O1 is named for the entry that lost by it.
#[test]
fn an_entry_that_lost_is_told_by_which_rule() {
    let v4 = ["240.0.0.1"];
    let winner = entry("b/x", 100, "x.global", &["240.0.0.9"]);
    let cases = [
        (entry("a/x", 50, "x.global", &[]), "it gives the host no address"),
        (
            exported(entry("a/x", 50, "x.global", &v4), "."),
            "it is exported to every namespace and this one is not",
        ),
        (entry("c/x", 50, "x.global", &v4), "its namespace comes first in --prefer-namespace"),
    ];
    for (loser, rule) in cases {
        let explained = World::with(&[winner.clone(), loser], &["b"], &[]).explain("x.global", &["A"]);
        let entries = &explained.hosts[0].entries;
        let (owner, lost) =
            (entries.iter().find(|e| e.owns).expect("an owner"), entries.iter().find(|e| !e.owns));
        assert_eq!(owner.object, "b/x");
        let lost = lost.expect("a loser");
        assert!(lost.rule.contains(rule), "{}", lost.rule);
    }
    for (created, rule) in [(101, "b/x owns the host: it is older"), (100, "b/x owns the host: it is as old")]
    {
        let world = World::new(&[entry("c/x", created, "x.global", &v4), winner.clone()]);
        let explained = world.explain("x.global", &["A"]);
        let entries = &explained.hosts[0].entries;
        assert_eq!((entries[0].object.as_str(), entries[0].owns), ("b/x", true));
        assert!(entries[1].rule.starts_with(rule), "{}", entries[1].rule);
    }
    let defaulted = World::with(&[entry("a/x", 1, "x.global", &[])], &[], &["127.255.0.1"]);
    let explained = defaulted.explain("x.global", &["A"]);
    assert!(explained.resolves && explained.hosts[0].entries[0].rule.contains("--default-address (A3)"));
}

/// [I1] [A1] [D2]
#[test]
fn addresses_ttl_and_times_are_told() {
    let mut object =
        entry("a/x", 1_700_000_050, "x.global", &["240.0.0.1", "10.0.0.0/8", "0.0.0.0", "127.0.0.7"]);
    object["metadata"]["annotations"] = json!({"globaldns.io/ttl": "77"});
    let explained = World::new(&[object]).explain("x.global", &[]);
    let addresses: Vec<_> = explained.hosts[0].entries[0]
        .addresses
        .iter()
        .map(|address| (address.address.as_str(), address.accepted))
        .collect();
    assert_eq!(
        addresses,
        [("240.0.0.1", true), ("127.0.0.7", true), ("10.0.0.0/8", false), ("0.0.0.0", false)]
    );
    let served = &explained.hosts[0].entries[0].addresses;
    assert!(served[1].why.contains("never leaves the pod") && served[2].why.contains("[address-range]"));
    assert_eq!(
        explained.ttl,
        Some(Ttl { seconds: 77, from: "the annotation globaldns.io/ttl of a/x".into() })
    );
    let changed = Changed {
        entry_created: Some("2023-11-14T22:14:10Z".into()),
        zone_changed: Some("2023-11-14T22:15:00Z".into()),
        last: explained.changed.as_ref().and_then(|changed| changed.last.clone()),
    };
    assert_eq!(explained.changed, Some(changed));
    assert!(
        explained.replies[0].text.contains("x.global.\t\t77\tIN\tA\t240.0.0.1\n"),
        "{}",
        explained.replies[0].text
    );
}

/// [I1] [O5] An entry that is not served is named also where another one answers.
#[test]
fn hidden_entries_are_named_beside_the_one_that_answers() {
    let hidden = exported(entry("b/hidden", 1, "X.global", &["240.0.0.2"]), "~");
    let world = World::new(&[entry("a/x", 2, "x.global", &["240.0.0.1"]), hidden]);
    let explained = world.explain("x.global", &[]);
    assert!(explained.resolves);
    let [unserved] = &explained.unserved[..] else { panic!("{:?}", explained.unserved) };
    assert_eq!((unserved.object.as_str(), unserved.code.as_str()), ("b/hidden", "export-hidden"));
    assert_eq!((unserved.host.as_str(), unserved.field.as_str()), ("x.global", "spec.hosts[0]"));
    // And gone with it.
    let id = crate::entry::EntryId { namespace: "b".into(), name: "hidden".into(), origin: Origin::Object };
    world.index.delete(Partition(0), &id);
    assert_eq!(world.explain("x.global", &[]).unserved, []);
}

/// [I1]
#[test]
fn what_is_looked_at_is_bounded_and_what_is_left_out_is_told() {
    let entries: Vec<Value> = (0..50)
        .map(|n| entry(&format!("a/e{n}"), n, &format!("host{n:02}.prod.global"), &["240.0.0.1"]))
        .collect();
    let outside =
        (0..50).map(|n| entry(&format!("o/e{n}"), n, &format!("host{n:02}.prod.mesh"), &["240.0.0.1"]));
    let world = World::new(&[entries, outside.collect()].concat());
    let whole = world.explain("hostxx.prod.global", &[]);
    assert_eq!((whole.cause, whole.near.len(), whole.incomplete.len()), (Cause::Misspelled, 5, 0));
    let part = world.explain_within("hostxx.prod.global", &[], 20);
    assert_eq!(part.incomplete.len(), 2, "{:?}", part.incomplete);
    assert!(part.incomplete[1].contains("only the first 20 of 50 hosts"), "{:?}", part.incomplete);
    let without: Vec<Value> =
        (0..30).map(|n| entry(&format!("a/e{n}"), n, &format!("host{n:02}.prod.global"), &[])).collect();
    let part = World::new(&without).explain_within("hostxx.prod.global", &[], 20).incomplete;
    assert!(part.iter().any(|left| left.contains("only the first 20 hosts without an answer")), "{part:?}");
    let same: Vec<Value> =
        (0..30).map(|n| entry(&format!("a/e{n}"), n, "x.global", &["240.0.0.1"])).collect();
    let hosts = World::new(&same).explain("x.global", &[]).hosts;
    assert_eq!((hosts[0].entries.len(), hosts[0].entries_in_all), (20, 30));
}

/// [I1] However many wildcards are above a name, and however much is wrong with their entries.
#[test]
fn one_name_cannot_use_up_the_memory() {
    let junk: Vec<String> = (0..60).map(|n| format!("junk{n:02}")).collect();
    let junk: Vec<&str> = junk.iter().map(String::as_str).collect();
    let suffix = |depth: usize| ["w."; 40][..depth].concat();
    let of_depth = |depth: usize| {
        let mut object = entry(&format!("a/e{depth}"), 1, &format!("*.{}global", suffix(depth)), &junk);
        object["metadata"]["annotations"] = json!({"globaldns.io/ttl": "never"});
        object
    };
    let mut entries: Vec<Value> = (2..32).map(of_depth).collect();
    // Far up, and the one that answers.
    entries.push(entry("a/answers", 1, "*.w.global", &["240.0.0.1"]));
    let asked = format!("x.{}global", suffix(32));
    let explained = World::new(&entries).explain(&asked, &["A"]);
    assert!(explained.resolves && explained.why.contains("a/answers"), "{}", explained.why);
    assert_eq!(explained.hosts.len(), 9);
    assert!(explained.hosts[8].answers && !explained.hosts[7].answers);
    assert_eq!(explained.incomplete, ["22 more wildcards match the name"]);
    let addresses = &explained.hosts[0].entries[0].addresses;
    assert_eq!((addresses.len(), addresses[20].address.as_str()), (21, "and 40 more"));
    assert!(!addresses[20].accepted);
}

/// [I1] [O1] [D2] What decides is known also where it is not among the entries that are told.
#[test]
fn what_decides_is_not_cut_off() {
    let lowest = |mut object: Value| {
        object["metadata"]["annotations"] = json!({"globaldns.io/ttl": "7"});
        object
    };
    let same = |count: u32, id: &str, address: &str| -> Vec<Value> {
        (0..count).map(|n| entry(&format!("{id}{n:02}"), 1_000 + n, "x.global", &[address])).collect()
    };
    let mut entries = same(40, "a/e", "240.0.0.1");
    entries[30] = lowest(entries[30].clone());
    let explained = World::new(&entries).explain("x.global", &["A"]);
    assert_eq!(
        explained.ttl,
        Some(Ttl { seconds: 7, from: "the annotation globaldns.io/ttl of a/e30".into() })
    );
    let newest = explained.changed.and_then(|changed| changed.entry_created);
    assert_eq!(newest.as_deref(), Some("1970-01-01T00:17:19Z"));
    assert_eq!(explained.hosts[0].entries.len(), 20);
    // The only one with an address of the family is the last.
    entries.push(entry("b/last", 9_000, "x.global", &["2001:db8::1"]));
    let explained = World::new(&entries).explain("x.global", &["AAAA"]);
    assert_eq!(explained.cause, Cause::ClaimLost);
    assert!(explained.why.starts_with("b/last gives IPv6 addresses"), "{}", explained.why);
}

/// [I1]
#[test]
fn nothing_in_it_steers_a_terminal() {
    let evil = "\u{1b}[31m\u{202e}\u{7}\r\n\u{9b}x";
    let mut object = entry("a/x", 1, "x.global", &[evil, "240.0.0.1"]);
    object["metadata"]["name"] = json!(evil);
    object["spec"]["hosts"] = json!(["x.global", format!("{evil}.global"), format!("*{evil}.global")]);
    let world = World::new(&[object]);
    for asked in ["x.global", evil, "y.x.global", "any.global"] {
        let text = text(&world.explain(asked, &[]));
        let steers = text.chars().find(|c| c.is_control() && !['\n', '\t'].contains(c) || *c == '\u{202e}');
        assert_eq!(steers, None, "{text:?}");
        // A line break of somebody else's would begin a line of his own.
        assert!(!text.lines().any(|line| line.starts_with("\\u{9b}")), "{text}");
    }
}

/// [I1]
#[test]
fn who_asks_and_when_makes_no_difference_to_the_reply() {
    let world = World::new(&[entry("a/x", 1, "x.global", &["240.0.0.1", "240.0.0.2", "240.0.0.3"])]);
    let first = world.explain("x.global", &["A"]).replies;
    assert_eq!(world.explain("x.global", &["A"]).replies, first);
    assert_eq!(first[0].answers, 3);
}

/// [I1] What a server says is read as it was said.
#[test]
fn an_explanation_survives_json() {
    let world =
        World::new(&[entry("a/x", 1, "x.global", &["240.0.0.1"]), entry("a/y", 1, "*.team.global", &[])]);
    let near = world.explain("a.teem.global", &[]).near;
    let of = Of { host: "*.team.global".into(), object: "a/y".into(), field: "spec.hosts[0]".into() };
    assert_eq!(near.iter().map(|near| near.of.clone()).collect::<Vec<_>>(), [Some(of)]);
    for asked in ["x.global", "a.team.global", "a.teem.global", "nobody.global", "a..b", "x.mesh"] {
        let mut explained = world.explain(asked, &[]);
        explained.forwarding = Some(Forwarding::unknown("global", "nobody looked"));
        let json = serde_json::to_value(&explained).expect("JSON");
        assert!(json.get("why").is_some() && json.get("unserved").is_none());
        assert_eq!(serde_json::from_value::<Explanation>(json).expect("read"), explained);
    }
}

/// [I1] [T12] A server that looks after stub domains says where they stand, and that they lead here only when proved.
#[test]
fn what_is_known_of_stub_domains_is_told() {
    let at = |state| AtPlace {
        role: Role::ClusterDns,
        place: "ConfigMap kube-system/coredns, Corefile".into(),
        state,
        message: "in words".into(),
    };
    let verified = Forwarding::followed(&[at(State::Verified)]);
    assert_eq!((verified.leads_here, verified.remedy), (Some(true), None));
    let told = "cluster-dns: ConfigMap kube-system/coredns, Corefile: Verified: in words";
    assert_eq!(verified.findings, [told]);
    let conflict = Forwarding::followed(&[at(State::Verified), at(State::Conflict)]);
    assert_eq!(conflict.leads_here, None);
    assert!(conflict.remedy.is_some_and(|remedy| remedy.contains("stub-domains status")));
}

/// [I1] What comes and goes while it is looked at is no fault of whoever asks.
#[test]
fn a_name_that_comes_and_goes_is_explained() {
    let world = World::new(&[]);
    let object = entry("foo/bar", 1_700_000_000, "bar.foo.global", &["240.0.0.1"]);
    let read = || Entry::read(&object, Origin::Object, world.index.table().zones(), &Rules::default());
    std::thread::scope(|scope| {
        let events = scope.spawn(|| {
            for _ in 0..5_000 {
                world.index.apply(Partition(0), read());
                world.index.delete(Partition(0), &read().id);
            }
        });
        while !events.is_finished() {
            let explained = world.explain("bar.foo.global", &["A"]);
            assert!(!explained.why.is_empty());
        }
    });
}

/// [I2] [S7] However many services a name has in front, one host is looked for.
#[test]
fn a_service_of_services_is_looked_for_once() {
    let world = World::new(&[entry("foo/bar", 1_700_000_000, "bar.foo.global", &["240.0.0.1"])]);
    let explained = world.explain(&format!("{}gone.global", "_tcp.".repeat(40)), &["SRV"]);
    assert!(!explained.resolves && explained.why.matches("service of").count() <= 1, "{}", explained.why);
}
