//! What a comparison has found: counted by class, and every riddle in full.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;

use serde_json::{Value, json};

use super::Compared;
use super::judge::{Class, Verdict};
use super::questions::Extent;
use super::view::{Reply, shown};
use crate::wire::rtype;

/// Everything so far.
#[derive(Debug)]
pub struct Report {
    old: SocketAddr,
    new: SocketAddr,
    /// None where no entries were read.
    entries: Option<usize>,
    extent: Extent,
    names: usize,
    questions: usize,
    same: usize,
    explained: usize,
    classes: BTreeMap<Class, Count>,
    unexplained: Vec<Compared>,
}

/// What a class explains.
#[derive(Debug)]
struct Count {
    questions: usize,
    /// Of these, how many lose an address.
    lost: usize,
    example: String,
}

impl Report {
    /// Of nothing yet. `entries` is how many were read, if any were to be.
    pub fn new(old: SocketAddr, new: SocketAddr, entries: Option<usize>, extent: Extent) -> Report {
        Report {
            old,
            new,
            entries,
            extent,
            names: 0,
            questions: 0,
            same: 0,
            explained: 0,
            classes: BTreeMap::new(),
            unexplained: Vec::new(),
        }
    }

    /// One more name.
    pub fn add(&mut self, subject: Vec<Compared>) {
        self.names += 1;
        for compared in subject {
            self.questions += 1;
            match &compared.verdict {
                Verdict::Same => self.same += 1,
                Verdict::Explained(reasons) => {
                    self.explained += 1;
                    let lost = usize::from(compared.loses_an_address());
                    for reason in reasons {
                        let count = self.classes.entry(reason.class).or_insert_with(|| Count {
                            questions: 0,
                            lost: 0,
                            example: example(&compared, &reason.why),
                        });
                        count.questions += 1;
                        count.lost += lost;
                    }
                }
                Verdict::Unexplained(_) => self.unexplained.push(compared),
            }
        }
    }

    /// Questions asked so far.
    pub fn questions(&self) -> usize {
        self.questions
    }

    /// Differences that no clause explains.
    pub fn unexplained(&self) -> usize {
        self.unexplained.len()
    }

    /// Differences that a clause explains.
    pub fn explained(&self) -> usize {
        self.explained
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} questions about {} names ({}); old {}, new {}\n\n{:>8}  the same\n{:>8}  different, and a clause of docs/contract.md says why\n{:>8}  unexplained",
            self.questions,
            self.names,
            self.origin(),
            self.old,
            self.new,
            self.same,
            self.explained,
            self.unexplained.len()
        );
        if !self.classes.is_empty() {
            let _ = writeln!(out, "\nExplained (a question can be in several rows)\n");
        }
        for (class, count) in &self.classes {
            let _ = writeln!(out, "{:>8}  {:<4}{}", count.questions, class.clause(), class.difference());
            if count.lost > 0 {
                let _ = writeln!(out, "{:14}{} of them lose an address", "", count.lost);
            }
            let _ = writeln!(out, "{:14}{}", "", count.example);
        }
        if !self.unexplained.is_empty() {
            let _ = writeln!(out, "\nUnexplained");
        }
        for compared in &self.unexplained {
            let Verdict::Unexplained(riddle) = &compared.verdict else { continue };
            let _ = writeln!(
                out,
                "\n{}: {}\n  old  {}\n  new  {}\n  do   {}",
                compared.asked(),
                riddle.why,
                shown(&compared.old),
                shown(&compared.new),
                riddle.remedy
            );
        }
        out
    }

    /// How many of the names the entries have.
    fn origin(&self) -> String {
        let Some(entries) = self.entries else { return "no entries read".to_owned() };
        let outside = match self.extent.outside {
            0 => String::new(),
            outside => format!(" and {outside} outside the zones"),
        };
        format!("{} hosts{outside} of {entries} entries", self.extent.hosts)
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let classes: Vec<_> = self
            .classes
            .iter()
            .map(|(class, count)| {
                json!({
                    "clause": class.clause(),
                    "difference": class.difference(),
                    "questions": count.questions,
                    "losingAnAddress": count.lost,
                    "example": count.example,
                })
            })
            .collect();
        let unexplained: Vec<_> = self.unexplained.iter().map(Compared::json).collect();
        json!({
            "old": self.old.to_string(),
            "new": self.new.to_string(),
            "entries": self.entries,
            "hosts": self.extent.hosts,
            "hostsOutside": self.extent.outside,
            "hostsNotAsked": self.extent.unasked,
            "names": self.names,
            "questions": self.questions,
            "same": self.same,
            "explained": self.explained,
            "classes": classes,
            "unexplained": unexplained,
        })
    }
}

impl Compared {
    /// `NAME TYPE`.
    fn asked(&self) -> String {
        format!("{} {}", self.question.spelling, type_name(self.question.rtype))
    }

    fn loses_an_address(&self) -> bool {
        match (&self.old, &self.new) {
            (Ok(old), Ok(new)) => old.addresses.difference(&new.addresses).next().is_some(),
            _ => false,
        }
    }

    fn json(&self) -> Value {
        let reply = |reply: &Reply| match reply {
            Ok(view) => json!(view),
            Err(why) => json!({"noReply": why.to_string()}),
        };
        let riddle = match &self.verdict {
            Verdict::Unexplained(riddle) => Some(riddle),
            _ => None,
        };
        json!({
            "name": self.question.spelling,
            "type": type_name(self.question.rtype),
            "old": reply(&self.old),
            "new": reply(&self.new),
            "why": riddle.map(|riddle| &riddle.why),
            "remedy": riddle.map(|riddle| &riddle.remedy),
        })
    }
}

fn example(compared: &Compared, why: &str) -> String {
    let because = if why.is_empty() { String::new() } else { format!(" ({why})") };
    format!("{}: {} → {}{because}", compared.asked(), shown(&compared.old), shown(&compared.new))
}

/// The mnemonic of a type.
pub fn type_name(number: u16) -> String {
    match hickory_proto::rr::RecordType::from(number) {
        hickory_proto::rr::RecordType::Unknown(number) => format!("TYPE{number}"),
        known => known.to_string(),
    }
}

/// A type by mnemonic or as `TYPE123`; none that only servers ask each other for, or that is no question (D10).
pub fn parse_type(text: &str) -> Option<u16> {
    let upper = text.to_ascii_uppercase();
    let number = match upper.strip_prefix("TYPE").map(str::parse) {
        Some(Ok(number)) => number,
        _ => upper.parse::<hickory_proto::rr::RecordType>().ok()?.into(),
    };
    let refused = [0, rtype::OPT, rtype::AXFR, rtype::IXFR, rtype::MAILA, rtype::MAILB];
    (!refused.contains(&number)).then_some(number)
}
