//! Loops that reach the limits of a machine with AVX-512. Left to itself, the compiler keeps to 256 bits.

use crate::limits::{CHAINS, LimitLoops, Words};
use crate::quant::prefetch::Prefetch;
use crate::x86::amx;
use crate::x86::avx512::registers::load_opaque;
use crate::x86::level::Avx512;
use crate::x86::walk::PrefetchPosition;
use std::arch::x86_64::*;
use std::hint::black_box;

impl LimitLoops for Avx512 {
    fn read_streams<const S: usize>(self, streams: [&[Words]; S], prefetch: Option<Prefetch>) -> u64 {
        // SAFETY: the set proves AVX-512.
        unsafe { read(streams, prefetch) }
    }

    fn multiply_adds(self, rounds: usize) -> Option<f64> {
        // SAFETY: the set proves AVX-512.
        black_box(unsafe { multiply_adds(rounds) });
        Some((2 * CHAINS * 16 * rounds) as f64)
    }

    fn byte_multiply_adds(self, rounds: usize) -> Option<f64> {
        // SAFETY: the set proves AVX-512 and its VNNI.
        black_box(unsafe { byte_multiply_adds(rounds) });
        Some((2 * CHAINS * 64 * rounds) as f64)
    }

    fn bf16_multiply_adds(self, rounds: usize) -> Option<f64> {
        self.rounds_floats().then(|| {
            // SAFETY: the set proves AVX-512 BF16.
            black_box(unsafe { bf16_multiply_adds(rounds) });
            (2 * CHAINS * 32 * rounds) as f64
        })
    }

    fn tile_multiply_adds(self, rounds: usize) -> Option<f64> {
        // SAFETY: the set proves AMX.
        self.has_tiles().then(|| 2.0 * unsafe { amx::multiply_adds(rounds) })
    }
}

/// Loads are instructions of their own: an addition with a memory operand reads lines before their prefetch was issued.
#[target_feature(enable = "avx512f")]
fn read<const S: usize>(streams: [&[Words]; S], prefetch: Option<Prefetch>) -> u64 {
    let position = prefetch.map(PrefetchPosition::of_line);
    let mut sum = _mm512_setzero_si512();
    for i in 0..streams[0].len() {
        for stream in &streams {
            let line = &stream[i];
            if let Some(position) = position {
                position.prefetch(line, 0, 1);
            }
            sum = _mm512_add_epi64(sum, load_opaque(bytemuck::cast_ref(line)));
        }
    }
    _mm512_reduce_add_epi64(sum) as u64
}

#[target_feature(enable = "avx512f")]
fn multiply_adds(rounds: usize) -> f32 {
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
fn bf16_multiply_adds(rounds: usize) -> f32 {
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
fn byte_multiply_adds(rounds: usize) -> i32 {
    let (unsigned, signed) = (_mm512_set1_epi8(black_box(3)), _mm512_set1_epi8(black_box(-1)));
    let mut sums = [_mm512_setzero_si512(); CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            *sum = _mm512_dpbusd_epi32(*sum, unsigned, signed);
        }
    }
    sums.into_iter().fold(0, |sum, part| sum ^ _mm512_reduce_add_epi32(part))
}
