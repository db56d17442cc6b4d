//! Generation as an iterator of tokens: prefill of the prompt, then a token at a time.
//!
//! The first call to `next` runs the prompt; every call takes the token to run from the one before. All memory is taken
//! when the generator is made or comes from what was reserved: `next` itself allocates nothing for a single token.

use std::time::{Duration, Instant};

use tl_tensor::Tensor;

use crate::error::{ModelError, Result};
use crate::kv_cache::KvCache;
use crate::model::Model;
use crate::sampling::{Sampler, SamplingOptions};

/// What to generate.
#[derive(Clone, Debug)]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Tokens that there is to be room for, prompt and text together; the model's own limit unless given.
    pub context: Option<usize>,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
}

impl Default for GenerateOptions {
    /// 100 tokens at temperature 0.8 and top-p 0.95, seed 0.
    fn default() -> GenerateOptions {
        let sampling = SamplingOptions { temperature: 0.8, top_p: 0.95, ..SamplingOptions::default() };
        GenerateOptions { max_tokens: 100, context: None, sampling }
    }
}

/// Why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended the text.
    EndOfText,
    /// As many tokens as were asked for.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// An error, which the iterator has given.
    Failed,
}

/// Tokens and times so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Timings {
    /// Tokens of the prompt that went through the model.
    pub prompt_tokens: usize,
    /// How long the prompt took.
    pub prefill: Duration,
    /// Single tokens that went through the model after it.
    pub decoded_tokens: usize,
    /// How long they took, choosing included.
    pub decode: Duration,
}

impl Timings {
    /// Decoded tokens per second; 0 before the first.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decoded_tokens, self.decode)
    }

    /// Tokens of the prompt per second; 0 before it.
    pub fn prefill_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prefill)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// An iterator of the tokens that a model gives after a prompt. The token that ends the text is not among them.
#[derive(Debug)]
pub struct Generator {
    model: Model,
    cache: KvCache,
    sampler: Sampler,
    /// What goes through the model next: the prompt, then one token.
    next: Vec<u32>,
    stop_tokens: Vec<u32>,
    left: usize,
    finish: Option<Finish>,
    timings: Timings,
}

impl Generator {
    /// Prepares to go on from `prompt`: takes the KV cache and reserves the sampler's scratch.
    ///
    /// Memory for the steps comes from the device's tensor buffer where one is set (see
    /// [`ReserveFor`](crate::ReserveFor)).
    ///
    /// # Errors
    /// An empty prompt, one that does not fit, a context beyond the model's, sampling options out of range, memory
    /// that cannot be had.
    pub fn new(model: &Model, prompt: &[u32], options: &GenerateOptions) -> Result<Generator> {
        let context = options.context.unwrap_or(model.config().context_length);
        if prompt.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        if prompt.len() > context {
            return Err(ModelError::PromptTooLong { tokens: prompt.len(), context });
        }
        let sampler = Sampler::new(options.sampling, model.config().vocab_size)?;
        let cache = KvCache::for_model(model, context)?;
        // A model without a usable tokenizer generates too; it then never ends by itself.
        let stop_tokens = model.tokenizer().map_or_else(|_| Vec::new(), |tokenizer| tokenizer.stop_tokens().to_vec());
        Ok(Generator {
            model: model.clone(),
            cache,
            sampler,
            next: prompt.to_vec(),
            stop_tokens,
            left: options.max_tokens,
            finish: None,
            timings: Timings::default(),
        })
    }

    /// Why it ended; `None` while it has not.
    pub fn finish(&self) -> Option<Finish> {
        self.finish
    }

    /// Tokens and times so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// The KV cache, with all tokens that went through the model.
    pub fn cache(&self) -> &KvCache {
        &self.cache
    }

    fn step(&mut self) -> Result<Option<u32>> {
        if self.left == 0 {
            self.finish = Some(Finish::MaxTokens);
            return Ok(None);
        }
        if self.cache.len() + self.next.len() > self.cache.capacity() {
            self.finish = Some(Finish::ContextFull);
            return Ok(None);
        }
        let start = Instant::now();
        let is_prefill = self.cache.is_empty();
        let logits: Tensor = self.model.forward(&self.next, &mut self.cache)?;
        let token = self.sampler.sample_tensor(&logits)?;
        drop(logits);
        if is_prefill {
            self.timings.prompt_tokens += self.next.len();
            self.timings.prefill += start.elapsed();
        } else {
            self.timings.decoded_tokens += self.next.len();
            self.timings.decode += start.elapsed();
        }
        self.next.clear();
        self.next.push(token);
        if self.stop_tokens.contains(&token) {
            self.finish = Some(Finish::EndOfText);
            return Ok(None);
        }
        self.left -= 1;
        Ok(Some(token))
    }
}

impl Iterator for Generator {
    type Item = Result<u32>;

    fn next(&mut self) -> Option<Result<u32>> {
        if self.finish.is_some() {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.finish = Some(Finish::Failed);
        }
        step.transpose()
    }
}
