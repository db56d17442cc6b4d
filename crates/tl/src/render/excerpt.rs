//! The lines of source that a diagnostic shows. Long lines are shortened around the diagnostic's places, so that a
//! message about a file of one huge line is short.

use std::ops::Range;

use codespan_reporting::files::{Error, Files, Location};
use tl_syntax::{Diagnostic, FileId, SourceFile, SourceMap, Span};

/// Maximum characters of a line that is shown whole.
const MAX_LINE_CHARS: usize = 160;
/// Characters that a shortened line keeps before and after each end of a place.
const SIDE_CHARS: usize = 40;
/// Stands for what is left out.
const LEFT_OUT: char = '…';

/// The lines of a diagnostic's places, and those between them.
pub(super) struct Excerpts<'a> {
    files: Vec<Excerpt<'a>>,
}

/// Lines of one file.
struct Excerpt<'a> {
    id: FileId,
    file: &'a SourceFile,
    /// The number of the first line in the file, from 0.
    first_line: usize,
    /// The lines as they are shown.
    text: String,
    /// Where each line begins in `text`.
    line_starts: Vec<usize>,
    /// Where each kept part begins, in `text` and in the file. No parts follow each other without a gap in one line.
    parts: Vec<(usize, usize)>,
}

impl<'a> Excerpts<'a> {
    /// The excerpts that a diagnostic needs. Places outside of the sources have none.
    pub(super) fn new(sources: &'a SourceMap, diagnostic: &Diagnostic) -> Excerpts<'a> {
        let mut files: Vec<Excerpt> = Vec::new();
        for label in &diagnostic.labels {
            let id = label.span.file;
            if let Some(file) = sources.file(id).filter(|_| files.iter().all(|excerpt| excerpt.id != id)) {
                let places = diagnostic.labels.iter().map(|label| label.span).filter(|span| span.file == id);
                files.push(Excerpt::new(id, file, &places.collect::<Vec<_>>()));
            }
        }
        Excerpts { files }
    }

    /// Where a place is shown, in bytes of its file's excerpt.
    pub(super) fn shown(&self, span: Span) -> Range<usize> {
        match self.find(span.file) {
            Ok(excerpt) => {
                let place = place(excerpt.file, span);
                excerpt.shown(place.start)..excerpt.shown(place.end)
            }
            Err(_) => 0..0,
        }
    }

    fn find(&self, id: FileId) -> Result<&Excerpt<'a>, Error> {
        self.files.iter().find(|excerpt| excerpt.id == id).ok_or(Error::FileMissing)
    }
}

/// The bytes of a span in its file: in order, between characters.
fn place(file: &SourceFile, span: Span) -> Range<usize> {
    let text = file.text();
    let start = text.floor_char_boundary(span.start as usize);
    start..text.floor_char_boundary(span.end as usize).max(start)
}

impl<'a> Excerpt<'a> {
    fn new(id: FileId, file: &'a SourceFile, spans: &[Span]) -> Excerpt<'a> {
        let text: &str = file.text();
        let places: Vec<Range<usize>> = spans.iter().map(|span| place(file, *span)).collect();
        let first = places.iter().map(|place| place.start).min().unwrap_or(0);
        let last = places.iter().map(|place| place.end).max().unwrap_or(0);
        let start = text[..first].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[last..].find('\n').map_or(text.len(), |newline| last + newline);
        let mut excerpt = Excerpt {
            id,
            file,
            first_line: text[..start].matches('\n').count(),
            text: String::new(),
            line_starts: Vec::new(),
            parts: Vec::new(),
        };
        let mut at = start;
        for line in text[start..end].split('\n') {
            excerpt.push_line(text, at..at + line.len(), &places);
            at += line.len() + 1;
        }
        excerpt
    }

    fn push_line(&mut self, text: &str, line: Range<usize>, places: &[Range<usize>]) {
        self.line_starts.push(self.text.len());
        let mut at = line.start;
        for part in kept(text, &line, places) {
            if part.start > at {
                self.text.push(LEFT_OUT);
            }
            self.parts.push((self.text.len(), part.start));
            push_printable(&mut self.text, &text[part.clone()]);
            at = part.end;
        }
        if at < line.end {
            self.text.push(LEFT_OUT);
        }
        self.text.push('\n');
    }

    /// A byte of the file in `text`.
    fn shown(&self, at: usize) -> usize {
        let n_before = self.parts.partition_point(|(_, start)| *start <= at);
        self.parts[..n_before].last().map_or(0, |(shown, start)| shown + (at - start))
    }

    /// A byte of `text` in the file.
    fn original(&self, at: usize) -> usize {
        let n_before = self.parts.partition_point(|(shown, _)| *shown <= at);
        self.parts[..n_before].last().map_or(0, |(shown, start)| start + (at - shown))
    }
}

/// The parts of a line that are shown, in order and apart from each other.
fn kept(text: &str, line: &Range<usize>, places: &[Range<usize>]) -> Vec<Range<usize>> {
    let content = &text[line.clone()];
    if content.chars().nth(MAX_LINE_CHARS).is_none() {
        return vec![line.clone()];
    }
    let before = |at: usize| {
        text[line.start..at].char_indices().rev().nth(SIDE_CHARS - 1).map_or(line.start, |(i, _)| line.start + i)
    };
    let after = |at: usize| text[at..line.end].char_indices().nth(SIDE_CHARS).map_or(line.end, |(i, _)| at + i);
    let touching = places.iter().filter(|place| place.start <= line.end && place.end >= line.start);
    let mut parts: Vec<Range<usize>> = touching
        .flat_map(|place| [place.start, place.end])
        .filter(|end| (line.start..=line.end).contains(end))
        .map(|end| before(end)..after(end))
        .collect();
    if parts.is_empty() {
        // A line within a place of several lines.
        parts.push(line.start..after(line.start));
    }
    parts.sort_by_key(|part| part.start);
    parts.dedup_by(|next, part| {
        let is_joined = next.start <= part.end;
        if is_joined {
            part.end = part.end.max(next.end);
        }
        is_joined
    });
    parts
}

/// Adds a part of the source without characters that move a terminal's cursor; it takes as many bytes as before.
fn push_printable(shown: &mut String, part: &str) {
    for c in part.chars() {
        match !c.is_control() || matches!(c, '\n' | '\r' | '\t') {
            true => shown.push(c),
            false => shown.extend(std::iter::repeat_n('?', c.len_utf8())),
        }
    }
}

impl<'a> Files<'a> for Excerpts<'_> {
    type FileId = FileId;
    type Name = &'a str;
    type Source = &'a str;

    fn name(&'a self, id: FileId) -> Result<&'a str, Error> {
        Ok(self.find(id)?.file.name())
    }

    fn source(&'a self, id: FileId) -> Result<&'a str, Error> {
        Ok(&self.find(id)?.text)
    }

    fn line_index(&'a self, id: FileId, byte_index: usize) -> Result<usize, Error> {
        Ok(self.find(id)?.line_starts.partition_point(|start| *start <= byte_index).saturating_sub(1))
    }

    fn line_number(&'a self, id: FileId, line_index: usize) -> Result<usize, Error> {
        Ok(self.find(id)?.first_line + line_index + 1)
    }

    /// The line and column in the file, not in what is shown of it.
    fn location(&'a self, id: FileId, byte_index: usize) -> Result<Location, Error> {
        let excerpt = self.find(id)?;
        let at = excerpt.file.line_column(excerpt.original(byte_index) as u32);
        Ok(Location { line_number: at.line as usize, column_number: at.column as usize })
    }

    fn line_range(&'a self, id: FileId, line_index: usize) -> Result<Range<usize>, Error> {
        let excerpt = self.find(id)?;
        let max = excerpt.line_starts.len().saturating_sub(1);
        let start = *excerpt.line_starts.get(line_index).ok_or(Error::LineTooLarge { given: line_index, max })?;
        Ok(start..excerpt.line_starts.get(line_index + 1).copied().unwrap_or(excerpt.text.len()))
    }
}

#[cfg(test)]
mod tests {
    use codespan_reporting::term::{Config, emit_into_string};

    use super::super::rendered;
    use super::*;

    /// The rendered lines of an error at the first `place` in `text`, which is the whole file.
    fn shown(text: &str, place: &str) -> Vec<String> {
        let mut sources = SourceMap::new();
        let file = sources.add("a.tl", text);
        let start = text.find(place).unwrap() as u32;
        let span = Span { file, start, end: start + place.len() as u32 };
        let diagnostic = Diagnostic::error(span, "here");
        let excerpts = Excerpts::new(&sources, &diagnostic);
        let text = emit_into_string(&Config::default(), &excerpts, &rendered(&diagnostic, &excerpts)).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// The underlined columns of the source line and what is in them, for text of narrow characters.
    fn underlined(lines: &[String]) -> String {
        let marks: Vec<char> = lines[4].chars().collect();
        let at = |(i, c): (usize, char)| (marks.get(i) == Some(&'^')).then_some(c);
        lines[3].chars().enumerate().filter_map(at).collect()
    }

    #[test]
    fn long_lines_are_shortened_around_the_place() {
        for filler in ["x + ", "é + ", "𝛂 + "] {
            for (n_before, n_after) in [(0, 300_000), (300_000, 0), (300_000, 300_000), (3, 300), (300, 3)] {
                let text = format!("first\n{}WRONG{}\nlast", filler.repeat(n_before), filler.repeat(n_after));
                let lines = shown(&text, "WRONG");
                assert_eq!(lines[1].trim(), format!("┌─ a.tl:2:{}", 4 * n_before + 1));
                assert_eq!(underlined(&lines), "WRONG", "{lines:#?}");
                assert!(lines.iter().all(|line| line.chars().count() < MAX_LINE_CHARS), "{lines:#?}");
                assert_eq!(lines[3].contains("│ …"), n_before > 10, "{lines:#?}");
                assert_eq!(lines[3].ends_with('…'), n_after > 10, "{lines:#?}");
            }
        }
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let lines = shown(&format!("{}bad{}", "字".repeat(500), "字".repeat(500)), "bad");
        let kept = "字".repeat(SIDE_CHARS);
        assert_eq!(lines[3], format!("1 │ …{kept}bad{kept}…"));
        assert_eq!(lines[4], format!("  │  {}^^^", " ".repeat(2 * SIDE_CHARS)));
    }

    #[test]
    fn both_ends_of_a_long_place_are_shown() {
        let lines = shown(&format!("f({}) + {}", "1, ".repeat(300_000), "0 + ".repeat(100)), &"1, ".repeat(300_000));
        assert!(lines[3].starts_with("1 │ f(1, 1, ") && lines[3].contains(") + 0 + 0"), "{lines:#?}");
        assert_eq!(underlined(&lines).chars().filter(|c| *c == '…').count(), 1, "{lines:#?}");
        assert!(lines[3].chars().count() < 2 * MAX_LINE_CHARS, "{lines:#?}");
    }

    #[test]
    fn a_place_of_several_lines_is_shown_line_by_line() {
        let long = "y ".repeat(1000);
        let lines = shown(&format!("a {long}[1,\n{long}\n2] {long}b"), &format!("[1,\n{long}\n2]"));
        assert_eq!(lines[1].trim(), "┌─ a.tl:1:2003");
        assert!(lines.iter().all(|line| line.chars().count() < MAX_LINE_CHARS), "{lines:#?}");
    }

    #[test]
    fn short_lines_are_shown_whole() {
        let line = format!("{}!", "z".repeat(MAX_LINE_CHARS - 1));
        assert_eq!(shown(&format!("\n\n{line}\n"), "!")[3], format!("3 │ {line}"));
        // The end of a file, and characters that move the cursor.
        assert_eq!(shown("a\n\u{1b}[2Jb", "b")[3..5], ["2 │ ?[2Jb", "  │     ^"]);
        assert_eq!(shown("let x =\n", "")[1].trim(), "┌─ a.tl:1:1");
    }
}
