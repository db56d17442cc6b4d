//! Sessions: a model, its KV cache and the tokens in it, step by step.
//!
//! A session's text can be replaced at any time; the prefix that the cache already holds is not run again.

use std::time::{Duration, Instant};

use tl_lang::PREFILL_CHUNK;
use tl_model::{
    Constraint, ConstraintState, KvCache, LanguageModel, ModelError, Result, Sampler, SamplingOptions, Timings,
};
use tl_tensor::Tensor;

use crate::model::Model;

/// A running text of a model.
///
/// ```
/// use tl_engine::{Model, SamplingOptions, Session, Step};
/// let model = Model::load("../../models/demo-q8_0.gguf", &tl_device::Device::cpu())?;
/// let tokenizer = model.tokenizer()?;
/// let mut session = Session::new(&model, 64, SamplingOptions::greedy())?;
/// session.set_text(&tokenizer.encode("A trait object"))?;
/// let mut text = String::new();
/// while session.tokens().len() < 16 {
///     if let Step::Token(token) = session.step()? {
///         text += &tokenizer.decode(&[token])?;
///     }
/// }
/// assert!(!text.is_empty());
/// # Ok::<(), tl_engine::ModelError>(())
/// ```
#[derive(Debug)]
pub struct Session {
    model: Model,
    cache: KvCache,
    sampler: Sampler,
    /// The constraint on chosen tokens.
    constraint: Option<Box<dyn Constraint>>,
    /// The text so far: the tokens in the cache, and those waiting.
    tokens: Vec<u32>,
    timings: Timings,
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Part of the text went through the model; this many of its tokens are left.
    Prefilled(usize),
    /// The chosen token. It is part of the text.
    Token(u32),
}

impl Session {
    /// A session for texts of up to `context` tokens. Takes the KV cache; the steps' memory comes from the device's
    /// tensor buffer if one is set (see [`ReserveFor`](crate::ReserveFor)).
    ///
    /// # Errors
    /// A context beyond the model's trained length, sampling options out of range, lack of memory.
    pub fn new(model: &Model, context: usize, sampling: SamplingOptions) -> Result<Session> {
        let sampler = Sampler::new(sampling, model.vocab_size())?;
        let cache = model.new_cache(context)?;
        let tokens = Vec::with_capacity(context);
        Ok(Session { model: model.clone(), cache, sampler, constraint: None, tokens, timings: Timings::default() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Maximum number of tokens.
    pub fn context(&self) -> usize {
        self.cache.capacity()
    }

    /// The text so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens of the text that have not gone through the model yet.
    pub fn n_waiting(&self) -> usize {
        self.tokens.len() - self.cache.len()
    }

    /// Tokens and times of all steps so far.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// Sets the sampling options of the next text, which is set after this.
    ///
    /// # Errors
    /// An option outside its range; the session is then unchanged.
    pub fn set_sampling(&mut self, sampling: SamplingOptions) -> Result<()> {
        self.sampler.set_options(sampling)
    }

    /// Sets the constraint on chosen tokens; `None` allows all. Constrained text begins after the present text, and
    /// anew after each text that the caller gives by [`Session::set_text`] or [`Session::extend`].
    ///
    /// # Errors
    /// The error of [`Constraint::reset`].
    pub fn set_constraint(&mut self, constraint: Option<Box<dyn Constraint>>) -> Result<()> {
        self.constraint = constraint;
        self.reset_constraint()
    }

    /// State of the text under its constraint; `None` without one.
    pub fn constraint_state(&self) -> Option<ConstraintState> {
        self.constraint.as_ref().map(|constraint| constraint.state())
    }

    fn reset_constraint(&mut self) -> Result<()> {
        self.constraint.as_mut().map_or(Ok(()), |constraint| constraint.reset())
    }

    /// Replaces the text. Keeps the prefix that the cache holds, and returns its length in tokens.
    ///
    /// # Errors
    /// An empty text, or one that exceeds the context.
    pub fn set_text(&mut self, tokens: &[u32]) -> Result<usize> {
        if tokens.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        if tokens.len() > self.context() {
            return Err(ModelError::PromptTooLong { tokens: tokens.len(), context: self.context() });
        }
        self.reset_constraint()?;
        let held = self.tokens.iter().take(self.cache.len());
        let shared = held.zip(tokens).take_while(|(held, token)| held == token).count();
        // The last token always goes through the model: its logits are needed.
        self.keep(shared.min(tokens.len() - 1));
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        self.sampler.reset();
        tokens.iter().for_each(|&token| self.sampler.accept(token));
        Ok(self.cache.len())
    }

    /// Appends tokens to the text.
    ///
    /// # Errors
    /// Tokens that exceed the context.
    pub fn extend(&mut self, tokens: &[u32]) -> Result<()> {
        let len = self.tokens.len() + tokens.len();
        if len > self.context() {
            return Err(ModelError::PromptTooLong { tokens: len, context: self.context() });
        }
        self.reset_constraint()?;
        self.tokens.extend_from_slice(tokens);
        tokens.iter().for_each(|&token| self.sampler.accept(token));
        Ok(())
    }

    /// Removes the last token if it has not gone through the model yet: an end-of-text token is no part of the text.
    pub fn forget_last(&mut self) {
        if self.tokens.len() > self.cache.len() {
            self.tokens.pop();
        }
    }

    /// Clears the text; the memory stays.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.tokens.clear();
        self.sampler.reset();
    }

    /// Truncates the cache to its first `len` tokens. A layer with a window may have dropped tokens that would be
    /// visible then, and a recurrent layer's state contains the later ones: in both cases the cache starts over.
    fn keep(&mut self, len: usize) {
        if self.cache.truncate(len).is_err() {
            self.cache.clear();
        }
    }

    /// Runs up to [`PREFILL_CHUNK`] waiting tokens through the model, and chooses the next token when none is left. The
    /// caller may stop between two steps, for good or for a while.
    ///
    /// # Errors
    /// An empty text, a full context, lack of memory, the error of [`Constraint::mask`]. The text stays as it was.
    pub fn step(&mut self) -> Result<Step> {
        self.step_with(&mut |_| Ok(()))
    }

    /// [`Session::step`], with a look at the logits from which a token is chosen: `[1, vocab_size]`, as the model gives
    /// them.
    ///
    /// # Errors
    /// As for [`Session::step`], and those of `look`.
    pub fn step_with(&mut self, look: &mut dyn FnMut(&Tensor) -> Result<()>) -> Result<Step> {
        #[expect(clippy::disallowed_methods, reason = "steps are timed for their statistics")]
        let start = Instant::now();
        let held = self.cache.len();
        let waiting = self.tokens.get(held..).unwrap_or_default();
        if waiting.is_empty() {
            return Err(ModelError::EmptyPrompt);
        }
        let part = &waiting[..waiting.len().min(PREFILL_CHUNK)];
        let n = part.len();
        let logits = self.model.forward(part, &mut self.cache)?;
        let left = waiting.len() - n;
        if left > 0 {
            drop(logits);
            self.count(n, true, start.elapsed());
            return Ok(Step::Prefilled(left));
        }
        look(&logits)?;
        let token = match &mut self.constraint {
            Some(constraint) => {
                let token = self.sampler.sample_tensor_with(&logits, constraint.as_mut())?;
                if !self.model.is_end(token) {
                    constraint.accept(token)?;
                }
                token
            }
            None => self.sampler.sample_tensor(&logits)?,
        };
        drop(logits);
        self.count(n, n > 1 || held == 0, start.elapsed());
        self.tokens.push(token);
        self.sampler.accept(token);
        Ok(Step::Token(token))
    }

    /// Whether the context is full: no further token can go through the model.
    pub fn is_full(&self) -> bool {
        self.tokens.len() > self.context()
    }

    fn count(&mut self, n: usize, is_prefill: bool, time: Duration) {
        if is_prefill {
            self.timings.prompt_tokens += n;
            self.timings.prefill += time;
        } else {
            self.timings.decoded_tokens += n;
            self.timings.decode += time;
        }
    }
}

#[cfg(test)]
mod tests {
    use tl_device::Device;

    use super::*;
    use tl_testing::project_file;

    /// Models with states in the folder of small ones.
    const RECURRENT: [&str; 4] = ["lfm2", "qwen3next", "qwen35", "qwen35moe"];

    /// The next `n` tokens.
    fn go_on(session: &mut Session, n: usize) -> Vec<u32> {
        let mut chosen = Vec::new();
        while chosen.len() < n {
            if let Step::Token(token) = session.step().unwrap() {
                chosen.push(token);
            }
        }
        chosen
    }

    #[test]
    fn what_the_cache_holds_does_not_run_again() {
        let model = Model::load(project_file("models/demo-q8_0.gguf"), &Device::cpu()).unwrap();
        let mut session = Session::new(&model, 128, SamplingOptions::greedy()).unwrap();
        let first = [1, 300, 301, 302];
        assert_eq!(session.set_text(&first).unwrap(), 0);
        let chosen = go_on(&mut session, 5);
        assert_eq!((session.tokens().len(), session.n_waiting(), session.timings().prompt_tokens), (9, 1, 4));
        // The same text and more.
        let mut longer = session.tokens().to_vec();
        longer.extend([400, 401]);
        assert_eq!(session.set_text(&longer).unwrap(), 8);
        let more = go_on(&mut session, 3);
        assert_eq!(session.timings().prompt_tokens, 4 + 3);
        // Another text from the third token on.
        assert_eq!(session.set_text(&[1, 300, 7, 8]).unwrap(), 2);
        go_on(&mut session, 1);
        // The same text as before gives the same.
        assert_eq!(session.set_text(&first).unwrap(), 2);
        assert_eq!(go_on(&mut session, 5), chosen);
        let mut fresh = Session::new(&model, 128, SamplingOptions::greedy()).unwrap();
        fresh.set_text(&longer).unwrap();
        assert_eq!(go_on(&mut fresh, 3), more);
    }

    #[test]
    fn a_look_at_the_logits_and_other_options() {
        let model = Model::load(project_file("models/demo-q8_0.gguf"), &Device::cpu()).unwrap();
        let mut session = Session::new(&model, 128, SamplingOptions::default()).unwrap();
        session.set_sampling(SamplingOptions::greedy()).unwrap();
        session.set_text(&[1, 300, 301]).unwrap();
        let mut likeliest = None;
        let step = session.step_with(&mut |logits| {
            likeliest = Some(Sampler::new(SamplingOptions::greedy(), model.vocab_size())?.sample_tensor(logits)?);
            Ok(())
        });
        assert_eq!(Some(step.unwrap()), likeliest.map(Step::Token));
        // An error there leaves the text as it was.
        let tokens = session.tokens().to_vec();
        assert!(session.step_with(&mut |_| Err(ModelError::EmptyPrompt)).is_err());
        assert_eq!(session.tokens(), tokens);
    }

    /// A state does not go back: such a model reads a changed text from its beginning, and a longer one on from where it is.
    #[test]
    fn what_a_state_holds_runs_again() {
        for name in RECURRENT {
            let path = project_file(&format!("tests/data/tiny/{name}/model.gguf"));
            let model = Model::load(path, &Device::cpu()).unwrap();
            let fresh = |text: &[u32], n: usize| {
                let mut session = Session::new(&model, 128, SamplingOptions::greedy()).unwrap();
                session.set_text(text).unwrap();
                go_on(&mut session, n)
            };
            let mut session = Session::new(&model, 128, SamplingOptions::greedy()).unwrap();
            let first = [1, 30, 31, 32, 33];
            session.set_text(&first).unwrap();
            let chosen = go_on(&mut session, 6);
            let mut longer = session.tokens().to_vec();
            longer.extend([40, 41]);
            assert_eq!(session.set_text(&longer).unwrap(), longer.len() - 3, "{name}");
            assert_eq!(go_on(&mut session, 3), fresh(&longer, 3), "{name}");
            // The same beginning, the same text, and a beginning of it alone.
            for text in [&[1, 30, 7, 8][..], &[1, 30, 7, 8], &first, &first[..3]] {
                assert_eq!(session.set_text(text).unwrap(), 0, "{name}");
                assert_eq!(go_on(&mut session, 6), fresh(text, 6), "{name}: {text:?}");
            }
            assert_eq!(fresh(&first, 6), chosen, "{name}");
        }
    }

    #[test]
    fn what_does_not_fit() {
        let model = Model::load(project_file("models/demo-q8_0.gguf"), &Device::cpu()).unwrap();
        let mut session = Session::new(&model, 4, SamplingOptions::greedy()).unwrap();
        assert!(session.step().unwrap_err().to_string().contains("nothing to start from"));
        assert!(session.set_text(&[]).is_err());
        assert!(session.set_text(&[1; 5]).unwrap_err().to_string().contains("the prompt has 5 tokens"));
        session.set_text(&[1, 2, 3]).unwrap();
        assert!(session.extend(&[4, 5]).is_err());
        go_on(&mut session, 1);
        assert!(!session.is_full());
        go_on(&mut session, 1);
        assert!(session.is_full());
        assert!(session.step().unwrap_err().to_string().contains("it holds 4 of at most 4 tokens"));
        session.clear();
        session.set_text(&[1]).unwrap();
        go_on(&mut session, 1);
    }
}
