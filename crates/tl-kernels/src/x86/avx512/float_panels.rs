//! Products of dequantized rows with panels of floats.

use crate::quant::gemm::float::{FloatPanelKernels, ROWS, STRETCH, Stretch};
use crate::quant::gemm::layout::{LANES, Lanes, TILE_ROWS};
use crate::workspace::Line;
use crate::x86::avx512::registers::{load_16, pair, store};
use crate::x86::level::Avx512;
use std::arch::x86_64::*;

impl FloatPanelKernels for Avx512 {
    fn lanes(self, n_tokens: usize, k: usize) -> usize {
        if k.is_multiple_of(LANES) { LANES / n_tokens.next_power_of_two() } else { 1 }
    }

    fn multiply_floats(self, rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            if let ([a, b], [x, x_b]) = (&mut *sums, panels) {
                let x = [bytemuck::cast_slice(x), bytemuck::cast_slice(x_b)];
                let sums = [&mut a.as_chunks_mut().0[g], &mut b.as_chunks_mut().0[g]];
                // SAFETY: the set proves AVX-512.
                unsafe { kernel::<1, 2>(rows, x, sums) };
                continue;
            }
            for (sums, x) in sums.iter_mut().zip(panels) {
                // SAFETY: as above.
                unsafe { kernel::<1, 1>(rows, [bytemuck::cast_slice(x)], [&mut sums.as_chunks_mut().0[g]]) };
            }
        }
    }

    fn multiply_split_floats(self, rows: &[Stretch], panel: &[Line], lanes: usize, sums: &mut [Lanes; TILE_ROWS]) {
        let x: &[Lanes] = bytemuck::cast_slice(panel);
        for (rows, sums) in rows.as_chunks::<ROWS>().0.iter().zip(sums.as_chunks_mut::<ROWS>().0) {
            // SAFETY: the set proves AVX-512.
            unsafe {
                match lanes {
                    2 => kernel::<2, 1>(rows, [x], [sums]),
                    4 => kernel::<4, 1>(rows, [x], [sums]),
                    8 => kernel::<8, 1>(rows, [x], [sums]),
                    16 => kernel::<16, 1>(rows, [x], [sums]),
                    _ => unreachable!("{lanes} lanes"),
                }
            }
        }
    }
}

/// Twelve rows with `N` panels in which each token has `L` lanes, all sums in registers.
#[expect(clippy::needless_range_loop, reason = "the panels are walked side by side")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn kernel<const L: usize, const N: usize>(
    rows: &[[f32; STRETCH]; ROWS],
    x: [&[Lanes]; N],
    sums: [&mut [Lanes; ROWS]; N],
) {
    let n_lines = x[0].len().min(STRETCH / L);
    // Loops and no closures, of which the compiler now and then makes functions: it then keeps the totals in memory.
    let mut lines = x;
    let mut totals = [[_mm512_setzero_ps(); N]; ROWS];
    for p in 0..N {
        lines[p] = &x[p][..n_lines];
        for r in 0..ROWS {
            totals[r][p] = load_16(&sums[p][r]);
        }
    }
    for i in 0..n_lines {
        let mut x = [_mm512_setzero_ps(); N];
        for p in 0..N {
            x[p] = load_16(&lines[p][i]);
        }
        for (totals, row) in totals.iter_mut().zip(rows) {
            let weights = repeat(&row.as_chunks::<L>().0[i]);
            for (total, x) in totals.iter_mut().zip(x) {
                *total = _mm512_fmadd_ps(weights, x, *total);
            }
        }
    }
    for p in 0..N {
        for r in 0..ROWS {
            store(&mut sums[p][r], _mm512_castps_si512(totals[r][p]));
        }
    }
}

/// The values, over and over.
#[inline]
#[target_feature(enable = "avx512f,avx512dq")]
fn repeat<const L: usize>(values: &[f32; L]) -> __m512 {
    const { assert!(matches!(L, 1 | 2 | 4 | 8 | 16)) };
    match L {
        1 => _mm512_set1_ps(values[0]),
        2 => pair(&[values[0], values[1]]),
        // SAFETY: the reference covers the 16, 32 or 64 bytes, and the instructions ask for no alignment.
        4 => unsafe { _mm512_broadcast_f32x4(_mm_loadu_ps(values.as_ptr())) },
        // SAFETY: as above.
        8 => unsafe { _mm512_broadcast_f32x8(_mm256_loadu_ps(values.as_ptr())) },
        // SAFETY: as above.
        _ => unsafe { _mm512_loadu_ps(values.as_ptr()) },
    }
}
