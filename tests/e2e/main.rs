//! The program against a real etcd and a real kube-apiserver.
//!
//! `tests/e2e/run` provides both and runs everything here; without it the tests are ignored
//! and say why. Each test starts the real binary on free ports of loopback. The tests
//! share one control plane, one at a time; those that need an empty or a large one start their own.

mod cluster;
mod cluster_dns;
mod control_plane;
#[path = "../coredns/coredns.rs"]
mod coredns;
mod credentials;
mod dns;
mod gate;
mod observer;
#[path = "../coredns/pod.rs"]
mod pod;
mod process;
mod program;
#[path = "../oracle/random.rs"]
mod random;
mod wait;

mod commands;
mod entries;
mod events;
mod faults;
mod forwarding;
mod load;
mod manifests;
mod outages;
mod rights;
mod soak;
mod state;
mod stub_domains;
mod stub_race;
mod versions;
