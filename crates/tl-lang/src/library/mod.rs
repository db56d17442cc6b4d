//! The builtins other than tensor operations: a table with a row for each.
//!
//! A row has name, parameters, documentation, the rule for the result's type and the function itself. Checker, evaluator and the
//! generated reference read the same rows. The rows of `tl_tensor::ops` are builtins too; a row here with the name of an
//! operation is that operation on plain values: numbers, lists, strings. To add a builtin, add a row to the file of its kind.
//!
//! Running a model takes the checker and the evaluator, which stand above this module: `generate` gets it through
//! [`OpenModel`].

mod args;
mod caches;
mod elements;
mod error;
mod fields;
mod files;
mod generation;
mod lists;
mod maps;
mod memory;
mod models;
mod nodes;
mod numbers;
mod outside;
mod param;
mod places;
mod plots;
mod reductions;
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
pub(crate) use lists::contains;
pub(crate) use nodes::{indexed_part, node_tensor, node_value};
pub(crate) use numbers::truncate;
pub(crate) use param::{Param, ParamKind};
pub(crate) use row::{ArgTypes, Builtin, Context};
pub(crate) use runnable::{OpenModel, RunnableModel};
pub(crate) use table::{any_method, builtin, builtins, function_names, is_known, makes_tensors, method, method_names};
pub(crate) use tensors::{from_list, item};
