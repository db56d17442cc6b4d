//! `TensorMut`: memory that its holder writes a few rows at a time, as a KV cache is.

use tl_device::{Binding, Device, Layout, Lease, Role, Shape};

use crate::cpu::convert::copy_into;
use crate::gpu::partial_copy;
use crate::operand::Operand;
use crate::strides::{Strides, contiguous_strides};
use crate::tensor::{Tensor, take};
use crate::{Error, OpError};

/// A tensor that its holder writes a few rows at a time, such as a KV cache. It has one holder, and operations borrow
/// it through [`TensorMut::rows`], so its elements do not change while they are read.
pub struct TensorMut {
    lease: Lease,
    layout: Layout,
    strides: Strides,
    row_bytes: usize,
}

impl TensorMut {
    /// Memory of this layout, not yet written.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn new(device: &Device, layout: &Layout) -> Result<TensorMut, Error> {
        let lease = take(device, layout, Role::Cache, "kv_cache")?;
        let rows = layout.shape().first().copied().unwrap_or(1);
        let row_bytes = lease.len_bytes() / rows.max(1);
        let strides = contiguous_strides(layout.shape());
        Ok(TensorMut { lease, layout: layout.clone(), strides, row_bytes })
    }

    /// Type and dimensions; the first dimension counts the rows.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The device that the memory is on.
    pub fn device(&self) -> &Device {
        self.lease.device()
    }

    pub(crate) fn row_bytes(&self) -> usize {
        self.row_bytes
    }

    /// All bytes; empty on a GPU.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.lease.bytes()
    }

    /// As [`TensorMut::bytes`], writable.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        self.lease.bytes_mut()
    }

    /// The memory as a GPU program reads it.
    pub(crate) fn binding(&self) -> Binding<'_> {
        Binding::read_lease(&self.lease)
    }

    /// The memory as a GPU program writes it.
    pub(crate) fn binding_mut(&mut self) -> Binding<'_> {
        Binding::write(&mut self.lease)
    }

    /// Copies `rows`, `[n, …]` with the same other dimensions, to the rows from `start` on, converted to this tensor's
    /// type: a float type or, on the CPU, a block format.
    ///
    /// # Errors
    /// [`Error::Rows`] where they do not fit, [`Error::Op`] where the other dimensions or the types differ.
    pub fn write_rows<T>(&mut self, start: usize, rows: &Tensor<T>) -> Result<(), Error> {
        let source = rows.as_dyn();
        let error = |error| Error::Op {
            op: "kv_cache",
            operands: vec![self.layout.to_string(), format!("{}{}", source.dtype(), source.shape())],
            error,
        };
        if source.shape().get(1..) != self.layout.shape().get(1..) {
            let expected = "the same dimensions but the first as the cache";
            return Err(error(OpError::Rank { operand: "rows", expected, found: source.shape().len() }));
        }
        let (n, rows) =
            (source.shape().first().copied().unwrap_or(0), self.layout.shape().first().copied().unwrap_or(0));
        let end = start.saturating_add(n);
        if end > rows {
            return Err(Error::Rows { start, end, rows });
        }
        let target = self.layout.dtype();
        if source.device().is_gpu() {
            let first = start * self.row_bytes / target.block_bytes();
            let rows = source.split();
            return partial_copy::write_rows(&mut self.lease, target, first, &rows.operand()).map_err(error);
        }
        if source.device().is_simulated() {
            // There are no bytes to copy or to convert.
            return Ok(());
        }
        let isa = source.device().threads().isa();
        let bytes = self.lease.bytes_mut().get_mut(start * self.row_bytes..end * self.row_bytes).unwrap_or_default();
        copy_into(isa, &source.split().operand(), target, bytes).map_err(error)
    }

    /// Moves the `n` rows from `start` on to the front. On a GPU a row must be a whole number of words of 4 bytes.
    ///
    /// # Errors
    /// [`Error::Rows`] where there are fewer, [`Error::Op`] for rows of other lengths on a GPU, or one that has failed.
    pub fn move_to_front(&mut self, start: usize, n: usize) -> Result<(), Error> {
        const WORD_BYTES: usize = 4;
        let rows = self.layout.shape().first().copied().unwrap_or(0);
        let end = start.saturating_add(n);
        if end > rows {
            return Err(Error::Rows { start, end, rows });
        }
        let row_bytes = self.row_bytes;
        if self.lease.device().is_gpu() {
            let row_words = row_bytes / WORD_BYTES;
            let moved = match row_bytes % WORD_BYTES {
                0 => partial_copy::move_to_front(&mut self.lease, start * row_words, n * row_words),
                _ => Err(OpError::Value {
                    operand: "the bytes of a row",
                    expected: "a multiple of 4 on a GPU",
                    found: row_bytes as f64,
                }),
            };
            return moved.map_err(|error| Error::Op { op: "kv_cache", operands: vec![self.layout.to_string()], error });
        }
        let bytes = self.lease.bytes_mut();
        // A simulated device has no bytes.
        if bytes.len() >= end * row_bytes {
            bytes.copy_within(start * row_bytes..end * row_bytes, 0);
        }
        Ok(())
    }

    /// The first `n` rows, as an operation reads them. `dims` receives their dimensions.
    pub fn rows<'a>(&'a self, n: usize, dims: &'a mut Shape) -> Operand<'a> {
        let all = self.layout.shape();
        *dims = all.iter().enumerate().map(|(i, &dim)| if i == 0 { n.min(dim) } else { dim }).collect();
        Operand {
            dtype: self.layout.dtype(),
            bytes: self.lease.bytes(),
            binding: self.lease.device().is_gpu().then(|| Binding::read_lease(&self.lease)),
            offset: 0,
            is_weight: false,
            dims,
            strides: &self.strides,
            repeat: None,
        }
    }
}
