//! Registers: loads and stores at any alignment.

use std::arch::x86_64::*;

/// The two values, over and over.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn pair(values: &[f32; 2]) -> __m512 {
    let bits = u64::from(values[1].to_bits()) << 32 | u64::from(values[0].to_bits());
    _mm512_castsi512_ps(_mm512_set1_epi64(bits.cast_signed()))
}

/// 16 words at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load<T: bytemuck::Pod>(words: &[T; 16]) -> __m512i {
    const { assert!(size_of::<T>() == 4) };
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Stores 16 words at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn store<T: bytemuck::Pod>(words: &mut [T; 16], register: __m512i) {
    const { assert!(size_of::<T>() == 4) };
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_storeu_si512(words.as_mut_ptr().cast(), register) };
}

/// 64 bytes at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_64<T: bytemuck::Pod>(bytes: &[T; 64]) -> __m512i {
    const { assert!(size_of::<T>() == 1) };
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

/// 64 bytes at any alignment, of which the compiler knows nothing. Where it knows of a load that covers a smaller one, it takes
/// the smaller one's bytes out of the larger one's register, with ten instructions.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_opaque(bytes: &[u8; 64]) -> __m512i {
    let loaded;
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe {
        std::arch::asm!("vmovdqu64 {}, [{}]", out(zmm_reg) loaded, in(reg) bytes,
            options(pure, readonly, nostack, preserves_flags));
    }
    loaded
}

/// 16 floats at any alignment.
#[inline]
#[target_feature(enable = "avx512f")]
pub(crate) fn load_16(values: &[f32; 16]) -> __m512 {
    // SAFETY: the reference covers the 64 bytes, and the instruction asks for no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}
