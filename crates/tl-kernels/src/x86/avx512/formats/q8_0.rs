//! Dot products of rows in Q8_0.

use crate::array::array;
use crate::quant::activations::Row;
use crate::quant::codec::BlockCodec;
use crate::quant::formats::q8_0::{BYTES, Format};
use crate::quant::rows::Rows;
use crate::x86::avx2::registers::load_bytes;
use crate::x86::avx512::block_rows;
use crate::x86::avx512::block_rows::{EightScales, PAIRS};
use crate::x86::avx512::registers::{indexes, load_opaque, load_words};
use std::arch::x86_64::*;

/// Two blocks to a register. The scales of eight blocks are brought together, multiplied with the activations', and spread over the
/// lanes of their blocks again: that takes less than a register of the activations' scales for each two blocks, and what
/// is kept of the activations stays in the first cache beside the weights that stream through it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
pub(crate) fn dot(rows: Rows<'_>, x: Row<'_>, out: &mut [f32]) {
    block_rows::rows(
        rows,
        x,
        out,
        |[x]| EightScales::new(x, Format::OFFSET),
        |mut sums, bytes: &[u8; 8 * BYTES], x, position| {
            let pair = |q: usize| -> &[u8; 2 * BYTES] { array(&bytes[q * 2 * BYTES..][..2 * BYTES]) };
            let mut scales = _mm512_setzero_si512();
            for (q, places) in SCALES.iter().enumerate() {
                let first = load_opaque(array(&pair(q)[..64]));
                scales = _mm512_mask_permutexvar_epi16(scales, 3 << (2 * q), load_words(places), first);
            }
            let scales = _mm256_mul_ps(_mm256_cvtph_ps(_mm512_castsi512_si128(scales)), x.scales);
            let scales = _mm512_zextps256_ps512(scales);
            sums[0] = _mm512_fmadd_ps(scales, _mm512_zextps256_ps512(x.corrections), sums[0]);
            for q in 0..4 {
                position.prefetch(bytes, q, 4);
                let first = _mm512_castsi256_si512(load_bytes(array(&pair(q)[2..34])));
                let both = _mm512_inserti64x4::<1>(first, load_bytes(array(&pair(q)[36..])));
                let weights = _mm512_xor_si512(both, _mm512_set1_epi8(-128));
                let products = _mm512_dpbusd_epi32(_mm512_setzero_si512(), weights, x.values[q]);
                let scales = _mm512_permutexvar_ps(indexes(&PAIRS[q]), scales);
                sums[q % 2] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(products), scales, sums[q % 2]);
            }
            sums
        },
        |sums| block_rows::total(sums),
    );
}

/// In words `2 q` and `2 q + 1`, where the scales of two blocks are.
const SCALES: [[u16; 32]; 4] = {
    let mut tables = [[0; 32]; 4];
    let mut q = 0;
    while q < 4 {
        tables[q][2 * q + 1] = BYTES as u16 / 2;
        q += 1;
    }
    tables
};
