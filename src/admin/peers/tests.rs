use super::*;

fn hashes(id: &str, zones: &[(&str, u64)]) -> Hashes {
    let zone = |(zone, hash): &(&str, u64)| ZoneHash {
        zone: (*zone).to_owned(),
        hosts: 1,
        serial: 2,
        answers_hash: *hash,
    };
    Hashes {
        version: "1".to_owned(),
        commit: "c".to_owned(),
        instance: Instance { name: "n".to_owned(), id: id.to_owned() },
        zones: zones.iter().map(zone).collect(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn seen(known: Option<&Peer>, answer: Result<Hashes, String>, ours: &[Hashes; 2], second: i64) -> Peer {
    Peer::seen(SocketAddr::from(([192, 0, 2, 1], 9153)), known, answer, ours, at(second))
}

/// [I5]
#[test]
fn a_replica_differs_since_its_hash_was_first_seen_to_and_is_silent_when_it_is() {
    let ours = || [hashes("us", &[("a", 1), ("b", 2)]), hashes("us", &[("a", 1), ("b", 3)])];
    let same = seen(None, Ok(hashes("them", &[("a", 1), ("b", 2)])), &ours(), 10);
    assert_eq!((same.state, same.since), ("agrees", at(10)));
    // The second of ours will do as well: it changed while the other was asked.
    let after = seen(Some(&same), Ok(hashes("them", &[("a", 1), ("b", 3)])), &ours(), 20);
    assert_eq!((after.state, after.since, after.zones[1].differs_since), ("agrees", at(10), None));
    let differs = seen(Some(&after), Ok(hashes("them", &[("a", 7), ("b", 3)])), &ours(), 30);
    let again = seen(Some(&differs), Ok(hashes("them", &[("a", 8), ("b", 3)])), &ours(), 40);
    assert_eq!((again.state, again.since), ("differs", at(30)));
    assert_eq!((again.zones[0].agrees, again.zones[0].differs_since), (false, Some(at(30))));
    assert!(again.zones[1].agrees);
    // It keeps what was known while it is silent.
    let silent = seen(Some(&again), Err("refused".to_owned()), &ours(), 50);
    assert_eq!((silent.state, silent.since, silent.heard), ("silent", at(50), Some(at(40))));
    assert_eq!((silent.trouble.as_deref(), silent.zones[0].differs_since), (Some("refused"), Some(at(30))));
    let back = seen(Some(&silent), Ok(hashes("them", &[("a", 1), ("b", 2)])), &ours(), 60);
    assert_eq!((back.state, back.since, back.trouble), ("agrees", at(60), None));
}

/// [I5]
#[test]
fn a_zone_that_only_one_of_them_has_is_a_difference() {
    let ours = [hashes("us", &[("a", 1)]), hashes("us", &[("a", 1)])];
    for theirs in [&[("a", 1), ("b", 2)][..], &[], &[("b", 1)]] {
        let peer = seen(None, Ok(hashes("them", theirs)), &ours, 1);
        assert_eq!(peer.state, "differs", "{theirs:?}");
    }
    assert_eq!(seen(None, Ok(hashes("us", &[("a", 1)])), &ours, 1).state, "self");
}

/// [I5]
#[test]
fn names_of_replicas_in_every_form() {
    let cases = [
        ("globaldns-replicas.istio-system.svc", Some("globaldns-replicas.istio-system.svc:9153")),
        (
            "globaldns-replicas.istio-system.svc.cluster.local.:9154",
            Some("globaldns-replicas.istio-system.svc.cluster.local.:9154"),
        ),
        ("10.0.0.1", Some("10.0.0.1:9153")),
        ("[::1]:7", Some("[::1]:7")),
        ("::1", Some("[::1]:9153")),
        ("", None),
        ("http://a", None),
        ("a:0", None),
        ("a:99999", None),
        ("a/b", None),
    ];
    for (text, expected) in cases {
        let parsed = PeerName::parse(text, 9153).ok().map(|name| name.to_string());
        assert_eq!(parsed.as_deref(), expected, "{text:?}");
    }
}

/// [I5]
#[test]
fn an_address_is_forgotten_when_its_own_name_has_it_no_more_whatever_becomes_of_others() {
    let addresses = |numbers: &[u8]| -> BTreeSet<SocketAddr> {
        numbers.iter().map(|number| SocketAddr::from(([192, 0, 2, *number], 9153))).collect()
    };
    let mut found = Found::new();
    let mut look = |a: Result<&[u8], &str>, b: Result<&[u8], &str>| {
        let mut note = |name: &str, resolved: Result<&[u8], &str>| {
            note(&mut found, name.to_owned(), resolved.map(addresses).map_err(str::to_owned))
        };
        let troubles: Vec<_> = [note("a", a), note("b", b)].into_iter().flatten().collect();
        (found.values().flatten().copied().collect::<BTreeSet<_>>(), troubles)
    };
    assert_eq!(look(Ok(&[1, 2]), Ok(&[3])), (addresses(&[1, 2, 3]), vec![]));
    assert_eq!(look(Ok(&[2, 4]), Err("gone")), (addresses(&[2, 3, 4]), vec!["b: gone".to_owned()]));
    assert_eq!(look(Err("gone"), Err("gone")).0, addresses(&[2, 3, 4]));
    assert_eq!(look(Ok(&[4]), Ok(&[])), (addresses(&[4]), vec![]));
}
