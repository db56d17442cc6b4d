//! The free ranges of a block.

/// The free ranges of a block.
#[derive(Debug, Clone)]
pub(crate) struct Ranges {
    /// Offset and length of each free range, in order; no two of them touch.
    free: Vec<(usize, usize)>,
    size: usize,
    /// The highest end of any piece so far.
    top: usize,
}

impl Ranges {
    /// One free range of `size` bytes, from which `n_pieces` pieces can be taken without a heap allocation.
    pub(crate) fn new(size: usize, n_pieces: usize) -> Ranges {
        let mut free = Vec::with_capacity(n_pieces.max(63) + 1);
        if size > 0 {
            free.push((0, size));
        }
        Ranges { free, size, top: 0 }
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The widest free range.
    pub(crate) fn largest_free(&self) -> usize {
        self.free.iter().map(|(_, len)| *len).max().unwrap_or(0)
    }

    /// The highest end of any piece so far: the size that would have sufficed.
    pub(crate) fn top(&self) -> usize {
        self.top
    }

    /// The offset of a piece of `bytes` (a multiple of [`ALIGN`]), or `None` if no free range holds it.
    pub(crate) fn take(&mut self, bytes: usize) -> Option<usize> {
        let fitting = self.free.iter().enumerate().filter(|(_, (_, len))| *len >= bytes);
        let (at, &(offset, len)) = fitting.min_by_key(|(_, (_, len))| *len)?;
        if len == bytes {
            self.free.remove(at);
        } else {
            self.free[at] = (offset + bytes, len - bytes);
        }
        self.top = self.top.max(offset + bytes);
        Some(offset)
    }

    /// Takes the piece at this offset; `false` if part of it is in use.
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
        self.top = self.top.max(offset + bytes);
        true
    }

    /// Returns a piece and merges it with its neighbours.
    pub(crate) fn give_back(&mut self, offset: usize, bytes: usize) {
        let at = self.free.partition_point(|&(start, _)| start < offset);
        debug_assert!(at == 0 || self.free[at - 1].0 + self.free[at - 1].1 <= offset, "given back twice");
        debug_assert!(at == self.free.len() || offset + bytes <= self.free[at].0, "given back twice");
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::ALIGN;

    #[test]
    fn the_smallest_range_that_fits_and_the_lowest_of_equals() {
        let mut ranges = Ranges::new(1024, 0);
        let places: Vec<_> = [256, 64, 128, 64, 512].iter().map(|&bytes| ranges.take(bytes)).collect();
        assert_eq!(places, [Some(0), Some(256), Some(320), Some(448), Some(512)]);
        assert_eq!(ranges.take(64), None);
        ranges.give_back(256, 64);
        ranges.give_back(448, 64);
        assert_eq!(ranges.take(64), Some(256));
        ranges.give_back(256, 64);
        ranges.give_back(320, 128);
        assert_eq!(ranges.take(256), Some(256), "neighbours were joined");
        assert_eq!((ranges.largest_free(), ranges.top()), (0, 1024));
    }

    proptest! {
        #[test]
        fn pieces_never_overlap_and_all_comes_back(requests in prop::collection::vec((any::<bool>(), 0usize..40), 1..200)) {
            let mut ranges = Ranges::new(64 * 64, 0);
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
                let free: usize = ranges.free.iter().map(|(_, len)| len).sum();
                prop_assert_eq!(free + out.iter().map(|(_, bytes)| bytes).sum::<usize>(), ranges.size());
            }
            for (offset, bytes) in out {
                ranges.give_back(offset, bytes);
            }
            prop_assert_eq!(ranges.take(64 * 64), Some(0));
        }
    }
}
