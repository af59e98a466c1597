//! Those who ask: over UDP, TCP and gRPC, and those who send what no client should.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

use super::question::Asked;
use super::{Shared, Transport};
use crate::random::Random;

/// The longest wait for replies. Nothing is full here, so only a server that is silent makes it pass.
const PATIENCE: Duration = Duration::from_secs(10);
/// Queries at a time, and how often, over each transport.
const UDP: (usize, Duration) = (25, Duration::from_millis(25));
const TCP: (usize, Duration) = (10, Duration::from_millis(33));
const GRPC: (usize, Duration) = (10, Duration::from_millis(100));
const MALFORMED: (usize, Duration) = (10, Duration::from_millis(33));
const CONNECTIONS: usize = 4;
/// Connections of bad clients at a time, and how long one is kept.
const BAD_CONNECTIONS: usize = 20;
const BAD_PATIENCE: usize = 20_000;

/// Asks over UDP.
pub(crate) fn udp(shared: &Shared, mut random: Random) {
    let mut id = 0;
    let mut socket = udp_socket(shared.dns);
    let mut pace = Pace::new(UDP.1);
    while shared.goes_on(&mut pace) {
        let drops = kernel_drops(shared.dns.port()) + own_drops(&socket);
        let begun = Instant::now();
        let mut waiting = HashMap::new();
        for asked in draw(shared, &mut random, &mut id, UDP.0) {
            // A program that is away refuses, which the next call on the socket tells.
            if socket.send(&asked.octets).or_else(|_| socket.send(&asked.octets)).is_ok() {
                waiting.insert(asked.id, asked);
            }
        }
        while !waiting.is_empty() && begun.elapsed() < PATIENCE {
            let mut reply = [0; 4096];
            let Ok(length) = socket.recv(&mut reply) else {
                if shared.model().restarting(begun, Instant::now()) {
                    break;
                }
                continue;
            };
            let (octets, answered) = (&reply[..length], Instant::now());
            match octets.get(..2).and_then(|id| waiting.remove(&u16::from_be_bytes([id[0], id[1]]))) {
                Some(asked) => shared.check(&asked, octets, answered, Transport::Udp),
                None => shared.fault(format!("a reply over UDP to nothing that was asked: {octets:02x?}")),
            }
        }
        if waiting.is_empty() {
            continue;
        }
        if !shared.model().restarting(begun, Instant::now()) {
            let dropped = kernel_drops(shared.dns.port()) + own_drops(&socket) - drops;
            shared.counts.dropped.fetch_add(dropped, Ordering::Relaxed);
            if dropped < waiting.len() as u64 {
                shared.fault(format!(
                    "{} of {} without a reply over UDP, {dropped} dropped",
                    waiting.len(),
                    UDP.0
                ));
            }
        }
        // A late reply is nobody's then.
        socket = udp_socket(shared.dns);
    }
}

/// Asks over a few TCP connections, many questions before the first is answered.
pub(crate) fn tcp(shared: &Shared, mut random: Random) {
    let mut id = 0;
    let mut connections: Vec<Option<(TcpStream, Instant)>> = (0..CONNECTIONS).map(|_| None).collect();
    let mut pace = Pace::new(TCP.1);
    while shared.goes_on(&mut pace) {
        let connection = &mut connections[random.range(0..CONNECTIONS)];
        // A connection from before a restart is broken.
        let since = connection.as_ref().map_or_else(Instant::now, |(_, opened)| *opened);
        let questions = draw(shared, &mut random, &mut id, TCP.0);
        if let Err(error) = pipelined(shared, connection, questions, &mut random) {
            *connection = None;
            if !shared.model().restarting(since, Instant::now()) {
                shared.fault(format!("over TCP: {error}"));
            }
        } else if random.chance(5) {
            *connection = None;
        }
    }
}

fn pipelined(
    shared: &Shared,
    connection: &mut Option<(TcpStream, Instant)>,
    questions: Vec<Asked>,
    random: &mut Random,
) -> std::io::Result<()> {
    let (stream, _) = match connection {
        Some(connection) => connection,
        None => {
            let opened = Instant::now();
            let stream = TcpStream::connect_timeout(&shared.dns, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            connection.insert((stream, opened))
        }
    };
    let mut octets = Vec::new();
    for asked in &questions {
        octets.extend((asked.octets.len() as u16).to_be_bytes());
        octets.extend(&asked.octets);
    }
    // In two pieces, wherever the cut is.
    let (first, second) = octets.split_at(random.range(1..octets.len()));
    stream.write_all(first)?;
    stream.write_all(second)?;
    let mut waiting: HashMap<u16, Asked> = questions.into_iter().map(|asked| (asked.id, asked)).collect();
    while !waiting.is_empty() {
        let mut length = [0; 2];
        stream.read_exact(&mut length)?;
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply)?;
        let answered = Instant::now();
        match reply.get(..2).and_then(|id| waiting.remove(&u16::from_be_bytes([id[0], id[1]]))) {
            Some(asked) => shared.check(&asked, &reply, answered, Transport::Tcp),
            None => shared.fault(format!("a reply over TCP to nothing that was asked: {reply:02x?}")),
        }
    }
    Ok(())
}

/// `message DnsPacket { bytes msg = 1; }`
#[derive(Clone, PartialEq, Message)]
struct DnsPacket {
    #[prost(bytes = "vec", tag = "1")]
    msg: Vec<u8>,
}

/// Asks over one gRPC connection, many calls at a time.
pub(crate) fn grpc(shared: &Shared, mut random: Random) {
    let mut id = 0;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let connect = || {
        let endpoint = Endpoint::from_shared(format!("http://{}", shared.grpc)).expect("a URI");
        runtime.block_on(async { endpoint.timeout(PATIENCE).connect_lazy() })
    };
    let (mut channel, mut opened) = (connect(), Instant::now());
    let mut pace = Pace::new(GRPC.1);
    while shared.goes_on(&mut pace) {
        let begun = Instant::now();
        // As over TCP; and any other time for its own sake.
        if random.chance(5) || shared.model().restarting(opened, begun) {
            (channel, opened) = (connect(), begun);
        }
        let calls = draw(shared, &mut random, &mut id, GRPC.0).into_iter().map(|asked| call(&channel, asked));
        for (asked, reply) in runtime.block_on(futures::future::join_all(calls)) {
            match reply {
                Ok(reply) => shared.check(&asked, &reply, Instant::now(), Transport::Grpc),
                Err(_) if shared.model().restarting(begun, Instant::now()) => {}
                Err(status) => shared.fault(format!("over gRPC: {status}")),
            }
        }
    }
}

async fn call(channel: &Channel, asked: Asked) -> (Asked, Result<Vec<u8>, tonic::Status>) {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    let packet = tonic::Request::new(DnsPacket { msg: asked.octets.clone() });
    let reply = async {
        grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let codec = ProstCodec::<DnsPacket, DnsPacket>::default();
        let path = PathAndQuery::from_static("/coredns.dns.DnsService/Query");
        Ok(grpc.unary(packet, path, codec).await?.into_inner().msg)
    };
    let reply = reply.await;
    (asked, reply)
}

/// Sends datagrams that are no queries, or nearly. Where there is a reply it can be read.
pub(crate) fn malformed(shared: &Shared, mut random: Random) {
    let mut id = 0;
    let socket = udp_socket(shared.dns);
    let mut pace = Pace::new(MALFORMED.1);
    while shared.goes_on(&mut pace) {
        for asked in draw(shared, &mut random, &mut id, MALFORMED.0) {
            // Refused while the program is away.
            let _ = socket.send(&spoilt(asked.octets, &mut random));
            shared.counts.malformed.fetch_add(1, Ordering::Relaxed);
        }
        let mut reply = [0; 4096];
        while let Ok(length) = socket.recv(&mut reply) {
            let octets = &reply[..length];
            let is_reply = octets.len() >= 12 && octets[2] & 0x80 != 0;
            if !is_reply || hickory_proto::op::Message::from_vec(octets).is_err() {
                shared.fault(format!("a malformed reply to malformed input: {octets:02x?}"));
            }
            shared.counts.malformed_replies.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A query with something wrong with it.
fn spoilt(mut octets: Vec<u8>, random: &mut Random) -> Vec<u8> {
    match random.range(0..6) {
        0 => octets.truncate(random.range(0..octets.len())),
        1 => octets.extend((0..random.range(1..1200)).map(|_| random.next() as u8).collect::<Vec<u8>>()),
        // Counts that lie.
        2 => octets[4 + random.range(0..8)] = random.next() as u8,
        // A name that points somewhere, itself maybe.
        3 => octets[12..14].copy_from_slice(&[0xc0 | (random.next() as u8 & 0x3f), random.next() as u8]),
        4 => octets = (0..random.range(0..1500)).map(|_| random.next() as u8).collect(),
        _ => {
            for _ in 0..random.range(1..8) {
                let at = random.range(2..octets.len());
                octets[at] = random.next() as u8;
            }
        }
    }
    octets
}

/// Opens connections to every listener and says nothing, half of something, or something else.
pub(crate) fn rude(shared: &Shared, mut random: Random) {
    let mut open: Vec<(Instant, TcpStream)> = Vec::new();
    let mut pace = Pace::new(Duration::from_millis(100));
    while shared.goes_on(&mut pace) {
        open.retain(|(until, _)| *until > Instant::now());
        let (address, half) = match random.range(0..4) {
            0 => (shared.admin, b"GET /metrics HTT".to_vec()),
            1 => (shared.grpc, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x0c\x04".to_vec()),
            _ => (shared.dns, vec![0, 40, 1, 2, 3]),
        };
        let octets = match random.range(0..4) {
            0 => Vec::new(),
            1 => (0..random.range(1..300)).map(|_| random.next() as u8).collect(),
            2 => vec![0xff; 4],
            _ => half,
        };
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, PATIENCE) {
            let _ = stream.write_all(&octets);
            shared.counts.rude.fetch_add(1, Ordering::Relaxed);
            if open.len() < BAD_CONNECTIONS {
                let kept = Duration::from_millis(random.range(0..BAD_PATIENCE) as u64);
                open.push((Instant::now() + kept, stream));
            }
        }
    }
}

fn draw(shared: &Shared, random: &mut Random, id: &mut u16, count: usize) -> Vec<Asked> {
    let model = shared.model();
    (0..count)
        .map(|_| {
            *id = id.wrapping_add(1);
            Asked::draw(&model, random, *id)
        })
        .collect()
}

fn udp_socket(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind a UDP socket");
    socket.connect(server).expect("connect a UDP socket");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set a read timeout");
    socket
}

fn own_drops(socket: &UdpSocket) -> u64 {
    socket.local_addr().map_or(0, |address| kernel_drops(address.port()))
}

/// Datagrams the kernel has dropped at the UDP sockets of a port: the last column of `/proc/net/udp`.
fn kernel_drops(port: u16) -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").unwrap_or_default();
    let of_port = |line: &&str| {
        let local = line.split_whitespace().nth(1).and_then(|address| address.split_once(':'));
        local.is_some_and(|(_, local)| u16::from_str_radix(local, 16) == Ok(port))
    };
    let drops = table.lines().skip(1).filter(of_port).filter_map(|line| line.split_whitespace().last());
    drops.filter_map(|drops| drops.parse::<u64>().ok()).sum()
}

/// Something every so often, and no more often after a delay.
pub(crate) struct Pace {
    every: Duration,
    due: Instant,
}

impl Pace {
    pub(crate) fn new(every: Duration) -> Self {
        Self { every, due: Instant::now() }
    }

    pub(crate) fn wait(&mut self) {
        std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        self.due = (self.due + self.every).max(Instant::now());
    }
}
