//! Attention of several sequences at once, whose keys and values lie in pages of one memory.
//!
//! No row of [`OPS`](super::OPS): it reads memory that its caller holds, through tables that no other operation has. The
//! sequences go through the kernel one after the other, each as it would alone, so that what one gets never depends on
//! the others.

use tl_device::{DType, Layout, Role, Work};
use tl_kernels::{Element, Heads, KvElement, Pages, Q8Block, Scores};

use super::attention::{Attention, rule, softcap_of};
use super::state::{check_devices, contiguous, op_error, same};
use crate::dispatch::attention_work;
use crate::op::kernel::with_float;
use crate::op::{ArgType, RuleArgs, TensorType};
use crate::operand::Operand;
use crate::size::{Size, Sizes};
use crate::tensor::{DynTensor, Tensor, take};
use crate::{Error, OpError, TensorMut};

const NAME: &str = "attention_in_pages";

/// A sequence of a step.
#[derive(Clone, Copy, Debug)]
pub struct PagedSequence<'a> {
    /// The pages that hold its tokens, in order.
    pub pages: &'a [u32],
    /// Its tokens, those of this step included.
    pub n_tokens: usize,
    /// Its tokens of this step: the queries, which are the last of its tokens.
    pub n_queries: usize,
}

impl<T> Tensor<T> {
    /// Causal attention of the queries of `sequences`, which follow one another in this tensor, each over the keys and
    /// values of its own sequence. Page `p` is the rows of `k` and `v` from `p · page_len` on. The options are those of
    /// the operation `attention`, which is always causal here. On the CPU.
    ///
    /// `q: [n, heads, d], k: [rows, kv_heads, d], v: [rows, kv_heads, e] → [n, heads, e]`
    ///
    /// # Errors
    /// [`Error::Op`] where shapes do not fit or the sequences have another number of queries or more tokens than their pages hold;
    /// on a GPU.
    pub fn attention_in_pages<'a>(
        &self,
        (k, v): (&TensorMut, &TensorMut),
        page_len: usize,
        sequences: impl Iterator<Item = PagedSequence<'a>> + Clone,
        options: &Attention,
    ) -> Result<Tensor<T>, Error> {
        let q = self.as_dyn();
        let sinks = options.sinks.map(Tensor::as_dyn);
        let fail = |error| op_error(NAME, &[Some(q), sinks], error);
        let layout = check(q, (k, v), page_len, sequences.clone(), options).map_err(fail)?;
        let device = q.device();
        check_devices(device, &[sinks]).map_err(fail)?;
        if device.is_gpu() {
            return Err(fail(OpError::UnsupportedOnGpu));
        }
        let copies = contiguous([Some(q), sinks])?;
        let [Some(q), sinks] = &copies else { return Err(fail(OpError::Unknown)) };
        let mut lease = take(device, &layout, Role::Activation, NAME)?;
        if device.is_simulated() {
            device.count_work(work(q, (k, v), sequences, options.window));
        } else {
            let sinks = sinks.as_ref().map(DynTensor::operand);
            let head_dim = q.shape().last().copied().unwrap_or(0);
            let run = || -> Result<(), OpError> {
                let scores = Scores {
                    scale: options.scale.unwrap_or(1.0 / (head_dim as f64).sqrt()) as f32,
                    causal: true,
                    window: options.window,
                    softcap: softcap_of(options.softcap)?,
                    sinks: sinks.as_ref().map(Operand::weight).transpose()?,
                };
                let out = lease.bytes_mut();
                with_float!(q.dtype(), "q", T => match k.layout().dtype() {
                    dtype if dtype == DType::Q8_0 => attend::<T, Q8Block>(q, (k, v), page_len, sequences, scores, out),
                    dtype => with_float!(dtype, "k", C => attend::<T, C>(q, (k, v), page_len, sequences, scores, out)),
                })
            };
            run().map_err(fail)?;
        }
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), &layout)))
    }
}

/// The layout of the result.
fn check<'a>(
    q: &DynTensor,
    (k, v): (&TensorMut, &TensorMut),
    page_len: usize,
    sequences: impl Iterator<Item = PagedSequence<'a>>,
    options: &Attention,
) -> Result<Layout, OpError> {
    let sizes = |dims: &[usize]| dims.iter().map(|&size| Size::Known(size as i64)).collect::<Sizes>();
    let of = |tensor: &DynTensor| ArgType::Tensor(TensorType::new(Some(tensor.dtype()), sizes(tensor.shape())));
    let kept = |memory: &TensorMut| {
        ArgType::Tensor(TensorType::new(Some(memory.layout().dtype()), sizes(memory.layout().shape())))
    };
    let window = ArgType::Int(Size::Known(options.window as i64));
    let sinks = options.sinks.map_or(ArgType::None, |sinks| of(sinks.as_dyn()));
    let args = [of(q), kept(k), kept(v), ArgType::Bool(Some(true)), ArgType::None, window, ArgType::Number, sinks];
    rule(&RuleArgs(&args))?;
    softcap_of(options.softcap)?;
    let (rows, mut n_queries) = (k.layout().shape().first().copied().unwrap_or(0), 0);
    for sequence in sequences {
        let has_room = sequence.n_tokens <= sequence.pages.len().saturating_mul(page_len);
        let pages_exist = sequence.pages.iter().all(|page| (*page as usize) < rows / page_len.max(1));
        if !has_room || !pages_exist || sequence.n_queries > sequence.n_tokens {
            let found = sequence.n_tokens as f64;
            return Err(OpError::Value { operand: "the tokens of a sequence", expected: "within its pages", found });
        }
        n_queries += sequence.n_queries;
    }
    let n = q.shape().first().copied().unwrap_or(0);
    same("there must be a query for each token of the step", n, n_queries)?;
    let dims = [n, q.shape().get(1).copied().unwrap_or(0), v.layout().shape().last().copied().unwrap_or(0)];
    Ok(Layout::new(q.dtype(), dims))
}

fn work<'a>(
    q: &DynTensor,
    (k, v): (&TensorMut, &TensorMut),
    sequences: impl Iterator<Item = PagedSequence<'a>>,
    window: usize,
) -> Work {
    let row_bytes = (k.row_bytes() + v.row_bytes()) as u64;
    let width = |memory: &TensorMut| memory.layout().shape().last().copied().unwrap_or(0);
    let multiplied = q.shape().get(1).copied().unwrap_or(0) * (width(k) + width(v));
    let window = if window > 0 { window } else { usize::MAX };
    sequences.fold(Work::default(), |work, PagedSequence { n_tokens, n_queries, .. }| {
        let one = attention_work(n_queries, n_tokens, true, window, row_bytes, multiplied);
        Work { cache_bytes: work.cache_bytes + one.cache_bytes, operations: work.operations + one.operations, ..work }
    })
}

fn attend<'a, T: Element, C: KvElement>(
    q: &DynTensor,
    (k, v): (&TensorMut, &TensorMut),
    page_len: usize,
    sequences: impl Iterator<Item = PagedSequence<'a>>,
    scores: Scores<'_>,
    out: &mut [u8],
) -> Result<(), OpError> {
    let unaligned = |_| OpError::Unaligned { dtype: q.dtype() };
    let queries = q.operand();
    let (mut queries, mut out) =
        (queries.slice::<T>()?, bytemuck::try_cast_slice_mut::<u8, T>(out).map_err(unaligned)?);
    let [_, n_heads, head_dim] = *q.shape().dims() else { return Err(OpError::Unknown) };
    let value_dim = v.layout().shape().last().copied().unwrap_or(0);
    let (k, v, threads) = (kept::<C>(k)?, kept::<C>(v)?, q.device().threads());
    for PagedSequence { pages, n_tokens, n_queries } in sequences {
        let (first, rest) = queries.split_at_checked(n_queries * n_heads * head_dim).ok_or(OpError::Unknown)?;
        let (result, left) = out.split_at_mut_checked(n_queries * n_heads * value_dim).ok_or(OpError::Unknown)?;
        let q = Heads {
            data: first,
            n_tokens: n_queries,
            n_heads,
            token_stride: n_heads * head_dim,
            head_stride: head_dim,
        };
        let pages = Pages { table: pages, page_len, n_tokens };
        tl_kernels::attention_in_pages::<T, C>(threads, q, k, v, head_dim, value_dim, pages, scores, result);
        (queries, out) = (rest, left);
    }
    Ok(())
}

/// All rows of a memory.
fn kept<C: KvElement>(memory: &TensorMut) -> Result<Heads<'_, C>, OpError> {
    let [n_tokens, n_heads, width] = *memory.layout().shape().dims() else { return Err(OpError::Unknown) };
    let unaligned = |_| OpError::Unaligned { dtype: memory.layout().dtype() };
    let data = bytemuck::try_cast_slice(memory.bytes()).map_err(unaligned)?;
    Ok(Heads { data, n_tokens, n_heads, token_stride: n_heads * width, head_stride: width })
}
