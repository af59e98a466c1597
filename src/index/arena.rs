//! Many small runs of octets, each under a number, without an allocation of its own for each.
//!
//! A run lives in a place of whole units inside a large chunk; its number is the place's position. A place that is
//! given back serves the next run that fits, whole or in part; places are never joined, so that a number stays the
//! beginning of one, and chunks are kept: what an arena takes is what it took at its fullest. Runs too long for
//! that are allocated on their own.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

/// Octets of a unit.
const UNIT: usize = 8;
/// Units of a chunk: 1 MiB.
const CHUNK: usize = (1 << 20) / UNIT;
/// Octets of a run's length, in front of it.
const HEAD: usize = 2;
/// The longest run that is kept in a chunk: 64 KiB and less than its length can say.
const LONGEST: usize = u16::MAX as usize;
/// Set in the number of a run that is allocated on its own.
const ALONE: u32 = 1 << 31;

/// A run's number. It stays until the run is removed, and may then be another's.
pub(super) type Number = NonZeroU32;

/// See the module.
#[derive(Default)]
pub(super) struct Arena {
    chunks: Vec<Box<[u8]>>,
    /// Units of the last chunk that are in use.
    used: usize,
    /// Places that were given back, by units.
    free: BTreeMap<usize, Vec<u32>>,
    alone: Vec<Option<Box<[u8]>>>,
    alone_free: Vec<u32>,
}

impl Arena {
    /// Keeps a run, which must not be empty.
    pub(super) fn insert(&mut self, run: &[u8]) -> Number {
        debug_assert!(!run.is_empty());
        if run.len() > LONGEST {
            return self.insert_alone(run);
        }
        let units = units(run.len());
        let at = self.take(units).unwrap_or_else(|| self.extend(units));
        let place = self.place(at);
        place[..HEAD].copy_from_slice(&(run.len() as u16).to_be_bytes());
        place[HEAD..HEAD + run.len()].copy_from_slice(run);
        number(at + 1)
    }

    /// The run of a number; empty if it was removed.
    pub(super) fn get(&self, number: Number) -> &[u8] {
        let number = number.get();
        if number & ALONE != 0 {
            return self.alone.get((number & !ALONE) as usize).and_then(|run| run.as_deref()).unwrap_or(&[]);
        }
        let (chunk, at) = position(number - 1);
        let Some(place) = self.chunks.get(chunk).and_then(|chunk| chunk.get(at..)) else { return &[] };
        let len = usize::from(u16::from_be_bytes([place[0], place[1]]));
        &place[HEAD..HEAD + len]
    }

    /// Gives a run's place back.
    pub(super) fn remove(&mut self, number: Number) {
        let number = number.get();
        if number & ALONE != 0 {
            let at = number & !ALONE;
            if self.alone.get_mut(at as usize).is_some_and(|run| run.take().is_some()) {
                self.alone_free.push(at);
            }
            return;
        }
        let place = self.place(number - 1);
        let len = usize::from(u16::from_be_bytes([place[0], place[1]]));
        if len > 0 {
            place[..HEAD].fill(0);
            self.give(number - 1, units(len));
        }
    }

    /// A place that was given back: of this size, or the rest of the smallest larger one.
    fn take(&mut self, units: usize) -> Option<u32> {
        let (&found, places) = self.free.range_mut(units..).next()?;
        let at = places.pop();
        if places.is_empty() {
            self.free.remove(&found);
        }
        let at = at?;
        if found > units {
            let rest = at + units as u32;
            self.place(rest)[..HEAD].fill(0);
            self.give(rest, found - units);
        }
        Some(at)
    }

    fn give(&mut self, at: u32, units: usize) {
        self.free.entry(units).or_default().push(at);
    }

    /// A place that was never in use.
    fn extend(&mut self, units: usize) -> u32 {
        if self.chunks.is_empty() || self.used + units > CHUNK {
            if let Some(last) = self.chunks.len().checked_sub(1)
                && self.used < CHUNK
            {
                let rest = last * CHUNK + self.used;
                self.give(rest as u32, CHUNK - self.used);
            }
            self.chunks.push(vec![0; CHUNK * UNIT].into_boxed_slice());
            self.used = 0;
        }
        let at = (self.chunks.len() - 1) * CHUNK + self.used;
        self.used += units;
        at as u32
    }

    fn place(&mut self, at: u32) -> &mut [u8] {
        let (chunk, at) = position(at);
        &mut self.chunks[chunk][at..]
    }

    fn insert_alone(&mut self, run: &[u8]) -> Number {
        let at = self.alone_free.pop().unwrap_or_else(|| {
            self.alone.push(None);
            (self.alone.len() - 1) as u32
        });
        self.alone[at as usize] = Some(run.into());
        number(at | ALONE)
    }
}

fn units(len: usize) -> usize {
    (HEAD + len).div_ceil(UNIT)
}

/// Chunk, and offset in it.
fn position(at: u32) -> (usize, usize) {
    (at as usize / CHUNK, at as usize % CHUNK * UNIT)
}

fn number(n: u32) -> Number {
    // Never 0: places count from 1 and the others have a bit set.
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    #[test]
    fn a_place_given_back_is_used_again() {
        let mut arena = Arena::default();
        let runs: Vec<Number> = (0..1000u32).map(|i| arena.insert(&[i as u8; 50])).collect();
        for number in &runs {
            arena.remove(*number);
            assert_eq!(arena.get(*number), b"");
            arena.remove(*number);
        }
        let again: std::collections::HashSet<Number> = (0..1000).map(|_| arena.insert(&[9; 50])).collect();
        assert!(runs.iter().all(|number| again.contains(number)));
        assert_eq!((arena.chunks.len(), arena.used), (1, 1000 * 7));
        // Two short ones in the place of a long one.
        arena.remove(runs[0]);
        let short = [arena.insert(&[1; 10]), arena.insert(&[2; 10])];
        assert_eq!((arena.get(short[0]), arena.get(short[1])), (&[1; 10][..], &[2; 10][..]));
        assert_eq!(arena.used, 1000 * 7);
    }

    #[test]
    fn numbers_nobody_has_are_empty() {
        let mut arena = Arena::default();
        arena.insert(b"x");
        for n in [2, 1 << 20, 1 << 30, ALONE, ALONE | 7] {
            assert_eq!(arena.get(NonZeroU32::new(n).expect("not 0")), b"", "{n}");
        }
    }

    proptest! {
        #[test]
        fn every_run_is_kept_as_it_came(
            steps in proptest::collection::vec((any::<u8>(), prop_oneof![
                9 => 1..300usize, 1 => 60_000..70_000usize, 1 => 200_000..300_000usize
            ]), 1..120)
        ) {
            let mut arena = Arena::default();
            let mut model: HashMap<Number, Vec<u8>> = HashMap::new();
            for (i, (choice, len)) in steps.into_iter().enumerate() {
                if choice < 100 && let Some(number) = model.keys().nth(usize::from(choice) % model.len().max(1)).copied() {
                    arena.remove(number);
                    model.remove(&number);
                } else {
                    let run = vec![i as u8 + 1; len];
                    let number = arena.insert(&run);
                    prop_assert!(model.insert(number, run).is_none());
                }
                for (number, run) in &model {
                    prop_assert!(arena.get(*number) == run);
                }
            }
        }
    }
}
