//! Attention in one pass.

use tl_device::DType;
use tl_kernels::{Element, Heads, Kept, Q8Block};

/// The largest head that there is attention for.
pub use tl_kernels::MAX_HEAD_DIM;

use super::attention_gpu;
use super::rule::{RuleArgs, Size, TensorType, same};
use super::{Arg, Call, Default, Group, Kind, Op, Operand, Ran, Run, optional, required, with_float};
use crate::{Error, Fault, Tensor};

pub(super) static OPS: &[&Op] = &[&ATTENTION];

static ATTENTION: Op = Op {
    name: "attention",
    group: Group::Transformer,
    doc: "`softmax(q kᵀ · scale) v` for each head, in one pass that never forms the scores (Milakov, Gimelshein, 2018; Dao et \
          al., 2022), in `float32`. Head `h` of `q` reads head `h / (heads / kv_heads)` of `k` and `v`. Causal: query `i` of `n` \
          sees the keys `j <= i + m - n` of `m`. `scale` is `1 / sqrt(d)` unless given. \
          `k` and `v` may be kept in another type than `q`, a float type or `q8_0`. \
          `q: [n, heads, d], k, v: [m, kv_heads, d] → [n, heads, d]`.",
    params: &[
        required("q", Kind::Tensor),
        required("k", Kind::Tensor),
        required("v", Kind::Tensor),
        optional("causal", Kind::Bool, Default::Bool(true)),
        optional("scale", Kind::Number, Default::Absent),
    ],
    rule,
    run: Run::RepeatKernel {
        must_copy,
        kernel: |call| {
            let operand = |index| call.operand_with_repeat(index).ok_or(Fault::Unknown);
            let (q, k, v) = (operand(0)?, operand(1)?, operand(2)?);
            let scale = scale(call, &q)?;
            with_float!(q.dtype, "q", T => match k.dtype {
                dtype if dtype == DType::Q8_0 => run::<T, Q8Block>(call, (&q, &k, &v), scale),
                dtype => with_float!(dtype, "k", C => run::<T, C>(call, (&q, &k, &v), scale)),
            })
        },
    },
    gpu: Some(|call| {
        let (q, k, v) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
        if ![&q, &k, &v].into_iter().all(has_whole_heads) || k.dtype == DType::Q8_0 {
            return Ok(Ran::NoProgram);
        }
        let (scale, is_causal) = (scale(call, &q)?, call.bool(3));
        attention_gpu::run(call, [&q, &k, &v], scale, is_causal)
    }),
};

/// The factor of the scores.
fn scale(call: &Call, q: &Operand) -> Result<f32, Fault> {
    let scale = match call.arg(4) {
        Arg::None => 1.0 / (q.dims[2] as f64).sqrt(),
        _ => call.number(4)?,
    };
    Ok(scale as f32)
}

/// The elements of a head must lie one after the other; tokens and heads may lie anywhere. Keys and values may repeat their
/// heads, both alike.
fn must_copy(args: &[Arg], index: usize) -> bool {
    let heads_of = |index: usize| match args.get(index) {
        Some(Arg::Tensor(raw)) => Some(own_heads(&raw.operand_with_repeat())),
        Some(Arg::Operand(operand)) => Some(own_heads(operand)),
        _ => None,
    };
    let Some(Arg::Tensor(raw)) = args.get(index) else { return false };
    let operand = raw.operand_with_repeat();
    let is_read_as_it_lies = match operand.repeat {
        None => true,
        Some(_) if index == 0 || raw.device().is_gpu() => false,
        Some(repeat) => repeat.axis() == HEADS && heads_of(1) == heads_of(2),
    };
    !is_read_as_it_lies || !has_whole_heads(&operand)
}

fn has_whole_heads(operand: &Operand) -> bool {
    operand.is_contiguous() || operand.strides.last() == Some(&1)
}

/// The dimension of an operand that counts heads.
const HEADS: usize = 1;

/// How many different heads keys or values have that stand several times in a row, one for each head of the queries that reads it.
fn own_heads(operand: &Operand) -> usize {
    match operand.repeat {
        Some(repeat) if repeat.axis() == HEADS => operand.dims[HEADS] / repeat.times(),
        _ if operand.strides[HEADS] == 0 => operand.dims[HEADS].min(1),
        _ => operand.dims[HEADS],
    }
}

fn rule(args: &RuleArgs) -> Result<TensorType, Fault> {
    let (q, q_dtype) = args.ranked(0, 3, "q", "3 dimensions, [n, heads, d]")?;
    let (k, k_dtype) = args.ranked(1, 3, "k", "3 dimensions, [m, kv_heads, d]")?;
    let (v, v_dtype) = args.ranked(2, 3, "v", "3 dimensions, [m, kv_heads, d]")?;
    if let Some(found) = q_dtype.filter(|dtype| !dtype.is_float()) {
        return Err(Fault::DType { operand: "q", expected: "float16 or float32 (cast it first)", found });
    }
    for (operand, dtype) in [("k", k_dtype), ("v", v_dtype)] {
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float() && *dtype != DType::Q8_0) {
            return Err(Fault::DType { operand, expected: "float16, float32 or q8_0 (cast it first)", found });
        }
    }
    // A cache may keep another type than the queries have; keys and values keep the same.
    if let (Some(left), Some(right)) = (k_dtype, v_dtype)
        && left != right
    {
        return Err(Fault::Mixed { left, right });
    }
    same("the keys and values have different lengths", k[0], v[0])?;
    same("the keys and values have different numbers of heads", k[1], v[1])?;
    same("the heads of queries and keys have different sizes", q[2], k[2])?;
    same("the heads of keys and values have different sizes", k[2], v[2])?;
    if let (Size::Known(heads), Size::Known(kv_heads)) = (q[1], k[1])
        && (kv_heads == 0 || heads % kv_heads != 0)
    {
        return Err(Fault::Sizes { rule: "the heads of q are no multiple of the heads of k", left: q[1], right: k[1] });
    }
    if let Size::Known(d) = q[2]
        && d > MAX_HEAD_DIM as i64
    {
        return Err(Fault::Value { operand: "the size of a head", expected: "1024 or less", found: d as f64 });
    }
    Ok(TensorType::new(q_dtype, q))
}

fn heads<'a, T: Kept>(operand: &Operand<'a>, n_heads: usize) -> Result<Heads<'a, T>, Fault> {
    let are_blocks_whole = operand.strides[..2].iter().all(|stride| stride.is_multiple_of(T::ELEMS));
    if !has_whole_heads(operand) || !are_blocks_whole {
        let expected = "contiguous within a head";
        return Err(Fault::DType { operand: "q, k and v", expected, found: operand.dtype });
    }
    Ok(Heads {
        data: operand.data()?,
        n_tokens: operand.dims[0],
        n_heads,
        token_stride: operand.strides[0],
        head_stride: operand.strides[1],
    })
}

fn run<T: Element, C: Kept>(
    call: &mut Call,
    (q, k, v): (&Operand, &Operand, &Operand),
    scale: f32,
) -> Result<(), Fault> {
    let (head_dim, causal, threads) = (q.dims[2], call.bool(3), call.threads);
    let kv_heads = if own_heads(k) == own_heads(v) { own_heads(k) } else { k.dims[HEADS] };
    let (q, k, v) = (heads(q, q.dims[HEADS])?, heads(k, kv_heads)?, heads(v, kv_heads)?);
    tl_kernels::attention::<T, C>(threads, q, k, v, head_dim, scale, causal, call.out()?);
    Ok(())
}

impl<T> Tensor<T> {
    /// Attention of these queries over keys and values: see the operation `attention`.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not fit.
    pub fn attention<U>(&self, k: &Tensor<U>, v: &Tensor<U>, causal: bool) -> Result<Tensor<T>, Error> {
        self.apply(&ATTENTION, &[k.into(), v.into(), Arg::Bool(causal)])
    }

    /// As [`Tensor::attention`], over keys and values that lie in memory that somebody still writes to: a KV cache.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not fit.
    pub fn attention_over(&self, k: Operand<'_>, v: Operand<'_>, causal: bool) -> Result<Tensor<T>, Error> {
        self.apply(&ATTENTION, &[Arg::Operand(&k), Arg::Operand(&v), Arg::Bool(causal)])
    }
}
