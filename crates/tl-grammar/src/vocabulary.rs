//! A model's tokens in llguidance's form: the bytes of each in a prefix tree.
//!
//! Tokens that are not text (control tokens, end tokens) are not in the tree, so that a grammar allows them only where
//! a text may end. Of tokens with the same bytes the first is in the tree and stands for the others.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use llguidance::toktrie::{ApproximateTokEnv, INVALID_TOKEN, SimpleVob, TokEnv, TokRxInfo, TokTrie};
use tl_model::Tokenizer;

use crate::error::{GrammarError, Result};
use crate::limits::{MAX_TOKEN_BYTES, MAX_TOKENS, MAX_TREE_NODES};

/// First byte of llguidance's special tokens; no UTF-8 text has it.
const SPECIAL_MARK: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// The tokens of a model.
pub(crate) struct Vocabulary {
    /// llguidance's view of it. It declares that its tokenization is not the model's: then no tokens are forced on a
    /// text, and the model chooses among all that spell it.
    pub(crate) env: TokEnv,
    n_tokens: usize,
    /// Tokens with the bytes of an earlier one: (earlier, this), in the order of the latter.
    twins: Vec<(u32, u32)>,
}

impl Vocabulary {
    pub(crate) fn new(tokenizer: &Tokenizer, is_end: impl Fn(u32) -> bool) -> Result<Vocabulary> {
        let n_tokens = tokenizer.vocab_size();
        if n_tokens > MAX_TOKENS {
            return Err(GrammarError::Vocabulary {
                problem: format!("it has {n_tokens} tokens, at most {MAX_TOKENS} can be masked"),
            });
        }
        let n = n_tokens as u32;
        let mut words: Vec<Vec<u8>> = vec![Vec::new(); n_tokens];
        let mut twins = Vec::new();
        let mut first: HashMap<Vec<u8>, u32> = HashMap::with_capacity(n_tokens);
        for (id, word) in (0..n).zip(&mut words) {
            let Some(bytes) = tokenizer.text_bytes(id).filter(|bytes| is_text(bytes) && !is_end(id)) else { continue };
            match first.entry(bytes.into_owned()) {
                Entry::Occupied(entry) => twins.push((*entry.get(), id)),
                Entry::Vacant(entry) => {
                    word.clone_from(entry.key());
                    entry.insert(id);
                }
            }
        }
        drop(first);
        check_tree(&words)?;
        let ends: Vec<u32> = (0..n).filter(|&id| is_end(id)).collect();
        let trie = TokTrie::from(&TokRxInfo::new(n, ends.first().copied().unwrap_or(INVALID_TOKEN)), &words);
        let trie = if ends.len() > 1 { trie.with_eos_tokens(&ends) } else { trie };
        Ok(Vocabulary { env: Arc::new(ApproximateTokEnv::new(trie)), n_tokens, twins })
    }

    /// The token that stands for this one in the tree.
    pub(crate) fn in_tree(&self, token: u32) -> u32 {
        self.twins.binary_search_by_key(&token, |&(_, twin)| twin).map_or(token, |at| self.twins[at].0)
    }

    /// Sets to minus infinity the logits of all tokens outside the set, and those beyond the tokenizer's vocabulary,
    /// which a model may have.
    pub(crate) fn mask(&self, allowed: &SimpleVob, logits: &mut [f32]) {
        let words = allowed.as_slice();
        let is_allowed = |id: usize| words.get(id / 32).is_some_and(|word| word >> (id % 32) & 1 == 1);
        let mut twins = self.twins.iter().peekable();
        for (id, logit) in logits.iter_mut().enumerate() {
            // A twin's own bit is never set.
            let in_tree = twins.next_if(|&&(_, twin)| twin as usize == id).map_or(id, |&(first, _)| first as usize);
            if id >= self.n_tokens || !is_allowed(in_tree) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }
}

/// Whether a grammar can contain these bytes.
fn is_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= MAX_TOKEN_BYTES && bytes.first() != Some(&SPECIAL_MARK)
}

/// Checks the number of tree nodes: all bytes of the words but those shared with the word before in sorted order.
fn check_tree(words: &[Vec<u8>]) -> Result<()> {
    let mut sorted: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    sorted.sort_unstable();
    let shared = |pair: &[&[u8]]| pair[0].iter().zip(pair[1]).take_while(|(a, b)| a == b).count();
    let total: usize = words.iter().map(Vec::len).sum();
    let nodes = total - sorted.windows(2).map(shared).sum::<usize>();
    if nodes == 0 {
        return Err(GrammarError::Vocabulary { problem: "none of its tokens is text".to_owned() });
    }
    if nodes > MAX_TREE_NODES {
        let problem = format!("its tokens make a tree of {nodes} nodes, at most {MAX_TREE_NODES} are possible");
        return Err(GrammarError::Vocabulary { problem });
    }
    Ok(())
}
