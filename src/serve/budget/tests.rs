use super::*;

fn budget() -> Arc<Budget> {
    Budget::new(Arc::new(Semaphore::new(SHARED)))
}

/// [E5] Whatever the order of its pieces, a message is what was sent, and counts up to its last octet.
#[test]
fn a_message_is_gathered_in_any_order() {
    let message: Vec<u8> = (0..20_000u32).map(|n| n as u8).collect();
    let ways: [&[usize]; 3] = [&[0, 1, 2, 3], &[3, 2, 1, 0], &[1, 0, 3, 2]];
    for way in ways {
        let (budget, mut gathering) = (budget(), Gathering::default());
        for nth in way {
            let (from, to) = (nth * 5000, (nth + 1) * 5000);
            gathering.put(from, &message[from..to], &budget).expect("room");
        }
        assert!(budget.shared.available_permits() < SHARED, "more than a connection's own");
        let whole = gathering.whole();
        assert_eq!(whole, message, "{way:?}");
        drop(whole);
        assert_eq!((budget.own.available_permits(), budget.shared.available_permits()), (OWN, SHARED));
    }
}

/// [E5] Gaps are remembered elsewhere, so there are few of them.
#[test]
fn pieces_of_a_message_with_too_many_gaps_are_too_much() {
    let (budget, mut gathering) = (budget(), Gathering::default());
    let most = (1..).take_while(|nth| gathering.put(2 * nth, &[1], &budget).is_ok()).count();
    assert_eq!(most, OUT_OF_TURN);
    // In their turn there may be any number.
    let mut gathering = Gathering::default();
    assert!((0..1000).all(|_| gathering.add(&[1], &budget).is_ok()));
}
