//! Every fault of an API server we could think of, against the scripted one. What is the same in each of them is
//! [`Scenario::play`]: while it lasts, every reply is right; metric and log tell it, the log once; what was added, changed
//! and deleted meanwhile is followed afterwards, without a restart. A start in the middle of it knows no name, and says so.
//!
//! `docs/reliability.md` has a row for each; `tests/e2e` has those that a real API server has of itself.

mod access;
mod clock;
mod objects;
mod observer;
mod place;
mod watches;

use serde_json::json;

use self::observer::{Observer, reply};
use crate::api_server::{ApiServer, Fault, Reply};
use crate::cluster::{metric, spawn, spec, wait_metric};
use crate::support::{Program, wait_until};

const UP: &str = "globaldns_source_up{source=\"kubernetes\"}";
const AGE: &str = "globaldns_source_contact_age_seconds{source=\"kubernetes\"}";
const RELISTS: &str = "globaldns_source_relists_total{source=\"kubernetes\"}";

/// What stays as it is: question and answer.
const STEADY: [(&str, &str); 9] = [
    ("keeps.global", "NOERROR 240.0.0.1"),
    ("keeps.global AAAA", "NOERROR"),
    ("six.global AAAA", "NOERROR 2001:db8::1"),
    ("six.global", "NOERROR"),
    ("both.global", "NOERROR 240.0.0.2"),
    ("both.global AAAA", "NOERROR 2001:db8::2"),
    ("any.wild.global", "NOERROR 240.0.0.3"),
    ("absent.global", "NXDOMAIN"),
    ("absent.global AAAA", "NXDOMAIN"),
];
/// What is changed, deleted and added while the fault lasts: question, answer before and after.
const CHANGES: [(&str, &str, &str); 3] = [
    ("changed.global", "NOERROR 240.0.1.1", "NOERROR 240.0.1.2"),
    ("deleted.global", "NOERROR 240.0.2.1", "NXDOMAIN"),
    ("added.global", "NXDOMAIN", "NOERROR 240.0.3.1"),
];

fn populate(api: &ApiServer) {
    api.apply("ns/keeps", spec("keeps.global", "240.0.0.1"));
    api.apply("ns/six", spec("six.global", "2001:db8::1"));
    api.apply("ns/both", json!({"hosts": ["both.global"], "addresses": ["240.0.0.2", "2001:db8::2"]}));
    api.apply("ns/wild", spec("*.wild.global", "240.0.0.3"));
    api.apply("ns/changed", spec("changed.global", "240.0.1.1"));
    api.apply("ns/deleted", spec("deleted.global", "240.0.2.1"));
}

/// What [`CHANGES`] says.
fn change(api: &ApiServer) {
    api.apply("ns/changed", spec("changed.global", "240.0.1.2"));
    api.delete("ns/deleted");
    api.apply("ns/added", spec("added.global", "240.0.3.1"));
}

/// A server with the names above, and the program, which has read them and watches.
fn serve(api: ApiServer) -> (ApiServer, Program) {
    populate(&api);
    let mut program = spawn(&api, &[]);
    program.ready();
    wait_until("a watch", || api.requests().iter().any(|r| r.contains("watch=true")).then_some(()));
    (api, program)
}

fn errors(reason: &str) -> String {
    format!("globaldns_source_errors_total{{source=\"kubernetes\",reason=\"{reason}\"}}")
}

/// Log lines that tell of a trouble with this reason.
fn told(program: &Program, reason: &str) -> usize {
    program.stderr().lines().filter(|line| line.contains(&format!("\"reason\":\"{reason}\""))).count()
}

/// Asks for everything that changes until it has.
fn wait_for_changes(program: &Program) {
    for (question, _, after) in CHANGES {
        wait_until(&format!("{question} to be {after}"), || {
            (reply(program.dns(), question) == after).then_some(())
        });
    }
}

/// A fault of the whole API server.
struct Scenario {
    fault: Fault,
    /// The reason under which the errors are counted.
    reason: &'static str,
    /// What the log says.
    says: &'static str,
    /// Whether what happens meanwhile is seen all the same.
    seen: bool,
    /// Whether a start in the middle of it hears nothing.
    deaf_start: bool,
}

impl Scenario {
    fn play(&self) {
        self.while_it_runs();
        if self.deaf_start {
            self.at_the_start();
        }
    }

    fn while_it_runs(&self) {
        let (api, program) = serve(ApiServer::start(&["v1"]));
        let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
        observer.wait_for_a_round();
        api.set_fault(self.fault);
        change(&api);
        wait_metric(&program, &errors(self.reason), |n| n >= 3.0);
        let line = program.log_containing(self.says);
        assert!(line.contains("answers stay as they are"), "{line}");
        if self.seen {
            wait_for_changes(&program);
        } else {
            assert_eq!(metric(&program, UP), Some(0.0));
            assert_eq!(told(&program, self.reason), 1, "{}", program.stderr());
            for (question, before, _) in CHANGES {
                assert_eq!(reply(program.dns(), question), before, "{question}");
            }
        }
        assert_eq!((program.get("/ready").0, program.get("/health").0), (200, 200));
        observer.wait_for_a_round();
        api.set_fault(Fault::None);
        wait_for_changes(&program);
        wait_metric(&program, UP, |n| n == 1.0);
        program.log("source works again", |fields| fields["after"] == self.reason);
        observer.wait_for_a_round();
        observer.finish();
    }

    /// [D9] Not knowing yet is no NXDOMAIN, for as long as it takes.
    fn at_the_start(&self) {
        let api = ApiServer::start(&["v1"]);
        populate(&api);
        api.set_fault(self.fault);
        let mut program = spawn(&api, &[]);
        wait_metric(&program, &errors(self.reason), |n| n >= 2.0);
        program.log_containing(self.says);
        for (question, _) in STEADY {
            assert_eq!(reply(program.dns(), question), "SERVFAIL", "{question}");
        }
        assert_eq!((program.get("/ready").0, program.get("/health").0), (503, 200));
        api.set_fault(Fault::None);
        program.ready();
        for (question, answer) in STEADY {
            assert_eq!(reply(program.dns(), question), answer);
        }
    }
}

/// [L2] [D9]
#[test]
fn an_api_server_that_answers_with_an_error_changes_no_answer() {
    let refused = Reply::Status(403);
    let forbidden = Fault::Replies { discovery: Reply::Right, list: refused, watch: refused };
    for (fault, reason, says) in [
        (Fault::all(Reply::Status(500)), "server", "scripted failure (HTTP 500)"),
        (Fault::all(Reply::Status(503)), "server", "scripted failure (HTTP 503)"),
        (forbidden, "forbidden", "missing right"),
    ] {
        Scenario { fault, reason, says, seen: false, deaf_start: true }.play();
    }
}

/// [L2] [D9]
#[test]
fn an_api_server_with_too_many_requests_changes_no_answer() {
    let fault = Fault::all(Reply::Status(429));
    Scenario { fault, reason: "server", says: "scripted failure (HTTP 429)", seen: false, deaf_start: true }
        .play();
}

/// [L2] [D9]
#[test]
fn an_api_server_that_sends_something_else_changes_no_answer() {
    let fault = Fault::all(Reply::Text("<html>a proxy's greeting</html>"));
    Scenario { fault, reason: "decode", says: "expected value", seen: false, deaf_start: true }.play();
}

/// [L2] [D9] Also of an endless one.
#[test]
fn a_redirect_is_not_followed_and_changes_no_answer() {
    let fault = Fault::all(Reply::Redirect);
    Scenario { fault, reason: "server", says: "redirected to /apis/", seen: false, deaf_start: true }.play();
}

/// [L2] [L3] [D9]
#[test]
fn a_list_that_breaks_off_changes_no_answer() {
    let fault = Fault::lists(Reply::Cut);
    Scenario {
        fault,
        reason: "connection",
        says: "on serviceentries.networking.istio.io failed: ",
        seen: false,
        deaf_start: true,
    }
    .play();
}

/// [L2] [L3] [D9]
#[test]
fn a_list_that_is_cut_but_calls_itself_whole_changes_no_answer() {
    let fault = Fault::lists(Reply::Mangled);
    Scenario { fault, reason: "decode", says: "EOF while parsing", seen: false, deaf_start: true }.play();
}

/// [L2] [L3] The token to continue is too old when the second page is asked for.
#[test]
fn a_list_that_expires_between_its_pages_begins_again() {
    let api = ApiServer::start(&["v1"]);
    for i in 0..600 {
        api.apply(&format!("many/e{i:03}"), spec(&format!("h{i}.global"), "240.0.0.9"));
    }
    let (api, program) = serve(api);
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    api.set_fault(Fault::ExpiredSecondPage);
    change(&api);
    wait_metric(&program, &errors("gone"), |n| n >= 3.0);
    for (question, before, _) in CHANGES {
        assert_eq!(reply(program.dns(), question), before, "no page is seen before the last one");
    }
    assert_eq!(told(&program, "gone"), 1, "{}", program.stderr());
    api.set_fault(Fault::None);
    wait_for_changes(&program);
    wait_metric(&program, UP, |n| n == 1.0);
    observer.wait_for_a_round();
    observer.finish();
}

/// [L2] [L3] [D9]
#[test]
fn an_api_server_that_is_slow_changes_no_answer_and_is_read_to_the_end() {
    let slow = Fault::all(Reply::Slow);
    let (api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    // A list an octet at a time, then events.
    api.set_fault(Fault::Expired);
    api.set_fault(slow);
    change(&api);
    wait_for_changes(&program);
    api.apply("ns/later", spec("later.global", "240.0.4.1"));
    wait_until("an event", || (reply(program.dns(), "later.global") == "NOERROR 240.0.4.1").then_some(()));
    observer.wait_for_a_round();
    observer.finish();

    let api = ApiServer::start(&["v1"]);
    populate(&api);
    api.set_fault(slow);
    let mut program = spawn(&api, &[]);
    let observer = Observer::start(program.dns(), &STEADY.map(|(question, answer)| (question, answer)), &[]);
    program.ready();
    observer.until_known();
}
