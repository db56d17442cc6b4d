//! The plan of an arena: the size of its block, and a place for each piece of each step.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use crate::layout::{ALIGN, Layout, LayoutHasher};
use crate::plan::ReservationPlan;

/// Plan of an arena for a trace: the size of its block, a place for each piece of its steps, and reservations for the
/// rest.
///
/// ```
/// use tl_device::{Device, Layout, Role};
/// let device = Device::cpu();
/// device.start_trace();
/// let _held = [512, 512].map(|n| device.take(&Layout::from(vec![n]), Role::Activation));
/// let plan = device.stop_trace().arena()?;
/// assert_eq!((plan.size_bytes, plan.lower_bound_bytes), (2048, 2048));
/// # Ok::<(), tl_device::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArenaPlan {
    /// The size of the block.
    pub size_bytes: usize,
    /// Maximum live bytes: no arena can be smaller.
    pub lower_bound_bytes: usize,
    /// Buffers for memory that stays from step to step and that no arena serves: KV caches, parameters, results that a
    /// step passes to the next.
    pub beside: ReservationPlan,
    /// The steps of the trace, the largest first, without those covered by another.
    pub(crate) steps: Vec<Step>,
}

impl ArenaPlan {
    /// Size over lower bound; 1 for an empty trace.
    ///
    /// ```
    /// use tl_device::{Device, Layout, Role};
    /// let device = Device::cpu();
    /// device.start_trace();
    /// drop(device.take(&Layout::from(vec![512]), Role::Activation)?);
    /// assert_eq!(device.stop_trace().arena()?.ratio(), 1.0); // nothing is wasted
    /// # Ok::<(), tl_device::Error>(())
    /// ```
    pub fn ratio(&self) -> f64 {
        if self.lower_bound_bytes == 0 { 1.0 } else { self.size_bytes as f64 / self.lower_bound_bytes as f64 }
    }
}

/// A step's pieces in the order of their requests, each with its planned place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of a step: piece `i` is out from request number `i` until before request number `until`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) layout: Layout,
    pub(crate) until: usize,
    /// Whether it outlives the step and has no place in the block.
    pub(crate) is_beside: bool,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
}

impl Step {
    /// Whether the places of this step serve another step: the other's pieces are no larger and live no longer, and the
    /// same ones outlive the step.
    pub(crate) fn covers<'a>(&self, mut others: impl ExactSizeIterator<Item = (&'a Layout, usize, bool)>) -> bool {
        self.pieces.len() == others.len()
            && self.pieces.iter().all(|piece| {
                others.next().is_some_and(|(layout, until, is_beside)| {
                    piece.layout.covers(layout) && until <= piece.until && is_beside == piece.is_beside
                })
            })
    }

    /// Number of leading requests shared with another step, with equal lifetimes within them: in both steps they lie in
    /// the same places, so that it may stay open which of the two runs.
    pub(crate) fn shared<'a>(&self, others: impl Iterator<Item = (&'a Layout, usize, bool)>) -> usize {
        let mut n = 0;
        // The first request before which a piece of one step is back, and the same piece of the other is not.
        let mut parted = usize::MAX;
        for (piece, (layout, until, is_beside)) in self.pieces.iter().zip(others) {
            if piece.layout != *layout || piece.is_beside != is_beside || parted <= n {
                break;
            }
            if piece.until != until {
                parted = parted.min(piece.until.min(until));
            }
            n += 1;
        }
        n
    }

    /// For each piece, whether the block is empty at its request.
    pub(crate) fn empty(&self) -> Vec<bool> {
        let mut live_until = 0;
        let is_first = |(at, piece): (usize, &Piece)| {
            let is_empty = live_until <= at;
            live_until = live_until.max(if piece.is_beside { 0 } else { piece.until });
            is_empty
        };
        self.pieces.iter().enumerate().map(is_first).collect()
    }
}

/// For each step, the maximum number of leading requests shared with another step.
pub(crate) fn shared_beginnings<K: Hash>(steps: &[Vec<K>]) -> Vec<usize> {
    let hashes = |step: &Vec<K>| {
        let mut hasher = LayoutHasher::default();
        let hash = |key: &K| {
            key.hash(&mut hasher);
            hasher.finish()
        };
        step.iter().map(hash).collect()
    };
    let hashes: Vec<Vec<u64>> = steps.iter().map(hashes).collect();
    let mut counts: HashMap<u64, u32, BuildHasherDefault<LayoutHasher>> = HashMap::default();
    hashes.iter().flatten().for_each(|hash| *counts.entry(*hash).or_default() += 1);
    let is_shared = |hash: &&u64| counts.get(*hash).is_some_and(|count| *count > 1);
    hashes.iter().map(|hashes| hashes.iter().take_while(is_shared).count()).collect()
}

/// Bytes of a piece for `len_bytes`, or `None` if they exceed the address space.
pub(crate) fn piece_bytes(len_bytes: usize) -> Option<usize> {
    len_bytes.max(1).checked_next_multiple_of(ALIGN)
}

/// Requests and their lifetimes: piece `i` is out from request number `from` until before request number `until`.
pub(crate) struct Lifetime {
    pub(crate) bytes: usize,
    pub(crate) from: usize,
    pub(crate) until: usize,
}

/// Places for pieces with known lifetimes: the largest first, each as low as the placed pieces that live at the same
/// time allow, in the gap that it fills best. `first` are the places of the first pieces, if known. The first `n_early`
/// ones are placed before all others: other steps have them too, and later pieces need room above them.
///
/// Time is proportional to the pairs that live at the same time, a few for each piece of a transformer's step.
pub(crate) fn place(pieces: &[Lifetime], first: &[usize], n_early: usize) -> Vec<usize> {
    let met = live_together(pieces);
    let mut order: Vec<usize> = (first.len()..pieces.len()).collect();
    order.sort_by_key(|&i| (i >= n_early, std::cmp::Reverse(pieces[i].bytes), pieces[i].from));
    let mut offsets: Vec<Option<usize>> = first.iter().map(|&offset| Some(offset)).collect();
    offsets.resize(pieces.len(), None);
    let mut taken: Vec<(usize, usize)> = Vec::new();
    for &i in &order {
        let bytes = pieces[i].bytes;
        taken.clear();
        taken.extend(met[i].iter().filter_map(|&j| offsets[j].map(|offset| (offset, offset + pieces[j].bytes))));
        taken.sort_unstable();
        let (mut end, mut best) = (0, None);
        for &(start, stop) in &taken {
            let gap = start.saturating_sub(end);
            if gap >= bytes && best.is_none_or(|(size, _)| gap < size) {
                best = Some((gap, end));
            }
            end = end.max(stop);
        }
        offsets[i] = Some(best.map_or(end, |(_, offset)| offset));
    }
    offsets.into_iter().map(Option::unwrap_or_default).collect()
}

/// For each piece, the pieces that live at the same time at some moment.
fn live_together(pieces: &[Lifetime]) -> Vec<Vec<usize>> {
    let mut met = vec![Vec::new(); pieces.len()];
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&i| pieces[i].from);
    let mut live: Vec<usize> = Vec::new();
    for i in order {
        live.retain(|&j| pieces[j].until > pieces[i].from);
        for &j in &live {
            met[i].push(j);
            met[j].push(i);
        }
        live.push(i);
    }
    met
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_that_live_together_do_not_overlap(lives in prop::collection::vec((1usize..50, 0usize..30, 1usize..10), 0..60)) {
            let pieces: Vec<Lifetime> =
                lives.iter().map(|&(n, from, len)| Lifetime { bytes: n * ALIGN, from, until: from + len }).collect();
            let offsets = place(&pieces, &[], 0);
            for (i, a) in pieces.iter().enumerate() {
                for (j, b) in pieces.iter().enumerate().skip(i + 1) {
                    let live_together = a.from < b.until && b.from < a.until;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    prop_assert!(!(live_together && overlap));
                }
            }
        }
    }
}
