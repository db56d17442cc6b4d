//! Writes the token ids of a text, for comparing with other tokenizers (`scripts/compare-tokenizers.py`).
//!
//! `tokenize [--special] VOCABULARY TEXT [OUT]`: the vocabulary is a GGUF file or a `tokenizer.json`; the text is cut at every NUL
//! byte, each part is encoded by itself without the tokens at its ends, and OUT gets the ids as 32 bits each,
//! with `0xFFFFFFFF` behind every part. With `--special`, control tokens in the text are parsed. Prints how long loading and encoding took.

use std::path::Path;
use std::time::Instant;

use tl_model::{EncodeOptions, Gguf, Tokenizer};

type Failure = Box<dyn std::error::Error>;

fn load(path: &str) -> Result<Tokenizer, Failure> {
    let bytes = std::fs::read(path)?;
    let start = Instant::now();
    let tokenizer = if path.ends_with(".json") {
        let config = std::fs::read(Path::new(path).with_file_name("tokenizer_config.json")).ok();
        Tokenizer::from_json(&bytes, config.as_deref())?
    } else {
        Tokenizer::from_gguf(&Gguf::parse(&bytes)?)?
    };
    let millis = start.elapsed().as_secs_f64() * 1e3;
    println!("{}: {}, {} tokens, loaded in {millis:.0} ms", path, tokenizer.kind(), tokenizer.vocab_size());
    println!(
        "stop tokens: {:?}",
        tokenizer.stop_tokens().iter().map(|&id| tokenizer.token_text(id)).collect::<Vec<_>>()
    );
    Ok(tokenizer)
}

fn main() -> Result<(), Failure> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let parse_special = arguments.first().is_some_and(|argument| argument == "--special");
    arguments.drain(..usize::from(parse_special));
    let [vocabulary, text, out @ ..] = arguments.as_slice() else {
        return Err("usage: tokenize [--special] VOCABULARY TEXT [OUT]".into());
    };
    let tokenizer = load(vocabulary)?;
    let text = std::fs::read_to_string(text)?;
    let options = EncodeOptions::default().with_add_special(false).with_parse_special(parse_special);
    let (mut bytes, mut n_ids) = (Vec::new(), 0);
    let start = Instant::now();
    let parts: Vec<Vec<u32>> = text.split('\0').map(|part| tokenizer.encode_with(part, &options)).collect();
    let seconds = start.elapsed().as_secs_f64();
    for ids in parts {
        n_ids += ids.len();
        ids.iter().chain([&u32::MAX]).for_each(|id| bytes.extend(id.to_le_bytes()));
    }
    println!("{n_ids} tokens of {} bytes in {seconds:.2} s, {:.1} MB/s", text.len(), text.len() as f64 / seconds / 1e6);
    if let [out] = out {
        std::fs::write(out, bytes)?;
    }
    Ok(())
}
