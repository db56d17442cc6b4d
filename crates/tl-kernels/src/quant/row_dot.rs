//! What an instruction set brings to products of a few tokens: dot products of rows of a weight with the activations of one token.

use super::activations::Row;
use super::formats::integer_format::IntegerFormat;
use super::prefetch::Prefetch;
use super::rows::Rows;
use crate::element::{Element, FloatSlice};
use crate::isa::Portable;

/// Dot products of rows that are multiplied as they lie, and ways to ask for them ahead.
pub(crate) trait RowDots: Copy {
    /// `out[j] +=` the dot product of row `j` with the activations, the rows of one stream after those of the other; or nothing and
    /// `false`, where the set has no loop for the format.
    #[inline(always)]
    fn block_dot(self, _format: IntegerFormat, _rows: Rows<'_>, _x: Row<'_>, _out: &mut [f32]) -> bool {
        false
    }

    /// The same of weights `W`; or nothing and `false`, where the set has no loop for rows of that length.
    #[inline(always)]
    fn float_dot<W: Element>(self, _rows: Rows<'_>, _x: FloatSlice<'_>, _out: &mut [f32]) -> bool {
        false
    }

    /// The ways in which its loops ask for memory ahead: the first ones of [`Prefetch::ALL`].
    #[inline(always)]
    fn prefetches(self) -> &'static [Prefetch] {
        &Prefetch::ALL[..1]
    }
}

impl RowDots for Portable {}
