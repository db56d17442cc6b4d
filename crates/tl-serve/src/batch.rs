//! Many sequences at once: each round decodes one token of every sequence, and reads one chunk of one prompt.
//!
//! A sequence gets the pages for all of its tokens before it begins, so that it always finishes. A step decodes at most
//! [`MAX_ROWS`] sequences and a chunk is a step of its own, because that is where a row has the bits that it has alone:
//! what a sequence says never depends on who else is there.

use tl_device::TensorBuffer;
use tl_engine::{BatchSizes, Constraint, ConstraintState, KvCache, LanguageModel, Model, SamplingOptions};
use tl_model::{LogitsRows, ModelError, PAGE_LEN, Sampler, SamplerState, StepSequence};
use tl_tensor::Tensor;

use crate::clock;
use crate::error::{Error, Result};
use crate::logprobs::Logprobs;
use crate::options::{EngineOptions, MAX_ROWS};
use crate::page_pool::{CHUNK, PagePool, Pages};
use crate::request::Request;
use crate::shared::{Job, Running, Shared, State, Steps};
use crate::stream::{Finish, TokenSink};

/// The running sequences, the model and its memory.
pub(crate) struct Batch {
    model: Model,
    cache: KvCache,
    pool: PagePool,
    slots: Vec<Option<Sequence>>,
    /// The scratch of all choices.
    sampler: Sampler,
    logprobs: Logprobs,
    /// The slot whose prompt was read last.
    last_read: usize,
    /// The tokens of a step, and the slots that they belong to.
    tokens: Vec<u32>,
    rows: Vec<usize>,
}

struct Sequence {
    sink: TokenSink,
    sampling: SamplerState,
    constraint: Option<Box<dyn Constraint>>,
    pages: Pages,
    /// The prompt and the answer so far. The room for both is there from the beginning.
    tokens: Vec<u32>,
    prompt_len: usize,
    /// Tokens whose keys and values are in the pages.
    held: usize,
    max_len: usize,
}

impl Sequence {
    fn is_reading(&self) -> bool {
        self.held < self.prompt_len
    }

    fn step(&self, adding: usize) -> StepSequence<'_> {
        StepSequence { pages: &self.pages.table, held: self.held, adding }
    }
}

impl Batch {
    /// Reserves all memory, and runs a step of each kind in it.
    pub(crate) fn new(model: &Model, options: &EngineOptions) -> Result<Batch> {
        let sizes = options.batch_sizes();
        let buffer = TensorBuffer::new(model.device());
        model.scripted().reserve_batch(&buffer, sizes)?;
        model.device().set_tensor_buffer(buffer);
        let mut batch = Batch {
            model: model.clone(),
            cache: model.scripted().new_pages(sizes.n_pages, sizes.context)?,
            pool: PagePool::new(sizes.n_pages),
            slots: (0..options.sequences).map(|_| None).collect(),
            sampler: Sampler::new(SamplingOptions::default(), model.vocab_size())?,
            logprobs: Logprobs::new(model.vocab_size(), Request::MAX_LOGPROBS),
            last_read: 0,
            tokens: Vec::with_capacity(CHUNK.max(MAX_ROWS)),
            rows: Vec::with_capacity(options.sequences),
        };
        batch.warm_up(sizes)?;
        Ok(batch)
    }

    /// Whatever a first step takes beside the reservation is taken before the device is sealed.
    fn warm_up(&mut self, sizes: BatchSizes) -> Result<()> {
        let pages: Vec<u32> = (0..sizes.n_pages as u32).collect();
        let steps = [(1, sizes.chunk.min(sizes.context), LogitsRows::Last), (sizes.sequences, 1, LogitsRows::All)];
        for (sequences, adding, rows) in steps {
            let sequence = StepSequence { pages: &pages, held: 0, adding };
            let of_all = std::iter::repeat_n(sequence, sequences);
            let ids = vec![0; sequences * adding];
            self.model.scripted().forward_step(&ids, of_all, rows, &mut self.cache)?;
        }
        Ok(())
    }

    /// Begins waiting requests for which there are a slot and pages, in the order in which they came. `failed` gets those that
    /// cannot begin.
    fn begin(&mut self, state: &mut State, failed: &mut Vec<(TokenSink, Error)>) {
        state.drop_cancelled();
        while let Some(job) = state.waiting.front() {
            let Some(at) = self.slots.iter().position(Option::is_none) else { break };
            let Request { prompt, max_tokens, .. } = &job.request;
            let Some(pages) = self.pool.book(prompt, prompt.len() + max_tokens) else { break };
            let Some(Job { request, sink, since }) = state.waiting.pop_front() else { break };
            state.counts.waiting += clock::now() - since;
            state.counts.cached_tokens += pages.shared_tokens() as u64;
            let Request { prompt: mut tokens, max_tokens, sampling, mut constraint, .. } = request;
            let reset = constraint.as_mut().map_or(Ok(()), |constraint| constraint.reset());
            let mut sampling = match reset.and_then(|()| SamplerState::new(sampling, self.model.vocab_size())) {
                Ok(sampling) => sampling,
                Err(error) => {
                    self.pool.give_back(pages);
                    failed.push((sink, error.into()));
                    continue;
                }
            };
            self.sampler.swap_state(&mut sampling);
            tokens.iter().for_each(|token| self.sampler.accept(*token));
            self.sampler.swap_state(&mut sampling);
            let (prompt_len, held) = (tokens.len(), pages.shared_tokens());
            tokens.reserve_exact(max_tokens);
            let max_len = prompt_len + max_tokens;
            let sequence = Sequence { sink, sampling, constraint, pages, tokens, prompt_len, held, max_len };
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = Some(sequence);
            }
        }
    }

    /// Decodes a token of each sequence whose prompt has been read.
    fn decode(&mut self, shared: &Shared) {
        self.rows.clear();
        for (at, slot) in self.slots.iter().enumerate() {
            if slot.as_ref().is_some_and(|sequence| !sequence.is_reading()) {
                self.rows.push(at);
            }
        }
        let rows = std::mem::take(&mut self.rows);
        for group in rows.chunks(MAX_ROWS) {
            let start = clock::now();
            let ran = self.run(group, |_| 1, LogitsRows::All);
            let n = group.len() as u64;
            match ran {
                Ok(logits) => {
                    for (row, &slot) in group.iter().enumerate() {
                        let of_row = logits.slice(0, row, row + 1);
                        self.choose(shared, slot, of_row.map_err(ModelError::from));
                    }
                }
                Err(error) => self.fail(shared, group, &error),
            }
            let mut state = shared.state.lock();
            state.counts.generated_tokens += n;
            state.counts.decoded_tokens += n;
            state.counts.decode += clock::now() - start;
        }
        self.rows = rows;
    }

    /// Reads a chunk of the prompt of one sequence, of each in turn.
    fn read(&mut self, shared: &Shared) {
        let n = self.slots.len();
        let is_reading = |at: &usize| self.slots.get(*at).and_then(Option::as_ref).is_some_and(Sequence::is_reading);
        let Some(at) = (1..=n).map(|i| (self.last_read + i) % n).find(is_reading) else { return };
        self.last_read = at;
        let start = clock::now();
        let chunk = |sequence: &Sequence| {
            let end = (sequence.held / CHUNK + 1) * CHUNK;
            end.min(sequence.prompt_len) - sequence.held
        };
        let ran = self.run(&[at], chunk, LogitsRows::Last);
        let mut read = 0;
        match ran {
            Ok(logits) => {
                let sequence = self.slots.get_mut(at).and_then(Option::as_mut);
                let Some(sequence) = sequence else { return };
                read = self.tokens.len();
                if sequence.held.is_multiple_of(CHUNK) {
                    let prompt = sequence.tokens.get(..sequence.prompt_len).unwrap_or_default();
                    if sequence.pages.shared_tokens() + CHUNK == sequence.held {
                        self.pool.share(&mut sequence.pages, prompt);
                    }
                }
                if !sequence.is_reading() {
                    self.choose(shared, at, Ok(logits));
                    shared.state.lock().counts.generated_tokens += 1;
                }
            }
            Err(error) => self.fail(shared, &[at], &error),
        }
        let mut state = shared.state.lock();
        state.counts.prompt_tokens += read as u64;
        state.counts.prefill += clock::now() - start;
    }

    /// A step of these slots' sequences, each of which adds as many of its tokens as `adding` says.
    fn run(&mut self, slots: &[usize], adding: impl Fn(&Sequence) -> usize, rows: LogitsRows) -> Result<Tensor> {
        let Batch { model, cache, slots: all, tokens, .. } = self;
        let of = |at: &usize| all.get(*at).and_then(Option::as_ref);
        tokens.clear();
        for sequence in slots.iter().filter_map(of) {
            let next = sequence.tokens.get(sequence.held..).unwrap_or_default();
            tokens.extend_from_slice(next.get(..adding(sequence)).unwrap_or_default());
        }
        let sequences = slots.iter().filter_map(of).map(|sequence| sequence.step(adding(sequence)));
        let logits = model.scripted().forward_step(tokens, sequences, rows, cache)?;
        model.device().end_step();
        for at in slots {
            if let Some(sequence) = all.get_mut(*at).and_then(Option::as_mut) {
                sequence.held += adding(sequence);
            }
        }
        Ok(logits)
    }

    /// Chooses the next token of a sequence, and ends it where that was the last.
    fn choose(&mut self, shared: &Shared, at: usize, logits: std::result::Result<Tensor, ModelError>) {
        match logits.map_err(Error::from).and_then(|logits| self.next_token(at, &logits)) {
            Ok(None) => {}
            Ok(Some(finish)) => self.finish(shared, at, Ok(finish)),
            Err(error) => self.finish(shared, at, Err(error)),
        }
    }

    fn next_token(&mut self, at: usize, logits: &Tensor) -> Result<Option<Finish>> {
        let Some(sequence) = self.slots.get_mut(at).and_then(Option::as_mut) else { return Ok(None) };
        let n_top = sequence.sink.n_top();
        if n_top > 0 {
            self.logprobs.read(logits, n_top)?;
        }
        self.sampler.swap_state(&mut sequence.sampling);
        let chosen = match &mut sequence.constraint {
            Some(constraint) => self.sampler.sample_tensor_with(logits, constraint.as_mut()),
            None => self.sampler.sample_tensor(logits),
        };
        if let Ok(token) = chosen {
            self.sampler.accept(token);
        }
        self.sampler.swap_state(&mut sequence.sampling);
        let token = chosen?;
        if self.model.is_end(token) {
            return Ok(Some(Finish::EndOfText));
        }
        if let Some(constraint) = &mut sequence.constraint {
            constraint.accept(token)?;
        }
        sequence.tokens.push(token);
        let (logprob, top) = if n_top > 0 { (self.logprobs.of(token), self.logprobs.top()) } else { (0.0, &[][..]) };
        sequence.sink.push(token, logprob, top);
        let is_complete =
            sequence.constraint.as_ref().is_some_and(|constraint| constraint.state() == ConstraintState::Complete);
        Ok(match () {
            () if is_complete => Some(Finish::ConstraintComplete),
            () if sequence.tokens.len() >= sequence.max_len => Some(Finish::MaxTokens),
            () => None,
        })
    }

    /// Ends the sequences whose readers are gone, and all once the deadline of a drain is past.
    fn end_cancelled(&mut self, shared: &Shared) {
        let is_overdue = shared.is_overdue();
        for at in 0..self.slots.len() {
            let sequence = self.slots.get(at).and_then(Option::as_ref);
            if sequence.is_some_and(|sequence| is_overdue || sequence.sink.is_cancelled()) {
                self.finish(shared, at, Ok(Finish::Cancelled));
            }
        }
    }

    fn fail(&mut self, shared: &Shared, slots: &[usize], error: &Error) {
        for at in slots {
            let error = ModelError::Script { message: error.to_string() };
            self.finish(shared, *at, Err(error.into()));
        }
    }

    fn finish(&mut self, shared: &Shared, at: usize, result: Result<Finish>) {
        let Some(sequence) = self.slots.get_mut(at).and_then(Option::take) else { return };
        self.pool.give_back(sequence.pages);
        // Its reader may look at once.
        self.tell(&mut shared.state.lock());
        shared.finish(result, sequence.sink);
    }

    fn tell(&self, state: &mut State) {
        state.running = self.running();
        state.counts.kv_tokens = self.pool.n_used() * PAGE_LEN;
    }

    /// What the running sequences have before them.
    fn running(&self) -> Running {
        let sequences = self.slots.iter().flatten();
        sequences.fold(Running::default(), |running, sequence| Running {
            sequences: running.sequences + 1,
            prompt_left: running.prompt_left + sequence.prompt_len.saturating_sub(sequence.held),
            tokens_left: running.tokens_left + sequence.max_len - sequence.tokens.len(),
        })
    }
}

impl Steps for Batch {
    fn run(mut self: Box<Self>, shared: &Shared) {
        loop {
            self.end_cancelled(shared);
            let mut failed = Vec::new();
            {
                let mut state = shared.state.lock();
                loop {
                    self.begin(&mut state, &mut failed);
                    self.tell(&mut state);
                    if state.running.sequences > 0 || !failed.is_empty() {
                        break;
                    }
                    if state.deadline.is_some() && state.waiting.is_empty() {
                        return;
                    }
                    shared.changed.wait(&mut state);
                }
            }
            failed.into_iter().for_each(|(sink, error)| shared.finish(Err(error), sink));
            self.decode(shared);
            self.read(shared);
        }
    }
}
