//! Loops that do nothing but reach a limit of the machine, so that a measurement can say how near it comes: reading memory,
//! multiply-adds of `f32`, and those of the fastest instruction that products of quantized weights are made with.
#![allow(unsafe_code)]

use std::hint::black_box;

use crate::element::Element;
use crate::isa::{Isa, instantiate};
use crate::quant::{Reading, STREAMS, WeightKernels, arithmetic};

/// Chains of multiply-adds: as many as hide the latency of one.
const CHAINS: usize = 12;

/// Words of a line of the caches.
type Words = [u64; 8];

/// The sum of the words but up to 63 at the end, read as products of a few tokens read a weight, or left to what the CPU foresees. What
/// it comes to is of no interest; the words have been read.
pub fn read(isa: Isa, words: &[u64], reading: Option<Reading>) -> u64 {
    let lines = words.as_chunks::<8>().0;
    if reading == Some(Reading::Beside) {
        let mut streams = [&lines[..0]; STREAMS];
        let length = lines.len() / STREAMS;
        streams.iter_mut().zip(lines.chunks_exact(length.max(1))).for_each(|(stream, lines)| *stream = lines);
        return read_streams(isa, streams, reading);
    }
    read_streams(isa, [lines], reading)
}

/// The sum of the words of all streams, which are equally long.
fn read_streams<const S: usize>(isa: Isa, streams: [&[Words]; S], reading: Option<Reading>) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if isa.has_avx512() {
        // SAFETY: the CPU has AVX-512, says the `Isa`.
        return unsafe { avx512::read(streams, reading) };
    }
    narrow_read(isa, streams, reading)
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
    /// Products of bytes, sums in `i32`.
    Integer,
    /// Products of `bf16`, sums in `f32`.
    Bfloat16,
    /// The same by AMX.
    Tiles {
        /// How many it takes for one multiply-add of a weight and an activation: those of all their `bf16` parts.
        products: usize,
    },
}

impl Arithmetic {
    /// That of a weight in this format and activations in `X`.
    pub fn of<X: Element>(isa: Isa, format: &WeightKernels) -> Arithmetic {
        arithmetic::<X>(isa, format)
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        match self {
            Arithmetic::Float32 => "float32",
            Arithmetic::Integer => "8-bit integers",
            Arithmetic::Bfloat16 => "bfloat16",
            Arithmetic::Tiles { products: 1 } => "bfloat16 tiles",
            Arithmetic::Tiles { .. } => "split bfloat16 tiles",
        }
    }

    /// As [`multiply_adds`], in this arithmetic and the instructions of `isa`, which has them. `None` where the portable
    /// loops leave it to the compiler how integers are multiplied.
    pub fn multiply_adds(self, isa: Isa, rounds: usize) -> Option<f64> {
        match self {
            Arithmetic::Float32 => Some(multiply_adds(isa, rounds)),
            #[cfg(target_arch = "x86_64")]
            Arithmetic::Tiles { products } if isa.has_amx() => {
                // SAFETY: the CPU has AMX and the system lets it be used, says the `Isa`.
                Some(2.0 * unsafe { crate::amx::multiply_adds(rounds) } / products as f64)
            }
            #[cfg(target_arch = "x86_64")]
            Arithmetic::Bfloat16 if isa.rounds_floats() => {
                // SAFETY: the CPU has AVX-512 BF16, says the `Isa`.
                black_box(unsafe { avx512::bf16_multiply_adds(rounds) });
                Some((2 * CHAINS * 32 * rounds) as f64)
            }
            #[cfg(target_arch = "x86_64")]
            Arithmetic::Integer if isa.has_avx512() => {
                // SAFETY: the CPU has AVX-512 and its VNNI, says the `Isa`.
                black_box(unsafe { avx512::byte_multiply_adds(rounds) });
                Some((2 * CHAINS * 64 * rounds) as f64)
            }
            #[cfg(target_arch = "x86_64")]
            Arithmetic::Integer if isa.has_avx2() => {
                // SAFETY: the CPU has AVX2, says the `Isa`.
                black_box(unsafe { byte_multiply_adds_avx2(rounds) });
                Some((2 * CHAINS * 32 * rounds) as f64)
            }
            _ => None,
        }
    }
}

instantiate! {
    fn narrow_read[const S: usize](isa: Isa, streams: [&[Words]; S], reading: Option<Reading>) -> u64 {
        #[cfg(target_arch = "x86_64")]
        let place = reading.map(crate::quant::Place::alone);
        let mut sums = [0u64; 8];
        for i in 0..streams[0].len() {
            for stream in &streams {
                let line = &stream[i];
                #[cfg(target_arch = "x86_64")]
                if let Some(place) = place {
                    place.ask_ahead(line, 0, 1);
                }
                for (sum, word) in sums.iter_mut().zip(line) {
                    *sum = sum.wrapping_add(*word);
                }
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

/// Three instructions for 32 multiply-adds.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn byte_multiply_adds_avx2(rounds: usize) -> i32 {
    use std::arch::x86_64::*;
    let (unsigned, signed) = (_mm256_set1_epi8(black_box(3)), _mm256_set1_epi8(black_box(-1)));
    let ones = _mm256_set1_epi16(1);
    let mut sums = [_mm256_setzero_si256(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            // What is multiplied depends on the sum, so that nothing moves out of the loop.
            let pairs = _mm256_maddubs_epi16(_mm256_xor_si256(unsigned, *sum), signed);
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    let total = sums.into_iter().fold(_mm256_setzero_si256(), |total, sum| _mm256_xor_si256(total, sum));
    _mm256_extract_epi32::<0>(total)
}

/// Left to itself, the compiler keeps to 256 bits.
#[cfg(target_arch = "x86_64")]
mod avx512 {
    use super::{CHAINS, Words};
    use crate::quant::{Place, Reading, load_opaque};
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// With loads of their own: loaded and added by one instruction each, the CPU comes to lines before it has asked for them.
    #[target_feature(enable = "avx512f")]
    pub(super) fn read<const S: usize>(streams: [&[Words]; S], reading: Option<Reading>) -> u64 {
        let place = reading.map(Place::alone);
        let mut sum = _mm512_setzero_si512();
        for i in 0..streams[0].len() {
            for stream in &streams {
                let line = &stream[i];
                if let Some(place) = place {
                    place.ask_ahead(line, 0, 1);
                }
                sum = _mm512_add_epi64(sum, load_opaque(bytemuck::cast_ref(line)));
            }
        }
        _mm512_reduce_add_epi64(sum) as u64
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

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) fn bf16_multiply_adds(rounds: usize) -> f32 {
        let ones = _mm512_set1_ps(black_box(1.0));
        let factors = _mm512_cvtne2ps_pbh(ones, ones);
        let mut sums = [ones; CHAINS];
        for _ in 0..rounds {
            for sum in &mut sums {
                *sum = _mm512_dpbf16_ps(*sum, factors, factors);
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
    use crate::quant::{BF16, F16, F32, Q4_0};
    use half::f16;

    #[test]
    fn whole_groups_of_words_are_read() {
        let words: Vec<u64> = (0..1100).collect();
        for isa in Isa::all() {
            for reading in [None].into_iter().chain(Reading::ALL.map(Some)) {
                let n_read = if reading == Some(Reading::Beside) { 1088 } else { 1096 };
                assert_eq!(read(isa, &words, reading), (0..n_read).sum::<u64>());
                assert_eq!(read(isa, &words[..7], reading), 0);
            }
        }
    }

    #[test]
    fn arithmetic_is_that_of_the_products() {
        for isa in Isa::all() {
            let of = |format| Arithmetic::of::<f16>(isa, format);
            let tiles = |products| Arithmetic::Tiles { products };
            assert_eq!(of(&F32), Arithmetic::Float32);
            let expected = if isa.has_amx() {
                [tiles(4), tiles(2), tiles(1)]
            } else {
                [Arithmetic::Float32, Arithmetic::Float32, Arithmetic::Integer]
            };
            assert_eq!([of(&F16), of(&BF16), of(&Q4_0)], expected, "{isa:?}");
            // Every arithmetic has its loop, but for integers without instructions of their own.
            let has_loop = |format| of(format).multiply_adds(isa, 10).is_some_and(|count| count > 0.0);
            assert!(has_loop(&F32) && has_loop(&F16) && has_loop(&BF16), "{isa:?}");
            assert_eq!(has_loop(&Q4_0), isa != Isa::portable(), "{isa:?}");
        }
    }
}
