//! Conversions between `f16` and `f32`.

use crate::element::HalfConversions;
use crate::x86::avx2::registers::half_to_f32;
use crate::x86::level::Avx2;
use half::f16;
use std::arch::x86_64::*;

impl HalfConversions for Avx2 {
    #[inline(always)]
    fn load_halves(self, src: &[f16], dst: &mut [f32]) {
        // SAFETY: the set proves f16c and avx.
        unsafe { load(src, dst) }
    }

    #[inline(always)]
    fn store_halves(self, src: &[f32], dst: &mut [f16]) {
        // SAFETY: as above.
        unsafe { store(src, dst) }
    }

    #[inline(always)]
    fn half_to_f32(self, bytes: [u8; 2]) -> f32 {
        // SAFETY: as above.
        unsafe { half_to_f32(bytes) }
    }
}

/// Eight at a time; a shorter rest goes through a padded block, so that it too is converted by the hardware.
#[inline]
#[target_feature(enable = "avx,f16c")]
fn load(src: &[f16], dst: &mut [f32]) {
    let (groups, rest) = src.as_chunks::<8>();
    let (outputs, rest_out) = dst.as_chunks_mut::<8>();
    for (group, output) in groups.iter().zip(outputs) {
        *output = load8(group);
    }
    if !rest.is_empty() {
        let mut block = [f16::ZERO; 8];
        block[..rest.len()].copy_from_slice(rest);
        rest_out.copy_from_slice(&load8(&block)[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx,f16c")]
fn load8(src: &[f16; 8]) -> [f32; 8] {
    let mut output = [0.0; 8];
    // SAFETY: the pointers cover 16 and 32 bytes; neither instruction asks for alignment.
    unsafe {
        let halves = _mm_loadu_si128(src.as_ptr().cast());
        _mm256_storeu_ps(output.as_mut_ptr(), _mm256_cvtph_ps(halves));
    }
    output
}

#[inline]
#[target_feature(enable = "avx,f16c")]
fn store(src: &[f32], dst: &mut [f16]) {
    let (groups, rest) = src.as_chunks::<8>();
    let (outputs, rest_out) = dst.as_chunks_mut::<8>();
    for (group, output) in groups.iter().zip(outputs) {
        *output = store8(group);
    }
    if !rest.is_empty() {
        let mut block = [0.0; 8];
        block[..rest.len()].copy_from_slice(rest);
        rest_out.copy_from_slice(&store8(&block)[..rest.len()]);
    }
}

#[inline]
#[target_feature(enable = "avx,f16c")]
fn store8(src: &[f32; 8]) -> [f16; 8] {
    let mut output = [f16::ZERO; 8];
    // SAFETY: the pointers cover 32 and 16 bytes; neither instruction asks for alignment.
    unsafe {
        let halves = _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm256_loadu_ps(src.as_ptr()));
        _mm_storeu_si128(output.as_mut_ptr().cast(), halves);
    }
    output
}
