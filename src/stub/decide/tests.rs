use super::*;
use crate::stub::emit::Flavour;
use crate::stub::layout::{Layer, Place, Role};
use crate::stub::{Refusal, Stub};
use crate::wire::name::Name;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).expect("a time")
}

fn stub(server: &str) -> Stub {
    let server = server.parse().expect(server);
    Stub::new([Name::parse("global").expect("a name")], [server]).expect("a stub")
}

fn planned(outcome: Outcome, stub: Option<Stub>) -> Planned {
    let place = Place::Corefile {
        config_map: ("kube-system".to_owned(), "coredns".to_owned()),
        key: "Corefile".to_owned(),
        port: 53,
        bind: Default::default(),
        beside: Vec::new(),
    };
    let layer = Layer {
        role: Role::ClusterDns,
        flavour: Flavour::Kubeadm,
        place,
        why: Vec::new(),
        managed_by: Vec::new(),
        endpoints: Vec::new(),
        families: Vec::new(),
        version: None,
        environment: Default::default(),
    };
    Planned { layer, stub, outcome, notes: Vec::new() }
}

fn due(before: &str) -> Change {
    Change { before: Some(before.to_owned()), after: Some(format!("{before}ours")) }
}

/// A place that was verified for `stub`.
fn verified(stub: &Stub) -> Entry {
    let mut entry = Entry::default();
    entry.want(stub);
    entry.enter(State::Verified, "", at(0));
    entry
}

/// [T9]
#[test]
fn what_others_undo_is_put_back_until_the_third_time_within_ten_minutes() {
    let stub = stub("10.96.0.53:53");
    let mut entry = verified(&stub);
    let undone = planned(Outcome::Change(due("x")), Some(stub.clone()));
    for (second, expected) in [(0, State::Planned), (60, State::Planned), (120, State::Fighting)] {
        let action = decide(&mut entry, &undone, Some("kubectl-edit"), at(second));
        assert_eq!(entry.state, expected, "after {second} s");
        let writes = matches!(action, Action::Write(_));
        assert_eq!(writes, expected == State::Planned);
        if writes {
            entry.enter(State::Propagating, "", at(second));
        }
    }
    assert!(entry.message.contains("kubectl-edit undid our edit 3 times in 10 minutes"), "{}", entry.message);
    // It stays stopped, also long after.
    assert_eq!(decide(&mut entry, &undone, None, at(9000)), Action::Nothing);
    assert_eq!(entry.state, State::Fighting);
}

/// [T9]
#[test]
fn reverts_far_apart_are_drift_and_no_fight() {
    let stub = stub("10.96.0.53:53");
    let mut entry = verified(&stub);
    let undone = planned(Outcome::Change(due("x")), Some(stub.clone()));
    for round in 0..10 {
        let action = decide(&mut entry, &undone, Some("kubeadm"), at(round * 400));
        assert!(matches!(action, Action::Write(_)), "round {round}");
        entry.enter(State::Verified, "", at(round * 400));
    }
}

/// [T9]
#[test]
fn a_fight_ends_when_the_edit_is_there_or_something_else_is_wanted() {
    let old = stub("10.96.0.53:53");
    let mut entry = verified(&old);
    entry.enter(State::Fighting, "", at(0));
    let mut other = entry.clone();
    assert_eq!(decide(&mut entry, &planned(Outcome::InPlace, Some(old)), None, at(1)), Action::Prove);
    assert_eq!(entry.state, State::Propagating);
    let new = planned(Outcome::Change(due("x")), Some(stub("10.96.0.99:53")));
    assert!(matches!(decide(&mut other, &new, None, at(1)), Action::Write(_)));
}

/// [T8]
#[test]
fn a_rolled_back_edit_is_tried_again_only_when_something_has_changed() {
    let stub_now = stub("10.96.0.53:53");
    let mut entry = verified(&stub_now);
    entry.left = Some(fingerprint(Some("x")));
    entry.enter(State::RolledBack, "", at(0));
    let same = planned(Outcome::Change(due("x")), Some(stub_now.clone()));
    assert_eq!(decide(&mut entry, &same, None, at(1)), Action::Nothing);
    assert_eq!(entry.state, State::RolledBack);
    let edited = planned(Outcome::Change(due("y")), Some(stub_now));
    assert!(matches!(decide(&mut entry.clone(), &edited, None, at(2)), Action::Write(_)));
    let moved = planned(Outcome::Change(due("x")), Some(stub("10.96.0.99:53")));
    assert!(matches!(decide(&mut entry, &moved, None, at(3)), Action::Write(_)));
}

/// [T9]
#[test]
fn an_edit_that_was_only_intended_is_not_a_revert() {
    let stub = stub("10.96.0.53:53");
    let mut entry = Entry::default();
    let first = planned(Outcome::Change(due("x")), Some(stub.clone()));
    for second in 0..10 {
        assert!(matches!(decide(&mut entry, &first, None, at(second)), Action::Write(_)));
        // The record has the intent; the writer died or lost a race before the object was written.
        entry.want(&stub);
    }
    assert!(entry.reverts.is_empty());
}

/// [T4] [T10] [T11]
#[test]
fn states_by_outcome() {
    let stub = stub("10.96.0.53:53");
    let refusal = |kind| Outcome::Refused(Refusal::new(kind, "line 3", "why", "remedy"));
    let cases = [
        (refusal(RefusalKind::Conflict), Some(stub.clone()), State::Conflict, Action::Withdraw),
        (refusal(RefusalKind::Invalid), Some(stub.clone()), State::Refused, Action::Nothing),
        (refusal(RefusalKind::Unsure), Some(stub.clone()), State::Refused, Action::Nothing),
        (Outcome::Emit("text".to_owned()), Some(stub.clone()), State::EmitOnly, Action::Nothing),
        (Outcome::InPlace, Some(stub), State::Propagating, Action::Prove),
        (Outcome::InPlace, None, State::Removed, Action::Nothing),
        (Outcome::Change(due("x")), None, State::Planned, Action::Write(due("x"))),
    ];
    for (outcome, stub, state, action) in cases {
        let mut entry = Entry::default();
        assert_eq!(decide(&mut entry, &planned(outcome.clone(), stub), None, at(0)), action, "{outcome:?}");
        assert_eq!(entry.state, state, "{outcome:?}");
    }
}

/// [T3]
#[test]
fn what_was_wanted_before_stays_known_until_it_is_proved_gone() {
    let mut entry = verified(&stub("10.96.0.53:53"));
    entry.want(&stub("10.96.0.99:53"));
    let ours = entry.ours();
    let servers: Vec<_> = ours.servers.iter().map(ToString::to_string).collect();
    assert_eq!(servers, ["10.96.0.53:53", "10.96.0.99:53"]);
}
