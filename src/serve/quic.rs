//! DNS over QUIC (E4): RFC 9250, one message each way over a stream of its own.
//!
//! quinn does the QUIC. Who has not proved its address is asked to come again with a token (RFC 9000 section 8.1.2), so
//! packets with invented senders take nobody's place and are no use for reflection.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{
    Connection, Endpoint, EndpointConfig, Incoming, RecvStream, SendStream, TransportConfig, VarInt,
};

use super::budget::{Budget, Gathering, Held, UsedUp};
use super::http::{CALLS, Patience};
use super::responder::Arrival;
use super::stream::{Answerer, Connections, Seat};
use super::tls::{HANDSHAKE, Tls};
use crate::lifecycle::unix_now;
use crate::wire::reply::TCP_LIMIT;
use crate::wire::{Transport, padding, query};

/// Octets of the length before a message, RFC 9250 section 4.2.
const LENGTH: usize = 2;
/// Octets of the largest message.
const STREAM: usize = LENGTH + TCP_LIMIT as usize;
/// Octets that may be on their way to us before they are read, over one stream and over one connection: quinn holds them,
/// and nobody counts them. What has come is read at once, in whatever order, and counted then.
const WINDOWS: (u32, u32) = (16 << 10, 32 << 10);
/// Octets that may be on their way to the client over one connection: the largest reply fits, and is not alone. They are
/// counted.
const REPLIES: u64 = 128 << 10;
const _: () = assert!(REPLIES > STREAM as u64);
/// Attempts to connect that wait for us, and octets that they may send meanwhile: for one, and for all.
const WAITING: usize = 1024;
const WAITING_OCTETS: (u64, u64) = (16 << 10, 4 << 20);

/// How long packets that end connections may take to be sent, after the time their clients have to leave.
const LAST_PACKETS: Duration = Duration::from_secs(1);
/// QUIC itself ends a connection without a word when it was quiet for as long as its idle time, so that one is longer than
/// ours.
const SILENT_END: Duration = Duration::from_secs(5);

/// RFC 9250 section 4.3.
const NO_ERROR: VarInt = VarInt::from_u32(0);
const PROTOCOL_ERROR: VarInt = VarInt::from_u32(2);
const REQUEST_CANCELLED: VarInt = VarInt::from_u32(3);
const EXCESSIVE_LOAD: VarInt = VarInt::from_u32(4);

/// What every connection needs.
pub struct Server {
    answerer: Arc<Answerer>,
    connections: Arc<Connections>,
    patience: Patience,
}

/// Why a stream ended without its reply.
#[derive(Clone, Copy)]
enum End {
    /// Nobody wants it any more.
    TakenBack,
    /// It was late, or would need more than there is: the client hears of it, and its other queries go on.
    Refused,
    /// What RFC 9250 section 4.3.3 says ends a connection.
    Broken,
}

impl End {
    fn code(self) -> VarInt {
        match self {
            End::TakenBack => REQUEST_CANCELLED,
            End::Refused => EXCESSIVE_LOAD,
            End::Broken => PROTOCOL_ERROR,
        }
    }
}

/// An endpoint on a socket, inside of a runtime.
pub fn endpoint(socket: UdpSocket, tls: Tls, patience: Patience) -> anyhow::Result<Endpoint> {
    let mut transport = TransportConfig::default();
    let (stream, connection) = WINDOWS;
    transport
        .max_concurrent_bidi_streams(VarInt::from_u32(CALLS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .max_idle_timeout(Some((patience.idle + SILENT_END).try_into().context("an idle time for QUIC")?))
        .stream_receive_window(VarInt::from_u32(stream))
        .receive_window(VarInt::from_u32(connection))
        .send_window(REPLIES)
        .datagram_receive_buffer_size(None);
    let crypto = QuicServerConfig::try_from(tls).context("cipher suites for QUIC")?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    let (one, all) = WAITING_OCTETS;
    config
        .transport_config(Arc::new(transport))
        // What was decided for an address is to hold for the whole connection.
        .migration(false)
        .max_incoming(WAITING)
        .incoming_buffer_size(one)
        .incoming_buffer_size_total(all);
    let runtime = Arc::new(quinn::TokioRuntime);
    Ok(Endpoint::new(EndpointConfig::default(), Some(config), socket, runtime)?)
}

impl Server {
    /// A server whose connections are among `connections`.
    pub fn new(answerer: Arc<Answerer>, connections: Arc<Connections>, patience: Patience) -> Arc<Server> {
        Arc::new(Server { answerer, connections, patience })
    }

    /// Accepts at one endpoint until the drain begins, and waits for what is left. An endpoint that has broken is a panic:
    /// another one is needed.
    pub async fn accept(self: Arc<Self>, endpoint: Endpoint) {
        let _open = self.connections.open_until_dropped();
        loop {
            let incoming = tokio::select! {
                incoming = endpoint.accept() => incoming,
                () = self.connections.draining() => break,
            };
            // Nobody closes it, so its driver has panicked.
            let incoming = incoming.expect("the endpoint lives");
            if !incoming.remote_address_validated() {
                // Who cannot be asked has been already.
                let _ = incoming.retry();
                continue;
            }
            let Some(seat) = self.connections.seat(incoming.remote_address().ip()) else {
                incoming.refuse();
                continue;
            };
            self.connections.spawn(Transport::Quic, self.clone().converse(incoming, seat));
        }
        endpoint.set_server_config(None);
        // The last packets of connections that end.
        let _ = tokio::time::timeout(self.patience.farewell + LAST_PACKETS, endpoint.wait_idle()).await;
    }

    async fn converse(self: Arc<Self>, incoming: Incoming, seat: Seat) {
        let local = incoming.local_ip().unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let arrival = Arrival::new(Transport::Quic, incoming.remote_address(), local, unix_now());
        let Ok(connecting) = incoming.accept() else { return };
        let connection = tokio::select! {
            connected = tokio::time::timeout(HANDSHAKE, connecting) => match connected {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a QUIC handshake failed");
                    return;
                }
                Err(_) => return,
            },
            () = seat.leave() => return,
        };
        connection.close(self.talk(&connection, arrival, &seat).await, b"");
    }

    /// Answers over a connection to its end, and says with which code that is.
    async fn talk(&self, connection: &Connection, arrival: Arrival, seat: &Seat) -> VarInt {
        let budget = seat.budget();
        let mut streams = FuturesUnordered::new();
        loop {
            tokio::select! {
                biased;
                Some(end) = streams.next() => {
                    if let Err(End::Broken) = end {
                        return PROTOCOL_ERROR;
                    }
                }
                stream = connection.accept_bi() => match stream {
                    Ok((send, receive)) => streams.push(self.serve(send, receive, arrival, seat, &budget)),
                    // What broke it is the client's matter.
                    Err(_) => return NO_ERROR,
                },
                () = seat.stuck(self.patience.unread) => return EXCESSIVE_LOAD,
                () = seat.leave() => break,
                () = seat.idle(self.patience.idle) => break,
            }
        }
        // Queries that have begun to come are finished.
        let farewell = if seat.is_evicted() { self.patience.room } else { self.patience.farewell };
        let rest = async { while streams.next().await.is_some() {} };
        let _ = tokio::time::timeout(farewell, rest).await;
        NO_ERROR
    }

    async fn serve(
        &self,
        mut send: SendStream,
        mut receive: RecvStream,
        arrival: Arrival,
        seat: &Seat,
        budget: &Budget,
    ) -> Result<(), End> {
        let ended = self.reply(&mut send, &mut receive, arrival, seat, budget).await;
        if let Err(end) = ended {
            // One of them may have ended. A stream that is dropped would end like one with all of its reply.
            let _ = (receive.stop(end.code()), send.reset(end.code()));
        }
        ended
    }

    async fn reply(
        &self,
        send: &mut SendStream,
        receive: &mut RecvStream,
        arrival: Arrival,
        seat: &Seat,
        budget: &Budget,
    ) -> Result<(), End> {
        let message = tokio::time::timeout(self.patience.message, read(receive, budget)).await;
        let message = message.unwrap_or(Err(End::Refused))?;
        // As over TCP, a query begins to count when all of it has come, and until its reply is taken.
        let _busy = seat.occupant().busy();
        let begun = Instant::now();
        let reply = self.answerer.answer(&message[LENGTH..], arrival).ok_or(End::Broken)?;
        drop(message);
        let mut held = Held::default();
        budget.take(reply.len(), &mut held)?;
        let length = Bytes::copy_from_slice(&(reply.len() as u16).to_be_bytes());
        send.write_all_chunks(&mut [length, reply]).await.map_err(|_| End::TakenBack)?;
        send.finish().map_err(|_| End::TakenBack)?;
        self.answerer.duration(Transport::Quic, begun.elapsed());
        // Until the client has all of it.
        let _ = send.stopped().await;
        Ok(())
    }
}

impl From<UsedUp> for End {
    fn from(UsedUp: UsedUp) -> End {
        End::Refused
    }
}

/// All of a stream: one message with its length.
async fn read(receive: &mut RecvStream, budget: &Budget) -> Result<Bytes, End> {
    let mut gathering = Gathering::default();
    gathering.wait(budget)?;
    // A stream that is reset is a query that is taken back, RFC 9250 section 4.3.1. In order, what comes behind a gap
    // would be held by quinn.
    while let Some(chunk) = receive.read_chunk(STREAM + 1, false).await.map_err(|_| End::TakenBack)? {
        let at = usize::try_from(chunk.offset).unwrap_or(usize::MAX);
        if at.saturating_add(chunk.bytes.len()) > STREAM {
            return Err(End::Broken);
        }
        gathering.put(at, &chunk.bytes, budget)?;
    }
    let octets = gathering.whole();
    let Some((length, message)) = octets.split_first_chunk::<LENGTH>() else { return Err(End::Broken) };
    let whole = usize::from(u16::from_be_bytes(*length)) == message.len();
    // RFC 9250 sections 4.2.1 and 5.5.2.
    let valid = message.len() >= query::HEADER && message[..2] == [0, 0];
    if !whole || !valid || padding::has_option(message, padding::KEEPALIVE) {
        return Err(End::Broken);
    }
    Ok(octets)
}

#[cfg(test)]
mod tests;
