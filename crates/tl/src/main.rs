//! The program `tl`: arguments, commands, rendering. Alone in reading the environment and the terminal.
//!
//! Exit codes: 0 done, 1 bad input (one message on standard error), 2 wrong usage, or what a program gives `exit`.

mod arguments;
mod generate;
mod info;
mod output;
mod plan;
mod plan_script;
mod progress;
mod render;
mod report;
mod reservations;
mod script;
mod size;
mod statistics;
mod synth;

use std::process::ExitCode;

use clap::Parser;
use tl_device::{Device, DeviceOptions};

use arguments::{Arguments, Command, DeviceArguments};
use output::{Stop, print_error};

fn main() -> ExitCode {
    let arguments = Arguments::parse_from(arguments::join_memory_stats(std::env::args_os()));
    let result = match arguments.command {
        Command::Run(run) => script::run(&run),
        Command::Check { file } => script::check(&file),
        Command::Generate(generate) => generate::run(&generate),
        Command::Plan(plan) if plan.is_script() => plan_script::run(&plan),
        Command::Plan(plan) => plan::run(&plan),
        Command::Synth(synth) => synth::run(&synth),
        Command::Info { model } => info::run(&model),
    };
    match result {
        Ok(()) | Err(Stop::Closed) => ExitCode::SUCCESS,
        Err(Stop::Exit(code)) => ExitCode::from(code),
        Err(Stop::Failed(message)) => {
            print_error(&format!("error: {message}"));
            ExitCode::from(1)
        }
    }
}

/// The device of this run, made once and passed down.
fn device(arguments: &DeviceArguments) -> Result<Device, Stop> {
    const POOL_CAP: &str = "TL_BUFFER_MAX_MB";
    let mut options = DeviceOptions::default();
    if let Some(threads) = arguments.threads {
        options.threads = threads.into();
    }
    options.memory.limit_bytes = arguments.memory_limit;
    options.memory.soft_limit_bytes = arguments.soft_memory_limit;
    if let Some(value) = std::env::var_os(POOL_CAP) {
        let cap = value.to_str().and_then(|value| value.parse::<usize>().ok()).and_then(|mib| mib.checked_mul(1 << 20));
        let problem = || Stop::Failed(format!("{POOL_CAP} is {value:?}, expected a whole number of mebibytes"));
        options.memory.pool_max_bytes = cap.ok_or_else(problem)?;
    }
    Ok(Device::cpu_with(&options))
}
