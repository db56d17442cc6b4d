//! Threads with stacks on which programs are checked and run.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use tl_syntax::{Diagnostic, SourceMap, Span};

use crate::error::ProgramError;

/// Stack sizes for the thread on which a program is checked and run; the first that fits the address space is taken, and only
/// its used part takes memory. The last is enough for whatever the parser lets through; the size bounds a program's recursion.
pub(crate) const STACK_BYTES: [usize; 3] = [256 << 20, 64 << 20, SMALL_STACK_BYTES];

/// A stack on which any program can be checked.
pub(crate) const SMALL_STACK_BYTES: usize = 16 << 20;

/// Address space that a thread takes beside its stack before it runs.
const THREAD_BYTES: usize = 1 << 20;

/// The size of the stack that the C library keeps for the next thread: that of the last thread here that ended.
static CACHED_STACK_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The address that this thread's stack must not pass; 0 if nothing runs.
    static END: Cell<usize> = const { Cell::new(0) };
}

/// While it lives, [`has_room`] bounds the recursion of its thread.
pub(crate) struct StackBound {
    /// The bound before.
    outer: usize,
}

impl StackBound {
    /// A bound for a thread of whose stack so many bytes are left. A quarter is for what recurses without asking.
    pub(crate) fn new(bytes: usize) -> StackBound {
        StackBound { outer: END.replace(address().saturating_sub(bytes / 4 * 3)) }
    }
}

impl Drop for StackBound {
    fn drop(&mut self) {
        END.set(self.outer);
    }
}

/// Whether a recursion over a program's calls or values may go deeper.
#[inline]
pub(crate) fn has_room() -> bool {
    address() >= END.get()
}

/// The address that the thread's stack has reached.
#[inline(never)]
fn address() -> usize {
    let here = 0_u8;
    std::ptr::from_ref(&here).addr()
}

/// Runs `work` on a thread with the first of these stacks that the system gives, and passes it that stack's size. Checker and
/// evaluator follow a program's nesting by recursion.
pub(crate) fn run_on_stack<T: Send>(
    stack_bytes: &[usize],
    work: &mut (dyn FnMut(usize) -> Result<T, ProgramError> + Send),
) -> Result<T, ProgramError> {
    let mut refused = (0, std::io::ErrorKind::InvalidInput.into());
    for &bytes in stack_bytes {
        let is_cached = bytes <= CACHED_STACK_BYTES.load(Ordering::Relaxed);
        let wanted = if is_cached { THREAD_BYTES } else { bytes.saturating_add(THREAD_BYTES) };
        if !tl_device::has_address_space(wanted) {
            refused = (bytes, std::io::ErrorKind::OutOfMemory.into());
            continue;
        }
        let result = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name("tl-program".into()).stack_size(bytes);
            let running = thread.spawn_scoped(scope, || work(bytes))?;
            Ok(running.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        match result {
            Ok(result) => {
                CACHED_STACK_BYTES.store(bytes, Ordering::Relaxed);
                return result;
            }
            Err(error) => refused = (bytes, error),
        }
    }
    let (bytes, error): (usize, std::io::Error) = refused;
    let message = format!(
        "the program needs a thread with a stack of {}, which the system does not give: {error}; raise its limits of memory \
         or of threads",
        tl_device::bytes(bytes as u64)
    );
    Err(ProgramError::before_run(vec![Diagnostic::error(Span::default(), message)], SourceMap::new()))
}
