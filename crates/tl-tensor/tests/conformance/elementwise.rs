//! References of the operations on each element for itself.

use tl_device::{DType, Device};
use tl_tensor::ops::{Arg, Op};
use tl_tensor::quant::FORMATS;

use crate::Try;
use crate::nd::{Nd, broadcast_dims};
use crate::values::{
    ALL, EXACT, FEW_ROUNDINGS, FLOATS, Input, Tolerance, arrangements, check, random, weight, whole_rows,
};

/// The last one is split over threads.
const SHAPES: &[&[usize]] = &[&[], &[1], &[7], &[0], &[2, 0, 3], &[3, 5], &[2, 3, 4], &[257, 300]];

pub(crate) fn reference(name: &str) -> Option<Try> {
    Some(match name {
        "clamp" => clamp,
        "where" => choose,
        "apply_attention_mask" => mask,
        "cast" => cast,
        _ if UNARY.iter().any(|row| row.0 == name) => unary,
        _ if BINARY.iter().any(|row| row.0 == name) => binary,
        _ => return None,
    })
}

type Unary = (&'static str, Types, (f64, f64), fn(f64) -> f64, Tolerance);
type Binary = (&'static str, Result, (f64, f64), fn(f64, f64) -> f64, Tolerance);

#[derive(Clone, Copy, PartialEq)]
enum Types {
    Floats,
    All,
    /// All, with a result of truth values.
    AllToBool,
}

#[derive(Clone, Copy, PartialEq)]
enum Result {
    Same,
    Bool,
}

/// Functions that a power series computes in `f32` near 0, where a sum cancels.
const SERIES: Tolerance = Tolerance { absolute: 4e-7, relative: 2e-6 };

const UNARY: &[Unary] = &[
    ("exp", Types::Floats, (-8.0, 8.0), f64::exp, FEW_ROUNDINGS),
    ("log", Types::Floats, (-1.0, 9.0), f64::ln, FEW_ROUNDINGS),
    ("sqrt", Types::Floats, (-1.0, 9.0), f64::sqrt, FEW_ROUNDINGS),
    ("sin", Types::Floats, (-9.0, 9.0), f64::sin, FEW_ROUNDINGS),
    ("cos", Types::Floats, (-9.0, 9.0), f64::cos, FEW_ROUNDINGS),
    ("tan", Types::Floats, (-1.4, 1.4), f64::tan, FEW_ROUNDINGS),
    ("tanh", Types::Floats, (-6.0, 6.0), f64::tanh, SERIES),
    ("sigmoid", Types::Floats, (-12.0, 12.0), sigmoid, FEW_ROUNDINGS),
    ("softplus", Types::Floats, (-12.0, 12.0), |x| x.max(0.0) + (-x.abs()).exp().ln_1p(), SERIES),
    ("silu", Types::Floats, (-12.0, 12.0), |x| x * sigmoid(x), FEW_ROUNDINGS),
    ("gelu", Types::Floats, (-4.0, 4.0), |x| x * 0.5 * (1.0 + erf(x / 2f64.sqrt())), SERIES),
    ("gelu_tanh", Types::Floats, (-4.0, 4.0), gelu_tanh, SERIES),
    ("floor", Types::Floats, (-9.0, 9.0), f64::floor, EXACT),
    ("ceil", Types::Floats, (-9.0, 9.0), f64::ceil, EXACT),
    ("round", Types::Floats, (-9.0, 9.0), f64::round_ties_even, EXACT),
    ("abs", Types::All, (-9.0, 9.0), f64::abs, EXACT),
    ("neg", Types::All, (-9.0, 9.0), |x| -x, EXACT),
    ("relu", Types::All, (-9.0, 9.0), |x| if x < 0.0 { 0.0 } else { x }, EXACT),
    ("is_nan", Types::AllToBool, (-9.0, 9.0), |x| f64::from(x.is_nan()), EXACT),
    ("logical_not", Types::AllToBool, (-3.0, 3.0), |x| f64::from(x == 0.0), EXACT),
];

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
}

/// The error function by its Taylor series, good to 1e-12 for the arguments here.
fn erf(x: f64) -> f64 {
    let mut term = x;
    let mut sum = x;
    for n in 1..100 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn unary(device: &Device, op: &'static Op) {
    let &(_, types, range, f, tolerance) = UNARY.iter().find(|row| row.0 == op.name).unwrap();
    let dtypes = if types == Types::Floats { &FLOATS[..] } else { &ALL };
    for &dtype in dtypes {
        let result = if types == Types::AllToBool { DType::Bool } else { dtype };
        for dims in SHAPES {
            for input in arrangements(device, dtype, &random(dtype, dims, range)) {
                check(device, op, &[input.arg()], &input.label, (result, &input.nd.map(f)), tolerance);
            }
        }
        // Values that need care: NaN and infinities, ties, the ends of the integers' range.
        let special = match dtype {
            DType::Bool => continue,
            DType::I32 => vec![f64::from(i32::MIN), f64::from(i32::MAX), 0.0, -1.0],
            // Here the product with an infinity is left to the kernel's own definition.
            _ if matches!(op.name, "silu" | "gelu" | "gelu_tanh") => vec![f64::NAN, 0.0],
            // Radians of that size are not reduced exactly.
            _ if matches!(op.name, "sin" | "cos" | "tan") => vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0],
            _ => vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -2.5, 60000.0, 1e-7],
        };
        let input = Input::contiguous(device, dtype, Nd::new(&[special.len()], special));
        let input = Input { nd: input.nd.map(|x| crate::values::stored(dtype, x)), ..input };
        check(device, op, &[input.arg()], &input.label, (result, &input.nd.map(f)), tolerance);
    }
}

const BINARY: &[Binary] = &[
    ("add", Result::Same, (-9.0, 9.0), |a, b| a + b, FEW_ROUNDINGS),
    ("sub", Result::Same, (-9.0, 9.0), |a, b| a - b, FEW_ROUNDINGS),
    ("mul", Result::Same, (-9.0, 9.0), |a, b| a * b, FEW_ROUNDINGS),
    ("div", Result::Same, (0.5, 9.0), |a, b| a / b, FEW_ROUNDINGS),
    ("rem", Result::Same, (-9.0, 9.0), |a, b| a % b, EXACT),
    ("pow", Result::Same, (0.5, 4.0), f64::powf, FEW_ROUNDINGS),
    ("minimum", Result::Same, (-9.0, 9.0), f64::min, EXACT),
    ("maximum", Result::Same, (-9.0, 9.0), f64::max, EXACT),
    ("equal", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a == b), EXACT),
    ("not_equal", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a != b), EXACT),
    ("less", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a < b), EXACT),
    ("less_equal", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a <= b), EXACT),
    ("greater", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a > b), EXACT),
    ("greater_equal", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a >= b), EXACT),
    ("logical_and", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a != 0.0 && b != 0.0), EXACT),
    ("logical_or", Result::Bool, (-2.0, 3.0), |a, b| f64::from(a != 0.0 || b != 0.0), EXACT),
];

const PAIRS: &[(&[usize], &[usize])] = &[
    (&[], &[]),
    (&[], &[4]),
    (&[1], &[0]),
    (&[3, 5], &[3, 5]),
    (&[3, 5], &[5]),
    (&[3, 1], &[1, 5]),
    (&[0, 3], &[3]),
    (&[2, 3, 4], &[3, 1]),
    (&[257, 300], &[300]),
    (&[257, 1], &[257, 300]),
];

/// What two broadcast operands give.
fn zip(a: &Nd, b: &Nd, f: impl Fn(f64, f64) -> f64) -> Nd {
    Nd::from_fn(&broadcast_dims(&a.dims, &b.dims), |index| f(a.broadcast_at(index), b.broadcast_at(index)))
}

fn binary(device: &Device, op: &'static Op) {
    let &(_, result, range, f, tolerance) = BINARY.iter().find(|row| row.0 == op.name).unwrap();
    for dtype in ALL {
        // Comparisons of random floats would nearly never find two equal; whole numbers do.
        let values = |dims: &[usize]| {
            let nd = random(dtype, dims, range);
            if result == Result::Bool { nd.map(f64::floor) } else { nd }
        };
        let result = if result == Result::Bool { DType::Bool } else { dtype };
        for (a, b) in PAIRS {
            let (a, b) = (arrangements(device, dtype, &values(a)), arrangements(device, dtype, &values(b)));
            // Every arrangement of one with a contiguous other, and both in the same one.
            let pairs = (a.iter().map(|a| (a, &b[0]))).chain(b.iter().map(|b| (&a[0], b))).chain(a.iter().zip(&b));
            for (a, b) in pairs {
                let label = format!("{} and {}", a.label, b.label);
                check(device, op, &[a.arg(), b.arg()], &label, (result, &zip(&a.nd, &b.nd, f)), tolerance);
            }
        }
        let (number, arg) = if dtype.is_float() { (1.5, Arg::Number(1.5)) } else { (2.0, Arg::Int(2)) };
        for input in arrangements(device, dtype, &values(&[4, 9])) {
            let label = format!("{} and {number}", input.label);
            let (left, right) = (input.nd.map(|x| f(number, x)), input.nd.map(|x| f(x, number)));
            check(device, op, &[arg, input.arg()], &label, (result, &left), tolerance);
            check(device, op, &[input.arg(), arg], &label, (result, &right), tolerance);
        }
    }
    special_pairs(device, op, result, f);
}

/// Every pair of values that need care: integers at the ends of their range and division by 0; NaN and infinities.
fn special_pairs(device: &Device, op: &'static Op, result: Result, f: fn(f64, f64) -> f64) {
    let integers = vec![f64::from(i32::MIN), f64::from(i32::MAX), -7.0, -1.0, 0.0, 1.0, 3.0];
    let floats = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -2.0, -0.0, 0.0, 1.0, 3.0];
    for (dtype, values) in [(DType::I32, integers), (DType::F32, floats.clone()), (DType::F16, floats)] {
        let n = values.len();
        let a = Input::contiguous(device, dtype, Nd::new(&[n, 1], values.clone()));
        let b = Input::contiguous(device, dtype, Nd::new(&[n], values));
        let expected = zip(&a.nd, &b.nd, |a, b| match op.name {
            // `f64::min` would lose a NaN.
            "minimum" | "maximum" if a.is_nan() || b.is_nan() => f64::NAN,
            _ => f(a, b),
        });
        let result = if result == Result::Bool { DType::Bool } else { dtype };
        check(device, op, &[a.arg(), b.arg()], "special values", (result, &expected), FEW_ROUNDINGS);
    }
}

fn clamp(device: &Device, op: &'static Op) {
    for dtype in ALL {
        for input in arrangements(device, dtype, &random(dtype, &[5, 70], (-9.0, 9.0))) {
            let cases = [
                (vec![], (f64::NEG_INFINITY, f64::INFINITY)),
                (vec![Arg::Int(-2)], (-2.0, f64::INFINITY)),
                (vec![Arg::None, Arg::Int(3)], (f64::NEG_INFINITY, 3.0)),
                (vec![Arg::Number(-1.5), Arg::Number(2.5)], (-1.5, 2.5)),
                (vec![Arg::Int(4), Arg::Int(4)], (4.0, 4.0)),
            ];
            for (bounds, (low, high)) in cases {
                let args: Vec<Arg> = std::iter::once(input.arg()).chain(bounds).collect();
                check(device, op, &args, &input.label, (dtype, &input.nd.map(|x| x.clamp(low, high))), EXACT);
            }
        }
    }
    let nan = Input::contiguous(device, DType::F32, Nd::scalar(f64::NAN));
    check(device, op, &[nan.arg(), Arg::Int(0)], "NaN", (DType::F32, &nan.nd), EXACT);
}

fn choose(device: &Device, op: &'static Op) {
    let shapes: &[[&[usize]; 3]] = &[
        [&[], &[], &[]],
        [&[3, 4], &[3, 4], &[3, 4]],
        [&[4], &[3, 4], &[3, 1]],
        [&[2, 1, 4], &[], &[3, 1]],
        [&[0], &[1], &[]],
    ];
    for dtype in ALL {
        for [c, a, b] in shapes {
            for c in arrangements(device, DType::Bool, &random(DType::Bool, c, (0.0, 1.0))) {
                for a in arrangements(device, dtype, &random(dtype, a, (-9.0, 0.0))) {
                    let b = Input::contiguous(device, dtype, random(dtype, b, (1.0, 9.0)));
                    let dims = broadcast_dims(&broadcast_dims(&c.nd.dims, &a.nd.dims), &b.nd.dims);
                    let pick = |index: &[usize]| {
                        let from = if c.nd.broadcast_at(index) != 0.0 { &a } else { &b };
                        from.nd.broadcast_at(index)
                    };
                    let label = format!("{}, {}, {}", c.label, a.label, b.label);
                    let expected = Nd::from_fn(&dims, pick);
                    check(device, op, &[c.arg(), a.arg(), b.arg()], &label, (dtype, &expected), EXACT);
                }
            }
        }
    }
    let c = Input::contiguous(device, DType::Bool, Nd::new(&[2], vec![1.0, 0.0]));
    let numbers = Nd::new(&[2], vec![0.5, 7.0]);
    check(device, op, &[c.arg(), Arg::Number(0.5), Arg::Int(7)], "numbers", (DType::F16, &numbers), EXACT);
    let a = Input::contiguous(device, DType::I32, Nd::new(&[1], vec![3.0]));
    check(device, op, &[c.arg(), a.arg(), Arg::Int(7)], "mixed", (DType::I32, &Nd::new(&[2], vec![3.0, 7.0])), EXACT);
}

fn mask(device: &Device, op: &'static Op) {
    for dtype in FLOATS {
        for (scores, mask) in
            [(&[2, 3, 4][..], &[3, 4][..]), (&[3, 4], &[3, 4]), (&[3, 4], &[1]), (&[1, 4], &[3, 4]), (&[0, 4], &[4])]
        {
            for scores in arrangements(device, dtype, &random(dtype, scores, (-9.0, 9.0))) {
                for mask in arrangements(device, DType::Bool, &random(DType::Bool, mask, (0.0, 1.0))) {
                    let label = format!("{} and {}", scores.label, mask.label);
                    let expected = zip(&scores.nd, &mask.nd, |x, m| if m != 0.0 { x } else { f64::NEG_INFINITY });
                    check(device, op, &[scores.arg(), mask.arg()], &label, (dtype, &expected), EXACT);
                }
                let mask = Input::contiguous(device, dtype, random(dtype, mask, (-9.0, 9.0)));
                let expected = zip(&scores.nd, &mask.nd, |x, m| x + m);
                check(device, op, &[scores.arg(), mask.arg()], &scores.label, (dtype, &expected), FEW_ROUNDINGS);
            }
        }
    }
}

fn cast(device: &Device, op: &'static Op) {
    for dtype in ALL {
        for dims in SHAPES {
            for input in arrangements(device, dtype, &random(dtype, dims, (-900.0, 900.0))) {
                for target in ALL {
                    check(device, op, &[input.arg(), Arg::DType(target)], &input.label, (target, &input.nd), EXACT);
                }
            }
        }
    }
    let wild = vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e9, -3e9, -0.9, 1e-8, 65519.0, 65520.0, 1.5, 2048.5];
    let input = Input::contiguous(device, DType::F32, Nd::new(&[wild.len()], wild).map(|x| f64::from(x as f32)));
    for target in ALL {
        check(device, op, &[input.arg(), Arg::DType(target)], "wild values", (target, &input.nd), EXACT);
    }
    for format in FORMATS {
        for dims in [&[32][..], &[3, 64], &[2, 3, 32], &[0, 32], &[3, 2048 + 32]] {
            let dims = &whole_rows(format, dims)[..];
            let (w, nd) = weight(device, format, dims, (-2.0, 2.0));
            for target in FLOATS {
                check(device, op, &[Arg::from(&w), Arg::DType(target)], &format!("{w:?}"), (target, &nd), EXACT);
            }
            if dims.len() == 2 && dims[0] > 1 {
                let rows = w.slice(0, 1, dims[0]).unwrap();
                let expected = (DType::F32, &nd.sliced(0, 1, dims[0]));
                check(device, op, &[Arg::from(&rows), Arg::DType(DType::F32)], "rows of a weight", expected, EXACT);
                let row = w.select(0, -1).unwrap();
                let last = nd.sliced(0, dims[0] - 1, dims[0]).reshaped(&dims[1..]);
                check(device, op, &[Arg::from(&row), Arg::DType(DType::F32)], "a row", (DType::F32, &last), EXACT);
            }
            if dims.len() == 3 {
                let middle = w.slice(1, 1, 3).unwrap();
                let expected = (DType::F32, &nd.sliced(1, 1, 3));
                check(device, op, &[Arg::from(&middle), Arg::DType(DType::F32)], "rows with gaps", expected, EXACT);
            }
        }
    }
}
