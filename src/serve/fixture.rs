//! What the tests of this module share: a responder over a small table, and replies as dig prints them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Name as HickoryName, RData, Record, RecordType};

use super::hickory::Handler;
use super::responder::{Arrival, Guard, Outcome, Responder, Settings};
use crate::metrics::Counters;
use crate::wire::name::Name;
use crate::wire::{Rcode, Transport};
use crate::zone::answer::Answers;
use crate::zone::{Host, Table, Zones};

pub const SERIAL: u32 = 1_700_000_000;

pub struct Fixture {
    pub responder: Arc<Responder>,
    pub counters: Arc<Counters>,
    handler: Handler,
}

pub fn host(text: &str) -> Host {
    let wildcard = text.starts_with("*.");
    let name = Name::parse(text.trim_start_matches("*.")).expect(text);
    Host { name, wildcard }
}

pub fn table(zones: &[&str], hosts: &[(&str, Vec<IpAddr>)]) -> Arc<Table> {
    let names = zones.iter().map(|z| Name::parse(z).expect(z)).collect();
    let cluster_domain = Name::parse("cluster.local").expect("valid");
    let table = Table::new(Zones::new(names, cluster_domain, SERIAL).expect("valid zones"));
    for (text, addresses) in hosts {
        table.set(&host(text), Answers::new(addresses, 30), None, SERIAL);
    }
    table.set_complete();
    Arc::new(table)
}

pub fn settings() -> Settings {
    Settings { ttl: 30, negative_ttl: 5, rotate: false, nsid: b"pod-1".to_vec() }
}

impl Fixture {
    pub fn new(table: Arc<Table>, settings: Settings, advertised: &[&str]) -> Fixture {
        let advertised = advertised.iter().map(|a| a.parse().expect(a)).collect();
        Fixture::of(Responder::new(table, settings, advertised))
    }

    /// Without name server addresses, and asking this of clients.
    pub fn guarded(table: Arc<Table>, guard: Guard) -> Fixture {
        Fixture::of(Responder::new(table, settings(), Vec::new()).guarded(guard))
    }

    fn of(responder: Responder) -> Fixture {
        let zones = responder.table().zones().count();
        let responder = Arc::new(responder);
        let counters = Arc::new(Counters::new(zones));
        let handler = Handler::new(responder.clone(), counters.clone());
        Fixture { responder, counters, handler }
    }

    pub fn arrival(transport: Transport) -> Arrival {
        let peer: SocketAddr = "192.0.2.1:4000".parse().expect("valid");
        Arrival::new(transport, peer, "192.0.2.53".parse().expect("valid"), SERIAL)
    }

    /// By the responder alone.
    pub fn fast(&self, message: &[u8], transport: Transport) -> Result<Vec<u8>, Outcome> {
        self.fast_to(message, Self::arrival(transport))
    }

    pub fn fast_to(&self, message: &[u8], arrival: Arrival) -> Result<Vec<u8>, Outcome> {
        let mut out = vec![0; 65535];
        match self.responder.respond(message, arrival, &self.counters, &mut out) {
            Outcome::Reply(length) => Ok(out[..length].to_vec()),
            other => Err(other),
        }
    }

    /// By the general path alone.
    pub fn general(&self, message: &[u8], transport: Transport) -> Result<Vec<u8>, Outcome> {
        self.general_to(message, Self::arrival(transport))
    }

    pub fn general_to(&self, message: &[u8], arrival: Arrival) -> Result<Vec<u8>, Outcome> {
        let mut out = vec![0; 65535];
        match self.handler.respond(message, arrival, &mut out) {
            Outcome::Reply(length) => Ok(out[..length].to_vec()),
            other => Err(other),
        }
    }

    /// As the listeners do it.
    pub fn ask(&self, message: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let reply = match self.fast(message, transport) {
            Err(Outcome::Declined) => self.general(message, transport),
            other => other,
        };
        reply.ok()
    }

    /// Asks `NAME TYPE [+udp=SIZE] [+do] [+nsid] [+tcp] [+class=CH] [+edns=VERSION]
    /// [+cookie=HEX]` and renders the reply.
    pub fn dig(&self, text: &str) -> Vec<String> {
        let (message, transport) = query(text);
        render(&self.ask(&message, transport).unwrap_or_default())
    }
}

/// The message and transport that [`Fixture::dig`] would use.
pub fn query(text: &str) -> (Vec<u8>, Transport) {
    let mut words = text.split_whitespace();
    let name = words.next().expect("a name");
    let rtype = words.next().expect("a type");
    let labels = name.split('.').filter(|label| !label.is_empty()).map(str::as_bytes);
    let name = HickoryName::from_labels(labels).expect("a name");
    let rtype = match rtype.strip_prefix("TYPE") {
        Some(number) => RecordType::from(number.parse::<u16>().expect("a number")),
        None => rtype.parse().expect("a type"),
    };
    let mut question = Query::query(name, rtype);
    let mut edns: Option<Edns> = None;
    let mut transport = Transport::Udp;
    for option in words {
        let (key, value) = option.split_once('=').unwrap_or((option, ""));
        match key {
            "+udp" => {
                edns.get_or_insert_default().set_max_payload(value.parse().expect("a size"));
            }
            "+do" => {
                edns.get_or_insert_default().set_dnssec_ok(true);
            }
            "+edns" => {
                edns.get_or_insert_default().set_version(value.parse().expect("a version"));
            }
            "+nsid" => edns.get_or_insert_default().options_mut().insert(EdnsOption::Unknown(3, vec![])),
            "+cookie" => {
                let octet = |at: usize| u8::from_str_radix(&value[2 * at..][..2], 16).expect("hexadecimal");
                let cookie = EdnsOption::Unknown(10, (0..value.len() / 2).map(octet).collect());
                edns.get_or_insert_default().options_mut().insert(cookie);
            }
            "+tcp" => transport = Transport::Tcp,
            "+class" => {
                question.set_query_class(value.parse::<DNSClass>().expect("a class"));
            }
            other => panic!("unknown option {other}"),
        }
    }
    let mut message = Message::new(0x4242, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(question);
    if let Some(edns) = edns {
        message.set_edns(edns);
    }
    (message.to_vec().expect("encodes"), transport)
}

/// Status and flags, then the records of each section with a mark: `=` answer, `~` authority, `+` additional.
pub fn render(reply: &[u8]) -> Vec<String> {
    let message = Message::from_vec(reply).expect("a reply decodes");
    let m = &message.metadata;
    let flag = |on: bool, name: &'static str| if on { name } else { "" };
    let code = u16::from(m.response_code);
    let known = Rcode::ALL.iter().find(|r| **r as u16 == code);
    let mut head = known.map_or_else(|| code.to_string(), |r| r.mnemonic().to_owned());
    for name in [
        flag(m.message_type == MessageType::Response, " qr"),
        flag(m.authoritative, " aa"),
        flag(m.truncation, " tc"),
        flag(m.recursion_desired, " rd"),
        flag(m.recursion_available, " ra"),
        flag(m.authentic_data, " ad"),
        flag(m.checking_disabled, " cd"),
    ] {
        head.push_str(name);
    }
    let mut out = vec![head];
    let line = |mark: char, r: &Record| {
        let data = match &r.data {
            RData::TXT(text) => {
                let strings = text.txt_data.iter().map(|s| format!("{:?}", String::from_utf8_lossy(s)));
                strings.collect::<Vec<_>>().join(" ")
            }
            other => other.to_string(),
        };
        format!("{mark} {} {} {} {data}", r.name, r.ttl, r.record_type())
    };
    out.extend(message.answers.iter().map(|r| line('=', r)));
    out.extend(message.authorities.iter().map(|r| line('~', r)));
    out.extend(message.additionals.iter().map(|r| line('+', r)));
    if let Some(edns) = &message.edns {
        let mut text = format!("OPT {}", edns.max_payload());
        text.push_str(flag(edns.flags().dnssec_ok, " do"));
        for (code, option) in edns.options().as_ref() {
            let data = Vec::<u8>::try_from(option).expect("an option encodes");
            match u16::from(*code) {
                3 => text.push_str(&format!(" nsid={}", String::from_utf8_lossy(&data))),
                10 => {
                    text.push_str(" cookie=");
                    data.iter().for_each(|octet| text.push_str(&format!("{octet:02x}")));
                }
                15 => text.push_str(&format!(" ede={}", u16::from_be_bytes([data[0], data[1]]))),
                other => text.push_str(&format!(" option={other}")),
            }
        }
        out.push(text);
    }
    out
}

/// The outcome of something that is about to happen.
#[cfg(test)]
pub(super) async fn soon<T>(happens: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(30), happens).await.expect("within half a minute")
}

/// Waits until it is so.
#[cfg(test)]
pub(super) async fn until(is_so: impl Fn() -> bool) {
    soon(async {
        while !is_so() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
