use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::FutureExt;
use hyper::body::Body;
use hyper::client::conn::http2 as client;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::serve::fixture::{Fixture, query, render, settings, soon, table, until};
use crate::serve::http::CALLS;

/// A server on a free port, over a host with one address and one with two thousand.
struct World {
    address: SocketAddr,
    fixture: Fixture,
    connections: Arc<Connections>,
    drain: CancellationToken,
    tcp: Arc<TcpCounters>,
}

impl World {
    /// Leaves so many octets of what all connections share.
    fn leave(&self, octets: usize) {
        let shared = &self.connections.shared;
        shared.forget_permits(shared.available_permits() - octets);
    }

    /// Waits until so many of them are free.
    async fn free(&self, octets: usize) {
        soon(async {
            while self.connections.shared.available_permits() != octets {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

async fn serve(limit: usize, patience: Patience) -> World {
    let big = (0..2000u16).map(|i| IpAddr::from([240, 1, (i >> 8) as u8, i as u8])).collect();
    let hosts = [("a.global", vec![IpAddr::from([240, 0, 0, 1])]), ("big.global", big)];
    let fixture = Fixture::new(table(&["global"], &hosts), settings(), &[]);
    let (drain, tcp) = (CancellationToken::new(), Arc::new(TcpCounters::default()));
    let connections = Connections::new(limit, tcp.clone(), drain.clone());
    let answerer = Answerer::new(fixture.responder.clone(), fixture.counters.clone());
    let server = Server::new(answerer, connections.clone(), patience);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(server.accept(Arc::new(listener)));
    World { address, fixture, connections, drain, tcp }
}

async fn usual() -> World {
    serve(100, Patience::GRPC).await
}

/// A connection of a client that sends what it is told, right or wrong.
struct Client {
    sender: client::SendRequest<Sent>,
    /// Ends with the connection.
    connection: tokio::task::JoinHandle<()>,
}

/// What is sent, or what never ends.
type Sent = http_body_util::Either<Full<Bytes>, Never>;

/// This much comes, and no more.
struct Never(Bytes);

impl Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        match std::mem::take(&mut self.0) {
            rest if rest.is_empty() => std::task::Poll::Pending,
            some => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(some)))),
        }
    }
}

/// A call that sends so many octets, and never ends.
fn half(octets: usize) -> Request<Sent> {
    request(PATH, Sent::Right(Never(Bytes::from(vec![0; octets]))))
}

/// What came back: the HTTP status, gRPC's, and the DNS message.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Came {
    http: u16,
    grpc: Option<String>,
    message: Option<Vec<u8>>,
}

impl Client {
    async fn connect(world: &World) -> Client {
        Client::with_window(world, 1 << 20).await
    }

    /// One that takes so much of each reply before it is read.
    async fn with_window(world: &World, window: u32) -> Client {
        let stream = TcpStream::connect(world.address).await.expect("connects");
        let mut http = client::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new()).initial_stream_window_size(window);
        let (sender, connection) = http.handshake(TokioIo::new(stream)).await.expect("HTTP/2");
        let connection = tokio::spawn(connection.map(drop));
        Client { sender, connection }
    }

    /// Another one over the same connection.
    fn another(&self) -> Client {
        Client { sender: self.sender.clone(), connection: tokio::spawn(async {}) }
    }

    async fn send(&mut self, request: Request<Sent>) -> Came {
        self.sender.ready().await.expect("an open connection");
        let response = soon(self.sender.send_request(request)).await.expect("a response");
        let http = response.status().as_u16();
        let body = response.into_body().collect().await.expect("the whole response");
        let grpc = body.trailers().and_then(|trailers| trailers.get("grpc-status"));
        let grpc = grpc.map(|status| status.to_str().expect("a number").to_owned());
        let body = body.to_bytes();
        let message = (!body.is_empty()).then(|| packet::read(&body).expect("a packet").to_vec());
        Came { http, grpc, message }
    }

    async fn call(&mut self, body: Bytes) -> Came {
        self.send(request(PATH, Sent::Left(Full::new(body)))).await
    }

    /// The reply to a DNS message.
    async fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        let came = self.call(packet::write(message)).await;
        assert_eq!((came.http, came.grpc.as_deref()), (200, Some("0")));
        came.message.expect("a message")
    }
}

fn request(path: &str, body: Sent) -> Request<Sent> {
    let uri = format!("http://127.0.0.1{path}");
    Request::post(uri).header(CONTENT_TYPE, GRPC).body(body).expect("a request")
}

fn status(http: u16, grpc: Option<&str>) -> Came {
    Came { http, grpc: grpc.map(str::to_owned), message: None }
}

/// [G1] [D13] [D11]
#[tokio::test]
async fn a_call_has_the_reply_of_dns_over_tcp() {
    let world = usual().await;
    let mut client = Client::connect(&world).await;
    for question in [
        "a.global A",
        "A.Global A +nsid",
        "a.global AAAA",
        "nope.global A +udp=512",
        "big.global A",
        "big.global A +udp=512 +do",
        "global SOA",
        "global AXFR",
        "example.com A +edns=0",
        "a.global A +class=CH +edns=1",
    ] {
        let (message, _) = query(question);
        let over_tcp = world.fixture.ask(&message, Transport::Tcp).expect("a reply");
        assert_eq!(client.ask(&message).await, over_tcp, "{question}");
    }
    // What can be answered with an error is: here, two questions.
    let (mut message, _) = query("a.global A");
    message[5] = 2;
    assert!(render(&client.ask(&message).await)[0].starts_with("FORMERR"));
}

/// [G1] [D11]
#[tokio::test]
async fn what_cannot_be_answered_is_a_status_and_costs_nobody_the_connection() {
    let world = usual().await;
    let mut client = Client::connect(&world).await;
    let (mut reply, _) = query("a.global A");
    reply[2] |= 0x80;
    let whole = |octets: &'static [u8]| Sent::Left(Full::new(Bytes::from_static(octets)));
    let of = |message: &[u8]| Sent::Left(Full::new(packet::write(message)));
    let cases = [
        ("a message under 12 octets", request(PATH, of(b"elevenoctet")), status(200, Some("3"))),
        ("an empty message", request(PATH, of(b"")), status(200, Some("3"))),
        ("a reply", request(PATH, of(&reply)), status(200, Some("3"))),
        ("no message", request(PATH, whole(b"")), status(200, Some("3"))),
        ("no packet", request(PATH, whole(b"\0\0\0\0\x02\x0a\x07")), status(200, Some("3"))),
        ("a compressed one", request(PATH, whole(b"\x01\0\0\0\x02\x0a\0")), status(200, Some("12"))),
        ("another method", request("/coredns.dns.DnsService/Update", of(&reply)), status(200, Some("12"))),
        ("another service", request("/grpc.health.v1.Health/Check", of(&reply)), status(200, Some("12"))),
        ("a message too long for DNS", request(PATH, of(&[0; 65536])), status(200, Some("8"))),
    ];
    for (what, request, wanted) in cases {
        assert_eq!(client.send(request).await, wanted, "{what}");
    }
    assert_eq!(client.call(packet::write(&[0; 65535])).await.grpc.as_deref(), Some("0"));
    let mut other = request(PATH, of(&reply));
    other.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    assert_eq!(client.send(other).await, status(415, None), "another content type");
    for (content_type, wanted) in [
        ("application/grpc", 200),
        ("application/grpc+proto", 200),
        ("application/grpc;x=y", 200),
        ("application/grpc-web", 415),
        ("application/grpc-web+proto", 415),
        ("application/grp", 415),
    ] {
        let mut other = request(PATH, of(&query("a.global A").0));
        other.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        assert_eq!(client.send(other).await.http, wanted, "{content_type}");
    }
    let mut long = request(PATH, of(&reply));
    long.headers_mut().insert("x-long", HeaderValue::from_str(&"x".repeat(9000)).expect("a value"));
    assert_eq!(client.send(long).await.http, 431, "long headers");
    let get = Request::get("http://127.0.0.1/").body(whole(b"")).expect("a request");
    assert_eq!(client.send(get).await, status(415, None), "a GET");
    client.ask(&query("a.global A").0).await;
}

/// [G2]
#[tokio::test]
async fn a_message_that_does_not_come_is_not_waited_for() {
    let patience = Patience { message: Duration::from_millis(50), ..Patience::GRPC };
    let world = serve(100, patience).await;
    let mut client = Client::connect(&world).await;
    assert_eq!(client.send(half(0)).await, status(200, Some("4")));
    client.ask(&query("a.global A").0).await;
}

/// [G2] [D14]
#[tokio::test]
async fn the_connection_idle_longest_makes_room() {
    let world = serve(2, Patience::GRPC).await;
    let (message, _) = query("a.global A");
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(&world).await;
        client.ask(&message).await;
        clients.push(client);
    }
    // The first one speaks again, so the second has been idle longer.
    clients[0].ask(&message).await;
    let mut third = Client::connect(&world).await;
    third.ask(&message).await;
    soon(clients.remove(1).connection).await.expect("the second is closed");
    clients[0].ask(&message).await;
    assert_eq!(world.tcp.evicted.load(Ordering::Relaxed), 1);
}

/// [G2]
#[tokio::test]
async fn a_connection_without_a_call_is_closed_in_time() {
    let patience = Patience { idle: Duration::from_millis(50), ..Patience::GRPC };
    let world = serve(100, patience).await;
    let mut client = Client::connect(&world).await;
    client.ask(&query("a.global A").0).await;
    soon(client.connection).await.expect("closed");
    // Nor is one waited for that does not even begin.
    let patience = Patience { farewell: Duration::from_millis(50), ..patience };
    let world = serve(100, patience).await;
    let mut mute = TcpStream::connect(world.address).await.expect("connects");
    let _ = soon(mute.read_to_end(&mut Vec::new())).await;
    until(|| world.tcp.open.load(Ordering::Relaxed) == 0).await;
}

/// [G2] A peer that is gone without a word is noticed.
#[tokio::test]
async fn a_client_that_does_not_answer_a_ping_loses_its_connection() {
    let short = Duration::from_millis(50);
    let world = serve(100, Patience { quiet: short, pong: short, ..Patience::GRPC }).await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    // The preface, and SETTINGS without any; the rest is silence.
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    stream.write_all(hello).await.expect("sent");
    let mut octets = Vec::new();
    soon(stream.read_to_end(&mut octets)).await.expect("the end of the stream");
    assert!(!octets.is_empty(), "its SETTINGS and a PING");
}

/// [G3] [L5]
#[tokio::test]
async fn a_drain_finishes_the_calls_in_flight_and_takes_no_new_connection() {
    let patience = Patience { message: Duration::from_millis(200), ..Patience::GRPC };
    let world = serve(100, patience).await;
    let mut client = Client::connect(&world).await;
    client.ask(&query("a.global A").0).await;
    let mut other = client.another();
    let in_flight = tokio::spawn(async move { other.send(half(0)).await });
    // One more behind it, which then has come after it.
    tokio::task::yield_now().await;
    client.ask(&query("a.global A").0).await;
    world.drain.cancel();
    assert_eq!(in_flight.await.expect("no panic"), status(200, Some("4")), "it gets its answer");
    soon(client.connection).await.expect("then the connection ends");
    soon(world.connections.drained()).await;
    assert_eq!(world.tcp.open.load(Ordering::Relaxed), 0);
    while TcpStream::connect(world.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

/// [G2] [D14] What has not come completely makes nobody busy, as over TCP: DNS over TCP gets its place.
#[tokio::test]
async fn calls_without_their_message_keep_no_connection_out() {
    let world = serve(4, Patience::GRPC).await;
    let (message, _) = query("a.global A");
    let mut clients = Vec::new();
    for octets in [0, 1, 100, 20_000] {
        let mut client = Client::connect(&world).await;
        let mut other = client.another();
        tokio::spawn(async move { other.send(half(octets)).await });
        tokio::task::yield_now().await;
        client.ask(&message).await;
        clients.push(client);
    }
    assert_eq!(world.connections.unanswered(), 0);
    let answerer = Answerer::new(world.fixture.responder.clone(), world.fixture.counters.clone());
    let tcp = crate::serve::tcp::Server::new(answerer, world.connections.clone(), Duration::from_secs(60));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let mut dig = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connects");
    tokio::spawn(tcp.accept(Arc::new(listener)));
    let framed = [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    dig.write_all(&framed).await.expect("sent");
    assert!(soon(dig.read_u16()).await.expect("a reply") > 12);
    let ended =
        |tcp: &TcpCounters| (tcp.evicted.load(Ordering::Relaxed), tcp.rejected.load(Ordering::Relaxed));
    assert_eq!(ended(&world.tcp), (1, 0));
    soon(clients.remove(0).connection).await.expect("the first is closed");
}

/// [G2] What calls have sent before they are complete is bounded over all connections, and costs others nothing.
#[tokio::test]
async fn unfinished_messages_are_bounded_and_given_back() {
    let shared = 1 << 20;
    let world = usual().await;
    world.leave(shared);
    let (mut clients, mut calls) = (Vec::new(), tokio::task::JoinSet::new());
    // Each call would hold 64 KiB: sixteen fit.
    for _ in 0..2 {
        let client = Client::connect(&world).await;
        for _ in 0..20 {
            let mut other = client.another();
            calls.spawn(async move { other.send(half(60_000)).await });
        }
        clients.push(client);
    }
    let refused = status(200, Some("8"));
    for _ in 0..20 {
        assert_eq!(soon(calls.join_next()).await.expect("a call").expect("no panic"), refused);
    }
    // Who asks what DNS asks is answered, over these connections and others.
    let left = world.connections.shared.available_permits();
    world.leave(0);
    let (message, _) = query("a.global A");
    clients.push(Client::connect(&world).await);
    for client in &mut clients {
        client.ask(&message).await;
    }
    // It is given back with what they hold.
    assert!(left < shared);
    calls.abort_all();
    drop(clients);
    world.free(shared - left).await;
}

/// [G2] Calls that send nothing count, too, but for a few of each connection.
#[tokio::test]
async fn calls_that_wait_for_their_message_are_bounded() {
    let patience = Patience { message: Duration::from_secs(1), ..Patience::GRPC };
    let world = serve(100, patience).await;
    world.leave(10 * budget::CALL);
    let client = Client::connect(&world).await;
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut other = client.another();
        calls.spawn(async move { other.send(half(0)).await.grpc.expect("a status") });
    }
    let mut ended = soon(calls.join_all()).await;
    ended.sort_unstable();
    let waiting = budget::OWN / budget::CALL + 10;
    assert_eq!(ended, [vec!["4"; waiting], vec!["8"; 30 - waiting]].concat());
    world.free(10 * budget::CALL).await;
}

/// [G2] So are replies that are not taken, and who takes none loses the connection.
#[tokio::test]
async fn replies_that_nobody_takes_are_bounded_and_end_the_connection() {
    let patience = Patience { unread: Duration::from_secs(1), ..Patience::GRPC };
    let world = serve(100, patience).await;
    let shared = 100 << 10;
    world.leave(shared);
    let mut deaf = Client::with_window(&world, 1).await;
    let mut other = deaf.another();
    let (big, _) = query("big.global A");
    let mut unread = Vec::new();
    // Each has 32 kB.
    for _ in 0..3 {
        let call = request(PATH, Sent::Left(Full::new(packet::write(&big))));
        unread.push(soon(deaf.sender.send_request(call)).await.expect("a response"));
    }
    assert_eq!(other.call(packet::write(&big)).await, status(200, Some("8")));
    assert_eq!(world.connections.unanswered(), 3);
    soon(deaf.connection).await.expect("closed");
    world.free(shared).await;
    assert_eq!(world.tcp.open.load(Ordering::Relaxed), 0);
}

/// [G2] As many calls as a connection may have, all in one piece.
#[tokio::test]
async fn all_calls_of_a_connection_may_come_together() {
    let world = usual().await;
    let mut stream = TcpStream::connect(world.address).await.expect("connects");
    let frame = |kind: u8, flags: u8, id: u32, octets: &[u8]| {
        let head = [&(octets.len() as u32).to_be_bytes()[1..], &[kind, flags], &id.to_be_bytes()].concat();
        [&head, octets].concat()
    };
    let (data, headers, settings, goaway) = (0, 1, 4, 7);
    let (end_stream, end_headers) = (1, 4);
    // POST, http, and in full the path and the content type.
    let fields = [
        &b"\x83\x86\x04"[..],
        &[PATH.len() as u8],
        PATH.as_bytes(),
        b"\x0f\x10",
        &[GRPC.len() as u8],
        GRPC.as_bytes(),
    ]
    .concat();
    let message = packet::write(&query("a.global A").0);
    let mut octets = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(settings, 0, 0, b"")].concat();
    for id in (1..2 * CALLS).step_by(2) {
        octets.extend(frame(headers, end_headers, id, &fields));
        octets.extend(frame(data, end_stream, id, &message));
    }
    stream.write_all(&octets).await.expect("sent");
    let mut answered = 0;
    while answered < CALLS {
        let mut head = [0; 9];
        soon(stream.read_exact(&mut head)).await.expect("a frame");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        soon(stream.read_exact(&mut vec![0; length as usize])).await.expect("all of it");
        assert_ne!(head[3], goaway, "after {answered} replies");
        answered += u32::from(head[3] == data);
    }
    world.free(budget::SHARED).await;
}

/// [L9] [G1]
#[tokio::test]
async fn a_message_that_makes_us_panic_gets_servfail_and_the_connection_goes_on() {
    let world = usual().await;
    let mut client = Client::connect(&world).await;
    for question in ["panic-begin.global A", "panic-finish.global A", "a.global A", "panic-begin.global A"] {
        let reply = render(&client.ask(&query(question).0).await);
        let expected = if question == "a.global A" { "NOERROR qr aa rd" } else { "SERVFAIL qr rd" };
        assert_eq!(reply[0], expected);
    }
}
