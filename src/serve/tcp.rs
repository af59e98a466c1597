//! DNS over TCP (D14): accept, framing, limits and drain.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::codec::{Framed, LengthDelimitedCodec};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::hickory::Handler;
use super::responder::{Arrival, Outcome, Responder};
use crate::metrics::{Counters, TcpCounters};
use crate::wire::Transport;
use crate::wire::reply::TCP_LIMIT;

/// A connection without a complete query for this long is closed: longer than the 10 s for which CoreDNS's
/// `forward` keeps a connection for reuse, so that CoreDNS closes first (D14).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Replies that are ready while more queries wait are sent together up to this many octets.
const WRITE_BATCH: usize = 32 * 1024;
/// How long to wait after the kernel refused a connection (no descriptors left, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What connections may take (D14).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at a time.
    pub connections: usize,
    /// How long one may go without a complete query, or a reply without being taken.
    pub idle: Duration,
}

/// What every connection needs.
pub struct Server {
    responder: Arc<Responder>,
    handler: Handler,
    counters: Arc<Counters>,
    connections: Arc<Connections>,
    idle: Duration,
    drain: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// A server that stops taking queries when `drain` is cancelled.
    pub fn new(
        responder: Arc<Responder>,
        counters: Arc<Counters>,
        tcp: Arc<TcpCounters>,
        limits: Limits,
        drain: CancellationToken,
    ) -> Arc<Server> {
        let handler = Handler::new(responder.clone(), counters.clone());
        let connections = Arc::new(Connections {
            limit: limits.connections,
            counters: tcp,
            open: Mutex::default(),
            next: AtomicU64::new(0),
        });
        let (idle, tasks) = (limits.idle, TaskTracker::new());
        Arc::new(Server { responder, handler, counters, connections, idle, drain, tasks })
    }

    /// Accepts on one socket until the drain begins.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let mut failing = false;
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.drain.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failing = false;
                    let Some(seat) = self.connections.seat() else { continue };
                    let server = self.clone();
                    self.tasks.spawn(async move { server.converse(stream, peer, &seat).await });
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

    async fn converse(&self, stream: TcpStream, peer: SocketAddr, seat: &Seat) {
        // Replies are written whole; waiting for more only delays them.
        let _ = stream.set_nodelay(true);
        let local = stream.local_addr().map_or(IpAddr::from([0, 0, 0, 0]), |a| a.ip());
        let arrival = Arrival::new(Transport::Tcp, peer, local);
        let codec = LengthDelimitedCodec::builder().length_field_type::<u16>().new_codec();
        let mut framed = Framed::new(stream, codec);
        framed.set_backpressure_boundary(WRITE_BATCH);
        loop {
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(self.idle, framed.next()) => next,
                () = seat.evicted.cancelled() => return,
                () = self.drain.cancelled() => return,
            };
            let Ok(Some(Ok(message))) = next else { return };
            seat.busy();
            // A stuck reader must not hold its seat for ever.
            let answered = tokio::time::timeout(self.idle, self.answer(&mut framed, message, arrival));
            if !matches!(answered.await, Ok(Ok(()))) {
                return;
            }
            seat.idle();
        }
    }

    /// Answers a query and every further one that has arrived completely, then writes the replies.
    async fn answer(
        &self,
        framed: &mut Framed<TcpStream, LengthDelimitedCodec>,
        first: BytesMut,
        arrival: Arrival,
    ) -> io::Result<()> {
        let mut message = first;
        loop {
            let begun = Instant::now();
            if let Some(reply) = self.reply(&message, arrival) {
                framed.feed(reply).await?;
                self.counters.durations(Transport::Tcp, 1, begun.elapsed());
            }
            match framed.next().now_or_never() {
                Some(Some(Ok(next))) => message = next,
                Some(Some(Err(error))) => {
                    flush(framed).await?;
                    return Err(error);
                }
                // End of stream shows again at the next read; nothing more for now: write.
                Some(None) | None => return flush(framed).await,
            }
        }
    }

    fn reply(&self, message: &[u8], arrival: Arrival) -> Option<Bytes> {
        OUT.with_borrow_mut(|out| {
            let outcome = match self.responder.respond(message, arrival, &self.counters, out) {
                Outcome::Declined => self.handler.respond(message, arrival, out),
                outcome => outcome,
            };
            match outcome {
                Outcome::Reply(length) => Some(Bytes::copy_from_slice(&out[..length])),
                Outcome::Silence | Outcome::Declined => None,
            }
        })
    }
}

thread_local! {
    /// Room for the largest reply: one per thread, not per connection.
    static OUT: RefCell<Vec<u8>> = RefCell::new(vec![0; usize::from(TCP_LIMIT)]);
}

async fn flush(framed: &mut Framed<TcpStream, LengthDelimitedCodec>) -> io::Result<()> {
    SinkExt::<Bytes>::flush(framed).await
}

/// The connections that are open, with a bound on their number.
struct Connections {
    limit: usize,
    counters: Arc<TcpCounters>,
    open: Mutex<HashMap<u64, Arc<Occupant>>>,
    next: AtomicU64,
}

struct Occupant {
    since: Mutex<Instant>,
    busy: AtomicBool,
    evicted: CancellationToken,
}

/// One connection's place; leaving it frees the place.
struct Seat {
    connections: Arc<Connections>,
    id: u64,
    occupant: Arc<Occupant>,
    evicted: CancellationToken,
}

impl Connections {
    /// A place for a new connection: the one idle longest makes room. `None` if all are busy.
    fn seat(self: &Arc<Self>) -> Option<Seat> {
        let mut open = self.open();
        if open.len() >= self.limit {
            let idle = open.iter().filter(|(_, o)| !o.busy.load(Ordering::Relaxed));
            let oldest = idle.min_by_key(|(_, o)| *lock(&o.since)).map(|(id, _)| *id);
            match oldest.and_then(|id| open.remove(&id)) {
                Some(occupant) => {
                    occupant.evicted.cancel();
                    self.counters.evicted.fetch_add(1, Ordering::Relaxed);
                }
                None => {
                    self.counters.rejected.fetch_add(1, Ordering::Relaxed);
                    return None;
                }
            }
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let evicted = CancellationToken::new();
        let occupant = Arc::new(Occupant {
            since: Mutex::new(Instant::now()),
            busy: AtomicBool::new(false),
            evicted: evicted.clone(),
        });
        open.insert(id, occupant.clone());
        self.counters.accepted.fetch_add(1, Ordering::Relaxed);
        self.counters.open.store(open.len() as u64, Ordering::Relaxed);
        Some(Seat { connections: self.clone(), id, occupant, evicted })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Occupant>>> {
        lock(&self.open)
    }
}

impl Seat {
    fn busy(&self) {
        self.occupant.busy.store(true, Ordering::Relaxed);
    }

    fn idle(&self) {
        *lock(&self.occupant.since) = Instant::now();
        self.occupant.busy.store(false, Ordering::Relaxed);
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

#[cfg(test)]
mod tests;
