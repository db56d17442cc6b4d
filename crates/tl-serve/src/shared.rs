//! What the engine's thread and its askers share: the queue, what runs, and what is counted.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tl_device::Device;

use crate::clock;
use crate::error::Result;
use crate::options::EngineOptions;
use crate::request::Request;
use crate::stream::{Finish, TokenSink};

/// What the engine's thread and its askers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Notified of a new request, and of a new deadline.
    pub(crate) changed: Condvar,
    pub(crate) device: Device,
    pub(crate) options: EngineOptions,
    pub(crate) vocab_size: usize,
    pub(crate) kv_token_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) waiting: VecDeque<Job>,
    /// The running sequences.
    pub(crate) running: Running,
    /// Set by a drain: when what is left is cancelled.
    pub(crate) deadline: Option<Instant>,
    pub(crate) is_ended: bool,
    pub(crate) counts: Counts,
}

/// A request that was taken.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) request: Request,
    pub(crate) sink: TokenSink,
    pub(crate) since: Instant,
}

/// What the running sequences have before them, all together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Running {
    pub(crate) sequences: usize,
    /// Tokens of prompts that are still to be read.
    pub(crate) prompt_left: usize,
    /// Tokens of answers that may still come.
    pub(crate) tokens_left: usize,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) submitted: u64,
    pub(crate) refused: u64,
    pub(crate) finished: u64,
    pub(crate) cancelled: u64,
    pub(crate) failed: u64,
    pub(crate) prompt_tokens: u64,
    pub(crate) cached_tokens: u64,
    pub(crate) generated_tokens: u64,
    /// Those of them that a step of one token chose.
    pub(crate) decoded_tokens: u64,
    pub(crate) prefill: Duration,
    pub(crate) decode: Duration,
    pub(crate) waiting: Duration,
    pub(crate) kv_tokens: usize,
}

impl Counts {
    /// Seconds for so many tokens of a prompt and of an answer, at the speed so far.
    pub(crate) fn seconds(&self, prompt: usize, tokens: usize) -> Option<f64> {
        if self.decoded_tokens == 0 || self.prompt_tokens == 0 {
            return None;
        }
        let prefill = self.prefill.as_secs_f64() / self.prompt_tokens as f64;
        let decode = self.decode.as_secs_f64() / self.decoded_tokens as f64;
        Some(prompt as f64 * prefill + tokens as f64 * decode)
    }
}

impl State {
    /// Longest time until all that runs and waits has ended.
    pub(crate) fn time_left(&self) -> Option<Duration> {
        let running = self.running;
        let waiting = self.waiting.iter().map(|job| (job.request.prompt.len(), job.request.max_tokens));
        let (prompt, tokens) = waiting
            .fold((running.prompt_left, running.tokens_left), |(prompt, tokens), job| (prompt + job.0, tokens + job.1));
        if (prompt, tokens) == (0, 0) {
            return Some(Duration::ZERO);
        }
        self.counts.seconds(prompt, tokens).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
    }

    /// Time until a place in the queue is free, as a client is told: a second or more.
    pub(crate) fn retry_after(&self) -> Duration {
        let running = self.running;
        let seconds = self.counts.seconds(running.prompt_left, running.tokens_left).unwrap_or(1.0);
        Duration::from_secs_f64(seconds.clamp(1.0, 600.0))
    }

    pub(crate) fn drop_cancelled(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|job| !job.sink.is_cancelled());
        self.counts.cancelled += (before - self.waiting.len()) as u64;
    }
}

/// What the engine's thread does, until it is drained.
pub(crate) trait Steps: Send {
    fn run(self: Box<Self>, shared: &Shared);
}

impl Shared {
    /// Whether what still runs is to be cancelled.
    pub(crate) fn is_overdue(&self) -> bool {
        self.state.lock().deadline.is_some_and(|deadline| clock::now() >= deadline)
    }

    /// Ends a sequence, and counts it.
    pub(crate) fn finish(&self, result: Result<Finish>, sink: TokenSink) {
        {
            let counts = &mut self.state.lock().counts;
            match result {
                Ok(Finish::Cancelled) => counts.cancelled += 1,
                Ok(_) => counts.finished += 1,
                Err(_) => counts.failed += 1,
            }
        }
        match result {
            Ok(finish) => sink.finish(finish),
            Err(error) => sink.fail(error),
        }
    }
}
