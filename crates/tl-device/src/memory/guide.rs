//! Follows a program through the steps that were planned for it, request by request.

use crate::layout::Layout;
use crate::trace::shared_beginnings;

/// Follows a program through the steps that were planned for it.
#[derive(Debug, Default)]
pub(super) struct Guide {
    steps: Vec<PlannedStep>,
    /// The step that the present requests agree with so far, and how many there were; `None`: none does.
    at: Option<(usize, usize)>,
}

/// The requests of a step in order.
#[derive(Debug)]
struct PlannedStep {
    requests: Vec<Planned>,
    /// How many of the first ones another step asks for too. Steps have these in the same places.
    shared: usize,
}

/// A request of a step.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) layout: Layout,
    /// Where it is served; `None`: beside the arena.
    pub(super) cell: Option<u32>,
    /// Whether the arena is empty when it comes.
    pub(super) is_first: bool,
}

impl Guide {
    /// A guide through these steps.
    pub(super) fn new(steps: Vec<Vec<Planned>>) -> Guide {
        let layouts = |step: &Vec<Planned>| step.iter().map(|planned| planned.layout.clone()).collect();
        let shared = shared_beginnings(&steps.iter().map(layouts).collect::<Vec<Vec<Layout>>>());
        let steps = steps.into_iter().zip(shared).map(|(requests, shared)| PlannedStep { requests, shared });
        Guide { steps: steps.collect(), at: None }
    }

    /// The cell that is planned for this request, or that it has none, if it is the next of the plan. Where the arena
    /// is empty and is not planned to be, it begins a step.
    #[inline]
    pub(super) fn next(&mut self, layout: &Layout, is_empty: bool) -> Option<Option<u32>> {
        if is_empty && !self.is_within(layout) {
            self.at = self.fitting(&[], layout).map(|step| (step, 0));
        }
        let (step, position) = self.at?;
        let present = self.steps.get(step)?;
        let is_planned = present.requests.get(position).is_some_and(|planned| planned.layout == *layout);
        if !is_planned && position <= present.shared && position > 0 {
            self.part_ways(layout);
        }
        let (step, position) = self.at.as_mut()?;
        let planned = self.steps.get(*step)?.requests.get(*position)?;
        if !planned.layout.covers(layout) {
            return None;
        }
        *position += 1;
        Some(planned.cell)
    }

    /// Whether the step goes on with this request where the arena is empty.
    fn is_within(&self, layout: &Layout) -> bool {
        let next = self.at.filter(|(_, position)| *position > 0);
        let next = next.and_then(|(step, position)| self.steps.get(step)?.requests.get(position));
        next.is_some_and(|planned| planned.is_first && planned.layout.covers(layout))
    }

    /// Goes over to the step that begins as the present one did and fits this request better.
    #[cold]
    fn part_ways(&mut self, layout: &Layout) {
        let Some((step, position)) = self.at else { return };
        let present = self.steps.get(step).map_or(&[][..], |step| &step.requests);
        let covering = present.get(position).filter(|planned| planned.layout.covers(layout));
        let Some(other) = self.fitting(&present[..position.min(present.len())], layout) else { return };
        let bytes = |planned: &Planned| planned.layout.len_bytes().unwrap_or(usize::MAX);
        let there = self.steps.get(other).and_then(|step| step.requests.get(position)).map(bytes);
        if covering.is_none_or(|here| there < Some(bytes(here))) {
            self.at = Some((other, position));
        }
    }

    /// The step that begins with these requests and goes on with the smallest that covers this layout.
    fn fitting(&self, done: &[Planned], layout: &Layout) -> Option<usize> {
        let next = |step: &PlannedStep| {
            let planned = step.requests.get(done.len()).filter(|planned| planned.layout.covers(layout))?;
            let is_alike = step.requests.iter().zip(done).all(|(a, b)| a.layout == b.layout && a.cell == b.cell);
            is_alike.then(|| planned.layout.len_bytes().unwrap_or(usize::MAX))
        };
        let fitting = self.steps.iter().enumerate().filter_map(|(at, step)| Some((at, next(step)?)));
        fitting.min_by_key(|(_, bytes)| *bytes).map(|(at, _)| at)
    }

    /// The program does something else than what was planned, until the arena is empty again.
    pub(super) fn lose(&mut self) {
        self.at = None;
    }
}
