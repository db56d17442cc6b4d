//! Generation as an iterator of tokens: prefill of the prompt, then a token at a time.
//!
//! The first call to `next` runs the prompt; every later call runs the previous token. All memory is taken when the
//! generator is made or comes from a reservation: `next` itself allocates nothing for a single token.
//!
//! It knows tokens and no text: [`StopStrings`](crate::StopStrings) finds the end of a text in the decoded tokens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tl_tensor::Tensor;

use crate::constraint::{Constraint, ConstraintState};
use crate::error::{ModelError, Result};
use crate::kv_cache::KvCache;
use crate::sampling::{Sampler, SamplingOptions};

/// A source of logits: a model with its architecture, or a stand-in for it in a test.
pub trait LanguageModel {
    /// Number of tokens.
    fn vocab_size(&self) -> usize;

    /// The longest sequence that the model was trained for, in tokens.
    fn context_length(&self) -> usize;

    /// Whether the token ends a text.
    fn is_end(&self, token: u32) -> bool;

    /// An empty KV cache for `context` tokens.
    ///
    /// # Errors
    /// A context longer than the model supports, lack of memory.
    fn new_cache(&self, context: usize) -> Result<KvCache>;

    /// Appends `tokens` to those in the cache, and returns the logits after the last one: `[1, vocab_size]`.
    ///
    /// # Errors
    /// No tokens, an id outside the vocabulary, a full cache or one for another model, lack of memory.
    fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor>;
}

impl<M: LanguageModel> LanguageModel for &M {
    fn vocab_size(&self) -> usize {
        (**self).vocab_size()
    }

    fn context_length(&self) -> usize {
        (**self).context_length()
    }

    fn is_end(&self, token: u32) -> bool {
        (**self).is_end(token)
    }

    fn new_cache(&self, context: usize) -> Result<KvCache> {
        (**self).new_cache(context)
    }

    fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
        (**self).forward(tokens, cache)
    }
}

/// Options of a generation.
///
/// ```
/// use tl_model::{GenerateOptions, SamplingOptions};
/// let options = GenerateOptions::default().with_max_tokens(20).with_sampling(SamplingOptions::greedy());
/// assert_eq!((options.max_tokens, options.context), (20, None));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// The most tokens to generate.
    pub max_tokens: usize,
    /// Context in tokens, prompt and text together; the model's own limit if `None`.
    pub context: Option<usize>,
    /// Sampling options.
    pub sampling: SamplingOptions,
}

impl Default for GenerateOptions {
    /// 100 tokens at temperature 0.8 and top-p 0.95, seed 0.
    fn default() -> GenerateOptions {
        let sampling = SamplingOptions { temperature: 0.8, top_p: 0.95, ..SamplingOptions::default() };
        GenerateOptions { max_tokens: 100, context: None, sampling }
    }
}

impl GenerateOptions {
    /// With at most so many tokens to generate.
    pub fn with_max_tokens(mut self, max_tokens: usize) -> GenerateOptions {
        self.max_tokens = max_tokens;
        self
    }

    /// With a context of so many tokens, prompt and text together.
    pub fn with_context(mut self, context: usize) -> GenerateOptions {
        self.context = Some(context);
        self
    }

    /// With other sampling options.
    pub fn with_sampling(mut self, sampling: SamplingOptions) -> GenerateOptions {
        self.sampling = sampling;
        self
    }
}

/// The reason why generation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finish {
    /// The model ended the text.
    EndOfText,
    /// `max_tokens` were generated.
    MaxTokens,
    /// The context is full.
    ContextFull,
    /// The text is complete by its [`Constraint`]: nothing may follow it.
    ConstraintComplete,
    /// The [`CancelToken`] was set.
    Cancelled,
    /// An error, which the iterator has returned.
    Failed,
}

/// Ends generation from outside, such as from another thread. Clones share one state.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    is_cancelled: Arc<AtomicBool>,
}

impl CancelToken {
    /// A token that is not cancelled.
    pub fn new() -> CancelToken {
        CancelToken::default()
    }

    /// Ends all generation that has this token or a clone of it, permanently.
    pub fn cancel(&self) {
        // No other data is published with it, so no ordering is needed.
        self.is_cancelled.store(true, Ordering::Relaxed);
    }

    /// Whether it was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.is_cancelled.load(Ordering::Relaxed)
    }
}

/// Tokens and times so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Timings {
    /// Tokens of the prompt that went through the model.
    pub prompt_tokens: usize,
    /// Duration of the prompt.
    pub prefill: Duration,
    /// Single tokens that went through the model after the prompt.
    pub decoded_tokens: usize,
    /// Duration of these tokens, sampling included.
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

/// An iterator of the tokens that a model generates after a prompt. The token that ends the text is not among them.
#[derive(Debug)]
pub struct Generator<M> {
    model: M,
    cache: KvCache,
    sampler: Sampler,
    /// The next input of the model: the prompt, then one token.
    next: Vec<u32>,
    left: usize,
    cancel: Option<CancelToken>,
    constraint: Option<Box<dyn Constraint>>,
    finish: Option<Finish>,
    timings: Timings,
}

impl<M: LanguageModel> Generator<M> {
    /// Prepares to continue `prompt`: takes the KV cache and reserves the sampler's scratch. The penalties of the
    /// sampling options count the prompt's tokens, too.
    ///
    /// Memory for the steps comes from the device's tensor buffer if one is set.
    ///
    /// # Errors
    /// An empty prompt, one that does not fit, a context longer than the model supports, sampling options out of range,
    /// lack of memory.
    pub fn new(model: M, prompt: &[u32], options: &GenerateOptions) -> Result<Generator<M>> {
        let context = options.context.unwrap_or(model.context_length());
        if prompt.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        if prompt.len() > context {
            return Err(ModelError::PromptTooLong { tokens: prompt.len(), context });
        }
        let mut sampler = Sampler::new(options.sampling, model.vocab_size())?;
        prompt.iter().for_each(|&token| sampler.accept(token));
        let cache = model.new_cache(context)?;
        Ok(Generator {
            model,
            cache,
            sampler,
            next: prompt.to_vec(),
            left: options.max_tokens,
            cancel: None,
            constraint: None,
            finish: None,
            timings: Timings::default(),
        })
    }

    /// Ends generation with [`Finish::Cancelled`] before the next token once `cancel` is cancelled. A running step,
    /// including the prompt's, is completed: its token is still returned.
    pub fn with_cancel_token(self, cancel: CancelToken) -> Generator<M> {
        Generator { cancel: Some(cancel), ..self }
    }

    /// Allows only tokens that `constraint`, which is at its beginning, permits. Generation ends with
    /// [`Finish::ConstraintComplete`] if nothing may follow; where the text may end or continue, the model chooses.
    pub fn with_constraint(self, constraint: Box<dyn Constraint>) -> Generator<M> {
        Generator { constraint: Some(constraint), ..self }
    }

    /// The state of the text under its constraint; `None` without one. A text whose generation has ended in state
    /// [`ConstraintState::Open`] is truncated.
    pub fn constraint_state(&self) -> Option<ConstraintState> {
        self.constraint.as_ref().map(|constraint| constraint.state())
    }

    /// The reason for the end; `None` while generation continues.
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
        if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            self.finish = Some(Finish::Cancelled);
            return Ok(None);
        }
        if self.constraint_state() == Some(ConstraintState::Complete) {
            self.finish = Some(Finish::ConstraintComplete);
            return Ok(None);
        }
        if self.left == 0 {
            self.finish = Some(Finish::MaxTokens);
            return Ok(None);
        }
        if self.cache.len() + self.next.len() > self.cache.capacity() {
            self.finish = Some(Finish::ContextFull);
            return Ok(None);
        }
        #[expect(clippy::disallowed_methods, reason = "generation is timed for its statistics")]
        let start = Instant::now();
        let is_prefill = self.cache.is_empty();
        let logits: Tensor = self.model.forward(&self.next, &mut self.cache)?;
        let token = match &mut self.constraint {
            Some(constraint) => self.sampler.sample_tensor_with(&logits, constraint.as_mut())?,
            None => self.sampler.sample_tensor(&logits)?,
        };
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
        if self.model.is_end(token) {
            self.finish = Some(Finish::EndOfText);
            return Ok(None);
        }
        if let Some(constraint) = &mut self.constraint {
            constraint.accept(token)?;
        }
        self.sampler.accept(token);
        self.left -= 1;
        Ok(Some(token))
    }
}

impl<M: LanguageModel> Iterator for Generator<M> {
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tl_device::{DType, Device};

    use super::*;

    const VOCAB_SIZE: usize = 8;
    /// Ends a text.
    const END: u32 = 7;

    /// Answers from a table: the logits after a token are one row, whatever was before it. After the tokens of `fails_after` calls
    /// there is an error.
    #[derive(Debug)]
    struct TableModel {
        device: Device,
        rows: Vec<[f32; VOCAB_SIZE]>,
        fails_after: Option<usize>,
        calls: Cell<usize>,
    }

    impl TableModel {
        /// After token `i` the likeliest is `likeliest[i]`, the others in the order of their ids.
        fn new(likeliest: &[u32]) -> TableModel {
            let row = |&best: &u32| {
                let mut row: [f32; VOCAB_SIZE] = std::array::from_fn(|id| -(id as f32) / 8.0);
                row[best as usize] = 1.0;
                row
            };
            let rows = likeliest.iter().map(row).collect();
            TableModel { device: Device::cpu(), rows, fails_after: None, calls: Cell::new(0) }
        }

        fn tensor(&self, values: &[f32], dims: &[usize]) -> Result<Tensor> {
            Ok(Tensor::from_slice(&self.device, values, dims)?.into_dyn())
        }
    }

    impl LanguageModel for TableModel {
        fn vocab_size(&self) -> usize {
            VOCAB_SIZE
        }

        fn context_length(&self) -> usize {
            16
        }

        fn is_end(&self, token: u32) -> bool {
            token == END
        }

        fn new_cache(&self, context: usize) -> Result<KvCache> {
            KvCache::new(&self.device, 1, 1, 2, context, DType::F32)
        }

        fn forward(&self, tokens: &[u32], cache: &mut KvCache) -> Result<Tensor> {
            self.calls.set(self.calls.get() + 1);
            if self.fails_after.is_some_and(|calls| self.calls.get() > calls) {
                return Err(ModelError::Logits { problem: "the table fails".to_owned() });
            }
            // Only the length of the cache is used.
            let heads = self.tensor(&vec![0.0; tokens.len() * 2], &[tokens.len(), 1, 2])?;
            cache.attend(0, &heads, &heads, &heads)?;
            let last = tokens.last().map_or(0, |&token| token as usize);
            self.tensor(&self.rows[last], &[1, VOCAB_SIZE])
        }
    }

    /// 0 → 1 → 2 → 3 → 4 → 0, without an end.
    const CIRCLE: [u32; VOCAB_SIZE] = [1, 2, 3, 4, 0, 0, 0, 0];

    fn greedy(max_tokens: usize) -> GenerateOptions {
        let sampling = SamplingOptions::greedy();
        GenerateOptions { max_tokens, context: None, sampling }
    }

    /// The tokens, whether the last item is an error, and why it ended.
    fn generated<M: LanguageModel>(mut generator: Generator<M>) -> (Vec<u32>, bool, Option<Finish>) {
        let (mut tokens, mut has_failed) = (Vec::new(), false);
        for token in generator.by_ref() {
            assert!(!has_failed, "nothing follows an error");
            match token {
                Ok(token) => tokens.push(token),
                Err(_) => has_failed = true,
            }
        }
        assert!(generator.next().is_none(), "an iterator that ended stays so");
        (tokens, has_failed, generator.finish())
    }

    #[test]
    fn ends_where_it_should() {
        let circle = TableModel::new(&CIRCLE);
        let ending = TableModel::new(&[1, 2, 3, END, 0, 0, 0, 0]);
        let check = |model: &TableModel, prompt: &[u32], options: &GenerateOptions, tokens: &[u32], finish: Finish| {
            let generator = Generator::new(model, prompt, options).unwrap();
            assert_eq!(generated(generator), (tokens.to_vec(), false, Some(finish)), "{prompt:?} {options:?}");
        };
        check(&circle, &[4, 0], &greedy(6), &[1, 2, 3, 4, 0, 1], Finish::MaxTokens);
        check(&circle, &[0], &greedy(0), &[], Finish::MaxTokens);
        check(&ending, &[0], &greedy(6), &[1, 2, 3], Finish::EndOfText);
        check(&ending, &[3], &greedy(6), &[], Finish::EndOfText);
        check(&ending, &[0], &greedy(3), &[1, 2, 3], Finish::MaxTokens);
        // The last token does not go through the model: it needs no room.
        let short = GenerateOptions { context: Some(4), ..greedy(100) };
        check(&circle, &[0, 1], &short, &[2, 3, 4], Finish::ContextFull);
        check(&circle, &[0, 1, 2, 3], &short, &[4], Finish::ContextFull);
        check(&circle, &[0; 16], &greedy(100), &[1], Finish::ContextFull);
    }

    #[test]
    fn refuses_what_cannot_be_generated() {
        let circle = TableModel::new(&CIRCLE);
        let check = |prompt: &[u32], options: &GenerateOptions, expected: &str| {
            let error = Generator::new(&circle, prompt, options).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[], &greedy(1), "prompt");
        check(&[0; 17], &greedy(1), "17");
        let sampling = SamplingOptions { min_p: -1.0, ..SamplingOptions::default() };
        check(&[0], &GenerateOptions { sampling, ..greedy(1) }, "min_p is -1");
        assert_eq!(circle.calls.get(), 0);
    }

    #[test]
    fn an_error_ends_it() {
        for (calls, tokens) in [(0, &[][..]), (1, &[1]), (3, &[1, 2, 3])] {
            let model = TableModel { fails_after: Some(calls), ..TableModel::new(&CIRCLE) };
            let generator = Generator::new(&model, &[0], &greedy(6)).unwrap();
            assert_eq!(generated(generator), (tokens.to_vec(), true, Some(Finish::Failed)));
            assert_eq!(model.calls.get(), calls + 1);
        }
        // Logits that are none.
        let mut model = TableModel::new(&CIRCLE);
        model.rows[2] = [f32::NAN; VOCAB_SIZE];
        let generator = Generator::new(&model, &[0], &greedy(6)).unwrap();
        assert_eq!(generated(generator), (vec![1, 2], true, Some(Finish::Failed)));
    }

    #[test]
    fn a_cancelled_generator_ends_before_the_next_token() {
        let circle = TableModel::new(&CIRCLE);
        for n_tokens in [0, 1, 3] {
            circle.calls.set(0);
            let cancel = CancelToken::new();
            let mut generator = Generator::new(&circle, &[0], &greedy(6)).unwrap().with_cancel_token(cancel.clone());
            let tokens: Vec<u32> = generator.by_ref().take(n_tokens).map(Result::unwrap).collect();
            assert_eq!((tokens.len(), generator.finish(), cancel.is_cancelled()), (n_tokens, None, false));
            cancel.cancel();
            assert_eq!(generated(generator), (vec![], false, Some(Finish::Cancelled)));
            assert_eq!(circle.calls.get(), n_tokens, "one step for each token that was taken");
        }
        // One that is never cancelled changes nothing.
        let generator = Generator::new(&circle, &[0], &greedy(2)).unwrap().with_cancel_token(CancelToken::new());
        assert_eq!(generated(generator), (vec![1, 2], false, Some(Finish::MaxTokens)));
    }

    /// Allows the tokens of a table, one row for each place of the text; where a row has the end the text may end there, and behind
    /// the last row it is complete.
    #[derive(Clone, Debug)]
    struct Rows {
        rows: Vec<Vec<u32>>,
        accepted: Vec<u32>,
    }

    impl Constraint for Rows {
        fn reset(&mut self) -> Result<()> {
            self.accepted.clear();
            Ok(())
        }

        fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
            let problem = || ModelError::Constraint { problem: "no row".to_owned() };
            let row = self.rows.get(self.accepted.len()).ok_or_else(problem)?;
            let closed = (0u32..).zip(logits).filter(|(id, _)| !row.contains(id));
            closed.for_each(|(_, logit)| *logit = f32::NEG_INFINITY);
            Ok(())
        }

        fn accept(&mut self, token: u32) -> Result<()> {
            assert!(self.rows[self.accepted.len()].contains(&token) && token != END);
            self.accepted.push(token);
            Ok(())
        }

        fn state(&self) -> ConstraintState {
            match self.rows.get(self.accepted.len()) {
                None => ConstraintState::Complete,
                Some(row) if row.contains(&END) => ConstraintState::MayEnd,
                Some(_) => ConstraintState::Open,
            }
        }
    }

    #[test]
    fn a_constraint_says_which_tokens_may_come() {
        let circle = TableModel::new(&CIRCLE);
        let check = |rows: &[&[u32]], options: &GenerateOptions, tokens: &[u32], finish: Finish, state| {
            let rows = Rows { rows: rows.iter().map(|row| row.to_vec()).collect(), accepted: Vec::new() };
            let mut generator = Generator::new(&circle, &[0], options).unwrap().with_constraint(Box::new(rows));
            let all: Vec<u32> = generator.by_ref().map(Result::unwrap).collect();
            assert_eq!((&all[..], generator.finish()), (tokens, Some(finish)));
            assert_eq!(generator.constraint_state(), Some(state));
        };
        let (complete, open, may_end) = (ConstraintState::Complete, ConstraintState::Open, ConstraintState::MayEnd);
        // After 0 the likeliest is 1, of the others the one with the lowest id.
        check(&[&[1, 2], &[5, 6], &[3]], &greedy(9), &[1, 5, 3], Finish::ConstraintComplete, complete);
        check(&[&[6, 4], &[5], &[3]], &greedy(3), &[4, 5, 3], Finish::ConstraintComplete, complete);
        check(&[&[6, 4], &[5], &[3]], &greedy(2), &[4, 5], Finish::MaxTokens, open);
        check(&[&[2], &[END], &[1]], &greedy(9), &[2], Finish::EndOfText, may_end);
        check(&[&[2], &[6, END], &[1]], &greedy(9), &[2, 6, 1], Finish::ConstraintComplete, complete);
        check(&[], &greedy(9), &[], Finish::ConstraintComplete, complete);
        let short = GenerateOptions { context: Some(2), ..greedy(9) };
        check(&[&[2], &[3], &[4]], &short, &[2, 3], Finish::ContextFull, open);
        // Sampled tokens are allowed ones, whatever the options.
        let mut chosen = [0; VOCAB_SIZE];
        for seed in 0..100 {
            for (top_k, top_p, presence_penalty) in [(0, 1.0, 0.0), (2, 1.0, 0.0), (0, 0.5, 0.0), (0, 1.0, 20.0)] {
                let sampling = SamplingOptions { seed, top_k, top_p, presence_penalty, ..SamplingOptions::default() };
                let rows = Rows { rows: vec![vec![2, 5, 6]; 4], accepted: Vec::new() };
                let generator = Generator::new(&circle, &[0], &GenerateOptions { sampling, ..greedy(4) }).unwrap();
                let tokens: Vec<u32> = generator.with_constraint(Box::new(rows)).map(Result::unwrap).collect();
                tokens.iter().for_each(|&token| chosen[token as usize] += 1);
            }
        }
        assert!([2, 5, 6].iter().all(|&id| chosen[id] > 50), "{chosen:?}");
        assert_eq!([2, 5, 6].map(|id| chosen[id]).iter().sum::<i32>(), 1600, "{chosen:?}");
    }

    #[test]
    fn logits_that_leave_nothing_to_choose() {
        let run = |row: [f32; VOCAB_SIZE], temperature: f32| {
            let mut model = TableModel::new(&CIRCLE);
            model.rows[0] = row;
            let sampling = SamplingOptions { temperature, ..SamplingOptions::default() };
            let rows = Rows { rows: vec![vec![2, 3]; 2], accepted: Vec::new() };
            let options = GenerateOptions { sampling, ..greedy(2) };
            let mut generator = Generator::new(&model, &[0], &options).unwrap().with_constraint(Box::new(rows));
            let first = generator.next().unwrap().map_err(|error| error.to_string());
            (first, generator.finish())
        };
        let mut row = [0.0; VOCAB_SIZE];
        [row[2], row[3]] = [f32::NEG_INFINITY; 2];
        for temperature in [0.0, 1.0] {
            let (first, finish) = run(row, temperature);
            assert!(
                first.as_ref().is_err_and(|error| error.contains("every token that the grammar allows")),
                "{first:?}"
            );
            assert_eq!(finish, Some(Finish::Failed));
            let mut one_is_left = row;
            one_is_left[3] = -100.0;
            assert_eq!(run(one_is_left, temperature).0, Ok(3));
            // A model that gives a NaN is broken, whatever the grammar allows.
            let mut with_nan = one_is_left;
            with_nan[5] = f32::NAN;
            assert!(run(with_nan, temperature).0.unwrap_err().contains("token 5 is NaN"));
        }
    }

    #[test]
    fn penalties_count_the_prompt_and_the_text() {
        let circle = TableModel::new(&CIRCLE);
        let check = |sampling: SamplingOptions, prompt: &[u32], tokens: &[u32], finish: Finish| {
            let sampling = SamplingOptions { temperature: 0.0, ..sampling };
            let generator = Generator::new(&circle, prompt, &GenerateOptions { sampling, ..greedy(7) }).unwrap();
            assert_eq!(generated(generator), (tokens.to_vec(), false, Some(finish)), "{sampling:?} {prompt:?}");
        };
        let plain = SamplingOptions::default();
        let presence = SamplingOptions { presence_penalty: 10.0, ..plain };
        // Each token once, the end last.
        check(presence, &[0], &[1, 2, 3, 4, 5, 6], Finish::EndOfText);
        // 2 and 3 are in the prompt: after 1 comes what is likeliest among the others.
        check(presence, &[3, 2, 0], &[1, 4, 5, 6], Finish::EndOfText);
        // Only the last token counts, and never stands in the way.
        check(SamplingOptions { penalty_window: 1, ..presence }, &[0], &[1, 2, 3, 4, 0, 1, 2], Finish::MaxTokens);
        // After one time 1.0 - 0.75 is still the most. The 1 is in the prompt twice: 1.0 - 2 · 0.75 is less than the -0.25 of the 2,
        // which later has lost as much.
        let frequency = SamplingOptions { frequency_penalty: 0.75, ..plain };
        check(frequency, &[1, 1, 0], &[2, 3, 4, 0, 1, 2, 3], Finish::MaxTokens);
    }
}
