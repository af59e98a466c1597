use super::*;
use crate::limits::{MOST_ADDRESSES, MOST_FINDINGS, MOST_ITEMS};
use crate::wire::name::Name;
use crate::zone::Zones;
use serde_json::json;

fn zones() -> Zones {
    let names = ["global", "cluster2"].iter().map(|n| Name::parse(n).expect(n)).collect();
    Zones::new(names, Name::parse("cluster.local").expect("valid"), 0).expect("valid zones")
}

fn read_with(object: &Value, rules: &Rules) -> Entry {
    Entry::read(object, Origin::Object, &zones(), rules)
}

fn read(object: &Value) -> Entry {
    read_with(object, &Rules::default())
}

/// An entry `foo/bar` with a spec.
fn spec(spec: Value) -> Value {
    json!({"metadata": {"namespace": "foo", "name": "bar"}, "spec": spec})
}

/// `host=address,address` for each claim.
fn claims(entry: &Entry) -> Vec<String> {
    let text = |c: &Claim| {
        let addresses: Vec<_> = c.addresses.iter().map(ToString::to_string).collect();
        format!("{}={}", c.host, addresses.join(","))
    };
    entry.claims.iter().map(text).collect()
}

/// Everything that is wrong with an entry by itself.
fn all_findings(entry: &Entry) -> Vec<Finding> {
    let outside = entry.unserved.iter().filter(|unserved| unserved.reason == Code::HostOutsideZones);
    let outside =
        outside.map(|unserved| outside_finding(&zones(), &entry.id, unserved.field, &unserved.host));
    entry.findings.iter().cloned().chain(outside).collect()
}

/// `code field value` for each finding.
fn findings(entry: &Entry) -> Vec<String> {
    all_findings(entry)
        .iter()
        .map(|f| format!("{} {} {}", f.code.as_str(), f.field, f.value).trim_end().to_owned())
        .collect()
}

fn addresses_of(addresses: Value) -> (Vec<String>, Vec<String>) {
    let entry = read(&spec(json!({"hosts": ["a.global"], "addresses": addresses, "resolution": "DNS"})));
    (claims(&entry), findings(&entry))
}

/// [A1] [A6]
#[test]
fn addresses_are_literals_and_one_address_cidrs() {
    let (claims, findings) = addresses_of(json!([
        "240.0.0.2",
        "2001:db8::2",
        "240.0.0.3/32",
        "2001:db8::3/128",
        "240.0.0.2",
        "240.0.0.1"
    ]));
    assert_eq!(claims, ["a.global=240.0.0.2,2001:db8::2,240.0.0.3,2001:db8::3,240.0.0.1"]);
    assert_eq!(findings, [""; 0]);
}

/// [A1] [S5]
#[test]
fn a_bad_address_is_a_finding_and_costs_nothing_else() {
    let cases = [
        ("10.0.0.0/8", "address-range"),
        ("2001:db8::/64", "address-range"),
        ("0.0.0.0", "address-unspecified"),
        ("::", "address-unspecified"),
        ("0.0.0.0/32", "address-unspecified"),
        ("not-an-address", "address-invalid"),
        ("300.1.1.1", "address-invalid"),
        ("10.0.0.1/33", "address-invalid"),
        ("fe80::1%eth0", "address-invalid"),
        ("010.0.0.1", "address-invalid"),
        (" 10.0.0.1", "address-invalid"),
        ("", "address-invalid"),
        ("<vip address>", "placeholder"),
        ("$(kubectl get svc)", "placeholder"),
        ("${VIP}", "placeholder"),
        ("{{ .Values.vip }}", "placeholder"),
    ];
    for (bad, code) in cases {
        let (claims, findings) = addresses_of(json!(["240.0.0.1", bad, "240.0.0.2"]));
        assert_eq!(claims, ["a.global=240.0.0.1,240.0.0.2"], "{bad}");
        assert_eq!(findings, [format!("{code} spec.addresses[1] {bad}").trim_end()], "{bad}");
    }
}

/// [A1]
#[test]
fn odd_addresses_are_served_with_a_warning() {
    let cases = [
        ("127.255.0.1", "address-loopback"),
        ("::1", "address-loopback"),
        ("224.0.0.5", "address-multicast"),
        ("ff02::1", "address-multicast"),
        ("169.254.1.1", "address-link-local"),
        ("fe80::1", "address-link-local"),
    ];
    for (odd, code) in cases {
        let (claims, findings) = addresses_of(json!([odd]));
        assert_eq!(claims, [format!("a.global={odd}")]);
        assert_eq!(findings, [format!("{code} spec.addresses[0] {odd}")]);
    }
}

/// Status addresses 240.240.0.1 and 2001:2::1 for a.global, 240.240.0.2 for b.global.
fn allocated(spec: Value, labels: Value) -> Value {
    json!({
        "metadata": {"namespace": "foo", "name": "bar", "labels": labels},
        "spec": spec,
        "status": {"addresses": [
            {"value": "240.240.0.1", "host": "A.Global."},
            {"value": "2001:2::1", "host": "a.global"},
            {"value": "240.240.0.2", "host": "b.global"},
            {"value": "240.240.0.9", "host": "elsewhere.global"},
        ]}
    })
}

/// [A2]
#[test]
fn allocated_addresses_count_only_under_istiods_own_conditions() {
    let hosts = json!(["a.global", "b.global"]);
    let taken = ["a.global=240.240.0.1,2001:2::1", "b.global=240.240.0.2"];
    let none = ["a.global=", "b.global="];
    let cases = [
        (json!({"hosts": hosts, "resolution": "DNS"}), json!({}), taken),
        (json!({"hosts": hosts, "resolution": "STATIC", "addresses": []}), json!({}), taken),
        (json!({"hosts": hosts, "resolution": "DNS", "addresses": null}), json!(null), taken),
        (json!({"hosts": hosts, "resolution": "DYNAMIC_DNS"}), json!({}), taken),
        (json!({"hosts": hosts, "resolution": "SOMETHING_NEW"}), json!({}), taken),
        (
            json!({"hosts": hosts, "resolution": "DNS"}),
            json!({"networking.istio.io/enable-autoallocate-ip": "true"}),
            taken,
        ),
        (json!({"hosts": hosts, "resolution": "NONE"}), json!({}), none),
        (json!({"hosts": hosts}), json!({}), none),
        (json!({"hosts": hosts, "resolution": ""}), json!({}), none),
        (
            json!({"hosts": hosts, "resolution": "DNS"}),
            json!({"networking.istio.io/enable-autoallocate-ip": "False"}),
            none,
        ),
        // "Empty" is the field, not what is left of it.
        (json!({"hosts": hosts, "resolution": "DNS", "addresses": ["10.0.0.0/8"]}), json!({}), none),
        (
            json!({"hosts": hosts, "resolution": "DNS", "addresses": ["240.0.0.7"]}),
            json!({}),
            ["a.global=240.0.0.7", "b.global=240.0.0.7"],
        ),
    ];
    for (spec, labels, expected) in cases {
        let object = allocated(spec, labels);
        assert_eq!(claims(&read(&object)), expected, "{object}");
    }
}

/// [A2] [S5]
#[test]
fn broken_allocated_addresses_are_findings() {
    let mut object = allocated(json!({"hosts": ["a.global"], "resolution": "DNS"}), json!({}));
    object["status"]["addresses"] = json!([
        {"value": "nonsense", "host": "a.global"},
        {"value": 7, "host": "a.global"},
        "text",
        {"value": "240.240.0.5"},
        {"value": "240.240.0.4", "host": "a.global"},
    ]);
    let entry = read(&object);
    assert_eq!(claims(&entry), ["a.global=240.240.0.4"]);
    assert_eq!(
        findings(&entry),
        [
            "field-type status.addresses[1].value 7",
            "field-type status.addresses[2] \"text\"",
            "address-invalid status.addresses[0].value nonsense",
        ]
    );
    object["status"]["addresses"] = json!({"a": 1});
    assert_eq!(findings(&read(&object)), ["field-type status.addresses {\"a\":1}"]);
}

/// [A4]
#[test]
fn endpoints_are_never_answers() {
    let entry = read(&spec(json!({
        "hosts": ["a.global"], "resolution": "STATIC",
        "endpoints": [{"address": "10.1.1.1"}, {"address": "2001:db8::9"}]
    })));
    assert_eq!(claims(&entry), ["a.global="]);
}

/// [A5]
#[test]
fn resolution_none_with_addresses_is_served_unless_skipped() {
    let object = spec(json!({"hosts": ["a.global"], "addresses": ["240.0.0.1"], "resolution": "NONE"}));
    let entry = read(&object);
    assert!(entry.resolution_none);
    assert_eq!(claims(&entry), ["a.global=240.0.0.1"]);
    let rules = Rules { skip_resolution_none: true, ..Rules::default() };
    let skipped = read_with(&object, &rules);
    assert_eq!((claims(&skipped), findings(&skipped)), (vec![], vec!["resolution-none-skipped".to_owned()]));
    let other = spec(json!({"hosts": ["a.global"], "addresses": ["240.0.0.1"], "resolution": "STATIC"}));
    assert_eq!(claims(&read_with(&other, &rules)), ["a.global=240.0.0.1"]);
}

fn host_of(host: Value) -> (Vec<String>, Vec<String>) {
    let entry = read(&spec(json!({"hosts": [host], "addresses": ["240.0.0.1"]})));
    (entry.claims.iter().map(|c| c.host.to_string()).collect(), findings(&entry))
}

/// [H1] [H2] [H3] [H4] [H5] [D5] [D18]
#[test]
fn hosts_are_claimed_or_are_findings() {
    let served = [
        ("Echo.Default.GLOBAL.", "echo.default.global"),
        ("a_b.global", "a_b.global"),
        ("global", "global"),
        ("*.bar.global", "*.bar.global"),
        ("*.Bar.Global.", "*.bar.global"),
        ("x.dns.global", "x.dns.global"),
        ("*.dns.global", "*.dns.global"),
        ("_probe-.global", "_probe-.global"),
        ("_probe.global", "_probe.global"),
        ("x._probe-a.global", "x._probe-a.global"),
        ("_probe-a.x.global", "_probe-a.x.global"),
        ("*._probe-a.global", "*._probe-a.global"),
        ("httpbin.bar.cluster2", "httpbin.bar.cluster2"),
    ];
    for (host, expected) in served {
        assert_eq!(host_of(json!(host)), (vec![expected.to_owned()], vec![]), "{host}");
    }
    let longest = format!("*.{0}.{0}.{0}.{1}.global", "a".repeat(63), "b".repeat(52));
    assert_eq!((longest.len(), host_of(json!(longest))), (253, (vec![longest.clone()], vec![])));
    let long = format!("*.{0}.{0}.{0}.{1}.global", "a".repeat(63), "b".repeat(53));
    assert_eq!(long.len(), 254);
    let refused = [
        ("www.google.com", "host-outside-zones"),
        ("one-label", "host-outside-zones"),
        ("192.168.0.1", "host-outside-zones"),
        ("*.com", "host-outside-zones"),
        ("notglobal", "host-outside-zones"),
        ("*.global", "host-apex-wildcard"),
        ("*.cluster2.", "host-apex-wildcard"),
        ("dns.global", "host-reserved"),
        ("NS.dns.global.", "host-reserved"),
        ("ns.dns.cluster2", "host-reserved"),
        ("_probe-a.global", "host-reserved"),
        ("_PROBE-0.cluster2.", "host-reserved"),
        ("<hostname>", "placeholder"),
        ("echo.${NAMESPACE}.global", "placeholder"),
        ("*", "host-invalid"),
        ("*-a.global", "host-invalid"),
        ("a.*.global", "host-invalid"),
        ("*.*.global", "host-invalid"),
        ("a..global", "host-invalid"),
        ("a b.global", "host-invalid"),
        ("", "host-invalid"),
        (&long, "host-invalid"),
    ];
    for (host, code) in refused {
        let expected =
            format!("{code} spec.hosts[0] {}", Finding::new(Code::HostInvalid, "", "", host, "", "").value);
        assert_eq!(host_of(json!(host)), (vec![], vec![expected.trim_end().to_owned()]), "{host}");
    }
}

/// [H5]
#[test]
fn apex_wildcards_are_served_when_asked_for() {
    let rules = Rules { apex_wildcards: true, ..Rules::default() };
    let object = spec(json!({"hosts": ["*.global"], "addresses": ["240.0.0.1"]}));
    assert_eq!(claims(&read_with(&object, &rules)), ["*.global=240.0.0.1"]);
}

/// [O6] [F1] An entry elsewhere gives neither a host nor a wildcard at or below an owned suffix.
#[test]
fn a_host_below_an_owned_suffix_is_taken_from_its_owners_only() {
    let ownership = |suffix: &str, namespaces: &[&str]| crate::zone::Ownership {
        suffix: Name::parse(suffix).expect(suffix),
        namespaces: namespaces.iter().map(|text| (*text).to_owned()).collect(),
    };
    let ours = vec![
        ownership("pay.global", &["pay"]),
        ownership("pay.global", &["shared"]),
        ownership("eu.pay.global", &["foo"]),
    ];
    let zones = zones().owned_by(ours).expect("in a zone");
    let hosts = json!([
        "pay.global",
        "a.pay.global",
        "*.Pay.global.",
        "a.eu.pay.global",
        "*.eu.pay.global",
        "a.global",
        "notpay.global",
        "*.x.global"
    ]);
    let object = spec(json!({"hosts": hosts, "addresses": ["240.0.0.1"]}));
    let read = |namespace: &str| {
        let mut object = object.clone();
        object["metadata"]["namespace"] = json!(namespace);
        Entry::read(&object, Origin::Object, &zones, &Rules::default())
    };
    let hosts = |entry: &Entry| entry.claims.iter().map(|claim| claim.host.to_string()).collect::<Vec<_>>();
    assert_eq!(
        hosts(&read("foo")),
        ["a.eu.pay.global", "*.eu.pay.global", "a.global", "notpay.global", "*.x.global"]
    );
    assert_eq!(
        findings(&read("foo")),
        [
            "host-not-owner spec.hosts[0] pay.global",
            "host-not-owner spec.hosts[1] a.pay.global",
            "host-not-owner spec.hosts[2] *.Pay.global."
        ]
    );
    for owner in ["pay", "shared"] {
        let owned = ["pay.global", "a.pay.global", "*.pay.global", "a.global", "notpay.global", "*.x.global"];
        assert_eq!(hosts(&read(owner)), owned);
    }
}

/// [S7] [S5]
#[test]
fn of_a_list_that_is_too_long_the_first_items_count() {
    let hosts: Vec<String> = (0..MOST_ITEMS + 1).map(|i| format!("h{i}.global")).collect();
    let addresses: Vec<String> = (0..MOST_ADDRESSES as u32 + 5)
        .map(|i| IpAddr::from((0xf000_0000 + i).to_be_bytes()).to_string())
        .collect();
    let entry = read(&spec(json!({"hosts": hosts, "addresses": addresses, "resolution": "DNS"})));
    assert_eq!(entry.claims.len(), MOST_ITEMS);
    assert!(entry.claims.iter().all(|claim| claim.addresses.len() == MOST_ADDRESSES));
    assert_eq!(
        findings(&entry),
        [
            format!("limit-exceeded spec.hosts more than {MOST_ITEMS} items"),
            format!("limit-exceeded spec.addresses {} addresses", MOST_ADDRESSES + 5)
        ]
    );
    // As many as there may be are no finding, and one that is listed twice is one.
    let twice: Vec<&String> =
        addresses[..MOST_ADDRESSES].iter().flat_map(|address| [address, address]).collect();
    let entry = read(&spec(json!({"hosts": hosts[..MOST_ITEMS], "addresses": twice})));
    assert_eq!((entry.claims.len(), findings(&entry)), (MOST_ITEMS, vec![]));
    // Those that istiod has allocated.
    let status: Vec<_> = addresses.iter().map(|a| json!({"value": a, "host": "h0.global"})).collect();
    let mut allocated = spec(json!({"hosts": ["h0.global"], "resolution": "DNS"}));
    allocated["status"] = json!({"addresses": status});
    let entry = read(&allocated);
    assert_eq!(entry.claims[0].addresses.len(), MOST_ADDRESSES);
    assert_eq!(
        findings(&entry),
        [format!("limit-exceeded status.addresses {} addresses", MOST_ADDRESSES + 5)]
    );
}

/// [S7] [O5] Whom it is hidden from may be written behind what is read.
#[test]
fn an_entry_with_too_many_export_targets_is_not_public() {
    let mut targets = vec!["*"; MOST_ITEMS];
    targets.push("~");
    let entry = read(&spec(json!({"hosts": ["a.global"], "addresses": ["240.0.0.1"], "exportTo": targets})));
    assert!(!entry.public);
    assert_eq!(findings(&entry), [format!("limit-exceeded spec.exportTo more than {MOST_ITEMS} items")]);
}

/// [S7] [F1] What counts of an entry is told whatever else is wrong with it.
#[test]
fn an_entry_has_so_many_findings_and_one_that_says_how_many_more() {
    let hosts: Vec<String> = (0..MOST_FINDINGS + 7).map(|i| format!("bad {i}")).collect();
    let entry = read(&spec(json!({"hosts": hosts, "exportTo": ["~"], "addresses": 7})));
    let found = findings(&entry);
    assert_eq!(found.len(), MOST_FINDINGS + 3);
    assert_eq!(found[0], "field-type spec.addresses 7");
    assert_eq!(found[MOST_FINDINGS + 1..], ["export-hidden", "limit-exceeded  7 more"]);
}

/// [S5] [H1]
#[test]
fn one_bad_host_does_not_cost_the_others_and_repetition_is_no_second_claim() {
    let entry = read(&spec(json!({
        "hosts": ["bad host", "a.global", 7, "A.Global.", null, "b.global"], "addresses": ["240.0.0.1"]
    })));
    assert_eq!(claims(&entry), ["a.global=240.0.0.1", "b.global=240.0.0.1"]);
    assert_eq!(entry.claims[1].field, 5);
    assert_eq!(
        findings(&entry),
        [
            "field-type spec.hosts[2] 7",
            "field-type spec.hosts[4] null",
            "host-invalid spec.hosts[0] bad host"
        ]
    );
}

/// [S5]
#[test]
fn wrong_types_lose_the_field_and_nothing_else() {
    let cases = [
        (json!({"metadata": {"namespace": "foo", "name": "bar"}}), vec!["hosts-empty spec.hosts"]),
        (
            json!({"metadata": {"namespace": "foo", "name": "bar"}, "spec": "text"}),
            vec!["field-type spec \"text\"", "hosts-empty spec.hosts"],
        ),
        (spec(json!({"hosts": "a.global"})), vec!["field-type spec.hosts \"a.global\""]),
        (spec(json!({"hosts": []})), vec!["hosts-empty spec.hosts"]),
        (
            spec(json!({"hosts": ["a.global"], "addresses": "240.0.0.1"})),
            vec!["field-type spec.addresses \"240.0.0.1\""],
        ),
        (
            spec(json!({"hosts": ["a.global"], "resolution": 2, "exportTo": [true]})),
            vec!["field-type spec.resolution 2", "field-type spec.exportTo[0] true"],
        ),
    ];
    for (object, expected) in cases {
        let entry = read(&object);
        assert_eq!(findings(&entry), expected, "{object}");
        assert_eq!(entry.id.to_string(), "foo/bar");
    }
    let odd = json!({
        "metadata": {"namespace": "foo", "name": "bar", "labels": 5, "annotations": [], "creationTimestamp": 9},
        "spec": {"hosts": ["a.global"], "resolution": "DNS", "unknown": {"x": [1]}}
    });
    let entry = read(&odd);
    assert_eq!(claims(&entry), ["a.global="]);
    assert_eq!(
        findings(&entry),
        [
            "field-type metadata.creationTimestamp 9",
            "field-type metadata.annotations []",
            "field-type metadata.labels 5",
        ]
    );
}

/// [S2] [O1]
#[test]
fn identity_and_age_are_read_from_metadata() {
    let entry = read(&json!({"metadata": {"name": "x", "creationTimestamp": "2024-01-31T12:00:00Z"}}));
    assert_eq!((entry.id.to_string(), entry.created), ("default/x".to_owned(), Some(1_706_702_400)));
    let entry = read(&json!({"metadata": {"name": "x", "namespace": "", "creationTimestamp": "soon"}}));
    assert_eq!((entry.id.to_string(), entry.created), ("default/x".to_owned(), None));
    assert_eq!(findings(&entry)[0], "field-type metadata.creationTimestamp soon");
    let document = |position| EntryId {
        namespace: "a".into(),
        name: "b".into(),
        origin: Origin::Document { path: "f.yaml".into(), position },
    };
    assert_eq!(document((2, 0)).to_string(), "f.yaml:2");
    assert_eq!(document((2, 3)).to_string(), "f.yaml:2[3]");
}

/// [D2]
#[test]
fn the_ttl_annotation_is_seconds_within_range() {
    let with = |ttl: Value| {
        read(&json!({
            "metadata": {"namespace": "foo", "name": "bar", "annotations": {"globaldns.io/ttl": ttl}},
            "spec": {"hosts": ["a.global"], "addresses": ["240.0.0.1"]}
        }))
    };
    for (text, ttl) in [("1", 1), ("30", 30), ("3600", 3600)] {
        assert_eq!((with(json!(text)).ttl, findings(&with(json!(text)))), (Some(ttl), vec![]));
    }
    for text in ["0", "3601", "-1", "5s", ""] {
        let entry = with(json!(text));
        let expected = format!("ttl-invalid metadata.annotations[globaldns.io/ttl] {text}");
        assert_eq!((entry.ttl, findings(&entry)), (None, vec![expected.trim_end().to_owned()]));
    }
    assert_eq!(findings(&with(json!(30))), ["field-type metadata.annotations[globaldns.io/ttl] 30"]);
}

/// [O5]
#[test]
fn export_to_decides_who_is_served() {
    let with =
        |export: Value| spec(json!({"hosts": ["a.global"], "addresses": ["240.0.0.1"], "exportTo": export}));
    let public_only = Rules { public_only: true, ..Rules::default() };
    let cases = [
        (json!(null), true, true, true),
        (json!([]), true, true, true),
        (json!(["*"]), true, true, true),
        (json!(["ns1", "*"]), true, true, true),
        (json!(["."]), false, true, false),
        (json!(["ns1", "ns2"]), false, true, false),
        (json!(["~"]), false, false, false),
        (json!(["*", "~"]), false, false, false),
    ];
    for (export, public, served, served_if_public_only) in cases {
        let object = with(export.clone());
        let entry = read(&object);
        assert_eq!((entry.public, !entry.claims.is_empty()), (public, served), "{export}");
        let strict = read_with(&object, &public_only);
        assert_eq!(!strict.claims.is_empty(), served_if_public_only, "{export}");
        let code = match (served, served_if_public_only) {
            (true, true) => vec![],
            (true, false) => vec!["export-not-public".to_owned()],
            _ => vec!["export-hidden".to_owned()],
        };
        assert_eq!(findings(&strict), code, "{export}");
    }
}

/// [F1]
#[test]
fn every_finding_says_why_and_what_to_do() {
    let entry = read(&json!({
        "metadata": {"namespace": "foo", "name": "bar", "annotations": {"globaldns.io/ttl": "x"}},
        "spec": {
            "hosts": ["<h>", "bad host", "*-x.global", "*.global", "dns.global", "x.com", 5],
            "addresses": ["<v>", "10.0.0.0/8", "::", "127.0.0.1", "224.0.0.1", "fe80::1", "x"],
            "exportTo": ["~"]
        }
    }));
    let findings = all_findings(&entry);
    assert_eq!(findings.len(), 16);
    for finding in findings {
        assert_eq!(finding.object, "foo/bar");
        assert!(finding.why.len() > 10 && finding.remedy.len() > 10, "{finding}");
    }
}

/// [O1]
#[test]
fn rank_is_age_then_namespace_then_name_and_files_last() {
    let entry = |created, namespace, name, document| Rank { created, namespace, name, document };
    let document = |path, position| Some((path, position));
    let sorted = [
        entry(Some(1), "z", "z", None),
        entry(Some(2), "a", "b", None),
        entry(Some(2), "b", "a", document("f", (1, 0))),
        entry(Some(2), "b", "b", None),
        entry(Some(2), "b", "b", document("f", (1, 0))),
        entry(None, "z", "z", document("a.yaml", (1, 0))),
        entry(None, "y", "y", document("a.yaml", (2, 0))),
        entry(None, "x", "x", document("a.yaml", (2, 1))),
        entry(None, "a", "a", document("b.yaml", (1, 0))),
    ];
    for (i, a) in sorted.iter().enumerate() {
        for (j, b) in sorted.iter().enumerate() {
            assert_eq!(a.cmp(b), i.cmp(&j), "{a:?} {b:?}");
        }
    }
}

/// [D23] [S5] [S7]
#[test]
fn named_ports_are_services_where_they_are_asked_for() {
    let services = Rules { services: true, ..Rules::default() };
    let ports = json!([
        {"number": 80, "name": "HTTP-web", "protocol": "HTTP", "targetPort": 8080},
        {"number": 53, "name": "dns", "protocol": "udp"},
        {"number": 80, "name": "http-web", "protocol": "GRPC"},
        {"number": 9, "name": "later", "protocol": "NEW"},
        {"number": 10, "name": "plain"},
        {"number": 0, "name": "zero"},
        {"number": 65536, "name": "big"},
        {"number": "80", "name": "text"},
        {"number": 11, "name": "a.b"},
        {"number": 12},
        "tcp"
    ]);
    let object = spec(json!({"hosts": ["a.global"], "addresses": ["240.0.0.1"], "ports": ports}));
    let entry = read_with(&object, &services);
    let shown: Vec<_> = entry.services.iter().map(|s| format!("{s} {}", s.port)).collect();
    assert_eq!(shown, ["_http-web._tcp 80", "_dns._udp 53", "_later._tcp 9", "_plain._tcp 10"]);
    let expected = [
        "port-invalid spec.ports[5] name \"zero\", number 0",
        "port-invalid spec.ports[6] name \"big\", number 65536",
        "port-invalid spec.ports[7] name \"text\", number \"80\"",
        "port-invalid spec.ports[8] name \"a.b\", number 11",
        "port-invalid spec.ports[9] name none, number 12",
    ];
    let mut found = findings(&entry);
    found.sort();
    assert_eq!(found[0], "field-type spec.ports[10] \"tcp\"");
    assert_eq!(found[1..], expected);
    let off = read(&object);
    assert!(off.services.is_empty() && off.findings.is_empty());
    let many: Vec<_> = (1..200).map(|n| json!({"number": n, "name": "x"})).collect();
    let entry = read_with(&spec(json!({"hosts": ["a.global"], "ports": many})), &services);
    assert_eq!(entry.services.len(), crate::zone::extra::MOST_SERVICES);
    assert_eq!(findings(&entry), ["limit-exceeded spec.ports more than 128 items"]);
    let hidden =
        spec(json!({"hosts": ["a.global"], "exportTo": ["~"], "ports": [{"number": 1, "name": "x"}]}));
    assert!(read_with(&hidden, &services).services.is_empty());
}

/// [D22]
#[test]
fn no_host_lies_in_a_reverse_zone() {
    let zones =
        zones().with_reverse(vec![Name::parse("240.in-addr.arpa").expect("valid")], 0).expect("beside");
    let hosts = ["1.0.0.240.in-addr.arpa", "*.240.in-addr.arpa", "240.in-addr.arpa", "a.global"];
    let object = spec(json!({"hosts": hosts, "addresses": ["240.0.0.1"]}));
    let entry = Entry::read(&object, Origin::Object, &zones, &Rules::default());
    assert_eq!(claims(&entry), ["a.global=240.0.0.1"]);
    let codes: Vec<_> = entry.findings.iter().map(|finding| finding.code).collect();
    assert_eq!(codes, [Code::HostReserved; 3]);
}

/// [S2] [S5] [O6] Whose an entry is is never guessed in silence.
#[test]
fn a_namespace_or_name_that_no_object_has_is_a_finding() {
    let read = |metadata: Value| {
        let spec = json!({"hosts": ["a.global"], "addresses": ["240.0.0.1"]});
        let object = json!({"metadata": metadata, "spec": spec});
        let origin = Origin::Document { path: "a.yaml".into(), position: (1, 0) };
        let entry = Entry::read(&object, origin, &zones(), &Rules::default());
        (entry.id.namespace.to_string(), entry.claims.len(), findings(&entry))
    };
    let cases = [
        (json!({"name": "o", "namespace": true}), "default", vec!["field-type metadata.namespace true"]),
        (json!({"name": 7, "namespace": "y"}), "y", vec!["field-type metadata.name 7"]),
        (json!({"name": "o", "namespace": "A B"}), "A B", vec!["field-type metadata.namespace A B"]),
        (
            json!({"name": "o.", "namespace": "a.b"}),
            "a.b",
            vec!["field-type metadata.namespace a.b", "field-type metadata.name o."],
        ),
        (json!({"name": "o.k-1", "namespace": "1-k"}), "1-k", vec![]),
        (json!({"name": "", "namespace": null}), "default", vec![]),
        (json!({}), "default", vec![]),
    ];
    for (metadata, namespace, told) in cases {
        let told = told.into_iter().map(str::to_owned).collect();
        assert_eq!(read(metadata.clone()), (namespace.to_owned(), 1, told), "{metadata}");
    }
}
