//! Q5_K: blocks of 256 elements (176 bytes): scales and minima as in Q4_K, 32 bytes of fifth bits (bit `s` of byte `j` is that of
//! element `j` of sub-block `s`), and 128 bytes of halves as in Q4_K. value = scale * level - minimum. Source: the GGML formats
//! of GGUF.

use super::k_scales::{quantize_levels, unpack_scales};
use super::nibbles::{pack_groups, unpack_groups};
use crate::array::array;
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::weight::WeightKernels;

const ELEMS: usize = 256;
pub(crate) const BYTES: usize = 176;
/// Where the fifth bits are, and where the halves.
pub(crate) const FIFTHS: usize = 16;
pub(crate) const HALVES: usize = 48;

/// Q5_K, 5.5 bits per weight.
pub static Q5_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q5_K;
    const NAME: &str = "q5_k";
    const ID: u32 = 13;
    const FILE_TYPE: u32 = 16;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], minima: &mut [f32]) {
        unpack_scales(isa, block, scales, minima);
        unpack_groups(&block[HALVES..], values);
        for (sub, values) in values.chunks_exact_mut(32).enumerate() {
            for (value, bits) in values.iter_mut().zip(&block[FIFTHS..HALVES]) {
                *value |= (bits >> sub & 1) << 4;
            }
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let levels = quantize_levels(array(x), 31, block);
        block[FIFTHS..HALVES].fill(0);
        for (sub, levels) in levels.as_chunks::<32>().0.iter().enumerate() {
            for (bits, level) in block[FIFTHS..HALVES].iter_mut().zip(levels) {
                *bits |= (level >> 4) << sub;
            }
        }
        pack_groups(&levels.map(|level| level & 15), &mut block[HALVES..]);
    }
}
