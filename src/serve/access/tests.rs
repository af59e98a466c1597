use proptest::prelude::*;

use super::*;

fn network(text: &str) -> Network {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn networks(texts: &[&str]) -> Vec<Network> {
    texts.iter().map(|text| network(text)).collect()
}

/// Networks that are allowed and denied, and who may ask or not.
type Case<'c> = (&'c [&'c str], &'c [&'c str], &'c [(&'c str, bool)]);

/// [D21]
#[test]
fn the_most_specific_network_decides_and_deny_wins_a_tie() {
    let (all, none): (&[&str], &[&str]) = (&["0.0.0.0/0", "::/0"], &[]);
    let cases: [Case; 9] = [
        (
            &["10.0.0.0/8"],
            none,
            &[
                ("10.0.0.0", true),
                ("10.255.255.255", true),
                ("9.255.255.255", false),
                ("11.0.0.0", false),
                ("::1", false),
            ],
        ),
        (
            none,
            &["10.0.0.0/8"],
            &[
                ("10.0.0.0", false),
                ("10.255.255.255", false),
                ("9.255.255.255", true),
                ("11.0.0.0", true),
                ("::1", true),
            ],
        ),
        (
            &["10.1.0.0/16"],
            &["10.0.0.0/8"],
            &[
                ("10.0.255.255", false),
                ("10.1.0.0", true),
                ("10.1.255.255", true),
                ("10.2.0.0", false),
                ("192.0.2.1", false),
            ],
        ),
        (
            &["10.0.0.0/8", "10.1.2.3"],
            &["10.1.0.0/16"],
            &[("10.1.2.2", false), ("10.1.2.3", true), ("10.1.2.4", false), ("10.2.0.0", true)],
        ),
        (&["10.0.0.0/8"], &["10.0.0.0/8"], &[("10.0.0.1", false), ("192.0.2.1", false)]),
        (
            all,
            &["10.0.0.0/8", "2001:db8::/32"],
            &[
                ("10.0.0.1", false),
                ("11.0.0.0", true),
                ("2001:db8::", false),
                ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", false),
                ("2001:db9::", true),
            ],
        ),
        (&["::ffff:10.0.0.0/104"], none, &[("10.0.0.1", true), ("11.0.0.1", false)]),
        (
            &["::/0"],
            none,
            &[
                ("::1", true),
                ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", true),
                ("10.0.0.1", false),
                ("255.255.255.255", false),
            ],
        ),
        (
            none,
            &["255.255.255.255", "0.0.0.0", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
            &[
                ("255.255.255.255", false),
                ("255.255.255.254", true),
                ("0.0.0.0", false),
                ("0.0.0.1", true),
                ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false),
                ("::", true),
            ],
        ),
    ];
    for (allow, deny, expected) in cases {
        let access = Access::new(&networks(allow), &networks(deny)).expect("a list");
        for (address, allowed) in expected {
            assert_eq!(
                access.allows(address.parse().expect(address)),
                *allowed,
                "{allow:?} {deny:?} {address}"
            );
        }
    }
    assert_eq!(Access::new(&[], &[]), None);
}

/// [D21]
#[test]
fn lists_that_allow_nobody_are_known() {
    let empty = |allow: &[&str], deny: &[&str]| {
        Access::new(&networks(allow), &networks(deny)).expect("a list").is_empty()
    };
    assert!(empty(&[], &["0.0.0.0/0", "::/0"]));
    assert!(empty(&["10.0.0.0/8", "::1"], &["10.0.0.0/9", "10.128.0.0/9", "::1"]));
    assert!(!empty(&[], &["0.0.0.0/0"]));
    assert!(!empty(&["10.0.0.0/8"], &["10.0.0.0/9"]));
}

/// [D21]
#[test]
fn what_is_no_network_is_refused_with_what_to_write() {
    let cases = [
        (
            "10.0.0.1/8",
            "bits set beyond the first 8; write 10.0.0.0/8 for the network, or 10.0.0.1 for the address",
        ),
        (
            "2001:db8::1/32",
            "bits set beyond the first 32; write 2001:db8::/32 for the network, or 2001:db8::1",
        ),
        ("10.0.0.0/33", "it is no network; write ADDRESS/LENGTH"),
        ("10.0.0/8", "it is no network"),
        ("cluster.local", "it is no network"),
        ("", "it is no network"),
    ];
    for (text, expected) in cases {
        let error = text.parse::<Network>().expect_err(text);
        assert!(error.contains(expected), "{text}: {error}");
    }
    for (text, expected) in
        [("::ffff:192.0.2.1", "192.0.2.1/32"), ("::ffff:0:0/96", "0.0.0.0/0"), ("::1", "::1/128")]
    {
        assert_eq!(network(text).to_string(), expected);
    }
}

/// Networks that are likely to lie in each other.
fn any_network() -> impl Strategy<Value = Network> {
    let v4 = (0..=32u8, any::<u32>())
        .prop_map(|(length, bits)| IpNet::new(IpAddr::from((bits & 0xc1c0_0003).to_be_bytes()), length));
    let v6 = (0..=128u8, any::<u128>()).prop_map(|(length, bits)| {
        IpNet::new(IpAddr::from((bits & (0xc1 << 120 | 0xc0 << 60 | 3)).to_be_bytes()), length)
    });
    prop_oneof![v4, v6].prop_map(|net| Network(net.expect("a legal length").trunc()))
}

proptest! {
    /// [D21] The ranges say what a walk over all the networks says.
    #[test]
    fn ranges_say_what_the_networks_say(
        allow in proptest::collection::vec(any_network(), 0..12),
        deny in proptest::collection::vec(any_network(), 0..12),
        near in any::<prop::sample::Index>(),
    ) {
        prop_assume!(!allow.is_empty() || !deny.is_empty());
        let access = Access::new(&allow, &deny).expect("a list");
        let all: Vec<_> = allow.iter().chain(&deny).collect();
        let Network(net) = *all[near.index(all.len())];
        // The edges of a network, and just outside of them.
        let addresses = match net {
            IpNet::V4(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::V4(bits.into()))
            }
            IpNet::V6(net) => {
                let (first, last) = (net.network().to_bits(), net.broadcast().to_bits());
                [first, last, first.wrapping_sub(1), last.wrapping_add(1)].map(|bits| IpAddr::V6(bits.into()))
            }
        };
        for address in addresses {
            let longest = |list: &[Network]| {
                list.iter().filter(|n| n.0.contains(&address)).map(|n| n.0.prefix_len()).max()
            };
            let expected = match (longest(&allow), longest(&deny)) {
                (None, None) => allow.is_empty(),
                (allowed, denied) => allowed > denied,
            };
            prop_assert_eq!(access.allows(address), expected, "{} in {:?} {:?}", address, allow, deny);
        }
    }
}
