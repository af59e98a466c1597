//! Logs: structured, to standard error; text on a terminal, JSON otherwise.
//!
//! Lines are written by a thread of their own: whoever reads them may take its time, or be gone, and nobody who logs waits
//! for that. Where 1024 lines wait, further ones are left out and counted.

use std::io::{self, IsTerminal, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, SystemTime};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// Lines that wait to be written: about 0.5 MiB of them.
const MOST_LINES: usize = 1024;
/// The longest wait for a reader of standard error at the end, twice.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Writes what waits when it is dropped.
static WRITER: Mutex<Option<WorkerGuard>> = Mutex::new(None);
/// Lines for which there was no room.
static LEFT_OUT: OnceLock<ErrorCounter> = OnceLock::new();
/// Changes what is logged.
static RELOAD: OnceLock<Reload> = OnceLock::new();
/// What is logged now.
static LEVEL: Mutex<Level> =
    Mutex::new(Level { level: String::new(), configured: String::new(), until: None, turn: 0 });
/// Lines that standard error did not take: nobody is there any more.
static REFUSED: AtomicU64 = AtomicU64::new(0);

type Reload = Box<dyn Fn(EnvFilter) -> anyhow::Result<()> + Send + Sync>;

/// What is logged.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// Now: a level or a filter.
    pub level: String,
    /// From the start.
    pub configured: String,
    /// Until when it is another (I10).
    pub until: Option<Timestamp>,
    /// Counts how often it was set.
    #[serde(skip)]
    turn: u64,
}

/// Standard error, whether or not it works.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if io::stderr().write_all(line).is_err() {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// A level (`info`) or a filter (`globaldns=debug,kube=warn`), which came from `whence`.
fn filter(level: &str, whence: &str) -> anyhow::Result<EnvFilter> {
    anyhow::ensure!(
        level.split(',').all(|part| !part.trim().is_empty() && !part.trim().ends_with('=')),
        "{whence} {level:?} is empty, or a part of it is; use off, error, warn, info, debug, trace, or a filter of target=level"
    );
    // A lone word that is no level would be taken as a target's name, and silence everything else.
    let is_filter = level.contains(['=', ',']);
    anyhow::ensure!(
        is_filter || level.parse::<LevelFilter>().is_ok(),
        "{whence} {level:?} is not a level; use off, error, warn, info, debug, trace, or a filter of target=level"
    );
    // hickory-server would write two lines per reply, and kube a line per retry beside ours, without the
    // remedy. A filter that names them turns them on again.
    EnvFilter::try_new(format!("hickory_server=warn,kube_client=off,kube_runtime=off,{level}")).map_err(|error| {
        anyhow::anyhow!(
            "{whence} {level:?} is not a level or filter ({error}); use error, warn, info, debug, trace or target=level"
        )
    })
}

/// Starts logging.
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    let filter = filter(level, "--log-level")?;
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(MOST_LINES)
        .thread_name("log")
        .finish(Lines);
    let _ = LEFT_OUT.set(writer.error_counter());
    *WRITER.lock().unwrap_or_else(PoisonError::into_inner) = Some(guard);
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let reload: Reload = if json {
        let subscriber = subscriber.json().with_filter_reloading();
        let handle = subscriber.reload_handle();
        subscriber.init();
        Box::new(move |filter| Ok(handle.reload(filter)?))
    } else {
        let text = subscriber.with_target(false).with_ansi(io::stderr().is_terminal());
        let subscriber = text.with_filter_reloading();
        let handle = subscriber.reload_handle();
        subscriber.init();
        Box::new(move |filter| Ok(handle.reload(filter)?))
    };
    let mut now = lock_level();
    (now.level, now.configured) = (level.to_owned(), level.to_owned());
    let _ = RELOAD.set(reload);
    Ok(())
}

/// What is logged now.
pub fn level() -> Level {
    lock_level().clone()
}

/// Logs something else for so long, as `peer` has asked; whoever asks has to [`restore_level`] with the number that is
/// returned.
pub fn set_level(level: &str, lasting: Duration, peer: SocketAddr) -> anyhow::Result<u64> {
    let filter = filter(level, "level")?;
    let mut now = lock_level();
    reload_saying(filter, || {
        tracing::warn!(%peer, level, seconds = lasting.as_secs(), "the log level is another for a while");
    })?;
    now.level = level.to_owned();
    now.until = Timestamp::try_from(SystemTime::now() + lasting).ok();
    now.turn += 1;
    Ok(now.turn)
}

/// Logs what it did from the start, unless another level was set since. False if so.
pub fn restore_level(turn: u64) -> bool {
    let mut now = lock_level();
    if now.turn != turn {
        return false;
    }
    let restored = filter(&now.configured, "--log-level").and_then(|filter| {
        reload_saying(filter, || tracing::warn!("the log level is what it was at the start"))
    });
    (now.level, now.until) = (now.configured.clone(), None);
    restored.is_ok()
}

/// A change is told before it, or, where that is not logged, after it.
fn reload_saying(filter: EnvFilter, say: impl Fn()) -> anyhow::Result<()> {
    let is_heard = tracing::enabled!(tracing::Level::WARN);
    if is_heard {
        say();
    }
    reload(filter)?;
    if !is_heard {
        say();
    }
    Ok(())
}

fn reload(filter: EnvFilter) -> anyhow::Result<()> {
    let reload = RELOAD.get().ok_or_else(|| anyhow::anyhow!("nothing is logged so far"))?;
    reload(filter)
}

fn lock_level() -> MutexGuard<'static, Level> {
    LEVEL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Log lines left out so far.
pub fn dropped_lines() -> u64 {
    let left_out = LEFT_OUT.get().map_or(0, |counter| counter.dropped_lines() as u64);
    left_out + REFUSED.load(Ordering::Relaxed)
}

/// Writes the lines that wait, if somebody reads them in time. Nothing is logged afterwards.
pub fn finish() {
    let guard = WRITER.lock().unwrap_or_else(PoisonError::into_inner).take();
    // It may print, too.
    beside(move || drop(guard));
}

/// A program's last words, which are no log line.
pub fn say(text: String) {
    finish();
    beside(move || {
        // Standard error may be closed.
        let _ = writeln!(io::stderr(), "{text}");
    });
}

/// Does something for somebody who may never read it.
fn beside(work: impl FnOnce() + Send + 'static) {
    let (done, wait) = mpsc::channel();
    let work = move || {
        work();
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(work).is_ok() {
        let _ = wait.recv_timeout(LAST_WORDS);
    }
}
