//! `tl fmt`: programs in TL's style.

use std::path::Path;

use tl_lang::SourceText;
use tl_syntax::SourceMap;

use crate::output::{self, Stop, print_error};
use crate::source_arguments::FmtArguments;
use crate::{files, render, sources};

/// Formats programs. A file with errors stays as it is, and does not keep the others from being formatted.
pub(crate) fn run(arguments: &FmtArguments) -> Result<(), Stop> {
    let mut is_clean = true;
    for path in sources::programs(&arguments.files)? {
        match sources::main_file(&path) {
            Ok(source) => is_clean &= format(&path, source, arguments.check)?,
            Err(Stop::Failed(problem)) => {
                print_error(&format!("error: {problem}"));
                is_clean = false;
            }
            Err(stop) => return Err(stop),
        }
    }
    if is_clean { Ok(()) } else { Err(Stop::Exit(1)) }
}

/// Formats one program; false if it has errors, or with `check` if it would change.
fn format(path: &Path, source: SourceText, check: bool) -> Result<bool, Stop> {
    let mut map = SourceMap::new();
    let file = map.add(source.name.clone(), source.text.clone());
    let formatted = match tl_syntax::format(file, &source.text) {
        Ok(formatted) => formatted,
        Err(diagnostics) => {
            render::print(&map, &diagnostics, &[]);
            return Ok(false);
        }
    };
    let is_stdin = path.as_os_str() == sources::STDIN;
    match (check, formatted == source.text) {
        (true, is_same) => {
            if !is_same {
                output::print(&format!("{}\n", source.name))?;
            }
            return Ok(is_same);
        }
        (false, _) if is_stdin => output::print(&formatted)?,
        (false, true) => {}
        (false, false) => files::replace(path, formatted.as_bytes())?,
    }
    Ok(true)
}
