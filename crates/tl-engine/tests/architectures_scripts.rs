//! Scripts that are changed, forget weights or ask for others, and models that do not fit their script: other logits, or an error
//! that names the tensor or the place in the script.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use tl_device::Device;
use tl_engine::{Activations, Architecture, LoadOptions, Model, Planner};

mod tiny;
use tiny::{ALL, distance, logits, named};

/// A file in the system's folder for such, removed at the end.
struct TempFile(PathBuf);

impl TempFile {
    fn with(bytes: &[u8]) -> TempFile {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tl-scripts-{}-{}.gguf", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let file = TempFile(std::env::temp_dir().join(name));
        std::fs::write(&file.0, bytes).unwrap();
        file
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The text with a part replaced that it has once or more.
fn changed(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no `{from}` in the script");
    text.replace(from, to)
}

/// The bytes with every occurrence of one text replaced by another of the same length.
fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|&at| bytes[at..].starts_with(from.as_bytes())).collect();
    assert!(!places.is_empty(), "no `{from}` in the file");
    for at in places {
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

/// The bytes with the value behind a key of GGUF replaced: an unsigned number of 32 bits.
fn with_number(bytes: &[u8], key: &str, value: u32) -> Vec<u8> {
    let at = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len();
    let mut bytes = bytes.to_vec();
    assert_eq!(bytes[at..at + 4], 4u32.to_le_bytes(), "{key} is no u32");
    bytes[at + 4..at + 8].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn with_script(path: &Path, source: &str) -> tl_engine::Result<Model> {
    let mut options = LoadOptions::default();
    options.architecture = Some(Architecture::compile("mine.tl", source).unwrap());
    Ok(Model::load_with(path, &Device::cpu(), options)?.with_activations(Activations::Float32))
}

fn error_of(result: tl_engine::Result<Model>) -> String {
    result.map(|_| ()).unwrap_err().to_string()
}

/// The same script under another name changes nothing.
#[test]
fn the_script_that_comes_with_the_program_given_by_hand() {
    for tiny in ALL {
        let ids = tiny.reference().ids;
        let source = Architecture::source(tiny.architecture).unwrap();
        let own = tiny.load(&Device::cpu(), Activations::Float32);
        let given = with_script(&tiny.any_source(), source).unwrap();
        assert_eq!(logits(&own, &ids, 24).unwrap(), logits(&given, &ids, 24).unwrap(), "{}", tiny.name);
    }
}

#[test]
fn a_changed_script_gives_other_logits() {
    for (name, from, to) in [
        ("llama", "swiglu_network(w, y)", "geglu_network(w, y)"),
        ("llama", "rms_norm(x, w.ffn_norm.weight, eps: eps)", "rms_norm(x, w.ffn_norm.weight, eps: 0.5)"),
        ("gemma2", "model.window(i, 2)", "model.window(i, 3)"),
        ("gemma3", "if window > 0 { local }", "if window > 1000 { local }"),
        ("gpt-oss", "minimum(", "maximum("),
        ("gpt-oss", "1.702", "1.0"),
        ("smollm3", "4", "2"),
        ("granite", "* share", "* (share + 0.1)"),
        ("cohere2", "layer_norm(x", "rms_norm(x"),
        ("qwen3moe", "mixture(model, w, ", "experts_by_hand(model, w, "),
        ("mistral3", "sharpen(model, cache, q)", "q"),
        ("glm4moe", "c.rope_dim, true", "c.rope_dim, false"),
        ("deepseek2", "log(", "(-1.0) * log("),
        ("deepseek2-lite", "log(", "(-1.0) * log("),
        ("deepseek2-old", "scale: scale", "scale: 1.5 * scale"),
        ("olmo3", "if window > 0", "if window > 1000"),
        ("exaone4", "if window > 0 or", "if window > -1 or"),
        ("ernie4_5", "c.rope_dim, false", "c.rope_dim, true"),
    ] {
        let tiny = named(name);
        let (ids, expected) = (tiny.reference().ids, tiny.reference().logits);
        let mut source = changed(Architecture::source(tiny.architecture).unwrap(), from, to);
        if to.contains("experts_by_hand") {
            source += "
                fn experts_by_hand(model: Model, w: ModelNode, y: float[n, d]) -> float[n, d] {
                    let scores = softmax(linear(y, w.ffn_gate_inp.weight), 1)
                    let chosen = argtopk(scores, 1)
                    experts(w, y, chosen, gather(scores, 1, chosen))
                }";
        }
        let found = logits(&with_script(&tiny.any_source(), &source).unwrap(), &ids, 24).unwrap();
        let distance = distance(&found, &expected);
        assert!(distance > 1e-3 && distance.is_finite(), "{name}, `{to}`: {distance}");
    }
}

/// Plans are made by the script that is given.
#[test]
fn a_changed_script_changes_the_plan() {
    let plan = |source: &str| {
        let mut options = LoadOptions::default();
        options.architecture = Some(Architecture::compile("mine.tl", source).unwrap());
        Planner::open_with(named("gemma2").any_source(), &Device::cpu(), options).unwrap().plan(1024).unwrap()
    };
    let source = Architecture::source("gemma2").unwrap();
    let (own, all) = (plan(source), plan(&changed(source, "window: model.window(i, 2), ", "")));
    // Two of three layers have the window.
    assert_eq!(all.cache_bytes - own.cache_bytes, 2 * (1024 - 520) * 2 * 2 * 32 * 2);
}

#[test]
fn weights_that_a_script_does_not_ask_for() {
    let qwen2 = Architecture::source("qwen2").unwrap();
    let error = error_of(with_script(&named("qwen2").any_source(), &changed(qwen2, ", w.attn_q.bias?", "")));
    let expected =
        "the file has `blk.0.attn_q.bias`, `blk.1.attn_q.bias`, which the script of the architecture `qwen2`";
    assert!(error.contains(expected) && error.contains("qwen2/model.gguf"), "{error}");
    // One layer less than there is.
    let source = changed(qwen2, "0..model.config.n_layers", "0..model.config.n_layers - 1");
    let error = error_of(with_script(&named("qwen2").any_source(), &source));
    assert!(error.contains("`blk.1.attn_k.bias`") && error.contains(" more"), "{error}");
    // What another architecture has.
    let qwen3 = Architecture::source("qwen3").unwrap();
    let error = error_of(with_script(&named("qwen3").any_source(), &changed(qwen3, "w.attn_q_norm", "w.attn_k_norm")));
    assert!(error.contains("`blk.0.attn_q_norm.weight`"), "{error}");
    let error = error_of(with_script(&named("qwen3").any_source(), Architecture::source("llama").unwrap()));
    assert!(error.contains("q_norm.weight"), "{error}");
}

#[test]
fn weights_that_a_script_asks_for_in_vain() {
    for (name, from, to, expected) in [
        ("llama", "w.ffn_norm", "w.ffn_gate_norm", "`blk.0` has no part `ffn_gate_norm`"),
        ("llama", "w.attn_k.weight", "w.attn_k.bias", "`blk.0.attn_k` has no part `bias`"),
        ("llama", "model.blk[i]", "model.blk[i + 1]", "`blk`"),
        ("gemma2", "model.config.dim", "model.config.width", "width"),
    ] {
        let tiny = named(name);
        let source = Architecture::source(name).unwrap();
        let source =
            if source.contains(from) { changed(source, from, to) } else { changed(source, "c.dim", "c.width") };
        let result = Architecture::compile("mine.tl", &source).map(|architecture| {
            let mut options = LoadOptions::default();
            options.architecture = Some(architecture);
            error_of(Model::load_with(tiny.any_source(), &Device::cpu(), options))
        });
        let error = result.unwrap_or_else(|error| error.to_string());
        assert!(error.contains(expected) && error.contains("mine.tl:"), "{name}, `{to}`: {error}");
    }
}

#[test]
fn an_architecture_that_no_script_comes_with() {
    let bytes = std::fs::read(named("llama").any_source()).unwrap();
    let file = TempFile::with(&replaced(&bytes, "llama", "lemma"));
    let error = error_of(Model::load(&file.0, &Device::cpu()));
    assert!(error.contains("`lemma`") && error.contains("gpt-oss") && error.contains("smollm3"), "{error}");
    // With a script it is a model.
    let model = with_script(&file.0, Architecture::source("llama").unwrap()).unwrap();
    let reference = named("llama").reference();
    assert!(distance(&logits(&model, &reference.ids, 24).unwrap(), &reference.logits) < 1e-4);
}

/// Sizes that contradict the tensors: the message names the place in the script where they meet.
#[test]
fn wrong_sizes() {
    for (name, key, value, place) in [
        ("llama", "llama.attention.head_count", 2, "llama.tl:"),
        ("llama", "llama.attention.head_count_kv", 1, "llama.tl:"),
        ("qwen2", "qwen2.attention.head_count", 1, "qwen2.tl:"),
        ("llama", "llama.attention.key_length", 16, "`llama.rope.dimension_count` is 32, expected"),
        ("phi3", "phi3.feed_forward_length", 47, "std/transformer:"),
        ("glm4", "glm4.feed_forward_length", 20, "std/transformer:"),
        ("qwen3moe", "qwen3moe.expert_used_count", 5, "std/transformer:"),
        ("gpt-oss", "gpt-oss.expert_used_count", 5, "gpt-oss.tl:"),
        ("olmo2", "olmo2.attention.head_count", 8, "olmo2.tl:"),
        ("smollm3", "smollm3.block_count", 5, "smollm3.tl:"),
        ("deepseek2", "deepseek2.attention.kv_lora_rank", 31, "deepseek2.tl:"),
        ("deepseek2", "deepseek2.attention.key_length_mla", 27, "deepseek2.tl:"),
        ("deepseek2", "deepseek2.attention.value_length_mla", 11, "deepseek2.tl:"),
        ("deepseek2", "deepseek2.attention.key_length_mla", 7, "deepseek2.tl:"),
        ("deepseek2-old", "deepseek2.attention.value_length", 13, "deepseek2.tl:"),
        ("deepseek2", "deepseek2.expert_gating_func", 3, "neither softmax (1) nor sigmoid (2)"),
        ("deepseek2", "deepseek2.expert_group_count", 3, "std/transformer:"),
        ("deepseek2", "deepseek2.expert_group_count", 8, "std/transformer:"),
        ("deepseek2", "deepseek2.expert_group_used_count", 5, "std/transformer:"),
        ("glm4moe", "glm4moe.nextn_predict_layers", 3, "`glm4moe.nextn_predict_layers` is 3, expected less than the 3"),
        ("glm4moe", "glm4moe.nextn_predict_layers", 0, "glm4moe.tl:"),
        ("gemma", "gemma.vocab_size", 95, "`forward` gives float16[1, 96], not [1, 95]"),
    ] {
        let bytes = std::fs::read(named(name).any_source()).unwrap();
        let file = TempFile::with(&with_number(&bytes, key, value));
        let error = error_of(Model::load(&file.0, &Device::cpu()));
        let file_name = file.0.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(place) && error.contains(file_name), "{key} {value}: {error}");
    }
}
