//! `tl plan MODEL`: what a model will take in memory, and whether there is as much; and the same question for commands
//! that are about to load one.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;
use tl_device::{available_bytes, bytes as display_bytes};
use tl_model::{MemoryPlan, Planner};

use crate::arguments::{Activations, PlanArguments};
use crate::output::{self, Stop};

/// What the plan is compared with.
#[derive(Clone, Copy)]
enum Room {
    /// What the user allows.
    Limit(u64),
    /// What the machine has.
    Machine(u64),
    /// The system does not say what it has.
    Unknown,
}

impl Room {
    fn new(limit: Option<usize>) -> Room {
        match (limit, available_bytes()) {
            (Some(limit), _) => Room::Limit(limit as u64),
            (None, Some(available)) => Room::Machine(available),
            (None, None) => Room::Unknown,
        }
    }

    fn bytes(self) -> Option<u64> {
        match self {
            Room::Limit(bytes) | Room::Machine(bytes) => Some(bytes),
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
}

impl Verdict {
    fn new(planner: &Planner, context: usize, limit: Option<usize>) -> tl_model::Result<Verdict> {
        let (plan, room) = (planner.plan(context)?, Room::new(limit));
        let longest = room.bytes().map(|bytes| planner.longest_context(bytes)).transpose()?.flatten();
        Ok(Verdict { plan, room, longest, most: planner.model().config().context_length })
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
        let dtype = plan.activations.dtype();
        let mut text = format!("{}: {} tokens of context, {dtype} activations\n", path.display(), plan.context);
        let mut line = |name: &str, bytes: u64, note: &str| {
            // Writing into a string cannot fail.
            let _ = writeln!(
                text,
                "{}",
                format!("{name:<22} {:>11} {bytes:>15} bytes  {note}", display_bytes(bytes)).trim_end()
            );
        };
        line("weights", plan.weight_bytes, "mapped from the file");
        line("KV cache", plan.cache_bytes, "");
        line("activations", plan.activation_bytes, "");
        line("total", plan.total_bytes(), "");
        match self.room {
            Room::Limit(bytes) => line("limit", bytes, self.answer()),
            Room::Machine(bytes) => line("machine has available", bytes, self.answer()),
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
            Room::Machine(bytes) => (None, Some(bytes)),
            Room::Unknown => (None, None),
        };
        let buffers = plan.rows.iter().map(
            |row| json!({"layout": row.layout.to_string(), "count": row.reserved_count, "bytes": row.reserved_bytes}),
        );
        let object = json!({
            "context": plan.context,
            "activations": plan.activations.dtype().to_string(),
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
    let planner = Planner::open(&arguments.file, arguments.activations.unwrap_or(Activations::Float16).into())
        .map_err(Stop::failed)?;
    check_options(arguments)?;
    let context = arguments.context.unwrap_or(planner.model().config().context_length);
    let verdict = Verdict::new(&planner, context, arguments.memory_limit);
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

/// Refuses a context that takes more than the limit, before anything is loaded.
pub(crate) fn check_limit(planner: &Planner, context: usize, limit: usize) -> Result<(), Stop> {
    let verdict = Verdict::new(planner, context, Some(limit)).map_err(Stop::failed)?;
    if verdict.fits() {
        return Ok(());
    }
    let path = planner.model().path().display();
    Err(Stop::Failed(format!(
        "{path}: {}, more than the limit of {} ({limit} bytes); the longest context that fits: {}",
        verdict.plan,
        display_bytes(limit as u64),
        verdict.advice()
    )))
}
