//! The operators `+ - * / // % **`, indices and attributes.

use super::meter::{Buffer, Meter};
use super::methods::has_method;
use super::value::{SequenceKind, Value};
use crate::error::Result;
use crate::syntax::ast::{NameId, Operator};

impl Meter {
    pub(super) fn operate(&self, operator: Operator, a: &Value, b: &Value) -> Result<Value> {
        self.step(1)?;
        match (operator, a, b) {
            (Operator::Add, ..) => self.add(a, b),
            (Operator::Multiply, Value::String(_) | Value::Sequence(_), _) => self.repeat(a, b),
            (Operator::Multiply, _, Value::String(_) | Value::Sequence(_)) => self.repeat(b, a),
            (Operator::Remainder, Value::String(format), _) => self.percent(&format.text, b),
            _ => self.calculate(operator, a, b),
        }
    }

    /// `a + b`
    pub(super) fn add(&self, a: &Value, b: &Value) -> Result<Value> {
        match (a, b) {
            (Value::String(first), Value::String(second)) => {
                let mut out = Buffer::new(self)?;
                if !first.is_safe && !second.is_safe {
                    out.push(&first.text)?;
                    out.push(&second.text)?;
                    return Ok(self.buffer_string(out));
                }
                for text in [first, second] {
                    if text.is_safe { out.push(&text.text)? } else { self.write_escaped(&mut out, &text.text)? }
                }
                Ok(self.safe_string(out))
            }
            (Value::Sequence(first), Value::Sequence(second))
                if first.kind == second.kind && matches!(first.kind, SequenceKind::List | SequenceKind::Tuple) =>
            {
                let n = first.items.len() + second.items.len();
                let _claim = self.claim(n * size_of::<Value>())?;
                let items = first.items.iter().chain(&second.items).cloned().collect();
                self.sequence(first.kind, items)
            }
            _ => self.calculate(Operator::Add, a, b),
        }
    }

    /// A text or a list, `n` times.
    fn repeat(&self, value: &Value, n: &Value) -> Result<Value> {
        let Some(n) = n.as_integer() else {
            return self.error(format!("{} × {} is not defined", value.type_name(), n.type_name()));
        };
        let n = usize::try_from(n.max(0)).unwrap_or(usize::MAX);
        match value {
            Value::String(text) => {
                let mut out = Buffer::new(self)?;
                if !text.text.is_empty() {
                    out.push_repeated(&text.text, n)?;
                }
                Ok(self.buffer_string(out))
            }
            Value::Sequence(sequence) if matches!(sequence.kind, SequenceKind::List | SequenceKind::Tuple) => {
                let len = sequence.items.len().saturating_mul(n);
                let _claim = self.claim(len.saturating_mul(size_of::<Value>()))?;
                let items = sequence.items.iter().cycle().take(len).cloned().collect();
                self.sequence(sequence.kind, items)
            }
            _ => self.error(format!("a value of type {} cannot be repeated", value.type_name())),
        }
    }

    fn calculate(&self, operator: Operator, a: &Value, b: &Value) -> Result<Value> {
        let symbol = match operator {
            Operator::Add => "+",
            Operator::Subtract => "-",
            Operator::Multiply => "*",
            Operator::Divide => "/",
            Operator::FloorDivide => "//",
            Operator::Remainder => "%",
            Operator::Power => "**",
        };
        let too_large = || self.error(format!("the result of `{symbol}` is too large"));
        let by_zero = || self.error("division by zero");
        if let (Some(a), Some(b)) = (a.as_integer(), b.as_integer()) {
            let result = match operator {
                Operator::Add => a.checked_add(b),
                Operator::Subtract => a.checked_sub(b),
                Operator::Multiply => a.checked_mul(b),
                Operator::Divide | Operator::FloorDivide | Operator::Remainder if b == 0 => return by_zero(),
                Operator::Divide => return Ok(Value::Float(a as f64 / b as f64)),
                // Python rounds down, and the remainder has the sign of the divisor.
                Operator::FloorDivide => a.checked_div_euclid(b).and_then(|quotient| {
                    if b < 0 && a.checked_rem_euclid(b)? != 0 { quotient.checked_sub(1) } else { Some(quotient) }
                }),
                Operator::Remainder => {
                    a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
                }
                Operator::Power => match u32::try_from(b) {
                    Ok(exponent) => a.checked_pow(exponent),
                    Err(_) if b < 0 && a == 0 => return by_zero(),
                    Err(_) if b < 0 => return Ok(Value::Float((a as f64).powf(b as f64))),
                    Err(_) => None,
                },
            };
            return result.map_or_else(too_large, |value| Ok(Value::Integer(value)));
        }
        let (Some(x), Some(y)) = (a.as_float(), b.as_float()) else {
            return self.error(format!("`{symbol}` between values of types {} and {}", a.type_name(), b.type_name()));
        };
        Ok(Value::Float(match operator {
            Operator::Add => x + y,
            Operator::Subtract => x - y,
            Operator::Multiply => x * y,
            Operator::Divide | Operator::FloorDivide | Operator::Remainder if y == 0.0 => return by_zero(),
            Operator::Power if x == 0.0 && y < 0.0 => return by_zero(),
            Operator::Divide => x / y,
            Operator::FloorDivide => (x / y).floor(),
            Operator::Remainder => x - y * (x / y).floor(),
            Operator::Power => x.powf(y),
        }))
    }

    /// `value[key]`; `None` if it is not there.
    pub(super) fn index(&self, value: &Value, key: &Value) -> Result<Option<Value>> {
        self.step(1)?;
        let at = |len: usize| {
            let index = key.as_integer()?;
            let index = if index < 0 { index.checked_add(len as i128)? } else { index };
            usize::try_from(index).ok().filter(|index| *index < len)
        };
        match value {
            Value::Dict(dict) => self.entry(dict, key),
            Value::Sequence(sequence) if !matches!(sequence.kind, SequenceKind::View | SequenceKind::Generator) => {
                Ok(at(sequence.items.len()).map(|at| sequence.items[at].clone()))
            }
            Value::String(text) if key.as_integer().is_some() => {
                self.scan(text.text.len())?;
                let found = at(text.text.chars().count()).and_then(|at| text.text.chars().nth(at));
                found.map(|character| self.string(character)).transpose()
            }
            _ => match key.as_str() {
                Some(name) => match self.attribute(value, name, 0)? {
                    Value::Undefined(_) => Ok(None),
                    found => Ok(Some(found)),
                },
                None => Ok(None),
            },
        }
    }

    /// `value.name`: an attribute or a method, else a dict's item under that key, else undefined.
    pub(super) fn attribute(&self, value: &Value, name: &str, id: NameId) -> Result<Value> {
        self.step(1)?;
        if has_method(value, name) {
            let _claim = self.claim(name.len())?;
            return Ok(Value::Method(std::rc::Rc::new((value.clone(), name.to_owned()))));
        }
        let found = match value {
            Value::Dict(dict) => self.entry_named(dict, name)?,
            Value::Namespace(namespace) => {
                namespace.attributes.borrow().iter().find(|(found, _)| found == name).map(|(_, value)| value.clone())
            }
            Value::Loop(state) => {
                let (index, len) = (state.index.get(), state.items.items.len());
                let integer = |value: usize| Some(Value::Integer(value as i128));
                match name {
                    "index" => integer(index + 1),
                    "index0" => integer(index),
                    "revindex" => integer(len - index),
                    "revindex0" => integer(len - index - 1),
                    "first" => Some(Value::Bool(index == 0)),
                    "last" => Some(Value::Bool(index + 1 == len)),
                    "length" => integer(len),
                    // Recursive loops are not part of this language.
                    "depth" => integer(1),
                    "depth0" => integer(0),
                    "previtem" => index.checked_sub(1).map(|at| state.items.items[at].clone()),
                    "nextitem" => state.items.items.get(index + 1).cloned(),
                    _ => None,
                }
            }
            _ => None,
        };
        Ok(found.unwrap_or(Value::Undefined(id)))
    }

    /// A dict's item under `name`, else the attribute.
    pub(super) fn item_or_attribute(&self, value: &Value, name: &str) -> Result<Value> {
        if let Value::Dict(dict) = value
            && let Some(found) = self.entry_named(dict, name)?
        {
            return Ok(found);
        }
        self.attribute(value, name, 0)
    }
}
