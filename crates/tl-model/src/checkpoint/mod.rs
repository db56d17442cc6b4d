//! What is in a model's files, of any architecture, in GGUF's terms: metadata under GGUF's keys, tensors under GGUF's
//! names.
//!
//! A [`Checkpoint`] is opened from a GGUF file, the parts of a split one, or a Hugging Face folder, whose configuration
//! and names are translated. Opening reads headers and maps the weights; [`Checkpoint::load_tensor`] puts one on a
//! device. Nothing here computes with a model or knows what its tensors are for: beyond the tables of names in
//! `families.rs` all architectures are alike.
//!
//! What a folder has otherwise than a GGUF file is either in the metadata or made when a tensor is loaded:
//!
//! - Pairs that llama, granite and smollm3 rotate lie half a head apart in rows of q and k, which stay as they are:
//!   `A.rope.halves` is true (absent: false). `A` is the architecture's name.
//! - Bounds of yarn that are not rounded (`truncate`: false): `A.rope.scaling.yarn_truncate` is false, else true.
//! - What GGUF files leave to the architecture is written where the configuration says it:
//!   `A.attention.sliding_window_pattern` (a bool for each layer: whether it sees a window only),
//!   `A.expert_weights_norm`, `A.rope.scaling.yarn_beta_{fast,slow}`; `A.rope.scaling.attn_factor` for what yarn
//!   multiplies with beyond 1 + 0.1 ln factor, or beyond what `A.rope.scaling.yarn_log_multiplier` makes of that;
//!   `A.attention.scale` where it is not 1/√(width of a head).
//! - Norms of gemma 1 to 3 are stored without the 1 that is added in GGUF: it is added.
//! - Norms, biases and other vectors in float16 or bfloat16 become float32.
//! - Experts one by one become one tensor `[experts, out, in]`; those of gpt-oss, `[experts, in, out]` with gate and up
//!   taking turns, become `ffn_{gate,up,down}_exps` `[experts, out, in]`.
//! - The matrix of deepseek's attention that makes keys and values from a latent becomes `attn_k_b`
//!   `[heads, rank, key]` and `attn_v_b` `[heads, value, rank]`.
//! - Layers behind the others that predict further tokens (`num_nextn_predict_layers`) are left out.
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

pub use contents::CheckpointTensor;
pub use opened::{Checkpoint, MetaValue, TokenizerSource};
pub(crate) use rope::yarn_magnitude;
