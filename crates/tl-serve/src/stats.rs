//! What the engine tells of itself: its state, and the price of a request.

use std::time::Duration;

use tl_device::MemoryStats;

/// The state of an engine, and its counts since the start.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct EngineStats {
    /// Maximum tokens of a sequence.
    pub context: usize,
    /// Sequences that run at once, at most.
    pub sequences: usize,
    /// Requests that wait, at most.
    pub queue: usize,
    /// Requests that wait now.
    pub waiting: usize,
    /// Sequences that run now.
    pub running: usize,
    /// Whether the engine takes no more requests.
    pub is_stopping: bool,
    /// Whether the engine has ended: after a drain, or by a failure.
    pub is_ended: bool,
    /// Requests that were taken.
    pub submitted_count: u64,
    /// Requests that were refused because the queue was full.
    pub refused_count: u64,
    /// Sequences that ended by themselves.
    pub finished_count: u64,
    /// Sequences that were cancelled, running or waiting.
    pub cancelled_count: u64,
    /// Sequences that ended with an error.
    pub failed_count: u64,
    /// Tokens of prompts that went through the model.
    pub prompt_tokens: u64,
    /// Tokens of prompts that were in the cache already.
    pub cached_tokens: u64,
    /// Tokens that were generated.
    pub generated_tokens: u64,
    /// Those of them that a step of one token chose: all but the first of each answer.
    pub decoded_tokens: u64,
    /// Time for prompts, with the first token of each answer.
    pub prefill_time: Duration,
    /// Time for the other tokens.
    pub decode_time: Duration,
    /// Time that requests waited, all together.
    pub waiting_time: Duration,
    /// Tokens in the KV cache.
    pub kv_tokens: usize,
    /// Tokens that the KV cache has room for.
    pub kv_capacity: usize,
    /// The device's memory.
    pub memory: MemoryStats,
}

impl EngineStats {
    /// Tokens of prompts per second so far; `None` before the first.
    pub fn prefill_rate(&self) -> Option<f64> {
        rate(self.prompt_tokens, self.prefill_time)
    }

    /// Generated tokens per second of decoding so far; `None` before the first.
    pub fn decode_rate(&self) -> Option<f64> {
        rate(self.decoded_tokens, self.decode_time)
    }
}

fn rate(tokens: u64, time: Duration) -> Option<f64> {
    (tokens > 0 && !time.is_zero()).then(|| tokens as f64 / time.as_secs_f64())
}

/// The price of a request: what it would take, and whether the engine would take it.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Quote {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Maximum tokens of the answer.
    pub max_tokens: usize,
    /// Tokens that the sequence needs memory for.
    pub needed_tokens: usize,
    /// Maximum tokens of a sequence.
    pub limit_tokens: usize,
    /// Whether the sequence fits.
    pub fits: bool,
    /// Bytes of the KV cache that its tokens fill, reserved already.
    pub kv_bytes: u64,
    /// Requests that would run before it.
    pub ahead: usize,
    /// Longest time until it begins; `None` before the engine has measured its speed.
    pub wait: Option<Duration>,
    /// Longest time from its beginning to its end.
    pub run: Option<Duration>,
}
