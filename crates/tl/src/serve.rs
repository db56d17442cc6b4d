//! `tl serve`: the OpenAI API over a model, in memory that is reserved before the first request.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tl_device::{Device, bytes as display_bytes};
use tl_engine::Planner;
use tl_serve::{ApiKeys, Engine, EngineOptions, Log, Server, ServerOptions, runs_several};
use tl_syntax::SourceMap;

use crate::arguments::ServeArguments;
use crate::output::{self, Stop, print_error};
use crate::plan::{self, HeapMeter, WeightsAre};
use crate::report::Recording;
use crate::{files, interrupt, statistics};

/// Default context, where the model supports as much.
const DEFAULT_CONTEXT: usize = 4096;

/// Sequences of the longest length that there is memory for, unless a limit or an argument says otherwise.
const DEFAULT_SEQUENCES: usize = 4;

/// The most of them that a memory limit is filled with.
const MOST_BY_LIMIT: usize = 16;

/// Tokens of a short sequence, of which more run at once, and the most of these.
const SHORT_TOKENS: usize = 256;
const MOST_SHORT: usize = 64;

/// Maximum bytes of a file of keys.
const MAX_KEY_FILE_BYTES: u64 = 1 << 20;

/// How often the program looks for signals.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// Serves a model until a signal comes.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Stop> {
    let options = server_options(arguments)?;
    let device = crate::device::open(&arguments.device)?;
    let (engine_options, heap_bytes) = plan(arguments, &options, &device)?;
    let recording = Recording::start(&arguments.device, &device, "step")?;
    let model = arguments.how.load(&arguments.model, &device)?;
    let mut planned = engine_options.memory_plan(&Planner::of(&model)).map_err(Stop::failed)?;
    planned.heap_bytes = heap_bytes;
    let engine = Engine::start(&model, engine_options).map_err(Stop::failed)?;
    let address = SocketAddr::new(arguments.host, arguments.port);
    let listener = TcpListener::bind(address).map_err(|error| Stop::Failed(format!("{address}: {error}")))?;
    // From here on a signal lets running requests finish.
    let orderly = interrupt::Orderly::new();
    let connections = options.limits.connections;
    let server = Server::start(engine, &model, listener, options).map_err(Stop::failed)?;
    output::print(&format!(
        "{}, queue {}, {connections} connections, {}; http://{}\n",
        at_once(&engine_options),
        engine_options.queue,
        memory(planned.total_bytes(), arguments, &device),
        server.address()
    ))?;
    let run = wait(&server, Duration::from_secs(arguments.drain.into()));
    drop(server);
    drop(orderly);
    if let Some(form) = arguments.device.memory_stats {
        statistics::print(&device, form, None);
    }
    run.and(recording.finish(&device, &arguments.model.display().to_string(), &SourceMap::new()))
}

fn server_options(arguments: &ServeArguments) -> Result<ServerOptions, Stop> {
    let name = arguments.name.clone().unwrap_or_else(|| model_name(&arguments.model));
    let mut options = ServerOptions::new(name);
    options.max_tokens = arguments.max_tokens;
    options.limits.connections = arguments.connections.into();
    options.cors_origin = arguments.cors.clone();
    options.log = Log::new(print_error);
    if let Some(path) = &arguments.api_key_file {
        let text = files::read_text(path, MAX_KEY_FILE_BYTES)?;
        options.api_keys =
            ApiKeys::parse(&text).map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))?;
    }
    Ok(options)
}

/// The name of a model's file without its ending; the name of a folder, or of a model in a cache, as it is.
fn model_name(model: &Path) -> String {
    let is_file = model.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    let name = if is_file { model.file_stem() } else { model.file_name().filter(|_| model.exists()) };
    name.unwrap_or(model.as_os_str()).to_string_lossy().into_owned()
}

/// Checks that all memory is available, before the model is loaded. Returns the engine's options, and the heap bytes of
/// model and server.
fn plan(arguments: &ServeArguments, options: &ServerOptions, device: &Device) -> Result<(EngineOptions, u64), Stop> {
    let meter = HeapMeter::start();
    let planner = arguments.how.planner(&arguments.model, device)?;
    let config = planner.model().config();
    let mut engine = EngineOptions::new(arguments.context.unwrap_or(config.context_length.min(DEFAULT_CONTEXT)));
    engine.queue = arguments.queue;
    let model_bytes = meter.bytes(&planner, engine.context).map_err(Stop::failed)?;
    let heap_bytes = |engine: &EngineOptions| match device.is_gpu() {
        true => model_bytes,
        false => model_bytes + options.limits.heap_bytes() + engine.heap_bytes(config.vocab_size),
    };
    let room = match arguments.device.memory_limit {
        Some(limit) => Some(limit as u64),
        None => device.available().map(|left| left.bytes + planner.weight_bytes()),
    };
    let most = match (arguments.sequences, runs_several(planner.model())) {
        (Some(asked), _) => asked.into(),
        (None, true) if arguments.device.memory_limit.is_some() => MOST_BY_LIMIT,
        (None, true) => DEFAULT_SEQUENCES,
        (None, false) => 1,
    };
    let least = arguments.sequences.map_or(1, usize::from);
    for whole in (least..=most).rev() {
        let engine = with_sequences(engine, whole);
        let total = engine.memory_plan(&planner).map_err(Stop::failed)?.total_bytes() + heap_bytes(&engine);
        if room.is_none_or(|room| total <= room) {
            return Ok((engine, heap_bytes(&engine)));
        }
    }
    let engine = with_sequences(engine, least);
    // One sequence in pages takes about what it takes alone, so that its advice holds.
    let heap_bytes = heap_bytes(&engine);
    let limit = arguments.device.memory_limit;
    plan::check_room(&planner, engine.context, heap_bytes, limit, WeightsAre::ToCome, device)?;
    let total = engine.memory_plan(&planner).map_err(Stop::failed)?.total_bytes() + heap_bytes;
    Err(Stop::Failed(format!(
        "{}: {} take {}, more than the {} that there are; take fewer --sequences or a shorter --context",
        planner.model().path().display(),
        at_once(&engine),
        display_bytes(total),
        display_bytes(room.unwrap_or(0))
    )))
}

/// Memory for `whole` sequences of the longest length, in which more of shorter ones run at once.
fn with_sequences(engine: EngineOptions, whole: usize) -> EngineOptions {
    let shorter = whole.saturating_mul(engine.context) / SHORT_TOKENS;
    let sequences = if whole > 1 { shorter.clamp(whole, MOST_SHORT.max(whole)) } else { shorter.clamp(1, MOST_SHORT) };
    engine.with_sequences(whole, sequences)
}

/// How many sequences run at once, in words.
fn at_once(engine: &EngineOptions) -> String {
    let whole = (engine.kv_tokens / engine.context.max(1)).max(1);
    let plural = if whole == 1 { "" } else { "s" };
    let shorter = match engine.sequences > whole {
        true => format!(" (or {} of {})", engine.sequences, engine.kv_tokens / engine.sequences),
        false => String::new(),
    };
    format!("{whole} sequence{plural} of {} tokens at once{shorter}", engine.context)
}

/// The memory that is taken, and of how much.
fn memory(taken: u64, arguments: &ServeArguments, device: &Device) -> String {
    let taken = display_bytes(taken);
    match (arguments.device.memory_limit, device.available()) {
        (Some(limit), _) => format!("{taken} of the limit of {}", display_bytes(limit as u64)),
        (None, Some(left)) => format!("{taken}, {} left", display_bytes(left.bytes)),
        (None, None) => taken.to_string(),
    }
}

/// Waits for a signal, and then for the requests that run.
fn wait(server: &Server, patience: Duration) -> Result<(), Stop> {
    while !interrupt::is_asked() {
        if server.is_ended() {
            return Err(Stop::Failed("the engine has failed".to_owned()));
        }
        std::thread::sleep(SIGNAL_POLL);
    }
    let stats = server.stats();
    let left = stats.running + stats.waiting;
    print_error(&format!(
        "stopping: {left} requests go on for up to {} s; a second signal ends them",
        patience.as_secs()
    ));
    server.drain(patience);
    while !server.is_ended() {
        std::thread::sleep(SIGNAL_POLL);
    }
    Ok(())
}
