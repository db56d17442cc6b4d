//! Checks a program: its main file and its imports.

use std::sync::Arc;

use tl_syntax::ast::Item;
use tl_syntax::{Diagnostic, SourceMap, Span};
use tl_tensor::ops::clear_terms;

use crate::check::checker::{Checker, Part};
use crate::check::files::{Files, LoadedFile};
use crate::host::Host;
use crate::ir::Program;
use crate::types::Type;

/// A program after checking.
pub(crate) struct Checked {
    /// Absent if there are errors.
    pub(crate) program: Option<Program>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What a check does beside finding errors.
#[derive(Clone, Debug, Default)]
pub(crate) struct CheckOptions {
    pub(crate) part: Part,
    /// Errors in shapes are left to the running program.
    pub(crate) leaves_shapes: bool,
}

/// Parses and checks the file with this name and text, and its imports. The program runs as it is written, and all values live
/// until their function ends.
pub(crate) fn check(
    name: &str,
    text: &str,
    options: &CheckOptions,
    host: &mut dyn Host,
    sources: &mut SourceMap,
) -> Checked {
    let mut files = Files::new(host, sources);
    files.load_main(name, text);
    let dead = u32::from(options.leaves_shapes);
    let checker = Checker { part: options.part, dead, ..Checker::default() };
    check_files(checker, &files.loaded, files.diagnostics).0
}

/// Checks files; also gives the type of an entry's value.
fn check_files(
    mut checker: Checker,
    files: &[LoadedFile],
    mut diagnostics: Vec<Diagnostic>,
) -> (Checked, Option<String>) {
    clear_terms();
    let program = checker.program(files);
    let mut of_calls = checker.call_errors();
    diagnostics.append(&mut checker.diagnostics);
    diagnostics.append(&mut of_calls);
    clear_terms();
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span().file, diagnostic.span().start));
    // What several rounds of a loop have is said once, with the sizes of the first.
    diagnostics.dedup_by(|a, b| a == b || (a.code.is_some() && a.code == b.code && a.span() == b.span()));
    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    (Checked { program: (!has_errors).then_some(program), diagnostics }, checker.value_type)
}

/// What a session keeps of the entries that were checked.
#[derive(Clone, Default)]
pub(crate) struct Declarations {
    /// The files that they import, with nothing that runs.
    imported: Vec<LoadedFile>,
    /// Their own imports, functions and types.
    items: Vec<Item>,
}

impl Declarations {
    /// All of them, those of imported files included.
    pub(crate) fn items(&self) -> impl Iterator<Item = &Item> {
        self.imported.iter().flat_map(|file| &file.tree.items).chain(&self.items)
    }

    /// Drops the function around a place, and gives its name.
    pub(crate) fn forget_function_at(&mut self, place: Span) -> Option<Arc<str>> {
        let at = self.items.iter().position(|item| match item {
            Item::Function(function) => {
                let whole = function.span.to(function.body.span);
                whole.file == place.file && whole.start <= place.start && place.end <= whole.end
            }
            _ => false,
        })?;
        match self.items.remove(at) {
            Item::Function(function) => Some(function.name.text),
            _ => None,
        }
    }
}

/// A checked entry of a session.
pub(crate) struct CheckedEntry {
    pub(crate) checked: Checked,
    /// The type of its value.
    pub(crate) value_type: Option<String>,
    /// Those of the session with the entry's own, if it has no errors.
    pub(crate) declarations: Declarations,
}

/// Checks an entry of a session: a text that follows others, whose declarations and variables it sees. It may declare
/// functions anew.
pub(crate) fn check_entry(
    (name, text): (&str, &str),
    before: &Declarations,
    variables: Vec<(Arc<str>, Type)>,
    host: &mut dyn Host,
    sources: &mut SourceMap,
) -> CheckedEntry {
    let mut files = Files::new(host, sources);
    files.loaded = before.imported.clone();
    files.load_main(name, text);
    let Files { mut loaded, diagnostics, .. } = files;
    if let Some(main) = loaded.last_mut() {
        let declares_again = |old: &Item| main.tree.items.iter().any(|new| names_the_same(old, new));
        let mut items: Vec<Item> = before.items.iter().filter(|old| !declares_again(old)).cloned().collect();
        items.append(&mut main.tree.items);
        main.tree.items = items;
    }
    let checker = Checker { part: Part::Entry, variables, ..Checker::default() };
    let (checked, value_type) = check_files(checker, &loaded, diagnostics);
    loaded.iter_mut().for_each(|file| file.tree.items.retain(is_declaration));
    let items = loaded.pop().map(|main| main.tree.items).unwrap_or_default();
    CheckedEntry { checked, value_type, declarations: Declarations { imported: loaded, items } }
}

fn is_declaration(item: &Item) -> bool {
    !matches!(item, Item::Statement(_) | Item::Main(_) | Item::Test(_))
}

/// Whether two items declare one name, or import one file.
fn names_the_same(old: &Item, new: &Item) -> bool {
    match (old, new) {
        (Item::Function(old), Item::Function(new)) => old.name.text == new.name.text,
        (Item::Import(old), Item::Import(new)) => old.path == new.path,
        _ => false,
    }
}
