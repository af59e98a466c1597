//! The JSON API `/api/v1/…` (I3): what the program knows, for programs and for the page. `docs/api.md` is its manual.
//!
//! Everything is read where the metrics read it. Only three things need a look at all names or entries, `names`,
//! `findings` and `explain`, and `changes` may be long: each is looked for and written on a thread of its own, one request
//! after the other, and at most half of the time ([`Turn`]), so whoever asks without end costs one processor at most, and no
//! query waits for that. All of it reads, but for `log_level`.

mod changes;
mod explain;
mod findings;
mod log_level;
mod names;
mod parameters;
mod reply;

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::host::{self, HostNames};
use super::peers::{Hashes, Instance, Peers, Replicas};
use crate::index::Index;
use crate::insight::top::Top;
use crate::lifecycle::Readiness;
use crate::metrics::Metrics;
use crate::metrics::view;
use crate::panics::{self, Place};
use crate::serve::responder::Responder;
pub(super) use log_level::Peer;
use parameters::Parameters;
use reply::{Document, Refused, Tag};

/// The most of each list.
const MOST_OF_TOP: usize = 100;
/// The longest wait for others who look at everything; a connection has 30 s (L1).
const WAIT: Duration = Duration::from_secs(10);

/// What the API reads.
#[derive(Clone)]
pub struct Api {
    /// Counters, sources and whatever else the metrics know.
    pub metrics: Arc<Metrics>,
    /// Whether, and why not.
    pub readiness: Readiness,
    /// Names, entries, findings.
    pub index: Arc<Index>,
    /// Whether hosts have services (`--srv`).
    pub services: bool,
    /// What answers, for explanations.
    pub responder: Arc<Responder>,
    /// Under which names it may be asked for.
    pub hosts: Arc<HostNames>,
    /// Who we are.
    pub instance: Instance,
    /// `--peers`.
    pub peers: Option<Arc<Peers>>,
    /// Whose turn it is to look at all names.
    pub names: Turn,
    /// The same of all entries.
    pub findings: Turn,
    /// The same for explanations.
    pub explanations: Turn,
    /// The same for changes, of which there may be a mebibyte.
    pub changes: Turn,
}

/// Lets one at a time look at everything, and then pauses for as long as that took.
#[derive(Clone)]
pub struct Turn(Arc<Semaphore>);

impl Default for Turn {
    fn default() -> Turn {
        Turn(Arc::new(Semaphore::new(1)))
    }
}

impl Turn {
    async fn take<T: Send + 'static>(
        &self,
        path: &str,
        look: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let permit = tokio::time::timeout(WAIT, self.0.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            let reason = "others are looking at everything, and there is one look at a time";
            let remedy = "ask again in a few seconds, and send If-None-Match with the ETag you have";
            return Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "path", path, reason, remedy));
        };
        let runtime = tokio::runtime::Handle::current();
        // It goes on when whoever asked has gone, and its turn with it.
        let looked = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let found = panics::contain(Place::Admin, look);
            let pause = begun.elapsed();
            runtime.spawn(async move {
                tokio::time::sleep(pause).await;
                drop(permit);
            });
            found
        });
        looked.await.ok().flatten().ok_or_else(|| Refused::panicked(path))
    }
}

/// How many changes there have been; a document made at the same numbers is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
struct Sequence {
    /// Of answers.
    answers: u64,
    /// Of entries, and whatever may change a finding.
    entries: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    version: &'static str,
    commit: &'static str,
    instance: Instance,
    time: Timestamp,
    started: Option<Timestamp>,
    uptime_seconds: f64,
    ready: bool,
    reasons: Vec<String>,
    sequence: Sequence,
    zones: Vec<view::ZoneState>,
    sources: Vec<view::SourceState>,
    findings: view::FindingCounts,
    stub_domains: Option<view::StubDomainsState>,
    certificate: Option<view::CertificateState>,
    saved_state: Option<Vec<view::SavedState>>,
    replicas: Option<Replicas>,
    traffic: view::Traffic,
}

/// A page of something, with what it was made from.
#[derive(Serialize)]
struct WithSequence<T> {
    sequence: Sequence,
    #[serde(flatten)]
    document: T,
}

#[derive(Serialize)]
struct Rates {
    sequence: Sequence,
    #[serde(flatten)]
    traffic: view::Traffic,
}

impl Api {
    /// Everything below `/api/`.
    pub(super) fn router(self) -> Router {
        Router::new()
            .route("/api/v1/status", get(status))
            .route("/api/v1/zones", get(zones))
            .route("/api/v1/rates", get(rates))
            .route("/api/v1/names", get(search_names))
            .route("/api/v1/names/{name}", get(name))
            .route("/api/v1/findings", get(search_findings))
            .route("/api/v1/explain", get(explain))
            .route("/api/v1/changes", get(changes))
            .route("/api/v1/top", get(top))
            .route("/api/v1/log-level", log_level::methods())
            .route("/api", get(missing))
            .route("/api/{*rest}", get(missing))
            .method_not_allowed_fallback(method)
            .layer(middleware::from_fn(guard_fetch))
            .with_state(self)
    }

    fn sequence(&self) -> Sequence {
        Sequence { answers: self.index.table().generation(), entries: self.index.version() }
    }

    /// Numbers begin anew with every start.
    fn tag(&self, sequence: Sequence) -> Tag {
        Tag(format!("{}-{}-{}", self.instance.id, sequence.answers, sequence.entries))
    }
}

async fn status(State(api): State<Api>, uri: Uri) -> Result<Json<Status>, Refused> {
    Parameters::of(&uri)?.done(&[])?;
    let traffic = api.metrics.traffic_view();
    Ok(Json(Status {
        version: crate::VERSION,
        commit: crate::COMMIT,
        instance: api.instance.clone(),
        time: now(),
        started: api.metrics.started(),
        uptime_seconds: traffic.seconds,
        ready: api.readiness.is_ready(),
        reasons: api.readiness.reasons(),
        sequence: api.sequence(),
        zones: api.metrics.zones_view(),
        sources: api.metrics.sources_view(),
        findings: api.metrics.findings_view(),
        stub_domains: api.metrics.stub_domains_view(),
        certificate: api.metrics.certificate_view(),
        saved_state: api.metrics.state_view(),
        replicas: api.peers.as_ref().map(|peers| peers.view()),
        traffic,
    }))
}

/// A second is exact enough, and what RFC 3339 needs least for.
pub(super) fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap_or_default()
}

async fn zones(State(api): State<Api>, uri: Uri) -> Result<Json<Hashes>, Refused> {
    Parameters::of(&uri)?.done(&[])?;
    Ok(Json(Hashes::of(&api.instance, &api.metrics)))
}

async fn rates(State(api): State<Api>, uri: Uri) -> Result<Json<Rates>, Refused> {
    Parameters::of(&uri)?.done(&[])?;
    Ok(Json(Rates { sequence: api.sequence(), traffic: api.metrics.traffic_view() }))
}

async fn search_names(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Result<Response, Refused> {
    let search = names::Search::read(Parameters::of(&uri)?, &api.index)?;
    let sequence = api.sequence();
    let tag = api.tag(sequence);
    if tag.is_known(&headers) {
        return Ok(tag.not_modified());
    }
    let index = api.index.clone();
    let search = move || {
        let page = search.run(&index, names::BUDGET);
        (page.truncated, Document::of(&WithSequence { sequence, document: page }))
    };
    let (truncated, document) = api.names.take(uri.path(), search).await?;
    // The next search may see more.
    Ok(if truncated { document.into_response() } else { tag.on(document) })
}

async fn name(
    State(api): State<Api>,
    uri: Uri,
    headers: HeaderMap,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refused> {
    Parameters::of(&uri)?.done(&[])?;
    let Path(name) = name.map_err(|error| {
        let asked = uri.path().rsplit('/').next().unwrap_or_default();
        Refused::parameter("name", asked, error.body_text(), "write octets that are no UTF-8 as \\DDD")
    })?;
    let sequence = api.sequence();
    let tag = api.tag(sequence);
    if tag.is_known(&headers) {
        return Ok(tag.not_modified());
    }
    let document = names::Named::find(&api.index, &name)?;
    Ok(tag.on(Document::of(&WithSequence { sequence, document })))
}

async fn search_findings(State(api): State<Api>, uri: Uri, headers: HeaderMap) -> Result<Response, Refused> {
    let search = findings::Search::read(Parameters::of(&uri)?)?;
    let sequence = api.sequence();
    let tag = api.tag(sequence);
    if tag.is_known(&headers) {
        return Ok(tag.not_modified());
    }
    let index = api.index.clone();
    let search = move || Document::of(&WithSequence { sequence, document: search.run(&index) });
    Ok(tag.on(api.findings.take(uri.path(), search).await?))
}

async fn explain(State(api): State<Api>, uri: Uri) -> Result<Document, Refused> {
    let question = explain::read(Parameters::of(&uri)?)?;
    let explainer = api.clone();
    api.explanations.take(uri.path(), move || Document::of(&explainer.explain(&question))).await
}

async fn changes(State(api): State<Api>, uri: Uri) -> Result<Document, Refused> {
    let search = changes::Search::read(Parameters::of(&uri)?)?;
    let index = api.index.clone();
    api.changes.take(uri.path(), move || Document::of(&search.run(&index))).await
}

async fn top(State(api): State<Api>, uri: Uri) -> Result<Json<Top>, Refused> {
    let mut parameters = Parameters::of(&uri)?;
    let limit = parameters.number("limit", 1..=MOST_OF_TOP, 10)?;
    parameters.done(&["limit"])?;
    let lists = api.metrics.top_lists().ok_or_else(|| {
        let remedy = "start globaldns with --top-lists on";
        Refused::new(
            StatusCode::NOT_FOUND,
            "path",
            uri.path(),
            "there are no top lists: --top-lists is off",
            remedy,
        )
    })?;
    Ok(Json(lists.read(limit)))
}

async fn missing(uri: Uri) -> Refused {
    let remedy = "there are status, zones, rates, names, names/NAME, findings, explain, changes, top and log-level below /api/v1/; docs/api.md describes them";
    Refused::new(StatusCode::NOT_FOUND, "path", uri.path(), "this version has no such endpoint", remedy)
}

async fn method(method: Method) -> Response {
    refuse_method(&method, "GET, HEAD")
}

/// `allowed` as in the header of this name.
fn refuse_method(method: &Method, allowed: &'static str) -> Response {
    let (reason, remedy) = ("this endpoint has no such method", format!("ask with one of {allowed}"));
    let refused = Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method", method.as_str(), reason, remedy);
    ([(header::ALLOW, allowed)], refused).into_response()
}

/// Pages of others have nothing to ask here: what they would read the browser keeps from them, but not what it costs.
async fn guard_fetch(request: Request, next: Next) -> Response {
    match asked_by_another_site(request.headers()) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    }
}

/// By Fetch Metadata, as every browser sends it where it trusts the way. A link to a document is no page's doing.
fn asked_by_another_site(headers: &HeaderMap) -> Option<Refused> {
    let value = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let site = value("sec-fetch-site");
    if !matches!(site, "cross-site" | "same-site") || value("sec-fetch-mode") == "navigate" {
        return None;
    }
    let remedy = "ask from the status page itself, or with a program that is no browser";
    Some(Refused::new(StatusCode::FORBIDDEN, "Sec-Fetch-Site", site, "a page of another site asks", remedy))
}

/// What holds for the API and the page alike.
pub(super) async fn guard(State(hosts): State<Arc<HostNames>>, request: Request, next: Next) -> Response {
    let mut response = match strange_host(&hosts, &request) {
        Some(refused) => refused.into_response(),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("cross-origin-resource-policy", "same-origin"),
        // Asked again every time; an ETag makes that cheap.
        ("cache-control", "no-cache"),
    ] {
        headers.insert(name, axum::http::HeaderValue::from_static(value));
    }
    response
}

/// A `Host` that is none of ours.
fn strange_host(hosts: &HostNames, request: &Request) -> Option<Refused> {
    let host = host::of(request.uri(), request.headers())?;
    if hosts.allow(host) || request.headers().contains_key(host::NO_BROWSER) {
        return None;
    }
    let reason =
        "this name is not known to be ours, and a page could have made it point here (DNS rebinding)";
    let remedy =
        "ask by address, as localhost or by the Service's name, or start globaldns with --admin-host NAME";
    Some(Refused::new(StatusCode::MISDIRECTED_REQUEST, "Host", host, reason, remedy))
}

#[cfg(test)]
mod tests;
