//! Builtins on tensors other than operations: random tensors, conversions from and to lists, parts, shapes, single elements.

use smallvec::SmallVec;
use tl_device::{DType, Device, Shape};
use tl_syntax::Code;
use tl_tensor::ops::{Arg, Op, Size, Sizes, TensorType, apply, by_name};
use tl_tensor::{Random, Tensor};

use super::args::Args;
use super::elements::elements;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{ArgTypes, Builtin, Context, always};
use crate::ints::Ints;
use crate::stack::has_room;
use crate::types::{Known, Type, list_sizes, show_tensor};
use crate::value::{List, Value};

/// The parts of a tensor whose sizes are known one by one.
const MAX_KNOWN_PARTS: i64 = 256;

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "rand",
        doc: "Random numbers, each from 0 to below 1 with equal probability; `float16` unless another float type is given.",
        params: &[
            Param::required("shape", ParamKind::Ints),
            Param::optional("dtype", ParamKind::DType, DefaultValue::Absent),
        ],
        makes_tensors: true,
        result: |types| types.made_tensor(0, 1),
        run: |context, args| {
            let layout = args.layout(0, 1)?;
            Ok(Value::tensor(context.random.uniform_tensor(context.device, &layout)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "randn",
        doc: "Random numbers from the standard normal distribution; `float16` unless another float type is given.",
        params: &[
            Param::required("shape", ParamKind::Ints),
            Param::optional("dtype", ParamKind::DType, DefaultValue::Absent),
        ],
        makes_tensors: true,
        result: |types| types.made_tensor(0, 1),
        run: |context, args| {
            let layout = args.layout(0, 1)?;
            Ok(Value::tensor(context.random.normal_tensor(context.device, &layout)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "seed",
        doc: "Starts the random numbers, those of `sample` included, again from `n`: the same seed gives the same numbers.",
        params: &[Param::required("n", ParamKind::Int)],
        run: |context, args| {
            // Any 64 bits are a seed.
            let seed = args.int(0)? as u64;
            *context.random = Random::new(seed);
            *context.seed = seed;
            if let Some(sampler) = context.sampler {
                sampler.reseed(seed);
            }
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "from_list",
        doc: "A tensor of the numbers in a list of (lists of …) numbers, `float16` unless another type is given.",
        params: &[
            Param::required("list", ParamKind::List),
            Param::optional("dtype", ParamKind::DType, DefaultValue::Absent),
        ],
        makes_tensors: true,
        rule: |types| match types.known(0).map(list_sizes) {
            Some(Err((code, reason))) => Err(BuiltinError::new(format!("from_list: {reason}")).code(code)),
            _ => Ok(()),
        },
        result: |types| {
            let (ty, known) = types.made_tensor(usize::MAX, 1);
            let sizes = types.known(0).and_then(|known| list_sizes(known).ok().flatten());
            match ty {
                Type::Tensor(ty) => (Type::Tensor(TensorType { sizes, ..ty }), known),
                ty => (ty, known),
            }
        },
        run: |context, args| Ok(Value::tensor(from_list(context.device, args.value(0), args.dtype(1)?)?)),
        ..Builtin::BASE
    },
    Builtin {
        name: "shape",
        doc: "The sizes of a tensor's dimensions, a list of ints.",
        params: &[Param::required("x", ParamKind::Tensor)],
        result: |types| {
            let known = match types.ty(0) {
                Some(Type::Tensor(TensorType { sizes: Some(sizes), .. })) => Known::Ints(sizes.clone()),
                _ => Known::Nothing,
            };
            (Type::list(Type::Int), known)
        },
        run: |_, args| Ok(Value::Ints(Ints::from_sizes(args.tensor(0)?.dims()))),
        ..Builtin::BASE
    },
    Builtin {
        name: "rank",
        doc: "How many dimensions a tensor has.",
        params: &[Param::required("x", ParamKind::Tensor)],
        result: |types| {
            let known = match types.ty(0) {
                Some(Type::Tensor(TensorType { sizes: Some(sizes), .. })) => {
                    Known::Int(Size::Known(sizes.len() as i64))
                }
                _ => Known::Nothing,
            };
            (Type::Int, known)
        },
        run: |_, args| Ok(Value::Int(args.tensor(0)?.rank() as i64)),
        ..Builtin::BASE
    },
    Builtin {
        name: "split",
        doc: "The tensor cut along `dim` into parts of `size` positions; the last part may be smaller. Views, in a list.",
        params: &[
            Param::required("x", ParamKind::Tensor),
            Param::required("size", ParamKind::Int),
            Param::optional("dim", ParamKind::Int, DefaultValue::Int(0)),
        ],
        rule: |types| cut_axis(types, "split").map(drop),
        result: split_type,
        run: |context, args| {
            let size = args.size(1)?;
            if size == 0 {
                return Err(BuiltinError::new("split: the size of a part must be 1 or more").code(Code::WrongNumber));
            }
            cut(context, args, size)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "chunk",
        doc: "The tensor cut along `dim` into `n` parts of equal size; the last parts may be smaller or missing. Views, in a list.",
        params: &[
            Param::required("x", ParamKind::Tensor),
            Param::required("n", ParamKind::Int),
            Param::optional("dim", ParamKind::Int, DefaultValue::Int(0)),
        ],
        rule: |types| cut_axis(types, "chunk").map(drop),
        result: chunk_type,
        run: |context, args| {
            let n = args.size(1)?;
            let len = args.tensor(0)?.dims().get(axis(args)?).copied().unwrap_or(0);
            if n == 0 {
                return Err(BuiltinError::new("chunk: the number of parts must be 1 or more").code(Code::WrongNumber));
            }
            cut(context, args, len.div_ceil(n).max(1))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "item",
        doc: "The value of a tensor with one element: a float, an int or a bool.",
        params: &[Param::required("t", ParamKind::Tensor)],
        rule: |types| {
            let Some(Type::Tensor(ty)) = types.ty(0) else { return Ok(()) };
            let Some(sizes) = &ty.sizes else { return Ok(()) };
            let count = sizes.iter().fold(Size::Known(1), |count, size| count.times(*size));
            match count {
                Size::Known(count) if count != 1 => {
                    let message = format!("item: the tensor {} has {count} elements, not one", show_tensor(ty));
                    Err(BuiltinError::new(message).code(Code::ElementsDiffer))
                }
                _ => Ok(()),
            }
        },
        result: |types| {
            let ty = match types.ty(0) {
                Some(Type::Tensor(TensorType { dtype: Some(DType::I32), .. })) => Type::Int,
                Some(Type::Tensor(TensorType { dtype: Some(DType::Bool), .. })) => Type::Bool,
                Some(Type::Tensor(TensorType { dtype: Some(_), .. })) => Type::Float,
                _ => Type::Unknown,
            };
            (ty, Known::Nothing)
        },
        run: |_, args| item(args.tensor(0)?),
        ..Builtin::BASE
    },
    Builtin {
        name: "to_list",
        doc: "The elements of a tensor as a list of (lists of …) floats, ints or bools.",
        params: &[Param::required("t", ParamKind::Tensor)],
        result: |types| {
            let (dtype, rank) = match types.ty(0) {
                Some(Type::Tensor(TensorType { dtype, sizes: Some(sizes) })) => (*dtype, sizes.len()),
                _ => return (Type::list(Type::Unknown), Known::Nothing),
            };
            let element = match dtype {
                Some(DType::I32) => Type::Int,
                Some(DType::Bool) => Type::Bool,
                Some(_) => Type::Float,
                None => Type::Unknown,
            };
            ((0..rank).fold(element, |ty, _| Type::list(ty)), Known::Nothing)
        },
        run: |context, args| {
            let tensor = args.tensor(0)?;
            let len = tensor.n_elems();
            context
                .device
                .check_heap(Value::list_bytes(len).saturating_add(16 * len), || format!("a list of {len} elements"))?;
            let numbers = elements(tensor)?;
            Ok(nested(tensor.dtype(), &numbers, tensor.dims()))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "argmax",
        doc: "The place of the largest element of all, an int; the first of equals. With a dimension it is the operation.",
        params: &[Param::required("x", ParamKind::Tensor)],
        result: always!(Int),
        run: |context, args| place(context, args, "argmax"),
        ..Builtin::BASE
    },
    Builtin {
        name: "argmin",
        doc: "The place of the smallest element of all, an int; the first of equals. With a dimension it is the operation.",
        params: &[Param::required("x", ParamKind::Tensor)],
        result: always!(Int),
        run: |context, args| place(context, args, "argmin"),
        ..Builtin::BASE
    },
];

/// The dimension that is cut, if it and the tensor's rank are known.
fn cut_axis(types: &ArgTypes<'_>, name: &str) -> Result<Option<usize>, BuiltinError> {
    let Some(Type::Tensor(TensorType { sizes: Some(sizes), .. })) = types.ty(0) else { return Ok(None) };
    let dim = types.known(2).map_or(Size::Known(0), Known::size);
    let Size::Known(dim) = dim else { return Ok(None) };
    let error = match types.known(1).map(Known::size) {
        Some(Size::Known(n)) if n < 1 => {
            let what = if name == "split" { "size of a part" } else { "number of parts" };
            BuiltinError::new(format!("{name}: the {what} must be 1 or more")).code(Code::WrongNumber)
        }
        _ => match axis_of(dim, sizes.len()) {
            Some(axis) => return Ok(Some(axis)),
            None => no_dimension(name, dim, sizes.len()),
        },
    };
    Err(error)
}

fn axis_of(dim: i64, rank: usize) -> Option<usize> {
    let from_start = if dim < 0 { dim.saturating_add(rank as i64) } else { dim };
    usize::try_from(from_start).ok().filter(|axis| *axis < rank)
}

fn no_dimension(name: &str, dim: i64, rank: usize) -> BuiltinError {
    BuiltinError::new(format!("{name}: there is no dimension {dim}: the tensor has {rank}")).code(Code::NoSuchDimension)
}

fn split_type(types: &ArgTypes<'_>) -> (Type, Known) {
    parts(types, cut_axis(types, "split").ok().flatten(), |_, size| Some(size))
}

fn chunk_type(types: &ArgTypes<'_>) -> (Type, Known) {
    let size = |len: Size, n: Size| {
        Some(Size::Known(len.known()?.div_euclid(n.known()?.max(1)) + i64::from(len.known()? % n.known()?.max(1) != 0)))
    };
    parts(types, cut_axis(types, "chunk").ok().flatten(), size)
}

/// The parts of a tensor along `axis`; `part` gives their size from that of the dimension and the second argument.
fn parts(types: &ArgTypes<'_>, axis: Option<usize>, part: impl Fn(Size, Size) -> Option<Size>) -> (Type, Known) {
    let any = (Type::list(Type::any_tensor()), Known::Nothing);
    let Some(Type::Tensor(TensorType { dtype, sizes: Some(sizes) })) = types.ty(0) else { return any };
    let Some((axis, len)) = axis.and_then(|axis| Some((axis, *sizes.get(axis)?))) else { return any };
    let with = |size: Size| {
        let mut sizes: Sizes = sizes.clone();
        if let Some(place) = sizes.get_mut(axis) {
            *place = size;
        }
        Type::Tensor(TensorType { dtype: *dtype, sizes: Some(sizes) })
    };
    let element = Type::list(with(Size::Unknown));
    let size = part(len, types.known(1).map_or(Size::Unknown, Known::size));
    let (Size::Known(len), Some(Size::Known(size))) = (len, size) else { return (element, Known::Nothing) };
    let size = size.max(1);
    if len / size > MAX_KNOWN_PARTS {
        return (element, Known::Nothing);
    }
    let starts = (0..len).step_by(usize::try_from(size).unwrap_or(1));
    let known = starts.map(|start| (with(Size::Known(size.min(len - start))), Known::Nothing));
    (element, Known::elements(known))
}

pub(super) fn operation(name: &'static str) -> Result<&'static Op, BuiltinError> {
    by_name(name).ok_or_else(|| BuiltinError::new(format!("the operation `{name}` is not available")))
}

fn place(context: &Context<'_>, args: &Args<'_>, name: &'static str) -> Result<Value, BuiltinError> {
    let x = args.tensor(0)?;
    item(&apply(operation(name)?, context.device, &[Arg::from(x)])?.into())
}

/// The dimension that the third argument names.
fn axis(args: &Args<'_>) -> Result<usize, BuiltinError> {
    let (dim, rank) = (args.int(2)?, args.tensor(0)?.rank());
    axis_of(dim, rank).ok_or_else(|| no_dimension(args.name, dim, rank))
}

/// Cuts along the dimension into parts of `size` positions.
fn cut(context: &Context<'_>, args: &Args<'_>, size: usize) -> Result<Value, BuiltinError> {
    let (x, axis) = (args.tensor(0)?, axis(args)?);
    let slice = operation("slice")?;
    let len = x.dims().get(axis).copied().unwrap_or(0);
    let n_parts = len.div_ceil(size);
    context.device.check_heap(Value::list_bytes(n_parts), || format!("a list of {n_parts} tensors"))?;
    let mut parts = Vec::with_capacity(n_parts);
    for start in (0..len).step_by(size) {
        let end = len.min(start.saturating_add(size));
        let rest = [Arg::Int(axis as i64), Arg::Int(start as i64), Arg::Int(end as i64)];
        parts.push(Value::tensor(x.apply(slice, &rest)?));
    }
    Ok(Value::List(List::new(parts)))
}

/// The value of a tensor with one element.
pub(crate) fn item(tensor: &Tensor) -> Result<Value, BuiltinError> {
    if tensor.n_elems() != 1 {
        let message = format!("item: the tensor {} has {} elements, not one", tensor.layout(), tensor.n_elems());
        return Err(BuiltinError::new(message).code(Code::ElementsDiffer));
    }
    let x = elements(tensor)?.first().copied().unwrap_or_default();
    Ok(element(tensor.dtype(), x))
}

fn element(dtype: DType, x: f64) -> Value {
    match dtype {
        DType::I32 => Value::Int(x as i64),
        DType::Bool => Value::Bool(x != 0.0),
        _ => Value::Float(x),
    }
}

fn nested(dtype: DType, numbers: &[f64], dims: &[usize]) -> Value {
    let Some((first, rest)) = dims.split_first() else {
        return element(dtype, numbers.first().copied().unwrap_or_default());
    };
    let step = numbers.len().checked_div(*first).unwrap_or(0);
    if rest.is_empty() {
        return Value::list(numbers.iter().map(|x| element(dtype, *x)));
    }
    let parts = (0..*first).map(|index| numbers.get(index * step..(index + 1) * step).unwrap_or(&[]));
    Value::List(List::new(parts.map(|part| nested(dtype, part, rest)).collect()))
}

/// A tensor of the numbers in nested lists, which must be rectangular.
pub(crate) fn from_list(device: &Device, list: &Value, dtype: DType) -> Result<Tensor, BuiltinError> {
    let mut dims: SmallVec<[usize; 6]> = SmallVec::new();
    let mut level = list.clone();
    while let Some(len) = level.list_len() {
        dims.push(len);
        level = level.element(0).unwrap_or(Value::Absent);
    }
    let n = dims.iter().fold(1, |n: usize, &dim| n.saturating_mul(dim));
    device.check_heap(n.saturating_mul(16), || format!("a tensor from a list of {n} numbers"))?;
    let mut numbers: SmallVec<[f64; 16]> = SmallVec::new();
    collect(list, &dims, &mut numbers)?;
    let shape = Shape::new(&dims);
    Ok(match dtype {
        DType::F16 => {
            let data: SmallVec<[half::f16; 16]> = numbers.iter().map(|x| half::f16::from_f64(*x)).collect();
            Tensor::<half::f16>::from_slice(device, &data, shape)?.into_dyn()
        }
        DType::F32 => {
            let data: SmallVec<[f32; 16]> = numbers.iter().map(|x| *x as f32).collect();
            Tensor::<f32>::from_slice(device, &data, shape)?.into_dyn()
        }
        DType::I32 => {
            let data: Result<SmallVec<[i32; 16]>, BuiltinError> = numbers.iter().map(|x| to_i32(*x)).collect();
            Tensor::<i32>::from_slice(device, &data?, shape)?.into_dyn()
        }
        DType::Bool => {
            let data: SmallVec<[bool; 16]> = numbers.iter().map(|x| *x != 0.0).collect();
            Tensor::<bool>::from_slice(device, &data, shape)?.into_dyn()
        }
        DType::Block(format) => {
            return Err(BuiltinError::new(format!("a list cannot become a {} weight", format.name)));
        }
    })
}

fn to_i32(x: f64) -> Result<i32, BuiltinError> {
    if x.fract() == 0.0 && x >= f64::from(i32::MIN) && x <= f64::from(i32::MAX) {
        return Ok(x as i32);
    }
    Err(BuiltinError::new(format!("{x} is not a whole number of 32 bits, and the tensor is of int32")))
}

fn collect(value: &Value, dims: &[usize], numbers: &mut SmallVec<[f64; 16]>) -> Result<(), BuiltinError> {
    if !has_room() {
        return Err(BuiltinError::too_deep());
    }
    let Some((first, rest)) = dims.split_first() else {
        numbers.push(match value {
            Value::Int(n) => *n as f64,
            Value::Float(x) => *x,
            Value::Bool(b) => f64::from(u8::from(*b)),
            other => {
                return Err(BuiltinError::new(format!(
                    "a tensor is made of numbers, and the list has {}",
                    other.describe()
                )));
            }
        });
        return Ok(());
    };
    match value {
        Value::Ints(ints) if ints.len() == *first && rest.is_empty() => {
            numbers.extend(ints.as_slice().iter().map(|n| *n as f64));
            Ok(())
        }
        Value::List(values) if values.len() == *first => {
            values.iter().try_for_each(|value| collect(value, rest, numbers))
        }
        other => {
            let found = other.list_len().map_or_else(|| other.describe(), |len| format!("a list of {len}"));
            let message = format!(
                "the parts of a list that becomes a tensor must have equal lengths: {found} stands where {first} belong"
            );
            Err(BuiltinError::new(message).code(Code::RaggedList))
        }
    }
}
