use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn stub(zones: &[&str], servers: &[&str]) -> Stub {
    let zones = zones.iter().map(|text| Name::parse(text).expect(text));
    let servers: Vec<SocketAddr> = servers.iter().map(|text| read_server(text).expect(text)).collect();
    Stub::new(zones, servers).expect("a stub")
}

fn ours() -> Stub {
    stub(&["global", "cluster2"], &["10.96.0.53"])
}

fn set(text: &str) -> Result<Edit<String>, Refusal> {
    Ok(Edit::Set(text.to_owned()))
}

const OURS: &str = r#"{"cluster2":["10.96.0.53"],"global":["10.96.0.53"]}"#;

#[test]
fn ours_go_in_sorted_and_others_stay_where_they_are() {
    let none = Ours::default();
    let cases = [
        (None, OURS.to_owned()),
        (Some(""), OURS.to_owned()),
        (Some(" \n"), format!("{OURS}\n")),
        (Some("{}"), OURS.to_owned()),
        (Some("null"), OURS.to_owned()),
        (
            Some(r#"{"corp": ["10.0.0.1"], "b.corp": ["dns.corp"]}"#),
            r#"{"corp":["10.0.0.1"],"b.corp":["dns.corp"],"cluster2":["10.96.0.53"],"global":["10.96.0.53"]}"#
                .to_owned(),
        ),
        (
            Some(r#"{"z":["10.0.0.1:5353"],"global":["10.96.0.53"],"a":null}"#),
            r#"{"z":["10.0.0.1:5353"],"global":["10.96.0.53"],"a":null,"cluster2":["10.96.0.53"]}"#
                .to_owned(),
        ),
        // Nobody serves a zone without servers.
        (
            Some(r#"{"global":[],"cluster2":["10.96.0.53"]}"#),
            r#"{"global":["10.96.0.53"],"cluster2":["10.96.0.53"]}"#.to_owned(),
        ),
        (
            Some("{\n  \"corp\": [\"10.0.0.1\"]\n}\n"),
            "{\n  \"corp\":[\"10.0.0.1\"],\n  \"cluster2\":[\"10.96.0.53\"],\n  \
             \"global\":[\"10.96.0.53\"]\n}\n"
                .to_owned(),
        ),
    ];
    for (before, after) in cases {
        assert_eq!(edit(before, Some(&ours()), &none), set(&after), "{before:?}");
    }
}

#[test]
fn what_means_the_same_is_not_written_again() {
    let two = stub(&["global"], &["10.96.0.53", "10.96.0.54"]);
    let cases = [
        (OURS, ours()),
        (r#" { "global" : [ "10.96.0.53" ] , "cluster2" : [ "10.96.0.53:53" ] } "#, ours()),
        (r#"{"global":["10.96.0.54","10.96.0.53"]}"#, two),
        // The last of two equal keys counts.
        (r#"{"global":[],"cluster2":["10.96.0.53"],"global":["10.96.0.53"]}"#, ours()),
    ];
    for (before, wanted) in cases {
        assert_eq!(edit(Some(before), Some(&wanted), &Ours::default()), Ok(Edit::Unchanged), "{before}");
    }
}

#[test]
fn what_we_wrote_before_is_replaced_and_dropped() {
    let recorded = Ours::default().with(&stub(&["global", "eu"], &["10.96.0.9"]));
    let before = r#"{"global":["10.96.0.9"],"corp":["10.0.0.1"],"eu":["10.96.0.9"]}"#;
    let wanted = stub(&["global"], &["[fd00::35]:1053", "10.96.0.53"]);
    let after = r#"{"global":["[fd00::35]:1053","10.96.0.53"],"corp":["10.0.0.1"]}"#;
    assert_eq!(edit(Some(before), Some(&wanted), &recorded), set(after));
    assert_eq!(edit(Some(before), None, &recorded), set(r#"{"corp":["10.0.0.1"]}"#));
    // A zone we gave up and someone else took is theirs.
    let taken = r#"{"global":["10.96.0.9"],"eu":["10.0.0.7"]}"#;
    let after = r#"{"global":["[fd00::35]:1053","10.96.0.53"],"eu":["10.0.0.7"]}"#;
    assert_eq!(edit(Some(taken), Some(&wanted), &recorded), set(after));
    assert_eq!(edit(Some(taken), None, &recorded), set(r#"{"eu":["10.0.0.7"]}"#));
}

#[test]
fn removal_takes_the_key_with_the_last_entry_and_judges_nothing_it_does_not_touch() {
    let mine = Ours::default().with(&ours());
    for (before, after) in [
        (None, Edit::Unchanged),
        (Some(""), Edit::Unchanged),
        (Some("{}"), Edit::Unchanged),
        (Some(OURS), Edit::Remove),
        (Some(r#"{"BAD_":["10.0.0.1"],"BAD_":[]}"#), Edit::Unchanged),
        (Some(r#"{"global":["10.0.0.1"]}"#), Edit::Unchanged),
        (
            Some(r#"{"global":["dns.corp"],"global":["10.96.0.53"]}"#),
            Edit::Set(r#"{"global":["dns.corp"]}"#.into()),
        ),
    ] {
        assert_eq!(edit(before, None, &mine), Ok(after), "{before:?}");
    }
}

#[test]
fn a_refusal_names_the_entry_the_reason_and_the_remedy() {
    let (invalid, conflict, unsure) = (RefusalKind::Invalid, RefusalKind::Conflict, RefusalKind::Unsure);
    let cases = [
        (
            r#"{"global":["10.0.0.1"]}"#,
            conflict,
            r#"stubDomains["global"]: someone else sends this zone to ["10.0.0.1"]; take"#,
        ),
        (r#"{"global":["dns.corp"]}"#, conflict, "someone else sends this zone to [\"dns.corp\"]"),
        // https://github.com/istio/istio/issues/22852
        (
            r#"{"corp":["$(kubectl get svc -o jsonpath={.spec.clusterIP})"]}"#,
            invalid,
            "is not a server: IP, IP:port or a name, so kube-dns ignores the whole ConfigMap and nothing \
             we write would take effect; correct that entry or take it out",
        ),
        (r#"{"corp":"10.0.0.1"}"#, invalid, r#"stubDomains["corp"]: "10.0.0.1" is not a list of servers"#),
        (r#"{"corp":[10]}"#, invalid, r#"stubDomains["corp"]: [10] is not a list of servers"#),
        (r#"{"corp":["10.0.0.1:99999"]}"#, invalid, r#""10.0.0.1:99999" is not a server"#),
        (r#"{"corp":["[fd00::1]"]}"#, invalid, r#""[fd00::1]" is not a server"#),
        (r#"{"Corp":[]}"#, invalid, r#"stubDomains["Corp"]: the domain is not a lower-case DNS name"#),
        (r#"{"corp.":[]}"#, invalid, "the domain is not a lower-case DNS name"),
        (r#"{"co_rp":[]}"#, invalid, "the domain is not a lower-case DNS name"),
        (
            r#"{"corp":["10.0.0.1"],"corp":["10.0.0.2"]}"#,
            unsure,
            r#"stubDomains["corp"]: the domain is written twice"#,
        ),
        (
            r#"["corp"]"#,
            invalid,
            "stubDomains: it is not a JSON object, so kube-dns ignores the whole ConfigMap (invalid type: \
             sequence, expected an object of domains",
        ),
        (r#"{"corp":["10.0.0.1"]"#, invalid, "EOF while parsing an object at line 1 column 20"),
        ("corp: 10.0.0.1", invalid, "expected value at line 1 column 1"),
    ];
    for (before, kind, text) in cases {
        let refusal = edit(Some(before), Some(&ours()), &Ours::default()).expect_err(before);
        assert_eq!(refusal.kind, kind, "{refusal}");
        assert!(refusal.to_string().contains(text), "{refusal}");
        let unedited = edit(Some(OURS), Some(&ours()), &Ours::default());
        assert_eq!(unedited, Ok(Edit::Unchanged));
    }
    let ours = stub(&["my_zone"], &["10.96.0.53"]);
    let refusal = edit(None, Some(&ours), &Ours::default()).expect_err("an underscore");
    assert_eq!(
        refusal.to_string(),
        "kube-dns does not take the zone my_zone: a label there is letters, digits and inner '-'; choose \
         a zone \
         without '_' and without '-' at either end of a label"
    );
    // Taking ours out would have no effect either.
    let broken = r#"{"global":["10.96.0.53"],"corp":["$(x)"]}"#;
    let recorded = Ours::default().with(&self::ours());
    assert_eq!(edit(Some(broken), None, &recorded).map_err(|r| r.kind), Err(invalid));
}

#[test]
fn node_local_takes_addresses_only() {
    assert_eq!(check_for_node_local(OURS), Ok(()));
    assert_eq!(check_for_node_local(""), Ok(()));
    for (text, why) in [
        (r#"{"corp":["dns.corp"]}"#, "a server is a host name"),
        (r#"{"corp":[]}"#, "it has no server"),
        (r#"{"corp":1}"#, "1 is not a list of servers"),
    ] {
        let refusal = check_for_node_local(text).expect_err(text);
        assert!(refusal.to_string().starts_with(&format!("stubDomains[\"corp\"]: {why}")), "{refusal}");
    }
}

fn foreign() -> impl Strategy<Value = Vec<(String, Vec<String>)>> {
    let server = prop_oneof!["10\\.0\\.[0-9]\\.[1-9]", "10\\.0\\.0\\.1:[1-9][0-9]{0,3}", "dns[0-9]\\.corp"];
    let entry = ("[a-e]{1,2}(\\.(corp|global))?", prop::collection::vec(server, 0..3));
    prop::collection::btree_map(entry.0, entry.1, 0..5)
        .prop_map(|map| map.into_iter().collect())
        .prop_shuffle()
}

fn text_of(entries: &[(String, Vec<String>)], lines: bool) -> String {
    let members: Vec<_> = entries
        .iter()
        .map(|(domain, servers)| format!("{domain:?}: {}", serde_json::to_string(servers).expect("JSON")))
        .collect();
    let (open, between) = if lines { ("{\n", ",\n") } else { ("{", ", ") };
    format!("{open}{}}}", members.join(between))
}

fn stubs() -> impl Strategy<Value = Stub> {
    let zones = prop::sample::subsequence(vec!["global", "cluster2", "eu.global", "zz"], 1..4).prop_shuffle();
    let servers = prop::sample::subsequence(vec!["10.96.0.53", "10.96.0.54:5353", "[fd00::35]:53"], 1..3);
    (zones, servers).prop_map(|(zones, servers)| {
        let zones = zones.into_iter().map(|text| Name::parse(text).expect(text));
        let servers: Vec<SocketAddr> = servers.iter().map(|text| read_server(text).expect(text)).collect();
        Stub::new(zones, servers).expect("a stub")
    })
}

fn order(text: &str) -> Vec<String> {
    read(text).expect("JSON").into_iter().map(|entry| entry.domain).collect()
}

fn meant(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let entries = read(text).expect("JSON");
    meaning(&entries).into_iter().map(|(domain, servers)| (domain.to_owned(), servers)).collect()
}

proptest! {
    #[test]
    fn an_edit_is_done_once_and_undone_whole(
        theirs in foreign(), lines: bool, first in stubs(), second in stubs(),
    ) {
        let before = text_of(&theirs, lines);
        let set = edit(Some(&before), Some(&first), &Ours::default());
        let one = set.expect("no conflict").applied(Some(before.clone())).expect("entries");
        prop_assert_eq!(edit(Some(&one), Some(&first), &Ours::default()), Ok(Edit::Unchanged));

        let recorded = Ours::default().with(&first);
        let set = edit(Some(&one), Some(&second), &recorded);
        let two = set.expect("no conflict").applied(Some(one)).expect("entries");
        let fresh = edit(Some(&before), Some(&second), &Ours::default()).expect("no conflict");
        let fresh = fresh.applied(Some(before.clone())).expect("entries");
        prop_assert_eq!(meant(&two), meant(&fresh));

        let removed = edit(Some(&two), None, &recorded.with(&second)).expect("no refusal");
        if theirs.is_empty() {
            prop_assert_eq!(removed, Edit::Remove);
        } else {
            let after = removed.applied(Some(two)).expect("entries");
            prop_assert_eq!(order(&after), order(&before));
            prop_assert_eq!(meant(&after), meant(&before));
        }
    }

    #[test]
    fn no_text_panics(text in ".{0,40}", wanted in prop::option::of(stubs())) {
        let _ = edit(Some(&text), wanted.as_ref(), &Ours::default());
    }
}
