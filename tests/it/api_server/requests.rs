//! What is said to a request, when nothing goes wrong.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::reply::{self, Reply};
use super::{Fault, Shared, World, writes};

pub(super) async fn closing(mut response: Response) -> Response {
    response.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
    response
}

pub(super) fn status(code: u16, message: &str) -> Response {
    named_status(code, "Scripted", message)
}

pub(super) fn named_status(code: u16, reason: &str, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
                      "reason": reason, "metadata": {}});
    let mut response = (StatusCode::from_u16(code).expect("a status"), axum::Json(body)).into_response();
    if code == 429 {
        response.headers_mut().insert("retry-after", http::HeaderValue::from_static("1"));
    }
    response
}

pub(super) async fn serve(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Query(query): Query<BTreeMap<String, String>>,
    body: String,
) -> Response {
    shared.lock().requests.push(uri.to_string());
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if shared.lock().token.as_deref().is_some_and(|wanted| token != Some(wanted)) {
        return status(401, "Unauthorized");
    }
    if writes::is_written(uri.path()) {
        return writes::serve(&shared, &method, &uri, &body).await;
    }
    if uri.path() == "/api/v1/namespaces/istio-system/services" && shared.lock().cluster_ip.is_some() {
        if query.contains_key("watch") {
            // No ServiceEntry is there that it could tell of.
            return watch_events(shared, Some("istio-system".to_owned()), &uri, &query).await;
        }
        return reply::send(&shared, &uri, |fault| fault.of_list(0), |shared| Some(services(&shared.lock())))
            .await;
    }
    if let Some(list) = shared.lock().others.get(uri.path()) {
        return axum::Json(list.clone()).into_response();
    }
    let Some(rest) = uri.path().strip_prefix("/apis/networking.istio.io/") else {
        return status(404, "not scripted");
    };
    let mut parts = rest.split('/');
    let version = parts.next().unwrap_or_default().to_owned();
    let namespace = match parts.collect::<Vec<_>>()[..] {
        [] => {
            return reply::send(&shared, &uri, Fault::of_discovery, |shared| {
                let served = shared.lock().versions.contains(&version.as_str());
                served.then(|| discovery(&version).to_string())
            })
            .await;
        }
        ["serviceentries"] => None,
        ["namespaces", namespace, "serviceentries"] => Some(namespace.to_owned()),
        ["namespaces", namespace, "serviceentries", name] => {
            let id = (namespace.to_owned(), name.to_owned());
            let world = shared.lock();
            let served = world.versions.contains(&version.as_str());
            return match world.objects.get(&id).filter(|_| served) {
                Some(object) => axum::Json(object.clone()).into_response(),
                None => named_status(404, "NotFound", "not found"),
            };
        }
        _ => return status(404, "not scripted"),
    };
    if !shared.lock().versions.contains(&version.as_str()) {
        return status(404, reply::NOT_FOUND);
    }
    if query.get("watch").is_some_and(|w| w == "true") {
        return watch_events(shared, namespace, &uri, &query).await;
    }
    let first = query.get("continue").and_then(|c| c.parse::<usize>().ok()).unwrap_or(0);
    let limit = query.get("limit").and_then(|l| l.parse::<usize>().ok()).unwrap_or(usize::MAX);
    let page = |shared: &Shared| {
        let mut world = shared.lock();
        let list = list(&mut world, namespace.as_deref(), first, limit);
        Some(world.text(&list))
    };
    reply::send(&shared, &uri, |fault| fault.of_list(first), page).await
}

fn discovery(version: &str) -> Value {
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("networking.istio.io/{version}"),
        "resources": [
            {"name": "gateways", "singularName": "", "namespaced": true, "kind": "Gateway", "verbs": ["list"]},
            {"name": "serviceentries", "singularName": "serviceentry", "namespaced": true, "kind": "ServiceEntry",
             "verbs": ["get", "list", "watch"]},
        ],
    })
}

fn list(world: &mut World, namespace: Option<&str>, first: usize, limit: usize) -> Value {
    if world.fault == Fault::Expired {
        world.fault = Fault::None;
    }
    let all: Vec<&Value> = world
        .objects
        .iter()
        .filter(|((ns, _), _)| namespace.is_none_or(|n| n == ns))
        .map(|(_, object)| object)
        .collect();
    let items: Vec<&Value> = all.iter().skip(first).take(limit).copied().collect();
    let next = first + items.len();
    let token = if next < all.len() { next.to_string() } else { String::new() };
    json!({
        "kind": "ServiceEntryList", "apiVersion": "networking.istio.io/v1", "items": items,
        "metadata": {"resourceVersion": world.version.to_string(), "continue": token},
    })
}

fn services(world: &World) -> String {
    let metadata = json!({"namespace": "istio-system", "name": "globaldns", "resourceVersion": "1"});
    let service = json!({"metadata": metadata, "spec": {"clusterIPs": [world.cluster_ip]}});
    let metadata = json!({"resourceVersion": world.version.to_string()});
    json!({"kind": "ServiceList", "apiVersion": "v1", "items": [service], "metadata": metadata}).to_string()
}

/// What a running watch says next.
enum Next {
    Event(u64, String),
    Wait,
    End,
}

async fn watch_events(
    shared: Shared,
    namespace: Option<String>,
    uri: &Uri,
    query: &BTreeMap<String, String>,
) -> Response {
    let from = query.get("resourceVersion").and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    shared.wait_while(|world| world.fault.of_watch() == Reply::Silence).await;
    let how = shared.lock().fault.of_watch();
    if let Some(response) = reply::instead(how, uri) {
        return response;
    }
    if from < shared.lock().oldest {
        return status(410, "too old resource version");
    }
    let generation = shared.lock().generation;
    let next = move |world: &World, from: u64| {
        if world.generation != generation {
            return Next::End;
        }
        if world.fault == Fault::Expired && from < world.oldest {
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                "reason": "Expired", "message": "too old resource version", "metadata": {}}});
            return Next::Event(u64::MAX, format!("{gone}\n"));
        }
        let seen =
            |object: &Value| namespace.as_ref().is_none_or(|n| object["metadata"]["namespace"] == json!(n));
        let new = &world.events[world.events.partition_point(|(version, ..)| *version <= from)..];
        let found = new.iter().find(|(_, kind, object)| *kind == "BOOKMARK" || seen(object));
        match found {
            Some((version, kind, object)) => {
                // In this order, as the real one sends it.
                Next::Event(*version, format!("{{\"type\":\"{kind}\",\"object\":{}}}\n", world.text(object)))
            }
            None => Next::Wait,
        }
    };
    let changed = shared.changed.subscribe();
    let lines = futures::stream::unfold(
        (shared, changed, from, next),
        |(shared, mut changed, from, next)| async move {
            loop {
                changed.borrow_and_update();
                let said = next(&shared.lock(), from);
                match said {
                    Next::Event(version, line) => return Some((line, (shared, changed, version, next))),
                    Next::End => return None,
                    Next::Wait => changed.changed().await.ok()?,
                }
            }
        },
    );
    reply::stream(how, lines)
}
