//! `tl plan SCRIPT.tl`: runs a program once, recording, and prints the reservations that it needs.

use std::fmt::Write;

use serde_json::json;
use tl_device::{DType, Device, PlanRow, ReservationPlan, ReserveKind, Trace, bytes as display_bytes};

use crate::arguments::{DeviceArguments, PlanArguments};
use crate::memory_lock::{self, MemoryLock};
use crate::output::{self, Stop};
use crate::reservations::plan_arena;
use crate::{report, script};

/// Runs the program, its output going to standard error, and prints its plan to standard output.
pub(crate) fn run(arguments: &PlanArguments) -> Result<(), Stop> {
    check_options(arguments)?;
    let is_locked = arguments.lock.is_some() || arguments.check.is_some();
    let device = if is_locked { lock_device(arguments)? } else { open_device(arguments)? };
    let source = script::main_file(&arguments.file)?;
    let recorded = script::record(&source, &arguments.args, &device, output::print_to_stderr)?;
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
    if let Some(path) = &arguments.check {
        return lock().check(path);
    }
    if let Some(path) = &arguments.lock {
        lock().write(path)?;
    }
    if let Some(path) = &arguments.output {
        let file = plan_file(&plan, &source.name);
        report::write(path, |out| out.write_all(file.as_bytes()))?;
    }
    output::print(&if arguments.json { json(&plan, trace, arguments.arena) } else { text(&plan, trace, arguments) })
}

fn open_device(arguments: &PlanArguments) -> Result<Device, Stop> {
    crate::device::open(&DeviceArguments {
        device: arguments.device.clone(),
        threads: arguments.threads,
        memory_limit: arguments.memory_limit,
        ..DeviceArguments::default()
    })
}

/// The device that locks are made on: the CPU with the pool as it is by default, whatever the environment says of
/// either.
fn lock_device(arguments: &PlanArguments) -> Result<Device, Stop> {
    memory_lock::check_device(arguments)?;
    let mut options = crate::device::options(arguments.threads)?;
    options.memory.limit_bytes = arguments.memory_limit;
    Ok(Device::cpu_with(&options))
}

/// Refuses what says nothing about a program, rather than leave it without effect.
fn check_options(arguments: &PlanArguments) -> Result<(), Stop> {
    let given = [
        ("--context", arguments.context.is_some()),
        ("--activations", arguments.activations.is_some()),
        ("--cache", arguments.cache.is_some()),
        ("--arch", arguments.arch.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            let path = arguments.file.display();
            Err(Stop::Failed(format!("{path} is a program, which chooses this itself; {option} is for models only")))
        }
        None => Ok(()),
    }
}

/// The plan as lines of a program, and what they cost as remarks.
fn text(plan: &ReservationPlan, trace: &Trace, arguments: &PlanArguments) -> String {
    let mut text = String::new();
    let statements: Vec<String> = plan.rows.iter().map(|row| row.statement()).collect();
    let width = statements.iter().map(|statement| statement.chars().count()).max().unwrap_or_default();
    for (row, statement) in plan.rows.iter().zip(&statements) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{statement:<width$}  // {}", display_bytes(row.bytes()));
    }
    let (count, len_bytes) = (plan.count(), plan.bytes());
    let _ = writeln!(text, "// {count} buffers, {} ({len_bytes} bytes)", display_bytes(len_bytes));
    if arguments.arena {
        let line = match plan_arena(trace) {
            Ok(arena) => format!(
                "activations in one block: {} ({} bytes) planned, {} ({} bytes) live at once: {:.3} ×",
                display_bytes(arena.size_bytes as u64),
                arena.size_bytes,
                display_bytes(arena.lower_bound_bytes as u64),
                arena.lower_bound_bytes,
                arena.ratio()
            ),
            Err(problem) => problem,
        };
        let _ = writeln!(text, "// {line}");
    }
    text
}

fn json(plan: &ReservationPlan, trace: &Trace, with_arena: bool) -> String {
    let rows = plan.rows.iter().map(|row| {
        json!({
            "statement": row.statement(),
            "layout": row.layout.to_string(),
            "count": row.count,
            "bytes": row.bytes(),
        })
    });
    let mut object = json!({ "buffers": rows.collect::<Vec<_>>(), "total_bytes": plan.bytes() });
    if with_arena && let Some(fields) = object.as_object_mut() {
        let arena = plan_arena(trace).map(|arena| {
            json!({ "bytes": arena.size_bytes, "lower_bound_bytes": arena.lower_bound_bytes, "ratio": arena.ratio() })
        });
        fields.insert("arena".to_owned(), arena.unwrap_or_else(|problem| json!({ "error": problem })));
    }
    format!("{object}\n")
}

/// The plan as `tl run --plan` reads it. Stored weight formats are left out, for nothing but a file has them; a KV cache is no weight.
fn plan_file(plan: &ReservationPlan, name: &str) -> String {
    let is_cache = |row: &PlanRow| row.layout.dtype() == DType::Q8_0 && row.kind == ReserveKind::Exact;
    let is_weight = |row: &PlanRow| matches!(row.layout.dtype(), DType::Block(_)) && !is_cache(row);
    let rows = plan.rows.iter().filter(|row| !is_weight(row));
    let plan = ReservationPlan { rows: rows.cloned().collect() };
    let name: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("# what {name} needs: {} buffers, {}\n{plan}", plan.count(), display_bytes(plan.bytes()))
}
