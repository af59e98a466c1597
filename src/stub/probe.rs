//! Whether queries for a zone reach us: probes (D18) asked through cluster DNS.
//!
//! A setting that was written is no proof: cluster DNS reads it late, or finds it wrong and says so nowhere. The
//! answer to a probe is one, because nobody else can give it and its nonce has never been in a cache.
//!
//! [`survey`] asks, [`verdict()`] judges. Ask only servers that are known to be cluster DNS, never whatever a resolv.conf
//! names: any other would learn the names of zones, and a public one may know `global` as a top-level domain.

mod verdict;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures::StreamExt;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::Instant;

use crate::wire::Transport;
use crate::wire::name::{MAX_WIRE, Name};
use crate::wire::probe::{PREFIX, Proof};
use crate::wire::query::HEADER;
use crate::wire::reply::UDP_PAYLOAD;
pub use verdict::{Doubt, Verdict, verdict};

/// The most probes of a [`survey`] that wait for a reply at a time.
pub const IN_FLIGHT: usize = 32;
/// Characters of a nonce, of 5 bits each: more than anyone can guess or meet again.
const NONCE: usize = 26;
/// Where a nonce's characters come from: no letter has another case to be changed to on the way.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Octets of a question behind its name, RFC 1035 section 4.1.2.
const TYPE_AND_CLASS: usize = 4;
/// Room for whatever a server sends that does not keep to our payload size.
const LARGEST_DATAGRAM: usize = 4096;

/// What became of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It reached one of our replicas.
    Proved {
        /// Which replica, and its serial of the zone.
        proof: Proof,
        /// From the first query to the proof.
        elapsed: Duration,
    },
    /// It did not.
    Failed(Failure),
}

/// Why a probe proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Silence until the timeout.
    #[error("no reply came in time")]
    NoReply,
    /// ICMP or TCP says that nobody is there, or the connection broke.
    #[error("it is unreachable over {}: {error}", over(.transport))]
    Unreachable {
        /// Over UDP, or over TCP after a truncated reply.
        transport: Transport,
        /// As the system says it.
        error: io::ErrorKind,
    },
    /// The query never left: no socket, no route, no room in the name. Says nothing of the server.
    #[error("it could not be asked from here: {0}")]
    Unasked(io::ErrorKind),
    /// The name does not exist there.
    #[error("NXDOMAIN: it does not forward the zone")]
    NxDomain,
    /// It tried to find out and could not.
    #[error("SERVFAIL: it does not get an answer where it forwards the zone to")]
    ServFail,
    /// Policy, an overload, or a server without the zone behind it.
    #[error("REFUSED: it, or where it forwards the zone to, does not answer for the zone")]
    Refused,
    /// Another error, by its number.
    #[error("an error reply with code {0}")]
    Rcode(u8),
    /// NOERROR without our proof.
    #[error("an answer that is not ours: someone else serves the zone")]
    WrongAnswer,
}

fn over(transport: &Transport) -> &'static str {
    match transport {
        Transport::Udp => "UDP",
        Transport::Tcp => "TCP",
        Transport::Grpc => "gRPC",
    }
}

/// One probe of a survey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Who was asked.
    pub server: SocketAddr,
    /// For which zone.
    pub zone: Name,
    /// What came of it.
    pub outcome: Outcome,
}

impl Asked {
    /// Nobody answered at all.
    pub fn is_silent(&self) -> bool {
        matches!(self.failure(), Some(Failure::NoReply | Failure::Unreachable { .. } | Failure::Unasked(_)))
    }

    /// Why it proves nothing; `None` if it does prove the path.
    pub fn failure(&self) -> Option<Failure> {
        match self.outcome {
            Outcome::Proved { .. } => None,
            Outcome::Failed(failure) => Some(failure),
        }
    }
}

/// Asks every server for a proof of every zone, [`IN_FLIGHT`] at a time; server by server, in the order given.
/// `timeout` is each probe's own.
pub async fn survey(servers: &[SocketAddr], zones: &[Name], timeout: Duration) -> Vec<Asked> {
    let pairs = servers.iter().flat_map(|server| zones.iter().map(move |zone| (*server, zone.clone())));
    let asks = pairs.map(|(server, zone)| async move {
        let outcome = ask(server, &zone, timeout).await;
        Asked { server, zone, outcome }
    });
    // Collected, or the compiler cannot tell that the whole is Send.
    let asks: Vec<_> = asks.collect();
    futures::stream::iter(asks).buffered(IN_FLIGHT).collect().await
}

/// Which servers answer anything at all. They are asked for `version.bind` of class CH, which no resolver sends on: a
/// probe would leave the cluster while the zone is not forwarded yet.
pub async fn present(servers: &[SocketAddr], timeout: Duration) -> BTreeSet<SocketAddr> {
    let asks: Vec<_> = servers
        .iter()
        .copied()
        .map(|server| async move {
            let exchange = Exchange::version(server).ok()?;
            let reply = tokio::time::timeout(timeout, exchange.run(timeout / 2)).await;
            matches!(reply, Ok(Ok(_))).then_some(server)
        })
        .collect();
    let answers: Vec<_> = futures::stream::iter(asks).buffered(IN_FLIGHT).collect().await;
    answers.into_iter().flatten().collect()
}

/// Asks one server for a proof of one zone, with a nonce of its own. Asks a second time after half of `timeout`, and
/// over TCP if the reply is truncated.
pub async fn ask(server: SocketAddr, zone: &Name, timeout: Duration) -> Outcome {
    Probe::new(zone).ask(server, timeout).await
}

/// A name to ask for, once.
#[derive(Debug)]
pub struct Probe {
    zone: Name,
    nonce: String,
}

impl Probe {
    /// A probe of a zone with a random nonce, as long as the zone leaves room for.
    pub fn new(zone: &Name) -> Probe {
        let room = MAX_WIRE.saturating_sub(zone.wire().len() + 1 + PREFIX.len());
        let random: [u8; NONCE] = rand::random();
        let nonce = random.iter().take(room.max(1)).map(|r| char::from(ALPHABET[usize::from(*r) % 32]));
        Probe { zone: zone.clone(), nonce: nonce.collect() }
    }

    /// `_probe-<nonce>.<zone>`.
    pub fn name(&self) -> Name {
        self.zone.prepend(&format!("{PREFIX}{}", self.nonce))
    }

    /// See [`ask`]. Takes the probe, so that no nonce is asked twice.
    pub async fn ask(self, server: SocketAddr, timeout: Duration) -> Outcome {
        let begun = Instant::now();
        let exchanged = async {
            let exchange = Exchange::new(server, &self.name())?;
            let reply = exchange.run(timeout / 2).await?;
            exchange.judge(&reply)
        };
        match tokio::time::timeout(timeout, exchanged).await {
            Ok(Ok(proof)) => Outcome::Proved { proof, elapsed: begun.elapsed() },
            Ok(Err(failure)) => Outcome::Failed(failure),
            Err(_) => Outcome::Failed(Failure::NoReply),
        }
    }
}

/// A query on its way, and what a reply to it looks like.
struct Exchange {
    server: SocketAddr,
    name: HickoryName,
    query: Vec<u8>,
    /// Where its question ends.
    question_end: usize,
}

impl Exchange {
    fn new(server: SocketAddr, name: &Name) -> Result<Exchange, Failure> {
        Exchange::of(server, name, DNSClass::IN)
    }

    /// For [`present`].
    fn version(server: SocketAddr) -> Result<Exchange, Failure> {
        let name = Name::parse("version.bind").map_err(|_| Failure::Unasked(io::ErrorKind::InvalidInput))?;
        Exchange::of(server, &name, DNSClass::CH)
    }

    fn of(server: SocketAddr, name: &Name, class: DNSClass) -> Result<Exchange, Failure> {
        let unaskable = Failure::Unasked(io::ErrorKind::InvalidInput);
        let question_end = HEADER + name.wire().len() + TYPE_AND_CLASS;
        let name = HickoryName::read(&mut BinDecoder::new(name.wire())).map_err(|_| unaskable)?;
        let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
        // Cluster DNS is a resolver, and NodeLocal's cache among others wants to be asked like one.
        message.metadata.recursion_desired = true;
        let mut query = Query::query(name.clone(), RecordType::TXT);
        query.set_query_class(class);
        message.add_query(query);
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
        let query = message.to_vec().map_err(|_| unaskable)?;
        Ok(Exchange { server, name, query, question_end })
    }

    async fn run(&self, patience: Duration) -> Result<Vec<u8>, Failure> {
        let any: IpAddr =
            if self.server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let unasked = |error: io::Error| Failure::Unasked(error.kind());
        let socket = UdpSocket::bind((any, 0)).await.map_err(unasked)?;
        // From now on the kernel drops what others send, and reports what ICMP says.
        socket.connect(self.server).await.map_err(unasked)?;
        let broken = |transport| move |error: io::Error| broken(transport, &error);
        socket.send(&self.query).await.map_err(broken(Transport::Udp))?;
        let received = match tokio::time::timeout(patience, self.receive(&socket)).await {
            Ok(received) => received,
            Err(_) => {
                socket.send(&self.query).await.map_err(broken(Transport::Udp))?;
                self.receive(&socket).await
            }
        };
        let reply = received.map_err(broken(Transport::Udp))?;
        let truncated = reply[2] & 0x02 != 0;
        if truncated { self.over_tcp().await.map_err(broken(Transport::Tcp)) } else { Ok(reply) }
    }

    async fn receive(&self, socket: &UdpSocket) -> io::Result<Vec<u8>> {
        let mut reply = vec![0; LARGEST_DATAGRAM];
        loop {
            let length = socket.recv(&mut reply).await?;
            if self.is_answered_by(&reply[..length]) {
                reply.truncate(length);
                return Ok(reply);
            }
        }
    }

    async fn over_tcp(&self) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(self.server).await?;
        let length = (self.query.len() as u16).to_be_bytes();
        stream.write_all(&[&length, &self.query[..]].concat()).await?;
        loop {
            let mut reply = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut reply).await?;
            if self.is_answered_by(&reply) {
                return Ok(reply);
            }
        }
    }

    /// RFC 5452 section 9.1: what is compared before a reply is believed. The addresses are the socket's matter.
    fn is_answered_by(&self, reply: &[u8]) -> bool {
        let Some(header) = reply.first_chunk::<HEADER>() else { return false };
        let is_response = header[2] & 0xf8 == 0x80;
        let question = || {
            let ours = &self.query[HEADER..self.question_end];
            // Lengths, type and class are no letters.
            reply.get(HEADER..self.question_end).is_some_and(|theirs| theirs.eq_ignore_ascii_case(ours))
        };
        header[..2] == self.query[..2]
            && is_response
            && match header[4..6] {
                [0, 1] => question(),
                // Some echo no question in an error reply; what speaks of a name must say of which.
                [0, 0] => !matches!(rcode(reply), NOERROR | NXDOMAIN),
                _ => false,
            }
    }

    fn judge(&self, reply: &[u8]) -> Result<Proof, Failure> {
        match rcode(reply) {
            NOERROR => self.proof(reply).ok_or(Failure::WrongAnswer),
            SERVFAIL => Err(Failure::ServFail),
            NXDOMAIN => Err(Failure::NxDomain),
            REFUSED => Err(Failure::Refused),
            other => Err(Failure::Rcode(other)),
        }
    }

    fn proof(&self, reply: &[u8]) -> Option<Proof> {
        let message = Message::from_vec(reply).ok()?;
        message.answers.iter().filter(|record| record.name == self.name).find_map(|record| {
            match &record.data {
                RData::TXT(text) => Proof::read(text.txt_data.iter().map(|string| &**string)),
                _ => None,
            }
        })
    }
}

const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// The code in the header. `reply` must have one.
fn rcode(reply: &[u8]) -> u8 {
    reply[3] & 0x0f
}

fn broken(transport: Transport, error: &io::Error) -> Failure {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        UnexpectedEof,
    };
    match error.kind() {
        error @ (ConnectionAborted | ConnectionRefused | ConnectionReset | HostUnreachable
        | NetworkUnreachable | UnexpectedEof) => Failure::Unreachable { transport, error },
        error => Failure::Unasked(error),
    }
}

#[cfg(test)]
mod tests;
