//! `x[…]` and `x.name` on running values.

use smallvec::SmallVec;
use tl_device::DType;
use tl_model::NodeRef;
use tl_syntax::{Code, Span};
use tl_tensor::Tensor;
use tl_tensor::ops::{Arg, apply, by_name};

use crate::arithmetic;
use crate::declared::Declared;
use crate::eval::error::{Evaluated, error_at, missing_value, raise};
use crate::eval::evaluator::Evaluator;
use crate::eval::make::shown as shown_key;
use crate::ir::{Argument, BOOL_INDEX, BOOL_INDEX_HINT, Expr, ExprKind, Index};
use crate::library::{self, BuiltinError};
use crate::pooled::Pooled;
use crate::text::Text;
use crate::value::{Handle, Key, KeyRef, Map, Number, Value};

/// An evaluated index of one axis.
enum EvaluatedIndex {
    At(i64),
    /// A map's key.
    Key(Text),
    /// Start and end; `None`: the end of the axis.
    Slice(i64, Option<i64>),
    /// Several positions, a tensor of `int32`.
    Several(Pooled<Tensor>),
}

/// The target of a path that begins with a variable.
pub(super) enum PathTarget<'a> {
    /// A node of a model.
    Node(NodeRef<'a>),
    /// A part that the model does not have.
    Missing,
    /// No node, or not known without evaluation.
    Elsewhere,
}

impl Evaluator<'_> {
    /// Follows a path without evaluating it.
    pub(super) fn follow_path(&self, path: &Expr) -> PathTarget<'_> {
        match &path.kind {
            ExprKind::Field { name, .. } if &**name == library::CONFIG => PathTarget::Elsewhere,
            ExprKind::Field { receiver, name, place } => match self.follow_path(receiver) {
                PathTarget::Node(node) => {
                    let mut found = place.get();
                    let child = node.child(name, &mut found);
                    place.set(found);
                    child.map_or(PathTarget::Missing, PathTarget::Node)
                }
                other => other,
            },
            _ => self.node_at(path).map_or(PathTarget::Elsewhere, PathTarget::Node),
        }
    }

    /// The model's node of a path such as `model.blk[i].attn_q`, found without evaluation; `None` if it is something else or
    /// missing.
    pub(super) fn node_at(&self, path: &Expr) -> Option<NodeRef<'_>> {
        match &path.kind {
            ExprKind::Local { slot, .. } => node_of(self.stack.get(self.frame + *slot as usize)?),
            ExprKind::Global { index, .. } => node_of(self.globals.get(*index as usize)?),
            ExprKind::Field { name, .. } if &**name == library::CONFIG => None,
            ExprKind::Field { receiver, name, place } => {
                let mut found = place.get();
                let child = self.node_at(receiver)?.child(name, &mut found);
                place.set(found);
                child
            }
            ExprKind::Index { receiver, indices, .. } => {
                let [Index::At(at)] = &**indices else { return None };
                let number = match &at.kind {
                    ExprKind::Constant(value) => match **value {
                        Value::Int(n) => n,
                        _ => return None,
                    },
                    ExprKind::Local { slot, .. } => match self.stack.get(self.frame + *slot as usize)? {
                        Value::Int(n) => *n,
                        _ => return None,
                    },
                    _ => return None,
                };
                self.node_at(receiver)?.index(usize::try_from(number).ok()?)
            }
            _ => None,
        }
    }

    /// A number computed from variables, fields and constants without the stack of values, as most sizes are. `None` for other
    /// expressions, and if the computation fails.
    pub(super) fn number_at(&self, expr: &Expr) -> Option<Number> {
        let local = |slot: u32| self.stack.get(self.frame + slot as usize);
        match &expr.kind {
            ExprKind::Constant(value) => value.number(),
            ExprKind::Local { slot, .. } => local(*slot)?.number(),
            ExprKind::Field { receiver, name, .. } => match receiver.kind {
                ExprKind::Local { slot, last: false, .. } => library::number_field(local(slot)?, name),
                _ => None,
            },
            ExprKind::Index { .. } => match self.list_position(expr)? {
                (Value::Ints(ints), at) => ints.as_slice().get(at).map(|n| Number::Int(*n)),
                (Value::List(values), at) => values.get(at)?.number(),
                _ => None,
            },
            ExprKind::Binary { operator, left, right } => match (self.number_at(left)?, self.number_at(right)?) {
                (Number::Int(a), Number::Int(b)) => arithmetic::int(*operator, a, b).ok().map(Number::Int),
                (a, b) => arithmetic::float(*operator, a.to_f64(), b.to_f64()).map(Number::Float),
            },
            ExprKind::Builtin { row, arguments } => match (row.of_number, &**arguments) {
                (Some(function), [Argument::One(x)]) => Some(Number::Float(function(self.number_at(x)?.to_f64()))),
                _ => None,
            },
            ExprKind::Convert { operand, to } if matches!(**to, Declared::Float) => {
                Some(Number::Float(self.number_at(operand)?.to_f64()))
            }
            _ => None,
        }
    }

    /// An element of a list in a variable, found without the stack of values; `None` for other expressions, and if there is no
    /// such element.
    pub(super) fn element_at(&self, expr: &Expr) -> Option<Value> {
        let (list, at) = self.list_position(expr)?;
        list.element(at)
    }

    /// The list and the position of an index into a variable.
    fn list_position(&self, expr: &Expr) -> Option<(&Value, usize)> {
        let ExprKind::Index { receiver, indices, in_place: true } = &expr.kind else { return None };
        let [Index::At(at)] = &**indices else { return None };
        let list = match receiver.kind {
            ExprKind::Local { slot, last: false, .. } => self.stack.get(self.frame + slot as usize)?,
            ExprKind::Global { index, .. } => self.globals.get(index as usize)?,
            _ => return None,
        };
        let Number::Int(at) = self.number_at(at)? else { return None };
        let len = list.list_len()?;
        let at = if at < 0 { at.checked_add(len as i64)? } else { at };
        Some((list, usize::try_from(at).ok()?))
    }

    /// The value of a path to a model's node.
    #[inline(never)]
    pub(super) fn node_value(&self, path: &Expr) -> Option<Value> {
        library::node_value(self.node_at(path)?).ok()
    }

    /// The value of `path?`; `none` if the model lacks a part of the path.
    pub(super) fn optional(&mut self, path: &Expr) -> Evaluated<Value> {
        match self.follow_path(path) {
            PathTarget::Node(node) => return library::node_value(node).map_err(|error| raise(error, path.span)),
            PathTarget::Missing => return Ok(Value::None),
            PathTarget::Elsewhere => {}
        }
        let mut names: SmallVec<[&str; 4]> = SmallVec::new();
        let mut base = path;
        while let ExprKind::Field { receiver, name, .. } = &base.kind {
            names.push(name);
            base = receiver;
        }
        let value = self.expr(base)?;
        let Some(mut node) = node_of(&value) else {
            let message = format!("`?` stands behind a part of a model only, and this is {}", value.describe());
            return Err(error_at(base.span, message));
        };
        for name in names.into_iter().rev() {
            match node.child(name, &mut Default::default()) {
                Some(child) => node = child,
                None => return Ok(Value::None),
            }
        }
        library::node_value(node).map_err(|error| raise(error, path.span))
    }

    /// The value of a path of fields. A variable at its base keeps its value.
    pub(super) fn path(&mut self, expr: &Expr) -> Evaluated<Value> {
        if let Some(value) = self.node_value(expr) {
            return Ok(value);
        }
        let ExprKind::Field { receiver, name, .. } = &expr.kind else { return self.expr(expr) };
        self.field(receiver, name, expr.span)
    }

    /// The value of a field.
    pub(super) fn field(&mut self, receiver: &Expr, name: &str, span: Span) -> Evaluated<Value> {
        let result = match &receiver.kind {
            ExprKind::Local { slot, name: variable, .. } => match self.slot(*slot) {
                place @ (Value::Absent | Value::Recycled(_)) => {
                    return Err(missing_value(place, variable, receiver.span));
                }
                value => library::field(value, name),
            },
            ExprKind::Global { index, .. } => library::field(self.global(*index, receiver.span)?, name),
            ExprKind::Field { .. } => library::field(&self.path(receiver)?, name),
            _ => library::field(&self.expr(receiver)?, name),
        };
        result.map_err(|error| raise(error, span))
    }

    #[inline(never)]
    pub(super) fn index(&mut self, receiver: &Expr, indices: &[Index], in_place: bool, span: Span) -> Evaluated<Value> {
        if !in_place {
            let receiver = self.expr(receiver)?;
            let at = self.evaluate_indices(indices)?;
            return self.at(&receiver, &at, span);
        }
        let at = self.evaluate_indices(indices)?;
        match &receiver.kind {
            ExprKind::Global { index, .. } => self.at(self.global(*index, receiver.span)?, &at, span),
            ExprKind::Local { slot, last: false, name } => match self.slot(*slot) {
                place @ (Value::Absent | Value::Recycled(_)) => Err(missing_value(place, name, receiver.span)),
                _ => self.at(self.stack.get(self.frame + *slot as usize).unwrap_or(&Value::Absent), &at, span),
            },
            _ => {
                let receiver = self.expr(receiver)?;
                self.at(&receiver, &at, span)
            }
        }
    }

    fn evaluate_indices(&mut self, indices: &[Index]) -> Evaluated<SmallVec<[EvaluatedIndex; 4]>> {
        indices
            .iter()
            .map(|index| match index {
                Index::At(at) => match self.expr(at)? {
                    Value::Int(n) => Ok(EvaluatedIndex::At(n)),
                    Value::Range(start, end) => Ok(EvaluatedIndex::Slice(start, Some(end))),
                    Value::Str(key) => Ok(EvaluatedIndex::Key(key)),
                    list @ (Value::Ints(_) | Value::List(_)) => {
                        let tensor = library::from_list(self.device, &list, DType::I32);
                        Ok(EvaluatedIndex::Several(Pooled::new(tensor.map_err(|error| raise(error, at.span))?)))
                    }
                    Value::Tensor(tensor) if tensor.dtype() == DType::I32 => Ok(EvaluatedIndex::Several(tensor)),
                    Value::Tensor(tensor) if tensor.dtype() == DType::Bool => {
                        Err(raise(BuiltinError::new(BOOL_INDEX).hint(BOOL_INDEX_HINT), at.span))
                    }
                    other => {
                        let given = other.describe();
                        let message = format!("an index must be an int, a range or several positions, not {given}");
                        Err(error_at(at.span, message))
                    }
                },
                Index::Slice { start, end } => {
                    let start = start.as_ref().map_or(Ok(0), |start| self.int(start))?;
                    let end = end.as_ref().map(|end| self.int(end)).transpose()?;
                    Ok(EvaluatedIndex::Slice(start, end))
                }
            })
            .collect()
    }

    pub(super) fn int(&mut self, expr: &Expr) -> Evaluated<i64> {
        if let Some(Number::Int(n)) = self.number_at(expr) {
            return Ok(n);
        }
        match self.expr(expr)? {
            Value::Int(n) => Ok(n),
            other => Err(error_at(expr.span, format!("this must be an int, and is {}", other.describe()))),
        }
    }

    fn at(&self, value: &Value, at: &[EvaluatedIndex], span: Span) -> Evaluated<Value> {
        if let (Value::Str(_) | Value::List(_) | Value::Ints(_), [EvaluatedIndex::Slice(..)]) = (value, at) {
            // The slice is a copy, at worst of the whole.
            let bytes = value.list_len().map_or(0, Value::list_bytes);
            self.check_room(bytes, span, || "a slice".to_owned())?;
        }
        let result = match (value, at) {
            (Value::Map(map), [at]) => map_at(map, at),
            (Value::Tensor(tensor), at) => self.tensor_at(tensor, at),
            (Value::Handle(Handle::Node(node)), [EvaluatedIndex::At(_), ..]) if node_is_tensor(node) => {
                library::node_tensor(node).and_then(|tensor| self.tensor_at(tensor, at))
            }
            (Value::Handle(_), [EvaluatedIndex::At(index)]) => library::indexed_part(value, *index),
            (Value::Str(text), [at]) => text_at(text, at),
            (Value::Ints(_) | Value::List(_), [at]) => list_at(value, at),
            (other, _) => Err(BuiltinError::new(format!("{} cannot be indexed like this", other.describe()))),
        };
        result.map_err(|error| raise(error, span))
    }

    fn tensor_at(&self, tensor: &Tensor, at: &[EvaluatedIndex]) -> Result<Value, BuiltinError> {
        if at.len() > tensor.rank() {
            let message =
                format!("there are {} indices for {} dimensions: {}", at.len(), tensor.rank(), tensor.layout());
            return Err(BuiltinError::new(message).code(Code::OutOfRange));
        }
        let (Some(select), Some(slice)) = (self.select, self.slice) else {
            return Err(BuiltinError::new("indexing is not available"));
        };
        let mut view = tensor.clone();
        let mut axis = 0_i64;
        let mut several = None;
        for (original, at) in at.iter().enumerate() {
            let size = tensor.dims().get(original).copied().unwrap_or(0) as i64;
            let out_of_range = |problem: &str| {
                BuiltinError::new(format!(
                    "{problem} is out of range for dimension {original}, which has size {size}: {}",
                    tensor.layout()
                ))
                .code(Code::OutOfRange)
            };
            match *at {
                EvaluatedIndex::Key(_) => {
                    return Err(BuiltinError::new("a tensor's index must be an int or a range, not string"));
                }
                EvaluatedIndex::Several(ref index) => {
                    if several.replace((axis, index)).is_some() {
                        return Err(BuiltinError::new("only one of the indices may have several positions"));
                    }
                    axis += 1;
                }
                EvaluatedIndex::Slice(0, None) => axis += 1,
                EvaluatedIndex::Slice(start, end) => {
                    let (first, last) = bounds(start, end, size).ok_or_else(|| out_of_range(&shown(start, end)))?;
                    let args = [Arg::from(&view), Arg::Int(axis), Arg::Int(first), Arg::Int(last)];
                    view = apply(slice, self.device, &args)?.into();
                    axis += 1;
                }
                EvaluatedIndex::At(index) => {
                    if index >= size || index < -size {
                        return Err(out_of_range(&format!("index {index}")));
                    }
                    let args = [Arg::from(&view), Arg::Int(axis), Arg::Int(index)];
                    view = apply(select, self.device, &args)?.into();
                }
            }
        }
        // What is picked is copied, so the views of the other axes come first.
        if let Some((axis, index)) = several {
            let select = by_name("index_select").ok_or_else(|| BuiltinError::new("indexing is not available"))?;
            let picked = apply(select, self.device, &[Arg::from(&view), Arg::Int(axis), Arg::from(&**index)])?;
            return Ok(Value::tensor(picked.into()));
        }
        Ok(Value::tensor(view))
    }
}

pub(super) fn node_of(value: &Value) -> Option<NodeRef<'_>> {
    match value {
        Value::Handle(Handle::Node(node)) => Some(node.by_ref()),
        Value::Handle(Handle::Model(model)) => Some(model.weights.root_ref()),
        _ => None,
    }
}

fn node_is_tensor(node: &tl_model::ModelNode) -> bool {
    matches!(node.tensor(), Ok(Some(_)))
}

fn shown(start: i64, end: Option<i64>) -> String {
    match end {
        Some(end) => format!("the slice {start}..{end}"),
        None => format!("the slice {start}.."),
    }
}

/// The bounds counted from the front; `None` if they are out of range or crossed.
fn bounds(start: i64, end: Option<i64>, size: i64) -> Option<(i64, i64)> {
    let from_front = |at: i64| if at < 0 { at.checked_add(size) } else { Some(at) };
    let (first, last) = (from_front(start)?, from_front(end.unwrap_or(size))?);
    (first >= 0 && first <= last && last <= size).then_some((first, last))
}

fn list_at(list: &Value, at: &EvaluatedIndex) -> Result<Value, BuiltinError> {
    let len = list.list_len().unwrap_or(0) as i64;
    match *at {
        EvaluatedIndex::Key(_) => Err(BuiltinError::new("a list's index must be an int or a range, not string")),
        EvaluatedIndex::Several(_) => Err(BuiltinError::new("a list takes one position, or a range")),
        EvaluatedIndex::At(index) => {
            let place = if index < 0 { index.saturating_add(len) } else { index };
            let element = usize::try_from(place).ok().and_then(|place| list.element(place));
            element.ok_or_else(|| {
                BuiltinError::new(format!("index {index} is out of range for a list of {len}"))
                    .code(Code::NoSuchElement)
            })
        }
        EvaluatedIndex::Slice(start, end) => {
            let Some((first, last)) = bounds(start, end, len) else {
                let message = format!("{} is out of range for a list of {len}", shown(start, end));
                return Err(BuiltinError::new(message).code(Code::NoSuchElement));
            };
            if let Value::Ints(ints) = list {
                return Ok(Value::ints(ints.as_slice().get(first as usize..last as usize).unwrap_or(&[])));
            }
            Ok(Value::list((first..last).filter_map(|index| list.element(index as usize))))
        }
    }
}

fn map_at(map: &Map, at: &EvaluatedIndex) -> Result<Value, BuiltinError> {
    let key = match at {
        EvaluatedIndex::At(n) => KeyRef::Int(*n),
        EvaluatedIndex::Key(text) => KeyRef::Str(text),
        EvaluatedIndex::Slice(..) => return Err(BuiltinError::new("a map takes one key, not a range")),
        EvaluatedIndex::Several(_) => return Err(BuiltinError::new("a map takes one key")),
    };
    map.get(&key).cloned().ok_or_else(|| {
        let key = Key::from(&key);
        let names = map.keys().filter_map(|key| if let Key::Str(text) = key { Some(&**text) } else { None });
        let near = if let Key::Str(text) = &key { crate::names::nearest(text, names) } else { None };
        let error = BuiltinError::new(format!("the map has no key {}", shown_key(&key)));
        match near {
            Some(near) => error.hint(format!("did you mean {near:?}?")),
            None => error.hint("`key in map` tells whether there is one"),
        }
    })
}

/// Characters of a string.
fn text_at(text: &str, at: &EvaluatedIndex) -> Result<Value, BuiltinError> {
    let len = text.chars().count() as i64;
    let (first, last) = match *at {
        EvaluatedIndex::Key(_) => {
            return Err(BuiltinError::new("a string's index must be an int or a range, not string"));
        }
        EvaluatedIndex::Several(_) => return Err(BuiltinError::new("a string takes one position, or a range")),
        EvaluatedIndex::At(index) if index >= len || index < -len => {
            return Err(BuiltinError::new(format!("index {index} is out of range for a string of {len} characters")));
        }
        EvaluatedIndex::At(index) => {
            let place = if index < 0 { index + len } else { index };
            (place, place + 1)
        }
        EvaluatedIndex::Slice(start, end) => match bounds(start, end, len) {
            Some(bounds) => bounds,
            None => {
                let message = format!("{} is out of range for a string of {len} characters", shown(start, end));
                return Err(BuiltinError::new(message));
            }
        },
    };
    Ok(Value::text(text.chars().skip(first as usize).take((last - first) as usize).collect::<String>()))
}
