//! A compiled grammar in the middle of a text.

use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::StopReason;
use tl_model::{Constraint, ConstraintState, ModelError, Result};

use crate::message::clean;
use crate::vocabulary::Vocabulary;

/// The problem of an empty mask.
const NO_TOKEN: &str = "the text cannot go on by the grammar: none of the model's tokens spells what comes next";

/// A grammar for a text, and the text's position in it.
///
/// A clone starts at the beginning; it shares the vocabulary only.
pub struct Grammar {
    vocabulary: Arc<Vocabulary>,
    /// The grammar before any text; never advanced.
    beginning: Matcher,
    matcher: Matcher,
    state: ConstraintState,
}

impl Grammar {
    pub(crate) fn new(vocabulary: Arc<Vocabulary>, mut beginning: Matcher) -> Result<Grammar> {
        // Consuming no token shows whether the empty text is complete already.
        beginning.consume_tokens(&[]).map_err(problem)?;
        let matcher = beginning.deep_clone();
        let mut grammar = Grammar { vocabulary, beginning, matcher, state: ConstraintState::Open };
        grammar.state = grammar.find_state()?;
        Ok(grammar)
    }

    /// Checks that some text can follow the grammar: the empty text, or one that a token begins.
    pub(crate) fn check_beginning(&self) -> Result<()> {
        if self.state == ConstraintState::Complete {
            return Ok(());
        }
        self.clone().mask(&mut []).map_err(|error| match error {
            ModelError::Constraint { problem } if problem == NO_TOKEN => {
                ModelError::Constraint { problem: "no text that the model's tokens spell can follow it".to_owned() }
            }
            error => error,
        })
    }

    /// The state of the text by the matcher, which stops by itself where nothing may follow.
    fn find_state(&mut self) -> Result<ConstraintState> {
        let is_accepting = match self.matcher.stop_reason() {
            StopReason::NotStopped => self.matcher.is_accepting().map_err(problem)?,
            StopReason::NoExtension | StopReason::NoExtensionBias | StopReason::EndOfSentence => {
                return Ok(ConstraintState::Complete);
            }
            reason => return Err(too_complex(&reason.to_string())),
        };
        Ok(if is_accepting { ConstraintState::MayEnd } else { ConstraintState::Open })
    }
}

impl Clone for Grammar {
    fn clone(&self) -> Grammar {
        let mut grammar = Grammar {
            vocabulary: self.vocabulary.clone(),
            beginning: self.beginning.deep_clone(),
            matcher: self.beginning.deep_clone(),
            state: ConstraintState::Open,
        };
        // This succeeded for the first of the clones.
        grammar.state = grammar.find_state().unwrap_or(ConstraintState::Open);
        grammar
    }
}

impl Constraint for Grammar {
    fn reset(&mut self) -> Result<()> {
        self.matcher = self.beginning.deep_clone();
        self.state = self.find_state()?;
        Ok(())
    }

    fn mask(&mut self, logits: &mut [f32]) -> Result<()> {
        if self.state == ConstraintState::Complete {
            let problem = "the text is complete by the grammar: nothing may follow it".to_owned();
            return Err(ModelError::Constraint { problem });
        }
        let allowed = match self.matcher.compute_mask() {
            Ok(allowed) => allowed,
            Err(error) if error.to_string().starts_with(&StopReason::NoExtensionBias.to_string()) => {
                return Err(ModelError::Constraint { problem: NO_TOKEN.to_owned() });
            }
            Err(error) => return Err(problem(error)),
        };
        self.vocabulary.mask(&allowed, logits);
        Ok(())
    }

    fn accept(&mut self, token: u32) -> Result<()> {
        self.matcher.consume_token(self.vocabulary.in_tree(token)).map_err(problem)?;
        self.state = self.find_state()?;
        Ok(())
    }

    fn state(&self) -> ConstraintState {
        self.state
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar").field("state", &self.state).finish_non_exhaustive()
    }
}

fn problem(error: impl ToString) -> ModelError {
    too_complex(&clean(&error.to_string()))
}

fn too_complex(problem: &str) -> ModelError {
    ModelError::Constraint { problem: format!("the text cannot go on by the grammar: {problem}") }
}
