use super::*;
use crate::zone::answer::Family;
use std::net::IpAddr;

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

fn host(text: &str) -> Host {
    match text.strip_prefix("*.") {
        Some(suffix) => Host { name: name(suffix), wildcard: true },
        None => Host { name: name(text), wildcard: false },
    }
}

fn zones(names: &[&str]) -> Zones {
    Zones::new(names.iter().map(|n| name(n)).collect(), name("cluster.local"), 1000).expect("valid zones")
}

fn answers(last: u8) -> Option<Answers> {
    Answers::new(&[IpAddr::from([240, 0, 0, last])], 30)
}

fn table(zone_names: &[&str], hosts: &[&str]) -> Table {
    let table = Table::new(zones(zone_names));
    for (text, i) in hosts.iter().zip(1..) {
        table.set(&host(text), answers(i), None, 1000);
    }
    table
}

/// `missing`, `empty`, or the last octet of the first address.
fn find(table: &Table, text: &str) -> String {
    let name = name(text);
    let (zone, at) = table.zones().covering(name.wire()).expect("in a zone");
    match table.read().find(zone, name.wire(), at) {
        Found::Missing => "missing".to_owned(),
        Found::Empty => "empty".to_owned(),
        Found::Probe => "probe".to_owned(),
        Found::Host(answers) => match answers.addresses(Family::V4).next() {
            Some(IpAddr::V4(a)) => a.octets()[3].to_string(),
            other => format!("{other:?}"),
        },
    }
}

fn check(table: &Table, cases: &[(&str, &str)]) {
    for (name, expected) in cases {
        assert_eq!(find(table, name), *expected, "{name}");
    }
}

/// [Z1] [Z2]
#[test]
fn zones_are_a_set_that_leaves_the_cluster_domain_alone() {
    let z = zones(&["Global.", "global", "cluster2"]);
    let apexes: Vec<_> = z.iter().map(|z| z.apex().to_string()).collect();
    assert_eq!(apexes, ["global", "cluster2"]);
    assert_eq!((z.count(), z.iter().map(Zone::index).collect()), (2, vec![0, 1]));
    let refuse = |zone: &str| Zones::new(vec![name(zone)], name("cluster.local"), 0).expect_err(zone);
    assert_eq!(refuse("Cluster.Local"), ZoneError::ClusterDomain("cluster.local".to_owned()));
    assert_eq!(refuse("local"), ZoneError::AboveCluster("local".to_owned(), "cluster.local".to_owned()));
    assert_eq!(
        refuse("svc.cluster.local"),
        ZoneError::BelowCluster("svc.cluster.local".to_owned(), "cluster.local".to_owned())
    );
    assert_eq!(Zones::new(vec![], name("cluster.local"), 0).expect_err("none"), ZoneError::None);
}

/// [Z3]
#[test]
fn the_longest_zone_covers_a_name() {
    let z = zones(&["global", "eu.global", "a.b.global"]);
    let covering = |text: &str| {
        let name = name(text);
        z.covering(name.wire()).map(|(zone, at)| (zone.apex().to_string(), at))
    };
    assert_eq!(covering("x.global"), Some(("global".to_owned(), 2)));
    assert_eq!(covering("global"), Some(("global".to_owned(), 0)));
    assert_eq!(covering("eu.global"), Some(("eu.global".to_owned(), 0)));
    assert_eq!(covering("x.y.eu.global"), Some(("eu.global".to_owned(), 4)));
    assert_eq!(covering("x.a.b.global"), Some(("a.b.global".to_owned(), 2)));
    assert_eq!(covering("x.b.global"), Some(("global".to_owned(), 4)));
    assert_eq!(covering("example.com"), None);
    assert_eq!(covering("notglobal"), None);
    assert!(z.covering(&[0]).is_none(), "the root");
    assert!(z.covering(&[]).is_none());
    let by_name = |text: &str| z.iter().find(|z| z.apex().to_string() == text).expect(text);
    assert_eq!(z.parent(by_name("a.b.global")).map(Zone::index), Some(0));
    assert!(z.parent(by_name("global")).is_none());
    let children: Vec<_> = z.children(by_name("global")).map(|c| c.apex().to_string()).collect();
    assert_eq!(children, ["eu.global", "a.b.global"]);
}

/// [D3] [D4] [D5]
#[test]
fn hosts_ancestors_and_infrastructure_exist_and_nothing_else() {
    let t = table(&["global"], &["httpbin.bar.global", "a.b.c.d.global"]);
    check(
        &t,
        &[
            ("httpbin.bar.global", "1"),
            ("bar.global", "empty"),
            ("global", "empty"),
            ("dns.global", "empty"),
            ("ns.dns.global", "empty"),
            ("b.c.d.global", "empty"),
            ("c.d.global", "empty"),
            ("d.global", "empty"),
            ("x.global", "missing"),
            ("x.httpbin.bar.global", "missing"),
            ("x.bar.global", "missing"),
            ("x.dns.global", "missing"),
            ("x.ns.dns.global", "missing"),
        ],
    );
}

/// [D3]
#[test]
fn an_empty_non_terminal_lives_exactly_as_long_as_something_below_it() {
    let t = table(&["global"], &["a.x.global", "b.x.global", "c.y.x.global"]);
    t.set(&host("a.x.global"), None, None, 1001);
    check(&t, &[("a.x.global", "missing"), ("x.global", "empty")]);
    t.set(&host("c.y.x.global"), None, None, 1001);
    check(&t, &[("c.y.x.global", "missing"), ("y.x.global", "missing"), ("x.global", "empty")]);
    t.set(&host("b.x.global"), None, None, 1001);
    check(&t, &[("x.global", "missing"), ("global", "empty")]);
    // Again from nothing: the counts were right.
    t.set(&host("a.x.global"), answers(9), None, 1002);
    check(&t, &[("a.x.global", "9"), ("x.global", "empty")]);
    t.set(&host("a.x.global"), None, None, 1002);
    check(&t, &[("x.global", "missing")]);
}

/// [D3]
#[test]
fn a_host_with_names_below_it_turns_into_an_empty_non_terminal() {
    let t = table(&["global"], &["x.global", "a.x.global"]);
    check(&t, &[("x.global", "1")]);
    t.set(&host("x.global"), None, None, 1001);
    check(&t, &[("x.global", "empty"), ("a.x.global", "2")]);
    t.set(&host("a.x.global"), None, None, 1001);
    check(&t, &[("x.global", "missing")]);
    // Removing what is not there changes nothing.
    let generation = t.generation();
    t.set(&host("q.r.global"), None, None, 1001);
    check(&t, &[("r.global", "missing")]);
    assert_eq!(t.generation(), generation);
}

/// [H3]
#[test]
fn the_apex_may_have_addresses() {
    let t = table(&["global"], &["global"]);
    check(&t, &[("global", "1")]);
    t.set(&host("global"), None, None, 1001);
    check(&t, &[("global", "empty")]);
}

/// [H4]
#[test]
fn the_most_specific_wildcard_answers_at_any_depth_and_never_its_own_suffix() {
    let t = table(&["global"], &["*.bar.global", "*.foo.bar.global", "exact.bar.global", "q.ent.bar.global"]);
    check(
        &t,
        &[
            ("x.bar.global", "1"),
            ("x.y.z.bar.global", "1"),
            ("x.foo.bar.global", "2"),
            ("x.y.foo.bar.global", "2"),
            ("foo.bar.global", "1"),
            ("exact.bar.global", "3"),
            // An existing sibling does not block, unlike RFC 4592.
            ("x.exact.bar.global", "1"),
            // A name that is only an empty non-terminal is answered by the wildcard.
            ("ent.bar.global", "1"),
            ("x.ent.bar.global", "1"),
            ("bar.global", "empty"),
            ("x.global", "missing"),
        ],
    );
    t.set(&host("*.foo.bar.global"), None, None, 1001);
    check(&t, &[("x.foo.bar.global", "1")]);
    t.set(&host("*.bar.global"), None, None, 1001);
    check(&t, &[("x.bar.global", "missing"), ("bar.global", "empty"), ("ent.bar.global", "empty")]);
}

/// [H4] [H5] [D5] [D18]
#[test]
fn an_apex_wildcard_takes_everything_but_infrastructure() {
    let t = table(&["global"], &["*.global", "a.b.global", "a._probe-ent.global"]);
    check(
        &t,
        &[
            ("x.global", "1"),
            ("x.y.global", "1"),
            ("b.global", "1"),
            ("global", "empty"),
            ("dns.global", "empty"),
            ("ns.dns.global", "empty"),
            ("x.dns.global", "1"),
            ("_probe-a.global", "probe"),
            ("_probe-ent.global", "probe"),
            ("_probe-.global", "1"),
            ("x._probe-a.global", "1"),
            ("_probe-a.x.global", "1"),
            ("a._probe-ent.global", "3"),
        ],
    );
}

/// [H6]
#[test]
fn no_wildcard_matches_what_a_search_path_makes() {
    let t =
        table(&["global", "cluster2"], &["*.global", "listed.svc.cluster.local.global", "*.local.global"]);
    check(
        &t,
        &[
            ("foo.bar.svc.cluster.local.global", "missing"),
            ("cluster.local.global", "empty"),
            ("listed.svc.cluster.local.global", "2"),
            ("svc.cluster.local.global", "empty"),
            ("echo.default.global.global", "missing"),
            ("global.global", "missing"),
            ("httpbin.bar.cluster2.global", "missing"),
            // Only at label boundaries, and only at the end.
            ("notglobal.global", "1"),
            ("mycluster.local.global", "3"),
            ("cluster.local.x.global", "1"),
        ],
    );
}

/// [Z3] [H4] [D18]
#[test]
fn nested_zones_are_worlds_of_their_own() {
    let t = table(&["global", "eu.global", "c.b.a.global"], &["*.global", "x.eu.global", "*.eu.global"]);
    check(
        &t,
        &[
            ("x.eu.global", "2"),
            ("y.eu.global", "3"),
            ("eu.global", "empty"),
            ("dns.eu.global", "empty"),
            ("ns.dns.eu.global", "empty"),
            ("us.global", "1"),
            ("_probe-a.eu.global", "probe"),
            ("_probe-a.c.b.a.global", "probe"),
            ("_probe-a.b.a.global", "1"),
            // The parent's wildcard stops at the zone cut.
            ("y.c.b.a.global", "missing"),
        ],
    );
    let without = table(&["global", "c.b.a.global"], &[]);
    // The way to a delegated zone exists in its parent.
    check(&without, &[("b.a.global", "empty"), ("a.global", "empty"), ("x.a.global", "missing")]);
    without.set(&host("h.b.a.global"), answers(1), None, 1001);
    without.set(&host("h.b.a.global"), None, None, 1002);
    check(&without, &[("b.a.global", "empty"), ("a.global", "empty")]);
}

/// [D6]
#[test]
fn serials_follow_visible_changes_and_never_go_back() {
    let t = table(&["global", "cluster2"], &[]);
    let serials = |t: &Table| t.zones().iter().map(Zone::serial).collect::<Vec<_>>();
    assert_eq!(serials(&t), [1000, 1000]);
    t.set(&host("a.global"), answers(1), None, 1500);
    assert_eq!(serials(&t), [1500, 1000]);
    t.set(&host("a.global"), answers(1), None, 1600);
    assert_eq!(serials(&t), [1500, 1000], "nothing visible changed");
    t.set(&host("a.global"), answers(2), None, 1400);
    assert_eq!(serials(&t), [1500, 1000], "the clock went back");
    t.set(&host("a.global"), None, None, 1700);
    assert_eq!(serials(&t), [1700, 1000]);
    t.touch_serials(1600);
    assert_eq!(serials(&t), [1700, 1600], "what every zone shows has changed");
}

#[test]
fn hosts_are_counted_by_zone_and_changes_by_generation() {
    let t = table(&["global", "cluster2"], &["a.global", "*.b.global", "a.cluster2"]);
    let hosts = |t: &Table| t.zones().iter().map(Zone::hosts).collect::<Vec<_>>();
    assert_eq!(hosts(&t), [2, 1]);
    assert_eq!(t.generation(), 3);
    t.set(&host("a.global"), answers(9), None, 1001);
    assert_eq!((hosts(&t), t.generation()), (vec![2, 1], 4));
    t.set(&host("*.b.global"), None, None, 1001);
    t.set(&host("a.cluster2"), None, None, 1001);
    assert_eq!((hosts(&t), t.generation()), (vec![1, 0], 6));
    // Outside every zone: not the table's.
    t.set(&host("a.example"), answers(1), None, 1001);
    assert_eq!((hosts(&t), t.generation()), (vec![1, 0], 6));
    let mut all = Vec::new();
    t.for_each(|host, answers| all.push((host.to_string(), answers.ttl())));
    assert_eq!(all, [("a.global".to_owned(), 30)]);
}

#[test]
fn for_each_shows_wildcards_as_such() {
    let t = table(&["global"], &["b.global", "*.b.global"]);
    let mut all = Vec::new();
    t.for_each(|host, _| all.push(host.to_string()));
    all.sort();
    assert_eq!(all, ["*.b.global", "b.global"]);
}

/// [L3] An exact host that takes over from its wildcard, and back, is never missing.
#[test]
fn a_name_never_blinks_between_an_exact_host_and_a_wildcard() {
    never_missing("a.x.global", table(&["global"], &["*.x.global"]), 50_000, |t| {
        t.set(&host("a.x.global"), answers(2), None, 1001);
        t.set(&host("*.x.global"), None, None, 1001);
        t.set(&host("*.x.global"), answers(1), None, 1001);
        t.set(&host("a.x.global"), None, None, 1001);
    });
}

/// [D5] [Z2]
#[test]
fn zones_whose_own_names_would_not_work_are_refused() {
    let build = |names: &[&str]| {
        Zones::new(names.iter().map(|n| name(n)).collect(), name("cluster.local"), 0).map(|z| z.count())
    };
    let label = "a".repeat(63);
    let long = |last: usize| format!("{label}.{label}.{label}.{}", "b".repeat(last));
    assert_eq!(build(&[&long(50)]), Ok(1), "hostmaster.<zone> has 255 octets");
    assert_eq!(build(&[&long(51)]), Err(ZoneError::TooLong(long(51))));
    for child in ["dns.global", "ns.dns.global"] {
        let expected = Err(ZoneError::NameServer(child.to_owned(), "global".to_owned()));
        assert_eq!(build(&["global", child]), expected);
        assert_eq!(build(&[child, "global"]), expected);
    }
    assert_eq!(build(&["global", "ns.global", "x.dns.global"]), Ok(3));
}

/// [D9]
#[test]
fn a_table_is_complete_only_when_told() {
    let t = table(&["global"], &[]);
    assert!(!t.is_complete());
    t.set_complete();
    assert!(t.is_complete());
}

/// [A6] [A7]
#[test]
fn answers_keep_order_and_families_apart() {
    let addresses: Vec<IpAddr> = ["240.0.0.2", "2001:db8::2", "240.0.0.1", "2001:db8::1"]
        .iter()
        .map(|a| a.parse().expect(a))
        .collect();
    let a = Answers::new(&addresses, 77).expect("addresses");
    let a = a.view();
    assert_eq!(a.ttl(), 77);
    assert_eq!(a.addresses(Family::V4).collect::<Vec<_>>(), [addresses[0], addresses[2]]);
    assert_eq!(a.addresses(Family::V6).collect::<Vec<_>>(), [addresses[1], addresses[3]]);
    assert_eq!((a.v4(), a.v6().len()), (&[[240, 0, 0, 2], [240, 0, 0, 1]][..], 2));
    assert!(a.has(Family::V4) && a.has(Family::V6));
    let only_v6 = Answers::new(&addresses[1..2], 5).expect("addresses");
    assert_eq!(only_v6.view().ttl(), 5);
    assert_eq!(Answers::new(&[], 30), None);
}

/// [D3] While one name below an ancestor always exists, the ancestor is never missing to a reader.
#[test]
fn an_ancestor_never_blinks_while_its_children_change() {
    never_missing("x.global", table(&["global"], &["a.x.global"]), 2000, |t| {
        t.set(&host("b.x.global"), answers(2), None, 1001);
        t.set(&host("a.x.global"), None, None, 1001);
        t.set(&host("a.x.global"), answers(1), None, 1001);
        t.set(&host("b.x.global"), None, None, 1001);
    });
}

/// Asks for a name without a pause while the table changes.
fn never_missing(name: &str, table: Table, rounds: u32, change: impl Fn(&Table)) {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0u64;
            while !done.load(Ordering::Relaxed) || reads == 0 {
                assert_ne!(find(&table, name), "missing", "after {reads} reads");
                reads += 1;
            }
        });
        for _ in 0..rounds {
            if reader.is_finished() {
                break;
            }
            change(&table);
        }
        done.store(true, Ordering::Relaxed);
    });
}

/// [L8]
#[test]
fn the_hash_of_a_zone_tells_every_difference_and_none_that_is_undone() {
    let set = |table: &Table, name, addresses: &[&str], ttl| {
        let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect(a)).collect();
        table.set(&host(name), Answers::new(&addresses, ttl), None, 1000);
    };
    let digests = |table: &Table| table.zones().iter().map(Zone::digest).collect::<Vec<_>>();
    let one = |name, addresses: &[&str], ttl| {
        let t = table(&["global", "eu"], &["other.global"]);
        set(&t, name, addresses, ttl);
        digests(&t)
    };
    let mut all = vec![
        one("a.global", &["240.0.0.1"], 30),
        one("a.global", &["240.0.0.1"], 31),
        one("a.global", &["240.0.0.2"], 30),
        one("a.global", &["240.0.0.1", "240.0.0.2"], 30),
        one("a.global", &["240.0.0.2", "240.0.0.1"], 30),
        one("a.global", &["240.0.0.1", "::240.0.0.1"], 30),
        one("a.global", &["::240.0.0.1"], 30),
        one("*.a.global", &["240.0.0.1"], 30),
        one("b.global", &["240.0.0.1"], 30),
        one("a.eu", &["240.0.0.1"], 30),
        digests(&table(&["global", "eu"], &["other.global"])),
    ];
    let different = all.len();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), different);
    assert!(all.iter().flatten().all(|digest| *digest < 1 << 53), "a metric cannot hold one of {all:?}");

    let t = table(&["global", "eu"], &["b.global", "*.a.global", "other.global"]);
    set(&t, "b.global", &["240.0.0.9"], 30);
    set(&t, "b.global", &["240.0.0.1"], 30);
    set(&t, "a.global", &["240.0.0.1"], 30);
    for gone in ["b.global", "*.a.global", "other.global"] {
        t.set(&host(gone), None, None, 1000);
    }
    t.set(&host("other.global"), answers(1), None, 1000);
    assert_eq!(digests(&t), one("a.global", &["240.0.0.1"], 30));
    t.set(&host("other.global"), None, None, 1000);
    t.set(&host("a.global"), None, None, 1000);
    assert_eq!(digests(&t), digests(&table(&["global", "eu"], &[])));
}

/// [O6] Whose the wildcard is makes no difference here: above the suffix it is not heard below it.
#[test]
fn an_owned_suffix_cuts_off_the_wildcards_above_it() {
    let owned = |suffix: &str| Ownership { suffix: name(suffix), namespaces: ["pay".to_owned()].into() };
    let zones = zones(&["global", "eu.global"]);
    let zones = zones.owned_by(vec![owned("pay.global"), owned("a.b.eu.global")]).expect("in a zone");
    let table = Table::new(zones);
    for (text, i) in ["*.global", "*.eu.global", "*.x.pay.global", "shop.pay.global"].iter().zip(1..) {
        table.set(&host(text), answers(i), None, 1000);
    }
    check(
        &table,
        &[
            ("other.global", "1"),
            ("pay.global", "empty"),
            ("y.pay.global", "missing"),
            ("z.y.pay.global", "missing"),
            ("x.pay.global", "empty"),
            ("z.x.pay.global", "3"),
            ("shop.pay.global", "4"),
            ("z.shop.pay.global", "missing"),
            ("notpay.global", "1"),
            ("b.eu.global", "2"),
            ("a.b.eu.global", "missing"),
            ("c.a.b.eu.global", "missing"),
            ("c.b.eu.global", "2"),
        ],
    );
    let refuse = |suffix: &str| {
        super::Zones::new(vec![name("global")], name("cluster.local"), 0)
            .and_then(|zones| zones.owned_by(vec![owned(suffix)]))
            .expect_err(suffix)
    };
    assert_eq!(refuse("payments.cluster2"), ZoneError::OwnedOutside("payments.cluster2".to_owned()));
}
