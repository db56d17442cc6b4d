//! Products in `f32`: panels of `f32` against rows that are dequantized stretch by stretch.

use super::layout::{GemmLayout, LANES, Lanes, TILE_ROWS};
use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch, instantiate};
use crate::quant::arithmetic::Arithmetic;
use crate::quant::weight::WeightKernels;
use crate::scratch::Aligned;
use crate::workspace::Line;
use std::ops::Range;

/// Elements of a row that are dequantized at a time: two panels of them and the rows of a kernel fit the first-level cache.
pub(crate) const STRETCH: usize = 128;
/// Rows whose sums fit the registers of AVX-512 beside two panels.
pub(crate) const ROWS: usize = 12;

#[derive(Clone, Copy)]
pub(crate) struct FloatLayout<'a> {
    pub(crate) format: &'a WeightKernels,
}

impl GemmLayout for FloatLayout<'_> {
    const STRETCH: usize = STRETCH;
    const ROWS: usize = ROWS;
    type Session = ();
    type Row = Stretch;

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Float32
    }

    fn session(&self) {}

    fn stretch_lines(&self, n_elems: usize) -> usize {
        n_elems
    }

    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]) {
        pack(isa, x, k, range, bytemuck::cast_slice_mut(lines));
    }

    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Stretch) {
        let n_elems = self.format.n_elems(bytes.len());
        (self.format.dequantize)(isa, bytes, &mut row[..n_elems]);
    }

    fn multiply(&self, isa: Isa, (): &(), rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        dispatch!(isa, set => set.multiply_floats(rows, panels, sums));
    }
}

/// What an instruction set brings to products of floats.
pub(crate) trait FloatPanelKernels: Copy {
    /// See [`GemmLayout::multiply`].
    fn multiply_floats(self, rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(panels) {
                let x: &[Lanes] = bytemuck::cast_slice(x);
                let sums = &mut sums.as_chunks_mut::<ROWS>().0[g];
                for (row, sums) in rows.iter().zip(sums) {
                    let mut totals = *sums;
                    for (weight, x) in row.iter().zip(x) {
                        for (total, x) in totals.iter_mut().zip(x) {
                            *total += weight * x;
                        }
                    }
                    *sums = totals;
                }
            }
        }
    }
}

impl FloatPanelKernels for Portable {}

/// A stretch of a row of the weight.
pub(crate) type Stretch = [f32; STRETCH];

instantiate! {
    fn pack[X: Element](isa: Isa, x: &[X], k: usize, range: Range<usize>, panel: &mut [Lanes]) {
        let mut tokens = Aligned([[0.0; STRETCH]; LANES]);
        for (token, x) in tokens.0.iter_mut().zip(x.chunks_exact(k)) {
            X::load(isa, &x[range.clone()], &mut token[..range.len()]);
        }
        for (i, lanes) in panel.iter_mut().enumerate() {
            for (lane, token) in lanes.iter_mut().zip(&tokens.0) {
                *lane = token[i];
            }
        }
    }
}
