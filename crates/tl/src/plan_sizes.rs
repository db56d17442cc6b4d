//! `tl plan SCRIPT.tl --with n=1..512`: reservations as formulas of sizes that vary, from runs at some of their values.

use std::fmt::Write;

use serde_json::{Value, json};
use tl_device::{FittedPlan, SymbolicPlan, Trace, bytes as display_bytes};
use tl_lang::{SourceText, symbolic_reserve_statement};

use crate::arguments::PlanProgramArguments;
use crate::output::{self, Stop};
use crate::plan_output::{arena_json, arena_line, device_arguments, is_written, write_plan};
use crate::program;
use crate::sizes::{Sizes, check_names};

/// Maximum bytes of each recording. It keeps all events, to know which tensors are live at once.
const RECORDING_MAX_BYTES: usize = 1 << 30;

/// Maximum number of sizes in a plan.
const MAX_SIZES: usize = 4;

/// Maximum values in the table of totals, besides the lowest and the highest.
const MAX_TABLE_ROWS: usize = 12;

/// Records the program at some values of its sizes and prints its plan.
pub(crate) fn run(arguments: &PlanProgramArguments, source: &SourceText) -> Result<(), Stop> {
    let sizes = &arguments.with;
    check_names(sizes)?;
    if sizes.len() > MAX_SIZES {
        return Err(Stop::usage(&format!("--with: a plan has at most {MAX_SIZES} sizes that vary")));
    }
    let points = SymbolicPlan::points(sizes);
    let mut runs = Vec::with_capacity(points.len());
    for (at, values) in points.iter().enumerate() {
        let is_last = at + 1 == points.len();
        let print: program::Print = if is_last { output::print_to_stderr } else { |_| Ok(()) };
        runs.push((values.clone(), record(arguments, source, values, print)?));
    }
    let fitted = SymbolicPlan::fit(sizes, &runs)
        .map_err(|error| Stop::Failed(format!("{}: no plan for all sizes: {error}", arguments.file.display())))?;
    if let Some(path) = &arguments.output {
        let mut plan = fitted.plan.clone();
        plan.retain(is_written);
        let largest = plan.largest();
        let what = format!(
            "{} needs, {} buffers and {} at the most",
            source.name,
            largest.count(),
            display_bytes(largest.bytes())
        );
        write_plan(path, &what, &plan)?;
    }
    let largest = runs.last().map(|(_, trace)| trace).filter(|_| arguments.arena);
    output::print(&if arguments.json { json_text(&fitted, &points, largest) } else { text(&fitted, &points, largest) })
}

/// The trace of a run with these values, on a device of its own.
fn record(
    arguments: &PlanProgramArguments,
    source: &SourceText,
    values: &[usize],
    print: program::Print,
) -> Result<Trace, Stop> {
    let device = crate::device::open_to_record(&device_arguments(arguments), RECORDING_MAX_BYTES)?;
    let sizes = Sizes::new(&arguments.with, values);
    let recorded = program::record(source, &arguments.args, sizes, &device, print)?;
    let file = arguments.file.display();
    if let Some(problem) = recorded.sizes.unasked(&arguments.with).first() {
        return Err(Stop::Failed(format!("{file}: {problem}")));
    }
    match recorded.exit_code {
        0 => Ok(recorded.trace),
        code => Err(Stop::Failed(format!(
            "{file}: with {} the program ended with exit code {code}, so that not all of its memory is known",
            assignment(arguments, values)
        ))),
    }
}

/// `n = 8, context = 64`.
fn assignment(arguments: &PlanProgramArguments, values: &[usize]) -> String {
    let sizes = arguments.with.iter().zip(values).map(|(size, value)| format!("{} = {value}", size.name));
    sizes.collect::<Vec<_>>().join(", ")
}

/// The plan as lines of a program, with formulas and a table of totals as comments.
fn text(fitted: &FittedPlan, points: &[Vec<usize>], largest: Option<&Trace>) -> String {
    let plan = &fitted.plan;
    let mut text = String::new();
    let ranges: Vec<String> = plan.sizes().iter().map(ToString::to_string).collect();
    let statements: Vec<(String, String)> =
        plan.reservations().map(|row| (symbolic_reserve_statement(&row), row.bytes)).collect();
    let width = statements.iter().map(|(statement, _)| statement.chars().count()).max().unwrap_or_default();
    // Writing into a string cannot fail.
    let _ = writeln!(text, "// for {}", ranges.join(", "));
    for (at, (statement, bytes)) in statements.iter().enumerate() {
        let mark = if fitted.seen_only.contains(&at) { ", the largest seen" } else { "" };
        let _ = writeln!(text, "{statement:<width$}  // {bytes} B{mark}");
    }
    let count = plan.largest().count();
    let formula = plan.bytes_formula();
    let _ = writeln!(text, "// total: {formula} B, and less than 64 B more for each of {count} buffers:");
    let names: Vec<&str> = plan.sizes().iter().map(|size| size.name.as_str()).collect();
    let _ =
        writeln!(text, "//   {} {:>12}", names.iter().map(|name| format!("{name:>9}")).collect::<String>(), "bytes");
    for values in table(plan) {
        let bytes = plan.at(&values).bytes();
        let values: String = values.iter().map(|value| format!("{value:>9}")).collect();
        let _ = writeln!(text, "//   {values} {bytes:>12}  {}", display_bytes(bytes));
    }
    text.push_str(&proof(fitted, points));
    if let Some(trace) = largest {
        let _ = writeln!(text, "// at the largest: {}", arena_line(trace));
    }
    text
}

/// The checks made, and their conclusion.
fn proof(fitted: &FittedPlan, points: &[Vec<usize>]) -> String {
    let shown: Vec<String> = points
        .iter()
        .map(|values| match values.as_slice() {
            [value] => value.to_string(),
            values => format!("({})", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        })
        .collect();
    let names: Vec<&str> = fitted.plan.sizes().iter().map(|size| size.name.as_str()).collect();
    let mut text = format!(
        "// checked: runs at {} = {} took what the formulas say\n\
         // assumed: so do the sizes between\n\
         // proven from that: reserved for the largest, the plan serves every request of every size\n",
        names.join(", "),
        shown.join(", ")
    );
    if !fitted.seen_only.is_empty() {
        let n = fitted.seen_only.len();
        // Writing into a string cannot fail.
        let _ =
            writeln!(text, "// {n} of the reservations fit no sum of the sizes: they are the largest of these runs");
    }
    text
}

/// The values in the table: the lowest, powers of 8, the highest.
fn table(plan: &SymbolicPlan) -> Vec<Vec<usize>> {
    let all =
        |wanted: usize| -> Vec<usize> { plan.sizes().iter().map(|size| wanted.clamp(size.min, size.max)).collect() };
    let powers = (0..).map(|power| 8usize.saturating_pow(power)).take(MAX_TABLE_ROWS);
    let mut rows: Vec<Vec<usize>> = [0].into_iter().chain(powers).chain([usize::MAX]).map(all).collect();
    rows.dedup();
    rows
}

fn json_text(fitted: &FittedPlan, points: &[Vec<usize>], largest: Option<&Trace>) -> String {
    let plan = &fitted.plan;
    let named = |values: &[usize]| -> serde_json::Map<String, Value> {
        plan.sizes().iter().zip(values).map(|(size, value)| (size.name.clone(), json!(value))).collect()
    };
    let sizes = plan.sizes().iter().map(|size| json!({ "name": size.name, "min": size.min, "max": size.max }));
    let rows = plan.reservations().enumerate().map(|(at, row)| {
        json!({ "statement": symbolic_reserve_statement(&row), "bytes": row.bytes, "is_fitted": !fitted.seen_only.contains(&at) })
    });
    let totals = table(plan)
        .into_iter()
        .map(|values| json!({ "with": named(&values), "total_bytes": plan.at(&values).bytes() }));
    let mut object = json!({
        "with": sizes.collect::<Vec<_>>(),
        "recorded": points.iter().map(|values| named(values)).collect::<Vec<_>>(),
        "buffers": rows.collect::<Vec<_>>(),
        "total": plan.bytes_formula(),
        "totals": totals.collect::<Vec<_>>(),
        "total_bytes": plan.largest().bytes(),
    });
    if let (Some(trace), Some(fields)) = (largest, object.as_object_mut()) {
        fields.insert("arena".to_owned(), arena_json(trace));
    }
    format!("{object}\n")
}
