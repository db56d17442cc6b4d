//! `reshape` and `flatten`: views where strides can express them, else copies.

use tl_device::Shape;

use super::view::refuse_blocks;
use crate::op::{Arg, Group, Kind, Op, OpKernel, TensorType, required};
use crate::size::{Size, Sizes};
use crate::strides::{Repeat, Strides, contiguous_strides};
use crate::tensor::{DynTensor, Tensor};
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&RESHAPE, &FLATTEN];

static RESHAPE: Op = Op {
    name: "reshape",
    group: Group::Shape,
    doc: "The same elements in the same order with other dimensions; one of them may be -1 and is then what remains. A \
          view where the strides allow it, else a copy. `x: [..] → shape`.",
    params: &[required("x", Kind::Tensor), required("shape", Kind::Ints)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        Ok(TensorType::new(dtype, reshaped(sizes, args.ints(1)?)?))
    },
    kernel: OpKernel::View(|source, _, layout| reshape_view(source, layout.shape().clone())),
    gpu: None,
};

fn product(sizes: &[Size]) -> Size {
    if sizes.contains(&Size::Known(0)) {
        return Size::Known(0);
    }
    sizes.iter().fold(Size::Known(1), |n, &size| n.times(size))
}

fn reshaped(from: &[Size], to: &[Size]) -> Result<Sizes, OpError> {
    if let Some(&Size::Known(n)) = to.iter().find(|size| matches!(size, Size::Known(n) if *n < -1)) {
        return Err(OpError::Value {
            operand: "a dimension",
            expected: "0 or more, or one of them -1",
            found: n as f64,
        });
    }
    let to: Sizes = to.iter().map(|size| size.in_shape()).collect();
    let total = product(from);
    let holes = to.iter().filter(|&&size| size == Size::Known(-1)).count();
    if holes > 1 {
        return Err(OpError::Value { operand: "-1", expected: "given once", found: holes as f64 });
    }
    let rest: Sizes = to.iter().copied().filter(|&size| size != Size::Known(-1)).collect();
    let given = product(&rest);
    if holes == 0 {
        return match (total, given) {
            (from, to) if from.equals(to) == Some(false) => Err(OpError::Elements { from, to }),
            _ => Ok(to),
        };
    }
    let hole = match (total, given) {
        (_, Size::Known(0)) => {
            let expected = "absent where another dimension is 0, because any size would do";
            return Err(OpError::Value { operand: "-1", expected, found: -1.0 });
        }
        (from, to) if from.remainder(to).known().is_some_and(|rest| rest != 0) => {
            return Err(OpError::Elements { from, to });
        }
        (from, to) => from.quotient(to),
    };
    Ok(to.iter().map(|&size| if size == Size::Known(-1) { hole } else { size }).collect())
}

/// A view with other dimensions, where each new dimension lies within a contiguous run of old ones; one of them may
/// repeat each element of such a run.
fn reshape_view(source: &DynTensor, shape: Shape) -> Option<DynTensor> {
    if source.is_contiguous() {
        let strides = contiguous_strides(&shape);
        return Some(source.view(shape, strides, 0));
    }
    let mut runs = Runs { dims: source.shape(), strides: source.strides(), remaining: 1, stride: 1 };
    let mut strides: Strides = Strides::from_elem(1, shape.len());
    let mut repeat = None;
    for axis in (0..shape.len()).rev().filter(|&axis| shape[axis] != 1) {
        runs.fill();
        let mut size = shape[axis];
        if runs.stride == 0 && runs.remaining > 1 && size > runs.remaining && size.is_multiple_of(runs.remaining) {
            // The rest of the run repeats the dimension before it.
            let times = std::mem::replace(&mut runs.remaining, 1);
            if repeat.replace(Repeat::new(axis, times)?).is_some() {
                return None;
            }
            size /= times;
            runs.fill();
        }
        strides[axis] = runs.take(size)?;
    }
    Some(source.view_with_repeat(shape, strides, 0, repeat))
}

/// The dimensions from the last to the first, as contiguous runs.
struct Runs<'a> {
    /// The dimensions before the run.
    dims: &'a [usize],
    strides: &'a [usize],
    /// Elements of the run not yet taken.
    remaining: usize,
    /// The stride of these elements.
    stride: usize,
}

impl Runs<'_> {
    /// Extends the run by the dimensions that continue it, or starts the next run where this one is used up.
    fn fill(&mut self) {
        while let ([dims @ .., dim], [strides @ .., stride]) = (self.dims, self.strides) {
            if self.remaining == 1 {
                self.stride = *stride;
            } else if *dim != 1 && *stride != self.remaining * self.stride {
                return;
            }
            self.remaining *= dim;
            (self.dims, self.strides) = (dims, strides);
        }
    }

    /// Takes a new dimension of this size from the run; returns its stride.
    fn take(&mut self, size: usize) -> Option<usize> {
        if !self.remaining.is_multiple_of(size) {
            return None;
        }
        let stride = self.stride;
        self.stride *= size;
        self.remaining /= size;
        Some(stride)
    }
}

static FLATTEN: Op = Op {
    name: "flatten",
    group: Group::Shape,
    doc: "All elements in one dimension. `x: [..] → [n]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        refuse_blocks(dtype)?;
        Ok(TensorType::new(dtype, [product(sizes)].as_slice()))
    },
    kernel: OpKernel::View(|source, _, layout| reshape_view(source, layout.shape().clone())),
    gpu: None,
};

impl<T> Tensor<T> {
    /// The same elements with other dimensions: see the operation `reshape`.
    ///
    /// # Errors
    /// [`Error::Op`] where the number of elements would change.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        let ints: smallvec::SmallVec<[i64; 6]> = shape.into().iter().map(|&dim| dim as i64).collect();
        self.apply(&RESHAPE, &[Arg::Ints(&ints)])
    }

    /// All elements in one dimension.
    pub fn flatten(&self) -> Result<Tensor<T>, Error> {
        self.apply(&FLATTEN, &[])
    }
}
