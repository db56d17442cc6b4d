//! Filters: `value | name(…)`.

mod sequence;

use super::Renderer;
use super::arguments::Given;
use super::json::Layout;
use super::meter::Buffer;
use super::value::{SequenceKind, Value};
use crate::error::Result;

impl Renderer<'_> {
    pub(super) fn filter(&mut self, name: &str, value: Value, mut given: Given<'_>) -> Result<Value> {
        self.meter.step(1)?;
        let result = match name {
            "map" | "select" | "reject" | "selectattr" | "rejectattr" => return self.per_item(name, value, given),
            "default" | "d" => {
                let otherwise = given.take(0, "default_value");
                let also_false = given.truth(1, "boolean", false);
                if matches!(value, Value::Undefined(_)) || (also_false && !value.is_true()) {
                    otherwise.map_or_else(|| self.meter.string(""), Ok)?
                } else {
                    value
                }
            }
            "string" | "safe" | "trim" | "upper" | "lower" | "title" | "capitalize" | "replace" | "indent"
            | "escape" | "e" | "forceescape" | "center" | "format" | "wordcount" => {
                self.text_filter(name, &value, &mut given)?
            }
            "tojson" => self.json_text(&value, &mut given)?,
            "length" | "count" => match self.meter.length(&value)? {
                Some(n) => Value::Integer(n as i128),
                None => return self.meter.error(format!("a value of type {} has no length", value.type_name())),
            },
            "abs" | "int" | "float" | "round" => self.number_filter(name, &value, &mut given)?,
            "items" | "dictsort" => self.dict_filter(name, &value, &mut given)?,
            "attr" => {
                let key = given.require_text(&self.meter, 0, "name")?;
                match &value {
                    // Items of a dict are no attributes.
                    Value::Dict(_) => Value::Undefined(0),
                    _ => self.meter.attribute(&value, key.as_str().unwrap_or(""), 0)?,
                }
            }
            "list" => {
                let items = self.meter.items(&value)?;
                self.meter.list(items)?
            }
            _ => self.sequence_filter(name, &value, &mut given)?,
        };
        given.finish(&self.meter)?;
        Ok(result)
    }

    fn text_filter(&mut self, name: &str, value: &Value, given: &mut Given<'_>) -> Result<Value> {
        let meter = self.meter.clone();
        if name == "indent" && !matches!(value, Value::String(_)) {
            return meter.error(format!("`indent` takes a text, not a value of type {}", value.type_name()));
        }
        let value = meter.text_of(value)?;
        let text = value.as_str().unwrap_or("");
        meter.scan(text.len())?;
        Ok(match name {
            "string" => value,
            "safe" => {
                let mut out = Buffer::new(&meter)?;
                out.push(text)?;
                meter.safe_string(out)
            }
            "trim" => {
                let characters = given.take(0, "chars");
                meter.string(meter.strip(text, "strip", characters.as_ref().and_then(Value::as_str))?)?
            }
            "upper" | "lower" | "capitalize" => meter.change_case(text, name)?,
            "title" => {
                // A word begins after a blank, a hyphen or an opening bracket.
                let _claim = meter.claim(text.len().saturating_mul(3))?;
                let mut out = String::with_capacity(text.len());
                let mut begins = true;
                for c in text.chars() {
                    if begins {
                        out.extend(c.to_uppercase())
                    } else {
                        out.extend(c.to_lowercase())
                    }
                    begins = c.is_whitespace() || "-({[<".contains(c);
                }
                meter.string(out)?
            }
            "replace" => {
                let old = given.require(&meter, 0, "s").and_then(|value| meter.text_of(&value))?;
                let new = given.require(&meter, 1, "new").and_then(|value| meter.text_of(&value))?;
                let at_most = given.length(&meter, 2, "count")?;
                meter.replace(text, old.as_str().unwrap_or(""), new.as_str().unwrap_or(""), at_most)?
            }
            "indent" => {
                let width = match given.take(0, "width") {
                    None => meter.string("    ")?,
                    Some(Value::String(text)) => Value::String(text),
                    Some(value) => match value.as_integer() {
                        Some(n) => {
                            let mut blanks = Buffer::new(&meter)?;
                            blanks.push_repeated(" ", usize::try_from(n.max(0)).unwrap_or(usize::MAX))?;
                            meter.buffer_string(blanks)
                        }
                        None => return meter.error("`indent`: `width` must be a number or a text"),
                    },
                };
                let width = width.as_str().unwrap_or("");
                let first = given.truth(1, "first", false);
                let blank = given.truth(2, "blank", false);
                let mut out = Buffer::new(&meter)?;
                for (at, line) in text.split('\n').enumerate() {
                    if at > 0 {
                        out.push("\n")?;
                    }
                    if if at == 0 { first } else { blank || !line.is_empty() } {
                        out.push(width)?;
                    }
                    out.push(line)?;
                }
                meter.buffer_string(out)
            }
            "escape" | "e" | "forceescape" => {
                if name != "forceescape" && matches!(&value, Value::String(text) if text.is_safe) {
                    return Ok(value);
                }
                let mut out = Buffer::new(&meter)?;
                meter.write_escaped(&mut out, text)?;
                meter.safe_string(out)
            }
            "center" => meter.justify(text, "center", given)?,
            "format" => {
                let values: Vec<Value> = given.positional.drain(..).flatten().collect();
                let named: Vec<(Value, Value)> = given
                    .named
                    .iter_mut()
                    .filter_map(|(name, value)| Some((name.clone(), value.take()?)))
                    .map(|(name, value)| Ok((meter.string(name)?, value)))
                    .collect::<Result<_>>()?;
                let values =
                    if named.is_empty() { meter.sequence(SequenceKind::Tuple, values)? } else { meter.dict(named)? };
                meter.percent(text, &values)?
            }
            "wordcount" => {
                let is_inside = |c: char| c == '_' || c.is_alphanumeric();
                Value::Integer(text.split(|c| !is_inside(c)).filter(|word| !word.is_empty()).count() as i128)
            }
            _ => return meter.error(format!("there is no filter `{name}`")),
        })
    }

    fn json_text(&self, value: &Value, given: &mut Given<'_>) -> Result<Value> {
        let ensure_ascii = given.take_named("ensure_ascii").is_some_and(|value| value.is_true());
        let indent = match given.take(0, "indent") {
            None | Some(Value::None) => None,
            Some(Value::String(text)) => Some(text.text.clone()),
            Some(value) => match value.as_integer() {
                Some(n @ ..=64) => Some(" ".repeat(usize::try_from(n).unwrap_or(0))),
                _ => return self.meter.error("`tojson`: `indent` must be a text or a number up to 64"),
            },
        };
        let mut separators = [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()];
        match given.take_named("separators") {
            None | Some(Value::None) => {}
            Some(value) => match &value {
                Value::Sequence(pair) if pair.items.len() == 2 => {
                    for (separator, item) in separators.iter_mut().zip(&pair.items) {
                        match item.as_str() {
                            Some(text) => *separator = text.to_owned(),
                            None => return self.meter.error("`tojson`: `separators` must be two texts"),
                        }
                    }
                }
                _ => return self.meter.error("`tojson`: `separators` must be two texts"),
            },
        }
        let sort_keys = given.take_named("sort_keys").is_some_and(|value| value.is_true());
        let [item_separator, key_separator] = separators;
        let layout = Layout { indent, item_separator, key_separator, sort_keys, ensure_ascii };
        let mut out = Buffer::new(&self.meter)?;
        self.meter.write_json(&mut out, value, &layout, 0)?;
        Ok(self.meter.buffer_string(out))
    }

    fn number_filter(&mut self, name: &str, value: &Value, given: &mut Given<'_>) -> Result<Value> {
        let meter = &self.meter;
        Ok(match name {
            "abs" => match value {
                Value::Float(value) => Value::Float(value.abs()),
                _ => match value.as_integer().and_then(i128::checked_abs) {
                    Some(value) => Value::Integer(value),
                    None => return meter.error(format!("`abs` takes a number, not {}", value.type_name())),
                },
            },
            "int" => {
                let default = given.take(0, "default").unwrap_or(Value::Integer(0));
                let base = given.integer(meter, 1, "base")?.and_then(|base| u32::try_from(base).ok()).unwrap_or(10);
                if !(2..=36).contains(&base) {
                    return meter.error(format!("`int`: the base {base} is not between 2 and 36"));
                }
                let parsed = match value {
                    Value::String(text) => {
                        let text = text.text.trim();
                        i128::from_str_radix(text, base).ok().or_else(|| integer_of(text.parse().ok()?))
                    }
                    Value::Float(value) => integer_of(*value),
                    _ => value.as_integer(),
                };
                parsed.map_or(default, Value::Integer)
            }
            "float" => {
                let default = given.take(0, "default").unwrap_or(Value::Float(0.0));
                let parsed = match value {
                    Value::String(text) => text.text.trim().parse().ok(),
                    _ => value.as_float(),
                };
                parsed.map_or(default, Value::Float)
            }
            _ => {
                let precision = given.integer(meter, 0, "precision")?.unwrap_or(0);
                let method = given.take(1, "method");
                let Some(number) = value.as_float() else {
                    return meter.error(format!("`round` takes a number, not {}", value.type_name()));
                };
                let precision = i32::try_from(precision.clamp(-300, 300)).unwrap_or(0);
                let scale = 10f64.powi(precision);
                let rounded = match method.as_ref().and_then(Value::as_str).unwrap_or("common") {
                    // Rounds the decimal digits, so that halves are those of the number as it is stored.
                    "common" if precision >= 0 => format!("{number:.*}", precision as usize).parse().unwrap_or(number),
                    "common" => (number * scale).round_ties_even() / scale,
                    "ceil" => (number * scale).ceil() / scale,
                    "floor" => (number * scale).floor() / scale,
                    other => return meter.error(format!("`round`: {other:?} is not common, ceil or floor")),
                };
                match value {
                    Value::Integer(_) | Value::Bool(_) if precision >= 0 => {
                        Value::Integer(value.as_integer().unwrap_or(0))
                    }
                    Value::Integer(_) | Value::Bool(_) => {
                        integer_of(rounded).map_or(Value::Float(rounded), Value::Integer)
                    }
                    _ => Value::Float(rounded),
                }
            }
        })
    }

    fn dict_filter(&mut self, name: &str, value: &Value, given: &mut Given<'_>) -> Result<Value> {
        let meter = self.meter.clone();
        let dict = match value {
            Value::Dict(dict) => dict,
            Value::Undefined(_) if name == "items" => return meter.sequence(SequenceKind::Generator, Vec::new()),
            _ => return meter.error(format!("`{name}` takes a dict, not a value of type {}", value.type_name())),
        };
        if name == "items" {
            return meter.dict_items(dict, SequenceKind::Generator);
        }
        let case_sensitive = given.truth(0, "case_sensitive", false);
        let by = given.take(1, "by");
        let reverse = given.truth(2, "reverse", false);
        let by_value = match by.as_ref().map_or(Some("key"), Value::as_str) {
            Some("key") => false,
            Some("value") => true,
            _ => return meter.error("`dictsort`: `by` must be \"key\" or \"value\""),
        };
        let mut keyed = Vec::with_capacity(dict.entries.len());
        for (key, value) in &dict.entries {
            let pair = meter.sequence(SequenceKind::Tuple, vec![key.clone(), value.clone()])?;
            keyed.push((self.fold_case(if by_value { value } else { key }, case_sensitive)?, pair));
        }
        let sorted = meter.sort(keyed, reverse)?;
        meter.list(sorted)
    }
}

/// The whole part of a float, if it has one.
fn integer_of(value: f64) -> Option<i128> {
    (value.is_finite() && value.abs() < 1e38).then_some(value as i128)
}
