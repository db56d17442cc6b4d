//! Views: `transpose`, `permute`, `squeeze`, `unsqueeze`, `broadcast_to`, `slice`, `slice_last`, `select`.

use tl_device::{DType, Layout, Shape};

use crate::op::rule::{broadcast, dimension, normalize_axis, same};
use crate::op::{Arg, DefaultValue, Group, Kind, Op, OpKernel, TensorType, optional, required};
use crate::size::{Size, Sizes};
use crate::strides::{Strides, broadcast_strides};
use crate::tensor::{DynTensor, Tensor};
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] =
    &[&TRANSPOSE, &PERMUTE, &SQUEEZE, &UNSQUEEZE, &BROADCAST_TO, &SLICE, &SLICE_LAST, &SELECT];

fn int(args: &[Arg], index: usize) -> Option<i64> {
    match args.get(index) {
        Some(Arg::Int(n)) => Some(*n),
        _ => None,
    }
}

fn axis(args: &[Arg], index: usize, rank: usize) -> Option<usize> {
    normalize_axis(int(args, index)?, rank).ok()
}

/// Refuses stored formats, whose blocks a view cannot split: only whole rows can be selected, or two axes swapped.
pub(super) fn refuse_blocks(dtype: Option<DType>) -> Result<(), OpError> {
    match dtype {
        Some(found @ DType::Block(_)) if found.block_elems() > 1 => {
            Err(OpError::DType { operand: "x", expected: "an activation (cast the weight first)", found })
        }
        _ => Ok(()),
    }
}

static TRANSPOSE: Op = Op {
    name: "transpose",
    group: Group::Shape,
    doc: "Two dimensions swapped; the last two unless given. A view. `x: [.., a, .., b, ..] → [.., b, .., a, ..]`.",
    params: &[
        required("x", Kind::Weight),
        optional("a", Kind::Int, DefaultValue::Int(-2)),
        optional("b", Kind::Int, DefaultValue::Int(-1)),
    ],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        let (a, b) = (args.axis(1, sizes.len())?, args.axis(2, sizes.len())?);
        let mut sizes = Sizes::from_slice(sizes);
        sizes.swap(a, b);
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let rank = source.shape().len();
        let mut strides: Strides = source.strides().into();
        strides.swap(axis(args, 1, rank)?, axis(args, 2, rank)?);
        Some(source.view(layout.shape().clone(), strides, 0))
    }),
    gpu: None,
};

static PERMUTE: Op = Op {
    name: "permute",
    group: Group::Shape,
    doc: "The dimensions in another order: dimension `i` of the result is dimension `dims[i]` of `x`. A view.",
    params: &[required("x", Kind::Tensor), required("dims", Kind::Ints)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        let dims = args.ints(1)?;
        let rank = sizes.len();
        if dims.len() != rank {
            let (left, right) = (Size::Known(dims.len() as i64), Size::Known(rank as i64));
            return Err(OpError::Sizes { rule: "dims must name every dimension once", left, right });
        }
        let mut seen = Sizes::new();
        let mut result = Sizes::new();
        for &dim in dims {
            let axis = normalize_axis(dim.known().ok_or(OpError::Unknown)?, rank)?;
            let mark = Size::Known(axis as i64);
            if seen.contains(&mark) {
                return Err(OpError::Value { operand: "dims", expected: "every dimension once", found: axis as f64 });
            }
            seen.push(mark);
            result.push(sizes[axis]);
        }
        Ok(TensorType::new(dtype, result))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let Some(Arg::Ints(dims)) = args.get(1) else { return None };
        let rank = source.shape().len();
        let strides: Option<Strides> =
            dims.iter().map(|&dim| normalize_axis(dim, rank).ok().map(|axis| source.strides()[axis])).collect();
        Some(source.view(layout.shape().clone(), strides?, 0))
    }),
    gpu: None,
};

static SQUEEZE: Op = Op {
    name: "squeeze",
    group: Group::Shape,
    doc: "Without the dimension `dim`, whose size must be 1. A view. `x: [.., 1, ..] → [.., ..]`.",
    params: &[required("x", Kind::Tensor), required("dim", Kind::Int)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        let axis = args.axis(1, sizes.len())?;
        same("only a dimension of size 1 can be left out", sizes[axis], Size::Known(1))?;
        let mut sizes = Sizes::from_slice(sizes);
        sizes.remove(axis);
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let mut strides: Strides = source.strides().into();
        strides.remove(axis(args, 1, source.shape().len())?);
        Some(source.view(layout.shape().clone(), strides, 0))
    }),
    gpu: None,
};

static UNSQUEEZE: Op = Op {
    name: "unsqueeze",
    group: Group::Shape,
    doc: "With a new dimension of size 1 at `dim`. A view. `x: [.., ..] → [.., 1, ..]`.",
    params: &[required("x", Kind::Tensor), required("dim", Kind::Int)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        let axis = args.axis(1, sizes.len() + 1)?;
        let mut sizes = Sizes::from_slice(sizes);
        sizes.insert(axis, Size::Known(1));
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let mut strides: Strides = source.strides().into();
        strides.insert(axis(args, 1, source.shape().len() + 1)?, 1);
        Some(source.view(layout.shape().clone(), strides, 0))
    }),
    gpu: None,
};

static BROADCAST_TO: Op = Op {
    name: "broadcast_to",
    group: Group::Shape,
    doc: "Dimensions of size 1, and new ones in front, repeated to the sizes given. A view. `x: [..] → shape`.",
    params: &[required("x", Kind::Tensor), required("shape", Kind::Ints)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        let target = args.ints(1)?;
        target.iter().try_for_each(|&size| dimension(size).map(drop))?;
        if target.len() < sizes.len() {
            let expected = "no more dimensions than the shape it is broadcast to";
            return Err(OpError::Rank { operand: "x", expected, found: sizes.len() });
        }
        // Broadcasting both ways gives the target again, unless the target would have to grow.
        let joined = broadcast(sizes, target)?;
        for (&joined, &target) in joined.iter().zip(target) {
            same("the shape does not broadcast", joined, target)?;
        }
        Ok(TensorType::new(dtype, target))
    },
    kernel: OpKernel::View(|source, _, layout| {
        let strides = broadcast_strides(source.shape(), source.strides(), layout.shape());
        Some(source.view(layout.shape().clone(), strides, 0))
    }),
    gpu: None,
};

/// The bounds of a slice as indices from the start; negative ones count from the end. Both must lie within the
/// dimension.
fn bounds(size: i64, start: i64, end: i64) -> Result<(i64, i64), OpError> {
    let from_start = |index: i64| if index < 0 { index.saturating_add(size) } else { index };
    let (first, last) = (from_start(start), from_start(end));
    if !(0..=size).contains(&first) {
        return Err(OpError::Index { index: Size::Known(start), size: Size::Known(size) });
    }
    if !(0..=size).contains(&last) {
        return Err(OpError::Index { index: Size::Known(end), size: Size::Known(size) });
    }
    if last < first {
        return Err(OpError::Value { operand: "end", expected: "no smaller than start", found: end as f64 });
    }
    Ok((first, last))
}

static SLICE: Op = Op {
    name: "slice",
    group: Group::Shape,
    doc: "The part of dimension `dim` from `start` up to but not including `end`; written `x[start..end]` for the first \
          dimension. Negative numbers count from the end. A view. `x: [.., n, ..] → [.., end - start, ..]`.",
    params: &[
        required("x", Kind::Weight),
        required("dim", Kind::Int),
        required("start", Kind::Int),
        required("end", Kind::Int),
    ],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        let axis = args.axis(1, sizes.len())?;
        if axis + 1 == sizes.len() {
            refuse_blocks(dtype)?;
        }
        let mut result = Sizes::from_slice(sizes);
        result[axis] = match (sizes[axis], args.int(2), args.int(3)) {
            (Size::Known(size), Size::Known(start), Size::Known(end)) => {
                bounds(size, start, end).map(|(first, last)| Size::Known(last - first))?
            }
            (size, start, end) => size.part(start, end).ok_or(OpError::Part { start, end, size })?,
        };
        Ok(TensorType::new(dtype, result))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let axis = axis(args, 1, source.shape().len())?;
        let (first, _) = bounds(source.shape()[axis] as i64, int(args, 2)?, int(args, 3)?).ok()?;
        narrowed(source, layout, axis, first)
    }),
    gpu: None,
};

/// Whether a view can take part of this dimension: not along the blocks of a weight.
fn is_divisible(source: &DynTensor, axis: usize) -> bool {
    source.dtype().block_elems() == 1 || source.strides()[axis].is_multiple_of(source.dtype().block_elems())
}

/// The view that starts at index `first` of `axis`.
fn narrowed(source: &DynTensor, layout: &Layout, axis: usize, first: i64) -> Option<DynTensor> {
    if !is_divisible(source, axis) {
        return None;
    }
    let offset = source.strides()[axis] * usize::try_from(first).ok()?;
    Some(source.view(layout.shape().clone(), source.strides().into(), offset))
}

static SLICE_LAST: Op = Op {
    name: "slice_last",
    group: Group::Shape,
    doc: "The last position along `dim`, as a dimension of size 1. A view. `x: [.., n, ..] → [.., 1, ..]`.",
    params: &[required("x", Kind::Tensor), required("dim", Kind::Int)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        let axis = args.axis(1, sizes.len())?;
        if sizes[axis] == Size::Known(0) {
            return Err(OpError::Index { index: Size::Known(-1), size: Size::Known(0) });
        }
        let mut sizes = Sizes::from_slice(sizes);
        sizes[axis] = Size::Known(1);
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let axis = axis(args, 1, source.shape().len())?;
        narrowed(source, layout, axis, source.shape()[axis] as i64 - 1)
    }),
    gpu: None,
};

fn index_in(size: Size, index: Size) -> Result<(), OpError> {
    if size.excludes(index) { Err(OpError::Index { index, size }) } else { Ok(()) }
}

static SELECT: Op = Op {
    name: "select",
    group: Group::Shape,
    doc: "The position `index` of dimension `dim`, without that dimension; written `x[index]` for the first one. A negative \
          index counts from the end. A view. `x: [.., n, ..] → [.., ..]`.",
    params: &[required("x", Kind::Weight), required("dim", Kind::Int), required("index", Kind::Int)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        let axis = args.axis(1, sizes.len())?;
        if axis + 1 == sizes.len() {
            refuse_blocks(dtype)?;
        }
        index_in(sizes[axis], args.int(2))?;
        let mut sizes = Sizes::from_slice(sizes);
        sizes.remove(axis);
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::View(|source, args, layout| {
        let axis = axis(args, 1, source.shape().len())?;
        let index = int(args, 2).filter(|_| is_divisible(source, axis))?;
        let index = if index < 0 { index + source.shape()[axis] as i64 } else { index };
        let offset = source.strides()[axis] * usize::try_from(index).ok()?;
        let mut strides: Strides = source.strides().into();
        strides.remove(axis);
        Some(source.view(layout.shape().clone(), strides, offset))
    }),
    gpu: None,
};

impl<T> Tensor<T> {
    /// Two dimensions swapped; negative numbers count from the end.
    pub fn transpose(&self, a: isize, b: isize) -> Result<Tensor<T>, Error> {
        self.apply(&TRANSPOSE, &[Arg::Int(a as i64), Arg::Int(b as i64)])
    }

    /// The dimensions in another order.
    pub fn permute(&self, dims: &[i64]) -> Result<Tensor<T>, Error> {
        self.apply(&PERMUTE, &[Arg::Ints(dims)])
    }

    /// Without a dimension of size 1.
    pub fn squeeze(&self, dim: isize) -> Result<Tensor<T>, Error> {
        self.apply(&SQUEEZE, &[Arg::Int(dim as i64)])
    }

    /// With a new dimension of size 1.
    pub fn unsqueeze(&self, dim: isize) -> Result<Tensor<T>, Error> {
        self.apply(&UNSQUEEZE, &[Arg::Int(dim as i64)])
    }

    /// Repeated to a larger shape.
    pub fn broadcast_to(&self, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        let ints: smallvec::SmallVec<[i64; 6]> = shape.into().iter().map(|&dim| dim as i64).collect();
        self.apply(&BROADCAST_TO, &[Arg::Ints(&ints)])
    }

    /// The part of a dimension from `start` up to `end`.
    pub fn slice(&self, dim: isize, start: usize, end: usize) -> Result<Tensor<T>, Error> {
        self.apply(&SLICE, &[Arg::Int(dim as i64), Arg::Int(start as i64), Arg::Int(end as i64)])
    }

    /// The last position of a dimension, which stays with size 1.
    pub fn slice_last(&self, dim: isize) -> Result<Tensor<T>, Error> {
        self.apply(&SLICE_LAST, &[Arg::Int(dim as i64)])
    }

    /// One position of a dimension, without that dimension.
    pub fn select(&self, dim: isize, index: isize) -> Result<Tensor<T>, Error> {
        self.apply(&SELECT, &[Arg::Int(dim as i64), Arg::Int(index as i64)])
    }
}
