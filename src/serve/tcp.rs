//! DNS over TCP (D14) and over TLS (E2): framing, and how long one waits for a client.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;
mod framing;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::codec::Framed;

use super::budget::{Budget, Held};
use super::responder::Arrival;
use super::stream::{Answerer, Connections, Seat};
use super::tls::{self, Tls};
use crate::wire::Transport;
use framing::{BUFFER, Framing, LENGTH, Message, SMALL};

/// A connection without a complete query for this long is closed: longer than the 10 s for which CoreDNS's
/// `forward` keeps a connection for reuse, so that CoreDNS closes first (D14). Octets of a query that is not complete
/// renew nothing, so who sends one at a time has this long for all of it; RFC 7766 section 6.2.3 leaves the time to the
/// server, Knot has 10 s for it and NSD 120 s.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Replies that are ready while more queries wait are sent together, as soon as they, or the queries, have this many
/// octets.
const BATCH: usize = 16 << 10;
/// How long the end of a stream may take to be sent to a client that does not read.
const CLOSING: Duration = Duration::from_secs(1);

/// A conversation over one connection.
type Conversation<S> = Framed<S, Framing>;

/// How a batch of replies ended.
enum Batch {
    /// There may be more to answer.
    Full,
    /// There is no more for now.
    Last,
}

/// What every connection needs.
pub struct Server {
    answerer: Arc<Answerer>,
    connections: Arc<Connections>,
    idle: Duration,
}

impl Server {
    /// A server whose connections may go `idle` long without a complete query, or a reply without being taken.
    pub fn new(answerer: Arc<Answerer>, connections: Arc<Connections>, idle: Duration) -> Arc<Server> {
        Arc::new(Server { answerer, connections, idle })
    }

    /// Accepts on one socket until the drain begins.
    pub async fn accept(self: Arc<Self>, listener: Arc<TcpListener>) {
        let connections = self.connections.clone();
        let converse = |stream, arrival, seat| {
            let server = self.clone();
            async move { server.converse(stream, arrival, &seat).await }
        };
        connections.accept(listener, Transport::Tcp, converse).await;
    }

    /// The same over TLS.
    pub async fn accept_tls(self: Arc<Self>, listener: Arc<TcpListener>, tls: Tls) {
        let connections = self.connections.clone();
        let converse = |stream, arrival, seat| {
            let (server, tls) = (self.clone(), tls.clone());
            async move {
                if let Some(stream) = tls::shake_hands(&tls, stream, &seat).await {
                    server.converse(stream, arrival, &seat).await;
                }
            }
        };
        connections.accept(listener, Transport::Tls, converse).await;
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, arrival: Arrival, seat: &Seat) {
        let budget = seat.budget();
        let mut conversation = Framed::with_capacity(stream, Framing::new(budget.clone()), BUFFER);
        // Not before we say so: a batch ends when it is written, and only then the client's time begins anew.
        conversation.set_backpressure_boundary(BATCH);
        loop {
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(self.idle, conversation.next()) => next,
                () = seat.leave() => break,
            };
            let Ok(Some(Ok(message))) = next else { break };
            let _busy = seat.occupant().busy();
            // A stuck reader must not hold its seat for ever.
            let answered = self.answer(&mut conversation, message, arrival, &budget);
            let answered = tokio::select! {
                // Replies that can be written are, also where their connection makes room.
                biased;
                answered = tokio::time::timeout(self.idle, answered) => answered,
                () = seat.evicted() => return,
            };
            if !matches!(answered, Ok(Ok(()))) {
                return;
            }
        }
        let _ = tokio::time::timeout(CLOSING, conversation.close()).await;
    }

    /// Answers a query and further ones that have arrived completely, then writes the replies.
    async fn answer<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        conversation: &mut Conversation<S>,
        first: Message,
        arrival: Arrival,
        budget: &Budget,
    ) -> io::Result<()> {
        let mut held = Held::default();
        let batch = self.batch(conversation, first, arrival, budget, &mut held).await;
        // Whatever has ended it, those that are ready are owed.
        flush(conversation).await?;
        if let Batch::Full = batch? {
            // There may be more, and there may be others.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Makes replies ready, as many as are sent together.
    async fn batch<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        conversation: &mut Conversation<S>,
        first: Message,
        arrival: Arrival,
        budget: &Budget,
        held: &mut Held,
    ) -> io::Result<Batch> {
        let mut message = first;
        let mut read = 0;
        loop {
            let begun = Instant::now();
            if let Some(reply) = self.answerer.answer(message.octets(), arrival) {
                if reply.len() > SMALL {
                    budget.take(reply.len(), held)?;
                }
                conversation.feed(reply).await?;
                self.answerer.duration(arrival.transport, begun.elapsed());
            }
            // Not all messages get a reply.
            read += LENGTH + message.octets().len();
            if read.max(conversation.write_buffer().len()) >= BATCH {
                return Ok(Batch::Full);
            }
            match conversation.next().now_or_never() {
                Some(Some(next)) => message = next?,
                // End of stream shows again at the next read; nothing more for now: write.
                Some(None) | None => return Ok(Batch::Last),
            }
        }
    }
}

/// Writes what is ready, and gives back what large replies took: what is written leaves the buffer, but not its room.
async fn flush<S: AsyncRead + AsyncWrite + Unpin>(conversation: &mut Conversation<S>) -> io::Result<()> {
    let large = conversation.write_buffer().len() > 2 * SMALL;
    conversation.flush().await?;
    if large {
        *conversation.write_buffer_mut() = framing::small(&[]);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
