//! Attention through a latent (MLA, DeepSeek-V2, 2024): its sizes in GGUF's keys, and the split of the matrix that
//! makes the keys and values of all heads from a latent into GGUF's two.
//!
//! It must not know architectures, and reads no weights.

use super::convert::{Arrangement, Part};
use super::hub_config::{Config, Keys, wrong};
use crate::error::Result;

/// The sizes of latent attention.
#[derive(Clone, Copy, Debug)]
pub(super) struct Latent {
    n_heads: usize,
    /// Elements of a latent.
    rank: usize,
    /// Elements of a head's queries and keys without rotation.
    plain_dim: usize,
    /// Elements of a head's values.
    value_dim: usize,
}

impl Latent {
    /// Writes the sizes. The cache is that of one head: its keys are the latent and the rotated part, its values the
    /// latent. Returns the sizes, and the number of rotated elements.
    ///
    /// # Errors
    /// A size that is missing or 0.
    pub(super) fn translate(config: &Config<'_>, n_heads: u32, keys: &mut Keys) -> Result<(Latent, u32)> {
        let rank = config.needed("kv_lora_rank")?;
        let (plain_dim, turned_dim) = (config.needed("qk_nope_head_dim")?, config.needed("qk_rope_head_dim")?);
        let value_dim = config.needed("v_head_dim")?;
        if config.flag("rope_interleave")? == Some(false) {
            return Err(wrong(
                "rope_interleave",
                &false.into(),
                "expected true: pairs that are rotated lie side by side",
            ));
        }
        keys.size("attention.head_count_kv", 1);
        // Sizes are 2^30 at most, so that sums fit.
        keys.size("attention.key_length", rank + turned_dim);
        keys.size("attention.value_length", rank);
        keys.size("attention.key_length_mla", plain_dim + turned_dim);
        keys.size("attention.value_length_mla", value_dim);
        keys.size("attention.kv_lora_rank", rank);
        if let Some(rank) = config.size("q_lora_rank")? {
            keys.size("attention.q_lora_rank", rank);
        }
        let [n_heads, rank, plain_dim, value_dim] = [n_heads, rank, plain_dim, value_dim].map(|size| size as usize);
        Ok((Latent { n_heads, rank, plain_dim, value_dim }, turned_dim))
    }

    /// Splits a matrix `[heads · (plain + value), rank]` into keys, transposed, and values: sizes `[heads, rank,
    /// plain]` and `[heads, value, rank]`, with the location of their elements. `None` if the matrix has other sizes.
    pub(super) fn split(&self, dims: &[usize], part: &Part) -> Option<[(Vec<usize>, Arrangement); 2]> {
        let Latent { n_heads, rank, plain_dim, value_dim } = *self;
        let head_rows = plain_dim + value_dim;
        if *dims != [n_heads.checked_mul(head_rows)?, rank] {
            return None;
        }
        let head = head_rows.checked_mul(rank)?;
        let gather = |first, strides, rows, columns| {
            let arrangement = Arrangement::Gather { part: part.clone(), first, strides, rows, columns };
            (vec![n_heads, rows, columns], arrangement)
        };
        let keys = gather(0, [head, 1, rank], rank, plain_dim);
        Some([keys, gather(plain_dim * rank, [head, rank, 1], value_dim, rank)])
    }
}
