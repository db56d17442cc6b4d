//! Loops that do nothing but reach a limit of the machine, so that a measurement can say how near it comes: reading memory,
//! multiply-adds of `f32`, and those of the fastest instruction that products of quantized weights are made with.

use crate::element::Element;
use crate::isa::{Isa, Portable, dispatch, instantiate};
use crate::quant::{Prefetch, STREAMS, WeightKernels, arithmetic};
use std::hint::black_box;

pub use crate::quant::Arithmetic;

/// Chains of multiply-adds: as many as hide the latency of one.
pub(crate) const CHAINS: usize = 12;

/// Words of a line of the caches.
pub(crate) type Words = [u64; 8];

/// The sum of the words but up to 63 at the end, prefetched as products of a few tokens prefetch a weight, or left to the hardware. The
/// sum is of no interest; the words have been read.
pub fn read(isa: Isa, words: &[u64], prefetch: Option<Prefetch>) -> u64 {
    let lines = words.as_chunks::<8>().0;
    if prefetch == Some(Prefetch::Interleaved) {
        let mut streams = [&lines[..0]; STREAMS];
        let length = lines.len() / STREAMS;
        streams.iter_mut().zip(lines.chunks_exact(length.max(1))).for_each(|(stream, lines)| *stream = lines);
        return dispatch!(isa, set => set.read_streams(streams, prefetch));
    }
    dispatch!(isa, set => set.read_streams([lines], prefetch))
}

/// Multiply-adds in registers, `rounds` times over; how many operations that were, a multiply-add being two.
pub fn multiply_adds(isa: Isa, rounds: usize) -> f64 {
    dispatch!(isa, set => set.multiply_adds(rounds)).unwrap_or_else(|| {
        black_box(multiply_adds_of_eight(isa, rounds));
        (2 * CHAINS * 8 * rounds) as f64
    })
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
            Arithmetic::Integer => dispatch!(isa, set => set.byte_multiply_adds(rounds)),
            Arithmetic::Bfloat16 => dispatch!(isa, set => set.bf16_multiply_adds(rounds)),
            Arithmetic::Tiles { products } => {
                dispatch!(isa, set => set.tile_multiply_adds(rounds)).map(|count| count / products as f64)
            }
        }
    }
}

/// The loops of an instruction set. Those of multiply-adds give the number of operations, a multiply-add being two; `None` without
/// the instruction.
pub(crate) trait LimitLoops: Copy {
    /// The sum of the words of all streams, which are equally long.
    fn read_streams<const S: usize>(self, streams: [&[Words]; S], _prefetch: Option<Prefetch>) -> u64 {
        let mut sums = [0u64; 8];
        for i in 0..streams[0].len() {
            for stream in &streams {
                add_line(&mut sums, &stream[i]);
            }
        }
        total(sums)
    }

    /// Of `f32`, more than eight at a time.
    fn multiply_adds(self, _rounds: usize) -> Option<f64> {
        None
    }

    /// Of bytes.
    fn byte_multiply_adds(self, _rounds: usize) -> Option<f64> {
        None
    }

    /// Of `bf16`.
    fn bf16_multiply_adds(self, _rounds: usize) -> Option<f64> {
        None
    }

    /// Of tiles of `bf16`.
    fn tile_multiply_adds(self, _rounds: usize) -> Option<f64> {
        None
    }
}

impl LimitLoops for Portable {}

/// Adds the words of a line.
#[inline(always)]
pub(crate) fn add_line(sums: &mut Words, line: &Words) {
    for (sum, word) in sums.iter_mut().zip(line) {
        *sum = sum.wrapping_add(*word);
    }
}

/// The sum of the sums.
#[inline(always)]
pub(crate) fn total(sums: Words) -> u64 {
    sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
}

instantiate! {
    fn multiply_adds_of_eight(isa: Isa, rounds: usize) -> f32 {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quant::{BF16, F16, F32, Q4_0};
    use half::f16;

    #[test]
    fn whole_groups_of_words_are_read() {
        let words: Vec<u64> = (0..1100).collect();
        for isa in Isa::all() {
            for prefetch in [None].into_iter().chain(Prefetch::ALL.map(Some)) {
                let n_read = if prefetch == Some(Prefetch::Interleaved) { 1088 } else { 1096 };
                assert_eq!(read(isa, &words, prefetch), (0..n_read).sum::<u64>());
                assert_eq!(read(isa, &words[..7], prefetch), 0);
            }
        }
    }

    #[test]
    fn arithmetic_is_that_of_the_products() {
        for isa in Isa::all() {
            let of = |format| Arithmetic::of::<f16>(isa, format);
            let tiles = |products| Arithmetic::Tiles { products };
            assert_eq!(of(&F32), Arithmetic::Float32);
            let expected = if isa.name() == "amx" {
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
