//! The float element types that kernels load from and store to. Values are `f32` in between.

use crate::isa::{Isa, Portable, dispatch, instantiate};
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
        dispatch!(isa, set => set.load_halves(src, dst));
    }

    #[inline(always)]
    fn store(isa: Isa, src: &[f32], dst: &mut [f16]) {
        assert_eq!(src.len(), dst.len());
        dispatch!(isa, set => set.store_halves(src, dst));
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

/// How an instruction set converts between `f16` and `f32`.
pub(crate) trait HalfConversions: Copy {
    /// `dst[i] = src[i]`, exactly. The slices have the same length.
    #[inline(always)]
    fn load_halves(self, src: &[f16], dst: &mut [f32]) {
        for (d, s) in dst.iter_mut().zip(src) {
            *d = half_to_f32(s.to_bits());
        }
    }

    /// `dst[i] = src[i]`, rounded to nearest even. The slices have the same length.
    #[inline(always)]
    fn store_halves(self, src: &[f32], dst: &mut [f16]) {
        for (d, &s) in dst.iter_mut().zip(src) {
            *d = f16::from_f32(s);
        }
    }

    /// The value of an `f16` that is stored as two bytes.
    #[inline(always)]
    fn half_to_f32(self, bytes: [u8; 2]) -> f32 {
        half_to_f32(u16::from_le_bytes(bytes))
    }
}

impl HalfConversions for Portable {}

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
fn half_to_f32(bits: u16) -> f32 {
    let bits = u32::from(bits);
    // The exponent counts from 15 instead of 127: a factor of 2^112, which serves subnormal numbers too.
    let size = f32::from_bits((bits & 0x7FFF) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7C00 == 0x7C00 { 0x7F80_0000 } else { 0 };
    f32::from_bits(size.to_bits() | special | (bits & 0x8000) << 16)
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
