//! One sequence after the other, in the order in which they came, with one session: for models whose layers keep states,
//! and on a GPU.

use tl_device::TensorBuffer;
use tl_engine::{ConstraintState, LanguageModel, Model, ReserveFor, SamplingOptions, Session, Step};

use crate::clock;
use crate::error::Result;
use crate::logprobs::Logprobs;
use crate::request::Request;
use crate::shared::{Job, Running, Shared, Steps};
use crate::stream::{Finish, TokenSink};

/// Runs a step, so that whatever a first step takes beside the reservation is taken before the device is sealed.
fn warm_up(session: &mut Session) -> Result<()> {
    session.set_text(&[0])?;
    session.step()?;
    session.clear();
    Ok(())
}

/// One session, which all sequences take one after the other.
pub(crate) struct Single {
    session: Session,
    logprobs: Logprobs,
}

impl Single {
    /// Reserves all memory for texts of up to `context` tokens.
    pub(crate) fn new(model: &Model, context: usize) -> Result<Single> {
        let buffer = TensorBuffer::new(model.device());
        buffer.reserve_for(model, context)?;
        model.device().set_tensor_buffer(buffer);
        let mut session = Session::new(model, context, SamplingOptions::default())?;
        warm_up(&mut session)?;
        Ok(Single { session, logprobs: Logprobs::new(model.vocab_size(), Request::MAX_LOGPROBS) })
    }
}

impl Steps for Single {
    fn run(mut self: Box<Self>, shared: &Shared) {
        while let Some(job) = next(shared) {
            let Job { request, sink, since } = job;
            shared.state.lock().counts.waiting += clock::now() - since;
            let result = self.serve(shared, request, &sink);
            // The grammar's memory goes with its sequence.
            let cleared = self.session.set_constraint(None);
            shared.state.lock().running = Running::default();
            shared.finish(result.and_then(|finish| Ok(cleared.map(|()| finish)?)), sink);
        }
    }
}

impl Single {
    /// Runs a sequence to its end.
    fn serve(&mut self, shared: &Shared, request: Request, sink: &TokenSink) -> Result<Finish> {
        if !request.reuses_prefix {
            self.session.clear();
        }
        self.session.set_sampling(request.sampling)?;
        self.session.set_constraint(request.constraint)?;
        let cached = self.session.set_text(&request.prompt)?;
        {
            let mut state = shared.state.lock();
            state.counts.cached_tokens += cached as u64;
            let (prompt_left, tokens_left) = (request.prompt.len() - cached, request.max_tokens);
            state.running = Running { sequences: 1, prompt_left, tokens_left };
        }
        let mut is_prefill = true;
        let mut left = request.max_tokens;
        loop {
            if sink.is_cancelled() || shared.is_overdue() {
                return Ok(Finish::Cancelled);
            }
            if self.session.constraint_state() == Some(ConstraintState::Complete) {
                return Ok(Finish::ConstraintComplete);
            }
            if left == 0 {
                return Ok(Finish::MaxTokens);
            }
            let Some(token) = self.step(shared, sink.n_top(), is_prefill)? else { continue };
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
    fn step(&mut self, shared: &Shared, n_top: usize, is_prefill: bool) -> Result<Option<u32>> {
        let start = clock::now();
        let before = self.session.n_waiting();
        let logprobs = &mut self.logprobs;
        let step = self.session.step_with(&mut |logits| match n_top {
            0 => Ok(()),
            n => logprobs.read(logits, n),
        })?;
        shared.device.end_step();
        let (token, read) = match step {
            Step::Token(token) => (Some(token), before),
            Step::Prefilled(left) => (None, before - left),
            _ => (None, 0),
        };
        let time = clock::now() - start;
        let mut state = shared.state.lock();
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
        let running = &mut state.running;
        running.prompt_left = self.session.n_waiting().saturating_sub(usize::from(token.is_some()));
        running.tokens_left -= usize::from(token.is_some()).min(running.tokens_left);
        Ok(token)
    }
}

/// The next request; `None` once the engine is drained.
fn next(shared: &Shared) -> Option<Job> {
    let mut state = shared.state.lock();
    loop {
        state.drop_cancelled();
        if let Some(job) = state.waiting.pop_front() {
            let (prompt_left, tokens_left) = (job.request.prompt.len(), job.request.max_tokens);
            state.running = Running { sequences: 1, prompt_left, tokens_left };
            return Some(job);
        }
        if state.deadline.is_some() {
            return None;
        }
        shared.changed.wait(&mut state);
    }
}
