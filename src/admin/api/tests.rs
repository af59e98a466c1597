use std::sync::mpsc;

use super::*;

/// [I3]
#[tokio::test(start_paused = true)]
async fn one_at_a_time_looks_at_everything_and_who_waits_too_long_is_told() {
    let turn = Turn::default();
    let (begun, began) = tokio::sync::oneshot::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let first = tokio::spawn({
        let turn = turn.clone();
        async move {
            let look = move || {
                let _ = begun.send(());
                goes_on.recv().is_ok()
            };
            turn.take("/first", look).await
        }
    });
    began.await.expect("the first look begins");
    let second = tokio::spawn({
        let turn = turn.clone();
        async move { turn.take("/second", || ()).await }
    });
    // The clock of a test stands while somebody looks.
    tokio::task::yield_now().await;
    tokio::time::advance(WAIT + Duration::from_secs(1)).await;
    let refused = second.await.expect("no panic").expect_err("the first one still looks");
    assert_eq!((refused.status, &*refused.value), (StatusCode::SERVICE_UNAVAILABLE, "/second"));
    go_on.send(()).expect("the first look goes on");
    assert!(first.await.expect("no panic").expect("a document"));
    turn.take("/third", || ()).await.expect("a turn");
}

/// [I3] Also for a look whose asker has gone, or that panics.
#[tokio::test(start_paused = true)]
async fn the_next_look_waits_for_as_long_as_the_one_before_took() {
    const TAKEN: Duration = Duration::from_millis(3);
    let look = || {
        let begun = Instant::now();
        while begun.elapsed() < TAKEN {
            std::hint::spin_loop();
        }
    };
    let turn = Turn::default();
    // The clock of a test goes on only while everybody waits for it.
    let begun = tokio::time::Instant::now();
    turn.take("/first", look).await.expect("a turn");
    turn.take("/second", || ()).await.expect("a turn");
    assert!(begun.elapsed() >= TAKEN, "{:?}", begun.elapsed());
    let begun = tokio::time::Instant::now();
    let panics = move || {
        look();
        assert_eq!(1, 2, "on purpose");
    };
    let refused = turn.take("/first", panics).await.expect_err("it panics");
    assert_eq!(refused.status, StatusCode::INTERNAL_SERVER_ERROR);
    turn.take("/second", || ()).await.expect("a turn");
    assert!(begun.elapsed() >= TAKEN, "{:?}", begun.elapsed());
}
