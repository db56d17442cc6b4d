//! How much memory a model's steps need: exactly the buffers that prefill and decoding have live at once.
//!
//! The architecture's script is run on a device that only counts, and the most of each layout that were live at once is what is
//! reserved. So a script that is changed changes the reservation with it.

use std::collections::HashMap;

use tl_device::{Action, DType, Layout, Role, TensorBuffer, Trace};
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
        for (layout, count) in of_trace(&model.trace_step(n)?) {
            // What has a row for each token is smaller in shorter steps.
            match n > 1 && layout.shape().first() == Some(&n) {
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

/// The layouts of a step and the most of each that were live at once. One with fewer rows than another and equal otherwise counts
/// as the other: it is served by the same buffers.
fn of_trace(trace: &Trace) -> Vec<(Layout, usize)> {
    let mut layouts: Vec<Layout> = Vec::new();
    let takes = trace.events.iter().filter_map(|event| match &event.action {
        Action::Take { id, layout, role: Role::Activation, .. } => Some((*id, layout)),
        _ => None,
    });
    for (_, layout) in takes.clone() {
        match layouts.iter_mut().find(|known| rows_aside(known, layout)) {
            Some(known) if known.shape().first() < layout.shape().first() => *known = layout.clone(),
            Some(_) => {}
            None => layouts.push(layout.clone()),
        }
    }
    let indices: HashMap<u64, usize> = takes
        .filter_map(|(id, layout)| Some((id, layouts.iter().position(|known| rows_aside(known, layout))?)))
        .collect();
    let mut live = vec![(0_usize, 0_usize); layouts.len()];
    for event in &trace.events {
        match &event.action {
            Action::Take { id, .. } => {
                if let Some((now, most)) = indices.get(id).and_then(|&index| live.get_mut(index)) {
                    *now += 1;
                    *most = (*most).max(*now);
                }
            }
            Action::Return { id } => {
                if let Some((now, _)) = indices.get(id).and_then(|&index| live.get_mut(index)) {
                    *now = now.saturating_sub(1);
                }
            }
            _ => {}
        }
    }
    layouts.into_iter().zip(live).map(|(layout, (_, most))| (layout, most)).collect()
}

/// Whether two layouts differ in the number of rows at most.
fn rows_aside(a: &Layout, b: &Layout) -> bool {
    let (rows_a, rows_b) = (a.shape().dims(), b.shape().dims());
    a.dtype() == b.dtype() && rows_a.len() == rows_b.len() && rows_a.get(1..) == rows_b.get(1..)
}
