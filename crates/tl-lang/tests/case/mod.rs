//! The programs under `tests/lang` and what is written in them: see `programs.rs`.

use std::collections::BTreeMap;

/// A program's file taken apart.
#[derive(Default)]
pub(crate) struct Case {
    pub(crate) text: String,
    pub(crate) files: BTreeMap<String, String>,
    pub(crate) arguments: Vec<String>,
    pub(crate) max_steps: Option<u64>,
    pub(crate) output: String,
    /// `file:line: severity: part of the message`.
    pub(crate) expected: Vec<String>,
}

/// Takes a file apart.
pub(crate) fn read(text: &str) -> Case {
    let mut case = Case::default();
    let mut file: Option<String> = None;
    let mut line_number = 0;
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("//file: ") {
            file = Some(name.trim().to_string());
            line_number = 0;
            continue;
        }
        line_number += 1;
        let into = match &file {
            Some(name) => case.files.entry(name.clone()).or_default(),
            None => &mut case.text,
        };
        into.push_str(line);
        into.push('\n');
        if let Some(line) = line.trim_start().strip_prefix("//>") {
            case.output.push_str(line.strip_prefix(' ').unwrap_or(line));
            case.output.push('\n');
        }
        if let Some(steps) = line.strip_prefix("//max-steps: ") {
            case.max_steps = steps.trim().parse().ok();
        }
        if let Some(arguments) = line.strip_prefix("//args: ") {
            case.arguments = arguments.split(' ').map(str::to_string).collect();
        }
        if let Some((_, expected)) = line.split_once("//! ") {
            let file = file.as_deref().unwrap_or("program.tl");
            for expected in expected.split(" //! ") {
                case.expected.push(format!("{file}:{line_number}: {}", expected.trim()));
            }
        }
    }
    case
}
