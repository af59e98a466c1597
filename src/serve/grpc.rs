//! DNS over gRPC, as CoreDNS's plugin `grpc` asks it (G1, G2): the method `Query` of `coredns.dns.DnsService`, over
//! HTTP/2 without TLS.
//!
//! hyper does the HTTP/2, and `packet` is all there is of gRPC in one call with one message each way. A framework
//! would bring its own accept loop, and connections are to be limited and drained together with those of DNS over
//! TCP ([`super::stream`]).

mod packet;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::responder::Arrival;
use super::stream::{Answerer, Connections, Seat};
use crate::wire::Transport;
use packet::MAX_BODY;

/// The port of istio-coredns-plugin, which Corefiles name.
pub const PORT: u16 = 8053;
/// Where the method is.
const PATH: &str = "/coredns.dns.DnsService/Query";
/// What begins the content type of every gRPC message.
const GRPC: &str = "application/grpc";
/// Calls at a time over one connection; CoreDNS's own gRPC server allows as many.
const CALLS: u32 = 256;
/// Octets that may be on their way to us in one call, before it is read: the largest message fits.
const CALL_WINDOW: u32 = 128 << 10;
/// Octets that may be on their way to us over one connection.
const CONNECTION_WINDOW: u32 = 1 << 20;

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
    /// A connection without a call for this long is closed.
    pub idle: Duration,
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
            .initial_stream_window_size(CALL_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .keep_alive_interval(patience.quiet)
            .keep_alive_timeout(patience.pong)
            .auto_date_header(false);
        Arc::new(Server { answerer, connections, http, patience })
    }

    /// Accepts on one socket until the drain begins.
    pub async fn accept(self: Arc<Self>, listener: TcpListener) {
        let connections = self.connections.clone();
        let converse = |stream, arrival, seat| self.clone().converse(stream, arrival, seat);
        connections.accept(listener, Transport::Grpc, converse).await;
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, arrival: Arrival, seat: Seat) {
        let service = service_fn(|request| {
            let (server, busy) = (self.clone(), seat.occupant().busy());
            async move {
                let reply = server.serve(request, arrival).await;
                drop(busy);
                Ok::<_, Infallible>(reply)
            }
        });
        let mut connection = std::pin::pin!(self.http.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            biased;
            // What broke it is the client's matter.
            _ = &mut connection => return,
            () = seat.leave() => {}
            () = seat.idle(self.patience.idle) => {}
        }
        // Calls in flight are finished, and the client learns which of its calls were not begun.
        connection.as_mut().graceful_shutdown();
        let farewell = if seat.is_evicted() { self.patience.room } else { self.patience.farewell };
        let _ = tokio::time::timeout(farewell, connection).await;
    }

    async fn serve(&self, request: Request<Incoming>, arrival: Arrival) -> Response<Reply> {
        let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if request.method() != Method::POST || !content_type.starts_with(GRPC.as_bytes()) {
            // What gRPC says of others than its own clients.
            let mut response = Response::new(Full::default().with_trailers(ready(None)));
            *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return response;
        }
        let (message, refusal) = match self.query(request, arrival).await {
            Ok(message) => (message, None),
            Err(refusal) => (Bytes::new(), Some(refusal)),
        };
        let body = Full::new(message).with_trailers(ready(Some(Ok(trailers(refusal)))));
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        response
    }

    async fn query(&self, request: Request<Incoming>, arrival: Arrival) -> Result<Bytes, Refusal> {
        if request.uri().path() != PATH {
            return Err(Refusal::NO_METHOD);
        }
        let body = Limited::new(request.into_body(), MAX_BODY).collect();
        let body = match tokio::time::timeout(self.patience.message, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => return Err(Refusal::TOO_LONG),
            Ok(Err(_)) => return Err(Refusal::BROKEN_OFF),
            Err(_) => return Err(Refusal::LATE),
        };
        let begun = Instant::now();
        let reply = self.answerer.answer(packet::read(&body)?, arrival).ok_or(Refusal::NOT_A_QUERY)?;
        let reply = packet::write(&reply);
        self.answerer.duration(Transport::Grpc, begun.elapsed());
        Ok(reply)
    }
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
