//! The admin listener (L1): `/metrics`, `/health`, `/ready`. Reads the program's state, changes nothing.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::lifecycle::Readiness;
use crate::metrics::Metrics;

/// What the pages read.
#[derive(Clone)]
pub struct Admin {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/ready`.
    pub readiness: Readiness,
}

/// Serves until `stop` is cancelled.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) {
    let router = Router::new()
        .route("/metrics", get(metrics))
        .route("/health", get(|| async { "ok\n" }))
        .route("/ready", get(ready))
        .with_state(admin);
    let served = axum::serve(listener, router).with_graceful_shutdown(async move { stop.cancelled().await });
    if let Err(error) = served.await {
        tracing::error!(%error, "the admin server ended");
    }
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
