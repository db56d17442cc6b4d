//! The arguments that a builtin gets.

use std::path::PathBuf;

use smallvec::SmallVec;
use tl_device::{DType, Device, Layout, Shape};
use tl_tensor::Tensor;
use tl_tensor::ops::{Arg, apply, by_name};

use super::error::BuiltinError;
use super::nodes::node_tensor;
use super::param::Param;
use crate::host::Host;
use crate::text::Text;
use crate::types::HandleKind;
use crate::value::{Handle, Value};

/// The arguments of a running call, in the order of the parameters; one left out is absent or has its default.
pub(crate) struct Args<'a> {
    /// The builtin's name.
    pub(crate) name: &'static str,
    pub(crate) params: &'static [Param],
    /// Those of the rest parameter come last.
    pub(crate) values: &'a mut [Value],
}

impl Args<'_> {
    fn wrong(&self, index: usize, wanted: &str) -> BuiltinError {
        let param = self.params.get(index).map_or("", |param| param.name);
        let given = self.value(index).describe();
        BuiltinError::new(format!("`{}`: `{param}` must be {wanted}, and is {given}", self.name))
    }

    pub(crate) fn value(&self, index: usize) -> &Value {
        self.values.get(index).unwrap_or(&Value::Absent)
    }

    pub(crate) fn take(&mut self, index: usize) -> Value {
        self.values.get_mut(index).map(std::mem::take).unwrap_or_default()
    }

    pub(crate) fn is_given(&self, index: usize) -> bool {
        !matches!(self.value(index), Value::Absent | Value::None)
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, BuiltinError> {
        match self.value(index) {
            Value::Int(n) => Ok(*n),
            _ => Err(self.wrong(index, "an int")),
        }
    }

    /// An int that is not negative.
    pub(crate) fn size(&self, index: usize) -> Result<usize, BuiltinError> {
        let n = self.int(index)?;
        usize::try_from(n).map_err(|_| {
            let param = self.params.get(index).map_or("", |param| param.name);
            BuiltinError::new(format!("`{}`: `{param}` must not be negative, and is {n}", self.name))
        })
    }

    pub(crate) fn number(&self, index: usize) -> Result<f64, BuiltinError> {
        match self.value(index) {
            Value::Int(n) => Ok(*n as f64),
            Value::Float(x) => Ok(*x),
            _ => Err(self.wrong(index, "a number")),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> Result<bool, BuiltinError> {
        match self.value(index) {
            Value::Bool(b) => Ok(*b),
            _ => Err(self.wrong(index, "a bool")),
        }
    }

    pub(crate) fn text(&self, index: usize) -> Result<&str, BuiltinError> {
        match self.value(index) {
            Value::Str(text) => Ok(text),
            _ => Err(self.wrong(index, "a string")),
        }
    }

    /// A dtype, `float16` if it is left out.
    pub(crate) fn dtype(&self, index: usize) -> Result<DType, BuiltinError> {
        match self.value(index) {
            Value::DType(dtype) => Ok(*dtype),
            Value::Absent => Ok(DType::F16),
            _ => Err(self.wrong(index, "a dtype")),
        }
    }

    pub(crate) fn shape(&self, index: usize) -> Result<Shape, BuiltinError> {
        let one;
        let ints = match self.value(index) {
            Value::Ints(ints) => ints.as_slice(),
            Value::Int(n) => {
                one = [*n];
                &one
            }
            _ => return Err(self.wrong(index, "a list of ints")),
        };
        ints.iter()
            .map(|n| {
                usize::try_from(*n).map_err(|_| BuiltinError::new(format!("`{}`: the size {n} is negative", self.name)))
            })
            .collect()
    }

    pub(crate) fn layout(&self, shape: usize, dtype: usize) -> Result<Layout, BuiltinError> {
        Ok(Layout::new(self.dtype(dtype)?, self.shape(shape)?))
    }

    pub(crate) fn ints(&self, index: usize) -> Result<&[i64], BuiltinError> {
        match self.value(index) {
            Value::Ints(ints) => Ok(ints.as_slice()),
            _ => Err(self.wrong(index, "a list of ints")),
        }
    }

    /// A list of strings, empty if it is left out.
    pub(crate) fn texts(&self, index: usize) -> Result<Vec<Text>, BuiltinError> {
        let value = self.value(index);
        let text = |place: usize| match value.element(place) {
            Some(Value::Str(text)) => Ok(text),
            _ => Err(self.wrong(index, "a list of strings")),
        };
        match value.list_len() {
            Some(len) => (0..len).map(text).collect(),
            None if self.is_given(index) => Err(self.wrong(index, "a list of strings")),
            None => Ok(Vec::new()),
        }
    }

    /// Token ids.
    pub(crate) fn ids(&self, index: usize) -> Result<Vec<u32>, BuiltinError> {
        let id = |n: &i64| {
            u32::try_from(*n).map_err(|_| BuiltinError::new(format!("`{}`: {n} is not a token id", self.name)))
        };
        self.ints(index)?.iter().map(id).collect()
    }

    pub(crate) fn tensor(&self, index: usize) -> Result<&Tensor, BuiltinError> {
        match self.value(index) {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Handle(Handle::Node(node)) => node_tensor(node),
            _ => Err(self.wrong(index, "a tensor")),
        }
    }

    pub(crate) fn handle(&self, index: usize, kind: HandleKind) -> Result<&Handle, BuiltinError> {
        match self.value(index) {
            Value::Handle(handle) if handle.kind() == kind => Ok(handle),
            _ => Err(self.wrong(index, kind.name())),
        }
    }

    /// The operation of the builtin's name, if the first argument turns out to be a tensor: the checker did not know its type.
    pub(crate) fn tensor_operation(&self, device: &Device) -> Option<Result<Value, BuiltinError>> {
        let (Value::Tensor(_) | Value::Handle(Handle::Node(_))) = self.value(0) else { return None };
        let op = by_name(self.name)?;
        let named = op.params.iter().map(|param| self.params.iter().position(|own| own.name == param.name));
        let apply_to = |x: &Tensor| {
            let mut arguments: SmallVec<[Arg<'_>; 4]> = SmallVec::new();
            for (at, own) in named.enumerate() {
                arguments.push(match own.map_or(&Value::Absent, |own| self.value(own)) {
                    _ if at == 0 => Arg::from(x),
                    Value::Int(n) => Arg::Int(*n),
                    Value::Float(x) => Arg::Number(*x),
                    Value::Bool(truth) => Arg::Bool(*truth),
                    _ => Arg::None,
                });
            }
            Ok(Value::tensor(apply(op, device, &arguments)?.into()))
        };
        Some(self.tensor(0).and_then(apply_to))
    }

    /// All values from `index` on.
    pub(crate) fn rest(&self, index: usize) -> &[Value] {
        self.values.get(index..).unwrap_or(&[])
    }

    /// A model that the program names.
    pub(crate) fn path(&self, index: usize, host: &mut dyn Host) -> Result<PathBuf, BuiltinError> {
        let path = self.text(index)?;
        host.open_path(path).map_err(|problem| BuiltinError::new(format!("{path}: {problem}")))
    }
}
