//! A hash of a zone's answers, by which replicas are compared (L8).
//!
//! It is the sum over all hosts, so the order in which they came leaves no trace, and a change costs what its host costs.
//! XXH3 is the same on every processor, unlike the table's own hash. Nobody gains by a collision: who can write
//! ServiceEntries need not hide them from a comparison.

use std::net::IpAddr;

use twox_hash::XxHash3_64;

use super::Host;
use super::answer::AnswersRef;

/// What one host adds. `octets` is its name before the zone.
pub(super) fn of(host: &Host, octets: &[u8], answers: AnswersRef<'_>) -> u64 {
    let seed = u64::from(answers.ttl()) << 1 | u64::from(host.wildcard);
    let name = XxHash3_64::oneshot_with_seed(seed, octets);
    let v4 = XxHash3_64::oneshot_with_seed(name, answers.v4().as_flattened());
    let addresses = XxHash3_64::oneshot_with_seed(v4, answers.v6().as_flattened());
    match answers.extra() {
        None => addresses,
        Some(extra) => XxHash3_64::oneshot_with_seed(addresses, &extra.octets()),
    }
}

/// What one PTR record adds to its reverse zone.
pub(super) fn of_pointer(address: IpAddr, host: &[u8], ttl: u32) -> u64 {
    let name = XxHash3_64::oneshot_with_seed(ttl.into(), host);
    match address {
        IpAddr::V4(address) => XxHash3_64::oneshot_with_seed(name, &address.octets()),
        IpAddr::V6(address) => XxHash3_64::oneshot_with_seed(name, &address.octets()),
    }
}
