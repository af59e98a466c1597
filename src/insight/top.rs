//! Who asks for what, and what is asked for in vain: the most frequent of the last ten minutes (I7).

mod frequent;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::tap::{Exchange, Patience, Queues};
use crate::wire::{Rcode, name};
use crate::zone::{Found, Table, Zone, Zones};
use frequent::{Counted, Frequent};

/// How long a slice is filled.
const SLICE: Duration = Duration::from_secs(120);
/// Slices that are kept, with the one that is being filled: they cover the last 8 to 10 minutes.
const SLICES: usize = 5;
/// How often the queues are looked into while queries come.
const LOOK: Duration = Duration::from_millis(25);
/// Copies that are counted under one lock.
const STEP: usize = 64;
/// Bits of an IPv6 address that make a client, as in D14.
const IPV6_CLIENT: u32 = 64;

/// The lists, as they are being filled.
pub struct TopLists {
    table: Arc<Table>,
    slices: Mutex<VecDeque<Slice>>,
    /// Queries that a search path has made, by zone.
    search_path: Box<[AtomicU64]>,
}

struct Slice {
    began: Instant,
    queries: u64,
    names: Frequent,
    suffixes: Frequent,
    clients: Frequent,
}

impl Slice {
    fn new(began: Instant) -> Slice {
        let [names, suffixes, clients] = [(); 3].map(|()| Frequent::new(frequent::MOST));
        Slice { began, queries: 0, names, suffixes, clients }
    }
}

/// The most frequent names, suffixes and clients.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Top {
    /// How far back the counts reach: up to ten minutes.
    pub seconds: u64,
    /// All queries of that time, about.
    pub queries: u64,
    /// Names asked for, whether or not they exist.
    pub names: Vec<TopName>,
    /// What the names that do not exist end in.
    pub nxdomain_suffixes: Vec<TopSuffix>,
    /// IPv4 addresses and IPv6 /64.
    pub clients: Vec<TopClient>,
}

/// A name, and how often it was asked for.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopName {
    /// In lower case, without the trailing dot; octets that are no letters as RFC 1035 section 5.1 writes them.
    pub name: String,
    /// About how often.
    pub queries: u64,
    /// By how much that may be too high, beside what sampling makes of it.
    pub error: u64,
}

/// A suffix of names that do not exist.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopSuffix {
    /// What the names end in.
    pub suffix: String,
    /// About how often a name below it was asked for in vain.
    pub queries: u64,
    /// By how much that may be too high, beside what sampling makes of it.
    pub error: u64,
    /// Why.
    pub cause: Cause,
    /// What to do.
    pub remedy: String,
}

/// A client, and how often it asked.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopClient {
    /// An IPv4 address, or an IPv6 network of 64 bits.
    pub client: String,
    /// About how often.
    pub queries: u64,
    /// By how much that may be too high, beside what sampling makes of it.
    pub error: u64,
}

/// Why names that do not exist are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A search path has put our zone behind a name that was whole (H6).
    SearchPath,
    /// No host ends in it: what stands before the zone may be a domain of its own, which a search path has come behind.
    NothingBelow,
    /// Others that end in it exist.
    NoSuchName,
}

impl TopLists {
    /// Empty lists of what is asked of a table.
    pub fn new(table: Arc<Table>) -> TopLists {
        let search_path = table.zones().iter().map(|_| AtomicU64::new(0)).collect();
        TopLists { table, slices: Mutex::default(), search_path }
    }

    /// Counts what comes, until the queues are closed.
    pub(super) fn follow(&self, queues: &Queues) {
        let mut patience = Patience::new(LOOK);
        loop {
            let mut all = 0;
            loop {
                let now = Instant::now();
                let mut slices = self.lock();
                let taken = queues.drain(STEP, |exchange| self.count(&mut slices, exchange, now));
                all += taken;
                if taken < STEP {
                    break;
                }
            }
            if queues.are_closed() {
                return;
            }
            patience.wait(all > 0);
        }
    }

    fn count(&self, slices: &mut VecDeque<Slice>, exchange: &Exchange, now: Instant) {
        if slices.back().is_none_or(|slice| now.saturating_duration_since(slice.began) >= SLICE) {
            if slices.len() == SLICES {
                slices.pop_front();
            }
            slices.push_back(Slice::new(now));
        }
        let Some(slice) = slices.back_mut() else { return };
        let weight = u64::from(exchange.weight);
        slice.queries += weight;
        match client(exchange.came.peer.ip()) {
            IpAddr::V4(address) => slice.clients.add(&address.octets(), weight),
            IpAddr::V6(address) => slice.clients.add(&address.octets()[..(IPV6_CLIENT / 8) as usize], weight),
        }
        let Some((asked, ..)) = exchange.question() else { return };
        let lower = asked.to_ascii_lowercase();
        slice.names.add(&lower, weight);
        if exchange.rcode == Rcode::NxDomain as u16
            && let Some(suffix) = Suffix::of(self.table.zones(), &lower)
        {
            slice.suffixes.add(suffix.wire, weight);
            if suffix.search_path {
                self.search_path[suffix.zone.index()].fetch_add(weight, Ordering::Relaxed);
            }
        }
    }

    /// The most frequent, at most `most` of each list.
    pub fn read(&self, most: usize) -> Top {
        self.read_at(most, Instant::now())
    }

    fn read_at(&self, most: usize, now: Instant) -> Top {
        let slices = self.lock();
        let age = |slice: &&Slice| now.saturating_duration_since(slice.began);
        // One that nothing has come after is as old as others.
        let recent: Vec<&Slice> = slices.iter().filter(|slice| age(slice) < SLICE * SLICES as u32).collect();
        let list = |of: fn(&Slice) -> &Frequent| frequent::merge(recent.iter().map(|slice| of(slice)), most);
        let [names, suffixes, clients] =
            [list(|slice| &slice.names), list(|slice| &slice.suffixes), list(|slice| &slice.clients)];
        let seconds = recent.first().map_or(0, |first| age(first).as_secs());
        let queries = recent.iter().map(|slice| slice.queries).sum();
        drop(slices);
        Top {
            seconds,
            queries,
            names: names
                .into_iter()
                .map(|Counted { key, count, error }| TopName {
                    name: name::presentation(&key),
                    queries: count,
                    error,
                })
                .collect(),
            nxdomain_suffixes: suffixes.into_iter().filter_map(|suffix| self.explain(&suffix)).collect(),
            clients: clients
                .into_iter()
                .map(|Counted { key, count, error }| TopClient {
                    client: shown_client(&key),
                    queries: count,
                    error,
                })
                .collect(),
        }
    }

    fn explain(&self, Counted { key, count, error }: &Counted) -> Option<TopSuffix> {
        let zones = self.table.zones();
        let (zone, apex_at) = zones.covering(key)?;
        let (suffix, apex) = (name::presentation(key), zone.apex());
        let cause = if zones.is_search_path_product(&key[..apex_at]) {
            Cause::SearchPath
        } else if self.table.read().find(zone, key, apex_at) == Found::Missing {
            Cause::NothingBelow
        } else {
            Cause::NoSuchName
        };
        let whole = suffix.strip_suffix(&format!(".{apex}")).unwrap_or(&suffix);
        let search = format!(
            "take {apex} out of the clients' search list (dnsConfig.searches), lower ndots (dnsConfig.options), or write \
             names that are whole with a trailing dot"
        );
        let remedy = match cause {
            Cause::SearchPath => {
                format!("clients try names that end in {whole} with {apex} behind them: {search}")
            }
            Cause::NothingBelow => format!(
                "no host ends in {suffix}: if {whole} is a domain elsewhere, {search}; if it is a namespace, its entries \
                 are missing"
            ),
            Cause::NoSuchName => {
                format!(
                    "other names that end in {suffix} exist: look for a misspelt name, or an entry that is gone"
                )
            }
        };
        Some(TopSuffix { suffix, queries: *count, error: *error, cause, remedy })
    }

    /// Queries that a search path has made, about, by zone.
    pub fn search_path_queries(&self) -> impl Iterator<Item = (&Zone, u64)> {
        let counts = self.search_path.iter().map(|count| count.load(Ordering::Relaxed));
        self.table.zones().iter().zip(counts)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Slice>> {
        self.slices.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a name that does not exist ends in, as far as that tells why it was asked for: of what a search path has made,
/// the domain that the zone was put behind (`svc.cluster.local.global`, `global.global`), else the last label before the
/// zone (`com.global`), and the zone alone for a name directly below it.
struct Suffix<'n, 'z> {
    wire: &'n [u8],
    zone: &'z Zone,
    search_path: bool,
}

impl<'n, 'z> Suffix<'n, 'z> {
    /// Of a lower-case wire name; `None` outside every zone.
    fn of(zones: &'z Zones, name: &'n [u8]) -> Option<Suffix<'n, 'z>> {
        let (zone, apex_at) = zones.covering(name)?;
        let relative = &name[..apex_at];
        let offsets: Vec<usize> = name::offsets(relative).collect();
        // The shortest tail that shows it.
        let product = offsets.iter().rposition(|at| zones.is_search_path_product(&relative[*at..]));
        let at = match (product, &offsets[..]) {
            (Some(at), offsets) => {
                let above = at.checked_sub(1).map(|above| offsets[above]);
                let is_kind =
                    |at: &usize| [&b"\x03svc"[..], b"\x03pod"].iter().any(|k| relative[*at..].starts_with(k));
                above.filter(is_kind).unwrap_or(offsets[at])
            }
            (None, [.., last]) if offsets.len() > 1 => *last,
            (None, _) => apex_at,
        };
        Some(Suffix { wire: &name[at..], zone, search_path: product.is_some() })
    }
}

/// What clients are told apart by.
fn client(peer: IpAddr) -> IpAddr {
    peer.to_canonical()
}

fn shown_client(key: &[u8]) -> String {
    if let Ok(octets) = <[u8; 4]>::try_from(key) {
        return Ipv4Addr::from(octets).to_string();
    }
    let mut octets = [0; 16];
    octets[..key.len().min(16)].copy_from_slice(&key[..key.len().min(16)]);
    format!("{}/{IPV6_CLIENT}", Ipv6Addr::from(octets))
}

#[cfg(test)]
mod tests;
