use super::*;

/// Header with the given counts and flags, then `rest`.
fn message(flags: [u8; 2], counts: [u16; 4], rest: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, flags[0], flags[1]];
    out.extend(counts.iter().flat_map(|c| c.to_be_bytes()));
    out.extend(rest.iter().flat_map(|part| part.iter()));
    out
}

const QUESTION: &[u8] = b"\x01A\x06GloBal\x00\x00\x01\x00\x01";
const OPT: &[u8] = b"\x00\x00\x29\x04\xd0\x00\x00\x80\x00\x00\x00";

fn opt(payload: u16, version: u8, dnssec_ok: bool, options: &[u8]) -> Vec<u8> {
    let mut out = vec![0, 0, 41];
    out.extend(payload.to_be_bytes());
    out.extend([0, version, if dnssec_ok { 0x80 } else { 0 }, 0]);
    out.extend((options.len() as u16).to_be_bytes());
    out.extend(options);
    out
}

fn query(message: &[u8]) -> Query<'_> {
    match parse(message) {
        Ok(query) => query,
        Err(other) => panic!("{other:?}"),
    }
}

fn lower(query: &Query<'_>) -> Vec<u8> {
    query.lower_name(&mut [0; MAX_WIRE]).to_vec()
}

fn refusal(message: &[u8]) -> Refusal<'_> {
    match parse(message) {
        Err(Unanswerable::Refuse(refusal)) => refusal,
        Err(other) => panic!("{other:?}"),
        Ok(query) => panic!("a query for {:?}", query.name()),
    }
}

/// [D1] [D15]
#[test]
fn a_question_is_lowered_for_lookup_and_kept_for_the_echo() {
    let m = message([0x01, 0x20], [1, 0, 0, 0], &[QUESTION]);
    let q = query(&m);
    assert_eq!(q.head, Head { id: 0xabcd, opcode: 0, rd: true });
    assert_eq!(q.question, QUESTION);
    assert_eq!(lower(&q), b"\x01a\x06global\x00");
    assert_eq!((q.qtype, q.qclass, q.edns, q.plain), (1, 1, None, true));
    let m = message([0x00, 0x00], [1, 0, 0, 0], &[b"\x00\x00\x02\x00\x03"]);
    let q = query(&m);
    assert_eq!((lower(&q), q.qtype, q.qclass, q.head.rd), (vec![0], 2, 3, false));
}

/// [D11]
#[test]
fn too_short_and_responses_get_no_reply() {
    let m = message([0x00, 0x00], [1, 0, 0, 0], &[QUESTION]);
    for n in 0..HEADER {
        assert_eq!(parse(&m[..n]).err(), Some(Unanswerable::Silence), "{n} octets");
    }
    let m = message([0x80, 0x00], [1, 0, 0, 0], &[QUESTION]);
    assert_eq!(parse(&m).err(), Some(Unanswerable::Silence));
    // QR comes before the opcode.
    let m = message([0xa8, 0x00], [1, 0, 0, 0], &[QUESTION]);
    assert_eq!(parse(&m).err(), Some(Unanswerable::Silence));
}

/// [D1] [D10]
#[test]
fn other_opcodes_are_not_read_any_further() {
    for opcode in 1..16u8 {
        let m = message([opcode << 3 | 0x01, 0x00], [7, 9, 9, 9], &[b"\xff"]);
        let r = refusal(&m);
        assert_eq!((r.rcode, r.head.opcode, r.head.rd), (Rcode::NotImp, opcode, true));
        assert_eq!((r.question, r.edns), (&[][..], None));
    }
}

/// [D11]
#[test]
fn broken_messages_are_formerr_with_the_question_if_it_could_be_read() {
    let record = b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x04\x01\x02\x03\x04".as_slice();
    let long_label = [&[63][..], &[b'a'; 63]].concat();
    let four_long =
        [&long_label[..], &long_label, &long_label, &long_label, b"\x00\x00\x01\x00\x01"].concat();
    let cases: &[(&str, Vec<u8>, bool)] = &[
        ("no question", message([0, 0], [0, 0, 0, 0], &[]), false),
        ("two questions", message([0, 0], [2, 0, 0, 0], &[QUESTION, QUESTION]), false),
        ("question cut", message([0, 0], [1, 0, 0, 0], &[&QUESTION[..QUESTION.len() - 1]]), false),
        ("name cut", message([0, 0], [1, 0, 0, 0], &[b"\x05abc"]), false),
        ("label of 64", message([0, 0], [1, 0, 0, 0], &[&[64], &[b'a'; 70]]), false),
        ("compressed question", message([0, 0], [1, 0, 0, 0], &[b"\xc0\x00\x00\x01\x00\x01"]), false),
        ("name of 257", message([0, 0], [1, 0, 0, 0], &[&four_long]), false),
        ("answers", message([0, 0], [1, 1, 0, 0], &[QUESTION, record]), true),
        ("authority", message([0, 0], [1, 0, 1, 0], &[QUESTION, record]), true),
        ("missing record", message([0, 0], [1, 0, 0, 1], &[QUESTION]), true),
        ("record cut", message([0, 0], [1, 0, 0, 1], &[QUESTION, &record[..14]]), true),
        ("trailing octet", message([0, 0], [1, 0, 0, 0], &[QUESTION, b"\x00"]), true),
        ("pointer forward", message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\xc0\xff", &record[1..]]), true),
        ("pointer to itself", message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\xc0\x1a", &record[1..]]), true),
        ("pointer to header", message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\xc0\x0b", &record[1..]]), true),
        ("pointer far forward", message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\xc1\x0c", &record[1..]]), true),
        (
            "label type 01 as pointer",
            message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\x40\x0c", &record[1..]]),
            true,
        ),
        (
            "label type 10 as pointer",
            message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\x80\x0c", &record[1..]]),
            true,
        ),
        ("label type 01", message([0, 0], [1, 0, 0, 1], &[QUESTION, b"\x41", &record[1..]]), true),
    ];
    for (what, m, has_question) in cases {
        let r = refusal(m);
        assert_eq!(r.rcode, Rcode::FormErr, "{what}");
        assert_eq!(r.question, if *has_question { QUESTION } else { &[] }, "{what}");
        assert_eq!(r.edns, None, "{what}");
    }
}

#[test]
fn names_of_exactly_255_octets_are_read() {
    let label = [&[63][..], &[b'a'; 63]].concat();
    let last = [&[61][..], &[b'b'; 61]].concat();
    let name = [&label[..], &label, &label, &last, &[0]].concat();
    assert_eq!(name.len(), MAX_WIRE);
    let m = message([0, 0], [1, 0, 0, 0], &[&name, b"\x00\x01\x00\x01"]);
    assert_eq!(lower(&query(&m)), name);
    let over = [&label[..], &label, &label, &[62], &[b'b'; 62], &[0]].concat();
    let m = message([0, 0], [1, 0, 0, 0], &[&over, b"\x00\x01\x00\x01"]);
    assert_eq!(refusal(&m).rcode, Rcode::FormErr);
    // The same limits for a name that is only skipped.
    let tail = b"\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00";
    let m = message([0, 0], [1, 0, 0, 1], &[QUESTION, &name, tail]);
    assert!(!query(&m).plain);
    let m = message([0, 0], [1, 0, 0, 1], &[QUESTION, &over, tail]);
    assert_eq!(refusal(&m).rcode, Rcode::FormErr);
}

/// [D12]
#[test]
fn one_opt_is_read_whatever_options_it_has() {
    let m = message([0, 0], [1, 0, 0, 1], &[QUESTION, OPT]);
    let expected = Edns { udp_payload: 1232, version: 0, dnssec_ok: true, nsid: false, cookie: None };
    assert_eq!((query(&m).edns, query(&m).plain), (Some(expected), true));
    let options = b"\x00\x0a\x00\x08abcdefgh\xff\xff\x00\x00".as_slice();
    let m = message([0, 0], [1, 0, 0, 1], &[QUESTION, &opt(512, 3, false, options)]);
    let cookie = Some(&b"abcdefgh"[..]);
    let expected = Edns { udp_payload: 512, version: 3, dnssec_ok: false, nsid: false, cookie };
    assert_eq!((query(&m).edns, query(&m).plain), (Some(expected), true));
    let nsid = opt(4096, 0, false, b"\x00\x0a\x00\x00\x00\x03\x00\x00");
    let m = message([0, 0], [1, 0, 0, 1], &[QUESTION, &nsid]);
    assert_eq!((query(&m).edns.map(|e| e.nsid), query(&m).plain), (Some(true), true));
}

/// [D19] RFC 7873 section 5: all but the first are ignored.
#[test]
fn the_first_cookie_counts_and_may_come_without_a_question() {
    let cookies = opt(1232, 0, false, b"\xff\xff\x00\x01x\x00\x0a\x00\x02ab\x00\x0a\x00\x08abcdefgh");
    let m = message([0, 0], [1, 0, 0, 1], &[QUESTION, &cookies]);
    assert_eq!(query(&m).edns.and_then(|edns| edns.cookie), Some(&b"ab"[..]));

    let tsig = b"\x00\x00\xfa\x00\xff\x00\x00\x00\x00\x00\x00";
    for (counts, rest) in [
        ([0, 0, 0, 1], vec![&cookies[..]]),
        ([0, 0, 0, 2], vec![&cookies, tsig]),
        ([0, 0, 0, 2], vec![tsig, &cookies]),
    ] {
        let m = message([1, 0], counts, &rest);
        let Err(Unanswerable::Cookie(head, edns)) = parse(&m) else { panic!("{:?}", parse(&m)) };
        assert_eq!((head.id, head.rd, edns.cookie), (0xabcd, true, Some(&b"ab"[..])));
    }
    // Everything else without a question is what it was: an error of which nothing is read.
    let cases = [
        ("no OPT", [0, 0, 0, 0], Vec::<&[u8]>::new()),
        ("no cookie", [0, 0, 0, 1], vec![OPT]),
        ("an answer", [0, 1, 0, 1], vec![tsig, &cookies]),
        ("an authority", [0, 0, 1, 1], vec![tsig, &cookies]),
        ("two OPTs", [0, 0, 0, 2], vec![&cookies, &cookies]),
        ("OPT in authority", [0, 0, 1, 0], vec![&cookies]),
        ("trailing octets", [0, 0, 0, 1], vec![&cookies, b"x"]),
        ("two questions", [2, 0, 0, 1], vec![QUESTION, QUESTION, &cookies]),
    ];
    for (what, counts, rest) in cases {
        let m = message([0, 0], counts, &rest);
        let r = refusal(&m);
        assert_eq!((r.rcode, r.question, r.edns), (Rcode::FormErr, &[][..], None), "{what}");
    }
}

/// [D11] [D1]
#[test]
fn an_error_reply_carries_opt_exactly_if_one_valid_opt_was_read() {
    let edns = Some(Edns { udp_payload: 1232, version: 0, dnssec_ok: true, nsid: false, cookie: None });
    let in_name = [&b"\x01a"[..], OPT].concat();
    let record = b"\x00\x00\x01\x00\x01\x00\x00\x00\x00\x00\x00".as_slice();
    let cases: &[(&str, Vec<u8>, Option<Edns>)] = &[
        ("two", message([0, 0], [1, 0, 0, 2], &[QUESTION, OPT, OPT]), None),
        ("owner is not the root", message([0, 0], [1, 0, 0, 1], &[QUESTION, &in_name]), None),
        (
            "option cut",
            message([0, 0], [1, 0, 0, 1], &[QUESTION, &opt(1232, 0, false, b"\x00\x03\x00\x01")]),
            None,
        ),
        (
            "option head cut",
            message([0, 0], [1, 0, 0, 1], &[QUESTION, &opt(1232, 0, false, b"\x00\x03\x00")]),
            None,
        ),
        ("cut after OPT", message([0, 0], [1, 0, 0, 2], &[QUESTION, OPT, &record[..5]]), edns),
        ("trailing after OPT", message([0, 0], [1, 0, 0, 1], &[QUESTION, OPT, b"x"]), edns),
        ("OPT with an answer", message([0, 0], [1, 1, 0, 1], &[QUESTION, record, OPT]), None),
    ];
    for (what, m, expected) in cases {
        let r = refusal(m);
        assert_eq!((r.rcode, r.question, r.edns), (Rcode::FormErr, QUESTION, *expected), "{what}");
    }
}

/// [D11] [D10]
#[test]
fn what_is_beside_the_question_and_one_opt_makes_a_query_not_plain() {
    let record = b"\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00".as_slice();
    let pointed = [b"\xc0\x0c", &record[1..]].concat();
    for rest in [vec![record], vec![&pointed], vec![record, OPT], vec![OPT, &pointed, record]] {
        let parts = [&[QUESTION][..], &rest].concat();
        let m = message([0, 0], [1, 0, 0, rest.len() as u16], &parts);
        let q = query(&m);
        assert_eq!((q.plain, q.edns.is_some()), (false, rest.contains(&OPT)));
    }
    let ixfr = b"\x01A\x06GloBal\x00\x00\xfb\x00\x01".as_slice();
    let m = message([0, 0], [1, 0, 1, 1], &[ixfr, record, OPT]);
    let q = query(&m);
    assert_eq!((q.qtype, q.plain, q.edns.is_some()), (rtype::IXFR, false, true));
    // RFC 6891 section 6.1.1: OPT is at home in the additional section only.
    let m = message([0, 0], [1, 0, 1, 0], &[ixfr, OPT]);
    assert_eq!((refusal(&m).rcode, refusal(&m).edns), (Rcode::FormErr, None));
}

#[test]
fn pointers_reach_beyond_256_octets() {
    let long = [&b"\x01x\x00\x00\x10\x00\x01\x00\x00\x00\x00\x01\x2c"[..], &[0; 300]].concat();
    let at = HEADER + QUESTION.len() + long.len();
    let pointed = b"\x00\x10\x00\x01\x00\x00\x00\x00\x00\x00".as_slice();
    // To the octet before its own place, and to its own place.
    for (target, answerable) in [(at - 1, true), (at, false)] {
        let pointer = (0xc000 | target as u16).to_be_bytes();
        let m = message([0, 0], [1, 0, 0, 2], &[QUESTION, &long, &pointer, pointed]);
        assert_eq!(parse(&m).is_ok(), answerable, "{target}");
    }
}
