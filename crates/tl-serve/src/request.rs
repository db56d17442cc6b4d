//! A request to the engine: tokens in, tokens out.

use tl_engine::{Constraint, SamplingOptions};

use crate::error::Refusal;

/// A prompt to continue.
#[derive(Debug)]
pub struct Request {
    /// The prompt, with the tokens that begin a text.
    pub prompt: Vec<u32>,
    /// Maximum tokens of the answer.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// What the answer must follow.
    pub constraint: Option<Box<dyn Constraint>>,
    /// Log-probabilities given with each token: those of so many of the likeliest. 0: none, nor that of the chosen one.
    /// At most [`Request::MAX_LOGPROBS`].
    pub n_logprobs: usize,
    /// Whether the beginning of the prompt that an earlier sequence left in the cache may be used again. Its values can
    /// differ in their last bits from those of a fresh run, so a request that must repeat exactly sets this to false. An engine
    /// of several sequences uses again only what has the same bits: there it changes nothing.
    pub reuses_prefix: bool,
}

impl Request {
    /// The most log-probabilities for each token.
    pub const MAX_LOGPROBS: usize = 20;

    /// A request for at most `max_tokens`, at temperature 1 over all tokens.
    pub fn new(prompt: Vec<u32>, max_tokens: usize) -> Request {
        let sampling = SamplingOptions::default();
        Request { prompt, max_tokens, sampling, constraint: None, n_logprobs: 0, reuses_prefix: true }
    }

    /// Checks that a sequence has memory for so many tokens.
    pub(crate) fn check_len(prompt: usize, max_tokens: usize, context: usize) -> Result<(), Refusal> {
        let needed = prompt.saturating_add(max_tokens);
        match needed > context {
            true => Err(Refusal::TooLong { prompt, max_tokens, needed, limit: context }),
            false => Ok(()),
        }
    }

    /// Checks what can be checked without the state of the engine.
    pub(crate) fn check(&self, context: usize, vocab_size: usize) -> Result<(), Refusal> {
        if self.prompt.is_empty() {
            return Err(Refusal::EmptyPrompt);
        }
        if self.max_tokens == 0 {
            return Err(Refusal::NoTokens);
        }
        Request::check_len(self.prompt.len(), self.max_tokens, context)?;
        if let Some(&id) = self.prompt.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(Refusal::Token { id, vocab_size });
        }
        if self.n_logprobs > Request::MAX_LOGPROBS {
            return Err(Refusal::TooManyLogprobs { asked: self.n_logprobs, limit: Request::MAX_LOGPROBS });
        }
        self.sampling.check().map_err(Refusal::Sampling)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_cannot_run() {
        let check = |request: Request, expected: Option<&str>| {
            let found = request.check(8, 100).err().map(|refusal| refusal.to_string());
            assert_eq!(found.is_some(), expected.is_some(), "{found:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()));
        };
        check(Request::new(vec![1, 2, 99], 5), None);
        check(Request::new(vec![], 5), Some("no tokens"));
        check(Request::new(vec![1], 0), Some("expected at least 1"));
        check(Request::new(vec![1, 2, 3], 6), Some("has 3 tokens, and with at most 6 of an answer it needs 9"));
        check(Request::new(vec![1], usize::MAX), Some("memory for 8"));
        check(Request::new(vec![100], 5), Some("token 100 is outside"));
        check(Request { n_logprobs: 21, ..Request::new(vec![1], 5) }, Some("21 log-probabilities"));
        let sampling = SamplingOptions::default().with_top_p(0.0);
        check(Request { sampling, ..Request::new(vec![1], 5) }, Some("top_p is 0"));
    }
}
