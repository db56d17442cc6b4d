//! Products in `f32`: panels of `f32` against rows that are dequantized stretch by stretch.
#![allow(unsafe_code)]

use super::{LANES, Lanes, TILE_ROWS, Way};
use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::quant::WeightKernels;
use crate::scratch::Aligned;
use crate::workspace::Line;
use std::ops::Range;

/// Elements of a row that are dequantized at a time: two panels of them and the rows of a kernel fit the first-level cache.
const STRETCH: usize = 128;
/// Rows whose sums fit the registers of AVX-512 beside two panels.
const ROWS: usize = 12;

#[derive(Clone, Copy)]
pub(super) struct Floats<'a> {
    pub(super) format: &'a WeightKernels,
}

impl Way for Floats<'_> {
    const STRETCH: usize = STRETCH;
    const ROWS: usize = ROWS;
    type Session = ();
    type Row = Stretch;

    fn session(&self) {}

    fn stretch_lines(&self, n_elems: usize) -> usize {
        n_elems
    }

    fn lanes(&self, isa: Isa, n_tokens: usize, k: usize) -> usize {
        if isa.has_avx512() && k.is_multiple_of(LANES) { LANES / n_tokens.next_power_of_two() } else { 1 }
    }

    fn pack<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lines: &mut [Line]) {
        pack(isa, x, k, range, bytemuck::cast_slice_mut(lines));
    }

    fn pack_few<X: Element>(&self, isa: Isa, x: &[X], k: usize, range: Range<usize>, lanes: usize, lines: &mut [Line]) {
        pack_few(isa, x, k, range, lanes, bytemuck::cast_slice_mut(lines));
    }

    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Stretch) {
        let n_elems = bytes.len() / self.format.block_bytes * self.format.block_elems;
        (self.format.dequantize)(isa, bytes, &mut row[..n_elems]);
    }

    fn multiply(&self, isa: Isa, (): &(), rows: &[Stretch], panels: &[&[Line]], sums: &mut [[Lanes; TILE_ROWS]]) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            #[cfg(target_arch = "x86_64")]
            if isa.has_avx512()
                && let ([a, b], [x, x_b]) = (&mut *sums, panels)
            {
                let x = [bytemuck::cast_slice(x), bytemuck::cast_slice(x_b)];
                let sums = [&mut a.as_chunks_mut().0[g], &mut b.as_chunks_mut().0[g]];
                // SAFETY: this `Isa` proves AVX-512.
                unsafe { avx512::kernel::<1, 2>(rows, x, sums) };
                continue;
            }
            for (sums, x) in sums.iter_mut().zip(panels) {
                let x: &[Lanes] = bytemuck::cast_slice(x);
                let sums = &mut sums.as_chunks_mut::<ROWS>().0[g];
                #[cfg(target_arch = "x86_64")]
                if isa.has_avx512() {
                    // SAFETY: this `Isa` proves AVX-512.
                    unsafe { avx512::kernel::<1, 1>(rows, [x], [sums]) };
                    continue;
                }
                #[cfg(target_arch = "x86_64")]
                if isa.has_avx2() {
                    // SAFETY: this `Isa` proves avx2 and fma.
                    unsafe { avx2::kernel(rows, x, sums) };
                    continue;
                }
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

    #[cfg(target_arch = "x86_64")]
    fn multiply_few(&self, rows: &[Stretch], panel: &[Line], lanes: usize, sums: &mut [Lanes; TILE_ROWS]) {
        let x: &[Lanes] = bytemuck::cast_slice(panel);
        for (rows, sums) in rows.as_chunks::<ROWS>().0.iter().zip(sums.as_chunks_mut::<ROWS>().0) {
            // SAFETY: `lanes` gives more than one only where the `Isa` proves AVX-512.
            unsafe {
                match lanes {
                    2 => avx512::kernel::<2, 1>(rows, [x], [sums]),
                    4 => avx512::kernel::<4, 1>(rows, [x], [sums]),
                    8 => avx512::kernel::<8, 1>(rows, [x], [sums]),
                    16 => avx512::kernel::<16, 1>(rows, [x], [sums]),
                    _ => unreachable!("{lanes} lanes"),
                }
            }
        }
    }
}

/// A stretch of a row of the weight.
type Stretch = [f32; STRETCH];

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

    fn pack_few[X: Element](
        isa: Isa, x: &[X], k: usize, range: Range<usize>, n_lanes: usize, panel: &mut [Lanes],
    ) {
        panel.fill([0.0; LANES]);
        for (t, x) in x.chunks_exact(k).enumerate() {
            let elements = x[range.clone()].chunks_exact(n_lanes);
            for (lanes, elements) in panel.iter_mut().zip(elements) {
                X::load(isa, elements, &mut lanes[t * n_lanes..][..n_lanes]);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{Lanes, ROWS, STRETCH};
    use crate::quant::dot::avx512::load_16;
    use crate::vector::avx512::{pair, store};
    use std::arch::x86_64::*;

    /// Twelve rows with `N` panels in which each token has `L` lanes, all sums in registers.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(super) fn kernel<const L: usize, const N: usize>(
        rows: &[[f32; STRETCH]; ROWS],
        x: [&[Lanes]; N],
        mut sums: [&mut [Lanes; ROWS]; N],
    ) {
        let n_lines = x[0].len().min(STRETCH / L);
        let x: [&[Lanes]; N] = std::array::from_fn(|p| &x[p][..n_lines]);
        let mut totals: [[__m512; N]; ROWS] = std::array::from_fn(|r| std::array::from_fn(|p| load_16(&sums[p][r])));
        for i in 0..n_lines {
            let x: [__m512; N] = std::array::from_fn(|p| load_16(&x[p][i]));
            for (totals, row) in totals.iter_mut().zip(rows) {
                let weights = repeat(&row.as_chunks::<L>().0[i]);
                for (total, x) in totals.iter_mut().zip(x) {
                    *total = _mm512_fmadd_ps(weights, x, *total);
                }
            }
        }
        for (p, sums) in sums.iter_mut().enumerate() {
            for (sums, totals) in sums.iter_mut().zip(&totals) {
                store(sums, _mm512_castps_si512(totals[p]));
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
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{Lanes, ROWS, STRETCH};
    use crate::vector::avx2::load;
    use std::arch::x86_64::*;

    /// Rows whose sums fit the sixteen registers beside a panel.
    const HALF: usize = 6;

    /// Twelve rows with a panel.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn kernel(rows: &[[f32; STRETCH]; ROWS], x: &[Lanes], sums: &mut [Lanes; ROWS]) {
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
}
