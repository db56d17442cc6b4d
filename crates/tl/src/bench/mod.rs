//! `tl bench`: a model's speed, and its share of the machine's own limits.
//!
//! Memory is reserved first, as in `tl generate`, and each test has run once before it is measured: the same prompt, a
//! decoded token. A step is a step of text generation: the model, and the choice of the likeliest token.

mod report;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use tl_device::Device;
use tl_syntax::SourceMap;
use tl_tools::SyntheticModel;
use tl_tools::bench::{Bench, Test};
use tl_tools::limits::{self, Limits};

use crate::arguments::{BenchArguments, SynthChoice};
use crate::output::{self, Stop, print_error};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::report::Recording;
use crate::statistics;
use report::{Form, Heading};

const DEFAULT_PREFILL: [usize; 2] = [128, 512];
const DEFAULT_DECODE: usize = 64;
const DEFAULT_DEPTH: [usize; 2] = [0, 1024];

/// Runs the tests and prints each line as soon as it is known.
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
        // The mapping outlives the file; removed here, the file does not stay behind however the program ends.
        drop(source);
    }
    // The limits are those of CPU threads, not of a GPU.
    let limits = (!device.is_gpu() && (arguments.limits || !arguments.json))
        .then(|| Limits::measure(&device, limits::of_products(&model)));
    let form = if arguments.json { Form::Json } else { Form::Table };
    let heading = Heading { title: &title, model: &model, limits, reps: arguments.reps };
    let bench = Bench::new(&model, context).map_err(Stop::failed);
    let run = bench.and_then(|mut bench| print_all(&mut bench, &tests, &heading, form));
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    let recorded = recording.finish(&device, &title, &SourceMap::new());
    run.and(recorded)
}

/// The tests that the options name; of the default tests, those that fit the model's context.
fn tests(arguments: &BenchArguments, limit: usize) -> Result<Vec<Test>, Stop> {
    let rows = arguments.rows.as_deref().unwrap_or_default();
    let defaults = rows.is_empty();
    let decodes = defaults || arguments.decode.is_some() || arguments.depth.is_some();
    let count = arguments.decode.unwrap_or(if decodes { DEFAULT_DECODE } else { 0 });
    let prefill = arguments.prefill.as_deref().unwrap_or(if defaults { &DEFAULT_PREFILL } else { &[] });
    let depth = arguments.depth.as_deref().unwrap_or(if defaults { &DEFAULT_DEPTH } else { &[0] });
    let rows = rows.iter().map(|&count| (Test::Rows(count), true));
    let prefill = prefill.iter().map(|&count| (Test::Prefill(count), arguments.prefill.is_some()));
    let decode = depth.iter().map(|&depth| {
        let is_asked_for = arguments.depth.is_some() || (depth == 0 && arguments.decode.is_some());
        (Test::Decode { count, depth }, is_asked_for)
    });
    let (mut tests, mut notes) = (Vec::new(), Vec::new());
    for (test, is_asked_for) in rows.chain(prefill).chain(decode).filter(|(test, _)| test.n_tokens() > 0) {
        let (needed, name, options) = (test.context(), test.name(), options_of(test));
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
            "there is nothing to measure in a context of 1 to {limit} tokens: give --prefill, --rows, or --decode and --depth"
        )));
    }
    notes.iter().for_each(|note| print_error(note));
    Ok(tests)
}

/// The options that set a test.
fn options_of(test: Test) -> &'static str {
    match test {
        Test::Prefill(_) => "--prefill",
        Test::Rows(_) => "--rows",
        Test::Decode { depth: 0, .. } => "--decode",
        Test::Decode { .. } => "--depth or --decode",
    }
}

fn print_all(bench: &mut Bench<'_>, tests: &[Test], heading: &Heading<'_>, form: Form) -> Result<(), Stop> {
    output::print(&heading.text(form))?;
    bench.warm_up().map_err(Stop::failed)?;
    let mut decoding_count = None;
    for &test in tests {
        let measured = bench.measure(test, heading.reps).map_err(Stop::failed)?;
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

/// The model's file.
enum Source<'a> {
    File(&'a Path),
    /// Synthetic, written for this run; removed on drop.
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
            // The argument parser requires one of them.
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
            // A failure has nowhere to be reported.
            let _ = std::fs::remove_file(path);
        }
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
        check("--rows 1,7", 256, Ok(&["rows1", "rows7"]));
        check("--rows 0", 256, Err("nothing to measure"));
        check("--rows 257", 256, Err("rows257 needs a context of 257 tokens"));
        check("--rows 2 --depth 3 --decode 4", 256, Ok(&["rows2", "tg4d3"]));
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
}
