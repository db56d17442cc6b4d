//! All builtins as entries of a reference, which documentation and completion are made of.

use tl_tensor::ops;

use super::row::{Builtin, Default};

/// A builtin as a reference shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// As it is called; a method's with its handle before it: `KvCache.clear`.
    pub name: String,
    /// Where it stands in the reference.
    pub chapter: &'static str,
    /// `softmax(x, dim: -1)`
    pub signature: String,
    /// What it does.
    pub doc: &'static str,
}

/// All builtins, operations included, in the order of their chapters.
pub fn reference() -> Vec<Entry> {
    let operations = ops::all().map(|op| {
        let params: Vec<String> = op.params.iter().map(operation_param).collect();
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
    let builtins = super::table::CHAPTERS
        .iter()
        .flat_map(|(chapter, rows)| rows.iter().map(move |row| builtin_entry(chapter, row)));
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
        .map(|param| match param.default {
            _ if param.kind == super::Kind::Rest => "…".to_string(),
            None => param.name.to_string(),
            Some(Default::Absent) => format!("[{}]", param.name),
            Some(Default::Int(n)) => format!("{}: {n}", param.name),
            Some(Default::Number(x)) => format!("{}: {x:?}", param.name),
            Some(Default::Text(text)) => format!("{}: {text:?}", param.name),
            Some(Default::Bool(value)) => format!("{}: {value}", param.name),
        })
        .collect();
    let name = match row.owner {
        Some(owner) => format!("{}.{}", owner.name(), row.name),
        None => row.name.to_string(),
    };
    entry(name, chapter, &params, row.doc)
}

fn operation_param(param: &ops::Param) -> String {
    match param.default {
        None => param.name.to_string(),
        Some(ops::DefaultValue::Absent) => format!("[{}]", param.name),
        Some(ops::DefaultValue::Int(n)) => format!("{}: {n}", param.name),
        Some(ops::DefaultValue::Number(x)) => format!("{}: {x:?}", param.name),
        Some(ops::DefaultValue::Bool(value)) => format!("{}: {value}", param.name),
        Some(ops::DefaultValue::Text(text)) => format!("{}: {text:?}", param.name),
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
