//! Parts common to all plans of programs, whether their sizes vary or not.

use std::path::Path;

use serde_json::json;
use tl_device::{DType, ReserveKind, Trace, bytes as display_bytes};

use crate::arena::plan_arena;
use crate::arguments::{DeviceArguments, PlanProgramArguments};
use crate::device_choice::ComputeArguments;
use crate::files;
use crate::output::Stop;

/// The device that the program is recorded on.
pub(crate) fn device_arguments(arguments: &PlanProgramArguments) -> DeviceArguments {
    DeviceArguments {
        compute: ComputeArguments { device: arguments.device.clone(), threads: arguments.threads },
        memory_limit: arguments.memory_limit,
        ..DeviceArguments::default()
    }
}

/// The size of an arena for a trace, or why there is none.
pub(crate) fn arena_line(trace: &Trace) -> String {
    match plan_arena(trace) {
        Ok(arena) => {
            let beside = match arena.beside.bytes() {
                0 => String::new(),
                bytes => {
                    format!("; beside it {} ({bytes} bytes) for what stays from step to step", display_bytes(bytes))
                }
            };
            format!(
                "activations in one block: {} ({} bytes) planned, {} ({} bytes) live at once: {:.3} ×{beside}",
                display_bytes(arena.size_bytes as u64),
                arena.size_bytes,
                display_bytes(arena.lower_bound_bytes as u64),
                arena.lower_bound_bytes,
                arena.ratio()
            )
        }
        Err(problem) => problem,
    }
}

/// As [`arena_line`], as JSON.
pub(crate) fn arena_json(trace: &Trace) -> serde_json::Value {
    let arena = plan_arena(trace).map(|arena| {
        json!({
            "bytes": arena.size_bytes,
            "lower_bound_bytes": arena.lower_bound_bytes,
            "ratio": arena.ratio(),
            "beside_bytes": arena.beside.bytes(),
        })
    });
    arena.unwrap_or_else(|problem| json!({ "error": problem }))
}

/// Whether a row is part of a plan's file. Rows of stored weight formats are not, since only files have them; a KV
/// cache is no weight.
pub(crate) fn is_written(kind: ReserveKind, dtype: DType) -> bool {
    !matches!(dtype, DType::Block(_)) || (dtype == DType::Q8_0 && kind != ReserveKind::Learnable)
}

/// Writes a plan in the format of `tl run --plan`.
pub(crate) fn write_plan(path: &Path, what: &str, plan: &dyn std::fmt::Display) -> Result<(), Stop> {
    let what: String = what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    files::write(path, |out| write!(out, "# what {what}\n{plan}"))
}
