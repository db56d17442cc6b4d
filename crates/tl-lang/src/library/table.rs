//! The table of all rows, and lookups in it.

use tl_tensor::ops;

use super::row::Builtin;
use super::{
    caches, files, generation, lists, maps, memory, models, numbers, outside, places, plots, reductions, sampling,
    tensors, testing, text, tokenizers,
};
use crate::types::HandleKind;

/// Every builtin, by chapters of the reference.
pub(crate) static CHAPTERS: &[(&str, &[Builtin])] = &[
    ("Tensors", tensors::ROWS),
    ("Tensors", places::ROWS),
    ("Numbers", numbers::ROWS),
    ("Lists", lists::ROWS),
    ("Lists", reductions::ROWS),
    ("Maps", maps::ROWS),
    ("Text", text::ROWS),
    ("Memory", memory::ROWS),
    ("Models", models::ROWS),
    ("Models", tokenizers::ROWS),
    ("Models", caches::ROWS),
    ("Models", generation::ROWS),
    ("Sampling", sampling::ROWS),
    ("Assertions", testing::ROWS),
    ("Outside", files::ROWS),
    ("Outside", plots::ROWS),
    ("Outside", outside::ROWS),
];

fn rows() -> impl Iterator<Item = &'static Builtin> {
    CHAPTERS.iter().flat_map(|(_, rows)| rows.iter())
}

/// The function of that name; the first, if it takes values of several kinds.
pub(crate) fn builtin(name: &str) -> Option<&'static Builtin> {
    builtins(name).next()
}

/// The functions of that name, which differ in the kind of their first parameter.
pub(crate) fn builtins(name: &str) -> impl Iterator<Item = &'static Builtin> {
    rows().filter(move |row| row.owner.is_none() && row.name == name)
}

/// The method of that name of a kind of handle.
pub(crate) fn method(owner: HandleKind, name: &str) -> Option<&'static Builtin> {
    rows().find(|row| row.owner == Some(owner) && row.name == name)
}

/// The first method of that name, whatever its owner.
pub(crate) fn any_method(name: &str) -> Option<&'static Builtin> {
    rows().find(|row| row.owner.is_some() && row.name == name)
}

/// The methods of a kind of handle.
pub(crate) fn method_names(owner: HandleKind) -> Vec<&'static str> {
    rows().filter(|row| row.owner == Some(owner)).map(|row| row.name).collect()
}

/// Whether a function of that name exists, an operation included.
pub(crate) fn is_known(name: &str) -> bool {
    builtin(name).is_some() || ops::by_name(name).is_some()
}

/// The names of all functions, operations included.
pub(crate) fn function_names() -> impl Iterator<Item = &'static str> {
    rows().filter(|row| row.owner.is_none()).map(|row| row.name).chain(ops::all().map(|op| op.name))
}

/// Whether the builtin makes new tensors, so that a TensorBuffer has it as a method.
pub(crate) fn makes_tensors(name: &str) -> bool {
    ops::by_name(name).is_some_and(|op| op.group == ops::Group::Create)
        || builtin(name).is_some_and(|row| row.makes_tensors)
}

#[cfg(test)]
mod tests {
    use super::super::ArgTypes;
    use super::*;

    #[test]
    fn rows_are_in_order() {
        let mut seen = std::collections::HashSet::new();
        for row in rows() {
            let first = row.params.first().map(|param| param.kind.describe());
            assert!(seen.insert((row.owner.map(HandleKind::name), row.name, first)), "{} stands twice", row.name);
            assert!(row.doc.ends_with('.'), "{}: the documentation is no sentence", row.name);
            let first_optional = row.params.iter().position(|param| param.default.is_some());
            let last_required = row.params.iter().rposition(|param| param.default.is_none());
            if let (Some(optional), Some(required)) = (first_optional, last_required) {
                assert!(
                    optional > required,
                    "{}: a parameter that must be given stands behind one with a default",
                    row.name
                );
            }
            // A result rule gives a type even without any knowledge of the arguments.
            (row.result)(&ArgTypes(&[]));
        }
    }
}
