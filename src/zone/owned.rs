//! Suffixes whose names only some namespaces may give (O6).
//!
//! The longest owned suffix that a name ends in decides about it, and about two things: whose hosts at or below the
//! suffix are taken at all, and that no wildcard above the suffix answers below it. The second needs no look at whose
//! the wildcard is: whoever owns the suffix can write a wildcard there.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::wire::name::{self, Name};

/// A suffix, and the namespaces whose entries its names are taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The name itself and everything below it.
    pub suffix: Name,
    /// At least one.
    pub namespaces: BTreeSet<String>,
}

/// Every owned suffix.
#[derive(Debug, Default)]
pub(super) struct Owned(HashMap<Name, BTreeSet<String>, RandomState>);

impl Owned {
    /// A suffix given twice belongs to the namespaces of both.
    pub(super) fn new(ownerships: impl IntoIterator<Item = Ownership>) -> Owned {
        let mut owned = Owned::default();
        for Ownership { suffix, namespaces } in ownerships {
            owned.0.entry(suffix).or_default().extend(namespaces);
        }
        owned
    }

    /// The longest suffix a lower-case wire name ends in, and whose it is.
    pub(super) fn covering<'o>(&'o self, name: &[u8]) -> Option<(&'o Name, &'o BTreeSet<String>)> {
        if self.0.is_empty() {
            return None;
        }
        std::iter::successors(Some(name), |up| name::parent(up)).find_map(|tail| self.0.get_key_value(tail))
    }
}
