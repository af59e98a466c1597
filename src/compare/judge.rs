//! Whether a clause explains a difference (K3).
//!
//! A server may answer less than another for a good reason or for a bad one, and only the entries tell which. So an
//! address that comes, goes or changes is explained only if the new server answers what our rules make of the entries,
//! the old one what istiocoredns's rules make of the same entries (see [`super::legacy`]), and a clause says why these
//! rules differ. What the replies alone can explain touches no address.

mod claimed;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::legacy::{Known, Legacy};
use super::questions::Question;
use super::view::{Reply, View};
use crate::index::Index;
use crate::wire::name::{self, MAX_WIRE, Name};
use crate::wire::{Rcode, rtype};
use crate::zone::answer::Family;
use crate::zone::extra::{PRIORITY, Service, WEIGHT};
use crate::zone::{Found, Further, Host, Zone};
use claimed::Claimed;

macro_rules! classes {
    ($($(#[$doc:meta])* $name:ident $clause:literal $text:literal,)*) => {
        /// The closed list of explanations; each has its clause.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Class { $($(#[$doc])* $name,)* }

        impl Class {
            /// Every class, in the order of the contract.
            pub const ALL: &'static [Class] = &[$(Class::$name,)*];

            /// The clause it follows from.
            pub fn clause(self) -> &'static str {
                match self { $(Class::$name => $clause,)* }
            }

            /// What differs.
            pub fn difference(self) -> &'static str {
                match self { $(Class::$name => $text,)* }
            }
        }
    };
}

classes! {
    /// A zone other than `global`.
    Zone "Z1" "a zone that the old server does not serve",
    /// Lost to a strict reader.
    Strict "S5" "an entry that the old server could not read",
    /// `/32`.
    Cidr "A1" "an address written with a prefix length (/32)",
    /// Dropped with its IPv6 address.
    Ipv6Entry "A1" "an entry that the old server drops for its IPv6 address",
    /// AAAA.
    Aaaa "A1" "IPv6 addresses, which the old server has none of",
    /// `0.0.0.0`.
    Unspecified "A1" "the unspecified address, which is not served",
    /// `status.addresses`.
    Allocated "A2" "an address that istiod allocated",
    /// `--default-address`.
    DefaultAddress "A3" "the default address",
    /// `resolution: NONE`.
    ResolutionNone "A5" "an entry with resolution NONE",
    /// `*.global`.
    ApexWildcard "H5" "a wildcard directly under a zone",
    /// What a search path makes.
    SearchPath "H6" "a name that a search path made, which no wildcard answers",
    /// Several entries for one host.
    Owner "O1" "several entries for one host: the old server takes any one of them",
    /// `exportTo`.
    Hidden "O5" "an entry that exportTo keeps from being served",
    /// `--zone-owner`.
    NotOwner "O6" "an entry that does not own the name's suffix",
    /// AA.
    Authority "D1" "the AA bit",
    /// TTL of an answer.
    Ttl "D2" "another TTL",
    /// NXDOMAIN of a name that exists.
    NoData "D3" "NXDOMAIN, or an error, for a name that exists; now NODATA",
    /// NODATA without SOA.
    NoDataSoa "D3" "NODATA without the zone's SOA",
    /// NXDOMAIN without SOA.
    Soa "D4" "NXDOMAIN without the zone's SOA",
    /// TTL of the SOA.
    NegativeTtl "D4" "another TTL of negative answers",
    /// An error or NODATA where nothing is.
    Missing "D4" "an error, or NODATA, for a name that does not exist; now NXDOMAIN",
    /// SOA and NS.
    Apex "D5" "the zone's own SOA, NS and name server",
    /// ANY.
    Any "D7" "ANY gets one RRset",
    /// Not our zone.
    Outside "D8" "a name outside the zones: the old server forwards it, the new one refuses",
    /// A name of an address.
    Pointer "D22" "PTR of an address, from the hosts that have it",
    /// A service.
    Service "D23" "SRV, from the ports of entries",
    /// Where an answer comes from.
    Diagnosis "D24" "TXT that tells where an answer comes from",
    /// Case.
    Case "D15" "upper case, in the query or in the entry",
}

/// A clause, and what it rests on here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reason {
    /// The explanation.
    pub class: Class,
    /// The entry and field, where one is behind it.
    pub why: String,
}

impl Reason {
    /// A reason.
    pub fn new(class: Class, why: impl Into<String>) -> Reason {
        Reason { class, why: why.into() }
    }
}

impl From<Class> for Reason {
    fn from(class: Class) -> Reason {
        Reason::new(class, "")
    }
}

/// What two replies mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No difference.
    Same,
    /// Differences that follow from the contract: one reason of each kind at least, sorted.
    Explained(Vec<Reason>),
    /// A difference that does not.
    Unexplained(Riddle),
}

/// An unexplained difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Riddle {
    /// What is wrong.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Riddle {
    fn new(why: impl Into<String>, remedy: impl Into<String>) -> Riddle {
        Riddle { why: why.into(), remedy: remedy.into() }
    }
}

/// Judges with the rules of a server, and with its entries if they are known.
pub struct Judge<'j> {
    index: &'j Index,
    legacy: Option<&'j Legacy>,
}

/// What the entries say a question's answer is.
#[derive(Debug, PartialEq, Eq)]
struct Predicted {
    rcode: Rcode,
    addresses: BTreeSet<IpAddr>,
}

const ENTRIES_REMEDY: &str =
    "let the entries explain it: --file or --kubernetes, with the flags of the new server";

impl<'j> Judge<'j> {
    /// `legacy` is `None` where no entries were read; `index` then has the zones only.
    pub fn new(index: &'j Index, legacy: Option<&'j Legacy>) -> Judge<'j> {
        Judge { index, legacy }
    }

    /// Judges two replies to one question. `plain` is the old reply to the same in lower case, where this one is spelled
    /// otherwise.
    pub fn judge(&self, question: &Question, old: &Reply, new: &Reply, plain: Option<&Reply>) -> Verdict {
        match self.reasons(question, old, new, plain) {
            Ok(mut reasons) if !reasons.is_empty() => {
                reasons.sort();
                reasons.dedup_by_key(|reason| reason.class);
                Verdict::Explained(reasons)
            }
            Ok(_) => Verdict::Same,
            Err(riddle) => Verdict::Unexplained(riddle),
        }
    }

    fn reasons(
        &self,
        question: &Question,
        old: &Reply,
        new: &Reply,
        plain: Option<&Reply>,
    ) -> Result<Vec<Reason>, Riddle> {
        let new = new.as_ref().map_err(|why| {
            Riddle::new(
                format!("the new server gives no reply: {why}"),
                "look at its log and its /ready, and ask again",
            )
        })?;
        let zones = self.index.table().zones();
        let Some((zone, apex_at)) = zones.covering(question.name.wire()) else {
            return self.outside(question, old, new);
        };
        let old = old.as_ref().map_err(|why| {
            Riddle::new(
                format!("the old server gives no reply, so nothing can be compared: {why}"),
                "ask it again; istiocoredns is silent while its container istio-coredns-plugin is away",
            )
        })?;
        if !new.is(Rcode::NoError) && !new.is(Rcode::NxDomain) {
            return Err(not_answered(new, zone));
        }
        if let Some(Ok(plain)) = plain
            && old.is(Rcode::NxDomain)
            && !plain.is(Rcode::NxDomain)
        {
            let mut reasons = self.inside(question, plain, new, zone, apex_at, &question.name.to_string())?;
            reasons.push(Class::Case.into());
            return Ok(reasons);
        }
        self.inside(question, old, new, zone, apex_at, &question.spelling)
    }

    /// D8. What such a server forwards is nobody's business here, unless the old server answers it from the entries. AA
    /// does not tell: an old CoreDNS sets it on what it has forwarded and kept, too.
    fn outside(&self, question: &Question, old: &Reply, new: &View) -> Result<Vec<Reason>, Riddle> {
        if old.as_ref().is_ok_and(|old| old == new) {
            return Ok(Vec::new());
        }
        if !new.is(Rcode::Refused) {
            let remedy = if old.as_ref().is_ok_and(|old| old.is(Rcode::Refused)) {
                "put --old and --new the other way round, if the old server is the globaldns; else give the --zone \
                 flags of the new server"
            } else {
                "give the --zone flags of the new server"
            };
            return Err(Riddle::new("the name is in no zone, and the new server does not refuse it", remedy));
        }
        if let Ok(old) = old
            && question.rtype == rtype::A
            && let Some((_, candidates)) =
                self.legacy.and_then(|legacy| legacy.candidates(&question.spelling))
            && let Some(answered) = candidates.iter().find(|known| known.serves(&old.addresses))
        {
            return Err(Riddle::new(
                format!(
                    "the old server answers {} from {}, and the name is in no zone here",
                    list(&old.addresses),
                    answered.object
                ),
                "name its zone to both, with --zone of the new server and of this command; where the old server only \
                 forwards the name, --only-zones does not ask for it",
            ));
        }
        Ok(vec![Class::Outside.into()])
    }

    fn inside(
        &self,
        question: &Question,
        old: &View,
        new: &View,
        zone: &Zone,
        apex_at: usize,
        spelling: &str,
    ) -> Result<Vec<Reason>, Riddle> {
        let mut reasons = Vec::new();
        let is_name_server = question.name == zone.ns_name();
        let content = |view: &View| (view.rcode, view.addresses.clone(), view.others.clone());
        if content(old) != content(new) {
            if let Some(predicted) = self.predict(question, zone, apex_at)
                && !is_name_server
                && question.rtype != rtype::ANY
                && (!new.is(predicted.rcode) || new.addresses != predicted.addresses)
            {
                return Err(Riddle::new(
                    format!("the new server does not answer what the entries say: {predicted}"),
                    "wait until it has read them, and give this command its flags and its entries",
                ));
            }
            self.records(question, old, new, (zone, apex_at), is_name_server, &mut reasons)?;
            if question.rtype == rtype::ANY {
                self.any(old, new, &mut reasons)?;
            } else if is_name_server && old.addresses.is_empty() && !new.addresses.is_empty() {
                reasons.push(Class::Apex.into());
            } else {
                self.addresses(question, old, new, zone, apex_at, spelling, &mut reasons)?;
            }
            self.codes(question, old, new, zone, apex_at, &mut reasons)?;
        }
        negatives(question, old, new, &mut reasons)?;
        // An error has no authority, and neither has what somebody else answered for the old server.
        let speaks = old.is(Rcode::NoError) || old.is(Rcode::NxDomain);
        let own = reasons.iter().all(|reason| reason.class != Class::Zone);
        if speaks && own && old.authoritative != new.authoritative {
            reasons.push(Class::Authority.into());
        }
        if !old.is_empty() && !new.is_empty() && old.ttl != new.ttl {
            let seconds = |view: &View| view.ttl.unwrap_or_default();
            reasons.push(Reason::new(Class::Ttl, format!("{} → {}", seconds(old), seconds(new))));
        }
        Ok(reasons)
    }

    /// Whatever is no address.
    fn records(
        &self,
        question: &Question,
        old: &View,
        new: &View,
        (zone, apex_at): (&Zone, usize),
        is_name_server: bool,
        reasons: &mut Vec<Reason>,
    ) -> Result<(), Riddle> {
        let infrastructure = apex_at == 0 || is_name_server;
        let is_own = |record: &&String| {
            let rtype = record.split(' ').next().unwrap_or_default();
            infrastructure && ["SOA", "NS"].contains(&rtype)
        };
        if old.others == new.others {
            return Ok(());
        }
        if old.others.iter().chain(&new.others).all(|record| is_own(&record)) {
            reasons.push(Class::Apex.into());
            return Ok(());
        }
        if old.others.is_empty()
            && let Some(class) = self.further(question, new, zone, apex_at)
        {
            reasons.push(class.into());
            return Ok(());
        }
        let lost: Vec<_> =
            old.others.difference(&new.others).map(|record| record.escape_debug().to_string()).collect();
        let why = if lost.is_empty() {
            format!("the new server has records that the old one has not, for type {}", question.rtype)
        } else {
            format!("records are lost: {}", lost.join(", "))
        };
        Err(Riddle::new(why, "keep whoever serves them; ServiceEntries give addresses only (D3)"))
    }

    /// D22 to D24: what the new server has beside addresses, if it is what the entries say.
    fn further(&self, question: &Question, new: &View, zone: &Zone, apex_at: usize) -> Option<Class> {
        let table = self.index.table();
        let reader = table.read();
        let name = question.name.wire();
        if question.rtype == rtype::TXT
            && let Found::Host(answers) = reader.find(zone, name, apex_at)
        {
            let entries = answers.extra()?.entries().0;
            let says = |text: &String| entries.iter().all(|entry| text.contains(&format!("entry={entry}")));
            return new.others.iter().all(says).then_some(Class::Diagnosis);
        }
        let (class, expected): (_, BTreeSet<String>) = match reader.further(zone, name, apex_at)? {
            Further::Pointers(address) => {
                let hosts = table.pointed(address).hosts;
                (Class::Pointer, hosts.iter().map(|host| format!("PTR {host}.")).collect())
            }
            Further::Services(answers, host_at, protocol) => {
                let service = name::labels(name).next()?.strip_prefix(b"_")?;
                let host = Name::from_tail(&name[host_at..]);
                let services = answers.extra()?.of(service, protocol);
                let record = |s: &Service| format!("SRV {PRIORITY} {WEIGHT} {} {host}.", s.port);
                (Class::Service, services.map(record).collect())
            }
            Further::Above => return None,
        };
        (new.others == expected).then_some(class)
    }

    /// D7: of all addresses, those of one family; none that the old server does not have, if it has any.
    fn any(&self, old: &View, new: &View, reasons: &mut Vec<Reason>) -> Result<(), Riddle> {
        if old.addresses == new.addresses {
            return Ok(());
        }
        if new.addresses.is_empty() || !(old.is_empty() || new.addresses.is_subset(&old.addresses)) {
            return Err(Riddle::new("ANY shows other addresses", "compare type A and AAAA of the name"));
        }
        reasons.push(Class::Any.into());
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "all of it decides")]
    fn addresses(
        &self,
        question: &Question,
        old: &View,
        new: &View,
        zone: &Zone,
        apex_at: usize,
        spelling: &str,
        reasons: &mut Vec<Reason>,
    ) -> Result<(), Riddle> {
        if old.addresses == new.addresses {
            return Ok(());
        }
        let Some(legacy) = self.legacy else {
            return Err(Riddle::new(changed(old, new), ENTRIES_REMEDY));
        };
        let owners = self.owners(legacy, &question.name, zone);
        let zones = self.index.table().zones();
        let name = Claimed { question, old, new, spelling, owners, zones };
        let found = match (old.addresses.is_empty(), question.rtype) {
            (true, rtype::AAAA) => vec![Class::Aaaa.into()],
            (true, _)
                if is_foreign(old, zone)
                    && [spelling, &question.name.to_string()]
                        .iter()
                        .any(|spelling| legacy.candidates(spelling).is_some()) =>
            {
                vec![Class::Zone.into()]
            }
            (true, _) => name.gained(legacy, zone)?,
            (false, _) => {
                let relative = &question.name.wire()[..apex_at];
                name.changed(legacy, zones.is_search_path_product(relative))?
            }
        };
        reasons.extend(found);
        Ok(())
    }

    /// The host whose answer a name gets, and the entries it comes from; none for the default address.
    fn owners(&self, legacy: &'j Legacy, name: &Name, zone: &Zone) -> Option<(Host, Vec<&'j Known>)> {
        let exact = Host { name: name.clone(), wildcard: false };
        let above = std::iter::successors(name::parent(name.wire()), |up| name::parent(up))
            .take_while(|up| up.len() >= zone.apex().wire().len())
            .map(|up| Host { name: Name::from_tail(up), wildcard: true });
        std::iter::once(exact).chain(above).find_map(|host| {
            let ids = self.index.owners(&host);
            let known: Vec<_> = ids.iter().filter_map(|id| legacy.get(id)).collect();
            (!known.is_empty()).then_some((host, known))
        })
    }

    fn predict(&self, question: &Question, zone: &Zone, apex_at: usize) -> Option<Predicted> {
        self.legacy?;
        let mut room = [0; MAX_WIRE];
        let lower = &mut room[..question.name.wire().len()];
        lower.copy_from_slice(question.name.wire());
        let reader = self.index.table().read();
        let family = [Family::V4, Family::V6].into_iter().find(|family| family.rtype() == question.rtype);
        let (rcode, addresses) = match reader.find(zone, lower, apex_at) {
            Found::Host(answers) => {
                (Rcode::NoError, family.map(|family| answers.addresses(family).collect()).unwrap_or_default())
            }
            Found::Empty | Found::Probe => (Rcode::NoError, BTreeSet::new()),
            Found::Missing if reader.further(zone, lower, apex_at).is_some() => {
                (Rcode::NoError, BTreeSet::new())
            }
            Found::Missing => (Rcode::NxDomain, BTreeSet::new()),
        };
        Some(Predicted { rcode, addresses })
    }

    /// Codes that differ where no address does.
    fn codes(
        &self,
        question: &Question,
        old: &View,
        new: &View,
        zone: &Zone,
        apex_at: usize,
        reasons: &mut Vec<Reason>,
    ) -> Result<(), Riddle> {
        if old.rcode == new.rcode || !old.is_empty() || !new.is_empty() {
            return Ok(());
        }
        let predicted = || self.predict(question, zone, apex_at).map(|predicted| predicted.rcode);
        if new.is_nodata() && old.is(Rcode::NxDomain) {
            reasons.push(Class::NoData.into());
            Ok(())
        } else if new.is(Rcode::NxDomain) && predicted() == Some(Rcode::NxDomain) {
            reasons.push(Class::Missing.into());
            Ok(())
        } else if new.is_nodata() && predicted() == Some(Rcode::NoError) {
            reasons.push(Class::NoData.into());
            Ok(())
        } else {
            Err(Riddle::new(format!("{} became {}", old.status(), new.status()), ENTRIES_REMEDY))
        }
    }
}

impl fmt::Display for Predicted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.rcode, self.addresses.is_empty()) {
            (Rcode::NoError, true) => f.write_str("the name exists, without this type"),
            (Rcode::NoError, false) => f.write_str(&list(&self.addresses)),
            _ => f.write_str("the name does not exist"),
        }
    }
}

/// Whether a reply is not the old server's own: its only zone is `global`, and what it forwards is nobody's here.
fn is_foreign(old: &View, zone: &Zone) -> bool {
    zone.apex().to_string() != "global" && !old.authoritative && old.is_empty()
}

/// What negative answers carry.
fn negatives(question: &Question, old: &View, new: &View, reasons: &mut Vec<Reason>) -> Result<(), Riddle> {
    if !new.is_empty() {
        return Ok(());
    }
    let Some(soa) = &new.soa else {
        return if old.soa.is_none() && reasons.is_empty() {
            Ok(())
        } else {
            Err(Riddle::new("the new server's negative answer has no SOA", "is the new server globaldns?"))
        };
    };
    let covers = Name::parse(&soa.zone).is_ok_and(|zone| zone.covers(&question.name));
    if !covers {
        return Err(Riddle::new("the new server's SOA is of another zone", "is the new server globaldns?"));
    }
    match &old.soa {
        _ if !old.is_empty() => {}
        // Whose code differs has no such answer at all.
        None if reasons.iter().any(|reason| matches!(reason.class, Class::NoData | Class::Missing)) => {}
        None if new.is(Rcode::NxDomain) => reasons.push(Class::Soa.into()),
        None => reasons.push(Class::NoDataSoa.into()),
        Some(was) if (&was.zone, &was.data) != (&soa.zone, &soa.data) => reasons.push(Class::Apex.into()),
        Some(was) if was.ttl != soa.ttl => {
            reasons.push(Reason::new(Class::NegativeTtl, format!("{} → {}", was.ttl, soa.ttl)));
        }
        Some(_) => {}
    }
    Ok(())
}

fn not_answered(new: &View, zone: &Zone) -> Riddle {
    let remedy = match new.status().as_str() {
        "SERVFAIL" => "wait until its /ready says so: it has not read every entry yet (D9)".to_owned(),
        "REFUSED" => format!("run it with --zone {}", zone.apex()),
        _ => "look at its log".to_owned(),
    };
    Riddle::new(format!("the new server does not answer: {}", new.status()), remedy)
}

fn changed(old: &View, new: &View) -> String {
    let none =
        |view: &View| if view.addresses.is_empty() { "nothing".to_owned() } else { list(&view.addresses) };
    format!("{} became {}", none(old), none(new))
}

fn list(addresses: &BTreeSet<IpAddr>) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
