//! A linear layer as its kernels take it.

use super::weight::Weight;
use crate::isa::Isa;

/// A linear layer without its activations.
#[derive(Clone, Copy)]
pub(crate) struct Product<'a> {
    /// Elements of a row of the weight.
    pub(crate) k: usize,
    /// Rows of the weight.
    pub(crate) n: usize,
    pub(crate) weight: Weight<'a>,
    pub(crate) bias: Option<Weight<'a>>,
    /// The element of the bias that belongs to the first row of the weight.
    pub(crate) first_bias: usize,
    /// Whether it is worth waking the workers.
    pub(crate) parallel: bool,
}

impl Product<'_> {
    /// What the sums of the columns from `first_col` on begin with.
    pub(crate) fn init_accumulators(&self, isa: Isa, first_col: usize, dst: &mut [f32]) {
        match self.bias {
            Some(bias) => bias.load(isa, self.first_bias + first_col, dst),
            None => dst.fill(0.0),
        }
    }
}
