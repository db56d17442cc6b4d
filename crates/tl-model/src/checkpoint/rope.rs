//! Rotary embeddings of `config.json`, as GGUF's keys and tensors.
//!
//! Newer files have `rope_parameters`, one for each kind of layer; older ones `rope_theta`, `rope_scaling`,
//! `partial_rotary_factor` and `rope_local_base_freq`. Both are read only here.

use std::f64::consts::TAU;

use serde_json::{Map, Value};

use super::hub_config::{Config, Keys, number, size_of_number, wrong};
use crate::error::Result;

/// The default base of the rotation's frequencies.
const DEFAULT_BASE: f64 = 10000.0;

/// GGUF files' divisor of the frequency of an element that is not rotated.
const UNROTATED: f32 = 1e30;

/// The parameters of one kind of layer.
struct Rope<'a> {
    /// GGUF's name of the architecture.
    architecture: &'static str,
    /// The kind of scaling.
    kind: &'a str,
    base: f64,
    /// Number of rotated elements of a head.
    dims: u32,
    /// The scaling's parameters.
    parameters: &'a Map<String, Value>,
    max_positions: f64,
    /// Training context in tokens, before the extension.
    original_positions: Option<f64>,
}

/// Writes the keys and returns the tensors: divisors of the frequencies that no formula gives.
///
/// # Errors
/// An unknown scaling, or missing or impossible parameters.
pub(super) fn translate(
    config: &Config<'_>,
    [head_dim, local_head_dim]: [u32; 2],
    keys: &mut Keys,
) -> Result<Vec<(&'static str, Vec<f32>)>> {
    let empty = Map::new();
    let (full, sliding) = parameters(config)?;
    let rope = Rope::new(config, full.unwrap_or(&empty), head_dim)?;
    keys.float("rope.freq_base", rope.base);
    let is_proportional = rope.kind == "proportional";
    keys.size("rope.dimension_count", if is_proportional { head_dim } else { rope.dims });
    let local_base = match sliding {
        Some(sliding) => {
            let local = Rope::new(config, sliding, local_head_dim)?;
            if is_proportional {
                keys.size("rope.dimension_count_swa", local.dims);
            }
            if local.kind != "default" || !is_proportional && local.dims != rope.dims {
                let expected = "expected the rotation of full layers, unscaled, with another base";
                return Err(wrong("rope_parameters.sliding_attention", &local.kind.into(), expected));
            }
            Some(local.base)
        }
        None => config.number("rope_local_base_freq")?,
    };
    if let Some(base) = local_base {
        keys.float("rope.freq_base_swa", base);
    }
    match rope.kind {
        other if rope.architecture == "mistral3" && other != "yarn" => {
            Err(wrong("rope_type", &other.into(), "expected yarn, with which all models of this kind were trained"))
        }
        "default" => Ok(Vec::new()),
        "linear" => {
            keys.text("rope.scaling.type", "linear");
            keys.float("rope.scaling.factor", rope.positive("factor")?);
            Ok(Vec::new())
        }
        // The whole head is rotated, but most of it by a frequency of zero.
        "proportional" => {
            let factor = rope.optional("factor")?.unwrap_or(1.0);
            let divisor = |pair: u32| if 2 * pair < rope.dims { factor as f32 } else { UNROTATED };
            Ok(vec![("rope_freqs.weight", (0..head_dim / 2).map(divisor).collect())])
        }
        "yarn" => rope.yarn(keys),
        "llama3" => rope.llama3(),
        "longrope" | "su" => rope.longrope(keys),
        other => {
            Err(wrong("rope_type", &other.into(), "expected default, linear, proportional, yarn, llama3 or longrope"))
        }
    }
}

type Parameters<'a> = Option<&'a Map<String, Value>>;

/// The parameters of full-attention layers and of windowed layers, which may have their own.
fn parameters<'a>(config: &Config<'a>) -> Result<(Parameters<'a>, Parameters<'a>)> {
    for key in ["rope_parameters", "rope_scaling"] {
        let Some(value) = config.get(key).filter(|value| !value.is_null()) else { continue };
        let object = value.as_object().ok_or_else(|| wrong(key, value, "expected an object"))?;
        let of = |kind: &str| object.get(kind).and_then(Value::as_object);
        return Ok(match (of("full_attention"), of("sliding_attention")) {
            (None, None) => (Some(object), None),
            by_kind => by_kind,
        });
    }
    Ok((None, None))
}

impl<'a> Rope<'a> {
    fn new(config: &Config<'_>, parameters: &'a Map<String, Value>, head_dim: u32) -> Result<Rope<'a>> {
        let kind = parameters.get("rope_type").or_else(|| parameters.get("type")).filter(|kind| !kind.is_null());
        let kind = match kind {
            Some(kind) => kind.as_str().ok_or_else(|| wrong("rope_type", kind, "expected a string"))?,
            None => "default",
        };
        // Inside the scaling's parameters, or in older files at the top level.
        let own = |key: &str| -> Result<Option<f64>> { Ok(number(parameters, key)?.or(config.number(key)?)) };
        let base = own("rope_theta")?.unwrap_or(DEFAULT_BASE);
        if base <= 0.0 {
            return Err(wrong("rope_theta", &base.into(), "expected a number above 0"));
        }
        let part = own("partial_rotary_factor")?.unwrap_or(1.0);
        // Rounded down, as the models' own code does.
        let dims = (f64::from(head_dim) * part) as u32;
        if dims == 0 || dims > head_dim || !dims.is_multiple_of(2) {
            let expected = format!("expected a part of the head's {head_dim} elements that is even and not 0");
            return Err(wrong("partial_rotary_factor", &part.into(), expected));
        }
        let max_positions = config.number("max_position_embeddings")?.unwrap_or(0.0);
        let original_positions = own("original_max_position_embeddings")?;
        let architecture = config.family.architecture;
        Ok(Rope { architecture, kind, base, dims, parameters, max_positions, original_positions })
    }

    fn optional(&self, key: &str) -> Result<Option<f64>> {
        number(self.parameters, key)
    }

    fn positive(&self, key: &str) -> Result<f64> {
        match self.optional(key)? {
            Some(number) if number > 0.0 => Ok(number),
            _ => {
                let found = self.parameters.get(key).unwrap_or(&Value::Null);
                Err(wrong(key, found, format!("expected a number above 0, as `{}` needs it", self.kind)))
            }
        }
    }

    fn original_positions(&self) -> Result<f64> {
        let positions = self.original_positions.unwrap_or(self.max_positions);
        size_of_number("original_max_position_embeddings", positions).map(f64::from)
    }

    /// Cosines and sines are multiplied by [`yarn_magnitude`]; `rope.scaling.attn_factor` is the remaining factor.
    fn yarn(&self, keys: &mut Keys) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let factor = self.positive("factor")?;
        keys.text("rope.scaling.type", "yarn");
        keys.float("rope.scaling.factor", factor);
        keys.size("rope.scaling.original_context_length", self.original_positions()? as u32);
        for (from, to) in [("beta_fast", "rope.scaling.yarn_beta_fast"), ("beta_slow", "rope.scaling.yarn_beta_slow")] {
            if let Some(beta) = self.optional(from)? {
                keys.float(to, beta);
            }
        }
        match self.parameters.get("truncate") {
            // Not a key of GGUF: without it, a reader uses the architecture's training value.
            None | Some(Value::Null | Value::Bool(true)) => keys.flag("rope.scaling.yarn_truncate", true),
            Some(Value::Bool(false)) => keys.flag("rope.scaling.yarn_truncate", false),
            Some(value) => return Err(wrong("truncate", value, "expected true or false")),
        }
        if let Some(beta) = self.optional("llama_4_scaling_beta")? {
            keys.float("attention.temperature_scale", beta);
        }
        let usual = |scale: f64| if factor <= 1.0 { 1.0 } else { 1.0 + 0.1 * scale * factor.ln() };
        let given = self.optional("attention_factor")?;
        let (scale, scale_all) = (self.optional("mscale")?, self.optional("mscale_all_dim")?);
        let wanted = match (given, scale, scale_all) {
            (Some(attention), _, _) => attention,
            (None, Some(scale), Some(all)) if scale != 0.0 && all != 0.0 => usual(scale) / usual(all),
            _ => usual(1.0),
        };
        // In this architecture only, it also multiplies the scores by its square.
        let multiplier = scale_all.filter(|_| self.architecture == "deepseek2").map_or(0.0, |all| 0.1 * all);
        if multiplier != 0.0 {
            keys.float("rope.scaling.yarn_log_multiplier", multiplier);
        }
        let attention = wanted / yarn_magnitude(self.architecture, factor, multiplier);
        if !attention.is_finite() || attention <= 0.0 {
            return Err(wrong("attention_factor", &attention.into(), "expected a number above 0"));
        }
        if attention != 1.0 {
            keys.float("rope.scaling.attn_factor", attention);
        }
        Ok(Vec::new())
    }

    /// Long waves are stretched by the factor, short ones stay, those between are interpolated.
    fn llama3(&self) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let factor = self.positive("factor")?;
        let (low, high) = (self.positive("low_freq_factor")?, self.positive("high_freq_factor")?);
        let original = self.original_positions()?;
        if low >= high {
            return Err(wrong(
                "low_freq_factor",
                &low.into(),
                format!("expected less than `high_freq_factor`, {high}"),
            ));
        }
        let dims = f64::from(self.dims);
        let divisor = |i: u32| {
            let wave = TAU * self.base.powf(f64::from(2 * i) / dims);
            if wave < original / high {
                return 1.0;
            }
            if wave > original / low {
                return factor;
            }
            let short = (original / wave - low) / (high - low);
            ((1.0 - short) / factor + short).recip()
        };
        Ok(vec![("rope_freqs.weight", (0..self.dims / 2).map(|i| divisor(i) as f32).collect())])
    }

    /// A divisor for each frequency, one list for short contexts and one for long ones.
    fn longrope(&self, keys: &mut Keys) -> Result<Vec<(&'static str, Vec<f32>)>> {
        let original = self.original_positions()?;
        if original < 2.0 {
            return Err(wrong("original_max_position_embeddings", &original.into(), "expected at least 2"));
        }
        keys.text("rope.scaling.type", "longrope");
        keys.size("rope.scaling.original_context_length", original as u32);
        let stretched = match self.original_positions {
            Some(original) => self.max_positions / original,
            None => self.positive("factor")?,
        };
        let attention = match self.optional("attention_factor")? {
            Some(attention) => attention,
            None if stretched <= 1.0 => 1.0,
            None => (1.0 + stretched.ln() / original.ln()).sqrt(),
        };
        keys.float("rope.scaling.attn_factor", attention);
        let (short, long) = (self.divisors("short_factor")?, self.divisors("long_factor")?);
        Ok(vec![("rope_factors_short.weight", short), ("rope_factors_long.weight", long)])
    }

    fn divisors(&self, key: &str) -> Result<Vec<f32>> {
        let len = self.dims as usize / 2;
        let value = self.parameters.get(key).unwrap_or(&Value::Null);
        let divisors = value.as_array().filter(|divisors| divisors.len() == len);
        let divisors: Option<Vec<f32>> = divisors.and_then(|divisors| {
            let positive = |value: &Value| value.as_f64().map(|x| x as f32).filter(|x| x.is_finite() && *x > 0.0);
            divisors.iter().map(positive).collect()
        });
        divisors.ok_or_else(|| wrong(key, value, format!("expected a list of {len} numbers above 0")))
    }
}

/// YaRN's factor of sines and cosines for a context extended by `factor`: 1 + 0.1 ln factor, divided by 1 + 0.1 ·
/// multiplier · ln factor. The multiplier is `rope.scaling.yarn_log_multiplier`, 0 if absent. For the architecture
/// `deepseek2` with a multiplier the result is 1, since its scores are scaled instead.
pub(crate) fn yarn_magnitude(architecture: &str, factor: f64, multiplier: f64) -> f64 {
    let usual = |multiplier: f64| 1.0 + 0.1 * multiplier * factor.max(1.0).ln();
    match architecture {
        _ if multiplier == 0.0 => usual(1.0),
        "deepseek2" => 1.0,
        _ => usual(1.0) / usual(multiplier),
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::tests::{config, translate, value};
    use super::*;
    use serde_json::json;

    #[test]
    fn older_and_newer_files_say_the_same() {
        let check = |model_type: &str, older: Value, newer: Value, expected: Value| {
            for changes in [older, newer] {
                let translated = translate(&config(model_type, &changes)).unwrap();
                for (key, expected) in expected.as_object().unwrap() {
                    assert_eq!(value(&translated, key), *expected, "{model_type} {changes}: {key}");
                }
            }
        };
        check(
            "llama",
            json!({ "rope_theta": 5e5, "rope_scaling": { "type": "linear", "factor": 4 } }),
            json!({ "rope_parameters": { "rope_theta": 5e5, "rope_type": "linear", "factor": 4.0 } }),
            json!({ "rope.freq_base": 5e5f32, "rope.scaling.type": "linear", "rope.scaling.factor": 4.0 }),
        );
        check(
            "glm4",
            json!({ "head_dim": 32 }),
            json!({ "head_dim": 32, "rope_parameters": { "partial_rotary_factor": 0.5, "rope_type": "default" } }),
            json!({ "rope.dimension_count": 16, "rope.freq_base": 1e4f32, "rope.scaling.type": null }),
        );
        let layers = json!({ "full_attention": { "rope_theta": 3e6, "rope_type": "linear", "factor": 2.0 },
            "sliding_attention": { "rope_theta": 2e4, "rope_type": "default" } });
        check(
            "gemma3_text",
            json!({ "rope_theta": 3e6, "rope_local_base_freq": 2e4,
                "rope_scaling": { "rope_type": "linear", "factor": 2.0 } }),
            json!({ "rope_parameters": layers }),
            json!({ "rope.freq_base": 3e6f32, "rope.freq_base_swa": 2e4f32, "rope.scaling.factor": 2.0 }),
        );
        let yarn =
            json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 30 });
        let mut newer = yarn.clone();
        newer["rope_theta"] = json!(1e6);
        check(
            "qwen2",
            json!({ "rope_theta": 1e6, "rope_scaling": yarn }),
            json!({ "rope_parameters": newer }),
            json!({
                "rope.scaling.type": "yarn", "rope.scaling.factor": 4.0, "rope.scaling.original_context_length": 64,
                "rope.scaling.yarn_beta_fast": 30.0, "rope.scaling.yarn_beta_slow": null,
                "rope.scaling.attn_factor": null,
                "rope.scaling.yarn_truncate": true,
            }),
        );
        // What is given is in all; GGUF's is beyond the usual factor.
        let usual = 1.0 + 0.1 * 4f64.ln();
        let given = json!({ "rope_type": "yarn", "factor": 4.0, "attention_factor": 1.5, "truncate": false });
        let scaled =
            json!({ "type": "yarn", "factor": 4.0, "mscale": 1.5 / usual, "mscale_all_dim": 0.0, "truncate": false });
        check(
            "qwen2",
            json!({ "rope_scaling": given }),
            json!({ "rope_parameters": given }),
            json!({ "rope.scaling.attn_factor": (1.5 / usual) as f32, "rope.scaling.yarn_truncate": false,
                "rope.scaling.original_context_length": 256 }),
        );
        check(
            "qwen2",
            json!({ "rope_scaling": scaled }),
            json!({ "rope_parameters": scaled }),
            json!({ "rope.scaling.attn_factor": null }),
        );
        let both = json!({ "type": "yarn", "factor": 4.0, "mscale": 2.0, "mscale_all_dim": 1.0 });
        let ratio = (1.0 + 0.2 * 4f64.ln()) / usual / usual;
        check(
            "qwen2",
            json!({ "rope_scaling": both }),
            json!({ "rope_parameters": both }),
            json!({ "rope.scaling.attn_factor": ratio as f32 }),
        );
    }

    /// Where the multiplier is in the scale of the scores, sines and cosines are multiplied by what is left.
    #[test]
    fn yarn_of_deepseek_and_mistral() {
        let check = |model_type: &str, more: Value, expected: Value| {
            let mut scaling = json!({ "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64 });
            scaling.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let translated = translate(&config(model_type, &json!({ "rope_parameters": scaling }))).unwrap();
            for (key, expected) in expected.as_object().unwrap() {
                assert_eq!(value(&translated, key), *expected, "{model_type} {more}: {key}");
            }
        };
        let (factor, multiplier) = ("rope.scaling.attn_factor", "rope.scaling.yarn_log_multiplier");
        let usual = |scale: f64| 1.0 + 0.1 * scale * 4f64.ln();
        let scales = |scale: f64, all: f64| json!({ "mscale": scale, "mscale_all_dim": all });
        check("deepseek_v3", scales(1.0, 1.0), json!({ factor: null, multiplier: 0.1f32 }));
        check("deepseek_v3", scales(0.707, 0.707), json!({ factor: null, multiplier: 0.0707f32 }));
        check(
            "deepseek_v3",
            scales(1.0, 0.5),
            json!({ factor: (usual(1.0) / usual(0.5)) as f32, multiplier: 0.05f32 }),
        );
        check("deepseek_v3", json!({}), json!({ factor: null, multiplier: null }));
        check("deepseek_v3", scales(0.0, 1.0), json!({ factor: usual(1.0) as f32, multiplier: 0.1f32 }));
        let mut ministral = scales(1.0, 1.0);
        ministral["llama_4_scaling_beta"] = json!(0.1);
        let expected =
            json!({ factor: (1.0 / usual(1.0)) as f32, multiplier: null, "attention.temperature_scale": 0.1f32 });
        check("ministral3", ministral, expected);
    }

    #[test]
    fn tensors_of_divisors() {
        let scaling = json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64 });
        let translated = translate(&config("llama", &json!({ "rope_scaling": scaling, "rope_theta": 5e5 }))).unwrap();
        let [(name, divisors)] = translated.tensors.as_slice() else { panic!("{:?}", translated.tensors) };
        assert_eq!((*name, divisors.len()), ("rope_freqs.weight", 8));
        // Waves of 6.3, 32.5, 168 … tokens beside bounds of 16 and 64: short, between, long.
        assert_eq!((divisors[0], divisors[2], divisors[7]), (1.0, 8.0, 8.0));
        let short = (64.0 / (TAU * 5e5f64.powf(0.125)) - 1.0) / 3.0;
        assert_eq!(divisors[1], (1.0 / ((1.0 - short) / 8.0 + short)) as f32);

        let lists = json!({ "type": "su", "short_factor": [1, 2, 3, 4, 5, 6], "long_factor": [2, 4, 6, 8, 10, 12.5] });
        let changes =
            json!({ "rope_scaling": lists, "partial_rotary_factor": 0.75, "original_max_position_embeddings": 16 });
        let translated = translate(&config("phi3", &changes)).unwrap();
        let expected = [
            ("rope_factors_short.weight", vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
            ("rope_factors_long.weight", vec![2.0, 4.0, 6.0, 8.0, 10.0, 12.5]),
        ];
        assert_eq!(translated.tensors, expected);
        assert_eq!(value(&translated, "rope.scaling.attn_factor"), json!(2f32.sqrt()));
        assert_eq!(value(&translated, "rope.dimension_count"), json!(12));
    }

    #[test]
    fn what_is_refused() {
        let check = |changes: Value, expected: &str| {
            let error = translate(&config("llama", &changes)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(expected), "{changes}: {error}");
        };
        let scaling = |scaling: Value| json!({ "rope_scaling": scaling });
        check(
            scaling(json!({ "type": "dynamic", "factor": 2.0 })),
            "`rope_type` is \"dynamic\", expected default, linear, proportional, yarn",
        );
        check(scaling(json!({ "type": 3 })), "`rope_type` is 3, expected a string");
        check(scaling(json!(3)), "`rope_scaling` is 3, expected an object");
        check(
            scaling(json!({ "type": "linear" })),
            "`factor` is null, expected a number above 0, as `linear` needs it",
        );
        check(scaling(json!({ "type": "linear", "factor": -1 })), "`factor` is -1, expected a number above 0");
        check(scaling(json!({ "type": "yarn", "factor": 2, "truncate": 1 })), "`truncate` is 1");
        check(scaling(json!({ "type": "yarn", "factor": 2, "attention_factor": -1 })), "`attention_factor` is -0.9");
        let llama3 =
            |low: f64| json!({ "rope_type": "llama3", "factor": 8, "low_freq_factor": low, "high_freq_factor": 4 });
        check(scaling(llama3(4.0)), "`low_freq_factor` is 4.0, expected less than `high_freq_factor`, 4");
        let lists = |n: usize, x: f64| json!({ "type": "longrope", "factor": 2, "short_factor": vec![x; n], "long_factor": vec![x; n] });
        check(
            scaling(lists(7, 1.0)),
            "`short_factor` is [1.0,1.0,1.0,1.0,1.0,1.0,1.0], expected a list of 8 numbers above 0",
        );
        check(scaling(lists(8, 0.0)), "expected a list of 8 numbers above 0");
        check(json!({ "rope_scaling": lists(8, 1.0), "original_max_position_embeddings": 1 }), "expected at least 2");
        check(json!({ "rope_theta": 0 }), "`rope_theta` is 0.0, expected a number above 0");
        for part in [0.0, 2.0, -0.5, 0.07] {
            check(json!({ "partial_rotary_factor": part }), "expected a part of the head's 16 elements");
        }
        let layers =
            |kind: &str| json!({ "rope_parameters": { "full_attention": {}, "sliding_attention": { "type": kind } } });
        check(
            layers("linear"),
            "`rope_parameters.sliding_attention` is \"linear\", expected the rotation of full layers",
        );
    }
}
