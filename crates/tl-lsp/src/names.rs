//! Names: where they are declared and used, and giving them others.

use std::collections::{HashMap, HashSet};

use lsp_types::{Location, TextEdit, Uri, WorkspaceEdit};
use tl_lang::{Analysis, Mention};
use tl_syntax::{FileId, Span, TokenClass, classify};

use crate::documents::{Document, Documents};
use crate::places::{Encoding, Lines, uri_of};

/// Where the name at a byte is declared.
pub(crate) fn definition(document: &Document, offset: u32, encoding: Encoding) -> Option<Location> {
    let span = document.mention_at(offset)?.definition?;
    location(document, span, encoding)
}

fn location(document: &Document, span: Span, encoding: Encoding) -> Option<Location> {
    let file = document.analysis.sources.file(span.file)?;
    Some(Location { uri: uri_in(document, span.file)?, range: Lines::of(file.text(), encoding).range(span) })
}

/// Where a file of a document's program is; none of a file of the standard library.
fn uri_in(document: &Document, file: FileId) -> Option<Uri> {
    match file {
        FileId(0) => Some(document.uri.clone()),
        file => uri_of(document.analysis.sources.file(file)?.name()),
    }
}

/// All places of the name at a byte, in all open documents and what they import.
pub(crate) fn references(
    documents: &Documents,
    document: &Document,
    offset: u32,
    with_declaration: bool,
    encoding: Encoding,
) -> Vec<Location> {
    let Some(definition) = document.mention_at(offset).and_then(|mention| mention.definition) else {
        return Vec::new();
    };
    let Some(declared_in) = document.analysis.sources.file(definition.file).map(|file| file.name()) else {
        return Vec::new();
    };
    let mut found: Vec<Location> = Vec::new();
    let mut seen = HashSet::new();
    for other in documents.iter() {
        let sources = &other.analysis.sources;
        let mut lines: HashMap<FileId, Option<(Uri, Lines<'_>)>> = HashMap::new();
        for mention in &other.analysis.mentions {
            let Some(span) = mention.definition else { continue };
            let is_same = (span.start, span.end) == (definition.start, definition.end)
                && sources.file(span.file).is_some_and(|file| file.name() == declared_in);
            if !is_same || (!with_declaration && mention.span == span) {
                continue;
            }
            let file = lines.entry(mention.span.file).or_insert_with(|| {
                let file = sources.file(mention.span.file)?;
                Some((uri_in(other, mention.span.file)?, Lines::of(file.text(), encoding)))
            });
            let Some((uri, lines)) = file else { continue };
            if seen.insert((uri.to_string(), mention.span.start)) {
                found.push(Location { uri: uri.clone(), range: lines.range(mention.span) });
            }
        }
    }
    found
}

/// Edits that give the name at a byte another one.
///
/// # Errors
/// Why it cannot have it.
#[allow(clippy::mutable_key_type, reason = "the protocol's type for edits has URIs as keys, which nothing changes")]
pub(crate) fn rename(
    documents: &Documents,
    document: &Document,
    offset: u32,
    new_name: &str,
    encoding: Encoding,
) -> Result<WorkspaceEdit, String> {
    let is_name =
        |(span, class): &(Span, TokenClass)| *class == TokenClass::Name && span.end as usize == new_name.len();
    if !matches!(&*classify(FileId(0), new_name), [token] if is_name(token)) {
        return Err(format!("`{new_name}` cannot be a name"));
    }
    let mention = document.mention_at(offset).ok_or("there is no name here")?;
    let Some(definition) = mention.definition else {
        return Err(format!("`{}` is a name of the language", document.text_of(mention.span)));
    };
    if uri_in(document, definition.file).is_none() {
        return Err(format!("`{}` is declared in the standard library", document.text_of(mention.span)));
    }
    let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
    for Location { uri, range } in references(documents, document, offset, true, encoding) {
        changes.entry(uri).or_default().push(TextEdit { range, new_text: new_name.to_owned() });
    }
    let renamed = documents.analyze_as(document, &with_name(document, definition, new_name));
    let n_errors = |analysis: &Analysis| analysis.diagnostics.iter().filter(|found| found.is_error()).count();
    if meanings(&renamed) != meanings(&document.analysis) || n_errors(&renamed) > n_errors(&document.analysis) {
        return Err(format!("`{new_name}` is declared already where this name is used"));
    }
    Ok(WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() })
}

/// The document's text in which what is declared at a place has another name.
fn with_name(document: &Document, definition: Span, new_name: &str) -> String {
    let places = document.mentions().filter(|mention| mention.definition == Some(definition));
    let mut spans: Vec<Span> = places.map(|mention| mention.span).collect();
    spans.sort_by_key(|span| span.start);
    spans.dedup();
    let mut text = document.text.clone();
    for span in spans.iter().rev() {
        text.replace_range(span.start as usize..span.end as usize, new_name);
    }
    text
}

/// For each name in a document, which name in it declares what it means; the same whatever they are called.
fn meanings(analysis: &Analysis) -> Vec<Option<Meaning>> {
    let own: Vec<&Mention> = analysis.mentions.iter().filter(|mention| mention.span.file == FileId(0)).collect();
    let places: HashMap<Span, usize> = own.iter().enumerate().map(|(at, mention)| (mention.span, at)).collect();
    let meaning = |mention: &&Mention| {
        let span = mention.definition?;
        Some(places.get(&span).map_or(Meaning::Elsewhere(span), |at| Meaning::Name(*at)))
    };
    own.iter().map(meaning).collect()
}

/// What declares a name.
#[derive(PartialEq)]
enum Meaning {
    /// The name with this number in the document.
    Name(usize),
    /// A place in another file.
    Elsewhere(Span),
}
