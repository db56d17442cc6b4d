//! The formatter: one style, without options.
//!
//! It works on tokens and comments. Line breaks stay where the author put them; indentation, blank lines and the blanks
//! within a line are the formatter's. The tokens, newlines that end statements included, and so the tree, stay the same.

mod formatted;
mod layout;
mod pieces;
mod spacing;

pub use formatted::format;
