//! Models that people use, where the machine has them: the tokenizer's ids, the first step's logits, and greedy tokens up to the
//! first close decision.
//!
//! `TL_SMOLLM2` names the file of SmolLM2-135M-Instruct in Q4_1 that `tests/data/smollm2-reference.json` describes.
//! `TL_MODEL` and `TL_MODEL_REFERENCE` name any other model, and a file of the same form about it; it computes in float32, since not
//! every model stays within what float16 can hold. Skipped without them.

use std::path::{Path, PathBuf};

use serde_json::Value;
use tl_device::Device;
use tl_engine::{Activations, GenerateOptions, Generator, Model, SamplingOptions};
use tl_model::EncodeOptions;

/// A choice between two tokens whose logits are nearer than this may fall either way: weights of 4 bits are multiplied with
/// activations of 8 bits on the CPU, which other programs round otherwise.
const CLOSE: f64 = 0.5;
/// Behind the reference's own tokens, of which there are many more, it takes more for a sure choice.
const CLOSE_BEHIND_MANY: f64 = 1.5;
/// Of the first step's best logits: 0.68 was found.
const LARGEST: f64 = 0.8;

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn check(path: &Path, reference: &Path, types: &[Activations]) {
    let reference: Value = serde_json::from_slice(&std::fs::read(reference).unwrap()).unwrap();
    let loaded = Model::load(path, &Device::cpu()).unwrap();
    let tokenizer = loaded.tokenizer().unwrap();
    let rows = reference["rows"].as_array().unwrap();
    assert!(!rows.is_empty());
    for (row, &activations) in rows.iter().flat_map(|row| types.iter().map(move |activations| (row, activations))) {
        let text = row["text"].as_str().unwrap();
        let model = loaded.with_activations(activations);
        let prompt = ids(&row["ids"]);
        assert_eq!(tokenizer.encode_with(text, &EncodeOptions::default().with_parse_special(true)), prompt, "{text:?}");

        let mut cache = model.new_cache(prompt.len()).unwrap();
        let logits = model.forward(&prompt, &mut cache).unwrap().cast::<f32>().unwrap().to_vec().unwrap();
        let mut largest = 0.0;
        for pair in row["first_logits"].as_array().unwrap() {
            let (id, expected) = (pair[0].as_u64().unwrap() as usize, pair[1].as_f64().unwrap());
            let off = (f64::from(logits[id]) - expected).abs();
            assert!(
                off <= LARGEST,
                "{text:?}, {activations:?}: the logit of token {id} is {}, not {expected}",
                logits[id]
            );
            largest = f64::max(largest, off);
        }

        let gaps = row["gaps"].as_array().unwrap();
        let n_clear = gaps.iter().take_while(|gap| gap.as_f64().unwrap() >= CLOSE).count();
        let options = GenerateOptions::default()
            .with_max_tokens(n_clear)
            .with_context(prompt.len() + n_clear + 1)
            .with_sampling(SamplingOptions::greedy());
        let found: Vec<u32> = Generator::new(&model, &prompt, &options).unwrap().map(Result::unwrap).collect();
        assert_eq!(found, ids(&row["greedy"])[..n_clear], "{text:?}, {activations:?}");

        // What follows each of the reference's tokens.
        let greedy = ids(&row["greedy"]);
        let all = [&prompt[..], &greedy].concat();
        let mut cache = model.new_cache(all.len()).unwrap();
        let logits = model.forward_all(&all, &mut cache).unwrap().cast::<f32>().unwrap().to_vec().unwrap();
        let width = model.config().vocab_size;
        let mut n_sure = 0;
        for (i, (&token, gap)) in greedy.iter().zip(gaps).enumerate() {
            let row = &logits[(prompt.len() - 1 + i) * width..][..width];
            let best = (0..width).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
            if gap.as_f64().unwrap() >= CLOSE_BEHIND_MANY {
                assert_eq!(best, token, "{text:?}, {activations:?}: token {i}");
                n_sure += 1;
            }
        }
        println!(
            "{activations:?}: logits within {largest:.3}, {n_clear} tokens alike and {n_sure} choices of {}, after {:?}",
            greedy.len(),
            text.chars().take(30).collect::<String>()
        );
    }
}

fn environment(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os(name).map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: {name} names no file");
    }
    path
}

#[test]
fn smollm2() {
    let Some(path) = environment("TL_SMOLLM2") else { return };
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    check(&path, &root.join("tests/data/smollm2-reference.json"), &[Activations::Float16, Activations::Float32]);
}

#[test]
fn another_model() {
    let (Some(path), Some(reference)) = (environment("TL_MODEL"), environment("TL_MODEL_REFERENCE")) else { return };
    check(&path, &reference, &[Activations::Float32]);
}
