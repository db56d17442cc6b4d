//! Sources of grammars, and the checks before compilation: lengths, and that a schema is JSON.

use llguidance::api::TopLevelGrammar;
use serde_json::{Value, json};

use crate::error::{GrammarError, Result};
use crate::kind::GrammarKind;
use crate::limits::{MAX_DEFINITIONS, MAX_SOURCE_BYTES};

/// Space between JSON tokens: none, one space, or a line end with an indentation. The lengths are bounded, so that a
/// model cannot write spaces forever.
const JSON_SPACE: &str = r"\x20|\r?\n[\x20\t]{0,32}";

/// Schema keyword whose object holds llguidance's options.
const OPTIONS_KEY: &str = "x-guidance";

/// A grammar in its notation.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GrammarSource {
    /// A JSON schema (draft 2020-12 or earlier): the text is one JSON value that is valid by it. Unsupported keywords
    /// are errors. Properties come in the order of the schema.
    JsonSchema(String),
    /// A context-free grammar in the Lark-like notation of llguidance; the text matches its rule `start`.
    Lark(String),
    /// A regular expression in the notation of the crate `regex`, without look-around; the whole text matches it.
    Regex(String),
}

impl GrammarSource {
    /// Its notation.
    pub fn kind(&self) -> GrammarKind {
        match self {
            GrammarSource::JsonSchema(_) => GrammarKind::JsonSchema,
            GrammarSource::Lark(_) => GrammarKind::Lark,
            GrammarSource::Regex(_) => GrammarKind::Regex,
        }
    }

    /// Its text.
    pub fn text(&self) -> &str {
        match self {
            GrammarSource::JsonSchema(text) | GrammarSource::Lark(text) | GrammarSource::Regex(text) => text,
        }
    }

    /// The grammar in llguidance's form, and the schema if it is one.
    pub(crate) fn prepare(&self) -> Result<(TopLevelGrammar, Option<Value>)> {
        let (kind, text) = (self.kind(), self.text());
        if text.len() > MAX_SOURCE_BYTES {
            return Err(GrammarError::TooLong { kind, len_bytes: text.len(), limit: MAX_SOURCE_BYTES });
        }
        match self {
            GrammarSource::JsonSchema(text) => {
                let schema = schema(text)?;
                Ok((TopLevelGrammar::from_json_schema(with_space(schema.clone())), Some(schema)))
            }
            GrammarSource::Lark(text) => {
                // A definition takes a colon. Brackets are nested 30 deep at most for llguidance, schemas 127 deep for JSON.
                let count = text.bytes().filter(|&byte| byte == b':').count();
                if count > MAX_DEFINITIONS {
                    return Err(GrammarError::TooManyDefinitions { kind, count, limit: MAX_DEFINITIONS });
                }
                Ok((TopLevelGrammar::from_lark(text.clone()), None))
            }
            GrammarSource::Regex(text) => {
                if text.is_empty() {
                    let problem = "it is empty, so that every text would be".to_owned();
                    return Err(GrammarError::Invalid { kind, problem });
                }
                Ok((TopLevelGrammar::from_regex(text), None))
            }
        }
    }
}

fn schema(text: &str) -> Result<Value> {
    let value: Value =
        serde_json::from_str(text).map_err(|error| GrammarError::NotJson { problem: error.to_string() })?;
    let found = match value {
        Value::Object(_) | Value::Bool(_) => return Ok(value),
        Value::Null => "null",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
    };
    Err(GrammarError::NotASchema { found })
}

/// The schema with the allowed space between tokens, unless it sets the form of JSON itself.
fn with_space(mut schema: Value) -> Value {
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    if let Some(object) = schema.as_object_mut() {
        object.entry(OPTIONS_KEY).or_insert_with(|| json!({ "whitespace_pattern": JSON_SPACE }));
    }
    schema
}

/// JSON pointer to the first schema within `schema` that has one of the keywords, and the keywords that it has.
pub(crate) fn find_keywords(schema: &Value, keywords: &[String]) -> Option<(String, Vec<String>)> {
    match schema {
        Value::Object(object) => {
            let found: Vec<String> = keywords.iter().filter(|&keyword| object.contains_key(keyword)).cloned().collect();
            if !found.is_empty() {
                return Some(("#".to_owned(), found));
            }
            object.iter().find_map(|(key, value)| {
                let (place, found) = find_keywords(value, keywords)?;
                let key = key.replace('~', "~0").replace('/', "~1");
                Some((format!("#/{key}{}", place.trim_start_matches('#')), found))
            })
        }
        Value::Array(list) => list.iter().zip(0..).find_map(|(value, index)| {
            let (place, found) = find_keywords(value, keywords)?;
            Some((format!("#/{index}{}", place.trim_start_matches('#')), found))
        }),
        _ => None,
    }
}
