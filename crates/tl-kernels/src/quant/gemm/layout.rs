//! How panels and rows are kept and multiplied: what the tiles of a product are made of.

use crate::element::Element;
use crate::isa::Isa;
use crate::quant::arithmetic::Arithmetic;
use crate::quant::{activations, stretch};
use crate::workspace::Line;
use bytemuck::Zeroable;
use std::ops::Range;

/// Tokens of a panel.
pub(crate) const LANES: usize = activations::LANES;
/// The most rows of the weight of a tile: a multiple of the rows that any kernel takes at once.
pub(crate) const TILE_ROWS: usize = 96;
/// The most elements of a row that any layout unpacks at a time.
pub(crate) const MAX_STRETCH: usize = stretch::STRETCH;
/// The most panels of a tile.
pub(crate) const TILE_PANELS: usize = 32;
/// The most tokens that go at once.
pub(crate) const MAX_TOKENS: usize = TILE_PANELS * LANES;

/// One value of each token of a panel.
pub(crate) type Lanes = [f32; LANES];

/// What is in the panels of activations, what rows of the weight are unpacked to, and how the two are multiplied.
pub(crate) trait GemmLayout: Copy + Sync {
    /// Elements of a row that are unpacked at a time.
    const STRETCH: usize;
    /// What a thread holds while it multiplies.
    type Session;
    /// A stretch of a row of the weight, unpacked.
    type Row: Copy + Zeroable;
    /// The rows that are multiplied at a time, a divisor of [`TILE_ROWS`].
    const ROWS: usize;

    /// What its products are computed in.
    fn arithmetic(&self) -> Arithmetic;
    /// Prepares the thread.
    fn session(&self) -> Self::Session;
    /// Lines that a stretch of a panel takes, of `n_elems` elements.
    fn stretch_lines(&self, n_elems: usize) -> usize;
    /// Makes a stretch of a panel: the elements `range` of up to 16 tokens of `k` elements each; missing tokens are zeros.
    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]);
    /// Unpacks the elements that `bytes` has, at most a stretch.
    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Self::Row);
    /// Adds the products of the rows, a multiple of [`ROWS`](Self::ROWS), with the same stretch of one or two panels to the sums, a
    /// list of rows for each panel.
    fn multiply(
        &self,
        isa: Isa,
        session: &Self::Session,
        rows: &[Self::Row],
        panels: &[&[Line]],
        sums: &mut [[Lanes; TILE_ROWS]],
    );
}

/// Lines of a panel; a last stretch that is shorter takes as many as the others.
pub(crate) fn panel_lines<L: GemmLayout>(layout: L, k: usize) -> usize {
    k.div_ceil(L::STRETCH) * layout.stretch_lines(k.min(L::STRETCH))
}

/// The elements of a stretch.
pub(crate) fn stretch_range<L: GemmLayout>(stretch: usize, k: usize) -> Range<usize> {
    stretch * L::STRETCH..k.min((stretch + 1) * L::STRETCH)
}
