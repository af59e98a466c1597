//! Questions, and replies that are looked at octet for octet.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Instant;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

use super::model::{Host, Model};
use crate::random::Random;

/// The zones, and a label below them under which all names of a soak are.
pub(crate) const ZONES: [&str; 2] = ["global", "cluster2"];
const HEADER: usize = 12;

/// One question, as it was sent.
pub(crate) struct Asked {
    pub(crate) octets: Vec<u8>,
    pub(crate) id: u16,
    name: Name,
    record_type: RecordType,
    edns: bool,
    about: About,
    /// When it was sent, or soon before.
    pub(crate) at: Instant,
}

/// What is known of the name.
#[derive(Clone, Copy, Debug)]
enum About {
    /// The model knows it.
    Host(usize),
    /// Nobody has it.
    Nobody,
    /// It has one record of the type asked for, whatever that says.
    Fixed,
    /// It exists, and has no record of that type.
    Empty,
    /// It is in no zone.
    Outside,
}

/// The facts of a reply that depend on the name.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) rcode: ResponseCode,
    pub(crate) addresses: BTreeSet<IpAddr>,
    pub(crate) ttls: Vec<u32>,
}

impl Asked {
    /// A question of the usual mix.
    pub(crate) fn draw(model: &Model, random: &mut Random, id: u16) -> Self {
        let zone = *random.pick(&ZONES);
        let (name, record_type, about) = match random.range(0..100) {
            0..6 => (format!("no-{}.soak.{zone}", random.next()), RecordType::A, About::Nobody),
            // What a search path makes of a name (H6).
            6..8 => {
                let host = random.pick(&model.hosts);
                (format!("{}.svc.cluster.local.{zone}", host.asked(random)), RecordType::A, About::Nobody)
            }
            8..10 => (zone.to_owned(), *random.pick(&[RecordType::SOA, RecordType::NS]), About::Fixed),
            10..11 => (format!("_probe-{}.{zone}", random.next()), RecordType::TXT, About::Fixed),
            11..12 => (format!("soak.{zone}"), RecordType::A, About::Empty),
            12..14 => (format!("host-{}.example.com", random.next()), RecordType::A, About::Outside),
            other => {
                let host = random.range(0..model.hosts.len());
                let record_type = match other {
                    14..65 => RecordType::A,
                    65..95 => RecordType::AAAA,
                    _ => *random.pick(&[RecordType::TXT, RecordType::MX, RecordType::SRV]),
                };
                (model.hosts[host].asked(random), record_type, About::Host(host))
            }
        };
        Self::new(&name, record_type, about, random, id)
    }

    /// The addresses of a host.
    pub(crate) fn of_host(
        model: &Model,
        host: usize,
        record_type: RecordType,
        random: &mut Random,
        id: u16,
    ) -> Self {
        Self::new(&model.hosts[host].asked(random), record_type, About::Host(host), random, id)
    }

    fn new(name: &str, record_type: RecordType, about: About, random: &mut Random, id: u16) -> Self {
        // Case is no difference (D15), and shows in the echo.
        let spelled: String =
            name.chars().map(|one| if random.chance(10) { one.to_ascii_uppercase() } else { one }).collect();
        let mut name = Name::from_str(&spelled).expect("a domain name");
        name.set_fqdn(true);
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = random.chance(80);
        message.add_query(Query::query(name.clone(), record_type));
        let edns = random.chance(70);
        if edns {
            let mut edns = Edns::new();
            edns.set_max_payload(1232).set_dnssec_ok(random.chance(30));
            message.set_edns(edns);
        }
        let octets = message.to_vec().expect("encode a query");
        Self { octets, id, name, record_type, edns, about, at: Instant::now() }
    }

    /// Whether the reply, which was there at `answered`, is a right one. `excused`: the program was away meanwhile and
    /// may say that it does not know yet (D9).
    pub(crate) fn check(
        &self,
        model: &mut Model,
        octets: &[u8],
        answered: Instant,
        excused: bool,
    ) -> Result<(), String> {
        let checked = self.read(octets).and_then(|reply| {
            let servfail = reply.rcode == ResponseCode::ServFail;
            if servfail && excused && !matches!(self.about, About::Outside) {
                return Ok(());
            }
            let expected = match self.about {
                About::Host(host) => return self.judged(model, host, &reply, answered),
                About::Nobody => ResponseCode::NXDomain,
                About::Outside => ResponseCode::Refused,
                About::Fixed | About::Empty => ResponseCode::NoError,
            };
            (reply.rcode == expected).then_some(()).ok_or_else(|| format!("{reply:?} and not {expected}"))
        });
        checked.map_err(|what| self.told(&what, octets))
    }

    /// Whether the reply has what a host was given last.
    pub(crate) fn check_last(&self, model: &Model, octets: &[u8]) -> Result<(), String> {
        let About::Host(host) = self.about else { return Err("no question about a host".to_owned()) };
        let checked = self.read(octets).and_then(|reply| model.judge_last(host, self.record_type, &reply));
        checked.map_err(|what| self.told(&what, octets))
    }

    fn told(&self, what: &str, octets: &[u8]) -> String {
        let octets: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("{} {}: {what}; the reply is {octets}", self.name, self.record_type)
    }

    fn judged(&self, model: &mut Model, host: usize, reply: &Reply, answered: Instant) -> Result<(), String> {
        let judged = model.judge(host, self.record_type, reply, self.at, answered);
        judged.map_err(|may| format!("{reply:?}, but {may}"))
    }

    /// Everything that does not depend on the entries (D1, D2, D3, D4, D12, D17).
    fn read(&self, octets: &[u8]) -> Result<Reply, String> {
        let mut decoder = BinDecoder::new(octets);
        let message = Message::read(&mut decoder).map_err(|error| format!("malformed: {error}"))?;
        let must = |holds: bool, what: &str| if holds { Ok(()) } else { Err(what.to_owned()) };
        must(decoder.is_empty(), "octets behind the message")?;
        let question = HEADER + self.octets[HEADER..].iter().position(|octet| *octet == 0).unwrap_or(0) + 5;
        must(octets[..2] == self.octets[..2], "another id")?;
        must(octets.get(HEADER..question) == Some(&self.octets[HEADER..question]), "another question")?;
        must(octets[2] & 0x80 != 0, "not a reply")?;
        must(octets[2] & 0x78 == 0, "another opcode")?;
        must(octets[2] & 0x02 == 0, "truncated")?;
        must((octets[2] ^ self.octets[2]) & 0x01 == 0, "RD is not copied")?;
        must(octets[3] & 0xf0 == 0, "RA, Z, AD or CD")?;
        must(message.edns.is_some() == self.edns, "OPT exactly if the query had it")?;
        let rcode = message.metadata.response_code;
        let ours = matches!(rcode, ResponseCode::NoError | ResponseCode::NXDomain);
        must(message.metadata.authoritative == ours, "AA on NOERROR and NXDOMAIN alone")?;
        let soa = message.authorities.iter().filter(|record| record.record_type() == RecordType::SOA).count();
        let negative = ours && message.answers.is_empty();
        must(
            soa == usize::from(negative) && message.authorities.len() == soa,
            "an SOA exactly in negatives",
        )?;
        must(rcode == ResponseCode::NoError || message.answers.is_empty(), "an answer with an error")?;
        if let About::Fixed | About::Empty = self.about {
            let wanted = usize::from(matches!(self.about, About::Fixed));
            must(message.answers.len() == wanted || !ours, "another number of records")?;
        }
        let mut reply = Reply { rcode, addresses: BTreeSet::new(), ttls: Vec::new() };
        for record in &message.answers {
            must(record.name.to_ascii() == self.name.to_ascii(), "another owner")?;
            must(record.record_type() == self.record_type, "another type")?;
            must(record.dns_class == DNSClass::IN, "another class")?;
            let new = match &record.data {
                RData::A(address) => reply.addresses.insert(address.0.into()),
                RData::AAAA(address) => reply.addresses.insert(address.0.into()),
                _ => true,
            };
            must(new, "an address twice")?;
            reply.ttls.push(record.ttl);
        }
        Ok(reply)
    }
}

impl Host {
    /// The name to ask for.
    fn asked(&self, random: &mut Random) -> String {
        match self.wildcard {
            true => format!("x{}.{}", random.range(0..1_000_000), self.name),
            false => self.name.clone(),
        }
    }
}
