//! Weights as files store them: rows of blocks, one [`WeightKernels`] for each block format.
//!
//! A format is a file here with one constant in it. What the formats share stands beside them: `activations` (8-bit
//! blocks of the other operand), `dot` (row times activations), `linear` and `gather`, which know no format by name.
//! Nothing here knows how a file names its formats.

mod activations;
mod dense;
mod dot;
mod gather;
mod linear;
mod q4_0;
mod q8_0;

use crate::isa::Isa;

pub use activations::Activations;
pub use dense::{BF16, F16, F32};
pub use gather::{RowOutOfRange, gather_rows};
pub use linear::linear;
pub use q4_0::Q4_0;
pub use q8_0::Q8_0;

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

/// `out[j * n_tokens + t] +=` the dot product of row `j` of the weight with token `t` of the activations, which are as
/// long as the rows. The functions take the rows, the activations of all tokens, `n_tokens` and `out`.
#[derive(Clone, Copy, Debug)]
pub enum Dot {
    /// Against `f32` activations, token after token; sums in `f32`.
    Float(fn(Isa, Rows<'_>, &[f32], usize, &mut [f32])),
    /// Against 8-bit blocks of activations; sums in `i32` within a block, in `f32` across blocks.
    Integer(fn(Isa, Rows<'_>, Activations<'_>, usize, &mut [f32])),
}

/// Rows of whole blocks, or the same stretch of each row.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// The bytes from the first row's on.
    pub bytes: &'a [u8],
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Bytes of a row.
    pub length: usize,
}

impl<'a> Rows<'a> {
    /// The bytes of row `index`.
    #[inline(always)]
    pub(crate) fn row(&self, index: usize) -> &'a [u8] {
        &self.bytes[index * self.stride..][..self.length]
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
