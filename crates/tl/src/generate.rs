//! `tl generate`: text from a model, in memory that is reserved before the first token.

use serde_json::{Map, Value, json};
use tl_device::{Device, TensorBuffer};
use tl_engine::{
    ConstraintState, DecodeStream, Finish, GenerateOptions, Generator, Model, Planner, ReserveFor, Timings, Tokenizer,
};
use tl_model::{EncodeOptions, StopStrings};
use tl_syntax::SourceMap;

use crate::arguments::GenerateArguments;
use crate::output::{self, Stop};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::report::Recording;
use crate::{chat, statistics};

/// Prints the prompt and the text that the model goes on with, as it comes.
pub(crate) fn run(arguments: &GenerateArguments) -> Result<(), Stop> {
    #[cfg(feature = "grammar")]
    let grammar = arguments.grammar.read()?;
    let device = crate::device::open(&arguments.device)?;
    let limit = arguments.device.memory_limit;
    if limit.is_some() || device.is_gpu() {
        // On a GPU loading copies the weights: whether they fit is asked before.
        check_room(arguments, limit, &device)?;
    }
    let recording = Recording::start(&arguments.device, &device, "token")?;
    let model = arguments.how.load(&arguments.model, &device)?;
    let tokenizer = model.tokenizer().map_err(Stop::failed)?;
    #[cfg(feature = "grammar")]
    let constraint = grammar.map(|grammar| grammar.compile(&model)).transpose()?;
    #[cfg(not(feature = "grammar"))]
    let constraint: Option<Box<dyn tl_engine::Constraint>> = None;
    let prompt = prompt(arguments, &model, &tokenizer)?;
    let options = options(arguments, &model, prompt.len());
    let buffer = TensorBuffer::new(&device);
    let context = options.context.unwrap_or(model.config().context_length);
    if limit.is_none() && !device.is_gpu() {
        let weights = if arguments.how.no_mmap { WeightsAre::Copied } else { WeightsAre::Mapped };
        plan::check_room(&Planner::of(&model), context, 0, None, weights, &device)?;
    }
    buffer.reserve_for(&model, context).map_err(Stop::failed)?;
    device.set_tensor_buffer(buffer);
    let mut generator = Generator::new(model.clone(), &prompt, &options).map_err(Stop::failed)?;
    let mut stop = StopStrings::new(&arguments.sampling.stop).map_err(Stop::failed)?;
    // An answer is shown alone, and so is a text that follows a grammar.
    let shown: &[u32] = if arguments.chat || constraint.is_some() { &[] } else { &prompt };
    if let Some(constraint) = constraint {
        generator = generator.with_constraint(constraint);
    }
    let run = print_text(&mut generator, &tokenizer, shown, &mut stop, &device);
    if let Err(Stop::Failed(_)) = run {
        // The message begins a line.
        output::print("\n")?;
    }
    if let Some(form) = arguments.device.memory_stats {
        let report = Report { timings: generator.timings(), decoding: run.as_ref().ok().copied() };
        statistics::print(&device, form, Some(&report));
    }
    // What happened until then is worth knowing also where the run failed.
    let title = arguments.model.display().to_string();
    let recorded = recording.finish(&device, &title, &SourceMap::new());
    run.map(drop).and(recorded).and_then(|()| check_complete(&generator, &options))
}

/// A text that was cut off before its grammar let it end is no use to who asked for one.
fn check_complete(generator: &Generator<Model>, options: &GenerateOptions) -> Result<(), Stop> {
    if generator.constraint_state() != Some(ConstraintState::Open) {
        return Ok(());
    }
    let tokens = generator.cache().capacity();
    Err(Stop::Failed(match generator.finish() {
        Some(Finish::ContextFull) => {
            format!("the text is not complete by the grammar: it fills the context of {tokens} tokens (--context)")
        }
        _ => format!(
            "the text is not complete by the grammar: it has the {} tokens that --max-tokens allows",
            options.max_tokens
        ),
    }))
}

/// Refuses what would not stay within the limit, or find no room on the GPU, before anything is loaded.
fn check_room(arguments: &GenerateArguments, limit: Option<usize>, device: &Device) -> Result<(), Stop> {
    let meter = HeapMeter::start();
    let planner = arguments.how.planner(&arguments.model, device)?;
    let model = planner.model();
    let tokenizer = model.tokenizer().map_err(Stop::failed)?;
    let prompt_len = prompt(arguments, model, &tokenizer)?.len();
    let context = options(arguments, model, prompt_len).context.unwrap_or(model.config().context_length);
    let heap_bytes = meter.bytes(&planner, context).map_err(Stop::failed)?;
    plan::check_room(&planner, context, heap_bytes, limit, WeightsAre::ToCome, device)
}

/// The tokens to go on from.
fn prompt(arguments: &GenerateArguments, model: &Model, tokenizer: &Tokenizer) -> Result<Vec<u32>, Stop> {
    if arguments.chat {
        return chat::tokens(model, arguments.system.as_deref(), &arguments.prompt);
    }
    let options = EncodeOptions::default().with_parse_special(arguments.special);
    Ok(tokenizer.encode_with(&arguments.prompt, &options))
}

fn options(arguments: &GenerateArguments, model: &Model, prompt_len: usize) -> GenerateOptions {
    let sampling = arguments.sampling.options();
    // As much as this run can use; a prompt that is too long is told so by the generator.
    let enough = prompt_len.saturating_add(arguments.max_tokens).clamp(1, model.config().context_length);
    GenerateOptions { max_tokens: arguments.max_tokens, context: Some(arguments.context.unwrap_or(enough)), sampling }
}

/// Allocations of the device after the first token.
type Decoding = u64;

fn print_text(
    generator: &mut Generator<Model>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    stop: &mut StopStrings,
    device: &Device,
) -> Result<Decoding, Stop> {
    // The stream goes through the prompt too, which tells it whether a space that comes next is the text's own.
    let mut stream = if prompt.is_empty() { DecodeStream::new() } else { DecodeStream::from_start() };
    for &id in prompt {
        output::print(stream.next(tokenizer, id).map_err(Stop::failed)?)?;
    }
    let mut first = None;
    for token in generator {
        let token = token.map_err(Stop::failed)?;
        output::print(stop.push(stream.next(tokenizer, token).map_err(Stop::failed)?))?;
        device.end_step();
        first.get_or_insert_with(|| device.stats().allocation_count);
        if stop.found().is_some() {
            break;
        }
    }
    output::print(stop.push(stream.finish()))?;
    output::print(stop.finish())?;
    output::print("\n")?;
    let allocations = device.stats().allocation_count;
    Ok(allocations - first.unwrap_or(allocations))
}

/// What `--memory-stats` tells of the run beside the memory.
pub(crate) struct Report {
    timings: Timings,
    /// Allocations while decoding, where the run came to its end.
    decoding: Option<Decoding>,
}

impl Report {
    /// The report for people.
    pub(crate) fn text(&self) -> String {
        let Timings { prompt_tokens, decoded_tokens, .. } = self.timings;
        let mut text = format!(
            "prompt of {prompt_tokens} tokens at {:.1} tokens/s, then {decoded_tokens} tokens at {:.1} tokens/s",
            self.timings.prefill_rate(),
            self.timings.decode_rate()
        );
        if let Some(allocations) = self.decoding {
            text += &format!("\nallocations while decoding: {allocations}");
        }
        text
    }

    /// Adds the report to an object.
    pub(crate) fn add_to(&self, object: &mut Map<String, Value>) {
        object.insert("prompt_tokens".to_owned(), json!(self.timings.prompt_tokens));
        object.insert("prefill_tokens_per_second".to_owned(), json!(self.timings.prefill_rate()));
        object.insert("decoded_tokens".to_owned(), json!(self.timings.decoded_tokens));
        object.insert("decode_tokens_per_second".to_owned(), json!(self.timings.decode_rate()));
        object.insert("allocations_while_decoding".to_owned(), json!(self.decoding));
    }
}
