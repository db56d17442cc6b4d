//! Finds out how weights are prefetched best when a few tokens are multiplied by them. The fastest way depends on the machine:
//! interleaved rows are a quarter faster on one CPU and half as fast on another. So the first products of a set of threads take turns
//! and are timed. Sums are the same, bit by bit.

use super::prefetch::{Prefetch, STREAMS};
use super::row_dot::RowDots;
use crate::isa::{Isa, dispatch};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};
use std::time::Instant;

/// Products that are timed in each way. The faster half counts: the others may be delayed by something else.
const TRIALS: usize = 64;
/// Smaller weights say little of memory: they come from a cache, or are read before all threads have begun.
const LEAST_BYTES: usize = 1 << 20;

/// The best way to prefetch weights, and the trials that find it.
#[derive(Default)]
pub(crate) struct BestPrefetch {
    /// The index in [`Prefetch::ALL`] of the best way, plus 1; 0 until it is known.
    found: AtomicUsize,
    trials: Mutex<Trials>,
}

struct Trials {
    /// Trials of all ways, which take turns.
    count: usize,
    /// Seconds per byte.
    seconds: [[f64; TRIALS]; Prefetch::ALL.len()],
}

impl Default for Trials {
    fn default() -> Trials {
        Trials { count: 0, seconds: [[0.0; TRIALS]; Prefetch::ALL.len()] }
    }
}

impl BestPrefetch {
    /// Runs a product with a weight of `n_rows` rows and `len_bytes` bytes, with the best way to prefetch it, or one to be timed.
    pub(crate) fn read(&self, isa: Isa, n_rows: usize, len_bytes: usize, product: impl FnOnce(Prefetch)) {
        let found = self.found();
        let ways = dispatch!(isa, set => set.prefetches());
        if !n_rows.is_multiple_of(STREAMS) || ways.len() < 2 || (found.is_none() && len_bytes < LEAST_BYTES) {
            return product(self.best_single_stream());
        }
        if let Some(found) = found {
            return product(found);
        }
        let mut trials = match self.trials.try_lock() {
            Ok(trials) => trials,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return product(Prefetch::Sequential),
        };
        let n_ways = ways.len();
        let way = trials.count % n_ways;
        #[expect(clippy::disallowed_methods, reason = "products are timed to choose how memory is read")]
        let start = Instant::now();
        product(Prefetch::ALL[way]);
        if let Some(best) = trials.record(way, n_ways, start.elapsed().as_secs_f64() / len_bytes as f64) {
            self.found.store(best + 1, Relaxed);
        }
    }

    /// The best way of those that read row after row; the first until it is known.
    pub(crate) fn best_single_stream(&self) -> Prefetch {
        let is_row_after_row = |prefetch: &Prefetch| prefetch.n_streams() == 1;
        self.found().filter(is_row_after_row).unwrap_or(Prefetch::Sequential)
    }

    /// The fastest way; `None` until it is known.
    pub(crate) fn found(&self) -> Option<Prefetch> {
        Prefetch::ALL.get(self.found.load(Relaxed).wrapping_sub(1)).copied()
    }

    /// Sets the best way.
    #[cfg(test)]
    pub(crate) fn choose(&self, prefetch: Prefetch) {
        let number = Prefetch::ALL.iter().position(|known| *known == prefetch).unwrap();
        self.found.store(number + 1, Relaxed);
    }
}

impl Trials {
    /// The number of the best way, once it is known.
    fn record(&mut self, way: usize, n_ways: usize, seconds: f64) -> Option<usize> {
        // Two threads may both have found trials unfinished.
        if let Some(place) = self.seconds[way].get_mut(self.count / n_ways) {
            *place = seconds;
            self.count += 1;
        }
        if self.count < TRIALS * n_ways {
            return None;
        }
        let totals = self.seconds.map(|mut seconds| {
            seconds.sort_by(f64::total_cmp);
            seconds[..TRIALS / 2].iter().sum::<f64>()
        });
        (0..n_ways).min_by(|a, b| totals[*a].total_cmp(&totals[*b]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_faster_way_is_taken_though_products_are_held_up() {
        for (n_ways, best) in [2, 3].into_iter().flat_map(|n_ways| (0..n_ways).map(move |best| (n_ways, best))) {
            let mut trials = Trials::default();
            let mut found = None;
            for trial in 0..TRIALS {
                for way in 0..n_ways {
                    assert_eq!(found, None);
                    let held_up = if trial % 3 == 0 { 100.0 } else { 0.0 };
                    found = trials.record(way, n_ways, if way == best { 1.0 + held_up } else { 1.2 });
                }
            }
            assert_eq!(found, Some(best));
            assert_eq!(trials.record(0, n_ways, 0.0), found);
        }
    }

    #[test]
    fn ways_take_turns_until_one_is_found() {
        for isa in Isa::all().filter(|isa| dispatch!(isa, set => set.prefetches()).len() > 1) {
            let best = BestPrefetch::default();
            let read = |isa, n_rows, len_bytes| {
                let seen = Cell::new(None);
                best.read(isa, n_rows, len_bytes, |prefetch| seen.set(Some(prefetch)));
                seen.get().unwrap()
            };
            for _ in 0..TRIALS {
                assert_eq!(best.found(), None);
                assert_eq!(read(isa, 16, LEAST_BYTES - 1), Prefetch::Sequential);
                for prefetch in dispatch!(isa, set => set.prefetches()) {
                    assert_eq!(read(isa, 16, LEAST_BYTES), *prefetch);
                }
            }
            // The last trial has decided, for smaller weights too.
            assert_eq!(best.found(), Some(read(isa, 16, 1)));
            for prefetch in Prefetch::ALL {
                best.choose(prefetch);
                assert_eq!([read(isa, 16, 1), best.found().unwrap()], [prefetch; 2]);
                // Rows that are no multiple of eight are read one after the other.
                let other = if prefetch == Prefetch::Interleaved { Prefetch::Sequential } else { prefetch };
                assert_eq!(read(isa, 17, LEAST_BYTES), other);
            }
        }
    }
}
