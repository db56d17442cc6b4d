//! Tokens to syntax tree, by recursive descent; operators by precedence climbing.
//!
//! Any text gives a tree: unreadable parts become `Error` nodes. After an error nothing more is reported until the end of the
//! statement. Two bounds let later passes recurse: on the parser's recursion, and on the height of trees, which a long chain
//! such as `a + b + …` grows without recursion.

mod cursor;
mod expressions;
mod format_strings;
mod items;
mod literals;
mod parse;
mod relations;
mod statements;
mod types;

pub use parse::{Parsed, parse};
