//! Names: where they are declared and used, and giving them others.

use std::collections::HashMap;

use lsp_types::{Location, TextEdit, Uri, WorkspaceEdit};
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
    let uri = if span.file == FileId(0) { document.uri.clone() } else { uri_of(file.name())? };
    Some(Location { uri, range: Lines::of(file.text(), encoding).range(span) })
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
    for other in documents.iter() {
        for mention in &other.analysis.mentions {
            let Some(span) = mention.definition else { continue };
            let is_same = (span.start, span.end) == (definition.start, definition.end)
                && other.analysis.sources.file(span.file).is_some_and(|file| file.name() == declared_in);
            if !is_same || (!with_declaration && mention.span == span) {
                continue;
            }
            if let Some(location) = location(other, mention.span, encoding)
                && !found.contains(&location)
            {
                found.push(location);
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
    if mention.definition.is_none() {
        return Err(format!("`{}` is a name of the language", document.text_of(mention.span)));
    }
    let mut changes: HashMap<Uri, Vec<TextEdit>> = HashMap::new();
    for Location { uri, range } in references(documents, document, offset, true, encoding) {
        changes.entry(uri).or_default().push(TextEdit { range, new_text: new_name.to_owned() });
    }
    Ok(WorkspaceEdit { changes: Some(changes), ..WorkspaceEdit::default() })
}
