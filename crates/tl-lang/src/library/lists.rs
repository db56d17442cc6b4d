//! Lists: length, growth, order, membership.

use std::cmp::Ordering;
use std::sync::Arc;

use tl_tensor::ops::Size;

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{ArgTypes, Builtin, Context, always};
use crate::ints::Ints;
use crate::types::{Known, ModelPart, Type};
use crate::value::{Handle, KeyRef, List, Number, Value, equal};

/// Elements of longer lists are not tracked.
const MAX_KNOWN: usize = 256;

/// Lists of at least this many elements check the heap before they grow.
const CHECKED_LEN: usize = 4096;

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "len",
        doc: "How many elements a list has, entries a map, characters a string, positions the first dimension of a tensor, or numbered \
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
    Builtin {
        name: "sort",
        doc: "The list in order: numbers by size, NaN last, strings by their characters. Equal elements keep their order.",
        params: &[
            Param::required("list", ParamKind::List),
            Param::optional("descending", ParamKind::Bool, DefaultValue::Bool(false)),
        ],
        result: same_list,
        run: sort,
        ..Builtin::BASE
    },
    Builtin {
        name: "reverse",
        doc: "The list from its last element to its first.",
        params: &[Param::required("list", ParamKind::List)],
        result: same_list,
        run: |_, args| {
            let list = args.take(0);
            let Some(len) = list.list_len() else {
                return Err(BuiltinError::new(format!("`reverse` takes a list, not {}", list.describe())));
            };
            Ok(Value::list((0..len).rev().filter_map(|at| list.element(at))))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "contains",
        doc: "Whether a list has an element equal to `value`, a map a key, a range a number, a string a part: `value in container`.",
        params: &[Param::required("container", ParamKind::Any), Param::required("value", ParamKind::Any)],
        result: always!(Bool),
        run: |_, args| contains(args.value(1), args.value(0)).map(Value::Bool),
        ..Builtin::BASE
    },
];

fn len_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let known = match (types.ty(0), types.known(0)) {
        (Some(Type::Tensor(ty)), _) => ty.sizes.as_ref().and_then(|sizes| sizes.first()).copied(),
        (_, Some(Known::Model(ModelPart::Node(node)))) => Some(Size::Known(node.n_indexed() as i64)),
        (Some(Type::List(_)), Some(known)) => known.list_len().map(|len| Size::Known(len as i64)),
        _ => None,
    };
    (Type::Int, known.map_or(Known::Nothing, Known::Int))
}

fn len(value: &Value) -> Result<Value, BuiltinError> {
    let len = match value {
        Value::Str(text) => text.chars().count(),
        Value::Map(map) => map.len(),
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

fn same_list(types: &ArgTypes<'_>) -> (Type, Known) {
    (types.ty(0).cloned().unwrap_or_else(|| Type::list(Type::Unknown)), Known::Nothing)
}

fn sort(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    if let Some(sorted) = args.tensor_operation(context.device) {
        return sorted;
    }
    let descending = args.bool(1)?;
    match args.take(0) {
        Value::Ints(ints) => {
            let mut values = ints.as_slice().to_vec();
            values.sort_unstable();
            if descending {
                values.reverse();
            }
            Ok(Value::ints(&values))
        }
        Value::List(mut values) => {
            let text = |value: &Value| matches!(value, Value::Str(_));
            if let Some(other) = values.iter().find(|value| value.number().is_none() && !text(value)) {
                return Err(BuiltinError::new(format!(
                    "`sort` takes a list of numbers or of strings, and finds {}",
                    other.describe()
                )));
            }
            if values.iter().any(text) && !values.iter().all(text) {
                return Err(BuiltinError::new("`sort` takes a list of numbers or of strings, and finds both"));
            }
            let order = |a: &Value, b: &Value| if descending { compare(b, a) } else { compare(a, b) };
            Arc::make_mut(&mut values).sort_by(|a, b| is_nan(a).cmp(&is_nan(b)).then_with(|| order(a, b)));
            Ok(Value::List(values))
        }
        other => Err(BuiltinError::new(format!("`sort` takes a list, not {}", other.describe()))),
    }
}

/// The order of two strings, or of two numbers other than NaN.
fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Str(a), Value::Str(b)) => (**a).cmp(&**b),
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (a, b) => {
            // Exact, so that the order is one: an int and a float that rounds to it may differ.
            match (a.number(), b.number()) {
                (Some(Number::Int(a)), Some(Number::Float(b))) => compare_exactly(a, b),
                (Some(Number::Float(a)), Some(Number::Int(b))) => compare_exactly(b, a).reverse(),
                (Some(Number::Float(a)), Some(Number::Float(b))) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
                _ => Ordering::Equal,
            }
        }
    }
}

/// The order of an int and a float other than NaN.
fn compare_exactly(n: i64, x: f64) -> Ordering {
    // 2^63
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    if x >= BOUND {
        Ordering::Less
    } else if x < -BOUND {
        Ordering::Greater
    } else {
        n.cmp(&(x.trunc() as i64)).then_with(|| 0.0.partial_cmp(&x.fract()).unwrap_or(Ordering::Equal))
    }
}

fn is_nan(value: &Value) -> bool {
    matches!(value, Value::Float(x) if x.is_nan())
}

/// Whether a list, a map's keys, a range or a string contains a value.
pub(crate) fn contains(value: &Value, container: &Value) -> Result<bool, BuiltinError> {
    Ok(match (container, value) {
        (Value::Ints(ints), Value::Int(n)) => ints.as_slice().contains(n),
        (Value::Range(start, end), Value::Int(n)) => (start..end).contains(&n),
        (Value::Map(map), value) => KeyRef::of(value).is_some_and(|key| map.contains_key(&key)),
        (Value::Str(text), Value::Str(part)) => text.contains(&**part),
        (Value::List(_) | Value::Ints(_), value) => {
            let len = container.list_len().unwrap_or(0);
            let is_equal = |at| container.element(at).is_some_and(|element| equal(&element, value) == Some(true));
            (0..len).any(is_equal)
        }
        (container, value) => {
            let (value, container) = (value.describe(), container.describe());
            return Err(BuiltinError::new(format!("`in` cannot stand between {value} and {container}"))
                .hint("`in` looks in a list, a map's keys, a range or a string"));
        }
    })
}

fn append_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let element = match (types.ty(0), types.ty(1)) {
        (Some(Type::List(element)), Some(value)) if **element == Type::Unknown => value.clone(),
        (Some(Type::List(element)), Some(value)) => element.join(value),
        _ => Type::Unknown,
    };
    (Type::list(element), appended(types))
}

/// What is known of the longer list.
fn appended(types: &ArgTypes<'_>) -> Known {
    let (Some(list), Some(ty), Some(value)) = (types.known(0), types.ty(1), types.known(1)) else {
        return Known::Nothing;
    };
    match list {
        Known::Ints(sizes) if *ty == Type::Int && sizes.len() < MAX_KNOWN => {
            Known::Ints(sizes.iter().copied().chain([value.size()]).collect())
        }
        Known::Elements(elements) if elements.is_empty() && *ty == Type::Int => {
            Known::Ints([value.size()].into_iter().collect())
        }
        Known::Elements(elements) if elements.len() < MAX_KNOWN => {
            Known::elements(elements.iter().cloned().chain([(ty.clone(), value.clone())]))
        }
        _ => Known::Nothing,
    }
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
            Ok(Value::List(List::new(numbers.chain([value]).collect())))
        }
        (Value::List(mut values), value) => {
            Arc::make_mut(&mut values).push(value);
            Ok(Value::List(values))
        }
        (other, _) => Err(BuiltinError::new(format!("`append`: {} is no list", other.describe()))),
    }
}
