//! `tl doc`: the documentation of builtins, and of the functions of a file.

use std::fmt::Write;
use std::path::Path;

use tl_lang::{Architecture, Entry, SourceText, reference};
use tl_syntax::ast::{Function, Item};
use tl_syntax::{Diagnostic, SourceMap, Span, comment_above, parse};

use crate::output::{self, Stop};
use crate::{render, sources};

/// Before the names of the standard library's files.
const LIBRARY: &str = "std/";

/// Prints the entries of a name, the documentation of a file, or without either a list of what there is.
pub(crate) fn run(what: Option<&str>) -> Result<(), Stop> {
    let Some(what) = what else { return list() };
    if let Some(text) = what.strip_prefix(LIBRARY).and_then(Architecture::library) {
        return file(&SourceText { name: what.to_owned(), text: text.to_owned() });
    }
    let is_program = Path::new(what).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tl"));
    if is_program || what == sources::STDIN {
        return file(&sources::main_file(Path::new(what))?);
    }
    builtin(what)
}

/// A line for each builtin.
fn list() -> Result<(), Stop> {
    let mut text = String::new();
    let mut chapter = "";
    for entry in reference() {
        if entry.chapter != chapter {
            let newline = if chapter.is_empty() { "" } else { "\n" };
            let _ = writeln!(text, "{newline}{}", entry.chapter);
            chapter = entry.chapter;
        }
        let _ = writeln!(text, "  {}", entry.signature);
    }
    output::print(&text)
}

/// The entries of a builtin. A method is also found by its own name, without its handle's.
fn builtin(name: &str) -> Result<(), Stop> {
    let all = reference();
    let short = |entry: &Entry| entry.name.rsplit(['.', ':']).next() == Some(name);
    let found: Vec<&Entry> = all.iter().filter(|entry| entry.name == name || short(entry)).collect();
    if found.is_empty() {
        let known =
            all.iter().map(|entry| &*entry.name).chain(all.iter().filter_map(|entry| entry.name.rsplit('.').next()));
        let hint = match tl_lang::nearest_name(name, known) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "`tl doc` lists the builtins".to_owned(),
        };
        return Err(Stop::Failed(format!("there is no builtin `{name}`: {hint}")));
    }
    let shown = found.iter().map(|entry| format!("{}\n\n{}\n", entry.signature, entry.doc));
    output::print(&shown.collect::<Vec<_>>().join("\n"))
}

/// The documentation of a file as Markdown: the comment at its beginning, and its functions, structs, entities and
/// relations with theirs.
fn file(source: &SourceText) -> Result<(), Stop> {
    let mut map = SourceMap::new();
    let id = map.add(source.name.clone(), source.text.clone());
    let parsed = parse(id, &source.text);
    if parsed.diagnostics.iter().any(Diagnostic::is_error) {
        render::print(&map, &parsed.diagnostics, &[]);
        return Err(Stop::Exit(1));
    }
    let mut text = format!("# {}\n", source.name);
    let intro = intro(&source.text);
    if !intro.is_empty() {
        let _ = write!(text, "\n{intro}\n");
    }
    let mut section = |heading: &str, start: u32| {
        let _ = write!(text, "\n{heading}\n");
        let comment = comment_above(&source.text, start);
        if !comment.is_empty() {
            let _ = write!(text, "\n{comment}\n");
        }
    };
    let slice = |span: Span| {
        let text = source.text.get(span.start as usize..span.end as usize).unwrap_or("");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let signature = |function: &Function| slice(function.span);
    for item in &parsed.tree.items {
        match item {
            Item::Function(function) => section(&format!("## `{}`", signature(function)), function.span.start),
            Item::Struct(written) => {
                let fields: Vec<String> = written
                    .fields
                    .iter()
                    .map(|field| format!("{}: {}", field.name.text, slice(field.ty.span)))
                    .collect();
                let heading = format!("## `struct {} {{ {} }}`", written.name.text, fields.join(", "));
                section(&heading, written.span.start);
            }
            Item::Entity(entity) => section(&format!("## `{}`", slice(entity.span)), entity.span.start),
            Item::Relation(relation) => section(&format!("## `{}`", slice(relation.span)), relation.span.start),
            Item::Impl(written) => {
                for function in &written.functions {
                    let heading = format!("### `{}`: `{}`", written.name.text, signature(function));
                    section(&heading, function.span.start);
                }
            }
            _ => {}
        }
    }
    output::print(&text)
}

/// The comment at a file's beginning. Directly above a declaration it is that declaration's, and none of the file.
fn intro(text: &str) -> String {
    let is_comment = |line: &&str| line.starts_with("//");
    let lines: Vec<&str> = text.lines().skip_while(|line| line.trim().is_empty()).take_while(is_comment).collect();
    let rest = text.lines().skip_while(|line| line.trim().is_empty()).nth(lines.len()).unwrap_or("");
    if !rest.trim().is_empty() {
        return String::new();
    }
    let without_slashes = |line: &&str| line.trim_start_matches('/').trim().to_owned();
    lines.iter().map(without_slashes).collect::<Vec<_>>().join("\n")
}
