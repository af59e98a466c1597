//! A copy of sources' entries, taken while events go on (L6).

use super::arena::Number;
use super::findings::SEARCH_STEP;
use super::packed::View;
use super::{Entries, Index, Partition, lock};
use crate::entry::Entry;
use crate::finding::Finding;

/// So often those that came meanwhile are read without stopping events.
const MOST_ROUNDS: usize = 16;

/// An entry's run and findings, taken out of the index to be read without its lock.
struct Run {
    partition: Partition,
    octets: Box<[u8]>,
    findings: Vec<Finding>,
}

/// While it lives, the index notes which entries come.
struct Noting<'i>(&'i Index);

impl Index {
    /// Gives every entry of some partitions to `take`, which may take its time: no lock is held meanwhile. Whatever was
    /// live during all of the call is among them, and so is a host that one entry gave another meanwhile, of whichever
    /// of the partitions. An entry that changes meanwhile may be given twice, the newer one last; one that goes may be
    /// given or not, and [`Index::version`] has moved then. One call at a time.
    pub fn copy<E>(
        &self,
        partitions: &[Partition],
        mut take: impl FnMut(Partition, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let _one = lock(&self.copying);
        let mut numbers: Vec<Number> = {
            let mut entries = lock(&self.entries);
            entries.came = Some(Vec::new());
            entries.by_identity.iter().copied().collect()
        };
        let _noting = Noting(self);
        for round in 1.. {
            let mut rest = numbers.iter();
            let mut runs = Vec::new();
            while !rest.as_slice().is_empty() {
                self.step(&mut rest, &mut |entries: &Entries, number| {
                    runs.extend(entries.run_of(partitions, *number));
                    0
                });
                self.give(&mut runs, &mut take)?;
            }
            // Those that came meanwhile. A few are read while nothing can come any more, and so are many if they
            // do not grow fewer.
            let mut entries = lock(&self.entries);
            numbers = entries.came.as_mut().map(std::mem::take).unwrap_or_default();
            if numbers.len() <= SEARCH_STEP || round >= MOST_ROUNDS {
                entries.came = None;
                runs.extend(numbers.iter().filter_map(|number| entries.run_of(partitions, *number)));
                drop(entries);
                return self.give(&mut runs, &mut take);
            }
            drop(entries);
            // Places are used again, so one may be there many times.
            numbers.sort_unstable();
            numbers.dedup();
        }
        Ok(())
    }

    fn give<E>(
        &self,
        runs: &mut Vec<Run>,
        take: &mut impl FnMut(Partition, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        for Run { partition, octets, findings } in runs.drain(..) {
            let entry = View::new(&octets)
                .map(|entry| entry.unpack(self.table.zones(), &lock(&self.paths), findings));
            if let Some(entry) = entry {
                take(partition, entry)?;
            }
        }
        Ok(())
    }
}

impl Entries {
    fn run_of(&self, partitions: &[Partition], number: Number) -> Option<Run> {
        // A number may have been given back since, and to another entry: that is noted to have come, too.
        let of = self.view(number)?.identity.partition;
        let partition = *partitions.iter().find(|partition| partition.0 as u32 == of)?;
        let findings = self.findings.get(&number).map_or_else(Vec::new, |findings| findings.to_vec());
        Some(Run { partition, octets: self.arena.get(number).into(), findings })
    }
}

impl Drop for Noting<'_> {
    fn drop(&mut self) {
        lock(&self.0.entries).came = None;
    }
}

#[cfg(test)]
mod tests;
