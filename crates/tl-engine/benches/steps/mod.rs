//! Memory requests of the steps of a llama model of any size, in order: the architecture's script runs on a simulated
//! device. This needs no weights, so the model's files are made here, with a hole in their place.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Map, Value, json};
use tl_device::{Action as Event, Device, Layout, Role, Simulation};
use tl_engine::Model;

/// The sizes of a llama model.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Llama {
    pub(crate) n_layers: usize,
    pub(crate) dim: usize,
    pub(crate) n_heads: usize,
    pub(crate) n_kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) ffn_dim: usize,
    pub(crate) vocab_size: usize,
}

/// TinyLlama 1.1B.
pub(crate) const TINYLLAMA: Llama =
    Llama { n_layers: 22, dim: 2048, n_heads: 32, n_kv_heads: 4, head_dim: 64, ffn_dim: 5632, vocab_size: 32000 };

/// Context length of the models in tokens.
const CONTEXT: usize = 2048;
/// Bytes of a weight, a `float16`.
const WEIGHT_BYTES: usize = 2;

impl Llama {
    /// The model on a simulated device, in `float16`.
    pub(crate) fn counting(&self) -> Model {
        let folder = Folder::new();
        self.write(&folder.0).expect("a folder for the model's files");
        Model::load(&folder.0, &Device::simulated(Simulation::default())).expect("a model without weights")
    }

    fn write(&self, folder: &Path) -> std::io::Result<()> {
        let config = json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "num_hidden_layers": self.n_layers,
            "hidden_size": self.dim,
            "num_attention_heads": self.n_heads,
            "num_key_value_heads": self.n_kv_heads,
            "head_dim": self.head_dim,
            "intermediate_size": self.ffn_dim,
            "vocab_size": self.vocab_size,
            "max_position_embeddings": CONTEXT,
            "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0,
            "hidden_act": "silu",
            "tie_word_embeddings": false,
            "bos_token_id": 1,
            "eos_token_id": 2,
        });
        fs::write(folder.join("config.json"), config.to_string())?;
        let mut header = Map::new();
        let mut end = 0;
        for (name, dims) in self.tensors() {
            let begin = end;
            end += dims.iter().product::<usize>() * WEIGHT_BYTES;
            header.insert(name, json!({"dtype": "F16", "shape": dims, "data_offsets": [begin, end]}));
        }
        let header = Value::Object(header).to_string();
        let mut file = File::create(folder.join("model.safetensors"))?;
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        file.set_len((8 + header.len() + end) as u64)
    }

    /// Names and sizes of the weights.
    fn tensors(&self) -> Vec<(String, Vec<usize>)> {
        let (q, kv) = (self.n_heads * self.head_dim, self.n_kv_heads * self.head_dim);
        let mut tensors = vec![
            ("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, self.dim]),
            ("model.norm.weight".to_owned(), vec![self.dim]),
            ("lm_head.weight".to_owned(), vec![self.vocab_size, self.dim]),
        ];
        for layer in 0..self.n_layers {
            let own = [
                ("input_layernorm", vec![self.dim]),
                ("self_attn.q_proj", vec![q, self.dim]),
                ("self_attn.k_proj", vec![kv, self.dim]),
                ("self_attn.v_proj", vec![kv, self.dim]),
                ("self_attn.o_proj", vec![self.dim, q]),
                ("post_attention_layernorm", vec![self.dim]),
                ("mlp.gate_proj", vec![self.ffn_dim, self.dim]),
                ("mlp.up_proj", vec![self.ffn_dim, self.dim]),
                ("mlp.down_proj", vec![self.dim, self.ffn_dim]),
            ];
            tensors.extend(own.map(|(role, dims)| (format!("model.layers.{layer}.{role}.weight"), dims)));
        }
        tensors
    }
}

/// A folder that is removed on drop.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("tl-steps-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).expect("a folder for temporary files");
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed is no reason to stop.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A request or a return. Tensors are numbered in the order of their requests; layouts stand in [`Steps::layouts`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Action {
    Take { layout: usize },
    Return { tensor: usize },
}

/// Requests and returns in order. At the end everything is returned.
#[derive(Clone, Debug, Default)]
pub(crate) struct Steps {
    pub(crate) layouts: Vec<Layout>,
    pub(crate) actions: Vec<Action>,
    n_taken: usize,
}

#[allow(dead_code)] // not every program that includes this file asks all
impl Steps {
    /// The requests of running `n` tokens through the model.
    pub(crate) fn of(model: &Model, n: usize) -> Steps {
        let mut steps = Steps::default();
        steps.forward(model, n);
        steps
    }

    /// Runs `n` tokens through a model on a simulated device, and adds their requests.
    pub(crate) fn forward(&mut self, model: &Model, n: usize) {
        let mut cache = model.new_cache(CONTEXT).expect("a cache of no bytes");
        model.device().start_trace();
        drop(model.forward(&vec![0; n], &mut cache).expect("a step of no bytes"));
        let mut numbers = HashMap::new();
        for event in model.device().stop_trace().events() {
            match event.action {
                Event::Take { id, layout, role: Role::Activation, .. } => {
                    numbers.insert(id, self.take(layout));
                }
                Event::Return { id } => self.give_back(numbers.remove(&id).as_slice()),
                _ => {}
            }
        }
    }

    /// Number of requests.
    pub(crate) fn n_taken(&self) -> usize {
        self.n_taken
    }

    /// Requests a tensor, and returns its number.
    pub(crate) fn take(&mut self, layout: Layout) -> usize {
        let layout = self.layouts.iter().position(|known| *known == layout).unwrap_or_else(|| {
            self.layouts.push(layout);
            self.layouts.len() - 1
        });
        self.actions.push(Action::Take { layout });
        self.n_taken += 1;
        self.n_taken - 1
    }

    /// Returns tensors.
    pub(crate) fn give_back(&mut self, tensors: &[usize]) {
        self.actions.extend(tensors.iter().map(|&tensor| Action::Return { tensor }));
    }
}
