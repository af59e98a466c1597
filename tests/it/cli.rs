//! Exit codes, messages, flags and their variables.

use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::Stdio;

use crate::dig::dig;
use crate::support::{Ended, Program, globaldns, run};

/// Arguments by which no DNS is served, so that a test needs no port of its own.
const NOWHERE: [&str; 4] = ["--listen", "off", "--admin-listen", "127.0.0.1:0"];

/// A command that ends by itself: both streams and the exit code.
pub(crate) fn end(args: &[&str]) -> Ended {
    run(globaldns(args))
}

/// The message of a refused command, which has printed no data and says so with exit code 2.
pub(crate) fn refused(args: &[&str]) -> String {
    let ended = end(args);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), ""), "{args:?}: {}", ended.stderr);
    message(&ended.stderr)
}

/// Standard error without the log, which a start that fails late has written to as well.
fn message(stderr: &str) -> String {
    stderr.lines().filter(|line| !line.starts_with('{')).collect::<Vec<_>>().join("\n")
}

/// A directory for one test's files.
fn files(contents: &[(&str, &str)]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let paths = contents.iter().map(|(name, text)| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file can be written");
        path
    });
    let paths = paths.collect();
    (directory, paths)
}

/// [Z2] [X1]
#[test]
fn a_zone_that_cannot_be_served_is_refused_with_its_value_and_the_reason() {
    let long = "a".repeat(64);
    let cases = [
        (
            ".",
            "--zone \".\" is not a usable name: the root cannot be a zone of ours: every name would end here; \
             write a DNS name such as global or cluster2"
                .to_owned(),
        ),
        (
            "a..b",
            "--zone \"a..b\" is not a usable name: it has an empty label; write a DNS name such as global or \
             cluster2"
                .to_owned(),
        ),
        (
            "*.global",
            "--zone \"*.global\" is not a usable name: '*' is not allowed; labels are letters, digits, '-' and \
             '_'; write a DNS name such as global or cluster2"
                .to_owned(),
        ),
        (
            long.as_str(),
            format!(
                "--zone \"{long}\" is not a usable name: label \"{long}\" is longer than 63 octets; write a DNS \
                 name such as global or cluster2"
            ),
        ),
        (
            "Cluster.Local.",
            "--zone: zone \"cluster.local\" is the cluster domain, which the cluster DNS serves; choose another \
             name, or set --cluster-domain if this is not the cluster's domain"
                .to_owned(),
        ),
        (
            "local",
            "--zone: zone \"local\" is a parent of the cluster domain \"cluster.local\" and would capture every \
             name of it; choose another name"
                .to_owned(),
        ),
        (
            "svc.cluster.local",
            "--zone: zone \"svc.cluster.local\" lies inside the cluster domain \"cluster.local\", which the \
             cluster DNS serves; choose another name"
                .to_owned(),
        ),
    ];
    for (zone, wanted) in cases {
        let wanted = format!("globaldns: {wanted}");
        assert_eq!(refused(&["export", "--file", "examples/gke", "--zone", zone]), wanted);
        let serve = ["serve", "--file", "examples/gke", "--zone", "global", "--zone", zone];
        assert_eq!(refused(&[&serve[..], &NOWHERE].concat()), wanted);
    }
    let other_domain = ["export", "--file", "examples/gke", "--cluster-domain", "k8s.example"];
    assert!(refused(&[&other_domain[..], &["--zone", "example"]].concat()).contains("is a parent of"));
    assert_eq!(end(&[&other_domain[..], &["--zone", "cluster.local"]].concat()).code, Some(0));
}

/// [Z1] [Z2]
#[test]
fn a_repeated_zone_is_one_zone() {
    let zones = ["--zone", "global", "--zone", "GLOBAL.", "--zone", "Global"];
    let ended = end(&[&["export", "--file", "examples/gke"], &zones[..]].concat());
    assert_eq!(ended.stdout.matches("\"zone\":").count(), 1, "{}", ended.stdout);
}

/// [S3] [X1]
#[test]
fn a_file_that_cannot_be_used_is_refused_with_file_line_and_column() {
    let (directory, paths) = files(&[
        ("open.yaml", "kind: ServiceEntry\nspec:\n  hosts: [a\n"),
        ("second.yaml", "kind: ServiceEntry\n---\nspec: }\n"),
        ("twice.yaml", "kind: ServiceEntry\nkind: ServiceEntry\n"),
        ("broken.json", "{\"kind\": \"ServiceEntry\",\n \"spec\": }"),
    ]);
    let missing = directory.path().join("missing.yaml");
    let cases = [
        (&paths[0], format!("{}:3:10: not YAML: ", paths[0].display()), "; correct the file or leave it out"),
        (&paths[1], format!("{}:3:7: not YAML: ", paths[1].display()), "; correct the file or leave it out"),
        (
            &paths[2],
            format!("{}:2:1: not YAML: duplicate mapping key: kind not allowed here", paths[2].display()),
            "; correct the file or leave it out",
        ),
        (&paths[3], format!("{}:2:10: not JSON: ", paths[3].display()), "; correct the file or leave it out"),
        (
            &missing,
            format!("cannot read {}: No such file or directory", missing.display()),
            "; check the path and its permissions",
        ),
    ];
    for (path, start, remedy) in cases {
        let path = path.to_str().expect("a path in UTF-8");
        let serve = ["serve", "--log-format", "json", "--listen", "127.0.0.1:0", "--admin-listen", "off"];
        for command in [&["export"][..], &serve] {
            let message = refused(&[command, &["--file", "examples/gke", "--file", path]].concat());
            assert!(message.starts_with(&format!("globaldns: {start}")), "{message}");
            assert!(message.ends_with(remedy), "{message}");
        }
    }
}

/// [S3] [L1] A start that fails after the sockets were bound never said that it was ready.
#[test]
fn a_start_that_fails_is_never_ready() {
    let ended = end(&[
        "serve",
        "--file",
        "missing",
        "--log-format",
        "json",
        "--listen",
        "127.0.0.1:0",
        "--admin-listen",
        "off",
    ]);
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("serving DNS"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ready"), "{}", ended.stderr);
}

/// [S4] [A3] [D2] [D4] [D22] [Z2] [L1] [X1]
#[test]
fn bad_usage_says_which_flag_which_value_why_and_what_to_do() {
    let file = ["--file", "examples/gke"];
    let no_cluster = |flag: &str| {
        format!(
            "globaldns: {flag} needs a cluster, and with --file alone none is contacted; add --kubernetes, or leave \
             {flag} out"
        )
    };
    let not_an_address = |flag: &str, value: &str| {
        format!(
            "globaldns: {flag} \"{value}\" is not an address to listen on; write ADDRESS:PORT (127.0.0.1:5353, \
             [::1]:53), ADDRESS, :PORT or off"
        )
    };
    let clap = |text: &str| format!("error: {text}\n\nFor more information, try '--help'.");
    let long_nsid = "n".repeat(129);
    let cases: &[(&[&str], String)] = &[
        (&["--namespace", "foo"], no_cluster("--namespace")),
        (&["--advertise-service", "a/b"], no_cluster("--advertise-service")),
        (
            &["--kubernetes", "--namespace", "Foo Bar"],
            "globaldns: --namespace \"Foo Bar\" is not a namespace; write a label of lower-case letters, digits and \
             '-', at most 63 octets"
                .to_owned(),
        ),
        (
            &["--log-level", "inof"],
            "globaldns: --log-level \"inof\" is not a level; use off, error, warn, info, debug, trace, or a filter of \
             target=level"
                .to_owned(),
        ),
        (
            &["--zone", "global", "--zone", "ns.dns.global"],
            "globaldns: --zone: zone \"ns.dns.global\" is the name of the name server of zone \"global\"; choose \
             another name"
                .to_owned(),
        ),
        (
            &["--reverse", "240.0.0.1"],
            "globaldns: --reverse \"240.0.0.1\" is not a network; write a CIDR such as 240.240.0.0/16 or 2001:2::/48"
                .to_owned(),
        ),
        (
            &["--reverse", "240.240.0.0/16,0.0.0.0/0"],
            "globaldns: --reverse: 0.0.0.0/0 is too wide: its reverse zone would take the look-ups of addresses that are \
             not the mesh's, those of pods and services among them; give the range that VIPs are taken from, at least a \
             /8"
                .to_owned(),
        ),
        (
            &["--reverse", "127.0.0.0/8"],
            "globaldns: --reverse: 127.0.0.0/8 overlaps 127.0.0.0/8, loopback addresses, which no reverse zone here can \
             be for; give the range that VIPs are taken from"
                .to_owned(),
        ),
        (
            &["--zone", "240.in-addr.arpa", "--reverse", "240.240.0.0/16"],
            "globaldns: --reverse: zone \"240.240.in-addr.arpa\" of --reverse and zone \"240.in-addr.arpa\" of --zone \
             lie in one another; leave one out: --reverse has the names of addresses, --zone those that entries list"
                .to_owned(),
        ),
        (
            &["--default-address", "240.0.0.8", "--default-address", "240.0.0.9"],
            "globaldns: --default-address 240.0.0.9: there is already one of this family; give at most one IPv4 and \
             one IPv6 address"
                .to_owned(),
        ),
        (
            &["--default-address", "::"],
            "globaldns: --default-address ::: the unspecified address reaches nothing; give the address clients \
             shall use"
                .to_owned(),
        ),
        (
            &["--advertise-address", "0.0.0.0"],
            "globaldns: --advertise-address 0.0.0.0: the unspecified address reaches nothing; give the address \
             clients shall use"
                .to_owned(),
        ),
        (
            &["--advertise-service", "globaldns"],
            clap(
                "invalid value 'globaldns' for '--advertise-service <NAMESPACE/NAME>': write NAMESPACE/NAME, for \
                 example istio-system/globaldns",
            ),
        ),
        (&["--ttl", "0"], clap("invalid value '0' for '--ttl <SECONDS>': write a whole number from 1 to 3600")),
        (&["--ttl", "3601"], clap("invalid value '3601' for '--ttl <SECONDS>': write a whole number from 1 to 3600")),
        (
            &["--negative-ttl", "301"],
            clap("invalid value '301' for '--negative-ttl <SECONDS>': write a whole number from 0 to 300"),
        ),
        (
            &["--nsid", &long_nsid],
            "globaldns: --nsid is 129 octets long; at most 128 fit beside an answer, so shorten it".to_owned(),
        ),
        (
            &["--tcp-connections", "0"],
            clap("invalid value '0' for '--tcp-connections <NUMBER>': write a whole number from 1 to 1000000"),
        ),
        (
            &["--lameduck", "soon"],
            clap(
                "invalid value 'soon' for '--lameduck <DURATION>': expected number at 0; write 5s, 500ms or 1m",
            ),
        ),
        (&["--listen", "localhost:53"], not_an_address("--listen", "localhost:53")),
        (&["--admin-listen", "127.0.0.1:http"], not_an_address("--admin-listen", "127.0.0.1:http")),
        (
            &["--listen", "off", "--listen", "127.0.0.1:0"],
            "globaldns: --listen off cannot stand beside another address; name one or the other".to_owned(),
        ),
        (
            &["--log-level", "globaldns=loud"],
            "globaldns: --log-level \"globaldns=loud\" is not a level or filter (error parsing level filter: expected one of \"off\", \"error\", \"warn\", \"info\", \"debug\", \"trace\", or a number 0-5); use \
             error, warn, info, debug, trace or target=level"
                .to_owned(),
        ),
        (
            &["--lissten", "127.0.0.1:0"],
            "error: unexpected argument '--lissten' found\n\n  tip: a similar argument exists: '--listen'\n\nUsage: \
             globaldns serve --file <PATH> --listen <ADDRESS>\n\nFor more information, try '--help'."
                .to_owned(),
        ),
        (
            &["--kubeconfig", "missing"],
            "globaldns: cannot use the kubeconfig missing: failed to read kubeconfig from '\"missing\"': No such \
             file or directory (os error 2); check --kubeconfig and --context"
                .to_owned(),
        ),
    ];
    for (args, wanted) in cases {
        let mut all = [&["serve"], &file[..], args].concat();
        for pair in [["--listen", "127.0.0.1:0"], ["--admin-listen", "off"]] {
            if !args.contains(&pair[0]) {
                all.extend(pair);
            }
        }
        assert_eq!(refused(&all), *wanted, "{args:?}");
    }
}

/// [L1] [X1]
#[test]
fn a_port_that_is_taken_is_refused_with_the_remedy() {
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let udp = udp.local_addr().map(|at| (udp, at)).expect("a bound socket");
    let tcp = tcp.local_addr().map(|at| (tcp, at)).expect("a bound socket");
    let first = Program::serve(&["--file", "examples/gke"]);
    let admin = first.admin.expect("an admin listener");
    for (flag, at, protocol) in [
        ("--listen", udp.1, "UDP"),
        ("--listen", tcp.1, "TCP"),
        // A second instance.
        ("--listen", first.dns(), "UDP"),
        ("--admin-listen", tcp.1, "TCP"),
        ("--admin-listen", admin, "TCP"),
    ] {
        let other = if flag == "--listen" { "--admin-listen" } else { "--listen" };
        let port = at.port();
        let at = at.to_string();
        assert_eq!(
            refused(&["serve", "--file", "examples/gke", "--log-format", "json", other, "off", flag, &at]),
            format!(
                "globaldns: {flag}: cannot listen on {at} ({protocol}): Address already in use (os error 98); another program \
                 has port {port}; stop it, or choose another with {flag}"
            )
        );
    }
}

/// [X1]
#[test]
fn a_cluster_that_cannot_be_listed_is_a_failure_and_no_usage_error() {
    let (_directory, paths) = files(&[(
        "kubeconfig",
        "{apiVersion: v1, kind: Config, current-context: c, \
         clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}], users: [{name: c, user: {}}], \
         contexts: [{name: c, context: {cluster: c, user: c}}]}",
    )]);
    let ended = end(&["export", "--kubeconfig", paths[0].to_str().expect("a path in UTF-8")]);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(1), ""), "{}", ended.stderr);
    assert!(ended.stderr.contains("serviceentries.networking.istio.io"), "{}", ended.stderr);
}

/// [X0]
#[test]
fn the_flag_wins_over_its_variable_and_the_variable_over_the_default() {
    let zones = |variable: Option<&str>, flags: &[&str]| {
        let mut command = globaldns(&["export", "--file", "examples"]);
        command.args(flags);
        if let Some(value) = variable {
            command.env("GLOBALDNS_ZONE", value);
        }
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let table: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
        let zones = table["zones"].as_array().expect("a list of zones");
        zones.iter().filter_map(|zone| zone["zone"].as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    assert_eq!(zones(None, &[]), ["global"]);
    assert_eq!(zones(Some("cluster2,eu.global"), &[]), ["cluster2", "eu.global"]);
    assert_eq!(zones(Some("cluster2"), &["--zone", "sample"]), ["sample"]);
    let mut command = globaldns(&["export", "--file", "examples"]);
    let ended = run({
        command.env("GLOBALDNS_TTL", "3601");
        command
    });
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("invalid value '3601' for '--ttl <SECONDS>'"), "{}", ended.stderr);
}

/// [X0]
#[test]
fn an_empty_variable_is_an_unset_one() {
    let mut command = globaldns(&["export", "--file", "examples/banzai-multimesh", "--format", "hosts"]);
    for name in
        ["TTL", "NAMESPACE", "ZONE", "KUBERNETES", "DEFAULT_ADDRESS", "ADVERTISE_SERVICE", "KUBECONFIG"]
    {
        command.env(format!("GLOBALDNS_{name}"), "");
    }
    let ended = run(command);
    assert_eq!(
        (ended.code, ended.stdout.as_str()),
        (Some(0), "127.255.0.1 echo.default.global\n"),
        "{}",
        ended.stderr
    );
}

/// [X0]
#[test]
fn variables_that_kubernetes_injects_and_unknown_ones_are_ignored() {
    let mut command =
        globaldns(&["serve", "--file", "examples/gke", "--log-format", "json", "--lameduck", "0s"]);
    command.args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]);
    for (name, value) in [
        ("GLOBALDNS_PORT", "udp://10.0.0.1:53"),
        ("GLOBALDNS_PORT_53_UDP", "udp://10.0.0.1:53"),
        ("GLOBALDNS_PORT_53_UDP_ADDR", "10.0.0.1"),
        ("GLOBALDNS_PORT_53_UDP_PORT", "53"),
        ("GLOBALDNS_PORT_53_UDP_PROTO", "udp"),
        ("GLOBALDNS_SERVICE_HOST", "10.0.0.1"),
        ("GLOBALDNS_SERVICE_PORT", "53"),
        ("GLOBALDNS_SERVICE_PORT_DNS_TCP", "53"),
        ("GLOBALDNS_UNHEARD_OF", "x"),
    ] {
        command.env(name, value);
    }
    let mut program = Program::spawn(command);
    program.ready();
    assert!(dig(program.dns(), "app1.default.global").contains("app1.default.global. 30 IN A 240.0.0.6"));
}

/// [X0]
#[test]
fn every_flag_of_serve_has_its_variable_and_its_chapter() {
    let help = end(&["serve", "--help"]);
    assert_eq!(help.code, Some(0));
    let flag =
        |line: &str| line.trim().strip_prefix("--").map(|l| l.split(' ').next().unwrap_or(l).to_owned());
    let flags: Vec<String> = help.stdout.lines().filter_map(flag).collect();
    assert!(flags.len() > 20, "{flags:?}");
    for flag in &flags {
        let variable = format!("GLOBALDNS_{}", flag.to_uppercase().replace('-', "_"));
        assert!(help.stdout.contains(&format!("[env: {variable}=]")), "--{flag} has no {variable}");
        for taken in ["GLOBALDNS_PORT", "GLOBALDNS_SERVICE"] {
            assert!(!variable.starts_with(taken), "--{flag} takes a name of Kubernetes");
        }
    }
    let chapters: Vec<&str> = help
        .stdout
        .lines()
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.strip_suffix(':'))
        .collect();
    assert_eq!(
        chapters,
        [
            "Options",
            "Zones",
            "Sources",
            "Addresses",
            "Hosts",
            "Owners",
            "Answers",
            "Clients",
            "Insight",
            "Life",
            "Encryption",
            "Stub domains",
            "Findings"
        ]
    );
}

/// [X0]
#[test]
fn the_version_is_printed_with_the_commit() {
    let ended = end(&["--version"]);
    let wanted = format!("globaldns {} (commit {})\n", globaldns::VERSION, globaldns::COMMIT);
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.as_str()), (Some(0), wanted.as_str(), ""));
    let hex = |text: &str| text.len() >= 7 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    assert!(globaldns::COMMIT == "unknown" || hex(globaldns::COMMIT), "{}", globaldns::COMMIT);
}

/// [X1] [L5]
#[test]
fn exit_codes_by_signal() {
    let drained = Program::serve(&["--file", "examples/gke"]);
    drained.signal("TERM");
    assert_eq!(drained.wait().code, Some(0));
    for (second, code) in [("TERM", 143), ("INT", 130)] {
        let hurried = Program::serve(&["--file", "examples/gke", "--lameduck", "1h"]);
        hurried.signal("TERM");
        hurried.log("shutting down: answering on, a second signal ends at once", |_| true);
        hurried.signal(second);
        assert_eq!(hurried.wait().code, Some(code));
    }
    // Still waiting for standard input, it has nothing to drain.
    for (signal, code) in [("TERM", 143), ("INT", 130)] {
        let mut command =
            globaldns(&["serve", "--file", "-", "--log-format", "json", "--listen", "127.0.0.1:0"]);
        command.args(["--admin-listen", "off"]).stdin(Stdio::piped());
        let waiting = Program::spawn(command);
        waiting.log("serving DNS", |_| true);
        waiting.signal(signal);
        assert_eq!(waiting.wait().code, Some(code));
    }
}

/// [X1] What a command can do without a cluster, and nothing that it cannot.
#[test]
fn without_a_cluster_each_command_names_what_it_takes_instead() {
    let cases: [(&[&str], &str); 8] = [
        (
            &["serve", "--listen", "off", "--admin-listen", "127.0.0.1:0"],
            "; give --kubeconfig, or name files with --file",
        ),
        (&["export"], "; give --kubeconfig, or name files with --file"),
        (&["explain", "a.global"], "; give --kubeconfig, or name files with --file"),
        (
            &["compare", "--old", "127.0.0.1", "--new", "127.0.0.2"],
            "; give --kubeconfig, or name files with --file",
        ),
        (&["check", "--cluster"], "; give --kubeconfig, or name a PATH"),
        (&["explain", "a.global", "--server", "a/b"], "; give --kubeconfig"),
        (&["stub-domains", "emit", "--for", "kubeadm"], "; give --kubeconfig, or the address with --dns-ip"),
        (&["stub-domains", "status"], "; give --kubeconfig"),
    ];
    for (args, remedy) in cases {
        let mut command = globaldns(args);
        command.env("HOME", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST");
        let ended = run(command);
        assert_eq!(ended.code, Some(2), "{args:?}: {}", ended.stderr);
        assert!(message(&ended.stderr).ends_with(remedy), "{args:?}: {}", ended.stderr);
    }
}

/// [S4] [X2] `-A` says which namespaces of a cluster, not that there is one.
#[test]
fn all_namespaces_beside_files_contact_no_cluster() {
    for args in
        [&["check", "examples/gke", "-A"][..], &["export", "--file", "examples/gke", "-A", "-n", "foo"]]
    {
        let mut command = globaldns(args);
        command.env("HOME", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST");
        let ended = run(command);
        assert_eq!(ended.code, Some(0), "{args:?}: {}", ended.stderr);
    }
    let mut command = globaldns(&["check", "-A"]);
    command.env("HOME", "/nowhere").env_remove("KUBERNETES_SERVICE_HOST");
    assert!(run(command).stderr.contains("no cluster to contact"), "without files it means one");
}
