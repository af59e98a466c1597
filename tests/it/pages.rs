//! The JSON API and the status page (chapter I), as they come over the wire.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine;
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

use crate::process::{answered, client, query};
use crate::support::{DEADLINE, Program, globaldns, run, wait_until};

const EXAMPLE: [&str; 2] = ["--file", "examples/banzai-multimesh"];

/// A reply: status, headers in lower case, and body.
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// One request, with `Host` unless the headers have one.
fn ask(admin: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)]) -> Reply {
    let mut stream = TcpStream::connect(admin).expect("the admin listener accepts");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout can be set");
    let mut request = format!("{method} {path} HTTP/1.1\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {admin}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{request}\r\n").as_bytes()).expect("a request can be sent");
    let mut reply = String::new();
    stream.read_to_string(&mut reply).expect("the whole reply arrives");
    let (head, body) = reply.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status line");
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    Reply { status, headers, body: body.to_owned() }
}

fn admin(program: &Program) -> SocketAddr {
    program.admin.expect("an admin listener")
}

#[track_caller]
fn document(program: &Program, path: &str) -> Value {
    let reply = ask(admin(program), "GET", path, &[]);
    assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    reply.json()
}

/// A file of entries with these hosts, one each.
fn entries(hosts: &[(&str, &str)]) -> String {
    let item = |(at, (host, address)): (usize, &(&str, &str))| {
        json!({"kind": "ServiceEntry", "metadata": {"namespace": "foo", "name": format!("e{at}")},
               "spec": {"hosts": [host], "addresses": [address], "resolution": "DNS"}})
    };
    json!({"kind": "List", "items": hosts.iter().enumerate().map(item).collect::<Vec<_>>()}).to_string()
}

fn served(text: &str, more: &[&str]) -> (tempfile::TempDir, Program) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("entries.json");
    fs::write(&file, text).expect("written");
    let program = Program::serve(&[&["--file", file.to_str().expect("UTF-8")], more].concat());
    (directory, program)
}

/// Types of all fields below a document, by path; those of a list are its items' in common.
fn shape(at: String, value: &Value, found: &mut BTreeMap<String, String>) {
    let kind = match value {
        Value::Null => return,
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(items) => {
            for item in items {
                shape(format!("{at}[]"), item, found);
            }
            "list"
        }
        Value::Object(fields) => {
            // Labels are data, not fields.
            let labels =
                ["events", "errors", "codes", "severities", "responses", "types", "reloads", "saves"];
            let last = at.rsplit('.').next().unwrap_or_default();
            for (name, value) in fields {
                let name = if labels.contains(&last) { "*" } else { name };
                shape(format!("{at}.{name}"), value, found);
            }
            "object"
        }
    };
    let before = found.insert(at.clone(), kind.to_owned());
    assert!(before.is_none_or(|before| before == kind), "{at} is of two kinds");
}

fn shape_of(value: &Value) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    shape(String::new(), value, &mut found);
    found
}

/// [I3] Every endpoint has an example in docs/api.md with exactly the fields that there are.
#[test]
fn the_examples_of_the_api_have_the_shape_of_what_it_says() {
    let manual = fs::read_to_string("docs/api.md").expect("docs/api.md");
    let state = tempfile::tempdir().expect("a temporary directory");
    let text = entries(&[
        ("a.global", "240.0.0.1"),
        ("b.global", "10.0.0.0/8"),
        ("<x>", "240.0.0.1"),
        ("c.global", "127.0.0.1"),
    ]);
    let more = ["--state-dir", state.path().to_str().expect("UTF-8"), "--peers", "127.0.0.1:1"];
    let (directory, program) = served(&text, &more);
    let _ = crate::dig::dig(program.dns(), "a.global");
    let _ = crate::dig::dig(program.dns(), "x.svc.cluster.local.global");
    let file = directory.path().join("entries.json");
    fs::write(&file, text.replace("240.0.0.1", "240.0.0.9")).expect("written");
    wait_until("a change", || {
        (document(&program, "/api/v1/changes")["last"].as_u64() > Some(0)).then_some(())
    });
    // A failure, so that there is a last one.
    fs::write(&file, "[").expect("written");
    program.findings(&[
        ("address-loopback", 1),
        ("address-range", 1),
        ("file-unreadable", 1),
        ("host-no-address", 1),
        ("placeholder", 1),
    ]);
    wait_until("a look at the replica", || {
        let peers = document(&program, "/api/v1/status")["replicas"]["peers"].as_array().map_or(0, Vec::len);
        (peers > 0).then_some(())
    });
    let mut seen = 0;
    for chapter in manual.split("\n## ").skip(2) {
        let endpoint = chapter.lines().next().unwrap_or_default();
        let path = match endpoint {
            "names/NAME" => "names/a.global",
            "explain" => "explain?name=a.global&type=A",
            other => other,
        };
        let example = chapter.split("```json\n").nth(1).and_then(|rest| rest.split("```").next());
        let example: Value = serde_json::from_str(example.expect("an example")).expect(endpoint);
        let real = document(&program, &format!("/api/v1/{path}"));
        let (mut example, real) = (shape_of(&example), shape_of(&real));
        // What this program has no reason to show: a cluster, a certificate, a replica that answers, another log level.
        let elsewhere =
            [".stubDomains", ".certificate", ".replicas.peers[]", ".savedState[].heard", ".until"];
        let absent =
            |at: &str| elsewhere.iter().any(|prefix| at.starts_with(prefix)) && !real.contains_key(at);
        example.retain(|at, _| !absent(at));
        let known: BTreeMap<_, _> = real
            .clone()
            .into_iter()
            .filter(|(at, _)| !(endpoint == "status" && at.starts_with(".traffic.")))
            // Only one kind of item is in an example.
            .filter(|(at, _)| !at.ends_with(".trouble") && !at.ends_with(".troubles[]"))
            .collect();
        assert_eq!(example, known, "{endpoint}");
        seen += 1;
    }
    assert_eq!(seen, 10);
    let status = document(&program, "/api/v1/status");
    let mut rates = document(&program, "/api/v1/rates");
    rates.as_object_mut().expect("an object").remove("sequence");
    assert_eq!(shape_of(&status["traffic"]), shape_of(&rates));
    assert_eq!(status["sources"][0]["lastTrouble"]["reason"], "reload");
}

/// [I3]
#[test]
fn the_numbers_of_the_api_are_those_of_the_metrics() {
    let program = Program::serve(&EXAMPLE);
    for name in ["echo.default.global", "nobody.global", "example.com"] {
        let _ = crate::dig::dig(program.dns(), name);
    }
    let metric = |metrics: &str, name: &str, label: &str| -> f64 {
        let of = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(label);
        let value = |line: &str| line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        metrics.lines().filter(of).filter_map(value).sum()
    };
    let rates = wait_until("three queries", || {
        let rates = document(&program, "/api/v1/rates");
        let sent =
            rates["transports"][0]["durations"].as_array()?.iter().filter_map(Value::as_u64).sum::<u64>();
        (rates["queries"].as_u64()? >= 3 && sent >= 3).then_some(rates)
    });
    let metrics = program.get("/metrics").1;
    for rcode in ["NOERROR", "NXDOMAIN", "REFUSED", "SERVFAIL"] {
        let label = format!("rcode=\"{rcode}\"");
        assert_eq!(
            rates["responses"][rcode].as_f64(),
            Some(metric(&metrics, "globaldns_dns_responses_total", &label))
        );
    }
    for zone in rates["zones"].as_array().expect("a list") {
        let label = format!("zone=\"{}\"", zone["zone"].as_str().expect("a name"));
        assert_eq!(
            zone["queries"].as_f64(),
            Some(metric(&metrics, "globaldns_dns_responses_total", &label)),
            "{zone}"
        );
    }
    assert_eq!(
        rates["types"]["A"].as_f64(),
        Some(metric(&metrics, "globaldns_dns_requests_total", "type=\"A\""))
    );
    let status = document(&program, "/api/v1/status");
    for zone in status["zones"].as_array().expect("a list") {
        let label = format!("zone=\"{}\"", zone["zone"].as_str().expect("a name"));
        for (field, name) in [("hosts", "hosts"), ("serial", "serial"), ("answersHash", "answers_hash")] {
            let name = format!("globaldns_zone_{name}");
            assert_eq!(zone[field].as_f64(), Some(metric(&metrics, &name, &label)), "{field}");
        }
    }
    let hosts = status["zones"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|zone| zone["hosts"].as_u64())
        .sum::<u64>();
    assert_eq!(document(&program, "/api/v1/names")["matched"], hosts);
    assert!(status["ready"] == true && status["reasons"] == json!([]));
}

/// [I3]
#[test]
fn names_come_in_order_page_by_page_and_as_often_as_there_are() {
    let hosts: Vec<String> = (0..250).map(|n| format!("h{n}.team-{}.global", n % 3)).collect();
    let mut all: Vec<(&str, &str)> = hosts.iter().map(|host| (&**host, "240.0.0.1")).collect();
    all.extend([
        ("*.wild.global", "240.0.0.2"),
        ("Case.global", "240.0.0.3"),
        ("h1.x.inner.global", "240.0.0.4"),
    ]);
    let (_directory, program) = served(&entries(&all), &["--zone", "global", "--zone", "inner.global"]);
    let mut expected: Vec<String> = all.iter().map(|(host, _)| host.to_ascii_lowercase()).collect();
    expected.sort();
    for limit in [1_usize, 7, 100, 500] {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = document(&program, &format!("/api/v1/names?limit={limit}&after={after}"));
            let names = page["names"].as_array().expect("a list");
            assert!(names.len() <= limit);
            assert_eq!(
                (page["matched"].as_u64(), page["before"].as_u64()),
                (Some(253), Some(found.len() as u64))
            );
            found.extend(names.iter().filter_map(|name| name["host"].as_str()).map(str::to_owned));
            match page["next"].as_str() {
                Some(next) if limit > 1 || found.len() < 9 => after = next.to_owned(),
                _ => break,
            }
        }
        assert_eq!(found, expected[..found.len()], "{limit}");
        assert!(limit == 1 || found.len() == expected.len());
    }
    let matched = |query: &str| document(&program, &format!("/api/v1/names?{query}"))["matched"].clone();
    assert_eq!(matched("search=TEAM-2"), 83);
    assert_eq!(matched("search=*.wild"), 1);
    assert_eq!(matched("search=nobody"), 0);
    assert_eq!(matched("zone=inner.global"), 1);
    assert_eq!(matched("zone=Global.&search=h1."), 1);
    let name = document(&program, "/api/v1/names/%2A.WILD.global.");
    assert_eq!((&name["host"], &name["a"]), (&json!("*.wild.global"), &json!(["240.0.0.2"])));
    assert_eq!(name["ownerCount"], 1);
    assert!(name["owners"][0].as_str().is_some_and(|owner| owner.ends_with("entries.json:1[251]")), "{name}");
}

/// [I3] [F1]
#[test]
fn findings_are_filtered_and_come_page_by_page_the_worst_first() {
    let hosts: Vec<String> = (0..30).map(|n| format!("h{n}.global")).collect();
    let mut all: Vec<(&str, &str)> = hosts.iter().map(|host| (&**host, "127.0.0.1")).collect();
    all.extend([("<x>", "240.0.0.1"), ("x.example.com", "240.0.0.2")]);
    let (_directory, program) = served(&entries(&all), &[]);
    let whole = document(&program, "/api/v1/findings?limit=500");
    let severities = whole["severities"].clone();
    assert_eq!((&severities["error"], &severities["info"]), (&json!(1), &json!(1)));
    let all: Vec<Value> = whole["findings"].as_array().cloned().expect("a list");
    assert_eq!(whole["matched"].as_u64(), Some(all.len() as u64));
    assert!(all[0]["severity"] == "error" && all[all.len() - 1]["severity"] == "info", "{all:?}");
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let page = document(&program, &format!("/api/v1/findings?limit=7&after={after}"));
        found.extend(page["findings"].as_array().cloned().expect("a list"));
        match page["next"].as_str() {
            Some(next) => after = next.to_owned(),
            None => break,
        }
    }
    assert_eq!(found, all);
    let loopback =
        document(&program, "/api/v1/findings?code=address-loopback&severity=warning&object=entries.json");
    assert_eq!(loopback["matched"], 30);
    assert_eq!(document(&program, "/api/v1/findings?severity=info&code=address-loopback")["matched"], 0);
}

/// [I3]
#[test]
fn what_cannot_be_meant_is_refused_with_field_value_reason_and_remedy() {
    let program = Program::serve(&EXAMPLE);
    let long = format!("/api/v1/names?search={}", "x".repeat(300));
    let longer = format!("/api/v1/names?search={}", "x".repeat(9000));
    let cases = [
        ("GET", "/api/v1/names?bogus=1", 400, "query", "bogus"),
        ("GET", "/api/v1/names?limit=0", 400, "limit", "0"),
        ("GET", "/api/v1/names?limit=501", 400, "limit", "501"),
        ("GET", "/api/v1/names?limit=x", 400, "limit", "x"),
        ("GET", "/api/v1/names?limit=1&limit=2", 400, "limit", "1"),
        ("GET", "/api/v1/names?zone=example.com", 400, "zone", "example.com"),
        ("GET", "/api/v1/names?zone=%00", 400, "zone", "\0"),
        ("GET", &long, 400, "search", ""),
        ("GET", &longer, 400, "query", ""),
        ("GET", "/api/v1/names/no%20name", 400, "name", "no name"),
        ("GET", "/api/v1/names/%FF", 400, "name", "%FF"),
        ("GET", "/api/v1/names/nobody.global", 404, "name", "nobody.global"),
        ("GET", "/api/v1/names/echo.default.global?x=", 400, "query", "x"),
        ("GET", "/api/v1/status?pretty", 400, "query", "pretty"),
        ("GET", "/api/v1/findings?severity=fatal", 400, "severity", "fatal"),
        ("GET", "/api/v1/findings?code=none", 400, "code", "none"),
        ("GET", "/api/v1/findings?after=!", 400, "after", "!"),
        ("GET", "/api/v1/nope", 404, "path", "/api/v1/nope"),
        ("GET", "/api/v2/status", 404, "path", "/api/v2/status"),
        ("GET", "/api", 404, "path", "/api"),
        ("POST", "/api/v1/status", 405, "method", "POST"),
        ("DELETE", "/api/v1/names/a.global", 405, "method", "DELETE"),
        ("POST", "/api/v1/log-level", 405, "method", "POST"),
        ("GET", "/api/v1/log-level?level=debug", 400, "query", "level"),
    ];
    for (method, path, status, field, value) in cases {
        let reply = ask(admin(&program), method, path, &[]);
        let error = &reply.json()["error"];
        assert_eq!((reply.status, error["field"].as_str()), (status, Some(field)), "{path}: {}", reply.body);
        assert!(value.is_empty() || error["value"] == value, "{path}: {error}");
        for text in ["reason", "remedy"] {
            assert!(error[text].as_str().is_some_and(|text| !text.is_empty()), "{path}: {error}");
        }
        assert!(reply.body.len() < 1000 && reply.header("content-type") == "application/json", "{path}");
    }
    assert_eq!(ask(admin(&program), "POST", "/api/v1/status", &[]).header("allow"), "GET, HEAD");
    assert_eq!(ask(admin(&program), "POST", "/api/v1/log-level", &[]).header("allow"), "GET, HEAD, PUT");
    let head = ask(admin(&program), "HEAD", "/api/v1/status", &[]);
    assert_eq!((head.status, &*head.body, head.header("content-type")), (200, "", "application/json"));
}

/// [I3]
#[test]
fn strange_hosts_and_other_sites_get_no_document() {
    let program =
        Program::serve(&[&EXAMPLE[..], &["--admin-host", "api.example.com,other.example.com"]].concat());
    let hosts = [
        ("localhost:9153", 200),
        ("globaldns.istio-system.svc:9153", 200),
        ("api.example.com", 200),
        ("OTHER.example.com:6443", 200),
        ("example.com", 421),
        ("globaldns.svc.example.com", 421),
    ];
    for (host, status) in hosts {
        for path in ["/", "/api/v1/status", "/api/v1/log-level"] {
            let reply = ask(admin(&program), "GET", path, &[("Host", host)]);
            assert_eq!(reply.status, status, "{host}{path}");
            assert!(status == 200 || reply.json()["error"]["field"] == "Host", "{host}: {}", reply.body);
            assert!(reply.header("access-control-allow-origin").is_empty());
            assert_eq!(reply.header("x-content-type-options"), "nosniff");
            assert_eq!(reply.header("cross-origin-resource-policy"), "same-origin");
        }
        // What tells no name is for scrapers, under whatever name.
        assert_eq!(ask(admin(&program), "GET", "/metrics", &[("Host", host)]).status, 200);
    }
    // No script can send this.
    let headers = [("Host", "example.com"), ("Sec-Globaldns", "1")];
    assert_eq!(ask(admin(&program), "GET", "/api/v1/status", &headers).status, 200);
    // A whole URI says where it is for.
    let elsewhere = ask(admin(&program), "GET", "http://example.com/api/v1/status", &[]);
    assert_eq!(elsewhere.status, 421);
    for (site, mode, status) in [
        ("cross-site", "no-cors", 403),
        ("same-site", "cors", 403),
        ("cross-site", "navigate", 200),
        ("same-origin", "cors", 200),
        ("none", "navigate", 200),
    ] {
        let headers = [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Origin", "https://example.com")];
        let reply = ask(admin(&program), "GET", "/api/v1/status", &headers);
        assert_eq!(reply.status, status, "{site} {mode}");
        assert!(reply.header("access-control-allow-origin").is_empty());
    }
}

/// [I3]
#[test]
fn an_etag_is_the_same_until_something_changes() {
    let (directory, program) = served(&entries(&[("a.global", "240.0.0.1")]), &[]);
    for path in ["/api/v1/names?search=global", "/api/v1/names/a.global", "/api/v1/findings"] {
        let first = ask(admin(&program), "GET", path, &[]);
        let tag = first.header("etag").to_owned();
        assert!(tag.len() > 2, "{path}");
        let again = ask(admin(&program), "GET", path, &[("If-None-Match", &tag)]);
        assert_eq!((again.status, &*again.body), (304, ""), "{path}");
        assert_eq!(ask(admin(&program), "GET", path, &[("If-None-Match", "\"x\"")]).status, 200);
    }
    let before = ask(admin(&program), "GET", "/api/v1/names", &[]);
    fs::write(directory.path().join("entries.json"), entries(&[("a.global", "240.0.0.2")])).expect("written");
    let tag = before.header("etag").to_owned();
    let after = wait_until("the change", || {
        let reply = ask(admin(&program), "GET", "/api/v1/names", &[("If-None-Match", &tag)]);
        (reply.status == 200 && reply.body.contains("240.0.0.2")).then_some(reply)
    });
    let (before, after) = (before.json(), after.json());
    assert!(before["sequence"]["answers"].as_u64() < after["sequence"]["answers"].as_u64(), "{after}");
}

/// [I3] [L1] Slow readers, and searches without end, one after the other.
#[test]
fn who_reads_the_api_slowly_or_all_the_time_holds_up_no_answer() {
    let hosts: Vec<String> = (0..2000).map(|n| format!("{}{n}.default.global", "e".repeat(50))).collect();
    let hosts: Vec<_> = hosts.iter().map(|host| (host.as_str(), "240.0.0.1")).collect();
    let (_directory, program) = served(&entries(&hosts), &[]);
    let name = hosts[0].0;
    let admin = admin(&program);
    let before = program.descriptors();
    let mut held = Vec::new();
    for _ in 0..100 {
        // Small segments and buffers: otherwise the kernel takes what nobody reads.
        let socket = Socket::new(Domain::for_address(admin), Type::STREAM, None).expect("a socket");
        socket.set_tcp_mss(536).expect("a segment size");
        socket.set_recv_buffer_size(2048).expect("a buffer size");
        socket.connect(&admin.into()).expect("connects");
        let mut stream = TcpStream::from(socket);
        // It may have had to make room already.
        let _ = stream.write_all(b"GET /api/v1/names?limit=500 HTTP/1.1\r\nHost: localhost\r\n\r\n");
        held.push(stream);
    }
    wait_until("32 connections", || (program.descriptors() == before + 32).then_some(()));
    let (done, progress) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let client = client(program.dns());
            while !done.load(Ordering::Relaxed) {
                client.send(&query(1, name)).expect("sent");
                answered(&client).expect("a reply");
                progress.fetch_add(1, Ordering::Relaxed);
            }
        });
        for n in 0..50 {
            let path = if n % 2 == 0 { "/api/v1/names?search=e1" } else { "/api/v1/findings" };
            assert_eq!(ask(admin, "GET", path, &[]).status, 200, "{path}");
        }
        let seen = progress.load(Ordering::Relaxed);
        wait_until("more answers", || (progress.load(Ordering::Relaxed) > seen).then_some(()));
        done.store(true, Ordering::Relaxed);
    });
    drop(held);
    wait_until("all of them gone", || (program.descriptors() <= before + 1).then_some(()));
}

/// [I4]
#[test]
fn the_page_has_a_policy_that_its_script_and_style_fit() {
    let program = Program::serve(&EXAMPLE);
    let page = ask(admin(&program), "GET", "/", &[]);
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy: BTreeMap<&str, &str> = page
        .header("content-security-policy")
        .split(';')
        .map(|directive| directive.trim().split_once(' ').expect("a name and a value"))
        .collect();
    let inside = |tag: &str| {
        let begin = format!("<{tag}>");
        let mut parts = page.body.split(&begin);
        let text = parts.nth(1).and_then(|rest| rest.split(&format!("</{tag}>")).next()).expect(tag);
        assert_eq!(parts.count(), 0, "there is one <{tag}>");
        let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
        format!("'sha256-{}'", base64::prelude::BASE64_STANDARD.encode(digest))
    };
    assert_eq!(policy["script-src"], inside("script"));
    assert_eq!(policy["style-src"], inside("style"));
    for (directive, value) in [
        ("default-src", "'none'"),
        ("connect-src", "'self'"),
        ("base-uri", "'none'"),
        ("form-action", "'none'"),
        ("frame-ancestors", "'none'"),
        ("require-trusted-types-for", "'script'"),
    ] {
        assert_eq!(policy.get(directive), Some(&value), "{directive}");
    }
    for name in ["x-content-type-options", "referrer-policy", "x-frame-options"] {
        assert!(!page.header(name).is_empty(), "{name}");
    }
    // Nothing from elsewhere, nothing by absolute path, no handler or style in an attribute, and no HTML of text.
    for text in [
        "http://",
        "https://",
        "src=",
        "href=\"/",
        " onclick",
        " style=\"",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
    ] {
        let allowed = page.body.replace("http://www.w3.org/2000/svg", "");
        assert!(!allowed.contains(text), "{text}");
    }
    assert!(!page.body.replace("innerHTML ===", "").contains("innerHTML ="), "HTML is made of text");
    assert_eq!(ask(admin(&program), "POST", "/", &[]).status, 405);
}

/// [I3] [I4] [I5]
#[test]
fn without_pages_there_are_none_and_nothing_that_they_would_show() {
    let program = Program::serve(&[&EXAMPLE[..], &["--admin-pages", "off"]].concat());
    for (path, status) in [
        ("/", 404),
        ("/api/v1/status", 404),
        ("/api/v1/log-level", 404),
        ("/metrics", 200),
        ("/health", 200),
        ("/ready", 200),
    ] {
        assert_eq!(ask(admin(&program), "GET", path, &[]).status, status, "{path}");
    }
    let refused = run(globaldns(
        &[&["serve"], &EXAMPLE[..], &["--admin-pages", "off", "--peers", "localhost"]].concat(),
    ));
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("--peers needs the page and the API"), "{}", refused.stderr);
    for (flag, value) in [("--peers", "http://a"), ("--admin-host", "a:80"), ("--admin-pages", "yes")] {
        let refused = run(globaldns(&[&["serve"], &EXAMPLE[..], &[flag, value]].concat()));
        assert_eq!(refused.code, Some(2), "{flag}");
        assert!(refused.stderr.contains(flag) && refused.stderr.contains(value), "{}", refused.stderr);
    }
}

/// [I5] [L8]
#[test]
fn replicas_are_told_whether_they_agree_and_since_when_not() {
    let (directory, other) = served(&entries(&[("a.global", "240.0.0.1")]), &[]);
    let there = admin(&other).to_string();
    // A port that nobody listens on.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let nobody = free.local_addr().expect("an address").to_string();
    drop(free);
    let file = directory.path().join("entries.json");
    let file = file.to_str().expect("UTF-8");
    let program = Program::serve(&[
        "--file",
        file,
        "--peers",
        &there,
        "--peers",
        &nobody,
        "--peers",
        "no-such-name.invalid",
    ]);
    let peer = |address: &str, passes: &dyn Fn(&Value) -> bool| {
        wait_until(&format!("the state of {address}"), || {
            let replicas = document(&program, "/api/v1/status")["replicas"].clone();
            let peers = replicas["peers"].as_array()?.clone();
            peers.into_iter().find(|peer| peer["address"] == address && passes(peer))
        })
    };
    let agrees = peer(&there, &|peer| peer["state"] == "agrees");
    assert_eq!((&agrees["zones"][0]["agrees"], &agrees["zones"][0]["hosts"]), (&json!(true), &json!(1)));
    assert_eq!(agrees["instance"]["id"], document(&other, "/api/v1/status")["instance"]["id"]);
    let silent = peer(&nobody, &|peer| peer["state"] == "silent");
    assert!(silent["trouble"].as_str().is_some_and(|trouble| trouble.contains("refused")), "{silent}");
    let replicas = document(&program, "/api/v1/status")["replicas"].clone();
    assert!(
        replicas["troubles"][0].as_str().is_some_and(|trouble| trouble.contains("no-such-name.invalid")),
        "{replicas}"
    );
    drop(other);
    let silent = peer(&there, &|peer| peer["state"] == "silent");
    assert_eq!(silent["instance"], agrees["instance"], "what was known stays");
}

/// [I5]
#[test]
fn a_replica_with_other_entries_differs() {
    let (_one, other) = served(&entries(&[("a.global", "240.0.0.1")]), &[]);
    let (_two, program) =
        served(&entries(&[("a.global", "240.0.0.2")]), &["--peers", &admin(&other).to_string()]);
    let peer = wait_until("a difference", || {
        let peer = document(&program, "/api/v1/status")["replicas"]["peers"][0].clone();
        (peer["state"] == "differs").then_some(peer)
    });
    assert_eq!(peer["zones"][0]["agrees"], false);
    assert!(peer["zones"][0]["differsSince"].is_string(), "{peer}");
}
