//! Q4_K: blocks of 256 elements (144 bytes): an `f16` for the scales, an `f16` for the minima, eight scales and eight minima of six
//! bits in 12 bytes, and 128 bytes of halves; the low halves of each 32 bytes are one sub-block of 32 elements, the high halves the
//! next. value = scale * half - minimum. Source: the GGML formats of GGUF.
#![allow(unsafe_code)]

use super::activations::Row;
use super::block::{BlockFormat, integer};
use super::k_scales::{quantize_levels, unpack_scales};
use super::nibbles::{pack_groups, unpack_groups};
use super::{Rows, WeightKernels, dot_unpacked};
use crate::isa::Isa;

const ELEMS: usize = 256;
const BYTES: usize = 144;

/// Q4_K, 4.5 bits per weight.
pub static Q4_K: WeightKernels = integer::<Format>(quantize, dot);

#[derive(Clone, Copy)]
struct Format;

impl BlockFormat for Format {
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
}

fn quantize(x: &[f32], bytes: &mut [u8]) {
    let (inputs, blocks) = (x.as_chunks::<ELEMS>().0, bytes.as_chunks_mut::<BYTES>().0);
    assert_eq!(inputs.len(), blocks.len());
    for (x, block) in inputs.iter().zip(blocks) {
        let levels = quantize_levels(x, 15, block);
        pack_groups(&levels, &mut block[16..]);
    }
}

fn dot(isa: Isa, rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: this `Isa` proves AVX-512.
        return unsafe { dot_avx512(rows, x, out) };
    }
    dot_unpacked::<Format>(isa, rows, x, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
fn dot_avx512(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    use super::block::array;
    use super::dot::avx512::{self, load_64};
    use super::k_scales::avx512::{Subs, add, total};
    use std::arch::x86_64::*;
    avx512::rows(
        rows,
        x,
        out,
        |[x]| Subs::new(x),
        |sums, bytes: &[u8; BYTES], x| {
            let (header, halves) = bytes.split_at(16);
            let (halves, _) = halves.as_chunks::<64>();
            let mask = _mm512_set1_epi8(15);
            let [a, b] = [load_64(&halves[0]), load_64(&halves[1])];
            let low = [a, b].map(|x| _mm512_and_si512(x, mask));
            let high = [a, b].map(|x| _mm512_and_si512(_mm512_srli_epi16::<4>(x), mask));
            add(sums, array(header), [low[0], high[0], low[1], high[1]], x)
        },
        |sums| total(sums),
    );
}
