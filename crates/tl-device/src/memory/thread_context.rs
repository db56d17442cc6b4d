//! What a thread runs for: the admission that it has entered, and the place in the program that it has come to.

use std::cell::Cell;

/// Where a thread's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The address of the memory that the admission is of.
    pub(crate) memory: usize,
    /// The admission's place among those of that memory.
    pub(crate) at: usize,
    /// Its set of threads; `None`: the device's.
    pub(crate) threads: Option<usize>,
}

thread_local! {
    static ENTERED: Cell<Option<Entry>> = const { Cell::new(None) };
    /// The place in the program that runs on this thread, for traces and errors; 0: none.
    static LOCATION: Cell<u64> = const { Cell::new(0) };
}

/// The admission that the thread has entered, if it is of the memory at this address.
#[inline]
pub(crate) fn entered(memory: usize) -> Option<Entry> {
    ENTERED.get().filter(|entry| entry.memory == memory)
}

/// Makes the thread run for an admission, or for none. Returns what it ran for.
pub(crate) fn enter(entry: Option<Entry>) -> Option<Entry> {
    ENTERED.replace(entry)
}

pub(crate) fn set_location(location: u64) {
    LOCATION.set(location);
}

pub(crate) fn location() -> u64 {
    LOCATION.get()
}
