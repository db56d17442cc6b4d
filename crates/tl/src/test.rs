//! `tl test`: the tests of programs, each on a device of its own.

use std::fmt::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tl_device::Device;
use tl_lang::{Interpreter, SourceText, tests_of};

use crate::arguments::DeviceArguments;
use crate::junit::{self, Case};
use crate::output::{self, Stop};
use crate::program::Terminal;
use crate::sizes::Sizes;
use crate::source_arguments::TestArguments;
use crate::{files, render, sources};

/// Maximum bytes kept of what a test prints.
const MAX_OUTPUT_BYTES: usize = 1 << 20;

/// Runs tests and prints their results. Fails where one does, and where there is none.
pub(crate) fn run(arguments: &TestArguments) -> Result<(), Stop> {
    if let Some(path) = &arguments.junit {
        files::check_output(path)?;
    }
    let start = Instant::now();
    let mut cases = Vec::new();
    let mut filtered = 0;
    for path in sources::programs(&arguments.files)? {
        run_file(&path, arguments, &mut cases, &mut filtered)?;
    }
    if let Some(path) = &arguments.junit {
        let text = junit::text(&cases);
        files::write(path, |file| file.write_all(text.as_bytes()))?;
    }
    if cases.is_empty() {
        return Err(Stop::Failed(match &arguments.filter {
            Some(filter) if filtered > 0 => format!("none of the {filtered} tests has {filter:?} in its name"),
            _ => "there are no tests: a test is a block `test \"name\" { … }` at the top level of a file".to_owned(),
        }));
    }
    let failed = cases.iter().filter(|case| case.failure.is_some()).count();
    let mut line = format!("{} passed, {failed} failed", cases.len() - failed);
    if filtered > 0 {
        let _ = write!(line, ", {filtered} filtered out");
    }
    output::print(&format!("{line}, in {:.2} s\n", start.elapsed().as_secs_f64()))?;
    if failed == 0 { Ok(()) } else { Err(Stop::Exit(1)) }
}

/// Checks one program that has tests, and runs them. A program with errors is one failed case.
fn run_file(path: &Path, arguments: &TestArguments, cases: &mut Vec<Case>, filtered: &mut usize) -> Result<(), Stop> {
    let source = match sources::main_file(path) {
        Ok(source) => source,
        Err(Stop::Failed(problem)) => {
            return finish(broken(&path.display().to_string(), format!("error: {problem}\n")), cases);
        }
        Err(stop) => return Err(stop),
    };
    let tests = tests_of(&source.text);
    if tests.is_empty() {
        return Ok(());
    }
    let device = Device::cpu();
    let mut host = Terminal::new(Vec::new(), Sizes::default(), &device, output::print);
    if let Err(error) = Interpreter::with_host(&device, &mut host).check_named(&source.name, &source.text) {
        return finish(broken(&source.name, render::text(&error.sources, &error.diagnostics, &[])), cases);
    }
    for (index, name) in tests.into_iter().enumerate() {
        if arguments.filter.as_ref().is_some_and(|filter| !name.contains(filter)) {
            *filtered += 1;
            continue;
        }
        let start = Instant::now();
        let failure = run_test(&source, index, arguments)?;
        finish(Case { file: source.name.clone(), name, time: start.elapsed(), failure }, cases)?;
    }
    Ok(())
}

/// In the place of the tests of a file that cannot be read, or has errors.
fn broken(file: &str, failure: String) -> Case {
    Case { file: file.to_owned(), name: "(check)".to_owned(), time: Duration::ZERO, failure: Some(failure) }
}

/// Prints a case's result and keeps it.
fn finish(case: Case, cases: &mut Vec<Case>) -> Result<(), Stop> {
    let result = if case.failure.is_some() { "FAIL" } else { "ok  " };
    let seconds = case.time.as_secs_f64();
    let mut text = format!("{result}  {}: {}  ({seconds:.2} s)\n", case.file, case.name);
    if let Some(failure) = &case.failure {
        text.push_str(failure);
    }
    cases.push(case);
    output::print(&text)
}

/// Runs one test. `None`: it passed; otherwise why it failed and what it printed.
fn run_test(source: &SourceText, index: usize, arguments: &TestArguments) -> Result<Option<String>, Stop> {
    let device = crate::device::open_for(
        &DeviceArguments { compute: arguments.compute.clone(), ..DeviceArguments::default() },
        Interpreter::STACK_BYTES,
    )?;
    let printed = Arc::new(Mutex::new(String::new()));
    let captured = printed.clone();
    let mut host = Terminal::new(Vec::new(), Sizes::default(), &device, move |text| {
        let mut printed = captured.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_OUTPUT_BYTES.saturating_sub(printed.len());
        printed.push_str(text.get(..text.floor_char_boundary(room)).unwrap_or(""));
        Ok(())
    });
    let mut failure = match Interpreter::with_host(&device, &mut host).run_test(&source.name, &source.text, index) {
        Ok(outcome) if !outcome.ended_itself => return Ok(None),
        Ok(outcome) => format!("error: the test ended the program with exit code {}\n", outcome.exit_code),
        Err(error) => render::text(&error.sources, &error.diagnostics, &error.calls),
    };
    let printed = printed.lock().unwrap_or_else(PoisonError::into_inner);
    if !printed.is_empty() {
        let newline = if printed.ends_with('\n') { "" } else { "\n" };
        let is_cut = printed.len() + 4 > MAX_OUTPUT_BYTES;
        let cut = if is_cut { "(what it printed behind this is not shown)\n" } else { "" };
        let _ = write!(failure, "printed:\n{printed}{newline}{cut}");
    }
    Ok(Some(failure))
}
