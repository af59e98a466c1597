//! Whether replicas agree (I5): the others are asked for the hashes of their zones, as the API gives them.
//!
//! A replica that differs for a moment is behind by an event; one that goes on differing has other entries or settings.
//! So it is told since when. The alert on the metric has patience of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ask;
use crate::lifecycle::random;
use crate::limits;
use crate::metrics::Metrics;

/// How often the others are looked for and asked.
const EVERY: Duration = Duration::from_secs(10);
/// Replicas that are asked.
pub const MOST: usize = 64;
/// The longest time for one of them, and for the resolver.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many are asked at a time.
const AT_A_TIME: usize = 8;
/// Octets of a reply: a thousand zones and more.
const MOST_REPLY: usize = 256 << 10;
/// The path it is asked for.
const PATH: &str = "/api/v1/zones";

/// Where replicas are: `NAME[:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName {
    /// A name that resolves to every replica, or an address.
    pub host: String,
    /// Of their admin listener.
    pub port: u16,
}

impl PeerName {
    /// Reads `NAME`, `NAME:PORT`, `ADDRESS` or `[ADDRESS]:PORT`.
    pub fn parse(text: &str, default_port: u16) -> Result<PeerName, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(PeerName { host: address.ip().to_string(), port: address.port() });
        }
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return Ok(PeerName { host: address.to_string(), port: default_port });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok().filter(|port| *port > 0)),
            None => (text, Some(default_port)),
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        match port {
            Some(port) if crate::wire::name::Name::parse(name).is_ok() => {
                Ok(PeerName { host: host.to_owned(), port })
            }
            _ => Err("write NAME or NAME:PORT, such as globaldns-replicas.istio-system.svc:9153".to_owned()),
        }
    }
}

impl std::fmt::Display for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.host.parse::<IpAddr>() {
            Ok(address) => SocketAddr::new(address, self.port).fmt(f),
            Err(_) => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// One running program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its host's name, in a pod the pod's.
    pub name: String,
    /// Another one with every start.
    pub id: String,
}

impl Instance {
    /// This one.
    pub fn this() -> Instance {
        let name = String::from_utf8_lossy(&crate::config::host_name(253)).into_owned();
        Instance { name, id: format!("{:016x}", u64::from_ne_bytes(random())) }
    }
}

/// What is compared.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hashes {
    version: String,
    commit: String,
    instance: Instance,
    zones: Vec<ZoneHash>,
}

/// One zone of a replica.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ZoneHash {
    zone: String,
    hosts: usize,
    serial: u32,
    answers_hash: u64,
}

impl Hashes {
    /// Ours.
    pub(super) fn of(instance: &Instance, metrics: &Metrics) -> Hashes {
        let zone = |zone: crate::metrics::view::ZoneState| ZoneHash {
            zone: zone.zone,
            hosts: zone.hosts,
            serial: zone.serial,
            answers_hash: zone.answers_hash,
        };
        Hashes {
            version: crate::VERSION.to_owned(),
            commit: crate::COMMIT.to_owned(),
            instance: instance.clone(),
            zones: metrics.zones_view().into_iter().map(zone).collect(),
        }
    }

    fn by_zone(&self) -> BTreeMap<&str, &ZoneHash> {
        self.zones.iter().map(|zone| (&*zone.zone, zone)).collect()
    }
}

/// What is known of the replicas.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replicas {
    /// The names they were looked for under.
    names: Vec<String>,
    /// Names that did not resolve, and why.
    troubles: Vec<String>,
    /// Addresses beyond those that are asked.
    left_out: usize,
    /// Every replica that was found, this one too, by address.
    peers: Vec<Peer>,
    #[serde(skip)]
    found: Found,
}

/// The addresses that each name had when it was last resolved.
type Found = BTreeMap<String, BTreeSet<SocketAddr>>;

/// One of them.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Peer {
    address: SocketAddr,
    /// `self`, `agrees`, `differs`, or `silent` if it did not answer the last time.
    state: &'static str,
    /// Since when it is in this state.
    since: Timestamp,
    /// Why it is silent.
    trouble: Option<String>,
    /// When it last answered.
    heard: Option<Timestamp>,
    instance: Option<Instance>,
    version: Option<String>,
    commit: Option<String>,
    zones: Vec<PeerZone>,
}

/// One zone there, beside ours.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PeerZone {
    zone: String,
    agrees: bool,
    /// Since when it does not.
    differs_since: Option<Timestamp>,
    /// `null` where it has no such zone.
    hosts: Option<usize>,
    serial: Option<u32>,
    answers_hash: Option<u64>,
}

/// Asks the replicas, and remembers.
pub struct Peers {
    names: Vec<PeerName>,
    instance: Instance,
    metrics: Arc<Metrics>,
    known: Mutex<Replicas>,
}

impl Peers {
    /// Nobody has been asked yet.
    pub fn new(names: Vec<PeerName>, instance: Instance, metrics: Arc<Metrics>) -> Arc<Peers> {
        let known =
            Replicas { names: names.iter().map(ToString::to_string).collect(), ..Replicas::default() };
        Arc::new(Peers { names, instance, metrics, known: Mutex::new(known) })
    }

    /// As of the last look.
    pub(super) fn view(&self) -> Replicas {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks to the end.
    pub async fn watch(self: Arc<Peers>) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let before = self.view();
        let (mut found, mut troubles) = (before.found, Vec::new());
        for name in &self.names {
            let looked_up = tokio::net::lookup_host((name.host.as_str(), name.port));
            let resolved = match tokio::time::timeout(PATIENCE, looked_up).await {
                Ok(Ok(addresses)) => Ok(addresses.collect()),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("no answer within {} s", PATIENCE.as_secs())),
            };
            troubles.extend(note(&mut found, name.to_string(), resolved));
        }
        let addresses: BTreeSet<SocketAddr> = found.values().flatten().copied().collect();
        let left_out = addresses.len().saturating_sub(MOST);
        let asked: Vec<SocketAddr> = addresses.into_iter().take(MOST).collect();
        let answers = futures::stream::iter(asked).map(|address| async move {
            let ours = self.ours();
            let asked = tokio::time::timeout(PATIENCE, hashes_of(address)).await;
            let answer = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
            // What changes while it answers is no difference: ours from before or after will do.
            (address, answer, [ours, self.ours()])
        });
        let mut answers: Vec<_> = answers.buffer_unordered(AT_A_TIME).collect().await;
        answers.sort_by_key(|(address, ..)| *address);
        let now = super::api::now();
        let peers = answers.into_iter().map(|(address, answer, ours)| {
            let known = before.peers.iter().find(|peer| peer.address == address);
            Peer::seen(address, known, answer, &ours, now)
        });
        let mut known = Replicas { names: before.names, troubles, left_out, peers: peers.collect(), found };
        std::mem::swap(&mut *self.known.lock().unwrap_or_else(PoisonError::into_inner), &mut known);
    }

    fn ours(&self) -> Hashes {
        Hashes::of(&self.instance, &self.metrics)
    }
}

/// Notes what a name has resolved to. One that cannot be resolved keeps the addresses it had: whoever was there is asked on.
fn note(found: &mut Found, name: String, resolved: Result<BTreeSet<SocketAddr>, String>) -> Option<String> {
    match resolved {
        Ok(addresses) => {
            found.insert(name, addresses);
            None
        }
        Err(error) => Some(format!("{name}: {error}")),
    }
}

impl Peer {
    fn seen(
        address: SocketAddr,
        known: Option<&Peer>,
        answer: Result<Hashes, String>,
        ours: &[Hashes; 2],
        now: Timestamp,
    ) -> Peer {
        let since = |state| known.filter(|peer| peer.state == state).map_or(now, |peer| peer.since);
        let theirs = match answer {
            Ok(theirs) => theirs,
            Err(trouble) => {
                let trouble = Some(limits::shorten(&trouble, limits::MOST_MESSAGE));
                return Peer {
                    address,
                    state: "silent",
                    since: since("silent"),
                    trouble,
                    heard: known.and_then(|peer| peer.heard),
                    instance: known.and_then(|peer| peer.instance.clone()),
                    version: known.and_then(|peer| peer.version.clone()),
                    commit: known.and_then(|peer| peer.commit.clone()),
                    zones: known.map(|peer| peer.zones.clone()).unwrap_or_default(),
                };
            }
        };
        let zones = compare(&theirs, ours, known.map_or(&[], |peer| &peer.zones), now);
        let state = if theirs.instance.id == ours[0].instance.id {
            "self"
        } else if zones.iter().all(|zone| zone.agrees) {
            "agrees"
        } else {
            "differs"
        };
        Peer {
            address,
            state,
            since: since(state),
            trouble: None,
            heard: Some(now),
            instance: Some(theirs.instance),
            version: Some(theirs.version),
            commit: Some(theirs.commit),
            zones,
        }
    }
}

/// Zone by zone, also those that only one has.
fn compare(theirs: &Hashes, ours: &[Hashes; 2], known: &[PeerZone], now: Timestamp) -> Vec<PeerZone> {
    let theirs = theirs.by_zone();
    let ours = ours.each_ref().map(Hashes::by_zone);
    let all: BTreeSet<&str> = theirs.keys().chain(ours[0].keys()).copied().collect();
    let of = |zone: &str| {
        let their = theirs.get(zone);
        let hash = their.map(|zone| zone.answers_hash);
        let agrees =
            hash.is_some() && ours.iter().any(|ours| ours.get(zone).map(|zone| zone.answers_hash) == hash);
        let differed = known.iter().find(|known| known.zone == zone).and_then(|known| known.differs_since);
        PeerZone {
            zone: zone.to_owned(),
            agrees,
            differs_since: (!agrees).then(|| differed.unwrap_or(now)),
            hosts: their.map(|zone| zone.hosts),
            serial: their.map(|zone| zone.serial),
            answers_hash: hash,
        }
    };
    all.into_iter().map(of).collect()
}

/// One replica's hashes.
async fn hashes_of(address: SocketAddr) -> Result<Hashes, String> {
    let (status, body) = ask::reply(address, &address.to_string(), PATH, MOST_REPLY).await?;
    if status != http::StatusCode::OK {
        return Err(format!("{PATH} says {status}; is --admin-pages on there, and the version the same?"));
    }
    serde_json::from_slice(&body).map_err(|error| format!("{PATH} cannot be read: {error}"))
}

#[cfg(test)]
mod tests;
