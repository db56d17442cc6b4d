//! The command-line arguments.

use std::ffi::{OsStr, OsString};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use tl_device::{DType, SizeRange};
use tl_engine::SamplingOptions;
use tl_tools::{SyntheticShape, weight_formats};

use crate::device_choice::{ComputeArguments, DeviceChoice};
use crate::size;
use crate::source_arguments::{CheckArguments, FmtArguments, ReplArguments, TestArguments};

/// Runs TensorLogic programs, and GGUF models, in memory that is reserved before it is used.
#[derive(Debug, Parser)]
#[command(name = "tl", version, max_term_width = 100)]
pub(crate) struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Check a program and run it
    Run(RunArguments),
    /// Check programs without running them
    Check(CheckArguments),
    /// Format programs: one style, without options
    Fmt(FmtArguments),
    /// Enter a program piece by piece
    Repl(ReplArguments),
    /// Print the documentation of a builtin, or of the functions of a program, as Markdown
    #[command(after_help = "Example: tl doc softmax")]
    Doc {
        /// A builtin (softmax), a method (KvCache.clear), a .tl file, or one of the standard library (std/transformer)
        /// [default: a list of the builtins]
        #[arg(value_name = "NAME|FILE")]
        what: Option<String>,
    },
    /// Say what the code of an error or warning means, with a wrong and a right program
    #[command(after_help = "Example: tl explain E0301")]
    Explain {
        /// The code, as messages show it [default: a list of all]
        code: Option<String>,
    },
    /// Serve an editor: the Language Server Protocol over standard input and output
    #[command(after_help = "Example, for Neovim: vim.lsp.start({ name = 'tl', cmd = { 'tl', 'lsp' } })")]
    Lsp,
    /// Run the tests of programs: their blocks test "name" { … }
    Test(TestArguments),
    /// Generate text with a model
    Generate(GenerateArguments),
    /// Talk with a model
    Chat(ChatArguments),
    /// Serve a model to programs and browsers: the OpenAI API over HTTP
    #[command(after_help = "Example: tl serve model.gguf --context 8192, then open http://127.0.0.1:8080 in a browser")]
    Serve(ServeArguments),
    /// List the models in the caches of Hugging Face and ollama, with what each takes
    List {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Download a model into Hugging Face's cache
    #[cfg(feature = "pull")]
    Pull {
        /// org/repo, or org/repo:quant, such as Qwen/Qwen3-0.6B-GGUF:Q8_0
        model: String,
        /// A branch, a tag or a commit [default: main]
        #[arg(long)]
        revision: Option<String>,
    },
    /// Say what a model will take in memory, before anything is taken; of a program, `tl plan FILE.tl`, what it needs
    #[command(after_help = "Of a program: see `tl plan FILE.tl --help`")]
    Plan(PlanArguments),
    /// Say what a program needs in memory, by running it once; what it prints goes to standard error
    #[command(name = PLAN_PROGRAM, hide = true, override_usage = "tl plan [OPTIONS] <FILE.tl> [-- <ARGS>...]")]
    PlanProgram(PlanProgramArguments),
    /// Write a model of a named shape with random weights, to measure on
    Synth(SynthArguments),
    /// Measure a model's speed, and what it reaches of the machine's limits
    Bench(BenchArguments),
    /// Say how well a model predicts a text, and how far its predictions are from those of a reference
    Perplexity(PerplexityArguments),
    /// Write a model's weights again in another format
    Quantize(QuantizeArguments),
    /// Show what a model holds: architecture, sizes, formats, whether it can be run
    Info(InfoArguments),
    /// Print the logits after each of some tokens, to compare a model with what another program computes
    Logits(LogitsArguments),
    /// List the architectures whose scripts come with the program, or print one
    Arch {
        /// The architecture, such as llama
        name: Option<String>,
    },
    /// List the devices that programs can run on, and what they can
    Devices(DevicesArguments),
    /// Print the script that completes this program's arguments in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write man pages into a folder
    Man {
        /// The folder
        folder: PathBuf,
    },
}

/// Arguments of `tl info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// List the tensors too
    #[arg(long)]
    pub(crate) tensors: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `tl devices`.
#[derive(Debug, Args)]
pub(crate) struct DevicesArguments {
    /// List the operations, and which of them have a program for GPUs; the others run on the CPU
    #[arg(long)]
    pub(crate) ops: bool,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `tl run`.
#[derive(Debug, Args)]
pub(crate) struct RunArguments {
    /// The program, a .tl file; - is standard input
    pub(crate) file: PathBuf,
    /// Arguments for the program, which it sees as args()
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
    /// The value of a size that the program asks for as size("NAME", default); with --plan also what is reserved for,
    /// which otherwise is the largest value of the plan. A range, n=1..512, is for --arena: it records at the highest
    /// values, and the program chooses its own
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) with: Vec<SizeRange>,
    /// Write the pictures that the program draws with plot(x) into this folder: plot-1.svg, plot-2.svg, …
    #[arg(long, value_name = "FOLDER")]
    pub(crate) plots: Option<PathBuf>,
    /// End the program with an error after this many rounds of loops and calls of functions
    #[arg(long, value_name = "N")]
    pub(crate) max_steps: Option<u64>,
    #[command(flatten)]
    pub(crate) reservations: ReservationArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// Reservations that the program does not make itself.
#[derive(Debug, Args)]
pub(crate) struct ReservationArguments {
    /// Reserve what this file says before the program starts (`tl plan -o FILE` writes one), and tell at the end where
    /// it does not fit the program
    #[arg(long, value_name = "FILE", conflicts_with_all = ["arena", "tune"])]
    pub(crate) plan: Option<PathBuf>,
    /// Run the program twice: first without output, recording, then for real, in one block of memory that is planned
    /// by what was recorded
    #[arg(long, conflicts_with = "tune")]
    pub(crate) arena: bool,
    /// Let the steps up to the N-th output [default: 16] run on the pool, then reserve what they needed, and tell at the
    /// end how many requests that served. A step is what lies between two outputs
    #[arg(
        long,
        value_name = "N",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "16",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub(crate) tune: Option<u32>,
    /// With --tune: the most outputs that the program makes. Sizes that grow by the same from step to step (a sequence
    /// whose keys and values are joined anew) are reserved for so many
    #[arg(long, value_name = "N", requires = "tune", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) steps: Option<u32>,
    /// Refuse every new allocation: from the program's first statement on with --plan or --arena, from the tuning on with
    /// --tune, otherwise from its first tensor on (what it reserves before that must do; parameters do not count)
    #[arg(long)]
    pub(crate) sealed: bool,
}

/// Arguments of `tl generate`.
#[derive(Debug, Args)]
pub(crate) struct GenerateArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// The text to go on from [default: what standard input has, where that is no terminal]
    #[arg(long, short, conflicts_with = "file")]
    pub(crate) prompt: Option<String>,
    /// Read the text to go on from from a file; - is standard input
    #[arg(long, short, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// The most tokens to generate
    #[arg(long, short = 'n', value_name = "N", default_value_t = 100)]
    pub(crate) max_tokens: usize,
    /// Take the prompt as a user's message, written by the model's own chat template, and print the answer alone
    #[arg(long)]
    pub(crate) chat: bool,
    /// The system message before it
    #[arg(long, value_name = "TEXT", requires = "chat")]
    pub(crate) system: Option<String>,
    /// Take special tokens that are written in the prompt, such as <|im_start|>, for these tokens
    #[arg(long, conflicts_with = "chat")]
    pub(crate) special: bool,
    #[command(flatten)]
    pub(crate) sampling: SamplingArguments,
    #[cfg(feature = "grammar")]
    #[command(flatten)]
    pub(crate) grammar: GrammarArguments,
    /// Memory for this many tokens, prompt and text together [default: as many as this run can use]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Print one JSON object when the text is complete: the text, why it ended, tokens and speed
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) how: ModelArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// How tokens are chosen, and where a text ends.
#[derive(Debug, Args)]
pub(crate) struct SamplingArguments {
    /// 0 always takes the likeliest token; higher is more varied
    #[arg(long, value_name = "T", default_value_t = 0.8, allow_negative_numbers = true)]
    pub(crate) temperature: f32,
    /// The same seed gives the same text
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Choose among the K likeliest tokens only; 0 is all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Choose among the likeliest tokens whose probabilities add up to P
    #[arg(long, value_name = "P", default_value_t = 0.95)]
    pub(crate) top_p: f32,
    /// Leave out tokens that are less likely than P times the likeliest; 0 leaves out none
    #[arg(long, value_name = "P", default_value_t = 0.0)]
    pub(crate) min_p: f32,
    /// Divide the logits of tokens that came already by R where they are positive, and multiply them where not; 1 changes nothing
    #[arg(long, value_name = "R", default_value_t = 1.0)]
    pub(crate) repetition_penalty: f32,
    /// Subtract R from the logits of tokens that came already; 0 changes nothing
    #[arg(long, value_name = "R", default_value_t = 0.0, allow_negative_numbers = true)]
    pub(crate) presence_penalty: f32,
    /// End before this text; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub(crate) stop: Vec<String>,
}

impl SamplingArguments {
    /// As options of the sampler.
    pub(crate) fn options(&self) -> SamplingOptions {
        let mut options = SamplingOptions::default();
        options.temperature = self.temperature;
        options.top_k = self.top_k;
        options.top_p = self.top_p;
        options.seed = self.seed;
        options.min_p = self.min_p;
        options.repetition_penalty = self.repetition_penalty;
        options.presence_penalty = self.presence_penalty;
        options
    }
}

/// What the text is to follow.
#[cfg(feature = "grammar")]
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(crate) struct GrammarArguments {
    /// Write one JSON value that is valid by this JSON schema: a file, or the schema itself, which then begins with {
    #[arg(long, value_name = "FILE|SCHEMA", conflicts_with = "stop")]
    pub(crate) json_schema: Option<OsString>,
    /// Write a text that this grammar gives, in the Lark-like notation of llguidance
    #[arg(long, value_name = "FILE", conflicts_with = "stop")]
    pub(crate) grammar: Option<PathBuf>,
    /// Write a text that matches this regular expression from its beginning to its end
    #[arg(long, value_name = "EXPR", conflicts_with = "stop", allow_hyphen_values = true)]
    pub(crate) regex: Option<String>,
}

/// Arguments of `tl chat`.
#[derive(Debug, Args)]
pub(crate) struct ChatArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// The system message
    #[arg(long, value_name = "TEXT")]
    pub(crate) system: Option<String>,
    /// The most tokens of an answer
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1024)]
    pub(crate) max_tokens: usize,
    /// Memory for this many tokens, the whole conversation together [default: 4096, or what the model works for]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    #[command(flatten)]
    pub(crate) sampling: SamplingArguments,
    #[cfg(feature = "grammar")]
    #[command(flatten)]
    pub(crate) grammar: GrammarArguments,
    #[command(flatten)]
    pub(crate) how: ModelArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// Arguments of `tl serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// The name by which clients ask for the model [default: that of its file, or the name given]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) name: Option<String>,
    /// Memory for this many tokens, prompt and answer together [default: 4096, or what the model works for]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// Memory for this many sequences of --context tokens; more of shorter ones run at once [default: 4, or up to 16 within a limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) sequences: Option<u16>,
    /// The most tokens of an answer whose request does not say
    #[arg(long, short = 'n', value_name = "N", default_value_t = 1024)]
    pub(crate) max_tokens: usize,
    /// The most requests that wait; further ones are refused with 429
    #[arg(long, value_name = "N", default_value_t = tl_serve::EngineOptions::DEFAULT_QUEUE)]
    pub(crate) queue: usize,
    /// The most connections at once
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) connections: u16,
    /// The address to listen on; 0.0.0.0 is all of this machine's
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub(crate) host: IpAddr,
    /// The port to listen on; 0 is any that is free
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Answer only requests with one of the keys in this file, one on each line
    #[arg(long, value_name = "FILE")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Let pages of this web origin, such as `https://example.org`, use the server; * is all [default: none]
    #[arg(long, value_name = "ORIGIN")]
    pub(crate) cors: Option<String>,
    /// How long running requests may go on after SIGTERM or Ctrl-C
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) drain: u32,
    #[command(flatten)]
    pub(crate) how: ModelArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// Arguments of `tl logits`.
#[derive(Debug, Args)]
pub(crate) struct LogitsArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// Token ids, separated by commas
    #[arg(long, value_name = "ID,ID,…", value_delimiter = ',', required = true)]
    pub(crate) ids: Vec<u32>,
    /// Run the tokens one after the other instead of all at once
    #[arg(long)]
    pub(crate) one_by_one: bool,
    /// Print one JSON object, {"logits": [[…], …]}, a list for each token; otherwise the likeliest tokens are shown
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) how: ModelArguments,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// The command that `tl plan` is where it is given a program.
const PLAN_PROGRAM: &str = "plan-program";

/// Arguments of `tl plan MODEL`.
#[derive(Debug, Args)]
pub(crate) struct PlanArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// Memory for this many tokens, prompt and text together [default: as many as the model was trained for]
    #[arg(long, value_name = "N")]
    pub(crate) context: Option<usize>,
    /// The type of what lies between the weights [default: float16]
    #[arg(long, value_enum)]
    pub(crate) activations: Option<Activations>,
    /// The type that keys and values are kept in [default: that of the activations]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) cache: Option<CacheType>,
    /// Run the model with this TL script, as for `tl generate`
    #[arg(long, value_name = "FILE.tl")]
    pub(crate) arch: Option<PathBuf>,
    /// The device to plan for, as for `tl run`
    #[arg(long, value_name = "DEVICE", value_parser = DeviceChoice::parse)]
    pub(crate) device: Option<DeviceChoice>,
    /// Compare with this many bytes (300MB, 2GiB) and not with what the machine has
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory_limit: Option<usize>,
    /// Plan for `tl serve`: as many sequences at once as there is memory for
    #[arg(long, conflicts_with_all = ["lock", "check"])]
    pub(crate) serve: bool,
    /// With --serve, memory for this many sequences, as for `tl serve`
    #[arg(long, value_name = "N", requires = "serve", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub(crate) sequences: Option<u16>,
    #[command(flatten)]
    pub(crate) lock: LockArguments,
    /// Print one JSON object
    #[arg(long, conflicts_with = "check")]
    pub(crate) json: bool,
}

/// Arguments of `tl plan FILE.tl`.
#[derive(Debug, Args)]
pub(crate) struct PlanProgramArguments {
    /// The program, a .tl file, which is run once
    pub(crate) file: PathBuf,
    /// Arguments for the program, which it sees as args()
    #[arg(last = true)]
    pub(crate) args: Vec<String>,
    /// Write the plan to a file for `tl run --plan`
    #[arg(short, long, value_name = "FILE", conflicts_with = "check")]
    pub(crate) output: Option<PathBuf>,
    /// Plan for all values of a size that the program asks for as size("NAME", default), from the lowest to the highest.
    /// It is run at both and at some between; its plan is a formula, and serves every value
    #[arg(long, value_name = "NAME=LOWEST..HIGHEST", conflicts_with_all = ["lock", "check"])]
    pub(crate) with: Vec<SizeRange>,
    /// Say how large one block would be that serves all its activations
    #[arg(long, conflicts_with = "check")]
    pub(crate) arena: bool,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// The device to plan for, as for `tl run`
    #[arg(long, value_name = "DEVICE", value_parser = DeviceChoice::parse)]
    pub(crate) device: Option<DeviceChoice>,
    /// The most bytes that it may take: 300MB, 2GiB
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory_limit: Option<usize>,
    #[command(flatten)]
    pub(crate) lock: LockArguments,
    /// Print one JSON object
    #[arg(long, conflicts_with = "check")]
    pub(crate) json: bool,
}

/// Files that say what something takes, to be kept under version control.
#[derive(Debug, Args)]
pub(crate) struct LockArguments {
    /// Write what it takes to a small file for version control: peak, allocations, the buffers of each layout and, of a
    /// program, the lines that take them
    #[arg(long, value_name = "FILE", conflicts_with = "check")]
    pub(crate) lock: Option<PathBuf>,
    /// Compare what it takes with a file that --lock has written: print what shrank, and fail with the lines of source where
    /// anything grew
    #[arg(long, value_name = "FILE")]
    pub(crate) check: Option<PathBuf>,
}

impl LockArguments {
    /// Whether there is a lock to write or to compare with.
    pub(crate) fn is_given(&self) -> bool {
        self.lock.is_some() || self.check.is_some()
    }
}

/// Arguments of `tl synth`.
#[derive(Debug, Args)]
pub(crate) struct SynthArguments {
    /// The file to write
    pub(crate) out: PathBuf,
    /// The sizes
    #[arg(long, value_name = "NAME", help = help_with_names("The sizes", SyntheticShape::ALL.iter().map(|shape| shape.name)))]
    pub(crate) shape: String,
    /// The format of the weights
    #[arg(long, value_name = "NAME", help = help_with_names("The format of the weights, or a mix", weight_formats()))]
    pub(crate) format: String,
    /// The same seed gives the same weights
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub(crate) seed: u64,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// Arguments of `tl bench`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["model", "synth"])))]
pub(crate) struct BenchArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: Option<PathBuf>,
    /// Measure a model with random weights (tinyllama-1.1b:q4_0), written to a temporary file and removed again; `tl synth`
    /// has the names
    #[arg(long, value_name = "SHAPE:FORMAT", value_parser = SynthChoice::parse)]
    pub(crate) synth: Option<SynthChoice>,
    /// Tokens that go through the model at once, into an empty cache; 0 measures none [default: those of 128,512 that the
    /// model has a context for]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub(crate) prefill: Option<Vec<usize>>,
    /// Tokens that go through the model at once, in steps as those of short prompts, batches and drafts; the other tests then have
    /// to be asked for
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub(crate) rows: Option<Vec<usize>>,
    /// Tokens that go through the model one after the other; 0 measures none [default: 64]
    #[arg(long, value_name = "N")]
    pub(crate) decode: Option<usize>,
    /// Tokens that are in the cache before the decoded ones [default: those of 0,1024 that the model has a context for]
    #[arg(long, value_name = "N,..", value_delimiter = ',')]
    pub(crate) depth: Option<Vec<usize>>,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(crate) reps: u32,
    #[command(flatten)]
    pub(crate) how: ModelArguments,
    /// Print one JSON object on each line, one line for each test
    #[arg(long)]
    pub(crate) json: bool,
    /// With --json, on the CPU only: also measure the machine's own limits, which takes up to 2 GiB for a moment; the table
    /// always has them
    #[arg(long, requires = "json")]
    pub(crate) limits: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

/// What an option is, and the names that it takes.
fn help_with_names<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> String {
    format!("{what}: {}", names.collect::<Vec<_>>().join(", "))
}

/// A model with random weights that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SynthChoice {
    /// The name of the sizes.
    pub(crate) shape: String,
    /// The name of the weights' format.
    pub(crate) format: String,
}

impl SynthChoice {
    /// The choice that a text names.
    fn parse(text: &str) -> Result<SynthChoice, String> {
        let (shape, format) = text.split_once(':').ok_or("expected SHAPE:FORMAT, such as tinyllama-1.1b:q4_0")?;
        Ok(SynthChoice { shape: shape.to_owned(), format: format.to_owned() })
    }
}

/// Arguments of `tl perplexity`.
#[derive(Debug, Args)]
pub(crate) struct PerplexityArguments {
    /// The model: a file or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) model: PathBuf,
    /// The text, a file
    #[arg(required_unless_present = "against", conflicts_with = "against")]
    pub(crate) text: Option<PathBuf>,
    /// Compare with the log-probabilities in this file, on its text: one that --save has written, or llama.cpp's
    /// `llama-perplexity --kl-divergence-base`
    #[arg(long, value_name = "FILE")]
    pub(crate) against: Option<PathBuf>,
    /// Tokens in each window, of which the second half is predicted [default: 512, or what the model was trained for]
    #[arg(long, value_name = "N", conflicts_with = "against")]
    pub(crate) context: Option<usize>,
    /// The most windows to go through [default: all that the text has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) windows: Option<u32>,
    /// Write the log-probabilities of all tokens to this file, in llama.cpp's format
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) how: ModelArguments,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) device: DeviceArguments,
}

impl PerplexityArguments {
    /// The most windows to go through.
    pub(crate) fn most_windows(&self) -> usize {
        // No text has more than a usize can count.
        self.windows.map_or(usize::MAX, |n| n as usize)
    }
}

/// Arguments of `tl quantize`.
#[derive(Debug, Args)]
pub(crate) struct QuantizeArguments {
    /// The model: a file (any part of a split one) or folder, or a name: org/repo, org/repo:quant, ollama:name
    pub(crate) input: PathBuf,
    /// The .gguf file to write
    pub(crate) output: PathBuf,
    /// The format of the weights
    #[arg(help = help_with_names("The format of the weights, or a mix (norms stay float32)", weight_formats()))]
    pub(crate) format: String,
    /// Threads to compute with [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

/// Arguments of every command that computes.
#[derive(Debug, Default, Args)]
pub(crate) struct DeviceArguments {
    #[command(flatten)]
    pub(crate) compute: ComputeArguments,
    /// The most bytes that the program may take, weights and heap included: 300MB, 2GiB [default: what the machine has]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) memory_limit: Option<usize>,
    /// Have the operating system hold the process to the limit too, plus its code and stacks, which `tl plan` lists (Linux)
    #[arg(long, requires = "memory_limit")]
    pub(crate) enforce: bool,
    /// Print the device's memory statistics at the end, on standard error; `json` as one object on its last line
    #[arg(long, value_enum, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "text")]
    pub(crate) memory_stats: Option<StatisticsForm>,
    /// Write a page that shows what happened to memory: the buffers over time, tables, the reservations that would do
    #[arg(long, value_name = "OUT.html")]
    pub(crate) memory_report: Option<PathBuf>,
    /// Write what happened to memory as trace events for ui.perfetto.dev and chrome://tracing
    #[arg(long, value_name = "OUT.json")]
    pub(crate) memory_trace: Option<PathBuf>,
    /// Empty the pool of idle buffers rather than hold more than this
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    pub(crate) soft_memory_limit: Option<usize>,
}

/// How a model is loaded and computes.
#[derive(Debug, Clone, Args)]
pub(crate) struct ModelArguments {
    /// The type of what lies between the weights
    #[arg(long, value_enum, default_value_t = Activations::Float16)]
    pub(crate) activations: Activations,
    /// The type that keys and values are kept in [default: that of the activations]
    #[arg(long, value_enum, value_name = "TYPE")]
    pub(crate) cache: Option<CacheType>,
    /// Read the file into memory of the program's own rather than map it: a slower start, and decoding as fast however the file lies
    /// in the system's cache
    #[arg(long)]
    pub(crate) no_mmap: bool,
    /// Run the model with this TL script instead of the one that comes with the program for its architecture (`tl arch` prints those)
    #[arg(long, value_name = "FILE.tl")]
    pub(crate) arch: Option<PathBuf>,
}

/// Types of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Activations {
    /// Half precision: less memory, as good for generating
    Float16,
    /// Single precision
    Float32,
}

impl From<Activations> for tl_model::Activations {
    fn from(activations: Activations) -> Self {
        match activations {
            Activations::Float16 => tl_model::Activations::Float16,
            Activations::Float32 => tl_model::Activations::Float32,
        }
    }
}

/// Types of KV caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum CacheType {
    /// Half precision
    Float16,
    /// Single precision
    Float32,
    /// Blocks of 32 in 8 bits and a scale: half the memory; on the CPU
    #[value(name = "q8_0")]
    Q8_0,
}

impl CacheType {
    /// The data type of the tensors.
    pub(crate) fn dtype(self) -> DType {
        match self {
            CacheType::Float16 => DType::F16,
            CacheType::Float32 => DType::F32,
            CacheType::Q8_0 => DType::Q8_0,
        }
    }
}

/// How statistics are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatisticsForm {
    /// For people
    Text,
    /// For programs
    Json,
}

/// The arguments as they are parsed: what clap cannot tell apart by itself is told apart here.
pub(crate) fn prepare(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut args = join_memory_stats(args);
    if args.get(1).is_some_and(|command| command == "plan") && names_program(&args[2..]) {
        args[1] = PLAN_PROGRAM.into();
    }
    args
}

/// Whether these arguments of `tl plan` name a program, and not a model.
fn names_program(args: &[OsString]) -> bool {
    // Their values may be .tl files too.
    const WITH_FILES: [&str; 5] = ["--arch", "--lock", "--check", "--output", "-o"];
    let is_option = |arg: &OsString| arg.to_str().is_some_and(|arg| WITH_FILES.contains(&arg));
    let is_program = |arg: &OsString| {
        let is_script = Path::new(arg).extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tl"));
        is_script && !arg.to_string_lossy().starts_with('-')
    };
    let own = args.iter().take_while(|arg| *arg != "--");
    let before = std::iter::once(None).chain(args.iter().map(Some));
    own.zip(before).any(|(arg, before)| is_program(arg) && !before.is_some_and(is_option))
}

/// Joins `--memory-stats json` into one argument. The form may be left out, so that clap itself would take the
/// argument behind it, such as a file's name, for the form.
fn join_memory_stats(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut joined: Vec<OsString> = Vec::new();
    let mut is_open = true;
    for arg in args {
        let is_form = [OsStr::new("json"), OsStr::new("text")].contains(&arg.as_os_str());
        match joined.last_mut().filter(|last| is_open && is_form && *last == "--memory-stats") {
            Some(last) => {
                last.push("=");
                last.push(&arg);
            }
            None => {
                is_open &= arg != "--";
                joined.push(arg);
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn memory_stats_takes_its_form_or_none() {
        let check = |line: &str, expected: Option<(Option<StatisticsForm>, &[&str])>| {
            let args = join_memory_stats(line.split(' ').map(OsString::from));
            let parsed = Arguments::try_parse_from(args).ok().and_then(|parsed| match parsed.command {
                Command::Run(run) => Some((run.device.memory_stats, run.args)),
                _ => None,
            });
            let expected = expected.map(|(form, args)| (form, args.iter().map(|&arg| arg.to_owned()).collect()));
            assert_eq!(parsed, expected, "{line}");
        };
        check("tl run a.tl", Some((None, &[])));
        check("tl run a.tl --memory-stats", Some((Some(StatisticsForm::Text), &[])));
        check("tl run a.tl --memory-stats json", Some((Some(StatisticsForm::Json), &[])));
        check("tl run --memory-stats json a.tl", Some((Some(StatisticsForm::Json), &[])));
        check("tl run --memory-stats=text a.tl", Some((Some(StatisticsForm::Text), &[])));
        check("tl run --memory-stats a.tl", Some((Some(StatisticsForm::Text), &[])));
        check("tl run a.tl -- --memory-stats json", Some((None, &["--memory-stats", "json"])));
        check("tl run a.tl b.tl", None);
        check("tl run --memory-stats=xml a.tl", None);
        check("tl run --threads 0 a.tl", None);
        check("tl run --arena --tune a.tl", None);
        check("tl run --plan a.plan --arena a.tl", None);
        check("tl run --tune=0 a.tl", None);
        check("tl run --memory-limit lots a.tl", None);
        check("tl run --device tpu a.tl", None);
        check("tl run --device gpu: a.tl", None);
    }

    #[test]
    fn plans_of_programs_and_of_models() {
        let check = |line: &str, expected: bool| {
            let args = prepare(line.split(' ').map(OsString::from));
            let parsed = Arguments::try_parse_from(args).unwrap_or_else(|error| panic!("{line}: {error}"));
            assert_eq!(matches!(parsed.command, Command::PlanProgram(_)), expected, "{line}");
        };
        check("tl plan a.tl", true);
        check("tl plan --arena dir/a.TL -o a.plan -- b.gguf", true);
        check("tl plan a.gguf", false);
        check("tl plan a.gguf --arch a.tl", false);
        check("tl plan --arch=a.tl org/repo", false);
        check("tl plan a.gguf --lock a.tl", false);
    }
}
