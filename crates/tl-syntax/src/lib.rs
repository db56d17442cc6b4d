//! The syntax of TL: text to tokens to syntax tree, with diagnostics as data.
//!
//! [`parse`] takes the text of one file and always returns a tree, together with the errors in the text. This crate reads no
//! files, prints nothing and knows nothing about types, tensors or devices.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

pub mod ast;
mod classes;
mod code;
mod diagnostic;
mod format;
mod lexer;
mod parser;
mod source;
mod token;
mod tree_height;

pub use classes::{TokenClass, classify, comment_above};
pub use code::{Code, Explanation};
pub use diagnostic::{Diagnostic, Label, Severity};
pub use format::format;
pub use lexer::is_open;
pub use parser::{Parsed, parse};
pub use source::{FileId, LineColumn, SourceFile, SourceMap, Span};
pub use token::{CONTEXTUAL_WORDS, KEYWORDS};
pub use tree_height::MAX_TREE_HEIGHT;
