//! `tl plan MODEL`: the memory that a model takes, and whether it is available; the same check for commands that load a
//! model.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use tl_device::{DType, Device, MemoryBound, bytes as display_bytes, heap};
use tl_engine::{MemoryPlan, Planner};

use tl_lang::Architecture;

use crate::arguments::{Activations, CacheType, PlanArguments};
use crate::device_choice::DeviceChoice;
use crate::files;
use crate::loading::load_options;
use crate::memory_lock::{self, MemoryLock};
use crate::models;
use crate::output::{self, Stop};
use crate::process::{Base, ENFORCED_SPARE_BYTES};

/// Types of a model's activations and KV cache, in words.
pub(crate) fn types(activations: DType, cache: DType) -> String {
    let cache = if cache == activations { String::new() } else { format!(", KV cache in {cache}") };
    format!("{activations} activations{cache}")
}

/// Bytes that a plan must fit into, and what bounds them.
#[derive(Clone, Copy)]
struct Room {
    bytes: u64,
    /// `None`: `--memory-limit`.
    bound: Option<MemoryBound>,
}

/// Location of a model's weights when the room is measured.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum WeightsAre {
    /// Not loaded yet; they will be mapped.
    ToCome,
    Mapped,
    /// In the process's own memory.
    Copied,
}

impl Room {
    /// All bounds of a model: the user's limit and the system's.
    fn all(limit: Option<usize>, planner: &Planner, weights: WeightsAre, device: &Device) -> Vec<Room> {
        let limit = limit.map(|bytes| Room { bytes: bytes as u64, bound: None });
        let system = device.available().map(|available| {
            // Weights that this bound counts already, or never counts, are added: plans include them.
            let has_room_for_weights = match (available.bound, weights) {
                (_, WeightsAre::Copied) | (MemoryBound::Data, _) => true,
                // Weights to come are mapped for the plan already.
                (bound, WeightsAre::Mapped | WeightsAre::ToCome) => bound == MemoryBound::AddressSpace,
            };
            let for_weights = if has_room_for_weights { planner.weight_bytes() } else { 0 };
            Room { bytes: available.bytes.saturating_add(for_weights), bound: Some(available.bound) }
        });
        limit.into_iter().chain(system).collect()
    }

    /// Start of a line of the table.
    fn label(self) -> &'static str {
        match self.bound {
            None => "limit",
            Some(MemoryBound::Machine) => "machine has available",
            Some(MemoryBound::ControlGroup) => "control group leaves",
            Some(MemoryBound::AddressSpace) => "ulimit -v leaves",
            Some(MemoryBound::Data) => "ulimit -d leaves",
            Some(_) => "GPU has",
        }
    }

    /// End of a sentence about a plan that takes more.
    fn in_words(self) -> String {
        let Room { bytes, bound } = self;
        let amount = format!("{} ({bytes} bytes)", display_bytes(bytes));
        match bound {
            None => format!("the limit of {amount}"),
            Some(bound) => format!("{bound} has available: {amount}"),
        }
    }
}

/// Measures the heap that preparing a model takes; loading it takes the same again.
pub(crate) struct HeapMeter {
    before: usize,
}

/// Heap bytes of a command beside the model: arguments, the prompt, its text.
const PROGRAM_HEAP_BYTES: u64 = 512 << 10;

/// Rounding of heap bytes, so that two processes with different arguments agree.
const HEAP_STEP_BYTES: u64 = 64 << 10;

impl HeapMeter {
    pub(crate) fn start() -> HeapMeter {
        heap::reset_peak();
        HeapMeter { before: heap::bytes() }
    }

    /// Heap bytes of a model's process for this context, with everything that `planner`'s model makes for a text.
    pub(crate) fn bytes(&self, planner: &Planner, context: usize) -> tl_model::Result<u64> {
        let model = planner.model();
        if model.device().is_gpu() {
            // On a GPU, a limit is on the GPU's memory.
            return Ok(0);
        }
        let tokenizer = model.tokenizer();
        if let Ok(tokenizer) = &tokenizer {
            // Allocates what the tokenizer keeps per thread.
            tokenizer.encode("a");
        }
        planner.plan(context)?;
        if tokenizer.is_ok() {
            (planner.workload().rehearse)(model, context)?;
            model.device().trim();
        }
        // A file is mapped or read as a whole.
        let rest_of_files = model.weights().checkpoint().len_bytes().saturating_sub(planner.weight_bytes());
        let peak = heap::peak_bytes().saturating_sub(self.before) as u64;
        Ok((peak + rest_of_files + PROGRAM_HEAP_BYTES).next_multiple_of(HEAP_STEP_BYTES))
    }
}

/// A plan, and the memory available for it.
struct Verdict {
    plan: MemoryPlan,
    rooms: Vec<Room>,
    /// The longest context that fits; `None` if none does, or if the room is unknown.
    longest: Option<usize>,
    /// The longest context that the model was trained for.
    most: usize,
    is_gpu: bool,
    /// Memory of the process beside the plan, if known.
    base: Option<Base>,
}

impl Verdict {
    fn new(planner: &Planner, context: usize, heap_bytes: u64, rooms: Vec<Room>) -> tl_model::Result<Verdict> {
        let mut plan = planner.plan(context)?;
        plan.heap_bytes = heap_bytes;
        let least = rooms.iter().map(|room| room.bytes.saturating_sub(heap_bytes)).min();
        let longest = least.map(|bytes| planner.longest_context(bytes)).transpose()?.flatten();
        let (model, most) = (planner.model(), planner.model().config().context_length);
        Ok(Verdict { plan, rooms, longest, most, is_gpu: model.device().is_gpu(), base: None })
    }

    /// The smallest room, if the plan exceeds it.
    fn too_small(&self) -> Option<Room> {
        self.rooms.iter().copied().min_by_key(|room| room.bytes).filter(|room| self.plan.total_bytes() > room.bytes)
    }

    /// Advice on what would fit.
    fn advice(&self) -> String {
        match self.longest {
            Some(longest) if longest == self.most => format!("{longest} tokens, the most that the model works for"),
            Some(longest) => format!("{longest} tokens"),
            None if self.rooms.is_empty() => "not known".to_owned(),
            None => "not even one token fits".to_owned(),
        }
    }

    fn table(&self, path: &Path) -> String {
        let plan = &self.plan;
        let types = types(plan.activations.dtype(), plan.cache_dtype);
        let mut text = format!("{}: {} tokens of context, {types}\n", path.display(), plan.context);
        let mut line = |name: &str, bytes: u64, note: &str| {
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{}",
                format!("{name:<22} {:>11} {bytes:>15} bytes  {note}", display_bytes(bytes)).trim_end()
            );
        };
        line("weights", plan.weight_bytes, if self.is_gpu { "copied to the GPU" } else { "mapped from the file" });
        line("KV cache", plan.cache_bytes, "");
        line("activations", plan.activation_bytes, "");
        line("workspace", plan.workspace_bytes, "of the kernels");
        if plan.heap_bytes > 0 {
            line("heap", plan.heap_bytes, "metadata, tokenizer, sampling");
        }
        line("total", plan.total_bytes(), "");
        if let Some(base) = self.base {
            line("code", base.code_bytes, "beside the limit");
            line("stacks", base.stack_bytes, "beside the limit, address space");
            line(
                "with --enforce",
                plan.total_bytes() + base.bytes() + ENFORCED_SPARE_BYTES,
                "what the kernel holds it to",
            );
        }
        for room in &self.rooms {
            let answer = if plan.total_bytes() <= room.bytes { "fits" } else { "does not fit" };
            line(room.label(), room.bytes, answer);
        }
        let _ = writeln!(text, "{:<22} {}", "longest that fits", self.advice());
        text.push_str("\nbuffers\n");
        if plan.arena_bytes > 0 {
            let _ = writeln!(text, "     1 × {:<26} {:>11}", "arena of activations", display_bytes(plan.arena_bytes));
        }
        for row in &plan.rows {
            let (count, layout) = (row.reserved_count, row.layout.to_string());
            let _ = writeln!(text, "  {count:>4} × {layout:<26} {:>11}", display_bytes(row.reserved_bytes));
        }
        text
    }

    fn json(&self) -> String {
        let plan = &self.plan;
        let of = |is_limit: bool| self.rooms.iter().find(|room| room.bound.is_none() == is_limit);
        let bytes = |is_limit: bool| of(is_limit).map(|room| room.bytes);
        let buffers = plan.rows.iter().map(
            |row| json!({"layout": row.layout.to_string(), "count": row.reserved_count, "bytes": row.reserved_bytes}),
        );
        let object = json!({
            "context": plan.context,
            "activations": plan.activations.dtype().to_string(),
            "cache": plan.cache_dtype.to_string(),
            "weight_bytes": plan.weight_bytes,
            "cache_bytes": plan.cache_bytes,
            "activation_bytes": plan.activation_bytes,
            "arena_bytes": plan.arena_bytes,
            "workspace_bytes": plan.workspace_bytes,
            "heap_bytes": plan.heap_bytes,
            "total_bytes": plan.total_bytes(),
            "code_bytes": self.base.map(|base| base.code_bytes),
            "stack_bytes": self.base.map(|base| base.stack_bytes),
            "enforced_bytes": self.base.map(|base| plan.total_bytes() + base.bytes() + ENFORCED_SPARE_BYTES),
            "limit_bytes": bytes(true),
            "available_bytes": bytes(false),
            "available_in": of(false).and_then(|room| room.bound).map(|bound| bound.to_string()),
            "fits": self.too_small().is_none(),
            "longest_context": self.longest,
            "buffers": buffers.collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }
}

/// Prints the plan. A plan that does not fit is no failure.
pub(crate) fn run(arguments: &PlanArguments) -> Result<(), Stop> {
    let is_locked = arguments.lock.is_given();
    if is_locked {
        memory_lock::check_device(arguments.device.as_ref())?;
    }
    let choice = if is_locked { Some(DeviceChoice::Cpu) } else { arguments.device.clone() };
    let device = crate::device::choose(choice, crate::device::options(None)?)?;
    let activations = arguments.activations.unwrap_or(Activations::Float16).into();
    let path = models::find(&arguments.model)?;
    arguments.lock.lock.iter().try_for_each(|path| files::check_output(path))?;
    let base = Base::now(device.threads().count(), Architecture::CHECK_STACK_BYTES);
    let meter = HeapMeter::start();
    let options = load_options(arguments.arch.as_deref())?;
    let planner = Planner::open_with(path, &device, options).map_err(Stop::failed)?.with_activations(activations);
    let planner = planner.with_cache_dtype(arguments.cache.map(CacheType::dtype));
    let context = arguments.context.unwrap_or(planner.model().config().context_length);
    let failed = |error| Stop::Failed(format!("{}: {error}", arguments.model.display()));
    let heap_bytes = meter.bytes(&planner, context).map_err(failed)?;
    let rooms = Room::all(arguments.memory_limit, &planner, WeightsAre::ToCome, &device);
    let mut verdict = Verdict::new(&planner, context, heap_bytes, rooms).map_err(failed)?;
    verdict.base = base.filter(|_| !device.is_gpu());
    let lock = || MemoryLock::of_model(&arguments.model, &verdict.plan);
    if let Some(path) = &arguments.lock.check {
        return lock().check(path);
    }
    if let Some(path) = &arguments.lock.lock {
        lock().write(path)?;
    }
    output::print(&if arguments.json { verdict.json() } else { verdict.table(&arguments.model) })
}

/// Refuses a context that exceeds the limit or the system's memory, before anything is loaded.
pub(crate) fn check_room(
    planner: &Planner,
    context: usize,
    heap_bytes: u64,
    limit: Option<usize>,
    weights: WeightsAre,
    device: &Device,
) -> Result<(), Stop> {
    let rooms = Room::all(limit, planner, weights, device);
    let total = planner.plan(context).map_err(Stop::failed)?.total_bytes() + heap_bytes;
    if rooms.iter().all(|room| total <= room.bytes) {
        return Ok(());
    }
    let verdict = Verdict::new(planner, context, heap_bytes, rooms).map_err(Stop::failed)?;
    let Some(room) = verdict.too_small() else { return Ok(()) };
    Err(Stop::Failed(format!(
        "{}: {}, more than {}; the longest context that fits: {}{}",
        planner.model().path().display(),
        verdict.plan,
        room.in_words(),
        verdict.advice(),
        ways_to_fit(planner, context, room.bytes.saturating_sub(heap_bytes))
    )))
}

/// Other ways to make the model fit: a cache of another type, another file beside it.
fn ways_to_fit(planner: &Planner, context: usize, limit_bytes: u64) -> String {
    let mut ways = String::new();
    let in_blocks = planner.with_cache_dtype(DType::Q8_0);
    if planner.model().cache_dtype() != DType::Q8_0
        && let Ok(plan) = in_blocks.plan(context)
        && plan.total_bytes() <= limit_bytes
    {
        ways += &format!("; with --cache q8_0 {context} tokens fit");
    }
    if let Some((name, plan)) = largest_beside(planner, context, limit_bytes) {
        ways += &format!("; {name} beside it takes {}", display_bytes(plan.total_bytes()));
    }
    ways
}

/// The largest GGUF file of the same model, in the folder of this one, that fits.
fn largest_beside(planner: &Planner, context: usize, limit_bytes: u64) -> Option<(String, MemoryPlan)> {
    let path = planner.model().path();
    let len = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    let name = |path: &Path| Some(path.file_stem()?.to_str()?.to_lowercase());
    let (own_len, own_name) = (len(path), name(path)?);
    // Names of one model's files differ in the format only, behind the last separator.
    let model = own_name.rsplit_once(['-', '.', '_']).map_or(own_name.as_str(), |(model, _)| model).to_owned();
    let model = model.trim_end_matches(|c: char| !c.is_ascii_alphabetic()).to_owned();
    let mut beside: Vec<_> = std::fs::read_dir(path.parent()?)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|other| other.extension().is_some_and(|extension| extension == "gguf") && len(other) < own_len)
        .filter(|other| name(other).is_some_and(|other| other.starts_with(&model)))
        .collect();
    beside.sort_by_key(|other| std::cmp::Reverse(len(other)));
    beside.iter().take(8).find_map(|other| {
        let other_planner = Planner::open(other, tl_engine::Activations::Float16).ok()?;
        let plan = other_planner.for_workload(planner.workload()).plan(context).ok()?;
        (plan.total_bytes() <= limit_bytes).then(|| (other.file_name().unwrap_or_default().display().to_string(), plan))
    })
}
