//! The checker finds errors in shapes before the program runs, and finds none that are none. Every example and test program that
//! runs is changed in one place (a number, an operand, an axis, a dimension), and checked and run. Of the changed programs that
//! end with an error in shapes, the checker must find nearly all; what it refuses must fail when it runs, unless that place is
//! never reached.

mod case;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tl_device::{Device, DeviceOptions};
use tl_lang::{CapturedHost, Host, Interpreter, Outcome, ProgramError, SourceText};
use tl_syntax::{Code, Diagnostic};

/// The most changed programs of one program.
const MAX_MUTANTS: usize = 48;

/// Rounds and calls after which a program is ended: a change may make a loop endless.
const MAX_ROUNDS: usize = 20_000;

/// What a program ends itself with where it is asked whether a place is reached.
const REACHED: i32 = 77;

/// A captured host that ends programs that do not end.
#[derive(Clone)]
struct BoundedHost {
    host: CapturedHost,
    rounds: usize,
}

impl Host for BoundedHost {
    fn print(&mut self, _: &str) {}
    fn read_source(&mut self, path: &str, importer: &str) -> Result<SourceText, String> {
        self.host.read_source(path, importer)
    }
    fn open_path(&mut self, _: &str) -> Result<PathBuf, String> {
        Err("there are no models here".into())
    }
    fn args(&mut self) -> Vec<String> {
        self.host.args()
    }
    fn size(&mut self, name: &str, default: i64) -> Option<i64> {
        self.host.size(name, default)
    }
    fn env(&mut self, name: &str) -> Option<String> {
        self.host.env(name)
    }
    fn time_ms(&mut self) -> f64 {
        self.host.time_ms()
    }
    fn interrupted(&mut self) -> Option<i32> {
        self.rounds += 1;
        (self.rounds > MAX_ROUNDS).then_some(1)
    }
}

struct Program {
    name: String,
    text: String,
    host: BoundedHost,
}

impl Program {
    fn with(&self, text: String) -> Program {
        Program { name: self.name.clone(), text, host: self.host.clone() }
    }

    fn check(&self) -> Result<Outcome, ProgramError> {
        let mut host = self.host.clone();
        Interpreter::with_host(&Device::cpu(), &mut host).check(&self.text)
    }

    /// Runs the program, whatever the checker says of its shapes.
    fn run(&self) -> Result<Outcome, ProgramError> {
        let mut options = DeviceOptions::default();
        options.memory.limit_bytes = Some(256 << 20);
        let mut host = self.host.clone();
        let device = Device::cpu_with(&options);
        let mut interpreter = Interpreter::with_host(&device, &mut host);
        interpreter.leave_shapes_to_run();
        interpreter.run(&self.text)
    }
}

/// The examples and test programs that are right and run to their end.
fn programs() -> Vec<Program> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut programs = Vec::new();
    for folder in ["tests/lang", "examples"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.extension().is_some_and(|extension| extension == "tl") {
                let case = case::read(&std::fs::read_to_string(&path).expect("the program can be read"));
                let mut host = CapturedHost::default();
                (host.files, host.arguments) = (case.files, case.arguments);
                let host = BoundedHost { host, rounds: 0 };
                programs.push(Program { name: path.display().to_string(), text: case.text, host });
            }
        }
    }
    programs.sort_by(|a, b| a.name.cmp(&b.name));
    programs.retain(|program| program.check().is_ok() && program.run().is_ok_and(|outcome| outcome.exit_code == 0));
    assert!(programs.len() > 20, "only {} programs run", programs.len());
    programs
}

/// Whether each byte is code: not part of a comment. In a string only those of `einsum` specifications are.
fn code(text: &str) -> Vec<bool> {
    let mut is_code = vec![true; text.len()];
    for (start, _) in text.match_indices("//") {
        let end = text[start..].find('\n').map_or(text.len(), |len| start + len);
        is_code[start..end].fill(false);
    }
    let mut quote: Option<usize> = None;
    for (at, _) in text.match_indices('"') {
        match quote.take() {
            Some(start) => is_code[start..=at].fill(text[start..at].contains("->")),
            None => quote = Some(at),
        }
    }
    is_code
}

/// All changes, each a range and what stands there instead.
fn changes(text: &str) -> Vec<(std::ops::Range<usize>, String)> {
    let is_code = code(text);
    let bytes = text.as_bytes();
    let is_word =
        |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_' || *byte == b'.');
    let mut changes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        while is_word(at) {
            at += 1;
        }
        if at == start {
            at += 1;
            continue;
        }
        // `0..4` is two numbers.
        let mut from = start;
        for part in text[start..at].split("..") {
            if let (Ok(n), true) = (part.parse::<i64>(), is_code[from]) {
                changes.push((from..from + part.len(), (n + 1).to_string()));
                if n > 0 {
                    changes.push((from..from + part.len(), (n - 1).to_string()));
                }
            }
            from += part.len() + 2;
        }
    }
    for (at, _) in text.match_indices(", ").filter(|(at, _)| is_code[*at]) {
        // Two dimensions or operands change places.
        let before = text[..at].rfind(|c: char| !c.is_alphanumeric()).map_or(0, |at| at + 1);
        let after = text[at + 2..].find(|c: char| !c.is_alphanumeric()).map_or(text.len(), |len| at + 2 + len);
        let (left, right) = (&text[before..at], &text[at + 2..after]);
        let stands_alone = |at: Option<&u8>| at.is_some_and(|byte| matches!(byte, b'[' | b'(' | b']' | b')' | b','));
        let is_alone = before > 0 && stands_alone(bytes.get(before - 1)) && stands_alone(bytes.get(after));
        if is_alone && !left.is_empty() && !right.is_empty() && left != right {
            changes.push((before..after, format!("{right}, {left}")));
        }
    }
    for (at, _) in text.match_indices(" @ ").filter(|(at, _)| is_code[*at]) {
        let before = text[..at].rfind(|c: char| !c.is_alphanumeric() && c != '_').map_or(0, |at| at + 1);
        let after =
            text[at + 3..].find(|c: char| !c.is_alphanumeric() && c != '_').map_or(text.len(), |len| at + 3 + len);
        if before < at && after > at + 3 && bytes.get(after) != Some(&b'(') {
            changes.push((before..after, format!("{} @ {}", &text[at + 3..after], &text[before..at])));
        }
    }
    for method in [".transpose()", ".unsqueeze(0)", ".unsqueeze(1)", ".flatten()", ".squeeze(0)"] {
        for (at, _) in text.match_indices(method).filter(|(at, _)| is_code[*at]) {
            changes.push((at..at + method.len(), String::new()));
        }
    }
    for (at, _) in text.match_indices("->").filter(|(at, _)| is_code[*at] && text[..*at].ends_with(char::is_lowercase))
    {
        changes.push((at - 1..at, if text[..at].ends_with('j') { "i" } else { "j" }.to_string()));
    }
    changes.sort_by_key(|(range, new)| (range.start, range.end, new.clone()));
    let step = changes.len().div_ceil(MAX_MUTANTS).max(1);
    changes.into_iter().step_by(step).collect()
}

/// Whether it is about the shapes of tensors; how long a list is may be known only when the program runs.
fn is_shape(diagnostic: &Diagnostic) -> bool {
    diagnostic.code.is_some_and(|code| code.is_shape() && code != Code::NoSuchElement)
}

/// Whether the error is about sizes that a signature leaves open: it need not happen in this program's calls.
fn is_about_names(diagnostic: &Diagnostic) -> bool {
    let inside = diagnostic.message.split('[').skip(1).map(|part| part.split(']').next().unwrap_or(""));
    let shapes: Vec<&str> = inside.collect();
    let has_name = |text: &str| text.chars().any(char::is_alphabetic) || text.contains('?');
    shapes.iter().any(|shape| has_name(shape)) || diagnostic.message.contains("size of `")
}

/// Whether the place of an error is reached: the program is ended there.
fn is_reached(program: &Program, diagnostic: &Diagnostic) -> bool {
    let start = diagnostic.span().start as usize;
    let line = program.text[..start].rfind('\n').map_or(0, |at| at + 1);
    let brace = program.text[line..start].rfind("{ ").map_or(line, |at| line + at + 2);
    let mut text = program.text.clone();
    text.insert_str(brace, &format!("exit({REACHED}); "));
    match program.with(text).run() {
        Ok(outcome) => outcome.exit_code == REACHED,
        // It cannot be asked here.
        Err(_) => false,
    }
}

#[test]
fn changed_programs() {
    let (mut failing, mut found, mut refused, mut by_names) = (0, 0, 0, 0);
    let (mut missed, mut false_alarms) = (Vec::new(), Vec::new());
    let mut of_kind: BTreeMap<String, usize> = BTreeMap::new();
    for program in programs() {
        for (range, new) in changes(&program.text) {
            let mut text = program.text.clone();
            text.replace_range(range.clone(), &new);
            let line = text[..range.start].matches('\n').count() + 1;
            let shown = text.lines().nth(line - 1).unwrap_or("").trim().to_string();
            let mutant = program.with(text);
            let checked = mutant.check();
            let ran = mutant.run();
            let shape_error =
                ran.as_ref().err().and_then(|error| error.diagnostics.iter().find(|error| is_shape(error)));
            if let Some(error) = shape_error {
                failing += 1;
                *of_kind.entry(format!("{:?}", error.code)).or_default() += 1;
                match &checked {
                    Err(_) => found += 1,
                    Ok(_) => missed.push(format!("{}:{line}: {shown}\n    {}", program.name, error.message)),
                }
            }
            let Err(errors) = &checked else { continue };
            let errors: Vec<&Diagnostic> = errors.diagnostics.iter().filter(|error| error.is_error()).collect();
            if !errors.iter().all(|error| error.code.is_some_and(Code::is_shape)) {
                continue;
            }
            refused += 1;
            if ran.is_ok() {
                match errors.iter().find(|error| !is_about_names(error) && is_reached(&mutant, error)) {
                    Some(error) => {
                        false_alarms.push(format!("{}:{line}: {shown}\n    {}", program.name, error.message));
                    }
                    None => by_names += 1,
                }
            }
        }
    }
    println!("{failing} changed programs fail with an error in shapes, {found} of them are found ({of_kind:?})");
    println!(
        "{refused} are refused for their shapes, {by_names} of these run: the place is not reached, or a signature"
    );
    println!("leaves sizes open; {} are false alarms", false_alarms.len());
    let (missed, false_alarms) = (missed.join("\n"), false_alarms.join("\n"));
    assert!(found * 100 >= failing * 98, "found {found} of {failing}; not:\n{missed}");
    assert!(false_alarms.is_empty(), "false alarms:\n{false_alarms}");
    assert!(failing > 150, "only {failing} changed programs fail");
}
