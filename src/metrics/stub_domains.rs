//! The metrics of stub domains, there only where they are looked after.

use prometheus::proto::MetricFamily;

use super::family::FamilyBuilder;
use crate::stub::record::State;
use crate::stub::tally::{Numbers, ROLES, Tally};

/// One number of a role.
type Count = fn(&Numbers) -> u64;

pub(super) fn families(tally: &Tally) -> Vec<MetricFamily> {
    let mut state = FamilyBuilder::gauge(
        "globaldns_stub_domains_state",
        "1 for the state each layer of cluster DNS is in, 0 for the others.",
    );
    let mut counters: Vec<(FamilyBuilder, Count)> = vec![
        (
            FamilyBuilder::counter(
                "globaldns_stub_domains_writes_total",
                "Objects of cluster DNS written by this replica.",
            ),
            |numbers| numbers.writes,
        ),
        (
            FamilyBuilder::counter(
                "globaldns_stub_domains_reverts_total",
                "Times others undid an edit, as seen by the replica that writes.",
            ),
            |numbers| numbers.reverts,
        ),
        (
            FamilyBuilder::counter(
                "globaldns_stub_domains_rollbacks_total",
                "Edits this replica undid because they were not proved in time.",
            ),
            |numbers| numbers.rollbacks,
        ),
    ];
    let mut proofs = FamilyBuilder::counter(
        "globaldns_stub_domains_proofs_total",
        "Proofs tried through every endpoint of cluster DNS, by result.",
    );
    for role in ROLES {
        let numbers = tally.numbers(role);
        let Some(now) = numbers.state else { continue };
        let layer = ("layer", role.as_str());
        for one in State::ALL {
            state.add(&[layer, ("state", one.as_str())], f64::from(u8::from(one == now)));
        }
        for (family, count) in &mut counters {
            family.add(&[layer], count(&numbers) as f64);
        }
        proofs.add(&[layer, ("result", "proved")], numbers.proved as f64);
        proofs.add(&[layer, ("result", "unproved")], numbers.unproved as f64);
    }
    let leader = FamilyBuilder::gauge(
        "globaldns_stub_domains_leader",
        "1 while this replica is the one that writes stub domains.",
    );
    let leader = leader.with(&[], f64::from(u8::from(tally.leads())));
    let counters = counters.into_iter().map(|(family, _)| family.done());
    [state.done(), proofs.done(), leader.done()].into_iter().chain(counters).collect()
}
