use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::questions::{Extent, Plan, Subject};
use super::super::report::parse_type;
use super::super::view::{NoReply, Soa};
use super::*;
use crate::client;
use crate::entry::{Entry, Origin, Rules};
use crate::index::{Partition, Policy};
use crate::zone::{Ownership, Table, Zones};

fn name(text: &str) -> Name {
    Name::parse(text).expect(text)
}

/// A mesh in which everything that the two servers do differently happens.
fn mesh() -> Vec<Value> {
    let entry = |id: &str, created: u32, spec: Value| {
        let (namespace, name) = id.split_once('/').expect("namespace/name");
        let created = format!("2024-01-01T00:00:{created:02}Z");
        let metadata = json!({"namespace": namespace, "name": name, "creationTimestamp": created});
        let mut object = json!({"metadata": metadata, "spec": {"resolution": "DNS"}});
        object["spec"].as_object_mut().expect("a map").extend(spec.as_object().cloned().expect("a map"));
        object
    };
    let plain = |host: &str, addresses: &[&str]| json!({"hosts": [host], "addresses": addresses});
    let with = |mut spec: Value, key: &str, value: Value| {
        spec[key] = value;
        spec
    };
    let mut allocated = entry("shop/allocated", 0, json!({"hosts": ["allocated.global"]}));
    allocated["status"] = json!({"addresses": [{"value": "240.240.0.7", "host": "allocated.global"}]});
    vec![
        entry("shop/echo", 0, plain("echo.default.global", &["240.0.0.1"])),
        entry("shop/cidr", 0, plain("cidr.global", &["240.0.0.2", "240.0.0.3/32"])),
        entry("shop/only", 0, plain("only.global", &["240.0.0.4/32"])),
        entry("shop/dual", 0, plain("dual.global", &["240.0.0.5", "2001:db8::5"])),
        entry("shop/none", 0, with(plain("none.global", &["240.0.0.6"]), "resolution", json!("NONE"))),
        allocated,
        entry("shop/bare", 0, json!({"hosts": ["bare.global"]})),
        entry("a/dup", 1, plain("dup.global", &["240.0.1.1"])),
        entry("b/dup", 2, plain("dup.global", &["240.0.1.2"])),
        entry("b/swap", 2, plain("swap.global", &["240.0.1.3"])),
        entry("a/swap", 1, plain("swap.global", &["240.0.1.4"])),
        entry("c/half", 2, plain("half.global", &["240.0.1.5"])),
        entry("a/half", 1, with(plain("half.global", &["240.0.1.6"]), "exportTo", json!(["~"]))),
        entry("a/either", 1, with(plain("either.global", &["240.0.1.7"]), "resolution", json!("NONE"))),
        entry("b/either", 2, plain("either.global", &["240.0.1.8"])),
        entry("a/one", 1, plain("merge.global", &["240.0.2.1"])),
        entry("a/two", 2, plain("merge.global", &["240.0.2.2"])),
        entry("shop/hidden", 0, with(plain("hidden.global", &["240.0.3.1"]), "exportTo", json!(["~"]))),
        entry("b/squat", 0, plain("squat.owned.global", &["240.0.3.2"])),
        entry("a/own", 1, plain("own.owned.global", &["240.0.3.3"])),
        entry("shop/own", 2, plain("own.owned.global", &["240.0.3.4"])),
        entry("shop/wild", 0, plain("*.wild.global", &["240.0.4.1"])),
        entry("shop/below", 0, plain("dual.wild.global", &["240.0.4.2", "2001:db8::4"])),
        entry("shop/upper", 0, plain("Upper.global", &["240.0.5.1"])),
        entry("shop/strict", 0, with(plain("strict.global", &["240.0.6.1"]), "workloadSelector", json!({}))),
        entry(
            "shop/round",
            0,
            with(plain("round.global", &["240.0.6.2"]), "resolution", json!("DNS_ROUND_ROBIN")),
        ),
        entry(
            "shop/many",
            0,
            json!({"hosts": ["m1.global", "m2.global"], "addresses": ["240.0.7.1"],
                   "ports": [{"number": 5000, "name": "tcp", "protocol": "TCP"}]}),
        ),
        entry("shop/zero", 0, plain("zero.global", &["0.0.0.0", "240.0.8.1"])),
        entry("shop/far", 0, plain("httpbin.bar.cluster2", &["240.0.9.1"])),
        entry("shop/top", 0, plain("*.cluster3", &["240.0.10.1"])),
        entry("shop/local", 0, plain("*.local.global", &["240.0.11.1"])),
        entry("shop/elsewhere", 0, plain("api.elsewhere", &["240.0.12.1"])),
        entry("shop/unknown", 0, json!({"hosts": ["bare.elsewhere"]})),
        entry("shop/below-elsewhere", 0, plain("*.Wild.elsewhere", &["240.0.12.2"])),
    ]
}

struct Mesh {
    index: Index,
    legacy: Legacy,
}

impl Mesh {
    fn new(default_addresses: &[&str]) -> Mesh {
        let zones = ["global", "cluster2", "cluster3"].map(name).to_vec();
        let ours = Ownership { suffix: name("owned.global"), namespaces: ["shop".to_owned()].into() };
        let zones = Zones::new(zones, name("cluster.local"), 0).expect("zones");
        let zones = zones.owned_by(vec![ours]).expect("in a zone");
        let zones = zones.with_reverse(vec![name("7.0.240.in-addr.arpa")], 0).expect("beside the others");
        let default_addresses =
            default_addresses.iter().map(|text| text.parse().expect("an address")).collect();
        let policy = Policy { prefer_namespaces: Vec::new(), default_addresses, ttl: 30 };
        let index = Index::new(policy, Arc::new(Table::new(zones)), || 1000).diagnosing(true);
        let mut legacy = Legacy::default();
        let rules = Rules { apex_wildcards: true, services: true, ..Rules::default() };
        for object in mesh() {
            let entry = Entry::read(&object, Origin::Object, index.table().zones(), &rules);
            legacy.insert(&object, &entry);
            index.apply(Partition(0), entry);
        }
        Mesh { index, legacy }
    }

    fn judge(&self, asked: &str, replies: [&str; 3]) -> Verdict {
        let [old, new, plain] = replies;
        let plain = (!plain.is_empty()).then(|| reply(plain));
        Judge::new(&self.index, Some(&self.legacy)).judge(
            &question(asked),
            &reply(old),
            &reply(new),
            plain.as_ref(),
        )
    }
}

/// `NAME TYPE`.
fn question(text: &str) -> Question {
    let (spelling, rtype) = text.split_once(' ').expect("a name and a type");
    Question {
        name: name(spelling),
        spelling: spelling.to_owned(),
        rtype: parse_type(rtype).expect("a type"),
    }
}

/// Words: a code, `aa`, addresses, `ttl=N`, `soa=ZONE/TTL`, a `TYPE:DATA`, or `silence`.
fn reply(text: &str) -> Reply {
    let mut view = View { rcode: Rcode::NoError as u16, ..View::default() };
    for word in text.split_whitespace() {
        if word == "silence" {
            return Err(NoReply::Silent(client::Failure::NoReply));
        } else if let Some(rcode) = Rcode::ALL.into_iter().find(|rcode| rcode.mnemonic() == word) {
            view.rcode = rcode as u16;
        } else if word == "aa" {
            view.authoritative = true;
        } else if let Some(ttl) = word.strip_prefix("ttl=") {
            view.ttl = Some(ttl.parse().expect("seconds"));
        } else if let Some(soa) = word.strip_prefix("soa=") {
            let (zone, ttl) = soa.split_once('/').expect("a zone and a TTL");
            let (zone, ttl) = (zone.to_owned(), ttl.parse().expect("seconds"));
            view.soa = Some(Soa { data: format!("ns.dns.{zone}"), zone, ttl });
        } else if let Ok(address) = word.parse() {
            view.addresses.insert(address);
        } else {
            view.others.insert(word.replace(':', " "));
        }
    }
    Ok(view)
}

const NODATA: &str = "aa soa=global/5";
const NXDOMAIN: &str = "NXDOMAIN aa soa=global/5";

/// [K3] [A1] [A2] [A5] [D2] [D3] [D4] [D8] [D15] [D22] [D23] [D24] [O1] [O5] [S5] Each with its reason; `=` is no difference.
#[test]
fn a_difference_is_explained_by_its_clause_and_by_the_entries() {
    let cases = [
        // Asked, the old reply, the new one, the old one in lower case, the clauses.
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", "aa 240.0.0.1 ttl=30", "", "="),
        ("dup.global A", "aa 240.0.1.1 ttl=3600", "aa 240.0.1.1 ttl=30", "", "D2"),
        ("echo.default.global A", "240.0.0.1 ttl=30", "aa 240.0.0.1 ttl=30", "", "D1"),
        ("echo.default.global AAAA", "NXDOMAIN aa", NODATA, "", "D3"),
        ("echo.default.global TXT", "NXDOMAIN aa", NODATA, "", "D3"),
        ("echo.default.global AAAA", "aa", NODATA, "", "D3"),
        ("echo.default.global AAAA", "SERVFAIL", NODATA, "", "D3"),
        ("default.global A", "NXDOMAIN aa", NODATA, "", "D3"),
        ("nobody.global A", "NXDOMAIN aa", NXDOMAIN, "", "D4"),
        ("nobody.global A", "NXDOMAIN aa soa=global/30", NXDOMAIN, "", "D4"),
        ("nobody.global A", "NXDOMAIN aa soa=./30", NXDOMAIN, "", "D5"),
        ("nobody.global A", "SERVFAIL", NXDOMAIN, "", "D4"),
        ("nobody.global TXT", "aa soa=global/5", NXDOMAIN, "", "D4"),
        ("global SOA", "NXDOMAIN aa", "aa SOA:ns.dns.global", "", "D5"),
        ("ns.dns.global A", "NXDOMAIN aa", "aa 10.96.0.53 ttl=30", "", "D5"),
        ("echo.default.global ANY", "NXDOMAIN aa", "aa 240.0.0.1 ttl=30", "", "D7"),
        ("cidr.global A", "aa 240.0.0.2 ttl=30", "aa 240.0.0.2 240.0.0.3 ttl=30", "", "A1"),
        ("only.global A", "NXDOMAIN aa", "aa 240.0.0.4 ttl=30", "", "A1"),
        ("dual.global A", "NXDOMAIN aa", "aa 240.0.0.5 ttl=30", "", "A1"),
        ("dual.global AAAA", "NXDOMAIN aa", "aa 2001:db8::5 ttl=30", "", "A1"),
        ("zero.global A", "aa 0.0.0.0 240.0.8.1 ttl=30", "aa 240.0.8.1 ttl=30", "", "A1"),
        ("allocated.global A", "NXDOMAIN aa", "aa 240.240.0.7 ttl=30", "", "A2"),
        ("none.global A", "NXDOMAIN aa", "aa 240.0.0.6 ttl=30", "", "A5"),
        ("dup.global A", "aa 240.0.1.2 ttl=30", "aa 240.0.1.1 ttl=30", "", "O1"),
        ("merge.global A", "aa 240.0.2.2 ttl=9", "aa 240.0.2.1 240.0.2.2 ttl=30", "", "O1 D2"),
        ("swap.global A", "aa 240.0.1.3 ttl=30", "aa 240.0.1.4 ttl=30", "", "O1"),
        ("either.global A", "aa 240.0.1.8 ttl=30", "aa 240.0.1.7 ttl=30", "", "O1"),
        ("half.global A", "aa 240.0.1.6 ttl=30", "aa 240.0.1.5 ttl=30", "", "O5"),
        ("hidden.global A", "aa 240.0.3.1 ttl=30", NXDOMAIN, "", "O5"),
        ("squat.owned.global A", "aa 240.0.3.2 ttl=30", NXDOMAIN, "", "O6"),
        ("own.owned.global A", "aa 240.0.3.3 ttl=30", "aa 240.0.3.4 ttl=30", "", "O6"),
        ("x.wild.global A", "aa 240.0.4.1 ttl=30", "aa 240.0.4.1 ttl=30", "", "="),
        ("dual.wild.global A", "aa 240.0.4.1 ttl=30", "aa 240.0.4.2 ttl=30", "", "A1"),
        ("upper.global A", "NXDOMAIN aa", "aa 240.0.5.1 ttl=30", "", "D15"),
        ("Upper.global A", "aa 240.0.5.1 ttl=30", "aa 240.0.5.1 ttl=30", "NXDOMAIN aa", "="),
        ("EcHo.default.global A", "NXDOMAIN aa", "aa 240.0.0.1 ttl=30", "aa 240.0.0.1 ttl=30", "D15"),
        ("EcHo.default.global A", "NXDOMAIN aa", "aa 240.0.0.1 ttl=30", "aa 240.0.0.1 ttl=9", "D2 D15"),
        ("NoBody.global A", "NXDOMAIN aa", NXDOMAIN, "NXDOMAIN aa", "D4"),
        ("strict.global A", "NXDOMAIN aa", "aa 240.0.6.1 ttl=30", "", "S5"),
        ("round.global A", "NXDOMAIN aa", "aa 240.0.6.2 ttl=30", "", "S5"),
        ("m2.global A", "NXDOMAIN aa", "aa 240.0.7.1 ttl=30", "", "S5"),
        ("1.7.0.240.in-addr.arpa PTR", "NXDOMAIN aa", "aa PTR:m1.global. PTR:m2.global. ttl=30", "", "D22"),
        ("7.0.240.in-addr.arpa A", "NXDOMAIN aa", "aa soa=7.0.240.in-addr.arpa/5", "", "D3"),
        ("_tcp._tcp.m1.global SRV", "NXDOMAIN aa", "aa SRV:0:100:5000:m1.global. ttl=30", "", "D23"),
        ("_tcp.m1.global A", "NXDOMAIN aa", NODATA, "", "D3"),
        ("m1.global TXT", "NXDOMAIN aa", "aa TXT:entry=shop/many ttl=0", "", "D24"),
        ("httpbin.bar.cluster2 A", "NXDOMAIN", "aa 240.0.9.1 ttl=30", "", "Z1"),
        ("HtTpBiN.BaR.ClUsTeR2 A", "NXDOMAIN", "aa 240.0.9.1 ttl=30", "NXDOMAIN", "Z1"),
        ("x.cluster3 A", "NXDOMAIN aa", "aa 240.0.10.1 ttl=30", "", "H5"),
        ("x.svc.cluster.local.global A", "aa 240.0.11.1 ttl=30", NXDOMAIN, "", "H6"),
        ("kubernetes.default.svc.cluster.local A", "10.96.0.1 ttl=5", "REFUSED", "", "D8"),
        ("kubernetes.default.svc.cluster.local A", "silence", "REFUSED", "", "D8"),
        ("nobody.example A", "REFUSED", "REFUSED", "", "="),
        // What is forwarded and kept has AA with an old CoreDNS; what the entries say, it is not.
        ("api.elsewhere A", "192.0.2.1 ttl=30", "REFUSED", "", "D8"),
        ("api.elsewhere A", "aa 192.0.2.1 ttl=9", "REFUSED", "", "D8"),
        ("api.elsewhere A", "NXDOMAIN", "REFUSED", "", "D8"),
        ("api.elsewhere AAAA", "2001:db8::9 ttl=30", "REFUSED", "", "D8"),
        ("bare.elsewhere A", "aa 192.0.2.1 ttl=30", "REFUSED", "", "D8"),
        ("nobody.example A", "aa 192.0.2.1 ttl=30", "REFUSED", "", "D8"),
    ];
    let mesh = Mesh::new(&[]);
    let mut seen: HashSet<Class> = HashSet::new();
    for (asked, old, new, plain, wanted) in cases {
        let verdict = mesh.judge(asked, [old, new, plain]);
        let found = match &verdict {
            Verdict::Same => "=".to_owned(),
            Verdict::Explained(reasons) => {
                seen.extend(reasons.iter().map(|reason| reason.class));
                reasons.iter().map(|reason| reason.class.clause()).collect::<Vec<_>>().join(" ")
            }
            Verdict::Unexplained(riddle) => format!("? {}; {}", riddle.why, riddle.remedy),
        };
        assert_eq!(found, wanted, "{asked}: {old} → {new}");
    }
    let Verdict::Explained(reasons) =
        Mesh::new(&["10.0.0.9"]).judge("bare.global A", ["NXDOMAIN aa", "aa 10.0.0.9 ttl=30", ""])
    else {
        panic!("A3 explains a default address");
    };
    seen.extend(reasons.iter().map(|reason| reason.class));
    let unseen: Vec<_> = Class::ALL.iter().filter(|class| !seen.contains(class)).collect();
    assert!(unseen.is_empty(), "no case for {unseen:?}");
}

/// [K4] A lost, changed or invented address, a lost name and a silent server are never explained away.
#[test]
fn what_the_entries_do_not_justify_stays_unexplained() {
    let cases = [
        // The entry is there and both should answer it.
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", NXDOMAIN),
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", NODATA),
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", "aa 240.0.0.9 ttl=30"),
        ("echo.default.global A", "NXDOMAIN aa", "aa 240.0.0.1 ttl=30"),
        ("echo.default.global A", "NXDOMAIN aa", NODATA),
        // No entry has that address.
        ("dup.global A", "aa 240.0.1.9 ttl=30", "aa 240.0.1.1 ttl=30"),
        ("swap.global A", "aa 240.0.1.9 ttl=30", "aa 240.0.1.4 ttl=30"),
        ("half.global A", "aa 240.0.1.5 ttl=30", NXDOMAIN),
        ("either.global A", "NXDOMAIN aa", "aa 240.0.1.7 ttl=30"),
        ("nobody.global A", "aa 240.0.0.1 ttl=30", NXDOMAIN),
        ("bare.global A", "aa 127.255.0.7 ttl=30", NXDOMAIN),
        // An address comes back that istiocoredns could not have had.
        ("cidr.global A", "aa 240.0.0.2 240.0.0.3 ttl=30", "aa 240.0.0.2 ttl=30"),
        ("dual.global AAAA", "aa 2001:db8::6 ttl=30", "aa 2001:db8::5 ttl=30"),
        // Other records.
        ("echo.default.global TXT", "aa TXT:hello", NODATA),
        ("echo.default.global A", "aa CNAME:other.global. 240.0.0.1 ttl=30", "aa 240.0.0.1 ttl=30"),
        ("1.7.0.240.in-addr.arpa PTR", "NXDOMAIN aa", "aa PTR:m1.global. ttl=30"),
        ("1.7.0.240.in-addr.arpa PTR", "aa PTR:m1.global. ttl=30", "NXDOMAIN aa soa=7.0.240.in-addr.arpa/5"),
        ("_tcp._tcp.m1.global SRV", "NXDOMAIN aa", "aa SRV:0:100:5001:m1.global. ttl=30"),
        ("m1.global TXT", "NXDOMAIN aa", "aa TXT:hello ttl=0"),
        // Nobody, or not globaldns.
        ("echo.default.global A", "silence", "aa 240.0.0.1 ttl=30"),
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", "silence"),
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", "SERVFAIL"),
        ("echo.default.global A", "aa 240.0.0.1 ttl=30", "REFUSED"),
        ("echo.default.global A", "SERVFAIL", "aa 240.0.0.1 ttl=30"),
        ("echo.default.global AAAA", "NXDOMAIN aa", "aa"),
        ("echo.default.global AAAA", "NXDOMAIN aa", "aa soa=example/5"),
        // A zone that was forgotten.
        ("api.elsewhere A", "aa 240.0.12.1 ttl=30", "REFUSED"),
        ("api.elsewhere A", "240.0.12.1 ttl=30", "REFUSED"),
        ("x.Wild.elsewhere A", "aa 240.0.12.2 ttl=30", "REFUSED"),
        ("nobody.example A", "NXDOMAIN", "NXDOMAIN aa"),
    ];
    let mesh = Mesh::new(&[]);
    for (asked, old, new) in cases {
        let verdict = mesh.judge(asked, [old, new, ""]);
        assert!(matches!(verdict, Verdict::Unexplained(_)), "{asked}: {old} → {new}: {verdict:?}");
    }
}

/// [K5] A forgotten zone and servers the wrong way round look alike but for the old one's reply.
#[test]
fn what_to_do_about_a_name_in_no_zone_depends_on_both_replies() {
    let mesh = Mesh::new(&[]);
    for (old, new, wanted) in [
        (
            "240.0.12.1 ttl=30",
            "REFUSED",
            "name its zone to both, with --zone of the new server and of this command",
        ),
        ("240.0.12.1 ttl=30", "aa 240.0.12.1 ttl=30", "give the --zone flags of the new server"),
        ("REFUSED", "240.0.12.1 ttl=30", "put --old and --new the other way round"),
    ] {
        let verdict = mesh.judge("api.elsewhere A", [old, new, ""]);
        let Verdict::Unexplained(riddle) = verdict else { panic!("{old} → {new}: {verdict:?}") };
        assert!(riddle.remedy.starts_with(wanted), "{old} → {new}: {}", riddle.remedy);
    }
}

/// [K3] [K4] The replies alone explain what touches no address, and nothing else.
#[test]
fn without_entries_no_change_of_an_address_is_explained() {
    let mesh = Mesh::new(&[]);
    let judge = Judge::new(&mesh.index, None);
    let judged =
        |asked: &str, old: &str, new: &str| judge.judge(&question(asked), &reply(old), &reply(new), None);
    for (asked, old, new, class) in [
        ("echo.default.global A", "aa 240.0.0.1 ttl=3600", "aa 240.0.0.1 ttl=30", Class::Ttl),
        ("echo.default.global AAAA", "NXDOMAIN aa", NODATA, Class::NoData),
        ("nobody.global A", "NXDOMAIN aa", NXDOMAIN, Class::Soa),
        ("nobody.example A", "192.0.2.1", "REFUSED", Class::Outside),
        ("nobody.example A", "aa 192.0.2.1", "REFUSED", Class::Outside),
    ] {
        assert_eq!(judged(asked, old, new), Verdict::Explained(vec![class.into()]).with_ttl(), "{asked}");
    }
    for (asked, old, new) in [
        ("only.global A", "NXDOMAIN aa", "aa 240.0.0.4 ttl=30"),
        ("dual.global AAAA", "NXDOMAIN aa", "aa 2001:db8::5 ttl=30"),
        ("dup.global A", "aa 240.0.1.2 ttl=30", "aa 240.0.1.1 ttl=30"),
        ("hidden.global A", "aa 240.0.3.1 ttl=30", NXDOMAIN),
        ("nobody.global A", "SERVFAIL", NXDOMAIN),
    ] {
        assert!(matches!(judged(asked, old, new), Verdict::Unexplained(_)), "{asked}");
    }
}

impl Verdict {
    /// The one class whose reason says what the TTLs were.
    fn with_ttl(mut self) -> Verdict {
        if let Verdict::Explained(reasons) = &mut self
            && reasons[0].class == Class::Ttl
        {
            reasons[0].why = "3600 → 30".to_owned();
        }
        self
    }
}

/// [K1]
#[test]
fn hosts_are_asked_for_with_what_shows_the_rules_of_a_server() {
    let mesh = Mesh::new(&[]);
    let mut plan = Plan::new(mesh.index.table().zones(), vec![1, 28]);
    plan.add("Listed.global.", &[65]).expect("a name");
    plan.add_hosts(&mesh.legacy);
    plan.add_derived(&name("cluster.local"));
    plan.add_outside(&mesh.legacy, true);
    let (subjects, extent) = plan.finish();
    let in_zones = mesh.legacy.entries().iter().flat_map(|known| &known.hosts);
    let in_zones: HashSet<_> = in_zones.filter(|host| !host.ends_with(".elsewhere")).collect();
    assert_eq!(extent, Extent { hosts: in_zones.len(), outside: 2, unasked: 1 });
    let [.., api, below] = &subjects[..] else { panic!("{subjects:?}") };
    assert_eq!((&api.name, api.types.as_slice()), (&name("api.elsewhere"), &[1][..]), "the address alone");
    assert_eq!(
        (below.types.as_slice(), below.spellings[0].as_str()),
        (&[1][..], "globaldns-compare.Wild.elsewhere")
    );
    let find = |text: &str| subjects.iter().find(|subject| subject.name == name(text));
    let listed = find("listed.global").expect("listed");
    assert_eq!((listed.types.as_slice(), listed.spellings[0].as_str()), (&[1, 28, 65][..], "Listed.global"));
    for asked in [
        "global",
        "cluster2",
        "globaldns-compare.global",
        "globaldns-compare.wild.global",
        "kubernetes.default.svc.cluster.local.global",
        "echo.default.global.global",
        "default.global",
        "kubernetes.default.svc.cluster.local",
        "hidden.global",
        "bare.global",
    ] {
        assert!(find(asked).is_some(), "{asked}");
    }
    assert_eq!(find("upper.global").expect("a host").spellings[0], "Upper.global");
    let echo = find("echo.default.global").expect("a host");
    assert_eq!(echo.spellings, ["EcHo.dEfAuLt.gLoBaL"]);
    let mixed = echo.questions().pop().expect("a question");
    assert_eq!(mixed.wire(), b"\x04EcHo\x07dEfAuLt\x06gLoBaL\x00");
    let names: HashSet<_> = subjects.iter().map(|Subject { name, .. }| name).collect();
    assert_eq!(names.len(), subjects.len(), "each name once");
}

/// [K1] A name of the list keeps its types; without hosts outside they are counted; what is derived is nothing to ask.
#[test]
fn hosts_outside_the_zones_are_asked_for_or_counted() {
    let mesh = Mesh::new(&[]);
    for (is_asked, types, extent) in [
        (true, &[28, 65, 1][..], Extent { hosts: 0, outside: 2, unasked: 1 }),
        (false, &[28, 65], Extent { hosts: 0, outside: 0, unasked: 3 }),
    ] {
        let mut plan = Plan::new(mesh.index.table().zones(), vec![28]);
        plan.add("api.elsewhere", &[65]).expect("a name");
        plan.add_outside(&mesh.legacy, is_asked);
        assert!(!plan.has_name_in_a_zone());
        plan.add("nobody.global", &[]).expect("a name");
        assert!(plan.has_name_in_a_zone());
        let (subjects, found) = plan.finish();
        assert_eq!((subjects[0].types.as_slice(), found), (types, extent));
    }
}
