//! The tokens themselves: their bytes in one arena, their kinds, and ids by bytes.
//!
//! Knows nothing of splitting or joining. A token of a byte-level vocabulary is kept as the bytes that it stands for,
//! not as the letters that spell them in a file.

use std::hint::black_box;

use super::bytes::push_spelled;
use super::hash::{Seeds, TextKey, place};
use crate::error::{ModelError, Result};

/// The kind of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that joining can make.
    Normal,
    /// Stands for text that cannot be spelled.
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

/// A slot of the table: the key of a token's bytes, and its id plus one (0: empty).
type Slot = (u64, u32, u32);

/// Texts whose slots are read before the first of them is compared, so that cache misses overlap.
pub(super) const BLOCK: usize = 32;

/// All tokens of a model.
#[derive(Debug)]
pub(super) struct Vocab {
    bytes: Vec<u8>,
    /// Start of each token in `bytes`, then the end of the last one.
    starts: Vec<u32>,
    kinds: Vec<Kind>,
    /// At most three of five are occupied; empty before [`Vocab::index`].
    slots: Vec<Slot>,
    /// Whether two indexed tokens have the same bytes.
    has_twins: bool,
    seeds: Seeds,
}

/// A text to look up: its key, and the first slot to search.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probe {
    key: TextKey,
    place: usize,
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

    /// Adds the token with the next id of a byte-level vocabulary: the bytes that `text` spells, or `text` verbatim.
    pub(super) fn push_spelled(&mut self, text: &[u8], kind: Kind) -> Result<()> {
        let is_spelled = push_spelled(text, &mut self.bytes);
        self.end(if is_spelled { kind } else { Kind::Verbatim })
    }

    /// Ends the next token here.
    fn end(&mut self, kind: Kind) -> Result<()> {
        let end = u32::try_from(self.bytes.len())
            .map_err(|_| ModelError::bad_tokenizer("its tokens are longer than 4 GiB together"))?;
        if self.kinds.len() >= i32::MAX as usize {
            return Err(ModelError::bad_tokenizer("it has more than 2^31 tokens"));
        }
        self.starts.push(end);
        self.kinds.push(kind);
        Ok(())
    }

    /// The number of tokens.
    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Drops the tokens from `n` on.
    pub(super) fn truncate(&mut self, n: usize) {
        self.kinds.truncate(n);
        self.starts.truncate(n.saturating_add(1));
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
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Kind, &[u8])> + Clone {
        self.kinds.iter().enumerate().map(|(id, &kind)| (id as u32, kind, self.bytes(id as u32)))
    }

    /// Indexes the tokens of these kinds by their bytes; of equal ones, the first of the kind named first.
    pub(super) fn index(&mut self, kinds: &[&[Kind]]) {
        let count = self.kinds.iter().filter(|kind| kinds.iter().any(|kinds| kinds.contains(kind))).count();
        self.slots = vec![(0, 0, 0); count + count * 2 / 3 + 2];
        kinds.iter().for_each(|kinds| self.index_kinds(kinds));
    }

    fn index_kinds(&mut self, kinds: &[Kind]) {
        let mut block = Vec::with_capacity(BLOCK);
        let n_tokens = self.len() as u32;
        for first in (0..n_tokens).step_by(BLOCK) {
            block.clear();
            for id in first..n_tokens.min(first + BLOCK as u32) {
                if self.kind(id).is_some_and(|kind| kinds.contains(&kind)) && !self.bytes(id).is_empty() {
                    block.push((id, self.probe(self.bytes(id))));
                }
            }
            self.read_ahead(block.iter().map(|(_, probe)| probe));
            block.iter().for_each(|&(id, probe)| self.insert(id, probe));
        }
    }

    fn insert(&mut self, id: u32, Probe { key, mut place }: Probe) {
        loop {
            let slot = self.slots[place];
            if slot.2 == 0 {
                self.slots[place] = (key.word, key.len, id + 1);
                return;
            }
            if self.is_match(slot, key, self.bytes(id)) {
                self.has_twins = true;
                return;
            }
            place = self.next(place);
        }
    }

    #[inline]
    fn next(&self, place: usize) -> usize {
        if place + 1 == self.slots.len() { 0 } else { place + 1 }
    }

    /// Whether a slot holds the token with these bytes, which have this key.
    #[inline]
    fn is_match(&self, (word, len, id): Slot, key: TextKey, bytes: &[u8]) -> bool {
        (word, len) == (key.word, key.len) && (key.is_whole() || self.bytes(id - 1) == bytes)
    }

    /// Starts the search for these bytes.
    #[inline]
    pub(super) fn probe(&self, bytes: &[u8]) -> Probe {
        let key = self.seeds.key(bytes);
        // The key of a short text holds all its bytes; the length tells equal words apart.
        let hash = self.seeds.mix(key.word ^ u64::from(key.len) << 56);
        Probe { key, place: place(hash, self.slots.len()) }
    }

    /// Reads the first slot of each, so that they are in the cache.
    pub(super) fn read_ahead<'a>(&self, probes: impl Iterator<Item = &'a Probe>) {
        let slot = |probe: &Probe| self.slots.get(probe.place).map_or(0, |slot| slot.0);
        black_box(probes.fold(0, |all, probe| all ^ slot(probe)));
    }

    /// The id of the indexed token with these bytes.
    pub(super) fn find(&self, bytes: &[u8]) -> Option<u32> {
        self.find_from(bytes, self.probe(bytes))
    }

    /// As [`Vocab::find`], from the probe of the same bytes.
    #[inline]
    pub(super) fn find_from(&self, bytes: &[u8], Probe { key, mut place }: Probe) -> Option<u32> {
        if self.slots.is_empty() || bytes.is_empty() {
            return None;
        }
        loop {
            match self.slots[place] {
                (_, _, 0) => return None,
                // A slot may still hold a dropped token.
                slot if self.is_match(slot, key, bytes) => {
                    return Some(slot.2 - 1).filter(|&id| self.kind(id).is_some());
                }
                _ => place = self.next(place),
            }
        }
    }

    /// As [`Vocab::find`], trying a token and the next one first: merges come in the order of the tokens that they
    /// make.
    pub(super) fn find_near(&self, bytes: &[u8], near: u32) -> Option<u32> {
        let is_it = |&id: &u32| matches!(self.kind(id), Some(Kind::Normal)) && self.bytes(id) == bytes;
        let near = [near, near.saturating_add(1)].into_iter().find(is_it).filter(|_| !self.has_twins);
        near.or_else(|| self.find(bytes))
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
        vocab.truncate(4);
        assert_eq!((vocab.len(), vocab.find(b"ab"), vocab.find(b"a"), vocab.kind(4)), (4, None, Some(0), None));
    }
}
