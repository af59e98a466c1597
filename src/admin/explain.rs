//! `GET /api/v1/explain?name=NAME[&type=TYPE,TYPE]` (I1): what `globaldns explain` says, as JSON.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::Semaphore;

use super::Admin;
use crate::explain::{self, Forwarding, Question, Subject};
use crate::index::Index;
use crate::serve::responder::Responder;

/// What explanations are made from. They take up to a second of a processor with very many hosts, so there is one at a time.
#[derive(Clone)]
pub struct Explainer {
    index: Arc<Index>,
    responder: Arc<Responder>,
    turn: Arc<Semaphore>,
}

impl Explainer {
    /// Explains what this responder answers from this index.
    pub fn new(index: Arc<Index>, responder: Arc<Responder>) -> Explainer {
        Explainer { index, responder, turn: Arc::new(Semaphore::new(1)) }
    }
}

#[derive(Deserialize)]
struct Asked {
    name: String,
    #[serde(default, rename = "type")]
    types: String,
}

pub(super) fn routes() -> Router<Admin> {
    Router::new().route("/api/v1/explain", get(answer))
}

async fn answer(State(admin): State<Admin>, Query(asked): Query<Asked>) -> Response {
    let refused = |error: String| json(StatusCode::BAD_REQUEST, &serde_json::json!({ "error": error }));
    let types: Vec<String> =
        asked.types.split(',').filter(|text| !text.is_empty()).map(str::to_owned).collect();
    let question = match Question::new(&asked.name, &types) {
        Ok(question) => question,
        Err(error) => return refused(format!("type: {error}")),
    };
    let Explainer { index, responder, turn } = admin.explainer;
    // Never closed.
    let Ok(turn) = turn.acquire_owned().await else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    // On a thread that may take its time: this one follows the sources.
    let explained = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let responder = responder.for_everybody();
        let subject =
            Subject { index: &index, responder: &responder, serving: true, budget: explain::BUDGET };
        let mut explanation = explain::explain(&subject, &question);
        explanation.forwarding = explanation
            .zone
            .as_ref()
            .map(|zone| Forwarding::unknown(&zone.name, "what clients ask was not looked at by the server"));
        explanation
    });
    match explained.await {
        Ok(explanation) => json(StatusCode::OK, &explanation),
        Err(_) => json(
            StatusCode::INTERNAL_SERVER_ERROR,
            &serde_json::json!({"error": "explaining has failed; the log says more"}),
        ),
    }
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
