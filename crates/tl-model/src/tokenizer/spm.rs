//! SentencePiece's byte-pair encoding, as GGUF's tokenizer model `llama` stores it.
//!
//! Owns the vocabulary. A text is cut into characters (and whole user-defined pieces), then of all adjacent pairs
//! that together are a piece the one with the best score is joined, the leftmost of equals, until none is left. What is
//! then no piece is spelled in byte tokens. Spaces are written `▁`, and one is put before the text.
//! Source: Kudo and Richardson, "SentencePiece" (2018), and its `bpe_model.cc`.

use std::collections::HashMap;
use std::ops::Range;

use super::decode::DecodeStream;
use super::merge::Merge;
use crate::error::{ModelError, Result};
use crate::format::gguf::{Array, Gguf, Value, ValueType};

/// What SentencePiece writes for a space.
pub(super) const SPACE: char = '▁';

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Text that merging can make.
    Normal,
    /// Stands for what cannot be spelled.
    Unknown,
    /// A mark such as the beginning of a text; it has no text of its own.
    Control,
    /// Text that is always one token.
    UserDefined,
    /// In the vocabulary, but never the result of encoding.
    Unused,
    /// One byte.
    Byte(u8),
}

/// A vocabulary with its rules: text to ids, ids to text.
#[derive(Debug)]
pub struct Tokenizer {
    /// All pieces, one after the other.
    text: String,
    pieces: Vec<Piece>,
    /// Ids of the pieces that merging may make, by their text.
    by_text: HashMap<Box<str>, u32>,
    /// Ids of the pieces that are always one token, longest first, by their first character.
    user_defined: HashMap<char, Vec<u32>>,
    /// Ids of the byte tokens, where there are all 256.
    bytes: Option<Box<[u32; 256]>>,
    unknown: Option<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    end_of_turn: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    add_space_prefix: bool,
}

#[derive(Clone, Debug)]
struct Piece {
    text: Range<usize>,
    score: f32,
    kind: Kind,
}

impl Tokenizer {
    /// Reads the tokenizer that a file carries.
    ///
    /// # Errors
    /// No tokenizer, one of another kind, or data that contradicts itself.
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<Tokenizer> {
        const MODEL: &str = "tokenizer.ggml.model";
        match gguf.string(MODEL)? {
            Some("llama") => {}
            Some(found) => {
                return Err(ModelError::TokenizerKind { found: found.to_owned() });
            }
            None => {
                return Err(ModelError::MissingKey { key: MODEL.to_owned(), meaning: "the kind of tokenizer" });
            }
        }
        let mut tokenizer = Tokenizer::read_pieces(gguf)?;
        tokenizer.index_pieces()?;
        tokenizer.bos = tokenizer.special_id(gguf, "tokenizer.ggml.bos_token_id")?;
        tokenizer.eos = tokenizer.special_id(gguf, "tokenizer.ggml.eos_token_id")?;
        tokenizer.end_of_turn = tokenizer.special_id(gguf, "tokenizer.ggml.eot_token_id")?;
        tokenizer.unknown = tokenizer.special_id(gguf, "tokenizer.ggml.unknown_token_id")?.or(tokenizer.unknown);
        tokenizer.add_bos = gguf.boolean("tokenizer.ggml.add_bos_token")?.unwrap_or(true);
        tokenizer.add_eos = gguf.boolean("tokenizer.ggml.add_eos_token")?.unwrap_or(false);
        tokenizer.add_space_prefix = gguf.boolean("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        if tokenizer.bytes.is_none() && tokenizer.unknown.is_none() {
            return Err(bad("it has neither all 256 byte tokens nor an unknown token, so that not every text has ids"));
        }
        if tokenizer.add_bos && tokenizer.bos.is_none() {
            return Err(bad("it asks for a token at the beginning, but names none (tokenizer.ggml.bos_token_id)"));
        }
        if tokenizer.add_eos && tokenizer.eos.is_none() {
            return Err(bad("it asks for a token at the end, but names none (tokenizer.ggml.eos_token_id)"));
        }
        Ok(tokenizer)
    }

    fn read_pieces(gguf: &Gguf<'_>) -> Result<Tokenizer> {
        let (tokens, scores, kinds) = arrays(gguf)?;
        let mut tokenizer = Tokenizer {
            text: String::new(),
            pieces: Vec::with_capacity(tokens.len()),
            by_text: HashMap::new(),
            user_defined: HashMap::new(),
            bytes: None,
            unknown: None,
            bos: None,
            eos: None,
            end_of_turn: None,
            add_bos: true,
            add_eos: false,
            add_space_prefix: true,
        };
        let mut kinds = kinds.map(|kinds| kinds.iter());
        for (id, (token, score)) in tokens.iter().zip(scores.iter()).enumerate() {
            let (Value::String(text), Value::F32(score)) = (token, score) else {
                break;
            };
            if score.is_nan() {
                return Err(bad(format!("the score of token {id} is NaN")));
            }
            let number = match kinds.as_mut().and_then(Iterator::next) {
                None => 1,
                Some(Value::I32(number)) => number.into(),
                Some(Value::U32(number)) => i64::from(number),
                Some(_) => 0,
            };
            let kind = kind_of(id, text, number)?;
            let start = tokenizer.text.len();
            tokenizer.text.push_str(text);
            // Minus zero and zero are one score.
            tokenizer.pieces.push(Piece { text: start..tokenizer.text.len(), score: score + 0.0, kind });
        }
        Ok(tokenizer)
    }

    /// Builds what encoding looks up. Where a text occurs twice, the first piece has it.
    fn index_pieces(&mut self) -> Result<()> {
        let mut bytes = [None; 256];
        for (id, piece) in (0u32..).zip(&self.pieces) {
            let text = self.text.get(piece.text.clone()).unwrap_or_default();
            match piece.kind {
                Kind::Normal | Kind::Unused if !text.is_empty() => {
                    self.by_text.entry(text.into()).or_insert(id);
                }
                Kind::UserDefined => {
                    if let Some(first) = text.chars().next() {
                        self.user_defined.entry(first).or_default().push(id);
                    }
                }
                Kind::Byte(byte) => {
                    bytes[usize::from(byte)].get_or_insert(id);
                }
                Kind::Unknown => {
                    self.unknown.get_or_insert(id);
                }
                _ => {}
            }
        }
        for ids in self.user_defined.values_mut() {
            let pieces = &self.pieces;
            ids.sort_by_key(|&id| pieces.get(id as usize).map_or(0, |piece| usize::MAX - piece.text.len()));
        }
        let found: Vec<u32> = bytes.into_iter().flatten().collect();
        match found.len() {
            0 => {}
            256 => self.bytes = found.try_into().ok().map(Box::new),
            n => return Err(bad(format!("it has {n} of the 256 byte tokens"))),
        }
        Ok(())
    }

    fn special_id(&self, gguf: &Gguf<'_>, key: &str) -> Result<Option<u32>> {
        match gguf.integer(key)? {
            Some(id) if id >= self.pieces.len() as u64 => Err(ModelError::KeyValue {
                key: key.to_owned(),
                value: id.to_string(),
                problem: format!("outside the vocabulary of {} tokens", self.pieces.len()),
            }),
            id => Ok(id.map(|id| id as u32)),
        }
    }

    /// The number of tokens.
    pub fn vocab_size(&self) -> usize {
        self.pieces.len()
    }

    /// The token that begins a text, if there is one.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that ends a text, if there is one.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The tokens that end a text or a turn: a model that gives one of them has finished.
    pub fn ends(&self) -> [Option<u32>; 2] {
        [self.eos, self.end_of_turn]
    }

    /// Whether a model that gives this token has finished.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends().contains(&Some(id))
    }

    /// The piece of a token as the vocabulary spells it (spaces as `▁`), if there is such a token.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize).and_then(|piece| self.text.get(piece.text.clone()))
    }

    /// Whether a text begins with a space that is not its own.
    pub(super) fn adds_space_prefix(&self) -> bool {
        self.add_space_prefix
    }

    /// A token's kind and piece.
    pub(super) fn entry(&self, id: u32) -> Result<(Kind, &str)> {
        let out_of_range = ModelError::TokenId { id, vocab_size: self.pieces.len() };
        let piece = self.pieces.get(id as usize).ok_or(out_of_range)?;
        Ok((piece.kind, self.text.get(piece.text.clone()).unwrap_or_default()))
    }

    /// The ids of a text, with the tokens at its beginning and end that the file asks for.
    ///
    /// Marks such as `<s>` inside the text are text; they never become control tokens. Takes time n log n.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 2 + 2);
        ids.extend(self.bos.filter(|_| self.add_bos));
        self.encode_text(text, &mut ids);
        ids.extend(self.eos.filter(|_| self.add_eos));
        ids
    }

    /// The text of ids: control tokens give nothing, bytes that are no UTF-8 give U+FFFD, and the space that
    /// encoding put before the text is taken away.
    ///
    /// # Errors
    /// An id outside the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        let mut stream = DecodeStream::from_start();
        let mut text = String::new();
        for &id in ids {
            text.push_str(stream.next(self, id)?);
        }
        text.push_str(stream.finish());
        Ok(text)
    }

    fn encode_text(&self, text: &str, ids: &mut Vec<u32>) {
        if text.is_empty() {
            return;
        }
        let mut spelled = String::with_capacity(text.len() + text.len() / 4 + 3);
        if self.add_space_prefix {
            spelled.push(SPACE);
        }
        spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        Merge::of(self, &spelled).finish(ids);
    }

    /// The longest user-defined piece that this text begins with.
    pub(super) fn user_defined_at(&self, rest: &str) -> Option<u32> {
        let ids = self.user_defined.get(&rest.chars().next()?)?;
        ids.iter().copied().find(|&id| self.piece(id).is_some_and(|piece| rest.starts_with(piece)))
    }

    /// The piece that merging may make of this text: its id, its score, and whether it is only a step on the way.
    pub(super) fn merged(&self, text: &str) -> Option<(u32, f32, bool)> {
        let &id = self.by_text.get(text)?;
        let piece = self.pieces.get(id as usize)?;
        Some((id, piece.score, piece.kind == Kind::Unused))
    }

    /// Spells what is no piece in bytes, or as unknown.
    pub(super) fn push_bytes(&self, text: &str, ids: &mut Vec<u32>) {
        match &self.bytes {
            Some(bytes) => ids.extend(text.bytes().map(|byte| bytes[usize::from(byte)])),
            None => ids.extend(self.unknown),
        }
    }
}

fn bad(problem: impl Into<String>) -> ModelError {
    ModelError::TokenizerData { problem: problem.into() }
}

type Arrays<'a> = (Array<'a>, Array<'a>, Option<Array<'a>>);

/// Pieces, scores and kinds, all of one length.
fn arrays<'a>(gguf: &Gguf<'a>) -> Result<Arrays<'a>> {
    const TOKENS: &str = "tokenizer.ggml.tokens";
    const SCORES: &str = "tokenizer.ggml.scores";
    const KINDS: &str = "tokenizer.ggml.token_type";
    let missing = |key: &str, meaning| ModelError::MissingKey { key: key.to_owned(), meaning };
    let tokens = gguf.array(TOKENS, ValueType::String, "an array of strings")?;
    let tokens = tokens.ok_or_else(|| missing(TOKENS, "the tokens' pieces"))?;
    let scores = gguf.array(SCORES, ValueType::F32, "an array of f32")?;
    let scores = scores.ok_or_else(|| missing(SCORES, "the order in which pieces are joined"))?;
    let kinds = match gguf.value(KINDS) {
        Some(Value::Array(array)) if array.element() == ValueType::U32 => Some(array),
        _ => gguf.array(KINDS, ValueType::I32, "an array of i32")?,
    };
    if tokens.is_empty() || tokens.len() > i32::MAX as usize {
        return Err(bad(format!("it has {} tokens", tokens.len())));
    }
    for (key, len) in [(SCORES, Some(scores.len())), (KINDS, kinds.map(|kinds| kinds.len()))] {
        if let Some(len) = len.filter(|&len| len != tokens.len()) {
            return Err(bad(format!("it has {} tokens, but {key} has {len} entries", tokens.len())));
        }
    }
    Ok((tokens, scores, kinds))
}

fn kind_of(id: usize, text: &str, number: i64) -> Result<Kind> {
    Ok(match number {
        1 => Kind::Normal,
        2 => Kind::Unknown,
        3 => Kind::Control,
        4 => Kind::UserDefined,
        5 => Kind::Unused,
        6 => {
            let digits = text.strip_prefix("<0x").and_then(|text| text.strip_suffix('>'));
            let byte = digits.filter(|digits| digits.len() == 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
            let problem = || bad(format!("token {id} is a byte token, but reads {text:?} and not <0xXX>"));
            Kind::Byte(byte.ok_or_else(problem)?)
        }
        _ => {
            return Err(bad(format!("token {id} has the type {number}, expected 1 to 6")));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GgufWriter, project_bytes};

    fn demo() -> Tokenizer {
        let bytes = project_bytes("models/demo-f16.gguf");
        Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap()
    }

    #[test]
    fn agrees_with_the_reference() {
        let tokenizer = demo();
        let reference: serde_json::Value = serde_json::from_slice(&project_bytes("tests/data/reference.json")).unwrap();
        let cases = reference["tokenizer"].as_array().unwrap();
        assert_eq!(cases.len(), 12);
        for case in cases {
            let text = case["text"].as_str().unwrap();
            let expected: Vec<u32> =
                case["ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(tokenizer.encode(text), expected, "{text:?}");
            assert_eq!(tokenizer.decode(&expected).unwrap(), case["decoded"].as_str().unwrap(), "{text:?}");
        }
    }

    #[test]
    fn streams_whole_characters() {
        let tokenizer = demo();
        let text = "é ∑ tokens 🦀 and  more\u{a0}";
        let ids = tokenizer.encode(text);
        let mut stream = DecodeStream::new();
        let mut joined = String::new();
        for &id in &ids {
            joined.push_str(stream.next(&tokenizer, id).unwrap());
        }
        assert_eq!((joined.as_str(), stream.finish()), (text, ""));
        // A stream that goes on with a text keeps the space; one that begins a text does not.
        let trait_id = 528;
        assert_eq!(tokenizer.piece(trait_id), Some("▁trait"));
        assert_eq!(DecodeStream::new().next(&tokenizer, trait_id).unwrap(), " trait");
        assert_eq!(DecodeStream::from_start().next(&tokenizer, trait_id).unwrap(), "trait");
        assert!(DecodeStream::new().next(&tokenizer, 1536).is_err());
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let tokenizer = demo();
        let check = |bytes: &[u8]| {
            let ids: Vec<u32> = bytes.iter().map(|&byte| 3 + u32::from(byte)).collect();
            assert_eq!(tokenizer.decode(&ids).unwrap(), String::from_utf8_lossy(bytes), "{bytes:x?}");
        };
        check(b"abc");
        check(b"\xf0\x9f\xa6\x80");
        check(b"\xf0\x9f\xa6");
        check(b"\xf0\x9f\xa6x");
        check(b"\x80\xe2\x88\xe2\x88\x91\xff\xc3\xc3\xa9");
        check(b"\xed\xa0\x80\xf5\xc0\x80");
    }

    /// Pieces with their types; scores fall with the id.
    fn file(pieces: &[(&str, i32)]) -> GgufWriter {
        let texts: Vec<&str> = pieces.iter().map(|&(text, _)| text).collect();
        let kinds: Vec<i32> = pieces.iter().map(|&(_, kind)| kind).collect();
        let scores: Vec<f32> = (0..pieces.len()).map(|i| -(i as f32)).collect();
        GgufWriter::default()
            .string("tokenizer.ggml.model", "llama")
            .strings("tokenizer.ggml.tokens", &texts)
            .f32s("tokenizer.ggml.scores", &scores)
            .i32s("tokenizer.ggml.token_type", &kinds)
    }

    fn parse(writer: GgufWriter) -> Result<Tokenizer> {
        let bytes = writer.finish();
        Tokenizer::from_gguf(&Gguf::parse(&bytes).unwrap())
    }

    #[test]
    fn joins_the_best_pair_first_and_the_leftmost_of_equals() {
        let pieces = [
            ("<unk>", 2), // 0
            ("<s>", 3),   // 1
            ("bc", 1),    // 2
            ("ab", 1),    // 3
            ("aa", 1),    // 4
            ("a", 1),     // 5
            ("b", 1),     // 6
            ("c", 1),     // 7
            ("xy z", 4),  // 8: never matches, the text has no plain space
            ("xy▁z", 4),  // 9
            ("x", 4),     // 10
            ("abb", 1),   // 11
            ("bcbc", 5),  // 12
            ("<", 1),     // 13
            ("<s", 1),    // 14
            ("s", 1),     // 15
            (">", 1),     // 16
        ];
        let tokenizer =
            parse(file(&pieces).bool("tokenizer.ggml.add_bos_token", 0).bool("tokenizer.ggml.add_space_prefix", 0))
                .unwrap();
        let check = |text: &str, expected: &[u32]| assert_eq!(tokenizer.encode(text), expected, "{text:?}");
        check("", &[]);
        check("abc", &[5, 2]);
        check("aaa", &[4, 5]);
        check("aaaaa", &[4, 4, 5]);
        check("abb", &[11]);
        check("a?", &[5, 0]);
        check("axy zb", &[5, 9, 6]);
        check("axyb", &[5, 10, 0, 6]);
        check("bcbc", &[2, 2]);
        check("<s>", &[14, 16]);
    }

    #[test]
    fn long_texts_take_little_time() {
        let tokenizer = demo();
        let text = "a".repeat(100_000) + &"fn main() { let x = 5; } ".repeat(10_000);
        let ids = tokenizer.encode(&text);
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }

    #[test]
    fn malformed_data_is_an_error() {
        let check = |writer: GgufWriter, expected: &str| match parse(writer) {
            Ok(_) => assert_eq!(expected, "", "accepted"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        };
        let good = [("<unk>", 2), ("a", 1)];
        let no_bos = |writer: GgufWriter| writer.bool("tokenizer.ggml.add_bos_token", 0);
        check(no_bos(file(&good)), "");
        check(file(&good), "names none (tokenizer.ggml.bos_token_id)");
        check(file(&good).u32("tokenizer.ggml.bos_token_id", 2), "is 2, outside the vocabulary of 2 tokens");
        check(no_bos(file(&good)).bool("tokenizer.ggml.add_eos_token", 1), "tokenizer.ggml.eos_token_id");
        check(no_bos(file(&[])), "it has 0 tokens");
        check(no_bos(file(&[("a", 1)])), "neither all 256 byte tokens nor an unknown token");
        check(no_bos(file(&[("<0x41>", 6), ("<unk>", 2)])), "it has 1 of the 256 byte tokens");
        check(no_bos(file(&[("<0x4>", 6)])), "reads \"<0x4>\" and not <0xXX>");
        check(no_bos(file(&[("a", 7)])), "token 0 has the type 7");
        let base = || GgufWriter::default().string("tokenizer.ggml.model", "llama");
        check(GgufWriter::default(), "no metadata key `tokenizer.ggml.model`");
        check(GgufWriter::default().string("tokenizer.ggml.model", "gpt2"), "of the kind `gpt2`");
        check(base(), "no metadata key `tokenizer.ggml.tokens`");
        check(base().strings("tokenizer.ggml.tokens", &["a"]), "no metadata key `tokenizer.ggml.scores`");
        let tokens = || base().strings("tokenizer.ggml.tokens", &["a", "b"]);
        check(tokens().f32s("tokenizer.ggml.scores", &[0.0]), "has 1 entries");
        check(tokens().i32s("tokenizer.ggml.scores", &[0, 0]), "expected an array of f32");
        check(tokens().f32s("tokenizer.ggml.scores", &[0.0, f32::NAN]), "the score of token 1 is NaN");
    }
}
