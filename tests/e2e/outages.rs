//! What happens to answers when the API server or the way to it fails.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::control_plane::with_shared;
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::{spec, wait_for_marker};
use crate::gate::Gate;
use crate::observer::Observer;
use crate::program::{LogLine, Program};
use crate::wait::{DEADLINE, wait_until};

const OUTAGE: Duration = Duration::from_secs(30);

/// [L2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn an_api_server_away_for_30_s_changes_no_answer_and_is_caught_up_with() {
    with_shared(|plane| {
        let (kept, changed, new) = ("kept.away.global", "changed.away.global", "new.away.global");
        plane.cluster.create("away", "kept", spec(kept, &["240.13.0.1"]));
        plane.cluster.create("away", "changed", spec(changed, &["240.13.0.2"]));
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        let expected = vec![
            (kept.to_owned(), Answer::of(&["240.13.0.1"])),
            (changed.to_owned(), Answer::of(&["240.13.0.2"])),
            (new.to_owned(), Answer::nxdomain()),
        ];
        let observer = Observer::start(program.dns_addr, expected);
        observer.wait_for_a_round();
        let quiet = program.complaints().len();

        plane.stop_api_server();
        let stopped = Instant::now();
        let mut ages = vec![contact_age(&program)];
        // The length of the outage is what the test is about: the one time that is waited for.
        wait_until("the outage has lasted long enough", 2 * OUTAGE, || {
            let age = contact_age(&program);
            if age >= ages[ages.len() - 1] + 1.0 {
                ages.push(age);
            }
            stopped.elapsed() >= OUTAGE
        });
        assert!(program.ready(), "once ready, ready");
        let longest = ages[ages.len() - 1];
        assert!(longest >= 25.0, "the age grows with the outage: {ages:?}");
        let complaints = &program.complaints()[quiet..];
        assert_eq!(complaints.len(), 1, "one line for the change: {complaints:#?}");

        plane.start_api_server();
        wait_until("the age is that of a live contact", DEADLINE, || contact_age(&program) < 10.0);
        let questions = observer.finish();
        println!("30 s outage: {questions} replies, all unchanged; contact age {longest:.1} s");

        let patch = json!({ "spec": { "addresses": ["240.13.0.3"] } });
        plane.cluster.patch("away", "changed", &patch);
        plane.cluster.create("away", "new", spec(new, &["240.13.0.4"]));
        resolver.wait_for(changed, &Answer::of(&["240.13.0.3"]));
        resolver.wait_for(new, &Answer::of(&["240.13.0.4"]));
        resolver.assert(kept, &Answer::of(&["240.13.0.1"]));
        // A restarted API server may answer 429 while it starts and 410 because it has forgotten the past:
        // each is another change. Nothing may be said twice in a row.
        let complaints = &program.complaints()[quiet..];
        let reason = |line: &LogLine| line.text.split("\"reason\":").nth(1).map(str::to_owned);
        let repeats = complaints.windows(2).any(|pair| reason(&pair[0]) == reason(&pair[1]));
        assert!(complaints.len() <= 4 && !repeats, "{complaints:#?}");
    });
}

/// [L2] [L3]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn what_was_deleted_behind_an_expired_watch_is_gone_after_recovery() {
    with_shared(|plane| {
        let (kept, gone, new) = ("kept.expired.global", "gone.expired.global", "new.expired.global");
        plane.cluster.create("expired", "kept", spec(kept, &["240.14.0.1"]));
        plane.cluster.create("expired", "gone", spec(gone, &["240.14.0.2"]));
        let gate = Gate::to(plane.port());
        let kubeconfig = plane.kubeconfig_through(User::Globaldns, gate.port());
        let program = Program::start_ready(&[], &kubeconfig);
        let mut resolver = program.resolver();
        resolver.assert(gone, &Answer::of(&["240.14.0.2"]));
        let kept_answer = Answer::of(&["240.14.0.1"]);
        let observer = Observer::start(program.dns_addr, vec![(kept.into(), kept_answer.clone())]);
        let lists = plane.requests(User::Globaldns, "list");

        gate.close();
        plane.cluster.delete("expired", "gone");
        plane.cluster.create("expired", "new", spec(new, &["240.14.0.3"]));
        plane.expire_watches();
        resolver.assert(gone, &Answer::of(&["240.14.0.2"]));
        gate.open();

        resolver.wait_for(gone, &Answer::nxdomain());
        resolver.wait_for(new, &Answer::of(&["240.14.0.3"]));
        let relists = || plane.requests(User::Globaldns, "list") - lists;
        // By the audit log, which is written after the reply.
        wait_until("the API server saw a list", DEADLINE, || relists() > 0);
        let relists = relists();
        wait_for_marker(plane, &mut resolver, "expired");
        resolver.assert(kept, &kept_answer);
        let questions = observer.finish();
        println!("expired watch: {relists} list requests, {questions} replies unchanged");
    });
}

/// [L4] [L2]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn a_watch_that_died_in_silence_is_noticed_within_60_s() {
    with_shared(|plane| {
        let host = "silence.global";
        let gate = Gate::to(plane.port());
        let kubeconfig = plane.kubeconfig_through(User::Globaldns, gate.port());
        let program = Program::start_ready(&[], &kubeconfig);
        let mut resolver = program.resolver();
        wait_for_marker(plane, &mut resolver, "silence");

        gate.deafen();
        let deaf = Instant::now();
        plane.cluster.create("silence", "silence", spec(host, &["240.15.0.1"]));
        resolver.assert(host, &Answer::nxdomain());
        // The clause's minute, and time for a connection and a list on a loaded machine.
        let limit = Duration::from_secs(60) + DEADLINE / 2;
        wait_until("the new entry is answered", limit, || {
            resolver.a(host) == Some(Answer::of(&["240.15.0.1"]))
        });
        println!("silent loss: noticed and mended after {:.1} s", deaf.elapsed().as_secs_f64());
    });
}

fn contact_age(program: &Program) -> f64 {
    let name = "globaldns_source_contact_age_seconds";
    program
        .metric(name, &[("source", "kubernetes")])
        .unwrap_or_else(|| panic!("no sample {name}{{source=\"kubernetes\"}}"))
}
