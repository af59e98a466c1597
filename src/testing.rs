//! What the fuzzer (`tests/fuzz`) and property tests share: checks that make what they need of any octets.
//!
//! A check panics where a rule is broken. One that needs what its module keeps to itself is in that module; the others
//! are here.

mod index;
mod names;
mod octets;
mod stub_domains;

pub(crate) use octets::Octets;
pub(crate) use stub_domains::value;

/// Makes what it needs of octets, and panics where a rule is broken.
pub type Check = fn(&[u8]);

/// Every target of the fuzzer.
pub const TARGETS: [(&str, Check); 11] = [
    ("parity", |octets| _ = crate::serve::parity::check(octets)),
    ("edns", crate::serve::parity::edns::check),
    ("names", names::check),
    ("entry", crate::source::files::check::check),
    ("index", index::check),
    ("corefile", crate::stub::corefile::check::check),
    ("stub_json", stub_domains::check),
    ("state", crate::state::format::check::check),
    ("stream", |octets| match octets.split_first() {
        Some((0..128, rest)) => crate::serve::tcp::check::check(rest),
        rest => crate::serve::grpc::check::check(rest.map_or(&[], |(_, rest)| rest)),
    }),
    ("client", crate::client::check::check),
    ("arguments", crate::cli::fuzz::check),
];

/// The check of a target.
pub fn target(name: &str) -> Option<Check> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, check)| *check)
}

#[cfg(test)]
mod tests;
