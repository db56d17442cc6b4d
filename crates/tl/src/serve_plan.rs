//! The memory of `tl serve`: how many sequences it has room for; and `tl plan MODEL --serve`, which says so without a server.

use std::fmt::Write;

use serde_json::json;
use tl_device::{Device, bytes as display_bytes};
use tl_engine::{MemoryPlan, Planner};
use tl_serve::{EngineOptions, Limits, runs_several};

use crate::arguments::{Activations, CacheType, PlanArguments};
use crate::loading::load_options;
use crate::models;
use crate::output::{self, Stop};
use crate::plan::{self, HeapMeter, WeightsAre};

/// Default context, where the model supports as much.
const DEFAULT_CONTEXT: usize = 4096;

/// Sequences of the longest length that there is memory for, unless a limit or an argument says otherwise.
const DEFAULT_SEQUENCES: usize = 4;

/// The most of them that a memory limit is filled with.
const MOST_BY_LIMIT: usize = 16;

/// Tokens of a short sequence, of which more run at once, and the most of these.
const SHORT_TOKENS: usize = 256;
const MOST_SHORT: usize = 64;

/// What a server is planned for.
pub(crate) struct Wanted {
    pub(crate) context: Option<usize>,
    pub(crate) sequences: Option<u16>,
    pub(crate) queue: usize,
    /// Heap bytes of connections.
    pub(crate) connection_bytes: u64,
    pub(crate) memory_limit: Option<usize>,
}

/// As many sequences as the memory has room for, of those wanted: the engine's options, and all memory. Nothing is loaded.
pub(crate) fn fit(
    planner: &Planner,
    meter: &HeapMeter,
    wanted: &Wanted,
    device: &Device,
) -> Result<(EngineOptions, MemoryPlan), Stop> {
    let config = planner.model().config();
    let mut engine = EngineOptions::new(wanted.context.unwrap_or(config.context_length.min(DEFAULT_CONTEXT)));
    engine.queue = wanted.queue;
    let model_bytes = meter.bytes(planner, engine.context).map_err(Stop::failed)?;
    let plan_of = |engine: &EngineOptions| -> Result<MemoryPlan, Stop> {
        let mut plan = engine.memory_plan(planner).map_err(Stop::failed)?;
        let of_requests = wanted.connection_bytes + engine.heap_bytes(config.vocab_size);
        plan.heap_bytes = if device.is_gpu() { 0 } else { model_bytes + of_requests };
        Ok(plan)
    };
    let room = match wanted.memory_limit {
        Some(limit) => Some(limit as u64),
        None => device.available().map(|left| left.bytes + planner.weight_bytes()),
    };
    let most = match (wanted.sequences, runs_several(planner.model())) {
        (Some(asked), _) => asked.into(),
        (None, true) if wanted.memory_limit.is_some() => MOST_BY_LIMIT,
        (None, true) => DEFAULT_SEQUENCES,
        (None, false) => 1,
    };
    let least = wanted.sequences.map_or(1, usize::from);
    for whole in (least..=most).rev() {
        let engine = with_sequences(engine, whole);
        let plan = plan_of(&engine)?;
        if room.is_none_or(|room| plan.total_bytes() <= room) {
            return Ok((engine, plan));
        }
    }
    let engine = with_sequences(engine, least);
    let plan = plan_of(&engine)?;
    // Where one sequence alone does not fit either, there is advice.
    plan::check_room(planner, engine.context, plan.heap_bytes, wanted.memory_limit, WeightsAre::ToCome, device)?;
    Err(Stop::Failed(format!(
        "{}: {} take {} ({} bytes), more than the {} that there are; take fewer --sequences or a shorter --context",
        planner.model().path().display(),
        at_once(&engine),
        display_bytes(plan.total_bytes()),
        plan.total_bytes(),
        display_bytes(room.unwrap_or(0))
    )))
}

/// Memory for `whole` sequences of the longest length, in which more of shorter ones run at once.
fn with_sequences(engine: EngineOptions, whole: usize) -> EngineOptions {
    let shorter = whole.saturating_mul(engine.context) / SHORT_TOKENS;
    let sequences = if whole > 1 { shorter.clamp(whole, MOST_SHORT.max(whole)) } else { shorter.clamp(1, MOST_SHORT) };
    engine.with_sequences(whole, sequences)
}

/// How many sequences run at once, in words.
pub(crate) fn at_once(engine: &EngineOptions) -> String {
    let whole = (engine.kv_tokens / engine.context.max(1)).max(1);
    let plural = if whole == 1 { "" } else { "s" };
    let shorter = match engine.sequences > whole {
        true => format!(" (or {} of {})", engine.sequences, engine.kv_tokens / engine.sequences),
        false => String::new(),
    };
    format!("{whole} sequence{plural} of {} tokens at once{shorter}", engine.context)
}

/// Prints the plan of `tl serve` with its defaults.
pub(crate) fn run(arguments: &PlanArguments) -> Result<(), Stop> {
    let device = crate::device::choose(arguments.device.clone(), crate::device::options(None)?)?;
    let path = models::find(&arguments.model)?;
    let activations = arguments.activations.unwrap_or(Activations::Float16).into();
    let meter = HeapMeter::start();
    let options = load_options(arguments.arch.as_deref())?;
    let planner = Planner::open_with(path, &device, options).map_err(Stop::failed)?.with_activations(activations);
    let planner = planner.with_cache_dtype(arguments.cache.map(CacheType::dtype));
    let limits = Limits::default();
    let wanted = Wanted {
        context: arguments.context,
        sequences: arguments.sequences,
        queue: EngineOptions::DEFAULT_QUEUE,
        connection_bytes: limits.heap_bytes(),
        memory_limit: arguments.memory_limit,
    };
    let (engine, plan) = fit(&planner, &meter, &wanted, &device)?;
    let parts = [
        ("weights", plan.weight_bytes),
        ("KV cache", plan.cache_bytes),
        ("activations", plan.activation_bytes),
        ("workspace", plan.workspace_bytes),
        ("heap", plan.heap_bytes),
        ("total", plan.total_bytes()),
    ];
    if arguments.json {
        let mut object = json!({
            "context": engine.context,
            "sequences": engine.sequences,
            "kv_tokens": engine.kv_tokens,
            "queue": engine.queue,
            "connections": limits.connections,
        });
        parts.iter().for_each(|(name, bytes)| {
            object[format!("{}_bytes", name.replace(' ', "_").to_lowercase())] = json!(bytes)
        });
        return output::print(&format!("{object}\n"));
    }
    let mut text = format!(
        "{}: {}, queue {}, {} connections\n",
        arguments.model.display(),
        at_once(&engine),
        engine.queue,
        limits.connections
    );
    for (name, bytes) in parts {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "{name:<22} {:>11} {bytes:>15} bytes", display_bytes(bytes));
    }
    output::print(&text)
}
