//! Kernels for AVX-512 (F, BW, DQ, VL, VBMI, VNNI), and for its extensions: AVX-512 BF16 and AMX.

mod bf16;
mod bf16_pairs;
mod block_rows;
mod columns;
mod conversions;
mod float_panels;
mod float_rows;
mod formats;
mod gemm_tile;
mod integer_panels;
mod k_scales;
mod layouts;
mod limits;
mod nibbles;
mod quantize;
mod registers;
mod row_dots;
mod strided_vectors;
mod super_blocks;
mod tiles;
mod transpose;
mod two_bits;
