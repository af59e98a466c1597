//! The rights of every profile are the documented ones, and enough.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::service_account::{Right, ServiceAccount};
use super::{NAMESPACE, apply, golden, is_of_rbac, kind, path, path_of, root};
use crate::control_plane::ControlPlane;
use crate::dns::Answer;
use crate::entries::spec;
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

/// The rights of each profile are those of the documents, which the other tests run with: each of them, and nothing
/// beyond. The own Service is narrower: by name.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn the_chart_gives_the_documented_rights_and_no_others() {
    let plane = ControlPlane::start();
    let cluster = &plane.cluster;
    let namespaces = ["istio-system", "kube-system", "openshift-dns", "shop", "default"];
    namespaces.iter().for_each(|name| cluster.create_namespace(name));
    // What everybody may who is authenticated.
    cluster.post(
        &format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts"),
        &json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "anybody"}}),
    );
    let anybody = ServiceAccount::of(&plane, "anybody");
    for profile in
        ["default", "namespaces", "events", "plan", "manage", "manage-openshift", "istiocoredns-manage"]
    {
        let objects = golden(profile);
        let objects: Vec<&Value> = objects.iter().filter(|object| is_of_rbac(object)).collect();
        objects.iter().for_each(|object| apply(cluster, object));
        let service = if profile.starts_with("istiocoredns") { "istiocoredns" } else { "globaldns" };
        let account = if service == "globaldns" { service } else { "istiocoredns-service-account" };
        let account = ServiceAccount::of(&plane, account);
        for namespace in namespaces {
            let wanted = documented(profile, namespace, service);
            wait_until("the authorizer knows the roles", DEADLINE, || {
                wanted.iter().all(|right| account.may(cluster, namespace, right))
            });
            let ours = &account.rights(namespace) - &anybody.rights(namespace);
            assert_eq!(ours, wanted, "{profile} in {namespace}: given, and documented");
            println!("{profile} in {namespace}: {} rights, all documented, none missing", ours.len());
        }
        for object in objects {
            cluster.delete_path(&path(object));
        }
        wait_until("the authorizer forgets the roles", DEADLINE, || {
            cluster.get("/apis/rbac.authorization.k8s.io/v1/clusterroles")["items"].is_array()
                && namespaces.iter().all(|namespace| {
                    documented(profile, namespace, service)
                        .iter()
                        .all(|right| !account.may(cluster, namespace, right))
                })
        });
    }
}

/// Those of README.md, docs/operations.md and docs/stub-domains.md, for what a golden file enables.
fn documented(profile: &str, namespace: &str, service: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    let mut add = |rule: &Value, verbs: &[&str]| {
        let texts = |field: &str| -> Vec<String> {
            let items = rule[field].as_array().cloned().unwrap_or_default();
            items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
        };
        let names =
            if rule["resourceNames"].is_null() { vec![String::new()] } else { texts("resourceNames") };
        for verb in
            texts("verbs").into_iter().filter(|verb| verbs.is_empty() || verbs.contains(&verb.as_str()))
        {
            for group in texts("apiGroups") {
                for resource in texts("resources") {
                    for name in &names {
                        rights.insert((verb.clone(), group.clone(), resource.clone(), name.clone()));
                    }
                }
            }
        }
    };
    let own = |rule: &Value| rule["resources"] == json!(["services"]);
    let readme = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    if profile != "namespaces" || ["istio-system", "shop"].contains(&namespace) {
        yaml(&readme)[0]["rules"].as_array().expect("rules").iter().for_each(|rule| add(rule, &[]));
    }
    if namespace == NAMESPACE && profile != "namespaces" {
        let rule = json!({
            "apiGroups": [""], "resources": ["services"], "resourceNames": [service], "verbs": ["get", "list", "watch"],
        });
        add(&rule, &[]);
    }
    if profile == "events" {
        let page = std::fs::read_to_string(root().join("docs/operations.md")).expect("docs/operations.md");
        let roles = yaml(page.split("## Kubernetes Events").nth(1).expect("a section"));
        for role in roles {
            if role["metadata"]["namespace"].as_str().is_none_or(|of| of == namespace) {
                role["rules"].as_array().expect("rules").iter().for_each(|rule| add(rule, &[]));
            }
        }
    }
    let manages = profile.contains("manage");
    if !manages && profile != "plan" {
        return rights;
    }
    let page = std::fs::read_to_string(root().join("docs/stub-domains.md")).expect("docs/stub-domains.md");
    let roles = yaml(&page);
    let openshift = profile.ends_with("openshift");
    for role in &roles {
        for rule in role["rules"].as_array().expect("rules") {
            let mut rule = rule.clone();
            let of = role["metadata"]["namespace"].as_str();
            let here = match of {
                // For reverse zones, which none of these profiles has.
                None if rule["resources"] == json!(["servicecidrs"]) => false,
                None => openshift || rule["resources"] == json!(["nodes"]),
                Some("kube-system") => {
                    namespace == "kube-system" || (openshift && namespace == "openshift-dns")
                }
                Some(of) => namespace == of && !own(&rule),
            };
            // "Trim resourceNames to what `plan` found."
            if openshift && of == Some("kube-system") && !rule["resourceNames"].is_null() {
                rule["resourceNames"] = json!(["dns-default"]);
            }
            let reads = manages || rule["resources"] != json!(["leases"]);
            if here && reads {
                add(&rule, if manages { &[] } else { &["get", "list", "watch"] });
            }
        }
    }
    rights
}

/// The objects of a page's first block of YAML.
fn yaml(page: &str) -> Vec<Value> {
    let block = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next());
    serde_saphyr::from_multiple(block.expect("a block of YAML")).expect("it is YAML")
}

/// With the token of the chart's ServiceAccount and its rights alone: names, and the ClusterIP of our own Service, which
/// may be watched by name only.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn the_rights_of_the_chart_are_enough_to_serve_and_to_know_our_address() {
    let plane = ControlPlane::start();
    let cluster = &plane.cluster;
    cluster.create_namespace(NAMESPACE);
    let host = "chart.global";
    cluster.create("default", "chart", spec(host, &["240.30.0.1"]));
    let objects = golden("default");
    objects.iter().for_each(|object| apply(cluster, object));
    let ip = cluster.get(&path_of("v1", "services", "globaldns"))["spec"]["clusterIP"].clone();
    let account = ServiceAccount::of(&plane, "globaldns");
    // The pod's environment, as far as it is about what is answered.
    let deployment = objects.iter().find(|object| kind(object) == "Deployment").expect("a Deployment");
    let environment = &deployment["spec"]["template"]["spec"]["containers"][0]["env"];
    let advertised = environment.as_array().into_iter().flatten();
    let advertised = advertised
        .filter(|one| one["name"] == "GLOBALDNS_ADVERTISE_SERVICE")
        .find_map(|one| one["value"].as_str());
    let arguments = ["--advertise-service", advertised.expect("it advertises its Service")];
    let program = Program::start_ready(&arguments, &account.kubeconfig);
    let mut resolver = program.resolver();
    resolver.wait_for(host, &Answer::of(&["240.30.0.1"]));
    resolver.wait_for("ns.dns.global", &Answer::of(&[ip.as_str().expect("a ClusterIP")]));
    assert!(program.complaints().is_empty(), "{:#?}", program.complaints());
}
