use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::entry::Rules;
use crate::wire::name::Name;

fn zones(names: &[&str]) -> Zones {
    let name = |text: &&str| Name::parse(text).expect(text);
    Zones::new(names.iter().map(name).collect(), name(&"cluster.local"), 0).expect("zones")
}

/// Reads specs as entries of these namespaces; `in_cluster` as objects of an API server.
fn read(in_cluster: bool, specs: &[(&str, Value)]) -> BTreeMap<EntryId, Read> {
    let zones = zones(&["global"]);
    let one = |(at, (namespace, spec)): (usize, &(&str, Value))| {
        let object = json!({"metadata": {"namespace": namespace, "name": format!("e{at}")}, "spec": spec});
        let path: Arc<str> = "f".into();
        let document = Origin::Document { path, position: (at as u32 + 1, 0) };
        let origin = if in_cluster { Origin::Object } else { document };
        let entry = Entry::read(&object, origin, &zones, &Rules::default());
        Some((entry.id.clone(), Read::of(&object, &entry)?))
    };
    specs.iter().enumerate().filter_map(one).collect()
}

/// `code object field` of what is found, without what is found of the zone.
fn found(read: &BTreeMap<EntryId, Read>, ranges: Vec<Range>) -> Vec<String> {
    search(read, ranges)
        .into_iter()
        .map(|f| format!("{} {} {}", f.code.as_str(), f.object, f.field))
        .collect()
}

fn tcp(host: &str, resolution: &str, port: u16) -> Value {
    json!({"hosts": [host], "resolution": resolution, "ports": [{"number": port, "protocol": "TCP"}]})
}

/// [F3]
#[test]
fn an_entry_that_istiod_will_give_an_address_shares_no_port() {
    let both =
        |resolution: &str| [("a", tcp("a.global", resolution, 1)), ("b", tcp("b.global", resolution, 1))];
    assert_eq!(found(&read(false, &both("DNS")), Vec::new()), [""; 0]);
    let shared = ["port-shared a/e0 spec.ports[0].number", "port-shared b/e1 spec.ports[0].number"];
    // There it would have one by now.
    assert_eq!(found(&read(true, &both("DNS")), Vec::new()), shared);
    assert_eq!(found(&read(true, &both("NONE")), Vec::new()), shared);
}

/// [F3]
#[test]
fn one_host_in_two_entries_shares_its_port_with_nobody() {
    let twice = [("a", tcp("a.global", "NONE", 1)), ("b", tcp("A.global.", "NONE", 1))];
    assert_eq!(found(&read(true, &twice), Vec::new()), [""; 0]);
    let other = [("a", tcp("a.global", "NONE", 1)), ("b", tcp("b.global", "NONE", 2))];
    assert_eq!(found(&read(true, &other), Vec::new()), [""; 0]);
}

/// [F3] [A2]
#[test]
fn hosts_share_a_port_only_where_somebody_sees_both() {
    let exported = |host: &str, to: &[&str]| {
        let mut spec = tcp(host, "NONE", 1);
        spec["exportTo"] = json!(to);
        spec
    };
    let count = |specs: &[(&str, Value)]| found(&read(true, specs), Vec::new()).len();
    let (a, b) =
        (|to: &[&str]| ("a", exported("a.global", to)), |to: &[&str]| ("b", exported("b.global", to)));
    assert_eq!(count(&[a(&["."]), b(&["."])]), 0);
    assert_eq!(count(&[a(&["."]), b(&["c", "d"])]), 0);
    for (of_a, of_b) in [(["a", "."], ["b", "a"]), (["c", "d"], ["e", "d"]), (["*", "."], [".", "x"])] {
        assert_eq!(count(&[a(&of_a), b(&of_b)]), 2, "{of_a:?} {of_b:?}");
        assert_eq!(count(&[b(&of_b), a(&of_a)]), 2, "{of_a:?} {of_b:?}");
    }
    // The third sees one each of two that do not see each other.
    assert_eq!(count(&[a(&["."]), b(&["."]), ("c", exported("c.global", &["a", "b"]))]), 3);
}

/// [F3]
#[test]
fn every_host_of_an_entry_counts() {
    let of = |hosts: &[&str]| {
        let mut spec = tcp("", "NONE", 1);
        spec["hosts"] = json!(hosts);
        spec
    };
    let told = |specs: &[(&str, Value)]| found(&read(false, specs), Vec::new()).len();
    assert_eq!(told(&[("a", of(&["a.global", "b.global", "c.global"]))]), 1, "once");
    assert_eq!(told(&[("a", of(&["a.global", "A.global"]))]), 0);
    assert_eq!(told(&[("a", of(&["a.global", "b.global"])), ("b", of(&["a.global"]))]), 2);
    // In a file, the first will have an address.
    let mut mixed = of(&["a.global", "*.a.global"]);
    mixed["resolution"] = json!("DNS");
    assert_eq!(told(&[("a", mixed), ("b", of(&["b.global"]))]), 2);
}

/// [F3] [A2] No remedy that cannot be.
#[test]
fn istiod_is_a_remedy_only_for_whom_it_may_give_an_address() {
    let remedies = |specs: &[(&str, Value)]| -> Vec<bool> {
        let found = search(&read(true, specs), Vec::new()).into_iter();
        found.map(|finding| finding.remedy.contains("or let istiod allocate")).collect()
    };
    let all = [
        ("a", tcp("a.global", "DNS", 1)),
        ("b", tcp("b.global", "NONE", 1)),
        ("c", tcp("*.c.global", "DNS", 1)),
    ];
    assert_eq!(remedies(&all), [true, false, false]);
}

/// [F3]
#[test]
fn a_host_outside_the_zones_clashes_with_nothing_here() {
    let outside = json!({"hosts": ["a.example"], "addresses": ["240.240.0.1"], "resolution": "DNS"});
    assert_eq!(found(&read(true, &[("a", outside)]), Range::usual().to_vec()), [""; 0]);
}

/// [F3]
#[test]
fn what_an_allocator_has_given_is_its_own() {
    let entry = |address: &str| json!({"hosts": ["a.global"], "addresses": [address], "resolution": "DNS"});
    let ranges = || Range::usual().to_vec();
    // Nobody is there that allocates from this range.
    assert_eq!(found(&read(true, &[("a", entry("240.0.0.2"))]), ranges()), [""; 0]);
    let both = [("a", entry("240.0.0.2")), (ADMIRAL_NAMESPACE, entry("240.0.10.1"))];
    assert_eq!(found(&read(true, &both), ranges()), ["address-allocatable a/e0 spec.addresses[0]"]);
    let zones = zones(&["global"]);
    let object = json!({"metadata": {"name": "a"}, "spec": {"hosts": ["a.global"], "resolution": "DNS"},
        "status": {"addresses": [{"host": "a.global", "value": "240.240.0.1"}]}});
    let entry = Entry::read(&object, Origin::Object, &zones, &Rules::default());
    let given = Read::of(&object, &entry).expect("a host");
    assert_eq!(found(&BTreeMap::from([(entry.id, given)]), ranges()), [""; 0]);
}

/// [F3]
#[test]
fn a_zone_that_is_a_public_suffix_is_told_of_once() {
    let zones = zones(&["global", "co.uk", "cluster2", "mesh.example.com", "eu.global"]);
    let found: Vec<_> = public_zones(&zones).into_iter().map(|f| f.object).collect();
    assert_eq!(found, ["global", "co.uk"]);
}
