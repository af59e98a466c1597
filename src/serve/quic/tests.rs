use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, ConnectionError, ReadError, ReadToEndError};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::panics::{self, Place};
use crate::serve::budget::SHARED;
use crate::serve::fixture::{Fixture, query, render, settings, soon, table, until};
use crate::serve::listen;
use crate::serve::tls::DOQ;
use crate::serve::tls::tests::{NAME, both};

struct World {
    address: SocketAddr,
    fixture: Fixture,
    connections: Arc<Connections>,
    answerer: Arc<Answerer>,
    drain: CancellationToken,
    tcp: Arc<TcpCounters>,
    client: ClientConfig,
    accepting: tokio::task::JoinHandle<()>,
}

async fn serve(limit: usize, patience: Patience) -> World {
    let big = (0..2000u16).map(|i| IpAddr::from([240, 1, (i >> 8) as u8, i as u8])).collect();
    let hosts = [("a.global", vec![IpAddr::from([240, 0, 0, 1])]), ("big.global", big)];
    let fixture = Fixture::new(table(&["global"], &hosts), settings(), &[]);
    let (drain, tcp) = (CancellationToken::new(), Arc::new(TcpCounters::default()));
    let connections = Connections::new(limit, tcp.clone(), drain.clone());
    let answerer = Answerer::new(fixture.responder.clone(), fixture.counters.clone());
    let server = Server::new(answerer.clone(), connections.clone(), patience);
    let (certificates, client) = both(DOQ);
    let socket = listen::quic("127.0.0.1:0".parse().expect("valid"), false).expect("a free port");
    let endpoint = endpoint(socket, certificates.quic(DOQ), patience).expect("an endpoint");
    let address = endpoint.local_addr().expect("bound");
    let accepting = tokio::spawn(server.accept(endpoint));
    let client = QuicClientConfig::try_from(client).expect("TLS 1.3");
    let client = ClientConfig::new(Arc::new(client));
    World { address, fixture, connections, answerer, drain, tcp, client, accepting }
}

async fn usual() -> World {
    serve(100, Patience::HTTPS).await
}

struct Client {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Client {
    async fn connect(world: &World) -> Client {
        let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("valid")).expect("a free port");
        let connecting = endpoint.connect_with(world.client.clone(), world.address, NAME).expect("valid");
        Client { connection: soon(connecting).await.expect("connects"), _endpoint: endpoint }
    }

    /// Sends these octets over a stream of their own, and says that there are no more.
    async fn send(&self, octets: &[u8]) -> Result<Vec<u8>, ReadToEndError> {
        let (mut send, mut receive) = soon(self.connection.open_bi()).await.expect("a stream");
        // The other side may be done with it before we are.
        let _ = send.write_all(octets).await;
        let _ = send.finish();
        soon(receive.read_to_end(1 << 20)).await
    }

    async fn ask(&self, message: &[u8]) -> Vec<u8> {
        let reply = self.send(&framed(message)).await.expect("a reply");
        let (length, reply) = reply.split_first_chunk::<2>().expect("a length");
        assert_eq!(usize::from(u16::from_be_bytes(*length)), reply.len());
        reply.to_vec()
    }

    /// The code the server closes with.
    async fn closed(&self) -> u64 {
        match soon(self.connection.closed()).await {
            ConnectionError::ApplicationClosed(close) => close.error_code.into_inner(),
            other => panic!("{other}"),
        }
    }
}

/// A query as it goes over QUIC, with the id 0.
fn question(text: &str) -> Vec<u8> {
    let (mut message, _) = query(text);
    message[..2].fill(0);
    message
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// [E4] [D13]
#[tokio::test]
async fn every_question_has_over_quic_the_reply_it_has_over_tcp() {
    let world = usual().await;
    let client = Client::connect(&world).await;
    for text in ["a.global A", "big.global A +nsid", "a.global AAAA", "nope.global A +do", "example.com A"] {
        let message = question(text);
        let wanted = world.fixture.ask(&message, Transport::Tcp).expect("a reply");
        assert_eq!(client.ask(&message).await, wanted, "{text}");
    }
    let mut long = question("a.global A");
    long.resize(65535, 0);
    assert_eq!(render(&client.ask(&long).await)[0], "FORMERR qr rd");
    // Many at a time, each over a stream of its own.
    let message = question("big.global A");
    let asking = (0..500).map(|_| client.ask(&message));
    let replies = soon(futures::future::join_all(asking)).await;
    assert!(replies.iter().all(|reply| *reply == replies[0]) && replies.len() == 500);
    assert_eq!(world.tcp.accepted.load(Ordering::Relaxed), 1);
}

/// [E4] RFC 9250 section 4.3.3.
#[tokio::test]
async fn what_breaks_the_protocol_ends_the_connection() {
    let world = usual().await;
    let good = question("a.global A");
    let mut reply = good.clone();
    reply[2] |= 0x80;
    let mut keepalive = question("a.global A +nsid");
    // The option of its OPT becomes edns-tcp-keepalive.
    let option = keepalive.len() - 4;
    keepalive[option + 1] = 11;
    let cases = [
        ("an id", framed(&query("a.global A").0)),
        ("nothing", vec![]),
        ("half a length", vec![0]),
        ("half a message", framed(&good)[..20].to_vec()),
        ("two messages", framed(&good).repeat(2)),
        ("too much", vec![0xff; 70_000]),
        ("under 12 octets", framed(&[0; 11])),
        ("a reply", framed(&reply)),
        ("keepalive", framed(&keepalive)),
    ];
    for (what, octets) in cases {
        let client = Client::connect(&world).await;
        client.ask(&good).await;
        let ended = client.send(&octets).await;
        assert!(ended.is_err(), "{what}: {ended:?}");
        assert_eq!(client.closed().await, 2, "{what}");
    }
}

/// [E5]
#[tokio::test]
async fn a_message_that_does_not_come_is_not_waited_for() {
    let patience = Patience { message: Duration::from_millis(50), ..Patience::HTTPS };
    let world = serve(100, patience).await;
    let client = Client::connect(&world).await;
    let (mut send, mut receive) = client.connection.open_bi().await.expect("a stream");
    send.write_all(&framed(&question("a.global A"))[..9]).await.expect("sent");
    let ended = soon(receive.read_to_end(100)).await;
    assert!(
        matches!(&ended, Err(ReadToEndError::Read(ReadError::Reset(code))) if code.into_inner() == 4),
        "{ended:?}"
    );
    // Others of the connection are answered.
    client.ask(&question("a.global A")).await;
    // One that is taken back is none.
    let (mut send, mut receive) = client.connection.open_bi().await.expect("a stream");
    send.write_all(b"\0").await.expect("sent");
    send.reset(VarInt::from_u32(3)).expect("taken back");
    let ended = soon(receive.read_to_end(100)).await;
    assert!(
        matches!(&ended, Err(ReadToEndError::Read(ReadError::Reset(code))) if code.into_inner() == 3),
        "{ended:?}"
    );
    client.ask(&question("a.global A")).await;
}

/// [E5] What is not complete is bounded over all connections.
#[tokio::test]
async fn unfinished_messages_are_bounded_and_given_back() {
    let world = usual().await;
    world.connections.shared.forget_permits(SHARED);
    let client = Client::connect(&world).await;
    let (mut send, mut receive) = client.connection.open_bi().await.expect("a stream");
    let _ = send.write_all(&[0xff; 60_000]).await;
    assert!(soon(receive.read_to_end(100)).await.is_err());
    assert!(client.send(&framed(&question("big.global A"))).await.is_err());
    client.ask(&question("a.global A")).await;
    world.connections.shared.add_permits(100_000);
    client.ask(&question("big.global A")).await;
    drop(client);
    until(|| world.connections.shared.available_permits() == 100_000).await;
}

/// [E5] What comes behind a gap is counted, too.
#[tokio::test]
async fn a_message_with_a_gap_is_bounded() {
    let mut world = usual().await;
    let message = {
        let mut message = question("a.global A");
        message.resize(65535, 0);
        message
    };
    // Every large packet of the client's has a piece of the message.
    let mut transport = TransportConfig::default();
    transport.mtu_discovery_config(None);
    world.client.transport_config(Arc::new(transport));
    // Between client and server the first of them is lost, nine come through, and nothing else.
    let between = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let server = std::mem::replace(&mut world.address, between.local_addr().expect("bound"));
    let lossy = Arc::new(AtomicBool::new(false));
    let loses = lossy.clone();
    let relay = tokio::spawn(async move {
        let (mut packet, mut client, mut large) = (vec![0; 2000], server, 0);
        loop {
            let (length, from) = between.recv_from(&mut packet).await.expect("a packet");
            if from != server {
                client = from;
            }
            if loses.load(Ordering::Relaxed) {
                large += usize::from(from == client && length > 1000);
                if from == server || length <= 1000 || !(2..=10).contains(&large) {
                    continue;
                }
            }
            let to = if from == server { client } else { server };
            between.send_to(&packet[..length], to).await.expect("sent");
        }
    });
    let client = Client::connect(&world).await;
    client.ask(&question("a.global A")).await;
    assert_eq!(world.connections.shared.available_permits(), SHARED);
    lossy.store(true, Ordering::Relaxed);
    let mut asked = std::pin::pin!(client.ask(&message));
    tokio::select! {
        _ = &mut asked => panic!("a reply to what has not come"),
        () = until(|| world.connections.shared.available_permits() < SHARED) => {}
    }
    // It comes to its end when the rest does.
    lossy.store(false, Ordering::Relaxed);
    assert_eq!(render(&asked.await)[0], "FORMERR qr rd");
    until(|| world.connections.shared.available_permits() == SHARED).await;
    relay.abort();
}

/// [E5] [D14]
#[tokio::test]
async fn the_connection_idle_longest_makes_room() {
    let world = serve(2, Patience::HTTPS).await;
    let message = question("a.global A");
    let (first, second) = (Client::connect(&world).await, Client::connect(&world).await);
    first.ask(&message).await;
    second.ask(&message).await;
    first.ask(&message).await;
    let third = Client::connect(&world).await;
    third.ask(&message).await;
    assert_eq!(second.closed().await, 0);
    first.ask(&message).await;
    assert_eq!(world.tcp.evicted.load(Ordering::Relaxed), 1);
}

/// [E5]
#[tokio::test]
async fn a_connection_without_a_query_is_closed_in_time() {
    let patience = Patience { idle: Duration::from_millis(300), ..Patience::HTTPS };
    let mut world = serve(100, patience).await;
    let client = Client::connect(&world).await;
    assert_eq!(client.closed().await, 0, "with a word");
    // One that only shows that it lives is idle, too.
    let mut transport = TransportConfig::default();
    transport.keep_alive_interval(Some(Duration::from_millis(20)));
    world.client.transport_config(Arc::new(transport));
    let client = Client::connect(&world).await;
    assert_eq!(client.closed().await, 0);
    until(|| world.tcp.open.load(Ordering::Relaxed) == 0).await;
}

/// [E5] [L5]
#[tokio::test]
async fn a_drain_finishes_what_is_on_its_way_and_takes_nothing_new() {
    let world = usual().await;
    let client = Client::connect(&world).await;
    let idle = Client::connect(&world).await;
    let message = framed(&question("big.global A"));
    let (mut send, mut receive) = client.connection.open_bi().await.expect("a stream");
    send.write_all(&message[..9]).await.expect("sent");
    // What came over the next stream came after it.
    client.ask(&question("a.global A")).await;
    world.drain.cancel();
    assert_eq!(idle.closed().await, 0);
    send.write_all(&message[9..]).await.expect("sent");
    send.finish().expect("all of it");
    let reply = soon(receive.read_to_end(1 << 16)).await.expect("a reply");
    assert_eq!(render(&reply[2..]).len(), 2001);
    assert_eq!(client.closed().await, 0);
    soon(world.connections.drained()).await;
    assert!(world.accepting.is_finished(), "the last packets are away");
    soon(world.accepting).await.expect("no panic");
    assert_eq!(world.tcp.open.load(Ordering::Relaxed), 0);
}

/// [L9] [E4]
#[tokio::test]
async fn a_message_that_makes_us_panic_gets_servfail_and_the_connection_goes_on() {
    let world = usual().await;
    let client = Client::connect(&world).await;
    let before = panics::count(Place::Quic);
    for text in ["panic-begin.global A", "panic-finish.global A", "a.global A", "panic-begin.global A"] {
        let reply = render(&client.ask(&question(text)).await);
        let expected = if text == "a.global A" { "NOERROR qr aa rd" } else { "SERVFAIL qr rd" };
        assert_eq!(reply[0], expected);
    }
    assert!(panics::count(Place::Quic) >= before + 3);
}

/// [L9] An endpoint that is no more is a panic, after which there is another one.
#[tokio::test]
async fn an_endpoint_that_breaks_is_noticed() {
    let world = usual().await;
    let server = Server::new(world.answerer.clone(), world.connections.clone(), Patience::HTTPS);
    let socket = listen::quic("127.0.0.1:0".parse().expect("valid"), false).expect("a free port");
    let broken = endpoint(socket, both(DOQ).0.quic(DOQ), Patience::HTTPS).expect("an endpoint");
    broken.close(NO_ERROR, b"");
    assert!(soon(panics::contained(Place::Quic, server.accept(broken))).await.is_none());
}

/// [E4] Packets with an invented sender take nobody's place.
#[tokio::test]
async fn who_has_not_proved_its_address_is_asked_to_come_again() {
    let world = usual().await;
    // A real client's first packet, which never reached the server, from somebody else.
    let trap = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    trap.set_nonblocking(true).expect("set");
    let trap = tokio::net::UdpSocket::from_std(trap).expect("a socket");
    let endpoint = Endpoint::client("127.0.0.1:0".parse().expect("valid")).expect("a free port");
    let at = trap.local_addr().expect("bound");
    let connecting = endpoint.connect_with(world.client.clone(), at, NAME).expect("valid");
    let mut packet = vec![0; 2000];
    let (length, _) = soon(trap.recv_from(&mut packet)).await.expect("a packet");
    drop(connecting);
    trap.send_to(&packet[..length], world.address).await.expect("sent");
    let mut reply = vec![0; 2000];
    let answer = async {
        loop {
            let (length, from) = trap.recv_from(&mut reply).await.expect("a packet");
            if from == world.address {
                return length;
            }
        }
    };
    let answered = soon(answer).await;
    // A long header of the kind Retry, RFC 9000 section 17.2.5.
    assert_eq!(reply[0] & 0xf0, 0xf0);
    assert!(answered < length, "an answer of {answered} octets to {length}");
    assert_eq!(world.tcp.accepted.load(Ordering::Relaxed), 0);
}
