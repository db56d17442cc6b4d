//! Weights as files store them: rows of blocks, one [`WeightKernels`] for each block format.
//!
//! `formats` has a file for each format; `codec` says what a format of small integers has to say of itself. `linear` and `experts`,
//! with `gemv` for a few tokens and `gemm` for many, and `gather` know no format by name. `activations` are 8-bit blocks of the
//! other operand, which `quantize` makes, `tokens` those in `f32`; `row_dot` is rows times a few tokens' activations; `prefetch` how rows are
//! read.

pub(crate) mod activations;
pub(crate) mod arithmetic;
mod best_prefetch;
mod block_format;
pub(crate) mod codec;
mod expert_weights;
mod experts;
pub(crate) mod formats;
mod gather;
pub(crate) mod gemm;
pub(crate) mod gemv;
mod half;
mod linear;
pub(crate) mod prefetch;
mod product;
pub(crate) mod quantize;
pub(crate) mod row_dot;
pub(crate) mod rows;
pub(crate) mod stretch;
pub(crate) mod tokens;
pub(crate) mod weight;

pub use arithmetic::Arithmetic;
pub(crate) use best_prefetch::BestPrefetch;
pub use block_format::BlockFormat;
pub use expert_weights::Experts;
pub use experts::linear_experts;
pub use formats::{
    BF16, F16, F32, FORMATS, IQ4_NL, IQ4_XS, MXFP4, Q2_K, Q3_K, Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K, Q6_K, Q8_0, Q8Block,
};
pub use gather::{RowOutOfRange, gather_rows};
pub(crate) use gemm::arithmetic;
pub use linear::linear;
pub use prefetch::Prefetch;
pub(crate) use prefetch::STREAMS;
pub use rows::Rows;
pub use weight::{Dot, FloatKernels, IntegerKernels, Quantize, Weight, WeightKernels};
