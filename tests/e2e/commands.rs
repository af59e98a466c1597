//! Flags and commands that need a cluster.

use serde_json::Value;

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
