//! `tl generate`: text from a model, in memory that is reserved before the first token.

use std::io::IsTerminal;

use serde_json::{Value, json};
use tl_device::{Device, TensorBuffer};
use tl_engine::{
    ConstraintState, DecodeStream, Finish, GenerateOptions, Generator, Model, Planner, ReserveFor, Timings, Tokenizer,
};
use tl_model::{EncodeOptions, StopStrings};
use tl_syntax::SourceMap;

use crate::arguments::GenerateArguments;
use crate::interrupt::{self, Orderly};
use crate::output::{self, Stop, print_error};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::report::Recording;
use crate::statistics::{self, GenerationReport};
use crate::{chat, files};

/// Prints the prompt and its continuation, as it comes.
pub(crate) fn run(arguments: &GenerateArguments) -> Result<(), Stop> {
    #[cfg(feature = "grammar")]
    let grammar = arguments.grammar.read()?;
    let device = crate::device::open(&arguments.device)?;
    let text = prompt_text(arguments)?;
    let limit = arguments.device.memory_limit;
    if limit.is_some() || device.is_gpu() {
        // On a GPU, loading copies the weights, so the room is checked first.
        check_room(arguments, &text, limit, &device)?;
    }
    let recording = Recording::start(&arguments.device, &device, "token")?;
    let model = arguments.how.load(&arguments.model, &device)?;
    let tokenizer = model.tokenizer().map_err(Stop::failed)?;
    #[cfg(feature = "grammar")]
    let constraint = grammar.map(|grammar| grammar.compile(&model)).transpose()?;
    #[cfg(not(feature = "grammar"))]
    let constraint: Option<Box<dyn tl_engine::Constraint>> = None;
    let prompt = prompt(arguments, &text, &model, &tokenizer)?;
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
    // An answer, or a text that follows a grammar, is printed without the prompt.
    let is_alone = arguments.chat || arguments.json || constraint.is_some();
    let shown: &[u32] = if is_alone { &[] } else { &prompt };
    if let Some(constraint) = constraint {
        generator = generator.with_constraint(constraint);
    }
    let orderly = Orderly::new();
    let mut sink = if arguments.json { Sink::Collected(String::new()) } else { Sink::Printed };
    let run = write_text(&mut generator, &tokenizer, shown, &mut stop, &device, &mut sink);
    if let (Err(Stop::Failed(_)), Sink::Printed) = (&run, &sink) {
        // The message begins a line.
        output::print("\n")?;
    }
    if let Ok(written) = &run {
        let end = End {
            finish: generator.finish(),
            stop: stop_text(arguments, stop.found()),
            is_interrupted: written.is_interrupted,
        };
        match &sink {
            // A text that its grammar does not let end is an error, which says why by itself.
            Sink::Printed if !end.is_interrupted && generator.constraint_state() == Some(ConstraintState::Open) => {}
            Sink::Printed => print_error(&end.text(arguments, generator.cache().capacity())),
            Sink::Collected(text) => output::print(&format!("{}\n", end.json(text, &generator.timings(), arguments)))?,
        }
    }
    if let Some(form) = arguments.device.memory_stats {
        let decoding = run.as_ref().ok().map(|written| written.decoding_allocations);
        let report = GenerationReport { timings: generator.timings(), decoding };
        statistics::print(&device, form, Some(&report));
    }
    // The recording is useful also where the run failed.
    let title = arguments.model.display().to_string();
    let recorded = recording.finish(&device, &title, &SourceMap::new());
    drop(orderly);
    let written = run?;
    recorded?;
    match written.is_interrupted {
        true => Err(Stop::Exit(interrupt::exit_code())),
        false => check_complete(&generator, &options),
    }
}

/// Maximum bytes of a prompt file.
const MAX_PROMPT_BYTES: u64 = 64 << 20;

/// The prompt's text: from the arguments, a file or standard input.
fn prompt_text(arguments: &GenerateArguments) -> Result<String, Stop> {
    match (&arguments.prompt, &arguments.file) {
        (Some(text), _) => Ok(text.clone()),
        (None, Some(file)) if file.as_os_str() != "-" => files::read_text(file, MAX_PROMPT_BYTES),
        (None, Some(_)) => files::read_stdin(MAX_PROMPT_BYTES),
        (None, None) => {
            let is_terminal = std::io::stdin().is_terminal();
            let text = if is_terminal { String::new() } else { files::read_stdin(MAX_PROMPT_BYTES)? };
            match text.is_empty() {
                true => Err(Stop::usage(
                    "there is nothing to go on from: give --prompt TEXT, --file FILE or a text on standard input; see --help",
                )),
                false => Ok(text),
            }
        }
    }
}

/// The stop string at this index.
fn stop_text(arguments: &GenerateArguments, number: Option<usize>) -> Option<&str> {
    arguments.sampling.stop.get(number?).map(String::as_str)
}

/// Why a text ended.
struct End<'a> {
    finish: Option<Finish>,
    /// The stop string that was found.
    stop: Option<&'a str>,
    is_interrupted: bool,
}

impl End<'_> {
    /// As text for people.
    fn text(&self, arguments: &GenerateArguments, context: usize) -> String {
        match (self.is_interrupted, self.stop, self.finish) {
            (true, _, _) => "(interrupted)".to_owned(),
            (_, Some(stop), _) => format!("(ended before {stop:?})"),
            (_, _, Some(Finish::MaxTokens)) => {
                format!("(cut off: --max-tokens allows {} tokens)", arguments.max_tokens)
            }
            (_, _, Some(Finish::ContextFull)) => {
                format!("(cut off: the context of {context} tokens is full; --context gives more)")
            }
            (_, _, Some(Finish::ConstraintComplete)) => "(complete by the grammar)".to_owned(),
            _ => "(end of the text)".to_owned(),
        }
    }

    /// As JSON for programs.
    fn json(&self, text: &str, timings: &Timings, arguments: &GenerateArguments) -> Value {
        let reason = match (self.is_interrupted, self.stop, self.finish) {
            (true, _, _) => "interrupted",
            (_, Some(_), _) => "stop",
            (_, _, Some(Finish::MaxTokens)) => "max_tokens",
            (_, _, Some(Finish::ContextFull)) => "context_full",
            (_, _, Some(Finish::ConstraintComplete)) => "grammar_complete",
            _ => "end_of_text",
        };
        json!({
            "text": text,
            "finish_reason": reason,
            "stop": self.stop,
            "seed": arguments.sampling.seed,
            "prompt_tokens": timings.prompt_tokens,
            "prefill_tokens_per_second": timings.prefill_rate(),
            "decoded_tokens": timings.decoded_tokens,
            "decode_tokens_per_second": timings.decode_rate(),
        })
    }
}

/// Refuses a text that was cut off before its grammar let it end.
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

/// Refuses a run that exceeds the memory limit or the GPU's memory, before the model is loaded.
fn check_room(arguments: &GenerateArguments, text: &str, limit: Option<usize>, device: &Device) -> Result<(), Stop> {
    let meter = HeapMeter::start();
    let planner = arguments.how.planner(&arguments.model, device)?;
    let model = planner.model();
    let tokenizer = model.tokenizer().map_err(Stop::failed)?;
    let prompt_len = prompt(arguments, text, model, &tokenizer)?.len();
    let context = options(arguments, model, prompt_len).context.unwrap_or(model.config().context_length);
    let heap_bytes = meter.bytes(&planner, context).map_err(Stop::failed)?;
    plan::check_room(&planner, context, heap_bytes, limit, WeightsAre::ToCome, device)
}

/// The tokens of the prompt.
fn prompt(arguments: &GenerateArguments, text: &str, model: &Model, tokenizer: &Tokenizer) -> Result<Vec<u32>, Stop> {
    if arguments.chat {
        return chat::tokens(model, arguments.system.as_deref(), text);
    }
    let options = EncodeOptions::default().with_parse_special(arguments.special);
    Ok(tokenizer.encode_with(text, &options))
}

fn options(arguments: &GenerateArguments, model: &Model, prompt_len: usize) -> GenerateOptions {
    // Enough for this run; the generator reports a prompt that is too long.
    let enough = prompt_len.saturating_add(arguments.max_tokens).clamp(1, model.config().context_length);
    GenerateOptions::default()
        .with_max_tokens(arguments.max_tokens)
        .with_context(arguments.context.unwrap_or(enough))
        .with_sampling(arguments.sampling.options())
}

/// A text that was written.
struct Written {
    /// Allocations of the device after the first token.
    decoding_allocations: u64,
    is_interrupted: bool,
}

/// Destination of a text.
enum Sink {
    /// To standard output, as it comes.
    Printed,
    /// Into one string.
    Collected(String),
}

impl Sink {
    fn push(&mut self, text: &str) -> Result<(), Stop> {
        match self {
            Sink::Printed => output::print(text),
            Sink::Collected(all) => {
                all.push_str(text);
                Ok(())
            }
        }
    }
}

fn write_text(
    generator: &mut Generator<Model>,
    tokenizer: &Tokenizer,
    prompt: &[u32],
    stop: &mut StopStrings,
    device: &Device,
    sink: &mut Sink,
) -> Result<Written, Stop> {
    // The stream decodes the prompt too, so that it knows whether the next space belongs to the text.
    let mut stream = if prompt.is_empty() { DecodeStream::new() } else { DecodeStream::from_start() };
    for &id in prompt {
        sink.push(stream.next(tokenizer, id).map_err(Stop::failed)?)?;
    }
    let mut first = None;
    for token in generator {
        let token = token.map_err(Stop::failed)?;
        sink.push(stop.push(stream.next(tokenizer, token).map_err(Stop::failed)?))?;
        device.end_step();
        first.get_or_insert_with(|| device.stats().allocation_count);
        if stop.found().is_some() || interrupt::is_asked() {
            break;
        }
    }
    sink.push(stop.push(stream.finish()))?;
    sink.push(stop.finish())?;
    if let Sink::Printed = sink {
        output::print("\n")?;
    }
    let allocations = device.stats().allocation_count;
    let decoding_allocations = allocations - first.unwrap_or(allocations);
    Ok(Written { decoding_allocations, is_interrupted: interrupt::is_asked() })
}
