//! ollama's cache: `manifests/HOST/NAMESPACE/NAME/TAG` names the blobs of a model, `blobs/sha256-…` hold them.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{HubError, Result};
use crate::folder;
use crate::found::{Kind, Resolved};
use crate::hub_cache::check_inside;
use crate::name::OllamaName;

/// Maximum length of a manifest in bytes. They have about 1000.
const MAX_MANIFEST: u64 = 1 << 20;

/// Media type of the layer with the GGUF file.
const MODEL_LAYER: &str = "application/vnd.ollama.image.model";

#[derive(serde::Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Layer>,
}

#[derive(serde::Deserialize)]
struct Layer {
    #[serde(rename = "mediaType", default)]
    media_type: String,
    #[serde(default)]
    digest: String,
    #[serde(default)]
    size: u64,
}

/// The manifest of a model; case is ignored.
pub(crate) fn manifest(ollama: &Path, name: &OllamaName) -> Result<Option<PathBuf>> {
    let mut path = ollama.join("manifests");
    for part in &name.parts {
        match folder::child(&path, part)? {
            Some(child) => path = child,
            None => return Ok(None),
        }
    }
    Ok(path.is_file().then_some(path))
}

/// The GGUF file that a manifest names.
pub(crate) fn model(ollama: &Path, manifest_path: &Path, spec: &str) -> Result<Resolved> {
    let bad = |reason: String| HubError::BadCache { path: manifest_path.to_owned(), reason };
    let mut text = Vec::new();
    let file = fs::File::open(manifest_path).map_err(HubError::io(manifest_path, "opening the manifest"))?;
    file.take(MAX_MANIFEST + 1).read_to_end(&mut text).map_err(HubError::io(manifest_path, "reading the manifest"))?;
    if text.len() as u64 > MAX_MANIFEST {
        return Err(bad(format!("a manifest of more than {MAX_MANIFEST} bytes")));
    }
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| bad(format!("no manifest: {error}")))?;
    let mut models = manifest.layers.iter().filter(|layer| layer.media_type == MODEL_LAYER);
    let Some(layer) = models.next() else {
        let kinds: Vec<&str> = manifest.layers.iter().map(|layer| layer.media_type.as_str()).take(10).collect();
        return Err(bad(format!("the manifest has no layer {MODEL_LAYER}, but {kinds:?}; only GGUF models are read")));
    };
    if models.next().is_some() {
        return Err(bad(format!("the manifest has several layers {MODEL_LAYER}; models of one file are read")));
    }
    let digest = layer.digest.strip_prefix("sha256:").filter(|hex| is_hex(hex, 64));
    let Some(digest) = digest else {
        return Err(bad(format!("the digest {:?} is not `sha256:` and 64 hexadecimal digits", layer.digest)));
    };
    let blob = ollama.join("blobs").join(format!("sha256-{digest}"));
    let bytes = fs::metadata(&blob).map_err(HubError::io(&blob, "opening the model that the manifest names"))?.len();
    if bytes != layer.size {
        let reason = format!("{bytes} bytes, where the manifest says {}; run `ollama pull` again", layer.size);
        return Err(HubError::BadCache { path: blob, reason });
    }
    let resolved = Resolved { name: spec.to_owned(), kind: Kind::Gguf, path: blob.clone(), parts: vec![blob], bytes };
    check_inside(ollama, &resolved)?;
    Ok(resolved)
}

pub(crate) fn is_hex(text: &str, len: usize) -> bool {
    text.len() == len && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
