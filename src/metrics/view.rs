//! What `/metrics` shows, for the JSON API (I3): read from the same places, and nothing counted twice.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::Serialize;

use super::{COOKIE_KINDS, Counters, DURATION_BOUNDS, LIMITED, Metrics, Sums, TYPES};
use crate::finding::{Code, Severity};
use crate::stub::tally::{AtPlace, ROLES, Tally};
use crate::wire::Rcode;

/// Counts by label.
type Counts = BTreeMap<&'static str, u64>;

/// The counters of traffic since the start. Two of these and the time between them make rates.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Seconds since the start, by a clock that never goes back.
    pub seconds: f64,
    /// Queries answered.
    pub queries: u64,
    /// The same by zone; the last is `-`, outside of every zone.
    pub zones: Vec<OfZone>,
    /// The same by query type; types nobody asked for are left out.
    pub types: Counts,
    /// Replies by response code.
    pub responses: Counts,
    /// By transport.
    pub transports: Vec<OfTransport>,
    /// Upper bounds of the durations below, seconds; those above the last one have one more place.
    pub duration_bounds: [f64; DURATION_BOUNDS.len()],
    /// Queries with a cookie, by what it is (D19).
    pub cookies: Counts,
    /// Replies above the limit, by what became of them (D20).
    pub rate_limited: Counts,
    /// Connections, over whatever transport.
    pub connections: Connections,
    /// Replies over UDP that the kernel refused to send, failures to receive, and workers that began again.
    pub udp: Udp,
}

/// Queries of one zone.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfZone {
    /// Its name.
    pub zone: String,
    /// Queries answered.
    pub queries: u64,
}

/// What came over one transport.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OfTransport {
    /// `udp`, `tcp`, …
    pub transport: &'static str,
    /// Queries answered.
    pub queries: u64,
    /// Messages without a reply (D11).
    pub silent: u64,
    /// Replies with TC.
    pub truncated: u64,
    /// Queries from addresses that may not ask (D21).
    pub denied: u64,
    /// Replies by how long they took; see `durationBounds`.
    pub durations: Vec<u64>,
    /// How long all of them took, seconds.
    pub duration_seconds: f64,
    /// Below which so much of all replies since the start took; `null` without any. Interpolated between bounds.
    pub latency: Option<Latency>,
}

/// Quantiles in seconds.
#[derive(Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Half of them.
    pub p50: f64,
    /// Nine in ten.
    pub p90: f64,
    /// All but one in a hundred.
    pub p99: f64,
}

/// What the listeners for connections count.
#[derive(Debug, Serialize)]
pub struct Connections {
    open: u64,
    accepted: u64,
    evicted: u64,
    rejected: u64,
}

/// What only UDP counts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Udp {
    send_errors: u64,
    receive_errors: u64,
    worker_restarts: u64,
}

/// One zone.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ZoneState {
    /// Its name.
    pub zone: String,
    /// Hosts with answers.
    pub hosts: usize,
    /// SOA serial (D6).
    pub serial: u32,
    /// The same as a time.
    pub changed: Option<Timestamp>,
    /// A hash of all answers, below 2⁵³ (L8).
    pub answers_hash: u64,
}

/// One source of entries.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceState {
    /// `files`, `kubernetes` or `kubernetes/<namespace>`.
    pub source: String,
    /// `starting` without a complete list, `saved` while answers come from saved state, `failing` while the last
    /// attempt failed, else `up`.
    pub state: &'static str,
    /// Whether a complete list was delivered.
    pub complete: bool,
    /// Since it last answered.
    pub contact_age_seconds: f64,
    /// ServiceEntries held.
    pub entries: usize,
    /// Changes received.
    pub events: Counts,
    /// Complete lists received.
    pub relists: u64,
    /// Failures by reason.
    pub errors: Counts,
    /// The last one.
    pub last_trouble: Option<TroubleState>,
    /// While answers come from saved state: when the source was last heard.
    pub saved: Option<Timestamp>,
}

/// A failure of a source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TroubleState {
    /// As in the metrics.
    pub reason: &'static str,
    /// In words.
    pub text: String,
    /// When it failed.
    pub time: Option<Timestamp>,
    /// Whether the source works again.
    pub over: bool,
}

/// The stub domains of cluster DNS (chapter T).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StubDomainsState {
    /// Whether this replica is the one that writes.
    pub leader: bool,
    /// Every place that was found.
    pub places: Vec<PlaceState>,
}

/// One place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PlaceState {
    /// `cluster-dns` or `node-local`.
    pub layer: &'static str,
    /// The object and its key.
    pub place: String,
    /// As in the metrics.
    pub state: &'static str,
    /// In words.
    pub message: String,
    /// Objects of this layer that were written.
    pub writes: u64,
    /// Times others undid an edit.
    pub reverts: u64,
    /// Edits that were undone because they were not proved.
    pub rollbacks: u64,
    /// Proofs that succeeded, and that did not.
    pub proofs: Proofs,
}

/// Proofs tried (T7).
#[derive(Debug, Serialize)]
pub struct Proofs {
    proved: u64,
    unproved: u64,
}

/// The certificate (E5).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateState {
    /// Whether its files can be used as they are.
    pub up: bool,
    /// When it ends, or one behind it.
    pub expires: Option<Timestamp>,
    /// Times it was read again, by result.
    pub reloads: Counts,
}

/// State on disk (L6) of one source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedState {
    /// The source.
    pub source: String,
    /// Until when what is on disk was known to be true; `null` if nothing is there.
    pub heard: Option<Timestamp>,
    /// Octets on disk.
    pub size_bytes: u64,
    /// Saves tried, by result.
    pub saves: Counts,
}

/// Findings, counted.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingCounts {
    /// By severity; all three are there.
    pub severities: Counts,
    /// By code; those without any are left out.
    pub codes: Counts,
}

fn time(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok().and_then(|time| Timestamp::from_second(time.as_second()).ok())
}

fn second(unix: u64) -> Option<Timestamp> {
    i64::try_from(unix).ok().and_then(|second| Timestamp::from_second(second).ok())
}

impl Metrics {
    /// When the program was started.
    pub fn started(&self) -> Option<Timestamp> {
        time(self.started.1)
    }

    /// See [`Traffic`].
    pub fn traffic_view(&self) -> Traffic {
        let sums = Sums(self.workers().clone());
        let zones = self.zone_labels();
        let in_zone = |z: usize| Rcode::ALL.iter().map(move |rcode| (z, *rcode));
        let replies = |z: usize, rcode: Rcode| -> u64 {
            self.transports().map(|(t, ..)| sums.responses(z, t, rcode) as u64).sum()
        };
        let of_zone = |(z, zone): (usize, &String)| OfZone {
            zone: zone.clone(),
            queries: in_zone(z).map(|(z, rcode)| replies(z, rcode)).sum(),
        };
        let all = || 0..zones.len();
        let of_type = |q: usize| -> u64 {
            let counts = all().flat_map(|z| self.transports().map(move |(t, ..)| (z, t)));
            counts.map(|(z, t)| [0, 1].map(|f| sums.requests(z, t, f, q)).iter().sum::<f64>() as u64).sum()
        };
        let responses =
            Rcode::ALL.iter().map(|rcode| (rcode.mnemonic(), all().map(|z| replies(z, *rcode)).sum()));
        let count = |of: &dyn Fn(&Counters) -> &std::sync::atomic::AtomicU64| sums.of(of) as u64;
        let transports = self.transports().map(|(t, _, transport)| {
            let (durations, duration_seconds) = sums.durations(&[t]);
            let queries = all().flat_map(in_zone).map(|(z, rcode)| sums.responses(z, t, rcode) as u64).sum();
            OfTransport {
                transport,
                queries,
                silent: count(&|w| &w.silent[t]),
                truncated: count(&|w| &w.truncated[t]),
                denied: count(&|w| &w.denied[t]),
                latency: Latency::of(&durations),
                durations,
                duration_seconds,
            }
        });
        let open = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let zones_view: Vec<OfZone> = zones.iter().enumerate().map(of_zone).collect();
        Traffic {
            seconds: self.started.0.elapsed().as_secs_f64(),
            queries: zones_view.iter().map(|zone| zone.queries).sum(),
            zones: zones_view,
            types: TYPES
                .iter()
                .enumerate()
                .map(|(q, (_, name))| (*name, of_type(q)))
                .filter(|(_, n)| *n > 0)
                .collect(),
            responses: responses.collect(),
            transports: transports.collect(),
            duration_bounds: DURATION_BOUNDS,
            cookies: COOKIE_KINDS
                .iter()
                .map(|(kind, name)| (*name, count(&|w| &w.cookies[*kind as usize])))
                .collect(),
            rate_limited: LIMITED
                .iter()
                .map(|(what, name)| (*name, count(&|w| &w.limited[*what as usize])))
                .collect(),
            connections: Connections {
                open: open(&self.tcp.open),
                accepted: open(&self.tcp.accepted),
                evicted: open(&self.tcp.evicted),
                rejected: open(&self.tcp.rejected),
            },
            udp: Udp {
                send_errors: count(&|w| &w.send_errors),
                receive_errors: count(&|w| &w.receive_errors),
                worker_restarts: count(&|w| &w.restarts),
            },
        }
    }

    /// Every zone, in configured order.
    pub fn zones_view(&self) -> Vec<ZoneState> {
        let of = |zone: &crate::zone::Zone| ZoneState {
            zone: zone.apex().to_string(),
            hosts: zone.hosts(),
            serial: zone.serial(),
            changed: second(zone.serial().into()),
            answers_hash: zone.digest(),
        };
        self.index.table().zones().iter().map(of).collect()
    }

    /// Every source.
    pub fn sources_view(&self) -> Vec<SourceState> {
        let of = |source: &std::sync::Arc<crate::source::Status>| SourceState {
            source: source.name().to_owned(),
            state: match (source.is_complete(), source.saved(), source.is_up()) {
                (_, Some(_), _) => "saved",
                (false, None, _) => "starting",
                (true, None, false) => "failing",
                (true, None, true) => "up",
            },
            complete: source.is_complete(),
            contact_age_seconds: source.contact_age().as_secs_f64(),
            entries: self.index.entries(source.partition()),
            events: source.events().into_iter().collect(),
            relists: source.relists(),
            errors: source.errors().into_iter().collect(),
            last_trouble: source.latest_failure().map(|failure| TroubleState {
                reason: failure.trouble.as_str(),
                text: failure.what,
                time: time(failure.at),
                over: source.works(),
            }),
            saved: source.saved().and_then(time),
        };
        self.sources.iter().map(of).collect()
    }

    /// Stub domains, where they are looked after.
    pub fn stub_domains_view(&self) -> Option<StubDomainsState> {
        let tally: &Tally = self.stub_domains.get()?;
        let of = |at: AtPlace| {
            let role = ROLES.into_iter().find(|role| *role == at.role).unwrap_or(at.role);
            let numbers = tally.numbers(role);
            PlaceState {
                layer: role.as_str(),
                place: at.place,
                state: at.state.as_str(),
                message: at.message,
                writes: numbers.writes,
                reverts: numbers.reverts,
                rollbacks: numbers.rollbacks,
                proofs: Proofs { proved: numbers.proved, unproved: numbers.unproved },
            }
        };
        Some(StubDomainsState { leader: tally.leads(), places: tally.places().into_iter().map(of).collect() })
    }

    /// Where stub domains stand, if they are looked after.
    pub fn stub_domain_places(&self) -> Vec<AtPlace> {
        self.stub_domains.get().map(Tally::places).unwrap_or_default()
    }

    /// The certificate, where there is one.
    pub fn certificate_view(&self) -> Option<CertificateState> {
        let counters = self.certificate.get()?;
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Some(CertificateState {
            up: counters.up.load(Ordering::Relaxed),
            expires: Timestamp::from_second(counters.expires.load(Ordering::Relaxed)).ok(),
            reloads: [("success", load(&counters.loaded)), ("failure", load(&counters.failed))].into(),
        })
    }

    /// Saved state, where there is any.
    pub fn state_view(&self) -> Option<Vec<SavedState>> {
        let of = |source: &crate::state::tally::OfSource| SavedState {
            source: source.name().to_owned(),
            heard: source.on_disk().and_then(|(heard, _)| second(heard)),
            size_bytes: source.on_disk().map_or(0, |(_, size)| size),
            saves: source.results().into_iter().collect(),
        };
        Some(self.state.get()?.sources().iter().map(of).collect())
    }

    /// Findings as of the last search, which follows a change by about a second.
    pub fn findings_view(&self) -> FindingCounts {
        let counts = self.findings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of = |severity: Severity| -> u64 {
            counts.iter().filter(|(code, _)| code.severity() == severity).map(|(_, n)| n).sum()
        };
        let severities = [Severity::Error, Severity::Warning, Severity::Info];
        FindingCounts {
            severities: severities.iter().map(|severity| (severity.as_str(), of(*severity))).collect(),
            codes: counts
                .iter()
                .map(|(code, n): &(Code, u64)| (code.as_str(), *n))
                .filter(|(_, n)| *n > 0)
                .collect(),
        }
    }
}

impl Latency {
    /// Of replies by the bounds of their durations.
    fn of(durations: &[u64]) -> Option<Latency> {
        let all: u64 = durations.iter().sum();
        let quantile = |share: f64| {
            let rank = share * all as f64;
            let mut below = 0.0;
            for (at, count) in durations.iter().enumerate() {
                let (count, from) = (*count as f64, at.checked_sub(1).map_or(0.0, |at| DURATION_BOUNDS[at]));
                // Of those above the last bound nothing more is known.
                let Some(to) = DURATION_BOUNDS.get(at) else { return from };
                if count > 0.0 && below + count >= rank {
                    return from + (to - from) * (rank - below) / count;
                }
                below += count;
            }
            0.0
        };
        (all > 0).then(|| Latency { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [I3]
    #[test]
    fn quantiles_lie_between_the_bounds_of_their_bucket() {
        let mut durations = vec![0; DURATION_BOUNDS.len() + 1];
        assert_eq!(Latency::of(&durations), None);
        // 1 to 2.5 µs.
        durations[1] = 100;
        let latency = Latency::of(&durations).expect("some");
        assert!((latency.p50 - 1.75e-6).abs() < 1e-12, "{latency:?}");
        assert!(
            latency.p90 > latency.p50 && latency.p99 > latency.p90 && latency.p99 <= 2.5e-6,
            "{latency:?}"
        );
        // More than 0.1 s: no more is known.
        durations[DURATION_BOUNDS.len()] = 2;
        assert_eq!(Latency::of(&durations).expect("some").p99, 0.1);
    }
}
