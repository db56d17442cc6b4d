//! Q5_0: blocks of an `f16` scale, 4 bytes of fifth bits (bit `j` for element `j`) and 16 bytes of halves as in Q4_0 (22
//! bytes); value = scale * (level - 16). Source: the GGML formats of GGUF.

use super::nibbles::{add_fifth_bits, pack_fifths, unpack_halves};
use super::search::{inverse, round_to_level, signed_scale};
use crate::array::array;
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 22;

/// Q5_0, 5.5 bits per weight.
pub static Q5_0: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q5_0;
    const NAME: &str = "q5_0";
    const ID: u32 = 6;
    const FILE_TYPE: u32 = 8;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 16;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        unpack_halves(&block[6..], values);
        add_fifth_bits(u32::from_le_bytes(*array(&block[2..6])), values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let inverse = inverse(store_half(block, 0, signed_scale(x, 16)));
        pack_fifths(&mut block[2..], |j| round_to_level(x[j] * inverse, -16, 15) + 16);
    }
}
