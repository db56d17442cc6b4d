//! Why evaluation leaves its place: errors, jumps and the program's end.

use std::sync::Arc;

use tl_syntax::{Code, Diagnostic, Span};

use crate::error::RuntimeError;
use crate::library::BuiltinError;
use crate::value::Value;

/// Calls that an error lists; of more, the ones in the middle are left out.
const MAX_LISTED_CALLS: usize = 16;

/// Why evaluation does not continue with the next statement.
#[derive(Debug)]
pub(super) enum ControlFlow {
    Break,
    Continue,
    /// The value is in `Evaluator::returned`.
    Return,
    /// The program ends itself with this code.
    Exit(i32),
    Error(Box<RuntimeError>),
}

pub(super) type Evaluated<T> = Result<T, ControlFlow>;

impl From<Diagnostic> for ControlFlow {
    #[cold]
    fn from(diagnostic: Diagnostic) -> ControlFlow {
        ControlFlow::Error(Box::new(diagnostic.into()))
    }
}

#[cold]
pub(super) fn error_at(span: Span, message: impl Into<String>) -> ControlFlow {
    Diagnostic::error(span, message).into()
}

/// An error with a code.
#[cold]
pub(super) fn coded_error(span: Span, message: impl Into<String>, code: Option<Code>) -> ControlFlow {
    let mut diagnostic = Diagnostic::error(span, message);
    diagnostic.code = code;
    diagnostic.into()
}

/// A builtin's error, at the place of its call.
#[cold]
pub(super) fn raise(error: BuiltinError, span: Span) -> ControlFlow {
    if let Some(code) = error.exit {
        return ControlFlow::Exit(code);
    }
    let mut diagnostic = Diagnostic::error(span, error.message);
    diagnostic.hints.extend(error.hint);
    diagnostic.code = error.code;
    diagnostic.into()
}

/// A variable without a value is read.
#[cold]
pub(super) fn missing_value(value: &Value, name: &str, span: Span) -> ControlFlow {
    match value {
        Value::Recycled(at) => {
            let message = format!("`{name}` was recycled before, and is used here");
            Diagnostic::error(span, message).label(*at, "recycled here").into()
        }
        _ => error_at(span, format!("`{name}` has no value here")),
    }
}

/// Adds a call that an error passes on its way out.
#[cold]
pub(super) fn add_call(flow: ControlFlow, function: &Arc<str>, span: Span) -> ControlFlow {
    match flow {
        ControlFlow::Error(mut error) => {
            if error.calls.len() >= MAX_LISTED_CALLS {
                error.calls.remove(MAX_LISTED_CALLS / 2);
            }
            error.calls.push((function.clone(), span));
            ControlFlow::Error(error)
        }
        other => other,
    }
}
