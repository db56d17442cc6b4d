//! Activations in blocks of 32 signed bytes with one scale: the other operand of integer dot products. They are made once
//! per product, in the workspace of the threads: as rows for a few tokens, as panels of 16 tokens for many.
#![allow(unsafe_code)]

use super::stretch::STRETCH;
use crate::workspace::Line;
use bytemuck::{Pod, Zeroable};

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Tokens of a panel: the 32-bit lanes of a 512-bit register.
pub(crate) const LANES: usize = 16;

/// A stretch of one token: value `i` is `scales[i / 32] * values[i]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct RowStretch {
    /// -127 to 127; zeros beyond the end of the row.
    pub(crate) values: [i8; STRETCH],
    pub(crate) scales: [f32; STRETCH / BLOCK],
    /// The sum of each block: its scale times the sum of its values. A minimum is multiplied by it.
    pub(crate) totals: [f32; STRETCH / BLOCK],
    /// The sums of 16 values each.
    pub(crate) sums: [i32; STRETCH / 16],
}

// SAFETY: arrays of 256, 32, 32 and 64 bytes at their alignment: 384 bytes without padding, and every pattern is a value.
unsafe impl Zeroable for RowStretch {}
// SAFETY: as above.
unsafe impl Pod for RowStretch {}

/// One token's activations.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a [RowStretch]);

impl<'a> Row<'a> {
    /// The lines that a row of `k` elements takes.
    pub(crate) fn n_lines(k: usize) -> usize {
        k.div_ceil(STRETCH) * (size_of::<RowStretch>() / size_of::<Line>())
    }

    /// The row that [`quantize_row`] made.
    pub(crate) fn new(lines: &'a [Line]) -> Row<'a> {
        Row(bytemuck::cast_slice(lines))
    }

    #[inline(always)]
    pub(crate) fn stretches(self) -> &'a [RowStretch] {
        self.0
    }
}

/// A block of each of 16 tokens, so that a register holds the same four elements of all of them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PanelBlock {
    /// Four elements of each token, eight times.
    pub(crate) values: [[[i8; 4]; LANES]; BLOCK / 4],
    pub(crate) scales: [f32; LANES],
    /// What a format's offset or minimum is accounted by. For each half of the block and each token: minus the offset
    /// times the sum of the values; for formats with minima, the bits of the `f32` that is the scale times that sum.
    /// Formats with groups of 32 have the whole block in the first.
    pub(crate) corrections: [[i32; LANES]; 2],
}

// SAFETY: arrays of 512, 64 and 128 bytes: 704 bytes without padding, and every pattern is a value.
unsafe impl Zeroable for PanelBlock {}
// SAFETY: as above.
unsafe impl Pod for PanelBlock {}

impl PanelBlock {
    /// The lines that a panel of `k` elements, a multiple of the block, takes.
    pub(crate) fn n_lines(k: usize) -> usize {
        k / BLOCK * (size_of::<PanelBlock>() / size_of::<Line>())
    }
}
