//! globaldns: authoritative DNS for the hosts of Istio ServiceEntries.
//!
//! # Map
//!
//! ```text
//! main → cli → config
//!          └→ app ─┬→ source::{files, cluster, advertise} → entry → index ─┐
//!                  │                                                       ├→ zone → wire
//!                  ├→ serve::{udp, tcp, grpc, https, quic} → responder ────┘
//!                  │                        └→ serve::hickory (what the responder declines)
//!                  ├→ stub::controller → engine ─┬→ survey → layout → plan → {corefile, kube_dns, openshift, …}
//!                  │                             ├→ decide → record
//!                  │                             └→ write, probe
//!                  ├→ events (findings as Kubernetes Events: desk → ledger, teller)
//!                  ├→ state (entries on disk ⇄ index, through the feeds of the sources)
//!                  ├→ insight (what is asked, beside the answers: taps of serve → top lists, query log)
//!                  ├→ admin → metrics
//!                  ├→ export (the table as text)
//!                  ├→ compare (another server's answers and ours)
//!                  ├→ explain (why a name resolves, or does not: from index, zone and responder)
//!                  └→ check (what entries, ranges and the world say together; places in files)
//! client: one question to one server, for compare and stub::probe
//! kubernetes: Lease, Events and limits of calls, for events and stub
//! lifecycle, limits, panics, telemetry, finding: leaves that anyone above `zone` may use
//! ```
//!
//! One **ServiceEntry event**: `source` has the object's JSON read into an [`entry::Entry`] (what it contributes,
//! and its [`finding`]s); [`index`] keeps it packed and recomputes the hosts it touches from all their live claims;
//! [`zone`] replaces the node of each host whose answers have changed.
//!
//! One **query**: [`serve::udp`], [`serve::tcp`], [`serve::grpc`], [`serve::https`] or [`serve::quic`] hands the octets to
//! [`serve::responder`], which parses them ([`wire::query`]), decides, and writes the reply ([`wire::reply`]) from the addresses in the node.
//!
//! Of some queries [`insight`] takes a copy, and counts or logs it on threads of its own. What the last changes were is in
//! [`index::history`].
//!
//! One **restart**: [`state`] has saved what the index holds; where a source cannot be heard for two seconds, it puts
//! that back, until the source's first list replaces it.
//!
//! One **stub domain**: [`stub::survey`] reads what cluster DNS is made of, [`stub::layout`] finds the places,
//! [`stub::plan`] says what has to change there, [`stub::decide`] what follows from what was recorded; [`stub::write`]
//! is the only file that writes what cluster DNS reads, and [`stub::probe`] proves it.
//!
//! # Rules
//!
//! - `wire`, `zone`, `entry`, `index` and `finding` are synchronous and free of tokio, kube and hickory; they
//!   are tested without a server, with a clock that is passed in.
//! - `serve` never imports `source`, nor `source` `serve`: they meet in the name table.
//! - `state` knows `source` and `index`, and neither knows it.
//! - Only `app` sees everything. It returns the addresses it bound, so tests run the real program on port 0.
//! - `docs/contract.md` numbers every promise; code and tests cite the clauses (`D13`).

pub mod admin;
pub mod app;
pub mod check;
pub mod cli;
pub mod client;
pub mod compare;
pub mod config;
pub mod entry;
pub mod events;
pub mod explain;
pub mod export;
pub mod finding;
pub mod index;
pub mod insight;
pub mod kubernetes;
pub mod lifecycle;
pub mod limits;
pub mod metrics;
pub mod panics;
pub mod serve;
pub mod source;
pub mod state;
pub mod stub;
pub mod telemetry;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod wire;
pub mod zone;

/// The package's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The commit it was built from, or `unknown`.
pub const COMMIT: &str = env!("GLOBALDNS_COMMIT");
