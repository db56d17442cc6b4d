//! Which tokens a grammar allows, for the three ways in which vocabularies spell text, beside plain references.

mod common;

use common::{END, byte_level, chars_with_bytes, demo};
use tl_grammar::{Grammar, GrammarCompiler, GrammarSource};
use tl_model::{Constraint, ConstraintState, DecodeStream, Tokenizer};

fn compiler(tokenizer: &Tokenizer) -> GrammarCompiler {
    GrammarCompiler::new(tokenizer, |id| tokenizer.is_end(id)).unwrap()
}

/// The tokens that may come next.
fn allowed(grammar: &mut Grammar, n: usize) -> Vec<u32> {
    // A model may have more logits than its tokenizer has tokens.
    let mut logits = vec![1.0; n + 3];
    grammar.mask(&mut logits).unwrap();
    assert!(logits.iter().all(|&logit| logit == 1.0 || logit == f32::NEG_INFINITY));
    assert!(logits[n..].iter().all(|&logit| logit == f32::NEG_INFINITY));
    (0..n as u32).filter(|&id| logits[id as usize] == 1.0).collect()
}

/// A grammar of a few texts, each of which a plain search knows.
fn texts_source(texts: &[&str]) -> GrammarSource {
    let escaped: Vec<String> = texts.iter().map(|text| regex_literal(text)).collect();
    GrammarSource::Regex(escaped.join("|"))
}

fn regex_literal(text: &str) -> String {
    text.chars().map(|c| if r"\.+*?()|[]{}^$/".contains(c) { format!("\\{c}") } else { c.to_string() }).collect()
}

/// Walks through all that a grammar of `texts` allows and compares every mask with what the texts say.
fn check_texts(tokenizer: &Tokenizer, texts: &[&str]) {
    let (compiler, n) = (compiler(tokenizer), tokenizer.vocab_size());
    let grammar = compiler.compile(&texts_source(texts)).unwrap();
    let mut waiting = vec![(Vec::new(), Vec::<u32>::new())];
    let mut walked = 0;
    while let Some((text, tokens)) = waiting.pop() {
        let mut here = grammar.clone();
        tokens.iter().for_each(|&token| here.accept(token).unwrap());
        let is_whole = texts.iter().any(|whole| whole.as_bytes() == text);
        let goes_on = texts.iter().any(|whole| whole.as_bytes().starts_with(&text) && whole.len() > text.len());
        let state = match (is_whole, goes_on) {
            (true, false) => ConstraintState::Complete,
            (true, true) => ConstraintState::MayEnd,
            (false, _) => ConstraintState::Open,
        };
        assert_eq!(here.state(), state, "{texts:?}: {:?}", String::from_utf8_lossy(&text));
        if state == ConstraintState::Complete {
            assert!(here.mask(&mut vec![0.0; n]).unwrap_err().to_string().contains("complete by the grammar"));
            continue;
        }
        let next = |id: u32| {
            let bytes = tokenizer.text_bytes(id).filter(|_| !tokenizer.is_end(id))?;
            let text = [&text[..], &bytes].concat();
            texts.iter().any(|whole| whole.as_bytes().starts_with(&text)).then_some(text)
        };
        let expected: Vec<u32> =
            (0..n as u32).filter(|&id| next(id).is_some() || is_whole && tokenizer.is_end(id)).collect();
        assert_eq!(allowed(&mut here, n), expected, "{texts:?}: {:?}", String::from_utf8_lossy(&text));
        walked += 1;
        // Not every way to spell the same text: the first tokens and the last ones, which are bytes or whole words.
        let ids = expected.iter().copied().filter(|&id| !tokenizer.is_end(id));
        let few: Vec<u32> = ids.clone().take(2).chain(ids.rev().take(2)).collect();
        for id in few {
            if walked < 60 {
                waiting.push((next(id).unwrap(), [&tokens[..], &[id]].concat()));
            }
        }
    }
    assert!(walked > texts.len());
}

const TEXTS: [&[&str]; 5] = [
    &["yes", "no", "yesterday"],
    &["the theme", " the", "them"],
    &["漢字", "é", "🦀🦀", "漢"],
    &["{\"a\": true}", "{\"a\": 12}", "[]"],
    &["<think>", "<s>", "<|end|>", "a<|end|>b", "  "],
];

#[test]
fn masks_are_what_the_texts_say() {
    for tokenizer in [&*demo(), &byte_level(), &chars_with_bytes()] {
        for texts in TEXTS {
            check_texts(tokenizer, texts);
        }
    }
}

/// Every token that a fresh grammar takes behind the same text is in the mask, and no other.
#[test]
fn masks_are_what_is_accepted() {
    let sources = [
        GrammarSource::JsonSchema(r#"{"type": "object", "properties": {"a": {"type": "integer"}}}"#.to_owned()),
        GrammarSource::JsonSchema(r#"{"type": "array", "items": {"type": "string", "maxLength": 3}}"#.to_owned()),
        GrammarSource::Lark("start: (WORD \" \")+ \"end\"\nWORD: /[a-z]+/\n".to_owned()),
        GrammarSource::Regex("[^a]{2,5}b*".to_owned()),
    ];
    for tokenizer in [&*demo(), &byte_level(), &chars_with_bytes()] {
        let (compiler, n) = (compiler(tokenizer), tokenizer.vocab_size());
        for source in &sources {
            let grammar = compiler.compile(source).unwrap();
            let mut text = Vec::new();
            for step in 0..6 {
                let mut here = grammar.clone();
                text.iter().for_each(|&token| here.accept(token).unwrap());
                if here.state() == ConstraintState::Complete {
                    break;
                }
                let may_end = here.state() == ConstraintState::MayEnd;
                let takes = |id: u32| {
                    if tokenizer.is_end(id) {
                        return may_end;
                    }
                    let mut fresh = grammar.clone();
                    text.iter().for_each(|&token| fresh.accept(token).unwrap());
                    fresh.accept(id).is_ok()
                };
                let expected: Vec<u32> = (0..n as u32).filter(|&id| takes(id)).collect();
                assert_eq!(allowed(&mut here, n), expected, "{source:?}, {text:?}");
                let ids: Vec<u32> = expected.into_iter().filter(|&id| !tokenizer.is_end(id)).collect();
                text.push(ids[step * 7919 % ids.len()]);
            }
        }
    }
}

#[test]
fn a_token_s_bytes_are_what_decoding_gives() {
    for tokenizer in [&*demo(), &byte_level(), &chars_with_bytes()] {
        let mut n_texts = 0;
        for id in 0..tokenizer.vocab_size() as u32 {
            let Some(bytes) = tokenizer.text_bytes(id) else {
                assert!(!tokenizer.token_text(id).unwrap().is_empty());
                continue;
            };
            n_texts += 1;
            let mut stream = DecodeStream::new();
            let mut text = stream.next(tokenizer, id).unwrap().to_owned();
            text += stream.finish();
            assert_eq!(text, String::from_utf8_lossy(&bytes), "token {id}");
        }
        assert!(n_texts > 256 && n_texts < tokenizer.vocab_size());
    }
}

#[test]
fn special_tokens_never_come() {
    let tokenizer = byte_level();
    let mut grammar = compiler(&tokenizer).compile(&GrammarSource::Regex("(.|\n)*".to_owned())).unwrap();
    let allowed = allowed(&mut grammar, tokenizer.vocab_size());
    let id = |text: &str| tokenizer.token_id(text).unwrap();
    assert!(allowed.contains(&id("<think>")), "text that is always one token is text");
    assert!(!allowed.contains(&id("<s>")));
    assert!(allowed.contains(&id(END)), "a text may end at once");
    grammar.accept(id("a")).unwrap();
    assert_eq!(grammar.state(), ConstraintState::MayEnd);
    // What is no text cannot be asked for either.
    for text in ["start: <s>\n", "start: <|end|>\n", "start: \"a\" <[256]>\n"] {
        let compiled = compiler(&tokenizer).compile(&GrammarSource::Lark(text.to_owned()));
        if let Ok(mut grammar) = compiled {
            let mut logits = vec![0.0; tokenizer.vocab_size()];
            assert!(grammar.mask(&mut logits).is_err() || logits[id("<s>") as usize] == f32::NEG_INFINITY, "{text}");
        }
    }
}

#[test]
fn a_grammar_begins_anew() {
    let tokenizer = demo();
    let mut grammar = compiler(&tokenizer).compile(&GrammarSource::Regex("ab".to_owned())).unwrap();
    let first = allowed(&mut grammar, tokenizer.vocab_size());
    let [a, b] = ["a", "b"].map(|text| tokenizer.token_id(text).unwrap());
    for _ in 0..3 {
        assert!(grammar.accept(b).unwrap_err().to_string().contains("cannot go on by the grammar"));
        grammar.reset().unwrap();
        grammar.accept(a).unwrap();
        assert_eq!(allowed(&mut grammar.clone(), tokenizer.vocab_size()), first);
        grammar.accept(b).unwrap();
        assert_eq!(grammar.state(), ConstraintState::Complete);
        grammar.reset().unwrap();
        assert_eq!(grammar.state(), ConstraintState::Open);
        assert_eq!(allowed(&mut grammar, tokenizer.vocab_size()), first);
    }
    assert!(grammar.accept(u32::MAX).is_err());
}
