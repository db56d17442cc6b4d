//! Q4_K: blocks of 256 elements (144 bytes): an `f16` for the scales, an `f16` for the minima, eight scales and eight minima of six
//! bits in 12 bytes, and 128 bytes of halves; the low halves of each 32 bytes are one sub-block of 32 elements, the high halves the
//! next. value = scale * half - minimum. Source: the GGML formats of GGUF.

use super::k_scales::{quantize_levels, unpack_scales};
use super::nibbles::{pack_groups, unpack_groups};
use crate::array::array;
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 256;
pub(crate) const BYTES: usize = 144;

/// Q4_K, 4.5 bits per weight.
pub static Q4_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q4_K;
    const NAME: &str = "q4_k";
    const ID: u32 = 12;
    const FILE_TYPE: u32 = 14;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        unpack_scales(isa, block, scales, minima);
        unpack_groups(&block[16..], values);
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let levels = quantize_levels(array(x), 15, block);
        pack_groups(&levels, &mut block[16..]);
    }
}
