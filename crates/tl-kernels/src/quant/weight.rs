//! A weight, and what the kernels know of the block format that it is stored in.

use super::activations::Row;
use super::rows::Rows;
use super::stretch::Stretch;
use crate::element::FloatSlice;
use crate::isa::Isa;

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

/// What the products need to know of a format of small integers.
#[derive(Clone, Copy)]
pub struct IntegerKernels {
    pub(crate) group: usize,
    pub(crate) offset: u8,
    pub(crate) has_minima: bool,
    /// Unpacks whole blocks, at most a stretch of them.
    pub(crate) unpack: fn(Isa, &[u8], &mut Stretch),
    /// `out[j] +=` the dot product of row `j` with the activations, the rows of one stream after those of the other.
    pub(crate) dot: fn(Isa, Rows<'_>, Row<'_>, &mut [f32]),
}

impl std::fmt::Debug for IntegerKernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IntegerKernels").field("group", &self.group).field("offset", &self.offset).finish()
    }
}

/// `out[j] +=` the dot product of row `j` with the activations, which are as long as the rows; the streams have equally many rows, and
/// `out` has those of one stream after those of the other.
pub(crate) type FloatDot = fn(Isa, Rows<'_>, FloatSlice<'_>, &mut [f32]);

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
