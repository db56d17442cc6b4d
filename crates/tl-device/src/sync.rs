//! The atomics and the lock that the crate's threads meet at: how handles on a slot are counted, and who may change a
//! device's books.
//!
//! A checker that plays all interleavings of threads (`loom`) builds the crate with its own atomics in this module; the
//! protocols are the same lines of code either way.
#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};

#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

/// How many handles there are on something. The one that goes last gives it back.
pub(crate) struct HandleCount(AtomicUsize);

impl HandleCount {
    /// No handle.
    pub(crate) fn none() -> HandleCount {
        HandleCount(AtomicUsize::new(0))
    }

    /// The first handle is made. Whoever calls this has just been given the thing by its owner.
    pub(crate) fn first(&self) {
        self.0.store(1, Ordering::Relaxed);
    }

    /// A handle is cloned. Relaxed suffices: the handle that is cloned keeps the thing out of its owner's hands.
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the caller's handle is the only one.
    pub(crate) fn is_one(&self) -> bool {
        self.0.load(Ordering::Acquire) == 1
    }

    /// The caller's handle goes. Whether it was the last.
    ///
    /// A handle that finds itself alone stays alone, since only a handle can be cloned: it need not count down. Release and
    /// acquire: whatever other threads read through theirs happens before the thing is written again.
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
/// Locking is one atomic exchange, and unlocking a plain store, where a lock that wakes its waiters pays a second exchange.
/// So nobody is woken: whoever waits looks again, first at once, then after other threads have run, then after sleeping
/// for ever longer, at most a millisecond. A holder that the system has suspended is thus let run, whatever its priority.
pub(crate) struct Lock<T> {
    is_held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached only through a guard, and one guard exists at a time; so it moves between threads, and is
// never shared.
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

    /// Returns when the lock is the caller's.
    #[cold]
    fn wait(&self) {
        let mut round = 0;
        loop {
            pause(round);
            round += 1;
            // Looking first keeps the waiters from taking the cache line from the holder.
            if !self.is_held.load(Ordering::Relaxed) && self.try_hold() {
                return;
            }
        }
    }
}

/// Lets time pass, the more the longer this has been going on.
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

/// The right to use what a lock guards, until dropped.
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
