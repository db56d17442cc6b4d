//! The arguments of the commands for people who write programs: check, fmt, repl, test.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::device_choice::ComputeArguments;
use crate::size;

/// Arguments of `tl fmt`.
#[derive(Debug, Args)]
#[command(after_help = "Example: tl fmt --check src examples/generate.tl")]
pub(crate) struct FmtArguments {
    /// The programs: .tl files, or folders of them; - formats standard input to standard output
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Write nothing: print the names of the files that would change, with exit code 1 where there are any
    #[arg(long)]
    pub(crate) check: bool,
}

/// Arguments of `tl check`.
#[derive(Debug, Args)]
#[command(after_help = "Example: tl check --model models/llama.gguf my_architecture.tl")]
pub(crate) struct CheckArguments {
    /// The programs: .tl files, or folders of them; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// How errors and warnings are printed
    #[arg(long, value_enum, default_value_t = DiagnosticFormat::Text)]
    pub(crate) format: DiagnosticFormat,
    /// The model that the programs load or are given: its weights' sizes and its configuration are known then
    #[arg(long, value_name = "MODEL")]
    pub(crate) model: Option<PathBuf>,
}

/// Arguments of `tl repl`.
#[derive(Debug, Args)]
#[command(after_help = "Example: echo 'softmax([1, 2, 3])' | tl repl")]
pub(crate) struct ReplArguments {
    /// A program to begin with: its declarations and statements, without its main
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    /// The most bytes that the session may take: 300MB, 2GiB [default: what the machine has]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory_limit: Option<usize>,
}

/// Arguments of `tl test`.
#[derive(Debug, Args)]
#[command(after_help = "Example: tl test layers.tl --filter attention")]
pub(crate) struct TestArguments {
    /// The programs: .tl files, or folders of them; - is standard input
    #[arg(required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Run only the tests whose name has this text in it
    #[arg(long, value_name = "TEXT")]
    pub(crate) filter: Option<String>,
    /// Write the results as JUnit XML, which CI systems read
    #[arg(long, value_name = "FILE")]
    pub(crate) junit: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
}

/// How errors and warnings are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DiagnosticFormat {
    /// For people, on standard error
    Text,
    /// For programs: one JSON object on a line for each, on standard output
    Json,
}
