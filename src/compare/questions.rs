//! What is asked: the names themselves, and what shows the difference of two servers' rules.

use std::collections::{HashMap, HashSet};

use super::legacy::Legacy;
use crate::wire::name::{self, MAX_WIRE, Name};
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

/// Collects subjects, each name once.
#[derive(Debug)]
pub struct Plan<'z> {
    zones: &'z Zones,
    types: Vec<u16>,
    subjects: Vec<Subject>,
    at: HashMap<Name, usize>,
    outside: HashSet<Name>,
}

impl<'z> Plan<'z> {
    /// Nothing yet; `types` are asked for every name.
    pub fn new(zones: &'z Zones, types: Vec<u16>) -> Plan<'z> {
        Plan { zones, types, subjects: Vec::new(), at: HashMap::new(), outside: HashSet::new() }
    }

    /// A name or `*.suffix`, which stands for a name below; `types` beside those of all.
    pub fn add(&mut self, text: &str, types: &[u16]) -> Result<(), name::NameError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        let (text, name) = match text.strip_prefix("*.") {
            None => (text.to_owned(), Name::parse(text)?),
            Some(suffix) => {
                let child = format!("{NOBODYS}.{suffix}");
                let name = Name::parse(&child)?;
                (child, name)
            }
        };
        let subject = self.subject(name);
        for rtype in types {
            if !subject.types.contains(rtype) {
                subject.types.push(*rtype);
            }
        }
        let spelled_otherwise = text.bytes().any(|octet| octet.is_ascii_uppercase());
        if spelled_otherwise && !subject.spellings.contains(&text) {
            subject.spellings.push(text);
        }
        Ok(())
    }

    /// Every host of the entries that lies in a zone; the others are counted.
    pub fn add_hosts(&mut self, legacy: &Legacy) {
        for host in legacy.entries().iter().flat_map(|known| &known.hosts) {
            let bare = host.strip_prefix("*.").unwrap_or(host);
            // What is no name is a finding, and nobody can ask for it.
            let Ok(name) = Name::parse(bare) else { continue };
            if self.zones.covering(name.wire()).is_none() {
                self.outside.insert(name);
            } else {
                _ = self.add(host, &[]);
            }
        }
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
        for zone in self.zones.iter() {
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

    /// The subjects, and how many hosts of entries lie in no zone.
    pub fn finish(self) -> (Vec<Subject>, usize) {
        (self.subjects, self.outside.len())
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
        let at = *self.at.entry(name.clone()).or_insert_with(|| {
            self.subjects.push(Subject { name, spellings: Vec::new(), types: self.types.clone() });
            self.subjects.len() - 1
        });
        &mut self.subjects[at]
    }
}

/// Every other letter in upper case, as resolvers do that put entropy there.
fn mixed_case(name: &str) -> String {
    let spelled = name.char_indices().map(|(i, c)| if i % 2 == 0 { c.to_ascii_uppercase() } else { c });
    spelled.collect()
}
