//! New findings reach the log, the metrics (F1) and Events (F4): one search for all.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use tokio_util::sync::CancellationToken;

use crate::events::{Desk, Round};
use crate::finding::{Code, Finding, Severity};
use crate::index::Index;
use crate::metrics::Metrics;
use crate::panics::{self, Place};
use crate::source::Status;

/// How often new findings are looked for after a change.
const EVERY: Duration = Duration::from_secs(1);
/// The most findings logged at once.
const LOGGED: usize = 50;

/// Counts findings for the metrics and logs new ones (F1), at most once a second and only after changes, or when Events ask
/// for more. Also looks whether the index is broken.
pub(super) async fn watch(
    index: Arc<Index>,
    metrics: Arc<Metrics>,
    desk: Option<Arc<Desk>>,
    sources: Vec<Arc<Status>>,
    broken: CancellationToken,
) {
    let hasher = RandomState::default();
    let mut known: HashSet<u64> = HashSet::new();
    let mut seen = None;
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let version = index.version();
        if index.is_broken() {
            broken.cancel();
            return;
        }
        let awaited = (!index.table().is_complete()).then(|| unheard(&sources));
        if let Some(desk) = &desk {
            desk.awaits(awaited.clone());
        }
        let desk = desk.as_ref().filter(|_| awaited.is_none());
        let asked = desk.is_some_and(|desk| desk.wants_search());
        if seen == Some(version) && !asked {
            continue;
        }
        seen = Some(version);
        // Of a large mesh this takes a while: events must not wait for it.
        let source = index.clone();
        let hasher = hasher.clone();
        let round = desk.and_then(|desk| desk.begin());
        let search = move || {
            let seen = panics::contain(Place::Findings, || Seen::search(&source, hasher, &known, round));
            (seen, known)
        };
        let Ok((found, before)) = tokio::task::spawn_blocking(search).await else { return };
        known = before;
        let Some(Seen { counts, hashes, news, first, round }) = found else { continue };
        if let (Some(desk), Some(round)) = (desk, round) {
            desk.finish(round, index.version() == version);
        }
        for finding in &first {
            tracing::warn!(code = finding.code.as_str(), object = finding.object, "{finding}");
        }
        if news > first.len() {
            tracing::warn!(more = news - first.len(), "more findings; globaldns_findings counts them");
        }
        known = hashes;
        metrics.set_findings(counts.into_iter().collect());
    }
}

/// The sources that have not delivered yet.
fn unheard(sources: &[Arc<Status>]) -> String {
    let names: Vec<_> =
        sources.iter().filter(|source| !source.is_complete()).map(|source| source.name()).collect();
    format!("the first complete list of {}", names.join(", "))
}

/// What is kept of all findings: there may be many times more of them than of what they are about (S7).
#[derive(Default)]
struct Seen {
    counts: BTreeMap<Code, u64>,
    hashes: HashSet<u64>,
    /// How many are new, and the first of them.
    news: usize,
    first: BTreeSet<Finding>,
    round: Option<Round>,
}

impl Seen {
    fn search(index: &Index, hasher: RandomState, known: &HashSet<u64>, round: Option<Round>) -> Seen {
        let mut seen = Seen { round, ..Seen::default() };
        index.search(&mut |finding| seen.see(finding, &hasher, known));
        seen
    }

    fn see(&mut self, finding: Finding, hasher: &RandomState, known: &HashSet<u64>) {
        let hash = hasher.hash_one(&finding);
        if !self.hashes.insert(hash) {
            return;
        }
        *self.counts.entry(finding.code).or_default() += 1;
        if let Some(round) = &mut self.round {
            round.see(&finding);
        }
        if finding.code.severity() == Severity::Info || known.contains(&hash) {
            return;
        }
        self.news += 1;
        self.first.insert(finding);
        if self.first.len() > LOGGED {
            self.first.pop_last();
        }
    }
}
