//! Which finding is told next, and which were told: bookkeeping without a clock or a server of its own.
//!
//! Of the findings themselves only the [`KEPT`] that come next are kept, errors first. There may be millions; when these are told,
//! another search brings others.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;

use super::record::{MOST_GONE, MOST_TOLD, Record};
use super::{identity, subject};
use crate::finding::{Finding, Severity};

/// How long a finding has to stand, or to be absent, to count.
pub const SETTLED: Duration = Duration::from_secs(5);
/// Events that may be written at once.
pub const BURST: u32 = 25;
/// After these, one for each such pause: 30 a minute.
pub const PAUSE: Duration = Duration::from_secs(2);
/// As many as in a minute: when more wait, an Event of its own says so.
pub const MANY: usize = 30;
/// Findings that are kept to be told next.
pub const KEPT: usize = 64;
/// What could not be told is not tried again sooner.
pub const RETRY: Duration = Duration::from_secs(10);
/// Namespaces that are known to refuse Events; more are asked each time.
const MOST_REFUSED: usize = 1_000;

/// Errors come before warnings; among these, chance decides, the same on every replica.
pub type Place = (Severity, u64);

/// See the module text.
#[derive(Default)]
pub struct Ledger {
    bucket: Bucket,
    /// `None` while another replica tells.
    book: Option<Book>,
}

/// What the replica that tells knows.
struct Book {
    /// The findings that were told, and stand.
    told: Arc<HashSet<u64>>,
    /// Those that are gone, oldest first.
    gone: VecDeque<u64>,
    /// Those told that were not seen, since when, and by how many searches.
    missing: HashMap<u64, (Instant, usize)>,
    waiting: BTreeMap<Place, Waiting>,
    /// How many more stand that were not told.
    untold: usize,
    /// Namespaces that refuse Events, and until when they are left alone.
    refused: HashMap<String, Instant>,
    /// It was told that many wait.
    many_told: bool,
    unsaved: bool,
    wants_search: bool,
}

struct Waiting {
    finding: Finding,
    /// When it may be told.
    due: Instant,
}

/// What is to be done now.
#[derive(Debug, PartialEq)]
pub enum Next {
    /// Tell this one. `again`: its Event may be there from before, and is to be counted.
    Tell(Box<Told>),
    /// Tell that so many wait.
    Many(usize),
    /// Nothing before then, unless a search brings news.
    Wait(Option<Instant>),
}

/// A finding that is being told.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// Its place in the ledger.
    pub place: Place,
    /// The finding.
    pub finding: Finding,
    /// It was there before, and was gone since.
    pub again: bool,
}

/// One search, looked on.
pub struct Round {
    told: Arc<HashSet<u64>>,
    refused: HashSet<String>,
    /// Of those that were told.
    seen: HashSet<u64, RandomState>,
    first: BTreeMap<Place, Finding>,
    untold: usize,
}

impl Round {
    /// The search shows a finding; each is shown once.
    pub fn see(&mut self, finding: &Finding) {
        let Some((namespace, _)) = subject(finding) else { return };
        let hash = identity(finding);
        if self.told.contains(&hash) {
            self.seen.insert(hash);
            return;
        }
        if self.refused.contains(namespace) {
            return;
        }
        self.untold += 1;
        let place = (finding.code.severity(), hash);
        let last = self.first.last_key_value().map(|(last, _)| *last);
        if self.first.len() < KEPT || last.is_some_and(|last| place < last) {
            self.first.insert(place, finding.clone());
            if self.first.len() > KEPT {
                self.first.pop_last();
            }
        }
    }
}

impl Ledger {
    /// This replica tells from now on; `record` is what those before it have told.
    pub fn lead(&mut self, record: Record) {
        self.book = Some(Book {
            told: Arc::new(record.told.into_iter().collect()),
            gone: record.gone.into(),
            missing: HashMap::new(),
            waiting: BTreeMap::new(),
            untold: 0,
            refused: HashMap::new(),
            many_told: record.many,
            unsaved: false,
            wants_search: true,
        });
    }

    /// Another replica tells from now on, or may.
    pub fn follow(&mut self) {
        self.book = None;
    }

    /// Whether this replica tells.
    pub fn leads(&self) -> bool {
        self.book.is_some()
    }

    /// See [`super::Desk::wants_search`].
    pub fn wants_search(&mut self) -> bool {
        self.book.as_mut().is_some_and(|book| std::mem::take(&mut book.wants_search))
    }

    /// See [`super::Desk::begin`].
    pub fn begin(&mut self, now: Instant) -> Option<Round> {
        let book = self.book.as_mut()?;
        book.refused.retain(|_, until| *until > now);
        Some(Round {
            told: book.told.clone(),
            refused: book.refused.keys().cloned().collect(),
            seen: HashSet::default(),
            first: BTreeMap::new(),
            untold: 0,
        })
    }

    /// See [`super::Desk::finish`].
    pub fn finish(&mut self, round: Round, still: bool, now: Instant) {
        let Some(book) = &mut self.book else { return };
        for hash in &*round.told {
            if round.seen.contains(hash) {
                book.missing.remove(hash);
            } else {
                let (_, searches) = book.missing.entry(*hash).or_insert((now, 0));
                // One during which entries changed may have missed some; the next one follows at once.
                *searches += if still { 2 } else { 1 };
            }
        }
        let mut before = std::mem::take(&mut book.waiting);
        for (place, finding) in round.first {
            if !book.told.contains(&place.1) {
                let due = before.remove(&place).map_or(now + SETTLED, |known| known.due);
                book.waiting.insert(place, Waiting { finding, due });
            }
        }
        book.untold = round.untold;
        if round.untold == 0 && round.refused.is_empty() && book.many_told {
            (book.many_told, book.unsaved) = (false, true);
        }
    }

    /// What is to be done now. What it says is paid for: each is tried once, whatever comes of it.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(book) = &mut self.book else { return Next::Wait(None) };
        book.settle(now);
        if book.waiting.is_empty() && book.untold > 0 || book.refused.values().any(|until| *until <= now) {
            book.refused.retain(|_, until| *until > now);
            book.wants_search = true;
        }
        let due = book.waiting.iter().find(|(_, waiting)| waiting.due <= now);
        let Some((place, waiting)) = due.filter(|_| book.told.len() < MOST_TOLD) else {
            return Next::Wait(book.wake(now));
        };
        if self.bucket.take(now) {
            let again = book.gone.contains(&place.1);
            return Next::Tell(Box::new(Told { place: *place, finding: waiting.finding.clone(), again }));
        }
        if book.untold > MANY && !book.many_told {
            (book.many_told, book.unsaved) = (true, true);
            return Next::Many(book.untold);
        }
        Next::Wait(Some(self.bucket.next(now)))
    }

    /// It was told, or nothing will come of telling it.
    pub fn told(&mut self, (severity, hash): Place) {
        let Some(book) = &mut self.book else { return };
        book.waiting.remove(&(severity, hash));
        Arc::make_mut(&mut book.told).insert(hash);
        book.gone.retain(|gone| *gone != hash);
        book.untold = book.untold.saturating_sub(1);
        book.unsaved = true;
    }

    /// It could not be told now.
    pub fn put_off(&mut self, place: Place, now: Instant) {
        let Some(book) = &mut self.book else { return };
        if let Some(waiting) = book.waiting.get_mut(&place) {
            waiting.due = now + RETRY;
        }
    }

    /// Nothing can be told in a namespace now.
    pub fn refused(&mut self, place: Place, namespace: &str, now: Instant) {
        self.put_off(place, now);
        let Some(book) = &mut self.book else { return };
        if book.refused.len() < MOST_REFUSED {
            book.refused.insert(namespace.to_owned(), now + RETRY);
            let before = book.waiting.len();
            book.waiting.retain(|_, waiting| subject(&waiting.finding).is_none_or(|(of, _)| of != namespace));
            book.untold = book.untold.saturating_sub(before - book.waiting.len());
        }
    }

    /// What is to be saved, if it was not; then it counts as saved.
    pub fn unsaved(&mut self) -> Option<Record> {
        let book = self.book.as_mut()?;
        std::mem::take(&mut book.unsaved).then(|| Record {
            told: book.told.iter().copied().collect(),
            gone: book.gone.iter().copied().collect(),
            many: book.many_told,
        })
    }

    /// It was not saved after all.
    pub fn still_unsaved(&mut self) {
        if let Some(book) = &mut self.book {
            book.unsaved = true;
        }
    }
}

impl Book {
    /// What has been absent for long enough is gone.
    fn settle(&mut self, now: Instant) {
        let is_gone = |(since, searches): &(Instant, usize)| *searches >= 2 && now >= *since + SETTLED;
        let gone: Vec<u64> =
            self.missing.iter().filter(|(_, missing)| is_gone(missing)).map(|(hash, _)| *hash).collect();
        if gone.is_empty() {
            return;
        }
        let told = Arc::make_mut(&mut self.told);
        for hash in gone {
            self.missing.remove(&hash);
            told.remove(&hash);
            self.gone.push_back(hash);
        }
        while self.gone.len() > MOST_GONE {
            self.gone.pop_front();
        }
        self.unsaved = true;
    }

    /// When there may be something to do, though nothing happens.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let due = self.waiting.values().map(|waiting| waiting.due);
        let gone =
            self.missing.values().filter(|(_, searches)| *searches >= 2).map(|(since, _)| *since + SETTLED);
        due.chain(gone).chain(self.refused.values().copied()).filter(|at| *at > now).min()
    }
}

/// [`BURST`] at once, and then one for each [`PAUSE`].
#[derive(Default)]
struct Bucket {
    /// When all of it is there again.
    full: Option<Instant>,
}

impl Bucket {
    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let full = self.full.map_or(now, |full| full.max(now)) + PAUSE;
        let fits = full <= now + PAUSE * BURST;
        if fits {
            self.full = Some(full);
        }
        fits
    }

    /// When there is one.
    fn next(&self, now: Instant) -> Instant {
        self.full.map_or(now, |full| (full + PAUSE).checked_sub(PAUSE * BURST).unwrap_or(now).max(now))
    }
}

#[cfg(test)]
mod tests;
