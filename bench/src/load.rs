//! Queries at full speed or at a rate, every reply checked.
//!
//! *Closed loop*: each socket keeps a fixed number of queries in flight, so the server decides the speed.
//! *Open loop*: queries fall due at a fixed rate, whatever the server does, and latency counts from the moment a
//! query fell due. A server that stalls is charged for every query of the stall, not only for those it held
//! (no coordinated omission).

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use crate::batch::{BATCH, Batch, Wait};
use crate::process::{self, Cpu};
use crate::question::{Check, Questions};

/// No reply over UDP that we ask for is longer.
pub const LARGEST_REPLY: usize = 4096;
/// Ids have 16 bits: the place in the window, and at least 4 bits of how often it was used.
pub const MOST_IN_FLIGHT: usize = 4096;
/// How often queries that nobody answered are looked for.
const EXPIRY: Duration = Duration::from_millis(20);

/// What to send, where to, and for how long.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's addresses, which the sockets take in turn.
    pub targets: Vec<SocketAddr>,
    /// Sockets, each with a port of its own.
    pub sockets: usize,
    /// Queries in flight per socket: exactly in a closed loop, at most in an open one.
    pub in_flight: usize,
    /// How long to send before anything is measured.
    pub warm_up: Duration,
    /// How long to measure.
    pub duration: Duration,
    /// Queries per second of an open loop; `None` for a closed loop.
    pub rate: Option<f64>,
    /// A query without a reply for so long is lost.
    pub timeout: Duration,
    /// Send every query once, then end.
    pub once: bool,
    /// How strictly to look at replies.
    pub check: Check,
    /// The server's processes, to measure their processor time and memory.
    pub pids: Vec<u32>,
}

/// What came of it. Faults are counted from the first query to the last, everything else while measuring.
pub struct Report {
    /// Right replies that arrived while measuring.
    pub answered: u64,
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Nanoseconds from when a query fell due, of those that fell due while measuring.
    pub latency: Histogram<u64>,
    /// All queries sent, from first to last.
    pub sent: u64,
    /// What went wrong.
    pub faults: Faults,
    /// Datagrams dropped at the server's sockets because they were full.
    pub kernel_drops: u64,
    /// Processor time of the server while measuring.
    pub cpu: Cpu,
    /// Resident memory of the server at the end, KiB.
    pub resident: u64,
    /// The longest the generator was kept from its work while measuring, in nanoseconds: latencies beyond it are
    /// the server's, those below may be the machine's.
    pub longest_pause: u64,
}

/// Replies that should not have come, and those that should have.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Replies that say the wrong thing.
    pub wrong: u64,
    /// What was wrong with the first of them.
    pub first_wrong: Option<String>,
    /// Replies to nothing that was asked.
    pub unexpected: u64,
    /// Further replies to a query already answered.
    pub duplicate: u64,
    /// Replies to queries already counted as lost.
    pub late: u64,
    /// Queries without a reply in time.
    pub lost: u64,
    /// Times the kernel said that nobody listens there.
    pub refused: u64,
    /// Queries that fell due and were never sent: no place was free in any window.
    pub unsent: u64,
}

impl Faults {
    /// Whether every query got its one right reply.
    pub fn is_empty(&self) -> bool {
        self.wrong + self.unexpected + self.duplicate + self.late + self.lost + self.refused + self.unsent
            == 0
    }
}

/// Sends and checks until the time is over.
pub fn run(questions: &Questions, options: &Options) -> Result<Report> {
    if options.targets.is_empty() || options.sockets == 0 {
        bail!("there must be at least one target and one socket");
    }
    if !(1..=MOST_IN_FLIGHT).contains(&options.in_flight) {
        bail!("queries in flight per socket are 1 to {MOST_IN_FLIGHT}");
    }
    let ports = (0..options.sockets)
        .map(|number| Port::open(options.targets[number % options.targets.len()], options.in_flight))
        .collect::<Result<Vec<Port>>>()?;
    let drops = kernel_drops(options)?;
    let mut generator = Generator::new(questions, options, ports)?;
    generator.run()?;
    let mut report = generator.report;
    report.kernel_drops = kernel_drops(options)? - drops;
    Ok(report)
}

fn kernel_drops(options: &Options) -> Result<u64> {
    let mut targets = options.targets.clone();
    targets.sort_by_key(SocketAddr::port);
    targets.dedup_by_key(|target| target.port());
    targets.iter().map(|target| process::drops(*target)).sum()
}

/// A socket and its window.
struct Port {
    socket: UdpSocket,
    slots: Vec<Slot>,
    /// Those that may be used, most recently used last.
    free: Vec<u16>,
    /// Bits of an id that name the slot.
    bits: u32,
}

/// A place for one query in flight.
#[derive(Clone, Copy)]
struct Slot {
    state: State,
    id: u16,
    /// Which query.
    question: usize,
    /// When it fell due and when it was sent, nanoseconds from the start.
    due: u64,
    sent: u64,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Unused,
    Waiting,
    Answered,
    Lost,
}

impl Port {
    fn open(target: SocketAddr, in_flight: usize) -> Result<Port> {
        let any: SocketAddr = if target.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0; 16], 0).into() };
        let socket = UdpSocket::bind(any)?;
        socket.connect(target).with_context(|| format!("target {target}"))?;
        socket.set_nonblocking(true)?;
        // A window of replies has to fit. More than the system's limit is cut without an error, and what then
        // overflows is seen as lost.
        socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20)?;
        let bits = usize::BITS - (in_flight - 1).leading_zeros();
        let slot = |number| Slot { state: State::Unused, id: number as u16, question: 0, due: 0, sent: 0 };
        Ok(Port {
            socket,
            slots: (0..in_flight).map(slot).collect(),
            free: (0..in_flight as u16).rev().collect(),
            bits,
        })
    }
}

struct Generator<'a> {
    questions: &'a Questions,
    options: &'a Options,
    ports: Vec<Port>,
    /// Which port takes the next query that falls due.
    turn: usize,
    /// Which query comes next, and how many are still to be sent.
    next: usize,
    remaining: u64,
    received: Batch,
    sending: Batch,
    begun: Instant,
    /// Nanoseconds from the start: measuring begins and ends.
    from: u64,
    until: u64,
    report: Report,
}

impl<'a> Generator<'a> {
    fn new(questions: &'a Questions, options: &'a Options, ports: Vec<Port>) -> Result<Generator<'a>> {
        let (from, until) = if options.once {
            (0, u64::MAX)
        } else {
            let end = options.warm_up + options.duration;
            (options.warm_up.as_nanos() as u64, end.as_nanos() as u64)
        };
        Ok(Generator {
            questions,
            options,
            ports,
            turn: 0,
            next: 0,
            remaining: if options.once { questions.count() as u64 } else { u64::MAX },
            received: Batch::connected(LARGEST_REPLY),
            sending: Batch::connected(512),
            begun: Instant::now(),
            from,
            until,
            report: Report {
                answered: 0,
                seconds: 0.0,
                // Three digits, up to a minute.
                latency: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
                sent: 0,
                faults: Faults::default(),
                kernel_drops: 0,
                cpu: Cpu::default(),
                resident: 0,
                longest_pause: 0,
            },
        })
    }

    fn run(&mut self) -> Result<()> {
        self.begun = Instant::now();
        let mut measuring = None;
        let mut expiry = EXPIRY.as_nanos() as u64;
        let mut before = 0;
        loop {
            let now = self.now();
            if now >= self.from {
                self.report.longest_pause = self.report.longest_pause.max(now - before.max(self.from));
            }
            before = now;
            if measuring.is_none() && now >= self.from {
                measuring = Some(Cpu::of(&self.options.pids)?);
            }
            if self.is_over(now) {
                break;
            }
            match self.options.rate {
                Some(rate) => self.send_due(rate, now.min(self.until))?,
                None => self.fill()?,
            }
            self.receive_all()?;
            if now >= expiry {
                self.expire(now);
                expiry = now + EXPIRY.as_nanos() as u64;
            }
        }
        self.report.seconds = (self.now().min(self.until) - self.from) as f64 / 1e9;
        self.report.cpu = Cpu::of(&self.options.pids)?.since(measuring.unwrap_or_default());
        self.report.resident = process::resident(&self.options.pids)?;
        if let Some(rate) = self.options.rate {
            self.report.faults.unsent = self.all_due(rate).saturating_sub(self.report.sent);
        }
        self.drain()
    }

    /// An open loop may be behind when its time is over; what has fallen due is sent all the same, if the server
    /// makes room for it.
    fn is_over(&self, now: u64) -> bool {
        let all_sent = self.options.rate.is_none_or(|rate| self.report.sent >= self.all_due(rate));
        let patience = self.options.timeout.as_nanos() as u64;
        (now >= self.until && all_sent)
            || now.saturating_sub(self.until) >= patience
            || (self.remaining == 0 && self.waiting() == 0)
    }

    /// How many queries fall due until the end of an open loop.
    fn all_due(&self, rate: f64) -> u64 {
        (rate * self.until as f64 / 1e9) as u64
    }

    fn now(&self) -> u64 {
        self.begun.elapsed().as_nanos() as u64
    }

    fn waiting(&self) -> usize {
        self.ports.iter().map(|port| port.slots.len() - port.free.len()).sum()
    }

    /// Closed loop: every window is full.
    fn fill(&mut self) -> Result<()> {
        for port in 0..self.ports.len() {
            loop {
                let wanted = self.ports[port].free.len().min(BATCH);
                if self.send(port, wanted, |_, now| now)? < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Open loop: sends what has fallen due, to one port after the other.
    fn send_due(&mut self, rate: f64, now: u64) -> Result<()> {
        let mut due = ((rate * now as f64 / 1e9) as u64).saturating_sub(self.report.sent);
        for _ in 0..self.ports.len() {
            if due == 0 {
                break;
            }
            let first = self.report.sent;
            let fell_due = |number: usize, _| ((first + number as u64) as f64 * 1e9 / rate) as u64;
            due -= self.send(self.turn, BATCH.min(due as usize), fell_due)? as u64;
            self.turn = (self.turn + 1) % self.ports.len();
        }
        Ok(())
    }

    /// Sends up to `wanted` queries as far as there is room; `due` tells when each fell due, from its number
    /// among them and the present time.
    fn send(&mut self, port: usize, wanted: usize, due: impl Fn(usize, u64) -> u64) -> Result<usize> {
        let port = &mut self.ports[port];
        let count = wanted.min(port.free.len()).min(self.remaining.min(BATCH as u64) as usize);
        if count == 0 {
            return Ok(0);
        }
        self.sending.clear();
        for (number, slot) in port.free.iter().rev().take(count).enumerate() {
            let message = self.questions.get((self.next + number) % self.questions.count()).message;
            let slot = &port.slots[usize::from(*slot)];
            let id = slot.id.wrapping_add(if slot.state == State::Unused { 0 } else { 1 << port.bits });
            self.sending.push(|room| {
                room[..message.len()].copy_from_slice(message);
                room[..2].copy_from_slice(&id.to_be_bytes());
                message.len()
            });
        }
        let now = self.begun.elapsed().as_nanos() as u64;
        let sent = match self.sending.send(&port.socket) {
            Ok(sent) => sent,
            Err(error) => tolerate(error, &mut self.report.faults)?,
        };
        for number in 0..sent {
            let Some(free) = port.free.pop() else { break };
            let slot = &mut port.slots[usize::from(free)];
            let octets = self.sending.get(number);
            slot.id = u16::from_be_bytes([octets[0], octets[1]]);
            slot.state = State::Waiting;
            slot.question = (self.next + number) % self.questions.count();
            slot.due = due(number, now);
            slot.sent = now;
        }
        self.next = (self.next + sent) % self.questions.count();
        self.remaining = self.remaining.saturating_sub(sent as u64);
        self.report.sent += sent as u64;
        Ok(sent)
    }

    fn receive_all(&mut self) -> Result<()> {
        // An open loop must not oversleep the next query; a closed one has nothing to do before a reply.
        let wait = if self.options.rate.is_some() { PollTimeout::ZERO } else { PollTimeout::from(1_u8) };
        let mut polled: Vec<PollFd<'_>> =
            self.ports.iter().map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut polled, wait) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        let readable: Vec<bool> = polled.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        drop(polled);
        for (port, _) in readable.iter().enumerate().filter(|(_, readable)| **readable) {
            self.receive(port)?;
        }
        Ok(())
    }

    fn receive(&mut self, port: usize) -> Result<()> {
        match self.received.receive(&self.ports[port].socket, Wait::Never) {
            Ok(_) => {}
            Err(error) => {
                tolerate(error, &mut self.report.faults)?;
            }
        }
        let now = self.now();
        for number in 0..self.received.len() {
            self.settle(port, number, now);
        }
        Ok(())
    }

    /// Finds the query of a reply and looks at what it says.
    fn settle(&mut self, port: usize, number: usize, now: u64) {
        let reply = self.received.get(number);
        let port = &mut self.ports[port];
        let faults = &mut self.report.faults;
        let id = match *reply {
            [high, low, ..] => u16::from_be_bytes([high, low]),
            _ => return faults.unexpected += 1,
        };
        let place = id & ((1_u32 << port.bits) - 1) as u16;
        let slot = match port.slots.get_mut(usize::from(place)) {
            Some(slot) if slot.id == id => slot,
            _ => return faults.unexpected += 1,
        };
        match slot.state {
            State::Unused => return faults.unexpected += 1,
            State::Answered => return faults.duplicate += 1,
            State::Lost => return faults.late += 1,
            State::Waiting => {}
        }
        slot.state = State::Answered;
        port.free.push(place);
        if let Some(fault) = self.questions.get(slot.question).fault(reply, self.options.check) {
            faults.wrong += 1;
            faults.first_wrong.get_or_insert_with(|| {
                let question = self.questions.get(slot.question);
                let hex: String = reply.iter().map(|octet| format!("{octet:02x}")).collect();
                format!("{fault}; expected {:?}, got {hex}", question.expected)
            });
            return;
        }
        if (self.from..self.until).contains(&now) {
            self.report.answered += 1;
        }
        if (self.from..self.until).contains(&slot.due) {
            self.report.latency.saturating_record(now.saturating_sub(slot.due));
        }
    }

    fn expire(&mut self, now: u64) {
        let timeout = self.options.timeout.as_nanos() as u64;
        for port in &mut self.ports {
            for (place, slot) in port.slots.iter_mut().enumerate() {
                if slot.state == State::Waiting && now.saturating_sub(slot.sent) >= timeout {
                    slot.state = State::Lost;
                    port.free.push(place as u16);
                    self.report.faults.lost += 1;
                }
            }
        }
    }

    /// Waits for the replies under way.
    fn drain(&mut self) -> Result<()> {
        while self.waiting() > 0 {
            self.receive_all()?;
            self.expire(self.now());
        }
        Ok(())
    }
}

/// Errors that are no end: nothing there, no room, nobody listens.
fn tolerate(error: io::Error, faults: &mut Faults) -> Result<usize> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
        ErrorKind::ConnectionRefused => {
            faults.refused += 1;
            Ok(0)
        }
        _ => Err(error.into()),
    }
}

impl Report {
    /// Right replies per second.
    pub fn rate(&self) -> f64 {
        self.answered as f64 / self.seconds
    }

    fn per_query(&self, seconds: f64) -> f64 {
        seconds * 1e6 / (self.answered.max(1)) as f64
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let micros = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let Faults { wrong, unexpected, duplicate, late, lost, refused, unsent, first_wrong } = &self.faults;
        let mut line = format!(
            "{:.0} q/s over {:.1} s; latency p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs; \
             server {:.2} µs user + {:.2} µs system per query, {} KiB; sent {}, wrong {wrong}, unexpected \
             {unexpected}, duplicate {duplicate}, late {late}, lost {lost} (kernel drops {}), refused {refused}, \
             unsent {unsent}; the generator paused for up to {:.0} µs",
            self.rate(),
            self.seconds,
            micros(0.5),
            micros(0.99),
            micros(0.999),
            self.latency.max() as f64 / 1e3,
            self.per_query(self.cpu.user),
            self.per_query(self.cpu.system),
            self.resident,
            self.sent,
            self.kernel_drops,
            self.longest_pause as f64 / 1e3,
        );
        if let Some(wrong) = first_wrong {
            line += &format!("\nfirst wrong reply: {wrong}");
        }
        line
    }

    /// For scripts. Times in microseconds.
    pub fn json(&self) -> serde_json::Value {
        let micros = |quantile| self.latency.value_at_quantile(quantile) as f64 / 1e3;
        let faults = &self.faults;
        json!({
            "queries_per_second": self.rate(),
            "answered": self.answered,
            "seconds": self.seconds,
            "sent": self.sent,
            "p50": micros(0.5),
            "p99": micros(0.99),
            "p999": micros(0.999),
            "max": self.latency.max() as f64 / 1e3,
            "user_per_query": self.per_query(self.cpu.user),
            "system_per_query": self.per_query(self.cpu.system),
            "cpu_seconds": self.cpu.user + self.cpu.system,
            "resident_kib": self.resident,
            "wrong": faults.wrong,
            "first_wrong": faults.first_wrong,
            "unexpected": faults.unexpected,
            "duplicate": faults.duplicate,
            "late": faults.late,
            "lost": faults.lost,
            "refused": faults.refused,
            "unsent": faults.unsent,
            "kernel_drops": self.kernel_drops,
            "longest_pause": self.longest_pause as f64 / 1e3,
        })
    }
}
