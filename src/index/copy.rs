//! A copy of one source's entries, taken while events go on (L6).

use super::arena::Number;
use super::findings::SEARCH_STEP;
use super::packed::View;
use super::{Entries, Index, Partition, lock};
use crate::entry::Entry;
use crate::finding::Finding;

/// An entry's run and findings, taken out of the index to be read without its lock.
struct Run {
    octets: Box<[u8]>,
    findings: Vec<Finding>,
}

/// While it lives, the index notes which entries come.
struct Noting<'i>(&'i Index);

impl Index {
    /// Gives every entry of a partition to `take`, which may take its time: no lock is held meanwhile. Whatever was
    /// live during all of the call is among them. An entry that changes meanwhile may be given twice, the newer one last;
    /// one that goes may be given or not, and [`Index::version`] has moved then. One call at a time.
    pub fn copy<E>(
        &self,
        partition: Partition,
        mut take: impl FnMut(Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let _one = lock(&self.copying);
        let mut numbers: Vec<Number> = {
            let mut entries = lock(&self.entries);
            entries.came = Some(Vec::new());
            entries.by_identity.iter().copied().collect()
        };
        let _noting = Noting(self);
        loop {
            let mut rest = numbers.iter();
            let mut runs = Vec::new();
            while !rest.as_slice().is_empty() {
                self.step(&mut rest, &mut |entries: &Entries, number| {
                    runs.extend(entries.run_of(partition, *number));
                    0
                });
                self.give(&mut runs, &mut take)?;
            }
            // Those that came meanwhile. A few are read while nothing can come any more.
            let mut entries = lock(&self.entries);
            numbers = entries.came.as_mut().map(std::mem::take).unwrap_or_default();
            if numbers.len() <= SEARCH_STEP {
                entries.came = None;
                runs.extend(numbers.iter().filter_map(|number| entries.run_of(partition, *number)));
                drop(entries);
                return self.give(&mut runs, &mut take);
            }
        }
    }

    fn give<E>(&self, runs: &mut Vec<Run>, take: &mut impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
        for Run { octets, findings } in runs.drain(..) {
            let entry = View::new(&octets)
                .map(|entry| entry.unpack(self.table.zones(), &lock(&self.paths), findings));
            if let Some(entry) = entry {
                take(entry)?;
            }
        }
        Ok(())
    }
}

impl Entries {
    fn run_of(&self, partition: Partition, number: Number) -> Option<Run> {
        // A number may have been given back since, and to another entry: that is noted to have come, too.
        self.view(number).filter(|entry| entry.identity.partition == partition.0 as u32)?;
        let findings = self.findings.get(&number).map_or_else(Vec::new, |findings| findings.to_vec());
        Some(Run { octets: self.arena.get(number).into(), findings })
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        lock(&self.0.entries).came = None;
    }
}

#[cfg(test)]
mod tests;
