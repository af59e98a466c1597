//! DNS over gRPC, as CoreDNS's plugin `grpc` asks it (G1, G2): the method `Query` of `coredns.dns.DnsService`, over
//! HTTP/2 without TLS.
//!
//! hyper does the HTTP/2, and `packet` is all there is of gRPC in one call with one message each way. A framework
//! would bring its own accept loop, and connections are to be limited and drained together with those of DNS over
//! TCP ([`super::stream`]).

mod budget;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;
mod packet;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::responder::Arrival;
use super::stream::{Answerer, Connections, Occupant, Seat};
use crate::wire::Transport;
use budget::{Budget, Held};
use packet::MAX_BODY;

/// The port of istio-coredns-plugin, which Corefiles name.
pub const PORT: u16 = 8053;
/// Where the method is.
const PATH: &str = "/coredns.dns.DnsService/Query";
/// The content type of gRPC; `+` and the encoding of messages, or `;` and parameters may follow.
const GRPC: &str = "application/grpc";
/// Calls at a time over one connection; CoreDNS's own gRPC server allows as many.
const CALLS: u32 = 256;
/// Octets that may be on their way to us over one connection before they are read, and in one call: the largest message
/// fits. h2 ends a connection where half of this is taken by frames that are counted as 256 octets at least, so a frame
/// of every call must fit in there.
const WINDOW: u32 = 128 << 10;
const _: () = assert!(WINDOW as usize >= MAX_BODY && WINDOW / 2 >= CALLS * 256);
/// Octets of the headers of one call; those of CoreDNS have about 200.
const HEADERS: u32 = 8 << 10;
/// What is first held of a message that comes in pieces; most messages are smaller.
const PIECE: usize = 512;

/// How long to wait for clients (G2).
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// A call whose message has not come completely in this time is ended.
    pub message: Duration,
    /// A connection over which nothing has come for so long is asked whether it lives (HTTP/2 PING), which also keeps
    /// middleboxes from forgetting it.
    pub quiet: Duration,
    /// How long it may take to say so.
    pub pong: Duration,
    /// A connection without a complete call for this long is closed.
    pub idle: Duration,
    /// One that takes none of its replies for this long is broken off.
    pub unread: Duration,
    /// How long a client may take to leave after it was told that the connection ends.
    pub farewell: Duration,
    /// The same where it makes room for another connection, and holds a descriptor beyond the limit meanwhile.
    pub room: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience {
            message: seconds(10),
            quiet: seconds(30),
            pong: seconds(20),
            idle: seconds(600),
            unread: seconds(30),
            farewell: seconds(3),
            room: Duration::from_millis(100),
        }
    }
}

/// What every connection needs.
pub struct Server {
    answerer: Arc<Answerer>,
    connections: Arc<Connections>,
    http: http2::Builder<TokioExecutor>,
    patience: Patience,
    /// Octets that the calls of all connections may hold.
    shared: Arc<Semaphore>,
}

/// What a call needs of its connection.
struct Caller {
    arrival: Arrival,
    occupant: Arc<Occupant>,
    budget: Arc<Budget>,
}

/// Why a call has no message in return: a status of gRPC, and a text in ASCII without `%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: u8,
    message: &'static str,
}

/// A refusal for each reason; the numbers are those of gRPC's statuscodes.md.
impl Refusal {
    const fn invalid(message: &'static str) -> Refusal {
        Refusal { status: 3, message }
    }

    const fn unimplemented(message: &'static str) -> Refusal {
        Refusal { status: 12, message }
    }

    const BROKEN_OFF: Refusal = Refusal { status: 1, message: "the message broke off" };
    const LATE: Refusal = Refusal { status: 4, message: "the message did not arrive in time" };
    const TOO_LONG: Refusal = Refusal { status: 8, message: "a DNS message has at most 65535 octets" };
    /// D11, where DNS has silence.
    const NOT_A_QUERY: Refusal = Refusal::invalid(
        "not a DNS query and nothing that could be answered: it has under 12 octets, or is a reply itself",
    );
    const NO_METHOD: Refusal =
        Refusal::unimplemented("there is no such method; the one there is is coredns.dns.DnsService/Query");
}

/// One message, or none, and the trailers that end every call.
type Reply = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

impl Server {
    /// A server whose connections are among `connections`.
    pub fn new(answerer: Arc<Answerer>, connections: Arc<Connections>, patience: Patience) -> Arc<Server> {
        let mut http = http2::Builder::new(TokioExecutor::new());
        http.timer(TokioTimer::new())
            .max_concurrent_streams(CALLS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(HEADERS)
            .keep_alive_interval(patience.quiet)
            .keep_alive_timeout(patience.pong)
            .auto_date_header(false);
        let shared = Arc::new(Semaphore::new(budget::SHARED));
        Arc::new(Server { answerer, connections, http, patience, shared })
    }

    /// Accepts on one socket until the drain begins.
    pub async fn accept(self: Arc<Self>, listener: Arc<TcpListener>) {
        let connections = self.connections.clone();
        let converse = |stream, arrival, seat| self.clone().converse(stream, arrival, seat);
        connections.accept(listener, Transport::Grpc, converse).await;
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, arrival: Arrival, seat: Seat) {
        let budget = Budget::new(self.shared.clone());
        let service = service_fn(|request| {
            let (server, budget) = (self.clone(), budget.clone());
            let caller = Caller { arrival, occupant: seat.occupant().clone(), budget };
            async move { Ok::<_, Infallible>(server.serve(request, caller).await) }
        });
        let mut connection = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            // What broke it is the client's matter.
            _ = &mut connection => return,
            () = seat.stuck(self.patience.unread) => return,
            () = seat.leave() => {}
            () = seat.idle(self.patience.idle) => {}
        }
        // Calls in flight are finished, and the client learns which of its calls were not begun.
        connection.as_mut().graceful_shutdown();
        let farewell = if seat.is_evicted() { self.patience.room } else { self.patience.farewell };
        let _ = tokio::time::timeout(farewell, connection).await;
    }

    async fn serve(&self, request: Request<Incoming>, caller: Caller) -> Response<Reply> {
        let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if request.method() != Method::POST || !is_grpc(content_type) {
            // What gRPC says of others than its own clients.
            let mut response = Response::new(Full::default().with_trailers(ready(None)));
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let (message, refusal) = match self.query(request, caller).await {
            Ok(message) => (message, None),
            Err(refusal) => (Bytes::new(), Some(refusal)),
        };
        let body = Full::new(message).with_trailers(ready(Some(Ok(trailers(refusal)))));
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        response
    }

    async fn query(&self, request: Request<Incoming>, caller: Caller) -> Result<Bytes, Refusal> {
        if request.uri().path() != PATH {
            return Err(Refusal::NO_METHOD);
        }
        let Caller { arrival, occupant, budget } = caller;
        let body = tokio::time::timeout(self.patience.message, read(request.into_body(), &budget));
        let body = body.await.unwrap_or(Err(Refusal::LATE))?;
        // As over TCP, a query begins to count when all of it has come, and until its reply is taken.
        let busy = occupant.busy();
        let begun = Instant::now();
        let reply = self.answerer.answer(packet::read(&body)?, arrival).ok_or(Refusal::NOT_A_QUERY)?;
        drop(body);
        let reply = packet::write(&reply);
        let mut held = Held::default();
        budget.take(reply.len(), &mut held)?;
        self.answerer.duration(Transport::Grpc, begun.elapsed());
        Ok(budget::with(reply, (held, busy)))
    }
}

/// All that a call sends. One whose message comes whole, as messages do, holds nothing, and needs no budget.
async fn read(mut body: impl Body<Data = Bytes> + Unpin, budget: &Budget) -> Result<Bytes, Refusal> {
    let (mut octets, mut held) = (Vec::new(), Held::default());
    let mut waited = false;
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                if !std::mem::replace(&mut waited, true) {
                    budget.take(budget::CALL, &mut held)?;
                }
                body.frame().await
            }
        };
        let Some(frame) = frame else { return Ok(budget::with(octets, held)) };
        let Ok(data) = frame.map_err(|_| Refusal::BROKEN_OFF)?.into_data() else { continue };
        let length = octets.len() + data.len();
        if length > MAX_BODY {
            return Err(Refusal::TOO_LONG);
        }
        if octets.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        // A copy, as a frame of one octet may hold a whole buffer of the connection's.
        if length > octets.capacity() {
            let room = length.next_power_of_two().clamp(PIECE, MAX_BODY);
            budget.take(room - octets.capacity(), &mut held)?;
            octets.reserve_exact(room - octets.len());
        }
        octets.extend_from_slice(&data);
    }
}

fn is_grpc(content_type: &[u8]) -> bool {
    content_type.strip_prefix(GRPC.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

fn trailers(refusal: Option<Refusal>) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    let status = refusal.map_or(0, |refusal| u16::from(refusal.status));
    trailers.insert(HeaderName::from_static("grpc-status"), status.into());
    if let Some(Refusal { message, .. }) = refusal {
        trailers.insert(HeaderName::from_static("grpc-message"), HeaderValue::from_static(message));
    }
    trailers
}

#[cfg(test)]
mod tests;
