//! Folder listings: names and sizes, read with bounds.

use std::fs;
use std::path::{Path, PathBuf};

use crate::choice::{choose, gguf_models, safetensors_weights};
use crate::error::{HubError, Result};
use crate::found::{Kind, Resolved};

/// Maximum number of entries read from a folder. A cache has one entry per model.
const MAX_ENTRIES: usize = 100_000;

/// Maximum depth of the search inside a model's folder.
const MAX_DEPTH: usize = 3;

/// The names in a folder, sorted; none if the folder does not exist.
pub(crate) fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => return Ok(Vec::new()),
        Err(error) => return Err(HubError::io(folder, "reading the folder")(error)),
    };
    let mut names = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        let entry = entry.map_err(HubError::io(folder, "reading the folder"))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// The entry of a folder with this name, else one that differs only in case.
pub(crate) fn child(folder: &Path, name: &str) -> Result<Option<PathBuf>> {
    let exact = folder.join(name);
    if exact.symlink_metadata().is_ok() {
        return Ok(Some(exact));
    }
    Ok(names(folder)?.iter().find(|found| found.eq_ignore_ascii_case(name)).map(|found| folder.join(found)))
}

/// Files below a folder, with `/` between folders, and their sizes. Broken links are left out.
pub(crate) fn files(folder: &Path) -> Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut folders = vec![(folder.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        for name in names(&folder)? {
            let path = folder.join(&name);
            // A link counts as its target.
            let Ok(metadata) = fs::metadata(&path) else { continue };
            let name = format!("{prefix}{name}");
            if metadata.is_file() {
                found.push((name, metadata.len()));
            } else if metadata.is_dir() && depth < MAX_DEPTH {
                folders.push((path, name + "/", depth + 1));
            }
            if found.len() + folders.len() > MAX_ENTRIES {
                return Ok(found);
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The model in a folder: that of `quant`; without one that of a Hugging Face folder, or the only GGUF model if
/// `only_one` is set, else the default choice.
pub(crate) fn model(folder: &Path, spec: &str, quant: Option<&str>, only_one: bool) -> Result<Resolved> {
    let files = files(folder)?;
    let names = || files.iter().map(|(name, _)| name.as_str());
    let has_config = names().any(|name| name == "config.json");
    if quant.is_none() && has_config && safetensors_weights(names()).is_some() {
        return Ok(safetensors(folder, spec, &files));
    }
    let models = gguf_models(names());
    if quant.is_none() && only_one && models.len() > 1 {
        let models = models.into_iter().map(|model| model.files[0].clone()).collect();
        return Err(HubError::SeveralModels { folder: folder.to_owned(), models });
    }
    if let Some(model) = choose(&models, quant) {
        return Ok(gguf(folder, spec, &model.files, &files));
    }
    match quant {
        Some(wanted) if !models.is_empty() => Err(HubError::NoSuchQuant {
            spec: spec.to_owned(),
            place: folder.display().to_string(),
            wanted: wanted.to_owned(),
            available: models.into_iter().map(|model| model.label).collect(),
        }),
        _ => Err(HubError::NoModelInFolder { folder: folder.to_owned(), found: what_is_missing(&files, has_config) }),
    }
}

pub(crate) fn gguf(folder: &Path, name: &str, parts: &[String], files: &[(String, u64)]) -> Resolved {
    let bytes = files.iter().filter(|(name, _)| parts.contains(name)).map(|(_, bytes)| bytes).sum();
    let parts: Vec<PathBuf> = parts.iter().map(|part| folder.join(part)).collect();
    let path = parts.first().cloned().unwrap_or_else(|| folder.to_owned());
    Resolved { name: name.to_owned(), kind: Kind::Gguf, path, parts, bytes }
}

pub(crate) fn safetensors(folder: &Path, name: &str, files: &[(String, u64)]) -> Resolved {
    let weights = safetensors_weights(files.iter().map(|(name, _)| name.as_str())).unwrap_or_default();
    let bytes = files.iter().filter(|(name, _)| weights.contains(name)).map(|(_, bytes)| bytes).sum();
    let parts = weights.iter().map(|part| folder.join(part)).collect();
    Resolved { name: name.to_owned(), kind: Kind::HuggingFace, path: folder.to_owned(), parts, bytes }
}

fn what_is_missing(files: &[(String, u64)], has_config: bool) -> String {
    let any = |is: fn(&str) -> bool| files.iter().any(|(name, _)| is(name));
    if any(|name| name.ends_with(".gguf")) {
        "its GGUF files are parts of a split model of which others are missing, or no models (projectors, matrices)"
    } else if has_config && any(|name| name.ends_with(".safetensors")) {
        "it has config.json, but not all weights: model.safetensors, or model.safetensors.index.json and all shards"
    } else if has_config {
        "it has config.json, but no weights that are read: model.safetensors or its shards with their index"
    } else if any(|name| name.ends_with(".safetensors")) {
        "it has safetensors files, but no config.json"
    } else {
        "it has no GGUF file, and no config.json with safetensors"
    }
    .to_owned()
}
