//! How a weight is read when a few tokens are multiplied by it. Which way is the fastest is the machine's affair: rows side by side are a
//! quarter faster on one CPU and half as fast on another. So the first products of a set of threads find it out. Sums are the same, bit
//! by bit.

use crate::isa::Isa;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};
use std::time::Instant;

/// Rows that are multiplied side by side, where they are.
pub(crate) const STREAMS: usize = 8;
/// Products that are timed in each way. The faster half of them counts, as the others may be held up by something else.
const TRIALS: usize = 64;
/// Smaller weights tell little of memory: they come from a cache, or are read before the threads have all begun.
const LEAST_BYTES: usize = 1 << 20;

/// The ways of reading a weight. In all of them memory is asked for ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// Row after row, into the second cache.
    InOrder,
    /// Eight rows side by side, each from another eighth of the weight.
    Beside,
    /// Row after row, past the second cache: with AVX-512 alone.
    Past,
}

impl Reading {
    /// All of them.
    pub const ALL: [Reading; 3] = [Reading::InOrder, Reading::Beside, Reading::Past];

    /// How many of them, the first ones, there are with these instructions. With AVX2 a third copy of the loop over rows keeps the
    /// compiler from inlining Q4_K's instructions in any of the copies.
    fn count(isa: Isa) -> usize {
        if isa.has_avx512() { 3 } else { 2 }
    }

    /// In how many places at once the weight is read.
    pub fn n_streams(self) -> usize {
        match self {
            Reading::InOrder | Reading::Past => 1,
            Reading::Beside => STREAMS,
        }
    }
}

/// What a set of threads knows of its machine's memory.
#[derive(Default)]
pub(crate) struct BestReading {
    /// The number in [`Reading::ALL`] of what is best, and 1 more; 0 as long as that is being found out.
    found: AtomicUsize,
    trials: Mutex<Trials>,
}

struct Trials {
    /// Of all ways together, which take turns.
    count: usize,
    /// Seconds for a byte.
    seconds: [[f64; TRIALS]; Reading::ALL.len()],
}

impl Default for Trials {
    fn default() -> Trials {
        Trials { count: 0, seconds: [[0.0; TRIALS]; Reading::ALL.len()] }
    }
}

impl BestReading {
    /// Runs a product with a weight of so many rows and bytes: `product` is told how to read it.
    pub(crate) fn read(&self, isa: Isa, n_rows: usize, len_bytes: usize, product: impl FnOnce(Reading)) {
        let found = self.found();
        if !n_rows.is_multiple_of(STREAMS) || !isa.has_avx2() || (found.is_none() && len_bytes < LEAST_BYTES) {
            return product(self.one_by_one());
        }
        if let Some(found) = found {
            return product(found);
        }
        let mut trials = match self.trials.try_lock() {
            Ok(trials) => trials,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return product(Reading::InOrder),
        };
        let n_ways = Reading::count(isa);
        let way = trials.count % n_ways;
        #[expect(clippy::disallowed_methods, reason = "products are timed to choose how memory is read")]
        let start = Instant::now();
        product(Reading::ALL[way]);
        if let Some(best) = trials.record(way, n_ways, start.elapsed().as_secs_f64() / len_bytes as f64) {
            self.found.store(best + 1, Relaxed);
        }
    }

    /// The best of the ways that read row after row, as far as it is known.
    pub(crate) fn one_by_one(&self) -> Reading {
        let is_row_after_row = |reading: &Reading| reading.n_streams() == 1;
        self.found().filter(is_row_after_row).unwrap_or(Reading::InOrder)
    }

    /// What has turned out to be the fastest; `None` as long as that is being found out.
    pub(crate) fn found(&self) -> Option<Reading> {
        Reading::ALL.get(self.found.load(Relaxed).wrapping_sub(1)).copied()
    }

    /// As if it had been found out.
    #[cfg(test)]
    pub(crate) fn choose(&self, reading: Reading) {
        let number = Reading::ALL.iter().position(|known| *known == reading).unwrap();
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
        for isa in Isa::all().filter(|isa| isa.has_avx2()) {
            let best = BestReading::default();
            let read = |isa, n_rows, len_bytes| {
                let seen = Cell::new(None);
                best.read(isa, n_rows, len_bytes, |reading| seen.set(Some(reading)));
                seen.get().unwrap()
            };
            for _ in 0..TRIALS {
                assert_eq!(best.found(), None);
                assert_eq!(read(isa, 16, LEAST_BYTES - 1), Reading::InOrder);
                for reading in &Reading::ALL[..Reading::count(isa)] {
                    assert_eq!(read(isa, 16, LEAST_BYTES), *reading);
                }
            }
            // The last trial has decided, for smaller weights too.
            assert_eq!(best.found(), Some(read(isa, 16, 1)));
            for reading in Reading::ALL {
                best.choose(reading);
                assert_eq!([read(isa, 16, 1), best.found().unwrap()], [reading; 2]);
                // Rows that are no multiple of eight are read one after the other.
                let other = if reading == Reading::Beside { Reading::InOrder } else { reading };
                assert_eq!(read(isa, 17, LEAST_BYTES), other);
            }
        }
    }
}
