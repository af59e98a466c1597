//! What the commands over a cluster print.

use std::collections::BTreeSet;
use std::io::IsTerminal;

use serde_json::json;

use super::super::{Output, called};
use crate::stub::engine::Seen;
use crate::stub::plan::Outcome;
use crate::stub::probe::Asked;

/// One line that is written over on a terminal, and a line per news elsewhere.
pub(super) struct Progress {
    terminal: bool,
    last: String,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress { terminal: std::io::stderr().is_terminal(), last: String::new() }
    }

    pub(super) fn say(&mut self, text: &str) {
        if self.terminal {
            called::tell(&format!("\r\x1b[2K{text}"));
            return;
        }
        // Without the seconds it is the same news.
        let news = text.rsplit_once(" (").map_or(text, |(news, _)| news);
        if self.last != news {
            called::tell(&format!("{text}\n"));
            self.last = news.to_owned();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.terminal {
            called::tell("\r\x1b[2K");
        }
    }
}

pub(super) fn plan(seen: &Seen) -> String {
    let planned = &seen.planned;
    let layer = &planned.layer;
    let mut text = format!("# {}: {} ({})\n", layer.role.as_str(), layer.place.name(), layer.flavour.name());
    text.extend(layer.why.iter().map(|why| format!("#   {why}\n")));
    text.extend(layer.managed_by.iter().map(|who| format!("#   also written by {who}\n")));
    text.extend(planned.notes.iter().map(|note| format!("#   note: {note}\n")));
    text += &match &planned.outcome {
        Outcome::InPlace => "# nothing to do: it is as it should be\n".to_owned(),
        Outcome::Refused(refusal) => format!("# nothing is written: {refusal}\n"),
        Outcome::Change(change) => change.diff(&layer.place.name()),
        Outcome::Emit(text) => {
            format!("# nothing is written here; what to tell its owner:\n{}\n", text.trim_end())
        }
    };
    text
}

pub(super) fn state(seen: &Seen, output: Output) -> String {
    let entry = &seen.entry;
    let layer = &seen.planned.layer;
    let mut text = format!(
        "{}: {}: {}: {}\n",
        layer.role.as_str(),
        layer.place.name(),
        entry.state.as_str(),
        entry.message
    );
    if output == Output::Wide {
        text += &format!("  {}\n", layer.flavour.name());
        text.extend(entry.since.iter().map(|since| format!("  in this state since {since}\n")));
        text.extend(layer.why.iter().map(|why| format!("  {why}\n")));
        text.extend(layer.managed_by.iter().map(|who| format!("  also written by {who}\n")));
        text.extend(seen.planned.notes.iter().map(|note| format!("  note: {note}\n")));
    }
    if let Outcome::Emit(emitted) = &seen.planned.outcome {
        text += &format!("{}\n", emitted.trim_end());
    }
    text
}

/// How many addresses prove every zone, of how many.
fn proved(answers: &[Asked]) -> (usize, usize) {
    let servers: BTreeSet<_> = answers.iter().map(|asked| asked.server).collect();
    let failing: BTreeSet<_> =
        answers.iter().filter(|asked| asked.failure().is_some()).map(|asked| asked.server).collect();
    (servers.len() - failing.len(), servers.len())
}

pub(super) fn answers(seen: &Seen) -> String {
    let (proved, all) = proved(&seen.answers);
    let role = seen.planned.layer.role.as_str();
    let mut text = format!("{role}: {proved} of {all} addresses of cluster DNS proved\n");
    text.extend(seen.answers.iter().map(|asked| format!("  {asked}\n")));
    text
}

pub(super) fn for_programs(output: Output, seen: &[Seen]) -> anyhow::Result<Option<String>> {
    let layers: Vec<_> = seen
        .iter()
        .map(|seen| {
            let layer = &seen.planned.layer;
            let place = layer.place.name();
            let outcome = match &seen.planned.outcome {
                Outcome::InPlace => json!({"kind": "in-place"}),
                Outcome::Change(change) => json!({
                    "kind": "change", "before": change.before, "after": change.after, "diff": change.diff(&place),
                }),
                Outcome::Refused(refusal) => json!({
                    "kind": "refused", "reason": format!("{:?}", refusal.kind), "place": refusal.place,
                    "why": refusal.why, "remedy": refusal.remedy,
                }),
                Outcome::Emit(text) => json!({"kind": "emit", "text": text}),
            };
            let answers: Vec<_> = seen
                .answers
                .iter()
                .map(|asked| {
                    json!({"server": asked.server, "zone": asked.zone.to_string(),
                        "proved": asked.failure().is_none(),
                        "failure": asked.failure().map(|failure| failure.to_string())})
                })
                .collect();
            json!({
                "layer": layer.role.as_str(), "place": place, "flavour": layer.flavour.name(),
                "why": layer.why, "managedBy": layer.managed_by, "notes": seen.planned.notes,
                "endpoints": layer.endpoints, "outcome": outcome, "answers": answers,
                "state": seen.entry.state.as_str(), "message": seen.entry.message, "since": seen.entry.since,
            })
        })
        .collect();
    output.for_programs(&json!({"layers": layers}))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stub::probe::{Failure, Outcome as Reply};
    use crate::wire::name::Name;
    use crate::wire::probe::Proof;

    /// [T7]
    #[test]
    fn an_address_counts_as_proved_when_it_proves_every_zone() {
        let asked = |server: &str, zone: &str, outcome: Reply| Asked {
            server: server.parse().expect(server),
            zone: Name::parse(zone).expect(zone),
            outcome,
        };
        let proof = || Reply::Proved { proof: proof(), elapsed: Duration::ZERO };
        let answers = [
            asked("10.0.0.1:53", "global", proof()),
            asked("10.0.0.1:53", "cluster2", proof()),
            asked("10.0.0.2:53", "global", proof()),
            asked("10.0.0.2:53", "cluster2", Reply::Failed(Failure::NxDomain)),
        ];
        assert_eq!(proved(&answers), (1, 2));
    }

    fn proof() -> Proof {
        Proof { instance: None, serial: 1 }
    }
}
