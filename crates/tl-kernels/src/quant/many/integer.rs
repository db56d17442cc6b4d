//! Integer products: 8-bit panels against unpacked bytes; sums in `i32` within a group of the format, in `f32` across.
#![allow(unsafe_code)]

use super::{IntegerKernels, LANES, Lanes, TILE_ROWS, Way};
use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::quant::activations::{BLOCK, PanelBlock, quantize_panel};
use crate::quant::block::{self, Stretch};
use crate::workspace::Line;
use std::ops::Range;

/// Rows whose sums fit the registers.
const ROWS: usize = 6;

#[derive(Clone, Copy)]
pub(super) struct Integers {
    pub(super) kernels: IntegerKernels,
}

impl Way for Integers {
    const STRETCH: usize = block::STRETCH;
    const ROWS: usize = ROWS;
    type Session = ();
    type Row = Stretch;

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

/// All row groups with one or two panels.
fn kernels<const GROUP: usize, const MINIMA: bool>(
    isa: Isa,
    rows: &[Stretch],
    offset: u8,
    panels: &[&[Line]],
    sums: &mut [[Lanes; TILE_ROWS]],
) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves AVX-512.
        unsafe {
            match (sums, panels) {
                ([a, b], [x, x_b]) => avx512::kernels::<GROUP, MINIMA, 2>(rows, [blocks(x), blocks(x_b)], [a, b]),
                ([a], [x]) => avx512::kernels::<GROUP, MINIMA, 1>(rows, [blocks(x)], [a]),
                _ => unreachable!("one or two panels"),
            }
        }
        return;
    }
    for (g, rows) in rows.as_chunks::<ROWS>().0.iter().enumerate() {
        for (sums, x) in sums.iter_mut().zip(panels) {
            let x = blocks(x);
            let sums = &mut sums.as_chunks_mut::<ROWS>().0[g];
            #[cfg(target_arch = "x86_64")]
            if isa.has_avx2() {
                // SAFETY: this `Isa` proves avx2 and fma.
                unsafe { avx2::kernel::<GROUP, MINIMA>(rows, offset, x, sums) };
                continue;
            }
            for (row, sums) in rows.iter().zip(sums) {
                portable(isa, Groups::<GROUP, MINIMA>, row, x, sums);
            }
        }
    }
}

fn blocks(panel: &[Line]) -> &[PanelBlock] {
    bytemuck::cast_slice(panel)
}

struct Groups<const GROUP: usize, const MINIMA: bool>;

instantiate! {
    fn portable[const GROUP: usize, const MINIMA: bool](
        isa: Isa, groups: Groups<GROUP, MINIMA>, row: &Stretch, x: &[PanelBlock], sums: &mut Lanes,
    ) {
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
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{BLOCK, LANES, Lanes, PanelBlock, ROWS, Stretch, TILE_ROWS};
    use crate::quant::dot::avx512::load_16;
    use crate::vector::avx512::{load, store};
    use std::arch::x86_64::*;

    /// Elements that share scales on both sides are multiplied in fours.
    type Steps = [[i8; 4]; LANES];
    /// The sums of some rows with `N` panels.
    type Totals<const N: usize> = [[__m512; N]; ROWS];

    /// All rows, in groups of six, with `N` panels.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(super) fn kernels<const GROUP: usize, const MINIMA: bool, const N: usize>(
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
    const BLOCKS: usize = crate::quant::block::STRETCH / BLOCK;

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
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{BLOCK, Lanes, PanelBlock, ROWS, Stretch};
    use crate::vector::avx2::load;
    use std::arch::x86_64::*;

    /// Rows whose sums fit the sixteen registers beside what they are made of.
    const FEW: usize = 3;

    /// Six rows with a panel.
    #[target_feature(enable = "avx2,fma")]
    pub(super) fn kernel<const GROUP: usize, const MINIMA: bool>(
        rows: &[Stretch; ROWS],
        offset: u8,
        x: &[PanelBlock],
        sums: &mut [Lanes; ROWS],
    ) {
        let (rows, _) = rows.as_chunks::<FEW>();
        let (sums, _) = sums.as_chunks_mut::<FEW>();
        for (rows, sums) in rows.iter().zip(sums) {
            if offset < 128 {
                few::<GROUP, MINIMA, false>(rows, offset, x, sums);
            } else {
                few::<GROUP, MINIMA, true>(rows, offset, x, sums);
            }
        }
    }

    /// `WIDE`: the weights need all eight bits, and two of their products with activations overflow 16 bits unless the
    /// offset is taken off first; others take it off the sums.
    #[inline]
    #[target_feature(enable = "avx2,fma")]
    fn few<const GROUP: usize, const MINIMA: bool, const WIDE: bool>(
        rows: &[Stretch; FEW],
        offset: u8,
        x: &[PanelBlock],
        sums: &mut [Lanes; FEW],
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
                let mut products = [start; FEW];
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
}
