//! A clock that jumps under the running program. What runs on time here runs on the monotonic clock; the wall clock is
//! for serials and for what is written down.

use serde_json::json;

use super::observer::{Observer, reply};
use super::{AGE, CHANGES, STEADY, UP, change, errors, populate, wait_for_changes};
use crate::api_server::ApiServer;
use crate::cluster::{metric, spec, wait_metric};
use crate::support::{Program, globaldns, wait_until};

/// A day, far below the jumps and far above what a test takes.
const DAY: f64 = 86_400.0;

/// [D6] [L2] [L4] [L1]
#[test]
#[ignore = "needs libfaketime: run tests/clock/run"]
fn a_clock_that_jumps_by_a_year_changes_no_answer_and_no_serial_goes_back() {
    let library = std::env::var("GLOBALDNS_LIBFAKETIME").expect("run this with tests/clock/run");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| directory.path().join(name);
    let write = |name: &str, text: &str| {
        // Never half of it: the clock is looked at all the time.
        std::fs::write(path("next"), text).expect("written");
        std::fs::rename(path("next"), path(name)).expect("renamed");
    };
    write("clock", "+0");
    write("token", "first");
    let api = ApiServer::start(&["v1"]);
    populate(&api);
    api.write_kubeconfig(&json!({}), &json!({"tokenFile": path("token")}));
    api.set_token("first");

    let mut command = globaldns(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    command.args(["--lameduck", "0s", "--log-format", "json", "--kubeconfig", api.kubeconfig()]);
    command.arg("--state-dir").arg(path("state"));
    command.env("LD_PRELOAD", &library).env("FAKETIME_TIMESTAMP_FILE", path("clock"));
    // Read anew at every look; nothing but the wall clock is faked.
    command.env("FAKETIME_NO_CACHE", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    let mut program = Program::spawn(command);
    program.ready();

    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    let serial = || metric(&program, "globaldns_zone_serial{zone=\"global\"}").expect("a serial");
    let mut serials = vec![serial()];
    let mut nth = 0;
    let mut follow = |api: &ApiServer, serials: &mut Vec<f64>| {
        nth += 1;
        api.apply("ns/jump", spec("jump.global", &format!("240.0.11.{nth}")));
        let answer = format!("NOERROR 240.0.11.{nth}");
        wait_until(&answer, || (reply(program.dns(), "jump.global") == answer).then_some(()));
        serials.push(serial());
        assert!(metric(&program, AGE).is_some_and(|age| age < DAY), "the age is no matter of the wall clock");
        assert_eq!((metric(&program, UP), program.get("/ready").0), (Some(1.0), 200));
    };
    follow(&api, &mut serials);
    write("clock", "+1y");
    follow(&api, &mut serials);
    assert!(serials[2] > serials[1] + 300.0 * DAY, "the program sees the jump: {serials:?}");
    // A watch that begins while the clock is ahead, and a token that is replaced after it has gone back.
    api.end_watches();
    follow(&api, &mut serials);
    write("clock", "-1y");
    follow(&api, &mut serials);
    api.set_token("second");
    wait_metric(&program, &errors("unauthorized"), |n| n >= 1.0);
    write("token", "second");
    wait_metric(&program, UP, |n| n == 1.0);
    follow(&api, &mut serials);
    write("clock", "+0");
    change(&api);
    wait_for_changes(&program);
    follow(&api, &mut serials);
    assert!(serials.is_sorted(), "{serials:?}");
    observer.wait_for_a_round();
    observer.finish();
    println!("serials through +1 y, -1 y and now: {serials:?}");
}
