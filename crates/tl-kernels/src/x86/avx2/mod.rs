//! Kernels for AVX2, FMA and F16C.

pub(super) mod block_rows;
mod conversions;
mod float_panels;
mod float_rows;
pub(super) mod formats;
mod gemm_tile;
mod k_scales;
mod layouts;
mod limits;
mod nibbles;
mod quantize;
pub(super) mod registers;
mod row_dots;
mod strided_vectors;
mod two_bits;
mod vectors;
