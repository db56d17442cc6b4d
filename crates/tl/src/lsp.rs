//! `tl lsp`: the language server for editors.

use std::path::Path;

use tl_lang::SourceText;

use crate::output::Stop;
use crate::sources;

/// Serves an editor over standard input and output.
pub(crate) fn run() -> Result<(), Stop> {
    tl_lsp::serve(Box::new(read)).map_err(|problem| Stop::Failed(format!("the connection to the editor: {problem}")))
}

/// Reads a source file under its absolute path.
fn read(path: &Path) -> Result<SourceText, String> {
    let source = sources::read(path)?;
    let whole = path.canonicalize().map_err(|error| error.to_string())?;
    Ok(SourceText { name: whole.display().to_string(), ..source })
}
