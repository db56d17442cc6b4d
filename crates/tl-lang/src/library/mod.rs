//! The builtins that are no tensor operations: the table [`CHAPTERS`], one row each.
//!
//! A row gives name, parameters, what the checker can say of the result, documentation and the function itself. Checker,
//! evaluator and generated reference read the same rows. The rows of `tl_tensor::ops` are builtins by themselves; where a
//! row here has the name of an operation, it is that operation on plain numbers. To add a builtin, add a row to the file
//! of its kind.

mod generation;
mod lists;
mod memory;
mod models;
mod numbers;
mod outside;
mod reference;
mod row;
mod sampling;
mod table;
mod tensors;
mod testing;
mod text;

pub use reference::{Entry, reference};

pub(crate) use models::{CONFIG, node_tensor, node_value};
pub(crate) use numbers::truncate;
pub(crate) use row::{Args, Builtin, Context, Default, Failure, Kind, Param, RecordType, Shown, Types};
pub(crate) use table::{
    any_method, builtin, field, field_names, field_type, function_names, handle_element, is_known, makes_tensors,
    method, method_names, number_field, unavailable,
};
pub(crate) use tensors::from_list;

use crate::check::{Known, Type};

/// For result rules that are one type whatever the arguments.
macro_rules! always {
    ($($ty:tt)+) => {
        |_| ($crate::check::Type::$($ty)+, $crate::check::Known::Nothing)
    };
}
use always;

/// The result of builtins that return nothing.
fn nothing(_: &Types<'_>) -> (Type, Known) {
    (Type::Unit, Known::Nothing)
}
