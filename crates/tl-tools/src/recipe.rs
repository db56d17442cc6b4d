//! The format of each weight of a file: one format for all, or a mix with more bits for the more important weights.

use tl_kernels::{BlockFormat, Q3_K, Q4_K, Q5_K, Q6_K, WeightKernels};
use tl_tensor::quant::{FORMATS, Format};

use crate::error::{Result, ToolError};

/// The name of the output's weight. A file without it uses its embedding.
pub(crate) const OUTPUT: &str = "output.weight";
const EMBEDDING: &str = "token_embd.weight";

/// A named format or mix of formats.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Recipe {
    /// The name for users.
    pub(crate) name: &'static str,
    /// The format of most weights.
    most: &'static BlockFormat,
    /// The format of the more important weights, if it differs: the output, and `attn_v` and `ffn_down` of some layers.
    important: Option<&'static BlockFormat>,
    /// The file's number for the recipe (llama.cpp's `llama_ftype`).
    pub(crate) file_type: u32,
}

/// A format for all weights.
const fn pure(format: &'static WeightKernels) -> Recipe {
    Recipe { name: format.blocks.name, most: &format.blocks, important: None, file_type: format.file_type }
}

const fn mixed(
    name: &'static str,
    most: &'static WeightKernels,
    important: &'static WeightKernels,
    file_type: u32,
) -> Recipe {
    Recipe { name, most: &most.blocks, important: Some(&important.blocks), file_type }
}

static MIXES: [Recipe; 3] =
    [mixed("q3_k_m", &Q3_K, &Q5_K, 12), mixed("q4_k_m", &Q4_K, &Q6_K, 15), mixed("q5_k_m", &Q5_K, &Q6_K, 17)];

/// Every format, then the mixes.
static RECIPES: [Recipe; tl_kernels::FORMATS.len() + MIXES.len()] = {
    let mut recipes = [MIXES[0]; tl_kernels::FORMATS.len() + MIXES.len()];
    let mut i = 0;
    while i < recipes.len() {
        let n_formats = tl_kernels::FORMATS.len();
        recipes[i] = if i < n_formats { pure(tl_kernels::FORMATS[i]) } else { MIXES[i - n_formats] };
        i += 1;
    }
    recipes
};

/// Names of the formats, and mixes of formats, for written weights.
///
/// ```
/// assert!(tl_tools::weight_formats().any(|name| name == "q4_k_m"));
/// ```
pub fn weight_formats() -> impl Iterator<Item = &'static str> {
    RECIPES.iter().map(|recipe| recipe.name)
}

impl Recipe {
    /// The recipe with this name, in any case.
    ///
    /// # Errors
    /// [`ToolError::UnknownName`], with the known names.
    pub(crate) fn named(name: &str) -> Result<&'static Recipe> {
        RECIPES.iter().find(|row| row.name.eq_ignore_ascii_case(name)).ok_or_else(|| ToolError::UnknownName {
            what: "format to write weights in",
            name: name.to_owned(),
            known: weight_formats().collect::<Vec<_>>().join(", "),
        })
    }

    /// Every recipe.
    #[cfg(test)]
    pub(crate) fn all() -> &'static [Recipe] {
        &RECIPES
    }

    /// The format of the tensor of that name, of a model of `n_layers`, with an [`OUTPUT`] of its own or not.
    pub(crate) fn format(&self, tensor: &str, n_layers: usize, has_output: bool) -> Option<&'static Format> {
        let wanted = self.important.filter(|_| is_important(tensor, n_layers, has_output)).unwrap_or(self.most);
        FORMATS.iter().find(|row| row.kernels.blocks == *wanted)
    }
}

/// The rule of llama.cpp's mixes: the output or the embedding that serves as one, and the values and the last feed-forward weight
/// of the first and the last eighth of the layers and of every third between.
fn is_important(tensor: &str, n_layers: usize, has_output: bool) -> bool {
    if tensor == if has_output { OUTPUT } else { EMBEDDING } {
        return true;
    }
    let Some((layer, role)) = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else { return false };
    let Ok(layer) = layer.parse::<usize>() else { return false };
    let eighth = n_layers / 8;
    let is_chosen = layer < eighth || layer >= n_layers.saturating_mul(7) / 8 || layer.saturating_sub(eighth) % 3 == 2;
    is_chosen && matches!(role, "attn_v.weight" | "ffn_down.weight" | "ffn_down_exps.weight")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synth::SyntheticModel;
    use tl_model::Gguf;
    use tl_model::TensorType;
    use tl_testing::TempFile;

    /// Files that are made up and files that are converted follow one rule.
    #[test]
    fn made_up_models_follow_the_same_recipes() {
        for recipe in &RECIPES {
            let file = TempFile::new(recipe.name);
            SyntheticModel::new("tiny", recipe.name, 0).unwrap().write(&file.0, &tl_device::Device::cpu()).unwrap();
            let bytes = std::fs::read(&file.0).unwrap();
            let gguf = Gguf::parse(&bytes).unwrap();
            assert_eq!(gguf.integer("general.file_type").unwrap(), Some(recipe.file_type.into()), "{}", recipe.name);
            for tensor in gguf.tensors().iter().filter(|tensor| tensor.dims.len() == 2) {
                let expected = recipe.format(tensor.name, 2, true).unwrap().gguf_id;
                assert_eq!(tensor.tensor_type.id(), expected, "{} of {}", tensor.name, recipe.name);
            }
        }
    }

    #[test]
    fn every_recipe_names_formats_that_can_be_written() {
        for recipe in &RECIPES {
            for name in ["output.weight", "blk.0.attn_q.weight"] {
                let format = recipe.format(name, 2, true).unwrap_or_else(|| panic!("{} of {name}", recipe.name));
                assert!(format.kernels.quantize.is_some());
            }
        }
    }

    #[test]
    fn a_mix_gives_more_bits_to_what_matters() {
        let mix = Recipe::named("Q4_K_M").unwrap();
        let of = |name: &str| TensorType::from_id(mix.format(name, 22, true).unwrap().gguf_id).to_string();
        let in_more = |role: &str| -> Vec<usize> {
            (0..22).filter(|layer| of(&format!("blk.{layer}.{role}.weight")) == "Q6_K").collect()
        };
        assert_eq!(in_more("attn_v"), [0, 1, 4, 7, 10, 13, 16, 19, 20, 21]);
        assert_eq!(in_more("ffn_down"), in_more("attn_v"));
        assert!(in_more("attn_q").is_empty());
        assert_eq!((of("output.weight"), of("token_embd.weight")), ("Q6_K".to_owned(), "Q4_K".to_owned()));
        // Names that a file may give.
        for odd in ["", "blk.", "blk.x.attn_v.weight", "blk.18446744073709551615.attn_v.weight"] {
            assert!(mix.format(odd, usize::MAX, false).is_some());
        }
    }

    #[test]
    fn unknown_names() {
        let error = Recipe::named("q9").unwrap_err().to_string();
        assert!(error.contains("no format to write weights in `q9`; there are f32, f16, bf16, q8_0,"), "{error}");
    }
}
