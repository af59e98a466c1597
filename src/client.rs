//! One question to one DNS server, over UDP and, where the reply is truncated, TCP: for whoever checks a server rather
//! than resolves a name. No search path, no resolv.conf, no cache.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name as HickoryName, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::lifecycle::random;
use crate::wire::query::HEADER;
use crate::wire::reply::UDP_PAYLOAD;
use crate::wire::{CLASS_IN, Rcode, Transport};

/// The port of DNS, for an address that names none.
pub const DNS_PORT: u16 = 53;
/// Octets of a question behind its name, RFC 1035 section 4.1.2.
const TYPE_AND_CLASS: usize = 4;
/// Room for whatever a server sends that does not keep to our payload size.
const LARGEST_DATAGRAM: usize = 4096;

/// Why there is no reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Silence until the timeout.
    #[error("no reply came in time")]
    NoReply,
    /// ICMP or TCP says that nobody is there, or the connection broke.
    #[error("it is unreachable over {}: {error}", .transport.name())]
    Unreachable {
        /// Over UDP, or over TCP.
        transport: Transport,
        /// As the system says it.
        error: io::ErrorKind,
    },
    /// The query never left: no socket, no route, no such name. Says nothing of the server.
    #[error("it could not be asked from here: {0}")]
    Unasked(io::ErrorKind),
}

/// How a question is put.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// The transport it begins with; a truncated reply over UDP is fetched over TCP in any case.
    pub transport: Transport,
    /// How long to wait for a reply each time it is put.
    pub patience: Duration,
    /// How often it is put at most, at least once.
    pub tries: u32,
}

/// A question on its way, and what a reply to it looks like.
#[derive(Debug)]
pub struct Exchange {
    server: SocketAddr,
    query: Vec<u8>,
    /// Where its question ends.
    question_end: usize,
}

impl Exchange {
    /// A question of class IN. `name` is in wire form, in whatever spelling it shall be asked.
    pub fn new(server: SocketAddr, name: &[u8], rtype: u16) -> Result<Exchange, Failure> {
        Exchange::of_class(server, name, rtype, CLASS_IN)
    }

    /// The same of any class.
    pub fn of_class(server: SocketAddr, name: &[u8], rtype: u16, class: u16) -> Result<Exchange, Failure> {
        let unaskable = Failure::Unasked(io::ErrorKind::InvalidInput);
        let question_end = HEADER + name.len() + TYPE_AND_CLASS;
        let name = HickoryName::read(&mut BinDecoder::new(name)).map_err(|_| unaskable)?;
        let mut message = Message::new(u16::from_ne_bytes(random()), MessageType::Query, OpCode::Query);
        // Cluster DNS is a resolver, and NodeLocal's cache among others wants to be asked like one.
        message.metadata.recursion_desired = true;
        let mut query = Query::query(name, RecordType::from(rtype));
        query.set_query_class(DNSClass::from(class));
        message.add_query(query);
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        message.set_edns(edns);
        let query = message.to_vec().map_err(|_| unaskable)?;
        Ok(Exchange { server, query, question_end })
    }

    /// Puts the question until there is a reply to it, which has at least a header.
    pub async fn run(&self, manner: Manner) -> Result<Vec<u8>, Failure> {
        if manner.transport == Transport::Tcp {
            return self.over_tcp(manner).await;
        }
        let any: IpAddr =
            if self.server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let unasked = |error: io::Error| Failure::Unasked(error.kind());
        let socket = UdpSocket::bind((any, 0)).await.map_err(unasked)?;
        // From now on the kernel drops what others send, and reports what ICMP says.
        socket.connect(self.server).await.map_err(unasked)?;
        let broken = |error: io::Error| broken(Transport::Udp, &error);
        for _ in 0..manner.tries.max(1) {
            socket.send(&self.query).await.map_err(broken)?;
            let Ok(received) = tokio::time::timeout(manner.patience, self.receive(&socket)).await else {
                continue;
            };
            let reply = received.map_err(broken)?;
            return if is_truncated(&reply) { self.over_tcp(manner).await } else { Ok(reply) };
        }
        Err(Failure::NoReply)
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

    async fn over_tcp(&self, manner: Manner) -> Result<Vec<u8>, Failure> {
        for _ in 0..manner.tries.max(1) {
            if let Ok(done) = tokio::time::timeout(manner.patience, self.over_connection()).await {
                return done.map_err(|error| broken(Transport::Tcp, &error));
            }
        }
        Err(Failure::NoReply)
    }

    async fn over_connection(&self) -> io::Result<Vec<u8>> {
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
        const NOERROR: u8 = Rcode::NoError as u8;
        const NXDOMAIN: u8 = Rcode::NxDomain as u8;
        header[..2] == self.query[..2]
            && is_response
            && match header[4..6] {
                [0, 1] => question(),
                // Some echo no question in an error reply; what speaks of a name must say of which.
                [0, 0] => !matches!(rcode(reply), NOERROR | NXDOMAIN),
                _ => false,
            }
    }
}

/// The code in the header of what [`Exchange::run`] returns.
pub fn rcode(reply: &[u8]) -> u8 {
    reply[3] & 0x0f
}

fn is_truncated(reply: &[u8]) -> bool {
    reply[2] & 0x02 != 0
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

/// `IP`, `IP:PORT` or `[IPv6]:PORT` as an address to ask.
pub fn parse_server(text: &str) -> Option<SocketAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, DNS_PORT)),
        Err(_) => text.parse().ok(),
    }
}
