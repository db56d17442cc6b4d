//! How much memory a model's steps need: exactly the buffers that prefill and decoding have live at once.
//!
//! The architecture's script is run on a device that only counts, and the most of each layout that were live at once is what is
//! reserved. So a script that is changed changes the reservation with it.

use std::collections::HashMap;

use tl_device::{Action, DType, Event, Layout, Role, TensorBuffer, Trace};
use tl_lang::architecture::PREFILL_CHUNK;
use tl_model::{ModelError, Result};

use crate::model::Model;

/// Reserving for a model.
pub trait ReserveFor {
    /// Reserves all that generating takes, for prompt and text of up to `context` tokens together: the KV cache, and the
    /// activations of prefill and decoding, in the model's types of both, and the kernels' workspace. No step then needs other
    /// memory.
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
        let n = context.min(PREFILL_CHUNK);
        for Need { layout, count, serves_fewer_rows, live: _ } in of_trace(&model.trace_step(n)?) {
            // What has a row for each token is smaller in shorter steps.
            match serves_fewer_rows || n > 1 && layout.shape().first() == Some(&n) {
                true => self.reserve_up_to(layout, count)?,
                false => self.reserve(layout, count)?,
            }
        }
        if self.is_on_gpu() {
            // The token that the device chose.
            self.reserve(Layout::new(DType::I32, []), 1)?;
        }
        Ok(())
    }
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
