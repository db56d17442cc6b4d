//! The open documents, and what the checker says of each.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lsp_types::Uri;
use tl_lang::{Analysis, Host, Mention, SourceText, analyze};
use tl_syntax::{FileId, Span};

use crate::places::path_of;

/// Reads a source file. Its name in the result is its absolute path, the same however it is reached.
pub type ReadSource = dyn Fn(&Path) -> Result<SourceText, String> + Send + Sync;

/// An open document.
pub(crate) struct Document {
    pub(crate) uri: Uri,
    pub(crate) text: String,
    pub(crate) analysis: Analysis,
}

/// The open documents by their paths.
pub(crate) struct Documents {
    open: BTreeMap<String, Document>,
    /// The path of each URI that was opened.
    paths: BTreeMap<String, String>,
    read: Box<ReadSource>,
}

impl Documents {
    pub(crate) fn new(read: Box<ReadSource>) -> Documents {
        Documents { open: BTreeMap::new(), paths: BTreeMap::new(), read }
    }

    /// Opens or changes a document, and checks it and the documents that import it. Their paths, its own first.
    pub(crate) fn set(&mut self, uri: Uri, text: String) -> Vec<String> {
        let path = match self.paths.get(uri.as_str()) {
            Some(path) => path.clone(),
            None => {
                let path = path_of(&uri);
                (self.read)(Path::new(&path)).map_or(path, |source| source.name)
            }
        };
        self.paths.insert(uri.as_str().to_owned(), path.clone());
        let analysis = self.check(&path, &text);
        self.open.insert(path.clone(), Document { uri, text, analysis });
        let mut changed = self.check_importers(&path);
        changed.insert(0, path);
        changed
    }

    /// Closes a document: what is saved counts again for the documents that import it. Their paths.
    pub(crate) fn close(&mut self, uri: &Uri) -> Vec<String> {
        let Some(path) = self.paths.remove(uri.as_str()) else { return Vec::new() };
        self.open.remove(&path);
        self.check_importers(&path)
    }

    fn check_importers(&mut self, path: &str) -> Vec<String> {
        let importers = self
            .open
            .iter()
            .filter(|(_, document)| document.analysis.sources.files().skip(1).any(|(_, file)| file.name() == path));
        let importers: Vec<String> =
            importers.map(|(importer, _)| importer.clone()).filter(|importer| *importer != path).collect();
        for importer in &importers {
            let Some(text) = self.open.get(importer).map(|document| document.text.clone()) else { continue };
            let analysis = self.check(importer, &text);
            if let Some(document) = self.open.get_mut(importer) {
                document.analysis = analysis;
            }
        }
        importers
    }

    pub(crate) fn at(&self, path: &str) -> Option<&Document> {
        self.open.get(path)
    }

    pub(crate) fn find(&self, uri: &Uri) -> Option<&Document> {
        self.open.get(self.paths.get(uri.as_str())?)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Document> {
        self.open.values()
    }

    /// The document, if it had another text.
    pub(crate) fn analyze_as(&self, document: &Document, text: &str) -> Analysis {
        match self.paths.get(document.uri.as_str()) {
            Some(path) => self.check(path, text),
            None => document.analysis.clone(),
        }
    }

    fn check(&self, path: &str, text: &str) -> Analysis {
        analyze(path, text, &mut Outside { documents: self })
    }
}

impl Document {
    /// The names in the document itself.
    pub(crate) fn mentions(&self) -> impl Iterator<Item = &Mention> {
        self.analysis.mentions.iter().filter(|mention| mention.span.file == FileId(0))
    }

    /// The name at a byte, or that ends there.
    pub(crate) fn mention_at(&self, offset: u32) -> Option<&Mention> {
        self.mentions().filter(|mention| mention.span.start <= offset && offset <= mention.span.end).last()
    }

    /// The text of a place in one of the program's files.
    pub(crate) fn text_of(&self, span: Span) -> &str {
        let file = self.analysis.sources.file(span.file);
        file.and_then(|file| file.text().get(span.start as usize..span.end as usize)).unwrap_or("")
    }
}

/// The outside of a program that is only checked.
struct Outside<'a> {
    documents: &'a Documents,
}

impl Host for Outside<'_> {
    fn print(&mut self, _: &str) {}

    fn read_source(&mut self, path: &str, importer: &str) -> Result<SourceText, String> {
        let path = Path::new(importer).parent().unwrap_or(Path::new("")).join(path);
        let name = path.to_string_lossy().into_owned();
        let source = match self.documents.open.get(&name) {
            Some(document) => SourceText { name, text: document.text.clone() },
            None => (self.documents.read)(&path)?,
        };
        // What is in the editor counts, not what was saved.
        Ok(match self.documents.open.get(&source.name) {
            Some(document) => SourceText { text: document.text.clone(), ..source },
            None => source,
        })
    }

    fn open_path(&mut self, path: &str) -> Result<PathBuf, String> {
        Ok(PathBuf::from(path))
    }

    fn time_ms(&mut self) -> f64 {
        0.0
    }
}
