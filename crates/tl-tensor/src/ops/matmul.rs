//! Products of matrices: `matmul` (written `@`) and `linear`.

use smallvec::SmallVec;
use tl_device::DType;
use tl_kernels::{Batch, Matrix};

use super::linear_gpu::{self, Linear};
use super::product_gpu;
use super::rule::{RuleArgs, Size, Sizes, TensorType, broadcast, same, weight_rule, whole_rows};
use super::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, Operand, broadcast_strides, optional, required,
    with_float,
};
use crate::{Error, OpError, Tensor};

pub(super) static OPS: &[&Op] = &[&MATMUL, &LINEAR];

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
    kernel: OpKernel::PreparedKernel { must_copy, kernel: matmul },
    gpu: Some(matmul_gpu),
};

/// Floats are multiplied as they lie. Where the right operand is a stored weight, the left one must lie contiguous, and
/// the weight in rows or as the transposed view of contiguous rows.
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

/// The result's type: the activation's. The other operand's type never counts as mixing, since it may be a weight, which
/// keeps the type that it was stored in.
pub(super) fn product_dtype(
    (operand, x): (&'static str, Option<DType>),
    (weight, weight_dtype): (&'static str, Option<DType>),
) -> Result<Option<DType>, OpError> {
    if let Some(found) = x.filter(|dtype| !dtype.is_float()) {
        let expected = "float16 or float32 (cast it first, `x as float32`)";
        return Err(OpError::DType { operand, expected, found });
    }
    weight_rule(weight, weight_dtype)?;
    Ok(x)
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

/// Float operands as they lie; contiguous activations with the transposed view of a weight as `linear` has it. A weight in
/// blocks as it is has no program.
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
    let a = product_gpu::Side { operand: &a, batch: &a_strides, outer: left.rows.1, inner: left.columns.1 };
    let b = product_gpu::Side { operand: &b, batch: &b_strides, outer: right.columns.1, inner: right.rows.1 };
    product_gpu::run(call, batch_dims, &a, &b, &product_gpu::Sizes { m, k, n, n_inner: 1 })
}

/// `x @ w` for a weight in blocks. Its transposed view is what `linear` computes; the weight itself, whose blocks run
/// along the result, is unpacked tile by tile, each tile used for all rows of `x`.
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
    // A single row has no stride to speak of.
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

static LINEAR: Op = Op {
    name: "linear",
    group: Group::Linear,
    doc: "`x · wᵀ + b`, straight from the blocks of a weight in a stored format. The result has the type of `x`; sums in \
          `float32`, or in integers of 32 bits within a block where the format has integer blocks, whose counterpart in `x` \
          is then rounded to 8 bits. `x: [.., k], w: [n, k], b: [n] → [.., n]`.",
    params: &[
        required("x", Kind::Tensor),
        required("w", Kind::Weight),
        optional("b", Kind::Weight, DefaultValue::Absent),
    ],
    rule: linear_rule,
    kernel: OpKernel::ContiguousKernel(|call| {
        let (x, w) = (call.operand(0)?, call.operand(1)?);
        let (n, k) = (w.dims[0], w.dims[1]);
        let m: usize = x.dims[..x.dims.len() - 1].iter().product();
        let bias = call.optional_operand(2).map(|bias| bias.weight()).transpose()?;
        let (weight, threads) = (w.weight()?, call.threads);
        with_float!(x.dtype, "x", T => {
            tl_kernels::linear::<T, T>(threads, x.slice()?, m, k, weight, bias, n, call.out()?);
            Ok(())
        })
    }),
    gpu: Some(|call| {
        let (x, w, bias) = (call.operand(0)?, call.operand(1)?, call.optional_operand(2));
        let (n, k) = (w.dims[0], w.dims[1]);
        let m = x.dims[..x.dims.len() - 1].iter().product();
        linear_gpu::run(call, &Linear { x: &x, w: &w, bias: bias.as_ref(), m, k, n })
    }),
};

fn linear_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (x, dtype) = args.tensor(0)?;
    let Some((&inner, outer)) = x.split_last() else {
        return Err(OpError::Rank { operand: "x", expected: "1 dimension or more, [.., k]", found: 0 });
    };
    let mut sizes = Sizes::from_slice(outer);
    let (w, w_dtype) = match args.ranked(1, 2, "w", "2 dimensions, [n, k]") {
        Ok(weight) => weight,
        // Of a weight that comes from a file, nothing is known before the program runs.
        Err(OpError::Unknown) => {
            sizes.push(Size::Unknown);
            return Ok(TensorType::new(product_dtype(("x", dtype), ("w", None))?, sizes));
        }
        Err(error) => return Err(error),
    };
    same("the inner sizes differ", inner, w[1])?;
    whole_rows("w", w_dtype, w[1])?;
    if args.is_tensor(2)
        && let Ok((b, b_dtype)) = args.tensor(2)
    {
        weight_rule("b", b_dtype)?;
        let [b] = b else { return Err(OpError::Rank { operand: "b", expected: "1 dimension, [n]", found: b.len() }) };
        same("the bias has another size than the rows of w", w[0], *b)?;
    }
    sizes.push(w[0]);
    Ok(TensorType::new(product_dtype(("x", dtype), ("w", w_dtype))?, sizes))
}

impl<T> Tensor<T> {
    /// Matrix multiplication: see the operation `matmul`.
    ///
    /// # Errors
    /// [`Error::Op`] where the inner sizes differ.
    pub fn matmul<U>(&self, other: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&MATMUL, &[other.into()])
    }

    /// `self · wᵀ`: see the operation `linear`. `self: [.., k], w: [n, k] → [.., n]`.
    ///
    /// # Errors
    /// [`Error::Op`] where the inner sizes differ.
    pub fn linear<U>(&self, w: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&LINEAR, &[w.into()])
    }

    /// `self · wᵀ + b`. `self: [.., k], w: [n, k], b: [n] → [.., n]`.
    ///
    /// # Errors
    /// [`Error::Op`] where sizes differ.
    pub fn linear_with_bias<U, V>(&self, w: &Tensor<U>, b: &Tensor<V>) -> Result<Tensor<T>, Error> {
        let args: SmallVec<[Arg<'_>; 2]> = SmallVec::from([w.into(), b.into()]);
        self.apply(&LINEAR, &args)
    }
}
