//! Q4_1: blocks of an `f16` scale, an `f16` minimum and 16 bytes (20 bytes); the low half of byte `j` is element `j`, the high
//! half element `16 + j`; value = scale * half + minimum. Source: the GGML formats of GGUF.

use super::nibbles::{pack_halves, unpack_halves};
use super::search::{inverse, round_to_level, scale_and_minimum};
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 20;

/// Q4_1, 5 bits per weight.
pub static Q4_1: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q4_1;
    const NAME: &str = "q4_1";
    const ID: u32 = 3;
    const FILE_TYPE: u32 = 3;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        minima[0] = half_at(isa, block, 2);
        unpack_halves(&block[4..], values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (scale, minimum) = scale_and_minimum(x, 15, false);
        let inverse = inverse(store_half(block, 0, scale));
        let minimum = store_half(block, 2, minimum);
        pack_halves(&mut block[4..], |j| round_to_level((x[j] - minimum) * inverse, 0, 15));
    }
}
