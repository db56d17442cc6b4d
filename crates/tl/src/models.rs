//! Names of models, and the commands that find and fetch models: `tl list` and `tl pull`.

use std::path::{Path, PathBuf};

use serde_json::json;
use tl_device::bytes as display_bytes;
use tl_engine::{Activations, Planner};
use tl_hub::{Locations, Resolved};

use crate::files;
use crate::output::{self, Stop};
use crate::table::table;

/// Context of the memory figures of `tl list`, where the model supports as much.
const LISTED_CONTEXT: usize = 4096;

/// The caches that the user's environment names.
fn locations() -> Locations {
    Locations::from_variables(|name| std::env::var_os(name), std::env::home_dir())
}

/// As [`resolve`]; the error for a missing path names the folder that was searched.
pub(crate) fn find(model: &Path) -> Result<PathBuf, Stop> {
    let path = resolve(model)?;
    match path.metadata() {
        Err(error) => Err(Stop::Failed(format!("{}: {}", path.display(), files::missing(&path, &error)))),
        Ok(_) => Ok(path),
    }
}

/// The files of a model named by a path, `org/repo[:quant]`, or `ollama:name[:tag]`.
pub(crate) fn resolve(model: &Path) -> Result<PathBuf, Stop> {
    let Some(name) = model.to_str() else { return Ok(model.to_owned()) };
    // A missing path that is no hub name gives a better error when it is opened.
    if !model.exists() && !is_hub_name(name) {
        return Ok(model.to_owned());
    }
    let found = tl_hub::resolve(name, &locations()).map(|found| found.path).map_err(one_line)?;
    files::note_input(&found);
    Ok(found)
}

/// Whether a name of no file is a hub name: `org/repo[:quant]` or `ollama:name`.
fn is_hub_name(name: &str) -> bool {
    let is_path = name.starts_with(['.', '/', '~']) || name.ends_with(".gguf") || name.ends_with(".safetensors");
    name.starts_with("ollama:") || (!is_path && name.matches('/').count() == 1)
}

/// A hub error of several lines, in one line.
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
    let rows = models.iter().map(|listed| {
        let takes = match needs(&listed.model) {
            Ok((context, bytes)) => format!("takes {} for {context} tokens", display_bytes(bytes)),
            Err(problem) => format!("cannot be run: {problem}"),
        };
        vec![listed.model.name.clone(), display_bytes(listed.model.bytes), takes]
    });
    output::print(&table(rows, &[1]))
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
    use crate::progress::Bar;
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
    let bar = Bar::of_bytes(0);
    let path = pull(spec, &options, |at| {
        let what = format!("{} ({} of {})", at.file, at.index + 1, at.n_files);
        bar.set_of(at.done_bytes, at.total_bytes, &what);
    });
    drop(bar);
    let path = path.map_err(one_line)?;
    output::print(&format!("{}\n", path.display()))
}
