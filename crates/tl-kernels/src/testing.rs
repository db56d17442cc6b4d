//! What the tests of this crate share: random numbers, every instruction set, closeness.

use crate::element::Element;
use crate::isa::Isa;
use crate::quant::Prefetch;
use crate::threads::Threads;

/// A xorshift generator: the same numbers in every run.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(crate) fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Uniform in -1 .. 1.
    pub(crate) fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// `n` values, uniform in -1 .. 1.
    pub(crate) fn vec<T: Element>(&mut self, n: usize) -> Vec<T> {
        (0..n).map(|_| T::from_f32(self.unit())).collect()
    }
}

/// Threads to test with: every instruction set of this machine, alone and with workers.
pub(crate) fn all_threads() -> Vec<Threads> {
    let ways = [(1, Prefetch::Interleaved), (3, Prefetch::NonTemporal), (3, Prefetch::Sequential)];
    let sets = Isa::all().flat_map(|isa| ways.map(|way| (isa, way)));
    sets.map(|(isa, (count, prefetch))| {
        let threads = Threads::with_isa(count, isa);
        threads.best_prefetch().choose(prefetch);
        threads
    })
    .collect()
}

/// Fails unless each `found[i]` is within `absolute + relative * |expected[i]|`; NaN and infinities must be the same.
#[track_caller]
pub(crate) fn assert_close<T: Element>(what: &str, found: &[T], expected: &[f64], absolute: f64, relative: f64) {
    assert_eq!(found.len(), expected.len(), "{what}: length");
    for (i, (found, &expected)) in found.iter().zip(expected).enumerate() {
        let found = f64::from(found.to_f32());
        let same = found == expected || (found.is_nan() && expected.is_nan());
        let close = (found - expected).abs() <= absolute + relative * expected.abs();
        assert!(same || (close && found.is_finite()), "{what}: element {i} is {found}, expected {expected}");
    }
}

/// The distance from 1 to the next number of an element type: twice the relative error of rounding to it.
pub(crate) fn rounding<T: Element>() -> f64 {
    let mut step = 1.0;
    while T::from_f32(1.0 + step / 2.0).to_f32() > 1.0 {
        step /= 2.0;
    }
    f64::from(step)
}
