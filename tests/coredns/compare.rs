//! `globaldns compare` with a real CoreDNS as the old server: its `hosts` plugin with the names we export.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};

use hickory_proto::rr::RecordType;

use crate::dns::{Answer, Resolver};
use crate::judge::{Number, versions};
use crate::process::{Process, fresh_directory};
use crate::wait::{DEADLINE, wait_until};

const TABLE: [&str; 2] = ["--file", "examples"];

fn globaldns(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_globaldns"));
    command.args(args).args(TABLE).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command
}

fn free_address() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}

/// Waits until a server answers a name, and knows what.
fn answers(server: SocketAddr) {
    let mut resolver = Resolver::new(server);
    wait_until(&format!("an answer from {server}"), DEADLINE, || {
        let answer = resolver.ask("echo.default.global", RecordType::A);
        answer.is_some_and(|answer| answer != Answer::servfail())
    });
}

/// [K3] [K4] Its addresses are ours; what it says otherwise has its clause, and a host it has lost has none.
#[test]
#[ignore = "needs several CoreDNS: run tests/coredns/run"]
fn a_hosts_file_in_coredns_differs_by_clauses_only() {
    let directory = fresh_directory("compare");
    let hosts = globaldns(&["export", "--format", "hosts"]).output().expect("it ends").stdout;
    let hosts = String::from_utf8(hosts).expect("UTF-8");
    let new = free_address();
    let serve = globaldns(&["serve", "--listen", &new.to_string(), "--admin-listen", "off"]);
    let _server = Process::start_with_log("globaldns", serve, &directory.join("globaldns.log"));
    answers(new);
    // Older ones are silent for what is not in the file, which is told and never explained.
    let first = Number(1, 6, 2);
    for version in versions().into_iter().filter(|version| version.number >= first) {
        let compare = |hosts: &str| {
            let old = free_address();
            let file = directory.join("hosts");
            fs::write(&file, hosts).expect("written");
            let corefile = directory.join("Corefile");
            let text = format!("global:{} {{\n bind 127.0.0.1\n hosts {}\n}}\n", old.port(), file.display());
            fs::write(&corefile, text).expect("written");
            let mut coredns = Command::new(version.program());
            coredns.arg("-conf").arg(Path::new(&corefile));
            let _old = Process::start_with_log("CoreDNS", coredns, &directory.join("coredns.log"));
            answers(old);
            let flags = ["compare", "--old", &old.to_string(), "--new", &new.to_string(), "--output", "json"];
            let ended = globaldns(&flags).output().expect("it ends");
            let report: serde_json::Value = serde_json::from_slice(&ended.stdout).expect("JSON");
            (ended.status.code(), report)
        };
        let (code, report) = compare(&hosts);
        assert_eq!((code, &report["unexplained"]), (Some(0), &serde_json::json!([])), "{report:#}");
        let (code, report) = compare(&hosts.replace("127.255.0.1 ", "127.255.0.9 "));
        let names: Vec<_> =
            report["unexplained"].as_array().into_iter().flatten().map(|one| &one["name"]).collect();
        assert_eq!(code, Some(1), "{report:#}");
        assert!(names.contains(&&serde_json::json!("echo.default.global")), "{names:?}");
    }
}
