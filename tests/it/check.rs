//! `globaldns check`: what it finds, where, and how it ends.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use globaldns::finding::Code;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::cli::{end, refused};
use crate::support::{Ended, globaldns, run};

const SEEDED: &str = "tests/check/seeded";

/// What is found: code, object, field, and the line if it is in a file.
type Found = (String, String, String, Option<u64>);

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

fn found(ended: &Ended) -> BTreeSet<Found> {
    let text = |finding: &Value, key: &str| finding[key].as_str().expect(key).to_owned();
    let one = |finding: &Value| {
        let line = finding["line"].as_u64();
        (text(finding, "code"), text(finding, "object"), text(finding, "field"), line)
    };
    json(ended)["findings"].as_array().expect("a list").iter().map(one).collect()
}

/// `# finds CODE OBJECT FIELD WORDS…` at the end of the line where it is to be found: OBJECT is a document or item of the
/// file, `-` the file, or a name; FIELD is `-` for none; the words are in the reason.
fn wanted(path: &str, text: &str) -> Vec<(Found, String)> {
    let mut wanted = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        for seed in text.split("# finds ").skip(1) {
            let seed = seed.trim_end().trim_end_matches(" #");
            let mut words = seed.splitn(4, ' ');
            let mut next = || words.next().unwrap_or_default();
            let (code, object, field, why) = (next(), next(), next(), next());
            let (object, line) = match object {
                "-" => (path.to_owned(), None),
                _ if object.starts_with(|c: char| c.is_ascii_digit()) => {
                    (format!("{path}:{object}"), Some(line))
                }
                _ => (object.to_owned(), None),
            };
            let field = if field == "-" { "" } else { field };
            wanted.push(((code.to_owned(), object, field.to_owned(), line), why.to_owned()));
        }
    }
    wanted
}

/// [F1] [F2] [F3] [A1] [A7] [D2] [H1] [H2] [H5] [O3] [O4] [O5] [O6] [S5] Every seed is found, at its line, and nothing else.
#[test]
fn every_seeded_defect_is_found_where_it_is_and_nothing_else() {
    let mut seeds = 0;
    let mut codes = BTreeSet::new();
    for file in fs::read_dir(SEEDED).expect("a directory") {
        let path = file.expect("a file").path().display().to_string();
        let text = fs::read_to_string(&path).expect("readable");
        let flags = text.lines().filter_map(|line| line.strip_prefix("# flags: "));
        let flags: Vec<&str> = flags.flat_map(str::split_whitespace).collect();
        let wanted = wanted(&path, &text);
        assert!(!wanted.is_empty(), "{path}");
        let ended = end(&[&["check", &path, "-o", "json"], &flags[..]].concat());
        let reasons = json(&ended);
        let found = found(&ended);
        // Where a file is broken is the parser's word.
        let line_of = |(code, object, field, line): Found| {
            let line = line.filter(|_| code != "file-unreadable");
            (code, object, field, line)
        };
        let found: BTreeSet<Found> = found.into_iter().map(line_of).collect();
        let expected: BTreeSet<Found> = wanted.iter().map(|(found, _)| found.clone()).collect();
        assert_eq!(found, expected, "{path}");
        for ((code, object, field, _), why) in &wanted {
            let is_it = |finding: &&Value| {
                finding["code"] == **code && finding["object"] == **object && finding["field"] == **field
            };
            let finding = reasons["findings"].as_array().into_iter().flatten().find(is_it).expect("found");
            assert!(finding["why"].as_str().expect("a reason").contains(why.as_str()), "{finding}");
            codes.insert(code.clone());
        }
        seeds += wanted.len();
    }
    // The three that no manifest has, and one that needs a long list.
    codes.extend(["advertise-service", "crd-absent", "entry-unread", "limit-exceeded"].map(str::to_owned));
    assert_eq!(codes, Code::ALL.iter().map(|code| code.as_str().to_owned()).collect::<BTreeSet<_>>());
    assert!(seeds >= 40, "{seeds} seeds");
    println!("{seeds} seeds, {} codes", codes.len() - 4);
}

/// [S7] [F2]
#[test]
fn more_findings_than_are_told_are_counted() {
    let file = tempfile::Builder::new().suffix(".json").tempfile().expect("a file");
    let hosts: Vec<String> = (0..150).map(|i| format!("bad host {i}")).collect();
    let entry = json!({"kind": "ServiceEntry", "metadata": {"name": "a"}, "spec": {"hosts": hosts}});
    serde_json::to_writer(&file, &entry).expect("written");
    let ended = end(&["check", file.path().to_str().expect("UTF-8"), "-o", "json"]);
    let beyond: Vec<_> = found(&ended).into_iter().filter(|(code, ..)| code == "limit-exceeded").collect();
    assert_eq!(beyond.len(), 1, "{beyond:?}");
    assert_eq!((ended.code, json(&ended)["errors"].as_u64()), (Some(1), Some(101)));
}

/// [X1] [F2]
#[test]
fn the_exit_code_tells_the_severity() {
    let code = |args: &[&str]| end(&[&["check"], args].concat()).code;
    for (file, plain, strict) in
        [("zones.yaml", 0, 0), ("exports.yaml", 0, 0), ("shared.yaml", 0, 1), ("hosts.yaml", 1, 1)]
    {
        let path = format!("{SEEDED}/{file}");
        assert_eq!((code(&[&path]), code(&[&path, "--strict"])), (Some(plain), Some(strict)), "{file}");
    }
}

/// [X1] [F2]
#[test]
fn nothing_to_check_is_bad_usage() {
    assert_eq!(
        refused(&["check"]),
        "globaldns: there is nothing to check: name files or directories, - for standard input, or --cluster"
    );
    // That of a server beside it is none of its own.
    let mut command = globaldns(&["check"]);
    command.env("GLOBALDNS_NAMESPACE", "foo");
    let ended = run(command);
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("there is nothing to check"), "{}", ended.stderr);
}

/// [F2] Lines and columns begin at 1, also where a file ends behind the end of a line.
#[test]
fn a_place_in_broken_json_is_one_that_there_is() {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in [("cut.json", "{\n"), ("string.json", "{\"a\": \"x\n\"}")] {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        let checked = json(&end(&["check", path.to_str().expect("UTF-8"), "-o", "json"]));
        let finding = &checked["findings"][0];
        let at = |field: &str| finding[field].as_u64().expect(field);
        assert!(at("line") >= 1 && at("column") >= 1, "{name}: {finding}");
    }
}

/// [F2] [S3] One file that cannot be read hides no other, nor the documents before the fault.
#[test]
fn what_cannot_be_read_is_a_finding_and_hides_nothing() {
    let missing = "tests/check/missing.yaml";
    let ended = end(&[
        "check",
        missing,
        &format!("{SEEDED}/broken.yaml"),
        &format!("{SEEDED}/shared.yaml"),
        "-o",
        "json",
    ]);
    let codes: Vec<_> = found(&ended).into_iter().map(|(code, ..)| code).collect();
    for code in ["file-unreadable", "host-invalid", "address-shared"] {
        assert!(codes.iter().any(|found| found == code), "{code}: {codes:?}");
    }
    assert_eq!(codes.iter().filter(|code| *code == "file-unreadable").count(), 2);
    let checked = json(&ended);
    let mut of_files = checked["findings"].as_array().into_iter().flatten();
    let broken = of_files.find(|f| f["code"] == "file-unreadable" && f["file"] != missing).expect("the file");
    assert!(broken["line"].as_u64() > Some(10) && broken["column"].is_u64(), "{broken}");
    assert!(!broken["why"].as_str().expect("a reason").contains("line"), "the place is said once: {broken}");
    assert_eq!(ended.code, Some(1));
}

/// [F2] A template is no manifest, and whoever checks one is told how it becomes one.
#[test]
fn a_template_is_to_be_rendered_first() {
    let directory = tempfile::tempdir().expect("a directory");
    for (at, line) in ["{{- if .Values.on }}", "  name: {{ .Values.name }}"].iter().enumerate() {
        let path = directory.path().join(format!("{at}.yaml"));
        fs::write(&path, format!("kind: ServiceEntry\nmetadata:\n{line}\n")).expect("written");
        let ended = end(&["check", path.to_str().expect("UTF-8")]);
        assert!(ended.stdout.contains("helm template . | globaldns check -"), "{line}: {}", ended.stdout);
    }
    let path = directory.path().join("2.json");
    fs::write(&path, "{\"kind\": }").expect("written");
    let ended = end(&["check", path.to_str().expect("UTF-8")]);
    assert!(!ended.stdout.contains("template") && !ended.stdout.contains(" line "), "{}", ended.stdout);
}

/// [F2] A path that was moved, or is no manifest, passes as nothing else would.
#[test]
fn a_path_without_a_service_entry_is_told_of_and_strictly_fails() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("a.yaml");
    fs::write(&path, "kind: ConfigMap\n").expect("written");
    let (file, below) = (path.to_str().expect("UTF-8"), directory.path().to_str().expect("UTF-8"));
    let ended = end(&["check", "tests/check", file, below, "tests/check/missing.yaml"]);
    let told = "globaldns: PATH has no ServiceEntry in it";
    for path in [file, below] {
        assert!(ended.stderr.contains(&told.replace("PATH", path)), "{}", ended.stderr);
    }
    assert_eq!(ended.stderr.matches("has no ServiceEntry").count(), 2, "what cannot be read is a finding");
    let missing = ended.stdout.lines().find(|line| line.starts_with("tests/check/missing.yaml"));
    let missing = missing.expect("the path");
    assert!(
        missing.starts_with("tests/check/missing.yaml: error [file-unreadable]"),
        "no line to look at: {missing}"
    );
    assert_eq!((end(&["check", file]).code, end(&["check", file, "--strict"]).code), (Some(0), Some(1)));
    let fine = format!("{SEEDED}/exports.yaml");
    assert_eq!(end(&["check", &fine, "--strict"]).code, Some(0));
}

/// [F2] [X0] In a server's own container, its variables are a server's.
#[test]
fn variables_of_a_server_do_not_hinder_who_reads_once() {
    let with_variables = |args: &[&str]| {
        let mut command = globaldns(args);
        command
            .env("GLOBALDNS_ADVERTISE_SERVICE", "globaldns/globaldns")
            .env("GLOBALDNS_NAMESPACE", "globaldns");
        command.env("GLOBALDNS_FILE", "/nowhere.yaml").env("GLOBALDNS_KUBERNETES", "false");
        command
    };
    let fine = format!("{SEEDED}/exports.yaml");
    let ended = run(with_variables(&["check", &fine]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut explain = with_variables(&["explain", "nothing.global", "--file", &fine]);
    explain.env_remove("GLOBALDNS_FILE");
    let ended = run(explain);
    assert!(ended.code == Some(1) && ended.stdout.contains("nothing.global"), "{ended:?}");
    for flags in [["--namespace", "a"], ["--advertise-service", "a/b"]] {
        let told = refused(&[&["check", &fine], &flags[..]].concat());
        assert!(told.contains(&format!("{} needs a cluster", flags[0])), "{told}");
    }
}

/// [F3] Nobody has chosen the default zone.
#[test]
fn only_zones_that_were_chosen_are_held_against_the_public_ones() {
    let fine = format!("{SEEDED}/exports.yaml");
    let is_told = |more: &[&str], variable: Option<&str>| {
        let mut command = globaldns(&[&["check", &fine, "-o", "json"], more].concat());
        variable.into_iter().for_each(|zone| _ = command.env("GLOBALDNS_ZONE", zone));
        found(&run(command)).iter().any(|(code, ..)| code == "zone-public")
    };
    assert!(!is_told(&[], None));
    assert!(is_told(&["--zone", "global"], None) && is_told(&[], Some("global")));
}

/// [F2] [A2]
#[test]
fn hosts_that_istiod_will_give_an_address_need_none() {
    let bare = |flags: &[&str]| {
        let ended = end(&[&["check", "tests/check/seeded/addresses.yaml", "-o", "json"], flags].concat());
        found(&ended)
            .into_iter()
            .filter(|f| f.0 == "host-no-address")
            .map(|f| f.1 + " " + &f.2)
            .collect::<Vec<_>>()
    };
    let document = |rest: &str| format!("tests/check/seeded/addresses.yaml:{rest}");
    let without = ["3 spec.hosts[1]", "4 spec.hosts[0]"].map(document);
    assert_eq!(bare(&["--auto-allocation"]), without);
    assert_eq!(bare(&[]).len(), 3);
}

/// [F2] [S2]
#[test]
fn standard_input_is_checked_too() {
    let mut child = globaldns(&["check", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let text = fs::read(format!("{SEEDED}/exports.yaml")).expect("readable");
    child.stdin.take().expect("piped").write_all(&text).expect("written");
    let ended = child.wait_with_output().expect("it ends");
    let stdout = String::from_utf8_lossy(&ended.stdout);
    assert!(stdout.contains("info [export-beyond] -:1: spec.exportTo"), "{stdout}");
    assert_eq!(ended.status.code(), Some(0));
}

/// [F2] [X1] People read lines that editors understand, what is only info once; programs get all of it, as JSON or YAML.
#[test]
fn the_same_findings_as_text_json_and_yaml() {
    let args = ["check", SEEDED];
    let json = json(&end(&[&args[..], &["-o", "json"]].concat()));
    let yaml = end(&[&args[..], &["--output", "yaml"]].concat()).stdout;
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).expect("YAML"), json);
    let (wide, text) = (end(&[&args[..], &["-o", "wide"]].concat()), end(&args));
    let lines = |ended: &Ended| ended.stdout.lines().count() as u64;
    let count = |key: &str| json[key].as_u64().expect(key);
    assert_eq!(lines(&wide), count("errors") + count("warnings") + count("infos"));
    assert_eq!(wide.stderr, text.stderr);
    assert!(lines(&text) < lines(&wide));
    assert!(text.stdout.contains("more like this: -o wide"), "{}", text.stdout);
    let line = "tests/check/seeded/hosts.yaml:12:5: error [placeholder] spec.hosts[6] \"<hostname>\": it is a \
                placeholder that was not replaced, not a host name; fill in the host name";
    assert!(text.stdout.lines().any(|l| l == line), "{}", text.stdout);
}

/// [F2]
#[test]
fn sarif_names_rules_files_and_lines() {
    let log = json(&end(&["check", SEEDED, "-o", "sarif"]));
    let run = &log["runs"][0];
    let rules: Vec<&str> = run["tool"]["driver"]["rules"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|r| r["id"].as_str())
        .collect();
    assert_eq!(rules, Code::ALL.iter().map(|code| code.as_str()).collect::<Vec<_>>());
    let results = run["results"].as_array().expect("results");
    assert!(results.len() >= 40);
    let notices = run["invocations"][0]["toolExecutionNotifications"].as_array().expect("notifications");
    assert!(notices.is_empty(), "{notices:?}");
    for result in results {
        let index = result["ruleIndex"].as_u64().expect("an index") as usize;
        assert_eq!(result["ruleId"], rules[index]);
        assert!(["error", "warning"].contains(&result["level"].as_str().expect("a level")));
        // Code scanning refuses all of them for one without.
        let physical = &result["locations"][0]["physicalLocation"];
        let uri = physical["artifactLocation"]["uri"].as_str().expect("a place in a file");
        assert!(Path::new(uri).exists(), "{uri}");
        let line = physical["region"]["startLine"].as_u64().expect("a line");
        if result["ruleId"] == "placeholder" {
            let text = fs::read_to_string(uri).expect("readable");
            assert!(text.lines().nth(line as usize - 1).expect("the line").contains("finds placeholder"));
        }
    }
}

/// [F2] Code scanning takes no result without a place in a file.
#[test]
fn sarif_tells_of_a_cluster_by_notifications_of_the_run() {
    let api = ApiServer::start(&["v1"]);
    api.apply("foo/a", json!({"hosts": ["a b", "a.example"], "addresses": ["240.1.0.1"]}));
    let ended = end(&["check", "--cluster", "--kubeconfig", api.kubeconfig(), "-o", "sarif"]);
    let run = &json(&ended)["runs"][0];
    assert_eq!(run["results"], json!([]));
    let notices = run["invocations"][0]["toolExecutionNotifications"].as_array().expect("notifications");
    assert_eq!(notices.len(), 1, "no note is among them: {notices:?}");
    assert_eq!(notices[0]["associatedRule"]["id"], "host-invalid");
    assert_eq!(notices[0]["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "foo/a");
    assert_eq!((run["invocations"][0]["executionSuccessful"].clone(), ended.code), (json!(true), Some(1)));
}

/// The paths of what a cluster tells of its addresses.
const NODES: &str = "/api/v1/nodes";
const CIDRS: &str = "/apis/networking.k8s.io/v1/servicecidrs";
const SERVICES: &str = "/api/v1/services";

fn cluster(api: &ApiServer, more: &[&str]) -> Ended {
    end(&[&["check", "--cluster", "--kubeconfig", api.kubeconfig(), "-o", "json"], more].concat())
}

/// [F3] [F2] A right that is missing costs only the look that needs it, and is said once.
#[test]
fn the_ranges_of_a_cluster_are_found() {
    let api = ApiServer::start(&["v1"]);
    let addresses = ["10.244.1.9", "10.96.0.9", "192.168.0.4", "fd00::4", "240.1.0.1"];
    api.apply(
        "foo/a",
        json!({"hosts": ["a.global"], "addresses": addresses, "resolution": "STATIC", "exportTo": ["*"]}),
    );
    let in_cluster = |ended: &Ended| -> Vec<String> {
        found(ended)
            .into_iter()
            .filter(|(code, ..)| code == "address-in-cluster")
            .map(|(_, _, f, _)| f)
            .collect()
    };
    let nothing = cluster(&api, &[]);
    assert_eq!(in_cluster(&nothing), [""; 0]);
    for what in ["nodes cannot be listed", "neither ServiceCIDRs"] {
        assert_eq!(nothing.stderr.matches(what).count(), 1, "{}", nothing.stderr);
    }
    assert_eq!(nothing.code, Some(0));
    let node = json!({"metadata": {"name": "n"}, "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24"]},
        "status": {"addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.168.0.4"},
            {"type": "InternalIP", "address": "fd00::4"}]}});
    api.set_items(NODES, json!([node]));
    let service = json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {"clusterIP": "10.96.0.9",
        "clusterIPs": ["10.96.0.9"]}});
    api.set_items(SERVICES, json!([service]));
    let fields = [0, 1, 2, 3].map(|at| format!("spec.addresses[{at}]"));
    let by_services = cluster(&api, &[]);
    assert_eq!(in_cluster(&by_services), fields);
    assert!(!by_services.stderr.contains("cannot be listed"), "{}", by_services.stderr);
    api.set_items(CIDRS, json!([{"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}}]));
    let asked = api.requests().iter().filter(|request| request.starts_with(SERVICES)).count();
    assert_eq!(in_cluster(&cluster(&api, &["--strict"])), fields);
    assert_eq!(api.requests().iter().filter(|request| request.starts_with(SERVICES)).count(), asked);
}

/// [F2] [X2] `-n` names what is read, and `-A` takes that back, as with kubectl.
#[test]
fn namespaces_are_chosen_as_with_kubectl() {
    let api = ApiServer::start(&["v1"]);
    for id in ["foo/a", "bar/b"] {
        api.apply(id, json!({"hosts": ["a b"], "addresses": ["240.1.0.1"]}));
    }
    let objects = |more: &[&str]| -> Vec<String> {
        found(&cluster(&api, more))
            .into_iter()
            .filter(|f| f.0 == "host-invalid")
            .map(|(_, o, ..)| o)
            .collect()
    };
    assert_eq!(objects(&["-n", "foo"]), ["foo/a"]);
    assert_eq!(objects(&["-n", "foo", "-A"]), ["bar/b", "foo/a"]);
    assert_eq!(objects(&[]), ["bar/b", "foo/a"]);
    let mut command = globaldns(&["check", "-A", "-o", "json", "--kubeconfig", api.kubeconfig()]);
    command.env("GLOBALDNS_NAMESPACE", "foo");
    assert_eq!(json(&run(command))["entries"], 2);
}

/// [F2] [X1] The exit code is what was found, whoever reads the summary.
#[test]
fn a_standard_error_that_takes_nothing_does_not_end_it() {
    for (path, code) in [("tests/check/seeded/hosts.yaml", 1), ("tests/check/seeded/exports.yaml", 0)] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a full device");
        let ended = globaldns(&["check", path]).stderr(full).output().expect("it runs");
        assert_eq!(ended.status.code(), Some(code), "{path}");
        assert!(!ended.stdout.is_empty() || code == 0, "{path}");
    }
}
