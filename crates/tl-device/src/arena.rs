//! Ranges of one block of memory: where the next piece goes, and where pieces were given back.
//!
//! A step that was traced has a plan: each of its pieces a place, found with all lifetimes known, which packs to within a few
//! percent of what is live at once. A step begins when the arena is empty; as long as its requests are the planned ones, its
//! pieces go to their planned places. Every other piece goes into the smallest free range that holds it, the lowest of equals.
//! Either way the free ranges are the truth: a planned place that is not free is not used.

use crate::Layout;
use crate::cpu::ALIGN;

/// The free ranges of a block.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    /// Offset and length of each free range, in order; no two of them touch.
    free: Vec<(usize, usize)>,
    size: usize,
    used: usize,
    /// The highest end that a piece has had.
    top: usize,
}

impl Ranges {
    /// One free range of `size` bytes.
    pub(crate) fn new(size: usize) -> Ranges {
        let mut free = Vec::with_capacity(64);
        if size > 0 {
            free.push((0, size));
        }
        Ranges { free, size, used: 0, top: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The widest free range.
    pub(crate) fn largest_free(&self) -> usize {
        self.free.iter().map(|(_, len)| *len).max().unwrap_or(0)
    }

    /// Bytes of all pieces that are out.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// The highest end that a piece has had: the size that would have been enough.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// The bytes that a piece for `len_bytes` takes, or `None` where they do not fit an address.
    pub(crate) fn piece_bytes(len_bytes: usize) -> Option<usize> {
        len_bytes.max(1).checked_next_multiple_of(ALIGN)
    }

    /// The offset of a piece of `bytes` (from [`Ranges::piece_bytes`]), or `None` where no free range holds it.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let fitting = self.free.iter().enumerate().filter(|(_, (_, len))| *len >= bytes);
        let (at, &(offset, len)) = fitting.min_by_key(|(_, (_, len))| *len)?;
        if len == bytes {
            self.free.remove(at);
        } else {
            self.free[at] = (offset + bytes, len - bytes);
        }
        self.used += bytes;
        self.top = self.top.max(offset + bytes);
        Some(offset)
    }

    /// Takes the piece at this offset, if all of it is free.
    pub(crate) fn take_at(&mut self, offset: usize, bytes: usize) -> bool {
        let after = self.free.partition_point(|&(start, _)| start <= offset);
        let Some(at) = after.checked_sub(1) else { return false };
        let (start, len) = self.free[at];
        if offset + bytes > start + len {
            return false;
        }
        let behind = (offset + bytes, start + len - offset - bytes);
        match (offset > start, behind.1 > 0) {
            (false, false) => drop(self.free.remove(at)),
            (false, true) => self.free[at] = behind,
            (true, false) => self.free[at].1 = offset - start,
            (true, true) => {
                self.free[at].1 = offset - start;
                self.free.insert(at + 1, behind);
            }
        }
        self.used += bytes;
        self.top = self.top.max(offset + bytes);
        true
    }

    /// Takes a piece back and joins it with its neighbours.
    pub(crate) fn give_back(&mut self, offset: usize, bytes: usize) {
        let at = self.free.partition_point(|&(start, _)| start < offset);
        debug_assert!(at == 0 || self.free[at - 1].0 + self.free[at - 1].1 <= offset, "given back twice");
        debug_assert!(at == self.free.len() || offset + bytes <= self.free[at].0, "given back twice");
        self.used -= bytes;
        let joins_next = at < self.free.len() && offset + bytes == self.free[at].0;
        let joins_previous = at > 0 && self.free[at - 1].0 + self.free[at - 1].1 == offset;
        match (joins_previous, joins_next) {
            (true, true) => {
                self.free[at - 1].1 += bytes + self.free[at].1;
                self.free.remove(at);
            }
            (true, false) => self.free[at - 1].1 += bytes,
            (false, true) => self.free[at] = (offset, bytes + self.free[at].1),
            (false, false) => self.free.insert(at, (offset, bytes)),
        }
    }
}

/// A step's pieces in the order of their requests, each with its planned place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Step {
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of a step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Piece {
    pub(crate) layout: Layout,
    pub(crate) offset: usize,
}

/// Follows a program through the steps that were planned for it.
#[derive(Debug, Default)]
pub(crate) struct Guide {
    steps: Vec<Step>,
    /// The step that the present requests agree with so far, and how many there were; `None`: none does.
    at: Option<(usize, usize)>,
}

impl Guide {
    pub(crate) fn new(steps: Vec<Step>) -> Guide {
        Guide { steps, at: None }
    }

    /// The planned place of the next request, which begins a step where the arena is empty.
    pub(crate) fn next(&mut self, layout: &Layout, is_empty: bool) -> Option<usize> {
        if is_empty {
            let first = |step: &Step| step.pieces.first().is_some_and(|piece| piece.layout == *layout);
            self.at = self.steps.iter().position(first).map(|step| (step, 0));
        }
        let (step, position) = self.at?;
        let piece = self.steps.get(step).and_then(|step| step.pieces.get(position));
        if let Some(piece) = piece.filter(|piece| piece.layout == *layout) {
            self.at = Some((step, position + 1));
            return Some(piece.offset);
        }
        // Another step may begin with the same requests.
        let done = self.steps.get(step).and_then(|step| step.pieces.get(..position)).unwrap_or_default();
        let agrees = |other: &Step| {
            other.pieces.get(position).is_some_and(|piece| piece.layout == *layout)
                && other.pieces.iter().zip(done).all(|(a, b)| a.layout == b.layout)
        };
        let other = self.steps.iter().position(agrees);
        self.at = other.map(|other| (other, position + 1));
        other.map(|other| self.steps[other].pieces[position].offset)
    }
}

/// Requests and their lifetimes: piece `i` is out from request number `from` until before request number `until`.
pub(crate) struct Lifetime {
    pub(crate) bytes: usize,
    pub(crate) from: usize,
    pub(crate) until: usize,
}

/// Places for pieces whose lifetimes are known: the largest first, each as low as those placed before it that live at the
/// same time allow, in the gap that it fills best.
pub(crate) fn place(pieces: &[Lifetime]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pieces.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(pieces[i].bytes), pieces[i].from));
    let mut offsets = vec![0; pieces.len()];
    let mut placed: Vec<usize> = Vec::new();
    for &i in &order {
        let piece = &pieces[i];
        let meets = |&&j: &&usize| pieces[j].from < piece.until && piece.from < pieces[j].until;
        let mut taken: Vec<(usize, usize)> =
            placed.iter().filter(meets).map(|&j| (offsets[j], offsets[j] + pieces[j].bytes)).collect();
        taken.sort_unstable();
        let (mut end, mut best) = (0, None);
        for &(start, stop) in &taken {
            let gap = start.saturating_sub(end);
            if gap >= piece.bytes && best.is_none_or(|(size, _)| gap < size) {
                best = Some((gap, end));
            }
            end = end.max(stop);
        }
        offsets[i] = best.map_or(end, |(_, offset)| offset);
        placed.push(i);
    }
    offsets
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_smallest_range_that_fits_and_the_lowest_of_equals() {
        let mut ranges = Ranges::new(1024);
        let places: Vec<_> = [256, 64, 128, 64, 512].iter().map(|&bytes| ranges.take(bytes)).collect();
        assert_eq!(places, [Some(0), Some(256), Some(320), Some(448), Some(512)]);
        assert_eq!(ranges.take(64), None);
        ranges.give_back(256, 64);
        ranges.give_back(448, 64);
        assert_eq!(ranges.take(64), Some(256));
        ranges.give_back(256, 64);
        ranges.give_back(320, 128);
        assert_eq!(ranges.take(256), Some(256), "neighbours were joined");
        assert_eq!((ranges.used(), ranges.top()), (1024, 1024));
    }

    proptest! {
        #[test]
        fn pieces_that_live_together_do_not_overlap(lives in prop::collection::vec((1usize..50, 0usize..30, 1usize..10), 0..60)) {
            let pieces: Vec<Lifetime> =
                lives.iter().map(|&(n, from, len)| Lifetime { bytes: n * ALIGN, from, until: from + len }).collect();
            let offsets = place(&pieces);
            for (i, a) in pieces.iter().enumerate() {
                for (j, b) in pieces.iter().enumerate().skip(i + 1) {
                    let live_together = a.from < b.until && b.from < a.until;
                    let overlap = offsets[i] < offsets[j] + b.bytes && offsets[j] < offsets[i] + a.bytes;
                    prop_assert!(!(live_together && overlap));
                }
            }
        }

        #[test]
        fn pieces_never_overlap_and_all_comes_back(requests in prop::collection::vec((any::<bool>(), 0usize..40), 1..200)) {
            let mut ranges = Ranges::new(64 * 64);
            let mut out: Vec<(usize, usize)> = Vec::new();
            for (is_take, n) in requests {
                if is_take || out.is_empty() {
                    let bytes = (n + 1) * ALIGN;
                    if let Some(offset) = ranges.take(bytes) {
                        prop_assert!(offset + bytes <= ranges.size());
                        prop_assert!(out.iter().all(|&(o, b)| o + b <= offset || offset + bytes <= o));
                        out.push((offset, bytes));
                    }
                } else {
                    let (offset, bytes) = out.swap_remove(n % out.len());
                    ranges.give_back(offset, bytes);
                }
                prop_assert_eq!(ranges.used(), out.iter().map(|(_, bytes)| bytes).sum::<usize>());
            }
            for (offset, bytes) in out {
                ranges.give_back(offset, bytes);
            }
            prop_assert_eq!(ranges.take(64 * 64), Some(0));
        }
    }
}
