use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::Duration;

use http_body_util::{BodyExt, Either, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::panics::{self, Place};
use crate::serve::budget::SHARED;
use crate::serve::fixture::{Fixture, query, render, settings, soon, table, until};
use crate::serve::tls::tests::{both, name};

/// A server on a free port, over a host with one address and one with two thousand.
struct World {
    address: SocketAddr,
    fixture: Fixture,
    connections: Arc<Connections>,
    drain: CancellationToken,
    tcp: Arc<TcpCounters>,
    client: Arc<rustls::ClientConfig>,
}

async fn serve(limit: usize, patience: Patience) -> World {
    let big = (0..2000u16).map(|i| IpAddr::from([240, 1, (i >> 8) as u8, i as u8])).collect();
    let hosts = [("a.global", vec![IpAddr::from([240, 0, 0, 1])]), ("big.global", big)];
    let fixture = Fixture::new(table(&["global"], &hosts), settings(), &[]);
    let (drain, tcp) = (CancellationToken::new(), Arc::new(TcpCounters::default()));
    let connections = Connections::new(limit, tcp.clone(), drain.clone());
    let answerer = Answerer::new(fixture.responder.clone(), fixture.counters.clone());
    let server = Server::new(answerer, connections.clone(), patience, PATH.to_owned());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (certificates, client) = both(&[]);
    tokio::spawn(server.accept(Arc::new(listener), certificates.tls(tls::HTTP)));
    World { address, fixture, connections, drain, tcp, client }
}

async fn usual() -> World {
    serve(100, Patience::HTTPS).await
}

/// What is sent: all of it, or this much and then nothing.
type Sent = Either<Full<Bytes>, Never>;

struct Never(Bytes);

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        match std::mem::take(&mut self.0) {
            rest if rest.is_empty() => std::task::Poll::Pending,
            some => std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(some)))),
        }
    }
}

enum Client {
    One(http1::SendRequest<Sent>, tokio::task::JoinHandle<()>),
    Two(http2::SendRequest<Sent>, tokio::task::JoinHandle<()>),
}

/// What came back: the status, the type, how long it may be kept, and the body.
#[derive(Debug)]
struct Came {
    status: u16,
    media: String,
    cache: String,
    body: Vec<u8>,
}

impl Client {
    /// Over TLS, with the protocol that was agreed on.
    async fn connect(world: &World, protocol: &[u8]) -> Client {
        let mut config = (*world.client).clone();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(world.address).await.expect("connects");
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = soon(connector.connect(name(), stream)).await.expect("TLS");
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
        let stream = TokioIo::new(stream);
        if protocol == b"h2" {
            let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await.expect("HTTP/2");
            Client::Two(sender, tokio::spawn(async { drop(connection.await) }))
        } else {
            let (sender, connection) = http1::handshake(stream).await.expect("HTTP/1.1");
            Client::One(sender, tokio::spawn(async { drop(connection.await) }))
        }
    }

    async fn both(world: &World) -> [Client; 2] {
        [Client::connect(world, b"h2").await, Client::connect(world, b"http/1.1").await]
    }

    async fn send(&mut self, mut request: Request<Sent>) -> Came {
        let response = match self {
            Client::Two(sender, _) => {
                soon(sender.ready()).await.expect("an open connection");
                soon(sender.send_request(request)).await
            }
            Client::One(sender, _) => {
                soon(sender.ready()).await.expect("an open connection");
                request.headers_mut().insert("host", HeaderValue::from_static("dns.test"));
                let target = request.uri().path_and_query().expect("a path").as_str().parse();
                *request.uri_mut() = target.expect("a path");
                soon(sender.send_request(request)).await
            }
        };
        let response = response.expect("a response");
        let header = |name| {
            let value = response.headers().get(name).map(|value| value.to_str().expect("ASCII").to_owned());
            value.unwrap_or_default()
        };
        let (status, media, cache) =
            (response.status().as_u16(), header("content-type"), header("cache-control"));
        let body = soon(response.into_body().collect()).await.expect("all of it").to_bytes().to_vec();
        Came { status, media, cache, body }
    }

    async fn ask(&mut self, message: &[u8]) -> Vec<u8> {
        let came = self.send(post(message)).await;
        assert_eq!((came.status, came.media.as_str()), (200, MESSAGE), "{came:?}");
        came.body
    }

    async fn end(self) {
        let (Client::One(_, connection) | Client::Two(_, connection)) = self;
        soon(connection).await.expect("no panic");
    }
}

fn request(method: Method, target: &str, media: &str, body: Sent) -> Request<Sent> {
    let request = Request::builder().method(method).uri(format!("https://dns.test{target}"));
    request.header("content-type", media).body(body).expect("a request")
}

fn post(message: &[u8]) -> Request<Sent> {
    request(Method::POST, PATH, MESSAGE, Either::Left(Full::new(Bytes::copy_from_slice(message))))
}

fn get(message: &[u8]) -> Request<Sent> {
    let message = URL_SAFE_NO_PAD.encode(message);
    request(Method::GET, &format!("{PATH}?dns={message}"), "", Either::Left(Full::default()))
}

/// One whose message comes up to here.
fn half(octets: usize) -> Request<Sent> {
    request(Method::POST, PATH, MESSAGE, Either::Right(Never(Bytes::from(vec![0; octets]))))
}

/// [L9] [E3]
#[tokio::test]
async fn a_message_that_makes_us_panic_gets_servfail_and_the_connection_goes_on() {
    let world = usual().await;
    let before = panics::count(Place::Https);
    for client in &mut Client::both(&world).await {
        for text in ["panic-begin.global A", "a.global A", "panic-finish.global A"] {
            let reply = render(&client.ask(&query(text).0).await);
            let expected = if text == "a.global A" { "NOERROR qr aa rd" } else { "SERVFAIL qr rd" };
            assert_eq!(reply[0], expected);
        }
    }
    assert!(panics::count(Place::Https) >= before + 4);
}

/// [E3] [D13]
#[tokio::test]
async fn every_question_has_over_https_the_reply_it_has_over_tcp() {
    let world = usual().await;
    for client in &mut Client::both(&world).await {
        for (question, fresh) in [
            ("a.global A", 30),
            ("A.Global A +nsid", 30),
            ("big.global A", 30),
            ("a.global AAAA +do", 5),
            ("nope.global A +udp=512", 5),
            ("example.com A", 0),
            ("a.global A +edns=1", 0),
        ] {
            let (message, _) = query(question);
            let wanted = world.fixture.ask(&message, Transport::Tcp).expect("a reply");
            for request in [post(&message), get(&message)] {
                let came = client.send(request).await;
                assert_eq!((came.status, came.media.as_str()), (200, MESSAGE), "{question}");
                assert_eq!(came.cache, format!("max-age={fresh}"), "{question}");
                assert_eq!(came.body, wanted, "{question}");
            }
        }
    }
}

/// [E3] [D11]
#[tokio::test]
async fn what_cannot_be_answered_is_a_status_and_costs_nobody_the_connection() {
    let world = usual().await;
    let (message, _) = query("a.global A");
    let mut reply = message.clone();
    reply[2] |= 0x80;
    let whole = |octets: &[u8]| Either::Left(Full::new(Bytes::copy_from_slice(octets)));
    let at = |target: &str| request(Method::GET, target, "", whole(b""));
    let coded = URL_SAFE_NO_PAD.encode(&message);
    for protocol in [&b"h2"[..], b"http/1.1"] {
        let mut client = Client::connect(&world, protocol).await;
        let cases = [
            ("another path", at("/"), 404),
            ("a longer path", at("/dns-query/x"), 404),
            ("no query", at("/dns-query"), 400),
            ("an empty query", at("/dns-query?dns="), 400),
            ("another parameter", at(&format!("/dns-query?name={coded}")), 400),
            ("two queries", at(&format!("/dns-query?dns={coded}&dns={coded}")), 400),
            ("padding", at(&format!("/dns-query?dns={coded}==")), 400),
            ("no base64url", at("/dns-query?dns=+/+/"), 400),
            ("another method", request(Method::PUT, PATH, MESSAGE, whole(&message)), 405),
            ("no type", request(Method::POST, PATH, "", whole(&message)), 415),
            ("another type", request(Method::POST, PATH, "application/json", whole(&message)), 415),
            ("an empty message", post(b""), 400),
            ("under 12 octets", post(b"elevenoctet"), 400),
            ("a reply", post(&reply), 400),
            ("too long", post(&[0; 65536]), 413),
        ];
        for (what, request, wanted) in cases {
            let came = client.send(request).await;
            assert_eq!((came.status, came.media.as_str()), (wanted, "text/plain"), "{what}");
            assert!(came.cache == "no-store" && came.body.ends_with(b"\n"), "{what}: {came:?}");
            // What is left of a message that was not read ends a connection of HTTP/1.1.
            if protocol != b"h2" && wanted != 404 && wanted != 400 {
                client = Client::connect(&world, protocol).await;
            }
        }
        let came = client.send(at(&format!("/dns-query?x=1&dns={coded}"))).await;
        assert_eq!(came.status, 200);
        assert_eq!(render(&client.ask(&message).await)[0], "NOERROR qr aa rd");
        // As long as a message may be, and an address as long as headers may be.
        let mut long = message.clone();
        long.resize(65535, 0);
        assert_eq!(render(&client.ask(&long).await)[0], "FORMERR qr rd");
        let came = client.send(at(&format!("/dns-query?dns={}", "A".repeat(12_000)))).await;
        assert!([414, 431].contains(&came.status), "{came:?}");
    }
}

/// [E5] [G2]
#[tokio::test]
async fn a_message_that_does_not_come_is_not_waited_for() {
    let patience = Patience { message: Duration::from_millis(50), ..Patience::HTTPS };
    let world = serve(100, patience).await;
    for client in &mut Client::both(&world).await {
        assert_eq!(client.send(half(20)).await.status, 408);
    }
    assert_eq!(world.connections.unanswered(), 0);
    let mut client = Client::connect(&world, b"h2").await;
    assert_eq!(client.send(half(0)).await.status, 408);
    client.ask(&query("a.global A").0).await;
}

/// [E5] What is not complete or not taken is bounded over all connections.
#[tokio::test]
async fn messages_that_come_in_pieces_are_bounded_and_given_back() {
    let world = usual().await;
    world.connections.shared.forget_permits(SHARED);
    let (big, _) = query("big.global A");
    for client in &mut Client::both(&world).await {
        // Beyond a connection's own.
        assert_eq!(client.send(half(60_000)).await.status, 503);
    }
    for client in &mut Client::both(&world).await {
        assert_eq!(client.send(post(&big)).await.status, 503);
        client.ask(&query("a.global A").0).await;
    }
    world.connections.shared.add_permits(100_000);
    for client in &mut Client::both(&world).await {
        client.ask(&big).await;
    }
    until(|| world.connections.shared.available_permits() == 100_000).await;
}

/// [E5] [D14]
#[tokio::test]
async fn the_connection_idle_longest_makes_room() {
    let world = serve(2, Patience::HTTPS).await;
    let (message, _) = query("a.global A");
    let mut first = Client::connect(&world, b"http/1.1").await;
    first.ask(&message).await;
    let mut second = Client::connect(&world, b"h2").await;
    second.ask(&message).await;
    first.ask(&message).await;
    let mut third = Client::connect(&world, b"h2").await;
    third.ask(&message).await;
    second.end().await;
    first.ask(&message).await;
    assert_eq!(world.tcp.evicted.load(Ordering::Relaxed), 1);
}

/// [E5]
#[tokio::test]
async fn a_connection_without_a_query_is_closed_in_time() {
    let patience = Patience { idle: Duration::from_millis(50), ..Patience::HTTPS };
    let world = serve(100, patience).await;
    for client in Client::both(&world).await {
        client.end().await;
    }
    until(|| world.tcp.open.load(Ordering::Relaxed) == 0).await;
}

/// [E5] [L5]
#[tokio::test]
async fn a_drain_finishes_what_is_on_its_way_and_takes_nothing_new() {
    let patience = Patience { message: Duration::from_secs(2), ..Patience::HTTPS };
    let world = serve(100, patience).await;
    let mut busy = Vec::new();
    for mut client in Client::both(&world).await {
        client.ask(&query("a.global A").0).await;
        busy.push(tokio::spawn(async move {
            // More than a connection's own.
            let came = client.send(half(20_000)).await;
            (client, came.status)
        }));
    }
    let idle = Client::connect(&world, b"h2").await;
    // Both are being read when something is held for them: that is where a call waits.
    until(|| world.connections.shared.available_permits() <= SHARED - 2 * 20_000).await;
    world.drain.cancel();
    for call in busy {
        let (client, status) = call.await.expect("no panic");
        assert_eq!(status, 408, "it has its answer");
        client.end().await;
    }
    idle.end().await;
    soon(world.connections.drained()).await;
    assert_eq!(world.tcp.open.load(Ordering::Relaxed), 0);
}
