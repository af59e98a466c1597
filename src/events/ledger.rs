//! Which finding is told next, and which were told: bookkeeping without a clock or a server of its own.
//!
//! Of the findings themselves only the [`KEPT`] that come next are kept, errors first. There may be millions; when these are told,
//! another search brings others.

use std::collections::hash_map::Entry;
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
/// A namespace that refuses again is left alone for twice as long as before, and for this long at most.
pub const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// Of the Events that may be tried, one of so many may be spent on a namespace that has refused and does so again.
const RETRIES: u32 = 5;
/// Namespaces that are known to refuse Events, with a finding each; more are asked each time.
const MOST_REFUSED: usize = 10_000;

/// Errors come before warnings; among these, chance decides, the same on every replica.
pub type Place = (Severity, u64);

/// See the module text.
pub struct Ledger {
    bucket: Bucket,
    /// For namespaces that refuse again; where Events are taken, this does not count.
    retries: Bucket,
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
    /// Namespaces that refuse Events.
    refused: HashMap<String, Refusal>,
    /// It was told that many wait.
    many_told: bool,
    /// When that may be tried again.
    many_due: Option<Instant>,
    /// Of what is saved, so far.
    changes: u64,
    /// How many of these are in the record.
    saved: u64,
    wants_search: bool,
}

struct Waiting {
    finding: Finding,
    /// When it may be told.
    due: Instant,
}

/// A namespace that refuses Events. One finding there is tried every now and then, and searches pass over all others.
struct Refusal {
    place: Place,
    finding: Finding,
    /// Until when it is left alone.
    until: Instant,
    /// For how long it was.
    pause: Duration,
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
    /// Namespaces that refuse, which finding is tried there, and which one is there: that one, if it stands.
    refused: HashMap<String, (Place, Option<(Place, Finding)>)>,
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
        let place = (finding.code.severity(), hash);
        if let Some((tried, found)) = self.refused.get_mut(namespace) {
            if found.is_none() || place == *tried {
                *found = Some((place, finding.clone()));
            }
            return;
        }
        self.untold += 1;
        let last = self.first.last_key_value().map(|(last, _)| *last);
        if self.first.len() < KEPT || last.is_some_and(|last| place < last) {
            self.first.insert(place, finding.clone());
            if self.first.len() > KEPT {
                self.first.pop_last();
            }
        }
    }
}

impl Default for Ledger {
    fn default() -> Ledger {
        let retries = Bucket { burst: BURST / RETRIES, pause: PAUSE * RETRIES, full: None };
        Ledger { bucket: Bucket { burst: BURST, pause: PAUSE, full: None }, retries, book: None }
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
            many_due: None,
            changes: 0,
            saved: 0,
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
    pub fn begin(&mut self) -> Option<Round> {
        let book = self.book.as_ref()?;
        let tried = |(of, refusal): (&String, &Refusal)| (of.clone(), (refusal.place, None));
        Some(Round {
            told: book.told.clone(),
            refused: book.refused.iter().map(tried).collect(),
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
        for (namespace, (_, found)) in round.refused {
            book.still_refused(namespace, found, still, now);
        }
        let mut before = std::mem::take(&mut book.waiting);
        for (place, finding) in round.first {
            // One of these may have been told, or refused, during the search.
            if !book.told.contains(&place.1) && !book.refuses(&finding) {
                let due = before.remove(&place).map_or(now + SETTLED, |known| known.due);
                book.waiting.insert(place, Waiting { finding, due });
            }
        }
        book.untold = round.untold;
        if round.untold == 0 && book.many_told {
            book.many_told = false;
            book.changes += 1;
        }
    }

    /// What is to be done now. What it says is paid for: each is tried once, whatever comes of it.
    pub fn next(&mut self, now: Instant) -> Next {
        let Some(book) = &mut self.book else { return Next::Wait(None) };
        book.settle(now);
        if book.waiting.is_empty() && book.untold > 0 {
            book.wants_search = true;
        }
        let retry =
            book.refused.values().filter(|refusal| refusal.until <= now).min_by_key(|refusal| refusal.until);
        let may_retry = self.retries.has(now);
        let retry_at = retry.filter(|_| !may_retry).map(|_| self.retries.next(now));
        let retry = retry.filter(|_| may_retry).map(|refusal| (refusal.place, &refusal.finding));
        let due = book.waiting.iter().find(|(_, waiting)| waiting.due <= now);
        let due = retry.or(due.map(|(place, waiting)| (*place, &waiting.finding)));
        let Some((place, finding)) = due.filter(|_| book.told.len() < MOST_TOLD) else {
            return Next::Wait(book.wake(now).into_iter().chain(retry_at).min());
        };
        if self.bucket.take(now) {
            let again = book.gone.contains(&place.1);
            return Next::Tell(Box::new(Told { place, finding: finding.clone(), again }));
        }
        if book.untold > MANY && !book.many_told && book.many_due.is_none_or(|due| due <= now) {
            book.many_due = Some(now + LONGEST_RETRY);
            return Next::Many(book.untold);
        }
        Next::Wait(Some(self.bucket.next(now)))
    }

    /// It was told, or nothing will come of telling it.
    pub fn told(&mut self, told: &Told, now: Instant) {
        let Some(book) = &mut self.book else { return };
        let hash = told.place.1;
        if book.waiting.remove(&told.place).is_some() {
            book.untold = book.untold.saturating_sub(1);
        }
        Arc::make_mut(&mut book.told).insert(hash);
        book.gone.retain(|gone| *gone != hash);
        book.changes += 1;
        let namespace = subject(&told.finding).map(|(namespace, _)| namespace);
        if namespace.is_some_and(|namespace| book.refused.remove(namespace).is_some()) {
            // What was missing there may be there everywhere; and there is more to tell.
            book.wants_search = true;
            for refusal in book.refused.values_mut() {
                (refusal.until, refusal.pause) = (now, RETRY);
            }
        }
    }

    /// It was told that many wait.
    pub fn told_of_many(&mut self) {
        if let Some(book) = &mut self.book {
            (book.many_told, book.many_due) = (true, None);
            book.changes += 1;
        }
    }

    /// It could not be told now.
    pub fn put_off(&mut self, told: &Told, now: Instant) {
        let Some(book) = &mut self.book else { return };
        if let Some(waiting) = book.waiting.get_mut(&told.place) {
            waiting.due = now + RETRY;
        }
        if let Some(refusal) = book.refused.values_mut().find(|refusal| refusal.place == told.place) {
            refusal.until = now + refusal.pause;
        }
    }

    /// Nothing can be told in a namespace now.
    pub fn refused(&mut self, told: &Told, namespace: &str, now: Instant) {
        self.put_off(told, now);
        let Some(book) = &mut self.book else { return };
        let known = book.refused.get_mut(namespace);
        if let Some(refusal) = known {
            self.retries.take(now);
            refusal.pause = (2 * refusal.pause).min(LONGEST_RETRY);
            refusal.until = now + refusal.pause;
        } else if book.refused.len() < MOST_REFUSED {
            let (place, finding) = (told.place, told.finding.clone());
            let refusal = Refusal { place, finding, until: now + RETRY, pause: RETRY };
            book.refused.insert(namespace.to_owned(), refusal);
            let before = book.waiting.len();
            book.waiting.retain(|_, waiting| subject(&waiting.finding).is_none_or(|(of, _)| of != namespace));
            book.untold = book.untold.saturating_sub(before - book.waiting.len());
        }
    }

    /// What is to be saved, if anything is, and the number to say so with.
    pub fn unsaved(&self) -> Option<(u64, Record)> {
        let book = self.book.as_ref().filter(|book| book.changes > book.saved)?;
        let record = Record {
            told: book.told.iter().copied().collect(),
            gone: book.gone.iter().copied().collect(),
            many: book.many_told,
        };
        Some((book.changes, record))
    }

    /// What had this number is saved.
    pub fn saved(&mut self, number: u64) {
        if let Some(book) = &mut self.book {
            book.saved = number;
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
        self.changes += 1;
    }

    fn refuses(&self, finding: &Finding) -> bool {
        subject(finding).is_some_and(|(namespace, _)| self.refused.contains_key(namespace))
    }

    /// What a search has found in a namespace that refuses: only a finding that stands may be tried.
    fn still_refused(
        &mut self,
        namespace: String,
        found: Option<(Place, Finding)>,
        still: bool,
        now: Instant,
    ) {
        let Entry::Occupied(mut known) = self.refused.entry(namespace) else { return };
        let refusal = known.get_mut();
        match found {
            Some((place, _)) if place == refusal.place => {}
            Some((place, finding)) => {
                (refusal.place, refusal.finding) = (place, finding);
                refusal.until = refusal.until.max(now + SETTLED);
            }
            None if still => drop(known.remove()),
            // It may have been missed; the next search follows at once.
            None => refusal.until = refusal.until.max(now + SETTLED),
        }
    }

    /// When there may be something to do, though nothing happens.
    fn wake(&self, now: Instant) -> Option<Instant> {
        let due = self.waiting.values().map(|waiting| waiting.due);
        let gone =
            self.missing.values().filter(|(_, searches)| *searches >= 2).map(|(since, _)| *since + SETTLED);
        due.chain(gone).chain(self.refused.values().map(|refusal| refusal.until)).filter(|at| *at > now).min()
    }
}

/// Some at once, and then one for each pause.
struct Bucket {
    burst: u32,
    pause: Duration,
    /// When all of it is there again.
    full: Option<Instant>,
}

impl Bucket {
    /// Takes one, if there is one.
    fn take(&mut self, now: Instant) -> bool {
        let has = self.has(now);
        if has {
            self.full = Some(self.later(now));
        }
        has
    }

    /// Whether there is one.
    fn has(&self, now: Instant) -> bool {
        self.later(now) <= now + self.pause * self.burst
    }

    /// When there is one.
    fn next(&self, now: Instant) -> Instant {
        let least = self.full.and_then(|full| (full + self.pause).checked_sub(self.pause * self.burst));
        least.map_or(now, |least| least.max(now))
    }

    /// When all of it would be there again if one were taken.
    fn later(&self, now: Instant) -> Instant {
        self.full.map_or(now, |full| full.max(now)) + self.pause
    }
}

#[cfg(test)]
mod tests;
