//! Real cluster DNS forwards our zones to us, once its configuration says so.

use std::time::Duration;

use globaldns::stub::corefile::{Block, Process, edit};
use globaldns::stub::{Ours, Stub};
use globaldns::wire::name::Name;
use hickory_proto::op::ResponseCode;

use crate::cluster_dns::{ClusterDns, Flavour, KUBE_DNS, OUR_SERVICE};
use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::program::Program;
use crate::wait::{DEADLINE, poll};

const HOST: &str = "echo.default.global";

fn block() -> Block {
    let zones = ["global", "cluster2"].map(|zone| Name::parse(zone).expect("a zone"));
    Block::new(Stub::new(zones, [(OUR_SERVICE, 53).into()]).expect("a stub domain"), 53)
}

/// The Corefile with our block.
fn edited(text: &str) -> String {
    let edited = edit(text, Some(&block()), &Ours::default(), &Process::default());
    edited.expect("a Corefile that can be edited").text
}

/// The program as the Service in front of it shows it, with one host.
fn serve(plane: &ControlPlane, dns: &ClusterDns) -> Program {
    plane.cluster.create("default", "echo", spec(HOST, &["240.20.0.1"]));
    let listen = format!("{OUR_SERVICE}:53");
    let kubeconfig = plane.kubeconfig(User::Globaldns);
    dns.inside(|| Program::start_ready(&["--listen", &listen, "--zone", "global"], &kubeconfig))
}

fn is_ours(answer: Option<&Answer>) -> bool {
    answer.is_some_and(|answer| answer.rcode == ResponseCode::NoError && !answer.addresses.is_empty())
}

#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn kubeadm_cluster_dns_forwards_our_zone_after_an_edit_and_after_restarts() {
    with_shared(|plane| {
        let mut dns = ClusterDns::start(plane, Flavour::Kubeadm);
        let _program = serve(plane, &dns);
        // CoreDNS reads the API server; the API server makes this Service itself.
        dns.wait_for("kubernetes.default.svc.cluster.local", &Answer::of(&["10.0.0.1"]));
        assert!(
            dns.dig(HOST).iter().all(|answer| !is_ours(answer.as_ref())),
            "nobody has edited anything yet"
        );

        let before = dns.corefile();
        dns.set_kubelet_sync_delay(Duration::from_millis(500));
        dns.edit(edited);
        dns.wait_for(HOST, &Answer::of(&["240.20.0.1"]));
        dns.wait_for("missing.global", &Answer::nxdomain());
        assert!(is_ours(dns.dig_service(HOST).as_ref()), "{KUBE_DNS}");
        dns.restarts_cleanly().expect("a pod that starts now works");
        dns.restart_one(1);
        dns.wait_for(HOST, &Answer::of(&["240.20.0.1"]));

        dns.edit(|_| before);
        dns.wait_for(HOST, &Answer { rcode: ResponseCode::ServFail, ..Answer::of(&[]) });
    });
}

/// What the rig is for: an edit that running pods survive is found by asking whether a new one would.
#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_corefile_that_breaks_the_next_pod_is_found_while_the_present_ones_answer() {
    with_shared(|plane| {
        let dns = ClusterDns::start(plane, Flavour::Kubeadm);
        dns.edit(|text| format!("{text}{}{}", block(), block()));
        let log = dns.restarts_cleanly().expect_err("two servers for one zone");
        assert!(log.contains("already defined"), "{log}");
        dns.wait_for("kubernetes.default.svc.cluster.local", &Answer::of(&["10.0.0.1"]));
    });
}

#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_key_of_coredns_custom_is_imported_by_pods_that_started_without_it() {
    with_shared(|plane| {
        let dns = ClusterDns::start(plane, Flavour::Custom);
        let _program = serve(plane, &dns);
        dns.set_value("coredns-custom", "globaldns.server", &block().bare());
        dns.wait_for(HOST, &Answer::of(&["240.20.0.1"]));
        dns.restarts_cleanly().expect("a pod that starts now works");
    });
}

#[test]
#[ignore = "needs etcd, kube-apiserver and CoreDNS: run tests/e2e/run"]
fn a_cache_on_the_node_takes_our_zone_from_kube_dns_and_not_from_coredns() {
    with_shared(|plane| {
        let dns = ClusterDns::start(plane, Flavour::NodeLocal);
        let _program = serve(plane, &dns);
        dns.edit(edited);
        let seen = poll(DEADLINE, || is_ours(dns.dig(HOST)[0].as_ref()).then_some(()));
        assert!(seen.is_some(), "{}", dns.logs());
        let answers = dns.dig(HOST);
        assert!(!is_ours(answers[2].as_ref()), "the cache asks the node's resolver: {answers:?}");

        dns.set_value("kube-dns", "stubDomains", &format!(r#"{{"global":["{OUR_SERVICE}"]}}"#));
        dns.wait_for(HOST, &Answer::of(&["240.20.0.1"]));
        dns.restarts_cleanly().expect("a pod that starts now works");
    });
}
