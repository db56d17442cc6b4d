//! Parse, check, run: the way from a program's text to its outcome.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tl_device::Device;
use tl_syntax::{Diagnostic, FileId, SourceMap, Span};

use crate::check::{Checked, check};
use crate::eval::{self, End};
use crate::host::{CapturedHost, Host};

/// Stacks for the thread on which programs are checked and run, the first that the system has addresses for. Only what is
/// used of one takes memory. The last is enough for whatever the parser lets through; a program's recursion is bounded by
/// what there is.
const STACK_BYTES: [usize; 3] = [256 << 20, 64 << 20, SMALL_STACK_BYTES];

/// A stack on which any program can be checked.
pub(crate) const SMALL_STACK_BYTES: usize = 16 << 20;

/// Runs TL programs on a device.
///
/// ```
/// use tl_device::Device;
/// use tl_lang::Interpreter;
/// let device = Device::cpu();
/// let outcome = Interpreter::new(&device).run("let x = ones([2, 2]) * 3\nprint(sum(x))")?;
/// assert_eq!(outcome.output, "12.0 float16[]\n");
/// # Ok::<(), tl_lang::ProgramError>(())
/// ```
pub struct Interpreter<'h> {
    device: Device,
    host: Outside<'h>,
}

enum Outside<'h> {
    Captured(Box<CapturedHost>),
    Given(&'h mut dyn Host),
}

/// What a program that came to its end leaves.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it printed, where the interpreter has no host of the caller's.
    pub output: String,
    /// 0, or what the program gave to `exit`.
    pub exit_code: i32,
    /// What the checker doubted.
    pub warnings: Vec<Diagnostic>,
    /// The texts that the warnings' places are in.
    pub sources: SourceMap,
}

/// Why a program did not run, or not to its end.
#[derive(Clone, Debug)]
pub struct ProgramError {
    /// What was wrong; never empty.
    pub diagnostics: Vec<Diagnostic>,
    /// Which functions were running, innermost first, each with the place that it was called from.
    pub calls: Vec<(Arc<str>, Span)>,
    /// The texts that the places are in.
    pub sources: SourceMap,
    /// What was printed before, where the interpreter has no host of the caller's.
    pub output: String,
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.diagnostics.iter().enumerate() {
            let newline = if index == 0 { "" } else { "\n" };
            write!(f, "{newline}{}: {}", self.sources.describe(diagnostic.span()), diagnostic.message)?;
            for hint in &diagnostic.hints {
                write!(f, " ({hint})")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for ProgramError {}

impl Interpreter<'static> {
    /// An interpreter without an outside: what programs print is in their outcome, and they have no files to import.
    pub fn new(device: &Device) -> Interpreter<'static> {
        Interpreter { device: device.clone(), host: Outside::Captured(Box::default()) }
    }

    /// As [`Interpreter::new`], with the files, arguments and environment that `host` holds.
    pub fn with_captured(device: &Device, host: CapturedHost) -> Interpreter<'static> {
        Interpreter { device: device.clone(), host: Outside::Captured(Box::new(host)) }
    }
}

impl<'h> Interpreter<'h> {
    /// The stack of the thread that a program runs on, where the system has the addresses: of it only what is used takes memory.
    pub const STACK_BYTES: usize = STACK_BYTES[0];

    /// An interpreter whose programs print to, and read from, this host.
    pub fn with_host(device: &Device, host: &'h mut dyn Host) -> Interpreter<'h> {
        Interpreter { device: device.clone(), host: Outside::Given(host) }
    }

    /// Checks and runs a program.
    ///
    /// # Errors
    /// Everything that the checker found wrong, or the first thing that went wrong while it ran.
    pub fn run(&mut self, source: &str) -> Result<Outcome, ProgramError> {
        self.run_named("program.tl", source)
    }

    /// As [`Interpreter::run`], under the name that messages show and that imports are relative to.
    ///
    /// # Errors
    /// As for [`Interpreter::run`].
    pub fn run_named(&mut self, name: &str, source: &str) -> Result<Outcome, ProgramError> {
        self.go(name, source, true)
    }

    /// Checks a program without running it.
    ///
    /// # Errors
    /// Everything that the checker found wrong.
    pub fn check(&mut self, source: &str) -> Result<Outcome, ProgramError> {
        self.check_named("program.tl", source)
    }

    /// As [`Interpreter::check`], under the name that messages show and that imports are relative to.
    ///
    /// # Errors
    /// As for [`Interpreter::check`].
    pub fn check_named(&mut self, name: &str, source: &str) -> Result<Outcome, ProgramError> {
        self.go(name, source, false)
    }

    fn go(&mut self, name: &str, source: &str, runs: bool) -> Result<Outcome, ProgramError> {
        let device = self.device.clone();
        let host: &mut dyn Host = match &mut self.host {
            Outside::Captured(host) => {
                host.output.clear();
                &mut **host
            }
            Outside::Given(host) => &mut **host,
        };
        let mut runner = |stack_bytes| whole(&device, &mut *host, name, source, runs.then_some(stack_bytes));
        let result = on_stack(&STACK_BYTES, &mut runner);
        let output = match &mut self.host {
            Outside::Captured(host) => std::mem::take(&mut host.output),
            Outside::Given(_) => String::new(),
        };
        match result {
            Ok(outcome) => Ok(Outcome { output, ..outcome }),
            Err(error) => Err(ProgramError { output, ..error }),
        }
    }
}

/// What a thread takes of the address space beside its stack before it runs.
const THREAD_BYTES: usize = 1 << 20;

/// The stack of the last of these threads that has ended: the C library keeps it for the next.
static KEPT_STACK: AtomicUsize = AtomicUsize::new(0);

/// Programs may nest deeply, and both passes follow them by recursion: they get a thread with the first of these stacks that
/// can be had, and are told how large it is.
pub(crate) fn on_stack<T: Send>(
    stack_bytes: &[usize],
    work: &mut (dyn FnMut(usize) -> Result<T, ProgramError> + Send),
) -> Result<T, ProgramError> {
    let mut refused = (0, std::io::ErrorKind::InvalidInput.into());
    for &bytes in stack_bytes {
        let is_kept = bytes <= KEPT_STACK.load(Ordering::Relaxed);
        let wanted = if is_kept { THREAD_BYTES } else { bytes.saturating_add(THREAD_BYTES) };
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
                KEPT_STACK.store(bytes, Ordering::Relaxed);
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
    Err(ProgramError {
        diagnostics: vec![Diagnostic::error(Span::default(), message)],
        calls: Vec::new(),
        sources: SourceMap::new(),
        output: String::new(),
    })
}

/// Checks a program, and runs it where a stack is given for that.
fn whole(
    device: &Device,
    host: &mut dyn Host,
    name: &str,
    source: &str,
    stack_bytes: Option<usize>,
) -> Result<Outcome, ProgramError> {
    let mut sources = SourceMap::new();
    let Checked { program, diagnostics } = check(name, source, host, &mut sources);
    let fail = |diagnostics, calls, sources| ProgramError { diagnostics, calls, sources, output: String::new() };
    let Some(program) = program else { return Err(fail(diagnostics, Vec::new(), sources)) };
    let exit_code = match stack_bytes.map(|stack_bytes| eval::run(&program, device, host, stack_bytes)) {
        None | Some(End::Done) => 0,
        Some(End::Exit(code)) => code,
        Some(End::Failed(error)) => return Err(fail(vec![error.diagnostic], error.calls, sources)),
    };
    Ok(Outcome { output: String::new(), exit_code, warnings: diagnostics, sources })
}

/// A place in a program as the number that a device writes into traces and errors: the file in the high half, the byte in
/// the low one.
pub(crate) fn location(span: Span) -> u64 {
    u64::from(span.file.0) << 32 | u64::from(span.start)
}

/// The place that a number in a trace or an error means: the reverse of what the interpreter gives the device.
pub fn span_of_location(location: u64) -> Span {
    let start = location as u32;
    Span { file: FileId((location >> 32) as u32), start, end: start }
}
