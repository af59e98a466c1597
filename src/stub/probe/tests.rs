use std::io;

use hickory_proto::op::Edns;
use hickory_proto::rr::RecordType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;
use crate::wire::query::HEADER;

/// More than any reply on loopback takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// For what must not come.
const SHORT: Duration = Duration::from_millis(60);
const NOERROR: u8 = Rcode::NoError as u8;
const NXDOMAIN: u8 = Rcode::NxDomain as u8;
/// Octets of a question behind its name.
const TYPE_AND_CLASS: usize = 4;
/// TC in the third octet of a header.
const TRUNCATED: u8 = 0x02;

fn zone() -> Name {
    Name::parse("global").expect("a zone")
}

/// A server of somebody's on UDP, at 127.0.0.1 or another address.
async fn socket(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).await.expect("a free port");
    let address = socket.local_addr().expect("bound");
    (socket, address)
}

/// Answers every datagram with what `replies` makes of it and of how many came before.
fn serve(socket: UdpSocket, replies: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Send + 'static) {
    tokio::spawn(async move {
        let mut query = [0; 512];
        for nth in 0.. {
            let Ok((length, client)) = socket.recv_from(&mut query).await else { return };
            for reply in replies(&query[..length], nth) {
                socket.send_to(&reply, client).await.expect("sent");
            }
        }
    });
}

/// What comes of a probe to a server that replies so.
async fn outcome(replies: impl Fn(&[u8], usize) -> Vec<Vec<u8>> + Send + 'static) -> Outcome {
    let (socket, server) = socket("127.0.0.1:0").await;
    serve(socket, replies);
    ask(server, &zone(), PATIENCE).await
}

/// The header and question of a query as a reply's, with a code and answers.
fn reply(query: &[u8], code: u8, answers: &[&[u8]]) -> Vec<u8> {
    let name = query[HEADER..].iter().position(|octet| *octet == 0).expect("a name") + 1;
    let mut reply = query[..HEADER + name + TYPE_AND_CLASS].to_vec();
    reply[2] = 0x81;
    reply[3] = 0x80 | code;
    reply[6..HEADER].fill(0);
    reply[7] = answers.len() as u8;
    reply.extend(answers.concat());
    reply
}

/// A TXT record with this owner and RDATA.
fn txt(owner: &[u8], rdata: &[u8]) -> Vec<u8> {
    let length = (rdata.len() as u16).to_be_bytes();
    [owner, &[0, 16, 0, 1, 0, 0, 0, 0], &length, rdata].concat()
}

fn proof(query: &[u8]) -> Vec<u8> {
    reply(query, NOERROR, &[&txt(b"\xc0\x0c", b"\x09globaldns\x0einstance=pod-1\x09serial=77")])
}

/// Instance and serial of a proof.
fn proven(outcome: &Outcome) -> Option<(&str, u32)> {
    let Outcome::Proved { proof, elapsed } = outcome else { return None };
    assert!(*elapsed > Duration::ZERO && *elapsed < PATIENCE);
    Some((proof.instance.as_deref().unwrap_or("-"), proof.serial))
}

const PROVEN: Option<(&str, u32)> = Some(("pod-1", 77));

/// [D18]
#[tokio::test]
async fn a_probe_asks_as_a_stub_resolver_does() {
    let (socket, server) = socket("127.0.0.1:0").await;
    assert_eq!(ask(server, &zone(), SHORT).await, Outcome::Failed(client::Failure::NoReply.into()));
    let mut query = [0; 512];
    let length = socket.recv(&mut query).await.expect("a query");
    let message = Message::from_vec(&query[..length]).expect("a query");
    assert!(message.metadata.recursion_desired);
    assert_eq!(message.edns.as_ref().map(Edns::max_payload), Some(1232));
    let [question] = &message.queries[..] else { panic!("{message:?}") };
    assert_eq!(question.query_type(), RecordType::TXT);
    let name = question.name().to_string();
    assert!(name.starts_with("_probe-") && name.ends_with(".global."), "{name}");
}

/// [D18]
#[tokio::test]
async fn our_answer_is_a_proof() {
    assert_eq!(proven(&outcome(|query, _| vec![proof(query)]).await), PROVEN);
    let nameless =
        |query: &[u8], _| vec![reply(query, NOERROR, &[&txt(b"\xc0\x0c", b"\x09globaldns\x08serial=1")])];
    assert_eq!(proven(&outcome(nameless).await), Some(("-", 1)));
    // A resolver on the way may change the case of the name, and add records.
    let shouted = |query: &[u8], _| {
        let mut reply = proof(query);
        reply[HEADER..query.len() - 11 - TYPE_AND_CLASS].make_ascii_uppercase();
        reply[7] = 2;
        vec![[reply, txt(b"\x01x\x00", b"\x01y")].concat()]
    };
    assert_eq!(proven(&outcome(shouted).await), PROVEN);
}

#[tokio::test]
async fn ipv6_servers_are_asked_too() {
    let Ok(socket) = UdpSocket::bind("[::1]:0").await else { return };
    let server = socket.local_addr().expect("bound");
    serve(socket, |query, _| vec![proof(query)]);
    assert_eq!(proven(&ask(server, &zone(), PATIENCE).await), PROVEN);
}

#[tokio::test]
async fn whatever_else_is_answered_is_a_failure_that_says_why() {
    let errors = [
        (2, Failure::ServFail, "SERVFAIL: "),
        (3, Failure::NxDomain, "NXDOMAIN: it does not forward the zone"),
        (4, Failure::Rcode(4), "an error reply with code 4"),
        (5, Failure::Refused, "REFUSED: "),
    ];
    for (code, failure, text) in errors {
        let found = outcome(move |query, _| vec![reply(query, code, &[])]).await;
        assert_eq!(found, Outcome::Failed(failure));
        assert!(failure.to_string().starts_with(text), "{failure}");
    }
    // Some echo no question, but not in what speaks of a name.
    let header = |query: &[u8], code| [&query[..2], &[0x81, code], &[0; 8]].concat();
    let found = outcome(move |query, _| vec![header(query, 0), header(query, 3), header(query, 1)]).await;
    assert_eq!(found, Outcome::Failed(Failure::Rcode(1)));
    let others: [&[Vec<u8>]; 5] = [
        &[],
        &[txt(b"\xc0\x0c", b"\x06domain\x02no")],
        &[txt(b"\x01x\x06global\x00", b"\x09globaldns\x08serial=1")],
        &[b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x1e\x00\x04\xf0\x00\x00\x01".to_vec()],
        // Counted, and not there.
        &[b"\xc0".to_vec()],
    ];
    for answers in others {
        let answers = answers.to_vec();
        let found = outcome(move |query, _| {
            vec![reply(query, NOERROR, &answers.iter().map(Vec::as_slice).collect::<Vec<_>>())]
        });
        assert_eq!(found.await, Outcome::Failed(Failure::WrongAnswer));
    }
}

#[tokio::test]
async fn silence_is_a_failure_after_a_second_query() {
    let (socket, server) = socket("127.0.0.1:0").await;
    assert_eq!(ask(server, &zone(), SHORT).await, Outcome::Failed(client::Failure::NoReply.into()));
    let mut queries = [[0; 512]; 3];
    let mut receive = |nth: usize| socket.try_recv(&mut queries[nth]).ok();
    let lengths = [receive(0), receive(1), receive(2)];
    assert_eq!((lengths[0], lengths[2]), (lengths[1], None));
    assert!(lengths[0].is_some() && queries[0] == queries[1], "the same query, twice");
}

#[tokio::test]
async fn a_reply_to_the_second_query_is_enough() {
    let (socket, server) = socket("127.0.0.1:0").await;
    serve(socket, |query, nth| if nth == 0 { Vec::new() } else { vec![proof(query)] });
    assert_eq!(proven(&ask(server, &zone(), Duration::from_secs(2)).await), PROVEN);
}

#[tokio::test]
async fn a_closed_port_is_told_from_silence() {
    let (socket, server) = socket("127.0.0.1:0").await;
    drop(socket);
    let error = io::ErrorKind::ConnectionRefused;
    let failure = client::Failure::Unreachable { transport: Transport::Udp, error };
    assert_eq!(ask(server, &zone(), PATIENCE).await, Outcome::Failed(failure.into()));
    assert_eq!(failure.to_string(), "it is unreachable over UDP: connection refused");
}

#[tokio::test]
async fn what_cannot_be_sent_is_not_held_against_the_server() {
    // A broadcast needs a right of its own, and a name longer than 255 octets has no wire form.
    let broadcast = ask("255.255.255.255:53".parse().expect("an address"), &zone(), PATIENCE).await;
    assert!(
        matches!(broadcast, Outcome::Failed(Failure::Silent(client::Failure::Unasked(_)))),
        "{broadcast:?}"
    );
    let label = "z".repeat(63);
    let longest = Name::parse(&[&label, &label, &label, &label[..61]].join(".")).expect("a name");
    let (_socket, server) = socket("127.0.0.1:0").await;
    let unaskable = Outcome::Failed(client::Failure::Unasked(io::ErrorKind::InvalidInput).into());
    assert_eq!(ask(server, &longest, PATIENCE).await, unaskable);
}

/// RFC 5452 section 9.1.
#[tokio::test]
async fn only_a_reply_to_this_query_from_this_server_counts() {
    let (socket, server) = socket("127.0.0.1:0").await;
    let (stranger, _) = self::socket("127.0.0.1:0").await;
    tokio::spawn(async move {
        let mut query = [0; 512];
        let (length, client) = socket.recv_from(&mut query).await.expect("a query");
        let query = &query[..length];
        stranger.send_to(&reply(query, NXDOMAIN, &[]), client).await.expect("sent");
        let changed = |at: usize| {
            let mut reply = reply(query, NXDOMAIN, &[]);
            reply[at] ^= 1;
            reply
        };
        let question = query.len() - 11;
        let another_opcode = {
            let mut reply = reply(query, NXDOMAIN, &[]);
            reply[2] |= 0x20;
            reply
        };
        let others = [
            changed(0),
            changed(1),
            // In the nonce, the type and the class.
            changed(HEADER + 1 + PREFIX.len()),
            changed(question - 3),
            changed(question - 1),
            another_opcode,
            query.to_vec(),
            query[..HEADER - 1].to_vec(),
            proof(query)[..question - 1].to_vec(),
        ];
        for other in others {
            socket.send_to(&other, client).await.expect("sent");
        }
        socket.send_to(&proof(query), client).await.expect("sent");
    });
    assert_eq!(proven(&ask(server, &zone(), PATIENCE).await), PROVEN);
}

/// A server that truncates over UDP, and what it does over TCP on the same port.
async fn both_transports() -> (TcpListener, SocketAddr) {
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = listener.local_addr().expect("bound");
        // Someone else may have the port for UDP.
        let Ok(socket) = UdpSocket::bind(server).await else { continue };
        serve(socket, |query, _| {
            let mut reply = reply(query, NOERROR, &[]);
            reply[2] |= TRUNCATED;
            vec![reply]
        });
        return (listener, server);
    }
}

#[tokio::test]
async fn a_truncated_reply_is_asked_for_over_tcp() {
    let (listener, server) = both_transports().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut query = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut query).await.expect("a query");
        let mut other = proof(&query);
        other[0] ^= 1;
        for reply in [other, proof(&query)] {
            // Octet by octet, as a stream may arrive.
            for octet in [&(reply.len() as u16).to_be_bytes()[..], &reply].concat() {
                stream.write_all(&[octet]).await.expect("written");
            }
        }
        // Closed by the client.
        let _ = stream.read_u8().await;
    });
    assert_eq!(proven(&ask(server, &zone(), PATIENCE).await), PROVEN);
}

#[tokio::test]
async fn trouble_over_tcp_says_so() {
    let failed =
        |error| Outcome::Failed(client::Failure::Unreachable { transport: Transport::Tcp, error }.into());
    let (listener, server) = both_transports().await;
    drop(listener);
    let refused = ask(server, &zone(), PATIENCE).await;
    assert_eq!(refused, failed(io::ErrorKind::ConnectionRefused));
    let (listener, server) = both_transports().await;
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut query = vec![0; usize::from(stream.read_u16().await.expect("a length"))];
        stream.read_exact(&mut query).await.expect("a query");
        stream.write_all(&[0, 200, 1]).await.expect("written");
    });
    assert_eq!(ask(server, &zone(), PATIENCE).await, failed(io::ErrorKind::UnexpectedEof));
}

#[tokio::test]
async fn a_survey_asks_every_server_for_every_zone_so_many_at_a_time() {
    let (socket, server) = socket("127.0.0.1:0").await;
    let (sink, silent) = self::socket("127.0.0.1:0").await;
    drop(sink);
    let zones: Vec<Name> =
        (0..IN_FLIGHT + 8).map(|i| Name::parse(&format!("z{i}")).expect("a zone")).collect();
    let count = zones.len();
    tokio::spawn(async move {
        let mut query = [0; 512];
        let mut waiting: Vec<(Vec<u8>, SocketAddr)> = Vec::new();
        let mut answered = 0;
        while answered < count {
            // None is answered before all that may be in flight are: asked one by one, they would time out.
            while waiting.len() < IN_FLIGHT.min(count - answered) {
                let (length, client) = socket.recv_from(&mut query).await.expect("a query");
                waiting.push((query[..length].to_vec(), client));
            }
            if let Ok(more) = tokio::time::timeout(SHORT, socket.recv_from(&mut query)).await {
                panic!("one more than may be in flight: {more:?}");
            }
            for (query, client) in waiting.drain(..) {
                socket.send_to(&proof(&query), client).await.expect("sent");
                answered += 1;
            }
        }
    });
    let found = survey(&[server, silent], &zones, PATIENCE).await;
    let asked: Vec<_> = found.iter().map(|asked| (asked.server, &asked.zone)).collect();
    let expected: Vec<_> = [server, silent]
        .into_iter()
        .flat_map(|server| zones.iter().map(move |zone| (server, zone)))
        .collect();
    assert_eq!(asked, expected);
    assert!(found[..count].iter().all(|asked| asked.failure().is_none()), "{found:?}");
    assert!(found[count..].iter().all(|asked| asked.failure().is_some()), "{found:?}");
}

/// [D18]
#[test]
fn every_probe_has_another_nonce_and_a_zone_of_any_length_has_room_for_one() {
    let names: std::collections::HashSet<Name> = (0..1000).map(|_| Probe::new(&zone()).name()).collect();
    assert_eq!(names.len(), 1000);
    let label = "z".repeat(63);
    // The longest that Z2 allows.
    let longest = Name::parse(&[&label, &label, &label, &label[..50]].join(".")).expect("a name");
    for (zone, octets) in [(zone(), 1 + 7 + 26 + 8), (longest, MAX_WIRE)] {
        let name = Probe::new(&zone).name();
        assert_eq!(name.wire().len(), octets);
        assert_eq!(Name::parse(&name.to_string()).as_ref(), Ok(&name));
        let relative = &name.wire()[..octets - zone.wire().len()];
        assert!(crate::wire::probe::is_probe(relative), "{name}");
    }
}
