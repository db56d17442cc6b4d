//! Hugging Face's cache: `models--org--repo/{refs/main,snapshots/COMMIT,blobs}`.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{HubError, Result};
use crate::folder;
use crate::found::Resolved;
use crate::name::{HubName, check_part};

/// The snapshots of a model: the one named by `refs/main` first, then the newest.
pub(crate) fn snapshots(repository: &Path) -> Result<Vec<PathBuf>> {
    let folder = repository.join("snapshots");
    let mut snapshots: Vec<(std::time::SystemTime, PathBuf)> = Vec::new();
    for name in folder::names(&folder)? {
        let path = folder.join(name);
        if let Ok(metadata) = fs::metadata(&path)
            && metadata.is_dir()
        {
            snapshots.push((metadata.modified().unwrap_or(std::time::UNIX_EPOCH), path));
        }
    }
    snapshots.sort_unstable_by(|a, b| b.cmp(a));
    let mut snapshots: Vec<PathBuf> = snapshots.into_iter().map(|(_, path)| path).collect();
    if let Some(commit) = main_commit(repository)? {
        let main = folder.join(commit);
        if let Some(at) = snapshots.iter().position(|path| *path == main) {
            snapshots[..=at].rotate_right(1);
        }
    }
    Ok(snapshots)
}

/// The commit in `refs/main`.
fn main_commit(repository: &Path) -> Result<Option<String>> {
    let path = repository.join("refs").join("main");
    let mut commit = String::new();
    match fs::File::open(&path).and_then(|file| file.take(200).read_to_string(&mut commit)) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HubError::io(&path, "reading the commit")(error)),
    }
    let commit = commit.trim();
    match check_part(commit) {
        Ok(()) => Ok(Some(commit.to_owned())),
        Err(reason) => Err(HubError::BadCache { path, reason: format!("no name of a commit: {reason}") }),
    }
}

/// The folder of a model; case is ignored.
pub(crate) fn repository(cache: &Path, name: &HubName) -> Result<Option<PathBuf>> {
    folder::child(cache, &name.folder_name())
}

/// The model in the first snapshot that has it, or `None` if there is no snapshot.
pub(crate) fn resolve(cache: &Path, repository: &Path, spec: &str, name: &HubName) -> Result<Option<Resolved>> {
    let mut first_error = None;
    for snapshot in snapshots(repository)? {
        match folder::model(&snapshot, spec, name.quant.as_deref(), false) {
            Ok(model) => {
                check_inside(cache, &model)?;
                return Ok(Some(model));
            }
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    first_error.map_or(Ok(None), Err)
}

/// Errors if a file of the model lies outside of the cache.
pub(crate) fn check_inside(cache: &Path, model: &Resolved) -> Result<()> {
    let cache = cache.canonicalize().map_err(HubError::io(cache, "reading the folder"))?;
    for part in model.parts.iter().chain([&model.path]) {
        let target = part.canonicalize().map_err(HubError::io(part, "following the link"))?;
        if !target.starts_with(&cache) {
            let reason = format!("the link leads out of the cache, to {}", target.display());
            return Err(HubError::BadCache { path: part.clone(), reason });
        }
    }
    Ok(())
}
