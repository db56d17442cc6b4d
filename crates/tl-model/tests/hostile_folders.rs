//! Folders and split files that lie: whatever their bytes say, opening them gives an error or a checkpoint that does
//! not contradict itself, in little memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::prelude::*;
use serde_json::{Value, json};
use tl_device::{Device, DeviceOptions, Simulation};
use tl_model::Checkpoint;

#[path = "../../../tests/heap.rs"]
mod heap;
use heap::{alone, most_bytes};

/// More than the small files of these tests need at once.
const FEW_BYTES: usize = 16 << 20;

fn tiny(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/tiny").join(path)
}

/// A folder with copies of a model's files, removed again.
struct Copy(PathBuf);

impl Copy {
    fn of(model: &str) -> Copy {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tl-model-hostile-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        for entry in std::fs::read_dir(tiny(model)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() != "reference.json" {
                std::fs::copy(entry.path(), path.join(entry.file_name())).unwrap();
            }
        }
        Copy(path)
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Opens and loads all there is; whether it opened.
fn read(path: &Path) -> bool {
    let Ok(checkpoint) = Checkpoint::open(path) else {
        return false;
    };
    let mut options = DeviceOptions::default();
    options.threads = 1;
    options.simulation = Some(Simulation::default());
    let counting = Device::cpu_with(&options);
    // What a device that counts refuses is not tried on one with memory: it is more than a machine has.
    let loads =
        |device: &Device| (0..checkpoint.tensors().len()).all(|index| checkpoint.load_tensor(index, device).is_ok());
    if loads(&counting) && counting.stats().peak_bytes < 16 << 20 {
        options.simulation = None;
        assert!(loads(&Device::cpu_with(&options)), "{} loads only on a device that counts", path.display());
    }
    assert!(checkpoint.metadata().count() > 0);
    let _ = (checkpoint.chat_template(), checkpoint.stop_token_ids(), checkpoint.tokenizer_source().is_ok());
    true
}

/// Numbers that a header may have in place of any other.
const NUMBERS: [&str; 9] =
    ["0", "1", "-1", "0.5", "64", "4294967296", "9223372036854775808", "18446744073709551615", "1e300"];

/// The text with each number replaced by each of [`NUMBERS`] in turn.
fn with_other_numbers(text: &[u8], mut check: impl FnMut(Vec<u8>)) {
    let is_digit = |at: usize| text.get(at).is_some_and(u8::is_ascii_digit);
    let starts = (0..text.len()).filter(|&at| is_digit(at) && !(at > 0 && is_digit(at - 1)));
    for start in starts {
        let end = (start..).find(|&at| !is_digit(at)).unwrap();
        for number in NUMBERS {
            check([&text[..start], number.as_bytes(), &text[end..]].concat());
        }
    }
}

fn safetensors(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

#[test]
fn every_number_of_a_header_may_lie() {
    let _guard = alone();
    let most = most_bytes(other_headers);
    assert!(most < FEW_BYTES, "{most} bytes at once");
}

fn other_headers() {
    let copy = Copy::of("qwen3-sharded");
    let name = "model-00002-of-00003.safetensors";
    let whole = std::fs::read(copy.0.join(name)).unwrap();
    let len = u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    let (header, data) = (&whole[8..8 + len], &whole[8 + len..]);
    let mut n_opened = 0;
    with_other_numbers(header, |header| {
        copy.write(name, safetensors(&header, data));
        n_opened += usize::from(read(&copy.0));
    });
    // Numbers that name the same place, and layers that no tensor is expected in.
    assert!(n_opened < 100, "{n_opened} lies were believed");
    for len in (0..whole.len()).step_by(997).chain([7, 8, 9, 8 + len - 1, 8 + len, whole.len() - 1]) {
        copy.write(name, &whole[..len]);
        assert!(!read(&copy.0), "the first {len} bytes were accepted");
    }
    for len in [0, 1, u64::MAX, 1 << 63, 100_000_001, whole.len() as u64, whole.len() as u64 - 7] {
        copy.write(name, [&len.to_le_bytes(), &whole[8..]].concat());
        assert!(!read(&copy.0), "a header of {len} bytes was accepted");
    }
    copy.write(name, &whole);
    assert!(read(&copy.0));
}

#[test]
fn every_value_of_a_configuration_may_lie() {
    let _guard = alone();
    let most = most_bytes(other_configurations);
    assert!(most < FEW_BYTES, "{most} bytes at once");
}

fn other_configurations() {
    let copy = Copy::of("granite");
    let text = std::fs::read(copy.0.join("config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    with_other_numbers(&text, |text| {
        copy.write("config.json", text);
        read(&copy.0);
    });
    let others = || {
        [json!(null), json!(true), json!([]), json!({}), json!(""), json!("granite"), json!([[1], "x"]), json!(-7)]
            .into_iter()
            .chain(NUMBERS.iter().filter_map(|number| serde_json::from_str(number).ok()))
    };
    let kinds = ["llama", "mixtral", "qwen2_moe", "gemma3_text", "gpt_oss", "cohere2", "phi3", "glm4"];
    let keys = ["layer_types", "rope_scaling", "no_rope_layers", "quantization_config", "text_config", "num_experts"];
    for kind in kinds {
        for key in config.as_object().unwrap().keys().map(String::as_str).chain(keys) {
            for other in others() {
                let mut changed = config.clone();
                changed["model_type"] = json!(kind);
                changed[key] = other;
                copy.write("config.json", changed.to_string());
                read(&copy.0);
            }
        }
    }
    for kind in ["linear", "yarn", "llama3", "longrope"] {
        let keys =
            ["factor", "low_freq_factor", "original_max_position_embeddings", "long_factor", "mscale", "rope_theta"];
        for key in keys {
            for other in others() {
                let mut changed = config.clone();
                changed["rope_parameters"] = json!({ "rope_type": kind, "factor": 2, "low_freq_factor": 1,
                    "high_freq_factor": 4, "short_factor": [1, 1, 1, 1, 1, 1, 1, 1], "long_factor": [1] });
                changed["rope_parameters"][key] = other;
                copy.write("config.json", changed.to_string());
                read(&copy.0);
            }
        }
    }
    copy.write("config.json", text);
    assert!(read(&copy.0));
}

#[test]
fn long_lists_take_little() {
    let _guard = alone();
    let copy = Copy::of("granite");
    let header = |tensors: usize, entry: &str| {
        let entries: Vec<String> = (0..tensors).map(|i| format!("\"{i}\":{entry}")).collect();
        safetensors(format!("{{{}}}", entries.join(",")).as_bytes(), &[])
    };
    let refuse = |bytes: Vec<u8>, limit: usize| {
        copy.write("model.safetensors", bytes);
        let most = most_bytes(|| assert!(!read(&copy.0)));
        assert!(most < limit, "{most} bytes at once");
    };
    let tensor = r#"{"dtype":"F32","shape":[],"data_offsets":[0,0]}"#;
    // A few times the length of the JSON, for as many tensors as a model may have.
    refuse(header(300_000, tensor), 64 << 20);
    let zeros = format!("[{}0]", "0,".repeat(4 << 20));
    refuse(header(1, &format!(r#"{{"dtype":"F32","shape":{zeros},"data_offsets":[0,0]}}"#)), FEW_BYTES);
    refuse(header(1, &format!(r#"{{"dtype":"F32","shape":[],"data_offsets":{zeros}}}"#)), FEW_BYTES);
    refuse(header(1, &format!(r#"{{"x":{zeros}}}"#)), FEW_BYTES);
    refuse(header(1, &"[".repeat(1 << 20)), FEW_BYTES);
}

#[test]
fn every_field_of_a_part_may_lie() {
    let _guard = alone();
    let most = most_bytes(other_parts);
    assert!(most < FEW_BYTES, "{most} bytes at once");
}

fn other_parts() {
    let copy = Copy::of("qwen3-split");
    let name = "model-00003-of-00003.gguf";
    let mut bytes = std::fs::read(copy.0.join(name)).unwrap();
    let header = bytes.windows(18).position(|window| window == b"output_norm.weight").unwrap() + 60;
    for at in (0..header).step_by(2) {
        let kept: [u8; 8] = bytes[at..at + 8].try_into().unwrap();
        for value in [0u64, 1, 3, 46, u64::MAX, 1 << 40] {
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            copy.write(name, &bytes);
            read(&copy.0.join(name));
            read(&copy.0.join("model-00001-of-00003.gguf"));
        }
        bytes[at..at + 8].copy_from_slice(&kept);
    }
    copy.write(name, &bytes);
    assert!(read(&copy.0.join(name)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes(file in 0..3usize, flips in prop::collection::vec((0..4000usize, any::<u8>()), 1..6)) {
        let _guard = alone();
        let copy = Copy::of("qwen3-sharded");
        let names = ["config.json", "model.safetensors.index.json", "model-00001-of-00003.safetensors"];
        let mut bytes = std::fs::read(copy.0.join(names[file])).unwrap();
        let len = bytes.len();
        for (at, flip) in flips {
            bytes[at % len] ^= flip;
        }
        copy.write(names[file], &bytes);
        read(&copy.0);
    }
}
