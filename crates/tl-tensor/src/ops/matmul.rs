//! `matmul`, written `@`.

use tl_device::DType;
use tl_kernels::{Batch, Matrix};

use super::linear_gpu::{self, Linear};
use crate::gpu::products;
use crate::op::kernel::with_float;
use crate::op::rule::{broadcast, product_dtype, same};
use crate::op::{Arg, Call, Dispatch, Group, Kind, Op, OpKernel, TensorType, required};
use crate::operand::Operand;
use crate::size::Size;
use crate::strides::broadcast_strides;
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&MATMUL];

static MATMUL: Op = Op {
    name: "matmul",
    group: Group::Linear,
    doc: "Matrix multiplication over the last two dimensions, broadcasting the others; a one-dimensional operand counts as a \
          row on the left and a column on the right, and that dimension is left out again, as in NumPy. Written `a @ b`. The \
          right operand may be a weight in a stored format, or its transposed view. Sums in `float32`. \
          `a: [.., m, k], b: [.., k, n] → [.., m, n]`.",
    params: &[required("a", Kind::Tensor), required("b", Kind::Weight)],
    rule: |args| {
        let ((a, a_dtype), (b, b_dtype)) = (args.tensor(0)?, args.tensor(1)?);
        let dtype = product_dtype(("a", a_dtype), ("b", b_dtype))?;
        if a.is_empty() || b.is_empty() {
            let operand = if a.is_empty() { "a" } else { "b" };
            return Err(OpError::Rank { operand, expected: "1 dimension or more", found: 0 });
        }
        if matches!(b_dtype, Some(DType::Block(_))) && b.len() != 2 {
            return Err(OpError::Rank {
                operand: "a weight in a stored format",
                expected: "2 dimensions",
                found: b.len(),
            });
        }
        let (a_batch, a_row, a_inner) = split_left(a);
        let (b_batch, b_inner, b_column) = split_right(b);
        same("the inner sizes differ", a_inner, b_inner)?;
        let mut sizes = broadcast(a_batch, b_batch)?;
        sizes.extend(a_row.into_iter().chain(b_column));
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Prepared { must_copy, kernel: matmul },
    gpu: Some(matmul_gpu),
};

/// Floats are multiplied at any strides. Where the right operand is a stored weight, the left one must be contiguous,
/// and the weight must have contiguous rows or be the transposed view of such.
fn must_copy(args: &[Arg], index: usize) -> bool {
    let Some(Arg::Tensor(weight)) = args.get(1) else { return false };
    let weight = weight.operand();
    match weight.dtype {
        DType::Block(_) if index == 0 => true,
        DType::Block(_) => !is_transposed(&weight) && weight.strides.last() != Some(&1),
        _ => false,
    }
}

/// Whether a weight of two dimensions is the transposed view of contiguous rows that are whole numbers of blocks.
fn is_transposed(weight: &Operand) -> bool {
    let (k, n) = (weight.dims[0], weight.dims[1]);
    let has_whole_rows = k.is_multiple_of(weight.dtype.block_elems());
    has_whole_rows && (weight.strides[0] == 1 || k == 1) && (weight.strides[1] == k || n == 1)
}

fn split_left(a: &[Size]) -> (&[Size], Option<Size>, Size) {
    match a {
        [batch @ .., row, inner] => (batch, Some(*row), *inner),
        [inner] => (&[], None, *inner),
        [] => (&[], None, Size::Unknown),
    }
}

fn split_right(b: &[Size]) -> (&[Size], Size, Option<Size>) {
    match b {
        [batch @ .., inner, column] => (batch, *inner, Some(*column)),
        [inner] => (&[], *inner, None),
        [] => (&[], Size::Unknown, None),
    }
}

/// An operand as a batch of matrices: its batch dimensions with their strides, rows and columns with theirs.
struct Matrices<'a> {
    dims: &'a [usize],
    strides: &'a [usize],
    rows: (usize, usize),
    columns: (usize, usize),
}

fn matrices<'a>(operand: &Operand<'a>, is_left: bool) -> Matrices<'a> {
    let (dims, strides) = (operand.dims, operand.strides);
    match dims.len() {
        1 if is_left => Matrices { dims: &[], strides: &[], rows: (1, 0), columns: (dims[0], strides[0]) },
        1 => Matrices { dims: &[], strides: &[], rows: (dims[0], strides[0]), columns: (1, 0) },
        rank => Matrices {
            dims: &dims[..rank - 2],
            strides: &strides[..rank - 2],
            rows: (dims[rank - 2], strides[rank - 2]),
            columns: (dims[rank - 1], strides[rank - 1]),
        },
    }
}

fn matmul(call: &mut Call) -> Result<(), OpError> {
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    if b.dtype.is_float() && a.dtype != b.dtype && !call.is_weight(1) {
        return Err(OpError::Mixed { left: a.dtype, right: b.dtype });
    }
    let (left, right) = (matrices(&a, true), matrices(&b, false));
    let (m, k, n) = (left.rows.0, left.columns.0, right.columns.0);
    if let DType::Block(_) = b.dtype {
        return weight_product(call, &a, &b, m * left.dims.iter().product::<usize>(), k, n);
    }
    let batch_rank = left.dims.len().max(right.dims.len());
    let batch_dims = &call.dims[..batch_rank.min(call.dims.len())];
    let a_strides = broadcast_strides(left.dims, left.strides, batch_dims);
    let b_strides = broadcast_strides(right.dims, right.strides, batch_dims);
    let threads = call.threads;
    with_float!(a.dtype, "a", A => with_float!(b.dtype, "b", B => {
        let a = Matrix { data: a.data::<A>()?, row_stride: left.rows.1, col_stride: left.columns.1 };
        let b = Matrix { data: b.data::<B>()?, row_stride: right.rows.1, col_stride: right.columns.1 };
        let batch = Batch { dims: batch_dims, n_inner: 0, a_strides: &a_strides, b_strides: &b_strides };
        tl_kernels::batch_matmul(threads, batch, a, b, [m, k, n], call.out::<A>()?);
        Ok(())
    }))
}

/// Contiguous activations with the transposed view of a weight run the programs of `linear`; float operands at any
/// strides, a batch of products. A weight in blocks that is not transposed has no program.
fn matmul_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let (a, b) = (call.operand(0)?, call.operand(1)?);
    if b.dtype.is_float() && a.dtype != b.dtype && !call.is_weight(1) {
        return Err(OpError::Mixed { left: a.dtype, right: b.dtype });
    }
    let (left, right) = (matrices(&a, true), matrices(&b, false));
    let (m, k, n) = (left.rows.0, left.columns.0, right.columns.0);
    if b.dims.len() == 2 && a.is_contiguous() && is_transposed(&b) {
        let m = m * left.dims.iter().product::<usize>();
        return linear_gpu::run(call, &Linear { x: &a, w: &b, bias: None, m, k, n });
    }
    if let DType::Block(_) = b.dtype {
        return Ok(Dispatch::Unsupported);
    }
    let batch_rank = left.dims.len().max(right.dims.len());
    let batch_dims = &call.dims[..batch_rank.min(call.dims.len())];
    let a_strides = broadcast_strides(left.dims, left.strides, batch_dims);
    let b_strides = broadcast_strides(right.dims, right.strides, batch_dims);
    let a = products::Side { operand: &a, batch: &a_strides, outer: left.rows.1, inner: left.columns.1 };
    let b = products::Side { operand: &b, batch: &b_strides, outer: right.columns.1, inner: right.rows.1 };
    products::run(call, batch_dims, &a, &b, &products::Sizes { m, k, n, n_inner: 1 })
}

/// `x @ w` for a weight in blocks. With the transposed view of a weight this is `linear`. Else blocks run along the
/// result, and the weight is unpacked tile by tile.
fn weight_product(call: &mut Call, x: &Operand, w: &Operand, m: usize, k: usize, n: usize) -> Result<(), OpError> {
    let threads = call.threads;
    if is_transposed(w) {
        let weight = w.weight()?;
        return with_float!(x.dtype, "a", T => {
            tl_kernels::linear::<T, T>(threads, x.slice()?, m, k, weight, None, n, call.out()?);
            Ok(())
        });
    }
    const COLUMNS: usize = 256;
    let format = w.weight_format()?;
    // The stride of a single row is meaningless.
    let row_bytes = if k > 1 { format.row_bytes(w.strides[0]) } else { 0 };
    with_float!(x.dtype, "a", T => {
        let x = x.slice::<T>()?;
        let out = call.out::<T>()?;
        for row in 0..m {
            for column in (0..n).step_by(COLUMNS) {
                let width = COLUMNS.min(n - column);
                let (mut sums, mut tile) = ([0f32; COLUMNS], [0f32; COLUMNS]);
                for i in 0..k {
                    let start = i * row_bytes + format.row_bytes(column);
                    let bytes = w.bytes.get(start..start + format.row_bytes(width)).unwrap_or_default();
                    (format.dequantize)(threads.isa(), bytes, &mut tile[..width]);
                    let factor = tl_kernels::Element::to_f32(x[row * k + i]);
                    for (sum, w) in sums.iter_mut().zip(&tile) {
                        *sum += factor * w;
                    }
                }
                let out = &mut out[row * n + column..][..width];
                tl_kernels::Element::store(threads.isa(), &sums[..width], out);
            }
        }
        Ok(())
    })
}

impl<T> Tensor<T> {
    /// Matrix multiplication: see the operation `matmul`.
    ///
    /// # Errors
    /// [`Error::Op`] where the inner sizes differ.
    pub fn matmul<U>(&self, other: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&MATMUL, &[other.into()])
    }
}
