//! What encrypted transports make of a finished reply.

use std::net::IpAddr;

use hickory_proto::op::Message;
use hickory_proto::rr::rdata::opt::EdnsOption;

use crate::serve::fixture::{Fixture, query, render, settings, table};
use crate::wire::Transport;
use crate::wire::lifetime;
use crate::wire::padding::{KEEPALIVE, PADDING, has_option, pad};

/// RFC 8467 section 4.1.
const BLOCK: usize = 468;

fn fixture() -> Fixture {
    Fixture::new(table(&["global"], &[("a.global", vec![IpAddr::from([240, 0, 0, 1])])]), settings(), &[])
}

fn with(question: &str, options: &[(u16, usize)]) -> Vec<u8> {
    let mut message = Message::from_vec(&query(question).0).expect("a query");
    let mut edns = message.edns.clone().unwrap_or_default();
    for (code, length) in options {
        edns.options_mut().insert(EdnsOption::Unknown(*code, vec![0; *length]));
    }
    message.set_edns(edns);
    message.to_vec().expect("encodes")
}

/// [E6]
#[test]
fn an_option_is_found_wherever_it_stands() {
    assert!(has_option(&with("a.global A", &[(PADDING, 0)]), PADDING));
    assert!(has_option(&with("a.global A +nsid", &[(10, 8), (PADDING, 100)]), PADDING));
    assert!(!has_option(&with("a.global A +nsid", &[(10, 8)]), PADDING));
    assert!(has_option(&with("a.global A", &[(KEEPALIVE, 0)]), KEEPALIVE));
    for message in [query("a.global A").0, b"short".to_vec(), Vec::new()] {
        assert!(!has_option(&message, PADDING));
    }
    // Behind an OPT there may be a TSIG.
    let mut signed = with("a.global A", &[(PADDING, 0)]);
    signed[11] += 1;
    signed.extend([0, 0, 250, 0, 255, 0, 0, 0, 0, 0, 0]);
    assert!(has_option(&signed, PADDING) && !has_option(&signed, KEEPALIVE));
    let length = signed.len();
    assert_eq!(pad(&mut [signed, vec![0; 1000]].concat(), length), length, "only the last record can grow");
    let whole = with("a.global A +nsid", &[(PADDING, 3)]);
    for cut in 0..whole.len() {
        assert!(!has_option(&whole[..cut], PADDING), "{cut}");
    }
}

/// [E6] Both ways to write a reply leave its OPT where it can grow.
#[test]
fn a_padded_reply_has_whole_blocks_and_says_the_same() {
    let f = fixture();
    for question in
        ["a.global A +nsid", "nobody.global A +do", "example.com A +udp=512", "a.global A +edns=1"]
    {
        let (message, _) = query(question);
        for reply in [f.fast(&message, Transport::Tls), f.general(&message, Transport::Tls)] {
            let reply = reply.expect("a reply");
            let mut out = [reply.clone(), vec![0xff; 1000]].concat();
            let length = pad(&mut out, reply.len());
            assert_eq!(length, BLOCK, "{question}");
            let mut lines = render(&out[..length]);
            let opt = lines.last_mut().expect("an OPT");
            *opt = opt.replace(" option=12", "");
            assert_eq!(lines, render(&reply), "{question}");
        }
    }
}

/// [E6]
#[test]
fn a_reply_that_cannot_be_padded_stays_what_it_is() {
    let f = fixture();
    let plain = f.fast(&query("a.global A").0, Transport::Tls).expect("a reply");
    let mut out = [plain.clone(), vec![0; 1000]].concat();
    assert_eq!(pad(&mut out, plain.len()), plain.len());
    assert_eq!(out[..plain.len()], plain);
    let mut full = f.fast(&query("a.global A +nsid").0, Transport::Tls).expect("a reply");
    let (length, before) = (full.len(), full.clone());
    assert_eq!(pad(&mut full, length), length);
    assert_eq!(full, before);
    // As much as there is room for.
    let mut near = [before.clone(), vec![0xff; 10]].concat();
    assert_eq!(pad(&mut near, length), length + 10);
    assert_eq!(render(&near).len(), render(&before).len());
    // A reply just under a whole block goes on to the next one.
    for (short, blocks) in [(4, 1), (3, 2), (0, 2)] {
        let mut message = Message::from_vec(&before).expect("a reply");
        let mut edns = message.edns.clone().expect("an OPT");
        edns.options_mut().insert(EdnsOption::Unknown(65001, vec![0; BLOCK - short - length - 4]));
        message.set_edns(edns);
        let mut out = message.to_vec().expect("encodes");
        assert_eq!(out.len(), BLOCK - short);
        out.resize(3 * BLOCK, 0xff);
        assert_eq!(pad(&mut out, BLOCK - short), blocks * BLOCK, "{short}");
    }
}

/// [E3]
#[test]
fn a_reply_lives_as_long_as_its_shortest_record() {
    let f = fixture();
    let lives = |question| {
        let (message, _) = query(question);
        lifetime::of(&f.ask(&message, Transport::Https).expect("a reply"))
    };
    assert_eq!(lives("a.global A +nsid"), 30);
    assert_eq!(lives("a.global AAAA"), 5);
    assert_eq!(lives("nobody.global A +nsid"), 5);
    assert_eq!(lives("_probe-1.global TXT"), 0);
    assert_eq!(lives("example.com A +nsid"), 0);
    assert_eq!(lifetime::of(b"no message"), 0);
}
