//! Logs: structured, to standard error; text on a terminal, JSON otherwise.
//!
//! Lines are written by a thread of their own: whoever reads them may take its time, or be gone, and nobody who logs waits
//! for that. Where 1024 lines wait, further ones are left out and counted.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use clap::ValueEnum;
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
/// Lines that standard error did not take: nobody is there any more.
static REFUSED: AtomicU64 = AtomicU64::new(0);

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

/// Starts logging. `level` is a level (`info`) or a filter (`globaldns=debug,kube=warn`).
pub fn start(level: &str, format: LogFormat) -> anyhow::Result<()> {
    // A lone word that is no level would be taken as a target's name, and silence everything else.
    let is_filter = level.contains(['=', ',']);
    anyhow::ensure!(
        is_filter || level.parse::<LevelFilter>().is_ok(),
        "--log-level {level:?} is not a level; use off, error, warn, info, debug, trace, or a filter of target=level"
    );
    // hickory-server would write two lines per reply, and kube a line per retry beside ours, without the
    // remedy. A filter that names them turns them on again.
    let filter = EnvFilter::try_new(format!("hickory_server=warn,kube_client=off,kube_runtime=off,{level}")).map_err(|error| {
        anyhow::anyhow!(
            "--log-level {level:?} is not a level or filter ({error}); use error, warn, info, debug, trace or target=level"
        )
    })?;
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
    if json {
        subscriber.json().init();
    } else {
        subscriber.with_target(false).with_ansi(io::stderr().is_terminal()).init();
    }
    Ok(())
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
