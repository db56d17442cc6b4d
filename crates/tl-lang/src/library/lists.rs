//! Lists: length and growth.

use std::sync::Arc;

use tl_tensor::ops::Size;

use super::args::Args;
use super::error::BuiltinError;
use super::param::{Param, ParamKind};
use super::row::{ArgTypes, Builtin, Context};
use crate::types::{Known, Type};
use crate::value::{Handle, Ints, Value};

/// Lists of at least this many elements check the heap before they grow.
const CHECKED_LEN: usize = 4096;

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "len",
        doc: "How many elements a list has, characters a string, positions the first dimension of a tensor, or numbered \
              parts a node of a model: `len(model.blk)`.",
        params: &[Param::required("x", ParamKind::Any)],
        result: len_type,
        run: |_, args| len(args.value(0)),
        ..Builtin::BASE
    },
    Builtin {
        name: "append",
        doc: "The list with one more element at its end. The variable that is given keeps its list: `l = append(l, x)`.",
        params: &[Param::required("list", ParamKind::List), Param::required("value", ParamKind::Any)],
        result: append_type,
        run: append,
        ..Builtin::BASE
    },
];

fn len_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let known = match (types.ty(0), types.known(0)) {
        (Some(Type::Tensor(ty)), _) => ty.sizes.as_ref().and_then(|sizes| sizes.first()).copied(),
        (_, Some(Known::Ints(sizes))) => Some(Size::Known(sizes.len() as i64)),
        _ => None,
    };
    (Type::Int, known.map_or(Known::Nothing, Known::Int))
}

fn len(value: &Value) -> Result<Value, BuiltinError> {
    let len = match value {
        Value::Str(text) => text.chars().count(),
        Value::Tensor(tensor) => match tensor.dims().first() {
            Some(size) => *size,
            None => return Err(BuiltinError::new("`len`: this tensor is a single number")),
        },
        Value::Range(start, end) => usize::try_from(end.saturating_sub(*start)).unwrap_or(0),
        Value::Handle(Handle::Node(node)) => node.n_indexed(),
        other => match other.list_len() {
            Some(len) => len,
            None => return Err(BuiltinError::new(format!("`len`: {} has no length", other.describe()))),
        },
    };
    Ok(Value::Int(len as i64))
}

fn append_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let element = match (types.ty(0), types.ty(1)) {
        (Some(Type::List(element)), Some(value)) if **element == Type::Unknown => value.clone(),
        (Some(Type::List(element)), Some(value)) => element.join(value),
        _ => Type::Unknown,
    };
    (Type::list(element), Known::Nothing)
}

fn append(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let (list, value) = (args.take(0), args.take(1));
    let len = list.list_len().unwrap_or(0);
    // A shared list is copied, and a full one is moved to twice its capacity.
    let moves = match &list {
        Value::Ints(Ints::Shared(ints)) => Arc::strong_count(ints) > 1 || len == ints.capacity(),
        Value::List(values) => Arc::strong_count(values) > 1 || len == values.capacity(),
        _ => false,
    };
    if moves && len >= CHECKED_LEN {
        context.device.check_heap(Value::list_bytes(2 * len), || format!("a list of {} elements", len + 1))?;
    }
    match (list, value) {
        (Value::Ints(mut ints), Value::Int(n)) => {
            ints.push(n);
            Ok(Value::Ints(ints))
        }
        (Value::Ints(ints), value) => {
            let numbers = ints.as_slice().iter().map(|n| Value::Int(*n));
            Ok(Value::List(Arc::new(numbers.chain([value]).collect())))
        }
        (Value::List(mut values), value) => {
            Arc::make_mut(&mut values).push(value);
            Ok(Value::List(values))
        }
        (other, _) => Err(BuiltinError::new(format!("`append`: {} is no list", other.describe()))),
    }
}
