//! Checkpoints from every source: a folder's is that of the GGUF file made from it, value for value.
//!
//! Those of every folder in `tests/data/tiny` are compared. `TL_MODELS` names another folder with one folder for each model
//! (`config.json`, `model.safetensors` and `model.gguf` in each).

use std::path::{Path, PathBuf};

use tl_device::{Device, DeviceOptions, Simulation};
use tl_model::{Checkpoint, MetaValue, TokenizerSource};

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// What a folder's checkpoint has beyond a converter's file.
const EXTRA_KEYS: &[&str] = &[
    // The rows of q and k stay as they are.
    "rope.halves",
    // Only given where they differ from what GGUF files mean by leaving them out, or say the same.
    "rope.scaling.yarn_truncate",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "attention.sliding_window_pattern",
    "expert_weights_norm",
    // What the counts of heads say.
    "attention.recurrent_layers",
];

/// Models whose folders have other tensors than their GGUF files: delta nets, whose heads lie in another order there; Gemma 4's experts,
/// of which GGUF has gate and up in one tensor; layers that predict further tokens, which are left out of folders; heads where
/// newer files have latents; the magnitude of yarn where GGUF has a factor of it, and routers without their kind. They are compared by their logits.
const READ_OTHERWISE: &[&str] = &[
    "qwen3next",
    "qwen35",
    "qwen35moe",
    "gemma4moe",
    "glm4moe",
    "deepseek2",
    "deepseek2-old",
    "deepseek2-lite",
    "mistral3",
    "glm4moe-air",
];

/// Keys of a GGUF file that say nothing of the model's computation.
fn is_beside_the_point(key: &str) -> bool {
    key.starts_with("tokenizer.")
        || key.starts_with("split.")
        || (key.starts_with("general.") && key != "general.architecture")
}

fn values(checkpoint: &Checkpoint, index: usize, device: &Device) -> Vec<f32> {
    let tensor = checkpoint.load_tensor(index, device).unwrap().unwrap();
    tensor.into_typed::<f32>().unwrap().to_vec().unwrap()
}

/// Rows of heads whose pairs lie half a head apart, as they are where pairs lie side by side.
fn interleave(values: &[f32], n_heads: usize, n_rows: usize) -> Vec<f32> {
    let width = values.len() / n_rows;
    let half = n_rows / n_heads / 2;
    let row = |head: usize, i: usize| (head * 2 * half + i % 2 * half + i / 2) * width;
    let rows = (0..n_heads).flat_map(|head| (0..2 * half).map(move |i| row(head, i)));
    rows.flat_map(|start| values[start..start + width].to_vec()).collect()
}

fn compare(what: &str, folder: &Checkpoint, gguf: &Checkpoint) {
    assert_eq!(folder.architecture(), gguf.architecture(), "{what}");
    for (key, expected) in gguf.metadata().filter(|(key, _)| !is_beside_the_point(key)) {
        assert_eq!(folder.value(key), Some(expected), "{what}: {key}");
    }
    for (key, value) in folder.metadata() {
        let extra = key.strip_prefix(folder.architecture()).and_then(|key| key.strip_prefix('.'));
        let is_known = extra.is_some_and(|key| EXTRA_KEYS.contains(&key)) || gguf.value(key).is_some();
        assert!(is_known, "{what}: {key} is {value:?}, and not in the GGUF file");
    }
    let device = Device::cpu();
    let has_halves = folder.boolean(".rope.halves").unwrap().unwrap_or(false);
    for (index, expected) in gguf.tensors().iter().enumerate() {
        let name = &expected.name;
        let found = folder.tensor_index(name).unwrap_or_else(|| panic!("{what}: no tensor {name}"));
        assert_eq!(folder.tensors()[found].dims, expected.dims, "{what}: {name}");
        assert_eq!(folder.tensors()[found].tensor_type, expected.tensor_type, "{what}: {name}");
        let mut found = values(folder, found, &device);
        let heads = match () {
            () if !has_halves => None,
            () if name.ends_with("attn_q.weight") => folder.integer(".attention.head_count").unwrap(),
            () if name.ends_with("attn_k.weight") => folder.integer(".attention.head_count_kv").unwrap(),
            () => None,
        };
        if let Some(heads) = heads {
            found = interleave(&found, heads as usize, expected.dims[0]);
        }
        let expected = values(gguf, index, &device);
        assert!(found.iter().any(|&x| x != 0.0), "{what}: {name} is zero");
        assert!(found == expected, "{what}: {name} has other values");
    }
    assert_eq!(folder.tensors().len(), gguf.tensors().len(), "{what}");
}

fn open(path: impl AsRef<Path>) -> Checkpoint {
    Checkpoint::open(&path).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn folders_are_what_is_converted_from_them() {
    let tiny = project("tests/data/tiny");
    assert!(compare_all(&tiny) >= 22);
    let split = open(tiny.join("qwen3-split/model-00001-of-00003.gguf"));
    compare("qwen3", &open(tiny.join("qwen3-sharded")), &split);
}

#[test]
fn other_models() {
    let Some(models) = std::env::var_os("TL_MODELS").map(PathBuf::from) else {
        eprintln!("skipped: TL_MODELS names no folder of models");
        return;
    };
    let n_compared = compare_all(&models);
    assert!(n_compared > 0, "{} has no folder with config.json and model.gguf", models.display());
    eprintln!("{n_compared} models compared");
}

/// Compares what the folder's folders have. Gives how many there were.
fn compare_all(models: &Path) -> usize {
    let mut n_compared = 0;
    for entry in std::fs::read_dir(models).unwrap() {
        let folder = entry.unwrap().path();
        let is_read_otherwise = READ_OTHERWISE.iter().any(|name| folder.ends_with(name));
        if !is_read_otherwise && folder.join("config.json").exists() && folder.join("model.gguf").exists() {
            compare(&folder.display().to_string(), &open(&folder), &open(folder.join("model.gguf")));
            n_compared += 1;
        }
    }
    n_compared
}

#[test]
fn any_path_of_a_model_opens_it() {
    let tiny = project("tests/data/tiny");
    let check = |path: &str, n_tensors: usize| {
        let checkpoint = open(tiny.join(path));
        assert_eq!(checkpoint.tensors().len(), n_tensors, "{path}");
        assert_eq!(checkpoint.path(), tiny.join(path));
        let copied = Checkpoint::open_copied(tiny.join(path)).unwrap();
        assert_eq!(copied.file_bytes(), checkpoint.file_bytes());
        let device = Device::cpu();
        assert_eq!(values(&copied, 0, &device), values(&checkpoint, 0, &device));
    };
    for part in 1..=3 {
        check(&format!("qwen3-split/model-0000{part}-of-00003.gguf"), 46);
        check(&format!("qwen3-sharded/model-0000{part}-of-00003.safetensors"), 46);
    }
    check("qwen3-sharded", 46);
    check("qwen3-sharded/config.json", 46);
    check("qwen3-sharded/model.safetensors.index.json", 46);
    check("granite/model.safetensors", 38);
    let bytes = |name: &str| std::fs::metadata(tiny.join(name)).unwrap().len();
    assert_eq!(open(tiny.join("granite")).file_bytes(), bytes("granite/model.safetensors"));
}

#[test]
fn weights_stay_where_they_lie() {
    let checkpoint = open(project("tests/data/tiny/granite"));
    let device = Device::cpu();
    let tensors: Vec<_> =
        (0..checkpoint.tensors().len()).map(|index| checkpoint.load_tensor(index, &device).unwrap().unwrap()).collect();
    assert!(checkpoint.tensors().iter().all(|tensor| tensor.is_stored()));
    let stats = device.stats();
    let weights: u64 = checkpoint.tensors().iter().filter_map(|tensor| tensor.len_bytes()).sum();
    assert_eq!((stats.mapped_bytes, stats.allocation_count), (weights, 0));
    drop((checkpoint, tensors));
}

#[test]
fn devices_that_count_take_the_memory() {
    let tiny = project("tests/data/tiny");
    for path in ["granite", "granite/model.gguf", "qwen3-split/model-00002-of-00003.gguf"] {
        for is_gpu in [false, true] {
            let checkpoint = open(tiny.join(path));
            let mut options = DeviceOptions::default();
            let mut simulation = Simulation::default();
            simulation.is_gpu = is_gpu;
            options.simulation = Some(simulation);
            let device = Device::cpu_with(&options);
            let load = |index| checkpoint.load_tensor(index, &device).unwrap().unwrap();
            let _tensors: Vec<_> = (0..checkpoint.tensors().len()).map(load).collect();
            let weights: u64 = checkpoint.tensors().iter().filter_map(|tensor| tensor.len_bytes()).sum();
            let stats = device.stats();
            let mapped = if is_gpu { 0 } else { weights };
            assert_eq!(stats.mapped_bytes, mapped, "{path}");
            assert!(stats.driver_bytes >= weights - mapped && (is_gpu || stats.driver_bytes == 0), "{path}");
        }
    }
}

#[test]
fn threads_share_it() {
    fn check<T: Send + Sync>(_: &T) {}
    check(&open(project("models/demo-q8_0.gguf")));
}

#[test]
fn what_the_files_say() {
    let checkpoint = open(project("models/demo-q8_0.gguf"));
    assert_eq!(checkpoint.string("general.architecture").unwrap(), Some("llama"));
    assert_eq!(checkpoint.value(".block_count"), checkpoint.value("llama.block_count"));
    assert_eq!(checkpoint.value(".absent"), None);
    assert_eq!(checkpoint.integer(".absent").unwrap(), None);
    let error = checkpoint.float(".block_count").unwrap_err().to_string();
    assert!(error.contains("`llama.block_count` holds the u32 22, expected a float"), "{error}");
    assert!(
        matches!(checkpoint.value("tokenizer.ggml.tokens"), Some(MetaValue::Array(tokens)) if tokens.len() == 1536)
    );
    let TokenizerSource::Gguf(gguf) = checkpoint.tokenizer_source().unwrap() else { panic!("no GGUF") };
    assert_eq!(tl_model::Tokenizer::from_gguf(&gguf).unwrap().vocab_size(), 1536);
    assert_eq!((checkpoint.chat_template(), checkpoint.stop_token_ids()), (None, &[][..]));

    let folder = open(project("tests/data/tiny/qwen3-sharded"));
    assert_eq!(folder.stop_token_ids(), [2]);
    assert_eq!(folder.chat_template(), None);
    let error = folder.tokenizer_source().unwrap_err().to_string();
    assert!(error.contains("there is no tokenizer.json"), "{error}");
}
