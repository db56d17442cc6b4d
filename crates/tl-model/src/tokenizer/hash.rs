//! Hashing of short texts and pairs of ids, for the tables that a tokenizer reads millions of times.
//!
//! Knows neither tokens nor tables. A table has any number of slots; [`place`] maps a hash to one of them.

use std::hash::{BuildHasher, RandomState};

/// Random numbers, unknown to any file, so that no file can make all its tokens or pairs collide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seeds(u64, u64);

impl Seeds {
    pub(super) fn new() -> Seeds {
        let state = RandomState::new();
        Seeds(state.hash_one(1u8), state.hash_one(2u8) | 1)
    }

    /// Both halves of the product depend on all bits of the value.
    #[inline]
    pub(super) fn mix(self, value: u64) -> u64 {
        let product = u128::from(value ^ self.0) * u128::from(self.1);
        (product >> 64) as u64 ^ product as u64
    }

    /// The key under which a table compares a text.
    #[inline]
    pub(super) fn key(self, text: &[u8]) -> TextKey {
        // Overlapping reads: together with the length, they determine a short text completely.
        let word = match (text.first_chunk::<4>(), text.last_chunk::<4>(), text) {
            (Some(_), _, _) if text.len() > TextKey::MAX_WHOLE => self.hash(text),
            (Some(first), Some(last), _) => {
                u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
            }
            (_, _, &[a, b, c]) => u64::from(a) | u64::from(b) << 8 | u64::from(c) << 16,
            (_, _, &[a, b]) => u64::from(a) | u64::from(b) << 8,
            (_, _, &[a]) => u64::from(a),
            _ => 0,
        };
        TextKey { word, len: text.len() as u32 }
    }

    fn hash(self, text: &[u8]) -> u64 {
        let (words, _) = text.as_chunks::<8>();
        let last = text.last_chunk::<8>().copied().unwrap_or_default();
        let words = words.iter().chain([&last]);
        words.fold(text.len() as u64, |hash, word| self.mix(hash ^ u64::from_le_bytes(*word)))
    }
}

/// The key of a text in a table: the text itself if it is short, else its hash. Tokens are shorter than 4 GiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct TextKey {
    pub(super) word: u64,
    pub(super) len: u32,
}

impl TextKey {
    /// The longest text, in bytes, that is its own key.
    const MAX_WHOLE: usize = 8;

    /// Whether equal keys are equal texts.
    #[inline]
    pub(super) fn is_whole(self) -> bool {
        self.len as usize <= TextKey::MAX_WHOLE
    }
}

/// The first slot to search in a table of `n` slots.
#[inline]
pub(super) fn place(hash: u64, n_slots: usize) -> usize {
    ((u128::from(hash) * n_slots as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_short_texts_differ() {
        let seeds = Seeds::new();
        let mut keys = std::collections::HashMap::new();
        // Every text of up to 9 letters of two, one of them the byte 0.
        for len in 0..=9 {
            for bits in 0..1u32 << len {
                let text: Vec<u8> = (0..len).map(|i| if bits >> i & 1 == 1 { b'a' } else { 0 }).collect();
                let key = seeds.key(&text);
                assert_eq!((key, key.is_whole()), (seeds.key(&text), len <= 8));
                let before = keys.insert((key.word, key.len), text.clone());
                assert_eq!(before, None, "{text:?}");
            }
        }
    }

    #[test]
    fn long_texts_are_hashed_to_the_last_byte() {
        let seeds = Seeds::new();
        let text: Vec<u8> = (0..40).collect();
        for len in 9..=40 {
            for changed in 0..len {
                let mut other = text[..len].to_vec();
                other[changed] ^= 1;
                assert_ne!(seeds.key(&text[..len]), seeds.key(&other), "byte {changed} of {len}");
            }
        }
    }

    #[test]
    fn places_lie_in_the_table() {
        for n_slots in [1, 2, 3, 1000] {
            assert_eq!((place(0, n_slots), place(u64::MAX, n_slots)), (0, n_slots - 1));
        }
    }
}
