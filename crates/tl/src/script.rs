//! `tl run`: a program, its reservations, and the reports at its end.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tl_lang::Interpreter;

use crate::arguments::RunArguments;
use crate::output::{self, Stop, print_error};
use crate::program::{Terminal, finish};
use crate::progress::Progress;
use crate::report::Recording;
use crate::reservations::Reservations;
use crate::sizes::Sizes;
use crate::sources::main_file;
use crate::{files, interrupt, statistics};

/// Checks and runs a program.
pub(crate) fn run(arguments: &RunArguments) -> Result<(), Stop> {
    let device = crate::device::open_for(&arguments.device, Interpreter::STACK_BYTES)?;
    let source = main_file(&arguments.file)?;
    let sizes = Sizes::of_run(arguments)?;
    let recording = Recording::start(&arguments.device, &device, "output")?;
    let mut host = Terminal::new(arguments.args.clone(), sizes, &device, output::print);
    host.max_steps = arguments.max_steps;
    let reservations = Arc::new(Mutex::new(Reservations::prepare(arguments, &source, &device)?));
    let watched = reservations.clone();
    host.after_output = Some(Box::new(move || lock(&watched).at_output()));
    if let Some(folder) = &arguments.plots {
        std::fs::create_dir_all(folder).map_err(|error| Stop::Failed(format!("{}: {error}", folder.display())))?;
        files::check_output(&folder.join("plot-1.svg"))?;
    }
    host.plots.clone_from(&arguments.plots);
    host.progress = Progress::start(&device);
    let orderly = interrupt::Orderly::new();
    let result = Interpreter::with_host(&device, &mut host).run_named(&source.name, &source.text);
    drop(host.progress.take());
    if interrupt::is_asked() && host.is_in_line {
        output::print("\n")?;
    }
    let (end, sources) = finish(result);
    lock(&reservations).tell();
    if host.plots.is_none() && host.plot_count > 0 {
        print_error("note: plots are not kept; --plots FOLDER writes them");
    }
    if end.is_ok() {
        host.sizes.unasked(&arguments.with).iter().for_each(|problem| print_error(&format!("warning: {problem}")));
    }
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    // The recording is useful also where the program failed.
    let recorded = recording.finish(&device, &source.name, &sources);
    drop(orderly);
    end.and(recorded)
}

fn lock(reservations: &Mutex<Reservations>) -> MutexGuard<'_, Reservations> {
    reservations.lock().unwrap_or_else(PoisonError::into_inner)
}
