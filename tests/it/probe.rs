//! Probes: the running program answers them in every zone, whatever its entries say.

use std::fs;
use std::time::Duration;

use globaldns::stub::probe::{Asked, Failure, Outcome, Verdict, survey, verdict};
use globaldns::wire::name::Name;
use globaldns::wire::probe::Proof;

use crate::dig::{check_transcript, dig};
use crate::support::Program;

const ENTRY: &str = r#"
kind: ServiceEntry
metadata: {name: thief, namespace: foo}
spec: {hosts: [_probe-a.global, "*.global", host.global], addresses: [240.0.0.1]}
"#;

fn serve(directory: &tempfile::TempDir, options: &[&str]) -> Program {
    fs::write(directory.path().join("a.yaml"), ENTRY).expect("written");
    let file = directory.path().to_str().expect("UTF-8");
    let zones = ["--zone", "global,eu.global,c2", "--nsid", "pod-1"];
    Program::serve(&[&["--file", file], &zones[..], options].concat())
}

/// [D18] [H5] [Z3]
#[test]
fn a_probe_is_answered_in_every_zone_and_taken_by_no_entry() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = serve(&directory, &["--apex-wildcards"]);
    program.findings(&[("host-reserved", 1)]);
    for zone in ["global", "eu.global", "c2"] {
        for transport in ["", " +tcp"] {
            let name = format!("_probe-{}.{zone}", "7f".repeat(13));
            check_transcript(
                program.dns(),
                &format!(
                    r#"
$ dig {name} TXT{transport}
;; ->>HEADER<<- opcode: QUERY, status: NOERROR
;; flags: qr aa rd; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 1
;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
;; QUESTION SECTION:
;{name}. IN TXT
;; ANSWER SECTION:
{name}. 0 IN TXT "globaldns" "instance=pod-1" "serial=SERIAL"
"#
                ),
            );
        }
    }
    check_transcript(
        program.dns(),
        "
# What an entry claims and an apex wildcard would capture is still the probe's.
$ dig _probe-a.global A +noedns
;; ->>HEADER<<- opcode: QUERY, status: NOERROR
;; flags: qr aa rd; QUERY: 1, ANSWER: 0, AUTHORITY: 1, ADDITIONAL: 0
;; QUESTION SECTION:
;_probe-a.global. IN A
;; AUTHORITY SECTION:
global. 5 IN SOA ns.dns.global. hostmaster.global. SERIAL 7200 1800 86400 5
",
    );
    assert!(dig(program.dns(), "_probe.global A").contains("_probe.global. 30 IN A 240.0.0.1"));
}

/// [D18] [Z3]
#[tokio::test]
async fn what_the_program_answers_is_a_proof_to_who_asks_for_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = serve(&directory, &["--listen", "127.0.0.1:0", "--listen", "127.0.0.2:0"]);
    assert_eq!(program.dns.len(), 2);
    let zones =
        |texts: &[&str]| -> Vec<Name> { texts.iter().map(|text| Name::parse(text).expect(text)).collect() };
    let patience = Duration::from_secs(20);
    let ours = survey(&program.dns, &zones(&["global", "eu.global", "c2"]), patience).await;
    assert_eq!(ours.len(), 6);
    for Asked { outcome, .. } in &ours {
        let Outcome::Proved { proof: Proof { instance, serial }, .. } = outcome else { panic!("{ours:?}") };
        assert_eq!(instance.as_deref(), Some("pod-1"));
        assert!(*serial > 1_700_000_000, "{serial}");
    }
    assert_eq!(verdict(&ours, &ours), Verdict::Proved);
    let other = survey(&program.dns[..1], &zones(&["c3"]), patience).await;
    assert_eq!(other[0].failure(), Some(Failure::Refused));
}
