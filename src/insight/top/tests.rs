use serde_json::json;

use super::*;
use crate::insight::tap::tests::{came, query, reply, tapped};
use crate::wire::name::Name;
use crate::zone::answer::Answers;
use crate::zone::{Host, Zones};

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

fn lists() -> TopLists {
    let zones =
        Zones::new(vec![name("global"), name("cluster2")], name("cluster.local"), 0).expect("valid zones");
    let table = Table::new(zones);
    let host = Host { name: name("echo.default.global"), wildcard: false };
    table.set(&host, Answers::new(&[IpAddr::from([240, 0, 0, 1])], 30), None, 1);
    TopLists::new(Arc::new(table))
}

/// Counts queries: client, name, code and how often.
fn ask(lists: &TopLists, now: Instant, queries: &[(&str, &str, Rcode, u32)]) {
    for (peer, asked, rcode, times) in queries {
        for second in 0..*times {
            let (queues, mut tap) = tapped(true, None);
            tap.see(&query(asked), &reply(&query(asked), *rcode), came(peer, 1 + second));
            queues.drain(usize::MAX, |exchange| lists.count(&mut lists.lock(), exchange, now));
        }
    }
}

use Rcode::{NoError, NxDomain, Refused};

/// [I7] [H6]
#[test]
fn what_does_not_exist_is_told_by_what_it_ends_in_and_why() {
    let lists = lists();
    let now = Instant::now();
    ask(
        &lists,
        now,
        &[
            ("10.0.0.1", "kubernetes.default.svc.cluster.local.global", NxDomain, 5),
            ("10.0.0.1", "a.b.cluster.local.global", NxDomain, 1),
            ("10.0.0.1", "1-2-3-4.ns.pod.cluster.local.cluster2", NxDomain, 2),
            ("10.0.0.1", "echo.default.global.global", NxDomain, 4),
            ("10.0.0.1", "www.Example.com.global", NxDomain, 3),
            ("10.0.0.1", "eco.default.global", NxDomain, 6),
            ("10.0.0.1", "oops.global", NxDomain, 7),
            ("10.0.0.1", "echo.default.global", NoError, 1),
            ("10.0.0.1", "example.org", Refused, 1),
        ],
    );
    let top = lists.read_at(10, now);
    let told: Vec<_> = top.nxdomain_suffixes.iter().map(|s| (&s.suffix[..], s.queries, s.cause)).collect();
    assert_eq!(
        told,
        [
            ("global", 7, Cause::NoSuchName),
            ("default.global", 6, Cause::NoSuchName),
            ("svc.cluster.local.global", 5, Cause::SearchPath),
            ("global.global", 4, Cause::SearchPath),
            ("com.global", 3, Cause::NothingBelow),
            ("pod.cluster.local.cluster2", 2, Cause::SearchPath),
            ("cluster.local.global", 1, Cause::SearchPath),
        ]
    );
    assert_eq!(
        serde_json::to_value([Cause::SearchPath, Cause::NothingBelow, Cause::NoSuchName]).expect("JSON"),
        serde_json::json!(["search-path", "nothing-below", "no-such-name"])
    );
    let remedies: Vec<&str> = top.nxdomain_suffixes.iter().map(|s| &s.remedy[..]).collect();
    assert_eq!(
        remedies[2],
        "clients try names that end in svc.cluster.local with global behind them: take global out of the clients' search \
         list (dnsConfig.searches), lower ndots (dnsConfig.options), or write names that are whole with a trailing dot"
    );
    assert!(
        remedies[4]
            .starts_with("no host ends in com.global: if com is a domain elsewhere, take global out of")
    );
    let counts: Vec<u64> = lists.search_path_queries().map(|(_, count)| count).collect();
    assert_eq!(counts, [10, 2]);
    assert_eq!((top.queries, top.names.len()), (30, 9));
    assert!(top.names.iter().any(|n| n.name == "www.example.com.global" && n.queries == 3));
}

/// [I7]
#[test]
fn clients_are_addresses_and_networks_of_64_bits() {
    let lists = lists();
    let now = Instant::now();
    ask(
        &lists,
        now,
        &[
            ("10.0.0.1", "a.global", NoError, 3),
            ("::ffff:10.0.0.1", "a.global", NoError, 1),
            ("2001:db8:0:7::1", "a.global", NoError, 1),
            ("2001:db8:0:7:ffff::9", "a.global", NoError, 1),
        ],
    );
    let top = serde_json::to_value(lists.read_at(10, now)).expect("JSON");
    assert_eq!(
        top,
        json!({
            "seconds": 0, "queries": 6, "nxdomainSuffixes": [],
            "names": [{"name": "a.global", "queries": 6, "error": 0}],
            "clients": [{"client": "10.0.0.1", "queries": 4, "error": 0},
                        {"client": "2001:db8:0:7::/64", "queries": 2, "error": 0}]
        })
    );
}

/// [I7]
#[test]
fn what_was_asked_ten_minutes_ago_is_forgotten() {
    let lists = lists();
    let begin = Instant::now();
    for minute in 0..30 {
        let now = begin + Duration::from_secs(60 * minute);
        ask(&lists, now, &[("10.0.0.1", &format!("m{minute}.global"), NoError, 1)]);
        let top = lists.read_at(100, now);
        assert!(top.seconds < 600 && top.queries <= 10, "{top:?}");
        assert!(minute < 9 || top.queries >= 8, "{top:?}");
        assert_eq!(lists.lock().len(), SLICES.min(minute as usize / 2 + 1));
    }
    // Also where nothing comes afterwards.
    assert_eq!(lists.read_at(100, begin + Duration::from_secs(60 * 40)).queries, 0);
}

/// [I7]
#[test]
fn of_each_list_as_many_are_given_as_are_asked_for() {
    let lists = lists();
    let now = Instant::now();
    for number in 0..9 {
        ask(&lists, now, &[("10.0.0.1", &format!("m{number}.x.global"), NxDomain, 10 - number)]);
    }
    let top = lists.read_at(2, now);
    let names: Vec<_> = top.names.iter().map(|n| &n.name[..]).collect();
    assert_eq!((names, top.nxdomain_suffixes.len()), (vec!["m0.x.global", "m1.x.global"], 1));
}
