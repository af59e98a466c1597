use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metrics::TcpCounters;
use crate::serve::budget::{OWN, SHARED};
use crate::serve::fixture::{Fixture, query, render, settings, table, until};

/// A server on a free port, over a host with one address and one with two thousand.
struct World {
    address: SocketAddr,
    connections: Arc<Connections>,
    drain: CancellationToken,
    tcp: Arc<TcpCounters>,
    server: Arc<Server>,
}

impl World {
    /// The client's end of a connection over nothing, where a clock that is stopped decides what comes first. `room` octets
    /// fit between the two.
    fn pipe(&self, room: usize) -> DuplexStream {
        let (client, stream) = tokio::io::duplex(room);
        let seat = self.connections.seat(IpAddr::from([192, 0, 2, 1])).expect("room");
        let server = self.server.clone();
        tokio::spawn(async move { server.converse(stream, Fixture::arrival(Transport::Tcp), &seat).await });
        client
    }

    /// Waits until so many connections are open.
    async fn open(&self, number: u64) {
        until(|| self.tcp.open.load(Ordering::Relaxed) == number).await;
    }
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
    tokio::spawn(server.clone().accept(Arc::new(listener)));
    World { address, connections, drain, tcp, server }
}

const ROOMY: Limits = Limits { connections: 100, idle: Duration::from_secs(60) };

async fn send(stream: &mut (impl AsyncWrite + Unpin), questions: &[&str]) {
    let mut octets = Vec::new();
    for question in questions {
        let (message, _) = query(question);
        octets.extend((message.len() as u16).to_be_bytes());
        octets.extend(message);
    }
    stream.write_all(&octets).await.expect("sent");
}

/// The next reply, or `None` at the end of the stream.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await.ok()?;
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

/// [D14] [L10]
#[tokio::test]
async fn a_connection_that_never_stops_asking_takes_turns_with_the_others() {
    let w = serve(ROOMY).await;
    // Both have asked before the server looks for the first time: it has to wait for this thread.
    let mut greedy = std::net::TcpStream::connect(w.address).expect("connects");
    greedy.set_nonblocking(true).expect("possible");
    let asked = framed("a.global A");
    let many = asked.repeat(1000);
    let mut sent = 0;
    while let Ok(more) = std::io::Write::write(&mut greedy, &many[sent % asked.len()..]) {
        sent += more;
    }
    assert!(sent > 20_000 * asked.len(), "more than the kernel takes at once: {sent}");
    let mut polite = std::net::TcpStream::connect(w.address).expect("connects");
    std::io::Write::write_all(&mut polite, &asked).expect("sent");
    polite.set_nonblocking(true).expect("possible");
    let mut polite = TcpStream::from_std(polite).expect("possible");
    let reply = receive(&mut polite).await.expect("a reply");
    let (mut octets, mut room) = (0, vec![0; 1 << 20]);
    while let Ok(more) = std::io::Read::read(&mut greedy, &mut room) {
        octets += more;
    }
    // A batch that is ready has a reply more than its size at most.
    assert!(
        (1..=3 * (BATCH + reply.len())).contains(&octets),
        "{octets} octets before those of another connection"
    );
}

/// [D14] Nor do messages that get no reply keep others waiting.
#[tokio::test]
async fn messages_without_a_reply_take_turns_too() {
    let w = serve(ROOMY).await;
    let response = [&[0, 12, 0, 0, 0x80, 0][..], &[0; 8]].concat();
    // Several batches, and so few that the kernel takes all of it before anybody reads.
    for silent in [vec![0; 2], response] {
        let mut greedy = std::net::TcpStream::connect(w.address).expect("connects");
        greedy.set_nonblocking(true).expect("possible");
        let asked = [silent.repeat((3 * BATCH).div_ceil(silent.len())), framed("a.global A")].concat();
        std::io::Write::write_all(&mut greedy, &asked).expect("the kernel takes all of it");
        let mut polite = std::net::TcpStream::connect(w.address).expect("connects");
        std::io::Write::write_all(&mut polite, &framed("a.global A")).expect("sent");
        polite.set_nonblocking(true).expect("possible");
        let mut polite = TcpStream::from_std(polite).expect("possible");
        receive(&mut polite).await.expect("a reply");
        let early = std::io::Read::read(&mut greedy, &mut [0]);
        assert_eq!(early.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
        let mut greedy = TcpStream::from_std(greedy).expect("possible");
        assert_eq!(render(&receive(&mut greedy).await.expect("a reply"))[0], "NOERROR qr aa rd");
    }
}

/// [D14] A query that is there when its connection has to make room is answered.
#[tokio::test]
async fn a_query_that_has_come_is_answered_before_its_connection_makes_room() {
    let w = serve(Limits { connections: 1, ..ROOMY }).await;
    for n in 0..100 {
        let (mut client, stream) = tokio::io::duplex(1024);
        send(&mut client, &["a.global A"]).await;
        let seat = w.connections.seat(IpAddr::from([192, 0, 2, 1])).expect("room");
        let _next = w.connections.seat(IpAddr::from([192, 0, 2, 2])).expect("the other one makes room");
        assert!(seat.is_evicted());
        w.server.converse(stream, Fixture::arrival(Transport::Tcp), &seat).await;
        assert!(receive(&mut client).await.is_some(), "the {n}th time");
        assert_eq!(receive(&mut client).await, None);
    }
}

/// [D14] One reply that is too much does not take those before it along.
#[tokio::test]
async fn what_was_answered_before_too_much_was_asked_is_sent() {
    let w = serve(ROOMY).await;
    w.connections.shared.forget_permits(SHARED);
    let mut client = w.pipe(4096);
    send(&mut client, &["a.global A", "a.global A", "big.global A", "a.global A"]).await;
    for _ in 0..2 {
        assert_eq!(render(&receive(&mut client).await.expect("a reply"))[0], "NOERROR qr aa rd");
    }
    assert_eq!(receive(&mut client).await, None);
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

/// A query with its length.
fn framed(question: &str) -> Vec<u8> {
    let (message, _) = query(question);
    [&(message.len() as u16).to_be_bytes()[..], &message].concat()
}

/// [D14] Octets of a query that is not complete win no time, however steadily they come.
#[tokio::test(start_paused = true)]
async fn a_query_that_comes_one_octet_at_a_time_has_as_long_as_any() {
    let w = serve(Limits { idle: IDLE_TIMEOUT, ..ROOMY }).await;
    let mut slow = w.pipe(1024);
    let octets = framed("a.global A");
    let mut sent = 0;
    for octet in octets.iter().cycle() {
        tokio::time::sleep(Duration::from_secs(3)).await;
        if slow.write_all(&[*octet]).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!([9, 10].contains(&sent), "{sent} octets in three seconds each");
    w.open(0).await;
    // In time is in time: the next one has as long again.
    let mut slow = w.pipe(1024);
    let pause = (IDLE_TIMEOUT - Duration::from_secs(1)) / octets.len() as u32;
    for _ in 0..3 {
        for octet in &octets {
            tokio::time::sleep(pause).await;
            slow.write_all(&[*octet]).await.expect("it is open");
        }
        receive(&mut slow).await.expect("a reply");
    }
}

/// [D14] One that takes a few octets at a time has as long for the replies of one batch.
#[tokio::test(start_paused = true)]
async fn replies_that_are_taken_too_slowly_end_the_connection() {
    let w = serve(Limits { idle: IDLE_TIMEOUT, ..ROOMY }).await;
    // The reply has 32,000 octets.
    for (pause, whole) in [(0.9, true), (1.1, false)] {
        let mut slow = w.pipe(1000);
        send(&mut slow, &["big.global A"]).await;
        let mut taken = 0;
        let pause = IDLE_TIMEOUT.mul_f64(pause / 32.0);
        loop {
            tokio::time::sleep(pause).await;
            let mut octets = [0; 1000];
            match slow.read(&mut octets).await {
                Ok(0) | Err(_) => break,
                Ok(some) => taken += some,
            }
            if taken > 32_000 {
                break;
            }
        }
        assert_eq!(taken > 32_000, whole, "{taken}");
        drop(slow);
        w.open(0).await;
    }
}

/// [D14] A client that sends without end and reads what it gets is never too slow.
#[tokio::test(start_paused = true)]
async fn who_asks_without_end_and_reads_is_answered_without_end() {
    let w = serve(Limits { idle: IDLE_TIMEOUT, ..ROOMY }).await;
    let (mut reading, mut writing) = tokio::io::split(w.pipe(4096));
    let asking = tokio::spawn(async move {
        let octets = framed("a.global A").repeat(100);
        while writing.write_all(&octets).await.is_ok() {}
    });
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < 3 * IDLE_TIMEOUT {
        for n in 0..1000 {
            receive(&mut reading).await.unwrap_or_else(|| panic!("no reply {n} after {:?}", begun.elapsed()));
        }
        tokio::time::sleep(IDLE_TIMEOUT / 10).await;
    }
    asking.abort();
}

/// [D14] Messages that get no reply, of no octets or of the most.
#[tokio::test]
async fn empty_messages_and_the_largest_are_read_as_any_other() {
    let w = serve(ROOMY).await;
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    client.write_all(&[0; 2 * 10_000]).await.expect("sent");
    send(&mut client, &["a.global A"]).await;
    assert_eq!(render(&receive(&mut client).await.expect("a reply"))[0], "NOERROR qr aa rd");
    // What follows a question is broken content.
    let mut large = query("a.global A").0;
    large.resize(65535, 0);
    for _ in 0..3 {
        client.write_all(&[&[0xff; 2][..], &large].concat()).await.expect("sent");
        assert_eq!(render(&receive(&mut client).await.expect("a reply"))[0], "FORMERR qr rd");
    }
    send(&mut client, &["a.global A"]).await;
    assert_eq!(render(&receive(&mut client).await.expect("a reply"))[0], "NOERROR qr aa rd");
    assert_eq!(w.connections.shared.available_permits(), SHARED);
}

/// [D14] Large messages that do not come completely are bounded over all connections, and cost nobody else anything.
#[tokio::test]
async fn unfinished_messages_are_bounded_and_given_back() {
    let w = serve(Limits { connections: 1000, ..ROOMY }).await;
    w.connections.shared.forget_permits(SHARED - 10 * 65535);
    let mut half = Vec::new();
    for _ in 0..10 {
        let mut client = TcpStream::connect(w.address).await.expect("connects");
        client.write_all(&[0xff; 65000]).await.expect("sent");
        half.push(client);
    }
    until(|| w.connections.shared.available_permits() == 0).await;
    let mut more = TcpStream::connect(w.address).await.expect("connects");
    let _ = more.write_all(&[0xff; 65000]).await;
    assert_eq!(receive(&mut more).await, None, "there is no room");
    let mut polite = TcpStream::connect(w.address).await.expect("connects");
    send(&mut polite, &["a.global A"]).await;
    receive(&mut polite).await.expect("a reply");
    drop(half);
    until(|| w.connections.shared.available_permits() == 10 * 65535).await;
}

/// [D14] So are replies that nobody reads, at any number of queries.
#[tokio::test(start_paused = true)]
async fn what_a_connection_holds_of_replies_is_bounded() {
    let w = serve(Limits { idle: IDLE_TIMEOUT, ..ROOMY }).await;
    let mut deaf = w.pipe(64 << 10);
    // Each reply has 32,000 octets: the first fits into the pipe and the second is waited with.
    send(&mut deaf, &["big.global A"; 100]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let held = SHARED - w.connections.shared.available_permits();
    assert!((1..=65535 + OWN).contains(&held), "{held}");
    assert_eq!(w.connections.unanswered(), 1);
    tokio::time::sleep(IDLE_TIMEOUT).await;
    w.open(0).await;
    assert_eq!(w.connections.shared.available_permits(), SHARED);
}

/// [D14] The room of what was large is not kept by its connection.
#[tokio::test]
async fn what_was_large_leaves_nothing_behind() {
    let (mut client, stream) = tokio::io::duplex(1 << 20);
    let budget = Budget::new(Arc::new(tokio::sync::Semaphore::new(SHARED)));
    let mut conversation = Framed::with_capacity(stream, Framing::new(budget), BUFFER);
    let large = vec![0xff; 65535];
    let framed = [&large[..2], &large].concat();
    // A small one begins behind the large one, as others do.
    client.write_all(&[&framed[..], b"\0\x03abc\0\x03ab"].concat()).await.expect("sent");
    for expected in [&large[..], b"abc"] {
        let message = conversation.next().await.expect("a message").expect("no error");
        assert_eq!(message.octets(), expected);
    }
    // What is behind it has been read.
    assert!(conversation.next().now_or_never().is_none());
    assert_eq!(conversation.read_buffer().as_ref(), b"\0\x03ab");
    assert!(!conversation.read_buffer_mut().try_reclaim(3 * SMALL), "the room of a message");
    for _ in 0..2 {
        conversation.feed(large.clone().into()).await.expect("room");
        flush(&mut conversation).await.expect("written");
        assert!(!conversation.write_buffer_mut().try_reclaim(3 * SMALL), "the room of a reply");
    }
    let mut written = vec![0; 2 * framed.len()];
    client.read_exact(&mut written).await.expect("two replies");
    assert_eq!(written, framed.repeat(2));
}

/// [D14] A client that takes nothing and keeps its connections busy with that does not keep others out.
#[tokio::test(start_paused = true)]
async fn connections_that_are_stuck_make_room() {
    let w = serve(Limits { connections: 3, idle: IDLE_TIMEOUT }).await;
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let mut client = w.pipe(2048);
        send(&mut client, &["big.global A"]).await;
        deaf.push(client);
    }
    until(|| w.connections.unanswered() == 3).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let mut polite = w.pipe(2048);
    send(&mut polite, &["a.global A"]).await;
    receive(&mut polite).await.expect("a reply");
    w.open(3).await;
    assert_eq!((w.tcp.evicted.load(Ordering::Relaxed), w.tcp.rejected.load(Ordering::Relaxed)), (1, 0));
}

/// [D14] A connection that is reset at any moment is gone, and so is what it held.
#[tokio::test]
async fn a_reset_is_survived_at_every_octet() {
    let w = serve(ROOMY).await;
    let octets = [framed("big.global A"), framed("a.global A")].concat();
    for length in 0..=octets.len() {
        for read in [false, true] {
            let mut client = TcpStream::connect(w.address).await.expect("connects");
            client.write_all(&octets[..length]).await.expect("sent");
            if read && length == octets.len() {
                client.read_u16().await.expect("the beginning of a reply");
            }
            socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).expect("it can be reset");
        }
    }
    w.open(0).await;
    assert_eq!(w.connections.shared.available_permits(), SHARED);
    let mut client = TcpStream::connect(w.address).await.expect("connects");
    send(&mut client, &["a.global A"]).await;
    receive(&mut client).await.expect("a reply");
}

/// [L5] A drain waits for nobody who only sends.
#[tokio::test]
async fn a_flood_does_not_hold_up_a_drain() {
    let w = serve(ROOMY).await;
    let client = TcpStream::connect(w.address).await.expect("connects");
    let (mut reading, mut writing) = client.into_split();
    let flood = tokio::spawn(async move {
        let octets = framed("a.global A").repeat(1000);
        while writing.write_all(&octets).await.is_ok() {}
    });
    for _ in 0..1000 {
        receive(&mut reading).await.expect("a reply");
    }
    w.drain.cancel();
    let ended = async {
        while receive(&mut reading).await.is_some() {}
        w.connections.drained().await;
    };
    tokio::time::timeout(Duration::from_secs(30), ended).await.expect("it ends");
    flood.await.expect("no panic");
}
