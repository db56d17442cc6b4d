//! The engine's thread, the queue before it, and what is counted. Which sequence takes which step is for `batch.rs`, or
//! `single.rs` where a model runs one sequence at a time. They know tokens and no text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tl_device::Device;
use tl_engine::{LanguageModel, Model};

use crate::batch::Batch;
use crate::clock;
use crate::engine::{EngineOptions, runs_several};
use crate::error::{Refusal, Result};
use crate::request::Request;
use crate::single::Single;
use crate::stats::{EngineStats, Quote};
use crate::stream::{Finish, TokenSink, TokenStream, channel};

/// The engine's thread, and the queue before it.
#[derive(Debug)]
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the engine's thread and its askers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// Notified of a new request, and of a new deadline.
    pub(crate) changed: Condvar,
    pub(crate) device: Device,
    options: EngineOptions,
    vocab_size: usize,
    kv_token_bytes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) waiting: VecDeque<Job>,
    /// The running sequences.
    pub(crate) running: Running,
    /// Set by a drain: when what is left is cancelled.
    pub(crate) deadline: Option<Instant>,
    is_ended: bool,
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
    submitted: u64,
    refused: u64,
    finished: u64,
    cancelled: u64,
    failed: u64,
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
    fn seconds(&self, prompt: usize, tokens: usize) -> Option<f64> {
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
    fn time_left(&self) -> Option<Duration> {
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
    fn retry_after(&self) -> Duration {
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

impl Scheduler {
    /// Reserves all memory, seals the device, and starts the thread.
    pub(crate) fn start(model: &Model, options: EngineOptions) -> Result<Scheduler> {
        let device = model.device().clone();
        let steps: Box<dyn Steps> = match runs_several(model) {
            true => Box::new(Batch::new(model, &options)?),
            false => Box::new(Single::new(model, options.context)?),
        };
        device.seal();
        let state = State { waiting: VecDeque::with_capacity(options.queue), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            kv_token_bytes: device.stats().cache_bytes / options.kv_tokens.max(1) as u64,
            device,
            options,
            vocab_size: model.vocab_size(),
        });
        let of_thread = shared.clone();
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let end = EndGuard(of_thread.clone());
            steps.run(&of_thread);
            drop(end);
        })?;
        Ok(Scheduler { shared, thread: Some(thread) })
    }

    pub(crate) fn submit(&self, request: Request) -> std::result::Result<TokenStream, Refusal> {
        let shared = &self.shared;
        request.check(shared.options.context, shared.vocab_size)?;
        let mut state = shared.state.lock();
        if state.is_ended || state.deadline.is_some() {
            return Err(Refusal::Stopping);
        }
        state.drop_cancelled();
        if state.waiting.len() >= shared.options.queue {
            state.counts.refused += 1;
            let (waiting, limit, retry_after) = (state.waiting.len(), shared.options.queue, state.retry_after());
            return Err(Refusal::QueueFull { waiting, limit, retry_after });
        }
        let (sink, stream) = channel(request.max_tokens, request.n_logprobs);
        state.waiting.push_back(Job { request, sink, since: clock::now() });
        state.counts.submitted += 1;
        drop(state);
        shared.changed.notify_one();
        Ok(stream)
    }

    pub(crate) fn quote(&self, prompt_len: usize, max_tokens: usize) -> Quote {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        state.drop_cancelled();
        let needed = prompt_len.saturating_add(max_tokens);
        Quote {
            prompt_tokens: prompt_len,
            max_tokens,
            needed_tokens: needed,
            limit_tokens: shared.options.context,
            fits: prompt_len > 0 && max_tokens > 0 && needed <= shared.options.context,
            kv_bytes: (needed as u64).saturating_mul(shared.kv_token_bytes),
            ahead: state.waiting.len() + state.running.sequences,
            wait: state.time_left(),
            run: state.counts.seconds(prompt_len, max_tokens).and_then(|s| Duration::try_from_secs_f64(s).ok()),
        }
    }

    pub(crate) fn stats(&self) -> EngineStats {
        let shared = &self.shared;
        let memory = shared.device.stats();
        let state = shared.state.lock();
        let counts = &state.counts;
        EngineStats {
            context: shared.options.context,
            sequences: shared.options.sequences,
            queue: shared.options.queue,
            waiting: state.waiting.iter().filter(|job| !job.sink.is_cancelled()).count(),
            running: state.running.sequences,
            is_stopping: state.deadline.is_some(),
            is_ended: state.is_ended,
            submitted_count: counts.submitted,
            refused_count: counts.refused,
            finished_count: counts.finished,
            cancelled_count: counts.cancelled,
            failed_count: counts.failed,
            prompt_tokens: counts.prompt_tokens,
            cached_tokens: counts.cached_tokens,
            generated_tokens: counts.generated_tokens,
            decoded_tokens: counts.decoded_tokens,
            prefill_time: counts.prefill,
            decode_time: counts.decode,
            waiting_time: counts.waiting,
            kv_tokens: counts.kv_tokens,
            kv_capacity: shared.options.kv_tokens,
            memory,
        }
    }

    pub(crate) fn drain(&self, patience: Duration) {
        let now = clock::now();
        // A deadline beyond what the clock can count is none that anybody waits for.
        let deadline = now.checked_add(patience).unwrap_or(now + Duration::from_secs(1 << 30));
        let mut state = self.shared.state.lock();
        state.deadline = Some(state.deadline.map_or(deadline, |old| old.min(deadline)));
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for Scheduler {
    fn drop(&mut self) {
        self.drain(Duration::ZERO);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has ended its streams; there is nobody left to tell.
            let _ = thread.join();
        }
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

/// Ends the engine, also where its thread panics: nothing may wait for it.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.is_ended = true;
        state.running = Running::default();
        let left = std::mem::take(&mut state.waiting);
        state.counts.failed += left.len() as u64;
        drop(state);
        // Their sinks tell the readers, outside the lock.
        drop(left);
    }
}
