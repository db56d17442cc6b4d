//! Attention in one pass.

use tl_device::DType;
use tl_kernels::{Element, Heads, KvElement, Q8Block, Scores};

use super::attention_gpu;
use crate::op::kernel::with_float;
use crate::op::rule::{same, weight_rule};
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::operand::Operand;
use crate::size::Size;
use crate::tensor::Tensor;
use crate::{Error, OpError};

/// The largest head dimension of attention.
pub use tl_kernels::MAX_HEAD_DIM;

pub(super) static OPS: &[&Op] = &[&ATTENTION];

pub(super) static ATTENTION: Op = Op {
    name: "attention",
    group: Group::Transformer,
    doc: "`softmax(q kᵀ · scale) v` for each head, in one pass that never forms the scores (Milakov, Gimelshein, 2018; Dao et \
          al., 2022), in `float32`. Head `h` of `q` reads head `h / (heads / kv_heads)` of `k` and `v`. Causal: query `i` of `n` \
          sees the keys `j <= i + m - n` of `m`; with a `window` above 0 only the last `window` of these (Beltagy et al., 2020). `scale` \
          is `1 / sqrt(d)` unless given. With a `softcap` `c` above 0 a score `s` becomes `c · tanh(s / c)` (Gemma 2, 2024). `sinks` \
          has a score for each head that counts in the softmax and has no value (OpenAI, gpt-oss, 2025). \
          `k` and `v` may be kept in another type than `q`, a float type or `q8_0`. \
          `q: [n, heads, d], k: [m, kv_heads, d], v: [m, kv_heads, e], sinks: [heads] → [n, heads, e]`.",
    params: &[
        required("q", Kind::Tensor),
        required("k", Kind::Tensor),
        required("v", Kind::Tensor),
        optional("causal", Kind::Bool, DefaultValue::Bool(true)),
        optional("scale", Kind::Number, DefaultValue::Absent),
        optional("window", Kind::Int, DefaultValue::Int(0)),
        optional("softcap", Kind::Number, DefaultValue::Number(0.0)),
        optional("sinks", Kind::Weight, DefaultValue::Absent),
    ],
    rule,
    kernel: OpKernel::Repeated {
        must_copy,
        kernel: |call| {
            let operand = |index| call.operand_with_repeat(index).ok_or(OpError::Unknown);
            let (q, k, v) = (operand(0)?, operand(1)?, operand(2)?);
            let sinks = call.optional_operand(SINKS);
            let scores = Scores {
                scale: scale(call, &q)?,
                causal: call.bool(3),
                window: call.int(5)? as usize,
                softcap: softcap(call)?,
                sinks: sinks.map(|sinks| sinks.weight()).transpose()?,
            };
            with_float!(q.dtype, "q", T => match k.dtype {
                dtype if dtype == DType::Q8_0 => run::<T, Q8Block>(call, (&q, &k, &v), scores),
                dtype => with_float!(dtype, "k", C => run::<T, C>(call, (&q, &k, &v), scores)),
            })
        },
    },
    gpu: Some(|call| {
        let (q, k, v) = (call.operand(0)?, call.operand(1)?, call.operand(2)?);
        if ![&q, &k, &v].into_iter().all(has_whole_heads) || k.dtype == DType::Q8_0 {
            return Ok(Dispatch::Unsupported);
        }
        let scores = attention_gpu::Scores {
            scale: scale(call, &q)?,
            is_causal: call.bool(3),
            window: call.int(5)? as usize,
            softcap: softcap(call)?,
            sinks: call.optional_operand(SINKS),
        };
        attention_gpu::run(call, [&q, &k, &v], &scores)
    }),
};

/// The position of the argument `sinks`.
const SINKS: usize = 7;

/// The factor of the scores.
fn scale(call: &Call, q: &Operand) -> Result<f32, OpError> {
    let scale = match call.arg(4) {
        Arg::None => 1.0 / (q.dims[2] as f64).sqrt(),
        _ => call.number(4)?,
    };
    Ok(scale as f32)
}

fn softcap(call: &Call) -> Result<f32, OpError> {
    softcap_of(call.number(6)?)
}

pub(super) fn softcap_of(softcap: f64) -> Result<f32, OpError> {
    if !(softcap >= 0.0 && softcap.is_finite()) {
        return Err(OpError::Value { operand: "softcap", expected: "0 or more", found: softcap });
    }
    // A cap that is 0 in `f32` would make all scores 0.
    Ok(if softcap > 0.0 { (softcap as f32).max(f32::MIN_POSITIVE) } else { 0.0 })
}

/// The elements of a head must be contiguous; tokens and heads may have any strides. Keys and values may repeat their
/// heads, both in the same way.
fn must_copy(args: &[Arg], index: usize) -> bool {
    let heads_of = |index: usize| match args.get(index) {
        Some(Arg::Tensor(tensor)) => Some(distinct_heads(&tensor.operand_with_repeat())),
        Some(Arg::Operand(operand)) => Some(distinct_heads(operand)),
        _ => None,
    };
    let Some(Arg::Tensor(tensor)) = args.get(index) else { return false };
    if index == SINKS {
        return true;
    }
    let operand = tensor.operand_with_repeat();
    let is_read_as_it_lies = match operand.repeat {
        None => true,
        Some(_) if index == 0 || tensor.device().is_gpu() => false,
        Some(repeat) => repeat.axis() == HEADS && heads_of(1) == heads_of(2),
    };
    !is_read_as_it_lies || !has_whole_heads(&operand)
}

fn has_whole_heads(operand: &Operand) -> bool {
    operand.is_contiguous() || operand.strides.last() == Some(&1)
}

/// The dimension of an operand that counts heads.
const HEADS: usize = 1;

/// The number of distinct heads of keys or values, which may repeat each head for all heads of the queries that read
/// it.
fn distinct_heads(operand: &Operand) -> usize {
    match operand.repeat {
        Some(repeat) if repeat.axis() == HEADS => operand.dims[HEADS] / repeat.times(),
        _ if operand.strides[HEADS] == 0 => operand.dims[HEADS].min(1),
        _ => operand.dims[HEADS],
    }
}

pub(super) fn rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (q, q_dtype) = args.ranked(0, 3, "q", "3 dimensions, [n, heads, d]")?;
    let (k, k_dtype) = args.ranked(1, 3, "k", "3 dimensions, [m, kv_heads, d]")?;
    let (v, v_dtype) = args.ranked(2, 3, "v", "3 dimensions, [m, kv_heads, e]")?;
    if let Some(found) = q_dtype.filter(|dtype| !dtype.is_float()) {
        return Err(OpError::DType { operand: "q", expected: "float16 or float32 (cast it first)", found });
    }
    for (operand, dtype) in [("k", k_dtype), ("v", v_dtype)] {
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float() && *dtype != DType::Q8_0) {
            return Err(OpError::DType { operand, expected: "float16, float32 or q8_0 (cast it first)", found });
        }
    }
    // Keys and values have one type, which may differ from that of the queries: a cache has its own.
    if let (Some(left), Some(right)) = (k_dtype, v_dtype)
        && left != right
    {
        return Err(OpError::Mixed { left, right });
    }
    same("the keys and values have different lengths", k[0], v[0])?;
    same("the keys and values have different numbers of heads", k[1], v[1])?;
    same("the heads of queries and keys have different sizes", q[2], k[2])?;
    if let (Size::Known(heads), Size::Known(kv_heads)) = (q[1], k[1])
        && (kv_heads == 0 || heads % kv_heads != 0)
    {
        return Err(OpError::Sizes {
            rule: "the heads of q are no multiple of the heads of k",
            left: q[1],
            right: k[1],
        });
    }
    for size in [q[2], v[2]] {
        if let Size::Known(d) = size
            && d > MAX_HEAD_DIM as i64
        {
            return Err(OpError::Value { operand: "the size of a head", expected: "1024 or less", found: d as f64 });
        }
    }
    if let Size::Known(window) = args.int(5)
        && window != 0
    {
        if window < 0 {
            return Err(OpError::Value { operand: "window", expected: "0 or more", found: window as f64 });
        }
        if args.bool(3) == Ok(false) {
            let expected = "0 where attention is not causal";
            return Err(OpError::Value { operand: "window", expected, found: window as f64 });
        }
    }
    if args.is_tensor(SINKS)
        && let Ok((sinks, dtype)) = args.tensor(SINKS)
    {
        weight_rule("sinks", dtype)?;
        let &[n] = sinks else {
            return Err(OpError::Rank { operand: "sinks", expected: "1 dimension, [heads]", found: sinks.len() });
        };
        same("there must be a sink for each head of q", n, q[1])?;
    }
    Ok(TensorType::new(q_dtype, [q[0], q[1], v[2]].as_slice()))
}

fn heads<'a, T: KvElement>(operand: &Operand<'a>, n_heads: usize) -> Result<Heads<'a, T>, OpError> {
    let are_blocks_whole = operand.strides[..2].iter().all(|stride| stride.is_multiple_of(T::ELEMS));
    if !has_whole_heads(operand) || !are_blocks_whole {
        let expected = "contiguous within a head";
        return Err(OpError::DType { operand: "q, k and v", expected, found: operand.dtype });
    }
    Ok(Heads {
        data: operand.data()?,
        n_tokens: operand.dims[0],
        n_heads,
        token_stride: operand.strides[0],
        head_stride: operand.strides[1],
    })
}

fn run<T: Element, C: KvElement>(
    call: &mut Call,
    (q, k, v): (&Operand, &Operand, &Operand),
    scores: Scores<'_>,
) -> Result<(), OpError> {
    let (head_dim, value_dim, threads) = (q.dims[2], v.dims[2], call.threads);
    let kv_heads = if distinct_heads(k) == distinct_heads(v) { distinct_heads(k) } else { k.dims[HEADS] };
    let (q, k, v) = (heads(q, q.dims[HEADS])?, heads(k, kv_heads)?, heads(v, kv_heads)?);
    tl_kernels::attention::<T, C>(threads, q, k, v, head_dim, value_dim, scores, call.out()?);
    Ok(())
}

/// Options of [`Tensor::attention_by`]: see the operation `attention`.
#[derive(Clone, Copy, Debug)]
pub struct Attention<'a> {
    /// Whether a query sees only the keys up to its own.
    pub causal: bool,
    /// The factor of the products of queries and keys; `None`: `1 / sqrt(d)`.
    pub scale: Option<f64>,
    /// A query sees only the last `window` of these keys; 0: all.
    pub window: usize,
    /// Where this is above 0, a score `s` becomes `softcap · tanh(s / softcap)`.
    pub softcap: f64,
    /// A score for each head that counts in the softmax and has no value: `[heads]`.
    pub sinks: Option<&'a Tensor>,
}

impl std::default::Default for Attention<'_> {
    fn default() -> Self {
        Attention { causal: true, scale: None, window: 0, softcap: 0.0, sinks: None }
    }
}

impl<'a> Attention<'a> {
    /// The arguments after `q`, `k` and `v`.
    fn args(&self) -> [Arg<'a>; 5] {
        [
            Arg::Bool(self.causal),
            self.scale.map_or(Arg::None, Arg::Number),
            Arg::Int(i64::try_from(self.window).unwrap_or(i64::MAX)),
            Arg::Number(self.softcap),
            self.sinks.map_or(Arg::None, Arg::from),
        ]
    }
}

impl<T> Tensor<T> {
    /// Attention of these queries over keys and values: see the operation `attention`.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not fit.
    pub fn attention<U>(&self, k: &Tensor<U>, v: &Tensor<U>, causal: bool) -> Result<Tensor<T>, Error> {
        self.apply(&ATTENTION, &[k.into(), v.into(), Arg::Bool(causal)])
    }

    /// As [`Tensor::attention`], with all options.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not fit.
    pub fn attention_by<U>(&self, k: &Tensor<U>, v: &Tensor<U>, options: &Attention) -> Result<Tensor<T>, Error> {
        let [causal, scale, window, softcap, sinks] = options.args();
        self.apply(&ATTENTION, &[k.into(), v.into(), causal, scale, window, softcap, sinks])
    }

    /// As [`Tensor::attention_by`], over keys and values in memory that its holder still writes to: a KV cache.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not fit.
    pub fn attention_over(&self, k: Operand<'_>, v: Operand<'_>, options: &Attention) -> Result<Tensor<T>, Error> {
        let [causal, scale, window, softcap, sinks] = options.args();
        self.apply(&ATTENTION, &[Arg::Operand(&k), Arg::Operand(&v), causal, scale, window, softcap, sinks])
    }
}
