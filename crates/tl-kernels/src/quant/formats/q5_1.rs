//! Q5_1: blocks of an `f16` scale, an `f16` minimum, 4 bytes of fifth bits (bit `j` for element `j`) and 16 bytes of halves
//! as in Q4_1 (24 bytes); value = scale * level + minimum. Source: the GGML formats of GGUF.

use super::nibbles::{add_fifth_bits, pack_fifths, unpack_halves};
use super::search::{inverse, round_to_level, scale_and_minimum};
use crate::array::array;
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 24;

/// Q5_1, 6 bits per weight.
pub static Q5_1: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q5_1;
    const NAME: &str = "q5_1";
    const ID: u32 = 7;
    const FILE_TYPE: u32 = 9;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        minima[0] = half_at(isa, block, 2);
        unpack_halves(&block[8..], values);
        add_fifth_bits(u32::from_le_bytes(*array(&block[4..8])), values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let (scale, minimum) = scale_and_minimum(x, 31, false);
        let inverse = inverse(store_half(block, 0, scale));
        let minimum = store_half(block, 2, minimum);
        pack_fifths(&mut block[4..], |j| round_to_level((x[j] - minimum) * inverse, 0, 31));
    }
}
