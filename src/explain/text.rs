//! An explanation as people read it. Every line goes through [`Page::line`], where nothing that steers a terminal passes.

use std::fmt::Write as _;

use super::{EntryFacts, Explanation, LastChange};
use crate::limits;

/// The column where what is said of a heading begins.
const HEADING: usize = 10;
/// Columns of a line, unless a word is longer; as `--help` has them.
const WIDTH: usize = 100;
/// Characters of one line.
const LONGEST_LINE: usize = 2_000;

struct Page(String);

impl Page {
    fn line(&mut self, text: &str) {
        let text = limits::shorten(text, LONGEST_LINE);
        for c in text.chars() {
            // Control characters, and those that change the direction of what follows.
            let steers = c.is_control() && c != '\t'
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
            if steers {
                // Writing to a String cannot fail.
                let _ = write!(self.0, "{}", c.escape_unicode());
            } else {
                self.0.push(c);
            }
        }
        self.0.push('\n');
    }

    /// A heading with the first thing said of it.
    fn head(&mut self, heading: &str, text: &str) {
        self.wrapped(heading, HEADING, text);
    }

    fn more(&mut self, deeper: usize, text: &str) {
        self.wrapped("", HEADING + 2 * deeper, text);
    }

    /// In lines of [`WIDTH`], where words allow it.
    fn wrapped(&mut self, heading: &str, indent: usize, text: &str) {
        let mut line = format!("{heading:indent$}");
        let mut length = 0;
        for word in text.split(' ') {
            let more = word.chars().count() + usize::from(length > 0);
            if length > 0 && indent + length + more > WIDTH {
                self.line(&line);
                (line, length) = (format!("{:indent$}", ""), 0);
            }
            if length > 0 {
                line.push(' ');
            }
            line.push_str(word);
            length += more;
        }
        self.line(&line);
    }
}

/// See the module.
pub(super) fn write(explanation: &Explanation) -> String {
    let mut page = Page(String::new());
    let Explanation { name, types, replies, cause, .. } = explanation;
    let statuses: Vec<String> = replies
        .iter()
        .map(|reply| match (&*reply.status, reply.answers) {
            ("NOERROR", 0) => format!("{}: NODATA", reply.rtype),
            (status, _) => format!("{}: {status}", reply.rtype),
        })
        .collect();
    let verb = if explanation.resolves { "resolves" } else { "does not resolve" };
    let statuses = if statuses.is_empty() {
        format!(" ({})", types.join(", "))
    } else {
        format!(" ({})", statuses.join(", "))
    };
    page.line(&format!("{name} {verb}{statuses}"));
    page.line("");
    page.head("Cause", &format!("{}: {}", cause.as_str(), explanation.why));
    page.head("Do", &explanation.remedy.text);
    match &explanation.zone {
        Some(zone) => page.head("Zone", &format!("{}, {}", zone.name, counted(zone.hosts, "host", "hosts"))),
        None if !explanation.zones.is_empty() => {
            page.head("Zone", &format!("none covers it; there are: {}", explanation.zones.join(", ")));
        }
        None => {}
    }
    if let Some(guard) = &explanation.guard {
        page.head("Guard", guard);
    }
    if let Some(ttl) = &explanation.ttl {
        page.head("TTL", &format!("{} s, from {}", ttl.seconds, ttl.from));
    }
    if let Some(changed) = &explanation.changed {
        if let Some(created) = &changed.entry_created {
            page.head("Created", &format!("{created} (the entry that answers)"));
        }
        if let Some(zone) = &changed.zone_changed {
            page.head("Changed", &format!("{zone} (some answer of the zone)"));
        }
        if let Some(last) = &changed.last {
            page.head("Last", &last_change(last));
        }
    }
    for host in &explanation.hosts {
        let answers = if host.answers { ", which answers" } else { "" };
        page.head(
            "Host",
            &format!(
                "{}{answers}, of {}",
                host.host,
                counted(host.entries_in_all, "live entry", "live entries")
            ),
        );
        host.entries.iter().for_each(|entry| entry_lines(&mut page, entry));
        if host.entries.len() < host.entries_in_all {
            page.more(1, &format!("and {} more entries", host.entries_in_all - host.entries.len()));
        }
    }
    for unserved in &explanation.unserved {
        page.head("Unserved", &format!("{:?} in {}", unserved.host, unserved.object));
        page.more(1, &format!("{} [{}]: {}", unserved.field, unserved.code, unserved.why));
    }
    for (at, near) in explanation.near.iter().enumerate() {
        let heading = if at == 0 { "Near" } else { "" };
        let served = if near.served { "" } else { ", which is not served" };
        let of = near
            .of
            .as_ref()
            .map_or_else(String::new, |of| format!(": {} {} of {}", of.field, of.host, of.object));
        page.head(heading, &format!("{} ({}){served}{of}", near.name, near.how.as_str()));
    }
    for (at, below) in explanation.below.iter().enumerate() {
        page.head(if at == 0 { "Below" } else { "" }, below);
    }
    if let Some(forwarding) = &explanation.forwarding {
        for (at, finding) in forwarding.findings.iter().enumerate() {
            page.head(if at == 0 { "Clients" } else { "" }, finding);
        }
        if let Some(remedy) = &forwarding.remedy {
            page.more(1, remedy);
        }
    }
    for incomplete in &explanation.incomplete {
        page.head("Not all", incomplete);
    }
    for reply in replies {
        page.line("");
        reply.text.lines().for_each(|line| page.line(line));
    }
    page.0
}

fn counted(number: usize, one: &str, several: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { several })
}

fn entry_lines(page: &mut Page, entry: &EntryFacts) {
    let created = entry.created.as_ref().map_or_else(String::new, |created| format!(", created {created}"));
    page.more(1, &format!("{} ({}), namespace {}{created}", entry.object, entry.field, entry.namespace));
    page.more(2, &entry.rule);
    for address in &entry.addresses {
        let verdict = if address.accepted { "accepted" } else { "rejected" };
        page.more(2, &format!("{verdict} {:?}: {}", address.address, address.why));
    }
    for finding in &entry.findings {
        page.more(
            2,
            &format!(
                "{} [{}] {} {:?}: {}; {}",
                finding.severity, finding.code, finding.field, finding.value, finding.why, finding.remedy
            ),
        );
    }
    if entry.findings_left_out > 0 {
        page.more(2, &format!("and {} more findings", entry.findings_left_out));
    }
}

fn last_change(last: &LastChange) -> String {
    let answers = |addresses: &[String]| match addresses {
        [] => "nothing".to_owned(),
        some => some.join(" "),
    };
    let by = last.manager.as_ref().map_or(String::new(), |manager| format!(", written by {manager}"));
    format!("{}: {} → {}, through {}{by}", last.time, answers(&last.before), answers(&last.after), last.entry)
}
