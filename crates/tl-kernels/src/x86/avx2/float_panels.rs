//! Products of dequantized rows with panels of floats.

use crate::quant::gemm::float::{FloatPanelKernels, ROWS, STRETCH, Stretch};
use crate::quant::gemm::layout::{Lanes, TILE_ROWS};
use crate::workspace::Line;
use crate::x86::avx2::registers::load;
use crate::x86::level::Avx2;
use std::arch::x86_64::*;

impl FloatPanelKernels for Avx2 {
    fn multiply_floats(self, rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(panels) {
                // SAFETY: the set proves avx2 and fma.
                unsafe { kernel(rows, bytemuck::cast_slice(x), &mut sums.as_chunks_mut().0[g]) };
            }
        }
    }
}

/// Rows whose sums fit the sixteen registers beside a panel.
const HALF: usize = 6;

/// Twelve rows with a panel.
#[target_feature(enable = "avx2,fma")]
fn kernel(rows: &[[f32; STRETCH]; ROWS], x: &[Lanes], sums: &mut [Lanes; ROWS]) {
    let (rows, _) = rows.as_chunks::<HALF>();
    for (rows, sums) in rows.iter().zip(sums.as_chunks_mut::<HALF>().0) {
        half(rows, x, sums);
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn half(rows: &[[f32; STRETCH]; HALF], x: &[Lanes], sums: &mut [Lanes; HALF]) {
    let x = &x[..x.len().min(STRETCH)];
    let load_both = |lanes: &Lanes| {
        let (halves, _) = lanes.as_chunks::<8>();
        [load(&halves[0]), load(&halves[1])]
    };
    let mut totals: [[__m256; 2]; HALF] = std::array::from_fn(|r| load_both(&sums[r]));
    for (i, x) in x.iter().enumerate() {
        let x = load_both(x);
        for (total, row) in totals.iter_mut().zip(rows) {
            let weight = _mm256_set1_ps(row[i]);
            total[0] = _mm256_fmadd_ps(weight, x[0], total[0]);
            total[1] = _mm256_fmadd_ps(weight, x[1], total[1]);
        }
    }
    for (sums, totals) in sums.iter_mut().zip(totals) {
        for (sums, total) in sums.as_chunks_mut::<8>().0.iter_mut().zip(totals) {
            // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), total) };
        }
    }
}
