//! A template's text to a tree: lexer, parser and the tree itself. Knows nothing of values and of rendering.

pub(crate) mod ast;
mod lexer;
mod parser;

pub(crate) use parser::parse;
