//! Models of a named shape with random weights: files for measurements in which only speed matters, not the results.
//!
//! The weights are normally distributed, the norms ones. They depend only on the seed, the tensor's index in the file
//! and the element's index in the tensor, not on the threads or the format: files of one seed in two formats hold the
//! same weights up to rounding. A tensor is never in memory as a whole.

use std::path::Path;

use tl_device::{DType, Device};
use tl_model::{GgufHeader, TensorType};
use tl_tensor::Random;
use tl_tensor::quant::{Format, format_of};

use crate::error::{Result, ToolError};
use crate::recipe::Recipe;

/// The sizes of a synthetic model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct SyntheticShape {
    /// The name for users.
    pub name: &'static str,
    /// Number of layers.
    pub n_layers: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Number of query heads.
    pub n_heads: usize,
    /// Number of key and value heads.
    pub n_kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width of the feed-forward network.
    pub ffn_dim: usize,
    /// Number of tokens.
    pub vocab_size: usize,
    /// The longest sequence in tokens.
    pub context_length: usize,
    /// The base of the rotary embedding's frequencies.
    pub rope_base: f32,
    /// The epsilon of the root-mean-square normalization.
    pub rms_eps: f32,
}

/// TinyLlama 1.1B (Zhang et al., 2024).
const TINYLLAMA: SyntheticShape = SyntheticShape {
    name: "tinyllama-1.1b",
    n_layers: 22,
    dim: 2048,
    n_heads: 32,
    n_kv_heads: 4,
    head_dim: 64,
    ffn_dim: 5632,
    vocab_size: 32000,
    context_length: 2048,
    rope_base: 10000.0,
    rms_eps: 1e-5,
};

/// The smallest shape with all parts, for tests: its rows are whole blocks of every format.
const TINY: SyntheticShape = SyntheticShape {
    name: "tiny",
    n_layers: 2,
    dim: 256,
    n_heads: 4,
    n_kv_heads: 2,
    head_dim: 64,
    ffn_dim: 512,
    vocab_size: 512,
    context_length: 128,
    ..TINYLLAMA
};

impl SyntheticShape {
    /// All named shapes.
    pub const ALL: &[SyntheticShape] = &[TINYLLAMA, TINY];

    /// Tensors of the file in its order: name, sizes, whether it is a norm.
    fn tensors(&self) -> Vec<(String, Vec<usize>, bool)> {
        let SyntheticShape { dim, n_heads, n_kv_heads, head_dim, ffn_dim, vocab_size, .. } = *self;
        let (q, kv) = (n_heads * head_dim, n_kv_heads * head_dim);
        let mut tensors = vec![("token_embd.weight".to_owned(), vec![vocab_size, dim], false)];
        for layer in 0..self.n_layers {
            let mut add = |role: &str, dims: &[usize]| {
                tensors.push((format!("blk.{layer}.{role}.weight"), dims.to_vec(), dims.len() == 1));
            };
            add("attn_norm", &[dim]);
            add("attn_q", &[q, dim]);
            add("attn_k", &[kv, dim]);
            add("attn_v", &[kv, dim]);
            add("attn_output", &[dim, q]);
            add("ffn_norm", &[dim]);
            add("ffn_gate", &[ffn_dim, dim]);
            add("ffn_up", &[ffn_dim, dim]);
            add("ffn_down", &[dim, ffn_dim]);
        }
        tensors.push(("output_norm.weight".to_owned(), vec![dim], true));
        tensors.push(("output.weight".to_owned(), vec![vocab_size, dim], false));
        tensors
    }
}

/// A synthetic model to be written.
///
/// ```
/// use tl_device::Device;
/// use tl_model::Weights;
/// use tl_tools::SyntheticModel;
/// # let path = std::env::temp_dir().join(format!("tl-synth-doc-{}.gguf", std::process::id()));
/// let device = Device::cpu();
/// SyntheticModel::new("tiny", "q4_0", 7)?.write(&path, &device)?;
/// assert_eq!(Weights::load(&path, &device)?.config().dim, 256);
/// # std::fs::remove_file(&path).unwrap();
/// # Ok::<(), tl_tools::ToolError>(())
/// ```
#[derive(Clone, Copy)]
pub struct SyntheticModel {
    shape: &'static SyntheticShape,
    recipe: &'static Recipe,
    seed: u64,
}

impl SyntheticModel {
    /// A model of the named shape with its weights in the named format or mix of formats (`f16`, `q8_0`, `q4_k_m` and
    /// so on, in any case).
    ///
    /// # Errors
    /// [`ToolError::UnknownName`], with the known names.
    pub fn new(shape: &str, format: &str, seed: u64) -> Result<SyntheticModel> {
        let shapes = SyntheticShape::ALL;
        let shape = shapes.iter().find(|row| row.name == shape).ok_or_else(|| ToolError::UnknownName {
            what: "shape",
            name: shape.to_owned(),
            known: shapes.iter().map(|row| row.name).collect::<Vec<_>>().join(", "),
        })?;
        let recipe = Recipe::named(format)?;
        Ok(SyntheticModel { shape, recipe, seed })
    }

    /// Writes the file with all of the device's threads; returns its length in bytes.
    ///
    /// # Errors
    /// [`ModelError::Write`](tl_model::ModelError::Write): an existing file is then unchanged.
    pub fn write(&self, path: impl AsRef<Path>, device: &Device) -> Result<u64> {
        self.write_with(path, device, &mut |_, _| ())
    }

    /// As [`SyntheticModel::write`]; calls `progress` with the bytes written so far and the total.
    ///
    /// # Errors
    /// As for [`SyntheticModel::write`].
    pub fn write_with(
        &self,
        path: impl AsRef<Path>,
        device: &Device,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<u64> {
        let mut header = self.header();
        let tensors = self.shape.tensors();
        let format = |name: &str, is_norm: bool| match is_norm {
            true => format_of(DType::F32),
            false => self.recipe.format(name, self.shape.n_layers, true),
        };
        for (name, dims, is_norm) in &tensors {
            if let Some(format) = format(name, *is_norm) {
                header.tensor(name, dims, TensorType::from_id(format.gguf_id))?;
            }
        }
        let mut writer = header.create(path)?;
        let normal = Normal::new(0.02);
        let bytes = |(name, dims, is_norm): &(String, Vec<usize>, bool)| {
            let n_elems: usize = dims.iter().product();
            format(name, *is_norm).map_or(4 * n_elems, |format| format.kernels.row_bytes(n_elems)) as u64
        };
        let (mut written, total) = (0, tensors.iter().map(bytes).sum());
        for (index, (name, dims, is_norm)) in tensors.iter().enumerate() {
            let n_elems: usize = dims.iter().product();
            match format(name, *is_norm) {
                Some(format) if !is_norm => {
                    let chunks = Chunks { format, normal: &normal, seed: self.seed, tensor: index as u64 };
                    chunks.write(n_elems, device, |bytes| {
                        written += bytes.len() as u64;
                        progress(written, total);
                        writer.write(bytes)
                    })?;
                }
                _ => writer.write(&1f32.to_le_bytes().repeat(n_elems))?,
            }
        }
        Ok(writer.finish()?)
    }

    /// The metadata of a llama model, for this and other programs.
    fn header(&self) -> GgufHeader {
        let shape = self.shape;
        // The named shapes are far below the largest u32.
        let size = |n: usize| n as u32;
        let mut header = GgufHeader::new();
        header
            .string("general.architecture", "llama")
            .string("general.name", &format!("synthetic-{}", shape.name))
            .u32("llama.context_length", size(shape.context_length))
            .u32("llama.embedding_length", size(shape.dim))
            .u32("llama.block_count", size(shape.n_layers))
            .u32("llama.feed_forward_length", size(shape.ffn_dim))
            .u32("llama.attention.head_count", size(shape.n_heads))
            .u32("llama.attention.head_count_kv", size(shape.n_kv_heads))
            .u32("llama.rope.dimension_count", size(shape.head_dim))
            .f32("llama.attention.layer_norm_rms_epsilon", shape.rms_eps)
            .f32("llama.rope.freq_base", shape.rope_base)
            .u32("llama.vocab_size", size(shape.vocab_size))
            .u32("general.quantization_version", 2)
            .u32("general.file_type", self.recipe.file_type);
        add_tokenizer(&mut header, shape.vocab_size);
        header
    }
}

/// A tokenizer of the kind `llama`: the control tokens, the 256 bytes, ASCII, and invented words.
fn add_tokenizer(header: &mut GgufHeader, vocab_size: usize) {
    const NORMAL: i32 = 1;
    const UNKNOWN: i32 = 2;
    const CONTROL: i32 = 3;
    const BYTE: i32 = 6;
    let marks = [("<unk>", UNKNOWN), ("<s>", CONTROL), ("</s>", CONTROL)].map(|(mark, kind)| (mark.to_owned(), kind));
    let bytes = (0..=255u8).map(|byte| (format!("<0x{byte:02X}>"), BYTE));
    let ascii = ('!'..='~').map(|c| (c.to_string(), NORMAL));
    let words = (0..).map(|n| (format!("▁{}", word(n)), NORMAL));
    let pieces = ascii.chain([("▁".to_owned(), NORMAL)]).chain(words);
    let tokens: Vec<(String, i32)> = marks.into_iter().chain(bytes).chain(pieces).take(vocab_size).collect();
    let mut rank = 0.0;
    let score = |(_, kind): &(String, i32)| match *kind {
        // Tokens that are joined first come first.
        NORMAL => {
            rank -= 1.0;
            rank
        }
        _ => 0.0,
    };
    let scores: Vec<f32> = tokens.iter().map(score).collect();
    let kinds: Vec<i32> = tokens.iter().map(|(_, kind)| *kind).collect();
    let tokens: Vec<String> = tokens.into_iter().map(|(token, _)| token).collect();
    header
        .string("tokenizer.ggml.model", "llama")
        .strings("tokenizer.ggml.tokens", &tokens)
        .f32s("tokenizer.ggml.scores", &scores)
        .i32s("tokenizer.ggml.token_type", &kinds)
        .u32("tokenizer.ggml.bos_token_id", 1)
        .u32("tokenizer.ggml.eos_token_id", 2)
        .u32("tokenizer.ggml.unknown_token_id", 0)
        .bool("tokenizer.ggml.add_bos_token", true);
}

/// The n-th word over the letters, short ones first.
fn word(n: usize) -> String {
    const LETTERS: &[u8] = b"etaoinshrdlucmwfgypbvkjxqz";
    let (rest, letter) = (n / LETTERS.len(), char::from(LETTERS[n % LETTERS.len()]));
    match rest {
        0 => letter.to_string(),
        _ => word(rest - 1) + letter.encode_utf8(&mut [0; 4]),
    }
}

/// Elements of one random sequence; a whole number of blocks in every format.
const CHUNK_ELEMS: usize = 4096;
/// Chunks generated before they are written.
const STAGED_CHUNKS: usize = 128;

/// The weights of one tensor.
struct Chunks<'a> {
    format: &'static Format,
    normal: &'a Normal,
    seed: u64,
    tensor: u64,
}

impl Chunks<'_> {
    /// Passes all bytes of the tensor to `put`, in order.
    fn write(
        &self,
        n_elems: usize,
        device: &Device,
        mut put: impl FnMut(&[u8]) -> tl_model::Result<()>,
    ) -> tl_model::Result<()> {
        let kernels = self.format.kernels;
        let chunk_bytes = kernels.row_bytes(CHUNK_ELEMS);
        let mut staged = vec![0; chunk_bytes * STAGED_CHUNKS];
        for first in (0..n_elems).step_by(CHUNK_ELEMS * STAGED_CHUNKS) {
            let n_staged = (n_elems - first).min(CHUNK_ELEMS * STAGED_CHUNKS);
            let bytes = &mut staged[..kernels.row_bytes(n_staged)];
            device.threads().for_chunks(bytes, chunk_bytes, &|index, bytes| {
                let n = kernels.n_elems(bytes.len());
                self.fill((first / CHUNK_ELEMS + index) as u64, n, bytes);
            });
            put(bytes)?;
        }
        Ok(())
    }

    fn fill(&self, chunk: u64, n_elems: usize, bytes: &mut [u8]) {
        let place = Random::new(self.tensor << 40 | chunk).next_u64();
        let mut random = Random::new(self.seed ^ place);
        let mut values = [0f32; CHUNK_ELEMS];
        for pair in values.as_chunks_mut::<2>().0 {
            let bits = random.next_u64();
            *pair = [self.normal.value(bits as u32), self.normal.value((bits >> 32) as u32)];
        }
        if let Some(quantize) = self.format.kernels.quantize {
            quantize(&values[..n_elems], bytes);
        }
    }
}

/// A normal distribution around 0 as a table of its quantiles: one number from 32 random bits in a few instructions;
/// logarithm and cosine would take longer than everything else.
struct Normal {
    quantiles: Box<[f32]>,
}

impl Normal {
    /// The bits that select an interval of the table; the rest select a position in it.
    const INDEX_BITS: u32 = 13;

    fn new(std: f64) -> Normal {
        let n = (1usize << Self::INDEX_BITS) + 1;
        // The density, summed from one side in steps much finer than the table's; the other side is its mirror image.
        // The ends stand for the tails, 3.8 deviations out.
        const STEP: f64 = 1.0 / 16384.0;
        let density = |x: f64| (-x * x / 2.0).exp() / std::f64::consts::TAU.sqrt();
        let mut quantiles = vec![0f32; n];
        let (mut x, mut below) = (0f64, 0.5f64);
        for index in n / 2..n {
            let wanted = (index as f64 + 0.5) / n as f64;
            while below < wanted {
                below += density(x + STEP / 2.0) * STEP;
                x += STEP;
            }
            quantiles[index] = (x * std) as f32;
            quantiles[n - 1 - index] = -quantiles[index];
        }
        Normal { quantiles: quantiles.into() }
    }

    fn value(&self, bits: u32) -> f32 {
        const REST: u32 = 32 - Normal::INDEX_BITS;
        let index = (bits >> REST) as usize;
        let within = (bits & ((1 << REST) - 1)) as f32 / (1 << REST) as f32;
        let (from, to) = (self.quantiles[index], self.quantiles[index + 1]);
        from + (to - from) * within
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tl_model::Gguf;
    use tl_testing::TempFile;

    fn write(format: &str, seed: u64, threads: usize) -> Vec<u8> {
        let file = TempFile::new(&format!("{format}-{seed}-{threads}"));
        let mut options = tl_device::DeviceOptions::default();
        options.threads = threads;
        let len =
            SyntheticModel::new("tiny", format, seed).unwrap().write(&file.0, &Device::cpu_with(&options)).unwrap();
        let bytes = std::fs::read(&file.0).unwrap();
        assert_eq!(bytes.len() as u64, len);
        bytes
    }

    fn values(bytes: &[u8], name: &str) -> Vec<f32> {
        let gguf = Gguf::parse(bytes).unwrap();
        let tensor = gguf.tensor(name).unwrap();
        let format = tl_tensor::quant::format_by_gguf_id(tensor.tensor_type.id()).unwrap();
        let mut values = vec![0.0; tensor.dims.iter().product()];
        (format.kernels.dequantize)(Device::cpu().threads().isa(), &bytes[tensor.data.clone()], &mut values);
        values
    }

    /// The same weights in every format, up to its rounding of values of about 0.02 (5 deviations: 0.1).
    #[test]
    fn weights_are_the_same_in_every_format() {
        let exact = write("f32", 3, 1);
        for (format, most) in [
            ("F16", 5e-5),
            ("bf16", 4e-4),
            ("q8_0", 5e-4),
            ("q4_0", 1e-2),
            ("q4_1", 8e-3),
            ("q5_0", 6e-3),
            ("q5_1", 5e-3),
            ("iq4_nl", 2e-2),
            ("mxfp4", 3e-2),
            ("q2_k", 4e-2),
            ("q3_k", 2e-2),
            ("q4_k", 1e-2),
            ("q5_k", 6e-3),
            ("q6_k", 4e-3),
            ("iq4_xs", 2e-2),
            ("Q4_K_M", 1e-2),
        ] {
            let rounded = write(format, 3, 2);
            for name in ["token_embd.weight", "blk.1.ffn_down.weight", "output.weight"] {
                let pairs = values(&exact, name).into_iter().zip(values(&rounded, name));
                let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(largest > 0.0 && largest < most, "{format} {name}: {largest}");
            }
            assert!(values(&rounded, "blk.0.attn_norm.weight").iter().all(|&x| x == 1.0));
        }
    }

    #[test]
    fn the_seed_decides() {
        let first = write("q4_0", 1, 1);
        assert!(first == write("q4_0", 1, 2));
        assert!(first != write("q4_0", 2, 1));
        // No two tensors are alike, nor two parts of one.
        let one = values(&write("f32", 1, 1), "token_embd.weight");
        assert_ne!(one[..CHUNK_ELEMS], one[CHUNK_ELEMS..2 * CHUNK_ELEMS]);
        assert_ne!(one, values(&write("f32", 1, 1), "output.weight"));
    }

    #[test]
    fn weights_are_normal() {
        let values = values(&write("f32", 9, 1), "blk.0.ffn_up.weight");
        let n = values.len() as f64;
        let moment = |power: i32| values.iter().map(|&x| (f64::from(x) / 0.02).powi(power)).sum::<f64>() / n;
        // Five standard errors of 131,072 samples, and half a percent for the tails that the table cuts off.
        let (mean, variance, skew, kurtosis) = (moment(1), moment(2), moment(3), moment(4));
        assert!(mean.abs() < 0.014 && (variance - 1.0).abs() < 0.025, "{mean} {variance}");
        assert!(skew.abs() < 0.054 && (kurtosis - 3.0).abs() < 0.17, "{skew} {kurtosis}");
        let within = |limit: f32| values.iter().filter(|x| x.abs() < limit).count() as f64 / n;
        assert!((within(0.02) - 0.6827).abs() < 0.007 && (within(0.04) - 0.9545).abs() < 0.003);
    }

    #[test]
    fn unknown_names() {
        let check = |shape: &str, format: &str, expected: &str| {
            let error = SyntheticModel::new(shape, format, 0).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check("huge", "f16", "no shape `huge`; there are tinyllama-1.1b, tiny");
        check("tiny", "q9", "no format to write weights in `q9`; there are f32, f16, bf16, q8_0, q4_0, q4_1,");
    }
}
