//! What a host has beside its addresses, where that is asked for: the services of its entries' ports (D23), and the
//! entries themselves (D24).

use std::fmt;
use std::sync::Arc;

use crate::wire::name::MAX_LABEL;

/// Services of one host, of all the entries that are merged for it. As SRV records of one name they take at most 34,944
/// octets, so a reply over TCP holds them all (S7, D13).
pub const MOST_SERVICES: usize = 128;
/// Priority of every SRV record: none comes before another.
pub const PRIORITY: u16 = 0;
/// Weight of every SRV record, as Kubernetes' DNS has it.
pub const WEIGHT: u16 = 100;
/// Entries of one host that its diagnosis names.
pub const MOST_NAMED: usize = 8;

/// A named port of an entry: an SRV record (RFC 2782).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Service {
    /// The port's name, a label in lower case without the underscore.
    pub name: Box<str>,
    /// Over what it is reached.
    pub protocol: Protocol,
    /// Its number, 1 to 65535.
    pub port: u16,
}

/// What carries a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// `_tcp`.
    Tcp,
    /// `_udp`.
    Udp,
}

impl Protocol {
    /// Both.
    pub(super) const BOTH: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
    /// Octets of a label on the wire.
    pub(super) const LABEL: usize = 5;

    /// Of a port of a ServiceEntry. Every protocol that Istio knows runs over TCP but this one, and one that it does not
    /// know is TCP to it, too.
    pub fn of(istio: &str) -> Protocol {
        if istio.eq_ignore_ascii_case("UDP") { Protocol::Udp } else { Protocol::Tcp }
    }

    /// As a label on the wire.
    pub(super) fn label(self) -> &'static [u8; Protocol::LABEL] {
        match self {
            Protocol::Tcp => b"\x04_tcp",
            Protocol::Udp => b"\x04_udp",
        }
    }
}

impl Service {
    /// A service; `None` if the name, with an underscore in front, is no label, or the port is 0.
    pub fn new(name: &str, protocol: Protocol, port: u16) -> Option<Service> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let legal = (1..MAX_LABEL).contains(&name.len()) && name.chars().all(allowed) && port > 0;
        legal.then(|| Service { name: name.to_ascii_lowercase().into(), protocol, port })
    }
}

impl fmt::Display for Service {
    /// What is put in front of a host: `_http._tcp`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        write!(f, "_{}._{protocol}", self.name)
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extra {
    /// At most [`MOST_SERVICES`], sorted, each once.
    services: Box<[Service]>,
    /// At most [`MOST_NAMED`], the best first: `namespace/name`.
    entries: Box<[Box<str>]>,
    /// How many entries there are.
    count: u32,
}

impl Extra {
    /// What these services and entries are; `None` if there are none. The first services count.
    pub fn new(
        services: impl IntoIterator<Item = Service>,
        entries: impl IntoIterator<Item = String>,
    ) -> Option<Arc<Extra>> {
        let mut distinct = std::collections::BTreeSet::new();
        for service in services {
            if distinct.len() == MOST_SERVICES {
                break;
            }
            distinct.insert(service);
        }
        let (mut named, mut count) = (Vec::new(), 0);
        for entry in entries {
            count += 1;
            if named.len() < MOST_NAMED {
                named.push(entry.into_boxed_str());
            }
        }
        let extra = Extra { services: distinct.into_iter().collect(), entries: named.into(), count };
        (extra != Extra::default()).then(|| Arc::new(extra))
    }

    /// Every service, sorted.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// Those of one name, in whatever case, and protocol.
    pub fn of<'e>(&'e self, name: &'e [u8], protocol: Protocol) -> impl Iterator<Item = &'e Service> + Clone {
        let named = move |service: &&Service| {
            service.name.as_bytes().eq_ignore_ascii_case(name) && service.protocol == protocol
        };
        self.services.iter().filter(named)
    }

    /// The entries, the best first, and how many there are in all.
    pub fn entries(&self) -> (&[Box<str>], u32) {
        (&self.entries, self.count)
    }

    /// The same for equal ones on every machine.
    pub(super) fn octets(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        for Service { name, protocol, port } in &self.services {
            octets.extend(protocol.label());
            octets.extend(port.to_be_bytes());
            octets.push(name.len() as u8);
            octets.extend(name.as_bytes());
        }
        octets.extend(self.count.to_be_bytes());
        for entry in &self.entries {
            octets.extend((entry.len() as u32).to_be_bytes());
            octets.extend(entry.as_bytes());
        }
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(text: &str, port: u16) -> Service {
        let (name, protocol) = text.split_once('/').expect(text);
        Service::new(name, Protocol::of(protocol), port).expect(text)
    }

    /// [D23]
    #[test]
    fn every_protocol_but_udp_is_tcp() {
        for tcp in ["HTTP", "http2", "GRPC", "TLS", "MONGO", "TCP", "", "new"] {
            assert_eq!(Protocol::of(tcp), Protocol::Tcp, "{tcp}");
        }
        assert_eq!((Protocol::of("UDP"), Protocol::of("udp")), (Protocol::Udp, Protocol::Udp));
        assert_eq!(service("HTTP-web/HTTP", 80).to_string(), "_http-web._tcp");
        assert_eq!(service("dns/udp", 53).to_string(), "_dns._udp");
    }

    /// [D23]
    #[test]
    fn a_name_that_is_no_label_is_no_service() {
        let longest = "x".repeat(62);
        for (name, port, legal) in [
            ("http", 80, true),
            (longest.as_str(), 1, true),
            (&format!("{longest}x"), 1, false),
            ("", 1, false),
            ("a.b", 1, false),
            ("münchen", 1, false),
            ("http", 0, false),
        ] {
            assert_eq!(Service::new(name, Protocol::Tcp, port).is_some(), legal, "{name} {port}");
        }
    }

    /// [D23] [D24]
    #[test]
    fn services_are_distinct_sorted_and_bounded_and_entries_are_counted() {
        assert_eq!(Extra::new([], []), None);
        let given = [service("b/TCP", 2), service("a/TCP", 9), service("b/HTTP", 2), service("b/UDP", 2)];
        let extra = Extra::new(given, (0..20).map(|i| format!("ns/{i}"))).expect("something");
        let shown: Vec<_> = extra.services().iter().map(|s| format!("{s} {}", s.port)).collect();
        assert_eq!(shown, ["_a._tcp 9", "_b._tcp 2", "_b._udp 2"]);
        let (entries, count) = extra.entries();
        assert_eq!((entries.len(), &*entries[0], count), (MOST_NAMED, "ns/0", 20));
        let many = (1..=300).rev().map(|port| service("p/TCP", port));
        let extra = Extra::new(many, []).expect("something");
        assert_eq!((extra.services().len(), extra.services()[0].port), (MOST_SERVICES, 173));
    }
}
