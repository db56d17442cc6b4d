//! A model's sizes and constants from a file's metadata, under the names that all architectures share.
//!
//! It knows the names of GGUF's keys and rejects impossible models. Keys specific to an architecture are read by its
//! script (`model.meta`), and a mismatch between tensors and sizes is found when the script runs.

use crate::checkpoint::{Checkpoint, yarn_magnitude};
use crate::error::{ModelError, Result};
use crate::format::gguf::Value;
use crate::metadata::decimal;

/// A model's sizes and constants, checked for consistency.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The architecture's name in the file, the prefix of its keys.
    pub architecture: String,
    /// Number of layers, without trailing layers that predict further tokens (`nextn_predict_layers`).
    pub n_layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of query heads; the maximum where layers differ.
    pub n_heads: usize,
    /// Number of key and value heads, a divisor of `n_heads`; the maximum where layers differ.
    pub n_kv_heads: usize,
    /// Width of a head's queries and keys.
    pub head_dim: usize,
    /// Width of a head's values.
    pub value_dim: usize,
    /// Width of the feed-forward network; the maximum where layers differ, 0 if the file has none.
    pub ffn_dim: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The longest sequence that the model was trained for, in tokens.
    pub context_length: usize,
    /// The base of the rotary embedding's frequencies: the decimal number that the file's `f32` represents.
    pub rope_base: f64,
    /// Number of a head's elements that are rotated.
    pub rope_dim: usize,
    /// Divisor of positions before the rotation, for a linearly extended context (Chen et al., 2023); else 1.
    pub rope_scale: f64,
    /// Factor of rotated elements, for a context extended by YaRN (Peng et al., 2023) or LongRoPE (Ding et al., 2024);
    /// else 1.
    pub rope_magnitude: f64,
    /// The epsilon of the normalizations, also as a decimal number: 1e-5, not the `f32` nearest to it.
    pub norm_eps: f64,
}

/// The largest accepted size: every product of a few sizes fits 64 bits.
const MAX_SIZE: u64 = 1 << 28;

/// A field of a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigValue<'a> {
    /// A size.
    Int(usize),
    /// A constant.
    Float(f64),
    /// A name.
    Text(&'a str),
}

impl ModelConfig {
    /// The names that [`ModelConfig::field`] knows.
    pub const FIELDS: [&'static str; 16] = [
        "architecture",
        "n_layers",
        "dim",
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "value_dim",
        "ffn_dim",
        "vocab_size",
        "context_length",
        "rope_base",
        "rope_dim",
        "rope_scale",
        "rope_magnitude",
        "norm_eps",
        "rms_eps",
    ];

    /// The field with this name; `rms_eps` is another name of `norm_eps`. Allocates nothing.
    pub fn field(&self, name: &str) -> Option<ConfigValue<'_>> {
        Some(match name {
            "architecture" => ConfigValue::Text(&self.architecture),
            "n_layers" => ConfigValue::Int(self.n_layers),
            "dim" => ConfigValue::Int(self.dim),
            "n_heads" => ConfigValue::Int(self.n_heads),
            "n_kv_heads" => ConfigValue::Int(self.n_kv_heads),
            "head_dim" => ConfigValue::Int(self.head_dim),
            "value_dim" => ConfigValue::Int(self.value_dim),
            "ffn_dim" => ConfigValue::Int(self.ffn_dim),
            "vocab_size" => ConfigValue::Int(self.vocab_size),
            "context_length" => ConfigValue::Int(self.context_length),
            "rope_base" => ConfigValue::Float(self.rope_base),
            "rope_dim" => ConfigValue::Int(self.rope_dim),
            "rope_scale" => ConfigValue::Float(self.rope_scale),
            "rope_magnitude" => ConfigValue::Float(self.rope_magnitude),
            "norm_eps" | "rms_eps" => ConfigValue::Float(self.norm_eps),
            _ => return None,
        })
    }

    /// Reads the configuration from a checkpoint's metadata.
    ///
    /// # Errors
    /// A key that is missing or of the wrong type, a size that is zero or too large, heads that do not divide.
    pub fn of(checkpoint: &Checkpoint) -> Result<ModelConfig> {
        let keys = Keys { checkpoint };
        let dim = keys.size("embedding_length", "the model's width")?;
        let n_heads = keys.size("attention.head_count", "the number of heads")?;
        let n_kv_heads = keys.optional_size("attention.head_count_kv")?.unwrap_or(n_heads);
        if !n_heads.is_multiple_of(n_kv_heads) {
            let problem = format!("which does not divide the {n_heads} query heads");
            return Err(keys.bad("attention.head_count_kv", n_kv_heads, problem));
        }
        let head_dim = match keys.optional_size("attention.key_length")? {
            Some(head_dim) => head_dim,
            None if dim.is_multiple_of(n_heads) => dim / n_heads,
            None => {
                let problem = format!("which is no whole number of the {n_heads} heads");
                return Err(keys.bad("embedding_length", dim, problem));
            }
        };
        let rope_dim = keys.optional_size("rope.dimension_count")?.unwrap_or(head_dim);
        if rope_dim > head_dim || !rope_dim.is_multiple_of(2) {
            let problem = format!("expected an even number that is at most the width of a head, {head_dim}");
            return Err(keys.bad("rope.dimension_count", rope_dim, problem));
        }
        Ok(ModelConfig {
            architecture: checkpoint.architecture().to_owned(),
            n_layers: keys.n_layers()?,
            dim,
            n_heads,
            n_kv_heads,
            head_dim,
            value_dim: keys.optional_size("attention.value_length")?.unwrap_or(head_dim),
            ffn_dim: keys.optional_size("feed_forward_length")?.unwrap_or(0),
            vocab_size: keys.vocab_size()?,
            context_length: keys.size("context_length", "the longest sequence")?,
            rope_base: keys.positive("rope.freq_base")?.unwrap_or(10000.0),
            rope_dim,
            rope_scale: keys.rope_scale()?,
            rope_magnitude: keys.rope_magnitude()?,
            norm_eps: keys.norm_eps()?,
        })
    }
}

/// The keys of a file's architecture, without its name and the dot in front.
struct Keys<'a> {
    checkpoint: &'a Checkpoint,
}

impl Keys<'_> {
    fn full(&self, key: &str) -> String {
        format!("{}.{key}", self.checkpoint.architecture())
    }

    fn bad(&self, key: &str, value: impl ToString, problem: impl Into<String>) -> ModelError {
        ModelError::KeyValue { key: self.full(key), value: value.to_string(), problem: problem.into() }
    }

    fn size(&self, key: &str, meaning: &'static str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| ModelError::MissingKey { key: self.full(key), meaning })
    }

    /// A size, or the largest of a list of one per layer.
    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let full = self.full(key);
        let value = match self.checkpoint.value(&full) {
            Some(Value::Array(sizes)) => {
                let sizes = sizes.iter().map(|size| match size {
                    Value::U32(n) => Some(u64::from(n)),
                    Value::I32(n) => u64::try_from(n).ok(),
                    Value::U64(n) => Some(n),
                    Value::I64(n) => u64::try_from(n).ok(),
                    _ => None,
                });
                let most = sizes.collect::<Option<Vec<u64>>>().and_then(|sizes| sizes.into_iter().max());
                Some(most.ok_or_else(|| self.bad(key, "a list", "expected a size, or a list of them"))?)
            }
            _ => self.checkpoint.integer(&full)?,
        };
        match value {
            Some(value) if value == 0 || value > MAX_SIZE => {
                Err(self.bad(key, value, format!("expected 1 to {MAX_SIZE}")))
            }
            value => Ok(value.map(|value| value as usize)),
        }
    }

    /// A number above 0.
    fn positive(&self, key: &str) -> Result<Option<f64>> {
        let Some(value) = self.checkpoint.float(&self.full(key))? else { return Ok(None) };
        let value = value as f32;
        if !value.is_finite() || value <= 0.0 {
            return Err(self.bad(key, value, "expected a number above 0"));
        }
        Ok(Some(decimal(value)))
    }

    /// The layers that a token's logits come from. Later layers predict further tokens (Gloeckle et al., 2024).
    fn n_layers(&self) -> Result<usize> {
        const KEY: &str = "nextn_predict_layers";
        let n_blocks = self.size("block_count", "the number of layers")?;
        // Some files have 0, which `size` would refuse.
        let n_next = self.checkpoint.integer(&self.full(KEY))?.unwrap_or(0);
        let n_layers = u64::try_from(n_blocks).unwrap_or(u64::MAX).checked_sub(n_next).filter(|&n| n > 0);
        n_layers
            .map(|n| n as usize)
            .ok_or_else(|| self.bad(KEY, n_next, format!("expected less than the {n_blocks} layers")))
    }

    fn rope_scaling(&self) -> Result<Option<&str>> {
        self.checkpoint.string(&self.full("rope.scaling.type"))
    }

    /// A file without a type of scaling is extended linearly, as are older ones with `rope.scale_linear`.
    fn rope_scale(&self) -> Result<f64> {
        if self.rope_scaling()?.is_some_and(|scaling| scaling != "linear") {
            return Ok(1.0);
        }
        const FACTOR: &str = "rope.scaling.factor";
        let key = if self.checkpoint.value(&self.full(FACTOR)).is_some() { FACTOR } else { "rope.scale_linear" };
        // A factor of 0 means no scaling.
        match self.checkpoint.float(&self.full(key))? {
            Some(0.0) => Ok(1.0),
            _ => Ok(self.positive(key)?.unwrap_or(1.0)),
        }
    }

    fn rope_magnitude(&self) -> Result<f64> {
        let given = self.positive("rope.scaling.attn_factor")?.unwrap_or(1.0);
        match self.rope_scaling()? {
            Some("yarn") => {
                let factor = self.positive("rope.scaling.factor")?.unwrap_or(1.0);
                const MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";
                let multiplier = self.checkpoint.float(&self.full(MULTIPLIER))?.map_or(0.0, |x| decimal(x as f32));
                let magnitude = yarn_magnitude(self.checkpoint.architecture(), factor, multiplier);
                if !magnitude.is_finite() || magnitude <= 0.0 {
                    return Err(self.bad(MULTIPLIER, multiplier, "expected a number from 0 on"));
                }
                Ok(given * magnitude)
            }
            Some("longrope") => Ok(given),
            _ => Ok(1.0),
        }
    }

    fn norm_eps(&self) -> Result<f64> {
        const ROOT_MEAN_SQUARE: &str = "attention.layer_norm_rms_epsilon";
        if let Some(eps) = self.positive(ROOT_MEAN_SQUARE)? {
            return Ok(eps);
        }
        let meaning = "the epsilon of the normalization";
        self.positive("attention.layer_norm_epsilon")?
            .ok_or_else(|| ModelError::MissingKey { key: self.full(ROOT_MEAN_SQUARE), meaning })
    }

    /// The number of tokens; some files only list the tokens.
    fn vocab_size(&self) -> Result<usize> {
        const KEY: &str = "vocab_size";
        const TOKENS: &str = "tokenizer.ggml.tokens";
        if let Some(size) = self.optional_size(KEY)? {
            return Ok(size);
        }
        let missing = |problem: &str| ModelError::KeyValue {
            key: TOKENS.to_owned(),
            value: "no list of tokens".to_owned(),
            problem: problem.to_owned(),
        };
        match self.checkpoint.value(TOKENS) {
            Some(Value::Array(tokens)) if !tokens.is_empty() && tokens.len() as u64 <= MAX_SIZE => Ok(tokens.len()),
            Some(_) => Err(missing("so that the size of the vocabulary is not known")),
            None => Err(ModelError::MissingKey { key: self.full(KEY), meaning: "the size of the vocabulary" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_testing::{GgufWriter, TempFile, project_file};

    fn config(writer: &GgufWriter) -> Result<ModelConfig> {
        let file = TempFile::with("config.gguf", &writer.finish());
        ModelConfig::of(&Checkpoint::open(&file.0)?)
    }

    #[test]
    fn reads_the_demo_model() {
        let config = ModelConfig::of(&Checkpoint::open(project_file("models/demo-f16.gguf")).unwrap()).unwrap();
        let expected = ModelConfig {
            architecture: "llama".to_owned(),
            n_layers: 22,
            dim: 96,
            n_heads: 3,
            n_kv_heads: 1,
            head_dim: 32,
            value_dim: 32,
            ffn_dim: 256,
            vocab_size: 1536,
            context_length: 256,
            rope_base: 10000.0,
            rope_dim: 32,
            rope_scale: 1.0,
            rope_magnitude: 1.0,
            norm_eps: 1e-5,
        };
        assert_eq!(config, expected);
        assert!(ModelConfig::FIELDS.iter().all(|name| config.field(name).is_some()));
        assert_eq!(config.field("ffn_dim"), Some(ConfigValue::Int(256)));
        assert_eq!(config.field("ffn"), None);
    }

    /// The sizes of a small model; `skip` is left out, so that a test can put another in its place.
    fn sizes(skip: &str) -> GgufWriter {
        let mut writer = GgufWriter::default();
        if skip != "general.architecture" {
            writer = writer.string("general.architecture", "llama");
        }
        if skip != "llama.attention.layer_norm_rms_epsilon" {
            writer = writer.f32("llama.attention.layer_norm_rms_epsilon", 1e-6);
        }
        for (key, size) in [
            ("llama.embedding_length", 64),
            ("llama.block_count", 2),
            ("llama.feed_forward_length", 128),
            ("llama.attention.head_count", 4),
            ("llama.context_length", 512),
            ("llama.vocab_size", 10),
        ] {
            if key != skip {
                writer = writer.u32(key, size);
            }
        }
        writer
    }

    #[test]
    fn constants_are_the_numbers_that_were_meant() {
        let eps = "llama.attention.layer_norm_rms_epsilon";
        for (stored, expected) in
            [(1e-5_f32, 1e-5), (1e-6, 1e-6), (5e5, 5e5), (0.088_388_35, 0.088_388_35), (1e-30, 1e-30)]
        {
            let config = config(&sizes(eps).f32(eps, stored).f32("llama.rope.freq_base", stored)).unwrap();
            assert_eq!((config.norm_eps, config.rope_base), (expected, expected));
        }
    }

    #[test]
    fn extended_contexts() {
        let check = |writer: GgufWriter, scale: f64, magnitude: f64| {
            let config = config(&writer).unwrap();
            assert_eq!(config.rope_scale, scale);
            assert!((config.rope_magnitude - magnitude).abs() < 1e-12, "{}", config.rope_magnitude);
        };
        let scaling = |kind: &str| sizes("").string("llama.rope.scaling.type", kind);
        check(sizes(""), 1.0, 1.0);
        check(sizes("").f32("llama.rope.scaling.factor", 4.0), 4.0, 1.0);
        check(sizes("").f32("llama.rope.scaling.factor", 0.0), 1.0, 1.0);
        check(sizes("").f32("llama.rope.scale_linear", 2.0), 2.0, 1.0);
        check(scaling("none").f32("llama.rope.scaling.factor", 4.0), 1.0, 1.0);
        check(scaling("linear").f32("llama.rope.scaling.factor", 4.0), 4.0, 1.0);
        check(scaling("yarn").f32("llama.rope.scaling.factor", 4.0), 1.0, 1.0 + 0.1 * 4.0_f64.ln());
        let yarn = |multiplier: f32| {
            let writer = scaling("yarn").f32("llama.rope.scaling.factor", 4.0);
            writer.f32("llama.rope.scaling.yarn_log_multiplier", multiplier)
        };
        check(yarn(0.0), 1.0, 1.0 + 0.1 * 4.0_f64.ln());
        check(yarn(1.0), 1.0, 1.0);
        check(yarn(0.5), 1.0, (1.0 + 0.1 * 4.0_f64.ln()) / (1.0 + 0.05 * 4.0_f64.ln()));
        assert_eq!(yarn_magnitude("deepseek2", 4.0, 0.0707), 1.0);
        assert_eq!(yarn_magnitude("deepseek2", 4.0, 0.0), 1.0 + 0.1 * 4.0_f64.ln());
        check(scaling("longrope").f32("llama.rope.scaling.attn_factor", 1.25), 1.0, 1.25);
    }

    #[test]
    fn what_makes_no_model() {
        let check = |writer: GgufWriter, expected: &str| match config(&writer) {
            Ok(config) => assert_eq!(expected, "", "accepted: {config:?}"),
            Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
        };
        check(sizes(""), "");
        check(sizes("general.architecture"), "no metadata key `general.architecture`");
        let other = "no metadata key `gemma.embedding_length`";
        check(sizes("general.architecture").string("general.architecture", "gemma"), other);
        check(sizes("general.architecture").u32("general.architecture", 3), "holds the u32 3, expected a string");
        check(sizes("llama.block_count"), "no metadata key `llama.block_count`");
        check(sizes("llama.vocab_size"), "no metadata key `llama.vocab_size`");
        check(sizes("llama.vocab_size").strings("tokenizer.ggml.tokens", &["a", "b"]), "");
        check(sizes("llama.vocab_size").strings("tokenizer.ggml.tokens", &[]), "size of the vocabulary is not known");
        let resized = |key: &str, size: i64| sizes(key).i64(key, size);
        check(resized("llama.block_count", 0), "`llama.block_count` is 0, expected 1 to");
        check(resized("llama.block_count", 1 << 40), "expected 1 to");
        check(resized("llama.block_count", -1), "holds the i64 -1, expected an integer that is not negative");
        check(resized("llama.embedding_length", 66), "is 66, which is no whole number of the 4 heads");
        check(resized("llama.attention.head_count_kv", 2), "");
        check(resized("llama.attention.head_count_kv", 3), "is 3, which does not divide the 4 query heads");
        check(resized("llama.attention.key_length", 32), "");
        check(resized("llama.rope.dimension_count", 8), "");
        check(resized("llama.rope.dimension_count", 7), "expected an even number that is at most");
        check(resized("llama.rope.dimension_count", 18), "expected an even number that is at most");
        check(sizes("").string("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", -2.0), "above 0");
        let next = |n: u32| sizes("").u32("llama.nextn_predict_layers", n);
        check(next(2), "`llama.nextn_predict_layers` is 2, expected less than the 2 layers");
        check(next(3), "expected less than the 2 layers");
        assert_eq!([0, 1].map(|n| config(&next(n)).unwrap().n_layers), [2, 1]);
        let multiplier = |x: f32| {
            let writer = sizes("").string("llama.rope.scaling.type", "yarn").f32("llama.rope.scaling.factor", 2.0);
            writer.f32("llama.rope.scaling.yarn_log_multiplier", x)
        };
        check(multiplier(f32::NAN), "expected a number from 0 on");
        check(multiplier(-100.0), "expected a number from 0 on");
        let eps = "llama.attention.layer_norm_rms_epsilon";
        check(sizes(eps), "which says the epsilon");
        check(sizes(eps).f32(eps, f32::NAN), "expected a number above 0");
        check(sizes("").f32("llama.rope.freq_base", -1.0), "expected a number above 0");
    }
}
