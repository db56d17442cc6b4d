//! Grammars for generated text, over the tokens of a model: JSON schemas, Lark grammars, regular expressions.
//!
//! [`GrammarCompiler`] holds a model's vocabulary as a prefix tree and is made once for a model; it compiles a
//! [`GrammarSource`] to a [`Grammar`]. A grammar is a [`Constraint`](tl_model::Constraint) that masks the logits of
//! generation.
//!
//! The crate knows tokens and their bytes, and no model: neither logits' values nor sampling. The crate `llguidance`
//! parses; this crate adds the vocabulary in its form, bounds on the cost of a grammar, and errors that say what to do.
//! A grammar's own memory is host memory that llguidance allocates as it goes, at most some hundred megabytes for a
//! hostile grammar ([`limits`]).
//!
//! ```
//! use tl_grammar::{GrammarCompiler, GrammarSource};
//! use tl_model::{Constraint, ConstraintState, Weights};
//!
//! let weights = Weights::load("../../models/demo-q4_0.gguf", &tl_device::Device::cpu())?;
//! let tokenizer = weights.tokenizer()?;
//! let compiler = GrammarCompiler::new(&tokenizer, |token| weights.is_end(token))?;
//! let mut grammar = compiler.compile(&GrammarSource::Regex("[ab]c".to_owned()))?;
//!
//! let mut logits = vec![0.0; tokenizer.vocab_size()];
//! grammar.mask(&mut logits)?;
//! let [a, c] = ["a", "c"].map(|text| tokenizer.token_id(text).unwrap());
//! assert_eq!((logits[a as usize], logits[c as usize]), (0.0, f32::NEG_INFINITY));
//! grammar.accept(a)?;
//! assert_eq!(grammar.state(), ConstraintState::Open);
//! grammar.accept(c)?;
//! assert_eq!(grammar.state(), ConstraintState::Complete);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod compiler;
mod error;
mod grammar;
mod kind;
pub mod limits;
mod message;
mod source;
mod vocabulary;

pub use compiler::GrammarCompiler;
pub use error::{GrammarError, Result};
pub use grammar::Grammar;
pub use kind::GrammarKind;
pub use source::GrammarSource;
