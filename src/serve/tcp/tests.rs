use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::serve::fixture::{Fixture, query, render, settings, table};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A server on a free port, over a host with one address and one with two thousand.
struct World {
    address: SocketAddr,
    connections: Arc<Connections>,
    drain: CancellationToken,
    tcp: Arc<TcpCounters>,
}

/// What connections may take.
#[derive(Clone, Copy)]
struct Limits {
    connections: usize,
    idle: Duration,
}

async fn serve(limits: Limits) -> World {
    let big = (0..2000u16).map(|i| IpAddr::from([240, 1, (i >> 8) as u8, i as u8])).collect();
    let hosts = [("a.global", vec![IpAddr::from([240, 0, 0, 1])]), ("big.global", big)];
    let f = Fixture::new(table(&["global"], &hosts), settings(), &[]);
    let (drain, tcp) = (CancellationToken::new(), Arc::new(TcpCounters::default()));
    let connections = Connections::new(limits.connections, tcp.clone(), drain.clone());
    let answerer = Answerer::new(f.responder.clone(), f.counters.clone());
    let server = Server::new(answerer, connections.clone(), limits.idle);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(server.accept(Arc::new(listener)));
    World { address, connections, drain, tcp }
}

const ROOMY: Limits = Limits { connections: 100, idle: Duration::from_secs(60) };

async fn send(stream: &mut TcpStream, questions: &[&str]) {
    let mut octets = Vec::new();
    for question in questions {
        let (message, _) = query(question);
        octets.extend((message.len() as u16).to_be_bytes());
        octets.extend(message);
    }
    stream.write_all(&octets).await.expect("sent");
}

/// The next reply, or `None` at the end of the stream.
async fn receive(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.expect("a reply is whole");
    Some(reply)
}

/// [D14]
#[tokio::test]
async fn pipelined_queries_are_all_answered_in_order_before_the_close() {
    let w = serve(ROOMY).await;
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    let questions: Vec<&str> =
        ["a.global A", "nope.global A", "big.global A"].into_iter().cycle().take(90).collect();
    send(&mut client, &questions).await;
    client.shutdown().await.expect("no more queries");
    for question in questions {
        let reply = render(&receive(&mut client).await.expect("a reply"));
        let expected = match question {
            "a.global A" => ("NOERROR qr aa rd", 2),
            "nope.global A" => ("NXDOMAIN qr aa rd", 2),
            _ => ("NOERROR qr aa rd", 2001),
        };
        assert_eq!((reply[0].as_str(), reply.len()), expected);
    }
    assert_eq!(receive(&mut client).await, None);
}

/// [D14]
#[tokio::test]
async fn octets_may_come_one_by_one() {
    let w = serve(ROOMY).await;
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    let (message, _) = query("a.global A +nsid");
    let mut octets = (message.len() as u16).to_be_bytes().to_vec();
    octets.extend(message);
    for octet in octets {
        client.write_all(&[octet]).await.expect("sent");
        client.flush().await.expect("sent");
    }
    let reply = render(&receive(&mut client).await.expect("a reply"));
    assert_eq!(reply, ["NOERROR qr aa rd", "= a.global. 30 A 240.0.0.1", "OPT 1232 nsid=pod-1"]);
}

/// [D11] [D14] A message without a reply does not end the conversation.
#[tokio::test]
async fn silence_is_for_one_message() {
    let w = serve(ROOMY).await;
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    client.write_all(b"\x00\x00\x00\x03abc").await.expect("sent");
    send(&mut client, &["a.global A"]).await;
    assert_eq!(render(&receive(&mut client).await.expect("a reply"))[0], "NOERROR qr aa rd");
}

/// [D14]
#[tokio::test]
async fn the_connection_idle_longest_makes_room() {
    let w = serve(Limits { connections: 2, ..ROOMY }).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = TcpStream::connect(w.address).await.expect("connects");
        send(&mut client, &["a.global A"]).await;
        receive(&mut client).await.expect("a reply");
        clients.push(client);
    }
    // The first one speaks again, so the second has been idle longer.
    send(&mut clients[0], &["a.global A"]).await;
    receive(&mut clients[0]).await.expect("a reply");
    let mut third = TcpStream::connect(w.address).await.expect("connects");
    send(&mut third, &["a.global A"]).await;
    receive(&mut third).await.expect("a reply");
    assert_eq!(receive(&mut clients[1]).await, None, "the second is closed");
    send(&mut clients[0], &["a.global A"]).await;
    receive(&mut clients[0]).await.expect("the first is not");
    assert_eq!(w.tcp.evicted.load(Ordering::Relaxed), 1);
    assert_eq!((w.tcp.open.load(Ordering::Relaxed), w.tcp.accepted.load(Ordering::Relaxed)), (2, 3));
}

/// [D14]
#[tokio::test]
async fn a_connection_that_says_nothing_or_half_a_query_is_closed() {
    let w = serve(Limits { idle: Duration::from_millis(50), ..ROOMY }).await;
    let mut quiet = TcpStream::connect(w.address).await.expect("connects");
    let mut half = TcpStream::connect(w.address).await.expect("connects");
    half.write_all(b"\x00\x20ab").await.expect("sent");
    assert_eq!(receive(&mut quiet).await, None);
    assert_eq!(receive(&mut half).await, None);
    // CoreDNS's forward reuses a connection for 10 s, and must be the one to close it.
    assert!(IDLE_TIMEOUT > Duration::from_secs(10) && IDLE_TIMEOUT == Duration::from_secs(30));
}

/// [D14] Who does not read is not waited for, and does not hold up others.
#[tokio::test]
async fn a_client_that_does_not_read_loses_its_connection() {
    let w = serve(Limits { idle: Duration::from_millis(200), ..ROOMY }).await;
    let mut greedy = TcpStream::connect(w.address).await.expect("connects");
    let questions = vec!["big.global A"; 2000];
    // The server stops reading when its replies are not taken, so the last write may fail: that is the point.
    let (message, _) = query("big.global A");
    let mut octets = Vec::new();
    for _ in &questions {
        octets.extend((message.len() as u16).to_be_bytes());
        octets.extend(&message);
    }
    let _ = greedy.write_all(&octets).await;
    let mut polite = TcpStream::connect(w.address).await.expect("connects");
    send(&mut polite, &["a.global A"]).await;
    receive(&mut polite).await.expect("a reply");
    while w.tcp.open.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    drop(greedy);
}

/// [L5]
#[tokio::test]
async fn a_drain_finishes_what_has_arrived_and_takes_nothing_new() {
    let w = serve(ROOMY).await;
    let mut idle = TcpStream::connect(w.address).await.expect("connects");
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    let questions = vec!["big.global A"; 50];
    send(&mut client, &questions).await;
    receive(&mut client).await.expect("a reply");
    w.drain.cancel();
    for _ in 1..questions.len() {
        let reply = receive(&mut client).await.expect("a reply in flight");
        assert_eq!(render(&reply).len(), 2001);
    }
    assert_eq!(receive(&mut client).await, None);
    assert_eq!(receive(&mut idle).await, None);
    w.connections.drained().await;
    assert_eq!(w.tcp.open.load(Ordering::Relaxed), 0);
}

/// [L9] [D14]
#[tokio::test]
async fn a_message_that_makes_us_panic_gets_servfail_and_the_connection_goes_on() {
    let w = serve(ROOMY).await;
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    let questions: Vec<&str> = ["a.global A", "panic-begin.global A", "panic-finish.global A"]
        .into_iter()
        .cycle()
        .take(30)
        .collect();
    send(&mut client, &questions).await;
    for question in questions {
        let reply = render(&receive(&mut client).await.expect("a reply"));
        let expected = if question == "a.global A" { "NOERROR qr aa rd" } else { "SERVFAIL qr rd" };
        assert_eq!(reply[0], expected);
    }
}

/// [D14] [L5] Connections come, are evicted, ask and drain on several threads at once: no reply is anything but whole.
/// What they share is what `tests/sanitize/run` looks at here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_several_threads_are_answered_counted_and_drained() {
    let w = serve(Limits { connections: 3, ..ROOMY }).await;
    let clients = (0..6).map(|_| {
        let address = w.address;
        tokio::spawn(async move {
            let mut answered = 0;
            while answered < 30 {
                let mut client = TcpStream::connect(address).await.expect("connects");
                for _ in 0..10 {
                    let asked = async {
                        let (message, _) = query("a.global A");
                        client.write_all(&(message.len() as u16).to_be_bytes()).await?;
                        client.write_all(&message).await
                    };
                    // Evicted, or turned away: another connection.
                    if asked.await.is_err() {
                        break;
                    }
                    let Some(reply) = receive(&mut client).await else { break };
                    assert_eq!(render(&reply)[1], "= a.global. 30 A 240.0.0.1");
                    answered += 1;
                }
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client that is answered");
    }
    let accepted = w.tcp.accepted.load(Ordering::Relaxed);
    assert!(accepted >= 6 && w.tcp.open.load(Ordering::Relaxed) <= 3, "{accepted} accepted");
    w.drain.cancel();
    w.connections.drained().await;
    assert_eq!(w.tcp.open.load(Ordering::Relaxed), 0);
}
