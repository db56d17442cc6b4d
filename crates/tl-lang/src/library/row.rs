//! Rows of the table of builtins, and what their functions get.

use tl_device::{DType, Device};
use tl_model::Sampler;
use tl_tensor::Random;
use tl_tensor::ops::TensorType;

use super::args::Args;
use super::error::BuiltinError;
use super::param::Param;
use super::runnable::OpenModel;
use crate::host::Host;
use crate::types::{HandleKind, Known, Type};
use crate::value::Value;

/// A row of the table.
pub(crate) struct Builtin {
    pub(crate) name: &'static str,
    /// The kind of handle whose method it is; the handle is the first parameter.
    pub(crate) owner: Option<HandleKind>,
    pub(crate) doc: &'static str,
    pub(crate) params: &'static [Param],
    /// Whether it makes new tensors, so that a TensorBuffer has it as a method.
    pub(crate) makes_tensors: bool,
    /// Whether it is the same for the same model and arguments, so that the checker may compute it.
    pub(crate) is_constant: bool,
    /// What is wrong with the shapes of the arguments, as far as these are known.
    pub(crate) rule: fn(&ArgTypes<'_>) -> Result<(), BuiltinError>,
    /// The result's type and known value; for no arguments, its kind.
    pub(crate) result: fn(&ArgTypes<'_>) -> (Type, Known),
    pub(crate) run: fn(&mut Context<'_>, &mut Args<'_>) -> Result<Value, BuiltinError>,
    /// The function itself, if it is one of a number: the evaluator calls it directly.
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
        is_constant: false,
        rule: |_| Ok(()),
        result: |_| (Type::Unit, Known::Nothing),
        run: |_, _| Ok(Value::Unit),
        of_number: None,
    };
}

/// What the checker knows of a call's arguments, by the position of their parameters.
pub(crate) struct ArgTypes<'a>(pub(crate) &'a [Option<(&'a Type, &'a Known)>]);

impl ArgTypes<'_> {
    pub(crate) fn ty(&self, index: usize) -> Option<&Type> {
        Some(self.0.get(index)?.as_ref()?.0)
    }

    pub(crate) fn known(&self, index: usize) -> Option<&Known> {
        Some(self.0.get(index)?.as_ref()?.1)
    }

    /// A tensor whose shape and dtype are these arguments; `float16` if the dtype is left out.
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
        (Type::Tensor(TensorType { dtype, sizes }), Known::Nothing)
    }
}

/// The parts of the evaluator that a builtin may use.
pub(crate) struct Context<'a> {
    pub(crate) device: &'a Device,
    pub(crate) host: &'a mut dyn Host,
    pub(crate) random: &'a mut Random,
    pub(crate) sampler: &'a mut Option<Sampler>,
    pub(crate) seed: &'a mut u64,
    pub(crate) open_model: OpenModel,
}

/// For result rules that are one type whatever the arguments.
macro_rules! always {
    ($($ty:tt)+) => {
        |_| ($crate::types::Type::$($ty)+, $crate::types::Known::Nothing)
    };
}
pub(super) use always;
