//! Download of one file from a hub to a blob: resumed after interruption, verified by digest.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;

use ring::digest;

use super::api::{Digest, Remote};
use super::cache::Cache;
use super::http::Client;
use crate::error::{HubError, Result};

/// Bytes read, hashed and written at a time.
const PIECE: usize = 256 << 10;

/// Maximum number of consecutive retries that yield no byte.
const MAX_IDLE_TRIES: usize = 3;

/// Downloads a file unless its blob exists. `tell` receives the number of bytes of it present so far.
pub(super) fn download(client: &Client, remote: &Remote, cache: &Cache, tell: &mut dyn FnMut(u64)) -> Result<()> {
    let blob = cache.blob(&remote.digest);
    // Blobs get their name when complete; one of another size was damaged since.
    if fs::metadata(&blob).is_ok_and(|metadata| metadata.is_file() && metadata.len() == remote.size) {
        tell(remote.size);
        return Ok(());
    }
    let partial = blob.with_added_extension("incomplete");
    let mut transfer = Transfer::open(&partial, remote)?;
    tell(transfer.len);
    let mut idle_tries = 0;
    while transfer.len < remote.size || transfer.is_unasked() {
        let before = transfer.len;
        let broken = match transfer.fetch(client, remote, tell) {
            Ok(()) if transfer.len == remote.size => break,
            Ok(()) => HubError::Network {
                url: remote.url.clone(),
                reason: format!("the transfer ends after {} of {} bytes", transfer.len, remote.size),
            },
            Err(error @ HubError::Network { .. }) => error,
            Err(error) => return Err(error),
        };
        idle_tries = if transfer.len > before { 0 } else { idle_tries + 1 };
        if idle_tries == MAX_IDLE_TRIES {
            return Err(broken);
        }
    }
    transfer.finish(remote, &blob)
}

/// A partly written file, and the digest of its bytes.
struct Transfer<'a> {
    path: &'a Path,
    file: File,
    len: u64,
    context: digest::Context,
    /// Whether a request was sent: an empty file needs one too.
    was_asked: bool,
}

impl<'a> Transfer<'a> {
    /// Opens the partial file of an earlier pull, and hashes it.
    fn open(path: &'a Path, remote: &Remote) -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = opened.map_err(HubError::io(path, "opening it to write"))?;
        let mut transfer = Self { path, file, len: 0, context: context(remote), was_asked: false };
        let metadata = transfer.file.metadata().map_err(HubError::io(path, "looking at it"))?;
        if !metadata.is_file() {
            return Err(HubError::NotAFile { path: path.to_owned() });
        }
        if metadata.len() > remote.size {
            transfer.restart(remote)?;
            return Ok(transfer);
        }
        let mut piece = vec![0; PIECE];
        loop {
            let n = transfer.file.read(&mut piece).map_err(HubError::io(path, "reading what is there"))?;
            if n == 0 {
                return Ok(transfer);
            }
            transfer.context.update(&piece[..n]);
            transfer.len += n as u64;
        }
    }

    /// Whether the file is empty and no request was sent yet.
    fn is_unasked(&self) -> bool {
        self.len == 0 && !self.was_asked
    }

    fn restart(&mut self, remote: &Remote) -> Result<()> {
        self.file.set_len(0).map_err(HubError::io(self.path, "beginning anew"))?;
        std::io::Seek::rewind(&mut self.file).map_err(HubError::io(self.path, "beginning anew"))?;
        self.len = 0;
        self.context = context(remote);
        Ok(())
    }

    /// Requests the missing bytes and appends them.
    fn fetch(&mut self, client: &Client, remote: &Remote, tell: &mut dyn FnMut(u64)) -> Result<()> {
        self.was_asked = true;
        let answer = client.get(&remote.url, self.len)?;
        let url = answer.url.clone();
        let bad = |reason: String| HubError::BadAnswer { url: url.clone(), reason };
        match answer.status {
            206 => {
                let range = answer.header("content-range").unwrap_or("");
                let start = range.strip_prefix("bytes ").and_then(|range| range.split('-').next()?.parse::<u64>().ok());
                if start != Some(self.len) {
                    return Err(bad(format!("bytes from {} on were asked for, and {range:?} came", self.len)));
                }
            }
            // 200: the server ignored the range. 416: it has nothing past the bytes present. Start over.
            200 => self.restart(remote)?,
            416 => {
                self.restart(remote)?;
                let reason = "the hub has less of the file than is there already".to_owned();
                return Err(HubError::Network { url, reason });
            }
            status => return Err(bad(format!("status {status} where a file was asked for"))),
        }
        let stated: Option<u64> = answer.header("content-length").and_then(|length| length.parse().ok());
        if stated.is_some_and(|stated| stated != remote.size - self.len) {
            let reason = format!("{} bytes where {} are missing", stated.unwrap_or(0), remote.size - self.len);
            return Err(bad(reason));
        }
        let mut reader = answer.reader();
        let mut piece = vec![0; PIECE];
        loop {
            let n = match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(HubError::Network { url, reason: error.to_string() }),
            };
            if n as u64 > remote.size - self.len {
                self.discard();
                return Err(bad(format!("more comes than the {} bytes that the hub states", remote.size)));
            }
            self.file.write_all(&piece[..n]).map_err(HubError::io(self.path, "writing"))?;
            self.context.update(&piece[..n]);
            self.len += n as u64;
            tell(self.len);
        }
    }

    /// Removes a file that cannot be a prefix of the remote one. The error that follows says why; a failed removal adds
    /// nothing.
    fn discard(&self) {
        let _ = fs::remove_file(self.path);
    }

    /// Verifies the digest, and gives the file its final name.
    fn finish(self, remote: &Remote, blob: &Path) -> Result<()> {
        let found: String = self.context.clone().finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if found != remote.digest.hex() {
            self.discard();
            return Err(HubError::BadAnswer {
                url: remote.url.clone(),
                reason: format!(
                    "what came has the digest {found}, and the hub states {}; it is removed, pull again",
                    remote.digest.hex()
                ),
            });
        }
        // Synced before it gets its name, so that a crash leaves no empty file under it.
        self.file.sync_all().map_err(HubError::io(self.path, "writing"))?;
        drop(self.file);
        fs::rename(self.path, blob).map_err(HubError::io(blob, "naming the file"))
    }
}

fn context(remote: &Remote) -> digest::Context {
    match remote.digest {
        Digest::Sha256(_) => digest::Context::new(&digest::SHA256),
        Digest::GitSha1(_) => {
            let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
            // Git hashes a header before the content.
            context.update(format!("blob {}\0", remote.size).as_bytes());
            context
        }
    }
}
