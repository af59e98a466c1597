//! Writes a reply into a caller's buffer: header, question, records, OPT, within a size limit.
//!
//! The owner of a host's records is a pointer to the question, so the spelling of the query is the spelling
//! of the answer (H7, D15).

use super::name::MAX_WIRE;
use super::query::{Cursor, Edns, HEADER, Head};
use super::{CLASS_IN, ExtendedError, Rcode, Transport, rtype};

/// Our own UDP payload size: fits one unfragmented IPv6 datagram everywhere (DNS flag day 2020).
pub const UDP_PAYLOAD: u16 = 1232;
/// RFC 1035 section 4.2.1: what a client without EDNS takes.
pub const UDP_PLAIN: u16 = 512;
/// RFC 1035 section 4.2.2: what the length prefix of a stream can say.
pub const TCP_LIMIT: u16 = u16::MAX;
/// The longest NSID accepted by configuration, in octets: error replies still fit 512.
pub const MAX_NSID: usize = 128;
/// Octets of a COOKIE option's data in a reply: RFC 7873 section 4, with the server cookie of RFC 9018.
pub const COOKIE: usize = 8 + 16;
/// Octets of an option before its data, RFC 6891 section 6.1.2.
const OPTION_HEAD: usize = 4;
/// Octets of an OPT record before its options, RFC 6891 section 6.1.2.
const OPT_HEAD: usize = 11;
/// Octets of a record between its owner and its RDATA, RFC 1035 section 4.1.3.
const FIXED: usize = 10;
/// Octets of a record before its RDATA when its owner is a pointer.
pub const RECORD_HEAD: usize = QUESTION_POINTER.len() + FIXED;
/// A pointer to the question's name, RFC 1035 section 4.1.4.
pub const QUESTION_POINTER: [u8; 2] = [0xc0, HEADER as u8];

/// The largest reply for a query (D13).
pub fn limit(transport: Transport, edns: Option<Edns<'_>>) -> u16 {
    match (transport, edns) {
        (Transport::Udp, None) => UDP_PLAIN,
        (Transport::Udp, Some(edns)) => edns.udp_payload.clamp(UDP_PLAIN, UDP_PAYLOAD),
        _ => TCP_LIMIT,
    }
}

/// Writes SERVFAIL with the question, if that can be made out; `None` to what gets no reply (D11). For messages that
/// cannot be answered in any other way (L9): there is nothing in here that could panic.
pub fn failure(message: &[u8], out: &mut [u8]) -> Option<usize> {
    let header = message.first_chunk::<HEADER>()?;
    let [id_high, id_low, flags, ..] = *header;
    if flags & 0x80 != 0 {
        return None;
    }
    let question = lone_question(message).unwrap_or_default();
    let questions = u8::from(!question.is_empty());
    // QR, the opcode and RD.
    let head = [id_high, id_low, 0x80 | flags & 0x79, Rcode::ServFail as u8, 0, questions, 0, 0, 0, 0, 0, 0];
    let length = HEADER + question.len();
    out.get_mut(..HEADER)?.copy_from_slice(&head);
    out.get_mut(HEADER..length)?.copy_from_slice(question);
    Some(length)
}

/// The code of a finished reply, with the upper bits that its OPT has (RFC 6891 section 6.1.3).
pub fn rcode(reply: &[u8]) -> u16 {
    let low = reply.get(3).map_or(0, |octet| u16::from(octet & 0x0f));
    let high = || {
        let mut cursor = Cursor::of_records(reply)?;
        let records = cursor.count(1)? + cursor.count(2)? + cursor.count(3)?;
        let opt = (0..records).map_while(|_| cursor.record()).find(|record| record.rtype == rtype::OPT)?;
        Some(u16::from(opt.ttl[0]))
    };
    high().unwrap_or(0) << 4 | low
}

/// The octets of a message's only question, without a pointer in its name.
fn lone_question(message: &[u8]) -> Option<&[u8]> {
    let counted = message.get(4..6)? == [0, 1];
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
    }
    // The root label, type and class.
    let end = at + 5;
    message.get(HEADER..end).filter(|question| counted && question.len() <= MAX_WIRE + 4)
}

/// What goes into a reply's OPT.
#[derive(Clone, Copy, Debug)]
pub struct OptReply<'a> {
    /// The query's OPT.
    pub query: Edns<'a>,
    /// The identifier to send if it was asked for; empty sends none.
    pub nsid: &'a [u8],
    /// The client's cookie and ours (D19), if the query has one.
    pub cookie: Option<[u8; COOKIE]>,
    /// An extended error, if one applies.
    pub error: Option<ExtendedError>,
}

impl OptReply<'_> {
    /// The identifier, if it is to be sent.
    pub fn nsid(&self) -> Option<&[u8]> {
        (self.query.nsid && !self.nsid.is_empty()).then_some(self.nsid)
    }

    /// Octets of the record on the wire.
    pub fn wire_len(&self) -> usize {
        OPT_HEAD
            + self.nsid().map_or(0, |nsid| OPTION_HEAD + nsid.len())
            + self.cookie.map_or(0, |cookie| OPTION_HEAD + cookie.len())
            + self.error.map_or(0, |_| OPTION_HEAD + 2)
    }
}

/// A reply under construction. Sections are written in message order.
pub struct Reply<'b> {
    out: &'b mut [u8],
    len: usize,
    limit: usize,
    questions: u16,
    counts: [u16; 3],
    truncated: bool,
}

/// Type, class, TTL and the length of the RDATA.
fn fixed(rtype: u16, ttl: u32, length: usize) -> [u8; FIXED] {
    let ([t, y], [c, l], [a, b, d, e]) = (rtype.to_be_bytes(), CLASS_IN.to_be_bytes(), ttl.to_be_bytes());
    [t, y, c, l, a, b, d, e, (length >> 8) as u8, length as u8]
}

/// Where a record goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// What was asked.
    Answer = 0,
    /// The SOA of a negative answer.
    Authority = 1,
    /// Glue (D17); OPT is written by [`Reply::finish`].
    Additional = 2,
}

impl<'b> Reply<'b> {
    /// Starts with room for the header and the question copied as received.
    ///
    /// `out` must hold `limit` octets; `opt_len` of them are kept for the OPT record.
    pub fn new(out: &'b mut [u8], question: &[u8], limit: u16, opt_len: usize) -> Reply<'b> {
        let len = HEADER + question.len();
        out[HEADER..len].copy_from_slice(question);
        let limit = usize::from(limit).min(out.len()) - opt_len;
        Reply {
            out,
            len,
            limit,
            questions: u16::from(!question.is_empty()),
            counts: [0; 3],
            truncated: false,
        }
    }

    /// Writes as many records of an RRset of the question's name as fit, beginning with record `first` and going
    /// round; says TC if not all did (D13: libcs that cannot use TCP still get addresses).
    pub fn rrset<const N: usize>(&mut self, rtype: u16, ttl: u32, rdata: &[[u8; N]], first: usize) {
        let fixed = fixed(rtype, ttl, N);
        let fit = rdata.len().min((self.limit - self.len) / (RECORD_HEAD + N));
        let (before, from) = rdata.split_at(first);
        for record in from.iter().chain(before).take(fit) {
            self.put(QUESTION_POINTER);
            self.put(fixed);
            self.put(*record);
        }
        self.counts[0] += fit as u16;
        self.truncated |= fit < rdata.len();
    }

    /// Writes one small record; true if it fitted.
    pub fn record<const O: usize, const N: usize>(
        &mut self,
        section: Section,
        owner: [u8; O],
        rtype: u16,
        ttl: u32,
        rdata: [u8; N],
    ) -> bool {
        if self.len + O + FIXED + N > self.limit {
            return false;
        }
        self.put(owner);
        self.put(fixed(rtype, ttl, N));
        self.put(rdata);
        self.counts[section as usize] += 1;
        true
    }

    /// Writes an answer of the question's name whose length only the caller knows; says TC, and false, if it does not fit.
    pub fn answer(&mut self, rtype: u16, ttl: u32, rdata: &[u8]) -> bool {
        if self.len + RECORD_HEAD + rdata.len() > self.limit {
            self.truncate();
            return false;
        }
        self.put(QUESTION_POINTER);
        self.put(fixed(rtype, ttl, rdata.len()));
        self.copy(rdata);
        self.counts[Section::Answer as usize] += 1;
        true
    }

    /// Says that something the reply must hold did not fit.
    pub fn truncate(&mut self) {
        self.truncated = true;
    }

    /// Whether something did not fit.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Appends the OPT record and writes the header; returns the reply's length in octets.
    pub fn finish(
        mut self,
        head: Head,
        rcode: Rcode,
        authoritative: bool,
        opt: Option<OptReply<'_>>,
    ) -> usize {
        if let Some(opt) = opt {
            self.opt(rcode, &opt);
        }
        let flags_high = 0x80
            | head.opcode << 3
            | if authoritative { 0x04 } else { 0 }
            | if self.truncated { 0x02 } else { 0 }
            | u8::from(head.rd);
        let flags = [flags_high, (rcode as u16 & 0x0f) as u8];
        let [answers, authority, additional] = self.counts;
        let fields = [head.id, u16::from_be_bytes(flags), self.questions, answers, authority, additional];
        if let Some(header) = self.out.first_chunk_mut::<HEADER>() {
            for (octets, field) in header.as_chunks_mut::<2>().0.iter_mut().zip(fields) {
                *octets = field.to_be_bytes();
            }
        }
        self.len
    }

    fn opt(&mut self, rcode: Rcode, opt: &OptReply<'_>) {
        let ([t, y], [s, z]) = (rtype::OPT.to_be_bytes(), UDP_PAYLOAD.to_be_bytes());
        let [l, n] = ((opt.wire_len() - OPT_HEAD) as u16).to_be_bytes();
        // RFC 6891 section 6.1.3: the upper eight bits of the code, version 0, DO and zeros.
        let (code, dnssec_ok) = ((rcode as u16 >> 4) as u8, if opt.query.dnssec_ok { 0x80 } else { 0 });
        self.put([0, t, y, s, z, code, 0, dnssec_ok, 0, l, n]);
        if let Some(nsid) = opt.nsid() {
            self.put(Edns::NSID.to_be_bytes());
            self.put((nsid.len() as u16).to_be_bytes());
            self.copy(nsid);
        }
        if let Some(cookie) = opt.cookie {
            self.put(Edns::COOKIE.to_be_bytes());
            self.put((cookie.len() as u16).to_be_bytes());
            self.put(cookie);
        }
        if let Some(error) = opt.error {
            self.put(Edns::EXTENDED_ERROR.to_be_bytes());
            self.put(2u16.to_be_bytes());
            self.put((error as u16).to_be_bytes());
        }
        self.counts[2] += 1;
    }

    /// Octets whose number the compiler knows: a few moves instead of a call.
    fn put<const N: usize>(&mut self, octets: [u8; N]) {
        self.out[self.len..self.len + N].copy_from_slice(&octets);
        self.len += N;
    }

    fn copy(&mut self, octets: &[u8]) {
        self.out[self.len..self.len + octets.len()].copy_from_slice(octets);
        self.len += octets.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { id: 0x1234, opcode: 0, rd: true };
    const QUESTION: &[u8] = b"\x01a\x00\x00\x01\x00\x01";
    const EDNS: Edns<'_> = Edns { udp_payload: 4096, version: 0, dnssec_ok: true, nsid: true, cookie: None };

    fn edns(udp_payload: u16) -> Option<Edns<'static>> {
        Some(Edns { udp_payload, ..EDNS })
    }

    /// [L9] [D11]
    #[test]
    fn a_failure_is_written_to_whatever_deserves_a_reply() {
        let query =
            [&[0x12, 0x34, 0x29, 0x30, 0, 1, 0, 0, 0, 0, 0, 1][..], b"\x01A\x00\x00\x01\x00\x01", b"more"]
                .concat();
        let write = |message: &[u8]| {
            let mut out = [7; 300];
            failure(message, &mut out).map(|length| out[..length].to_vec())
        };
        let head = [0x12, 0x34, 0xa9, 2, 0, 1, 0, 0, 0, 0, 0, 0];
        assert_eq!(write(&query), Some([&head[..], b"\x01A\x00\x00\x01\x00\x01"].concat()));
        // No question that could be made out: cut short, a pointer, none or two, too long a name.
        let bare = Some([0x12, 0x34, 0xa9, 2, 0, 0, 0, 0, 0, 0, 0, 0].to_vec());
        assert_eq!(write(&query[..18]), bare);
        for (at, octet) in [(12, 0xc0), (5, 0), (5, 2), (4, 1)] {
            let mut message = query.clone();
            message[at] = octet;
            assert_eq!(write(&message), bare, "{at}");
        }
        let long = [
            &query[..12],
            &b"\x3fx23456789012345678901234567890123456789012345678901234567890123".repeat(4),
            &[0; 5],
        ]
        .concat();
        assert_eq!(write(&long), bare);
        // A reply, and what is none.
        let mut reply = query.clone();
        reply[2] |= 0x80;
        assert_eq!((write(&reply), write(&query[..11]), failure(&query, &mut [0; 11])), (None, None, None));
    }

    /// [D13]
    #[test]
    fn limits_by_transport_and_client() {
        let cases = [
            (Transport::Udp, None, 512),
            (Transport::Udp, edns(0), 512),
            (Transport::Udp, edns(511), 512),
            (Transport::Udp, edns(513), 513),
            (Transport::Udp, edns(1232), 1232),
            (Transport::Udp, edns(65535), 1232),
            (Transport::Tcp, None, 65535),
            (Transport::Tcp, edns(512), 65535),
            (Transport::Grpc, None, 65535),
            (Transport::Grpc, edns(512), 65535),
            (Transport::Tls, edns(512), 65535),
            (Transport::Https, None, 65535),
            (Transport::Quic, edns(512), 65535),
        ];
        for (transport, edns, expected) in cases {
            assert_eq!(limit(transport, edns), expected, "{transport:?} {edns:?}");
        }
    }

    /// [D1]
    #[test]
    fn the_header_says_what_the_reply_is() {
        let mut out = [0xff; 64];
        let reply = Reply::new(&mut out, QUESTION, 64, 0);
        let n = reply.finish(HEAD, Rcode::NxDomain, true, None);
        assert_eq!(&out[..n], b"\x12\x34\x85\x03\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x00\x00\x01\x00\x01");
        let mut out = [0xff; 64];
        let n = Reply::new(&mut out, &[], 64, 0).finish(
            Head { id: 1, opcode: 5, rd: false },
            Rcode::NotImp,
            false,
            None,
        );
        assert_eq!(&out[..n], b"\x00\x01\xa8\x04\x00\x00\x00\x00\x00\x00\x00\x00");
    }

    /// [D12]
    #[test]
    fn opt_is_last_and_carries_what_was_asked_for() {
        let mut out = [0; 128];
        let opt =
            OptReply { query: EDNS, nsid: b"pod-1", cookie: None, error: Some(ExtendedError::NotReady) };
        assert_eq!(opt.wire_len(), 11 + 9 + 6);
        let n = Reply::new(&mut out, QUESTION, 128, opt.wire_len()).finish(
            HEAD,
            Rcode::BadVers,
            false,
            Some(opt),
        );
        let expected =
            b"\x00\x00\x29\x04\xd0\x01\x00\x80\x00\x00\x0f\x00\x03\x00\x05pod-1\x00\x0f\x00\x02\x00\x0e";
        assert_eq!(&out[19..n], expected);
        assert_eq!(&out[..12], b"\x12\x34\x81\x00\x00\x01\x00\x00\x00\x00\x00\x01");
        let opt = OptReply { cookie: Some(*b"client..server.........."), error: None, ..opt };
        assert_eq!(opt.wire_len(), 11 + 9 + 28);
        let n = Reply::new(&mut out, QUESTION, 128, opt.wire_len()).finish(
            HEAD,
            Rcode::BadCookie,
            false,
            Some(opt),
        );
        let expected = b"\x00\x00\x29\x04\xd0\x01\x00\x80\x00\x00\x25\x00\x03\x00\x05pod-1\x00\x0a\x00\x18client..server..........";
        assert_eq!((&out[19..n], out[3]), (&expected[..], 7));
        let plain = Edns { dnssec_ok: false, nsid: false, ..EDNS };
        let opt = OptReply { query: plain, nsid: b"pod-1", cookie: None, error: None };
        assert_eq!(opt.wire_len(), 11);
        let n = Reply::new(&mut out, QUESTION, 128, opt.wire_len()).finish(
            HEAD,
            Rcode::NoError,
            false,
            Some(opt),
        );
        assert_eq!(&out[19..n], b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00");
        let none = OptReply { query: EDNS, nsid: b"", cookie: None, error: None };
        assert_eq!(none.wire_len(), 11);
    }

    /// [D2] [D13]
    #[test]
    fn records_go_round_and_as_many_as_fit_are_sent_with_tc() {
        let rdata = [*b"aa", *b"bb", *b"cc", *b"dd"];
        let record = |rdata: &[u8]| [b"\xc0\x0c\x00\x63\x00\x01\x00\x00\x00\x4d\x00\x02", rdata].concat();
        let cases: [(usize, u16, &[u8], bool); 8] = [
            (0, 100, b"aabbccdd", false),
            (1, 100, b"bbccddaa", false),
            (3, 100, b"ddaabbcc", false),
            (0, 19 + 4 * 14, b"aabbccdd", false),
            (0, 19 + 4 * 14 - 1, b"aabbcc", true),
            (3, 19 + 2 * 14, b"ddaa", true),
            (2, 19 + 2 * 14 - 1, b"cc", true),
            (1, 19 + 13, b"", true),
        ];
        for (first, limit, expected, truncated) in cases {
            let mut out = [0; 128];
            let mut reply = Reply::new(&mut out, QUESTION, limit, 0);
            reply.rrset(99, 77, &rdata, first);
            assert_eq!(reply.is_truncated(), truncated);
            let n = reply.finish(HEAD, Rcode::NoError, true, None);
            let records: Vec<u8> = expected.chunks(2).flat_map(record).collect();
            assert_eq!((&out[19..n], out[7] as usize), (&records[..], expected.len() / 2), "{first} {limit}");
            assert_eq!(out[2] & 0x02 != 0, truncated);
        }
    }

    #[test]
    fn small_records_are_written_whole_or_not_at_all() {
        let mut out = [0; 64];
        let mut reply = Reply::new(&mut out, QUESTION, 19 + 2 + 10 + 4, 0);
        assert!(reply.record(Section::Authority, QUESTION_POINTER, 6, 300, *b"abcd"));
        assert!(!reply.record(Section::Additional, [0], 1, 300, []));
        assert!(!reply.is_truncated());
        reply.truncate();
        assert!(reply.is_truncated());
        let n = reply.finish(HEAD, Rcode::NoError, true, None);
        assert_eq!(&out[19..n], b"\xc0\x0c\x00\x06\x00\x01\x00\x00\x01\x2c\x00\x04abcd");
        assert_eq!(&out[4..12], b"\x00\x01\x00\x00\x00\x01\x00\x00");
    }

    #[test]
    fn a_record_one_octet_too_long_does_not_fit() {
        let fits = |limit| {
            let mut out = [0; 128];
            Reply::new(&mut out, QUESTION, limit, 0).record(Section::Answer, *b"\x03abc\x00", 16, 1, [7; 20])
        };
        assert!(fits(19 + 5 + 10 + 20));
        assert!(!fits(19 + 5 + 10 + 19));
    }

    #[test]
    fn an_answer_of_any_length_is_written_whole_or_said_to_be_missing() {
        for (limit, expected) in [
            (19 + 12 + 3, &b"\xc0\x0c\x00\x10\x00\x01\x00\x00\x00\x00\x00\x03\x02hi"[..]),
            (19 + 12 + 2, b""),
        ] {
            let mut out = [0; 64];
            let mut reply = Reply::new(&mut out, QUESTION, limit, 0);
            reply.answer(rtype::TXT, 0, b"\x02hi");
            assert_eq!(reply.is_truncated(), expected.is_empty());
            let n = reply.finish(HEAD, Rcode::NoError, true, None);
            assert_eq!((&out[19..n], out[7]), (expected, u8::from(!expected.is_empty())));
        }
    }

    /// [I9]
    #[test]
    fn a_finished_reply_tells_its_code() {
        for rcode in Rcode::ALL {
            let mut out = [0; 128];
            let opt = OptReply { query: EDNS, nsid: b"x", cookie: None, error: None };
            let mut reply = Reply::new(&mut out, QUESTION, 128, opt.wire_len());
            reply.rrset(99, 77, &[*b"aa"], 0);
            let n = reply.finish(HEAD, rcode, true, Some(opt));
            assert_eq!(super::rcode(&out[..n]), rcode as u16);
            assert_eq!(super::rcode(&out[..n - 1]), rcode as u16 & 0x0f, "without what is cut off");
        }
        assert_eq!(super::rcode(b""), 0);
    }

    #[test]
    fn room_for_opt_is_kept() {
        let mut out = [0; 128];
        let opt = OptReply { query: Edns { nsid: false, ..EDNS }, nsid: b"", cookie: None, error: None };
        let mut reply = Reply::new(&mut out, QUESTION, 19 + 11 + 41, opt.wire_len());
        reply.rrset(99, 77, &[*b"aa", *b"bb", *b"cc"], 0);
        assert!(reply.is_truncated());
        assert_eq!(reply.finish(HEAD, Rcode::NoError, true, Some(opt)), 19 + 2 * 14 + 11);
    }
}
