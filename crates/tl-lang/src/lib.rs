//! TL, the language: checker, evaluator and builtins.
//!
//! [`Interpreter`] runs a program: its text is parsed (`tl_syntax`), checked, rewritten, and evaluated by a walk. Builtins are
//! rows of a table, among them the rows of `tl_tensor::ops`; checker and evaluator read the same rows. The outside is a
//! [`Host`] that the caller passes in: this crate itself touches no environment, terminal, clock or source file.
//!
//! From the bottom up: types and values; the rows of builtins (`library`); the checked program (`ir`); the checker, `liveness`,
//! `rewrite` and the evaluator; `compile`, [`Architecture`], [`ScriptedModel`], [`Interpreter`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod analysis;
mod architecture;
mod arithmetic;
mod check;
mod compile;
mod declared;
mod display;
mod error;
mod eval;
mod host;
mod interpreter;
mod ints;
mod ir;
mod library;
mod liveness;
mod location;
mod model;
mod model_memory;
mod names;
mod op_code;
mod pooled;
mod relations;
mod reserve_statement;
mod rewrite;
mod session;
mod stack;
mod standard;
mod svg;
mod tensor_text;
mod text;
mod types;
mod value;
mod walk;

pub use analysis::{Analysis, analyze, members_of_type};
pub use architecture::Architecture;
pub use check::{Mention, MentionKind};
pub use error::ProgramError;
pub use host::{CapturedHost, Host, SourceText, WriteContents};
pub use interpreter::{Interpreter, Outcome, tests_of};
pub use library::{Entry, reference};
pub use location::span_of_location;
pub use model::{PREFILL_CHUNK, ScriptedModel};
pub use model_memory::BatchSizes;
pub use names::nearest as nearest_name;
pub use reserve_statement::{reserve_statement, symbolic_reserve_statement};
pub use session::{Entry as SessionEntry, Session};
