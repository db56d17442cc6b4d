//! The levels of x86-64: sets of instructions, each of which includes those below it.

use super::amx;

/// A set of instructions that the CPU has. Safe code gets one only from [`Level::all`] and [`Level::on_request`], which ask the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level(Name);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Name {
    Avx2,
    Avx512,
    Avx512Bf16,
    Amx,
}

/// What a level brings of its own: the kernels of AVX2 or of AVX-512.
pub(crate) enum Set {
    Avx2(Avx2),
    Avx512(Avx512),
}

/// The kernels for AVX2, FMA and F16C. A value proves that the CPU has all three.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

/// The kernels for AVX-512 (F, BW, DQ, VL, VBMI, VNNI). A value proves that the CPU has all of it.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(Extension);

/// What products of many tokens use beyond AVX-512.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extension {
    None,
    Bf16,
    Amx,
}

impl Level {
    /// Those that this CPU has, from the least to the most.
    pub(crate) fn all() -> impl Iterator<Item = Level> {
        [Name::Avx2, Name::Avx512, Name::Amx].into_iter().take_while(|name| name.is_present()).map(Level)
    }

    /// Those that this CPU has and that are used only where they are named.
    pub(crate) fn on_request() -> impl Iterator<Item = Level> {
        std::iter::once(Name::Avx512Bf16).filter(|name| name.is_present()).map(Level)
    }

    /// See [`Isa::name`](crate::Isa::name).
    pub(crate) fn name(self) -> &'static str {
        match self.0 {
            Name::Avx2 => "avx2",
            Name::Avx512 => "avx512",
            Name::Avx512Bf16 => "avx512bf16",
            Name::Amx => "amx",
        }
    }

    /// The kernels.
    #[inline(always)]
    pub(crate) const fn set(self) -> Set {
        match self.0 {
            Name::Avx2 => Set::Avx2(Avx2(())),
            Name::Avx512 => Set::Avx512(Avx512(Extension::None)),
            Name::Avx512Bf16 => Set::Avx512(Avx512(Extension::Bf16)),
            Name::Amx => Set::Avx512(Avx512(Extension::Amx)),
        }
    }

    /// AVX2: a short row has no more elements than AVX-512 takes at once.
    pub(crate) const fn for_short_rows(self) -> Level {
        Level(Name::Avx2)
    }

    /// The proof for code that was compiled for AVX2, FMA and F16C.
    ///
    /// # Safety
    /// The CPU has all three.
    #[inline(always)]
    pub(crate) const unsafe fn avx2_unchecked() -> Level {
        Level(Name::Avx2)
    }

    /// The proof for code that was compiled for AVX-512 as [`Level::all`] asks for it.
    ///
    /// # Safety
    /// The CPU has all of it.
    #[inline(always)]
    pub(crate) const unsafe fn avx512_unchecked() -> Level {
        Level(Name::Avx512)
    }
}

impl Name {
    /// Whether this CPU (and, for AMX, the system) has what the level adds to the one below it.
    fn is_present(self) -> bool {
        match self {
            Name::Avx2 => {
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c")
            }
            Name::Avx512 => {
                is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vbmi")
                    && is_x86_feature_detected!("avx512vnni")
            }
            Name::Avx512Bf16 => is_x86_feature_detected!("avx512bf16") && Name::Avx512.is_present(),
            Name::Amx => is_x86_feature_detected!("avx512bf16") && amx::is_available(),
        }
    }
}

impl Avx512 {
    /// Whether products of many tokens with floats are to be made in `bf16`, by AVX-512 BF16, which the CPU then has.
    pub(crate) fn rounds_floats(self) -> bool {
        self.0 == Extension::Bf16
    }

    /// Whether the CPU has AMX tiles of `bf16`, and AVX-512 BF16, and the system lets them be used.
    pub(crate) fn has_tiles(self) -> bool {
        self.0 == Extension::Amx
    }
}
