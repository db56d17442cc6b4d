//! Folders and split files written as one GGUF file, against the GGUF files that another program made of the same weights.

use std::path::{Path, PathBuf};

use tl_device::Device;
use tl_model::{Checkpoint, Gguf, Value};
use tl_tools::{Quantization, QuantizeReport, ToolError};

fn tiny() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny")
}

/// A path in the system's folder for such, removed at the end.
struct TempPath(PathBuf);

impl TempPath {
    fn new(name: &str) -> TempPath {
        TempPath(std::env::temp_dir().join(format!("tl-quantize-folders-{}-{name}", std::process::id())))
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
        let _ = std::fs::remove_file(&self.0);
    }
}

fn quantize(from: &Path, format: &str, to: &Path) -> Result<QuantizeReport, ToolError> {
    Quantization::open(from, format)?.write(to, &Device::cpu(), &mut |_| ())
}

/// Folders with a model, by their names.
fn folders() -> Vec<String> {
    let entries = std::fs::read_dir(tiny()).unwrap().map(|entry| entry.unwrap().path());
    let folders = entries.filter(|path| path.join("config.json").exists());
    folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// Keys that a folder's file has beyond that of the other program, without the architecture before them: what they say is
/// what an architecture computes with anyway, or of a folder only.
const MORE_KEYS: [&str; 10] = [
    "general.name",
    "general.file_type",
    "general.quantization_version",
    ".attention.sliding_window_pattern",
    ".attention.scale",
    ".expert_weights_norm",
    ".attention.recurrent_layers",
    ".rope.scaling.yarn_truncate",
    ".rope.scaling.yarn_beta_fast",
    ".rope.scaling.yarn_beta_slow",
];

/// Models with delta nets, whose file stays as the folder has them, and says so.
const DELTA_NETS: [&str; 3] = ["qwen3next", "qwen35", "qwen35moe"];
/// Models of which other programs write a file otherwise: with gate and up of experts in one tensor, with layers that predict further
/// tokens, with the keys and values of heads where a latent makes them, with the factor of yarn's magnitude in place of the magnitude.
const OTHERWISE: [&str; 7] =
    ["gemma4moe", "glm4moe", "deepseek2", "deepseek2-old", "deepseek2-lite", "mistral3", "glm4moe-air"];

#[test]
fn a_folder_becomes_what_other_programs_write() {
    let mut n_compared = 0;
    for name in folders() {
        let target = TempPath::new(&format!("{name}.gguf"));
        let report = quantize(&tiny().join(&name), "f32", &target.0).unwrap();
        assert!(report.notes.iter().any(|note| note.contains("no tokenizer.json")), "{name}: {:?}", report.notes);
        let is_own = DELTA_NETS.contains(&name.as_str());
        assert_eq!(is_own, report.notes.iter().any(|note| note.contains("other programs do not")), "{name}");
        if is_own || OTHERWISE.contains(&name.as_str()) {
            continue;
        }
        let expected = tiny().join(name.trim_end_matches("-sharded")).join("model.gguf");
        let Ok(expected) = std::fs::read(expected) else { continue };
        let found = std::fs::read(&target.0).unwrap();
        assert_eq!(report.written_bytes, found.len() as u64);
        let (expected_file, found_file) = (Gguf::parse(&expected).unwrap(), Gguf::parse(&found).unwrap());
        n_compared += 1;
        assert_eq!(found_file.tensors().len(), expected_file.tensors().len(), "{name}");
        for tensor in expected_file.tensors() {
            let what = format!("{name}: {}", tensor.name);
            let other = found_file.tensor(tensor.name).unwrap_or_else(|| panic!("{what}"));
            assert_eq!((&other.dims, other.tensor_type), (&tensor.dims, tensor.tensor_type), "{what}");
            let (a, b) = (&found[other.data.clone()], &expected[tensor.data.clone()]);
            // Frequencies are computed by each in its own way.
            let is_close = |a: f32, b: f32| (a - b).abs() <= 1e-6 * b.abs();
            let is_same = match tensor.name.starts_with("rope_") {
                true => floats(a).zip(floats(b)).all(|(a, b)| is_close(a, b)),
                false => a == b,
            };
            assert!(is_same, "{what}");
        }
        let architecture = found_file.string("general.architecture").unwrap().unwrap();
        for (key, value) in expected_file.metadata() {
            let other = found_file.value(key);
            let is_same = match (value, other) {
                (Value::F32(a), Some(Value::F32(b))) => (a - b).abs() <= 1e-6 * a.abs(),
                (value, other) => other == Some(value),
            };
            assert!(is_same, "{name}: {key} is {other:?}, expected {value:?}");
        }
        for (key, _) in found_file.metadata().filter(|(key, _)| expected_file.value(key).is_none()) {
            let known = key.strip_prefix(architecture).unwrap_or(key);
            assert!(MORE_KEYS.contains(&known), "{name}: {key}");
        }
    }
    assert!(n_compared >= 20);
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes))
}

/// Every part names the whole, and nothing says that it was split.
#[test]
fn a_split_file_becomes_one() {
    let whole = std::fs::read(tiny().join("qwen3/model.gguf")).unwrap();
    let whole = Gguf::parse(&whole).unwrap();
    let mut files = Vec::new();
    for part in 1..=3 {
        let target = TempPath::new(&format!("part{part}.gguf"));
        let source = tiny().join(format!("qwen3-split/model-0000{part}-of-00003.gguf"));
        let work = Quantization::open(&source, "f32").unwrap();
        assert_eq!(work.files().len(), 3);
        work.write(&target.0, &Device::cpu(), &mut |_| ()).unwrap();
        files.push(std::fs::read(&target.0).unwrap());
    }
    assert!(files[0] == files[1] && files[0] == files[2]);
    let found = Gguf::parse(&files[0]).unwrap();
    assert_eq!(found.tensors().len(), whole.tensors().len());
    assert!(found.metadata().all(|(key, _)| !key.starts_with("split.")));
    for tensor in whole.tensors() {
        let other = found.tensor(tensor.name).unwrap();
        assert_eq!((&other.dims, other.data.len()), (&tensor.dims, tensor.data.len()), "{}", tensor.name);
    }
}

/// Weights of experts are quantized, which of them a token goes to is not.
#[test]
fn experts_and_routers() {
    for name in ["mixtral", "qwen2moe", "gpt-oss"] {
        let target = TempPath::new(&format!("experts-{name}.gguf"));
        quantize(&tiny().join(name), "q8_0", &target.0).unwrap();
        let bytes = std::fs::read(&target.0).unwrap();
        let file = Gguf::parse(&bytes).unwrap();
        let mut n_experts = 0;
        for tensor in file.tensors() {
            let found = tensor.tensor_type.to_string();
            if tensor.name.contains("ffn_gate_inp") || tensor.name.ends_with(".bias") {
                assert_eq!(found, "F32", "{name}: {}", tensor.name);
            } else if tensor.name.ends_with("_exps.weight") {
                n_experts += 1;
                // Rows of 48 elements are no whole blocks.
                let expected = if tensor.dims[2] % 32 == 0 { "Q8_0" } else { "F16" };
                assert_eq!(found, expected, "{name}: {}", tensor.name);
            }
        }
        assert!(n_experts > 0, "{name}");
    }
}

/// A copy of a tiny folder, in which files can be changed.
fn copy(name: &str, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(tiny().join(name)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "gguf") {
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    }
}

#[test]
fn all_files_of_a_folder_are_named() {
    let folder = TempPath::new("files");
    copy("llama", &folder.0);
    std::fs::write(folder.0.join("chat_template.jinja"), "{{ messages }}").unwrap();
    let checkpoint = Checkpoint::open(&folder.0).unwrap();
    let mut names: Vec<_> = checkpoint.files().iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["chat_template.jinja", "config.json", "generation_config.json", "model.safetensors"]);
}

/// The template becomes metadata; a tokenizer that cannot be described is an error, and the target is as it was.
#[test]
fn texts_of_a_folder() {
    let (folder, target) = (TempPath::new("texts"), TempPath::new("texts.gguf"));
    copy("llama", &folder.0);
    std::fs::write(folder.0.join("chat_template.jinja"), "{{ messages }}").unwrap();
    quantize(&folder.0, "f16", &target.0).unwrap();
    let bytes = std::fs::read(&target.0).unwrap();
    assert_eq!(Gguf::parse(&bytes).unwrap().string("tokenizer.chat_template").unwrap(), Some("{{ messages }}"));
    let json = r#"{
        "model": {"type": "BPE", "vocab": {"a": 0}, "merges": []},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Split", "pattern": {"Regex": "x+"}, "behavior": "Isolated"},
            {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]}}"#;
    std::fs::write(folder.0.join("tokenizer.json"), json).unwrap();
    let error = quantize(&folder.0, "f16", &target.0).unwrap_err().to_string();
    assert!(error.contains("expressions of its pre-tokenizer that are none of those with a name"), "{error}");
    assert!(std::fs::read(&target.0).unwrap() == bytes);
    // A weight that is no number is found after the file was begun.
    std::fs::remove_file(folder.0.join("tokenizer.json")).unwrap();
    let weights = folder.0.join("model.safetensors");
    let mut changed = std::fs::read(&weights).unwrap();
    // The first tensor behind the header is the output's weight.
    let start = 8 + u64::from_le_bytes(changed[..8].try_into().unwrap()) as usize;
    changed[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&weights, changed).unwrap();
    let error = quantize(&folder.0, "f16", &target.0).unwrap_err().to_string();
    assert!(error.contains("has weights that are no finite numbers"), "{error}");
    assert!(std::fs::read(&target.0).unwrap() == bytes);
}

/// Heads that contradict the configuration cannot be arranged.
#[test]
fn rows_that_are_no_heads() {
    let (folder, target) = (TempPath::new("heads"), TempPath::new("heads.gguf"));
    copy("llama", &folder.0);
    let config = std::fs::read_to_string(folder.0.join("config.json")).unwrap();
    let changed = config.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4");
    assert_ne!(config, changed);
    std::fs::write(folder.0.join("config.json"), changed).unwrap();
    let error = quantize(&folder.0, "f32", &target.0).unwrap_err().to_string();
    assert!(error.contains("attn_k.weight") && error.contains("not those of the heads"), "{error}");
    assert!(!target.0.exists());
}
