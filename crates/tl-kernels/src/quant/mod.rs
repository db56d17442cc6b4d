//! Weights as files store them: rows of blocks, one [`WeightKernels`] for each block format.
//!
//! A format is a file here with one constant in it. What the formats share stands beside them: `block` (what a format of
//! small integers has to say of itself), `nibbles`, `two_bits` and `k_scales` (how several formats store numbers), `search`
//! (finding scales), `activations` (8-bit blocks of the other operand), `dot` (rows times one token's activations), `reading`
//! (how they are read). `linear` and `experts`, with `few` for a few tokens and `many` for many, and `gather` know no format by
//! name. Nothing here knows how a file names its
//! formats.
#![allow(unsafe_code)]

mod activations;
mod block;
mod dense;
mod dot;
mod experts;
mod few;
mod gather;
mod iq4_nl;
mod iq4_xs;
mod k_scales;
mod linear;
mod many;
mod mxfp4;
mod nibbles;
mod q2_k;
mod q3_k;
mod q4_0;
mod q4_1;
mod q4_k;
mod q5_0;
mod q5_1;
mod q5_k;
mod q6_k;
mod q8_0;
mod reading;
mod search;
mod two_bits;

use crate::element::{FloatSlice, half_to_f32};
use crate::isa::Isa;
use half::f16;

pub use block::IntegerKernels;
pub use dense::{BF16, F16, F32};
#[cfg(target_arch = "x86_64")]
pub(crate) use dot::{Place, avx512::load_opaque};
pub use experts::{Experts, linear_experts};
pub use gather::{RowOutOfRange, gather_rows};
pub use iq4_nl::IQ4_NL;
pub use iq4_xs::IQ4_XS;
pub use linear::linear;
pub(crate) use many::arithmetic;
pub use mxfp4::MXFP4;
pub use q2_k::Q2_K;
pub use q3_k::Q3_K;
pub use q4_0::Q4_0;
pub use q4_1::Q4_1;
pub use q4_k::Q4_K;
pub use q5_0::Q5_0;
pub use q5_1::Q5_1;
pub use q5_k::Q5_K;
pub use q6_k::Q6_K;
pub use q8_0::{Q8_0, Q8Block};
pub use reading::Reading;
pub(crate) use reading::{BestReading, STREAMS};

/// The most elements that a block of any format may have.
pub(crate) const MAX_BLOCK: usize = 256;

/// What the kernels need to know of a block format.
#[derive(Debug)]
pub struct WeightKernels {
    /// Elements in a block, at most 256 and a power of two; a row of a weight is a whole number of blocks.
    pub block_elems: usize,
    /// Bytes in a block, at any alignment.
    pub block_bytes: usize,
    /// Whole blocks to `f32`, exactly.
    pub dequantize: fn(Isa, &[u8], &mut [f32]),
    /// `f32` to the nearest whole blocks, if this crate can write the format.
    pub quantize: Option<Quantize>,
    /// How rows are multiplied by activations.
    pub dot: Dot,
}

/// Writes `f32` values as whole blocks.
pub type Quantize = fn(&[f32], &mut [u8]);

/// How rows of a weight are multiplied by activations.
#[derive(Clone, Copy, Debug)]
pub enum Dot {
    /// Against the activations as they are; sums in `f32`.
    Float(FloatKernels),
    /// Against 8-bit blocks of activations; sums in `i32` within a block, in `f32` across blocks.
    Integer(IntegerKernels),
}

/// What the products need to know of a float format.
#[derive(Clone, Copy, Debug)]
pub struct FloatKernels {
    pub(crate) dot: FloatDot,
    /// How many `bf16` it takes to add up to any value.
    pub(crate) bf16_parts: usize,
}

/// `out[j] +=` the dot product of row `j` with the activations, which are as long as the rows; the streams have equally many rows, and
/// `out` has those of one stream after those of the other.
pub(crate) type FloatDot = fn(Isa, Rows<'_>, FloatSlice<'_>, &mut [f32]);

/// Rows of whole blocks, in one or more *streams*: runs of rows that lie one after the other, each somewhere else in memory.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The bytes from the first stream's first row on.
    pub bytes: &'a [u8],
    /// Bytes of a row.
    pub length: usize,
    /// How they are read, and so how many streams there are.
    pub reading: Reading,
    /// Rows from a stream's first one to that of the next stream.
    pub apart: usize,
}

impl<'a> Rows<'a> {
    /// The bytes of row `index` of a stream.
    #[inline(always)]
    pub(crate) fn row(&self, stream: usize, index: usize) -> &'a [u8] {
        &self.row_and_rest(stream, index)[..self.length]
    }

    /// The bytes of that row and all that follow it.
    #[inline(always)]
    pub(crate) fn row_and_rest(&self, stream: usize, index: usize) -> &'a [u8] {
        &self.bytes[(stream * self.apart + index) * self.length..]
    }

    /// Row `index` of each of `S` streams from byte `first` on, and all that follows it.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) fn side_by_side<const S: usize>(&self, index: usize, first: usize) -> [&'a [u8]; S] {
        let mut rows = [&self.bytes[..0]; S];
        for (stream, row) in rows.iter_mut().enumerate() {
            *row = &self.row_and_rest(stream, index)[first..];
        }
        rows
    }

    /// The rows of one stream after those of the other, each with its place in `out`.
    #[inline(always)]
    pub(crate) fn with_sums<'o>(self, out: &'o mut [f32]) -> impl Iterator<Item = (&'a [u8], &'o mut f32)> {
        let n_rows = out.len() / self.reading.n_streams();
        out.iter_mut().enumerate().map(move |(j, out)| (self.row(j / n_rows, j % n_rows), out))
    }
}

impl WeightKernels {
    /// The bytes of `n_elems` elements, a whole number of blocks.
    ///
    /// # Panics
    /// If `n_elems` is not a multiple of the block.
    pub fn row_bytes(&self, n_elems: usize) -> usize {
        assert!(n_elems.is_multiple_of(self.block_elems), "{n_elems} elements in blocks of {}", self.block_elems);
        n_elems / self.block_elems * self.block_bytes
    }
}

/// A weight: rows of blocks as a file stores them, at any alignment. A one-dimensional weight is one row.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// The blocks, row after row.
    pub bytes: &'a [u8],
    /// Their format.
    pub format: &'a WeightKernels,
}

impl Weight<'_> {
    /// Elements `first .. first + dst.len()` as `f32`; neither end needs to be a block's.
    pub(crate) fn load(self, isa: Isa, first: usize, dst: &mut [f32]) {
        let WeightKernels { block_elems, block_bytes, dequantize, .. } = *self.format;
        let mut index = first;
        let mut rest = dst;
        while !rest.is_empty() {
            let block = index / block_elems;
            let within = index % block_elems;
            let whole = rest.len() / block_elems;
            if within == 0 && whole > 0 {
                let (head, tail) = rest.split_at_mut(whole * block_elems);
                let bytes = &self.bytes[block * block_bytes..][..whole * block_bytes];
                dequantize(isa, bytes, head);
                index += head.len();
                rest = tail;
            } else {
                let mut values = [0.0; MAX_BLOCK];
                let bytes = &self.bytes[block * block_bytes..][..block_bytes];
                dequantize(isa, bytes, &mut values[..block_elems]);
                let count = rest.len().min(block_elems - within);
                let (head, tail) = rest.split_at_mut(count);
                head.copy_from_slice(&values[within..within + count]);
                index += count;
                rest = tail;
            }
        }
    }
}

/// The `f16` at byte `at` of a block.
#[inline(always)]
fn half_at(isa: Isa, block: &[u8], at: usize) -> f32 {
    let bytes = [block[at], block[at + 1]];
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx2() {
        // SAFETY: this `Isa` proves f16c.
        return unsafe { dot::avx2::half_to_f32(bytes) };
    }
    half_to_f32(u16::from_le_bytes(bytes))
}

/// Stores an `f16` at byte `at` of a block; returns what it came to.
fn store_half(block: &mut [u8], at: usize, value: f32) -> f32 {
    let half = f16::from_f32(value);
    block[at..at + 2].copy_from_slice(&half.to_le_bytes());
    half.to_f32()
}

/// Every format by name: floats first.
#[cfg(test)]
pub(crate) static FORMATS: [(&str, &WeightKernels); 16] = [
    ("F32", &F32),
    ("F16", &F16),
    ("BF16", &BF16),
    ("Q8_0", &Q8_0),
    ("Q4_0", &Q4_0),
    ("Q4_1", &Q4_1),
    ("Q5_0", &Q5_0),
    ("Q5_1", &Q5_1),
    ("IQ4_NL", &IQ4_NL),
    ("MXFP4", &MXFP4),
    ("Q2_K", &Q2_K),
    ("Q3_K", &Q3_K),
    ("Q4_K", &Q4_K),
    ("Q5_K", &Q5_K),
    ("Q6_K", &Q6_K),
    ("IQ4_XS", &IQ4_XS),
];
