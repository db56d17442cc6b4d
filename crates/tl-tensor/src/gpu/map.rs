//! Programs that compute each element of a result from one element of each operand.

use smallvec::SmallVec;
use tl_device::{Binding, DType};

use super::indexing::{INDEX, collapse};
use super::launch::{Immediates, ShaderVariant};
use super::math::{MATH, TANH_WGSL};
use super::wgsl::{WORKGROUP, Wgsl, scalar_of};
use crate::OpError;
use crate::op::kernel::{Call, Dispatch};
use crate::operand::OperandOrNumber;

/// The body of a program that computes elements `4 i .. 4 i + 3` of the result, each by `formula` of `i`.
pub(crate) fn elements_body(dtype: DType, formula: &str) -> String {
    let kind = scalar_of(dtype);
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
pub(crate) fn groups(n: usize) -> usize {
    n.div_ceil(4 * WORKGROUP as usize)
}

/// Computes each element by `statement(element)`, which sets `v[k]`.
pub(crate) fn map_unary(
    call: &mut Call,
    name: &'static str,
    statement: &dyn Fn(&str) -> String,
    numbers: [f32; 2],
) -> Result<Dispatch, OpError> {
    let x = call.operand(0)?;
    let is_flat = x.is_contiguous();
    let Some((dims, [strides])) = collapse(x.dims, [x.strides]).filter(|_| x.fits_u32()) else {
        return Ok(Dispatch::Unsupported);
    };
    let place = x.on_gpu()?;
    let (n, dtype) = (call.n_out(), call.dtype);
    let source = |wgsl: Wgsl| {
        let element = if is_flat { "load_x(p.offset + i)" } else { "load_x(p.offset + index(i, p.dims, p.strides))" };
        wgsl.read("x", x.dtype)
            .write("out", dtype)
            .params("dims: vec4<u32>, strides: vec4<u32>, n: u32, offset: u32, c0: f32, c1: f32, zero: u32")
            .text(INDEX)
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

/// Element `i` of the operand `name` as `f32`: of a contiguous operand, of one with strides, or the number in its
/// place.
pub(crate) fn element(name: &str, is_number: bool, is_flat: bool) -> String {
    match (is_number, is_flat) {
        (true, _) => format!("p.{name}_number"),
        (false, true) => format!("f32(load_{name}(p.{name}_offset + i))"),
        (false, false) => format!("f32(load_{name}(p.{name}_offset + index(i, p.dims, p.{name}_strides)))"),
    }
}

/// How a program reads one side of a binary operation.
#[derive(Clone, Copy)]
struct Side {
    dtype: DType,
    is_number: bool,
    /// Whether element `i` of the result reads element `i`.
    is_flat: bool,
}

impl Side {
    fn of(side: &OperandOrNumber, dims: &[usize]) -> Side {
        match side {
            OperandOrNumber::Operand(x) => {
                Side { dtype: x.dtype, is_number: false, is_flat: x.dims == dims && x.is_contiguous() }
            }
            OperandOrNumber::Number(_) => Side { dtype: DType::F32, is_number: true, is_flat: false },
        }
    }
}

/// Computes `formula` of the elements `a` and `b`, which broadcast.
pub(crate) fn map_binary(call: &mut Call, name: &'static str, formula: &'static str) -> Result<Dispatch, OpError> {
    let (a, b) = (call.operand_or_number(0)?, call.operand_or_number(1)?);
    let is_served = |side: &OperandOrNumber| match side {
        OperandOrNumber::Operand(operand) => operand.dtype != DType::I32 && operand.fits_u32(),
        OperandOrNumber::Number(_) => true,
    };
    let (dims, dtype) = (call.dims, call.dtype);
    let (a_strides, b_strides) = (a.strides(dims), b.strides(dims));
    let collapsed = collapse(dims, [&a_strides, &b_strides]);
    let Some((dims4, strides)) = collapsed.filter(|_| is_served(&a) && is_served(&b) && dtype != DType::I32) else {
        return Ok(Dispatch::Unsupported);
    };
    let sides = [Side::of(&a, dims), Side::of(&b, dims)];
    let source = |wgsl: Wgsl| binary_source(wgsl, sides, dtype, formula);
    let dtypes = [sides[0].dtype, sides[1].dtype, dtype];
    let bits = sides.iter().flat_map(|side| [side.is_number, side.is_flat]);
    let flags = bits.fold(0, |flags, bit| flags << 1 | u32::from(bit));
    let shader = ShaderVariant { name, dtypes: &dtypes, flags, reports_faults: false, source: &source };
    let mut reads: SmallVec<[Binding; 2]> = SmallVec::new();
    let (mut offsets, mut numbers) = ([0; 2], [0; 2]);
    for (i, side) in [&a, &b].into_iter().enumerate() {
        match side {
            OperandOrNumber::Operand(operand) => {
                let place = operand.on_gpu()?;
                offsets[i] = place.offset;
                reads.push(place.binding);
            }
            OperandOrNumber::Number(number) => numbers[i] = (*number as f32).to_bits(),
        }
    }
    let n = call.n_out();
    let mut words = Immediates::new();
    words.extend_from_slice(&dims4);
    strides.iter().for_each(|strides| words.extend_from_slice(strides));
    words.push(n as u32);
    words.extend_from_slice(&offsets);
    words.extend_from_slice(&numbers);
    words.push(0);
    call.launch(&shader, &reads, &words, groups(n))
}

/// The program of a binary operation.
fn binary_source(mut wgsl: Wgsl, sides: [Side; 2], dtype: DType, formula: &str) -> String {
    for (name, side) in ["a", "b"].into_iter().zip(&sides) {
        if !side.is_number {
            wgsl = wgsl.read(name, side.dtype);
        }
    }
    let [a, b] = sides;
    let (a, b) = (element("a", a.is_number, a.is_flat), element("b", b.is_number, b.is_flat));
    wgsl.write("out", dtype)
        .params(
            "dims: vec4<u32>, a_strides: vec4<u32>, b_strides: vec4<u32>, n: u32, a_offset: u32, b_offset: u32,
                 a_number: f32, b_number: f32, zero: u32",
        )
        .text(INDEX)
        .text(TANH_WGSL)
        .text(MATH)
        .main(WORKGROUP, &elements_body(dtype, &format!("let a = {a}; let b = {b}; v[k] = {formula};")))
}
