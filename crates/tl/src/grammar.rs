//! `--json-schema`, `--grammar` and `--regex`: what the text of `tl generate` and `tl chat` is to follow.

use std::path::{Path, PathBuf};

use tl_engine::{Constraint, GrammarSource, Model};

use crate::arguments::GrammarArguments;
use crate::files;
use crate::output::Stop;

/// More than a grammar may have.
const MAX_READ_BYTES: u64 = 8 << 20;

/// A grammar as it was given.
#[derive(Debug)]
pub(crate) struct Given {
    source: GrammarSource,
    /// The file that it is from.
    file: Option<PathBuf>,
}

impl GrammarArguments {
    /// Reads the grammar, if one is given.
    pub(crate) fn read(&self) -> Result<Option<Given>, Stop> {
        if let Some(schema) = &self.json_schema {
            // A path may be no UTF-8; a schema is.
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
    /// The grammar over the model's tokens.
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
