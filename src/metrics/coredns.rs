//! Our counts under the names of CoreDNS's plugin `prometheus`, those until 1.6 and those since 1.7 (G5).
//!
//! A name is offered only if what it means there is counted here, and a label only if it is known: the durations have
//! no zone and no type. What CoreDNS has beside these (sizes of messages, the DO bit, the plugins) is not counted here.

use std::net::SocketAddr;

use prometheus::proto::MetricFamily;

use super::family::FamilyBuilder;
use super::{DURATION_BOUNDS, FAMILIES, NO_ZONE, Sums, TYPES};
use crate::panics;
use crate::wire::{Rcode, Transport};

/// Types that CoreDNS counted as `other` until 1.6.
const NEW_TYPES: [&str; 1] = ["HTTPS"];
/// CoreDNS's label of queries that no zone of its covers.
const DROPPED: &str = "dropped";

/// The label `server`, as CoreDNS writes it: where one listens. Counts are not kept by address, so several share one.
#[derive(Debug)]
pub(super) struct Servers(Vec<(Transport, String)>);

impl Servers {
    pub(super) fn new(addresses: &[(Transport, &[SocketAddr])]) -> Servers {
        let join = |(transport, addresses): &(Transport, &[SocketAddr])| {
            let scheme = scheme(*transport);
            let one = |address: &SocketAddr| match address.ip().is_unspecified() {
                true => format!("{scheme}://:{}", address.port()),
                false => format!("{scheme}://{address}"),
            };
            (*transport, addresses.iter().map(one).collect::<Vec<_>>().join(","))
        };
        Servers(addresses.iter().map(join).collect())
    }

    /// Empty if nothing is served there.
    fn of(&self, transport: Transport) -> &str {
        let same = |other: Transport| scheme(other) == scheme(transport);
        self.0.iter().find(|(served, _)| same(*served)).map_or("", |(_, server)| server)
    }
}

fn scheme(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp | Transport::Tcp => "dns",
        Transport::Grpc => "grpc",
        Transport::Tls => "tls",
        Transport::Https => "https",
        Transport::Quic => "quic",
    }
}

/// CoreDNS looks at the kind of the client's address.
fn proto(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp | Transport::Quic => "udp",
        Transport::Tcp | Transport::Grpc | Transport::Tls | Transport::Https => "tcp",
    }
}

pub(super) fn families(
    sums: &Sums,
    zones: &[String],
    transports: impl Iterator<Item = (usize, Transport, &'static str)> + Clone,
    servers: &Servers,
) -> Vec<MetricFamily> {
    let served = transports.filter(|(_, transport, _)| !servers.of(*transport).is_empty());
    let counter = FamilyBuilder::counter;
    let requests_help = "Counter of DNS requests made per zone, protocol and family.";
    let mut request_count = counter("coredns_dns_request_count_total", requests_help);
    let mut requests = counter("coredns_dns_requests_total", requests_help);
    let mut request_types =
        counter("coredns_dns_request_type_count_total", "Counter of DNS requests per type, per zone.");
    let responses_help = "Counter of response status codes.";
    let mut rcode_count = counter("coredns_dns_response_rcode_count_total", responses_help);
    let mut responses = counter("coredns_dns_responses_total", responses_help);
    let mut durations = FamilyBuilder::histogram(
        "coredns_dns_request_duration_seconds",
        "Histogram of the time (in seconds) each request took.",
    );
    // Over UDP and TCP it is one server, over each of the others another; each has one number for a label set.
    let groups = [
        &[Transport::Udp, Transport::Tcp][..],
        &[Transport::Grpc],
        &[Transport::Tls],
        &[Transport::Https],
        &[Transport::Quic],
    ];
    for group in groups {
        let group: Vec<_> = served.clone().filter(|(_, transport, _)| group.contains(transport)).collect();
        let Some((_, first, _)) = group.first() else { continue };
        let server = ("server", servers.of(*first));
        let places: Vec<usize> = group.iter().map(|(place, ..)| *place).collect();
        let (buckets, seconds) = sums.durations(&places);
        durations.add_histogram(&[server], &DURATION_BOUNDS, &buckets, seconds);
        for (z, zone) in zones.iter().enumerate() {
            let zone = if zone == NO_ZONE { DROPPED.to_owned() } else { format!("{zone}.") };
            let zone = ("zone", zone.as_str());
            let mut by_type = vec![0.0; TYPES.len()];
            for (t, transport, _) in &group {
                let proto = ("proto", proto(*transport));
                for (f, family) in ["1", "2"].into_iter().enumerate().take(FAMILIES.len()) {
                    let family = ("family", family);
                    let mut all = 0.0;
                    for (q, (_, qtype)) in TYPES.iter().enumerate() {
                        let count = sums.requests(z, *t, f, q);
                        all += count;
                        by_type[q] += count;
                        if count > 0.0 {
                            requests.add(&[server, zone, proto, family, ("type", *qtype)], count);
                        }
                    }
                    request_count.add(&[server, zone, proto, family], all);
                }
            }
            let other =
                TYPES.iter().zip(&by_type).filter(|((_, name), _)| is_other(name)).map(|(_, n)| n).sum();
            for ((_, qtype), count) in TYPES.iter().zip(&by_type).filter(|((_, name), _)| !is_other(name)) {
                request_types.add(&[server, zone, ("type", *qtype)], *count);
            }
            request_types.add(&[server, zone, ("type", "other")], other);
            for rcode in Rcode::ALL {
                let labels = [server, zone, ("rcode", rcode.mnemonic())];
                let count = group.iter().map(|(t, ..)| sums.responses(z, *t, rcode)).sum();
                rcode_count.add(&labels, count);
                responses.add(&labels, count);
            }
        }
    }
    let panics_help = "Panics that were contained, wherever they were.";
    let panics = panics::counts().map(|(_, count)| count).sum::<u64>() as f64;
    vec![
        request_count.done(),
        requests.done(),
        request_types.done(),
        rcode_count.done(),
        responses.done(),
        durations.done(),
        counter("coredns_panic_count_total", panics_help).with(&[], panics).done(),
        counter("coredns_panics_total", panics_help).with(&[], panics).done(),
        FamilyBuilder::gauge("coredns_build_info", "1, labelled with what was built: globaldns.")
            .with(&[("version", crate::VERSION), ("revision", crate::COMMIT)], 1.0)
            .done(),
    ]
}

/// Whether a type had no label of its own in `request_type_count_total`.
fn is_other(name: &str) -> bool {
    name == "other" || NEW_TYPES.contains(&name)
}
