//! KV caches, and the operations of layers that keep state in them.

use std::sync::Arc;

use parking_lot::Mutex;
use tl_device::DType;
use tl_model::KvCache;
use tl_tensor::ops::{Arg, Attention, DeltaStep, Size, TensorType, apply};

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, always};
use super::tensors::operation;
use crate::types::{HandleKind, Known, Type};
use crate::value::{Handle, Value};

const CACHE: Param = Param::required("cache", ParamKind::Handle(HandleKind::KvCache));

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "kv_cache",
        doc: "An empty cache of keys and values for so many layers: `2 · layers` tensors `[max_len, kv_heads, head_dim]`, of `float16` \
              unless given. `q8_0` keeps them in blocks of 32 elements, in about half the memory; it is for the CPU, and `head_dim` is then a \
              multiple of 32.",
        params: &[
            Param::required("layers", ParamKind::Int),
            Param::required("kv_heads", ParamKind::Int),
            Param::required("head_dim", ParamKind::Int),
            Param::required("max_len", ParamKind::Int),
            Param::optional("dtype", ParamKind::DType, DefaultValue::Absent),
        ],
        result: always!(Handle(HandleKind::KvCache)),
        run: |context, args| {
            let (layers, heads, dim, len) = (args.size(0)?, args.size(1)?, args.size(2)?, args.size(3)?);
            let cache = KvCache::new(context.device, layers, heads, dim, len, args.dtype(4)?)?;
            Ok(Value::Handle(Handle::KvCache(Arc::new(Mutex::new(cache)))))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "attention_with_cache",
        doc: "Writes `k: [n, kv_heads, d]` and `v: [n, kv_heads, e]` behind what the layer of the cache holds, and lets \
              `q: [n, heads, d]` attend causally to all of it: `→ [n, heads, e]`. The layers of a step come in order; the cache grows with \
              the last. `scale`, `window`, `softcap` and `sinks` are those of `attention`; a layer that was made with a window has it \
              where none is given.",
        params: &[
            Param::required("q", ParamKind::Tensor),
            Param::required("k", ParamKind::Tensor),
            Param::required("v", ParamKind::Tensor),
            CACHE,
            Param::required("layer", ParamKind::Int),
            Param::optional("scale", ParamKind::Number, DefaultValue::Absent),
            Param::optional("window", ParamKind::Int, DefaultValue::Int(0)),
            Param::optional("softcap", ParamKind::Number, DefaultValue::Number(0.0)),
            Param::optional("sinks", ParamKind::Tensor, DefaultValue::Absent),
        ],
        result: |types| match (types.ty(0), types.ty(2)) {
            (Some(Type::Tensor(TensorType { dtype, sizes })), v) => {
                let mut sizes = sizes.clone();
                if let Some(last) = sizes.as_mut().and_then(|sizes| sizes.last_mut()) {
                    *last = match v {
                        Some(Type::Tensor(TensorType { sizes: Some(v), .. })) => {
                            v.last().copied().unwrap_or(Size::Unknown)
                        }
                        _ => Size::Unknown,
                    };
                }
                (Type::Tensor(TensorType { dtype: *dtype, sizes }), Known::Nothing)
            }
            _ => (Type::any_tensor(), Known::Nothing),
        },
        run: |_, args| {
            let (q, k, v) = (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?);
            let options = Attention {
                scale: if args.is_given(5) { Some(args.number(5)?) } else { None },
                window: args.size(6)?,
                softcap: args.number(7)?,
                sinks: if args.is_given(8) { Some(args.tensor(8)?) } else { None },
                ..Attention::default()
            };
            let layer = args.size(4)?;
            Ok(Value::tensor(cache(args, 3)?.lock().attend_by(layer, q, k, v, &options)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "attention_over_cache",
        doc: "Lets `q: [n, heads, d]` attend causally to what a layer of the cache holds that this step has come past, this step's keys and \
              values included: `→ [n, heads, e]`. For layers without keys and values of their own. The options are those of \
              `attention_with_cache`. Behind the last layer that writes, `cache.len` counts this step's tokens too.",
        params: &[
            Param::required("q", ParamKind::Tensor),
            CACHE,
            Param::required("layer", ParamKind::Int),
            Param::optional("scale", ParamKind::Number, DefaultValue::Absent),
            Param::optional("window", ParamKind::Int, DefaultValue::Int(0)),
            Param::optional("softcap", ParamKind::Number, DefaultValue::Number(0.0)),
            Param::optional("sinks", ParamKind::Tensor, DefaultValue::Absent),
        ],
        result: |types| resized(types.ty(0), <[Size]>::last_mut),
        run: |_, args| {
            let (q, layer) = (args.tensor(0)?, args.size(2)?);
            let options = Attention {
                scale: if args.is_given(3) { Some(args.number(3)?) } else { None },
                window: args.size(4)?,
                softcap: args.number(5)?,
                sinks: if args.is_given(6) { Some(args.tensor(6)?) } else { None },
                ..Attention::default()
            };
            Ok(Value::tensor(cache(args, 1)?.lock().attend_again(layer, q, &options)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "causal_convolution_with_cache",
        doc: "A filter along the tokens for each channel, `result[t, c] = b[c] + sum over j of w[c, j] · x[t + j - (taps - 1), c]`, in \
              `float32`. The inputs of the last `taps - 1` tokens before this step are what the layer of the cache keeps, zeros at the \
              beginning of a text. `x: [n, channels], w: [channels, taps], b: [channels] → [n, channels]`, with at most 16 taps.",
        params: &[
            Param::required("x", ParamKind::Tensor),
            Param::required("w", ParamKind::Tensor),
            CACHE,
            Param::required("layer", ParamKind::Int),
            Param::optional("b", ParamKind::Tensor, DefaultValue::Absent),
        ],
        result: |types| match types.ty(0) {
            Some(Type::Tensor(x)) => (Type::Tensor(x.clone()), Known::Nothing),
            _ => (Type::any_tensor(), Known::Nothing),
        },
        run: |_, args| {
            let (x, w, layer) = (args.tensor(0)?, args.tensor(1)?, args.size(3)?);
            let b = if args.is_given(4) { Some(args.tensor(4)?) } else { None };
            Ok(Value::tensor(cache(args, 2)?.lock().convolve(layer, x, w, b)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "gated_delta_rule_with_cache",
        doc: "Attention with a state of fixed size, `S: [key_dim, value_dim]` for each head of `v`, in `float32` (Yang et al., 2024). A token \
              lets the state fade, `S = e^gate · S`, puts the difference between its value and what its key finds there into it, \
              `S = S + k (beta · (v - Sᵀ k))ᵀ`, and reads `Sᵀ q`. The state is what the layer of the cache keeps, zeros at the beginning of \
              a text. Head `h` of `v` reads head `h / (heads / key_heads)` of `q` and `k`, or head `h % key_heads` where they are `tiled`. \
              `q, k: float32[n, key_heads, key_dim], v: float32[n, heads, value_dim], gate, beta: float32[n, heads] → float32[n, heads, \
              value_dim]`, with a `key_dim` of at most 256.",
        params: &[
            Param::required("q", ParamKind::Tensor),
            Param::required("k", ParamKind::Tensor),
            Param::required("v", ParamKind::Tensor),
            Param::required("gate", ParamKind::Tensor),
            Param::required("beta", ParamKind::Tensor),
            CACHE,
            Param::required("layer", ParamKind::Int),
            Param::optional("tiled", ParamKind::Bool, DefaultValue::Bool(false)),
        ],
        result: |types| match types.ty(2) {
            Some(Type::Tensor(v)) => (Type::Tensor(v.clone()), Known::Nothing),
            _ => (Type::any_tensor(), Known::Nothing),
        },
        run: |_, args| {
            let (q, k, v, gate, beta) =
                (args.tensor(0)?, args.tensor(1)?, args.tensor(2)?, args.tensor(3)?, args.tensor(4)?);
            let step = DeltaStep { k, v, gate, beta, is_tiled: args.bool(7)? };
            let layer = args.size(6)?;
            Ok(Value::tensor(cache(args, 5)?.lock().update_delta_rule(layer, q, &step)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "clear",
        doc: "Empties the cache; its memory stays.",
        owner: Some(HandleKind::KvCache),
        params: &[CACHE],
        run: |_, args| {
            cache(args, 0)?.lock().clear();
            Ok(Value::Unit)
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "row_positions",
        doc: "The positions of a step's `n` tokens in their texts: `→ float32[n]`. For `rope`, `cache.positions` is enough.",
        owner: Some(HandleKind::KvCache),
        params: &[CACHE, Param::required("n", ParamKind::Int)],
        result: |types| {
            let n = types.known(1).map_or(Size::Unknown, Known::size);
            (Type::Tensor(TensorType::new(Some(DType::F32), [n].as_slice())), Known::Nothing)
        },
        run: |context, args| {
            let n = i64::try_from(args.size(1)?).unwrap_or(i64::MAX);
            let mut cache = cache(args, 0)?.lock();
            if let Some(positions) = cache.step_positions()? {
                let found = positions.dims().first().copied().unwrap_or(0);
                if i64::try_from(found) != Ok(n) {
                    return Err(BuiltinError::new(format!("the step has {found} tokens, not {n}")));
                }
                return Ok(Value::tensor(positions.cast::<f32>()?.into_dyn()));
            }
            let first = i64::try_from(cache.first_position().unwrap_or(0)).unwrap_or(i64::MAX);
            let range = [Arg::Int(first), Arg::Int(first.saturating_add(n)), Arg::Int(1), Arg::DType(DType::F32)];
            Ok(Value::tensor(apply(operation("arange")?, context.device, &range)?.into()))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "rows_for_logits",
        doc: "Of `x: [n, ..]`, which has a row for each token of a step, those whose logits are wanted: the last one unless the host \
              wants all. `→ [m, ..]`.",
        owner: Some(HandleKind::KvCache),
        params: &[CACHE, Param::required("x", ParamKind::Tensor)],
        result: |types| resized(types.ty(1), <[Size]>::first_mut),
        run: |_, args| Ok(Value::tensor(cache(args, 0)?.lock().rows_for_logits(args.tensor(1)?)?)),
        ..Builtin::BASE
    },
];

fn cache<'a>(args: &'a Args<'_>, index: usize) -> Result<&'a Mutex<KvCache>, BuiltinError> {
    match args.handle(index, HandleKind::KvCache)? {
        Handle::KvCache(cache) => Ok(cache),
        _ => Err(BuiltinError::new("not a KV cache")),
    }
}

/// This tensor type with one size unknown, which `which` chooses.
fn resized(ty: Option<&Type>, which: impl Fn(&mut [Size]) -> Option<&mut Size>) -> (Type, Known) {
    let Some(Type::Tensor(TensorType { dtype, sizes })) = ty else { return (Type::any_tensor(), Known::Nothing) };
    let mut sizes = sizes.clone();
    if let Some(size) = sizes.as_mut().and_then(|sizes| which(sizes)) {
        *size = Size::Unknown;
    }
    (Type::Tensor(TensorType { dtype: *dtype, sizes }), Known::Nothing)
}
