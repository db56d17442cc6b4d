//! What a row of the table is made of, and what its function gets and gives.

use std::path::PathBuf;

use tl_device::{DType, Device, Layout, Shape};
use tl_model::Sampler;
use tl_tensor::{Random, Tensor};

use crate::check::{Known, Type, Typed};
use crate::host::Host;
use crate::text::Text;
use crate::value::{Handle, HandleKind, Value};

/// A row of the table.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    /// The kind of handle whose method it is; the handle is the first parameter.
    pub(crate) owner: Option<HandleKind>,
    pub(crate) doc: &'static str,
    pub(crate) params: &'static [Param],
    /// Whether it makes tensors out of nothing.
    pub(crate) makes_tensors: bool,
    /// What can be said of the result; with no arguments at all, its kind.
    pub(crate) result: fn(&Types<'_>) -> (Type, Known),
    pub(crate) run: fn(&mut Context<'_>, &mut Args<'_>) -> Result<Value, Failure>,
    /// The same, where it is a function of one number.
    pub(crate) of_number: Option<fn(f64) -> f64>,
}

impl std::fmt::Debug for Builtin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Builtin({})", self.name)
    }
}

impl Builtin {
    /// A function that returns nothing; the other fields are given behind `..`.
    pub(crate) const BASE: Builtin = Builtin {
        name: "",
        owner: None,
        doc: "",
        params: &[],
        makes_tensors: false,
        result: super::nothing,
        run: |_, _| Ok(Value::Unit),
        of_number: None,
    };
}

/// A parameter of a builtin.
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// `None`: it must be given.
    pub(crate) default: Option<Default>,
}

impl Param {
    pub(crate) const fn required(name: &'static str, kind: Kind) -> Param {
        Param { name, kind, default: None }
    }

    pub(crate) const fn optional(name: &'static str, kind: Kind, default: Default) -> Param {
        Param { name, kind, default: Some(default) }
    }

    /// All arguments without names from here on.
    pub(crate) const fn rest() -> Param {
        Param { name: "values", kind: Kind::Rest, default: Some(Default::Absent) }
    }
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Any,
    Rest,
    Int,
    Number,
    Bool,
    Text,
    DType,
    Ints,
    Texts,
    List,
    Tensor,
    Handle(HandleKind),
    ModelOrPath,
}

impl Kind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Kind::Any | Kind::Rest => "a value",
            Kind::Int => "an int",
            Kind::Number => "a number",
            Kind::Bool => "a bool",
            Kind::Text => "a string",
            Kind::DType => "a dtype, such as float16",
            Kind::Ints => "a list of ints",
            Kind::Texts => "a list of strings",
            Kind::List => "a list",
            Kind::Tensor => "a tensor",
            Kind::Handle(kind) => kind.name(),
            Kind::ModelOrPath => "a model or the path of one",
        }
    }
}

/// The value of a parameter that is left out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Default {
    Absent,
    Int(i64),
    Number(f64),
    Text(&'static str),
    Bool(bool),
}

impl Default {
    pub(crate) fn value(self) -> Value {
        match self {
            Default::Absent => Value::Absent,
            Default::Int(n) => Value::Int(n),
            Default::Number(x) => Value::Float(x),
            Default::Text(text) => Value::text(text),
            Default::Bool(truth) => Value::Bool(truth),
        }
    }
}

/// What the checker knows of a call's arguments, by the position of their parameters.
pub(crate) struct Types<'a>(pub(crate) &'a [Option<Typed>]);

impl Types<'_> {
    pub(crate) fn ty(&self, index: usize) -> Option<&Type> {
        self.0.get(index)?.as_ref().map(|value| &value.ty)
    }

    pub(crate) fn known(&self, index: usize) -> Option<&Known> {
        self.0.get(index)?.as_ref().map(|value| &value.known)
    }

    /// A tensor whose shape and dtype stand at these places; `float16` where the dtype is left out.
    pub(crate) fn made_tensor(&self, shape: usize, dtype: usize) -> (Type, Known) {
        let sizes = match self.known(shape) {
            Some(Known::Ints(sizes)) => Some(sizes.clone()),
            _ => None,
        };
        let dtype = match self.0.get(dtype) {
            Some(Some(_)) => match self.known(dtype) {
                Some(Known::DType(dtype)) => Some(*dtype),
                _ => None,
            },
            _ => Some(DType::F16),
        };
        (Type::Tensor(tl_tensor::ops::TensorType { dtype, sizes }), Known::Nothing)
    }
}

/// A field's name and type.
pub(crate) type Field = (&'static str, fn() -> Type);

/// What records of one kind have.
#[derive(Debug, PartialEq)]
pub(crate) struct RecordType {
    pub(crate) name: &'static str,
    pub(crate) fields: &'static [Field],
    /// Fields that are printed otherwise than their values alone would be.
    pub(crate) special: &'static [(&'static str, Shown)],
}

/// How a field is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    Plain,
    Percent,
    Hidden,
}

impl RecordType {
    pub(crate) fn shown(&self, field: &str) -> Shown {
        self.special.iter().find(|(name, _)| *name == field).map_or(Shown::Plain, |(_, shown)| *shown)
    }
}

/// What a builtin may use.
pub(crate) struct Context<'a> {
    pub(crate) device: &'a Device,
    pub(crate) host: &'a mut dyn Host,
    pub(crate) random: &'a mut Random,
    pub(crate) sampler: &'a mut Option<Sampler>,
    pub(crate) seed: &'a mut u64,
}

/// The longest message.
const MAX_MESSAGE_BYTES: usize = 16 << 10;

/// Why a builtin gives no value.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
    /// The program ends itself with this code; the message is not shown.
    pub(crate) exit: Option<i32>,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Failure {
        let mut message = message.into();
        if message.len() > MAX_MESSAGE_BYTES {
            // A name that a program asks for may be as long as its memory.
            message.truncate(message.floor_char_boundary(MAX_MESSAGE_BYTES));
            message.push('…');
        }
        Failure { message, hint: None, exit: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }
}

impl From<tl_tensor::Error> for Failure {
    fn from(error: tl_tensor::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<tl_device::Error> for Failure {
    fn from(error: tl_device::Error) -> Failure {
        Failure::new(error.to_string())
    }
}

impl From<tl_model::ModelError> for Failure {
    fn from(error: tl_model::ModelError) -> Failure {
        Failure::new(error.to_string())
    }
}

/// The arguments of a running call, by the position of their parameters; what is left out is absent or has its default.
pub(crate) struct Args<'a> {
    pub(crate) row: &'static Builtin,
    /// First those of the parameters but the rest, then the rest.
    pub(crate) values: &'a mut [Value],
}

impl Args<'_> {
    fn wrong(&self, index: usize, wanted: &str) -> Failure {
        let param = self.row.params.get(index).map_or("", |param| param.name);
        let given = self.value(index).describe();
        Failure::new(format!("`{}`: `{param}` must be {wanted}, and is {given}", self.row.name))
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

    pub(crate) fn int(&self, index: usize) -> Result<i64, Failure> {
        match self.value(index) {
            Value::Int(n) => Ok(*n),
            _ => Err(self.wrong(index, "an int")),
        }
    }

    /// A whole number that is not negative.
    pub(crate) fn size(&self, index: usize) -> Result<usize, Failure> {
        let n = self.int(index)?;
        usize::try_from(n).map_err(|_| {
            let param = self.row.params.get(index).map_or("", |param| param.name);
            Failure::new(format!("`{}`: `{param}` must not be negative, and is {n}", self.row.name))
        })
    }

    pub(crate) fn number(&self, index: usize) -> Result<f64, Failure> {
        match self.value(index) {
            Value::Int(n) => Ok(*n as f64),
            Value::Float(x) => Ok(*x),
            _ => Err(self.wrong(index, "a number")),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> Result<bool, Failure> {
        match self.value(index) {
            Value::Bool(b) => Ok(*b),
            _ => Err(self.wrong(index, "a bool")),
        }
    }

    pub(crate) fn text(&self, index: usize) -> Result<&str, Failure> {
        match self.value(index) {
            Value::Str(text) => Ok(text),
            _ => Err(self.wrong(index, "a string")),
        }
    }

    /// The dtype, `float16` where it is left out.
    pub(crate) fn dtype(&self, index: usize) -> Result<DType, Failure> {
        match self.value(index) {
            Value::DType(dtype) => Ok(*dtype),
            Value::Absent => Ok(DType::F16),
            _ => Err(self.wrong(index, "a dtype")),
        }
    }

    pub(crate) fn shape(&self, index: usize) -> Result<Shape, Failure> {
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
                usize::try_from(*n).map_err(|_| Failure::new(format!("`{}`: the size {n} is negative", self.row.name)))
            })
            .collect()
    }

    pub(crate) fn layout(&self, shape: usize, dtype: usize) -> Result<Layout, Failure> {
        Ok(Layout::new(self.dtype(dtype)?, self.shape(shape)?))
    }

    pub(crate) fn ints(&self, index: usize) -> Result<&[i64], Failure> {
        match self.value(index) {
            Value::Ints(ints) => Ok(ints.as_slice()),
            _ => Err(self.wrong(index, "a list of ints")),
        }
    }

    /// A list of strings; none where it is left out.
    pub(crate) fn texts(&self, index: usize) -> Result<Vec<Text>, Failure> {
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
    pub(crate) fn ids(&self, index: usize) -> Result<Vec<u32>, Failure> {
        let id = |n: &i64| {
            u32::try_from(*n).map_err(|_| Failure::new(format!("`{}`: {n} is not a token id", self.row.name)))
        };
        self.ints(index)?.iter().map(id).collect()
    }

    pub(crate) fn tensor(&self, index: usize) -> Result<&Tensor, Failure> {
        match self.value(index) {
            Value::Tensor(tensor) => Ok(tensor),
            Value::Handle(Handle::Node(node)) => super::node_tensor(node),
            _ => Err(self.wrong(index, "a tensor")),
        }
    }

    pub(crate) fn handle(&self, index: usize, kind: HandleKind) -> Result<&Handle, Failure> {
        match self.value(index) {
            Value::Handle(handle) if handle.kind() == kind => Ok(handle),
            _ => Err(self.wrong(index, kind.name())),
        }
    }

    /// Of all values from `index` on.
    pub(crate) fn rest(&self, index: usize) -> &[Value] {
        self.values.get(index..).unwrap_or(&[])
    }

    /// A file that the program names.
    pub(crate) fn path(&self, index: usize, host: &mut dyn Host) -> Result<PathBuf, Failure> {
        let path = self.text(index)?;
        host.open_path(path).map_err(|problem| Failure::new(format!("{path}: {problem}")))
    }
}
