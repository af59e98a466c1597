//! The examples, asked as their users ask. `walkthroughs/*.dig` hold what `dig` prints (see `dig.rs` for
//! what is left out); the metrics must count exactly the findings that each folder's README explains.

use crate::dig::{check_transcript, dig};
use crate::support::Program;

const BANZAI: &str = include_str!("walkthroughs/banzai-multimesh.dig");
const EMCO: &str = include_str!("walkthroughs/emco.dig");
const MINIKUBE: &str = include_str!("walkthroughs/minikube.dig");
const GKE: &str = include_str!("walkthroughs/gke.dig");
const AKS: &str = include_str!("walkthroughs/aks.dig");
const AKS_WITH_ZONE_SAMPLE: &str = include_str!("walkthroughs/aks-with-zone-sample.dig");

/// One folder of `examples/`, served as its README says.
struct Walkthrough {
    folder: &'static str,
    zones: &'static [&'static str],
    transcript: &'static str,
    /// Code and number, in the order of the metrics.
    findings: &'static [(&'static str, u64)],
}

impl Walkthrough {
    fn check(&self) {
        let file = format!("examples/{}", self.folder);
        let mut args = vec!["--file", &file, "--nsid", "test"];
        args.extend(self.zones.iter().flat_map(|zone| ["--zone", zone]));
        let program = Program::serve(&args);
        check_transcript(program.dns(), self.transcript);
        program.findings(self.findings);
    }
}

/// [A1] [A4] [D2] [D3] [D4] [D5] [D7] [D8] [D10] [D12] [D15]
#[test]
fn banzai_multimesh() {
    Walkthrough {
        folder: "banzai-multimesh",
        zones: &["global"],
        transcript: BANZAI,
        findings: &[("address-loopback", 1)],
    }
    .check();
}

/// The address-less twin, exported to its own namespace only, hides nothing. [A7] [O5] [H1] [H2] [D3] [D4] [D8] [D15]
#[test]
fn emco() {
    Walkthrough {
        folder: "emco",
        zones: &["cluster2"],
        transcript: EMCO,
        findings: &[
            ("export-beyond", 2),
            ("host-no-address", 2),
            ("host-outside-zones", 1),
            ("placeholder", 3),
        ],
    }
    .check();
}

/// [A1] [D3] [D4] [D8] [H6]
#[test]
fn minikube() {
    Walkthrough { folder: "minikube", zones: &["global"], transcript: MINIKUBE, findings: &[] }.check();
}

/// [A1] [D3] [D4] [D5] [D8]
#[test]
fn gke() {
    Walkthrough { folder: "gke", zones: &["global"], transcript: GKE, findings: &[] }.check();
}

/// [A1] [D8] [H2]
#[test]
fn aks() {
    Walkthrough {
        folder: "aks",
        zones: &["global"],
        transcript: AKS,
        findings: &[("host-outside-zones", 1)],
    }
    .check();
}

/// [A1] [Z1]
#[test]
fn aks_with_the_namespace_as_a_zone() {
    Walkthrough {
        folder: "aks",
        zones: &["global", "sample"],
        transcript: AKS_WITH_ZONE_SAMPLE,
        findings: &[],
    }
    .check();
}

/// All of `examples/` side by side, as its README serves it: no example disturbs another. [A7] [H2] [O4] [S2] [S5]
#[test]
fn all_examples_at_once() {
    let program =
        Program::serve(&["--file", "examples", "--zone", "global", "--zone", "cluster2", "--nsid", "test"]);
    for transcript in [BANZAI, EMCO, MINIKUBE, GKE, AKS] {
        check_transcript(program.dns(), transcript);
    }
    program.findings(&[
        ("address-loopback", 1),
        ("export-beyond", 2),
        ("host-no-address", 2),
        ("host-outside-zones", 2),
        ("placeholder", 3),
    ]);
}

/// cluster2 by itself knows the address-less twins only: their hosts are absent, not empty. [A7] [A3] [O5]
#[test]
fn twins_alone_exist_with_a_default_address_only() {
    let args = ["--file", "examples/emco/cluster2.yaml", "--zone", "cluster2"];
    let without = Program::serve(&args);
    let with = Program::serve(&[&args[..], &["--default-address", "240.0.0.99"]].concat());
    for host in ["httpbin.bar.cluster2", "helloworld.sample.cluster2"] {
        let absent = dig(without.dns(), host);
        assert!(absent.contains("status: NXDOMAIN"), "{absent}");
        let present = dig(with.dns(), host);
        assert!(present.contains(&format!("{host}. 30 IN A 240.0.0.99")), "{present}");
    }
}

/// The `dig` sessions of `examples/README.md` are true.
#[test]
fn the_readme_of_the_examples_prints_what_dig_prints() {
    let readme = include_str!("../../examples/README.md");
    let program = Program::serve(&["--file", "examples", "--zone", "global", "--zone", "cluster2"]);
    let mut asked = 0;
    for session in readme.split("```console\n").skip(1) {
        let (session, _) = session.split_once("```").expect("the end of a session");
        for command in session.split("$ dig @127.0.0.1 -p 5353 ").skip(1) {
            asked += 1;
            let (args, wanted) = command.split_once('\n').expect("a command and what it prints");
            let args = args.replace("+nocookie ", "");
            let (short, args) = match args.strip_prefix("+short ") {
                Some(args) => (true, args.to_owned()),
                None => (false, args),
            };
            let full = dig(program.dns(), &args);
            let found: Vec<String> = full
                .lines()
                .filter(|line| !short || !line.starts_with(';'))
                .filter_map(|line| if short { line.rsplit(' ').next() } else { Some(line) })
                .map(str::to_owned)
                .collect();
            let wanted: Vec<String> =
                wanted.lines().filter(|line| !line.is_empty()).map(as_our_dig_prints_it).collect();
            assert_eq!(found, wanted, "{args}");
        }
    }
    assert_eq!(asked, 7);
}

/// Single spaces, no message id, no serial.
fn as_our_dig_prints_it(line: &str) -> String {
    let mut words: Vec<&str> = line.split_whitespace().collect();
    if let Some(at) = words.iter().position(|word| *word == "id:") {
        words.truncate(at);
        return words.join(" ").trim_end_matches(',').to_owned();
    }
    if words.get(3) == Some(&"SOA") {
        words[6] = "SERIAL";
    }
    words.join(" ")
}

/// [D22] [D23] [D24] What README.md shows under the names of addresses, ports and entries.
#[test]
fn addresses_ports_and_entries() {
    let file = ["--file", "examples/gke", "--nsid", "test"];
    let program = Program::serve(&[&file[..], &["--reverse", "240.0.0.0/8", "--srv", "--txt"]].concat());
    check_transcript(program.dns(), include_str!("walkthroughs/further.dig"));
}
