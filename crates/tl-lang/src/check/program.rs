//! Checks a program: its main file and its imports.

use std::sync::Arc;

use tl_model::Weights;
use tl_syntax::ast::{Atom, Fact, Function, Item, Relation, Rule, Statement, StatementKind};
use tl_syntax::{Diagnostic, SourceMap, Span};
use tl_tensor::ops::clear_terms;

use crate::check::checker::{Checker, Part};
use crate::check::files::{Files, Imported, LoadedFile};
use crate::check::mention::Mention;
use crate::check::relations::{add_mentions, lower_relations};
use crate::host::Host;
use crate::ir::Program;
use crate::relations::Reports;
use crate::types::Type;

/// A program after checking.
pub(crate) struct Checked {
    /// Absent if there are errors.
    pub(crate) program: Option<Program>,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What a check does beside finding errors.
#[derive(Clone, Default)]
pub(crate) struct CheckOptions {
    pub(crate) part: Part,
    /// Errors in shapes are left to the running program.
    pub(crate) leaves_shapes: bool,
    /// The model that the program loads or is given.
    pub(crate) model: Option<Weights>,
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
    let mut reports = Reports::default();
    let relations = lower_relations(&mut files.loaded, 0, &mut reports);
    // Warnings are made where a program is checked as a whole.
    reports.diagnostics.retain(|found| found.is_error() || options.part == Part::Whole);
    files.diagnostics.append(&mut reports.diagnostics);
    let mut checker =
        Checker { part: options.part, dead, model: options.model.clone(), relations, ..Checker::default() };
    check_files(&mut checker, &files.loaded, files.diagnostics)
}

/// Checks a whole program for an editor: also gives the names in its text, by their places.
pub(crate) fn check_for_editor(
    name: &str,
    text: &str,
    host: &mut dyn Host,
    sources: &mut SourceMap,
) -> (Vec<Diagnostic>, Vec<Mention>) {
    let mut files = Files::new(host, sources);
    files.load_main(name, text);
    let mut reports = Reports::default();
    let relations = lower_relations(&mut files.loaded, 0, &mut reports);
    files.diagnostics.append(&mut reports.diagnostics);
    let mut checker = Checker { part: Part::Whole, mentions: Some(Vec::new()), relations, ..Checker::default() };
    let checked = check_files(&mut checker, &files.loaded, files.diagnostics);
    let mut mentions = checker.mentions.unwrap_or_default();
    add_mentions(&mut mentions, reports.names);
    add_mentions(&mut mentions, checker.names_of_queries);
    // A call of a method is noted twice, as a method and as a function: the first stays.
    mentions.sort_by_key(|mention| (mention.span.file, mention.span.start));
    mentions.dedup_by_key(|mention| mention.span);
    (checked.diagnostics, mentions)
}

fn check_files(checker: &mut Checker, files: &[LoadedFile], mut diagnostics: Vec<Diagnostic>) -> Checked {
    clear_terms();
    let program = checker.program(files);
    let mut of_calls = checker.call_errors();
    if diagnostics.iter().chain(&checker.diagnostics).chain(&of_calls).all(|known| !known.is_error()) {
        of_calls.extend(checker.unread_variables());
    }
    diagnostics.append(&mut checker.diagnostics);
    diagnostics.append(&mut of_calls);
    clear_terms();
    diagnostics.sort_by_key(|diagnostic| (diagnostic.span().file, diagnostic.span().start));
    // What several rounds of a loop have is said once, with the sizes of the first.
    diagnostics.dedup_by(|a, b| a == b || (a.code.is_some() && a.code == b.code && a.span() == b.span()));
    let has_errors = diagnostics.iter().any(Diagnostic::is_error);
    Checked { program: (!has_errors).then_some(program), diagnostics }
}

/// What a session keeps of the entries that were checked.
#[derive(Clone, Default)]
pub(crate) struct Declarations {
    /// The files that they import, with nothing that runs.
    imported: Vec<LoadedFile>,
    /// Which of these the entries import, and as what.
    imports: Vec<Imported>,
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
        let is_around = |function: &Function| {
            let whole = function.span.to(function.body.span);
            whole.file == place.file && whole.start <= place.start && place.end <= whole.end
        };
        for (at, item) in self.items.iter_mut().enumerate() {
            match item {
                Item::Function(function) if is_around(function) => {
                    let name = function.name.text.clone();
                    self.items.remove(at);
                    return Some(name);
                }
                Item::Impl(written) => {
                    if let Some(at) = written.functions.iter().position(is_around) {
                        return Some(written.functions.remove(at).name.text);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// A checked entry of a session.
pub(crate) struct CheckedEntry {
    pub(crate) checked: Checked,
    /// The type of its value.
    pub(crate) value_type: Option<String>,
    /// For each global variable, whether it is one of the session: not one of a file that was imported with a name.
    pub(crate) is_of_session: Vec<bool>,
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
    let Files { mut loaded, mut diagnostics, .. } = files;
    let mut first_new = 0;
    if let Some(main) = loaded.last_mut() {
        let mut items: Vec<Item> = before.items.clone();
        main.tree.items.iter().for_each(|new| forget_what_is_declared_again(&mut items, new));
        first_new = items.len();
        items.append(&mut main.tree.items);
        main.tree.items = items;
        main.imports.splice(0..0, before.imports.iter().cloned());
    }
    let mut reports = Reports::default();
    let relations = lower_relations(&mut loaded, first_new, &mut reports);
    diagnostics.extend(reports.diagnostics.into_iter().filter(Diagnostic::is_error));
    let mut checker = Checker { part: Part::Entry, variables, relations, ..Checker::default() };
    let checked = check_files(&mut checker, &loaded, diagnostics);
    let own = checker.file_namespaces.last().copied();
    let is_of_session = checker.globals.iter().map(|global| Some(global.namespace) == own).collect();
    for (at, file) in loaded.iter_mut().enumerate() {
        // The tensors of a file that was imported with a name are no variables of the session: each entry makes them anew.
        let keeps_tensors = checker.file_namespaces.get(at).copied() != own;
        file.tree.items.retain(|item| is_declaration(item) || (keeps_tensors && is_tensor(item)));
    }
    let main = loaded.pop();
    let (items, imports) = main.map(|main| (main.tree.items, main.imports)).unwrap_or_default();
    CheckedEntry {
        checked,
        value_type: checker.value_type,
        is_of_session,
        declarations: Declarations { imported: loaded, imports, items },
    }
}

fn is_tensor(item: &Item) -> bool {
    matches!(item, Item::Statement(Statement { kind: StatementKind::Tensor(_), .. }))
}

fn is_declaration(item: &Item) -> bool {
    !matches!(item, Item::Statement(_) | Item::Main(_) | Item::Test(_))
}

/// Drops what an item declares anew, or imports again.
fn forget_what_is_declared_again(items: &mut Vec<Item>, new: &Item) {
    match new {
        Item::Function(new) => {
            items.retain(|old| !matches!(old, Item::Function(old) if old.name.text == new.name.text));
        }
        Item::Entity(new) => {
            items.retain(|old| !matches!(old, Item::Entity(old) if old.name.text == new.name.text));
        }
        // A relation begins anew, with no facts and no rules.
        Item::Relation(new) => items.retain(|old| match old {
            Item::Relation(Relation { name, .. })
            | Item::Fact(Fact { atom: Atom { name, .. }, .. })
            | Item::Rule(Rule { head: Atom { name, .. }, .. }) => name.text != new.name.text,
            _ => true,
        }),
        Item::SoftRule(new) => {
            items.retain(|old| !matches!(old, Item::SoftRule(old) if old.name.text == new.name.text));
        }
        Item::Import(new) => items.retain(|old| !matches!(old, Item::Import(old) if old.path == new.path)),
        // Another struct of the name has functions of its own.
        Item::Struct(new) => items.retain(|old| match old {
            Item::Struct(old) => old.name.text != new.name.text,
            Item::Impl(old) => old.name.text != new.name.text,
            _ => true,
        }),
        Item::Impl(new) => {
            for old in items {
                if let Item::Impl(old) = old
                    && old.name.text == new.name.text
                {
                    old.functions.retain(|old| new.functions.iter().all(|new| old.name.text != new.name.text));
                }
            }
        }
        _ => {}
    }
}
