//! `--json-schema`, `--grammar` and `--regex`: the grammar for the text of `tl generate` and `tl chat`.

use std::path::{Path, PathBuf};

use tl_engine::{Constraint, GrammarSource, Model};

use crate::arguments::GrammarArguments;
use crate::files;
use crate::output::Stop;

/// Maximum bytes read of a file, above the limit of a grammar.
const MAX_READ_BYTES: u64 = 8 << 20;

/// A grammar as given in the arguments.
#[derive(Debug)]
pub(crate) struct Given {
    source: GrammarSource,
    /// Its file, if it is from one.
    file: Option<PathBuf>,
}

impl GrammarArguments {
    /// Reads the grammar, if one is given.
    pub(crate) fn read(&self) -> Result<Option<Given>, Stop> {
        if let Some(schema) = &self.json_schema {
            // A path may be invalid UTF-8; a schema may not.
            return Ok(Some(match schema.to_str() {
                Some(text) if text.trim_start().starts_with('{') => {
                    Given { source: GrammarSource::JsonSchema(text.to_owned()), file: None }
                }
                _ => from_file(Path::new(schema), GrammarSource::JsonSchema)?,
            }));
        }
        if let Some(path) = &self.grammar {
            return from_file(path, GrammarSource::Lark).map(Some);
        }
        Ok(self.regex.clone().map(|expression| Given { source: GrammarSource::Regex(expression), file: None }))
    }
}

impl Given {
    /// Compiles the grammar for the model's tokens.
    pub(crate) fn compile(&self, model: &Model) -> Result<Box<dyn Constraint>, Stop> {
        match model.grammar(&self.source) {
            Ok(grammar) => Ok(Box::new(grammar)),
            Err(error) => Err(Stop::Failed(match &self.file {
                Some(path) => format!("{}: {error}", path.display()),
                None => error.to_string(),
            })),
        }
    }
}

fn from_file(path: &Path, source: fn(String) -> GrammarSource) -> Result<Given, Stop> {
    Ok(Given { source: source(files::read_text(path, MAX_READ_BYTES)?), file: Some(path.to_owned()) })
}
