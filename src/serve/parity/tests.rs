use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// [D1] [D3] [D4] [D10] [D11] [D12] [D13] [D17] [D18] [D19] [D21] [D22] [D23] [D24] The two
    /// paths say the same to any message over any table.
    #[test]
    fn both_paths_agree_on_queries(octets in proptest::collection::vec(any::<u8>(), 0..800)) {
        check(&octets);
    }

    /// [D11] Garbage gets a reply or silence, and never ends the program.
    #[test]
    fn both_paths_agree_on_garbage(message in proptest::collection::vec(any::<u8>(), 0..600)) {
        check(&[&[0; PLAIN], &message[..]].concat());
    }
}

/// Both paths are compared on every kind of reply there is.
#[test]
fn octets_at_random_reach_every_kind_of_reply() {
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut octet = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 32) as u8
    };
    let mut kinds = BTreeSet::new();
    for _ in 0..4000 {
        let octets: Vec<_> = (0..400).map(|_| octet()).collect();
        for said in check(&octets) {
            let Some(said) = said else {
                kinds.insert("silence".to_owned());
                continue;
            };
            for (mark, kind) in [
                (" TXT \"globaldns\"", "a proof"),
                (" TXT \"entry=", "a diagnosis"),
                (" PTR ", "a pointer"),
                (" SRV 0 100 ", "a service"),
                (" \"wildcard=", "a wildcard's diagnosis"),
            ] {
                if said.iter().any(|line| line.contains(mark)) {
                    kinds.insert(kind.to_owned());
                }
            }
            if said.iter().any(|line| line.contains(" cookie=")) {
                kinds.insert("a cookie".to_owned());
            }
            let sections: BTreeSet<_> = said[1..].iter().map(|line| &line[..1]).collect();
            let sections: String = sections.into_iter().collect();
            kinds.insert(format!("{} {sections}", said[0].replace(" rd", "")));
        }
    }
    let expected = [
        "BADCOOKIE qr O",
        "BADVERS qr O",
        "FORMERR qr ",
        "FORMERR qr O",
        "NOERROR qr O",
        "NOERROR qr aa =",
        "NOERROR qr aa +=",
        "NOERROR qr aa +=O",
        "NOERROR qr aa =O",
        "NOERROR qr aa O~",
        "NOERROR qr aa tc =",
        "NOERROR qr aa tc =O",
        "NOERROR qr aa ~",
        "NOTIMP qr ",
        "NOTIMP qr O",
        "NXDOMAIN qr aa O~",
        "NXDOMAIN qr aa ~",
        "REFUSED qr ",
        "REFUSED qr O",
        "SERVFAIL qr ",
        "SERVFAIL qr O",
        "a cookie",
        "a diagnosis",
        "a pointer",
        "a proof",
        "a service",
        "a wildcard's diagnosis",
        "silence",
    ];
    let missing: Vec<_> = expected.iter().filter(|kind| !kinds.contains(**kind)).collect();
    assert!(missing.is_empty(), "no {missing:?} among {kinds:#?}");
}

#[test]
fn after_zeros_octets_are_a_message() {
    let message = b"\x42\x42\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x06global\x00\x00\x01\x00\x01";
    let said = check(&[&[0; PLAIN], &message[..]].concat());
    assert_eq!(said, [Some(vec!["NOERROR qr aa rd".to_owned(), "= a.global. 30 A 240.0.0.0".to_owned()])]);
}

/// What the fuzzer begins with, and what it once found.
#[test]
fn the_seeds_of_the_fuzzer_get_replies() {
    let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/seeds/parity");
    for seed in std::fs::read_dir(seeds).expect("a directory") {
        let path = seed.expect("an entry").path();
        let said = check(&std::fs::read(&path).expect("readable"));
        assert!(said.iter().any(Option::is_some), "{}", path.display());
    }
}
