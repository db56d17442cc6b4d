//! Activations in blocks of 32 signed bytes with one scale: the other operand of integer dot products. They are made once
//! per product, in the workspace of the threads: as rows for a few tokens, as panels of 16 tokens for many.
#![allow(unsafe_code)]

use super::block::{IntegerKernels, STRETCH};
use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::scratch::Aligned;
use crate::workspace::Line;
use bytemuck::{Pod, Zeroable};

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;
/// Tokens of a panel: the 32-bit lanes of a 512-bit register.
pub(crate) const LANES: usize = 16;

/// A stretch of one token: value `i` is `scales[i / 32] * values[i]`.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct RowStretch {
    /// -127 to 127; zeros beyond the end of the row.
    pub(crate) values: [i8; STRETCH],
    pub(crate) scales: [f32; STRETCH / BLOCK],
    /// The sum of each block as it is meant: the scale times the sum of the values. It is what a minimum is multiplied by.
    pub(crate) totals: [f32; STRETCH / BLOCK],
    /// The sums of 16 values each.
    pub(crate) sums: [i32; STRETCH / 16],
}

// SAFETY: arrays of 256, 32, 32 and 64 bytes at their alignment: 384 bytes without padding, and every pattern is a value.
unsafe impl Zeroable for RowStretch {}
// SAFETY: as above.
unsafe impl Pod for RowStretch {}

impl RowStretch {
    pub(crate) const ZERO: RowStretch = RowStretch {
        values: [0; STRETCH],
        scales: [0.0; STRETCH / BLOCK],
        totals: [0.0; STRETCH / BLOCK],
        sums: [0; STRETCH / 16],
    };

    /// The first `n_blocks` blocks of some stretches moved to their end, behind zeros.
    pub(crate) fn at_the_end<const N: usize>(stretches: [&RowStretch; N], n_blocks: usize) -> [RowStretch; N] {
        const BLOCKS: usize = STRETCH / BLOCK;
        let mut moved = [RowStretch::ZERO; N];
        for from in 0..n_blocks {
            let to = N * BLOCKS - n_blocks + from;
            let (source, target) = (stretches[from / BLOCKS], &mut moved[to / BLOCKS]);
            let (from, to) = (from % BLOCKS, to % BLOCKS);
            target.values[to * BLOCK..][..BLOCK].copy_from_slice(&source.values[from * BLOCK..][..BLOCK]);
            target.scales[to] = source.scales[from];
            target.totals[to] = source.totals[from];
            target.sums[2 * to..][..2].copy_from_slice(&source.sums[2 * from..][..2]);
        }
        moved
    }
}

/// One token's activations.
#[derive(Clone, Copy)]
pub(crate) struct Row<'a>(&'a [RowStretch]);

impl<'a> Row<'a> {
    /// The lines that a row of `k` elements takes.
    pub(crate) fn n_lines(k: usize) -> usize {
        k.div_ceil(STRETCH) * (size_of::<RowStretch>() / size_of::<Line>())
    }

    /// The row that [`quantize_row`] made.
    pub(crate) fn new(lines: &'a [Line]) -> Row<'a> {
        Row(bytemuck::cast_slice(lines))
    }

    #[inline(always)]
    pub(crate) fn stretches(self) -> &'a [RowStretch] {
        self.0
    }
}

/// A block of each of 16 tokens, so that a register holds the same four elements of all of them.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct PanelBlock {
    /// Four elements of each token, eight times.
    pub(crate) values: [[[i8; 4]; LANES]; BLOCK / 4],
    pub(crate) scales: [f32; LANES],
    /// What a format's offset or minimum is accounted by. For each half of the block and each token: minus the offset
    /// times the sum of the values; for formats with minima, the bits of the `f32` that is the scale times that sum.
    /// Formats with groups of 32 have the whole block in the first.
    pub(crate) corrections: [[i32; LANES]; 2],
}

// SAFETY: arrays of 512, 64 and 128 bytes: 704 bytes without padding, and every pattern is a value.
unsafe impl Zeroable for PanelBlock {}
// SAFETY: as above.
unsafe impl Pod for PanelBlock {}

impl PanelBlock {
    /// The lines that a panel of `k` elements, a multiple of the block, takes.
    pub(crate) fn n_lines(k: usize) -> usize {
        k / BLOCK * (size_of::<PanelBlock>() / size_of::<Line>())
    }
}

instantiate! {
    /// Quantizes a token, whose length is a multiple of 32, into the lines of a [`Row`].
    pub(crate) fn quantize_row[X: Element](isa: Isa, x: &[X], lines: &mut [Line]) {
        for (x, stretch) in x.chunks(STRETCH).zip(bytemuck::cast_slice_mut::<_, RowStretch>(lines)) {
            assert!(x.len().is_multiple_of(BLOCK), "whole blocks");
            let mut floats = Aligned([[0.0; BLOCK]; STRETCH / BLOCK]);
            X::load(isa, x, &mut floats.0.as_flattened_mut()[..x.len()]);
            quantize_blocks(isa, &floats.0, stretch.values.as_chunks_mut().0, &mut stretch.scales);
            sum_row(isa, stretch);
        }
    }

    /// Quantizes up to 16 tokens of `k` elements each, from `first` on, into the lines of a panel, as many blocks as these hold;
    /// missing tokens are zeros.
    pub(crate) fn quantize_panel[X: Element](
        isa: Isa, x: &[X], k: usize, first: usize, format: &IntegerKernels, lines: &mut [Line],
    ) {
        let blocks: &mut [PanelBlock] = bytemuck::cast_slice_mut(lines);
        let mut values = [[0; BLOCK]; LANES];
        let mut floats = Aligned([[0.0; BLOCK]; LANES]);
        for (b, block) in blocks.iter_mut().enumerate() {
            for (x, floats) in x.chunks_exact(k).zip(&mut floats.0) {
                X::load(isa, &x[first + b * BLOCK..][..BLOCK], floats);
            }
            quantize_blocks(isa, &floats.0, &mut values, &mut block.scales);
            interleave(isa, &values, &mut block.values);
            correct_panel(format, block);
        }
    }
}

/// Quantizes each block; see [`quantize_block`].
#[inline(always)]
fn quantize_blocks<const N: usize>(isa: Isa, x: &[[f32; BLOCK]; N], values: &mut [[i8; BLOCK]], scales: &mut [f32; N]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves AVX-512.
        return unsafe { avx512::quantize_blocks(x, values, scales) };
    }
    for ((x, values), scale) in x.iter().zip(values).zip(scales) {
        *scale = quantize_block(x, values);
    }
}

/// Fills in the sums and totals of a stretch that is quantized.
#[inline(always)]
fn sum_row(isa: Isa, stretch: &mut RowStretch) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves AVX-512.
        unsafe { avx512::sums_of_16(&stretch.values, &mut stretch.sums) };
    }
    if !isa.has_avx512() {
        for (sum, values) in stretch.sums.iter_mut().zip(stretch.values.as_chunks::<16>().0) {
            *sum = values.iter().map(|&value| i32::from(value)).sum();
        }
    }
    let (pairs, _) = stretch.sums.as_chunks::<2>();
    for ((total, scale), [low, high]) in stretch.totals.iter_mut().zip(&stretch.scales).zip(pairs) {
        *total = scale * (low + high) as f32;
    }
}

/// Four elements of each token, step by step.
#[inline(always)]
fn interleave(isa: Isa, values: &[[i8; BLOCK]; LANES], steps: &mut [[[i8; 4]; LANES]; BLOCK / 4]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves AVX-512.
        return unsafe { avx512::interleave(values, steps) };
    }
    for (step, lanes) in steps.iter_mut().enumerate() {
        for (lane, values) in lanes.iter_mut().zip(values) {
            *lane = values.as_chunks().0[step];
        }
    }
}

/// Fills in the corrections of a block whose values and scales are there.
#[inline(always)]
fn correct_panel(format: &IntegerKernels, block: &mut PanelBlock) {
    let mut sums = [[0i32; LANES]; 2];
    for (step, lanes) in block.values.iter().enumerate() {
        let sums = &mut sums[step / (BLOCK / 4 / 2)];
        for (sum, values) in sums.iter_mut().zip(lanes) {
            *sum += values.iter().map(|&value| i32::from(value)).sum::<i32>();
        }
    }
    if format.group == BLOCK {
        let [low, high] = &mut sums;
        low.iter_mut().zip(&*high).for_each(|(low, high)| *low += high);
        *high = [0; LANES];
    }
    let offset = -i32::from(format.offset);
    for (corrections, sums) in block.corrections.iter_mut().zip(&sums) {
        for ((correction, sum), scale) in corrections.iter_mut().zip(sums).zip(&block.scales) {
            *correction = if format.has_minima { (scale * *sum as f32).to_bits() as i32 } else { offset * sum };
        }
    }
}

/// Quantizes one block; returns its scale. The scale is the largest size over 127, values are rounded to nearest. A block with an
/// infinity or NaN gets a scale that is one, so that it is not lost.
#[inline(always)]
pub(crate) fn quantize_block(x: &[f32; BLOCK], values: &mut [i8; BLOCK]) -> f32 {
    // As integers, the sizes of floats keep their order, and NaN comes last.
    let bits = x.iter().fold(0, |max, x| max.max(x.to_bits() as i32 & i32::MAX));
    let largest = f32::from_bits(bits as u32);
    let inverse = if largest < 1e-30 { 0.0 } else { 127.0 / largest };
    // Adding 1.5 * 2^23 leaves the nearest integer in the low bits.
    for (value, x) in values.iter_mut().zip(x) {
        *value = (x * inverse + 12_582_912.0).to_bits() as i8;
    }
    largest / 127.0
}

#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{BLOCK, LANES, STRETCH};
    use crate::quant::dot::avx2::load_bytes;
    use crate::quant::dot::avx512::{load_16, load_64};
    use std::arch::x86_64::*;

    /// The largest values of eight blocks first, so that one division serves all of them.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(super) fn quantize_blocks<const N: usize>(
        x: &[[f32; BLOCK]; N],
        values: &mut [[i8; BLOCK]],
        scales: &mut [f32; N],
    ) {
        const { assert!(N.is_multiple_of(8)) };
        let eights = x.as_chunks::<8>().0.iter().zip(values.as_chunks_mut::<8>().0);
        for ((x, values), scales) in eights.zip(scales.as_chunks_mut::<8>().0) {
            let largest = largest_of_eight(x);
            let top = _mm256_set1_ps(127.0);
            let is_zero = _mm256_cmp_ps_mask::<_CMP_LT_OQ>(largest, _mm256_set1_ps(1e-30));
            let inverses = to_array(_mm256_mask_mov_ps(_mm256_div_ps(top, largest), is_zero, _mm256_setzero_ps()));
            *scales = to_array(_mm256_div_ps(largest, top));
            for ((x, values), inverse) in x.iter().zip(values).zip(inverses) {
                let (halves, _) = x.as_chunks::<16>();
                let inverse = _mm512_set1_ps(inverse);
                let low = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(load_16(&halves[0]), inverse)));
                let high = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(load_16(&halves[1]), inverse)));
                // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
                unsafe { _mm256_storeu_si256(values.as_mut_ptr().cast(), _mm256_set_m128i(high, low)) };
            }
        }
    }

    /// The size of the largest value of each block. As integers, the sizes of floats keep their order, and NaN comes last.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    fn largest_of_eight(x: &[[f32; BLOCK]; 8]) -> __m256 {
        let mut eights = [_mm256_setzero_si256(); 8];
        for (eight, x) in eights.iter_mut().zip(x) {
            let (halves, _) = x.as_chunks::<16>();
            let (low, high) = (_mm512_abs_ps(load_16(&halves[0])), _mm512_abs_ps(load_16(&halves[1])));
            let both = _mm512_max_epu32(_mm512_castps_si512(low), _mm512_castps_si512(high));
            *eight = _mm256_max_epu32(_mm512_castsi512_si256(both), _mm512_extracti64x4_epi64::<1>(both));
        }
        // Neighbours are joined until a lane is left of each.
        let mut pairs = [_mm256_setzero_si256(); 4];
        for (pair, [a, b]) in pairs.iter_mut().zip(eights.as_chunks::<2>().0) {
            *pair = _mm256_max_epu32(_mm256_unpacklo_epi32(*a, *b), _mm256_unpackhi_epi32(*a, *b));
        }
        let mut fours = [_mm256_setzero_si256(); 2];
        for (four, [a, b]) in fours.iter_mut().zip(pairs.as_chunks::<2>().0) {
            *four = _mm256_max_epu32(_mm256_unpacklo_epi64(*a, *b), _mm256_unpackhi_epi64(*a, *b));
        }
        let [a, b] = fours;
        let halves = (_mm256_permute2x128_si256::<0x20>(a, b), _mm256_permute2x128_si256::<0x31>(a, b));
        _mm256_castsi256_ps(_mm256_max_epu32(halves.0, halves.1))
    }

    #[inline]
    #[target_feature(enable = "avx")]
    fn to_array(eight: __m256) -> [f32; 8] {
        let mut array = [0.0; 8];
        // SAFETY: the array has the 32 bytes, and the instruction asks for no alignment.
        unsafe { _mm256_storeu_ps(array.as_mut_ptr(), eight) };
        array
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(super) fn sums_of_16(values: &[i8; STRETCH], sums: &mut [i32; STRETCH / 16]) {
        let ones = _mm512_set1_epi8(1);
        for (values, sums) in values.as_chunks::<64>().0.iter().zip(sums.as_chunks_mut::<4>().0) {
            let fours = _mm512_dpbusd_epi32(_mm512_setzero_si512(), ones, load_64(values));
            let pairs = _mm512_add_epi32(fours, _mm512_shuffle_epi32::<0b10_11_00_01>(fours));
            let all = _mm512_add_epi32(pairs, _mm512_shuffle_epi32::<0b01_00_11_10>(pairs));
            let first = _mm512_castsi512_si128(_mm512_maskz_compress_epi32(0x1111, all));
            // SAFETY: the reference covers the 16 bytes, and the instruction asks for no alignment.
            unsafe { _mm_storeu_si128(sums.as_mut_ptr().cast(), first) };
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
    pub(super) fn interleave(values: &[[i8; BLOCK]; LANES], steps: &mut [[[i8; 4]; LANES]; BLOCK / 4]) {
        use crate::vector::avx512::{store, transpose};
        // Half of a transposition: a token has but eight words.
        let rows = std::array::from_fn(|t| _mm512_castsi256_si512(load_bytes(&values[t])));
        for (lanes, column) in steps.iter_mut().zip(transpose(rows)) {
            store(lanes, column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Quantizes one token as a row and as the third of a panel, and looks at every value, scale and sum.
    fn check(x: &[f32]) {
        let k = x.len();
        for isa in Isa::all() {
            let mut lines = vec![Line([7; 64]); Row::n_lines(k)];
            quantize_row(isa, x, &mut lines);
            let row = Row::new(&lines);
            let mut panel_lines = vec![Line([7; 64]); PanelBlock::n_lines(k)];
            let tokens = [vec![1.0; 2 * k], x.to_vec()].concat();
            if k > 0 {
                quantize_panel(isa, &tokens, k, 0, &Q4_0_LIKE, &mut panel_lines);
            }
            let panel: &[PanelBlock] = bytemuck::cast_slice(&panel_lines);
            for (i, x) in x.iter().enumerate() {
                let (stretch, within) = (&row.stretches()[i / STRETCH], i % STRETCH);
                let (value, scale) = (stretch.values[within], stretch.scales[within / BLOCK]);
                let off = (x - scale * f32::from(value)).abs();
                assert!(off <= (scale * 0.50001).max(1e-30), "{x} {scale} {value}");
                assert_ne!(value, -128);
                let block = &panel[i / BLOCK];
                assert_eq!((block.values[i % BLOCK / 4][2][i % 4], block.scales[2]), (value, scale));
                assert_eq!((block.values[i % BLOCK / 4][3][i % 4], block.scales[3]), (0, 0.0));
            }
            for (b, block) in panel.iter().enumerate() {
                let stretch = &row.stretches()[b / 8];
                let sum = stretch.sums[b % 8 * 2] + stretch.sums[b % 8 * 2 + 1];
                let values = &stretch.values[b % 8 * BLOCK..][..BLOCK];
                assert_eq!(sum, values.iter().map(|&value| i32::from(value)).sum::<i32>());
                assert_eq!(stretch.totals[b % 8], stretch.scales[b % 8] * sum as f32);
                assert_eq!([block.corrections[0][2], block.corrections[0][3]], [-8 * sum, 0]);
            }
        }
    }

    const Q4_0_LIKE: IntegerKernels =
        IntegerKernels { group: 32, offset: 8, has_minima: false, unpack: |_, _, _| (), dot: |_, _, _, _| () };

    #[test]
    fn within_half_a_step() {
        let mut random = Random::new(1);
        for n_blocks in [0, 1, 3, 100] {
            check(&random.vec::<f32>(n_blocks * BLOCK));
        }
        check(&[0.0; BLOCK]);
        check(&[-3.5; BLOCK]);
        check(&[1e30; BLOCK]);
        check(&[1e-36; BLOCK]);
    }

    #[test]
    fn a_block_that_is_not_finite_stays_so() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = [1.0; BLOCK];
            x[7] = bad;
            assert!(!quantize_block(&x, &mut [0; BLOCK]).is_finite());
        }
    }
}
