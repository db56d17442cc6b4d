//! Diagnostics for people: file, line, column, the source line, and what to do.

use std::io::IsTerminal;
use std::sync::Arc;

use codespan_reporting::diagnostic::{Diagnostic as Rendered, Label, LabelStyle, Severity};
use codespan_reporting::files::SimpleFiles;
use codespan_reporting::term;
use codespan_reporting::term::termcolor::{Buffer, BufferWriter, ColorChoice};
use tl_syntax::{Diagnostic, SourceMap, Span};

/// Maximum callers shown.
const MAX_CALLERS: usize = 8;

/// Prints diagnostics on standard error, in colours if the terminal supports them; with the last one, the functions
/// that were running, innermost first.
pub(crate) fn print(sources: &SourceMap, diagnostics: &[Diagnostic], calls: &[(Arc<str>, Span)]) {
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let stderr = BufferWriter::stderr(if colours { ColorChoice::Auto } else { ColorChoice::Never });
    let mut files = SimpleFiles::new();
    for (_, file) in sources.files() {
        files.add(file.name().to_owned(), printable(file.text()));
    }
    for (i, diagnostic) in diagnostics.iter().enumerate() {
        let mut buffer = stderr.buffer();
        let mut rendered = rendered(diagnostic);
        if i + 1 == diagnostics.len() {
            rendered.notes.extend(callers(sources, calls));
        }
        if term::emit_to_write_style(&mut buffer, &term::Config::default(), &files, &rendered).is_err() {
            // The place is in no file: print the message alone.
            buffer = Buffer::no_color();
            let _ = std::io::Write::write_all(&mut buffer, format!("error: {}\n", diagnostic.message).as_bytes());
        }
        let _ = stderr.print(&buffer);
    }
}

/// The source without characters that move a terminal's cursor; byte offsets stay the same.
fn printable(text: &str) -> String {
    let is_harmless = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_harmless(c) {
            true => shown.push(c),
            false => shown.extend(std::iter::repeat_n('?', c.len_utf8())),
        }
    }
    shown
}

fn callers(sources: &SourceMap, calls: &[(Arc<str>, Span)]) -> Vec<String> {
    let shown = calls.iter().take(MAX_CALLERS);
    let mut lines: Vec<String> =
        shown.map(|(name, span)| format!("in `{name}`, called at {}", sources.describe(*span))).collect();
    if calls.len() > MAX_CALLERS {
        lines.push(format!("and {} callers more", calls.len() - MAX_CALLERS));
    }
    lines
}

fn rendered(diagnostic: &Diagnostic) -> Rendered<usize> {
    let severity = if diagnostic.is_error() { Severity::Error } else { Severity::Warning };
    let labels = diagnostic.labels.iter().enumerate().map(|(i, label)| {
        let style = if i == 0 { LabelStyle::Primary } else { LabelStyle::Secondary };
        let span = label.span;
        Label::new(style, span.file.0 as usize, span.start as usize..span.end as usize).with_message(&label.text)
    });
    let notes = diagnostic.hints.iter().map(|hint| format!("help: {hint}"));
    Rendered::new(severity).with_message(&diagnostic.message).with_labels(labels.collect()).with_notes(notes.collect())
}
