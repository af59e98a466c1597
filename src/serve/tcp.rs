//! DNS over TCP (D14): framing, and how long one waits for a client.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::{FutureExt, SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_util::codec::{Framed, LengthDelimitedCodec};

use super::responder::Arrival;
use super::stream::{Answerer, Connections, Seat};
use crate::wire::Transport;

/// A connection without a complete query for this long is closed: longer than the 10 s for which CoreDNS's
/// `forward` keeps a connection for reuse, so that CoreDNS closes first (D14).
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Replies that are ready while more queries wait are sent together up to this many octets.
const WRITE_BATCH: usize = 32 * 1024;

/// What octets come and go by.
trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

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
        let converse = |stream, arrival, seat| self.clone().converse(stream, arrival, seat);
        connections.accept(listener, Transport::Tcp, converse).await;
    }

    async fn converse(self: Arc<Self>, stream: impl Stream, arrival: Arrival, seat: Seat) {
        let codec = LengthDelimitedCodec::builder().length_field_type::<u16>().new_codec();
        let mut framed = Framed::new(stream, codec);
        framed.set_backpressure_boundary(WRITE_BATCH);
        loop {
            let next = tokio::select! {
                biased;
                next = tokio::time::timeout(self.idle, framed.next()) => next,
                () = seat.leave() => return,
            };
            let Ok(Some(Ok(message))) = next else { return };
            let _busy = seat.occupant().busy();
            // A stuck reader must not hold its seat for ever.
            let answered = tokio::time::timeout(self.idle, self.answer(&mut framed, message, arrival));
            if !matches!(answered.await, Ok(Ok(()))) {
                return;
            }
        }
    }

    /// Answers a query and every further one that has arrived completely, then writes the replies.
    async fn answer(
        &self,
        framed: &mut Framed<impl Stream, LengthDelimitedCodec>,
        first: BytesMut,
        arrival: Arrival,
    ) -> io::Result<()> {
        let mut message = first;
        loop {
            let begun = Instant::now();
            if let Some(reply) = self.answerer.answer(&message, arrival) {
                framed.feed(reply).await?;
                self.answerer.duration(Transport::Tcp, begun.elapsed());
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
}

async fn flush(framed: &mut Framed<impl Stream, LengthDelimitedCodec>) -> io::Result<()> {
    SinkExt::<Bytes>::flush(framed).await
}

#[cfg(test)]
mod tests;
