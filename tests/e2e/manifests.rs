//! What `deploy/` renders, against the API server: accepted, with the rights it needs and no more, and in the place of
//! every istiocoredns that was ever installed.
//!
//! The golden files of `tests/deploy` are what is sent; `tests/deploy/run` shows that they are what the chart renders.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cluster::Cluster;
use crate::control_plane::with_shared;

mod missing_rights;
mod rights;
mod service_account;
mod upgrade;

const NAMESPACE: &str = "istio-system";
/// Kinds of the Prometheus operator: the API server here has no CRD that would say anything about them.
const NOT_SERVED: [&str; 2] = ["ServiceMonitor", "PrometheusRule"];

/// Everything rendered: the golden files, and what is applied without Helm.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn every_rendered_manifest_is_accepted() {
    with_shared(|plane| {
        let cluster = &plane.cluster;
        ["istio-system", "openshift-dns", "shop"].into_iter().for_each(|name| cluster.create_namespace(name));
        let mut files = below("tests/deploy/golden");
        let golden = files.len();
        assert!(golden >= 12, "{files:?}");
        files.push(root().join("deploy/globaldns.yaml"));
        files.extend(
            ["istiocoredns", "banzai"]
                .map(|name| root().join(format!("deploy/kustomize/overlays/{name}/globaldns.yaml"))),
        );
        let (mut accepted, mut skipped) = (0, 0);
        for file in &files {
            for object in objects(file) {
                if NOT_SERVED.contains(&kind(&object)) {
                    skipped += 1;
                    continue;
                }
                // A field that is not in the API is refused, too.
                let path = format!(
                    "{}?dryRun=All&fieldManager=e2e&force=true&fieldValidation=Strict",
                    path(&object)
                );
                if let Err(error) = cluster.call("PATCH", &path, "application/apply-patch+yaml", &object) {
                    panic!("{}: {error}\n{object:#}", file.display());
                }
                accepted += 1;
            }
        }
        println!(
            "{accepted} objects of {} files accepted; {skipped} of kinds that are not served here",
            files.len()
        );
        assert_eq!(skipped, 2, "the ServiceMonitor and the PrometheusRule of one golden file");
    });
}

/// `kubectl apply --server-side --force-conflicts`.
#[track_caller]
fn apply(cluster: &Cluster, object: &Value) {
    if NOT_SERVED.contains(&kind(object)) {
        return;
    }
    let path = format!("{}?fieldManager=kubectl&force=true", path(object));
    if let Err(error) = cluster.call("PATCH", &path, "application/apply-patch+yaml", object) {
        panic!("{path}: {error}");
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The objects of a golden file.
fn golden(profile: &str) -> Vec<Value> {
    objects(&root().join(format!("tests/deploy/golden/{profile}.yaml")))
}

/// Whether it is about who may do what.
fn is_of_rbac(object: &Value) -> bool {
    kind(object) == "ServiceAccount" || path(object).contains("/rbac.authorization.k8s.io/")
}

fn below(directory: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root().join(directory)).expect("a directory");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

fn objects(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let objects: Vec<Value> = objects.into_iter().filter(|object| !object.is_null()).collect();
    assert!(!objects.is_empty(), "{} has no objects", file.display());
    objects
}

fn kind(object: &Value) -> &str {
    object["kind"].as_str().unwrap_or_default()
}

/// Where an object is.
fn path(object: &Value) -> String {
    let version = object["apiVersion"].as_str().expect("an apiVersion");
    let resource = match kind(object) {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        kind => format!("{}s", kind.to_lowercase()),
    };
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    let name = object["metadata"]["name"].as_str().expect("a name");
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{resource}/{name}"),
        None => format!("{root}/{resource}/{name}"),
    }
}

fn path_of(version: &str, resource: &str, name: &str) -> String {
    path_in(NAMESPACE, version, resource, name)
}

fn path_in(namespace: &str, version: &str, resource: &str, name: &str) -> String {
    let root = if version == "v1" { "/api/v1".to_owned() } else { format!("/apis/{version}") };
    format!("{root}/namespaces/{namespace}/{resource}/{name}")
}
