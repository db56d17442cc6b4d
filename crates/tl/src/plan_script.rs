//! `tl plan SCRIPT.tl`: runs a program once, recording, and prints the reservations that it needs.

use serde_json::json;
use std::fmt::Write;
use tl_device::{Device, ReservationPlan, Trace, bytes as display_bytes};

use crate::arguments::PlanProgramArguments;
use crate::memory_lock::{self, MemoryLock};
use crate::output::{self, Stop};
use crate::plan_output::{arena_json, arena_line, device_arguments, is_written, write_plan};
use crate::sizes::Sizes;
use crate::sources::main_file;
use crate::{files, plan_sizes, program};

/// Runs the program with its output on standard error, and prints its plan on standard output.
pub(crate) fn run(arguments: &PlanProgramArguments) -> Result<(), Stop> {
    let source = main_file(&arguments.file)?;
    let outputs = [&arguments.output, &arguments.lock.lock];
    outputs.into_iter().flatten().try_for_each(|path| files::check_output(path))?;
    if !arguments.with.is_empty() {
        return plan_sizes::run(arguments, &source);
    }
    let is_locked = arguments.lock.is_given();
    let open = |arguments| crate::device::open(&device_arguments(arguments));
    let device = if is_locked { lock_device(arguments)? } else { open(arguments)? };
    let recorded = program::record(&source, &arguments.args, Sizes::default(), &device, output::print_to_stderr)?;
    let (trace, exit_code) = (&recorded.trace, recorded.exit_code);
    if exit_code != 0 && is_locked {
        return Err(Stop::Failed(format!(
            "{}: the program ended with exit code {exit_code}, so that not all of its memory is known",
            arguments.file.display()
        )));
    }
    if exit_code != 0 {
        output::print_error(&format!(
            "warning: the program ended with exit code {exit_code}; this is what it took so far"
        ));
    }
    let plan = trace.plan().map_err(Stop::failed)?;
    let lock = || MemoryLock::of_program(&arguments.file, &arguments.args, &device, trace, &plan, &recorded.sources);
    if let Some(path) = &arguments.lock.check {
        return lock().check(path);
    }
    if let Some(path) = &arguments.lock.lock {
        lock().write(path)?;
    }
    if let Some(path) = &arguments.output {
        let rows = plan.rows.iter().filter(|row| is_written(row.kind, row.layout.dtype()));
        let written = ReservationPlan { rows: rows.cloned().collect() };
        let what = format!("{} needs: {} buffers, {}", source.name, written.count(), display_bytes(written.bytes()));
        write_plan(path, &what, &written)?;
    }
    output::print(&if arguments.json { json(&plan, trace, arguments.arena) } else { text(&plan, trace, arguments) })
}

/// The device of locks: the CPU with the default pool, whatever the environment sets.
fn lock_device(arguments: &PlanProgramArguments) -> Result<Device, Stop> {
    memory_lock::check_device(arguments.device.as_ref())?;
    let mut options = crate::device::options(arguments.threads)?;
    options.memory.limit_bytes = arguments.memory_limit;
    Ok(Device::cpu_with(&options))
}

/// The plan as lines of a program, with their bytes as comments.
fn text(plan: &ReservationPlan, trace: &Trace, arguments: &PlanProgramArguments) -> String {
    let mut text = String::new();
    let statements: Vec<String> = plan.rows.iter().map(tl_lang::reserve_statement).collect();
    let width = statements.iter().map(|statement| statement.chars().count()).max().unwrap_or_default();
    for (row, statement) in plan.rows.iter().zip(&statements) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{statement:<width$}  // {}", display_bytes(row.bytes()));
    }
    let (count, len_bytes) = (plan.count(), plan.bytes());
    let _ = writeln!(text, "// {count} buffers, {} ({len_bytes} bytes)", display_bytes(len_bytes));
    if arguments.arena {
        let _ = writeln!(text, "// {}", arena_line(trace));
    }
    text
}

fn json(plan: &ReservationPlan, trace: &Trace, with_arena: bool) -> String {
    let rows = plan.rows.iter().map(|row| {
        json!({
            "statement": tl_lang::reserve_statement(row),
            "layout": row.layout.to_string(),
            "count": row.count,
            "bytes": row.bytes(),
        })
    });
    let mut object = json!({ "buffers": rows.collect::<Vec<_>>(), "total_bytes": plan.bytes() });
    if with_arena && let Some(fields) = object.as_object_mut() {
        fields.insert("arena".to_owned(), arena_json(trace));
    }
    format!("{object}\n")
}
