//! Large tables, and how soon a change is answered.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, with_shared};
use crate::credentials::User;
use crate::dns::Answer;
use crate::entries::{spec, wait_for_marker};
use crate::gate::Gate;
use crate::observer::Observer;
use crate::program::Program;
use crate::wait::{DEADLINE, wait_until};

const ENTRIES: usize = 20_000;
/// Deleted or created behind the broken watch: the relist is no repetition.
const CHANGES: usize = 100;
const PATCHES: usize = 1_200;

/// [L3]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn a_relist_of_20_000_entries_gives_no_wrong_answer_and_misses_none() {
    // Its own: emptying a shared one would take as long as the test.
    let mut plane = ControlPlane::start();
    let numbered = |from: usize, to: usize| (from..to).map(entry).collect::<Vec<_>>();
    let started = Instant::now();
    plane.cluster.create_entries("large", numbered(0, ENTRIES));
    println!("created {ENTRIES} entries in {:.1} s", started.elapsed().as_secs_f64());

    let gate = Gate::to(plane.port());
    let kubeconfig = plane.kubeconfig_through(User::Globaldns, gate.port());
    let started = Instant::now();
    let program = Program::start_ready(&[], &kubeconfig);
    println!(
        "ready after {:.2} s, at most {} resident",
        started.elapsed().as_secs_f64(),
        program.peak_memory()
    );

    let expected: Vec<_> = (CHANGES..ENTRIES)
        .map(|number| (host(number), answer(number)))
        .chain([("missing.large.global".to_owned(), Answer::nxdomain())])
        .collect();
    let observer = Observer::start(program.dns_addr, expected);
    // The first list is complete and right.
    observer.wait_for_a_round();
    let lists = plane.requests(User::Globaldns, "list");

    gate.close();
    for number in 0..CHANGES {
        plane.cluster.delete("large", &name(number));
    }
    plane.cluster.create_entries("large", numbered(ENTRIES, ENTRIES + CHANGES));
    plane.expire_watches();
    let opened = Instant::now();
    gate.open();

    let mut resolver = program.resolver();
    resolver.wait_for(&host(ENTRIES + CHANGES - 1), &answer(ENTRIES + CHANGES - 1));
    let took = opened.elapsed().as_secs_f64();
    wait_for_marker(&plane, &mut resolver, "large");
    observer.wait_for_a_round();
    let questions = observer.finish();
    for number in 0..CHANGES {
        resolver.assert(&host(number), &Answer::nxdomain());
        let added = ENTRIES + number;
        resolver.assert(&host(added), &answer(added));
    }
    let relists = || plane.requests(User::Globaldns, "list") - lists;
    // By the audit log, which is written after the reply.
    wait_until("the API server saw a list", DEADLINE, || relists() > 0);
    let relists = relists();
    println!(
        "relist of {ENTRIES}: {relists} list requests, caught up {took:.2} s after the way was free, at most {} resident; \
         {questions} replies, none wrong or missing",
        program.peak_memory()
    );
}

/// [S1]
#[test]
#[ignore = "needs etcd and kube-apiserver: run tests/e2e/run"]
fn every_change_is_answered_and_the_latency_is_printed() {
    with_shared(|plane| {
        let host = "latency.global";
        let address = |number: usize| format!("240.16.{}.{}", number / 250, number % 250 + 1);
        plane.cluster.create("latency", "latency", spec(host, &[&address(0)]));
        let program = Program::start_ready(&[], &plane.kubeconfig(User::Globaldns));
        let mut resolver = program.resolver();
        resolver.wait_for(host, &Answer::of(&[&address(0)]));

        let mut latencies: Vec<Duration> = (1..=PATCHES)
            .map(|number| {
                let address = address(number);
                let expected = Some(Answer::of(&[&address]));
                let patch = json!({ "spec": { "addresses": [address] } });
                plane.cluster.patch("latency", "latency", &patch);
                let acknowledged = Instant::now();
                while resolver.a(host) != expected {
                    let waited = acknowledged.elapsed();
                    assert!(waited < DEADLINE, "change {number} is not answered");
                }
                acknowledged.elapsed()
            })
            .collect();
        latencies.sort_unstable();
        let at = |permille: usize| {
            let index = (latencies.len() * permille / 1_000).min(latencies.len() - 1);
            latencies[index].as_secs_f64() * 1e3
        };
        println!(
            "acknowledged change to first new answer, {PATCHES} changes: \
             p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
            at(500),
            at(900),
            at(990),
            at(1_000)
        );
        wait_until("still ready", DEADLINE, || program.ready());
    });
}

fn name(number: usize) -> String {
    format!("entry-{number}")
}

fn host(number: usize) -> String {
    format!("host-{number}.large.global")
}

fn address(number: usize) -> String {
    let [_, a, b, c] = u32::try_from(number).expect("a small number").to_be_bytes();
    format!("241.{a}.{b}.{c}")
}

fn answer(number: usize) -> Answer {
    Answer::of(&[&address(number)])
}

fn entry(number: usize) -> Value {
    json!({
        "metadata": { "namespace": "large", "name": name(number) },
        "spec": spec(&host(number), &[&address(number)]),
    })
}
