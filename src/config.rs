//! One immutable configuration, made from flags and environment once; nothing reads either afterwards.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::admin::host::HostNames;
use crate::admin::peers::PeerName;
use crate::entry::Rules;
use crate::index::Policy;
use crate::insight;
use crate::serve::access::Access;
use crate::serve::limiter::Limits;
use crate::serve::responder::Settings;
use crate::serve::tls;
use crate::source::advertise::ServiceName;
use crate::stub::controller::Mode;
use crate::wire::name::Name;
use crate::zone::{Ownership, Zones};

/// A configuration that cannot be used (exit code 2). The text names flag, value, reason and remedy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub String);

/// What the name table is made from: shared by every command that builds one.
#[derive(Debug)]
pub struct TableConfig {
    /// `--zone` (Z1).
    pub zones: Vec<Name>,
    /// The reverse zones of `--reverse` (D22).
    pub reverse: Vec<Name>,
    /// `--txt` (D24).
    pub diagnoses: bool,
    /// `--cluster-domain` (Z2).
    pub cluster_domain: Name,
    /// `--zone-owner` (O6).
    pub zone_owners: Vec<Ownership>,
    /// Where entries come from.
    pub sources: Sources,
    /// How an entry is read.
    pub rules: Rules,
    /// Who owns a host.
    pub policy: Policy,
    /// `--negative-ttl`, seconds (D4).
    pub negative_ttl: u32,
    /// `--advertise-address` (D5).
    pub advertise_addresses: Vec<IpAddr>,
    /// `--advertise-service` (D5).
    pub advertise_service: Option<ServiceName>,
}

impl TableConfig {
    /// The zones with their owners; refused ones are a [`ConfigError`] (Z2, O6). `now` is the first serial.
    pub fn zones(&self, now: u32) -> Result<Zones, ConfigError> {
        Zones::new(self.zones.clone(), self.cluster_domain.clone(), now)
            .map_err(|error| ConfigError(format!("--zone: {error}")))?
            .owned_by(self.zone_owners.clone())
            .map_err(|error| ConfigError(format!("--zone-owner: {error}")))?
            .with_reverse(self.reverse.clone(), now)
            .map_err(|error| ConfigError(format!("--reverse: {error}")))
    }
}

/// Where entries come from (S1, S2, S4).
#[derive(Clone, Debug)]
pub struct Sources {
    /// Files and directories, `-` for standard input.
    pub files: Vec<PathBuf>,
    /// The cluster, unless only files are served.
    pub cluster: Option<ClusterSource>,
}

/// Which cluster, and how much of it.
#[derive(Clone, Debug)]
pub struct ClusterSource {
    /// `--kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `--context`.
    pub context: Option<String>,
    /// `--namespace`; empty means all.
    pub namespaces: Vec<String>,
}

impl ClusterSource {
    /// What is watched on its own: each namespace, or all at once.
    pub fn scopes(&self) -> Vec<Option<String>> {
        if self.namespaces.is_empty() {
            return vec![None];
        }
        self.namespaces.iter().cloned().map(Some).collect()
    }
}

/// The configuration of `globaldns serve`.
#[derive(Debug)]
pub struct Config {
    /// The name table.
    pub table: TableConfig,
    /// Chapter D.
    pub answers: Settings,
    /// `--listen`; empty for `off`.
    pub listen: Vec<Listen>,
    /// `--grpc-listen` (G1); empty for `off`.
    pub grpc_listen: Vec<Listen>,
    /// `--tls-listen`, `--https-listen`, `--quic-listen` (chapter E); `None` if all are `off`.
    pub encrypted: Option<Encrypted>,
    /// `--admin-listen`; `None` for `off`.
    pub admin_listen: Option<Listen>,
    /// `--admin-pages`; `None` for `off`.
    pub pages: Option<Pages>,
    /// `--workers` (L1): threads that answer UDP, per address.
    pub workers: usize,
    /// `--tcp-connections` (D14, G2, E5).
    pub tcp_connections: usize,
    /// `--lameduck` (L5).
    pub lameduck: Duration,
    /// `--metrics-compat` (G5).
    pub metrics_compat: MetricsCompat,
    /// `--stub-domains`; `None` for `off`.
    pub stub_domains: Option<StubDomains>,
    /// `--events` (F4).
    pub events: bool,
    /// `--state-dir`.
    pub state: Option<State>,
    /// `--cookies`; `None` for `off`.
    pub cookies: Option<CookieSecrets>,
    /// `--rate-limit`; `None` for 0.
    pub rate_limit: Option<Limits>,
    /// `--allow` and `--deny`.
    pub access: Option<Access>,
    /// `--top-lists` and `--query-log`.
    pub insight: insight::Settings,
}

/// The status page and the JSON API (chapter I).
#[derive(Clone, Debug)]
pub struct Pages {
    /// `--admin-host`, and what is ours anyway.
    pub hosts: HostNames,
    /// `--peers`.
    pub peers: Vec<PeerName>,
}

/// Where the secrets of cookies come from (D19).
#[derive(Clone, Debug)]
pub enum CookieSecrets {
    /// One that nobody knows, made at the start.
    Random,
    /// `--cookie-secret-file`.
    File(PathBuf),
}

/// DNS that nobody on the way can read (chapter E).
#[derive(Clone, Debug)]
pub struct Encrypted {
    /// `--tls-cert` and `--tls-key`.
    pub certificate: tls::Paths,
    /// `--tls-listen`.
    pub tls: Vec<Listen>,
    /// `--https-listen`.
    pub https: Vec<Listen>,
    /// `--https-path`.
    pub path: String,
    /// `--quic-listen`.
    pub quic: Vec<Listen>,
}

/// Where entries are saved (L6).
#[derive(Clone, Debug)]
pub struct State {
    /// `--state-dir`.
    pub directory: PathBuf,
    /// `--state-max-age`.
    pub max_age: Duration,
}

/// The names of another server's metrics that ours are offered under as well (G5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsCompat {
    /// None.
    Off,
    /// Those of CoreDNS's plugin `prometheus`.
    Coredns,
}

/// Looking after cluster DNS's stub domains (chapter T).
#[derive(Clone, Debug)]
pub struct StubDomains {
    /// `--stub-domains`.
    pub mode: Mode,
    /// `--stub-domains-edit-managed`.
    pub edit_managed: bool,
    /// `--stub-domains-timeout`: how long an edit may take to be proved.
    pub timeout: Duration,
}

/// The host's name, at most so many octets of it; in a pod it is the pod's.
pub fn host_name(longest: usize) -> Vec<u8> {
    let mut name = nix::unistd::gethostname().map(|name| name.into_encoded_bytes()).unwrap_or_default();
    name.truncate(longest);
    name
}

/// An address to listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address.
    pub address: SocketAddr,
    /// No host was named: `[::]` may become `0.0.0.0` (L1).
    pub any_host: bool,
}

impl Listen {
    /// Reads `HOST:PORT`, `HOST` (with `default_port`), `:PORT`, or `None` for `off`.
    pub fn parse(text: &str, default_port: u16) -> Result<Option<Listen>, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(None);
        }
        let named = |address| Some(Listen { address, any_host: false });
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(named(address));
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
        if let Ok(ip) = bare.parse::<IpAddr>() {
            return Ok(named(SocketAddr::new(ip, default_port)));
        }
        if let Some(port) = text.strip_prefix(':') {
            let port = port.parse().map_err(|_| format!("{port:?} is not a port from 0 to 65535"))?;
            let address = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port);
            return Ok(Some(Listen { address, any_host: true }));
        }
        Err("write ADDRESS:PORT (127.0.0.1:5353, [::1]:53), ADDRESS, :PORT or off".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [L1]
    #[test]
    fn listen_addresses_in_every_form() {
        let cases = [
            ("127.0.0.1:5353", Some("127.0.0.1:5353"), false),
            ("[::1]:53", Some("[::1]:53"), false),
            ("::1", Some("[::1]:53"), false),
            ("[::]", Some("[::]:53"), false),
            ("10.0.0.1", Some("10.0.0.1:53"), false),
            (":9153", Some("[::]:9153"), true),
            ("off", None, false),
            ("OFF", None, false),
        ];
        for (text, address, any_host) in cases {
            let expected = address.map(|a| Listen { address: a.parse().expect(a), any_host });
            assert_eq!(Listen::parse(text, 53), Ok(expected), "{text}");
        }
        for text in ["", "localhost:53", "1.2.3.4:99999", ":x", "1.2.3"] {
            assert!(Listen::parse(text, 53).is_err(), "{text}");
        }
    }
}
