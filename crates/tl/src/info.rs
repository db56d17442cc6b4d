//! `tl info`: the contents of a model file, also in formats that cannot be computed on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};
use tl_device::{Device, Simulation, bytes as display_bytes};
use tl_engine::{Model, Tokenizer, Weights};
use tl_model::{Checkpoint, CheckpointTensor, ModelConfig, Value, is_supported_type};

use crate::arguments::InfoArguments;
use crate::models;
use crate::output::{self, Stop};
use crate::table::table;

/// Writing into a string cannot fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{ let _ = writeln!($text, $($arg)*); }};
}

/// Prints the model's configuration, whether it can be run, its metadata, and on request its tensors.
pub(crate) fn run(arguments: &InfoArguments) -> Result<(), Stop> {
    let path = &models::find(&arguments.model)?;
    let checkpoint = Arc::new(Checkpoint::open(path).map_err(Stop::failed)?);
    if arguments.json {
        return output::print(&format!("{}\n", json(path, &checkpoint, arguments.tensors)));
    }
    let mut text = String::new();
    file(&mut text, path, &checkpoint);
    model(&mut text, &checkpoint);
    metadata(&mut text, &checkpoint);
    match arguments.tensors {
        true => tensors(&mut text, &checkpoint),
        false => line!(text, "\ntensors ({}): --tensors lists them", checkpoint.tensors().len()),
    }
    output::print(&text)
}

/// Checks that the model can be run.
fn check_runs(checkpoint: &Arc<Checkpoint>) -> Result<(), String> {
    // A simulated device suffices: the check reads no values of weights.
    let weights = Weights::new(checkpoint.clone(), &Device::simulated(Simulation::default()));
    weights.and_then(|weights| Model::new(weights, None)).map(drop).map_err(|error| error.to_string())
}

fn json(path: &Path, checkpoint: &Arc<Checkpoint>, with_tensors: bool) -> Json {
    let config = ModelConfig::of(checkpoint).ok().map(|config| {
        json!({
            "layers": config.n_layers,
            "width": config.dim,
            "feed_forward_width": config.ffn_dim,
            "heads": config.n_heads,
            "kv_heads": config.n_kv_heads,
            "head_dim": config.head_dim,
            "vocabulary": config.vocab_size,
            "context": config.context_length,
        })
    });
    let tokenizer = Tokenizer::of(checkpoint).ok();
    let problem = check_runs(checkpoint).err();
    let metadata: Map<String, Json> =
        checkpoint.metadata().map(|(key, value)| (key.to_owned(), value_json(value))).collect();
    let mut object = json!({
        "path": path,
        "file_bytes": checkpoint.file_bytes(),
        "name": checkpoint.string("general.name").ok().flatten(),
        "architecture": checkpoint.architecture(),
        "parameters": n_parameters(checkpoint),
        "tensor_count": checkpoint.tensors().len(),
        "formats": formats(checkpoint).into_iter().map(|(format, (count, bytes))| {
            (format, json!({ "tensors": count, "bytes": bytes }))
        }).collect::<Map<String, Json>>(),
        "config": config,
        "tokenizer": tokenizer.map(|tokenizer| json!({ "kind": tokenizer.kind().to_string(), "tokens": tokenizer.vocab_size() })),
        "runs": problem.is_none(),
        "problem": problem,
        "metadata": metadata,
    });
    if let (true, Some(object)) = (with_tensors, object.as_object_mut()) {
        let tensors = checkpoint.tensors().iter().map(|tensor| {
            json!({
                "name": tensor.name,
                "dims": tensor.dims,
                "format": tensor.tensor_type.to_string(),
                "bytes": tensor.len_bytes(),
            })
        });
        object.insert("tensors".to_owned(), tensors.collect());
    }
    object
}

/// A metadata value as JSON; an array as its length and type, as it may have a hundred thousand elements.
fn value_json(value: Value<'_>) -> Json {
    match value {
        Value::String(text) => json!(text),
        Value::Array(array) => json!({ "array": array.element().name(), "len": array.len() }),
        Value::Bool(x) => json!(x),
        Value::F32(x) => json!(x),
        Value::F64(x) => json!(x),
        Value::U64(x) => json!(x),
        Value::I64(x) => json!(x),
        other => other.as_integer().map_or_else(|| json!(shown(other)), |x| json!(x)),
    }
}

fn n_parameters(checkpoint: &Checkpoint) -> u64 {
    checkpoint.tensors().iter().fold(0u64, |sum, tensor| sum.saturating_add(n_elems(tensor)))
}

/// Number of tensors and their bytes, by format.
fn formats(checkpoint: &Checkpoint) -> BTreeMap<String, (usize, u64)> {
    let mut formats: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let format = formats.entry(tensor.tensor_type.to_string()).or_default();
        format.0 += 1;
        format.1 = format.1.saturating_add(tensor.len_bytes().unwrap_or(0));
    }
    formats
}

fn file(text: &mut String, path: &Path, checkpoint: &Checkpoint) {
    let name = checkpoint.string("general.name").ok().flatten().unwrap_or("no name");
    line!(text, "{}: {}", path.display(), display_bytes(checkpoint.file_bytes()));
    line!(text, "name          {}", printable(name));
    line!(text, "architecture  {}", printable(checkpoint.architecture()));
    line!(text, "parameters    {} in {} tensors", n_parameters(checkpoint), checkpoint.tensors().len());
    let formats = formats(checkpoint);
    for (i, (format, (count, len_bytes))) in formats.iter().enumerate() {
        let title = if i == 0 { "formats" } else { "" };
        line!(text, "{title:<12}  {format}: {count} tensors, {}", display_bytes(*len_bytes));
    }
}

fn model(text: &mut String, checkpoint: &Arc<Checkpoint>) {
    match ModelConfig::of(checkpoint) {
        Ok(config) => {
            line!(text, "layers        {}", config.n_layers);
            line!(text, "width         {} (feed-forward {})", config.dim, config.ffn_dim);
            line!(
                text,
                "heads         {} of {}, {} for keys and values",
                config.n_heads,
                config.head_dim,
                config.n_kv_heads
            );
            line!(text, "vocabulary    {}", config.vocab_size);
            line!(text, "context       {}", config.context_length);
            line!(text, "rope          base {}, {} of {} rotated", config.rope_base, config.rope_dim, config.head_dim);
            line!(text, "norm epsilon  {:e}", config.norm_eps);
        }
        Err(error) => line!(text, "configuration cannot be read: {error}"),
    }
    match Tokenizer::of(checkpoint) {
        Ok(tokenizer) => line!(text, "tokenizer     {}, {} tokens", tokenizer.kind(), tokenizer.vocab_size()),
        Err(error) => line!(text, "tokenizer     cannot be used: {error}"),
    }
    match check_runs(checkpoint) {
        Ok(()) => line!(text, "runs          yes, by the script `tl arch {}`", checkpoint.architecture()),
        Err(error) => line!(text, "runs          no: {error}"),
    }
}

fn metadata(text: &mut String, checkpoint: &Checkpoint) {
    line!(text, "\nmetadata ({})", checkpoint.metadata().count());
    for (key, value) in checkpoint.metadata() {
        line!(text, "  {:<44} {}", printable(key), shown(value));
    }
}

fn shown(value: Value<'_>) -> String {
    match value {
        Value::String(text) => printable(text),
        Value::Array(array) => format!("{} × {}", array.len(), array.element().name()),
        Value::U8(x) => x.to_string(),
        Value::I8(x) => x.to_string(),
        Value::U16(x) => x.to_string(),
        Value::I16(x) => x.to_string(),
        Value::U32(x) => x.to_string(),
        Value::I32(x) => x.to_string(),
        Value::U64(x) => x.to_string(),
        Value::I64(x) => x.to_string(),
        Value::F32(x) => x.to_string(),
        Value::F64(x) => x.to_string(),
        Value::Bool(x) => x.to_string(),
    }
}

fn tensors(text: &mut String, checkpoint: &Checkpoint) {
    line!(text, "\ntensors ({})", checkpoint.tensors().len());
    let rows = checkpoint.tensors().iter().map(|tensor| {
        let note = if is_supported_type(tensor.tensor_type) { "" } else { "cannot be computed on" };
        vec![
            format!("  {}", printable(&tensor.name)),
            format!("{:?}", tensor.dims),
            tensor.tensor_type.to_string(),
            display_bytes(tensor.len_bytes().unwrap_or(0)),
            note.to_owned(),
        ]
    });
    text.push_str(&table(rows, &[3]));
}

fn n_elems(tensor: &CheckpointTensor) -> u64 {
    tensor.dims.iter().fold(1u64, |product, &dim| product.saturating_mul(dim as u64))
}

/// A file's text on one line of a terminal: control characters escaped, long texts cut.
fn printable(text: &str) -> String {
    const LONGEST: usize = 200;
    let mut shown: String = text
        .chars()
        .take(LONGEST)
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            escaped.is_none().then_some(c).into_iter().chain(escaped.into_iter().flatten())
        })
        .collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}
