//! Products of `bf16` tiles with AMX, summed in `f32`.
//!
//! Weights of small integers and their activations are rounded to `bf16`: eight bits each, as in the integer products, but of
//! every value instead of the largest in a block, which is nearer. Weights that are floats are not rounded: they and
//! their activations are split into `bf16` parts that add up to them, and all parts are multiplied with all.
#![allow(unsafe_code)]

use super::{AnyWay, LANES, Lanes, Product, TILE_ROWS, Way};
use crate::amx::{Session, TILE};
use crate::element::{Element, load};
use crate::isa::Isa;
use crate::quant::block::{STRETCH, Stretch};
use crate::quant::{Dot, IntegerKernels, WeightKernels};
use crate::scratch::Aligned;
use crate::workspace::Line;
use bytemuck::Zeroable;
use std::ops::Range;

/// Elements of a step: 64 bytes of `bf16`.
const STEP: usize = 32;
/// The most parts of a weight and of an activation.
const MAX_WEIGHT_PARTS: usize = 2;
const MAX_PARTS: usize = 3;
/// Rows that are multiplied at once: two tiles.
const ROWS: usize = 2 * TILE;

#[derive(Clone, Copy)]
pub(super) struct Tiles<'a, const PARTS: usize> {
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
    apart: [u16; STEP],
}

// SAFETY: numbers, of which zeros are values.
unsafe impl<const PARTS: usize> Zeroable for Row<PARTS> {}

/// How many `bf16` parts of a weight are multiplied with how many of activations `X`, where there are tiles and they are
/// faster.
pub(super) fn parts<X: Element>(isa: Isa, format: &WeightKernels) -> Option<[usize; 2]> {
    match format.dot {
        _ if !isa.has_amx() => None,
        Dot::Integer(_) => Some([1, 1]),
        Dot::Float(kernels) if kernels.bf16_parts <= MAX_WEIGHT_PARTS => Some([kernels.bf16_parts, X::BF16_PARTS]),
        Dot::Float(_) => None,
    }
}

/// The way of tiles for a product, where it is the way.
pub(super) fn way<'a, X: Element>(isa: Isa, product: &Product<'a>) -> Option<AnyWay<'a>> {
    let format = product.weight.format;
    let [weight_parts, activation_parts] = parts::<X>(isa, format)?;
    let integers = match format.dot {
        Dot::Integer(kernels) => Some(kernels),
        Dot::Float(_) => None,
    };
    Some(match weight_parts {
        1 => AnyWay::Tiles(Tiles { format, integers, activation_parts }),
        _ => AnyWay::SplitTiles(Tiles { format, integers, activation_parts }),
    })
}

impl<const PARTS: usize> Way for Tiles<'_, PARTS> {
    const STRETCH: usize = STRETCH;
    const ROWS: usize = ROWS;
    type Session = Session;
    type Row = Row<PARTS>;

    fn session(&self) -> Session {
        // SAFETY: only `way` makes this, where `parts` saw an `Isa` that proves AMX.
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
        // SAFETY: only `way` makes this, where `parts` saw an `Isa` that proves AMX, and with it AVX-512 BF16.
        unsafe { avx512::pack(&tokens.0, self.activation_parts, bytemuck::cast_slice_mut(lines)) };
    }

    fn unpack(&self, isa: Isa, bytes: &[u8], row: &mut Row<PARTS>) {
        let n_elems = bytes.len() / self.format.block_bytes * self.format.block_elems;
        let Some(kernels) = self.integers else {
            let mut values = Aligned([0.0; STRETCH]);
            (self.format.dequantize)(isa, bytes, &mut values.0[..n_elems]);
            // SAFETY: as in `pack`.
            return unsafe { avx512::split_row(&values.0, n_elems.next_multiple_of(STEP), &mut row.parts) };
        };
        let mut stretch = Stretch::ZERO;
        (kernels.unpack)(isa, bytes, &mut stretch);
        // SAFETY: as in `pack`.
        unsafe { avx512::round_stretch(&stretch, &kernels, &mut row.parts[0]) };
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

pub(super) mod avx512 {
    use super::{LANES, MAX_PARTS, STEP, STRETCH};
    use crate::quant::IntegerKernels;
    use crate::quant::block::Stretch;
    use crate::quant::dot::avx2::load_half;
    use crate::vector::avx512::{load, store, transpose};
    use std::arch::x86_64::*;

    /// Interleaves the elements of 16 tokens by pairs, part after part.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
    pub(in super::super) fn pack(tokens: &[[f32; STRETCH]; LANES], n_parts: usize, lines: &mut [[u32; LANES]]) {
        let part_lines = lines.len() / n_parts;
        for step in 0..part_lines / (STEP / 2) {
            let mut parts = [[_mm512_setzero_si512(); LANES]; MAX_PARTS];
            for (t, token) in tokens.iter().enumerate() {
                for (p, part) in split(token.as_chunks::<STEP>().0, step, n_parts).into_iter().enumerate() {
                    parts[p][t] = part;
                }
            }
            for (p, part) in parts.into_iter().enumerate().take(n_parts) {
                let lines = &mut lines[p * part_lines + step * (STEP / 2)..][..STEP / 2];
                for (line, column) in lines.iter_mut().zip(transpose(part)) {
                    store(line, column);
                }
            }
        }
    }

    /// The parts of the first `n_elems` elements, a multiple of the step.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
    pub(in super::super) fn split_row<const PARTS: usize>(
        values: &[f32; STRETCH],
        n_elems: usize,
        row: &mut [[u16; STRETCH]; PARTS],
    ) {
        for step in 0..n_elems / STEP {
            let parts = split(values.as_chunks::<STEP>().0, step, PARTS);
            for (row, part) in row.iter_mut().zip(parts) {
                store_step(&mut row.as_chunks_mut::<STEP>().0[step], part);
            }
        }
    }

    /// A step as `bf16` parts that add up to it. The last part is rounded to nearest; the others are cut off, so that what
    /// they leave is exact.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
    fn split(steps: &[[f32; STEP]], step: usize, n_parts: usize) -> [__m512i; MAX_PARTS] {
        let (halves, _) = steps[step].as_chunks::<16>();
        let mut rest = [0, 1].map(|h| _mm512_castsi512_ps(load(&halves[h])));
        let upper = _mm512_set1_epi32(0xFFFF_0000_u32 as i32);
        let mut parts = [_mm512_setzero_si512(); MAX_PARTS];
        for (p, out) in parts.iter_mut().enumerate().take(n_parts) {
            let part = match p + 1 == n_parts {
                true => rest,
                false => rest.map(|x| _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), upper))),
            };
            rest = [0, 1].map(|h| _mm512_sub_ps(rest[h], part[h]));
            *out = bits(_mm512_cvtne2ps_pbh(part[1], part[0]));
        }
        parts
    }

    /// The values of a stretch of small integers, rounded.
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma,f16c")]
    pub(super) fn round_stretch(stretch: &Stretch, kernels: &IntegerKernels, row: &mut [u16; STRETCH]) {
        let offset = f32::from(kernels.offset);
        let blocks = stretch.values.as_chunks::<STEP>().0.iter().zip(row.as_chunks_mut::<STEP>().0);
        for (b, (values, row)) in blocks.enumerate() {
            let groups = if kernels.group == STEP { [b, b] } else { [2 * b, 2 * b + 1] };
            let (halves, _) = values.as_chunks::<16>();
            let half = |h: usize| {
                let value = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_half(&halves[h])));
                let scale = stretch.scales[groups[h]];
                // The offset is a power of two: this is exact.
                let minimum = if kernels.has_minima { stretch.minima[groups[h]] } else { -(offset * scale) };
                _mm512_fmadd_ps(value, _mm512_set1_ps(scale), _mm512_set1_ps(minimum))
            };
            store_step(row, bits(_mm512_cvtne2ps_pbh(half(1), half(0))));
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn store_step(row: &mut [u16; STEP], values: __m512i) {
        // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
        unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), values) };
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn bits(values: __m512bh) -> __m512i {
        // SAFETY: both are 64 bytes at the same alignment, and every pattern of bits is a value.
        unsafe { (&raw const values).cast::<__m512i>().read() }
    }
}
