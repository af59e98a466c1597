//! What the metrics say about stub domains, counted where it happens.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::layout::Role;
use super::record::State;

/// The roles, in the order of their numbers.
pub const ROLES: [Role; 2] = [Role::ClusterDns, Role::NodeLocal];

/// Shared by the controller that counts and the scrape that reads.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    leads: AtomicBool,
    roles: [OfRole; ROLES.len()],
    places: Mutex<Vec<AtPlace>>,
}

/// Where one place stands, as of the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtPlace {
    /// Whose configuration it is.
    pub role: Role,
    /// The place's name.
    pub place: String,
    /// How far it is.
    pub state: State,
    /// The same in words.
    pub message: String,
}

#[derive(Debug, Default)]
struct OfRole {
    /// 0 for "no such layer", else one more than the position in [`State::ALL`].
    state: AtomicU8,
    writes: AtomicU64,
    reverts: AtomicU64,
    rollbacks: AtomicU64,
    proved: AtomicU64,
    unproved: AtomicU64,
}

/// One role's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Where its place stands; `None` if there is no such layer.
    pub state: Option<State>,
    /// Objects written.
    pub writes: u64,
    /// Times others undid an edit.
    pub reverts: u64,
    /// Edits undone because they were not proved.
    pub rollbacks: u64,
    /// Proofs that succeeded.
    pub proved: u64,
    /// Proofs that did not.
    pub unproved: u64,
}

impl Tally {
    fn of(&self, role: Role) -> &OfRole {
        &self.0.roles[role as usize]
    }

    /// Whether this replica is the writer.
    pub fn leads(&self) -> bool {
        self.0.leads.load(Ordering::Relaxed)
    }

    /// See [`Tally::leads`].
    pub fn set_leads(&self, leads: bool) {
        self.0.leads.store(leads, Ordering::Relaxed);
    }

    /// One object was written.
    pub fn writes(&self, role: Role) {
        self.of(role).writes.fetch_add(1, Ordering::Relaxed);
    }

    /// An edit was undone by others.
    pub fn reverted(&self, role: Role) {
        self.of(role).reverts.fetch_add(1, Ordering::Relaxed);
    }

    /// An edit was undone by us.
    pub fn rolled_back(&self, role: Role) {
        self.of(role).rollbacks.fetch_add(1, Ordering::Relaxed);
    }

    /// A proof was tried.
    pub fn proof(&self, role: Role, proved: bool) {
        let of = self.of(role);
        let counter = if proved { &of.proved } else { &of.unproved };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Where each layer stands; a role without one is left out.
    fn set_states(&self, states: &[(Role, State)]) {
        for role in ROLES {
            let state = states.iter().find(|(of, _)| *of == role).map(|(_, state)| *state);
            let position = state.and_then(|state| State::ALL.iter().position(|s| *s == state));
            let code = position.and_then(|p| u8::try_from(p + 1).ok()).unwrap_or(0);
            self.of(role).state.store(code, Ordering::Relaxed);
        }
    }

    /// Every place there is, as of the last look.
    pub fn places(&self) -> Vec<AtPlace> {
        self.0.places.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// See [`Tally::places`]; the states of the roles follow.
    pub fn set_places(&self, places: Vec<AtPlace>) {
        let states: Vec<(Role, State)> = places.iter().map(|at| (at.role, at.state)).collect();
        self.set_states(&states);
        *self.0.places.lock().unwrap_or_else(PoisonError::into_inner) = places;
    }

    /// One role's numbers.
    pub fn numbers(&self, role: Role) -> Numbers {
        let of = self.of(role);
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let code = usize::from(of.state.load(Ordering::Relaxed));
        Numbers {
            state: code.checked_sub(1).and_then(|p| State::ALL.get(p).copied()),
            writes: load(&of.writes),
            reverts: load(&of.reverts),
            rollbacks: load(&of.rollbacks),
            proved: load(&of.proved),
            unproved: load(&of.unproved),
        }
    }
}
