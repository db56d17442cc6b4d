//! Atomics and the lock of the crate: the handle count of a slot, and mutual exclusion for a device's books.
//!
//! For `loom`, a checker that explores all interleavings of threads, this module uses loom's atomics; the protocols are
//! the same lines of code either way.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// The number of handles on a slot. The last one to be dropped returns it.
pub(crate) struct HandleCount(AtomicUsize);

impl HandleCount {
    /// No handle.
    pub(crate) fn none() -> HandleCount {
        HandleCount(AtomicUsize::new(0))
    }

    /// Sets the count for the first handle. The caller has just received the slot from its owner.
    pub(crate) fn first(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// Counts a cloned handle. Relaxed suffices: the handle being cloned keeps the slot from its owner.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the caller's handle is the only one.
    pub(crate) fn is_one(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// Drops the caller's handle. Returns whether it was the last.
    ///
    /// A handle that finds itself alone stays alone, since only a handle can be cloned: it need not count down. Release
    /// and acquire: all reads through other handles happen before the slot is written again.
    pub(crate) fn is_last(&self) -> bool {
        if !self.is_one() {
            if self.0.fetch_sub(1, Ordering::Release) != 1 {
                return false;
            }
            fence(Ordering::Acquire);
        }
        true
    }
}

/// A lock for critical sections of a few dozen instructions.
///
/// Locking is one atomic exchange, and unlocking a plain store, where a lock that wakes its waiters needs a second
/// exchange. So waiters are not woken: they poll, first at once, then after yielding to other threads, then after ever
/// longer sleeps of at most a millisecond. This lets a suspended holder run, whatever its priority.
pub(crate) struct Lock<T> {
    is_held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and one guard exists at a time; so it moves between threads, and
// is never shared.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    pub(crate) fn new(value: T) -> Lock<T> {
        Lock { is_held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, T> {
        if !self.try_hold() {
            self.wait();
        }
        Guard { lock: self }
    }

    #[inline]
    fn try_hold(&self) -> bool {
        self.is_held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Waits until the caller holds the lock.
    #[cold]
    fn wait(&self) {
        let mut round = 0;
        loop {
            pause(round);
            round += 1;
            // Checking first keeps the waiters from taking the cache line from the holder.
            if !self.is_held.load(Ordering::Relaxed) && self.try_hold() {
                return;
            }
        }
    }
}

/// Waits between polls, longer with each round.
#[cfg(not(loom))]
fn pause(round: u32) {
    match round {
        // About as long as the lock is held.
        // Much longer than the lock is held, so that the holder takes and returns several times meanwhile: a lock that
        // changes cores with every use costs more than the wait.
        0..4 => (0..64 << round).for_each(|_| std::hint::spin_loop()),
        4..20 => std::thread::yield_now(),
        _ => std::thread::sleep(std::time::Duration::from_micros(10 << (round - 20).min(6))),
    }
}

#[cfg(loom)]
fn pause(_round: u32) {
    loom::thread::yield_now();
}

/// Exclusive access to a lock's value, until dropped.
pub(crate) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: the lock is this guard's, so there is no other access.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: as above, and `&mut self` makes this the only reference.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    fn drop(&mut self) {
        self.lock.is_held.store(false, Ordering::Release);
    }
}
