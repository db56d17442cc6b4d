//! A weight, and what the kernels know of the block format that it is stored in.

use super::activations::{GroupSize, MAX_GROUP, Prepared, RowStretch};
use super::block_format::BlockFormat;
use super::rows::Rows;
use super::stretch::Stretch;
use super::tokens::FloatTokens;
use crate::element::FloatSlice;
use crate::isa::Isa;
use crate::workspace::Line;

/// The most elements that a block of any format may have.
pub(crate) const MAX_BLOCK: usize = 256;

/// What the kernels need to know of a block format.
#[derive(Debug)]
pub struct WeightKernels {
    /// Its name, and the size of its blocks.
    pub blocks: BlockFormat,
    /// The number by which a GGUF file says that most of its weights are in this format (llama.cpp's `llama_ftype`).
    pub file_type: u32,
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
    /// The same of several tokens: `out[t * n + j] +=` the dot product of row `j` of `n` with token `t`.
    pub(crate) dots: fn(Isa, Rows<'_>, FloatTokens<'_>, &mut [f32]),
    /// How many `bf16` it takes to add up to any value.
    pub bf16_parts: usize,
}

/// What the products need to know of a format of small integers.
#[derive(Clone, Copy)]
pub struct IntegerKernels {
    pub(crate) group: usize,
    pub(crate) offset: u8,
    pub(crate) has_minima: bool,
    /// Unpacks whole blocks, at most a stretch of them.
    pub(crate) unpack: fn(Isa, &[u8], &mut Stretch),
    /// In what groups activations are kept.
    pub(crate) group_size: fn(Isa) -> GroupSize,
    /// Makes a group of stretches.
    pub(crate) prepare: fn(Isa, &[RowStretch; MAX_GROUP], &mut [Line]),
    /// `out[t * n + j] +=` the dot product of row `j` of `n` with token `t`, the rows of one stream after those of the other.
    pub(crate) dot: fn(Isa, Rows<'_>, Prepared<'_>, &mut [f32]),
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
        let BlockFormat { block_elems, block_bytes, .. } = self.blocks;
        assert!(n_elems.is_multiple_of(block_elems), "{n_elems} elements in blocks of {block_elems}");
        n_elems / block_elems * block_bytes
    }

    /// The elements that bytes of whole blocks have.
    pub fn n_elems(&self, len_bytes: usize) -> usize {
        len_bytes / self.blocks.block_bytes * self.blocks.block_elems
    }

    /// Whether elements have a minimum beside their scale.
    pub fn has_minima(&self) -> bool {
        matches!(self.dot, Dot::Integer(kernels) if kernels.has_minima)
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
        let WeightKernels { blocks: BlockFormat { block_elems, block_bytes, .. }, dequantize, .. } = *self.format;
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
