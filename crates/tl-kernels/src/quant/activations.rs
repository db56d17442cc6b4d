//! Activations in blocks of 32 signed bytes with one scale: the other operand of integer dot products. They are made
//! tile by tile on the stack and never stored.

use crate::element::Element;
use crate::isa::instantiate;

/// Values that share a scale.
pub(crate) const BLOCK: usize = 32;

/// Rows of blocks: row `t` has the blocks `t * n_blocks ..`, and value `i` of block `b` is `scales[b] * values[b][i]`.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    /// The scale of each block.
    pub scales: &'a [f32],
    /// The values of each block, -127 to 127.
    pub values: &'a [[i8; BLOCK]],
}

impl<'a> Activations<'a> {
    /// The blocks of row `row`, of rows of `n_blocks`.
    #[inline(always)]
    pub(crate) fn row(&self, row: usize, n_blocks: usize) -> Activations<'a> {
        Activations {
            scales: &self.scales[row * n_blocks..][..n_blocks],
            values: &self.values[row * n_blocks..][..n_blocks],
        }
    }
}

instantiate! {
    /// Quantizes whole blocks of `x`: the scale is the largest size over 127, values are rounded to nearest. A block with
    /// an infinity or NaN gets a scale that is one, so that it is not lost.
    pub(crate) fn quantize_activations[X: Element](
        isa: Isa, x: &[X], scales: &mut [f32], values: &mut [[i8; BLOCK]],
    ) {
        let (blocks, rest) = x.as_chunks::<BLOCK>();
        assert!(rest.is_empty() && blocks.len() == scales.len() && blocks.len() == values.len());
        let mut floats = [0.0; BLOCK];
        for ((block, scale), values) in blocks.iter().zip(scales).zip(values) {
            X::load(isa, block, &mut floats);
            *scale = quantize_block(&floats, values);
        }
    }
}

/// Quantizes one block; returns its scale.
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
    use crate::testing::{Random, all_threads};

    fn check(x: &[f32]) {
        for threads in all_threads() {
            let n_blocks = x.len() / BLOCK;
            let (mut scales, mut values) = (vec![0.0; n_blocks], vec![[0; BLOCK]; n_blocks]);
            quantize_activations(threads.isa(), x, &mut scales, &mut values);
            for ((block, scale), values) in x.as_chunks::<BLOCK>().0.iter().zip(scales).zip(values) {
                for (x, value) in block.iter().zip(values) {
                    assert!(
                        (x - scale * f32::from(value)).abs() <= (scale * 0.50001).max(1e-30),
                        "{x} {scale} {value}"
                    );
                    assert_ne!(value, -128);
                }
            }
        }
    }

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
