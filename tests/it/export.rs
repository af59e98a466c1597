//! What `globaldns export` prints, and when it refuses to.

use std::process::Stdio;

use crate::cli::{end, refused};
use crate::support::globaldns;

/// [D5] [X1]
#[test]
fn a_zone_export_refuses_to_guess_the_name_servers_address() {
    let export = ["export", "--file", "examples/gke", "--format", "zone"];
    assert_eq!(
        refused(&export),
        "globaldns: --format zone: a zone file must name its server's address, and none is configured; give \
         --advertise-address, or --advertise-service of a Service with a ClusterIP"
    );
    let ended = end(&[&export[..], &["--advertise-address", "192.0.2.53"]].concat());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// [X1]
#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    for format in ["json", "hosts", "zone"] {
        let args = ["export", "--file", "examples", "--format", format, "--advertise-address", "192.0.2.53"];
        let mut child = globaldns(&args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        // Closed before anything is written.
        drop(child.stdout.take());
        let ended = child.wait_with_output().expect("it ends");
        assert_eq!((ended.status.code(), ended.stderr.len()), (Some(0), 0), "{format}");
    }
}

/// [X1] [D5]
#[test]
fn export_as_zone_files() {
    let args = ["export", "--file", "examples", "--format", "zone", "--zone", "global", "--zone", "cluster2"];
    let options = ["--advertise-address", "192.0.2.53,2001:db8::53", "--ttl", "60", "--negative-ttl", "7"];
    let ended = end(&[&args[..], &options].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let masked: Vec<String> = ended
        .stdout
        .lines()
        .map(|line| match line.split_once(" hostmaster.") {
            None => line.to_owned(),
            Some((head, tail)) => {
                let mut words: Vec<&str> = tail.split(' ').collect();
                assert!(words[1].parse::<u32>().is_ok(), "a serial in {line:?}");
                words[1] = "SERIAL";
                format!("{head} hostmaster.{}", words.join(" "))
            }
        })
        .collect();
    let wanted = "\
; zone global, exported by globaldns VERSION
$ORIGIN global.
$TTL 60
global. 7 IN SOA ns.dns.global. hostmaster.global. SERIAL 7200 1800 86400 7
global. 60 IN NS ns.dns.global.
ns.dns.global. 60 IN A 192.0.2.53
ns.dns.global. 60 IN AAAA 2001:db8::53
httpbin.bar.global. 60 IN A 240.0.0.5
app1.default.global. 60 IN A 240.0.0.6
echo.default.global. 60 IN A 127.255.0.1
helloworld.sample.global. 60 IN A 240.0.0.7
; zone cluster2, exported by globaldns VERSION
$ORIGIN cluster2.
$TTL 60
cluster2. 7 IN SOA ns.dns.cluster2. hostmaster.cluster2. SERIAL 7200 1800 86400 7
cluster2. 60 IN NS ns.dns.cluster2.
ns.dns.cluster2. 60 IN A 192.0.2.53
ns.dns.cluster2. 60 IN AAAA 2001:db8::53
httpbin.bar.cluster2. 60 IN A 240.0.0.2
helloworld.sample.cluster2. 60 IN A 240.0.0.3";
    assert_eq!(masked.join("\n"), wanted.replace("VERSION", globaldns::VERSION));
}

/// [X1]
#[test]
fn export_as_a_hosts_file() {
    let args =
        ["export", "--file", "examples", "--format", "hosts", "--zone", "global", "--zone", "cluster2"];
    let ended = end(&args);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let wanted = "\
240.0.0.5 httpbin.bar.global
240.0.0.6 app1.default.global
127.255.0.1 echo.default.global
240.0.0.7 helloworld.sample.global
240.0.0.2 httpbin.bar.cluster2
240.0.0.3 helloworld.sample.cluster2
";
    assert_eq!(ended.stdout, wanted);
}

/// [X1] [A7] The owner is the entry with the address, never its address-less twin.
#[test]
fn export_as_json() {
    let ended = end(&["export", "--file", "examples/emco", "--zone", "cluster2"]);
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let mut table: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let serial = table["zones"][0]["serial"].take();
    assert!(serial.is_u64(), "{serial}");
    let wanted = serde_json::json!({
        "zones": [{
            "zone": "cluster2",
            "serial": null,
            "hosts": [
                {
                    "host": "httpbin.bar.cluster2",
                    "ttl": 30,
                    "a": ["240.0.0.2"],
                    "aaaa": [],
                    "owners": ["examples/emco/cluster1.yaml:1"],
                },
                {
                    "host": "helloworld.sample.cluster2",
                    "ttl": 30,
                    "a": ["240.0.0.3"],
                    "aaaa": [],
                    "owners": ["examples/emco/cluster1.yaml:3"],
                },
            ],
        }],
    });
    assert_eq!(table, wanted);
}

/// [X1]
#[test]
fn an_output_directory_gets_one_file_per_zone_and_goes_with_zone_files_only() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().to_str().expect("a path in UTF-8");
    let args =
        ["export", "--file", "examples", "--zone", "global", "--zone", "cluster2", "--output-dir", path];
    assert_eq!(
        refused(&args),
        "globaldns: --output-dir goes with --format zone; redirect the output instead"
    );
    let options = ["--format", "zone", "--advertise-address", "192.0.2.53"];
    let ended = end(&[&args[..], &options].concat());
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), ""), "{}", ended.stderr);
    for zone in ["global", "cluster2"] {
        let text =
            std::fs::read_to_string(directory.path().join(format!("{zone}.zone"))).expect("a zone file");
        assert!(text.contains(&format!("\n$ORIGIN {zone}.\n")), "{text}");
    }
}

/// [D22] [D23] [D24] Reverse zones are files of their own, and services stand beside their host.
#[test]
fn an_export_has_the_names_of_addresses_and_the_services_of_ports() {
    let table = ["--file", "examples/gke", "--reverse", "240.0.0.0/9", "--srv", "--txt"];
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("UTF-8");
    let zone = ["export", "--format", "zone", "--advertise-address", "192.0.2.53", "--output-dir", path];
    let ended = end(&[&zone[..], &table].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert_eq!(std::fs::read_dir(path).expect("a directory").count(), 1 + 128);
    let lines = |zone: &str| {
        let text = std::fs::read_to_string(directory.path().join(format!("{zone}.zone"))).expect(zone);
        text.lines().filter(|line| !line.contains(" SOA ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let global = lines("global");
    assert_eq!(
        global[global.len() - 2..],
        [
            "app1.default.global. 30 IN A 240.0.0.6",
            "_http1._tcp.app1.default.global. 30 IN SRV 0 100 80 app1.default.global."
        ]
    );
    assert_eq!(
        lines("0.240.in-addr.arpa")[1..],
        [
            "$ORIGIN 0.240.in-addr.arpa.",
            "$TTL 30",
            "0.240.in-addr.arpa. 30 IN NS ns.dns.0.240.in-addr.arpa.",
            "ns.dns.0.240.in-addr.arpa. 30 IN A 192.0.2.53",
            "6.0.0.240.in-addr.arpa. 30 IN PTR app1.default.global.",
        ]
    );
    assert_eq!(lines("1.240.in-addr.arpa").len(), 5);
    let ended = end(&[&["export", "--format", "json"][..], &table].concat());
    let json: serde_json::Value = serde_json::from_str(&ended.stdout).expect("JSON");
    assert_eq!(json["zones"][0]["hosts"][0]["services"][0]["service"], "_http1._tcp");
    assert_eq!(json["zones"][1]["pointers"][0]["hosts"][0], "app1.default.global");
    assert!(!ended.stdout.contains("entry="));
}
