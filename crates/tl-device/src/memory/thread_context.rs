//! The context of a thread: the admission that it has entered, and its place in the program.

use std::cell::Cell;

/// The admission that serves a thread's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The address of the admission's memory.
    pub(crate) memory: usize,
    /// The admission's index in that memory.
    pub(crate) at: usize,
    /// Its set of threads; `None`: the device's.
    pub(crate) threads: Option<usize>,
}

thread_local! {
    static ENTERED: Cell<Option<Entry>> = const { Cell::new(None) };
    /// The place in the program of this thread, for traces and errors; 0: none.
    static LOCATION: Cell<u64> = const { Cell::new(0) };
}

/// The admission entered by the thread, if it belongs to the memory at this address.
#[inline]
pub(crate) fn entered(memory: usize) -> Option<Entry> {
    ENTERED.get().filter(|entry| entry.memory == memory)
}

/// Sets the thread's admission, or none. Returns the former one.
pub(crate) fn enter(entry: Option<Entry>) -> Option<Entry> {
    ENTERED.replace(entry)
}

pub(crate) fn set_location(location: u64) {
    LOCATION.set(location);
}

pub(crate) fn location() -> u64 {
    LOCATION.get()
}
