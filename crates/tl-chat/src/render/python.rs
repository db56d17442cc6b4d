//! Python's operations on values of any type: comparison, order, texts of values, indices and slices.

use std::cmp::Ordering;
use std::rc::Rc;

use super::meter::{Buffer, Meter};
use super::value::{Sequence, SequenceKind, Value, numbers_equal};
use crate::error::Result;

impl Meter {
    /// `a == b`
    pub(super) fn equal(&self, a: &Value, b: &Value) -> Result<bool> {
        self.step(1)?;
        Ok(match (a, b) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::String(a), Value::String(b)) => {
                self.scan(a.text.len().min(b.text.len()))?;
                a.text == b.text
            }
            (Value::Sequence(a), Value::Sequence(b)) => {
                if a.kind != b.kind || a.items.len() != b.items.len() {
                    return Ok(false);
                }
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Value::Dict(a), Value::Dict(b)) => {
                if a.entries.len() != b.entries.len() {
                    return Ok(false);
                }
                for (key, value) in &a.entries {
                    match self.entry(b, key)? {
                        Some(other) if self.equal(value, &other)? => {}
                        _ => return Ok(false),
                    }
                }
                true
            }
            (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
            (Value::Macro(a), Value::Macro(b)) => Rc::ptr_eq(a, b),
            (Value::Function(a), Value::Function(b)) => a == b,
            _ => numbers_equal(a, b),
        })
    }

    /// The order of two values, if they have one.
    pub(super) fn compare(&self, a: &Value, b: &Value) -> Result<Ordering> {
        self.step(1)?;
        match (a, b) {
            (Value::String(a), Value::String(b)) => {
                self.scan(a.text.len().min(b.text.len()))?;
                Ok(a.text.cmp(&b.text))
            }
            (Value::Sequence(a), Value::Sequence(b)) if a.kind == b.kind => {
                for (a, b) in a.items.iter().zip(&b.items) {
                    if !self.equal(a, b)? {
                        return self.compare(a, b);
                    }
                }
                Ok(a.items.len().cmp(&b.items.len()))
            }
            _ => match (a.as_integer(), b.as_integer()) {
                (Some(a), Some(b)) => Ok(a.cmp(&b)),
                _ => match (a.as_float(), b.as_float()) {
                    // NaN has no order. It counts as equal to everything, so that a sort ends.
                    (Some(a), Some(b)) => Ok(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
                    _ => self.error(format!("values of types {} and {} have no order", a.type_name(), b.type_name())),
                },
            },
        }
    }

    /// `needle in haystack`
    pub(super) fn contains(&self, haystack: &Value, needle: &Value) -> Result<bool> {
        match haystack {
            Value::String(text) => match needle.as_str() {
                Some(needle) => {
                    self.scan(text.text.len())?;
                    Ok(text.text.contains(needle))
                }
                None => self.error(format!("a text can contain texts, not a value of type {}", needle.type_name())),
            },
            Value::Sequence(sequence) => {
                for item in &sequence.items {
                    if self.equal(item, needle)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Value::Dict(dict) => Ok(self.position(&dict.entries, needle)?.is_some()),
            Value::Undefined(_) => Ok(false),
            _ => self.error(format!("a value of type {} contains nothing", haystack.type_name())),
        }
    }

    /// The number of items, or of characters.
    pub(super) fn length(&self, value: &Value) -> Result<Option<usize>> {
        Ok(match value {
            Value::String(text) => {
                self.scan(text.text.len())?;
                Some(text.text.chars().count())
            }
            Value::Sequence(sequence) if sequence.kind != SequenceKind::Generator => Some(sequence.items.len()),
            Value::Dict(dict) => Some(dict.entries.len()),
            Value::Undefined(_) => Some(0),
            Value::Loop(state) => Some(state.items.items.len()),
            _ => None,
        })
    }

    /// The value as a text: `str(value)`.
    pub(super) fn text_of(&self, value: &Value) -> Result<Value> {
        if matches!(value, Value::String(_)) {
            return Ok(value.clone());
        }
        let mut buffer = Buffer::new(self)?;
        self.write(&mut buffer, value)?;
        Ok(self.buffer_string(buffer))
    }

    /// Writes `str(value)`.
    pub(super) fn write(&self, out: &mut Buffer, value: &Value) -> Result<()> {
        match value {
            Value::String(text) => out.push(&text.text),
            Value::Undefined(_) => Ok(()),
            _ => self.write_repr(out, value),
        }
    }

    /// Writes `repr(value)`.
    pub(super) fn write_repr(&self, out: &mut Buffer, value: &Value) -> Result<()> {
        self.step(1)?;
        match value {
            Value::Undefined(_) => out.push("Undefined"),
            Value::None => out.push("None"),
            Value::Bool(true) => out.push("True"),
            Value::Bool(false) => out.push("False"),
            Value::Integer(value) => out.push(&value.to_string()),
            Value::Float(value) => out.push(&float_text(*value)),
            Value::String(text) => self.write_quoted(out, &text.text),
            Value::Sequence(sequence) => {
                let (open, close) = match sequence.kind {
                    SequenceKind::List => ("[", "]"),
                    SequenceKind::Tuple => ("(", ")"),
                    SequenceKind::View => ("dict_view([", "])"),
                    SequenceKind::Range => return out.push(&range_text(&sequence.items)),
                    SequenceKind::Generator => return out.push("<generator object>"),
                };
                out.push(open)?;
                for (at, item) in sequence.items.iter().enumerate() {
                    if at > 0 {
                        out.push(", ")?;
                    }
                    self.write_repr(out, item)?;
                }
                if sequence.kind == SequenceKind::Tuple && sequence.items.len() == 1 {
                    out.push(",")?;
                }
                out.push(close)
            }
            Value::Dict(dict) => {
                out.push("{")?;
                for (at, (key, value)) in dict.entries.iter().enumerate() {
                    if at > 0 {
                        out.push(", ")?;
                    }
                    self.write_repr(out, key)?;
                    out.push(": ")?;
                    self.write_repr(out, value)?;
                }
                out.push("}")
            }
            Value::Namespace(_) | Value::Loop(_) | Value::Macro(_) | Value::Function(_) | Value::Method(_) => {
                out.push(&format!("<{}>", value.type_name()))
            }
        }
    }

    /// Writes a text as Python's `repr` does.
    fn write_quoted(&self, out: &mut Buffer, text: &str) -> Result<()> {
        let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
        out.push_char(quote)?;
        for character in text.chars() {
            match character {
                '\n' => out.push("\\n")?,
                '\r' => out.push("\\r")?,
                '\t' => out.push("\\t")?,
                '\\' => out.push("\\\\")?,
                _ if character == quote => {
                    out.push("\\")?;
                    out.push_char(character)?;
                }
                '\0'..='\x1f' | '\x7f'..='\u{a0}' | '\u{ad}' => out.push(&format!("\\x{:02x}", character as u32))?,
                _ => out.push_char(character)?,
            }
        }
        out.push_char(quote)
    }

    /// `value[start:stop:step]`
    pub(super) fn slice(&self, value: &Value, bounds: [Option<i128>; 3]) -> Result<Value> {
        let step = bounds[2].unwrap_or(1);
        if step == 0 {
            return self.error("the step of a slice is 0");
        }
        let has_slices = match value {
            Value::String(_) => true,
            Value::Sequence(sequence) => !matches!(sequence.kind, SequenceKind::View | SequenceKind::Generator),
            _ => false,
        };
        let Some(len) = self.length(value)?.filter(|_| has_slices) else {
            return self.error(format!("a value of type {} has no slices", value.type_name()));
        };
        let indices = slice_indices(len, bounds[0], bounds[1], step);
        self.step(indices.len())?;
        match value {
            Value::String(text) => {
                let mut buffer = Buffer::new(self)?;
                if step == 1 {
                    let mut offsets = text.text.char_indices().map(|(at, _)| at).chain([text.text.len()]);
                    if let Some(first) = indices.first()
                        && let Some(begin) = offsets.nth(*first)
                    {
                        let end = offsets.nth(indices.len() - 1).unwrap_or(text.text.len());
                        buffer.push(&text.text[begin..end])?;
                    }
                } else {
                    let _charge = self.claim(len * size_of::<char>())?;
                    let characters: Vec<char> = text.text.chars().collect();
                    for at in indices {
                        buffer.push_char(characters[at])?;
                    }
                }
                Ok(self.buffer_string(buffer))
            }
            Value::Sequence(sequence) => {
                let _claim = self.claim(indices.len() * size_of::<Value>())?;
                self.sequence(sequence.kind, indices.into_iter().map(|at| sequence.items[at].clone()).collect())
            }
            _ => self.error(format!("a value of type {} has no slices", value.type_name())),
        }
    }

    /// The items that `for` walks, shared if they are in a sequence already.
    pub(super) fn iterate(&self, value: &Value) -> Result<Rc<Sequence>> {
        if let Value::Sequence(sequence) = value
            && !(sequence.kind == SequenceKind::Generator && sequence.is_spent.replace(true))
        {
            return Ok(sequence.clone());
        }
        match self.list(self.items(value)?)? {
            Value::Sequence(sequence) => Ok(sequence),
            _ => self.error("a list is no sequence"),
        }
    }

    /// The items that `for` walks: of a text its characters, of a dict its keys.
    pub(super) fn items(&self, value: &Value) -> Result<Vec<Value>> {
        match value {
            Value::Sequence(sequence) => {
                if sequence.kind == SequenceKind::Generator && sequence.is_spent.replace(true) {
                    return Ok(Vec::new());
                }
                let _claim = self.claim(sequence.items.len() * size_of::<Value>())?;
                Ok(sequence.items.clone())
            }
            Value::Dict(dict) => {
                let _claim = self.claim(dict.entries.len() * size_of::<Value>())?;
                Ok(dict.entries.iter().map(|(key, _)| key.clone()).collect())
            }
            Value::String(text) => {
                let _claim = self.claim(text.text.len().saturating_mul(size_of::<Value>()))?;
                text.text.chars().map(|character| self.string(character)).collect()
            }
            Value::Undefined(_) => Ok(Vec::new()),
            _ => self.error(format!("a value of type {} has no items to go through", value.type_name())),
        }
    }

    /// Sorts by `keys`, stably; the values come back in order.
    pub(super) fn sort(&self, mut items: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<Value>> {
        let _claim = self.claim(items.len() * size_of::<(Value, Value)>())?;
        // Merging runs of 1, 2, 4, …: unlike the standard library's sort it may fail in a comparison.
        let mut width = 1;
        while width < items.len() {
            let mut merged = Vec::with_capacity(items.len());
            for run in items.chunks(width * 2) {
                let (mut left, mut right) = run.split_at(width.min(run.len()));
                while let ([a, ..], [b, ..]) = (left, right) {
                    let order = self.compare(&a.0, &b.0)?;
                    let right_first = if reverse { order == Ordering::Less } else { order == Ordering::Greater };
                    let from = if right_first { &mut right } else { &mut left };
                    merged.push(from[0].clone());
                    *from = &from[1..];
                }
                merged.extend_from_slice(left);
                merged.extend_from_slice(right);
            }
            items = merged;
            width *= 2;
        }
        Ok(items.into_iter().map(|(_, value)| value).collect())
    }
}

/// The indices of a slice of `len` items, in order.
fn slice_indices(len: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> Vec<usize> {
    let len = len as i128;
    let clamp = |bound: i128, low: i128, high: i128| {
        let bound = if bound < 0 { bound.saturating_add(len) } else { bound };
        bound.clamp(low, high)
    };
    let (start, stop) = if step > 0 {
        (start.map_or(0, |bound| clamp(bound, 0, len)), stop.map_or(len, |bound| clamp(bound, 0, len)))
    } else {
        (start.map_or(len - 1, |bound| clamp(bound, -1, len - 1)), stop.map_or(-1, |bound| clamp(bound, -1, len - 1)))
    };
    let mut indices = Vec::new();
    let mut at = start;
    while if step > 0 { at < stop } else { at > stop } {
        indices.push(at as usize);
        at = at.saturating_add(step);
    }
    indices
}

fn range_text(items: &[Value]) -> String {
    let bound = |item: Option<&Value>| item.and_then(Value::as_integer).unwrap_or(0);
    let (first, last) = (bound(items.first()), bound(items.last()));
    let step = if items.len() > 1 { bound(items.get(1)) - first } else { 1 };
    let stop = if items.is_empty() { 0 } else { last + step };
    if step == 1 { format!("range({first}, {stop})") } else { format!("range({first}, {stop}, {step})") }
}

/// A float as Python writes it: the shortest digits that read back as the same number, an exponent from 1e16 on.
pub(super) fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e16).contains(&magnitude) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    let text = value.to_string();
    if text.contains('.') { text } else { text + ".0" }
}
