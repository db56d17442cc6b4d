//! Models: loading, weights, and metadata.

use tl_model::{Activations, MetadataValue, Weights};

use super::args::Args;
use super::error::BuiltinError;
use super::param::{DefaultValue, Param, ParamKind};
use super::row::{Builtin, always};
use crate::types::{HandleKind, Known, Type};
use crate::value::{Handle, ReservationCell, Value};

pub(super) const MODEL: Param = Param::required("model", ParamKind::Handle(HandleKind::Model));

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "load_model",
        doc: "A model from a GGUF file or a folder of Hugging Face's; `tl run` also takes `org/repo[:quant]` and `ollama:name`. Its weights are used where they lie in the file, in their stored format; with \
              `mapped: false` the file is read into memory first. Its own `generate` computes in `activations`, `float16` or `float32`.",
        params: &[
            Param::required("path", ParamKind::Text),
            Param::optional("activations", ParamKind::DType, DefaultValue::Absent),
            Param::optional("mapped", ParamKind::Bool, DefaultValue::Bool(true)),
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
                    return Err(BuiltinError::new(format!(
                        "load_model: activations are float16 or float32, not {other}"
                    )));
                }
            };
            Ok(Value::Handle(Handle::model(model.with_activations(activations), Some(ReservationCell::default()))))
        },
        ..Builtin::BASE
    },
    Builtin {
        name: "get_tensor",
        is_constant: true,
        doc: "The weight of that name in a model's file, such as \"blk.0.attn_q.weight\".",
        params: &[MODEL, Param::required("name", ParamKind::Text)],
        result: |_| (Type::any_tensor(), Known::Nothing),
        run: |_, args| Ok(Value::tensor(model(args, 0)?.tensor(args.text(1)?)?.clone())),
        ..Builtin::BASE
    },
    Builtin {
        name: "has",
        is_constant: true,
        doc: "Whether the model's file has a tensor of that name, such as \"blk.0.attn_q.bias\".",
        owner: Some(HandleKind::Model),
        params: &[MODEL, Param::required("name", ParamKind::Text)],
        result: always!(Bool),
        run: |_, args| Ok(Value::Bool(model(args, 0)?.has(args.text(1)?))),
        ..Builtin::BASE
    },
    Builtin {
        name: "meta",
        is_constant: true,
        doc: "What the model's file says under a key, or `default` where it says nothing. A key that begins with a dot has the \
              architecture's name put before it: `model.meta(\".attention.sliding_window\", 0)`. The value has the type of `default`.",
        owner: Some(HandleKind::Model),
        params: &[MODEL, Param::required("key", ParamKind::Text), Param::required("default", ParamKind::Any)],
        result: |types| {
            let ty = match types.ty(2) {
                // An empty list tells nothing of the elements of the file's.
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
                BuiltinError::new(format!(
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
        is_constant: true,
        doc: "What the model's file says of a layer under a key: of a list with a value for each layer that of this one, of a single value \
              that, as `meta` gives it. `model.layer_meta(i, \".attention.head_count_kv\", 1)`.",
        owner: Some(HandleKind::Model),
        params: &[
            MODEL,
            Param::required("layer", ParamKind::Int),
            Param::required("key", ParamKind::Text),
            Param::required("default", ParamKind::Any),
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
                    BuiltinError::new(format!(
                        "`layer_meta`: under `{key}` the model has a list of {n_layers}, which says nothing of layer {layer}"
                    ))
                })?,
                Some(found) => found,
            };
            metadata(found, &default).ok_or_else(|| {
                BuiltinError::new(format!(
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
        is_constant: true,
        doc: "How many tokens a layer's attention sees, itself included; 0: all. The file's key `.attention.sliding_window` says it, and \
              `.attention.sliding_window_pattern` which layers have it: a bool for each, or a period of which the last layer sees all. \
              `period` is taken where the file has no pattern; 0: every layer has the window.",
        owner: Some(HandleKind::Model),
        params: &[
            MODEL,
            Param::required("layer", ParamKind::Int),
            Param::optional("period", ParamKind::Int, DefaultValue::Int(0)),
        ],
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
                    _ => return Err(BuiltinError::new(format!("`window`: the model says nothing of layer {layer}"))),
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
];

/// A value of a file's metadata in the type of the default; `None` if it has another type.
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

pub(super) fn model<'a>(args: &'a Args<'_>, index: usize) -> Result<&'a Weights, BuiltinError> {
    match args.handle(index, HandleKind::Model)? {
        Handle::Model(model) => Ok(&model.weights),
        _ => Err(BuiltinError::new("not a model")),
    }
}
