//! Q8_0: blocks of an `f16` scale and 32 signed bytes (34 bytes); value = scale * byte. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use crate::array::array;
use crate::isa::Isa;
use crate::quant::codec::{BlockCodec, integer};
use crate::quant::formats::integer_format::IntegerFormat;
use crate::quant::half::{half_at, store_half};
use crate::quant::quantize::quantize_block;
use crate::quant::weight::WeightKernels;
use crate::strided_vectors::KvElement;
use bytemuck::{Pod, Zeroable};

const ELEMS: usize = 32;
pub(crate) const BYTES: usize = 34;

/// Q8_0, 8.5 bits per weight.
pub static Q8_0: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
pub(crate) struct Format;

impl BlockCodec for Format {
    const FORMAT: IntegerFormat = IntegerFormat::Q8_0;
    const NAME: &str = "q8_0";
    const ID: u32 = 8;
    const FILE_TYPE: u32 = 7;
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 128;
    const HAS_MINIMA: bool = false;

    #[inline(always)]
    fn unpack(isa: Isa, block: &[u8], values: &mut [u8], scales: &mut [f32], _minima: &mut [f32]) {
        scales[0] = half_at(isa, block, 0);
        for (value, byte) in values.iter_mut().zip(&block[2..]) {
            *value = byte ^ 128;
        }
    }

    #[inline]
    fn quantize(x: &[f32], block: &mut [u8]) {
        let mut values = [0; ELEMS];
        store_half(block, 0, quantize_block(array(x), &mut values));
        block[2..].copy_from_slice(bytemuck::cast_slice(&values));
    }
}

/// A block as attention reads keys and values.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Q8Block {
    scale: [u8; 2],
    values: [i8; ELEMS],
}

// SAFETY: arrays of 2 and 32 bytes: 34 bytes without padding, and every pattern is a value.
unsafe impl Zeroable for Q8Block {}
// SAFETY: as above.
unsafe impl Pod for Q8Block {}

impl KvElement for Q8Block {
    const ELEMS: usize = ELEMS;
    type Element = f32;

    #[inline(always)]
    fn as_elements(_slice: &[Q8Block]) -> Option<&[f32]> {
        None
    }

    #[inline(always)]
    fn load(isa: Isa, src: &[Q8Block], dst: &mut [f32]) {
        assert_eq!(src.len() * ELEMS, dst.len());
        for (block, dst) in src.iter().zip(dst.as_chunks_mut::<ELEMS>().0) {
            let scale = half_at(isa, &block.scale, 0);
            // The values are copied: through references this does not become vector instructions.
            for (x, value) in dst.iter_mut().zip(block.values) {
                *x = scale * f32::from(value);
            }
        }
    }
}
