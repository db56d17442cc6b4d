//! The tokens themselves: their bytes in one arena, what each is for, and ids by bytes.
//!
//! Knows nothing of how a text is cut or joined. A token of a byte-level vocabulary is kept as the bytes it stands for,
//! not as the letters that spell them in a file.

use std::hash::{BuildHasher, RandomState};

use super::bad;
use super::bytes::push_spelled;
use crate::error::Result;

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that joining can make.
    Normal,
    /// Stands for what cannot be spelled.
    Unknown,
    /// A mark such as the beginning of a text; it has no text of its own.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// In the vocabulary, but never the result of encoding.
    Unused,
    /// In a byte-level vocabulary, a text whose letters spell no bytes; never the result of encoding.
    Verbatim,
    /// One byte.
    Byte(u8),
}

/// A place of the hash table: an id plus one (0 is empty), and the upper half of its hash.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    id: u32,
    tag: u32,
}

/// All tokens of a model.
#[derive(Debug)]
pub(super) struct Vocab {
    bytes: Vec<u8>,
    /// Where each token begins in `bytes`, and at last where the last one ends.
    starts: Vec<u32>,
    kinds: Vec<Kind>,
    /// A power of two of slots, at most half of them taken; empty before [`Vocab::index`].
    slots: Vec<Slot>,
    /// Whether two indexed tokens have the same bytes.
    has_twins: bool,
    seeds: Seeds,
}

/// Random numbers that no file can know, so that none can make all its tokens or pairs collide.
#[derive(Clone, Copy, Debug)]
struct Seeds(u64, u64);

impl Seeds {
    fn new() -> Seeds {
        let state = RandomState::new();
        Seeds(state.hash_one(1u8), state.hash_one(2u8) | 1)
    }

    /// Both halves of the product depend on all bits of the value.
    #[inline]
    fn mix(self, value: u64) -> u64 {
        let product = u128::from(value ^ self.0) * u128::from(self.1);
        (product >> 64) as u64 ^ product as u64
    }

    fn hash(self, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let hash = words.iter().fold(bytes.len() as u64, |hash, word| self.mix(hash ^ u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(hash ^ u64::from_le_bytes(last))
    }
}

impl Vocab {
    pub(super) fn new() -> Vocab {
        Vocab {
            bytes: Vec::new(),
            starts: vec![0],
            kinds: Vec::new(),
            slots: Vec::new(),
            has_twins: false,
            seeds: Seeds::new(),
        }
    }

    /// Adds the token with the next id.
    pub(super) fn push(&mut self, bytes: &[u8], kind: Kind) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        self.end(kind)
    }

    /// Adds the token with the next id of a byte-level vocabulary: of the bytes that `text` spells, or verbatim.
    pub(super) fn push_spelled(&mut self, text: &str, kind: Kind) -> Result<()> {
        let is_spelled = push_spelled(text, &mut self.bytes);
        self.end(if is_spelled { kind } else { Kind::Verbatim })
    }

    /// Ends the next token here.
    fn end(&mut self, kind: Kind) -> Result<()> {
        let end = u32::try_from(self.bytes.len()).map_err(|_| bad("its tokens are longer than 4 GiB together"))?;
        if self.kinds.len() >= i32::MAX as usize {
            return Err(bad("it has more than 2^31 tokens"));
        }
        self.starts.push(end);
        self.kinds.push(kind);
        Ok(())
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// A token's bytes; none for an id outside the vocabulary.
    pub(super) fn bytes(&self, id: u32) -> &[u8] {
        let place = id as usize;
        match (self.starts.get(place), self.starts.get(place + 1)) {
            (Some(&start), Some(&end)) => self.bytes.get(start as usize..end as usize).unwrap_or_default(),
            _ => &[],
        }
    }

    pub(super) fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Every token with its kind and bytes.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Kind, &[u8])> {
        self.kinds.iter().enumerate().map(|(id, &kind)| (id as u32, kind, self.bytes(id as u32)))
    }

    /// Makes the tokens of these kinds findable by their bytes; of equal ones, the first of the kind named first.
    pub(super) fn index(&mut self, kinds: &[&[Kind]]) {
        let count = self.kinds.iter().filter(|kind| kinds.iter().any(|kinds| kinds.contains(kind))).count();
        self.slots = vec![Slot::default(); (count * 2).next_power_of_two().max(2)];
        kinds.iter().for_each(|kinds| self.index_kinds(kinds));
    }

    fn index_kinds(&mut self, kinds: &[Kind]) {
        for id in 0..self.len() as u32 {
            let bytes = self.bytes(id);
            if bytes.is_empty() || !self.kind(id).is_some_and(|kind| kinds.contains(&kind)) {
                continue;
            }
            let (mut place, tag) = self.place(bytes);
            loop {
                match self.slots[place] {
                    Slot { id: 0, .. } => {
                        self.slots[place] = Slot { id: id + 1, tag };
                        break;
                    }
                    slot if slot.tag == tag && self.bytes(slot.id - 1) == bytes => {
                        self.has_twins = true;
                        break;
                    }
                    _ => place = (place + 1) & (self.slots.len() - 1),
                }
            }
        }
    }

    /// The id of the indexed token with these bytes.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        if self.slots.is_empty() || bytes.is_empty() {
            return None;
        }
        let (mut place, tag) = self.place(bytes);
        loop {
            match self.slots[place] {
                Slot { id: 0, .. } => return None,
                slot if slot.tag == tag && self.bytes(slot.id - 1) == bytes => return Some(slot.id - 1),
                _ => place = (place + 1) & (self.slots.len() - 1),
            }
        }
    }

    /// As [`Vocab::find`], looking first at a token and at the one behind it: merges come in the order of what they make.
    pub(super) fn find_near(&self, bytes: &[u8], near: u32) -> Option<u32> {
        let is_it = |&id: &u32| matches!(self.kind(id), Some(Kind::Normal)) && self.bytes(id) == bytes;
        let near = [near, near.saturating_add(1)].into_iter().find(is_it).filter(|_| !self.has_twins);
        near.or_else(|| self.find(bytes))
    }

    /// The first slot to look into, and the tag; there are slots.
    fn place(&self, bytes: &[u8]) -> (usize, u32) {
        let hash = self.seeds.hash(bytes);
        (hash as usize & (self.slots.len() - 1), (hash >> 32) as u32)
    }
}

/// A map from two numbers of 32 bits to another two, made for millions of look-ups.
#[derive(Debug)]
pub(super) struct PairMap {
    slots: Vec<PairSlot>,
    len: usize,
    seeds: Seeds,
}

#[derive(Clone, Copy, Debug)]
struct PairSlot {
    key: u64,
    value: (u32, u32),
}

/// The key of an empty slot; both its halves lie outside every vocabulary and every range of characters.
const EMPTY: u64 = u64::MAX;

impl PairMap {
    pub(super) fn with_capacity(pairs: usize) -> PairMap {
        let empty = PairSlot { key: EMPTY, value: (0, 0) };
        let slots = vec![empty; (pairs * 2).next_power_of_two().max(2)];
        PairMap { slots, len: 0, seeds: Seeds::new() }
    }

    fn key(left: u32, right: u32) -> u64 {
        u64::from(left) << 32 | u64::from(right)
    }

    fn place(&self, key: u64) -> usize {
        self.seeds.mix(key) as usize & (self.slots.len() - 1)
    }

    /// Adds a pair unless it is there.
    pub(super) fn insert(&mut self, left: u32, right: u32, value: (u32, u32)) {
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        let key = PairMap::key(left, right);
        let mut place = self.place(key);
        while self.slots[place].key != EMPTY {
            if self.slots[place].key == key {
                return;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
        self.slots[place] = PairSlot { key, value };
        self.len += 1;
    }

    fn grow(&mut self) {
        let mut larger = PairMap::with_capacity(self.slots.len());
        for slot in self.slots.iter().filter(|slot| slot.key != EMPTY) {
            larger.insert((slot.key >> 32) as u32, slot.key as u32, slot.value);
        }
        *self = larger;
    }

    /// What was added for this pair.
    #[inline]
    pub(super) fn get(&self, left: u32, right: u32) -> Option<(u32, u32)> {
        let key = PairMap::key(left, right);
        let mut place = self.place(key);
        loop {
            let slot = self.slots[place];
            if slot.key == EMPTY {
                return None;
            }
            if slot.key == key {
                return Some(slot.value);
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_indexed() {
        let mut vocab = Vocab::new();
        let tokens =
            [("a", Kind::Normal), ("b", Kind::Control), ("", Kind::Normal), ("a", Kind::Normal), ("ab", Kind::Unused)];
        for (text, kind) in tokens {
            vocab.push(text.as_bytes(), kind).unwrap();
        }
        assert_eq!(vocab.find(b"a"), None, "nothing is indexed yet");
        vocab.index(&[&[Kind::Normal, Kind::Unused]]);
        let check = |text: &str, expected| assert_eq!(vocab.find(text.as_bytes()), expected, "{text:?}");
        check("a", Some(0));
        check("b", None);
        check("", None);
        check("ab", Some(4));
        check("abc", None);
        assert_eq!((vocab.len(), vocab.bytes(4), vocab.bytes(5)), (5, &b"ab"[..], &b""[..]));
        assert_eq!((vocab.kind(4), vocab.kind(5)), (Some(Kind::Unused), None));
    }

    #[test]
    fn pairs_are_kept_as_the_map_grows() {
        let mut map = PairMap::with_capacity(0);
        for i in 0..5000u32 {
            map.insert(i, i / 3, (i, 1));
            map.insert(i, i / 3, (i, 2));
        }
        for i in 0..5000u32 {
            assert_eq!(map.get(i, i / 3), Some((i, 1)));
            assert_eq!(map.get(i, i / 3 + 1), None);
        }
    }
}
