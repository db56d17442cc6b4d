//! `tl info`: what a model file holds, also of files whose formats cannot be computed on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

use tl_device::{Device, Simulation, bytes as display_bytes};
use tl_engine::{Model, Tokenizer, Weights};
use tl_model::{Checkpoint, CheckpointTensor, ModelConfig, Value, is_supported_type};

use crate::models;
use crate::output::{self, Stop};

/// Prints the model's metadata, its configuration, whether it can be run, and its tensors.
pub(crate) fn run(path: &Path) -> Result<(), Stop> {
    let path = &models::resolve(path)?;
    let checkpoint = Checkpoint::open(path).map_err(Stop::failed)?;
    let mut text = String::new();
    file(&mut text, path, &checkpoint);
    model(&mut text, &Arc::new(checkpoint));
    output::print(&text)
}

/// Writing into a string cannot fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{ let _ = writeln!($text, $($arg)*); }};
}

fn file(text: &mut String, path: &Path, checkpoint: &Checkpoint) {
    let name = checkpoint.string("general.name").ok().flatten().unwrap_or("no name");
    line!(text, "{}: {}", path.display(), display_bytes(checkpoint.file_bytes()));
    line!(text, "name          {}", printable(name));
    line!(text, "architecture  {}", printable(checkpoint.architecture()));
    let elems = checkpoint.tensors().iter().fold(0u64, |sum, tensor| sum.saturating_add(n_elems(tensor)));
    line!(text, "parameters    {elems} in {} tensors", checkpoint.tensors().len());
    let mut formats: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for tensor in checkpoint.tensors() {
        let format = formats.entry(tensor.tensor_type.to_string()).or_default();
        format.0 += 1;
        format.1 = format.1.saturating_add(tensor.len_bytes().unwrap_or(0));
    }
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
    // Everything about a model but the values of its weights is seen without reading those.
    match Weights::new(checkpoint.clone(), &Device::simulated(Simulation::default()))
        .and_then(|weights| Model::new(weights, None))
    {
        Ok(_) => line!(text, "runs          yes, by the script `tl arch {}`", checkpoint.architecture()),
        Err(error) => line!(text, "runs          no: {error}"),
    }
    metadata(text, checkpoint);
    tensors(text, checkpoint);
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
    for tensor in checkpoint.tensors() {
        let dims = format!("{:?}", tensor.dims);
        let format = tensor.tensor_type.to_string();
        let note = if is_supported_type(tensor.tensor_type) { "" } else { "  cannot be computed on" };
        let size = display_bytes(tensor.len_bytes().unwrap_or(0));
        line!(text, "  {:<32} {dims:<18} {format:<8} {size:>11}{note}", printable(&tensor.name));
    }
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
