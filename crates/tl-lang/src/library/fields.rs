//! Fields of records and handles.

use tl_model::{ConfigValue, ModelConfig};

use super::error::BuiltinError;
use super::nodes::child;
use crate::types::{HandleKind, Type};
use crate::value::{Handle, Number, Value};

/// A model's field for its configuration.
pub(crate) const CONFIG: &str = "config";

/// A model's field for the dtype of its activations.
pub(crate) const ACTIVATIONS: &str = "activations";

/// A KV cache's field for the positions of a step's tokens.
const POSITIONS: &str = "positions";

/// The type of a handle's field.
pub(crate) fn field_type(kind: HandleKind, name: &str) -> Option<Type> {
    match (kind, name) {
        (HandleKind::Model, CONFIG) => Some(Type::Handle(HandleKind::Config)),
        (HandleKind::Model, ACTIVATIONS) => Some(Type::Dtype),
        // Only the file tells whether it exists.
        (HandleKind::Model | HandleKind::Node, "weight" | "bias") => Some(Type::any_tensor()),
        (HandleKind::Model | HandleKind::Node, _) => Some(Type::Handle(HandleKind::Node)),
        (HandleKind::Config, "architecture") => Some(Type::Str),
        (HandleKind::Config, "rope_base" | "rope_scale" | "rope_magnitude" | "norm_eps" | "rms_eps") => {
            Some(Type::Float)
        }
        (HandleKind::Config, name) => ModelConfig::FIELDS.contains(&name).then_some(Type::Int),
        (HandleKind::KvCache, "len" | "capacity" | "layers") => Some(Type::Int),
        // An int, or an int32 tensor in a step of several sequences.
        (HandleKind::KvCache, POSITIONS) => Some(Type::Unknown),
        (HandleKind::Tokenizer, "vocab_size" | "bos" | "eos") => Some(Type::Int),
        (HandleKind::Plan, "bytes" | "count") => Some(Type::Int),
        _ => None,
    }
}

/// The fields that every handle of this kind has.
pub(crate) fn field_names(kind: HandleKind) -> Vec<&'static str> {
    match kind {
        HandleKind::Config => ModelConfig::FIELDS.to_vec(),
        HandleKind::KvCache => vec!["len", POSITIONS, "capacity", "layers"],
        HandleKind::Tokenizer => vec!["vocab_size", "bos", "eos"],
        HandleKind::Plan => vec!["bytes", "count"],
        _ => Vec::new(),
    }
}

/// The field of a value.
///
/// # Errors
/// There is no such field.
pub(crate) fn field(value: &Value, name: &str) -> Result<Value, BuiltinError> {
    match value {
        Value::Record(record) => {
            let index = record.ty.fields.iter().position(|(field, _)| *field == name);
            let value = index.and_then(|index| record.values.get(index));
            value.cloned().ok_or_else(|| BuiltinError::new(format!("{} has no field `{name}`", record.ty.name)))
        }
        Value::Struct(value) => {
            let field = value.ty.field_index(name).and_then(|at| value.values.get(at));
            field.cloned().ok_or_else(|| BuiltinError::new(format!("{} has no field `{name}`", value.ty.name)))
        }
        Value::Handle(handle) => field_of_handle(handle, name),
        other => Err(BuiltinError::new(format!("{} has no field `{name}`", other.describe()))),
    }
}

/// The field of a value, if the value is a handle and the field a number.
pub(crate) fn number_field(value: &Value, name: &str) -> Option<Number> {
    match value {
        Value::Handle(handle) => number_of_handle(handle, name),
        Value::Struct(value) => value.values.get(value.ty.field_index(name)?)?.number(),
        _ => None,
    }
}

/// A handle's field that is a number.
fn number_of_handle(handle: &Handle, name: &str) -> Option<Number> {
    let size = match (handle, name) {
        (Handle::Config(model), _) => match model.weights.config().field(name)? {
            ConfigValue::Int(n) => n,
            ConfigValue::Float(x) => return Some(Number::Float(x)),
            ConfigValue::Text(_) => return None,
        },
        (Handle::KvCache(cache), POSITIONS) => cache.lock().first_position()?,
        (Handle::KvCache(cache), "len") => Some(cache.lock()).filter(|cache| cache.n_pages().is_none())?.len(),
        (Handle::KvCache(cache), "capacity") => cache.lock().capacity(),
        (Handle::KvCache(cache), "layers") => cache.lock().n_layers(),
        (Handle::Tokenizer(tokenizer), "vocab_size") => tokenizer.vocab_size(),
        (Handle::Plan(plan), "bytes") => usize::try_from(plan.bytes()).unwrap_or(usize::MAX),
        (Handle::Plan(plan), "count") => plan.count(),
        _ => return None,
    };
    Some(Number::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn field_of_handle(handle: &Handle, name: &str) -> Result<Value, BuiltinError> {
    if let Some(number) = number_of_handle(handle, name) {
        return Ok(number.into());
    }
    match (handle, name) {
        (Handle::Model(model), CONFIG) => Ok(Value::Handle(Handle::Config(model.clone()))),
        (Handle::Model(model), ACTIVATIONS) => Ok(Value::DType(model.weights.activations().dtype())),
        (Handle::Model(model), _) => child(&model.weights.root(), name),
        (Handle::Node(node), _) => child(node, name),
        (Handle::Config(model), _) => match model.weights.config().field(name) {
            Some(ConfigValue::Text(text)) => Ok(Value::text(text)),
            _ => Err(BuiltinError::new(format!("a model's config has no field `{name}`"))),
        },
        (Handle::KvCache(cache), POSITIONS) => match cache.lock().step_positions()? {
            Some(positions) => Ok(Value::tensor(positions.into_dyn())),
            None => Err(BuiltinError::new("a KV cache without layers has no positions")),
        },
        (Handle::KvCache(_), "len") => Err(BuiltinError::new(
            "in a step of several sequences `cache.len` is no number: `cache.positions` has the position of each token",
        )),
        (Handle::Tokenizer(tokenizer), "bos") => special(tokenizer.bos(), name),
        (Handle::Tokenizer(tokenizer), "eos") => special(tokenizer.eos(), name),
        (handle, _) => Err(BuiltinError::new(format!("{} has no field `{name}`", handle.kind().name()))),
    }
}

fn special(id: Option<u32>, name: &str) -> Result<Value, BuiltinError> {
    match id {
        Some(id) => Ok(Value::Int(i64::from(id))),
        None => Err(BuiltinError::new(format!("this tokenizer has no `{name}` token"))),
    }
}
