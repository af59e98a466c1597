//! Queries as octets, and whether a reply is the right one.

use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};

use crate::random::Random;

/// Octets of a message header (RFC 1035 section 4.1.1).
const HEADER: usize = 12;
/// Octets of an OPT record without options (RFC 6891 section 6.1.2).
const OPT: usize = 11;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// How queries are written.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// The UDP payload size of the query's OPT; `None` for no OPT.
    pub edns: Option<u16>,
    /// DNSSEC OK in the OPT.
    pub dnssec_ok: bool,
}

/// What a reply must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// One A record with the one address or the other.
    Address(Ipv4Addr, Ipv4Addr),
    /// NOERROR without an answer.
    NoData,
    /// The name does not exist.
    NxDomain,
    /// It is no name of ours.
    Refused,
}

/// How strictly a reply is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Check {
    /// Header, question, code and address.
    Whole,
    /// QR and the question: all that a responder without a table can get right.
    Echo,
}

/// Many queries in the order they are to be sent in: shuffled, one after the other in memory.
pub struct Questions {
    octets: Vec<u8>,
    items: Vec<Item>,
}

struct Item {
    start: u32,
    question: u16,
    expected: Expected,
}

/// One query: a message with id 0.
#[derive(Clone, Copy, Debug)]
pub struct Question<'q> {
    /// The message.
    pub message: &'q [u8],
    /// Octets of the question section.
    question: usize,
    /// What its reply must say.
    pub expected: Expected,
}

impl Questions {
    /// Reads lines of `name type expected`, where `expected` is an address, two with `|` between, `NODATA`,
    /// `NXDOMAIN` or `REFUSED`.
    pub fn read(text: &str, style: Style, seed: u64) -> Result<Questions> {
        let mut lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        Random::new(seed).shuffle(&mut lines);
        let mut questions = Questions { octets: Vec::new(), items: Vec::with_capacity(lines.len()) };
        for line in lines {
            questions.add(line, style).with_context(|| format!("query {line:?}"))?;
        }
        if questions.items.is_empty() {
            bail!("there are no queries to send");
        }
        Ok(questions)
    }

    fn add(&mut self, line: &str, style: Style) -> Result<()> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [name, qtype, expected] = words[..] else {
            bail!("expected three words: name, type and expected reply");
        };
        let qtype = match qtype {
            "A" => TYPE_A,
            "AAAA" => TYPE_AAAA,
            _ => bail!("type {qtype} is neither A nor AAAA"),
        };
        let start = self.octets.len();
        let message = message(name, qtype, style)?;
        let opt = if style.edns.is_some() { OPT } else { 0 };
        let question = (message.len() - HEADER - opt) as u16;
        self.octets.extend(message);
        let start = u32::try_from(start).context("too many queries for one generator")?;
        self.items.push(Item { start, question, expected: expected.parse()? });
        Ok(())
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.items.len()
    }

    /// One by its position.
    pub fn get(&self, position: usize) -> Question<'_> {
        let item = &self.items[position];
        let end = self.items.get(position + 1).map_or(self.octets.len(), |next| next.start as usize);
        let message = &self.octets[item.start as usize..end];
        Question { message, question: usize::from(item.question), expected: item.expected }
    }
}

impl FromStr for Expected {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Expected> {
        let (one, other) = text.split_once('|').unwrap_or((text, text));
        Ok(match text {
            "NODATA" => Expected::NoData,
            "NXDOMAIN" => Expected::NxDomain,
            "REFUSED" => Expected::Refused,
            _ => Expected::Address(one.parse()?, other.parse()?),
        })
    }
}

/// A query as a stub resolver sends it: RD, one question, perhaps an OPT; id 0.
pub fn message(name: &str, qtype: u16, style: Style) -> Result<Vec<u8>> {
    let additional = u8::from(style.edns.is_some());
    let mut message = vec![0, 0, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, additional];
    for label in name.trim_end_matches('.').split('.') {
        if label.is_empty() || label.len() > 63 {
            bail!("label {label:?} of {name} is empty or longer than 63 octets");
        }
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(qtype.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    if let Some(payload) = style.edns {
        message.extend([0, 0, 41]);
        message.extend(payload.to_be_bytes());
        message.extend([0, 0, if style.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    }
    Ok(message)
}

impl Question<'_> {
    /// What is wrong with a reply, whose id is known to fit.
    pub fn fault(&self, reply: &[u8], check: Check) -> Option<&'static str> {
        let end = HEADER + self.question;
        if reply.len() < end {
            return Some("shorter than its question");
        }
        if reply[2] & 0x80 == 0 {
            return Some("not a reply");
        }
        if reply[4..6] != [0, 1] || reply[HEADER..end] != self.message[HEADER..end] {
            return Some("another question");
        }
        if check == Check::Echo {
            return None;
        }
        if (reply[2] & 0x04 == 0) != (self.expected == Expected::Refused) {
            return Some("not authoritative, or a refusal that is");
        }
        if reply[2] & 0x02 != 0 {
            return Some("truncated");
        }
        let (rcode, answers) = (reply[3] & 0x0f, u16::from_be_bytes([reply[6], reply[7]]));
        match self.expected {
            Expected::Address(one, other) => match (rcode, answers) {
                (0, 1) => match self.address(&reply[end..]) {
                    Some(address) if address == one || address == other => None,
                    Some(_) => Some("another address"),
                    None => Some("not an A record of the name"),
                },
                (0, 0) => Some("no answer"),
                (0, _) => Some("more answers than one"),
                _ => Some("an error code"),
            },
            Expected::NoData if rcode != 0 => Some("an error code for NODATA"),
            Expected::NxDomain if rcode != 3 => Some("not NXDOMAIN"),
            Expected::Refused if rcode != 5 => Some("not REFUSED"),
            Expected::NoData | Expected::NxDomain | Expected::Refused => {
                (answers != 0).then_some("an answer in a negative reply")
            }
        }
    }

    /// The address of the record that follows, if it is an A record of this question's name.
    fn address(&self, record: &[u8]) -> Option<Ipv4Addr> {
        let name = &self.message[HEADER..HEADER + self.question - 4];
        let rest = record.strip_prefix(&[0xc0, HEADER as u8]).or_else(|| record.strip_prefix(name))?;
        let [0, 1, 0, 1, _, _, _, _, 0, 4, a, b, c, d, ..] = *rest else { return None };
        Some(Ipv4Addr::new(a, b, c, d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STYLE: Style = Style { edns: Some(1232), dnssec_ok: false };

    fn questions(line: &str) -> Questions {
        Questions::read(line, STYLE, 1).expect("a query")
    }

    /// The reply of a server that is right, in parts that tests break.
    fn reply(question: Question<'_>, flags: [u8; 2], answers: &[u8]) -> Vec<u8> {
        let mut reply = question.message[..HEADER + question.question].to_vec();
        reply[2..4].copy_from_slice(&flags);
        reply[7] = u8::from(!answers.is_empty());
        reply[11] = 0;
        reply.extend(answers);
        reply
    }

    #[test]
    fn the_right_reply_has_no_fault_and_each_wrong_one_has_its_own() {
        const ANSWER: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 240, 0, 0, 7];
        const NONE: &[u8] = &[];
        let cases = [
            ("a.global A 240.0.0.7", [0x85, 0], ANSWER, None),
            ("a.global A 240.0.0.9|240.0.0.7", [0x85, 0], ANSWER, None),
            ("a.global A 240.0.0.9", [0x85, 0], ANSWER, Some("another address")),
            ("a.global A 240.0.0.7", [0x81, 0], ANSWER, Some("not authoritative, or a refusal that is")),
            ("a.example A REFUSED", [0x81, 5], NONE, None),
            ("a.example A REFUSED", [0x81, 3], NONE, Some("not REFUSED")),
            ("a.example A REFUSED", [0x85, 5], NONE, Some("not authoritative, or a refusal that is")),
            ("a.global A 240.0.0.7", [0x05, 0], ANSWER, Some("not a reply")),
            ("a.global A 240.0.0.7", [0x85, 3], NONE, Some("an error code")),
            ("a.global AAAA NODATA", [0x85, 0], NONE, None),
            ("a.global AAAA NODATA", [0x85, 3], NONE, Some("an error code for NODATA")),
            ("a.global A NXDOMAIN", [0x85, 3], NONE, None),
        ];
        for (line, flags, answers, fault) in cases {
            let questions = questions(line);
            let question = questions.get(0);
            assert_eq!(question.fault(&reply(question, flags, answers), Check::Whole), fault, "{line}");
        }
    }

    #[test]
    fn an_owner_may_be_spelled_out_but_not_be_another_name() {
        let questions = questions("a.global A 240.0.0.7");
        let question = questions.get(0);
        let record = [0, 1, 0, 1, 0, 0, 0, 30, 0, 4, 240, 0, 0, 7];
        let spelled = [b"\x01a\x06global\0".as_slice(), &record].concat();
        let other = [b"\x01b\x06global\0".as_slice(), &record].concat();
        assert_eq!(question.fault(&reply(question, [0x85, 0], &spelled), Check::Whole), None);
        let fault = question.fault(&reply(question, [0x85, 0], &other), Check::Whole);
        assert_eq!(fault, Some("not an A record of the name"));
    }

    #[test]
    fn a_query_has_an_opt_exactly_if_it_is_wanted() {
        let with = message("a.global", 1, STYLE).expect("a name");
        let without = message("a.global", 1, Style { edns: None, dnssec_ok: false }).expect("a name");
        assert_eq!(with.len(), without.len() + OPT);
        assert_eq!((with[11], without[11]), (1, 0));
    }
}
