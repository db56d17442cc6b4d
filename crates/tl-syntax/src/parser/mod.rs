//! Tokens to syntax tree, by recursive descent; operators by precedence climbing.
//!
//! Whatever the text, parsing ends and gives a tree: what cannot be read becomes an `Error` node. After an error nothing more
//! is reported until the statement's end. Depth is bounded twice: how far the parser recurses, and how high a tree may grow,
//! which a long chain such as `a + b + …` does without recursion. Passes behind this one may therefore recurse freely.

mod cursor;
mod expressions;
mod items;
mod literals;
mod parse;
mod statements;
mod types;

pub use parse::{Parsed, parse};
