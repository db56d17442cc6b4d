//! Syntax trees to a checked program: names are resolved, arguments bound, types and sizes inferred as far as possible, and all
//! errors reported. Nothing runs here.
//!
//! A wrong part becomes an expression of unknown type, and checking continues: one mistake, one message.

mod calls;
mod checker;
mod conversions;
mod expressions;
mod files;
mod functions;
mod indexing;
mod operations;
mod program;
mod scope;
mod statements;
mod typed;

pub(crate) use checker::Part;
pub(crate) use program::{Checked, CheckedEntry, Declarations, check, check_entry};
