//! Makes [activations](super::activations) of floats.

use super::activations::{BLOCK, GroupSize, LANES, MAX_GROUP, PanelBlock, RowStretch};
use super::stretch::STRETCH;
use super::weight::IntegerKernels;
use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch, instantiate};
use crate::scratch::Aligned;
use crate::threads::{Tile, Tiling};
use crate::workspace::Line;

instantiate! {
    /// Quantizes a group of a token's elements, a multiple of 32.
    pub(crate) fn quantize_group[X: Element](isa: Isa, x: &[X], group: &mut [RowStretch; MAX_GROUP]) {
        for (x, stretch) in x.chunks(STRETCH).zip(group) {
            assert!(x.len().is_multiple_of(BLOCK), "whole blocks");
            let mut floats = Aligned([[0.0; BLOCK]; STRETCH / BLOCK]);
            X::load(isa, x, &mut floats.0.as_flattened_mut()[..x.len()]);
            dispatch!(isa, set => set.quantize_blocks(&floats.0, stretch.values.as_chunks_mut().0, &mut stretch.scales));
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
            dispatch!(isa, set => set.quantize_blocks(&floats.0, &mut values, &mut block.scales));
            dispatch!(isa, set => set.interleave(&values, &mut block.values));
            correct_panel(format, block);
        }
    }
}

/// How lines for tokens of `k` elements are cut into tiles of a token each, whose rows are its groups. `n_tokens` lie side by side, group by
/// group; behind them lie the groups of as many others.
pub(crate) fn token_tiling(group: GroupSize, k: usize, n_tokens: usize) -> Tiling {
    let n_groups = group.n_groups(k);
    let (n_cols, tile_cols) = (n_tokens * group.lines, group.lines);
    Tiling { n_cols, group_rows: n_groups, row_step: 1, tile_rows: n_groups, tile_cols }
}

/// Quantizes a token for weights of a format. Row `g` of the tile is the token's group `g`.
///
/// What is left at the end of a token stands at the end of its last group, behind zeros, if there is a group before it: the rows of the
/// weight are then read so that the last piece ends where the row does.
pub(crate) fn prepare_token<X: Element>(isa: Isa, kernels: &IntegerKernels, x: &[X], tile: &mut Tile<'_, Line>) {
    let group_elems = (kernels.group_size)(isa).stretches * STRETCH;
    for (g, x) in x.chunks(group_elems).enumerate() {
        let mut group = [RowStretch::ZERO; MAX_GROUP];
        quantize_group(isa, x, &mut group);
        if g > 0 && x.len() < group_elems {
            group = at_the_end(&group, x.len() / BLOCK, group_elems / BLOCK);
        }
        (kernels.prepare)(isa, &group, tile.row_mut(g));
    }
}

/// The first `n_blocks` blocks moved to the end of the first `n_places`, behind zeros.
fn at_the_end(group: &[RowStretch; MAX_GROUP], n_blocks: usize, n_places: usize) -> [RowStretch; MAX_GROUP] {
    const BLOCKS: usize = STRETCH / BLOCK;
    let mut moved = [RowStretch::ZERO; MAX_GROUP];
    for from in 0..n_blocks {
        let to = n_places - n_blocks + from;
        let (source, target) = (&group[from / BLOCKS], &mut moved[to / BLOCKS]);
        let (from, to) = (from % BLOCKS, to % BLOCKS);
        target.values[to * BLOCK..][..BLOCK].copy_from_slice(&source.values[from * BLOCK..][..BLOCK]);
        target.scales[to] = source.scales[from];
        target.totals[to] = source.totals[from];
        target.sums[2 * to..][..2].copy_from_slice(&source.sums[2 * from..][..2]);
    }
    moved
}

/// What an instruction set brings to making activations.
pub(crate) trait QuantizeKernels: Copy {
    /// Quantizes each block; see [`quantize_block`].
    #[inline(always)]
    fn quantize_blocks<const N: usize>(self, x: &[[f32; BLOCK]; N], values: &mut [[i8; BLOCK]], scales: &mut [f32; N]) {
        for ((x, values), scale) in x.iter().zip(values).zip(scales) {
            *scale = quantize_block(x, values);
        }
    }

    /// The sums of 16 values each.
    #[inline(always)]
    fn sums_of_16(self, values: &[i8; STRETCH], sums: &mut [i32; STRETCH / 16]) {
        for (sum, values) in sums.iter_mut().zip(values.as_chunks::<16>().0) {
            *sum = values.iter().map(|&value| i32::from(value)).sum();
        }
    }

    /// Four elements of each token, step by step.
    #[inline(always)]
    fn interleave(self, values: &[[i8; BLOCK]; LANES], steps: &mut [[[i8; 4]; LANES]; BLOCK / 4]) {
        for (step, lanes) in steps.iter_mut().enumerate() {
            for (lane, values) in lanes.iter_mut().zip(values) {
                *lane = values.as_chunks().0[step];
            }
        }
    }
}

impl QuantizeKernels for Portable {}

/// Fills in the sums and totals of a stretch that is quantized.
#[inline(always)]
fn sum_row(isa: Isa, stretch: &mut RowStretch) {
    dispatch!(isa, set => set.sums_of_16(&stretch.values, &mut stretch.sums));
    let (pairs, _) = stretch.sums.as_chunks::<2>();
    for ((total, scale), [low, high]) in stretch.totals.iter_mut().zip(&stretch.scales).zip(pairs) {
        *total = scale * (low + high) as f32;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Quantizes one token as a row and as the third of a panel, and looks at every value, scale and sum.
    fn check(x: &[f32]) {
        let k = x.len();
        for isa in Isa::all() {
            let mut row = vec![[RowStretch::ZERO; MAX_GROUP]; k.div_ceil(MAX_GROUP * STRETCH)];
            for (x, group) in x.chunks(MAX_GROUP * STRETCH).zip(&mut row) {
                quantize_group(isa, x, group);
            }
            let row = row.as_flattened();
            let mut panel_lines = vec![Line([7; 64]); PanelBlock::n_lines(k)];
            let tokens = [vec![1.0; 2 * k], x.to_vec()].concat();
            if k > 0 {
                quantize_panel(isa, &tokens, k, 0, &Q4_0_LIKE, &mut panel_lines);
            }
            let panel: &[PanelBlock] = bytemuck::cast_slice(&panel_lines);
            for (i, x) in x.iter().enumerate() {
                let (stretch, within) = (&row[i / STRETCH], i % STRETCH);
                let (value, scale) = (stretch.values[within], stretch.scales[within / BLOCK]);
                let off = (x - scale * f32::from(value)).abs();
                assert!(off <= (scale * 0.50001).max(1e-30), "{x} {scale} {value}");
                assert_ne!(value, -128);
                let block = &panel[i / BLOCK];
                assert_eq!((block.values[i % BLOCK / 4][2][i % 4], block.scales[2]), (value, scale));
                assert_eq!((block.values[i % BLOCK / 4][3][i % 4], block.scales[3]), (0, 0.0));
            }
            for (b, block) in panel.iter().enumerate() {
                let stretch = &row[b / 8];
                let sum = stretch.sums[b % 8 * 2] + stretch.sums[b % 8 * 2 + 1];
                let values = &stretch.values[b % 8 * BLOCK..][..BLOCK];
                assert_eq!(sum, values.iter().map(|&value| i32::from(value)).sum::<i32>());
                assert_eq!(stretch.totals[b % 8], stretch.scales[b % 8] * sum as f32);
                assert_eq!([block.corrections[0][2], block.corrections[0][3]], [-8 * sum, 0]);
            }
        }
    }

    const Q4_0_LIKE: IntegerKernels = IntegerKernels {
        group: 32,
        offset: 8,
        has_minima: false,
        unpack: |_, _, _| (),
        group_size: |_| GroupSize::of::<1, RowStretch>(),
        prepare: |_, _, _| (),
        dot: |_, _, _, _| (),
    };

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
