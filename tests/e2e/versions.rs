//! Which API version is read, and what happens when the CRD comes, goes or changes.

use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

/// [S1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn a_crd_served_only_as_v1beta1_is_read_as_v1beta1() {
    with_shared(|plane| {
        let (listed, watched) = ("listed.beta.global", "watched.beta.global");
        plane.cluster.install_crd_serving(&["v1beta1"]);
        plane.cluster.create("beta", "listed", spec(listed, &["240.6.0.1"]));
        let before = plane.versions_listed(User::Globaldns).len();

        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.assert(listed, &Answer::of(&["240.6.0.1"]));
        plane.cluster.create("beta", "watched", spec(watched, &["240.6.0.2"]));
        resolver.wait_for(watched, &Answer::of(&["240.6.0.2"]));

        assert_only_listed(plane, before, "v1beta1");
    });
}

/// [S1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn the_preferred_version_is_read_and_another_once_it_is_no_longer_served() {
    with_shared(|plane| {
        let (early, late) = ("early.version.global", "late.version.global");
        let early_answer = Answer::of(&["240.7.0.1"]);
        plane.cluster.create("version", "early", spec(early, &["240.7.0.1"]));
        let before = plane.versions_listed(User::Globaldns).len();
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.assert(early, &early_answer);
        assert_only_listed(plane, before, "v1");

        plane.cluster.install_crd_serving(&["v1alpha3"]);
        plane.cluster.create("version", "late", spec(late, &["240.7.0.2"]));
        resolver.wait_for(late, &Answer::of(&["240.7.0.2"]));
        resolver.assert(early, &early_answer);
        assert!(program.ready(), "once ready, ready");
    });
}

/// [S1] [L1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn without_a_crd_we_are_ready_and_a_crd_that_comes_later_is_read() {
    with_shared(|plane| {
        let host = "late.crd.global";
        plane.cluster.delete_crd();
        let mut program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        // An absent CRD is an empty complete list, not ignorance.
        resolver.assert(host, &Answer::nxdomain());

        plane.cluster.install_crd();
        plane.cluster.create("late-crd", "late", spec(host, &["240.8.0.1"]));
        resolver.wait_for(host, &Answer::of(&["240.8.0.1"]));

        // Gone and back: the entries of the new one are answered, also the changed ones.
        plane.cluster.delete_crd();
        plane.cluster.install_crd();
        plane.cluster.create("late-crd", "late", spec(host, &["240.8.0.2"]));
        resolver.wait_for(host, &Answer::of(&["240.8.0.2"]));
        assert!(program.ready(), "once ready, ready");
        program.assert_running();
    });
}

/// [S1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn only_the_listed_namespaces_are_read_and_rights_there_suffice() {
    with_shared(|plane| {
        let host = |namespace: &str| format!("{namespace}.restricted.global");
        let addresses = ["240.10.0.1"];
        for namespace in ["first", "second", "third"] {
            let spec = spec(&host(namespace), &addresses);
            plane.cluster.create(namespace, "restricted", spec);
        }
        for namespace in ["first", "second"] {
            plane.cluster.grant_in(User::Tenant, namespace);
        }
        let arguments = ["--namespace", "first", "--namespace", "second"];
        let program = Program::start_ready(&arguments, &plane.kubeconfig(User::Tenant));
        let mut resolver = program.resolver();
        resolver.assert(&host("first"), &Answer::of(&addresses));
        resolver.assert(&host("second"), &Answer::of(&addresses));
        resolver.assert(&host("third"), &Answer::nxdomain());

        plane.cluster.create("third", "later", spec("later-third.global", &addresses));
        for namespace in ["first", "second"] {
            let host = format!("later-{namespace}.global");
            plane.cluster.create(namespace, "later", spec(&host, &addresses));
            resolver.wait_for(&host, &Answer::of(&addresses));
        }
        resolver.assert("later-third.global", &Answer::nxdomain());

        plane.cluster.delete("first", "restricted");
        resolver.wait_for(&host("first"), &Answer::nxdomain());
        resolver.assert(&host("second"), &Answer::of(&addresses));
        wait_until("the audit log shows the lists", DEADLINE, || plane.requests(User::Tenant, "list") >= 2);
    });
}

/// Asserts that all lists but the first `before` were made in `version`.
#[track_caller]
fn assert_only_listed(plane: &ControlPlane, before: usize, version: &str) {
    let listed = || plane.versions_listed(User::Globaldns)[before..].to_vec();
    // The audit log is written after the reply.
    wait_until("the audit log shows the list", DEADLINE, || !listed().is_empty());
    let listed = listed();
    assert!(listed.iter().all(|one| one == version), "{listed:?}");
}
