//! `serve --stub-domains` and `stub-domains …` against real cluster DNS: every test ends in the state that
//! docs/contract.md says, and with pods of cluster DNS that could be restarted.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster_dns::{ClusterDns, Flavour, OUR_SERVICE};
use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::program::{self, Program};
use crate::wait::{DEADLINE, poll, wait_until};

const HOST: &str = "echo.default.global";
const RECORD: &str = "/api/v1/namespaces/istio-system/configmaps/globaldns-stub-domains";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/globaldns-stub-domains";

/// A cluster with cluster DNS, one host, and a Service in front of us that nobody serves yet.
struct Scene<'p> {
    plane: &'p ControlPlane,
    dns: ClusterDns,
    kubeconfig: PathBuf,
}

impl<'p> Scene<'p> {
    fn new(plane: &'p ControlPlane, flavour: Flavour) -> Self {
        let dns = ClusterDns::start(plane, flavour);
        let cluster = &plane.cluster;
        cluster.create("default", "echo", spec(HOST, &["240.20.0.1"]));
        cluster.grant_stub_domain_rights(User::Globaldns);
        for path in [RECORD, LEASE, "/api/v1/namespaces/istio-system/services/globaldns"] {
            if cluster.status_of(path) == 200 {
                cluster.delete_path(path);
            }
        }
        cluster.create_service("istio-system", "globaldns", Some(&OUR_SERVICE.to_string()));
        // Those of other tests prove nothing.
        cluster.delete_path("/apis/events.k8s.io/v1/namespaces/istio-system/events");
        let kubeconfig = plane.kubeconfig(User::Globaldns);
        Scene { plane, dns, kubeconfig }
    }

    /// A replica that manages.
    fn manage(&self, more: &[&str]) -> Program {
        let listen = format!("{OUR_SERVICE}:53");
        self.serve(&[&["--listen", &listen, "--stub-domains", "manage"], more].concat())
    }

    fn serve(&self, arguments: &[&str]) -> Program {
        self.dns.inside(|| Program::start_ready(arguments, &self.kubeconfig))
    }

    /// A command, run on the node, and what it printed.
    fn command(&self, arguments: &[&str]) -> Output {
        let (command, arguments) = arguments.split_first().expect("a command");
        self.dns.inside(|| program::run(&format!("stub-domains {command}"), arguments, &self.kubeconfig))
    }

    /// What `explain` says that cluster DNS does with the zone.
    fn forwarding(&self) -> Value {
        let arguments = [HOST, "--advertise-service", "istio-system/globaldns", "-o", "json"];
        let output = self.dns.inside(|| program::run("explain", &arguments, &self.kubeconfig));
        let explained: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        explained["forwarding"].clone()
    }

    fn metric(&self, program: &Program, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.dns.inside(|| program.metric(name, labels)).unwrap_or_default()
    }

    #[track_caller]
    fn wait_for_state(&self, program: &Program, layer: &str, state: &str) {
        let now =
            || self.metric(program, "globaldns_stub_domains_state", &[("layer", layer), ("state", state)]);
        if poll(DEADLINE, || (now() == 1.0).then_some(())).is_none() {
            panic!("{layer} is not {state}; the record: {}\n{}", self.record(), self.dns.logs());
        }
    }

    fn writes(&self, program: &Program, layer: &str) -> f64 {
        self.metric(program, "globaldns_stub_domains_writes_total", &[("layer", layer)])
    }

    fn record(&self) -> Value {
        let cluster = &self.plane.cluster;
        if cluster.status_of(RECORD) != 200 {
            return Value::Null;
        }
        let text = cluster.get(RECORD)["data"]["record.json"].as_str().unwrap_or_default().to_owned();
        serde_json::from_str(&text).unwrap_or_default()
    }

    fn resource_version(&self, name: &str) -> String {
        let map = self.plane.cluster.get(&format!("/api/v1/namespaces/kube-system/configmaps/{name}"));
        map["metadata"]["resourceVersion"].as_str().expect("a version").to_owned()
    }

    /// Every name resolves, through every pod, now and after a restart.
    #[track_caller]
    fn assert_resolves(&self) {
        self.dns.wait_for(HOST, &Answer::of(&["240.20.0.1"]));
        self.assert_restarts();
    }

    #[track_caller]
    fn assert_restarts(&self) {
        self.dns.restarts_cleanly().expect("a pod of cluster DNS that starts now works");
        self.dns.wait_for("kubernetes.default.svc.cluster.local", &Answer::of(&["10.0.0.1"]));
    }
}

/// [T2] [T3] [T7] [T12]
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn from_an_untouched_corefile_manage_alone_makes_names_resolve() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let before = scene.dns.corefile();
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.assert_resolves();
        assert!(scene.dns.corefile().starts_with(&before), "every octet before our block is as it was");
        assert_eq!(scene.writes(&program, "cluster-dns"), 1.0);
        let events = plane.cluster.get("/apis/events.k8s.io/v1/namespaces/istio-system/events");
        let reasons: Vec<_> =
            events["items"].as_array().expect("a list").iter().map(|e| &e["reason"]).collect();
        assert!(reasons.contains(&&json!("StubDomainsVerified")), "{reasons:?}");
        let uid = |event: &Value| event["regarding"]["uid"].clone();
        let service = plane.cluster.get("/api/v1/namespaces/istio-system/services/globaldns");
        let events = events["items"].as_array().expect("a list");
        assert!(
            events.iter().all(|event| uid(event) == service["metadata"]["uid"]),
            "as `kubectl describe` asks"
        );
        // Another replica finds what this one has told, and does not tell it again; nor does its successor.
        let told = || {
            let events = plane.cluster.get("/apis/events.k8s.io/v1/namespaces/istio-system/events");
            events["items"].as_array().expect("a list").clone()
        };
        program.terminate();
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        let metric = |name: &str, labels: &[(&str, &str)]| scene.dns.inside(|| program.metric(name, labels));
        wait_until("it leads", DEADLINE, || metric("globaldns_stub_domains_leader", &[]) == Some(1.0));
        wait_until("it has looked and proved", DEADLINE, || {
            let labels = [("layer", "cluster-dns"), ("result", "proved")];
            metric("globaldns_stub_domains_proofs_total", &labels) >= Some(1.0)
        });
        // It renews its Lease after it has told.
        let renewed = || plane.cluster.get(LEASE)["spec"]["renewTime"].clone();
        let before = renewed();
        wait_until("it has renewed its Lease", DEADLINE, || renewed() != before);
        assert_eq!(&told(), events, "none is new and none was counted");
    });
}

/// [T10] [T3] The zones are those of the flags; another replica with more of them takes over.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_zone_more_or_less_is_followed() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        plane.cluster.create("default", "far", spec("far.default.cluster2", &["240.20.0.2"]));
        let original = scene.dns.corefile();
        for zones in ["global", "global,cluster2", "cluster2"] {
            let program = scene.manage(&["--zone", zones]);
            scene.wait_for_state(&program, "cluster-dns", "Verified");
            if zones.contains("cluster2") {
                scene.dns.wait_for("far.default.cluster2", &Answer::of(&["240.20.0.2"]));
            }
            let added = scene.dns.corefile()[original.len()..].to_owned();
            assert_eq!(added.matches("forward").count(), 1, "one block: {added}");
            assert_eq!(added.contains("global:53"), zones.contains("global"), "{added}");
            scene.assert_restarts();
        }
    });
}

/// [T10] submariner-operator#620: a Service that was made anew has another address.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn another_cluster_ip_is_followed() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let other = Ipv4Addr::new(10, 0, 0, 54);
        scene.dns.add_address(other);
        let program = scene.manage(&["--listen", &format!("{other}:53")]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        plane.cluster.delete_service("istio-system", "globaldns");
        plane.cluster.create_service("istio-system", "globaldns", Some(&other.to_string()));
        wait_until("the new address is written", DEADLINE, || {
            let text = scene.dns.corefile();
            text.contains("forward . 10.0.0.54\n") && !text.contains("10.0.0.53")
        });
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.assert_resolves();
        assert_eq!(
            scene.metric(&program, "globaldns_stub_domains_reverts_total", &[("layer", "cluster-dns")]),
            0.0
        );
    });
}

/// [T9] [T5] [T3]
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn what_others_edit_stays_and_what_they_drop_is_put_back() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let original = scene.dns.corefile();
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        // Somebody adds a stub domain of their own above ours: nothing for us to do.
        let corp = "corp.example:53 {\n    forward . 10.1.2.3\n}\n";
        scene.dns.edit(|text| format!("{corp}{text}"));
        let version = scene.resource_version("coredns");
        // An upgrade that starts from the original: kubernetes/kubernetes#96833.
        scene.dns.edit(|_| original.clone());
        wait_until("the edit is back", DEADLINE, || scene.dns.corefile().contains("forward . 10.0.0.53"));
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.assert_resolves();
        assert_ne!(version, scene.resource_version("coredns"));
        assert_eq!(scene.writes(&program, "cluster-dns"), 2.0, "one edit, one repair");
        assert_eq!(
            scene.metric(&program, "globaldns_stub_domains_reverts_total", &[("layer", "cluster-dns")]),
            1.0
        );
    });
}

/// [T3] [T5] kubernetes/kubernetes#88811: kubeadm's migration drops comments, indents anew and adds options.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_migration_that_rewrites_the_corefile_is_recognised_and_nothing_is_written() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.dns.edit(|text| {
            let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
            let lines = lines.map(|line| match line.trim() {
                "forward . 10.0.0.53" => {
                    "    forward . 10.0.0.53 {\n        max_concurrent 1000\n    }\n    loop".to_owned()
                }
                trimmed if line.starts_with(' ') => format!("    {trimmed}"),
                _ => line.to_owned(),
            });
            lines.map(|line| line + "\n").collect()
        });
        let version = scene.resource_version("coredns");
        let looks = || {
            scene.metric(
                &program,
                "globaldns_stub_domains_proofs_total",
                &[("layer", "cluster-dns"), ("result", "proved")],
            )
        };
        let now = looks();
        wait_until("it is proved again", Duration::from_secs(120), || looks() > now);
        assert_eq!(scene.resource_version("coredns"), version, "{}", scene.dns.corefile());
        scene.assert_resolves();
        // And it still goes as a whole.
        let removed = scene.command(&["remove"]);
        assert!(removed.status.success(), "{removed:?}");
        assert!(!scene.dns.corefile().contains("10.0.0.53"), "{}", scene.dns.corefile());
    });
}

/// [T9] istio/istio#13781, kops#7762, hairpin-proxy#18
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn somebody_who_undoes_it_every_time_wins_and_is_named() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let original = scene.dns.corefile();
        let program = scene.manage(&[]);
        let fighting = || {
            scene.metric(
                &program,
                "globaldns_stub_domains_state",
                &[("layer", "cluster-dns"), ("state", "Fighting")],
            )
        };
        let ended = poll(DEADLINE * 2, || {
            if scene.dns.corefile() != original {
                scene.dns.edit(|_| original.clone());
            }
            (fighting() == 1.0).then_some(())
        });
        assert!(ended.is_some(), "{}", scene.record());
        let message =
            scene.record()["places"]["ConfigMap kube-system/coredns Corefile"]["message"].to_string();
        assert!(message.contains("kubectl-edit undid our edit 3 times"), "{message}");
        // Nothing is written any more, though a change wakes it: it renews its Lease before each look, so twice is a
        // look in between.
        let edited = format!("{original}# somebody was here\n");
        scene.dns.edit(|_| edited.clone());
        for _ in 0..2 {
            let renewed = || plane.cluster.get(LEASE)["spec"]["renewTime"].clone();
            let before = renewed();
            wait_until("it renews its Lease", DEADLINE, || renewed() != before);
        }
        assert_eq!(scene.dns.corefile(), edited);
        scene.dns.edit(|_| original.clone());
        scene.assert_restarts();
        // Asked for by hand, it begins anew.
        let applied = scene.command(&["apply", "--timeout", "60s", "--rollback-after", "50s"]);
        assert!(applied.status.success(), "{applied:?}");
        scene.assert_resolves();
    });
}

/// [T4]
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_foreign_block_is_a_conflict_and_ours_gives_way() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        let foreign = "GLOBAL.:53 {\n    forward . 10.9.9.9\n}\n";
        // With both, the next pod would not start.
        scene.dns.edit(|text| format!("{foreign}{text}"));
        wait_until("ours is withdrawn", DEADLINE, || !scene.dns.corefile().contains("10.0.0.53"));
        scene.wait_for_state(&program, "cluster-dns", "Conflict");
        assert!(scene.dns.corefile().starts_with(foreign), "{}", scene.dns.corefile());
        scene.assert_restarts();
        scene.dns.edit(|text| text.replace(foreign, ""));
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.assert_resolves();
    });
}

/// [T4] istio/istio#22852: one invalid entry, and every other is ignored.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn an_invalid_foreign_stub_domain_is_reported_and_not_written_beside() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::NodeLocal);
        let invalid = r#"{"corp": ["$(kubectl get svc)"]}"#;
        scene.dns.set_value("kube-dns", "stubDomains", invalid);
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "node-local", "Refused");
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        assert_eq!(scene.dns.value("kube-dns", "stubDomains").as_deref(), Some(invalid));
        let message =
            scene.record()["places"]["ConfigMap kube-system/kube-dns stubDomains"]["message"].to_string();
        assert!(message.contains("corp"), "{message}");
        // Mended, it goes on by itself.
        scene.dns.set_value("kube-dns", "stubDomains", r#"{"corp": ["10.1.2.3"]}"#);
        scene.wait_for_state(&program, "node-local", "Verified");
        scene.assert_resolves();
        let value = scene.dns.value("kube-dns", "stubDomains").expect("a value");
        let value: Value = serde_json::from_str(&value).expect("JSON");
        assert_eq!(value, json!({"corp": ["10.1.2.3"], "global": ["10.0.0.53"]}));
        drop(program);
        let removed = scene.command(&["remove", "--wait=false"]);
        assert!(removed.status.success(), "{removed:?}");
        let left = scene.dns.value("kube-dns", "stubDomains").expect("their entry");
        assert_eq!(serde_json::from_str::<Value>(&left).expect("JSON"), json!({"corp": ["10.1.2.3"]}));
    });
}

/// [T6] A leader that dies between the record and the object, or between the object and the record.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_leader_lost_in_mid_write_leaves_nothing_half_done() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let original = scene.dns.corefile();
        for written in [false, true] {
            // The first one is killed once its edit, or only the intent, is there: as it happens.
            let first = scene.manage(&[]);
            wait_until("something was recorded", DEADLINE, || {
                let record = scene.record();
                !record.is_null() && (!written || scene.dns.corefile() != original)
            });
            first.kill();
            let second = scene.manage(&[]);
            scene.wait_for_state(&second, "cluster-dns", "Verified");
            assert_eq!(scene.dns.corefile().matches("10.0.0.53").count(), 1);
            scene.assert_resolves();
            let removed = scene.command(&["remove"]);
            assert!(removed.status.success(), "{removed:?}");
            assert_eq!(scene.dns.corefile(), original);
            drop(second);
            plane.cluster.delete_path(RECORD);
        }
    });
}

/// [T11] [T3]
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn remove_gives_back_the_octets_and_running_replicas_stay_out() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        // Without a final newline, which is somebody else's choice too.
        scene.dns.edit(|text| text.trim_end().to_owned());
        let original = scene.dns.corefile();
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        let tried = scene.command(&["remove", "--dry-run"]);
        assert!(tried.status.success(), "{tried:?}");
        assert_ne!(scene.dns.corefile(), original, "a dry run keeps nothing");
        let removed = scene.command(&["remove"]);
        assert!(removed.status.success(), "{removed:?}");
        assert_eq!(scene.dns.corefile(), original);
        scene.wait_for_state(&program, "cluster-dns", "Removed");
        // What comes up within minutes stays out as well.
        let late = scene.serve(&["--stub-domains", "manage"]);
        scene.wait_for_state(&late, "cluster-dns", "Removed");
        assert_eq!(scene.dns.corefile(), original);
        scene.assert_restarts();
    });
}

/// [T8]
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn an_edit_that_cluster_dns_never_reads_is_rolled_back() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let original = scene.dns.corefile();
        scene.dns.set_kubelet_sync_delay(Duration::from_secs(3600));
        let program = scene.manage(&["--stub-domains-timeout", "5s"]);
        scene.wait_for_state(&program, "cluster-dns", "RolledBack");
        assert_eq!(scene.dns.corefile(), original);
        assert_eq!(scene.writes(&program, "cluster-dns"), 2.0);
        let rollbacks = "globaldns_stub_domains_rollbacks_total";
        assert_eq!(scene.metric(&program, rollbacks, &[("layer", "cluster-dns")]), 1.0);
        scene.assert_restarts();
        // Once pods see changes again, it works on request.
        scene.dns.set_kubelet_sync_delay(Duration::ZERO);
        let applied = scene.command(&["apply", "--timeout", "60s", "--rollback-after", "50s"]);
        assert!(applied.status.success(), "{applied:?}");
        scene.assert_resolves();
    });
}

/// [T4] [T7] banzaicloud/istio-operator#226: nothing is written for an address where nobody answers.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn nothing_is_written_while_we_do_not_answer_where_the_service_is() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let original = scene.dns.corefile();
        // It listens on loopback alone.
        let program = scene.serve(&["--stub-domains", "manage"]);
        scene.wait_for_state(&program, "cluster-dns", "Planned");
        let seen = poll(DEADLINE, || {
            let message =
                scene.record()["places"]["ConfigMap kube-system/coredns Corefile"]["message"].to_string();
            message.contains("waiting for our own address to answer: 10.0.0.53:53").then_some(())
        });
        assert!(seen.is_some(), "{}", scene.record());
        assert_eq!(scene.dns.corefile(), original);
        assert_eq!(scene.writes(&program, "cluster-dns"), 0.0);
    });
}

/// [T2] [T5] Azure/AKS#811 and its family: the main Corefile is not touched.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn an_imported_key_of_our_own_is_created_and_goes_again() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Custom);
        let version = scene.resource_version("coredns");
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.assert_resolves();
        assert_eq!(scene.resource_version("coredns"), version);
        let text = scene.dns.value("coredns-custom", "globaldns.server").expect("our key");
        assert!(text.starts_with("global:53 {\n"), "{text}");
        // Whoever deletes the Service first still gets rid of the rest: what was written is on record.
        plane.cluster.delete_service("istio-system", "globaldns");
        let removed = scene.command(&["remove"]);
        assert!(removed.status.success(), "{removed:?}");
        let custom = "/api/v1/namespaces/kube-system/configmaps/coredns-custom";
        assert_eq!(plane.cluster.status_of(custom), 404, "we created it, and nobody else needs it");
        scene.assert_restarts();
    });
}

/// [T2] [T7] kubernetes/dns#592, submariner#1549: NodeLocal goes past CoreDNS.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn node_local_and_coredns_are_both_told_and_both_proved() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::NodeLocal);
        let program = scene.manage(&[]);
        scene.wait_for_state(&program, "cluster-dns", "Verified");
        scene.wait_for_state(&program, "node-local", "Verified");
        scene.assert_resolves();
        let status = scene.command(&["status"]);
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert!(status.status.success(), "{text}");
        assert!(text.contains("169.254.20.10:53, zone global: proved"), "{text}");
    });
}

/// [T6] [I1] `plan` changes nothing, and says what `apply` would do; `explain` says what cluster DNS does before and after.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn plan_changes_nothing_and_apply_does_what_it_said() {
    with_shared(|plane| {
        let scene = Scene::new(plane, Flavour::Kubeadm);
        let version = scene.resource_version("coredns");
        let program = scene.serve(&["--listen", &format!("{OUR_SERVICE}:53"), "--stub-domains", "plan"]);
        scene.wait_for_state(&program, "cluster-dns", "Planned");
        let plan = scene.command(&["plan"]);
        let text = String::from_utf8_lossy(&plan.stdout).into_owned();
        assert!(plan.status.success() && text.contains("+global:53 {"), "{text}");
        assert!(text.contains("ConfigMap kube-system/coredns"), "{text}");
        let json = scene.command(&["plan", "-o", "json"]);
        let json: Value = serde_json::from_slice(&json.stdout).expect("JSON");
        assert_eq!(json["layers"][0]["outcome"]["kind"], "change");
        assert_eq!(scene.resource_version("coredns"), version);
        assert_eq!(plane.cluster.status_of(RECORD), 404);
        assert_eq!(plane.cluster.status_of(LEASE), 404);
        let forwarding = scene.forwarding();
        assert_eq!(forwarding["leadsHere"], false, "{forwarding:#}");
        assert!(
            forwarding["remedy"].as_str().is_some_and(|it| it.contains("stub-domains plan")),
            "{forwarding:#}"
        );
        let applied = scene.command(&["apply", "--timeout", "60s", "--rollback-after", "50s"]);
        assert!(applied.status.success(), "{applied:?}");
        assert_eq!(scene.dns.corefile(), json["layers"][0]["outcome"]["after"].as_str().expect("a text"));
        let forwarding = scene.forwarding();
        assert_eq!(forwarding["leadsHere"], true, "{forwarding:#}");
        scene.assert_resolves();
    });
}
