//! Products of weights that are floats in `bf16`, where that was chosen: weights and activations are rounded, sums are `f32`. Twice as
//! many multiply-adds an instruction as in `f32`.

use crate::element::{Element, load};
use crate::isa::Isa;
use crate::quant::arithmetic::Arithmetic;
use crate::quant::gemm::layout::{GemmLayout, LANES, Lanes, TILE_ROWS};
use crate::quant::stretch::STRETCH;
use crate::quant::weight::{Dot, WeightKernels};
use crate::scratch::Aligned;
use crate::workspace::Line;
use crate::x86::avx512::bf16::{STEP, pack, split_row};
use crate::x86::avx512::registers::{load as load_line, load_16, store};
use crate::x86::level::Avx512;
use std::arch::x86_64::*;
use std::ops::Range;

/// Rows whose sums fit the registers beside two panels.
const ROWS: usize = 12;

#[derive(Clone, Copy)]
pub(super) struct PairLayout<'a> {
    format: &'a WeightKernels,
}

/// A stretch of a row, as bits of `bf16`.
type Row = [u16; STRETCH];

impl<'a> PairLayout<'a> {
    /// The layout for weights of this format, where the set rounds them.
    pub(super) fn new(set: Avx512, format: &'a WeightKernels) -> Option<Self> {
        let is_short = matches!(format.dot, Dot::Float(kernels) if kernels.bf16_parts <= 2);
        (set.rounds_floats() && is_short).then_some(PairLayout { format })
    }
}

impl GemmLayout for PairLayout<'_> {
    const STRETCH: usize = STRETCH;
    const ROWS: usize = ROWS;
    type Session = ();
    type Row = Row;

    fn arithmetic(&self) -> Arithmetic {
        Arithmetic::Bfloat16
    }

    fn session(&self) {}

    fn stretch_lines(&self, n_elems: usize) -> usize {
        n_elems.next_multiple_of(STEP) / 2
    }

    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]) {
        let mut tokens = Aligned([[0.0; STRETCH]; LANES]);
        for (token, x) in tokens.0.iter_mut().zip(x.chunks_exact(k)) {
            load(isa, &x[range.clone()], &mut token[..range.len()]);
        }
        // SAFETY: only `new` makes a layout, from a set that proves AVX-512 BF16.
        unsafe { pack(&tokens.0, 1, bytemuck::cast_slice_mut(lines)) };
    }

    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Row) {
        let n_elems = self.format.n_elems(bytes.len());
        let mut values = Aligned([0.0; STRETCH]);
        (self.format.dequantize)(isa, bytes, &mut values.0[..n_elems]);
        // SAFETY: as in `pack`.
        unsafe { split_row(&values.0, n_elems.next_multiple_of(STEP), std::array::from_mut(row)) };
    }

    fn multiply(&self, _isa: Isa, (): &(), rows: &[Row], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        // SAFETY: as in `pack`.
        unsafe {
            match (sums, panels) {
                ([a, b], [x, x_b]) => kernels(rows, [bytemuck::cast_slice(x), bytemuck::cast_slice(x_b)], [a, b]),
                ([a], [x]) => kernels(rows, [bytemuck::cast_slice(x)], [a]),
                _ => unreachable!("one or two panels"),
            }
        }
    }
}

/// All rows with `N` panels. A line of a panel has two elements of each token.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
fn kernels<const N: usize>(rows: &[Row], x: [&[[u32; LANES]]; N], sums: [&mut [Lanes; TILE_ROWS]; N]) {
    let n_lines = x[0].len().min(STRETCH / 2);
    for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
        let mut totals = [[_mm512_setzero_ps(); N]; ROWS];
        for p in 0..N {
            for r in 0..ROWS {
                totals[r][p] = load_16(&sums[p][g * ROWS + r]);
            }
        }
        for i in 0..n_lines {
            let mut values = [pairs(_mm512_setzero_si512()); N];
            for p in 0..N {
                values[p] = pairs(load_line(&x[p][i]));
            }
            for (totals, row) in totals.iter_mut().zip(rows) {
                let both = i32::from(row[2 * i]) | i32::from(row[2 * i + 1]) << 16;
                let weights = pairs(_mm512_set1_epi32(both));
                for p in 0..N {
                    totals[p] = _mm512_dpbf16_ps(totals[p], weights, values[p]);
                }
            }
        }
        for p in 0..N {
            for r in 0..ROWS {
                store(&mut sums[p][g * ROWS + r], _mm512_castps_si512(totals[r][p]));
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes at the same alignment, and every pattern of bits is a value.
    unsafe { (&raw const bits).cast::<__m512bh>().read() }
}
