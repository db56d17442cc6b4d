//! How GPU programs are put together and launched, and the parts that programs of several operations share.
//!
//! `wgsl.rs` writes programs for data types, `launch.rs` launches them. The others are parts of programs: `indexing.rs`
//! (operands at any strides), `map.rs` and `math.rs` (each element on its own), `workgroup.rs` and `rows.rs` (one
//! number from all invocations, rows), `tiles.rs` and `products.rs` (matrix products), `weight_parts.rs` (weights
//! larger than a binding), `partial_copy.rs` (into part of a tensor). Knows no operation: the program of one is in its
//! file, or beside it in `<operation>_gpu.rs`.

pub(crate) mod indexing;
pub(crate) mod launch;
pub(crate) mod map;
pub(crate) mod math;
pub(crate) mod partial_copy;
pub(crate) mod products;
pub(crate) mod rows;
pub(crate) mod tiles;
pub(crate) mod weight_parts;
pub(crate) mod wgsl;
pub(crate) mod workgroup;

pub(crate) use launch::{Immediates, ShaderVariant, launch};
pub(crate) use wgsl::{WORKGROUP, Wgsl, scalar_of};
