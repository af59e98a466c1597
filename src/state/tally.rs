//! What the metrics say about saved state, counted where it happens.

use std::sync::atomic::{AtomicU64, Ordering};

/// The numbers of every source.
#[derive(Debug)]
pub struct Tally(Vec<OfSource>);

/// One source's numbers.
#[derive(Debug)]
pub struct OfSource {
    name: String,
    heard: AtomicU64,
    size: AtomicU64,
    saves: AtomicU64,
    failures: AtomicU64,
}

impl Tally {
    /// Of these sources.
    pub fn new<'n>(sources: impl Iterator<Item = &'n str>) -> Tally {
        let of_source = |name: &str| OfSource {
            name: name.to_owned(),
            heard: AtomicU64::new(0),
            size: AtomicU64::new(0),
            saves: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        };
        Tally(sources.map(of_source).collect())
    }

    /// Every source.
    pub fn sources(&self) -> &[OfSource] {
        &self.0
    }

    /// A source it was made with.
    pub(super) fn of(&self, name: &str) -> &OfSource {
        let found = self.0.iter().find(|of| of.name == name);
        found.unwrap_or_else(|| unreachable!("{name} was not given"))
    }
}

impl OfSource {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When the source had been heard whose state is on disk, Unix seconds, and how many octets it has; none if there
    /// is none.
    pub fn on_disk(&self) -> Option<(u64, u64)> {
        let (heard, size) = (self.heard.load(Ordering::Relaxed), self.size.load(Ordering::Relaxed));
        (size > 0).then_some((heard, size))
    }

    /// Saves by result.
    pub fn results(&self) -> [(&'static str, u64); 2] {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("success", load(&self.saves)), ("failure", load(&self.failures))]
    }

    pub(super) fn found(&self, heard: u64, size: u64) {
        self.heard.store(heard, Ordering::Relaxed);
        self.size.store(size, Ordering::Relaxed);
    }

    pub(super) fn saved(&self, heard: u64, size: u64) {
        self.found(heard, size);
        self.saves.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }
}
