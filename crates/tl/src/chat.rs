//! `tl chat`: a conversation in the terminal, in memory that is reserved before the first word.

use std::io::{BufRead, ErrorKind, IsTerminal};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use tl_device::{Device, TensorBuffer, bytes as display_bytes};
use tl_engine::{AnswerEnd, Chat, ChatForm, ChatOptions, DateTime, Message, Model, Planner, ReserveFor};
use tl_syntax::SourceMap;

use crate::arguments::ChatArguments;
use crate::output::{self, Stop, print_error};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::report::Recording;
use crate::{files, interrupt, statistics};

/// Default context, where the model supports as much.
const DEFAULT_CONTEXT: usize = 4096;

const HELP: &str = "/system TEXT  the system message from here on; the conversation begins anew
/reset        forget the conversation
/save FILE    write the conversation as JSON
/memory       what the memory holds
/help         this
/quit         end (Ctrl-D too); Ctrl-C ends an answer
";

/// Source of the user's lines.
enum Input {
    Terminal(Box<DefaultEditor>),
    Pipe,
}

impl Input {
    fn new() -> Result<Input, Stop> {
        if !std::io::stdin().is_terminal() {
            return Ok(Input::Pipe);
        }
        Ok(Input::Terminal(Box::new(DefaultEditor::new().map_err(Stop::failed)?)))
    }

    /// The next line; `None` at the end.
    fn next(&mut self, device: &Device) -> Result<Option<String>, Stop> {
        match self {
            Input::Pipe => read_line(&mut std::io::stdin().lock(), device),
            Input::Terminal(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        // A line missing from the history is no reason to fail.
                        let _ = editor.add_history_entry(&line);
                        return Ok(Some(line));
                    }
                    Err(ReadlineError::Interrupted) => output::print("/quit or Ctrl-D ends\n")?,
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(error) => return Err(Stop::failed(error)),
                }
            },
        }
    }
}

/// Heap bytes per byte of a message: the line, the conversation's text, its tokens.
const MESSAGE_BYTES: usize = 16;

/// The next line, if the heap has room to process it; `None` at the end.
fn read_line(input: &mut impl BufRead, device: &Device) -> Result<Option<String>, Stop> {
    let mut line = Vec::new();
    let mut is_end = true;
    loop {
        let part = match input.fill_buf() {
            Ok(part) => part,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(Stop::failed(error)),
        };
        if part.is_empty() {
            break;
        }
        is_end = false;
        let newline = part.iter().position(|&byte| byte == b'\n');
        let n = newline.unwrap_or(part.len());
        let len = line.len() + n;
        let what = || format!("a message of {}", display_bytes(len as u64));
        device.check_heap(len.saturating_mul(MESSAGE_BYTES), what).map_err(Stop::failed)?;
        line.extend_from_slice(&part[..n]);
        input.consume(newline.map_or(n, |n| n + 1));
        if newline.is_some() {
            break;
        }
    }
    let line = String::from_utf8(line)
        .map_err(|_| Stop::Failed("a line of the input is not UTF-8, which messages are written in".to_owned()))?;
    Ok((!is_end).then(|| line.trim_end_matches('\r').to_owned()))
}

/// Talks with a model.
pub(crate) fn run(arguments: &ChatArguments) -> Result<(), Stop> {
    let path = &arguments.model;
    #[cfg(feature = "grammar")]
    let grammar = arguments.grammar.read()?;
    let device = crate::device::open(&arguments.device)?;
    let meter = HeapMeter::start();
    let planner = arguments.how.planner(path, &device)?;
    let longest = planner.model().config().context_length;
    let context = arguments.context.unwrap_or(longest.min(DEFAULT_CONTEXT));
    let heap_bytes = meter.bytes(&planner, context).map_err(Stop::failed)?;
    plan::check_room(&planner, context, heap_bytes, arguments.device.memory_limit, WeightsAre::ToCome, &device)?;
    // The model allocates the planner's heap again.
    drop(planner);
    let recording = Recording::start(&arguments.device, &device, "piece of an answer")?;
    let model = arguments.how.load(path, &device)?;
    let buffer = TensorBuffer::new(&device);
    buffer.reserve_for(&model, context).map_err(Stop::failed)?;
    device.set_tensor_buffer(buffer);
    let mut options = ChatOptions::new(context);
    options.max_tokens = arguments.max_tokens;
    options.sampling = arguments.sampling.options();
    options.stop = arguments.sampling.stop.clone();
    options.now = now();
    let mut chat = Chat::new(&model, options).map_err(Stop::failed)?;
    #[cfg(feature = "grammar")]
    if let Some(grammar) = grammar {
        chat.set_constraint(Some(grammar.compile(&model)?)).map_err(Stop::failed)?;
    }
    let system = arguments.system.clone();
    chat.set_messages(system_message(system.as_deref()));
    let is_terminal = std::io::stdin().is_terminal();
    if is_terminal {
        let mut plan = Planner::of(&model).plan(context).map_err(Stop::failed)?;
        plan.heap_bytes = heap_bytes;
        print_error(&format!(
            "{}, {context} tokens, {}; /help helps",
            path.display(),
            display_bytes(plan.total_bytes())
        ));
    }
    let run = converse(&device, &mut chat, system, is_terminal);
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    let recorded = recording.finish(&device, &path.display().to_string(), &SourceMap::new());
    run.and(recorded)
}

/// Answers the user's lines until they end.
fn converse(device: &Device, chat: &mut Chat, mut system: Option<String>, is_terminal: bool) -> Result<(), Stop> {
    let mut input = Input::new()?;
    while let Some(line) = input.next(device)? {
        match line.trim() {
            "" => {}
            "/quit" | "/exit" => break,
            "/help" => output::print(HELP)?,
            "/memory" => memory(device, chat)?,
            "/reset" => chat.set_messages(system_message(system.as_deref())),
            command if command.starts_with("/system") => {
                system = Some(command["/system".len()..].trim().to_owned()).filter(|text| !text.is_empty());
                chat.set_messages(system_message(system.as_deref()));
            }
            command if command.starts_with("/save") => match command["/save".len()..].trim() {
                "" => print_error("/save FILE: the file's name is missing"),
                file => save(chat, Path::new(file)),
            },
            command if command.starts_with('/') => {
                print_error(&format!("there is no {command}; /help lists what there is"))
            }
            text => answer(device, chat, text, is_terminal)?,
        }
    }
    Ok(())
}

fn now() -> DateTime {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
    DateTime::from_unix_seconds(i64::try_from(seconds).unwrap_or(0))
}

fn system_message(text: Option<&str>) -> Vec<Message> {
    text.map(|text| Message::new("system", text)).into_iter().collect()
}

/// Prints the answer as it comes. An error in one message does not end the conversation.
fn answer(device: &Device, chat: &mut Chat, text: &str, is_terminal: bool) -> Result<(), Stop> {
    interrupt::clear();
    let _orderly = interrupt::Orderly::new();
    let mut answer = match chat.say(Message::new("user", text)) {
        Ok(answer) => answer,
        Err(error) => {
            print_error(&format!("error: {error}"));
            return Ok(());
        }
    };
    loop {
        if interrupt::is_asked() {
            answer.cancel();
        }
        match answer.next() {
            Some(Ok(piece)) => {
                output::print(piece)?;
                device.end_step();
            }
            Some(Err(error)) => {
                print_error(&format!("error: {error}"));
                break;
            }
            None => break,
        }
    }
    output::print("\n")?;
    match answer.end() {
        Some(AnswerEnd::MaxTokens) => print_error("(cut off: --max-tokens allows no more)"),
        Some(AnswerEnd::ContextFull) => print_error("(cut off: the context is full; /reset begins anew)"),
        Some(AnswerEnd::Cancelled) if is_terminal => print_error("(ended)"),
        _ => {}
    }
    Ok(())
}

fn memory(device: &Device, chat: &Chat) -> Result<(), Stop> {
    let session = chat.session();
    let timings = session.timings();
    output::print(&format!(
        "{} of {} tokens; {} tokens read at {:.1} tokens/s, {} written at {:.1}\n",
        session.tokens().len(),
        session.context(),
        timings.prompt_tokens,
        timings.prefill_rate(),
        timings.decoded_tokens,
        timings.decode_rate()
    ))?;
    output::print(&statistics::text_of(device))
}

fn save(chat: &Chat, file: &Path) {
    let text = serde_json::to_string_pretty(chat.messages()).map_err(Stop::failed);
    match text.and_then(|text| files::write(file, |out| writeln!(out, "{text}"))) {
        Ok(()) => print_error(&format!("saved to {}", file.display())),
        Err(Stop::Failed(message)) => print_error(&format!("error: {message}")),
        Err(_) => {}
    }
}

/// The tokens of a conversation that begins with one message, for `tl generate --chat`.
pub(crate) fn tokens(model: &Model, system: Option<&str>, text: &str) -> Result<Vec<u32>, Stop> {
    let mut messages = system_message(system);
    messages.push(Message::new("user", text));
    ChatForm::of(model.weights()).and_then(|form| form.tokens(&messages, now())).map_err(Stop::failed)
}
