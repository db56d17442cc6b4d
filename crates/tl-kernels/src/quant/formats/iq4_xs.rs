//! IQ4_XS: blocks of 256 elements (136 bytes): an `f16` for the scales, 16 bits with the upper two of the scales of eight
//! sub-blocks of 32 elements, four bytes with their lower four, and for each sub-block 16 bytes of halves as in IQ4_NL, each the
//! number of one of its levels. value = scale * (six bits - 32) * level. Source: the GGML formats of GGUF.

use super::iq4_nl::{LEVELS, OFFSET, look_up, nearest};
use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, round_to_level, table_scale};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 256;
pub(crate) const BYTES: usize = 136;
/// Sub-blocks of 32 elements.
const SUBS: usize = 8;
/// Where the upper and the lower bits of the scales, and the numbers are.
pub(crate) const UPPER: usize = 2;
pub(crate) const LOWER: usize = 4;
pub(crate) const NUMBERS: usize = 8;

/// IQ4_XS, 4.3 bits per weight.
pub static IQ4_XS: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

/// The scales, from -32 to 31.
#[inline(always)]
fn six_bits(block: &[u8]) -> [i8; SUBS] {
    let upper = u16::from_le_bytes([block[UPPER], block[UPPER + 1]]);
    let mut scales = [0; SUBS];
    for (i, scale) in scales.iter_mut().enumerate() {
        let low = block[LOWER + i / 2] >> (i % 2 * 4) & 15;
        *scale = (low | ((upper >> (2 * i) & 3) as u8) << 4) as i8 - 32;
    }
    scales
}

fn pack_six_bits(scales: &[i8; SUBS], block: &mut [u8]) {
    block[UPPER..NUMBERS].fill(0);
    for (i, scale) in scales.iter().enumerate() {
        let six = (scale + 32) as u8;
        block[UPPER + i / 4] |= six >> 4 << (i % 4 * 2);
        block[LOWER + i / 2] |= (six & 15) << (i % 2 * 4);
    }
}

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::IQ4_XS;
    const NAME: &str = "iq4_xs";
    const ID: u32 = 23;
    const FILE_TYPE: u32 = 30;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = OFFSET;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        let scale = half_at(isa, block, 0);
        for (out, six) in scales.iter_mut().zip(six_bits(block)) {
            *out = scale * f32::from(six);
        }
        for (bytes, values) in block[NUMBERS..].chunks_exact(16).zip(values.chunks_exact_mut(32)) {
            unpack_halves(bytes, values);
        }
        look_up(values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (subs, _) = x.as_chunks::<32>();
        let wanted: [f32; SUBS] = std::array::from_fn(|i| table_scale(&subs[i], &LEVELS, nearest));
        let largest = wanted.iter().fold(0.0, |max: f32, &s| if s.abs() > max.abs() { s } else { max });
        let scale = store_half(block, 0, largest / -32.0);
        let sixes = wanted.map(|wanted| round_to_level(wanted * inverse(scale), -32, 31) as i8);
        pack_six_bits(&sixes, block);
        for ((x, six), bytes) in subs.iter().zip(sixes).zip(block[NUMBERS..].chunks_exact_mut(16)) {
            let inverse = inverse(scale * f32::from(six));
            pack_halves(bytes, |j| nearest(x[j] * inverse));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_bits_come_back() {
        for seed in 0..64 {
            let scales = std::array::from_fn(|i| ((seed + 23 * i) % 64) as i8 - 32);
            let mut block = [0xFF; NUMBERS];
            pack_six_bits(&scales, &mut block);
            assert_eq!(six_bits(&block), scales);
        }
    }
}
