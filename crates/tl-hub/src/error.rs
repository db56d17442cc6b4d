//! The crate's one error type.

use std::path::{Path, PathBuf};

/// A result with this crate's error.
pub type Result<T> = std::result::Result<T, HubError>;

/// A failed search or download.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// No model has this name.
    #[error("there is no model {spec:?}{}{}", searched_list(.searched), hint_text(.hint))]
    NotFound {
        /// The name that the user wrote.
        spec: String,
        /// The places searched.
        searched: Vec<PathBuf>,
        /// The suggested action.
        hint: String,
    },

    /// A malformed name.
    #[error("{spec:?} is no name of a model: {reason}; write `org/repo`, `org/repo:Q4_K_M`, or `ollama:name:tag`")]
    MalformedName {
        /// The name that the user wrote.
        spec: String,
        /// The reason.
        reason: String,
    },

    /// The model exists, but not in this quantization.
    #[error("{spec:?}: {place} has no {wanted:?}; it has {}", available_list(.available))]
    NoSuchQuant {
        /// The name that the user wrote.
        spec: String,
        /// The folder or the repository.
        place: String,
        /// The requested quantization.
        wanted: String,
        /// The available quantizations.
        available: Vec<String>,
    },

    /// A folder, or a repository in a cache, without a complete model.
    #[error("{}: no model in this folder: {found}", .folder.display())]
    NoModelInFolder {
        /// The folder.
        folder: PathBuf,
        /// The files found, and the files required.
        found: String,
    },

    /// A folder with several models.
    #[error("{}: {} models in this folder; give the path of one of {}", .folder.display(), .models.len(), available_list(.models))]
    SeveralModels {
        /// The folder.
        folder: PathBuf,
        /// The files.
        models: Vec<String>,
    },

    /// A part of a split file other than the first.
    #[error("{}: part {number} of {count}; give the first part, {first}", .path.display())]
    NotFirstPart {
        /// The file.
        path: PathBuf,
        /// Its number.
        number: u32,
        /// The number of parts.
        count: u32,
        /// The file name of the first part.
        first: String,
    },

    /// A split file with missing parts.
    #[error("{}: a model in {count} parts, of which {} are missing, the first of them {first_missing}", .path.display(), .n_missing)]
    MissingParts {
        /// The file.
        path: PathBuf,
        /// The number of parts.
        count: u32,
        /// The number of missing parts.
        n_missing: usize,
        /// The first missing part.
        first_missing: String,
    },

    /// Neither a file nor a folder.
    #[error("{}: neither a file nor a folder", .path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },

    /// A file that is part of a Hugging Face folder.
    #[error("{}: give the folder that holds this file, and `config.json` beside it", .path.display())]
    GiveTheFolder {
        /// The file.
        path: PathBuf,
    },

    /// A manifest or a reference in a cache that is damaged, or leads out of the cache.
    #[error("{}: {reason}", .path.display())]
    BadCache {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },

    /// A failed file system operation.
    #[error("{}: {action}: {source}{}", .path.display(), io_hint(.source))]
    Io {
        /// The file or the folder.
        path: PathBuf,
        /// The operation.
        action: &'static str,
        /// The system's error.
        source: std::io::Error,
    },

    /// A hub's error status.
    #[error("{url}: the hub answers {status}{}", status_hint(*.status, .retry_after))]
    Status {
        /// The requested URL.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The answer's `Retry-After`.
        retry_after: Option<String>,
    },

    /// An unreachable hub, or a broken connection.
    #[error("{url}: {reason}; check the connection and the endpoint, and try again: what has arrived is kept")]
    Network {
        /// The requested URL.
        url: String,
        /// The reason.
        reason: String,
    },

    /// An invalid answer of a hub.
    #[error("{url}: {reason}")]
    BadAnswer {
        /// The requested URL.
        url: String,
        /// The reason.
        reason: String,
    },

    /// Another pull of the same model.
    #[error("{}: another pull of this model is at work; wait until it has ended", .lock.display())]
    Locked {
        /// The lock.
        lock: PathBuf,
    },

    /// An invalid setting.
    #[error("{what}: {reason}")]
    BadSetting {
        /// The setting.
        what: &'static str,
        /// The reason.
        reason: String,
    },
}

impl HubError {
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, action, source }
    }
}

fn searched_list(searched: &[PathBuf]) -> String {
    let places: String = searched.iter().map(|place| format!("\n  looked at {}", place.display())).collect();
    if places.is_empty() { "; no cache is known to look in".to_owned() } else { places }
}

fn hint_text(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!("\n{hint}") }
}

fn available_list(names: &[String]) -> String {
    const SHOWN: usize = 40;
    let mut text = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(&format!(" and {} more", names.len() - SHOWN));
    }
    if text.is_empty() { "no model".to_owned() } else { text }
}

fn io_hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; make room, or name another folder with HF_HUB_CACHE, and pull again: what has arrived is kept"
        }
        std::io::ErrorKind::PermissionDenied => "; check who may read and write there",
        _ => "",
    }
}

fn status_hint(status: u16, retry_after: &Option<String>) -> String {
    match status {
        401 | 403 => {
            ": the model is private, gated, or not there; accept its terms on its page, and set HF_TOKEN to a \
                      token that may read it"
                .to_owned()
        }
        404 => ": there is no such model, revision or file; check the name".to_owned(),
        429 => match retry_after {
            Some(wait) => format!(": too many requests; try again after {wait} seconds, or set HF_TOKEN"),
            None => ": too many requests; try again later, or set HF_TOKEN".to_owned(),
        },
        500..=599 => ": the hub is in trouble; try again later".to_owned(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_the_way_out() {
        let error = HubError::io(Path::new("/c/blobs/x"), "writing")(std::io::ErrorKind::StorageFull.into());
        let text = error.to_string();
        assert!(text.starts_with("/c/blobs/x: writing: ") && text.contains("make room"), "{text}");
    }
}
