//! Where entries come from: [`files`] and the [`cluster`]. Both feed the index through a [`Feed`] and
//! tell their state through a [`Status`]; neither knows of the other or of DNS.

pub mod advertise;
pub mod cluster;
pub mod files;
pub mod ranges;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::entry::provenance::{Provenance, Written};
use crate::entry::{Entry, EntryId, Origin, Rules};
use crate::finding::Finding;
use crate::index::{Applied, Index, Packed, Partition};
use crate::insight::programming::{Durations, Programming};
use crate::lifecycle::Awaited;
use crate::panics::{self, Place};

/// The API group of ServiceEntry.
const GROUP: &str = "networking.istio.io";

/// How long a source that fails may take to deliver before saved state stands in for it (L6).
pub const PATIENCE: Duration = Duration::from_secs(2);
/// The same for a source that only takes its time, or that was refused.
pub const MOST_PATIENCE: Duration = Duration::from_secs(15);

/// How long a watch has to last before it counts as working, and how often one begins at most.
const LASTING: Duration = Duration::from_secs(1);

/// What went wrong with a source; the closed label set of `globaldns_source_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// The API server says 401.
    Unauthorized,
    /// The API server says 403: a right is missing.
    Forbidden,
    /// The API server says 404.
    NotFound,
    /// The API server says 410: the watch is too old, a new list follows.
    Gone,
    /// Any other error status.
    Server,
    /// No connection, a broken one, or no answer in time.
    Connection,
    /// A reply that cannot be read.
    Decode,
    /// A file that cannot be read or parsed.
    Reload,
}

impl Trouble {
    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Unauthorized => "unauthorized",
            Trouble::Forbidden => "forbidden",
            Trouble::NotFound => "not-found",
            Trouble::Gone => "gone",
            Trouble::Server => "server",
            Trouble::Connection => "connection",
            Trouble::Decode => "decode",
            Trouble::Reload => "reload",
        }
    }

    /// Whether it was heard all the same: it said no, or that a list has to begin again.
    fn is_an_answer(self) -> bool {
        matches!(self, Trouble::Unauthorized | Trouble::Forbidden | Trouble::Gone)
    }
}

/// What a source says of itself; read by metrics and logs.
pub struct Status {
    name: String,
    partition: Partition,
    started: Instant,
    /// When it was first asked.
    begun: OnceLock<Instant>,
    complete: AtomicBool,
    /// Milliseconds after `started` of the last confirmed contact.
    contact: AtomicU64,
    /// Changes that are about to be made in the index.
    changing: AtomicU64,
    applied: AtomicU64,
    deleted: AtomicU64,
    relists: AtomicU64,
    programming: Programming,
    /// While saved state is served: when the source had last been heard.
    saved: Mutex<Option<SystemTime>>,
    troubles: Mutex<Troubles>,
}

#[derive(Default)]
struct Troubles {
    /// What is wrong since the source last worked.
    now: Option<Trouble>,
    /// How the last attempt failed, unless one has begun since that got further.
    last: Option<(Trouble, String)>,
    /// When the watch began that has neither lasted nor failed yet.
    young: Option<Instant>,
    /// Whether the one before it has ended as young: once is no fault.
    ended_young: bool,
    counts: BTreeMap<Trouble, u64>,
    /// The latest failure, for good.
    latest: Option<Failure>,
}

/// How a source failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What kind of trouble.
    pub trouble: Trouble,
    /// In words.
    pub what: String,
    /// When.
    pub at: SystemTime,
}

impl Status {
    /// A source that has not been heard yet. `name` labels its metrics.
    pub fn new(name: impl Into<String>, partition: Partition) -> Status {
        Status {
            name: name.into(),
            partition,
            started: Instant::now(),
            begun: OnceLock::new(),
            complete: AtomicBool::new(false),
            contact: AtomicU64::new(0),
            changing: AtomicU64::new(0),
            applied: AtomicU64::new(0),
            deleted: AtomicU64::new(0),
            relists: AtomicU64::new(0),
            programming: Programming::default(),
            saved: Mutex::default(),
            troubles: Mutex::default(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its part of the index.
    pub fn partition(&self) -> Partition {
        self.partition
    }

    /// Whether a complete list was delivered.
    pub fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Whether the last attempt succeeded.
    pub fn is_up(&self) -> bool {
        self.is_complete() && self.works()
    }

    /// Whether nothing is wrong.
    pub fn works(&self) -> bool {
        self.lock().now.is_none()
    }

    /// Time since the source last answered, or since the start if it never did.
    pub fn contact_age(&self) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(self.contact.load(Ordering::Relaxed)))
    }

    /// Events by kind.
    pub fn events(&self) -> [(&'static str, u64); 2] {
        [("apply", self.applied.load(Ordering::Relaxed)), ("delete", self.deleted.load(Ordering::Relaxed))]
    }

    /// Complete lists so far.
    pub fn relists(&self) -> u64 {
        self.relists.load(Ordering::Relaxed)
    }

    /// How long the changes took that it has told one by one (I8); `None` of files, which do not tell when they were
    /// written.
    pub fn programming(&self) -> Option<Durations> {
        (self.name != files::NAME).then(|| self.programming.read())
    }

    /// A change is made that was written then.
    fn programmed(&self, applied: Applied, written: Option<Written>) {
        let Some(Written { at, only_created }) = written else { return };
        // When an older entry was made says nothing of when it was changed.
        if applied.hosts > 0 && (applied.new > 0 || !only_created) {
            self.programming.count(at, SystemTime::now());
        }
    }

    /// Grows with every change: before it can be seen in the index, and when it can.
    pub fn changes(&self) -> u64 {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        load(&self.changing) + load(&self.applied) + load(&self.deleted) + load(&self.relists)
    }

    /// While answers come from saved state (L6): since when the source has not been heard.
    pub fn saved(&self) -> Option<SystemTime> {
        *self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_saved(&self, saved: Option<SystemTime>) -> Option<SystemTime> {
        std::mem::replace(&mut *self.saved.lock().unwrap_or_else(PoisonError::into_inner), saved)
    }

    /// How it failed the last time, be it over or not.
    pub fn latest_failure(&self) -> Option<Failure> {
        self.lock().latest.clone()
    }

    /// Failures by reason.
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        self.lock().counts.iter().map(|(trouble, count)| (trouble.as_str(), *count)).collect()
    }

    /// The source has answered just now.
    pub fn touch(&self) {
        let now = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.contact.fetch_max(now, Ordering::Relaxed);
    }

    /// Something failed. Logged once per change of what is wrong (L2).
    pub fn failed(&self, trouble: Trouble, what: &str) {
        let mut state = self.lock();
        *state.counts.entry(trouble).or_default() += 1;
        let news = state.now != Some(trouble);
        state.now = Some(trouble);
        state.last = Some((trouble, what.to_owned()));
        state.latest = Some(Failure { trouble, what: what.to_owned(), at: SystemTime::now() });
        state.young = None;
        drop(state);
        let reason = trouble.as_str();
        if news && trouble == Trouble::Gone {
            // Routine after an interruption: the list that follows mends it.
            tracing::info!(source = %self.name, reason, "{what}; listing again, answers stay as they are");
        } else if news {
            tracing::warn!(source = %self.name, reason, "{what}; retrying, answers stay as they are");
        }
    }

    /// A watch is about to begin; returns how long it should wait. If the two before it have not lasted, that is a
    /// failure, though events may have come through them.
    fn before_a_watch(&self) -> Duration {
        let mut state = self.lock();
        let left = state.young.take().map_or(Duration::ZERO, |began| LASTING.saturating_sub(began.elapsed()));
        let again = !left.is_zero() && state.ended_young;
        state.ended_young |= !left.is_zero();
        drop(state);
        if again {
            self.failed(
                Trouble::Connection,
                "the API server, or something before it, ends watches as they begin",
            );
        }
        left
    }

    /// A watch has begun. Whether it works is seen after [`LASTING`]: one that fails at once would be told as a change,
    /// to and fro, with every try.
    fn watch_began(&self) -> Instant {
        self.touch();
        let now = Instant::now();
        self.lock().young = Some(now);
        now
    }

    /// The watch that began then has lasted, if nothing failed meanwhile. True if that ends a trouble.
    fn watch_lasts(&self, began: Instant) -> bool {
        let mut state = self.lock();
        if state.young != Some(began) {
            return false;
        }
        (state.young, state.ended_young) = (None, false);
        let troubled = state.now.is_some();
        drop(state);
        self.recovered();
        troubled
    }

    /// It works (again).
    pub fn recovered(&self) {
        self.touch();
        let mut state = self.lock();
        let was = state.now.take();
        state.last = None;
        drop(state);
        if let Some(was) = was {
            tracing::info!(source = %self.name, after = was.as_str(), "source works again");
        }
    }

    /// The source is asked from now on.
    pub fn begin(&self) {
        let _ = self.begun.set(Instant::now());
    }

    /// The source has been asked for so long.
    #[cfg(test)]
    pub(crate) fn begin_before(&self, ago: Duration) {
        let _ = self.begun.set(Instant::now() - ago);
    }

    /// It has answered in part: what failed before is no reason any more to take it for silent.
    pub fn got_further(&self) {
        self.lock().last = None;
    }

    /// Since when it has been asked.
    fn waited(&self) -> Duration {
        self.begun.get().map_or(Duration::ZERO, Instant::elapsed)
    }

    fn lock(&self) -> MutexGuard<'_, Troubles> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts down the sources without a complete list; at zero the table says NXDOMAIN for itself (D9).
pub struct Pending {
    left: AtomicUsize,
    index: Arc<Index>,
}

impl Pending {
    /// `sources` have to deliver.
    pub fn new(sources: usize, index: Arc<Index>) -> Arc<Pending> {
        Arc::new(Pending { left: AtomicUsize::new(sources), index })
    }

    fn one_delivered(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.index.table().set_complete();
        }
    }
}

/// A source's way into the index.
pub struct Feed {
    index: Arc<Index>,
    rules: Arc<Rules>,
    status: Arc<Status>,
    first_list: Mutex<Option<FirstList>>,
    onlooker: Option<Onlooker>,
}

/// Who waits for the first complete list.
struct FirstList {
    pending: Arc<Pending>,
    awaited: Awaited,
    /// Whether there may be saved state to stand in for it.
    stand_in: bool,
}

impl FirstList {
    /// The table before the guard: ready means that nothing is SERVFAIL any more.
    fn delivered(self) {
        self.pending.one_delivered();
        drop(self.awaited);
    }
}

/// Sees every object beside the entry that was read from it.
pub type Onlooker = Arc<dyn Fn(&Value, &Entry) + Send + Sync>;

impl Feed {
    /// A feed; `awaited` is what the program waits for until the first complete list.
    pub fn new(
        index: Arc<Index>,
        rules: Arc<Rules>,
        status: Arc<Status>,
        pending: Arc<Pending>,
        awaited: Awaited,
    ) -> Feed {
        Feed {
            index,
            rules,
            status,
            first_list: Mutex::new(Some(FirstList { pending, awaited, stand_in: false })),
            onlooker: None,
        }
    }

    /// The same feed with somebody who sees what is read.
    pub fn seen_by(mut self, onlooker: Onlooker) -> Feed {
        self.onlooker = Some(onlooker);
        self
    }

    /// The index it feeds.
    pub fn index(&self) -> &Arc<Index> {
        &self.index
    }

    /// The source's status.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Reads an object under this server's rules.
    pub fn read(&self, object: &Value, origin: Origin) -> Entry {
        let entry = Entry::read(object, origin, self.index.table().zones(), &self.rules);
        if let Some(onlooker) = &self.onlooker {
            onlooker(object, &entry);
        }
        entry
    }

    /// Reads an object of many, and makes it ready to be put in. One that makes us panic costs only itself (L9).
    pub fn pack(&self, object: &Value, origin: Origin) -> Packed {
        let packed = self.pack_any(object, origin);
        // A list may have a million that are as they were, and all are kept until it is complete.
        if !self.status.is_complete() || self.index.holds(&packed) {
            return packed;
        }
        packed.written(Provenance::of(object))
    }

    /// The same of one that is new or has changed.
    pub fn pack_changed(&self, object: &Value, origin: Origin) -> Packed {
        self.pack_any(object, origin).written(Provenance::of(object))
    }

    fn pack_any(&self, object: &Value, origin: Origin) -> Packed {
        let pack = |entry| self.index.pack(self.status.partition, entry);
        panics::contain(Place::Object, || pack(self.read(object, origin.clone())))
            .unwrap_or_else(|| pack(Entry::unread(EntryId::of(object, origin))))
    }

    /// Makes an entry of saved state ready to be put in.
    pub fn pack_saved(&self, mut entry: Entry) -> Packed {
        let zones = self.index.table().zones();
        entry.claims.retain(|claim| zones.covering(claim.host.name.wire()).is_some());
        self.index.pack(self.status.partition, entry)
    }

    /// An entry is new or has changed.
    pub fn apply(&self, entry: Packed) {
        let written = entry.provenance().and_then(Provenance::written);
        self.status.changing.fetch_add(1, Ordering::Release);
        let applied = self.index.apply_packed(entry);
        self.status.programmed(applied, written);
        // Counted afterwards: what was counted is in the index.
        self.status.applied.fetch_add(1, Ordering::Release);
    }

    /// As [`Feed::apply`] is when it can be seen in the index and is not counted yet.
    #[cfg(test)]
    pub(crate) fn apply_half(&self, entry: Packed) {
        self.status.changing.fetch_add(1, Ordering::Release);
        self.index.apply_packed(entry);
    }

    /// An entry is gone; `by` is what its object tells of that.
    pub fn delete(&self, id: &EntryId, by: Option<Provenance>) {
        self.status.changing.fetch_add(1, Ordering::Release);
        let written = by.as_ref().and_then(Provenance::written);
        let applied = self.index.delete_as(self.status.partition, id, by.map(Box::new));
        self.status.programmed(applied, written);
        self.status.deleted.fetch_add(1, Ordering::Release);
    }

    /// These are the entries some files hold now.
    pub fn reset_files(&self, files: &[Arc<str>], entries: Vec<Packed>) {
        let count = entries.len() as u64;
        self.status.changing.fetch_add(1, Ordering::Release);
        let gone = self.index.reset_files(self.status.partition, files, entries);
        self.status.applied.fetch_add(count, Ordering::Release);
        self.status.deleted.fetch_add(gone as u64, Ordering::Release);
    }

    /// A complete list.
    pub fn reset(&self, entries: Vec<Packed>) {
        // Held meanwhile: saved state must not come after what it is to be replaced by.
        self.deliver(self.first_list(), entries);
    }

    /// Nothing is there, as far as is known: an empty complete list, unless there is something to answer from, or may be
    /// in a moment.
    pub fn reset_if_waiting(&self) {
        let mut first = self.first_list();
        match &*first {
            Some(FirstList { stand_in: false, .. }) => self.deliver(first, Vec::new()),
            // What is saved cannot be had so far: that is waited for no longer, and must not be replaced by nothing.
            Some(_) if self.status.waited() >= MOST_PATIENCE => {
                tracing::info!(source = %self.status.name, "no entries, and no word of the disk about saved state");
                first.take().into_iter().for_each(FirstList::delivered);
            }
            _ => {}
        }
    }

    fn deliver(&self, mut first: MutexGuard<'_, Option<FirstList>>, entries: Vec<Packed>) {
        let count = entries.len();
        self.status.changing.fetch_add(1, Ordering::Release);
        self.index.reset(self.status.partition, entries);
        if self.index.is_broken() {
            // Nobody is to believe that the list is there.
            return;
        }
        self.status.relists.fetch_add(1, Ordering::Release);
        self.status.complete.store(true, Ordering::Relaxed);
        let was_saved = self.status.set_saved(None).is_some();
        // No trouble is over by that: a watch may go on to fail, and each time be made up for by a list.
        self.status.touch();
        let source = &self.status.name;
        if let Some(first) = first.take() {
            tracing::info!(%source, entries = count, "first complete list");
            first.delivered();
        } else if was_saved {
            tracing::info!(%source, entries = count, "first complete list; it has replaced the saved state");
        } else {
            tracing::debug!(%source, entries = count, "complete list");
        }
    }

    /// Whether there may be saved state to stand in for the first complete list.
    pub fn expect_stand_in(&self, expected: bool) {
        if let Some(first) = &mut *self.first_list() {
            first.stand_in = expected;
        }
    }

    /// Why saved state has to stand in for the first complete list by now, if it has to (L6).
    pub fn needs_stand_in(&self) -> Option<String> {
        let waited = self.status.waited();
        if waited < PATIENCE || self.first_list().is_none() {
            return None;
        }
        match &self.status.lock().last {
            Some((trouble, what)) if waited >= MOST_PATIENCE || !trouble.is_an_answer() => Some(what.clone()),
            None if waited >= MOST_PATIENCE => {
                Some(format!("no complete list after {} s", MOST_PATIENCE.as_secs()))
            }
            _ => None,
        }
    }

    /// Saved state, from a time when the source was last heard; it stands in for the first complete list (L6). False
    /// if that has come meanwhile.
    pub fn restore(&self, entries: Vec<Packed>, heard: SystemTime) -> bool {
        let mut first = self.first_list();
        if first.is_none() {
            return false;
        }
        self.index.reset(self.status.partition, entries);
        if self.index.is_broken() {
            return false;
        }
        let Some(first) = first.take() else { return false };
        self.status.set_saved(Some(heard));
        first.delivered();
        true
    }

    fn first_list(&self) -> MutexGuard<'_, Option<FirstList>> {
        self.first_list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Findings about the source itself; they replace the earlier ones.
    pub fn report(&self, findings: Vec<Finding>) {
        self.index.set_source_findings(self.status.partition, findings);
    }
}

impl Drop for Feed {
    /// A source that ends without a complete list has not become ready by that.
    fn drop(&mut self) {
        let first = self.first_list.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(first) = first {
            first.awaited.give_up();
        }
    }
}
