//! The small random models of `tests/data/tiny`, one of every kind, with the logits that another program computed of them.
#![allow(dead_code)] // each test binary uses its part

use std::path::PathBuf;

use serde_json::Value;
use tl_device::Device;
use tl_engine::{Activations, Model, Result};

/// A model of the folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiny {
    /// The name of its folder.
    pub(crate) name: &'static str,
    /// The name of its architecture's script.
    pub(crate) architecture: &'static str,
    /// How many tokens the layers with a window see, and how many of all layers have one.
    pub(crate) window: Option<(usize, usize)>,
    /// How many layers have no keys and values, and the bytes of all states, which there are twice.
    pub(crate) states: Option<(usize, usize)>,
}

const fn tiny(name: &'static str, architecture: &'static str) -> Tiny {
    Tiny { name, architecture, window: None, states: None }
}

const fn windowed(name: &'static str, architecture: &'static str, n_layers: usize) -> Tiny {
    Tiny { name, architecture, window: Some((8, n_layers)), states: None }
}

const fn recurrent(name: &'static str, architecture: &'static str, n_layers: usize, state_bytes: usize) -> Tiny {
    Tiny { name, architecture, window: None, states: Some((n_layers, state_bytes)) }
}

/// All of them.
pub(crate) const ALL: &[Tiny] = &[
    tiny("llama", "llama"),
    tiny("llama3", "llama"),
    tiny("llama-linear", "llama"),
    tiny("mistral", "llama"),
    tiny("mixtral", "llama"),
    tiny("qwen2", "qwen2"),
    tiny("qwen2-yarn", "qwen2"),
    tiny("qwen3", "qwen3"),
    tiny("qwen3moe", "qwen3moe"),
    tiny("qwen2moe", "qwen2moe"),
    tiny("gemma", "gemma"),
    windowed("gemma2", "gemma2", 2),
    windowed("gemma3", "gemma3", 6),
    windowed("gemma4", "gemma4", 1),
    windowed("gemma4moe", "gemma4", 1),
    tiny("phi3", "phi3"),
    tiny("phi4mini-short", "phi3"),
    tiny("phi4mini-long", "phi3"),
    tiny("olmo2", "olmo2"),
    tiny("granite", "granite"),
    tiny("smollm3", "smollm3"),
    windowed("cohere2", "cohere2", 3),
    tiny("glm4", "glm4"),
    tiny("glm4moe", "glm4moe"),
    tiny("glm4moe-air", "glm4moe"),
    tiny("mistral3", "mistral3"),
    windowed("olmo3", "olmo2", 3),
    windowed("exaone4", "exaone4", 3),
    tiny("exaone4-small", "exaone4"),
    tiny("seed_oss", "seed_oss"),
    tiny("ernie4_5", "ernie4_5"),
    tiny("deepseek2", "deepseek2"),
    tiny("deepseek2-lite", "deepseek2"),
    tiny("deepseek2-old", "deepseek2"),
    windowed("gpt-oss", "gpt-oss", 2),
    windowed("gpt-oss-rounded", "gpt-oss", 1),
    // In two layers two tokens before this one, 32 wide, in float32.
    recurrent("lfm2", "lfm2", 2, 2 * 2 * 32 * 4),
    // Three tokens before this one, 128 wide, and 4 heads of 16 by 16.
    recurrent("qwen3next", "qwen3next", 1, 3 * 128 * 4 + 4 * 16 * 16 * 4),
    recurrent("qwen35moe", "qwen35moe", 1, 3 * 128 * 4 + 4 * 16 * 16 * 4),
    recurrent("qwen35", "qwen35", 1, 3 * 128 * 4 + 4 * 16 * 16 * 4),
];

/// A file of the project by its path from the root.
pub(crate) fn project_file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// The model of that name.
pub(crate) fn named(name: &str) -> &'static Tiny {
    ALL.iter().find(|tiny| tiny.name == name).unwrap()
}

impl Tiny {
    /// Its folder, with `config.json` and `model.safetensors`.
    pub(crate) fn folder(&self) -> PathBuf {
        project_file("tests/data/tiny").join(self.name)
    }

    /// Its GGUF file. GGUF files of gpt-oss cannot say that the bounds of YaRN's ramp are rounded.
    pub(crate) fn gguf(&self) -> Option<PathBuf> {
        (self.name != "gpt-oss-rounded").then(|| self.folder().join("model.gguf"))
    }

    /// Everything that it can be loaded from.
    pub(crate) fn sources(&self) -> impl Iterator<Item = PathBuf> {
        [Some(self.folder()), self.gguf()].into_iter().flatten()
    }

    /// The smallest of these.
    pub(crate) fn any_source(&self) -> PathBuf {
        self.gguf().unwrap_or_else(|| self.folder())
    }

    pub(crate) fn load(&self, device: &Device, activations: Activations) -> Model {
        Model::load(self.any_source(), device).unwrap().with_activations(activations)
    }

    pub(crate) fn reference(&self) -> Reference {
        Reference::read(self)
    }
}

/// What another program computed of a model.
pub(crate) struct Reference {
    /// A prompt.
    pub(crate) ids: Vec<u32>,
    /// The logits after each of its tokens.
    pub(crate) logits: Vec<Vec<f64>>,
    /// A prompt that is longer than a window and a prefill's part together, of models with windows.
    pub(crate) long: Option<LongReference>,
}

/// Of a long prompt.
pub(crate) struct LongReference {
    /// The prompt.
    pub(crate) ids: Vec<u32>,
    /// The logits after the last of its tokens.
    pub(crate) last_logits: Vec<Vec<f64>>,
}

impl Reference {
    fn read(tiny: &Tiny) -> Reference {
        let bytes = std::fs::read(tiny.folder().join("reference.json")).unwrap();
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let ids = |key: &str| value[key].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
        let row = |row: &Value| row.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
        let rows = |key: &str| value[key].as_array().unwrap().iter().map(row).collect();
        let long = value
            .get("long_ids")
            .map(|_| LongReference { ids: ids("long_ids"), last_logits: rows("long_last_logits") });
        Reference { ids: ids("ids"), logits: rows("logits"), long }
    }
}

/// The logits after each token, with so many tokens in a step.
pub(crate) fn logits(model: &Model, ids: &[u32], step: usize) -> Result<Vec<Vec<f64>>> {
    let mut cache = model.new_cache(ids.len())?;
    let mut rows = Vec::new();
    for part in ids.chunks(step) {
        let logits = model.forward_all(part, &mut cache)?;
        let mut values = vec![0.0; logits.n_elems()];
        logits.read_f32(&mut values)?;
        let width = model.config().vocab_size;
        rows.extend(values.chunks(width).map(|row| row.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()));
    }
    assert_eq!((rows.len(), cache.len()), (ids.len(), ids.len()));
    Ok(rows)
}

/// The norm of the difference of all rows together, in parts of the norm of `expected`. Never NaN: that is infinite.
pub(crate) fn distance(found: &[Vec<f64>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = found.iter().zip(expected).flat_map(|(a, b)| {
        assert_eq!(a.len(), b.len());
        a.iter().zip(b)
    });
    let distance = norm(&mut pairs.map(|(a, b)| a - b)) / norm(&mut expected.iter().flatten().copied());
    if distance.is_nan() { f64::INFINITY } else { distance }
}
