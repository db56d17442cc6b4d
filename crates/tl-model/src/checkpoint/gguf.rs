//! GGUF files as a checkpoint: one file, or the parts that a large model was split into
//! (`NAME-00001-of-00003.gguf`; keys `split.no`, `split.count`, `split.tensors.count`).
//!
//! The first part has the metadata; each has its own tensors. This module must not know the meaning of either.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::contents::{Access, CheckpointTensor, Contents, MAX_TENSORS, Vocabulary, in_file};
use super::convert::{Part, Source};
use super::metadata::Metadata;
use crate::error::{ModelError, Result};
use crate::format::gguf::Gguf;

const NUMBER_KEY: &str = "split.no";
const COUNT_KEY: &str = "split.count";
const TENSORS_KEY: &str = "split.tensors.count";
/// Keys of a part of a split model, which do not apply to a file with the whole model.
pub(super) const SPLIT_KEYS: [&str; 3] = [NUMBER_KEY, COUNT_KEY, TENSORS_KEY];

/// Reads a file and, if it is a part of a split model, all parts.
///
/// # Errors
/// A file that cannot be read or is damaged; parts that are missing or contradict each other.
pub(super) fn open(path: &Path, access: Access) -> Result<Contents> {
    // Only the header is read here, so this mapping costs nothing.
    let mapping = Access::Mapped.open(path)?;
    let split = in_file(path, || Split::of(&Gguf::parse(mapping.bytes())?))?;
    drop(mapping);
    let paths = match split {
        Some(split) if split.count > 1 => part_paths(path, &split)?,
        _ => vec![path.to_owned()],
    };
    read_parts(&paths, access)
}

/// The split keys of a part.
#[derive(Debug, PartialEq)]
struct Split {
    number: u64,
    count: u64,
    n_tensors: Option<u64>,
}

impl Split {
    fn of(gguf: &Gguf<'_>) -> Result<Option<Split>> {
        let (number, count) = (gguf.integer(NUMBER_KEY)?, gguf.integer(COUNT_KEY)?);
        let n_tensors = gguf.integer(TENSORS_KEY)?;
        Ok(count.map(|count| Split { number: number.unwrap_or(0), count, n_tensors }))
    }
}

fn wrong(path: &Path, problem: String) -> ModelError {
    ModelError::SplitPart { path: path.to_owned(), problem }
}

/// The paths of all parts, from the path of one and its split keys.
fn part_paths(path: &Path, split: &Split) -> Result<Vec<PathBuf>> {
    let named = path.file_name().and_then(|name| name.to_str()).and_then(part_name);
    let Some((stem, number, count)) = named else {
        let count = split.count;
        let problem = format!(
            "it is one of {count} parts, but its name is not of the form NAME-00001-of-{count:05}.gguf, by which \
             the others are found"
        );
        return Err(wrong(path, problem));
    };
    if (number, count) != (split.number.saturating_add(1), split.count) {
        let problem = format!(
            "its name says part {number} of {count}, but it holds `{NUMBER_KEY}` {} (counted from 0) and \
             `{COUNT_KEY}` {}",
            split.number, split.count
        );
        return Err(wrong(path, problem));
    }
    // The count has five digits, and the files are opened one by one: opening stops at the first missing one.
    Ok((1..=count).map(|number| path.with_file_name(format!("{stem}-{number:05}-of-{count:05}.gguf"))).collect())
}

/// `NAME-00002-of-00003.gguf` → (`NAME`, 2, 3).
fn part_name(name: &str) -> Option<(&str, u64, u64)> {
    let is_number = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let (rest, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    if !is_number(count) || !is_number(number) {
        return None;
    }
    Some((stem, number.parse().ok()?, count.parse().ok()?))
}

fn read_parts(paths: &[PathBuf], access: Access) -> Result<Contents> {
    let mut files = Vec::new();
    let mut tensors: Vec<CheckpointTensor> = Vec::new();
    let mut part_of = HashMap::new();
    let mut metadata = None;
    let mut totals = Vec::new();
    for (index, path) in paths.iter().enumerate() {
        let mapping = access.open(path)?;
        let gguf = in_file(path, || Gguf::parse(mapping.bytes()))?;
        if paths.len() > 1 {
            let split = in_file(path, || Split::of(&gguf))?;
            check_part(path, index, paths.len(), split.as_ref())?;
            totals.extend(split.and_then(|split| split.n_tensors).map(|n_tensors| (path, n_tensors)));
        }
        for info in gguf.tensors() {
            if let Some(first) = part_of.insert(info.name.to_owned(), index)
                && let Some(first) = paths.get(first)
            {
                let problem = format!("its tensor `{}` is also in {}", info.name, first.display());
                return Err(wrong(path, problem));
            }
            if tensors.len() == MAX_TENSORS {
                return Err(wrong(path, format!("the model has more than {MAX_TENSORS} tensors")));
            }
            tensors.push(CheckpointTensor {
                name: info.name.to_owned(),
                tensor_type: info.tensor_type,
                dims: info.dims.clone(),
                source: Source::Stored(Part { file: index, data: info.data.clone() }),
            });
        }
        if index == 0 {
            metadata = Some(Metadata::of_file(&mapping, &gguf));
        }
        drop(gguf);
        files.push(mapping);
    }
    if let Some((path, total)) = totals.into_iter().find(|&(_, total)| total != tensors.len() as u64) {
        let problem =
            format!("`{TENSORS_KEY}` is {total}, but the {} parts have {} tensors", paths.len(), tensors.len());
        return Err(wrong(path, problem));
    }
    let Some(metadata) = metadata else {
        return Err(wrong(Path::new(""), "a model has at least one part".to_owned()));
    };
    let vocabulary = Vocabulary::Gguf;
    let paths = paths.to_vec();
    Ok(Contents { files, paths, metadata, tensors, vocabulary, chat_template: None, stop_token_ids: Vec::new() })
}

fn check_part(path: &Path, index: usize, count: usize, split: Option<&Split>) -> Result<()> {
    let Some(split) = split else {
        return Err(wrong(path, format!("it is part {} of {count} by its name, but has no `{COUNT_KEY}`", index + 1)));
    };
    if (split.number, split.count) != (index as u64, count as u64) {
        let problem = format!(
            "it holds `{NUMBER_KEY}` {} and `{COUNT_KEY}` {}, expected {index} and {count}",
            split.number, split.count
        );
        return Err(wrong(path, problem));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_parts() {
        let check = |name: &str, expected| assert_eq!(part_name(name), expected, "{name}");
        check("model-00001-of-00003.gguf", Some(("model", 1, 3)));
        check("a-00002-of-00003-00002-of-00009.gguf", Some(("a-00002-of-00003", 2, 9)));
        check("-00001-of-00001.gguf", Some(("", 1, 1)));
        check("model-1-of-3.gguf", None);
        check("model-+0001-of-00003.gguf", None);
        check("model-00001-of-000031.gguf", None);
        check("model-00001-of-00003", None);
        check("model.gguf", None);
    }
}
