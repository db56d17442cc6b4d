//! Constraints on a generated text: the interface between sampling and grammars.
//!
//! It knows tokens and logits, not how a constraint finds the allowed tokens.

use std::fmt::Debug;

use crate::error::Result;

/// The state of a constrained text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintState {
    /// The text must continue.
    Open,
    /// The text may end or continue.
    MayEnd,
    /// The text is complete: nothing may follow it.
    Complete,
}

/// The tokens that may continue a text, from its first one on.
///
/// Before each choice a generator masks the logits with it, whatever the sampling options, and then passes it the
/// chosen token. Tokens that end a text are allowed exactly where the text may end; they are not passed to `accept`.
pub trait Constraint: Debug + Send {
    /// Restarts with an empty text.
    ///
    /// # Errors
    /// Lack of memory.
    fn reset(&mut self) -> Result<()>;

    /// Sets the logits of all tokens that may not come next to minus infinity: `[vocab_size]`, one per token.
    ///
    /// # Errors
    /// A text that is complete, that no token can continue, or that has become too complex.
    fn mask(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Appends a token to the text.
    ///
    /// # Errors
    /// A token that may not continue the text, a text that has become too complex.
    fn accept(&mut self, token: u32) -> Result<()>;

    /// The state of the text.
    fn state(&self) -> ConstraintState;
}
