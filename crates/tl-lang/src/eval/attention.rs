//! Whether the operation `attention` takes the operands of attention that a program writes out.

use tl_tensor::Tensor;
use tl_tensor::ops::MAX_HEAD_DIM;

use crate::eval::evaluator::Evaluator;
use crate::ir::{Expr, PermutedTensor, WrittenAttention};
use crate::value::{Number, Value};

impl Evaluator<'_> {
    /// Whether the operation `attention` gives the written result, and no rule of the written operations is broken.
    pub(super) fn is_attention(&self, written: &WrittenAttention) -> bool {
        self.check_attention(written).is_some()
    }

    fn check_attention(&self, written: &WrittenAttention) -> Option<()> {
        let (q, [n, heads, d]) = self.permuted(&written.queries)?;
        let (k, [m, k_heads, k_d]) = self.permuted(&written.keys)?;
        let (v, of_values) = self.permuted(&written.values)?;
        let has_elements = n > 0 && m > 0 && heads > 0 && (1..=MAX_HEAD_DIM).contains(&d);
        let fits = (k_heads, k_d) == (heads, d) && of_values == [m, heads, d];
        let is_float = q.dtype().is_float() && k.dtype() == q.dtype() && v.dtype() == q.dtype();
        let is_here = [q, k, v].into_iter().all(|tensor| tensor.device().is_same(self.device)) && !self.device.is_gpu();
        let is_scaled = match &written.scale {
            Some(scale) => self.number_at(scale).is_some_and(|scale| scale.to_f64().is_normal()),
            None => true,
        };
        // A query that sees no key gives another result with a mask than with the operation.
        let is_masked = match &written.mask {
            Some([rows, columns]) => self.is_size(rows, n) && self.is_size(columns, m) && n <= m,
            None => true,
        };
        (has_elements && fits && is_float && is_here && is_scaled && is_masked).then_some(())
    }

    /// A tensor of three dimensions, and its dimensions in the operation's order.
    fn permuted(&self, operand: &PermutedTensor) -> Option<(&Tensor, [usize; 3])> {
        let slot = operand.tensor.base_slot()?;
        let Value::Tensor(tensor) = self.stack.get(self.frame + slot as usize)? else { return None };
        let dims = <[usize; 3]>::try_from(tensor.dims()).ok()?;
        Some((tensor, operand.dims.map(|dim| dims.get(dim).copied().unwrap_or(0))))
    }

    fn is_size(&self, expr: &Expr, size: usize) -> bool {
        matches!(self.number_at(expr), Some(Number::Int(n)) if usize::try_from(n) == Ok(size))
    }
}
