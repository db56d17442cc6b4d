//! The process itself: its heap is counted, it ends with a message where that has no memory left, and on request the
//! operating system is told not to give it more than was said.
//!
//! The one place in this program with `unsafe`.
#![allow(unsafe_code)]

use std::io::Write;

use tl_device::heap::{self, CountedHeap};

use crate::output::Stop;

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

/// What heap and devices may pass a limit by before the allocator itself refuses: errors with figures come first.
const SPARE_BYTES: usize = 1 << 20;

/// What the allocator gives under any limit: to say that a model does not fit, its tokenizer is read.
const LEAST_BYTES: usize = 64 << 20;

/// From here on, a failing allocation ends the process with one message and exit code 1.
pub(crate) fn watch_heap() {
    heap::on_failure(end);
}

/// How deep the first thread's stack may become. Kernels have tiles there.
const FIRST_STACK_BYTES: usize = 512 << 10;

/// Takes the first thread's stack, which grows as it is used: where the address space is full by then, the system ends the process
/// without a word.
#[inline(never)]
pub(crate) fn take_first_stack() {
    std::hint::black_box(&mut [0u8; FIRST_STACK_BYTES]);
}

/// Heap and CPU devices together stay within this limit, whatever asks for memory.
pub(crate) fn limit_heap(limit: Option<usize>) {
    heap::set_limit(limit.map_or(usize::MAX, |bytes| bytes.saturating_add(SPARE_BYTES).max(LEAST_BYTES)));
}

/// Tells which request could not be served, without allocating, and ends the process.
fn end(bytes: usize) -> ! {
    let mut text = [0; 256];
    let mut rest = &mut text[..];
    let held = heap::bytes();
    let _ = writeln!(
        rest,
        "error: out of memory: {bytes} bytes more cannot be had beside the {held} that the program has on the heap; raise \
         --memory-limit or the system's limits"
    );
    let left = rest.len();
    let written = text.len() - left;
    write_error(&text[..written]);
    exit()
}

#[cfg(unix)]
fn write_error(text: &[u8]) {
    // SAFETY: the bytes are there for the length that is given.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
}

#[cfg(not(unix))]
fn write_error(text: &[u8]) {
    let _ = std::io::stderr().write_all(text);
}

#[cfg(unix)]
fn exit() -> ! {
    // SAFETY: ends the process without running anything else of it, which could allocate.
    unsafe { libc::_exit(1) }
}

#[cfg(not(unix))]
fn exit() -> ! {
    std::process::exit(1)
}

/// What the operating system is told to keep the process within, beside the limit itself: how much of it fragments of
/// the heap may take, and the pages that its own structures are in.
pub(crate) const ENFORCED_SPARE_BYTES: u64 = 1 << 20;

/// What a thread's stack takes of the address space, with Rust's default.
const STACK_BYTES: u64 = (2 << 20) + GUARD_BYTES as u64;

/// The guard page of a stack.
const GUARD_BYTES: usize = 4096;

/// Threads that read a tokenizer at the same time, beside the first, and the one that a terminal's signals come to.
const PASSING_THREADS: u64 = 4;

/// What a process takes of the address space beside what a limit counts.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    /// The program, its libraries, the first stack, and what the C library began with.
    pub(crate) code_bytes: u64,
    /// Stacks of the threads that come.
    pub(crate) stack_bytes: u64,
}

impl Base {
    /// As it is now, before threads and models; `None` where the system does not tell. `program_stack` is the stack of
    /// a script.
    pub(crate) fn now(threads: usize, program_stack: usize) -> Option<Base> {
        let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = statm.split_whitespace().next()?.parse().ok()?;
        let own = heap::bytes() as u64;
        Some(Base {
            code_bytes: (pages * page_bytes()).saturating_sub(own),
            stack_bytes: (threads as u64 - 1 + PASSING_THREADS) * STACK_BYTES + (program_stack + GUARD_BYTES) as u64,
        })
    }

    pub(crate) fn bytes(self) -> u64 {
        self.code_bytes + self.stack_bytes
    }
}

#[cfg(unix)]
fn page_bytes() -> u64 {
    // SAFETY: asks for a number.
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as u64 }
}

#[cfg(not(unix))]
fn page_bytes() -> u64 {
    4096
}

/// One heap for all threads, from which large blocks go back to the system at once: what the system counts then follows
/// what the program has.
pub(crate) fn keep_heap_tight() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets options of the C library's allocator, before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

/// From here on, the operating system gives the process no address space beyond `limit` and what it has beside it.
/// Gives that sum.
pub(crate) fn enforce(limit: usize, base: Option<Base>) -> Result<u64, Stop> {
    let base = base.ok_or_else(|| {
        Stop::Failed("--enforce needs Linux: this system does not tell how large a process is; leave it out".to_owned())
    })?;
    let sum = (limit as u64).saturating_add(base.bytes()).saturating_add(ENFORCED_SPARE_BYTES);
    set_address_space(sum)?;
    Ok(sum)
}

#[cfg(target_os = "linux")]
fn set_address_space(bytes: u64) -> Result<(), Stop> {
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes into a struct of its own.
    unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut now) };
    let bytes = bytes.min(now.rlim_max);
    let wanted = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: reads a struct.
    match unsafe { libc::setrlimit(libc::RLIMIT_AS, &wanted) } {
        0 => Ok(()),
        _ => Err(Stop::Failed(format!("--enforce: {}", std::io::Error::last_os_error()))),
    }
}

#[cfg(not(target_os = "linux"))]
fn set_address_space(_bytes: u64) -> Result<(), Stop> {
    Err(Stop::Failed("--enforce needs Linux".to_owned()))
}

/// From here on, a mapped file that becomes shorter while it is in use ends the process with a message and exit code 1, where
/// the system would end it with a signal.
pub(crate) fn watch_mapped_files() {
    #[cfg(unix)]
    // SAFETY: the handler only writes bytes and ends the process, which a handler may do.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = lost_page as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

#[cfg(unix)]
extern "C" fn lost_page(_signal: libc::c_int) {
    write_error(
        b"\nerror: a file that is mapped became shorter, or its disk failed, while it was in use; leave model files as \
          they are while they are used, or read them into memory with --no-mmap\n",
    );
    exit()
}
