//! Rows of a table by their numbers.

use tl_device::DType;

use super::rule::{Size, Sizes, TensorType, weight_rule};
use super::{Arg, Default, Group, Kind, Op, Run, optional, required, with_float};
use crate::{Element, Error, Fault, Tensor};

pub(super) static OPS: &[&Op] = &[&EMBEDDING];

static EMBEDDING: Op = Op {
    name: "embedding",
    group: Group::Transformer,
    doc: "The rows of a table that `ids` name, unpacked from its stored format; `float16` unless another float type is given. \
          `table: [rows, n], ids: int32[..] → [.., n]`.",
    params: &[
        required("table", Kind::Weight),
        required("ids", Kind::Ids),
        optional("dtype", Kind::DType, Default::Absent),
    ],
    rule: |args| {
        let dtype = args.dtype(2);
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(Fault::DType { operand: "dtype", expected: "float16 or float32", found });
        }
        let (ids, ids_dtype) = args.tensor(1)?;
        if let Some(found) = ids_dtype.filter(|&dtype| dtype != DType::I32) {
            return Err(Fault::DType { operand: "ids", expected: "int32", found });
        }
        let mut sizes = Sizes::from_slice(ids);
        match args.ranked(0, 2, "table", "2 dimensions, [rows, n]") {
            Ok((table, dtype)) => {
                weight_rule("table", dtype)?;
                sizes.push(table[1]);
            }
            Err(Fault::Unknown) => sizes.push(Size::Unknown),
            Err(fault) => return Err(fault),
        }
        Ok(TensorType::new(dtype, sizes))
    },
    run: Run::ContiguousKernel(|call| {
        let (table, ids) = (call.operand(0)?, call.operand(1)?);
        let (rows, n, threads) = (table.dims[0], table.dims[1], call.threads);
        let (weight, ids) = (table.weight()?, ids.slice::<i32>()?);
        with_float!(call.dtype, "dtype", T => {
            tl_kernels::gather_rows::<T>(threads, weight, n, rows, ids, call.out()?)
                .map_err(|out_of_range| Fault::Index { index: i64::from(out_of_range.id), size: rows as i64 })
        })
    }),
    gpu: None,
};

impl<T> Tensor<T> {
    /// The rows of this table that `ids` name, as `U`: see the operation `embedding`.
    ///
    /// # Errors
    /// [`Error::Op`] where an id has no row.
    pub fn embedding<U: Element>(&self, ids: &Tensor<i32>) -> Result<Tensor<U>, Error> {
        self.apply(&EMBEDDING, &[ids.into(), Arg::DType(U::DTYPE)])
    }

    /// As [`Tensor::embedding`], in a float type that is chosen when the program runs.
    ///
    /// # Errors
    /// [`Error::Op`] where an id has no row.
    pub fn embedding_as(&self, ids: &Tensor<i32>, dtype: DType) -> Result<Tensor, Error> {
        self.apply(&EMBEDDING, &[ids.into(), Arg::DType(dtype)])
    }
}
