//! EDNS as it was drawn, and the reply that D11, D12 and D13 make of it ([`check`]).
//!
//! [`super::check`] asks whether both paths say the same; this asks whether it is what the contract says, whatever OPT
//! records, options and damage a query has.

use std::sync::OnceLock;

use super::*;
use crate::serve::fixture;
use crate::wire::Rcode;
use crate::wire::query::Edns;

/// A query and what is known of it because we made it.
struct Drawn {
    message: Vec<u8>,
    qtype: u16,
    qclass: u16,
    /// What its name is to the table.
    name: (&'static [u8], Rcode),
    /// Those that the message counts and has whole; `None` for what is no OPT.
    records: Vec<Option<Opt>>,
    /// A record is missing, cut, or not counted, or octets follow the last.
    damaged: bool,
}

/// An OPT record.
struct Opt {
    /// Where it belongs, and its options end where it does.
    valid: bool,
    size: u16,
    version: u8,
    dnssec_ok: bool,
    nsid: bool,
}

const NAMES: [(&[u8], Rcode); 5] = [
    (b"\x01a\x06global\x00", Rcode::NoError),
    (b"\x04many\x06global\x00", Rcode::NoError),
    (b"\x06GLOBAL\x00", Rcode::NoError),
    (b"\x07nowhere\x06global\x00", Rcode::NxDomain),
    (b"\x07outside\x03com\x00", Rcode::Refused),
];
const TYPES: [u16; 8] =
    [rtype::A, rtype::A, rtype::AAAA, rtype::AAAA, rtype::TXT, rtype::AXFR, rtype::MAILA, rtype::OPT];
/// RFC 7873: a cookie is answered, and one of another length than it may have is an error.
const COOKIE: u16 = 10;
/// RFC 8914 section 4.
const PROHIBITED: u16 = 18;
const NOT_AUTHORITATIVE: u16 = 20;

fn draw(octets: &mut Octets<'_>) -> Drawn {
    let name = octets.pick(&NAMES);
    let (qtype, qclass) = (octets.pick(&TYPES), if octets.one_in(16) { octets.u16() } else { CLASS_IN });
    let mut message = octets.many(2);
    message.extend([octets.octet() & 0x07, octets.octet(), 0, 1, 0, 0, 0, 0, 0, 0]);
    message.extend(name.0);
    message.extend([qtype, qclass].map(u16::to_be_bytes).as_flattened());
    let (mut records, mut ends) = (Vec::new(), Vec::new());
    for _ in 0..octets.pick(&[0, 1, 1, 1, 1, 2, 3, 4]) {
        records.push(if octets.one_in(4) {
            other_record(octets, &mut message);
            None
        } else {
            message[11] += 1;
            Some(opt(octets, &mut message))
        });
        ends.push(message.len());
    }
    let damaged = match octets.below(16) {
        0 => {
            message[11] += 1;
            true
        }
        1 => {
            message.push(octets.octet());
            true
        }
        2 if message[11] > 0 => {
            message[11] -= 1;
            records.pop();
            true
        }
        3 if !ends.is_empty() => {
            // Behind the question.
            let question = HEADER + name.0.len() + 4;
            message.truncate(question + usize::from(octets.u16()) % (message.len() - question));
            records.truncate(ends.iter().filter(|end| **end <= message.len()).count());
            true
        }
        _ => false,
    };
    Drawn { message, qtype, qclass, name, records, damaged }
}

fn opt(octets: &mut Octets<'_>, message: &mut Vec<u8>) -> Opt {
    let size = octets.pick(&[0, 511, 512, 513, 1231, 1232, 1233, u16::MAX]);
    let version = if octets.one_in(8) { octets.octet() } else { 0 };
    let (mut options, mut nsid, mut valid) = (Vec::new(), false, true);
    for _ in 0..octets.below(5) {
        let code = if octets.one_in(2) { octets.u16() } else { octets.pick(&[Edns::NSID, 8, 12, 15, 0]) };
        let code = if code == COOKIE { Edns::NSID } else { code };
        let length = octets.below(40);
        nsid |= code == Edns::NSID;
        options.extend([code, length as u16].map(u16::to_be_bytes).as_flattened());
        options.extend(octets.many(length));
    }
    match octets.below(16) {
        // An option that is longer than what is left, or has no length.
        0 => {
            let data = octets.below(8);
            let more = 1 + u16::from(octets.octet());
            options.extend([Edns::NSID, data as u16 + more].map(u16::to_be_bytes).as_flattened());
            options.extend(octets.many(data));
            valid = false;
        }
        1 => {
            let rest = 1 + octets.below(3);
            options.extend(octets.many(rest));
            valid = false;
        }
        _ => {}
    }
    let owner = match octets.below(16) {
        0 => b"\x01x\x00".as_slice(),
        1 => &[0xc0, HEADER as u8],
        _ => &[0],
    };
    valid &= owner == [0];
    let flags = [octets.octet(), octets.octet()];
    let dnssec_ok = flags[0] & 0x80 != 0;
    record(message, owner, rtype::OPT, size, [octets.octet(), version, flags[0], flags[1]], &options);
    Opt { valid, size, version, dnssec_ok, nsid }
}

impl Drawn {
    /// The reply's code, the OPT it goes by, and its extended error, in the order of D1.
    fn expected(&self) -> (Rcode, Option<&Opt>, Option<u16>) {
        let mut read = None;
        for opt in self.records.iter().flatten() {
            if !opt.valid || read.replace(opt).is_some() {
                return (Rcode::FormErr, None, None);
            }
        }
        let (rcode, error) = match (self.qtype, self.name.1) {
            _ if self.damaged => (Rcode::FormErr, None),
            _ if read.is_some_and(|opt| opt.version > 0) => (Rcode::BadVers, None),
            _ if self.qclass != CLASS_IN => (Rcode::Refused, Some(PROHIBITED)),
            (rtype::AXFR, _) => (Rcode::Refused, Some(PROHIBITED)),
            (rtype::MAILA, _) => (Rcode::NotImp, None),
            (rtype::OPT, _) => (Rcode::FormErr, None),
            (_, Rcode::Refused) => (Rcode::Refused, Some(NOT_AUTHORITATIVE)),
            (_, rcode) => (rcode, None),
        };
        (rcode, read, error)
    }
}

/// The octets of a reply's OPT.
fn opt_of_reply(rcode: Rcode, asked: &Opt, nsid: &[u8], error: Option<u16>) -> Vec<u8> {
    let mut options = Vec::new();
    if asked.nsid && !nsid.is_empty() {
        options.extend([Edns::NSID, nsid.len() as u16].map(u16::to_be_bytes).as_flattened());
        options.extend(nsid);
    }
    if let Some(error) = error {
        options.extend([Edns::EXTENDED_ERROR, 2, error].map(u16::to_be_bytes).as_flattened());
    }
    let mut opt = Vec::new();
    let flags = [(rcode as u16 >> 4) as u8, 0, u8::from(asked.dnssec_ok) << 7, 0];
    record(&mut opt, &[0], rtype::OPT, UDP_PAYLOAD, flags, &options);
    opt
}

/// One with each length of a name server identifier.
fn responders() -> &'static [(Vec<u8>, Arc<Responder>); 3] {
    static RESPONDERS: OnceLock<[(Vec<u8>, Arc<Responder>); 3]> = OnceLock::new();
    RESPONDERS.get_or_init(|| {
        let (_, hosts) = fixed_names();
        [0, 5, MAX_NSID].map(|length| {
            let table = fixture::table(&["global"], &[]);
            for (text, answers) in &hosts {
                table.set(&host(text), answers.clone(), None, SERIAL);
            }
            let nsid = vec![b'n'; length];
            let settings = Settings { nsid: nsid.clone(), ..fixture::settings() };
            (nsid, Arc::new(Responder::new(table, settings, Vec::new())))
        })
    })
}

/// Draws a query from octets; panics where a reply is not the one that its EDNS has to get.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let (nsid, responder) = &responders()[octets.below(3)];
    let drawn = draw(&mut octets);
    let (rcode, read, error) = drawn.expected();
    let [udp, tcp] = [Transport::Udp, Transport::Tcp].map(|transport| {
        let arrival = fixture::Fixture::arrival(transport);
        compare(responder, &drawn.message, arrival, 0);
        reply(responder, &drawn.message, arrival)
    });
    let shown = || format!("{:?} to {:?}", render(&udp), drawn.message);
    for reply in [&udp, &tcp] {
        assert_eq!(u16::from(reply[3] & 0x0f), rcode as u16 & 0x0f, "{}", shown());
        match read {
            Some(asked) => {
                assert!(reply.ends_with(&opt_of_reply(rcode, asked, nsid, error)), "{}", shown());
                assert_eq!(reply[11], 1, "{}", shown());
            }
            None => assert_eq!(reply[11], 0, "{}", shown()),
        }
    }
    assert_eq!(tcp[2] & 0x02, 0, "{}", shown());
    // D13: the client's size, within bounds; as it is where it fits.
    let limit = read.map_or(512, |opt| opt.size.clamp(512, UDP_PAYLOAD));
    if tcp.len() <= usize::from(limit) {
        assert_eq!(udp, tcp, "{}", shown());
    } else {
        assert!(udp.len() <= usize::from(limit) && udp[2] & 0x02 != 0, "{}", shown());
    }
}

fn reply(responder: &Responder, message: &[u8], arrival: Arrival) -> Vec<u8> {
    let counters = counters(responder, 0);
    let mut out = vec![0xaa; usize::from(TCP_LIMIT)];
    let outcome = match responder.respond(message, arrival, &counters, &mut out) {
        Outcome::Declined => match responder.understand(message, arrival) {
            Ok(query) => responder.answer_declined(&query, arrival, &counters, &mut out),
            Err(_) => panic!("{message:?} was declined but not understood"),
        },
        outcome => outcome,
    };
    taken(out, outcome).unwrap_or_else(|| panic!("no reply to {message:?}"))
}
