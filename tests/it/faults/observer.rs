//! Questions without a pause, in a thread of their own, and every reply that may not be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::dig::dig;
use crate::support::wait_until;

/// Between two questions: enough for the rest of a machine with two processors.
const PAUSE: Duration = Duration::from_millis(1);

/// The code of the reply to `NAME [TYPE]`, and its addresses.
pub(crate) fn reply(server: SocketAddr, question: &str) -> String {
    let text = dig(server, question);
    let code = text.split("status: ").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("?");
    let addresses = text.lines().filter_map(|line| {
        let (_, data) = line.split_once(" IN A ").or_else(|| line.split_once(" IN AAAA "))?;
        Some(data)
    });
    std::iter::once(code).chain(addresses).collect::<Vec<_>>().join(" ")
}

/// Asks until it is told to stop.
pub(crate) struct Observer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<String>>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    rounds: AtomicU64,
}

/// A question and what may be said to it. Once the second was said, the first may not be any more.
struct Watched {
    question: String,
    answers: Vec<String>,
}

impl Observer {
    /// Asks each question in turn: of `steady` with its one answer, of `changes` with the one before and the one after.
    pub(crate) fn start(
        server: SocketAddr,
        steady: &[(&str, &str)],
        changes: &[(&str, &str, &str)],
    ) -> Observer {
        let steady = steady.iter().map(|(question, answer)| (*question, vec![*answer]));
        let changes = changes.iter().map(|(question, before, after)| (*question, vec![*before, *after]));
        let watched = steady
            .chain(changes)
            .map(|(question, answers)| Watched {
                question: question.to_owned(),
                answers: answers.into_iter().map(str::to_owned).collect(),
            })
            .collect();
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let thread = std::thread::spawn(move || observe(server, watched, &seen));
        Observer { shared, thread: Some(thread) }
    }

    /// Waits until every question was asked once more.
    pub(crate) fn wait_for_a_round(&self) {
        let rounds = || self.shared.rounds.load(Ordering::SeqCst);
        // One may have begun before, the next one has not.
        let enough = rounds() + 2;
        wait_until("another round of questions", || (rounds() >= enough).then_some(()));
    }

    /// Stops: no reply was a wrong one.
    pub(crate) fn finish(mut self) {
        let wrong = self.stop();
        assert!(
            wrong.is_empty(),
            "{} wrong replies, the first: {:#?}",
            wrong.len(),
            &wrong[..wrong.len().min(5)]
        );
    }

    /// Stops: until all was known, every wrong reply was SERVFAIL.
    pub(crate) fn until_known(mut self) {
        let wrong = self.stop();
        let other: Vec<_> = wrong.iter().filter(|line| !line.ends_with(" SERVFAIL")).collect();
        assert!(other.is_empty(), "{other:?}");
        assert!(!wrong.is_empty(), "nothing was asked before all was known");
    }

    fn stop(&mut self) -> Vec<String> {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.thread.take().map_or_else(Vec::new, |thread| thread.join().expect("every question has a reply"))
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
    }
}

fn observe(server: SocketAddr, mut watched: Vec<Watched>, shared: &Shared) -> Vec<String> {
    let mut wrong = Vec::new();
    loop {
        for Watched { question, answers } in &mut watched {
            if shared.stop.load(Ordering::SeqCst) {
                return wrong;
            }
            let reply = reply(server, question);
            match answers.iter().position(|answer| *answer == reply) {
                None => wrong.push(format!("{question}: {reply}")),
                Some(nth) => drop(answers.drain(..nth)),
            }
            std::thread::park_timeout(PAUSE);
        }
        shared.rounds.fetch_add(1, Ordering::SeqCst);
    }
}
