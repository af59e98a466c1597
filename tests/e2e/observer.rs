//! Questions without a pause, in a thread of their own, and every reply that is not the expected one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use crate::dns::{Answer, Resolver};
use crate::wait::{DEADLINE, wait_until};

/// Asks until it is told to stop.
pub(crate) struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<String>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
    questions: AtomicU64,
}

impl Observer {
    /// Starts to ask `server` for the A records of each of `expected` in turn.
    pub(crate) fn start(server: SocketAddr, expected: Vec<(String, Answer)>) -> Self {
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::spawn(move || observe(server, &expected, &seen));
        Self { shared, thread: Some(thread) }
    }

    /// Waits until every name has been asked at least once more.
    #[track_caller]
    pub(crate) fn wait_for_a_round(&self) {
        let rounds = || self.shared.rounds.load(Ordering::SeqCst);
        // One round may have begun before this call, the next one has not.
        let enough = rounds() + 2;
        wait_until("every name is asked again", DEADLINE, || rounds() >= enough);
    }

    /// Stops; asserts that every reply was the expected one; returns how many there were.
    #[track_caller]
    pub(crate) fn finish(mut self) -> u64 {
        let wrong = self.stop();
        let questions = self.shared.questions.load(Ordering::SeqCst);
        assert!(
            wrong.is_empty(),
            "{} of {questions} replies were wrong or missing, the first: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
        questions
    }

    fn stop(&mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let thread = self.thread.take();
        thread.map_or_else(Vec::new, |thread| thread.join().expect("the observer does not panic"))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn observe(server: SocketAddr, expected: &[(String, Answer)], shared: &Shared) -> Vec<String> {
    let mut resolver = Resolver::new(server);
    let mut wrong = Vec::new();
    loop {
        for (name, answer) in expected {
            if shared.stop.load(Ordering::SeqCst) {
                return wrong;
            }
            let reply = resolver.a(name);
            shared.questions.fetch_add(1, Ordering::SeqCst);
            if reply.as_ref() != Some(answer) {
                wrong.push(format!("{name} A: {reply:?}"));
            }
        }
        shared.rounds.fetch_add(1, Ordering::SeqCst);
    }
}
