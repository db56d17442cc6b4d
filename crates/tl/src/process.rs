//! The process itself: it counts its heap, ends with a message when an allocation fails, and on request has its address
//! space limited by the operating system.
//!
//! The one place in this program with `unsafe`.
#![allow(unsafe_code)]

use std::io::Write;

use tl_device::heap::{self, CountedHeap};

use crate::output::Stop;

#[global_allocator]
static HEAP: CountedHeap = CountedHeap;

/// Bytes by which heap and devices may exceed a limit before the allocator refuses: errors with figures come first.
const SPARE_BYTES: usize = 1 << 20;

/// Minimum heap under any limit: the message that a model does not fit needs its tokenizer.
const LEAST_BYTES: usize = 64 << 20;

/// Makes a failing allocation end the process with one message and exit code 1.
pub(crate) fn watch_heap() {
    heap::on_failure(end);
}

/// Maximum depth of the first thread's stack, which holds tiles of kernels.
const FIRST_STACK_BYTES: usize = 512 << 10;

/// Touches the first thread's stack, which grows on use: if the address space is full by then, the system ends the
/// process without a message.
#[inline(never)]
pub(crate) fn take_first_stack() {
    std::hint::black_box(&mut [0u8; FIRST_STACK_BYTES]);
}

/// Limits the sum of the heap and the CPU devices.
pub(crate) fn limit_heap(limit: Option<usize>) {
    heap::set_limit(limit.map_or(usize::MAX, |bytes| bytes.saturating_add(SPARE_BYTES).max(LEAST_BYTES)));
}

/// Reports the failed request, without allocating, and ends the process.
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

/// Spare address space under `--enforce`: fragments of the heap, and the pages of its own structures.
pub(crate) const ENFORCED_SPARE_BYTES: u64 = 1 << 20;

/// Address space of a thread's stack, with Rust's default.
const STACK_BYTES: u64 = (2 << 20) + GUARD_BYTES as u64;

/// The guard page of a stack.
const GUARD_BYTES: usize = 4096;

/// Threads that read a tokenizer in parallel, besides the first, and the thread for signals.
const PASSING_THREADS: u64 = 4;

/// Address space of a process that a limit does not count.
#[derive(Clone, Copy)]
pub(crate) struct Base {
    /// The program, its libraries, the first stack, and the C library's first allocations.
    pub(crate) code_bytes: u64,
    /// Stacks of the threads to come.
    pub(crate) stack_bytes: u64,
}

impl Base {
    /// The current values, before threads and models; `None` if the system does not report them. `program_stack` is the
    /// stack of a script.
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

/// Uses one heap for all threads and returns large blocks to the system at once, so that the system's count follows the
/// program's.
pub(crate) fn keep_heap_tight() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets options of the C library's allocator, before other threads exist.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_MMAP_THRESHOLD, 64 << 10);
    }
}

/// Limits the process's address space to `limit` and what it has beside it. Returns that sum.
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

/// Makes a mapped file that becomes shorter while in use end the process with a message and exit code 1, instead of a
/// signal.
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

/// A signal has its default action from here on.
#[cfg(unix)]
pub(crate) fn restore_default_action(signal: i32) {
    // SAFETY: sets an action that is the system's own.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}
