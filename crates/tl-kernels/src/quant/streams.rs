//! In how many places at once a weight is read when a few tokens are multiplied by it: in one, row after row, or in [`STREAMS`], rows
//! side by side. Which is faster is the memory's affair (one machine gains a quarter by it, and with AVX2 registers are scarce),
//! so that the first products of a set of threads find it out. Sums are the same, bit by bit.

use crate::isa::Isa;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, TryLockError};
use std::time::Instant;

/// Rows that are multiplied side by side, where they are.
pub(crate) const STREAMS: usize = 8;
/// The ways to be compared.
const WAYS: [usize; 2] = [1, STREAMS];
/// Products that are timed in each way. Medians count, so that single ones may be held up by something else.
const TRIALS: usize = 32;
/// Smaller weights tell little of memory: they come from a cache, or are read before the threads have all begun.
const LEAST_BYTES: usize = 1 << 20;

/// What a set of threads knows of its machine's memory.
#[derive(Default)]
pub(crate) struct Streams {
    /// One of [`WAYS`], or 0 as long as that is being found out.
    chosen: AtomicUsize,
    trials: Mutex<Trials>,
}

#[derive(Default)]
struct Trials {
    /// Of all ways together, which take turns.
    count: usize,
    /// Seconds for a byte.
    seconds: [[f64; TRIALS]; WAYS.len()],
}

impl Streams {
    /// Runs a product with a weight of so many rows and bytes: `product(n)` reads it in `n` streams of equally many rows.
    pub(crate) fn read(&self, isa: Isa, n_rows: usize, len_bytes: usize, product: impl FnOnce(usize)) {
        let chosen = self.chosen();
        if !n_rows.is_multiple_of(STREAMS) || !isa.has_avx2() || (chosen.is_none() && len_bytes < LEAST_BYTES) {
            return product(1);
        }
        if let Some(chosen) = chosen {
            return product(chosen);
        }
        let mut trials = match self.trials.try_lock() {
            Ok(trials) => trials,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return product(1),
        };
        let way = trials.count % WAYS.len();
        let start = Instant::now();
        product(WAYS[way]);
        if let Some(best) = trials.record(way, start.elapsed().as_secs_f64() / len_bytes as f64) {
            self.chosen.store(best, Relaxed);
        }
    }

    /// In how many it has turned out to be faster; `None` as long as that is being found out.
    pub(crate) fn chosen(&self) -> Option<usize> {
        Some(self.chosen.load(Relaxed)).filter(|chosen| *chosen != 0)
    }

    /// As if it had been found out.
    #[cfg(test)]
    pub(crate) fn choose(&self, n_streams: usize) {
        self.chosen.store(n_streams, Relaxed);
    }
}

impl Trials {
    /// The best way, once it is known.
    fn record(&mut self, way: usize, seconds: f64) -> Option<usize> {
        // Two threads may both have found trials unfinished.
        if let Some(place) = self.seconds[way].get_mut(self.count / WAYS.len()) {
            *place = seconds;
            self.count += 1;
        }
        (self.count == TRIALS * WAYS.len()).then(|| {
            let medians = self.seconds.map(|mut seconds| {
                seconds.sort_by(f64::total_cmp);
                seconds[TRIALS / 2]
            });
            if medians[1] < medians[0] { WAYS[1] } else { WAYS[0] }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn the_faster_way_is_taken_though_products_are_held_up() {
        for best in [0, 1] {
            let mut trials = Trials::default();
            let mut chosen = None;
            for trial in 0..TRIALS {
                for way in [0, 1] {
                    assert_eq!(chosen, None);
                    let held_up = if trial % 3 == 0 { 100.0 } else { 0.0 };
                    chosen = trials.record(way, if way == best { 1.0 + held_up } else { 1.2 });
                }
            }
            assert_eq!(chosen, Some(WAYS[best]));
            assert_eq!(trials.record(0, 0.0), chosen);
        }
    }

    #[test]
    fn ways_take_turns_until_one_is_chosen() {
        let streams = Streams::default();
        let read = |isa, n_rows, len_bytes| {
            let seen = Cell::new(0);
            streams.read(isa, n_rows, len_bytes, |n_streams| seen.set(n_streams));
            seen.get()
        };
        for isa in Isa::all().filter(|isa| isa.has_avx2()) {
            streams.choose(0);
            *streams.trials.lock().unwrap() = Trials::default();
            for _ in 0..TRIALS {
                assert_eq!([(); 2].map(|()| read(isa, 16, LEAST_BYTES)), WAYS);
                assert_eq!(read(isa, 17, LEAST_BYTES), 1);
                // The last trial has decided, for smaller weights too.
                let chosen = streams.chosen();
                assert_eq!(read(isa, 16, LEAST_BYTES - 1), chosen.unwrap_or(1));
            }
            assert!(streams.chosen().is_some_and(|chosen| WAYS.contains(&chosen)));
            assert_eq!(read(Isa::portable(), 16, LEAST_BYTES), 1);
        }
    }
}
