//! TL, the language: checker, evaluator and builtins.
//!
//! A program goes through [`Interpreter`]: its text is parsed (`tl_syntax`), checked into a program whose names, arguments
//! and sizes are settled, and run by walking that. Builtins are rows of a table, and the rows of `tl_tensor::ops` are
//! builtins by themselves; checker and evaluator read the same rows. The outside is a [`Host`] that the caller passes in:
//! this crate touches no environment, terminal, clock or source file of its own accord.

pub mod architecture;
mod arithmetic;
mod check;
mod display;
mod eval;
mod host;
mod interpreter;
mod ir;
mod library;
mod liveness;
mod names;
mod reserve;
mod rewrite;
mod standard;
mod text;
mod value;

pub use architecture::{Architecture, ScriptedModel};
pub use host::{CapturedHost, Host, SourceText};
pub use interpreter::{Interpreter, Outcome, ProgramError, span_of_location};
pub use library::{Entry, reference};
