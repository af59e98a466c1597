//! `globaldns compare` (chapter K): the same questions to an old server and to a new one, and the clause that explains
//! each difference.
//!
//! [`questions`] says what is asked, [`view`] what of a reply counts, [`legacy`] what istiocoredns makes of the same
//! entries, [`judge`] whether a difference is explained, [`report`] how it is told. Here is the asking: paced, and a
//! bounded number of names at a time, because one of the two servers is in production.

pub mod judge;
pub mod legacy;
pub mod questions;
pub mod report;
pub mod view;

use std::net::SocketAddr;
use std::time::Duration;

use futures::{Stream, StreamExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::client::{Exchange, Manner};
use judge::{Judge, Verdict};
use questions::{Question, Subject};
use view::{Reply, View};

/// How far the asking may catch up after it was held up.
const CATCH_UP: Duration = Duration::from_millis(20);

/// The two servers and how they are asked.
#[derive(Debug)]
pub struct Asker {
    /// The one that is to be replaced.
    pub old: SocketAddr,
    /// The one that is to replace it.
    pub new: SocketAddr,
    /// Transport, patience and tries.
    pub manner: Manner,
    /// The most names that are asked for at a time.
    pub in_flight: usize,
    pace: Pace,
}

/// One question, both replies and what they mean.
#[derive(Debug)]
pub struct Compared {
    /// What was asked.
    pub question: Question,
    /// What the old server said.
    pub old: Reply,
    /// What the new one said.
    pub new: Reply,
    /// What follows.
    pub verdict: Verdict,
}

impl Asker {
    /// Asks for at most `rate` questions a second.
    pub fn new(old: SocketAddr, new: SocketAddr, manner: Manner, in_flight: usize, rate: u32) -> Asker {
        let every = Duration::from_secs(1) / rate.max(1);
        Asker { old, new, manner, in_flight, pace: Pace { every, next: Mutex::new(Instant::now()) } }
    }

    /// Compares subject by subject, in the order given.
    pub fn compare<'a>(
        &'a self,
        subjects: &'a [Subject],
        judge: &'a Judge<'a>,
    ) -> impl Stream<Item = Vec<Compared>> + 'a {
        futures::stream::iter(subjects)
            .map(move |subject| self.subject(subject, judge))
            .buffered(self.in_flight)
    }

    async fn subject(&self, subject: &Subject, judge: &Judge<'_>) -> Vec<Compared> {
        let mut compared: Vec<Compared> = Vec::new();
        for question in subject.questions() {
            self.pace.wait().await;
            let (old, new) = futures::join!(self.ask(self.old, &question), self.ask(self.new, &question));
            let plain = compared
                .iter()
                .find(|other| other.question.is_plain() && other.question.rtype == question.rtype)
                .map(|other| &other.old);
            let verdict = judge.judge(&question, &old, &new, plain);
            compared.push(Compared { question, old, new, verdict });
        }
        compared
    }

    /// Asks one of the servers.
    pub async fn ask(&self, server: SocketAddr, question: &Question) -> Reply {
        let exchange = Exchange::new(server, &question.wire(), question.rtype)?;
        View::read(&exchange.run(self.manner).await?)
    }
}

/// A question every so often.
#[derive(Debug)]
struct Pace {
    every: Duration,
    next: Mutex<Instant>,
}

impl Pace {
    async fn wait(&self) {
        let mut next = self.next.lock().await;
        // Held up, it catches up a little, for timers have milliseconds; more would be a burst.
        let due = (*next + self.every).max(Instant::now().checked_sub(CATCH_UP).unwrap_or(*next));
        *next = due;
        drop(next);
        tokio::time::sleep_until(due).await;
    }
}
