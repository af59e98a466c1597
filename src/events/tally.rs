//! What the metrics say about Events, counted where it happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// What came of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was written.
    Written,
    /// It was there already.
    Known,
    /// We have no right to.
    Refused,
    /// Anything else.
    Failed,
}

impl Outcome {
    /// Every one, in the order of its number.
    pub const ALL: [Outcome; 4] = [Outcome::Written, Outcome::Known, Outcome::Refused, Outcome::Failed];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Written => "written",
            Outcome::Known => "known",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        }
    }
}

/// Shared by the teller that counts and the scrape that reads.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    leads: AtomicBool,
    counts: [AtomicU64; Outcome::ALL.len()],
}

impl Tally {
    /// Whether this replica tells.
    pub fn leads(&self) -> bool {
        self.0.leads.load(Ordering::Relaxed)
    }

    pub(super) fn set_leads(&self, leads: bool) {
        self.0.leads.store(leads, Ordering::Relaxed);
    }

    pub(super) fn count(&self, outcome: Outcome) {
        self.0.counts[outcome as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How often that came of one.
    pub fn of(&self, outcome: Outcome) -> u64 {
        self.0.counts[outcome as usize].load(Ordering::Relaxed)
    }
}
