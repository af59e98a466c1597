//! Answering over UDP allocates nothing: the real workers, asked over loopback, with an allocator that counts.
//!
//! In a test binary of its own, because the counts are the process's.

use std::alloc::System;
use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use globaldns::insight::tap::{Taps, Wants};
use globaldns::metrics::Counters;
use globaldns::serve::access::Access;
use globaldns::serve::cookies::{Cookies, Secrets};
use globaldns::serve::limiter::{Limiter, Limits};
use globaldns::serve::listen;
use globaldns::serve::responder::{Guard, Responder, Settings};
use globaldns::serve::udp::Workers;
use globaldns::wire::name::Name;
use globaldns::wire::rtype::{A, AAAA, ANY, AXFR, NS, SOA, TXT};
use globaldns::zone::answer::Answers;
use globaldns::zone::{Host, Table, Zones};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const QUERIES: usize = 100_000;
/// Queries on their way at a time, so that workers see batches.
const WINDOW: usize = 16;

fn responder(guard: Guard, taps: Taps) -> Arc<Responder> {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(vec![name("global"), name("eu.global")], name("cluster.local"), 1_700_000_000);
    let table = Table::new(zones.expect("valid zones"));
    let many: Vec<_> = (1..=100).map(|i| IpAddr::from([240, 0, 0, i])).collect();
    for (host, wildcard, addresses) in [
        ("echo.default.global", false, &many[..1]),
        ("many.global", false, &many),
        ("wild.global", true, &many[..2]),
    ] {
        table.set(&Host { name: name(host), wildcard }, Answers::new(addresses, 30), None, 1_700_000_000);
    }
    table.set_complete();
    let settings = Settings { ttl: 30, negative_ttl: 5, rotate: true, nsid: b"pod-1".to_vec() };
    let responder = Responder::new(Arc::new(table), settings, vec![IpAddr::from([10, 96, 0, 9])]);
    Arc::new(responder.guarded(guard).watched(taps))
}

/// All that can be asked of clients; most replies are above the limit, and every one of those is sent in its short form.
fn guard() -> Guard {
    let networks = |text: &str| [text.parse().expect(text)];
    let exempt = Access::only(&[]);
    Guard {
        cookies: Some(Arc::new(Cookies::new(Secrets::new([1; 16], &[[2; 16]])))),
        limiter: Some(Limiter::new(Limits { rate: 1000, prefix_v4: 24, prefix_v6: 56, slip: 1, exempt })),
        access: Access::new(&networks("127.0.0.0/8"), &networks("127.0.0.9")),
    }
}

/// A query, with an OPT that holds `options` if there are any to hold.
fn query(name: &str, qtype: u16, options: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0x42, 0x42, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
    message.extend_from_slice(Name::parse(name).expect(name).wire());
    message.extend([qtype.to_be_bytes(), [0, 1]].as_flattened());
    if let Some(options) = options {
        message.extend([0, 0, 41, 0x04, 0xd0, 0, 0, 0, 0]);
        message.extend((options.len() as u16).to_be_bytes());
        message.extend_from_slice(options);
    }
    message
}

fn questions() -> Vec<Vec<u8>> {
    let nsid = [0, 3, 0, 0];
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let no_cookie = [&[0, 10, 0, 24], &[7; 24][..]].concat();
    let malformed = [0, 10, 0, 1, 1];
    let unknown = [0xff, 0xfe, 0, 2, 7, 7];
    let mut answered_badly = query("echo.default.global", A, None);
    answered_badly.push(0);
    vec![
        query("echo.default.global", A, None),
        query("ECHO.default.global", A, Some(&[])),
        query("echo.default.global", AAAA, None),
        query("echo.default.global", A, Some(&nsid)),
        query("echo.default.global", A, Some(&unknown)),
        query("echo.default.global", A, Some(&cookie)),
        query("echo.default.global", A, Some(&no_cookie)),
        query("echo.default.global", A, Some(&malformed)),
        query("many.global", A, Some(&[])),
        query("many.global", A, None),
        query("any.thing.wild.global", A, None),
        query("echo.default.global", ANY, None),
        query("default.global", A, None),
        query("nope.global", A, Some(&[])),
        query("global", SOA, None),
        query("global", NS, Some(&[])),
        query("ns.dns.global", A, None),
        query("_probe-a.global", TXT, Some(&[])),
        query("example.com", A, Some(&[])),
        query("global", AXFR, None),
        answered_badly,
    ]
}

/// Asks until so many are answered. Allocates nothing itself.
fn ask(client: &UdpSocket, questions: &[Vec<u8>], count: usize) {
    let mut reply = [0; 2048];
    let mut next = questions.iter().cycle();
    for _ in 0..count / WINDOW {
        for question in next.by_ref().take(WINDOW) {
            client.send(question).expect("sent");
        }
        for _ in 0..WINDOW {
            let length = client.recv(&mut reply).expect("a reply in time");
            assert!(length >= 12 && reply[2] & 0x80 != 0, "a reply");
        }
    }
}

/// Taps of all there is, whose queues fill up: nobody reads them.
fn taps() -> Taps {
    Taps::new(Some(Arc::default()), Some((Arc::default(), Wants::All)))
}

/// [D1] [D3] [D4] [D5] [D7] [D8] [D10] [D11] [D12] [D13] [D18] [D19] [D20] [D21] [I7] [I9]
#[test]
fn answering_over_udp_allocates_nothing() {
    for (listen, guard, taps) in [
        ("127.0.0.1:0", Guard::default(), Taps::default()),
        ("0.0.0.0:0", Guard::default(), Taps::default()),
        ("127.0.0.1:0", guard(), taps()),
    ] {
        let responder = responder(guard, taps);
        let listener = listen::dns(listen.parse().expect("an address"), false, 2).expect("a free port");
        let port = listener.udp[0].local_addr().expect("bound").port();
        let mut workers = Workers::default();
        for socket in listener.udp {
            workers.start(socket, responder.clone(), Arc::new(Counters::alone(2))).expect("a thread");
        }
        // Several clients, so that the kernel gives both workers something to do.
        let clients: Vec<_> = (0..16)
            .map(|_| {
                let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                client.connect(("127.0.0.1", port)).expect("an address");
                client.set_read_timeout(Some(Duration::from_secs(10))).expect("possible");
                client
            })
            .collect();
        let questions = questions();
        for client in &clients {
            ask(client, &questions, 10 * WINDOW);
        }
        let region = Region::new(ALLOCATOR);
        for client in &clients {
            ask(client, &questions, QUERIES / 2 / clients.len());
        }
        assert_eq!(region.change(), Stats::default(), "{listen}");
        assert!(workers.stop());
    }
}
