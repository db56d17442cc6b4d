//! `config.json` translated into GGUF's metadata keys.
//!
//! Keys that all families share are handled here; others by the rows of `families.rs`; rotary embeddings by `rope.rs`.
//! Settings with only one supported value are checked and refused if they differ, so that a model never runs as
//! something that it is not.

use serde_json::{Map, Value};

use super::families::{DELTA_NET_LAYERS, Fixed, GLOBAL_HEAD_DIM, Key};
use super::hub_config::{Config, Keys, size_of_number, wrong};
use super::latent::Latent;
use super::metadata::Metadata;
use super::rope;
use crate::error::Result;
use crate::format::write::GgufHeader;

/// The largest accepted number of layers: lists with an entry per layer are allocated.
const MAX_LAYERS: u32 = 1 << 16;

/// Every layer whose number is a multiple of this has full attention.
const PERIOD: &str = "sliding_window_pattern";

/// A configuration in GGUF's terms.
#[derive(Debug)]
pub(super) struct Translated {
    pub(super) metadata: Metadata,
    /// Tensors computed from the configuration: name and values.
    pub(super) tensors: Vec<(&'static str, Vec<f32>)>,
    pub(super) n_layers: usize,
    /// Trailing layers that predict further tokens.
    pub(super) n_next_layers: usize,
    pub(super) n_experts: usize,
    /// Sizes of latent attention.
    pub(super) latent: Option<Latent>,
    /// Whether the output is the embedding, regardless of the tensors in the files.
    pub(super) is_tied: bool,
}

impl<'a> Config<'a> {
    /// The configuration under GGUF's keys.
    ///
    /// # Errors
    /// A value that is missing, of another type, or unsupported.
    pub(super) fn translate(&self) -> Result<Translated> {
        let architecture = self.family.architecture;
        let mut header = GgufHeader::new();
        header.string("general.architecture", architecture);
        let mut keys = Keys { header, architecture };
        let n_layers = self.needed("num_hidden_layers")?;
        if n_layers > MAX_LAYERS {
            return Err(wrong("num_hidden_layers", &n_layers.into(), format!("expected at most {MAX_LAYERS}")));
        }
        keys.size("block_count", n_layers);
        let recurrent = self.recurrent_layers(n_layers)?;
        let (head_dim, latent) = self.sizes(&mut keys, &recurrent)?;
        let local_head_dim = head_dim;
        let head_dim = self.global_sizes(&mut keys, n_layers, head_dim)?;
        self.epsilon(&mut keys)?;
        self.window(&mut keys, n_layers)?;
        let tensors = rope::translate(self, [head_dim, local_head_dim], &mut keys)?;
        if self.family.has_rope_halves {
            keys.flag("rope.halves", true);
        }
        self.reject_other_rope_layers(n_layers)?;
        self.score_scale(&mut keys, head_dim)?;
        let n_experts = self.family_keys(&mut keys)?;
        self.reject_others()?;
        Ok(Translated {
            metadata: Metadata::of_header(&keys.header)?,
            tensors,
            n_layers: n_layers as usize,
            n_next_layers: self.size("num_nextn_predict_layers")?.unwrap_or(0) as usize,
            latent,
            n_experts: n_experts as usize,
            is_tied: match self.get("tie_embedding") {
                Some(_) => self.flag("tie_embedding")?.unwrap_or(false),
                None => self.flag("tie_word_embeddings")?.unwrap_or(false),
            },
        })
    }

    /// The sizes common to all models. Returns the width of a head, or of its rotated part.
    fn sizes(&self, keys: &mut Keys, recurrent: &[bool]) -> Result<(u32, Option<Latent>)> {
        let width = self.needed("hidden_size")?;
        let n_heads = self.needed("num_attention_heads")?;
        let head_dim = match self.size("head_dim")? {
            Some(head_dim) if head_dim > 0 => head_dim,
            _ if width.is_multiple_of(n_heads) => width / n_heads,
            _ => {
                let expected = format!("expected a multiple of the {n_heads} heads, or a `head_dim`");
                return Err(wrong("hidden_size", &width.into(), expected));
            }
        };
        keys.size("context_length", self.needed("max_position_embeddings")?);
        keys.size("embedding_length", width);
        keys.size("vocab_size", self.needed("vocab_size")?);
        keys.size("attention.head_count", n_heads);
        if self.family.has_latent {
            keys.size("feed_forward_length", self.ffn_dim()?);
            let (latent, turned_dim) = Latent::translate(self, n_heads, keys)?;
            return Ok((turned_dim, Some(latent)));
        }
        let n_kv_heads = self.size("num_key_value_heads")?.unwrap_or(n_heads);
        if self.default(GLOBAL_HEAD_DIM).is_some() {
            return Ok((head_dim, None));
        }
        keys.size("feed_forward_length", self.ffn_dim()?);
        keys.size("attention.key_length", head_dim);
        keys.size("attention.value_length", head_dim);
        match recurrent.contains(&true) {
            false => keys.size("attention.head_count_kv", n_kv_heads),
            true => {
                let of_layer = |&is_recurrent: &bool| if is_recurrent { 0 } else { n_kv_heads };
                keys.sizes("attention.head_count_kv", &recurrent.iter().map(of_layer).collect::<Vec<_>>());
                keys.flags("attention.recurrent_layers", recurrent);
                if self.family.recurrent == DELTA_NET_LAYERS {
                    // GGUF files have them in another order.
                    keys.flag("ssm.tiled_heads", false);
                }
            }
        }
        Ok((head_dim, None))
    }

    /// Sizes of models whose windowed layers have different heads, and whose last layers have no keys of their own.
    /// Returns the width of a full-attention head; for other models, that of every head.
    fn global_sizes(&self, keys: &mut Keys, n_layers: u32, local_head_dim: u32) -> Result<u32> {
        if self.default(GLOBAL_HEAD_DIM).is_none() {
            return Ok(local_head_dim);
        }
        let are_windowed = self.sliding_layers(n_layers)?;
        let number = |key: &str| -> Result<Option<u32>> {
            // Newer configurations have it per layer.
            let own = |layers: &'a Map<String, Value>| layers.values().find_map(|layer| layer.as_object()?.get(key));
            match self.get("per_layer_config").and_then(Value::as_object).and_then(own) {
                Some(value) => value.as_f64().map(|number| size_of_number(key, number)).transpose(),
                None => Ok(None),
            }
        };
        let head_dim = match number("head_dim")? {
            Some(head_dim) => head_dim,
            None => self.needed(GLOBAL_HEAD_DIM)?,
        };
        keys.size("attention.key_length", head_dim);
        keys.size("attention.value_length", head_dim);
        keys.size("attention.key_length_swa", local_head_dim);
        keys.size("attention.value_length_swa", local_head_dim);
        let n_heads = self.needed("num_attention_heads")?;
        let n_local = self.size("num_key_value_heads")?.unwrap_or(n_heads);
        let n_global = match number("num_key_value_heads")? {
            Some(n_heads) => Some(n_heads),
            None if self.flag("attention_k_eq_v")?.unwrap_or(false) => self.size("num_global_key_value_heads")?,
            None => None,
        };
        let n_kv_heads = |&is_windowed: &bool| if is_windowed { n_local } else { n_global.unwrap_or(n_local) };
        keys.sizes("attention.head_count_kv", &are_windowed.iter().map(n_kv_heads).collect::<Vec<_>>());
        let n_shared = self.size("num_kv_shared_layers")?.unwrap_or(0);
        if n_shared >= n_layers {
            let expected = format!("expected less than the {n_layers} layers");
            return Err(wrong("num_kv_shared_layers", &n_shared.into(), expected));
        }
        let ffn_dim = self.needed("intermediate_size")?;
        let is_double = self.flag("use_double_wide_mlp")?.unwrap_or(false);
        let width =
            |layer: u32| if is_double && layer >= n_layers - n_shared { ffn_dim.saturating_mul(2) } else { ffn_dim };
        keys.sizes("feed_forward_length", &(0..n_layers).map(width).collect::<Vec<_>>());
        Ok(head_dim)
    }

    /// Width of the feed-forward network. Some configurations give that of a network without a gate; one with a gate
    /// has two thirds of it, times a factor, rounded up to a multiple.
    fn ffn_dim(&self) -> Result<u32> {
        let key = if self.get("block_ff_dim").is_some() { "block_ff_dim" } else { "intermediate_size" };
        let width = self.needed(key)?;
        if !self.flag("block_auto_adjust_ff_dim")?.unwrap_or(false) {
            return Ok(width);
        }
        let adjusted = u64::from(width) * 2 / 3;
        let Some(factor) = self.number("block_ffn_dim_multiplier")? else {
            return size_of_number(key, adjusted as f64);
        };
        let multiple = f64::from(self.needed("block_multiple_of")?);
        let adjusted = (adjusted as f64 * factor).floor();
        size_of_number(key, (adjusted / multiple).ceil() * multiple)
    }

    /// For each layer, whether it has a state instead of keys and values.
    fn recurrent_layers(&self, n_layers: u32) -> Result<Vec<bool>> {
        const ATTENDING: &str = "full_attn_idxs";
        /// Every layer whose number is a multiple of this has keys and values.
        const PERIOD_OF_STATES: &str = "full_attention_interval";
        let mut recurrent = vec![false; n_layers as usize];
        if self.family.recurrent.is_empty() {
            return Ok(recurrent);
        }
        if let Some(types) = self.layer_types(n_layers)? {
            let is_recurrent = |value: &Value| value.as_str() == Some(self.family.recurrent);
            return Ok(types.iter().map(is_recurrent).collect());
        }
        if let Some(value) = self.get(ATTENDING).filter(|value| !value.is_null()) {
            recurrent.fill(true);
            for layer in value.as_array().ok_or_else(|| wrong(ATTENDING, value, "expected a list of layers"))? {
                let place = layer.as_u64().and_then(|layer| recurrent.get_mut(usize::try_from(layer).ok()?));
                let expected = format!("expected numbers of the {n_layers} layers");
                *place.ok_or_else(|| wrong(ATTENDING, layer, expected))? = false;
            }
        } else if self.size(PERIOD_OF_STATES)?.is_some() {
            let period = self.needed(PERIOD_OF_STATES)?;
            (1..=n_layers).zip(&mut recurrent).for_each(|(layer, own)| *own = !layer.is_multiple_of(period));
        }
        Ok(recurrent)
    }

    /// The configuration's name for the kind of each layer, if it has them.
    fn layer_types(&self, n_layers: u32) -> Result<Option<&'a [Value]>> {
        const TYPES: &str = "layer_types";
        let Some(value) = self.get(TYPES).filter(|value| !value.is_null()) else { return Ok(None) };
        let types = value.as_array().filter(|types| types.len() == n_layers as usize);
        let types = types.ok_or_else(|| wrong(TYPES, value, format!("expected a list of {n_layers} types")))?;
        Ok(Some(types))
    }

    /// The normalization's epsilon, under the key for its kind of normalization.
    fn epsilon(&self, keys: &mut Keys) -> Result<()> {
        // A family whose norms subtract the mean has a default for this key; the other key may be there by accident.
        let (from, to) = match self.default("layer_norm_eps") {
            Some(_) => ("layer_norm_eps", "attention.layer_norm_epsilon"),
            None if self.default("norm_eps").is_some() => ("norm_eps", "attention.layer_norm_rms_epsilon"),
            None => ("rms_norm_eps", "attention.layer_norm_rms_epsilon"),
        };
        match self.number(from)? {
            Some(epsilon) if epsilon > 0.0 => keys.float(to, epsilon),
            _ => return Err(wrong(from, self.get(from).unwrap_or(&Value::Null), "expected a number above 0")),
        }
        Ok(())
    }

    /// The sliding window and the layers that it is for.
    fn window(&self, keys: &mut Keys, n_layers: u32) -> Result<()> {
        let mut layers = self.sliding_layers(n_layers)?;
        let is_on = self.flag("use_sliding_window")?.unwrap_or(true);
        let window = self.size("sliding_window")?.filter(|&window| window > 0 && is_on && layers.contains(&true));
        match window {
            Some(window) => keys.size("attention.sliding_window", window),
            None => layers.fill(false),
        }
        // Without the key, an architecture with windows uses its own pattern.
        if window.is_some() || self.default(PERIOD).is_some() {
            keys.flags("attention.sliding_window_pattern", &layers);
        }
        Ok(())
    }

    /// For each layer, whether it has a window.
    fn sliding_layers(&self, n_layers: u32) -> Result<Vec<bool>> {
        if let Some(types) = self.layer_types(n_layers)? {
            let is_sliding = |value: &Value| match value.as_str() {
                Some("sliding_attention") => Ok(true),
                Some("full_attention") => Ok(false),
                Some(other) if !other.is_empty() && other == self.family.recurrent => Ok(false),
                _ if self.family.recurrent.is_empty() => {
                    Err(wrong("layer_types", value, "expected `full_attention` or `sliding_attention`"))
                }
                _ => {
                    let expected =
                        format!("expected `full_attention`, `sliding_attention` or `{}`", self.family.recurrent);
                    Err(wrong("layer_types", value, expected))
                }
            };
            return types.iter().map(is_sliding).collect();
        }
        for key in [PERIOD, "_sliding_window_pattern"] {
            if self.get(key).is_some() || self.default(key).is_some() {
                let period = self.needed(key)?;
                return Ok((1..=n_layers).map(|layer| !layer.is_multiple_of(period)).collect());
            }
        }
        let first = self.size("max_window_layers")?.unwrap_or(0);
        Ok((0..n_layers).map(|layer| layer >= first).collect())
    }

    /// The factor of the scores, if it is not 1/√(width of a head).
    fn score_scale(&self, keys: &mut Keys, head_dim: u32) -> Result<()> {
        const KEY: &str = "query_pre_attn_scalar";
        match self.number(KEY)? {
            Some(scalar) if scalar == f64::from(head_dim) => Ok(()),
            Some(scalar) if scalar > 0.0 => {
                keys.float("attention.scale", scalar.sqrt().recip());
                Ok(())
            }
            Some(scalar) => Err(wrong(KEY, &scalar.into(), "expected a number above 0")),
            None => Ok(()),
        }
    }

    /// The keys of the family's row. Returns the number of experts.
    fn family_keys(&self, keys: &mut Keys) -> Result<u32> {
        let mut n_experts = 0;
        for key in self.family.keys {
            match key {
                Key::Size(from, to) => {
                    let Some(size) = self.size(from)? else { continue };
                    if *to == "expert_count" {
                        if n_experts != 0 {
                            continue;
                        }
                        n_experts = size;
                    }
                    keys.size(to, size);
                }
                Key::Float(from, to) => self.number(from)?.into_iter().for_each(|number| keys.float(to, number)),
                Key::Flag(from, to) => self.flag(from)?.into_iter().for_each(|flag| keys.flag(to, flag)),
                Key::SizeWhere { key, is, from, to } => {
                    let size = self.size(from)?.filter(|_| self.get(key).and_then(Value::as_str) == Some(*is));
                    size.into_iter().for_each(|size| keys.size(to, size));
                }
            }
        }
        Ok(n_experts)
    }

    /// Models without rotation in some layers: GGUF has no key for the layers; the architecture means every fourth.
    fn reject_other_rope_layers(&self, n_layers: u32) -> Result<()> {
        const KEY: &str = "no_rope_layers";
        const EVERY: u32 = 4;
        let Some(value) = self.get(KEY).filter(|value| !value.is_null()) else { return Ok(()) };
        let rotated = (1..=n_layers).map(|layer| u64::from(!layer.is_multiple_of(EVERY)));
        match value.as_array() {
            Some(layers) if layers.is_empty() => Ok(()),
            Some(layers) if layers.iter().map(Value::as_u64).eq(rotated.map(Some)) => Ok(()),
            _ => Err(wrong(KEY, value, format!("expected 0 for every {EVERY}th layer and 1 for the others"))),
        }
    }

    /// Refuses values other than those that the architecture always uses.
    fn reject_others(&self) -> Result<()> {
        for (key, fixed) in self.family.fixed {
            let Some(value) = self.get(key).filter(|value| !value.is_null()) else { continue };
            let (is_same, expected) = match fixed {
                Fixed::Text(text) => (value.as_str() == Some(text), format!("`{text}`")),
                Fixed::Texts(texts) => (
                    texts.iter().any(|text| value.as_str() == Some(text)),
                    texts.map(|text| format!("`{text}`")).join(" or "),
                ),
                Fixed::Number(number) => (value.as_f64() == Some(*number), number.to_string()),
                Fixed::Flag(flag) => (value.as_bool() == Some(*flag), flag.to_string()),
            };
            if !is_same {
                return Err(wrong(
                    key,
                    value,
                    format!("and {} is computed with {expected} only", self.family.architecture),
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::format::gguf::{Value as Meta, ValueType};
    use serde_json::json;

    /// A small configuration of that type, with these values changed; `null` for those that are to be absent.
    pub(in crate::checkpoint) fn config(model_type: &str, changes: &Value) -> Value {
        let mut config = json!({
            "model_type": model_type, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
            "intermediate_size": 96, "vocab_size": 320, "max_position_embeddings": 256, "rms_norm_eps": 1e-5,
        });
        let object = config.as_object_mut().unwrap();
        for (key, value) in changes.as_object().unwrap() {
            match value.is_null() {
                true => drop(object.remove(key)),
                false => drop(object.insert(key.clone(), value.clone())),
            }
        }
        config
    }

    pub(in crate::checkpoint) fn translate(config: &Value) -> Result<Translated> {
        Config::new(config)?.translate()
    }

    /// The value as JSON, for comparing; `null` where there is none.
    pub(in crate::checkpoint) fn value(translated: &Translated, key: &str) -> Value {
        let family = translated.metadata.value("general.architecture").and_then(|value| value.as_str()).unwrap();
        match translated.metadata.value(&format!("{family}.{key}")) {
            None => Value::Null,
            Some(Meta::F32(x)) => json!(x),
            Some(Meta::Array(array)) if array.element() == ValueType::Bool => {
                array.iter().map(|value| value.as_bool().unwrap()).collect()
            }
            Some(Meta::Array(array)) => array.iter().map(|value| json!(value.as_integer().unwrap())).collect(),
            Some(Meta::Bool(x)) => json!(x),
            Some(Meta::String(x)) => json!(x),
            Some(other) => json!(other.as_integer().unwrap()),
        }
    }

    #[test]
    fn what_keys_become() {
        let check = |model_type: &str, changes: Value, expected: Value| {
            let translated = translate(&config(model_type, &changes)).unwrap();
            for (key, expected) in expected.as_object().unwrap() {
                assert_eq!(value(&translated, key), *expected, "{model_type} {changes}: {key}");
            }
        };
        check(
            "llama",
            json!({}),
            json!({
                "block_count": 4, "embedding_length": 64, "feed_forward_length": 96, "vocab_size": 320,
                "context_length": 256,
                "attention.head_count": 4, "attention.head_count_kv": 4, "attention.key_length": 16,
                "attention.value_length": 16, "rope.halves": true, "rope.dimension_count": 16,
                "rope.freq_base": 10000.0,
                "attention.layer_norm_rms_epsilon": 1e-5f32, "attention.sliding_window": null,
                "rope.scaling.type": null,
            }),
        );
        check(
            "llama",
            json!({ "num_key_value_heads": 2, "head_dim": 32 }),
            json!({
                "attention.head_count_kv": 2, "attention.key_length": 32, "rope.dimension_count": 32,
            }),
        );
        // Defaults are for what is absent, not for what is null.
        check("mistral", json!({}), json!({ "attention.head_count_kv": 8 }));
        check(
            "mistral",
            json!({ "sliding_window": 4096 }),
            json!({
                "attention.sliding_window": 4096, "attention.sliding_window_pattern": [true, true, true, true],
            }),
        );
        check(
            "qwen2",
            json!({ "sliding_window": 8 }),
            json!({ "attention.sliding_window": null, "rope.halves": null }),
        );
        check(
            "qwen2",
            json!({ "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 3 }),
            json!({
                "attention.sliding_window": 8, "attention.sliding_window_pattern": [false, false, false, true],
            }),
        );
        check(
            "qwen2",
            json!({ "sliding_window": 8, "use_sliding_window": true, "max_window_layers": 4 }),
            json!({
                "attention.sliding_window": null, "attention.sliding_window_pattern": null,
            }),
        );
        check(
            "gemma2",
            json!({ "sliding_window": 8, "final_logit_softcapping": 30.0, "query_pre_attn_scalar": 144 }),
            json!({
                "attention.sliding_window_pattern": [true, false, true, false], "final_logit_softcapping": 30.0,
                "attn_logit_softcapping": null, "attention.scale": 1.0 / 12.0f32, "attention.key_length": 256,
            }),
        );
        check(
            "gemma2",
            json!({ "query_pre_attn_scalar": 256 }),
            json!({ "attention.scale": null, "attention.sliding_window": 4096 }),
        );
        check(
            "cohere2",
            json!({ "layer_types": ["full_attention", "sliding_attention", "full_attention", "full_attention"] }),
            json!({
                "attention.sliding_window_pattern": [false, true, false, false], "logit_scale": 0.0625,
                "attention.layer_norm_epsilon": 1e-5f32, "attention.layer_norm_rms_epsilon": null,
            }),
        );
        // An architecture that has windows is told that a model has none.
        check(
            "gemma2",
            json!({ "layer_types": vec!["full_attention"; 4] }),
            json!({
                "attention.sliding_window": null, "attention.sliding_window_pattern": [false, false, false, false],
            }),
        );
        check("granite", json!({}), json!({ "attention.scale": 1.0, "logit_scale": 1.0, "residual_scale": 1.0 }));
        check(
            "qwen3_moe",
            json!({ "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 48, "norm_topk_prob": true }),
            json!({
                "expert_count": 8, "expert_used_count": 2, "expert_feed_forward_length": 48,
                "expert_weights_norm": true,
            }),
        );
        check(
            "gpt_oss",
            json!({ "num_local_experts": 8 }),
            json!({ "expert_count": 8, "expert_feed_forward_length": 96 }),
        );
        check("smollm3", json!({ "no_rope_layers": [1, 1, 1, 0] }), json!({ "rope.halves": true }));
        check(
            "glm4_moe",
            json!({ "n_routed_experts": 8, "n_shared_experts": 1, "first_k_dense_replace": 1, "n_group": 2,
                "topk_group": 1, "routed_scaling_factor": 2.5, "num_nextn_predict_layers": 1 }),
            json!({
                "expert_count": 8, "expert_used_count": 8, "expert_shared_count": 1, "leading_dense_block_count": 1,
                "expert_group_count": 2, "expert_group_used_count": 1, "expert_weights_scale": 2.5,
                "expert_weights_norm": true, "block_count": 4, "nextn_predict_layers": null,
                "rope.dimension_count": 8,
            }),
        );
        // What the cache holds has the sizes of one head; the heads' own are others.
        let latent = json!({ "kv_lora_rank": 40, "qk_rope_head_dim": 8, "qk_nope_head_dim": 24, "v_head_dim": 20,
            "q_lora_rank": null, "head_dim": 8, "n_group": 4, "topk_group": 2 });
        let sizes = json!({
            "attention.head_count": 4, "attention.head_count_kv": 1, "attention.key_length": 48,
            "attention.value_length": 40, "attention.key_length_mla": 32, "attention.value_length_mla": 20,
            "attention.kv_lora_rank": 40, "rope.dimension_count": 8, "expert_group_count": null,
        });
        check("deepseek_v2", latent.clone(), sizes);
        let mut grouped = latent;
        grouped["topk_method"] = json!("group_limited_greedy");
        check("deepseek_v2", grouped, json!({ "expert_group_count": 4, "expert_group_used_count": 2 }));
        check(
            "deepseek_v3",
            json!({ "q_lora_rank": 12, "n_group": 4 }),
            json!({ "attention.q_lora_rank": 12, "attention.key_length": 576, "attention.key_length_mla": 192,
                "expert_group_count": 4, "expert_weights_norm": true }),
        );
        check(
            "olmo3",
            json!({ "sliding_window": 8 }),
            json!({ "attention.sliding_window_pattern": [true, true, true, false], "rope.freq_base": 5e5f32 }),
        );
        check(
            "exaone4",
            json!({ "sliding_window": null, "layer_types": vec!["full_attention"; 4] }),
            json!({ "attention.sliding_window": null }),
        );
        let norm = json!({ "norm_eps": 1e-5, "rms_norm_eps": null });
        let with = |changes: Value| {
            let mut all = norm.clone();
            all.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
            all
        };
        // Two thirds of 96, rounded up to a multiple of 256.
        check(
            "lfm2",
            with(json!({ "layer_types": ["conv", "conv", "full_attention", "conv"], "num_attention_heads": 8 })),
            json!({
                "attention.head_count_kv": [0, 0, 8, 0], "attention.recurrent_layers": [true, true, false, true],
                "feed_forward_length": 256, "shortconv.l_cache": 3, "rope.freq_base": 1e6,
                "attention.layer_norm_rms_epsilon": 1e-5f32, "attention.sliding_window": null,
            }),
        );
        check(
            "lfm2",
            with(json!({
                "full_attn_idxs": [1, 3], "block_ff_dim": 300, "block_ffn_dim_multiplier": 1.5, "block_multiple_of": 8,
                "conv_L_cache": 4, "num_attention_heads": 8
            })),
            json!({
                "attention.head_count_kv": [0, 8, 0, 8], "feed_forward_length": 304, "shortconv.l_cache": 4,
            }),
        );
        check(
            "lfm2",
            with(json!({ "block_auto_adjust_ff_dim": false, "num_attention_heads": 8 })),
            json!({ "attention.head_count_kv": 8, "feed_forward_length": 96, "attention.recurrent_layers": null }),
        );
        check(
            "qwen3_next",
            json!({ "num_experts": 8, "num_key_value_heads": 2 }),
            json!({
                "attention.head_count_kv": [0, 0, 0, 2], "attention.recurrent_layers": [true, true, true, false],
                "ssm.tiled_heads": false, "ssm.state_size": 128, "ssm.group_count": 16, "ssm.conv_kernel": 4,
                "expert_count": 8, "rope.dimension_count": 64,
            }),
        );
        check(
            "qwen3_5",
            json!({ "full_attention_interval": 2, "linear_num_key_heads": 4 }),
            json!({ "attention.recurrent_layers": [true, false, true, false], "ssm.group_count": 4 }),
        );
        let layers = json!(["sliding_attention", "full_attention", "sliding_attention", "full_attention"]);
        check(
            "gemma4_text",
            json!({
                "layer_types": layers, "num_kv_shared_layers": 1, "use_double_wide_mlp": true, "head_dim": 16,
                "attention_k_eq_v": true, "num_global_key_value_heads": 1, "num_key_value_heads": 2,
                "rope_parameters": {
                    "full_attention": {
                        "rope_type": "proportional", "rope_theta": 1e6, "partial_rotary_factor": 0.25
                    },
                    "sliding_attention": { "rope_type": "default", "rope_theta": 10000.0 },
                },
            }),
            json!({
                "attention.key_length": 512, "attention.key_length_swa": 16, "rope.dimension_count": 512,
                "rope.dimension_count_swa": 16, "rope.freq_base_swa": 10000.0, "rope.freq_base": 1e6,
                "attention.head_count_kv": [2, 1, 2, 1], "feed_forward_length": [96, 96, 96, 192],
                "attention.shared_kv_layers": 1, "embedding_length_per_layer_input": 256,
                "attention.sliding_window_pattern": [true, false, true, false], "attention.sliding_window": 512,
            }),
        );
        check(
            "gemma4_text",
            json!({
                "layer_types": layers, "num_key_value_heads": 2,
                "per_layer_config": { "1": { "head_dim": 64, "num_key_value_heads": 4 }, "3": { "head_dim": 64 } },
            }),
            json!({
                "attention.key_length": 64, "attention.head_count_kv": [2, 4, 2, 4],
                "feed_forward_length": [96, 96, 96, 96],
            }),
        );
        check("qwen3_5_moe", json!({ "intermediate_size": null }), json!({ "ssm.time_step_rank": 32 }));
    }

    #[test]
    fn models_that_see_images_have_a_text_part() {
        let all = json!({
            "model_type": "gemma3", "eos_token_id": [1, 106], "vision_config": { "hidden_size": 1 }, "text_config": {
                "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
                "rope_scaling": { "factor": 8.0, "rope_type": "linear" }, "sliding_window": 1024,
            },
        });
        let translated = translate(&all).unwrap();
        for (key, expected) in [
            ("embedding_length", json!(2560)),
            ("vocab_size", json!(262_208)),
            ("attention.head_count", json!(8)),
            ("attention.head_count_kv", json!(4)),
            ("attention.key_length", json!(256)),
            ("attention.sliding_window", json!(1024)),
            ("attention.scale", Value::Null),
            ("rope.freq_base", json!(1e6f32)),
            ("rope.freq_base_swa", json!(1e4f32)),
            ("rope.scaling.type", json!("linear")),
            ("rope.scaling.factor", json!(8.0)),
        ] {
            assert_eq!(value(&translated, key), expected, "{key}");
        }
        let pattern: Vec<bool> = (1..=34).map(|layer| layer % 6 != 0).collect();
        assert_eq!(value(&translated, "attention.sliding_window_pattern"), json!(pattern));
        assert!(translated.is_tied);
        assert_eq!(Config::new(&all).unwrap().end_tokens(), Some(&json!([1, 106])));
        // Quantized by either of the two.
        for place in ["", "/text_config"] {
            let mut all = all.clone();
            all.pointer_mut(place).unwrap()["quantization_config"] = json!({ "quant_method": "awq" });
            assert!(translate(&all).unwrap_err().to_string().contains("quantized by `awq`"));
        }
    }

    #[test]
    fn what_is_refused() {
        let check = |model_type: &str, changes: Value, expected: &str| {
            let error = translate(&config(model_type, &changes)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{changes}: {error}");
        };
        check("bert", json!({}), "the model's type is `bert`; known are llama, mistral, mixtral, smollm3, qwen2,");
        check("llama", json!({ "model_type": null }), "the model's type is `(none)`");
        check("llama", json!({ "hidden_size": null }), "`hidden_size` is null, expected a whole number");
        check("llama", json!({ "hidden_size": 66 }), "`hidden_size` is 66, expected a multiple of the 4 heads");
        check("llama", json!({ "hidden_size": "64" }), "`hidden_size` is \"64\", expected a number");
        check("llama", json!({ "hidden_size": -64 }), "expected a whole number from 0 to");
        check("llama", json!({ "hidden_size": 64.5 }), "`hidden_size` is 64.5, expected a whole number");
        check("llama", json!({ "num_hidden_layers": 1 << 20 }), "expected at most 65536");
        check("llama", json!({ "num_attention_heads": 0 }), "expected a number above 0");
        check("llama", json!({ "rms_norm_eps": 0 }), "`rms_norm_eps` is 0, expected a number above 0");
        check("llama", json!({ "rms_norm_eps": 1e300 }), "`rms_norm_eps` is 1e+300, expected a number");
        check(
            "llama",
            json!({ "hidden_act": "gelu" }),
            "`hidden_act` is \"gelu\", and llama is computed with `silu` only",
        );
        check("gemma", json!({ "use_bidirectional_attention": true }), "computed with false only");
        check("gpt_oss", json!({ "swiglu_limit": 6.0 }), "`swiglu_limit` is 6.0, and gpt-oss is computed with 7 only");
        check("smollm3", json!({ "no_rope_layers": [1, 1, 0, 1] }), "expected 0 for every 4th layer");
        check("smollm3", json!({ "no_rope_layers": 3 }), "expected 0 for every 4th layer");
        check("qwen3", json!({ "layer_types": ["full_attention"] }), "expected a list of 4 types");
        check(
            "qwen3",
            json!({ "layer_types": ["full_attention", "linear_attention", "x", "x"] }),
            "is \"linear_attention\"",
        );
        check("gemma2", json!({ "sliding_window_pattern": 0 }), "`sliding_window_pattern` is 0");
        check("lfm2", json!({ "conv_bias": true }), "`conv_bias` is true, and lfm2 is computed with false only");
        check("lfm2", json!({ "full_attn_idxs": [4] }), "`full_attn_idxs` is 4, expected numbers of the 4 layers");
        check("lfm2", json!({ "full_attn_idxs": 4 }), "`full_attn_idxs` is 4, expected a list of layers");
        check(
            "lfm2",
            json!({ "layer_types": ["conv", "conv", "full_attention", "mamba"] }),
            "expected `full_attention`, `sliding_attention` or `conv`",
        );
        check("qwen3_next", json!({ "norm_topk_prob": false }), "computed with true only");
        check("gemma4", json!({ "num_kv_shared_layers": 4 }), "`num_kv_shared_layers` is 4, expected less than the 4");
        check("qwen3_5", json!({ "full_attention_interval": 0 }), "`full_attention_interval` is 0");
        check("gemma2", json!({ "query_pre_attn_scalar": 0 }), "`query_pre_attn_scalar` is 0");
        check("llama", json!({ "tie_word_embeddings": 1 }), "`tie_word_embeddings` is 1, expected true or false");
        check(
            "gpt_oss",
            json!({ "quantization_config": { "quant_method": "mxfp4" } }),
            "quantized by `mxfp4`, which is not read",
        );
        check("llama", json!({ "quantization_config": 3 }), "quantized by `a method without a name`");
        check("llama", json!({ "hidden_size": "x".repeat(1000) }), "…, expected a number");
        check("deepseek_v3", json!({ "kv_lora_rank": 0 }), "`kv_lora_rank` is 0, expected a number above 0");
        check("deepseek_v3", json!({ "v_head_dim": 1.5 }), "`v_head_dim` is 1.5, expected a whole number");
        check("deepseek_v3", json!({ "qk_rope_head_dim": 7 }), "expected a part of the head's 7 elements that is even");
        check("deepseek_v3", json!({ "rope_interleave": false }), "`rope_interleave` is false, expected true");
        check("deepseek_v3", json!({ "scoring_func": "softmax" }), "deepseek2 is computed with `sigmoid` only");
        check("deepseek_v2", json!({ "topk_method": "noaux_tc" }), "with `greedy` or `group_limited_greedy` only");
        check("deepseek_v2", json!({ "norm_topk_prob": true }), "computed with false only");
        check("glm4_moe", json!({ "num_nextn_predict_layers": -1 }), "`num_nextn_predict_layers` is -1");
        check("ministral3", json!({}), "`rope_type` is \"default\", expected yarn");
        let error = translate(&json!([1])).unwrap_err().to_string();
        assert!(error.contains("config.json cannot be read: it is no object"), "{error}");
    }
}
