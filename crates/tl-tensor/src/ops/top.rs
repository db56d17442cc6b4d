//! `topk` and `argtopk`: the largest elements along a dimension.

use tl_device::DType;

use super::along_last::{by_last, last_size};
use super::sort::{ordered, with_ordered};
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl, scalar_of};
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, Param, RuleArgs, TensorType, optional, required,
};
use crate::size::{Size, Sizes};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&TOPK, &ARGTOPK];

static PARAMS: &[Param] =
    &[required("x", Kind::Tensor), required("k", Kind::Int), optional("dim", Kind::Int, DefaultValue::Int(-1))];

static TOPK: Op = Op {
    name: "topk",
    group: Group::Reduce,
    doc: "The `k` largest elements along a dimension, the last one unless given, the largest first; NaN before everything. \
          `x: [.., n, ..] → [.., k, ..]`.",
    params: PARAMS,
    rule,
    kernel: OpKernel::Composed { compose: by_last::<2>, must_copy: |_, _| true, kernel: topk },
    gpu: Some(|call| top_gpu(call, "topk")),
};

static ARGTOPK: Op = Op {
    name: "argtopk",
    group: Group::Reduce,
    doc: "The places of the `k` largest elements along a dimension, the last one unless given, the largest first; of equals the \
          first ones, and NaN before everything. `x: [.., n, ..] → int32[.., k, ..]`.",
    params: PARAMS,
    rule: |args| Ok(TensorType { dtype: Some(DType::I32), ..rule(args)? }),
    kernel: OpKernel::Composed { compose: by_last::<2>, must_copy: |_, _| true, kernel: argtopk },
    gpu: Some(|call| top_gpu(call, "argtopk")),
};

fn topk(call: &mut Call) -> Result<(), OpError> {
    let (x, n_and_k, threads) = (call.operand(0)?, n_and_k(call)?, call.threads);
    with_ordered!(x.dtype, T => {
        tl_kernels::top::<T>(threads, x.slice()?, n_and_k, call.out()?);
        Ok(())
    })
}

fn argtopk(call: &mut Call) -> Result<(), OpError> {
    let (x, n_and_k, threads) = (call.operand(0)?, n_and_k(call)?, call.threads);
    with_ordered!(x.dtype, T => {
        tl_kernels::top_places::<T>(threads, x.slice()?, n_and_k, call.out()?);
        Ok(())
    })
}

fn rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (x, dtype) = args.tensor(0)?;
    ordered(dtype)?;
    let axis = args.axis(2, x.len())?;
    let mut sizes = Sizes::from_slice(x);
    let n = std::mem::replace(&mut sizes[axis], args.int(1));
    // Indices are `int32`.
    if let Size::Known(n) = n
        && n > i64::from(i32::MAX)
    {
        return Err(OpError::Value { operand: "the dimension", expected: "less than 2^31", found: n as f64 });
    }
    if let Size::Known(k) = args.int(1)
        && (k < 0 || n.known().is_some_and(|n| k > n))
    {
        let expected = "0 or more and no more than the dimension's size";
        return Err(OpError::Value { operand: "k", expected, found: k as f64 });
    }
    Ok(TensorType::new(dtype, sizes))
}

/// Sizes of the last dimension, of the operand and of the result.
fn n_and_k(call: &Call) -> Result<[usize; 2], OpError> {
    Ok([last_size(call, 2)?, call.dims.last().copied().unwrap_or(0)])
}

/// The longest row that has a program, because each element of a result reads all of it.
const MAX_ROW: usize = 4096;

/// Integers in the order of the elements: equal for both zeros, the largest for NaN.
const RANK: &str = "
fn rank(x: f32) -> u32 {
    let bits = select(bitcast<u32>(x), 0u, x == 0.0);
    if (bits & 0x7fffffffu) > 0x7f800000u { return 0xffffffffu; }
    return select(bits | 0x80000000u, ~bits, bits >> 31u == 1u);
}";

/// Each invocation computes four elements of the result, each the best after the one before.
const NEXT: &str = "let four = group * 256u + lane;
    if four * 4u >= p.n_out { return; }
    var v: vec4<KIND>;
    var found = 0u;
    var last = 0u;
    var place = 0u;
    for (var e = 0u; e < 4u; e++) {
        let at = four * 4u + e;
        if at >= p.n_out { break; }
        let start = p.offset + at / p.k * p.n;
        let wanted = at % p.k;
        if e == 0u || wanted == 0u { found = 0u; }
        for (; found <= wanted; found++) {
            var best = 0u;
            var best_place = 0xffffffffu;
            for (var i = 0u; i < p.n; i++) {
                let own = rank(load_x(start + i));
                let is_behind = found == 0u || own < last || (own == last && i > place);
                if is_behind && (best_place == 0xffffffffu || own > best) {
                    best = own;
                    best_place = i;
                }
            }
            last = best;
            place = best_place;
        }
        v[e] = VALUE;
    }
    store4_out(four, v);";

fn top_gpu(call: &mut Call, name: &'static str) -> Result<Dispatch, OpError> {
    let (x, [n, k], n_out) = (call.operand(0)?, n_and_k(call)?, call.n_out());
    if x.dtype == DType::I32 || n > MAX_ROW || !x.fits_u32() || n_out > u32::MAX as usize / 8 {
        return Ok(Dispatch::Unsupported);
    }
    let (from, to) = (x.dtype, call.dtype);
    let value = if to == DType::I32 { "i32(place)" } else { "load_x(start + place)" };
    let source = |wgsl: Wgsl| {
        let body = NEXT.replace("KIND", scalar_of(to)).replace("VALUE", value);
        wgsl.read("x", from)
            .write("out", to)
            .params("n: u32, k: u32, n_out: u32, offset: u32")
            .text(RANK)
            .main(WORKGROUP, &body)
    };
    let shader = ShaderVariant { name, dtypes: &[from, to], flags: 0, reports_faults: false, source: &source };
    let place = x.on_gpu()?;
    let words = Immediates::from_slice(&[n as u32, k as u32, n_out as u32, place.offset]);
    call.launch(&shader, &[place.binding], &words, n_out.div_ceil(4 * WORKGROUP as usize))
}

impl<T> Tensor<T> {
    /// The `k` largest elements of the last dimension: see the operation `topk`.
    ///
    /// # Errors
    /// [`Error::Op`] where there are fewer.
    pub fn topk(&self, k: usize) -> Result<Tensor<T>, Error> {
        self.apply(&TOPK, &[Arg::Int(k as i64)])
    }

    /// The indices of the `k` largest elements of the last dimension: see the operation `argtopk`.
    ///
    /// # Errors
    /// [`Error::Op`] where there are fewer.
    pub fn argtopk(&self, k: usize) -> Result<Tensor<i32>, Error> {
        self.apply(&ARGTOPK, &[Arg::Int(k as i64)])
    }
}
