//! The most frequent of many, in fixed room: Space-Saving (Metwally, Agrawal, El Abbadi, 2005).
//!
//! So many keys are counted. One that is not among them takes the place of the one counted least, and its count, which
//! is the most it may have had before: so a count is never too low, and too high by its error at most. Whatever has more
//! than one in `MOST` of all is among them.

use std::collections::HashMap;
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// Keys that are counted in one list of one slice.
pub(super) const MOST: usize = 256;

/// See the module.
pub(super) struct Frequent {
    most: usize,
    items: Vec<Counted>,
    /// Where each key is.
    places: HashTable<usize>,
    hasher: RandomState,
    /// Where the last one was replaced.
    hand: usize,
    /// No count is below this.
    least: u64,
}

/// A key and how often it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) key: Box<[u8]>,
    /// Never too low.
    pub(super) count: u64,
    /// How much too high it may be.
    pub(super) error: u64,
}

impl Frequent {
    pub(super) fn new(most: usize) -> Frequent {
        let (hasher, places) = (RandomState::default(), HashTable::new());
        Frequent { most, items: Vec::new(), places, hasher, hand: 0, least: 0 }
    }

    pub(super) fn add(&mut self, key: &[u8], weight: u64) {
        let hash = self.hasher.hash_one(key);
        if let Some(at) = self.places.find(hash, |at| *self.items[*at].key == *key) {
            self.items[*at].count += weight;
            return;
        }
        let (at, error) = if self.items.len() < self.most {
            self.items.push(Counted { key: Box::default(), count: 0, error: 0 });
            (self.items.len() - 1, 0)
        } else {
            let at = self.least();
            let old = self.hasher.hash_one(&*self.items[at].key);
            if let Ok(place) = self.places.find_entry(old, |place| *place == at) {
                place.remove();
            }
            (at, self.items[at].count)
        };
        self.items[at] = Counted { key: key.into(), count: error + weight, error };
        let (items, hasher) = (&self.items, &self.hasher);
        self.places.insert_unique(hash, at, |at| hasher.hash_one(&*items[*at].key));
    }

    /// Where the one is that was counted least. Counts only grow, so those that had the least are met one after the other
    /// before all have to be looked at again.
    fn least(&mut self) -> usize {
        loop {
            for _ in 0..self.items.len() {
                self.hand = (self.hand + 1) % self.items.len();
                if self.items[self.hand].count <= self.least {
                    return self.hand;
                }
            }
            self.least = self.items.iter().map(|item| item.count).min().unwrap_or_default();
        }
    }
}

/// What several have counted together, the most frequent first, at most `most`.
pub(super) fn merge<'f>(all: impl Iterator<Item = &'f Frequent>, most: usize) -> Vec<Counted> {
    let mut together: HashMap<&[u8], (u64, u64), RandomState> = HashMap::default();
    for item in all.flat_map(|frequent| &frequent.items) {
        let (count, error) = together.entry(&item.key).or_default();
        (*count, *error) = (*count + item.count, *error + item.error);
    }
    let mut counted: Vec<_> = together.into_iter().collect();
    // What is sure comes first where counts are equal, and then the order is that of the octets.
    counted.sort_unstable_by(|(a, (m, e)), (b, (n, f))| n.cmp(m).then(e.cmp(f)).then(a.cmp(b)));
    counted.truncate(most);
    counted.into_iter().map(|(key, (count, error))| Counted { key: key.into(), count, error }).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// [I7] What Space-Saving promises: counts are never too low, nor too high by more than their error; and whoever
        /// has more than its share is there.
        #[test]
        fn counts_are_right_within_their_error(
            seen in proptest::collection::vec((0u8..40, 1u64..70), 0..600)
        ) {
            const ROOM: usize = 8;
            let mut frequent = Frequent::new(ROOM);
            let mut exact: HashMap<u8, u64> = HashMap::new();
            for (key, weight) in &seen {
                frequent.add(&[*key], *weight);
                *exact.entry(*key).or_default() += weight;
            }
            let all: u64 = exact.values().sum();
            let counted = merge([&frequent].into_iter(), usize::MAX);
            prop_assert_eq!(counted.len(), exact.len().min(ROOM));
            prop_assert_eq!(counted.iter().map(|item| item.count).sum::<u64>(), all);
            for Counted { key, count, error } in &counted {
                let truth = exact[&key[0]];
                prop_assert!((count - error..=*count).contains(&truth), "{:?}: {} ± {}: {}", key, count, error, truth);
                prop_assert!(*error <= all / ROOM as u64);
            }
            for (key, count) in exact.iter().filter(|(_, count)| **count > all / ROOM as u64) {
                prop_assert!(counted.iter().any(|item| item.key[0] == *key), "{}: {} of {}", key, count, all);
            }
        }
    }

    /// [I7]
    #[test]
    fn slices_add_up_and_the_most_frequent_come_first() {
        let [mut one, mut two] = [Frequent::new(4), Frequent::new(4)];
        one.add(b"a", 2);
        one.add(b"b", 3);
        two.add(b"a", 2);
        two.add(b"c", 1);
        let counted = merge([&one, &two].into_iter(), 2);
        let item = |key: &[u8], count| Counted { key: key.into(), count, error: 0 };
        assert_eq!(counted, [item(b"a", 4), item(b"b", 3)]);
    }

    /// [I7] [S7]
    #[test]
    fn room_does_not_grow_with_what_is_seen() {
        let mut frequent = Frequent::new(MOST);
        for number in 0..100_000u32 {
            frequent.add(&number.to_be_bytes(), 1);
        }
        assert_eq!((frequent.items.len(), frequent.places.len()), (MOST, MOST));
        assert!(frequent.places.capacity() < 4 * MOST, "{}", frequent.places.capacity());
    }
}
