//! Which CPU instructions a kernel may use: the one place that detects and chooses them.
//!
//! An [`Isa`] is a proof: the only way to get one that names AVX2 is to have asked the CPU. Kernels are written once,
//! as ordinary loops, inside [`instantiate!`], which compiles the same body for each instruction set and picks one at
//! the call. A new instruction set is a new `Level`, an arm in the macro, and hand-written loops where they pay.
#![allow(unsafe_code)]

/// The instructions that kernels may use on this CPU. Copied freely; see [`Threads::isa`](crate::Threads::isa).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Isa {
    /// The best instructions that this CPU has: AVX2 with FMA and F16C, else the portable ones.
    pub fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c") {
            return Isa(Level::Avx2);
        }
        Isa::portable()
    }

    /// What every CPU of the compilation target has.
    pub const fn portable() -> Isa {
        Isa(Level::Portable)
    }

    /// A short name for reports: `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        if self.has_avx2() { "avx2" } else { "portable" }
    }

    /// Whether AVX2, FMA and F16C may be used. Inside [`instantiate!`] this is a constant.
    #[inline(always)]
    pub(crate) const fn has_avx2(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Level::Avx2);
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// The proof for code that was compiled for AVX2, FMA and F16C.
    ///
    /// # Safety
    /// The CPU has all three.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) const unsafe fn avx2_unchecked() -> Isa {
        Isa(Level::Avx2)
    }

    /// `a * b + c`, fused where the hardware fuses (a software `fma` would cost a call per element).
    #[inline(always)]
    pub(crate) fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        if self.has_avx2() { a.mul_add(b, c) } else { a * b + c }
    }
}

/// Defines functions whose first argument is `isa: Isa`, and compiles the body once for each instruction set.
/// Inside the body `isa` is a constant, so that a branch on it costs nothing, and plain loops over slices vectorize with
/// the instructions that it names. Generic parameters stand in square brackets: `fn name[T: Element](isa: Isa, ..)`.
macro_rules! instantiate {
    ($(
        $(#[$meta:meta])*
        $visibility:vis fn $name:ident $([$($generics:tt)*])? ($isa:ident: Isa $(, $argument:ident: $kind:ty)* $(,)?) $(-> $result:ty)? $body:block
    )+) => {$(
        $(#[$meta])*
        #[inline]
        $visibility fn $name $(<$($generics)*>)? ($isa: $crate::isa::Isa $(, $argument: $kind)*) $(-> $result)? {
            #[inline(always)]
            #[allow(unused_variables)]
            fn body $(<$($generics)*>)? ($isa: $crate::isa::Isa $(, $argument: $kind)*) $(-> $result)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(unsafe_code)]
            fn avx2 $(<$($generics)*>)? ($($argument: $kind),*) $(-> $result)? {
                // SAFETY: this function runs only where its own target features exist.
                body(unsafe { $crate::isa::Isa::avx2_unchecked() } $(, $argument)*)
            }

            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            if $isa.has_avx2() {
                // SAFETY: an `Isa` that names AVX2 comes only from `Isa::detect`, which saw avx2, fma and f16c.
                return unsafe { avx2($($argument),*) };
            }
            body($crate::isa::Isa::portable() $(, $argument)*)
        }
    )+};
}
pub(crate) use instantiate;
