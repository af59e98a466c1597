//! What the program tells of itself beside its answers (chapter I).

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::cluster::{metric, spawn, spec, wait_answer, wait_metric};
use crate::dig::dig;
use crate::support::{DEADLINE, Program, globaldns, run, wait_until};

const EXAMPLES: [&str; 2] = ["--file", "examples/banzai-multimesh"];

fn serve(args: &[&str]) -> Program {
    Program::serve(&[&EXAMPLES[..], args].concat())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Sends a request to the admin listener as it is; status and body.
fn request(program: &Program, head: &str, body: &str) -> (u16, Value) {
    let admin = program.admin.expect("the program has an admin listener");
    let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    let length = body.len();
    write!(stream, "{head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}").expect("sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the whole reply arrives");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// [I9] [L5]
#[test]
fn failures_are_logged_over_every_transport_until_the_end() {
    let program = serve(&["--query-log", "failures"]);
    let server = program.dns();
    for question in ["echo.default.global", "gone.default.global", "gone.default.global +tcp", "example.com"]
    {
        dig(server, question);
    }
    wait_metric(&program, "globaldns_query_log_lines_total", |lines| lines == 3.0);
    assert_eq!(metric(&program, "globaldns_query_log_dropped_total"), Some(0.0));
    // What is asked last is logged as well.
    dig(server, "last.default.global");
    program.signal("TERM");
    let ended = program.wait();
    let mut logged = lines(&ended.stdout);
    // Threads have queues of their own.
    logged.sort_by_key(|line| line["time"].as_str().map(str::to_owned));
    let logged: Vec<_> = logged
        .iter()
        .map(|line| {
            let text = |key: &str| line[key].as_str().unwrap_or("-").to_owned();
            [text("name"), text("transport"), text("rcode"), text("zone")].join(" ")
        })
        .collect();
    assert_eq!(
        logged,
        [
            "gone.default.global udp NXDOMAIN global",
            "gone.default.global tcp NXDOMAIN global",
            "example.com udp REFUSED -",
            "last.default.global udp NXDOMAIN global",
        ]
    );
}

/// [I9]
#[test]
fn all_queries_can_be_logged_into_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("queries");
    let program = serve(&["--query-log", "all", "--query-log-output", path.to_str().expect("UTF-8")]);
    dig(program.dns(), "echo.default.global");
    let line = wait_until("a line", || lines(&std::fs::read_to_string(&path).ok()?).pop());
    assert_eq!((&line["name"], &line["rcode"]), (&json!("echo.default.global"), &json!("NOERROR")));
    assert_eq!((&line["client"], &line["flags"]), (&json!("127.0.0.1"), &json!("qr aa rd")));
}

/// [I9] [X1]
#[test]
fn a_query_log_that_cannot_be_written_is_bad_usage() {
    let listen = ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"];
    let log = ["--query-log", "all", "--query-log-output", "/dev/null"];
    let ended = run(globaldns(&[&["serve"], &EXAMPLES[..], &listen, &log].concat()));
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("--query-log-output \"/dev/null\" cannot be written"), "{}", ended.stderr);
    for bad in [["--query-log-rate", "0"], ["--query-log-sample", "0"], ["--top-lists", "maybe"]] {
        let ended = run(globaldns(&[&["serve"], &EXAMPLES[..], &listen, &bad].concat()));
        assert_eq!(ended.code, Some(2), "{bad:?}: {}", ended.stderr);
    }
}

/// [I7]
#[test]
fn queries_that_a_search_path_makes_are_counted() {
    const COUNT: &str = "globaldns_search_path_queries_total{zone=\"global\"}";
    let program = serve(&[]);
    for question in
        ["kubernetes.default.svc.cluster.local.global", "echo.default.global", "gone.default.global"]
    {
        for transport in ["", " +tcp"] {
            dig(program.dns(), &format!("{question}{transport}"));
        }
    }
    wait_metric(&program, COUNT, |count| count == 2.0);
    let off = serve(&["--top-lists", "off"]);
    dig(off.dns(), "kubernetes.default.svc.cluster.local.global");
    assert_eq!(metric(&off, COUNT), None);
}

/// [I6] [I8]
#[test]
fn changes_that_a_watch_tells_are_timed_from_when_they_were_written() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/listed", spec("listed.global", "240.0.0.1"));
    let mut program = spawn(&api, &[]);
    program.ready();
    let count = |le: &str| {
        let name =
            format!("globaldns_programming_duration_seconds_bucket{{source=\"kubernetes\",le=\"{le}\"}}");
        metric(&program, &name).expect("a bucket")
    };
    assert_eq!(count("+Inf"), 0.0, "a list tells nothing");
    let object = |address: &str, seconds_ago: i64| {
        let time =
            jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() - seconds_ago).expect("a time");
        json!({
            "metadata": {"managedFields": [{"manager": "kubectl", "operation": "Apply", "time": time.to_string()}]},
            "spec": spec("a.global", address)
        })
    };
    api.apply_object("foo/a", object("240.0.0.2", 3600));
    wait_answer(&program, "a.global", "NOERROR 240.0.0.2");
    wait_metric(&program, "globaldns_programming_duration_seconds_count{source=\"kubernetes\"}", |n| {
        n == 1.0
    });
    assert_eq!((count("1800"), count("+Inf")), (0.0, 1.0), "an hour");
    api.apply_object("foo/a", object("240.0.0.3", -3600));
    wait_metric(&program, "globaldns_programming_clock_ahead_total{source=\"kubernetes\"}", |n| n == 1.0);
    wait_metric(&program, "globaldns_programming_duration_seconds_count{source=\"kubernetes\"}", |n| {
        n == 2.0
    });
    assert_eq!(count("0.5"), 1.0);
    // Nobody knows when it was deleted, and what changes no answer is no change.
    api.apply_object("foo/a", object("240.0.0.3", 60));
    api.delete("foo/a");
    wait_answer(&program, "a.global", "NXDOMAIN");
    assert_eq!(count("+Inf"), 2.0);
}

/// [I10]
#[test]
fn the_log_level_is_another_for_a_while() {
    const HEAD: &str = "PUT /api/v1/log-level HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json";
    let program = serve(&[]);
    let level = || request(&program, "GET /api/v1/log-level HTTP/1.1\r\nHost: localhost", "");
    let usual = json!({"level": "info", "configured": "info", "until": null});
    assert_eq!(level(), (200, usual.clone()));
    let (status, set) = request(&program, HEAD, r#"{"level": "globaldns=debug", "seconds": 3600}"#);
    assert_eq!((status, &set["level"], &set["configured"]), (200, &json!("globaldns=debug"), &json!("info")));
    let until: jiff::Timestamp = set["until"].as_str().expect("a time").parse().expect("RFC 3339");
    assert!(until > jiff::Timestamp::now());
    assert_eq!(level(), (200, set));
    // The longer one that was set before does not end this one, and this one ends by itself.
    let (status, _) = request(&program, HEAD, r#"{"level": "error", "seconds": 1}"#);
    assert_eq!(status, 200);
    wait_until("the level it had at the start", || (level().1 == usual).then_some(()));
    program.log("the log level is what it was at the start", |_| true);
    let too_long = format!(r#"{{"level": "{}"}}"#, "x".repeat(4096));
    for (head, body, status, field) in [
        (HEAD, r#"{"level": "loud"}"#, 400, "level"),
        (HEAD, r#"{"level": ""}"#, 400, "level"),
        (HEAD, r#"{"level": "debug", "seconds": 0}"#, 400, "seconds"),
        (HEAD, "debug", 400, "body"),
        (HEAD, &too_long, 413, "body"),
        ("PUT /api/v1/log-level HTTP/1.1\r\nHost: localhost", r#"{"level": "debug"}"#, 415, "Content-Type"),
        (
            "PUT /api/v1/log-level HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json",
            r#"{"level": "debug"}"#,
            421,
            "Host",
        ),
        (
            "PUT /api/v1/log-level HTTP/1.1\r\nHost: globaldns\r\nContent-Type: application/json",
            r#"{"level": "debug"}"#,
            403,
            "Host",
        ),
    ] {
        let (got, reply) = request(&program, head, body);
        assert_eq!((got, &reply["error"]["field"]), (status, &json!(field)), "{head} {body}: {reply}");
    }
    assert_eq!(level(), (200, usual));
}
