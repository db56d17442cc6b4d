//! Tensors from nothing: `zeros`, `ones`, `full`, `arange`, `eye`, `positional_encoding`, `causal_mask`.

use tl_device::{DType, Device, Layout, Role, Shape};

use crate::cpu::elements::write;
use crate::dispatch::apply;
use crate::element::Element;
use crate::gpu::{Immediates, ShaderVariant, WORKGROUP, Wgsl, scalar_of};
use crate::op::rule::dimension;
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::size::{Size, Sizes};
use crate::tensor::{DynTensor, Tensor, take};
use crate::{Error, OpError};

pub(super) static OPS: &[&Op] = &[&ZEROS, &ONES, &FULL, &ARANGE, &EYE, &POSITIONAL_ENCODING, &CAUSAL_MASK];

/// The sizes of the result, none of them negative.
fn shape(args: &RuleArgs, index: usize) -> Result<Sizes, OpError> {
    args.ints(index)?.iter().map(|&size| dimension(size)).collect()
}

/// The type of the result, which must be one that activations can have.
fn plain_dtype(args: &RuleArgs, index: usize) -> Result<Option<DType>, OpError> {
    match args.dtype(index) {
        Some(found @ DType::Block(_)) => {
            Err(OpError::DType { operand: "dtype", expected: "float16, float32, int32 or bool", found })
        }
        dtype => Ok(dtype),
    }
}

static ZEROS: Op = Op {
    name: "zeros",
    group: Group::Create,
    doc: "All zeros, `float16` unless another type is given. `→ shape`.",
    params: &[required("shape", Kind::Ints), optional("dtype", Kind::DType, DefaultValue::Absent)],
    rule: |args| Ok(TensorType::new(plain_dtype(args, 1)?, shape(args, 0)?)),
    kernel: OpKernel::Strided(|call| fill(call, 0.0)),
    gpu: Some(|call| fill_gpu(call, 0.0)),
};

static ONES: Op = Op {
    name: "ones",
    group: Group::Create,
    doc: "All ones, `float16` unless another type is given. `→ shape`.",
    params: &[required("shape", Kind::Ints), optional("dtype", Kind::DType, DefaultValue::Absent)],
    rule: |args| Ok(TensorType::new(plain_dtype(args, 1)?, shape(args, 0)?)),
    kernel: OpKernel::Strided(|call| fill(call, 1.0)),
    gpu: Some(|call| fill_gpu(call, 1.0)),
};

static FULL: Op = Op {
    name: "full",
    group: Group::Create,
    doc: "All elements the same number, `float16` unless another type is given. `→ shape`.",
    params: &[
        required("shape", Kind::Ints),
        required("value", Kind::Number),
        optional("dtype", Kind::DType, DefaultValue::Absent),
    ],
    rule: |args| Ok(TensorType::new(plain_dtype(args, 2)?, shape(args, 0)?)),
    kernel: OpKernel::Strided(|call| {
        let value = call.number(1)?;
        fill(call, value)
    }),
    gpu: Some(|call| {
        let value = call.number(1)?;
        fill_gpu(call, value)
    }),
};

fn fill(call: &mut Call, value: f64) -> Result<(), OpError> {
    let word = word_of(call.dtype, value).to_ne_bytes();
    for bytes in call.out.chunks_mut(4) {
        bytes.copy_from_slice(&word[..bytes.len()]);
    }
    Ok(())
}

fn fill_gpu(call: &mut Call, value: f64) -> Result<Dispatch, OpError> {
    let word = word_of(call.dtype, value);
    if let Some(lease) = call.lease.as_deref_mut() {
        lease.fill(word).map_err(|error| OpError::Device(Box::new(error)))?;
    }
    Ok(Dispatch::Launched)
}

/// Four bytes of elements with this value.
fn word_of(dtype: DType, value: f64) -> u32 {
    let mut word = [0; 4];
    for i in 0..4 / dtype.block_bytes().min(4) {
        write(dtype, &mut word, i, value);
    }
    u32::from_ne_bytes(word)
}

/// A tensor of one value, for the methods of `Tensor` and `Device`.
fn filled(device: &Device, layout: Layout, value: f64, op: &'static str) -> Result<DynTensor, Error> {
    let mut lease = take(device, &layout, Role::Activation, op)?;
    if let found @ DType::Block(_) = layout.dtype() {
        let error = OpError::DType { operand: "dtype", expected: "float16, float32, int32 or bool", found };
        return Err(Error::Op { op, operands: Vec::new(), error });
    }
    lease.fill(word_of(layout.dtype(), value)).map_err(|error| Error::Memory { op, error })?;
    Ok(DynTensor::new(lease.share(), &layout))
}

static ARANGE: Op = Op {
    name: "arange",
    group: Group::Create,
    doc: "The integers from `start` up to but not including `end`, `step` apart, as `int32` unless another type is given. \
          `→ [ceil((end - start) / step)]`.",
    params: &[
        required("start", Kind::Int),
        required("end", Kind::Int),
        optional("step", Kind::Int, DefaultValue::Int(1)),
        optional("dtype", Kind::DType, DefaultValue::Absent),
    ],
    rule: |args| {
        let dtype = if args.is_given(3) { plain_dtype(args, 3)? } else { Some(DType::I32) };
        if args.int(2) == Size::Known(0) {
            return Err(OpError::Value { operand: "step", expected: "other than 0", found: 0.0 });
        }
        let count = match (args.int(0), args.int(1), args.int(2)) {
            (Size::Known(start), Size::Known(end), Size::Known(step)) => Size::Known(count(start, end, step)),
            (start, end, Size::Known(1)) if end.minus(start).is_natural() => end.minus(start),
            _ => Size::Unknown,
        };
        Ok(TensorType::new(dtype, [count].as_slice()))
    },
    kernel: OpKernel::Strided(|call| {
        let (start, step) = (call.int(0)?, call.int(2)?);
        for i in 0..call.dims[0] {
            let value = i128::from(start) + i as i128 * i128::from(step);
            write(call.dtype, call.out, i, value as f64);
        }
        Ok(())
    }),
    gpu: Some(|call| {
        let (start, step, n) = (call.int(0)?, call.int(2)?, call.dims[0]);
        let last = i128::from(start) + (n.max(1) - 1) as i128 * i128::from(step);
        // The largest integer up to which the type has all integers.
        let largest = match call.dtype {
            DType::I32 => i128::from(i32::MAX),
            DType::F32 => 1 << 24,
            _ => 1 << 11,
        };
        if last.abs() > largest || i128::from(start).abs() > largest {
            return Ok(Dispatch::Unsupported);
        }
        index_gpu(call, "arange", "p.start + i * p.step", [start as i32, step as i32])
    }),
};

fn count(start: i64, end: i64, step: i64) -> i64 {
    let (start, end, step) = (i128::from(start), i128::from(end), i128::from(step));
    let steps = if step > 0 { (end - start + step - 1) / step } else { (start - end - step - 1) / -step };
    i64::try_from(steps.max(0)).unwrap_or(i64::MAX)
}

static EYE: Op = Op {
    name: "eye",
    group: Group::Create,
    doc: "Ones on the diagonal, zeros elsewhere. `→ [n, n]`.",
    params: &[required("n", Kind::Int), optional("dtype", Kind::DType, DefaultValue::Absent)],
    rule: |args| {
        let n = dimension(args.int(0))?;
        Ok(TensorType::new(plain_dtype(args, 1)?, [n, n].as_slice()))
    },
    kernel: OpKernel::Strided(|call| {
        call.out.fill(0);
        for i in 0..call.dims[0] {
            write(call.dtype, call.out, i * call.dims[0] + i, 1.0);
        }
        Ok(())
    }),
    gpu: Some(|call| index_gpu(call, "eye", "select(0, 1, i / p.columns == i % p.columns)", [0; 2])),
};

static POSITIONAL_ENCODING: Op = Op {
    name: "positional_encoding",
    group: Group::Create,
    doc: "Sines and cosines of positions: `[p, 2i] = sin(p / 10000^(2i/d))`, `[p, 2i + 1] = cos(p / 10000^(2i/d))` (Vaswani \
          et al., 2017). `→ [n, d]`.",
    params: &[required("n", Kind::Int), required("d", Kind::Int), optional("dtype", Kind::DType, DefaultValue::Absent)],
    rule: |args| {
        let sizes = [dimension(args.int(0))?, dimension(args.int(1))?];
        Ok(TensorType::new(plain_dtype(args, 2)?, sizes.as_slice()))
    },
    kernel: OpKernel::Strided(|call| {
        let d = call.dims[1];
        // With `d` 0 there may be any number of positions.
        let n_positions = if d == 0 { 0 } else { call.dims[0] };
        for p in 0..n_positions {
            for i in 0..d {
                let angle = p as f64 / 10000f64.powf((i / 2 * 2) as f64 / d as f64);
                write(call.dtype, call.out, p * d + i, if i % 2 == 0 { angle.sin() } else { angle.cos() });
            }
        }
        Ok(())
    }),
    gpu: None,
};

static CAUSAL_MASK: Op = Op {
    name: "causal_mask",
    group: Group::Create,
    doc: "Which of `m` keys each of `n` queries may see when the last query stands at the last key: true at `[i, j]` where \
          `j <= i + m - n`. `m` is `n` unless given. `→ bool[n, m]`.",
    params: &[required("n", Kind::Int), optional("m", Kind::Int, DefaultValue::Absent)],
    rule: |args| {
        let n = dimension(args.int(0))?;
        let m = if args.is_given(1) { dimension(args.int(1))? } else { n };
        Ok(TensorType::new(Some(DType::Bool), [n, m].as_slice()))
    },
    kernel: OpKernel::Strided(|call| {
        let (n, m) = (call.dims[0], call.dims[1]);
        if m == 0 {
            return Ok(());
        }
        for (i, row) in call.out.chunks_mut(m).enumerate() {
            let visible = (i + 1 + m).saturating_sub(n).min(m);
            row[..visible].fill(1);
            row[visible..].fill(0);
        }
        Ok(())
    }),
    gpu: Some(|call| {
        let behind = call.dims[1] as i64 - call.dims[0] as i64;
        let formula = "select(0, 1, i % p.columns <= i / p.columns + p.start)";
        match i32::try_from(behind) {
            Ok(behind) => index_gpu(call, "causal_mask", formula, [behind, 0]),
            Err(_) => Ok(Dispatch::Unsupported),
        }
    }),
};

/// Elements by an integer `formula` of their index `i`, the length of a row and two numbers.
fn index_gpu(
    call: &mut Call,
    name: &'static str,
    formula: &'static str,
    numbers: [i32; 2],
) -> Result<Dispatch, OpError> {
    let (dtype, n) = (call.dtype, call.n_out());
    if n > i32::MAX as usize / 4 {
        return Ok(Dispatch::Unsupported);
    }
    let kind = scalar_of(dtype);
    let source = |wgsl: Wgsl| {
        wgsl.write("out", dtype).params("n: i32, columns: i32, start: i32, step: i32").main(
            WORKGROUP,
            &format!(
                "let four = group * {WORKGROUP}u + lane;
    if i32(four) * 4 >= p.n {{ return; }}
    var v: vec4<{kind}>;
    for (var k = 0; k < 4; k++) {{
        let i = i32(four) * 4 + k;
        v[k] = {kind}({formula});
    }}
    store4_out(four, v);"
            ),
        )
    };
    let shader = ShaderVariant { name, dtypes: &[dtype], flags: 0, reports_faults: false, source: &source };
    let columns = call.dims.last().copied().unwrap_or(1);
    let mut words = Immediates::from_slice(&[n as u32, columns as u32]);
    words.extend(numbers.map(|number| number as u32));
    call.launch(&shader, &[], &words, n.div_ceil(4 * WORKGROUP as usize))
}

impl Tensor<bool> {
    /// Which of `m` keys each of `n` queries may see: see the operation `causal_mask`.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    pub fn causal_mask(device: &Device, n: usize, m: usize) -> Result<Tensor<bool>, Error> {
        apply(&CAUSAL_MASK, device, &[Arg::Int(n as i64), Arg::Int(m as i64)]).map(Tensor::from_dyn)
    }
}

impl<T: Element> Tensor<T> {
    /// All zeros (`false` for `bool`).
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none; so for all functions that make tensors.
    pub fn zeros(device: &Device, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        Ok(Tensor::from_dyn(filled(device, Layout::new(T::DTYPE, shape), 0.0, "zeros")?))
    }

    /// All ones (`true` for `bool`).
    pub fn ones(device: &Device, shape: impl Into<Shape>) -> Result<Tensor<T>, Error> {
        Ok(Tensor::from_dyn(filled(device, Layout::new(T::DTYPE, shape), 1.0, "ones")?))
    }

    /// All elements the same.
    pub fn full(device: &Device, shape: impl Into<Shape>, value: T) -> Result<Tensor<T>, Error> {
        let layout = Layout::new(T::DTYPE, shape);
        let mut lease = take(device, &layout, Role::Activation, "full")?;
        let stored = value.to_stored();
        let bytes = bytemuck::bytes_of(&stored);
        let word: [u8; 4] = std::array::from_fn(|i| bytes[i % bytes.len()]);
        lease.fill(u32::from_ne_bytes(word)).map_err(|error| Error::Memory { op: "full", error })?;
        Ok(Tensor::from_dyn(DynTensor::new(lease.share(), &layout)))
    }
}

/// Making tensors whose type is chosen when the program runs.
pub trait CreateTensors {
    /// All zeros.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    fn zeros(&self, layout: impl Into<Layout>) -> Result<Tensor, Error>;
    /// All ones.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    fn ones(&self, layout: impl Into<Layout>) -> Result<Tensor, Error>;
    /// All elements the nearest value to `value`.
    ///
    /// # Errors
    /// [`Error::Memory`] where there is none.
    fn full(&self, layout: impl Into<Layout>, value: f64) -> Result<Tensor, Error>;
}

impl CreateTensors for Device {
    fn zeros(&self, layout: impl Into<Layout>) -> Result<Tensor, Error> {
        Ok(Tensor::from_dyn(filled(self, layout.into(), 0.0, "zeros")?))
    }
    fn ones(&self, layout: impl Into<Layout>) -> Result<Tensor, Error> {
        Ok(Tensor::from_dyn(filled(self, layout.into(), 1.0, "ones")?))
    }
    fn full(&self, layout: impl Into<Layout>, value: f64) -> Result<Tensor, Error> {
        Ok(Tensor::from_dyn(filled(self, layout.into(), value, "full")?))
    }
}
