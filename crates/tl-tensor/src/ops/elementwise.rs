//! Operations on each element for itself: one row each.
//!
//! A row gives the formula up to three times: in `f32`, which runs vectorized on float tensors; in `f64`, which serves integers,
//! truth values and comparisons exactly; in WGSL, for float tensors on a GPU. To add one, add a line to a table below.

use smallvec::SmallVec;
use tl_device::{Binding, DType};

use super::access::{Reader, for_each_index, write};
use super::gpu::{self, Immediates, ShaderVariant, WORKGROUP, Wgsl};
use super::rule::{RuleArgs, TensorType, broadcast};
use super::{
    Arg, Call, DefaultValue, Dispatch, Group, Kind, Map, Op, OpKernel, Operand, broadcast_strides, optional, required,
    with_float,
};
use crate::{Error, OpError, Tensor};

/// Elements for which a stored format has no meaning.
fn refuse_blocks(operand: &'static str, dtype: Option<DType>) -> Result<(), OpError> {
    match dtype {
        Some(found @ DType::Block(_)) => {
            Err(OpError::DType { operand, expected: "an activation (cast the weight first, `w as float16`)", found })
        }
        _ => Ok(()),
    }
}

fn float_rule(args: &RuleArgs) -> Result<TensorType, OpError> {
    let (sizes, dtype) = args.tensor(0)?;
    match dtype {
        Some(found) if !found.is_float() => {
            Err(OpError::DType { operand: "x", expected: "float16 or float32 (cast it first, `x as float32`)", found })
        }
        _ => Ok(TensorType::new(dtype, sizes)),
    }
}

/// As `float_rule`, for operations that integers have too.
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
            gpu: Some(|call| unary_gpu(call, stringify!($name), $wgsl)),
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
            gpu: Some(|call| unary_gpu(call, stringify!($name), $wgsl)),
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
    kernel: OpKernel::Kernel(|call| unary_exact(call, |x| f64::from(x.is_nan()))),
    gpu: Some(|call| unary_gpu(call, "is_nan", "is_nan(x)")),
};

static LOGICAL_NOT: Op = Op {
    name: "logical_not",
    group: Group::Elementwise,
    doc: "Whether the element is 0 or false; written `not x`. `x: [..] → bool[..]`.",
    params: &[required("x", Kind::Tensor)],
    rule: |args| Ok(TensorType { dtype: Some(DType::Bool), ..number_rule(args)? }),
    kernel: OpKernel::Kernel(|call| unary_exact(call, |x| f64::from(x == 0.0))),
    gpu: Some(|call| unary_gpu(call, "logical_not", "x == 0.0")),
};

/// The hyperbolic tangent, near 0 by its power series, where the quotient cancels.
pub(super) const TANH_WGSL: &str = "
fn tanh_(x: f32) -> f32 {
    let s = x * x;
    let near = x * (1.0 + s * (-1.0 / 3.0 + s * (2.0 / 15.0 + s * (-17.0 / 315.0 + s * (62.0 / 2835.0)))));
    return select(1.0 - 2.0 / (exp(2.0 * x) + 1.0), near, abs(x) < 0.3);
}";

/// Functions that the formulas in WGSL use, beside [`TANH_WGSL`].
const MATH: &str = "
fn infinity() -> f32 { return bitcast<f32>(0x7f800000u | p.zero); }
fn not_a_number() -> f32 { return bitcast<f32>(0x7fc00000u | p.zero); }
// Comparisons with what is not a number are false, `!=` among them.
fn is_nan(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u; }
fn is_infinite(x: f32) -> bool { return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u; }
fn sigmoid(x: f32) -> f32 { return 1.0 / (1.0 + exp(-x)); }
// The error function (Abramowitz, Stegun, 7.1.26), to 1.5e-7.
fn erf(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let y = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))));
    return sign(x) * (1.0 - y * exp(-x * x));
}
fn gelu(x: f32) -> f32 { return 0.5 * x * (1.0 + erf(x * 0.70710678)); }
// As a logistic function, where nothing cancels.
fn gelu_tanh(y: f32) -> f32 {
    let x = select(y, -20.0, y < -20.0);
    return x * sigmoid(1.5957691216 * (x + 0.044715 * (x * x * x)));
}
fn minimum(a: f32, b: f32) -> f32 { return select(b, a, is_nan(a) || a < b); }
fn maximum(a: f32, b: f32) -> f32 { return select(b, a, is_nan(a) || a > b); }
// A power of a negative number is one only for whole exponents.
fn pow_(a: f32, b: f32) -> f32 {
    if b == 0.0 || a == 1.0 { return 1.0; }
    if is_nan(a) || is_nan(b) { return not_a_number(); }
    let size = select(pow(abs(a), b), 1.0, a == -1.0);
    if a >= 0.0 { return size; }
    if b != trunc(b) { return not_a_number(); }
    return select(-size, size, b * 0.5 == trunc(b * 0.5));
}
// Without its lower 12 bits, so that a product of two such numbers is exact.
fn upper(x: f32) -> f32 { return bitcast<f32>(bitcast<u32>(x) & 0xfffff000u); }
// The product with the quotient is taken away in exact parts; the quotient is off by one where it was rounded to a whole
// number.
fn remainder(a: f32, b: f32) -> f32 {
    if is_infinite(b) && !is_infinite(a) { return a; }
    let q = trunc(a / b);
    let q1 = upper(q);
    let b1 = upper(b);
    var r = a - q1 * b1 - (q - q1) * b1 - q1 * (b - b1) - (q - q1) * (b - b1);
    if r != 0.0 && (r < 0.0) != (a < 0.0) { r += select(-abs(b), abs(b), a >= 0.0); }
    if abs(r) >= abs(b) { r -= select(-abs(b), abs(b), a >= 0.0); }
    return r;
}";

/// Element `i` of `name`, as a number, in a program whose operand lies flat or at strides; or the number that stands for it.
fn element(name: &str, is_number: bool, is_flat: bool) -> String {
    match (is_number, is_flat) {
        (true, _) => format!("p.{name}_number"),
        (false, true) => format!("f32(load_{name}(p.{name}_offset + i))"),
        (false, false) => format!("f32(load_{name}(p.{name}_offset + index(i, p.dims, p.{name}_strides)))"),
    }
}

/// The body of a program that computes elements `4 i .. 4 i + 3` of the result, each by `formula` of `i`.
fn elements_body(dtype: DType, formula: &str) -> String {
    let kind = gpu::scalar_of(dtype);
    format!(
        "let four = group * {WORKGROUP}u + lane;
    if four * 4u >= p.n {{ return; }}
    var v: vec4<{kind}>;
    for (var k = 0u; k < 4u; k++) {{
        let i = four * 4u + k;
        {formula}
    }}
    store4_out(four, v);"
    )
}

/// Workgroups for a result of `n` elements.
fn groups(n: usize) -> usize {
    n.div_ceil(4 * WORKGROUP as usize)
}

fn unary_gpu(call: &mut Call, name: &'static str, formula: &'static str) -> Result<Dispatch, OpError> {
    map_gpu(call, name, formula, [0.0; 2])
}

/// `formula` of each element `x` and of two numbers, `p.c0` and `p.c1`.
fn map_gpu(call: &mut Call, name: &'static str, formula: &str, numbers: [f32; 2]) -> Result<Dispatch, OpError> {
    let x = call.operand(0)?;
    // Integers are exact only in their own arithmetic, and truth values have none.
    if x.dtype == DType::I32 || x.dtype == DType::Bool && call.dtype == DType::Bool && name != "logical_not" {
        return Ok(Dispatch::Unsupported);
    }
    copy_gpu(call, name, &|i| format!("let x = f32({i}); v[k] = {formula};"), numbers)
}

/// Each element by `statement`, which is given the element and sets `v[k]`.
pub(super) fn copy_gpu(
    call: &mut Call,
    name: &'static str,
    statement: &dyn Fn(&str) -> String,
    numbers: [f32; 2],
) -> Result<Dispatch, OpError> {
    let x = call.operand(0)?;
    let is_flat = x.is_contiguous();
    let Some((dims, [strides])) = gpu::collapse(x.dims, [x.strides]).filter(|_| x.fits_u32()) else {
        return Ok(Dispatch::Unsupported);
    };
    let place = x.place()?;
    let (n, dtype) = (call.n_out(), call.dtype);
    let source = |wgsl: Wgsl| {
        let element = if is_flat { "load_x(p.offset + i)" } else { "load_x(p.offset + index(i, p.dims, p.strides))" };
        wgsl.read("x", x.dtype)
            .write("out", dtype)
            .params("dims: vec4<u32>, strides: vec4<u32>, n: u32, offset: u32, c0: f32, c1: f32, zero: u32")
            .text(gpu::INDEX)
            .text(TANH_WGSL)
            .text(MATH)
            .main(WORKGROUP, &elements_body(dtype, &statement(element)))
    };
    let dtypes = [x.dtype, dtype];
    let shader =
        ShaderVariant { name, dtypes: &dtypes, flags: u32::from(is_flat), reports_faults: false, source: &source };
    let [c0, c1] = numbers.map(f32::to_bits);
    let mut words = Immediates::new();
    words.extend_from_slice(&dims);
    words.extend_from_slice(&strides);
    words.extend_from_slice(&[n as u32, place.offset, c0, c1, 0]);
    call.launch(&shader, &[place.binding], &words, groups(n))
}

/// `formula` of the elements `a` and `b`, which broadcast.
fn binary_gpu(call: &mut Call, name: &'static str, formula: &'static str) -> Result<Dispatch, OpError> {
    let (a, b) = (side(call, 0)?, side(call, 1)?);
    let is_served = |side: &Side| match side {
        Side::Tensor(operand) => operand.dtype != DType::I32 && operand.fits_u32(),
        Side::Number(_) => true,
    };
    let dims = call.dims;
    let (a_strides, b_strides) = (a.strides(dims), b.strides(dims));
    let collapsed = gpu::collapse(dims, [&a_strides, &b_strides]);
    let Some((dims4, strides)) = collapsed.filter(|_| is_served(&a) && is_served(&b)) else {
        return Ok(Dispatch::Unsupported);
    };
    let dtype = call.dtype;
    // Truth values have no arithmetic of their own: it is done on 0 and 1, and left to the CPU where the result is one.
    if dtype == DType::I32 || dtype == DType::Bool && !COMPARISONS.iter().any(|op| op.name == name) {
        return Ok(Dispatch::Unsupported);
    }
    let is_flat = |side: &Side| matches!(side, Side::Tensor(x) if x.dims == dims && x.is_contiguous());
    let is_number = |side: &Side| matches!(side, Side::Number(_));
    let (a_kind, b_kind) = ((is_number(&a), is_flat(&a)), (is_number(&b), is_flat(&b)));
    let dtype_of = |side: &Side| match side {
        Side::Tensor(operand) => operand.dtype,
        Side::Number(_) => DType::F32,
    };
    let dtypes = [dtype_of(&a), dtype_of(&b), dtype];
    let source = |mut wgsl: Wgsl| {
        if !a_kind.0 {
            wgsl = wgsl.read("a", dtypes[0]);
        }
        if !b_kind.0 {
            wgsl = wgsl.read("b", dtypes[1]);
        }
        let (a, b) = (element("a", a_kind.0, a_kind.1), element("b", b_kind.0, b_kind.1));
        wgsl.write("out", dtype)
            .params(
                "dims: vec4<u32>, a_strides: vec4<u32>, b_strides: vec4<u32>, n: u32, a_offset: u32, b_offset: u32,
                 a_number: f32, b_number: f32, zero: u32",
            )
            .text(gpu::INDEX)
            .text(TANH_WGSL)
            .text(MATH)
            .main(WORKGROUP, &elements_body(dtype, &format!("let a = {a}; let b = {b}; v[k] = {formula};")))
    };
    let bits = [a_kind.0, a_kind.1, b_kind.0, b_kind.1];
    let flags = bits.iter().fold(0, |flags, &bit| flags << 1 | u32::from(bit));
    let shader = ShaderVariant { name, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut reads: SmallVec<[Binding; 2]> = SmallVec::new();
    let mut words = Immediates::new();
    words.extend_from_slice(&dims4);
    strides.iter().for_each(|strides| words.extend_from_slice(strides));
    let (mut offsets, mut numbers) = ([0; 2], [0; 2]);
    for (i, side) in [&a, &b].into_iter().enumerate() {
        match side {
            Side::Tensor(operand) => {
                let place = operand.place()?;
                offsets[i] = place.offset;
                reads.push(place.binding);
            }
            Side::Number(number) => numbers[i] = (*number as f32).to_bits(),
        }
    }
    let n = call.n_out();
    words.push(n as u32);
    words.extend_from_slice(&offsets);
    words.extend_from_slice(&numbers);
    words.push(0);
    call.launch(&shader, &reads, &words, groups(n))
}

/// Both operands broadcast to one shape and of one type.
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

/// A tensor, or a number that stands for a tensor of that number everywhere.
enum Side<'a> {
    Tensor(Operand<'a>),
    Number(f64),
}

fn side<'a>(call: &Call<'a>, index: usize) -> Result<Side<'a>, OpError> {
    match call.optional_operand(index) {
        Some(operand) => Ok(Side::Tensor(operand)),
        None => call.number(index).map(Side::Number),
    }
}

impl<'a> Side<'a> {
    fn reader(&self) -> Result<Reader<'a>, OpError> {
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

fn binary_float(call: &mut Call, f: impl Fn(f32, f32) -> f32 + Sync + Copy) -> Result<(), OpError> {
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
            (Side::Number(_), Side::Number(_)) => return Err(OpError::Unknown),
        }
        Ok(())
    })
}

fn binary_exact(call: &mut Call, f: fn(f64, f64) -> f64) -> Result<(), OpError> {
    let (a, b) = (side(call, 0)?, side(call, 1)?);
    let (a_strides, b_strides) = (a.strides(call.dims), b.strides(call.dims));
    let (a, b) = (a.reader()?, b.reader()?);
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
            gpu: Some(|call| binary_gpu(call, stringify!($name), $wgsl)),
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
            kernel: OpKernel::Kernel(|call| binary_exact(call, |a: f64, b: f64| f64::from($f(a, b)))),
            gpu: Some(|call| binary_gpu(call, stringify!($name), $wgsl)),
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
    kernel: OpKernel::Kernel(|call| {
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
        map_gpu(call, "clamp", "select(select(x, p.c1, x > p.c1), p.c0, x < p.c0)", [low as f32, high as f32])
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

static WHERE: Op = Op {
    name: "where",
    group: Group::Elementwise,
    doc: "`a` where the condition is true, `b` elsewhere; all three broadcast. `c: bool[..], a, b: [..] → [..]`.",
    params: &[required("c", Kind::Tensor), required("a", Kind::TensorOrNumber), required("b", Kind::TensorOrNumber)],
    rule: |args| {
        let (condition, dtype) = args.tensor(0)?;
        if let Some(found) = dtype.filter(|&dtype| dtype != DType::Bool) {
            return Err(OpError::DType { operand: "c", expected: "bool", found });
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
    kernel: OpKernel::Kernel(|call| {
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
    gpu: Some(where_gpu),
};

/// `a` where the condition holds, else `b`.
fn where_gpu(call: &mut Call) -> Result<Dispatch, OpError> {
    let condition = call.operand(0)?;
    let (a, b) = (side(call, 1)?, side(call, 2)?);
    let (dims, dtype) = (call.dims, call.dtype);
    let c_strides = broadcast_strides(condition.dims, condition.strides, dims);
    let (a_strides, b_strides) = (a.strides(dims), b.strides(dims));
    let Some((dims4, strides)) = gpu::collapse(dims, [&c_strides, &a_strides, &b_strides]) else {
        return Ok(Dispatch::Unsupported);
    };
    if !dtype.is_float() || !condition.fits_u32() {
        return Ok(Dispatch::Unsupported);
    }
    let is_number = [matches!(a, Side::Number(_)), matches!(b, Side::Number(_))];
    let source = |mut wgsl: Wgsl| {
        wgsl = wgsl.read("c", DType::Bool);
        for (name, is_number) in ["a", "b"].into_iter().zip(is_number) {
            if !is_number {
                wgsl = wgsl.read(name, dtype);
            }
        }
        let (a, b) = (element("a", is_number[0], false), element("b", is_number[1], false));
        let condition = "load_c(p.c_offset + index(i, p.dims, p.c_strides))";
        wgsl.write("out", dtype)
            .params(
                "dims: vec4<u32>, c_strides: vec4<u32>, a_strides: vec4<u32>, b_strides: vec4<u32>, n: u32, c_offset: u32,
                 a_offset: u32, b_offset: u32, a_number: f32, b_number: f32",
            )
            .text(gpu::INDEX)
            .main(WORKGROUP, &elements_body(dtype, &format!("v[k] = select({b}, {a}, {condition});")))
    };
    let dtypes = [dtype];
    let flags = u32::from(is_number[0]) << 1 | u32::from(is_number[1]);
    let shader = ShaderVariant { name: "where", dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut words = Immediates::new();
    words.extend_from_slice(&dims4);
    strides.iter().for_each(|strides| words.extend_from_slice(strides));
    let place = condition.place()?;
    let mut reads: SmallVec<[Binding; 3]> = SmallVec::from_slice(&[place.binding]);
    let (mut offsets, mut numbers) = ([place.offset, 0, 0], [0; 2]);
    for (i, side) in [&a, &b].into_iter().enumerate() {
        match side {
            Side::Tensor(operand) => {
                let place = operand.place()?;
                offsets[i + 1] = place.offset;
                reads.push(place.binding);
            }
            Side::Number(number) => numbers[i] = (*number as f32).to_bits(),
        }
    }
    let n = call.n_out();
    words.push(n as u32);
    words.extend_from_slice(&offsets);
    words.extend_from_slice(&numbers);
    call.launch(&shader, &reads, &words, groups(n))
}

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
            return Err(OpError::Rank { operand: "mask", expected, found: mask.len() });
        }
        Ok(TensorType::new(dtype, sizes))
    },
    kernel: OpKernel::Kernel(|call| {
        let (scores, mask) = (call.operand(0)?, call.operand(1)?);
        if mask.dtype == DType::Bool {
            let dims = call.dims;
            let strides = [&scores, &mask].map(|x| broadcast_strides(x.dims, x.strides, dims));
            let shown = tl_kernels::View { data: mask.bytes, dims, strides: &strides[1] };
            with_float!(call.dtype, "scores", T => {
                let scores = tl_kernels::View { data: scores.data::<T>()?, dims, strides: &strides[0] };
                tl_kernels::mask(call.threads, scores, shown, f32::NEG_INFINITY, call.out()?);
                Ok(())
            })
        } else {
            binary_float(call, |score, mask| score + mask)
        }
    }),
    gpu: Some(|call| {
        if call.operand(1)?.dtype == DType::Bool {
            binary_gpu(call, "visible", "select(-infinity(), a, b != 0.0)")
        } else {
            binary_gpu(call, "mask", "a + b")
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
