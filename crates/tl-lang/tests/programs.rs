//! Runs the programs under `tests/lang`. What one prints stands in it as `//> line`; what is wrong with it stands at the
//! line where it is, as `//! error: part of the message` or `//! warning: …`, and where its column matters too, as
//! `//! error@7: …`. Arguments of a program: `//args: a b`, the most steps that it may take: `//max-steps: 100`. Other
//! files that it imports follow in the same file behind `//file: name.tl`.

use std::fmt::Write;
use std::path::Path;

use tl_device::Device;
use tl_lang::{Architecture, CapturedHost, Interpreter};
use tl_syntax::{Diagnostic, SourceMap};

mod case;

#[cfg(feature = "gpu")]
#[path = "../../../tests/gpu.rs"]
mod gpu;

/// A diagnostic as a case describes it.
struct Found {
    /// `file:line`
    place: String,
    column: String,
    severity: &'static str,
    /// Everything that is said.
    message: String,
}

impl Found {
    /// Whether the case expects this: `file:line: severity: part of the message`, or `severity@column`.
    fn is_expected(&self, expected: &str) -> bool {
        let described = expected.strip_prefix(&format!("{}: ", self.place));
        let Some(rest) = described.and_then(|rest| rest.strip_prefix(self.severity)) else { return false };
        let part = match rest.strip_prefix('@').and_then(|rest| rest.split_once(": ")) {
            Some((column, _)) if column != self.column => return false,
            Some((_, part)) => part,
            None => rest.trim_start_matches(": "),
        };
        format!("{}: {}", self.severity, self.message).contains(part)
    }
}

fn shown(diagnostic: &Diagnostic, sources: &SourceMap) -> Found {
    let span = diagnostic.span();
    let file = sources.file(span.file).expect("the place is in a file");
    let severity = if diagnostic.is_error() { "error" } else { "warning" };
    let hints: String = diagnostic.hints.iter().map(|hint| format!(" ({hint})")).collect();
    let labels = diagnostic.labels.iter().skip(1).map(|label| {
        let line = sources.file(label.span.file).map_or(0, |file| file.line_column(label.span.start).line);
        format!(" [line {line}: {}]", label.text)
    });
    let at = file.line_column(span.start);
    let (place, column) = (format!("{}:{}", file.name(), at.line), at.column.to_string());
    let message = format!("{}{hints}{}", diagnostic.message, labels.collect::<String>());
    Found { place, column, severity, message }
}

/// What differs between a case and its run; empty if nothing does.
fn run(path: &Path, device: &Device) -> String {
    let text = std::fs::read_to_string(path).expect("the case can be read");
    let case = case::read(&text);
    let mut host = CapturedHost::default();
    (host.files, host.arguments, host.max_steps) = (case.files, case.arguments, case.max_steps);
    let mut interpreter = Interpreter::with_captured(device, host);
    let (output, diagnostics, sources) = match interpreter.run(&case.text) {
        Ok(outcome) => (outcome.output, outcome.warnings, outcome.sources),
        Err(error) => (error.output, error.diagnostics, error.sources),
    };
    let mut problems = String::new();
    if output != case.output {
        write!(problems, "printed:\n{output}expected:\n{}", case.output).unwrap();
    }
    let mut found: Vec<Found> = diagnostics.iter().map(|diagnostic| shown(diagnostic, &sources)).collect();
    for expected in &case.expected {
        match found.iter().position(|found| found.is_expected(expected)) {
            Some(at) => drop(found.remove(at)),
            None => writeln!(problems, "not found: {expected}").unwrap(),
        }
    }
    for Found { place, column, severity, message } in found {
        writeln!(problems, "not expected: {place}: {severity}@{column}: {message}").unwrap();
    }
    problems
}

#[test]
fn programs() {
    check(Device::cpu);
}

/// Skipped where the machine has no GPU, unless `TL_REQUIRE_GPU` is set.
#[cfg(feature = "gpu")]
#[test]
fn programs_on_a_gpu() {
    let options = tl_device::DeviceOptions::default();
    if gpu::gpu(&options).is_some() {
        check(|| Device::gpu_with(&options).expect("there was one just now"));
    }
}

/// Runs all programs, each on a device of its own.
fn check(device: impl Fn() -> Device) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/lang");
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .expect("there are cases")
        .map(|entry| entry.expect("the folder can be read").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "tl"))
        .collect();
    paths.sort();
    assert!(paths.len() > 5, "the cases are not in {}", folder.display());
    let mut report = String::new();
    for path in paths {
        let problems = run(&path, &device());
        if !problems.is_empty() {
            writeln!(report, "--- {}\n{problems}", path.file_name().unwrap_or_default().to_string_lossy()).unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// What ships with the program, and the examples, have neither errors nor warnings.
#[test]
fn shipped_programs_are_right() {
    let mut programs: Vec<(String, String)> = Architecture::names()
        .map(|name| (format!("std/arch/{name}"), Architecture::source(name).unwrap_or_default().to_string()))
        .collect();
    assert!(programs.len() > 20);
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    for entry in std::fs::read_dir(examples).expect("there are examples") {
        let path = entry.expect("the folder can be read").path();
        if path.extension().is_some_and(|extension| extension == "tl") {
            programs.push((path.display().to_string(), std::fs::read_to_string(path).expect("it can be read")));
        }
    }
    for (name, text) in programs {
        match Interpreter::new(&Device::cpu()).check(&text) {
            Ok(outcome) => assert!(outcome.warnings.is_empty(), "{name}: {:?}", outcome.warnings),
            Err(error) => panic!("{name}: {error}"),
        }
    }
}
