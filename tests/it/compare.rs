//! `globaldns compare`, between real servers: ours with other settings, and one that does what istiocoredns did.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use serde_json::{Value, json};

use crate::cli::{end, refused};
use crate::support::{Ended, Program, globaldns, run};

/// The plugin's own constant.
const TTL: u32 = 3600;

/// What istiocoredns keeps: hosts as they are written, to IPv4 addresses.
type Map = HashMap<String, Vec<Ipv4Addr>>;

/// The plugin's map of these entries. The last entry of a host wins, as in its loop.
fn plugin_map(entries: &[Value]) -> Map {
    let mut map = Map::new();
    for entry in entries {
        let strings = |key: &str| -> Vec<&str> {
            entry["spec"][key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        };
        let strict = ["workloadSelector"].iter().any(|field| !entry["spec"][field].is_null());
        let invalid = strings("addresses").iter().any(|text| text.contains(':'));
        if strict
            || invalid
            || !["STATIC", "DNS"].contains(&entry["spec"]["resolution"].as_str().unwrap_or("NONE"))
        {
            continue;
        }
        let addresses: Vec<Ipv4Addr> =
            strings("addresses").iter().filter_map(|text| text.parse().ok()).collect();
        if addresses.is_empty() {
            continue;
        }
        for host in strings("hosts") {
            let key = match host.strip_prefix('*') {
                Some(suffix) => format!("{suffix}."),
                None => format!("{host}."),
            };
            map.insert(key, addresses.clone());
        }
    }
    map
}

fn look_up<'m>(map: &'m Map, name: &str) -> Option<&'m Vec<Ipv4Addr>> {
    if let Some(found) = map.get(name) {
        return Some(found);
    }
    let pieces: Vec<&str> = name.split('.').skip(1).collect();
    (0..pieces.len().saturating_sub(2)).find_map(|at| map.get(&format!(".{}", pieces[at..].join("."))))
}

/// CoreDNS with the plugin behind it: its zones from the map, everything else as a resolver that knows none of it.
struct Plugin {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

impl Plugin {
    fn start(map: Map) -> Plugin {
        Plugin::start_until(map, usize::MAX)
    }

    /// One that is silent after so many questions.
    fn start_until(map: Map, last: usize) -> Plugin {
        Plugin::answering(move |nth, query| (nth < last).then(|| reply(&map, &["global."], query)))
    }

    /// Anything that replies; the questions are counted from 0.
    fn answering(answer: impl Fn(usize, &Message) -> Option<Message> + Send + 'static) -> Plugin {
        Plugin::sending(move |nth, octets| {
            let reply = answer(nth, &Message::from_vec(octets).ok()?)?;
            Some(reply.to_vec().expect("a reply that can be encoded"))
        })
    }

    fn sending(answer: impl Fn(usize, &[u8]) -> Option<Vec<u8>> + Send + 'static) -> Plugin {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        std::thread::spawn(move || {
            let mut room = [0; 4096];
            while let Ok((length, client)) = socket.recv_from(&mut room) {
                let nth = count.fetch_add(1, Ordering::Relaxed);
                if let Some(reply) = answer(nth, &room[..length]) {
                    socket.send_to(&reply, client).expect("sent");
                }
            }
        });
        Plugin { address, asked }
    }

    fn address(&self) -> String {
        self.address.to_string()
    }
}

/// The name that is asked for, as it is spelled, with its dot.
fn asked(query: &Message) -> String {
    query.queries[0].name.to_ascii()
}

fn reply(map: &Map, zones: &[&str], query: &Message) -> Message {
    let mut reply = query.clone();
    reply.metadata.message_type = MessageType::Response;
    let question = &query.queries[0];
    let name = asked(query);
    let ours = zones.iter().any(|zone| name.to_ascii_lowercase().ends_with(zone));
    reply.metadata.authoritative = ours;
    reply.metadata.recursion_available = !ours;
    let found = if ours && question.query_type == RecordType::A { look_up(map, &name) } else { None };
    for address in found.into_iter().flatten() {
        reply.answers.push(Record::from_rdata(question.name.clone(), TTL, RData::A(A(*address))));
    }
    if reply.answers.is_empty() {
        reply.metadata.response_code = ResponseCode::NXDomain;
    }
    reply
}

fn entry(name: &str, created: u32, hosts: &[&str], addresses: &[&str], more: Value) -> Value {
    let mut entry = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"namespace": name, "name": name, "creationTimestamp": format!("2024-01-01T00:00:{created:02}Z")},
        "spec": {"hosts": hosts, "addresses": addresses, "resolution": "DNS"},
    });
    let spec = entry["spec"].as_object_mut().expect("a map");
    spec.extend(more.as_object().cloned().unwrap_or_default());
    entry
}

/// A mesh as old installs have them.
fn mesh() -> Vec<Value> {
    vec![
        entry("echo", 1, &["echo.default.global"], &["127.255.0.1"], json!({})),
        entry("cidr", 1, &["cidr.shop.global"], &["240.0.0.2", "240.0.0.3/32"], json!({})),
        entry("dual", 1, &["dual.shop.global"], &["240.0.0.4", "2001:db8::4"], json!({})),
        entry("none", 1, &["none.shop.global"], &["240.0.0.5"], json!({"resolution": "NONE"})),
        entry("first", 1, &["twice.shop.global"], &["240.0.1.1"], json!({})),
        entry("second", 2, &["twice.shop.global"], &["240.0.1.2"], json!({})),
        entry("wild", 1, &["*.wild.global"], &["240.0.2.1"], json!({})),
        entry("upper", 1, &["Upper.shop.global"], &["240.0.2.2"], json!({})),
        entry("young", 1, &["young.shop.global"], &["240.0.2.3"], json!({"workloadSelector": {}})),
        entry("hidden", 1, &["hidden.shop.global"], &["240.0.2.4"], json!({"exportTo": ["~"]})),
        entry("far", 1, &["httpbin.bar.cluster2"], &["240.0.3.1"], json!({})),
    ]
}

/// The entries in a file, and the new server that serves them.
struct New {
    file: String,
    zones: &'static str,
    server: Program,
    _directory: tempfile::TempDir,
}

impl New {
    fn serve(entries: &[Value], flags: &[&str]) -> New {
        New::serve_zones("global,cluster2", entries, flags)
    }

    fn serve_zones(zones: &'static str, entries: &[Value], flags: &[&str]) -> New {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("entries.json");
        std::fs::write(&path, json!({"kind": "List", "items": entries}).to_string()).expect("written");
        let file = path.to_str().expect("UTF-8").to_owned();
        let server = Program::serve(&[&["--file", &file, "--zone", zones], flags].concat());
        New { file, zones, server, _directory: directory }
    }

    fn compare(&self, old: &str, flags: &[&str]) -> Ended {
        let new = self.server.dns().to_string();
        let args = ["compare", "--old", old, "--new", &new, "--zone", self.zones];
        let patient = ["--timeout", "10s"];
        let patient = if flags.contains(&"--timeout") { &[][..] } else { &patient[..] };
        end(&[&args[..], patient, flags].concat())
    }
}

fn report(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}{}", ended.stdout, ended.stderr))
}

/// Clause to example.
fn clauses(report: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let classes = report["classes"].as_array().expect("a list");
    classes.iter().map(|class| (text(&class["clause"]), text(&class["example"]))).collect()
}

/// [K1] [K2] [K3] [K5]
#[test]
fn every_difference_from_istiocoredns_is_explained_by_its_clause() {
    let entries = mesh();
    let old = Plugin::start(plugin_map(&entries));
    let new = New::serve(&entries, &[]);
    let ended = new.compare(&old.address(), &["--file", &new.file, "--output", "json"]);
    let report = report(&ended);
    assert_eq!(report["unexplained"], json!([]), "{report:#}");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let found = clauses(&report);
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["A1", "A5", "D1", "D15", "D2", "D3", "D4", "D8", "O1", "O5", "S5", "Z1"],
        "{report:#}"
    );
    assert_eq!(
        found["A5"],
        "none.shop.global A: NXDOMAIN aa, no SOA → NOERROR aa 240.0.0.5 (TTL 30) (FILE:1[4]: resolution is NONE, \
         which istiocoredns skips)"
            .replace("FILE", &new.file)
    );
    // One question about each; that of `hidden` loses its address, and it is said.
    let of = |clause: &str| {
        let classes = report["classes"].as_array().expect("a list");
        classes.iter().find(|class| class["clause"] == clause).expect("a class")
    };
    assert_eq!((&of("O5")["questions"], &of("O5")["losingAnAddress"]), (&json!(1), &json!(1)));
    assert_eq!((&of("O1")["questions"], &of("O1")["losingAnAddress"]), (&json!(1), &json!(1)));
    assert_eq!(
        report["questions"],
        old.asked.load(Ordering::Relaxed) - 1,
        "one was to see whether it is there"
    );

    assert_eq!((&report["hosts"], &report["entries"]), (&json!(10), &json!(11)), "two have the same");
    let strict = new.compare(&old.address(), &["--file", &new.file, "--strict"]);
    let header = format!("names (10 hosts of 11 entries); old {}, new {}", old.address, new.server.dns());
    assert!(strict.stdout.lines().next().is_some_and(|line| line.ends_with(&header)), "{}", strict.stdout);
    assert_eq!(strict.code, Some(1), "explained differences are differences");
    assert!(
        strict.stdout.contains("O5  an entry that exportTo keeps from being served"),
        "{}",
        strict.stdout
    );
    assert!(strict.stdout.contains("1 of them lose an address"), "{}", strict.stdout);
}

/// [K4] [K5]
#[test]
fn a_lost_address_is_told_in_full_and_fails() {
    let entries = mesh();
    let mut known = plugin_map(&entries);
    // From an entry that the new server never got, and another than the entries say.
    known.insert("lost.shop.global.".to_owned(), vec![Ipv4Addr::new(240, 0, 9, 9)]);
    known.insert("echo.default.global.".to_owned(), vec![Ipv4Addr::new(240, 0, 9, 8)]);
    let old = Plugin::start(known);
    let new = New::serve(&entries, &[]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names = directory.path().join("names");
    std::fs::write(&names, "# what we use\nlost.shop.global A\necho.default.global\n").expect("written");
    let names = names.to_str().expect("UTF-8");
    let ended =
        new.compare(&old.address(), &["--file", &new.file, "--names", names, "--only-names", "--type", "A"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    for wanted in [
        "\nlost.shop.global A: 240.0.9.9 became nothing, and no entry would have istiocoredns answer that\n  old  \
         NOERROR aa 240.0.9.9 (TTL 3600)\n  new  NXDOMAIN aa, SOA of global (TTL 5)\n  do   find whoever gives",
        "\necho.default.global A: 240.0.9.8 became 127.255.0.1, and no entry for the name has just these addresses\n",
        "       2  unexplained\n",
    ] {
        assert!(ended.stdout.contains(wanted), "{wanted}\nin\n{}", ended.stdout);
    }
}

/// [K1] [K4] What the old server answers from the entries is lost with its zone; what it forwards is not.
#[test]
fn a_zone_that_the_new_server_lacks_is_found() {
    let mut entries = mesh();
    entries.push(entry("api", 1, &["api.example.com"], &["240.0.4.1"], json!({})));
    entries.push(entry("www", 1, &["www.example.com"], &[], json!({})));
    let map = plugin_map(&entries);
    let old = Plugin::answering(move |_, query| {
        let public = Map::from([("api.example.com.".to_owned(), vec![Ipv4Addr::new(192, 0, 2, 7)])]);
        assert_ne!(asked(query), "www.example.com.", "nobody has an address of it");
        Some(match asked(query).as_str() {
            "api.example.com." => reply(&public, &["com."], query),
            _ => reply(&map, &["global.", "cluster2."], query),
        })
    });
    let new = New::serve_zones("global", &entries, &[]);
    let ended = new.compare(&old.address(), &["--file", &new.file, "--output", "json"]);
    let report = report(&ended);
    let unexplained = report["unexplained"].as_array().expect("a list");
    assert_eq!((ended.code, unexplained.len()), (Some(1), 1), "{report:#}");
    let lost = &unexplained[0];
    assert_eq!((&lost["name"], &lost["type"]), (&json!("httpbin.bar.cluster2"), &json!("A")));
    let why =
        format!("the old server answers 240.0.3.1 from {}:1[11], and the name is in no zone here", new.file);
    assert_eq!(lost["why"], why);
    assert!(lost["remedy"].as_str().is_some_and(|text| text.starts_with("name its zone to both")), "{lost}");
    assert_eq!(
        [&report["entries"], &report["hosts"], &report["hostsOutside"], &report["hostsNotAsked"]],
        [&json!(13), &json!(9), &json!(2), &json!(1)]
    );
    assert!(ended.stderr.contains("\nglobaldns: 1 host of the entries is in none"), "{}", ended.stderr);
    let text = new.compare(&old.address(), &["--file", &new.file]).stdout;
    assert!(text.contains(" names (9 hosts and 2 outside the zones of 13 entries); "), "{text}");

    let ended = new.compare(&old.address(), &["--file", &new.file, "--only-zones", "--output", "json"]);
    let report = self::report(&ended);
    assert_eq!(
        (ended.code, &report["hostsOutside"], &report["hostsNotAsked"]),
        (Some(0), &json!(0), &json!(3))
    );
}

/// [K1] [K5] Names that the old server cannot forward do not end it: what it serves counts.
#[test]
fn silence_outside_the_zones_is_not_the_end_of_a_server() {
    let mut entries = mesh();
    for number in 0..60 {
        let host = format!("api{number}.example.com");
        entries.push(entry(&host, 1, &[&host], &["240.0.4.1"], json!({})));
    }
    let map = plugin_map(&entries);
    let old = Plugin::answering(move |_, query| {
        (!asked(query).ends_with(".com.")).then(|| reply(&map, &["global."], query))
    });
    let new = New::serve(&entries, &[]);
    let flags = ["--file", &new.file, "--timeout", "1s", "--tries", "1", "--in-flight", "100"];
    let ended = new.compare(&old.address(), &flags);
    assert!(ended.stdout.contains("60 outside the zones of 71 entries"), "{}{}", ended.stdout, ended.stderr);
}

/// [K5] A reply that is no DNS message is one, told for what it is.
#[test]
fn a_broken_reply_is_not_silence() {
    let entries: Vec<Value> = (0..60)
        .map(|number| {
            let host = format!("a{number}.global");
            entry(&host, 1, &[&host], &["240.0.0.1"], json!({}))
        })
        .collect();
    // It says that there are records, and there are none.
    let old = Plugin::sending(|_, query| {
        let mut reply = query.to_vec();
        reply[2] |= 0x80;
        reply[7] = 9;
        Some(reply)
    });
    let new = New::serve_zones("global", &entries, &[]);
    let ended = new.compare(&old.address(), &["--file", &new.file]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert!(
        ended.stdout.contains("  old  no reply: a reply that cannot be read: "),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
}

/// [K5] Whoever asks for nothing finds everything in order.
#[test]
fn a_comparison_without_a_host_in_a_zone_fails() {
    let empty = tempfile::tempdir().expect("a temporary directory");
    let empty = empty.path().to_str().expect("UTF-8");
    let servers = ["compare", "--old", "127.0.0.1:9", "--new", "127.0.0.2:9", "--strict"];
    for (flags, wanted) in [
        (
            &["--file", empty][..],
            format!(
                "no host of the 0 entries in {empty} lies in zone global; check --file, --context, --namespace and --zone"
            ),
        ),
        (
            &["--file", "examples/emco", "--zone", "a.example,b.example"],
            "no host of the 7 entries in examples/emco lies in zones a.example, b.example; check --file"
                .to_owned(),
        ),
        (
            &["--name", "echo.default.example"],
            "none of the names given lies in zone global; check them and --zone".to_owned(),
        ),
    ] {
        let ended = end(&[&servers[..], flags].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
        assert!(ended.stderr.starts_with(&format!("globaldns: {wanted}")), "{}", ended.stderr);
    }
}

/// [K2] [K6] [D2] Order is no difference, and neither is the transport.
#[test]
fn two_of_us_differ_in_what_their_flags_say() {
    let entries = [entry("a", 1, &["many.global"], &["240.0.0.1", "240.0.0.2", "240.0.0.3"], json!({}))];
    let new = New::serve(&entries, &[]);
    let old = New::serve(&entries, &["--ttl", "60", "--negative-ttl", "7"]);
    let address = old.server.dns().to_string();
    for flags in
        [&["--file", &new.file, "--tcp"][..], &["--file", &new.file, "--rate", "200", "--in-flight", "1"]]
    {
        let ended = new.compare(&address, &[flags, &["--output", "json"]].concat());
        let report = report(&ended);
        assert_eq!((ended.code, &report["unexplained"]), (Some(0), &json!([])), "{report:#}");
        let found = clauses(&report);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["D2", "D4"], "{report:#}");
        assert!(found["D2"].ends_with("(60 → 30)"), "{}", found["D2"]);
    }
    let same = New::serve(&entries, &[]);
    let ended = new.compare(&same.server.dns().to_string(), &["--file", &new.file, "--strict"]);
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// [K3] [K4] A list of names needs no cluster, and then no address that changes is explained.
#[test]
fn names_alone_contact_no_cluster_and_explain_no_address() {
    let entries = mesh();
    let old = Plugin::start(plugin_map(&entries));
    let new = New::serve(&entries, &[]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let names = directory.path().join("names");
    std::fs::write(&names, "echo.default.global\nnone.shop.global\n").expect("written");
    let ended = new.compare(&old.address(), &["--names", names.to_str().expect("UTF-8"), "--output", "json"]);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let report = report(&ended);
    let unexplained = report["unexplained"].as_array().expect("a list");
    let asked: Vec<_> = unexplained.iter().map(|one| format!("{} {}", one["name"], one["type"])).collect();
    assert!(asked.contains(&r#""none.shop.global" "A""#.to_owned()), "{report:#}");
    assert!(!asked.contains(&r#""echo.default.global" "A""#.to_owned()), "{report:#}");
    let remedy = "let the entries explain it: --file or --kubernetes, with the flags of the new server";
    assert!(unexplained.iter().any(|one| one["remedy"] == remedy), "{report:#}");
    assert_eq!((&report["entries"], &report["hosts"]), (&json!(null), &json!(0)));

    // The same names as arguments; one has a type of its own.
    let old_address = old.address();
    let flags = ["--name", "echo.default.global HTTPS,none.shop.global", "--type", "A", "--only-names"];
    let text = new.compare(&old_address, &flags);
    assert_eq!(text.code, Some(1), "{}", text.stderr);
    assert!(text.stdout.starts_with("3 questions about 2 names (no entries read); "), "{}", text.stdout);
    // A variable names a source as its flag does.
    let dns = new.server.dns().to_string();
    let servers = ["compare", "--old", &old_address, "--new", &dns, "--output", "json"];
    let mut with_entries = globaldns(&[&servers[..], &flags].concat());
    with_entries.env("GLOBALDNS_FILE", &new.file);
    assert_eq!(self::report(&run(with_entries))["entries"], 11);
}

/// [K1] Standard input that never ends is not waited for without a word.
#[test]
fn names_from_an_open_standard_input_say_what_they_wait_for() {
    let entries = mesh();
    let new = New::serve(&entries, &[]);
    let old = New::serve(&entries, &[]);
    let (input, mut names) = std::io::pipe().expect("a pipe");
    let addresses = [old.server.dns().to_string(), new.server.dns().to_string()];
    let mut command = globaldns(&["compare", "--old", &addresses[0], "--new", &addresses[1], "--names", "-"]);
    command.stdin(input);
    let program = Program::spawn(command);
    names.write_all(b"echo.default.global\n").expect("written");
    let told = program.log_containing("--names - waits for the end of standard input");
    assert!(told.contains("--name takes names as arguments"), "{told}");
    drop(names);
    let ended = program.wait();
    assert_eq!(ended.code, Some(0), "{}{}", ended.stdout, ended.stderr);
}

/// [K5] [X1]
#[test]
fn a_server_that_does_not_answer_is_named_with_its_flag() {
    let new = New::serve(&mesh(), &[]);
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let silent = silent.local_addr().map(|address| (address, silent)).expect("bound");
    let closed = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
    for (address, why) in
        [(silent.0, "no reply came in time"), (closed, "it is unreachable over UDP: connection refused")]
    {
        let quick = ["--file", &new.file, "--tries", "1"];
        let old = address.to_string();
        let server = new.server.dns().to_string();
        let args =
            ["compare", "--old", &old, "--new", &server, "--timeout", "50ms", "--zone", "global,cluster2"];
        let ended = end(&[&args[..], &quick].concat());
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
        let wanted = format!("globaldns: --old {old} does not answer over UDP: {why}; give the address");
        assert!(ended.stderr.starts_with(&wanted), "{}", ended.stderr);
    }
}

/// [K5] A server that goes away in the middle is not asked for all the rest.
#[test]
fn a_server_that_stops_answering_ends_the_comparison() {
    let entries = mesh();
    let old = Plugin::start_until(plugin_map(&entries), 5);
    let new = New::serve(&entries, &[]);
    let ended = new.compare(&old.address(), &["--file", &new.file, "--timeout", "500ms", "--tries", "1"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    let wanted = format!("--old {} has stopped answering: no reply to 50 questions in a row; ", old.address);
    assert!(ended.stderr.contains(&wanted), "{}", ended.stderr);
}

/// [K6] A rate is kept from below, however slow the machine is; and IPv6 addresses are addresses.
#[test]
fn no_more_questions_a_second_are_asked_than_the_rate_allows() {
    let entries = [entry("a", 1, &["a.global"], &["240.0.0.1"], json!({}))];
    let new = New::serve(&entries, &[]);
    let listen = if UdpSocket::bind("[::1]:0").is_ok() { "[::1]:0" } else { "127.0.0.1:0" };
    let old = New::serve(&entries, &["--listen", listen]);
    let begun = Instant::now();
    let ended = new.compare(
        &old.server.dns().to_string(),
        &["--file", &new.file, "--rate", "40", "--strict", "--output", "json"],
    );
    let elapsed = begun.elapsed();
    let report = report(&ended);
    assert_eq!(ended.code, Some(0), "{report:#}{}", ended.stderr);
    let questions = report["questions"].as_u64().expect("a number");
    assert!(questions > 20, "{questions} questions");
    // One at once, the others every 25 ms, less what may be caught up.
    let least = Duration::from_millis((questions - 2) * 25);
    assert!(elapsed >= least, "{questions} questions in {elapsed:?}");
}

/// [X1] [K1]
#[test]
fn bad_usage_of_compare_is_refused() {
    let compare = |flags: &[&str]| {
        refused(&[&["compare", "--file", "examples/gke", "--new", "127.0.0.1:9"], flags].concat())
    };
    for (flags, wanted) in [
        (&["--old", "localhost"][..], "--old \"localhost\" is not the address of a server; write 10.96.0.53"),
        (&["--old", "127.0.0.1:9"], "--old and --new are both 127.0.0.1:9; "),
        (&["--old", "::1", "--type", "AXFR"], "--type \"AXFR\" is not a type that can be asked for; "),
        (&["--old", "::1", "--timeout", "0s"], "--timeout 0s waits for nothing; "),
        (&["--old", "::1", "--names", "nowhere"], "--names nowhere cannot be read: "),
        (&["--old", "::1", "--name", "a.global,"], "--name \"\" is no name; write one such as "),
        (&["--old", "::1", "--name", "a..global"], "--name \"a..global\" is no name: "),
        (
            &["--old", "::1", "--name", "a.global AXFR"],
            "--name \"AXFR\" is not a type that can be asked for; ",
        ),
    ] {
        let message = compare(flags);
        assert!(message.starts_with(&format!("globaldns: {wanted}")), "{message}");
    }
}
