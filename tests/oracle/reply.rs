//! A reply: as it is compared, and as `dig` would print it.

use std::collections::BTreeSet;
use std::fmt;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record, RecordType};

use crate::question::Question;

/// Octets of a message header.
const HEADER: usize = 12;
/// Octets of an OPT record without options.
pub(crate) const OPT: usize = 11;

/// A decoded reply.
pub(crate) struct Reply {
    /// As received.
    pub(crate) octets: Vec<u8>,
    /// Of these octets.
    pub(crate) message: Message,
}

/// What both servers must agree on: names in lower case, SOA serials masked, records sorted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct View {
    pub(crate) rcode: u16,
    pub(crate) authoritative: bool,
    pub(crate) truncated: bool,
    /// `owner ttl class type rdata`, each.
    pub(crate) answers: Vec<String>,
    pub(crate) authority: Vec<String>,
    /// Without OPT.
    pub(crate) additional: Vec<String>,
}

impl View {
    /// Without names and numbers: `NOERROR aa, answer A`.
    pub(crate) fn summary(&self) -> String {
        let mut out = rcode_name(self.rcode);
        for (set, flag) in [(self.authoritative, " aa"), (self.truncated, " tc")] {
            out.push_str(if set { flag } else { "" });
        }
        for (section, lines) in
            [("answer", &self.answers), ("authority", &self.authority), ("additional", &self.additional)]
        {
            let types: BTreeSet<&str> = lines.iter().filter_map(|line| line.split(' ').nth(3)).collect();
            for rtype in types {
                out.push_str(&format!(", {section} {}", rtype.to_uppercase()));
            }
        }
        out
    }
}

impl Reply {
    /// Decodes a reply; a text that says why not otherwise.
    pub(crate) fn decode(octets: Vec<u8>) -> Result<Reply, String> {
        match Message::from_vec(&octets) {
            Ok(message) => Ok(Reply { octets, message }),
            Err(error) => Err(format!("it cannot be decoded: {error}; octets: {octets:02x?}")),
        }
    }

    /// What is compared.
    pub(crate) fn view(&self) -> View {
        let metadata = &self.message.metadata;
        View {
            rcode: metadata.response_code.into(),
            authoritative: metadata.authoritative,
            truncated: metadata.truncation,
            answers: lines(&self.message.answers),
            authority: lines(&self.message.authorities),
            additional: lines(&self.message.additionals),
        }
    }

    /// What of this reply breaks D1, D12, D13 or D15 whatever another server says.
    pub(crate) fn flaws(&self, question: &Question, query: &[u8]) -> Vec<&'static str> {
        let metadata = &self.message.metadata;
        let question_octets = HEADER..HEADER + question_len(query);
        // Flags the query decides or that are always off: QR, opcode, RD; RA, Z, AD, CD.
        let flags = [self.octets[2] & 0xf9, self.octets[3] & 0xf0];
        let rd = u8::from(question.recursion_desired);
        let opt_expected = question.edns.map(|opt| (1232, 0, opt.dnssec_ok));
        let opt = self.message.edns.as_ref();
        let checks = [
            (self.octets[..2] == query[..2], "D1: another id"),
            (flags == [0x80 | rd, 0], "D1: flags other than QR=1, RD as asked, RA=Z=AD=CD=0"),
            (
                self.octets.get(question_octets.clone()) == query.get(question_octets),
                "D1, D15: the question is not echoed",
            ),
            (
                opt.map(|opt| (opt.max_payload(), opt.version(), opt.flags().dnssec_ok)) == opt_expected,
                "D12: OPT other than asked for",
            ),
            (self.octets.len() <= limit(question), "D13: larger than the limit"),
            (!(question.tcp && metadata.truncation), "D13: TC over TCP"),
        ];
        checks.into_iter().filter(|(holds, _)| !holds).map(|(_, flaw)| flaw).collect()
    }
}

/// The largest reply a question allows (D13).
pub(crate) fn limit(question: &Question) -> usize {
    match question.edns {
        _ if question.tcp => usize::from(u16::MAX),
        None => 512,
        Some(opt) => usize::from(opt.udp_payload.clamp(512, 1232)),
    }
}

/// How many whole A or AAAA records fit beside header, question and OPT (D13).
pub(crate) fn fitting(question: &Question, query: &[u8], rtype: u16) -> usize {
    let opt = if question.edns.is_some() { OPT } else { 0 };
    let record = if rtype == 1 { 16 } else { 28 };
    (limit(question) - HEADER - question_len(query) - opt) / record
}

/// Octets of a query's question.
fn question_len(query: &[u8]) -> usize {
    let mut at = HEADER;
    while query[at] != 0 {
        at += 1 + usize::from(query[at]);
    }
    at + 5 - HEADER
}

fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records.iter().map(|record| line(&masked(record))).collect();
    lines.sort_unstable();
    lines
}

/// Two processes start in different seconds, so their serials differ (D6).
fn masked(record: &Record) -> Record {
    let mut record = record.clone();
    if let RData::SOA(soa) = &mut record.data {
        soa.serial = 0;
    }
    record
}

fn line(record: &Record) -> String {
    let Record { name, ttl, dns_class, data, .. } = record;
    format!("{name} {ttl} {dns_class} {} {data}", type_name(record.record_type())).to_lowercase()
}

/// The mnemonic `dig` prints; 16 is BADVERS in a reply without TSIG.
fn rcode_name(rcode: u16) -> String {
    match rcode {
        16 => "BADVERS".to_owned(),
        other => format!("{:?}", ResponseCode::from((other >> 4) as u8, (other & 0xf) as u8)).to_uppercase(),
    }
}

fn type_name(rtype: RecordType) -> String {
    match rtype {
        RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

impl fmt::Display for Reply {
    /// As `dig` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Message { metadata, queries, answers, authorities, additionals, edns, .. } = &self.message;
        let opcode = format!("{:?}", metadata.op_code).to_uppercase();
        let status = rcode_name(metadata.response_code.into());
        writeln!(f, ";; ->>HEADER<<- opcode: {}, status: {status}, id: {}", opcode, metadata.id)?;
        write!(f, ";; flags: qr")?;
        for (set, flag) in [
            (metadata.authoritative, "aa"),
            (metadata.truncation, "tc"),
            (metadata.recursion_desired, "rd"),
            (metadata.recursion_available, "ra"),
            (metadata.authentic_data, "ad"),
            (metadata.checking_disabled, "cd"),
        ] {
            write!(f, "{}", if set { format!(" {flag}") } else { String::new() })?;
        }
        let (q, an, ns) = (queries.len(), answers.len(), authorities.len());
        let ar = additionals.len() + usize::from(edns.is_some());
        writeln!(f, "; QUERY: {q}, ANSWER: {an}, AUTHORITY: {ns}, ADDITIONAL: {ar}")?;
        if let Some(opt) = edns {
            let flags = if opt.flags().dnssec_ok { " do" } else { "" };
            writeln!(
                f,
                ";; OPT PSEUDOSECTION:\n; EDNS: version: {}, flags:{flags}; udp: {}",
                opt.version(),
                opt.max_payload()
            )?;
        }
        for query in queries {
            writeln!(
                f,
                ";; QUESTION SECTION:\n;{} {} {}",
                query.name,
                query.query_class,
                type_name(query.query_type)
            )?;
        }
        for (title, records) in [("ANSWER", answers), ("AUTHORITY", authorities), ("ADDITIONAL", additionals)]
        {
            if !records.is_empty() {
                writeln!(f, ";; {title} SECTION:")?;
            }
            for record in records {
                let Record { name, ttl, dns_class, data, .. } = record;
                writeln!(f, "{name}\t{ttl}\t{dns_class}\t{}\t{data}", type_name(record.record_type()))?;
            }
        }
        writeln!(f, ";; MSG SIZE  rcvd: {}", self.octets.len())
    }
}
