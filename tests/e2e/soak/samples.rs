//! What the process takes, again and again, and whether that grows.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::{Value, json};

use super::Shared;
use super::clients::Pace;

/// What may come and go: connections of bad clients, a few pages more or less of what is free.
const SLACK_RESIDENT: u64 = 1024;
const SLACK_DESCRIPTORS: u64 = 15;

#[derive(Clone, Debug)]
struct Sample {
    at: Duration,
    /// KiB: all, and without what is of files.
    resident: u64,
    anonymous: u64,
    threads: u64,
    descriptors: u64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Sample>);

/// The medians of something over the middle third of the time and the last one.
#[derive(Debug)]
pub(crate) struct Growth {
    what: &'static str,
    middle: u64,
    last: u64,
    slack: u64,
}

impl Samples {
    /// Every ten seconds, or more often if there is less time; a line for people every minute.
    pub(crate) fn take(shared: &Shared, length: Duration) -> Self {
        let every = (length / 60).min(Duration::from_secs(10));
        let mut samples = Self::default();
        let mut pace = Pace::new(every);
        let mut told = Duration::ZERO;
        while shared.goes_on(&mut pace) {
            let Some(sample) = Sample::of(shared.pid.load(Ordering::SeqCst), shared.begun.elapsed()) else {
                continue;
            };
            record(&sample.json());
            let right: Vec<u64> =
                shared.counts.right.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            if sample.at >= told {
                told = sample.at + Duration::from_secs(60).min(length / 6);
                println!(
                    "{} {right:?} right over UDP, TCP, gRPC; {} changes, {} faults; {} KiB, {} descriptors, {} threads",
                    shared.clock(),
                    shared.counts.changes.load(Ordering::Relaxed),
                    shared.counts.faults.load(Ordering::Relaxed),
                    sample.resident,
                    sample.descriptors,
                    sample.threads
                );
            }
            samples.0.push(sample);
        }
        samples
    }

    /// Those of one process.
    pub(crate) fn until(mut self, end: Duration) -> Self {
        self.0.retain(|sample| sample.at <= end);
        self
    }

    pub(crate) fn growth(&self) -> Vec<Growth> {
        let third = self.0.len() / 3;
        assert!(third > 0, "too few samples: {self:?}");
        let (middle, last) = (&self.0[third..2 * third], &self.0[2 * third..]);
        let growth = |what, field: fn(&Sample) -> u64, slack| Growth {
            what,
            middle: median(middle, field),
            last: median(last, field),
            slack,
        };
        let resident = growth("resident KiB", |sample| sample.resident, SLACK_RESIDENT);
        let twentieth = resident.middle / 20;
        vec![
            Growth { slack: resident.slack.max(twentieth), ..resident },
            growth("anonymous KiB", |sample| sample.anonymous, SLACK_RESIDENT.max(twentieth)),
            growth("threads", |sample| sample.threads, 0),
            growth("descriptors", |sample| sample.descriptors, SLACK_DESCRIPTORS),
        ]
    }
}

impl Growth {
    pub(crate) fn is_flat(&self) -> bool {
        self.last <= self.middle + self.slack
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "what": self.what, "middle": self.middle, "last": self.last, "slack": self.slack })
    }
}

fn median(samples: &[Sample], field: fn(&Sample) -> u64) -> u64 {
    let mut values: Vec<u64> = samples.iter().map(field).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

impl Sample {
    /// `None` if there is no such process.
    fn of(pid: u32, at: Duration) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        Some(Self {
            at,
            resident: field("VmRSS:")?,
            anonymous: field("RssAnon:")?,
            threads: field("Threads:")?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
        })
    }

    fn json(&self) -> Value {
        json!({
            "seconds": self.at.as_secs_f64(),
            "resident_kib": self.resident,
            "anonymous_kib": self.anonymous,
            "threads": self.threads,
            "descriptors": self.descriptors,
        })
    }
}

/// Adds a line to the file that `tests/soak/run` keeps.
pub(crate) fn record(row: &Value) {
    let Some(path) = std::env::var_os("GLOBALDNS_SOAK_RECORD") else { return };
    let file = std::fs::File::options().create(true).append(true).open(path);
    let written = file.and_then(|mut file| writeln!(file, "{row}"));
    written.expect("keep a row of the record");
}
