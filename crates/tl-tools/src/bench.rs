//! Measurement of a model's speed.
//!
//! Memory is reserved first, as for generation, and each measured operation has run once before: the same prompt, a
//! decoded token. A step is the same as in generation: the model, and the choice of the likeliest token.

use std::time::Instant;

use tl_device::TensorBuffer;
use tl_engine::{KvCache, Model, ReserveFor, SamplingOptions};
use tl_model::{Result, Sampler};
use tl_tensor::Random;

/// The least tokens of a test of steps of some rows: so many that a step of one row is measured several times.
const ROWS_TOKENS: usize = 64;

/// A measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// This many tokens at once, into an empty cache.
    Prefill(usize),
    /// Steps of this many tokens at once, each into an empty cache, until there are 64 tokens or more.
    Rows(usize),
    /// `count` tokens one after the other, with `depth` already in the cache.
    Decode {
        /// Number of measured tokens.
        count: usize,
        /// Tokens already in the cache.
        depth: usize,
    },
}

impl Test {
    /// The required context, in tokens.
    pub fn context(self) -> usize {
        match self {
            Test::Prefill(count) | Test::Rows(count) => count,
            Test::Decode { count, depth } => depth.saturating_add(count),
        }
    }

    /// Number of measured tokens.
    pub fn n_tokens(self) -> usize {
        match self {
            Test::Prefill(count) | Test::Decode { count, .. } => count,
            Test::Rows(count) => count * self.n_steps(),
        }
    }

    /// Number of steps in which the tokens go through the model.
    pub fn n_steps(self) -> usize {
        match self {
            Test::Prefill(_) => 1,
            Test::Rows(count) => ROWS_TOKENS.div_ceil(count.max(1)),
            Test::Decode { count, .. } => count,
        }
    }

    /// The name: `pp512`, `rows8`, `tg64`, `tg64d1024`.
    pub fn name(self) -> String {
        match self {
            Test::Prefill(count) => format!("pp{count}"),
            Test::Rows(count) => format!("rows{count}"),
            Test::Decode { count, depth: 0 } => format!("tg{count}"),
            Test::Decode { count, depth } => format!("tg{count}d{depth}"),
        }
    }
}

/// Results of a test's repetitions.
#[non_exhaustive]
pub struct Measured {
    /// The test.
    pub test: Test,
    /// Tokens per second of each repetition.
    pub rates: Vec<f64>,
    /// Allocations of the device in all repetitions.
    pub allocation_count: u64,
}

impl Measured {
    /// The median rate.
    pub fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        let middle = |index: usize| rates.get(index).copied().unwrap_or(0.0);
        (middle(rates.len() / 2) + middle(rates.len().saturating_sub(1) / 2)) / 2.0
    }

    /// The lowest rate.
    pub fn slowest(&self) -> f64 {
        self.rates.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The highest rate.
    pub fn fastest(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
}

/// A model with its memory, ready for measurement.
pub struct Bench<'a> {
    model: &'a Model,
    cache: KvCache,
    sampler: Sampler,
    /// Random tokens, as many as the context holds.
    tokens: Vec<u32>,
}

impl Bench<'_> {
    /// Reserves memory for a context, as generation does.
    ///
    /// # Errors
    /// As for [`ReserveFor::reserve_for`].
    pub fn new(model: &Model, context: usize) -> Result<Bench<'_>> {
        let device = model.device();
        let buffer = TensorBuffer::new(device);
        buffer.reserve_for(model, context)?;
        device.set_tensor_buffer(buffer);
        let vocab_size = model.config().vocab_size;
        let greedy = SamplingOptions::greedy();
        let mut random = Random::new(0);
        // The remainder is below the vocabulary size, which is below 2^28.
        let token = |_| (random.next_u64() % vocab_size.max(1) as u64) as u32;
        Ok(Bench {
            model,
            cache: model.new_cache(context)?,
            sampler: Sampler::new(greedy, vocab_size)?,
            tokens: (0..context).map(token).collect(),
        })
    }

    /// Starts the threads and touches all weights.
    ///
    /// # Errors
    /// Errors of running the model.
    pub fn warm_up(&mut self) -> Result<()> {
        let len = self.tokens.len().min(64);
        self.fill(len)?;
        self.go_back(len - 1)?;
        self.decode(1)
    }

    /// Runs a test `reps` times, and once before that if it is the first of its size.
    ///
    /// # Errors
    /// Errors of running the model.
    pub fn measure(&mut self, test: Test, reps: u32) -> Result<Measured> {
        match test {
            // Once without measurement, to allocate buffers of this size.
            Test::Prefill(count) | Test::Rows(count) => self.fill(count)?,
            Test::Decode { depth, .. } => self.fill(depth)?,
        }
        let count = |model: &Model| model.device().stats().allocation_count;
        let before = count(self.model);
        let mut rates = Vec::new();
        for _ in 0..reps {
            if let Test::Decode { depth, .. } = test {
                self.go_back(depth)?;
            }
            let start = Instant::now();
            match test {
                Test::Prefill(count) => self.fill(count)?,
                Test::Rows(count) => (0..test.n_steps()).try_for_each(|_| self.fill(count))?,
                Test::Decode { count, .. } => self.decode(count)?,
            }
            rates.push(test.n_tokens() as f64 / start.elapsed().as_secs_f64().max(1e-9));
        }
        Ok(Measured { test, rates, allocation_count: count(self.model) - before })
    }

    /// Truncates the cache to the first `len` tokens, or refills it if its windows or states do not allow that.
    fn go_back(&mut self, len: usize) -> Result<()> {
        match self.cache.truncate(len) {
            Ok(()) => Ok(()),
            Err(_) => self.fill(len),
        }
    }

    /// Puts `len` tokens into the empty cache.
    fn fill(&mut self, len: usize) -> Result<()> {
        self.cache.clear();
        match self.tokens.get(..len) {
            Some(tokens) if len > 0 => {
                let logits = self.model.forward(tokens, &mut self.cache)?;
                self.sampler.sample_tensor(&logits).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Continues from the cache's tokens, each time with the likeliest token.
    fn decode(&mut self, count: usize) -> Result<()> {
        let mut token = self.tokens.first().copied().unwrap_or(0);
        for _ in 0..count {
            let logits = self.model.forward(&[token], &mut self.cache)?;
            token = self.sampler.sample_tensor(&logits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        let check = |rates: &[f64], expected: [f64; 3]| {
            let measured = Measured { test: Test::Prefill(1), rates: rates.to_vec(), allocation_count: 0 };
            assert_eq!([measured.median(), measured.slowest(), measured.fastest()], expected, "{rates:?}");
        };
        check(&[3.0], [3.0, 3.0, 3.0]);
        check(&[4.0, 1.0], [2.5, 1.0, 4.0]);
        check(&[5.0, 1.0, 2.0], [2.0, 1.0, 5.0]);
        check(&[5.0, 1.0, 2.0, 4.0], [3.0, 1.0, 5.0]);
    }
}
