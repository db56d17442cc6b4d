//! The memory of a model's steps, found by running the architecture's script on a device that only counts.
//!
//! On the CPU the requests of a step are packed into one block by their lifetimes. A GPU has no such blocks: there, as many
//! buffers of each layout are reserved as were live at once.

use std::collections::{HashMap, HashSet};

use tl_device::{
    Action, DType, Device, Event, Layout, MemoryOptions, ReservationPlan, ReserveKind, Role, SessionPlan, Simulation,
    TensorBuffer, Trace,
};
use tl_model::{CachePart, GenerateOptions, Generator, KvCache, LogitsRows, PAGE_LEN, Result, StepSequence};

use crate::library::RunnableModel;
use crate::model::{PREFILL_CHUNK, ScriptedModel};

/// The sizes of steps of several sequences, whose keys and values lie in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchSizes {
    /// Pages of the KV cache, of [`PAGE_LEN`] tokens each.
    pub n_pages: usize,
    /// Maximum tokens of a sequence.
    pub context: usize,
    /// Maximum sequences of a step that adds one token to each.
    pub sequences: usize,
    /// Maximum tokens of a step that adds them to one sequence.
    pub chunk: usize,
}

impl ScriptedModel {
    /// The memory of generation for up to `context` tokens, prompt and text together: the KV cache and the activations of
    /// prefill and decoding. The logits outlive their step and have a buffer of their own.
    ///
    /// # Errors
    /// A context that the model was not trained for, types that the model's cache cannot have.
    pub fn session_plan(&self, context: usize) -> Result<SessionPlan> {
        self.check_context(context)?;
        if let Some((_, plan)) = self.planned.lock().as_ref().filter(|(planned, _)| *planned == context) {
            return Ok(plan.clone());
        }
        let mut plan = SessionPlan::from(self.cache_plan(context)?);
        match self.weights().device().is_gpu() {
            true => self.plan_by_layout(&mut plan, context)?,
            false => self.plan_arena(&mut plan, context)?,
        }
        *self.planned.lock() = Some((context, plan.clone()));
        Ok(plan)
    }

    /// Reserves [`ScriptedModel::session_plan`] in `buffer`, and takes the kernels' workspace.
    ///
    /// # Errors
    /// As for the plan, and memory that cannot be had.
    pub fn reserve(&self, buffer: &TensorBuffer, context: usize) -> Result<()> {
        let plan = self.session_plan(context)?;
        self.weights().device().take_workspace()?;
        Ok(plan.reserve(buffer)?)
    }

    /// Reserves in `buffer` a KV cache for `context` tokens and the memory of `steps`, and takes the kernels' workspace. `steps`
    /// runs once, on a device that only counts, and must free everything that it takes. `lengths`: the most tokens that go
    /// through the model at once in each part of it.
    ///
    /// # Errors
    /// As for [`ScriptedModel::reserve`], and the errors of `steps`.
    pub fn reserve_steps(
        &self,
        buffer: &TensorBuffer,
        context: usize,
        lengths: &[usize],
        steps: impl FnOnce(&ScriptedModel, &mut KvCache) -> Result<()>,
    ) -> Result<()> {
        self.check_context(context)?;
        let trace = self.trace(context, steps)?;
        let mut plan = SessionPlan::from(self.cache_plan(context)?);
        match buffer.is_on_gpu() {
            true => add_demands(&mut plan.reservations, &trace, lengths),
            false => plan.arena = Some(trace.arena()?),
        }
        self.weights().device().take_workspace()?;
        Ok(plan.reserve(buffer)?)
    }

    /// The memory of steps of several sequences: the pages of the KV cache and the activations of a step of one token of each
    /// sequence, and of a chunk of one.
    ///
    /// # Errors
    /// As for [`ScriptedModel::new_pages`]; a script that cannot run several sequences at once; a GPU.
    pub fn batch_plan(&self, sizes: BatchSizes) -> Result<SessionPlan> {
        let BatchSizes { n_pages, context, sequences, chunk } = sizes;
        self.check_context(context)?;
        let mut plan = SessionPlan::from(
            self.plan_of_parts(|part, is_on_gpu, dtype| part.layouts_in_pages(is_on_gpu, n_pages, dtype))?,
        );
        let steps = [(1, chunk.min(context)), (sequences, 1), (1, 1)];
        let steps = steps.map(|(sequences, tokens)| self.trace_batch(sequences, tokens, context));
        let mut largest: Vec<Layout> = Vec::new();
        for layout in pack(&mut plan, steps)? {
            match largest.iter_mut().find(|other| equal_except_rows(other, &layout)) {
                Some(other) if other.shape().first() < layout.shape().first() => *other = layout,
                Some(_) => {}
                None => largest.push(layout),
            }
        }
        largest.iter().for_each(|layout| plan.reservations.add(layout, ReserveKind::UpTo, 1));
        Ok(plan)
    }

    /// Reserves [`ScriptedModel::batch_plan`] in `buffer`, and takes the kernels' workspace.
    ///
    /// # Errors
    /// As for the plan, and memory that cannot be had.
    pub fn reserve_batch(&self, buffer: &TensorBuffer, sizes: BatchSizes) -> Result<()> {
        let plan = self.batch_plan(sizes)?;
        self.weights().device().take_workspace()?;
        Ok(plan.reserve(buffer)?)
    }

    /// A trace of a step of `tokens` tokens of each of `sequences` sequences. Its result is not freed in it.
    fn trace_batch(&self, sequences: usize, tokens: usize, context: usize) -> Result<Trace> {
        let pages: Vec<u32> = (0..context.div_ceil(PAGE_LEN) as u32).collect();
        let sequence = StepSequence { pages: &pages, held: context - tokens, adding: tokens };
        let rows = if tokens == 1 { LogitsRows::All } else { LogitsRows::Last };
        let ids = vec![0; sequences * tokens];
        self.trace_in(
            |counting| counting.new_pages(pages.len(), context),
            |counting, cache| counting.forward_step(&ids, std::iter::repeat_n(sequence, sequences), rows, cache),
        )
    }

    /// One block for the activations of all steps, and buffers for their results.
    fn plan_arena(&self, plan: &mut SessionPlan, context: usize) -> Result<()> {
        // A shorter step makes the requests of the longest with fewer rows, so its places suffice. Only for a single token may a
        // script take another path.
        let steps = [context.min(PREFILL_CHUNK), 1].map(|n| self.trace_step(n, context));
        let mut results: Vec<Layout> = Vec::new();
        for layout in pack(plan, steps)? {
            if !results.contains(&layout) {
                plan.reservations.add(&layout, ReserveKind::Exact, 1);
                results.push(layout);
            }
        }
        Ok(())
    }

    /// For each layout, as many buffers as the longest step has live at once.
    fn plan_by_layout(&self, plan: &mut SessionPlan, context: usize) -> Result<()> {
        let n = context.min(PREFILL_CHUNK);
        add_demands(&mut plan.reservations, &self.trace_step(n, context)?, &[n]);
        // The token that the device chooses.
        plan.reservations.add(&chosen_token(), ReserveKind::Exact, 1);
        Ok(())
    }

    /// A trace of a step of `n` tokens, with a KV cache for `context` tokens. Its result is not freed in it.
    fn trace_step(&self, n: usize, context: usize) -> Result<Trace> {
        self.trace(context, |counting, cache| counting.forward(&vec![0; n], cache))
    }

    /// A trace of `run` on a device that only counts, with a KV cache for `context` tokens. Its result is not freed in it.
    fn trace<T>(&self, context: usize, run: impl FnOnce(&ScriptedModel, &mut KvCache) -> Result<T>) -> Result<Trace> {
        self.trace_in(|counting| counting.new_cache(context), run)
    }

    /// As [`ScriptedModel::trace`], with the cache that `make` gives.
    fn trace_in<T>(
        &self,
        make: impl FnOnce(&ScriptedModel) -> Result<KvCache>,
        run: impl FnOnce(&ScriptedModel, &mut KvCache) -> Result<T>,
    ) -> Result<Trace> {
        let counting = self.counting();
        let device = counting.weights().device();
        let before = device.replace_tensor_buffer(None)?;
        let traced = make(&counting).and_then(|mut cache| {
            device.start_trace();
            let given = run(&counting, &mut cache);
            let trace = device.stop_trace();
            // A run that failed would give a reservation that is too small.
            given.map(|_| trace)
        });
        // Idle buffers of this device would count in plans.
        device.trim();
        device.replace_tensor_buffer(before)?;
        traced
    }

    /// The buffers of a KV cache for `context` tokens.
    fn cache_plan(&self, context: usize) -> Result<ReservationPlan> {
        self.plan_of_parts(|part, is_on_gpu, dtype| part.layouts(is_on_gpu, context, dtype))
    }

    /// The buffers of a KV cache whose parts have these layouts.
    fn plan_of_parts(
        &self,
        layouts: impl Fn(&CachePart, bool, DType) -> Result<[Layout; 2]>,
    ) -> Result<ReservationPlan> {
        let (dtype, is_on_gpu) = (self.weights().cache_dtype(), self.weights().device().is_gpu());
        let mut plan = ReservationPlan::default();
        for part in self.cache_parts() {
            layouts(part, is_on_gpu, dtype)?.iter().for_each(|layout| plan.add(layout, ReserveKind::Exact, 1));
        }
        Ok(plan)
    }
}

impl RunnableModel for ScriptedModel {
    fn reserve(&self, buffer: &TensorBuffer, context: usize) -> Result<()> {
        ScriptedModel::reserve(self, buffer, context)
    }

    fn is_served_by(&self, buffer: &TensorBuffer, context: usize, prompt_len: usize) -> Result<bool> {
        let counting = self.counting();
        let device = counting.weights().device();
        let copy = TensorBuffer::new(device);
        for row in buffer.stats().by_layout {
            let count = row.reserved_count.saturating_sub(row.in_use_count);
            match row.kind {
                ReserveKind::Exact => copy.reserve(row.layout, count)?,
                ReserveKind::UpTo => copy.reserve_up_to(row.layout, count)?,
                ReserveKind::Learnable => {}
            }
        }
        let before = device.replace_tensor_buffer(Some(copy.clone()))?;
        let ran = counting.new_cache(context).and_then(|mut cache| {
            step_lengths(prompt_len).into_iter().try_for_each(|n| {
                cache.clear();
                let logits = counting.forward(&vec![0; n], &mut cache)?;
                let chosen = device.is_gpu().then(|| device.take(&chosen_token(), Role::Activation));
                drop((logits, chosen.transpose()?));
                Ok(())
            })
        });
        device.replace_tensor_buffer(before)?;
        device.trim();
        ran.map(|()| copy.stats().fallback_count == 0)
    }

    fn generate(&self, prompt: &[u32], options: &GenerateOptions) -> Result<Box<dyn Iterator<Item = Result<u32>>>> {
        Ok(Box::new(Generator::new(self.clone(), prompt, options)?))
    }
}

/// The lengths of the steps in which a prompt and the tokens after it go through the model, each once.
fn step_lengths(prompt_len: usize) -> Vec<usize> {
    let mut lengths = vec![prompt_len.min(PREFILL_CHUNK), prompt_len % PREFILL_CHUNK, 1];
    lengths.retain(|&n| n > 0);
    lengths.dedup();
    lengths
}

/// The layout of a token that a GPU chooses.
fn chosen_token() -> Layout {
    Layout::new(DType::I32, [])
}

/// Makes the plan's arena one block that serves the activations of each of the steps. Gives the layouts of their results.
fn pack(plan: &mut SessionPlan, steps: impl IntoIterator<Item = Result<Trace>>) -> Result<Vec<Layout>> {
    let device = Device::simulated(Simulation::default());
    device.start_trace();
    let mut results = Vec::new();
    for step in steps {
        results.extend(replay(&step?, &device)?);
    }
    plan.arena = Some(device.stop_trace().arena()?);
    Ok(results)
}

/// Repeats a step's takes and returns on a device, except for the buffers that outlive it, whose layouts are the result.
fn replay(step: &Trace, device: &Device) -> Result<Vec<Layout>> {
    if step.is_thinned() || step.is_ended() {
        return Err(
            tl_device::Error::StepsTooLong { max_bytes: MemoryOptions::default().recording_max_bytes as u64 }.into()
        );
    }
    let events: Vec<Event> = step.events().collect();
    let returned = |event: &Event| if let Action::Return { id } = event.action { Some(id) } else { None };
    let returned: HashSet<u64> = events.iter().filter_map(returned).collect();
    let mut live = HashMap::new();
    let mut results = Vec::new();
    for event in events {
        match event.action {
            Action::Take { id, layout, role: Role::Activation, .. } => match returned.contains(&id) {
                true => drop(live.insert(id, device.take(&layout, Role::Activation)?)),
                false => results.push(layout),
            },
            Action::Return { id } => drop(live.remove(&id)),
            _ => {}
        }
    }
    Ok(results)
}

/// Adds, for each layout, as many buffers as a trace has live at once. `lengths`: those of the longest steps in it.
fn add_demands(plan: &mut ReservationPlan, trace: &Trace, lengths: &[usize]) {
    for LayoutDemand { layout, count, serves_fewer_rows, live: _ } in demands_of(trace) {
        // Tensors with a row for each token are smaller in shorter steps.
        let rows = layout.shape().first().copied();
        let is_bound = serves_fewer_rows || lengths.iter().any(|&n| n > 1 && rows == Some(n));
        plan.add(&layout, if is_bound { ReserveKind::UpTo } else { ReserveKind::Exact }, count);
    }
}

/// Buffers of one layout that a step demands.
struct LayoutDemand {
    layout: Layout,
    /// The most buffers that were live at once.
    count: usize,
    live: usize,
    /// Whether the step also takes buffers with fewer rows.
    serves_fewer_rows: bool,
}

/// The demands of a step. Layouts that differ only in rows are one demand, of the largest: the same buffers serve them.
fn demands_of(trace: &Trace) -> Vec<LayoutDemand> {
    let mut demands: Vec<LayoutDemand> = Vec::new();
    let events: Vec<Event> = trace.events().collect();
    let takes = events.iter().filter_map(|event| match &event.action {
        Action::Take { id, layout, role: Role::Activation, .. } => Some((*id, layout)),
        _ => None,
    });
    for (_, layout) in takes.clone() {
        let Some(demand) = demands.iter_mut().find(|demand| equal_except_rows(&demand.layout, layout)) else {
            demands.push(LayoutDemand { layout: layout.clone(), count: 0, live: 0, serves_fewer_rows: false });
            continue;
        };
        let (most, rows) = (demand.layout.shape().first(), layout.shape().first());
        demand.serves_fewer_rows |= most != rows;
        if most < rows {
            demand.layout = layout.clone();
        }
    }
    let indices: HashMap<u64, usize> = takes
        .filter_map(|(id, layout)| {
            Some((id, demands.iter().position(|demand| equal_except_rows(&demand.layout, layout))?))
        })
        .collect();
    for event in &events {
        let (Action::Take { id, .. } | Action::Return { id }) = &event.action else { continue };
        let Some(demand) = indices.get(id).and_then(|&index| demands.get_mut(index)) else { continue };
        if matches!(event.action, Action::Take { .. }) {
            demand.live += 1;
            demand.count = demand.count.max(demand.live);
        } else {
            demand.live = demand.live.saturating_sub(1);
        }
    }
    demands
}

/// Whether two layouts differ at most in their number of rows.
fn equal_except_rows(a: &Layout, b: &Layout) -> bool {
    let (rows_a, rows_b) = (a.shape().dims(), b.shape().dims());
    a.dtype() == b.dtype() && rows_a.len() == rows_b.len() && rows_a.get(1..) == rows_b.get(1..)
}
