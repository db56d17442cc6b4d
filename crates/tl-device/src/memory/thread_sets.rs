//! The sets of compute threads of a device: its own, and those of admissions.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::ReentrantMutex;
use tl_kernels::{Isa, Threads};

use super::thread_context::Entry;
use crate::heap;

/// Maximum number of sets beside the device's own.
const MAX_LENT: usize = 16;

/// Compute threads with their workspace.
pub(super) struct ThreadSet {
    pub(super) threads: Threads,
    /// The exclusion of the workspace from the heap count; set once it is taken and in the ledger.
    pub(super) workspace: OnceLock<heap::Excluded>,
    /// Locked while the workspace is taken.
    pub(super) turn: ReentrantMutex<()>,
}

impl ThreadSet {
    fn new(count: usize, isa: Isa) -> ThreadSet {
        let threads = Threads::with_isa(count.max(1), isa);
        ThreadSet { threads, workspace: OnceLock::new(), turn: ReentrantMutex::new(()) }
    }
}

/// A set of threads claimed by one admission at a time. It stays with the device once made.
#[derive(Default)]
struct LentThreads {
    set: OnceLock<ThreadSet>,
    is_claimed: AtomicBool,
}

pub(super) struct ThreadSets {
    own: ThreadSet,
    lent: [LentThreads; MAX_LENT],
}

impl ThreadSets {
    pub(super) fn new(count: usize, isa: Isa) -> ThreadSets {
        ThreadSets { own: ThreadSet::new(count, isa), lent: std::array::from_fn(|_| LentThreads::default()) }
    }

    /// The set of a thread with this entry.
    #[inline]
    pub(super) fn of(&self, entry: Option<Entry>) -> &ThreadSet {
        let lent = entry.and_then(|entry| self.lent.get(entry.threads?)?.set.get());
        lent.unwrap_or(&self.own)
    }

    /// The index of a set of `count` threads, until it is released; `None` if all are claimed.
    pub(super) fn claim(&self, count: usize) -> Option<usize> {
        self.lent.iter().position(|lent| {
            let is_as_large = |set: &ThreadSet| set.threads.count() == count.max(1);
            if lent.set.get().is_some_and(|set| !is_as_large(set)) || lent.is_claimed.swap(true, Ordering::Acquire) {
                return false;
            }
            if is_as_large(lent.set.get_or_init(|| ThreadSet::new(count, self.own.threads.isa()))) {
                return true;
            }
            lent.is_claimed.store(false, Ordering::Release);
            false
        })
    }

    pub(super) fn release(&self, number: usize) {
        if let Some(lent) = self.lent.get(number) {
            lent.is_claimed.store(false, Ordering::Release);
        }
    }
}
