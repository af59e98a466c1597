//! Every rule of the chart taken away in turn: somebody says which right is missing, and what stops.

use serde_json::{Value, json};

use super::service_account::{Right, ServiceAccount};
use super::{NAMESPACE, apply, golden, is_of_rbac, path_in, path_of};
use crate::cluster::Cluster;
use crate::cluster_dns::{ClusterDns, Flavour, OUR_SERVICE};
use crate::control_plane::ControlPlane;
use crate::program::{self, LogLine, Program};
use crate::wait::{DEADLINE, wait_until};

/// How it shows that a rule is missing.
enum Shows {
    /// `stub-domains plan` fails, with these words.
    Plan(&'static str),
    /// `stub-domains apply` fails, with these words.
    Apply(&'static str),
    /// `serve --stub-domains=manage` says so in its log.
    Serve(&'static str),
    /// Only the name of the distribution is less sharp: everything works.
    Nothing,
}

/// Every rule of the profile `manage`: the role's name and namespace, what the rule is about, and how it shows.
const RULES: [(&str, &str, &[&str], &str, Shows); 14] = {
    use Shows::{Apply, Nothing, Plan, Serve};
    const STUB: &str = "globaldns-stub-domains";
    const OURS: &str = "istio-system";
    const CLUSTER_DNS: &str = "kube-system";
    [
        ("globaldns", "", &["serviceentries"], "list", Serve("serviceentries.networking.istio.io")),
        ("globaldns", OURS, &["services"], "watch", Serve("services")),
        (STUB, CLUSTER_DNS, &["configmaps"], "get", Plan("ConfigMap kube-system/coredns cannot be read")),
        (STUB, CLUSTER_DNS, &["services"], "get", Plan(r#"services "kube-dns" is forbidden"#)),
        (STUB, CLUSTER_DNS, &["pods"], "list", Plan("pods is forbidden")),
        (STUB, CLUSTER_DNS, &["deployments", "daemonsets"], "list", Plan("daemonsets.apps is forbidden")),
        (
            STUB,
            CLUSTER_DNS,
            &["endpointslices"],
            "list",
            Plan("endpointslices.discovery.k8s.io is forbidden"),
        ),
        (STUB, CLUSTER_DNS, &["configmaps"], "create", Apply(r#"cannot create resource "configmaps""#)),
        (STUB, OURS, &["configmaps"], "get", Plan(r#"configmaps "globaldns-stub-domains" is forbidden"#)),
        (
            STUB,
            OURS,
            &["leases"],
            "get",
            Serve(r#"leases.coordination.k8s.io "globaldns-stub-domains" is forbidden"#),
        ),
        (STUB, OURS, &["configmaps"], "create", Apply(r#"cannot create resource "configmaps""#)),
        (STUB, OURS, &["leases"], "create", Serve(r#"cannot create resource "leases""#)),
        (STUB, OURS, &["events"], "create", Serve(r#"cannot create resource "events""#)),
        (STUB, "", &["nodes"], "list", Nothing),
    ]
};

/// Each rule of the chart taken away in turn: somebody says which right is missing, and what stops.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn without_any_one_rule_of_the_chart_the_missing_right_is_named() {
    let plane = ControlPlane::start();
    let cluster = &plane.cluster;
    cluster.create_namespace(NAMESPACE);
    let dns = ClusterDns::start(&plane, Flavour::Objects);
    // A zone that somebody else serves is a state to tell about, by an Event.
    let corefile = path_in("kube-system", "v1", "configmaps", "coredns");
    let untouched = cluster.get(&corefile)["data"]["Corefile"].as_str().expect("a Corefile").to_owned();
    cluster.create_service(NAMESPACE, "globaldns", Some(&OUR_SERVICE.to_string()));
    let objects = golden("manage");
    let objects: Vec<&Value> = objects.iter().filter(|object| is_of_rbac(object)).collect();
    objects.iter().for_each(|object| apply(cluster, object));
    let account = ServiceAccount::of(&plane, "globaldns");
    let run = |command: &str, more: &[&str]| {
        let output =
            dns.inside(|| program::run(&format!("stub-domains {command}"), more, &account.kubeconfig));
        // What is said of one place is a result; what stops everything is an error.
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    };
    wait_until("the authorizer knows the roles", DEADLINE, || run("plan", &[]).0);

    let roles = objects.iter().filter(|object| object["rules"].is_array());
    let rules: usize = roles.clone().map(|role| role["rules"].as_array().map_or(0, Vec::len)).sum();
    assert_eq!(rules, RULES.len(), "every rule has its line");
    for (name, namespace, resources, verb, shows) in &RULES {
        let role = roles.clone().find(|role| {
            role["metadata"]["name"] == *name
                && role["metadata"]["namespace"].as_str().unwrap_or_default() == *namespace
        });
        let role = *role.unwrap_or_else(|| panic!("no role {namespace}/{name}"));
        let is_it = |rule: &Value| {
            rule["resources"] == json!(resources)
                && rule["verbs"].as_array().is_some_and(|verbs| verbs.contains(&json!(verb)))
        };
        let mut less = role.clone();
        let rules = less["rules"].as_array_mut().expect("rules");
        let at =
            rules.iter().position(is_it).unwrap_or_else(|| panic!("no rule {verb} {resources:?} in {name}"));
        let taken = rules.remove(at);
        let text = |field: &str| taken[field][0].as_str().unwrap_or_default().to_owned();
        let right: Right = ((*verb).to_owned(), text("apiGroups"), text("resources"), text("resourceNames"));
        apply(cluster, &less);
        wait_until("the authorizer forgets the rule", DEADLINE, || !account.may(cluster, namespace, &right));

        let about = format!("without {verb} {resources:?} in {name} {namespace}");
        match shows {
            Shows::Nothing => assert!(run("plan", &[]).0, "{about}: plan works"),
            Shows::Plan(words) => {
                let (well, said) = run("plan", &[]);
                assert!(!well && said.contains(words), "{about}: {said}");
                assert!(
                    said.contains("docs/stub-domains.md") || said.contains("forbidden"),
                    "{about}: {said}"
                );
                println!("{about}, plan fails: {}", said.trim());
            }
            Shows::Apply(words) => {
                // A key of our own in a ConfigMap that is not there yet.
                if *namespace == "kube-system" {
                    import_custom(cluster, true);
                }
                let (well, said) = run("apply", &["--wait=false"]);
                assert!(!well && said.contains(words), "{about}: {said}");
                println!("{about}, apply fails: {}", said.trim());
                import_custom(cluster, false);
                cluster.merge(&corefile, &json!({"data": {"Corefile": untouched}}));
                forget(cluster);
            }
            Shows::Serve(words) => {
                let foreign = format!("{untouched}global:53 {{\n    forward . 192.0.2.1\n}}\n");
                cluster.merge(&corefile, &json!({"data": {"Corefile": foreign}}));
                let program =
                    dns.inside(|| Program::start(&["--stub-domains", "manage"], &account.kubeconfig));
                // In the log, quotes are escaped.
                let says = |line: &LogLine| line.text.replace('\\', "").contains(words);
                let line = program.wait_for_log(&about, |line| line.is_complaint() && says(line));
                println!("{about}, serve says: {}", line.text);
                drop(program);
                cluster.merge(&corefile, &json!({"data": {"Corefile": untouched}}));
                forget(cluster);
            }
        }
        apply(cluster, role);
        wait_until("the authorizer knows the rule", DEADLINE, || account.may(cluster, namespace, &right));
    }
}

/// Whether cluster DNS imports `coredns-custom`, as AKS's does.
fn import_custom(cluster: &Cluster, does: bool) {
    let import = "import custom/*.server\n";
    let path = path_in("kube-system", "v1", "configmaps", "coredns");
    let corefile = cluster.get(&path)["data"]["Corefile"].as_str().expect("a Corefile").replace(import, "");
    let corefile = if does { format!("{corefile}{import}") } else { corefile };
    cluster.merge(&path, &json!({"data": {"Corefile": corefile}}));
    let path = path_in("kube-system", "apps/v1", "deployments", "coredns");
    let spec = |deployment: &Value| deployment["spec"]["template"]["spec"].clone();
    let mut spec = spec(&cluster.get(&path));
    let custom = "custom-config-volume";
    let volume = json!({"name": custom, "configMap": {"name": "coredns-custom", "optional": true}});
    let mount = json!({"name": custom, "mountPath": "/etc/coredns/custom", "readOnly": true});
    for (list, one) in [("/volumes", volume), ("/containers/0/volumeMounts", mount)] {
        let list = spec.pointer_mut(list).and_then(Value::as_array_mut).expect("a list");
        list.retain(|other| other["name"] != custom);
        list.extend(does.then_some(one));
    }
    cluster.merge(&path, &json!({"spec": {"template": {"spec": spec}}}));
    // What the Service selects is asked first: the pods are of the old template for ever, as nobody replaces them here.
    let pods =
        cluster.get("/api/v1/namespaces/kube-system/pods")["items"].as_array().cloned().unwrap_or_default();
    for pod in pods {
        let name = pod["metadata"]["name"].as_str().expect("a name");
        cluster.delete_path(&format!("/api/v1/namespaces/kube-system/pods/{name}?gracePeriodSeconds=0"));
    }
}

/// No record and no Lease: as before the first edit.
fn forget(cluster: &Cluster) {
    for (version, resource) in [("v1", "configmaps"), ("coordination.k8s.io/v1", "leases")] {
        let path = path_of(version, resource, "globaldns-stub-domains");
        if cluster.status_of(&path) == 200 {
            cluster.delete_path(&path);
        }
    }
}
