//! DNS over gRPC, as CoreDNS's plugin `grpc` asks it (G1, G2): the method `Query` of `coredns.dns.DnsService`, over
//! HTTP/2 without TLS.
//!
//! [`super::http`] has the connections, and `packet` is all there is of gRPC in one call with one message each way. A
//! framework would bring its own accept loop, and connections are to be limited and drained together with those of DNS
//! over TCP ([`super::stream`]).

#[cfg(any(test, feature = "testing"))]
pub(crate) mod check;
mod packet;

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::WithTrailers;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};

use super::budget::{self, Held, UsedUp};
use super::http::{Caller, Http, NOT_A_QUERY, Patience, Unread};
use super::responder::Arrival;
use super::stream::{Answerer, Connections, Seat};
use crate::wire::Transport;
use packet::MAX_BODY;

/// The port of istio-coredns-plugin, which Corefiles name.
pub const PORT: u16 = 8053;
/// Where the method is.
const PATH: &str = "/coredns.dns.DnsService/Query";
/// The content type of gRPC; `+` and the encoding of messages, or `;` and parameters may follow.
const GRPC: &str = "application/grpc";

/// What every connection needs.
pub struct Server {
    answerer: Arc<Answerer>,
    connections: Arc<Connections>,
    http: Http,
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

    /// D11, where DNS has silence.
    const NOT_A_QUERY: Refusal = Refusal::invalid(NOT_A_QUERY);
    const NO_METHOD: Refusal =
        Refusal::unimplemented("there is no such method; the one there is is coredns.dns.DnsService/Query");
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Refusal {
        let status = match unread {
            Unread::BrokenOff => 1,
            Unread::Late => 4,
            Unread::TooLong | Unread::UsedUp => 8,
        };
        Refusal { status, message: unread.text() }
    }
}

impl From<UsedUp> for Refusal {
    fn from(used_up: UsedUp) -> Refusal {
        Unread::from(used_up).into()
    }
}

/// One message, or none, and the trailers that end every call.
type Reply = WithTrailers<Full<Bytes>, Ready<Option<Result<HeaderMap, Infallible>>>>;

impl Server {
    /// A server whose connections are among `connections`.
    pub fn new(answerer: Arc<Answerer>, connections: Arc<Connections>, patience: Patience) -> Arc<Server> {
        Arc::new(Server { answerer, connections, http: Http::new(patience).http2_only() })
    }

    /// Accepts on one socket until the drain begins.
    pub async fn accept(self: Arc<Self>, listener: Arc<TcpListener>) {
        let connections = self.connections.clone();
        let converse = |stream, arrival, seat| self.clone().converse(stream, arrival, seat);
        connections.accept(listener, Transport::Grpc, converse).await;
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, arrival: Arrival, seat: Seat) {
        let serve = |request, caller| {
            let server = self.clone();
            async move { server.serve(request, caller).await }
        };
        self.http.converse(stream, arrival, &seat, serve).await;
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
        let body = self.http.read(request.into_body(), MAX_BODY, &budget).await?;
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
