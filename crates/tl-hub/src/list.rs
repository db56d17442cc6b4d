//! All models in the caches.

use std::path::Path;

use crate::choice::{gguf_models, safetensors_weights};
use crate::error::Result;
use crate::found::Resolved;
use crate::locations::Locations;
use crate::{folder, hub_cache, ollama};

/// The cache that holds a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Hugging Face's cache.
    HubCache,
    /// ollama's cache.
    Ollama,
}

/// A model in a cache. [`resolve`](crate::resolve) accepts its `name`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The cache.
    pub source: Source,
    /// The model.
    pub model: Resolved,
}

/// Every complete model in the caches, sorted by name; of Hugging Face's repositories the snapshot of `main`, or the
/// newest. Incomplete and damaged models are left out.
///
/// # Errors
///
/// A folder that cannot be read. A missing one counts as empty.
pub fn list(locations: &Locations) -> Result<Vec<Listed>> {
    let mut models = Vec::new();
    if let Some(cache) = &locations.hub_cache {
        list_hub_cache(cache, &mut models)?;
    }
    if let Some(folder) = &locations.ollama {
        list_ollama(folder, &mut models)?;
    }
    Ok(models)
}

fn list_hub_cache(cache: &Path, models: &mut Vec<Listed>) -> Result<()> {
    for entry in folder::names(cache)? {
        let Some((organization, repository)) = entry.strip_prefix("models--").and_then(|name| name.split_once("--"))
        else {
            continue;
        };
        let Some(snapshot) = hub_cache::snapshots(&cache.join(&entry)).ok().and_then(|list| list.into_iter().next())
        else {
            continue;
        };
        let Ok(files) = folder::files(&snapshot) else { continue };
        let names = || files.iter().map(|(name, _)| name.as_str());
        let mut found = Vec::new();
        if names().any(|name| name == "config.json") && safetensors_weights(names()).is_some() {
            found.push(folder::safetensors(&snapshot, &format!("{organization}/{repository}"), &files));
        }
        let gguf = gguf_models(names());
        for model in &gguf {
            // A label shared by two models is ambiguous; a file's name is not.
            let is_unique = gguf.iter().filter(|other| other.label.eq_ignore_ascii_case(&model.label)).count() == 1;
            let quant = if is_unique && !model.label.contains('/') { &model.label } else { &model.files[0] };
            let name = format!("{organization}/{repository}:{quant}");
            found.push(folder::gguf(&snapshot, &name, &model.files, &files));
        }
        models.extend(
            found
                .into_iter()
                .filter(|model| hub_cache::check_inside(cache, model).is_ok())
                .map(|model| Listed { source: Source::HubCache, model }),
        );
    }
    Ok(())
}

fn list_ollama(root: &Path, models: &mut Vec<Listed>) -> Result<()> {
    let manifests = root.join("manifests");
    for host in folder::names(&manifests)? {
        let path = manifests.join(&host);
        for namespace in folder::names(&path)? {
            let path = path.join(&namespace);
            for name in folder::names(&path)? {
                let path = path.join(&name);
                for tag in folder::names(&path)? {
                    let prefix = match (host.as_str(), namespace.as_str()) {
                        ("registry.ollama.ai", "library") => String::new(),
                        ("registry.ollama.ai", _) => format!("{namespace}/"),
                        _ => format!("{host}/{namespace}/"),
                    };
                    let spec = format!("ollama:{prefix}{name}:{tag}");
                    if let Ok(model) = ollama::model(root, &path.join(&tag), &spec) {
                        models.push(Listed { source: Source::Ollama, model });
                    }
                }
            }
        }
    }
    Ok(())
}
