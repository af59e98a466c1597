use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::*;
use crate::serve::fixture::{Fixture, host, query, render, settings, table};
use crate::serve::listen::{self, Listener};
use crate::zone::answer::Answers;

/// Sockets that are bound and a responder that knows `echo.global`; nobody answers yet.
struct Server {
    sockets: Vec<UdpSocket>,
    at: SocketAddr,
    responder: Arc<Responder>,
}

/// Workers that answer, with the counters of each.
struct Serving {
    at: SocketAddr,
    workers: Workers,
    counters: Vec<Arc<Counters>>,
}

impl Server {
    fn bind(listen: &str, workers: usize) -> Server {
        let address = listen.parse().expect("an address");
        let Listener { udp, .. } = listen::dns(address, false, workers).expect("a free port");
        let at = udp[0].local_addr().expect("bound");
        let table = table(&["global"], &[("echo.global", vec![IpAddr::from([240, 0, 0, 1])])]);
        Server { sockets: udp, at, responder: Fixture::new(table, settings(), &[]).responder }
    }

    fn start(self) -> Serving {
        let mut workers = Workers::default();
        let mut counters = Vec::new();
        for socket in self.sockets {
            let own = Arc::new(Counters::alone(1));
            workers.start(socket, self.responder.clone(), own.clone()).expect("a thread");
            counters.push(own);
        }
        Serving { at: self.at, workers, counters }
    }
}

impl Serving {
    fn replies(&self) -> Vec<u64> {
        self.counters.iter().map(|counters| counters.replies()).collect()
    }
}

/// A socket that takes replies from that address alone.
fn client(server: SocketAddr) -> UdpSocket {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a socket");
    socket.connect(server).expect("an address");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("possible");
    socket
}

fn reply(client: &UdpSocket) -> Vec<u8> {
    let mut reply = vec![0; 65_535];
    let length = client.recv(&mut reply).expect("a reply in time");
    reply.truncate(length);
    reply
}

fn ask(server: SocketAddr, question: &str) -> Vec<String> {
    let client = client(server);
    client.send(&query(question).0).expect("sent");
    render(&reply(&client))
}

/// `echo.global A` with an id.
fn numbered(id: u16) -> Vec<u8> {
    let (mut message, _) = query("echo.global A");
    message[..2].copy_from_slice(&id.to_be_bytes());
    message
}

fn has_ipv6() -> bool {
    UdpSocket::bind("[::1]:0").is_ok()
}

/// Sends as nobody can answer: from port 0. False where that takes rights we lack.
fn send_from_port_0(server: SocketAddr, message: &[u8]) -> bool {
    let Ok(raw) = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::UDP)) else {
        println!("skipped: a raw socket needs CAP_NET_RAW");
        return false;
    };
    let length = u16::try_from(8 + message.len()).expect("a small message");
    let header = [0, server.port(), length, 0].map(u16::to_be_bytes);
    let datagram = [header.as_flattened(), message].concat();
    raw.send_to(&datagram, &SockAddr::from(server)).expect("sent");
    true
}

const ECHO: [&str; 2] = ["NOERROR qr aa rd", "= echo.global. 30 A 240.0.0.1"];

/// [D16] [D5]
#[test]
fn a_reply_leaves_from_where_the_query_arrived() {
    let mut cases = vec![("127.0.0.1:0", vec!["127.0.0.1"]), ("127.0.0.7:0", vec!["127.0.0.7"])];
    cases.push(("0.0.0.0:0", vec!["127.0.0.1", "127.0.0.5", "127.9.8.7"]));
    if has_ipv6() {
        cases.push(("[::1]:0", vec!["::1"]));
        cases.push(("[::]:0", vec!["::1", "127.0.0.1", "127.0.0.5"]));
    }
    for (listen, addresses) in cases {
        let serving = Server::bind(listen, 1).start();
        for address in addresses {
            let ip: IpAddr = address.parse().expect("an address");
            let server = SocketAddr::new(ip, serving.at.port());
            assert_eq!(ask(server, "echo.global A"), ECHO, "{listen} {address}");
            let rtype = if ip.is_ipv4() { "A" } else { "AAAA" };
            let expected = ["NOERROR qr aa rd".to_owned(), format!("= ns.dns.global. 30 {rtype} {address}")];
            assert_eq!(ask(server, &format!("ns.dns.global {rtype}")), expected, "{listen} {address}");
        }
        assert!(serving.workers.stop());
    }
}

/// [D11] [D12]
#[test]
fn no_message_is_too_long_to_be_read_to_its_end() {
    let serving = Server::bind("127.0.0.1:0", 1).start();
    let client = client(serving.at);
    // The largest datagram there is over IPv4.
    let mut message = numbered(1);
    message.resize(65_507, 0);
    client.send(&message).expect("sent");
    assert_eq!(render(&reply(&client)), ["FORMERR qr rd"]);
    // As long, but nothing is wrong with it: an option we do not know fills it.
    let (mut message, _) = query("echo.global A +udp=1232");
    let padding = 65_507 - message.len();
    let rdlength = message.len() - 2;
    message[rdlength..].copy_from_slice(&(padding as u16).to_be_bytes());
    message.extend([0xff, 0xfe]);
    message.extend((padding as u16 - 4).to_be_bytes());
    message.resize(65_507, 0);
    client.send(&message).expect("sent");
    assert_eq!(render(&reply(&client)), [ECHO[0], ECHO[1], "OPT 1232"]);
}

/// [D11]
#[test]
fn what_deserves_no_reply_gets_none_and_holds_up_nothing() {
    let server = Server::bind("127.0.0.1:0", 1);
    let client = client(server.at);
    let mut response = numbered(1);
    response[2] |= 0x80;
    // All in one batch: nobody is answering yet.
    for message in [&b""[..], &b"short"[..], &response, &numbered(2)] {
        client.send(message).expect("sent");
    }
    send_from_port_0(server.at, &numbered(3));
    client.send(&numbered(4)).expect("sent");
    let serving = server.start();
    assert_eq!([(); 2].map(|()| reply(&client)[1]), [2, 4]);
    let counters = serving.counters[0].clone();
    assert!(serving.workers.stop());
    assert_eq!(counters.replies(), 2);
}

/// [D1]
#[test]
fn every_datagram_of_many_batches_gets_its_own_reply() {
    let server = Server::bind("127.0.0.1:0", 1);
    let client = client(server.at);
    let count = 2 * batch::SLOTS as u16 + 5;
    for id in 0..count {
        client.send(&numbered(id)).expect("sent");
    }
    let serving = server.start();
    for id in 0..count {
        let reply = reply(&client);
        assert_eq!(reply[..2], id.to_be_bytes());
        assert_eq!(render(&reply), ECHO);
    }
    assert_eq!(serving.replies(), [u64::from(count)]);
}

/// [D16]
#[test]
fn peers_that_are_gone_hold_up_nobody() {
    let server = Server::bind("127.0.0.1:0", 1);
    for id in 0..10 {
        client(server.at).send(&numbered(id)).expect("sent");
    }
    let serving = server.start();
    for _ in 0..10 {
        assert_eq!(ask(serving.at, "echo.global A"), ECHO);
    }
}

/// [D16]
#[test]
fn a_reply_that_cannot_be_sent_is_dropped_alone() {
    let Server { sockets, at, .. } = Server::bind("0.0.0.0:0", 1);
    let at = SocketAddr::new([127, 0, 0, 1].into(), at.port());
    let clients = [client(at), client(at)];
    clients[0].send(b"first").expect("sent");
    if !send_from_port_0(at, b"second") {
        return;
    }
    clients[1].send(b"third").expect("sent");
    let (mut calls, mut buffers, mut outbox) = (Calls::new(true), Buffers::new(), Outbox::new());
    assert_eq!(calls.receive(&sockets[0], &mut buffers).expect("received"), 3);
    let (messages, rooms) = buffers.exchange();
    for (slot, out) in (0..3).zip(rooms) {
        let datagram = calls.datagram(slot).expect("a datagram");
        assert_eq!(datagram.local, Some(at.ip()));
        out[..datagram.length].copy_from_slice(messages.get(slot, datagram.length));
        outbox.push(Reply { slot, length: datagram.length });
    }
    assert_eq!(outbox.deliver(|rest| calls.send(&sockets[0], &buffers, rest)), 1);
    assert_eq!(clients.each_ref().map(reply), [b"first".to_vec(), b"third".to_vec()]);
}

/// [L5]
#[test]
fn a_stop_answers_what_is_queued_and_wakes_who_waits() {
    for queued in [0, 1, 3 * batch::SLOTS as u16] {
        let server = Server::bind("127.0.0.1:0", 2);
        let client = client(server.at);
        for id in 0..queued {
            client.send(&numbered(id)).expect("sent");
        }
        let serving = server.start();
        assert!(serving.workers.stop(), "every worker ends");
        client.set_nonblocking(true).expect("possible");
        let mut replies = 0;
        while client.recv(&mut [0; 512]).is_ok() {
            replies += 1;
        }
        assert_eq!(replies, queued);
    }
    // Nobody was ever asked for anything.
    assert!(Workers::default().stop());
}

/// [L1]
#[test]
fn the_kernel_spreads_clients_over_workers_and_lets_nobody_else_join_them() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let serving = Server::bind(listen, 2).start();
        for workers in [1, 2] {
            assert!(listen::dns(serving.at, false, workers).is_err(), "the port is taken");
        }
        let server = SocketAddr::new([127, 0, 0, 1].into(), serving.at.port());
        // That all of 64 clients fall to one of two is no chance to think of.
        for _ in 0..64 {
            assert_eq!(ask(server, "echo.global A"), ECHO);
        }
        let replies = serving.replies();
        assert!(replies.iter().all(|n| *n > 0) && replies.iter().sum::<u64>() == 64, "{replies:?}");
    }
}

/// [L9] [D1]
#[test]
fn a_message_that_makes_us_panic_gets_servfail_and_costs_no_other_one_its_answer() {
    for point in ["begin", "finish", "general"] {
        let server = Server::bind("127.0.0.1:0", 1);
        let client = client(server.at);
        // All in one batch, or two: nobody is answering yet.
        let count = batch::SLOTS as u16 + 9;
        let panics = |id: u16| id % 5 == 2;
        for id in 0..count {
            let class = if point == "general" { " +class=CH" } else { "" };
            let (mut message, _) = match panics(id) {
                true => query(&format!("Panic.panic-{point}.global A{class}")),
                false => query("echo.global A"),
            };
            if panics(id) && point == "general" {
                // What the general path is for: a record beyond a lone OPT.
                message[11] = 1;
                message.extend([0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4, 240, 0, 0, 1]);
            }
            message[..2].copy_from_slice(&id.to_be_bytes());
            client.send(&message).expect("sent");
        }
        let before = crate::panics::count(Place::Udp);
        let serving = server.start();
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..count {
            let reply = reply(&client);
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            if panics(id) {
                assert_eq!(render(&reply), ["SERVFAIL qr rd"], "{point} {id}");
                // The question, as it was spelled.
                assert_eq!(reply[12..18], *b"\x05Panic", "{point}");
            } else {
                assert_eq!(render(&reply), ECHO, "{point} {id}");
            }
            assert!(seen.insert(id));
        }
        assert_eq!(serving.replies(), [u64::from(count)]);
        let panicked = (0..count).filter(|id| panics(*id)).count() as u64;
        assert!(crate::panics::count(Place::Udp) >= before + panicked);
        assert!(serving.workers.stop());
    }
}

/// [L9]
#[test]
fn a_panic_while_the_table_is_looked_at_costs_nothing_if_a_second_look_does_not_panic() {
    let serving = Server::bind("127.0.0.1:0", 1).start();
    assert_eq!(ask(serving.at, "panic-sight.global A")[0], "NXDOMAIN qr aa rd");
    assert_eq!(ask(serving.at, "echo.global A"), ECHO);
    assert!(serving.workers.stop());
}

/// [L9] [L5]
#[test]
fn a_worker_that_ends_begins_again_on_its_socket() {
    let serving = Server::bind("127.0.0.1:0", 1).start();
    let restarts = || serving.counters[0].restarts();
    for again in 1..=3 {
        assert_eq!(ask(serving.at, "panic-worker.global A")[0], "NXDOMAIN qr aa rd");
        assert_eq!(ask(serving.at, "echo.global A"), ECHO);
        assert_eq!(restarts(), again);
    }
    let (counters, workers) = (serving.counters[0].clone(), serving.workers);
    assert!(workers.stop(), "and ends when it is told to");
    assert_eq!(counters.restarts(), 3);
}

/// [L3] [D2] Several workers answer while hosts come, change and go: a reply is of before a change or after it, and
/// whole. What they share with the writer is what `tests/sanitize/run` looks at here.
#[test]
fn every_reply_is_of_before_or_after_a_change() {
    let server = Server::bind("127.0.0.1:0", 2);
    let responder = server.responder.clone();
    let table = responder.table();
    let echo = host("echo.global");
    let set = |round: u8| {
        let addresses = [1, 2, 3].map(|n| IpAddr::from([240, 0, round, n]));
        table.set(&echo, Answers::new(&addresses, 1 + u32::from(round)), None, u32::from(round));
    };
    set(0);
    let serving = server.start();
    // One client, until it has met so many states of the host.
    let meet = |states: usize| {
        let client = client(serving.at);
        let mut met = BTreeSet::new();
        while met.len() < states {
            client.send(&numbered(7)).expect("sent");
            let said = render(&reply(&client));
            let ttl = said[1].split(' ').nth(2).and_then(|ttl| ttl.parse::<u8>().ok()).expect("a TTL");
            let records = [1, 2, 3].map(|n| format!("= echo.global. {ttl} A 240.0.{}.{n}", ttl - 1));
            assert_eq!(said[1..], records);
            met.insert(ttl);
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| meet(100))).collect();
        for round in (0..200u8).cycle() {
            set(round);
            // The table grows, and shrinks again.
            for n in 0..20 {
                let other = host(&format!("h{}.x{n}.global", round % 8));
                table.set(&other, Answers::new(&[IpAddr::from([240, 1, n, round])], 30), None, 0);
                table.set(&host(&format!("h{}.x{n}.global", (round + 1) % 8)), None, None, 0);
            }
            serving.replies();
            if clients.iter().all(|client| client.is_finished()) {
                break;
            }
        }
    });
    assert!(serving.workers.stop());
}
