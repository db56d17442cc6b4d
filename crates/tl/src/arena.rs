//! The arena of a recorded program, or why there is none.

use tl_device::{ArenaPlan, Trace};

/// Maximum requests of one step in an arena plan; planning time is quadratic in them.
const MAX_STEP_REQUESTS: usize = 20_000;

/// The arena for a trace.
///
/// # Errors
/// If a step is too long to plan.
pub(crate) fn plan_arena(trace: &Trace) -> Result<ArenaPlan, String> {
    match trace.longest_step() {
        Some(most) if most > MAX_STEP_REQUESTS => Err(format!(
            "no arena can be planned: a step lasts from one moment without activations to the next, or from output to \
             output where those repeat, and here one has {most} requests, more than {MAX_STEP_REQUESTS}; let go of \
             tensors between steps, or use --plan"
        )),
        _ => trace.arena().map_err(|error| error.to_string()),
    }
}
