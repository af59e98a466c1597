mod reply;

use std::sync::atomic::Ordering;

use super::*;

/// Room for so many.
fn room(limit: usize) -> (Arc<Connections>, Arc<TcpCounters>) {
    let counters = Arc::new(TcpCounters::default());
    (Connections::new(limit, counters.clone(), CancellationToken::new()), counters)
}

fn at(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// Whether it has been asked to leave.
fn leaves(seat: &Seat) -> bool {
    seat.occupant.leave.is_cancelled()
}

async fn pass(time: Duration) {
    tokio::time::advance(time).await;
}

const MOMENT: Duration = Duration::from_millis(1);

/// [D14] Whoever opens connections without end takes them from itself.
#[tokio::test(start_paused = true)]
async fn the_client_with_the_most_connections_makes_room() {
    let (connections, counters) = room(10);
    let polite = connections.seat(at("192.0.2.1")).expect("room");
    pass(MOMENT).await;
    let mut greedy: Vec<Seat> = Vec::new();
    for _ in 0..100 {
        greedy.push(connections.seat(at("192.0.2.66")).expect("one of its own makes room"));
        pass(MOMENT).await;
    }
    assert!(!leaves(&polite), "it was idle for longer than any other");
    assert_eq!(greedy.iter().filter(|seat| !leaves(seat)).count(), 9);
    assert!(greedy[91..].iter().all(|seat| !leaves(seat)), "the newest nine are left");
    // Others get places from the greedy one until all have as many.
    let mut others: Vec<Seat> = Vec::new();
    for n in 2..=9 {
        others.push(connections.seat(at(&format!("192.0.2.{n}"))).expect("room"));
    }
    assert!(!leaves(&polite) && !others.iter().any(leaves));
    assert_eq!(greedy.iter().filter(|seat| !leaves(seat)).count(), 1);
    assert_eq!(counters.rejected.load(Ordering::Relaxed), 0);
    // Now all are equal, and the one idle longest makes room.
    connections.seat(at("192.0.2.200")).expect("room");
    assert!(leaves(&polite));
}

/// [D14] Nor does it help to keep them busy.
#[tokio::test(start_paused = true)]
async fn nobody_takes_a_place_from_a_client_that_has_fewer() {
    let (connections, counters) = room(4);
    let polite = connections.seat(at("192.0.2.1")).expect("room");
    let greedy: Vec<Seat> = (0..3).map(|_| connections.seat(at("192.0.2.66")).expect("room")).collect();
    let mut busy: Vec<Busy> = greedy.iter().map(|seat| seat.occupant.busy()).collect();
    assert!(connections.seat(at("192.0.2.66")).is_none(), "all of its own are busy");
    assert_eq!(counters.rejected.load(Ordering::Relaxed), 1);
    assert!(!leaves(&polite));
    // One with as many may be asked, a second one of a client that has one may not.
    let second = connections.seat(at("192.0.2.2")).expect("room");
    assert!(leaves(&polite));
    let mut newer = connections.seat(at("192.0.2.3")).expect("room");
    assert!(leaves(&second));
    // Who takes no replies for a second is asked before those of others.
    pass(STUCK - MOMENT).await;
    drop(std::mem::replace(&mut newer, connections.seat(at("192.0.2.4")).expect("room")));
    assert!(!greedy.iter().any(leaves), "nearly a second is no second");
    pass(MOMENT).await;
    drop(busy.remove(0));
    let _fifth = connections.seat(at("192.0.2.5")).expect("room");
    assert!(leaves(&greedy[0]), "an idle one of it before a stuck one");
    let _sixth = connections.seat(at("192.0.2.6")).expect("room");
    assert!(leaves(&greedy[1]) || leaves(&greedy[2]), "a stuck one of it before an idle one of others");
}

/// [D14] A host has all addresses of a /64.
#[test]
fn clients_are_told_apart_by_their_address_or_its_network() {
    for (one, other, same) in [
        ("192.0.2.1", "::ffff:192.0.2.1", true),
        ("192.0.2.1", "192.0.2.2", false),
        ("2001:db8::1", "2001:db8::ffff:1:2:3", true),
        ("2001:db8::1", "2001:db8:0:1::1", false),
        ("::1", "2001:db8::1", false),
    ] {
        assert_eq!(client(at(one)) == client(at(other)), same, "{one} {other}");
    }
}

/// [D14] What is counted of clients goes with their connections.
#[tokio::test]
async fn nothing_is_kept_of_clients_that_are_gone() {
    let (connections, counters) = room(3);
    for n in 0..1000u32 {
        let address = IpAddr::from(n.to_be_bytes());
        let seats: Vec<_> = (0..5).map(|_| connections.seat(address)).collect();
        assert_eq!(connections.places().shares.len(), 1);
        drop(seats);
        assert!(connections.places().shares.is_empty());
    }
    assert!(connections.places().taken.is_empty());
    assert_eq!(counters.open.load(Ordering::Relaxed), 0);
}
