//! `tl perplexity`: a model's perplexity on a text, and its divergence from another model, in memory that is reserved
//! before the first window.

use std::path::Path;

use serde_json::{Map, Value, json};
use tl_device::{Device, Mapping, TensorBuffer};
use tl_engine::{Model, ModelError, Planner};
use tl_syntax::SourceMap;
use tl_tools::{Divergence, LogProbs, LogProbsRow, LogProbsWriter, Perplexity, Predictions, WINDOWS};

use crate::arguments::PerplexityArguments;
use crate::output::{self, Stop};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::progress::Bar;
use crate::report::Recording;
use crate::statistics;
use crate::{files, interrupt};

/// Runs the text through the model and prints the result.
pub(crate) fn run(arguments: &PerplexityArguments) -> Result<(), Stop> {
    let inputs = [Some(&arguments.model), arguments.text.as_ref(), arguments.against.as_ref()];
    inputs.into_iter().flatten().for_each(|input| files::note_input(input));
    arguments.save.iter().try_for_each(|target| files::check_output(target))?;
    let device = crate::device::open(&arguments.device)?;
    let reference = arguments.against.as_deref().map(Reference::open).transpose()?;
    let limit = arguments.device.memory_limit;
    if limit.is_some() || device.is_gpu() {
        // On a GPU, loading copies the weights, so the room is checked first.
        check_room(arguments, reference.as_ref(), &device)?;
    }
    let recording = Recording::start(&arguments.device, &device, "step")?;
    let model = arguments.how.load(&arguments.model, &device)?;
    let text = match &reference {
        Some(reference) => reference.check_against(&model).and_then(|file| Text::of_file(file, arguments)),
        None => Text::read(arguments, &model),
    };
    let run = text.and_then(|text| evaluate(arguments, &model, text));
    let title = arguments.model.display().to_string();
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    let recorded = recording.finish(&device, &title, &SourceMap::new());
    let found = run?;
    recorded?;
    output::print(&if arguments.json { format!("{}\n", found.json()) } else { found.text() })
}

/// Refuses a run that exceeds the memory limit or the GPU's memory, before the model is loaded.
fn check_room(arguments: &PerplexityArguments, reference: Option<&Reference<'_>>, device: &Device) -> Result<(), Stop> {
    let meter = HeapMeter::start();
    let planner = arguments.how.planner(&arguments.model, device)?.for_workload(WINDOWS);
    let (window, text_bytes) = match reference {
        Some(reference) => (reference.check_against(planner.model())?.window(), reference.mapping.bytes().len()),
        None => (window(arguments, planner.model()), check_text(arguments, device)?),
    };
    let heap_bytes = meter.bytes(&planner, window).map_err(Stop::failed)? + text_bytes as u64;
    let limit = arguments.device.memory_limit;
    plan::check_room(&planner, window, heap_bytes, limit, WeightsAre::ToCome, device)
}

/// Tokens of a window, if no file of log-probabilities sets them.
fn window(arguments: &PerplexityArguments, model: &Model) -> usize {
    arguments.context.unwrap_or(512.min(model.config().context_length))
}

/// The text's file.
fn text_path(arguments: &PerplexityArguments) -> &Path {
    // The argument parser requires one where there is no reference.
    arguments.text.as_deref().unwrap_or(Path::new("-"))
}

fn text_len(arguments: &PerplexityArguments) -> Result<u64, Stop> {
    let path = text_path(arguments);
    path.metadata().map(|metadata| metadata.len()).map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))
}

/// Checks that the heap has room to encode the text. Returns the bytes.
fn check_text(arguments: &PerplexityArguments, device: &Device) -> Result<usize, Stop> {
    let len = text_len(arguments)?;
    let bytes = usize::try_from(len).unwrap_or(usize::MAX).saturating_mul(ENCODING_BYTES);
    let what = || format!("encoding a text of {}", tl_device::bytes(len));
    let checked = device.check_heap(bytes, what);
    checked.map_err(|error| Stop::Failed(format!("{}: {error}", text_path(arguments).display())))?;
    Ok(bytes)
}

/// A file of log-probabilities to compare with.
struct Reference<'a> {
    path: &'a Path,
    mapping: Mapping,
}

impl<'a> Reference<'a> {
    fn open(path: &'a Path) -> Result<Reference<'a>, Stop> {
        let mapping =
            Mapping::open(path).map_err(|source| Stop::failed(ModelError::Io { path: path.to_owned(), source }))?;
        Ok(Reference { path, mapping })
    }

    /// The file's contents, if they are for this model's vocabulary.
    fn check_against(&self, model: &Model) -> Result<LogProbs<'_>, Stop> {
        let path = self.path.display();
        let file = LogProbs::parse(self.mapping.bytes()).map_err(|error| Stop::Failed(format!("{path}: {error}")))?;
        let (theirs, ours) = (file.vocab_size(), model.config().vocab_size);
        if theirs != ours {
            return Err(Stop::Failed(format!("{path} is about a vocabulary of {theirs} tokens, the model has {ours}")));
        }
        Ok(file)
    }
}

/// Maximum heap bytes per byte of text while it is encoded.
const ENCODING_BYTES: usize = 40;

/// Windows of tokens, and the reference's log-probabilities for them.
struct Text<'a> {
    window: usize,
    windows: Vec<Vec<u32>>,
    rows: Option<Box<dyn Iterator<Item = LogProbsRow<'a>> + 'a>>,
}

impl<'a> Text<'a> {
    fn of_file(file: LogProbs<'a>, arguments: &PerplexityArguments) -> Result<Text<'a>, Stop> {
        let windows = file.windows().take(arguments.most_windows()).collect();
        Ok(Text { window: file.window(), windows, rows: Some(Box::new(file.rows())) })
    }

    /// Reads a file's text and cuts it into windows; the rest at its end is left out.
    fn read(arguments: &PerplexityArguments, model: &Model) -> Result<Text<'a>, Stop> {
        let path = text_path(arguments);
        let window = window(arguments, model);
        check_text(arguments, model.device())?;
        let text = files::read_text(path, u64::MAX)?;
        let tokens = model.tokenizer().map_err(Stop::failed)?.encode(&text);
        let windows = tokens.chunks_exact(window.max(1)).take(arguments.most_windows());
        let windows: Vec<Vec<u32>> = windows.map(<[u32]>::to_vec).collect();
        if windows.is_empty() {
            let (path, n) = (path.display(), tokens.len());
            return Err(Stop::Failed(format!(
                "{path} has {n} tokens, fewer than a window of {window}; lower --context"
            )));
        }
        Ok(Text { window, windows, rows: None })
    }
}

/// Result for a text.
struct Found {
    window: usize,
    n_windows: usize,
    perplexity: Perplexity,
    divergence: Option<Divergence>,
}

/// Evaluates all windows, with progress on the terminal.
fn evaluate(arguments: &PerplexityArguments, model: &Model, mut text: Text<'_>) -> Result<Found, Stop> {
    let device = model.device();
    if arguments.device.memory_limit.is_none() && !device.is_gpu() {
        let weights = if arguments.how.no_mmap { WeightsAre::Copied } else { WeightsAre::Mapped };
        plan::check_room(&Planner::of(model).for_workload(WINDOWS), text.window, 0, None, weights, device)?;
    }
    let buffer = TensorBuffer::new(device);
    (WINDOWS.reserve)(&buffer, model, text.window).map_err(Stop::failed)?;
    device.set_tensor_buffer(buffer);
    let mut predictions = Predictions::new(model, text.window).map_err(Stop::failed)?;
    let create = |path: &Path| {
        let tokens = text.windows.concat();
        LogProbsWriter::create(path, text.window, model.config().vocab_size, &tokens).map_err(Stop::failed)
    };
    let mut writer = arguments.save.as_deref().map(create).transpose()?;
    let n_windows = text.windows.len();
    let divergence = text.rows.is_some().then(Divergence::default);
    let mut found = Found { window: text.window, n_windows, perplexity: Perplexity::default(), divergence };
    let bar = Bar::of_things(n_windows as u64, "windows");
    let _orderly = interrupt::Orderly::new();
    let mut through = Ok(());
    for (index, window) in text.windows.iter().enumerate() {
        bar.set(index as u64);
        if interrupt::is_asked() {
            return Err(Stop::Exit(interrupt::exit_code()));
        }
        let mut each = |next: u32, logits: &[f32]| {
            found.perplexity.add(next, logits);
            if let (Some(divergence), Some(row)) = (&mut found.divergence, text.rows.as_mut().and_then(Iterator::next))
            {
                divergence.add(&row, next, logits);
            }
            writer.as_mut().map_or(Ok(()), |writer| writer.row(logits))
        };
        through = predictions.window(window, &mut each);
        if through.is_err() {
            break;
        }
    }
    drop(bar);
    let saved = through.and_then(|()| writer.map_or(Ok(0), LogProbsWriter::finish));
    saved.map_err(Stop::failed)?;
    if found.perplexity.value().is_nan() {
        return Err(Stop::Failed("the perplexity is not a number: the model's logits are not all numbers".to_owned()));
    }
    Ok(found)
}

impl Found {
    fn text(&self) -> String {
        let Found { window, n_windows, perplexity, divergence } = self;
        let mut text = format!(
            "perplexity {}, of {} tokens in {n_windows} windows of {window}\n",
            with_error(perplexity),
            perplexity.n_tokens()
        );
        if let Some(divergence) = divergence {
            text += &format!(
                "the reference's {}\ndivergence from it: mean {:.3e}, median {:.3e}, 99 % {:.3e}, greatest {:.3e}\n\
                 the same likeliest token: {:.2} %\n",
                with_error(divergence.reference()),
                divergence.mean(),
                divergence.quantile(0.5),
                divergence.quantile(0.99),
                divergence.quantile(1.0),
                100.0 * divergence.same_top()
            );
        }
        text
    }

    fn json(&self) -> Value {
        let mut object = Map::new();
        let mut insert = |key: &str, value: Value| object.insert(key.to_owned(), value);
        insert("window", json!(self.window));
        insert("windows", json!(self.n_windows));
        insert("tokens", json!(self.perplexity.n_tokens()));
        insert("perplexity", json!(self.perplexity.value()));
        insert("perplexity_error", json!(self.perplexity.standard_error()));
        if let Some(divergence) = &self.divergence {
            insert("reference_perplexity", json!(divergence.reference().value()));
            insert("kl_mean", json!(divergence.mean()));
            insert("kl_median", json!(divergence.quantile(0.5)));
            insert("kl_99", json!(divergence.quantile(0.99)));
            insert("kl_most", json!(divergence.quantile(1.0)));
            insert("same_top", json!(divergence.same_top()));
        }
        Value::Object(object)
    }
}

fn with_error(perplexity: &Perplexity) -> String {
    format!("{:.4} ± {:.4}", perplexity.value(), perplexity.standard_error())
}
