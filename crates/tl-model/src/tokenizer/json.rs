//! Tokenizers from Hugging Face's `tokenizer.json` and `tokenizer_config.json`.
//!
//! Byte-pair encoding only, byte-level or of characters, with the normalizers, pre-tokenizers and post-processors of
//! language models. Any other part of a file is an error that names it: ignoring it would give other ids. Truncation
//! and padding, which concern batches, are not applied.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::bpe::{Bpe, Fallback, Rules, byte_tokens};
use super::encoder::{Joining, Prefix, Tokenizer, can_be_parsed, stop_tokens};
use super::gguf::{byte_token, split_merge};
use super::merges::parts as parts_of;
use super::normalize::{Normalizer, SPACE, normalize};
use super::special::{Special, SpecialSet};
use super::split::{Behavior, GPT2, Split, Splits};
use super::vocab::{Kind, Vocab};
use crate::error::{ModelError, Result};

/// The most ids without a token between ids with one.
const MAX_UNUSED_IDS: usize = 1 << 16;

#[derive(Deserialize)]
struct File<'a> {
    #[serde(borrow, default)]
    added_tokens: Vec<AddedToken<'a>>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<Value>,
    post_processor: Option<Value>,
    decoder: Option<Value>,
    #[serde(borrow)]
    model: Model<'a>,
}

#[derive(Deserialize)]
struct AddedToken<'a> {
    id: u32,
    #[serde(borrow)]
    content: Cow<'a, str>,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
    #[serde(default)]
    special: bool,
}

#[derive(Deserialize)]
struct Model<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    vocab: Option<Entries<'a>>,
    #[serde(borrow, default)]
    merges: Vec<Merge<'a>>,
    dropout: Option<f64>,
    unk_token: Option<String>,
    continuing_subword_prefix: Option<String>,
    end_of_word_suffix: Option<String>,
    #[serde(default)]
    fuse_unk: bool,
    #[serde(default)]
    byte_fallback: bool,
    #[serde(default)]
    ignore_merges: bool,
}

/// The vocabulary of a model with texts and ids; `None` for other models.
struct Entries<'a>(Option<Vec<(Cow<'a, str>, u32)>>);

impl<'de: 'a, 'a> Deserialize<'de> for Entries<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct EntriesVisitor;

        impl<'de> Visitor<'de> for EntriesVisitor {
            type Value = Entries<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a vocabulary")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Entries<'de>, A::Error> {
                let mut entries = Vec::new();
                while let Some((text, id)) = map.next_entry::<Text<'de>, u32>()? {
                    entries.push((text.0, id));
                }
                Ok(Entries(Some(entries)))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Entries<'de>, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Entries(None))
            }
        }

        deserializer.deserialize_any(EntriesVisitor)
    }
}

/// A text, borrowed if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A merge written as one text.
fn merge_of<E: serde::de::Error>(text: &str) -> std::result::Result<(&str, &str), E> {
    let middle = split_merge(text.as_bytes()).map(|(left, _)| left.len());
    let split = middle.and_then(|at| Some((text.get(..at)?, text.get(at + 1..)?)));
    split.ok_or_else(|| E::custom(format!("the merge {text:?}")))
}

/// Two texts, as an array or separated by a space.
struct Merge<'a>(Cow<'a, str>, Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Merge<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct MergeVisitor;

        impl<'de> Visitor<'de> for MergeVisitor {
            type Value = Merge<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a merge of two texts")
            }

            fn visit_borrowed_str<E: serde::de::Error>(self, text: &'de str) -> std::result::Result<Merge<'de>, E> {
                let (left, right) = merge_of(text)?;
                Ok(Merge(Cow::Borrowed(left), Cow::Borrowed(right)))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> std::result::Result<Merge<'de>, E> {
                let (left, right) = merge_of(text)?;
                Ok(Merge(Cow::Owned(left.to_owned()), Cow::Owned(right.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<Merge<'de>, A::Error> {
                let mut text =
                    || seq.next_element::<Text<'de>>()?.ok_or_else(|| A::Error::custom("a merge of one text"));
                let (left, right) = (text()?.0, text()?.0);
                match seq.next_element::<IgnoredAny>()? {
                    None => Ok(Merge(left, right)),
                    Some(_) => Err(A::Error::custom("a merge of more than two texts")),
                }
            }
        }

        deserializer.deserialize_any(MergeVisitor)
    }
}

/// The additions of `tokenizer_config.json`. Other keys are ignored.
#[derive(Default, Deserialize)]
struct Config {
    bos_token: Option<Value>,
    eos_token: Option<Value>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
}

impl Tokenizer {
    /// Reads the tokenizer of a Hugging Face folder: the bytes of its `tokenizer.json` and, if present, of its
    /// `tokenizer_config.json`, which names the tokens that begin and end a text.
    ///
    /// # Errors
    /// Invalid JSON, a model other than byte-pair encoding, an unsupported part, data that contradicts itself.
    pub fn from_json(tokenizer_json: &[u8], tokenizer_config_json: Option<&[u8]>) -> Result<Tokenizer> {
        let file: File<'_> = serde_json::from_slice(tokenizer_json)
            .map_err(|error| ModelError::bad_tokenizer(format!("tokenizer.json: {error}")))?;
        let config = match tokenizer_config_json {
            Some(bytes) => serde_json::from_slice(bytes)
                .map_err(|error| ModelError::bad_tokenizer(format!("tokenizer_config.json: {error}")))?,
            None => Config::default(),
        };
        check_model(&file.model)?;
        let mut parts = Parts::default();
        if let Some(normalizer) = &file.normalizer {
            parts.normalizer(normalizer)?;
        }
        if let Some(pre_tokenizer) = &file.pre_tokenizer {
            parts.pre_tokenizer(pre_tokenizer)?;
        }
        if let Some(decoder) = &file.decoder {
            parts.decoder(decoder)?;
        }
        build(file, &config, parts)
    }
}

fn check_model(model: &Model<'_>) -> Result<()> {
    match model.kind.as_deref() {
        Some("BPE") => {}
        None if !model.merges.is_empty() => {}
        kind => return Err(unsupported("model", kind.unwrap_or("without a type"))),
    }
    if model.dropout.is_some_and(|dropout| dropout != 0.0) {
        return Err(unsupported("model", "dropout"));
    }
    for (name, text) in [
        ("continuing_subword_prefix", &model.continuing_subword_prefix),
        ("end_of_word_suffix", &model.end_of_word_suffix),
    ] {
        if text.as_ref().is_some_and(|text| !text.is_empty()) {
            return Err(unsupported("model", name));
        }
    }
    Ok(())
}

fn unsupported(part: &str, name: &str) -> crate::ModelError {
    ModelError::bad_tokenizer(format!("its {part} asks for {name:?}, which is not supported"))
}

fn build(mut file: File<'_>, config: &Config, parts: Parts) -> Result<Tokenizer> {
    let (vocab, unknown) = read_vocab(&mut file, parts.byte_level)?;
    let mut sets = [Vec::new(), Vec::new(), Vec::new()];
    for token in &file.added_tokens {
        let raw = token.special || !token.normalized;
        let text = if raw { Cow::Borrowed(&*token.content) } else { normalize(&parts.normalizers, &token.content) };
        let AddedToken { id, lstrip, rstrip, single_word, .. } = *token;
        let special = Special { text: text.into(), id, lstrip, rstrip, single_word };
        match (token.special, raw) {
            (true, _) if can_be_parsed(&special) => sets[0].push(special),
            (true, _) => {}
            (false, true) => sets[1].push(special),
            (false, false) => sets[2].push(special),
        }
    }
    let [controls, user_defined, user_defined_normalized] = sets.map(SpecialSet::new);
    let controls = controls?;
    let model = file.model;
    let bytes = if model.byte_fallback { byte_tokens(&vocab)? } else { None };
    if bytes.is_none() && unknown.is_none() && !parts.byte_level {
        return Err(ModelError::bad_tokenizer(
            "it has neither all 256 byte tokens nor an unknown token, so that not every text has ids",
        ));
    }
    let fallback = Fallback { bytes, unknown, fuse_unknown: model.fuse_unk };
    let rules = Rules {
        splits: Splits(parts.splits),
        byte_level: parts.byte_level,
        ignore_merges: model.ignore_merges,
        fallback,
    };
    let merges = parts_of(model.merges.len()).map(|ranks| {
        let texts = model.merges.get(ranks.clone()).unwrap_or_default().iter();
        (ranks, texts.map(|Merge(left, right)| Ok((left.as_bytes(), right.as_bytes()))))
    });
    let bpe = Bpe::new(&vocab, rules, &merges.collect::<Vec<_>>())?;
    let token = |value: &Option<Value>| {
        let text = value.as_ref().and_then(|value| value.as_str().or_else(|| value.get("content")?.as_str()));
        text.and_then(|text| file.added_tokens.iter().find(|token| token.content == text)).map(|token| token.id)
    };
    let (mut prefix, mut suffix) = (Vec::new(), Vec::new());
    if let Some(processor) = &file.post_processor {
        post_processor(processor, vocab.len(), &mut prefix, &mut suffix)?;
    }
    let bos = token(&config.bos_token).or_else(|| prefix.first().copied());
    let eos = token(&config.eos_token);
    wanted(&mut prefix, bos, config.add_bos_token);
    wanted(&mut suffix, eos, config.add_eos_token);
    Ok(Tokenizer {
        stop_tokens: stop_tokens(&controls, eos),
        controls,
        user_defined: user_defined?,
        user_defined_normalized: user_defined_normalized?,
        normalizers: parts.normalizers,
        prefix_rule: parts.prefix,
        joining: Joining::Bpe(bpe),
        vocab,
        byte_level: parts.byte_level,
        bos,
        eos,
        prefix,
        suffix,
        strips_first_space: parts.strips_first_space,
    })
}

/// Adds or removes the token at an end of every text, if the configuration says so.
fn wanted(tokens: &mut Vec<u32>, token: Option<u32>, wants: Option<bool>) {
    match (wants, token) {
        (Some(true), Some(token)) if !tokens.contains(&token) => tokens.push(token),
        (Some(false), Some(token)) => tokens.retain(|&id| id != token),
        _ => {}
    }
}

/// The tokens in the order of their ids, and the unknown token.
fn read_vocab(file: &mut File<'_>, byte_level: bool) -> Result<(Vocab, Option<u32>)> {
    let model = &mut file.model;
    let Some(Entries(Some(mut entries))) = model.vocab.take() else {
        return Err(ModelError::bad_tokenizer("its model's vocabulary is no map of texts to ids"));
    };
    let added = &file.added_tokens;
    // Of the tokens with one id, added tokens come first, for their properties.
    let mut all: Vec<(u32, Option<&AddedToken<'_>>, &str)> =
        added.iter().map(|token| (token.id, Some(token), &*token.content)).collect();
    entries.sort_by_key(|entry| entry.1);
    all.extend(entries.iter().map(|(text, id)| (*id, None, &**text)));
    all.sort_by_key(|(id, added, _)| (*id, added.is_none()));
    if all.is_empty() {
        return Err(ModelError::bad_tokenizer("it has 0 tokens"));
    }
    let mut vocab = Vocab::new();
    let mut unknown = None;
    let mut last: Option<(u32, bool, &str)> = None;
    for (n_before, (id, added, text)) in all.into_iter().enumerate() {
        if let Some((_, was_added, same)) = last.filter(|last| last.0 == id) {
            if !was_added || added.is_some() || same != text {
                return Err(ModelError::bad_tokenizer(format!("the id {id} has two tokens, {same:?} and {text:?}")));
            }
            continue;
        }
        last = Some((id, added.is_some(), text));
        if id as usize > n_before + MAX_UNUSED_IDS {
            return Err(ModelError::bad_tokenizer(format!(
                "the id {id} of {text:?} is far beyond the {n_before} tokens before it"
            )));
        }
        while vocab.len() < id as usize {
            vocab.push(b"", Kind::Unused)?;
        }
        let is_unknown = model.unk_token.as_deref() == Some(text);
        if is_unknown {
            unknown = Some(id);
        }
        match (added.map(|token| token.special), byte_token(text).filter(|_| model.byte_fallback)) {
            (None, Some(byte)) => vocab.push(text.as_bytes(), Kind::Byte(byte))?,
            _ if is_unknown && !byte_level => vocab.push(text.as_bytes(), Kind::Unknown)?,
            (Some(true), _) => vocab.push(text.as_bytes(), Kind::Control)?,
            (Some(false), _) => vocab.push(text.as_bytes(), Kind::UserDefined)?,
            (None, _) if byte_level => vocab.push_spelled(text.as_bytes(), Kind::Normal)?,
            (None, _) => vocab.push(text.as_bytes(), Kind::Normal)?,
        }
    }
    if let Some(text) = model.unk_token.as_deref().filter(|_| unknown.is_none()) {
        return Err(ModelError::bad_tokenizer(format!("its unknown token {text:?} is no token")));
    }
    vocab.index(&[&[Kind::Normal], &[Kind::UserDefined]]);
    Ok((vocab, unknown))
}

/// The combined rules of a file's parts.
#[derive(Default)]
struct Parts {
    normalizers: Vec<Normalizer>,
    prefix: Option<Prefix>,
    splits: Vec<Split>,
    byte_level: bool,
    strips_first_space: bool,
}

fn kind_of<'a>(part: &str, value: &'a Value) -> Result<(&'a str, &'a Map<String, Value>)> {
    let object = value.as_object().ok_or_else(|| ModelError::bad_tokenizer(format!("its {part} is no object")))?;
    let kind = object.get("type").and_then(Value::as_str);
    kind.map(|kind| (kind, object)).ok_or_else(|| ModelError::bad_tokenizer(format!("its {part} has no type")))
}

fn list<'a>(part: &str, object: &'a Map<String, Value>, key: &str) -> Result<&'a [Value]> {
    let list = object.get(key).and_then(Value::as_array);
    list.map(Vec::as_slice).ok_or_else(|| ModelError::bad_tokenizer(format!("its {part} has no list {key:?}")))
}

fn text<'a>(part: &str, object: &'a Map<String, Value>, key: &str) -> Result<&'a str> {
    let text = object.get(key).and_then(Value::as_str);
    text.ok_or_else(|| ModelError::bad_tokenizer(format!("its {part} has no text {key:?}")))
}

fn flag(part: &str, object: &Map<String, Value>, key: &str, default: bool) -> Result<bool> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(value) => value
            .as_bool()
            .ok_or_else(|| ModelError::bad_tokenizer(format!("{key:?} of its {part} is neither true nor false"))),
    }
}

impl Parts {
    fn normalizer(&mut self, value: &Value) -> Result<()> {
        const PART: &str = "normalizer";
        if value.is_null() {
            return Ok(());
        }
        let (kind, object) = kind_of(PART, value)?;
        match kind {
            "Sequence" => {
                return list(PART, object, "normalizers")?.iter().try_for_each(|value| self.normalizer(value));
            }
            "NFC" => self.normalizers.push(Normalizer::Nfc),
            "Prepend" => self.normalizers.push(Normalizer::Prepend(text(PART, object, "prepend")?.into())),
            "Replace" => {
                let pattern = object.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
                let from = pattern.ok_or_else(|| unsupported(PART, "Replace with a pattern that is no text"))?;
                let to = text(PART, object, "content")?;
                self.normalizers.push(Normalizer::Replace { from: from.into(), to: to.into() });
            }
            _ => return Err(unsupported(PART, kind)),
        }
        Ok(())
    }

    fn pre_tokenizer(&mut self, value: &Value) -> Result<()> {
        const PART: &str = "pre-tokenizer";
        if value.is_null() {
            return Ok(());
        }
        let (kind, object) = kind_of(PART, value)?;
        if self.byte_level {
            // It would receive letters that spell bytes.
            return Err(unsupported(PART, &format!("{kind} behind ByteLevel")));
        }
        match kind {
            "Sequence" => {
                return list(PART, object, "pretokenizers")?.iter().try_for_each(|value| self.pre_tokenizer(value));
            }
            "Split" => {
                let behavior = behavior(PART, object, None)?;
                let invert = flag(PART, object, "invert", false)?;
                let pattern = object.get("pattern").and_then(Value::as_object);
                let pattern = |key: &str| pattern.and_then(|pattern| pattern.get(key)).and_then(Value::as_str);
                self.splits.push(match (pattern("Regex"), pattern("String")) {
                    (Some(expression), _) => {
                        Split::pattern(expression, behavior, invert).map_err(ModelError::bad_tokenizer)?
                    }
                    (None, Some(literal)) => Split::literal(literal, behavior, invert),
                    (None, None) => return Err(unsupported(PART, "Split without a pattern")),
                });
            }
            "Digits" => {
                let individual = flag(PART, object, "individual_digits", false)?;
                let behavior = if individual { Behavior::Isolated } else { Behavior::Contiguous };
                self.splits.push(Split::pattern(r"\p{N}", behavior, false).map_err(ModelError::bad_tokenizer)?);
            }
            "Punctuation" => {
                let behavior = behavior(PART, object, Some(Behavior::Isolated))?;
                self.splits
                    .push(Split::pattern(r"[\p{P}$+<=>^`|~]", behavior, false).map_err(ModelError::bad_tokenizer)?);
            }
            "ByteLevel" => {
                self.byte_level = true;
                if flag(PART, object, "add_prefix_space", true)? {
                    self.set_prefix(Prefix { text: ' ', only_first: false })?;
                }
                if flag(PART, object, "use_regex", true)? {
                    self.splits
                        .push(Split::pattern(GPT2, Behavior::Isolated, false).map_err(ModelError::bad_tokenizer)?);
                }
            }
            "Metaspace" => self.metaspace(PART, object)?,
            _ => return Err(unsupported(PART, kind)),
        }
        Ok(())
    }

    fn metaspace(&mut self, part: &str, object: &Map<String, Value>) -> Result<()> {
        if !self.splits.is_empty() || self.prefix.is_some() {
            return Err(unsupported(part, "Metaspace behind another"));
        }
        if object.get("replacement").is_some_and(|text| text.as_str() != Some(&SPACE.to_string())) {
            return Err(unsupported(part, "Metaspace with a replacement that is not ▁"));
        }
        let scheme = match object.get("prepend_scheme").and_then(Value::as_str) {
            Some(scheme) => scheme,
            None if flag(part, object, "add_prefix_space", true)? => "always",
            None => "never",
        };
        match scheme {
            "always" => self.set_prefix(Prefix { text: SPACE, only_first: false })?,
            "first" => self.set_prefix(Prefix { text: SPACE, only_first: true })?,
            "never" => {}
            _ => return Err(unsupported(part, &format!("Metaspace with the scheme {scheme}"))),
        }
        self.normalizers.push(Normalizer::spaces());
        if flag(part, object, "split", true)? {
            self.splits.push(Split::literal(&SPACE.to_string(), Behavior::MergedWithNext, false));
        }
        Ok(())
    }

    fn set_prefix(&mut self, prefix: Prefix) -> Result<()> {
        if !self.splits.is_empty() || self.prefix.is_some() {
            return Err(unsupported("pre-tokenizer", "a prefix in front of every piece"));
        }
        self.prefix = Some(prefix);
        Ok(())
    }

    fn decoder(&mut self, value: &Value) -> Result<()> {
        const PART: &str = "decoder";
        if value.is_null() {
            return Ok(());
        }
        let (kind, object) = kind_of(PART, value)?;
        match kind {
            "Sequence" => {
                return list(PART, object, "decoders")?.iter().try_for_each(|value| self.decoder(value));
            }
            "ByteLevel" if self.byte_level => {}
            "ByteFallback" | "Fuse" if !self.byte_level => {}
            "Metaspace" if !self.byte_level => {
                let scheme = object.get("prepend_scheme").and_then(Value::as_str);
                self.strips_first_space = scheme != Some("never") && flag(PART, object, "add_prefix_space", true)?;
            }
            "Replace" if !self.byte_level => {
                let pattern = object.get("pattern").and_then(|pattern| pattern.get("String")).and_then(Value::as_str);
                if pattern != Some(&SPACE.to_string()) || text(PART, object, "content")? != " " {
                    return Err(unsupported(PART, "Replace of another text than ▁"));
                }
            }
            "Strip" if !self.byte_level => {
                let count = |key: &str| object.get(key).and_then(Value::as_u64);
                if text(PART, object, "content")? != " " || count("start") > Some(1) || count("stop") > Some(0) {
                    return Err(unsupported(PART, "Strip of another text than one space at the start"));
                }
                self.strips_first_space = count("start") == Some(1);
            }
            _ => return Err(unsupported(PART, kind)),
        }
        Ok(())
    }
}

fn behavior(part: &str, object: &Map<String, Value>, default: Option<Behavior>) -> Result<Behavior> {
    match (object.get("behavior").and_then(Value::as_str), default) {
        (Some("Isolated"), _) => Ok(Behavior::Isolated),
        (Some("Removed"), _) => Ok(Behavior::Removed),
        (Some("MergedWithPrevious"), _) => Ok(Behavior::MergedWithPrevious),
        (Some("MergedWithNext"), _) => Ok(Behavior::MergedWithNext),
        (Some("Contiguous"), _) => Ok(Behavior::Contiguous),
        (None, Some(default)) => Ok(default),
        (name, _) => Err(unsupported(part, &format!("the behavior {}", name.unwrap_or("that is missing")))),
    }
}

/// The tokens that a post-processor adds before and after a text.
fn post_processor(value: &Value, vocab_size: usize, prefix: &mut Vec<u32>, suffix: &mut Vec<u32>) -> Result<()> {
    const PART: &str = "post-processor";
    if value.is_null() {
        return Ok(());
    }
    let (kind, object) = kind_of(PART, value)?;
    let id = |value: Option<&Value>| {
        let id = value.and_then(Value::as_u64).filter(|&id| id < vocab_size as u64);
        id.map(|id| id as u32)
            .ok_or_else(|| ModelError::bad_tokenizer(format!("its {PART} names an id that no token has")))
    };
    match kind {
        "Sequence" => {
            let processors = list(PART, object, "processors")?;
            processors.iter().try_for_each(|value| post_processor(value, vocab_size, prefix, suffix))
        }
        "ByteLevel" => Ok(()),
        "TemplateProcessing" => {
            let mut is_before = true;
            for piece in list(PART, object, "single")? {
                if piece.get("Sequence").is_some() {
                    is_before = false;
                    continue;
                }
                let name = piece.get("SpecialToken").and_then(|token| token.get("id")).and_then(Value::as_str);
                let token = name.and_then(|name| object.get("special_tokens")?.get(name)?.get("ids")?.as_array());
                let ids = token
                    .ok_or_else(|| ModelError::bad_tokenizer(format!("its {PART} has a template of unknown tokens")))?;
                for value in ids {
                    let tokens = if is_before { &mut *prefix } else { &mut *suffix };
                    tokens.push(id(Some(value))?);
                }
            }
            Ok(())
        }
        "BertProcessing" | "RobertaProcessing" => {
            prefix.push(id(object.get("cls").and_then(|pair| pair.get(1)))?);
            suffix.push(id(object.get("sep").and_then(|pair| pair.get(1)))?);
            Ok(())
        }
        _ => Err(unsupported(PART, kind)),
    }
}
