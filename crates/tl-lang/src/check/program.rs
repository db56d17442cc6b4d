//! Checks a program: its main file and its imports.

use tl_syntax::{Diagnostic, SourceMap};

use crate::check::checker::{Checker, Part};
use crate::check::files::Files;
use crate::host::Host;
use crate::ir::Program;

/// A program after checking.
pub(crate) struct Checked {
    /// Absent if there are errors.
    pub(crate) program: Option<Program>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// Parses and checks the file with this name and text, and its imports. The program runs as it is written, and all values live
/// until their function ends.
pub(crate) fn check(name: &str, text: &str, part: Part, host: &mut dyn Host, sources: &mut SourceMap) -> Checked {
    let mut files = Files::new(host, sources);
    files.load_main(name, text);
    let Files { loaded, mut diagnostics, .. } = files;
    let mut checker = Checker { part, ..Checker::default() };
    let program = checker.program(&loaded);
    diagnostics.append(&mut checker.diagnostics);
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span().file, diagnostic.span().start));
    diagnostics.dedup();
    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    Checked { program: (!has_errors).then_some(program), diagnostics }
}
