//! How long changes take: from when an object was written to when it can be answered (I8).
//!
//! As of CoreDNS's `coredns_kubernetes_dns_programming_duration_seconds` and kube-proxy's
//! `kubeproxy_network_programming_duration_seconds`, the beginning is another machine's clock and a whole second: what is
//! measured is up to a second more than it was, and as much wrong as the two clocks differ. So it tells whether changes
//! take seconds or minutes, and nothing about milliseconds.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Upper bounds, seconds. Below a second there is nothing to see.
pub const BOUNDS: [f64; 11] = [0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// The durations of one source's changes.
#[derive(Debug, Default)]
pub struct Programming {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    millis: AtomicU64,
    ahead: AtomicU64,
}

/// What [`Programming`] has counted.
#[derive(Debug, PartialEq)]
pub struct Durations {
    /// Changes by [`BOUNDS`], and those beyond; not cumulative.
    pub buckets: Vec<u64>,
    /// Seconds of all of them.
    pub seconds: f64,
    /// Those that were written after they could be answered, by the clocks; they count as 0 s.
    pub ahead: u64,
}

impl Programming {
    /// Counts a change of an object that was written at a Unix second, and can be answered now.
    pub fn count(&self, written: i64, now: SystemTime) {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let written = Duration::from_secs(u64::try_from(written).unwrap_or_default());
        let taken = now.checked_sub(written).unwrap_or_else(|| {
            self.ahead.fetch_add(1, Ordering::Relaxed);
            Duration::ZERO
        });
        let seconds = taken.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let millis = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
        self.millis.fetch_add(millis, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Durations {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Durations {
            buckets: self.buckets.iter().map(load).collect(),
            seconds: load(&self.millis) as f64 / 1e3,
            ahead: load(&self.ahead),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [I8]
    #[test]
    fn a_change_counts_from_when_its_object_was_written() {
        let programming = Programming::default();
        let at = |millis| UNIX_EPOCH + Duration::from_millis(millis);
        // 0.25 s, 1.5 s, an hour, and one from a clock that is ahead.
        for (written, now) in [(100, 100_250), (100, 101_500), (100, 3_700_000), (200, 199_999), (-5, 400)] {
            programming.count(written, at(now));
        }
        let Durations { buckets, seconds, ahead } = programming.read();
        assert_eq!(buckets, [3, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!((seconds, ahead), (0.25 + 1.5 + 3600.0 + 0.4, 1));
    }
}
