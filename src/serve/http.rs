//! What DNS over gRPC and DNS over HTTPS have in common: connections of HTTP with limits and patience (G2, E5), and calls
//! whose message may come in pieces.
//!
//! hyper does the HTTP.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};

use super::budget::{Budget, Gathering, UsedUp};
use super::responder::Arrival;
use super::stream::{Occupant, Seat};
use crate::wire::reply::TCP_LIMIT;

/// Calls at a time over one connection; CoreDNS's own gRPC server allows as many.
pub(super) const CALLS: u32 = 256;
/// Octets that may be on their way to us over one connection before they are read, and in one call: the largest message
/// fits. h2 ends a connection where half of this is taken by frames that are counted as 256 octets at least, so a frame
/// of every call must fit in there.
const WINDOW: u32 = 128 << 10;
const _: () = assert!(WINDOW > TCP_LIMIT as u32 && WINDOW / 2 >= CALLS * 256);
/// Octets of the headers of one call; those of CoreDNS have about 200, and a GET has its query there.
const HEADERS: u32 = 8 << 10;

/// How long to wait for clients (G2, E5).
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

impl Patience {
    /// For CoreDNS, which keeps a connection for good.
    pub const GRPC: Patience = Patience {
        message: Duration::from_secs(10),
        quiet: Duration::from_secs(30),
        pong: Duration::from_secs(20),
        idle: Duration::from_secs(600),
        unread: Duration::from_secs(30),
        farewell: Duration::from_secs(3),
        room: Duration::from_millis(100),
    };
    /// For everybody else: as long as over TCP.
    pub const HTTPS: Patience = Patience { idle: super::tcp::IDLE_TIMEOUT, ..Patience::GRPC };
}

/// A server of HTTP.
pub(super) struct Http {
    http: auto::Builder<TokioExecutor>,
    patience: Patience,
}

/// What a call needs of its connection.
pub(super) struct Caller {
    pub(super) arrival: Arrival,
    pub(super) occupant: Arc<Occupant>,
    pub(super) budget: Arc<Budget>,
}

/// For the client: what gets no reply by D11.
pub(super) const NOT_A_QUERY: &str =
    "not a DNS query and nothing that could be answered: it has under 12 octets, or is a reply itself";

/// Why a message was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    BrokenOff,
    Late,
    TooLong,
    UsedUp,
}

impl Unread {
    /// The same for the client.
    pub(super) fn text(self) -> &'static str {
        match self {
            Unread::BrokenOff => "the message broke off",
            Unread::Late => "the message did not arrive in time",
            Unread::TooLong => "a DNS message has at most 65535 octets",
            Unread::UsedUp => "too much is on its way at the moment; send this again later",
        }
    }
}

impl From<UsedUp> for Unread {
    fn from(UsedUp: UsedUp) -> Unread {
        Unread::UsedUp
    }
}

impl Http {
    /// HTTP/2 and HTTP/1.1, whichever a client begins with.
    pub(super) fn new(patience: Patience) -> Http {
        let mut http = auto::Builder::new(TokioExecutor::new());
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(CALLS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_header_list_size(HEADERS)
            .keep_alive_interval(patience.quiet)
            .keep_alive_timeout(patience.pong)
            .auto_date_header(false);
        http.http1()
            .timer(TokioTimer::new())
            .max_buf_size(HEADERS as usize)
            .header_read_timeout(patience.idle)
            .auto_date_header(false);
        Http { http, patience }
    }

    /// The same with HTTP/2 alone.
    pub(super) fn http2_only(self) -> Http {
        Http { http: self.http.http2_only(), ..self }
    }

    /// Serves one connection to its end.
    pub(super) async fn converse<S, F, B>(
        &self,
        stream: S,
        arrival: Arrival,
        seat: &Seat,
        serve: impl Fn(Request<Incoming>, Caller) -> F,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let budget = seat.budget();
        let service = service_fn(|request| {
            let caller = Caller { arrival, occupant: seat.occupant().clone(), budget: budget.clone() };
            serve(request, caller).map(Ok::<_, Infallible>)
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

    /// All that a call sends, `most` octets. One whose message comes whole, as messages do, holds nothing, and needs no
    /// budget.
    pub(super) async fn read(&self, body: Incoming, most: usize, budget: &Budget) -> Result<Bytes, Unread> {
        let body = tokio::time::timeout(self.patience.message, read(body, most, budget));
        body.await.unwrap_or(Err(Unread::Late))
    }
}

/// The same without patience.
pub(super) async fn read(
    mut body: impl Body<Data = Bytes> + Unpin,
    most: usize,
    budget: &Budget,
) -> Result<Bytes, Unread> {
    let mut gathering = Gathering::default();
    let mut waited = false;
    loop {
        let frame = match body.frame().now_or_never() {
            Some(frame) => frame,
            None => {
                if !std::mem::replace(&mut waited, true) {
                    gathering.wait(budget)?;
                }
                body.frame().await
            }
        };
        let Some(frame) = frame else { return Ok(gathering.whole()) };
        let Ok(data) = frame.map_err(|_| Unread::BrokenOff)?.into_data() else { continue };
        if gathering.len() + data.len() > most {
            return Err(Unread::TooLong);
        }
        if gathering.len() == 0 && body.is_end_stream() {
            return Ok(data);
        }
        gathering.add(&data, budget)?;
    }
}
