//! Parameters of builtins: the values that they take, and their defaults.

use crate::types::HandleKind;
pub(crate) use tl_tensor::ops::DefaultValue;

/// A parameter of a builtin.
pub(crate) struct Param {
    pub(crate) name: &'static str,
    pub(crate) kind: ParamKind,
    /// `None`: it must be given.
    pub(crate) default: Option<DefaultValue>,
}

impl Param {
    pub(crate) const fn required(name: &'static str, kind: ParamKind) -> Param {
        Param { name, kind, default: None }
    }

    pub(crate) const fn optional(name: &'static str, kind: ParamKind, default: DefaultValue) -> Param {
        Param { name, kind, default: Some(default) }
    }

    /// Takes all further arguments without names.
    pub(crate) const fn rest() -> Param {
        Param { name: "values", kind: ParamKind::Rest, default: Some(DefaultValue::Absent) }
    }
}

/// What a parameter takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParamKind {
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
    Map,
    Tensor,
    Handle(HandleKind),
    ModelOrPath,
}

impl ParamKind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            ParamKind::Any | ParamKind::Rest => "a value",
            ParamKind::Int => "an int",
            ParamKind::Number => "a number",
            ParamKind::Bool => "a bool",
            ParamKind::Text => "a string",
            ParamKind::DType => "a dtype, such as float16",
            ParamKind::Ints => "a list of ints",
            ParamKind::Texts => "a list of strings",
            ParamKind::List => "a list",
            ParamKind::Map => "a map",
            ParamKind::Tensor => "a tensor",
            ParamKind::Handle(kind) => kind.name(),
            ParamKind::ModelOrPath => "a model or the path of one",
        }
    }
}
