//! PTR, SRV and TXT (D22 to D24).

use super::*;
use crate::wire::name::Name;
use crate::zone::extra::{Extra, Protocol, Service};
use crate::zone::{Ownership, Zones, reverse};

fn services(ports: &[(&str, Protocol, u16)]) -> Vec<Service> {
    ports.iter().filter_map(|(name, protocol, port)| Service::new(name, *protocol, *port)).collect()
}

fn fixture() -> Fixture {
    let name = |text: &str| Name::parse(text).expect(text);
    let networks = ["240.0.0.0/16", "2001:db8::/32"].map(|network| network.parse().expect(network));
    let owned = Ownership { suffix: name("_tcp.cut.global"), namespaces: ["other".to_owned()].into() };
    let zones = Zones::new(vec![name("global"), name("in.global")], name("cluster.local"), SERIAL)
        .and_then(|zones| zones.owned_by(vec![owned]))
        .and_then(|zones| zones.with_reverse(reverse::zones(&networks).expect("legal"), SERIAL))
        .expect("legal zones");
    let table = Table::new(zones);
    let web = [("http", Protocol::Tcp, 80), ("http", Protocol::Tcp, 8080), ("dns", Protocol::Udp, 53)];
    let http = [("http", Protocol::Tcp, 80)];
    let many: Vec<_> = (0..100).map(|i| ("http", Protocol::Tcp, 1000 + i)).collect();
    let v4 = |n: u8| IpAddr::from([240, 0, 0, n]);
    let v6: IpAddr = "2001:db8::1".parse().expect("valid");
    for (text, addresses, ports, entries) in [
        ("web.global", vec![v4(1), v6, v4(2)], &web[..], vec!["a/web"]),
        ("web.in.global", vec![v4(1)], &http, vec!["a/in"]),
        ("*.wild.global", vec![v4(3)], &http, vec!["b/wild", "b/wilder"]),
        ("exact.wild.global", vec![v4(4)], &[], vec![]),
        ("out.global", vec![[240, 1, 0, 1].into()], &[], vec![]),
        ("_tcp.global", vec![v4(5)], &http, vec![]),
        ("global", vec![v4(6)], &http, vec![]),
        ("cut.global", vec![v4(7)], &http, vec![]),
        ("many.global", (1..=100).map(|n| [240, 0, 1, n].into()).collect(), &many, vec![]),
    ] {
        let extra = Extra::new(services(ports), entries.into_iter().map(str::to_owned));
        let answers = Answers::new(&addresses, if text == "web.in.global" { 20 } else { 30 });
        table.set(&host(text), answers.map(|answers| answers.with_extra(extra)), None, SERIAL);
    }
    for n in 0..70 {
        table.set(&host(&format!("h{n}.global")), Answers::new(&[v4(99)], 30), None, SERIAL);
    }
    table.set_complete();
    Fixture::new(Arc::new(table), settings(), &["10.96.0.9"])
}

fn check(cases: &[(&str, &[&str])]) {
    let f = fixture();
    for (question, expected) in cases {
        assert_eq!(f.dig(question), *expected, "{question}");
        let (message, transport) = query(question);
        let general = f.general(&message, transport).expect("a reply");
        assert_eq!(render(&general), *expected, "{question} on the general path");
    }
}

const NODATA: &str = "NOERROR qr aa rd";
const NXDOMAIN: &str = "NXDOMAIN qr aa rd";
const V4: &str = "~ 0.240.in-addr.arpa. 5 SOA ns.dns.0.240.in-addr.arpa. hostmaster.0.240.in-addr.arpa. 1700000000 7200 1800 86400 5";
const V6: &str = "~ 8.b.d.0.1.0.0.2.ip6.arpa. 5 SOA ns.dns.8.b.d.0.1.0.0.2.ip6.arpa. hostmaster.8.b.d.0.1.0.0.2.ip6.arpa. 1700000000 7200 1800 86400 5";

/// [D22] [D3] [D4] [D7]
#[test]
fn an_address_has_the_names_of_the_hosts_that_are_answered_with_it() {
    let six = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    check(&[
        ("2.0.0.240.in-addr.arpa PTR", &[NODATA, "= 2.0.0.240.in-addr.arpa. 30 PTR web.global."]),
        ("2.0.0.240.In-Addr.Arpa PTR", &[NODATA, "= 2.0.0.240.In-Addr.Arpa. 30 PTR web.global."]),
        // Two of them share the lowest TTL.
        (
            "1.0.0.240.in-addr.arpa PTR",
            &[
                NODATA,
                "= 1.0.0.240.in-addr.arpa. 20 PTR web.in.global.",
                "= 1.0.0.240.in-addr.arpa. 20 PTR web.global.",
            ],
        ),
        (&format!("{six} PTR"), &[NODATA, &format!("= {six}. 30 PTR web.global.")]),
        (&format!("{six} ANY"), &[NODATA, &format!("= {six}. 30 PTR web.global.")]),
        // Another type, what is above and the zone itself exist.
        ("2.0.0.240.in-addr.arpa A", &[NODATA, V4]),
        ("0.0.240.in-addr.arpa PTR", &[NODATA, V4]),
        ("0.240.in-addr.arpa PTR", &[NODATA, V4]),
        (&format!("{} PTR", &six[2..]), &[NODATA, V6]),
        ("0.8.b.d.0.1.0.0.2.ip6.arpa PTR", &[NODATA, V6]),
        // A wildcard's address has no name, nor one that nobody has, nor what is no address.
        ("3.0.0.240.in-addr.arpa PTR", &[NXDOMAIN, V4]),
        ("9.0.240.in-addr.arpa PTR", &[NXDOMAIN, V4]),
        ("02.0.0.240.in-addr.arpa PTR", &[NXDOMAIN, V4]),
        ("x.2.0.0.240.in-addr.arpa PTR", &[NXDOMAIN, V4]),
        ("ns.dns.0.240.in-addr.arpa A", &[NODATA, "= ns.dns.0.240.in-addr.arpa. 30 A 10.96.0.9"]),
        (
            "0.240.in-addr.arpa NS",
            &[
                NODATA,
                "= 0.240.in-addr.arpa. 30 NS ns.dns.0.240.in-addr.arpa.",
                "+ ns.dns.0.240.in-addr.arpa. 30 A 10.96.0.9",
            ],
        ),
        (
            "_probe-x.0.240.in-addr.arpa TXT",
            &[
                NODATA,
                "= _probe-x.0.240.in-addr.arpa. 0 TXT \"globaldns\" \"instance=pod-1\" \"serial=1700000000\"",
            ],
        ),
        ("1.0.1.240.in-addr.arpa PTR", &["REFUSED qr rd"]),
    ]);
}

/// [D22] [D13]
#[test]
fn the_first_names_of_an_address_that_many_share_are_answered() {
    let f = fixture();
    let said = f.dig("99.0.0.240.in-addr.arpa PTR +tcp");
    assert_eq!(said.len(), 1 + 64);
    let name = |line: &String| Name::parse(line.rsplit(' ').next().expect("a name")).expect("a name");
    assert!(said[1..].is_sorted_by_key(name), "{said:?}");
    let cut = f.dig("99.0.0.240.in-addr.arpa PTR");
    assert_eq!((cut[0].as_str(), &cut[1..]), ("NOERROR qr aa tc rd", &said[1..cut.len()]));
    assert!((10..64).contains(&cut.len()));
}

/// [D22] [D6] [L8] A row that goes takes everything it changed along, and what only one host left stays.
#[test]
fn ptr_records_follow_their_hosts() {
    let f = fixture();
    let table = f.responder.table();
    let zone = |text: &str| table.zones().iter().find(|zone| zone.apex().to_string() == text).expect(text);
    let reverse = zone("0.240.in-addr.arpa");
    let (hosts, digest) = (reverse.hosts(), reverse.digest());
    let mut stale = crate::zone::Stale::default();
    let new = |n: u8, ttl| Answers::new(&[IpAddr::from([240, 0, 9, n])], ttl);
    table.publish(&host("new.global"), new(1, 30), None, SERIAL + 5, &mut stale, |_, _| ());
    assert_eq!((reverse.hosts(), reverse.serial()), (hosts + 1, SERIAL + 5));
    assert_ne!(reverse.digest(), digest);
    assert_eq!(f.dig("1.9.0.240.in-addr.arpa PTR")[1], "= 1.9.0.240.in-addr.arpa. 30 PTR new.global.");
    // Another TTL, and another address: the old name stays until it is retired.
    table.publish(&host("new.global"), new(1, 7), None, SERIAL + 6, &mut stale, |_, _| ());
    assert_eq!(f.dig("1.9.0.240.in-addr.arpa PTR")[1], "= 1.9.0.240.in-addr.arpa. 7 PTR new.global.");
    table.publish(&host("new.global"), new(2, 7), None, SERIAL + 7, &mut stale, |_, _| ());
    for n in 1..3 {
        let said = f.dig(&format!("{n}.9.0.240.in-addr.arpa PTR"));
        assert!(said[1].ends_with("7 PTR new.global."), "{said:?}");
    }
    table.retire(stale, SERIAL + 8);
    assert!(f.dig("1.9.0.240.in-addr.arpa PTR")[0].starts_with("NXDOMAIN"));
    assert_eq!(reverse.serial(), SERIAL + 8);
    table.set(&host("new.global"), None, None, SERIAL + 9);
    assert!(f.dig("9.0.240.in-addr.arpa PTR")[0].starts_with("NXDOMAIN"));
    assert_eq!((reverse.hosts(), reverse.digest()), (hosts, digest));
}

/// [D9] [D22]
#[test]
fn a_reverse_zone_is_not_known_before_its_hosts_are() {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global")], name("cluster.local"), SERIAL)
        .and_then(|zones| zones.with_reverse(vec![name("240.in-addr.arpa")], SERIAL))
        .expect("legal zones");
    let f = Fixture::new(Arc::new(Table::new(zones)), settings(), &[]);
    assert_eq!(f.dig("1.0.0.240.in-addr.arpa PTR"), ["SERVFAIL qr rd"]);
}

const SOA_IN: &str =
    "~ in.global. 5 SOA ns.dns.in.global. hostmaster.in.global. 1700000000 7200 1800 86400 5";

/// [D23] [D3] [D4] [D7] [D17] [H4] [O6]
#[test]
fn a_named_port_is_a_service_of_the_host() {
    let addresses =
        ["+ web.global. 30 A 240.0.0.1", "+ web.global. 30 A 240.0.0.2", "+ web.global. 30 AAAA 2001:db8::1"];
    let http = [
        NODATA,
        "= _http._tcp.web.global. 30 SRV 0 100 80 web.global.",
        "= _http._tcp.web.global. 30 SRV 0 100 8080 web.global.",
        addresses[0],
        addresses[1],
        addresses[2],
    ];
    let dns = [
        NODATA,
        "= _dns._udp.web.global. 30 SRV 0 100 53 web.global.",
        addresses[0],
        addresses[1],
        addresses[2],
    ];
    check(&[
        ("_http._tcp.web.global SRV", &http),
        ("_http._tcp.web.global ANY", &http),
        ("_dns._udp.web.global SRV", &dns),
        // The target is in lower case, whatever the query's spelling.
        (
            "_HTTP._Tcp.Web.In.Global SRV",
            &[
                NODATA,
                "= _HTTP._Tcp.Web.In.Global. 20 SRV 0 100 80 web.in.global.",
                "+ Web.In.Global. 20 A 240.0.0.1",
            ],
        ),
        ("_http._tcp.web.global A", &[NODATA, SOA]),
        ("_tcp.web.global SRV", &[NODATA, SOA]),
        ("_udp.web.global A", &[NODATA, SOA]),
        ("_http._udp.web.global SRV", &[NXDOMAIN, SOA]),
        ("_https._tcp.web.global SRV", &[NXDOMAIN, SOA]),
        ("http._tcp.web.global SRV", &[NXDOMAIN, SOA]),
        ("x._http._tcp.web.global SRV", &[NXDOMAIN, SOA]),
        ("_udp.web.in.global A", &[NXDOMAIN, SOA_IN]),
        ("_tcp.out.global A", &[NXDOMAIN, SOA]),
        ("web.global SRV", &[NODATA, SOA]),
        // A wildcard's are those of the name that it answers; its own addresses come first, as everywhere.
        (
            "_http._tcp.a.b.wild.global SRV",
            &[
                NODATA,
                "= _http._tcp.a.b.wild.global. 30 SRV 0 100 80 a.b.wild.global.",
                "+ a.b.wild.global. 30 A 240.0.0.3",
            ],
        ),
        ("_http._tcp.a.wild.global A", &[NODATA, "= _http._tcp.a.wild.global. 30 A 240.0.0.3"]),
        ("_http._tcp.exact.wild.global SRV", &[NODATA, SOA]),
        ("_http._tcp.wild.global SRV", &[NODATA, SOA]),
        // The apex is a host, and so is a name that looks like a service's.
        (
            "_http._tcp.global SRV",
            &[NODATA, "= _http._tcp.global. 30 SRV 0 100 80 global.", "+ global. 30 A 240.0.0.6"],
        ),
        ("_tcp.global A", &[NODATA, "= _tcp.global. 30 A 240.0.0.5"]),
        ("_tcp._tcp.global A", &[NODATA, SOA]),
        ("_http._tcp.cut.global SRV", &[NXDOMAIN, SOA]),
    ]);
}

/// [D23] [D13] [D17]
#[test]
fn addresses_beside_a_service_are_left_out_without_tc() {
    let f = fixture();
    let whole = f.dig("_http._tcp.many.global SRV +tcp");
    assert_eq!(whole.len(), 1 + 100 + 100);
    for (question, truncated) in
        [("_http._tcp.many.global SRV", true), ("_http._tcp.many.global SRV +udp=1232", true)]
    {
        let cut = f.dig(question);
        assert_eq!(cut[0].contains(" tc"), truncated, "{question}");
        let services = cut.iter().filter(|line| line.starts_with('=')).count();
        assert_eq!(cut[1..=services], whole[1..=services]);
        assert!(!cut.iter().any(|line| line.starts_with('+')), "{cut:?}");
    }
}

/// [D24]
#[test]
fn txt_says_where_an_answer_comes_from() {
    check(&[
        (
            "Web.global TXT",
            &[
                NODATA,
                "= Web.global. 0 TXT \"entry=a/web\" \"serial=1700000000\" \"ttl=30\" \"instance=pod-1\"",
            ],
        ),
        (
            "x.Y.Wild.global TXT",
            &[
                NODATA,
                "= x.Y.Wild.global. 0 TXT \"entry=b/wild\" \"entry=b/wilder\" \"wildcard=*.wild.global\" \
                 \"serial=1700000000\" \"ttl=30\" \"instance=pod-1\"",
            ],
        ),
        // No entry is kept with these: that is what it is without --txt.
        ("exact.wild.global TXT", &[NODATA, SOA]),
        ("nobody.global TXT", &[NXDOMAIN, SOA]),
        ("ns.dns.global TXT", &[NODATA, SOA]),
    ]);
}

/// [L3] [D23] A name that exists by its services first, and then as a host, exists all the time.
#[test]
fn a_name_never_blinks_between_a_service_and_a_host() {
    let f = fixture();
    let table = f.responder.table();
    let address = || Answers::new(&[IpAddr::from([240, 0, 0, 8])], 30);
    let served = || {
        let extra = Extra::new(services(&[("http", Protocol::Tcp, 80)]), []);
        address().map(|answers| answers.with_extra(extra))
    };
    let (by_service, by_name) = (host("turn.global"), host("_http._tcp.turn.global"));
    table.set(&by_service, served(), None, SERIAL);
    let (message, transport) = query("_http._tcp.turn.global AAAA");
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let reply = f.fast(&message, transport).expect("a reply");
                    assert_eq!(reply[3] & 0xf, 0, "{:?}", render(&reply));
                }
            });
        }
        for _ in 0..50_000 {
            table.set(&by_name, address(), None, SERIAL);
            table.set(&by_service, address(), None, SERIAL);
            table.set(&by_service, served(), None, SERIAL);
            table.set(&by_name, None, None, SERIAL);
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
