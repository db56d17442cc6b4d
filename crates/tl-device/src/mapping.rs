//! Files mapped into memory, or read whole.
//!
//! The one place of the crate that opens files for their contents.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Mmap, MmapMut};

use crate::heap::ReadFile;

/// Bytes read at a time.
const READ_STEP_BYTES: usize = 4 << 20;

/// Bytes read so far.
static BYTES_READ: AtomicU64 = AtomicU64::new(0);

/// Opens a plain file. Pipes and devices are refused, since they may never end.
fn open(path: &Path) -> io::Result<File> {
    // Checked before opening: opening a pipe waits for its writer.
    let metadata = std::fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory"));
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no plain file"));
    }
    File::open(path)
}

/// A file mapped into memory, read-only. Cheap to clone.
///
/// The file must not be truncated while it is mapped: the operating system answers a read beyond its end with a signal.
///
/// ```
/// use tl_device::{Device, Mapping};
/// let device = Device::cpu();
/// let file = Mapping::open("Cargo.toml")?;
/// let weight = device.adopt(&file, 0, 9)?.share();
/// drop(file); // the weight keeps the mapping
/// assert_eq!(weight.bytes(), b"[package]");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Mapping {
    map: Arc<MappedFile>,
}

#[derive(Debug)]
pub(crate) struct MappedFile {
    map: Mmap,
    /// Counts a file that was read as heap.
    read: Option<ReadFile>,
}

impl MappedFile {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Whether the file was read into the heap.
    pub(crate) fn is_on_heap(&self) -> bool {
        self.read.is_some()
    }
}

impl Mapping {
    /// Maps the whole file.
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use tl_device::Mapping;
    /// assert!(Mapping::open("Cargo.toml").is_ok());
    /// assert_eq!(Mapping::open("src").unwrap_err().kind(), ErrorKind::IsADirectory);
    /// assert_eq!(Mapping::open("absent.gguf").unwrap_err().kind(), ErrorKind::NotFound);
    /// ```
    ///
    /// # Errors
    /// The operating system's error: the file is missing, is a folder, may not be read.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Mapping> {
        let file = open(path.as_ref())?;
        // SAFETY: the mapping is private and read-only. Another process that truncates the file can still end this one
        // with SIGBUS, as for every program that maps files; that is stated in the documentation.
        let map = unsafe { Mmap::map(&file)? };
        // Pages of 2 MiB, if the file system supports them: a weight is read once for each token, and lookups of small
        // pages take a fifth of the time. A refusal changes nothing.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Mapping { map: Arc::new(MappedFile { map, read: None }) })
    }

    /// Reads the whole file into private memory: it stays intact whatever happens to the file, in pages of 2 MiB if the
    /// system provides them, unlike the system's file cache. The price is the time to copy it, and memory that is not
    /// shared with other processes.
    ///
    /// ```
    /// use tl_device::Mapping;
    /// let copy = Mapping::read("Cargo.toml")?;
    /// assert_eq!(copy.bytes(), Mapping::open("Cargo.toml")?.bytes());
    /// # Ok::<(), std::io::Error>(())
    /// ```
    ///
    /// # Errors
    /// As for [`Mapping::open`], and if there is no memory or the file ends early.
    pub fn read(path: impl AsRef<Path>) -> io::Result<Mapping> {
        let mut file = open(path.as_ref())?;
        let too_long = |_| io::Error::from(io::ErrorKind::FileTooLarge);
        let len = usize::try_from(file.metadata()?.len()).map_err(too_long)?;
        let read = ReadFile::count(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut copy = MmapMut::map_anon(len)?;
        #[cfg(target_os = "linux")]
        let _ = copy.advise(memmap2::Advice::HugePage);
        for part in copy.chunks_mut(READ_STEP_BYTES) {
            file.read_exact(part)?;
            BYTES_READ.fetch_add(part.len() as u64, Ordering::Relaxed);
        }
        Ok(Mapping { map: Arc::new(MappedFile { map: copy.make_read_only()?, read: Some(read) }) })
    }

    /// Bytes read by [`Mapping::read`] in this process so far, for progress displays.
    ///
    /// ```
    /// use tl_device::Mapping;
    /// let before = Mapping::bytes_read();
    /// let copy = Mapping::read("Cargo.toml")?;
    /// assert!(Mapping::bytes_read() >= before + copy.bytes().len() as u64);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bytes_read() -> u64 {
        BYTES_READ.load(Ordering::Relaxed)
    }

    /// The file's bytes.
    ///
    /// ```
    /// use tl_device::Mapping;
    /// let file = Mapping::open("Cargo.toml")?;
    /// assert!(file.bytes().starts_with(b"[package]"));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn bytes(&self) -> &[u8] {
        &self.map.map
    }

    pub(crate) fn file(&self) -> &Arc<MappedFile> {
        &self.map
    }
}
