//! The metrics of chapter I.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::family::FamilyBuilder;
use crate::insight::programming::BOUNDS;
use crate::insight::query_log::QueryLog;
use crate::insight::top::TopLists;
use crate::source::Status;

/// I8; of sources that tell when an object was written.
pub(super) fn programming(sources: &[Arc<Status>]) -> [MetricFamily; 2] {
    let mut durations = FamilyBuilder::histogram(
        "globaldns_programming_duration_seconds",
        "Time from the writing of a ServiceEntry, by its own timestamp in whole seconds, to its answers, by source.",
    );
    let mut ahead = FamilyBuilder::counter(
        "globaldns_programming_clock_ahead_total",
        "Changes written after they were answered, by the clocks: these differ. They count as 0 s.",
    );
    for source in sources {
        let Some(measured) = source.programming() else { continue };
        let labels = [("source", source.name())];
        durations.add_histogram(&labels, &BOUNDS, &measured.buckets, measured.seconds);
        ahead.add(&labels, measured.ahead as f64);
    }
    [durations.done(), ahead.done()]
}

/// I7.
pub(super) fn search_path(lists: &TopLists) -> MetricFamily {
    let mut queries = FamilyBuilder::counter(
        "globaldns_search_path_queries_total",
        "Queries for names that a search path has made and nobody has, by zone; estimated from a sample.",
    );
    for (zone, count) in lists.search_path_queries() {
        queries.add(&[("zone", &zone.apex().to_string())], count as f64);
    }
    queries.done()
}

/// I9.
pub(super) fn query_log(log: &QueryLog) -> [MetricFamily; 2] {
    let written = FamilyBuilder::counter("globaldns_query_log_lines_total", "Lines of the query log.");
    let dropped = FamilyBuilder::counter(
        "globaldns_query_log_dropped_total",
        "Lines left out of the query log: above --query-log-rate, or not taken by its output in time.",
    );
    [written.with(&[], log.written() as f64).done(), dropped.with(&[], log.dropped() as f64).done()]
}
