//! What DNS over TCP and over gRPC have in common: connections with a bound on their number, which end in good order
//! (D14, L5), and messages that are answered one by one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hickory::Handler;
use super::responder::{Arrival, Outcome, Responder};
use crate::lifecycle::unix_now;
use crate::metrics::{Counters, TcpCounters};
use crate::panics::{Place, contain, contained};
use crate::wire::Transport;
use crate::wire::reply::TCP_LIMIT;

/// How long to wait after the kernel refused a connection (no descriptors left, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

thread_local! {
    /// Room for the largest reply: one per thread, not per connection.
    static OUT: RefCell<Vec<u8>> = RefCell::new(vec![0; usize::from(TCP_LIMIT)]);
}

/// Answers messages that came over a stream, and counts them.
pub struct Answerer {
    responder: Arc<Responder>,
    handler: Handler,
    counters: Arc<Counters>,
}

impl Answerer {
    /// Counts into `counters`, which others may share.
    pub fn new(responder: Arc<Responder>, counters: Arc<Counters>) -> Arc<Answerer> {
        let handler = Handler::new(responder.clone(), counters.clone());
        Arc::new(Answerer { responder, handler, counters })
    }

    /// The whole reply, now, to a message that came as the connection did; `None` to one that gets none (D11). One that
    /// makes us panic gets SERVFAIL (L9).
    pub(super) fn answer(&self, message: &[u8], arrival: Arrival) -> Option<Bytes> {
        let arrival = Arrival { at: unix_now(), ..arrival };
        OUT.with_borrow_mut(|out| {
            let respond = || match self.responder.respond(message, arrival, &self.counters, out) {
                Outcome::Declined => self.handler.respond(message, arrival, out),
                outcome => outcome,
            };
            let outcome = contain(place(arrival.transport), respond)
                .unwrap_or_else(|| self.responder.fail(message, arrival, &self.counters, out));
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

/// The connections that are open, with a bound on their number.
pub struct Connections {
    limit: usize,
    counters: Arc<TcpCounters>,
    open: Mutex<HashMap<u64, Arc<Occupant>>>,
    next: AtomicU64,
    drain: CancellationToken,
    tasks: TaskTracker,
}

/// What is known of an open connection.
pub(super) struct Occupant {
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
        let (open, next, tasks) = (Mutex::default(), AtomicU64::new(0), TaskTracker::new());
        Arc::new(Connections { limit, counters, open, next, drain, tasks })
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
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.drain.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    let Some(seat) = self.seat() else { continue };
                    // Replies are written whole; waiting for more only delays them.
                    let _ = stream.set_nodelay(true);
                    let arrival = arrival(transport, &stream, peer);
                    // What it was about to say of other messages is lost with it, and the client asks again.
                    self.tasks.spawn(contained(place(transport), converse(stream, arrival, seat)));
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(%error, "connections cannot be accepted; is the limit of open files (ulimit -n) reached?");
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until every reply in flight is written and every connection closed (L5).
    pub async fn drained(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Queries that have come and are not answered yet.
    #[cfg(test)]
    pub(super) fn unanswered(&self) -> usize {
        self.open().values().map(|occupant| occupant.unanswered.load(Ordering::Relaxed)).sum()
    }

    /// A place for a new connection: the one idle longest makes room. `None` if all are busy.
    pub(super) fn seat(self: &Arc<Self>) -> Option<Seat> {
        let mut open = self.open();
        if open.len() >= self.limit {
            let idle = open.iter().filter(|(_, o)| !o.is_busy());
            let oldest = idle.min_by_key(|(_, o)| *lock(&o.since)).map(|(id, _)| *id);
            match oldest.and_then(|id| open.remove(&id)) {
                Some(occupant) => {
                    occupant.leave.cancel();
                    self.counters.evicted.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.counters.rejected.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let occupant = Arc::new(Occupant {
            since: Mutex::new(Instant::now()),
            unanswered: AtomicUsize::new(0),
            leave: self.drain.child_token(),
        });
        open.insert(id, occupant.clone());
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.store(open.len() as u64, Ordering::Relaxed);
        Some(Seat { connections: self.clone(), id, occupant })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Occupant>>> {
        lock(&self.open)
    }
}

/// Where panics of a transport are counted.
fn place(transport: Transport) -> Place {
    match transport {
        Transport::Udp => Place::Udp,
        Transport::Tcp => Place::Tcp,
        Transport::Grpc => Place::Grpc,
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

    /// Waits until the connection has to make room for another one, or the drain begins.
    pub(super) async fn leave(&self) {
        self.occupant.leave.cancelled().await;
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
        let mut open = self.connections.open();
        open.remove(&self.id);
        self.connections.counters.open.store(open.len() as u64, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
