//! Writes Hugging Face's cache: `blobs/DIGEST`, `snapshots/COMMIT/NAME` as links to blobs, `refs/REVISION`.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use super::api::{Digest, Remote};
use crate::error::{HubError, Result};
use crate::folder;
use crate::name::HubName;

/// The folder of one model, locked against other pulls.
pub(super) struct Cache {
    repository: PathBuf,
    /// Held until dropped.
    _lock: File,
}

impl Cache {
    pub(super) fn open(cache: &Path, name: &HubName) -> Result<Self> {
        fs::create_dir_all(cache).map_err(HubError::io(cache, "making the folder"))?;
        // A folder whose name differs only in case is the same model's.
        let repository = folder::child(cache, &name.folder_name())?.unwrap_or_else(|| cache.join(name.folder_name()));
        let locks = cache.join(".locks").join(name.folder_name().to_ascii_lowercase());
        fs::create_dir_all(&locks).map_err(HubError::io(&locks, "making the folder"))?;
        let path = locks.join("pull.lock");
        let lock = File::create(&path).map_err(HubError::io(&path, "making the lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(HubError::Locked { lock: path }),
            Err(TryLockError::Error(error)) => return Err(HubError::io(&path, "locking")(error)),
        }
        for name in ["blobs", "refs", "snapshots"] {
            let folder = repository.join(name);
            fs::create_dir_all(&folder).map_err(HubError::io(&folder, "making the folder"))?;
        }
        Ok(Self { repository, _lock: lock })
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.repository.join("blobs").join(digest.hex())
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repository.join("snapshots").join(commit)
    }

    /// Links a snapshot's name to a complete blob.
    pub(super) fn link(&self, commit: &str, remote: &Remote) -> Result<PathBuf> {
        let link = self.snapshot(commit).join(&remote.file);
        let blob = self.blob(&remote.digest);
        let folder = link.parent().unwrap_or(&link).to_owned();
        fs::create_dir_all(&folder).map_err(HubError::io(&folder, "making the folder"))?;
        if let (Ok(there), Ok(wanted)) = (link.canonicalize(), blob.canonicalize())
            && there == wanted
        {
            return Ok(link);
        }
        match fs::remove_file(&link) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(HubError::io(&link, "replacing the link")(error)),
        }
        let up = "../".repeat(2 + remote.file.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{}", remote.digest.hex()));
        symlink(&target, &link)
            .or_else(|_| fs::hard_link(&blob, &link))
            .or_else(|_| copy(&blob, &link))
            .map_err(HubError::io(&link, "making the link"))?;
        Ok(link)
    }

    /// Writes the commit of a revision.
    pub(super) fn set_reference(&self, revision: &str, commit: &str) -> Result<()> {
        let path = self.repository.join("refs").join(revision);
        let folder = path.parent().unwrap_or(&path).to_owned();
        fs::create_dir_all(&folder).map_err(HubError::io(&folder, "making the folder"))?;
        let partial = path.with_added_extension("incomplete");
        fs::write(&partial, commit).map_err(HubError::io(&partial, "writing the commit"))?;
        fs::rename(&partial, &path).map_err(HubError::io(&path, "writing the commit"))
    }
}

#[cfg(unix)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

#[cfg(windows)]
fn symlink(target: &Path, link: &Path) -> std::io::Result<()> {
    // On Windows links need a privilege; the caller falls back to other ways.
    std::os::windows::fs::symlink_file(target, link)
}

#[cfg(not(any(unix, windows)))]
fn symlink(_target: &Path, _link: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}

/// Copies under another name first, so that no reader sees a partial file.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let partial = to.with_added_extension("incomplete");
    fs::copy(from, &partial)?;
    fs::rename(&partial, to)
}
