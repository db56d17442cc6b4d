//! Tensors joined along a dimension.

use tl_device::{Binding, DType, Lease};

use super::gpu::{self, Immediates, ShaderVariant, WORKGROUP, Wgsl};
use super::rule::{Size, Sizes, TensorType, normalize_axis, same};
use super::{Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, Operand, optional, required};
use crate::{Error, OpError, Tensor};

pub(super) static OPS: &[&Op] = &[&CONCAT];

static CONCAT: Op = Op {
    name: "concat",
    group: Group::Shape,
    doc: "The tensors one after the other along `dim`, the first one unless given; all other sizes must be equal. \
          `[[.., a, ..], [.., b, ..]] → [.., a + b, ..]`.",
    params: &[required("tensors", Kind::Tensors), optional("dim", Kind::Int, DefaultValue::Int(0))],
    rule: |args| {
        let tensors = args.tensors(0)?;
        let Some(first) = tensors.first() else {
            return Err(OpError::Value { operand: "the number of tensors", expected: "1 or more", found: 0.0 });
        };
        let mut dtype = first.dtype;
        let mut sizes: Sizes = first.sizes.clone().ok_or(OpError::Unknown)?;
        let axis = args.axis(1, sizes.len())?;
        for tensor in &tensors[1..] {
            if let (Some(left), Some(right)) = (dtype, tensor.dtype)
                && left != right
            {
                return Err(OpError::Mixed { left, right });
            }
            dtype = dtype.or(tensor.dtype);
            let other = tensor.sizes.as_ref().ok_or(OpError::Unknown)?;
            if other.len() != sizes.len() {
                let expected = "as many dimensions as the first";
                return Err(OpError::Rank { operand: "every tensor", expected, found: other.len() });
            }
            for (i, (size, &other)) in sizes.iter_mut().zip(other).enumerate() {
                *size = match (*size, other) {
                    (Size::Known(a), Size::Known(b)) if i == axis => Size::Known(a.saturating_add(b)),
                    _ if i == axis => Size::Unknown,
                    (size, other) => same("the other sizes differ", size, other)?,
                };
            }
        }
        if let Some(found) = dtype.filter(|dtype| dtype.block_elems() > 1) {
            return Err(OpError::DType {
                operand: "every tensor",
                expected: "an activation (cast the weight first)",
                found,
            });
        }
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Kernel(concat),
    gpu: Some(concat_gpu),
};

fn concat(call: &mut Call) -> Result<(), OpError> {
    let Arg::Tensors(tensors) = call.arg(0) else { return Err(OpError::Unknown) };
    let axis = normalize_axis(call.int(1)?, call.dims.len())?;
    let size = call.dtype.block_bytes();
    let outer: usize = call.dims[..axis].iter().product();
    // Bytes of one index of the dimensions before `axis`, in the result and in each part.
    let stride = call.dims[axis..].iter().product::<usize>() * size;
    let mut start = 0;
    for tensor in *tensors {
        let operand = tensor.raw().operand();
        let len = operand.dims[axis..].iter().product::<usize>() * size;
        // The part is copied piece by piece, each a view without the dimensions before `axis`.
        let (outer_dims, outer_strides) = (&operand.dims[..axis], &operand.strides[..axis]);
        let mut result = Ok(());
        let (threads, dtype) = (call.threads, call.dtype);
        let out = &mut *call.out;
        super::access::for_each_index(outer_dims, [outer_strides], |i, [at]| {
            let piece = Operand {
                dtype,
                binding: None,
                offset: 0,
                is_weight: false,
                bytes: operand.bytes.get(at * size..).unwrap_or_default(),
                dims: &operand.dims[axis..],
                strides: &operand.strides[axis..],
                repeat: None,
            };
            if let Some(out) = out.get_mut(i * stride + start..i * stride + start + len)
                && let Err(error) = super::cast::copy_into(threads.isa(), &piece, dtype, out)
            {
                result = Err(error);
            }
        });
        result?;
        debug_assert!(outer == 0 || start + len <= stride);
        start += len;
    }
    Ok(())
}

/// Where a part goes: of every `block` elements of the result, `len` from `first` on are the part's. `whole` is what the
/// program looks at: from element 0, unless the part is in one piece.
struct Target {
    block: usize,
    first: usize,
    len: usize,
    n_out: usize,
}

/// Copies an operand into its places of a tensor and leaves the others as they are.
fn place(lease: &mut Lease, dtype: DType, x: &Operand, target: &Target) -> Result<Dispatch, OpError> {
    let Some((dims, [strides])) = gpu::collapse(x.dims, [x.strides]).filter(|_| x.fits_u32()) else {
        return Ok(Dispatch::Unsupported);
    };
    let is_plain = |dtype: DType| dtype.is_float();
    if x.dtype != dtype && !(is_plain(x.dtype) && is_plain(dtype)) || target.n_out > u32::MAX as usize {
        return Ok(Dispatch::Unsupported);
    }
    let source = |wgsl: Wgsl| {
        wgsl.read("x", x.dtype)
            .write("out", dtype)
            .params(
                "dims: vec4<u32>, strides: vec4<u32>, offset: u32, block: u32, first: u32, len: u32, start: u32, end: u32",
            )
            .text(gpu::INDEX)
            .main(
                WORKGROUP,
                "let four = p.start / 4u + group * 256u + lane;
    if four * 4u >= p.end { return; }
    var v = load4_out(four);
    for (var k = 0u; k < 4u; k++) {
        let i = four * 4u + k;
        let row = i / p.block;
        let column = i - row * p.block;
        if i < p.end && column >= p.first && column < p.first + p.len {
            v[k] = load_x(p.offset + index(row * p.len + column - p.first, p.dims, p.strides));
        }
    }
    store4_out(four, v);",
            )
    };
    let dtypes = [x.dtype, dtype];
    let shader = ShaderVariant { name: "place", dtypes: &dtypes, flags: 0, reports_faults: false, source: &source };
    let at = x.place()?;
    let is_one_piece = target.block >= target.n_out;
    let (start, end) = if is_one_piece { (target.first, target.first + target.len) } else { (0, target.n_out) };
    let mut words = Immediates::new();
    words.extend_from_slice(&dims);
    words.extend_from_slice(&strides);
    let numbers = [at.offset as usize, target.block.max(1), target.first, target.len, start, end];
    words.extend(numbers.iter().map(|&number| number as u32));
    let groups = (end.div_ceil(4) - start / 4).div_ceil(WORKGROUP as usize);
    if end == start {
        return Ok(Dispatch::Launched);
    }
    let device = lease.device().clone();
    gpu::launch(&device, &shader, &[at.binding], &[Binding::write(lease)], &words, groups)
}

fn concat_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let Arg::Tensors(tensors) = call.arg(0) else { return Err(OpError::Unknown) };
    let axis = normalize_axis(call.int(1)?, call.dims.len())?;
    let (dtype, n_out) = (call.dtype, call.n_out());
    let block: usize = call.dims[axis..].iter().product();
    let Some(lease) = call.lease.as_deref_mut() else { return Ok(Dispatch::Unsupported) };
    let mut first = 0;
    for tensor in *tensors {
        let operand = tensor.raw().operand();
        let len = operand.dims[axis..].iter().product::<usize>();
        let target = Target { block, first, len, n_out };
        if place(lease, dtype, &operand, &target)? == Dispatch::Unsupported {
            return Ok(Dispatch::Unsupported);
        }
        first += len;
    }
    Ok(Dispatch::Launched)
}

/// Copies an operand to the elements from `first` on, converting between float types.
pub(crate) fn write_rows(lease: &mut Lease, dtype: DType, first: usize, x: &Operand) -> Result<(), OpError> {
    let n_out = lease.len_bytes() / dtype.block_bytes();
    let target = Target { block: n_out, first, len: x.n_elems(), n_out };
    match place(lease, dtype, x, &target)? {
        Dispatch::Launched => Ok(()),
        Dispatch::Unsupported => {
            Err(OpError::DType { operand: "rows", expected: "of the cache's type", found: x.dtype })
        }
    }
}

/// Moves `n` words from word `start` on to the front. One binding is read and written, so no launch may write a word that it
/// reads: one launch moves at most `start` words, and the next one goes on. With `n` 0 there is one launch, which makes the program
/// before it is needed.
pub(crate) fn move_to_front(lease: &mut Lease, start: usize, n: usize) -> Result<(), OpError> {
    let source = |wgsl: Wgsl| {
        wgsl.write_words("out").params("source: u32, target_word: u32, n: u32").main(
            WORKGROUP,
            "let i = group * 256u + lane;
    if i < p.n { out_data[p.target_word + i] = out_data[p.source + i]; }",
        )
    };
    let shader = ShaderVariant { name: "move", dtypes: &[], flags: 0, reports_faults: false, source: &source };
    let device = lease.device().clone();
    let mut done = 0;
    loop {
        let len = start.min(n - done);
        let words = [start + done, done, len].map(|number| number as u32);
        let groups = len.div_ceil(WORKGROUP as usize).max(1);
        gpu::launch(&device, &shader, &[], &[Binding::write(lease)], &words, groups)?;
        done += len;
        if len == 0 || done == n {
            return Ok(());
        }
    }
}

impl Tensor {
    /// The tensors one after the other along a dimension.
    ///
    /// # Errors
    /// [`Error::Op`] where the other sizes or the types differ, or there is no tensor.
    pub fn concat(tensors: &[Tensor], dim: isize) -> Result<Tensor, Error> {
        let Some(first) = tensors.first() else {
            let error = OpError::Value { operand: "the number of tensors", expected: "1 or more", found: 0.0 };
            return Err(Error::Op { op: "concat", operands: Vec::new(), error });
        };
        super::apply(&CONCAT, first.device(), &[Arg::Tensors(tensors), Arg::Int(dim as i64)]).map(Tensor::from_raw)
    }
}
