//! Byte-pair encoding: of all adjacent pairs in a piece that a merge joins, the merge of the lowest rank is applied
//! first, the leftmost of equals, until none is left.
//!
//! Knows ids and merges. Pieces begin as bytes (a byte-level vocabulary) or as characters; a character without a token
//! is spelled in byte tokens. Source: Sennrich and others, "Neural Machine Translation of Rare Words with Subword
//! Units" (2016).

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::merges::{Texts, resolve};
use super::pairs::PairMap;
use super::split::{SplitState, Splits};
use super::vocab::{Kind, Vocab};
use crate::error::{ModelError, Result};

/// No token: for a character that the vocabulary lacks, and for the end of a chain.
const NONE: u32 = u32::MAX;

/// Pieces up to this many symbols are joined by scanning all of them repeatedly.
const SHORT: usize = 32;

/// The longest token for which `joins_to` runs the merges.
const MAX_TRIED_BYTES: usize = 512;

/// The initial symbols of a piece.
#[derive(Debug)]
enum Start {
    /// Bytes, with the token of each.
    Bytes(Box<[u32; 256]>),
    /// Characters; `joined` holds the pairs of characters that some merge joins: a piece is cut between all others.
    Chars { joined: PairMap },
}

/// The spelling of characters without a token.
#[derive(Debug, Default)]
pub(super) struct Fallback {
    /// The byte tokens, if there are all 256.
    pub(super) bytes: Option<Box<[u32; 256]>>,
    pub(super) unknown: Option<u32>,
    /// Whether adjacent unknown characters become one unknown token.
    pub(super) fuse_unknown: bool,
}

/// A vocabulary's merge rules.
#[derive(Debug)]
pub(super) struct Bpe {
    splits: Splits,
    start: Start,
    /// Two ids to the rank of their merge and the resulting id.
    merges: PairMap,
    ignore_merges: bool,
    fallback: Fallback,
}

/// A symbol of a long piece.
struct Symbol {
    id: u32,
    /// Bytes of the piece, from `start` on.
    start: usize,
    len: usize,
    left: usize,
    right: usize,
}

/// Scratch memory of the merge loop, reused from text to text.
#[derive(Default)]
pub(super) struct BpeState {
    pub(super) splitting: SplitState,
    /// Symbols of a short piece: id and length in bytes.
    short: Vec<(u32, u32)>,
    /// Rank and result of each symbol of a short piece joined with the next one.
    joins: Vec<(u32, u32)>,
    long: Vec<Symbol>,
    /// Rank, place of the left symbol, ids of both.
    heap: BinaryHeap<Reverse<(u32, usize, u32, u32)>>,
}

/// The rules as given by a file.
pub(super) struct Rules {
    pub(super) splits: Splits,
    pub(super) byte_level: bool,
    pub(super) ignore_merges: bool,
    pub(super) fallback: Fallback,
}

impl Bpe {
    /// Builds the rules from `merges`: all of them with their ranks, in any number of parts.
    ///
    /// # Errors
    /// A merge whose left text, right text or result is not a token.
    pub(super) fn new<'a, I>(vocab: &Vocab, rules: Rules, merges: &[(Range<usize>, I)]) -> Result<Bpe>
    where
        I: Iterator<Item = Result<Texts<'a>>> + Clone + Send + Sync,
    {
        let parts = resolve(vocab, rules.byte_level, merges)?;
        let mut map = PairMap::with_capacity(parts.iter().map(|part| part.ids.len()).sum());
        let ids = parts.iter().flat_map(|part| &part.ids);
        map.extend((0u32..).zip(ids).map(|(rank, &[left, right, id])| ((left, right), (rank, id))));
        let mut pairs = PairMap::with_capacity(0);
        pairs.extend(parts.iter().flat_map(|part| &part.meeting).map(|&meeting| (meeting, (0, 0))));
        let start = if rules.byte_level {
            let mut bytes = Box::new([NONE; 256]);
            for byte in 0..=255u8 {
                bytes[usize::from(byte)] = vocab.find(&[byte]).unwrap_or(NONE);
            }
            Start::Bytes(bytes)
        } else {
            Start::Chars { joined: pairs }
        };
        let Rules { splits, ignore_merges, fallback, .. } = rules;
        Ok(Bpe { splits, start, merges: map, ignore_merges, fallback })
    }

    /// The steps that cut a text into pieces.
    pub(super) fn splits(&self) -> &Splits {
        &self.splits
    }

    /// Whether a piece that is a token becomes that token directly, regardless of the merges.
    pub(super) fn ignores_merges(&self) -> bool {
        self.ignore_merges
    }

    /// The spelling of characters without a token.
    pub(super) fn fallback(&self) -> &Fallback {
        &self.fallback
    }

    /// Every merge, the lowest rank first: left, right and result.
    pub(super) fn merges(&self) -> Vec<[u32; 3]> {
        let mut ranked: Vec<(u32, [u32; 3])> =
            self.merges.iter().map(|((left, right), (rank, id))| (rank, [left, right, id])).collect();
        ranked.sort_unstable();
        ranked.into_iter().map(|(_, merge)| merge).collect()
    }

    /// The result of merging two tokens.
    pub(super) fn joined(&self, left: u32, right: u32) -> Option<u32> {
        self.merges.get(left, right).map(|(_, id)| id)
    }

    /// Whether the merges turn the letters of a token into it. Not tried for very long ones: `false`.
    pub(super) fn joins_to(&self, vocab: &Vocab, id: u32, state: &mut BpeState) -> bool {
        let bytes = vocab.bytes(id);
        if bytes.len() > MAX_TRIED_BYTES {
            return false;
        }
        let mut ids = Vec::new();
        match &self.start {
            Start::Bytes(tokens) => {
                // A token's bytes need not be whole characters.
                state.short.clear();
                state.short.extend(bytes.iter().map(|&byte| (tokens[usize::from(byte)], 1)));
                self.join_short(bytes, state, &mut ids);
            }
            Start::Chars { .. } => {
                let Ok(text) = std::str::from_utf8(bytes) else { return false };
                self.join(text, |c, _| vocab.find(c.as_bytes()).unwrap_or(NONE), Step::Chars, state, &mut ids);
            }
        }
        ids == [id]
    }

    /// Appends the ids of a text.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, state: &mut BpeState, ids: &mut Vec<u32>) {
        let mut splitting = std::mem::take(&mut state.splitting);
        for piece in self.splits.apply(text, &mut splitting) {
            let piece = text.get(piece.clone()).unwrap_or_default();
            if self.ignore_merges
                && let Some(id) = vocab.find(piece.as_bytes())
            {
                ids.push(id);
                continue;
            }
            match &self.start {
                Start::Bytes(bytes) => self.join(piece, |_, byte| bytes[usize::from(byte)], Step::Bytes, state, ids),
                Start::Chars { joined } => {
                    let id = |c: &str, _| vocab.find(c.as_bytes()).unwrap_or(NONE);
                    // Where no merge joins two characters, the parts before and after are joined separately.
                    let mut start = 0;
                    let mut last: Option<char> = None;
                    for (at, c) in piece.char_indices() {
                        if last.is_some_and(|last| joined.get(last as u32, c as u32).is_none()) {
                            self.join(&piece[start..at], id, Step::Chars, state, ids);
                            start = at;
                        }
                        last = Some(c);
                    }
                    self.join(&piece[start..], id, Step::Chars, state, ids);
                }
            }
        }
        state.splitting = splitting;
    }

    /// Joins one piece; `id` gives the token of a character or of a byte.
    fn join(&self, piece: &str, id: impl Fn(&str, u8) -> u32, step: Step, state: &mut BpeState, ids: &mut Vec<u32>) {
        let len_of = |first: u8| match (step, first) {
            (Step::Bytes, _) | (_, 0..0x80) => 1,
            (_, 0x80..0xE0) => 2,
            (_, 0xE0..0xF0) => 3,
            (_, 0xF0..) => 4,
        };
        let symbol = |at: usize, first: u8| {
            let len = len_of(first);
            // A byte in the middle of a character has no text.
            (id(piece.get(at..at + len).unwrap_or_default(), first), len)
        };
        let bytes = piece.as_bytes();
        if bytes.len() <= SHORT {
            state.short.clear();
            let mut at = 0;
            while let Some(&first) = bytes.get(at) {
                let (id, len) = symbol(at, first);
                state.short.push((id, len as u32));
                at += len;
            }
            self.join_short(bytes, state, ids);
        } else {
            state.long.clear();
            let mut at = 0;
            while let Some(&first) = bytes.get(at) {
                let (id, len) = symbol(at, first);
                let place = state.long.len();
                state.long.push(Symbol { id, start: at, len, left: place.wrapping_sub(1), right: place + 1 });
                at += len;
            }
            self.join_long(piece, state, ids);
        }
    }

    fn rank(&self, left: u32, right: u32) -> (u32, u32) {
        self.merges.get(left, right).unwrap_or((NONE, NONE))
    }

    fn join_short(&self, piece: &[u8], state: &mut BpeState, ids: &mut Vec<u32>) {
        let BpeState { short: symbols, joins, .. } = state;
        joins.clear();
        joins.extend(symbols.windows(2).map(|pair| self.rank(pair[0].0, pair[1].0)));
        while let Some((at, &(rank, id))) = joins.iter().enumerate().min_by_key(|(_, (rank, _))| *rank)
            && rank != NONE
        {
            let (_, len) = symbols.remove(at + 1);
            symbols[at] = (id, symbols[at].1 + len);
            joins.remove(at);
            if at < joins.len() {
                joins[at] = self.rank(id, symbols[at + 1].0);
            }
            if at > 0 {
                joins[at - 1] = self.rank(symbols[at - 1].0, id);
            }
        }
        let mut at = 0;
        for &(id, len) in symbols.iter() {
            let end = at + len as usize;
            self.write(id, piece.get(at..end).unwrap_or_default(), ids);
            at = end;
        }
    }

    fn join_long(&self, piece: &str, state: &mut BpeState, ids: &mut Vec<u32>) {
        let BpeState { long: symbols, heap, .. } = state;
        heap.clear();
        let consider = |symbols: &[Symbol], heap: &mut BinaryHeap<_>, left: usize, right: usize| {
            if let (Some(a), Some(b)) = (symbols.get(left), symbols.get(right))
                && let Some((rank, _)) = self.merges.get(a.id, b.id)
            {
                heap.push(Reverse((rank, left, a.id, b.id)));
            }
        };
        for right in 1..symbols.len() {
            consider(symbols, heap, right - 1, right);
        }
        while let Some(Reverse((_, at, left_id, right_id))) = heap.pop() {
            let right = symbols[at].right;
            // Are both symbols unchanged? One that was merged into another has no length.
            let fresh = symbols[at].len > 0
                && symbols[at].id == left_id
                && symbols.get(right).is_some_and(|symbol| symbol.id == right_id);
            let Some((_, id)) = self.merges.get(left_id, right_id).filter(|_| fresh) else { continue };
            let (len, beyond) = (symbols[right].len, symbols[right].right);
            symbols[right].len = 0;
            symbols[at].id = id;
            symbols[at].len += len;
            symbols[at].right = beyond;
            if let Some(symbol) = symbols.get_mut(beyond) {
                symbol.left = at;
            }
            consider(symbols, heap, symbols[at].left, at);
            consider(symbols, heap, at, beyond);
        }
        let mut at = 0;
        while let Some(symbol) = symbols.get(at) {
            let bytes = piece.as_bytes().get(symbol.start..symbol.start + symbol.len).unwrap_or_default();
            self.write(symbol.id, bytes, ids);
            at = symbol.right;
        }
    }

    /// Writes a symbol: its token; without one, the tokens of its bytes, or unknown.
    fn write(&self, id: u32, bytes: &[u8], ids: &mut Vec<u32>) {
        if id != NONE {
            ids.push(id);
            return;
        }
        match (&self.fallback.bytes, self.fallback.unknown) {
            (Some(tokens), _) => ids.extend(bytes.iter().map(|&byte| tokens[usize::from(byte)])),
            (None, Some(unknown)) => {
                if !self.fallback.fuse_unknown || ids.last() != Some(&unknown) {
                    ids.push(unknown);
                }
            }
            // Some byte-level vocabularies lack the tokens of rare bytes: these are dropped.
            (None, None) => {}
        }
    }
}

/// The unit into which a piece is split.
#[derive(Clone, Copy)]
enum Step {
    Bytes,
    Chars,
}

/// The byte tokens, if there are all 256; the first of each.
///
/// # Errors
/// Some of them, but not all.
pub(super) fn byte_tokens(vocab: &Vocab) -> Result<Option<Box<[u32; 256]>>> {
    let mut bytes = [None; 256];
    for (id, kind, _) in vocab.iter() {
        if let Kind::Byte(byte) = kind {
            bytes[usize::from(byte)].get_or_insert(id);
        }
    }
    let found: Vec<u32> = bytes.into_iter().flatten().collect();
    match found.len() {
        0 => Ok(None),
        256 => Ok(found.try_into().ok().map(Box::new)),
        n => Err(ModelError::bad_tokenizer(format!("it has {n} of the 256 byte tokens"))),
    }
}
