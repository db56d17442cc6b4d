//! `tl plan MODEL`: what a model will take in memory, and whether there is as much; and the same question for commands
//! that are about to load one.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use tl_device::{DType, Device, bytes as display_bytes};
use tl_engine::{MemoryPlan, Planner};

use crate::arguments::{Activations, CacheType, PlanArguments, load_options};
use crate::models;
use crate::output::{self, Stop};

/// What a model computes in, in words.
pub(crate) fn types(activations: DType, cache: DType) -> String {
    let cache = if cache == activations { String::new() } else { format!(", KV cache in {cache}") };
    format!("{activations} activations{cache}")
}

/// What the plan is compared with.
#[derive(Clone, Copy)]
enum Room {
    /// What the user allows.
    Limit(u64),
    /// What the machine has.
    Machine(u64),
    /// What the GPU has.
    Gpu(u64),
    /// Nobody says what there is.
    Unknown,
}

impl Room {
    fn new(limit: Option<usize>, device: &Device) -> Room {
        match (limit, device.available_bytes()) {
            (Some(limit), _) => Room::Limit(limit as u64),
            (None, Some(available)) if device.is_gpu() => Room::Gpu(available),
            (None, Some(available)) => Room::Machine(available),
            (None, None) => Room::Unknown,
        }
    }

    fn bytes(self) -> Option<u64> {
        match self {
            Room::Limit(bytes) | Room::Machine(bytes) | Room::Gpu(bytes) => Some(bytes),
            Room::Unknown => None,
        }
    }
}

/// A plan beside what there is.
struct Verdict {
    plan: MemoryPlan,
    room: Room,
    /// The longest context that fits; `None` where none does, or nothing is known of the room.
    longest: Option<usize>,
    /// The longest context that the model was trained for.
    most: usize,
    is_gpu: bool,
}

impl Verdict {
    fn new(planner: &Planner, context: usize, room: Room) -> tl_model::Result<Verdict> {
        let plan = planner.plan(context)?;
        let longest = room.bytes().map(|bytes| planner.longest_context(bytes)).transpose()?.flatten();
        let (model, most) = (planner.model(), planner.model().config().context_length);
        Ok(Verdict { plan, room, longest, most, is_gpu: model.device().is_gpu() })
    }

    fn fits(&self) -> bool {
        self.room.bytes().is_none_or(|bytes| self.plan.total_bytes() <= bytes)
    }

    /// What would fit, in words.
    fn advice(&self) -> String {
        match self.longest {
            Some(longest) if longest == self.most => format!("{longest} tokens, the most that the model works for"),
            Some(longest) => format!("{longest} tokens"),
            None if self.room.bytes().is_none() => "not known".to_owned(),
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
        line("total", plan.total_bytes(), "");
        match self.room {
            Room::Limit(bytes) => line("limit", bytes, self.answer()),
            Room::Machine(bytes) => line("machine has available", bytes, self.answer()),
            Room::Gpu(bytes) => line("GPU has", bytes, self.answer()),
            Room::Unknown => {}
        }
        let _ = writeln!(text, "{:<22} {}", "longest that fits", self.advice());
        text.push_str("\nbuffers\n");
        for row in &plan.rows {
            let (count, layout) = (row.reserved_count, row.layout.to_string());
            let _ = writeln!(text, "  {count:>4} × {layout:<26} {:>11}", display_bytes(row.reserved_bytes));
        }
        text
    }

    fn answer(&self) -> &'static str {
        if self.fits() { "fits" } else { "does not fit" }
    }

    fn json(&self) -> String {
        let plan = &self.plan;
        let (limit, available) = match self.room {
            Room::Limit(bytes) => (Some(bytes), None),
            Room::Machine(bytes) | Room::Gpu(bytes) => (None, Some(bytes)),
            Room::Unknown => (None, None),
        };
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
            "total_bytes": plan.total_bytes(),
            "limit_bytes": limit,
            "available_bytes": available,
            "fits": self.fits(),
            "longest_context": self.longest,
            "buffers": buffers.collect::<Vec<_>>(),
        });
        format!("{object}\n")
    }
}

/// Prints the plan. That it does not fit is an answer, and no failure.
pub(crate) fn run(arguments: &PlanArguments) -> Result<(), Stop> {
    check_options(arguments)?;
    let device = crate::device::choose(arguments.device.clone(), crate::device::options(None)?)?;
    let activations = arguments.activations.unwrap_or(Activations::Float16).into();
    let path = models::resolve(&arguments.file)?;
    let options = load_options(arguments.arch.as_deref())?;
    let planner = Planner::open_with(path, &device, options).map_err(Stop::failed)?.with_activations(activations);
    let planner = planner.with_cache_dtype(arguments.cache.map(CacheType::dtype));
    let context = arguments.context.unwrap_or(planner.model().config().context_length);
    let verdict = Verdict::new(&planner, context, Room::new(arguments.memory_limit, &device));
    let failed = |error| Stop::Failed(format!("{}: {error}", arguments.file.display()));
    let verdict = verdict.map_err(failed)?;
    output::print(&if arguments.json { verdict.json() } else { verdict.table(&arguments.file) })
}

/// Refuses what only programs have: an option that is left out in silence misleads.
fn check_options(arguments: &PlanArguments) -> Result<(), Stop> {
    let given = [
        ("--output", arguments.output.is_some()),
        ("--arena", arguments.arena),
        ("--threads", arguments.threads.is_some()),
        ("arguments after --", !arguments.args.is_empty()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((option, _)) => {
            let path = arguments.file.display();
            Err(Stop::Failed(format!("{path} is a model, and {option} is for programs (.tl files) only")))
        }
        None => Ok(()),
    }
}

/// Refuses a context that takes more than the limit, or than the GPU has, before anything is loaded.
pub(crate) fn check_room(planner: &Planner, context: usize, limit: Option<usize>, device: &Device) -> Result<(), Stop> {
    let room = Room::new(limit, device);
    let plan = planner.plan(context).map_err(Stop::failed)?;
    if room.bytes().is_none_or(|bytes| plan.total_bytes() <= bytes) {
        return Ok(());
    }
    let verdict = Verdict::new(planner, context, room).map_err(Stop::failed)?;
    let Some(bytes) = verdict.room.bytes().filter(|_| !verdict.fits()) else { return Ok(()) };
    let what = match verdict.room {
        Room::Limit(_) => "the limit of",
        Room::Machine(_) => "the machine has available:",
        _ => "the device has:",
    };
    let path = planner.model().path();
    Err(Stop::Failed(format!(
        "{}: {}, more than {what} {} ({bytes} bytes); the longest context that fits: {}{}",
        path.display(),
        verdict.plan,
        display_bytes(bytes),
        verdict.advice(),
        ways_to_fit(planner, context, bytes)
    )))
}

/// What else would make the model fit: a cache of another type, another file beside it.
fn ways_to_fit(planner: &Planner, context: usize, limit_bytes: u64) -> String {
    let mut ways = String::new();
    let in_blocks = planner.with_cache_dtype(DType::Q8_0);
    if planner.model().cache_dtype() != DType::Q8_0
        && let Ok(plan) = in_blocks.plan(context)
        && plan.total_bytes() <= limit_bytes
    {
        ways += &format!("; with --cache q8_0 {context} tokens fit");
    }
    let path = planner.model().path();
    if let Some((name, plan)) = largest_beside(path, context, limit_bytes) {
        ways += &format!("; {name} beside it takes {}", display_bytes(plan.total_bytes()));
    }
    ways
}

/// Of the GGUF files in the folder of this one, that of the same model in other formats which takes the most and fits.
fn largest_beside(path: &Path, context: usize, limit_bytes: u64) -> Option<(String, MemoryPlan)> {
    let len = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    let name = |path: &Path| Some(path.file_stem()?.to_str()?.to_lowercase());
    let (own_len, own_name) = (len(path), name(path)?);
    // Files of one model begin alike: all but the format, behind the last separator.
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
        let plan = Planner::open(other, tl_engine::Activations::Float16).ok()?.plan(context).ok()?;
        (plan.total_bytes() <= limit_bytes).then(|| (other.file_name().unwrap_or_default().display().to_string(), plan))
    })
}
