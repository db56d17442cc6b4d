//! From a template's text to its tree: lexer, parser and the tree itself. Knows nothing of values and of rendering.

pub(crate) mod ast;
mod lexer;
mod parser;

pub(crate) use parser::parse;
