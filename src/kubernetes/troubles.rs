//! One log line for each thing that does not work, and change of why.

use std::collections::HashMap;

/// What was last said about each thing.
pub struct Troubles {
    of: &'static str,
    said: HashMap<&'static str, String>,
}

impl Troubles {
    /// `of` begins every line.
    pub fn new(of: &'static str) -> Troubles {
        Troubles { of, said: HashMap::new() }
    }

    /// It does not work, for this reason.
    pub fn complain(&mut self, about: &'static str, what: String) {
        if self.said.get(about) != Some(&what) {
            tracing::warn!("{}: {what}", self.of);
            self.said.insert(about, what);
        }
    }

    /// It works; whether it did not before.
    pub fn over(&mut self, about: &'static str) -> bool {
        self.said.remove(about).is_some()
    }
}
