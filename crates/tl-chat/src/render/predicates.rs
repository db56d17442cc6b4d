//! Tests: `value is name(…)`.

use super::arguments::Given;
use super::meter::Meter;
use super::value::{SequenceKind, Value};
use crate::error::Result;

impl Meter {
    pub(super) fn test(&self, name: &str, value: &Value, mut given: Given<'_>) -> Result<bool> {
        self.step(1)?;
        let sequence_kind = match value {
            Value::Sequence(sequence) => Some(sequence.kind),
            _ => None,
        };
        let result = match name {
            "defined" => !matches!(value, Value::Undefined(_)),
            "undefined" => matches!(value, Value::Undefined(_)),
            "none" => matches!(value, Value::None),
            "string" => matches!(value, Value::String(_)),
            "mapping" => matches!(value, Value::Dict(_)),
            "boolean" => matches!(value, Value::Bool(_)),
            "integer" => matches!(value, Value::Integer(_)),
            "float" => matches!(value, Value::Float(_)),
            "number" => matches!(value, Value::Bool(_) | Value::Integer(_) | Value::Float(_)),
            "true" => matches!(value, Value::Bool(true)),
            "false" => matches!(value, Value::Bool(false)),
            // Python checks for a length and indices, which texts, dicts and undefined values have too.
            "sequence" => {
                matches!(value, Value::String(_) | Value::Dict(_) | Value::Undefined(_))
                    || matches!(sequence_kind, Some(SequenceKind::List | SequenceKind::Tuple | SequenceKind::Range))
            }
            "iterable" => {
                sequence_kind.is_some()
                    || matches!(value, Value::String(_) | Value::Dict(_) | Value::Undefined(_) | Value::Loop(_))
            }
            "callable" => {
                matches!(value, Value::Macro(_) | Value::Function(_) | Value::Method(_) | Value::Undefined(_))
            }
            "escaped" => false,
            "odd" | "even" | "divisibleby" => {
                let divisor = match name {
                    "divisibleby" => given.integer(self, 0, "num")?.unwrap_or(0),
                    _ => 2,
                };
                let remainder = match value {
                    Value::Float(value) if divisor != 0 => Some(value.rem_euclid(divisor as f64)),
                    _ => value.as_integer().and_then(|value| value.checked_rem_euclid(divisor)).map(|rest| rest as f64),
                };
                match (name, remainder) {
                    ("odd", Some(remainder)) => remainder == 1.0,
                    (_, Some(remainder)) => remainder == 0.0,
                    (_, None) => return self.error(format!("`{name}` takes a number, and divides by no 0")),
                }
            }
            "lower" | "upper" => {
                let text = self.text_of(value)?;
                let text = text.as_str().unwrap_or("");
                let changed = self.change_case(text, name)?;
                text.chars().any(|c| c.is_lowercase() || c.is_uppercase()) && changed.as_str() == Some(text)
            }
            "filter" | "test" => return self.error(format!("the test `{name}` is not part of chat templates here")),
            "eq" | "equalto" | "==" => self.equal(value, &given.require(self, 0, "other")?)?,
            "ne" | "!=" => !self.equal(value, &given.require(self, 0, "other")?)?,
            "sameas" => {
                let other = given.require(self, 0, "other")?;
                value.type_name() == other.type_name() && self.equal(value, &other)?
            }
            "in" => {
                let other = given.require(self, 0, "seq")?;
                self.contains(&other, value)?
            }
            "lt" | "lessthan" | "<" => self.compare(value, &given.require(self, 0, "other")?)?.is_lt(),
            "le" | "<=" => self.compare(value, &given.require(self, 0, "other")?)?.is_le(),
            "gt" | "greaterthan" | ">" => self.compare(value, &given.require(self, 0, "other")?)?.is_gt(),
            "ge" | ">=" => self.compare(value, &given.require(self, 0, "other")?)?.is_ge(),
            _ => return self.error(format!("there is no test `{name}`")),
        };
        given.finish(self)?;
        Ok(result)
    }
}
