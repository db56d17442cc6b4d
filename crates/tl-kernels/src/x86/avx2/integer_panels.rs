//! Products of unpacked rows with panels of 8-bit integers.

use crate::quant::activations::{BLOCK, PanelBlock};
use crate::quant::gemm::integer::{IntegerPanelKernels, ROWS, blocks};
use crate::quant::gemm::layout::{Lanes, TILE_ROWS};
use crate::quant::stretch::Stretch;
use crate::workspace::Line;
use crate::x86::avx2::registers::load;
use crate::x86::level::Avx2;
use std::arch::x86_64::*;

impl IntegerPanelKernels for Avx2 {
    fn multiply_integers<const GROUP: usize, const MINIMA: bool>(
        self,
        rows: &[Stretch],
        offset: u8,
        panels: &[&[Line]],
        sums: &mut [[Lanes; TILE_ROWS]],
    ) {
        for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
            for (sums, x) in sums.iter_mut().zip(panels) {
                // SAFETY: the set proves avx2 and fma.
                unsafe { kernel::<GROUP, MINIMA>(rows, offset, blocks(x), &mut sums.as_chunks_mut().0[g]) };
            }
        }
    }
}

/// Rows whose sums fit the sixteen registers beside what they are made of.
const REGISTER_ROWS: usize = 3;

/// Six rows with a panel.
#[target_feature(enable = "avx2,fma")]
fn kernel<const GROUP: usize, const MINIMA: bool>(
    rows: &[Stretch; ROWS],
    offset: u8,
    x: &[PanelBlock],
    sums: &mut [Lanes; ROWS],
) {
    let (rows, _) = rows.as_chunks::<REGISTER_ROWS>();
    let (sums, _) = sums.as_chunks_mut::<REGISTER_ROWS>();
    for (rows, sums) in rows.iter().zip(sums) {
        if offset < 128 {
            multiply_rows::<GROUP, MINIMA, false>(rows, offset, x, sums);
        } else {
            multiply_rows::<GROUP, MINIMA, true>(rows, offset, x, sums);
        }
    }
}

/// `WIDE`: the weights need all eight bits, and two of their products with activations overflow 16 bits unless the
/// offset is taken off first; others take it off the sums.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn multiply_rows<const GROUP: usize, const MINIMA: bool, const WIDE: bool>(
    rows: &[Stretch; REGISTER_ROWS],
    offset: u8,
    x: &[PanelBlock],
    sums: &mut [Lanes; REGISTER_ROWS],
) {
    let ones = _mm256_set1_epi16(1);
    for (b, block) in x.iter().enumerate() {
        for half in 0..BLOCK / GROUP {
            let g = b * (BLOCK / GROUP) + half;
            let (corrections, _) = block.corrections[half].as_chunks::<8>();
            let start = [0, 1].map(|h| match MINIMA || WIDE {
                true => _mm256_setzero_si256(),
                false => load_i32(&corrections[h]),
            });
            let mut products = [start; REGISTER_ROWS];
            for step in 0..GROUP / 4 {
                let values: &[[i32; 8]; 2] = bytemuck::cast_ref(&block.values[half * GROUP / 4 + step]);
                let x = [load_i32(&values[0]), load_i32(&values[1])];
                for (products, row) in products.iter_mut().zip(rows) {
                    let four = [0, 1, 2, 3].map(|i| row.values[g * GROUP + step * 4 + i]);
                    let weights = _mm256_set1_epi32(i32::from_le_bytes(four));
                    for (product, x) in products.iter_mut().zip(x) {
                        let pairs = if WIDE {
                            let weights = _mm256_sub_epi8(weights, _mm256_set1_epi8(offset as i8));
                            _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(x, weights))
                        } else {
                            _mm256_maddubs_epi16(weights, x)
                        };
                        *product = _mm256_add_epi32(*product, _mm256_madd_epi16(pairs, ones));
                    }
                }
            }
            for ((products, row), sums) in products.iter().zip(rows).zip(&mut *sums) {
                let halves = sums.as_chunks_mut::<8>().0.iter_mut().zip(block.scales.as_chunks::<8>().0);
                for (h, (sums, scales)) in halves.enumerate() {
                    let product = _mm256_mul_ps(_mm256_cvtepi32_ps(products[h]), load(scales));
                    let mut total = _mm256_fmadd_ps(product, _mm256_set1_ps(row.scales[g]), load(sums));
                    if MINIMA {
                        let weighted = _mm256_castsi256_ps(load_i32(&corrections[h]));
                        total = _mm256_fmadd_ps(_mm256_set1_ps(row.minima[g]), weighted, total);
                    }
                    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
                    unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), total) };
                }
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_i32(values: &[i32; 8]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_loadu_si256(values.as_ptr().cast()) }
}
