//! MXFP4: blocks of a byte and 16 bytes of halves as in Q4_0 (17 bytes). The byte is an exponent of two (E8M0), each half a float
//! of four bits (E2M1): a sign and one of eight sizes. value = 2^(byte - 128) * twice the float, a whole number. Source: OCP
//! Microscaling Formats 1.0, and the GGML formats of GGUF, in which a byte of 255 is a power of two like the others.

use super::nibbles::{pack_halves, unpack_halves};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 17;

/// Twice the sizes; half 8 and those behind it are the same below zero.
const SIZES: [u8; 8] = [0, 1, 2, 3, 4, 6, 8, 12];
/// What is added to the levels to make them unsigned.
pub(crate) const OFFSET: u8 = 16;
/// The levels with the offset.
pub(crate) const UNSIGNED: [u8; 16] = {
    let mut unsigned = [0; 16];
    let mut i = 0;
    while i < 8 {
        unsigned[i] = OFFSET + SIZES[i];
        unsigned[8 + i] = OFFSET - SIZES[i];
        i += 1;
    }
    unsigned
};
/// The first exponent whose power of two is a normal number; the bits of the power of exponent 0.
pub(crate) const FIRST_NORMAL: u8 = 2;
pub(crate) const BITS_OF_ZERO: u32 = 1 << 21;

/// MXFP4, 4.25 bits per weight.
pub static MXFP4: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::MXFP4;
    const NAME: &str = "mxfp4";
    const ID: u32 = 39;
    const FILE_TYPE: u32 = 38;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = OFFSET;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(_isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = power(block[0]);
        unpack_halves(&block[1..], values);
        for value in values {
            *value = UNSIGNED[usize::from(*value & 15)];
        }
    }

    /// The format's own rule: the exponent of the largest size is that of the largest value.
    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let largest = x.iter().fold(0.0, |max: f32, x| max.max(x.abs()));
        // The largest size is 1.5 * 2^2. An infinity has no exponent.
        let exponent = (largest.to_bits() >> 23) as u8;
        block[0] = if largest.is_finite() { exponent.saturating_sub(2) } else { 0 };
        let scale = power(block[0]);
        pack_halves(&mut block[1..], |j| nearest(x[j] / scale));
    }
}

/// 2^(exponent - 128).
#[inline(always)]
fn power(exponent: u8) -> f32 {
    let bits = match exponent < FIRST_NORMAL {
        true => BITS_OF_ZERO << exponent,
        false => (u32::from(exponent) - 1) << 23,
    };
    f32::from_bits(bits)
}

/// The number of the level next to `x`, of two that are as near the smaller one.
fn nearest(x: f32) -> i32 {
    let size = x.abs();
    let number =
        SIZES.windows(2).take_while(|pair| f32::from(pair[0]) + f32::from(pair[1]) < 2.0 * size).count() as i32;
    if x < 0.0 && number > 0 { 8 + number } else { number }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Random, all_threads};
    use crate::{Weight, linear};

    /// From the smallest scale, below the normal numbers, to the largest.
    #[test]
    fn every_exponent() {
        let levels: [f64; ELEMS] = std::array::from_fn(|j| f64::from(UNSIGNED[j * 5 % 16]) - f64::from(OFFSET));
        for exponent in 0..=255 {
            let scale = (f64::from(exponent) - 128.0).exp2();
            let mut block = [exponent; BYTES];
            pack_halves(&mut block[1..], |j| (j * 5 % 16) as i32);
            let mut values = [0.0; ELEMS];
            (MXFP4.dequantize)(Isa::detect(), &block, &mut values);
            assert_eq!(values, levels.map(|level| (scale * level) as f32), "{exponent}");
            // Activations that are not rounded, and bring the weights near one: all sums are exact.
            let near_one = scale.recip().clamp((-100f64).exp2(), 100f64.exp2());
            let whole = |j: usize| if j == 0 { 127.0 } else { (j * 37 % 251) as f64 - 125.0 };
            let x: [f32; ELEMS] = std::array::from_fn(|j| (whole(j) * near_one) as f32);
            let sum: f64 = levels.iter().enumerate().map(|(j, level)| level * whole(j)).sum();
            for threads in all_threads() {
                let mut y = [f32::NAN];
                linear(&threads, &x, 1, ELEMS, Weight { bytes: &block, format: &MXFP4 }, None, 1, &mut y);
                assert_eq!(f64::from(y[0]), sum * scale * near_one, "{exponent} {threads:?}");
            }
        }
    }

    #[test]
    fn the_nearest_level() {
        let level = |number: i32| i32::from(UNSIGNED[number as usize]) - i32::from(OFFSET);
        let mut random = Random::new(3);
        for x in (0..2000).map(|_| random.unit() * 16.0).chain([0.0, -0.0, 5.0, -5.0, 12.0, -13.0, 0.5, f32::MIN]) {
            let found = (level(nearest(x)) as f32 - x).abs();
            let least = (0..16).map(|number| (level(number) as f32 - x).abs()).fold(f32::INFINITY, f32::min);
            assert_eq!(found, least, "{x}");
        }
        assert_eq!([5.0, -5.0, 0.5, -0.25].map(nearest), [4, 12, 0, 0]);
    }
}
