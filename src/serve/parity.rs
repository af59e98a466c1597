//! The two ways to answer a message, held to each other ([`check`]).
//!
//! Octets from anywhere (a property test, a fuzzer) become a table, settings and messages. Both paths answer each
//! of the messages from that table; their replies must keep the rules of chapter D that need no table to
//! check, and say the same. What may differ is in [`compare`].

pub(crate) mod edns;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use hickory_server::net::xfer::Protocol;
use hickory_server::server::Request;

use super::access::Access;
use super::cookies::{Cookies, Secrets, is_malformed};
use super::fixture::{SERIAL, host, render};
use super::hickory::Handler;
use super::responder::{Arrival, Guard, MAX_RDATA, Outcome, Responder, Settings};
use crate::metrics::{CookieKind, Counters};
use crate::testing::Octets;
use crate::wire::name::{self, MAX_LABEL, MAX_WIRE, Name};
use crate::wire::query::{self, Edns, HEADER, Query, Unanswerable};
use crate::wire::reply::{self, MAX_NSID, TCP_LIMIT, UDP_PAYLOAD};
use crate::wire::{CLASS_IN, Transport, rtype};
use crate::zone::answer::{Answers, Family};
use crate::zone::extra::{self, Extra, Service};
use crate::zone::{Table, Zones, reverse};

/// With so many zeros in front, octets are one message over UDP, as it is, to a fixed table.
pub const PLAIN: usize = 13;

/// Labels few enough for names to meet.
const LABELS: [&str; 8] = ["a", "b", "c", "eu", "global", "x-1", "_tcp", "A"];
const ZONES: [&str; 4] = ["global", "eu.global", "deep.er.global", "c2"];
/// Networks whose addresses are those that hosts have.
const REVERSE: [&str; 2] = ["240.0.0.0/16", "2001:db8::/32"];
const NUMBERS: [u16; 16] = [
    rtype::A,
    rtype::AAAA,
    rtype::ANY,
    rtype::SOA,
    rtype::NS,
    rtype::DS,
    rtype::IXFR,
    rtype::AXFR,
    rtype::OPT,
    rtype::MAILA,
    rtype::MAILB,
    5,
    rtype::TXT,
    rtype::SRV,
    rtype::PTR,
    65,
];

/// A server and the names its messages may ask for.
struct Scene {
    responder: Arc<Responder>,
    apexes: Vec<Name>,
    hosts: Vec<Name>,
}

impl Scene {
    fn draw(octets: &mut Octets<'_>) -> Scene {
        let fixed = octets.below(4) == 0;
        let switches = octets.octet();
        let settings = Settings {
            nsid: vec![b'n'; octets.pick(&[0, 5, MAX_NSID])],
            ttl: 1 + u32::from(octets.u16()) % 3600,
            negative_ttl: u32::from(octets.u16()) % 301,
            rotate: switches & 1 != 0,
        };
        let count = octets.pick(&[0, 1, 2, 3, 20, 60]);
        let advertised = addresses(octets, count);
        let (zones, hosts) = if fixed { fixed_names() } else { any_names(octets) };
        let apexes: Vec<_> = zones.iter().map(|zone| Name::parse(zone).expect(zone)).collect();
        let cluster_domain = Name::parse("cluster.local").expect("valid");
        let mut zones = Zones::new(apexes.clone(), cluster_domain, SERIAL).expect("valid zones");
        let has_further = switches & 0x80 != 0;
        if has_further {
            zones = zones.with_reverse(reverse_zones(), SERIAL).expect("beside the others");
        }
        let table = Table::new(zones);
        let mut names = Vec::new();
        for (number, (text, answers)) in hosts.into_iter().enumerate() {
            let host = host(&text);
            if !has_further {
                table.set(&host, answers, None, SERIAL + 1);
                names.push(host.name);
                continue;
            }
            // What is asked for beside the host; a name of an address, one above it, and the host's own.
            let last = answers.as_ref().and_then(|answers| {
                let of = |family| answers.view().addresses(family).last();
                of(Family::V4).or(of(Family::V6))
            });
            let answers = answers.map(|answers| answers.with_extra(beside(number)));
            table.set(&host, answers, None, SERIAL + 1);
            let pointer = last.map(reverse::name_of);
            let above = pointer.as_ref().and_then(|name| name::parent(name.wire())).map(Name::from_tail);
            let services = ["_tcp", "_udp"].iter().flat_map(|protocol| {
                let above = host.name.prepend(protocol);
                [above.prepend("_http"), above.prepend("_a"), above]
            });
            names.extend(services.filter(|name| name.wire().len() <= MAX_WIRE));
            names.extend(pointer.into_iter().chain(above));
            names.push(host.name);
        }
        if switches & 0x0e != 0x0e {
            table.set_complete();
        }
        let responder = Responder::new(Arc::new(table), settings, advertised).guarded(guard(switches));
        let responder = Arc::new(responder);
        Scene { responder, apexes, hosts: names }
    }
}

fn reverse_zones() -> Vec<Name> {
    let networks: Vec<_> = REVERSE.iter().map(|network| network.parse().expect(network)).collect();
    reverse::zones(&networks).expect("legal networks")
}

/// None, a little or much beside addresses.
fn beside(number: usize) -> Option<Arc<Extra>> {
    let long = "x".repeat(number * 40);
    let services = [
        ("http", extra::Protocol::Tcp, 80),
        ("http", extra::Protocol::Tcp, 8080),
        ("a", extra::Protocol::Udp, 53),
    ];
    let many = (0..200).map(|port| ("http", extra::Protocol::Udp, 1000 + port));
    let services = services.into_iter().take(number % 4).chain(many.filter(|_| number % 5 == 4));
    let services = services.filter_map(|(name, protocol, port)| Service::new(name, protocol, port));
    Extra::new(services, (0..number * 2).map(|entry| format!("ns/{entry}{long}")))
}

/// What is asked of clients: replies are not counted (D20), since the paths answer one after the other.
fn guard(switches: u8) -> Guard {
    let network = |text: &str| [text.parse().expect(text)];
    let cookies = (switches & 0x10 != 0).then(|| Arc::new(Cookies::new(secrets())));
    let access = match switches & 0x60 {
        0x60 => Access::new(&network("192.0.2.0/24"), &[]),
        0x40 => Access::new(&[], &network("192.0.2.0/25")),
        _ => None,
    };
    Guard { cookies, limiter: None, access }
}

fn secrets() -> Secrets {
    Secrets::new([1; 16], &[[2; 16]])
}

/// So many addresses of one family, the other or both.
fn addresses(octets: &mut Octets<'_>, count: usize) -> Vec<IpAddr> {
    if count == 0 {
        return Vec::new();
    }
    let families = octets.below(4);
    (0..count)
        .map(|i| {
            let [high, low] = (i as u16).to_be_bytes();
            let v4 = families < 2 || families == 3 && octets.octet() & 1 == 0;
            if v4 { [240, 0, high, low].into() } else { [0x2001, 0xdb8, 0, 0, 0, 0, 0, i as u16].into() }
        })
        .collect()
}

type Names = (Vec<String>, Vec<(String, Option<Answers>)>);

fn fixed_names() -> Names {
    let v4 = |n: u8| (0..n).map(|i| IpAddr::from([240, 0, 0, i]));
    let v6 = |n: u16| (0..n).map(|i| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, i]));
    let hosts = [
        ("a.global", v4(1).collect::<Vec<_>>()),
        ("b.global", v6(1).collect()),
        ("c.b.a.global", v4(2).chain(v6(2)).collect()),
        ("many.global", v4(100).chain(v6(60)).collect()),
        ("*.a.global", v4(3).collect()),
        ("*.eu.global", v6(3).collect()),
        ("a._probe-b.global", v4(1).collect()),
        ("c2", v4(1).collect()),
    ];
    let hosts = hosts.map(|(host, addresses)| (host.to_owned(), Answers::new(&addresses, 30)));
    (ZONES.map(str::to_owned).to_vec(), hosts.to_vec())
}

fn any_names(octets: &mut Octets<'_>) -> Names {
    let label = |octets: &mut Octets<'_>| octets.pick(&LABELS).to_owned();
    let zones: Vec<String> = (0..1 + octets.below(4))
        .map(|_| match octets.below(8) {
            0..4 => octets.pick(&ZONES).to_owned(),
            // With hostmaster in front, the longest there is.
            7 => {
                let label = "z".repeat(MAX_LABEL);
                [&label, &label, &label, &label[..MAX_WIRE - 12 - 3 * 64 - 1]].join(".").to_owned()
            }
            _ => (0..1 + octets.below(3)).map(|_| label(octets)).collect::<Vec<_>>().join("."),
        })
        .collect();
    let mut hosts = Vec::new();
    for _ in 0..octets.below(13) {
        let mut labels: Vec<_> = (0..octets.below(4)).map(|_| label(octets)).collect();
        // One in eight is outside every zone, or in another than it seems.
        labels.push(if octets.one_in(8) { label(octets) } else { zones[octets.below(zones.len())].clone() });
        let name = labels.join(".");
        let wildcard = if octets.one_in(4) { "*." } else { "" };
        if Name::parse(&name).is_err() {
            continue;
        }
        let count = match octets.octet() {
            255 => 6000,
            n => [0, 1, 1, 2, 3, 20, 45, 90][usize::from(n) % 8],
        };
        let ttl = 1 + u32::from(octets.u16()) % 3600;
        hosts.push((format!("{wildcard}{name}"), Answers::new(&addresses(octets, count), ttl)));
    }
    (zones, hosts)
}

fn arrival(octets: &mut Octets<'_>) -> Arrival {
    let transport = if octets.one_in(4) { Transport::Tcp } else { Transport::Udp };
    let peers = ["192.0.2.1:4000", "[2001:db8::1]:4000", "[::ffff:192.0.2.1]:1"];
    let peer: SocketAddr = match octets.below(16) {
        15 => "192.0.2.1:0",
        n => peers[n % 3],
    }
    .parse()
    .expect("valid");
    let local = octets.pick(&["192.0.2.53", "2001:db8::53", "::ffff:192.0.2.53", "0.0.0.0", "::"]);
    Arrival::new(transport, peer, local.parse().expect("valid"), SERIAL)
}

/// A message, and whether it is a query for certain.
fn message(octets: &mut Octets<'_>, scene: &Scene, arrival: Arrival) -> (Vec<u8>, bool) {
    match octets.below(16) {
        0 | 8 => return (octets.rest().to_vec(), false),
        15 => return (cookie_request(octets, arrival), false),
        _ => {}
    }
    let mut message = valid_query(octets, scene, arrival);
    if !octets.one_in(3) {
        return (message, true);
    }
    for _ in 0..octets.below(4) {
        // The header and the beginning of the question are the most interesting.
        let at = if octets.one_in(2) { usize::from(octets.u16()) } else { octets.below(16) };
        let at = at % message.len();
        message[at] = octets.octet();
    }
    match octets.below(4) {
        2 => message.truncate(usize::from(octets.u16()) % message.len()),
        3 => {
            let more = octets.below(20);
            message.extend(octets.many(more));
        }
        _ => {}
    }
    (message, false)
}

/// No question, and a cookie.
fn cookie_request(octets: &mut Octets<'_>, arrival: Arrival) -> Vec<u8> {
    let mut message = octets.many(2);
    message.extend([octets.octet() & 0x07, octets.octet(), 0, 0, 0, 0, 0, 0, 0, 1]);
    let cookie = cookie(octets, arrival);
    let option = [[0, 10], (cookie.len() as u16).to_be_bytes()].concat();
    record(&mut message, &[0], rtype::OPT, 1232, [0; 4], &[option, cookie].concat());
    if octets.one_in(4) {
        other_record(octets, &mut message);
    }
    message
}

/// What a COOKIE option may hold: a good cookie, one of each kind that is not, and anything.
fn cookie(octets: &mut Octets<'_>, arrival: Arrival) -> Vec<u8> {
    let client = octets.many(8);
    let made = SERIAL - octets.pick(&[0, 1801, 3601]);
    let made_by = if octets.one_in(4) { Secrets::new([2; 16], &[]) } else { secrets() };
    let good = Cookies::new(made_by).judge(&client, arrival.peer.ip(), made);
    match (octets.below(4), good.reply) {
        (0 | 1, Some(good)) => good.to_vec(),
        (2, _) => client,
        _ => {
            let length = octets.pick(&[0, 7, 9, 15, 16, 23, 24, 40, 41]);
            octets.many(length)
        }
    }
}

fn valid_query(octets: &mut Octets<'_>, scene: &Scene, arrival: Arrival) -> Vec<u8> {
    let mut message = octets.many(2);
    // Whatever a query's header says beside QR and opcode is no reason not to answer it.
    message.extend([octets.octet() & 0x07, octets.octet(), 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(question_name(octets, scene));
    let qtype = if octets.one_in(8) { octets.u16() } else { octets.pick(&NUMBERS) };
    let qclass = if octets.one_in(16) { octets.u16() } else { CLASS_IN };
    message.extend([qtype, qclass].map(u16::to_be_bytes).as_flattened());
    if qtype == rtype::IXFR && octets.one_in(2) {
        message[9] = 1;
        record(&mut message, &[0xc0, 0x0c], rtype::SOA, CLASS_IN, [0; 4], &[0; 22]);
    }
    let (before, opt, after) = match octets.below(8) {
        0..3 => (0, false, 0),
        3..6 => (0, true, 0),
        6 => (octets.below(3), true, octets.below(3)),
        _ => (octets.below(3), false, 0),
    };
    for _ in 0..before {
        other_record(octets, &mut message);
    }
    if opt {
        let size = octets.pick(&[0, 512, 513, 700, 1232, 4096, u16::MAX]).wrapping_add(octets.u16() % 40);
        let version = u8::from(octets.one_in(16));
        let mut options = Vec::new();
        for _ in 0..octets.below(3) {
            let code = if octets.one_in(2) { octets.u16() } else { octets.pick(&[3, 3, 8, 10, 10, 15]) };
            let data = match code {
                Edns::COOKIE => cookie(octets, arrival),
                _ => {
                    let length = octets.below(12);
                    octets.many(length)
                }
            };
            options.extend([code, data.len() as u16].map(u16::to_be_bytes).as_flattened());
            options.extend(data);
        }
        let flags = [octets.octet(), version, octets.octet(), octets.octet()];
        message[11] += 1;
        record(&mut message, &[0], rtype::OPT, size, flags, &options);
    }
    for _ in 0..after {
        other_record(octets, &mut message);
    }
    message
}

/// A record nothing here acts on.
fn other_record(octets: &mut Octets<'_>, message: &mut Vec<u8>) {
    message[11] += 1;
    let owner = octets.pick(&[&[0][..], &[0xc0, 0x0c], &[1, b'x', 0]]);
    match octets.below(4) {
        0 => record(message, owner, 16, CLASS_IN, [0; 4], &[1, b'a']),
        1 => record(message, owner, rtype::A, CLASS_IN, [0; 4], &[192, 0, 2, 1]),
        2 => record(message, owner, 65280, CLASS_IN, [0; 4], &[1, 2, 3]),
        _ => {
            // Well formed on the outside; hickory may find the data broken.
            let (number, data) = (octets.u16(), octets.below(24));
            let number = if number == rtype::OPT { rtype::A } else { number };
            let data = octets.many(data);
            record(message, owner, number, octets.u16(), [0; 4], &data);
        }
    }
}

fn record(message: &mut Vec<u8>, owner: &[u8], number: u16, class: u16, ttl: [u8; 4], data: &[u8]) {
    message.extend(owner);
    message.extend([number, class].map(u16::to_be_bytes).as_flattened());
    message.extend(ttl);
    message.extend((data.len() as u16).to_be_bytes());
    message.extend(data);
}

/// A name that is likely to be in the table, above or below one that is, or to look like it.
fn question_name(octets: &mut Octets<'_>, scene: &Scene) -> Vec<u8> {
    let apex = scene.apexes[octets.below(scene.apexes.len())].wire();
    let host = match scene.hosts.len() {
        0 => apex,
        n => scene.hosts[octets.below(n)].wire(),
    };
    let mut name = match octets.below(8) {
        0..3 => host.to_vec(),
        3..5 => apex.to_vec(),
        5 => match octets.below(4) {
            0..2 => [b"\x02ns\x03dns", apex].concat()[3 * octets.below(2)..].to_vec(),
            _ => {
                let labels =
                    [&b"\x08_probe-b"[..], b"\x08_probe-b", b"\x07_probe-", b"\x0b_Probe-\x00.\xff?"];
                [octets.pick(&labels), apex].concat()
            }
        },
        6 => [&host[..host.len() - 1], octets.pick(&[apex, b"\x07cluster\x05local\x00"])].concat(),
        _ => octets
            .pick(&[&b"\x00"[..], b"\x03com\x00", b"\x03svc\x07cluster\x05local\x06global\x00"])
            .to_vec(),
    };
    let below: Vec<Vec<u8>> = match octets.below(8) {
        5 => (0..1 + octets.below(3)).map(|_| octets.pick(&LABELS).as_bytes().to_vec()).collect(),
        // Up to the longest name there is.
        6 => {
            let room = MAX_WIRE.saturating_sub(name.len());
            let last = (room % (MAX_LABEL + 1)).saturating_sub(1);
            let mut labels = vec![vec![b'l'; MAX_LABEL]; room / (MAX_LABEL + 1)];
            labels.extend((last > 0).then(|| vec![b'l'; last - octets.below(2).min(last - 1)]));
            labels
        }
        7 => {
            let size = 1 + octets.below(MAX_LABEL);
            vec![octets.many(size)]
        }
        4 => {
            name.drain(..(1 + usize::from(name[0])) % name.len());
            Vec::new()
        }
        _ => Vec::new(),
    };
    for label in below {
        if name.len() + 1 + label.len() <= MAX_WIRE {
            name.splice(..0, [&[label.len() as u8], &label[..]].concat());
        }
    }
    while name.len() > MAX_WIRE {
        name.drain(..1 + usize::from(name[0]));
    }
    if octets.one_in(4) {
        let upper = octets.octet() | 1;
        let mut at = 0;
        while name[at] != 0 {
            let end = at + 1 + usize::from(name[at]);
            for (i, octet) in name[at + 1..end].iter_mut().enumerate() {
                if upper >> (i % 8) & 1 != 0 {
                    octet.make_ascii_uppercase();
                }
            }
            at = end;
        }
    }
    name
}

/// Draws a table and messages from octets and holds both paths to each other; panics where they break a rule.
///
/// Returns what the byte path said to each message, as [`render`] has it; `None` is silence.
pub fn check(octets: &[u8]) -> Vec<Option<Vec<String>>> {
    let mut octets = Octets::new(octets);
    let scene = Scene::draw(&mut octets);
    let mut said = Vec::new();
    while said.is_empty() || !octets.is_empty() && said.len() < 4 {
        let arrival = arrival(&mut octets);
        let turn = octets.octet();
        let (message, is_query) = message(&mut octets, &scene, arrival);
        if is_query {
            assert!(query::parse(&message).is_ok(), "{message:?} was not understood");
        }
        said.push(compare(&scene.responder, &message, arrival, turn));
    }
    said
}

/// Counters that have reached a turn of the rotation.
fn counters(responder: &Responder, turn: u8) -> Counters {
    let counters = Counters::new(responder.table().zones().count());
    for _ in 0..turn {
        counters.turn(1);
    }
    counters
}

/// Both paths on one message; see [`check`].
///
/// They may differ in this, and in nothing else:
///
/// - A message that hickory cannot decode is FORMERR on the general path, though we have understood it (D11).
/// - hickory spells some owners out where we point at the question, so near the size limit fewer records fit (D13). It
///   shortens the names in PTR records, which we spell out, so there more may fit.
/// - The owner of glue is a pointer there and two labels with a pointer here, so more glue may fit there (D17).
fn compare(responder: &Arc<Responder>, message: &[u8], arrival: Arrival, turn: u8) -> Option<Vec<String>> {
    let room = match arrival.transport {
        Transport::Udp => UDP_PAYLOAD,
        _ => TCP_LIMIT,
    };
    let understood = responder.understand(message, arrival);
    let mut out = vec![0xaa; usize::from(room)];
    let byte_counters = counters(responder, turn);
    let mut outcome = responder.respond(message, arrival, &byte_counters, &mut out);
    if outcome == Outcome::Declined {
        let Ok(query) = &understood else { panic!("{message:?} was declined but not understood") };
        assert!(!query.plain, "{message:?} was declined");
        outcome = responder.answer_declined(query, arrival, &byte_counters, &mut out);
    }
    let byte = taken(out, outcome);
    let general_counters = Arc::new(counters(responder, turn));
    let handler = Handler::new(responder.clone(), general_counters.clone());
    let mut out = vec![0x55; usize::from(room)];
    let outcome = handler.respond(message, arrival, &mut out);
    let general = taken(out, outcome);

    // D11: exactly these get no reply.
    let silent = message.len() < HEADER || message[2] & 0x80 != 0 || arrival.peer.port() == 0;
    assert_eq!((byte.is_none(), general.is_none()), (silent, silent), "silence on {message:?}");
    let (Some(byte), Some(general)) = (byte, general) else {
        assert_eq!(byte_counters.tally(), general_counters.tally());
        return None;
    };
    let [said, general_said] =
        [&byte, &general].map(|reply| keeps_the_rules(responder, message, reply, &understood, arrival));
    let protocol = if arrival.transport == Transport::Udp { Protocol::Udp } else { Protocol::Tcp };
    if Request::from_bytes(message.to_vec(), arrival.peer, protocol).is_err() {
        match understood {
            Ok(_) => assert!(general_said[0].starts_with("FORMERR "), "{general_said:?}"),
            Err(_) => assert_eq!(byte, general),
        }
        return Some(said);
    }
    if said != general_said {
        let Ok(query) = &understood else { panic!("{said:#?}\n{general_said:#?}\nto {message:?}") };
        let limit = usize::from(reply::limit(arrival.transport, query.edns));
        another_number_fits(&said, &general_said);
        // One more record, which at its longest is a diagnosis with its owner spelled out, would have been too much.
        let one_more = query.name().len() + 10 + MAX_RDATA;
        let fewer = if general_said.len() < said.len() { &general } else { &byte };
        assert!(fewer.len() + one_more > limit, "{said:#?}\n{general_said:#?}");
    }
    let truncated = |lines: &[String]| u64::from(lines[0].contains(" tc"));
    let (byte_tally, general_tally) = (byte_counters.tally(), general_counters.tally());
    assert_eq!(byte_tally.0, general_tally.0, "counted for {message:?}");
    assert_eq!((byte_tally.1, general_tally.1), (truncated(&said), truncated(&general_said)));
    Some(said)
}

fn taken(mut out: Vec<u8>, outcome: Outcome) -> Option<Vec<u8>> {
    match outcome {
        Outcome::Reply(length) => {
            out.truncate(length);
            Some(out)
        }
        Outcome::Silence => None,
        Outcome::Declined => panic!("neither a reply nor silence"),
    }
}

/// A reply decodes to its end, is within its limit, its header, question and OPT are those D1 and D12 ask for, and its
/// cookie is that of D19.
fn keeps_the_rules(
    responder: &Responder,
    message: &[u8],
    reply: &[u8],
    understood: &Result<Query<'_>, Unanswerable<'_>>,
    arrival: Arrival,
) -> Vec<String> {
    let (question, edns) = match understood {
        Ok(query) => (query.question, query.edns),
        Err(Unanswerable::Refuse(refusal)) => (refusal.question, refusal.edns),
        Err(Unanswerable::Silence | Unanswerable::Cookie(..)) => panic!("a reply to {message:?}"),
    };
    assert!(reply.len() <= usize::from(reply::limit(arrival.transport, edns)), "too long: {reply:?}");
    assert_eq!(reply[..2], message[..2], "the id");
    // QR; opcode and RD as in the query; AA and TC are left.
    assert_eq!(reply[2] & 0xf9, 0x80 | message[2] & 0x79, "the header of {reply:?}");
    assert_eq!(reply[3] & 0xf0, 0, "RA, Z, AD and CD of {reply:?}");
    assert_eq!(reply[4..6], [0, u8::from(!question.is_empty())], "the number of questions of {reply:?}");
    assert!(reply[HEADER..].starts_with(question), "the question of {reply:?}");
    let mut decoder = BinDecoder::new(reply);
    assert!(Message::read(&mut decoder).is_ok() && decoder.is_empty(), "{reply:?} does not decode");
    let said = render(reply);
    let positive = ["NOERROR ", "NXDOMAIN "].iter().any(|code| said[0].starts_with(code));
    // What asks for a cookie alone gets no answer that could be authoritative.
    let positive = positive && !question.is_empty();
    assert_eq!(said[0].contains(" aa"), positive, "{said:?}");
    assert_eq!(said.last().is_some_and(|line| line.starts_with("OPT ")), edns.is_some(), "{said:?}");
    keeps_the_rules_of_cookies(responder, edns, &said, arrival);
    said
}

fn keeps_the_rules_of_cookies(
    responder: &Responder,
    edns: Option<Edns<'_>>,
    said: &[String],
    arrival: Arrival,
) {
    let given = said.last().and_then(|line| line.split_once(" cookie=")?.1.split(' ').next());
    let sent = edns.and_then(|edns| edns.cookie).filter(|cookie| !is_malformed(cookie));
    let (Some(cookies), Some(sent)) = (&responder.guard().cookies, sent) else {
        assert_eq!(given, None, "{said:?}");
        return;
    };
    let given = given.unwrap_or_else(|| panic!("no cookie in {said:?}")).as_bytes().chunks(2);
    let octet = |hex: &[u8]| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok();
    let given: Vec<u8> = given.filter_map(octet).collect();
    assert_eq!(given[..8], sent[..8], "the client's cookie in {said:?}");
    let judged = cookies.judge(&given, arrival.peer.ip(), arrival.at);
    assert_eq!((judged.kind, judged.reply), (CookieKind::Valid, given[..].try_into().ok()), "{said:?}");
}

/// The same but for records at the ends of sections; TC on the path that has fewer if they are no glue.
fn another_number_fits(byte: &[String], general: &[String]) {
    let context = || format!("{byte:#?}\n{general:#?}");
    let section = |lines: &[String], mark: &str| -> Vec<String> {
        lines[1..].iter().filter(|line| line.starts_with(mark)).cloned().collect()
    };
    let (mut fewer, mut more) = (general, byte);
    let mut missing = false;
    for mark in ["=", "~"] {
        let (of_byte, of_general) = (section(byte, mark), section(general, mark));
        let points = of_general.iter().any(|line| line.contains(" PTR "));
        if points && of_byte.len() < of_general.len() {
            (fewer, more) = (byte, general);
            assert!(of_general.starts_with(&of_byte), "{}", context());
        } else {
            assert!(of_byte.starts_with(&of_general), "{}", context());
        }
        missing |= of_general.len() != of_byte.len();
    }
    let glue = [byte, general].map(|reply| section(reply, "+"));
    assert!(glue[0].starts_with(&glue[1]) || glue[1].starts_with(&glue[0]), "{}", context());
    assert_eq!(section(byte, "OPT"), section(general, "OPT"), "{}", context());
    assert_eq!(byte[0].replace(" tc", ""), general[0].replace(" tc", ""), "{}", context());
    assert_eq!(fewer[0].contains(" tc"), missing || more[0].contains(" tc"), "{}", context());
}

#[cfg(test)]
mod tests;
