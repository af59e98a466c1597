use super::*;
use crate::entry::{Origin, Rules};
use crate::finding::Code;
use crate::wire::name::Name;
use crate::zone::answer::Family;
use crate::zone::{Found, Zone, Zones};
use proptest::prelude::*;
use serde_json::{Value, json};

const P0: Partition = Partition(0);
const P1: Partition = Partition(1);

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

fn policy() -> Policy {
    Policy { prefer_namespaces: vec![], default_addresses: vec![], ttl: 30 }
}

fn index_with(policy: Policy) -> Index {
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0).expect("valid zones");
    Index::new(policy, Arc::new(Table::new(zones)), || 1000)
}

fn index() -> Index {
    index_with(policy())
}

/// An entry under construction.
#[derive(Clone)]
struct Build {
    object: Value,
    origin: Origin,
}

/// `namespace/name` with hosts and addresses, created at second `created`.
fn entry(id: &str, created: i64, hosts: &[&str], addresses: &[&str]) -> Build {
    let (namespace, name) = id.split_once('/').expect("namespace/name");
    let time = jiff::Timestamp::from_second(created).expect("in range").to_string();
    Build {
        object: json!({
            "metadata": {"namespace": namespace, "name": name, "creationTimestamp": time},
            "spec": {"hosts": hosts, "addresses": addresses, "resolution": "DNS"}
        }),
        origin: Origin::Object,
    }
}

impl Build {
    fn set(mut self, pointer: &str, value: Value) -> Build {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        self.object.pointer_mut(parent).expect(parent)[key] = value;
        self
    }

    fn private(self) -> Build {
        self.set("/spec/exportTo", json!(["."]))
    }

    fn ttl(self, ttl: &str) -> Build {
        self.set("/metadata/annotations", json!({"globaldns.io/ttl": ttl}))
    }

    fn file(mut self, path: &str, document: u32) -> Build {
        self.origin = Origin::Document { path: path.into(), position: (document, 0) };
        self.set("/metadata/creationTimestamp", json!(null))
    }

    fn done(self, index: &Index) -> Entry {
        Entry::read(&self.object, self.origin, index.table.zones(), &Rules::default())
    }

    fn packed(self, index: &Index) -> Packed {
        index.pack(P0, self.done(index))
    }
}

impl Index {
    fn put(&self, build: Build) {
        self.apply(P0, build.done(self));
    }

    fn drop_object(&self, id: &str) {
        let (namespace, name) = id.split_once('/').expect("namespace/name");
        let id = EntryId { namespace: namespace.into(), name: name.into(), origin: Origin::Object };
        self.delete(P0, &id);
    }

    /// `addresses ttl`, `empty` or `missing`.
    fn look(&self, text: &str) -> String {
        let name = name(text);
        let (zone, at) = self.table.zones().covering(name.wire()).expect("in a zone");
        match self.table.read().find(zone, name.wire(), at) {
            Found::Missing => "missing".to_owned(),
            Found::Empty => "empty".to_owned(),
            Found::Probe => "probe".to_owned(),
            Found::Host(a) => {
                let all: Vec<_> =
                    a.addresses(Family::V4).chain(a.addresses(Family::V6)).map(|a| a.to_string()).collect();
                format!("{} {}", all.join(","), a.ttl())
            }
        }
    }

    fn codes(&self) -> Vec<String> {
        self.findings().iter().map(|f| format!("{} {} {}", f.code.as_str(), f.object, f.value)).collect()
    }
}

/// [O1]
#[test]
fn the_oldest_namespace_owns_a_host_and_its_entries_merge_oldest_first() {
    let i = index();
    i.put(entry("young/a", 300, &["h.global"], &["240.0.0.3"]));
    assert_eq!(i.look("h.global"), "240.0.0.3 30");
    i.put(entry("old/b", 200, &["h.global"], &["240.0.0.2", "240.0.0.1"]));
    i.put(entry("old/a", 100, &["h.global"], &["240.0.0.9", "240.0.0.2", "2001:db8::1"]));
    assert_eq!(i.look("h.global"), "240.0.0.9,240.0.0.2,240.0.0.1,2001:db8::1 30");
    let host = Host { name: name("h.global"), wildcard: false };
    let owners: Vec<_> = i.owners(&host).iter().map(ToString::to_string).collect();
    assert_eq!(owners, ["old/a", "old/b"]);
    i.drop_object("old/a");
    assert_eq!(i.look("h.global"), "240.0.0.2,240.0.0.1 30");
    i.drop_object("old/b");
    assert_eq!(i.look("h.global"), "240.0.0.3 30");
    i.drop_object("young/a");
    assert_eq!(i.look("h.global"), "missing");
    assert!(i.owners(&host).is_empty() && i.claims.is_empty());
}

/// [O1]
#[test]
fn ties_go_by_namespace_and_preference_beats_age() {
    let two = |i: &Index| {
        i.put(entry("b/x", 100, &["h.global"], &["240.0.0.2"]));
        i.put(entry("a/x", 100, &["h.global"], &["240.0.0.1"]));
        i.put(entry("c/x", 50, &["h.global"], &["240.0.0.3"]));
    };
    let i = index();
    two(&i);
    assert_eq!(i.look("h.global"), "240.0.0.3 30");
    i.drop_object("c/x");
    assert_eq!(i.look("h.global"), "240.0.0.1 30");
    let i = index_with(Policy { prefer_namespaces: vec!["z".into(), "b".into(), "a".into()], ..policy() });
    two(&i);
    assert_eq!(i.look("h.global"), "240.0.0.2 30");
}

/// [O1] [O3]
#[test]
fn public_entries_rank_before_all_others_and_do_not_merge_with_them() {
    let i = index();
    i.put(entry("a/private", 1, &["h.global"], &["240.0.0.1"]).private());
    assert_eq!(i.look("h.global"), "240.0.0.1 30");
    i.put(entry("a/public", 2, &["h.global"], &["240.0.0.2"]));
    assert_eq!(i.look("h.global"), "240.0.0.2 30");
    assert_eq!(i.codes(), ["claim-lost a/private h.global", "export-beyond a/private "]);
    assert!(i.findings()[0].why.contains("a/public owns the host: it is exported to every namespace"));
    assert!(i.findings()[0].why.ends_with("; 240.0.0.1, which this entry gives it, is not answered"));
    i.put(entry("a/private", 1, &["h.global"], &["240.0.0.2"]).private());
    assert!(i.findings()[0].why.ends_with("and this one is not"), "its address is answered");
}

/// [O3] [F1]
#[test]
fn a_lost_claim_names_the_winner() {
    let i = index();
    i.put(entry("old/a", 1, &["h.global"], &["240.0.0.1"]));
    i.put(entry("young/b", 2, &["x.global", "h.global"], &["240.0.0.2"]));
    let findings = i.findings();
    assert_eq!(findings.len(), 1);
    assert_eq!((findings[0].object.as_str(), findings[0].field.as_str()), ("young/b", "spec.hosts[1]"));
    assert!(findings[0].why.contains("old/a owns the host: it is older; 240.0.0.2"));
    i.drop_object("old/a");
    assert!(i.findings().is_empty());
}

/// [O1] [O3] A remedy that O1 would not follow is none.
#[test]
fn the_remedy_for_a_lost_claim_fits_the_step_at_which_it_was_lost() {
    let lost = |i: &Index| {
        let findings = i.findings();
        let found = findings.iter().find(|finding| finding.code == Code::ClaimLost).expect("a loser");
        (found.object.clone(), found.why.clone(), found.remedy.clone())
    };
    let i = index_with(Policy { prefer_namespaces: vec!["a".into()], ..policy() });
    i.put(entry("a/x", 1, &["h.global"], &["240.0.0.1"]).private());
    i.put(entry("b/x", 2, &["h.global"], &["240.0.0.1"]));
    let (object, _, remedy) = lost(&i);
    assert_eq!(object, "a/x");
    assert!(remedy.contains("export this one to \"*\""), "{remedy}");
    i.put(entry("a/x", 3, &["h.global"], &["240.0.0.1"]));
    let (object, why, remedy) = lost(&i);
    assert_eq!(object, "b/x");
    assert!(
        why.contains("comes first in --prefer-namespace") && remedy.contains("change the order"),
        "{why}; {remedy}"
    );
    let i = index();
    i.put(entry("b/x", 0, &["h.global"], &["240.0.0.1"]).file("b.yaml", 1));
    i.put(entry("a/x", 0, &["h.global"], &["240.0.0.1"]).file("b.yaml", 2));
    let (object, why, remedy) = lost(&i);
    assert_eq!(object, "b.yaml:2");
    assert!(
        why.contains("it is as old") && remedy.contains("decide with --prefer-namespace"),
        "{why}; {remedy}"
    );
}

/// [A2] [A7] Nobody is told to wait for istiod where that allocates nothing.
#[test]
fn who_may_have_no_allocated_address_is_not_told_to_have_one() {
    let i = index();
    i.put(entry("a/may", 1, &["may.global", "*.may.global"], &[]));
    i.put(entry("a/range", 1, &["range.global"], &["10.0.0.0/8"]));
    let label = json!({"networking.istio.io/enable-autoallocate-ip": "false"});
    i.put(entry("a/label", 1, &["label.global"], &[]).set("/metadata/labels", label));
    let told: Vec<_> = i.findings().into_iter().filter(|f| f.code == Code::HostNoAddress).collect();
    assert_eq!(told.len(), 4);
    for finding in told {
        let waits = finding.remedy.contains("let istiod allocate");
        assert_eq!(waits, finding.value == "may.global", "{} {}", finding.value, finding.remedy);
    }
}

/// [S2] [O1]
#[test]
fn file_entries_without_a_timestamp_are_newest_in_order_of_path_and_position() {
    let i = index();
    i.put(entry("a/x", 0, &["h.global"], &["240.0.0.3"]).file("b.yaml", 1));
    i.put(entry("z/x", 0, &["h.global"], &["240.0.0.2"]).file("a.yaml", 2));
    i.put(entry("y/x", 0, &["h.global"], &["240.0.0.1"]).file("a.yaml", 1));
    assert_eq!(i.look("h.global"), "240.0.0.1 30");
    i.apply(P1, entry("q/x", 2_000_000_000, &["h.global"], &["240.0.0.9"]).done(&i));
    assert_eq!(i.look("h.global"), "240.0.0.9 30");
}

/// [A7] [O1]
#[test]
fn address_less_twin_never_hides_an_addressed_host() {
    let i = index();
    i.put(entry("istio-system/twin", 1, &["httpbin.bar.global"], &[]));
    assert_eq!(i.look("httpbin.bar.global"), "missing");
    assert_eq!(i.look("bar.global"), "missing", "no address, no name, no ancestors");
    i.put(entry("foo/httpbin", 2, &["httpbin.bar.global"], &["240.0.0.2"]));
    assert_eq!(i.look("httpbin.bar.global"), "240.0.0.2 30");
    assert_eq!(i.codes(), ["host-no-address istio-system/twin httpbin.bar.global"]);
    assert!(i.findings()[0].why.contains("another entry answers it"));
    i.drop_object("foo/httpbin");
    assert_eq!(i.look("httpbin.bar.global"), "missing");
    assert!(i.findings()[0].why.contains("does not exist in DNS"));
    assert!(i.findings()[0].remedy.contains("--default-address"));
}

/// [A7]
#[test]
fn the_remedy_for_a_missing_address_fits_the_resolution() {
    let i = index_with(Policy { default_addresses: vec![IpAddr::from([240, 9, 9, 9])], ..policy() });
    i.put(entry("a/none", 1, &["h.global"], &[]).set("/spec/resolution", json!("NONE")));
    assert_eq!(i.look("h.global"), "missing");
    assert!(i.findings()[0].remedy.contains("with resolution NONE neither"));
}

/// [A3]
#[test]
fn the_default_address_serves_only_hosts_nobody_gives_an_address() {
    let defaults = vec![IpAddr::from([240, 9, 9, 9]), "2001:db8::9".parse().expect("valid")];
    let i = index_with(Policy { default_addresses: defaults, ..policy() });
    i.put(entry("a/x", 1, &["h.global"], &[]).ttl("60"));
    i.put(entry("b/x", 2, &["h.global"], &[]).ttl("45"));
    assert_eq!(i.look("h.global"), "240.9.9.9,2001:db8::9 45");
    assert!(i.findings().is_empty(), "{:?}", i.codes());
    i.put(entry("c/x", 3, &["h.global"], &["240.0.0.1"]));
    assert_eq!(i.look("h.global"), "240.0.0.1 30");
    assert_eq!(i.codes().len(), 2, "now the two give it no address");
    i.drop_object("c/x");
    i.put(entry("a/x", 1, &["h.global"], &[]).set("/spec/resolution", json!("NONE")));
    i.put(entry("b/x", 1, &["h.global"], &[]).set("/spec/resolution", json!("NONE")));
    assert_eq!(i.look("h.global"), "missing");
}

/// [D2]
#[test]
fn the_lowest_ttl_of_the_merged_entries_wins() {
    let i = index();
    i.put(entry("a/x", 1, &["h.global"], &["240.0.0.1"]).ttl("300"));
    assert_eq!(i.look("h.global"), "240.0.0.1 300");
    i.put(entry("a/y", 2, &["h.global"], &["240.0.0.2"]).ttl("120"));
    assert_eq!(i.look("h.global"), "240.0.0.1,240.0.0.2 120");
    // Another namespace is not merged, so its TTL does not count.
    i.put(entry("b/z", 3, &["h.global"], &["240.0.0.3"]).ttl("7"));
    assert_eq!(i.look("h.global"), "240.0.0.1,240.0.0.2 120");
    // An entry without annotation has --ttl.
    i.put(entry("a/w", 4, &["h.global"], &["240.0.0.4"]));
    assert_eq!(i.look("h.global"), "240.0.0.1,240.0.0.2,240.0.0.4 30");
}

/// [O4] [A3]
#[test]
fn one_address_under_two_hosts_of_two_entries_is_a_finding_on_both() {
    let i = index();
    i.put(entry("a/x", 1, &["h.global", "g.global"], &["240.0.0.1"]));
    assert_eq!(i.codes(), [""; 0], "within one entry it is the author's wish");
    i.put(entry("b/y", 2, &["k.global"], &["240.0.0.1", "240.0.0.2"]));
    assert_eq!(i.codes(), ["address-shared a/x 240.0.0.1", "address-shared b/y 240.0.0.1"]);
    assert!(i.findings()[0].why.contains("k.global of b/y"), "{}", i.findings()[0]);
    assert!(i.findings()[1].why.contains("g.global of a/x"), "{}", i.findings()[1]);
    i.drop_object("b/y");
    assert_eq!(i.codes(), [""; 0]);
    // Two entries for the same host share its address rightly.
    i.put(entry("a/z", 2, &["h.global"], &["240.0.0.1"]));
    assert_eq!(
        i.codes(),
        ["address-shared a/x 240.0.0.1", "address-shared a/z 240.0.0.1"],
        "g.global is x's"
    );
}

/// [O4] [A2]
#[test]
fn a_shared_allocated_address_is_named_by_its_field() {
    let i = index();
    for name in ["x", "y"] {
        let host = format!("{name}.global");
        let build = entry(&format!("a/{name}"), 1, &[&host], &[]);
        i.put(build.set("/status", json!({"addresses": [{"value": "240.240.0.1", "host": host}]})));
    }
    let findings = i.findings();
    assert_eq!(findings.len(), 2);
    assert!(findings.iter().all(|f| f.field == "status.addresses"), "{findings:?}");
}

/// [O3] [O4] [S5] Work that grows with the square of one entry's size would be felt here.
#[test]
fn very_large_entries_are_read_and_reported_like_small_ones() {
    let i = index();
    let hosts: Vec<String> = (0..10_000).map(|n| format!("h{n}.global")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    i.put(entry("a/hosts", 1, &hosts, &["240.0.0.1"]));
    let addresses: Vec<String> = (0..1000).map(|n| format!("240.1.{}.{}", n / 250, n % 250)).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    i.put(entry("a/addresses", 1, &["many.global"], &addresses));
    let status: Vec<_> = hosts.iter().map(|host| json!({"value": "240.0.0.2", "host": host})).collect();
    i.put(entry("b/status", 1, &hosts, &[]).set("/status", json!({"addresses": status})));
    let findings = i.findings();
    assert_eq!(findings.iter().filter(|f| f.code == Code::ClaimLost).count(), 10_000);
    assert!(findings.iter().all(|f| f.code == Code::ClaimLost));
}

/// [S7] What is looked at for findings grows as the entries do, and not as a square: with four times as much of
/// everything, no more than five times.
#[test]
fn a_search_for_findings_grows_as_what_it_searches() {
    fn texts(of: std::ops::Range<usize>, text: impl Fn(usize) -> String) -> Vec<String> {
        of.map(text).collect()
    }
    let refs =
        |texts: Vec<String>| -> Vec<&'static str> { texts.into_iter().map(|text| &*text.leak()).collect() };
    let vip = |n: usize| format!("240.{}.{}.{}", n >> 16, n >> 8 & 255, n & 255);
    let host = |n: usize| format!("h{n}.global");
    type World = Box<dyn Fn(usize) -> (Vec<Build>, usize)>;
    let worlds: Vec<(&str, World)> = vec![
        (
            "one host of many entries",
            Box::new(move |n| {
                let one = |i| entry(&format!("ns{}/e{i}", i % 2), i as i64, &["a.global"], &["240.0.0.1"]);
                ((0..n).map(one).collect(), n / 2)
            }),
        ),
        (
            "one address of many hosts",
            Box::new(move |n| {
                let one = |i| entry(&format!("a/e{i}"), 1, &[&host(i)], &["240.0.0.1"]);
                ((0..n).map(one).collect(), n)
            }),
        ),
        (
            "one address of one host of many entries, and of another host",
            Box::new(move |n| {
                let one = |i| entry(&format!("a/e{i}"), 1, &["a.global"], &["240.0.0.1"]);
                ((0..n).map(one).chain([entry("a/other", 1, &["b.global"], &["240.0.0.1"])]).collect(), n + 1)
            }),
        ),
        (
            "many hosts of two entries",
            Box::new(move |n| {
                let vips = texts(0..100, vip);
                let one = |at: usize| {
                    entry(&format!("a/e{at}"), 1, &refs(texts(at..at + n, host)), &refs(vips.clone()))
                };
                ((0..2).map(|i| one(i * n)).collect(), 200)
            }),
        ),
        (
            "many addresses of two entries",
            Box::new(move |n| {
                let one = |at| entry(&format!("a/e{at}"), 1, &[&host(at)], &refs(texts(0..n, vip)));
                ((0..2).map(one).collect(), 2 * n)
            }),
        ),
        (
            "many allocated addresses of two entries",
            Box::new(move |n| {
                let one = |at: usize| {
                    let status: Vec<_> =
                        (0..n).map(|i| json!({"value": vip(i), "host": host(at * n + i)})).collect();
                    entry(&format!("a/e{at}"), 1, &refs(texts(at * n..at * n + n, host)), &[])
                        .set("/status", json!({"addresses": status}))
                };
                ((0..2).map(one).collect(), 2 * n)
            }),
        ),
        (
            "one allocated address of all hosts of an entry, and of another's",
            Box::new(move |n| {
                let status: Vec<_> = (0..n).map(|i| json!({"value": "240.0.0.1", "host": host(i)})).collect();
                let all = entry("a/all", 1, &refs(texts(0..n, host)), &[])
                    .set("/status", json!({"addresses": status}));
                (vec![all, entry("a/other", 1, &["h0.global"], &["240.0.0.1"])], 2)
            }),
        ),
    ];
    for (what, world) in worlds {
        let looked = |n: usize| {
            let i = index();
            let (builds, expected) = world(n);
            i.reset(P0, builds.into_iter().map(|build| build.packed(&i)).collect());
            let mut found = 0;
            let looked = i.search(&mut |_| found += 1);
            assert_eq!(found, expected, "{what}: findings");
            looked
        };
        let (few, many) = (looked(250), looked(1000));
        assert!(many <= 5 * few, "{what}: {few} for 250, {many} for 1000");
    }
}

/// [S7] Ten thousand hosts of a thousand addresses are a thousand addresses.
#[test]
fn the_hosts_of_an_entry_share_their_addresses() {
    let i = index();
    let hosts: Vec<String> = (0..100).map(|n| format!("h{n}.global")).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    i.put(entry("a/a", 1, &hosts, &["240.0.0.1", "240.0.0.2", "2001:db8::1"]));
    let mut places = HashSet::new();
    let mut count = 0;
    i.table.for_each(|_, answers| {
        places.insert((answers.v4().as_ptr(), answers.v6().as_ptr()));
        count += 1;
    });
    assert_eq!((count, places.len()), (100, 1));
}

/// [S7] [O1] Each of two entries may have as many addresses as a host, and both together no more.
#[test]
fn merged_entries_give_a_host_no_more_addresses_than_one() {
    let i = index();
    let vips =
        |from: usize| (from..from + 700).map(|n| format!("240.0.{}.{}", n >> 8, n & 255)).collect::<Vec<_>>();
    let refs = |texts: &'static [String]| texts.iter().map(|text| &**text).collect::<Vec<_>>();
    // Four hundred of the younger one are the older one's, too.
    i.put(entry("a/old", 1, &["a.global"], &refs(vips(0).leak())));
    i.put(entry("a/young", 2, &["a.global"], &refs(vips(300).leak())));
    assert_eq!((i.look("a.global").split(',').count(), i.codes()), (1000, vec![]));
    i.put(entry("a/young", 2, &["a.global"], &refs(vips(500).leak())));
    assert_eq!(i.look("a.global").split(',').count(), MOST_ADDRESSES);
    assert_eq!(i.codes(), ["limit-exceeded a/young a.global"]);
    assert!(
        i.findings()[0]
            .why
            .contains("the host has 1200 addresses; only the first 1024 are served, and not 176")
    );
}

/// [O1] [O2] Entries of few hosts have their claims remembered by the table, those of many have them listed; they
/// trade hosts and places in between.
#[test]
fn entries_that_grow_and_shrink_end_where_a_fresh_list_does() {
    let lived = index();
    let hosts: Vec<String> = (0..50).map(|n| format!("h{n}.global")).collect();
    let of = |name: &str, count: usize, age: i64| {
        let hosts: Vec<&str> = hosts[..count].iter().map(String::as_str).collect();
        entry(&format!("{name}/x"), age, &hosts, &[if name == "a" { "240.0.0.1" } else { "240.0.0.2" }])
    };
    let most = MOST_CLAIMS_UNLISTED;
    for (a, b) in
        [(most, 0), (most + 1, 1), (50, most), (most - 1, most + 1), (1, 50), (most, most), (0, 50), (0, 0)]
    {
        let world = [("a", a, 2), ("b", b, 1)].into_iter().filter(|(_, count, _)| *count > 0);
        let world: Vec<Build> = world.map(|(name, count, age)| of(name, count, age)).collect();
        lived.reset(P0, world.iter().map(|build| build.clone().packed(&lived)).collect());
        let fresh = index();
        for build in world {
            fresh.put(build);
        }
        assert_eq!(everything(&lived), everything(&fresh), "{a} and {b} hosts");
    }
    assert!(lived.claims.is_empty());
}

/// [S2] [L3]
#[test]
fn files_are_replaced_without_the_others() {
    let i = index();
    let of = |name: &str, file: &str| {
        entry(&format!("a/{name}"), 0, &[&format!("{name}.global")], &["240.0.0.1"]).file(file, 1)
    };
    i.reset(P0, vec![of("x", "x.yaml").packed(&i), of("y", "y.yaml").packed(&i)]);
    i.apply(P1, of("z", "x.yaml").done(&i));
    let files: [Arc<str>; 2] = ["x.yaml".into(), "never-seen.yaml".into()];
    assert_eq!(i.reset_files(P0, &files, vec![of("new", "x.yaml").packed(&i)]), 1);
    let looks = ["x", "y", "z", "new"].map(|name| i.look(&format!("{name}.global")) != "missing");
    assert_eq!(looks, [false, true, true, true]);
    assert_eq!(i.reset_files(P0, &[], vec![]), 0);
}

/// [S6]
#[test]
fn a_bad_update_keeps_the_valid_parts_and_a_delete_is_always_honoured() {
    let i = index();
    i.put(entry("a/x", 1, &["h.global", "g.global"], &["240.0.0.1", "240.0.0.2"]));
    i.put(entry("a/x", 1, &["h.global", "not a name"], &["240.0.0.1", "nonsense"]));
    assert_eq!((i.look("h.global").as_str(), i.look("g.global").as_str()), ("240.0.0.1 30", "missing"));
    assert_eq!(i.codes(), ["address-invalid a/x nonsense", "host-invalid a/x not a name"]);
    i.put(entry("a/x", 1, &[], &[]).set("/spec", json!(12)));
    assert_eq!((i.look("h.global").as_str(), i.entries(P0)), ("missing", 1));
    i.drop_object("a/x");
    assert_eq!((i.entries(P0), i.codes()), (0, vec![]));
    i.drop_object("a/never-seen");
}

/// [L3] [L2]
#[test]
fn a_reset_drops_what_is_not_listed_of_its_own_partition_only() {
    let i = index();
    i.put(entry("a/x", 1, &["x.global"], &["240.0.0.1"]));
    i.put(entry("a/y", 1, &["y.global"], &["240.0.0.2"]));
    i.apply(P1, entry("a/z", 1, &["z.global"], &["240.0.0.3"]).done(&i));
    let generation = i.table.generation();
    i.reset(P0, vec![entry("a/y", 1, &["y.global"], &["240.0.0.2"]).packed(&i)]);
    assert_eq!(i.look("x.global"), "missing");
    assert_eq!((i.look("y.global").as_str(), i.look("z.global").as_str()), ("240.0.0.2 30", "240.0.0.3 30"));
    assert_eq!(i.table.generation(), generation + 1, "what did not change was not touched");
    i.reset(P0, vec![]);
    assert_eq!((i.look("y.global").as_str(), i.entries(P0), i.entries(P1)), ("missing", 0, 1));
    i.reset(Partition(9), vec![]);
}

/// [L3] No API server lists an object twice, but nothing here relies on it.
#[test]
fn of_two_versions_in_one_list_the_later_counts() {
    let i = index();
    let earlier = entry("a/x", 1, &["h.global", "g.global"], &["240.0.0.1"]).packed(&i);
    let later = entry("a/x", 1, &["h.global"], &["240.0.0.2"]).packed(&i);
    i.reset(P0, vec![earlier, later]);
    assert_eq!((i.look("h.global").as_str(), i.look("g.global").as_str()), ("240.0.0.2 30", "missing"));
    assert_eq!((i.entries(P0), i.claims.len()), (1, 0));
    i.drop_object("a/x");
    assert_eq!((i.look("h.global").as_str(), i.entries(P0)), ("missing", 0));
}

/// [L3] Hosts that move between entries, and ancestors shared by what comes and goes, are never missing.
#[test]
fn nothing_blinks_when_a_relist_moves_hosts_between_entries() {
    let i = Arc::new(index());
    let before = |i: &Index| {
        vec![
            entry("a/x", 1, &["h.global", "only-x.ent.global"], &["240.0.0.1"]).packed(i),
            entry("a/y", 2, &["k.global"], &["240.0.0.2"]).packed(i),
        ]
    };
    let after = |i: &Index| {
        vec![
            entry("a/x", 1, &["k.global"], &["240.0.0.2"]).packed(i),
            entry("a/y", 2, &["h.global", "only-y.ent.global"], &["240.0.0.1"]).packed(i),
        ]
    };
    i.reset(P0, before(&i));
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let reader = {
        let (i, stop) = (i.clone(), stop.clone());
        std::thread::spawn(move || {
            let mut rounds = 0u64;
            while !stop.load(Ordering::Relaxed) || rounds == 0 {
                assert_eq!(i.look("h.global"), "240.0.0.1 30");
                assert_eq!(i.look("k.global"), "240.0.0.2 30");
                assert_eq!(i.look("ent.global"), "empty");
                rounds += 1;
            }
        })
    };
    for _ in 0..1000 {
        i.reset(P0, after(&i));
        i.reset(P0, before(&i));
    }
    stop.store(true, Ordering::Relaxed);
    reader.join().expect("the reader saw no gap");
}

/// [F1]
#[test]
fn findings_of_sources_are_kept_apart_and_every_change_moves_the_version() {
    let i = index();
    let finding = Finding::new(Code::CrdAbsent, "serviceentries", "", "", "why", "remedy");
    let version = i.version();
    i.set_source_findings(P1, vec![finding.clone()]);
    assert!(i.version() > version);
    let version = i.version();
    i.put(entry("a/x", 1, &["x.com"], &[]));
    assert!(i.version() > version);
    let version = i.version();
    i.put(entry("a/x", 1, &["x.com"], &[]));
    i.drop_object("a/never-seen");
    i.set_source_findings(P1, vec![finding]);
    assert_eq!(i.version(), version, "nothing has changed");
    assert_eq!(i.codes(), ["crd-absent serviceentries ", "host-outside-zones a/x x.com"]);
    i.set_source_findings(P1, vec![]);
    assert_eq!(i.codes(), ["host-outside-zones a/x x.com"]);
}

/// One step of a history over a few entries.
#[derive(Clone, Debug)]
enum Step {
    Apply(usize, usize),
    Delete(usize),
    /// A relist that happens to see this state of the world: what was applied and not deleted so far.
    Reset,
}

/// Versions of four entries that fight over four hosts.
fn version(entry_number: usize, version: usize) -> Build {
    let id = ["a/1", "a/2", "b/1", "c/1"][entry_number];
    let hosts: &[&str] =
        [&["h.global"][..], &["h.global", "k.x.global"], &["*.x.global"], &["x.global"]][version % 4];
    let addresses: &[&str] = [&["240.0.0.1"][..], &[], &["240.0.0.2", "2001:db8::1"]][version % 3];
    let build = entry(id, (version % 5) as i64 * 10, hosts, addresses);
    let build = if version.is_multiple_of(7) { build.private() } else { build };
    if version.is_multiple_of(4) { build.ttl("9") } else { build }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..4usize, 0..60usize).prop_map(|(e, v)| Step::Apply(e, v)),
        2 => (0..4usize).prop_map(Step::Delete),
        1 => Just(Step::Reset),
    ];
    proptest::collection::vec(step, 0..40)
}

fn everything(index: &Index) -> (Vec<String>, Vec<Finding>) {
    let mut table = Vec::new();
    // What the table is counted as must be what is in it.
    table.extend(index.table.zones().iter().map(|zone| format!("{} {}", zone.hosts(), zone.digest())));
    index.table.for_each(|host, answers| table.push(format!("{host} {answers:?} {:?}", index.owners(&host))));
    table.sort();
    (table, index.findings())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// [O2] [L3] Any interleaving of applies, deletes and relists ends where a fresh list of the final set does.
    #[test]
    fn any_history_gives_the_answers_of_a_fresh_list(history in steps(), shuffle in any::<u64>()) {
        let lived = index();
        let mut world: HashMap<usize, Build> = HashMap::new();
        for step in history {
            match step {
                Step::Apply(e, v) => {
                    world.insert(e, version(e, v));
                    lived.put(version(e, v));
                }
                Step::Delete(e) => {
                    world.remove(&e);
                    lived.drop_object(["a/1", "a/2", "b/1", "c/1"][e]);
                }
                Step::Reset => {
                    lived.reset(P0, world.values().map(|b| b.clone().packed(&lived)).collect());
                }
            }
        }
        let fresh = index();
        let mut set: Vec<_> = world.into_iter().collect();
        set.sort_by_key(|(e, _)| (*e as u64 ^ shuffle).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        fresh.reset(P0, set.into_iter().map(|(_, b)| b.packed(&fresh)).collect());
        prop_assert_eq!(everything(&lived), everything(&fresh));
        for name in ["h.global", "k.x.global", "x.global", "q.x.global", "global"] {
            prop_assert_eq!(lived.look(name), fresh.look(name));
        }
    }
}

/// [L9] The next change of it, and every other host, are as if nothing had been.
#[test]
fn a_host_whose_decision_panics_keeps_what_it_has() {
    let index = index();
    let poison = "panic-host.global";
    index.put(entry("foo/a", 1, &["a.global", poison, "b.global"], &["240.0.0.1"]));
    assert_eq!(
        [poison, "a.global", "b.global"].map(|host| index.look(host)),
        ["missing", "240.0.0.1 30", "240.0.0.1 30"]
    );
    assert!(!index.is_broken());
    // Its claims are known all the same, and go with their entry.
    assert_eq!(
        index.claims.get(&Host { name: name(poison), wildcard: false }).map(|claims| claims.len()),
        Some(1)
    );
    index.drop_object("foo/a");
    assert_eq!(["a.global", "b.global"].map(|host| index.look(host)), ["missing", "missing"]);
    index.put(entry("foo/a", 1, &["a.global"], &["240.0.0.2"]));
    assert_eq!(index.look("a.global"), "240.0.0.2 30");
    assert_eq!(index.entries(P0), 1);
}

/// [L9]
#[test]
fn an_index_that_is_broken_changes_no_more() {
    let index = index();
    index.put(entry("foo/a", 1, &["a.global"], &["240.0.0.1"]));
    index.put(entry("foo/b", 1, &["panic-index.global"], &["240.0.0.1"]));
    assert!(index.is_broken());
    index.put(entry("foo/c", 1, &["c.global"], &["240.0.0.1"]));
    index.drop_object("foo/a");
    index.reset(P0, vec![]);
    assert_eq!(["a.global", "c.global"].map(|host| index.look(host)), ["240.0.0.1 30", "missing"]);
}

/// O6 as a reader of the clause would write it down: names and namespaces as texts, entries in order of age. The
/// addresses a name gets.
fn naive_owners(
    name: &str,
    zones: &[&str],
    owners: &[(&str, Vec<&str>)],
    entries: &[(&str, &str, String)],
) -> Vec<String> {
    let below = |name: &str, suffix: &str| name == suffix || name.ends_with(&format!(".{suffix}"));
    let longest = |name: &str| {
        let suffixes = owners.iter().map(|(suffix, _)| *suffix).filter(|suffix| below(name, suffix));
        suffixes.max_by_key(|suffix| suffix.len())
    };
    let may = |namespace: &str, host: &str| {
        longest(host.trim_start_matches("*.")).is_none_or(|owned| {
            owners.iter().any(|(suffix, namespaces)| *suffix == owned && namespaces.contains(&namespace))
        })
    };
    let zone = zones.iter().filter(|zone| below(name, zone)).max_by_key(|zone| zone.len()).expect("a zone");
    let mut hosts = vec![name.to_owned()];
    let mut up = name;
    while up != *zone && Some(up) != longest(name) {
        up = up.split_once('.').expect("below the zone").1;
        hosts.push(format!("*.{up}"));
    }
    for host in hosts {
        let claims: Vec<_> = entries.iter().filter(|(ns, of, _)| *of == host && may(ns, of)).collect();
        if let Some((winner, ..)) = claims.first() {
            return claims.iter().filter(|(ns, ..)| ns == winner).map(|(.., a)| a.clone()).collect();
        }
    }
    Vec::new()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// [O6] [O1] [H4]
    #[test]
    fn names_below_an_owned_suffix_are_answered_by_its_owners_alone(
        owned in proptest::collection::vec((0..6usize, 1..8u8), 0..4),
        claims in proptest::collection::vec((0..3usize, 0..13usize), 0..12),
    ) {
        const NAMESPACES: [&str; 3] = ["a", "b", "c"];
        const SUFFIXES: [&str; 6] =
            ["global", "pay.global", "eu.pay.global", "x.eu.pay.global", "in.global", "pay.in.global"];
        const HOSTS: [&str; 13] = [
            "*.global", "pay.global", "*.pay.global", "eu.pay.global", "*.eu.pay.global", "x.eu.pay.global",
            "y.x.eu.pay.global", "other.global", "in.global", "*.in.global", "pay.in.global", "*.pay.in.global",
            "x.pay.in.global",
        ];
        let zones = ["global", "in.global"];
        let mut owners: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
        let mut ownerships = Vec::new();
        for (suffix, bits) in owned {
            let of: Vec<&str> = (0..3).filter(|i| bits >> i & 1 == 1).map(|i| NAMESPACES[i]).collect();
            owners.entry(SUFFIXES[suffix]).or_default().extend(&of);
            let namespaces = of.iter().map(|text| (*text).to_owned()).collect();
            ownerships.push(crate::zone::Ownership { suffix: name(SUFFIXES[suffix]), namespaces });
        }
        let owners: Vec<_> = owners.into_iter().collect();
        let all = Zones::new(zones.map(name).to_vec(), name("cluster.local"), 0).expect("valid zones");
        let table = Table::new(all.owned_by(ownerships).expect("in a zone"));
        let index = Index::new(policy(), Arc::new(table), || 1000);
        let rules = Rules { apex_wildcards: true, ..Rules::default() };
        let mut entries = Vec::new();
        for (i, (namespace, host)) in claims.into_iter().enumerate() {
            let (namespace, host, address) = (NAMESPACES[namespace], HOSTS[host], format!("240.0.0.{}", i + 1));
            let id = format!("{namespace}/e{i}");
            let object = entry(&id, i as i64, &[host], &[&address]).object;
            index.apply(P0, Entry::read(&object, Origin::Object, index.table.zones(), &rules));
            entries.push((namespace, host, address));
        }
        for asked in HOSTS.iter().map(|host| host.trim_start_matches("*.")).chain([
            "z.global", "z.pay.global", "z.y.eu.pay.global", "w.y.x.eu.pay.global", "z.in.global", "z.pay.in.global",
        ]) {
            let wire = name(asked);
            let (zone, at) = index.table.zones().covering(wire.wire()).expect("in a zone");
            let found: Vec<String> = match index.table.read().find(zone, wire.wire(), at) {
                Found::Host(answers) => answers.addresses(Family::V4).map(|a| a.to_string()).collect(),
                _ => Vec::new(),
            };
            prop_assert_eq!(found, naive_owners(asked, &zones, &owners, &entries), "{}", asked);
        }
    }
}

/// [D22] [L3] While hosts give each other their addresses, every address has a name.
#[test]
fn an_address_that_changes_hands_keeps_a_name() {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0)
        .and_then(|zones| zones.with_reverse(vec![name("240.in-addr.arpa")], 0))
        .expect("legal zones");
    let index = Index::new(policy(), Arc::new(Table::new(zones)), || 1000);
    let round = |shift: usize| {
        let hosts = ["a.global", "b.global", "c.global"].into_iter().enumerate();
        let entry = |(at, host): (usize, &str)| {
            let address = format!("240.0.0.{}", 1 + (at + shift) % 3);
            let object =
                json!({"metadata": {"name": host}, "spec": {"hosts": [host], "addresses": [address]}});
            let entry = Entry::read(&object, Origin::Object, index.table().zones(), &Rules::default());
            index.pack(Partition(0), entry)
        };
        index.reset(Partition(0), hosts.map(entry).collect());
    };
    round(0);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for last in 1..=3 {
            let (table, done) = (index.table(), &done);
            scope.spawn(move || {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let pointed = table.pointed(IpAddr::from([240, 0, 0, last]));
                    assert!((1..=2).contains(&pointed.hosts.len()), "{last}: {pointed:?}");
                }
            });
        }
        (1..2000).for_each(round);
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(index.table().pointed(IpAddr::from([240, 0, 0, 1])).hosts.len(), 1);
    index.reset(Partition(0), Vec::new());
    assert!(index.table().pointed_addresses().is_empty());
}

/// An index with a reverse zone, of entries that are read with their services.
fn index_with_more() -> (Index, impl Fn(&Index, Value)) {
    let zones = Zones::new(vec![name("global")], name("cluster.local"), 0)
        .and_then(|zones| zones.with_reverse(vec![name("240.in-addr.arpa"), name("1.0.0.2.ip6.arpa")], 0))
        .expect("legal zones");
    let put = |index: &Index, object: Value| {
        let rules = Rules { services: true, ..Rules::default() };
        index.apply(P0, Entry::read(&object, Origin::Object, index.table().zones(), &rules));
    };
    (Index::new(policy(), Arc::new(Table::new(zones)), || 1000), put)
}

/// [D22] [S7] The hosts of an entry share their addresses, but no PTR records: these are bounded for each.
#[test]
fn a_host_has_few_ptr_records_and_the_rest_is_a_finding() {
    let (index, put) = index_with_more();
    let addresses = |range: std::ops::Range<usize>| -> Vec<String> {
        // Outside of the reverse zones, IPv6 first, and IPv4.
        let v6 = range.clone().map(|i| format!("2001::{i:x}"));
        let v4 = range.clone().map(|i| format!("240.0.0.{i}"));
        range.clone().map(|i| format!("10.0.0.{i}")).chain(v6).chain(v4).collect()
    };
    let hosts = ["a.global", "b.global", "*.w.global"];
    put(
        &index,
        json!({"metadata": {"name": "big"}, "spec": {"hosts": hosts, "addresses": addresses(1..31)}}),
    );
    let expected: Vec<IpAddr> = (1..17).map(|i| IpAddr::from([240, 0, 0, i])).collect();
    assert_eq!(index.table().pointed_addresses(), expected);
    assert_eq!(index.table().zones().iter().map(Zone::hosts).collect::<Vec<_>>(), [3, 32, 0]);
    let finding = |index: &Index| {
        let findings = index.findings().into_iter().filter(|f| f.code == Code::LimitExceeded);
        findings.map(|f| format!("{} {} {}: {}", f.object, f.field, f.value, f.why)).collect::<Vec<_>>()
    };
    let why = "in reverse zones; only the first 16 of them, IPv4 before IPv6, have PTR records";
    assert_eq!(finding(&index), [format!("default/big spec.addresses : a host has 60 addresses {why}")]);
    // As many as are allowed, and those of a wildcard, which has no PTR record.
    put(
        &index,
        json!({"metadata": {"name": "big"}, "spec": {"hosts": ["*.w.global"], "addresses": addresses(1..31)}}),
    );
    assert_eq!((index.table().pointed_addresses(), finding(&index)), (vec![], vec![]));
    let few = |from| {
        json!({"metadata": {"name": format!("few{from}")},
                            "spec": {"hosts": ["a.global"], "addresses": addresses(from..from + 8)}})
    };
    put(&index, few(1));
    assert_eq!((index.table().pointed_addresses().len(), finding(&index)), (16, vec![]));
    // Together they have more.
    put(&index, few(2));
    let merged = format!(
        "default/few2 spec.hosts[0] a.global: with those of older entries the host has 18 addresses {why}"
    );
    assert_eq!((index.table().pointed_addresses().len(), finding(&index)), (16, vec![merged]));
}

/// [D23] [S7]
#[test]
fn services_of_merged_entries_beyond_the_most_are_a_finding() {
    let (index, put) = index_with_more();
    let entry = |name: &str, addresses: &[&str], ports: std::ops::Range<usize>| {
        let ports: Vec<_> = ports.map(|port| json!({"number": port, "name": format!("p{port}")})).collect();
        json!({"metadata": {"name": name}, "spec": {"hosts": ["a.global"], "addresses": addresses, "ports": ports,
                                                    "resolution": "DNS"}})
    };
    let finding = |index: &Index| {
        let findings = index.findings().into_iter().filter(|f| f.code == Code::LimitExceeded);
        findings.map(|f| format!("{} {}: {}", f.object, f.field, f.why)).collect::<Vec<_>>()
    };
    put(&index, entry("a", &["240.0.0.1"], 1..101));
    put(&index, entry("b", &["240.0.0.1"], 73..129));
    assert_eq!(finding(&index), [] as [String; 0]);
    put(&index, entry("b", &["240.0.0.1"], 73..140));
    let lost = "default/b spec.hosts[0]: with those of older entries the host has 139 services; only the first 128 are \
                served, and not 11 of this entry";
    assert_eq!(finding(&index), [lost]);
}
