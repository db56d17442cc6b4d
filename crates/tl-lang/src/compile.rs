//! From a program's text to the program that runs: parsed and checked, rewritten, with the ends of its values marked.

use std::sync::Arc;

use tl_syntax::SourceMap;

use crate::check::{CheckOptions, Checked, CheckedEntry, Declarations, check, check_entry};
use crate::host::Host;
use crate::ir::Program;
use crate::liveness;
use crate::rewrite::rewrite;
use crate::types::Type;

/// Compiles the file with this name and text, and its imports. As [`check`], but values end at their last use, and operations
/// are joined where that changes no result.
pub(crate) fn compile(
    name: &str,
    text: &str,
    options: &CheckOptions,
    host: &mut dyn Host,
    sources: &mut SourceMap,
) -> Checked {
    let mut checked = check(name, text, options, host, sources);
    if let Some(program) = &mut checked.program {
        finish(program, true);
    }
    checked
}

/// Compiles an entry of a session. As [`check_entry`].
pub(crate) fn compile_entry(
    entry: (&str, &str),
    before: &Declarations,
    variables: Vec<(Arc<str>, Type)>,
    host: &mut dyn Host,
    sources: &mut SourceMap,
) -> CheckedEntry {
    let mut entry = check_entry(entry, before, variables, host, sources);
    if let Some(program) = &mut entry.checked.program {
        // A session goes on after an error, with the variables that it had.
        finish(program, false);
    }
    entry
}

/// Marks where values end, and joins operations.
fn finish(program: &mut Program, moves_globals: bool) {
    for function in program.functions.iter_mut().chain([&mut program.entry]) {
        liveness::mark(function, moves_globals);
        if rewrite(function) {
            liveness::mark(function, moves_globals);
        }
    }
}
