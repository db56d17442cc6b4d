//! Converting a model's weights to another format, as one GGUF file.
//!
//! The source is anything that a [`Checkpoint`] opens: a GGUF file, a split one, or a Hugging Face folder, whose
//! tensors are arranged as in GGUF (see `checkpoint/export.rs`) and whose tokenizer and chat template become metadata.
//! Metadata of a GGUF file is kept in order, except for the key of the format and the keys of a split file. A tensor is
//! never in memory as a whole: its elements are converted through `float32` a piece at a time. This module must not
//! know the kind of model, beyond the names by which a mix of formats finds the more important weights.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use tl_device::{DType, Device};
use tl_model::{
    Checkpoint, CheckpointTensor, GgufHeader, GgufWriter, ModelError, TensorType, Tokenizer, TokenizerExport,
};
use tl_tensor::quant::{Format, format_by_gguf_id, format_of};

use crate::error::{Result, ToolError};
use crate::recipe::{OUTPUT, Recipe};

const FILE_TYPE: &str = "general.file_type";
const QUANTIZATION_VERSION: &str = "general.quantization_version";
/// The version of the block formats to write, if the file has none.
const CURRENT_VERSION: u32 = 2;

/// Elements converted at a time; a whole number of blocks in every format.
const CHUNK_ELEMS: usize = 4096;
/// Chunks converted before they are written.
const STAGED_CHUNKS: usize = 128;
/// Bytes copied at a time.
const COPY_BYTES: usize = 4 << 20;

const NAME: &str = "general.name";
const EMBEDDING: &str = "token_embd.weight";
/// The expert routers: small and sensitive, so they are `float32` in all files.
const ROUTERS: [&str; 2] = [".ffn_gate_inp.weight", ".ffn_gate_inp_shexp.weight"];
/// Weights of all experts of a layer: three dimensions.
const EXPERTS: &str = "_exps.weight";

/// A model to be written in another format.
///
/// ```
/// use tl_device::Device;
/// use tl_model::Weights;
/// use tl_tools::Quantization;
/// # let path = std::env::temp_dir().join(format!("tl-quantize-doc-{}.gguf", std::process::id()));
/// let device = Device::cpu();
/// let report = Quantization::open("../../models/demo-f16.gguf", "q8_0")?.write(&path, &device, &mut |_| ())?;
/// assert!(report.written_bytes < 3_000_000 && report.without_whole_blocks.is_empty());
/// assert_eq!(Weights::load(&path, &device)?.config().dim, 96);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), tl_tools::ToolError>(())
/// ```
#[derive(Debug)]
pub struct Quantization {
    checkpoint: Checkpoint,
    recipe: &'static Recipe,
}

/// Progress of writing, reported before each tensor.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QuantizeProgress<'a> {
    /// The next tensor.
    pub tensor: &'a str,
    /// Bytes of the tensors read so far.
    pub read_bytes: u64,
    /// Total bytes of the tensors.
    pub total_bytes: u64,
}

/// Report of a written file.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct QuantizeReport {
    /// Size of the source's weights files.
    pub read_bytes: u64,
    /// Size of the written file.
    pub written_bytes: u64,
    /// Weights whose rows are not a whole number of the format's blocks, and which are therefore `float16`.
    pub without_whole_blocks: Vec<String>,
    /// Number of weights that were already quantized in the source.
    pub already_quantized: usize,
    /// Differences between the written file and the source, one sentence each.
    pub notes: Vec<String>,
}

/// The treatment of a tensor.
enum Step {
    /// Its bytes are copied.
    Keep,
    /// It is converted.
    Convert { from: &'static Format, to: &'static Format },
}

impl Step {
    fn tensor_type(&self, tensor: &CheckpointTensor) -> TensorType {
        match self {
            Step::Keep => tensor.tensor_type,
            Step::Convert { to, .. } => TensorType::from_id(to.gguf_id),
        }
    }
}

impl Quantization {
    /// Opens a source as [`Checkpoint::open`] does, to be written in the named format or mix of formats (`f16`, `q8_0`,
    /// `q4_k_m` and so on, in any case).
    ///
    /// # Errors
    /// An unknown format ([`ToolError::UnknownName`], with the known names); as for [`Checkpoint::open`].
    pub fn open(path: impl AsRef<Path>, format: &str) -> Result<Quantization> {
        let recipe = Recipe::named(format)?;
        Ok(Quantization { checkpoint: Checkpoint::open(path)?, recipe })
    }

    /// The source files; none of them can be the target.
    pub fn files(&self) -> &[PathBuf] {
        self.checkpoint.files()
    }

    /// Writes the file with all of the device's threads: weights of two dimensions and those of experts in the format,
    /// those of one (norms) and of routers as `float32`, others unchanged. Calls `progress` before each tensor.
    ///
    /// # Errors
    /// A weight in an unsupported format, a weight that is not a finite number, a folder's tokenizer that GGUF cannot
    /// describe, or [`ModelError::Write`]: the target is then unchanged.
    pub fn write(
        &self,
        target: impl AsRef<Path>,
        device: &Device,
        progress: &mut dyn FnMut(QuantizeProgress<'_>),
    ) -> Result<QuantizeReport> {
        let checkpoint = &self.checkpoint;
        let read = |error| ModelError::File { path: checkpoint.path().to_owned(), error: Box::new(error) };
        let mut report = QuantizeReport { read_bytes: checkpoint.file_bytes(), ..QuantizeReport::default() };
        let tensors = checkpoint.exported_tensors().map_err(read)?;
        let steps = self.steps(&tensors, &mut report).map_err(read)?;
        let header = self.header(&tensors, &steps, &mut report)?;
        let mut writer = header.create(target.as_ref())?;
        let len = |tensor: &CheckpointTensor| tensor.len_bytes().unwrap_or(0);
        let total_bytes = tensors.iter().map(len).sum();
        let mut read_bytes = 0;
        for (tensor, step) in tensors.iter().zip(&steps) {
            progress(QuantizeProgress { tensor: &tensor.name, read_bytes, total_bytes });
            match *step {
                Step::Keep => {
                    checkpoint.read_exported(tensor, device, COPY_BYTES, |bytes| writer.write(bytes))?;
                }
                Step::Convert { from, to } => {
                    let mut conversion = Conversion::new(from, to, device);
                    let mut is_finite = true;
                    checkpoint.read_exported(tensor, device, conversion.chunk_bytes(), |bytes| {
                        is_finite = is_finite && conversion.write(bytes, &mut writer)?;
                        Ok(())
                    })?;
                    if !is_finite {
                        let (tensor, format) = (tensor.name.clone(), step.tensor_type(tensor).to_string());
                        return Err(ToolError::NotFinite { path: checkpoint.path().to_owned(), tensor, format });
                    }
                }
            }
            read_bytes += len(tensor);
        }
        report.written_bytes = writer.finish()?;
        Ok(report)
    }

    /// The treatment of each tensor.
    fn steps(&self, tensors: &[CheckpointTensor], report: &mut QuantizeReport) -> tl_model::Result<Vec<Step>> {
        let n_layers = self.checkpoint.integer(".block_count")?.unwrap_or(0);
        let n_layers = usize::try_from(n_layers).unwrap_or(usize::MAX);
        let has_output = tensors.iter().any(|tensor| tensor.name == OUTPUT);
        let of_weight = |name: &str| self.recipe.format(name, n_layers, has_output);
        tensors.iter().map(|tensor| step(tensor, target(tensor, of_weight), report)).collect()
    }

    fn header(&self, tensors: &[CheckpointTensor], steps: &[Step], report: &mut QuantizeReport) -> Result<GgufHeader> {
        let checkpoint = &self.checkpoint;
        let mut header = GgufHeader::new();
        for (key, value) in checkpoint.exported_metadata() {
            match key {
                FILE_TYPE => header.u32(FILE_TYPE, self.recipe.file_type),
                _ => header.value(key, value),
            };
        }
        if checkpoint.value(FILE_TYPE).is_none() {
            header.u32(FILE_TYPE, self.recipe.file_type);
        }
        if checkpoint.value(QUANTIZATION_VERSION).is_none() {
            header.u32(QUANTIZATION_VERSION, CURRENT_VERSION);
        }
        if checkpoint.is_folder() {
            let n_rows = tensors.iter().find(|tensor| tensor.name == EMBEDDING).and_then(|it| it.dims.first().copied());
            self.folder_keys(&mut header, n_rows.unwrap_or(0), &mut report.notes)?;
        }
        for (tensor, step) in tensors.iter().zip(steps) {
            header.tensor(&tensor.name, &tensor.dims, step.tensor_type(tensor))?;
        }
        Ok(header)
    }

    /// Keys for a folder's separate files: the tokenizer and the chat template.
    fn folder_keys(&self, header: &mut GgufHeader, n_rows: usize, notes: &mut Vec<String>) -> Result<()> {
        let checkpoint = &self.checkpoint;
        let name = checkpoint.folder_name();
        if let Some(name) = &name {
            header.string(NAME, name);
        }
        if checkpoint.has_unrounded_yarn() {
            notes.push("other programs round the bounds of yarn's ramp, which this model leaves unrounded".to_owned());
        }
        if checkpoint.boolean(".ssm.tiled_heads")? == Some(false) {
            let note = "the delta nets' heads and factors stay as the folder has them: this program reads that, other programs do not";
            notes.push(note.to_owned());
        }
        if let Some(template) = checkpoint.chat_template() {
            header.string("tokenizer.chat_template", template);
        }
        if !checkpoint.has_tokenizer_files() {
            notes.push("the folder has no tokenizer.json, and the file no tokenizer".to_owned());
            // As other programs write it for such files.
            header.string("tokenizer.ggml.model", "none");
            return Ok(());
        }
        let tokenizer = Tokenizer::of(checkpoint)?;
        let export = TokenizerExport {
            tokenizer: &tokenizer,
            n_rows,
            stop_tokens: checkpoint.stop_token_ids(),
            model_name: name.as_deref().unwrap_or_default(),
        };
        let path = || checkpoint.path().to_owned();
        let written = export.write(header);
        notes.extend(written.map_err(|error| ModelError::File { path: path(), error: Box::new(error) })?);
        Ok(())
    }
}

/// The treatment of a tensor with this target format; remarks go into the report.
fn step(
    tensor: &CheckpointTensor,
    target: Option<&'static Format>,
    report: &mut QuantizeReport,
) -> tl_model::Result<Step> {
    let Some(mut to) = target else {
        // Neither a weight nor a norm: it is not converted, but copying needs its length.
        return match tensor.tensor_type.block_bytes() {
            Some(_) => Ok(Step::Keep),
            None => Err(ModelError::unsupported_format(&tensor.name, tensor.tensor_type)),
        };
    };
    let row = tensor.dims.last().copied().unwrap_or(1);
    if !row.is_multiple_of(to.kernels.blocks.block_elems) {
        report.without_whole_blocks.push(tensor.name.clone());
        to = format_of(DType::F16).unwrap_or(to);
    }
    if to.gguf_id == tensor.tensor_type.id() {
        return Ok(Step::Keep);
    }
    let from = format_by_gguf_id(tensor.tensor_type.id())
        .ok_or_else(|| ModelError::unsupported_format(&tensor.name, tensor.tensor_type))?;
    report.already_quantized += usize::from(from.kernels.blocks.block_elems > 1);
    Ok(Step::Convert { from, to })
}

/// The target format of a tensor, by its name if it is a weight; `None` for one that stays unchanged.
fn target(tensor: &CheckpointTensor, of_weight: impl Fn(&str) -> Option<&'static Format>) -> Option<&'static Format> {
    let name = tensor.name.as_str();
    // Unless they are numbers of another kind, such as indices.
    let in_float32 = || format_by_gguf_id(tensor.tensor_type.id()).and_then(|_| format_of(DType::F32));
    match tensor.dims.len() {
        1 | 2 if ROUTERS.iter().any(|router| name.ends_with(router)) => in_float32(),
        2 if name.ends_with(".weight") => of_weight(name),
        3 if name.ends_with(EXPERTS) => of_weight(name),
        // Norms and biases.
        1 => in_float32(),
        _ => None,
    }
}

/// The conversion of one tensor from one format to another.
struct Conversion<'a> {
    from: &'static Format,
    to: &'static Format,
    device: &'a Device,
    /// Output not yet written.
    staged: Vec<u8>,
}

impl<'a> Conversion<'a> {
    fn new(from: &'static Format, to: &'static Format, device: &'a Device) -> Conversion<'a> {
        let staged = vec![0; to.kernels.row_bytes(CHUNK_ELEMS) * STAGED_CHUNKS];
        Conversion { from, to, device, staged }
    }

    /// Bytes of the tensor converted before any is written.
    fn chunk_bytes(&self) -> usize {
        self.from.kernels.row_bytes(CHUNK_ELEMS) * STAGED_CHUNKS
    }

    /// Writes the next part of the tensor, whole blocks of both formats; `false` if a value is not a finite number.
    fn write(&mut self, data: &[u8], writer: &mut GgufWriter) -> tl_model::Result<bool> {
        let (from, to) = (self.from.kernels, self.to.kernels);
        let (from_bytes, to_bytes) = (from.row_bytes(CHUNK_ELEMS), to.row_bytes(CHUNK_ELEMS));
        let mut staged = std::mem::take(&mut self.staged);
        for part in data.chunks(from_bytes * STAGED_CHUNKS) {
            let n_elems = from.n_elems(part.len());
            let bytes = staged.get_mut(..to.row_bytes(n_elems)).unwrap_or_default();
            let is_finite = AtomicBool::new(true);
            self.device.threads().for_chunks(bytes, to_bytes, &|index, bytes| {
                let first = index * from_bytes;
                let source = part.get(first..part.len().min(first + from_bytes)).unwrap_or_default();
                if !self.convert(source, bytes) {
                    is_finite.store(false, Ordering::Relaxed);
                }
            });
            if !is_finite.into_inner() {
                return Ok(false);
            }
            writer.write(bytes)?;
        }
        self.staged = staged;
        Ok(true)
    }

    /// Converts at most [`CHUNK_ELEMS`] elements; `false` if one is not a finite number, before or after.
    fn convert(&self, source: &[u8], target: &mut [u8]) -> bool {
        let (from, isa) = (self.from.kernels, self.device.threads().isa());
        let mut values = [0f32; CHUNK_ELEMS];
        let n_elems = from.n_elems(source.len());
        let values = values.get_mut(..n_elems).unwrap_or_default();
        (from.dequantize)(isa, source, values);
        let Some(quantize) = self.to.kernels.quantize.filter(|_| values.iter().all(|x| x.is_finite())) else {
            return false;
        };
        quantize(values, target);
        // A value that fits float32 may not fit the scales of the new format.
        (self.to.kernels.dequantize)(isa, target, values);
        values.iter().all(|x| x.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::SyntheticModel;
    use tl_model::Gguf;
    use tl_model::Weights;
    use tl_testing::{GgufWriter as TestWriter, TempFile, project_file};

    fn quantize(from: &Path, format: &str, to: &Path) -> Result<QuantizeReport> {
        Quantization::open(from, format)?.write(to, &Device::cpu(), &mut |_| ())
    }

    /// Every format from floats, from itself, and back: what is written is what the recipe says, and all else is as it was.
    #[test]
    fn every_format_there_and_back() {
        let (source, target) = (TempFile::new("from"), TempFile::new("to"));
        for from in Recipe::all() {
            SyntheticModel::new("tiny", from.name, 1).unwrap().write(&source.0, &Device::cpu()).unwrap();
            let is_tried = |to: &&Recipe| from.name == "f32" || to.name == "f16" || to.name == from.name;
            for to in Recipe::all().iter().filter(is_tried) {
                let what = format!("{} to {}", from.name, to.name);
                let report = quantize(&source.0, to.name, &target.0).unwrap();
                let (old, new) = (std::fs::read(&source.0).unwrap(), std::fs::read(&target.0).unwrap());
                assert_eq!((report.read_bytes, report.written_bytes), (old.len() as u64, new.len() as u64));
                assert!(report.without_whole_blocks.is_empty(), "{what}");
                if from.name == to.name {
                    assert_eq!(report.already_quantized, 0, "{what}");
                    assert!(old == new, "{what}");
                }
                let (old, new) = (Gguf::parse(&old).unwrap(), Gguf::parse(&new).unwrap());
                assert_eq!(new.integer(FILE_TYPE).unwrap(), Some(to.file_type.into()));
                let rest = |gguf: &Gguf<'_>| {
                    let pairs = gguf.metadata().filter(|(key, _)| *key != FILE_TYPE);
                    pairs.map(|pair| format!("{pair:?}")).collect::<Vec<_>>()
                };
                assert_eq!(rest(&old), rest(&new), "{what}");
                for (old, new) in old.tensors().iter().zip(new.tensors()) {
                    assert_eq!((old.name, &old.dims), (new.name, &new.dims));
                    let expected = match old.dims.len() {
                        1 => 0,
                        _ => to.format(old.name, 2, true).unwrap().gguf_id,
                    };
                    assert_eq!(new.tensor_type.id(), expected, "{what}: {}", old.name);
                }
                Weights::load(&target.0, &Device::cpu()).unwrap();
            }
        }
    }

    /// A file of a model of which nothing more is said.
    fn model() -> TestWriter {
        TestWriter::default().string("general.architecture", "llama")
    }

    fn floats(values: &[f32]) -> Vec<u8> {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }

    /// The same bytes, whatever the number of threads; longer than one piece, and no multiple of it.
    #[test]
    fn threads_do_not_matter() {
        let (source, one, three) = (TempFile::new("threads"), TempFile::new("one"), TempFile::new("three"));
        let n = (CHUNK_ELEMS * STAGED_CHUNKS / 32 + 129) * 32;
        let values: Vec<f32> = (0..n).map(|i| (i as f32).sin()).collect();
        let file = model().tensor("a.weight", &[n as u64 / 32, 32], 0, &floats(&values));
        std::fs::write(&source.0, file.finish()).unwrap();
        for (path, threads) in [(&one.0, 1), (&three.0, 3)] {
            let mut options = tl_device::DeviceOptions::default();
            options.threads = threads;
            let device = Device::cpu_with(&options);
            Quantization::open(&source.0, "q8_0").unwrap().write(path, &device, &mut |_| ()).unwrap();
        }
        let bytes = std::fs::read(&one.0).unwrap();
        assert!(bytes == std::fs::read(&three.0).unwrap());
        let gguf = Gguf::parse(&bytes).unwrap();
        let mut found = vec![0.0; n];
        let data = &bytes[gguf.tensor("a.weight").unwrap().data.clone()];
        (tl_kernels_of("q8_0").kernels.dequantize)(Device::cpu().threads().isa(), data, &mut found);
        // Half a step of the largest scale, 1 / 127, and what float16 takes from the scale.
        assert!(values.iter().zip(&found).all(|(a, b)| (a - b).abs() < 0.0045));
    }

    fn tl_kernels_of(name: &str) -> &'static Format {
        Recipe::named(name).unwrap().format("a.weight", 0, true).unwrap()
    }

    #[test]
    fn odd_tensors() {
        let (source, target) = (TempFile::new("odd"), TempFile::new("odd-out"));
        let file = model()
            .string("general.name", "odd")
            .tensor("narrow.weight", &[2, 48], 0, &floats(&[0.5; 96]))
            .tensor("norm.weight", &[3], 1, &[0, 0x3c, 0, 0x40, 0, 0x42])
            .tensor("indices", &[2], 26, &[1, 0, 0, 0, 2, 0, 0, 0])
            .tensor("cube.weight", &[1, 2, 32], 0, &floats(&[2.0; 64]))
            .tensor("table", &[2, 32], 0, &floats(&[3.0; 64]))
            .tensor("wide.weight", &[2, 64], 0, &floats(&[-1.0; 128]))
            .tensor("none.weight", &[0, 64], 0, &[]);
        std::fs::write(&source.0, file.finish()).unwrap();
        let mut seen = Vec::new();
        let work = Quantization::open(&source.0, "q4_0").unwrap();
        let report = work.write(&target.0, &Device::cpu(), &mut |at| seen.push((at.tensor.to_owned(), at.read_bytes)));
        assert_eq!(report.unwrap().without_whole_blocks, ["narrow.weight"]);
        assert_eq!(seen.first().unwrap(), &("narrow.weight".to_owned(), 0));
        assert_eq!(seen.last().unwrap().0, "none.weight");
        let bytes = std::fs::read(&target.0).unwrap();
        let gguf = Gguf::parse(&bytes).unwrap();
        let check = |name: &str, format: &str, first: Option<&[u8]>| {
            let tensor = gguf.tensor(name).unwrap();
            assert_eq!(tensor.tensor_type.to_string(), format, "{name}");
            assert!(first.is_none_or(|first| bytes[tensor.data.clone()].starts_with(first)), "{name}");
        };
        check("narrow.weight", "F16", Some(&[0, 0x38, 0, 0x38]));
        check("norm.weight", "F32", Some(&floats(&[1.0, 2.0, 3.0])));
        check("indices", "I32", Some(&[1, 0, 0, 0, 2, 0, 0, 0]));
        check("cube.weight", "F32", Some(&floats(&[2.0])));
        check("table", "F32", Some(&floats(&[3.0])));
        check("wide.weight", "Q4_0", None);
        check("none.weight", "Q4_0", Some(&[]));
        assert_eq!(gguf.integer(FILE_TYPE).unwrap(), Some(2));
        assert_eq!(gguf.integer(QUANTIZATION_VERSION).unwrap(), Some(2));
        assert_eq!(gguf.string("general.name").unwrap(), Some("odd"));
    }

    /// The embedding is the output of a file that has no other, and then matters as much.
    #[test]
    fn a_shared_embedding_is_the_output() {
        let check = |has_output: bool, expected: &str| {
            let (source, target) = (TempFile::new("tied"), TempFile::new("tied-out"));
            let weight = floats(&[0.5; 256]);
            let mut file = model().tensor("token_embd.weight", &[1, 256], 0, &weight);
            if has_output {
                file = file.tensor("output.weight", &[1, 256], 0, &weight);
            }
            std::fs::write(&source.0, file.finish()).unwrap();
            quantize(&source.0, "q4_k_m", &target.0).unwrap();
            let bytes = std::fs::read(&target.0).unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            let found = gguf.tensors().iter().map(|tensor| tensor.tensor_type.to_string()).collect::<Vec<_>>();
            assert_eq!(found.join(" "), expected);
        };
        check(false, "Q6_K");
        check(true, "Q4_K Q6_K");
    }

    #[test]
    fn what_cannot_be_converted() {
        let check = |name: &str, file: TestWriter, format: &str, expected: &str| {
            let (source, target) = (TempFile::new(name), TempFile::new(&format!("{name}-out")));
            std::fs::write(&source.0, file.finish()).unwrap();
            std::fs::write(&target.0, b"before").unwrap();
            let error = quantize(&source.0, format, &target.0).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
            // What is wrong is the file that is read.
            assert!(name == "format" || error.starts_with(source.0.to_str().unwrap()), "{error}");
            assert_eq!(std::fs::read(&target.0).unwrap(), b"before", "{name}");
        };
        let weight = |x: f32| model().tensor("a.weight", &[1, 256], 0, &floats(&[x; 256]));
        check(
            "nan",
            weight(f32::NAN),
            "q4_k",
            "tensor `a.weight` has weights that are no finite numbers in Q4_K; take",
        );
        check("infinite", weight(f32::INFINITY), "q8_0", "tensor `a.weight` has weights");
        check("large", weight(1e30), "f16", "tensor `a.weight` has weights");
        check("large-scale", weight(1e30), "q6_k", "tensor `a.weight` has weights");
        check("format", weight(1.0), "q9", "there is no format to write weights in `q9`");
        let unread = model().tensor("a.weight", &[1, 256], 16, &[0; 66]);
        check("unread", unread, "q8_0", "tensor `a.weight` is stored as IQ2_XXS, which cannot be computed on");
        let none = quantize(Path::new("none.gguf"), "q8_0", Path::new("x.gguf")).unwrap_err().to_string();
        assert!(none.contains("none.gguf: No such file"), "{none}");
        let no_model = quantize(&project_file("Cargo.toml"), "q8_0", Path::new("x.gguf")).unwrap_err().to_string();
        assert!(no_model.contains("Cargo.toml: not a GGUF file"), "{no_model}");
    }
}
