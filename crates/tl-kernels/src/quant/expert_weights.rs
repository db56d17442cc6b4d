//! The weights of the experts of a layer.

use super::product::Product;
use super::weight::Weight;

/// The weights of several experts.
#[derive(Clone, Copy, Debug)]
pub struct Experts<'a> {
    /// Rows: those of the first expert, then those of the next.
    pub weight: Weight<'a>,
    /// What is added to the products, for each expert one after the other.
    pub bias: Option<Weight<'a>>,
    /// How many experts there are.
    pub n_experts: usize,
    /// Elements of a row.
    pub k: usize,
    /// Rows of an expert.
    pub n: usize,
}

impl<'a> Experts<'a> {
    /// The linear layer of one expert.
    pub(crate) fn product(&self, expert: usize, parallel: bool) -> Product<'a> {
        let Experts { weight: Weight { bytes, format }, bias, k, n, .. } = *self;
        let len = n * format.row_bytes(k);
        let weight = Weight { bytes: &bytes[expert * len..][..len], format };
        Product { k, n, weight, bias, first_bias: expert * n, parallel }
    }
}
