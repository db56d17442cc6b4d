//! Q6_K: blocks of 256 elements (210 bytes): 128 bytes of low halves, 64 bytes of upper two bits, 16 signed bytes of scales for 16
//! elements each, and an `f16` for the scales. In each 128 elements, the low halves of 64 bytes are elements 0 to 63, the high ones 64
//! to 127; bits `2i` and `2i + 1` of byte `j` of 32 belong to element `32i + j`. value = scale * (level - 32). Source: the GGML
//! formats of GGUF.

use super::search::{inverse, round_to_level, signed_scale};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 256;
pub(crate) const BYTES: usize = 210;
/// Where the upper bits, the scales and their scale are.
pub(crate) const UPPER: usize = 128;
pub(crate) const SCALES: usize = 192;
pub(crate) const SCALE: usize = 208;

/// Q6_K, 6.6 bits per weight.
pub static Q6_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q6_K;
    const NAME: &str = "q6_k";
    const ID: u32 = 14;
    const FILE_TYPE: u32 = 18;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 16;
    const OFFSET: u8 = 32;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        let scale = half_at(isa, block, SCALE);
        for (out, byte) in scales.iter_mut().zip(&block[SCALES..SCALE]) {
            *out = scale * f32::from(*byte as i8);
        }
        let parts = block[..UPPER].chunks_exact(64).zip(block[UPPER..SCALES].chunks_exact(32));
        for (values, (halves, upper)) in values.chunks_exact_mut(128).zip(parts) {
            for (i, values) in values.chunks_exact_mut(32).enumerate() {
                for (j, value) in values.iter_mut().enumerate() {
                    let half = halves[i % 2 * 32 + j] >> (i / 2 * 4) & 15;
                    *value = half | (upper[j] >> (2 * i) & 3) << 4;
                }
            }
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (groups, _) = x.as_chunks::<16>();
        let wanted: [f32; 16] = std::array::from_fn(|g| signed_scale(&groups[g], 32));
        let largest = wanted.iter().fold(0.0, |max: f32, &s| if s.abs() > max.abs() { s } else { max });
        let scale = store_half(block, SCALE, largest / -128.0);
        let mut levels = [0u8; ELEMS];
        for (g, (x, levels)) in groups.iter().zip(levels.as_chunks_mut::<16>().0).enumerate() {
            let byte = round_to_level(wanted[g] * inverse(scale), -128, 127) as i8;
            block[SCALES + g] = byte as u8;
            let inverse = inverse(scale * f32::from(byte));
            for (x, level) in x.iter().zip(levels) {
                *level = (round_to_level(x * inverse, -32, 31) + 32) as u8;
            }
        }
        for (part, levels) in levels.as_chunks::<128>().0.iter().enumerate() {
            for j in 0..64 {
                block[part * 64 + j] = levels[j] & 15 | (levels[64 + j] & 15) << 4;
            }
            for j in 0..32 {
                block[UPPER + part * 32 + j] = (0..4).fold(0, |bits, i| bits | levels[32 * i + j] >> 4 << (2 * i));
            }
        }
    }
}
