//! Syntax trees to a checked program: names are resolved, arguments bound, types and sizes inferred as far as they can be
//! known, and everything that is wrong is reported. Nothing runs here.
//!
//! A wrong part becomes an expression of unknown type, and checking goes on: one mistake, one message.

mod calls;
mod checker;
mod conversions;
mod expressions;
mod files;
mod functions;
mod indexing;
mod operations;
mod scope;
mod statements;
mod types;

use tl_syntax::{Diagnostic, SourceMap};

use crate::check::checker::Checker;
use crate::host::Host;
use crate::ir::Program;
use crate::liveness;
use crate::rewrite::rewrite;

pub(crate) use operations::operator_row;
pub(crate) use types::{Known, Type, Typed, dtype_fits, show_declared};

/// What checking gives.
pub(crate) struct Checked {
    /// Absent where there are errors.
    pub(crate) program: Option<Program>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Parses and checks the file with this name and text, and what it imports.
pub(crate) fn check(name: &str, text: &str, host: &mut dyn Host, sources: &mut SourceMap) -> Checked {
    let mut checked = check_unmarked(name, text, host, sources);
    if let Some(program) = &mut checked.program {
        for function in program.functions.iter_mut().chain([&mut program.entry]) {
            liveness::mark(function);
            if rewrite(function) {
                liveness::mark(function);
            }
        }
    }
    checked
}

/// As [`check`], but the program runs as it is written, and all values live until their function ends.
pub(crate) fn check_unmarked(name: &str, text: &str, host: &mut dyn Host, sources: &mut SourceMap) -> Checked {
    let mut files = files::Files::new(host, sources);
    files.load_main(name, text);
    let files::Files { loaded, mut diagnostics, .. } = files;
    let mut checker = Checker::default();
    let program = checker.program(&loaded);
    diagnostics.append(&mut checker.diagnostics);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span().file, diagnostic.span().start));
    diagnostics.dedup();
    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    Checked { program: (!has_errors).then_some(program), diagnostics }
}
