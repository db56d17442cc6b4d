//! Linear layers of many tokens: panels of 16 tokens stand in the workspace, and each tile of the output unpacks its rows of
//! the weight stretch by stretch, each stretch once for all tokens of the tile.
//!
//! A lane of a register is a token, and the weights are broadcast, so that rows of the weight need no rearranging. What is in
//! the panels, what rows are unpacked to and how the two are multiplied is a [`GemmLayout`](layout::GemmLayout): `integer` and `float`,
//! or one that an instruction set brings.

pub(crate) mod choice;
pub(crate) mod float;
pub(crate) mod integer;
pub(crate) mod layout;
pub(crate) mod multiply;
mod tokens;

pub(crate) use choice::{arithmetic, capacity};
pub(crate) use multiply::multiply;
pub(crate) use tokens::Tokens;
