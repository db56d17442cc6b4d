//! The vocabularies that the tests have: SentencePiece from the demo model, and two that are made here.
#![allow(dead_code)] // every test file uses a part

use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use serde_json::{Map, Value, json};
use tl_device::Device;
use tl_model::{Tokenizer, Weights};

/// The token that ends a text in the vocabularies that are made here.
pub(crate) const END: &str = "<|end|>";

/// Words that are tokens, and with them all their beginnings.
const WORDS: [&str; 12] = ["the", " the", "theme", "yes", "no", "true", "{\"", "\": ", "\"}", "12", "漢字", "🦀🦀"];

/// The tokenizer of the demo models: pieces with `▁` for a space, and a token for each byte.
pub(crate) fn demo() -> Arc<Tokenizer> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../models/demo-q4_0.gguf");
    Weights::load(path, &Device::cpu()).unwrap().tokenizer().unwrap()
}

/// A byte-level vocabulary: all bytes, the words, a text that is always one token, control tokens.
pub(crate) fn byte_level() -> Tokenizer {
    let alphabet: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
    let spell = |word: &str| word.bytes().map(|byte| letter(byte).to_string()).collect();
    let split = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    tokenizer(alphabet, spell, json!({"pre_tokenizer": split, "decoder": {"type": "ByteLevel"}}), false)
}

/// A vocabulary of characters with byte fallback: `▁` for a space, `<0x00>` to `<0xFF>`, the words.
pub(crate) fn chars_with_bytes() -> Tokenizer {
    let mut alphabet: Vec<String> = (0..=255).map(|byte| format!("<0x{byte:02X}>")).collect();
    alphabet.push("▁".to_owned());
    let chars = WORDS.concat().replace(' ', "") + "abcs<>|[]";
    alphabet.extend(chars.chars().map(String::from));
    let spell = |word: &str| word.chars().map(|c| if c == ' ' { "▁".to_owned() } else { c.to_string() }).collect();
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let decoders = json!([replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"}]);
    let parts = json!({
        "normalizer": replace(" ", "▁"),
        "decoder": {"type": "Sequence", "decoders": decoders}
    });
    tokenizer(alphabet, spell, parts, true)
}

/// A `tokenizer.json` of byte-pair encoding with all beginnings of the words as tokens, read.
fn tokenizer(alphabet: Vec<String>, spell: impl Fn(&str) -> Vec<String>, parts: Value, fallback: bool) -> Tokenizer {
    let mut ids: BTreeMap<String, usize> = BTreeMap::new();
    let mut merges = Vec::new();
    for token in alphabet {
        let id = ids.len();
        ids.entry(token).or_insert(id);
    }
    for word in WORDS {
        let symbols = spell(word);
        for end in 1..symbols.len() {
            let (left, right) = (symbols[..end].concat(), symbols[end].clone());
            let (joined, id) = (format!("{left}{right}"), ids.len());
            if let Entry::Vacant(entry) = ids.entry(joined) {
                entry.insert(id);
                merges.push(json!([left, right]));
            }
        }
    }
    let first_special = ids.len();
    let special = |at: usize, text: &str, is_special: bool| {
        json!({
            "id": first_special + at, "content": text, "special": is_special, "normalized": false,
            "lstrip": false, "rstrip": false, "single_word": false
        })
    };
    let mut file: Map<String, Value> = parts.as_object().unwrap().clone();
    file.insert(
        "added_tokens".to_owned(),
        json!([special(0, "<s>", true), special(1, END, true), special(2, "<think>", false)]),
    );
    let model = json!({"type": "BPE", "vocab": ids, "merges": merges, "byte_fallback": fallback, "unk_token": null});
    file.insert("model".to_owned(), model);
    let config = json!({"eos_token": END, "bos_token": "<s>"});
    Tokenizer::from_json(Value::Object(file).to_string().as_bytes(), Some(config.to_string().as_bytes())).unwrap()
}

/// The letter that spells a byte in byte-level vocabularies.
fn letter(byte: u8) -> char {
    let is_plain = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if is_plain(byte) {
        return char::from(byte);
    }
    let place = (0..byte).filter(|&byte| !is_plain(byte)).count() as u32;
    char::from_u32(256 + place).unwrap()
}
