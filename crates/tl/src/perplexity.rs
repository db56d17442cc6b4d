//! `tl perplexity`: how well a model predicts a text, and how far its predictions are from another's.

use std::path::Path;

use serde_json::{Map, Value, json};
use tl_device::Mapping;
use tl_engine::{Divergence, Model, ModelError, Perplexity, Predictions};
use tl_model::{LogProbs, LogProbsRow, LogProbsWriter};
use tl_syntax::SourceMap;

use crate::arguments::PerplexityArguments;
use crate::output::{self, Stop};
use crate::progress::Line;
use crate::quantize::refuse_own_input;
use crate::report::Recording;
use crate::statistics;

/// Runs the text through the model and prints what comes of it.
pub(crate) fn run(arguments: &PerplexityArguments) -> Result<(), Stop> {
    let inputs = [Some(&arguments.model), arguments.text.as_ref(), arguments.against.as_ref()];
    if let Some(target) = &arguments.save {
        inputs.into_iter().flatten().try_for_each(|input| refuse_own_input(input, target))?;
    }
    let device = crate::device::open(&arguments.device)?;
    let reference = arguments.against.as_deref().map(Reference::open).transpose()?;
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

    /// The file's contents, if they are about this model's vocabulary.
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

/// What the tokenizer takes for a byte of text, at the most.
const ENCODING_BYTES: usize = 40;

/// Windows of tokens, and what is known about their predictions.
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

    /// The text of a file, cut into windows; what is left over at its end is left out.
    fn read(arguments: &PerplexityArguments, model: &Model) -> Result<Text<'a>, Stop> {
        // The arguments' definition asks for one of the two.
        let path = arguments.text.as_deref().unwrap_or(Path::new("-"));
        let window = arguments.context.unwrap_or(512.min(model.config().context_length));
        let failed = |problem: &dyn std::fmt::Display| Stop::Failed(format!("{}: {problem}", path.display()));
        let len = path.metadata().map_err(|error| failed(&error))?.len();
        let needed = usize::try_from(len).unwrap_or(usize::MAX).saturating_mul(ENCODING_BYTES);
        let what = || format!("encoding a text of {}", tl_device::bytes(len));
        model.device().check_heap(needed, what).map_err(|error| failed(&error))?;
        let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
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

/// What came of a text.
struct Found {
    window: usize,
    n_windows: usize,
    perplexity: Perplexity,
    divergence: Option<Divergence>,
}

/// Goes through all windows, with a line on the terminal that says how far it has come.
fn evaluate(arguments: &PerplexityArguments, model: &Model, mut text: Text<'_>) -> Result<Found, Stop> {
    let mut predictions = Predictions::new(model, text.window).map_err(Stop::failed)?;
    let create = |path: &Path| {
        let tokens = text.windows.concat();
        LogProbsWriter::create(path, text.window, model.config().vocab_size, &tokens).map_err(Stop::failed)
    };
    let mut writer = arguments.save.as_deref().map(create).transpose()?;
    let n_windows = text.windows.len();
    let divergence = text.rows.is_some().then(Divergence::default);
    let mut found = Found { window: text.window, n_windows, perplexity: Perplexity::default(), divergence };
    let line = Line::new();
    let mut through = Ok(());
    for (index, window) in text.windows.iter().enumerate() {
        line.show(&format!("window {} of {n_windows}", index + 1));
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
    let saved = through.and_then(|()| writer.map_or(Ok(0), LogProbsWriter::finish));
    saved.map(|_| found).map_err(Stop::failed)
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
