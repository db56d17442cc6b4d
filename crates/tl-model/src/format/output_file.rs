//! A file that is written under another name beside its target, and takes the target's name when everything is there:
//! whatever goes wrong, the target is what it was, and nothing half-written lies around.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Bytes that are gathered before the system is asked to write them.
const BUFFER_BYTES: usize = 1 << 20;

/// A file on its way. One that is dropped before [`OutputFile::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    /// Where the bytes are until the file is complete; empty when they have their name.
    part: PathBuf,
    path: PathBuf,
}

impl OutputFile {
    /// Begins the file that will be `path`.
    pub fn create(path: &Path) -> io::Result<OutputFile> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            // A folder, or a device: it must not be replaced by a file.
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "exists and is no plain file"));
        }
        let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "names no file"))?;
        let mut part_name = OsString::from(".");
        part_name.push(name);
        part_name.push(format!(".{}.part", std::process::id()));
        let part = path.with_file_name(part_name);
        let file = OpenOptions::new().write(true).create_new(true).open(&part)?;
        Ok(OutputFile { file: BufWriter::with_capacity(BUFFER_BYTES, file), part, path: path.to_owned() })
    }

    /// The target.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the next bytes.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Sends what comes elsewhere, for tests of what happens when writing fails.
    #[cfg(test)]
    pub fn redirect(&mut self, file: File) {
        self.file = BufWriter::new(file);
    }

    /// Waits until all is on the disk, and gives it its name.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        fs::rename(&self.part, &self.path)?;
        self.part = PathBuf::new();
        Ok(())
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.part.as_os_str().is_empty() {
            // Nothing is left to tell where this fails too.
            let _ = fs::remove_file(&self.part);
        }
    }
}
