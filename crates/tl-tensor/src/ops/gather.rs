//! Elements by their index: `index_select`, `gather`, `scatter`.

use tl_device::DType;

use crate::cpu::convert::copy_into;
use crate::cpu::elements::{Reader, for_each_index, write};
use crate::gpu::indexing::{INDEX, collapse};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl, scalar_of};
use crate::op::rule::{normalize_axis, same};
use crate::op::{Arg, Call, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, required};
use crate::operand::Operand;
use crate::size::{Size, Sizes};
use crate::strides::{Strides, contiguous_strides};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&INDEX_SELECT, &GATHER, &SCATTER];

fn activation(dtype: Option<DType>) -> Result<(), OpError> {
    match dtype {
        Some(found @ DType::Block(_)) => {
            Err(OpError::DType { operand: "x", expected: "an activation (cast the weight first)", found })
        }
        _ => Ok(()),
    }
}

fn indices<'a>(args: &RuleArgs<'a>, index: usize) -> Result<&'a [Size], OpError> {
    let (sizes, dtype) = args.tensor(index)?;
    match dtype.filter(|&dtype| dtype != DType::I32) {
        Some(found) => Err(OpError::DType { operand: "index", expected: "int32", found }),
        None => Ok(sizes),
    }
}

/// An index counted from the end where it is negative.
fn checked(index: f64, size: usize) -> Result<usize, OpError> {
    let index = index as i64;
    let error = OpError::index(index, size);
    let from_start = if index < 0 { index + size as i64 } else { index };
    usize::try_from(from_start).ok().filter(|&n| n < size).ok_or(error)
}

static INDEX_SELECT: Op = Op {
    name: "index_select",
    group: Group::Shape,
    doc: "The positions of dimension `dim` that `index` names; its dimensions take the place of that one. \
          `x: [.., n, ..], index: int32[m..] → [.., m.., ..]`.",
    params: &[required("x", Kind::Tensor), required("dim", Kind::Int), required("index", Kind::Ids)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        activation(dtype)?;
        let axis = args.axis(1, sizes.len())?;
        args.ids_are_within(2, sizes[axis], true)?;
        let (before, index, after) = (&sizes[..axis], indices(args, 2)?, &sizes[axis + 1..]);
        Ok(TensorType::new(dtype, before.iter().chain(index).chain(after).copied().collect::<Sizes>()))
    },
    kernel: OpKernel::Strided(|call| {
        let picks = Picks::of_positions(call)?;
        pick(call, &picks)
    }),
    gpu: Some(|call| {
        let picks = Picks::of_positions(call)?;
        pick_gpu(call, &picks)
    }),
};

static GATHER: Op = Op {
    name: "gather",
    group: Group::Shape,
    doc: "Elements picked along `dim`: for `dim` 1 of a matrix, `result[i, j] = x[i, index[i, j]]`. `index` has as many \
          dimensions as `x` and, but for `dim`, is no larger. `x: [..], index: int32[..] → index's shape`.",
    params: &[required("x", Kind::Tensor), required("dim", Kind::Int), required("index", Kind::Tensor)],
    rule: |args| {
        let (sizes, dtype) = args.tensor(0)?;
        activation(dtype)?;
        let axis = args.axis(1, sizes.len())?;
        let index = indices(args, 2)?;
        fits(sizes, index, axis)?;
        Ok(TensorType::new(dtype, index))
    },
    kernel: OpKernel::Strided(|call| {
        let picks = Picks::of_elements(call)?;
        pick(call, &picks)
    }),
    gpu: Some(|call| {
        let picks = Picks::of_elements(call)?;
        pick_gpu(call, &picks)
    }),
};

fn fits(sizes: &[Size], index: &[Size], axis: usize) -> Result<(), OpError> {
    if index.len() != sizes.len() {
        return Err(OpError::Rank { operand: "index", expected: "as many dimensions as x", found: index.len() });
    }
    for (i, (&size, &own)) in sizes.iter().zip(index).enumerate() {
        if let (Size::Known(size), Size::Known(own)) = (size, own)
            && i != axis
            && own > size
        {
            let rule = "index is larger than x in a dimension other than dim";
            return Err(OpError::Sizes { rule, left: Size::Known(own), right: Size::Known(size) });
        }
    }
    Ok(())
}

/// Strides of a gather: element `i` of the result is `x` at `i · strides + step · index`, with the index, less than
/// `size`, at `i · places`.
struct Picks {
    strides: Strides,
    places: Strides,
    step: usize,
    size: usize,
}

impl Picks {
    /// One index for all elements of a position.
    fn of_positions(call: &Call) -> Result<Picks, OpError> {
        let (x, index) = (call.operand(0)?, call.operand(2)?);
        let axis = normalize_axis(call.int(1)?, x.dims.len())?;
        let around = |inner: &dyn Fn(usize) -> usize, outer: &dyn Fn(usize) -> usize| -> Strides {
            let inner = (0..index.dims.len()).map(inner);
            (0..axis).map(outer).chain(inner).chain((axis + 1..x.dims.len()).map(outer)).collect()
        };
        let strides = around(&|_| 0, &|axis| x.strides[axis]);
        let places = around(&|axis| index.strides[axis], &|_| 0);
        Ok(Picks { strides, places, step: x.strides[axis], size: x.dims[axis] })
    }

    /// One index for each element.
    fn of_elements(call: &Call) -> Result<Picks, OpError> {
        let (x, index) = (call.operand(0)?, call.operand(2)?);
        let axis = normalize_axis(call.int(1)?, x.dims.len())?;
        let mut strides = Strides::from_slice(x.strides);
        let step = std::mem::take(&mut strides[axis]);
        Ok(Picks { strides, places: Strides::from_slice(index.strides), step, size: x.dims[axis] })
    }
}

fn pick(call: &mut Call, picks: &Picks) -> Result<(), OpError> {
    let (x, index) = (Reader::new(&call.operand(0)?)?, Reader::new(&call.operand(2)?)?);
    let (dtype, out) = (call.dtype, &mut *call.out);
    let mut result = Ok(());
    for_each_index(call.dims, [&picks.strides, &picks.places], |i, [at, place]| {
        match checked(index.at(place), picks.size) {
            Ok(n) => write(dtype, out, i, x.at(at + n * picks.step)),
            Err(error) => result = Err(error),
        }
    });
    result
}

/// Each invocation computes four elements of the result.
const PICK: &str = "let four = group * 256u + lane;
    if four * 4u >= p.n { return; }
    var v: vec4<KIND>;
    for (var k = 0u; k < 4u; k++) {
        let i = four * 4u + k;
        if i >= p.n { break; }
        let named = load_index(p.index_offset + index(i, p.dims, p.places));
        let n = select(named, named + i32(p.size), named < 0);
        if n < 0 || n >= i32(p.size) {
            report(named, p.size);
        } else {
            v[k] = load_x(p.offset + index(i, p.dims, p.strides) + u32(n) * p.step);
        }
    }
    store4_out(four, v);";

fn pick_gpu(call: &mut Call, picks: &Picks) -> Result<Dispatch, OpError> {
    let (x, index) = (call.operand(0)?, call.operand(2)?);
    let collapsed = collapse(call.dims, [&picks.strides, &picks.places]);
    let is_small = |operand: &Operand| operand.fits_u32() && operand.dims.iter().all(|&dim| dim <= i32::MAX as usize);
    let Some((dims, [strides, places])) = collapsed.filter(|_| is_small(&x) && is_small(&index)) else {
        return Ok(Dispatch::Unsupported);
    };
    let (dtype, n) = (call.dtype, call.n_out());
    if n > u32::MAX as usize / 8 {
        return Ok(Dispatch::Unsupported);
    }
    let source = |wgsl: Wgsl| {
        wgsl.read("x", dtype)
            .read("index", DType::I32)
            .write("out", dtype)
            .faults()
            .params(
                "dims: vec4<u32>, strides: vec4<u32>, places: vec4<u32>, n: u32, offset: u32, index_offset: u32,
                 step: u32, size: u32",
            )
            .text(INDEX)
            .main(WORKGROUP, &PICK.replace("KIND", scalar_of(dtype)))
    };
    let (x, index) = (x.on_gpu()?, index.on_gpu()?);
    let shader = ShaderVariant { name: "pick", dtypes: &[dtype], flags: 0, reports_faults: true, source: &source };
    let mut words = Immediates::new();
    [dims, strides, places].iter().for_each(|four| words.extend_from_slice(four));
    words.extend([n, x.offset as usize, index.offset as usize, picks.step, picks.size].map(|number| number as u32));
    call.launch(&shader, &[x.binding, index.binding], &words, n.div_ceil(4 * WORKGROUP as usize))
}

static SCATTER: Op = Op {
    name: "scatter",
    group: Group::Shape,
    doc: "A copy of `x` with elements replaced along `dim`: for `dim` 1 of a matrix, `result[i, index[i, j]] = src[i, j]`; of \
          several that meet one place, the last one stays. `x: [..], index, src: int32[..], [..] → x's shape`.",
    params: &[
        required("x", Kind::Tensor),
        required("dim", Kind::Int),
        required("index", Kind::Tensor),
        required("src", Kind::Tensor),
    ],
    rule: |args| {
        let (sizes, _) = args.tensor(0)?;
        let dtype = args.common_dtype(&[0, 3])?;
        activation(dtype)?;
        let axis = args.axis(1, sizes.len())?;
        let index = indices(args, 2)?;
        fits(sizes, index, axis)?;
        let (src, _) = args.tensor(3)?;
        if src.len() != index.len() {
            return Err(OpError::Rank { operand: "src", expected: "as many dimensions as index", found: src.len() });
        }
        for (&a, &b) in index.iter().zip(src) {
            same("index and src differ", a, b)?;
        }
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Strided(|call| {
        let (x, index, src) = (call.operand(0)?, call.operand(2)?, call.operand(3)?);
        let axis = normalize_axis(call.int(1)?, x.dims.len())?;
        copy_into(call.threads.isa(), &x, call.dtype, call.out)?;
        let mut strides = contiguous_strides(call.dims);
        let step = std::mem::take(&mut strides[axis]);
        let (indices, values) = (Reader::new(&index)?, Reader::new(&src)?);
        let (dtype, out, size) = (call.dtype, &mut *call.out, x.dims[axis]);
        let mut result = Ok(());
        for_each_index(index.dims, [&strides, index.strides, src.strides], |_, [at, place, value]| {
            match checked(indices.at(place), size) {
                Ok(n) => write(dtype, out, at + n * step, values.at(value)),
                Err(error) => result = Err(error),
            }
        });
        result
    }),
    gpu: None,
};

impl<T> Tensor<T> {
    /// The positions of a dimension that `index` names.
    ///
    /// # Errors
    /// [`Error::Op`] where an index is out of range.
    pub fn index_select(&self, dim: isize, index: &Tensor<i32>) -> Result<Tensor<T>, Error> {
        self.apply(&INDEX_SELECT, &[Arg::Int(dim as i64), index.into()])
    }

    /// Elements gathered along a dimension: see the operation `gather`.
    ///
    /// # Errors
    /// [`Error::Op`] where an index is out of range.
    pub fn gather(&self, dim: isize, index: &Tensor<i32>) -> Result<Tensor<T>, Error> {
        self.apply(&GATHER, &[Arg::Int(dim as i64), index.into()])
    }

    /// A copy with elements replaced along a dimension: see the operation `scatter`.
    ///
    /// # Errors
    /// [`Error::Op`] where an index is out of range.
    pub fn scatter(&self, dim: isize, index: &Tensor<i32>, src: &Tensor<T>) -> Result<Tensor<T>, Error> {
        self.apply(&SCATTER, &[Arg::Int(dim as i64), index.into(), src.into()])
    }
}
