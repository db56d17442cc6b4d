//! Dot products of rows in MXFP4.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::mxfp4::{BITS_OF_ZERO, BYTES, FIRST_NORMAL, Format, UNSIGNED};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::load_half;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::nibbles::{Halves, add_products, four_of_window};
use crate::x86::avx512::registers::{load_64, load_opaque};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    let levels = _mm512_broadcast_i32x4(load_half(&UNSIGNED));
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| Halves::new(x, Format::OFFSET),
        |sums, bytes: &[u8; 8 * BYTES], x, position| {
            add_products(sums, x, |h| {
                position.prefetch(bytes, 2 * h, 4);
                let window = load_opaque(array(&bytes[4 * h * BYTES..][..64]));
                let last = array(&bytes[(4 * h + 3) * BYTES + 1..][..16]);
                let numbers = four_of_window::<BYTES, 1>(window, last);
                let values = [_mm512_shuffle_epi8(levels, numbers[0]), _mm512_shuffle_epi8(levels, numbers[1])];
                position.prefetch(bytes, 2 * h + 1, 4);
                (values, four_scales(window))
            })
        },
        |sums| block_rows::total(sums),
    );
}

/// Where the exponent of each of four blocks is, at the first byte of each of its four lanes.
const EXPONENTS: [u8; 64] = {
    let mut places = [0; 64];
    let mut i = 0;
    while i < 64 {
        places[i] = (i / 16 * BYTES) as u8;
        i += 1;
    }
    places
};

/// The powers of the four blocks that begin in 64 bytes, over four lanes each.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn four_scales(window: __m512i) -> __m512 {
    let exponents = _mm512_maskz_permutexvar_epi8(0x1111_1111_1111_1111, load_64(&EXPONENTS), window);
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(exponents, _mm512_set1_epi32(1)));
    let is_small = _mm512_cmplt_epi32_mask(exponents, _mm512_set1_epi32(i32::from(FIRST_NORMAL)));
    let zero = _mm512_set1_epi32(BITS_OF_ZERO as i32);
    _mm512_castsi512_ps(_mm512_mask_sllv_epi32(normal, is_small, zero, exponents))
}
