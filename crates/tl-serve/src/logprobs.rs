//! Log-probabilities of tokens, from a step's logits.

use tl_engine::Result;
use tl_model::ModelError;
use tl_tensor::Tensor;

use crate::stream::TokenLogprob;

/// Scratch for the logits of a step, and its likeliest tokens.
#[derive(Debug, Default)]
pub(crate) struct Logprobs {
    logits: Vec<f32>,
    /// Logarithm of the sum of all exponentials.
    log_sum: f64,
    top: Vec<TokenLogprob>,
}

impl Logprobs {
    /// Scratch for this many tokens.
    pub(crate) fn new(vocab_size: usize, max_top: usize) -> Logprobs {
        Logprobs { logits: Vec::with_capacity(vocab_size), log_sum: 0.0, top: Vec::with_capacity(max_top + 1) }
    }

    /// Reads a step's logits, `[1, vocab_size]`, and finds the `n_top` likeliest tokens.
    pub(crate) fn read(&mut self, logits: &Tensor, n_top: usize) -> Result<()> {
        self.logits.resize(logits.n_elems(), 0.0);
        logits.read_f32(&mut self.logits).map_err(ModelError::from)?;
        self.find(n_top);
        Ok(())
    }

    fn find(&mut self, n_top: usize) {
        let largest = self.logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = self.logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
        self.log_sum = f64::from(largest) + sum.ln();
        self.top.clear();
        for (&logit, id) in self.logits.iter().zip(0u32..) {
            if self.top.len() == n_top && self.top.last().is_none_or(|last| logit <= last.logprob) {
                continue;
            }
            let at = self.top.partition_point(|other| other.logprob >= logit);
            self.top.insert(at, TokenLogprob { id, logprob: logit });
            self.top.truncate(n_top);
        }
        let log_sum = self.log_sum;
        self.top.iter_mut().for_each(|top| top.logprob = (f64::from(top.logprob) - log_sum) as f32);
    }

    /// The log-probability of a token.
    pub(crate) fn of(&self, id: u32) -> f32 {
        let logit = self.logits.get(id as usize).copied().unwrap_or(f32::NEG_INFINITY);
        (f64::from(logit) - self.log_sum) as f32
    }

    /// The likeliest tokens, the likeliest first.
    pub(crate) fn top(&self) -> &[TokenLogprob] {
        &self.top
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_likeliest_of_a_few() {
        let mut logprobs = Logprobs::new(4, 20);
        logprobs.logits = vec![0.0, 2f32.ln(), f32::NEG_INFINITY, 2f32.ln()];
        let check = |logprobs: &mut Logprobs, n: usize, expected: &[(u32, f32)]| {
            logprobs.find(n);
            assert_eq!(logprobs.top().len(), expected.len());
            for (top, &(id, probability)) in logprobs.top().iter().zip(expected) {
                // Three roundings to float32.
                assert!(top.id == id && (top.logprob.exp() - probability).abs() < 1e-6, "{top:?}");
            }
        };
        check(&mut logprobs, 0, &[]);
        check(&mut logprobs, 1, &[(1, 0.4)]);
        check(&mut logprobs, 3, &[(1, 0.4), (3, 0.4), (0, 0.2)]);
        check(&mut logprobs, 20, &[(1, 0.4), (3, 0.4), (0, 0.2), (2, 0.0)]);
        assert_eq!((logprobs.of(2), logprobs.of(9)), (f32::NEG_INFINITY, f32::NEG_INFINITY));
    }
}
