//! Integer products: 8-bit panels against unpacked bytes; sums in `i32` within a group of the format, in `f32` across.

use super::layout::{GemmLayout, LANES, Lanes, TILE_ROWS};
use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch};
use crate::quant::activations::{BLOCK, PanelBlock};
use crate::quant::arithmetic::Arithmetic;
use crate::quant::quantize::quantize_panel;
use crate::quant::stretch::{self, Stretch};
use crate::quant::weight::IntegerKernels;
use crate::workspace::Line;
use std::ops::Range;

/// Rows whose sums fit the registers.
pub(crate) const ROWS: usize = 6;

#[derive(Clone, Copy)]
pub(crate) struct IntegerLayout {
    pub(crate) kernels: IntegerKernels,
}

impl GemmLayout for IntegerLayout {
    const STRETCH: usize = stretch::STRETCH;
    const ROWS: usize = ROWS;
    type Session = ();
    type Row = Stretch;

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Integer
    }

    fn session(&self) {}

    fn stretch_lines(&self, n_elems: usize) -> usize {
        PanelBlock::n_lines(n_elems)
    }

    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]) {
        quantize_panel(isa, x, k, range.start, &self.kernels, lines);
    }

    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Stretch) {
        (self.kernels.unpack)(isa, bytes, row);
    }

    fn multiply(&self, isa: Isa, (): &(), rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        let kernel = match (self.kernels.group, self.kernels.has_minima) {
            (BLOCK, false) => kernels::<BLOCK, false>,
            (BLOCK, true) => kernels::<BLOCK, true>,
            (_, false) => kernels::<16, false>,
            (_, true) => kernels::<16, true>,
        };
        kernel(isa, rows, self.kernels.offset, panels, sums);
    }
}

fn kernels<const GROUP: usize, const MINIMA: bool>(
    isa: Isa,
    rows: &[Stretch],
    offset: u8,
    panels: &[&[Line]],
    sums: &mut [[Lanes; TILE_ROWS]],
) {
    dispatch!(isa, set => set.multiply_integers::<GROUP, MINIMA>(rows, offset, panels, sums));
}

/// A panel as the blocks that it consists of.
pub(crate) fn blocks(panel: &[Line]) -> &[PanelBlock] {
    bytemuck::cast_slice(panel)
}

/// What an instruction set brings to products of integers.
pub(crate) trait IntegerPanelKernels: Copy {
    /// All row groups with one or two panels; see [`GemmLayout::multiply`].
    fn multiply_integers<const GROUP: usize, const MINIMA: bool>(
        self,
        rows: &[Stretch],
        _offset: u8,
        panels: &[&[Line]],
        sums: &mut [[Lanes; TILE_ROWS]],
    ) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(panels) {
                let sums = &mut sums.as_chunks_mut::<ROWS>().0[g];
                for (row, sums) in rows.iter().zip(sums) {
                    multiply_row::<GROUP, MINIMA>(row, blocks(x), sums);
                }
            }
        }
    }
}

impl IntegerPanelKernels for Portable {}

fn multiply_row<const GROUP: usize, const MINIMA: bool>(row: &Stretch, x: &[PanelBlock], sums: &mut Lanes) {
    let groups = row.values.as_chunks::<GROUP>().0;
    for (g, weights) in groups.iter().enumerate().take(x.len() * BLOCK / GROUP) {
        let block = &x[g * GROUP / BLOCK];
        let half = g % (BLOCK / GROUP);
        let corrections = &block.corrections[half];
        let mut products = if MINIMA { [0; LANES] } else { *corrections };
        let steps = block.values[half * GROUP / 4..][..GROUP / 4].iter();
        for (values, weights) in steps.zip(weights.as_chunks::<4>().0) {
            for (product, values) in products.iter_mut().zip(values) {
                for i in 0..4 {
                    *product += i32::from(weights[i]) * i32::from(values[i]);
                }
            }
        }
        for lane in 0..LANES {
            sums[lane] += row.scales[g] * block.scales[lane] * products[lane] as f32;
            if MINIMA {
                sums[lane] += row.minima[g] * f32::from_bits(corrections[lane] as u32);
            }
        }
    }
}
