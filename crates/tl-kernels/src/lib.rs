//! CPU inner loops over plain slices: elementwise maps, row operations, matrix products, quantized blocks,
//! attention, and the worker threads that share the work.
//!
//! This crate knows sizes and strides. It must not know tensors, devices, memory pools or file formats.
//! Invariants, in every module:
//!
//! - A kernel never allocates on the heap and asks its caller for no scratch memory: work is cut into tiles that fit
//!   fixed arrays on the stack (some hundred KiB). The one exception is the workspace of [`Threads`], 4 MiB that are taken
//!   beforehand ([`Threads::take_workspace`]), or else by the first product or attention, and never grow: activations are
//!   quantized or rearranged there, and parts of attention gathered, once for all threads.
//! - Arithmetic is in `f32` (`i32` inside integer dot products). Element types and block formats choose only how
//!   values are loaded and stored.
//! - Sizes and strides are the caller's promise. A broken promise panics with the sizes; it never reads or writes
//!   outside the slices. A caller that takes sizes from a user checks them first.
//! - The instruction set is chosen once, where [`Threads`] are made, and travels as a value ([`Isa`]).

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

#[cfg(target_endian = "big")]
compile_error!("weights are little endian, and are read as they lie");

mod address_space;
mod array;
mod attention;
mod chain;
mod element;
mod gemm_tile;
mod gemv_tile;
mod integer_matmul;
mod isa;
pub mod limits;
mod map;
mod math;
mod matmul;
mod matrix;
mod prefetch;
mod quant;
mod recurrent;
mod reduce;
mod rope;
mod rows;
mod scratch;
mod sort;
mod strided_vectors;
mod task_size;
#[cfg(test)]
mod testing;
mod threads;
mod top;
mod vector;
mod workspace;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use address_space::has_address_space;
pub use attention::{Heads, MAX_HEAD_DIM, Pages, Scores, attention, attention_in_pages};
pub use chain::{BinaryMap, MAX_DEPTH, Source, Step, UnaryMap, chain, map_block, map_blocks};
pub use element::{Element, FloatSlice};
pub use integer_matmul::{Ring, batch_ring_matmul};
pub use isa::Isa;
pub use map::{View, binary, copy, mask, unary};
pub use math::{exp, gelu, gelu_tanh, sigmoid, silu, tanh};
pub use matmul::{Batch, batch_matmul};
pub use matrix::Matrix;
pub use quant::{
    BF16, BlockFormat, Dot, Experts, F16, F32, FORMATS, FloatKernels, IQ4_NL, IQ4_XS, IntegerKernels, MXFP4, Prefetch,
    Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, Q8Block, Quantize, RowOutOfRange, Rows, Weight,
    WeightKernels, gather_rows, linear, linear_experts,
};
pub use recurrent::{DeltaInputs, DeltaRule, MAX_STATE_KEY_DIM, MAX_TAPS, causal_convolution, gated_delta_rule};
pub use reduce::{ArgReduceOp, ReduceOp, arg_reduce, reduce};
pub use rope::{RopeStyle, Rotation, rope};
pub use rows::{layer_norm, log_softmax, rms_norm, softmax, swiglu};
pub use sort::{Ordered, sort, sort_places};
pub use strided_vectors::KvElement;
pub use threads::{Threads, Tile, Tiling};
pub use top::{top, top_places};
pub use workspace::WORKSPACE_BYTES;
