use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const NOW: u32 = 1_700_000_000;

fn limiter(rate: u32, slip: u32) -> Limiter {
    let exempt = Access::only(&["127.0.0.0/8".parse().expect("valid"), "fd00::/8".parse().expect("valid")]);
    Limiter::new(Limits { rate, slip, prefix_v4: 24, prefix_v6: 56, exempt })
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// What becomes of so many replies in one second.
fn flood(limiter: &Limiter, client: &str, replies: u32, now: u32) -> Vec<Verdict> {
    (0..replies).map(|_| limiter.take(ip(client), now)).collect()
}

/// [D20]
#[test]
fn a_network_gets_so_many_replies_a_second_and_then_every_nth() {
    use Verdict::{Drop, Pass, Slip};
    let cases = [
        (0, [Pass, Pass, Pass, Drop, Drop, Drop, Drop, Drop]),
        (1, [Pass, Pass, Pass, Slip, Slip, Slip, Slip, Slip]),
        (2, [Pass, Pass, Pass, Drop, Slip, Drop, Slip, Drop]),
        (3, [Pass, Pass, Pass, Drop, Drop, Slip, Drop, Drop]),
    ];
    for (slip, expected) in cases {
        let limiter = limiter(3, slip);
        for second in [NOW, NOW + 1, NOW - 3600, NOW + (1 << 20) + 1, 0] {
            assert_eq!(flood(&limiter, "192.0.2.1", 8, second), expected, "slip {slip}, second {second}");
        }
    }
}

/// [D20]
#[test]
fn the_length_of_the_prefix_says_who_shares_a_limit() {
    let share = |limits: &Limits, one: &str, other: &str| {
        let limiter = Limiter::new(limits.clone());
        assert_eq!(limiter.take(ip(one), NOW), Verdict::Pass);
        limiter.take(ip(other), NOW) == Verdict::Slip
    };
    let limits =
        |prefix_v4, prefix_v6| Limits { rate: 1, slip: 1, prefix_v4, prefix_v6, exempt: Access::only(&[]) };
    for (limits, one, other, expected) in [
        (limits(24, 56), "192.0.2.1", "192.0.2.255", true),
        (limits(24, 56), "192.0.2.1", "192.0.3.1", false),
        (limits(25, 56), "192.0.2.1", "192.0.2.255", false),
        (limits(32, 56), "192.0.2.1", "192.0.2.2", false),
        (limits(1, 1), "1.0.0.1", "127.0.0.2", true),
        (limits(1, 1), "1.0.0.1", "128.0.0.2", false),
        (limits(24, 56), "2001:db8::1", "2001:db8:0:ff::1", true),
        (limits(24, 56), "2001:db8::1", "2001:db8:0:100::1", false),
        (limits(24, 128), "2001:db8::1", "2001:db8::2", false),
        (limits(24, 1), "2001:db8::1", "7fff::", true),
        // One of each family, of the same octets.
        (limits(8, 8), "32.1.13.184", "2001:db8::", false),
    ] {
        assert_eq!(share(&limits, one, other), expected, "{one} {other}");
    }
}

/// [D20]
#[test]
fn who_is_exempt_is_never_limited_and_a_flood_touches_no_other_network() {
    let limiter = limiter(2, 0);
    assert!(flood(&limiter, "203.0.113.9", 10_000, NOW)[2..].iter().all(|verdict| *verdict == Verdict::Drop));
    for client in ["127.0.0.1", "fd00::1"] {
        assert!(
            flood(&limiter, client, 100, NOW).iter().all(|verdict| *verdict == Verdict::Pass),
            "{client}"
        );
    }
    for client in ["203.0.112.9", "203.0.114.9", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(flood(&limiter, client, 2, NOW), [Verdict::Pass; 2], "{client}");
    }
}

/// [D20] Millions of networks in one second: the table is as big as before, each of them is answered, and the one that
/// floods goes on to be limited.
#[test]
fn spoofed_floods_are_answered_and_hide_no_one_who_floods() {
    let limiter = limiter(100, 0);
    let mut dropped = 0;
    for spoofed in 0..2_000_000u32 {
        let client = if spoofed.is_multiple_of(2) {
            IpAddr::V4(Ipv4Addr::from_bits(spoofed << 8))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(u128::from(spoofed) << 72))
        };
        let expected = if limiter.limits.exempt.allows(client) { continue } else { Verdict::Pass };
        assert_eq!(limiter.take(client, NOW), expected, "{client}");
        dropped += u32::from(limiter.take(ip("198.18.0.1"), NOW) == Verdict::Drop);
    }
    // All but the first hundred, and none of them was forgotten: its count is never the lowest of its line.
    assert!(dropped > 1_900_000, "{dropped}");
    assert_eq!(limiter.lines.len() * size_of::<Line>(), 512 * 1024);
}

/// [D20] Where networks meet in a line, the one with the lowest count is forgotten, and gets more replies, not fewer.
#[test]
fn a_line_that_is_full_forgets_whoever_had_least() {
    let limiter = limiter(10, 0);
    let mut by_line: HashMap<usize, Vec<IpAddr>> = HashMap::new();
    let shared = (0..u32::MAX >> 8).find_map(|n| {
        let client = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + (n << 8)));
        let line = limiter.hasher.hash(&limiter.network(client)) as usize % LINES;
        let clients = by_line.entry(line).or_default();
        clients.push(client);
        (clients.len() > PLACES).then(|| clients.clone())
    });
    let clients = shared.expect("more networks than places");
    let (last, first) = clients.split_last().expect("clients");
    for (client, replies) in first.iter().zip(1..) {
        for _ in 0..replies {
            assert_eq!(limiter.take(*client, NOW), Verdict::Pass);
        }
    }
    assert_eq!(limiter.take(*last, NOW), Verdict::Pass);
    let counts = |client: &IpAddr| limiter.count(limiter.network(*client), NOW);
    // The last took the place of the first; the others keep what they had.
    assert_eq!(first[1..].iter().map(counts).collect::<Vec<_>>(), (3..).take(PLACES - 1).collect::<Vec<_>>());
    assert_eq!(counts(last), 2);
    assert_eq!(counts(&first[0]), 1, "forgotten");
}

/// [D20]
#[test]
fn a_count_that_is_full_goes_on_slipping() {
    let limiter = limiter(1, 10);
    let verdicts = flood(&limiter, "192.0.2.1", (1 << COUNT_BITS) + 1000, NOW);
    let slipped = verdicts[1..].iter().filter(|verdict| **verdict == Verdict::Slip).count();
    assert!((1 << COUNT_BITS) / 10 + 90 <= slipped, "{slipped}");
    assert!(!verdicts[1..].contains(&Verdict::Pass));
}

/// [D20] Hardly anything is lost between workers, and what is, to the client's advantage.
#[test]
fn workers_share_the_counts() {
    let limiter = limiter(1000, 0);
    let passed: usize = std::thread::scope(|scope| {
        let worker =
            || flood(&limiter, "192.0.2.1", 100_000, NOW).iter().filter(|v| **v == Verdict::Pass).count();
        let workers: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    });
    assert!((1000..4000).contains(&passed), "{passed}");
}
