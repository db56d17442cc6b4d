//! The files that a command reads and writes, as its user names them.
//!
//! Outputs are checked before the work begins, and none of them may be an input of the same run.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tl_model::format::OutputFile;

use crate::output::Stop;

/// The inputs of this run, by their canonical paths.
static INPUTS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Records a file, or the files of a folder, as inputs of this run.
pub(crate) fn note_input(path: &Path) {
    if let Ok(whole) = path.canonicalize() {
        let mut inputs = INPUTS.lock().unwrap_or_else(PoisonError::into_inner);
        if !inputs.contains(&whole) {
            inputs.push(whole);
        }
    }
}

/// Refuses an output that cannot be written or that is an input of this run, before a long run begins.
pub(crate) fn check_output(path: &Path) -> Result<(), Stop> {
    refuse_input(path)?;
    OutputFile::check(path).map_err(|error| cannot_write(path, &error))
}

fn refuse_input(path: &Path) -> Result<(), Stop> {
    let Ok(whole) = path.canonicalize() else { return Ok(()) };
    let inputs = INPUTS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_input = |input: &PathBuf| *input == whole || (input.is_dir() && whole.parent() == Some(input));
    if whole.is_file() && inputs.iter().any(is_input) {
        return Err(Stop::Failed(format!("{} is the file that is read; write to another", path.display())));
    }
    Ok(())
}

/// Writes an output.
///
/// # Errors
/// If it cannot be written; the file is then unchanged.
pub(crate) fn write(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Stop> {
    refuse_input(path)?;
    write_over(path, contents)
}

/// Writes a file again that this run has read.
///
/// # Errors
/// As for [`write()`].
pub(crate) fn replace(path: &Path, contents: &[u8]) -> Result<(), Stop> {
    write_over(path, |file| file.write_all(contents))
}

/// Writes a file that a program names. It may be one that the program has read: the new file takes its place.
///
/// # Errors
/// If it cannot be written; the file is then unchanged.
pub(crate) fn write_program_file(
    path: &Path,
    contents: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = OutputFile::create(path)?;
    contents(&mut file)?;
    file.finish()
}

fn write_over(path: &Path, contents: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), Stop> {
    match write_program_file(path, contents) {
        // A closed pipe is no error: its reader has what it wanted.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(|error| cannot_write(path, &error)),
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Stop {
    Stop::Failed(format!("{} cannot be written: {error}", path.display()))
}

/// A file's text, at most `max_bytes` of it. Only plain files are read: others may never end.
pub(crate) fn read_text(path: &Path, max_bytes: u64) -> Result<String, Stop> {
    let failed = |problem: String| Stop::Failed(format!("{}: {problem}", path.display()));
    let metadata = path.metadata().map_err(|error| failed(missing(path, &error)))?;
    if !metadata.is_file() {
        return Err(failed("this is no plain file".to_owned()));
    }
    if metadata.len() > max_bytes {
        return Err(failed(format!("it has {} bytes, and at most {max_bytes} are read", metadata.len())));
    }
    note_input(path);
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        failed(format!("byte {at} is not UTF-8; save the file as UTF-8 text"))
    })
}

/// All of standard input, at most `max_bytes` of it.
pub(crate) fn read_stdin(max_bytes: u64) -> Result<String, Stop> {
    let failed = |problem: String| Stop::Failed(format!("standard input: {problem}"));
    let mut bytes = Vec::new();
    let read = io::stdin().lock().take(max_bytes.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| failed(error.to_string()))?;
    if bytes.len() as u64 > max_bytes {
        return Err(failed(format!("it has more than the {max_bytes} bytes that are read")));
    }
    String::from_utf8(bytes).map_err(|error| failed(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to())))
}

/// The system's error for a file, with the working folder if the path is relative and not found.
pub(crate) fn missing(path: &Path, error: &io::Error) -> String {
    match (error.kind(), std::env::current_dir()) {
        (io::ErrorKind::NotFound, Ok(folder)) if path.is_relative() => {
            format!("{error}; searched in {}", folder.display())
        }
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_input_is_no_output() {
        let path = std::env::temp_dir().join(format!("tl-files-{}", std::process::id()));
        std::fs::write(&path, "read").unwrap();
        note_input(&path);
        for result in [check_output(&path), write(&path, |file| file.write_all(b"lost"))] {
            assert!(matches!(result, Err(Stop::Failed(message)) if message.contains("is the file that is read")));
        }
        assert_eq!(read_text(&path, 4).unwrap(), "read");
        assert!(matches!(read_text(&path, 3), Err(Stop::Failed(message)) if message.contains("at most 3 are read")));
        assert!(read_text(&std::env::temp_dir(), 3).is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
