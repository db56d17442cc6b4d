//! A file's metadata as owned values, looked up by key.

use std::collections::HashMap;
use std::sync::Arc;

use crate::format::gguf::Value;

/// The longest list that is kept. Longer ones belong to a tokenizer.
const MAX_LIST: usize = 4096;

/// A value of a file's metadata.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// A whole number.
    Int(i64),
    /// Any other number: the decimal that a stored `f32` represents.
    Float(f64),
    /// A flag.
    Bool(bool),
    /// A text.
    Text(Arc<str>),
    /// A list of values.
    List(Arc<[MetadataValue]>),
}

/// Values by key.
#[derive(Debug, Default)]
pub(crate) struct Metadata {
    values: HashMap<Box<str>, MetadataValue>,
}

impl Metadata {
    /// The metadata of a file. Keys that begin with the architecture's name are also found without it, with the leading
    /// dot.
    pub(crate) fn new<'a>(architecture: &str, pairs: impl Iterator<Item = (&'a str, Value<'a>)>) -> Metadata {
        let mut values = HashMap::new();
        for (key, value) in pairs {
            let Some(value) = kept(value) else { continue };
            if let Some(rest) = key.strip_prefix(architecture).filter(|rest| rest.starts_with('.')) {
                values.insert(rest.into(), value.clone());
            }
            values.insert(key.into(), value);
        }
        Metadata { values }
    }

    /// The value of this key. Allocates nothing.
    pub(crate) fn value(&self, key: &str) -> Option<&MetadataValue> {
        self.values.get(key)
    }
}

/// The decimal that a stored `f32` represents, as it is printed: 1e-5 rather than the `f32` nearest to it.
pub(crate) fn decimal(x: f32) -> f64 {
    x.to_string().parse().unwrap_or(f64::from(x))
}

fn kept(value: Value<'_>) -> Option<MetadataValue> {
    Some(match value {
        Value::U8(n) => MetadataValue::Int(n.into()),
        Value::I8(n) => MetadataValue::Int(n.into()),
        Value::U16(n) => MetadataValue::Int(n.into()),
        Value::I16(n) => MetadataValue::Int(n.into()),
        Value::U32(n) => MetadataValue::Int(n.into()),
        Value::I32(n) => MetadataValue::Int(n.into()),
        Value::U64(n) => MetadataValue::Int(i64::try_from(n).ok()?),
        Value::I64(n) => MetadataValue::Int(n),
        Value::F32(x) => MetadataValue::Float(decimal(x)),
        Value::F64(x) => MetadataValue::Float(x),
        Value::Bool(truth) => MetadataValue::Bool(truth),
        Value::String(text) => MetadataValue::Text(text.into()),
        Value::Array(array) if array.len() <= MAX_LIST => {
            // A list of lists is not kept.
            MetadataValue::List(
                array
                    .iter()
                    .map(|value| if matches!(value, Value::Array(_)) { None } else { kept(value) })
                    .collect::<Option<_>>()?,
            )
        }
        Value::Array(_) => return None,
    })
}
