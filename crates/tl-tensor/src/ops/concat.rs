//! `concat`: tensors joined along a dimension.

use crate::cpu::convert::copy_into;
use crate::cpu::elements::for_each_index;
use crate::dispatch::apply;
use crate::gpu::partial_copy::{Destination, copy_part};
use crate::op::rule::{normalize_axis, same};
use crate::op::{Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, TensorType, optional, required};
use crate::operand::Operand;
use crate::size::Sizes;
use crate::tensor::Tensor;
use crate::{Error, OpError};

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
                    (size, other) if i == axis => size.plus(other),
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
    kernel: OpKernel::Strided(concat),
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
        let operand = tensor.as_dyn().operand();
        let len = operand.dims[axis..].iter().product::<usize>() * size;
        // The part is copied in pieces: views without the dimensions before `axis`.
        let (outer_dims, outer_strides) = (&operand.dims[..axis], &operand.strides[..axis]);
        let mut result = Ok(());
        let (threads, dtype) = (call.threads, call.dtype);
        let out = &mut *call.out;
        for_each_index(outer_dims, [outer_strides], |i, [at]| {
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
                && let Err(error) = copy_into(threads.isa(), &piece, dtype, out)
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

fn concat_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let Arg::Tensors(tensors) = call.arg(0) else { return Err(OpError::Unknown) };
    let axis = normalize_axis(call.int(1)?, call.dims.len())?;
    let (dtype, n_out) = (call.dtype, call.n_out());
    let block: usize = call.dims[axis..].iter().product();
    let Some(lease) = call.lease.as_deref_mut() else { return Ok(Dispatch::Unsupported) };
    let mut first = 0;
    for tensor in *tensors {
        let operand = tensor.as_dyn().operand();
        let len = operand.dims[axis..].iter().product::<usize>();
        let target = Destination { block, first, len, n_out };
        if copy_part(lease, dtype, &operand, &target)? == Dispatch::Unsupported {
            return Ok(Dispatch::Unsupported);
        }
        first += len;
    }
    Ok(Dispatch::Launched)
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
        apply(&CONCAT, first.device(), &[Arg::Tensors(tensors), Arg::Int(dim as i64)]).map(Tensor::from_dyn)
    }
}
