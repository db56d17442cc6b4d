//! The programs that a command line names: files, folders of them, and standard input.

use std::path::{Path, PathBuf};

use tl_lang::SourceText;

use crate::files;
use crate::output::Stop;

/// Maximum bytes of a source file, over a hundred times a usual program.
const MAX_SOURCE_BYTES: u64 = 8 << 20;

/// Maximum depth of folders that are searched.
const MAX_DEPTH: usize = 64;

/// The name of standard input on a command line.
pub(crate) const STDIN: &str = "-";

/// Reads a program's main file.
pub(crate) fn main_file(path: &Path) -> Result<SourceText, Stop> {
    if path.as_os_str() == STDIN {
        return Ok(SourceText { name: "standard input".to_owned(), text: files::read_stdin(MAX_SOURCE_BYTES)? });
    }
    read(path).map_err(|problem| Stop::Failed(format!("{}: {problem}", path.display())))
}

/// Reads a source file. Its name does not depend on how the path was written, and is relative below the working folder.
pub(crate) fn read(path: &Path) -> Result<SourceText, String> {
    let whole = path.canonicalize().map_err(|error| files::missing(path, &error))?;
    let metadata = whole.metadata().map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("this is no file; give the path of a .tl file".to_owned());
    }
    if metadata.len() > MAX_SOURCE_BYTES {
        return Err(format!("the file has {} bytes, which is too long for a program", metadata.len()));
    }
    files::note_input(&whole);
    let bytes = std::fs::read(&whole).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("byte {at} is not UTF-8; save the file as UTF-8 text")
    })?;
    let working = std::env::current_dir().and_then(|folder| folder.canonicalize());
    let name = working.ok().and_then(|folder| whole.strip_prefix(folder).ok()).unwrap_or(&whole);
    Ok(SourceText { name: name.display().to_string(), text })
}

/// The programs: a folder stands for the .tl files in it and in its folders, by name. Hidden folders are left out.
pub(crate) fn programs(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Stop> {
    let mut found = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = found.len();
            search(path, 0, &mut found)?;
            if found.len() == before {
                return Err(Stop::Failed(format!("{}: there are no .tl files in this folder", path.display())));
            }
        } else {
            found.push(path.clone());
        }
    }
    Ok(found)
}

fn search(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Stop> {
    let failed = |error: std::io::Error| Stop::Failed(format!("{}: {error}", folder.display()));
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    paths.sort();
    for path in paths {
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        // A link to a folder may lead back.
        let is_folder = path.is_dir() && !path.is_symlink();
        if is_folder && !is_hidden && depth < MAX_DEPTH {
            search(&path, depth + 1, found)?;
        } else if path.is_file() && path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("tl")) {
            found.push(path);
        }
    }
    Ok(())
}
