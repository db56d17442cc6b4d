//! The program `tl`: arguments, commands, rendering. Only this crate reads the environment and the terminal.
//!
//! Exit codes: 0 success, 1 bad input (one message on standard error), 2 wrong usage, or the code of a program's
//! `exit`.

mod arch;
mod arena;
mod arguments;
mod bench;
mod chat;
mod check;
mod completions;
mod device;
mod device_choice;
mod devices;
mod doc;
mod explain;
mod files;
mod fmt;
mod generate;
#[cfg(feature = "grammar")]
mod grammar;
mod info;
mod interrupt;
mod junit;
mod loading;
mod logits;
mod lsp;
mod memory_lock;
mod models;
mod output;
mod perplexity;
mod plan;
mod plan_output;
mod plan_script;
mod plan_sizes;
mod process;
mod program;
mod progress;
mod quantize;
mod render;
mod repl;
mod repl_input;
mod report;
mod reservations;
mod script;
mod serve;
mod serve_plan;
mod size;
mod sizes;
mod source_arguments;
mod sources;
mod statistics;
mod synth;
mod table;
mod test;

use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
use output::{Stop, print_error};

fn main() -> ExitCode {
    process::watch_heap();
    process::take_first_stack();
    process::watch_mapped_files();
    interrupt::listen();
    let arguments = Arguments::parse_from(arguments::prepare(std::env::args_os()));
    let result = match arguments.command {
        Command::Run(run) => script::run(&run),
        Command::Check(check) => check::run(&check),
        Command::Fmt(fmt) => fmt::run(&fmt),
        Command::Test(test) => test::run(&test),
        Command::Doc { what } => doc::run(what.as_deref()),
        Command::Explain { code } => explain::run(code.as_deref()),
        Command::Lsp => lsp::run(),
        Command::Repl(repl) => repl::run(&repl),
        Command::Generate(generate) => generate::run(&generate),
        Command::Chat(chat) => chat::run(&chat),
        Command::Serve(serve) => serve::run(&serve),
        Command::List { json } => models::list(json),
        #[cfg(feature = "pull")]
        Command::Pull { model, revision } => models::pull(&model, revision.as_deref()),
        Command::PlanProgram(plan) => plan_script::run(&plan),
        Command::Plan(plan) if plan.serve => serve_plan::run(&plan),
        Command::Plan(plan) => plan::run(&plan),
        Command::Synth(synth) => synth::run(&synth),
        Command::Bench(bench) => bench::run(&bench),
        Command::Perplexity(perplexity) => perplexity::run(&perplexity),
        Command::Quantize(quantize) => quantize::run(&quantize),
        Command::Info(info) => info::run(&info),
        Command::Completions { shell } => completions::print(shell),
        Command::Man { folder } => completions::write_man_pages(&folder),
        Command::Logits(logits) => logits::run(&logits),
        Command::Arch { name } => arch::run(name.as_deref()),
        Command::Devices(devices) => devices::run(&devices),
    };
    match result {
        Ok(()) | Err(Stop::Closed) => ExitCode::SUCCESS,
        Err(Stop::Exit(code)) => ExitCode::from(code),
        Err(Stop::Failed(message)) => {
            print_error(&format!("error: {}", output::shortened(&message)));
            ExitCode::from(1)
        }
    }
}
