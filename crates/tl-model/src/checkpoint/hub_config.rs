//! Reading of `config.json`, and writing of GGUF's keys from it.

use serde_json::{Map, Value};

use super::families::{Family, family, known_model_types};
use crate::error::{ModelError, Result};
use crate::format::write::GgufHeader;

/// The largest accepted size.
const MAX_SIZE: f64 = (1 << 30) as f64;
/// A folder's model configuration.
pub(super) struct Config<'a> {
    /// The text model's part of `config.json`.
    pub(super) text: &'a Map<String, Value>,
    /// All of `config.json`: the same map, except for models that see images.
    pub(super) all: &'a Map<String, Value>,
    pub(super) family: &'static Family,
}

/// Metadata to be written under an architecture's name.
pub(super) struct Keys {
    pub(super) header: GgufHeader,
    pub(super) architecture: &'static str,
}

impl Keys {
    pub(super) fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.architecture)
    }

    pub(super) fn size(&mut self, key: &str, value: u32) {
        self.header.u32(&self.key(key), value);
    }

    pub(super) fn float(&mut self, key: &str, value: f64) {
        self.header.f32(&self.key(key), value as f32);
    }

    pub(super) fn flag(&mut self, key: &str, value: bool) {
        self.header.bool(&self.key(key), value);
    }

    pub(super) fn flags(&mut self, key: &str, values: &[bool]) {
        self.header.bools(&self.key(key), values);
    }

    pub(super) fn sizes(&mut self, key: &str, values: &[u32]) {
        let values: Vec<i32> = values.iter().map(|&value| i32::try_from(value).unwrap_or(i32::MAX)).collect();
        self.header.i32s(&self.key(key), &values);
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.header.string(&self.key(key), value);
    }
}

/// The error for an unsupported value of a configuration.
pub(super) fn wrong(key: &str, found: &Value, expected: impl Into<String>) -> ModelError {
    let mut found = found.to_string();
    if let Some((cut, _)) = found.char_indices().nth(60) {
        found.truncate(cut);
        found.push('…');
    }
    ModelError::Config { key: key.to_owned(), found, expected: expected.into() }
}

/// A number of a JSON object; `None` for `null`.
pub(super) fn number(object: &Map<String, Value>, key: &str) -> Result<Option<f64>> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_f64() {
            // The value is written as an f32.
            Some(number) if (number as f32).is_finite() => Ok(Some(number)),
            _ => Err(wrong(key, value, "expected a number")),
        },
    }
}

/// A number as a count.
pub(super) fn size_of_number(key: &str, number: f64) -> Result<u32> {
    if number.fract() != 0.0 || !(0.0..=MAX_SIZE).contains(&number) {
        return Err(wrong(key, &number.into(), format!("expected a whole number from 0 to {MAX_SIZE}")));
    }
    Ok(number as u32)
}

impl<'a> Config<'a> {
    /// Finds the text model and its family.
    ///
    /// # Errors
    /// An unknown kind of model, or weights in an unsupported quantization.
    pub(super) fn new(config: &'a Value) -> Result<Config<'a>> {
        let Some(all) = config.as_object() else {
            return Err(ModelError::Json { what: "config.json", problem: "it is no object".to_owned() });
        };
        let text = all.get("text_config").and_then(Value::as_object).unwrap_or(all);
        for object in [all, text] {
            reject_quantized(object)?;
        }
        let kind = |object: &'a Map<String, Value>| object.get("model_type").and_then(Value::as_str);
        let family = kind(text).and_then(family).or_else(|| kind(all).and_then(family));
        let unknown = || {
            let found = kind(text).or(kind(all)).unwrap_or("(none)").chars().take(60).collect();
            ModelError::ModelType { found, known: known_model_types() }
        };
        Ok(Config { text, all, family: family.ok_or_else(unknown)? })
    }

    /// A value of the text model; `None` if it is absent, which differs from `null`.
    pub(super) fn get(&self, key: &str) -> Option<&'a Value> {
        self.text.get(key)
    }

    pub(super) fn default(&self, key: &str) -> Option<f64> {
        self.family.defaults.iter().find(|(name, _)| *name == key).map(|&(_, value)| value)
    }

    /// A number; the family's default if it is absent, `None` for `null`.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        if self.get(key).is_none() {
            return Ok(self.default(key));
        }
        number(self.text, key)
    }

    /// A count, as [`Config::number`].
    pub(super) fn size(&self, key: &str) -> Result<Option<u32>> {
        self.number(key)?.map(|number| size_of_number(key, number)).transpose()
    }

    /// A required count above 0.
    pub(super) fn needed(&self, key: &str) -> Result<u32> {
        match self.size(key)? {
            Some(0) => Err(wrong(key, &0.into(), "expected a number above 0")),
            Some(size) => Ok(size),
            None => Err(wrong(key, &Value::Null, "expected a whole number")),
        }
    }

    /// A flag, as [`Config::number`]. For a model that sees images, it may be beside the text model's part.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.get(key).or_else(|| self.all.get(key)) {
            None => Ok(self.default(key).map(|value| value != 0.0)),
            Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(value) => Err(wrong(key, value, "expected true or false")),
        }
    }

    /// The ids that end a text, in the text model's part or beside it: a number or a list.
    pub(super) fn end_tokens(&self) -> Option<&'a Value> {
        const KEY: &str = "eos_token_id";
        self.get(KEY).or_else(|| self.all.get(KEY))
    }
}

fn reject_quantized(object: &Map<String, Value>) -> Result<()> {
    for key in ["quantization_config", "compression_config"] {
        if let Some(value) = object.get(key).filter(|value| !value.is_null()) {
            let method = value.get("quant_method").and_then(Value::as_str).unwrap_or("a method without a name");
            return Err(ModelError::QuantizedFolder { method: method.chars().take(60).collect() });
        }
    }
    Ok(())
}
