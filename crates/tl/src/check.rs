//! `tl check`: what is wrong with programs, without running them.

use std::path::Path;

use serde_json::{Value, json};
use tl_device::{Device, Simulation};
use tl_lang::Interpreter;
use tl_model::Weights;
use tl_syntax::{Code, Diagnostic, Label, Severity, SourceMap, Span};

use crate::output::{self, Stop, print_error};
use crate::program::Terminal;
use crate::sizes::Sizes;
use crate::source_arguments::{CheckArguments, DiagnosticFormat};
use crate::{models, render, sources};

/// Checks programs, all of them, whatever is wrong with one.
pub(crate) fn run(arguments: &CheckArguments) -> Result<(), Stop> {
    let device = Device::cpu();
    let model = arguments.model.as_deref().map(weights).transpose()?;
    let mut is_clean = true;
    for path in sources::programs(&arguments.files)? {
        let source = match sources::main_file(&path) {
            Ok(source) => source,
            Err(Stop::Failed(problem)) => {
                unreadable(&path.display().to_string(), &problem, arguments.format)?;
                is_clean = false;
                continue;
            }
            Err(stop) => return Err(stop),
        };
        let mut host = Terminal::new(Vec::new(), Sizes::default(), &device, output::print);
        let mut interpreter = Interpreter::with_host(&device, &mut host);
        if let Some(model) = &model {
            interpreter.check_with_model(model);
        }
        let result = interpreter.check_named(&source.name, &source.text);
        is_clean &= result.is_ok();
        let (map, diagnostics) = match result {
            Ok(outcome) => (outcome.sources, outcome.warnings),
            Err(error) => (error.sources, error.diagnostics),
        };
        match arguments.format {
            DiagnosticFormat::Text => render::print(&map, &diagnostics, &[]),
            DiagnosticFormat::Json => {
                for diagnostic in &diagnostics {
                    output::print(&format!("{}\n", object(&map, diagnostic)))?;
                }
            }
        }
    }
    if is_clean { Ok(()) } else { Err(Stop::Exit(1)) }
}

/// The weights of a model, on a device that only counts: nothing of them is read but their sizes.
fn weights(model: &Path) -> Result<Weights, Stop> {
    let device = Device::simulated(Simulation::of(&Device::cpu()));
    Weights::load(models::find(model)?, &device).map_err(Stop::failed)
}

/// Reports a file that cannot be read.
fn unreadable(path: &str, problem: &str, format: DiagnosticFormat) -> Result<(), Stop> {
    match format {
        DiagnosticFormat::Text => print_error(&format!("error: {problem}")),
        DiagnosticFormat::Json => {
            let object = json!({ "file": path, "severity": "error", "message": problem, "labels": [], "hints": [] });
            output::print(&format!("{object}\n"))?;
        }
    }
    Ok(())
}

/// A diagnostic as a JSON object.
fn object(map: &SourceMap, diagnostic: &Diagnostic) -> Value {
    let mut object = place(map, diagnostic.span());
    let labels = diagnostic.labels.iter().skip(1).map(|Label { span, text }| {
        let mut label = place(map, *span);
        label["message"] = json!(text);
        label
    });
    object["severity"] = json!(match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    });
    object["code"] = json!(diagnostic.code.map(Code::name));
    object["message"] = json!(diagnostic.message);
    object["labels"] = labels.collect();
    object["hints"] = json!(diagnostic.hints);
    object
}

/// A place: the file's name, and where it begins and ends.
fn place(map: &SourceMap, span: Span) -> Value {
    let Some(file) = map.file(span.file) else { return json!({}) };
    let point = |offset| {
        let at = file.line_column(offset);
        json!({ "line": at.line, "column": at.column })
    };
    json!({ "file": file.name(), "start": point(span.start), "end": point(span.end) })
}
