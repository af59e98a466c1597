//! The query log: a JSON object a line, for queries that fail, for one in so many, or for all (I9).
//!
//! Nothing waits for it. Lines wait in the queues of [`super::tap`]; a thread takes as many a second as were asked for and
//! writes them; what finds no room meanwhile is counted and left out. Where nobody reads what it writes, this thread waits,
//! and no other.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, UNIX_EPOCH};

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use serde::Serialize;

use super::tap::{Exchange, Patience, Queues, ROOM, Wants};
use crate::wire::{Rcode, name};
use crate::zone::Table;

/// The most lines a second that can be asked for.
pub const MOST_RATE: u32 = 1_000_000;
/// The longest and shortest of `--query-log-sample`.
pub const MOST_SAMPLE: u32 = 1_000_000;
/// How often the queues are looked into while queries come.
const LOOK: Duration = Duration::from_millis(5);
/// How often it is looked whether the file is still the one that is written.
const REOPEN: Duration = Duration::from_secs(1);
/// Lines that are written at once.
const STEP: usize = 256;

/// What is logged, and where.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `--query-log` and `--query-log-sample`.
    pub wants: Wants,
    /// `--query-log-rate`: lines a second.
    pub rate: u32,
    /// `--query-log-output`: a file, or standard output for `None`.
    pub output: Option<PathBuf>,
}

/// The log, and what it counts.
pub struct QueryLog {
    table: Arc<Table>,
    rate: u32,
    output: Mutex<Output>,
    written: AtomicU64,
    /// Lines that the output did not take.
    refused: AtomicU64,
    queues: OnceLock<Arc<Queues>>,
}

/// Where lines go.
enum Output {
    Stdout,
    File {
        path: PathBuf,
        /// None while it cannot be opened again.
        file: Option<File>,
        looked: Instant,
    },
}

impl QueryLog {
    /// A log of queries to a table; the message says why its file cannot be written.
    pub fn new(settings: &Settings, table: Arc<Table>) -> Result<QueryLog, String> {
        let output = match &settings.output {
            None => Output::Stdout,
            Some(path) => {
                let file = open(path).map_err(|error| {
                    format!(
                        "--query-log-output {path:?} cannot be written ({error}); name a file in a directory that this \
                         user may write to, or - for standard output"
                    )
                })?;
                Output::File { path: path.clone(), file: Some(file), looked: Instant::now() }
            }
        };
        Ok(QueryLog {
            table,
            rate: settings.rate,
            output: Mutex::new(output),
            written: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            queues: OnceLock::new(),
        })
    }

    /// Lines written so far.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Lines left out so far.
    pub fn dropped(&self) -> u64 {
        self.queues.get().map_or(0, |queues| queues.lost()) + self.refused.load(Ordering::Relaxed)
    }

    /// Where it looks for lines.
    pub(super) fn reads(&self, queues: &Arc<Queues>) {
        let _ = self.queues.set(queues.clone());
    }

    /// Writes what comes, until the queues are closed.
    pub(super) fn follow(&self, queues: &Queues) {
        let mut output = self.output.lock().unwrap_or_else(PoisonError::into_inner);
        let mut patience = Patience::new(LOOK);
        let mut allowance = Allowance::new(self.rate, Instant::now());
        let (mut lines, mut failing) = (Vec::new(), false);
        loop {
            let closed = queues.are_closed();
            let most = if closed { ROOM } else { allowance.left(Instant::now()) };
            let taken = queues.drain(most.min(STEP), |exchange| {
                // A vector takes everything, and a line is only numbers and texts.
                if serde_json::to_writer(&mut lines, &self.line(exchange)).is_ok() {
                    lines.push(b'\n');
                }
            });
            allowance.take(taken);
            if taken > 0 {
                let result = output.write(&lines);
                let counter = if result.is_ok() { &self.written } else { &self.refused };
                counter.fetch_add(taken as u64, Ordering::Relaxed);
                tell(&mut failing, result);
                lines.clear();
            } else if closed {
                return;
            }
            if taken < STEP && !closed {
                patience.wait(taken > 0);
            }
        }
    }

    fn line(&self, exchange: &Exchange) -> Line {
        let question = exchange.question();
        let zone = question.and_then(|(asked, ..)| {
            let lower = asked.to_ascii_lowercase();
            Some(self.table.zones().covering(&lower)?.0.apex().to_string())
        });
        let since = exchange.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Line {
            time: Timestamp::from_microsecond(i64::try_from(since.as_micros()).unwrap_or_default())
                .unwrap_or_default(),
            client: exchange.came.peer.ip(),
            port: exchange.came.peer.port(),
            transport: exchange.came.transport.name().to_ascii_lowercase(),
            name: question.map(|(asked, ..)| name::presentation(asked)),
            r#type: question.map(|(_, qtype, _)| type_name(qtype)),
            class: question.map(|(.., class)| class_name(class)),
            rcode: rcode_name(exchange.rcode),
            flags: flags(exchange.flags),
            zone,
            query_size: exchange.sizes[0],
            reply_size: exchange.sizes[1],
            udp_size: exchange.edns.map(|(size, _)| size),
            dnssec_ok: exchange.edns.is_some_and(|(_, dnssec_ok)| dnssec_ok),
            nanoseconds: u64::try_from(exchange.taken.as_nanos()).unwrap_or(u64::MAX),
        }
    }
}

/// A change of whether lines can be written is logged, once.
fn tell(failing: &mut bool, result: io::Result<()>) {
    let fails = result.is_err();
    if std::mem::replace(failing, fails) == fails {
        return;
    }
    match result {
        Ok(()) => tracing::info!("the query log is written again"),
        Err(error) => tracing::warn!(
            %error,
            "the query log cannot be written, and its lines are left out and counted; check --query-log-output and the disk"
        ),
    }
}

/// What is said of a query.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    time: Timestamp,
    client: std::net::IpAddr,
    port: u16,
    transport: String,
    name: Option<String>,
    r#type: Option<String>,
    class: Option<String>,
    rcode: String,
    flags: String,
    zone: Option<String>,
    query_size: u16,
    reply_size: u16,
    udp_size: Option<u16>,
    dnssec_ok: bool,
    nanoseconds: u64,
}

/// A type as people write it, RFC 3597 section 5 for one without a name.
fn type_name(qtype: u16) -> String {
    match RecordType::from(qtype) {
        RecordType::Unknown(_) | RecordType::ZERO => format!("TYPE{qtype}"),
        known => known.to_string(),
    }
}

fn class_name(class: u16) -> String {
    match class {
        1 => "IN".to_owned(),
        3 => "CH".to_owned(),
        4 => "HS".to_owned(),
        254 => "NONE".to_owned(),
        255 => "ANY".to_owned(),
        _ => format!("CLASS{class}"),
    }
}

fn rcode_name(rcode: u16) -> String {
    let known = Rcode::ALL.iter().find(|known| **known as u16 == rcode);
    known.map_or_else(|| format!("RCODE{rcode}"), |known| known.mnemonic().to_owned())
}

/// The flags of a reply as `dig` prints them.
fn flags([high, low]: [u8; 2]) -> String {
    let named = [(high, 0x80, "qr"), (high, 0x04, "aa"), (high, 0x02, "tc"), (high, 0x01, "rd")];
    let more = [(low, 0x80, "ra"), (low, 0x20, "ad"), (low, 0x10, "cd")];
    let set = named.iter().chain(&more).filter(|(octet, bit, _)| octet & bit != 0);
    set.map(|(.., name)| *name).collect::<Vec<_>>().join(" ")
}

/// Lines that may be written: so many a second, of which those of one second may come together.
struct Allowance {
    rate: f64,
    left: f64,
    counted: Instant,
}

impl Allowance {
    fn new(rate: u32, now: Instant) -> Allowance {
        Allowance { rate: rate.into(), left: rate.into(), counted: now }
    }

    fn left(&mut self, now: Instant) -> usize {
        let more = now.saturating_duration_since(self.counted).as_secs_f64() * self.rate;
        self.counted = now;
        self.left = (self.left + more).min(self.rate);
        self.left as usize
    }

    fn take(&mut self, lines: usize) {
        self.left = (self.left - lines as f64).max(0.0);
    }
}

impl Output {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Output::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(lines)?;
                out.flush()
            }
            Output::File { path, file, looked } => {
                if file.is_none() || looked.elapsed() >= REOPEN {
                    *looked = Instant::now();
                    if !file.as_ref().is_some_and(|file| is_still(path, file)) {
                        *file = None;
                        *file = Some(open(path)?);
                    }
                }
                match file {
                    Some(file) => file.write_all(lines),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Opens a file to write behind what is in it: no pipe, which may wait for a reader.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o640).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Whether a path still leads to a file: who rotates logs gives it another name.
fn is_still(path: &Path, file: &File) -> bool {
    let inode = |of: io::Result<std::fs::Metadata>| of.map(|of| (of.dev(), of.ino())).ok();
    let there = inode(path.metadata());
    there.is_some() && there == inode(file.metadata())
}

#[cfg(test)]
mod tests;
