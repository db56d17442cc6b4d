//! IQ4_NL: blocks of an `f16` scale and 16 bytes of halves as in Q4_0 (18 bytes), each the number of one of 16 levels that lie
//! closer together near zero; value = scale * level. Source: the GGML formats of GGUF.

use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, table_scale};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 18;

/// The levels.
pub(crate) const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];
/// What is added to the levels to make them unsigned.
pub(crate) const OFFSET: u8 = 128;
/// The levels with the offset.
pub(crate) const UNSIGNED: [u8; 16] = {
    let mut unsigned = [0; 16];
    let mut i = 0;
    while i < 16 {
        unsigned[i] = LEVELS[i] as u8 ^ OFFSET;
        i += 1;
    }
    unsigned
};

/// IQ4_NL, 4.5 bits per weight.
pub static IQ4_NL: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::IQ4_NL;
    const NAME: &str = "iq4_nl";
    const ID: u32 = 20;
    const FILE_TYPE: u32 = 25;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = OFFSET;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        unpack_halves(&block[2..], values);
        look_up(values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let inverse = inverse(store_half(block, 0, table_scale(x, &LEVELS, nearest)));
        pack_halves(&mut block[2..], |j| nearest(x[j] * inverse));
    }
}

/// Replaces numbers of levels by the levels.
#[inline(always)]
pub(crate) fn look_up(values: &mut [u8]) {
    for value in values {
        *value = UNSIGNED[usize::from(*value & 15)];
    }
}

/// The number of the level next to `x`.
pub(crate) fn nearest(x: f32) -> i32 {
    let above = LEVELS.partition_point(|&level| f32::from(level) < x).clamp(1, LEVELS.len() - 1);
    let (low, high) = (f32::from(LEVELS[above - 1]), f32::from(LEVELS[above]));
    (if x - low <= high - x { above - 1 } else { above }) as i32
}
