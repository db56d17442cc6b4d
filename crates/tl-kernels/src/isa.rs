//! Which CPU instructions a kernel may use: the one place that detects and chooses them.
//!
//! An [`Isa`] is a proof: the only way to get one that names AVX2 is to have asked the CPU. Each level includes those below
//! it. Kernels are written once, as ordinary loops, inside [`instantiate!`], which compiles the same body for each
//! instruction set and picks one at the call; hand-written loops stand beside them where they pay. A new instruction set
//! is a new `Level` and an arm in the macro.
#![allow(unsafe_code)]

/// The instructions that kernels may use on this CPU. Copied freely; see [`Threads::isa`](crate::Threads::isa).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    #[cfg(target_arch = "x86_64")]
    Amx,
}

impl Level {
    /// From the least to the most.
    const ALL: &[Level] = &[
        Level::Portable,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Avx512,
        #[cfg(target_arch = "x86_64")]
        Level::Amx,
    ];
    /// Those that are used only where they are named.
    const ON_REQUEST: &[Level] = &[
        #[cfg(target_arch = "x86_64")]
        Level::Avx512Bf16,
    ];

    fn name(self) -> &'static str {
        match self {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => "avx512bf16",
            #[cfg(target_arch = "x86_64")]
            Level::Amx => "amx",
        }
    }

    /// Whether this CPU (and, for AMX, the system) has what the level adds to the one below it.
    fn is_present(self) -> bool {
        match self {
            Level::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Level::Avx512.is_present(),
            #[cfg(target_arch = "x86_64")]
            Level::Amx => is_x86_feature_detected!("avx512bf16") && crate::amx::is_available(),
        }
    }
}

impl Isa {
    /// The best instructions that this CPU has: AMX (with AVX-512 BF16), else AVX-512 (F, BW, DQ, VL, VBMI, VNNI), else AVX2
    /// (with FMA and F16C), else the portable ones.
    pub fn detect() -> Isa {
        Isa::all().last().unwrap_or(Isa::portable())
    }

    /// Every set that this CPU has, from the portable one to the best.
    pub fn all() -> impl Iterator<Item = Isa> {
        Level::ALL.iter().copied().take_while(|level| level.is_present()).map(Isa)
    }

    /// Sets that this CPU has and that are used only where they are named, since they are less exact: `avx512bf16` is `avx512`, but
    /// rounds to `bf16` what weights that are `f16` or `bf16` are multiplied with, and the weights, where there are many tokens.
    pub fn on_request() -> impl Iterator<Item = Isa> {
        Level::ON_REQUEST.iter().copied().filter(|level| level.is_present()).map(Isa)
    }

    /// The set of that [name](Isa::name), if this CPU has it.
    pub fn named(name: &str) -> Option<Isa> {
        Isa::all().chain(Isa::on_request()).find(|isa| isa.name() == name)
    }

    /// What every CPU of the compilation target has.
    pub const fn portable() -> Isa {
        Isa(Level::Portable)
    }

    /// A short name for options and reports: `portable`, `avx2`, `avx512`, `avx512bf16` or `amx`.
    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// Whether AVX2, FMA and F16C may be used. Inside [`instantiate!`] this is a constant.
    #[inline(always)]
    pub(crate) const fn has_avx2(self) -> bool {
        !matches!(self.0, Level::Portable)
    }

    /// Whether AVX-512 (F, BW, DQ, VL, VBMI, VNNI) may be used.
    #[inline(always)]
    pub(crate) const fn has_avx512(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Level::Avx512 | Level::Avx512Bf16 | Level::Amx);
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// Whether products of many tokens with floats are to be made in `bf16`, by AVX-512 BF16.
    pub(crate) const fn rounds_floats(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Level::Avx512Bf16);
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// The same without AVX-512, for rows that are too short for it.
    pub(crate) const fn without_avx512(self) -> Isa {
        #[cfg(target_arch = "x86_64")]
        if self.has_avx512() {
            return Isa(Level::Avx2);
        }
        self
    }

    /// Whether AMX tiles of `bf16`, and AVX-512 BF16, may be used.
    #[inline(always)]
    pub(crate) const fn has_amx(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self.0, Level::Amx);
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

    /// The proof for code that was compiled for AVX-512 as [`Isa::detect`] asks for it.
    ///
    /// # Safety
    /// The CPU has all of it.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) const unsafe fn avx512_unchecked() -> Isa {
        Isa(Level::Avx512)
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
            fn body $(<$($generics)*>)? ($isa: $crate::isa::Isa $(, $argument: $kind)*) $(-> $result)? {
                // Many a body leaves the instructions to the compiler, and some arguments carry nothing but a type.
                let _ = (&$isa $(, &$argument)*);
                $body
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            #[allow(unsafe_code)]
            fn avx2 $(<$($generics)*>)? ($($argument: $kind),*) $(-> $result)? {
                // SAFETY: this function runs only where its own target features exist.
                body(unsafe { $crate::isa::Isa::avx2_unchecked() } $(, $argument)*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
            #[allow(unsafe_code)]
            fn avx512 $(<$($generics)*>)? ($($argument: $kind),*) $(-> $result)? {
                // SAFETY: this function runs only where its own target features exist.
                body(unsafe { $crate::isa::Isa::avx512_unchecked() } $(, $argument)*)
            }

            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            if $isa.has_avx512() {
                // SAFETY: an `Isa` that names AVX-512 comes only from `Isa::all`, which saw every feature of it.
                return unsafe { avx512($($argument),*) };
            }
            #[cfg(target_arch = "x86_64")]
            #[allow(unsafe_code)]
            if $isa.has_avx2() {
                // SAFETY: an `Isa` that names AVX2 comes only from `Isa::all`, which saw avx2, fma and f16c.
                return unsafe { avx2($($argument),*) };
            }
            body($crate::isa::Isa::portable() $(, $argument)*)
        }
    )+};
}
pub(crate) use instantiate;
