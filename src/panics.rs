//! Panics, and how far they reach (L9).
//!
//! A panic is a fault of ours, and nobody's query has to pay for it. [`contain`] is put around whatever can be lost on its
//! own: the reading of one object, the decision about one host, one message, one task. Everything in between is
//! as it was before, so what was interrupted can be left out or begun again:
//!
//! | Where | What a panic costs | Why what follows is consistent |
//! |---|---|---|
//! | `udp`, `tcp`, `grpc`, `tls`, `https`, `quic` | one message, which gets SERVFAIL | queries only read; counters are single numbers |
//! | `object` | what that ServiceEntry says | it is read before anything is changed |
//! | `host` | the change of that host's answers, until the next one | its claims are kept all the same |
//! | `cluster`, `advertise` | a watch, which begins with a complete list | a list replaces whatever was there |
//! | `files` | a look, which is repeated | what differs from the last one that was finished is loaded |
//! | `findings` | a count, until the next change | it only reads |
//! | `state` | a save or a look | files are replaced whole, and unfinished ones are swept |
//! | `stub-domains` | a round; the controller begins anew | it has to survive a kill at any time: its record is in the cluster |
//! | `events` | an Event, perhaps; the teller begins anew | what it has told is in the cluster |
//! | `admin` | a connection | pages only read |
//! | `insight` | what it was about to count or to log | it begins again with what waits |
//! | `index` | changes, until the program has been started again | see below |
//! | `other` | a task of a library, and what it did | who waits for it gets an error, and tries again |
//!
//! **The index** in the middle of a change is the exception. Entries, claims and the table are changed one after the other,
//! and no list would mend what a change has left half-done: what is already there is not looked at again. So from
//! then on it takes no change and nothing is saved of it. Answers go on, each of them from before or after that
//! change, because the table replaces nodes whole. After up to a minute (not all replicas at once) the program leaves in
//! the order of L5, and whoever restarts it gets one that is built anew from saved state or the sources. It can be
//! expected to live: what depends on objects is contained above, and what is left depends on addresses of memory and the
//! seeds of hashes, which are others then.
//!
//! What nobody contains ends the program at once, as it always did for the other commands: nothing may look alive and
//! do nothing. So does what is no panic: a stack that overflows, or memory that cannot be had.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

/// Where a panic was contained; the closed label set of `globaldns_panics_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// A message over UDP, or the worker around it.
    Udp,
    /// A message over TCP, its connection or its listener.
    Tcp,
    /// A message over gRPC, its connection or its listener.
    Grpc,
    /// The same over TLS.
    Tls,
    /// The same over HTTPS.
    Https,
    /// The same over QUIC.
    Quic,
    /// The reading of a ServiceEntry.
    Object,
    /// The decision about one host.
    Host,
    /// A change of the index: it is of no use any more.
    Index,
    /// A watch of ServiceEntries.
    Cluster,
    /// The thread that follows files, or the reading of one.
    Files,
    /// The watch of our own Service.
    Advertise,
    /// The search for findings.
    Findings,
    /// The thread of saved state.
    State,
    /// The controller of the stub domains.
    StubDomains,
    /// The teller of Events.
    Events,
    /// A connection of the admin listener.
    Admin,
    /// A thread that looks at queries (chapter I).
    Insight,
    /// A task that a library has started.
    Other,
}

impl Place {
    /// Every place, in the order of its number.
    pub const ALL: [Place; 19] = [
        Place::Udp,
        Place::Tcp,
        Place::Grpc,
        Place::Tls,
        Place::Https,
        Place::Quic,
        Place::Object,
        Place::Host,
        Place::Index,
        Place::Cluster,
        Place::Files,
        Place::Advertise,
        Place::Findings,
        Place::State,
        Place::StubDomains,
        Place::Events,
        Place::Admin,
        Place::Insight,
        Place::Other,
    ];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Place::Udp => "udp",
            Place::Tcp => "tcp",
            Place::Grpc => "grpc",
            Place::Tls => "tls",
            Place::Https => "https",
            Place::Quic => "quic",
            Place::Object => "object",
            Place::Host => "host",
            Place::Index => "index",
            Place::Cluster => "cluster",
            Place::Files => "files",
            Place::Advertise => "advertise",
            Place::Findings => "findings",
            Place::State => "state",
            Place::StubDomains => "stub-domains",
            Place::Events => "events",
            Place::Admin => "admin",
            Place::Insight => "insight",
            Place::Other => "other",
        }
    }
}

/// Of the process, as the hook is.
static COUNTS: [AtomicU64; Place::ALL.len()] = [const { AtomicU64::new(0) }; Place::ALL.len()];
static TOLD: Mutex<Option<HashSet<(Place, String)>>> = Mutex::new(None);
/// Whether tasks are contained by the runtime they run on.
static SERVING: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Whether somebody on this thread's stack contains panics.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
    /// What the hook has seen of the last one that is contained.
    static SEEN: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

/// What can be told of a panic.
#[derive(Debug)]
struct Seen {
    message: String,
    location: String,
    backtrace: Option<String>,
}

impl Seen {
    fn new(panic: &PanicHookInfo<'_>) -> Seen {
        let location = panic.location().map_or_else(|| "?".to_owned(), ToString::to_string);
        let backtrace = Backtrace::capture();
        let captured = backtrace.status() == BacktraceStatus::Captured;
        Seen {
            message: message(panic.payload()),
            location,
            backtrace: captured.then(|| backtrace.to_string()),
        }
    }
}

fn message(payload: &(dyn std::any::Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

/// From now on what is contained is not printed, and what is not goes to `uncontained`, which may end the program.
pub fn install(uncontained: impl Fn(&PanicHookInfo<'_>) + Send + Sync + 'static) {
    std::panic::set_hook(Box::new(move |panic| {
        if INSIDE.get() {
            SEEN.set(Some(Seen::new(panic)));
        } else if SERVING.load(Ordering::Relaxed) && tokio::task::try_id().is_some() {
            // Of a library's own. The runtime goes on, and who waits for the task learns of it.
            report(Place::Other, Seen::new(panic));
        } else {
            uncontained(panic);
        }
    }));
}

/// From now on a task of a runtime that panics does not end the program.
pub fn contain_tasks() {
    SERVING.store(true, Ordering::Relaxed);
}

/// Does something that may panic: then it is counted and logged, once for each line of code, and nothing is returned.
///
/// What `work` changes must be consistent, or not be used any more, wherever it is interrupted.
pub fn contain<T>(place: Place, work: impl FnOnce() -> T) -> Option<T> {
    let outer = INSIDE.replace(true);
    let done = std::panic::catch_unwind(AssertUnwindSafe(work));
    INSIDE.set(outer);
    match done {
        Ok(done) => Some(done),
        Err(payload) => {
            let seen = SEEN.take().unwrap_or_else(|| Seen {
                message: message(&*payload),
                location: "?".to_owned(),
                backtrace: None,
            });
            report(place, seen);
            None
        }
    }
}

/// The same for a task.
pub async fn contained<F: Future>(place: Place, task: F) -> Option<F::Output> {
    let mut task = Box::pin(task);
    std::future::poll_fn(move |context| match contain(place, || task.as_mut().poll(context)) {
        Some(poll) => poll.map(Some),
        None => Poll::Ready(None),
    })
    .await
}

/// Runs a task until it ends by itself; one that panics is begun again after a pause.
pub async fn restarted<F: Future>(place: Place, mut task: impl FnMut() -> F) -> F::Output {
    let mut pauses = Pauses::default();
    loop {
        // Making it may panic as well.
        if let Some(done) = contained(place, async { task().await }).await {
            return done;
        }
        tokio::time::sleep(pauses.pause()).await;
    }
}

/// Pauses before something is begun again: 0.2 s, doubling to 30 s, and from the beginning after a good minute.
pub struct Pauses {
    next: Duration,
    last: Instant,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses { next: Pauses::FIRST, last: Instant::now() }
    }
}

impl Pauses {
    const FIRST: Duration = Duration::from_millis(200);
    const LONGEST: Duration = Duration::from_secs(30);
    const FORGIVEN_AFTER: Duration = Duration::from_secs(90);

    /// How long to wait now.
    pub fn pause(&mut self) -> Duration {
        if self.last.elapsed() > Pauses::FORGIVEN_AFTER {
            self.next = Pauses::FIRST;
        }
        self.last = Instant::now();
        let pause = self.next;
        self.next = (pause * 2).min(Pauses::LONGEST);
        pause
    }
}

/// Panics contained so far, by place.
pub fn counts() -> impl Iterator<Item = (Place, u64)> {
    Place::ALL.iter().map(|place| (*place, COUNTS[*place as usize].load(Ordering::Relaxed)))
}

fn report(place: Place, seen: Seen) {
    COUNTS[place as usize].fetch_add(1, Ordering::Relaxed);
    let Seen { message, location, backtrace } = seen;
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.get_or_insert_default().insert((place, location.clone())) {
        drop(told);
        let place = place.as_str();
        tracing::error!(
            place,
            location,
            message,
            backtrace,
            "a panic was contained, and later ones of this line are only counted; please report it"
        );
    }
}

/// Panics where `text` says that it should, in a test.
#[cfg(test)]
pub(crate) fn trip(point: &str, text: &[u8]) {
    // Of a message of 64 KiB the name is all that matters.
    let text = &text[..text.len().min(400)];
    let is_word =
        |at: usize| text[at..].strip_prefix(b"panic-").is_some_and(|rest| rest.starts_with(point.as_bytes()));
    if (0..text.len()).any(|at| text[at] == b'p' && is_word(at)) {
        panic!("asked to panic at {point}");
    }
}

/// How many there were at a place.
#[cfg(test)]
pub(crate) fn count(place: Place) -> u64 {
    COUNTS[place as usize].load(Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
