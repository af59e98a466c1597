//! Kubernetes Events about findings, as `kubectl describe` shows them.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

const OURS: &str = "istio-system";
const EVENTS: &str = "/apis/events.k8s.io/v1";
const ARGUMENTS: [&str; 1] = ["--events"];

/// An empty page, on which this user may write.
fn prepare(plane: &ControlPlane, users: &[User]) {
    let cluster = &plane.cluster;
    cluster.create_namespace(OURS);
    for path in [
        format!("/api/v1/namespaces/{OURS}/configmaps/globaldns-events"),
        format!("/apis/coordination.k8s.io/v1/namespaces/{OURS}/leases/globaldns-events"),
    ] {
        if cluster.status_of(&path) == 200 {
            cluster.delete_path(&path);
        }
    }
    for event in events(cluster) {
        let (namespace, name) = (&event["metadata"]["namespace"], &event["metadata"]["name"]);
        let (namespace, name) = (namespace.as_str().expect("a namespace"), name.as_str().expect("a name"));
        cluster.delete_path(&format!("{EVENTS}/namespaces/{namespace}/events/{name}"));
    }
    users.iter().for_each(|user| cluster.grant_rights_of_events(*user));
}

/// Ours, of all namespaces.
fn events(cluster: &Cluster) -> Vec<Value> {
    let all = cluster.get(&format!("{EVENTS}/events"));
    let all = all["items"].as_array().expect("a list").clone();
    all.into_iter().filter(|event| event["reportingController"] == "globaldns").collect()
}

/// What about: the names of the objects that have Events, and the reasons.
fn told(cluster: &Cluster) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut all: Vec<_> = events(cluster)
        .iter()
        .map(|event| (text(&event["regarding"]["name"]), text(&event["reason"])))
        .collect();
    all.sort();
    all
}

#[track_caller]
fn wait_told(cluster: &Cluster, expected: &[(&str, &str)]) {
    let mut last = Vec::new();
    let own = |(name, reason): &(&str, &str)| (name.to_string(), reason.to_string());
    let expected: Vec<_> = expected.iter().map(own).collect();
    wait_until(&format!("Events {expected:?}"), DEADLINE, || {
        let now = told(cluster);
        if now != last {
            println!("Events: {now:?}");
            last.clone_from(&now);
        }
        now == expected
    });
}

fn leads(program: &Program) -> bool {
    program.metric("globaldns_events_leader", &[]) == Some(1.0)
}

fn wait_for_leader(program: &Program) {
    wait_until("it leads", DEADLINE, || leads(program));
}

/// What a user sees, without the time.
fn describe(kubeconfig: &Path, object: &[&str]) -> Vec<String> {
    let mut kubectl = Command::new("kubectl");
    kubectl.arg("--kubeconfig").arg(kubeconfig).arg("describe").args(object);
    let output = kubectl.output().expect("kubectl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    text.split("Events:").nth(1).unwrap_or_default().lines().map(words).collect()
}

fn wrong(host: &str) -> Value {
    json!({ "hosts": [host], "resolution": "DNS" })
}

/// [F4]
#[test]
#[ignore = "needs etcd, kube-apiserver and kubectl: run tests/e2e/run"]
fn kubectl_describe_shows_what_is_wrong_with_an_entry_and_what_to_do() {
    with_shared(|plane| {
        prepare(plane, &[User::Globaldns]);
        let cluster = &plane.cluster;
        cluster.create("shop", "wrong", wrong("wrong.global"));
        cluster.create("shop", "right", spec("right.global", &["240.40.0.1"]));
        let program = Program::start_ready(&ARGUMENTS, &plane.kubeconfig(User::Globaldns));
        wait_told(cluster, &[("wrong", "HostNoAddress")]);
        let admin = plane.kubeconfig(User::Admin);
        let shown = describe(&admin, &["serviceentry", "-n", "shop", "wrong"]).join("\n");
        println!("{shown}");
        for part in [
            "Warning HostNoAddress",
            "globaldns spec.hosts[0] \"wrong.global\": the host has no address, so it does not exist in DNS; list addresses",
        ] {
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
        let shown = describe(&admin, &["serviceentry", "-n", "shop", "right"]).join("\n");
        assert!(shown.contains("<none>"), "{shown}");
        assert!(program.complaints().iter().all(|line| line.text.contains("host-no-address")));
    });
}

/// [F4]
#[test]
#[ignore = "needs etcd, kube-apiserver and kubectl: run tests/e2e/run"]
fn neither_a_restart_nor_a_second_replica_tells_again_and_a_change_is_told() {
    with_shared(|plane| {
        prepare(plane, &[User::Globaldns]);
        let cluster = &plane.cluster;
        cluster.create("shop", "a", wrong("a.global"));
        let kubeconfig = plane.kubeconfig(User::Globaldns);
        let first = Program::start_ready(&ARGUMENTS, &kubeconfig);
        wait_told(cluster, &[("a", "HostNoAddress")]);
        let second = Program::start_ready(&ARGUMENTS, &kubeconfig);
        first.terminate();
        wait_for_leader(&second);
        // As after an hour: nothing in the cluster but our record says that it was told.
        let before = events(cluster).remove(0);
        let name = before["metadata"]["name"].as_str().expect("a name");
        cluster.delete_path(&format!("{EVENTS}/namespaces/shop/events/{name}"));
        let third = Program::start_ready(&ARGUMENTS, &kubeconfig);
        second.terminate();
        wait_for_leader(&third);
        // It would have come before this one, or with it.
        cluster.create("shop", "b", wrong("b.global"));
        wait_told(cluster, &[("b", "HostNoAddress")]);
        // Another finding about the same entry, beside the one that stands.
        cluster.patch("shop", "a", &json!({ "spec": { "hosts": ["a.global", "$.global"] } }));
        wait_told(cluster, &[("a", "HostInvalid"), ("b", "HostNoAddress")]);
        // It is mended and comes back: told again, for it had gone.
        cluster.patch(
            "shop",
            "a",
            &json!({ "spec": { "hosts": ["a.global"], "addresses": ["240.41.0.1"] } }),
        );
        third.resolver().wait_for("a.global", &Answer::of(&["240.41.0.1"]));
        cluster.create("shop", "c", wrong("c.global"));
        wait_told(cluster, &[("a", "HostInvalid"), ("b", "HostNoAddress"), ("c", "HostNoAddress")]);
        cluster.patch("shop", "a", &json!({ "spec": { "addresses": null } }));
        let all =
            [("a", "HostInvalid"), ("a", "HostNoAddress"), ("b", "HostNoAddress"), ("c", "HostNoAddress")];
        wait_told(cluster, &all);
        // And once more: the same Event, which is still there, counted.
        cluster.patch("shop", "a", &json!({ "spec": { "addresses": ["240.41.0.1"] } }));
        third.resolver().wait_for("a.global", &Answer::of(&["240.41.0.1"]));
        cluster.create("shop", "d", wrong("d.global"));
        let all = [&all[..], &[("d", "HostNoAddress")]].concat();
        wait_told(cluster, &all);
        cluster.patch("shop", "a", &json!({ "spec": { "addresses": null } }));
        wait_until("kubectl describe says x2", DEADLINE, || {
            let shown = describe(&plane.kubeconfig(User::Admin), &["serviceentry", "-n", "shop", "a"]);
            shown.iter().any(|line| line.starts_with("Warning HostNoAddress") && line.contains("(x2 over"))
        });
        assert_eq!(told(cluster).len(), all.len());
    });
}

/// [F4]
#[test]
#[ignore = "needs etcd, kube-apiserver and kubectl: run tests/e2e/run"]
fn when_the_leader_is_killed_the_next_one_goes_on_and_repeats_nothing() {
    with_shared(|plane| {
        prepare(plane, &[User::Globaldns]);
        let cluster = &plane.cluster;
        let kubeconfig = plane.kubeconfig(User::Globaldns);
        let first = Program::start_ready(&ARGUMENTS, &kubeconfig);
        wait_for_leader(&first);
        let second = Program::start_ready(&ARGUMENTS, &kubeconfig);
        cluster.create("shop", "a", wrong("a.global"));
        wait_told(cluster, &[("a", "HostNoAddress")]);
        // At once, so that nothing but the Event may say that it was told.
        first.kill();
        cluster.create("shop", "b", wrong("b.global"));
        wait_told(cluster, &[("a", "HostNoAddress"), ("b", "HostNoAddress")]);
        assert!(leads(&second));
        let series: Vec<_> = events(cluster).iter().map(|event| event["series"].clone()).collect();
        assert!(series.iter().all(Value::is_null), "none was counted: {series:?}");
    });
}

/// [F4] [L2]
#[test]
#[ignore = "needs etcd, kube-apiserver and kubectl: run tests/e2e/run"]
fn without_the_rights_the_log_says_so_once_and_with_them_events_are_written() {
    with_shared(|plane| {
        prepare(plane, &[]);
        let cluster = &plane.cluster;
        cluster.grant(User::Nobody);
        cluster.revoke_rights_of_events(User::Nobody);
        cluster.create("shop", "a", wrong("a.global"));
        let program = Program::start_ready(&ARGUMENTS, &plane.kubeconfig(User::Nobody));
        let ours = |line: &crate::program::LogLine| line.text.contains("Events: ");
        let line = program.wait_for_log("the Lease", |line| ours(line) && line.text.contains("leases"));
        assert!(line.text.contains("docs/operations.md (Kubernetes Events)"), "{line:?}");
        // First what is ours alone, and then the rest.
        cluster.grant_rights_of_events_at_home(User::Nobody);
        let line =
            program.wait_for_log("the right", |line| ours(line) && line.text.contains("a right is missing"));
        for part in ["apiGroups: [events.k8s.io]", "verbs: [create, patch]", "namespace \\\"shop\\\""] {
            assert!(line.text.contains(part), "{part}: {line:?}");
        }
        let refused = || program.metric("globaldns_events_total", &[("result", "refused")]);
        wait_until("it tries again", DEADLINE, || refused() >= Some(2.0));
        let lines = program.complaints();
        let lines = lines.iter().filter(|line| line.text.contains("a right is missing")).count();
        assert_eq!(lines, 1, "{:#?}", program.complaints());
        assert_eq!(told(cluster), []);
        cluster.grant_rights_of_events(User::Nobody);
        wait_told(cluster, &[("a", "HostNoAddress")]);
        cluster.revoke_rights_of_events(User::Nobody);
    });
}

/// [F4]
#[test]
#[ignore = "needs etcd, kube-apiserver and kubectl: run tests/e2e/run"]
fn a_flood_of_findings_does_not_flood_etcd() {
    with_shared(|plane| {
        prepare(plane, &[User::Globaldns]);
        let cluster = &plane.cluster;
        let service = format!("/api/v1/namespaces/{OURS}/services/globaldns");
        if cluster.status_of(&service) != 200 {
            cluster.create_service(OURS, "globaldns", None);
        }
        let many = (0..3_000).map(|i| {
            json!({ "metadata": { "namespace": "flood", "name": format!("e{i}") }, "spec": wrong(&format!("e{i}.global")) })
        });
        cluster.create_entries("flood", many.collect());
        cluster.create("flood", "invalid", spec("$.global", &["240.42.0.1"]));
        let begun = std::time::Instant::now();
        let _program = Program::start_ready(&ARGUMENTS, &plane.kubeconfig(User::Globaldns));
        let many = ("globaldns".to_owned(), "ManyFindings".to_owned());
        wait_until("a word about the others", DEADLINE, || told(cluster).contains(&many));
        let all = told(cluster);
        let most = 27 + usize::try_from(begun.elapsed().as_secs() / 2).expect("few");
        println!("{} Events about 3,001 findings", all.len());
        assert!(all.len() <= most, "{} Events, of {most}", all.len());
        assert!(all.contains(&("invalid".to_owned(), "HostInvalid".to_owned())), "errors first");
        let shown =
            describe(&plane.kubeconfig(User::Admin), &["service", "-n", OURS, "globaldns"]).join("\n");
        assert!(shown.contains("Warning ManyFindings") && shown.contains("wait to be told"), "{shown}");
        // All at once; the next test would delete them one by one.
        cluster.delete_path("/apis/networking.istio.io/v1/namespaces/flood/serviceentries");
        // Other tests have one with an address of its own.
        cluster.delete_path(&service);
    });
}
