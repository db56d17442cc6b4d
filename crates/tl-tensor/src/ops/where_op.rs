//! `where`: elements of one tensor or another.

use smallvec::SmallVec;
use tl_device::{Binding, DType};

use super::elementwise::refuse_blocks;
use crate::cpu::elements::{Reader, for_each_index, write};
use crate::gpu::indexing::{INDEX, collapse};
use crate::gpu::map::{element, elements_body, groups};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use crate::op::rule::broadcast;
use crate::op::{Call, Dispatch, Group, Kind, Op, OpKernel, TensorType, required};
use crate::operand::OperandOrNumber;
use crate::size::Sizes;
use crate::strides::broadcast_strides;
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&WHERE];

static WHERE: Op = Op {
    name: "where",
    group: Group::Elementwise,
    doc: "`a` where the condition is true, `b` elsewhere; all three broadcast. `c: bool[..], a, b: [..] → [..]`.",
    params: &[required("c", Kind::Tensor), required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
    rule: |args| {
        let (condition, dtype) = args.tensor(0)?;
        if let Some(found) = dtype.filter(|&dtype| dtype != DType::Bool) {
            return Err(OpError::DType { operand: "c", expected: "bool", found });
        }
        let dtype = args.common_dtype(&[1, 2])?;
        refuse_blocks("an operand", dtype)?;
        let mut sizes = Sizes::from_slice(condition);
        let mut has_tensor = false;
        for index in [1, 2] {
            if args.is_tensor(index) {
                has_tensor = true;
                sizes = broadcast(&sizes, args.tensor(index)?.0)?;
            }
        }
        Ok(TensorType::new(dtype.or(if has_tensor { None } else { Some(DType::F16) }), sizes))
    },
    kernel: OpKernel::Strided(|call| {
        let condition = call.operand(0)?;
        let (a, b) = (call.operand_or_number(1)?, call.operand_or_number(2)?);
        let strides = broadcast_strides(condition.dims, condition.strides, call.dims);
        let (a_strides, b_strides) = (a.strides(call.dims), b.strides(call.dims));
        let (condition, a, b) = (Reader::new(&condition)?, Reader::of(&a)?, Reader::of(&b)?);
        let (dtype, out) = (call.dtype, &mut *call.out);
        for_each_index(call.dims, [&strides, &a_strides, &b_strides], |i, [at, at_a, at_b]| {
            write(dtype, out, i, if condition.at(at) != 0.0 { a.at(at_a) } else { b.at(at_b) });
        });
        Ok(())
    }),
    gpu: Some(where_gpu),
};

/// `a` where the condition holds, else `b`.
fn where_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let condition = call.operand(0)?;
    let (a, b) = (call.operand_or_number(1)?, call.operand_or_number(2)?);
    let (dims, dtype) = (call.dims, call.dtype);
    let c_strides = broadcast_strides(condition.dims, condition.strides, dims);
    let (a_strides, b_strides) = (a.strides(dims), b.strides(dims));
    let Some((dims4, strides)) = collapse(dims, [&c_strides, &a_strides, &b_strides]) else {
        return Ok(Dispatch::Unsupported);
    };
    if !dtype.is_float() || !condition.fits_u32() {
        return Ok(Dispatch::Unsupported);
    }
    let is_number = [matches!(a, OperandOrNumber::Number(_)), matches!(b, OperandOrNumber::Number(_))];
    let source = |mut wgsl: Wgsl| {
        wgsl = wgsl.read("c", DType::Bool);
        for (name, is_number) in ["a", "b"].into_iter().zip(is_number) {
            if !is_number {
                wgsl = wgsl.read(name, dtype);
            }
        }
        let (a, b) = (element("a", is_number[0], false), element("b", is_number[1], false));
        let condition = "load_c(p.c_offset + index(i, p.dims, p.c_strides))";
        wgsl.write("out", dtype)
            .params(
                "dims: vec4<u32>, c_strides: vec4<u32>, a_strides: vec4<u32>, b_strides: vec4<u32>, n: u32, c_offset: u32,
                 a_offset: u32, b_offset: u32, a_number: f32, b_number: f32",
            )
            .text(INDEX)
            .main(WORKGROUP, &elements_body(dtype, &format!("v[k] = select({b}, {a}, {condition});")))
    };
    let dtypes = [dtype];
    let flags = u32::from(is_number[0]) << 1 | u32::from(is_number[1]);
    let shader = ShaderVariant { name: "where", dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut words = Immediates::new();
    words.extend_from_slice(&dims4);
    strides.iter().for_each(|strides| words.extend_from_slice(strides));
    let place = condition.on_gpu()?;
    let mut reads: SmallVec<[Binding; 3]> = SmallVec::from_slice(&[place.binding]);
    let (mut offsets, mut numbers) = ([place.offset, 0, 0], [0; 2]);
    for (i, side) in [&a, &b].into_iter().enumerate() {
        match side {
            OperandOrNumber::Operand(operand) => {
                let place = operand.on_gpu()?;
                offsets[i + 1] = place.offset;
                reads.push(place.binding);
            }
            OperandOrNumber::Number(number) => numbers[i] = (*number as f32).to_bits(),
        }
    }
    let n = call.n_out();
    words.push(n as u32);
    words.extend_from_slice(&offsets);
    words.extend_from_slice(&numbers);
    call.launch(&shader, &reads, &words, groups(n))
}

impl Tensor<bool> {
    /// `a` where this is true, `b` elsewhere.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not broadcast or the types differ.
    pub fn choose<T>(&self, a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>, Error> {
        self.apply(&WHERE, &[a.into(), b.into()])
    }
}
