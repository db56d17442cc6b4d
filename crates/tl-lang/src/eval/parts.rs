//! Assignments to parts of values. The variable's value is moved out, changed in place, and put back: what no other value
//! shares is not copied.

use std::sync::Arc;

use smallvec::SmallVec;
use tl_syntax::Span;

use crate::eval::error::{Evaluated, error_at, missing_value, raise};
use crate::eval::evaluator::Evaluator;
use crate::eval::make::shown;
use crate::ints::Ints;
use crate::ir::{PartRoot, PartStep, SetPart};
use crate::library::BuiltinError;
use crate::value::{Key, KeyRef, List, Value};

/// A step with its index evaluated.
enum Step<'p> {
    Field(&'p str, Span),
    Index(Value, Span),
}

impl Evaluator<'_> {
    #[inline(never)]
    pub(super) fn set_part(&mut self, part: &SetPart) -> Evaluated<()> {
        let mut steps: SmallVec<[Step<'_>; 2]> = SmallVec::new();
        for step in &part.steps {
            steps.push(match step {
                PartStep::Field(name) => Step::Field(name, part.span),
                PartStep::Index(at) => Step::Index(self.expr(at)?, at.span),
            });
        }
        let value = self.expr(&part.value)?;
        let mut root = std::mem::take(self.root(&part.root, part.span)?);
        let result = self.change(&mut root, &steps, part, value);
        *self.root(&part.root, part.span)? = root;
        result
    }

    /// The place of the variable's value.
    fn root(&mut self, root: &PartRoot, span: Span) -> Evaluated<&mut Value> {
        match root {
            PartRoot::Local { slot, name } => match self.slot(*slot) {
                place @ Value::Recycled(_) => Err(missing_value(place, name, span)),
                place => Ok(place),
            },
            PartRoot::Global { index } => {
                let at = *index as usize;
                if at >= self.globals.len() {
                    return Err(error_at(span, "this variable does not exist"));
                }
                match &mut self.globals[at] {
                    place @ Value::Recycled(_) => {
                        let name = self.program.globals.get(at).map_or("?", |name| name);
                        Err(missing_value(place, name, span))
                    }
                    place => Ok(place),
                }
            }
        }
    }

    /// Changes the part of `root` that the steps lead to.
    fn change(&mut self, root: &mut Value, steps: &[Step<'_>], part: &SetPart, value: Value) -> Evaluated<()> {
        let span = part.span;
        if matches!(root, Value::Absent) {
            return Err(error_at(span, "this variable has no value here"));
        }
        let Some((last, before)) = steps.split_last() else { return Ok(()) };
        let mut container = root;
        for step in before {
            self.check_copy(container, span)?;
            container = inner(container, step)?;
        }
        self.check_copy(container, span)?;
        let value = match part.operator {
            Some(operator) => {
                let old = take(container, last)?;
                self.binary(operator, old, value, span)?
            }
            None => value,
        };
        store(container, last, value)
    }

    /// An error if the heap has no room for the copy that changing a shared value takes.
    fn check_copy(&self, value: &Value, span: Span) -> Evaluated<()> {
        let (shared, len) = match value {
            Value::List(values) => (Arc::strong_count(values) > 1, values.len()),
            Value::Ints(Ints::Shared(values)) => (Arc::strong_count(values) > 1, values.len()),
            Value::Map(map) => (Arc::strong_count(map) > 1, 2 * map.len()),
            _ => return Ok(()),
        };
        if shared { self.check_room(Value::list_bytes(len), span, || "a copy of a list".to_owned()) } else { Ok(()) }
    }
}

/// The part of a value that a step leads to, for changes further down.
fn inner<'v>(value: &'v mut Value, step: &Step<'_>) -> Evaluated<&'v mut Value> {
    match (value, step) {
        (Value::Struct(value), Step::Field(name, span)) => {
            let missing = || error_at(*span, format!("this struct has no field `{name}`"));
            let at = value.ty.field_index(name).ok_or_else(missing)?;
            Arc::make_mut(value).values.get_mut(at).ok_or_else(missing)
        }
        (Value::List(values), Step::Index(at, span)) => {
            let at = position(at, values.len(), *span)?;
            let place = Arc::make_mut(values).get_mut(at);
            place.ok_or_else(|| error_at(*span, "this element does not exist"))
        }
        (Value::Map(map), Step::Index(at, span)) => {
            let place = KeyRef::of(at).and_then(|key| Arc::make_mut(map).get_mut(&key));
            match place {
                Some(place) => Ok(place),
                None => Err(missing_key(&key(at, *span)?, *span)),
            }
        }
        (other, step) => Err(no_part(other, step)),
    }
}

/// The old value of a part. What grows in place is moved out, the rest copied: it stays if the operator fails.
fn take(container: &mut Value, step: &Step<'_>) -> Evaluated<Value> {
    match (container, step) {
        (Value::Ints(ints), Step::Index(at, span)) => {
            let at = position(at, ints.len(), *span)?;
            Ok(ints.as_slice().get(at).map_or(Value::Absent, |n| Value::Int(*n)))
        }
        (container, step) => match inner(container, step)? {
            place @ (Value::Str(_) | Value::List(_) | Value::Ints(_)) => Ok(std::mem::take(place)),
            value => Ok(value.clone()),
        },
    }
}

/// Puts a new value in the place of a part. A map gets a new entry for a key that it lacks.
fn store(container: &mut Value, step: &Step<'_>, value: Value) -> Evaluated<()> {
    match (&mut *container, step) {
        (Value::Ints(ints), Step::Index(at, span)) => {
            let at = position(at, ints.len(), *span)?;
            match value {
                Value::Int(n) => ints.set(at, n),
                value => {
                    let mut values: Vec<Value> = ints.as_slice().iter().map(|n| Value::Int(*n)).collect();
                    if let Some(place) = values.get_mut(at) {
                        *place = value;
                    }
                    *container = Value::List(List::new(values));
                }
            }
        }
        (Value::Map(map), Step::Index(at, span)) => {
            let map = Arc::make_mut(map);
            match KeyRef::of(at).and_then(|key| map.get_mut(&key)) {
                Some(place) => *place = value,
                None => drop(map.insert(key(at, *span)?, value)),
            }
        }
        _ => *inner(container, step)? = value,
    }
    Ok(())
}

/// The position that an index means in a list of `len`.
fn position(at: &Value, len: usize, span: Span) -> Evaluated<usize> {
    let Value::Int(index) = at else {
        return Err(error_at(span, format!("a list's index must be an int, and this is {}", at.describe())));
    };
    let place = if *index < 0 { index.saturating_add(len as i64) } else { *index };
    match usize::try_from(place) {
        Ok(place) if place < len => Ok(place),
        _ => Err(error_at(span, format!("index {index} is out of range for a list of {len}"))),
    }
}

fn key(at: &Value, span: Span) -> Evaluated<Key> {
    let message = || format!("a map's key must be a string or an int, and this is {}", at.describe());
    Key::of(at).ok_or_else(|| error_at(span, message()))
}

#[cold]
fn missing_key(key: &Key, span: Span) -> crate::eval::error::ControlFlow {
    raise(BuiltinError::new(format!("the map has no key {}", shown(key))), span)
}

#[cold]
fn no_part(value: &Value, step: &Step<'_>) -> crate::eval::error::ControlFlow {
    match step {
        Step::Field(name, span) => error_at(*span, format!("{} has no field `{name}` to assign to", value.describe())),
        Step::Index(_, span) => error_at(*span, format!("the elements of {} cannot be assigned to", value.describe())),
    }
}
