//! What becomes of a live value, and what the formats that live in other people's objects agree on.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value;

use super::{DNS_PORT, Refusal, RefusalKind, Stub};
use crate::wire::name::Name;

/// What becomes of a live value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit<T> {
    /// It means what it should: nothing is written, not even to reformat it.
    Unchanged,
    /// It is replaced by this.
    Set(T),
    /// Nothing is left of it: its key goes, and its object as well if we created it and it is empty then.
    Remove,
}

impl<T> Edit<T> {
    /// The value after the edit, given the one before.
    pub fn applied(self, before: Option<T>) -> Option<T> {
        match self {
            Edit::Unchanged => before,
            Edit::Set(after) => Some(after),
            Edit::Remove => None,
        }
    }
}

/// A server as a live object writes it: `IP`, `IP:port`, `[IPv6]:port`. `None` for anything else, as a host name.
pub(super) fn read_server(text: &str) -> Option<SocketAddr> {
    let address = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, DNS_PORT));
    address.or_else(|_| text.parse()).ok()
}

/// True if every server is one of `ours`; a server that is no address is someone else's.
pub(super) fn all_ours<'a>(servers: impl IntoIterator<Item = &'a str>, ours: &BTreeSet<SocketAddr>) -> bool {
    servers.into_iter().all(|text| read_server(text).is_some_and(|server| ours.contains(&server)))
}

/// The elements of a list at `place` that may be absent.
pub(super) fn elements(list: Option<&Value>, place: &str) -> Result<Vec<Value>, Refusal> {
    let wrong = |place: String, what: &str| {
        Err(Refusal::new(RefusalKind::Invalid, place, format!("it is not {what}"), "correct it"))
    };
    let list = match list {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => return wrong(place.to_owned(), "a list"),
    };
    match list.iter().position(|element| !element.is_object()) {
        None => Ok(list.clone()),
        Some(at) => wrong(format!("{place}[{at}]"), "an object"),
    }
}

/// The texts of a list; what is no text is an empty one, which is no zone and no server.
pub(super) fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().map(|item| item.as_str().unwrap_or_default()).collect()
}

/// True if both lists name the same servers, in whatever order, each once.
pub(super) fn same_servers(texts: &[&str], servers: &[SocketAddr]) -> bool {
    let wanted: BTreeSet<_> = servers.iter().copied().map(Some).collect();
    let there: BTreeSet<_> = texts.iter().map(|text| read_server(text)).collect();
    there == wanted && texts.len() == servers.len()
}

/// RFC 1123 as Kubernetes has it: labels of `a-z`, `0-9` and inner `-`, no trailing dot, 253 octets in all.
///
/// Labels of more than 63 octets pass Kubernetes' check; they could not be asked for, and are refused here.
pub(super) fn is_subdomain(text: &str) -> bool {
    let edge = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_label = |label: &str| {
        let octets = label.as_bytes();
        (1..=63).contains(&octets.len())
            && octets.iter().all(|c| edge(*c) || *c == b'-')
            && [octets.first(), octets.last()].into_iter().flatten().all(|c| edge(*c))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

/// Refuses our own zones where they are not RFC 1123 subdomains: the format's reader would drop the whole object.
pub(super) fn zones_are_subdomains(stub: &Stub, format: &str) -> Result<(), Refusal> {
    let spells = |zone: &&Name| !is_subdomain(&zone.to_string());
    match stub.zones().iter().find(spells) {
        None => Ok(()),
        Some(zone) => Err(Refusal::new(
            RefusalKind::Invalid,
            "",
            format!("{format} does not take the zone {zone}: a label there is letters, digits and inner '-'"),
            "choose a zone without '_' and without '-' at either end of a label",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subdomain_is_what_kubernetes_takes_for_one() {
        for good in ["global", "a", "cluster2", "eu-1.global", "9.a"] {
            assert!(is_subdomain(good), "{good}");
        }
        let long = format!("{0}.{0}.{0}.{0}", "a".repeat(63));
        for bad in ["", ".", "global.", "Global", "a_b", "-a", "a-", "a..b", "*.global", "ü", long.as_str()]
        {
            assert!(!is_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn a_server_is_an_address_with_or_without_port() {
        let read = |text| read_server(text).map(|s| s.to_string());
        assert_eq!(read("10.96.0.53").as_deref(), Some("10.96.0.53:53"));
        assert_eq!(read("10.96.0.53:5353").as_deref(), Some("10.96.0.53:5353"));
        assert_eq!(read("fd00::35").as_deref(), Some("[fd00::35]:53"));
        assert_eq!(read("[fd00::35]:1053").as_deref(), Some("[fd00::35]:1053"));
        for bad in ["", "dns.corp", "10.96.0", "010.0.0.1", "10.0.0.1:", "/etc/resolv.conf"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
