//! Where the two servers may differ, and the clause of the contract that says so.
//!
//! Every rule here is exact: it says what our reply must be, given the whole RRset (the other server's
//! answer over TCP). What no rule describes is a failure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::question::Question;
use crate::reply::{Reply, View, fitting, limit};
use crate::table::{DEFAULT_TTL, Table};

/// Why a difference is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Clause {
    /// ANY gives one RRset.
    D7,
    /// Classes and types that are refused by themselves.
    D10,
    /// A cut answer keeps the whole address records that fit.
    D13,
    /// Glue of the apex NS.
    D17,
    /// Addresses beside SRV.
    D23,
}

impl Clause {
    /// Every one, in the contract's order.
    pub(crate) const ALL: [Clause; 5] = [Clause::D7, Clause::D10, Clause::D13, Clause::D17, Clause::D23];

    /// The clause with what each server does.
    pub(crate) fn difference(self) -> &'static str {
        match self {
            Clause::D7 => {
                "D7   ANY: we send A, else AAAA, else the apex's SOA, else PTR or SRV; NSD another RRset, or all"
            }
            Clause::D10 => "D10  special classes and types: we send the error the clause names, NSD its own",
            Clause::D13 => "D13  cut answers: we send the whole address records that fit, NSD none",
            Clause::D23 => "D23  SRV: we send the addresses of the target that fit, NSD none",
            Clause::D17 => "D17  apex NS: we send the glue that fits, NSD another part of it",
        }
    }
}

/// What became of one comparison.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// No difference.
    Same,
    /// A difference by a clause, and what each server sent.
    Justified(Clause, String),
    /// A difference by none: what differs.
    Wrong(String),
}

/// One query with both replies.
pub(crate) struct Comparison<'c> {
    pub(crate) table: &'c Table,
    pub(crate) question: &'c Question,
    /// The question as sent.
    pub(crate) query: &'c [u8],
    pub(crate) ours: &'c Reply,
    pub(crate) theirs: &'c Reply,
}

impl Comparison<'_> {
    /// Judges the replies. `whole` asks the other server for a type of the same name over TCP.
    pub(crate) fn judge(&self, mut whole: impl FnMut(u16) -> View) -> Verdict {
        let flaws = self.ours.flaws(self.question, self.query);
        if !flaws.is_empty() {
            return Verdict::Wrong(flaws.join("; "));
        }
        let (ours, theirs) = (self.ours.view(), self.theirs.view());
        // A rule binds us even where NSD does the same: two servers can share a mistake.
        match self.rule(&ours, &theirs, &mut whole) {
            Some((clause, false)) => {
                Verdict::Wrong(format!("{clause:?} does not hold; {}", parts(&ours, &theirs)))
            }
            _ if ours == theirs => Verdict::Same,
            Some((clause, true)) => Verdict::Justified(clause, self.summary(clause, &ours, &theirs)),
            None => Verdict::Wrong(format!("no clause justifies it; {}", parts(&ours, &theirs))),
        }
    }

    /// The clause that lets the servers differ here, and whether our reply obeys it.
    fn rule(
        &self,
        ours: &View,
        theirs: &View,
        whole: &mut impl FnMut(u16) -> View,
    ) -> Option<(Clause, bool)> {
        if let Some(rcode) = self.error_of_d10() {
            Some((Clause::D10, *ours == error(rcode)))
        } else if self.question.rtype == ANY && ours.rcode == 0 {
            Some((Clause::D7, self.is_one_rrset(ours, theirs, whole)))
        } else if self.question.rtype == SRV && ours.rcode == 0 && !ours.truncated && !ours.answers.is_empty()
        {
            Some((Clause::D23, self.has_targets(ours, theirs)))
        } else if ours.truncated {
            Some((Clause::D13, self.is_cut(ours, theirs, &whole(self.question.rtype).answers)))
        } else if self.question.rtype == NS && ours.rcode == 0 && !ours.answers.is_empty() {
            Some((Clause::D17, self.is_glue(ours, theirs)))
        } else {
            None
        }
    }

    /// The difference without names and numbers, to be counted.
    fn summary(&self, clause: Clause, ours: &View, theirs: &View) -> String {
        let Question { class, rtype, .. } = self.question;
        let asked = match clause {
            Clause::D10 if ![1, 3, 255].contains(class) => "another class: ".to_owned(),
            Clause::D10 if *class != IN => format!("CLASS{class}: "),
            Clause::D10 => format!("TYPE{rtype}: "),
            _ => String::new(),
        };
        format!("{asked}we {}; NSD {}", ours.summary(), theirs.summary())
    }

    /// The code D10 gives a question by its class or type alone; a BADVERS comes before it (D1).
    fn error_of_d10(&self) -> Option<u16> {
        const FORMERR: u16 = 1;
        const NOTIMP: u16 = 4;
        const REFUSED: u16 = 5;
        match (self.question.class, self.question.rtype) {
            _ if self.question.edns.is_some_and(|opt| opt.version > 0) => None,
            (IN, 41) => Some(FORMERR),
            (IN, 253 | 254) => Some(NOTIMP),
            (IN, 251 | 252) => Some(REFUSED),
            (IN, _) => None,
            _ => Some(REFUSED),
        }
    }

    /// D7: A, else AAAA, else the apex's SOA; cut as any other answer (D13).
    fn is_one_rrset(&self, ours: &View, theirs: &View, whole: &mut impl FnMut(u16) -> View) -> bool {
        let mut rrsets = [A, AAAA, SOA, PTR, SRV].into_iter().map(|rtype| (rtype, whole(rtype).answers));
        let Some((rtype, rrset)) = rrsets.find(|(_, rrset)| !rrset.is_empty()) else { return ours == theirs };
        let fit = match rtype {
            SOA => 1,
            A | AAAA => fitting(self.question, self.query, rtype),
            _ => self.fitting_names(ours, rrset.len()),
        };
        (ours.rcode, ours.authoritative) == (theirs.rcode, theirs.authoritative)
            && ours.authority.is_empty()
            && (ours.additional.is_empty() || rtype == SRV && self.has_targets_alone(ours))
            && ours.truncated == (rrset.len() > fit)
            && ours.answers.len() == rrset.len().min(fit)
            && is_subset(&ours.answers, &rrset)
    }

    /// D13: both cut, and we send as many records of the whole RRset as fit.
    fn is_cut(&self, ours: &View, theirs: &View, rrset: &[String]) -> bool {
        let fit = match self.question.rtype {
            rtype @ (A | AAAA) => fitting(self.question, self.query, rtype),
            PTR | SRV => self.fitting_names(ours, rrset.len()),
            _ => return false,
        };
        View { answers: Vec::new(), ..ours.clone() } == View { answers: Vec::new(), ..theirs.clone() }
            && is_subset(&theirs.answers, rrset)
            && ours.answers.len() == fit
            && ours.answers.len() < rrset.len()
            && is_subset(&ours.answers, rrset)
    }

    /// D13: as many records with names as we sent, if no other of their size would have fitted.
    fn fitting_names(&self, ours: &View, all: usize) -> usize {
        // A pointer, 10 octets, and at most three numbers and a name.
        const MOST: usize = 2 + 10 + 6 + 255;
        let room = limit(self.question) - self.ours.octets.len();
        if ours.truncated && room < MOST { ours.answers.len() } else { all }
    }

    /// D23: NSD's answer, and the addresses of the target.
    fn has_targets(&self, ours: &View, theirs: &View) -> bool {
        View { additional: Vec::new(), ..ours.clone() } == *theirs && self.has_targets_alone(ours)
    }

    fn has_targets_alone(&self, ours: &View) -> bool {
        let name = self.question.name.to_ascii().to_ascii_lowercase();
        let host = name.trim_end_matches('.').splitn(3, '.').nth(2).unwrap_or_default();
        let Some(records) = self.table.hosts.get(host) else { return false };
        let ttl = records.ttl.unwrap_or(DEFAULT_TTL);
        let line = |address: &IpAddr| {
            let rtype = if address.is_ipv4() { "a" } else { "aaaa" };
            format!("{host}. {ttl} in {rtype} {address}")
        };
        let all: Vec<String> = records.addresses.iter().map(line).collect();
        let room = limit(self.question) - self.ours.octets.len();
        // The owner is a pointer; then 10 octets and the address. After one that does not fit none is sent.
        is_subset(&ours.additional, &all) && (ours.additional.len() == all.len() || room < 2 + 10 + 16)
    }

    /// D17: the apex's NS with glue, of which we left out what does not fit and nothing else.
    fn is_glue(&self, ours: &View, theirs: &View) -> bool {
        let apex = self.question.name.to_ascii().to_ascii_lowercase();
        let zone = apex.trim_end_matches('.');
        let glue: Vec<String> = self.table.glue(zone).iter().map(|line| line.to_ascii_lowercase()).collect();
        let room = limit(self.question) - self.ours.octets.len();
        // The owner is the labels ns and dns and a pointer; then 10 octets and the address.
        let size = |line: &String| 9 + 10 + if line.contains(" in a ") { 4 } else { 16 };
        View { additional: Vec::new(), ..ours.clone() } == View { additional: Vec::new(), ..theirs.clone() }
            && is_subset(&ours.additional, &glue)
            && is_subset(&theirs.additional, &glue)
            && glue.iter().all(|line| ours.additional.contains(line) || size(line) > room)
    }
}

const IN: u16 = 1;
const A: u16 = 1;
const NS: u16 = 2;
const SOA: u16 = 6;
const PTR: u16 = 12;
const SRV: u16 = 33;
const AAAA: u16 = 28;
const ANY: u16 = 255;

/// An error reply: nothing but the code (D1, D8).
fn error(rcode: u16) -> View {
    View {
        rcode,
        authoritative: false,
        truncated: false,
        answers: Vec::new(),
        authority: Vec::new(),
        additional: Vec::new(),
    }
}

/// True if every line is one of `all`, and none is there twice.
fn is_subset(lines: &[String], all: &[String]) -> bool {
    let set: BTreeSet<&String> = lines.iter().collect();
    set.len() == lines.len() && lines.iter().all(|line| all.contains(line))
}

fn parts(ours: &View, theirs: &View) -> String {
    let parts = [
        (ours.rcode != theirs.rcode, "rcode"),
        (ours.authoritative != theirs.authoritative, "AA"),
        (ours.truncated != theirs.truncated, "TC"),
        (ours.answers != theirs.answers, "answer"),
        (ours.authority != theirs.authority, "authority"),
        (ours.additional != theirs.additional, "additional"),
    ];
    let differing: Vec<&str> =
        parts.into_iter().filter(|(differs, _)| *differs).map(|(_, part)| part).collect();
    match differing[..] {
        [] => "both servers sent the same".to_owned(),
        _ => format!("they differ in {}", differing.join(", ")),
    }
}
