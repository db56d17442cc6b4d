//! What an instruction set brings to products of a few tokens: dot products of rows of a weight with the activations of some tokens.

use super::activations::{GroupSize, LANES, MAX_GROUP, Prepared, RowStretch};
use super::formats::integer_format::IntegerFormat;
use super::prefetch::Prefetch;
use super::rows::Rows;
use super::tokens::FloatTokens;
use super::weight::{Dot, WeightKernels};
use crate::element::{Element, FloatSlice};
use crate::isa::Portable;
use crate::workspace::Line;

/// Dot products of rows that are multiplied as they lie, and ways to ask for them ahead.
pub(crate) trait RowDots: Copy {
    /// The groups that [`prepare`](Self::prepare) makes for a format.
    #[inline(always)]
    fn group(self, _format: IntegerFormat) -> GroupSize {
        GroupSize::of::<1, RowStretch>()
    }

    /// Makes a group of stretches of activations, in the order in which the format's blocks are multiplied with it. `offset` is the
    /// format's.
    #[inline(always)]
    fn prepare(self, _format: IntegerFormat, _offset: u8, stretches: &[RowStretch; MAX_GROUP], lines: &mut [Line]) {
        lines.copy_from_slice(bytemuck::cast_slice(&stretches[..1]));
    }

    /// `out[t * n + j] +=` the dot product of row `j` of `n` with token `t`, the rows of one stream after those of the other; or
    /// nothing and `false`, where the set has no loop for the format.
    #[inline(always)]
    fn block_dot(self, _format: IntegerFormat, _rows: Rows<'_>, _x: Prepared<'_>, _out: &mut [f32]) -> bool {
        false
    }

    /// Which products go this way.
    #[inline(always)]
    fn gemv_tokens(self, format: &WeightKernels) -> GemvTokens {
        GemvTokens::new(format, usize::MAX, LANES - 1)
    }

    /// `out[j] +=` the dot product of row `j` of weights `W` with the activations of one token; or nothing and `false`, where the set has
    /// no loop for rows of that length.
    #[inline(always)]
    fn float_dot<W: Element>(self, _rows: Rows<'_>, _x: FloatSlice<'_>, _out: &mut [f32]) -> bool {
        false
    }

    /// The same of several tokens: `out[t * n + j] +=` the dot product of row `j` of `n` with token `t`.
    #[inline(always)]
    fn float_dots<W: Element>(self, _rows: Rows<'_>, _x: FloatTokens<'_>, _out: &mut [f32]) -> bool {
        false
    }

    /// The ways in which its loops ask for memory ahead: the first ones of [`Prefetch::ALL`].
    #[inline(always)]
    fn prefetches(self) -> &'static [Prefetch] {
        &Prefetch::ALL[..1]
    }
}

/// How many tokens are multiplied with rows of the weight as they lie; others go to `gemm`.
#[derive(Clone, Copy)]
pub(crate) struct GemvTokens {
    /// The most tokens of a product.
    pub(crate) most: usize,
    /// The most tokens behind the panels of a larger product. More fill another panel.
    pub(crate) most_left: usize,
}

impl GemvTokens {
    /// Up to `most` and `most_left` for formats of small integers. Those of floats go to panels from two full ones on, and never to one that
    /// is not full.
    pub(crate) fn new(format: &WeightKernels, most: usize, most_left: usize) -> GemvTokens {
        match format.dot {
            Dot::Integer(_) => GemvTokens { most, most_left },
            Dot::Float(_) => GemvTokens { most: 2 * LANES - 1, most_left: LANES - 1 },
        }
    }
}

impl RowDots for Portable {}
