//! Everything about single hosts that `explain` needs: who claims one and how each stands (O1), and which hosts are not
//! served, and why. Reads only, and gives way to events as the search for findings does.

use std::net::IpAddr;

use super::arena::Number;
use super::{Claimant, Entries, Index, Policy, lock, standings, winners};
use crate::entry::{EntryId, Unserved};
use crate::finding::{Code, Finding};
use crate::zone::Host;

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
    /// What is wrong with the entry by itself.
    pub findings: Vec<Finding>,
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

    /// The live claims to a host in the order of rank (O1), `most` at most, and how many there are. Hosts of entries that are
    /// not served are no claims.
    pub fn inspect(&self, host: &Host, most: usize) -> (Vec<Inspected>, usize) {
        let entries = lock(&self.entries);
        let claimants = self.claimants(&entries, &self.claims_of(&entries, host).0);
        let winners = winners(&self.policy, &claimants);
        let mut inspected = Vec::new();
        for (claimant, wins) in standings(&claimants, &winners) {
            // The first that wins is told in any case.
            if inspected.len() >= most && !winners.first().is_some_and(|first| std::ptr::eq(*first, claimant))
            {
                continue;
            }
            let Claimant { number, entry, claim } = claimant;
            let findings = entries.findings.get(number).map_or_else(Vec::new, |findings| findings.to_vec());
            inspected.push(Inspected {
                id: self.id(entry),
                created: entry.created(),
                public: entry.is_public(),
                resolution_none: entry.is_resolution_none(),
                allocated: entry.is_allocated(),
                ttl: entry.ttl(),
                field: claim.field(),
                addresses: claim.addresses().collect(),
                standing: if wins {
                    Standing::Owns
                } else {
                    standing(&self.policy, claimant, winners.first())
                },
                findings,
            });
        }
        (inspected, claimants.len())
    }

    /// Hosts that are not served, by their entries' own fault or by a setting, for which `wants` says so; it is shown each
    /// as it is written, with its finding's code. At most `most` are looked at; returns whether these were all.
    pub fn unserved(
        &self,
        most: usize,
        mut wants: impl FnMut(&str, Code) -> bool,
        found: &mut Vec<UnservedHost>,
    ) -> bool {
        let numbers: Vec<Number> = lock(&self.entries).by_identity.iter().copied().collect();
        let mut left = most;
        self.in_steps(&numbers, |entries, number| {
            if left == 0 {
                return 0;
            }
            let looked = self.unserved_of(entries, *number, left, &mut wants, found);
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
        wants: &mut impl FnMut(&str, Code) -> bool,
        found: &mut Vec<UnservedHost>,
    ) -> usize {
        let Some(entry) = entries.view(number) else { return 0 };
        let mut looked = 0;
        for (tag, host) in entry.unserved().take(most) {
            looked += 1;
            let unserved = Unserved::new(tag, "");
            if wants(host, unserved.reason) {
                found.push(UnservedHost {
                    id: self.id(&entry),
                    field: format!("spec.hosts[{}]", unserved.field),
                    host: host.to_owned(),
                    code: unserved.reason,
                    why: String::new(),
                    remedy: String::new(),
                });
            }
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
            if of_a_host && wants(&finding.value, finding.code) {
                found.push(UnservedHost {
                    id: self.id(&entry),
                    field: finding.field.clone(),
                    host: finding.value.clone(),
                    code: finding.code,
                    why: finding.why.clone(),
                    remedy: finding.remedy.clone(),
                });
            }
        }
        looked
    }

    /// Hosts that have claims and may have no answer, or several claims: all that the table alone does not know.
    pub fn listed_hosts(&self) -> Vec<Host> {
        self.claims.iter().map(|item| item.key().clone()).collect()
    }
}

/// Of a claim that does not win, why.
fn standing(policy: &Policy, claimant: &Claimant<'_>, winner: Option<&&Claimant<'_>>) -> Standing {
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
