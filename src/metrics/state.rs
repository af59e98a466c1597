//! The metrics of saved state, there only with `--state-dir`.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::family::FamilyBuilder;
use crate::source::Status;
use crate::state::tally::Tally;

pub(super) fn families(tally: &Tally, sources: &[Arc<Status>]) -> Vec<MetricFamily> {
    let mut age = FamilyBuilder::gauge(
        "globaldns_state_age_seconds",
        "While answers come from saved state: seconds since its source was last heard.",
    );
    for source in sources {
        if let Some(heard) = source.saved() {
            age.add(&[("source", source.name())], heard.elapsed().unwrap_or_default().as_secs_f64());
        }
    }
    let mut saves =
        FamilyBuilder::counter("globaldns_state_saves_total", "Saves tried, by source and result.");
    let mut heard = FamilyBuilder::gauge(
        "globaldns_state_saved_timestamp_seconds",
        "Unix time until which the state on disk was known to be true, by source.",
    );
    let mut size =
        FamilyBuilder::gauge("globaldns_state_size_bytes", "Size of the state on disk, by source.");
    for source in tally.sources() {
        let label = ("source", source.name());
        for (result, count) in source.results() {
            saves.add(&[label, ("result", result)], count as f64);
        }
        if let Some((time, octets)) = source.on_disk() {
            heard.add(&[label], time as f64);
            size.add(&[label], octets as f64);
        }
    }
    let families = [age.done(), saves.done(), heard.done(), size.done()];
    families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
}
