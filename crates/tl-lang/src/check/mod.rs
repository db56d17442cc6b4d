//! Syntax trees to a checked program: names are resolved, arguments bound, types and sizes inferred as far as possible, and all
//! errors reported. Nothing runs here.
//!
//! A wrong part becomes an expression of unknown type, and checking continues: one mistake, one message.

mod binding;
mod bodies;
mod calls;
mod checker;
mod constants;
mod conversions;
mod declarations;
mod expressions;
mod files;
mod functions;
mod indexing;
mod instances;
mod known_values;
mod lint_state;
mod lints;
mod loops;
mod maps;
mod mention;
mod mentions;
mod namespaces;
mod operations;
mod parts;
mod program;
mod relations;
mod scope;
mod statements;
mod structs;
mod typed;
mod written_types;

pub(crate) use checker::Part;
pub use mention::{Mention, MentionKind};
pub(crate) use program::{CheckOptions, Checked, CheckedEntry, Declarations, check, check_entry, check_for_editor};
