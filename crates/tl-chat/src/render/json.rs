//! JSON in the form of Python's `json.dumps` with `ensure_ascii=False`: the filter `tojson` of chat templates.

use super::meter::{Buffer, Meter};
use super::python::float_text;
use super::value::{SequenceKind, Value};
use crate::error::Result;

/// Layout of the JSON.
pub(super) struct Layout {
    /// Text of one level of indentation; `None`: all in one line.
    pub(super) indent: Option<String>,
    pub(super) item_separator: String,
    pub(super) key_separator: String,
    pub(super) sort_keys: bool,
    pub(super) ensure_ascii: bool,
}

impl Meter {
    pub(super) fn write_json(&self, out: &mut Buffer, value: &Value, layout: &Layout, level: usize) -> Result<()> {
        self.step(1)?;
        match value {
            Value::None => out.push("null"),
            Value::Bool(value) => out.push(if *value { "true" } else { "false" }),
            Value::Integer(value) => out.push(&value.to_string()),
            Value::Float(value) => out.push(&json_float(*value)),
            Value::String(text) => write_json_string(out, &text.text, layout.ensure_ascii),
            Value::Sequence(sequence) if matches!(sequence.kind, SequenceKind::List | SequenceKind::Tuple) => {
                out.push("[")?;
                for (at, item) in sequence.items.iter().enumerate() {
                    self.separate(out, layout, at, level + 1)?;
                    self.write_json(out, item, layout, level + 1)?;
                }
                self.close(out, layout, sequence.items.len(), level, "]")
            }
            Value::Dict(dict) => {
                out.push("{")?;
                let _claim;
                let sorted;
                let entries = if layout.sort_keys {
                    _claim = self.claim(dict.entries.len() * size_of::<Value>())?;
                    let keys = dict.entries.iter().map(|(key, _)| (key.clone(), key.clone())).collect();
                    let mut entries = Vec::with_capacity(dict.entries.len());
                    for key in self.sort(keys, false)? {
                        let value = self.entry(dict, &key)?.unwrap_or(Value::None);
                        entries.push((key, value));
                    }
                    sorted = entries;
                    &sorted
                } else {
                    &dict.entries
                };
                for (at, (key, value)) in entries.iter().enumerate() {
                    self.separate(out, layout, at, level + 1)?;
                    match key {
                        Value::String(text) => write_json_string(out, &text.text, layout.ensure_ascii)?,
                        _ => {
                            out.push("\"")?;
                            self.write_json(out, key, layout, level + 1)?;
                            out.push("\"")?;
                        }
                    }
                    out.push(&layout.key_separator)?;
                    self.write_json(out, value, layout, level + 1)?;
                }
                self.close(out, layout, entries.len(), level, "}")
            }
            _ => self.error(format!("a value of type {} cannot be written as JSON", value.type_name())),
        }
    }

    /// Writes the separator before item `at` of a container.
    fn separate(&self, out: &mut Buffer, layout: &Layout, at: usize, level: usize) -> Result<()> {
        if at > 0 {
            out.push(&layout.item_separator)?;
        }
        self.line_break(out, layout, level)
    }

    fn close(&self, out: &mut Buffer, layout: &Layout, len: usize, level: usize, bracket: &str) -> Result<()> {
        if len > 0 {
            self.line_break(out, layout, level)?;
        }
        out.push(bracket)
    }

    fn line_break(&self, out: &mut Buffer, layout: &Layout, level: usize) -> Result<()> {
        let Some(indent) = &layout.indent else { return Ok(()) };
        out.push("\n")?;
        out.push_repeated(indent, level)
    }
}

fn json_float(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        float_text(value)
    }
}

fn write_json_string(out: &mut Buffer, text: &str, ensure_ascii: bool) -> Result<()> {
    out.push("\"")?;
    let mut plain_from = 0;
    for (at, character) in text.char_indices() {
        let escaped = match character {
            '"' => "\\\"".to_owned(),
            '\\' => "\\\\".to_owned(),
            '\n' => "\\n".to_owned(),
            '\r' => "\\r".to_owned(),
            '\t' => "\\t".to_owned(),
            '\u{8}' => "\\b".to_owned(),
            '\u{c}' => "\\f".to_owned(),
            '\0'..='\x1f' => format!("\\u{:04x}", character as u32),
            '\x7f'.. if ensure_ascii => {
                let mut units = [0; 2];
                character.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")).collect()
            }
            _ => continue,
        };
        out.push(&text[plain_from..at])?;
        out.push(&escaped)?;
        plain_from = at + character.len_utf8();
    }
    out.push(&text[plain_from..])?;
    out.push("\"")
}
