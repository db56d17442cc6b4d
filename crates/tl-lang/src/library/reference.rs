//! All builtins as entries of a reference, for documentation and completion.

use tl_tensor::ops;

use super::param::{DefaultValue, ParamKind};
use super::row::Builtin;
use super::table::CHAPTERS;

/// A builtin as a reference shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name; a method's with its handle's type: `KvCache.clear`.
    pub name: String,
    /// Its chapter of the reference.
    pub chapter: &'static str,
    /// `softmax(x, dim: -1)`
    pub signature: String,
    /// What it does.
    pub doc: &'static str,
}

/// All builtins, operations included, in the order of their chapters.
pub fn reference() -> Vec<Entry> {
    let operations = ops::all().map(|op| {
        let params: Vec<String> = op.params.iter().map(|param| parameter(param.name, param.default)).collect();
        let chapter = match op.group {
            ops::Group::Create => "Create",
            ops::Group::Shape => "Shape",
            ops::Group::Elementwise => "Elementwise",
            ops::Group::Reduce => "Reduce",
            ops::Group::Linear => "Linear algebra",
            ops::Group::Transformer => "Transformer",
        };
        entry(op.name.to_string(), chapter, &params, op.doc)
    });
    let builtins = CHAPTERS.iter().flat_map(|(chapter, rows)| rows.iter().map(move |row| builtin_entry(chapter, row)));
    operations.chain(builtins).collect()
}

fn entry(name: String, chapter: &'static str, params: &[String], doc: &'static str) -> Entry {
    let signature = format!("{name}({})", params.join(", "));
    Entry { name, chapter, signature, doc }
}

fn builtin_entry(chapter: &'static str, row: &Builtin) -> Entry {
    let params: Vec<String> = row
        .params
        .iter()
        .skip(usize::from(row.owner.is_some()))
        .map(|param| match param.kind {
            ParamKind::Rest => "…".to_string(),
            _ => parameter(param.name, param.default),
        })
        .collect();
    let name = match row.owner {
        Some(owner) => format!("{}.{}", owner.name(), row.name),
        None => row.name.to_string(),
    };
    entry(name, chapter, &params, row.doc)
}

/// A parameter of a signature, with the value that it has when left out.
fn parameter(name: &str, default: Option<DefaultValue>) -> String {
    match default {
        None => name.to_string(),
        Some(DefaultValue::Absent) => format!("[{name}]"),
        Some(DefaultValue::Int(n)) => format!("{name}: {n}"),
        Some(DefaultValue::Number(x)) => format!("{name}: {x:?}"),
        Some(DefaultValue::Bool(value)) => format!("{name}: {value}"),
        Some(DefaultValue::Text(text)) => format!("{name}: {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures() {
        let all = reference();
        for expected in
            ["softmax(x, dim: -1)", "KvCache.clear()", "print(…, end: \"\\n\")", "buffer_reserve(shape, n, [dtype])"]
        {
            assert!(all.iter().any(|entry| entry.signature == expected), "{expected}");
        }
    }
}
