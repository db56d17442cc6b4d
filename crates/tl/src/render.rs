//! Diagnostics for people: file, line, column, the source line, and what to do.

mod excerpt;

use std::io::IsTerminal;
use std::sync::Arc;

use codespan_reporting::diagnostic::{Diagnostic as Rendered, Label, LabelStyle, Severity};
use codespan_reporting::term;
use codespan_reporting::term::termcolor::{Buffer, BufferWriter, ColorChoice};
use tl_syntax::{Diagnostic, FileId, SourceMap, Span};

use self::excerpt::Excerpts;

/// Maximum callers shown.
const MAX_CALLERS: usize = 8;
/// Maximum characters shown of a piece of the program that a message quotes.
const MAX_QUOTED_CHARS: usize = 160;

/// Prints diagnostics on standard error, in colours if the terminal supports them; with the last one, the functions
/// that were running, innermost first.
pub(crate) fn print(sources: &SourceMap, diagnostics: &[Diagnostic], calls: &[(Arc<str>, Span)]) {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let stderr = BufferWriter::stderr(if colours { ColorChoice::Auto } else { ColorChoice::Never });
    emit(sources, diagnostics, calls, || stderr.buffer(), |buffer| drop(stderr.print(&buffer)));
}

/// As [`print()`], without colours, as a text.
pub(crate) fn text(sources: &SourceMap, diagnostics: &[Diagnostic], calls: &[(Arc<str>, Span)]) -> String {
    let mut text = String::new();
    emit(sources, diagnostics, calls, Buffer::no_color, |buffer| {
        text.push_str(&String::from_utf8_lossy(buffer.as_slice()));
    });
    text
}

/// Renders each diagnostic into a buffer.
fn emit(
    sources: &SourceMap,
    diagnostics: &[Diagnostic],
    calls: &[(Arc<str>, Span)],
    new: impl Fn() -> Buffer,
    mut finished: impl FnMut(Buffer),
) {
    for (i, diagnostic) in diagnostics.iter().enumerate() {
        let mut buffer = new();
        let excerpts = Excerpts::new(sources, diagnostic);
        let mut rendered = rendered(diagnostic, &excerpts);
        if i + 1 == diagnostics.len() {
            rendered.notes.extend(callers(sources, calls));
        }
        if term::emit_to_write_style(&mut buffer, &term::Config::default(), &excerpts, &rendered).is_err() {
            // The place is in no file: print the message alone.
            buffer = Buffer::no_color();
            let _ = std::io::Write::write_all(&mut buffer, format!("error: {}\n", diagnostic.message).as_bytes());
        }
        finished(buffer);
    }
}

fn callers(sources: &SourceMap, calls: &[(Arc<str>, Span)]) -> Vec<String> {
    let shown = calls.iter().take(MAX_CALLERS);
    let mut lines: Vec<String> =
        shown.map(|(name, span)| shortened(&format!("in `{name}`, called at {}", sources.describe(*span)))).collect();
    if calls.len() > MAX_CALLERS {
        lines.push(format!("and {} callers more", calls.len() - MAX_CALLERS));
    }
    lines
}

/// A message in which long quoted pieces of the program are shortened.
fn shortened(message: &str) -> String {
    let mut shown = String::with_capacity(message.len().min(1024));
    for (i, piece) in message.split('`').enumerate() {
        if i > 0 {
            shown.push('`');
        }
        match piece.char_indices().nth(MAX_QUOTED_CHARS) {
            Some((end, _)) if i % 2 == 1 => {
                shown.push_str(&piece[..end]);
                shown.push('…');
            }
            _ => shown.push_str(piece),
        }
    }
    shown
}

fn rendered(diagnostic: &Diagnostic, excerpts: &Excerpts) -> Rendered<FileId> {
    let severity = if diagnostic.is_error() { Severity::Error } else { Severity::Warning };
    let labels = diagnostic.labels.iter().enumerate().map(|(i, label)| {
        let style = if i == 0 { LabelStyle::Primary } else { LabelStyle::Secondary };
        Label::new(style, label.span.file, excerpts.shown(label.span)).with_message(shortened(&label.text))
    });
    let notes = diagnostic.hints.iter().map(|hint| format!("help: {}", shortened(hint)));
    let rendered = Rendered::new(severity)
        .with_message(shortened(&diagnostic.message))
        .with_labels(labels.collect())
        .with_notes(notes.collect());
    match diagnostic.code {
        Some(code) => rendered.with_code(code.name()),
        None => rendered,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_quotes_are_shortened() {
        let long = "é".repeat(1000);
        assert_eq!(shortened(&format!("{long} is no `{long}`!")), format!("{long} is no `{}…`!", "é".repeat(160)));
        assert_eq!(shortened("expected `)`, found `x`"), "expected `)`, found `x`");
    }
}
