//! The stub domains of cluster DNS: the configuration that makes cluster DNS forward our zones to us.
//!
//! Every format has a pure function in a file of its own (`corefile`, `kube_dns`, …): the live text or object, what
//! is wanted and what may be ours go in; the new text, or a [`Refusal`], comes out. Whether a zone then really
//! reaches us is asked by [`probe`].

pub mod controller;
pub mod corefile;
pub mod custom_dns;
pub mod decide;
pub mod edit;
pub mod emit;
pub mod engine;
#[cfg(test)]
pub(crate) mod fixture;
pub mod kube_dns;
pub mod layout;
pub mod openshift;
pub mod plan;
pub mod probe;
pub mod record;
pub mod survey;
pub mod tally;
pub mod write;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

pub use crate::client::DNS_PORT;
use crate::wire::name::Name;

/// The most servers CoreDNS's `forward` and OpenShift's `upstreams` take.
pub const MAX_SERVERS: usize = 15;

/// What cluster DNS is to do: send every look-up in `zones` to one of `servers`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stub {
    zones: Vec<Name>,
    servers: Vec<SocketAddr>,
}

/// Why a stub domain cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StubError {
    /// No zone.
    #[error("no zone is given")]
    NoZone,
    /// No server address: an empty one was written as `forward .` once and took a cluster's DNS down.
    #[error("no server address is given; it is the ClusterIP of the Service in front of globaldns")]
    NoServer,
    /// More than a format takes.
    #[error("{0} server addresses are given; at most {MAX_SERVERS} can be written")]
    TooManyServers(usize),
    /// An address nobody can be asked at.
    #[error(
        "{0} is not an address a resolver can ask; give the ClusterIP of the Service in front of globaldns"
    )]
    Address(SocketAddr),
}

impl Stub {
    /// Zones and servers keep their order; repetitions are dropped.
    pub fn new(
        zones: impl IntoIterator<Item = Name>,
        servers: impl IntoIterator<Item = SocketAddr>,
    ) -> Result<Stub, StubError> {
        let zones = unique(zones);
        let servers = unique(servers);
        if zones.is_empty() {
            return Err(StubError::NoZone);
        }
        if servers.is_empty() {
            return Err(StubError::NoServer);
        }
        if servers.len() > MAX_SERVERS {
            return Err(StubError::TooManyServers(servers.len()));
        }
        if let Some(bad) = servers.iter().find(|s| !can_be_asked(s)) {
            return Err(StubError::Address(*bad));
        }
        Ok(Stub { zones, servers })
    }

    /// At least one, each once.
    pub fn zones(&self) -> &[Name] {
        &self.zones
    }

    /// Whether a reverse zone (D22) is among the zones.
    pub fn has_reverse(&self) -> bool {
        self.zones.iter().any(|zone| crate::zone::reverse::addresses(zone.wire()).is_some())
    }

    /// One to [`MAX_SERVERS`], each once.
    pub fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }
}

fn unique<T: PartialEq>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    items.into_iter().fold(Vec::new(), |mut seen, item| {
        if !seen.contains(&item) {
            seen.push(item);
        }
        seen
    })
}

fn can_be_asked(server: &SocketAddr) -> bool {
    let ip = server.ip();
    server.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && ip != IpAddr::from([255; 4])
}

/// `IP` where the port is 53, else `IP:port` or `[IPv6]:port`: as CoreDNS, kube-dns and OpenShift write a server.
pub fn server_text(server: &SocketAddr) -> String {
    if server.port() == DNS_PORT { server.ip().to_string() } else { server.to_string() }
}

/// What in a live object may be ours: the zones and servers wanted now, and those we recorded writing before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ours {
    /// Zones of ours, now and before.
    pub zones: BTreeSet<Name>,
    /// Servers of ours, now and before.
    pub servers: BTreeSet<SocketAddr>,
}

impl Ours {
    /// Adds what a stub names.
    pub fn with(mut self, stub: &Stub) -> Ours {
        self.zones.extend(stub.zones.iter().cloned());
        self.servers.extend(stub.servers.iter().copied());
        self
    }
}

/// Why a live object is not edited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal.
    pub kind: RefusalKind,
    /// Where: `line 12`, `stubDomains["corp"]`, `spec.servers[1]`; empty for the whole object.
    pub place: String,
    /// Why, in one clause.
    pub why: String,
    /// What to do, in one clause.
    pub remedy: String,
}

/// What kind of refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    /// Someone else serves one of our zones there.
    Conflict,
    /// What is there is broken already: our edit could not take effect, or would be blamed.
    Invalid,
    /// We cannot be sure what an edit would do.
    Unsure,
}

impl Refusal {
    /// A refusal.
    pub fn new(
        kind: RefusalKind,
        place: impl Into<String>,
        why: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Refusal {
        Refusal { kind, place: place.into(), why: why.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        write!(f, "{}; {}", self.why, self.remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(text: &str) -> Name {
        Name::parse(text).expect(text)
    }

    fn server(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_stub_has_zones_and_askable_servers_each_once() {
        let stub = Stub::new(
            [zone("global"), zone("Cluster2."), zone("GLOBAL")],
            [server("10.96.0.53:53"), server("10.96.0.53:53")],
        )
        .expect("a stub");
        assert_eq!(stub.zones(), [zone("global"), zone("cluster2")]);
        assert_eq!(stub.servers(), [server("10.96.0.53:53")]);
    }

    #[test]
    fn what_cannot_be_asked_is_no_server() {
        assert_eq!(Stub::new([], [server("10.0.0.1:53")]), Err(StubError::NoZone));
        assert_eq!(Stub::new([zone("global")], []), Err(StubError::NoServer));
        for bad in ["0.0.0.0:53", "[::]:53", "224.0.0.251:53", "255.255.255.255:53", "10.0.0.1:0"] {
            let bad = server(bad);
            assert_eq!(Stub::new([zone("global")], [bad]), Err(StubError::Address(bad)));
        }
        let many = (1..=16).map(|i| server(&format!("10.0.0.{i}:53")));
        assert_eq!(Stub::new([zone("global")], many), Err(StubError::TooManyServers(16)));
    }

    #[test]
    fn a_server_is_written_with_its_port_only_where_it_is_not_53() {
        assert_eq!(server_text(&server("10.96.0.53:53")), "10.96.0.53");
        assert_eq!(server_text(&server("10.96.0.53:5353")), "10.96.0.53:5353");
        assert_eq!(server_text(&server("[fd00::35]:53")), "fd00::35");
        assert_eq!(server_text(&server("[fd00::35]:1053")), "[fd00::35]:1053");
    }
}
