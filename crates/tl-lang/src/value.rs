//! Values of the running program. Cloning one never allocates: large values are shared.

use std::sync::Arc;

use indexmap::IndexMap;
use parking_lot::Mutex;
use tl_device::{DType, ReservationPlan, TensorBuffer};
use tl_model::{DecodeStream, KvCache, ModelNode, Tokenizer, Weights};
use tl_syntax::Span;
use tl_tensor::Tensor;
use tl_tensor::ops::{DefaultValue, Size, TensorType};

use crate::ints::Ints;
use crate::pooled::{Pooled, poolable};
use crate::stack::has_room;
use crate::text::Text;
use crate::types::{HandleKind, RecordType, StructType, Type};

/// The most values that are looked at for the type of one.
const MAX_TYPED: usize = 1 << 17;

/// A value.
#[derive(Clone, Debug, Default)]
pub(crate) enum Value {
    /// No value: an unset slot, one whose value was moved out, or an argument left out.
    #[default]
    Absent,
    Unit,
    /// A tensor that a model does not have.
    None,
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(Text),
    DType(DType),
    Range(i64, i64),
    /// A list of ints only.
    Ints(Ints),
    /// Any other list.
    List(List),
    /// Keys and values, in the order in which the keys came.
    Map(Shared<Map>),
    Struct(Shared<StructValue>),
    Record(Arc<Record>),
    Tensor(Pooled<Tensor>),
    Handle(Handle),
    /// A variable whose tensor was recycled at this place.
    Recycled(Span),
}

/// An int or a float.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    /// As a float.
    pub(crate) fn to_f64(self) -> f64 {
        match self {
            Number::Int(n) => n as f64,
            Number::Float(x) => x,
        }
    }
}

impl From<Number> for Value {
    fn from(number: Number) -> Value {
        match number {
            Number::Int(n) => Value::Int(n),
            Number::Float(x) => Value::Float(x),
        }
    }
}

impl From<DefaultValue> for Value {
    fn from(default: DefaultValue) -> Value {
        match default {
            DefaultValue::Absent => Value::Absent,
            DefaultValue::Int(n) => Value::Int(n),
            DefaultValue::Number(x) => Value::Float(x),
            DefaultValue::Bool(truth) => Value::Bool(truth),
            DefaultValue::Text(text) => Value::text(text),
        }
    }
}

poolable!(Tensor);
poolable!(OpenedModel);

/// A container of values, which its copies share. Containers in containers are dropped one after another: a program may nest
/// them more deeply than a stack can follow. Handles are dropped from the last to the first, the order in which a device
/// removes its reserves fastest.
#[derive(Debug)]
pub(crate) struct Shared<C: Container>(Arc<C>);

/// The elements of a list.
pub(crate) type List = Shared<Vec<Value>>;

/// What holds values.
pub(crate) trait Container {
    fn values(&self) -> impl Iterator<Item = &Value>;

    /// Moves the values out, in their order.
    fn take_values(&mut self, into: &mut Vec<Value>);
}

impl Container for Vec<Value> {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.iter()
    }

    fn take_values(&mut self, into: &mut Vec<Value>) {
        match into.is_empty() {
            true => std::mem::swap(self, into),
            false => into.append(self),
        }
    }
}

impl Container for Map {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.values()
    }

    fn take_values(&mut self, into: &mut Vec<Value>) {
        into.extend(self.drain(..).map(|(_, value)| value));
    }
}

impl Container for StructValue {
    fn values(&self) -> impl Iterator<Item = &Value> {
        self.values.iter()
    }

    fn take_values(&mut self, into: &mut Vec<Value>) {
        into.extend(self.values.iter_mut().map(std::mem::take));
    }
}

impl<C: Container> Shared<C> {
    pub(crate) fn new(container: C) -> Shared<C> {
        Shared(Arc::new(container))
    }

    /// Moves the values out if no copy shares them.
    fn take_values(&mut self, into: &mut Vec<Value>) {
        if let Some(container) = Arc::get_mut(&mut self.0) {
            container.take_values(into);
        }
    }
}

impl<C: Container> Clone for Shared<C> {
    fn clone(&self) -> Shared<C> {
        Shared(self.0.clone())
    }
}

impl<C: Container> std::ops::Deref for Shared<C> {
    type Target = Arc<C>;

    fn deref(&self) -> &Arc<C> {
        &self.0
    }
}

impl<C: Container> std::ops::DerefMut for Shared<C> {
    fn deref_mut(&mut self) -> &mut Arc<C> {
        &mut self.0
    }
}

impl<C: Container> Drop for Shared<C> {
    fn drop(&mut self) {
        let Some(container) = Arc::get_mut(&mut self.0) else { return };
        let is_simple =
            |value: &Value| !matches!(value, Value::List(_) | Value::Map(_) | Value::Struct(_) | Value::Handle(_));
        if container.values().all(is_simple) {
            return;
        }
        let mut pending = Vec::new();
        container.take_values(&mut pending);
        while let Some(value) = pending.pop() {
            match value {
                Value::List(mut list) => list.take_values(&mut pending),
                Value::Map(mut map) => map.take_values(&mut pending),
                Value::Struct(mut value) => value.take_values(&mut pending),
                _ => {}
            }
        }
    }
}

/// A map's entries.
pub(crate) type Map = IndexMap<Key, Value>;

/// A map's key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Int(i64),
    Str(Box<str>),
}

impl Key {
    /// The key that a value is; `None` if it cannot be one.
    pub(crate) fn of(value: &Value) -> Option<Key> {
        match value {
            Value::Int(n) => Some(Key::Int(*n)),
            Value::Str(text) => Some(Key::Str((**text).into())),
            _ => None,
        }
    }
}

/// A key that is looked up.
#[derive(Hash)]
pub(crate) enum KeyRef<'a> {
    Int(i64),
    Str(&'a str),
}

impl<'a> KeyRef<'a> {
    /// The key that a value is; `None` if it cannot be one.
    pub(crate) fn of(value: &'a Value) -> Option<KeyRef<'a>> {
        match value {
            Value::Int(n) => Some(KeyRef::Int(*n)),
            Value::Str(text) => Some(KeyRef::Str(text)),
            _ => None,
        }
    }
}

impl From<&KeyRef<'_>> for Key {
    fn from(key: &KeyRef<'_>) -> Key {
        match key {
            KeyRef::Int(n) => Key::Int(*n),
            KeyRef::Str(text) => Key::Str((*text).into()),
        }
    }
}

impl indexmap::Equivalent<Key> for KeyRef<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        match (self, key) {
            (KeyRef::Int(a), Key::Int(b)) => a == b,
            (KeyRef::Str(a), Key::Str(b)) => **a == **b,
            _ => false,
        }
    }
}

impl From<&Key> for Value {
    fn from(key: &Key) -> Value {
        match key {
            Key::Int(n) => Value::Int(*n),
            Key::Str(text) => Value::text(&**text),
        }
    }
}

/// A value of a struct that the program declares.
#[derive(Clone, Debug)]
pub(crate) struct StructValue {
    pub(crate) ty: Arc<StructType>,
    /// In the order of the type's fields.
    pub(crate) values: Box<[Value]>,
}

/// A value with named fields.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) ty: &'static RecordType,
    /// In the order of the type's fields.
    pub(crate) values: Vec<Value>,
}

/// A handle on an object with identity.
#[derive(Clone)]
pub(crate) enum Handle {
    Model(Pooled<OpenedModel>),
    Node(ModelNode),
    Config(Pooled<OpenedModel>),
    Tokenizer(Arc<Tokenizer>),
    DecodeStream(Arc<Mutex<TokenDecoder>>),
    KvCache(Arc<Mutex<KvCache>>),
    TensorBuffer(TensorBuffer),
    Plan(Arc<ReservationPlan>),
}

/// A model of a program.
#[derive(Clone)]
pub(crate) struct OpenedModel {
    pub(crate) weights: Weights,
    pub(crate) reservation: Option<ReservationCell>,
}

/// The reservation that a program's model keeps between calls of `generate`. An architecture's script gets a model without one.
pub(crate) type ReservationCell = Arc<Mutex<Option<Reservation>>>;

/// Memory reserved for generating with a model.
pub(crate) struct Reservation {
    pub(crate) buffer: TensorBuffer,
    /// Tokens that it has room for.
    pub(crate) context: usize,
}

/// A tokenizer and the state of a text that it decodes.
pub(crate) struct TokenDecoder {
    pub(crate) tokenizer: Arc<Tokenizer>,
    pub(crate) stream: DecodeStream,
}

impl Handle {
    pub(crate) fn model(weights: Weights, reservation: Option<ReservationCell>) -> Handle {
        Handle::Model(Pooled::new(OpenedModel { weights, reservation }))
    }

    pub(crate) fn config(weights: Weights) -> Handle {
        Handle::Config(Pooled::new(OpenedModel { weights, reservation: None }))
    }

    pub(crate) fn kind(&self) -> HandleKind {
        match self {
            Handle::Model(_) => HandleKind::Model,
            Handle::Node(_) => HandleKind::Node,
            Handle::Config(_) => HandleKind::Config,
            Handle::Tokenizer(_) => HandleKind::Tokenizer,
            Handle::DecodeStream(_) => HandleKind::DecodeStream,
            Handle::KvCache(_) => HandleKind::KvCache,
            Handle::TensorBuffer(_) => HandleKind::TensorBuffer,
            Handle::Plan(_) => HandleKind::Plan,
        }
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind().name())
    }
}

impl Value {
    /// The most bytes that a list of `len` elements takes.
    pub(crate) fn list_bytes(len: usize) -> usize {
        len.saturating_mul(size_of::<Value>())
    }

    /// The number, if the value is an int or a float.
    pub(crate) fn number(&self) -> Option<Number> {
        match *self {
            Value::Int(n) => Some(Number::Int(n)),
            Value::Float(x) => Some(Number::Float(x)),
            _ => None,
        }
    }

    pub(crate) fn tensor(tensor: Tensor) -> Value {
        Value::Tensor(Pooled::new(tensor))
    }

    pub(crate) fn text(text: impl Into<Text>) -> Value {
        Value::Str(text.into())
    }

    pub(crate) fn ints(values: &[i64]) -> Value {
        Value::Ints(Ints::new(values))
    }

    /// A list of these values; ints are stored as such.
    pub(crate) fn list(values: impl IntoIterator<Item = Value>) -> Value {
        let values: Vec<Value> = values.into_iter().collect();
        let ints: Option<Vec<i64>> = values
            .iter()
            .map(|value| match value {
                Value::Int(n) => Some(*n),
                _ => None,
            })
            .collect();
        match ints {
            Some(ints) => Value::ints(&ints),
            None => Value::List(List::new(values)),
        }
    }

    /// The length of a list; `None` for other values.
    pub(crate) fn list_len(&self) -> Option<usize> {
        match self {
            Value::Ints(ints) => Some(ints.len()),
            Value::List(values) => Some(values.len()),
            _ => None,
        }
    }

    /// An element of a list.
    pub(crate) fn element(&self, index: usize) -> Option<Value> {
        match self {
            Value::Ints(ints) => ints.as_slice().get(index).map(|n| Value::Int(*n)),
            Value::List(values) => values.get(index).cloned(),
            _ => None,
        }
    }

    /// Its type, with all sizes. Of very long lists and maps, the type of the elements is left open.
    pub(crate) fn ty(&self) -> Type {
        let mut left = MAX_TYPED;
        self.ty_within(&mut left)
    }

    /// As [`Value::ty`], with a bound on the values that are looked at.
    fn ty_within(&self, left: &mut usize) -> Type {
        let Some(rest) = left.checked_sub(1).filter(|_| has_room()) else { return Type::Unknown };
        *left = rest;
        match self {
            Value::Absent | Value::Recycled(_) => Type::Unknown,
            Value::Unit => Type::Unit,
            Value::None => Type::Optional,
            Value::Int(_) => Type::Int,
            Value::Float(_) => Type::Float,
            Value::Bool(_) => Type::Bool,
            Value::Str(_) => Type::Str,
            Value::DType(_) => Type::Dtype,
            Value::Range(..) => Type::Range,
            Value::Ints(_) => Type::list(Type::Int),
            Value::List(values) => {
                let joined = values.iter().map(|value| value.ty_within(left)).reduce(|a, b| a.join(&b));
                Type::list(joined.unwrap_or(Type::Unknown))
            }
            Value::Map(map) => {
                let keys = map.keys().map(|key| Value::from(key).ty()).reduce(|a, b| a.join(&b));
                let values = map.values().map(|value| value.ty_within(left)).reduce(|a, b| a.join(&b));
                Type::map(keys.unwrap_or(Type::Unknown), values.unwrap_or(Type::Unknown))
            }
            Value::Struct(value) => Type::Struct(value.ty.clone()),
            Value::Record(record) => Type::Record(record.ty),
            Value::Tensor(tensor) => {
                let sizes = tensor.dims().iter().map(|size| Size::Known(*size as i64)).collect();
                Type::Tensor(TensorType { dtype: Some(tensor.dtype()), sizes: Some(sizes) })
            }
            Value::Handle(handle) => Type::Handle(handle.kind()),
        }
    }

    /// The kind of value, for messages.
    pub(crate) fn describe(&self) -> String {
        match self {
            Value::Absent => "nothing".into(),
            Value::Unit => "()".into(),
            Value::None => "none".into(),
            Value::Int(_) => "int".into(),
            Value::Float(_) => "float".into(),
            Value::Bool(_) => "bool".into(),
            Value::Str(_) => "string".into(),
            Value::DType(_) => "a dtype".into(),
            Value::Range(..) => "a range".into(),
            Value::Ints(_) => "[int]".into(),
            Value::List(_) => "a list".into(),
            Value::Map(_) => "a map".into(),
            Value::Struct(value) => value.ty.name.to_string(),
            Value::Record(record) => record.ty.name.into(),
            Value::Tensor(tensor) => tensor.layout().to_string(),
            Value::Handle(handle) => handle.kind().name().into(),
            Value::Recycled(_) => "a tensor that was recycled".into(),
        }
    }
}

/// Whether two values are equal by `==`; `None` if they cannot be compared, or are nested too deeply.
pub(crate) fn equal(a: &Value, b: &Value) -> Option<bool> {
    if !has_room() {
        return None;
    }
    Some(match (a, b) {
        // Lists that share their elements may be exponentially long.
        (Value::List(a), Value::List(b)) if Arc::ptr_eq(a, b) => true,
        (Value::Unit, Value::Unit) | (Value::None, Value::None) => true,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Float(a), Value::Float(b)) => a == b,
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Str(a), Value::Str(b)) => a == b,
        (Value::DType(a), Value::DType(b)) => a == b,
        (Value::Ints(a), Value::Ints(b)) => a.as_slice() == b.as_slice(),
        (Value::Map(a), Value::Map(b)) => {
            if a.len() != b.len() {
                return Some(false);
            }
            for (key, value) in a.iter() {
                match b.get(key) {
                    Some(other) if equal(value, other)? => {}
                    _ => return Some(false),
                }
            }
            true
        }
        (Value::Struct(a), Value::Struct(b)) if a.ty == b.ty => {
            for (value, other) in a.values.iter().zip(&b.values) {
                if !equal(value, other)? {
                    return Some(false);
                }
            }
            true
        }
        (a, b) => {
            let (n, m) = (a.list_len()?, b.list_len()?);
            if n != m {
                return Some(false);
            }
            for index in 0..n {
                if !equal(&a.element(index)?, &b.element(index)?)? {
                    return Some(false);
                }
            }
            true
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_small_enough_to_move() {
        assert!(size_of::<Value>() <= 32, "{}", size_of::<Value>());
    }
}
