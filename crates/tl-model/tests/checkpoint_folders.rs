//! Folders and split files made for one case each: every conversion against a plain reference, and everything that is
//! refused.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use tl_device::{Device, HoldsMemory};
use tl_model::{Checkpoint, ModelError, TokenizerSource};

/// A folder that is removed again.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("tl-model-folder-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Folder {
        std::fs::write(self.0.join(name), bytes).unwrap();
        self
    }

    /// A model of that type with these tensors in one file.
    fn model(model_type: &str, changes: &Value, tensors: &[Stored]) -> Folder {
        Folder::new()
            .with("config.json", config(model_type, changes))
            .with("model.safetensors", safetensors(tensors, 0))
    }

    fn open(&self) -> Result<Checkpoint, ModelError> {
        Checkpoint::open(&self.0)
    }

    fn check_error(&self, expected: &str) {
        let error = self.open().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "expected `{expected}` in: {error}");
        assert!(error.contains(self.0.file_name().unwrap().to_str().unwrap()), "names no file: {error}");
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn config(model_type: &str, changes: &Value) -> String {
    let mut config = json!({
        "model_type": model_type, "hidden_size": 6, "num_hidden_layers": 2, "num_attention_heads": 3, "head_dim": 4,
        "num_key_value_heads": 1, "intermediate_size": 5, "vocab_size": 7, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5, "num_experts_per_tok": 2,
    });
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    config.to_string()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    F32,
    F16,
    Bf16,
    Other(&'static str, usize),
}

impl Type {
    fn name(self) -> &'static str {
        match self {
            Type::F32 => "F32",
            Type::F16 => "F16",
            Type::Bf16 => "BF16",
            Type::Other(name, _) => name,
        }
    }

    /// A small whole number in this type: all three have it exactly.
    fn encode(self, x: i32) -> Vec<u8> {
        let single = (x as f32).to_bits();
        match self {
            Type::F32 => single.to_le_bytes().to_vec(),
            Type::Bf16 => ((single >> 16) as u16).to_le_bytes().to_vec(),
            Type::F16 if x == 0 => vec![0, 0],
            // The exponent's bias is 15, not 127, and 10 bits of the fraction are kept.
            Type::F16 => {
                let (sign, rest) = (single >> 31 << 15, single & 0x7fff_ffff);
                ((sign | ((rest >> 13) - (112 << 10))) as u16).to_le_bytes().to_vec()
            }
            Type::Other(_, bytes) => vec![0; bytes],
        }
    }
}

/// A tensor with whole numbers from `first` on, in the order of its elements.
#[derive(Clone, Debug)]
struct Stored {
    name: String,
    stored: Type,
    dims: Vec<usize>,
    first: i32,
}

fn tensor(name: impl Into<String>, stored: Type, dims: &[usize], first: i32) -> Stored {
    Stored { name: name.into(), stored, dims: dims.to_vec(), first }
}

impl Stored {
    fn values(&self) -> Vec<i32> {
        // 60 numbers and their negatives: what bfloat16 has, also with 1 added.
        (0..self.dims.iter().product::<usize>() as i32).map(|i| (i + self.first) % 121 - 60).collect()
    }
}

/// A file with these tensors; `skip` bytes lie before the first.
fn safetensors(tensors: &[Stored], skip: usize) -> Vec<u8> {
    let (mut header, mut data) = (serde_json::Map::new(), vec![0; skip]);
    for tensor in tensors {
        let begin = data.len();
        tensor.values().iter().for_each(|&x| data.extend(tensor.stored.encode(x)));
        let offsets = [begin, data.len()];
        header.insert(
            tensor.name.clone(),
            json!({ "dtype": tensor.stored.name(), "shape": tensor.dims, "data_offsets": offsets }),
        );
    }
    let mut header = Value::Object(header).to_string().into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    bytes
}

/// The elements of a loaded tensor, whatever it is stored in.
fn load(checkpoint: &Checkpoint, name: &str, device: &Device) -> (String, Vec<usize>, Vec<f32>) {
    let index = checkpoint.tensor_index(name).unwrap_or_else(|| panic!("no tensor {name}"));
    let info = &checkpoint.tensors()[index];
    let tensor = checkpoint.load_tensor(index, device).unwrap().unwrap();
    assert!(tensor.is_learnable());
    let mut values = vec![0.0; info.dims.iter().product()];
    let format = tl_tensor::quant::format_by_gguf_id(info.tensor_type.id()).unwrap();
    let bytes = tensor.storage().bytes();
    (format.kernels.dequantize)(device.threads().isa(), bytes, &mut values);
    (info.tensor_type.to_string(), info.dims.clone(), values)
}

fn check(checkpoint: &Checkpoint, name: &str, stored: &str, dims: &[usize], expected: impl IntoIterator<Item = i32>) {
    let expected: Vec<f32> = expected.into_iter().map(|x| x as f32).collect();
    let found = load(checkpoint, name, &Device::cpu());
    assert_eq!(found, (stored.to_owned(), dims.to_vec(), expected), "{name}");
}

const TYPES: [Type; 3] = [Type::F32, Type::F16, Type::Bf16];

#[test]
fn types_and_places() {
    for stored in TYPES {
        let matrix = tensor("model.layers.1.self_attn.q_proj.weight", stored, &[12, 6], 3);
        let norm = tensor("model.norm.weight", stored, &[6], 40);
        let bias = tensor("model.layers.0.self_attn.q_proj.bias", stored, &[12], 7);
        // Also where elements begin at no multiple of their size, which cannot be read in place.
        for skip in 0..4 {
            let tensors = [matrix.clone(), norm.clone(), bias.clone()];
            let folder = Folder::new()
                .with("config.json", config("llama", &json!({})))
                .with("model.safetensors", safetensors(&tensors, skip));
            let checkpoint = folder.open().unwrap();
            check(&checkpoint, "blk.1.attn_q.weight", stored.name(), &[12, 6], matrix.values());
            check(&checkpoint, "output_norm.weight", "F32", &[6], norm.values());
            check(&checkpoint, "blk.0.attn_q.bias", "F32", &[12], bias.values());
            let is_stored = |name: &str| checkpoint.tensors()[checkpoint.tensor_index(name).unwrap()].is_stored();
            let is_aligned = match stored {
                Type::F32 => skip == 0,
                _ => skip % 2 == 0,
            };
            assert_eq!(is_stored("blk.1.attn_q.weight"), is_aligned, "{stored:?} {skip}");
            assert_eq!(is_stored("output_norm.weight"), is_aligned && stored == Type::F32, "{stored:?} {skip}");
        }
    }
}

#[test]
fn norms_that_lack_one() {
    for stored in TYPES {
        for model_type in ["gemma", "gemma2", "gemma3_text"] {
            let norm = tensor("model.layers.0.input_layernorm.weight", stored, &[6], 50);
            let matrix = tensor("model.layers.0.mlp.up_proj.weight", stored, &[5, 6], 0);
            let checkpoint = Folder::model(model_type, &json!({}), &[norm.clone(), matrix.clone()]).open().unwrap();
            check(&checkpoint, "blk.0.attn_norm.weight", "F32", &[6], norm.values().iter().map(|x| x + 1));
            check(&checkpoint, "blk.0.ffn_up.weight", stored.name(), &[5, 6], matrix.values());
        }
    }
}

#[test]
fn experts_one_by_one() {
    const CASES: [(&str, &str, &str, &str); 4] = [
        ("mixtral", "num_local_experts", "block_sparse_moe.experts.*.w1", "ffn_gate_exps"),
        ("mixtral", "num_local_experts", "block_sparse_moe.experts.*.w2", "ffn_down_exps"),
        ("qwen2_moe", "num_experts", "mlp.experts.*.up_proj", "ffn_up_exps"),
        ("qwen3_moe", "num_local_experts", "mlp.experts.*.down_proj", "ffn_down_exps"),
    ];
    let name = |hub: &str, number: usize| format!("model.layers.0.{}.weight", hub.replace('*', &number.to_string()));
    for (model_type, key, hub, gguf) in CASES {
        for stored in TYPES {
            // More than ten, not in order, and in two files.
            let n_experts = 11;
            let experts: Vec<Stored> =
                (0..n_experts).map(|number| tensor(name(hub, number), stored, &[5, 3], number as i32 * 13)).collect();
            let (mut first, mut second): (Vec<Stored>, Vec<Stored>) = (Vec::new(), Vec::new());
            experts.iter().rev().enumerate().for_each(|(i, expert)| match i % 2 {
                0 => first.push(expert.clone()),
                _ => second.push(expert.clone()),
            });
            let of = |tensors: &[Stored], file: &str| -> Vec<(String, Value)> {
                tensors.iter().map(|tensor| (tensor.name.clone(), json!(file))).collect()
            };
            let map: serde_json::Map<String, Value> =
                of(&first, "a.safetensors").into_iter().chain(of(&second, "b.safetensors")).collect();
            let folder = Folder::new()
                .with("config.json", config(model_type, &json!({ key: n_experts })))
                .with("a.safetensors", safetensors(&first, 0))
                .with("b.safetensors", safetensors(&second, 0))
                .with("model.safetensors.index.json", json!({ "weight_map": map }).to_string());
            let checkpoint = folder.open().unwrap();
            let expected = experts.iter().flat_map(Stored::values);
            check(&checkpoint, &format!("blk.0.{gguf}.weight"), stored.name(), &[n_experts, 5, 3], expected);
            assert_eq!(checkpoint.tensors().len(), 1);
        }
        let refuse = |experts: &[(usize, Type, [usize; 2])], expected: &str| {
            let stored =
                |&(number, stored, dims): &(usize, Type, [usize; 2])| tensor(name(hub, number), stored, &dims, 0);
            let tensors: Vec<Stored> = experts.iter().map(stored).collect();
            Folder::model(model_type, &json!({ key: 3 }), &tensors).check_error(expected);
        };
        let is = |number: usize| (number, Type::F32, [5, 3]);
        refuse(&[is(0), is(1)], "has 2 of 3 experts; number 2 is missing");
        refuse(&[is(0), is(2)], "has no expert 1, or one twice");
        refuse(&[is(0), is(1), is(3)], "has expert 3 of 3");
        refuse(&[is(usize::MAX)], "has expert 18446744073709551615 of 3");
        refuse(&[is(0), (1, Type::F32, [3, 5])], "has experts of [5, 3] in F32 and of [3, 5] in F32");
        refuse(&[is(0), (1, Type::F16, [5, 3])], "and of [5, 3] in F16");
    }
}

#[test]
fn experts_that_take_turns() {
    // Sizes that are no whole number of the squares in which elements are gathered, and one that is more than one.
    for (n_experts, inputs, outputs) in [(3, 5, 7), (2, 70, 33), (1, 1, 1), (2, 32, 64)] {
        for stored in TYPES {
            let layer = "model.layers.1.mlp.experts";
            let gate_up = tensor(format!("{layer}.gate_up_proj"), stored, &[n_experts, inputs, 2 * outputs], 5);
            let gate_up_bias = tensor(format!("{layer}.gate_up_proj_bias"), stored, &[n_experts, 2 * outputs], 9);
            let down = tensor(format!("{layer}.down_proj"), stored, &[n_experts, outputs, inputs], 11);
            let down_bias = tensor(format!("{layer}.down_proj_bias"), stored, &[n_experts, inputs], 2);
            let tensors = [gate_up.clone(), gate_up_bias.clone(), down.clone(), down_bias.clone()];
            let changes = json!({ "num_local_experts": n_experts, "intermediate_size": outputs });
            let checkpoint = Folder::model("gpt_oss", &changes, &tensors).open().unwrap();
            // The plain reference: element by element.
            let at = |tensor: &Stored, index: &[usize]| {
                let place = index.iter().zip(&tensor.dims).fold(0, |place, (i, n)| place * n + i);
                tensor.values()[place]
            };
            for (turn, name) in ["gate", "up"].into_iter().enumerate() {
                let mut expected = Vec::new();
                let mut expected_bias = Vec::new();
                let (values, biases) = (gate_up.values(), gate_up_bias.values());
                for expert in 0..n_experts {
                    for out in 0..outputs {
                        let from = |row: usize| (expert * inputs + row) * 2 * outputs + 2 * out + turn;
                        expected.extend((0..inputs).map(|input| values[from(input)]));
                        expected_bias.push(biases[expert * 2 * outputs + 2 * out + turn]);
                    }
                }
                let weight = format!("blk.1.ffn_{name}_exps.weight");
                check(&checkpoint, &weight, stored.name(), &[n_experts, outputs, inputs], expected);
                check(&checkpoint, &format!("blk.1.ffn_{name}_exps.bias"), "F32", &[n_experts, outputs], expected_bias);
            }
            let last = [n_experts - 1, outputs - 1, inputs - 1];
            let (_, _, values) = load(&checkpoint, "blk.1.ffn_down_exps.weight", &Device::cpu());
            assert_eq!(values.last().map(|&x| x as i32), Some(at(&down, &last)));
            let mut expected = Vec::new();
            for expert in 0..n_experts {
                for input in 0..inputs {
                    expected.extend((0..outputs).map(|out| down.values()[(expert * outputs + out) * inputs + input]));
                }
            }
            check(&checkpoint, "blk.1.ffn_down_exps.weight", stored.name(), &[n_experts, inputs, outputs], expected);
            check(&checkpoint, "blk.1.ffn_down_exps.bias", "F32", &[n_experts, inputs], down_bias.values());
        }
    }
    let refuse = |dims: &[usize]| {
        let tensor = tensor("model.layers.0.mlp.experts.gate_up_proj", Type::F32, dims, 0);
        let folder = Folder::model("gpt_oss", &json!({ "num_local_experts": 2 }), &[tensor]);
        folder.check_error("which is no whole number of experts");
    };
    refuse(&[2, 3]);
    refuse(&[2, 3, 5]);
    refuse(&[3, 3, 4]);
}

#[test]
fn keys_and_values_of_latents() {
    for (heads, plain, value, rank) in [(3, 5, 4, 7), (2, 33, 40, 130), (1, 1, 1, 1)] {
        let changes = json!({ "num_attention_heads": heads, "qk_nope_head_dim": plain, "qk_rope_head_dim": 2,
            "v_head_dim": value, "kv_lora_rank": rank });
        let name = "model.layers.1.self_attn.kv_b_proj.weight";
        for stored in TYPES {
            let both = tensor(name, stored, &[heads * (plain + value), rank], 3);
            let checkpoint = Folder::model("deepseek_v3", &changes, std::slice::from_ref(&both)).open().unwrap();
            let values = both.values();
            let at = |head: usize, row: usize, column: usize| values[(head * (plain + value) + row) * rank + column];
            let mut expected = [Vec::new(), Vec::new()];
            for head in 0..heads {
                let keys = (0..rank).flat_map(|column| (0..plain).map(move |row| (row, column)));
                expected[0].extend(keys.map(|(row, column)| at(head, row, column)));
                let of_values = (0..value).flat_map(|row| (0..rank).map(move |column| (plain + row, column)));
                expected[1].extend(of_values.map(|(row, column)| at(head, row, column)));
            }
            let [keys, of_values] = expected;
            check(&checkpoint, "blk.1.attn_k_b.weight", stored.name(), &[heads, rank, plain], keys);
            check(&checkpoint, "blk.1.attn_v_b.weight", stored.name(), &[heads, value, rank], of_values);
        }
        for dims in [vec![heads * (plain + value) + 1, rank], vec![heads * (plain + value), rank + 1], vec![4]] {
            let folder = Folder::model("deepseek_v3", &changes, &[tensor(name, Type::F32, &dims, 0)]);
            folder.check_error("which are not those of the configuration");
        }
    }
}

#[test]
fn layers_that_predict_further_tokens() {
    let names = ["model.layers.1.input_layernorm.weight", "model.layers.2.eh_proj.weight", "model.layers.3.x"];
    let tensors = names.map(|name| tensor(name, Type::F32, &[6], 0));
    let folder = |n: usize| Folder::model("glm4_moe", &json!({ "num_nextn_predict_layers": n }), &tensors);
    let checkpoint = folder(2).open().unwrap();
    let found: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
    assert_eq!(found, ["blk.1.attn_norm.weight"]);
    folder(1).check_error("`model.layers.3.x`");
    folder(0).check_error("`model.layers.2.eh_proj.weight`");
}

#[test]
fn tensors_that_are_left_out_or_refused() {
    let named =
        |names: &[&str]| -> Vec<Stored> { names.iter().map(|name| tensor(*name, Type::F32, &[6], 0)).collect() };
    let check = |model_type: &str, changes: Value, names: &[&str], expected: &[&str]| {
        let checkpoint = Folder::model(model_type, &changes, &named(names)).open().unwrap();
        let mut found: Vec<&str> = checkpoint.tensors().iter().map(|tensor| tensor.name.as_str()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "{model_type}");
    };
    let output = ["lm_head.weight", "model.embed_tokens.weight"];
    check("llama", json!({}), &output, &["output.weight", "token_embd.weight"]);
    check("llama", json!({ "tie_word_embeddings": true }), &output, &["token_embd.weight"]);
    check("gemma", json!({}), &output, &["token_embd.weight"]);
    check("gemma", json!({ "tie_word_embeddings": false }), &output, &["output.weight", "token_embd.weight"]);
    let old = "model.layers.0.self_attn.rotary_emb.inv_freq";
    check("llama", json!({}), &[old, "model.norm.weight"], &["output_norm.weight"]);
    for prefix in ["language_model.model.", "model.language_model."] {
        let text = format!("{prefix}layers.0.self_attn.k_norm.weight");
        let names = [text.as_str(), "vision_tower.vision_model.head.weight", "model.multi_modal_projector.x"];
        check("gemma3", json!({}), &names, &["blk.0.attn_k_norm.weight"]);
    }

    let refuse = |model_type: &str, names: &[&str], expected: &str| {
        Folder::model(model_type, &json!({}), &named(names)).check_error(expected);
    };
    for name in [
        "model.layers.2.input_layernorm.weight",
        "model.layers.01.input_layernorm.weight",
        "model.layers.+1.input_layernorm.weight",
        "model.layers.0.input_layernorm",
        "model.layers.0.input_layernorm.weights",
        "model.layers.0.self_attn.q_norm.weight",
        "model.layers.0.",
        "model.layers",
        "norm.weight",
        "",
    ] {
        let expected = format!("there is a tensor `{name}`, which a model of the type `llama` with these sizes");
        refuse("llama", &[name], &expected);
    }
    let twice = ["model.language_model.norm.weight", "language_model.model.norm.weight"];
    refuse("gemma3", &twice, "two tensors are both `output_norm.weight`");
    let refuse = |stored: Type, dims: &[usize], expected: &str| {
        let tensor = tensor("model.layers.0.mlp.up_proj.weight", stored, dims, 0);
        Folder::model("llama", &json!({}), &[tensor]).check_error(expected);
    };
    refuse(Type::Other("F8_E4M3", 1), &[5, 6], "tensor `model.layers.0.mlp.up_proj.weight` is stored as F8_E4M3; of");
    refuse(Type::Other("I64", 8), &[5, 6], "is stored as I64");
    refuse(Type::F32, &[1, 1, 1, 1, 1], "has the sizes [1, 1, 1, 1, 1] in F32, which is another number of dimensions");
}

#[test]
fn files_that_contradict_each_other() {
    let norm = safetensors(&[tensor("model.norm.weight", Type::F32, &[6], 0)], 0);
    let sharded = |index: &str| {
        Folder::new()
            .with("config.json", config("llama", &json!({})))
            .with("a.safetensors", &norm)
            .with("model.safetensors.index.json", index)
    };
    let map = |name: &str, file: &str| json!({ "weight_map": { name: file } }).to_string();
    assert_eq!(sharded(&map("model.norm.weight", "a.safetensors")).open().unwrap().tensors().len(), 1);
    let check = |index: &str, expected: &str| sharded(index).check_error(expected);
    check(&map("model.norm.weight", "b.safetensors"), "b.safetensors: No such file");
    check(
        &map("model.no.weight", "a.safetensors"),
        "tensor `model.no.weight` is in a.safetensors, which does not have it",
    );
    for outside in ["../a.safetensors", "/a.safetensors", "x/a.safetensors", "x\\a.safetensors", "a.bin", "", ".."] {
        check(&map("model.norm.weight", outside), "is not the name of a .safetensors file in the same folder");
    }
    check("{}", "missing field `weight_map`");
    check("[]", "expected an object with `weight_map`");
    check(r#"{"weight_map": 3}"#, "expected an object of file names by tensor name");
    check(r#"{"weight_map": {"a": 3}}"#, "expected a string");
    check(r#"{"weight_map": {}, "weight_map": {}}"#, "`weight_map` occurs twice");
    check(r#"{"weight_map": {"t": "a.safetensors", "t": "a.safetensors"}}"#, "tensor `t` occurs twice");
    check("", "model.safetensors.index.json: the index of tensors cannot be read: EOF");

    Folder::new().check_error("there is no config.json; give a .gguf file, or a folder with config.json");
    Folder::new().with("config.json", config("llama", &json!({}))).check_error("there is no model.safetensors and");
    Folder::new().with("config.json", "{").check_error("config.json: the file cannot be read: EOF");
    Folder::new().with("config.json", vec![b' '; (1 << 20) + 1]).check_error("are more than the 1048576 that are read");
    Folder::new().with("config.json", "[".repeat(100_000)).check_error("recursion limit exceeded");
    let broken = Folder::new().with("config.json", config("llama", &json!({}))).with("model.safetensors", "1234567");
    broken.check_error("model.safetensors: the file ends inside the length of the safetensors header");

    let folder = sharded(&map("model.norm.weight", "a.safetensors")).with("other.safetensors", &norm);
    let error = Checkpoint::open(folder.0.join("other.safetensors")).unwrap_err().to_string();
    assert!(error.contains("the model of this folder is in a.safetensors, not in this file"), "{error}");
    assert!(Checkpoint::open(folder.0.join("a.safetensors")).is_ok());
}

#[test]
fn templates_and_tokens() {
    let base = || Folder::model("llama", &json!({ "eos_token_id": 2 }), &[]);
    let check = |folder: Folder, template: Option<&str>, stop: &[u32]| {
        let checkpoint = folder.open().unwrap();
        assert_eq!((checkpoint.chat_template(), checkpoint.stop_token_ids()), (template, stop));
    };
    check(base(), None, &[2]);
    check(base().with("tokenizer_config.json", "{}"), None, &[2]);
    check(base().with("tokenizer_config.json", r#"{"x": [{}], "chat_template": "own"}"#), Some("own"), &[2]);
    check(base().with("tokenizer_config.json", r#"{"chat_template": null}"#), None, &[2]);
    let list = r#"{"chat_template": [{"name": "tool_use", "template": "t"}, {"template": "d", "name": "default"}]}"#;
    check(base().with("tokenizer_config.json", list), Some("d"), &[2]);
    let both = base().with("tokenizer_config.json", list).with("chat_template.json", r#"{"chat_template": "json"}"#);
    check(both, Some("json"), &[2]);
    let all =
        base().with("chat_template.json", r#"{"chat_template": "json"}"#).with("chat_template.jinja", "{{ é }}\n");
    check(all, Some("{{ é }}\n"), &[2]);
    let generation = |json: &str| base().with("generation_config.json", json);
    check(generation(r#"{"eos_token_id": [9, 2, 4]}"#), None, &[9, 2, 4]);
    check(generation(r#"{"eos_token_id": 7}"#), None, &[7, 2]);
    check(generation(r#"{"eos_token_id": null}"#), None, &[2]);
    check(generation("{}"), None, &[2]);

    generation(r#"{"eos_token_id": -1}"#).check_error("`eos_token_id` is -1, expected a token id or a list of them");
    generation(r#"{"eos_token_id": [1, "x"]}"#).check_error("expected a token id or a list of them");
    generation("{").check_error("generation_config.json: the file cannot be read");
    base().with("chat_template.jinja", [0xff]).check_error("chat_template.jinja: the chat template");
    base()
        .with("chat_template.json", r#"{"chat_template": 3}"#)
        .check_error("expected a text or a list of named texts");
    let nameless = r#"{"chat_template": [{"name": "rag", "template": "t"}]}"#;
    base().with("tokenizer_config.json", nameless).check_error("a list without one of the name `default`");
    base()
        .with("tokenizer_config.json", r#"{"chat_template": [[]]}"#)
        .check_error("tokenizer_config.json: the tokenizer");
    base().with("tokenizer_config.json", "nonsense").check_error("tokenizer_config.json: the tokenizer");

    let folder = base().with("tokenizer.json", "T").with("tokenizer_config.json", r#"{"a": 1}"#);
    let checkpoint = folder.open().unwrap();
    let TokenizerSource::Files { tokenizer, config } = checkpoint.tokenizer_source().unwrap() else {
        panic!("no files")
    };
    assert_eq!((tokenizer, config), (&b"T"[..], Some(&br#"{"a": 1}"#[..])));
}

fn project(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

#[test]
fn parts_that_contradict_each_other() {
    let part = |number: usize| {
        std::fs::read(project(&format!("tests/data/tiny/qwen3-split/model-0000{number}-of-00003.gguf"))).unwrap()
    };
    let name = |number: usize| format!("m-0000{number}-of-00003.gguf");
    /// The part with the bytes of one text replaced by those of another of the same length.
    fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
        assert_eq!(from.len(), to.len());
        let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
        [&bytes[..at], to, &bytes[at + from.len()..]].concat()
    }
    let folder = |parts: [Option<Vec<u8>>; 3]| {
        let parts = parts.into_iter().zip(1..).filter_map(|(part, number)| Some((number, part?)));
        parts.fold(Folder::new(), |folder, (number, part)| folder.with(&name(number), part))
    };
    let check = |folder: &Folder, path: &Path, expected: &str| match Checkpoint::open(folder.0.join(path)) {
        Ok(checkpoint) => assert_eq!((expected, checkpoint.tensors().len()), ("", 46)),
        Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
    };
    let whole = folder([Some(part(1)), Some(part(2)), Some(part(3))]);
    for number in 1..=3 {
        check(&whole, name(number).as_ref(), "");
    }
    let check_parts = |parts: [Option<Vec<u8>>; 3], expected: &str| {
        let folder = folder(parts);
        for number in 1..=3 {
            if folder.0.join(name(number)).exists() {
                let error = Checkpoint::open(folder.0.join(name(number))).unwrap_err().to_string();
                assert!(error.contains(expected), "{number}: {error}");
            }
        }
    };
    check_parts([Some(part(1)), None, Some(part(3))], "m-00002-of-00003.gguf: No such file");
    check_parts([None, Some(part(2)), Some(part(3))], "m-00001-of-00003.gguf: No such file");
    let count = |n: u8| [&b"split.count\x02\0\0\0"[..], &[n, 0]].concat();
    let fewer = replaced(&part(2), &count(3), &count(2));
    check(
        &folder([Some(part(1)), Some(fewer), Some(part(3))]),
        name(1).as_ref(),
        "`split.no` 1 and `split.count` 2, expected 1 and 3",
    );
    check(
        &folder([Some(part(1)), Some(part(1)), Some(part(3))]),
        name(1).as_ref(),
        "holds `split.no` 0 and `split.count` 3, expected 1 and 3",
    );
    check(
        &folder([Some(part(1)), Some(part(1)), Some(part(3))]),
        name(2).as_ref(),
        "its name says part 2 of 3, but it holds `split.no` 0",
    );
    let unsplit = std::fs::read(project("models/demo-q4_0.gguf")).unwrap();
    check(
        &folder([Some(part(1)), Some(unsplit), Some(part(3))]),
        name(1).as_ref(),
        "it is part 2 of 3 by its name, but has no `split.count`",
    );
    let total = |n: u8| [&b"split.tensors.count\x05\0\0\0"[..], &[n, 0, 0, 0]].concat();
    check_parts(
        [Some(part(1)), Some(part(2)), Some(replaced(&part(3), &total(46), &total(47)))],
        "`split.tensors.count` is 47, but the 3 parts have 46 tensors",
    );
    let twice = replaced(&part(3), b"blk.3.ffn_up.weight", b"blk.0.ffn_up.weight");
    check_parts([Some(part(1)), Some(part(2)), Some(twice)], "its tensor `blk.0.ffn_up.weight` is also in");
    let renamed = Folder::new().with("m.gguf", part(1));
    check(&renamed, "m.gguf".as_ref(), "is not of the form NAME-00001-of-00003.gguf");
    let damaged = folder([Some(part(1)), Some(part(2)[..100].to_vec()), Some(part(3))]);
    check(&damaged, name(1).as_ref(), "m-00002-of-00003.gguf: the number of tensors at byte 8 is 20, but");
}
