//! What `/metrics` shows.
//!
//! The query path adds to plain atomics of its own worker ([`Counters`]); a scrape sums the workers and
//! reads the table, the index and the sources. No label is ever chosen by a client.

mod certificate;
mod coredns;
mod events;
mod family;
mod insight;
mod state;
mod stub_domains;
pub mod view;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use crate::events::tally as told;
use crate::finding::Code;
use crate::index::Index;
use crate::insight::Insight;
use crate::insight::query_log::QueryLog;
use crate::insight::top::TopLists;
use crate::lifecycle::Readiness;
use crate::source::Status;
use crate::state::tally as saved;
use crate::stub::tally::Tally;
use crate::wire::{Rcode, Transport, rtype};
use crate::zone::Zone;
use crate::zone::answer::Family;
use crate::{panics, telemetry};
use family::FamilyBuilder;

/// The label of a query no zone of ours covers, or that was not understood so far.
const NO_ZONE: &str = "-";

/// Query types with a label of their own; the rest is `other`.
const TYPES: [(u16, &str); 13] = [
    (rtype::A, "A"),
    (rtype::AAAA, "AAAA"),
    (rtype::ANY, "ANY"),
    (5, "CNAME"),
    (rtype::DS, "DS"),
    (65, "HTTPS"),
    (15, "MX"),
    (rtype::NS, "NS"),
    (12, "PTR"),
    (rtype::SOA, "SOA"),
    (33, "SRV"),
    (rtype::TXT, "TXT"),
    (0, "other"),
];

/// Upper bounds of the duration histogram, seconds: an answer takes microseconds.
const DURATION_BOUNDS: [f64; 11] = [1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 1e-2, 1e-1];

const COOKIE_KINDS: [(CookieKind, &str); 4] = [
    (CookieKind::Client, "client"),
    (CookieKind::Valid, "valid"),
    (CookieKind::Invalid, "invalid"),
    (CookieKind::Malformed, "malformed"),
];
const LIMITED: [(Limited, &str); 4] = [
    (Limited::Dropped, "dropped"),
    (Limited::Truncated, "truncated"),
    (Limited::BadCookie, "badcookie"),
    (Limited::Error, "error"),
];
const TRANSPORTS: [(Transport, &str); 6] = [
    (Transport::Udp, "udp"),
    (Transport::Tcp, "tcp"),
    (Transport::Grpc, "grpc"),
    (Transport::Tls, "tls"),
    (Transport::Https, "https"),
    (Transport::Quic, "quic"),
];
/// Those that every installation shows.
const ALWAYS: [Transport; 2] = [Transport::Udp, Transport::Tcp];
const FAMILIES: [(Family, &str); 2] = [(Family::V4, "4"), (Family::V6, "6")];

/// What one worker counts. Relaxed atomics: a scrape may be one query behind.
///
/// Nearly every UDP query adds to four of these numbers, and an atomic addition costs as much as looking up a name. A
/// thread that is alone in counting therefore adds by a load and a store ([`Counters::alone`]).
// Two cache lines, which the processor fetches together: no worker writes where another one does.
#[repr(align(128))]
pub struct Counters {
    zones: usize,
    alone: bool,
    requests: Box<[AtomicU64]>,
    responses: Box<[AtomicU64]>,
    durations: [[AtomicU64; DURATION_BOUNDS.len() + 1]; TRANSPORTS.len()],
    duration_nanos: [AtomicU64; TRANSPORTS.len()],
    silent: [AtomicU64; TRANSPORTS.len()],
    truncated: [AtomicU64; TRANSPORTS.len()],
    denied: [AtomicU64; TRANSPORTS.len()],
    cookies: [AtomicU64; COOKIE_KINDS.len()],
    limited: [AtomicU64; LIMITED.len()],
    send_errors: AtomicU64,
    receive_errors: AtomicU64,
    restarts: AtomicU64,
    turn: AtomicU32,
}

/// A query as the counters see it.
#[derive(Clone, Copy, Debug)]
pub struct Counted<'z> {
    /// How it came.
    pub transport: Transport,
    /// From which address family.
    pub family: Family,
    /// The covering zone, if that far was read.
    pub zone: Option<&'z Zone>,
    /// Query type, 0 if it was not read.
    pub qtype: u16,
}

/// What a query's COOKIE option holds (D19).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieKind {
    /// The client's cookie alone.
    Client,
    /// And a server cookie that is ours and good.
    Valid,
    /// And a server cookie that is not.
    Invalid,
    /// Nothing that could be a cookie.
    Malformed,
}

/// What became of a reply over the limit (D20).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// It was not sent.
    Dropped,
    /// It was sent empty, with TC.
    Truncated,
    /// A server cookie was sent instead.
    BadCookie,
    /// It was an error, and sent without options.
    Error,
}

impl Counters {
    /// Counters for a server of `zones` zones, to be shared among threads.
    pub fn new(zones: usize) -> Counters {
        // What follows on the heap may be another worker's: the same distance as between two `Counters`.
        let zeros = |n: usize| (0..n + 16).map(|_| AtomicU64::new(0)).collect();
        Counters {
            zones,
            alone: false,
            requests: zeros(request_position(zones + 1, 0, 0, 0)),
            responses: zeros(response_position(zones + 1, 0, 0)),
            durations: Default::default(),
            duration_nanos: Default::default(),
            silent: Default::default(),
            truncated: Default::default(),
            denied: Default::default(),
            cookies: Default::default(),
            limited: Default::default(),
            send_errors: AtomicU64::new(0),
            receive_errors: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// Counters that only one thread counts into; with two, some counts would be lost.
    pub fn alone(zones: usize) -> Counters {
        Counters { alone: true, ..Counters::new(zones) }
    }

    fn add(&self, counter: &AtomicU64, n: u64) {
        if self.alone {
            counter.store(counter.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
        } else {
            counter.fetch_add(n, Ordering::Relaxed);
        }
    }

    /// Counts one reply.
    pub fn reply(&self, query: Counted<'_>, rcode: Rcode, truncated: bool) {
        let zone = query.zone.map_or(self.zones, Zone::index);
        let (transport, family) = (query.transport as usize, query.family as usize);
        let request = request_position(zone, transport, family, type_position(query.qtype));
        self.add(&self.requests[request], 1);
        self.add(&self.responses[response_position(zone, transport, rcode.position())], 1);
        if truncated {
            self.add(&self.truncated[transport], 1);
        }
    }

    /// Counts a message that gets no reply (D11).
    pub fn silence(&self, transport: Transport) {
        self.add(&self.silent[transport as usize], 1);
    }

    /// Counts a query from where none may come (D21).
    pub fn denied(&self, transport: Transport) {
        self.add(&self.denied[transport as usize], 1);
    }

    /// Counts a query with a cookie (D19).
    pub fn cookie(&self, kind: CookieKind) {
        self.add(&self.cookies[kind as usize], 1);
    }

    /// Counts a reply over the limit (D20).
    pub fn limited(&self, action: Limited) {
        self.add(&self.limited[action as usize], 1);
    }

    /// Counts replies over UDP that could not be sent.
    pub fn send_errors(&self, replies: u64) {
        if replies > 0 {
            self.add(&self.send_errors, replies);
        }
    }

    /// Counts a failure to receive over UDP.
    pub fn receive_error(&self) {
        self.add(&self.receive_errors, 1);
    }

    /// Counts a worker that has begun again (L9).
    pub fn restart(&self) {
        self.add(&self.restarts, 1);
    }

    /// Records how long replies took, from the arrival of their messages in the program to their being sent. Those
    /// of a batch have that in common.
    pub fn durations(&self, transport: Transport, replies: usize, taken: Duration) {
        if replies == 0 {
            return;
        }
        let replies = replies as u64;
        let seconds = taken.as_secs_f64();
        let bucket = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound);
        let transport = transport as usize;
        self.add(&self.durations[transport][bucket.unwrap_or(DURATION_BOUNDS.len())], replies);
        let nanos = u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX);
        self.add(&self.duration_nanos[transport], nanos.saturating_mul(replies));
    }

    /// How many replies were counted.
    #[cfg(test)]
    pub(crate) fn replies(&self) -> u64 {
        self.responses.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    /// How often a worker has begun again.
    #[cfg(test)]
    pub(crate) fn restarts(&self) -> u64 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// Every count of requests, responses, silence, refused clients, cookies and limits, and how many replies had TC.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn tally(&self) -> (Vec<u64>, u64) {
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let counts = self.requests.iter().chain(&self.responses).chain(&self.silent);
        let counts = counts.chain(&self.denied).chain(&self.cookies).chain(&self.limited).map(load).collect();
        (counts, self.truncated.iter().map(load).sum())
    }

    /// The record of `n` to begin with (D2). A golden-ratio sequence: whatever share of the queries asks
    /// for one name, its records take turns.
    pub fn turn(&self, n: usize) -> usize {
        let turn = if self.alone {
            let turn = self.turn.load(Ordering::Relaxed);
            self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
            turn
        } else {
            self.turn.fetch_add(1, Ordering::Relaxed)
        };
        ((u64::from(turn.wrapping_mul(0x9e37_79b9)) * n as u64) >> 32) as usize
    }
}

/// Where a count of requests is. The zone after the last is that of queries outside of every zone.
fn request_position(zone: usize, transport: usize, family: usize, qtype: usize) -> usize {
    ((zone * TRANSPORTS.len() + transport) * FAMILIES.len() + family) * TYPES.len() + qtype
}

/// Where a count of responses is.
fn response_position(zone: usize, transport: usize, rcode: usize) -> usize {
    (zone * TRANSPORTS.len() + transport) * Rcode::ALL.len() + rcode
}

/// A type's place in [`TYPES`].
fn type_position(qtype: u16) -> usize {
    match qtype {
        rtype::A => 0,
        rtype::AAAA => 1,
        rtype::ANY => 2,
        5 => 3,
        rtype::DS => 4,
        65 => 5,
        15 => 6,
        rtype::NS => 7,
        12 => 8,
        rtype::SOA => 9,
        33 => 10,
        16 => 11,
        _ => TYPES.len() - 1,
    }
}

/// Everything a scrape reads.
pub struct Metrics {
    started: (Instant, SystemTime),
    registry: Registry,
    index: Arc<Index>,
    readiness: Readiness,
    sources: Vec<Arc<Status>>,
    counters: Mutex<Vec<Arc<Counters>>>,
    tcp: Arc<TcpCounters>,
    findings: Mutex<Vec<(Code, u64)>>,
    stub_domains: OnceLock<Tally>,
    events: OnceLock<told::Tally>,
    /// Which transports are served beside those that always are.
    served: [AtomicBool; TRANSPORTS.len()],
    certificate: OnceLock<Arc<CertificateCounters>>,
    coredns: OnceLock<coredns::Servers>,
    state: OnceLock<Arc<saved::Tally>>,
    cookie_secrets: OnceLock<Arc<AtomicBool>>,
    top_lists: OnceLock<Arc<TopLists>>,
    query_log: OnceLock<Arc<QueryLog>>,
}

/// What all workers have counted.
struct Sums(Vec<Arc<Counters>>);

/// What the TCP listener counts.
#[derive(Debug, Default)]
pub struct TcpCounters {
    /// Open connections.
    pub open: AtomicU64,
    /// Connections accepted so far.
    pub accepted: AtomicU64,
    /// Connections closed to make room (D14).
    pub evicted: AtomicU64,
    /// New connections closed because no other could make room (D14).
    pub rejected: AtomicU64,
}

/// What is known of the certificate (E5).
#[derive(Debug, Default)]
pub struct CertificateCounters {
    /// Unix seconds of when it ends.
    pub expires: AtomicI64,
    /// Whether the files can be used as they are.
    pub up: AtomicBool,
    /// Times it was read again and is shown to clients.
    pub loaded: AtomicU64,
    /// Times it was read again and could not be used.
    pub failed: AtomicU64,
}

impl Metrics {
    /// Metrics over the program's state; workers join by [`Metrics::worker`] and [`Metrics::pool`].
    pub fn new(index: Arc<Index>, readiness: Readiness, sources: Vec<Arc<Status>>) -> Metrics {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        if let Err(error) =
            registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
        {
            tracing::warn!(%error, "process metrics are not available");
        }
        Metrics {
            started: (Instant::now(), SystemTime::now()),
            registry,
            index,
            readiness,
            sources,
            counters: Mutex::default(),
            tcp: Arc::default(),
            findings: Mutex::default(),
            stub_domains: OnceLock::new(),
            events: OnceLock::new(),
            served: Default::default(),
            certificate: OnceLock::new(),
            coredns: OnceLock::new(),
            state: OnceLock::new(),
            cookie_secrets: OnceLock::new(),
            top_lists: OnceLock::new(),
            query_log: OnceLock::new(),
        }
    }

    /// Counters for one more thread that counts alone.
    pub fn worker(&self) -> Arc<Counters> {
        self.join(Counters::alone)
    }

    /// Counters for threads that count together.
    pub fn pool(&self) -> Arc<Counters> {
        self.join(Counters::new)
    }

    fn join(&self, new: fn(usize) -> Counters) -> Arc<Counters> {
        let counters = Arc::new(new(self.index.table().zones().count()));
        self.workers().push(counters.clone());
        counters
    }

    /// The TCP listener's counters.
    pub fn tcp(&self) -> Arc<TcpCounters> {
        self.tcp.clone()
    }

    /// The counts of stub domains; from now on they are shown.
    pub fn stub_domains(&self) -> Tally {
        self.stub_domains.get_or_init(Tally::default).clone()
    }

    /// The counts of Events; from now on they are shown.
    pub fn events(&self) -> told::Tally {
        self.events.get_or_init(told::Tally::default).clone()
    }

    /// DNS is served over this transport, too: from now on its counts are shown.
    pub fn show(&self, transport: Transport) {
        self.served[transport as usize].store(true, Ordering::Relaxed);
    }

    /// What is known of the certificate; from now on it is shown.
    pub fn certificate(&self) -> Arc<CertificateCounters> {
        self.certificate.get_or_init(Arc::default).clone()
    }

    /// From now on the counts are also shown under CoreDNS's names (G5), which tell servers apart by their addresses.
    pub fn show_coredns_names(&self, addresses: &[(Transport, &[SocketAddr])]) {
        self.coredns.get_or_init(|| coredns::Servers::new(addresses));
    }

    /// The transports that are served, and where their counts are.
    fn transports(&self) -> impl Iterator<Item = (usize, Transport, &'static str)> + Clone {
        let transports = TRANSPORTS.iter().enumerate().map(|(at, (transport, name))| (at, *transport, *name));
        transports.filter(|(at, transport, _)| {
            ALWAYS.contains(transport) || self.served[*at].load(Ordering::Relaxed)
        })
    }

    /// The counts of saved state; from now on they are shown.
    pub fn state(&self) -> Arc<saved::Tally> {
        let names = self.sources.iter().map(|source| source.name());
        self.state.get_or_init(|| Arc::new(saved::Tally::new(names))).clone()
    }

    /// Whether the file of cookie secrets is as it should be; from now on that is shown.
    pub fn cookie_secrets(&self) -> Arc<AtomicBool> {
        self.cookie_secrets.get_or_init(Arc::default).clone()
    }

    /// From now on the counts of what looks at queries are shown.
    pub fn show_insight(&self, insight: &Insight) {
        if let Some(lists) = insight.top_lists() {
            self.top_lists.get_or_init(|| lists.clone());
        }
        if let Some(log) = insight.query_log() {
            self.query_log.get_or_init(|| log.clone());
        }
    }

    /// The top lists (I7), for those who show them; `None` with `--top-lists off`.
    pub fn top_lists(&self) -> Option<&Arc<TopLists>> {
        self.top_lists.get()
    }

    /// Publishes the number of findings by code; codes that are not listed have none.
    pub fn set_findings(&self, counts: Vec<(Code, u64)>) {
        *self.findings.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    fn workers(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Counters>>> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The exposition, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        let mut families = self.registry.gather();
        let sums = Sums(self.workers().clone());
        self.traffic(&sums, &mut families);
        self.clients(&sums, &mut families);
        if let Some(servers) = self.coredns.get() {
            families.extend(coredns::families(&sums, &self.zone_labels(), self.transports(), servers));
        }
        self.table(&mut families);
        self.source(&mut families);
        families.extend(program());
        if let Some(tally) = self.stub_domains.get() {
            families.extend(stub_domains::families(tally));
        }
        if let Some(tally) = self.events.get() {
            families.extend(events::families(tally));
        }
        if let Some(counters) = self.certificate.get() {
            families.extend(certificate::families(counters));
        }
        families.extend(insight::programming(&self.sources));
        if let Some(lists) = self.top_lists.get() {
            families.push(insight::search_path(lists));
        }
        if let Some(log) = self.query_log.get() {
            families.extend(insight::query_log(log));
        }
        if let Some(tally) = self.state.get() {
            families.extend(state::families(tally, &self.sources));
        }
        families.retain(|family| !family.get_metric().is_empty());
        // Encoding fails only on families without a name or metrics, and there are none.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }

    /// The zones' labels, where their counts are; the last is that of queries outside of every zone.
    fn zone_labels(&self) -> Vec<String> {
        let table = self.index.table();
        let zones = table.zones().iter().map(|z| z.apex().to_string());
        zones.chain([NO_ZONE.to_owned()]).collect()
    }

    fn traffic(&self, sums: &Sums, families: &mut Vec<MetricFamily>) {
        let zones = self.zone_labels();
        let mut requests = FamilyBuilder::counter(
            "globaldns_dns_requests_total",
            "Queries answered, by zone, transport, IP family of the client and query type.",
        );
        let mut responses = FamilyBuilder::counter(
            "globaldns_dns_responses_total",
            "Replies by zone, transport and response code.",
        );
        for (z, zone) in zones.iter().enumerate() {
            for (t, _, transport) in self.transports() {
                for (f, (_, family)) in FAMILIES.iter().enumerate() {
                    for (q, (_, qtype)) in TYPES.iter().enumerate() {
                        let count = sums.requests(z, t, f, q);
                        // A zone × type matrix is mostly zeros; only what occurred is a series.
                        if count > 0.0 {
                            requests.add(
                                &[
                                    ("zone", zone),
                                    ("transport", transport),
                                    ("family", family),
                                    ("type", qtype),
                                ],
                                count,
                            );
                        }
                    }
                }
                for rcode in Rcode::ALL {
                    responses.add(
                        &[("zone", zone), ("transport", transport), ("rcode", rcode.mnemonic())],
                        sums.responses(z, t, rcode),
                    );
                }
            }
        }
        let mut durations = FamilyBuilder::histogram(
            "globaldns_dns_request_duration_seconds",
            "Time from a message's arrival in the program to its reply, by transport; over UDP that of the batch.",
        );
        let mut silent = FamilyBuilder::counter(
            "globaldns_dns_silent_total",
            "Messages that get no reply: under 12 octets, responses, source port 0.",
        );
        let mut truncated =
            FamilyBuilder::counter("globaldns_dns_truncated_total", "Replies with the TC bit, by transport.");
        for (t, _, transport) in self.transports() {
            let labels = [("transport", transport)];
            let (buckets, seconds) = sums.durations(&[t]);
            durations.add_histogram(&labels, &DURATION_BOUNDS, &buckets, seconds);
            silent.add(&labels, sums.of(|w| &w.silent[t]));
            truncated.add(&labels, sums.of(|w| &w.truncated[t]));
        }
        let tcp = |name, help, value: &AtomicU64| {
            FamilyBuilder::counter(name, help).with(&[], value.load(Ordering::Relaxed) as f64)
        };
        families.extend([
            requests.done(),
            responses.done(),
            durations.done(),
            silent.done(),
            truncated.done(),
            FamilyBuilder::counter(
                "globaldns_udp_send_errors_total",
                "Replies over UDP that the kernel refused to send.",
            )
            .with(&[], sums.of(|w| &w.send_errors))
            .done(),
            FamilyBuilder::counter("globaldns_udp_receive_errors_total", "Failures to receive over UDP.")
                .with(&[], sums.of(|w| &w.receive_errors))
                .done(),
            FamilyBuilder::counter(
                "globaldns_udp_worker_restarts_total",
                "UDP workers that ended although nobody wanted them to, and have begun again on their socket.",
            )
            .with(&[], sums.of(|w| &w.restarts))
            .done(),
            FamilyBuilder::gauge(
                "globaldns_tcp_connections",
                "Open DNS connections, over whatever transport.",
            )
            .with(&[], self.tcp.open.load(Ordering::Relaxed) as f64)
            .done(),
            tcp("globaldns_tcp_accepted_total", "DNS connections accepted.", &self.tcp.accepted).done(),
            tcp("globaldns_tcp_evicted_total", "Connections closed to make room.", &self.tcp.evicted).done(),
            tcp(
                "globaldns_tcp_rejected_total",
                "New connections closed because no other one could make room.",
                &self.tcp.rejected,
            )
            .done(),
        ]);
    }

    fn clients(&self, sums: &Sums, families: &mut Vec<MetricFamily>) {
        let mut denied = FamilyBuilder::counter(
            "globaldns_dns_denied_total",
            "Queries from addresses that may not ask, by transport.",
        );
        for (t, _, transport) in self.transports() {
            denied.add(&[("transport", transport)], sums.of(|w| &w.denied[t]));
        }
        let mut cookies = FamilyBuilder::counter(
            "globaldns_dns_cookies_total",
            "Queries with a cookie that were answered, by what it is; none are looked at without --cookies.",
        );
        for (kind, name) in COOKIE_KINDS {
            cookies.add(&[("kind", name)], sums.of(|w| &w.cookies[kind as usize]));
        }
        let mut limited = FamilyBuilder::counter(
            "globaldns_dns_rate_limited_total",
            "Replies over --rate-limit, by what became of them.",
        );
        for (action, name) in LIMITED {
            limited.add(&[("action", name)], sums.of(|w| &w.limited[action as usize]));
        }
        families.extend([denied.done(), cookies.done(), limited.done()]);
        if let Some(up) = self.cookie_secrets.get() {
            let up = f64::from(u8::from(up.load(Ordering::Relaxed)));
            let help = "1 while the file of --cookie-secret-file can be used, 0 while older secrets stay in its place.";
            families.push(FamilyBuilder::gauge("globaldns_cookie_secrets_up", help).with(&[], up).done());
        }
    }

    fn table(&self, families: &mut Vec<MetricFamily>) {
        let mut hosts =
            FamilyBuilder::gauge("globaldns_zone_hosts", "Hosts with answers, wildcards included, by zone.");
        let mut serial = FamilyBuilder::gauge("globaldns_zone_serial", "SOA serial by zone (Unix seconds).");
        let mut digest = FamilyBuilder::gauge(
            "globaldns_zone_answers_hash",
            "A hash of all answers by zone, equal on replicas that have the same ServiceEntries.",
        );
        for zone in self.index.table().zones().iter() {
            let apex = zone.apex().to_string();
            hosts.add(&[("zone", &apex)], zone.hosts() as f64);
            serial.add(&[("zone", &apex)], f64::from(zone.serial()));
            digest.add(&[("zone", &apex)], zone.digest() as f64);
        }
        let mut findings = FamilyBuilder::gauge("globaldns_findings", "Findings by code and severity.");
        let counts = self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for code in Code::ALL {
            let count = counts.iter().find(|(c, _)| c == code).map_or(0, |(_, n)| *n);
            findings.add(&[("code", code.as_str()), ("severity", code.severity().as_str())], count as f64);
        }
        families.extend([
            hosts.done(),
            serial.done(),
            digest.done(),
            findings.done(),
            FamilyBuilder::gauge(
                "globaldns_ready",
                "1 once every source has delivered a complete list and DNS is served.",
            )
            .with(&[], f64::from(u8::from(self.readiness.is_ready())))
            .done(),
            FamilyBuilder::gauge("globaldns_build_info", "1, labelled with what was built.")
                .with(&[("version", crate::VERSION), ("commit", crate::COMMIT)], 1.0)
                .done(),
        ]);
    }

    fn source(&self, families: &mut Vec<MetricFamily>) {
        let mut complete = FamilyBuilder::gauge(
            "globaldns_source_complete",
            "1 once the source has delivered a complete list.",
        );
        let mut up =
            FamilyBuilder::gauge("globaldns_source_up", "1 while the source's last attempt succeeded.");
        let mut age = FamilyBuilder::gauge(
            "globaldns_source_contact_age_seconds",
            "Seconds since the source last answered; at most about 45 while all is well.",
        );
        let mut entries = FamilyBuilder::gauge("globaldns_source_entries", "ServiceEntries held, by source.");
        let mut events =
            FamilyBuilder::counter("globaldns_source_events_total", "Events received, by source and kind.");
        let mut relists =
            FamilyBuilder::counter("globaldns_source_relists_total", "Complete lists received, by source.");
        let mut errors = FamilyBuilder::counter(
            "globaldns_source_errors_total",
            "Failed lists, watches, discoveries and reloads, by source and reason.",
        );
        for source in &self.sources {
            let labels = [("source", source.name())];
            complete.add(&labels, f64::from(u8::from(source.is_complete())));
            up.add(&labels, f64::from(u8::from(source.is_up())));
            age.add(&labels, source.contact_age().as_secs_f64());
            entries.add(&labels, self.index.entries(source.partition()) as f64);
            for (kind, count) in source.events() {
                events.add(&[labels[0], ("event", kind)], count as f64);
            }
            relists.add(&labels, source.relists() as f64);
            for (reason, count) in source.errors() {
                errors.add(&[labels[0], ("reason", reason)], count as f64);
            }
        }
        families.extend([
            complete.done(),
            up.done(),
            age.done(),
            entries.done(),
            events.done(),
            relists.done(),
            errors.done(),
        ]);
    }
}

/// What the program says of itself.
fn program() -> [MetricFamily; 2] {
    let mut panics = FamilyBuilder::counter(
        "globaldns_panics_total",
        "Panics that were contained, by place: faults of globaldns to report.",
    );
    for (place, count) in panics::counts() {
        panics.add(&[("where", place.as_str())], count as f64);
    }
    let dropped = FamilyBuilder::counter(
        "globaldns_log_lines_dropped_total",
        "Log lines left out because standard error was not read in time.",
    );
    [panics.done(), dropped.with(&[], telemetry::dropped_lines() as f64).done()]
}

impl Sums {
    fn of(&self, number: impl Fn(&Counters) -> &AtomicU64) -> f64 {
        self.0.iter().map(|worker| number(worker).load(Ordering::Relaxed)).sum::<u64>() as f64
    }

    fn requests(&self, zone: usize, transport: usize, family: usize, qtype: usize) -> f64 {
        self.of(|worker| &worker.requests[request_position(zone, transport, family, qtype)])
    }

    fn responses(&self, zone: usize, transport: usize, rcode: Rcode) -> f64 {
        self.of(|worker| &worker.responses[response_position(zone, transport, rcode.position())])
    }

    /// Replies by the bounds of their durations, over these transports, and their seconds in all.
    fn durations(&self, transports: &[usize]) -> (Vec<u64>, f64) {
        let sum = |number: &dyn Fn(&Counters, usize) -> u64| -> u64 {
            self.0.iter().flat_map(|worker| transports.iter().map(|t| number(worker, *t))).sum()
        };
        let bucket = |b: usize| sum(&|worker, t| worker.durations[t][b].load(Ordering::Relaxed));
        let nanos = sum(&|worker, t| worker.duration_nanos[t].load(Ordering::Relaxed));
        ((0..=DURATION_BOUNDS.len()).map(bucket).collect(), nanos as f64 / 1e9)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_cookies_and_limits_count_under_their_own_labels() {
        assert!(COOKIE_KINDS.iter().enumerate().all(|(at, (kind, _))| *kind as usize == at));
        assert!(LIMITED.iter().enumerate().all(|(at, (action, _))| *action as usize == at));
    }

    #[test]
    fn every_type_counts_under_its_own_label() {
        for (position, (number, label)) in TYPES.iter().enumerate() {
            assert_eq!(type_position(*number), position, "{label}");
        }
        assert_eq!(TYPES[type_position(99)].1, "other");
    }

    /// [D2]
    #[test]
    fn a_thread_alone_and_threads_together_count_the_same() {
        for counters in [Counters::alone(1), Counters::new(1)] {
            let query =
                Counted { transport: Transport::Udp, family: Family::V6, zone: None, qtype: rtype::A };
            counters.reply(query, Rcode::Refused, true);
            counters.reply(query, Rcode::Refused, false);
            counters.durations(Transport::Udp, 3, Duration::from_nanos(2000));
            counters.durations(Transport::Udp, 0, Duration::from_nanos(7));
            let total = |all: &[AtomicU64]| all.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>();
            assert_eq!(total(&counters.requests), 2);
            assert_eq!(total(&counters.responses), 2);
            assert_eq!(total(&counters.truncated), 1);
            assert_eq!(counters.durations[0][1].load(Ordering::Relaxed), 3);
            assert_eq!(total(&counters.duration_nanos), 6000);
            assert_eq!([(); 4].map(|()| counters.turn(4)), [0, 2, 0, 3]);
        }
    }
}
