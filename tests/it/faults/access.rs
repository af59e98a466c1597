//! The way to the API server: its address, our token, its certificate.

use serde_json::json;

use super::observer::{Observer, reply};
use super::{CHANGES, STEADY, UP, change, errors, populate, serve, told, wait_for_changes};
use crate::api_server::{ApiServer, Authority};
use crate::cluster::{metric, spec, wait_metric};
use crate::support::{Program, globaldns, wait_until};

/// [S1] [L2] The kubeconfig names another address from some time on.
#[test]
fn an_api_server_that_has_moved_is_followed() {
    let (mut api, program) = serve(ApiServer::start(&["v1"]));
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    let other = ApiServer::start(&["v1"]);
    populate(&other);
    change(&other);
    let address = other.address();
    // As long as it answers it is asked, and what cannot be read is no reason to ask nobody.
    std::fs::remove_file(api.kubeconfig()).expect("removed");
    api.apply("ns/later", spec("later.global", "240.0.4.1"));
    wait_until("an event", || (reply(program.dns(), "later.global") == "NOERROR 240.0.4.1").then_some(()));
    api.hang_up();
    wait_metric(&program, &errors("connection"), |n| n >= 2.0);
    api.write_kubeconfig(&json!({"server": format!("http://{address}")}), &json!({}));
    wait_for_changes(&program);
    program.log_containing("the way to the API server has changed");
    observer.wait_for_a_round();
    observer.finish();
}

/// [S1] [L2] As the token of a ServiceAccount, which the kubelet writes anew.
#[test]
fn a_new_token_is_used_as_soon_as_the_old_one_is_refused() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("token");
    let write = |token: &str| std::fs::write(&file, token).expect("written");
    write("old");
    let api = ApiServer::start(&["v1"]);
    api.write_kubeconfig(&json!({}), &json!({"tokenFile": file}));
    api.set_token("old");
    let (api, program) = serve(api);
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    api.set_token("new");
    change(&api);
    wait_metric(&program, &errors("unauthorized"), |n| n >= 2.0);
    let line = program.log_containing("does not accept our credentials");
    assert!(line.contains("answers stay as they are"), "{line}");
    assert_eq!((metric(&program, UP), program.get("/ready").0), (Some(0.0), 200));
    assert_eq!(reply(program.dns(), "changed.global"), "NOERROR 240.0.1.1");
    write("new");
    wait_for_changes(&program);
    wait_metric(&program, UP, |n| n == 1.0);
    assert_eq!(told(&program, "unauthorized"), 1, "{}", program.stderr());
    observer.wait_for_a_round();
    observer.finish();
}

/// [S1] [L2] A pipe was read to its end: another look at it would wait for somebody to write.
#[test]
fn a_kubeconfig_that_came_through_a_pipe_is_not_read_again() {
    for by_flag in [true, false] {
        let api = ApiServer::start(&["v1"]);
        api.write_kubeconfig(&json!({}), &json!({"token": "ours"}));
        api.set_token("ours");
        let path = api.kubeconfig().to_owned();
        let text = std::fs::read(&path).expect("a kubeconfig");
        std::fs::remove_file(&path).expect("removed");
        nix::unistd::mkfifo(&*path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let writer = std::thread::spawn(move || std::fs::write(path, text));
        populate(&api);
        let mut command = globaldns(&["serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
        command.args(["--lameduck", "0s", "--log-format", "json"]).env_remove("KUBERNETES_SERVICE_HOST");
        if by_flag {
            command.args(["--kubeconfig", api.kubeconfig()]);
        } else {
            command.env("KUBECONFIG", api.kubeconfig());
        }
        let mut program = Program::spawn(command);
        program.ready();
        writer.join().expect("no panic").expect("written");
        let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
        api.set_token("another");
        api.end_watches();
        change(&api);
        wait_metric(&program, &errors("unauthorized"), |n| n >= 3.0);
        api.set_token("ours");
        wait_for_changes(&program);
        observer.wait_for_a_round();
        observer.finish();
    }
}

/// [L2] [S1] [D9]
#[test]
fn a_certificate_that_is_no_good_changes_no_answer_and_a_new_one_is_taken() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("ca.crt");
    let (authority, successor) = (Authority::new(), Authority::new());
    std::fs::write(&file, authority.pem()).expect("written");
    let api = ApiServer::start_tls(&["v1"], &authority.certificate_until(4000));
    let cluster = json!({"certificate-authority": file});
    api.write_kubeconfig(&cluster, &json!({}));
    let (api, program) = serve(api);
    let observer = Observer::start(program.dns(), &STEADY, &CHANGES);
    // Expired, and replaced by a good one of the same authority.
    api.set_certificate(&authority.certificate_until(2001));
    api.end_watches();
    change(&api);
    wait_metric(&program, &errors("connection"), |n| n >= 3.0);
    let line = program.log_containing("certificate expired");
    assert!(line.contains("answers stay as they are"), "{line}");
    assert_eq!((metric(&program, UP), program.get("/ready").0), (Some(0.0), 200));
    api.set_certificate(&authority.certificate_until(4000));
    wait_for_changes(&program);
    wait_metric(&program, UP, |n| n == 1.0);
    // Of another authority, which is in the kubeconfig's file somewhat later.
    let before = metric(&program, &errors("connection")).expect("counted");
    api.set_certificate(&successor.certificate_until(4000));
    api.end_watches();
    wait_metric(&program, &errors("connection"), |n| n >= before + 2.0);
    api.apply("ns/later", spec("later.global", "240.0.4.1"));
    assert_eq!(reply(program.dns(), "later.global"), "NXDOMAIN");
    std::fs::write(&file, successor.pem()).expect("written");
    wait_until("an event", || (reply(program.dns(), "later.global") == "NOERROR 240.0.4.1").then_some(()));
    program.log_containing("the way to the API server has changed");
    wait_metric(&program, UP, |n| n == 1.0);
    observer.wait_for_a_round();
    observer.finish();
}
