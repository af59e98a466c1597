//! Saved state: a restart while the API server is away.

use crate::control_plane::with_shared;
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::{spec, wait_for_marker};
use crate::observer::Observer;
use crate::process::fresh_directory;
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

/// [L6] [D6] [D9] [L3]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn saved_state_is_answered_after_a_restart_while_the_api_server_is_away() {
    with_shared(|plane| {
        let (kept, gone, new) = ("kept.state.global", "gone.state.global", "new.state.global");
        plane.cluster.create("state", "kept", spec(kept, &["240.16.0.1", "2001:db8::1"]));
        plane.cluster.create("state", "gone", spec(gone, &["240.16.0.2"]));
        let directory = fresh_directory("state");
        let arguments = ["--state-dir", directory.to_str().expect("UTF-8")];
        let kubeconfig = plane.kubeconfig(User::Globaldns);
        let program = Program::start_ready(&arguments, &kubeconfig);
        let mut resolver = program.resolver();
        wait_for_marker(plane, &mut resolver, "state");
        // Whatever there was before the marker is on disk once something was saved after it.
        let saves = || program.metric("globaldns_state_saves_total", &[LABEL, ("result", "success")]);
        let before = saves();
        wait_for_marker(plane, &mut resolver, "state-again");
        wait_until("the state is saved", DEADLINE, || saves() > before);
        let serial = serial_of(&program);
        plane.stop_api_server();
        program.kill();

        let program = Program::start(&arguments, &kubeconfig);
        let mut resolver = program.resolver();
        let first = resolver.a(kept).expect("a reply");
        assert!(first == Answer::servfail() || first == Answer::of(&["240.16.0.1"]), "{first:?}");
        program.wait_until_ready();
        let answers = vec![
            (kept.to_owned(), Answer::of(&["240.16.0.1"])),
            (gone.to_owned(), Answer::of(&["240.16.0.2"])),
            (new.to_owned(), Answer::nxdomain()),
        ];
        for (name, answer) in &answers {
            resolver.assert(name, answer);
        }
        assert!(serial_of(&program) >= serial, "{serial:?}");
        let age = program.metric("globaldns_state_age_seconds", &[LABEL]);
        assert!(age.is_some(), "the age of the state is told");
        println!("answered from state of {age:?} s ago");

        // The first one back is the administrator.
        let observer = Observer::start(program.dns_addr, vec![answers[0].clone()]);
        observer.wait_for_a_round();
        plane.start_api_server();
        plane.cluster.delete("state", "gone");
        plane.cluster.create("state", "new", spec(new, &["240.16.0.3"]));
        resolver.wait_for(new, &Answer::of(&["240.16.0.3"]));
        resolver.wait_for(gone, &Answer::nxdomain());
        wait_until("answers are live", DEADLINE, || {
            program.metric("globaldns_state_age_seconds", &[LABEL]).is_none()
        });
        let questions = observer.finish();
        println!("{questions} replies while the API server came back, all unchanged");
        assert!(serial_of(&program) >= serial, "{serial:?}");
    });
}

const LABEL: (&str, &str) = ("source", "kubernetes");

fn serial_of(program: &Program) -> Option<f64> {
    program.metric("globaldns_zone_serial", &[("zone", "global")])
}
