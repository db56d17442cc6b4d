//! `--plan`, `--arena`, `--tune`, `--sealed`: reservations that a program does not make itself, and how they fitted.

use std::path::Path;
use std::time::Instant;

use tl_device::{
    ArenaPlan, Device, Layout, PlanRow, ReservationPlan, SessionPlan, Shape, SizeRange, SymbolicPlan, TensorBuffer,
    TensorBufferStats, Trace, bytes as display_bytes,
};
use tl_lang::SourceText;

use crate::arena::plan_arena;
use crate::arguments::RunArguments;
use crate::output::{Stop, print_error};
use crate::sizes::Sizes;
use crate::{files, program};

/// The longest plan that is read.
const MAX_PLAN_BYTES: u64 = 16 << 20;

/// Maximum lines about a plan's misfits.
const MAX_LINES: usize = 20;

/// Reservations made before a program and while it runs.
pub(crate) struct Reservations {
    device: Device,
    /// The plan that was reserved before the run.
    plan: Option<ReservationPlan>,
    /// Whether the plan is for sizes that vary, so that each run uses only part of it.
    is_for_all: bool,
    arena: Option<ArenaPlan>,
    tuning: Option<Tuning>,
    seal: Seal,
}

/// Whether and when the device is sealed.
#[derive(PartialEq)]
enum Seal {
    Never,
    AtUse,
    AtTuning,
    Done,
}

/// Watches a program's first steps, and then reserves what they needed.
struct Tuning {
    /// The output at which the reservations are made.
    wanted: u32,
    /// Maximum number of outputs, which growing sizes are reserved for.
    most: Option<u32>,
    outputs: u32,
    start: Instant,
    /// When the last step began, since `start`.
    step_start_ns: u64,
    done: Option<Tuned>,
}

/// Reservations of the tuning, and the counts at that moment.
struct Tuned {
    plan: ReservationPlan,
    /// The largest row whose tensors grew from step to step, as seen, and the rise of each dimension.
    growth: Option<(PlanRow, Vec<usize>)>,
    /// Whether the recording left out events: the plan then also covers tensors that stay.
    is_thinned: bool,
    taken: u64,
    fallbacks: u64,
    allocations: u64,
}

impl Reservations {
    /// Makes the reservations that precede the program. With `--arena` this runs the program once.
    pub(crate) fn prepare(arguments: &RunArguments, source: &SourceText, device: &Device) -> Result<Self, Stop> {
        let wanted = &arguments.reservations;
        let mut reservations = Reservations {
            device: device.clone(),
            plan: None,
            is_for_all: false,
            arena: None,
            tuning: None,
            seal: Seal::Never,
        };
        if let Some(path) = &wanted.plan {
            let plan = read_plan(path)?;
            reservations.is_for_all = plan.sizes().iter().any(|size| !size.is_fixed());
            let plan = plan.at(&values_of(&plan, &arguments.with)?);
            let buffer = reservations.buffer()?;
            plan.reserve(&buffer).map_err(Stop::failed)?;
            buffer.keep_to_plan();
            reservations.plan = Some(plan);
        }
        if wanted.arena {
            let first = crate::device::open(&arguments.device)?;
            let sizes = Sizes::highest(&arguments.with);
            let recorded = program::record(source, &arguments.args, sizes, &first, |_| Ok(()))?;
            reservations.reserve_arena(&recorded.trace)?;
        }
        if let Some(outputs) = wanted.tune {
            device.start_trace();
            let start = Instant::now();
            reservations.tuning =
                Some(Tuning { wanted: outputs, most: wanted.steps, outputs: 0, start, step_start_ns: 0, done: None });
        }
        if wanted.sealed {
            reservations.seal = match () {
                () if wanted.plan.is_some() || wanted.arena => Seal::Done,
                () if wanted.tune.is_some() => Seal::AtTuning,
                () => Seal::AtUse,
            };
            match reservations.seal {
                Seal::Done => device.seal(),
                Seal::AtUse => device.seal_at_first_use(),
                _ => {}
            }
        }
        Ok(reservations)
    }

    /// The device's tensor buffer; sets one if there is none.
    fn buffer(&self) -> Result<TensorBuffer, Stop> {
        if let Some(buffer) = self.device.tensor_buffer() {
            return Ok(buffer);
        }
        let buffer = TensorBuffer::new(&self.device);
        self.device.replace_tensor_buffer(Some(buffer.clone())).map_err(Stop::failed)?;
        Ok(buffer)
    }

    /// Reserves an arena for the trace's activations, and separate buffers for tensors that stay from step to step.
    fn reserve_arena(&mut self, trace: &Trace) -> Result<(), Stop> {
        let arena = plan_arena(trace).map_err(Stop::Failed)?;
        let buffer = self.buffer()?;
        SessionPlan::from(arena.clone()).reserve(&buffer).map_err(Stop::failed)?;
        buffer.keep_to_plan();
        self.arena = Some(arena);
        Ok(())
    }

    /// Called after each output of the program.
    pub(crate) fn at_output(&mut self) -> Result<(), Stop> {
        let Some(tuning) = self.tuning.as_mut().filter(|tuning| tuning.done.is_none()) else { return Ok(()) };
        tuning.outputs += 1;
        let step_start_ns = tuning.step_start_ns;
        if tuning.outputs < tuning.wanted {
            tuning.step_start_ns = tuning.start.elapsed().as_nanos() as u64;
            return Ok(());
        }
        // A program may take another step after its last output.
        let more = tuning.most.map(|most| most.saturating_sub(tuning.wanted).saturating_add(1));
        let done = self.reserve_for_steps(step_start_ns, more)?;
        if let Some(tuning) = &mut self.tuning {
            tuning.done = Some(done);
        }
        if self.seal == Seal::AtTuning {
            self.device.seal();
            self.seal = Seal::Done;
        }
        Ok(())
    }

    /// Reserves what the steps so far needed, and room for sizes that grow through `more_steps` more. The last step
    /// began at `step_start_ns` of the trace.
    fn reserve_for_steps(&self, step_start_ns: u64, more_steps: Option<u32>) -> Result<Tuned, Stop> {
        let trace = self.device.stop_trace();
        let mut plan = trace.missed_plan(step_start_ns).map_err(Stop::failed)?;
        let mut growth = None;
        for row in &mut plan.rows {
            if let Some(rises) = trace.growth(row) {
                let seen = row.clone();
                row.layout = grown(&row.layout, &rises, more_steps.unwrap_or(0) as usize);
                if growth.as_ref().is_none_or(|(known, _): &(PlanRow, _)| known.bytes() < seen.bytes()) {
                    growth = Some((seen, rises));
                }
            }
        }
        // The pool's buffers make room for the reservations.
        self.device.trim();
        plan.reserve(&self.buffer()?).map_err(Stop::failed)?;
        let (buffer, memory) = (self.device.tensor_buffer_stats(), self.device.stats());
        let (taken, fallbacks) = (buffer.taken_count, buffer.fallback_count);
        let is_thinned = trace.is_thinned();
        Ok(Tuned { plan, growth, is_thinned, taken, fallbacks, allocations: memory.allocation_count })
    }

    /// Prints on standard error, after the program's end, how the reservations fitted.
    pub(crate) fn tell(&self) {
        let stats = self.device.tensor_buffer_stats();
        if let Some(plan) = &self.plan {
            misfits(plan, self.is_for_all, &stats).iter().for_each(|line| print_error(line));
        }
        if let Some(arena) = &self.arena {
            print_error(&arena_line(arena, &stats));
        }
        if let Some(tuning) = &self.tuning {
            print_error(&tuning.line(&stats, self.device.stats().allocation_count));
        }
        if self.seal == Seal::AtTuning {
            print_error("warning: --sealed had no effect: the program ended before the tuning that it begins at");
        }
    }
}

impl Tuning {
    fn line(&self, stats: &TensorBufferStats, allocations: u64) -> String {
        let Some(done) = &self.done else {
            return format!(
                "not tuned: the program printed {} times, and --tune waits for {} outputs; --tune=N waits for N",
                self.outputs, self.wanted
            );
        };
        // A program may have changed to another buffer since.
        let taken = stats.taken_count.saturating_sub(done.taken);
        let asked = taken + stats.fallback_count.saturating_sub(done.fallbacks);
        let rate = if asked == 0 { 100.0 } else { taken as f64 / asked as f64 * 100.0 };
        format!(
            "tuned after {} outputs: reserved {} buffers of {} layouts, {}; since then they served {taken} of {asked} \
             requests (hit rate {rate:.1}%), and there were {} allocations{}",
            self.wanted,
            done.plan.count(),
            done.plan.rows.len(),
            display_bytes(done.plan.bytes()),
            allocations.saturating_sub(done.allocations),
            if done.is_thinned { "; with fewer outputs to wait for, less may be reserved" } else { "" }
        ) + &self.growth_text(done)
    }

    /// The assumption about growing sizes.
    fn growth_text(&self, done: &Tuned) -> String {
        let Some((row, rises)) = &done.growth else { return String::new() };
        let rises: Vec<String> = rises.iter().map(ToString::to_string).collect();
        let seen = format!("sizes grow, {} by [{}] in each step", row.layout, rises.join(", "));
        match self.most {
            Some(most) => format!("; {seen}: they are reserved for {most} outputs, as --steps says"),
            None => format!("; {seen}: what is larger than that was not reserved; --steps=N reserves for N outputs"),
        }
    }
}

/// The layout with each dimension raised by `steps` times its rise.
fn grown(layout: &Layout, rises: &[usize], steps: usize) -> Layout {
    let dims = layout.shape().iter().zip(rises).map(|(dim, rise)| dim.saturating_add(rise.saturating_mul(steps)));
    Layout::new(layout.dtype(), dims.collect::<Shape>())
}

/// The values that a plan is reserved for: those given if all sizes are given, else the highest.
fn values_of(plan: &SymbolicPlan, given: &[SizeRange]) -> Result<Vec<usize>, Stop> {
    let mut values = Vec::with_capacity(plan.sizes().len());
    for size in plan.sizes() {
        match given.iter().find(|given| given.name == size.name) {
            Some(given) if !size.contains(given.max) => {
                return Err(Stop::Failed(format!(
                    "--with {given}: the plan is for {size}; `tl plan --with` makes one for more"
                )));
            }
            given => values.extend(given.map(|given| given.max)),
        }
    }
    let is_for_given = values.len() == plan.sizes().len();
    Ok(if is_for_given { values } else { plan.sizes().iter().map(|size| size.max).collect() })
}

fn read_plan(path: &Path) -> Result<SymbolicPlan, Stop> {
    let text = files::read_text(path, MAX_PLAN_BYTES)?;
    text.parse().map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))
}

/// Warnings where a plan and the requests disagree; empty if they agree.
fn misfits(plan: &ReservationPlan, is_for_all: bool, stats: &TensorBufferStats) -> Vec<String> {
    let mut lines = Vec::new();
    for row in plan.rows.iter().filter(|_| !is_for_all) {
        let is_used = |row: &PlanRow| {
            let mut rows = stats.by_layout.iter().filter(|seen| seen.reserved_count > 0);
            rows.any(|seen| seen.layout == row.layout && seen.kind == row.kind && seen.taken_count > 0)
        };
        if row.count > 0 && !is_used(row) {
            lines.push(format!("  never used: {} ({})", tl_lang::reserve_statement(row), display_bytes(row.bytes())));
        }
    }
    for row in stats.by_layout.iter().filter(|row| row.fallback_count > 0) {
        lines.push(format!("  not enough: {} was missing {} times", row.layout, row.fallback_count));
    }
    if lines.is_empty() {
        return lines;
    }
    if lines.len() > MAX_LINES {
        let more = lines.len() - MAX_LINES;
        lines.truncate(MAX_LINES);
        lines.push(format!("  and {more} more"));
    }
    lines.insert(0, "warning: the plan does not fit the program; `tl plan` makes one that does".to_owned());
    lines
}

fn arena_line(arena: &ArenaPlan, stats: &TensorBufferStats) -> String {
    format!(
        "arena of {}, {:.3} × the {} that are live at once; it served {} of {} requests, {} fell back",
        display_bytes(arena.size_bytes as u64),
        arena.ratio(),
        display_bytes(arena.lower_bound_bytes as u64),
        stats.arena_taken_count,
        stats.taken_count + stats.fallback_count,
        stats.fallback_count
    )
}
