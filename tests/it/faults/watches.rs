//! Watches that end, lie or say nothing.

use super::observer::{Observer, reply};
use super::{
    AGE, CHANGES, RELISTS, STEADY, Scenario, UP, change, errors, populate, serve, told, wait_for_changes,
};
use crate::api_server::{ApiServer, Fault, Reply};
use crate::cluster::{metric, spawn, wait_metric};
use crate::support::wait_until;

/// [L2] The half of it that came is asked for again with the rest.
#[test]
fn a_watch_that_breaks_off_in_the_middle_of_an_event_loses_none() {
    let fault = Fault::watches(Reply::Cut);
    Scenario {
        fault,
        reason: "connection",
        says: "ends watches as they begin",
        seen: false,
        deaf_start: false,
    }
    .play();
}

/// [L2]
#[test]
fn a_watch_that_ends_as_it_begins_is_begun_once_a_second() {
    let fault = Fault::watches(Reply::Text(""));
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let watches = || api.requests().iter().filter(|r| r.contains("watch=true")).count();
    let (before, begun) = (watches(), std::time::Instant::now());
    api.set_fault(fault);
    wait_metric(&program, &errors("connection"), |n| n >= 3.0);
    let most = begun.elapsed().as_secs() as usize + 2;
    assert!(watches() - before <= most, "{} watches in {most} s", watches() - before);
    drop((api, program));
    Scenario {
        fault,
        reason: "connection",
        says: "ends watches as they begin",
        seen: false,
        deaf_start: false,
    }
    .play();
}

/// [L2] What an event said that could not be read is in the list that follows.
#[test]
fn an_event_that_cannot_be_read_is_made_up_for_by_a_list() {
    let fault = Fault::watches(Reply::Mangled);
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    api.set_fault(fault);
    change(&api);
    // Nothing ends the fault: the list says what the watch could not.
    wait_for_changes(&program);
    wait_metric(&program, &errors("decode"), |n| n >= 1.0);
    program.log_containing("the watch of serviceentries.networking.istio.io broke");
    assert!(metric(&program, RELISTS) >= Some(2.0));
    observer.wait_for_a_round();
    observer.finish();
}

/// [L2] As an API server does that cannot read what is in etcd.
#[test]
fn a_watch_that_announces_its_end_is_made_up_for_by_a_list() {
    for (line, says) in [
        (
            r#"{"type": "ERROR", "object": {"kind": "Status", "code": 500, "message": "no PrevKv"}}"#,
            "no PrevKv",
        ),
        (
            r#"{"type": "ERROR", "object": {"kind": "Status", "code": 504, "message": "too large"}}"#,
            "too large",
        ),
    ] {
        let fault = Fault::watches(Reply::Text(line));
        Scenario { fault, reason: "server", says, seen: true, deaf_start: false }.play();
    }
}

/// [L2] Neither is an event that is no event.
#[test]
fn an_error_without_a_status_does_not_stop_the_watch() {
    let neither = "neither an event nor a status";
    for (line, says) in [
        (r#"{"type": "ERROR", "object": null}"#, "broke"),
        (r#"{"type": "ERROR", "object": {}}"#, neither),
        (r#"{"type": "ERROR"}"#, neither),
        (r#"{"type": "NEWS", "object": {}}"#, neither),
    ] {
        let fault = Fault::watches(Reply::Text(line));
        Scenario { fault, reason: "decode", says, seen: true, deaf_start: false }.play();
    }
}

/// [L2] [L3] By HTTP status and by an event of a running watch.
#[test]
fn a_watch_that_is_too_old_is_replaced_by_a_list() {
    for fault in [Fault::watches(Reply::Status(410)), Fault::Expired] {
        let (api, program) = serve(ApiServer::start(&["v1"]));
        let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
        api.set_fault(fault);
        change(&api);
        wait_for_changes(&program);
        wait_metric(&program, &errors("gone"), |n| n >= 1.0);
        program.log_containing("listing again, answers stay as they are");
        api.set_fault(Fault::None);
        wait_metric(&program, UP, |n| n == 1.0);
        observer.wait_for_a_round();
        observer.finish();
    }
}

/// [L2] The list works each time, and ends neither the trouble nor the growth of the pauses: 0.2 s, 0.4 s, 0.8 s, 1.6 s
/// and then 3 s at the least, so in whatever time there are no more lists than these.
#[test]
fn a_watch_that_is_refused_for_ever_is_no_storm_of_lists() {
    let no_event = Reply::Text(r#"{"type": "ERROR"}"#);
    for (reply, reason) in
        [(Reply::Status(410), "gone"), (Reply::Status(504), "server"), (no_event, "decode")]
    {
        let (api, program) = serve(ApiServer::start(&["v1"]));
        let lists = || api.requests().iter().filter(|r| r.contains("limit=500")).count();
        let (before, begun) = (lists(), std::time::Instant::now());
        api.set_fault(Fault::watches(reply));
        change(&api);
        wait_metric(&program, &errors(reason), |n| n >= 5.0);
        let (now, seconds) = (lists(), begun.elapsed().as_secs() as usize);
        assert!(now - before <= seconds + 3, "{} lists in {seconds} s", now - before);
        assert_eq!(metric(&program, UP), Some(0.0), "{reason}");
        assert_eq!(told(&program, reason), 1, "{}", program.stderr());
        let lines = |text: &str| program.stderr().lines().filter(|line| line.contains(text)).count();
        assert_eq!((lines("works again"), lines("watching ServiceEntries")), (0, 1), "{}", program.stderr());
        wait_for_changes(&program);
        api.set_fault(Fault::None);
        wait_metric(&program, UP, |n| n == 1.0);
        program.log("source works again", |fields| fields["after"] == reason);
    }
}

/// [L4] [L2] [D9] Packets that vanish look like this from here.
#[test]
fn an_api_server_that_accepts_and_says_nothing_changes_no_answer() {
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    api.set_fault(Fault::all(Reply::Silence));
    change(&api);
    // Nothing fails in less than the 40 s of a watch; what tells is the age.
    let first = metric(&program, AGE).expect("an age");
    wait_metric(&program, AGE, |age| age >= first + 3.0);
    for (question, before, _) in CHANGES {
        assert_eq!(reply(program.dns(), question), before);
    }
    assert_eq!(program.get("/ready").0, 200);
    api.set_fault(Fault::None);
    wait_for_changes(&program);
    observer.wait_for_a_round();
    observer.finish();

    let api = ApiServer::start(&["v1"]);
    api.set_fault(Fault::all(Reply::Silence));
    populate(&api);
    let mut program = spawn(&api, &[]);
    wait_metric(&program, &errors("connection"), |n| n >= 1.0);
    program.log_containing("no answer within 10 s");
    assert_eq!(reply(program.dns(), "keeps.global"), "SERVFAIL");
    api.set_fault(Fault::None);
    program.ready();
}

/// [L2] A watch on which nothing happens for long goes on from the last bookmark, not from the list.
#[test]
fn bookmarks_move_where_a_watch_goes_on_from() {
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    for _ in 0..200 {
        api.bookmark();
    }
    let last = format!("resourceVersion={}", api.snapshot().version());
    let goes_on = || {
        api.end_watches();
        api.requests().iter().any(|r| r.contains("watch=true") && r.contains(&last)).then_some(())
    };
    wait_until("a watch from the last bookmark", goes_on);
    assert_eq!(metric(&program, RELISTS), Some(1.0));
    change(&api);
    wait_for_changes(&program);
    observer.wait_for_a_round();
    observer.finish();
}
