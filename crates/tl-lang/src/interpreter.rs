//! Parse, check, run: the way from a program's text to its outcome.

use tl_device::Device;
use tl_syntax::ast::Item;
use tl_syntax::{Diagnostic, FileId, SourceMap, parse};

use crate::check::{CheckOptions, Checked, Part};
use crate::compile::compile;
use crate::error::ProgramError;
use crate::eval::{self, Environment};
use crate::host::{CapturedHost, Host};
use crate::model::open_model;
use crate::stack::{STACK_BYTES, run_on_stack};

/// Runs TL programs on a device.
///
/// ```
/// use tl_device::Device;
/// use tl_lang::Interpreter;
/// let device = Device::cpu();
/// let outcome = Interpreter::new(&device).run("let x = ones([2, 2]) * 3\nprint(sum(x))")?;
/// assert_eq!(outcome.output, "12.0\n");
/// # Ok::<(), tl_lang::ProgramError>(())
/// ```
pub struct Interpreter<'h> {
    device: Device,
    host: ProgramHost<'h>,
    options: CheckOptions,
}

/// Where the programs print to and read from.
enum ProgramHost<'h> {
    Captured(Box<CapturedHost>),
    Borrowed(&'h mut dyn Host),
}

/// The result of a program that ran to its end, or was checked without errors.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What it printed, if the interpreter captures it.
    pub output: String,
    /// 0, or what the program gave to `exit`.
    pub exit_code: i32,
    /// Whether it ended itself with `exit`.
    pub ended_itself: bool,
    /// The checker's warnings.
    pub warnings: Vec<Diagnostic>,
    /// The source files of the warnings.
    pub sources: SourceMap,
}

/// The names of the tests in a program's text, in their order.
pub fn tests_of(source: &str) -> Vec<String> {
    let items = parse(FileId::default(), source).tree.items;
    let names = items.iter().filter_map(|item| match item {
        Item::Test(test) => Some(test.name.text.to_string()),
        _ => None,
    });
    names.collect()
}

impl Interpreter<'static> {
    /// An interpreter that captures what programs print in their outcome, without files to import.
    pub fn new(device: &Device) -> Interpreter<'static> {
        Interpreter {
            device: device.clone(),
            host: ProgramHost::Captured(Box::default()),
            options: CheckOptions::default(),
        }
    }

    /// As [`Interpreter::new`], with the files, arguments and environment that `host` holds.
    pub fn with_captured(device: &Device, host: CapturedHost) -> Interpreter<'static> {
        Interpreter {
            device: device.clone(),
            host: ProgramHost::Captured(Box::new(host)),
            options: CheckOptions::default(),
        }
    }
}

impl<'h> Interpreter<'h> {
    /// The stack of the thread that a program runs on, if the address space has room; only its used part takes memory.
    pub const STACK_BYTES: usize = STACK_BYTES[0];

    /// An interpreter whose programs print to, and read from, this host.
    pub fn with_host(device: &Device, host: &'h mut dyn Host) -> Interpreter<'h> {
        Interpreter { device: device.clone(), host: ProgramHost::Borrowed(host), options: CheckOptions::default() }
    }

    /// Leaves errors in shapes to the running program: then it can be seen whether they happen.
    #[doc(hidden)]
    pub fn leave_shapes_to_run(&mut self) {
        self.options.leaves_shapes = true;
    }

    /// Checks programs with the weights of this model: it is what they load, and what functions with a parameter of type `Model`
    /// are given.
    pub fn check_with_model(&mut self, model: &tl_model::Weights) {
        self.options.model = Some(model.clone());
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
        self.check_and_run(name, source, Part::Main, true)
    }

    /// Checks and runs the test of this index (in the order of [`tests_of`]): the file's top level without its `main`, then
    /// the test's block.
    ///
    /// # Errors
    /// As for [`Interpreter::run`].
    pub fn run_test(&mut self, name: &str, source: &str, index: usize) -> Result<Outcome, ProgramError> {
        self.check_and_run(name, source, Part::Test(index), true)
    }

    /// Checks a program, with its tests, without running it.
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
        self.check_and_run(name, source, Part::Whole, false)
    }

    fn check_and_run(&mut self, name: &str, source: &str, part: Part, runs: bool) -> Result<Outcome, ProgramError> {
        let device = self.device.clone();
        let host: &mut dyn Host = match &mut self.host {
            ProgramHost::Captured(host) => {
                host.output.clear();
                &mut **host
            }
            ProgramHost::Borrowed(host) => &mut **host,
        };
        let options = CheckOptions { part, ..self.options.clone() };
        let mut work =
            |stack_bytes| execute(&device, &mut *host, (name, source), &options, runs.then_some(stack_bytes));
        let result = run_on_stack(&STACK_BYTES, &mut work);
        let output = match &mut self.host {
            ProgramHost::Captured(host) => std::mem::take(&mut host.output),
            ProgramHost::Borrowed(_) => String::new(),
        };
        match result {
            Ok(outcome) => Ok(Outcome { output, ..outcome }),
            Err(error) => Err(ProgramError { output, ..error }),
        }
    }
}

/// Checks a program, and runs it if `stack_bytes` is given.
fn execute(
    device: &Device,
    host: &mut dyn Host,
    (name, source): (&str, &str),
    options: &CheckOptions,
    stack_bytes: Option<usize>,
) -> Result<Outcome, ProgramError> {
    let mut sources = SourceMap::new();
    let Checked { program, diagnostics } = compile(name, source, options, host, &mut sources);
    let Some(program) = program else { return Err(ProgramError::before_run(diagnostics, sources)) };
    let exit_code = match stack_bytes {
        None => None,
        Some(stack_bytes) => match eval::run(&program, Environment { device, host, open_model }, stack_bytes) {
            Ok(exit_code) => exit_code,
            Err(error) => return Err(ProgramError::while_running(*error, sources)),
        },
    };
    let ended_itself = exit_code.is_some();
    let exit_code = exit_code.unwrap_or(0);
    Ok(Outcome { output: String::new(), exit_code, ended_itself, warnings: diagnostics, sources })
}
