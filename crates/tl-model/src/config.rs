//! The sizes of a llama model, from a file's metadata.
//!
//! It knows the names of GGUF's keys and what makes a model impossible. Whether the tensors agree with the sizes is
//! the model's business.

use crate::error::{ModelError, Result};
use crate::format::gguf::{Gguf, Value};

/// The sizes and constants of a llama model, all of them checked to make sense together.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// The architecture's name in the file; always `llama`.
    pub architecture: String,
    /// Number of layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn_dim: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The longest sequence that the model was trained for, in tokens.
    pub context_length: usize,
    /// The base of the rotary embedding's frequencies: the decimal number that the file's `f32` stands for.
    pub rope_base: f64,
    /// How many of a head's elements are rotated.
    pub rope_dim: usize,
    /// The epsilon of the root-mean-square normalization, such a number too: 1e-5, not the `f32` nearest to it.
    pub rms_eps: f64,
}

/// The largest size that is believed: one that leaves every product of a few of them inside 64 bits of elements.
const MAX_SIZE: u64 = 1 << 28;

/// A field of a configuration, by its name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ConfigValue<'a> {
    /// A size.
    Int(usize),
    /// A constant.
    Float(f64),
    /// A name.
    Text(&'a str),
}

impl LlamaConfig {
    /// The names that [`LlamaConfig::field`] knows.
    pub const FIELDS: [&'static str; 12] = [
        "architecture",
        "n_layers",
        "dim",
        "n_heads",
        "n_kv_heads",
        "head_dim",
        "ffn_dim",
        "vocab_size",
        "context_length",
        "rope_base",
        "rope_dim",
        "rms_eps",
    ];

    /// The field of that name. Allocates nothing.
    pub fn field(&self, name: &str) -> Option<ConfigValue<'_>> {
        Some(match name {
            "architecture" => ConfigValue::Text(&self.architecture),
            "n_layers" => ConfigValue::Int(self.n_layers),
            "dim" => ConfigValue::Int(self.dim),
            "n_heads" => ConfigValue::Int(self.n_heads),
            "n_kv_heads" => ConfigValue::Int(self.n_kv_heads),
            "head_dim" => ConfigValue::Int(self.head_dim),
            "ffn_dim" => ConfigValue::Int(self.ffn_dim),
            "vocab_size" => ConfigValue::Int(self.vocab_size),
            "context_length" => ConfigValue::Int(self.context_length),
            "rope_base" => ConfigValue::Float(self.rope_base),
            "rope_dim" => ConfigValue::Int(self.rope_dim),
            "rms_eps" => ConfigValue::Float(self.rms_eps),
            _ => return None,
        })
    }

    /// Reads the configuration from a file's metadata.
    ///
    /// # Errors
    /// Another architecture, a key that is missing or of the wrong type, a size that is zero or absurd, heads that
    /// do not divide, or a variant of the architecture that is not computed (experts, scaled rotary embedding).
    pub fn from_gguf(gguf: &Gguf<'_>) -> Result<LlamaConfig> {
        let keys = Keys { gguf };
        let architecture = keys.architecture()?;
        keys.reject_variants()?;
        let dim = keys.size("llama.embedding_length", "the model's width")?;
        let n_heads = keys.size("llama.attention.head_count", "the number of heads")?;
        let n_kv_heads = keys.optional_size("llama.attention.head_count_kv")?.unwrap_or(n_heads);
        if !n_heads.is_multiple_of(n_kv_heads) {
            let problem = format!("which does not divide the {n_heads} query heads");
            return Err(keys.bad("llama.attention.head_count_kv", n_kv_heads, problem));
        }
        let head_dim = keys.head_dim(dim, n_heads)?;
        let rope_dim = keys.optional_size("llama.rope.dimension_count")?.unwrap_or(head_dim);
        if rope_dim > head_dim || !rope_dim.is_multiple_of(2) {
            let problem = format!("expected an even number that is at most the width of a head, {head_dim}");
            return Err(keys.bad("llama.rope.dimension_count", rope_dim, problem));
        }
        Ok(LlamaConfig {
            architecture,
            n_layers: keys.size("llama.block_count", "the number of layers")?,
            dim,
            n_heads,
            n_kv_heads,
            head_dim,
            ffn_dim: keys.size("llama.feed_forward_length", "the width of the feed-forward network")?,
            vocab_size: keys.vocab_size()?,
            context_length: keys.size("llama.context_length", "the longest sequence")?,
            rope_base: keys.positive("llama.rope.freq_base", Some(10000.0))?,
            rope_dim,
            rms_eps: keys.positive("llama.attention.layer_norm_rms_epsilon", None)?,
        })
    }
}

struct Keys<'a> {
    gguf: &'a Gguf<'a>,
}

impl Keys<'_> {
    fn bad(&self, key: &str, value: impl ToString, problem: impl Into<String>) -> ModelError {
        ModelError::KeyValue { key: key.to_owned(), value: value.to_string(), problem: problem.into() }
    }

    fn architecture(&self) -> Result<String> {
        const KEY: &str = "general.architecture";
        match self.gguf.string(KEY)? {
            Some("llama") => Ok("llama".to_owned()),
            Some(found) => Err(ModelError::Architecture { found: found.to_owned() }),
            None => Err(ModelError::MissingKey { key: KEY.to_owned(), meaning: "what kind of model it is" }),
        }
    }

    /// Refuses the members of the family whose results would be wrong if the extra were left out.
    fn reject_variants(&self) -> Result<()> {
        const SCALING: &str = "llama.rope.scaling.type";
        if let Some(scaling) = self.gguf.string(SCALING)?.filter(|&scaling| scaling != "none") {
            return Err(self.bad(SCALING, scaling, "and scaled rotary embeddings are not supported"));
        }
        for key in ["llama.rope.scale_linear", "llama.rope.scaling.factor"] {
            if let Some(scale) = self.gguf.float(key)?.filter(|&scale| scale != 1.0 && scale != 0.0) {
                return Err(self.bad(key, scale, "and scaled rotary embeddings are not supported"));
            }
        }
        const EXPERTS: &str = "llama.expert_count";
        match self.gguf.integer(EXPERTS)? {
            Some(experts) if experts > 0 => Err(self.bad(EXPERTS, experts, "and models of experts are not supported")),
            _ => Ok(()),
        }
    }

    fn size(&self, key: &str, meaning: &'static str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| ModelError::MissingKey { key: key.to_owned(), meaning })
    }

    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        match self.gguf.integer(key)? {
            Some(value) if value == 0 || value > MAX_SIZE => {
                Err(self.bad(key, value, format!("expected 1 to {MAX_SIZE}")))
            }
            value => Ok(value.map(|value| value as usize)),
        }
    }

    /// A stored `f32` as the number that was meant: 1e-5 rather than the `f32` nearest to it.
    fn positive(&self, key: &str, default: Option<f64>) -> Result<f64> {
        let value = self.gguf.float(key)?.or(default);
        let value = value.ok_or_else(|| ModelError::MissingKey {
            key: key.to_owned(),
            meaning: "the epsilon of the normalization",
        })? as f32;
        if !value.is_finite() || value <= 0.0 {
            return Err(self.bad(key, value, "expected a number above 0"));
        }
        // What is printed is the shortest decimal number that this `f32` is the nearest to.
        Ok(value.to_string().parse().unwrap_or(f64::from(value)))
    }

    fn head_dim(&self, dim: usize, n_heads: usize) -> Result<usize> {
        const KEY: &str = "llama.attention.key_length";
        const VALUES: &str = "llama.attention.value_length";
        let head_dim = match self.optional_size(KEY)? {
            Some(head_dim) => head_dim,
            None if dim.is_multiple_of(n_heads) => dim / n_heads,
            None => {
                let problem = format!("which is no whole number of the {n_heads} heads");
                return Err(self.bad("llama.embedding_length", dim, problem));
            }
        };
        match self.optional_size(VALUES)? {
            Some(values) if values != head_dim => {
                Err(self.bad(VALUES, values, format!("expected the width of a key, {head_dim}")))
            }
            _ => Ok(head_dim),
        }
    }

    /// The number of tokens, which some files tell only by listing them.
    fn vocab_size(&self) -> Result<usize> {
        const KEY: &str = "llama.vocab_size";
        const TOKENS: &str = "tokenizer.ggml.tokens";
        if let Some(size) = self.optional_size(KEY)? {
            return Ok(size);
        }
        match self.gguf.value(TOKENS) {
            Some(Value::Array(tokens)) if !tokens.is_empty() && tokens.len() as u64 <= MAX_SIZE => Ok(tokens.len()),
            Some(_) => Err(self.bad(TOKENS, "no list of tokens", "so that the size of the vocabulary is not known")),
            None => Err(ModelError::MissingKey { key: KEY.to_owned(), meaning: "the size of the vocabulary" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{GgufWriter, project_bytes};

    #[test]
    fn reads_the_demo_model() {
        let bytes = project_bytes("models/demo-f16.gguf");
        let config = LlamaConfig::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
        let expected = LlamaConfig {
            architecture: "llama".to_owned(),
            n_layers: 22,
            dim: 96,
            n_heads: 3,
            n_kv_heads: 1,
            head_dim: 32,
            ffn_dim: 256,
            vocab_size: 1536,
            context_length: 256,
            rope_base: 10000.0,
            rope_dim: 32,
            rms_eps: 1e-5,
        };
        assert_eq!(config, expected);
        assert!(LlamaConfig::FIELDS.iter().all(|name| config.field(name).is_some()));
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
            let bytes = sizes(eps).f32(eps, stored).f32("llama.rope.freq_base", stored).finish();
            let config = LlamaConfig::from_gguf(&Gguf::parse(&bytes).unwrap()).unwrap();
            assert_eq!((config.rms_eps, config.rope_base), (expected, expected));
        }
    }

    #[test]
    fn what_makes_no_model() {
        let check = |writer: GgufWriter, expected: &str| {
            let bytes = writer.finish();
            match LlamaConfig::from_gguf(&Gguf::parse(&bytes).unwrap()) {
                Ok(config) => assert_eq!(expected, "", "accepted: {config:?}"),
                Err(error) => assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}"),
            }
        };
        check(sizes(""), "");
        check(sizes("general.architecture"), "no metadata key `general.architecture`");
        check(sizes("general.architecture").string("general.architecture", "gemma"), "architecture is `gemma`");
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
        check(resized("llama.attention.value_length", 32), "expected the width of a key, 16");
        check(resized("llama.rope.dimension_count", 8), "");
        check(resized("llama.rope.dimension_count", 7), "expected an even number that is at most");
        check(resized("llama.rope.dimension_count", 18), "expected an even number that is at most");
        check(resized("llama.expert_count", 8), "models of experts are not supported");
        check(sizes("").string("llama.rope.scaling.type", "yarn"), "is yarn, and scaled rotary embeddings");
        check(sizes("").string("llama.rope.scaling.type", "none"), "");
        check(sizes("").f32("llama.rope.scaling.factor", 4.0), "scaled rotary embeddings");
        let eps = "llama.attention.layer_norm_rms_epsilon";
        check(sizes(eps), "which says the epsilon");
        check(sizes(eps).f32(eps, f32::NAN), "expected a number above 0");
        check(sizes("").f32("llama.rope.freq_base", -1.0), "expected a number above 0");
    }
}
