//! In the place of an istiocoredns: the address stays, the pod is ours.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::{NAMESPACE, apply, golden, kind, objects, path, path_of, root};
use crate::cluster::Cluster;
use crate::control_plane::ControlPlane;
use crate::credentials::User;
use crate::process::run_directory;

/// One old install, the profile that takes its place, and the values that make it.
const OLD: [(&str, &str, &str); 4] = [
    ("istiocoredns-1.5", "istiocoredns", "compat=istiocoredns"),
    ("istiocoredns-1.7", "istiocoredns", "compat=istiocoredns"),
    ("banzai-1.5", "banzai", "compat=banzai"),
    ("banzai-1.7", "banzai-1.7", r"compat=banzai,compatSelector.istio\.io/rev=mesh.istio-system"),
];

/// The way of `kubectl` and kustomize, as deploy/README.md has it: the old Deployment goes without its pods, ours takes
/// them over. Without the first step the API server merges: that the old containers then stay is why there is one. The
/// way back, as docs/migration.md has it, is the same with what was kept.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn applied_over_every_old_install_the_service_keeps_its_cluster_ip() {
    let plane = ControlPlane::start();
    let cluster = &plane.cluster;
    cluster.create_namespace(NAMESPACE);
    for (old, profile, _) in OLD {
        let installed = install(cluster, old);
        let profile = golden(profile);
        let before = installed.observe(cluster);
        let kept = installed.keep(cluster);

        profile.iter().for_each(|object| apply(cluster, object));
        let merged = installed.observe(cluster);
        assert_eq!(merged.cluster_ip, before.cluster_ip, "{old}");
        assert_eq!(
            merged.containers,
            ["coredns", "istio-coredns-plugin", "globaldns"].map(String::from).into(),
            "{old}"
        );

        orphan(cluster, &path_of("apps/v1", "deployments", "istiocoredns"));
        profile.iter().for_each(|object| apply(cluster, object));
        installed.assert_replaced(cluster, &before, old);
        println!("{old}: ClusterIP {} kept", before.cluster_ip);

        orphan(cluster, &path_of("apps/v1", "deployments", "istiocoredns"));
        kept.iter().for_each(|object| apply(cluster, object));
        assert_eq!(installed.observe(cluster), before, "{old}: back");
        installed.delete(cluster, &profile);
    }
}

/// The way of Helm: one command. And when that is taken away again, the ClusterIP stays, and the old install comes back
/// around it.
#[test]
#[ignore = "needs etcd, kube-apiserver and helm: run tests/e2e/run"]
fn helm_takes_over_every_old_install_and_leaves_the_service_when_it_goes() {
    let plane = ControlPlane::start();
    let cluster = &plane.cluster;
    cluster.create_namespace(NAMESPACE);
    for (old, profile, values) in OLD {
        let installed = install(cluster, old);
        let before = installed.observe(cluster);
        let kept = installed.keep(cluster);
        helm(&plane, &["install", "globaldns", CHART, "--take-ownership", "--force", "--set", values]);
        installed.assert_replaced(cluster, &before, old);
        let account = cluster.get(&path_of("v1", "services", "istiocoredns"));
        assert_eq!(account["metadata"]["ownerReferences"], Value::Null, "{old}: nobody's garbage any more");

        // An ordinary upgrade later needs neither flag.
        helm(&plane, &["upgrade", "globaldns", CHART, "--set", values, "--set", "ttl=60"]);
        assert_eq!(installed.observe(cluster).cluster_ip, before.cluster_ip, "{old}");
        helm(&plane, &["uninstall", "globaldns"]);
        assert_eq!(cluster.status_of(&path_of("apps/v1", "deployments", "istiocoredns")), 404, "{old}");
        let service = cluster.get(&path_of("v1", "services", "istiocoredns"));
        assert_eq!(service["spec"]["clusterIP"], before.cluster_ip, "{old}: kept on uninstall");
        // The next install finds its own Service.
        helm(&plane, &["install", "globaldns", CHART, "--set", values]);
        assert_eq!(installed.observe(cluster).cluster_ip, before.cluster_ip, "{old}");
        helm(&plane, &["uninstall", "globaldns"]);
        kept.iter().for_each(|object| apply(cluster, object));
        assert_eq!(installed.observe(cluster), before, "{old}: back");
        let profile = golden(profile);
        installed.delete(cluster, &profile);
    }
}

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/helm/globaldns");

fn helm(plane: &ControlPlane, arguments: &[&str]) {
    let helm = std::env::var_os("GLOBALDNS_E2E_HELM").expect("tests/e2e/run sets GLOBALDNS_E2E_HELM");
    let output = Command::new(helm)
        .args(arguments)
        .args(["--namespace", NAMESPACE])
        .env("KUBECONFIG", plane.kubeconfig(User::Admin))
        .env("HELM_CACHE_HOME", run_directory().join("helm"))
        .output()
        .expect("run helm");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "helm {arguments:?}: {errors}");
}

/// The objects of an old install.
struct Installed {
    objects: Vec<Value>,
}

/// What must not change, and what must.
#[derive(Debug, PartialEq)]
struct Observed {
    cluster_ip: String,
    selector: Value,
    containers: BTreeSet<String>,
}

/// Creates the objects as whoever installed them did: not by our field manager.
fn install(cluster: &Cluster, old: &str) -> Installed {
    let objects = objects(&root().join(format!("tests/e2e/manifests/{old}.yaml")));
    for object in &objects {
        let at = path(object);
        let (collection, _) = at.rsplit_once('/').expect("a path");
        cluster.post(&format!("{collection}?fieldManager=old-install"), object);
    }
    Installed { objects }
}

impl Installed {
    fn observe(&self, cluster: &Cluster) -> Observed {
        let service = cluster.get(&path_of("v1", "services", "istiocoredns"));
        let deployment = cluster.get(&path_of("apps/v1", "deployments", "istiocoredns"));
        let containers = deployment["spec"]["template"]["spec"]["containers"].as_array().cloned();
        let name = |container: Value| container["name"].as_str().map(str::to_owned);
        Observed {
            cluster_ip: service["spec"]["clusterIP"].as_str().expect("a ClusterIP").to_owned(),
            selector: deployment["spec"]["selector"].clone(),
            containers: containers.into_iter().flatten().filter_map(name).collect(),
        }
    }

    /// The objects as they are in the cluster, without what the API server will write anew.
    fn keep(&self, cluster: &Cluster) -> Vec<Value> {
        let kept = |object| {
            let mut kept = cluster.get(&path(object));
            let metadata = kept["metadata"].as_object_mut().expect("metadata");
            for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
                metadata.remove(field);
            }
            kept.as_object_mut().expect("an object").remove("status");
            kept
        };
        self.objects.iter().map(kept).collect()
    }

    /// Same address, same selectors, our pod.
    #[track_caller]
    fn assert_replaced(&self, cluster: &Cluster, before: &Observed, old: &str) {
        let now = self.observe(cluster);
        assert_eq!(now.cluster_ip, before.cluster_ip, "{old}: stub domains point at this address");
        assert_eq!(now.selector, before.selector, "{old}: immutable");
        assert_eq!(now.containers, [String::from("globaldns")].into(), "{old}: the pod is replaced");
        let service = cluster.get(&path_of("v1", "services", "istiocoredns"));
        let was = self.objects.iter().find(|object| kind(object) == "Service").expect("a Service");
        assert_eq!(service["spec"]["selector"], was["spec"]["selector"], "{old}");
        let ports = service["spec"]["ports"].as_array().cloned().unwrap_or_default();
        let ports: Vec<_> =
            ports.iter().map(|port| (&port["name"], &port["port"], &port["targetPort"])).collect();
        assert_eq!(
            ports,
            [(&json!("dns"), &json!(53), &json!("dns")), (&json!("dns-tcp"), &json!(53), &json!("dns-tcp"))]
        );
        let spec =
            &cluster.get(&path_of("apps/v1", "deployments", "istiocoredns"))["spec"]["template"]["spec"];
        let volumes = json!([{"name": "state", "emptyDir": {}}]);
        assert_eq!(spec["volumes"], volumes, "{old}: the Corefile is mounted no more");
        let role = cluster.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/istiocoredns");
        assert_eq!(
            role["rules"][0]["resources"],
            json!(["serviceentries"]),
            "{old}: the right to everything is gone"
        );
        for autoscaler in ["istiocoredns", "istiocoredns-autoscaler"] {
            let path = path_of("autoscaling/v2", "horizontalpodautoscalers", autoscaler);
            if cluster.status_of(&path) == 200 {
                assert_eq!(cluster.get(&path)["spec"]["minReplicas"], 2, "{old}: not shrunk to one");
            }
        }
        let budget = cluster.get(&path_of("policy/v1", "poddisruptionbudgets", "istiocoredns"));
        assert_eq!(budget["spec"]["minAvailable"], 1, "{old}: of two, one may go");
    }

    /// Back to an empty namespace.
    fn delete(&self, cluster: &Cluster, profile: &[Value]) {
        for object in self.objects.iter().chain(profile) {
            let path = path(object);
            if cluster.status_of(&path) == 200 {
                cluster.delete_path(&format!("{path}?gracePeriodSeconds=0&propagationPolicy=Background"));
            }
        }
    }
}

/// `kubectl delete --cascade=orphan`; the finalizer is the garbage collector's, and there is none here.
fn orphan(cluster: &Cluster, path: &str) {
    cluster.delete_path(&format!("{path}?propagationPolicy=Orphan"));
    if cluster.status_of(path) == 200 {
        cluster.merge(path, &json!({ "metadata": { "finalizers": null } }));
    }
    assert_eq!(cluster.status_of(path), 404);
}
