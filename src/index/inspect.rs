//! Everything about single hosts that `explain` needs: who claims one and how each stands (O1), and which hosts are not
//! served, and why. Reads only, and gives way to events as the search for findings does.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::arena::Number;
use super::{Claimant, Entries, Index, Policy, lock, standings, winners};
use crate::entry::{EntryId, Unserved};
use crate::finding::{Code, Finding};
use crate::zone::Host;
use crate::zone::answer::Family;

/// One live claim to a host, with everything that decided about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// The entry.
    pub id: EntryId,
    /// `metadata.creationTimestamp`, Unix seconds.
    pub created: Option<i64>,
    /// Exported to `*`, or without `exportTo`.
    pub public: bool,
    /// `resolution: NONE`.
    pub resolution_none: bool,
    /// Its addresses are those of `status.addresses` (A2).
    pub allocated: bool,
    /// TTL annotation, seconds.
    pub ttl: Option<u32>,
    /// Position in `spec.hosts`.
    pub field: u32,
    /// What it gives the host by A1 or A2.
    pub addresses: Vec<IpAddr>,
    /// How it stands among the others.
    pub standing: Standing,
    /// What is wrong with the entry by itself and bears on the host; of each [`Bearing`] as many as were asked for.
    pub findings: Vec<Finding>,
    /// Findings beyond those, by bearing.
    pub left_out: [usize; 3],
}

impl Inspected {
    /// Its findings of this bearing.
    pub fn of_bearing(&self, bearing: Bearing) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| Bearing::of(finding, self.field) == Some(bearing))
    }
}

/// What of a host a finding of its entry is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// An address that is left out (A1).
    Rejected,
    /// An address, which counts all the same.
    Remark,
    /// The host, or the entry as a whole.
    Host,
}

impl Bearing {
    /// Of a finding for the host at this position; `None` if it is another host's.
    pub fn of(finding: &Finding, field: u32) -> Option<Bearing> {
        if finding.field.starts_with("spec.addresses") || finding.field.starts_with("status.addresses") {
            let rejects = matches!(
                finding.code,
                Code::AddressInvalid
                    | Code::AddressRange
                    | Code::AddressUnspecified
                    | Code::Placeholder
                    | Code::FieldType
                    | Code::LimitExceeded
            );
            return Some(if rejects { Bearing::Rejected } else { Bearing::Remark });
        }
        let elsewhere =
            finding.field.starts_with("spec.hosts[") && finding.field != format!("spec.hosts[{field}]");
        (!elsewhere).then_some(Bearing::Host)
    }
}

/// What O1 makes of a claim. The order is that of its steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It answers, alone or merged with others of its namespace.
    Owns,
    /// It answers with `--default-address`, as nobody gives an address (A3).
    Default,
    /// It gives no address, so it takes no part (A7).
    NoAddress,
    /// It has a narrower `exportTo` than the winner.
    NotPublic,
    /// The winner's namespace comes earlier in `--prefer-namespace`.
    LessPreferred,
    /// The winner is older.
    Younger,
    /// As old as the winner; namespace, name or position decides.
    Tied,
}

/// A host that is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnservedHost {
    /// Whose it is.
    pub id: EntryId,
    /// The path of the field.
    pub field: String,
    /// As it is written, at most 200 characters of a bad one.
    pub host: String,
    /// The finding it has.
    pub code: Code,
    /// Why not, and what to do; empty where the code says it.
    pub why: String,
    /// See `why`.
    pub remedy: String,
}

impl Index {
    /// The settings that decide who owns a host.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many entries there are in all.
    pub fn entry_count(&self) -> usize {
        lock(&self.entries).by_identity.len()
    }

    /// The live claims to a host in the order of rank (O1), and how many there are: the first `most`, and those that
    /// decide something. Of each, `most` findings of a kind. Hosts of entries that are not served are no claims.
    pub fn inspect(&self, host: &Host, most: usize) -> (Vec<Inspected>, usize) {
        let entries = lock(&self.entries);
        let claimants = self.claimants(&entries, &self.claims_of(&entries, host).0);
        let winners = winners(&self.policy, &claimants);
        let standing = |(claimant, wins): (&Claimant<'_>, bool)| match wins {
            true => Standing::Owns,
            false => standing(&self.policy, claimant, winners.first()),
        };
        let standings: Vec<Standing> = standings(&claimants, &winners).map(standing).collect();
        let decide = deciding(&self.policy, &claimants, &standings);
        let inspected = claimants.iter().zip(standings).enumerate();
        let inspected = inspected.filter(|(at, _)| *at < most || decide.contains(at));
        let inspected = inspected.map(|(_, (Claimant { number, entry, claim }, standing))| {
            let (mut findings, mut counts) = (Vec::new(), [0; 3]);
            for finding in entries.findings.get(number).into_iter().flatten() {
                let Some(bearing) = Bearing::of(finding, claim.field()) else { continue };
                let count = &mut counts[bearing as usize];
                *count += 1;
                if *count <= most {
                    findings.push(finding.clone());
                }
            }
            Inspected {
                id: self.id(entry),
                created: entry.created(),
                public: entry.is_public(),
                resolution_none: entry.is_resolution_none(),
                allocated: entry.is_allocated(),
                ttl: entry.ttl(),
                field: claim.field(),
                addresses: claim.addresses().collect(),
                standing,
                findings,
                left_out: counts.map(|count| count.saturating_sub(most)),
            }
        });
        (inspected.collect(), claimants.len())
    }

    /// Shows `look` the hosts that are not served, by their entries' own fault or by a setting: each as it is written, with
    /// its finding's code, and all of it for who asks. At most `most` are looked at; returns whether these were all.
    pub fn unserved(&self, most: usize, mut look: impl FnMut(&str, Code, &dyn Fn() -> UnservedHost)) -> bool {
        let numbers: Vec<Number> = lock(&self.entries).by_identity.iter().copied().collect();
        let mut left = most;
        self.in_steps(&numbers, |entries, number| {
            if left == 0 {
                return 0;
            }
            let looked = self.unserved_of(entries, *number, left, &mut look);
            left = left.saturating_sub(looked.max(1));
            looked
        });
        left > 0
    }

    fn unserved_of(
        &self,
        entries: &Entries,
        number: Number,
        most: usize,
        look: &mut impl FnMut(&str, Code, &dyn Fn() -> UnservedHost),
    ) -> usize {
        let Some(entry) = entries.view(number) else { return 0 };
        let mut looked = 0;
        for (tag, host) in entry.unserved().take(most) {
            looked += 1;
            let unserved = Unserved::new(tag, "");
            look(host, unserved.reason, &|| UnservedHost {
                id: self.id(&entry),
                field: format!("spec.hosts[{}]", unserved.field),
                host: host.to_owned(),
                code: unserved.reason,
                why: String::new(),
                remedy: String::new(),
            });
        }
        for finding in entries.findings.get(&number).into_iter().flatten() {
            looked += 1;
            let of_a_host = matches!(
                finding.code,
                Code::HostNotOwner
                    | Code::HostApexWildcard
                    | Code::HostReserved
                    | Code::HostInvalid
                    | Code::Placeholder
            ) && finding.field.starts_with("spec.hosts");
            // One host as a text, where a list of them belongs; a finding has its JSON.
            let quoted = finding.value.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
            let only = quoted.filter(|_| finding.code == Code::FieldType && finding.field == "spec.hosts");
            if let Some(host) = only.or(of_a_host.then_some(&*finding.value)) {
                look(host, finding.code, &|| UnservedHost {
                    id: self.id(&entry),
                    field: finding.field.clone(),
                    host: host.to_owned(),
                    code: finding.code,
                    why: finding.why.clone(),
                    remedy: finding.remedy.clone(),
                });
            }
        }
        looked
    }

    /// Hosts that have claims and no answers. At most `most` are looked at; returns whether these were all.
    pub fn unanswered_hosts(&self, most: usize) -> (Vec<Host>, bool) {
        let mut looked = 0;
        // Those that the table alone does not know: without answers, or with several claims.
        let listed = self.claims.iter().take_while(|_| {
            looked += 1;
            looked <= most
        });
        let unanswered = listed.filter(|item| !self.table.has(item.key())).map(|item| item.key().clone());
        let unanswered = unanswered.collect();
        (unanswered, looked <= most)
    }
}

/// The claims, by their place, that decide something wherever they stand: the first that answers, the newest that does and
/// the one with the lowest TTL; and for each family the first that has an address of it and does not answer, and the
/// first of these that is not kept from answering by its `exportTo`.
fn deciding(policy: &Policy, claimants: &[Claimant<'_>], standings: &[Standing]) -> BTreeSet<usize> {
    let answers = |at: &usize| matches!(standings[*at], Standing::Owns | Standing::Default);
    let all = || 0..claimants.len();
    let ttl = |at: &usize| claimants[*at].entry.ttl().unwrap_or(policy.ttl);
    let mut decide: BTreeSet<usize> = [
        all().find(answers),
        all().filter(answers).max_by_key(|at| claimants[*at].entry.created()),
        all().filter(answers).min_by_key(ttl),
    ]
    .into_iter()
    .flatten()
    .collect();
    for family in [Family::V4, Family::V6] {
        let lost = |at: &usize| {
            !answers(at) && claimants[*at].claim.addresses().any(|address| Family::of(address) == family)
        };
        decide.extend(all().find(lost));
        decide.extend(all().filter(lost).find(|at| standings[*at] != Standing::NotPublic));
    }
    decide
}

/// Of a claim that does not win, why.
pub(super) fn standing(policy: &Policy, claimant: &Claimant<'_>, winner: Option<&&Claimant<'_>>) -> Standing {
    if !claimant.has_addresses() {
        let takes_default =
            winner.is_none() && !claimant.entry.is_resolution_none() && !policy.default_addresses.is_empty();
        return if takes_default { Standing::Default } else { Standing::NoAddress };
    }
    // Who has addresses loses to somebody.
    let Some(winner) = winner else { return Standing::NoAddress };
    if winner.entry.is_public() && !claimant.entry.is_public() {
        Standing::NotPublic
    } else if policy.preference(winner) < policy.preference(claimant) {
        Standing::LessPreferred
    } else if winner.entry.created() != claimant.entry.created() {
        Standing::Younger
    } else {
        Standing::Tied
    }
}
