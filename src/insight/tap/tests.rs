use super::*;
use crate::wire::name::Name;
use crate::wire::rtype;

/// A query for a name as text, type A.
pub(in crate::insight) fn query(name: &str) -> Vec<u8> {
    let mut message = vec![0, 7, 0x01, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend_from_slice(Name::parse(name).expect(name).wire());
    message.extend_from_slice(&[0, rtype::A as u8, 0, 1]);
    // OPT with 1400 octets, DO and a COOKIE option.
    message.extend_from_slice(b"\0\x00\x29\x05\x78\x00\x00\x80\x00\x00\x0c\x00\x0a\x00\x08secretly");
    message
}

/// A reply to it without records.
pub(in crate::insight) fn reply(query: &[u8], rcode: Rcode) -> Vec<u8> {
    let mut reply = query.to_vec();
    reply[2] = 0x85;
    reply[3] = rcode as u8 & 0x0f;
    let opt = reply.len() - 23 + 5;
    reply[opt] = (rcode as u16 >> 4) as u8;
    if rcode == Rcode::BadVers || rcode == Rcode::Refused {
        reply[2] = 0x81;
    }
    reply
}

pub(in crate::insight) fn came(peer: &str, at: u32) -> Came {
    let peer = SocketAddr::new(peer.parse().expect(peer), 4000);
    Came { transport: Transport::Udp, peer, at, read: Instant::now() }
}

/// Who gives lines, and its tap.
pub(in crate::insight) fn tapped(samples: bool, lines: Option<Wants>) -> (Arc<Queues>, Tap) {
    let queues: Arc<Queues> = Arc::default();
    let taps = Taps::new(samples.then(|| queues.clone()), lines.map(|wants| (queues.clone(), wants)));
    (queues, taps.tap().expect("somebody looks"))
}

fn codes(queues: &Queues) -> Vec<u16> {
    let mut codes = Vec::new();
    queues.drain(usize::MAX, |exchange| codes.push(exchange.rcode));
    codes
}

/// [I7] Each query counts as one on average, whatever comes when: those that have a period, too.
#[test]
fn a_sample_stands_for_all_queries_also_for_those_with_a_period() {
    let (queues, mut tap) = tapped(true, None);
    let names = ["a.global", "b.global", "c.global", "d.global"];
    let messages = names.map(|name| (query(name), reply(&query(name), Rcode::NoError)));
    let came = came("192.0.2.1", 1);
    let mut counts = [0u64; 4];
    const EACH: usize = 100_000;
    for (message, reply) in messages.iter().cycle().take(4 * EACH) {
        tap.see(message, reply, came);
        queues.drain(usize::MAX, |exchange| {
            let (name, ..) = exchange.question().expect("a question");
            counts[usize::from(name[1] - b'a')] += u64::from(exchange.weight);
        });
    }
    for count in counts {
        // 1,560 are taken of each, so this is a matter of six standard deviations.
        assert!((85_000..115_000).contains(&count), "{counts:?}");
    }
}

/// [I7]
#[test]
fn of_few_queries_every_one_counts() {
    let (queues, mut tap) = tapped(true, None);
    let message = query("a.global");
    for second in 1..5 {
        for _ in 0..EXACT {
            tap.see(&message, &reply(&message, Rcode::NxDomain), came("192.0.2.1", second));
        }
    }
    let mut weights = 0;
    assert_eq!(queues.drain(usize::MAX, |exchange| weights += exchange.weight), 4 * EXACT as usize);
    assert_eq!(weights, 4 * EXACT);
}

/// [I9]
#[test]
fn what_fails_is_told_from_what_does_not() {
    let (queues, mut tap) = tapped(false, Some(Wants::Failures));
    let message = query("a.global");
    for rcode in Rcode::ALL {
        tap.see(&message, &reply(&message, rcode), came("192.0.2.1", 1));
    }
    // NOERROR without AA: a short reply (D20) is no failure.
    let mut short = reply(&message, Rcode::NoError);
    short[2] = 0x83;
    tap.see(&message, &short, came("192.0.2.1", 1));
    assert_eq!(codes(&queues), [1, 2, 3, 4, 5, 16, 23]);
}

/// [I9]
#[test]
fn one_in_so_many_is_logged_at_gaps_that_differ() {
    let (queues, mut tap) = tapped(false, Some(Wants::OneIn(10)));
    let message = query("a.global");
    let ok = reply(&message, Rcode::NoError);
    let mut gaps = Vec::new();
    let mut last = 0;
    for number in 0..10_000 {
        tap.see(&message, &ok, came("192.0.2.1", 1));
        if queues.drain(usize::MAX, |_| ()) == 1 {
            gaps.push(number - last);
            last = number;
        }
    }
    assert!((800..1200).contains(&gaps.len()), "{}", gaps.len());
    let different: std::collections::BTreeSet<_> = gaps.iter().collect();
    assert!(different.len() > 10 && gaps.iter().all(|gap| *gap <= 19), "{different:?}");
    let (queues, mut tap) = tapped(false, Some(Wants::OneIn(1)));
    (0..5).for_each(|_| tap.see(&message, &ok, came("192.0.2.1", 1)));
    assert_eq!(queues.drain(usize::MAX, |_| ()), 5);
}

/// [I9]
#[test]
fn what_finds_no_room_is_counted_and_nothing_waits() {
    let (queues, mut tap) = tapped(false, Some(Wants::All));
    let message = query("a.global");
    for _ in 0..ROOM + 7 {
        tap.see(&message, &reply(&message, Rcode::NoError), came("192.0.2.1", 1));
    }
    assert_eq!((queues.lost(), queues.drain(10, |_| ())), (7, 10));
    assert_eq!(queues.drain(usize::MAX, |_| ()), ROOM - 10);
}

/// [I9] Messages of whatever octets are copied, and nothing of their cookies.
#[test]
fn a_copy_has_the_question_and_no_secret() {
    let (queues, mut tap) = tapped(false, Some(Wants::All));
    let message = query("a.global");
    tap.see(&message, &reply(&message, Rcode::NxDomain), came("2001:db8::1", 1));
    for broken in [&b""[..], b"\0\x07", &message[..20], &[0xff; 600]] {
        tap.see(broken, broken, came("2001:db8::1", 1));
    }
    let mut seen = Vec::new();
    queues.drain(usize::MAX, |exchange| seen.push(*exchange));
    let [exchange, broken @ ..] = &seen[..] else { panic!("nothing was copied") };
    assert_eq!(exchange.question(), Some((&b"\x01a\x06global\0"[..], 1, 1)));
    assert_eq!((exchange.edns, exchange.sizes), (Some((1400, true)), [message.len() as u16; 2]));
    assert!(!exchange.question.windows(8).any(|octets| octets == b"secretly"));
    assert_eq!(broken.len(), 4);
    assert!(broken.iter().all(|exchange| exchange.question().is_none()));
}

/// [I7] [I9]
#[test]
fn threads_that_share_a_tap_copy_or_count_every_query_once() {
    const THREADS: usize = 4;
    let queues = Arc::<Queues>::default();
    let tap = Taps::new(None, Some((queues.clone(), Wants::All))).shared().expect("a tap");
    let message = query("a.global");
    let reply = reply(&message, Rcode::NoError);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| (0..ROOM).for_each(|_| tap.see(&message, &reply, came("192.0.2.1", 1))));
        }
    });
    assert_eq!((queues.drain(usize::MAX, |_| ()), queues.lost()), (ROOM, (ROOM * (THREADS - 1)) as u64));
}

/// [I7] Of a second the first count once each, whichever thread has them.
#[test]
fn threads_that_share_a_tap_count_as_one() {
    let queues = Arc::<Queues>::default();
    let tap = Taps::new(Some(queues.clone()), None).shared().expect("a tap");
    let message = query("a.global");
    let reply = reply(&message, Rcode::NoError);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..EXACT).for_each(|_| tap.see(&message, &reply, came("192.0.2.1", 1))));
        }
    });
    let mut once = 0;
    queues.drain(usize::MAX, |exchange| once += u32::from(exchange.weight == 1));
    assert_eq!(once, EXACT);
}
