//! The float element types that kernels load from and store to. Values are `f32` in between.
#![allow(unsafe_code)]

use crate::isa::{Isa, instantiate};
use half::{bf16, f16};

/// A float type that tensors are stored in: `f16`, `bf16` or `f32`.
pub trait Element: bytemuck::Pod + Send + Sync + 'static {
    /// How many `bf16` it takes to add up to any value.
    const BF16_PARTS: usize;
    /// The slice with its type as a value.
    fn as_floats(slice: &[Self]) -> FloatSlice<'_>;
    /// `dst[i] = src[i]` as `f32`, exactly. The slices have the same length.
    fn load(isa: Isa, src: &[Self], dst: &mut [f32]);
    /// `dst[i] = src[i]`, rounded to nearest even. The slices have the same length.
    fn store(isa: Isa, src: &[f32], dst: &mut [Self]);
    /// This value as `f32`, exactly.
    fn to_f32(self) -> f32;
    /// The nearest value of this type, ties to even.
    fn from_f32(value: f32) -> Self;
}

/// Floats of any type.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // Each is what it is named.
pub enum FloatSlice<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
    Bf16(&'a [bf16]),
}

impl Element for f32 {
    const BF16_PARTS: usize = 3;

    #[inline(always)]
    fn as_floats(slice: &[f32]) -> FloatSlice<'_> {
        FloatSlice::F32(slice)
    }

    #[inline(always)]
    fn load(_isa: Isa, src: &[f32], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }

    #[inline(always)]
    fn store(_isa: Isa, src: &[f32], dst: &mut [f32]) {
        dst.copy_from_slice(src);
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(value: f32) -> f32 {
        value
    }
}

impl Element for bf16 {
    const BF16_PARTS: usize = 1;

    #[inline(always)]
    fn as_floats(slice: &[bf16]) -> FloatSlice<'_> {
        FloatSlice::Bf16(slice)
    }

    #[inline(always)]
    fn load(_isa: Isa, src: &[bf16], dst: &mut [f32]) {
        assert_eq!(src.len(), dst.len());
        for (d, s) in dst.iter_mut().zip(src) {
            *d = f32::from_bits(u32::from(s.to_bits()) << 16);
        }
    }

    #[inline(always)]
    fn store(_isa: Isa, src: &[f32], dst: &mut [bf16]) {
        assert_eq!(src.len(), dst.len());
        for (d, &s) in dst.iter_mut().zip(src) {
            *d = bf16::from_f32(s);
        }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> bf16 {
        bf16::from_f32(value)
    }
}

impl Element for f16 {
    const BF16_PARTS: usize = 2;

    #[inline(always)]
    fn as_floats(slice: &[f16]) -> FloatSlice<'_> {
        FloatSlice::F16(slice)
    }

    #[inline(always)]
    fn load(isa: Isa, src: &[f16], dst: &mut [f32]) {
        assert_eq!(src.len(), dst.len());
        #[cfg(target_arch = "x86_64")]
        if isa.has_avx512() {
            // SAFETY: this `Isa` proves AVX-512.
            return unsafe { avx512::load(src, dst) };
        }
        #[cfg(target_arch = "x86_64")]
        if isa.has_avx2() {
            // SAFETY: this `Isa` proves f16c and avx.
            return unsafe { f16c::load(src, dst) };
        }
        for (d, s) in dst.iter_mut().zip(src) {
            *d = half_to_f32(s.to_bits());
        }
    }

    #[inline(always)]
    fn store(isa: Isa, src: &[f32], dst: &mut [f16]) {
        assert_eq!(src.len(), dst.len());
        #[cfg(target_arch = "x86_64")]
        if isa.has_avx512() {
            // SAFETY: this `Isa` proves AVX-512.
            return unsafe { avx512::store(src, dst) };
        }
        #[cfg(target_arch = "x86_64")]
        if isa.has_avx2() {
            // SAFETY: this `Isa` proves f16c and avx.
            return unsafe { f16c::store(src, dst) };
        }
        for (d, &s) in dst.iter_mut().zip(src) {
            *d = f16::from_f32(s);
        }
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[inline(always)]
    fn from_f32(value: f32) -> f16 {
        f16::from_f32(value)
    }
}

instantiate! {
    /// [`Element::load`] in the instructions named.
    pub(crate) fn load[T: Element](isa: Isa, src: &[T], dst: &mut [f32]) {
        T::load(isa, src, dst);
    }

    /// [`Element::store`] in the instructions named.
    pub(crate) fn store[T: Element](isa: Isa, src: &[f32], dst: &mut [T]) {
        T::store(isa, src, dst);
    }
}

/// The value of an `f16` in a few instructions that every CPU has.
#[inline(always)]
pub(crate) fn half_to_f32(bits: u16) -> f32 {
    let bits = u32::from(bits);
    // The exponent counts from 15 instead of 127: a factor of 2^112, which serves subnormal numbers too.
    let size = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(size.to_bits() | special | (bits & 0x8000) << 16)
}

/// Sixteen at a time: what is read again as a register has been written as one, and need not be waited for. Of a shorter rest,
/// only the elements that there are are read and written.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use half::f16;
    use std::arch::x86_64::*;

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    pub(super) fn load(src: &[f16], dst: &mut [f32]) {
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
    pub(super) fn store(src: &[f32], dst: &mut [f16]) {
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
}

#[cfg(target_arch = "x86_64")]
mod f16c {
    use half::f16;
    use std::arch::x86_64::*;

    /// Eight at a time; a shorter rest goes through a padded block, so that it too is converted by the hardware.
    #[inline]
    #[target_feature(enable = "avx,f16c")]
    pub(super) fn load(src: &[f16], dst: &mut [f32]) {
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
    pub(super) fn store(src: &[f32], dst: &mut [f16]) {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    /// Both ways of conversion, for each instruction set and length, against the crate `half` (NaN to any NaN).
    fn check<T: Element + std::fmt::Debug>(values: &[T], floats: &[f32]) {
        for isa in Isa::all() {
            for n in [0, 1, 7, 8, 9, 15, 16, 17, 31, values.len()] {
                let mut loaded = vec![9.0; n];
                T::load(isa, &values[..n], &mut loaded);
                for (loaded, value) in loaded.iter().zip(values) {
                    let same = loaded.to_bits() == value.to_f32().to_bits();
                    assert!(same || loaded.is_nan() && value.to_f32().is_nan(), "{value:?} {loaded}");
                }
            }
            let mut stored = vec![T::from_f32(9.0); floats.len()];
            T::store(isa, floats, &mut stored);
            for (stored, float) in stored.iter().zip(floats) {
                let (stored, expected) = (stored.to_f32(), T::from_f32(*float).to_f32());
                let same = stored.to_bits() == expected.to_bits();
                assert!(same || stored.is_nan() && expected.is_nan(), "{float:e} {stored:e} {expected:e}");
            }
        }
    }

    #[test]
    fn all_halves_and_random_floats() {
        let mut random = Random::new(1);
        let floats: Vec<f32> = (0..200_003).map(|_| f32::from_bits(random.bits() as u32)).collect();
        let near_halves: Vec<f32> =
            floats.iter().map(|x| x.clamp(-1e-4, 1e-4) * 1.000_1).chain(floats.clone()).collect();
        let halves: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).collect();
        check(&halves, &near_halves);
        let brains: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
        check(&brains, &floats);
        check(&floats, &floats);
    }
}
