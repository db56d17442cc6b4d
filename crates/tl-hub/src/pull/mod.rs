//! Downloads from a hub into Hugging Face's cache.
//!
//! Owns the order of a pull: read the repository's file list from the hub, choose files by the rule of [`resolve`],
//! download each into `blobs`, verify it, and link all into `snapshots` only when every file is complete, so that no
//! reader sees a partial model. The hub is not trusted: every name, size and length that it states is checked, and the
//! content is compared with the digest.
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

/// Progress of a pull, reported before each file and after each piece of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress<'a> {
    /// The file's name in the repository.
    pub file: &'a str,
    /// The file's index, from 0.
    pub index: usize,
    /// The number of files.
    pub n_files: usize,
    /// Bytes present, of all files.
    pub done_bytes: u64,
    /// Total bytes of all files.
    pub total_bytes: u64,
}

/// Downloads the files of the model `spec` (`org/repo[:quant]`) that the cache lacks, and returns its path:
/// the GGUF file or the first of its parts, or the folder of a repository of safetensors.
///
/// An interrupted pull resumes. Two pulls of one model exclude each other.
///
/// # Errors
///
/// [`HubError`]: a malformed name, a hub that refuses, is unreachable or answers nonsense, and a cache that cannot be
/// written.
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

/// The files of the model; those that mark it as complete come last.
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

/// Links the downloaded files into the snapshot, and returns the model's path.
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
