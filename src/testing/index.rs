//! Histories of entries, and what the index and the table make of them, held to a model that forgets nothing and
//! computes everything anew (chapter O, A3, H4, D3, D22 to D24, L3, L6, L8).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Octets;
use crate::entry::{Claim, Entry, EntryId, Origin, Rank, Unserved};
use crate::finding::{Code, Finding};
use crate::index::{Index, Partition, Policy};
use crate::wire::name::{self, Name};
use crate::zone::answer::{Answers, AnswersRef, Family};
use crate::zone::extra::{Extra, Protocol, Service};
use crate::zone::{Found, Further, Host, Pointed, Table, Zone, Zones, reverse};

const HOSTS: [&str; 12] = [
    "a.global",
    "b.a.global",
    "*.a.global",
    "x.y.b.a.global",
    "*.y.b.a.global",
    "global",
    "*.global",
    "in.eu.global",
    "*.eu.global",
    "deep.er.in.eu.global",
    "c.cluster.local.global",
    "eu.global",
];
/// Asked for beside the hosts.
const NAMES: [&str; 8] = [
    "q.a.global",
    "q.b.a.global",
    "y.b.a.global",
    "er.in.eu.global",
    "q.eu.global",
    "nobody.global",
    "c2",
    "q.global.eu.global",
];
/// Of some addresses that hosts have; those of the policy lie in none.
const REVERSE: [&str; 2] = ["240.0.0.0/24", "2001:db8::/32"];
const NAMESPACES: [&str; 3] = ["a", "b", "c"];
const FILES: [&str; 3] = ["x.yaml", "y.yaml", "d/z.yaml"];
const OBJECTS: Partition = Partition(0);
const DOCUMENTS: Partition = Partition(1);

type World = BTreeMap<(Partition, EntryId), Entry>;

pub(super) fn check(octets: &[u8]) {
    let mut octets = Octets::new(octets);
    let policy = policy(&mut octets);
    let lived = index(&policy);
    let mut world = World::new();
    for _ in 0..64 {
        if octets.is_empty() {
            break;
        }
        step(&mut octets, &lived, &mut world);
        agree(&lived, &world, &policy);
    }
    let fresh = index(&policy);
    let mut entries: Vec<_> = world.iter().collect();
    if octets.one_in(2) {
        entries.reverse();
    }
    for ((partition, _), entry) in entries {
        fresh.apply(*partition, entry.clone());
    }
    let digests = |index: &Index| index.table().zones().iter().map(|zone| zone.digest()).collect::<Vec<_>>();
    assert_eq!(digests(&lived), digests(&fresh), "another order, another hash: {world:#?}");
    assert_eq!(lived.findings(), fresh.findings(), "{world:#?}");
    for (partition, id) in world.keys() {
        lived.delete(*partition, id);
    }
    agree(&lived, &World::new(), &policy);
    assert!(digests(&lived).iter().all(|digest| *digest == 0) && lived.findings().is_empty());
}

fn policy(octets: &mut Octets<'_>) -> Policy {
    let prefer = (0..octets.below(3)).map(|_| octets.pick(&NAMESPACES).to_owned()).collect();
    let default_addresses = match octets.below(4) {
        0 => vec![IpAddr::from([240, 9, 9, 9])],
        1 => vec![IpAddr::from([240, 9, 9, 9]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 9])],
        _ => Vec::new(),
    };
    Policy { prefer_namespaces: prefer, default_addresses, ttl: 30 }
}

fn index(policy: &Policy) -> Index {
    let name = |text: &str| Name::parse(text).expect(text);
    let zones = Zones::new(["global", "eu.global", "c2"].map(name).into(), name("cluster.local"), 0);
    let networks = REVERSE.map(|network| network.parse().expect(network));
    let reverse = reverse::zones(&networks).expect("legal networks");
    let zones = zones.expect("zones").with_reverse(reverse, 0).expect("beside the others");
    Index::new(policy.clone(), Arc::new(Table::new(zones)), || 1000).diagnosing(true)
}

fn host(text: &str) -> Host {
    let (wildcard, name) = text.strip_prefix("*.").map_or((false, text), |suffix| (true, suffix));
    Host { name: Name::parse(name).expect(text), wildcard }
}

fn id(octets: &mut Octets<'_>, partition: Partition) -> EntryId {
    let origin = match partition {
        OBJECTS => Origin::Object,
        _ => Origin::Document {
            path: octets.pick(&FILES).into(),
            position: (1 + octets.below(2) as u32, octets.below(2) as u32),
        },
    };
    EntryId { namespace: octets.pick(&NAMESPACES).into(), name: octets.pick(&["1", "2"]).into(), origin }
}

fn entry(octets: &mut Octets<'_>, id: EntryId) -> Entry {
    let flags = octets.octet();
    let mut claims: Vec<Claim> = Vec::new();
    let mut addresses: Arc<[IpAddr]> = Arc::default();
    for field in 0..octets.below(5) as u32 {
        let host = host(octets.pick(&HOSTS));
        if octets.one_in(2) || field == 0 {
            let several = octets.below(4);
            let drawn: BTreeSet<IpAddr> = (0..several).map(|_| address(octets)).collect();
            addresses = drawn.into_iter().collect();
        }
        if !claims.iter().any(|claim| claim.host == host) {
            claims.push(Claim { host, addresses: addresses.clone(), field });
        }
    }
    let bad = || Finding::new(Code::HostInvalid, id.to_string(), "spec.hosts[9]", "b d", "why", "remedy");
    let findings = if flags & 8 != 0 { vec![bad()] } else { Vec::new() };
    Entry {
        created: (flags & 1 != 0).then(|| octets.below(3) as i64),
        public: flags & 2 != 0,
        resolution_none: flags & 4 != 0,
        allocated: flags & 16 != 0,
        ttl: (flags & 32 != 0).then(|| 1 + u32::from(octets.u16()) % 3600),
        claims,
        services: if flags & 128 != 0 { services(flags) } else { Vec::new() },
        findings,
        unserved: if flags & 64 != 0 { vec![Unserved::new(7, "x.com")] } else { Vec::new() },
        id,
    }
}

fn services(flags: u8) -> Vec<Service> {
    let drawn = [("http", Protocol::Tcp, 80 + u16::from(flags & 3)), ("dns", Protocol::Udp, 53)];
    let drawn = drawn.into_iter().take(1 + usize::from(flags >> 2 & 1));
    drawn.filter_map(|(name, protocol, port)| Service::new(name, protocol, port)).collect()
}

fn address(octets: &mut Octets<'_>) -> IpAddr {
    match octets.below(8) as u8 {
        n @ 0..6 => IpAddr::from([240, 0, 0, n]),
        n => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n.into()]),
    }
}

fn step(octets: &mut Octets<'_>, index: &Index, world: &mut World) {
    let partition = octets.pick(&[OBJECTS, DOCUMENTS]);
    match octets.below(8) {
        0..4 => {
            let id = id(octets, partition);
            let entry = entry(octets, id.clone());
            index.apply(partition, entry.clone());
            world.insert((partition, id), entry);
        }
        4 | 5 => {
            let id = id(octets, partition);
            index.delete(partition, &id);
            world.remove(&(partition, id));
        }
        6 => {
            let listed = listed(octets, partition, world);
            world.retain(|(of, _), _| *of != partition);
            index.reset(partition, listed.iter().map(|entry| index.pack(partition, entry.clone())).collect());
            world.extend(listed.into_iter().map(|entry| ((partition, entry.id.clone()), entry)));
        }
        _ => {
            let files: Vec<Arc<str>> = (0..octets.below(3)).map(|_| octets.pick(&FILES).into()).collect();
            let of_files =
                |id: &EntryId| matches!(&id.origin, Origin::Document { path, .. } if files.contains(path));
            let mut listed = listed(octets, DOCUMENTS, world);
            listed.retain(|entry| of_files(&entry.id));
            let packed = listed.iter().map(|entry| index.pack(DOCUMENTS, entry.clone())).collect();
            let before = world.len();
            let ids: HashSet<_> = listed.iter().map(|entry| entry.id.clone()).collect();
            world.retain(|(of, id), _| *of != DOCUMENTS || !of_files(id) || ids.contains(id));
            assert_eq!(index.reset_files(DOCUMENTS, &files, packed), before - world.len());
            world.extend(listed.into_iter().map(|entry| ((DOCUMENTS, entry.id.clone()), entry)));
        }
    }
}

/// A list: some of what is there, as it is, and some that is new.
fn listed(octets: &mut Octets<'_>, partition: Partition, world: &World) -> Vec<Entry> {
    let there = world.iter().filter(|((of, _), _)| *of == partition).map(|(_, entry)| entry.clone());
    let mut listed: Vec<Entry> = there.filter(|_| !octets.one_in(4)).collect();
    for _ in 0..octets.below(3) {
        let id = id(octets, partition);
        listed.retain(|entry| entry.id != id);
        listed.push(entry(octets, id));
    }
    listed
}

fn rank(id: &EntryId, created: Option<i64>) -> Rank<'_> {
    let document = match &id.origin {
        Origin::Object => None,
        Origin::Document { path, position } => Some((&**path, *position)),
    };
    Rank { created, namespace: &id.namespace, name: &id.name, document }
}

/// O1 and A3 for one host.
fn answers(world: &World, host: &Host, policy: &Policy) -> (Option<Answers>, Vec<EntryId>) {
    let mut claims: Vec<(&Entry, &Claim)> = Vec::new();
    for entry in world.values() {
        claims.extend(entry.claims.iter().filter(|claim| claim.host == *host).map(|claim| (entry, claim)));
    }
    claims.sort_by(|(a, _), (b, _)| rank(&a.id, a.created).cmp(&rank(&b.id, b.created)));
    let ttl = |claims: &[(&Entry, &Claim)]| {
        claims.iter().map(|(entry, _)| entry.ttl.unwrap_or(policy.ttl)).min().unwrap_or(policy.ttl)
    };
    let mut able: Vec<_> = claims.iter().filter(|(_, claim)| !claim.addresses.is_empty()).copied().collect();
    if able.iter().any(|(entry, _)| entry.public) {
        able.retain(|(entry, _)| entry.public);
    }
    let preferred = policy.prefer_namespaces.iter().find_map(|wanted| {
        able.iter().map(|(entry, _)| &entry.id.namespace).find(|namespace| &***namespace == wanted.as_str())
    });
    match preferred.or(able.first().map(|(entry, _)| &entry.id.namespace)).cloned() {
        Some(namespace) => {
            able.retain(|(entry, _)| entry.id.namespace == namespace);
            let mut merged: Vec<IpAddr> = Vec::new();
            for address in able.iter().flat_map(|(_, claim)| claim.addresses.iter()) {
                if !merged.contains(address) {
                    merged.push(*address);
                }
            }
            let answers = Answers::new(&merged, ttl(&able)).map(|answers| answers.with_extra(extra(&able)));
            (answers, able.iter().map(|(entry, _)| entry.id.clone()).collect())
        }
        None => {
            claims.retain(|(entry, _)| !entry.resolution_none);
            let default =
                if claims.is_empty() { None } else { Answers::new(&policy.default_addresses, ttl(&claims)) };
            (default.map(|answers| answers.with_extra(extra(&claims))), Vec::new())
        }
    }
}

/// D23, D24.
fn extra(from: &[(&Entry, &Claim)]) -> Option<Arc<Extra>> {
    let entries = from.iter().map(|(entry, _)| format!("{}/{}", entry.id.namespace, entry.id.name));
    Extra::new(from.iter().flat_map(|(entry, _)| entry.services.clone()), entries)
}

/// D22: the rows of reverse zones.
fn rows<'h>(table: &'h Table, hosts: &'h BTreeMap<Host, Answers>) -> BTreeMap<IpAddr, BTreeMap<Name, u32>> {
    let mut rows: BTreeMap<IpAddr, BTreeMap<Name, u32>> = BTreeMap::new();
    for (host, answers) in hosts.iter().filter(|(host, _)| !host.wildcard) {
        let answers = answers.view();
        for address in [Family::V4, Family::V6].into_iter().flat_map(|family| answers.addresses(family)) {
            if table.zones().covering(reverse::name_of(address).wire()).is_some() {
                rows.entry(address).or_default().insert(host.name.clone(), answers.ttl());
            }
        }
    }
    rows
}

/// D22: PTR leads from every address in range to the hosts that are answered with it, and from no other.
fn points(table: &Table, rows: &BTreeMap<IpAddr, BTreeMap<Name, u32>>) {
    assert!(table.pointed_addresses().iter().eq(rows.keys()));
    let reader = table.read();
    let further = |name: &[u8]| {
        let (zone, at) = table.zones().covering(name)?;
        reader.further(zone, name, at)
    };
    let v4 = (0..8).map(|n| IpAddr::from([240, 0, 0, n]));
    for address in v4.chain((0..9).map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n]))) {
        let name = reverse::name_of(address);
        let Some(hosts) = rows.get(&address) else {
            assert_eq!(further(name.wire()), None, "{address}");
            continue;
        };
        let ttl = hosts.values().min().copied().unwrap_or_default();
        assert_eq!(table.pointed(address), Pointed { hosts: hosts.keys().cloned().collect(), ttl });
        assert_eq!(further(name.wire()), Some(Further::Pointers(address)));
        for up in std::iter::successors(name::parent(name.wire()), |up| name::parent(up)) {
            let Some((_, 1..)) = table.zones().covering(up) else { break };
            assert_eq!(further(up), Some(Further::Above), "{address}");
        }
    }
}

/// D23 for the services of one name.
fn serves(index: &Index, zone: &Zone, name: &Name, at: usize, answers: Option<AnswersRef<'_>>) {
    let reader = index.table().read();
    let extra = answers.and_then(AnswersRef::extra);
    for (protocol, label, service) in [(Protocol::Tcp, "_tcp", "http"), (Protocol::Udp, "_udp", "dns")] {
        let above = name.prepend(label);
        let has = extra.is_some_and(|extra| extra.services().iter().any(|s| s.protocol == protocol));
        let expected = has.then_some(Further::Above);
        assert_eq!(reader.further(zone, above.wire(), at + 5), expected, "{above}");
        let full = above.prepend(&format!("_{service}"));
        let before = full.wire().len() - name.wire().len();
        let has = extra.is_some_and(|extra| extra.of(service.as_bytes(), protocol).next().is_some());
        let expected = answers.filter(|_| has).map(|answers| Further::Services(answers, before, protocol));
        assert_eq!(reader.further(zone, full.wire(), at + before), expected, "{full}");
    }
}

/// Index and table are what the model says.
fn agree(index: &Index, world: &World, policy: &Policy) {
    let table = index.table();
    let mut expected: BTreeMap<Host, Answers> = BTreeMap::new();
    for text in HOSTS {
        let host = host(text);
        let (answers, owners) = answers(world, &host, policy);
        assert_eq!(index.owners(&host), owners, "{text}: {world:#?}");
        expected.extend(answers.map(|answers| (host, answers)));
    }
    let mut there = 0;
    table.for_each(|host, answers| {
        there += 1;
        assert!(expected.get(&host).is_some_and(|known| known.view() == answers), "{host}: {world:#?}");
    });
    assert_eq!(there, expected.len(), "{world:#?}");
    for partition in [OBJECTS, DOCUMENTS] {
        let live = world.keys().filter(|(of, _)| *of == partition).count();
        assert_eq!(index.entries(partition), live);
    }
    let rows = rows(table, &expected);
    points(table, &rows);
    for zone in table.zones().iter() {
        if zone.is_reverse() {
            let in_zone = |address: &&IpAddr| zone.apex().covers(&reverse::name_of(**address));
            let count: usize = rows.keys().filter(in_zone).map(|address| rows[address].len()).sum();
            assert_eq!(zone.hosts(), count, "{world:#?}");
            continue;
        }
        let of_zone = |host: &&Host| {
            table.zones().covering(host.name.wire()).is_some_and(|(z, _)| z.apex() == zone.apex())
        };
        assert_eq!(zone.hosts(), expected.keys().filter(of_zone).count(), "{world:#?}");
    }
    for text in HOSTS.iter().map(|host| host.trim_start_matches("*.")).chain(NAMES) {
        asked(index, text, &expected);
    }
    // L6: a copy is what is there.
    let mut copied = World::new();
    let copy = index.copy(&[OBJECTS, DOCUMENTS], |partition, entry| {
        copied.insert((partition, entry.id.clone()), entry);
        Ok::<(), std::convert::Infallible>(())
    });
    assert!(copy.is_ok() && copied == *world, "{copied:#?}\n{world:#?}");
}

/// H4, D3 and Z3 for one name.
fn asked(index: &Index, text: &str, hosts: &BTreeMap<Host, Answers>) {
    let zones = index.table().zones();
    let name = Name::parse(text).expect(text);
    let (zone, at) = zones.covering(name.wire()).expect("in a zone");
    let in_zone =
        |host: &Host| zones.covering(host.name.wire()).is_some_and(|(of, _)| of.apex() == zone.apex());
    let exact = hosts.get(&Host { name: name.clone(), wildcard: false });
    let mut above = std::iter::successors(name::parent(name.wire()), |up| name::parent(up));
    let wildcard = above.find_map(|up| {
        let host = Host { name: Name::from_tail(up), wildcard: true };
        hosts.get(&host).filter(|_| in_zone(&host))
    });
    // The apex is infrastructure, and what search paths make is nobody's.
    let wildcard = wildcard.filter(|_| at > 0 && !zones.is_search_path_product(&name.wire()[..at]));
    let exists = at == 0 || hosts.keys().any(|host| in_zone(host) && name.covers(&host.name));
    let reader = index.table().read();
    let found = reader.find(zone, name.wire(), at);
    serves(index, zone, &name, at, if let Found::Host(answers) = found { Some(answers) } else { None });
    match (exact.or(wildcard), found) {
        (Some(answers), Found::Host(there)) => {
            assert_eq!(answers.view(), there, "{text}");
            let count = [Family::V4, Family::V6].map(|family| there.addresses(family).count());
            assert_eq!(count[0] + count[1], there.v4().len() + there.v6().len());
        }
        (None, Found::Empty) => assert!(exists, "{text} among {hosts:#?}"),
        (None, Found::Missing) => assert!(!exists, "{text} among {hosts:#?}"),
        (expected, found) => panic!("{text}: {found:?}, not {expected:?} among {hosts:#?}"),
    }
}
