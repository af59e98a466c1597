//! An entry as the index keeps it: one run of octets, a fifth of what [`Entry`] takes.
//!
//! `identity head [services] lists claims unserved`, each in the format of [`postcard`]. A claim says where in the run its list of
//! addresses begins, because the hosts of an entry share one; and a claim is known by where it begins itself, so that
//! one of ten thousand is read without the others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Partition;
use crate::entry::provenance::Provenance;
use crate::entry::{Claim, Entry, EntryId, Origin, Rank, Unserved};
use crate::finding::Finding;
use crate::wire::name::Name;
use crate::zone::extra::{Protocol, Service};
use crate::zone::{Host, Zones};

/// An entry ready to be put into the index.
pub struct Packed {
    pub(super) octets: Box<[u8]>,
    /// How many of the octets are its identity.
    identity: usize,
    pub(super) findings: Vec<Finding>,
    /// Who wrote it, of one that changes something.
    pub(super) provenance: Option<Box<Provenance>>,
}

/// Who an entry is, in its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity<'a> {
    pub(super) partition: u32,
    namespace: &'a str,
    name: &'a str,
    /// Path, document and item of [`Origin::Document`].
    document: Option<(u32, u32, u32)>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Head {
    created: Option<i64>,
    flags: u8,
    ttl: Option<u32>,
    /// Octets of all lists.
    lists: u32,
    claims: u32,
    unserved: u32,
}

const PUBLIC: u8 = 1;
const RESOLUTION_NONE: u8 = 2;
const ALLOCATED: u8 = 4;
const SERVICES: u8 = 8;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct ClaimRun<'a> {
    /// The host's zone.
    zone: u32,
    /// The host's labels before the zone, in wire form.
    labels: &'a [u8],
    /// Position in `spec.hosts`, times two; plus one for a wildcard.
    field: u32,
    /// Where in the entry's run the list of addresses begins.
    list: u32,
}

/// The paths of files, by number: an entry names its file, and a file may hold a million entries. Paths are kept for
/// good; files come and go, but under the same names.
#[derive(Default)]
pub(super) struct Paths {
    numbers: HashMap<Arc<str>, u32>,
    texts: Vec<Arc<str>>,
}

impl Paths {
    fn intern(&mut self, path: &Arc<str>) -> u32 {
        *self.numbers.entry(path.clone()).or_insert_with(|| {
            self.texts.push(path.clone());
            (self.texts.len() - 1) as u32
        })
    }

    pub(super) fn number(&self, path: &str) -> Option<u32> {
        self.numbers.get(path).copied()
    }

    fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

/// Appends; a `Vec` takes everything.
fn append(out: &mut Vec<u8>, value: &impl Serialize) {
    match postcard::to_extend(value, std::mem::take(out)) {
        Ok(longer) => *out = longer,
        Err(error) => unreachable!("a vector has room: {error}"),
    }
}

impl Packed {
    pub(super) fn new(partition: Partition, entry: Entry, zones: &Zones, paths: &mut Paths) -> Packed {
        let mut octets = identity(partition, &entry.id, |path| Some(paths.intern(path))).unwrap_or_default();
        let identity = octets.len();
        let mut lists = Vec::new();
        let mut starts = Vec::with_capacity(entry.claims.len());
        let mut previous: Option<&Arc<[IpAddr]>> = None;
        for claim in &entry.claims {
            let same = previous.is_some_and(|list| *list == claim.addresses);
            let start = if same { starts.last().copied().unwrap_or_default() } else { lists.len() };
            if !same {
                append(&mut lists, &&*claim.addresses);
            }
            starts.push(start);
            previous = Some(&claim.addresses);
        }
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let head = Head {
            created: entry.created,
            flags: flag(entry.public, PUBLIC)
                | flag(entry.resolution_none, RESOLUTION_NONE)
                | flag(entry.allocated, ALLOCATED)
                | flag(!entry.services.is_empty(), SERVICES),
            ttl: entry.ttl,
            lists: lists.len() as u32,
            claims: entry.claims.len() as u32,
            unserved: entry.unserved.len() as u32,
        };
        append(&mut octets, &head);
        if !entry.services.is_empty() {
            let mut services = Vec::new();
            for Service { name, protocol, port } in &entry.services {
                append(&mut services, &(&**name, *protocol == Protocol::Udp, *port));
            }
            append(&mut octets, &services.as_slice());
        }
        let base = octets.len();
        octets.extend(lists);
        for (claim, start) in entry.claims.iter().zip(starts) {
            // A claim's host is in a zone: that is what makes it one.
            let (zone, labels, _) = key(zones, &claim.host).unwrap_or_default();
            append(
                &mut octets,
                &ClaimRun {
                    zone,
                    labels,
                    field: claim.field << 1 | u32::from(claim.host.wildcard),
                    list: (base + start) as u32,
                },
            );
        }
        for unserved in &entry.unserved {
            append(&mut octets, &(unserved.tag(), &*unserved.host));
        }
        Packed { octets: octets.into_boxed_slice(), identity, findings: entry.findings, provenance: None }
    }

    /// The same, and who wrote it.
    pub fn written(self, by: Provenance) -> Packed {
        Packed { provenance: Some(Box::new(by)), ..self }
    }

    /// Who wrote it, if that is known.
    pub fn provenance(&self) -> Option<&Provenance> {
        self.provenance.as_deref()
    }

    /// What its run begins with, and no other entry's.
    pub(super) fn identity(&self) -> &[u8] {
        &self.octets[..self.identity]
    }
}

/// A host by the number of its zone, the labels before it, and whether it is a wildcard.
pub(super) type HostKey<'a> = (u32, &'a [u8], bool);

/// The key of a host; `None` outside every zone.
pub(super) fn key<'h>(zones: &Zones, host: &'h Host) -> Option<HostKey<'h>> {
    let (zone, apex_at) = zones.covering(host.name.wire())?;
    Some((zone.index() as u32, &host.name.wire()[..apex_at], host.wildcard))
}

/// What the run of this entry begins with, and no other's; `None` if `path_number` knows its path not.
pub(super) fn identity(
    partition: Partition,
    id: &EntryId,
    path_number: impl FnOnce(&Arc<str>) -> Option<u32>,
) -> Option<Vec<u8>> {
    let document = match &id.origin {
        Origin::Object => None,
        Origin::Document { path, position: (document, item) } => Some((path_number(path)?, *document, *item)),
    };
    let identity =
        Identity { partition: partition.0 as u32, namespace: &id.namespace, name: &id.name, document };
    let mut octets = Vec::with_capacity(64);
    append(&mut octets, &identity);
    Some(octets)
}

/// An entry in its run.
#[derive(Clone, Copy)]
pub(super) struct View<'a> {
    run: &'a [u8],
    pub(super) identity: Identity<'a>,
    head: Head,
    /// As they were appended.
    services: &'a [u8],
    lists_at: usize,
}

/// A claim in its entry's run.
#[derive(Clone, Copy)]
pub(super) struct ClaimView<'a> {
    run: ClaimRun<'a>,
    entry: &'a [u8],
}

impl<'a> View<'a> {
    /// Reads a run; `None` for an empty one.
    pub(super) fn new(run: &'a [u8]) -> Option<View<'a>> {
        let (identity, rest) = postcard::take_from_bytes(run).ok()?;
        let (head, mut rest) = postcard::take_from_bytes::<Head>(rest).ok()?;
        let mut services: &[u8] = &[];
        if head.flags & SERVICES != 0 {
            (services, rest) = postcard::take_from_bytes(rest).ok()?;
        }
        Some(View { run, identity, head, services, lists_at: run.len() - rest.len() })
    }

    /// How much of the run is its identity.
    pub(super) fn identity_run(run: &'a [u8]) -> &'a [u8] {
        let rest = postcard::take_from_bytes::<Identity<'_>>(run).map_or(0, |(_, rest)| rest.len());
        &run[..run.len() - rest]
    }

    pub(super) fn id(&self, paths: &Paths) -> EntryId {
        let Identity { namespace, name, document, .. } = self.identity;
        let origin = match document {
            None => Origin::Object,
            Some((path, document, item)) => Origin::Document {
                path: paths.texts.get(path as usize).cloned().unwrap_or_default(),
                position: (document, item),
            },
        };
        EntryId { namespace: namespace.into(), name: name.into(), origin }
    }

    /// Who it is, as people are told: what [`View::id`] prints, which is made for every change.
    pub(super) fn label<P: std::ops::Deref<Target = Paths>>(&self, paths: impl FnOnce() -> P) -> Box<str> {
        match self.identity.document {
            None => self.object().into(),
            Some(_) => self.id(&paths()).to_string().into(),
        }
    }

    /// The entry as it was packed; its findings are kept elsewhere.
    pub(super) fn unpack(&self, zones: &Zones, paths: &Paths, findings: Vec<Finding>) -> Entry {
        let mut previous: Option<(u32, Arc<[IpAddr]>)> = None;
        let claims = self.claims().map(|(_, claim)| {
            let (_, addresses) = match previous.take() {
                Some(same) if same.0 == claim.run.list => previous.insert(same),
                _ => previous.insert((claim.run.list, claim.addresses().collect())),
            };
            Claim { host: claim.host(zones), addresses: addresses.clone(), field: claim.field() }
        });
        Entry {
            claims: claims.collect(),
            id: self.id(paths),
            created: self.head.created,
            public: self.is_public(),
            resolution_none: self.is_resolution_none(),
            allocated: self.is_allocated(),
            ttl: self.ttl(),
            services: self.services().collect(),
            findings,
            unserved: self.unserved().map(|(tag, host)| Unserved::new(tag, host)).collect(),
        }
    }

    pub(super) fn namespace(&self) -> &'a str {
        self.identity.namespace
    }

    /// The number of the file's path.
    pub(super) fn path(&self) -> Option<u32> {
        self.identity.document.map(|(path, ..)| path)
    }

    pub(super) fn rank<'r>(&self, paths: &'r Paths) -> Rank<'r>
    where
        'a: 'r,
    {
        let Identity { namespace, name, document, .. } = self.identity;
        let document = document.map(|(path, document, item)| (paths.text(path), (document, item)));
        Rank { created: self.head.created, namespace, name, document }
    }

    pub(super) fn is_public(&self) -> bool {
        self.head.flags & PUBLIC != 0
    }

    pub(super) fn is_resolution_none(&self) -> bool {
        self.head.flags & RESOLUTION_NONE != 0
    }

    pub(super) fn is_allocated(&self) -> bool {
        self.head.flags & ALLOCATED != 0
    }

    pub(super) fn ttl(&self) -> Option<u32> {
        self.head.ttl
    }

    /// The entry's `namespace/name`.
    pub(super) fn object(&self) -> String {
        [self.identity.namespace, "/", self.identity.name].concat()
    }

    /// Its named ports, where they are kept.
    pub(super) fn services(&self) -> impl Iterator<Item = Service> + use<'a> {
        let mut rest = self.services;
        std::iter::from_fn(move || {
            let ((name, udp, port), after) = postcard::take_from_bytes::<(&str, bool, u16)>(rest).ok()?;
            rest = after;
            let protocol = if udp { Protocol::Udp } else { Protocol::Tcp };
            Some(Service { name: name.into(), protocol, port })
        })
    }

    /// Unix seconds.
    pub(super) fn created(&self) -> Option<i64> {
        self.head.created
    }

    pub(super) fn claim_count(&self) -> usize {
        self.head.claims as usize
    }

    /// The claims, each with where it begins.
    pub(super) fn claims(&self) -> impl Iterator<Item = (u32, ClaimView<'a>)> + use<'a> {
        let run = self.run;
        let mut at = self.lists_at + self.head.lists as usize;
        (0..self.head.claims).map_while(move |_| {
            let (claim, rest) = postcard::take_from_bytes(&run[at..]).ok()?;
            let here = std::mem::replace(&mut at, run.len() - rest.len());
            Some((here as u32, ClaimView { run: claim, entry: run }))
        })
    }

    /// The claim that begins at `at`.
    pub(super) fn claim(run: &'a [u8], at: u32) -> Option<ClaimView<'a>> {
        let (claim, _) = postcard::take_from_bytes(run.get(at as usize..)?).ok()?;
        Some(ClaimView { run: claim, entry: run })
    }

    /// Hosts that are not served, each with its tag ([`Unserved::tag`]).
    pub(super) fn unserved(&self) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        let claims_at = self.lists_at + self.head.lists as usize;
        let mut rest = &self.run[claims_at..];
        // The claims are in the way; where all hosts are served nobody reads them.
        let claims = if self.head.unserved > 0 { self.head.claims } else { 0 };
        for _ in 0..claims {
            rest = postcard::take_from_bytes::<ClaimRun<'_>>(rest).map_or(&[], |(_, rest)| rest);
        }
        (0..self.head.unserved).map_while(move |_| {
            let (unserved, after) = postcard::take_from_bytes(rest).ok()?;
            rest = after;
            Some(unserved)
        })
    }
}

impl<'a> ClaimView<'a> {
    /// What tells hosts apart.
    pub(super) fn key(&self) -> HostKey<'a> {
        (self.run.zone, self.run.labels, self.run.field & 1 != 0)
    }

    pub(super) fn host(&self, zones: &Zones) -> Host {
        let (zone, labels, wildcard) = self.key();
        let apex = zones.get(zone as usize).map_or(&[0][..], |zone| zone.apex().wire());
        Host { name: Name::from_tail([labels, apex].concat()), wildcard }
    }

    /// Position in `spec.hosts`.
    pub(super) fn field(&self) -> u32 {
        self.run.field >> 1
    }

    /// Tells its list of addresses from all others, as long as no entry comes or goes.
    pub(super) fn list(&self) -> *const u8 {
        &raw const self.entry[self.run.list as usize]
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<'a> {
        let list = &self.entry[self.run.list as usize..];
        let (count, mut rest) = postcard::take_from_bytes::<u32>(list).unwrap_or_default();
        (0..count).map_while(move |_| {
            let (address, after) = postcard::take_from_bytes(rest).ok()?;
            rest = after;
            Some(address)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::Rules;
    use serde_json::json;

    fn zones() -> Zones {
        let name = |text: &str| Name::parse(text).expect(text);
        Zones::new(vec![name("cluster2"), name("global")], name("cluster.local"), 0).expect("valid zones")
    }

    fn entry(object: serde_json::Value, origin: Origin) -> Entry {
        Entry::read(&object, origin, &zones(), &Rules { services: true, ..Rules::default() })
    }

    #[test]
    fn an_entry_is_read_from_its_run_as_it_was() {
        let entry = entry(
            json!({
                "metadata": {"namespace": "foo", "name": "bar", "creationTimestamp": "2024-01-31T12:00:00Z",
                             "annotations": {"globaldns.io/ttl": "77"}},
                "spec": {"hosts": ["a.global", "x.com", "*.b.cluster2", "bad name", "y.org"], "exportTo": ["."],
                         "ports": [{"number": 80, "name": "http"}, {"number": 53, "name": "dns", "protocol": "UDP"}],
                         "addresses": ["240.0.0.1", "2001:db8::1"], "resolution": "DNS"}
            }),
            Origin::Document { path: "f.yaml".into(), position: (3, 4) },
        );
        let mut paths = Paths::default();
        let packed = Packed::new(Partition(7), entry.clone(), &zones(), &mut paths);
        let view = View::new(&packed.octets).expect("a run");
        let rank = Rank {
            created: entry.created,
            namespace: "foo",
            name: "bar",
            document: Some(("f.yaml", (3, 4))),
        };
        assert_eq!((view.rank(&paths), view.id(&paths)), (rank, entry.id.clone()));
        assert_eq!(
            (view.identity.partition, view.path(), view.namespace()),
            (7, paths.number("f.yaml"), "foo")
        );
        assert_eq!((view.ttl(), view.is_public()), (Some(77), false));
        assert_eq!((view.services().collect::<Vec<_>>(), entry.services.len()), (entry.services.clone(), 2));
        assert_eq!(view.object(), "foo/bar");
        assert_eq!((view.is_resolution_none(), view.is_allocated()), (false, false));
        let claims: Vec<_> = view
            .claims()
            .map(|(at, claim)| {
                let again = View::claim(&packed.octets, at).expect("a claim");
                assert_eq!(again.key(), claim.key());
                (claim.host(&zones()).to_string(), claim.field(), again.addresses().collect::<Vec<_>>())
            })
            .collect();
        let expected: Vec<_> =
            entry.claims.iter().map(|c| (c.host.to_string(), c.field, c.addresses.to_vec())).collect();
        assert_eq!((claims, view.claim_count()), (expected, 2));
        assert_eq!(view.unserved().collect::<Vec<_>>(), [(1, "x.com"), (4, "y.org")]);
        assert_eq!(packed.findings, entry.findings);
        assert_eq!(view.unpack(&zones(), &paths, packed.findings.clone()), entry);
        let identity = View::identity_run(&packed.octets);
        assert_eq!(identity, packed.identity());
        assert_eq!(
            super::identity(Partition(7), &entry.id, |path| paths.number(path)).as_deref(),
            Some(identity)
        );
    }

    /// The figure that [`super::super::Index`] promises a million of.
    #[test]
    fn an_ordinary_entry_takes_little_room() {
        let object = json!({
            "metadata": {"namespace": "ns-12", "name": "svc-000123", "creationTimestamp": "2024-01-31T12:00:00Z"},
            "spec": {"hosts": ["svc-000123.ns-12.global"], "addresses": ["240.0.0.1"], "resolution": "STATIC"}
        });
        let packed =
            Packed::new(Partition(0), entry(object, Origin::Object), &zones(), &mut Paths::default());
        assert_eq!(packed.octets.len(), 57);
    }

    #[test]
    fn hosts_of_one_entry_share_their_addresses() {
        let addresses: Vec<String> = (0..200).map(|i| format!("240.0.1.{i}")).collect();
        let hosts: Vec<String> = (0..200).map(|i| format!("h{i}.global")).collect();
        let object = json!({"metadata": {"name": "x"}, "spec": {"hosts": hosts, "addresses": addresses}});
        let packed =
            Packed::new(Partition(0), entry(object, Origin::Object), &zones(), &mut Paths::default());
        assert!(packed.octets.len() < 200 * 5 + 200 * 20, "{}", packed.octets.len());
    }

    #[test]
    fn octets_that_are_no_entry_are_none() {
        assert!(View::new(&[]).is_none());
        assert!(View::claim(&[1, 2], 7).is_none());
        assert!(View::identity_run(&[]).is_empty());
    }
}
