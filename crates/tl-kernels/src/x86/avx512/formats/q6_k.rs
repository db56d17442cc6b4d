//! Dot products of rows in Q6_K.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q6_k::{BYTES, Format, SCALE, SCALES, UPPER};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::{half_to_f32, load_bytes, load_half};
use crate::x86::avx512::block_rows;
use crate::x86::avx512::block_rows::{FOURS, SixteenScales};
use crate::x86::avx512::registers::{indexes, load_64};
use std::arch::x86_64::*;

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    // The two bits of each half of a register come to places 4 and 5.
    let shifts = |low: i16, high: i16| {
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(_mm256_set1_epi16(low)), _mm256_set1_epi16(high))
    };
    let (left, right) = (shifts(4, 2), shifts(0, 2));
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| SixteenScales::new(x, Format::OFFSET),
        |mut sums, bytes: &[u8; BYTES], x, position| {
            let bytes_of_scales = _mm512_cvtepi8_epi32(load_half(array(&bytes[SCALES..SCALE])));
            let scale = _mm512_set1_ps(half_to_f32([bytes[SCALE], bytes[SCALE + 1]]));
            let scales = _mm512_mul_ps(_mm512_cvtepi32_ps(bytes_of_scales), _mm512_mul_ps(scale, x.scales));
            sums[1] = _mm512_fmadd_ps(scales, x.corrections, sums[1]);
            let (mask, bits) = (_mm512_set1_epi8(15), _mm512_set1_epi8(0x30));
            for part in 0..2 {
                let halves = load_64(array(&bytes[part * 64..][..64]));
                let upper = _mm512_broadcast_i64x4(load_bytes(array(&bytes[UPPER + part * 32..][..32])));
                let with_upper = |halves: __m512i, upper: __m512i| {
                    _mm512_or_si512(_mm512_and_si512(halves, mask), _mm512_and_si512(upper, bits))
                };
                let levels = [
                    with_upper(halves, _mm512_sllv_epi16(upper, left)),
                    with_upper(_mm512_srli_epi16::<4>(halves), _mm512_srlv_epi16(upper, right)),
                ];
                for (i, levels) in levels.into_iter().enumerate() {
                    let q = 2 * part + i;
                    position.prefetch(bytes, q, 4);
                    let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), levels, x.values[q]);
                    let scale = _mm512_permutexvar_ps(indexes(&FOURS[q]), scales);
                    sums[i] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scale, sums[i]);
                }
            }
            sums
        },
        |sums| block_rows::total(sums),
    );
}
