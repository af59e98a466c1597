//! Under which names the pages may be asked for (I3).
//!
//! A page of somebody's, open in a browser that reaches this port, may let its own name point here a moment later (DNS
//! rebinding): then it is of the same origin as we are, and reads what we say. Its name tells: it is one that somebody can
//! register. So the `Host` of a request has to be one that nobody outside can make point anywhere.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, Uri, header};

use crate::wire::name::Name;

/// A header of a program that is no browser, whatever its value: a script can set none that begins like this (Fetch standard,
/// forbidden request-headers). The API server's proxy hands it on, and its own name as `Host`.
pub const NO_BROWSER: &str = "sec-globaldns";

/// The names that are ours.
#[derive(Clone, Debug)]
pub struct HostNames {
    /// `.svc.` and the cluster's domain.
    services: String,
    /// `--admin-host`.
    listed: Vec<String>,
}

impl HostNames {
    /// Of this cluster, and those listed; `*` is every name.
    pub fn new(cluster_domain: &Name, listed: &[String]) -> HostNames {
        let listed = listed.iter().map(|name| normal(name)).collect();
        HostNames { services: format!(".svc.{cluster_domain}"), listed }
    }

    /// Whether a `Host` is one of ours: an address, `localhost`, a name without a dot, a Service's, or one that is listed.
    pub(super) fn allow(&self, host: &str) -> bool {
        let name = normal(without_port(host));
        is_local(host)
            || name.ends_with(".localhost")
            || !name.is_empty() && !name.contains(['.', '['])
            || name.ends_with(".svc")
            || name.ends_with(&self.services)
            || self.listed.iter().any(|listed| *listed == name || listed == "*")
    }
}

/// Whether a `Host` is an address or `localhost`, which nobody can let point anywhere, whatever is listed.
pub(super) fn is_local(host: &str) -> bool {
    let name = without_port(host);
    if let Some(v6) = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().is_ok();
    }
    let name = normal(name);
    name == "localhost" || name.parse::<IpAddr>().is_ok()
}

/// The host that a request is for. RFC 9112 section 3.2.2: a whole URI has it in it. HTTP/1.0 may have none, and no browser
/// speaks that.
pub(super) fn of<'r>(uri: &'r Uri, headers: &'r HeaderMap) -> Option<&'r str> {
    let from_header = headers.get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    uri.authority().map(|authority| authority.as_str()).or(from_header)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|octet| octet.is_ascii_digit()) => name,
        _ => host,
    }
}

fn normal(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [I3]
    #[test]
    fn a_name_that_somebody_can_register_is_none_of_ours() {
        let domain = Name::parse("cluster.local").expect("a name");
        let names = HostNames::new(&domain, &["DNS.example.com".to_owned()]);
        let cases = [
            ("127.0.0.1:9153", true),
            ("127.0.0.1", true),
            ("10.1.2.3:80", true),
            ("[::1]:9153", true),
            ("[fd00::7]", true),
            ("localhost:9153", true),
            ("LOCALHOST", true),
            ("a.localhost", true),
            ("globaldns:9153", true),
            ("globaldns.istio-system.svc:9153", true),
            ("globaldns.istio-system.svc.cluster.local", true),
            ("globaldns.istio-system.svc.cluster.local.:9153", true),
            ("dns.example.com:9153", true),
            ("dns.example.com.", true),
            ("example.com", false),
            ("a.dns.example.com", false),
            // Whoever has evil.com has these.
            ("a.svc.evil.com", false),
            ("globaldns.svc.cluster.local.evil.com", false),
            ("127.0.0.1.evil.com:9153", false),
            ("localhost.evil.com", false),
            ("[::1].evil.com", false),
            ("", false),
            (":9153", false),
            ("[]", false),
        ];
        for (host, allowed) in cases {
            assert_eq!(names.allow(host), allowed, "{host:?}");
        }
        assert!(HostNames::new(&domain, &["*".to_owned()]).allow("example.com"));
    }
}
