//! Conversions between `f16` and `f32`.

use crate::element::HalfConversions;
use crate::x86::avx2::registers::half_to_f32;
use crate::x86::level::Avx512;
use half::f16;
use std::arch::x86_64::*;

impl HalfConversions for Avx512 {
    #[inline(always)]
    fn load_halves(self, src: &[f16], dst: &mut [f32]) {
        // SAFETY: the set proves AVX-512.
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

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load(src: &[f16], dst: &mut [f32]) {
    let (groups, rest) = src.as_chunks::<16>();
    let (outputs, rest_out) = dst.as_chunks_mut::<16>();
    for (group, output) in groups.iter().zip(outputs) {
        // SAFETY: the references cover 32 and 64 bytes; neither instruction asks for alignment.
        unsafe {
            let halves = _mm256_loadu_si256(group.as_ptr().cast());
            _mm512_storeu_ps(output.as_mut_ptr(), _mm512_cvtph_ps(halves));
        }
    }
    if !rest.is_empty() && rest.len() == rest_out.len() {
        let there = (1 << rest.len()) - 1;
        // SAFETY: elements beyond the slices are masked, and neither read nor written.
        unsafe {
            let halves = _mm256_maskz_loadu_epi16(there, rest.as_ptr().cast());
            _mm512_mask_storeu_ps(rest_out.as_mut_ptr(), there, _mm512_cvtph_ps(halves));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store(src: &[f32], dst: &mut [f16]) {
    let (groups, rest) = src.as_chunks::<16>();
    let (outputs, rest_out) = dst.as_chunks_mut::<16>();
    for (group, output) in groups.iter().zip(outputs) {
        // SAFETY: the references cover 64 and 32 bytes; neither instruction asks for alignment.
        unsafe {
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(_mm512_loadu_ps(group.as_ptr()));
            _mm256_storeu_si256(output.as_mut_ptr().cast(), halves);
        }
    }
    if !rest.is_empty() && rest.len() == rest_out.len() {
        let there = (1 << rest.len()) - 1;
        // SAFETY: elements beyond the slices are masked, and neither read nor written.
        unsafe {
            let floats = _mm512_maskz_loadu_ps(there, rest.as_ptr());
            let halves = _mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(floats);
            _mm256_mask_storeu_epi16(rest_out.as_mut_ptr().cast(), there, halves);
        }
    }
}
