//! Objects in the API server, as an administrator puts them there.
//!
//! Plain JSON over `kube`'s client: the tests state what is sent, octet for octet, and malformed
//! objects are as easy to send as good ones.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::credentials::User;

mod crd;
mod revision;
mod rights;

const GROUP: &str = "networking.istio.io";
const CALL: Duration = Duration::from_secs(30);

/// An administrator's connection to one API server.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    /// The version ServiceEntries are written in.
    version: &'static str,
}

impl Cluster {
    /// Prepares the connection; nothing is sent yet.
    pub(crate) fn connect(kubeconfig: &Path) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("start a runtime");
        let kubeconfig = Kubeconfig::read_from(kubeconfig).expect("read the kubeconfig");
        let client = runtime.block_on(async {
            let options = KubeConfigOptions::default();
            let mut config =
                Config::from_custom_kubeconfig(kubeconfig, &options).await.expect("a valid kubeconfig");
            // A test wants to see the first refusal.
            config.default_retry = false;
            Client::try_from(config).expect("build a client")
        });
        Self { runtime, client, version: crd::VERSIONS[0] }
    }

    /// Whether the API server says that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        let request = http::Request::get("/readyz").body(Vec::new());
        let call = self.client.request_text(request.expect("a valid request"));
        let call = async { tokio::time::timeout(Duration::from_secs(2), call).await };
        matches!(self.runtime.block_on(call), Ok(Ok(text)) if text == "ok")
    }

    /// Back to the initial state: no ServiceEntry, CRD served in all versions, rights as documented.
    pub(crate) fn reset(&mut self) {
        self.install_crd();
        for entry in self.list_entries() {
            self.delete(text(&entry, "namespace"), text(&entry, "name"));
        }
        self.revoke(User::Nobody);
    }

    /// Creates a ServiceEntry with this `spec`, and its namespace if need be.
    pub(crate) fn create(&self, namespace: &str, name: &str, spec: Value) -> Value {
        self.create_entry(json!({
            "metadata": { "namespace": namespace, "name": name }, "spec": spec,
        }))
    }

    /// Creates a ServiceEntry from everything but `apiVersion` and `kind`.
    pub(crate) fn create_entry(&self, mut entry: Value) -> Value {
        let namespace = entry["metadata"]["namespace"].as_str();
        let namespace = namespace.expect("entry has a namespace").to_owned();
        self.create_namespace(&namespace);
        self.complete(&mut entry);
        self.post(&self.entries(&namespace), &entry)
    }

    /// Creates many entries of one namespace, fifty at a time.
    pub(crate) fn create_entries(&self, namespace: &str, mut entries: Vec<Value>) {
        self.create_namespace(namespace);
        for entry in &mut entries {
            self.complete(entry);
        }
        let path = self.entries(namespace);
        let queue = Arc::new(Mutex::new(entries));
        let workers = (0..50).map(|_| {
            let (client, path, queue) = (self.client.clone(), path.clone(), Arc::clone(&queue));
            async move {
                loop {
                    let entry = queue.lock().expect("no worker panics").pop();
                    let Some(entry) = entry else { return };
                    let reply = ask(&client, "POST", &path, "application/json", &entry).await;
                    reply.unwrap_or_else(|error| panic!("POST {path}: {error}"));
                }
            }
        });
        self.runtime.block_on(async {
            let workers: Vec<_> = workers.map(tokio::spawn).collect();
            for worker in workers {
                worker.await.expect("every entry is created");
            }
        });
    }

    /// Changes a ServiceEntry by a merge patch; the API server's reply is its acknowledgement.
    pub(crate) fn patch(&self, namespace: &str, name: &str, patch: &Value) -> Value {
        self.merge(&format!("{}/{name}", self.entries(namespace)), patch)
    }

    /// Sets `status.addresses`, as istiod's address allocation does.
    pub(crate) fn patch_status(&self, namespace: &str, name: &str, addresses: &Value) {
        let path = format!("{}/{name}/status", self.entries(namespace));
        self.merge(&path, &json!({ "status": { "addresses": addresses } }));
    }

    /// Every ServiceEntry there is.
    pub(crate) fn list_entries(&self) -> Vec<Value> {
        items(&self.get(&self.entries_everywhere()))
    }

    /// Deletes a ServiceEntry.
    pub(crate) fn delete(&self, namespace: &str, name: &str) {
        self.delete_path(&format!("{}/{name}", self.entries(namespace)));
    }

    /// Creates a namespace unless it exists.
    pub(crate) fn create_namespace(&self, name: &str) {
        self.create_unless_present(
            "/api/v1/namespaces",
            &json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } }),
        );
    }

    /// Creates a Service, with the given ClusterIP or one of the API server's choice, and
    /// returns its ClusterIP.
    pub(crate) fn create_service(&self, namespace: &str, name: &str, ip: Option<&str>) -> String {
        self.create_namespace(namespace);
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name },
            "spec": { "clusterIP": ip, "ports": [{ "port": 53, "protocol": "UDP" }] },
        });
        let path = format!("/api/v1/namespaces/{namespace}/services");
        let created = self.post(&path, &service);
        let ip = created["spec"]["clusterIP"].as_str();
        ip.expect("a Service has a ClusterIP").to_owned()
    }

    /// Deletes a Service.
    pub(crate) fn delete_service(&self, namespace: &str, name: &str) {
        self.delete_path(&format!("/api/v1/namespaces/{namespace}/services/{name}"));
    }

    fn entries(&self, namespace: &str) -> String {
        let version = self.version;
        format!("/apis/{GROUP}/{version}/namespaces/{namespace}/serviceentries")
    }

    fn entries_everywhere(&self) -> String {
        format!("/apis/{GROUP}/{}/serviceentries", self.version)
    }

    fn complete(&self, entry: &mut Value) {
        entry["apiVersion"] = format!("{GROUP}/{}", self.version).into();
        entry["kind"] = "ServiceEntry".into();
    }

    pub(crate) fn status_of(&self, path: &str) -> u16 {
        match self.call("GET", path, "application/json", &Value::Null) {
            Ok(_) => 200,
            Err(error) => code(&error),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.must("GET", path, "application/json", &Value::Null)
    }

    pub(crate) fn post(&self, path: &str, object: &Value) -> Value {
        self.must("POST", path, "application/json", object)
    }

    pub(crate) fn merge(&self, path: &str, patch: &Value) -> Value {
        self.must("PATCH", path, "application/merge-patch+json", patch)
    }

    pub(crate) fn create_unless_present(&self, path: &str, object: &Value) {
        if let Err(error) = self.call("POST", path, "application/json", object) {
            assert_eq!(code(&error), 409, "POST {path}: {error}");
        }
    }

    pub(crate) fn delete_path(&self, path: &str) {
        self.must("DELETE", path, "application/json", &Value::Null);
    }

    fn must(&self, method: &str, path: &str, content_type: &str, body: &Value) -> Value {
        self.call(method, path, content_type, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> kube::Result<Value> {
        let call = ask(&self.client, method, path, content_type, body);
        self.runtime.block_on(call)
    }
}

async fn ask(
    client: &Client,
    method: &str,
    path: &str,
    content_type: &str,
    body: &Value,
) -> kube::Result<Value> {
    let body = match body {
        Value::Null => Vec::new(),
        body => body.to_string().into_bytes(),
    };
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", content_type)
        .body(body)
        .expect("a valid request");
    let reply = tokio::time::timeout(CALL, client.request(request)).await;
    reply.unwrap_or_else(|_| Err(kube::Error::Service(format!("no reply within {CALL:?}").into())))
}

/// The API server's status code in an error, or 0.
pub(crate) fn code(error: &kube::Error) -> u16 {
    match error {
        kube::Error::Api(status) => status.code,
        _ => 0,
    }
}

fn items(list: &Value) -> Vec<Value> {
    list["items"].as_array().cloned().unwrap_or_default()
}

/// A string of an object's metadata.
fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}
