//! Activations in blocks of 32 signed bytes with one scale: the other operand of integer dot products. They are made once
//! per product, in the workspace of the threads: in groups, in the order in which the instruction set multiplies them, or as panels of 16
//! tokens.
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

impl RowStretch {
    /// No activations.
    pub(crate) const ZERO: RowStretch = RowStretch {
        values: [0; STRETCH],
        scales: [0.0; STRETCH / BLOCK],
        totals: [0.0; STRETCH / BLOCK],
        sums: [0; STRETCH / 16],
    };
}

/// The most stretches of a group.
pub(crate) const MAX_GROUP: usize = 2;

/// How large the groups are that a token's activations are kept in: what an instruction set multiplies at a time.
#[derive(Clone, Copy)]
pub(crate) struct GroupSize {
    /// Stretches of the token, at most [`MAX_GROUP`].
    pub(crate) stretches: usize,
    /// Lines that they take in the order in which they are multiplied.
    pub(crate) lines: usize,
}

impl GroupSize {
    /// Groups of which each has `N` stretches and is a `P`.
    pub(crate) const fn of<const N: usize, P>() -> GroupSize {
        const { assert!(N <= MAX_GROUP && size_of::<P>().is_multiple_of(size_of::<Line>())) };
        GroupSize { stretches: N, lines: size_of::<P>() / size_of::<Line>() }
    }

    /// Groups of a token of `k` elements.
    pub(crate) fn n_groups(self, k: usize) -> usize {
        k.div_ceil(self.stretches * STRETCH)
    }

    /// The lines that a token of `k` elements takes.
    pub(crate) fn token_lines(self, k: usize) -> usize {
        self.n_groups(k) * self.lines
    }
}

/// Activations of some tokens, in groups.
#[derive(Clone, Copy)]
pub(crate) struct Prepared<'a> {
    /// The groups from the first one of the first token on.
    pub(crate) lines: &'a [Line],
    pub(crate) n_tokens: usize,
    /// Groups of all tokens here from a token to the next.
    pub(crate) token_stride: usize,
    /// From a token's group to its next one.
    pub(crate) group_stride: usize,
}

impl<'a> Prepared<'a> {
    /// The groups as what they are, `n_groups` of each token.
    #[inline(always)]
    pub(crate) fn groups<P: Pod>(self, n_groups: usize) -> Groups<'a, P> {
        let Prepared { n_tokens, token_stride, group_stride, lines } = self;
        let n_lines = size_of::<P>() / size_of::<Line>();
        let all: &[P] = bytemuck::cast_slice(&lines[..lines.len() / n_lines * n_lines]);
        let last = n_groups.saturating_sub(1) * group_stride + n_tokens.saturating_sub(1) * token_stride;
        assert!(n_groups == 0 || n_tokens == 0 || last < all.len(), "{n_groups} groups of {n_tokens} tokens");
        Groups { all, n_groups, n_tokens, token_stride, group_stride }
    }
}

/// Activations of some tokens as groups of a known type.
#[derive(Clone, Copy)]
pub(crate) struct Groups<'a, P> {
    all: &'a [P],
    pub(crate) n_groups: usize,
    pub(crate) n_tokens: usize,
    token_stride: usize,
    group_stride: usize,
}

impl<'a, P> Groups<'a, P> {
    /// Group `group` of token `token`.
    #[inline(always)]
    pub(crate) fn at(&self, group: usize, token: usize) -> &'a P {
        &self.all[group * self.group_stride + token * self.token_stride]
    }

    /// As [`at`](Self::at), without looking whether it is there.
    ///
    /// # Safety
    /// There are more groups than `group`, and more tokens than `token`.
    #[inline(always)]
    pub(crate) unsafe fn at_unchecked(&self, group: usize, token: usize) -> &'a P {
        debug_assert!(group < self.n_groups && token < self.n_tokens);
        // SAFETY: no group of a token lies behind the last one of the last token, and `groups` has seen that this one is there.
        unsafe { self.all.get_unchecked(group * self.group_stride + token * self.token_stride) }
    }

    /// All groups, where there is one token and they lie together.
    #[inline(always)]
    pub(crate) fn of_one_token(&self) -> Option<&'a [P]> {
        (self.n_tokens == 1 && self.group_stride == 1).then(|| &self.all[..self.n_groups])
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
