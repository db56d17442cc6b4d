//! Completion: names that may stand at a place.

use lsp_types::{CompletionItem, CompletionItemKind, Documentation};
use tl_lang::{Entry, MentionKind, members_of_type, reference};
use tl_syntax::{CONTEXTUAL_WORDS, KEYWORDS};

use crate::documents::Document;
use crate::hover;

/// What may stand at a byte: members behind a dot, otherwise the names of the document, builtins and keywords. The editor
/// chooses among them by what is typed.
pub(crate) fn completions(document: &Document, offset: u32) -> Vec<CompletionItem> {
    let before = document.text.get(..offset as usize).unwrap_or("");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let head = before.trim_end_matches(is_word);
    if let Some(receiver) = head.strip_suffix('.') {
        let name = receiver.get(receiver.trim_end_matches(is_word).len()..).unwrap_or("");
        return members(document, name, receiver.len() as u32);
    }
    let builtins = reference().into_iter().filter(|entry| !entry.name.contains('.')).map(builtin);
    let keywords =
        KEYWORDS.iter().chain(CONTEXTUAL_WORDS).map(|word| item(word, CompletionItemKind::KEYWORD, String::new()));
    names(document).chain(builtins).chain(keywords).collect()
}

/// The names that the document declares, each once.
fn names(document: &Document) -> impl Iterator<Item = CompletionItem> {
    let mut items: Vec<CompletionItem> = Vec::new();
    for mention in &document.analysis.mentions {
        let kind = match mention.kind {
            MentionKind::Function => CompletionItemKind::FUNCTION,
            MentionKind::Struct => CompletionItemKind::STRUCT,
            MentionKind::Entity => CompletionItemKind::ENUM,
            MentionKind::Element => CompletionItemKind::ENUM_MEMBER,
            MentionKind::Relation => CompletionItemKind::INTERFACE,
            MentionKind::Variable | MentionKind::InferredVariable | MentionKind::Parameter => {
                CompletionItemKind::VARIABLE
            }
            _ => continue,
        };
        let is_own = mention.span.file == tl_syntax::FileId(0)
            || matches!(mention.kind, MentionKind::Function | MentionKind::Struct);
        let name = document.text_of(mention.span);
        if is_own && mention.definition == Some(mention.span) && items.iter().all(|item| item.label != name) {
            items.push(item(name, kind, mention.ty.clone()));
        }
    }
    items.into_iter()
}

/// The members of the value that a name before a dot has, or all functions, which any value may stand before.
fn members(document: &Document, name: &str, end: u32) -> Vec<CompletionItem> {
    let before =
        document.mentions().filter(|mention| mention.span.end <= end && document.text_of(mention.span) == name);
    let ty = before.last().map(|mention| &*mention.ty).unwrap_or("");
    let members = members_of_type(ty);
    let own = members.iter().map(|member| match hover::builtin(member, ty) {
        Some(entry) if entry.name.contains('.') => builtin(entry),
        _ => item(member, CompletionItemKind::FIELD, String::new()),
    });
    let own: Vec<CompletionItem> = own.collect();
    if !own.is_empty() {
        return own;
    }
    let functions =
        reference().into_iter().filter(|entry| !entry.name.contains(['.', ':']) && entry.signature.contains('('));
    functions.map(builtin).collect()
}

fn builtin(entry: Entry) -> CompletionItem {
    let name = entry.name.rsplit('.').next().unwrap_or(&entry.name);
    CompletionItem {
        documentation: Some(Documentation::String(entry.doc.to_owned())),
        ..item(name, CompletionItemKind::FUNCTION, entry.signature.clone())
    }
}

fn item(label: &str, kind: CompletionItemKind, detail: String) -> CompletionItem {
    CompletionItem {
        label: label.to_owned(),
        kind: Some(kind),
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        ..CompletionItem::default()
    }
}
