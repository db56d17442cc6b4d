//! Q4_0: blocks of an `f16` scale and 16 bytes (18 bytes); the low half of byte `j` is element `j`, the high half element
//! `16 + j`; value = scale * (half - 8). Source: the GGML formats of GGUF.

use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, round_to_level, signed_scale};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 18;

/// Q4_0, 4.5 bits per weight.
pub static Q4_0: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q4_0;
    const NAME: &str = "q4_0";
    const ID: u32 = 2;
    const FILE_TYPE: u32 = 2;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 8;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        unpack_halves(&block[2..], values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let scale = store_half(block, 0, signed_scale(x, 8));
        let inverse = inverse(scale);
        pack_halves(&mut block[2..], |j| round_to_level(x[j] * inverse, -8, 7) + 8);
    }
}
