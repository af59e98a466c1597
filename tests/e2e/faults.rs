//! Faults that a real API server has of itself. Those that can be scripted are in `tests/it/faults.rs`.

use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::spec;
use crate::gate::Gate;
use crate::observer::Observer;
use crate::pod::{Pod, at_home};
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

/// The 60 s of L4, and time for a connection and a list on a loaded machine.
const NOTICED: Duration = Duration::from_secs(100);

/// [L2] [L3]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn an_etcd_restored_from_a_backup_is_followed() {
    let mut plane = ControlPlane::start();
    let (kept, later, new) = ("kept.restored.global", "later.restored.global", "new.restored.global");
    plane.cluster.create("restored", "kept", spec(kept, &["240.17.0.1"]));
    let backup = plane.back_up();
    // All of this the backup does not know.
    plane.cluster.create("restored", "later", spec(later, &["240.17.0.2"]));
    for i in 0..200 {
        let patch = json!({ "spec": { "addresses": [format!("240.17.1.{i}")] } });
        plane.cluster.patch("restored", "later", &patch);
    }
    let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
    let mut resolver = program.resolver();
    resolver.assert(later, &Answer::of(&["240.17.1.199"]));
    let kept_answer = Answer::of(&["240.17.0.1"]);
    let observer = Observer::start(program.dns_addr, vec![(kept.to_owned(), kept_answer)]);
    observer.wait_for_a_round();

    plane.restore(&backup);
    plane.cluster.create("restored", "new", spec(new, &["240.17.0.3"]));
    wait_until("what came after the restore is answered", NOTICED, || {
        resolver.a(new) == Some(Answer::of(&["240.17.0.3"]))
    });
    resolver.wait_for(later, &Answer::nxdomain());
    program.wait_for_log("how it was noticed", |line| {
        line.text.contains("has gone back from resource version") || line.text.contains("\"reason\":\"gone\"")
    });
    plane.cluster.delete("restored", "new");
    resolver.wait_for(new, &Answer::nxdomain());
    assert!(program.ready(), "once ready, ready");
    println!("restored etcd: {} replies unchanged", observer.finish());
}

/// [L2] [L4]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn an_api_server_that_stands_still_changes_no_answer_and_is_caught_up_with() {
    with_shared(|plane| {
        let (kept, new) = ("kept.frozen.global", "new.frozen.global");
        plane.cluster.create("frozen", "kept", spec(kept, &["240.18.0.1"]));
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        let answers =
            vec![(kept.to_owned(), Answer::of(&["240.18.0.1"])), (new.to_owned(), Answer::nxdomain())];
        let observer = Observer::start(program.dns_addr, answers);
        observer.wait_for_a_round();
        plane.freeze_api_server(true);
        // The kernel still accepts connections in its name.
        wait_until("it is noticed", NOTICED, || connection_errors(&program) >= 1.0);
        assert_eq!(program.metric("globaldns_source_up", &[LABEL]), Some(0.0));
        assert!(program.ready(), "once ready, ready");
        observer.wait_for_a_round();
        let questions = observer.finish();
        plane.freeze_api_server(false);
        plane.start_api_server();
        plane.cluster.create("frozen", "new", spec(new, &["240.18.0.2"]));
        resolver.wait_for(new, &Answer::of(&["240.18.0.2"]));
        wait_until("it works again", DEADLINE, || {
            program.metric("globaldns_source_up", &[LABEL]) == Some(1.0)
        });
        println!("frozen API server: {questions} replies unchanged");
    });
}

/// [L4] [L2] Packets vanish in both directions, those of new connections, too.
#[test]
#[ignore = "needs etcd, kube-apiserver, root and nft: run tests/e2e/run"]
fn packets_that_vanish_change_no_answer_and_what_happened_meanwhile_is_followed() {
    with_shared(|plane| {
        let (kept, gone, new) = ("kept.dropped.global", "gone.dropped.global", "new.dropped.global");
        plane.cluster.create("dropped", "kept", spec(kept, &["240.19.0.1"]));
        plane.cluster.create("dropped", "gone", spec(gone, &["240.19.0.2"]));
        let pod = Pod::start("dropped", &[]);
        let listener = pod.inside(|| std::net::TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let gate = Gate::on(listener, plane.port());
        let kubeconfig = plane.kubeconfig_through(User::Globaldns, gate.port());
        pod.inside(|| {
            let program = Program::start_ready(&[], &kubeconfig);
            let mut resolver = program.resolver();
            let answers = vec![(kept.to_owned(), Answer::of(&["240.19.0.1"]))];
            let observer = Observer::start(program.dns_addr, answers);
            observer.wait_for_a_round();
            let port = gate.port();
            nft(&pod, &format!(
                "add table inet faults; add chain inet faults input {{ type filter hook input priority 0; }}; \
                 add rule inet faults input tcp dport {port} drop; add rule inet faults input tcp sport {port} drop"
            ));
            at_home(|| {
                plane.cluster.delete("dropped", "gone");
                plane.cluster.create("dropped", "new", spec(new, &["240.19.0.3"]));
            });
            wait_until("it is noticed", NOTICED, || connection_errors(&program) >= 1.0);
            resolver.assert(gone, &Answer::of(&["240.19.0.2"]));
            resolver.assert(new, &Answer::nxdomain());
            assert!(program.ready(), "once ready, ready");
            nft(&pod, "delete table inet faults");
            resolver.wait_for(new, &Answer::of(&["240.19.0.3"]));
            resolver.wait_for(gone, &Answer::nxdomain());
            observer.wait_for_a_round();
            println!("vanished packets: {} replies unchanged", observer.finish());
        });
    });
}

/// [L2] [S1] A bound token ends with what it is bound to, as that of a pod does; the kubelet writes the next one.
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn a_token_that_is_withdrawn_changes_no_answer_and_the_next_one_is_taken() {
    with_shared(|plane| {
        let (kept, new) = ("kept.token.global", "new.token.global");
        plane.cluster.create("token", "kept", spec(kept, &["240.21.0.1"]));
        let file = crate::process::fresh_directory("token").join("token");
        let write = |token: String| std::fs::write(&file, token).expect("write the token");
        write(plane.cluster.token_bound_to("token", "first"));
        let program = Program::start_ready(&[], &plane.kubeconfig_with_token_file(&file));
        let mut resolver = program.resolver();
        let observer =
            Observer::start(program.dns_addr, vec![(kept.to_owned(), Answer::of(&["240.21.0.1"]))]);
        observer.wait_for_a_round();

        plane.cluster.delete_path("/api/v1/namespaces/token/secrets/first");
        // A running watch is not asked again for its token: it ends within 40 s.
        let refused = [LABEL, ("reason", "unauthorized")];
        wait_until("the token is refused", NOTICED, || {
            program.metric("globaldns_source_errors_total", &refused) >= Some(2.0)
        });
        plane.cluster.create("token", "new", spec(new, &["240.21.0.2"]));
        resolver.assert(new, &Answer::nxdomain());
        assert!(program.ready(), "once ready, ready");
        program.wait_for_log("what to do", |line| line.text.contains("does not accept our credentials"));
        write(plane.cluster.token_bound_to("token", "second"));
        resolver.wait_for(new, &Answer::of(&["240.21.0.2"]));
        observer.wait_for_a_round();
        println!("withdrawn token: {} replies unchanged", observer.finish());
    });
}

const LABEL: (&str, &str) = ("source", "kubernetes");

fn connection_errors(program: &Program) -> f64 {
    let labels = [LABEL, ("reason", "connection")];
    program.metric("globaldns_source_errors_total", &labels).unwrap_or_default()
}

fn nft(pod: &Pod, rules: &str) {
    let status = pod.command(Path::new("nft")).arg(rules).status();
    assert!(status.expect("nft runs").success(), "nft {rules}; it takes nftables and root");
}
