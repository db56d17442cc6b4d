//! `embedding`: rows of a table by their numbers.

use tl_device::DType;

use crate::element::Element;
use crate::gpu::weight_parts::weight_parts;
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl};
use crate::op::kernel::with_float;
use crate::op::rule::{weight_rule, whole_rows};
use crate::op::{Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, TensorType, optional, required};
use crate::quant::wgsl::WeightLoads;
use crate::size::{Size, Sizes};
use crate::tensor::Tensor;
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&EMBEDDING];

static EMBEDDING: Op = Op {
    name: "embedding",
    group: Group::Transformer,
    doc: "The rows of a table that `ids` name, unpacked from its stored format; `float16` unless another float type is given. \
          `table: [rows, n], ids: int32[..] → [.., n]`.",
    params: &[
        required("table", Kind::Weight),
        required("ids", Kind::Ids),
        optional("dtype", Kind::DType, DefaultValue::Absent),
    ],
    rule: |args| {
        let dtype = args.dtype(2);
        if let Some(found) = dtype.filter(|dtype| !dtype.is_float()) {
            return Err(OpError::DType { operand: "dtype", expected: "float16 or float32", found });
        }
        let (ids, ids_dtype) = args.tensor(1)?;
        if let Some(found) = ids_dtype.filter(|&dtype| dtype != DType::I32) {
            return Err(OpError::DType { operand: "ids", expected: "int32", found });
        }
        let mut sizes = Sizes::from_slice(ids);
        match args.ranked(0, 2, "table", "2 dimensions, [rows, n]") {
            Ok((table, dtype)) => {
                weight_rule("table", dtype)?;
                whole_rows("table", dtype, table[1])?;
                args.ids_are_within(1, table[0], false)?;
                sizes.push(table[1]);
            }
            Err(OpError::Unknown) => sizes.push(Size::Unknown),
            Err(error) => return Err(error),
        }
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Contiguous(|call| {
        let (table, ids) = (call.operand(0)?, call.operand(1)?);
        let (rows, n, threads) = (table.dims[0], table.dims[1], call.threads);
        let (weight, ids) = (table.weight()?, ids.slice::<i32>()?);
        with_float!(call.dtype, "dtype", T => {
            tl_kernels::gather_rows::<T>(threads, weight, n, rows, ids, call.out()?)
                .map_err(|out_of_range| OpError::index(i64::from(out_of_range.id), rows))
        })
    }),
    gpu: Some(embedding_gpu),
};

/// Each invocation unpacks a stretch of a row: as many elements as the format unpacks at once.
const STRETCHES: &str = "let stretch = group * {lanes}u + lane;
    let place = stretch / p.stretches;
    if place >= p.n_ids { return; }
    let column = (stretch - place * p.stretches) * {part}u;
    let id = load_ids(p.ids_offset + place);
    if is_shown(id) {
        let start = p.offset + (u32(id) - p.first) * p.n + column;
        var v = part_w(start, start + {part}u);
        for (var k = 0u; k < {quads}u; k++) { store4_out(((place * p.n + column) >> 2u) + k, v[k]); }
    }";

/// Each invocation computes four elements, which may be of several rows: for rows whose length is no multiple of four.
/// Elements of rows in other parts of the table stay unchanged.
const ELEMENTS: &str = "let four = group * {lanes}u + lane;
    let n_out = p.n_ids * p.n;
    if four * 4u >= n_out { return; }
    var v = load4_out(four);
    for (var k = 0u; k < 4u; k++) {
        let i = min(four * 4u + k, n_out - 1u);
        let place = i / p.n;
        let id = load_ids(p.ids_offset + place);
        if is_shown(id) { v[k] = element_w(p.offset + (u32(id) - p.first) * p.n + i - place * p.n); }
    }
    store4_out(four, v);";

/// Whether this part of the table has the row. A row outside the table is reported.
const IS_SHOWN: &str = "fn is_shown(id: i32) -> bool {
    if id < 0 || u32(id) >= p.rows {
        report(id, p.rows);
        return false;
    }
    return u32(id) >= p.first && u32(id) - p.first < p.n_rows;
}";

fn embedding_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let (table, ids) = (call.operand(0)?, call.operand(1)?);
    let (rows, n, n_ids) = (table.dims[0], table.dims[1], ids.n_elems());
    let is_wide = n.is_multiple_of(8) && table.offset.is_multiple_of(8);
    let is_counted = rows <= i32::MAX as usize && ids.fits_u32() && call.n_out() <= u32::MAX as usize / 8;
    let (Some(loads), Some(target)) = (WeightLoads::new(table.dtype, is_wide), call.device.shader_target()) else {
        return Ok(Dispatch::Unsupported);
    };
    let Some(parts) = weight_parts(target, &table, n, rows).filter(|_| is_counted) else {
        return Ok(Dispatch::Unsupported);
    };
    let in_fours = n.is_multiple_of(4);
    let dtype = call.dtype;
    let source = |wgsl: Wgsl| {
        let wgsl = loads.declare(wgsl.text(WeightLoads::shared()), "w").read("ids", DType::I32).write("out", dtype);
        let body = if in_fours { STRETCHES } else { ELEMENTS };
        let text = body
            .replace("{lanes}", &WORKGROUP.to_string())
            .replace("{part}", &loads.part().to_string())
            .replace("{quads}", &(loads.part() / 4).to_string());
        wgsl.faults()
            .params(
                "n: u32, n_ids: u32, stretches: u32, rows: u32, first: u32, n_rows: u32, offset: u32, ids_offset: u32",
            )
            .text(IS_SHOWN)
            .main(WORKGROUP, &text)
    };
    let flags = u32::from(is_wide) << 1 | u32::from(in_fours);
    let dtypes = [table.dtype, dtype];
    let shader = ShaderVariant { name: "embedding", dtypes: &dtypes, flags, reports_faults: true, source: &source };
    let (table, ids) = (table.on_gpu()?, ids.on_gpu()?);
    let stretches = n / loads.part() as usize;
    let invocations = if in_fours { n_ids * stretches } else { (n_ids * n).div_ceil(4) };
    for part in parts {
        let reads = [part.binding(&table.binding), ids.binding];
        let numbers = [n, n_ids, stretches, rows, part.first, part.n_rows];
        let mut words: Immediates = numbers.iter().map(|&number| number as u32).collect();
        words.extend_from_slice(&[table.offset, ids.offset]);
        call.launch(&shader, &reads, &words, invocations.div_ceil(WORKGROUP as usize))?;
    }
    Ok(Dispatch::Launched)
}

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
