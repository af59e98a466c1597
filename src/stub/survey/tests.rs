use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;
use crate::stub::fixture::object;

const OPENSHIFT: &str = "/apis/operator.openshift.io/v1";
const ACK: &str = "/apis/networking.alibabacloud.com/v1beta1";

fn replied(code: u16, body: &Value) -> Response<Body> {
    let body = Body::from(serde_json::to_vec(body).expect("JSON"));
    Response::builder().status(code).body(body).expect("a response")
}

/// An API server that has these objects, keeps these paths from us, and knows nothing else.
fn server(objects: &[(&str, Value)], forbidden: &[&str]) -> (Client, Arc<Mutex<Vec<String>>>) {
    let (client, asked, _) = failing_server(objects, forbidden);
    (client, asked)
}

/// The same, which fails while it is told to.
fn failing_server(
    objects: &[(&str, Value)],
    forbidden: &[&str],
) -> (Client, Arc<Mutex<Vec<String>>>, Arc<AtomicBool>) {
    let fails = Arc::<AtomicBool>::default();
    let is_failing = fails.clone();
    let objects: BTreeMap<String, Value> =
        objects.iter().map(|(path, object)| ((*path).to_owned(), object.clone())).collect();
    let forbidden: Vec<String> = forbidden.iter().map(|path| (*path).to_owned()).collect();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let path = request.uri().path().to_owned();
        let failure = |code: u16, reason: &str| {
            replied(
                code,
                &json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": path, "reason": reason,
                    "code": code}),
            )
        };
        let response = match objects.get(&path) {
            _ if is_failing.load(Ordering::Relaxed) => failure(500, "InternalError"),
            _ if forbidden.contains(&path) => failure(403, "Forbidden"),
            Some(object) => replied(200, object),
            None if ["pods", "deployments", "daemonsets", "nodes", "endpointslices", "services"]
                .iter()
                .any(|list| path.ends_with(&format!("/{list}"))) =>
            {
                replied(200, &json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": []}))
            }
            None => failure(404, "NotFound"),
        };
        log.lock().expect("a lock").push(path);
        async move { Ok::<_, Infallible>(response) }
    });
    (Client::new(service, "default"), asked, fails)
}

fn in_kube_system(kind: &str) -> String {
    let group = if kind.starts_with("deployments") { "/apis/apps/v1" } else { "/api/v1" };
    format!("{group}/namespaces/kube-system/{kind}")
}

/// A CoreDNS whose pods have what every pod has.
fn cluster() -> Vec<(String, Value)> {
    let labels = json!({"k8s-app": "kube-dns"});
    let pod = json!({
        "containers": [{"name": "coredns"}],
        "volumes": [
            {"name": "config-volume", "configMap": {"name": "coredns"}},
            {"name": "custom", "configMap": {"name": "coredns-custom", "optional": true}},
            {"name": "kube-api-access-x", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            ]}},
        ],
    });
    let deployments = json!({"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": {}, "items": [
        {"metadata": {"name": "coredns"}, "spec": {"selector": {}, "template":
            {"metadata": {"labels": labels}, "spec": pod}}}]});
    let service = json!({"kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kube-dns", "namespace": "kube-system"}, "spec": {"selector": labels}});
    let corefile = json!({"kind": "ConfigMap", "apiVersion": "v1",
        "metadata": {"name": "coredns", "namespace": "kube-system"}, "data": {"Corefile": ".:53 {\n}\n"}});
    vec![
        (in_kube_system("services/kube-dns"), service),
        (in_kube_system("deployments"), deployments),
        (in_kube_system("configmaps/coredns"), corefile),
    ]
}

async fn read(more: &[(&str, Value)], forbidden: &[&str]) -> (Result<Survey, SurveyError>, Vec<String>) {
    let cluster = cluster();
    let mut objects: Vec<_> = cluster.iter().map(|(path, object)| (path.as_str(), object.clone())).collect();
    objects.extend_from_slice(more);
    let (client, asked) = server(&objects, forbidden);
    let survey = Survey::read(&client).await;
    let asked = asked.lock().expect("a lock").clone();
    (survey, asked)
}

/// [T2] Every pod mounts the CA of the cluster, which no right of ours covers.
#[tokio::test]
async fn what_every_pod_mounts_is_not_read_and_what_is_forbidden_is_no_failure() {
    let root = in_kube_system("configmaps/kube-root-ca.crt");
    let custom = in_kube_system("configmaps/coredns-custom");
    let (survey, asked) = read(&[], &[&root, &custom]).await;
    let survey = survey.expect("a survey");
    assert!(!asked.contains(&root), "{asked:?}");
    assert!(survey.config_map(&("kube-system".to_owned(), "coredns".to_owned())).is_some());
    assert!(survey.is_forbidden(&("kube-system".to_owned(), "coredns-custom".to_owned())));
    assert!(!survey.is_forbidden(&("kube-system".to_owned(), "coredns".to_owned())));

    let (survey, _) = read(&[], &[]).await;
    let custom = ("kube-system".to_owned(), "coredns-custom".to_owned());
    assert!(!survey.expect("a survey").is_forbidden(&custom), "absent");
}

/// [T2] Where a platform has a resource of its own, an edit of what its operator writes would not last.
#[tokio::test]
async fn a_platforms_resource_we_may_not_read_is_not_taken_for_absent() {
    for (api, plural) in
        [(OPENSHIFT, "dnses.operator.openshift.io"), (ACK, "customdnsconfigs.networking.alibabacloud.com")]
    {
        let resource = plural.split_once('.').expect("a group").0;
        let path = format!("{api}/{resource}/default");
        let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": &api["/apis/".len()..],
            "resources": [{"name": resource, "singularName": "", "namespaced": false, "kind": "X", "verbs": []}]});
        let (survey, _) = read(&[(api, list)], &[&path]).await;
        let error = survey.expect_err(plural).to_string();
        assert!(error.contains(&format!("ClusterRole with get and update on {plural} default")), "{error}");
        let (survey, _) = read(&[], &[&path]).await;
        survey.expect("a cluster that has no such API");
    }
}

/// [T2]
#[tokio::test]
async fn a_platforms_resource_makes_the_config_maps_needless() {
    let dns =
        json!({"kind": "DNS", "apiVersion": "operator.openshift.io/v1", "metadata": {"name": "default"}});
    let path = format!("{OPENSHIFT}/dnses/default");
    let (survey, asked) = read(&[(&path, dns)], &[]).await;
    let survey = survey.expect("a survey");
    assert!(survey.openshift.is_some() && survey.config_maps.is_empty());
    assert!(!asked.contains(&in_kube_system("configmaps/coredns")), "{asked:?}");
}

/// [T2] A pod that was evicted long ago mounts what was right then.
#[tokio::test]
async fn the_workloads_template_counts_and_without_one_a_pod_that_runs() {
    let pod = |name: &str, phase: &str, metadata: Value| {
        let mut pod = json!({"metadata": metadata, "spec": {"containers": [{"name": name}]},
            "status": {"phase": phase}});
        pod["metadata"]["name"] = name.into();
        pod
    };
    let pods = [
        pod("evicted", "Failed", json!({})),
        pod("leaving", "Running", json!({"deletionTimestamp": "2026-01-01T00:00:00Z"})),
        pod("running", "Running", json!({})),
    ];
    let found = best(pods.iter().cloned().map(object).collect()).expect("a pod");
    assert_eq!(found.metadata.name.as_deref(), Some("running"));
    assert!(best(vec![object(pods[0].clone())]).is_some(), "better than none");

    let list = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": pods});
    let (survey, _) = read(&[(&in_kube_system("pods"), list)], &[]).await;
    assert_eq!(survey.expect("a survey").pod.expect("a pod").containers[0].name, "coredns");
}

/// [T4] [D22] Every node is asked for, and the ranges of Services, but only for a reverse zone.
#[tokio::test]
async fn a_reverse_zone_makes_us_ask_for_the_ranges_of_pods_and_services() {
    let zone = |text: &str| crate::wire::name::Name::parse(text).expect(text);
    let stub = |zones: &[&str]| {
        let server = "10.96.0.53:53".parse().expect("an address");
        Stub::new(zones.iter().map(|text| zone(text)), [server]).expect("a stub")
    };
    let node =
        |range: &str| json!({"metadata": {"name": range}, "spec": {"podCIDR": range, "podCIDRs": [range]}});
    let nodes = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {},
        "items": [node("10.244.0.0/24"), node("10.244.1.0/24")]});
    let cidrs = json!({"kind": "ServiceCIDRList", "apiVersion": "networking.k8s.io/v1", "metadata": {},
        "items": [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}]});
    let cidrs_at = "/apis/networking.k8s.io/v1/servicecidrs";
    let mut objects = cluster();
    objects.extend([("/api/v1/nodes".to_owned(), nodes), (cidrs_at.to_owned(), cidrs)]);
    let objects: Vec<_> = objects.iter().map(|(path, object)| (path.as_str(), object.clone())).collect();

    let (client, asked) = server(&objects, &[]);
    let survey = Survey::read_for(&client, Some(&stub(&["global"]))).await.expect("a survey");
    assert!(survey.told.is_none() && !asked.lock().expect("a lock").iter().any(|path| path == cidrs_at));
    let survey =
        Survey::read_for(&client, Some(&stub(&["global", "240.in-addr.arpa"]))).await.expect("a survey");
    let told = survey.told.expect("asked");
    let ranges: Vec<_> = told.ranges.iter().map(|range| range.net.to_string()).collect();
    assert_eq!(ranges, ["10.244.0.0/24", "10.244.1.0/24", "10.96.0.0/12"]);
    assert!(told.pods && told.no_nodes.is_none() && told.no_services.is_none());

    let (client, _) = server(&objects, &["/api/v1/nodes", cidrs_at, "/api/v1/services"]);
    let survey = Survey::read_for(&client, Some(&stub(&["240.in-addr.arpa"]))).await.expect("a survey");
    let told = survey.told.expect("asked");
    assert!(!told.pods && told.no_nodes.is_some() && told.no_services.is_some(), "{told:?}");
}

/// [T4] Nodes are read every few minutes, and what they said holds while they cannot be read; a right that is missing is asked
/// for at every look.
#[tokio::test]
async fn what_the_cluster_says_of_its_addresses_is_remembered() {
    let nodes = json!({"kind": "NodeList", "apiVersion": "v1", "metadata": {},
        "items": [{"metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.0.0/24"}}]});
    let cidrs = json!({"kind": "ServiceCIDRList", "apiVersion": "networking.k8s.io/v1", "metadata": {},
        "items": [{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/12"]}}]});
    let objects = [("/api/v1/nodes", nodes), ("/apis/networking.k8s.io/v1/servicecidrs", cidrs)];
    let (client, asked, fails) = failing_server(&objects, &[]);
    let times = || asked.lock().expect("a lock").iter().filter(|path| path.ends_with("/nodes")).count();
    let mut addresses = Addresses::default();
    fails.store(true, Ordering::Relaxed);
    let error = addresses.told(&client).await.expect_err("nothing is known");
    assert!(matches!(&error, SurveyError::Ranges(why) if why.contains("500")), "{error}");
    fails.store(false, Ordering::Relaxed);
    let told = addresses.told(&client).await.expect("it is told");
    assert_eq!((told.ranges.len(), told.pods, times()), (2, true, 2));
    addresses.told(&client).await.expect("it is known");
    assert_eq!(times(), 2, "not at every look");
    let age = |addresses: &mut Addresses| addresses.0.as_mut().expect("known").0 -= RANGES;
    age(&mut addresses);
    fails.store(true, Ordering::Relaxed);
    assert_eq!(addresses.told(&client).await.expect("it was told").ranges.len(), 2);
    assert_eq!(times(), 3);

    let (client, asked) = server(&objects, &["/api/v1/nodes"]);
    let mut addresses = Addresses::default();
    for _ in 0..2 {
        let told = addresses.told(&client).await.expect("what can be told");
        assert!(told.no_nodes.is_some_and(|unlisted| unlisted.lasts));
    }
    assert_eq!(asked.lock().expect("a lock").iter().filter(|path| path.ends_with("/nodes")).count(), 2);
}
