//! Boolean tensors and the places where they are true.

use smallvec::SmallVec;
use tl_device::{DType, Shape};
use tl_syntax::Code;
use tl_tensor::Tensor;
use tl_tensor::ops::{Arg, Size, TensorType, apply, by_name};

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{ArgTypes, Builtin, Context};
use crate::types::{Known, Type, show_tensor};
use crate::value::{List, Value};

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "mask",
        doc: "A bool tensor that is true at these places, and where `base` is true. A place is a list of an index for each dimension: \
              `mask([2, 3], [[0, 1], [1, 2]])`.",
        params: &[
            Param::required("shape", ParamKind::Ints),
            Param::required("places", ParamKind::List),
            Param::optional("base", ParamKind::Tensor, DefaultValue::Absent),
        ],
        makes_tensors: true,
        rule: |types| {
            let (Some(Known::Ints(shape)), Some(Type::Tensor(base))) = (types.known(0), types.ty(2)) else {
                return Ok(());
            };
            let differs = |sizes: &[Size]| {
                sizes.len() != shape.len() || sizes.iter().zip(shape).any(|(a, b)| a.equals(*b) == Some(false))
            };
            let is_wrong = base.dtype.is_some_and(|dtype| dtype != DType::Bool)
                || base.sizes.as_ref().is_some_and(|sizes| differs(sizes));
            let wanted = TensorType { dtype: Some(DType::Bool), sizes: Some(shape.clone()) };
            if is_wrong { Err(wrong_base(&show_tensor(&wanted), &show_tensor(base))) } else { Ok(()) }
        },
        result: |types| {
            let sizes = match types.known(0) {
                Some(Known::Ints(sizes)) => Some(sizes.clone()),
                _ => None,
            };
            (Type::Tensor(TensorType { dtype: Some(DType::Bool), sizes }), Known::Nothing)
        },
        run: mask,
        ..Builtin::BASE
    },
    Builtin {
        name: "places",
        doc: "The places where a bool tensor is true, in order: of one dimension a list of ints, of several a list of lists of ints. \
              `names` may give a list of names for each dimension, which stand for its indices; an empty one keeps the ints.",
        params: &[
            Param::required("x", ParamKind::Tensor),
            Param::optional("names", ParamKind::List, DefaultValue::Absent),
        ],
        rule: |types| match types.ty(0) {
            Some(Type::Tensor(TensorType { dtype: Some(dtype), .. })) if *dtype != DType::Bool => Err(not_bool(*dtype)),
            _ => Ok(()),
        },
        result: places_type,
        run: places,
        ..Builtin::BASE
    },
];

fn wrong_base(wanted: &str, given: &str) -> BuiltinError {
    BuiltinError::new(format!("mask: the tensor must be {wanted}, and is {given}")).code(Code::WrittenSizes)
}

fn not_bool(dtype: DType) -> BuiltinError {
    BuiltinError::new(format!("places: the tensor must be of bool, and is of {}", dtype.name()))
        .hint("compare it, as in `x > 0.5`")
}

fn mask(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let shape = args.shape(0)?;
    let list = args.value(1).clone();
    let n_places = list.list_len().unwrap_or(0);
    let base = if args.is_given(2) { Some(args.tensor(2)?) } else { None };
    if let Some(base) = base
        && (base.dtype() != DType::Bool || *base.dims() != *shape)
    {
        let wanted = tl_device::Layout::new(DType::Bool, shape);
        return Err(wrong_base(&wanted.to_string(), &base.layout().to_string()));
    }
    if let (Some(base), 0) = (base, n_places) {
        return Ok(Value::tensor(base.clone()));
    }
    context.device.check_heap(8 * n_places, || format!("a list of {n_places} places"))?;
    let places = (0..n_places).map(|at| flat_place(&list.element(at).unwrap_or_default(), &shape));
    let places = places.collect::<Result<Vec<usize>, BuiltinError>>()?;
    let own = Tensor::<bool>::true_at(context.device, shape, places)?.into_dyn();
    let Some(base) = base else { return Ok(Value::tensor(own)) };
    let or = by_name("logical_or").ok_or_else(|| BuiltinError::new("the operation `logical_or` is not available"))?;
    Ok(Value::tensor(apply(or, context.device, &[Arg::from(base), Arg::from(&own)])?.into()))
}

/// The number of an element in the order of the indices.
fn flat_place(place: &Value, shape: &Shape) -> Result<usize, BuiltinError> {
    let wrong = || BuiltinError::new(format!("mask: a place must be a list of {} ints", shape.len()));
    let len = match place {
        Value::Int(_) => 1,
        place => place.list_len().ok_or_else(wrong)?,
    };
    if len != shape.len() {
        return Err(wrong());
    }
    let index = |dim: usize| match place {
        Value::Int(index) => Ok(*index),
        place => match place.element(dim) {
            Some(Value::Int(index)) => Ok(index),
            _ => Err(wrong()),
        },
    };
    let indices = (0..len).map(index).collect::<Result<SmallVec<[i64; 4]>, BuiltinError>>()?;
    let mut flat = 0_usize;
    for (&index, &size) in indices.iter().zip(shape.iter()) {
        let index = usize::try_from(index).ok().filter(|index| *index < size).ok_or_else(|| {
            let (place, shape) = (indices.as_slice(), &**shape);
            BuiltinError::new(format!("mask: the place {place:?} is outside of {shape:?}")).code(Code::NoSuchElement)
        })?;
        flat = flat.saturating_mul(size).saturating_add(index);
    }
    Ok(flat)
}

/// The type of the list: that of the names, or of ints.
fn places_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let element = |ty: Option<&Type>| match ty {
        Some(Type::List(name)) if **name == Type::Str => Type::Str,
        Some(Type::List(_)) => Type::Int,
        _ => Type::Unknown,
    };
    let rank = match types.ty(0) {
        Some(Type::Tensor(TensorType { sizes: Some(sizes), .. })) => Some(sizes.len()),
        _ => None,
    };
    let names: Option<Vec<Type>> = match (types.ty(1), types.known(1), rank) {
        (None, _, Some(rank)) => Some(vec![Type::Int; rank]),
        (_, Some(Known::Elements(names)), _) => Some(names.iter().map(|(ty, _)| element(Some(ty))).collect()),
        _ => None,
    };
    let ty = match names.as_deref() {
        Some([one]) => Type::list(one.clone()),
        Some([first, rest @ ..]) => Type::list(Type::list(rest.iter().fold(first.clone(), |a, b| a.join(b)))),
        _ => Type::list(Type::Unknown),
    };
    (ty, Known::Nothing)
}

fn places(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let tensor = args.tensor(0)?.clone();
    if tensor.dtype() != DType::Bool {
        return Err(not_bool(tensor.dtype()));
    }
    let dims = Shape::new(tensor.dims());
    let names: Vec<Value> = (0..dims.len()).map(|dim| args.value(1).element(dim).unwrap_or_default()).collect();
    let tensor = tensor.into_typed::<bool>()?;
    let mut n_places = 0_usize;
    tensor.for_each_true(|_| n_places += 1)?;
    // A list of each place, in a list.
    let bytes = Value::list_bytes(n_places).saturating_mul(1 + dims.len());
    context.device.check_heap(bytes, || format!("a list of {n_places} places"))?;
    let mut found = Vec::with_capacity(n_places);
    tensor.for_each_true(|flat| found.push(place(flat, &dims, &names)))?;
    Ok(if dims.len() == 1 { Value::list(found) } else { Value::List(List::new(found)) })
}

/// An element's indices, or the names that stand for them.
fn place(mut flat: usize, dims: &[usize], names: &[Value]) -> Value {
    let mut indices = vec![Value::Absent; dims.len()];
    for ((index, size), names) in indices.iter_mut().zip(dims).zip(names).rev() {
        let at = flat % size.max(&1);
        flat /= size.max(&1);
        *index = names.element(at).unwrap_or(Value::Int(at as i64));
    }
    match <[Value; 1]>::try_from(indices) {
        Ok([one]) => one,
        Err(indices) => Value::list(indices),
    }
}
