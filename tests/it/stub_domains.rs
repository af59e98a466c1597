//! `globaldns stub-domains emit`: what is printed, that its formats can read it, and what is refused.
//!
//! `UPDATE_GOLDEN=1 cargo test --test it stub_domains` writes `stub_domains/golden/` anew; read the difference.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cli::{end, refused};

const ZONES: [&str; 4] = ["--zone", "global", "--zone", "cluster2"];
const PLAIN: [&str; 2] = ["--dns-ip", "10.96.0.53"];
const LIVE: &str = "tests/it/stub_domains/live";

fn emit<'a>(flavour: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["stub-domains", "emit", "--for", flavour], &ZONES[..], more].concat()
}

/// The text of a flavour, as one field of the JSON output.
fn text(flavour: &str, more: &[&str]) -> String {
    let ended = end(&emit(flavour, &[more, &["--output", "json"]].concat()));
    assert_eq!(ended.code, Some(0), "{flavour}: {}", ended.stderr);
    let emitted: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    emitted["text"].as_str().expect("a text").to_owned()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

/// Names as `--list` has them, with the kind of live text they take.
fn flavours() -> Vec<(String, Option<String>)> {
    let ended = end(&["stub-domains", "emit", "--list", "--output", "json"]);
    let list: Vec<Value> = serde_json::from_str(&ended.stdout).expect("JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(|f| (text(&f["name"]).expect("a name"), text(&f["live"]))).collect()
}

fn live_file(flavour: &str, kind: &str) -> String {
    let file = match (flavour, kind) {
        ("nodelocal-corefile", _) => "Corefile.node-local",
        (_, "the Corefile") => "Corefile",
        (_, "the value of stubDomains") => "stubDomains.json",
        _ => "dns.json",
    };
    format!("{LIVE}/{file}")
}

/// The command, what it printed, and behind `!` what it said beside.
fn transcript(args: &[&str]) -> String {
    let ended = end(args);
    let beside: String = ended.stderr.lines().map(|line| format!("! {line}\n")).collect();
    let code = if ended.code == Some(0) { String::new() } else { format!("! exit code {:?}\n", ended.code) };
    format!("$ globaldns {}\n{}{beside}{code}", args.join(" "), ended.stdout)
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/stub_domains/golden")
}

#[test]
fn every_flavour_prints_what_its_golden_file_says() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    let mut names = Vec::new();
    for (flavour, kind) in flavours() {
        let mut runs = vec![
            transcript(&emit(&flavour, &PLAIN)),
            transcript(&emit(&flavour, &["--dns-ip", "10.96.0.53:5353,10.96.0.54:5353"])),
            transcript(&emit(&flavour, &["--dns-ip", "fd00:10:96::35"])),
            transcript(&emit(&flavour, &["--dns-ip", "[fd00:10:96::35]:5353"])),
            transcript(&emit(
                &flavour,
                &[&PLAIN[..], &["--reverse", "240.0.0.0/8,10.99.0.0/16,fd00:99::/32"]].concat(),
            )),
        ];
        if let Some(kind) = kind {
            let file = live_file(&flavour, &kind);
            runs.push(transcript(&emit(&flavour, &[&PLAIN[..], &["--live", &file]].concat())));
        }
        let printed = runs.join("\n");
        let path = golden().join(format!("{flavour}.txt"));
        if update {
            fs::write(&path, &printed).expect("written");
        }
        if fs::read_to_string(&path).unwrap_or_default() != printed {
            differing.push(flavour.clone());
        }
        names.push(format!("{flavour}.txt"));
    }
    assert!(differing.is_empty(), "{differing:?} differ; UPDATE_GOLDEN=1 writes the files anew");
    names.sort();
    let mut there: Vec<_> = fs::read_dir(golden())
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"))
        .collect();
    there.sort();
    assert_eq!(there, names);
}

/// What the tables of a section name, outside of their heads.
fn tabled(page: &str, heading: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).expect("a file");
    let section = page.split(heading).nth(1).and_then(|rest| rest.split("\n## ").next());
    let rows = section.expect("a section").lines();
    let mut names: Vec<_> = rows
        .filter(|row| row.starts_with("| ") && !row.contains("`--for`"))
        .flat_map(|row| row.split('`').skip(1).step_by(2).map(str::to_owned).collect::<Vec<_>>())
        .filter(|name| name != "coredns-custom")
        .collect();
    names.sort();
    names.dedup();
    names
}

#[test]
fn the_documents_name_every_flavour_and_no_other() {
    let mut names: Vec<_> = flavours().into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(tabled("docs/stub-domains.md", "\n## Texts for others\n"), names);
    let some = tabled("README.md", "\n## Stub domains\n");
    assert!(!some.is_empty() && some.iter().all(|name| names.contains(name)), "{some:?}");
}

const BLOCK: &str = "global:53 cluster2:53 {\n    errors\n    cache 30\n    forward . 10.96.0.53\n}\n";
const MARKED: &str = "# BEGIN globaldns managed stub zones (do not edit)\nglobal:53 cluster2:53 {\n    \
    errors\n    cache 30\n    forward . 10.96.0.53\n}\n# END globaldns managed stub zones\n";

#[test]
fn json_and_yaml_say_what_they_should_to_a_reader() {
    let servers = json!(["10.96.0.53"]);
    for flavour in ["kube-dns", "gke", "nodelocal", "rke2-nodelocal", "cce"] {
        let read: Value = serde_json::from_str(&text(flavour, &PLAIN)).expect("JSON");
        assert_eq!(read, json!({"cluster2": servers, "global": servers}), "{flavour}");
    }
    let element = json!({"name": "globaldns", "zones": ["global", "cluster2"],
        "forwardPlugin": {"policy": "Random", "upstreams": servers}});
    let json = |flavour, more: &[&str]| -> Value {
        serde_json::from_str(&text(flavour, &[&PLAIN[..], more].concat())).expect("JSON")
    };
    assert_eq!(json("openshift", &[]), element);
    assert_eq!(
        json("openshift-patch", &[]),
        json!([{"op": "test", "path": "/metadata/resourceVersion", "value": "<rv>"},
               {"op": "add", "path": "/spec/servers/-", "value": element}])
    );
    let patch = json("openshift-patch", &["--live", &format!("{LIVE}/dns.json")]);
    assert_eq!((&patch[0]["value"], &patch[1]["value"][1]), (&json!("31337"), &element));
    assert_eq!(json("eks-addon", &[]), json!({"corefile": format!("<live>{BLOCK}")}));

    for flavour in ["aks", "k3s", "vcluster", "doks", "lke", "ovh", "oke", "oks", "cloudfleet", "gardener"] {
        let block = if flavour == "gardener" { BLOCK.replace(":53", ":8053") } else { BLOCK.to_owned() };
        let wanted = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"globaldns.server": block},
            "metadata": {"name": "coredns-custom", "namespace": "kube-system"}});
        assert_eq!(yaml(&text(flavour, &PLAIN)), wanted, "{flavour}");
    }
    let forward = json!({"upstreams": servers});
    assert_eq!(
        yaml(&text("ack", &PLAIN)),
        json!([{"name": "global", "forward": forward}, {"name": "cluster2", "forward": forward}])
    );
    let kubespray = yaml(&text("kubespray", &PLAIN));
    let zones = json!([{"zones": ["global", "cluster2"], "nameservers": servers, "cache": 30}]);
    assert_eq!(kubespray, json!({"coredns_external_zones": zones, "nodelocaldns_external_zones": zones}));
    assert_eq!(
        yaml(&text("kops-kubedns", &PLAIN))["spec"]["kubeDNS"],
        json!({"provider": "KubeDNS", "stubDomains": {"global": servers, "cluster2": servers}})
    );
    let cache = &yaml(&text("kops-nodelocal", &PLAIN))["spec"]["kubeDNS"]["nodeLocalDNS"]["additionalConfig"];
    assert_eq!(cache, &BLOCK.replace("    forward", "    bind __PILLAR__LOCAL__DNS__\n    forward"));
}

/// The live Corefile with our block behind it, wherever it is told to go.
#[test]
fn a_live_corefile_is_repeated_to_the_octet() {
    let file = format!("{LIVE}/Corefile");
    let live = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect("a file");
    let more = [&PLAIN[..], &["--live", &file]].concat();
    let whole = format!("{live}{MARKED}");
    assert_eq!(text("kubeadm", &more), whole);
    assert_eq!(yaml(&text("kops", &more))["spec"]["kubeDNS"]["externalCoreFile"], json!(whole));
    let k0s = yaml(&text("k0s-config", &more));
    let patch = &k0s["spec"]["network"]["coreDNS"]["patches"][0]["patch"];
    assert_eq!(patch["type"], "MergePatch");
    assert_eq!(yaml(patch["content"].as_str().expect("a text"))["data"]["Corefile"], json!(whole));
    let addon: Value = serde_json::from_str(&text("eks-addon", &more)).expect("JSON");
    assert_eq!(addon, json!({ "corefile": whole }));

    // Extending it again changes nothing, wherever our block is and whoever dropped the comments.
    let again = tempfile::NamedTempFile::new().expect("a file");
    let path = again.path().to_str().expect("UTF-8");
    for there in [whole.clone(), format!("{live}{BLOCK}"), format!("{MARKED}{live}")] {
        fs::write(again.path(), &there).expect("written");
        let more = [&PLAIN[..], &["--corefile", path]].concat();
        assert_eq!(text("kubeadm", &more), there);
        let addon: Value = serde_json::from_str(&text("eks-addon", &more)).expect("JSON");
        assert_eq!(addon, json!({ "corefile": there }));
    }

    // With the comments our block is known after its address has changed, and renewed.
    fs::write(again.path(), &whole).expect("written");
    let addon = text("eks-addon", &["--dns-ip", "10.96.0.99", "--live", path]);
    let addon: Value = serde_json::from_str(&addon).expect("JSON");
    assert_eq!(addon, json!({"corefile": whole.replace("10.96.0.53", "10.96.0.99")}));
}

#[test]
fn our_block_listens_where_the_live_one_for_everything_does() {
    let live = tempfile::NamedTempFile::new().expect("a file");
    let corefile = "corp:53 {\n    errors\n}\ndns://.:1053 {\n    errors\n    forward . /etc/resolv.conf\n}";
    fs::write(live.path(), corefile).expect("written");
    let more = [&PLAIN[..], &["--live", live.path().to_str().expect("UTF-8")]].concat();
    // It has no newline at its end; so what is added has none, and can be taken out to the octet.
    let ours = MARKED.replace(":53", ":1053");
    assert_eq!(text("coredns", &more), format!("{corefile}\n{}", ours.trim_end()));
    fs::write(live.path(), corefile.replace("dns://", "")).expect("written");
    let values = yaml(&text("helm-coredns", &more));
    let ports: Vec<_> = values["servers"].as_array().expect("a list").iter().map(|s| &s["port"]).collect();
    assert_eq!(ports, [53, 1053, 1053, 1053]);

    fs::write(live.path(), ".:53 {\n    bind 10.0.0.2 lo\n    forward . /etc/resolv.conf\n}\n")
        .expect("written");
    assert!(
        text("coredns", &more).contains("    cache 30\n    bind 10.0.0.2 lo\n    forward . 10.96.0.53\n")
    );
    let values = yaml(&text("helm-coredns", &more));
    assert_eq!(values["servers"][2]["plugins"][2], json!({"name": "bind", "parameters": "10.0.0.2 lo"}));
    // A block that binds where the others do not would take their queries and know no other name.
    fs::write(live.path(), ".:53 {\n    forward . /etc/resolv.conf\n}\n").expect("written");
    assert!(!text("nodelocal-corefile", &more).contains("bind"));
}

/// What is not in our way, but may keep a zone from us, is said beside.
#[test]
fn a_name_below_a_zone_that_goes_elsewhere_is_a_note() {
    let live = tempfile::NamedTempFile::new().expect("a file");
    let corefile = ".:53 {\n    errors\n}\neu.global:53 {\n    forward . 10.0.0.9\n}\n";
    fs::write(live.path(), corefile).expect("written");
    let more = [&PLAIN[..], &["--live", live.path().to_str().expect("UTF-8")]].concat();
    let ended = end(&emit("coredns", &more));
    assert_eq!(ended.stdout, format!("{corefile}{MARKED}"));
    let note = "Note: line 4: eu.global:53 does not come to us, though it is below a zone that does\n";
    assert!(ended.stderr.ends_with(note), "{}", ended.stderr);
}

/// The chart writes `KEY:PORT { NAME PARAMETERS { BLOCK } … }` of each server.
#[test]
fn chart_values_become_the_same_corefile_again() {
    let corefile = |values: &Value| -> Vec<String> {
        let mut words = Vec::new();
        for server in values["servers"].as_array().expect("a list") {
            let zones = server["zones"].as_array().expect("a list");
            assert_eq!(zones.len(), 1);
            words.push(format!("{}:{}", zones[0]["zone"].as_str().expect("a zone"), server["port"]));
            for plugin in server["plugins"].as_array().expect("a list") {
                for field in ["name", "parameters", "configBlock"] {
                    let text =
                        plugin[field].as_str().map_or_else(|| plugin[field].to_string(), str::to_owned);
                    words.extend(text.split_whitespace().filter(|w| *w != "null").map(str::to_owned));
                }
            }
        }
        words
    };
    let stubs =
        "global:53 errors cache 30 forward . 10.96.0.53 cluster2:53 errors cache 30 forward . 10.96.0.53";
    let file = format!("{LIVE}/Corefile");
    let live = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file)).expect("a file");
    let more = [&PLAIN[..], &["--live", &file]].concat();
    let wanted = format!("{} {stubs}", live.replace(['{', '}'], " "));
    let wanted: Vec<_> = wanted.split_whitespace().collect();
    assert_eq!(corefile(&yaml(&text("helm-coredns", &more))), wanted);

    let rke2 = yaml(&text("rke2", &more));
    assert_eq!(rke2["metadata"], json!({"name": "rke2-coredns", "namespace": "kube-system"}));
    let values = yaml(rke2["spec"]["valuesContent"].as_str().expect("a text"));
    let wanted: Vec<_> = wanted
        .iter()
        .enumerate()
        .filter(|(i, word)| **word != "cluster.local" || wanted[i - 1] != "kubernetes")
        .map(|(_, word)| *word)
        .collect();
    assert_eq!(corefile(&values), wanted);

    let plain = yaml(&text("rke2", &PLAIN));
    let plain = corefile(&yaml(plain["spec"]["valuesContent"].as_str().expect("a text"))).join(" ");
    assert!(
        plain.starts_with(".:53 errors health lameduck 10s ready kubernetes in-addr.arpa ip6.arpa"),
        "{plain}"
    );
    assert!(plain.ends_with(stubs), "{plain}");
}

/// [X1]
#[test]
fn what_cannot_be_emitted_is_refused_with_the_flag_the_reason_and_the_remedy() {
    let ip = ["--dns-ip", "10.96.0.53"];
    let cases: [(&[&str], &str); 12] = [
        (
            &["--for", "coredns", "--dns-ip", "dns.corp"],
            "--dns-ip \"dns.corp\" is a host name, and a resolver would have to look it up",
        ),
        (&["--for", "coredns", "--dns-ip", "dns.corp:53"], "--dns-ip \"dns.corp:53\" is a host name"),
        (
            &["--for", "coredns", "--dns-ip", "$(kubectl get svc)"],
            "--dns-ip \"$(kubectl get svc)\" is not an IP address; give the ClusterIP",
        ),
        (
            &["--for", "coredns", "--dns-ip", "10.96.0"],
            "--dns-ip \"10.96.0\" is not an IP address; give the ClusterIP",
        ),
        (&["--for", "coredns", "--dns-ip", ""], "--dns-ip \"\" is not an IP address; give the ClusterIP"),
        (
            &["--for", "coredns", "--dns-ip", "0.0.0.0"],
            "--dns-ip: 0.0.0.0:53 is not an address a resolver can ask",
        ),
        (&["--for", "coredns", ip[0], ip[1], "--zone", "."], "--zone \".\" is not a usable name"),
        (
            &["--for", "coredns", ip[0], ip[1], "--zone", "cluster.local"],
            "--zone: zone \"cluster.local\" is the cluster domain",
        ),
        (
            &["--for", "kube-dns", ip[0], ip[1], "--zone", "my_zone"],
            "--for kube-dns: kube-dns does not take the zone my_zone",
        ),
        (
            &["--for", "aks", ip[0], ip[1], "--live", "/dev/null"],
            "--for aks: the text for aks does not depend on a live one; leave",
        ),
        (
            &["--for", "kubeadm", ip[0], ip[1], "--live", "/no/such"],
            "--live /no/such cannot be read: No such file or directory",
        ),
        (
            &["--for", "bind-static-stub", "--dns-ip", "10.96.0.53:5353"],
            "--for bind-static-stub: a static-stub zone of BIND cannot ask on port 5353 \
             (10.96.0.53:5353); emit it for bind",
        ),
    ];
    for (args, message) in cases {
        let refusal = refused(&[&["stub-domains", "emit"], args].concat());
        assert!(refusal.starts_with(&format!("globaldns: {message}")), "{refusal}");
    }
    assert!(refused(&["stub-domains", "emit"]).contains("--for <FLAVOUR>"));
    assert!(refused(&["stub-domains", "emit", "--for", "kubernetes"]).contains("invalid value 'kubernetes'"));
}

/// [X1]
#[test]
fn a_live_text_that_cannot_be_extended_is_a_failure_and_prints_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    let foreign = ".:53 {\n    errors\n}\nGLOBAL.:53 {\n    forward . 10.0.0.9\n}\n";
    let cases = [
        (
            "kubeadm",
            foreign,
            1,
            "--for kubeadm: line 4: global is served on port 53 by a block that is not ours: it asks 10.0.0.9;",
        ),
        ("rke2", foreign, 1, "--for rke2: line 4: global is served on port 53 by a block that is not ours"),
        ("kubeadm", ".:53\nerrors\n", 1, "--for kubeadm: line 1: this server has no braces"),
        ("rke2", "(snip) {\n}\n", 1, "--for rke2: line 1: a quote, a snippet or an import cannot be said"),
        ("rke2", ".:53 {\n", 2, "--for rke2: line 1: the brace of this server is not closed; correct"),
        (
            "kube-dns",
            "{\"global\":[\"10.0.0.9\"]}",
            1,
            "--for kube-dns: stubDomains[\"global\"]: someone else sends",
        ),
    ];
    for (flavour, live, code, message) in cases {
        fs::write(file.path(), live).expect("written");
        let ended = end(&emit(flavour, &[&PLAIN[..], &["--live", path]].concat()));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{}", ended.stderr);
        assert!(ended.stderr.starts_with(&format!("globaldns: {message}")), "{}", ended.stderr);
    }
}

/// [X0] Zones come from the variable that `serve` reads as well, and an empty one is none.
#[test]
fn zones_come_from_the_environment_too() {
    let run = |zone: &str| {
        let mut command = crate::support::globaldns(&["stub-domains", "emit", "--for", "dnsmasq"]);
        command.args(PLAIN).env("GLOBALDNS_ZONE", zone);
        crate::support::run(command).stdout
    };
    assert!(
        run("eu.global,cluster2").contains("server=/eu.global/10.96.0.53\nserver=/cluster2/10.96.0.53\n")
    );
    assert!(run("").contains("\nserver=/global/10.96.0.53\nrebind"));
}
