//! The metrics of Events, there only where they are written.

use prometheus::proto::MetricFamily;

use super::family::FamilyBuilder;
use crate::events::tally::{Outcome, Tally};

pub(super) fn families(tally: &Tally) -> Vec<MetricFamily> {
    let mut events = FamilyBuilder::counter(
        "globaldns_events_total",
        "Kubernetes Events about findings that this replica wanted to write, by what came of it.",
    );
    for outcome in Outcome::ALL {
        events.add(&[("result", outcome.as_str())], tally.of(outcome) as f64);
    }
    let leader = FamilyBuilder::gauge(
        "globaldns_events_leader",
        "1 while this replica is the one that writes Events about findings.",
    );
    vec![events.done(), leader.with(&[], f64::from(u8::from(tally.leads()))).done()]
}
