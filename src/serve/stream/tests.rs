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
async fn a_client_with_busy_connections_alone_makes_room_for_one_with_fewer() {
    let (connections, counters) = room(4);
    let greedy: Vec<Seat> = (0..4).map(|_| connections.seat(at("192.0.2.66")).expect("room")).collect();
    let mut busy: Vec<Busy> = Vec::new();
    for seat in &greedy {
        pass(MOMENT).await;
        busy.push(seat.occupant.busy());
    }
    assert!(connections.seat(at("192.0.2.66")).is_none(), "not for itself");
    assert_eq!(counters.rejected.load(Ordering::Relaxed), 1);
    let first = connections.seat(at("192.0.2.1")).expect("room");
    let second = connections.seat(at("192.0.2.1")).expect("room");
    assert_eq!(greedy.iter().map(leaves).collect::<Vec<_>>(), [true, true, false, false], "the busy longest");
    // Now both have as many.
    let _first = first.occupant.busy();
    pass(MOMENT).await;
    let _second = second.occupant.busy();
    assert!(connections.seat(at("192.0.2.1")).is_none());
    // A third client, which has none, gets one of theirs, but no second one.
    let third = connections.seat(at("192.0.2.2")).expect("room");
    let _third = third.occupant.busy();
    assert!(leaves(&greedy[2]));
    assert!(connections.seat(at("192.0.2.2")).is_none(), "two against one is no more than as many");
    // Who takes no replies for a second is as good as idle.
    pass(STUCK).await;
    let _fourth = connections.seat(at("192.0.2.2")).expect("room");
    assert_eq!([leaves(&first), leaves(&second), leaves(&greedy[3])], [true, false, false]);
}

/// [D14]
#[tokio::test(start_paused = true)]
async fn nobody_takes_a_place_from_a_client_that_has_fewer() {
    let (connections, _) = room(3);
    let polite = connections.seat(at("192.0.2.1")).expect("room");
    pass(MOMENT).await;
    let greedy: Vec<Seat> = (0..2).map(|_| connections.seat(at("192.0.2.66")).expect("room")).collect();
    let mut busy: Vec<Busy> = greedy.iter().map(|seat| seat.occupant.busy()).collect();
    assert!(connections.seat(at("192.0.2.66")).is_none(), "the only idle one is another's, who has fewer");
    drop(busy.remove(0));
    let _next = connections.seat(at("192.0.2.66")).expect("room");
    assert_eq!((leaves(&polite), leaves(&greedy[0])), (false, true), "its own idle one");
    let _other = connections.seat(at("192.0.2.2")).expect("room");
    assert!(!leaves(&polite), "one with two before it");
}

/// [D14] Of two that may go, the idle one does, for however short that is.
#[tokio::test(start_paused = true)]
async fn an_idle_connection_goes_before_one_that_is_stuck() {
    let (connections, _) = room(2);
    let stuck = connections.seat(at("192.0.2.1")).expect("room");
    let _busy = stuck.occupant.busy();
    pass(2 * STUCK).await;
    let idle = connections.seat(at("192.0.2.1")).expect("room");
    pass(MOMENT).await;
    let _other = connections.seat(at("192.0.2.2")).expect("room");
    assert_eq!((leaves(&stuck), leaves(&idle)), (false, true));
}

/// [D14] A descriptor is missing, and nobody knows for whom: that is no reason to break off a query.
#[tokio::test(start_paused = true)]
async fn for_a_descriptor_only_an_idle_or_stuck_connection_goes() {
    let (connections, counters) = room(10);
    let make_room = || connections.places().make_room(None, &counters);
    assert!(!make_room());
    let seats: Vec<Seat> = (0..3).map(|_| connections.seat(at("192.0.2.1")).expect("room")).collect();
    let busy: Vec<Busy> = seats.iter().map(|seat| seat.occupant.busy()).collect();
    assert!(!make_room(), "all are being answered");
    pass(STUCK).await;
    assert!(make_room(), "one takes no replies");
    drop(busy);
    let busy: Vec<Busy> = seats.iter().map(|seat| seat.occupant.busy()).collect();
    assert!(!make_room());
    drop(busy);
    assert!(make_room(), "one is idle");
    assert_eq!(seats.iter().filter(|seat| leaves(seat)).count(), 2);
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
