//! Dot products with AVX2.

use super::{BlockFormat, RowStretch, Rows, Stretch};
use crate::quant::activations::Row;
use crate::quant::block::array;
use crate::vector::avx2::{horizontal_sum, load};
use std::arch::x86_64::*;

/// How far ahead of the block at hand memory is asked for.
const PREFETCH_BYTES: usize = 4096;
/// Sums of a row of floats: as many registers of eight.
const FLOAT_SUMS: usize = 4;

/// As [`super::stretch`].
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn stretch<F: BlockFormat>(w: &Stretch, x: &RowStretch) -> f32 {
    let offset = _mm256_set1_epi8(F::OFFSET as i8);
    let ones = _mm256_set1_epi16(1);
    let mut sum = _mm256_setzero_ps();
    let blocks = w.values.as_chunks::<32>().0.iter().zip(x.values.as_chunks::<32>().0);
    for (b, (weights, values)) in blocks.enumerate() {
        let weights = _mm256_sub_epi8(load_bytes(weights), offset);
        // One factor must be unsigned: |w| times x with the sign of w. No pair exceeds 2 * 128 * 127 < 2^15.
        let signed = _mm256_sign_epi8(load_bytes(values), weights);
        let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), signed);
        let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
        let scale = if F::GROUP == 32 {
            _mm256_set1_ps(w.scales[b] * x.scales[b])
        } else {
            let [low, high] = [w.scales[2 * b] * x.scales[b], w.scales[2 * b + 1] * x.scales[b]];
            _mm256_set_m128(_mm_set1_ps(high), _mm_set1_ps(low))
        };
        sum = _mm256_fmadd_ps(products, scale, sum);
    }
    horizontal_sum(sum)
}

/// A block of 32 elements: `scale * value + low`.
pub(crate) struct Block {
    /// Unsigned bytes of at most seven bits; signed ones for `blocks::<_, true>`.
    pub(crate) values: __m256i,
    pub(crate) scale: f32,
    /// The minimum, or minus the scale times what stands for zero.
    pub(crate) low: f32,
}

/// `out[j] +=` the dot product of row `j` with `x`, for a format of blocks of 32 elements in `BYTES` bytes, which `unpack` takes
/// apart. `SIGNED` values need no `low`.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn blocks<const BYTES: usize, const SIGNED: bool>(
    rows: Rows<'_>,
    x: Row<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> Block,
) {
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (pair, out) in pairs.iter_mut().enumerate() {
        let sums = block_rows::<BYTES, SIGNED, 2>([rows.row(2 * pair), rows.row(2 * pair + 1)], x, &unpack);
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
    for (j, out) in rest.iter_mut().enumerate() {
        let [sum] = block_rows::<BYTES, SIGNED, 1>([rows.row(2 * pairs.len() + j)], x, &unpack);
        *out += sum;
    }
}

#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn block_rows<const BYTES: usize, const SIGNED: bool, const N: usize>(
    rows: [&[u8]; N],
    x: Row<'_>,
    unpack: &impl Fn(&[u8; BYTES]) -> Block,
) -> [f32; N] {
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_ps(); N];
    let mut lows = [0.0f32; N];
    for (s, x) in x.stretches().iter().enumerate() {
        let first = s * 8 * BYTES;
        let n_blocks = ((rows[0].len() - first) / BYTES).min(8);
        let rows = rows.map(|row| &row[first..].as_chunks::<BYTES>().0[..n_blocks]);
        for b in 0..n_blocks {
            let values = load_bytes(&x.values.as_chunks::<32>().0[b]);
            for ((row, sum), low) in rows.iter().zip(&mut sums).zip(&mut lows) {
                prefetch(&row[b]);
                let block = unpack(&row[b]);
                let pairs = if SIGNED {
                    // One factor must be unsigned: |w| times x with the sign of w. No pair exceeds 2 * 128 * 127 < 2^15.
                    _mm256_maddubs_epi16(_mm256_abs_epi8(block.values), _mm256_sign_epi8(values, block.values))
                } else {
                    *low = block.low.mul_add(x.totals[b], *low);
                    _mm256_maddubs_epi16(block.values, values)
                };
                let products = _mm256_cvtepi32_ps(_mm256_madd_epi16(pairs, ones));
                *sum = _mm256_fmadd_ps(products, _mm256_set1_ps(block.scale * x.scales[b]), *sum);
            }
        }
    }
    std::array::from_fn(|r| horizontal_sum(sums[r]) + lows[r])
}

/// 16 bytes as 32 halves: the low ones, then the high ones.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn halves(bytes: &[u8]) -> __m256i {
    let bytes = _mm256_broadcastsi128_si256(load_half(array(bytes)));
    let high = _mm256_srli_epi16::<4>(bytes);
    _mm256_and_si256(_mm256_blend_epi32::<0b1111_0000>(bytes, high), _mm256_set1_epi8(15))
}

/// 16 in each byte whose bit is set.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn fifth_bits(bytes: &[u8]) -> __m256i {
    let bits = _mm256_set1_epi32(i32::from_le_bytes(*array(bytes)));
    let spread = _mm256_set_epi64x(0x0303_0303_0303_0303, 0x0202_0202_0202_0202, 0x0101_0101_0101_0101, 0);
    let bit = _mm256_set1_epi64x(i64::from_le_bytes([1, 2, 4, 8, 16, 32, 64, 128]));
    let set = _mm256_and_si256(_mm256_shuffle_epi8(bits, spread), bit);
    _mm256_and_si256(_mm256_cmpeq_epi8(set, bit), _mm256_set1_epi8(16))
}

/// Dot products of rows whose elements lie in groups of eight, `BYTES` bytes each, which `unpack` makes `f32`; a row is a whole
/// number of groups.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn float<const BYTES: usize>(
    rows: Rows<'_>,
    x: &[f32],
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> __m256,
) {
    let (x, _) = x.as_chunks::<8>();
    let (pairs, rest) = out.as_chunks_mut::<2>();
    for (pair, out) in pairs.iter_mut().enumerate() {
        let sums = float_rows::<BYTES, 2>([rows.row(2 * pair), rows.row(2 * pair + 1)], x, &unpack);
        out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
    for (j, out) in rest.iter_mut().enumerate() {
        let [sum] = float_rows::<BYTES, 1>([rows.row(2 * pairs.len() + j)], x, &unpack);
        *out += sum;
    }
}

/// Some rows at once, each in [`FLOAT_SUMS`] independent sums, so that the additions need not wait for each other.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn float_rows<const BYTES: usize, const ROWS: usize>(
    rows: [&[u8]; ROWS],
    x: &[[f32; 8]],
    unpack: &impl Fn(&[u8; BYTES]) -> __m256,
) -> [f32; ROWS] {
    let rows: [&[[u8; BYTES]]; ROWS] = rows.map(|row| &row.as_chunks::<BYTES>().0[..x.len()]);
    let mut sums = [[_mm256_setzero_ps(); FLOAT_SUMS]; ROWS];
    let whole = x.len() / FLOAT_SUMS * FLOAT_SUMS;
    for g in (0..whole).step_by(FLOAT_SUMS) {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            prefetch(&row[g]);
            for (s, sum) in sums.iter_mut().enumerate() {
                *sum = _mm256_fmadd_ps(unpack(&row[g + s]), load(&x[g + s]), *sum);
            }
        }
    }
    for g in whole..x.len() {
        for (sums, row) in sums.iter_mut().zip(&rows) {
            sums[0] = _mm256_fmadd_ps(unpack(&row[g]), load(&x[g]), sums[0]);
        }
    }
    sums.map(|sums| horizontal_sum(sums.into_iter().reduce(|a, b| _mm256_add_ps(a, b)).unwrap_or(_mm256_setzero_ps())))
}

/// Asks for the bytes that a pass over a weight comes to next but a little; the hardware's own prefetching stops at the end of a page.
#[inline]
#[target_feature(enable = "sse")]
pub(crate) fn prefetch<T>(at: &T) {
    // A hint: it reads nothing, wherever it points.
    _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(at).cast::<i8>().wrapping_add(PREFETCH_BYTES));
}

/// Eight `f32` at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn unpack_f32(bytes: &[u8; 32]) -> __m256 {
    _mm256_castsi256_ps(load_bytes(bytes))
}

/// Eight `f16` at any alignment.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) fn unpack_f16(bytes: &[u8; 16]) -> __m256 {
    _mm256_cvtph_ps(load_half(bytes))
}

/// Eight `bf16` at any alignment: the upper halves of `f32`.
#[inline]
#[target_feature(enable = "avx2")]
pub(crate) fn unpack_bf16(bytes: &[u8; 16]) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(load_half(bytes))))
}

/// 32 bytes at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn load_bytes<T: bytemuck::Pod>(bytes: &[T; 32]) -> __m256i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the reference covers the 32 bytes, and the instruction asks for no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// 16 bytes at any alignment.
#[inline]
#[target_feature(enable = "avx")]
pub(crate) fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes, and the instruction asks for no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// An `f16` as the hardware converts it.
#[inline]
#[target_feature(enable = "avx,f16c")]
pub(crate) fn half_to_f32(bytes: [u8; 2]) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(u16::from_le_bytes(bytes)))))
}
