//! Kubernetes Events about findings, against the scripted API server; the real one is in `tests/e2e/events.rs`.

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Reply};
use crate::cluster::{metric, spawn, spec, wait_answer, wait_metric};
use crate::support::{Program, globaldns, run, wait_until};

const LEADER: &str = "globaldns_events_leader";
const REFUSED: &str = "globaldns_events_total{result=\"refused\"}";

/// An entry that is wrong: its host is in a zone, and has no address.
fn wrong(host: &str) -> Value {
    json!({"hosts": [host], "resolution": "DNS"})
}

/// The program, which tells.
fn serve(api: &ApiServer) -> Program {
    let mut program = spawn(api, &["--events"]);
    program.ready();
    wait_metric(&program, LEADER, |leads| leads == 1.0);
    program
}

/// Every Event: entry, reason, and how often it was so.
fn told(api: &ApiServer) -> Vec<(String, String, u64)> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let one = |event: &Value| {
        let regarding = &event["regarding"];
        let object = format!("{}/{}", text(&regarding["namespace"]), text(&regarding["name"]));
        (object, text(&event["reason"]), event["series"]["count"].as_u64().unwrap_or(1))
    };
    let mut all: Vec<_> = api.events().iter().map(one).collect();
    all.sort();
    all
}

#[track_caller]
fn wait_told(api: &ApiServer, expected: &[(&str, &str, u64)]) {
    let own = |(object, reason, times): &(&str, &str, u64)| (object.to_string(), reason.to_string(), *times);
    let expected: Vec<_> = expected.iter().map(own).collect();
    wait_until(&format!("{expected:?}"), || (told(api) == expected).then_some(()));
}

/// [F4]
#[test]
fn an_entry_that_is_wrong_has_an_event_and_others_have_none() {
    let api = ApiServer::start(&["v1beta1"]);
    api.apply("ns/right", spec("right.global", "240.0.0.1"));
    api.apply("ns/outside", spec("outside.example", "240.0.0.2"));
    api.apply("ns/wrong", wrong("wrong.global"));
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("a file");
    let entry = json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                       "metadata": {"name": "file", "namespace": "ns"}, "spec": {"hosts": ["f_$.global"]}});
    std::fs::write(file.path(), entry.to_string()).expect("written");
    let path = file.path().to_str().expect("UTF-8");
    let mut program = spawn(&api, &["--events", "--kubernetes", "--file", path]);
    program.ready();
    program.findings(&[("host-invalid", 1), ("host-no-address", 1), ("host-outside-zones", 1)]);
    wait_told(&api, &[("ns/wrong", "HostNoAddress", 1)]);
    wait_metric(&program, "globaldns_events_total{result=\"written\"}", |n| n == 1.0);
    let event = api.events().remove(0);
    assert_eq!(event["regarding"]["apiVersion"], "networking.istio.io/v1beta1");
    assert_eq!(
        (&event["regarding"]["kind"], &event["regarding"]["uid"]),
        (&json!("ServiceEntry"), &json!("ns/wrong"))
    );
    assert_eq!((&event["type"], &event["reportingController"]), (&json!("Warning"), &json!("globaldns")));
    let note = event["note"].as_str().expect("a note");
    assert!(note.starts_with("spec.hosts[0] \"wrong.global\": the host has no address"), "{note}");
    assert!(note.contains("; list addresses in spec.addresses"), "{note}");
}

/// [F4] Neither while it stands, nor after a restart, nor when it has expired; a change is told.
#[test]
fn an_event_is_not_repeated_until_its_finding_changes() {
    let api = ApiServer::start(&["v1"]);
    api.apply("ns/a", wrong("a.global"));
    let program = serve(&api);
    wait_told(&api, &[("ns/a", "HostNoAddress", 1)]);
    // At the latest when it ends it has saved that.
    program.signal("TERM");
    assert_eq!(program.wait_for_code(), Some(0));
    api.expire_events();
    let program = serve(&api);
    // What is told later would not have overtaken it.
    api.apply("ns/b", wrong("b.global"));
    wait_told(&api, &[("ns/b", "HostNoAddress", 1)]);
    // It is mended, and broken again in the same way and in another one.
    api.apply("ns/a", spec("a.global", "240.0.0.1"));
    wait_answer(&program, "a.global", "NOERROR 240.0.0.1");
    api.apply("ns/b", json!({"hosts": ["b.global", "c_$.global"], "resolution": "DNS"}));
    wait_told(&api, &[("ns/b", "HostInvalid", 1), ("ns/b", "HostNoAddress", 1)]);
    api.apply("ns/a", wrong("a.global"));
    wait_told(
        &api,
        &[("ns/a", "HostNoAddress", 1), ("ns/b", "HostInvalid", 1), ("ns/b", "HostNoAddress", 1)],
    );
}

/// [F4] An Event that is still there is counted.
#[test]
fn a_finding_that_comes_back_is_the_same_event_once_more() {
    let api = ApiServer::start(&["v1"]);
    api.apply("ns/a", wrong("a.global"));
    let program = serve(&api);
    wait_told(&api, &[("ns/a", "HostNoAddress", 1)]);
    for times in [2, 3] {
        api.apply("ns/a", spec("a.global", "240.0.0.1"));
        wait_answer(&program, "a.global", "NOERROR 240.0.0.1");
        // Until another one that went with it is told anew, this one counts as gone, too.
        let probe = format!("ns/probe{times}");
        api.apply(&probe, wrong("probe.global"));
        wait_until("the probe", || told(&api).iter().any(|(object, ..)| *object == probe).then_some(()));
        api.apply("ns/a", wrong("a.global"));
        wait_until("the count", || {
            told(&api).contains(&("ns/a".to_owned(), "HostNoAddress".to_owned(), times)).then_some(())
        });
    }
}

/// [F4] Of two replicas one tells; when it ends, the other one goes on.
#[test]
fn one_replica_tells_and_the_next_one_repeats_nothing() {
    let api = ApiServer::start(&["v1"]);
    api.apply("ns/a", wrong("a.global"));
    let first = serve(&api);
    wait_told(&api, &[("ns/a", "HostNoAddress", 1)]);
    let mut second = spawn(&api, &["--events"]);
    second.ready();
    second.findings(&[("host-no-address", 1)]);
    assert_eq!(metric(&second, LEADER), Some(0.0));
    first.signal("TERM");
    assert_eq!(first.wait_for_code(), Some(0));
    wait_metric(&second, LEADER, |leads| leads == 1.0);
    api.apply("ns/b", wrong("b.global"));
    wait_told(&api, &[("ns/a", "HostNoAddress", 1), ("ns/b", "HostNoAddress", 1)]);
    assert_eq!(metric(&second, "globaldns_events_total{result=\"known\"}"), Some(0.0));
}

/// [F4] [L2]
#[test]
fn a_missing_right_is_said_once_and_used_when_it_is_there() {
    let api = ApiServer::start(&["v1"]);
    api.set_events(Reply::Status(403));
    for i in 0..3 {
        api.apply(&format!("ns{i}/a"), wrong(&format!("a{i}.global")));
    }
    let program = serve(&api);
    // Every namespace has refused.
    wait_metric(&program, REFUSED, |n| n >= 3.0);
    let line = program.log_containing("a right is missing");
    for part in ["(HTTP 403)", "apiGroups: [events.k8s.io]", "verbs: [create, patch]", "docs/operations.md"] {
        assert!(line.contains(part), "{line}");
    }
    assert_eq!(program.stderr().matches("a right is missing").count(), 1, "{}", program.stderr());
    assert_eq!(told(&api), []);
    api.set_events(Reply::Right);
    wait_told(&api, &[0, 1, 2].map(|i| (["ns0/a", "ns1/a", "ns2/a"][i], "HostNoAddress", 1)));
    program.log_containing("the right that was missing is there");
}

/// [F4] [L2]
#[test]
fn an_api_server_that_takes_no_events_holds_up_nothing_else() {
    for silence in [Reply::Silence, Reply::Status(500)] {
        let api = ApiServer::start(&["v1"]);
        api.set_events(silence);
        api.apply("ns/a", wrong("a.global"));
        let program = serve(&api);
        wait_metric(&program, "globaldns_events_total{result=\"failed\"}", |n| n >= 1.0);
        api.apply("ns/b", spec("b.global", "240.0.0.1"));
        wait_answer(&program, "b.global", "NOERROR 240.0.0.1");
        assert_eq!(program.get("/ready").0, 200);
        api.set_events(Reply::Right);
        wait_told(&api, &[("ns/a", "HostNoAddress", 1)]);
        assert_eq!(program.stderr().matches("none is taken").count(), 1, "{}", program.stderr());
    }
}

/// [F4]
#[test]
fn a_flood_of_findings_is_a_few_events_and_one_word_about_the_rest() {
    let api = ApiServer::start(&["v1"]);
    for i in 0..300 {
        api.apply(&format!("ns/e{i}"), wrong(&format!("e{i}.global")));
    }
    api.apply("ns/invalid", json!({"hosts": ["$.global"], "addresses": ["240.0.0.1"], "resolution": "DNS"}));
    let begun = std::time::Instant::now();
    let program = serve(&api);
    let many = wait_until("the word about the others", || {
        api.events().into_iter().find(|event| event["reason"] == "ManyFindings")
    });
    let all = told(&api);
    // As many as at once, and those for which there was time since.
    let most = 25 + usize::try_from(begun.elapsed().as_secs() / 2).expect("few") + 2;
    assert!(all.len() <= most, "{} Events, of {most}", all.len());
    assert!(all.contains(&("ns/invalid".to_owned(), "HostInvalid".to_owned(), 1)), "errors first");
    assert_eq!(many["regarding"]["kind"], "Service");
    let note = many["note"].as_str().expect("a note");
    let (count, rest) = note.split_once(' ').expect("a number");
    assert!(rest.starts_with("findings about ServiceEntries wait to be told"), "{note}");
    // Of 301, without those of the burst and what there was time for since.
    assert!((301 - most..=276).contains(&count.parse::<usize>().expect("a number")), "{note}");
    assert_eq!(program.get("/ready").0, 200);
}

/// [F4] [X1]
#[test]
fn without_a_cluster_there_is_nobody_to_tell() {
    let ended = run(globaldns(&["serve", "--file", "examples", "--events"]));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("--events needs a cluster"), "{}", ended.stderr);
}

/// [F4] [T6]
#[test]
fn without_the_flag_nothing_is_written() {
    let api = ApiServer::start(&["v1"]);
    api.apply("ns/a", wrong("a.global"));
    let mut program = spawn(&api, &[]);
    program.ready();
    program.findings(&[("host-no-address", 1)]);
    assert_eq!(metric(&program, LEADER), None);
    assert!(api.requests().iter().all(|request| request.starts_with("/apis/networking.istio.io/")));
}
