//! The tokenizer itself: its tables of tokens, and the encoding of a text to ids.
//!
//! Knows no file format; `gguf` and `json` fill it.

use std::borrow::Cow;

use super::bpe::{Bpe, BpeState};
use super::bytes::{char_of, push_spelled};
use super::merge::MergeState;
use super::normalize::{Normalizer, SPACE, normalize};
use super::special::{Part, SENTINEL, Special, SpecialSet, without_sentinel};
use super::spm::Spm;
use super::vocab::{Kind, Vocab};
use crate::error::{ModelError, Result};

/// A vocabulary with its rules: text to ids, ids to text.
///
/// Ordinary text never becomes a control token such as `<s>` or `<|im_end|>`, whatever it contains, unless
/// [`EncodeOptions::parse_special`] is set. For a text with both, such as a chat template's output, pass the users'
/// parts through [`Tokenizer::protect`] first.
#[derive(Debug)]
pub struct Tokenizer {
    pub(super) vocab: Vocab,
    /// Cut out of a text only if the options allow it.
    pub(super) controls: SpecialSet,
    /// Cut out of every text.
    pub(super) user_defined: SpecialSet,
    /// Cut out of every text after normalization.
    pub(super) user_defined_normalized: SpecialSet,
    pub(super) normalizers: Vec<Normalizer>,
    pub(super) prefix_rule: Option<Prefix>,
    pub(super) joining: Joining,
    /// Whether the letters of a token spell bytes.
    pub(super) byte_level: bool,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) stop_tokens: Vec<u32>,
    /// Added before and after every text.
    pub(super) prefix: Vec<u32>,
    pub(super) suffix: Vec<u32>,
    /// Whether decoding removes a space at the beginning of a text.
    pub(super) strips_first_space: bool,
}

/// A character added before a normalized text that does not begin with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prefix {
    pub(super) text: char,
    /// Only at the very beginning, not after a special token.
    pub(super) only_first: bool,
}

/// The algorithm that joins pieces to tokens.
#[derive(Debug)]
pub(super) enum Joining {
    Spm(Spm),
    Bpe(Bpe),
}

/// Options for encoding a text. The default suits ordinary text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Whether to add the model's tokens at the beginning and the end of a text; true by default.
    pub add_special: bool,
    /// Whether control tokens written in the text, such as `<|im_start|>`, are parsed; false by default.
    pub parse_special: bool,
}

impl EncodeOptions {
    /// These options with [`EncodeOptions::add_special`] as given.
    pub fn with_add_special(self, add_special: bool) -> EncodeOptions {
        EncodeOptions { add_special, ..self }
    }

    /// These options with [`EncodeOptions::parse_special`] as given.
    pub fn with_parse_special(self, parse_special: bool) -> EncodeOptions {
        EncodeOptions { parse_special, ..self }
    }
}

impl Default for EncodeOptions {
    fn default() -> EncodeOptions {
        EncodeOptions { add_special: true, parse_special: false }
    }
}

/// Scratch memory for encoding one text.
#[derive(Default)]
struct State {
    bpe: BpeState,
    merge: MergeState,
}

impl Tokenizer {
    /// Drops the tokens from `n_rows` on, which have no rows in the model: marks for pictures and the like. Their texts
    /// are then ordinary text.
    ///
    /// # Errors
    /// One of them is of another kind than control, user-defined or unused, or is added around every text.
    pub(crate) fn keep_first(&mut self, n_rows: usize) -> Result<()> {
        let n_tokens = self.vocab.len();
        if n_tokens <= n_rows {
            return Ok(());
        }
        let is_mark = |kind| matches!(kind, Kind::Control | Kind::UserDefined | Kind::Unused);
        let is_row = |id: &u32| (*id as usize) < n_rows;
        let can_go = self.vocab.iter().skip(n_rows).all(|(_, kind, _)| is_mark(kind));
        if !can_go || !self.prefix.iter().chain(&self.suffix).all(is_row) {
            return Err(ModelError::bad_tokenizer(format!(
                "it has {n_tokens} tokens, but the model has room for {n_rows}"
            )));
        }
        for set in [&mut self.controls, &mut self.user_defined, &mut self.user_defined_normalized] {
            set.truncate(n_rows)?;
        }
        self.bos = self.bos.filter(is_row);
        self.eos = self.eos.filter(is_row);
        self.stop_tokens.retain(is_row);
        self.vocab.truncate(n_rows);
        Ok(())
    }

    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.vocab.len()
    }

    /// The kind of tokenizer, in words.
    pub fn kind(&self) -> &'static str {
        match self.joining {
            Joining::Spm(_) => "SentencePiece BPE",
            Joining::Bpe(_) if self.byte_level => "byte-level BPE",
            Joining::Bpe(_) => "BPE with byte fallback",
        }
    }

    /// The token that begins a text, if any.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, if any.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens after which a model has finished, in ascending order: ends of a text, a turn or a message.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.stop_tokens
    }

    /// Adds tokens after which a model has finished, such as those of a `generation_config.json`.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn add_stop_tokens(&mut self, ids: &[u32]) -> Result<()> {
        ids.iter().try_for_each(|&id| self.entry(id).map(drop))?;
        self.stop_tokens.extend_from_slice(ids);
        self.stop_tokens.sort_unstable();
        self.stop_tokens.dedup();
        Ok(())
    }

    /// Whether the model has finished after this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.stop_tokens.binary_search(&id).is_ok()
    }

    /// The token with this text in the vocabulary's spelling: a control token such as `<|im_end|>`, or a piece such as
    /// `Ġthe` or `▁the`.
    pub fn token_id(&self, text: &str) -> Option<u32> {
        let special = [&self.controls, &self.user_defined].into_iter().find_map(|set| set.find(text));
        special.or_else(|| {
            if !self.byte_level {
                return self.vocab.find(text.as_bytes());
            }
            let mut bytes = Vec::with_capacity(text.len());
            push_spelled(text.as_bytes(), &mut bytes);
            self.vocab.find(&bytes)
        })
    }

    /// The text of a token in the vocabulary's spelling (a space as `▁` or `Ġ`), if the token exists.
    pub fn token_text(&self, id: u32) -> Option<Cow<'_, str>> {
        let (kind, bytes) = self.entry(id).ok()?;
        if self.byte_level && matches!(kind, Kind::Normal | Kind::Unused) {
            return Some(Cow::Owned(bytes.iter().map(|&byte| char_of(byte)).collect()));
        }
        Some(String::from_utf8_lossy(bytes))
    }

    /// The bytes that a token adds inside a text, if texts consist of such tokens: a piece, a user-defined token, or a
    /// byte, which may be only a part of a character. `None` for control tokens, the unknown token, and tokens that
    /// encoding never gives.
    ///
    /// ```
    /// let model = tl_model::Weights::load("../../models/demo-q4_0.gguf", &tl_device::Device::cpu())?;
    /// let tokenizer = model.tokenizer()?;
    /// let the = tokenizer.token_id("▁the").unwrap();
    /// assert_eq!(tokenizer.text_bytes(the).as_deref(), Some(&b" the"[..]));
    /// assert_eq!(tokenizer.text_bytes(tokenizer.bos().unwrap()), None);
    /// # Ok::<(), tl_model::ModelError>(())
    /// ```
    pub fn text_bytes(&self, id: u32) -> Option<Cow<'_, [u8]>> {
        let (kind, bytes) = self.entry(id).ok()?;
        match kind {
            Kind::Byte(byte) => Some(Cow::Owned(vec![byte])),
            Kind::Normal | Kind::UserDefined if self.byte_level => Some(Cow::Borrowed(bytes)),
            Kind::Normal | Kind::UserDefined => {
                // The tokens of such a vocabulary were parsed as UTF-8.
                let piece = std::str::from_utf8(bytes).ok()?;
                let is_plain = !piece.contains(SPACE);
                Some(if is_plain { Cow::Borrowed(bytes) } else { Cow::Owned(piece.replace(SPACE, " ").into_bytes()) })
            }
            Kind::Control | Kind::Unknown | Kind::Unused | Kind::Verbatim => None,
        }
    }

    /// A token's kind and bytes.
    pub(super) fn entry(&self, id: u32) -> Result<(Kind, &[u8])> {
        let kind = self.vocab.kind(id).ok_or(ModelError::TokenId { id, vocab_size: self.vocab.len() })?;
        Ok((kind, self.vocab.bytes(id)))
    }

    /// The ids of a text, with the model's tokens at its beginning and end.
    ///
    /// Marks such as `<s>` inside the text are text; they never become control tokens. Takes time n log n. Bytes
    /// without a token in a byte-level vocabulary (some lack a few control characters) are left out.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        self.encode_with(text, &EncodeOptions::default())
    }

    /// The ids of a text, with options.
    ///
    /// With [`EncodeOptions::parse_special`], the sentinels from [`Tokenizer::protect`] are removed after the control
    /// tokens are cut out. A control token of a single character is never parsed in a text.
    pub fn encode_with(&self, text: &str, options: &EncodeOptions) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 3 + 4);
        let mut state = State::default();
        if options.add_special {
            ids.extend_from_slice(&self.prefix);
        }
        if options.parse_special {
            for (i, part) in self.controls.parts(text).enumerate() {
                match part {
                    Part::Token(id) => ids.push(id),
                    Part::Text(text) => self.encode_text(&without_sentinel(text), i == 0, &mut state, &mut ids),
                }
            }
        } else {
            self.encode_text(text, true, &mut state, &mut ids);
        }
        if options.add_special {
            ids.extend_from_slice(&self.suffix);
        }
        ids
    }

    /// A user's text made safe for a text in which control tokens are parsed: a noncharacter (U+FDD0) follows the first
    /// character of every control token in it, and is also put at the ends of the text where adjacent text could
    /// complete one. [`Tokenizer::encode_with`] removes it, so that the ids are those of the text itself. Noncharacters
    /// of this kind in the text are dropped.
    ///
    /// Tokens that the model counts as ordinary text, such as a run of line ends or `<think>` in some models, are not
    /// protected: they are cut out of every text.
    pub fn protect<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.controls.protect(text)
    }

    /// Appends the ids of a text without control tokens; `is_first` marks the beginning of the whole text.
    fn encode_text(&self, text: &str, is_first: bool, state: &mut State, ids: &mut Vec<u32>) {
        for (i, part) in self.user_defined.parts(text).enumerate() {
            match part {
                Part::Token(id) => ids.push(id),
                Part::Text(text) => {
                    let text = normalize(&self.normalizers, text);
                    for (k, part) in self.user_defined_normalized.parts(&text).enumerate() {
                        match part {
                            Part::Token(id) => ids.push(id),
                            Part::Text(text) => self.encode_piece(text, is_first && i + k == 0, state, ids),
                        }
                    }
                }
            }
        }
    }

    /// Appends the ids of ordinary text.
    fn encode_piece(&self, text: &str, is_first: bool, state: &mut State, ids: &mut Vec<u32>) {
        let prefix = self.prefix_rule.filter(|rule| (is_first || !rule.only_first) && !text.starts_with(rule.text));
        let text = prefix.map_or(Cow::Borrowed(text), |rule| Cow::Owned(format!("{}{text}", rule.text)));
        match &self.joining {
            Joining::Spm(spm) => spm.encode(&self.vocab, &text, &mut state.merge, ids),
            Joining::Bpe(bpe) => bpe.encode(&self.vocab, &text, &mut state.bpe, ids),
        }
    }
}

/// Whether a text can be cut at this control token: one of a single character, or with the sentinel, cannot be
/// protected.
pub(super) fn can_be_parsed(special: &Special) -> bool {
    special.text.chars().nth(1).is_some() && !special.text.contains(SENTINEL)
}

/// Texts of tokens that end a turn or a message, whatever their kind in the file.
const ENDS: [&str; 20] = [
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<|eom_id|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|end_of_turn|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",
];

/// Whether a token of this text ends a turn or a message.
pub(super) fn is_end(text: &[u8]) -> bool {
    // Called for every token; few begin like one of them.
    matches!(text, [b'<' | b'_' | b'[', ..]) && ENDS.iter().any(|end| end.as_bytes() == text)
}

/// Texts of tokens that end a text if a file marks them as control tokens; in some files they are ordinary words.
const ENDS_IF_CONTROL: [&str; 2] = ["</s>", "<eos>"];

/// The tokens that end a model's output: those that a file names, and those of known texts.
pub(super) fn stop_tokens(controls: &SpecialSet, named: impl IntoIterator<Item = u32>) -> Vec<u32> {
    let find = |text: &&str| controls.find(text);
    let mut ids: Vec<u32> = named.into_iter().chain(ENDS.iter().chain(&ENDS_IF_CONTROL).filter_map(find)).collect();
    // Where a message ends with `<|return|>` or `<|call|>`, `<|end|>` only ends a part of it.
    if ["<|return|>", "<|flush|>"].iter().any(|text| find(text).is_some())
        && ["<|call|>", "<|calls|>"].iter().any(|text| find(text).is_some())
    {
        let part = find(&"<|end|>");
        ids.retain(|&id| Some(id) != part);
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}
