//! Formatting changes no program: on every program of the project, which all are formatted, and on texts made of their pieces.

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tl_syntax::{FileId, format, parse};

/// The project's programs, with their paths.
fn programs() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut folders: Vec<PathBuf> =
        ["examples", "scripts", "tests", "crates/tl-lang/std"].iter().map(|folder| root.join(folder)).collect();
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "tl") {
                let text = std::fs::read_to_string(&path).expect("the program can be read");
                found.push((path, text));
            }
        }
    }
    found.sort();
    assert!(found.len() > 50, "{} programs", found.len());
    found
}

/// What a text says, without blanks.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace() && *c != '\u{feff}').collect()
}

/// The tree without places.
fn tree(text: &str) -> String {
    let shown = format!("{:?}", parse(FileId(0), text).tree);
    let mut parts = shown.split("Span {");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |tree, part| tree + part.split_once('}').map_or("", |(_, rest)| rest))
}

/// Formats a text, if it is a program; true if it is.
fn check(text: &str) -> bool {
    let Ok(formatted) = format(FileId(0), text) else { return false };
    assert_eq!(squeezed(&formatted), squeezed(text), "{text}");
    assert_eq!(tree(&formatted), tree(text), "{text}\n--- became\n{formatted}");
    assert_eq!(format(FileId(0), &formatted).as_deref(), Ok(&*formatted), "formatted again:\n{text}");
    let lines = formatted.lines().collect::<Vec<_>>();
    assert!(lines.iter().all(|line| line.trim_end() == *line), "{formatted:?}");
    assert!(formatted.is_empty() || (formatted.ends_with('\n') && !formatted.ends_with("\n\n")), "{formatted:?}");
    // Within a comment, empty lines are its text.
    let has_comments = formatted.contains("/*");
    assert!(!formatted.starts_with('\n') && (has_comments || !formatted.contains("\n\n\n")), "{formatted:?}");
    true
}

#[test]
fn programs_stay_the_same() {
    let mut count = 0;
    for (_, text) in programs() {
        count += usize::from(check(&text));
        // Without any of its own layout.
        check(&text.lines().map(str::trim).collect::<Vec<_>>().join("\n"));
        check(&text.replace('\n', "\r\n \t\n"));
    }
    assert!(count > 50, "{count} programs could be read");
}

#[test]
fn programs_are_formatted() {
    // Texts on which something failed once are kept as they are.
    for (path, text) in
        programs().into_iter().filter(|(path, _)| !path.components().any(|part| part.as_os_str() == "corpus"))
    {
        if let Ok(formatted) = format(FileId(0), &text) {
            assert!(formatted == text, "{} is not formatted: run `tl fmt` on it", path.display());
        }
    }
}

/// Cuts a text into words, blanks and single signs.
fn cut(text: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_alphanumeric() || c == '_' => 0,
        c if c.is_whitespace() => 1,
        _ => 2,
    };
    let mut parts = Vec::new();
    let mut start = 0;
    let mut last = None;
    for (at, c) in text.char_indices() {
        if last.is_some_and(|last| last != kind(c) || last == 2) {
            parts.push(&text[start..at]);
            start = at;
        }
        last = Some(kind(c));
    }
    parts.push(&text[start..]);
    parts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Programs in which blanks, line ends, comments and other pieces were put anywhere, or parts were taken out.
    #[test]
    fn changed_programs_stay_the_same(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec(
            (
                any::<prop::sample::Index>(),
                prop::sample::select(vec![
                    " ", "\n", "\n\n\n", "// c\n", "/* c */", "/* c\n  d */", "\t", ";", ",", "-", "- ", "(", ")", "{", "}",
                    "[", "]", "..", "?", "not ", "{}", "\r\n", "x", "1", "", "", "else", "if a { b }", "\n-",
                ]),
                any::<bool>(),
            ),
            1..8,
        ),
    ) {
        let programs = programs();
        let mut parts = cut(&programs[which.index(programs.len())].1);
        for (at, part, replaces) in changes {
            let at = at.index(parts.len());
            if replaces || part.is_empty() {
                parts[at] = part;
            } else {
                parts.insert(at, part);
            }
        }
        check(&parts.concat());
    }
}
