//! `tl bench`: how fast a model is, and what that is of the machine's own limits.
//!
//! Memory is reserved first, as `tl generate` does, and what is measured has run before: the same prompt, a decoded token. A step
//! is what it is when text is generated: the model, and the choice of the likeliest token.

mod limits;
mod report;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tl_device::{Device, TensorBuffer};
use tl_engine::{KvCache, Model, ReserveFor, SamplingOptions};
use tl_model::{Sampler, SyntheticModel};
use tl_syntax::SourceMap;
use tl_tensor::Random;

use crate::arguments::{BenchArguments, SynthChoice};
use crate::output::{self, Stop, print_error};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::report::Recording;
use crate::statistics;
use limits::Limits;
use report::{Form, Heading};

const DEFAULT_PREFILL: [usize; 2] = [128, 512];
const DEFAULT_DECODE: usize = 64;
const DEFAULT_DEPTH: [usize; 2] = [0, 1024];

/// One thing that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Test {
    /// So many tokens at once, into an empty cache.
    Prefill(usize),
    /// `count` tokens one after the other, with `depth` in the cache before.
    Decode { count: usize, depth: usize },
}

impl Test {
    /// Tokens that there must be room for.
    fn context(self) -> usize {
        match self {
            Test::Prefill(count) => count,
            Test::Decode { count, depth } => depth.saturating_add(count),
        }
    }

    /// Tokens whose time is measured.
    fn n_tokens(self) -> usize {
        match self {
            Test::Prefill(count) | Test::Decode { count, .. } => count,
        }
    }

    /// The name: `pp512`, `tg64`, `tg64d1024`.
    fn name(self) -> String {
        match self {
            Test::Prefill(count) => format!("pp{count}"),
            Test::Decode { count, depth: 0 } => format!("tg{count}"),
            Test::Decode { count, depth } => format!("tg{count}d{depth}"),
        }
    }

    /// The options that it comes from.
    fn options(self) -> &'static str {
        match self {
            Test::Prefill(_) => "--prefill",
            Test::Decode { depth: 0, .. } => "--decode",
            Test::Decode { .. } => "--depth or --decode",
        }
    }
}

/// A test's repetitions.
struct Measured {
    test: Test,
    /// Tokens per second of each.
    rates: Vec<f64>,
    /// Allocations of the device in all of them.
    allocation_count: u64,
}

impl Measured {
    fn median(&self) -> f64 {
        let mut rates = self.rates.clone();
        rates.sort_by(f64::total_cmp);
        let middle = |index: usize| rates.get(index).copied().unwrap_or(0.0);
        (middle(rates.len() / 2) + middle(rates.len().saturating_sub(1) / 2)) / 2.0
    }

    fn slowest(&self) -> f64 {
        self.rates.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn fastest(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }
}

/// Measures and prints, a line as soon as it is known.
pub(crate) fn run(arguments: &BenchArguments) -> Result<(), Stop> {
    let device = crate::device::open(&arguments.device)?;
    if arguments.limits && device.is_gpu() {
        let name = device.gpu_info().map_or(device.name(), |gpu| &gpu.name);
        return Err(Stop::Failed(format!("--limits measures the CPU, and this runs on the GPU {name}; leave it out")));
    }
    let source = Source::open(arguments, &device)?;
    let meter = HeapMeter::start();
    let planner = arguments.how.planner(source.path(), &device)?;
    let tests = tests(arguments, planner.model().config().context_length)?;
    let context = tests.iter().map(|test| test.context()).max().unwrap_or(1);
    let limit = arguments.device.memory_limit;
    if limit.is_some() || device.is_gpu() {
        let heap_bytes = meter.bytes(&planner, context).map_err(Stop::failed)?;
        plan::check_room(&planner, context, heap_bytes, limit, WeightsAre::ToCome, &device)?;
    }
    drop(planner);
    let recording = Recording::start(&arguments.device, &device, "step")?;
    let model = arguments.how.load(source.path(), &device)?;
    let title = source.title();
    if cfg!(unix) {
        // What is mapped stays, and whatever ends the program, no file is left behind.
        drop(source);
    }
    // A GPU's limits are not those of the threads that drive it.
    let limits = (!device.is_gpu() && (arguments.limits || !arguments.json))
        .then(|| Limits::measure(&device, limits::of_products(&model)));
    let form = if arguments.json { Form::Json } else { Form::Table };
    let heading = Heading { title: &title, model: &model, limits, reps: arguments.reps };
    let run = Bench::new(&model, context).and_then(|mut bench| bench.print_all(&tests, &heading, form));
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    let recorded = recording.finish(&device, &title, &SourceMap::new());
    run.and(recorded)
}

/// The tests that were asked for, or of those that are usual the ones that the model has a context for.
fn tests(arguments: &BenchArguments, limit: usize) -> Result<Vec<Test>, Stop> {
    let count = arguments.decode.unwrap_or(DEFAULT_DECODE);
    let prefill = arguments.prefill.as_deref().unwrap_or(&DEFAULT_PREFILL);
    let depth = arguments.depth.as_deref().unwrap_or(&DEFAULT_DEPTH);
    let prefill = prefill.iter().map(|&count| (Test::Prefill(count), arguments.prefill.is_some()));
    let decode = depth.iter().map(|&depth| {
        let is_asked_for = arguments.depth.is_some() || (depth == 0 && arguments.decode.is_some());
        (Test::Decode { count, depth }, is_asked_for)
    });
    let (mut tests, mut notes) = (Vec::new(), Vec::new());
    for (test, is_asked_for) in prefill.chain(decode).filter(|(test, _)| test.n_tokens() > 0) {
        let (needed, name, options) = (test.context(), test.name(), test.options());
        let problem = format!("{name} needs a context of {needed} tokens, but this model works for 1 to {limit}");
        if needed <= limit {
            tests.push(test);
        } else if is_asked_for {
            return Err(Stop::Failed(format!("{problem}; lower {options}")));
        } else {
            notes.push(format!("note: left out: {problem}; for another, give {options}"));
        }
    }
    if tests.is_empty() {
        return Err(Stop::Failed(format!(
            "there is nothing to measure in a context of 1 to {limit} tokens: give --prefill, or --decode and --depth"
        )));
    }
    notes.iter().for_each(|note| print_error(note));
    Ok(tests)
}

/// The model's file.
enum Source<'a> {
    File(&'a Path),
    /// Made up for this run; removed with this.
    Made {
        path: PathBuf,
        choice: &'a SynthChoice,
    },
}

impl<'a> Source<'a> {
    fn open(arguments: &'a BenchArguments, device: &Device) -> Result<Source<'a>, Stop> {
        match (&arguments.model, &arguments.synth) {
            (Some(path), _) => Ok(Source::File(path)),
            (None, Some(choice)) => Source::make(choice, device),
            // The arguments' definition asks for one of them.
            (None, None) => Err(Stop::Failed("give a model or --synth".to_owned())),
        }
    }

    fn make(choice: &'a SynthChoice, device: &Device) -> Result<Source<'a>, Stop> {
        let model = SyntheticModel::new(&choice.shape, &choice.format, 0).map_err(Stop::failed)?;
        let path = std::env::temp_dir().join(format!("tl-bench-{}.gguf", std::process::id()));
        if std::io::stderr().is_terminal() {
            print_error(&format!("writing {}, which is removed again", path.display()));
        }
        model.write(&path, device).map_err(Stop::failed)?;
        Ok(Source::Made { path, choice })
    }

    fn path(&self) -> &Path {
        match self {
            Source::File(path) => path,
            Source::Made { path, .. } => path,
        }
    }

    fn title(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Made { choice, .. } => format!("{}:{}", choice.shape, choice.format),
        }
    }
}

impl Drop for Source<'_> {
    fn drop(&mut self) {
        if let Source::Made { path, .. } = self {
            // Nothing is left to tell where this fails.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A model with its memory, ready to be measured.
struct Bench<'a> {
    model: &'a Model,
    cache: KvCache,
    sampler: Sampler,
    /// Random ones, as many as the context holds.
    tokens: Vec<u32>,
}

impl Bench<'_> {
    fn new(model: &Model, context: usize) -> Result<Bench<'_>, Stop> {
        let device = model.device();
        let buffer = TensorBuffer::new(device);
        buffer.reserve_for(model, context).map_err(Stop::failed)?;
        device.set_tensor_buffer(buffer);
        let vocab_size = model.config().vocab_size;
        let greedy = SamplingOptions { temperature: 0.0, ..SamplingOptions::default() };
        let mut random = Random::new(0);
        // The remainder is smaller than the vocabulary, and that than 2^28.
        let token = |_| (random.next_u64() % vocab_size.max(1) as u64) as u32;
        Ok(Bench {
            model,
            cache: model.new_cache(context).map_err(Stop::failed)?,
            sampler: Sampler::new(greedy, vocab_size).map_err(Stop::failed)?,
            tokens: (0..context).map(token).collect(),
        })
    }

    fn print_all(&mut self, tests: &[Test], heading: &Heading<'_>, form: Form) -> Result<(), Stop> {
        output::print(&heading.text(form))?;
        self.warm_up().map_err(Stop::failed)?;
        let mut decoding_count = None;
        for &test in tests {
            let measured = self.measure(test, heading.reps).map_err(Stop::failed)?;
            output::print(&heading.row(form, &measured))?;
            if let Test::Decode { .. } = test {
                *decoding_count.get_or_insert(0) += measured.allocation_count;
            }
        }
        match (form, decoding_count) {
            (Form::Table, Some(count)) => output::print(&heading.end(count)),
            _ => Ok(()),
        }
    }

    /// Starts the threads and touches all weights.
    fn warm_up(&mut self) -> tl_model::Result<()> {
        let len = self.tokens.len().min(64);
        self.fill(len)?;
        self.go_back(len - 1)?;
        self.decode(1)
    }

    fn measure(&mut self, test: Test, reps: u32) -> tl_model::Result<Measured> {
        match test {
            // Once unmeasured: it is the first to touch buffers of its size.
            Test::Prefill(count) => self.fill(count)?,
            Test::Decode { depth, .. } => self.fill(depth)?,
        }
        let count = |model: &Model| model.device().stats().allocation_count;
        let before = count(self.model);
        let mut rates = Vec::new();
        for _ in 0..reps {
            if let Test::Decode { depth, .. } = test {
                self.go_back(depth)?;
            }
            let start = Instant::now();
            match test {
                Test::Prefill(count) => self.fill(count)?,
                Test::Decode { count, .. } => self.decode(count)?,
            }
            rates.push(test.n_tokens() as f64 / start.elapsed().as_secs_f64().max(1e-9));
        }
        Ok(Measured { test, rates, allocation_count: count(self.model) - before })
    }

    /// Lets the cache hold the first `len` tokens again. One that cannot go back, for its windows or its states, is filled anew.
    fn go_back(&mut self, len: usize) -> tl_model::Result<()> {
        match self.cache.truncate(len) {
            Ok(()) => Ok(()),
            Err(_) => self.fill(len),
        }
    }

    /// Puts so many tokens into the empty cache.
    fn fill(&mut self, len: usize) -> tl_model::Result<()> {
        self.cache.clear();
        match self.tokens.get(..len) {
            Some(tokens) if len > 0 => {
                let logits = self.model.forward(tokens, &mut self.cache)?;
                self.sampler.sample_tensor(&logits).map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Goes on from what the cache holds, each time with the likeliest token.
    fn decode(&mut self, count: usize) -> tl_model::Result<()> {
        let mut token = self.tokens.first().copied().unwrap_or(0);
        for _ in 0..count {
            let logits = self.model.forward(&[token], &mut self.cache)?;
            token = self.sampler.sample_tensor(&logits)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::{Arguments, Command};
    use clap::Parser;

    #[test]
    fn tests_that_fit() {
        let check = |options: &str, limit: usize, expected: Result<&[&str], &str>| {
            let line = format!("tl bench m.gguf {options}");
            let Command::Bench(arguments) = Arguments::parse_from(line.split_whitespace()).command else {
                panic!("{line}")
            };
            match (tests(&arguments, limit), expected) {
                (Ok(found), Ok(expected)) => {
                    let names: Vec<String> = found.iter().map(|test| test.name()).collect();
                    assert_eq!(names, expected, "{line}");
                }
                (Err(Stop::Failed(message)), Err(expected)) => assert!(message.contains(expected), "{message}"),
                (found, _) => panic!("{line}: {found:?}"),
            }
        };
        check("", 2048, Ok(&["pp128", "pp512", "tg64", "tg64d1024"]));
        check("", 1088, Ok(&["pp128", "pp512", "tg64", "tg64d1024"]));
        check("", 1087, Ok(&["pp128", "pp512", "tg64"]));
        check("", 256, Ok(&["pp128", "tg64"]));
        check("", 63, Err("nothing to measure"));
        check("--prefill 0 --decode 0", 256, Err("nothing to measure"));
        check("--prefill 0,7 --decode 1 --depth 255", 256, Ok(&["pp7", "tg1d255"]));
        check(
            "--prefill 257",
            256,
            Err("pp257 needs a context of 257 tokens, but this model works for 1 to 256; lower --prefill"),
        );
        check(
            "--depth 200",
            256,
            Err("tg64d200 needs a context of 264 tokens, but this model works for 1 to 256; lower --depth or"),
        );
        check("--depth 0 --decode 257", 256, Err("lower --decode"));
        check("--decode 256", 256, Ok(&["pp128", "tg256"]));
        check(
            "--decode 257",
            256,
            Err("tg257 needs a context of 257 tokens, but this model works for 1 to 256; lower --dec"),
        );
        check("--depth 18446744073709551615", 256, Err("lower --depth"));
    }

    #[test]
    fn medians() {
        let check = |rates: &[f64], expected: [f64; 3]| {
            let measured = Measured { test: Test::Prefill(1), rates: rates.to_vec(), allocation_count: 0 };
            assert_eq!([measured.median(), measured.slowest(), measured.fastest()], expected, "{rates:?}");
        };
        check(&[3.0], [3.0, 3.0, 3.0]);
        check(&[4.0, 1.0], [2.5, 1.0, 4.0]);
        check(&[5.0, 1.0, 2.0], [2.0, 1.0, 5.0]);
        check(&[5.0, 1.0, 2.0, 4.0], [3.0, 1.0, 5.0]);
    }
}
