//! A tokenizer written as `tokenizer.ggml.*`, the keys that `gguf` reads.
//!
//! Where GGUF cannot express a rule, so that ids would differ, the result is an error if ordinary texts are affected,
//! and a note if only rare texts are, or texts that a chat template writes anyway. Knows the meaning of the keys; of
//! the model, only its number of tokens.

use std::collections::HashMap;

use super::bpe::{Bpe, BpeState};
use super::bytes::char_of;
use super::encoder::{Joining, Tokenizer};
use super::normalize::{Normalizer, SPACE};
use super::special::Special;
use super::split::{Behavior, PreTokenizer};
use super::vocab::Kind;
use crate::error::{ModelError, Result};
use crate::format::write::GgufHeader;

/// Tokens named in a note before the rest are counted.
const NAMED: usize = 3;

/// The most padding rows of an embedding after the tokens.
const MAX_PADDING: usize = 1 << 16;
/// Longer pieces are not tried: no text contains them by chance.
const MAX_PIECE_BYTES: usize = 256;

/// The most characters whose runs are merged in an order of their own: spaces, tabs and line ends are.
const MAX_LOOSE: usize = 16;

/// A tokenizer to be written for a model.
pub struct TokenizerExport<'a> {
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
    /// Rows of the model's embedding: other programs expect this many tokens.
    pub n_rows: usize,
    /// Tokens after which a model has finished, from files other than the tokenizer's.
    pub stop_tokens: &'a [u32],
    /// The model's name in the file.
    pub model_name: &'a str,
}

impl TokenizerExport<'_> {
    /// Adds the keys. Returns notes for the user, one sentence each.
    ///
    /// # Errors
    /// A tokenizer that GGUF's keys cannot describe.
    pub fn write(&self, header: &mut GgufHeader) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let bpe = match &self.tokenizer.joining {
            Joining::Bpe(bpe) => bpe,
            Joining::Spm(_) => return Err(impossible("a tokenizer that is SentencePiece's already")),
        };
        self.check_len(&mut notes)?;
        let merges = bpe.merges();
        if let Some(&[left, right, _]) = merges.iter().find(|merge| merge.iter().any(|&id| !self.is_row(id))) {
            let texts = [left, right].map(|id| self.spelled(id));
            return Err(ModelError::bad_tokenizer(format!(
                "its merge of {texts:?} has a token that is no row of the model's embedding"
            )));
        }
        if self.tokenizer.byte_level {
            self.write_byte_level(bpe, &merges, header, &mut notes)?;
        } else {
            self.write_pieces(bpe, &merges, header, &mut notes)?;
        }
        self.write_specials(bpe, header, &mut notes);
        Ok(notes)
    }

    fn is_row(&self, id: u32) -> bool {
        (id as usize) < self.n_rows
    }

    /// Drops tokens beyond the embedding if no text becomes one of them.
    fn check_len(&self, notes: &mut Vec<String>) -> Result<()> {
        let n_tokens = self.tokenizer.vocab.len();
        if self.n_rows > n_tokens.saturating_add(MAX_PADDING) {
            let problem = format!("it has {n_tokens} tokens, far less than the {} rows of the embedding", self.n_rows);
            return Err(ModelError::bad_tokenizer(problem));
        }
        if n_tokens <= self.n_rows {
            return Ok(());
        }
        let beyond = self.tokenizer.vocab.iter().skip(self.n_rows);
        let texts: Vec<_> = beyond.clone().map(|(id, ..)| self.spelled(id)).collect();
        if beyond.into_iter().any(|(_, kind, _)| !matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unused)) {
            let problem = format!("it has {n_tokens} tokens, but the model's embedding has {} rows", self.n_rows);
            return Err(ModelError::bad_tokenizer(problem));
        }
        notes.push(format!("tokens beyond the embedding's {} rows are left out: {}", self.n_rows, named(&texts)));
        Ok(())
    }

    /// A token's text in the spelling of files.
    fn spelled(&self, id: u32) -> String {
        let bytes = self.tokenizer.vocab.bytes(id);
        match self.tokenizer.byte_level && self.tokenizer.vocab.kind(id) != Some(Kind::Verbatim) {
            true => bytes.iter().map(|&byte| char_of(byte)).collect(),
            false => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// The tokens' texts and types; `kind` may override a token's type.
    fn write_tokens(&self, header: &mut GgufHeader, kind: impl Fn(u32, Kind) -> Kind) {
        let vocab = &self.tokenizer.vocab;
        let (mut texts, mut types) = (Vec::with_capacity(self.n_rows), Vec::with_capacity(self.n_rows));
        for id in (0..self.n_rows).map(|id| id as u32) {
            let is_empty = vocab.bytes(id).is_empty();
            let own = vocab.kind(id).filter(|kind| !is_empty || *kind != Kind::Unused);
            let text = self.tokenizer.token_text(id).filter(|_| own.is_some());
            // Every row has a token, and no two tokens have the same text.
            texts.push(text.map_or_else(|| format!("[PAD{id}]"), |text| text.into_owned()));
            types.push(match own.map_or(Kind::Unused, |own| kind(id, own)) {
                Kind::Normal | Kind::Verbatim => 1,
                Kind::Unknown => 2,
                Kind::Control => 3,
                Kind::UserDefined => 4,
                Kind::Unused => 5,
                Kind::Byte(_) => 6,
            });
        }
        header.strings("tokenizer.ggml.tokens", &texts).i32s("tokenizer.ggml.token_type", &types);
    }

    fn write_byte_level(
        &self,
        bpe: &Bpe,
        merges: &[[u32; 3]],
        header: &mut GgufHeader,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let pre = self.pre_tokenizer(bpe)?;
        self.check_normalizers(false, notes)?;
        if self.tokenizer.prefix_rule.is_some() {
            return Err(impossible("a space before every text, in a byte-level vocabulary"));
        }
        header.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", pre.name());
        self.write_tokens(header, |_, kind| kind);
        let texts = merges.iter().map(|&[left, right, _]| {
            let (left, right) = (self.spelled(left), self.spelled(right));
            match left.contains(' ') {
                true => Err(impossible(&format!("a merge of {left:?}, which has a space"))),
                false => Ok(format!("{left} {right}")),
            }
        });
        header.strings("tokenizer.ggml.merges", &texts.collect::<Result<Vec<_>>>()?);
        Ok(())
    }

    /// The row that splits texts as this tokenizer does, with the same `ignore_merges`.
    fn pre_tokenizer(&self, bpe: &Bpe) -> Result<&'static PreTokenizer> {
        let alike: Vec<_> = PreTokenizer::alike(bpe.splits()).collect();
        if let Some(same) = alike.iter().find(|row| row.ignore_merges == bpe.ignores_merges()) {
            return Ok(same);
        }
        let Some(first) = alike.first() else {
            return Err(impossible("expressions of its pre-tokenizer that are none of those with a name"));
        };
        // If the merges turn the letters of every token into it, `ignore_merges` makes no difference.
        let mut state = BpeState::default();
        let mut tokens = self.tokenizer.vocab.iter().filter(|(_, kind, _)| *kind == Kind::Normal);
        match tokens.find(|&(id, ..)| !bpe.joins_to(&self.tokenizer.vocab, id, &mut state)) {
            None => Ok(first),
            Some((id, ..)) => {
                let word = if bpe.ignores_merges() { "has" } else { "lacks" };
                let text = self.spelled(id);
                Err(impossible(&format!("{} which {word} `ignore_merges`, as {text:?} needs it", first.name())))
            }
        }
    }

    /// Whether a space is put before a text. GGUF can express no normalization, or each space as `▁` and one put
    /// before. Composing (NFC) is left out, as in all GGUF files: few texts are not composed.
    fn check_normalizers(&self, has_spaces: bool, notes: &mut Vec<String>) -> Result<bool> {
        let prepended = Normalizer::Prepend(SPACE.to_string().into());
        let (mut is_prepended, mut is_replaced) = (false, false);
        for normalizer in &self.tokenizer.normalizers {
            match normalizer {
                Normalizer::Nfc => notes.push("texts are no longer composed first (Unicode's NFC)".to_owned()),
                other if has_spaces && *other == Normalizer::spaces() && !is_replaced => is_replaced = true,
                other if has_spaces && *other == prepended && !is_prepended => is_prepended = true,
                other => return Err(impossible(&format!("the normalizer {other:?}"))),
            }
        }
        if has_spaces && !is_replaced {
            return Err(impossible("a vocabulary of characters with spaces that are not spelled ▁"));
        }
        Ok(is_prepended)
    }

    /// SentencePiece's pieces: the order of merges becomes scores.
    fn write_pieces(
        &self,
        bpe: &Bpe,
        merges: &[[u32; 3]],
        header: &mut GgufHeader,
        notes: &mut Vec<String>,
    ) -> Result<()> {
        let is_prepended = self.check_normalizers(true, notes)? | self.tokenizer.prefix_rule.is_some();
        if bpe.fallback().bytes.is_none() {
            return Err(impossible("a vocabulary of characters without all 256 byte tokens"));
        }
        self.check_splits(bpe)?;
        if self.tokenizer.prefix_rule.is_some() {
            notes.push(
                "a space is put before texts that begin with one, too, and behind every control token".to_owned(),
            );
        }
        let cut_out = self.cut_out();
        let scores = self.scores(bpe, merges, &cut_out)?;
        header.string("tokenizer.ggml.model", "llama").string("tokenizer.ggml.pre", "default");
        // User-defined tokens are looked for in a text with plain spaces; such a token that merges make is a piece.
        let is_piece = |id: u32, kind| kind == Kind::UserDefined && scores[id as usize].1 && !cut_out[id as usize];
        self.write_tokens(header, |id, kind| if is_piece(id, kind) { Kind::Normal } else { kind });
        if self.tokenizer.vocab.iter().take(self.n_rows).any(|(id, kind, _)| is_piece(id, kind)) {
            notes.push("▁ that is written in a text counts as a space there, beside others, too".to_owned());
        }
        let scores: Vec<f32> = scores.into_iter().map(|(score, _)| score).collect();
        header.f32s("tokenizer.ggml.scores", &scores).bool("tokenizer.ggml.add_space_prefix", is_prepended);
        Ok(())
    }

    /// Checks that splitting changes nothing: GGUF's pieces are joined over the whole of a text.
    fn check_splits(&self, bpe: &Bpe) -> Result<()> {
        let space = SPACE.to_string();
        for split in &bpe.splits().0 {
            match split.as_literal() {
                // No spaces are left.
                Some((" ", ..)) => {}
                Some((text, Behavior::MergedWithNext, false)) if text == space => {
                    let inner = |bytes: &[u8]| {
                        String::from_utf8_lossy(bytes).char_indices().any(|(at, c)| at > 0 && c == SPACE)
                    };
                    let mut tokens = self.tokenizer.vocab.iter().filter(|(_, kind, _)| *kind == Kind::Normal);
                    if let Some((id, ..)) = tokens.find(|(_, _, bytes)| inner(bytes)) {
                        return Err(impossible(&format!("cutting at spaces, with the token {:?}", self.spelled(id))));
                    }
                }
                _ => return Err(impossible("a pre-tokenizer, in a vocabulary of characters")),
            }
        }
        Ok(())
    }

    /// For every row, whether its token is cut out of a text before the merges, wherever it occurs: merges never make
    /// it.
    fn cut_out(&self) -> Vec<bool> {
        let user_defined = &self.tokenizer.user_defined;
        let mut cut_out = vec![false; self.n_rows];
        for special in user_defined.iter().filter(|special| !special.single_word && !special.text.contains(SPACE)) {
            if let Some(is_cut_out) = cut_out.get_mut(special.id as usize) {
                *is_cut_out = true;
            }
        }
        cut_out
    }

    /// The score of every row, the best of all 0, and whether merges make the token. Merges of tokens that are cut out
    /// of a text are ignored.
    fn scores(&self, bpe: &Bpe, merges: &[[u32; 3]], cut_out: &[bool]) -> Result<Vec<(f32, bool)>> {
        let n_merges = merges.len();
        let mut scores: Vec<(f32, bool)> = (0..self.n_rows).map(|id| (-((n_merges + id) as f32), false)).collect();
        // Characters whose runs are merged in an order of their own.
        let mut loose = Vec::new();
        let mut last = None;
        for (rank, &[left, right, id]) in merges.iter().enumerate() {
            let (score, is_made) = &mut scores[id as usize];
            if cut_out[id as usize] {
                continue;
            }
            if *is_made && last != Some(id) {
                let Some((c, _)) = self.run(id).filter(|(c, _)| loose.len() < MAX_LOOSE || loose.contains(c)) else {
                    let texts = [left, right].map(|id| self.spelled(id));
                    let problem = format!("merges that are in no order of what they make: {texts:?} is number {rank}");
                    return Err(impossible(&problem));
                };
                if !loose.contains(&c) {
                    loose.push(c);
                }
            }
            if !*is_made {
                (*score, *is_made) = (-(rank as f32), true);
            }
            last = Some(id);
        }
        for c in loose {
            if !self.joins_runs_greedily(bpe, merges, &scores, c) {
                return Err(impossible(&format!("merges of runs of {c:?} in no order of their lengths")));
            }
        }
        self.check_closed(bpe, &scores)?;
        Ok(scores)
    }

    /// The character of a token that is a run, and the run's length.
    fn run(&self, id: u32) -> Option<(char, usize)> {
        let text = std::str::from_utf8(self.tokenizer.vocab.bytes(id)).ok()?;
        let c = text.chars().next()?;
        let n = text.chars().count();
        (n > 1 && text.chars().all(|other| other == c)).then_some((c, n))
    }

    /// Whether a run of this character becomes its longest token as often as it fits, then the rest, by merges and by
    /// scores alike: the run is joined before anything else joins with it, and grows from the left by one character at
    /// a time.
    fn joins_runs_greedily(&self, bpe: &Bpe, merges: &[[u32; 3]], scores: &[(f32, bool)], c: char) -> bool {
        let is_run = |id: u32| self.run(id).is_some_and(|(other, _)| other == c);
        let has_it = |id: u32| String::from_utf8_lossy(self.tokenizer.vocab.bytes(id)).contains(c);
        let last = merges.iter().rposition(|merge| is_run(merge[2]));
        let first_other = merges.iter().position(|merge| has_it(merge[2]) && !is_run(merge[2]));
        let ranks: HashMap<(u32, u32), usize> =
            merges.iter().enumerate().map(|(rank, &[left, right, _])| ((left, right), rank)).collect();
        let Some(one) = self.tokenizer.vocab.find(c.to_string().as_bytes()) else { return false };
        let (Some(two), Some(of_two)) = (bpe.joined(one, one), ranks.get(&(one, one))) else { return false };
        let n_runs = (0..self.n_rows as u32).filter(|&id| is_run(id) && scores[id as usize].1).count();
        let (mut longest, mut n) = (two, 1);
        while let Some(longer) = bpe.joined(longest, one) {
            let is_before = ranks.get(&(longest, one)).is_some_and(|rank| rank < of_two);
            if !is_before || scores[longer as usize].0 <= scores[two as usize].0 {
                return false;
            }
            (longest, n) = (longer, n + 1);
        }
        n == n_runs && first_other.is_none_or(|first| last < Some(first))
    }

    /// SentencePiece joins any two pieces whose concatenation is a piece; the merges must do the same.
    fn check_closed(&self, bpe: &Bpe, scores: &[(f32, bool)]) -> Result<()> {
        let vocab = &self.tokenizer.vocab;
        for (id, kind, bytes) in vocab.iter().take(scores.len()) {
            let Ok(text) = std::str::from_utf8(bytes) else { continue };
            let is_joined = kind == Kind::Normal || (kind == Kind::UserDefined && scores[id as usize].1);
            if !is_joined || bytes.len() > MAX_PIECE_BYTES {
                continue;
            }
            for (at, _) in text.char_indices().skip(1) {
                let (left, right) = text.split_at(at);
                let halves = vocab.find(left.as_bytes()).zip(vocab.find(right.as_bytes()));
                if halves.is_some_and(|(left, right)| bpe.joined(left, right) != Some(id)) {
                    return Err(impossible(&format!("the token {text:?}, without a merge of {left:?} and {right:?}")));
                }
            }
        }
        Ok(())
    }

    /// Tokens for the beginning, the end and unknown text, and those added around every text.
    fn write_specials(&self, bpe: &Bpe, header: &mut GgufHeader, notes: &mut Vec<String>) {
        let tokenizer = self.tokenizer;
        let bos = match tokenizer.prefix.as_slice() {
            &[first] => Some(first),
            _ => tokenizer.bos,
        };
        let eos = match tokenizer.suffix.as_slice() {
            &[last] => Some(last),
            _ => tokenizer.eos.or(self.stop_tokens.first().copied()),
        };
        let [bos, eos] = [bos, eos].map(|id| id.filter(|&id| self.is_row(id)));
        for (name, id) in [("bos", bos), ("eos", eos), ("unknown", bpe.fallback().unknown)] {
            if let Some(id) = id {
                header.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
            }
        }
        for (key, around, what) in [
            ("tokenizer.ggml.add_bos_token", &tokenizer.prefix, "begin"),
            ("tokenizer.ggml.add_eos_token", &tokenizer.suffix, "end"),
        ] {
            header.bool(key, around.len() == 1);
            if around.len() > 1 {
                let texts: Vec<_> = around.iter().map(|&id| self.text(id)).collect();
                notes.push(format!("texts no longer {what} with {} by themselves", texts.join(" ")));
            }
        }
        self.write_stop_tokens(eos, header, notes);
        self.note_spaces(notes);
    }

    fn text(&self, id: u32) -> String {
        self.tokenizer.token_text(id).unwrap_or_default().into_owned()
    }

    /// Ends of turns and messages that readers do not know by their texts.
    fn write_stop_tokens(&self, eos: Option<u32>, header: &mut GgufHeader, notes: &mut Vec<String>) {
        let known = super::encoder::stop_tokens(&self.tokenizer.controls, eos);
        let mut others: Vec<u32> = self.tokenizer.stop_tokens.iter().chain(self.stop_tokens).copied().collect();
        others.retain(|id| !known.contains(id) && self.is_row(*id));
        others.sort_unstable();
        others.dedup();
        for (name, &id) in ["eot", "eom"].into_iter().zip(&others) {
            header.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
        }
        let rest: Vec<_> = others.iter().skip(2).map(|&id| self.text(id)).collect();
        if !rest.is_empty() {
            notes.push(format!("tokens that no longer end a text: {}", named(&rest)));
        }
    }

    /// Notes the spaces beside special tokens, which GGUF does not store.
    fn note_spaces(&self, notes: &mut Vec<String>) {
        let tokenizer = self.tokenizer;
        let sets = [&tokenizer.controls, &tokenizer.user_defined, &tokenizer.user_defined_normalized];
        // Readers know these models by name, and the spaces that their tokens take.
        let name = self.model_name.to_lowercase();
        let is_phi3 = !tokenizer.byte_level && (name.contains("phi-3") || name.contains("phi3"));
        let takes = |special: &&Special| special.lstrip || special.single_word || (special.rstrip && !is_phi3);
        let texts: Vec<_> =
            sets.iter().flat_map(|set| set.iter()).filter(takes).map(|it| it.text.to_string()).collect();
        if !texts.is_empty() {
            notes.push(format!(
                "tokens that no longer take the spaces beside them, or stand in words: {}",
                named(&texts)
            ));
        }
    }
}

fn impossible(what: &str) -> crate::ModelError {
    ModelError::bad_tokenizer(format!("a GGUF file cannot describe {what}"))
}

/// The first few texts, and the count of the rest.
fn named(texts: &[String]) -> String {
    let shown: Vec<_> = texts.iter().take(NAMED).map(|text| text.escape_debug().to_string()).collect();
    let more = texts.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}
