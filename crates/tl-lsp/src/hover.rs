//! Hover: the type of a name, the documentation of a function, the bytes of a tensor.

use lsp_types::{Hover, HoverContents, MarkupContent, MarkupKind};
use tl_lang::{Entry, Mention, MentionKind, reference};
use tl_syntax::ast::{Function, Item};
use tl_syntax::{Span, comment_above, parse};

use crate::documents::Document;
use crate::places::{Encoding, Lines};

/// What is known of the name at a byte.
pub(crate) fn hover(document: &Document, offset: u32, encoding: Encoding) -> Option<Hover> {
    let mention = document.mention_at(offset)?;
    let value = describe(document, mention)?;
    let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value });
    Some(Hover { contents, range: Some(Lines::of(&document.text, encoding).range(mention.span)) })
}

fn describe(document: &Document, mention: &Mention) -> Option<String> {
    let name = document.text_of(mention.span);
    let mut text = match mention.kind {
        MentionKind::Builtin => {
            let entry = builtin(name, mention.owner)?;
            let result = if mention.ty.is_empty() { String::new() } else { format!(" -> {}", mention.ty) };
            format!("```tl\n{}{result}\n```\n{}", entry.signature, entry.doc)
        }
        MentionKind::Function | MentionKind::Struct => {
            let (signature, comment) = declaration(document, mention.definition?)?;
            format!("```tl\n{signature}\n```\n{comment}")
        }
        MentionKind::Entity | MentionKind::Relation => {
            let written = mention.definition.and_then(|definition| declaration(document, definition));
            let (written, comment) = written.unwrap_or_else(|| (name.to_owned(), String::new()));
            let ty = if mention.ty.is_empty() { String::new() } else { format!("\n{name}: {}", mention.ty) };
            format!("```tl\n{written}{ty}\n```\n{comment}")
        }
        MentionKind::Element => format!("```tl\n{name}\n```\nAn element of an entity."),
        _ if mention.ty.is_empty() => return None,
        _ => format!("```tl\n{name}: {}\n```", mention.ty),
    };
    if let Some(bytes) = mention.bytes {
        text.push_str(&format!("\n\n{} ({bytes} bytes)", tl_device::bytes(bytes)));
    }
    Some(text.trim_end().to_owned())
}

/// The entry of a builtin; `owner` is the type of the handle whose method it is.
pub(crate) fn builtin(name: &str, owner: &str) -> Option<Entry> {
    let all = reference();
    let own = all.iter().find(|entry| !owner.is_empty() && entry.name == format!("{owner}.{name}"));
    let plain = || all.iter().find(|entry| entry.name == name);
    let associated = || all.iter().find(|entry| entry.name.rsplit("::").next() == Some(name));
    // A buffer has what makes tensors as methods, also with `_learnable` behind the name.
    let creating = || all.iter().find(|entry| Some(&*entry.name) == name.strip_suffix("_learnable"));
    own.or_else(plain).or_else(associated).or_else(creating).cloned()
}

/// The function's signature, or the struct, entity or relation, whose name stands at a place, and the comment above it.
fn declaration(document: &Document, name: Span) -> Option<(String, String)> {
    let file = document.analysis.sources.file(name.file)?;
    let tree = parse(name.file, file.text()).tree;
    let shown = |span: Span| Some((document.text_of(span).to_owned(), comment_above(file.text(), span.start)));
    let function =
        |functions: &[Function]| functions.iter().find(|function| function.name.span == name).map(|found| found.span);
    tree.items.iter().find_map(|item| match item {
        Item::Function(found) => shown(function(std::slice::from_ref(found))?),
        Item::Impl(written) => shown(function(&written.functions)?),
        Item::Struct(written) if written.name.span == name => shown(written.span),
        Item::Entity(written) if written.name.span == name => shown(written.span),
        Item::Relation(written) if written.name.span == name => shown(written.span),
        _ => None,
    })
}
