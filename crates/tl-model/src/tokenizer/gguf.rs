//! Tokenizers from GGUF files: `tokenizer.ggml.*`.

use super::bpe::{Bpe, Fallback, Rules, byte_tokens};
use super::encoder::{Joining, Tokenizer, can_be_parsed, is_end, stop_tokens};
use super::merges::{Texts, parts};
use super::normalize::{Normalizer, SPACE};
use super::special::{Special, SpecialSet};
use super::split::{PreTokenizer, Splits};
use super::spm::Spm;
use super::vocab::{Kind, Vocab};
use crate::error::{ModelError, Result};
use crate::format::gguf::{Array, Gguf, Value, ValueType};

/// The kinds of GGUF's `tokenizer.ggml.model`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Model {
    /// `llama`: SentencePiece.
    Spm,
    /// `gpt2`: byte-level byte-pair encoding.
    ByteLevel,
    /// `gemma4`: byte-pair encoding of characters, spaces as `▁`.
    Chars,
}

impl Tokenizer {
    /// Reads the tokenizer that a file carries.
    ///
    /// # Errors
    /// No tokenizer, one of another kind, or data that contradicts itself.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Tokenizer> {
        const MODEL: &str = "tokenizer.ggml.model";
        let model = match gguf.string(MODEL)? {
            Some("llama") => Model::Spm,
            Some("gpt2") => Model::ByteLevel,
            Some("gemma4") => Model::Chars,
            Some(found) => return Err(ModelError::TokenizerKind { found: found.to_owned() }),
            None => {
                return Err(ModelError::MissingKey { key: MODEL.to_owned(), meaning: "the kind of tokenizer" });
            }
        };
        let vocab = read_vocab(gguf, model)?;
        let id = |key: &str| special_id(gguf, key, vocab.len());
        let bos = id("bos")?;
        let eos = id("eos")?;
        let named = [eos, id("eot")?, id("eom")?, id("fim_pad")?, id("fim_rep")?, id("fim_sep")?];
        let unknown = id("unknown")?;
        let unknown = unknown.or_else(|| vocab.iter().find(|&(_, kind, _)| kind == Kind::Unknown).map(|(id, ..)| id));
        let mut specials = specials(gguf, &vocab, model)?;
        let controls = SpecialSet::new(std::mem::take(&mut specials[0]))?;
        let stop_tokens = stop_tokens(&controls, named.into_iter().flatten());
        let pre = pre_tokenizer(gguf, model)?;
        let joining = joining(gguf, &vocab, model, pre, unknown)?;
        let (prefix, suffix) = ends(gguf, model, pre, bos, eos)?;
        let space_prefix = model == Model::Spm && gguf.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        let mut normalizers = Vec::new();
        if space_prefix {
            normalizers.push(Normalizer::Prepend(SPACE.to_string().into()));
        }
        if model != Model::ByteLevel {
            normalizers.push(Normalizer::spaces());
        }
        Ok(Tokenizer {
            controls,
            user_defined: SpecialSet::new(std::mem::take(&mut specials[1]))?,
            user_defined_normalized: SpecialSet::new(Vec::new())?,
            normalizers,
            prefix_rule: None,
            joining,
            vocab,
            byte_level: model == Model::ByteLevel,
            bos,
            eos,
            stop_tokens,
            prefix,
            suffix,
            strips_first_space: space_prefix,
        })
    }
}

fn joining(
    gguf: &Gguf<'_>,
    vocab: &Vocab,
    model: Model,
    pre: Option<&PreTokenizer>,
    unknown: Option<u32>,
) -> Result<Joining> {
    let byte_level = model == Model::ByteLevel;
    let scores = if model == Model::Spm { Some(read_scores(gguf, vocab.len())?) } else { None };
    // A byte-level vocabulary does not use byte tokens; they may be incomplete.
    let bytes = if byte_level { None } else { byte_tokens(vocab)? };
    if bytes.is_none() && unknown.is_none() && !byte_level {
        return Err(ModelError::bad_tokenizer(
            "it has neither all 256 byte tokens nor an unknown token, so that not every text has ids",
        ));
    }
    let fallback = Fallback { bytes, unknown: unknown.filter(|_| !byte_level), fuse_unknown: false };
    if let Some(scores) = scores {
        return Ok(Joining::Spm(Spm::new(vocab, scores, fallback)));
    }
    const MERGES: &str = "tokenizer.ggml.merges";
    let merges = gguf.array(MERGES, ValueType::String, "an array of strings")?;
    let merges = merges.ok_or_else(|| missing(MERGES, "which tokens are joined"))?;
    let splits = match pre {
        Some(pre) => pre.splits().map_err(ModelError::bad_tokenizer)?,
        None => Splits::default(),
    };
    let ignore_merges = pre.is_some_and(|pre| pre.ignore_merges);
    let rules = Rules { splits, byte_level, ignore_merges, fallback };
    let mut texts = merges.strings();
    let parts = parts(merges.len()).map(|ranks| {
        let part = texts.clone().take(ranks.len());
        if let Some(last) = ranks.len().checked_sub(1) {
            texts.nth(last);
        }
        let first = ranks.start;
        let merges = (first..).zip(part).map(|(rank, text)| {
            let text_of = || String::from_utf8_lossy(text);
            let problem = || {
                ModelError::bad_tokenizer(format!(
                    "merge {rank} is {:?}, expected two texts with a space between",
                    text_of()
                ))
            };
            split_merge(text).ok_or_else(problem)
        });
        (ranks, merges)
    });
    Bpe::new(vocab, rules, &parts.collect::<Vec<_>>()).map(Joining::Bpe)
}

/// The two texts of a merge, separated by the first space after the first character.
pub(super) fn split_merge(text: &[u8]) -> Option<Texts<'_>> {
    // No byte of a character beyond its first is a space.
    let at = 1 + text.get(1..)?.iter().position(|&byte| byte == b' ')?;
    Some((text.get(..at)?, text.get(at + 1..)?)).filter(|(_, right)| !right.is_empty())
}

fn pre_tokenizer(gguf: &Gguf<'_>, model: Model) -> Result<Option<&'static PreTokenizer>> {
    const PRE: &str = "tokenizer.ggml.pre";
    if model != Model::ByteLevel {
        return Ok(None);
    }
    let name = gguf.string(PRE)?.unwrap_or("default");
    match PreTokenizer::named(name) {
        Some(pre) => Ok(Some(pre)),
        None => Err(ModelError::KeyValue {
            key: PRE.to_owned(),
            value: name.to_owned(),
            problem: format!("which is not supported; supported are {}", PreTokenizer::names()),
        }),
    }
}

/// The tokens added before and after every text.
fn ends(
    gguf: &Gguf<'_>,
    model: Model,
    pre: Option<&PreTokenizer>,
    bos: Option<u32>,
    eos: Option<u32>,
) -> Result<(Vec<u32>, Vec<u32>)> {
    let add_bos = gguf.boolean("tokenizer.ggml.add_bos_token")?;
    let add_eos = gguf.boolean("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
    let add_bos = match model {
        Model::Spm => add_bos.unwrap_or(true),
        // Unless the file requires it, a vocabulary without such a token needs none.
        Model::ByteLevel => add_bos.unwrap_or(pre.is_some_and(|pre| pre.add_bos) && bos.is_some()),
        // Some of these files wrongly say false.
        Model::Chars => bos.is_some(),
    };
    if add_bos && bos.is_none() {
        return Err(ModelError::bad_tokenizer(
            "it asks for a token at the beginning, but names none (tokenizer.ggml.bos_token_id)",
        ));
    }
    if add_eos && eos.is_none() {
        return Err(ModelError::bad_tokenizer(
            "it asks for a token at the end, but names none (tokenizer.ggml.eos_token_id)",
        ));
    }
    Ok((bos.filter(|_| add_bos).into_iter().collect(), eos.filter(|_| add_eos).into_iter().collect()))
}

/// Control tokens and user-defined tokens, with the texts at which a text is split.
fn specials(gguf: &Gguf<'_>, vocab: &Vocab, model: Model) -> Result<[Vec<Special>; 2]> {
    // GGUF does not store which tokens take the spaces after them; for these models it is known.
    let name = gguf.string("general.name")?.unwrap_or_default().to_lowercase();
    let is_phi3 = model == Model::Spm && (name.contains("phi-3") || name.contains("phi3"));
    let mut sets = [Vec::new(), Vec::new()];
    for (id, kind, bytes) in vocab.iter() {
        match kind {
            Kind::Control | Kind::Unknown => {
                let text = String::from_utf8_lossy(bytes);
                let rstrip = is_phi3 && !["<unk>", "<s>", "<|endoftext|>"].contains(&&*text);
                let special = Special { text: text.into(), id, rstrip, ..Special::default() };
                if can_be_parsed(&special) {
                    sets[0].push(special);
                }
            }
            Kind::UserDefined => {
                // Spaces may be spelled either way; in a text they are plain.
                let text = String::from_utf8_lossy(bytes);
                let text = if model == Model::ByteLevel { text.into_owned() } else { text.replace(SPACE, " ") };
                sets[1].push(Special { text: text.into(), id, rstrip: is_phi3, ..Special::default() });
            }
            _ => {}
        }
    }
    Ok(sets)
}

fn special_id(gguf: &Gguf<'_>, name: &str, vocab_size: usize) -> Result<Option<u32>> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    match gguf.integer(&key)? {
        Some(id) if id >= vocab_size as u64 => {
            let problem = format!("outside the vocabulary of {vocab_size} tokens");
            Err(ModelError::KeyValue { key, value: id.to_string(), problem })
        }
        id => Ok(id.map(|id| id as u32)),
    }
}

fn missing(key: &str, meaning: &'static str) -> ModelError {
    ModelError::MissingKey { key: key.to_owned(), meaning }
}

fn read_vocab(gguf: &Gguf<'_>, model: Model) -> Result<Vocab> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const KINDS: &str = "tokenizer.ggml.token_type";
    let tokens = gguf.array(TOKENS, ValueType::String, "an array of strings")?;
    let tokens = tokens.ok_or_else(|| missing(TOKENS, "the tokens' pieces"))?;
    let kinds = match gguf.value(KINDS) {
        Some(Value::Array(array)) if array.element() == ValueType::U32 => Some(array),
        _ => gguf.array(KINDS, ValueType::I32, "an array of i32")?,
    };
    if tokens.is_empty() || tokens.len() > i32::MAX as usize {
        return Err(ModelError::bad_tokenizer(format!("it has {} tokens", tokens.len())));
    }
    check_len(KINDS, tokens.len(), kinds.map(|kinds| kinds.len()))?;
    let mut vocab = Vocab::new();
    let mut kinds = kinds.map(|kinds| kinds.iter());
    for (id, text) in tokens.strings().enumerate() {
        let number = match kinds.as_mut().and_then(Iterator::next) {
            None => 1,
            Some(Value::I32(number)) => number.into(),
            Some(Value::U32(number)) => i64::from(number),
            Some(_) => 0,
        };
        let mut kind = kind_of(id, text, number)?;
        // Some files do not mark these as control tokens.
        if matches!(kind, Kind::Normal | Kind::UserDefined) && is_end(text) {
            kind = Kind::Control;
        }
        if model == Model::ByteLevel && matches!(kind, Kind::Normal | Kind::Unused) {
            vocab.push_spelled(text, kind)?;
        } else {
            vocab.push(text, kind)?;
        }
    }
    // Merges may make user-defined tokens too; SentencePiece does not join them.
    let user_defined: &[Kind] = if model == Model::Spm { &[] } else { &[Kind::UserDefined] };
    vocab.index(&[&[Kind::Normal, Kind::Unused], user_defined]);
    Ok(vocab)
}

fn read_scores(gguf: &Gguf<'_>, n_tokens: usize) -> Result<Vec<f32>> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let array: Option<Array<'_>> = gguf.array(SCORES, ValueType::F32, "an array of f32")?;
    let array = array.ok_or_else(|| missing(SCORES, "the order in which pieces are joined"))?;
    check_len(SCORES, n_tokens, Some(array.len()))?;
    let mut scores = Vec::with_capacity(n_tokens);
    for (id, score) in array.iter().enumerate() {
        let Value::F32(score) = score else { break };
        if score.is_nan() {
            return Err(ModelError::bad_tokenizer(format!("the score of token {id} is NaN")));
        }
        // Minus zero and zero are the same score.
        scores.push(score + 0.0);
    }
    Ok(scores)
}

fn check_len(key: &str, n_tokens: usize, len: Option<usize>) -> Result<()> {
    match len.filter(|&len| len != n_tokens) {
        Some(len) => Err(ModelError::bad_tokenizer(format!("it has {n_tokens} tokens, but {key} has {len} entries"))),
        None => Ok(()),
    }
}

fn kind_of(id: usize, text: &[u8], number: i64) -> Result<Kind> {
    Ok(match number {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => {
            let text = String::from_utf8_lossy(text);
            let problem =
                || ModelError::bad_tokenizer(format!("token {id} is a byte token, but reads {text:?} and not <0xXX>"));
            Kind::Byte(byte_token(&text).ok_or_else(problem)?)
        }
        _ => {
            return Err(ModelError::bad_tokenizer(format!("token {id} has the type {number}, expected 1 to 6")));
        }
    })
}

/// The byte of a token's text such as `<0x0A>`.
pub(super) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x").and_then(|text| text.strip_suffix('>'))?;
    Some(digits).filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok())
}
