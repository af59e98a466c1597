//! Another state in the place of the one we know: etcd restored, another API server, discovery and the CRD.

use super::observer::{Observer, reply};
use super::{CHANGES, STEADY, Scenario, UP, change, errors, populate, serve, told, wait_for_changes};
use crate::api_server::{ApiServer, Fault, Reply};
use crate::cluster::{metric, spawn, spec, wait_metric};
use crate::support::wait_until;

/// [S1] [L2] [D9] Discovery alone fails: what is watched goes on, and a start waits.
#[test]
fn discovery_that_fails_changes_no_answer_and_stops_no_watch() {
    for (reply_of_discovery, reason) in [
        (Reply::Status(500), "server"),
        (Reply::Text("<html></html>"), "decode"),
        (Reply::Mangled, "decode"),
        (Reply::Cut, "connection"),
        (Reply::Redirect, "server"),
    ] {
        let fault = Fault::Replies { discovery: reply_of_discovery, list: Reply::Right, watch: Reply::Right };
        let scenario = Scenario { fault, reason, says: "discovering", seen: true, deaf_start: true };
        scenario.at_the_start();
    }
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    let broken = Reply::Status(500);
    api.set_fault(Fault::Replies { discovery: broken, list: Reply::Right, watch: Reply::Right });
    change(&api);
    wait_for_changes(&program);
    // The watch fails too, and comes back, while discovery is broken.
    api.set_fault(Fault::Replies { discovery: broken, list: Reply::Right, watch: broken });
    wait_metric(&program, UP, |n| n == 0.0);
    api.set_fault(Fault::Replies { discovery: broken, list: Reply::Right, watch: Reply::Right });
    api.apply("ns/later", spec("later.global", "240.0.4.1"));
    wait_until("an event", || (reply(program.dns(), "later.global") == "NOERROR 240.0.4.1").then_some(()));
    observer.wait_for_a_round();
    observer.finish();
}

/// [S1] A version that is announced without ServiceEntries is passed over.
#[test]
fn a_version_that_discovery_shows_in_part_is_not_watched() {
    let part = r#"{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "networking.istio.io/v1", "resources": []}"#;
    let api = ApiServer::start(&["v1"]);
    populate(&api);
    api.set_fault(Fault::Replies { discovery: Reply::Text(part), list: Reply::Right, watch: Reply::Right });
    let mut program = spawn(&api, &[]);
    program.findings(&[("crd-absent", 1)]);
    api.set_fault(Fault::None);
    program.ready();
    wait_until("the entries", || (reply(program.dns(), "keeps.global") == "NOERROR 240.0.0.1").then_some(()));
    program.findings(&[]);
}

/// [L2] [S1]
#[test]
fn a_crd_that_is_removed_and_restored_is_followed() {
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    api.set_versions(&[]);
    api.end_watches();
    program.findings(&[("crd-absent", 1)]);
    program.log_containing("install Istio's CRDs");
    wait_metric(&program, &errors("not-found"), |n| n >= 1.0);
    assert_eq!((metric(&program, UP), program.get("/ready").0), (Some(0.0), 200));
    change(&api);
    api.set_versions(&["v1beta1"]);
    wait_for_changes(&program);
    program.findings(&[]);
    wait_metric(&program, UP, |n| n == 1.0);
    observer.wait_for_a_round();
    observer.finish();
}

/// [L2] [L3] etcd is restored from a backup: older objects, and numbers that have been before.
#[test]
fn an_api_server_that_has_gone_back_is_listed_again() {
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let backup = api.snapshot();
    // After the backup: all of this is undone by the restore.
    change(&api);
    for i in 0..50 {
        api.apply("ns/busy", spec("busy.global", &format!("240.0.9.{i}")));
    }
    wait_for_changes(&program);
    let back = CHANGES.map(|(question, before, after)| (question, after, before));
    let observer = Observer::start(program.dns(), &STEADY, &back);
    api.set_fault(Fault::all(Reply::Status(503)));
    wait_metric(&program, &errors("server"), |n| n >= 1.0);
    api.restore(backup);
    api.set_fault(Fault::None);
    // The watch that begins now goes on from a number that is yet to come: it would show nothing of this.
    api.apply("ns/new", spec("new.global", "240.0.5.1"));
    for (question, _, before) in back {
        wait_until(&format!("{question} as in the backup"), || {
            (reply(program.dns(), question) == before).then_some(())
        });
    }
    wait_until("what is new", || (reply(program.dns(), "new.global") == "NOERROR 240.0.5.1").then_some(()));
    program.log_containing("has gone back from resource version");
    assert!(metric(&program, &errors("gone")) >= Some(1.0));
    api.delete("ns/new");
    wait_until("events", || (reply(program.dns(), "new.global") == "NXDOMAIN").then_some(()));
    assert_eq!(told(&program, "gone"), 1, "{}", program.stderr());
    observer.wait_for_a_round();
    observer.finish();
}

/// [L2] [L3] Another API server in its place, with other entries and smaller numbers.
#[test]
fn another_api_server_in_its_place_is_listed_anew() {
    let (api, program) = serve(ApiServer::start(&["v1"]));
    for i in 0..50 {
        api.apply("ns/busy", spec("busy.global", &format!("240.0.9.{i}")));
    }
    wait_until("the last event", || {
        (reply(program.dns(), "busy.global") == "NOERROR 240.0.9.49").then_some(())
    });
    let other = ApiServer::start(&["v1"]);
    other.apply("elsewhere/keeps", spec("keeps.global", "240.0.0.1"));
    other.apply("elsewhere/other", spec("other.global", "240.0.6.1"));
    let observer = Observer::start(program.dns(), &[("keeps.global", "NOERROR 240.0.0.1")], &[]);
    api.restore(other.snapshot());
    wait_until("its entries", || (reply(program.dns(), "other.global") == "NOERROR 240.0.6.1").then_some(()));
    assert_eq!(reply(program.dns(), "busy.global"), "NXDOMAIN");
    observer.wait_for_a_round();
    observer.finish();
}
