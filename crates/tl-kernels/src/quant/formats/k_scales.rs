//! The 12 bytes in which Q4_K and Q5_K keep eight scales and eight minima of six bits, and what else the two share.

use super::search::{inverse, round_to_level, scale_and_minimum};
use crate::array::{array, array_mut};
use crate::isa::Isa;
use crate::quant::half::{half_at, store_half};

/// Sub-blocks of 32 elements.
pub(crate) const SUBS: usize = 8;

/// The six-bit scales, then the minima.
#[inline(always)]
fn six_bits(bytes: &[u8; 12]) -> ([u8; SUBS], [u8; SUBS]) {
    let (mut scales, mut minima) = ([0; SUBS], [0; SUBS]);
    for i in 0..4 {
        scales[i] = bytes[i] & 63;
        minima[i] = bytes[4 + i] & 63;
        scales[4 + i] = bytes[8 + i] & 15 | bytes[i] >> 6 << 4;
        minima[4 + i] = bytes[8 + i] >> 4 | bytes[4 + i] >> 6 << 4;
    }
    (scales, minima)
}

fn pack_six_bits(scales: &[u8; SUBS], minima: &[u8; SUBS], bytes: &mut [u8; 12]) {
    for i in 0..4 {
        bytes[i] = scales[i] | scales[4 + i] >> 4 << 6;
        bytes[4 + i] = minima[i] | minima[4 + i] >> 4 << 6;
        bytes[8 + i] = scales[4 + i] & 15 | minima[4 + i] << 4;
    }
}

/// Scales and (negative) minima from the first 16 bytes of a block: an `f16` for the scales, one for the minima, and 12 bytes.
#[inline(always)]
pub(crate) fn unpack_scales(isa: Isa, block: &[u8], scales: &mut [f32], minima: &mut [f32]) {
    let (scale, minimum) = (half_at(isa, block, 0), half_at(isa, block, 2));
    let (six_scales, six_minima) = six_bits(array(&block[4..16]));
    for i in 0..SUBS {
        scales[i] = scale * f32::from(six_scales[i]);
        minima[i] = -(minimum * f32::from(six_minima[i]));
    }
}

/// Chooses and stores the scales and minima of 256 values, and returns the level of each, 0 to `top`.
pub(crate) fn quantize_levels(x: &[f32; 256], top: i32, block: &mut [u8]) -> [u8; 256] {
    let (subs, _) = x.as_chunks::<32>();
    let mut wanted = [(0.0, 0.0); SUBS];
    for (wanted, x) in wanted.iter_mut().zip(subs) {
        let (scale, minimum) = scale_and_minimum(x, top, true);
        *wanted = (scale, -minimum);
    }
    let largest = |part: fn(&(f32, f32)) -> f32| wanted.iter().map(part).fold(0.0, f32::max) / 63.0;
    let scale = store_half(block, 0, largest(|(scale, _)| *scale));
    let minimum = store_half(block, 2, largest(|(_, minimum)| *minimum));
    let (mut scales, mut minima) = ([0; SUBS], [0; SUBS]);
    for (i, wanted) in wanted.iter().enumerate() {
        scales[i] = round_to_level(wanted.0 * inverse(scale), 0, 63) as u8;
        minima[i] = round_to_level(wanted.1 * inverse(minimum), 0, 63) as u8;
    }
    pack_six_bits(&scales, &minima, array_mut(&mut block[4..16]));
    let mut levels = [0; 256];
    for (i, (x, levels)) in subs.iter().zip(levels.as_chunks_mut::<32>().0).enumerate() {
        let (scale, minimum) = (scale * f32::from(scales[i]), minimum * f32::from(minima[i]));
        let inverse = inverse(scale);
        for (x, level) in x.iter().zip(levels) {
            *level = round_to_level((x + minimum) * inverse, 0, top) as u8;
        }
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_come_back() {
        for seed in 0..64u8 {
            let scales = std::array::from_fn(|i| (seed + 9 * i as u8) % 64);
            let minima = std::array::from_fn(|i| (seed ^ 63).wrapping_add(23 * i as u8) % 64);
            let mut bytes = [0; 12];
            pack_six_bits(&scales, &minima, &mut bytes);
            assert_eq!(six_bits(&bytes), (scales, minima));
        }
    }
}
