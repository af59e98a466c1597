//! Flags and commands that need a cluster.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::control_plane::with_shared;
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::program::{Program, run};

/// [D5]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn the_name_server_has_the_cluster_ip_of_the_advertised_service() {
    with_shared(|plane| {
        let arguments = ["--advertise-service", "advertised/globaldns"];
        let first = plane.cluster.create_service("advertised", "globaldns", None);
        let program = Program::start_ready(&arguments, &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.wait_for("ns.dns.global", &Answer::of(&[&first]));

        // A ClusterIP never changes: a Service that gets another one is another Service.
        plane.cluster.delete_service("advertised", "globaldns");
        let second = "10.0.77.77";
        assert_ne!(first, second);
        plane.cluster.create_service("advertised", "globaldns", Some(second));
        resolver.wait_for("ns.dns.global", &Answer::of(&[second]));
        plane.cluster.delete_service("advertised", "globaldns");
    });
}

/// [X1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn export_prints_the_table_of_the_cluster_as_json_and_ends_with_0() {
    with_shared(|plane| {
        let host = "exported.global";
        plane.cluster.create("export", "exported", spec(host, &["240.12.0.1"]));
        let kubeconfig = plane.kubeconfig(User::Globaldns);
        let output = run("export", &["--format", "json"], &kubeconfig);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "stderr: {errors}");
        let table: Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("stdout is not JSON alone: {error}"));
        let mut strings = Vec::new();
        collect_strings(&table, &mut strings);
        let contains = |wanted: &str| strings.iter().any(|string| string.trim_end_matches('.') == wanted);
        assert!(contains(host) && contains("240.12.0.1"), "{table:#}");
    });
}

/// [X1] [S1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn export_without_rights_prints_no_table_and_ends_with_1() {
    with_shared(|plane| {
        let kubeconfig = plane.kubeconfig(User::Nobody);
        let output = run("export", &["--format", "json"], &kubeconfig);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "stderr: {errors}");
        assert!(output.stdout.is_empty(), "data although we know none");
        let resource = "serviceentries.networking.istio.io";
        assert!(errors.contains(resource), "the resource: {errors}");
    });
}

/// [I1] [I2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn explain_names_the_entries_of_the_cluster() {
    with_shared(|plane| {
        plane.cluster.create("explained", "echo", spec("echo.explained.global", &["240.13.0.1"]));
        let kubeconfig = plane.kubeconfig(User::Globaldns);
        let explain = |name: &str| {
            let output = run("explain", &[name, "-o", "json"], &kubeconfig);
            let errors = String::from_utf8_lossy(&output.stderr);
            let explained: Value = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("stdout is not JSON alone: {error}; stderr: {errors}"));
            (output.status.code(), explained)
        };
        let (code, explained) = explain("echo.explained.global");
        assert_eq!((code, &explained["cause"]), (Some(0), &"resolves".into()), "{explained:#}");
        let entry = &explained["hosts"][0]["entries"][0];
        assert_eq!((&entry["object"], &entry["owns"]), (&"explained/echo".into(), &true.into()), "{entry:#}");
        assert!(entry["created"].is_string(), "{entry:#}");
        let (code, explained) = explain("ehco.explained.global");
        assert_eq!((code, &explained["cause"]), (Some(1), &"misspelled".into()), "{explained:#}");
        assert_eq!(explained["near"][0]["name"], "echo.explained.global", "{explained:#}");
    });
}

/// [I1] A server is asked through the API server, which finds its pod.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn explain_asks_a_server_behind_its_service() {
    with_shared(|plane| {
        // The API server proxies to no address of loopback.
        let Some(here) = own_address() else {
            return eprintln!("no address but those of loopback: not tested");
        };
        plane.cluster.create("behind", "echo", spec("echo.behind.global", &["240.14.0.1"]));
        let globaldns = plane.kubeconfig(User::Globaldns);
        let listen = ["127.0.0.1:0", &format!("{here}:0")];
        let program = Program::start_at(listen, &[], &globaldns);
        program.wait_until_ready();
        publish(&plane.cluster, program.admin_addr);
        let admin = plane.kubeconfig(User::Admin);
        let ask =
            |name: &str, server: &str| run("explain", &[name, "--server", server, "-o", "json"], &admin);
        let output = ask("echo.behind.global", "behind/globaldns");
        let errors = String::from_utf8_lossy(&output.stderr);
        let explained: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
        assert_eq!((output.status.code(), &explained["resolves"]), (Some(0), &true.into()), "{explained:#}");
        assert!(explained["changed"]["zoneChanged"].is_string(), "only a server knows: {explained:#}");
        assert_eq!(ask("gone.behind.global", "behind/globaldns:metrics").status.code(), Some(1));

        let output = ask("echo.behind.global", "behind/gone");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("behind/gone") && errors.contains("not found"), "{errors}");
        let output = run("explain", &["echo.behind.global", "--server", "behind/globaldns"], &globaldns);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains("services/proxy"), "the right that is missing: {errors}");
        plane.cluster.delete_path("/api/v1/namespaces/behind/pods/globaldns-0");
        plane.cluster.delete_service("behind", "globaldns");
    });
}

/// An address of this machine that is none of loopback.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: this asks for a route.
    socket.connect("198.51.100.1:53").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

/// A Service `globaldns` in `behind` whose port 9153 is at this address, of a pod.
fn publish(cluster: &Cluster, admin: SocketAddr) {
    let core = |kind: &str| format!("/api/v1/namespaces/behind/{kind}");
    let ip = admin.ip().to_string();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "globaldns-0" },
        "spec": { "containers": [{ "name": "globaldns", "image": "globaldns" }] },
    });
    cluster.post(&core("pods"), &pod);
    let status = json!({ "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }] } });
    cluster.merge(&core("pods/globaldns-0/status"), &status);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "globaldns" },
        "spec": { "ports": [{ "name": "metrics", "port": 9153 }] },
    });
    cluster.post(&core("services"), &service);
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints", "metadata": { "name": "globaldns" },
        "subsets": [{
            "addresses": [{ "ip": ip, "targetRef": { "kind": "Pod", "name": "globaldns-0", "namespace": "behind" } }],
            "ports": [{ "name": "metrics", "port": admin.port() }],
        }],
    });
    cluster.post(&core("endpoints"), &endpoints);
}

/// [F2] [F3] The ranges are those the cluster tells.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn check_finds_what_is_wrong_in_the_cluster() {
    with_shared(|plane| {
        // ClusterIPs are in 10.0.0.0/16.
        plane.cluster.create("checked", "inside", spec("inside.checked.global", &["10.0.200.1"]));
        plane.cluster.create("checked", "clean", spec("clean.checked.global", &["240.15.0.1"]));
        let check = |user: User, arguments: &[&str]| {
            let arguments = [&["--cluster", "--namespace", "checked", "-o", "json"], arguments].concat();
            let output = run("check", &arguments, &plane.kubeconfig(user));
            let errors = String::from_utf8_lossy(&output.stderr).into_owned();
            let checked: Value =
                serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{errors}"));
            let found = checked["findings"].as_array().expect("findings").iter();
            let found =
                found.map(|f| format!("{} {} {}", text(f, "code"), text(f, "object"), text(f, "field")));
            (output.status.code(), found.collect::<Vec<_>>(), errors)
        };
        let inside = "address-in-cluster checked/inside spec.addresses[0]".to_owned();
        let (code, found, errors) = check(User::Admin, &[]);
        assert_eq!((code, found), (Some(0), vec![inside.clone()]), "{errors}");
        assert_eq!(check(User::Admin, &["--strict"]).0, Some(1));
        // Who may only read entries is told what was not looked at, and may say it himself.
        let (code, found, errors) = check(User::Globaldns, &["--strict"]);
        assert_eq!((code, found), (Some(0), vec![]), "{errors}");
        assert!(errors.contains("nodes cannot be listed") && errors.contains("--node-cidr"), "{errors}");
        let (code, found, errors) = check(User::Globaldns, &["--strict", "--service-cidr", "10.0.0.0/16"]);
        assert_eq!((code, found), (Some(1), vec![inside]), "{errors}");
    });
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}

/// Every string of `value`, keys included: the shape is for the command's own tests.
fn collect_strings<'a>(value: &'a Value, strings: &mut Vec<&'a str>) {
    match value {
        Value::String(string) => strings.push(string),
        Value::Array(items) => items.iter().for_each(|item| collect_strings(item, strings)),
        Value::Object(fields) => {
            for (key, field) in fields {
                strings.push(key);
                collect_strings(field, strings);
            }
        }
        _ => {}
    }
}
