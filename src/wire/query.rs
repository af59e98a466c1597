//! An untrusted message becomes a [`Query`], or the refusal it deserves.
//!
//! The order of the checks is D1's: length and QR (no reply at all), opcode (the rest stays
//! unread), counts and syntax. What needs a zone or a policy (EDNS version, class, type, zone) is
//! the responder's. Every record of the message is walked, so broken or trailing content is found
//! wherever it is (D11); only a single OPT is understood here, and whatever else a query may carry
//! (RFC 8945 TSIG, IXFR's authority) marks it [`Query::plain`]` = false`.

use super::name::MAX_WIRE;
use super::{Rcode, rtype};

/// Octets of a question behind its name, RFC 1035 section 4.1.2.
const TYPE_AND_CLASS: usize = 4;
/// Octets of a message header, RFC 1035 section 4.1.1.
pub const HEADER: usize = 12;

/// What a refusal needs of a message that was not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'m> {
    /// The header fields a reply copies.
    pub head: Head,
    /// Why.
    pub rcode: Rcode,
    /// The question to echo, empty if it could not be read.
    pub question: &'m [u8],
    /// The OPT that was read, if exactly one valid one was.
    pub edns: Option<Edns<'m>>,
}

/// A message that gets no query out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswerable<'m> {
    /// Under 12 octets, or a response: no reply at all, RFC 1035 section 7.3 (D11).
    Silence,
    /// An error reply.
    Refuse(Refusal<'m>),
    /// No question, and an OPT with a cookie: the client asks for ours, RFC 7873 section 5.4. Without cookies it is
    /// refused as any message with another number of questions than one (D11).
    Cookie(Head, Edns<'m>),
}

/// The header fields a reply copies from the query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The message id.
    pub id: u16,
    /// The opcode, `0..16`.
    pub opcode: u8,
    /// Recursion desired.
    pub rd: bool,
}

/// A query's OPT record (RFC 6891 section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns<'m> {
    /// The largest UDP reply the client takes, as sent.
    pub udp_payload: u16,
    /// EDNS version; only 0 exists.
    pub version: u8,
    /// DNSSEC OK, copied into the reply.
    pub dnssec_ok: bool,
    /// The client asks for the name server identifier (RFC 5001).
    pub nsid: bool,
    /// What the first COOKIE option holds, of whatever length (RFC 7873 section 4).
    pub cookie: Option<&'m [u8]>,
}

/// One well-formed question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'m> {
    /// The header fields a reply copies.
    pub head: Head,
    /// The question section as received: the spelling a reply echoes (D1, D15).
    pub question: &'m [u8],
    /// Query type.
    pub qtype: u16,
    /// Query class.
    pub qclass: u16,
    /// EDNS, if the query has it.
    pub edns: Option<Edns<'m>>,
    /// Nothing in the message but the question and at most one OPT.
    pub plain: bool,
}

impl<'m> Query<'m> {
    /// The query name as received: wire form, root label included.
    pub fn name(&self) -> &'m [u8] {
        &self.question[..self.question.len() - TYPE_AND_CLASS]
    }

    /// The same in lower case, in `room`.
    pub fn lower_name<'r>(&self, room: &'r mut [u8; MAX_WIRE]) -> &'r [u8] {
        let name = self.name();
        let lower = &mut room[..name.len()];
        lower.copy_from_slice(name);
        // The lengths of labels, up to 63, are below any letter.
        lower.make_ascii_lowercase();
        lower
    }
}

/// Reads one message. See the module text for the order of the checks.
pub fn parse(message: &[u8]) -> Result<Query<'_>, Unanswerable<'_>> {
    let Some(header) = message.first_chunk::<HEADER>() else {
        return Err(Unanswerable::Silence);
    };
    let response = header[2] & 0x80 != 0;
    if response {
        return Err(Unanswerable::Silence);
    }
    let head = Head {
        id: u16::from_be_bytes([header[0], header[1]]),
        opcode: (header[2] >> 3) & 0x0f,
        rd: header[2] & 0x01 != 0,
    };
    let refuse = |rcode, question, edns| Err(Unanswerable::Refuse(Refusal { head, rcode, question, edns }));
    if head.opcode != 0 {
        return refuse(Rcode::NotImp, &[][..], None);
    }
    let count = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    // RFC 9619: a query has exactly one question.
    if count(4) != 1 {
        return Err(without_question(message, head, [count(4), count(6), count(8), count(10)]));
    }
    let mut cursor = Cursor { message, at: HEADER };
    let Some((qtype, qclass)) = cursor.question() else {
        return refuse(Rcode::FormErr, &[], None);
    };
    let question = &message[HEADER..cursor.at];
    let ixfr = qtype == rtype::IXFR;
    if count(6) != 0 || (count(8) != 0 && !ixfr) {
        return refuse(Rcode::FormErr, question, None);
    }
    match cursor.records(count(8), count(10)) {
        Ok((edns, plain)) => Ok(Query { head, question, qtype, qclass, edns, plain }),
        Err(edns) => refuse(Rcode::FormErr, question, edns),
    }
}

/// What a message deserves that has no question, or several.
#[cold]
fn without_question(message: &[u8], head: Head, counts: [u16; 4]) -> Unanswerable<'_> {
    let mut cursor = Cursor { message, at: HEADER };
    if let [0, 0, 0, additionals] = counts
        && let Ok((Some(edns), _)) = cursor.records(0, additionals)
        && edns.cookie.is_some()
    {
        return Unanswerable::Cookie(head, edns);
    }
    Unanswerable::Refuse(Refusal { head, rcode: Rcode::FormErr, question: &[], edns: None })
}

impl<'m> Edns<'m> {
    /// NSID, RFC 5001 section 4.
    pub const NSID: u16 = 3;
    /// Cookies, RFC 7873 section 4.
    pub const COOKIE: u16 = 10;
    /// Extended DNS error, RFC 8914 section 2.
    pub const EXTENDED_ERROR: u16 = 15;

    fn read(record: &RawRecord<'m>) -> Option<Edns<'m>> {
        let (mut nsid, mut cookie) = (false, None);
        let mut options = record.rdata;
        while !options.is_empty() {
            let (head, rest) = options.split_first_chunk::<4>()?;
            let code = u16::from_be_bytes([head[0], head[1]]);
            let (data, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[2], head[3]])))?;
            nsid |= code == Edns::NSID;
            if code == Edns::COOKIE && cookie.is_none() {
                cookie = Some(data);
            }
            options = rest;
        }
        Some(Edns {
            udp_payload: record.class,
            version: record.ttl[1],
            dnssec_ok: record.ttl[2] & 0x80 != 0,
            nsid,
            cookie,
        })
    }
}

/// The fixed part of a record, its owner skipped.
pub(super) struct RawRecord<'m> {
    root_owner: bool,
    pub(super) rtype: u16,
    class: u16,
    pub(super) ttl: [u8; 4],
    pub(super) rdata: &'m [u8],
}

/// Walks through a message.
pub(super) struct Cursor<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Cursor<'m> {
    /// At the first record behind the questions.
    pub(super) fn of_records(message: &'m [u8]) -> Option<Cursor<'m>> {
        let mut cursor = Cursor { message, at: HEADER };
        for _ in 0..cursor.count(0)? {
            cursor.question()?;
        }
        Some(cursor)
    }

    /// How many records the header says a section has: question, answer, authority and additional are 0 to 3.
    pub(super) fn count(&self, section: usize) -> Option<u32> {
        let [a, b] = *self.message.get(4 + 2 * section..)?.first_chunk::<2>()?;
        Some(u32::from(u16::from_be_bytes([a, b])))
    }

    fn take(&mut self, n: usize) -> Option<&'m [u8]> {
        let taken = self.message.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(taken)
    }

    /// The question: skips the name; type and class.
    ///
    /// A compressed name is not accepted: there is nothing before it to point at.
    fn question(&mut self) -> Option<(u16, u16)> {
        let start = self.at;
        loop {
            let label = usize::from(*self.message.get(self.at)?);
            self.at += 1 + label;
            if label > super::name::MAX_LABEL || self.at - start > MAX_WIRE {
                return None;
            }
            if label == 0 {
                let [t, y, c, l] = self.take(TYPE_AND_CLASS)?.first_chunk::<TYPE_AND_CLASS>()?;
                return Some((u16::from_be_bytes([*t, *y]), u16::from_be_bytes([*c, *l])));
            }
        }
    }

    /// Everything behind the question: the OPT, and whether it is all there is. `Err` is broken or trailing content,
    /// with the OPT if exactly one valid one was read.
    // Every query comes through here, and what it gives is large.
    #[inline(always)]
    fn records(
        &mut self,
        authorities: u16,
        additionals: u16,
    ) -> Result<(Option<Edns<'m>>, bool), Option<Edns<'m>>> {
        let (authorities, additionals) = (u32::from(authorities), u32::from(additionals));
        let mut edns = None;
        let mut opts = 0u32;
        for i in 0..authorities + additionals {
            let Some(record) = self.record() else {
                return Err(edns);
            };
            if record.rtype != rtype::OPT {
                continue;
            }
            opts += 1;
            // RFC 6891 section 6.1.1: in the additional section, owned by the root, at most once.
            match (i >= authorities && record.root_owner).then(|| Edns::read(&record)).flatten() {
                Some(read) if opts == 1 => edns = Some(read),
                _ => return Err(None),
            }
        }
        let trailing = self.at != self.message.len();
        if trailing {
            return Err(edns);
        }
        Ok((edns, authorities == 0 && additionals == opts))
    }

    pub(super) fn record(&mut self) -> Option<RawRecord<'m>> {
        let root_owner = self.skip_name()?;
        let [t, y, c, l, ttl @ .., n, m] = self.take(10)?.first_chunk::<10>()?;
        let (rtype, class) = (u16::from_be_bytes([*t, *y]), u16::from_be_bytes([*c, *l]));
        let rdata = self.take(usize::from(u16::from_be_bytes([*n, *m])))?;
        Some(RawRecord { root_owner, rtype, class, ttl: *ttl, rdata })
    }

    /// Skips a possibly compressed name; true if it is the root, spelled as one zero octet.
    fn skip_name(&mut self) -> Option<bool> {
        let start = self.at;
        let mut len = 0;
        loop {
            match usize::from(*self.take(1)?.first()?) {
                0 => return Some(self.at == start + 1),
                label @ 1..=super::name::MAX_LABEL => {
                    self.take(label)?;
                    len += 1 + label;
                }
                // RFC 1035 section 4.1.4: a pointer names a prior occurrence.
                high if high & 0xc0 == 0xc0 => {
                    let low = *self.take(1)?.first()?;
                    let target = usize::from(u16::from_be_bytes([high as u8 & 0x3f, low]));
                    return (HEADER..start).contains(&target).then_some(false);
                }
                _ => return None,
            }
            if len >= MAX_WIRE {
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests;
