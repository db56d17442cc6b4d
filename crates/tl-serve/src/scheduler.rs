//! The engine's thread, and the queue before it. Which sequence takes which step is for `batch.rs`, or
//! `single.rs` where a model runs one sequence at a time. They know tokens and no text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tl_engine::{LanguageModel, Model};

use crate::batch::Batch;
use crate::clock;
use crate::error::{Refusal, Result};
use crate::options::{EngineOptions, runs_several};
use crate::request::Request;
use crate::shared::{Job, Running, Shared, State, Steps};
use crate::single::Single;
use crate::stats::{EngineStats, Quote};
use crate::stream::{TokenStream, channel};

/// The engine's thread, and the queue before it.
#[derive(Debug)]
pub(crate) struct Scheduler {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
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
