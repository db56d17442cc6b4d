//! Resolves a user's model name to the files of a model.

use std::path::{Path, PathBuf};

use crate::choice::{Part, strip_suffix_ignoring_case};
use crate::error::{HubError, Result};
use crate::found::{Kind, Resolved};
use crate::locations::Locations;
use crate::name::{HubName, OllamaName};
use crate::{folder, hub_cache, ollama};

/// Finds the model that `spec` names:
///
/// * a file, or the first part of a split GGUF file;
/// * a folder with `config.json` and safetensors, or with exactly one GGUF model;
/// * `org/repo[:quant]` in Hugging Face's cache, in any case; by default `Q4_K_M`, then `Q8_0`, then the first file; of
///   safetensors the folder;
/// * `ollama:[[host/]namespace/]name[:tag]` in ollama's.
///
/// # Errors
///
/// [`HubError::NotFound`] lists every place searched; the other variants state what is wrong with a model that was
/// found.
pub fn resolve(spec: &str, locations: &Locations) -> Result<Resolved> {
    if let Some(name) = spec.strip_prefix("ollama:") {
        return resolve_ollama(spec, name, locations);
    }
    let path = Path::new(spec);
    if !spec.is_empty() && !spec.contains('\0') && path.exists() {
        return resolve_path(path, spec);
    }
    if looks_like_path(spec) {
        let hint = "Give the path of a file or folder that is there, `org/repo` of a hub, or `ollama:name`.".to_owned();
        return Err(HubError::NotFound { spec: spec.to_owned(), searched: vec![path.to_owned()], hint });
    }
    if !spec.contains('/') {
        return Err(not_a_path(spec, locations));
    }
    let name = HubName::parse(spec)?;
    let mut searched = vec![path.to_owned()];
    if let Some(cache) = &locations.hub_cache {
        let exact = cache.join(name.folder_name());
        if let Some(repository) = hub_cache::repository(cache, &name)? {
            if let Some(model) =
                hub_cache::resolve(cache, &repository, spec, &name).map_err(|error| with_pull(error, spec))?
            {
                return Ok(model);
            }
            searched.push(repository.join("snapshots"));
        } else {
            searched.push(exact);
        }
    }
    Err(HubError::NotFound { spec: spec.to_owned(), searched, hint: format!("Download it with `tl pull {spec}`.") })
}

/// Adds the `pull` hint to an error about another quantization, or parts of a model, in a cache.
fn with_pull(error: HubError, spec: &str) -> HubError {
    match error {
        HubError::NoModelInFolder { folder, found } => {
            HubError::NoModelInFolder { folder, found: format!("{found}; complete it with `tl pull {spec}`") }
        }
        HubError::NoSuchQuant { spec, place, wanted, available } => {
            let place = format!("the cache (`tl pull {spec}` downloads it), in {place},");
            HubError::NoSuchQuant { spec, place, wanted, available }
        }
        other => other,
    }
}

fn looks_like_path(spec: &str) -> bool {
    spec.is_empty()
        || spec.starts_with(['.', '/', '~'])
        || spec.contains(['\\', '\0'])
        || spec.matches('/').count() > 1 && !spec.contains(':')
        || (!spec.contains(':') && strip_suffix_ignoring_case(spec, ".gguf").is_some())
}

/// The error for a word without a slash that is no file, with its possible meanings.
fn not_a_path(spec: &str, locations: &Locations) -> HubError {
    let mut searched = vec![PathBuf::from(spec)];
    let mut hint = "Give the path of a file or folder, `org/repo` of a hub, or `ollama:name`.".to_owned();
    if let (Some(folder), Ok(name)) = (&locations.ollama, OllamaName::parse(spec)) {
        if matches!(ollama::manifest(folder, &name), Ok(Some(_))) {
            hint = format!("ollama has it: write `ollama:{spec}`.");
        }
        searched.push(folder.join("manifests"));
    }
    HubError::NotFound { spec: spec.to_owned(), searched, hint }
}

fn resolve_ollama(spec: &str, name: &str, locations: &Locations) -> Result<Resolved> {
    let parsed = OllamaName::parse(name)?;
    let mut searched = Vec::new();
    if let Some(folder) = &locations.ollama {
        if let Some(manifest) = ollama::manifest(folder, &parsed)? {
            return ollama::model(folder, &manifest, spec);
        }
        searched.push(parsed.parts.iter().fold(folder.join("manifests"), |path, part| path.join(part)));
    }
    Err(HubError::NotFound { spec: spec.to_owned(), searched, hint: format!("Download it with `ollama pull {name}`.") })
}

fn resolve_path(path: &Path, spec: &str) -> Result<Resolved> {
    let metadata = path.metadata().map_err(HubError::io(path, "looking at it"))?;
    if metadata.is_dir() {
        return folder::model(path, spec, None, true);
    }
    if !metadata.is_file() {
        return Err(HubError::NotAFile { path: path.to_owned() });
    }
    let file_name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
    if strip_suffix_ignoring_case(file_name, ".safetensors").is_some()
        || matches!(file_name, "config.json" | "model.safetensors.index.json")
    {
        return Err(HubError::GiveTheFolder { path: path.to_owned() });
    }
    let Some(part) = Part::parse(file_name, ".gguf") else {
        let parts = vec![path.to_owned()];
        let name = spec.to_owned();
        return Ok(Resolved { name, kind: Kind::Gguf, path: path.to_owned(), parts, bytes: metadata.len() });
    };
    let extension = &file_name[file_name.len() - ".gguf".len()..];
    if part.number != 1 {
        let first = part.sibling(1, extension);
        return Err(HubError::NotFirstPart { path: path.to_owned(), number: part.number, count: part.count, first });
    }
    let mut bytes = 0;
    let mut parts = Vec::new();
    let mut missing = Vec::new();
    for number in 1..=part.count {
        let name = part.sibling(number, extension);
        let sibling = path.with_file_name(&name);
        match sibling.metadata() {
            Ok(metadata) if metadata.is_file() => bytes += metadata.len(),
            _ => missing.push(name),
        }
        parts.push(sibling);
    }
    match missing.first() {
        Some(first) => Err(HubError::MissingParts {
            path: path.to_owned(),
            count: part.count,
            n_missing: missing.len(),
            first_missing: first.clone(),
        }),
        None => Ok(Resolved { name: spec.to_owned(), kind: Kind::Gguf, path: path.to_owned(), parts, bytes }),
    }
}
