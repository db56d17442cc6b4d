//! Loops that do nothing but reach a limit of the machine, so that a measurement can say how near it comes: reading memory,
//! multiply-adds of `f32`, and those of the fastest instruction that products of quantized weights are made with.
#![allow(unsafe_code)]

use std::hint::black_box;

use crate::isa::{Isa, instantiate};

/// Chains of multiply-adds: as many as hide the latency of one.
const CHAINS: usize = 12;

/// The sum of the words. What it comes to is of no interest; the words have been read.
pub fn read(isa: Isa, words: &[u64]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: the CPU has AVX-512, says the `Isa`.
        return unsafe { avx512::read(words) };
    }
    narrow_read(isa, words)
}

/// Multiply-adds in registers, `rounds` times over; how many operations that were, a multiply-add being two.
pub fn multiply_adds(isa: Isa, rounds: usize) -> f64 {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: the CPU has AVX-512, says the `Isa`.
        black_box(unsafe { avx512::multiply_adds(rounds) });
        return (2 * CHAINS * 16 * rounds) as f64;
    }
    black_box(narrow_multiply_adds(isa, rounds));
    (2 * CHAINS * 8 * rounds) as f64
}

/// What the products of many tokens are computed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arithmetic {
    /// `f32`.
    Float32,
    /// Products of bytes, sums in `i32`: AVX-512's VNNI.
    Integer,
    /// Products of `bf16`, sums in `f32`: AMX.
    Tiles,
}

impl Arithmetic {
    /// That of weights in blocks of small integers, or in floats, with these instructions.
    pub fn of(isa: Isa, is_quantized: bool) -> Arithmetic {
        if isa.has_amx() {
            Arithmetic::Tiles
        } else if isa.has_avx512() && is_quantized {
            Arithmetic::Integer
        } else {
            Arithmetic::Float32
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Float32 => "float32",
            Arithmetic::Integer => "8-bit integers",
            Arithmetic::Tiles => "bfloat16 tiles",
        }
    }
}

/// As [`multiply_adds`], in the arithmetic of products.
pub fn product_multiply_adds(isa: Isa, is_quantized: bool, rounds: usize) -> f64 {
    match Arithmetic::of(isa, is_quantized) {
        #[cfg(target_arch = "x86_64")]
        Arithmetic::Tiles => {
            // SAFETY: the CPU has AMX and the system lets it be used, says the `Isa`.
            2.0 * unsafe { crate::amx::multiply_adds(rounds) }
        }
        #[cfg(target_arch = "x86_64")]
        Arithmetic::Integer => {
            // SAFETY: the CPU has AVX-512, says the `Isa`.
            black_box(unsafe { avx512::byte_multiply_adds(rounds) });
            (2 * CHAINS * 64 * rounds) as f64
        }
        _ => multiply_adds(isa, rounds),
    }
}

instantiate! {
    fn narrow_read(isa: Isa, words: &[u64]) -> u64 {
        let mut sums = [0u64; 32];
        for words in words.as_chunks::<32>().0 {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
    }

    fn narrow_multiply_adds(isa: Isa, rounds: usize) -> f32 {
        let (factor, term) = (black_box(0.5f32), black_box(1.0f32));
        let mut sums = [[term; 8]; CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                for lane in sum {
                    *lane = isa.mul_add(*lane, factor, term);
                }
            }
        }
        sums.iter().flatten().sum()
    }
}

/// Left to itself, the compiler keeps to 256 bits.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::CHAINS;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    #[target_feature(enable = "avx512f")]
    pub(super) fn read(words: &[u64]) -> u64 {
        let mut sums = [_mm512_setzero_si512(); 4];
        for words in words.as_chunks::<32>().0 {
            for (sum, words) in sums.iter_mut().zip(words.as_chunks::<8>().0) {
                // SAFETY: eight words are 64 bytes, at any alignment.
                let words = unsafe { _mm512_loadu_si512(words.as_ptr().cast()) };
                *sum = _mm512_add_epi64(*sum, words);
            }
        }
        sums.into_iter().fold(0u64, |sum, part| sum.wrapping_add(_mm512_reduce_add_epi64(part) as u64))
    }

    #[target_feature(enable = "avx512f")]
    pub(super) fn multiply_adds(rounds: usize) -> f32 {
        let (factor, term) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
        let mut sums = [term; CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_fmadd_ps(*sum, factor, term);
            }
        }
        sums.into_iter().map(|sum| _mm512_reduce_add_ps(sum)).sum()
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    pub(super) fn byte_multiply_adds(rounds: usize) -> i32 {
        let (unsigned, signed) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-1)));
        let mut sums = [_mm512_setzero_si512(); CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbusd_epi32(*sum, unsigned, signed);
            }
        }
        sums.into_iter().fold(0, |sum, part| sum ^ _mm512_reduce_add_epi32(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_do_what_they_say() {
        let words: Vec<u64> = (0..100).collect();
        for isa in Isa::all() {
            // Whole groups of 32 are read.
            assert_eq!(read(isa, &words), (0..96).sum::<u64>());
            assert!(multiply_adds(isa, 10) >= 2.0 * 12.0 * 8.0 * 10.0);
            assert!(product_multiply_adds(isa, true, 10) >= multiply_adds(isa, 10));
            assert!(product_multiply_adds(isa, false, 10) >= multiply_adds(isa, 10));
        }
    }
}
