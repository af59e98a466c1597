//! What all ways of DNS over connections have in common: a bound on the number of connections, which end in good order
//! (D14, L5), and messages that are answered one by one.
//!
//! # Who makes room
//!
//! There is no limit for each client. In a cluster a few pods of cluster DNS ask for everybody, so any number would be
//! too low for them or too high to protect anyone. Places are shared out instead: as long as there is room, who comes has
//! one; when there is none, the client with the most connections gives one up, and nobody takes one from a client that
//! has fewer. So one client that opens connections without end takes them from itself, and if it keeps all of them busy,
//! others still get theirs.

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::budget::{self, Budget};
use super::hickory::Handler;
use super::responder::{Arrival, Outcome, Responder};
use crate::insight::tap::SharedTap;
use crate::lifecycle::unix_now;
use crate::metrics::{Counters, TcpCounters};
use crate::panics::{Place, contain, contained};
use crate::wire::reply::TCP_LIMIT;
use crate::wire::{Transport, padding};

/// How long to wait after the kernel refused a connection (no descriptors left, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time between two warnings that connections cannot be accepted.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// A reply takes microseconds. A connection that has taken none of its replies for so long waits for its client, and may
/// have to make room for anyone.
const STUCK: Duration = Duration::from_secs(1);
/// Bits of an IPv6 address that tell clients apart: a host has all addresses of a /64 (RFC 4291 section 2.5.4).
const IPV6_CLIENT: u32 = 64;

thread_local! {
    /// Room for the largest reply: one per thread, not per connection.
    static OUT: RefCell<Vec<u8>> = RefCell::new(vec![0; usize::from(TCP_LIMIT)]);
}

/// Answers messages that came over a stream, and counts them.
pub struct Answerer {
    responder: Arc<Responder>,
    handler: Handler,
    counters: Arc<Counters>,
    tap: Option<SharedTap>,
}

impl Answerer {
    /// Counts into `counters`, which others may share.
    pub fn new(responder: Arc<Responder>, counters: Arc<Counters>) -> Arc<Answerer> {
        let handler = Handler::new(responder.clone(), counters.clone());
        let tap = responder.taps().shared();
        Arc::new(Answerer { responder, handler, counters, tap })
    }

    /// The whole reply, now, to a message that came as the connection did; `None` to one that gets none (D11). One that
    /// makes us panic gets SERVFAIL (L9).
    pub(super) fn answer(&self, message: &[u8], arrival: Arrival) -> Option<Bytes> {
        let arrival = Arrival { at: unix_now(), ..arrival };
        let read = std::time::Instant::now();
        OUT.with_borrow_mut(|out| {
            let respond = || {
                let outcome = match self.responder.respond(message, arrival, &self.counters, out) {
                    Outcome::Declined => self.handler.respond(message, arrival, out),
                    outcome => outcome,
                };
                match outcome {
                    Outcome::Reply(length) if asks_for_padding(message, arrival.transport) => {
                        Outcome::Reply(padding::pad(out, length))
                    }
                    outcome => outcome,
                }
            };
            let outcome = contain(place(arrival.transport), respond)
                .unwrap_or_else(|| self.responder.fail(message, arrival, &self.counters, out));
            if let (Some(tap), Outcome::Reply(length)) = (&self.tap, outcome) {
                let reply = &out[..length];
                // It reads the message, too.
                contain(place(arrival.transport), || tap.see(message, reply, arrival.came(read)));
            }
            match outcome {
                Outcome::Reply(length) => Some(Bytes::copy_from_slice(&out[..length])),
                Outcome::Silence | Outcome::Declined => None,
            }
        })
    }

    /// Records how long a reply took.
    pub(super) fn duration(&self, transport: Transport, taken: Duration) {
        self.counters.durations(transport, 1, taken);
    }
}

/// RFC 7830 section 6: only where nobody on the way sees what else is in the message (E6).
fn asks_for_padding(message: &[u8], transport: Transport) -> bool {
    transport.is_encrypted() && padding::has_option(message, padding::PADDING)
}

/// The connections that are open, with a bound on their number.
pub struct Connections {
    limit: usize,
    counters: Arc<TcpCounters>,
    places: Mutex<Places>,
    next: AtomicU64,
    drain: CancellationToken,
    tasks: TaskTracker,
    /// Octets that all connections may hold beyond their own.
    pub(super) shared: Arc<Semaphore>,
}

#[derive(Default)]
struct Places {
    taken: HashMap<u64, Arc<Occupant>>,
    /// How many places each client has.
    shares: HashMap<IpAddr, Arc<AtomicUsize>>,
}

/// What is known of an open connection.
pub(super) struct Occupant {
    /// Whose it is.
    client: IpAddr,
    /// How many connections the client has.
    share: Arc<AtomicUsize>,
    /// When it was last taken up, or done with a query.
    since: Mutex<Instant>,
    /// Queries that have come and are not answered yet.
    unanswered: AtomicUsize,
    leave: CancellationToken,
}

/// One connection's place; leaving it frees the place.
pub(super) struct Seat {
    connections: Arc<Connections>,
    id: u64,
    occupant: Arc<Occupant>,
}

/// A query that is being answered, until it is dropped.
pub(super) struct Busy(Arc<Occupant>);

impl Connections {
    /// Room for `limit` connections, all of which end when `drain` is cancelled.
    pub fn new(limit: usize, counters: Arc<TcpCounters>, drain: CancellationToken) -> Arc<Connections> {
        Arc::new(Connections {
            limit,
            counters,
            places: Mutex::default(),
            next: AtomicU64::new(0),
            drain,
            tasks: TaskTracker::new(),
            shared: Arc::new(Semaphore::new(budget::SHARED)),
        })
    }

    /// Accepts on one socket until the drain begins, and lets `converse` talk over each connection.
    pub(super) async fn accept<F>(
        self: Arc<Self>,
        listener: Arc<TcpListener>,
        transport: Transport,
        converse: impl Fn(TcpStream, Arrival, Seat) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut told: Option<Instant> = None;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.drain.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(seat) = self.seat(peer.ip()) else { continue };
                    // Replies are written whole; waiting for more only delays them.
                    let _ = stream.set_nodelay(true);
                    let arrival = arrival(transport, &stream, peer);
                    // What it was about to say of other messages is lost with it, and the client asks again.
                    self.tasks.spawn(contained(place(transport), converse(stream, arrival, seat)));
                }
                Err(error) => {
                    // Descriptors come and go, many times a second.
                    if told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
                        told = Some(Instant::now());
                        tracing::warn!(%error, "connections cannot be accepted; is the limit of open files (ulimit -n) reached?");
                    }
                    // If it is the limit, a descriptor that is given up is one for who waits.
                    self.places().make_room(None, &self.counters);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Talks over a connection that was not accepted here.
    pub(super) fn spawn(&self, transport: Transport, converse: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(contained(place(transport), converse));
    }

    /// Waits until the drain begins.
    pub(super) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Something beside the connections themselves that [`Connections::drained`] waits for.
    pub(super) fn open_until_dropped(&self) -> TaskTrackerToken {
        self.tasks.token()
    }

    /// Waits until every reply in flight is written and every connection closed (L5).
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Queries that have come and are not answered yet.
    #[cfg(test)]
    pub(super) fn unanswered(&self) -> usize {
        self.places().taken.values().map(|occupant| occupant.unanswered.load(Ordering::Relaxed)).sum()
    }

    /// A place for a new connection of this client; `None` if nobody can be asked to make room.
    pub(super) fn seat(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let client = client(peer);
        let mut places = self.places();
        let share = places.shares.get(&client).map_or(0, |share| share.load(Ordering::Relaxed));
        if places.taken.len() >= self.limit && !places.make_room(Some(share), &self.counters) {
            self.counters.rejected.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let occupant = places.take(id, client, self.drain.child_token());
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.store(places.taken.len() as u64, Ordering::Relaxed);
        Some(Seat { connections: self.clone(), id, occupant })
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        lock(&self.places)
    }
}

impl Places {
    fn take(&mut self, id: u64, client: IpAddr, leave: CancellationToken) -> Arc<Occupant> {
        let share = self.shares.entry(client).or_default().clone();
        share.fetch_add(1, Ordering::Relaxed);
        let (since, unanswered) = (Mutex::new(Instant::now()), AtomicUsize::new(0));
        let occupant = Arc::new(Occupant { client, share, since, unanswered, leave });
        self.taken.insert(id, occupant.clone());
        occupant
    }

    fn free(&mut self, id: u64) -> Option<Arc<Occupant>> {
        let occupant = self.taken.remove(&id)?;
        if occupant.share.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.shares.remove(&occupant.client);
        }
        Some(occupant)
    }

    /// Ends a connection of the client with the most, for a client that has `share`: the one idle longest, else the one
    /// whose replies have not been taken for longest. One that is just being answered goes only if its client will still
    /// have as many as the other, and for nobody in particular it stays. False if there is none.
    fn make_room(&mut self, share: Option<usize>, counters: &TcpCounters) -> bool {
        let now = Instant::now();
        let candidates = self.taken.iter().filter_map(|(id, occupant)| {
            let (busy, since) = (occupant.is_busy(), *lock(&occupant.since));
            let stuck = now.saturating_duration_since(since) >= STUCK;
            let its = occupant.share.load(Ordering::Relaxed);
            let spare = share.is_some_and(|share| its > share + 1);
            let may_go = spare || its >= share.unwrap_or(0) && (!busy || stuck);
            may_go.then_some(((its, !busy, Reverse(since)), *id))
        });
        let Some(occupant) = candidates.max().and_then(|(_, id)| self.free(id)) else { return false };
        occupant.leave.cancel();
        counters.evicted.fetch_add(1, Ordering::Relaxed);
        true
    }
}

/// What clients are told apart by.
fn client(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> IPV6_CLIENT)).into(),
        v4 => v4,
    }
}

/// Where panics of a transport are counted.
pub(crate) fn place(transport: Transport) -> Place {
    match transport {
        Transport::Udp => Place::Udp,
        Transport::Tcp => Place::Tcp,
        Transport::Grpc => Place::Grpc,
        Transport::Tls => Place::Tls,
        Transport::Https => Place::Https,
        Transport::Quic => Place::Quic,
    }
}

fn arrival(transport: Transport, stream: &TcpStream, peer: SocketAddr) -> Arrival {
    let local = stream.local_addr().map_or(IpAddr::from([0, 0, 0, 0]), |a| a.ip());
    Arrival::new(transport, peer, local, unix_now())
}

impl Occupant {
    /// A query has come.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        // In this order: who sees it busy is not to see since when it was idle.
        if !self.is_busy() {
            *lock(&self.since) = Instant::now();
        }
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    fn is_busy(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) > 0
    }
}

impl Seat {
    /// What the connections know of this one.
    pub(super) fn occupant(&self) -> &Arc<Occupant> {
        &self.occupant
    }

    /// What the connection may hold.
    pub(super) fn budget(&self) -> Arc<Budget> {
        Budget::new(self.connections.shared.clone())
    }

    /// Waits until the connection has to make room for another one, or the drain begins.
    pub(super) async fn leave(&self) {
        self.occupant.leave.cancelled().await;
    }

    /// Waits until the connection has to make room for another one; a drain is not heard.
    pub(super) async fn evicted(&self) {
        self.leave().await;
        if !self.is_evicted() {
            std::future::pending().await
        }
    }

    /// Whether the connection has to make room for another one.
    pub(super) fn is_evicted(&self) -> bool {
        self.occupant.leave.is_cancelled() && !self.connections.drain.is_cancelled()
    }

    /// Waits until there was no query for so long.
    pub(super) async fn idle(&self, limit: Duration) {
        self.unchanged(false, limit).await;
    }

    /// Waits until there were queries for so long, and was done with none of them.
    pub(super) async fn stuck(&self, limit: Duration) {
        self.unchanged(true, limit).await;
    }

    async fn unchanged(&self, busy: bool, limit: Duration) {
        loop {
            let since =
                if self.occupant.is_busy() == busy { *lock(&self.occupant.since) } else { Instant::now() };
            let Some(left) = limit.checked_sub(since.elapsed()).filter(|left| !left.is_zero()) else {
                return;
            };
            tokio::time::sleep(left).await;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        *lock(&self.0.since) = Instant::now();
        self.0.unanswered.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut places = self.connections.places();
        places.free(self.id);
        self.connections.counters.open.store(places.taken.len() as u64, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
