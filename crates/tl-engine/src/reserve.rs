//! How much memory a model's steps need: exactly what prefill and decoding have live at once.
//!
//! The architecture's script is run on a device that only counts. On the CPU the requests of a step are packed into one
//! block by their lifetimes. A GPU has no such blocks: there the most of each layout that were live at once is what is
//! reserved. Either way a script that is changed changes the reservation with it.

use std::collections::{HashMap, HashSet};

use tl_device::{Action, DType, Device, Event, Layout, MemoryOptions, Role, Simulation, TensorBuffer, Trace};
use tl_lang::architecture::PREFILL_CHUNK;
use tl_model::{ModelError, Result};

use crate::model::Model;

/// Reserving for a model.
pub trait ReserveFor {
    /// Reserves all that generating takes, for prompt and text of up to `context` tokens together: the KV cache, the
    /// activations of prefill and decoding, in the model's types of both, and the kernels' workspace. No step of any length
    /// then needs other memory, whichever tokens the cache holds.
    ///
    /// On the CPU the activations lie in one block, an arena ([`TensorBuffer::reserve_arena`]), which is as large as the most
    /// of them that are live at once; the logits, which outlive their step, have a buffer of their own. On a GPU there are
    /// buffers by layout.
    ///
    /// # Errors
    /// A context that the model was not trained for, types that the model's cache cannot have, or memory that cannot be had.
    fn reserve_for(&self, model: &Model, context: usize) -> Result<()>;
}

impl ReserveFor for TensorBuffer {
    fn reserve_for(&self, model: &Model, context: usize) -> Result<()> {
        let limit = model.config().context_length;
        if context == 0 || context > limit {
            return Err(ModelError::ContextLength { asked: context, limit });
        }
        model.device().take_workspace()?;
        for layout in model.cache_layouts(context)? {
            self.reserve(layout, 1)?;
        }
        if self.is_on_gpu() { reserve_by_layout(self, model, context) } else { reserve_arena(self, model, context) }
    }
}

/// One block for the activations of all steps, and buffers for what they give.
fn reserve_arena(buffer: &TensorBuffer, model: &Model, context: usize) -> Result<()> {
    let device = Device::simulated(Simulation::default());
    device.start_trace();
    let mut results: Vec<Layout> = Vec::new();
    // A shorter step takes what the longest does, of fewer rows, so it finds its places there. A script may let a single token
    // go another way.
    let longest = context.min(PREFILL_CHUNK);
    for n in [longest, 1] {
        for layout in replay(&model.trace_step(n, context)?, &device)? {
            if !results.contains(&layout) {
                results.push(layout);
            }
        }
    }
    let arena = device.stop_trace().arena()?;
    for layout in results {
        buffer.reserve(layout, 1)?;
    }
    buffer.reserve_arena(&arena)?;
    Ok(())
}

/// For each layout the most buffers that the longest step has at once.
fn reserve_by_layout(buffer: &TensorBuffer, model: &Model, context: usize) -> Result<()> {
    let n = context.min(PREFILL_CHUNK);
    for Need { layout, count, serves_fewer_rows, live: _ } in of_trace(&model.trace_step(n, context)?) {
        // What has a row for each token is smaller in shorter steps.
        match serves_fewer_rows || n > 1 && layout.shape().first() == Some(&n) {
            true => buffer.reserve_up_to(layout, count)?,
            false => buffer.reserve(layout, count)?,
        }
    }
    // The token that the device chose.
    buffer.reserve(Layout::new(DType::I32, []), 1)?;
    Ok(())
}

/// Takes and gives back on a device what a step did, all but what outlives it, whose layouts are the result.
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

/// Buffers of one layout that a step needs.
struct Need {
    layout: Layout,
    /// The most that were live at once.
    count: usize,
    live: usize,
    /// Whether the step also takes ones with fewer rows.
    serves_fewer_rows: bool,
}

/// What a step needs. A layout with fewer rows than another and equal otherwise counts as the other: it is served by the
/// same buffers.
fn of_trace(trace: &Trace) -> Vec<Need> {
    let mut needs: Vec<Need> = Vec::new();
    let events: Vec<Event> = trace.events().collect();
    let takes = events.iter().filter_map(|event| match &event.action {
        Action::Take { id, layout, role: Role::Activation, .. } => Some((*id, layout)),
        _ => None,
    });
    for (_, layout) in takes.clone() {
        let Some(need) = needs.iter_mut().find(|need| rows_aside(&need.layout, layout)) else {
            needs.push(Need { layout: layout.clone(), count: 0, live: 0, serves_fewer_rows: false });
            continue;
        };
        let (most, rows) = (need.layout.shape().first(), layout.shape().first());
        need.serves_fewer_rows |= most != rows;
        if most < rows {
            need.layout = layout.clone();
        }
    }
    let indices: HashMap<u64, usize> = takes
        .filter_map(|(id, layout)| Some((id, needs.iter().position(|need| rows_aside(&need.layout, layout))?)))
        .collect();
    for event in &events {
        let (Action::Take { id, .. } | Action::Return { id }) = &event.action else { continue };
        let Some(need) = indices.get(id).and_then(|&index| needs.get_mut(index)) else { continue };
        if matches!(event.action, Action::Take { .. }) {
            need.live += 1;
            need.count = need.count.max(need.live);
        } else {
            need.live = need.live.saturating_sub(1);
        }
    }
    needs
}

/// Whether two layouts differ in the number of rows at most.
fn rows_aside(a: &Layout, b: &Layout) -> bool {
    let (rows_a, rows_b) = (a.shape().dims(), b.shape().dims());
    a.dtype() == b.dtype() && rows_a.len() == rows_b.len() && rows_a.get(1..) == rows_b.get(1..)
}
