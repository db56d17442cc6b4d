//! The only way in which this project writes a file named by the user.
//!
//! A regular file is written under another name beside its target and, when complete, takes the target's name, mode and
//! owner: on any failure the target is unchanged, and no partial file is left. A symbolic link stays and its target is
//! replaced. Anything else, a device or a pipe, is written directly.

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes buffered before a write to the system.
const BUFFER_BYTES: usize = 1 << 20;

/// The most names tried that other runs have left taken.
const MAX_TRIES: u32 = 1000;

/// Unfinished files of this process.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file being written. Dropping it before [`OutputFile::finish`] leaves nothing behind.
#[derive(Debug)]
pub struct OutputFile {
    file: BufWriter<File>,
    path: PathBuf,
    /// `None` if the target is written directly.
    replacing: Option<Replacing>,
}

/// The replacement of one file by another.
#[derive(Debug)]
struct Replacing {
    /// Path of the bytes until the file is complete.
    part: PathBuf,
    /// The replaced file: the user's path with links followed.
    target: PathBuf,
}

impl OutputFile {
    /// Begins the file at `path`.
    ///
    /// # Errors
    /// A target that cannot be written: a folder, a missing or inaccessible folder, a full disk.
    pub fn create(path: &Path) -> io::Result<OutputFile> {
        let found = fs::metadata(path).ok();
        if found.as_ref().is_some_and(Metadata::is_dir) {
            return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
        }
        if found.as_ref().is_some_and(|found| !found.is_file()) || names_a_stream(path) {
            let file = OpenOptions::new().write(true).open(path)?;
            return Ok(OutputFile::over(file, path, None));
        }
        let target = followed(path)?;
        let (file, part) = create_beside(&target)?;
        unfinished().push(part.clone());
        let output = OutputFile::over(file, path, Some(Replacing { part, target }));
        if let Some(found) = found {
            keep_mode(output.file.get_ref(), &found)?;
        }
        Ok(output)
    }

    fn over(file: File, path: &Path, replacing: Option<Replacing>) -> OutputFile {
        OutputFile { file: BufWriter::with_capacity(BUFFER_BYTES, file), path: path.to_owned(), replacing }
    }

    /// Checks whether a file can be created at `path`, and leaves nothing behind; a target that is written directly is
    /// not opened.
    ///
    /// # Errors
    /// As for [`OutputFile::create`].
    pub fn check(path: &Path) -> io::Result<()> {
        match fs::metadata(path) {
            Ok(found) if !found.is_file() && !found.is_dir() => Ok(()),
            _ => OutputFile::create(path).map(drop),
        }
    }

    /// Removes this process's unfinished files, for a signal that ends it.
    pub fn remove_unfinished() {
        for part in unfinished().drain(..) {
            // A failure cannot be reported here.
            let _ = fs::remove_file(part);
        }
    }

    /// The path as the user gave it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the next bytes.
    ///
    /// # Errors
    /// The system's error.
    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Redirects later writes, for tests of failing writes.
    #[cfg(test)]
    pub(super) fn redirect(&mut self, file: File) {
        self.file = BufWriter::new(file);
    }

    /// Syncs the file to disk and renames it to its target.
    ///
    /// # Errors
    /// The system's error; the target is then unchanged.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()?;
        let Some(Replacing { part, target }) = &self.replacing else { return Ok(()) };
        self.file.get_ref().sync_all()?;
        fs::rename(part, target)?;
        self.forget();
        Ok(())
    }

    fn forget(&mut self) -> Option<PathBuf> {
        let part = self.replacing.take()?.part;
        unfinished().retain(|other| *other != part);
        Some(part)
    }
}

impl Write for OutputFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Some(part) = self.forget() {
            // A failure cannot be reported here either.
            let _ = fs::remove_file(part);
        }
    }
}

/// Whether a path stands for a file that another program has open: replacing it by a rename would not reach that
/// program.
fn names_a_stream(path: &Path) -> bool {
    cfg!(unix) && (path.starts_with("/dev") || path.starts_with("/proc"))
}

/// The path of the file itself, with all links followed, even if it does not exist yet.
fn followed(path: &Path) -> io::Result<PathBuf> {
    let mut target = path.to_owned();
    for _ in 0..40 {
        match fs::canonicalize(&target) {
            Ok(whole) => return Ok(whole),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Err(_) => {}
        }
        match fs::read_link(&target) {
            Ok(link) => target = target.parent().unwrap_or(Path::new("")).join(link),
            Err(_) => return Ok(target),
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "is a circle of symbolic links"))
}

/// A new file beside the target, under an unused name.
fn create_beside(target: &Path) -> io::Result<(File, PathBuf)> {
    let name = target.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "names no file"))?;
    for number in 0..MAX_TRIES {
        let mut part_name = OsString::from(".");
        part_name.push(name);
        part_name.push(format!(".{}-{number}.part", std::process::id()));
        let part = target.with_file_name(part_name);
        match OpenOptions::new().write(true).create_new(true).open(&part) {
            Ok(file) => return Ok((file, part)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "too many .part files of earlier runs lie beside it"))
}

/// Gives the new file the old one's mode and, if permitted, its owner.
fn keep_mode(file: &File, found: &Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        // Before the mode: a change of owner clears some of its bits.
        let _ = fchown(file, Some(found.uid()), Some(found.gid()));
    }
    file.set_permissions(found.permissions())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

    /// A folder that is removed at the end.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let path = std::env::temp_dir().join(format!("tl-output-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Folder(path)
        }

        fn names(&self) -> Vec<String> {
            let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn write(path: &Path, text: &str) -> io::Result<()> {
        let mut file = OutputFile::create(path)?;
        file.put(text.as_bytes())?;
        file.finish()
    }

    #[test]
    fn a_file_keeps_its_mode_and_a_link_its_target() {
        let folder = Folder::new("mode");
        let (file, link, dangling) = (folder.0.join("file"), folder.0.join("link"), folder.0.join("dangling"));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        symlink("file", &link).unwrap();
        symlink("new", &dangling).unwrap();
        write(&link, "by the link").unwrap();
        write(&dangling, "by the other").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "by the link");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(folder.names(), ["dangling", "file", "link", "new"]);
    }

    #[test]
    fn a_device_and_a_pipe_are_written_through() {
        write(Path::new("/dev/null"), "gone").unwrap();
        assert!(fs::metadata("/dev/null").unwrap().file_type().is_char_device());
        OutputFile::check(Path::new("/dev/null")).unwrap();
        // What cannot be written says so, and stays what it is.
        let full = write(Path::new("/dev/full"), "too much").unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::StorageFull);
        assert!(fs::metadata("/dev/full").unwrap().file_type().is_char_device());
    }

    #[test]
    fn what_other_runs_left_blocks_nothing() {
        let folder = Folder::new("stale");
        let target = folder.0.join("out");
        let stale = folder.0.join(format!(".out.{}-0.part", std::process::id()));
        fs::write(&stale, "stale").unwrap();
        write(&target, "fresh").unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "fresh");
        assert_eq!(fs::read_to_string(&stale).unwrap(), "stale");
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = Folder::new("unfinished");
        let target = folder.0.join("out");
        fs::write(&target, "old").unwrap();
        let mut file = OutputFile::create(&target).unwrap();
        file.put(b"half").unwrap();
        drop(file);
        OutputFile::check(&target).unwrap();
        assert_eq!(folder.names(), ["out"]);
        assert_eq!(fs::read_to_string(&target).unwrap(), "old");
        for wrong in [folder.0.join("missing/out"), folder.0.clone(), PathBuf::from("/")] {
            assert!(OutputFile::check(&wrong).is_err(), "{wrong:?}");
        }
    }
}
