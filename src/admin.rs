//! The admin listener (L1): `/metrics`, `/health`, `/ready`, the [`api`] and the page (chapter I). Reads the program's state,
//! and changes nothing of it but, for a while, what is logged (I10).
//!
//! Whoever reaches it can ask as much as he likes, and read as slowly: a connection is for one request, which has to come in
//! `HEADER_LIMIT`, and lasts `CONNECTION_LIMIT` at most. Beyond `CONNECTIONS` the oldest one makes room.

pub mod api;
pub mod ask;
pub mod host;
mod page;
pub mod peers;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

use self::api::{Api, Peer};
use crate::lifecycle::Readiness;
use crate::metrics::Metrics;
use crate::panics::{Place, contained};

/// Connections at a time: Prometheus has one for each replica of its own, a kubelet two, and a person some.
pub const CONNECTIONS: usize = 32;
/// The longest wait for a request.
const HEADER_LIMIT: Duration = Duration::from_secs(5);
/// The longest time for a request and its reply: Prometheus waits 10 s by default.
const CONNECTION_LIMIT: Duration = Duration::from_secs(30);
/// A pause after the kernel refused a connection (no descriptors left, usually).
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What the pages read.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/ready`.
    pub readiness: Readiness,
    /// For the API and the page; `None` leaves both out.
    pub api: Option<Api>,
}

/// Serves until `stop` is cancelled.
pub async fn serve(listener: Arc<TcpListener>, admin: Admin, stop: CancellationToken) {
    let pages = admin.api.clone().map(|api| {
        let guard = middleware::from_fn_with_state(api.hosts.clone(), api::guard);
        api.router().route("/", get(page::page)).layer(guard)
    });
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(admin)
        .merge(pages.unwrap_or_default());
    let mut open: VecDeque<AbortHandle> = VecDeque::new();
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, "the admin listener cannot accept connections; is the limit of open files reached?");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        failing = false;
        open.retain(|task| !task.is_finished());
        if open.len() >= CONNECTIONS
            && let Some(oldest) = open.pop_front()
        {
            oldest.abort();
        }
        let answered = contained(Place::Admin, answer(stream, peer, router.clone()));
        open.push_back(tokio::spawn(tokio::time::timeout(CONNECTION_LIMIT, answered)).abort_handle());
    }
}

/// One request and its reply. What goes wrong with it is the client's matter.
async fn answer(stream: TcpStream, peer: SocketAddr, router: Router) {
    let router = router.layer(Extension(Peer(peer)));
    let mut http = http1::Builder::new();
    http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEADER_LIMIT);
    let _ = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)).await;
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], admin.metrics.render())
}

async fn ready(State(admin): State<Admin>) -> (StatusCode, String) {
    if admin.readiness.is_ready() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let reasons = admin.readiness.reasons().join("\n");
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{reasons}\n"))
}
