//! The cluster source against a scripted API server: what no real one does on request. Faults of the whole server are in
//! `faults.rs`.

use serde_json::{Value, json};

use crate::api_server::{ApiServer, Fault, Reply};
use crate::dig::dig;
use crate::support::{Program, globaldns, wait_until};

/// Nothing listens on port 1, and nothing will by chance.
const NOBODY: &str = "127.0.0.1:1";

pub(crate) fn spec(host: &str, address: &str) -> Value {
    json!({"hosts": [host], "addresses": [address], "resolution": "DNS"})
}

/// The program over the scripted server, not waited for.
pub(crate) fn spawn(api: &ApiServer, args: &[&str]) -> Program {
    let mut command = globaldns(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--lameduck", "0s", "--log-format", "json", "--kubeconfig", api.kubeconfig()]).args(args);
    let mut program = Program::spawn(command);
    program.listening();
    program
}

fn serve(api: &ApiServer, args: &[&str]) -> Program {
    let mut program = spawn(api, args);
    program.ready();
    program
}

/// The first line of the reply, and the addresses.
pub(crate) fn answer(program: &Program, name: &str) -> String {
    let reply = dig(program.dns(), name);
    let status = reply.lines().next().unwrap_or_default().to_owned();
    let status = status.split("status: ").nth(1).and_then(|s| s.split(',').next()).unwrap_or("?").to_owned();
    let addresses: Vec<_> =
        reply.lines().filter_map(|l| l.split_once(" IN A ")).map(|(_, address)| address).collect();
    format!("{status} {}", addresses.join(" ")).trim_end().to_owned()
}

pub(crate) fn wait_answer(program: &Program, name: &str, expected: &str) {
    wait_until(&format!("{name} to be {expected}"), || (answer(program, name) == expected).then_some(()));
}

pub(crate) fn metric(program: &Program, line: &str) -> Option<f64> {
    let (_, metrics) = program.get("/metrics");
    metrics.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok())
}

pub(crate) fn wait_metric(program: &Program, line: &str, passes: impl Fn(f64) -> bool) {
    wait_until(line, || metric(program, line).filter(|v| passes(*v)).map(|_| ()));
}

/// [S1]
#[test]
fn the_best_version_that_discovery_offers_is_watched_and_nothing_else_is_asked_for() {
    for (versions, chosen) in [
        (&["v1alpha3"][..], "v1alpha3"),
        (&["v1alpha3", "v1beta1"], "v1beta1"),
        (&["v1", "v1alpha3", "v1beta1"], "v1"),
    ] {
        let api = ApiServer::start(versions);
        api.apply("foo/a", spec("a.global", "240.0.0.1"));
        let program = serve(&api, &[]);
        assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
        wait_until("a watch", || api.requests().iter().any(|r| r.contains("watch=true")).then_some(()));
        for request in api.requests() {
            let resource = format!("/apis/networking.istio.io/{chosen}/serviceentries?");
            let discovery = request.matches('/').count() == 3;
            assert!(request.starts_with(&resource) || discovery, "{versions:?}: {request}");
        }
    }
}

/// [S1] [L1] [L2]
#[test]
fn an_absent_crd_is_an_empty_list_with_a_finding_and_is_noticed_when_it_comes() {
    let api = ApiServer::start(&[]);
    let program = serve(&api, &[]);
    assert_eq!(answer(&program, "a.global"), "NXDOMAIN");
    program.findings(&[("crd-absent", 1)]);
    // Discovery is contact, too: an absent CRD on a healthy API server is no alarm.
    let age = "globaldns_source_contact_age_seconds{source=\"kubernetes\"}";
    let mut last = metric(&program, age);
    wait_until("an age that falls", || {
        let now = metric(&program, age);
        (now < std::mem::replace(&mut last, now)).then_some(())
    });
    api.apply("foo/a", spec("a.global", "240.0.0.1"));
    api.set_versions(&["v1beta1"]);
    wait_answer(&program, "a.global", "NOERROR 240.0.0.1");
    program.findings(&[]);
    // Gone again: what the API server did not delete stays.
    api.set_versions(&[]);
    api.set_fault(Fault::Status(404));
    program.findings(&[("crd-absent", 1)]);
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    assert_eq!(program.get("/ready").0, 200);
}

/// [D9] [L1] [S4]
#[test]
fn until_every_source_has_delivered_names_are_servfail_and_the_program_is_not_ready() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", spec("a.global", "240.0.0.1"));
    api.set_fault(Fault::StalledList);
    let mut program = spawn(&api, &["--file", "examples/banzai-multimesh"]);
    wait_until("the list", || api.requests().iter().any(|r| r.contains("limit=")).then_some(()));
    for name in ["a.global", "echo.default.global", "nope.global"] {
        assert_eq!(answer(&program, name), "SERVFAIL");
    }
    let (status, why) = program.get("/ready");
    assert_eq!(
        (status, why.as_str()),
        (503, "not ready\nwaiting for the first complete list of kubernetes\n")
    );
    assert_eq!(program.get("/health").0, 200);
    api.set_fault(Fault::None);
    program.ready();
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    assert_eq!(answer(&program, "echo.default.global"), "NOERROR 127.255.0.1");
    assert_eq!(answer(&program, "nope.global"), "NXDOMAIN");
}

/// [S5] [S6] [F1]
#[test]
fn malformed_objects_cost_only_what_is_malformed() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/good", spec("good.global", "240.0.0.1"));
    api.apply_object("foo/spec", json!({"spec": "text"}));
    api.apply_object("foo/none", json!({}));
    api.apply_object(
        "foo/meta",
        json!({"metadata": {"labels": [1], "creationTimestamp": 7, "ownerReferences": "x"},
                                        "spec": spec("meta.global", "240.0.0.2")}),
    );
    api.apply(
        "foo/parts",
        json!({"hosts": ["parts.global", 5], "addresses": ["240.0.0.3", "bad", {}],
                                  "resolution": ["x"], "newField": {"deep": [1, 2]}}),
    );
    let program = serve(&api, &[]);
    assert_eq!(answer(&program, "good.global"), "NOERROR 240.0.0.1");
    assert_eq!(answer(&program, "meta.global"), "NOERROR 240.0.0.2");
    assert_eq!(answer(&program, "parts.global"), "NOERROR 240.0.0.3");
    program.findings(&[("address-invalid", 1), ("field-type", 5), ("hosts-empty", 2)]);
    // A bad update: the valid parts count, and the watch goes on.
    api.apply("foo/good", json!({"hosts": ["good.global"], "addresses": [7, "240.0.0.9"]}));
    wait_answer(&program, "good.global", "NOERROR 240.0.0.9");
    api.apply_object("foo/good", json!({"spec": 5}));
    wait_answer(&program, "good.global", "NXDOMAIN");
    // Deletes are honoured, also of what could not be read.
    for id in ["foo/spec", "foo/none", "foo/meta", "foo/good", "foo/parts"] {
        api.delete(id);
    }
    wait_answer(&program, "meta.global", "NXDOMAIN");
    program.findings(&[]);
    wait_metric(&program, "globaldns_source_entries{source=\"kubernetes\"}", |n| n == 0.0);
}

/// [L2]
#[test]
fn an_unreadable_list_is_told_once_and_is_no_contact() {
    let api = ApiServer::start(&["v1"]);
    api.set_fault(Fault::Junk);
    let program = spawn(&api, &[]);
    wait_metric(&program, "globaldns_source_errors_total{source=\"kubernetes\",reason=\"decode\"}", |n| {
        n >= 4.0
    });
    let told = program.stderr().lines().filter(|l| l.contains("\"source\":\"kubernetes\"")).count();
    // "watching ServiceEntries" and one complaint.
    assert_eq!(told, 2, "{}", program.stderr());
    let age = metric(&program, "globaldns_source_contact_age_seconds{source=\"kubernetes\"}");
    assert!(age > Some(1.0), "{age:?}: nothing was read since the start");
    api.set_fault(Fault::None);
    wait_metric(&program, "globaldns_source_up{source=\"kubernetes\"}", |n| n == 1.0);
}

/// [L2] [S1]
#[test]
fn a_missing_right_is_named_with_its_remedy() {
    let api = ApiServer::start(&["v1"]);
    api.set_fault(Fault::Status(403));
    let program = spawn(&api, &[]);
    let line = program.log_containing("missing right");
    for part in ["verb \"list\"", "serviceentries.networking.istio.io", "ClusterRole", "get, list and watch"]
    {
        assert!(line.contains(part), "no {part} in {line}");
    }
    assert_eq!(answer(&program, "a.global"), "SERVFAIL");
}

/// [L2] [L3]
#[test]
fn an_expired_watch_lists_again_and_drops_what_is_gone() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/stays", spec("stays.global", "240.0.0.1"));
    api.apply("foo/goes", spec("goes.global", "240.0.0.2"));
    let program = serve(&api, &[]);
    wait_until("a watch", || api.requests().iter().any(|r| r.contains("watch=true")).then_some(()));
    // While nobody watches, an object goes and the log of events is compacted.
    api.set_fault(Fault::Status(500));
    let down = "globaldns_source_up{source=\"kubernetes\"}";
    wait_metric(&program, down, |n| n == 0.0);
    api.delete("foo/goes");
    api.set_fault(Fault::Expired);
    wait_answer(&program, "goes.global", "NXDOMAIN");
    assert_eq!(answer(&program, "stays.global"), "NOERROR 240.0.0.1");
    let relists = "globaldns_source_relists_total{source=\"kubernetes\"}";
    wait_metric(&program, relists, |n| n >= 2.0);
    wait_metric(&program, "globaldns_source_errors_total{source=\"kubernetes\",reason=\"gone\"}", |n| {
        n >= 1.0
    });
    // And told by an event on a running watch.
    wait_metric(&program, down, |n| n == 1.0);
    let watches = || api.requests().iter().filter(|r| r.contains("watch=true")).count();
    let (before, listed) = (watches(), metric(&program, relists).unwrap_or_default());
    api.set_fault(Fault::Expired);
    wait_metric(&program, relists, |n| n > listed);
    wait_until("a new watch", || (watches() > before).then_some(()));
    assert_eq!(answer(&program, "stays.global"), "NOERROR 240.0.0.1");
}

/// [L3]
#[test]
fn no_page_of_a_relist_is_visible_before_the_last_one() {
    let api = ApiServer::start(&["v1"]);
    for i in 0..600 {
        api.apply(&format!("foo/e{i:03}"), spec(&format!("h{i}.global"), "240.0.0.1"));
    }
    let program = serve(&api, &[]);
    assert_eq!(answer(&program, "h599.global"), "NOERROR 240.0.0.1");
    api.set_fault(Fault::Status(500));
    wait_metric(&program, "globaldns_source_up{source=\"kubernetes\"}", |n| n == 0.0);
    for i in 0..600 {
        api.apply(&format!("foo/e{i:03}"), spec(&format!("h{i}.global"), "240.0.0.2"));
    }
    api.set_fault(Fault::Expired);
    api.set_fault(Fault::StalledSecondPage);
    wait_until("the second page", || {
        (api.requests().iter().filter(|r| r.contains("continue=")).count() >= 2).then_some(())
    });
    for i in [0, 499, 599] {
        assert_eq!(answer(&program, &format!("h{i}.global")), "NOERROR 240.0.0.1");
    }
    api.set_fault(Fault::None);
    wait_answer(&program, "h0.global", "NOERROR 240.0.0.2");
    for i in [1, 499, 599] {
        wait_answer(&program, &format!("h{i}.global"), "NOERROR 240.0.0.2");
    }
}

/// [S1]
#[test]
fn namespaces_are_watched_one_by_one() {
    let api = ApiServer::start(&["v1"]);
    for namespace in ["one", "two", "three"] {
        api.apply(&format!("{namespace}/e"), spec(&format!("{namespace}.global"), "240.0.0.1"));
    }
    let program = serve(&api, &["--namespace", "one", "--namespace", "two", "--namespace", "one"]);
    assert_eq!(answer(&program, "one.global"), "NOERROR 240.0.0.1");
    assert_eq!(answer(&program, "two.global"), "NOERROR 240.0.0.1");
    assert_eq!(answer(&program, "three.global"), "NXDOMAIN");
    assert_eq!(metric(&program, "globaldns_source_complete{source=\"kubernetes/two\"}"), Some(1.0));
    let lists: Vec<_> = api.requests().into_iter().filter(|r| r.contains("serviceentries?")).collect();
    assert!(
        lists.iter().all(|r| r.contains("/namespaces/one/") || r.contains("/namespaces/two/")),
        "{lists:?}"
    );
}

/// [L2] [L1] [D9]
#[test]
fn an_api_server_that_is_not_there_is_waited_for() {
    let api = ApiServer::start(&["v1"]);
    let text = std::fs::read_to_string(api.kubeconfig()).expect("readable");
    std::fs::write(api.kubeconfig(), text.replace(&api.address().to_string(), NOBODY)).expect("written");
    let program = spawn(&api, &[]);
    let errors = "globaldns_source_errors_total{source=\"kubernetes\",reason=\"connection\"}";
    wait_metric(&program, errors, |n| n >= 2.0);
    assert_eq!(answer(&program, "a.global"), "SERVFAIL");
    assert_eq!((program.get("/ready").0, program.get("/health").0), (503, 200));
    let age = "globaldns_source_contact_age_seconds{source=\"kubernetes\"}";
    let first = metric(&program, age).expect("an age");
    wait_metric(&program, age, |n| n > first);
}

/// [L4] The watch asks the server for an end, and is noticed dead soon after.
#[test]
#[ignore = "takes 45 s: cargo test --test it -- --ignored"]
fn a_watch_that_died_silently_is_replaced_within_a_minute() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", spec("a.global", "240.0.0.1"));
    let begun = std::time::Instant::now();
    let program = serve(&api, &[]);
    // The scripted server never ends a watch by itself: to the client it is as good as dead.
    let watches = || api.requests().iter().filter(|r| r.contains("watch=true")).cloned().collect::<Vec<_>>();
    wait_until("a watch", || (watches().len() == 1).then_some(()));
    assert!(watches()[0].contains("timeoutSeconds=40"), "{:?}", watches());
    while watches().len() < 2 {
        assert!(begun.elapsed().as_secs() < 60, "L4");
        std::thread::park_timeout(std::time::Duration::from_millis(100));
    }
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
}

/// [D5] [L2]
#[test]
fn an_advertised_service_that_cannot_be_watched_is_told_once_and_guessed_meanwhile() {
    let api = ApiServer::start(&["v1"]);
    let program = serve(&api, &["--advertise-service", "istio-system/globaldns"]);
    let tries = || api.requests().iter().filter(|r| r.contains("/services?")).count();
    wait_until("several tries", || (tries() >= 4).then_some(()));
    assert_eq!(answer(&program, "ns.dns.global"), "NOERROR 127.0.0.1");
    let told = program
        .stderr()
        .lines()
        .filter(|l| l.contains("on services failed") && l.contains("answers stay as they are"))
        .count();
    assert_eq!(told, 1, "{}", program.stderr());
    program.findings(&[("advertise-service", 1)]);
}

/// [D5] [L2] Also where no event tells of a new ClusterIP; and a watch that ends as it begins is begun once a second.
#[test]
fn an_advertised_service_is_listed_again_and_told_when_it_changes() {
    let api = ApiServer::start(&["v1"]);
    api.set_cluster_ip("10.0.0.1");
    let program = serve(&api, &["--advertise-service", "istio-system/globaldns"]);
    wait_answer(&program, "ns.dns.global", "NOERROR 10.0.0.1");
    api.set_cluster_ip("10.0.0.2");
    wait_answer(&program, "ns.dns.global", "NOERROR 10.0.0.2");
    let tries =
        || api.requests().iter().filter(|r| r.contains("/services?") && r.contains("watch=true")).count();
    let (before, begun) = (tries(), std::time::Instant::now());
    api.set_fault(Fault::watches(Reply::Text("")));
    wait_until("several watches", || (tries() >= before + 4).then_some(()));
    let (now, seconds) = (tries(), begun.elapsed().as_secs() as usize);
    assert!(now - before <= seconds + 3, "{} watches in {seconds} s", now - before);
    api.set_cluster_ip("10.0.0.3");
    api.set_fault(Fault::None);
    wait_answer(&program, "ns.dns.global", "NOERROR 10.0.0.3");
    // Lines are written by a thread of their own, and one for each list would be more of them by now.
    let lines = || program.stderr().lines().filter(|line| line.contains("advertised addresses")).count();
    wait_until("three lines", || (lines() >= 3).then_some(()));
    assert_eq!(lines(), 3, "{}", program.stderr());
}
