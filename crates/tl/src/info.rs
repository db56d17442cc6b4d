//! `tl info`: what a model file holds, also of files whose formats cannot be computed on.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

use tl_device::{Mapping, bytes as display_bytes};
use tl_model::{Gguf, LlamaConfig, TensorInfo, Tokenizer, Value, is_supported_type};

use crate::output::{self, Stop};

/// Prints the file's metadata, its configuration where it is one that can be computed, and its tensors.
pub(crate) fn run(path: &Path) -> Result<(), Stop> {
    let failed = |error: &dyn std::fmt::Display| Stop::Failed(format!("{}: {error}", path.display()));
    let mapping = Mapping::open(path).map_err(|error| failed(&error))?;
    let gguf = Gguf::parse(mapping.bytes()).map_err(|error| failed(&error))?;
    let mut text = String::new();
    file(&mut text, path, &gguf, mapping.bytes().len());
    model(&mut text, &gguf);
    metadata(&mut text, &gguf);
    tensors(&mut text, &gguf);
    output::print(&text)
}

/// Writing into a string cannot fail.
macro_rules! line {
    ($text:expr, $($arg:tt)*) => {{ let _ = writeln!($text, $($arg)*); }};
}

fn file(text: &mut String, path: &Path, gguf: &Gguf<'_>, len_bytes: usize) {
    let name = gguf.string("general.name").ok().flatten().unwrap_or("no name");
    let architecture = gguf.string("general.architecture").ok().flatten().unwrap_or("not given");
    line!(text, "{}: {}, GGUF version {}", path.display(), display_bytes(len_bytes as u64), gguf.version());
    line!(text, "name          {}", printable(name));
    line!(text, "architecture  {}", printable(architecture));
    let elems = gguf.tensors().iter().fold(0u64, |sum, tensor| sum.saturating_add(n_elems(tensor)));
    line!(text, "parameters    {elems} in {} tensors", gguf.tensors().len());
    let mut formats: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let format = formats.entry(tensor.tensor_type.to_string()).or_default();
        format.0 += 1;
        format.1 = format.1.saturating_add(tensor.data.len() as u64);
    }
    for (i, (format, (count, len_bytes))) in formats.iter().enumerate() {
        let title = if i == 0 { "formats" } else { "" };
        line!(text, "{title:<12}  {format}: {count} tensors, {}", display_bytes(*len_bytes));
    }
}

fn model(text: &mut String, gguf: &Gguf<'_>) {
    match LlamaConfig::from_gguf(gguf) {
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
            line!(text, "rms epsilon   {:e}", config.rms_eps);
        }
        Err(error) => line!(text, "cannot be computed: {error}"),
    }
    match Tokenizer::from_gguf(gguf) {
        Ok(tokenizer) => line!(text, "tokenizer     {}, {} tokens", tokenizer.kind(), tokenizer.vocab_size()),
        Err(error) => line!(text, "tokenizer     cannot be used: {error}"),
    }
}

fn metadata(text: &mut String, gguf: &Gguf<'_>) {
    line!(text, "\nmetadata ({})", gguf.metadata().len());
    for (key, value) in gguf.metadata() {
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

fn tensors(text: &mut String, gguf: &Gguf<'_>) {
    line!(text, "\ntensors ({})", gguf.tensors().len());
    for tensor in gguf.tensors() {
        let dims = format!("{:?}", tensor.dims);
        let format = tensor.tensor_type.to_string();
        let note = if is_supported_type(tensor.tensor_type) { "" } else { "  cannot be computed on" };
        let size = display_bytes(tensor.data.len() as u64);
        line!(text, "  {:<32} {dims:<18} {format:<8} {size:>11}{note}", printable(tensor.name));
    }
}

fn n_elems(tensor: &TensorInfo<'_>) -> u64 {
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
