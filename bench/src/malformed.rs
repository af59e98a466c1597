//! What no client should send, at full speed, with good queries between that must all be answered rightly.
//!
//! The good queries pace the bad ones. A server takes datagrams from its socket in order, so when a good query
//! is answered, all bad ones before it are done with; only a few good ones are in flight at a time, and the
//! socket's buffer is rarely full. When it is, the kernel drops, and says so in `/proc/net/udp`: a good query
//! without an answer is asked once more if there were drops since it was sent, and nothing else is sent meanwhile,
//! so a server that lives has time to empty its buffer and must answer. Without drops the server was silent.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::json;

use crate::batch::{BATCH, Batch, Wait};
use crate::load::LARGEST_REPLY;
use crate::process;
use crate::question::{Check, Questions};
use crate::random::Random;

/// The largest datagram over IPv4.
const LARGEST: usize = 65_507;
/// What one link usually carries.
const LARGE: usize = 1500;

/// What to send.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server.
    pub target: SocketAddr,
    /// How many malformed datagrams.
    pub count: u64,
    /// Malformed datagrams between two good queries.
    pub between: usize,
    /// Good queries in flight.
    pub in_flight: usize,
    /// How long a good query may take.
    pub timeout: Duration,
    /// Of everything that looks random.
    pub seed: u64,
    /// The server's processes.
    pub pids: Vec<u32>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Malformed datagrams sent.
    pub malformed: u64,
    /// Octets in them.
    pub octets: u64,
    /// Replies to them, which many deserve (FORMERR and the like).
    pub replies: u64,
    /// Good queries.
    pub good: u64,
    /// Of these, answered rightly.
    pub right: u64,
    /// Answered wrongly.
    pub wrong: u64,
    /// What was wrong with the first of them.
    pub first_wrong: Option<String>,
    /// Asked once more, since the kernel had dropped datagrams meanwhile.
    pub retried: u64,
    /// Not answered although asked twice, with drops both times: the server does not read its socket.
    pub dropped: u64,
    /// Not answered although nothing was dropped: the server was silent.
    pub silent: u64,
    /// Datagrams the kernel dropped at the server's socket.
    pub kernel_drops: u64,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Resident memory of the server before and after, KiB.
    pub resident: [u64; 2],
}

/// A good query in flight.
struct Good {
    question: usize,
    id: u16,
    sent: Instant,
    drops: u64,
    again: bool,
}

struct Sender<'a> {
    options: &'a Options,
    questions: &'a Questions,
    good: UdpSocket,
    bad: UdpSocket,
    replies: Batch,
    in_flight: Vec<Good>,
    next: usize,
    id: u16,
    report: Report,
}

/// Sends everything and waits for the last good reply.
pub fn run(questions: &Questions, options: &Options) -> Result<Report> {
    let mut sender = Sender {
        options,
        questions,
        good: socket(options.target)?,
        bad: socket(options.target)?,
        replies: Batch::connected(LARGEST_REPLY),
        in_flight: Vec::new(),
        next: 0,
        id: 0,
        report: Report::default(),
    };
    sender.report.resident[0] = process::resident(&options.pids)?;
    let (drops, begun) = (process::drops(options.target)?, Instant::now());
    sender.report.kernel_drops = drops;
    sender.run()?;
    let mut report = sender.report;
    report.seconds = begun.elapsed().as_secs_f64();
    report.kernel_drops = process::drops(options.target)? - drops;
    report.resident[1] = process::resident(&options.pids)?;
    Ok(report)
}

fn socket(target: SocketAddr) -> Result<UdpSocket> {
    let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(target).with_context(|| format!("target {target}"))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Sender<'_> {
    fn run(&mut self) -> Result<()> {
        let mut mutator = Mutator::new(self.options.seed);
        let mut batch = Batch::connected(LARGEST);
        let mut since_good = 0;
        while self.report.malformed < self.options.count {
            let left = self.options.count - self.report.malformed;
            let room = (self.options.between - since_good).min(BATCH).min(left as usize);
            batch.clear();
            for _ in 0..room {
                let model = self.questions.get(mutator.random.below(self.questions.count())).message;
                batch.push(|octets| mutator.write(model, octets));
            }
            // A connected socket reports an earlier datagram's refusal at the next call; nothing else fails.
            batch.send_all(&self.bad);
            self.report.malformed += room as u64;
            self.report.octets += (0..room).map(|number| batch.get(number).len() as u64).sum::<u64>();
            since_good += room;
            if since_good == self.options.between {
                since_good = 0;
                self.ask()?;
                self.await_room(self.options.in_flight)?;
                self.discard();
            }
        }
        self.await_room(1)
    }

    fn ask(&mut self) -> Result<()> {
        let question = self.next;
        self.next = (self.next + 1) % self.questions.count();
        self.report.good += 1;
        self.send(question, false)
    }

    fn send(&mut self, question: usize, again: bool) -> Result<()> {
        self.id = self.id.wrapping_add(1);
        let mut message = self.questions.get(question).message.to_vec();
        message[..2].copy_from_slice(&self.id.to_be_bytes());
        let drops = self.report.kernel_drops;
        self.in_flight.push(Good { question, id: self.id, sent: Instant::now(), drops, again });
        self.good.send(&message).context("sending a good query")?;
        Ok(())
    }

    /// Waits until fewer than `room` good queries are in flight, and none that is asked for the second time.
    fn await_room(&mut self, room: usize) -> Result<()> {
        loop {
            self.receive()?;
            let quiet = self.in_flight.iter().any(|good| good.again);
            if self.in_flight.len() < room && !quiet {
                return Ok(());
            }
            self.expire()?;
            std::thread::yield_now();
        }
    }

    fn receive(&mut self) -> Result<()> {
        match self.replies.receive(&self.good, Wait::Never) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            received => received.context("receiving from the server")?,
        };
        for number in 0..self.replies.len() {
            let reply = self.replies.get(number);
            let id = reply.first_chunk().map_or(0, |id| u16::from_be_bytes(*id));
            // A reply to the first of two tries may come after the second was sent.
            let Some(at) = self.in_flight.iter().position(|good| good.id == id) else { continue };
            let good = self.in_flight.swap_remove(at);
            match self.questions.get(good.question).fault(reply, Check::Whole) {
                None => self.report.right += 1,
                Some(fault) => {
                    self.report.wrong += 1;
                    self.report.first_wrong.get_or_insert_with(|| fault.to_owned());
                }
            }
        }
        Ok(())
    }

    fn expire(&mut self) -> Result<()> {
        let timeout = self.options.timeout;
        let Some(at) = self.in_flight.iter().position(|good| good.sent.elapsed() >= timeout) else {
            return Ok(());
        };
        let good = self.in_flight.swap_remove(at);
        self.report.kernel_drops = process::drops(self.options.target)?;
        match (self.report.kernel_drops > good.drops, good.again) {
            (false, _) => self.report.silent += 1,
            (true, true) => self.report.dropped += 1,
            (true, false) => {
                self.report.retried += 1;
                self.send(good.question, true)?;
            }
        }
        Ok(())
    }

    /// Counts replies to malformed datagrams.
    fn discard(&mut self) {
        while let Ok(received @ 1..) = self.replies.receive(&self.bad, Wait::Never) {
            self.report.replies += received as u64;
        }
    }
}

impl Report {
    /// Whether every good query was answered rightly, if need be at the second time of asking.
    pub fn is_good(&self) -> bool {
        self.right == self.good
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let mut line = format!(
            "{} malformed datagrams ({:.1} MB) in {:.1} s, {:.0}/s, {} replies to them; {} good queries: {} right, \
             {} wrong, {} silent, {} dropped by the kernel twice, {} once; kernel drops {}; server {} KiB before, \
             {} KiB after",
            self.malformed,
            self.octets as f64 / 1e6,
            self.seconds,
            self.malformed as f64 / self.seconds,
            self.replies,
            self.good,
            self.right,
            self.wrong,
            self.silent,
            self.dropped,
            self.retried,
            self.kernel_drops,
            self.resident[0],
            self.resident[1],
        );
        if let Some(wrong) = &self.first_wrong {
            line += &format!("\nfirst wrong reply: {wrong}");
        }
        line
    }

    /// For scripts.
    pub fn json(&self) -> serde_json::Value {
        json!({
            "malformed": self.malformed,
            "octets": self.octets,
            "replies": self.replies,
            "good": self.good,
            "right": self.right,
            "wrong": self.wrong,
            "first_wrong": self.first_wrong,
            "silent": self.silent,
            "dropped": self.dropped,
            "retried": self.retried,
            "kernel_drops": self.kernel_drops,
            "seconds": self.seconds,
            "resident_kib_before": self.resident[0],
            "resident_kib_after": self.resident[1],
        })
    }
}

/// Spoils messages, each in one of many ways.
pub struct Mutator {
    random: Random,
}

impl Mutator {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator { random: Random::new(seed) }
    }

    /// Writes a spoiled copy of a good query, or something made up; returns its length.
    pub fn write(&mut self, model: &[u8], out: &mut [u8]) -> usize {
        let length = model.len();
        out[..length].copy_from_slice(model);
        let id = self.random.number().to_be_bytes();
        out[..2].copy_from_slice(&id[..2]);
        match self.random.below(100) {
            0..30 => self.flip(&mut out[..length]),
            30..45 => self.random.below(length),
            45..55 => self.counts(&mut out[..length]),
            55..65 => self.pointers(&mut out[..length]),
            65..75 => self.labels(&mut out[..length]),
            75..80 => self.header_only(out),
            80..90 => self.garbage(out, 512),
            90..95 => self.longer(length, out, LARGE),
            95..98 => self.garbage(out, LARGE),
            98 => self.records(length, out),
            // These cost the generator most: one in 8,000.
            _ if self.random.below(80) == 0 => self.longer(length, out, LARGEST),
            _ => 0,
        }
    }

    /// A few octets changed anywhere.
    fn flip(&mut self, message: &mut [u8]) -> usize {
        for _ in 0..=self.random.below(4) {
            let at = self.random.below(message.len());
            message[at] = self.random.number() as u8;
        }
        message.len()
    }

    /// Counts that the message does not hold.
    fn counts(&mut self, message: &mut [u8]) -> usize {
        let count = [0_u16, 1, 2, 255, 0x7fff, 0xffff][self.random.below(6)].to_be_bytes();
        let at = 4 + 2 * self.random.below(4);
        message[at..at + 2].copy_from_slice(&count);
        message.len()
    }

    /// Compression in the question: at itself, forwards, backwards, in a circle, beyond the end.
    fn pointers(&mut self, message: &mut [u8]) -> usize {
        let at = 12 + self.random.below(message.len() - 13);
        let target = [at, at + 2, 12, 0, at - 1, message.len(), 0x3fff][self.random.below(7)] as u16;
        message[at..at + 2].copy_from_slice(&(0xc000 | target).to_be_bytes());
        // A second one that points back closes a circle.
        if target == at as u16 + 2 && at + 4 <= message.len() {
            message[at + 2..at + 4].copy_from_slice(&(0xc000 | at as u16).to_be_bytes());
        }
        message.len()
    }

    /// A label's length that is too long, reserved, or ends the name early.
    fn labels(&mut self, message: &mut [u8]) -> usize {
        message[12] = [0, 1, 63, 64, 0x80, 0xbf, 0xff][self.random.below(7)];
        message.len()
    }

    /// Any header and nothing else.
    fn header_only(&mut self, out: &mut [u8]) -> usize {
        self.random.fill(&mut out[2..12]);
        12
    }

    /// Random octets; mostly as a query, so that they are looked at.
    fn garbage(&mut self, out: &mut [u8], most: usize) -> usize {
        let length = self.random.below(most);
        self.random.fill(&mut out[..length]);
        if length > 2 && self.random.below(4) > 0 {
            out[2] &= 0x07;
        }
        length
    }

    /// A good query with something behind it.
    fn longer(&mut self, length: usize, out: &mut [u8], most: usize) -> usize {
        let end = (length + 1 + self.random.below(most - length)).min(most);
        self.random.fill(&mut out[length..end]);
        end
    }

    /// As many empty records as fit, and OPTs among them.
    fn records(&mut self, length: usize, out: &mut [u8]) -> usize {
        let count = self.random.below((LARGE - length) / 11);
        for record in out[length..].chunks_exact_mut(11).take(count) {
            record.fill(0);
            record[2] = [41, 1, 250][self.random.below(3)];
        }
        out[10..12].copy_from_slice(&(count as u16).to_be_bytes());
        length + count * 11
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_datagrams_and_every_length_up_to_the_largest() {
        let model = crate::question::message(
            "svc-000001.ns-01.global",
            1,
            crate::question::Style { edns: Some(1232), dnssec_ok: false },
        )
        .expect("a name");
        let (mut one, mut other) = (Mutator::new(7), Mutator::new(7));
        let (mut out, mut out_again) = (vec![0; LARGEST], vec![0; LARGEST]);
        let mut longest = 0;
        for _ in 0..200_000 {
            let length = one.write(&model, &mut out);
            assert_eq!(other.write(&model, &mut out_again), length);
            assert_eq!(out[..length], out_again[..length]);
            longest = longest.max(length);
        }
        assert!(longest > LARGE, "{longest}");
    }
}
