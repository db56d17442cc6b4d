//! Follows a program through its planned steps, request by request.

use crate::layout::Layout;
use crate::trace::shared_beginnings;

/// Follows a program through its planned steps.
#[derive(Debug, Default)]
pub(super) struct Guide {
    steps: Vec<PlannedStep>,
    /// The step that the present requests match so far, and the number of those requests; `None`: no step matches.
    at: Option<(usize, usize)>,
}

/// The requests of a step in order.
#[derive(Debug)]
struct PlannedStep {
    requests: Vec<Planned>,
    /// Number of leading requests shared with another step. Shared ones have the same places in both.
    shared: usize,
}

/// A request of a step.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) layout: Layout,
    /// Its cell; `None`: beside the arena.
    pub(super) cell: Option<u32>,
    /// Whether the arena is empty at this request.
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

    /// The planned cell of this request, or `Some(None)` if it is planned beside the arena; `None` if it is not the
    /// next of the plan. A request begins a step if the arena is empty and is not planned to be.
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

    /// Whether the step continues with this request although the arena is empty.
    fn is_within(&self, layout: &Layout) -> bool {
        let next = self.at.filter(|(_, position)| *position > 0);
        let next = next.and_then(|(step, position)| self.steps.get(step)?.requests.get(position));
        next.is_some_and(|planned| planned.is_first && planned.layout.covers(layout))
    }

    /// Switches to a step with the same beginning that fits this request better.
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

    /// The step that begins with these requests and continues with the smallest one that covers this layout.
    fn fitting(&self, done: &[Planned], layout: &Layout) -> Option<usize> {
        let next = |step: &PlannedStep| {
            let planned = step.requests.get(done.len()).filter(|planned| planned.layout.covers(layout))?;
            let is_alike = step.requests.iter().zip(done).all(|(a, b)| a.layout == b.layout && a.cell == b.cell);
            is_alike.then(|| planned.layout.len_bytes().unwrap_or(usize::MAX))
        };
        let fitting = self.steps.iter().enumerate().filter_map(|(at, step)| Some((at, next(step)?)));
        fitting.min_by_key(|(_, bytes)| *bytes).map(|(at, _)| at)
    }

    /// Leaves the plan until the arena is empty again.
    pub(super) fn lose(&mut self) {
        self.at = None;
    }
}
