//! A folder's tensors under GGUF's names, by the tables of `families.rs`.
//!
//! It decides for each tensor whether its bytes are used in place or converted. It reads no weights.

use std::collections::HashMap;
use std::ops::Range;

use super::config::Translated;
use super::contents::CheckpointTensor;
use super::convert::{Arrangement, Part, Source, is_aligned};
use super::families::{COMPUTED_TENSORS, Family, Name, OTHER_PARTS, OUTSIDE_LAYERS, TEXT_PREFIXES};
use super::latent::Latent;
use super::safetensors::{StoredTensor, StoredType};
use crate::error::{ModelError, Result};
use crate::format::TensorType;

/// The most dimensions of a GGUF tensor.
const MAX_DIMS: usize = 4;

/// The GGUF form of a tensor of a folder.
#[derive(Debug, PartialEq)]
enum Target {
    /// The same tensor.
    Same(String),
    /// The same tensor, without the dimension of 1 in the middle.
    Filter(String),
    /// One of the experts of a tensor.
    Expert { name: String, number: usize },
    /// Several tensors, stacked within each expert.
    Stacked(Vec<String>),
    /// Several tensors with interleaved elements.
    Interleaved { names: Vec<String>, is_transposed: bool },
    /// One for the keys and one for the values of all heads.
    KeysAndValues([String; 2]),
    /// None.
    LeftOut,
}

/// Experts of one tensor found so far.
struct Stack {
    /// The tensor's index in the list.
    place: usize,
    tensor_type: TensorType,
    dims: Vec<usize>,
    /// With their numbers, in the order of the files.
    parts: Vec<(usize, Part)>,
}

/// The tensors of all files: each with the number of its file.
///
/// # Errors
/// An unknown tensor or type, experts that are missing or of different sizes.
pub(super) fn rename(
    stored: Vec<(usize, StoredTensor)>,
    family: &Family,
    config: &Translated,
) -> Result<Vec<CheckpointTensor>> {
    let mut renamed = Renamed { family, tensors: Vec::new(), stacks: HashMap::new(), n_experts: config.n_experts };
    for (file, tensor) in stored {
        match target(&tensor.name, family, config)? {
            Target::LeftOut => {}
            Target::Same(name) => renamed.same(name, file, tensor)?,
            Target::Filter(name) => renamed.filter(name, file, tensor)?,
            Target::Expert { name, number } => renamed.expert(name, number, file, tensor)?,
            Target::Stacked(names) => renamed.stacked(&names, file, &tensor)?,
            Target::Interleaved { names, is_transposed } => {
                renamed.interleaved(&names, is_transposed, file, &tensor)?;
            }
            Target::KeysAndValues(names) => renamed.keys_and_values(names, config.latent, file, &tensor)?,
        }
    }
    for (name, values) in &config.tensors {
        renamed.tensors.push(CheckpointTensor {
            name: (*name).to_owned(),
            tensor_type: TensorType::F32,
            dims: vec![values.len()],
            source: Source::Computed(values.clone()),
        });
    }
    renamed.finish()
}

fn target(stored: &str, family: &Family, config: &Translated) -> Result<Target> {
    let unknown = || ModelError::UnknownFolderTensor {
        name: stored.to_owned(),
        family: family.model_types.first().copied().unwrap_or_default(),
    };
    if OTHER_PARTS.iter().any(|part| stored.starts_with(part))
        || COMPUTED_TENSORS.iter().any(|end| stored.ends_with(end))
    {
        return Ok(Target::LeftOut);
    }
    let prefix = TEXT_PREFIXES.iter().find_map(|(prefix, text)| Some((text, stored.strip_prefix(prefix)?)));
    let name = prefix.map_or_else(|| stored.to_owned(), |(text, rest)| format!("{text}{rest}"));
    if let Some((_, gguf)) = OUTSIDE_LAYERS.iter().find(|(hub, _)| *hub == name) {
        // A tied output is the embedding, even if the file has an output tensor.
        let is_left_out = config.is_tied && gguf.starts_with("output.");
        return Ok(if is_left_out { Target::LeftOut } else { Target::Same((*gguf).to_owned()) });
    }
    let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split_once('.'));
    let (layer, rest) = layer.and_then(|(layer, rest)| Some((index(layer)?, rest))).ok_or_else(unknown)?;
    if layer >= config.n_layers {
        // A layer that predicts further tokens.
        let is_next = layer - config.n_layers < config.n_next_layers;
        return if is_next { Ok(Target::LeftOut) } else { Err(unknown()) };
    }
    let rules = family.layer.iter().copied().flatten();
    rules.filter_map(|rule| layer_target(rule, layer, rest)).next().ok_or_else(unknown)
}

/// An index in a name: decimal, without a sign or leading zeros.
fn index(text: &str) -> Option<usize> {
    let number: usize = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn layer_target(rule: &Name, layer: usize, rest: &str) -> Option<Target> {
    let kind = |rest: &str| [".weight", ".bias"].into_iter().find(|kind| *kind == rest);
    match *rule {
        Name::Same(hub, gguf) => {
            let kind = kind(rest.strip_prefix(hub)?)?;
            Some(Target::Same(format!("blk.{layer}.{gguf}{kind}")))
        }
        Name::Filter(hub, gguf) => {
            let kind = kind(rest.strip_prefix(hub)?)?;
            Some(Target::Filter(format!("blk.{layer}.{gguf}{kind}")))
        }
        Name::Experts(hub, gguf) => {
            let (before, after) = hub.split_once('*')?;
            let (number, rest) = rest.strip_prefix(before)?.split_once('.')?;
            let kind = kind(rest.strip_prefix(after.strip_prefix('.')?)?)?;
            Some(Target::Expert { name: format!("blk.{layer}.{gguf}{kind}"), number: index(number)? })
        }
        Name::Stacked(hub, gguf) => {
            (rest == hub).then(|| Target::Stacked(gguf.iter().map(|gguf| format!("blk.{layer}.{gguf}")).collect()))
        }
        Name::Whole(hub, gguf) => (rest == hub).then(|| Target::Same(format!("blk.{layer}.{gguf}"))),
        Name::Interleaved { hub, gguf, is_transposed } => (rest == hub).then(|| Target::Interleaved {
            names: gguf.iter().map(|gguf| format!("blk.{layer}.{gguf}")).collect(),
            is_transposed,
        }),
        Name::KeysAndValues { hub, gguf } => {
            (rest == hub).then(|| Target::KeysAndValues(gguf.map(|gguf| format!("blk.{layer}.{gguf}"))))
        }
    }
}

/// Whether GGUF files store a tensor in float32 whatever the type of the others: norms, biases and the like.
fn is_wide(name: &str, dims: &[usize]) -> bool {
    dims.len() <= 1 || name.ends_with(".bias") || name.ends_with("_norm.weight")
}

fn type_of(tensor: &StoredTensor) -> Result<TensorType> {
    match &tensor.stored_type {
        StoredType::Known(known) => Ok(*known),
        StoredType::Other(other) => {
            Err(ModelError::StoredType { name: tensor.name.clone(), stored_type: other.clone() })
        }
    }
}

struct Renamed<'a> {
    family: &'a Family,
    tensors: Vec<CheckpointTensor>,
    stacks: HashMap<String, Stack>,
    n_experts: usize,
}

impl Renamed<'_> {
    fn same(&mut self, name: String, file: usize, tensor: StoredTensor) -> Result<()> {
        let stored = type_of(&tensor)?;
        check_rank(&tensor, 0..=MAX_DIMS)?;
        // The norm inside a delta net is stored with its 1.
        let is_norm = name.ends_with("_norm.weight") && !name.ends_with(".ssm_norm.weight");
        let lacks_one = self.family.norms_lack_one && is_norm;
        let is_wide = is_wide(&name, &tensor.dims);
        let is_used_as_is =
            !lacks_one && (stored == TensorType::F32 || !is_wide) && is_aligned(stored, tensor.data.start);
        let part = Part { file, data: tensor.data };
        let (source, tensor_type) = if is_used_as_is {
            (Source::Stored(part), stored)
        } else {
            let widen = is_wide.then_some(if lacks_one { 1.0 } else { 0.0 });
            let tensor_type = if is_wide { TensorType::F32 } else { stored };
            (Source::Arranged { arrangement: Arrangement::Stack(vec![part]), stored, widen }, tensor_type)
        };
        self.tensors.push(CheckpointTensor { name, tensor_type, dims: tensor.dims, source });
        Ok(())
    }

    /// GGUF files store filters in float32.
    fn filter(&mut self, name: String, file: usize, mut tensor: StoredTensor) -> Result<()> {
        let stored = type_of(&tensor)?;
        if let [channels, 1, taps] = *tensor.dims {
            tensor.dims = vec![channels, taps];
        }
        check_rank(&tensor, 1..=2)?;
        let is_used_as_is = stored == TensorType::F32 && is_aligned(stored, tensor.data.start);
        let part = Part { file, data: tensor.data };
        let source = match is_used_as_is {
            true => Source::Stored(part),
            false => Source::Arranged { arrangement: Arrangement::Stack(vec![part]), stored, widen: Some(0.0) },
        };
        self.tensors.push(CheckpointTensor { name, tensor_type: TensorType::F32, dims: tensor.dims, source });
        Ok(())
    }

    fn expert(&mut self, name: String, number: usize, file: usize, tensor: StoredTensor) -> Result<()> {
        let stored = type_of(&tensor)?;
        check_rank(&tensor, 1..=MAX_DIMS - 1)?;
        if number >= self.n_experts {
            return Err(ModelError::Experts { name, problem: format!("has expert {number} of {}", self.n_experts) });
        }
        let stack = self.stacks.entry(name.clone()).or_insert_with(|| Stack {
            place: self.tensors.len(),
            tensor_type: stored,
            dims: tensor.dims.clone(),
            parts: Vec::new(),
        });
        if stack.parts.is_empty() {
            // Its name keeps its place in the list; the rest follows when all experts are known.
            self.tensors.push(CheckpointTensor {
                name: name.clone(),
                tensor_type: stored,
                dims: Vec::new(),
                source: Source::Computed(Vec::new()),
            });
        }
        if (stack.tensor_type, &stack.dims) != (stored, &tensor.dims) {
            let problem = format!(
                "has experts of {:?} in {} and of {:?} in {stored}",
                stack.dims, stack.tensor_type, tensor.dims
            );
            return Err(ModelError::Experts { name, problem });
        }
        stack.parts.push((number, Part { file, data: tensor.data }));
        Ok(())
    }

    fn stacked(&mut self, names: &[String], file: usize, tensor: &StoredTensor) -> Result<()> {
        let stored = type_of(tensor)?;
        let wrong = || ModelError::Experts {
            name: names.first().cloned().unwrap_or_default(),
            problem: format!("is made of `{}` of {:?}, which is no whole number of experts", tensor.name, tensor.dims),
        };
        let &[n_experts, rows, columns] = tensor.dims.as_slice() else { return Err(wrong()) };
        let n_parts = n_experts.saturating_mul(names.len());
        let is_whole = rows.is_multiple_of(names.len()) && n_parts > 0 && tensor.data.len().is_multiple_of(n_parts);
        if n_experts != self.n_experts || !is_whole {
            return Err(wrong());
        }
        let part_bytes = tensor.data.len() / n_parts;
        for (first, name) in names.iter().enumerate() {
            let part = |expert: usize| {
                let start = tensor.data.start + (expert * names.len() + first) * part_bytes;
                Part { file, data: start..start + part_bytes }
            };
            let arrangement = Arrangement::Stack((0..n_experts).map(part).collect());
            self.tensors.push(CheckpointTensor {
                name: name.clone(),
                tensor_type: stored,
                dims: vec![n_experts, rows / names.len(), columns],
                source: Source::Arranged { arrangement, stored, widen: None },
            });
        }
        Ok(())
    }

    fn interleaved(&mut self, names: &[String], is_transposed: bool, file: usize, tensor: &StoredTensor) -> Result<()> {
        let stored = type_of(tensor)?;
        let n = names.len();
        let wrong = || ModelError::Experts {
            name: names.first().cloned().unwrap_or_default(),
            problem: format!("is made of `{}` of {:?}, which is no whole number of experts", tensor.name, tensor.dims),
        };
        let (n_experts, inputs, outputs) = match (tensor.dims.as_slice(), is_transposed) {
            (&[experts, inputs, outputs], true) => (experts, inputs, outputs),
            (&[experts, outputs], false) => (experts, 1, outputs),
            _ => return Err(wrong()),
        };
        if n_experts != self.n_experts || !outputs.is_multiple_of(n) {
            return Err(wrong());
        }
        let (rows, columns) = (outputs / n, inputs);
        for (first, name) in names.iter().enumerate() {
            let is_wide = name.ends_with(".bias");
            let part = Part { file, data: tensor.data.clone() };
            let strides = [inputs * outputs, n, outputs];
            let arrangement = Arrangement::Gather { part, first, strides, rows, columns };
            self.tensors.push(CheckpointTensor {
                name: name.clone(),
                tensor_type: if is_wide { TensorType::F32 } else { stored },
                dims: if is_transposed { vec![n_experts, rows, columns] } else { vec![n_experts, rows] },
                source: Source::Arranged { arrangement, stored, widen: is_wide.then_some(0.0) },
            });
        }
        Ok(())
    }

    fn keys_and_values(
        &mut self,
        names: [String; 2],
        latent: Option<Latent>,
        file: usize,
        tensor: &StoredTensor,
    ) -> Result<()> {
        let stored = type_of(tensor)?;
        let part = Part { file, data: tensor.data.clone() };
        let Some(halves) = latent.and_then(|latent| latent.split(&tensor.dims, &part)) else {
            return Err(ModelError::TensorSizes {
                name: tensor.name.clone(),
                offset: tensor.data.start as u64,
                dims: tensor.dims.iter().map(|&dim| dim as u64).collect(),
                format: tensor.stored_type.to_string(),
                problem: "which are not those of the configuration, [heads · (qk_nope_head_dim + v_head_dim), \
                          kv_lora_rank]",
            });
        };
        for (name, (dims, arrangement)) in names.into_iter().zip(halves) {
            let source = Source::Arranged { arrangement, stored, widen: None };
            self.tensors.push(CheckpointTensor { name, tensor_type: stored, dims, source });
        }
        Ok(())
    }

    /// Joins the experts after all tensors have been seen.
    fn finish(mut self) -> Result<Vec<CheckpointTensor>> {
        for (name, mut stack) in self.stacks {
            let n_found = stack.parts.len();
            stack.parts.sort_unstable_by_key(|&(number, _)| number);
            if let Some(number) = (0..self.n_experts).zip(&stack.parts).position(|(number, part)| number != part.0) {
                return Err(ModelError::Experts { name, problem: format!("has no expert {number}, or one twice") });
            }
            if n_found != self.n_experts {
                let problem = format!("has {n_found} of {} experts; number {n_found} is missing", self.n_experts);
                return Err(ModelError::Experts { name, problem });
            }
            let is_wide = name.ends_with(".bias");
            let mut dims = vec![n_found];
            dims.extend(&stack.dims);
            if let Some(tensor) = self.tensors.get_mut(stack.place) {
                tensor.dims = dims;
                tensor.tensor_type = if is_wide { TensorType::F32 } else { stack.tensor_type };
                tensor.source = Source::Arranged {
                    arrangement: Arrangement::Stack(stack.parts.into_iter().map(|(_, part)| part).collect()),
                    stored: stack.tensor_type,
                    widen: (is_wide && stack.tensor_type != TensorType::F32).then_some(0.0),
                };
            }
        }
        let mut names: Vec<&str> = self.tensors.iter().map(|tensor| tensor.name.as_str()).collect();
        names.sort_unstable();
        if let Some(&[name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(ModelError::TwoNames { name: name.to_owned() });
        }
        Ok(self.tensors)
    }
}

fn check_rank(tensor: &StoredTensor, ranks: std::ops::RangeInclusive<usize>) -> Result<()> {
    if ranks.contains(&tensor.dims.len()) {
        return Ok(());
    }
    let Range { start, .. } = tensor.data;
    Err(ModelError::TensorSizes {
        name: tensor.name.clone(),
        offset: start as u64,
        dims: tensor.dims.iter().map(|&dim| dim as u64).collect(),
        format: tensor.stored_type.to_string(),
        problem: "which is another number of dimensions than such a tensor has",
    })
}
