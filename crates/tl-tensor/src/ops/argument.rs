//! What operations take: parameters, which are part of a row, and arguments, which a caller gives for them.
//!
//! Whether an argument is of its parameter's kind is decided here, for every operation alike; what its sizes and types must
//! be is the operation's own rule.

use tl_device::{DType, Layout};

use super::Operand;
use crate::tensor::Raw;
use crate::{Fault, Tensor};

/// A parameter of an operation.
pub struct Param {
    /// Its name, which callers may use.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is when left out; `None`: it must be given.
    pub default: Option<Default>,
}

/// What a parameter takes.
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
    /// A list of integers.
    Ints,
    /// A plain number.
    Number,
    /// A truth value.
    Bool,
    /// A text.
    Text,
    /// A data type's name.
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
pub enum Default {
    /// Nothing; the operation does without.
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

impl Default {
    /// The default as an argument.
    pub fn arg(self) -> Arg<'static> {
        match self {
            Default::Absent => Arg::None,
            Default::Int(n) => Arg::Int(n),
            Default::Number(x) => Arg::Number(x),
            Default::Bool(value) => Arg::Bool(value),
            Default::Text(text) => Arg::Text(text),
        }
    }
}

/// A parameter that must be given.
pub(crate) const fn required(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, default: None }
}

/// A parameter that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind, default: Default) -> Param {
    Param { name, kind, default: Some(default) }
}

/// An argument of [`apply`](super::apply), by the position of its parameter.
// With a tag of a whole word a copy is of whole words; with one of a byte it goes by pieces.
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Arg<'a> {
    /// Left out.
    None,
    /// A tensor.
    Tensor(&'a Raw),
    /// Memory that is read like a tensor: rows of a [`TensorMut`](crate::TensorMut).
    Operand(&'a Operand<'a>),
    /// A tensor that a link of a chain will give. Only [`link_layout`](super::link_layout) takes it.
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

/// Every argument is of the kind that its parameter takes, and there are no more than parameters.
pub(super) fn check(params: &[Param], args: &[Arg<'_>]) -> Result<(), Fault> {
    if args.len() > params.len() {
        return Err(Fault::Arguments { most: params.len(), found: args.len() });
    }
    for (param, arg) in params.iter().zip(args) {
        let is_left_out = matches!(arg, Arg::None) && param.default.is_some();
        if !is_left_out && !param.kind.takes(arg) {
            return Err(Fault::Argument { parameter: param.name, expected: param.kind.description() });
        }
    }
    Ok(())
}
