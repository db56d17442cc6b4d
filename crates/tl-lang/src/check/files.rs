//! The files of a program: the main file and its imports, each parsed once.

use std::sync::Arc;

use tl_syntax::ast::{File, Item, Name};
use tl_syntax::{Diagnostic, FileId, SourceMap, Span, parse};

use crate::host::{Host, SourceText};
use crate::standard;

/// The deepest nesting of imports.
const MAX_IMPORT_DEPTH: usize = 64;

/// A parsed file.
#[derive(Clone)]
pub(crate) struct LoadedFile {
    pub(crate) name: Arc<str>,
    pub(crate) tree: File,
    pub(crate) id: FileId,
    /// Whether it is the main file; of the others only declarations are used.
    pub(crate) is_main: bool,
    pub(crate) imports: Vec<Imported>,
}

/// A file that another one imports.
#[derive(Clone)]
pub(crate) struct Imported {
    /// Its index among the loaded files.
    pub(crate) file: usize,
    pub(crate) alias: Option<Name>,
}

pub(super) struct Files<'a> {
    host: &'a mut dyn Host,
    sources: &'a mut SourceMap,
    /// Imported files come before those that import them.
    pub(super) loaded: Vec<LoadedFile>,
    pub(super) diagnostics: Vec<Diagnostic>,
    /// The files being loaded, outermost first.
    open: Vec<String>,
}

impl<'a> Files<'a> {
    pub(super) fn new(host: &'a mut dyn Host, sources: &'a mut SourceMap) -> Self {
        Files { host, sources, loaded: Vec::new(), diagnostics: Vec::new(), open: Vec::new() }
    }

    pub(super) fn load_main(&mut self, name: &str, text: &str) {
        self.load(name, text, true);
    }

    fn load(&mut self, name: &str, text: &str, is_main: bool) {
        let file = self.sources.add(name, text);
        let parsed = parse(file, text);
        self.diagnostics.extend(parsed.diagnostics);
        self.open.push(name.to_string());
        let mut imports = Vec::new();
        for item in &parsed.tree.items {
            if let Item::Import(import) = item
                && !import.path.is_empty()
                && let Some(file) = self.import(&import.path, name, import.span)
            {
                imports.push(Imported { file, alias: import.alias.clone() });
            }
        }
        self.open.pop();
        self.loaded.push(LoadedFile { name: name.into(), tree: parsed.tree, id: file, is_main, imports });
    }

    /// The index of the imported file.
    fn import(&mut self, path: &str, importer: &str, span: Span) -> Option<usize> {
        if self.open.len() >= MAX_IMPORT_DEPTH {
            let message = format!("imports are nested more than {MAX_IMPORT_DEPTH} deep");
            self.diagnostics.push(Diagnostic::error(span, message));
            return None;
        }
        let shipped = standard::source(path).map(|text| SourceText { name: path.into(), text: text.into() });
        let source = match shipped.map_or_else(|| self.host.read_source(path, importer), Ok) {
            Ok(source) => source,
            Err(problem) => {
                let message = format!("cannot import {path:?}: {problem}");
                let hint = match path.starts_with(standard::PREFIX) {
                    true => format!("the standard library has {}", standard::names().collect::<Vec<_>>().join(", ")),
                    false => "the path is relative to the file that imports".into(),
                };
                self.diagnostics.push(Diagnostic::error(span, message).hint(hint));
                return None;
            }
        };
        if let Some(first) = self.open.iter().position(|open| *open == source.name) {
            let mut cycle: Vec<&str> = self.open.iter().skip(first).map(String::as_str).collect();
            cycle.push(&source.name);
            let message = format!("this import closes a cycle: {}", cycle.join(" -> "));
            self.diagnostics.push(Diagnostic::error(span, message));
            return None;
        }
        let position = |files: &Self| files.loaded.iter().position(|loaded| *loaded.name == *source.name);
        if position(self).is_none() {
            self.load(&source.name, &source.text, false);
        }
        position(self)
    }
}
