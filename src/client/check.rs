//! Replies of servers that we ask (K2, T7), whatever they send: believed only if they are to our question, and shown
//! without a character that steers a terminal.

use super::*;
use crate::compare::view::{View, shown};
use crate::testing::Octets;

/// Makes a question and a reply of octets, and panics where a reply is believed that should not be, or the other way
/// round.
pub(crate) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let name = octets.pick(&[&b"\x01a\x06global\x00"[..], b"\x00", b"\x06_probe\x06GLOBAL\x00"]);
    let server = SocketAddr::from(([192, 0, 2, 1], DNS_PORT));
    let mut exchange = Exchange::new(server, name, octets.pick(&[1, 28, 16, 255])).expect("a question");
    exchange.query[..2].copy_from_slice(&[0x42, 0x42]);
    let reply = match octets.below(4) {
        0 => octets.rest().to_vec(),
        _ => drawn(&mut octets, &exchange),
    };
    let is_answered = exchange.is_answered_by(&reply);
    let view = View::read(&reply);
    let text = shown(&view);
    assert!(!text.chars().any(char::is_control), "{text:?} of {reply:?}");
    assert_eq!(text, shown(&View::read(&reply)), "read twice, shown otherwise");
    if is_answered {
        let _ = (rcode(&reply), is_truncated(&reply));
    }
    // Another library says whose reply it is.
    let Ok(message) = Message::from_vec(&reply) else { return };
    let asked = Message::from_vec(&exchange.query).expect("our own");
    let same = |question: &Query| {
        let ours = &asked.queries[0];
        question.name().eq_ignore_root(ours.name())
            && question.query_type() == ours.query_type()
            && question.query_class() == ours.query_class()
    };
    let names_us = match &message.queries[..] {
        [question] => same(question),
        [] => !matches!(rcode(&reply), 0 | 3),
        _ => false,
    };
    let is_ours = message.metadata.id == asked.metadata.id
        && message.metadata.message_type == MessageType::Response
        && message.metadata.op_code == OpCode::Query
        && names_us;
    assert_eq!(is_answered, is_ours, "{reply:?}");
}

/// A reply to our question, or nearly.
fn drawn(octets: &mut Octets<'_>, exchange: &Exchange) -> Vec<u8> {
    let mut reply = exchange.query[..exchange.question_end].to_vec();
    reply[2] |= 0x80;
    reply[3] = octets.octet() & 0x0f;
    (reply[10], reply[11]) = (0, 0);
    for section in [7, 9, 11] {
        for _ in 0..octets.below(3) {
            reply[section] += 1;
            let owner = octets.pick(&[&b"\xc0\x0c"[..], b"\x00", b"\x05\x1b[31m\xc0\x0c"]);
            reply.extend(owner);
            let rtype = octets.pick(&[1, 28, 6, 16, 5, 2, 41, 64, 12, 33, 257, 65280]);
            let mut data = match (octets.below(4), rtype) {
                (0, _) => {
                    let length = octets.below(40);
                    octets.many(length)
                }
                (_, 1) => octets.many(4),
                (_, 28) => octets.many(16),
                (_, 6) => [&b"\x01\x1b\xc0\x0c\xc0\x0c"[..], &octets.many(20)].concat(),
                (_, 16) => {
                    let text = octets.text();
                    [&[text.len() as u8], text.as_bytes()].concat()
                }
                _ => [&[octets.octet() % 8][..], b"\x03a\x07b\x00"].concat(),
            };
            data.truncate(600);
            reply.extend([rtype, 1].map(u16::to_be_bytes).as_flattened());
            reply.extend(octets.many(4));
            reply.extend((data.len() as u16).to_be_bytes());
            reply.extend(data);
        }
    }
    for _ in 0..octets.below(3) {
        // What is compared is at the beginning.
        let at =
            if octets.one_in(2) { octets.below(HEADER) } else { usize::from(octets.u16()) % reply.len() };
        reply[at] = octets.octet();
    }
    if octets.one_in(8) {
        reply.truncate(usize::from(octets.u16()) % (reply.len() + 1));
    }
    reply
}
