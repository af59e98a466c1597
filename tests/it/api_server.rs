//! A scripted API server: discovery, list and watch of ServiceEntries, and every way they go wrong; and a
//! Service. What is written about them is kept.
//!
//! It speaks HTTP on loopback, over TLS if asked to, keeps objects with resource versions and a log of events, and
//! serves what the current [`Fault`] lets through. The real one is in `tests/e2e`.

mod reply;
mod requests;
mod tls;
mod writes;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use serde_json::{Value, json};
use tokio::sync::watch;

pub(crate) use self::reply::Reply;
pub(crate) use self::tls::{Authority, Certificate};

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
    /// Everything after the first page of a list gets 410, as with a token to continue that is too old; so do watches.
    ExpiredSecondPage,
    /// Each kind of request is replied to like this. Running watches end, if new ones are not [`Reply::Right`].
    Replies { discovery: Reply, list: Reply, watch: Reply },
}

impl Fault {
    /// Everything is replied to like this.
    pub(crate) const fn all(reply: Reply) -> Fault {
        Fault::Replies { discovery: reply, list: reply, watch: reply }
    }

    /// Lists are replied to like this, and asked for, because watches are too old.
    pub(crate) const fn lists(reply: Reply) -> Fault {
        Fault::Replies { discovery: Reply::Right, list: reply, watch: Reply::Status(410) }
    }

    /// Watches are replied to like this.
    pub(crate) const fn watches(reply: Reply) -> Fault {
        Fault::Replies { discovery: Reply::Right, list: Reply::Right, watch: reply }
    }

    fn of_discovery(self) -> Reply {
        match self {
            Fault::Replies { discovery, .. } => discovery,
            _ => Reply::Right,
        }
    }

    fn of_list(self, first: usize) -> Reply {
        match self {
            Fault::Status(code) => Reply::Status(code),
            Fault::StalledList => Reply::Silence,
            Fault::StalledSecondPage if first > 0 => Reply::Silence,
            Fault::ExpiredSecondPage if first > 0 => Reply::Status(410),
            Fault::Junk => Reply::Text("<html>a proxy's greeting</html>"),
            Fault::Replies { list, .. } => list,
            _ => Reply::Right,
        }
    }

    fn of_watch(self) -> Reply {
        match self {
            Fault::Status(code) => Reply::Status(code),
            Fault::ExpiredSecondPage => Reply::Status(410),
            Fault::Replies { watch, .. } => watch,
            _ => Reply::Right,
        }
    }
}

struct World {
    versions: Vec<&'static str>,
    objects: BTreeMap<(String, String), Value>,
    /// Every change so far: resource version, type and object.
    events: Vec<(u64, &'static str, Value)>,
    version: u64,
    /// Watches from before this version are told 410.
    oldest: u64,
    /// Grows when running watches are to end.
    generation: u64,
    fault: Fault,
    /// What clients have to show, if anything.
    token: Option<String>,
    /// What is written in the place of what, in objects.
    texts: Vec<(String, String)>,
    requests: Vec<String>,
    /// Lists of other kinds, by path; what is not among them is refused.
    others: BTreeMap<&'static str, Value>,
    /// Leases, ConfigMaps and Events, by path.
    written: BTreeMap<String, Value>,
    /// How requests about Events are replied to.
    events_get: Reply,
    /// The ClusterIP of the only Service, if there is one. Of its changes no event tells.
    cluster_ip: Option<&'static str>,
}

/// What an API server held at some time.
#[derive(Clone)]
pub(crate) struct Snapshot {
    objects: BTreeMap<(String, String), Value>,
    version: u64,
}

impl Snapshot {
    /// The resource version of then.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }
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
    tls: Option<tls::Acceptor>,
    runtime: Option<tokio::runtime::Runtime>,
}

impl ApiServer {
    /// Serves ServiceEntries in these API versions.
    pub(crate) fn start(versions: &[&'static str]) -> ApiServer {
        ApiServer::begin(versions, None)
    }

    /// The same over TLS.
    pub(crate) fn start_tls(versions: &[&'static str], certificate: &Certificate) -> ApiServer {
        ApiServer::begin(versions, Some(tls::Acceptor::new(certificate)))
    }

    fn begin(versions: &[&'static str], tls: Option<tls::Acceptor>) -> ApiServer {
        let world = World {
            versions: versions.to_vec(),
            objects: BTreeMap::new(),
            events: Vec::new(),
            version: 1,
            oldest: 0,
            generation: 0,
            fault: Fault::None,
            token: None,
            texts: Vec::new(),
            requests: Vec::new(),
            others: BTreeMap::new(),
            written: BTreeMap::new(),
            events_get: Reply::Right,
            cluster_ip: None,
        };
        let shared = Shared { world: Arc::new(Mutex::new(world)), changed: watch::Sender::new(0) };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let router = Router::new().fallback(requests::serve).with_state(shared.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        match tls.clone() {
            None => drop(runtime.spawn(async move { axum::serve(listener, router).await })),
            Some(tls) => {
                // Else a connection outlives its certificate.
                let router = router.layer(axum::middleware::map_response(requests::closing));
                drop(runtime.spawn(async move { axum::serve(tls.over(listener), router).await }));
            }
        }
        let kubeconfig = tempfile::NamedTempFile::new().expect("a temporary file");
        let api = ApiServer { shared, address, kubeconfig, tls, runtime: Some(runtime) };
        api.write_kubeconfig(&json!({}), &json!({}));
        api
    }

    /// Writes the kubeconfig anew, with more fields of the cluster and the user.
    pub(crate) fn write_kubeconfig(&self, cluster: &Value, user: &Value) {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut whole = json!({"server": format!("{scheme}://{}", self.address)});
        whole.as_object_mut().expect("a map").extend(cluster.as_object().expect("a map").clone());
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "scripted",
            "clusters": [{"name": "scripted", "cluster": whole}],
            "users": [{"name": "nobody", "user": user}],
            "contexts": [{"name": "scripted", "context": {"cluster": "scripted", "user": "nobody"}}],
        });
        std::fs::write(self.kubeconfig.path(), text.to_string()).expect("written");
    }

    /// Shows this certificate from now on.
    pub(crate) fn set_certificate(&self, certificate: &Certificate) {
        self.tls.as_ref().expect("TLS").set(certificate);
    }

    /// Accepts only clients with this token from now on; running watches end.
    pub(crate) fn set_token(&self, token: &str) {
        self.edit(|world| {
            world.token = Some(token.to_owned());
            world.end_watches();
        });
    }

    /// What it holds now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let world = self.shared.lock();
        Snapshot { objects: world.objects.clone(), version: world.version }
    }

    /// Holds what it held then, resource version included, and has forgotten every event.
    pub(crate) fn restore(&self, snapshot: Snapshot) {
        self.edit(|world| {
            (world.objects, world.version) = (snapshot.objects, snapshot.version);
            world.events.clear();
            world.end_watches();
        });
    }

    /// Applies an object in whose text `mark` stands for another text, which need not be JSON that we can hold.
    pub(crate) fn apply_text(&self, id: &str, object: Value, mark: &str, text: &str) {
        self.edit(|world| world.texts.push((mark.to_owned(), text.to_owned())));
        self.apply_object(id, object);
    }

    /// Is gone: every connection ends and none is accepted.
    pub(crate) fn hang_up(&mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// Tells watches that they have seen everything so far.
    pub(crate) fn bookmark(&self) {
        self.edit(|world| {
            world.version += 1;
            let bookmark = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                                  "metadata": {"resourceVersion": world.version.to_string()}});
            world.events.push((world.version, "BOOKMARK", bookmark));
        });
    }

    /// Sends an event of an object that it may not hold, as whatever resource version that says it has.
    pub(crate) fn send_event(&self, kind: &'static str, object: Value) {
        self.edit(|world| {
            world.version += 1;
            world.events.push((world.version, kind, object));
        });
    }

    /// The Service `istio-system/globaldns` has this ClusterIP, and no event says so, as after etcd was restored.
    pub(crate) fn set_cluster_ip(&self, address: &'static str) {
        self.edit(|world| world.cluster_ip = Some(address));
    }

    /// The items of a list of another kind.
    pub(crate) fn set_items(&self, path: &'static str, items: Value) {
        self.edit(|world| _ = world.others.insert(path, json!({"metadata": {}, "items": items})));
    }

    /// Ends the running watches, as an API server does after the time they asked for.
    pub(crate) fn end_watches(&self) {
        self.edit(World::end_watches);
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
            if !matches!(fault.of_watch(), Reply::Right) {
                world.end_watches();
            }
            if fault == Fault::Expired {
                world.version += 1;
                world.oldest = world.version;
            }
        });
    }

    /// Every Event there is.
    pub(crate) fn events(&self) -> Vec<Value> {
        let world = self.shared.lock();
        world
            .written
            .iter()
            .filter(|(path, _)| path.contains("/events/"))
            .map(|(_, event)| event.clone())
            .collect()
    }

    /// Every Event has come to the end of its life.
    pub(crate) fn expire_events(&self) {
        self.edit(|world| world.written.retain(|path, _| !path.contains("/events/")));
    }

    /// Replies so to whoever writes Events from now on: `Right`, `Status` or `Silence`.
    pub(crate) fn set_events(&self, reply: Reply) {
        self.edit(|world| world.events_get = reply);
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
        self.end();
    }
}

impl World {
    /// As it is sent.
    fn text(&self, value: &Value) -> String {
        self.texts.iter().fold(value.to_string(), |text, (mark, other)| text.replace(mark, other))
    }

    fn end_watches(&mut self) {
        self.generation += 1;
    }
}

impl Shared {
    /// Waits while `wait` holds.
    async fn wait_while(&self, wait: impl Fn(&World) -> bool) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            if !wait(&self.lock()) || changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
