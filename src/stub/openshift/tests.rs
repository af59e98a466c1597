use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn stub(zones: &[&str], servers: &[&str]) -> Stub {
    let zones = zones.iter().map(|text| Name::parse(text).expect(text));
    let servers: Vec<SocketAddr> = servers.iter().map(|text| read_server(text).expect(text)).collect();
    Stub::new(zones, servers).expect("a stub")
}

fn wanted() -> Stub {
    stub(&["global", "cluster2"], &["10.96.0.53"])
}

fn ours() -> Value {
    json!({"name": "globaldns", "zones": ["global", "cluster2"],
           "forwardPlugin": {"policy": "Random", "upstreams": ["10.96.0.53"]}})
}

fn theirs() -> Value {
    json!({"name": "corp", "zones": ["corp.example"], "forwardPlugin": {"upstreams": ["10.0.0.1"]}})
}

#[test]
fn our_element_goes_in_last_and_is_left_alone_after_that() {
    for (before, after) in [
        (None, json!([ours()])),
        (Some(Value::Null), json!([ours()])),
        (Some(json!([])), json!([ours()])),
        (Some(json!([theirs()])), json!([theirs(), ours()])),
    ] {
        let edited = edit(before.as_ref(), Some(&wanted()), &Ours::default());
        assert_eq!(edited, Ok(Edit::Set(after.clone())), "{before:?}");
        assert_eq!(edit(Some(&after), Some(&wanted()), &Ours::default()), Ok(Edit::Unchanged));
    }
}

#[test]
fn what_means_the_same_is_not_written_again() {
    let other = json!([{"name": "globaldns", "zones": ["Cluster2", "global"], "forwardPlugin":
        {"upstreams": ["10.96.0.53:53"], "policy": "Sequential"}}]);
    assert_eq!(edit(Some(&other), Some(&wanted()), &Ours::default()), Ok(Edit::Unchanged));
}

#[test]
fn fields_of_our_element_that_are_not_ours_stay_and_surplus_elements_go() {
    let recorded = Ours::default().with(&stub(&["global", "eu"], &["10.96.0.9"]));
    let before = json!([
        {"name": "globaldns", "zones": ["global", "eu"], "note": 1,
         "forwardPlugin": {"policy": "RoundRobin", "upstreams": ["10.96.0.9"], "protocolStrategy": "TCP"}},
        theirs(),
        {"name": "globaldns", "zones": ["eu"], "forwardPlugin": {"upstreams": ["10.96.0.9"]}},
    ]);
    let wanted = stub(&["global"], &["10.96.0.53", "[fd00::35]:1053"]);
    let after = json!([
        {"name": "globaldns", "zones": ["global"], "note": 1, "forwardPlugin":
         {"policy": "RoundRobin", "upstreams": ["10.96.0.53", "[fd00::35]:1053"], "protocolStrategy": "TCP"}},
        theirs(),
    ]);
    assert_eq!(edit(Some(&before), Some(&wanted), &recorded), Ok(Edit::Set(after)));
    assert_eq!(edit(Some(&before), None, &recorded), Ok(Edit::Set(json!([theirs()]))));
}

#[test]
fn an_element_of_ours_is_known_by_its_zones_where_the_record_of_its_servers_is_lost() {
    let before =
        json!([{"name": "globaldns", "zones": ["global"], "forwardPlugin": {"upstreams": ["10.96.0.9"]}}]);
    let Ok(Edit::Set(after)) = edit(Some(&before), Some(&wanted()), &Ours::default()) else {
        panic!("no edit")
    };
    assert_eq!(after[0]["forwardPlugin"]["upstreams"], json!(["10.96.0.53"]));
    let empty = json!([{"name": "globaldns"}]);
    let Ok(Edit::Set(after)) = edit(Some(&empty), Some(&wanted()), &Ours::default()) else {
        panic!("no edit")
    };
    assert_eq!(after[0]["zones"], json!(["global", "cluster2"]));
}

#[test]
fn removal_takes_the_list_with_its_last_element() {
    let recorded = Ours::default().with(&wanted());
    for (before, after) in [
        (None, Edit::Unchanged),
        (Some(json!([])), Edit::Unchanged),
        (Some(json!([theirs()])), Edit::Unchanged),
        (Some(json!([ours()])), Edit::Remove),
        (Some(json!([ours(), theirs(), ours()])), Edit::Set(json!([theirs()]))),
    ] {
        assert_eq!(edit(before.as_ref(), None, &recorded), Ok(after), "{before:?}");
    }
}

#[test]
fn a_refusal_names_the_element_the_reason_and_the_remedy() {
    use RefusalKind::{Conflict, Invalid, Unsure};
    let tls = |tls: Value, upstream: &str| {
        json!([{"name": "corp", "zones": ["corp"], "forwardPlugin": {"upstreams": [upstream],
            "transportConfig": {"transport": "TLS", "tls": tls}}}])
    };
    let cases = [
        (
            json!([theirs(), {"name": "istio", "zones": ["a.example", "Global."]}]),
            Conflict,
            "spec.servers[1]: the server \"istio\" has our zone global; take the zone out of that server \
             first",
        ),
        (
            json!([theirs(), theirs()]),
            Invalid,
            "spec.servers[1]: the zone corp.example is in spec.servers[0] as well, and CoreDNS does not load",
        ),
        (
            json!([{"name": "globaldns", "zones": ["global", "corp"], "forwardPlugin": {"upstreams": ["10.0.0.1"]}}]),
            Unsure,
            "spec.servers[0]: it has our name globaldns, but sends the zone corp to servers that are not \
             ours; give",
        ),
        (
            tls(json!({}), "10.0.0.1"),
            Invalid,
            "spec.servers[0]: it asks for TLS without a serverName, so the operator",
        ),
        (
            tls(json!({"serverName": "dns.corp"}), "dns.corp"),
            Invalid,
            "it asks for TLS with an upstream that is no address",
        ),
        (json!({}), Invalid, "spec.servers: it is not a list; correct it"),
        (json!([1]), Invalid, "spec.servers[0]: it is not an object; correct it"),
    ];
    for (before, kind, text) in cases {
        let refusal = edit(Some(&before), Some(&wanted()), &Ours::default()).expect_err(text);
        assert_eq!(refusal.kind, kind, "{refusal}");
        assert!(refusal.to_string().starts_with(text) || refusal.why.starts_with(text), "{refusal}");
    }
    let fine = tls(json!({"serverName": "dns.corp"}), "10.0.0.1:853");
    assert!(edit(Some(&fine), Some(&wanted()), &Ours::default()).is_ok());
    let underscore = edit(None, Some(&stub(&["my_zone"], &["10.96.0.53"])), &Ours::default());
    assert_eq!(underscore.map_err(|r| r.kind), Err(Invalid));
}

proptest! {
    #[test]
    fn an_edit_is_done_once_and_undone_whole(
        zones in prop::collection::btree_set("[a-d]{1,2}\\.corp", 0..4), at in 0usize..4,
        first in prop::sample::subsequence(vec!["global", "cluster2", "eu.global"], 1..4).prop_shuffle(),
        second in prop::sample::subsequence(vec!["global", "cluster2", "eu.global"], 1..4).prop_shuffle(),
        ips in prop::sample::subsequence(vec!["10.96.0.53", "10.96.0.54:5353", "[fd00::35]:53"], 1..3),
    ) {
        let others: Vec<_> = zones.iter().map(|zone| json!({"name": "corp", "zones": [zone]})).collect();
        let (first, second) = (stub(&first, &ips), stub(&second, &["10.96.0.60"]));
        let mut there = others.clone();
        there.insert(at.min(others.len()), element(&first));
        let there = Value::Array(there);
        prop_assert_eq!(edit(Some(&there), Some(&first), &Ours::default()), Ok(Edit::Unchanged));
        let recorded = Ours::default().with(&first);
        let two = edit(Some(&there), Some(&second), &recorded).expect("no refusal").applied(Some(there));
        prop_assert_eq!(edit(two.as_ref(), Some(&second), &recorded), Ok(Edit::Unchanged));
        let left = edit(two.as_ref(), None, &recorded.with(&second)).expect("no refusal").applied(two);
        prop_assert_eq!(left, (!others.is_empty()).then_some(Value::Array(others)));
    }
}
