//! The engine: tokens in, tokens out, for any number of askers. It knows nothing of HTTP and of text.
//!
//! All memory is reserved when it starts. One thread owns the model and its memory; `scheduler.rs` decides which
//! sequence takes which step there.

use std::time::Duration;

use tl_engine::Model;

use crate::error::{Refusal, Result};
use crate::options::EngineOptions;
use crate::request::Request;
use crate::scheduler::Scheduler;
use crate::stats::{EngineStats, Quote};
use crate::stream::TokenStream;

/// A running engine. Dropping it cancels its sequences and ends its thread.
///
/// ```
/// use tl_serve::{Engine, EngineOptions, Finish, Request};
///
/// let model = tl_engine::Model::load("../../models/demo-q8_0.gguf", &tl_device::Device::cpu())?;
/// let engine = Engine::start(&model, EngineOptions::new(64))?;
/// let prompt = model.tokenizer()?.encode("A trait object");
/// let mut stream = engine.submit(Request::new(prompt, 5))?;
/// while let Some(token) = stream.wait_next() {
///     println!("{}", token?.id);
/// }
/// assert!(matches!(stream.finish(), Some(Finish::MaxTokens | Finish::EndOfText)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Engine {
    scheduler: Scheduler,
}

impl Engine {
    /// Reserves all memory on the model's device, which is then sealed, and starts the engine's thread.
    ///
    /// # Errors
    /// Options outside their range, a context beyond the model's trained length, lack of memory.
    pub fn start(model: &Model, options: EngineOptions) -> Result<Engine> {
        options.check(model)?;
        Ok(Engine { scheduler: Scheduler::start(model, options)? })
    }

    /// Takes a request, which then waits for its turn. Reserves the room for its tokens.
    ///
    /// # Errors
    /// The reason for which the request cannot run, now or ever.
    pub fn submit(&self, request: Request) -> std::result::Result<TokenStream, Refusal> {
        self.scheduler.submit(request)
    }

    /// The price of a request of so many tokens, without running it.
    pub fn quote(&self, prompt_len: usize, max_tokens: usize) -> Quote {
        self.scheduler.quote(prompt_len, max_tokens)
    }

    /// The engine's state, and its counts since the start.
    pub fn stats(&self) -> EngineStats {
        self.scheduler.stats()
    }

    /// Takes no more requests from here on. Those that run or wait go on for at most `patience`; then they are
    /// cancelled. Returns at once; [`EngineStats::is_ended`] tells when none is left.
    pub fn drain(&self, patience: Duration) {
        self.scheduler.drain(patience);
    }
}
