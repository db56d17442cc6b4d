//! A hash map from two 32-bit numbers to another two, made for millions of look-ups.
//!
//! Knows neither tokens nor merges.

use std::hint::black_box;

use super::hash::{Seeds, place};

/// Pairs whose slots are read before the first of them is added, so that cache misses overlap.
const BLOCK: usize = 32;

/// The map; at most half of the slots are occupied.
#[derive(Debug)]
pub(super) struct PairMap {
    slots: Vec<Slot>,
    len: usize,
    seeds: Seeds,
}

/// A key plus one, 0 for none, and the value.
type Slot = (u64, u32, u32);

/// An entry: left and right number, and the value.
pub(super) type Pair = ((u32, u32), (u32, u32));

impl PairMap {
    pub(super) fn with_capacity(pairs: usize) -> PairMap {
        PairMap { slots: vec![(0, 0, 0); (pairs * 2).max(2)], len: 0, seeds: Seeds::new() }
    }

    /// Not 0: no vocabulary has the id 2^32 - 1, and no text such a character.
    #[inline]
    fn key(left: u32, right: u32) -> u64 {
        (u64::from(left) << 32 | u64::from(right)).wrapping_add(1)
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        place(self.seeds.mix(key), self.slots.len())
    }

    #[inline]
    fn next(&self, place: usize) -> usize {
        if place + 1 == self.slots.len() { 0 } else { place + 1 }
    }

    /// Adds each pair unless its key is present.
    pub(super) fn extend(&mut self, pairs: impl IntoIterator<Item = Pair>) {
        let mut pairs = pairs.into_iter();
        let mut block = Vec::with_capacity(BLOCK);
        loop {
            block.clear();
            block.extend(pairs.by_ref().take(BLOCK));
            if block.is_empty() {
                return;
            }
            let first = |&((left, right), _): &Pair| self.slots[self.place(PairMap::key(left, right))].0;
            black_box(block.iter().fold(0, |all, pair| all ^ first(pair)));
            block.iter().for_each(|&pair| self.insert(pair));
        }
    }

    fn insert(&mut self, ((left, right), value): Pair) {
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        let key = PairMap::key(left, right);
        let mut place = self.place(key);
        while self.slots[place].0 != 0 {
            if self.slots[place].0 == key {
                return;
            }
            place = self.next(place);
        }
        self.slots[place] = (key, value.0, value.1);
        self.len += 1;
    }

    fn grow(&mut self) {
        let mut larger = PairMap::with_capacity(self.slots.len());
        larger.extend(self.iter());
        *self = larger;
    }

    /// Every pair, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Pair> {
        let pairs = self.slots.iter().filter(|slot| slot.0 != 0);
        pairs.map(|&(key, a, b)| ((((key - 1) >> 32) as u32, (key - 1) as u32), (a, b)))
    }

    /// The value of this pair.
    #[inline]
    pub(super) fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let key = PairMap::key(left, right);
        let mut place = self.place(key);
        loop {
            match self.slots[place] {
                (0, ..) => return None,
                (found, a, b) if found == key => return Some((a, b)),
                _ => place = self.next(place),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_kept_as_the_map_grows() {
        for capacity in [0, 1, 4999, 5000, 20_000] {
            let mut map = PairMap::with_capacity(capacity);
            let pairs = |value| (0..5000u32).map(move |i| ((i, i / 3), (i, value)));
            map.extend(pairs(1));
            map.extend(pairs(2).chain([((0, 0), (7, 7))]));
            for i in 0..5000u32 {
                assert_eq!(map.get(i, i / 3), Some((i, 1)));
                assert_eq!(map.get(i, i / 3 + 1), None);
            }
            assert_eq!((map.get(0, u32::MAX), map.get(u32::MAX, 0)), (None, None));
        }
    }
}
