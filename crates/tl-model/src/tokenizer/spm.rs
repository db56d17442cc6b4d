//! SentencePiece's byte-pair encoding, as GGUF's tokenizer model `llama` stores it.
//!
//! A text is split into characters; then of all adjacent pairs that together form a piece, the one with the best score
//! is joined, the leftmost of equals, until none is left. A remainder that is not a piece is spelled in byte tokens.
//! Source: Kudo and Richardson, "SentencePiece" (2018), and its `bpe_model.cc`.

use super::bpe::Fallback;
use super::pairs::PairMap;
use super::vocab::{Kind, Vocab};

/// The rules that join a vocabulary's pieces.
#[derive(Debug)]
pub(super) struct Spm {
    /// By id; the highest is joined first.
    scores: Vec<f32>,
    /// Characters that are adjacent in some piece: a text can be split between all others.
    pub(super) neighbours: PairMap,
    fallback: Fallback,
}

impl Spm {
    pub(super) fn new(vocab: &Vocab, scores: Vec<f32>, fallback: Fallback) -> Spm {
        let mut neighbours = PairMap::with_capacity(0);
        let pieces = vocab.iter().filter(|(_, kind, _)| matches!(kind, Kind::Normal | Kind::Unused));
        neighbours.extend(pieces.flat_map(|(_, _, bytes)| {
            let text = std::str::from_utf8(bytes).unwrap_or_default();
            let pairs = text.chars().zip(text.chars().skip(1));
            pairs.map(|(left, right)| ((left.into(), right.into()), (0, 0)))
        }));
        Spm { scores, neighbours, fallback }
    }

    /// The piece with this text: its id, its score, and whether it is only an intermediate step.
    pub(super) fn merged(&self, vocab: &Vocab, text: &str) -> Option<(u32, f32, bool)> {
        let id = vocab.find(text.as_bytes())?;
        let &score = self.scores.get(id as usize)?;
        Some((id, score, vocab.kind(id) == Some(Kind::Unused)))
    }

    /// Spells a text that is not a piece in bytes, or as unknown.
    pub(super) fn push_bytes(&self, text: &str, ids: &mut Vec<u32>) {
        match &self.fallback.bytes {
            Some(bytes) => ids.extend(text.bytes().map(|byte| bytes[usize::from(byte)])),
            None => ids.extend(self.fallback.unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{DecodeStream, Tokenizer};
    use crate::error::Result;
    use crate::format::gguf::Gguf;
    use tl_testing::{GgufWriter, project_bytes};

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
        assert_eq!(tokenizer.token_text(trait_id).as_deref(), Some("▁trait"));
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
            ("xy z", 4),  // 8: spaces may be spelled either way
            ("xy▁w", 4),  // 9
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
        check("axy zb", &[5, 8, 6]);
        check("axy wb", &[5, 9, 6]);
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
        check(GgufWriter::default().string("tokenizer.ggml.model", "bert"), "of the kind `bert`");
        check(base(), "no metadata key `tokenizer.ggml.tokens`");
        check(base().strings("tokenizer.ggml.tokens", &["a"]), "no metadata key `tokenizer.ggml.scores`");
        let tokens = || base().strings("tokenizer.ggml.tokens", &["a", "b"]);
        check(tokens().f32s("tokenizer.ggml.scores", &[0.0]), "has 1 entries");
        check(tokens().i32s("tokenizer.ggml.scores", &[0, 0]), "expected an array of f32");
        check(tokens().f32s("tokenizer.ggml.scores", &[0.0, f32::NAN]), "the score of token 1 is NaN");
    }
}
