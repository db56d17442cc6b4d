//! TL programs: recording them, and their access to the outside.

use std::path::{Path, PathBuf};
use std::process;
use std::time::Instant;

use tl_device::{Device, Trace};
use tl_lang::{Architecture, Host, Interpreter, Outcome, ProgramError, SourceText, WriteContents};
use tl_syntax::SourceMap;

use crate::output::{self, Stop, print_error};
use crate::progress::Progress;
use crate::sizes::Sizes;
use crate::sources::{self, main_file};
use crate::{files, interrupt, models, render};

/// A recorded run of a program.
pub(crate) struct Recorded {
    pub(crate) trace: Trace,
    pub(crate) exit_code: u8,
    /// The sizes given, and the sizes that the program requested.
    pub(crate) sizes: Sizes,
    /// The source texts that the trace's places refer to.
    pub(crate) sources: SourceMap,
}

/// Runs and records a program with these sizes; its output goes to `print`.
pub(crate) fn record(
    source: &SourceText,
    args: &[String],
    sizes: Sizes,
    device: &Device,
    print: Print,
) -> Result<Recorded, Stop> {
    let mut host = Terminal::new(args.to_vec(), sizes, device, print);
    device.start_trace();
    let result = Interpreter::with_host(device, &mut host).run_named(&source.name, &source.text);
    let is_run = result.is_ok();
    let (end, sources) = finish(result);
    let exit_code = match end {
        Ok(()) => 0,
        Err(Stop::Exit(code)) if is_run => code,
        Err(stop) => return Err(stop),
    };
    Ok(Recorded { trace: device.stop_trace(), exit_code, sizes: host.sizes, sources })
}

/// Compiles the script of an architecture.
pub(crate) fn architecture(file: &Path) -> Result<Architecture, Stop> {
    let source = main_file(file)?;
    let host = Box::new(Terminal::new(Vec::new(), Sizes::default(), &Device::cpu(), output::print));
    match Architecture::compile_with(&source.name, &source.text, host) {
        Ok(architecture) => Ok(architecture),
        Err(error) => match finish(Err(error)).0 {
            Err(stop) => Err(stop),
            Ok(()) => Err(Stop::Exit(1)),
        },
    }
}

/// Prints a program's final messages. Returns its result, and its source texts.
pub(crate) fn finish(result: Result<Outcome, ProgramError>) -> (Result<(), Stop>, SourceMap) {
    match result {
        Ok(outcome) => {
            render::print(&outcome.sources, &outcome.warnings, &[]);
            let end = match outcome.exit_code {
                0 => Ok(()),
                // The operating system keeps the lowest byte.
                code => Err(Stop::Exit(code as u8)),
            };
            (end, outcome.sources)
        }
        Err(error) => {
            render::print(&error.sources, &error.diagnostics, &error.calls);
            (Err(Stop::Exit(1)), error.sources)
        }
    }
}

/// Prints a program's output.
pub(crate) type Print = fn(&str) -> Result<(), Stop>;

/// As [`Print`], with a state of its own.
type PrintTo = Box<dyn FnMut(&str) -> Result<(), Stop> + Send>;

/// Called after each output of a program.
pub(crate) type AfterOutput = Box<dyn FnMut() -> Result<(), Stop> + Send>;

/// The outside: standard output, the file system, the environment, the clock.
pub(crate) struct Terminal {
    /// The device whose steps the outputs end.
    device: Device,
    args: Vec<String>,
    pub(crate) sizes: Sizes,
    start: Instant,
    print: PrintTo,
    /// Whether the last output did not end its line.
    pub(crate) is_in_line: bool,
    pub(crate) progress: Option<Progress>,
    /// The folder that pictures are written to; none: they are not.
    pub(crate) plots: Option<PathBuf>,
    /// The pictures that were drawn.
    pub(crate) plot_count: usize,
    /// Called after each output.
    pub(crate) after_output: Option<AfterOutput>,
    /// The most rounds of loops and calls.
    pub(crate) max_steps: Option<u64>,
}

impl Terminal {
    pub(crate) fn new(
        args: Vec<String>,
        sizes: Sizes,
        device: &Device,
        print: impl FnMut(&str) -> Result<(), Stop> + Send + 'static,
    ) -> Terminal {
        Terminal {
            device: device.clone(),
            args,
            sizes,
            start: Instant::now(),
            print: Box::new(print),
            is_in_line: false,
            progress: None,
            plots: None,
            plot_count: 0,
            after_output: None,
            max_steps: None,
        }
    }
}

impl Host for Terminal {
    fn print(&mut self, text: &str) {
        // A failed output ends the process: the interpreter cannot be stopped from here.
        let printed = (self.print)(text);
        self.is_in_line = !text.is_empty() && !text.ends_with('\n');
        self.device.end_step();
        let told = printed.and_then(|()| self.after_output.as_mut().map_or(Ok(()), |after| after()));
        let Err(stop) = told else { return };
        drop(self.progress.take());
        match stop {
            Stop::Failed(message) => {
                print_error(&format!("error: {message}"));
                process::exit(1);
            }
            Stop::Closed | Stop::Exit(_) => process::exit(0),
        }
    }

    fn read_source(&mut self, path: &str, importer: &str) -> Result<SourceText, String> {
        let folder = Path::new(importer).parent().unwrap_or(Path::new(""));
        sources::read(&folder.join(path))
    }

    fn open_path(&mut self, path: &str) -> Result<PathBuf, String> {
        models::resolve(Path::new(path)).map_err(|stop| match stop {
            Stop::Failed(problem) => problem,
            Stop::Closed | Stop::Exit(_) => "it cannot be found".to_owned(),
        })
    }

    fn file_path(&mut self, path: &str) -> Result<PathBuf, String> {
        let file = Path::new(path);
        match file.metadata() {
            Ok(metadata) if metadata.is_file() => Ok(file.to_owned()),
            Ok(_) => Err("this is no plain file".to_owned()),
            Err(error) => Err(files::missing(file, &error)),
        }
    }

    fn write_file(&mut self, path: &str, write: WriteContents<'_>) -> Result<(), String> {
        files::write_program_file(Path::new(path), write).map_err(|error| error.to_string())
    }

    fn args(&mut self) -> Vec<String> {
        self.args.clone()
    }

    fn plot(&mut self, svg: &str) -> Result<(), String> {
        self.plot_count += 1;
        let Some(folder) = &self.plots else { return Ok(()) };
        let path = folder.join(format!("plot-{}.svg", self.plot_count));
        files::write(&path, |file| file.write_all(svg.as_bytes())).map_err(|stop| match stop {
            Stop::Failed(problem) => problem,
            Stop::Closed | Stop::Exit(_) => format!("{} cannot be written", path.display()),
        })
    }

    fn size(&mut self, name: &str, default: i64) -> Option<i64> {
        self.sizes.ask(name, default)
    }

    fn env(&mut self, name: &str) -> Option<String> {
        // The standard library panics on names that no variable can have.
        let is_possible = !name.is_empty() && !name.contains(['=', '\0']);
        is_possible.then(|| std::env::var(name).ok()).flatten()
    }

    fn time_ms(&mut self) -> f64 {
        self.start.elapsed().as_secs_f64() * 1000.0
    }

    fn max_steps(&mut self) -> Option<u64> {
        self.max_steps
    }

    fn interrupted(&mut self) -> Option<i32> {
        interrupt::is_asked().then(|| interrupt::exit_code().into())
    }
}
