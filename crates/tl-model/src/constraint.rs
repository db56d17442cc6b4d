//! What a text is to follow beside what the model finds likely: the seam between sampling and grammars.
//!
//! It knows tokens and logits; how a constraint finds the tokens that may come next is its own business.

use std::fmt::Debug;

use crate::error::Result;

/// Where a constrained text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConstraintState {
    /// The text must go on: it may not end here.
    Open,
    /// The text may end here, or go on.
    MayEnd,
    /// The text is complete: nothing may follow it.
    Complete,
}

/// Says which tokens a text may go on with, from its first one on.
///
/// A generator masks the logits with it before it chooses a token, whatever the sampling options, and tells it what was chosen.
/// Tokens that end a text are allowed exactly where the text may end; they are not among those that are accepted.
pub trait Constraint: Debug + Send {
    /// Begins anew: nothing of the text has come.
    ///
    /// # Errors
    /// Memory that cannot be had.
    fn reset(&mut self) -> Result<()>;

    /// Sets the logits of all tokens to minus infinity that may not come next: `[vocab_size]`, one per token.
    ///
    /// # Errors
    /// A text that is complete, one that no token can go on with, one that has become too complex.
    fn mask(&mut self, logits: &mut [f32]) -> Result<()>;

    /// Puts a token behind the text.
    ///
    /// # Errors
    /// A token that the text may not go on with, a text that has become too complex.
    fn accept(&mut self, token: u32) -> Result<()>;

    /// Where the text stands.
    fn state(&self) -> ConstraintState;
}
