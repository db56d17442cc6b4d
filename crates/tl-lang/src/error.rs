//! Why a program does not run, or not to its end.

use std::fmt;
use std::sync::Arc;

use tl_syntax::{Diagnostic, SourceMap, Span};

/// An error of a running program.
#[derive(Debug)]
pub(crate) struct RuntimeError {
    pub(crate) diagnostic: Diagnostic,
    /// The functions that were running, innermost first, each with the place of its call.
    pub(crate) calls: Vec<(Arc<str>, Span)>,
}

impl From<Diagnostic> for RuntimeError {
    fn from(diagnostic: Diagnostic) -> RuntimeError {
        RuntimeError { diagnostic, calls: Vec::new() }
    }
}

/// Why a program did not run, or not to its end.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProgramError {
    /// What was wrong; never empty.
    pub diagnostics: Vec<Diagnostic>,
    /// The functions that were running, innermost first, each with the place of its call.
    pub calls: Vec<(Arc<str>, Span)>,
    /// The source files of the diagnostics.
    pub sources: SourceMap,
    /// What was printed before, if the interpreter captures it.
    pub output: String,
}

impl ProgramError {
    /// The program was not run.
    pub(crate) fn before_run(diagnostics: Vec<Diagnostic>, sources: SourceMap) -> ProgramError {
        ProgramError { diagnostics, calls: Vec::new(), sources, output: String::new() }
    }

    /// The program ended with an error.
    pub(crate) fn while_running(error: RuntimeError, sources: SourceMap) -> ProgramError {
        ProgramError { calls: error.calls, ..ProgramError::before_run(vec![error.diagnostic], sources) }
    }
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}: {}", self.sources.describe(diagnostic.span()), diagnostic.message)?;
            for hint in &diagnostic.hints {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ProgramError {}
