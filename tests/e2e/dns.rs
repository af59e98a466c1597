//! A small DNS client: one question over UDP, and the few facts of the reply that tests compare.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::wait::{DEADLINE, poll};

/// What a reply says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) rcode: ResponseCode,
    pub(crate) authoritative: bool,
    /// Of the answer section; a set, because replies rotate.
    pub(crate) addresses: BTreeSet<IpAddr>,
}

impl Answer {
    /// NOERROR with these addresses.
    pub(crate) fn of(addresses: &[&str]) -> Self {
        let parse = |one: &&str| one.parse().expect("an address");
        Self {
            rcode: ResponseCode::NoError,
            authoritative: true,
            addresses: addresses.iter().map(parse).collect(),
        }
    }

    /// The name does not exist.
    pub(crate) fn nxdomain() -> Self {
        Self { rcode: ResponseCode::NXDomain, ..Self::of(&[]) }
    }

    /// We do not know yet.
    pub(crate) fn servfail() -> Self {
        Self { rcode: ResponseCode::ServFail, authoritative: false, ..Self::of(&[]) }
    }
}

/// A client with one socket.
pub(crate) struct Resolver {
    socket: UdpSocket,
    id: u16,
}

impl Resolver {
    /// A client of the server at `server`.
    pub(crate) fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bind a UDP socket");
        socket.connect(server).expect("connect a UDP socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("set a read timeout");
        Self { socket, id: 0 }
    }

    /// The reply to `name` A; `None` if there is none within two seconds.
    pub(crate) fn a(&mut self, name: &str) -> Option<Answer> {
        self.ask(name, RecordType::A)
    }

    /// The reply to one question; `None` if there is none within two seconds.
    pub(crate) fn ask(&mut self, name: &str, record_type: RecordType) -> Option<Answer> {
        self.id = self.id.wrapping_add(1);
        let mut message = Message::new(self.id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        let mut name = Name::from_str(name).expect("a domain name");
        name.set_fqdn(true);
        message.add_query(Query::query(name, record_type));
        let query = message.to_vec().expect("encode a query");
        self.socket.send(&query).ok()?;

        let mut buffer = [0; 4096];
        loop {
            let length = self.socket.recv(&mut buffer).ok()?;
            let reply = Message::from_vec(&buffer[..length]).expect("a reply that parses");
            // A late reply to a question we gave up.
            if reply.metadata.id != self.id {
                continue;
            }
            let addresses = reply.answers.iter().filter_map(|record| match &record.data {
                RData::A(address) => Some(IpAddr::V4(address.0)),
                RData::AAAA(address) => Some(IpAddr::V6(address.0)),
                _ => None,
            });
            return Some(Answer {
                rcode: reply.metadata.response_code,
                authoritative: reply.metadata.authoritative,
                addresses: addresses.collect(),
            });
        }
    }

    /// The reply to a message, octet for octet; `None` if there is none within two seconds.
    pub(crate) fn exchange(&self, message: &[u8]) -> Option<Vec<u8>> {
        self.socket.send(message).ok()?;
        let mut reply = vec![0; 4096];
        let length = self.socket.recv(&mut reply).ok()?;
        reply.truncate(length);
        Some(reply)
    }

    /// Waits until `name` A is answered with `expected`.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, name: &str, expected: &Answer) {
        let mut last = None;
        let seen = poll(DEADLINE, || {
            last = self.a(name);
            (last.as_ref() == Some(expected)).then_some(())
        });
        if seen.is_none() {
            panic!("{name} A: not within {DEADLINE:?}: {expected:?}; the last reply was {last:?}");
        }
    }

    /// Asserts what `name` A is answered with now.
    #[track_caller]
    pub(crate) fn assert(&mut self, name: &str, expected: &Answer) {
        assert_eq!(self.a(name).as_ref(), Some(expected), "{name} A");
    }
}
