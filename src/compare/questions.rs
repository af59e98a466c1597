//! What is asked: the names themselves, and what shows the difference of two servers' rules.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use super::legacy::Legacy;
use crate::wire::name::{self, MAX_WIRE, Name};
use crate::wire::rtype;
use crate::zone::Zones;

/// The label of names that nobody has.
pub const NOBODYS: &str = "globaldns-compare";
/// So many hosts of a zone are asked for in mixed case and through a search path as well.
const SAMPLES: usize = 3;

/// A name with every way in which it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// In lower case.
    pub name: Name,
    /// Other spellings of it.
    pub spellings: Vec<String>,
    /// In the order of asking.
    pub types: Vec<u16>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// In lower case.
    pub name: Name,
    /// As it is asked, without trailing dot.
    pub spelling: String,
    /// Type.
    pub rtype: u16,
}

impl Question {
    /// Whether it is asked in lower case.
    pub fn is_plain(&self) -> bool {
        !self.spelling.bytes().any(|octet| octet.is_ascii_uppercase())
    }

    /// The name in wire form, spelled as it is asked.
    pub fn wire(&self) -> Vec<u8> {
        let mut wire = self.name.wire().to_vec();
        let offsets: Vec<usize> = name::offsets(self.name.labels_wire()).collect();
        for (at, label) in offsets.into_iter().zip(self.spelling.split('.')) {
            wire[at + 1..at + 1 + label.len()].copy_from_slice(label.as_bytes());
        }
        wire
    }
}

impl Subject {
    /// Asks for more types, and in another spelling.
    fn extend(&mut self, spelling: &str, types: &[u16]) {
        for rtype in types {
            if !self.types.contains(rtype) {
                self.types.push(*rtype);
            }
        }
        let spelled_otherwise = spelling.bytes().any(|octet| octet.is_ascii_uppercase());
        if spelled_otherwise && self.spellings.iter().all(|known| known != spelling) {
            self.spellings.push(spelling.to_owned());
        }
    }

    /// Its questions; those in lower case first.
    pub fn questions(&self) -> Vec<Question> {
        let plain = self.name.to_string();
        std::iter::once(&plain)
            .chain(&self.spellings)
            .flat_map(|spelling| {
                self.types.iter().map(|rtype| Question {
                    name: self.name.clone(),
                    spelling: spelling.clone(),
                    rtype: *rtype,
                })
            })
            .collect()
    }
}

/// How much of the entries is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Hosts in a zone.
    pub hosts: usize,
    /// Hosts in no zone of which istiocoredns has an address: only its type is asked for.
    pub outside: usize,
    /// The other hosts in no zone; they are not asked for.
    pub unasked: usize,
}

/// Collects subjects, each name once.
#[derive(Debug)]
pub struct Plan<'z> {
    zones: &'z Zones,
    types: Vec<u16>,
    subjects: Vec<Subject>,
    at: HashMap<Name, usize>,
    /// Of `subjects`, those that are hosts in a zone.
    hosts: HashSet<usize>,
    /// And those that are hosts outside.
    outside: HashSet<usize>,
    unasked: HashSet<Name>,
}

impl<'z> Plan<'z> {
    /// Nothing yet; `types` are asked for every name.
    pub fn new(zones: &'z Zones, types: Vec<u16>) -> Plan<'z> {
        Plan {
            zones,
            types,
            subjects: Vec::new(),
            at: HashMap::new(),
            hosts: HashSet::new(),
            outside: HashSet::new(),
            unasked: HashSet::new(),
        }
    }

    /// A name or `*.suffix`, which stands for a name below; `types` beside those of all.
    pub fn add(&mut self, text: &str, types: &[u16]) -> Result<(), name::NameError> {
        let text = asked_as(text);
        let name = Name::parse(&text)?;
        let at = self.at(name, None);
        self.subjects[at].extend(&text, types);
        Ok(())
    }

    /// Every host of the entries that lies in a zone.
    pub fn add_hosts(&mut self, legacy: &Legacy) {
        for (text, name) in hosts(legacy) {
            if self.zones.covering(name.wire()).is_some() {
                let at = self.at(name, None);
                self.subjects[at].extend(&text, &[]);
                self.hosts.insert(at);
            }
        }
    }

    /// The hosts of the entries that lie in no zone. A zone that was forgotten shows where the old server answers them,
    /// so it is asked for the address of those that its rules give one; the others are counted.
    pub fn add_outside(&mut self, legacy: &Legacy, is_asked: bool) {
        for (text, name) in hosts(legacy) {
            if self.zones.covering(name.wire()).is_some() {
                continue;
            }
            if is_asked && legacy.candidates(&text).is_some() {
                let at = self.at(name, Some(&[rtype::A]));
                self.subjects[at].extend(&text, &[rtype::A]);
                self.outside.insert(at);
            } else {
                self.unasked.insert(name);
            }
        }
    }

    /// Whether there is anything to ask of the zones so far.
    pub fn has_name_in_a_zone(&self) -> bool {
        self.subjects.iter().any(|subject| self.zones.covering(subject.name.wire()).is_some())
    }

    /// What shows a server's rules: see K1.
    pub fn add_derived(&mut self, cluster_domain: &Name) {
        let mut samples: HashMap<usize, Vec<Name>> = HashMap::new();
        for subject in &self.subjects {
            if let Some((zone, at)) = self.zones.covering(subject.name.wire())
                && at > 0
            {
                let of_zone = samples.entry(zone.index()).or_default();
                if of_zone.len() < SAMPLES {
                    of_zone.push(subject.name.clone());
                }
            }
        }
        // Whose names are addresses has no names of hosts that a server could have rules for.
        for zone in self.zones.iter().filter(|zone| !zone.is_reverse()) {
            let apex = zone.apex().clone();
            self.subject(apex.clone());
            self.subject(apex.prepend(NOBODYS));
            let in_cluster = format!("kubernetes.default.svc.{cluster_domain}");
            self.below(&in_cluster, &apex);
            for sample in samples.remove(&zone.index()).unwrap_or_default() {
                let mixed = mixed_case(&sample.to_string());
                self.subject(sample.clone()).spellings.push(mixed);
                if let Some(up) = name::parent(sample.wire())
                    && up.len() > apex.wire().len()
                {
                    self.subject(Name::from_tail(up));
                }
                self.below(&sample.to_string(), &apex);
            }
        }
        if let Ok(outside) = Name::parse(&format!("kubernetes.default.svc.{cluster_domain}")) {
            self.subject(outside);
        }
    }

    /// The subjects, and how many of them are hosts of entries.
    pub fn finish(self) -> (Vec<Subject>, Extent) {
        let extent =
            Extent { hosts: self.hosts.len(), outside: self.outside.len(), unasked: self.unasked.len() };
        (self.subjects, extent)
    }

    /// What a search path makes of a name.
    fn below(&mut self, text: &str, zone: &Name) {
        if text.len() + 1 + zone.wire().len() <= MAX_WIRE
            && let Ok(name) = Name::parse(&format!("{text}.{zone}"))
        {
            self.subject(name);
        }
    }

    fn subject(&mut self, name: Name) -> &mut Subject {
        let at = self.at(name, None);
        &mut self.subjects[at]
    }

    /// Where a name's subject is. A new one has these types, or those of all.
    fn at(&mut self, name: Name, types: Option<&[u16]>) -> usize {
        *self.at.entry(name.clone()).or_insert_with(|| {
            let types = types.unwrap_or(&self.types).to_vec();
            self.subjects.push(Subject { name, spellings: Vec::new(), types });
            self.subjects.len() - 1
        })
    }
}

/// Every host as it is asked for; what is no name is a finding, and nobody can ask for it.
fn hosts(legacy: &Legacy) -> impl Iterator<Item = (Cow<'_, str>, Name)> {
    legacy.entries().iter().flat_map(|known| &known.hosts).filter_map(|host| {
        let text = asked_as(host);
        let name = Name::parse(&text).ok()?;
        Some((text, name))
    })
}

/// A host, or a name below the wildcard.
fn asked_as(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    match host.strip_prefix("*.") {
        None => Cow::Borrowed(host),
        Some(suffix) => Cow::Owned(format!("{NOBODYS}.{suffix}")),
    }
}

/// Every other letter in upper case, as resolvers do that put entropy there.
fn mixed_case(name: &str) -> String {
    let spelled = name.char_indices().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c });
    spelled.collect()
}
