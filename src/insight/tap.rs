//! Where the threads that answer meet what looks at queries.
//!
//! A thread has a [`Tap`] of its own, and shows it every message and its reply. Of most the tap does no more than count;
//! of the others it puts a copy into a queue that only this thread fills. It takes no lock, allocates nothing, wakes
//! nobody and never waits: what finds no room is counted as lost. Whoever empties the queues looks for himself.
//!
//! Threads that answer over connections have one for all ([`SharedTap`]): they count in turn, and copy at the same time.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_queue::ArrayQueue;

use crate::lifecycle::random;
use crate::wire::name::MAX_WIRE;
use crate::wire::query::{self, Unanswerable};
use crate::wire::{Rcode, Transport, reply};

/// Copies that wait in one queue, of 360 octets each.
pub const ROOM: usize = 1024;
/// So many queries of a second are copied for the top lists, each counting once.
pub const EXACT: u32 = 64;
/// Of the others of that second one in so many is copied, and counts as so many.
pub const SAMPLED: u32 = 64;
/// Octets of a question: name, type and class.
const MOST_QUESTION: usize = MAX_WIRE + 4;

/// Which queries are logged (I9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// Those with another response code than NOERROR.
    Failures,
    /// One in so many.
    OneIn(u32),
    /// All.
    All,
}

/// What taps are made of.
#[derive(Clone, Default)]
pub struct Taps {
    samples: Option<Arc<Queues>>,
    lines: Option<(Arc<Queues>, Wants)>,
}

impl Taps {
    /// Taps for whoever reads these queues: of the top lists, and of the query log.
    pub fn new(samples: Option<Arc<Queues>>, lines: Option<(Arc<Queues>, Wants)>) -> Taps {
        Taps { samples, lines }
    }

    /// A tap for one more thread; `None` if nobody looks at queries.
    pub fn tap(&self) -> Option<Tap> {
        let samples =
            self.samples.as_ref().map(|_| Samples { second: 0, exact: 0, gaps: Gaps::new(SAMPLED) });
        let lines = self.lines.as_ref().map(|(_, wants)| Lines {
            wants: *wants,
            gaps: Gaps::new(if let Wants::OneIn(n) = wants { *n } else { 1 }),
        });
        let copies = Copies {
            samples: self.samples.as_ref().map(|queues| queues.join()),
            lines: self.lines.as_ref().map(|(queues, wants)| (queues.join(), *wants)),
        };
        (samples.is_some() || lines.is_some()).then_some(Tap { samples, lines, copies })
    }

    /// One for several threads.
    pub fn shared(&self) -> Option<SharedTap> {
        self.tap().map(|tap| SharedTap { copies: tap.copies.clone(), tap: Mutex::new(tap) })
    }
}

/// See the module.
pub struct Tap {
    samples: Option<Samples>,
    lines: Option<Lines>,
    copies: Copies,
}

/// See the module.
pub struct SharedTap {
    tap: Mutex<Tap>,
    copies: Copies,
}

/// Where copies go.
#[derive(Clone)]
struct Copies {
    samples: Option<Arc<Queue>>,
    lines: Option<(Arc<Queue>, Wants)>,
}

/// What is to be copied.
#[derive(Clone, Copy)]
struct Choice {
    /// For the top lists, and for how many queries it stands there.
    weight: Option<u32>,
    /// For the query log.
    logs: bool,
}

/// How a message came.
#[derive(Clone, Copy, Debug)]
pub struct Came {
    /// Over what.
    pub transport: Transport,
    /// From whom.
    pub peer: SocketAddr,
    /// In which Unix second.
    pub at: u32,
    /// When it was read.
    pub read: Instant,
}

struct Samples {
    second: u32,
    /// How many more of this second are copied without choice.
    exact: u32,
    gaps: Gaps,
}

struct Lines {
    wants: Wants,
    gaps: Gaps,
}

/// Chooses one in `mean`, by gaps of 1 to `2 * mean - 1`: with gaps of one length, whatever comes with that period would
/// be seen always or never.
struct Gaps {
    mean: u32,
    left: u32,
    state: u64,
}

impl Gaps {
    fn new(mean: u32) -> Gaps {
        let mut gaps = Gaps { mean, left: 0, state: u64::from_ne_bytes(random()) | 1 };
        gaps.left = gaps.draw();
        gaps
    }

    #[inline]
    fn is_due(&mut self) -> bool {
        self.left -= 1;
        if self.left > 0 {
            return false;
        }
        self.left = self.draw();
        true
    }

    /// Xorshift64*, G. Marsaglia, "Xorshift RNGs", 2003; S. Vigna, 2016.
    fn draw(&mut self) -> u32 {
        let mut x = self.state;
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.state = x;
        let high = x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32;
        let gaps = u64::from(self.mean) * 2 - 1;
        // Below 2^32, as `mean` is below 2^31.
        1 + ((high * gaps) >> 32) as u32
    }
}

impl Samples {
    /// For how many queries this one stands; `None` if it is not copied.
    #[inline]
    fn weight(&mut self, at: u32) -> Option<u32> {
        if at != self.second {
            (self.second, self.exact) = (at, EXACT);
        }
        if self.exact > 0 {
            self.exact -= 1;
            return Some(1);
        }
        self.gaps.is_due().then_some(SAMPLED)
    }
}

impl Lines {
    #[inline]
    fn wants(&mut self, reply: &[u8]) -> bool {
        match self.wants {
            Wants::Failures => may_fail(reply),
            Wants::OneIn(_) => self.gaps.is_due(),
            Wants::All => true,
        }
    }
}

/// Whether the code may be another than NOERROR. Of BADVERS it shows in the OPT only; but AA is not set then (D1).
#[inline]
fn may_fail(reply: &[u8]) -> bool {
    matches!(reply, [_, _, flags, code, ..] if code & 0x0f != 0 || flags & 0x04 == 0)
}

impl Tap {
    /// A message has been answered.
    #[inline]
    pub fn see(&mut self, message: &[u8], reply: &[u8], came: Came) {
        if let Some(choice) = self.choose(reply, came.at) {
            self.copies.put(message, reply, came, choice);
        }
    }

    #[inline]
    fn choose(&mut self, reply: &[u8], at: u32) -> Option<Choice> {
        let weight = self.samples.as_mut().and_then(|samples| samples.weight(at));
        let logs = self.lines.as_mut().is_some_and(|lines| lines.wants(reply));
        (weight.is_some() || logs).then_some(Choice { weight, logs })
    }
}

impl SharedTap {
    /// A message has been answered.
    pub fn see(&self, message: &[u8], reply: &[u8], came: Came) {
        let choice = self.tap.lock().unwrap_or_else(PoisonError::into_inner).choose(reply, came.at);
        // Reading the message takes longer than all of that, and needs no turn.
        if let Some(choice) = choice {
            self.copies.put(message, reply, came, choice);
        }
    }
}

impl Copies {
    #[cold]
    fn put(&self, message: &[u8], reply: &[u8], came: Came, Choice { weight, logs }: Choice) {
        if let (Some(samples), Some(weight)) = (&self.samples, weight) {
            samples.push(|| Some(Exchange::new(message, reply, came, weight, UNIX_EPOCH)));
        }
        if let (Some((lines, wants)), true) = (&self.lines, logs) {
            let only_failures = *wants == Wants::Failures;
            lines.push(|| {
                let exchange = Exchange::new(message, reply, came, 1, SystemTime::now());
                let fails = exchange.rcode != Rcode::NoError as u16;
                (fails || !only_failures).then_some(exchange)
            });
        }
    }
}

/// A query and what was said to it, without anything that is secret.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// When it was answered.
    pub time: SystemTime,
    /// From its reading until its reply was there, not sent.
    pub taken: Duration,
    /// How it came.
    pub came: Came,
    /// For how many queries it stands.
    pub weight: u32,
    /// Response code, with the upper bits of EDNS.
    pub rcode: u16,
    /// The flags of the reply (octets 2 and 3 of its header).
    pub flags: [u8; 2],
    /// Octets of the message and of the reply.
    pub sizes: [u16; 2],
    /// The UDP payload size and DO of its EDNS, if it has it.
    pub edns: Option<(u16, bool)>,
    question: [u8; MOST_QUESTION],
    /// 0 for a message whose question could not be read.
    question_len: u16,
}

impl Exchange {
    fn new(message: &[u8], reply: &[u8], came: Came, weight: u32, time: SystemTime) -> Exchange {
        let (question, edns) = match query::parse(message) {
            Ok(query) => (query.question, query.edns),
            Err(Unanswerable::Refuse(refusal)) => (refusal.question, refusal.edns),
            Err(Unanswerable::Cookie(_, edns)) => (&[][..], Some(edns)),
            Err(Unanswerable::Silence) => (&[][..], None),
        };
        let question = question.get(..MOST_QUESTION).unwrap_or(question);
        let mut exchange = Exchange {
            time,
            taken: came.read.elapsed(),
            came,
            weight,
            rcode: reply::rcode(reply),
            flags: reply.get(2..4).map_or([0; 2], |flags| [flags[0], flags[1]]),
            sizes: [message.len(), reply.len()].map(|size| u16::try_from(size).unwrap_or(u16::MAX)),
            edns: edns.map(|edns| (edns.udp_payload, edns.dnssec_ok)),
            question: [0; MOST_QUESTION],
            question_len: question.len() as u16,
        };
        exchange.question[..question.len()].copy_from_slice(question);
        exchange
    }

    /// The name as it was asked for, in wire form, the type and the class; `None` if the question could not be read.
    pub fn question(&self) -> Option<(&[u8], u16, u16)> {
        let question = &self.question[..usize::from(self.question_len)];
        let (name, &[t, y, c, l]) = question.split_last_chunk::<4>()?;
        Some((name, u16::from_be_bytes([t, y]), u16::from_be_bytes([c, l])))
    }
}

/// What was copied through one tap.
struct Queue {
    exchanges: ArrayQueue<Exchange>,
    lost: AtomicU64,
}

impl Queue {
    /// Puts something in if there is room; it is not made where there is none.
    fn push(&self, exchange: impl FnOnce() -> Option<Exchange>) {
        let lost = self.exchanges.is_full()
            || exchange().is_some_and(|exchange| self.exchanges.push(exchange).is_err());
        if lost {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The queues of all threads, to one reader.
#[derive(Default)]
pub struct Queues {
    queues: Mutex<Vec<Arc<Queue>>>,
    closed: AtomicBool,
}

impl Queues {
    fn join(&self) -> Arc<Queue> {
        let queue = Arc::new(Queue { exchanges: ArrayQueue::new(ROOM), lost: AtomicU64::new(0) });
        self.all().push(queue.clone());
        queue
    }

    fn all(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Queue>>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives out at most `most` copies, of every thread in turn; returns how many there were.
    pub(super) fn drain(&self, most: usize, mut take: impl FnMut(&Exchange)) -> usize {
        let queues = self.all().clone();
        let mut taken = 0;
        loop {
            let before = taken;
            for queue in &queues {
                if taken < most
                    && let Some(exchange) = queue.exchanges.pop()
                {
                    take(&exchange);
                    taken += 1;
                }
            }
            if taken == before {
                return taken;
            }
        }
    }

    /// Copies for which there was no room.
    pub(super) fn lost(&self) -> u64 {
        self.all().iter().map(|queue| queue.lost.load(Ordering::Relaxed)).sum()
    }

    /// Nothing more is to be waited for.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    pub(super) fn are_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// How long to wait before looking into the queues again: short while something comes.
pub(super) struct Patience {
    shortest: Duration,
    next: Duration,
}

impl Patience {
    /// A program in which nothing happens wakes five times a second.
    const LONGEST: Duration = Duration::from_millis(200);

    pub(super) fn new(shortest: Duration) -> Patience {
        Patience { shortest, next: shortest }
    }

    /// Waits, or until somebody closes the queues.
    pub(super) fn wait(&mut self, something_came: bool) {
        self.next = if something_came { self.shortest } else { (self.next * 2).min(Patience::LONGEST) };
        std::thread::park_timeout(self.next);
    }
}

#[cfg(test)]
pub(super) mod tests;
