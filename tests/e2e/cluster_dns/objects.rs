//! The objects of cluster DNS, as installers and controllers leave them.

use serde_json::{Value, json};

use super::{Flavour, KUBE_DNS, KUBE_DNS_UPSTREAM, NAMESPACE, NODE, PODS};
use crate::cluster::{Cluster, code};
use crate::wait::{DEADLINE, wait_until};

const KUBEADM: &str = include_str!("../../coredns/corpus/kubeadm-1.34.Corefile");
const AKS: &str = include_str!("../../coredns/corpus/aks.Corefile");
/// The addon's form, before node-cache has filled it in.
const NODE_LOCAL: &str = include_str!("node-local-dns.Corefile");

const REPLICA_SET: &str = "coredns-66bc5c9577";
const NODE_NAME: &str = "node-1";
const IMAGE: &str = "registry.k8s.io/coredns/coredns:v1.12.1";
const NODE_CACHE_IMAGE: &str = "registry.k8s.io/dns/k8s-dns-node-cache:1.26.4";

const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// Creates everything of this flavour.
pub(super) fn create(cluster: &Cluster, flavour: Flavour) {
    create_rights(cluster);
    cluster.create_unless_present(
        "/api/v1/nodes",
        &json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": NODE_NAME },
                 "spec": { "podCIDR": "10.244.0.0/24" } }),
    );
    let corefile = if flavour == Flavour::Custom { AKS } else { KUBEADM };
    cluster.post(&core("configmaps"), &config_map("coredns", &json!({}), corefile));
    cluster.post(&core("services"), &service("kube-dns", &KUBE_DNS.to_string(), "kube-dns"));
    let deployment = cluster.post(&apps("deployments"), &deployment(flavour));
    let replica_set = cluster.post(&apps("replicasets"), &replica_set(&deployment));
    let endpoints: Vec<Value> = PODS
        .iter()
        .enumerate()
        .map(|(number, address)| {
            let name = format!("{REPLICA_SET}-{}", ["5dfmp", "xk2tr"][number]);
            let pod = pod(cluster, &name, &replica_set, &address.to_string());
            json!({
                "addresses": [address.to_string()],
                "conditions": { "ready": true, "serving": true, "terminating": false },
                "nodeName": NODE_NAME,
                "targetRef": { "kind": "Pod", "name": name, "namespace": NAMESPACE,
                               "uid": pod["metadata"]["uid"] },
            })
        })
        .collect();
    if flavour != Flavour::Objects {
        cluster.post(SLICES, &endpoint_slice("kube-dns", &endpoints));
    }
    let replicas = json!({ "replicas": 2, "readyReplicas": 2, "availableReplicas": 2, "updatedReplicas": 2,
                           "observedGeneration": 1 });
    set_status(cluster, &format!("{}/coredns", apps("deployments")), &replicas);
    if flavour == Flavour::NodeLocal {
        create_node_local(cluster, &endpoints);
    }
}

fn create_node_local(cluster: &Cluster, endpoints: &[Value]) {
    // The addon manager puts this one back when somebody changes it.
    let labels = json!({ "addonmanager.kubernetes.io/mode": "Reconcile" });
    cluster.post(&core("configmaps"), &config_map("node-local-dns", &labels, NODE_LOCAL));
    let upstream = service("kube-dns-upstream", &KUBE_DNS_UPSTREAM.to_string(), "kube-dns");
    cluster.post(&core("services"), &upstream);
    cluster.post(SLICES, &endpoint_slice("kube-dns-upstream", endpoints));
    let daemon_set = cluster.post(&apps("daemonsets"), &daemon_set());
    pod(cluster, "node-local-dns-7kq4z", &daemon_set, &NODE.to_string());
}

/// Deletes whatever is there of any flavour.
pub(super) fn delete(cluster: &Cluster) {
    for kind in [apps("deployments"), apps("replicasets"), apps("daemonsets"), core("pods")] {
        delete_all(cluster, &kind);
    }
    for service in ["kube-dns", "kube-dns-upstream"] {
        delete_one(cluster, &format!("{}/{service}", core("services")));
    }
    for slice in ["kube-dns-xw9bd", "kube-dns-upstream-xw9bd"] {
        delete_one(cluster, &format!("{SLICES}/{slice}"));
    }
    for map in ["coredns", "coredns-custom", "kube-dns", "node-local-dns"] {
        delete_one(cluster, &super::config_map(map));
    }
}

/// A token of CoreDNS's ServiceAccount, as a kubelet asks for one.
pub(super) fn token(cluster: &Cluster) -> String {
    let request = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
                          "spec": { "expirationSeconds": 7200 } });
    let reply = cluster.post(&format!("{}/coredns/token", core("serviceaccounts")), &request);
    reply["status"]["token"].as_str().expect("a token").to_owned()
}

fn create_rights(cluster: &Cluster) {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount",
                          "metadata": { "name": "coredns", "namespace": NAMESPACE } });
    cluster.create_unless_present(&core("serviceaccounts"), &account);
    let verbs = ["list", "watch"];
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": { "name": "system:coredns" },
        "rules": [
            { "apiGroups": [""], "resources": ["endpoints", "services", "pods", "namespaces"], "verbs": verbs },
            { "apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": verbs },
        ],
    });
    cluster.create_unless_present(&format!("{RBAC}/clusterroles"), &role);
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": { "name": "system:coredns" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:coredns" },
        "subjects": [{ "kind": "ServiceAccount", "name": "coredns", "namespace": NAMESPACE }],
    });
    cluster.create_unless_present(&format!("{RBAC}/clusterrolebindings"), &binding);
}

fn config_map(name: &str, labels: &Value, corefile: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": labels },
        "data": { "Corefile": corefile },
    })
}

fn service(name: &str, ip: &str, selected: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {
            "name": name, "namespace": NAMESPACE,
            "labels": { "k8s-app": selected, "kubernetes.io/cluster-service": "true",
                        "kubernetes.io/name": "CoreDNS" },
        },
        "spec": {
            "clusterIP": ip,
            "selector": { "k8s-app": selected },
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
                { "name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153 },
            ],
        },
    })
}

fn endpoint_slice(service: &str, endpoints: &[Value]) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-xw9bd"), "namespace": NAMESPACE,
            "labels": { "kubernetes.io/service-name": service,
                        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io" },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [
            { "name": "dns", "port": 53, "protocol": "UDP" },
            { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            { "name": "metrics", "port": 9153, "protocol": "TCP" },
        ],
    })
}

fn deployment(flavour: Flavour) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": { "name": "coredns", "namespace": NAMESPACE, "labels": { "k8s-app": "kube-dns" } },
        "spec": {
            "replicas": 2,
            "selector": { "matchLabels": { "k8s-app": "kube-dns" } },
            "template": { "metadata": { "labels": { "k8s-app": "kube-dns" } }, "spec": pod_spec(flavour) },
        },
    })
}

fn pod_spec(flavour: Flavour) -> Value {
    let mut mounts = vec![json!({ "name": "config-volume", "mountPath": "/etc/coredns", "readOnly": true })];
    let mut volumes = vec![json!({
        "name": "config-volume",
        "configMap": { "name": "coredns", "items": [{ "key": "Corefile", "path": "Corefile" }] },
    })];
    if flavour == Flavour::Custom {
        let mount =
            json!({ "name": "custom-config-volume", "mountPath": "/etc/coredns/custom", "readOnly": true });
        mounts.push(mount);
        let volume = json!({ "name": "custom-config-volume",
                             "configMap": { "name": "coredns-custom", "optional": true } });
        volumes.push(volume);
    }
    json!({
        "serviceAccountName": "coredns",
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "containers": [{
            "name": "coredns",
            "image": IMAGE,
            "args": ["-conf", "/etc/coredns/Corefile"],
            "ports": [
                { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                { "name": "metrics", "containerPort": 9153, "protocol": "TCP" },
            ],
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    })
}

fn replica_set(deployment: &Value) -> Value {
    let labels = json!({ "k8s-app": "kube-dns", "pod-template-hash": "66bc5c9577" });
    let mut template = deployment["spec"]["template"].clone();
    template["metadata"]["labels"] = labels.clone();
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": { "name": REPLICA_SET, "namespace": NAMESPACE, "labels": labels,
                      "ownerReferences": [owner(deployment)] },
        "spec": { "replicas": 2, "selector": { "matchLabels": labels }, "template": template },
    })
}

fn daemon_set() -> Value {
    let listen = "169.254.20.10";
    json!({
        "apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": { "name": "node-local-dns", "namespace": NAMESPACE,
                      "labels": { "k8s-app": "node-local-dns", "addonmanager.kubernetes.io/mode": "Reconcile" } },
        "spec": {
            "selector": { "matchLabels": { "k8s-app": "node-local-dns" } },
            "template": {
                "metadata": { "labels": { "k8s-app": "node-local-dns" } },
                "spec": {
                    "serviceAccountName": "node-local-dns",
                    "hostNetwork": true,
                    "dnsPolicy": "Default",
                    "containers": [{
                        "name": "node-cache",
                        "image": NODE_CACHE_IMAGE,
                        "args": ["-localip", listen, "-conf", "/etc/Corefile", "-upstreamsvc", "kube-dns-upstream"],
                        "ports": [
                            { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                            { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                        ],
                        "volumeMounts": [
                            { "name": "config-volume", "mountPath": "/etc/coredns" },
                            { "name": "kube-dns-config", "mountPath": "/etc/kube-dns" },
                        ],
                    }],
                    "volumes": [
                        { "name": "kube-dns-config", "configMap": { "name": "kube-dns", "optional": true } },
                        { "name": "config-volume", "configMap": {
                            "name": "node-local-dns", "items": [{ "key": "Corefile", "path": "Corefile.base" }] } },
                    ],
                },
            },
        },
    })
}

/// Creates a pod from its owner's template, bound to the node and ready there.
fn pod(cluster: &Cluster, name: &str, owned_by: &Value, address: &str) -> Value {
    let template = &owned_by["spec"]["template"];
    let mut spec = template["spec"].clone();
    let volumes = spec["volumes"].as_array_mut().expect("volumes");
    volumes.push(kube_api_access());
    spec["nodeName"] = NODE_NAME.into();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": NAMESPACE, "labels": template["metadata"]["labels"],
                      "ownerReferences": [owner(owned_by)] },
        "spec": spec,
    });
    let created = cluster.post(&core("pods"), &pod);
    let container = &created["spec"]["containers"][0];
    let ready = |kind: &str| json!({ "type": kind, "status": "True" });
    let status = json!({
        "phase": "Running",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "hostIP": NODE.to_string(),
        "hostIPs": [{ "ip": NODE.to_string() }],
        "conditions": [ready("PodScheduled"), ready("Initialized"), ready("ContainersReady"), ready("Ready")],
        "containerStatuses": [{
            "name": container["name"], "image": container["image"], "imageID": "", "ready": true,
            "restartCount": 0, "started": true,
            "state": { "running": { "startedAt": created["metadata"]["creationTimestamp"] } },
        }],
    });
    set_status(cluster, &format!("{}/{name}", core("pods")), &status);
    created
}

/// What the ServiceAccount admission controller adds to every pod.
fn kube_api_access() -> Value {
    json!({ "name": "kube-api-access-8xk2p", "projected": { "defaultMode": 420, "sources": [
        { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
        { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
        { "downwardAPI": { "items": [{ "path": "namespace", "fieldRef": {
            "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
    ] } })
}

fn owner(of: &Value) -> Value {
    json!({
        "apiVersion": of["apiVersion"], "kind": of["kind"], "name": of["metadata"]["name"],
        "uid": of["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    })
}

fn set_status(cluster: &Cluster, path: &str, status: &Value) {
    cluster.merge(&format!("{path}/status"), &json!({ "status": status }));
}

fn core(resource: &str) -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/{resource}")
}

fn apps(resource: &str) -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/{resource}")
}

const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/kube-system/endpointslices";

fn delete_all(cluster: &Cluster, kind: &str) {
    let list = cluster.get(kind);
    for object in list["items"].as_array().into_iter().flatten() {
        let name = object["metadata"]["name"].as_str().expect("an object with a name");
        delete_one(cluster, &format!("{kind}/{name}"));
    }
}

/// At once: nobody here ends a pod or collects garbage.
fn delete_one(cluster: &Cluster, path: &str) {
    let options = json!({ "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
                          "propagationPolicy": "Background" });
    match cluster.call("DELETE", path, "application/json", &options) {
        Err(error) => assert_eq!(code(&error), 404, "DELETE {path}: {error}"),
        Ok(_) => wait_until("what is deleted is gone", DEADLINE, || cluster.status_of(path) == 404),
    }
}
