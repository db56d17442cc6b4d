//! Tensors in files.

use tl_model::{TensorFile, load_tensors};
use tl_tensor::Tensor;
use tl_tensor::ops::TensorType;

use super::args::Args;
use super::error::BuiltinError;
use super::nodes::node_tensor;
use super::param::{Param, ParamKind};
use super::row::{Builtin, Context};
use crate::types::{Known, Type};
use crate::value::{Handle, Key, Map, Shared, Value};

pub(super) static ROWS: &[Builtin] = &[
    Builtin {
        name: "save",
        doc: "Writes the tensors of a map to a safetensors file, under their keys: `save({\"w\": w}, \"p.safetensors\")`. The file is \
              written beside its target, which it replaces when it is complete.",
        params: &[Param::required("tensors", ParamKind::Map), Param::required("path", ParamKind::Text)],
        run: save,
        ..Builtin::BASE
    },
    Builtin {
        name: "load",
        doc: "The tensors of a safetensors file, a map by their names: `load(\"p.safetensors\")[\"w\"]`. Each is of the type that it \
              has in the file: `float16`, `float32`, `int32` or `bool`; bfloat16 becomes `float32`.",
        params: &[Param::required("path", ParamKind::Text)],
        result: |_| (Type::map(Type::Str, Type::Tensor(TensorType::default())), Known::Nothing),
        run: load,
        ..Builtin::BASE
    },
];

fn save(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let Value::Map(map) = args.value(0) else {
        return Err(BuiltinError::new(format!("`save` takes a map of tensors, not {}", args.value(0).describe())));
    };
    let tensors: Vec<(&str, &Tensor)> = map.iter().map(named_tensor).collect::<Result<_, _>>()?;
    let file = TensorFile::new(tensors)?;
    if context.device.is_simulated() {
        // There are no elements to write.
        return Ok(Value::Unit);
    }
    let path = args.text(1)?;
    let written = context.host.write_file(path, &mut |out| file.write(out));
    written.map_err(|problem| BuiltinError::new(format!("{path} cannot be written: {problem}")))?;
    Ok(Value::Unit)
}

fn named_tensor<'a>((key, value): (&'a Key, &'a Value)) -> Result<(&'a str, &'a Tensor), BuiltinError> {
    let Key::Str(name) = key else {
        return Err(
            BuiltinError::new("`save`: the names of tensors must be strings").hint("as in `save({\"w\": w}, path)`")
        );
    };
    match value {
        Value::Tensor(tensor) => Ok((name, tensor)),
        Value::Handle(Handle::Node(node)) => Ok((name, node_tensor(node)?)),
        other => {
            let message = format!("`save`: {name:?} must be a tensor, and is {}", other.describe());
            Err(BuiltinError::new(message))
        }
    }
}

fn load(context: &mut Context<'_>, args: &mut Args<'_>) -> Result<Value, BuiltinError> {
    let path = args.text(0)?;
    let file = context.host.file_path(path).map_err(|problem| BuiltinError::new(format!("{path}: {problem}")))?;
    let tensors = load_tensors(context.device, &file)?;
    let map: Map = tensors.into_iter().map(|(name, tensor)| (Key::Str(name.into()), Value::tensor(tensor))).collect();
    Ok(Value::Map(Shared::new(map)))
}
