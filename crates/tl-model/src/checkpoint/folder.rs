//! A Hugging Face folder as a checkpoint: which of its files are read, and how much of them.
//!
//! `config.json` is translated by `config.rs`, tensors are renamed by `names.rs`; this file opens, bounds and combines.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use tl_device::Mapping;

use super::contents::{Access, Contents, MAX_TENSORS, Vocabulary, in_file};
use super::hub_config::Config;
use super::names;
use super::safetensors::{self, Name, StoredTensor};
use crate::error::{ModelError, Result};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const TEMPLATE: &str = "chat_template.jinja";
const TEMPLATE_JSON: &str = "chat_template.json";
/// All files that are read beside the weights.
const OTHER_FILES: [&str; 7] = [CONFIG, INDEX, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, TEMPLATE, TEMPLATE_JSON];

/// The largest `config.json` and `generation_config.json`: read into memory, where JSON takes many times its length.
const MAX_CONFIG_BYTES: u64 = 1 << 20;
/// The largest index of tensors by file.
const MAX_INDEX_BYTES: u64 = 64 << 20;
/// The largest `tokenizer_config.json`; only its template is kept.
const MAX_TOKENIZER_CONFIG_BYTES: u64 = 64 << 20;
/// The largest chat template.
const MAX_TEMPLATE_BYTES: u64 = 4 << 20;
/// The most weights files: each is kept open.
const MAX_SHARDS: usize = 4096;
/// The most ids that may end a text.
const MAX_END_TOKENS: usize = 256;

/// The folder of a path that is a folder, or one of the files that may stand for it.
pub(super) fn folder_of(path: &Path) -> Option<PathBuf> {
    if path.is_dir() {
        return Some(path.to_owned());
    }
    let name = path.file_name()?.to_str()?;
    let is_part = name == CONFIG || name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json");
    // The parent of a bare `config.json` is the empty path.
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    is_part.then(|| parent.to_owned())
}

/// Reads a folder.
///
/// # Errors
/// Files that are missing, too large, damaged or contradict each other; an unknown kind of model; weights that are
/// quantized or of another type than F32, F16 and BF16.
pub(super) fn open(folder: &Path, given: &Path, access: Access) -> Result<Contents> {
    let config_path = folder.join(CONFIG);
    let Some(config) = read_json(&config_path)? else {
        return Err(ModelError::NoModel { path: folder.to_owned(), missing: CONFIG.to_owned() });
    };
    let (family, translated, end_tokens) = in_file(&config_path, || {
        let config = Config::new(&config)?;
        let end_tokens = config.end_tokens().map(token_ids).transpose()?.unwrap_or_default();
        Ok((config.family, config.translate()?, end_tokens))
    })?;
    drop(config);
    let weights = Weights::open(folder, access)?;
    weights.check_given(given)?;
    let tensors = in_file(folder, || names::rename(weights.tensors, family, &translated))?;
    let (vocabulary, chat_template) = read_texts(folder)?;
    let stop_token_ids = read_stop_tokens(folder, end_tokens)?;
    let metadata = translated.metadata;
    let others = OTHER_FILES.iter().map(|name| folder.join(name)).filter(|path| path.exists());
    let paths = weights.paths.into_iter().chain(others).collect();
    Ok(Contents { files: weights.files, paths, metadata, tensors, vocabulary, chat_template, stop_token_ids })
}

/// The weights files and their tensors.
#[derive(Default)]
struct Weights {
    paths: Vec<PathBuf>,
    files: Vec<Mapping>,
    /// Each with the number of its file.
    tensors: Vec<(usize, StoredTensor)>,
}

impl Weights {
    fn open(folder: &Path, access: Access) -> Result<Weights> {
        let mut weights = Weights::default();
        let single = folder.join(WEIGHTS);
        if single.exists() {
            weights.add(single, access, |_| true)?;
            return Ok(weights);
        }
        let index_path = folder.join(INDEX);
        let Some(text) = read_bounded(&index_path, MAX_INDEX_BYTES)? else {
            let missing = format!("{WEIGHTS} and {INDEX}");
            return Err(ModelError::NoModel { path: folder.to_owned(), missing });
        };
        let index: Index = parse_json(&index_path, "the index of tensors", &text)?;
        drop(text);
        let mut expected: HashMap<String, usize> = index.tensors.into_iter().collect();
        for (number, name) in index.files.iter().enumerate() {
            // A tensor that the index places in another file, or in none, is not part of this model.
            let is_expected = |name: &str| expected.get(name) == Some(&number) && expected.remove(name).is_some();
            weights.add(folder.join(name), access, is_expected)?;
        }
        if let Some((tensor, &file)) = expected.iter().min() {
            let file = index.files.get(file).cloned().unwrap_or_default();
            let problem = format!("it says that tensor `{tensor}` is in {file}, which does not have it");
            return in_file(&index_path, || Err(ModelError::Json { what: "the index of tensors", problem }));
        }
        Ok(weights)
    }

    /// Opens one file, with the tensors that `is_wanted` selects.
    fn add(&mut self, path: PathBuf, access: Access, mut is_wanted: impl FnMut(&str) -> bool) -> Result<()> {
        let mapping = access.open(&path)?;
        let tensors = in_file(&path, || safetensors::parse(mapping.bytes()))?;
        let number = self.files.len();
        self.tensors
            .extend(tensors.into_iter().filter(|tensor| is_wanted(&tensor.name)).map(|tensor| (number, tensor)));
        self.paths.push(path);
        self.files.push(mapping);
        Ok(())
    }

    /// Checks that a given weights file is one of these.
    fn check_given(&self, given: &Path) -> Result<()> {
        let is_weights = given.extension().is_some_and(|extension| extension == "safetensors") && !given.is_dir();
        if !is_weights || self.paths.iter().any(|path| path.file_name() == given.file_name()) {
            return Ok(());
        }
        let name = self.paths.first().and_then(|path| path.file_name()).unwrap_or_default();
        let weights = match self.paths.len() {
            1 => name.display().to_string(),
            n => format!("{} and {} more files", name.display(), n - 1),
        };
        Err(ModelError::OtherWeights { path: given.to_owned(), weights })
    }
}

/// The index of tensors by file.
struct Index {
    /// The files' names, each once.
    files: Vec<String>,
    /// Tensors and the numbers of their files.
    tensors: Vec<(String, usize)>,
}

impl<'de> Deserialize<'de> for Index {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Index, D::Error> {
        deserializer.deserialize_map(IndexVisitor)
    }
}

struct IndexVisitor;

impl<'de> Visitor<'de> for IndexVisitor {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Index, A::Error> {
        let mut index = None;
        while let Some(Name(key)) = map.next_key()? {
            if key != "weight_map" {
                map.next_value::<IgnoredAny>()?;
            } else if index.replace(map.next_value::<WeightMap>()?).is_some() {
                return Err(A::Error::custom("`weight_map` occurs twice"));
            }
        }
        index.map(|WeightMap(index)| index).ok_or_else(|| A::Error::missing_field("weight_map"))
    }
}

struct WeightMap(Index);

impl<'de> Deserialize<'de> for WeightMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<WeightMap, D::Error> {
        deserializer.deserialize_map(WeightMapVisitor)
    }
}

struct WeightMapVisitor;

impl<'de> Visitor<'de> for WeightMapVisitor {
    type Value = WeightMap;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of file names by tensor name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<WeightMap, A::Error> {
        let mut numbers: HashMap<String, usize> = HashMap::new();
        let mut index = Index { files: Vec::new(), tensors: Vec::new() };
        while let Some((Name(tensor), Name(file))) = map.next_entry()? {
            if index.tensors.len() == MAX_TENSORS {
                return Err(A::Error::custom(format_args!("it names more than {MAX_TENSORS} tensors")));
            }
            let number = match numbers.get(&*file) {
                Some(&number) => number,
                None => {
                    check_file_name(&file).map_err(A::Error::custom)?;
                    if index.files.len() == MAX_SHARDS {
                        return Err(A::Error::custom(format_args!("it names more than {MAX_SHARDS} files")));
                    }
                    numbers.insert(file.clone().into_owned(), index.files.len());
                    index.files.push(file.into_owned());
                    index.files.len() - 1
                }
            };
            index.tensors.push((tensor.into_owned(), number));
        }
        index.tensors.sort_unstable();
        if let Some([(name, _), _]) = index.tensors.array_windows().find(|[a, b]| a.0 == b.0) {
            return Err(A::Error::custom(format_args!("tensor `{name}` occurs twice")));
        }
        Ok(WeightMap(index))
    }
}

/// Checks that a name is a file beside the index, not a path to another folder.
fn check_file_name(name: &str) -> std::result::Result<(), String> {
    let is_plain = !name.contains(['/', '\\', ':', '\0']) && name.ends_with(".safetensors");
    if is_plain {
        return Ok(());
    }
    Err(format!("`{name}` is not the name of a .safetensors file in the same folder"))
}

/// The tokenizer's files, and the chat template: from a file of its own, else from the tokenizer's configuration.
fn read_texts(folder: &Path) -> Result<(Vocabulary, Option<String>)> {
    let tokenizer = map_if_there(&folder.join(TOKENIZER))?;
    let config_path = folder.join(TOKENIZER_CONFIG);
    let config = map_if_there(&config_path)?;
    if let Some(long) = config.as_ref().map(|map| map.bytes().len() as u64).filter(|&n| n > MAX_TOKENIZER_CONFIG_BYTES)
    {
        return Err(too_long(&config_path, long, MAX_TOKENIZER_CONFIG_BYTES));
    }
    let mut template = None;
    let plain_path = folder.join(TEMPLATE);
    if let Some(text) = read_bounded(&plain_path, MAX_TEMPLATE_BYTES)? {
        let text = String::from_utf8(text);
        template = Some(in_file(&plain_path, || {
            text.map_err(|_| ModelError::NotUtf8 { what: "the chat template", offset: 0 })
        })?);
    }
    let json_path = folder.join(TEMPLATE_JSON);
    if template.is_none()
        && let Some(text) = read_bounded(&json_path, MAX_TEMPLATE_BYTES)?
    {
        template = parse_json::<TemplateHolder>(&json_path, "the chat template", &text)?.0;
    }
    if template.is_none()
        && let Some(config) = &config
    {
        template = parse_json::<TemplateHolder>(&config_path, "the tokenizer's configuration", config.bytes())?.0;
    }
    Ok((Vocabulary::Folder { tokenizer, config }, template))
}

/// The value of `chat_template` in an object; other keys are skipped.
struct TemplateHolder(Option<String>);

impl<'de> Deserialize<'de> for TemplateHolder {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<TemplateHolder, D::Error> {
        deserializer.deserialize_map(TemplateVisitor)
    }
}

struct TemplateVisitor;

impl<'de> Visitor<'de> for TemplateVisitor {
    type Value = TemplateHolder;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<TemplateHolder, A::Error> {
        let mut template = None;
        while let Some(Key(is_template)) = map.next_key()? {
            if !is_template {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            template = map.next_value::<Template>()?.0;
        }
        Ok(TemplateHolder(template))
    }
}

/// Whether a key is `chat_template`; keys may be of any length.
struct Key(bool);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Key, D::Error> {
        struct KeyVisitor;
        impl Visitor<'_> for KeyVisitor {
            type Value = Key;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<Key, E> {
                Ok(Key(text == "chat_template"))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// A template: a text, `null`, or the one named `default` in a list of `{"name": …, "template": …}`.
struct Template(Option<String>);

impl<'de> Deserialize<'de> for Template {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Template, D::Error> {
        struct TextOrList;
        impl<'de> Visitor<'de> for TextOrList {
            type Value = Template;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of named texts")
            }

            fn visit_unit<E>(self) -> std::result::Result<Template, E> {
                Ok(Template(None))
            }

            fn visit_str<E>(self, text: &str) -> std::result::Result<Template, E> {
                Ok(Template(Some(text.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Template, A::Error> {
                let mut default = None;
                while let Some(named) = list.next_element::<NamedTemplate>()? {
                    if named.name == "default" {
                        default = Some(named.template);
                    }
                }
                let missing = || A::Error::custom("`chat_template` is a list without one of the name `default`");
                default.ok_or_else(missing).map(|template| Template(Some(template)))
            }
        }
        deserializer.deserialize_any(TextOrList)
    }
}

#[derive(Deserialize)]
struct NamedTemplate {
    name: String,
    template: String,
}

/// The ids that end a text: those of `generation_config.json`, then the others of `config.json`.
fn read_stop_tokens(folder: &Path, of_config: Vec<u32>) -> Result<Vec<u32>> {
    let path = folder.join(GENERATION_CONFIG);
    let mut ids = match read_json(&path)? {
        Some(config) => in_file(&path, || config.get("eos_token_id").map(token_ids).transpose())?.unwrap_or_default(),
        None => Vec::new(),
    };
    for id in of_config {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// A token id or a list of them; `null` is none.
fn token_ids(value: &Value) -> Result<Vec<u32>> {
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
    let ids = match value {
        Value::Null => Some(Vec::new()),
        Value::Array(ids) if ids.len() <= MAX_END_TOKENS => ids.iter().map(id).collect(),
        _ => id(value).map(|id| vec![id]),
    };
    ids.ok_or_else(|| super::hub_config::wrong("eos_token_id", value, "expected a token id or a list of them"))
}

fn map_if_there(path: &Path) -> Result<Option<Mapping>> {
    match Mapping::open(path) {
        Ok(mapping) => Ok(Some(mapping)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ModelError::Io { path: path.to_owned(), source }),
    }
}

fn too_long(path: &Path, value: u64, limit: u64) -> ModelError {
    let problem = format!("its {value} bytes are more than the {limit} that are read");
    ModelError::File { path: path.to_owned(), error: Box::new(ModelError::Json { what: "the file", problem }) }
}

/// The whole file, if it exists.
fn read_bounded(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let failed = |source| ModelError::Io { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let mut text = Vec::new();
    // Does not trust the length from the system: special files have none.
    file.take(limit + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > limit {
        return Err(too_long(path, text.len() as u64, limit));
    }
    Ok(Some(text))
}

fn read_json(path: &Path) -> Result<Option<Value>> {
    let text = read_bounded(path, MAX_CONFIG_BYTES)?;
    text.map(|text| parse_json(path, "the file", &text)).transpose()
}

fn parse_json<'a, T: Deserialize<'a>>(path: &Path, what: &'static str, text: &'a [u8]) -> Result<T> {
    in_file(path, || {
        serde_json::from_slice(text).map_err(|error| ModelError::Json { what, problem: error.to_string() })
    })
}
