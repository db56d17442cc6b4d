//! Joins one text into pieces: a chain of symbols, and a heap of the adjacent pairs that form a piece.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};
use std::ops::Range;

use super::spm::Spm;
use super::vocab::Vocab;

/// A part of the text on its way to a token: a link of a chain, empty once it is merged into its left neighbour.
struct Symbol {
    text: Range<usize>,
    left: usize,
    right: usize,
}

const NONE: usize = usize::MAX;

/// Two neighbours that together form a piece.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    /// Bytes of both; a pair whose symbols have grown since is stale.
    len: usize,
    /// Whether the joined piece is only an intermediate step.
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

/// Scratch memory, reused from text to text.
#[derive(Default)]
pub(super) struct MergeState {
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
}

/// The state of joining one text. All its indices come from the chain that it builds.
pub(super) struct Merge<'a> {
    spm: &'a Spm,
    vocab: &'a Vocab,
    text: &'a str,
    state: &'a mut MergeState,
    /// Where an unused piece was joined, to split it again.
    halves: HashMap<&'a str, usize>,
}

impl<'a> Merge<'a> {
    /// Joins a text whose spaces are already spelled `▁`.
    pub(super) fn of(spm: &'a Spm, vocab: &'a Vocab, text: &'a str, state: &'a mut MergeState) -> Merge<'a> {
        state.pairs.clear();
        state.symbols.clear();
        for (start, c) in text.char_indices() {
            let index = state.symbols.len();
            let left = if index == 0 { NONE } else { index - 1 };
            state.symbols.push(Symbol { text: start..start + c.len_utf8(), left, right: index + 1 });
        }
        if let Some(last) = state.symbols.last_mut() {
            last.right = NONE;
        }
        let mut merge = Merge { spm, vocab, text, state, halves: HashMap::new() };
        merge.run();
        merge
    }

    fn run(&mut self) {
        for right in 1..self.state.symbols.len() {
            self.consider(right - 1, right);
        }
        while let Some(pair) = self.state.pairs.pop() {
            let (left, right) = (&self.state.symbols[pair.left], &self.state.symbols[pair.right]);
            // Are both symbols still there, with the same lengths?
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
        let symbols = &mut self.state.symbols;
        let end = symbols[right].text.end;
        let beyond = symbols[right].right;
        symbols[right].text = end..end;
        symbols[left].text.end = end;
        symbols[left].right = beyond;
        let before = symbols[left].left;
        if beyond != NONE {
            symbols[beyond].left = left;
            self.consider(left, beyond);
        }
        if before != NONE {
            self.consider(before, left);
        }
    }

    fn consider(&mut self, left: usize, right: usize) {
        let (a, b) = (&self.state.symbols[left], &self.state.symbols[right]);
        let (len, text) = (a.text.len() + b.text.len(), &self.text[a.text.start..b.text.end]);
        if let Some((_, score, unused)) = self.spm.merged(self.vocab, text) {
            self.state.pairs.push(Pair { score, left, right, len, unused });
        }
    }

    /// Appends the tokens.
    pub(super) fn finish(&self, ids: &mut Vec<u32>) {
        let symbols = &self.state.symbols;
        let mut at = if symbols.is_empty() { NONE } else { 0 };
        while at != NONE {
            let symbol = &symbols[at];
            let text = &self.text[symbol.text.clone()];
            match self.spm.merged(self.vocab, text) {
                Some((id, _, false)) => ids.push(id),
                Some(_) => self.take_apart(text, ids),
                None => self.spm.push_bytes(text, ids),
            }
            at = symbol.right;
        }
    }

    /// Appends the parts of an unused piece, split until none of them is unused.
    fn take_apart(&self, text: &'a str, ids: &mut Vec<u32>) {
        // Parts still to be written, the leftmost last.
        let mut parts = vec![text];
        while let Some(part) = parts.pop() {
            match (self.spm.merged(self.vocab, part), self.halves.get(part)) {
                (Some((id, _, false)), _) => ids.push(id),
                (Some(_), Some(&middle)) => parts.extend([&part[middle..], &part[..middle]]),
                _ => self.spm.push_bytes(part, ids),
            }
        }
    }
}

impl Spm {
    /// Appends the ids of a text whose spaces are already spelled `▁`.
    pub(super) fn encode(&self, vocab: &Vocab, text: &str, state: &mut MergeState, ids: &mut Vec<u32>) {
        let mut start = 0;
        let mut last: Option<char> = None;
        for (at, c) in text.char_indices() {
            if last.is_some_and(|last| self.neighbours.get(last.into(), c.into()).is_none()) {
                Merge::of(self, vocab, &text[start..at], state).finish(ids);
                start = at;
            }
            last = Some(c);
        }
        Merge::of(self, vocab, &text[start..], state).finish(ids);
    }
}
