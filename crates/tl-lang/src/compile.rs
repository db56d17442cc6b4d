//! From a program's text to the program that runs: parsed and checked, rewritten, with the ends of its values marked.

use tl_syntax::SourceMap;

use crate::check::{Checked, Part, check};
use crate::host::Host;
use crate::liveness;
use crate::rewrite::rewrite;

/// Compiles the file with this name and text, and its imports. As [`check`], but values end at their last use, and operations
/// are joined where that changes no result.
pub(crate) fn compile(name: &str, text: &str, part: Part, host: &mut dyn Host, sources: &mut SourceMap) -> Checked {
    let mut checked = check(name, text, part, host, sources);
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
