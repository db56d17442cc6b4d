//! Products of `bf16` tiles with AMX, summed in `f32`.
//!
//! Weights of small integers and their activations are rounded to `bf16`: eight bits each, as in the integer products, but of
//! every value instead of the largest in a block, which is nearer. Weights that are floats are not rounded: they and
//! their activations are split into `bf16` parts that add up to them, and all parts are multiplied with all.

use crate::element::{Element, load};
use crate::isa::Isa;
use crate::quant::arithmetic::Arithmetic;
use crate::quant::gemm::layout::{GemmLayout, LANES, Lanes, TILE_ROWS};
use crate::quant::stretch::{STRETCH, Stretch};
use crate::quant::weight::{Dot, IntegerKernels, WeightKernels};
use crate::scratch::Aligned;
use crate::workspace::Line;
use crate::x86::amx::{Session, TILE};
use crate::x86::avx512::bf16::{MAX_PARTS, STEP, pack, round_stretch, split_row};
use crate::x86::level::Avx512;
use bytemuck::Zeroable;
use std::ops::Range;

/// The most parts of a weight.
const MAX_WEIGHT_PARTS: usize = 2;
/// Rows that are multiplied at once: two tiles.
const ROWS: usize = 2 * TILE;

#[derive(Clone, Copy)]
pub(super) struct TileLayout<'a, const PARTS: usize> {
    format: &'a WeightKernels,
    /// How the format is unpacked, if it is one of small integers.
    integers: Option<IntegerKernels>,
    activation_parts: usize,
}

/// A stretch of a row: its parts, as bits of `bf16`. The line at its end makes the lines of a row an odd number, so that the
/// same step of many rows finds room in a cache.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Row<const PARTS: usize> {
    parts: [[u16; STRETCH]; PARTS],
    padding: [u16; STEP],
}

// SAFETY: numbers, of which zeros are values.
unsafe impl<const PARTS: usize> Zeroable for Row<PARTS> {}

/// How many `bf16` parts of a weight are multiplied with how many of activations `X`, where tiles are faster.
pub(super) fn parts<X: Element>(format: &WeightKernels) -> Option<[usize; 2]> {
    match format.dot {
        Dot::Integer(_) => Some([1, 1]),
        Dot::Float(kernels) if kernels.bf16_parts <= MAX_WEIGHT_PARTS => Some([kernels.bf16_parts, X::BF16_PARTS]),
        Dot::Float(_) => None,
    }
}

impl<'a, const PARTS: usize> TileLayout<'a, PARTS> {
    /// For weights of a format of `PARTS` parts.
    ///
    /// # Panics
    /// If the set has no tiles.
    pub(super) fn new(set: Avx512, format: &'a WeightKernels, activation_parts: usize) -> Self {
        assert!(set.has_tiles(), "AMX");
        let integers = match format.dot {
            Dot::Integer(kernels) => Some(kernels),
            Dot::Float(_) => None,
        };
        TileLayout { format, integers, activation_parts }
    }
}

impl<const PARTS: usize> GemmLayout for TileLayout<'_, PARTS> {
    const STRETCH: usize = STRETCH;
    const ROWS: usize = ROWS;
    type Session = Session;
    type Row = Row<PARTS>;

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Tiles { products: PARTS * self.activation_parts }
    }

    fn session(&self) -> Session {
        // SAFETY: only `new` makes a layout, from a set that proves AMX.
        unsafe { Session::new() }
    }

    fn stretch_lines(&self, n_elems: usize) -> usize {
        self.activation_parts * n_elems.next_multiple_of(STEP) / 2
    }

    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]) {
        let mut tokens = Aligned([[0.0; STRETCH]; LANES]);
        for (token, x) in tokens.0.iter_mut().zip(x.chunks_exact(k)) {
            load(isa, &x[range.clone()], &mut token[..range.len()]);
        }
        // SAFETY: only `new` makes a layout, from a set that proves AMX, and with it AVX-512 BF16.
        unsafe { pack(&tokens.0, self.activation_parts, bytemuck::cast_slice_mut(lines)) };
    }

    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Row<PARTS>) {
        let n_elems = self.format.n_elems(bytes.len());
        let Some(kernels) = self.integers else {
            let mut values = Aligned([0.0; STRETCH]);
            (self.format.dequantize)(isa, bytes, &mut values.0[..n_elems]);
            // SAFETY: as in `pack`.
            return unsafe { split_row(&values.0, n_elems.next_multiple_of(STEP), &mut row.parts) };
        };
        let mut stretch = Stretch::ZERO;
        (kernels.unpack)(isa, bytes, &mut stretch);
        // SAFETY: as in `pack`.
        unsafe { round_stretch(&stretch, &kernels, &mut row.parts[0]) };
    }

    fn multiply(
        &self,
        _isa: Isa,
        session: &Session,
        rows: &[Row<PARTS>],
        panels: &[&[Line]],
        sums: &mut [[Lanes; TILE_ROWS]],
    ) {
        let part_lines = panels[0].len() / self.activation_parts;
        let mut table = [[0; 2]; STRETCH / STEP * MAX_WEIGHT_PARTS * MAX_PARTS];
        const { assert!(PARTS <= MAX_WEIGHT_PARTS) };
        let mut n_steps = 0;
        for weight_part in 0..PARTS {
            for activation_part in 0..self.activation_parts {
                for step in 0..part_lines / (STEP / 2) {
                    let line = activation_part * part_lines + step * (STEP / 2);
                    let elem = weight_part * STRETCH + step * STEP;
                    table[n_steps] = [elem * size_of::<u16>(), line * size_of::<Line>()];
                    n_steps += 1;
                }
            }
        }
        // A single panel is multiplied twice, once for nothing.
        let mut unused = [[0.0; LANES]; ROWS];
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            let (x, sums) = match (&mut *sums, panels) {
                ([a, b], [x, other]) => {
                    ([*x, *other], [&mut a.as_chunks_mut::<ROWS>().0[g], &mut b.as_chunks_mut::<ROWS>().0[g]])
                }
                ([a, ..], [x, ..]) => ([*x, *x], [&mut a.as_chunks_mut::<ROWS>().0[g], &mut unused]),
                _ => continue,
            };
            assert!(x[0].len() == x[1].len() && part_lines * 2 <= STRETCH, "panels of one stretch");
            // SAFETY: 32 rows and 32 sums each; the offsets of a step stay inside a row, and its lines inside a panel.
            unsafe {
                session.multiply(
                    rows.as_ptr().cast(),
                    size_of::<Row<PARTS>>(),
                    x.map(|lines| lines.as_ptr().cast()),
                    &table[..n_steps],
                    sums.map(|sums| sums.as_mut_ptr()),
                );
            }
        }
    }
}
