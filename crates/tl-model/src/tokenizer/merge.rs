//! The joining of one text into pieces: a chain of symbols, and a heap of the neighbours that are a piece together.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::spm::Tokenizer;

/// A piece of the text on its way to a token: a link of a chain, empty once it is part of its left neighbour.
struct Symbol {
    text: Range<usize>,
    left: usize,
    right: usize,
    /// The token of a user-defined piece, which joins with nothing.
    whole: Option<u32>,
}

const NONE: usize = usize::MAX;

/// Two neighbours that are a piece together.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both; a pair whose symbols have grown since is out of date.
    len: usize,
    /// Whether the joined piece is only a step on the way.
    unused: bool,
}

impl Ord for Pair {
    fn cmp(&self, other: &Pair) -> Ordering {
        self.score.total_cmp(&other.score).then(other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Pair) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Pair) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// The joining of one text. Its indices are its own: every one of them comes from the chain it builds.
pub(super) struct Merge<'a> {
    tokenizer: &'a Tokenizer,
    text: &'a str,
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
    /// What an unused piece was joined from, to take it apart again.
    halves: HashMap<&'a str, usize>,
}

impl<'a> Merge<'a> {
    /// Joins what can be joined of a text whose spaces are already spelled `▁`.
    pub(super) fn of(tokenizer: &'a Tokenizer, text: &'a str) -> Merge<'a> {
        let mut symbols: Vec<Symbol> = Vec::with_capacity(text.len());
        let mut start = 0;
        while let Some(c) = text[start..].chars().next() {
            let whole = tokenizer.user_defined_at(&text[start..]);
            let len = whole.and_then(|id| tokenizer.piece(id)).map_or(c.len_utf8(), str::len);
            let index = symbols.len();
            let left = if index == 0 { NONE } else { index - 1 };
            symbols.push(Symbol { text: start..start + len, left, right: index + 1, whole });
            start += len;
        }
        if let Some(last) = symbols.last_mut() {
            last.right = NONE;
        }
        let pairs = BinaryHeap::with_capacity(symbols.len());
        let mut merge = Merge { tokenizer, text, symbols, pairs, halves: HashMap::new() };
        merge.run();
        merge
    }

    fn run(&mut self) {
        for right in 1..self.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(pair) = self.pairs.pop() {
            let (left, right) = (&self.symbols[pair.left], &self.symbols[pair.right]);
            // Both still there, and as long as they were?
            if left.text.is_empty() || right.text.is_empty() || left.text.len() + right.text.len() != pair.len {
                continue;
            }
            if pair.unused {
                self.halves.insert(&self.text[left.text.start..right.text.end], left.text.len());
            }
            self.join(pair.left, pair.right);
        }
    }

    fn join(&mut self, left: usize, right: usize) {
        let end = self.symbols[right].text.end;
        let beyond = self.symbols[right].right;
        self.symbols[right].text = end..end;
        self.symbols[left].text.end = end;
        self.symbols[left].right = beyond;
        if beyond != NONE {
            self.symbols[beyond].left = left;
            self.consider(left, beyond);
        }
        let before = self.symbols[left].left;
        if before != NONE {
            self.consider(before, left);
        }
    }

    fn consider(&mut self, left: usize, right: usize) {
        let (a, b) = (&self.symbols[left], &self.symbols[right]);
        if a.whole.is_some() || b.whole.is_some() {
            return;
        }
        let (len, text) = (a.text.len() + b.text.len(), &self.text[a.text.start..b.text.end]);
        if let Some((_, score, unused)) = self.tokenizer.merged(text) {
            self.pairs.push(Pair { score, left, right, len, unused });
        }
    }

    /// Writes the tokens.
    pub(super) fn finish(&self, ids: &mut Vec<u32>) {
        let mut at = if self.symbols.is_empty() { NONE } else { 0 };
        // Parts of an unused piece that are still to be written, the leftmost last.
        let mut parts: Vec<&str> = Vec::new();
        while at != NONE {
            let symbol = &self.symbols[at];
            match symbol.whole {
                Some(id) => ids.push(id),
                None => parts.push(&self.text[symbol.text.clone()]),
            }
            while let Some(part) = parts.pop() {
                match (self.tokenizer.merged(part), self.halves.get(part)) {
                    (Some((id, _, false)), _) => ids.push(id),
                    (Some(_), Some(&middle)) => parts.extend([&part[middle..], &part[..middle]]),
                    _ => self.tokenizer.push_bytes(part, ids),
                }
            }
            at = symbol.right;
        }
    }
}
