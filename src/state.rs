//! Saved state (L6): what the sources have said survives a restart, also while none of them can be heard.
//!
//! One thread per process, the [`Keeper`], looks ten times a second whether a source has changed, and writes all of its
//! entries to a file of its own. It copies the index in small steps between which events pass, so neither they nor
//! queries wait for a disk. All that is read and written is done on that thread: a disk that hangs takes nothing but
//! what is on it.
//!
//! # Several sources
//!
//! A host may move from one source to another. What is on disk of all of them together then has it, if it was there all
//! the time: those that have changed are copied in one pass and replaced at once (`directory`), and if another one
//! changes meanwhile, all are copied again. What is left is a source that has not been heard since the start beside
//! one that has: what they say is from different times, on disk as in the answers.
//!
//! # What it costs
//!
//! About 80 octets an entry. A change is on disk within a second, if writing takes no longer than that; then the next
//! write waits until no more than [`OCTETS_PER_SECOND`] have been written on average, and twice as long as the last one
//! took. 100,000 entries that never stop changing are written every eight seconds, and a lone change of them at once.
//!
//! # Which cluster
//!
//! State must not be served to the clients of another cluster than it came from. The UID of the namespace `kube-system`
//! names a cluster, but has to be asked for, and saved state is for when there is nobody to ask. What is known without
//! asking is where the API server is and who signs its certificate; nearly every cluster has an authority of its own.
//! So that is in the fingerprint, and no right is needed. Where the authority changes, the state is of no use until the
//! next complete list. One in common is enough: while an authority is replaced, the new one stands beside the old one, and
//! both sign for the same cluster. Two clusters at one address that have an authority in common could not be told apart
//! by it in any case.
//!
//! # Panics
//!
//! What is on disk is replaced whole, and what was not finished is swept, so a save or a look that panics (L9) is a failed
//! one, and is tried again. Of an index that a panic has left half-changed nothing is saved.
//!
//! # Two processes
//!
//! The first one to write has the directory until it ends. Others answer, and read, and try again: while pods of a
//! DaemonSet are replaced there are two on a node for a moment.

mod directory;
pub(crate) mod format;
pub mod tally;

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::config::{State, TableConfig};
use crate::index::Packed;
use crate::panics::{Place, contain};
use crate::source::Feed;
use crate::source::cluster::Access;
use crate::wire::name::Name;
use crate::zone::Ownership;
use directory::{Batch, Directory, Failure};
use format::{Fingerprint, Header, Reader, Unusable, Writer};
use tally::Tally;

/// How long the start waits for the serials on disk.
const FIRST_LOOK: Duration = Duration::from_secs(1);
/// A serial on disk that is further ahead of the clock was made by one that was wrong.
const MOST_AHEAD: Duration = Duration::from_secs(24 * 3600);
/// Time between two looks for changes.
const LOOK: Duration = Duration::from_millis(100);
/// From the beginning of one write to that of the next: with a look and the write itself, within a second.
const EVERY: Duration = Duration::from_millis(700);
/// What may be written on average.
pub const OCTETS_PER_SECOND: u64 = 1 << 20;
/// The next try after one that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);
/// The part of a fingerprint of which one value in common is enough.
const AUTHORITIES: &str = "certificate authorities";
/// Without changes the file is written anew this often, because it tells when the source was last heard.
const REFRESH: Duration = Duration::from_secs(3600);

/// Saves and restores the entries of every source, on a thread of its own.
pub struct Keeper {
    signals: Arc<Signals>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Signals {
    hurry: AtomicBool,
    stop: AtomicBool,
}

/// One source, and what is on disk of it.
struct Kept {
    feed: Arc<Feed>,
    made_from: Fingerprint,
    /// Whether its state has been asked for.
    tried: bool,
    /// What had changed when the last save began: [`Kept::now`].
    saved: Option<(u64, u64)>,
    /// When the source had been heard, as the file says.
    heard: SystemTime,
}

type FileReader = Reader<BufReader<File>>;

struct Work {
    settings: State,
    directory: Directory,
    sources: Vec<Kept>,
    tally: Arc<Tally>,
    /// Why the last save failed, as it was said.
    failure: Option<String>,
}

impl Keeper {
    /// Raises the serials of the zones to those saved, and begins to save. `access` is the cluster's. A disk that hangs
    /// is waited for for a second.
    pub fn start(
        settings: State,
        table: &TableConfig,
        access: Option<&Access>,
        feeds: &[Arc<Feed>],
        tally: Arc<Tally>,
    ) -> io::Result<Keeper> {
        let made_from = |feed: &Arc<Feed>| fingerprint(table, access, feed.status().name());
        let kept = |feed: &Arc<Feed>| Kept {
            feed: feed.clone(),
            made_from: made_from(feed),
            tried: false,
            saved: None,
            heard: UNIX_EPOCH,
        };
        let work = Work {
            directory: Directory::new(settings.directory.clone()),
            sources: feeds.iter().map(kept).collect(),
            settings,
            tally,
            failure: None,
        };
        for feed in feeds {
            feed.expect_stand_in(true);
        }
        let signals = Arc::new(Signals::default());
        let heard = signals.clone();
        let (looked, look) = std::sync::mpsc::channel();
        let run = move || {
            let _ = contain(Place::State, || work.keep_serials());
            let _ = looked.send(());
            work.run(&heard);
        };
        let thread = std::thread::Builder::new().name("state".to_owned()).spawn(run)?;
        if look.recv_timeout(FIRST_LOOK).is_err() {
            tracing::warn!(
                "the disk of --state-dir does not answer; starting without it, state is used and saved when it does"
            );
        }
        Ok(Keeper { signals, thread: Some(thread) })
    }

    /// The end is near: from now on no write waits for the average.
    pub fn hurry(&self) {
        self.signals.hurry.store(true, Ordering::Relaxed);
        self.wake();
    }

    /// Saves a last time, and returns when that is done.
    pub fn finish(mut self) {
        self.end();
        if let Some(thread) = self.thread.take() {
            // It has contained its panics.
            let _ = thread.join();
        }
    }

    fn end(&self) {
        self.signals.stop.store(true, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
}

impl Work {
    fn run(mut self, signals: &Signals) {
        let (mut last, mut pause) = (Instant::now(), Duration::ZERO);
        loop {
            let stop = signals.stop.load(Ordering::Relaxed);
            if !stop && contain(Place::State, || self.restore()).is_none() {
                pause = AFTER_FAILURE;
            }
            let hurry = signals.hurry.load(Ordering::Relaxed);
            if stop || last.elapsed() >= if hurry { pause.min(EVERY) } else { pause } {
                last = Instant::now();
                pause = contain(Place::State, || self.save(stop))
                    .map_or(AFTER_FAILURE, |pause| pause.unwrap_or(Duration::ZERO));
            }
            if stop {
                return;
            }
            std::thread::park_timeout(LOOK);
        }
    }

    /// D6: before anything is answered, if the disk is there.
    fn keep_serials(&self) {
        let most = u32::try_from(seconds(SystemTime::now() + MOST_AHEAD)).unwrap_or(u32::MAX);
        for kept in &self.sources {
            let source = kept.feed.status().name();
            let opened = self.open(source);
            let is_usable = |reader: &FileReader| {
                reader.check_format().is_ok() && self.check(&reader.header, kept).is_ok()
            };
            let usable = matches!(&opened, Ok(Some((reader, _))) if is_usable(reader));
            kept.feed.expect_stand_in(usable);
            let Ok(Some((Reader { header, .. }, size))) = opened else { continue };
            self.tally.of(source).found(header.heard, size);
            for (zone, serial) in header.serials {
                if let Ok(apex) = Name::parse(&zone) {
                    kept.feed.index().table().keep_serial(&apex, serial.min(most));
                }
            }
        }
    }

    /// Puts back what was saved of the sources that need it.
    fn restore(&mut self) {
        for at in 0..self.sources.len() {
            let kept = &mut self.sources[at];
            if kept.tried {
                continue;
            }
            let Some(why) = kept.feed.needs_stand_in() else { continue };
            kept.tried = true;
            let kept = &self.sources[at];
            let source = kept.feed.status().name();
            let file = self.directory.file(source);
            let loaded = contain(Place::State, || self.load(kept));
            match loaded.unwrap_or_else(|| Err(Unusable::Other("reading it makes us panic".to_owned()))) {
                Ok(None) => tracing::info!(source, "there is no saved state"),
                Ok(Some((entries, heard))) => {
                    let (count, age) = (entries.len(), age(heard));
                    if kept.feed.restore(entries, heard) {
                        tracing::warn!(
                            source,
                            file = %file.display(),
                            entries = count,
                            age_seconds = age.as_secs(),
                            why,
                            "answering from saved state"
                        );
                    }
                }
                Err(error) => {
                    tracing::warn!(source, file = %file.display(), "saved state is not used: {error}")
                }
            }
            kept.feed.expect_stand_in(false);
        }
    }

    /// Everything saved of a source, if it may be used.
    fn load(&self, kept: &Kept) -> Result<Option<(Vec<Packed>, SystemTime)>, Unusable> {
        let Some((reader, _)) = self.open(kept.feed.status().name())? else { return Ok(None) };
        reader.check_format()?;
        let heard = self.check(&reader.header, kept)?;
        let mut entries = Vec::new();
        reader.read(|entry| entries.push(kept.feed.pack_saved(entry)))?;
        Ok(Some((entries, heard)))
    }

    /// A file with its size.
    fn open(&self, source: &str) -> Result<Option<(FileReader, u64)>, Unusable> {
        let Some(file) = self.directory.open(source)? else { return Ok(None) };
        let size = file.metadata()?.len();
        Ok(Some((Reader::new(BufReader::new(file))?, size)))
    }

    /// Whether the state is ours and young enough; then, when its source was last heard.
    fn check(&self, header: &Header, kept: &Kept) -> Result<SystemTime, Unusable> {
        if let Some(what) = difference(&header.made_from, &kept.made_from) {
            return Err(Unusable::Other(what));
        }
        let heard = UNIX_EPOCH + Duration::from_secs(header.heard);
        let (age, limit) = (age(heard), self.settings.max_age);
        if age > limit {
            return Err(Unusable::Other(format!(
                "the source was last heard {} ago, and --state-max-age is {}; raise that, or wait for the source",
                humantime::format_duration(Duration::from_secs(age.as_secs())),
                humantime::format_duration(limit)
            )));
        }
        Ok(heard)
    }

    /// Saves every source that has changed; says how long the next look has to wait, if anything was tried.
    fn save(&mut self, last: bool) -> Option<Duration> {
        if self.is_broken() {
            return None;
        }
        let begun = Instant::now();
        let refresh = if last { Duration::from_secs(1) } else { REFRESH.min(self.settings.max_age / 8) };
        let mut due = self.which(|kept| kept.has_news(refresh));
        if due.is_empty() {
            return None;
        }
        let mut written = 0;
        let failure = match self.replace(&mut due, &mut written) {
            Ok(()) => None,
            Err(error) => {
                for at in due {
                    self.tally.of(self.sources[at].feed.status().name()).failed();
                }
                Some(error.to_string())
            }
        };
        let failed = failure.is_some();
        if self.failure != failure {
            match &failure {
                Some(why) => {
                    tracing::warn!("state cannot be saved: {why}; trying on, answers do not depend on it")
                }
                None => tracing::info!("state is saved again"),
            }
            self.failure = failure;
        }
        let average = Duration::from_millis(written * 1000 / OCTETS_PER_SECOND);
        let pause = if failed { AFTER_FAILURE } else { EVERY };
        Some(pause.max(average).max(begun.elapsed() * 3))
    }

    /// Whether the index is (L9), which all sources have in common.
    fn is_broken(&self) -> bool {
        self.sources.first().is_some_and(|kept| kept.feed.index().is_broken())
    }

    fn which(&self, passes: impl Fn(&Kept) -> bool) -> Vec<usize> {
        (0..self.sources.len()).filter(|at| passes(&self.sources[*at])).collect()
    }

    /// Replaces the files of some sources together; of all that are complete if that is needed.
    fn replace(&mut self, due: &mut Vec<usize>, written: &mut u64) -> Result<(), Failure> {
        // Of a directory that is new to us, nothing is known.
        let mut whole = self.directory.lock()?;
        let known: Vec<_> = self.sources.iter().map(|kept| kept.feed.status().name()).collect();
        self.directory.forget_others(&known, self.settings.max_age)?;
        loop {
            if whole {
                *due = self.which(|kept| kept.feed.status().is_complete());
            }
            let mut batch = self.directory.begin()?;
            let made = self.write(&mut batch, due)?;
            *written += made.iter().map(|made| made.size).sum::<u64>();
            // A host may have moved to one that was not copied.
            let others = self.which(|kept| kept.has_changed());
            if others.iter().any(|at| !due.contains(at)) {
                whole = true;
                continue;
            }
            // It may have broken meanwhile, with half of a change in what was copied.
            if self.is_broken() {
                return Ok(());
            }
            batch.commit()?;
            for Made { at, now, heard, size } in made {
                let kept = &mut self.sources[at];
                (kept.saved, kept.heard) = (Some(now), heard);
                self.tally.of(kept.feed.status().name()).saved(seconds(heard), size);
            }
            return Ok(());
        }
    }

    /// Writes a new file for each of these sources; all are copied in one pass.
    fn write(&self, batch: &mut Batch<'_>, due: &[usize]) -> Result<Vec<Made>, Failure> {
        let source = |at: usize| self.sources[at].feed.status();
        let (mut made, mut writers, mut partitions) = (Vec::new(), HashMap::new(), Vec::new());
        for &at in due {
            let kept = &self.sources[at];
            let (now, heard) = (kept.now(), kept.last_heard());
            #[cfg(test)]
            crate::panics::trip("state", format!("{:?}", kept.made_from).as_bytes());
            made.push(Made { at, now, heard, size: 0 });
            let out = batch.create(source(at).name())?;
            let writer = Writer::new(out, &kept.header(heard));
            let writer = writer.map_err(|error| batch.failure(source(at).name(), error))?;
            partitions.push(source(at).partition());
            writers.insert(source(at).partition(), (at, writer));
        }
        if let Some(kept) = self.sources.first() {
            kept.feed.index().copy(&partitions, |partition, entry| match writers.get_mut(&partition) {
                None => Ok(()),
                Some((at, writer)) => {
                    writer.write(&entry).map_err(|error| batch.failure(source(*at).name(), error))
                }
            })?;
        }
        for made in &mut made {
            let name = source(made.at).name();
            let Some((_, writer)) = writers.remove(&source(made.at).partition()) else { continue };
            let out = writer.finish().map_err(|error| batch.failure(name, error))?;
            made.size = batch.finish(name, out)?;
        }
        Ok(made)
    }
}

impl Kept {
    /// How much the source and the index have changed. In this order: what the first counts, the second has.
    fn now(&self) -> (u64, u64) {
        let changes = self.feed.status().changes();
        (changes, self.feed.index().version())
    }

    /// Whether the file has to be written: a source has news when both it and the index have changed, for it tells
    /// much that changes nothing.
    fn has_news(&self, refresh: Duration) -> bool {
        let complete = self.feed.status().is_complete();
        complete && (self.has_changed() || self.is_older_than(refresh))
    }

    fn has_changed(&self) -> bool {
        let (changes, version) = self.now();
        let changed = self.saved.is_none_or(|(then, index)| then != changes && index != version);
        self.feed.status().is_complete() && changed
    }

    fn is_older_than(&self, refresh: Duration) -> bool {
        self.last_heard().duration_since(self.heard).is_ok_and(|since| since >= refresh)
    }

    fn last_heard(&self) -> SystemTime {
        SystemTime::now().checked_sub(self.feed.status().contact_age()).unwrap_or(UNIX_EPOCH)
    }

    fn header(&self, heard: SystemTime) -> Header {
        let zones = self.feed.index().table().zones().iter();
        Header {
            program: crate::VERSION.to_owned(),
            made_from: self.made_from.clone(),
            heard: seconds(heard),
            serials: zones.map(|zone| (zone.apex().to_string(), zone.serial())).collect(),
        }
    }
}

/// A file in the making: of which source, and what it is to know about itself once it counts.
struct Made {
    at: usize,
    now: (u64, u64),
    heard: SystemTime,
    size: u64,
}

/// What the entries of a source are made from.
fn fingerprint(table: &TableConfig, access: Option<&Access>, source: &str) -> Fingerprint {
    let mut made_from = BTreeMap::new();
    // In whatever order they were given.
    let mut part = |name: &str, mut values: Vec<String>| {
        values.sort();
        values.dedup();
        made_from.insert(name.to_owned(), values);
    };
    part("source", vec![source.to_owned()]);
    part("zones", table.zones.iter().map(ToString::to_string).collect());
    if !table.reverse.is_empty() {
        part("reverse zones", table.reverse.iter().map(ToString::to_string).collect());
    }
    if !table.zone_owners.is_empty() {
        let namespaces = |owned: &Ownership| owned.namespaces.iter().cloned().collect::<Vec<_>>().join(" ");
        let owners = table.zone_owners.iter();
        part("zone owners", owners.map(|owned| format!("{}={}", owned.suffix, namespaces(owned))).collect());
    }
    let rules = &table.rules;
    let rules = [
        ("--apex-wildcards", rules.apex_wildcards),
        ("--skip-resolution-none", rules.skip_resolution_none),
        ("--public-only", rules.public_only),
        ("--srv", rules.services),
    ];
    part("flags", rules.iter().filter(|(_, on)| *on).map(|(name, _)| (*name).to_owned()).collect());
    if source == crate::source::files::NAME {
        let absolute = |path: &PathBuf| std::path::absolute(path).unwrap_or_else(|_| path.clone());
        let files = &table.sources.files;
        part("files", files.iter().map(|path| absolute(path).display().to_string()).collect());
    } else if let Some(access) = access {
        let (server, authorities) = access.fingerprint();
        part("API server", vec![server]);
        part(AUTHORITIES, authorities);
    }
    made_from
}

/// In what way a fingerprint is not the one wanted.
fn difference(found: &Fingerprint, wanted: &Fingerprint) -> Option<String> {
    let names = wanted.keys().chain(found.keys());
    let same = |name: &String| match (found.get(name), wanted.get(name)) {
        (Some(found), Some(wanted)) if name == AUTHORITIES && found != wanted => {
            found.iter().any(|authority| wanted.contains(authority))
        }
        (found, wanted) => found == wanted,
    };
    let name = names.into_iter().find(|name| !same(name))?;
    let text = |of: &Fingerprint| of.get(name).map(|values| values.join(", ")).unwrap_or_default();
    Some(format!(
        "it was made from other {name} ({:?}, and now {:?}); the source's next complete list replaces it",
        text(found),
        text(wanted)
    ))
}

/// Nothing is younger than now, whatever the clock did meanwhile.
fn age(since: SystemTime) -> Duration {
    since.elapsed().unwrap_or_default()
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests;
