//! Inlay hints: the types of variables that are declared without one, and their bytes.

use lsp_types::{InlayHint, InlayHintKind, InlayHintLabel, Range};
use tl_lang::MentionKind;

use crate::documents::Document;
use crate::places::{Encoding, Lines};

/// Types that a reader sees at once.
const PLAIN: &[&str] = &["int", "float", "bool", "string", "()"];

/// The hints for a part of a document.
pub(crate) fn hints(document: &Document, range: Range, encoding: Encoding) -> Vec<InlayHint> {
    let lines = Lines::of(&document.text, encoding);
    let (start, end) = (encoding.offset(&document.text, range.start), encoding.offset(&document.text, range.end));
    let inferred = document.mentions().filter(|mention| {
        mention.kind == MentionKind::InferredVariable
            && (start..=end).contains(&mention.span.start)
            && !mention.ty.is_empty()
            && !PLAIN.contains(&&*mention.ty)
    });
    inferred
        .map(|mention| {
            let bytes = mention.bytes.map(|bytes| format!(" ({})", tl_device::bytes(bytes))).unwrap_or_default();
            InlayHint {
                position: lines.position(mention.span.end),
                label: InlayHintLabel::String(format!(": {}{bytes}", mention.ty)),
                kind: Some(InlayHintKind::TYPE),
                text_edits: None,
                tooltip: None,
                padding_left: None,
                padding_right: None,
                data: None,
            }
        })
        .collect()
}
