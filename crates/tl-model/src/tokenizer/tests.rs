//! Whole tokenizers over small vocabularies that are trained here, against plain references.

use std::collections::HashMap;
use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::bytes::char_of;
use super::{DecodeStream, EncodeOptions, Tokenizer};
use crate::error::Result;
use crate::format::gguf::Gguf;
use tl_testing::GgufWriter;

/// What the vocabularies are trained on.
const TEXT: &str =
    "the theme of then and there, that other thing; 123 1234 été étés 漢字 漢字かな 🦀🦀 tatata aaaa aaaaaaa\n\n\n";

/// Merges of two symbols each, the most frequent first, of equals the first in the alphabet.
fn train(pieces: &[Vec<String>], count: usize) -> Vec<(String, String)> {
    let mut pieces = pieces.to_vec();
    let mut merges = Vec::new();
    for _ in 0..count {
        let mut counts: HashMap<(String, String), usize> = HashMap::new();
        for pair in pieces.iter().flat_map(|piece| piece.windows(2)) {
            *counts.entry((pair[0].clone(), pair[1].clone())).or_default() += 1;
        }
        let best = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)));
        let Some((best, _)) = best else { break };
        pieces.iter_mut().for_each(|piece| join(piece, &best));
        merges.push(best);
    }
    merges
}

fn join(symbols: &mut Vec<String>, (left, right): &(String, String)) {
    let mut at = 0;
    while at + 1 < symbols.len() {
        if symbols[at] == *left && symbols[at + 1] == *right {
            let right = symbols.remove(at + 1);
            symbols[at].push_str(&right);
        }
        at += 1;
    }
}

/// The plain way: the merge of the lowest rank that joins any two neighbours joins the leftmost ones, again and again.
fn join_by_rank(mut symbols: Vec<String>, merges: &[(String, String)]) -> Vec<String> {
    loop {
        let ranks = symbols.windows(2).enumerate().filter_map(|(at, pair)| {
            let rank = merges.iter().position(|(left, right)| *left == pair[0] && *right == pair[1])?;
            Some((rank, at))
        });
        let Some((_, at)) = ranks.min() else { return symbols };
        let right = symbols.remove(at + 1);
        symbols[at].push_str(&right);
    }
}

fn spelled(text: &str) -> Vec<String> {
    text.bytes().map(|byte| char_of(byte).to_string()).collect()
}

/// A byte-level vocabulary: the bytes, what merges make, a user-defined token and control tokens.
struct ByteLevel {
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
    kinds: Vec<i32>,
}

static BYTE_LEVEL: LazyLock<ByteLevel> = LazyLock::new(ByteLevel::new);
static CHARS: LazyLock<Chars> = LazyLock::new(Chars::new);

const CONTROLS: [&str; 5] = ["<s>", "<|im_end|>", "<|im_start|>", "<s><s>", "ab<s>"];
const USER_DEFINED: &str = "<think>";

impl ByteLevel {
    fn new() -> ByteLevel {
        let merges = train(&TEXT.split_inclusive(' ').map(spelled).collect::<Vec<_>>(), 60);
        let mut tokens: Vec<String> = (0..=255).map(|byte| char_of(byte).to_string()).collect();
        tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
        let mut kinds = vec![1; tokens.len()];
        tokens.extend(CONTROLS.map(str::to_owned));
        kinds.extend([3; CONTROLS.len()]);
        tokens.push(USER_DEFINED.to_owned());
        kinds.push(4);
        ByteLevel { tokens, merges, kinds }
    }

    fn id(&self, token: &str) -> u32 {
        self.tokens.iter().position(|known| known == token).unwrap() as u32
    }

    fn file(&self, pre: &str) -> GgufWriter {
        let merges: Vec<String> = self.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        GgufWriter::default()
            .string("tokenizer.ggml.model", "gpt2")
            .string("tokenizer.ggml.pre", pre)
            .strings("tokenizer.ggml.tokens", &self.tokens.iter().map(String::as_str).collect::<Vec<_>>())
            .strings("tokenizer.ggml.merges", &merges.iter().map(String::as_str).collect::<Vec<_>>())
            .i32s("tokenizer.ggml.token_type", &self.kinds)
            .u32("tokenizer.ggml.bos_token_id", self.id("<s>"))
            .u32("tokenizer.ggml.eos_token_id", self.id("<|im_end|>"))
    }

    /// The same as a `tokenizer.json`, whose pre-tokenizer is given in front of the one that spells bytes.
    fn json(&self, split: Value) -> Value {
        let known = self.tokens.len() - CONTROLS.len() - 1;
        let vocab: serde_json::Map<String, Value> =
            self.tokens[..known].iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let added: Vec<Value> = (known..self.tokens.len())
            .map(
                |id| json!({"id": id, "content": self.tokens[id], "special": self.kinds[id] == 3, "normalized": false}),
            )
            .collect();
        let level = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        let merges: Vec<Value> = self.merges.iter().map(|(left, right)| json!([left, right])).collect();
        json!({
            "added_tokens": added,
            "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, level]},
            "decoder": level,
            "model": {"type": "BPE", "vocab": vocab, "merges": merges},
        })
    }

    /// The ids by the plain way, of a text that one piece is made of.
    fn reference(&self, text: &str) -> Vec<u32> {
        join_by_rank(spelled(text), &self.merges).iter().map(|token| self.id(token)).collect()
    }
}

fn parse(writer: &GgufWriter) -> Result<Tokenizer> {
    let bytes = writer.finish();
    Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap())
}

fn from_json(value: &Value) -> Result<Tokenizer> {
    Tokenizer::from_json(value.to_string().as_bytes(), None)
}

/// A split that never cuts.
fn whole() -> Value {
    json!({"type": "Split", "pattern": {"String": "\u{10FFFF}"}, "behavior": "Isolated", "invert": false})
}

const BARE: EncodeOptions = EncodeOptions { add_special: false, parse_special: false };
const PARSED: EncodeOptions = EncodeOptions { add_special: false, parse_special: true };

/// Texts that merges have something to do with, and any other.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof!["[the a]{0,120}", "(th|e|at|a|aa| |é|漢|字|🦀|\n|<s>|<think>|1|2){0,80}", any::<String>(), "\\PC{0,60}",]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn byte_level_joins_as_the_plain_way(text in texts()) {
        let vocabulary = &*BYTE_LEVEL;
        let text = text.replace(USER_DEFINED, "");
        let tokenizer = from_json(&vocabulary.json(whole())).unwrap();
        prop_assert_eq!(tokenizer.encode_with(&text, &BARE), vocabulary.reference(&text));
    }

    #[test]
    fn decoding_gives_the_text_back(text in texts()) {
        let vocabulary = &*BYTE_LEVEL;
        for pre in ["gpt-2", "smollm", "llama-bpe", "qwen2", "qwen35", "deepseek-v3", "gpt-4o", "tekken", "default"] {
            let tokenizer = parse(&vocabulary.file(pre)).unwrap();
            let ids = tokenizer.encode(&text);
            prop_assert_eq!(&tokenizer.decode(&ids).unwrap(), &text);
            let mut stream = DecodeStream::new();
            let mut joined = String::new();
            for &id in &ids {
                joined.push_str(stream.next(&tokenizer, id).unwrap());
            }
            joined.push_str(stream.finish());
            prop_assert_eq!(&joined, &text);
        }
    }

    #[test]
    fn characters_join_as_the_plain_way(text in texts()) {
        let vocabulary = &*CHARS;
        let tokenizer = parse(&vocabulary.file()).unwrap();
        let ids = tokenizer.encode_with(&text, &BARE);
        prop_assert_eq!(&ids, &vocabulary.reference(&text));
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace('▁', " "));
        let from_json = from_json(&vocabulary.json()).unwrap();
        prop_assert_eq!(from_json.encode_with(&text, &BARE), ids);
    }

    #[test]
    fn sentencepiece_joins_as_the_plain_way(text in texts()) {
        let vocabulary = &*CHARS;
        let tokenizer = parse(&vocabulary.sentencepiece()).unwrap();
        let ids = tokenizer.encode_with(&text, &BARE);
        prop_assert_eq!(&ids, &vocabulary.by_score(&text));
        prop_assert_eq!(tokenizer.decode(&ids).unwrap(), text.replace('▁', " "));
    }

    #[test]
    fn protected_text_never_becomes_a_control_token(
        parts in prop::collection::vec(
            prop::sample::select(vec!["<", "<s", ">", "s>", "<s>", "ab", "b<s>", "<|im_", "end|>", "<|im_end|>", "<|im_start|>", "\u{FDD0}", " x", "é", "<think>"]),
            0..12,
        ),
    ) {
        let vocabulary = &*BYTE_LEVEL;
        let tokenizer = parse(&vocabulary.file("llama-bpe")).unwrap();
        let text = parts.concat();
        let clean = text.replace('\u{FDD0}', "");
        prop_assert_eq!(tokenizer.encode_with(&tokenizer.protect(&text), &PARSED), tokenizer.encode_with(&clean, &BARE));
        // Nor do texts that are protected one by one and then put together.
        let joined: String = parts.iter().map(|part| tokenizer.protect(part)).collect();
        prop_assert_eq!(tokenizer.encode_with(&joined, &PARSED), tokenizer.encode_with(&clean, &BARE));
        // Control tokens around it are what they are.
        let template = format!("<|im_start|>{}<|im_end|>", tokenizer.protect(&text));
        let mut expected = tokenizer.encode_with(&clean, &BARE);
        expected.insert(0, vocabulary.id("<|im_start|>"));
        expected.push(vocabulary.id("<|im_end|>"));
        prop_assert_eq!(tokenizer.encode_with(&template, &PARSED), expected);
    }

    #[test]
    fn damaged_files_are_errors_or_tokenizers(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
        let (byte_level, chars) = (&*BYTE_LEVEL, &*CHARS);
        for mut bytes in [byte_level.file("qwen2").finish(), chars.file().finish(), chars.sentencepiece().finish()] {
            for (index, byte) in &flips {
                let at = index.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Ok(gguf) = Gguf::parse(&bytes) {
                use_it(Tokenizer::from_gguf(&gguf));
            }
        }
        for value in [byte_level.json(split_by(super::split::GPT2)), chars.json()] {
            let mut bytes = value.to_string().into_bytes();
            for (index, byte) in &flips {
                let at = index.index(bytes.len());
                bytes[at] = *byte;
            }
            use_it(Tokenizer::from_json(&bytes, Some(br#"{"bos_token": "<s>", "add_bos_token": true}"#)));
        }
    }

    #[test]
    fn any_expression_is_an_error_or_a_split(expression in "[ab()|*+?{},0-9\\[\\]^$.\\\\pLs!=:i<>-]{0,30}") {
        let vocabulary = &*BYTE_LEVEL;
        use_it(from_json(&vocabulary.json(split_by(&expression))));
    }
}

fn split_by(expression: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
}

/// What was read must work: every text has ids, and they have a text.
fn use_it(tokenizer: Result<Tokenizer>) {
    let Ok(tokenizer) = tokenizer else { return };
    let text = "the ab aaaa <s> <|im_end|> été 漢字 12 <think>\n\u{1}";
    for options in [EncodeOptions::default(), PARSED] {
        let ids = tokenizer.encode_with(&tokenizer.protect(text), &options);
        assert!(tokenizer.decode(&ids).is_ok());
    }
}

/// A vocabulary of characters, with byte tokens for all others.
struct Chars {
    tokens: Vec<String>,
    merges: Vec<(String, String)>,
}

impl Chars {
    fn new() -> Chars {
        let text = TEXT.replace(' ', "▁");
        let merges = train(&[text.chars().map(String::from).collect()], 60);
        let mut tokens = vec!["<unk>".to_owned(), "<s>".to_owned()];
        tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
        tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
        let mut chars: Vec<char> = text.chars().collect();
        chars.sort_unstable();
        chars.dedup();
        tokens.extend(chars.into_iter().map(String::from));
        Chars { tokens, merges }
    }

    fn kinds(&self) -> Vec<i32> {
        let kind = |id| match id {
            0 => 2,
            1 => 3,
            2..258 => 6,
            _ => 1,
        };
        (0..self.tokens.len()).map(kind).collect()
    }

    fn file(&self) -> GgufWriter {
        let merges: Vec<String> = self.merges.iter().map(|(left, right)| format!("{left} {right}")).collect();
        self.base("gemma4").strings("tokenizer.ggml.merges", &merges.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn base(&self, model: &str) -> GgufWriter {
        GgufWriter::default()
            .string("tokenizer.ggml.model", model)
            .strings("tokenizer.ggml.tokens", &self.tokens.iter().map(String::as_str).collect::<Vec<_>>())
            .i32s("tokenizer.ggml.token_type", &self.kinds())
            .u32("tokenizer.ggml.bos_token_id", 1)
    }

    fn scores(&self) -> Vec<f32> {
        // Some are equal, so that the leftmost counts.
        (0..self.tokens.len()).map(|id| -((id / 3) as f32)).collect()
    }

    fn sentencepiece(&self) -> GgufWriter {
        self.base("llama").f32s("tokenizer.ggml.scores", &self.scores())
    }

    fn json(&self) -> Value {
        let vocab: serde_json::Map<String, Value> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let merges: Vec<Value> = self.merges.iter().map(|(left, right)| json!(format!("{left} {right}"))).collect();
        json!({
            "added_tokens": [
                {"id": 0, "content": "<unk>", "special": true, "normalized": false},
                {"id": 1, "content": "<s>", "special": true, "normalized": false},
            ],
            "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            "decoder": {"type": "Sequence", "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
            ]},
            "model": {"type": "BPE", "vocab": vocab, "merges": merges, "byte_fallback": true, "unk_token": "<unk>"},
        })
    }

    fn ids(&self, symbols: &[String]) -> Vec<u32> {
        let known: HashMap<&str, u32> =
            (258..).zip(&self.tokens[258..]).map(|(id, token)| (token.as_str(), id)).collect();
        let mut ids = Vec::new();
        for symbol in symbols {
            match known.get(symbol.as_str()) {
                Some(&id) => ids.push(id),
                None => ids.extend(symbol.bytes().map(|byte| 2 + u32::from(byte))),
            }
        }
        ids
    }

    fn reference(&self, text: &str) -> Vec<u32> {
        let symbols = text.replace(' ', "▁").chars().map(String::from).collect();
        self.ids(&join_by_rank(symbols, &self.merges))
    }

    /// SentencePiece's way: of all neighbours that are a piece together, those of the best score.
    fn by_score(&self, text: &str) -> Vec<u32> {
        let scores = self.scores();
        let text = if text.is_empty() { String::new() } else { format!("▁{}", text.replace(' ', "▁")) };
        let mut symbols: Vec<String> = text.chars().map(String::from).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for (at, pair) in symbols.windows(2).enumerate() {
                let whole = pair.concat();
                let id = self.tokens.iter().skip(258).position(|token| *token == whole).map(|at| at + 258);
                if let Some(id) = id
                    && best.is_none_or(|(score, _)| scores[id] > score)
                {
                    best = Some((scores[id], at));
                }
            }
            let Some((_, at)) = best else { return self.ids(&symbols) };
            let right = symbols.remove(at + 1);
            symbols[at].push_str(&right);
        }
    }
}

#[test]
fn special_tokens_are_text_unless_parsed() {
    let vocabulary = &*BYTE_LEVEL;
    let tokenizer = parse(&vocabulary.file("llama-bpe")).unwrap();
    let (bos, end, think) = (vocabulary.id("<s>"), vocabulary.id("<|im_end|>"), vocabulary.id(USER_DEFINED));
    assert_eq!((tokenizer.bos(), tokenizer.eos(), tokenizer.vocab_size()), (Some(bos), Some(end), 322));
    assert_eq!(tokenizer.stop_tokens(), [end]);
    assert!(tokenizer.is_end(end) && !tokenizer.is_end(bos));
    let text = "a<s><|im_end|><think>";
    let ids = tokenizer.encode(text);
    // This way of cutting puts a token before a text where the file does not say otherwise.
    assert_eq!((ids[0], ids[ids.len() - 1]), (bos, think));
    assert!(!ids[1..].contains(&bos) && !ids.contains(&end));
    assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    let a = vocabulary.id("a");
    assert_eq!(tokenizer.encode_with(text, &PARSED), [a, bos, end, think]);
    assert_eq!(tokenizer.decode(&[a, bos, end, think]).unwrap(), "a<think>");
    let not = |key: &str| parse(&vocabulary.file("llama-bpe").bool(key, 0)).unwrap();
    assert_eq!(not("tokenizer.ggml.add_bos_token").encode("a"), [a]);
    assert_eq!(parse(&vocabulary.file("qwen2")).unwrap().encode("a"), [a]);
    let both = vocabulary.file("qwen2").bool("tokenizer.ggml.add_bos_token", 1).bool("tokenizer.ggml.add_eos_token", 1);
    assert_eq!(parse(&both).unwrap().encode("a"), [bos, a, end]);
}

#[test]
fn tokens_by_text_and_texts_by_token() {
    let vocabulary = &*BYTE_LEVEL;
    let tokenizer = parse(&vocabulary.file("gpt-2")).unwrap();
    for (id, text) in (0..).zip(&vocabulary.tokens) {
        assert_eq!(tokenizer.token_id(text), Some(id), "{text:?}");
        assert_eq!(tokenizer.token_text(id).as_deref(), Some(text.as_str()));
    }
    assert_eq!((tokenizer.token_id("no such token"), tokenizer.token_text(9999)), (None, None));
    assert!(tokenizer.decode(&[9999]).is_err());
    let mut tokenizer = tokenizer;
    tokenizer.add_stop_tokens(&[7, 3]).unwrap();
    assert_eq!(tokenizer.stop_tokens(), [3, 7, vocabulary.id("<|im_end|>")]);
    assert!(tokenizer.add_stop_tokens(&[9999]).is_err());
}

#[test]
fn long_pieces_take_little_time() {
    let vocabulary = &*BYTE_LEVEL;
    let chars = parse(&CHARS.file()).unwrap();
    for run in ["a", "th", " ", "\n", "1", "漢", "\u{1}", "<", "<s", "'", "e\u{301}"] {
        let text = run.repeat(200_000 / run.len());
        for pre in ["gpt-2", "llama-bpe", "deepseek-v3", "deepseek-llm", "gpt-4o", "default"] {
            let tokenizer = parse(&vocabulary.file(pre)).unwrap();
            let ids = tokenizer.encode_with(&tokenizer.protect(&text), &PARSED);
            assert_eq!(tokenizer.decode(&ids).unwrap(), text, "{run:?} {pre}");
        }
        assert_eq!(chars.decode(&chars.encode(&text)).unwrap(), text, "{run:?}");
    }
}

#[test]
fn a_way_of_cutting_that_is_not_known_is_named() {
    let error = parse(&BYTE_LEVEL.file("nothing")).unwrap_err().to_string();
    assert!(error.contains("`tokenizer.ggml.pre` is nothing") && error.contains("llama-bpe"), "{error}");
}

#[test]
fn merges_that_make_no_token_are_errors() {
    let check = |merge: &str, expected: &str| {
        let file = GgufWriter::default()
            .string("tokenizer.ggml.model", "gpt2")
            .strings("tokenizer.ggml.tokens", &["a", "b", "ab", "é", "éa"])
            .strings("tokenizer.ggml.merges", &[merge]);
        match parse(&file) {
            Ok(_) => assert_eq!(expected, "", "accepted"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        }
    };
    check("a b", "");
    check("é a", "");
    check("b a", "joins \"b\" and \"a\", but \"ba\" is no token");
    check("c a", "\"c\" is no token");
    check("ab", "merge 0 is \"ab\"");
    check("", "merge 0 is \"\"");
    check("a ", "merge 0 is \"a \"");
}

#[test]
fn json_parts_do_what_they_say() {
    let vocabulary = &*BYTE_LEVEL;
    let base = vocabulary.json(split_by(super::split::GPT2));
    let a = vocabulary.id("a");
    let with = |key: &str, value: Value| {
        let mut file = base.clone();
        file[key] = value;
        file
    };
    let ids = |file: &Value, text: &str| from_json(file).unwrap().encode(text);
    let plain = from_json(&base).unwrap();
    assert_eq!(plain.encode("e\u{301}").len(), 3);
    assert_eq!(ids(&with("normalizer", json!({"type": "NFC"})), "e\u{301}"), plain.encode("é"));
    let bos = json!({"type": "TemplateProcessing", "single": [
        {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
        {"SpecialToken": {"id": "<|im_end|>", "type_id": 0}}],
        "special_tokens": {"<s>": {"ids": [vocabulary.id("<s>")]}, "<|im_end|>": {"ids": [vocabulary.id("<|im_end|>")]}}});
    let file = with("post_processor", bos);
    assert_eq!(ids(&file, "a"), [vocabulary.id("<s>"), a, vocabulary.id("<|im_end|>")]);
    let config = br#"{"bos_token": {"content": "<s>"}, "eos_token": "<|im_end|>", "add_bos_token": true, "add_eos_token": false}"#;
    let tokenizer = Tokenizer::from_json(file.to_string().as_bytes(), Some(config)).unwrap();
    assert_eq!(tokenizer.encode("a"), [vocabulary.id("<s>"), a]);
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(vocabulary.id("<s>")), Some(vocabulary.id("<|im_end|>"))));
    // A space before every text that has none.
    let level = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
    let spaced = with("pre_tokenizer", level);
    assert_eq!(ids(&spaced, "a"), plain.encode(" a"));
    assert_eq!(ids(&spaced, " a"), plain.encode(" a"));
    // Digits by themselves, whatever merges say.
    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true}, {"type": "ByteLevel", "add_prefix_space": false}]});
    assert_eq!(ids(&with("pre_tokenizer", digits), "123").len(), 3);
    // A piece that is a token is that token.
    let mut file = base.clone();
    file["model"]["ignore_merges"] = json!(true);
    file["model"]["merges"] = json!([]);
    assert_eq!(ids(&file, "aaaa"), [vocabulary.id("aaaa")]);
}

#[test]
fn metaspace_and_prepend() {
    let vocabulary = &*CHARS;
    let with = |key: &str, value: Value, text: &str| {
        let mut file = vocabulary.json();
        file["normalizer"] = Value::Null;
        file[key] = value;
        let tokenizer = from_json(&file).unwrap();
        tokenizer.encode_with(text, &PARSED)
    };
    let metaspace =
        |scheme: &str| json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false});
    let reference = |text: &str| vocabulary.reference(text);
    assert_eq!(
        with("pre_tokenizer", metaspace("always"), "the<s>the"),
        [reference(" the"), vec![1], reference(" the")].concat()
    );
    assert_eq!(
        with("pre_tokenizer", metaspace("first"), "the<s>the"),
        [reference(" the"), vec![1], reference("the")].concat()
    );
    assert_eq!(with("pre_tokenizer", metaspace("never"), "the"), reference("the"));
    assert_eq!(with("pre_tokenizer", metaspace("always"), " the"), reference(" the"));
    let prepend = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},
        {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]});
    assert_eq!(with("normalizer", prepend.clone(), " the"), reference("  the"));
    assert!(with("normalizer", prepend, "").is_empty());
}

#[test]
fn json_that_asks_for_more_is_an_error_that_names_it() {
    let base = CHARS.json();
    let check = |path: &[&str], value: Value, expected: &str| {
        let mut file = base.clone();
        let place = path.iter().fold(&mut file, |value, key| &mut value[*key]);
        *place = value;
        match from_json(&file) {
            Ok(_) => assert_eq!(expected, "", "accepted"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        }
    };
    check(&[], base.clone(), "");
    check(&["model", "type"], json!("Unigram"), "its model asks for \"Unigram\"");
    check(&["model", "vocab"], json!([["a", 0.5]]), "no map of texts to ids");
    check(&["model", "dropout"], json!(0.1), "dropout");
    check(&["model", "continuing_subword_prefix"], json!("##"), "continuing_subword_prefix");
    check(&["model", "unk_token"], json!("nothing"), "\"nothing\" is no token");
    check(&["model", "merges"], json!(["a"]), "the merge \"a\"");
    check(&["model", "merges"], json!([["t", "h", "e"]]), "more than two texts");
    check(&["model", "merges"], json!(["t zz"]), "\"zz\" is no token");
    check(&["model", "vocab", "a"], json!(4_000_000_000u32), "far beyond");
    check(&["model", "vocab", "a"], json!(0), "the id 0 has two tokens");
    check(&["added_tokens"], json!([{"id": 200_000, "content": "x"}]), "far beyond the");
    check(&["model", "vocab", "a"], json!(-1), "tokenizer.json:");
    check(&["normalizer"], json!({"type": "Lowercase"}), "its normalizer asks for \"Lowercase\"");
    check(
        &["normalizer"],
        json!({"type": "Replace", "pattern": {"Regex": "a"}, "content": ""}),
        "a pattern that is no text",
    );
    check(&["pre_tokenizer"], json!({"type": "BertPreTokenizer"}), "BertPreTokenizer");
    check(&["pre_tokenizer"], json!({"kind": 1}), "has no type");
    check(&["pre_tokenizer"], split_by("(?<=a)b"), "(?<=a");
    check(&["decoder"], json!({"type": "WordPiece"}), "its decoder asks for \"WordPiece\"");
    check(&["post_processor"], json!({"type": "TemplateProcessing"}), "no list \"single\"");
    check(&["added_tokens"], json!([{"id": 1}]), "missing field `content`");
    assert!(Tokenizer::from_json(b"{", None).unwrap_err().to_string().contains("tokenizer.json:"));
    let error = Tokenizer::from_json(base.to_string().as_bytes(), Some(b"[")).unwrap_err().to_string();
    assert!(error.contains("tokenizer_config.json:"), "{error}");
}

/// The tokenizer as GGUF's keys have it, and what was noted.
fn exported(tokenizer: &Tokenizer, n_rows: usize, stop_tokens: &[u32]) -> Result<(Tokenizer, Vec<String>)> {
    let mut header = crate::format::write::GgufHeader::new();
    let model_name = "";
    let notes = super::TokenizerExport { tokenizer, n_rows, stop_tokens, model_name }.write(&mut header)?;
    let bytes = header.bytes();
    Ok((Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap())?, notes))
}

/// Every token's text, kind and place are what they were.
fn check_same_tokens(old: &Tokenizer, new: &Tokenizer) {
    assert!(new.vocab_size() >= old.vocab_size());
    for id in 0..old.vocab_size() as u32 {
        assert_eq!(new.token_text(id), old.token_text(id), "{id}");
        assert_eq!(new.vocab.kind(id), old.vocab.kind(id), "{id}");
    }
    assert_eq!((new.bos(), new.eos(), new.stop_tokens()), (old.bos(), old.eos(), old.stop_tokens()));
}

const CONFIG: &[u8] =
    br#"{"bos_token": "<s>", "eos_token": {"content": "<|im_end|>"}, "add_bos_token": true, "add_eos_token": true}"#;

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn tokenizers_give_the_same_ids_from_gguf(text in texts()) {
        for (old, new) in &*EXPORTED {
            for options in [EncodeOptions::default(), PARSED] {
                prop_assert_eq!(new.encode_with(&text, &options), old.encode_with(&text, &options));
            }
            let ids = new.encode(&text);
            prop_assert_eq!(new.decode(&ids).unwrap(), old.decode(&ids).unwrap());
        }
    }

    /// Runs as Gemma has them, in an order of their merges that is not that of their lengths.
    #[test]
    fn runs_are_joined_alike(text in "( {0,9}|a{0,3}|b| a| b){0,12}") {
        let (old, new) = &*RUNS;
        prop_assert_eq!(new.encode_with(&text, &BARE), old.encode_with(&text, &BARE));
    }
}

/// Tokenizers with what they are from GGUF.
static EXPORTED: LazyLock<Vec<(Tokenizer, Tokenizer)>> = LazyLock::new(|| {
    let vocabulary = &*BYTE_LEVEL;
    let byte_level = super::split::tests::expressions().map(|expressions| {
        let splits: Vec<Value> = expressions.iter().map(|expression| split_by(expression)).collect();
        let json = vocabulary.json(json!({"type": "Sequence", "pretokenizers": splits})).to_string();
        Tokenizer::from_json(json.as_bytes(), Some(CONFIG)).unwrap()
    });
    let pieces = [false, true].map(|has_prefix| from_json(&closed_json(has_prefix)).unwrap());
    let with_exported = |old: Tokenizer| {
        let (new, notes) = exported(&old, old.vocab_size(), &[]).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        (old, new)
    };
    byte_level.chain(pieces).map(with_exported).collect()
});

static RUNS: LazyLock<(Tokenizer, Tokenizer)> = LazyLock::new(|| {
    let old = from_json(&runs_json(&runs_merges())).unwrap();
    let (new, notes) = exported(&old, old.vocab_size(), &[]).unwrap();
    assert!(notes.len() == 1 && notes[0].contains("counts as a space"), "{notes:?}");
    (old, new)
});

/// Runs of up to 5 spaces, longer left halves first; then what else there is.
fn runs_merges() -> Vec<(String, String)> {
    let halves = (1..5).rev().flat_map(|left| (1..=5 - left).rev().map(move |right| (left, right)));
    let mut merges: Vec<(String, String)> = halves.map(|(a, b)| ("▁".repeat(a), "▁".repeat(b))).collect();
    merges.extend([("▁", "a"), ("a", "a"), ("▁", "aa"), ("▁a", "a")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    merges
}

fn runs_json(merges: &[(String, String)]) -> Value {
    let mut json = CHARS.json();
    let mut vocab: serde_json::Map<String, Value> =
        CHARS.tokens[..258].iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    for text in ["▁", "a", "b"].map(str::to_owned).into_iter().chain(merges.iter().map(|(a, b)| format!("{a}{b}"))) {
        let id = vocab.len();
        vocab.entry(text).or_insert(json!(id));
    }
    // As added tokens, that a text with plain spaces does not have.
    let runs = (2..=5).map(|n| "▁".repeat(n));
    let added = runs.map(|run| json!({"id": vocab[&run], "content": run, "special": false, "normalized": false}));
    json["added_tokens"].as_array_mut().unwrap().extend(added);
    json["model"]["vocab"] = vocab.into();
    json["model"]["merges"] = merges.iter().map(|(left, right)| json!([left, right])).collect();
    json
}

/// Characters whose merges are all ways to make each token, in the order of the tokens: as SentencePiece's models have
/// them.
fn closed_json(has_prefix: bool) -> Value {
    let vocabulary = &*CHARS;
    let mut json = vocabulary.json();
    let is_known = |text: &str| vocabulary.tokens.iter().skip(258).any(|token| token == text);
    let mut merges = Vec::new();
    for token in &vocabulary.tokens[258..] {
        let halves = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
        merges.extend(halves.filter(|(left, right)| is_known(left) && is_known(right)).map(|(a, b)| json!([a, b])));
    }
    json["model"]["merges"] = merges.into();
    if has_prefix {
        let spaces = json["normalizer"].take();
        json["normalizer"] = json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]});
        let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
        json["decoder"] = json!({"type": "Sequence", "decoders": [json["decoder"].take(), strip]});
    }
    json
}

#[test]
fn what_is_written_of_tokenizers() {
    let vocabulary = &*BYTE_LEVEL;
    let n_tokens = vocabulary.tokens.len();
    let json = vocabulary.json(split_by(super::split::GPT2));
    let old = Tokenizer::from_json(json.to_string().as_bytes(), Some(CONFIG)).unwrap();
    let (new, _) = exported(&old, n_tokens, &[]).unwrap();
    check_same_tokens(&old, &new);
    let old = from_json(&closed_json(false)).unwrap();
    check_same_tokens(&old, &exported(&old, old.vocab_size(), &[]).unwrap().0);
    // Rows without a token, and tokens after which a model has finished.
    let old = from_json(&json).unwrap();
    let (the, at) = (256, 257);
    let (new, notes) = exported(&old, n_tokens + 2, &[the, at, vocabulary.id("<|im_end|>")]).unwrap();
    assert_eq!((new.vocab_size(), new.token_text(n_tokens as u32).as_deref()), (n_tokens + 2, Some("[PAD322]")));
    let mut ends = [the, at, vocabulary.id("<|im_end|>")];
    ends.sort_unstable();
    assert_eq!((new.stop_tokens(), notes.len()), (&ends[..], 0));
    // A token beyond the rows.
    let (new, notes) = exported(&old, n_tokens - 1, &[]).unwrap();
    assert_eq!((new.vocab_size(), notes.len()), (n_tokens - 1, 1));
    assert!(notes[0].contains("<think>"), "{notes:?}");
}

/// Marks that a model has no rows for are ordinary text; tokens that texts are made of cannot be left out.
#[test]
fn tokens_without_a_row() {
    let vocabulary = &*BYTE_LEVEL;
    let n_tokens = vocabulary.tokens.len();
    let json = vocabulary.json(split_by(super::split::GPT2));
    let whole = from_json(&json).unwrap();
    let mark = whole.token_text(n_tokens as u32 - 1).unwrap().into_owned();
    let mut cut = from_json(&json).unwrap();
    cut.keep_first(n_tokens - 1).unwrap();
    assert_eq!((cut.vocab_size(), cut.token_id(&mark)), (n_tokens - 1, None));
    let text = format!("a{mark}b");
    let options = EncodeOptions::default().with_parse_special(true);
    assert!(whole.encode_with(&text, &options).contains(&(n_tokens as u32 - 1)));
    let ids = cut.encode_with(&text, &options);
    assert!(ids.iter().all(|&id| (id as usize) < n_tokens - 1), "{ids:?}");
    assert_eq!(cut.decode(&ids).unwrap(), text);
    let error = cut.keep_first(256).unwrap_err().to_string();
    assert!(error.contains(&format!("it has {} tokens, but the model has room for 256", n_tokens - 1)), "{error}");
    assert_eq!(cut.vocab_size(), n_tokens - 1, "nothing was left out");
}

#[test]
fn what_gguf_cannot_say_of_tokenizers() {
    let vocabulary = &*BYTE_LEVEL;
    let byte_level = |change: &dyn Fn(&mut Value)| {
        let mut json = vocabulary.json(split_by(super::split::GPT2));
        change(&mut json);
        json
    };
    let pieces = |change: &dyn Fn(&mut Value)| {
        let mut json = closed_json(false);
        change(&mut json);
        json
    };
    let check = |json: Value, n_rows: usize, expected: &str| {
        let tokenizer = from_json(&json).unwrap();
        let n_rows = if n_rows == 0 { tokenizer.vocab_size() } else { n_rows };
        match exported(&tokenizer, n_rows, &[5, 6, 7, 8]) {
            Ok((_, notes)) => {
                let found = notes.iter().any(|note| note.contains(expected));
                assert!(found || (expected.is_empty() && notes.is_empty()), "{expected}: {notes:?}");
            }
            Err(error) => {
                let error = error.to_string();
                assert!(!expected.is_empty() && error.contains(expected), "{expected}: {error}");
            }
        }
    };
    check(byte_level(&|_| ()), 0, "tokens that no longer end a text");
    check(byte_level(&|_| ()), 300, "tokens, but the model's embedding has 300 rows");
    check(byte_level(&|_| ()), 1 << 40, "far less than the 1099511627776 rows");
    let nfc = |json: &mut Value| json["normalizer"] = json!({"type": "NFC"});
    check(byte_level(&nfc), 0, "no longer composed");
    let other = |json: &mut Value| json["normalizer"] = json!({"type": "Prepend", "prepend": "x"});
    check(byte_level(&other), 0, "cannot describe the normalizer Prepend");
    check(pieces(&other), 0, "cannot describe the normalizer Prepend");
    let split = |json: &mut Value| json["pre_tokenizer"]["pretokenizers"][0] = split_by("a|b");
    check(byte_level(&split), 0, "expressions of its pre-tokenizer that are none of those with a name");
    let space = |json: &mut Value| json["pre_tokenizer"]["pretokenizers"][1]["add_prefix_space"] = json!(true);
    check(
        byte_level(&|json| {
            space(json);
            json["pre_tokenizer"]["pretokenizers"] = json!([json["pre_tokenizer"]["pretokenizers"][1]]);
            json["pre_tokenizer"]["pretokenizers"][0]["use_regex"] = json!(true);
        }),
        0,
        "a space before every text",
    );
    // Merges lead to every token, so that it does not matter.
    check(byte_level(&|json| json["model"]["ignore_merges"] = json!(true)), 0, "tokens that no longer end a text");
    let unreachable = |json: &mut Value| {
        json["model"]["ignore_merges"] = json!(true);
        json["model"]["merges"].as_array_mut().unwrap().truncate(3);
    };
    check(byte_level(&unreachable), 0, "cannot describe gpt-2 which has `ignore_merges`");
    let strips = |json: &mut Value| json["added_tokens"][0]["lstrip"] = json!(true);
    check(byte_level(&strips), 0, "no longer take the spaces beside them, or stand in words: <s>");
    let template = |json: &mut Value| {
        let piece = |name: &str| json!({"SpecialToken": {"id": name, "type_id": 0}});
        json["post_processor"] = json!({
            "type": "TemplateProcessing",
            "single": [piece("<s>"), piece("ab<s>"), {"Sequence": {"id": "A", "type_id": 0}}],
            "special_tokens": {"<s>": {"ids": [5]}, "ab<s>": {"ids": [6]}},
        });
    };
    check(byte_level(&template), 0, "texts no longer begin with");
    let metaspace = |json: &mut Value| {
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({"type": "Metaspace", "prepend_scheme": "first", "split": false});
    };
    check(pieces(&metaspace), 0, "a space is put before texts that begin with one");
    let cuts = |json: &mut Value| {
        json["normalizer"] = Value::Null;
        json["pre_tokenizer"] = json!({"type": "Metaspace", "prepend_scheme": "never"});
    };
    check(pieces(&cuts), 0, "cutting at spaces, with the token");
    let order = |json: &mut Value| {
        let merges = json["model"]["merges"].as_array_mut().unwrap();
        let first = merges.remove(0);
        merges.insert(1, first.clone());
        let both = merges.iter().position(|merge| merge == &first).unwrap();
        assert!(both == 1);
    };
    // One token's merges apart from each other.
    let apart = |json: &mut Value| {
        let merges = json["model"]["merges"].as_array_mut().unwrap();
        let text = |merge: &Value| format!("{}{}", merge[0].as_str().unwrap(), merge[1].as_str().unwrap());
        let at = merges.windows(2).position(|pair| text(&pair[0]) == text(&pair[1])).unwrap();
        let moved = merges.remove(at);
        merges.push(moved);
    };
    check(pieces(&order), 0, "tokens that no longer end a text");
    check(pieces(&apart), 0, "merges that are in no order of what they make");
    let open = |json: &mut Value| drop(json["model"]["merges"].as_array_mut().unwrap().pop());
    check(pieces(&open), 0, ", without a merge of");
    // The pair of two before one of them takes more.
    let mut pairs_first = runs_merges();
    let pair = pairs_first.remove(9);
    assert_eq!((pair.0.as_str(), pair.1.as_str()), ("▁", "▁"));
    pairs_first.insert(0, pair);
    check(runs_json(&pairs_first), 0, "merges of runs of '▁' in no order of their lengths");
    let no_bytes = |json: &mut Value| {
        json["model"]["byte_fallback"] = json!(false);
        json["model"]["unk_token"] = json!("<unk>");
    };
    check(pieces(&no_bytes), 0, "without all 256 byte tokens");
}
