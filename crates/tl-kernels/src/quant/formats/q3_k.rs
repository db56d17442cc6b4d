//! Q3_K: blocks of 256 elements (110 bytes): 32 bytes of third bits (bit `s` of byte `j` is that of element `j` of sub-block `s` of
//! 32), 64 bytes of pairs of bits, 12 bytes with 16 scales of six bits for 16 elements each, and an `f16` for the scales.
//! value = scale * (six bits - 32) * (level - 4). Source: the GGML formats of GGUF.

use super::search::{inverse, round_to_level, signed_scale};
use super::two_bits::{pack_pairs, unpack_pairs};
use crate::array::{array, array_mut};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 256;
pub(crate) const BYTES: usize = 110;
/// Where the pairs of bits, the scales and their scale are.
pub(crate) const PAIRS: usize = 32;
pub(crate) const SCALES: usize = 96;
pub(crate) const SCALE: usize = 108;

/// Q3_K, 3.4 bits per weight.
pub static Q3_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

/// The scales, from -32 to 31: the lower four bits of `i` and `i + 8` share byte `i`, the upper two of `i`, `i + 4`, `i + 8` and
/// `i + 12` byte `8 + i`.
#[inline(always)]
fn six_bits(bytes: &[u8; 12]) -> [i8; 16] {
    let mut scales = [0; 16];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = bytes[i % 8] >> (i / 8 * 4) & 15;
        let high = bytes[8 + i % 4] >> (i / 4 * 2) & 3;
        *scale = (low | high << 4) as i8 - 32;
    }
    scales
}

fn pack_six_bits(scales: &[i8; 16], bytes: &mut [u8; 12]) {
    bytes.fill(0);
    for (i, scale) in scales.iter().enumerate() {
        let six = (scale + 32) as u8;
        bytes[i % 8] |= (six & 15) << (i / 8 * 4);
        bytes[8 + i % 4] |= six >> 4 << (i / 4 * 2);
    }
}

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q3_K;
    const NAME: &str = "q3_k";
    const ID: u32 = 11;
    const FILE_TYPE: u32 = 11;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 16;
    const OFFSET: u8 = 4;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        let scale = half_at(isa, block, SCALE);
        for (out, six) in scales.iter_mut().zip(six_bits(array(&block[SCALES..SCALE]))) {
            *out = scale * f32::from(six);
        }
        unpack_pairs(&block[PAIRS..SCALES], values);
        for (sub, values) in values.chunks_exact_mut(32).enumerate() {
            for (value, bits) in values.iter_mut().zip(&block[..PAIRS]) {
                *value |= (bits >> sub & 1) << 2;
            }
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (groups, _) = x.as_chunks::<16>();
        let wanted: [f32; 16] = std::array::from_fn(|g| signed_scale(&groups[g], 4));
        let largest = wanted.iter().fold(0.0, |max: f32, &s| if s.abs() > max.abs() { s } else { max });
        let scale = store_half(block, SCALE, largest / -32.0);
        let (mut sixes, mut levels) = ([0; 16], [0; ELEMS]);
        for (g, (x, levels)) in groups.iter().zip(levels.as_chunks_mut::<16>().0).enumerate() {
            sixes[g] = round_to_level(wanted[g] * inverse(scale), -32, 31) as i8;
            let inverse = inverse(scale * f32::from(sixes[g]));
            for (x, level) in x.iter().zip(levels) {
                *level = (round_to_level(x * inverse, -4, 3) + 4) as u8;
            }
        }
        pack_six_bits(&sixes, array_mut(&mut block[SCALES..SCALE]));
        pack_pairs(&levels, &mut block[PAIRS..SCALES]);
        block[..PAIRS].fill(0);
        for (sub, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
            for (bits, level) in block[..PAIRS].iter_mut().zip(levels) {
                *bits |= (level >> 2) << sub;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_come_back() {
        for seed in 0..64u8 {
            let scales = std::array::from_fn(|i| ((usize::from(seed) + 9 * i) % 64) as i8 - 32);
            let mut bytes = [0xFF; 12];
            pack_six_bits(&scales, &mut bytes);
            assert_eq!(six_bits(&bytes), scales);
        }
    }
}
