//! The instruction sets of x86-64, and the kernels that are written out for them.
//!
//! `level` says which sets there are, and asks the CPU for them. A folder for each set implements the traits of the portable code:
//! `avx2`, and `avx512`, which has the kernels of its extensions too (AVX-512 BF16, AMX). `block_rows`, `float_rows`, `walk` and `micro_kernels`
//! have what both share, `amx` the tile registers. Nothing outside this folder names these instructions but the macros of [`isa`](crate::isa).
#![allow(unsafe_code)]

mod amx;
mod avx2;
mod avx512;
mod block_rows;
mod float_rows;
mod level;
mod micro_kernels;
mod walk;

pub(crate) use level::{Level, Set};
