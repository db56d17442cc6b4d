//! The builtins that are no tensor operations: the table [`CHAPTERS`], one row each.
//!
//! A row gives name, parameters, what the checker can say of the result, documentation and the function itself. Checker,
//! evaluator and generated reference read the same rows. The rows of `tl_tensor::ops` are builtins by themselves; where a
//! row here has the name of an operation, it is that operation on plain numbers. To add a builtin, add a row to the file
//! of its kind.

mod args;
mod caches;
mod elements;
mod error;
mod fields;
mod generation;
mod lists;
mod memory;
mod models;
mod nodes;
mod numbers;
mod outside;
mod param;
mod reference;
mod row;
mod runnable;
mod sampling;
mod table;
mod tensors;
mod testing;
mod text;
mod tokenizers;

pub use reference::{Entry, reference};

pub(crate) use args::Args;
pub(crate) use elements::elements;
pub(crate) use error::BuiltinError;
pub(crate) use fields::{CONFIG, field, field_names, field_type, number_field};
pub(crate) use nodes::{indexed_part, node_tensor, node_value};
pub(crate) use numbers::truncate;
pub(crate) use param::{Param, ParamKind};
pub(crate) use row::{ArgTypes, Builtin, Context};
pub(crate) use runnable::{OpenModel, RunnableModel};
pub(crate) use table::{any_method, builtin, function_names, is_known, makes_tensors, method, method_names};
pub(crate) use tensors::from_list;
