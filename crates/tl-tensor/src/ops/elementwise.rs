//! Elementwise operations: one row each.
//!
//! A row gives the formula up to three times: in `f32`, which runs vectorized on float tensors; in `f64`, which serves
//! integers, truth values and comparisons exactly; in WGSL, for float tensors on a GPU. To add one, add a line to a
//! table below.

use tl_device::DType;

use crate::cpu::elements::{Reader, for_each_index, write};
use crate::gpu::map::{map_binary, map_unary};
use crate::op::kernel::with_float;
use crate::op::rule::broadcast;
use crate::op::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Map, Op, OpKernel, RuleArgs, TensorType, optional, required,
};
use crate::operand::OperandOrNumber;
use crate::strides::broadcast_strides;
use crate::tensor::Tensor;
use crate::{Error, OpError};

/// Refuses stored formats.
pub(super) fn refuse_blocks(operand: &'static str, dtype: Option<DType>) -> Result<(), OpError> {
    match dtype {
        Some(found @ DType::Block(_)) => {
            Err(OpError::DType { operand, expected: "an activation (cast the weight first, `w as float16`)", found })
        }
        _ => Ok(()),
    }
}

pub(super) fn float_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (sizes, dtype) = args.tensor(0)?;
    match dtype {
        Some(found) if !found.is_float() => {
            Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it first, `x as float32`)", found })
        }
        _ => Ok(TensorType::new(dtype, sizes)),
    }
}

/// As `float_rule`, for operations on integers too.
fn number_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (sizes, dtype) = args.tensor(0)?;
    refuse_blocks("x", dtype)?;
    Ok(TensorType::new(dtype, sizes))
}

fn unary_float(call: &mut Call, f: impl Fn(f32) -> f32 + Sync + Copy) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let threads = call.threads;
    with_float!(x.dtype, "x", T => {
        tl_kernels::unary::<T, T>(threads, x.kernel_view()?, call.out()?, f);
        Ok(())
    })
}

fn unary_exact(call: &mut Call, f: fn(f64) -> f64) -> Result<(), OpError> {
    let x = call.operand(0)?;
    let reader = Reader::new(&x)?;
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(x.dims, [x.strides], |i, [at]| write(dtype, out, i, f(reader.at(at))));
    Ok(())
}

/// `formula` of each element `x` and of two numbers, `p.c0` and `p.c1`. Integers are exact only in their own
/// arithmetic, which no program has.
fn formula_gpu(call: &mut Call, name: &'static str, formula: &str, numbers: [f32; 2]) -> Result<Dispatch, OpError> {
    if call.operand(0)?.dtype == DType::I32 {
        return Ok(Dispatch::Unsupported);
    }
    map_unary(call, name, &|i| format!("let x = f32({i}); v[k] = {formula};"), numbers)
}

/// As `formula_gpu`, for functions that `bool` has no program for.
fn unary_gpu(call: &mut Call, name: &'static str, formula: &str, numbers: [f32; 2]) -> Result<Dispatch, OpError> {
    if call.operand(0)?.dtype == DType::Bool && call.dtype == DType::Bool {
        return Ok(Dispatch::Unsupported);
    }
    formula_gpu(call, name, formula, numbers)
}

/// `formula` of the elements `a` and `b`, which broadcast. Arithmetic on two tensors of `bool` has no program.
fn arithmetic_gpu(call: &mut Call, name: &'static str, formula: &'static str) -> Result<Dispatch, OpError> {
    if call.dtype == DType::Bool {
        return Ok(Dispatch::Unsupported);
    }
    map_binary(call, name, formula)
}

/// Rows of functions that only floats have: name, doc, formula, formula in WGSL.
macro_rules! float_functions {
    ($($row:ident $name:ident $doc:literal $f:expr, $wgsl:literal;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("x", Kind::Tensor)],
            rule: float_rule,
            kernel: OpKernel::Elementwise(
                Map::Unary(|isa, x| tl_kernels::map_block(isa, x, $f)),
                |call| unary_float(call, $f),
            ),
            gpu: Some(|call| unary_gpu(call, stringify!($name), $wgsl, [0.0; 2])),
        };)*
        static FLOAT_FUNCTIONS: &[&Op] = &[$(&$row),*];
        impl<T> Tensor<T> {
            $(#[doc = $doc]
            ///
            /// # Errors
            /// [`Error::Op`] where the tensor is not of floats.
            pub fn $name(&self) -> Result<Tensor<T>, Error> {
                self.apply(&$row, &[])
            })*
        }
    };
}

float_functions! {
    EXP exp "`e^x`. Float tensors." tl_kernels::exp, "exp(x)";
    LOG log "The natural logarithm; NaN below 0. Float tensors." f32::ln, "log(x)";
    SQRT sqrt "The square root; NaN below 0. Float tensors." f32::sqrt, "sqrt(x)";
    SIN sin "The sine, `x` in radians. Float tensors." f32::sin, "sin(x)";
    COS cos "The cosine, `x` in radians. Float tensors." f32::cos, "cos(x)";
    TAN tan "The tangent, `x` in radians. Float tensors." f32::tan, "tan(x)";
    TANH tanh "The hyperbolic tangent. Float tensors." tl_kernels::tanh, "tanh_(x)";
    SIGMOID sigmoid "`1 / (1 + e^-x)`. Float tensors." tl_kernels::sigmoid, "sigmoid(x)";
    SOFTPLUS softplus "`ln(1 + e^x)`, which is near `x` where that is large (Dugas et al., 2001). Float tensors."
        |x: f32| x.max(0.0) + (-x.abs()).exp().ln_1p(), "max(x, 0.0) + log(1.0 + exp(-abs(x)))";
    SILU silu "`x · sigmoid(x)` (Elfwing et al., 2017). Float tensors." tl_kernels::silu, "x * sigmoid(x)";
    GELU gelu "`x · Φ(x)`, Φ being the normal distribution (Hendrycks, Gimpel, 2016). Float tensors." tl_kernels::gelu, "gelu(x)";
    GELU_TANH gelu_tanh "`0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`, which approximates `gelu` (Hendrycks, Gimpel, 2016). Float tensors."
        tl_kernels::gelu_tanh, "gelu_tanh(x)";
    FLOOR floor "The largest integer no larger. Float tensors." f32::floor, "floor(x)";
    CEIL ceil "The smallest integer no smaller. Float tensors." f32::ceil, "ceil(x)";
    ROUND round "The nearest integer, ties to even. Float tensors." f32::round_ties_even, "round(x)";
}

/// Rows of functions that integers have too: name, doc, formula in `f32`, formula in `f64`, formula in WGSL.
macro_rules! number_functions {
    ($($row:ident $name:ident $doc:literal $f:expr, $exact:expr, $wgsl:literal;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("x", Kind::Tensor)],
            rule: number_rule,
            kernel: OpKernel::Elementwise(
                Map::Unary(|isa, x| tl_kernels::map_block(isa, x, $f)),
                |call| if call.dtype.is_float() { unary_float(call, $f) } else { unary_exact(call, $exact) },
            ),
            gpu: Some(|call| unary_gpu(call, stringify!($name), $wgsl, [0.0; 2])),
        };)*
        static NUMBER_FUNCTIONS: &[&Op] = &[$(&$row),*];
        impl<T> Tensor<T> {
            $(#[doc = $doc]
            ///
            /// # Errors
            /// [`Error::Op`] for a weight format.
            pub fn $name(&self) -> Result<Tensor<T>, Error> {
                self.apply(&$row, &[])
            })*
        }
    };
}

number_functions! {
    ABS abs "The absolute value." f32::abs, f64::abs, "abs(x)";
    NEG neg "The negative; written `-x`." |x| -x, |x| -x, "-x";
    RELU relu "`max(x, 0)`." |x: f32| if x < 0.0 { 0.0 } else { x }, |x| if x < 0.0 { 0.0 } else { x }, "select(x, 0.0, x < 0.0)";
}

static IS_NAN: Op = Op {
    name: "is_nan",
    group: Group::Elementwise,
    doc: "Whether the element is not a number. `x: [..] → bool[..]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..number_rule(args)? }),
    kernel: OpKernel::Strided(|call| unary_exact(call, |x| f64::from(x.is_nan()))),
    gpu: Some(|call| unary_gpu(call, "is_nan", "is_nan(x)", [0.0; 2])),
};

static LOGICAL_NOT: Op = Op {
    name: "logical_not",
    group: Group::Elementwise,
    doc: "Whether the element is 0 or false; written `not x`. `x: [..] → bool[..]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..number_rule(args)? }),
    kernel: OpKernel::Strided(|call| unary_exact(call, |x| f64::from(x == 0.0))),
    gpu: Some(|call| formula_gpu(call, "logical_not", "x == 0.0", [0.0; 2])),
};

/// Both operands broadcast to one shape and have one type.
fn binary_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let dtype = args.common_dtype(&[0, 1])?;
    refuse_blocks("an operand", dtype)?;
    let sizes_of = |index| match args.tensor(index) {
        Ok((sizes, _)) => Ok(Some(sizes)),
        Err(OpError::Unknown) if args.is_tensor(index) => Err(OpError::Unknown),
        Err(_) => Ok(None),
    };
    match (sizes_of(0)?, sizes_of(1)?) {
        (Some(a), Some(b)) => Ok(TensorType::new(dtype, broadcast(a, b)?)),
        (Some(sizes), None) | (None, Some(sizes)) => Ok(TensorType::new(dtype, sizes)),
        (None, None) => Err(OpError::Unknown),
    }
}

pub(super) fn binary_float(call: &mut Call, f: impl Fn(f32, f32) -> f32 + Sync + Copy) -> Result<(), OpError> {
    let (a, b) = (call.operand_or_number(0)?, call.operand_or_number(1)?);
    let (threads, dims) = (call.threads, call.dims);
    with_float!(call.dtype, "an operand", T => {
        match (a, b) {
            // A number is used in `f32`, not rounded to the elements' type.
            (OperandOrNumber::Operand(a), OperandOrNumber::Number(b)) => {
                let b = b as f32;
                tl_kernels::unary::<T, T>(threads, a.kernel_view()?, call.out()?, move |a| f(a, b));
            }
            (OperandOrNumber::Number(a), OperandOrNumber::Operand(b)) => {
                let a = a as f32;
                tl_kernels::unary::<T, T>(threads, b.kernel_view()?, call.out()?, move |b| f(a, b));
            }
            (OperandOrNumber::Operand(a), OperandOrNumber::Operand(b)) => {
                let a_strides = broadcast_strides(a.dims, a.strides, dims);
                let b_strides = broadcast_strides(b.dims, b.strides, dims);
                let a = tl_kernels::View { data: a.data()?, dims, strides: &a_strides };
                let b = tl_kernels::View { data: b.data()?, dims, strides: &b_strides };
                tl_kernels::binary::<T, T, T>(threads, a, b, call.out()?, f);
            }
            (OperandOrNumber::Number(_), OperandOrNumber::Number(_)) => return Err(OpError::Unknown),
        }
        Ok(())
    })
}

fn binary_exact(call: &mut Call, f: fn(f64, f64) -> f64) -> Result<(), OpError> {
    let (a, b) = (call.operand_or_number(0)?, call.operand_or_number(1)?);
    let (a_strides, b_strides) = (a.strides(call.dims), b.strides(call.dims));
    let (a, b) = (Reader::of(&a)?, Reader::of(&b)?);
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(call.dims, [&a_strides, &b_strides], |i, [at_a, at_b]| {
        write(dtype, out, i, f(a.at(at_a), b.at(at_b)));
    });
    Ok(())
}

/// Rows of arithmetic on two operands: name, doc, formula in `f32`, formula in `f64`, formula in WGSL.
macro_rules! arithmetic {
    ($($row:ident $name:ident $doc:literal $f:expr, $exact:expr, $wgsl:literal;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
            rule: binary_rule,
            kernel: OpKernel::Elementwise(
                Map::Binary(|isa, a, b| tl_kernels::map_blocks(isa, a, b, $f)),
                |call| if call.dtype.is_float() { binary_float(call, $f) } else { binary_exact(call, $exact) },
            ),
            gpu: Some(|call| arithmetic_gpu(call, stringify!($name), $wgsl)),
        };)*
        static ARITHMETIC: &[&Op] = &[$(&$row),*];
        impl<T> Tensor<T> {
            $(#[doc = $doc]
            ///
            /// # Errors
            /// [`Error::Op`] where the shapes do not broadcast or the types differ.
            pub fn $name<'a>(&'a self, other: impl Into<Arg<'a>>) -> Result<Tensor<T>, Error> {
                self.apply(&$row, &[other.into()])
            })*
        }
    };
}

arithmetic! {
    ADD add "`a + b`, broadcasting as NumPy does. Integers stay within their range." |a, b| a + b, |a, b| a + b, "a + b";
    SUB sub "`a - b`, broadcasting as NumPy does. Integers stay within their range." |a, b| a - b, |a, b| a - b, "a - b";
    MUL mul "`a * b`, broadcasting as NumPy does. Integers stay within their range." |a, b| a * b, |a, b| a * b, "a * b";
    DIV div "`a / b`, broadcasting as NumPy does. Integers are truncated; by 0 they give their largest or smallest value, \
             and 0 / 0 gives 0." |a, b| a / b, |a, b| a / b, "a / b";
    REM rem "`a % b`, the remainder with the sign of `a`, broadcasting as NumPy does." |a, b| a % b, |a, b| a % b, "remainder(a, b)";
    POW pow "`a ** b`, broadcasting as NumPy does." f32::powf, f64::powf, "pow_(a, b)";
    MINIMUM minimum "The smaller of the two; NaN where one is NaN."
        |a: f32, b: f32| if a.is_nan() || a < b { a } else { b }, |a, b| if a.is_nan() || a < b { a } else { b },
        "minimum(a, b)";
    MAXIMUM maximum "The larger of the two; NaN where one is NaN."
        |a: f32, b: f32| if a.is_nan() || a > b { a } else { b }, |a, b| if a.is_nan() || a > b { a } else { b },
        "maximum(a, b)";
}

/// Rows of comparisons and logic: name, doc, formula, formula in WGSL.
macro_rules! comparisons {
    ($($row:ident $name:ident $method:ident $doc:literal $f:expr, $wgsl:literal;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
            rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..binary_rule(args)? }),
            kernel: OpKernel::Strided(|call| binary_exact(call, |a: f64, b: f64| f64::from($f(a, b)))),
            gpu: Some(|call| map_binary(call, stringify!($name), $wgsl)),
        };)*
        static COMPARISONS: &[&Op] = &[$(&$row),*];
        impl<T> Tensor<T> {
            $(#[doc = $doc]
            ///
            /// # Errors
            /// [`Error::Op`] where the shapes do not broadcast or the types differ.
            pub fn $method<'a>(&'a self, other: impl Into<Arg<'a>>) -> Result<Tensor<bool>, Error> {
                self.apply(&$row, &[other.into()])
            })*
        }
    };
}

comparisons! {
    EQUAL equal equal "`a == b` for each element. `→ bool[..]`." |a, b| a == b, "a == b";
    NOT_EQUAL not_equal not_equal "`a != b` for each element. `→ bool[..]`." |a, b| a != b, "!(a == b)";
    LESS less less "`a < b` for each element. `→ bool[..]`." |a, b| a < b, "a < b";
    LESS_EQUAL less_equal less_equal "`a <= b` for each element. `→ bool[..]`." |a, b| a <= b, "a <= b";
    GREATER greater greater "`a > b` for each element. `→ bool[..]`." |a, b| a > b, "a > b";
    GREATER_EQUAL greater_equal greater_equal "`a >= b` for each element. `→ bool[..]`." |a, b| a >= b, "a >= b";
    LOGICAL_AND logical_and logical_and "Whether both are other than 0; written `a and b`. `→ bool[..]`."
        |a: f64, b: f64| a != 0.0 && b != 0.0, "!(a == 0.0) && !(b == 0.0)";
    LOGICAL_OR logical_or logical_or "Whether one is other than 0; written `a or b`. `→ bool[..]`."
        |a: f64, b: f64| a != 0.0 || b != 0.0, "!(a == 0.0) || !(b == 0.0)";
}

static CLAMP: Op = Op {
    name: "clamp",
    group: Group::Elementwise,
    doc: "`min` where the element is smaller, `max` where it is larger; NaN stays. `x: [..] → [..]`.",
    params: &[
        required("x", Kind::Tensor),
        optional("min", Kind::Number, DefaultValue::Absent),
        optional("max", Kind::Number, DefaultValue::Absent),
    ],
    rule: number_rule,
    kernel: OpKernel::Strided(|call| {
        let (low, high) = clamp_bounds(call)?;
        if call.dtype.is_float() {
            let (low, high) = (low as f32, high as f32);
            return unary_float(call, move |x| {
                if x < low {
                    low
                } else if x > high {
                    high
                } else {
                    x
                }
            });
        }
        let x = call.operand(0)?;
        let reader = Reader::new(&x)?;
        let (dtype, out) = (call.dtype, &mut *call.out);
        for_each_index(x.dims, [x.strides], |i, [at]| write(dtype, out, i, reader.at(at).clamp(low, high)));
        Ok(())
    }),
    gpu: Some(|call| {
        let (low, high) = clamp_bounds(call)?;
        unary_gpu(call, "clamp", "select(select(x, p.c1, x > p.c1), p.c0, x < p.c0)", [low as f32, high as f32])
    }),
};

fn clamp_bounds(call: &Call) -> Result<(f64, f64), OpError> {
    let bound = |index, otherwise| match call.arg(index) {
        Arg::None => Ok(otherwise),
        _ => call.number(index),
    };
    let (low, high) = (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?);
    if low.is_nan() || high.is_nan() || low > high {
        return Err(OpError::Value { operand: "min", expected: "no larger than max", found: low });
    }
    Ok((low, high))
}

impl<T> Tensor<T> {
    /// The elements kept between two numbers.
    ///
    /// # Errors
    /// [`Error::Op`] where `min` is larger than `max`.
    pub fn clamp(&self, min: f64, max: f64) -> Result<Tensor<T>, Error> {
        self.apply(&CLAMP, &[Arg::Number(min), Arg::Number(max)])
    }
}

static SPECIAL: &[&Op] = &[&IS_NAN, &LOGICAL_NOT, &CLAMP];

/// All rows of this file.
pub(super) static TABLES: [&[&Op]; 5] = [FLOAT_FUNCTIONS, NUMBER_FUNCTIONS, ARITHMETIC, COMPARISONS, SPECIAL];
