//! DNS over HTTPS (E3): RFC 8484 over HTTP/2 and HTTP/1.1.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};

use super::budget::{self, Budget, Held, UsedUp};
use super::http::{Caller, Http, NOT_A_QUERY, Patience, Unread};
use super::responder::Arrival;
use super::stream::{Answerer, Connections, Seat};
use super::tls::{self, Tls};
use crate::wire::reply::TCP_LIMIT;
use crate::wire::{Transport, lifetime};

/// What RFC 8484's examples and every client have as a path.
pub const PATH: &str = "/dns-query";
/// The media type of a message, RFC 8484 section 6.
const MESSAGE: &str = "application/dns-message";

/// What every connection needs.
pub struct Server {
    answerer: Arc<Answerer>,
    connections: Arc<Connections>,
    http: Http,
    path: String,
}

/// Why a request has no message in return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: &'static str,
}

/// A refusal for each reason.
impl Refusal {
    const fn new(status: StatusCode, message: &'static str) -> Refusal {
        Refusal { status, message }
    }

    const NOT_FOUND: Refusal =
        Refusal::new(StatusCode::NOT_FOUND, "there is nothing here; ask at the path of DNS queries");
    const METHOD: Refusal = Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "ask with GET or POST");
    const MEDIA: Refusal = Refusal::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "a POST takes the content type application/dns-message",
    );
    const NO_QUERY: Refusal = Refusal::new(
        StatusCode::BAD_REQUEST,
        "a GET takes one DNS message in ?dns=, in base64url without padding",
    );
    /// D11, where DNS has silence.
    const NOT_A_QUERY: Refusal = Refusal::new(StatusCode::BAD_REQUEST, NOT_A_QUERY);
}

impl From<Unread> for Refusal {
    fn from(unread: Unread) -> Refusal {
        let status = match unread {
            Unread::BrokenOff => StatusCode::BAD_REQUEST,
            Unread::Late => StatusCode::REQUEST_TIMEOUT,
            Unread::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Unread::UsedUp => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal::new(status, unread.text())
    }
}

impl From<UsedUp> for Refusal {
    fn from(used_up: UsedUp) -> Refusal {
        Unread::from(used_up).into()
    }
}

impl Server {
    /// A server whose connections are among `connections`, and which answers at `path`.
    pub fn new(
        answerer: Arc<Answerer>,
        connections: Arc<Connections>,
        patience: Patience,
        path: String,
    ) -> Arc<Server> {
        Arc::new(Server { answerer, connections, http: Http::new(patience), path })
    }

    /// Accepts on one socket until the drain begins.
    pub async fn accept(self: Arc<Self>, listener: Arc<TcpListener>, tls: Tls) {
        let connections = self.connections.clone();
        let converse = |stream, arrival, seat| self.clone().converse(stream, arrival, seat, tls.clone());
        connections.accept(listener, Transport::Https, converse).await;
    }

    async fn converse(self: Arc<Self>, stream: TcpStream, arrival: Arrival, seat: Seat, tls: Tls) {
        let Some(stream) = tls::shake_hands(&tls, stream, &seat).await else { return };
        let serve = |request, caller| {
            let server = self.clone();
            async move { server.serve(request, caller).await }
        };
        self.http.converse(stream, arrival, &seat, serve).await;
    }

    async fn serve(&self, request: Request<Incoming>, caller: Caller) -> Response<Full<Bytes>> {
        match self.reply(request, caller).await {
            Ok(response) => response,
            Err(Refusal { status, message }) => {
                let mut response = Response::new(Full::from(format!("{message}\n")));
                *response.status_mut() = status;
                let headers = response.headers_mut();
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
                if status == StatusCode::METHOD_NOT_ALLOWED {
                    headers.insert(ALLOW, HeaderValue::from_static("GET, POST"));
                }
                response
            }
        }
    }

    async fn reply(
        &self,
        request: Request<Incoming>,
        caller: Caller,
    ) -> Result<Response<Full<Bytes>>, Refusal> {
        let Caller { arrival, occupant, budget } = caller;
        let message = self.message(request, &budget).await?;
        // As over TCP, a query begins to count when all of it has come, and until its reply is taken.
        let busy = occupant.busy();
        let begun = Instant::now();
        let reply = self.answerer.answer(&message, arrival).ok_or(Refusal::NOT_A_QUERY)?;
        drop(message);
        let mut held = Held::default();
        budget.take(reply.len(), &mut held)?;
        let fresh = lifetime::of(&reply);
        self.answerer.duration(Transport::Https, begun.elapsed());
        let mut response = Response::new(Full::new(budget::with(reply, (held, busy))));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(MESSAGE));
        // RFC 8484 section 5.1: never fresh for longer than the shortest TTL.
        let fresh = HeaderValue::try_from(format!("max-age={fresh}"));
        headers.insert(CACHE_CONTROL, fresh.unwrap_or(HeaderValue::from_static("no-store")));
        Ok(response)
    }

    async fn message(&self, request: Request<Incoming>, budget: &Budget) -> Result<Bytes, Refusal> {
        if request.uri().path() != self.path {
            return Err(Refusal::NOT_FOUND);
        }
        if request.method() == Method::GET {
            return in_the_address(request.uri().query().unwrap_or_default());
        }
        if request.method() != Method::POST {
            return Err(Refusal::METHOD);
        }
        let media = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if !media.eq_ignore_ascii_case(MESSAGE.as_bytes()) {
            return Err(Refusal::MEDIA);
        }
        Ok(self.http.read(request.into_body(), usize::from(TCP_LIMIT), budget).await?)
    }
}

/// The message of a GET, RFC 8484 section 4.1.1.
fn in_the_address(query: &str) -> Result<Bytes, Refusal> {
    let mut messages = query.split('&').filter_map(|pair| pair.strip_prefix("dns="));
    let (Some(message), None) = (messages.next(), messages.next()) else { return Err(Refusal::NO_QUERY) };
    URL_SAFE_NO_PAD.decode(message).map(Bytes::from).map_err(|_| Refusal::NO_QUERY)
}

#[cfg(test)]
mod tests;
