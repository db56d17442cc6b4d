//! Operations on each element for itself: one row each.
//!
//! A row gives the formula twice: in `f32`, which runs vectorized on float tensors, and in `f64`, which serves integers,
//! truth values and comparisons exactly. To add one, add a line to a table below.

use tl_device::DType;

use super::access::{Reader, for_each_index, write};
use super::rule::{RuleArgs, TensorType, broadcast};
use super::{Arg, Call, Default, Group, Kind, Op, Operand, Run, broadcast_strides, optional, required, with_float};
use crate::{Error, Fault, Tensor};

/// Elements for which a stored format has no meaning.
fn refuse_blocks(operand: &'static str, dtype: Option<DType>) -> Result<(), Fault> {
    match dtype {
        Some(found @ DType::Block(_)) => {
            Err(Fault::DType { operand, expected: "an activation (cast the weight first, `w as float16`)", found })
        }
        _ => Ok(()),
    }
}

fn float_rule(args: &RuleArgs) -> Result<TensorType, Fault> {
    let (sizes, dtype) = args.tensor(0)?;
    match dtype {
        Some(found) if !found.is_float() => {
            Err(Fault::DType { operand: "x", expected: "float16 or float32 (cast it first, `x as float32`)", found })
        }
        _ => Ok(TensorType::new(dtype, sizes)),
    }
}

/// As `float_rule`, for operations that integers have too.
fn number_rule(args: &RuleArgs) -> Result<TensorType, Fault> {
    let (sizes, dtype) = args.tensor(0)?;
    refuse_blocks("x", dtype)?;
    Ok(TensorType::new(dtype, sizes))
}

fn unary_float(call: &mut Call, f: impl Fn(f32) -> f32 + Sync + Copy) -> Result<(), Fault> {
    let x = call.operand(0)?;
    let threads = call.threads;
    with_float!(x.dtype, "x", T => {
        tl_kernels::unary::<T, T>(threads, x.kernel_view()?, call.out()?, f);
        Ok(())
    })
}

fn unary_exact(call: &mut Call, f: fn(f64) -> f64) -> Result<(), Fault> {
    let x = call.operand(0)?;
    let reader = Reader::new(&x)?;
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(x.dims, [x.strides], |i, [at]| write(dtype, out, i, f(reader.at(at))));
    Ok(())
}

/// Rows of functions that only floats have: name, formula, doc.
macro_rules! float_functions {
    ($($row:ident $name:ident $doc:literal $f:expr;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("x", Kind::Tensor)],
            rule: float_rule,
            run: Run::Kernel(|call| unary_float(call, $f)),
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
    EXP exp "`e^x`. Float tensors." tl_kernels::exp;
    LOG log "The natural logarithm; NaN below 0. Float tensors." f32::ln;
    SQRT sqrt "The square root; NaN below 0. Float tensors." f32::sqrt;
    SIN sin "The sine, `x` in radians. Float tensors." f32::sin;
    COS cos "The cosine, `x` in radians. Float tensors." f32::cos;
    TAN tan "The tangent, `x` in radians. Float tensors." f32::tan;
    TANH tanh "The hyperbolic tangent. Float tensors." tl_kernels::tanh;
    SIGMOID sigmoid "`1 / (1 + e^-x)`. Float tensors." tl_kernels::sigmoid;
    SILU silu "`x · sigmoid(x)` (Elfwing et al., 2017). Float tensors." tl_kernels::silu;
    GELU gelu "`x · Φ(x)`, Φ being the normal distribution (Hendrycks, Gimpel, 2016). Float tensors." tl_kernels::gelu;
    FLOOR floor "The largest integer no larger. Float tensors." f32::floor;
    CEIL ceil "The smallest integer no smaller. Float tensors." f32::ceil;
    ROUND round "The nearest integer, ties to even. Float tensors." f32::round_ties_even;
}

/// Rows of functions that integers have too: name, formula in `f32`, formula in `f64`, doc.
macro_rules! number_functions {
    ($($row:ident $name:ident $doc:literal $f:expr, $exact:expr;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("x", Kind::Tensor)],
            rule: number_rule,
            run: Run::Kernel(|call| if call.dtype.is_float() { unary_float(call, $f) } else { unary_exact(call, $exact) }),
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
    ABS abs "The absolute value." f32::abs, f64::abs;
    NEG neg "The negative; written `-x`." |x| -x, |x| -x;
    RELU relu "`max(x, 0)`." |x: f32| if x < 0.0 { 0.0 } else { x }, |x| if x < 0.0 { 0.0 } else { x };
}

static IS_NAN: Op = Op {
    name: "is_nan",
    group: Group::Elementwise,
    doc: "Whether the element is not a number. `x: [..] → bool[..]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..number_rule(args)? }),
    run: Run::Kernel(|call| unary_exact(call, |x| f64::from(x.is_nan()))),
};

static LOGICAL_NOT: Op = Op {
    name: "logical_not",
    group: Group::Elementwise,
    doc: "Whether the element is 0 or false; written `not x`. `x: [..] → bool[..]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..number_rule(args)? }),
    run: Run::Kernel(|call| unary_exact(call, |x| f64::from(x == 0.0))),
};

/// Both operands broadcast to one shape and of one type.
fn binary_rule(args: &RuleArgs) -> Result<TensorType, Fault> {
    let dtype = args.common_dtype(&[0, 1])?;
    refuse_blocks("an operand", dtype)?;
    let sizes_of = |index| match args.tensor(index) {
        Ok((sizes, _)) => Ok(Some(sizes)),
        Err(Fault::Unknown) if args.is_tensor(index) => Err(Fault::Unknown),
        Err(_) => Ok(None),
    };
    match (sizes_of(0)?, sizes_of(1)?) {
        (Some(a), Some(b)) => Ok(TensorType::new(dtype, broadcast(a, b)?)),
        (Some(sizes), None) | (None, Some(sizes)) => Ok(TensorType::new(dtype, sizes)),
        (None, None) => Err(Fault::Unknown),
    }
}

/// A tensor, or a number that stands for a tensor of that number everywhere.
enum Side<'a> {
    Tensor(Operand<'a>),
    Number(f64),
}

fn side<'a>(call: &Call<'a>, index: usize) -> Result<Side<'a>, Fault> {
    match call.optional_operand(index) {
        Some(operand) => Ok(Side::Tensor(operand)),
        None => call.number(index).map(Side::Number),
    }
}

impl<'a> Side<'a> {
    fn reader(&self) -> Result<Reader<'a>, Fault> {
        match self {
            Side::Tensor(operand) => Reader::new(operand),
            Side::Number(x) => Ok(Reader::Number(*x)),
        }
    }

    fn strides(&self, dims: &[usize]) -> crate::Strides {
        match self {
            Side::Tensor(operand) => broadcast_strides(operand.dims, operand.strides, dims),
            Side::Number(_) => crate::Strides::from_elem(0, dims.len()),
        }
    }
}

fn binary_float(call: &mut Call, f: impl Fn(f32, f32) -> f32 + Sync + Copy) -> Result<(), Fault> {
    let (a, b) = (side(call, 0)?, side(call, 1)?);
    let (threads, dims) = (call.threads, call.dims);
    with_float!(call.dtype, "an operand", T => {
        match (a, b) {
            // A number meets the elements in `f32`, not rounded to their type.
            (Side::Tensor(a), Side::Number(b)) => {
                let b = b as f32;
                tl_kernels::unary::<T, T>(threads, a.kernel_view()?, call.out()?, move |a| f(a, b));
            }
            (Side::Number(a), Side::Tensor(b)) => {
                let a = a as f32;
                tl_kernels::unary::<T, T>(threads, b.kernel_view()?, call.out()?, move |b| f(a, b));
            }
            (Side::Tensor(a), Side::Tensor(b)) => {
                let a_strides = broadcast_strides(a.dims, a.strides, dims);
                let b_strides = broadcast_strides(b.dims, b.strides, dims);
                let a = tl_kernels::View { data: a.data()?, dims, strides: &a_strides };
                let b = tl_kernels::View { data: b.data()?, dims, strides: &b_strides };
                tl_kernels::binary::<T, T, T>(threads, a, b, call.out()?, f);
            }
            (Side::Number(_), Side::Number(_)) => return Err(Fault::Unknown),
        }
        Ok(())
    })
}

fn binary_exact(call: &mut Call, f: fn(f64, f64) -> f64) -> Result<(), Fault> {
    let (a, b) = (side(call, 0)?, side(call, 1)?);
    let (a_strides, b_strides) = (a.strides(call.dims), b.strides(call.dims));
    let (a, b) = (a.reader()?, b.reader()?);
    let (dtype, out) = (call.dtype, &mut *call.out);
    for_each_index(call.dims, [&a_strides, &b_strides], |i, [at_a, at_b]| {
        write(dtype, out, i, f(a.at(at_a), b.at(at_b)));
    });
    Ok(())
}

/// Rows of arithmetic on two operands: name, operator or function, doc, formula in `f32`, formula in `f64`.
macro_rules! arithmetic {
    ($($row:ident $name:ident $doc:literal $f:expr, $exact:expr;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
            rule: binary_rule,
            run: Run::Kernel(|call| if call.dtype.is_float() { binary_float(call, $f) } else { binary_exact(call, $exact) }),
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
    ADD add "`a + b`, broadcasting as NumPy does. Integers stay within their range." |a, b| a + b, |a, b| a + b;
    SUB sub "`a - b`, broadcasting as NumPy does. Integers stay within their range." |a, b| a - b, |a, b| a - b;
    MUL mul "`a * b`, broadcasting as NumPy does. Integers stay within their range." |a, b| a * b, |a, b| a * b;
    DIV div "`a / b`, broadcasting as NumPy does. Integers are truncated; by 0 they give their largest or smallest value, \
             and 0 / 0 gives 0." |a, b| a / b, |a, b| a / b;
    REM rem "`a % b`, the remainder with the sign of `a`, broadcasting as NumPy does." |a, b| a % b, |a, b| a % b;
    POW pow "`a ** b`, broadcasting as NumPy does." f32::powf, f64::powf;
    MINIMUM minimum "The smaller of the two; NaN where one is NaN."
        |a: f32, b: f32| if a.is_nan() || a < b { a } else { b }, |a, b| if a.is_nan() || a < b { a } else { b };
    MAXIMUM maximum "The larger of the two; NaN where one is NaN."
        |a: f32, b: f32| if a.is_nan() || a > b { a } else { b }, |a, b| if a.is_nan() || a > b { a } else { b };
}

/// Rows of comparisons and logic: name, doc, formula.
macro_rules! comparisons {
    ($($row:ident $name:ident $method:ident $doc:literal $f:expr;)*) => {
        $(static $row: Op = Op {
            name: stringify!($name),
            group: Group::Elementwise,
            doc: $doc,
            params: &[required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
            rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..binary_rule(args)? }),
            run: Run::Kernel(|call| binary_exact(call, |a: f64, b: f64| f64::from($f(a, b)))),
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
    EQUAL equal equal "`a == b` for each element. `→ bool[..]`." |a, b| a == b;
    NOT_EQUAL not_equal not_equal "`a != b` for each element. `→ bool[..]`." |a, b| a != b;
    LESS less less "`a < b` for each element. `→ bool[..]`." |a, b| a < b;
    LESS_EQUAL less_equal less_equal "`a <= b` for each element. `→ bool[..]`." |a, b| a <= b;
    GREATER greater greater "`a > b` for each element. `→ bool[..]`." |a, b| a > b;
    GREATER_EQUAL greater_equal greater_equal "`a >= b` for each element. `→ bool[..]`." |a, b| a >= b;
    LOGICAL_AND logical_and logical_and "Whether both are other than 0; written `a and b`. `→ bool[..]`."
        |a: f64, b: f64| a != 0.0 && b != 0.0;
    LOGICAL_OR logical_or logical_or "Whether one is other than 0; written `a or b`. `→ bool[..]`."
        |a: f64, b: f64| a != 0.0 || b != 0.0;
}

static CLAMP: Op = Op {
    name: "clamp",
    group: Group::Elementwise,
    doc: "`min` where the element is smaller, `max` where it is larger; NaN stays. `x: [..] → [..]`.",
    params: &[
        required("x", Kind::Tensor),
        optional("min", Kind::Number, Default::Absent),
        optional("max", Kind::Number, Default::Absent),
    ],
    rule: number_rule,
    run: Run::Kernel(|call| {
        let bound = |index, otherwise| match call.arg(index) {
            Arg::None => Ok(otherwise),
            _ => call.number(index),
        };
        let (low, high) = (bound(1, f64::NEG_INFINITY)?, bound(2, f64::INFINITY)?);
        if low.is_nan() || high.is_nan() || low > high {
            return Err(Fault::Value { operand: "min", expected: "no larger than max", found: low });
        }
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
};

static WHERE: Op = Op {
    name: "where",
    group: Group::Elementwise,
    doc: "`a` where the condition is true, `b` elsewhere; all three broadcast. `c: bool[..], a, b: [..] → [..]`.",
    params: &[required("c", Kind::Tensor), required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
    rule: |args| {
        let (condition, dtype) = args.tensor(0)?;
        if let Some(found) = dtype.filter(|&dtype| dtype != DType::Bool) {
            return Err(Fault::DType { operand: "c", expected: "bool", found });
        }
        let dtype = args.common_dtype(&[1, 2])?;
        refuse_blocks("an operand", dtype)?;
        let mut sizes = super::Sizes::from_slice(condition);
        let mut has_tensor = false;
        for index in [1, 2] {
            if args.is_tensor(index) {
                has_tensor = true;
                sizes = broadcast(&sizes, args.tensor(index)?.0)?;
            }
        }
        Ok(TensorType::new(dtype.or(if has_tensor { None } else { Some(DType::F16) }), sizes))
    },
    run: Run::Kernel(|call| {
        let condition = call.operand(0)?;
        let (a, b) = (side(call, 1)?, side(call, 2)?);
        let strides = broadcast_strides(condition.dims, condition.strides, call.dims);
        let (a_strides, b_strides) = (a.strides(call.dims), b.strides(call.dims));
        let (condition, a, b) = (Reader::new(&condition)?, a.reader()?, b.reader()?);
        let (dtype, out) = (call.dtype, &mut *call.out);
        for_each_index(call.dims, [&strides, &a_strides, &b_strides], |i, [at, at_a, at_b]| {
            write(dtype, out, i, if condition.at(at) != 0.0 { a.at(at_a) } else { b.at(at_b) });
        });
        Ok(())
    }),
};

static APPLY_ATTENTION_MASK: Op = Op {
    name: "apply_attention_mask",
    group: Group::Transformer,
    doc: "Scores with what may not be seen at minus infinity. A `bool` mask is true where a key may be seen; a float mask is \
          added. The mask broadcasts. `scores: [.., n, m], mask: [n, m] → [.., n, m]`.",
    params: &[required("scores", Kind::Tensor), required("mask", Kind::Tensor)],
    rule: |args| {
        let (scores, dtype) = args.tensor(0)?;
        float_rule(args)?;
        let (mask, mask_dtype) = args.tensor(1)?;
        if mask_dtype.is_some_and(|mask| mask != DType::Bool) {
            args.common_dtype(&[0, 1])?;
        }
        let sizes = broadcast(scores, mask)?;
        if sizes.len() != scores.len() {
            let expected = "no more dimensions than the scores";
            return Err(Fault::Rank { operand: "mask", expected, found: mask.len() });
        }
        Ok(TensorType::new(dtype, sizes))
    },
    run: Run::Kernel(|call| {
        if call.operand(1)?.dtype == DType::Bool {
            binary_exact(call, |score, visible| if visible != 0.0 { score } else { f64::NEG_INFINITY })
        } else {
            binary_float(call, |score, mask| score + mask)
        }
    }),
};

impl<T> Tensor<T> {
    /// The elements kept between two numbers.
    ///
    /// # Errors
    /// [`Error::Op`] where `min` is larger than `max`.
    pub fn clamp(&self, min: f64, max: f64) -> Result<Tensor<T>, Error> {
        self.apply(&CLAMP, &[Arg::Number(min), Arg::Number(max)])
    }

    /// Scores with what may not be seen at minus infinity: see the operation `apply_attention_mask`.
    ///
    /// # Errors
    /// [`Error::Op`] where the mask does not broadcast to the scores.
    pub fn apply_attention_mask<U>(&self, mask: &Tensor<U>) -> Result<Tensor<T>, Error> {
        self.apply(&APPLY_ATTENTION_MASK, &[mask.into()])
    }
}

impl Tensor<bool> {
    /// `a` where this is true, `b` elsewhere.
    ///
    /// # Errors
    /// [`Error::Op`] where the shapes do not broadcast or the types differ.
    pub fn choose<T>(&self, a: &Tensor<T>, b: &Tensor<T>) -> Result<Tensor<T>, Error> {
        self.apply(&WHERE, &[a.into(), b.into()])
    }
}

impl From<f64> for Arg<'_> {
    fn from(number: f64) -> Self {
        Arg::Number(number)
    }
}

static SPECIAL: &[&Op] = &[&IS_NAN, &LOGICAL_NOT, &CLAMP, &WHERE, &APPLY_ATTENTION_MASK];

/// All rows of this file.
pub(super) static TABLES: [&[&Op]; 5] = [FLOAT_FUNCTIONS, NUMBER_FUNCTIONS, ARITHMETIC, COMPARISONS, SPECIAL];
