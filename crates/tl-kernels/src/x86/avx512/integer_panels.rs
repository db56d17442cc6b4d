//! Products of unpacked rows with panels of 8-bit integers.

use crate::quant::activations::{BLOCK, PanelBlock};
use crate::quant::gemm::integer::{IntegerPanelKernels, ROWS, blocks};
use crate::quant::gemm::layout::{LANES, Lanes, TILE_ROWS};
use crate::quant::stretch::{STRETCH, Stretch};
use crate::workspace::Line;
use crate::x86::avx512::registers::{load, load_16, store};
use crate::x86::level::Avx512;
use std::arch::x86_64::*;

impl IntegerPanelKernels for Avx512 {
    fn multiply_integers<const GROUP: usize, const MINIMA: bool>(
        self,
        rows: &[Stretch],
        _offset: u8,
        panels: &[&[Line]],
        sums: &mut [[Lanes; TILE_ROWS]],
    ) {
        // SAFETY: the set proves AVX-512.
        unsafe {
            match (sums, panels) {
                ([a, b], [x, x_b]) => kernels::<GROUP, MINIMA, 2>(rows, [blocks(x), blocks(x_b)], [a, b]),
                ([a], [x]) => kernels::<GROUP, MINIMA, 1>(rows, [blocks(x)], [a]),
                _ => unreachable!("one or two panels"),
            }
        }
    }
}

/// Elements that share scales on both sides are multiplied in fours.
type Steps = [[i8; 4]; LANES];
/// The sums of some rows with `N` panels.
type Totals<const N: usize> = [[__m512; N]; ROWS];

/// All rows, in groups of six, with `N` panels.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn kernels<const GROUP: usize, const MINIMA: bool, const N: usize>(
    rows: &[Stretch],
    x: [&[PanelBlock]; N],
    sums: [&mut [Lanes; TILE_ROWS]; N],
) {
    for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
        let mut totals = [[_mm512_setzero_ps(); N]; ROWS];
        for p in 0..N {
            for r in 0..ROWS {
                totals[r][p] = load_16(&sums[p][g * ROWS + r]);
            }
        }
        // A short stretch has as many blocks in each panel.
        for (b, (first, last)) in x[0].iter().zip(x[N - 1]).enumerate().take(BLOCKS) {
            let mut blocks = [first; N];
            blocks[N - 1] = last;
            if GROUP == BLOCK {
                add_group::<0, 8, MINIMA, N>(rows, b, b * BLOCK, blocks, &mut totals);
            } else {
                add_group::<0, 4, MINIMA, N>(rows, 2 * b, b * BLOCK, blocks, &mut totals);
                add_group::<4, 4, MINIMA, N>(rows, 2 * b + 1, b * BLOCK + 16, blocks, &mut totals);
            }
        }
        for p in 0..N {
            for r in 0..ROWS {
                store(&mut sums[p][g * ROWS + r], _mm512_castps_si512(totals[r][p]));
            }
        }
    }
}

/// Blocks of a stretch.
const BLOCKS: usize = STRETCH / BLOCK;

/// Adds the products of group `g` of the rows, whose weights begin at `first`, with the `STEPS` steps of the panels' blocks from
/// `STEP` on. The sums of the group are in registers, as are the totals.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn add_group<const STEP: usize, const STEPS: usize, const MINIMA: bool, const N: usize>(
    rows: &[Stretch; ROWS],
    g: usize,
    first: usize,
    x: [&PanelBlock; N],
    totals: &mut Totals<N>,
) {
    let half = STEP / 4;
    let mut products = [[_mm512_setzero_si512(); N]; ROWS];
    for products in &mut products {
        for p in 0..N {
            if !MINIMA {
                products[p] = load(&x[p].corrections[half]);
            }
        }
    }
    // Two steps to a turn, which the compiler does not do by itself.
    for pair in 0..STEPS / 2 {
        for step in [2 * pair, 2 * pair + 1] {
            let mut values = [_mm512_setzero_si512(); N];
            for p in 0..N {
                values[p] = load_steps(&x[p].values[STEP + step]);
            }
            for (products, row) in products.iter_mut().zip(rows) {
                let weights = four(row, first + step * 4);
                for p in 0..N {
                    products[p] = _mm512_dpbusd_epi32(products[p], weights, values[p]);
                }
            }
        }
    }
    let mut x_scales = [_mm512_setzero_ps(); N];
    let mut weighted = [_mm512_setzero_ps(); N];
    for p in 0..N {
        x_scales[p] = load_16(&x[p].scales);
        weighted[p] = _mm512_castsi512_ps(load(&x[p].corrections[half]));
    }
    for (row, (products, totals)) in rows.iter().zip(products.iter().zip(totals)) {
        let scale = _mm512_set1_ps(row.scales[g]);
        for p in 0..N {
            let product = _mm512_mul_ps(_mm512_cvtepi32_ps(products[p]), x_scales[p]);
            totals[p] = _mm512_fmadd_ps(product, scale, totals[p]);
            if MINIMA {
                totals[p] = _mm512_fmadd_ps(_mm512_set1_ps(row.minima[g]), weighted[p], totals[p]);
            }
        }
    }
}

/// Four weights from `at` on, in every lane.
#[inline]
#[target_feature(enable = "avx512f")]
fn four(row: &Stretch, at: usize) -> __m512i {
    let [a, b, c, d] = [row.values[at], row.values[at + 1], row.values[at + 2], row.values[at + 3]];
    _mm512_set1_epi32(i32::from_le_bytes([a, b, c, d]))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_steps(values: &Steps) -> __m512i {
    load::<i32>(bytemuck::cast_ref(values))
}
