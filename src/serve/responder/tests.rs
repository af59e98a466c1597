use super::*;
use crate::serve::fixture::{Fixture, SERIAL, host, query, render, settings, table};
use crate::zone::answer::Answers;

mod further;
mod guard;

fn addresses(n: u8) -> Vec<IpAddr> {
    (1..=n).map(|i| IpAddr::from([240, 0, 0, i])).collect()
}

fn fixture() -> Fixture {
    let v6 = "2001:db8::1".parse().expect("valid");
    let hosts = [
        ("echo.default.global", vec![IpAddr::from([127, 255, 0, 1])]),
        ("dual.default.global", vec![IpAddr::from([240, 0, 0, 1]), v6, IpAddr::from([240, 0, 0, 2])]),
        ("six.default.global", vec![v6]),
        ("many.default.global", addresses(100)),
        ("*.wild.global", vec![IpAddr::from([240, 0, 0, 9])]),
        ("apexed", vec![IpAddr::from([240, 0, 0, 3])]),
        ("x.eu.global", vec![IpAddr::from([240, 0, 0, 4])]),
    ];
    Fixture::new(
        table(&["global", "eu.global", "apexed"], &hosts),
        settings(),
        &["10.96.0.9", "2001:db8::53"],
    )
}

fn check(cases: &[(&str, &[&str])]) {
    let f = fixture();
    for (question, expected) in cases {
        assert_eq!(f.dig(question), *expected, "{question}");
    }
}

const SOA: &str = "~ global. 5 SOA ns.dns.global. hostmaster.global. 1700000000 7200 1800 86400 5";

/// [D1] [D2] [D15] [D17] [H7]
#[test]
fn a_host_answers_with_its_addresses_in_the_spelling_of_the_query() {
    check(&[
        ("echo.default.global A", &["NOERROR qr aa rd", "= echo.default.global. 30 A 127.255.0.1"]),
        ("EcHo.Default.GLOBAL A", &["NOERROR qr aa rd", "= EcHo.Default.GLOBAL. 30 A 127.255.0.1"]),
        (
            "dual.default.global A",
            &[
                "NOERROR qr aa rd",
                "= dual.default.global. 30 A 240.0.0.1",
                "= dual.default.global. 30 A 240.0.0.2",
            ],
        ),
        ("dual.default.global AAAA", &["NOERROR qr aa rd", "= dual.default.global. 30 AAAA 2001:db8::1"]),
        ("X.y.wild.global A", &["NOERROR qr aa rd", "= X.y.wild.global. 30 A 240.0.0.9"]),
        ("*.wild.global A", &["NOERROR qr aa rd", "= *.wild.global. 30 A 240.0.0.9"]),
    ]);
}

/// [D3] [D4]
#[test]
fn negative_answers_carry_the_soa_and_tell_nodata_from_nxdomain() {
    let nodata: &[&str] = &["NOERROR qr aa rd", SOA];
    let nxdomain: &[&str] = &["NXDOMAIN qr aa rd", SOA];
    check(&[
        ("echo.default.global AAAA", nodata),
        ("six.default.global A", nodata),
        ("echo.default.global TXT", nodata),
        ("echo.default.global MX", nodata),
        ("echo.default.global HTTPS", nodata),
        ("echo.default.global NS", nodata),
        ("echo.default.global SOA", nodata),
        ("echo.default.global TYPE0", nodata),
        ("echo.default.global TYPE249", nodata),
        ("echo.default.global TYPE65535", nodata),
        ("default.global A", nodata),
        ("default.global ANY", nodata),
        ("x.wild.global AAAA", nodata),
        ("wild.global A", nodata),
        ("global A", nodata),
        ("dns.global A", nodata),
        ("ns.dns.global TXT", nodata),
        ("nope.default.global A", nxdomain),
        ("nope.global TXT", nxdomain),
        ("x.echo.default.global A", nxdomain),
        ("x.dns.global A", nxdomain),
        ("nope.global ANY", nxdomain),
        ("_dns.nope.global DS", nxdomain),
    ]);
}

/// [D5] [D17] [H3]
#[test]
fn the_apex_has_soa_ns_and_glue() {
    check(&[
        (
            "GLOBAL SOA",
            &[
                "NOERROR qr aa rd",
                "= GLOBAL. 5 SOA ns.dns.GLOBAL. hostmaster.GLOBAL. 1700000000 7200 1800 86400 5",
            ],
        ),
        (
            "global NS",
            &[
                "NOERROR qr aa rd",
                "= global. 30 NS ns.dns.global.",
                "+ ns.dns.global. 30 A 10.96.0.9",
                "+ ns.dns.global. 30 AAAA 2001:db8::53",
            ],
        ),
        ("ns.dns.global A", &["NOERROR qr aa rd", "= ns.dns.global. 30 A 10.96.0.9"]),
        ("ns.dns.global AAAA", &["NOERROR qr aa rd", "= ns.dns.global. 30 AAAA 2001:db8::53"]),
        ("apexed A", &["NOERROR qr aa rd", "= apexed. 30 A 240.0.0.3"]),
        (
            "apexed NS",
            &[
                "NOERROR qr aa rd",
                "= apexed. 30 NS ns.dns.apexed.",
                "+ ns.dns.apexed. 30 A 10.96.0.9",
                "+ ns.dns.apexed. 30 AAAA 2001:db8::53",
            ],
        ),
    ]);
}

/// [D5]
#[test]
fn without_configuration_the_name_server_is_where_the_query_arrived() {
    let f = fixture();
    f.responder.advertise(Vec::new(), SERIAL);
    assert_eq!(f.dig("ns.dns.global A"), ["NOERROR qr aa rd", "= ns.dns.global. 30 A 192.0.2.53"]);
    assert_eq!(f.dig("ns.dns.global AAAA"), ["NOERROR qr aa rd", SOA]);
    assert_eq!(f.dig("ns.dns.global ANY"), ["NOERROR qr aa rd", "= ns.dns.global. 30 A 192.0.2.53"]);
    f.responder.advertise(vec!["2001:db8::53".parse().expect("valid")], SERIAL);
    assert_eq!(f.dig("ns.dns.global ANY"), ["NOERROR qr aa rd", "= ns.dns.global. 30 AAAA 2001:db8::53"]);
    assert_eq!(f.dig("ns.dns.global A"), ["NOERROR qr aa rd", SOA]);
    // Where not even that is known, there is no address to give.
    f.responder.advertise(Vec::new(), SERIAL);
    let (message, _) = query("ns.dns.global ANY");
    let peer = Fixture::arrival(Transport::Udp).peer;
    let nowhere = Arrival::new(Transport::Udp, peer, "::".parse().expect("valid"), SERIAL);
    let mut out = [0; 1232];
    let Outcome::Reply(n) = f.responder.respond(&message, nowhere, &f.counters, &mut out) else {
        panic!("a reply");
    };
    assert_eq!(render(&out[..n]), ["NOERROR qr aa rd", SOA]);
}

/// [D6] [D5]
#[test]
fn another_name_server_address_moves_the_serial() {
    let f = fixture();
    let serials = |f: &Fixture| f.responder.table().zones().iter().map(Zone::serial).collect::<Vec<_>>();
    f.responder.advertise(
        vec!["10.96.0.9".parse().expect("valid"), "2001:db8::53".parse().expect("valid")],
        SERIAL + 5,
    );
    assert_eq!(serials(&f), [SERIAL; 3], "the same as before");
    f.responder.advertise(vec!["10.96.0.10".parse().expect("valid")], SERIAL + 9);
    assert_eq!(serials(&f), [SERIAL + 9; 3]);
}

/// [D7]
#[test]
fn any_is_one_record_set_that_exists() {
    check(&[
        (
            "dual.default.global ANY",
            &[
                "NOERROR qr aa rd",
                "= dual.default.global. 30 A 240.0.0.1",
                "= dual.default.global. 30 A 240.0.0.2",
            ],
        ),
        ("six.default.global ANY", &["NOERROR qr aa rd", "= six.default.global. 30 AAAA 2001:db8::1"]),
        ("apexed ANY", &["NOERROR qr aa rd", "= apexed. 30 A 240.0.0.3"]),
        ("global ANY", &["NOERROR qr aa rd", &SOA.replace('~', "=")]),
        ("ns.dns.global ANY", &["NOERROR qr aa rd", "= ns.dns.global. 30 A 10.96.0.9"]),
    ]);
}

/// [Z3]
#[test]
fn a_nested_zone_answers_for_itself_but_ds_is_its_parents() {
    let eu = "~ eu.global. 5 SOA ns.dns.eu.global. hostmaster.eu.global. 1700000000 7200 1800 86400 5";
    check(&[
        ("x.eu.global A", &["NOERROR qr aa rd", "= x.eu.global. 30 A 240.0.0.4"]),
        ("y.eu.global A", &["NXDOMAIN qr aa rd", eu]),
        ("eu.global A", &["NOERROR qr aa rd", eu]),
        ("eu.global DS", &["NOERROR qr aa rd", SOA]),
        ("x.eu.global DS", &["NOERROR qr aa rd", eu]),
        ("global DS", &["NOERROR qr aa rd", SOA]),
    ]);
}

/// [D18] [D7] [D15]
#[test]
fn a_probe_is_answered_with_who_answers_in_every_zone() {
    let proof =
        |name: &str| format!("= {name}. 0 TXT \"globaldns\" \"instance=pod-1\" \"serial=1700000000\"");
    let nodata: &[&str] = &["NOERROR qr aa rd", SOA];
    check(&[
        ("_probe-a.global TXT", &["NOERROR qr aa rd", &proof("_probe-a.global")]),
        ("_PROBE-a.Global TXT +tcp", &["NOERROR qr aa rd", &proof("_PROBE-a.Global")]),
        ("_probe-0.eu.global TXT +udp=1232", &["NOERROR qr aa rd", &proof("_probe-0.eu.global"), "OPT 1232"]),
        ("_probe-a.apexed TXT", &["NOERROR qr aa rd", &proof("_probe-a.apexed")]),
        ("_probe-a.global A", nodata),
        ("_probe-a.global ANY", nodata),
        ("_probe-a.global DS", nodata),
        ("_probe-a.global SOA", nodata),
        ("_probe-.global TXT", &["NXDOMAIN qr aa rd", SOA]),
        ("x._probe-a.global TXT", &["NXDOMAIN qr aa rd", SOA]),
        ("_probe-a.default.global TXT", &["NXDOMAIN qr aa rd", SOA]),
        ("_probe-a.wild.global TXT", nodata),
        ("_probe-a.com TXT", &["REFUSED qr rd"]),
    ]);
    let nameless = Fixture::new(table(&["global"], &[]), Settings { nsid: Vec::new(), ..settings() }, &[]);
    nameless.responder.table().touch_serials(SERIAL + 7);
    assert_eq!(
        nameless.dig("_probe-a.global TXT")[1],
        "= _probe-a.global. 0 TXT \"globaldns\" \"serial=1700000007\""
    );
}

/// [D18] [D13]
#[test]
fn a_proof_that_does_not_fit_is_fetched_over_tcp() {
    let label = "z".repeat(63);
    let zone = [&label, &label, &label, &label[..50]].join(".");
    let long_nsid = Settings { nsid: vec![b'n'; reply::MAX_NSID], ..settings() };
    let f = Fixture::new(table(&[&zone], &[]), long_nsid, &[]);
    let cut = f.dig(&format!("_probe-a.{zone} TXT +nsid +udp=512"));
    assert_eq!((cut.len(), cut[0].as_str()), (2, "NOERROR qr aa tc rd"));
    for enough in ["+udp=1232", "+tcp"] {
        let whole = f.dig(&format!("_probe-a.{zone} TXT +nsid {enough}"));
        assert!(whole[0] == "NOERROR qr aa rd" && whole[1].contains("TXT \"globaldns\""), "{whole:?}");
    }
}

/// [D8] [D9] [D10] [D12] [Z4]
#[test]
fn what_is_not_answered_is_refused_with_a_reason() {
    check(&[
        ("example.com A", &["REFUSED qr rd"]),
        (". NS", &["REFUSED qr rd"]),
        (". NS +udp=1232", &["REFUSED qr rd", "OPT 1232 ede=20"]),
        ("notglobal A", &["REFUSED qr rd"]),
        ("global AXFR", &["REFUSED qr rd"]),
        ("global AXFR +tcp +udp=512", &["REFUSED qr rd", "OPT 1232 ede=18"]),
        ("global TYPE251 +udp=512", &["REFUSED qr rd", "OPT 1232 ede=18"]),
        ("global TYPE253", &["NOTIMP qr rd"]),
        ("global TYPE254", &["NOTIMP qr rd"]),
        ("global TYPE41", &["FORMERR qr rd"]),
        ("echo.default.global A +class=CH", &["REFUSED qr rd"]),
        ("echo.default.global A +class=CH +udp=512", &["REFUSED qr rd", "OPT 1232 ede=18"]),
        // The order of D1: version, class, type, zone.
        ("example.com TYPE253 +class=CH +edns=1", &["BADVERS qr rd", "OPT 1232"]),
        ("example.com TYPE253 +class=CH +udp=512", &["REFUSED qr rd", "OPT 1232 ede=18"]),
        ("example.com TYPE253 +udp=512", &["NOTIMP qr rd", "OPT 1232"]),
        ("example.com AXFR +udp=512", &["REFUSED qr rd", "OPT 1232 ede=18"]),
    ]);
}

/// [D9] [D18]
#[test]
fn before_the_first_complete_list_every_name_is_servfail_and_never_nxdomain() {
    let zones = crate::zone::Zones::new(
        vec![crate::wire::name::Name::parse("global").expect("valid")],
        crate::wire::name::Name::parse("cluster.local").expect("valid"),
        SERIAL,
    );
    let table = Arc::new(Table::new(zones.expect("valid zones")));
    table.set(&host("a.global"), Answers::new(&addresses(1), 30), None, SERIAL);
    let f = Fixture::new(table.clone(), settings(), &[]);
    for name in ["a.global A", "b.global A", "global SOA", "global NS", "_probe-a.global TXT"] {
        assert_eq!(f.dig(name), ["SERVFAIL qr rd"], "{name}");
    }
    assert_eq!(f.dig("b.global A +udp=512"), ["SERVFAIL qr rd", "OPT 1232 ede=14"]);
    assert_eq!(f.dig("example.com A"), ["REFUSED qr rd"]);
    table.set_complete();
    assert_eq!(f.dig("a.global A"), ["NOERROR qr aa rd", "= a.global. 30 A 240.0.0.1"]);
}

/// [D12]
#[test]
fn edns_comes_back_exactly_when_it_was_sent() {
    check(&[
        ("nope.global A +udp=4096", &["NXDOMAIN qr aa rd", SOA, "OPT 1232"]),
        ("nope.global A +do", &["NXDOMAIN qr aa rd", SOA, "OPT 1232 do"]),
        ("nope.global A +nsid", &["NXDOMAIN qr aa rd", SOA, "OPT 1232 nsid=pod-1"]),
        ("example.com A +nsid", &["REFUSED qr rd", "OPT 1232 nsid=pod-1 ede=20"]),
        ("nope.global A +edns=1", &["BADVERS qr rd", "OPT 1232"]),
        ("nope.global A +edns=255 +nsid", &["BADVERS qr rd", "OPT 1232 nsid=pod-1"]),
    ]);
    let silent = Fixture::new(table(&["global"], &[]), Settings { nsid: Vec::new(), ..settings() }, &[]);
    assert_eq!(silent.dig("global A +nsid").last().map(String::as_str), Some("OPT 1232"));
}

/// [D13] [D14]
#[test]
fn a_reply_that_does_not_fit_is_truncated_to_whole_records() {
    let f = fixture();
    let records = |question: &str| {
        let reply = f.dig(question);
        (reply[0].clone(), reply.iter().filter(|line| line.starts_with('=')).count())
    };
    // (limit - 12 - question of 25 - OPT of 11) / 16
    let truncated = |n| ("NOERROR qr aa tc rd".to_owned(), n);
    assert_eq!(records("many.default.global A"), truncated((512 - 12 - 25) / 16));
    assert_eq!(records("many.default.global A +udp=0"), truncated((512 - 12 - 25 - 11) / 16));
    assert_eq!(records("many.default.global A +udp=700"), truncated((700 - 12 - 25 - 11) / 16));
    assert_eq!(records("many.default.global A +udp=4096"), truncated((1232 - 12 - 25 - 11) / 16));
    assert_eq!(records("many.default.global A +tcp"), ("NOERROR qr aa rd".to_owned(), 100));
    assert_eq!(records("many.default.global A +nsid +udp=512").0, "NOERROR qr aa tc rd");
    for question in ["many.default.global A", "many.default.global A +udp=700", "many.default.global A +nsid"]
    {
        let (message, transport) = query(question);
        let length = f.ask(&message, transport).expect("a reply").len();
        assert!(length <= if question.contains("700") { 700 } else { 1232 }, "{question}: {length}");
    }
}

/// [D2]
#[test]
fn every_record_takes_its_turn_at_the_front_whatever_else_is_asked() {
    let hosts = [("h.global", addresses(4)), ("v6.global", vec!["2001:db8::1".parse().expect("valid")])];
    let f = Fixture::new(table(&["global"], &hosts), Settings { rotate: true, ..settings() }, &[]);
    let mut first = std::collections::HashMap::new();
    for _ in 0..400 {
        let reply = f.dig("h.global A");
        assert_eq!(reply.len(), 5, "all records, every time");
        *first.entry(reply[1].clone()).or_insert(0) += 1;
        // What clients really do: the other family in between.
        f.dig("v6.global AAAA");
    }
    assert_eq!(first.len(), 4);
    assert!(first.values().all(|n| (80..=120).contains(n)), "{first:?}");
    let fixed = Fixture::new(table(&["global"], &hosts), settings(), &[]);
    for _ in 0..5 {
        assert!(fixed.dig("h.global A")[1].ends_with("240.0.0.1"));
    }
}

/// [D11]
#[test]
fn port_zero_and_responses_get_no_reply() {
    let f = fixture();
    let (message, _) = query("echo.default.global A");
    let arrival = Arrival::new(
        Transport::Udp,
        "192.0.2.1:0".parse().expect("valid"),
        "192.0.2.53".parse().expect("valid"),
        SERIAL,
    );
    let mut out = [0; 1232];
    assert_eq!(f.responder.respond(&message, arrival, &f.counters, &mut out), Outcome::Silence);
    let mut response = message.clone();
    response[2] |= 0x80;
    assert_eq!(f.fast(&response, Transport::Udp), Err(Outcome::Silence));
    assert_eq!(f.fast(&message[..11], Transport::Udp), Err(Outcome::Silence));
    // Port 0 comes before everything but the length: not even a FORMERR goes there.
    assert_eq!(f.responder.respond(&message[..20], arrival, &f.counters, &mut out), Outcome::Silence);
}

/// [D1] [D11]
#[test]
fn an_error_reply_echoes_the_question_only_if_it_was_read() {
    let f = fixture();
    let (mut message, _) = query("EcHo.default.global A +udp=512");
    message.push(0);
    let reply = f.fast(&message, Transport::Udp).expect("a reply");
    assert_eq!(render(&reply), ["FORMERR qr rd", "OPT 1232"]);
    assert_eq!(&reply[12..12 + 25], &message[12..12 + 25]);
    let cut = f.fast(&message[..30], Transport::Udp).expect("a reply");
    assert_eq!((cut.len(), render(&cut)), (12, vec!["FORMERR qr rd".to_owned()]));
    message[2] = 0x20;
    let reply = f.fast(&message, Transport::Udp).expect("a reply");
    assert_eq!((reply.len(), &reply[2..4]), (12, &b"\xa0\x04"[..]));
}

/// [D13] The largest error reply fits a client without any promise.
#[test]
fn the_longest_name_with_every_option_fits_512() {
    let label = "a".repeat(63);
    let name = format!("{label}.{label}.{label}.{}.global", "b".repeat(54));
    let long_nsid = Settings { nsid: vec![b'n'; reply::MAX_NSID], ..settings() };
    let f = Fixture::new(table(&["global"], &[]), long_nsid, &[]);
    let (message, transport) = query(&format!("{name} A +nsid +udp=512"));
    let reply = f.ask(&message, transport).expect("a reply");
    assert!(reply.len() <= 512, "{}", reply.len());
    assert_eq!(render(&reply)[..2], ["NXDOMAIN qr aa rd".to_owned(), SOA.to_owned()]);
}
