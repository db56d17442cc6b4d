//! The engine's thread: which sequence takes which step.
//!
//! This one runs one sequence after the other, in the order in which they came, with one session. It knows tokens and
//! no text.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tl_device::{Device, TensorBuffer};
use tl_engine::{ConstraintState, LanguageModel, Model, ReserveFor, SamplingOptions, Session, Step};

use crate::clock;
use crate::error::{Refusal, Result};
use crate::logprobs::Logprobs;
use crate::request::Request;
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
struct Shared {
    state: Mutex<State>,
    /// Notified of a new request, and of a new deadline.
    changed: Condvar,
    device: Device,
    context: usize,
    vocab_size: usize,
    queue: usize,
    kv_token_bytes: u64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Job>,
    /// The running sequence.
    running: Option<Running>,
    /// Set by a drain: when what is left is cancelled.
    deadline: Option<Instant>,
    is_ended: bool,
    counts: Counts,
}

/// A request that was taken.
#[derive(Debug)]
struct Job {
    request: Request,
    sink: TokenSink,
    since: Instant,
}

#[derive(Clone, Copy, Debug, Default)]
struct Running {
    /// Tokens of the prompt that are still to be read.
    prompt_left: usize,
    /// Tokens of the answer that may still come.
    tokens_left: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    submitted: u64,
    refused: u64,
    finished: u64,
    cancelled: u64,
    failed: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    generated_tokens: u64,
    /// Those of them that a step of one token chose.
    decoded_tokens: u64,
    prefill: Duration,
    decode: Duration,
    waiting: Duration,
    kv_tokens: usize,
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
        let running = self.running.unwrap_or_default();
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
        let running = self.running.unwrap_or_default();
        let seconds = self.counts.seconds(running.prompt_left, running.tokens_left).unwrap_or(1.0);
        Duration::from_secs_f64(seconds.clamp(1.0, 600.0))
    }

    fn drop_cancelled(&mut self) {
        let before = self.waiting.len();
        self.waiting.retain(|job| !job.sink.is_cancelled());
        self.counts.cancelled += (before - self.waiting.len()) as u64;
    }
}

impl Scheduler {
    /// Reserves all memory, seals the device, and starts the thread.
    pub(crate) fn start(model: &Model, context: usize, queue: usize) -> Result<Scheduler> {
        let device = model.device().clone();
        let buffer = TensorBuffer::new(&device);
        buffer.reserve_for(model, context)?;
        device.set_tensor_buffer(buffer);
        let mut session = Session::new(model, context, SamplingOptions::default())?;
        warm_up(&mut session)?;
        device.seal();
        let state = State { waiting: VecDeque::with_capacity(queue), ..State::default() };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Condvar::new(),
            kv_token_bytes: device.stats().cache_bytes / context.max(1) as u64,
            device,
            context,
            vocab_size: model.vocab_size(),
            queue,
        });
        let worker = Worker {
            shared: shared.clone(),
            logprobs: Logprobs::new(model.vocab_size(), Request::MAX_LOGPROBS),
            session,
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).spawn(move || worker.run())?;
        Ok(Scheduler { shared, thread: Some(thread) })
    }

    pub(crate) fn submit(&self, request: Request) -> std::result::Result<TokenStream, Refusal> {
        let shared = &self.shared;
        request.check(shared.context, shared.vocab_size)?;
        let mut state = shared.state.lock();
        if state.is_ended || state.deadline.is_some() {
            return Err(Refusal::Stopping);
        }
        state.drop_cancelled();
        if state.waiting.len() >= shared.queue {
            state.counts.refused += 1;
            let (waiting, limit, retry_after) = (state.waiting.len(), shared.queue, state.retry_after());
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
            limit_tokens: shared.context,
            fits: prompt_len > 0 && max_tokens > 0 && needed <= shared.context,
            kv_bytes: (needed as u64).saturating_mul(shared.kv_token_bytes),
            ahead: state.waiting.len() + usize::from(state.running.is_some()),
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
            context: shared.context,
            sequences: 1,
            queue: shared.queue,
            waiting: state.waiting.iter().filter(|job| !job.sink.is_cancelled()).count(),
            running: usize::from(state.running.is_some()),
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
            kv_capacity: shared.context,
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

/// Runs a step, so that whatever a first step takes beside the reservation is taken before the device is sealed.
fn warm_up(session: &mut Session) -> Result<()> {
    session.set_text(&[0])?;
    session.step()?;
    session.clear();
    Ok(())
}

/// The engine's thread.
struct Worker {
    shared: Arc<Shared>,
    session: Session,
    logprobs: Logprobs,
}

impl Worker {
    fn run(mut self) {
        let end = EndGuard(self.shared.clone());
        while let Some(job) = self.next() {
            let Job { request, sink, since } = job;
            self.shared.state.lock().counts.waiting += clock::now() - since;
            let result = self.serve(request, &sink);
            // The grammar's memory goes with its sequence.
            let cleared = self.session.set_constraint(None);
            self.finish(result.and_then(|finish| Ok(cleared.map(|()| finish)?)), sink);
        }
        drop(end);
    }

    /// The next request; `None` once the engine is drained.
    fn next(&self) -> Option<Job> {
        let mut state = self.shared.state.lock();
        loop {
            state.drop_cancelled();
            if let Some(job) = state.waiting.pop_front() {
                let (prompt_left, tokens_left) = (job.request.prompt.len(), job.request.max_tokens);
                state.running = Some(Running { prompt_left, tokens_left });
                return Some(job);
            }
            if state.deadline.is_some() {
                return None;
            }
            self.shared.changed.wait(&mut state);
        }
    }

    /// Runs a sequence to its end.
    fn serve(&mut self, request: Request, sink: &TokenSink) -> Result<Finish> {
        if !request.reuses_prefix {
            self.session.clear();
        }
        self.session.set_sampling(request.sampling)?;
        self.session.set_constraint(request.constraint)?;
        let cached = self.session.set_text(&request.prompt)?;
        {
            let mut state = self.shared.state.lock();
            state.counts.cached_tokens += cached as u64;
            let (prompt_left, tokens_left) = (request.prompt.len() - cached, request.max_tokens);
            state.running = Some(Running { prompt_left, tokens_left });
        }
        let mut is_prefill = true;
        let mut left = request.max_tokens;
        loop {
            if sink.is_cancelled() || self.is_overdue() {
                return Ok(Finish::Cancelled);
            }
            if self.session.constraint_state() == Some(ConstraintState::Complete) {
                return Ok(Finish::ConstraintComplete);
            }
            if left == 0 {
                return Ok(Finish::MaxTokens);
            }
            let Some(token) = self.step(sink.n_top(), is_prefill)? else { continue };
            is_prefill = false;
            if self.session.model().is_end(token) {
                self.session.forget_last();
                return Ok(Finish::EndOfText);
            }
            left -= 1;
            sink.push(token, self.logprobs.of(token), if sink.n_top() > 0 { self.logprobs.top() } else { &[] });
        }
    }

    /// Takes a step; returns the token that it chose, if the prompt has been read.
    fn step(&mut self, n_top: usize, is_prefill: bool) -> Result<Option<u32>> {
        let start = clock::now();
        let before = self.session.n_waiting();
        let logprobs = &mut self.logprobs;
        let step = self.session.step_with(&mut |logits| match n_top {
            0 => Ok(()),
            n => logprobs.read(logits, n),
        })?;
        self.shared.device.end_step();
        let (token, read) = match step {
            Step::Token(token) => (Some(token), before),
            Step::Prefilled(left) => (None, before - left),
            _ => (None, 0),
        };
        let time = clock::now() - start;
        let mut state = self.shared.state.lock();
        let counts = &mut state.counts;
        counts.generated_tokens += u64::from(token.is_some());
        if is_prefill {
            counts.prompt_tokens += read as u64;
            counts.prefill += time;
        } else {
            counts.decode += time;
            counts.decoded_tokens += 1;
        }
        counts.kv_tokens = self.session.tokens().len() - self.session.n_waiting();
        if let Some(running) = &mut state.running {
            running.prompt_left = self.session.n_waiting().saturating_sub(usize::from(token.is_some()));
            running.tokens_left -= usize::from(token.is_some()).min(running.tokens_left);
        }
        Ok(token)
    }

    fn is_overdue(&self) -> bool {
        self.shared.state.lock().deadline.is_some_and(|deadline| clock::now() >= deadline)
    }

    fn finish(&self, result: Result<Finish>, sink: TokenSink) {
        {
            let mut state = self.shared.state.lock();
            state.running = None;
            match result {
                Ok(Finish::Cancelled) => state.counts.cancelled += 1,
                Ok(_) => state.counts.finished += 1,
                Err(_) => state.counts.failed += 1,
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
        state.running = None;
        let left = std::mem::take(&mut state.waiting);
        state.counts.failed += left.len() as u64;
        drop(state);
        // Their sinks tell the readers, outside the lock.
        drop(left);
    }
}
