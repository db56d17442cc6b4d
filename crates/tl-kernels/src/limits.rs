//! Loops that do nothing but reach a limit of the machine, so that a measurement can say how near it comes: reading memory,
//! and multiply-adds of `f32`.

use std::hint::black_box;

use crate::isa::{Isa, instantiate};

/// Chains of multiply-adds: as many as hide the latency of one.
const CHAINS: usize = 12;

instantiate! {
    /// The sum of the words. What it comes to is of no interest; the words have been read.
    pub fn read(isa: Isa, words: &[u64]) -> u64 {
        let mut sums = [0u64; 32];
        for words in words.as_chunks::<32>().0 {
            for (sum, word) in sums.iter_mut().zip(words) {
                *sum = sum.wrapping_add(*word);
            }
        }
        sums.iter().fold(0, |sum, part| sum.wrapping_add(*part))
    }

    /// Multiply-adds in registers, `rounds` times over; how many operations that were, a multiply-add being two.
    pub fn multiply_adds(isa: Isa, rounds: usize) -> f64 {
        if isa.has_avx512() { chains::<16>(isa, rounds) } else { chains::<8>(isa, rounds) }
    }
}

#[inline(always)]
fn chains<const LANES: usize>(isa: Isa, rounds: usize) -> f64 {
    let (factor, term) = (black_box(0.5f32), black_box(1.0f32));
    let mut sums = [[term; LANES]; CHAINS];
    for _ in 0..rounds {
        for sum in &mut sums {
            for lane in sum {
                *lane = isa.mul_add(*lane, factor, term);
            }
        }
    }
    black_box(sums);
    (2 * CHAINS * LANES * rounds) as f64
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
        }
    }
}
