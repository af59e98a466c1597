//! What follows from a plan and from what was recorded before: the states of a place, without any I/O.

use std::time::Duration;

use jiff::Timestamp;

use super::plan::{Change, Outcome, Planned};
use super::record::{Entry, State, fingerprint};
use super::{Refusal, RefusalKind};

/// So many reverts within [`REVERT_WINDOW`] and we stop: two tools that undo each other for ever have hurt others
/// (compumike/hairpin-proxy#18).
pub const REVERTS: usize = 3;
/// See [`REVERTS`].
pub const REVERT_WINDOW: Duration = Duration::from_secs(600);

/// What is to happen now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Write this change, if we may.
    Write(Change),
    /// Take our edit out, if any is there: someone else serves a zone of ours.
    Withdraw,
    /// Prove what is there.
    Prove,
}

/// Moves `entry` to the state that follows and says what to do. `last_writer` wrote the object last, other than us.
pub fn decide(entry: &mut Entry, planned: &Planned, last_writer: Option<&str>, now: Timestamp) -> Action {
    match (&planned.outcome, &planned.stub) {
        (Outcome::InPlace, Some(stub)) => {
            if matches!(entry.state, State::Verified | State::Unproved | State::Propagating)
                && entry.wants(stub)
            {
                return Action::Prove;
            }
            entry.want(stub);
            entry.enter(State::Propagating, "it is in place; cluster DNS may not have read it yet", now);
            Action::Prove
        }
        (Outcome::InPlace, None) => {
            entry.enter(State::Removed, "nothing of ours is there", now);
            Action::Nothing
        }
        (Outcome::Change(change), Some(stub)) => {
            let wants = entry.wants(stub);
            let was_there = matches!(entry.state, State::Propagating | State::Verified | State::Unproved);
            if wants && was_there {
                note_revert(entry, now);
                if entry.reverts.len() >= REVERTS {
                    entry.enter(State::Fighting, fighting(entry, planned, last_writer), now);
                    return Action::Nothing;
                }
                let by = last_writer.unwrap_or("someone");
                entry.enter(State::Planned, format!("{by} undid it; it is put back"), now);
                return Action::Write(change.clone());
            }
            if wants && entry.state == State::Fighting {
                return Action::Nothing;
            }
            // A text that others have changed since is another one, and worth another try.
            if wants && entry.state == State::RolledBack && is_as_left(entry, change) {
                return Action::Nothing;
            }
            entry.enter(State::Planned, "an edit is due", now);
            Action::Write(change.clone())
        }
        (Outcome::Change(change), None) => {
            entry.enter(State::Planned, "our edit is to be taken out", now);
            Action::Write(change.clone())
        }
        (Outcome::Refused(refusal), _) => {
            let conflict = refusal.kind == RefusalKind::Conflict;
            entry.enter(state_of(refusal), refusal.to_string(), now);
            if conflict { Action::Withdraw } else { Action::Nothing }
        }
        (Outcome::Emit(_), _) => {
            entry.enter(State::EmitOnly, emit_only(planned), now);
            Action::Nothing
        }
    }
}

/// Whether the field is as a rollback left it.
fn is_as_left(entry: &Entry, change: &Change) -> bool {
    entry.left.as_deref() == Some(&*fingerprint(change.before.as_deref()))
}

fn state_of(refusal: &Refusal) -> State {
    match refusal.kind {
        RefusalKind::Conflict => State::Conflict,
        RefusalKind::Invalid | RefusalKind::Unsure => State::Refused,
    }
}

fn note_revert(entry: &mut Entry, now: Timestamp) {
    entry.reverts.push(now);
    entry.reverts.retain(|at| now.duration_since(*at).unsigned_abs() <= REVERT_WINDOW);
}

fn fighting(entry: &Entry, planned: &Planned, last_writer: Option<&str>) -> String {
    let mut suspects: Vec<&str> = last_writer.into_iter().collect();
    suspects.extend(planned.layer.managed_by.iter().map(String::as_str));
    let who = if suspects.is_empty() { "someone".to_owned() } else { suspects.join(", ") };
    format!(
        "{who} undid our edit {} times in {} minutes, so we stopped writing; make that writer keep the edit \
         (`globaldns stub-domains plan` prints it), then run `globaldns stub-domains apply`",
        entry.reverts.len(),
        REVERT_WINDOW.as_secs() / 60
    )
}

fn emit_only(planned: &Planned) -> String {
    if planned.layer.managed_by.is_empty() {
        return "no object of this cluster holds it; `globaldns stub-domains plan` prints what to tell the platform"
            .to_owned();
    }
    format!(
        "{} writes {}; give it what `globaldns stub-domains plan` prints, or edit anyway with --edit-managed",
        planned.layer.managed_by.join(", "),
        planned.layer.place.name()
    )
}

#[cfg(test)]
mod tests;
