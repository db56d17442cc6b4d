//! Options of an engine, and the memory that they take.

use tl_engine::{BatchSizes, MemoryPlan, Model, Planner};
use tl_model::{CachePart, Keeps, ModelError, PAGE_LEN};

use crate::error::{Error, Result};
use crate::page_pool::CHUNK;
use crate::request::Request;
use crate::stream::TokenLogprob;

/// The most sequences of a step: so many rows have the bits that each has alone.
pub(crate) const MAX_ROWS: usize = 16;

/// Options of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Maximum tokens of a sequence, prompt and answer together.
    pub context: usize,
    /// Maximum number of sequences that run at once. Models whose layers keep states, and a GPU, run one.
    pub sequences: usize,
    /// Tokens of all running sequences that there is memory for, in pages of [`PAGE_LEN`]; at least one whole sequence.
    pub kv_tokens: usize,
    /// Maximum number of waiting requests, at most [`EngineOptions::MAX_QUEUE`].
    pub queue: usize,
}

impl EngineOptions {
    /// The `queue` of [`EngineOptions::new`].
    pub const DEFAULT_QUEUE: usize = 16;
    /// The largest `queue`.
    pub const MAX_QUEUE: usize = 65_536;
    /// The most sequences at once.
    pub const MAX_SEQUENCES: usize = 256;

    /// One sequence of up to `context` tokens at once, and 16 waiting requests.
    pub fn new(context: usize) -> EngineOptions {
        EngineOptions {
            context,
            sequences: 1,
            kv_tokens: context.next_multiple_of(PAGE_LEN),
            queue: Self::DEFAULT_QUEUE,
        }
    }

    /// Memory for `whole` sequences of the longest length; shorter ones run up to `sequences` at once.
    pub fn with_sequences(mut self, whole: usize, sequences: usize) -> EngineOptions {
        self.kv_tokens = self.context.next_multiple_of(PAGE_LEN).saturating_mul(whole);
        self.sequences = sequences;
        self
    }

    /// Heap bytes of all requests that may run and wait, at most: prompts, and the room for their tokens.
    /// The counts of penalties too.
    pub fn heap_bytes(&self, vocab_size: usize) -> u64 {
        const TOKEN_BYTES: usize = size_of::<u32>() + (Request::MAX_LOGPROBS + 1) * size_of::<TokenLogprob>();
        let requests = self.queue.saturating_add(self.sequences);
        let of_tokens = requests.saturating_mul(self.context).saturating_mul(TOKEN_BYTES);
        let of_penalties = self.sequences.saturating_mul(vocab_size).saturating_mul(size_of::<u32>());
        of_tokens.saturating_add(of_penalties) as u64
    }

    /// The device's memory for these options, as [`Engine::start`](crate::Engine::start) takes it.
    ///
    /// # Errors
    /// As for [`Engine::start`](crate::Engine::start).
    pub fn memory_plan(&self, planner: &Planner) -> Result<MemoryPlan> {
        self.check(planner.model())?;
        Ok(match runs_several(planner.model()) {
            true => planner.plan_batch(self.batch_sizes())?,
            false => planner.plan(self.context)?,
        })
    }

    /// The sizes of an engine that runs several sequences at once.
    pub(crate) fn batch_sizes(&self) -> BatchSizes {
        let sequences = self.sequences.min(MAX_ROWS);
        BatchSizes { n_pages: self.kv_tokens / PAGE_LEN, context: self.context, sequences, chunk: CHUNK }
    }

    pub(crate) fn check(&self, model: &Model) -> Result<()> {
        let (asked, limit) = (self.context, model.config().context_length);
        if asked == 0 || asked > limit {
            return Err(ModelError::ContextLength { asked, limit }.into());
        }
        let most = if runs_several(model) { Self::MAX_SEQUENCES } else { 1 };
        if self.sequences == 0 || self.sequences > most {
            let expected = match most {
                1 => "1: this model, or this device, runs one sequence after the other".to_owned(),
                most => format!("1 to {most}"),
            };
            return Err(Error::Option { option: "sequences", value: self.sequences, expected });
        }
        if self.queue == 0 || self.queue > Self::MAX_QUEUE {
            let expected = format!("1 to {}", Self::MAX_QUEUE);
            return Err(Error::Option { option: "queue", value: self.queue, expected });
        }
        if self.kv_tokens < self.context {
            let expected = format!("at least the {} tokens of a sequence", self.context);
            return Err(Error::Option { option: "kv_tokens", value: self.kv_tokens, expected });
        }
        Ok(())
    }
}

/// Whether a model's keys and values can lie in pages, on its device.
pub fn runs_several(model: &Model) -> bool {
    let keeps_rows = |part: &CachePart| matches!(part.keeps, Keeps::KeysAndValues(_));
    !model.device().is_gpu() && model.scripted().cache_parts().iter().all(keeps_rows)
}
