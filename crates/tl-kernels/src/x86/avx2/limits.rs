//! Loops that reach the limits of a machine with AVX2.

use crate::limits::{CHAINS, LimitLoops, Words, add_line, total};
use crate::quant::prefetch::Prefetch;
use crate::x86::level::Avx2;
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;
use std::hint::black_box;

impl LimitLoops for Avx2 {
    fn read_streams<const S: usize>(self, streams: [&[Words]; S], prefetch: Option<Prefetch>) -> u64 {
        // SAFETY: the set proves AVX2.
        unsafe { read(streams, prefetch) }
    }

    fn byte_multiply_adds(self, rounds: usize) -> Option<f64> {
        // SAFETY: the set proves AVX2.
        black_box(unsafe { byte_multiply_adds(rounds) });
        Some((2 * CHAINS * 32 * rounds) as f64)
    }
}

#[target_feature(enable = "avx2")]
fn read<const S: usize>(streams: [&[Words]; S], prefetch: Option<Prefetch>) -> u64 {
    let position = prefetch.map(PrefetchPosition::of_line);
    let mut sums = [0; 8];
    for i in 0..streams[0].len() {
        for stream in &streams {
            if let Some(position) = position {
                position.prefetch(&stream[i], 0, 1);
            }
            add_line(&mut sums, &stream[i]);
        }
    }
    total(sums)
}

/// Three instructions for 32 multiply-adds.
#[target_feature(enable = "avx2")]
fn byte_multiply_adds(rounds: usize) -> i32 {
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
