//! The reactive pool's data structure: idle slots by size class, in order of their return.
//!
//! Changed under the lock of the books; the caller frees evicted slots outside the lock. Classes are a quarter of a
//! power of two apart, so that rounding up wastes less than 25 % beyond alignment.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::layout::{ALIGN, LayoutMap};
use crate::slot::Slot;

/// Slots evicted from the pool to the system.
pub(crate) type Evicted = SmallVec<[Arc<Slot>; 4]>;

/// The smallest size class, in bytes, that holds `len_bytes`; `None` if it exceeds the address space.
pub(crate) fn class_bytes(len_bytes: usize) -> Option<usize> {
    let units = len_bytes.div_ceil(ALIGN).max(1);
    // The next multiple of this power of two, without a general division.
    let below_step = match units {
        0..=4 => 0,
        _ => (1usize << (units - 1).ilog2().saturating_sub(2)) - 1,
    };
    let units = units.checked_add(below_step)? & !below_step;
    units.checked_mul(ALIGN).filter(|&n| n <= isize::MAX as usize)
}

const NONE: u32 = u32::MAX;

/// A place in the list of idle slots; `previous` was returned earlier.
struct Node {
    slot: Option<Arc<Slot>>,
    previous: u32,
    next: u32,
}

/// Idle slots. `len_bytes` never exceeds the cap after a `put`.
pub(crate) struct Pool {
    cap_bytes: usize,
    max_per_class: usize,
    /// Idle slots of each class, by node, the most recently returned at the back.
    classes: LayoutMap<usize, VecDeque<u32>>,
    nodes: Vec<Node>,
    vacant: Vec<u32>,
    oldest: u32,
    newest: u32,
    idle_bytes: usize,
    idle_count: usize,
}

impl Pool {
    pub(crate) fn new(cap_bytes: usize, max_per_class: usize) -> Pool {
        Pool {
            cap_bytes,
            max_per_class,
            classes: LayoutMap::default(),
            // Room for a model's usual number of idle slots, so that returns seldom grow the lists.
            nodes: Vec::with_capacity(256),
            vacant: Vec::with_capacity(256),
            oldest: NONE,
            newest: NONE,
            idle_bytes: 0,
            idle_count: 0,
        }
    }

    pub(crate) fn cap_bytes(&self) -> usize {
        self.cap_bytes
    }

    /// Bytes of all idle slots.
    pub(crate) fn idle_bytes(&self) -> usize {
        self.idle_bytes
    }

    pub(crate) fn idle_count(&self) -> usize {
        self.idle_count
    }

    /// The largest idle slot.
    pub(crate) fn largest_bytes(&self) -> usize {
        self.classes.iter().filter(|(_, idle)| !idle.is_empty()).map(|(bytes, _)| *bytes).max().unwrap_or(0)
    }

    /// Size classes used so far.
    pub(crate) fn class_count(&self) -> usize {
        self.classes.len()
    }

    /// The most recently returned slot of this class.
    pub(crate) fn take(&mut self, class_bytes: usize) -> Option<Arc<Slot>> {
        let node = self.classes.get_mut(&class_bytes)?.pop_back()?;
        self.unlink(node)
    }

    /// Makes a slot idle, and evicts slots above the class's count or the cap: first of this class, then the least
    /// recently returned.
    pub(crate) fn put(&mut self, slot: Arc<Slot>) -> Evicted {
        let bytes = slot.block.capacity();
        let mut evicted = Evicted::new();
        if bytes > self.cap_bytes || self.max_per_class == 0 {
            evicted.push(slot);
            return evicted;
        }
        self.link(slot);
        let over_count = self.classes.get_mut(&bytes).filter(|idle| idle.len() > self.max_per_class);
        if let Some(node) = over_count.and_then(VecDeque::pop_front) {
            evicted.extend(self.unlink(node));
        }
        self.shrink_to(self.cap_bytes, &mut evicted);
        evicted
    }

    /// Evicts the least recently returned slots until at most `bytes` are idle.
    pub(crate) fn shrink_to(&mut self, bytes: usize, evicted: &mut Evicted) {
        while self.idle_bytes > bytes && self.oldest != NONE {
            let oldest = self.oldest;
            let Some(slot) = self.unlink(oldest) else { break };
            // The oldest of all is also the oldest of its class.
            if let Some(idle) = self.classes.get_mut(&slot.block.capacity()) {
                idle.pop_front();
            }
            evicted.push(slot);
        }
    }

    fn link(&mut self, slot: Arc<Slot>) {
        let bytes = slot.block.capacity();
        let node = Node { slot: Some(slot), previous: self.newest, next: NONE };
        let at = match self.vacant.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                // One vacancy for every node, so that `unlink` never grows the list.
                self.vacant.reserve(self.nodes.len());
                (self.nodes.len() - 1) as u32
            }
        };
        match self.newest {
            NONE => self.oldest = at,
            newest => self.nodes[newest as usize].next = at,
        }
        self.newest = at;
        let max = self.max_per_class;
        self.classes.entry(bytes).or_insert_with(|| VecDeque::with_capacity(max.min(64) + 1)).push_back(at);
        self.idle_bytes += bytes;
        self.idle_count += 1;
    }

    /// Removes a node from the list (not from its class).
    fn unlink(&mut self, at: u32) -> Option<Arc<Slot>> {
        let node = &mut self.nodes[at as usize];
        let slot = node.slot.take()?;
        let (previous, next) = (node.previous, node.next);
        match previous {
            NONE => self.oldest = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NONE => self.newest = previous,
            next => self.nodes[next as usize].previous = previous,
        }
        self.vacant.push(at);
        self.idle_bytes -= slot.block.capacity();
        self.idle_count -= 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::{Block, SlotOwner};

    #[test]
    fn classes_waste_less_than_a_quarter() {
        assert_eq!(class_bytes(0), Some(64));
        assert_eq!(class_bytes(usize::MAX), None);
        for len in (1..100_000).chain((1..60).map(|bit| (1usize << bit) + 1)) {
            let class = class_bytes(len).unwrap();
            let aligned = len.next_multiple_of(ALIGN);
            assert!(class >= aligned && (class - aligned) * 4 < aligned, "{len} -> {class}");
            assert_eq!(class_bytes(class), Some(class), "a class is its own class");
        }
    }

    fn slot(bytes: usize) -> Arc<Slot> {
        Slot::new(Block::allocate(bytes).unwrap(), SlotOwner::Pool, false)
    }

    #[test]
    fn the_one_returned_longest_ago_goes_first() {
        let mut pool = Pool::new(1024, 10);
        let slots: Vec<_> = [256, 512, 256, 256].map(slot).into();
        for slot in &slots[..3] {
            assert!(pool.put(slot.clone()).is_empty());
        }
        // 1024 bytes are idle; another 256 put the first one out.
        let evicted = pool.put(slots[3].clone());
        assert_eq!(evicted.len(), 1);
        assert!(Arc::ptr_eq(&evicted[0], &slots[0]));
        assert!(Arc::ptr_eq(&pool.take(256).unwrap(), &slots[3]), "the last one returned is taken first");
        assert!(Arc::ptr_eq(&pool.take(256).unwrap(), &slots[2]));
        assert!(pool.take(256).is_none());
        assert_eq!((pool.idle_bytes(), pool.idle_count()), (512, 1));
    }

    #[test]
    fn limits_are_kept() {
        let mut pool = Pool::new(10_000, 2);
        for _ in 0..5 {
            pool.put(slot(64));
        }
        assert_eq!((pool.idle_count(), pool.idle_bytes()), (2, 128));
        assert_eq!(pool.put(slot(16_384)).len(), 1, "larger than the cap");
        let mut evicted = Evicted::new();
        pool.shrink_to(0, &mut evicted);
        assert_eq!((evicted.len(), pool.idle_bytes()), (2, 0));
        assert!(pool.take(64).is_none());
    }
}
