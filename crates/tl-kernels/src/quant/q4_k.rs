//! Q4_K: blocks of 256 elements (144 bytes): an `f16` for the scales, an `f16` for the minima, eight scales and eight minima of six
//! bits in 12 bytes, and 128 bytes of halves; the low halves of each 32 bytes are one sub-block of 32 elements, the high halves the
//! next. value = scale * half - minimum. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::WeightKernels;
use super::block::{BlockFormat, array, integer};
use super::k_scales::{quantize_levels, unpack_scales};
use super::nibbles::{pack_groups, unpack_groups};
#[cfg(target_arch = "x86_64")]
use super::{Rows, activations::Row, block::RowDot};
use crate::isa::Isa;

const ELEMS: usize = 256;
const BYTES: usize = 144;

/// Q4_K, 4.5 bits per weight.
pub static Q4_K: WeightKernels = integer::<Format>();

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
    const ELEMS: usize = ELEMS;
    const BYTES: usize = BYTES;
    const GROUP: usize = 32;
    const OFFSET: u8 = 0;
    const HAS_MINIMA: bool = true;
    #[cfg(target_arch = "x86_64")]
    const AVX512: RowDot = dot_avx512;
    #[cfg(target_arch = "x86_64")]
    const AVX2: RowDot = dot_avx2;

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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
fn dot_avx2(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::pairs::{self, products};
    use super::k_scales::avx2::add;
    use super::nibbles::avx2::pair_of_groups;
    pairs::rows(rows, x, out, Format::OFFSET, |sums, bytes: &[u8; BYTES], x, place| {
        add(sums, bytes, products(x, |i| pair_of_groups::<16, _>(bytes, i, place)), x)
    });
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::dot::avx512::{self, load_64};
    use super::k_scales::avx512::{Subs, add, total};
    use std::arch::x86_64::*;
    avx512::rows(
        rows,
        x,
        out,
        // The high halves stay where they are in their bytes.
        |[x]| Subs::new(x, 16.0),
        |sums, bytes: &[u8; BYTES], x, place| {
            let (halves, _) = bytes[16..].as_chunks::<64>();
            let mask = _mm512_set1_epi8(15);
            let [a, b] = [load_64(&halves[0]), load_64(&halves[1])];
            let low = [a, b].map(|x| _mm512_and_si512(x, mask));
            let high = [a, b].map(|x| _mm512_andnot_si512(mask, x));
            add(sums, bytes, [low[0], high[0], low[1], high[1]], x, place)
        },
        |sums| total(sums),
    );
}
