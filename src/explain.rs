//! Why a name resolves, or does not (I1, I2): from the index alone, synchronously, and bounded.
//!
//! [`explain`] gathers what there is to know of a name (`evidence`), decides on one cause and one thing to do (`judge`), and
//! says the rest as facts. `near` finds what may have been meant; `text` writes it all for people, and JSON is the same for
//! programs, so a command with files, one with a cluster, and a running server say the same.
//!
//! What the program is asked about is decided by the table and the responder that answer queries: nothing here knows a rule
//! of its own that could differ from theirs, but for the words.

mod cause;
mod evidence;
mod forwarding;
mod further;
mod judge;
mod near;
mod question;
mod reply;
mod text;

use serde::{Deserialize, Serialize};

pub use cause::Cause;
pub use near::{Near, Of};
pub use question::Question;
pub use reply::Reply;

use crate::index::Index;
use crate::serve::responder::Responder;
use evidence::Evidence;

/// Hosts and unserved hosts that are looked at to find near names: more than any mesh has that was measured, in about a
/// second each.
pub const BUDGET: usize = 2_000_000;

/// What is explained from.
pub struct Subject<'s> {
    /// Who claims what.
    pub index: &'s Index,
    /// Who answers: [`Responder::for_everybody`], so that it does not matter who asks for the explanation.
    pub responder: &'s Responder,
    /// Whether this is a server that answers others: then the zones have a history.
    pub serving: bool,
    /// Whether hosts have services (`--srv`).
    pub services: bool,
    /// [`BUDGET`], or less.
    pub budget: usize,
}

/// Everything about one name. Field names in JSON are these in lowerCamelCase, times RFC 3339.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// As it was asked for, shortened.
    pub name: String,
    /// The types that were asked for.
    pub types: Vec<String>,
    /// Whether there is a record of one of them.
    pub resolves: bool,
    /// The one cause.
    pub cause: Cause,
    /// The cause in a sentence.
    pub why: String,
    /// The one thing to do next.
    pub remedy: Remedy,
    /// The covering zone.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zone: Option<ZoneFacts>,
    /// All zones, where none covers the name, as they are configured.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub zones: Vec<String>,
    /// The hosts of live entries that are or match the name, most specific first.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub hosts: Vec<HostFacts>,
    /// Hosts of entries that are or match the name and are not served.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unserved: Vec<UnservedFacts>,
    /// What keeps wildcards from the name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub guard: Option<String>,
    /// Where the TTL of the answer comes from.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ttl: Option<Ttl>,
    /// What is known of when the answer changed.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub changed: Option<Changed>,
    /// Names near it, where it does not resolve.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub near: Vec<Near>,
    /// Names below it, some of them, where that is why it exists.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub below: Vec<String>,
    /// What cluster DNS in front does with it, from who knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub forwarding: Option<Forwarding>,
    /// The exact replies.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub replies: Vec<Reply>,
    /// What was left out.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub incomplete: Vec<String>,
}

/// What to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remedy {
    /// In a sentence.
    pub text: String,
    /// The entry to change.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub object: Option<String>,
    /// The field to change there.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// A flag to set.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub flag: Option<String>,
    /// A name to ask for instead.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ask: Option<String>,
}

/// A zone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ZoneFacts {
    /// Its apex.
    pub name: String,
    /// Hosts with answers.
    pub hosts: usize,
}

/// A host that is the name or matches it, and who claims it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostFacts {
    /// With `*.` for a wildcard.
    pub host: String,
    /// Whether the answer is from it.
    pub answers: bool,
    /// Live entries, best first.
    pub entries: Vec<EntryFacts>,
    /// How many there are.
    pub entries_in_all: usize,
}

/// A live entry and its claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EntryFacts {
    /// `namespace/name`, or where in which file.
    pub object: String,
    /// Its namespace.
    pub namespace: String,
    /// `spec.hosts[N]`.
    pub field: String,
    /// `creationTimestamp`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub created: Option<String>,
    /// Whether it answers.
    pub owns: bool,
    /// The rule that decided.
    pub rule: String,
    /// The addresses it gives the host.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub addresses: Vec<AddressFacts>,
    /// What else is wrong with it and bears on the host.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub findings: Vec<FindingFacts>,
    /// How many more of these there are.
    #[serde(skip_serializing_if = "is_zero", default)]
    pub findings_left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// An address, accepted or rejected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressFacts {
    /// As it is served, or as it is written.
    pub address: String,
    /// Whether it counts for the entry.
    pub accepted: bool,
    /// Where it comes from, or why it is rejected.
    pub why: String,
}

/// A finding, as F1 has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FindingFacts {
    /// Its code.
    pub code: String,
    /// `error`, `warning` or `info`.
    pub severity: String,
    /// The path of the field.
    pub field: String,
    /// What is there.
    pub value: String,
    /// Why it is a finding.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

/// A host that is not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnservedFacts {
    /// As it is written.
    pub host: String,
    /// `namespace/name`, or where in which file.
    pub object: String,
    /// `spec.hosts[N]`.
    pub field: String,
    /// Its finding's code.
    pub code: String,
    /// Why it is not served.
    pub why: String,
}

/// A TTL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ttl {
    /// Of the answer, seconds.
    pub seconds: u32,
    /// Where it is from.
    pub from: String,
}

/// When something about the answer changed, as far as is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Changed {
    /// When the newest of the entries that answer was created.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub entry_created: Option<String>,
    /// When some answer of the zone last changed: its serial (D6). Only a server knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub zone_changed: Option<String>,
    /// The last change of the host that answers, or of the name itself, if it is still remembered (I6).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub last: Option<LastChange>,
}

/// What was answered before and after a change, and through whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LastChange {
    /// When it could be answered, by the server's clock.
    pub time: String,
    /// Addresses before, none if there was no answer.
    pub before: Vec<String>,
    /// Addresses since, none if there is no answer.
    pub after: Vec<String>,
    /// The entry that came, changed or went.
    pub entry: String,
    /// Who wrote the entry, as far as it tells.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub manager: Option<String>,
}

/// What leads queries for the name here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// Whether cluster DNS sends the zone here; absent where nobody knows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub leads_here: Option<bool>,
    /// What was found, a line for each resolver in front.
    pub findings: Vec<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remedy: Option<String>,
}

/// Explains a name.
pub fn explain(subject: &Subject<'_>, question: &Question) -> Explanation {
    Evidence::gather(subject, question).explained()
}

/// [`Explanation`] for people. Nothing in it can steer a terminal.
pub fn text(explanation: &Explanation) -> String {
    text::write(explanation)
}

#[cfg(test)]
mod tests;
