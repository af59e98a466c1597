//! Histories of entries, and what the index and the table make of them, held to a model that forgets nothing and
//! computes everything anew (chapter O, A3, H4, D3, L3, L6, L8).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::Octets;
use crate::entry::{Claim, Entry, EntryId, Origin, Rank, Unserved};
use crate::finding::{Code, Finding};
use crate::index::{Index, Partition, Policy};
use crate::wire::name::{self, Name};
use crate::zone::answer::{Answers, Family};
use crate::zone::{Found, Host, Table, Zones};

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
    Index::new(policy.clone(), Arc::new(Table::new(zones.expect("zones"))), || 1000)
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
        findings,
        unserved: if flags & 64 != 0 { vec![Unserved::new(7, "x.com")] } else { Vec::new() },
        id,
    }
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
            (Answers::new(&merged, ttl(&able)), able.iter().map(|(entry, _)| entry.id.clone()).collect())
        }
        None => {
            claims.retain(|(entry, _)| !entry.resolution_none);
            let default =
                if claims.is_empty() { None } else { Answers::new(&policy.default_addresses, ttl(&claims)) };
            (default, Vec::new())
        }
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
    for zone in table.zones().iter() {
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
