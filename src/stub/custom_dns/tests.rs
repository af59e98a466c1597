use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::stub::edit::read_server;

fn stub(zones: &[&str], servers: &[&str]) -> Stub {
    let zones = zones.iter().map(|text| Name::parse(text).expect(text));
    let servers: Vec<SocketAddr> = servers.iter().map(|text| read_server(text).expect(text)).collect();
    Stub::new(zones, servers).expect("a stub")
}

fn wanted() -> Stub {
    stub(&["global", "cluster2"], &["10.96.0.53"])
}

fn zone(name: &str, upstream: &str) -> Value {
    json!({"name": name, "forward": {"upstreams": [upstream]}})
}

#[test]
fn our_zones_go_in_last_and_are_left_alone_after_that() {
    let ours = [zone("global", "10.96.0.53"), zone("cluster2", "10.96.0.53")];
    for (before, after) in [
        (None, json!(ours)),
        (Some(json!([])), json!(ours)),
        (Some(json!([zone(".", "10.0.0.1")])), json!([zone(".", "10.0.0.1"), ours[0], ours[1]])),
        (
            Some(json!([ours[1], zone("corp", "10.0.0.1")])),
            json!([ours[1], zone("corp", "10.0.0.1"), ours[0]]),
        ),
        (Some(json!([ours[0], ours[1], ours[0]])), json!(ours)),
    ] {
        let edited = edit(before.as_ref(), Some(&wanted()), &Ours::default());
        assert_eq!(edited, Ok(Edit::Set(after.clone())), "{before:?}");
        assert_eq!(edit(Some(&after), Some(&wanted()), &Ours::default()), Ok(Edit::Unchanged));
    }
    let same = json!([zone("Cluster2.", "10.96.0.53:53"), zone("global", "10.96.0.53")]);
    assert_eq!(edit(Some(&same), Some(&wanted()), &Ours::default()), Ok(Edit::Unchanged));
}

#[test]
fn fields_that_are_not_ours_stay() {
    let recorded = Ours::default().with(&stub(&["global", "eu"], &["10.96.0.9"]));
    let host = json!([{"hostName": "a.eu", "ipAddress": "10.0.0.1"}]);
    let before = json!([
        {"name": "global", "hosts": [], "forward": {"upstreams": ["10.96.0.9"], "protocolStrategy": "tcp"}},
        {"name": "eu", "hosts": host, "forward": {"upstreams": ["10.96.0.9"]}},
    ]);
    let after = json!([
        {"name": "global", "hosts": [], "forward": {"upstreams": ["10.96.0.53:5353"], "protocolStrategy": "tcp"}},
        {"name": "eu", "hosts": host},
    ]);
    let wanted = stub(&["global"], &["10.96.0.53:5353"]);
    assert_eq!(edit(Some(&before), Some(&wanted), &recorded), Ok(Edit::Set(after)));
    let after = json!([{"name": "eu", "hosts": host}]);
    assert_eq!(edit(Some(&before), None, &recorded), Ok(Edit::Set(after.clone())));
    assert_eq!(edit(Some(&after), None, &recorded), Ok(Edit::Unchanged));
    assert_eq!(edit(Some(&json!([zone("global", "10.96.0.9")])), None, &recorded), Ok(Edit::Remove));
}

#[test]
fn a_refusal_names_the_element_the_reason_and_the_remedy() {
    use RefusalKind::{Conflict, Invalid};
    let cases = [
        (
            json!([zone("corp", "10.0.0.1"), zone("GLOBAL", "10.0.0.1")]),
            Conflict,
            "spec.zones[1]: someone else sends the zone \"GLOBAL\" to [\"10.0.0.1\"]; take that element \
             out first, \
             or choose another zone",
        ),
        (
            json!([{"name": "global"}]),
            Conflict,
            "spec.zones[0]: someone else sends the zone \"global\" to PrivateZone; take that element out \
             first, or \
             choose another zone",
        ),
        (json!(1), Invalid, "spec.zones: it is not a list; correct it"),
        (json!([[]]), Invalid, "spec.zones[0]: it is not an object; correct it"),
    ];
    for (before, kind, text) in cases {
        let refusal = edit(Some(&before), Some(&wanted()), &Ours::default()).expect_err(text);
        assert_eq!((refusal.kind, refusal.to_string().as_str()), (kind, text));
    }
    let six = edit(None, Some(&stub(&["global"], &["10.96.0.53", "fd00::35"])), &Ours::default());
    assert_eq!(
        six.expect_err("IPv6").to_string(),
        "CustomDNSConfig takes IPv4 servers only, and fd00::35 is none; give IPv4 addresses only"
    );
    let underscore = edit(None, Some(&stub(&["my_zone"], &["10.96.0.53"])), &Ours::default());
    assert_eq!(underscore.map_err(|r| r.kind), Err(Invalid));
}

proptest! {
    #[test]
    fn an_edit_is_done_once_and_undone_whole(
        theirs in prop::collection::btree_set("[a-d]{1,2}\\.corp", 0..4), at in 0usize..4,
        first in prop::sample::subsequence(vec!["global", "cluster2", "eu.global"], 1..4).prop_shuffle(),
        second in prop::sample::subsequence(vec!["global", "cluster2", "eu.global"], 1..4).prop_shuffle(),
    ) {
        let others: Vec<_> = theirs.iter().map(|name| zone(name, "10.0.0.1")).collect();
        let (first, second) = (stub(&first, &["10.96.0.53"]), stub(&second, &["10.96.0.54:5353"]));
        let mut there = others.clone();
        let at = at.min(others.len());
        there.splice(at..at, zones(&first).expect("IPv4"));
        let there = Value::Array(there);
        prop_assert_eq!(edit(Some(&there), Some(&first), &Ours::default()), Ok(Edit::Unchanged));
        let recorded = Ours::default().with(&first);
        let two = edit(Some(&there), Some(&second), &recorded).expect("no refusal").applied(Some(there));
        prop_assert_eq!(edit(two.as_ref(), Some(&second), &recorded), Ok(Edit::Unchanged));
        let left = edit(two.as_ref(), None, &recorded.with(&second)).expect("no refusal").applied(two);
        prop_assert_eq!(left, (!others.is_empty()).then_some(Value::Array(others)));
    }
}
