//! Which CPU instructions a kernel may use: the one place that chooses them, and the seam behind which instruction sets stand.
//!
//! An [`Isa`] is a proof: the only way to get one that names AVX2 is to have asked the CPU. It reaches kernels in two ways.
//! [`instantiate!`] compiles an ordinary loop once for each instruction set and picks one at the call. [`dispatch!`] calls what an
//! instruction set brings of its own: loops written out by hand, which stand in a folder for each architecture (`x86`) as
//! implementations of small traits ([`HalfConversions`](crate::element::HalfConversions) is one). The methods that a set leaves out
//! are the portable loops, which stand with the traits.
//!
//! A new architecture is a folder, a variant of [`Level`], and an arm in each of the two macros.
#![allow(unsafe_code)]

/// The instructions that kernels may use on this CPU. Copied freely; see [`Threads::isa`](crate::Threads::isa).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Isa(Level);

/// The instruction sets of all architectures. Those of an architecture come from asking the CPU alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    X86(crate::x86::Level),
}

/// What every CPU of the compilation target has: all kernels are the portable loops.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Isa {
    /// The best instructions that this CPU has: AMX (with AVX-512 BF16), else AVX-512 (F, BW, DQ, VL, VBMI, VNNI), else AVX2
    /// (with FMA and F16C), else the portable ones.
    pub fn detect() -> Isa {
        Isa::all().last().unwrap_or(Isa::portable())
    }

    /// Every set that this CPU has, from the portable one to the best.
    pub fn all() -> impl Iterator<Item = Isa> {
        let sets = std::iter::once(Isa::portable());
        #[cfg(target_arch = "x86_64")]
        let sets = sets.chain(crate::x86::Level::all().map(|level| Isa(Level::X86(level))));
        sets
    }

    /// Sets that this CPU has and that are used only where they are named, since they are less exact: `avx512bf16` is `avx512`, but
    /// rounds to `bf16` what weights that are `f16` or `bf16` are multiplied with, and the weights, where there are many tokens.
    pub fn on_request() -> impl Iterator<Item = Isa> {
        let sets = std::iter::empty();
        #[cfg(target_arch = "x86_64")]
        let sets = sets.chain(crate::x86::Level::on_request().map(|level| Isa(Level::X86(level))));
        sets
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
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::X86(level) => level.name(),
        }
    }

    /// The set, to be matched by [`dispatch!`].
    #[inline(always)]
    pub(crate) const fn level(self) -> Level {
        self.0
    }

    /// A set of x86-64, which the CPU has.
    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    pub(crate) const fn x86(level: crate::x86::Level) -> Isa {
        Isa(Level::X86(level))
    }

    /// The same without what takes more elements at once than a short row has.
    pub(crate) const fn for_short_rows(self) -> Isa {
        match self.0 {
            Level::Portable => self,
            #[cfg(target_arch = "x86_64")]
            Level::X86(level) => Isa(Level::X86(level.for_short_rows())),
        }
    }

    /// `a * b + c`, fused where the hardware fuses (a software `fma` would cost a call per element).
    #[inline(always)]
    pub(crate) fn mul_add(self, a: f32, b: f32, c: f32) -> f32 {
        if matches!(self.0, Level::Portable) { a * b + c } else { a.mul_add(b, c) }
    }
}

/// Calls a method of what an instruction set brings of its own: in `dispatch!(isa, set => set.dots(x, rows, out))`, `set` is the
/// value that stands for the set. Where `isa` is a constant, as inside [`instantiate!`], the choice costs nothing.
macro_rules! dispatch {
    ($isa:expr, $set:ident => $call:expr) => {
        match $isa.level() {
            $crate::isa::Level::Portable => {
                let $set = $crate::isa::Portable;
                $call
            }
            #[cfg(target_arch = "x86_64")]
            $crate::isa::Level::X86(level) => match level.set() {
                $crate::x86::Set::Avx2($set) => $call,
                $crate::x86::Set::Avx512($set) => $call,
            },
        }
    };
}
pub(crate) use dispatch;

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
                // Some bodies do not name the instructions, and some arguments carry only a type.
                let _ = (&$isa $(, &$argument)*);
                $body
            }

            match $isa.level() {
                $crate::isa::Level::Portable => body($crate::isa::Isa::portable() $(, $argument)*),
                #[cfg(target_arch = "x86_64")]
                #[allow(unsafe_code)]
                $crate::isa::Level::X86(level) => {
                    #[target_feature(enable = "avx2,fma,f16c")]
                    fn avx2 $(<$($generics)*>)? ($($argument: $kind),*) $(-> $result)? {
                        // SAFETY: this function runs only where its own target features exist.
                        body($crate::isa::Isa::x86(unsafe { $crate::x86::Level::avx2_unchecked() }) $(, $argument)*)
                    }

                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni,fma,f16c")]
                    fn avx512 $(<$($generics)*>)? ($($argument: $kind),*) $(-> $result)? {
                        // SAFETY: this function runs only where its own target features exist.
                        body($crate::isa::Isa::x86(unsafe { $crate::x86::Level::avx512_unchecked() }) $(, $argument)*)
                    }

                    match level.set() {
                        // SAFETY: the CPU has avx2, fma and f16c: that is what the set proves.
                        $crate::x86::Set::Avx2(_) => unsafe { avx2($($argument),*) },
                        // SAFETY: the CPU has every feature of AVX-512 that the set proves.
                        $crate::x86::Set::Avx512(_) => unsafe { avx512($($argument),*) },
                    }
                }
            }
        }
    )+};
}
pub(crate) use instantiate;
