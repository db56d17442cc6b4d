//! Models, tokenizers, caches, and whole generation.

use std::sync::Arc;

use parking_lot::Mutex;
use tl_chat::{DateTime, Message};
use tl_device::Device;
use tl_model::{
    Activations, ChatForm, Checkpoint, ConfigValue, DecodeStream, EncodeOptions, KvCache, MetadataValue, ModelConfig,
    ModelNode, NodeRef, Tokenizer, Weights,
};
use tl_tensor::Tensor;
use tl_tensor::ops::{Attention, DeltaStep, Size, TensorType};

use super::always;
use super::row::{Args, Builtin, Context, Default, Failure, Kind, Param};
use crate::check::{Known, Type};
use crate::value::{Decoding, Handle, HandleKind, Kept, Number, Value};

const MODEL: Param = Param::required("model", Kind::Handle(HandleKind::Model));
const TOKENIZER: Param = Param::required("tokenizer", Kind::Handle(HandleKind::Tokenizer));
const CACHE: Param = Param::required("cache", Kind::Handle(HandleKind::KvCache));
const STREAM: Param = Param::required("stream", Kind::Handle(HandleKind::DecodeStream));

/// What encoding takes on the heap for each byte of a text: words, ids of 4 bytes, and the list's of 8. For a text of which hardly two
/// bytes make a token it may be more.
const ENCODING_BYTES: usize = 12;

/// What decoding takes for each token: the list of ids, and its characters.
const DECODING_BYTES: usize = 16;

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "load_model",
        doc: "A model from a GGUF file or a folder of Hugging Face's; `tl run` also takes `org/repo[:quant]` and `ollama:name`. Its weights are used where they lie in the file, in their stored format; with \
              `mapped: false` the file is read into memory first. Its own `generate` computes in `activations`, `float16` or `float32`.",
        params: &[
            Param::required("path", Kind::Text),
            Param::optional("activations", Kind::DType, Default::Absent),
            Param::optional("mapped", Kind::Bool, Default::Bool(true)),
        ],
        result: always!(Handle(HandleKind::Model)),
        run: |context, args| {
            let path = args.path(0, context.host)?;
            let load = if args.bool(2)? { Weights::load } else { Weights::load_copied };
            let model = load(path, context.device)?;
            let activations = match args.dtype(1)? {
                tl_device::DType::F16 => Activations::Float16,
                tl_device::DType::F32 => Activations::Float32,
                other => {
                    return Err(Failure::new(format!("load_model: activations are float16 or float32, not {other}")));
                }
            };
            Ok(Value::Handle(Handle::Model(model.with_activations(activations), Some(Kept::default()))))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "get_tensor",
        doc: "The weight of that name in a model's file, such as \"blk.0.attn_q.weight\".",
        params: &[MODEL, Param::required("name", Kind::Text)],
        result: |_| (Type::any_tensor(), Known::Nothing),
        run: |_, args| Ok(Value::Tensor(model(args, 0)?.tensor(args.text(1)?)?.clone())),
        ..Builtin::BASE
    },
    Builtin {
        name: "load_tokenizer",
        doc: "The tokenizer that a model carries, or that of the path or name, as for `load_model`.",
        params: &[Param::required("model", Kind::ModelOrPath)],
        result: always!(Handle(HandleKind::Tokenizer)),
        run: load_tokenizer,
        ..Builtin::BASE
    },
    Builtin {
        name: "tokenize",
        doc: "The tokens of a text, a list of ints, beginning with the start token where the model wants one. With `special`, texts of \
              special tokens such as `<|im_start|>` are these tokens, and nothing is put before.",
        params: &[
            TOKENIZER,
            Param::required("text", Kind::Text),
            Param::optional("special", Kind::Bool, Default::Bool(false)),
        ],
        result: |_| (Type::list(Type::Int), Known::Nothing),
        run: |context, args| {
            let special = args.bool(2)?;
            check_encoding(context.device, args.text(1)?)?;
            let options = EncodeOptions::default().with_add_special(!special).with_parse_special(special);
            let ids = tokenizer(args)?.encode_with(args.text(1)?, &options);
            let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
            Ok(Value::ints(&ids))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "chat_template",
        doc: "A conversation as the model's own chat template writes it, up to where the answer begins. `messages` is a list of pairs, \
              `[[\"system\", \"Be brief.\"], [\"user\", \"Hello\"]]`. Give the text to `tokenize` with `special: true`; what the messages \
              say never becomes a special token.",
        params: &[MODEL, Param::required("messages", Kind::List)],
        result: always!(Str),
        run: |context, args| {
            let messages = messages(args.value(1), context.device)?;
            let form = ChatForm::of(model(args, 0)?)?;
            // A program that wants the date writes it into a message: this crate knows no clock.
            Ok(Value::text(form.text(&messages, DateTime::from_unix_seconds(0))?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "detokenize",
        doc: "The text of tokens.",
        params: &[TOKENIZER, Param::required("ids", Kind::Ints)],
        result: always!(Str),
        run: |context, args| {
            let n = args.value(1).list_len().unwrap_or(0);
            let what = || format!("the text of {n} tokens");
            context.device.check_heap(n.saturating_mul(DECODING_BYTES), what)?;
            Ok(Value::text(tokenizer(args)?.decode(&args.ids(1)?)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "is_end",
        doc: "Whether the token ends a text.",
        owner: Some(HandleKind::Tokenizer),
        params: &[TOKENIZER, Param::required("id", Kind::Int)],
        result: always!(Bool),
        run: |_, args| {
            let id = id(args, 1)?;
            Ok(Value::Bool(tokenizer(args)?.is_end(id)))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "decode_stream",
        doc: "Turns tokens into text as they come: `.next(id)` gives the characters that the token completes.",
        params: &[TOKENIZER],
        result: always!(Handle(HandleKind::DecodeStream)),
        run: |_, args| {
            let decoding = Decoding { tokenizer: tokenizer(args)?.clone(), stream: DecodeStream::new() };
            Ok(Value::Handle(Handle::DecodeStream(Arc::new(Mutex::new(decoding)))))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "next",
        doc: "The text that the token completes, whole characters only; it may be empty.",
        owner: Some(HandleKind::DecodeStream),
        params: &[STREAM, Param::required("id", Kind::Int)],
        result: always!(Str),
        run: |_, args| {
            let id = id(args, 1)?;
            let mut decoding = stream(args)?.lock();
            let Decoding { tokenizer, stream } = &mut *decoding;
            Ok(Value::text(stream.next(tokenizer, id)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "finish",
        doc: "What is left when no token follows: the bytes of a character that was never completed, as replacement characters.",
        owner: Some(HandleKind::DecodeStream),
        params: &[STREAM],
        result: always!(Str),
        run: |_, args| Ok(Value::text(stream(args)?.lock().stream.finish())),
        ..Builtin::BASE
    },
    Builtin {
        name: "kv_cache",
        doc: "An empty cache of keys and values for so many layers: `2 · layers` tensors `[max_len, kv_heads, head_dim]`, of `float16` \
              unless given. `q8_0` keeps them in blocks of 32 elements, in about half the memory; it is for the CPU, and `head_dim` is then a \
              multiple of 32.",
        params: &[
            Param::required("layers", Kind::Int),
            Param::required("kv_heads", Kind::Int),
            Param::required("head_dim", Kind::Int),
            Param::required("max_len", Kind::Int),
            Param::optional("dtype", Kind::DType, Default::Absent),
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
            Param::required("q", Kind::Tensor),
            Param::required("k", Kind::Tensor),
            Param::required("v", Kind::Tensor),
            CACHE,
            Param::required("layer", Kind::Int),
            Param::optional("scale", Kind::Number, Default::Absent),
            Param::optional("window", Kind::Int, Default::Int(0)),
            Param::optional("softcap", Kind::Number, Default::Number(0.0)),
            Param::optional("sinks", Kind::Tensor, Default::Absent),
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
            Ok(Value::Tensor(cache(args, 3)?.lock().attend_by(layer, q, k, v, &options)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "attention_over_cache",
        doc: "Lets `q: [n, heads, d]` attend causally to what a layer of the cache holds that this step has come past, this step's keys and \
              values included: `→ [n, heads, e]`. For layers without keys and values of their own. The options are those of \
              `attention_with_cache`. Behind the last layer that writes, `cache.len` counts this step's tokens too.",
        params: &[
            Param::required("q", Kind::Tensor),
            CACHE,
            Param::required("layer", Kind::Int),
            Param::optional("scale", Kind::Number, Default::Absent),
            Param::optional("window", Kind::Int, Default::Int(0)),
            Param::optional("softcap", Kind::Number, Default::Number(0.0)),
            Param::optional("sinks", Kind::Tensor, Default::Absent),
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
            Ok(Value::Tensor(cache(args, 1)?.lock().attend_again(layer, q, &options)?))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "causal_convolution_with_cache",
        doc: "A filter along the tokens for each channel, `result[t, c] = b[c] + sum over j of w[c, j] · x[t + j - (taps - 1), c]`, in \
              `float32`. The inputs of the last `taps - 1` tokens before this step are what the layer of the cache keeps, zeros at the \
              beginning of a text. `x: [n, channels], w: [channels, taps], b: [channels] → [n, channels]`, with at most 16 taps.",
        params: &[
            Param::required("x", Kind::Tensor),
            Param::required("w", Kind::Tensor),
            CACHE,
            Param::required("layer", Kind::Int),
            Param::optional("b", Kind::Tensor, Default::Absent),
        ],
        result: |types| match types.ty(0) {
            Some(Type::Tensor(x)) => (Type::Tensor(x.clone()), Known::Nothing),
            _ => (Type::any_tensor(), Known::Nothing),
        },
        run: |_, args| {
            let (x, w, layer) = (args.tensor(0)?, args.tensor(1)?, args.size(3)?);
            let b = if args.is_given(4) { Some(args.tensor(4)?) } else { None };
            Ok(Value::Tensor(cache(args, 2)?.lock().convolve(layer, x, w, b)?))
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
            Param::required("q", Kind::Tensor),
            Param::required("k", Kind::Tensor),
            Param::required("v", Kind::Tensor),
            Param::required("gate", Kind::Tensor),
            Param::required("beta", Kind::Tensor),
            CACHE,
            Param::required("layer", Kind::Int),
            Param::optional("tiled", Kind::Bool, Default::Bool(false)),
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
            Ok(Value::Tensor(cache(args, 5)?.lock().update_delta_rule(layer, q, &step)?))
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
        name: "generate",
        doc: "The text with which the model continues a prompt: at most `max_tokens` tokens, chosen as `sample` does. Penalties for \
              the last `penalty_window` tokens, of the prompt and of the text, change their logits first: `repetition_penalty` \
              divides the positive ones and multiplies the negative ones (1: no change), `presence_penalty` is subtracted once, \
              and `frequency_penalty` once for each time. The text ends before the first of the `stop` strings, a list. The \
              first call reserves memory for prompt and text, unless the program has; the model keeps it, so that a call with no more \
              tokens allocates nothing.",
        params: &[
            MODEL,
            Param::required("prompt", Kind::Text),
            Param::optional("max_tokens", Kind::Int, Default::Int(100)),
            Param::optional("temperature", Kind::Number, Default::Number(0.8)),
            Param::optional("top_p", Kind::Number, Default::Number(0.95)),
            Param::optional("top_k", Kind::Int, Default::Int(0)),
            Param::optional("seed", Kind::Int, Default::Int(0)),
            Param::optional("min_p", Kind::Number, Default::Number(0.0)),
            Param::optional("repetition_penalty", Kind::Number, Default::Number(1.0)),
            Param::optional("presence_penalty", Kind::Number, Default::Number(0.0)),
            Param::optional("frequency_penalty", Kind::Number, Default::Number(0.0)),
            Param::optional("penalty_window", Kind::Int, Default::Int(64)),
            Param::optional("stop", Kind::Texts, Default::Absent),
        ],
        result: always!(Str),
        run: |_, args| super::generation::generate(args),
        ..Builtin::BASE
    },
    Builtin {
        name: "has",
        doc: "Whether the model's file has a tensor of that name, such as \"blk.0.attn_q.bias\".",
        owner: Some(HandleKind::Model),
        params: &[MODEL, Param::required("name", Kind::Text)],
        result: always!(Bool),
        run: |_, args| Ok(Value::Bool(model(args, 0)?.has(args.text(1)?))),
        ..Builtin::BASE
    },
    Builtin {
        name: "meta",
        doc: "What the model's file says under a key, or `default` where it says nothing. A key that begins with a dot has the \
              architecture's name put before it: `model.meta(\".attention.sliding_window\", 0)`. The value has the type of `default`.",
        owner: Some(HandleKind::Model),
        params: &[MODEL, Param::required("key", Kind::Text), Param::required("default", Kind::Any)],
        result: |types| {
            let ty = match types.ty(2) {
                // An empty list says nothing of what the file's holds.
                Some(ty @ (Type::Int | Type::Float | Type::Bool | Type::Str)) => ty.clone(),
                Some(Type::List(element)) => Type::List(element.clone()),
                _ => Type::Unknown,
            };
            (ty, Known::Nothing)
        },
        run: |_, args| {
            let default = args.take(2);
            let key = args.text(1)?;
            let Some(found) = model(args, 0)?.metadata(key) else { return Ok(default) };
            metadata(found, &default).ok_or_else(|| {
                Failure::new(format!(
                    "`meta`: under `{key}` the model has {}, which does not fit the default, {}",
                    metadata_value(found).describe(),
                    default.describe()
                ))
            })
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "layer_meta",
        doc: "What the model's file says of a layer under a key: of a list with a value for each layer that of this one, of a single value \
              that, as `meta` gives it. `model.layer_meta(i, \".attention.head_count_kv\", 1)`.",
        owner: Some(HandleKind::Model),
        params: &[
            MODEL,
            Param::required("layer", Kind::Int),
            Param::required("key", Kind::Text),
            Param::required("default", Kind::Any),
        ],
        result: |types| {
            let ty = match types.ty(3) {
                Some(ty @ (Type::Int | Type::Float | Type::Bool | Type::Str)) => ty.clone(),
                _ => Type::Unknown,
            };
            (ty, Known::Nothing)
        },
        run: |_, args| {
            let default = args.take(3);
            let (layer, key) = (args.size(1)?, args.text(2)?);
            let found = match model(args, 0)?.metadata(key) {
                None => return Ok(default),
                Some(MetadataValue::List(layers)) => layers.get(layer).ok_or_else(|| {
                    let n_layers = layers.len();
                    Failure::new(format!(
                        "`layer_meta`: under `{key}` the model has a list of {n_layers}, which says nothing of layer {layer}"
                    ))
                })?,
                Some(found) => found,
            };
            metadata(found, &default).ok_or_else(|| {
                Failure::new(format!(
                    "`layer_meta`: under `{key}` the model has {} for layer {layer}, which does not fit the default, {}",
                    metadata_value(found).describe(),
                    default.describe()
                ))
            })
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "window",
        doc: "How many tokens a layer's attention sees, itself included; 0: all. The file's key `.attention.sliding_window` says it, and \
              `.attention.sliding_window_pattern` which layers have it: a bool for each, or a period of which the last layer sees all. \
              `period` is taken where the file has no pattern; 0: every layer has the window.",
        owner: Some(HandleKind::Model),
        params: &[MODEL, Param::required("layer", Kind::Int), Param::optional("period", Kind::Int, Default::Int(0))],
        result: always!(Int),
        run: |_, args| {
            let (layer, period) = (args.size(1)?, args.int(2)?);
            let model = model(args, 0)?;
            let is_windowed = |period: i64| period <= 0 || (layer as i64 + 1) % period != 0;
            let windowed = match model.metadata(".attention.sliding_window_pattern") {
                Some(MetadataValue::Int(period)) => is_windowed(*period),
                Some(MetadataValue::List(layers)) => match layers.get(layer) {
                    Some(MetadataValue::Bool(windowed)) => *windowed,
                    Some(MetadataValue::Int(windowed)) => *windowed != 0,
                    _ => return Err(Failure::new(format!("`window`: the model says nothing of layer {layer}"))),
                },
                _ => is_windowed(period),
            };
            match model.metadata(".attention.sliding_window") {
                Some(MetadataValue::Int(window)) if windowed && *window > 0 => Ok(Value::Int(*window)),
                _ => Ok(Value::Int(0)),
            }
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "rows_for_logits",
        doc: "Of `x: [n, ..]`, which has a row for each token of a step, those whose logits are wanted: the last one unless the host \
              wants all. `→ [m, ..]`.",
        owner: Some(HandleKind::KvCache),
        params: &[CACHE, Param::required("x", Kind::Tensor)],
        result: |types| resized(types.ty(1), <[Size]>::first_mut),
        run: |_, args| Ok(Value::Tensor(cache(args, 0)?.lock().rows_for_logits(args.tensor(1)?)?)),
        ..Builtin::BASE
    },
];

/// A value of a file's metadata in the type of the default; `None` where it has another.
fn metadata(found: &MetadataValue, default: &Value) -> Option<Value> {
    Some(match (found, default) {
        (MetadataValue::Int(n), Value::Int(_)) => Value::Int(*n),
        (MetadataValue::Int(n), Value::Float(_)) => Value::Float(*n as f64),
        (MetadataValue::Float(x), Value::Float(_)) => Value::Float(*x),
        (MetadataValue::Bool(truth), Value::Bool(_)) => Value::Bool(*truth),
        (MetadataValue::Text(text), Value::Str(_)) => Value::text(text),
        (MetadataValue::List(_), Value::Ints(_) | Value::List(_)) => metadata_value(found),
        _ => return None,
    })
}

fn metadata_value(found: &MetadataValue) -> Value {
    match found {
        MetadataValue::Int(n) => Value::Int(*n),
        MetadataValue::Float(x) => Value::Float(*x),
        MetadataValue::Bool(truth) => Value::Bool(*truth),
        MetadataValue::Text(text) => Value::text(text),
        MetadataValue::List(values) => Value::list(values.iter().map(metadata_value)),
        _ => Value::None,
    }
}

fn model<'a>(args: &'a Args<'_>, index: usize) -> Result<&'a Weights, Failure> {
    match args.handle(index, HandleKind::Model)? {
        Handle::Model(model, _) => Ok(model),
        _ => Err(Failure::new("not a model")),
    }
}

/// The messages of a list of pairs, who speaks and what is said.
fn messages(list: &Value, device: &Device) -> Result<Vec<Message>, Failure> {
    let wrong = || Failure::new("`chat_template`: a message is a list of two strings, as in [\"user\", \"Hello\"]");
    let n = list.list_len().unwrap_or(0);
    let message = |index: usize| match list.element(index).as_ref().map(|pair| (pair.element(0), pair.element(1))) {
        Some((Some(Value::Str(role)), Some(Value::Str(text)))) => {
            // The message, and the template's text with it.
            let what = || format!("a message of {}", tl_device::bytes(text.len() as u64));
            device.check_heap(text.len().saturating_mul(4), what)?;
            Ok(Message::new(&*role, &*text))
        }
        _ => Err(wrong()),
    };
    (0..n).map(message).collect()
}

/// Whether there is room on the heap for what encoding a text takes.
pub(super) fn check_encoding(device: &Device, text: &str) -> Result<(), Failure> {
    let what = || format!("encoding a text of {}", tl_device::bytes(text.len() as u64));
    Ok(device.check_heap(text.len().saturating_mul(ENCODING_BYTES), what)?)
}

fn tokenizer<'a>(args: &'a Args<'_>) -> Result<&'a Arc<Tokenizer>, Failure> {
    match args.handle(0, HandleKind::Tokenizer)? {
        Handle::Tokenizer(tokenizer) => Ok(tokenizer),
        _ => Err(Failure::new("not a tokenizer")),
    }
}

fn stream<'a>(args: &'a Args<'_>) -> Result<&'a Mutex<Decoding>, Failure> {
    match args.handle(0, HandleKind::DecodeStream)? {
        Handle::DecodeStream(stream) => Ok(stream),
        _ => Err(Failure::new("not a decode stream")),
    }
}

fn cache<'a>(args: &'a Args<'_>, index: usize) -> Result<&'a Mutex<KvCache>, Failure> {
    match args.handle(index, HandleKind::KvCache)? {
        Handle::KvCache(cache) => Ok(cache),
        _ => Err(Failure::new("not a KV cache")),
    }
}

/// The type of a tensor as this one, with one size that is not known: that which `which` chooses.
fn resized(ty: Option<&Type>, which: impl Fn(&mut [Size]) -> Option<&mut Size>) -> (Type, Known) {
    let Some(Type::Tensor(TensorType { dtype, sizes })) = ty else { return (Type::any_tensor(), Known::Nothing) };
    let mut sizes = sizes.clone();
    if let Some(size) = sizes.as_mut().and_then(|sizes| which(sizes)) {
        *size = Size::Unknown;
    }
    (Type::Tensor(TensorType { dtype: *dtype, sizes }), Known::Nothing)
}

fn id(args: &Args<'_>, index: usize) -> Result<u32, Failure> {
    let id = args.int(index)?;
    u32::try_from(id).map_err(|_| Failure::new(format!("{id} is not a token id")))
}

fn load_tokenizer(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, Failure> {
    let tokenizer = match args.value(0) {
        Value::Handle(Handle::Model(model, _)) => model.tokenizer()?,
        _ => {
            let path = args.path(0, context.host)?;
            Arc::new(Tokenizer::of(&Checkpoint::open(&path)?)?)
        }
    };
    Ok(Value::Handle(Handle::Tokenizer(tokenizer)))
}

/// The tensor at a model's node.
pub(crate) fn node_tensor(node: &ModelNode) -> Result<&Tensor, Failure> {
    match node.tensor()? {
        Some(tensor) => Ok(tensor),
        None => Err(Failure::new(format!("`{}` is no tensor: it has parts, {}", node.path(), parts(node)))),
    }
}

/// The names of a node's children, a few of them.
fn parts(node: &ModelNode) -> String {
    let mut names: Vec<&str> = node.child_names().take(12).collect();
    if node.child_names().nth(names.len()).is_some() {
        names.push("…");
    }
    names.join(", ")
}

/// The field that a model has beside its parts.
pub(crate) const CONFIG: &str = "config";

/// The field that says what a model computes in.
pub(crate) const ACTIVATIONS: &str = "activations";

pub(super) fn field_type(kind: HandleKind, name: &str) -> Option<Type> {
    match (kind, name) {
        (HandleKind::Model, CONFIG) => Some(Type::Handle(HandleKind::Config)),
        (HandleKind::Model, ACTIVATIONS) => Some(Type::Dtype),
        // Whether it is there, the file tells.
        (HandleKind::Model | HandleKind::Node, "weight" | "bias") => Some(Type::any_tensor()),
        (HandleKind::Model | HandleKind::Node, _) => Some(Type::Handle(HandleKind::Node)),
        (HandleKind::Config, "architecture") => Some(Type::Str),
        (HandleKind::Config, "rope_base" | "rope_scale" | "rope_magnitude" | "norm_eps" | "rms_eps") => {
            Some(Type::Float)
        }
        (HandleKind::Config, name) => ModelConfig::FIELDS.contains(&name).then_some(Type::Int),
        (HandleKind::KvCache, "len" | "capacity" | "layers") => Some(Type::Int),
        (HandleKind::Tokenizer, "vocab_size" | "bos" | "eos") => Some(Type::Int),
        (HandleKind::Plan, "bytes" | "count") => Some(Type::Int),
        _ => None,
    }
}

pub(super) fn field_names(kind: HandleKind) -> Vec<&'static str> {
    match kind {
        HandleKind::Config => ModelConfig::FIELDS.to_vec(),
        HandleKind::KvCache => vec!["len", "capacity", "layers"],
        HandleKind::Tokenizer => vec!["vocab_size", "bos", "eos"],
        HandleKind::Plan => vec!["bytes", "count"],
        _ => Vec::new(),
    }
}

/// A handle's field that is a number.
pub(super) fn number_field(handle: &Handle, name: &str) -> Option<Number> {
    let size = match (handle, name) {
        (Handle::Config(model), _) => match model.config().field(name)? {
            ConfigValue::Int(n) => n,
            ConfigValue::Float(x) => return Some(Number::Float(x)),
            ConfigValue::Text(_) => return None,
        },
        (Handle::KvCache(cache), "len") => cache.lock().len(),
        (Handle::KvCache(cache), "capacity") => cache.lock().capacity(),
        (Handle::KvCache(cache), "layers") => cache.lock().n_layers(),
        (Handle::Tokenizer(tokenizer), "vocab_size") => tokenizer.vocab_size(),
        (Handle::Plan(plan), "bytes") => usize::try_from(plan.bytes()).unwrap_or(usize::MAX),
        (Handle::Plan(plan), "count") => plan.count(),
        _ => return None,
    };
    Some(Number::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

pub(super) fn field(handle: &Handle, name: &str) -> Result<Value, Failure> {
    if let Some(number) = number_field(handle, name) {
        return Ok(number.into());
    }
    match (handle, name) {
        (Handle::Model(model, _), CONFIG) => Ok(Value::Handle(Handle::Config(model.clone()))),
        (Handle::Model(model, _), ACTIVATIONS) => Ok(Value::DType(model.activations().dtype())),
        (Handle::Model(model, _), _) => child(&model.root(), name),
        (Handle::Node(node), _) => child(node, name),
        (Handle::Config(model), _) => match model.config().field(name) {
            Some(ConfigValue::Text(text)) => Ok(Value::text(text)),
            _ => Err(Failure::new(format!("a model's config has no field `{name}`"))),
        },
        (Handle::Tokenizer(tokenizer), "bos") => special(tokenizer.bos(), name),
        (Handle::Tokenizer(tokenizer), "eos") => special(tokenizer.eos(), name),
        (handle, _) => Err(Failure::new(format!("{} has no field `{name}`", handle.kind().name()))),
    }
}

fn special(id: Option<u32>, name: &str) -> Result<Value, Failure> {
    match id {
        Some(id) => Ok(Value::Int(i64::from(id))),
        None => Err(Failure::new(format!("this tokenizer has no `{name}` token"))),
    }
}

fn child(node: &ModelNode, name: &str) -> Result<Value, Failure> {
    match node.child(name) {
        Some(child) => node_value(child.by_ref()),
        // A model without a table of its own for the output uses that of the input.
        None if name == "output" && node.path().is_empty() && node.child("token_embd").is_some() => {
            child(node, "token_embd")
        }
        None => {
            let path = node.path();
            let place = if path.is_empty() { "this model".to_string() } else { format!("`{path}`") };
            let failure = Failure::new(format!("{place} has no part `{name}`"));
            Err(match crate::names::nearest(name, node.child_names()) {
                Some(near) => failure.hint(format!("did you mean `{near}`?")),
                None => failure.hint(format!("its parts are {}", parts(node))),
            })
        }
    }
}

/// A node that is a tensor is that tensor.
pub(crate) fn node_value(node: NodeRef<'_>) -> Result<Value, Failure> {
    match node.tensor()? {
        Some(tensor) => Ok(Value::Tensor(tensor.clone())),
        None => Ok(Value::Handle(Handle::Node(node.to_node()))),
    }
}

/// `blk[i]`
pub(super) fn element(value: &Value, index: i64) -> Result<Value, Failure> {
    let Value::Handle(Handle::Node(node)) = value else {
        return Err(Failure::new(format!("{} has no elements to index", value.describe())));
    };
    let len = node.n_indexed() as i64;
    let place = if index < 0 { index.saturating_add(len) } else { index };
    match usize::try_from(place).ok().and_then(|place| node.index(place)) {
        Some(child) => node_value(child.by_ref()),
        None => Err(Failure::new(format!("index {index} is out of range: `{}` has {len} parts", node.path()))),
    }
}
