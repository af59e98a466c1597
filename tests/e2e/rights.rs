//! What we say and do without the rights we need.

use crate::control_plane::with_shared;
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::gate::Gate;
use crate::program::{LogLine, Program};
use crate::wait::{DEADLINE, wait_until};

/// [D9] [L1] [L2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn without_rights_we_say_which_are_missing_and_are_ready_once_they_are_granted() {
    with_shared(|plane| {
        let host = "rights.global";
        plane.cluster.create("rights", "rights", spec(host, &["240.11.0.1"]));
        let lists = || plane.requests(User::Nobody, "list");
        let before = lists();
        let mut program = Program::start(&[], &plane.kubeconfig(User::Nobody));
        let mut resolver = program.resolver();

        program.wait_for_log("the verb, the resource and the fix", names_the_missing_right);

        // Refused more than once, and still not a word of NXDOMAIN.
        wait_until("we try again", DEADLINE, || lists() >= before + 3);
        for name in [host, "missing.global", "global"] {
            resolver.assert(name, &Answer::servfail());
        }
        assert!(!program.ready(), "not ready before the first complete list");
        program.assert_running();
        let complaints = program.complaints();
        assert_eq!(complaints.len(), 1, "one line for the change: {complaints:#?}");

        plane.cluster.grant(User::Nobody);
        program.wait_until_ready();
        resolver.assert(host, &Answer::of(&["240.11.0.1"]));
        resolver.assert("missing.global", &Answer::nxdomain());
    });
}

/// [L2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn rights_taken_away_change_no_answer_and_are_named_once() {
    with_shared(|plane| {
        let (host, new) = ("revoked.global", "granted-again.global");
        let answer = Answer::of(&["240.17.0.1"]);
        plane.cluster.create("revoked", "revoked", spec(host, &["240.17.0.1"]));
        plane.cluster.grant(User::Nobody);
        let gate = Gate::to(plane.port());
        let kubeconfig = plane.kubeconfig_through(User::Nobody, gate.port());
        let program = Program::start_ready(&[], &kubeconfig);
        let mut resolver = program.resolver();
        resolver.assert(host, &answer);

        // Rights are looked at when a request begins: the running watch has to break first.
        let before = plane.refusals(User::Nobody);
        plane.cluster.revoke(User::Nobody);
        gate.close();
        gate.open();
        program.wait_for_log("the verb, the resource and the fix", names_the_missing_right);
        let named = program.complaints().len();
        wait_until("we try again", DEADLINE, || plane.refusals(User::Nobody) >= before + 3);
        let complaints = program.complaints();
        assert_eq!(complaints.len(), named, "one line for the change: {complaints:#?}");
        resolver.assert(host, &answer);
        resolver.assert(new, &Answer::nxdomain());
        assert!(program.ready(), "once ready, ready");

        plane.cluster.grant(User::Nobody);
        plane.cluster.create("revoked", "again", spec(new, &["240.17.0.2"]));
        resolver.wait_for(new, &Answer::of(&["240.17.0.2"]));
        resolver.assert(host, &answer);
    });
}

fn names_the_missing_right(line: &LogLine) -> bool {
    let parts = ["list", "serviceentries.networking.istio.io", "ClusterRole"];
    line.is_complaint() && parts.iter().all(|part| line.text.contains(part))
}
