//! Parameters, which are part of a row, and arguments, which a caller gives for them.
//!
//! Arguments are checked against the kinds of their parameters here. Their sizes and types are checked by the
//! operation's rule.

use tl_device::{DType, Layout};

use crate::OpError;
use crate::operand::Operand;
use crate::tensor::{DynTensor, Tensor};

/// A parameter of an operation.
pub struct Param {
    /// Its name, which callers may use.
    pub name: &'static str,
    /// The arguments that it takes.
    pub kind: Kind,
    /// Its value when left out; `None`: it must be given.
    pub default: Option<DefaultValue>,
}

/// The arguments that a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A tensor of activations.
    Tensor,
    /// A tensor that may also be a weight in a stored format.
    Weight,
    /// A tensor or a plain number, which takes the tensors' type.
    TensorOrNumber,
    /// A list of tensors.
    Tensors,
    /// A tensor of `int32`, or a list of integers.
    Ids,
    /// An integer.
    Int,
    /// An integer, or a tensor of `int32`.
    IntOrIds,
    /// A list of integers.
    Ints,
    /// A plain number.
    Number,
    /// A truth value.
    Bool,
    /// A text.
    Text,
    /// A data type.
    DType,
}

impl Kind {
    fn takes(self, arg: &Arg<'_>) -> bool {
        match self {
            Kind::Tensor | Kind::Weight | Kind::Ids => {
                matches!(arg, Arg::Tensor(_) | Arg::Operand(_) | Arg::Planned(_))
            }
            Kind::TensorOrNumber => {
                matches!(arg, Arg::Tensor(_) | Arg::Operand(_) | Arg::Planned(_) | Arg::Number(_) | Arg::Int(_))
            }
            Kind::Tensors => matches!(arg, Arg::Tensors(_)),
            Kind::Int => matches!(arg, Arg::Int(_)),
            Kind::IntOrIds => matches!(arg, Arg::Tensor(_) | Arg::Operand(_) | Arg::Planned(_) | Arg::Int(_)),
            Kind::Ints => matches!(arg, Arg::Ints(_)),
            Kind::Number => matches!(arg, Arg::Number(_) | Arg::Int(_)),
            Kind::Bool => matches!(arg, Arg::Bool(_)),
            Kind::Text => matches!(arg, Arg::Text(_)),
            Kind::DType => matches!(arg, Arg::DType(_)),
        }
    }

    fn description(self) -> &'static str {
        match self {
            Kind::Tensor | Kind::Weight => "a tensor",
            Kind::TensorOrNumber => "a tensor or a number",
            Kind::Tensors => "a list of tensors",
            Kind::Ids => "a tensor of int32",
            Kind::Int => "an integer",
            Kind::IntOrIds => "an integer or a tensor of int32",
            Kind::Ints => "a list of integers",
            Kind::Number => "a number",
            Kind::Bool => "true or false",
            Kind::Text => "a text",
            Kind::DType => "a data type",
        }
    }
}

/// The value of a parameter that is left out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum DefaultValue {
    /// No value.
    Absent,
    /// This integer.
    Int(i64),
    /// This number.
    Number(f64),
    /// This truth value.
    Bool(bool),
    /// This text.
    Text(&'static str),
}

impl DefaultValue {
    /// The default as an argument.
    pub fn arg(self) -> Arg<'static> {
        match self {
            DefaultValue::Absent => Arg::None,
            DefaultValue::Int(n) => Arg::Int(n),
            DefaultValue::Number(x) => Arg::Number(x),
            DefaultValue::Bool(value) => Arg::Bool(value),
            DefaultValue::Text(text) => Arg::Text(text),
        }
    }
}

/// A parameter that must be given.
pub(crate) const fn required(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, default: None }
}

/// A parameter that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind, default: DefaultValue) -> Param {
    Param { name, kind, default: Some(default) }
}

/// An argument of [`apply`](crate::ops::apply), by the position of its parameter.
// A tag of a whole word lets a copy move whole words.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Arg<'a> {
    /// Left out.
    None,
    /// A tensor.
    Tensor(&'a DynTensor),
    /// Memory that is read as a tensor: rows of a [`TensorMut`](crate::TensorMut).
    Operand(&'a Operand<'a>),
    /// The result of an earlier link of a chain, not yet computed. Only [`link_layout`](crate::ops::link_layout) takes it.
    Planned(&'a Layout),
    /// A list of tensors.
    Tensors(&'a [Tensor]),
    /// A number with a fraction.
    Number(f64),
    /// An integer; taken wherever a number is.
    Int(i64),
    /// A list of integers.
    Ints(&'a [i64]),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// A data type.
    DType(DType),
}

impl<'a> Arg<'a> {
    /// The operand, where the argument is a tensor. One of its dimensions may repeat its elements.
    pub(crate) fn operand(&self) -> Option<Operand<'a>> {
        match self {
            Arg::Tensor(tensor) => Some(tensor.operand_with_repeat()),
            Arg::Operand(operand) => Some(**operand),
            _ => None,
        }
    }
}

impl<'a, T> From<&'a Tensor<T>> for Arg<'a> {
    fn from(tensor: &'a Tensor<T>) -> Self {
        Arg::Tensor(tensor.as_dyn())
    }
}

impl From<f64> for Arg<'_> {
    fn from(number: f64) -> Self {
        Arg::Number(number)
    }
}

/// Checks that every argument is of its parameter's kind, and that there are no more arguments than parameters.
pub(crate) fn check(params: &[Param], args: &[Arg<'_>]) -> Result<(), OpError> {
    if args.len() > params.len() {
        return Err(OpError::Arguments { most: params.len(), found: args.len() });
    }
    for (param, arg) in params.iter().zip(args) {
        let is_left_out = matches!(arg, Arg::None) && param.default.is_some();
        if !is_left_out && !param.kind.takes(arg) {
            return Err(OpError::Argument { parameter: param.name, expected: param.kind.description() });
        }
    }
    Ok(())
}
