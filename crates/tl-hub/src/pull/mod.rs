//! Downloads from a hub into Hugging Face's cache.
//!
//! Owns the order of things: ask the hub what the repository holds, choose files by the rule that [`resolve`] follows,
//! download each into `blobs`, check it, and only when all are whole link them into `snapshots`, so that no reader
//! takes a part for the whole. A hub is not trusted: every name, size and length that it states is checked, and what
//! arrives is compared with the digest.
//!
//! [`resolve`]: crate::resolve

mod api;
mod cache;
mod download;
mod http;
mod options;

use std::path::PathBuf;

use crate::choice::{choose, gguf_models, is_beside_weights, safetensors_weights};
use crate::error::{HubError, Result};
use crate::name::HubName;
pub use options::PullOptions;

use api::{Remote, Repository};
use cache::Cache;
use http::Client;

/// How far a pull is. Told before each file and with each piece of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file, as the repository names it.
    pub file: &'a str,
    /// Its place among the files, from 0.
    pub index: usize,
    /// The number of files.
    pub n_files: usize,
    /// Bytes of all files that are there.
    pub done_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
}

/// Downloads the model that `spec` (`org/repo[:quant]`) names, as far as it is not in the cache, and gives its path:
/// the GGUF file or the first of its parts, or the folder of a repository of safetensors.
///
/// A pull that is broken off goes on where it was. Two pulls of one model exclude each other.
///
/// # Errors
///
/// [`HubError`]: a name that is none, a hub that says no, cannot be reached, or answers what cannot be right, and a
/// cache that cannot be written.
pub fn pull(spec: &str, options: &PullOptions, mut progress: impl FnMut(Progress<'_>)) -> Result<PathBuf> {
    let name = HubName::parse(spec)?;
    api::check_revision(&options.revision)?;
    let client = Client::new(options)?;
    let repository = Repository::fetch(&client, &name, &options.revision)?;
    let files = chosen_files(spec, &name, &repository)?;
    // Sizes are checked before anything is written.
    let mut remotes = Vec::with_capacity(files.len());
    let mut total_bytes: u64 = 0;
    for file in &files {
        let remote = repository.remote(&client, file)?;
        total_bytes = total_bytes.saturating_add(remote.size);
        remotes.push(remote);
    }
    if total_bytes > options.max_bytes {
        return Err(HubError::BadAnswer {
            url: repository.url.clone(),
            reason: format!(
                "the model has {total_bytes} bytes by the hub's word, more than the {} allowed",
                options.max_bytes
            ),
        });
    }
    let cache = Cache::open(&options.cache, &repository.name)?;
    let mut done_bytes = 0;
    for (index, remote) in remotes.iter().enumerate() {
        let mut tell = |file_bytes: u64| {
            let done_bytes = done_bytes + file_bytes;
            progress(Progress { file: &remote.file, index, n_files: remotes.len(), done_bytes, total_bytes });
        };
        download::download(&client, remote, &cache, &mut tell)?;
        done_bytes += remote.size;
    }
    place(&cache, &repository, &remotes, &options.revision)
}

/// The files that make the model, those last that tell a reader that it is whole.
fn chosen_files(spec: &str, name: &HubName, repository: &Repository) -> Result<Vec<String>> {
    let names = || repository.files.iter().map(|file| file.name.as_str());
    let has_config = names().any(|file| file == "config.json");
    if name.quant.is_none()
        && has_config
        && let Some(mut files) = safetensors_weights(names())
    {
        // `model.safetensors` alone needs no index.
        let needs_index = files.len() > 1;
        let beside = |file: &&str| is_beside_weights(file) && (needs_index || !file.ends_with(".index.json"));
        files.extend(names().filter(beside).filter(|file| *file != "config.json").map(str::to_owned));
        files.push("config.json".to_owned());
        return Ok(files);
    }
    let models = gguf_models(names());
    match choose(&models, name.quant.as_deref()) {
        Some(model) => Ok(model.files.iter().rev().cloned().collect()),
        None if models.is_empty() => Err(HubError::BadAnswer {
            url: repository.url.clone(),
            reason: "the repository has neither a GGUF model nor config.json with safetensors: there is nothing to run"
                .to_owned(),
        }),
        None => Err(HubError::NoSuchQuant {
            spec: spec.to_owned(),
            place: name.path(),
            wanted: name.quant.clone().unwrap_or_default(),
            available: models.into_iter().map(|model| model.label).collect(),
        }),
    }
}

/// Links what has been downloaded into the snapshot, and gives the model's path.
fn place(cache: &Cache, repository: &Repository, remotes: &[Remote], revision: &str) -> Result<PathBuf> {
    let mut path = cache.snapshot(&repository.commit);
    for remote in remotes {
        let link = cache.link(&repository.commit, remote)?;
        if crate::choice::is_gguf(&remote.file) {
            path = link;
        }
    }
    if revision != repository.commit {
        cache.set_reference(revision, &repository.commit)?;
    }
    Ok(path)
}
