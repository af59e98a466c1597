//! What there is to know of a name, before anybody judges.

use std::sync::Arc;

use hickory_proto::rr::RecordType;
use jiff::Timestamp;

use super::cause::Cause;
use super::further::{self, Beside};
use super::near::{self, Comparison, Fit, Near, Of};
use super::question::Question;
use super::reply::{self, Reply};
use super::{
    AddressFacts, Changed, EntryFacts, Explanation, FindingFacts, HostFacts, LastChange, Remedy, Subject,
    Ttl, UnservedFacts, ZoneFacts, judge,
};
use crate::entry::{self, EntryId};
use crate::finding::{Code, Finding};
use crate::index::history::Change;
use crate::index::{Bearing, Inspected, Standing, UnservedHost};
use crate::limits;
use crate::wire::name::{self, Name};
use crate::zone::answer::{Answers, Family};
use crate::zone::{Found, Host, Zone};

/// Entries of one host, addresses of an entry, findings of each kind, unserved hosts, and names below a name that are told.
pub(super) const MOST: usize = 20;
/// Hosts that are or match one name that are told.
const MOST_LEVELS: usize = 8;
/// Characters of a host that no name is as long as.
const LONGEST_HOST: usize = 260;

/// A host that is the name or matches it, and its claims.
pub(super) struct Level {
    pub(super) host: Host,
    pub(super) claims: Vec<Inspected>,
    in_all: usize,
    /// Whether it has answers, be they used or not.
    pub(super) has_answers: bool,
}

/// What the table says of the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Not in a zone.
    Outside,
    /// Answered, from the level of this number.
    Answered(usize),
    /// It exists without addresses.
    Empty,
    /// A probe's name.
    Probe,
    /// It does not exist.
    Missing,
}

/// Everything about one name.
pub(super) struct Evidence<'s> {
    pub(super) subject: &'s Subject<'s>,
    pub(super) question: &'s Question,
    pub(super) name: Option<Name>,
    pub(super) zone: Option<(&'s Zone, usize)>,
    pub(super) levels: Vec<Level>,
    /// The surest first.
    pub(super) unserved: Vec<(Fit, UnservedHost)>,
    pub(super) sight: Sight,
    pub(super) beside: Option<Beside>,
    pub(super) near: Vec<Near>,
    below: Vec<String>,
    pub(super) replies: Vec<Reply>,
    incomplete: Vec<String>,
}

/// How often it is looked anew because an event came meanwhile; under events without end the last look has to do.
const ATTEMPTS: usize = 4;

impl<'s> Evidence<'s> {
    pub(super) fn gather(subject: &'s Subject<'s>, question: &'s Question) -> Evidence<'s> {
        let mut evidence = Evidence {
            subject,
            question,
            name: question.name.as_ref().ok().cloned(),
            zone: None,
            levels: Vec::new(),
            unserved: Vec::new(),
            sight: Sight::Outside,
            beside: None,
            near: Vec::new(),
            below: Vec::new(),
            replies: Vec::new(),
            incomplete: Vec::new(),
        };
        if let Some(name) = evidence.name.clone() {
            let zones = subject.index.table().zones();
            evidence.zone = subject.index.table().zones().covering(name.wire());
            if evidence.zone.is_none() && zones.count() > MOST {
                evidence.incomplete.push(format!("there are {} more zones", zones.count() - MOST));
            }
            let ask = |rtype: &RecordType| reply::ask(subject.responder, &name, *rtype);
            let told = evidence.incomplete.len();
            for _ in 0..ATTEMPTS {
                let version = subject.index.version();
                evidence.levels.clear();
                evidence.incomplete.truncate(told);
                evidence.look(&name);
                evidence.replies = question.types.iter().filter_map(ask).collect();
                if subject.index.version() == version {
                    break;
                }
            }
            evidence.search(&name);
        }
        evidence
    }

    pub(super) fn resolves(&self) -> bool {
        self.replies.iter().any(|reply| reply.status == "NOERROR" && reply.answers > 0)
    }

    /// Whether a type that was asked for is an address's of this family.
    pub(super) fn wants(&self, family: Family) -> bool {
        self.question
            .types
            .iter()
            .any(|rtype| u16::from(*rtype) == family.rtype() || *rtype == RecordType::ANY)
    }

    /// The labels of the name before its zone.
    pub(super) fn relative(&self) -> &[u8] {
        match (&self.name, self.zone) {
            (Some(name), Some((_, apex_at))) => &name.wire()[..apex_at],
            _ => &[],
        }
    }

    /// The name itself, the wildcards above it, and what the table makes of them.
    fn look(&mut self, name: &Name) {
        let Some((zone, apex_at)) = self.zone else { return };
        let table = self.subject.index.table();
        let apex = zone.apex().wire().len();
        let above = std::iter::successors(name::parent(name.wire()), |up| name::parent(up));
        let wildcards = above
            .take_while(|up| up.len() >= apex)
            .map(|up| Host { name: Name::from_tail(up), wildcard: true });
        let mut left_out = 0;
        for host in std::iter::once(Host { name: name.clone(), wildcard: false }).chain(wildcards) {
            let has_answers = table.has(&host);
            // The first that has answers is told in any case: it may be the one that answers.
            let answers = has_answers && !self.levels.iter().any(|level| level.has_answers);
            let told = answers || self.levels.len() < MOST_LEVELS;
            let (claims, in_all) = self.subject.index.inspect(&host, if told { MOST } else { 0 });
            if in_all == 0 {
                continue;
            }
            if told {
                self.levels.push(Level { host, claims, in_all, has_answers });
            } else {
                left_out += 1;
            }
        }
        if left_out > 0 {
            self.incomplete.push(format!("{left_out} more wildcards match the name"));
        }
        self.beside = Beside::of(table, zone, name, apex_at);
        let reader = table.read();
        self.sight = match reader.find(zone, name.wire(), apex_at) {
            Found::Host(_) => {
                Sight::Answered(self.levels.iter().position(|level| level.has_answers).unwrap_or_else(|| {
                    // It came while this was made.
                    let host = Host { name: name.clone(), wildcard: false };
                    self.levels.push(Level { host, claims: Vec::new(), in_all: 0, has_answers: true });
                    self.levels.len() - 1
                }))
            }
            Found::Empty => Sight::Empty,
            Found::Probe => Sight::Probe,
            Found::Missing => Sight::Missing,
        };
    }

    /// Goes through all hosts: those that are not served and would be the name, and, where it does not resolve, those
    /// near it and below it.
    fn search(&mut self, name: &Name) {
        let Subject { index, budget, .. } = *self.subject;
        let (table, text) = (index.table(), name.to_string());
        let resolves = self.resolves();
        let mut found = near::Found::default();
        let mut compare = Comparison::new(name, self.zone.map(|(zone, _)| zone));
        // What lies below a wildcard at an apex is any name, so none is near it.
        let is_apex = |suffix: &str| {
            Name::parse(suffix)
                .is_ok_and(|suffix| table.zones().covering(suffix.wire()).is_some_and(|(_, at)| at == 0))
        };
        // A name that is right for somebody else has no slip in its letters.
        let in_cluster = table.zones().cluster_domain().covers(name);
        // A host that is not served has somebody who knows whose it is.
        let mut insert = |host: &str, wildcard: bool, of: Option<&dyn Fn() -> Option<Of>>| {
            if !in_cluster
                && let Some((how, letters, name)) = compare.compare(host.as_bytes(), wildcard)
                && !(wildcard && is_apex(host))
            {
                found.insert(Near { how, letters, name, served: of.is_none(), of: of.and_then(|of| of()) });
            }
        };
        // Of each fit as many as are told in all.
        let (mut unserved, mut matching) = (Vec::new(), [0; 3]);
        let look = |host: &str, code: Code, whole: &dyn Fn() -> UnservedHost| {
            if let Some(fit) = near::fit(host, code, name, &text) {
                let of_fit: &mut usize = &mut matching[fit as usize];
                *of_fit += 1;
                if *of_fit <= MOST {
                    unserved.push((fit, whole()));
                }
            } else if !resolves && host.len() <= LONGEST_HOST && code != Code::HostReserved {
                let of = || {
                    let UnservedHost { id, field, host, .. } = whole();
                    Some(Of { host, object: id.to_string(), field })
                };
                let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
                insert(host.strip_prefix("*.").unwrap_or(&host), host.starts_with("*."), Some(&of));
            }
        };
        if !index.unserved(budget, look) {
            self.incomplete.push(format!("only the first {budget} hosts that are not served were looked at"));
        }
        let matching: usize = matching.iter().sum();
        if matching > MOST {
            self.incomplete.push(format!("{} more hosts that are not served match", matching - MOST));
        }
        self.unserved = unserved;
        // The index has no order of its own.
        self.unserved.sort_by(|(fit, a), (other, b)| (fit, &a.id, &a.field).cmp(&(other, &b.id, &b.field)));
        self.unserved.truncate(MOST);
        if resolves || self.sight == Sight::Probe {
            return;
        }
        let below = self.zone.is_some() && self.sight == Sight::Empty;
        let (mut looked, mut host_text) = (0, String::new());
        table.for_each(|host, _| {
            looked += 1;
            if looked > budget {
                return;
            }
            host_text.clear();
            for label in name::labels(host.name.labels_wire()) {
                if !host_text.is_empty() {
                    host_text.push('.');
                }
                host_text.push_str(&String::from_utf8_lossy(label));
            }
            insert(&host_text, host.wildcard, None);
            let is_below = || name.covers(&host.name) && (host.wildcard || host.name != *name);
            if below && self.below.len() < MOST && is_below() {
                self.below.push(host.to_string());
            }
        });
        if looked > budget {
            self.incomplete
                .push(format!("only the first {budget} of {looked} hosts were looked at for near names"));
        }
        let (unanswered, whole) = index.unanswered_hosts(budget);
        for host in unanswered {
            let of = || {
                let claim = index.inspect(&host, 1).0.into_iter().next()?;
                let field = format!("spec.hosts[{}]", claim.field);
                Some(Of { host: host.to_string(), object: claim.id.to_string(), field })
            };
            insert(&host.name.to_string(), host.wildcard, Some(&of));
        }
        if !whole {
            self.incomplete.push(format!(
                "only the first {budget} hosts without an answer or of several entries were looked at for near names"
            ));
        }
        near::look_up(table, near::guesses(table.zones(), name, self.zone), &mut found);
        self.below.sort_unstable();
        self.near = found.into_sorted();
    }

    /// The verdict, and the facts.
    pub(super) fn explained(self) -> Explanation {
        let verdict = judge::judge(&self);
        let zones = self.subject.index.table().zones();
        let answering = match self.sight {
            Sight::Answered(level) if !(self.resolves() && self.is_further()) => self.levels.get(level),
            _ => None,
        };
        Explanation {
            name: self.question.text.clone(),
            types: self.question.types.iter().map(|rtype| reply::type_name(*rtype)).collect(),
            resolves: self.resolves(),
            cause: verdict.cause,
            why: verdict.why,
            remedy: Remedy { text: limits::shorten(&verdict.remedy.text, 1_000), ..verdict.remedy },
            zone: self.zone.map(|(zone, _)| ZoneFacts { name: zone.apex().to_string(), hosts: zone.hosts() }),
            zones: match self.zone {
                Some(_) => Vec::new(),
                None => zones.iter().take(MOST).map(|zone| zone.apex().to_string()).collect(),
            },
            ttl: further::ttl(&self).or_else(|| answering.and_then(|level| self.ttl(level))),
            changed: self.changed(answering),
            hosts: self.levels.iter().enumerate().map(|(at, level)| self.host_facts(at, level)).collect(),
            unserved: self.unserved.iter().map(|(_, unserved)| unserved_facts(unserved)).collect(),
            guard: verdict.guard,
            near: self.near,
            below: self.below,
            forwarding: None,
            replies: self.replies,
            incomplete: self.incomplete,
        }
    }

    /// What the table answers with, and whose it is.
    fn ttl(&self, level: &Level) -> Option<Ttl> {
        let index = self.subject.index;
        let seconds = index.table().with_host(&level.host, |_, answers| answers.ttl())?;
        let answering = |claim: &&Inspected| matches!(claim.standing, Standing::Owns | Standing::Default);
        let annotated = level
            .claims
            .iter()
            .filter(answering)
            .find(|claim| claim.ttl == Some(seconds))
            .map(|claim| &claim.id);
        let from = match annotated {
            Some(id) => format!("the annotation {} of {id}", entry::TTL_ANNOTATION),
            None => "--ttl".to_owned(),
        };
        Some(Ttl { seconds, from })
    }

    fn changed(&self, level: Option<&Level>) -> Option<Changed> {
        let answering = level.into_iter().flat_map(|level| &level.claims);
        let answering =
            answering.filter(|claim| matches!(claim.standing, Standing::Owns | Standing::Default));
        let named = || Some(Host { name: self.name.clone()?, wildcard: false });
        let host = level.map(|level| level.host.clone()).or_else(named);
        let changed = Changed {
            entry_created: answering.filter_map(|claim| claim.created).max().and_then(time),
            zone_changed: self
                .zone
                .filter(|_| self.subject.serving && level.is_some())
                .and_then(|(zone, _)| time(i64::from(zone.serial()))),
            last: host.and_then(|host| self.subject.index.history().last_of(&host)).and_then(last_change),
        };
        (changed != Changed::default()).then_some(changed)
    }

    fn host_facts(&self, at: usize, level: &Level) -> HostFacts {
        let winner = level.claims.iter().find(|claim| claim.standing == Standing::Owns);
        let facts = |claim: &Inspected| EntryFacts {
            object: claim.id.to_string(),
            namespace: claim.id.namespace.to_string(),
            field: format!("spec.hosts[{}]", claim.field),
            created: claim.created.and_then(time),
            owns: matches!(claim.standing, Standing::Owns | Standing::Default),
            rule: rule(claim, winner, level.in_all),
            addresses: addresses(claim),
            findings: claim.of_bearing(Bearing::Host).map(finding_facts).collect(),
            findings_left_out: claim.left_out[Bearing::Host as usize],
        };
        // The first ones, and the first that answers.
        let told =
            level.claims.iter().enumerate().filter(|(at, claim)| {
                *at < MOST || winner.is_some_and(|winner| std::ptr::eq(winner, *claim))
            });
        HostFacts {
            host: level.host.to_string(),
            answers: self.sight == Sight::Answered(at),
            entries: told.map(|(_, claim)| facts(claim)).collect(),
            entries_in_all: level.in_all,
        }
    }
}

fn last_change(change: Arc<Change>) -> Option<LastChange> {
    let addresses = |answers: &Option<Answers>| {
        let of = |family| answers.iter().flat_map(move |answers| answers.view().addresses(family));
        of(Family::V4).chain(of(Family::V6)).map(|address| address.to_string()).collect()
    };
    Some(LastChange {
        time: time(i64::from(change.at))?,
        before: addresses(&change.before),
        after: addresses(&change.after),
        entry: change.entry.to_string(),
        manager: change.provenance.as_ref().and_then(|from| Some(from.manager.as_ref()?.to_string())),
    })
}

/// Unix seconds as RFC 3339.
fn time(seconds: i64) -> Option<String> {
    Timestamp::from_second(seconds).ok().map(|time| time.to_string())
}

/// O1 in words.
fn rule(claim: &Inspected, winner: Option<&Inspected>, in_all: usize) -> String {
    let winner = winner.map_or_else(String::new, |winner| winner.id.to_string());
    match claim.standing {
        Standing::Owns if in_all == 1 => "it owns the host: no other live entry claims it".to_owned(),
        Standing::Owns => {
            "it owns the host, with all of its namespace that compete: public before narrower exportTo, then \
             --prefer-namespace, then the oldest (O1)"
                .to_owned()
        }
        Standing::Default => {
            "no live entry gives the host an address, so it gets --default-address (A3)".to_owned()
        }
        Standing::NoAddress => "it gives the host no address, so it takes no part (A7)".to_owned(),
        Standing::NotPublic => {
            format!("{winner} owns the host: it is exported to every namespace and this one is not (O1)")
        }
        Standing::LessPreferred => {
            format!("{winner} owns the host: its namespace comes first in --prefer-namespace (O1)")
        }
        Standing::Younger => format!("{winner} owns the host: it is older (O1)"),
        Standing::Tied => {
            format!(
                "{winner} owns the host: it is as old, and its namespace, name or place in the files comes first (O1)"
            )
        }
    }
}

/// Every address, accepted or rejected.
fn addresses(claim: &Inspected) -> Vec<AddressFacts> {
    let from =
        if claim.allocated { "status.addresses, allocated by istiod (A2)" } else { "spec.addresses (A1)" };
    let remark = |address: &str| {
        let is = |finding: &&Finding| finding.value.split('/').next() == Some(address);
        let [rejected, remarks] = [Bearing::Rejected, Bearing::Remark].map(|of| claim.of_bearing(of));
        rejected.chain(remarks).find(is).map_or_else(String::new, |finding| format!("; {}", finding.why))
    };
    let accepted = claim.addresses.iter().take(MOST).map(|address| {
        let address = address.to_string();
        AddressFacts { why: format!("{from}{}", remark(&address)), accepted: true, address }
    });
    let rejected = claim.of_bearing(Bearing::Rejected).map(|finding| AddressFacts {
        address: finding.value.clone(),
        accepted: false,
        why: format!("{} [{}]: {}", finding.field, finding.code.as_str(), finding.why),
    });
    let more = |more: usize, accepted: bool, why: &str| {
        (more > 0).then(|| AddressFacts {
            address: format!("and {more} more"),
            accepted,
            why: why.to_owned(),
        })
    };
    let more_accepted = more(claim.addresses.len().saturating_sub(MOST), true, from);
    let more_rejected = more(claim.left_out[Bearing::Rejected as usize], false, "each with a finding (A1)");
    accepted.chain(more_accepted).chain(rejected).chain(more_rejected).collect()
}

fn finding_facts(finding: &Finding) -> FindingFacts {
    FindingFacts {
        code: finding.code.as_str().to_owned(),
        severity: finding.code.severity().as_str().to_owned(),
        field: finding.field.clone(),
        value: finding.value.clone(),
        why: finding.why.clone(),
        remedy: finding.remedy.clone(),
    }
}

fn unserved_facts(unserved: &UnservedHost) -> UnservedFacts {
    UnservedFacts {
        host: limits::shorten(&unserved.host, LONGEST_HOST),
        object: unserved.id.to_string(),
        field: unserved.field.clone(),
        code: unserved.code.as_str().to_owned(),
        why: why_unserved(unserved),
    }
}

/// Why a host is not served, in words.
pub(super) fn why_unserved(unserved: &UnservedHost) -> String {
    match unserved.code {
        Code::HostOutsideZones => "no zone of this server covers the host (H2)".to_owned(),
        Code::ExportHidden => "its entry is exported to nobody: exportTo is [\"~\"] (O5)".to_owned(),
        Code::ExportNotPublic => {
            "its entry is not exported to every namespace, and --public-only is set (O5)".to_owned()
        }
        Code::FieldType => "spec.hosts is a text and no list, so it is ignored (S5)".to_owned(),
        Code::ResolutionNoneSkipped => {
            "its entry has resolution NONE, and --skip-resolution-none is set (A5)".to_owned()
        }
        _ => unserved.why.clone(),
    }
}

/// An entry, for remedies.
pub(super) fn object(id: &EntryId) -> Option<String> {
    Some(id.to_string())
}

impl Cause {
    /// The cause of a host that is not served.
    pub(super) fn of_unserved(code: Code) -> Cause {
        match code {
            Code::ExportHidden => Cause::ExportHidden,
            Code::ExportNotPublic => Cause::ExportNotPublic,
            Code::ResolutionNoneSkipped => Cause::ResolutionNoneSkipped,
            Code::HostNotOwner => Cause::NotOwner,
            Code::HostApexWildcard => Cause::ApexWildcard,
            Code::HostReserved => Cause::HostReserved,
            Code::HostInvalid | Code::FieldType => Cause::HostInvalid,
            Code::Placeholder => Cause::HostPlaceholder,
            _ => Cause::HostOutsideZones,
        }
    }
}
