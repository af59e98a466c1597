//! What is asked of clients: cookies, limits, access.

use super::*;
use crate::metrics::{CookieKind, Limited};
use crate::serve::access::Access;
use crate::serve::cookies::{Cookies, Secrets};
use crate::serve::limiter::{Limiter, Limits};

const CLIENT: &str = "2464c4abcf10c957";
/// Of RFC 9018 appendix A.1: the secret, the client's address, the second, the cookie.
const SECRET: [u8; 16] = 0xe5e973e5a6b2a43f48e7dc849e37bfcf_u128.to_be_bytes();
const PEER: &str = "198.51.100.100";
const AT: u32 = 1_559_731_985;
const GOOD: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
const BAD: &str = "2464c4abcf10c957010000005cf79f111f8130c3eee29481";
/// `echo.global A` has this.
const ANSWER: &str = "= echo.global. 30 A 240.0.0.1";

fn arrival(peer: &str, transport: Transport, at: u32) -> Arrival {
    let peer = SocketAddr::new(peer.parse().expect(peer), 4000);
    Arrival::new(transport, peer, "192.0.2.53".parse().expect("valid"), at)
}

fn guarded(guard: Guard) -> Fixture {
    Fixture::guarded(table(&["global"], &[("echo.global", vec![IpAddr::from([240, 0, 0, 1])])]), guard)
}

fn cookies() -> Option<Arc<Cookies>> {
    Some(Arc::new(Cookies::new(Secrets::new(SECRET, &[]))))
}

fn limits(rate: u32, slip: u32) -> Limits {
    Limits { rate, slip, prefix_v4: 24, prefix_v6: 56, exempt: Access::only(&[]) }
}

fn access(allow: &[&str], deny: &[&str]) -> Option<Access> {
    let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().expect(text)).collect::<Vec<_>>();
    Access::new(&networks(allow), &networks(deny))
}

/// A message without a question, and an OPT with this cookie.
fn cookie_request(cookie: &str) -> Vec<u8> {
    let (mut message, _) = query(&format!("echo.global A +cookie={cookie}"));
    message[5] = 0;
    message.drain(12..12 + b"\x04echo\x06global\x00\x00\x01\x00\x01".len());
    message
}

/// What both paths say.
fn say(f: &Fixture, message: &[u8], arrival: Arrival) -> Vec<String> {
    let [fast, general] = [f.fast_to(message, arrival), f.general_to(message, arrival)]
        .map(|reply| reply.map(|reply| render(&reply)).unwrap_or_default());
    assert_eq!(fast, general);
    fast
}

fn count(f: &Fixture, metric: impl Fn(&Counters)) -> u64 {
    // What one event adds to an empty tally is where it is counted.
    let zones = f.responder.table().zones().count();
    let one = Counters::new(zones);
    metric(&one);
    let place = one.tally().0.iter().position(|n| *n == 1).expect("counted");
    f.counters.tally().0[place]
}

/// [D19]
#[test]
fn a_cookie_is_answered_with_a_server_cookie_on_every_transport() {
    let f = guarded(Guard { cookies: cookies(), ..Guard::default() });
    for transport in [Transport::Udp, Transport::Tcp, Transport::Grpc] {
        for (sent, given) in [(CLIENT, GOOD), (GOOD, GOOD), (BAD, GOOD)] {
            let (message, _) = query(&format!("echo.global A +cookie={sent}"));
            let said = say(&f, &message, arrival(PEER, transport, AT));
            assert_eq!(said, ["NOERROR qr aa rd", ANSWER, &format!("OPT 1232 cookie={given}")], "{sent}");
        }
    }
    // Two paths and three transports for each.
    for kind in [CookieKind::Client, CookieKind::Valid, CookieKind::Invalid] {
        assert_eq!(count(&f, |c| c.cookie(kind)), 6, "{kind:?}");
    }
    // Errors carry it, too, behind NSID and before an extended error.
    let (message, _) = query(&format!("example.com A +nsid +cookie={CLIENT}"));
    let said = say(&f, &message, arrival(PEER, Transport::Udp, AT));
    assert_eq!(said, ["REFUSED qr rd", &format!("OPT 1232 nsid=pod-1 cookie={GOOD} ede=20")]);
    let (mut message, _) = query(&format!("echo.global A +cookie={CLIENT}"));
    message.push(0);
    assert_eq!(
        say(&f, &message, arrival(PEER, Transport::Udp, AT)),
        ["FORMERR qr rd", &format!("OPT 1232 cookie={GOOD}")]
    );
    // And a mapped address is the IPv4 address.
    let (message, _) = query(&format!("echo.global A +cookie={CLIENT}"));
    let mapped = arrival("::ffff:198.51.100.100", Transport::Udp, AT);
    assert_eq!(say(&f, &message, mapped)[2], format!("OPT 1232 cookie={GOOD}"));
}

/// [D19] [D12]
#[test]
fn without_the_flag_a_cookie_is_an_option_we_do_not_know() {
    let f = guarded(Guard::default());
    for sent in [CLIENT, BAD, "00", ""] {
        let (message, _) = query(&format!("echo.global A +cookie={sent}"));
        let said = say(&f, &message, arrival(PEER, Transport::Udp, AT));
        assert_eq!(said, ["NOERROR qr aa rd", ANSWER, "OPT 1232"], "{sent}");
        assert_eq!(
            say(&f, &cookie_request(sent), arrival(PEER, Transport::Udp, AT)),
            ["FORMERR qr rd"],
            "{sent}"
        );
    }
}

/// [D19] [D11] RFC 7873 sections 5.2.2 and 5.4.
#[test]
fn a_malformed_cookie_is_a_format_error_and_a_cookie_may_be_asked_for_alone() {
    let f = guarded(Guard { cookies: cookies(), ..Guard::default() });
    let from = arrival(PEER, Transport::Udp, AT);
    for octets in [0, 7, 9, 15, 41] {
        let cookie = "ab".repeat(octets);
        let (message, _) = query(&format!("echo.global A +cookie={cookie}"));
        assert_eq!(say(&f, &message, from), ["FORMERR qr rd", "OPT 1232"], "{octets}");
        assert_eq!(say(&f, &cookie_request(&cookie), from), ["FORMERR qr rd", "OPT 1232"], "{octets}");
    }
    assert_eq!(count(&f, |c| c.cookie(CookieKind::Malformed)), 20);
    for (sent, code) in [(CLIENT, "NOERROR"), (GOOD, "NOERROR"), (BAD, "BADCOOKIE")] {
        let said = say(&f, &cookie_request(sent), from);
        assert_eq!(said, [format!("{code} qr rd"), format!("OPT 1232 cookie={GOOD}")], "{sent}");
        // The version comes before it (RFC 6891 section 6.1.3).
        let mut message = cookie_request(sent);
        message[12 + b"\x00\x00\x29\x04\xd0\x00".len()] = 1;
        let said = say(&f, &message, from);
        assert_eq!(said, ["BADVERS qr rd", &format!("OPT 1232 cookie={GOOD}")], "{sent}");
    }
    let f = guarded(Guard { cookies: cookies(), access: access(&[], &[PEER]), ..Guard::default() });
    let said = say(&f, &cookie_request(CLIENT), from);
    assert_eq!(said, ["REFUSED qr rd", &format!("OPT 1232 cookie={GOOD} ede=18")]);
    assert_eq!(count(&f, |c| c.denied(Transport::Udp)), 2);
}

/// [D21] [D1] After the version, and before the class, the type and the zone.
#[test]
fn who_may_not_ask_is_refused_on_every_transport_and_never_met_with_silence() {
    let f = guarded(Guard { access: access(&["192.0.2.0/24"], &["192.0.2.8"]), ..Guard::default() });
    let refused = ["REFUSED qr rd", "OPT 1232 ede=18"];
    for transport in [Transport::Udp, Transport::Tcp, Transport::Grpc] {
        for denied in ["192.0.2.8", "::ffff:192.0.2.8", "198.51.100.1", "2001:db8::1"] {
            let (message, _) = query("echo.global A +udp=1232");
            assert_eq!(say(&f, &message, arrival(denied, transport, AT)), refused, "{denied}");
            let (message, _) = query("echo.global A");
            assert_eq!(say(&f, &message, arrival(denied, transport, AT)), ["REFUSED qr rd"], "{denied}");
        }
        assert_eq!(count(&f, |c| c.denied(transport)), 16);
        let (message, _) = query("echo.global A");
        for allowed in ["192.0.2.7", "::ffff:192.0.2.9"] {
            assert_eq!(
                say(&f, &message, arrival(allowed, transport, AT)),
                ["NOERROR qr aa rd", ANSWER],
                "{allowed}"
            );
        }
    }
    let from = arrival("192.0.2.8", Transport::Udp, AT);
    for (question, expected) in [
        ("echo.global A +edns=1", "BADVERS qr rd"),
        ("echo.global A +class=CH", "REFUSED qr rd"),
        ("echo.global TYPE254", "REFUSED qr rd"),
        ("example.com A", "REFUSED qr rd"),
    ] {
        assert_eq!(say(&f, &query(question).0, from)[0], expected, "{question}");
    }
    let (mut message, _) = query("echo.global A");
    message.push(0);
    assert_eq!(say(&f, &message, from), ["FORMERR qr rd"]);
    message[2] = 0x29;
    assert_eq!(say(&f, &message, from), ["NOTIMP qr rd"]);
}

/// What the octet writer says; nothing for silence.
fn fast(f: &Fixture, question: &str, peer: &str, at: u32) -> Vec<String> {
    let (message, transport) = query(question);
    f.fast_to(&message, arrival(peer, transport, at)).map(|reply| render(&reply)).unwrap_or_default()
}

/// [D20]
#[test]
fn a_limited_client_is_told_to_ask_over_tcp_in_no_more_octets_than_it_sent() {
    for (slip, turns) in [(1, [true; 6]), (2, [false, true, false, true, false, true]), (0, [false; 6])] {
        let f = guarded(Guard { limiter: Some(Limiter::new(limits(2, slip))), ..Guard::default() });
        let question = "echo.global A +nsid +udp=1232";
        let whole = ["NOERROR qr aa rd", ANSWER, "OPT 1232 nsid=pod-1"];
        for _ in 0..2 {
            assert_eq!(fast(&f, question, PEER, AT), whole);
        }
        for sent in turns {
            let (message, _) = query(question);
            let reply = f.fast_to(&message, arrival(PEER, Transport::Udp, AT));
            match reply {
                Ok(reply) => {
                    assert_eq!(
                        (sent, &render(&reply)[..]),
                        (true, &["NOERROR qr tc rd".to_owned(), "OPT 1232".to_owned()][..])
                    );
                    assert!(reply.len() <= message.len());
                }
                Err(outcome) => assert_eq!((sent, outcome), (false, Outcome::Silence)),
            }
        }
        // Others, TCP, and the next second.
        assert_eq!(fast(&f, question, "198.51.101.1", AT), whole, "another network");
        assert_eq!(fast(&f, &format!("{question} +tcp"), PEER, AT), whole);
        assert_eq!(fast(&f, question, PEER, AT + 1), whole);
        let sent = turns.iter().filter(|sent| **sent).count() as u64;
        assert_eq!(count(&f, |c| c.limited(Limited::Truncated)), sent);
        assert_eq!(count(&f, |c| c.limited(Limited::Dropped)), 6 - sent);
        assert_eq!(f.counters.tally().1, sent, "counted as truncated");
    }
}

/// [D20] Every kind of reply counts, and what is no query is answered with its error on its turn.
#[test]
fn errors_and_refusals_are_limited_too() {
    let f = guarded(Guard { limiter: Some(Limiter::new(limits(1, 1))), ..Guard::default() });
    assert_eq!(fast(&f, "example.com A", PEER, AT), ["REFUSED qr rd"]);
    assert_eq!(fast(&f, "example.com A", PEER, AT), ["NOERROR qr tc rd"]);
    let (mut message, _) = query("echo.global A +nsid");
    message.push(0);
    let said = f.fast_to(&message, arrival(PEER, Transport::Udp, AT)).map(|reply| render(&reply));
    assert_eq!(said, Ok(vec!["FORMERR qr rd".to_owned(), "OPT 1232".to_owned()]));
    assert_eq!(count(&f, |c| c.limited(Limited::Error)), 1);
    // What the general path would answer is held back before it gets there.
    let (mut message, _) = query("echo.global A");
    message[11] = 1;
    message.extend(b"\x00\x00\x10\x00\x01\x00\x00\x00\x00\x00\x02\x01a");
    let declined = f.fast_to(&message, arrival("203.0.113.1", Transport::Udp, AT));
    assert_eq!(declined, Err(Outcome::Declined));
    let limited = f.fast_to(&message, arrival("203.0.113.1", Transport::Udp, AT)).map(|reply| render(&reply));
    assert_eq!(limited, Ok(vec!["NOERROR qr tc rd".to_owned()]));
    // D11 is not about replies.
    assert_eq!(f.fast_to(&message[..11], arrival(PEER, Transport::Udp, AT)), Err(Outcome::Silence));
    assert_eq!(count(&f, |c| c.limited(Limited::Dropped)), 0);
}

/// [D20] [D19] RFC 7873 section 5.2.3.
#[test]
fn a_good_cookie_is_never_limited_and_a_client_without_one_is_given_it() {
    for slip in [0, 1] {
        let guard =
            Guard { cookies: cookies(), limiter: Some(Limiter::new(limits(1, slip))), ..Guard::default() };
        let f = guarded(guard);
        let ask = |cookie: &str| fast(&f, &format!("echo.global A +nsid +cookie={cookie}"), PEER, AT);
        let whole = ["NOERROR qr aa rd", ANSWER, &format!("OPT 1232 nsid=pod-1 cookie={GOOD}")];
        for _ in 0..3 {
            assert_eq!(ask(GOOD), whole, "a good cookie does not count");
        }
        assert_eq!(ask(CLIENT), whole, "the one reply there is");
        for sent in [CLIENT, BAD] {
            let limited = ["BADCOOKIE qr rd".to_owned(), format!("OPT 1232 cookie={GOOD}")];
            let expected: &[String] = if slip == 0 { &[] } else { &limited };
            assert_eq!(ask(sent), expected, "{sent}");
        }
        assert_eq!(
            fast(&f, "echo.global A", PEER, AT).first().map(String::as_str),
            (slip > 0).then_some("NOERROR qr tc rd")
        );
        assert_eq!(ask(GOOD), whole, "nor is it limited");
        assert_eq!(count(&f, |c| c.limited(Limited::BadCookie)), 2 * u64::from(slip));
        // Without a question, the reply to the client's cookie is as short as can be.
        let alone = f.fast_to(&cookie_request(CLIENT), arrival(PEER, Transport::Udp, AT));
        assert_eq!(alone.is_ok(), slip > 0);
    }
}
