//! Names near one that does not exist: what somebody who asked for it may have meant.
//!
//! Mistakes that have a form (the zone, `svc`, the order of labels) are guesses, looked up one by one. The others are found
//! by going through all hosts once: a label too few, or letters. Nothing here is more than proportional to the hosts, of
//! which at most a budget is looked at.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::cause::Cause;
use crate::finding::Code;
use crate::wire::name::{self, Name};
use crate::zone::{Host, Table, Zone, Zones};

/// Near names that are told.
const MOST: usize = 5;
/// The most letters that differ.
const FARTHEST: usize = 2;
/// Labels of a name that is guessed about: each makes a guess.
const MOST_LABELS: usize = 32;

/// A name near the one asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Near {
    /// How it differs.
    pub how: Cause,
    /// Letters that differ, where that is how.
    pub letters: usize,
    /// The name.
    pub name: String,
    /// Whether it is answered.
    pub served: bool,
    /// The host that it is of, where that is not served.
    #[serde(flatten, skip_serializing_if = "Option::is_none", default)]
    pub of: Option<Of>,
}

/// A host of an entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Of {
    /// With `*.` for a wildcard.
    pub host: String,
    /// `namespace/name`, or where in which file.
    pub object: String,
    /// `spec.hosts[N]`.
    pub field: String,
}

/// Served ones first, then the nearest.
impl Ord for Near {
    fn cmp(&self, other: &Near) -> Ordering {
        let key = |near: &Near| (!near.served, near.how, near.letters);
        key(self).cmp(&key(other)).then_with(|| (&self.name, &self.of).cmp(&(&other.name, &other.of)))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Near) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Those found so far, in their order.
#[derive(Default)]
pub(super) struct Found(BTreeSet<Near>);

impl Found {
    pub(super) fn insert(&mut self, near: Near) {
        // The same name in two ways: the first one says it.
        if self.0.iter().any(|known| known.name == near.name && *known <= near) {
            return;
        }
        self.0.retain(|known| known.name != near.name);
        self.0.insert(near);
        if self.0.len() > 2 * MOST {
            self.0.pop_last();
        }
    }

    pub(super) fn into_sorted(self) -> Vec<Near> {
        self.0.into_iter().take(MOST).collect()
    }
}

/// Guesses: each with the name that would be right. The order does not matter.
pub(super) fn guesses(zones: &Zones, name: &Name, zone: Option<(&Zone, usize)>) -> Vec<(Cause, Name)> {
    let mut guesses = Vec::new();
    let relative = zone.map_or(name.labels_wire(), |(_, apex_at)| &name.wire()[..apex_at]);
    let labels: Vec<&[u8]> = name::labels(relative).collect();
    if labels.len() > MOST_LABELS {
        return guesses;
    }
    let mut guess = |how: Cause, labels: &[&[u8]], zone: Option<&Zone>| {
        // The apex of a zone is nobody's slip.
        if labels.is_empty() {
            return;
        }
        let mut wire: Vec<u8> = Vec::new();
        for label in labels {
            wire.push(label.len() as u8);
            wire.extend(*label);
        }
        match zone {
            Some(zone) => wire.extend(zone.apex().wire()),
            None => wire.push(0),
        }
        if wire.len() <= name::MAX_WIRE && wire.len() > 1 && wire != name.wire() {
            guesses.push((how, Name::from_tail(wire)));
        }
    };
    let cluster: Vec<&[u8]> = name::labels(zones.cluster_domain().labels_wire()).collect();
    let without_cluster = labels.strip_suffix(&cluster[..]);
    let plain = without_cluster.unwrap_or(&labels);
    let plain = plain.strip_suffix(&[&b"svc"[..]]).unwrap_or(plain);
    if plain.len() < labels.len() && !plain.is_empty() {
        for other in zones.iter() {
            guess(Cause::SvcInName, plain, Some(other));
        }
    }
    // The zone twice, or a zone and the cluster's own names: what a search path makes of a name that was right.
    if zone.is_some() {
        guess(Cause::SearchPath, &labels, None);
    }
    if let Some(rest) = without_cluster {
        guess(Cause::SearchPath, rest, None);
        if let Some(rest) = rest.strip_suffix(&[&b"svc"[..]]) {
            guess(Cause::SearchPath, rest, None);
            rest.split_last().into_iter().for_each(|(_, rest)| guess(Cause::SearchPath, rest, None));
        }
    }
    for other in zones.iter().filter(|other| zone.is_none_or(|(zone, _)| zone.index() != other.index())) {
        guess(if zone.is_some() { Cause::OtherZone } else { Cause::ZoneMissing }, &labels, Some(other));
        if let (None, Some((_, rest))) = (zone, labels.split_last()) {
            guess(Cause::OtherZone, rest, Some(other));
        }
    }
    if let Some((zone, _)) = zone {
        for at in 1..labels.len() {
            let mut swapped = labels.clone();
            swapped.swap(at - 1, at);
            guess(Cause::LabelsSwapped, &swapped, Some(zone));
        }
        for at in 0..labels.len() {
            let mut fewer = labels.clone();
            fewer.remove(at);
            guess(Cause::LabelExtra, &fewer, Some(zone));
        }
    }
    guesses
}

/// Looks guesses up. Those of the form that a wildcard would answer anyway count only if they have a host of their own.
pub(super) fn look_up(table: &Table, guesses: Vec<(Cause, Name)>, found: &mut Found) {
    let zones = table.zones();
    let reader = table.read();
    for (how, name) in guesses {
        let Some((zone, apex_at)) = zones.covering(name.wire()) else { continue };
        let host = Host { name, wildcard: false };
        let served = table.has(&host)
            || matches!(how, Cause::SvcInName | Cause::SearchPath | Cause::OtherZone | Cause::ZoneMissing)
                && matches!(reader.find(zone, host.name.wire(), apex_at), crate::zone::Found::Host(_))
                // Below a wildcard at an apex is every name.
                && reader.answering_wildcard(zone, host.name.wire(), apex_at).is_none_or(|at| at < apex_at);
        if served {
            found.insert(Near { how, letters: 0, name: host.name.to_string(), served, of: None });
        }
    }
}

/// Compares hosts with a name that does not exist.
pub(super) struct Comparison {
    /// In lower case, without the last dot.
    asked: Vec<u8>,
    labels: usize,
    farthest: usize,
    rows: Rows,
}

impl Comparison {
    /// A zone at the end of the name makes no mistake more likely, so it does not count.
    pub(super) fn new(name: &Name, zone: Option<&Zone>) -> Comparison {
        let asked = name.to_string().into_bytes();
        let labels = name::labels(name.labels_wire()).count();
        let zone = zone.map_or(0, |zone| zone.apex().labels_wire().len());
        // One letter of four may be wrong: in a short name every other one would be near.
        let farthest = FARTHEST.min(asked.len().saturating_sub(zone) / 4);
        Comparison { asked, labels, farthest, rows: Rows::default() }
    }

    /// How near a host is, if it is: the text of its name, and of the suffix of a wildcard.
    pub(super) fn compare(&mut self, host: &[u8], wildcard: bool) -> Option<(Cause, usize, String)> {
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        if !wildcard {
            if let Some(letters) = self.rows.distance(&self.asked, host, self.farthest) {
                return (letters > 0).then(|| (Cause::Misspelled, letters, text(host)));
            }
            return is_with_one_label_more(&self.asked, host).then(|| (Cause::LabelMissing, 0, text(host)));
        }
        // What the wildcard would answer has the same labels in front.
        let below = 1 + host.iter().filter(|octet| **octet == b'.').count();
        let front = self.labels.checked_sub(below).filter(|front| *front > 0)?;
        let dots = self.asked.iter().enumerate().filter(|(_, octet)| **octet == b'.').map(|(at, _)| at);
        let at = dots.clone().nth(front - 1)? + 1;
        let letters = self.rows.distance(&self.asked[at..], host, self.farthest)?;
        (letters > 0).then(|| (Cause::Misspelled, letters, text(&[&self.asked[..at], host].concat())))
    }
}

/// Whether `host` is `asked` with one label put in.
fn is_with_one_label_more(asked: &[u8], host: &[u8]) -> bool {
    // A label, and its dot.
    if host.len() < asked.len() + 2 {
        return false;
    }
    let more = host.len() - asked.len();
    let same = asked.iter().zip(host).take_while(|(a, b)| a == b).count();
    // The label begins at one of the labels that both begin with.
    let mut starts = (0..=same).filter(|at| *at == 0 || asked[at - 1] == b'.');
    starts.any(|at| {
        host[at + more - 1] == b'.'
            && !host[at..at + more - 1].contains(&b'.')
            && host[at + more..] == asked[at..]
    })
}

/// Room for [`Rows::distance`], kept for the next pair.
#[derive(Default)]
struct Rows([Vec<usize>; 3]);

impl Rows {
    /// Letters to put in, take out, replace or swap with the next, if not more than `most`. Takes time in proportion to
    /// the length and `most`.
    fn distance(&mut self, a: &[u8], b: &[u8], most: usize) -> Option<usize> {
        if a.len().abs_diff(b.len()) > most {
            return None;
        }
        let same = a.iter().zip(b).take_while(|(a, b)| a == b).count();
        let (a, b) = (&a[same..], &b[same..]);
        let far = most + 1;
        let Rows([before, last, now]) = self;
        for row in [&mut *before, &mut *last, &mut *now] {
            row.clear();
            row.resize(b.len() + 1, far);
        }
        for (j, cell) in last.iter_mut().enumerate().take(far) {
            *cell = j;
        }
        for i in 1..=a.len() {
            // No cell further from the diagonal than `most` can count.
            let (from, to) = (i.saturating_sub(most), (i + most).min(b.len()));
            now.fill(far);
            if from == 0 {
                now[0] = i.min(far);
            }
            for j in from.max(1)..=to {
                let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = replaced.min(last[j] + 1).min(now[j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(before[j - 2] + 1);
                }
                now[j] = best.min(far);
            }
            if now.iter().all(|cell| *cell > most) && last.iter().all(|cell| *cell > most) {
                return None;
            }
            std::mem::swap(before, last);
            std::mem::swap(last, now);
        }
        Some(last[b.len()]).filter(|distance| *distance <= most)
    }
}

/// How a host as an entry has it, which may be no name, is meant for a name; the surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// It is the name, maybe in other spelling.
    Exact,
    /// It is a wildcard above the name.
    Wildcard,
    /// It is the name where whatever stands for something (`*`, a placeholder) may be any part of one label.
    Pattern,
}

/// How a host of an entry is meant for `name`, if it is.
pub(super) fn fit(host: &str, code: Code, name: &Name, text: &str) -> Option<Fit> {
    let lower = || host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    let by_pattern = |pattern: &str| match pattern.contains('*') {
        true => matches(pattern, text).then_some(Fit::Pattern),
        false => (pattern == text).then_some(Fit::Exact),
    };
    match code {
        Code::HostInvalid => {
            let (front, rest) = host.strip_prefix("*.").map_or(("", host), |rest| ("*.", rest));
            if rest.contains('*') {
                return by_pattern(&lower());
            }
            let tidied = super::question::tidy(rest)?;
            match front {
                "" => (tidied == *name).then_some(Fit::Exact),
                _ => (tidied.covers(name) && tidied != *name).then_some(Fit::Wildcard),
            }
        }
        Code::Placeholder => {
            let pattern = pattern(&lower());
            pattern.contains(|c: char| c.is_ascii_alphanumeric()).then(|| by_pattern(&pattern))?
        }
        _ => {
            let host = host.strip_suffix('.').unwrap_or(host);
            match host.strip_prefix("*.") {
                None => host.eq_ignore_ascii_case(text).then_some(Fit::Exact),
                Some(suffix) => {
                    let at = text.len().checked_sub(suffix.len() + 1).filter(|at| *at > 0)?;
                    let below = text.as_bytes()[at] == b'.' && suffix.eq_ignore_ascii_case(&text[at + 1..]);
                    below.then_some(Fit::Wildcard)
                }
            }
        }
    }
}

/// A text with its placeholders replaced by `*`.
fn pattern(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    'text: while let Some(first) = rest.chars().next() {
        for (open, close) in [("<", ">"), ("$(", ")"), ("${", "}"), ("{{", "}}"), ("[[", "]]"), ("%", "%")] {
            if let Some(inside) = rest.strip_prefix(open)
                && let Some(end) = inside.find(close)
            {
                out.push('*');
                rest = &inside[end + close.len()..];
                continue 'text;
            }
        }
        out.push(first);
        rest = &rest[first.len_utf8()..];
    }
    out
}

/// Whether a pattern matches a text label by label.
fn matches(pattern: &str, text: &str) -> bool {
    let (mut patterns, mut labels) = (pattern.split('.'), text.split('.'));
    loop {
        match (patterns.next(), labels.next()) {
            (None, None) => return true,
            (Some(pattern), Some(label)) if label_matches(pattern, label) => {}
            _ => return false,
        }
    }
}

/// Whether a pattern with `*` matches a label; linear but for the shortest repetitions.
fn label_matches(pattern: &str, label: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| label.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

#[cfg(test)]
mod tests;
