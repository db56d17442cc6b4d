//! Values made of parts: structs, maps, strings.

use std::fmt::Write;

use smallvec::SmallVec;
use tl_syntax::Span;
use tl_syntax::ast::{Align, Format};

use crate::declared::show_declared;
use crate::display::write_value;
use crate::eval::binding::{Sizes, coerce};
use crate::eval::error::{Evaluated, error_at, raise};
use crate::eval::evaluator::Evaluator;
use crate::ir::{Expr, FormatPiece, Maker, StructFields};
use crate::library::{self, BuiltinError};
use crate::value::{Key, Map, Shared, StructValue, Value};

impl Evaluator<'_> {
    #[inline(never)]
    pub(super) fn make(&mut self, maker: &Maker, parts: &[Expr], span: Span) -> Evaluated<Value> {
        self.check_heap(span)?;
        let first = self.stack.len();
        for part in parts {
            self.push(part)?;
        }
        let made = match maker {
            Maker::Struct(fields) => self.make_struct(fields, first, parts),
            Maker::Map => self.make_map(first, parts, span),
            Maker::Format(pieces) => self.format(pieces, first, span),
        };
        self.stack.truncate(first);
        made
    }

    fn make_struct(&mut self, fields: &StructFields, first: usize, parts: &[Expr]) -> Evaluated<Value> {
        let mut sizes: Sizes = SmallVec::from_elem(None, fields.sizes.len());
        let device = self.device;
        for (at, value) in self.stack.iter_mut().skip(first).enumerate() {
            let (Some(ty), Some(part)) = (fields.types.get(at), parts.get(at)) else { continue };
            if let Err(reason) = coerce(device, value, ty, &mut sizes) {
                let name = fields.ty.fields.get(at).map_or("", |name| name);
                let (wanted, given) = (show_declared(ty, &fields.sizes), value.describe());
                let reason = reason.in_brackets(&fields.sizes);
                let message = format!("`{}`: `{name}` is {wanted}, and is given {given}{reason}", fields.ty.name);
                return Err(error_at(part.span, message));
            }
        }
        let values = self.stack.drain(first..).collect();
        Ok(Value::Struct(Shared::new(StructValue { ty: fields.ty.clone(), values })))
    }

    fn make_map(&mut self, first: usize, parts: &[Expr], span: Span) -> Evaluated<Value> {
        let mut map = Map::with_capacity(parts.len() / 2);
        let mut values = self.stack.drain(first..);
        let mut at = 0;
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            let place = parts.get(at).map_or(span, |part| part.span);
            let key = Key::of(&key).ok_or_else(|| wrong_key(&key, place))?;
            if map.contains_key(&key) {
                return Err(error_at(place, format!("the key {} stands here twice", shown(&key))));
            }
            map.insert(key, value);
            at += 2;
        }
        Ok(Value::Map(Shared::new(map)))
    }

    fn format(&mut self, pieces: &[FormatPiece], first: usize, span: Span) -> Evaluated<Value> {
        let mut text = String::new();
        let mut values = self.stack.iter().skip(first);
        for piece in pieces {
            match piece {
                FormatPiece::Text(piece) => text.push_str(piece),
                FormatPiece::Value(format) => {
                    let value = values.next().unwrap_or(&Value::Unit);
                    write_formatted(&mut text, value, *format).map_err(|error| raise(error, span))?;
                }
            }
        }
        let room = self.device.check_heap(text.len(), || "a string".to_owned());
        room.map_err(|error| raise(BuiltinError::from(error), span))?;
        Ok(Value::text(text))
    }
}

fn wrong_key(key: &Value, span: Span) -> crate::eval::error::ControlFlow {
    error_at(span, format!("a map's key must be a string or an int, and this is {}", key.describe()))
}

/// A key as messages show it.
pub(super) fn shown(key: &Key) -> String {
    match key {
        Key::Int(n) => n.to_string(),
        Key::Str(text) => format!("{text:?}"),
    }
}

fn write_formatted(text: &mut String, value: &Value, format: Format) -> Result<(), BuiltinError> {
    if format == Format::default() {
        return write_value(text, value, false);
    }
    let mut piece = String::new();
    match format.precision {
        Some(digits) => {
            let item = match value {
                Value::Tensor(tensor) => library::item(tensor)?,
                value => value.clone(),
            };
            let Some(number) = item.number() else {
                return Err(BuiltinError::new(format!("decimals are for numbers, and this is {}", value.describe())));
            };
            // Writing to a string cannot fail.
            let _ = write!(piece, "{:.*}", usize::from(digits), number.to_f64());
        }
        None => write_value(&mut piece, value, false)?,
    }
    let blanks = usize::from(format.width).saturating_sub(piece.chars().count());
    let is_number = matches!(value, Value::Int(_) | Value::Float(_) | Value::Tensor(_));
    let before = match format.align.unwrap_or(if is_number { Align::Right } else { Align::Left }) {
        Align::Left => 0,
        Align::Right => blanks,
        Align::Middle => blanks / 2,
    };
    text.extend(std::iter::repeat_n(' ', before));
    text.push_str(&piece);
    text.extend(std::iter::repeat_n(' ', blanks - before));
    Ok(())
}
