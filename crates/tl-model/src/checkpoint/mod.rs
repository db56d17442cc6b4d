//! A model's files, of any architecture, in GGUF's terms: metadata under GGUF's keys, tensors under GGUF's names.
//!
//! A [`Checkpoint`] is opened from a GGUF file, the parts of a split one, or a Hugging Face folder, whose configuration
//! and names are translated. Opening reads headers and maps the weights; [`Checkpoint::load_tensor`] puts one on a
//! device. Nothing here computes with a model or knows the purpose of its tensors: apart from the tables of names in
//! `families.rs`, all architectures are alike.
//!
//! Differences between a folder and a GGUF file are recorded in the metadata or removed when a tensor is loaded:
//!
//! - Pairs that llama, granite and smollm3 rotate lie half a head apart in rows of q and k, which stay as they are:
//!   `A.rope.halves` is true (absent: false). `A` is the architecture's name.
//! - Bounds of yarn that are not rounded (`truncate`: false): `A.rope.scaling.yarn_truncate` is false, else true.
//! - Values that GGUF files leave to the architecture are written if the configuration has them:
//!   `A.attention.sliding_window_pattern` (a bool for each layer: whether it has a window), `A.expert_weights_norm`,
//!   `A.rope.scaling.yarn_beta_{fast,slow}`; `A.rope.scaling.attn_factor` for yarn's factor beyond 1 + 0.1 ln factor,
//!   or beyond the one that `A.rope.scaling.yarn_log_multiplier` gives; `A.attention.scale` if it is not 1/√(width of a
//!   head).
//! - Norms of gemma 1 to 3 are stored without the 1 that GGUF adds: it is added.
//! - Norms, biases and other vectors in float16 or bfloat16 become float32.
//! - Experts one by one become one tensor `[experts, out, in]`; those of gpt-oss, `[experts, in, out]` with gate and up
//!   interleaved, become `ffn_{gate,up,down}_exps` `[experts, out, in]`.
//! - The matrix of deepseek's attention that makes keys and values from a latent becomes `attn_k_b`
//!   `[heads, rank, key]` and `attn_v_b` `[heads, value, rank]`.
//! - Trailing layers that predict further tokens (`num_nextn_predict_layers`) are left out.
//! - Frequencies that llama3 and longrope have in the configuration become `rope_freqs.weight` and
//!   `rope_factors_{short,long}.weight`.

mod config;
mod contents;
mod convert;
mod export;
mod families;
#[expect(clippy::disallowed_methods, reason = "loads the files of a folder")]
mod folder;
mod gguf;
mod hub_config;
mod latent;
mod metadata;
mod names;
mod opened;
mod rope;
mod safetensors;
mod tensor_file;

pub use contents::CheckpointTensor;
pub use opened::{Checkpoint, MetaValue, TokenizerSource};
pub(crate) use rope::yarn_magnitude;
pub use tensor_file::{TensorFile, load_tensors};
