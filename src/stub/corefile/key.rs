//! What a key of a server block names: a zone, a port and a transport.
//!
//! This follows CoreDNS's `InspectServerBlocks` (core/dnsserver/register.go) and `SplitHostPort` (plugin/normalize.go).

use std::borrow::Cow;
use std::net::IpAddr;

use super::Process;
use crate::wire::name::{MAX_LABEL, MAX_WIRE, Name};

/// A zone and port that a file's server blocks serve, or try to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The key as it is written, without the comma after it.
    pub key: String,
    /// Its line, from 1.
    pub line: usize,
    /// The zone.
    pub zone: Zone,
    /// The port; `None` where a variable may hold it, or the transport has none.
    pub port: Option<u16>,
    /// The scheme: `dns` unless another is written.
    pub transport: &'static str,
}

/// What zone a key names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Zone {
    /// `.`
    Root,
    /// A zone that could be one of ours.
    Name(Name),
    /// A zone that could not: lower-case, with a trailing dot; or a network as it is written.
    Other(String),
    /// The key holds a variable whose value is not known.
    Unknown,
    /// CoreDNS does not take the key, for this reason.
    Invalid(String),
}

/// The schemes CoreDNS knows, with their ports, in the order it tries them.
const TRANSPORTS: [(&str, Option<u16>); 7] = [
    ("tls", Some(853)),
    ("dns", None),
    ("quic", Some(853)),
    ("grpc", Some(443)),
    ("https3", Some(443)),
    ("https", Some(443)),
    ("unix", None),
];

impl Claim {
    /// The claim of a key, whose value is `None` where it holds a variable that is not known.
    pub(super) fn read(key: String, line: usize, value: Option<&str>, default_port: u16) -> Claim {
        let (transport, usual_port, rest) = split_transport(value.unwrap_or(&key));
        let mut claim = Claim { line, zone: Zone::Unknown, port: None, transport, key: String::new() };
        if value.is_none() {
            claim.port = split_port(rest).1.and_then(|port| u16::try_from(port).ok());
            return Claim { key, ..claim };
        }
        claim.port = if transport == "dns" { Some(default_port) } else { usual_port };
        let (host, port) = split_port(rest);
        claim.zone = zone(host, rest);
        if let Some(port) = port {
            claim.port = u16::try_from(port).ok();
            if claim.port.is_none() {
                claim.zone = Zone::Invalid(format!("{port} is no port"));
            }
        }
        Claim { key, ..claim }
    }

    /// Whether this is the server of `zone` on `port` for plain DNS.
    pub fn serves(&self, zone: &Name, port: u16) -> bool {
        self.is_asked_on(port) && matches!(&self.zone, Zone::Name(name) if name == zone)
    }

    /// Whether plain DNS on `port` comes here.
    pub fn is_asked_on(&self, port: u16) -> bool {
        self.transport == "dns" && self.port == Some(port)
    }

    /// Whether a variable could make this the server of `zone` on `port` for plain DNS.
    pub fn could_serve(&self, zone: &Name, port: u16) -> bool {
        if self.zone != Zone::Unknown || self.transport != "dns" || self.port.is_some_and(|p| p != port) {
            return false;
        }
        let (_, _, rest) = split_transport(&self.key);
        let first = [rest.find("{$"), rest.find("{%")].into_iter().flatten().min().unwrap_or(0);
        let (head, _) = rest.split_at(first);
        let tail = rest.rsplit_once('}').map_or("", |(_, tail)| split_port(tail).0);
        let (head, tail) = (head.to_lowercase(), tail.to_lowercase());
        let tail = tail.strip_suffix('.').unwrap_or(&tail);
        let zone = zone.to_string();
        zone.len() >= head.len() + tail.len() && zone.starts_with(&head) && zone.ends_with(tail)
    }
}

fn split_transport(key: &str) -> (&'static str, Option<u16>, &str) {
    TRANSPORTS
        .iter()
        .find_map(|&(name, port)| {
            let rest = key.strip_prefix(name)?.strip_prefix("://")?;
            Some((name, port, rest))
        })
        .unwrap_or(("dns", None, key))
}

/// A number after the last colon is a port; anything else belongs to the name.
fn split_port(text: &str) -> (&str, Option<i64>) {
    let split = text.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    split.map_or((text, None), |(host, port)| (host, Some(port)))
}

fn zone(host: &str, with_port: &str) -> Zone {
    if with_port.is_empty() || with_port.ends_with(':') {
        return Zone::Invalid("nothing follows its last colon".to_owned());
    }
    if host == "." {
        return Zone::Root;
    }
    if let Ok(name) = Name::parse(host) {
        return Zone::Name(name);
    }
    if host.len() > MAX_WIRE {
        return Zone::Invalid(format!("it is {} octets long; {MAX_WIRE} are allowed", host.len()));
    }
    let labels = host.strip_suffix('.').unwrap_or(host);
    // A backslash may escape a dot; no zone of ours has one, so such a name is only carried.
    let bad = |label: &str| label.is_empty() || label.len() > MAX_LABEL;
    if !host.contains('\\') && labels.split('.').any(bad) {
        return Zone::Invalid("it is not a domain name".to_owned());
    }
    if let Some((ip, _)) = host.rsplit_once('/')
        && ip.parse::<IpAddr>().is_ok()
    {
        return Zone::Other(host.to_owned());
    }
    Zone::Other(format!("{}.", labels.to_lowercase()))
}

/// The text with the values of its variables; `None` where one is not known.
pub(super) fn expand<'t>(text: &'t str, process: &Process<'_>) -> Option<Cow<'t, str>> {
    let text = expand_form(text.into(), "{%", "%}", process)?;
    expand_form(text, "{$", "}", process)
}

/// Caddy's `replaceEnvReferences`, which goes on until no reference is left.
fn expand_form<'t>(
    mut text: Cow<'t, str>,
    open: &str,
    close: &str,
    process: &Process<'_>,
) -> Option<Cow<'t, str>> {
    // A value may hold references; one that held itself would keep CoreDNS busy for good.
    for _ in 0..100 {
        let Some(start) = text.find(open) else { return Some(text) };
        let Some(length) = text[start..].find(close) else { return Some(text) };
        if length <= open.len() {
            return Some(text);
        }
        let reference = &text[start..start + length + close.len()];
        let value = (process.env)(&reference[open.len()..length])?;
        text = text.replace(reference, &value).into();
    }
    None
}

/// Whether a variable's name goes over the end of a line: CoreDNS counts lines anew with it replaced, and takes what
/// follows in the line for the next one.
pub(super) fn expands_lines(text: &str) -> bool {
    text.contains('\n')
        && [("{%", "%}"), ("{$", "}")].iter().any(|(open, close)| {
            text.match_indices(open).any(|(at, _)| {
                text[at..]
                    .split(close)
                    .next()
                    .is_some_and(|name| name.len() < text.len() - at && name.contains('\n'))
            })
        })
}

#[cfg(test)]
mod tests;
