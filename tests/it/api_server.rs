//! A scripted API server: discovery, list and watch of ServiceEntries, and every way they go wrong.
//!
//! It speaks plain HTTP on loopback, keeps objects with resource versions and a log of events, and serves
//! what the current [`Fault`] lets through. The real one is in `tests/e2e`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

/// What goes wrong at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// Lists and watches get this HTTP status; running watches are closed.
    Status(u16),
    /// Running watches get a 410 event; every later watch from an old version gets HTTP status 410.
    Expired,
    /// Lists are not answered until the fault changes.
    StalledList,
    /// Lists are answered 200 with something that is no list.
    Junk,
    /// Everything after the first page of a list is not answered until the fault changes.
    StalledSecondPage,
}

struct World {
    versions: Vec<&'static str>,
    objects: BTreeMap<(String, String), Value>,
    /// Every change so far: resource version, type and object.
    events: Vec<(u64, &'static str, Value)>,
    version: u64,
    /// Watches from before this version are told 410.
    oldest: u64,
    fault: Fault,
    requests: Vec<String>,
}

#[derive(Clone)]
struct Shared {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
}

/// The server, on a thread of its own until it is dropped.
pub(crate) struct ApiServer {
    shared: Shared,
    address: SocketAddr,
    kubeconfig: tempfile::NamedTempFile,
    runtime: Option<tokio::runtime::Runtime>,
}

impl ApiServer {
    /// Serves ServiceEntries in these API versions.
    pub(crate) fn start(versions: &[&'static str]) -> ApiServer {
        let world = World {
            versions: versions.to_vec(),
            objects: BTreeMap::new(),
            events: Vec::new(),
            version: 1,
            oldest: 0,
            fault: Fault::None,
            requests: Vec::new(),
        };
        let shared = Shared { world: Arc::new(Mutex::new(world)), changed: watch::Sender::new(0) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let router = Router::new().fallback(serve).with_state(shared.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(async move { axum::serve(listener, router).await });
        let kubeconfig = tempfile::NamedTempFile::new().expect("a temporary file");
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "scripted",
            "clusters": [{"name": "scripted", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "scripted", "context": {"cluster": "scripted", "user": "nobody"}}],
        });
        std::fs::write(kubeconfig.path(), text.to_string()).expect("written");
        ApiServer { shared, address, kubeconfig, runtime: Some(runtime) }
    }

    /// The path of a kubeconfig for it.
    pub(crate) fn kubeconfig(&self) -> &str {
        self.kubeconfig.path().to_str().expect("a path in UTF-8")
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Creates or replaces `namespace/name` with a spec.
    pub(crate) fn apply(&self, id: &str, spec: Value) {
        self.apply_object(id, json!({"spec": spec}));
    }

    /// Creates or replaces `namespace/name`; `object` is merged over well-formed metadata.
    pub(crate) fn apply_object(&self, id: &str, object: Value) {
        self.edit(|world| {
            let (namespace, name) = id.split_once('/').expect("namespace/name");
            world.version += 1;
            let mut whole = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {"namespace": namespace, "name": name, "resourceVersion": world.version.to_string(),
                             "uid": id, "creationTimestamp": "2024-01-01T00:00:00Z"},
            });
            for (key, value) in object.as_object().expect("an object") {
                match (key.as_str(), value.as_object()) {
                    ("metadata", Some(fields)) => {
                        let metadata = whole["metadata"].as_object_mut().expect("a map");
                        metadata.extend(fields.clone());
                    }
                    _ => whole[key] = value.clone(),
                }
            }
            let key = (namespace.to_owned(), name.to_owned());
            let kind = if world.objects.contains_key(&key) { "MODIFIED" } else { "ADDED" };
            world.objects.insert(key, whole.clone());
            world.events.push((world.version, kind, whole));
        });
    }

    /// Deletes `namespace/name`.
    pub(crate) fn delete(&self, id: &str) {
        self.edit(|world| {
            let (namespace, name) = id.split_once('/').expect("namespace/name");
            let key = (namespace.to_owned(), name.to_owned());
            let mut object = world.objects.remove(&key).expect("it exists");
            world.version += 1;
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            world.events.push((world.version, "DELETED", object));
        });
    }

    /// Serves these API versions from now on.
    pub(crate) fn set_versions(&self, versions: &[&'static str]) {
        self.edit(|world| world.versions = versions.to_vec());
    }

    /// Goes wrong from now on, or right again.
    pub(crate) fn set_fault(&self, fault: Fault) {
        self.edit(|world| {
            world.fault = fault;
            if fault == Fault::Expired {
                world.version += 1;
                world.oldest = world.version;
            }
        });
    }

    /// Paths and queries of all requests so far.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.shared.lock().requests.clone()
    }

    fn edit(&self, change: impl FnOnce(&mut World)) {
        change(&mut self.shared.lock());
        self.shared.changed.send_modify(|n| *n += 1);
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(code: u16, message: &str) -> Response {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": message,
                      "reason": "Scripted", "metadata": {}});
    (StatusCode::from_u16(code).expect("a status"), axum::Json(body)).into_response()
}

async fn serve(
    State(shared): State<Shared>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    shared.lock().requests.push(uri.to_string());
    let Some(rest) = uri.path().strip_prefix("/apis/networking.istio.io/") else {
        return status(404, "not scripted");
    };
    let mut parts = rest.split('/');
    let version = parts.next().unwrap_or_default().to_owned();
    if !shared.lock().versions.contains(&version.as_str()) {
        return status(404, "the server could not find the requested resource");
    }
    let namespace = match parts.collect::<Vec<_>>()[..] {
        [] => return discovery(&version),
        ["serviceentries"] => None,
        ["namespaces", namespace, "serviceentries"] => Some(namespace.to_owned()),
        _ => return status(404, "not scripted"),
    };
    if let Fault::Status(code) = shared.lock().fault {
        return status(code, "scripted failure");
    }
    if query.get("watch").is_some_and(|w| w == "true") {
        watch_events(shared, namespace, &query)
    } else {
        list(shared, namespace, &query).await
    }
}

fn discovery(version: &str) -> Response {
    axum::Json(json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": format!("networking.istio.io/{version}"),
        "resources": [
            {"name": "gateways", "singularName": "", "namespaced": true, "kind": "Gateway", "verbs": ["list"]},
            {"name": "serviceentries", "singularName": "serviceentry", "namespaced": true, "kind": "ServiceEntry",
             "verbs": ["get", "list", "watch"]},
        ],
    }))
    .into_response()
}

async fn list(shared: Shared, namespace: Option<String>, query: &BTreeMap<String, String>) -> Response {
    let first = query.get("continue").and_then(|c| c.parse::<usize>().ok()).unwrap_or(0);
    let mut changed = shared.changed.subscribe();
    loop {
        changed.borrow_and_update();
        let fault = shared.lock().fault;
        if fault == Fault::StalledList || (fault == Fault::StalledSecondPage && first > 0) {
            if changed.changed().await.is_err() {
                return status(500, "ended");
            }
            continue;
        }
        break;
    }
    if shared.lock().fault == Fault::Junk {
        return "<html>a proxy's greeting</html>".into_response();
    }
    let mut world = shared.lock();
    if world.fault == Fault::Expired {
        world.fault = Fault::None;
    }
    let limit = query.get("limit").and_then(|l| l.parse::<usize>().ok()).unwrap_or(usize::MAX);
    let all: Vec<Value> = world
        .objects
        .iter()
        .filter(|((ns, _), _)| namespace.as_ref().is_none_or(|n| n == ns))
        .map(|(_, object)| object.clone())
        .collect();
    let items: Vec<Value> = all.iter().skip(first).take(limit).cloned().collect();
    let next = first + items.len();
    let token = if next < all.len() { next.to_string() } else { String::new() };
    axum::Json(json!({
        "kind": "ServiceEntryList", "apiVersion": "networking.istio.io/v1", "items": items,
        "metadata": {"resourceVersion": world.version.to_string(), "continue": token},
    }))
    .into_response()
}

fn watch_events(shared: Shared, namespace: Option<String>, query: &BTreeMap<String, String>) -> Response {
    let from = query.get("resourceVersion").and_then(|v| v.parse::<u64>().ok()).unwrap_or(0);
    if from < shared.lock().oldest {
        return status(410, "too old resource version");
    }
    let changed = shared.changed.subscribe();
    let stream = futures::stream::unfold((shared, changed, from), move |(shared, mut changed, from)| {
        let namespace = namespace.clone();
        async move {
            loop {
                changed.borrow_and_update();
                {
                    let world = shared.lock();
                    match world.fault {
                        Fault::Status(_) => return None,
                        Fault::Expired if from < world.oldest => {
                            let gone = json!({"type": "ERROR", "object": {
                                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
                                "reason": "Expired", "message": "too old resource version", "metadata": {}}});
                            let line = format!("{gone}\n");
                            drop(world);
                            return Some((Ok::<_, std::io::Error>(line), (shared, changed, u64::MAX)));
                        }
                        _ => {}
                    }
                    let seen = world.events.partition_point(|(version, ..)| *version <= from);
                    let next = world.events[seen..].iter().find(|(_, _, object)| {
                        namespace.as_ref().is_none_or(|n| object["metadata"]["namespace"] == json!(n))
                    });
                    if let Some((version, kind, object)) = next {
                        let (line, version) =
                            (format!("{{\"type\": \"{kind}\", \"object\": {object}}}\n"), *version);
                        drop(world);
                        return Some((Ok(line), (shared, changed, version)));
                    }
                }
                if changed.changed().await.is_err() {
                    return None;
                }
            }
        }
    });
    Response::new(Body::from_stream(stream))
}
