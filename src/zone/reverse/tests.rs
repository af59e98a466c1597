use super::*;
use proptest::prelude::*;

fn networks(text: &str) -> Vec<IpNet> {
    text.split(' ').map(|network| network.parse().expect(network)).collect()
}

fn names(text: &str) -> Vec<String> {
    zones(&networks(text)).expect(text).iter().map(ToString::to_string).collect()
}

/// [D22]
#[test]
fn a_network_is_the_zones_that_cover_exactly_it() {
    for (given, expected) in [
        ("240.0.0.0/8", vec!["240.in-addr.arpa"]),
        ("240.240.0.0/16", vec!["240.240.in-addr.arpa"]),
        ("10.1.2.0/24", vec!["2.1.10.in-addr.arpa"]),
        ("10.1.2.3/32", vec!["3.2.1.10.in-addr.arpa"]),
        ("10.1.2.0/23", vec!["2.1.10.in-addr.arpa", "3.1.10.in-addr.arpa"]),
        ("2001:2::/32", vec!["2.0.0.0.1.0.0.2.ip6.arpa"]),
        ("fd00:a::/31", vec!["a.0.0.0.0.0.d.f.ip6.arpa", "b.0.0.0.0.0.d.f.ip6.arpa"]),
        // What lies in another, or beside it, is not there twice.
        ("240.0.0.0/8 240.1.0.0/16 240.0.0.0/8", vec!["240.in-addr.arpa"]),
        ("241.0.0.0/8 240.0.0.0/8", vec!["240.in-addr.arpa", "241.in-addr.arpa"]),
        ("fd00::/16 240.0.0.0/8", vec!["240.in-addr.arpa", "0.0.d.f.ip6.arpa"]),
    ] {
        assert_eq!(names(given), expected, "{given}");
    }
    assert_eq!(names("240.0.0.0/9").len(), 128);
    assert_eq!(names("240.0.0.0/9 240.128.0.0/9"), ["240.in-addr.arpa"]);
}

/// [D22]
#[test]
fn what_cannot_be_a_reverse_zone_says_why() {
    for (given, expected) in [
        ("10.0.0.1/8", "10.0.0.1/8 has bits behind its length; write the network, 10.0.0.0/8"),
        ("240.0.0.0/4", "240.0.0.0/4 is too wide"),
        ("0.0.0.0/0", "0.0.0.0/0 is too wide"),
        ("fd00::/8", "at least a /16"),
        ("::/0", "::/0 is too wide"),
        ("127.0.0.0/8", "overlaps 127.0.0.0/8, loopback addresses"),
        ("127.1.0.0/16", "loopback addresses"),
        ("169.0.0.0/8", "169.0.0.0/8 overlaps 169.254.0.0/16"),
        ("224.0.0.0/8", "multicast"),
        ("fe80::/16", "link-local"),
        ("::/96", "overlaps ::/16"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/9 241.0.0.0/9 242.0.0.0/9", "they make 384 reverse zones"),
    ] {
        let error = zones(&networks(given)).expect_err(given).to_string();
        assert!(error.contains(expected), "{given}: {error}");
    }
    assert_eq!(names("255.0.0.0/8"), ["255.in-addr.arpa"]);
}

/// [D22]
#[test]
fn only_canonical_names_are_addresses() {
    let range = |text: &str| addresses(Name::parse(text).expect(text).wire());
    let v4 = |text: &str| text.parse::<IpAddr>().expect(text);
    assert_eq!(range("4.3.2.240.in-addr.arpa"), Some(v4("240.2.3.4")..=v4("240.2.3.4")));
    assert_eq!(range("2.240.in-addr.arpa"), Some(v4("240.2.0.0")..=v4("240.2.255.255")));
    assert_eq!(
        range("0.1.0.0.2.ip6.arpa"),
        Some(v4("2001::")..=v4("2001:fff:ffff:ffff:ffff:ffff:ffff:ffff"))
    );
    for none in [
        "01.0.0.240.in-addr.arpa",
        "256.0.0.240.in-addr.arpa",
        "x.0.0.240.in-addr.arpa",
        "1.1.1.1.240.in-addr.arpa",
        "ns.dns.240.in-addr.arpa",
        "10.0.2.ip6.arpa",
        "g.0.2.ip6.arpa",
        "a.global",
    ] {
        assert_eq!(range(none), None, "{none}");
    }
    // The octets of in-addr.arpa at the end of another label.
    assert_eq!(addresses(b"\x0fx\x07in-addr\x04arpa\x00"), None);
}

proptest! {
    /// [D22]
    #[test]
    fn an_address_is_read_from_its_name(v4: [u8; 4], v6: [u8; 16]) {
        for address in [IpAddr::from(v4), IpAddr::from(v6)] {
            prop_assert_eq!(addresses(name_of(address).wire()), Some(address..=address));
        }
    }

    /// [D22]
    #[test]
    fn zones_cover_what_was_given_and_nothing_else(a: [u8; 3], length in 9u8..33, probe: [u8; 4]) {
        let network = IpNet::new(IpAddr::from([240, a[0], a[1], a[2]]), length).expect("a network").trunc();
        let zones = zones(&[network]).expect("a legal network");
        for address in [IpAddr::from([240, probe[1], probe[2], probe[3]]), network.addr(), network.broadcast()] {
            let covered = zones.iter().filter(|zone| zone.covers(&name_of(address))).count();
            prop_assert_eq!(covered, usize::from(network.contains(&address)));
        }
    }
}
