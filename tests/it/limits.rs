//! Far too much of everything (S7), and whose names are whose (O6), against the real program.

use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::cli::refused;
use crate::cluster::{answer, spec, wait_answer, wait_metric};
use crate::dig::{Question, dig, over_tcp, over_udp};
use crate::support::{Program, globaldns, run};

/// The chart's limit for the container.
const CHART_LIMIT_MIB: u64 = 256;

fn serve(api: &ApiServer) -> Program {
    Program::serve(&["--kubeconfig", api.kubeconfig()])
}

fn written(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join(name);
    fs::write(&path, content).expect("written");
    (directory, path)
}

fn entry(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "spec": spec,
           "metadata": {"name": name, "namespace": "shop"}})
}

/// [S7] [D13] Ten thousand hosts with a thousand IPv6 addresses each would be 160 MiB, out of an object of 160 KB.
#[test]
fn an_entry_of_many_hosts_times_many_addresses_takes_the_room_of_their_sum() {
    let hosts: Vec<String> = (0..10_000).map(|i| format!("h{i}.global")).collect();
    let addresses: Vec<String> = (0..1_024).map(|i| format!("2001:db8::{i:x}")).collect();
    let bomb = entry("bomb", json!({"hosts": hosts, "addresses": addresses, "resolution": "STATIC"}));
    let (_directory, path) = written("bomb.json", bomb.to_string());
    let program = Program::serve(&["--file", path.to_str().expect("UTF-8")]);
    let message = Question::parse("h9999.global AAAA").message().to_vec().expect("a message");
    let reply = over_tcp(program.dns(), &message);
    assert_eq!((reply[2] & 2, u16::from_be_bytes([reply[6], reply[7]])), (0, 1_024), "whole, over TCP");
    assert!(program.peak_mib() < 64, "{} MiB", program.peak_mib());
}

/// [S7] [S5] What is beyond a bound is lost, and said; nothing else is.
#[test]
fn an_entry_with_too_much_of_everything_costs_nobody_else_anything() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", spec("a.global", "240.0.0.1"));
    let program = serve(&api);
    let hosts: Vec<String> =
        std::iter::once("good.global".to_owned()).chain((0..120_000).map(|i| format!("bad {i}"))).collect();
    let addresses: Vec<String> =
        (0..100_000u32).map(|i| IpAddr::from((0xf100_0000 + i).to_be_bytes()).to_string()).collect();
    api.apply("foo/huge", json!({"hosts": hosts, "addresses": addresses, "resolution": "STATIC",
                                  "endpoints": vec![json!({"address": "1.1.1.1", "labels": {"a": "b"}}); 10_000]}));
    api.apply("foo/b", spec("b.global", "240.0.0.2"));
    wait_answer(&program, "b.global", "NOERROR 240.0.0.2");
    // A hundred of the hosts that are none; hosts, addresses, and that there are more findings.
    program.findings(&[("host-invalid", 100), ("limit-exceeded", 4)]);
    let reply = dig(program.dns(), "good.global +tcp");
    assert_eq!(reply.matches(" IN A ").count(), 1_024);
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    // It was never as large as what it was read from.
    assert!(program.peak_mib() < 96, "{} MiB", program.peak_mib());
}

/// [S7] Five hundred objects of the greatest size that etcd takes are 750 MiB.
#[test]
fn of_a_list_that_is_too_large_fewer_objects_are_asked_for_at_a_time() {
    let api = ApiServer::start(&["v1"]);
    let filler = "x".repeat(1_500_000);
    for i in 0..12 {
        api.apply_object(
            &format!("foo/e{i:02}"),
            json!({"spec": spec(&format!("e{i}.global"), "240.0.0.1"), "metadata": {"annotations": {"notes": filler}}}),
        );
    }
    let program = serve(&api);
    for i in [0, 11] {
        assert_eq!(answer(&program, &format!("e{i}.global")), "NOERROR 240.0.0.1");
    }
    let pages: Vec<String> = api
        .requests()
        .iter()
        .filter_map(|request| request.split("limit=").nth(1)?.split('&').next().map(str::to_owned))
        .collect();
    assert!(pages.starts_with(&["500".into(), "125".into(), "31".into(), "7".into()]), "{pages:?}");
    assert!(program.peak_mib() < CHART_LIMIT_MIB, "{} MiB", program.peak_mib());
    let exported = run(globaldns(&["export", "--kubeconfig", api.kubeconfig(), "--format", "hosts"]));
    assert_eq!(exported.stdout.matches("240.0.0.1").count(), 12, "{}", exported.stderr);
}

/// [S7] [L2] No API server has such an object; a broken one, or something in between, may send it.
#[test]
fn an_event_without_end_is_not_read_to_its_end_and_answers_stay() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", spec("a.global", "240.0.0.1"));
    let program = serve(&api);
    let giant = "x".repeat(17 << 20);
    api.apply_object("foo/giant", json!({"spec": {"hosts": [giant]}}));
    wait_metric(&program, "globaldns_source_errors_total{source=\"kubernetes\",reason=\"decode\"}", |n| {
        n > 0.0
    });
    program.log_containing("an event of more than 16777216 octets, and no more are read");
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    assert!(program.peak_mib() < CHART_LIMIT_MIB, "{} MiB", program.peak_mib());
}

/// [S7] [S3] [X1]
#[test]
fn files_that_are_none_and_documents_that_are_bombs_are_refused_at_once() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fifo = directory.path().join("fifo.yaml");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let fifo = fifo.to_str().expect("UTF-8");
    for path in [fifo, "/dev/zero", directory.path().to_str().expect("UTF-8")] {
        let message = refused(&["export", "--file", path]);
        assert!(message.contains("it is no file; what a pipe gives is read once with --file -"), "{message}");
    }
    let secrets = ["serve", "--file", "examples/gke", "--cookies", "on", "--cookie-secret-file", fifo];
    let certificate = [
        "serve",
        "--file",
        "examples/gke",
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-cert",
        fifo,
        "--tls-key",
        fifo,
    ];
    for arguments in [&secrets[..], &certificate] {
        let message = refused(&[arguments, &["--listen", "127.0.0.1:0", "--admin-listen", "off"]].concat());
        assert!(message.contains("it is no file"), "{message}");
    }
    let message = refused(&["serve", "--kubeconfig", "/dev/zero"]);
    assert!(message.contains("it is a device"), "{message}");
    for arguments in [&["serve"][..], &["serve", "--context", "c"]] {
        let mut command = globaldns(arguments);
        command.env("KUBECONFIG", "/nowhere/kubeconfig:/dev/zero").env_remove("KUBERNETES_SERVICE_HOST");
        let ended = run(command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("/nowhere/kubeconfig"), "{}", ended.stderr);
        let mut command = globaldns(arguments);
        command.env("KUBECONFIG", "/dev/zero").env_remove("KUBERNETES_SERVICE_HOST");
        let ended = run(command);
        assert_eq!(ended.code, Some(2), "{}", ended.stderr);
        assert!(ended.stderr.contains("/dev/zero: it is a device"), "{}", ended.stderr);
    }
    let message =
        refused(&["compare", "--old", "127.0.0.1:1", "--new", "127.0.0.1:2", "--names", "/dev/zero"]);
    assert!(
        message.contains("--names /dev/zero cannot be read: it has more than 67108864 octets"),
        "{message}"
    );

    let laughs: String = (1..30).fold("a0: &a0 [x, x]\n".to_owned(), |text, i| {
        format!("{text}a{i}: &a{i} [*a{0}, *a{0}, *a{0}, *a{0}]\n", i - 1)
    });
    let hosts = format!("{laughs}kind: ServiceEntry\nspec: {{hosts: *a29}}\n");
    let deep = |n: usize| format!("kind: ServiceEntry\nspec: {}{}\n", "[".repeat(n), "]".repeat(n));
    let blocks: String = (0..5_000).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    for (what, text) in [
        ("laughs.yaml", hosts),
        ("deep.yaml", deep(100_000)),
        ("deep-enough.yaml", deep(70)),
        ("blocks.yaml", blocks),
        ("deep.json", format!("{{\"spec\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000))),
    ] {
        let (_directory, path) = written(what, text);
        let mut command = limited(128);
        command.args(["export", "--file", path.to_str().expect("UTF-8")]);
        let ended = run(command);
        assert_eq!(ended.code, Some(2), "{what}: {}", ended.stderr);
        assert!(
            ended.stderr.contains(what) && ended.stderr.contains("correct the file"),
            "{what}: {}",
            ended.stderr
        );
    }
}

/// [S7] [S2] Documents without number pass one at a time.
#[test]
fn documents_without_number_and_merged_keys_are_read_in_little_room() {
    let one =
        "kind: ServiceEntry\nmetadata: {name: a}\nspec: &s {hosts: [a.global], addresses: [240.0.0.1]}\n";
    let merged =
        "---\nx: &s {hosts: [b.global], addresses: [240.0.0.2]}\nkind: ServiceEntry\nspec: {<<: *s}\n";
    let (_directory, path) =
        written("many.yaml", format!("{one}{merged}{}", "---\nkind: Pod\n".repeat(20_000)));
    let mut command = limited(128);
    command.args(["export", "--format", "hosts", "--file", path.to_str().expect("UTF-8")]);
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stdout.contains("240.0.0.1") && ended.stdout.contains("240.0.0.2"), "{}", ended.stdout);
}

/// [S2] [S7]
#[test]
fn directories_that_are_linked_into_themselves_are_read_once() {
    let (directory, path) = written("a.yaml", entry("a", spec("a.global", "240.0.0.1")).to_string());
    let below = directory.path().join("below");
    fs::create_dir(&below).expect("a directory");
    fs::rename(&path, below.join("a.yaml")).expect("moved");
    for link in ["one", "two", "three"] {
        std::os::unix::fs::symlink(directory.path(), below.join(link)).expect("a link");
    }
    let root = directory.path().to_str().expect("UTF-8");
    let program = Program::serve(&["--file", root]);
    assert_eq!(answer(&program, "a.global"), "NOERROR 240.0.0.1");
    let entries = "globaldns_source_entries{source=\"files\"}";
    wait_metric(&program, entries, |count| count == 1.0);
    fs::write(below.join("b.yaml"), entry("b", spec("b.global", "240.0.0.2")).to_string()).expect("written");
    wait_answer(&program, "b.global", "NOERROR 240.0.0.2");
    wait_metric(&program, entries, |count| count == 2.0);
}

/// [S7] The contract names every bound as the program has it.
#[test]
fn every_bound_is_in_the_contract() {
    use globaldns::limits::*;
    let contract =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/contract.md")).expect("the contract");
    let clause = contract.split("- **S7** ").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("S7");
    let clause = clause.split_whitespace().collect::<Vec<_>>().join(" ");
    let grouped = |n: u64| {
        let digits = n.to_string();
        let groups =
            digits.as_bytes().rchunks(3).rev().map(|group| std::str::from_utf8(group).expect("digits"));
        groups.collect::<Vec<_>>().join(",")
    };
    let mib = |n: u64| format!("{} MiB", n >> 20);
    for named in [
        format!("first {} items", grouped(MOST_ITEMS as u64)),
        format!("at most {MOST_FINDINGS} findings"),
        format!("the first {} of its addresses", grouped(MOST_ADDRESSES as u64)),
        format!("a watch have at most {}", mib(MOST_REPLY as u64)),
        format!("{} entries", grouped(MOST_ENTRIES as u64)),
        format!("{} characters", grouped(MOST_MESSAGE as u64)),
        format!("pages of {PAGE} objects"),
        format!("standard input have at most {}", mib(MOST_FILE)),
        format!("{} files, {MOST_DIRECTORIES_DEEP} directories deep", grouped(MOST_FILES as u64)),
        format!("keeps at most {} events", grouped(MOST_ANCHORED as u64)),
        format!("A kubeconfig has at most {}", mib(MOST_KUBECONFIG)),
        format!("a list of names (K1) {}", mib(MOST_NAMES)),
        format!("`--live` {}", mib(MOST_LIVE)),
    ] {
        assert!(clause.contains(&named), "{named}");
    }
}

/// [D7] [D13] What a packet with a forged sender makes of us, as docs/security.md has it.
#[test]
fn amplification_is_what_the_threat_model_says() {
    let addresses: Vec<String> = (0..1_024).map(|i| format!("240.1.{}.{}", i >> 8, i & 255)).collect();
    let list = json!({"kind": "List", "items": [
        entry("echo", spec("echo.default.global", "240.0.0.1")),
        entry("many", json!({"hosts": ["many.global", "global"], "addresses": addresses, "resolution": "STATIC"})),
    ]});
    let (_directory, path) = written("entries.json", list.to_string());
    let program = Program::serve(&["--file", path.to_str().expect("UTF-8"), "--nsid", "globaldns-0"]);
    let document =
        fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/security.md")).expect("a document");
    let mut rows = 0;
    for row in document.lines().filter(|line| line.starts_with("| `") && line.contains(" octets |")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let asked = cells[1].trim_matches('`');
        let message = Question::parse(asked).message().to_vec().expect("a message");
        let reply = over_udp(program.dns(), &message);
        let factor = reply.len() as f64 / message.len() as f64;
        let wanted =
            format!("| `{asked}` | {} octets | {} octets | {factor:.1} |", message.len(), reply.len());
        assert_eq!(row, wanted);
        rows += 1;
    }
    assert!(rows >= 8, "{rows} rows");
}

/// The program with so much address space and no more.
fn limited(mib: u64) -> Command {
    let program = globaldns(&[]);
    let mut command = Command::new("sh");
    // What is mapped counts, not what is used: threads have stacks of 2 MiB, and allocators arenas of 64.
    command.args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh", &((mib + 384) * 1024).to_string()]);
    command.arg(program.get_program()).current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// [O6] [F1] [X0] By flag and by variable, in the table and in what is exported.
#[test]
fn an_owned_suffix_takes_hosts_of_its_owners_only() {
    let of = |namespace: &str, host: &str, address: &str| json!({"kind": "ServiceEntry", "metadata": {"name": "e", "namespace": namespace}, "spec": spec(host, address)});
    let list = json!({"kind": "List", "items": [
        of("thief", "card.payments.global", "240.0.9.1"), of("thief", "*.payments.global", "240.0.9.2"),
        of("thief", "*.global", "240.0.9.3"), of("payments", "card.payments.global", "240.0.0.1"),
        of("shared", "log.payments.global", "240.0.0.2"), of("eu", "card.eu.payments.global", "240.0.0.3"),
        of("payments", "x.eu.payments.global", "240.0.0.4"), of("thief", "other.global", "240.0.9.4"),
    ]});
    let (_directory, path) = written("entries.json", list.to_string());
    let path = path.to_str().expect("UTF-8");
    let common = ["--file", path, "--apex-wildcards"];
    let owners =
        ["--zone-owner", "Payments.Global.=payments,shared", "--zone-owner", "eu.payments.global=eu"];
    let program = Program::serve(&[&common[..], &owners].concat());
    for (name, expected) in [
        ("card.payments.global", "NOERROR 240.0.0.1"),
        ("log.payments.global", "NOERROR 240.0.0.2"),
        ("other.payments.global", "NXDOMAIN"),
        ("payments.global", "NOERROR"),
        ("card.eu.payments.global", "NOERROR 240.0.0.3"),
        ("x.eu.payments.global", "NXDOMAIN"),
        ("other.global", "NOERROR 240.0.9.4"),
        ("free.global", "NOERROR 240.0.9.3"),
    ] {
        assert_eq!(answer(&program, name), expected, "{name}");
    }
    program.findings(&[("host-not-owner", 3)]);
    program.log_containing(
        "names at and below payments.global are taken only from entries of payments, shared (--zone-owner), and this \
         one is in thief",
    );
    let by_flag = run(globaldns(&[&["export"][..], &common, &owners].concat()));
    let mut by_variable = globaldns(&[&["export"][..], &common].concat());
    by_variable.env("GLOBALDNS_ZONE_OWNER", "payments.global=payments,shared,eu.payments.global=eu");
    assert_eq!(run(by_variable).stdout, by_flag.stdout);
    assert!(
        by_flag.stdout.contains("240.0.0.3") && !by_flag.stdout.contains("240.0.9.1"),
        "{}",
        by_flag.stdout
    );
}

/// [O6] [X1]
#[test]
fn owners_of_nothing_and_owners_that_are_none_are_refused() {
    for (value, wanted) in [
        ("cluster2=a", "--zone-owner: \"cluster2\" is in none of the zones"),
        ("global", "--zone-owner \"global\" names no zone; write ZONE=NAMESPACE"),
        ("a,global=b", "--zone-owner \"a,global=b\" names no zone"),
        ("global=", "--zone-owner \"VALUE\": \"\" is not a namespace"),
        ("global=a,", "--zone-owner \"VALUE\": \"\" is not a namespace"),
        ("global=A_b", "--zone-owner \"VALUE\": \"A_b\" is not a namespace"),
        ("*.global=a", "--zone-owner \"*.global\" is not a usable name"),
        ("=a", "--zone-owner \"\" is not a usable name"),
    ] {
        let message = refused(&["export", "--file", "examples/gke", "--zone-owner", value]);
        let wanted = wanted.replace("VALUE", value);
        assert!(message.starts_with(&format!("globaldns: {wanted}")), "{value}: {message}");
    }
}

impl Program {
    /// The most memory it has ever had, MiB.
    fn peak_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("a running program");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("KiB") / 1024
    }
}
