//! Products of dequantized rows with panels of floats.

use crate::quant::gemm::float::{FloatPanelKernels, ROWS, STRETCH, Stretch};
use crate::quant::gemm::layout::{Lanes, TILE_ROWS};
use crate::workspace::Line;
use crate::x86::avx512::registers::{load_16, store};
use crate::x86::level::Avx512;
use std::arch::x86_64::*;

impl FloatPanelKernels for Avx512 {
    fn multiply_floats(self, rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            if let ([a, b], [x, x_b]) = (&mut *sums, panels) {
                let x = [bytemuck::cast_slice(x), bytemuck::cast_slice(x_b)];
                let sums = [&mut a.as_chunks_mut().0[g], &mut b.as_chunks_mut().0[g]];
                // SAFETY: the set proves AVX-512.
                unsafe { kernel::<2>(rows, x, sums) };
                continue;
            }
            for (sums, x) in sums.iter_mut().zip(panels) {
                // SAFETY: as above.
                unsafe { kernel::<1>(rows, [bytemuck::cast_slice(x)], [&mut sums.as_chunks_mut().0[g]]) };
            }
        }
    }
}

/// Twelve rows with `N` panels, all sums in registers.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn kernel<const N: usize>(rows: &[[f32; STRETCH]; ROWS], x: [&[Lanes]; N], sums: [&mut [Lanes; ROWS]; N]) {
    let n_lines = x[0].len().min(STRETCH);
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
            let weights = _mm512_set1_ps(row[i]);
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
