//! What users may name a model by, and the commands that find and fetch models: `tl list` and `tl pull`.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::json;
use tl_device::bytes as display_bytes;
use tl_engine::{Activations, Planner};
use tl_hub::{Locations, Resolved};

use crate::output::{self, Stop};

/// The context that `tl list` says what it takes, where the model works for as much.
const LISTED_CONTEXT: usize = 4096;

/// The caches that the user's environment names.
fn locations() -> Locations {
    Locations::from_variables(|name| std::env::var_os(name), std::env::home_dir())
}

/// The files of the model that a user names: a path, `org/repo[:quant]`, or `ollama:name[:tag]`.
pub(crate) fn resolve(model: &Path) -> Result<PathBuf, Stop> {
    let Some(name) = model.to_str() else { return Ok(model.to_owned()) };
    // A path that is none of a hub's names says by itself what is wrong with it.
    if !model.exists() && !is_hub_name(name) {
        return Ok(model.to_owned());
    }
    tl_hub::resolve(name, &locations()).map(|found| found.path).map_err(one_line)
}

/// Whether a name that is no file is one of a hub's: `org/repo[:quant]` or `ollama:name`.
fn is_hub_name(name: &str) -> bool {
    let is_path = name.starts_with(['.', '/', '~']) || name.ends_with(".gguf") || name.ends_with(".safetensors");
    name.starts_with("ollama:") || (!is_path && name.matches('/').count() == 1)
}

/// An error of the hub's, whose parts stand in lines of their own, in one.
fn one_line(error: impl std::fmt::Display) -> Stop {
    let text = error.to_string();
    Stop::Failed(text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("; "))
}

/// Lists the models in the caches of Hugging Face and ollama.
pub(crate) fn list(as_json: bool) -> Result<(), Stop> {
    let locations = locations();
    let models = tl_hub::list(&locations).map_err(one_line)?;
    if as_json {
        let rows = models.iter().map(|listed| {
            let Resolved { name, path, bytes, .. } = &listed.model;
            let (takes, problem) = match needs(&listed.model) {
                Ok((context, bytes)) => (json!({ "context": context, "bytes": bytes }), None),
                Err(problem) => (serde_json::Value::Null, Some(problem)),
            };
            json!({ "name": name, "path": path, "file_bytes": bytes, "takes": takes, "problem": problem })
        });
        return output::print(&format!("{}\n", json!({ "models": rows.collect::<Vec<_>>() })));
    }
    if models.is_empty() {
        let shown = |folder: &Option<PathBuf>| folder.as_ref().map_or("-".into(), |f| f.display().to_string());
        return output::print(&format!(
            "no models in {} or {}\n`tl pull org/repo` fetches one\n",
            shown(&locations.hub_cache),
            shown(&locations.ollama)
        ));
    }
    let width = models.iter().map(|listed| listed.model.name.chars().count()).max().unwrap_or(0);
    for listed in &models {
        let Resolved { name, bytes, .. } = &listed.model;
        let takes = match needs(&listed.model) {
            Ok((context, bytes)) => format!("{} for {context} tokens", display_bytes(bytes)),
            Err(problem) => format!("cannot be run: {problem}"),
        };
        output::print(&format!("{name:<width$}  {:>11}  takes {takes}\n", display_bytes(*bytes)))?;
    }
    Ok(())
}

/// A context and the bytes that a model takes for it.
fn needs(model: &Resolved) -> Result<(usize, u64), String> {
    let planner = Planner::open(&model.path, Activations::Float16).map_err(|error| error.to_string())?;
    let context = planner.model().config().context_length.min(LISTED_CONTEXT);
    let plan = planner.plan(context).map_err(|error| error.to_string())?;
    Ok((context, plan.total_bytes()))
}

/// Downloads a model into Hugging Face's cache.
#[cfg(feature = "pull")]
pub(crate) fn pull(spec: &str, revision: Option<&str>) -> Result<(), Stop> {
    use std::time::{Duration, Instant};

    use crate::progress::Line;
    use tl_hub::{PullOptions, pull};

    let cache = locations().hub_cache;
    let cache =
        cache.ok_or_else(|| Stop::Failed("there is no home folder; set HF_HUB_CACHE to a folder".to_owned()))?;
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let mut options = PullOptions::new(cache);
    options.endpoint = variable("HF_ENDPOINT").unwrap_or(options.endpoint);
    options.token = variable("HF_TOKEN");
    options.revision = revision.map_or(options.revision, str::to_owned);
    options.proxy = variable("HTTPS_PROXY").or_else(|| variable("https_proxy"));
    let line = Line::new();
    let (start, mut before) = (Instant::now(), None);
    let mut shown = Instant::now();
    let path = pull(spec, &options, |at| {
        let first = *before.get_or_insert(at.done_bytes);
        if shown.elapsed() < Duration::from_millis(100) {
            return;
        }
        shown = Instant::now();
        let rate = (at.done_bytes - first) as f64 / start.elapsed().as_secs_f64().max(1e-3);
        let left = at.total_bytes.saturating_sub(at.done_bytes) as f64 / rate.max(1.0);
        let percent = at.done_bytes as f64 / at.total_bytes.max(1) as f64 * 100.0;
        line.show(&format!(
            "{} ({} of {})  {percent:.0}% of {}  {}/s  {left:.0} s left",
            at.file,
            at.index + 1,
            at.n_files,
            display_bytes(at.total_bytes),
            display_bytes(rate as u64),
        ));
    });
    drop(line);
    let path = path.map_err(one_line)?;
    output::print(&format!("{}\n", path.display()))
}

/// Writes a file that a user names; a file that is there is replaced when the new one is whole.
pub(crate) fn write_beside(path: &Path, text: &str) -> Result<(), Stop> {
    let failed = |error: std::io::Error| Stop::Failed(format!("{}: {error}", path.display()));
    if path.metadata().is_ok_and(|found| !found.is_file()) {
        return Err(failed(std::io::Error::new(ErrorKind::InvalidInput, "this is no file")));
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.part", std::process::id()));
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&beside);
        failed(error)
    })
}
