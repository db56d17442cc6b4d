//! `tl serve`: the OpenAI API over a model, in memory that is reserved before the first request.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tl_device::{Device, bytes as display_bytes};
use tl_serve::{ApiKeys, Engine, Log, Server, ServerOptions};
use tl_syntax::SourceMap;

use crate::arguments::ServeArguments;
use crate::output::{self, Stop, print_error};
use crate::plan::HeapMeter;
use crate::report::Recording;
use crate::serve_plan::{Wanted, at_once, fit};
use crate::{files, interrupt, statistics};

/// Maximum bytes of a file of keys.
const MAX_KEY_FILE_BYTES: u64 = 1 << 20;

/// How often the program looks for signals.
const SIGNAL_POLL: Duration = Duration::from_millis(50);

/// Serves a model until a signal comes.
pub(crate) fn run(arguments: &ServeArguments) -> Result<(), Stop> {
    let options = server_options(arguments)?;
    let device = crate::device::open(&arguments.device)?;
    let meter = HeapMeter::start();
    let wanted = Wanted {
        context: arguments.context,
        sequences: arguments.sequences,
        queue: arguments.queue,
        connection_bytes: options.limits.heap_bytes(),
        memory_limit: arguments.device.memory_limit,
    };
    let planner = arguments.how.planner(&arguments.model, &device)?;
    let (engine_options, planned) = fit(&planner, &meter, &wanted, &device)?;
    drop(planner);
    let recording = Recording::start(&arguments.device, &device, "step")?;
    let model = arguments.how.load(&arguments.model, &device)?;
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
