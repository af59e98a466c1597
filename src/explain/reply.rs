//! The exact reply to a question, as `dig` prints it.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{Name as HickoryName, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};
use serde::{Deserialize, Serialize};

use crate::metrics::Counters;
use crate::serve::responder::{Arrival, Outcome, Responder};
use crate::wire::Transport;
use crate::wire::name::Name;
use crate::wire::reply::UDP_PAYLOAD;

/// Octets of the largest reply over TCP.
const LARGEST: usize = u16::MAX as usize;
/// dig's columns: the TTL, the class, the type and the data begin there, or behind what is longer.
const COLUMNS: [usize; 4] = [24, 32, 40, 48];
/// Columns of a tab.
const TAB: usize = 8;

/// A reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reply {
    /// The type that was asked for.
    #[serde(rename = "type")]
    pub rtype: String,
    /// `NOERROR`, `NXDOMAIN`, `REFUSED`, …
    pub status: String,
    /// Records of the answer section.
    pub answers: usize,
    /// As dig prints it, with the message id 0.
    pub text: String,
}

/// Asks a responder, over TCP, as the reply over UDP may be cut off (D13). `None` if it has no reply, or not one of its own.
pub(super) fn ask(responder: &Responder, name: &Name, rtype: RecordType) -> Option<Reply> {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(HickoryName::read(&mut BinDecoder::new(name.wire())).ok()?, rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(UDP_PAYLOAD);
    message.set_edns(edns);
    let query = message.to_vec().ok()?;
    let counters = Counters::new(responder.table().zones().count());
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let arrival = Arrival::new(Transport::Tcp, (local, 1).into(), local, 0);
    let mut room = vec![0; LARGEST];
    let Outcome::Reply(length) = responder.respond(&query, arrival, &counters, &mut room) else {
        return None;
    };
    let message = Message::from_vec(&room[..length]).ok()?;
    Some(Reply {
        rtype: type_name(rtype),
        status: status(message.metadata.response_code.into()),
        answers: message.answers.len(),
        text: render(&message),
    })
}

/// A type as dig writes it.
pub(super) fn type_name(rtype: RecordType) -> String {
    match rtype {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// A response code as dig writes it.
fn status(code: u16) -> String {
    const NAMES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    NAMES.get(usize::from(code)).map_or_else(|| format!("RESERVED{code}"), |name| (*name).to_owned())
}

fn render(message: &Message) -> String {
    let mut out = String::new();
    let head = &message.metadata;
    // Adding to a String cannot fail.
    let _ = writeln!(
        out,
        ";; ->>HEADER<<- opcode: QUERY, status: {}, id: {}",
        status(head.response_code.into()),
        head.id
    );
    let flags = [
        (head.message_type == MessageType::Response, " qr"),
        (head.authoritative, " aa"),
        (head.truncation, " tc"),
        (head.recursion_desired, " rd"),
        (head.recursion_available, " ra"),
    ];
    let flags: String = flags.iter().filter(|(set, _)| *set).map(|(_, flag)| *flag).collect();
    let _ = writeln!(
        out,
        ";; flags:{flags}; QUERY: {}, ANSWER: {}, AUTHORITY: {}, ADDITIONAL: {}\n",
        message.queries.len(),
        message.answers.len(),
        message.authorities.len(),
        message.additionals.len() + usize::from(message.edns.is_some())
    );
    if let Some(edns) = &message.edns {
        let _ = writeln!(out, ";; OPT PSEUDOSECTION:");
        let _ = writeln!(out, "; EDNS: version: {}, flags:; udp: {}", edns.version(), edns.max_payload());
        for (_, option) in &edns.options().options {
            let _ = writeln!(out, "{}", edns_option(option));
        }
    }
    let _ = writeln!(out, ";; QUESTION SECTION:");
    for query in &message.queries {
        // dig does not count its semicolon.
        let mut line = Line::new(query.name().to_string());
        line.text.insert(0, ';');
        line.put(1, &query.query_class().to_string());
        line.put(2, &type_name(query.query_type()));
        let _ = writeln!(out, "{}", line.text);
    }
    for (title, records) in [
        ("ANSWER", &message.answers),
        ("AUTHORITY", &message.authorities),
        ("ADDITIONAL", &message.additionals),
    ] {
        if !records.is_empty() {
            let _ = writeln!(out, "\n;; {title} SECTION:");
        }
        for record in records {
            let _ = writeln!(out, "{}", resource_record(record));
        }
    }
    out
}

/// RFC 8914: what an error says beside its code.
fn edns_option(option: &EdnsOption) -> String {
    const EXTENDED_ERROR: u16 = 15;
    let EdnsOption::Unknown(EXTENDED_ERROR, data) = option else { return "; OPT".to_owned() };
    let code = data.first_chunk().map_or(0, |code| u16::from_be_bytes(*code));
    let name = match code {
        14 => " (Not Ready)",
        18 => " (Prohibited)",
        20 => " (Not Authoritative)",
        _ => "",
    };
    format!("; EDE: {code}{name}")
}

fn resource_record(record: &Record) -> String {
    let mut line = Line::new(record.name.to_string());
    line.put(0, &record.ttl.to_string());
    line.put(1, &record.dns_class.to_string());
    line.put(2, &type_name(record.record_type()));
    let data = match &record.data {
        RData::TXT(text) => {
            let strings = text.txt_data.iter().map(|octets| format!("{:?}", String::from_utf8_lossy(octets)));
            strings.collect::<Vec<_>>().join(" ")
        }
        other => other.to_string(),
    };
    line.put(3, &data);
    line.text
}

/// A line in dig's columns.
struct Line {
    text: String,
    at: usize,
}

impl Line {
    fn new(text: String) -> Line {
        Line { at: text.chars().count(), text }
    }

    /// Goes to a column as dig does, by tabs as far as they lead there, and at least by a blank.
    fn put(&mut self, column: usize, word: &str) {
        let to = COLUMNS[column].max(self.at + 1);
        let tabs = to / TAB - self.at / TAB;
        let blanks = if tabs > 0 { to % TAB } else { to - self.at };
        self.text.extend(std::iter::repeat_n('\t', tabs));
        self.text.extend(std::iter::repeat_n(' ', blanks));
        self.text.push_str(word);
        self.at = to + word.chars().count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [I1] Seen of dig 9.18.
    #[test]
    fn lines_have_the_columns_of_dig() {
        let line = |name: &str, ttl: &str, data: &str| {
            let mut line = Line::new(name.to_owned());
            for (column, word) in [ttl, "IN", "A", data].into_iter().enumerate() {
                line.put(column, word);
            }
            line.text
        };
        assert_eq!(line("global.", "5", "x"), "global.\t\t\t5\tIN\tA\tx");
        assert_eq!(
            line("echo.default.global.", "30", "127.255.0.1"),
            "echo.default.global.\t30\tIN\tA\t127.255.0.1"
        );
        assert_eq!(line("a-name-of-25-characters.x", "30", "y"), "a-name-of-25-characters.x 30\tIN\tA\ty");
        assert_eq!(
            line("a-name-of-thirty-one-charactrs.", "30", "y"),
            "a-name-of-thirty-one-charactrs.\t30 IN\tA\ty"
        );
    }
}
