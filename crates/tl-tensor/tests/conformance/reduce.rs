//! References of the operations that make one element of many.

use tl_device::{DType, Device};
use tl_tensor::ops::{Arg, Op};

use crate::Try;
use crate::nd::Nd;
use crate::values::{ALL, EXACT, FLOATS, Input, Tolerance, arrangements, check, random, sum_of};

const SHAPES: &[&[usize]] = &[&[], &[1], &[7], &[3, 5], &[2, 3, 4], &[1, 5, 1], &[33, 65], &[3, 1, 400], &[257, 300]];
const EMPTY: &[&[usize]] = &[&[0], &[3, 0], &[2, 0, 3]];

type Row = (&'static str, &'static [DType], fn(&[f64]) -> f64);
const WITH_INTEGERS: &[DType] = &[DType::F16, DType::F32, DType::I32];

const ROWS: &[Row] = &[
    ("sum", &ALL, |line| line.iter().sum()),
    ("mean", &FLOATS, |line| line.iter().sum::<f64>() / line.len() as f64),
    ("max", WITH_INTEGERS, |line| line.iter().copied().fold(f64::NEG_INFINITY, larger)),
    ("min", WITH_INTEGERS, |line| line.iter().copied().fold(f64::INFINITY, |a, b| -larger(-a, -b))),
    ("norm", &FLOATS, |line| line.iter().map(|x| x * x).sum::<f64>().sqrt()),
    ("any", &ALL, |line| f64::from(line.iter().any(|x| *x != 0.0))),
    ("all", &ALL, |line| f64::from(line.iter().all(|x| *x != 0.0))),
    ("prod", WITH_INTEGERS, |line| line.iter().product()),
    ("var", &FLOATS, variance),
    ("std", &FLOATS, |line| variance(line).sqrt()),
    ("argmax", WITH_INTEGERS, |line| place(line, |a, b| a > b)),
    ("argmin", WITH_INTEGERS, |line| place(line, |a, b| a < b)),
];

fn variance(line: &[f64]) -> f64 {
    let mean = line.iter().sum::<f64>() / line.len() as f64;
    line.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / line.len() as f64
}

/// The type of a reduction's result.
fn result_of(name: &str, dtype: DType) -> DType {
    match name {
        "any" | "all" => DType::Bool,
        "argmax" | "argmin" => DType::I32,
        "sum" if dtype == DType::Bool => DType::I32,
        _ => dtype,
    }
}

fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// The first of the best, or the first NaN.
fn place(line: &[f64], is_better: fn(f64, f64) -> bool) -> f64 {
    let best = (1..line.len()).fold(0, |best, j| {
        let is_first_nan = line[j].is_nan() && !line[best].is_nan();
        if is_first_nan || is_better(line[j], line[best]) { j } else { best }
    });
    best as f64
}

pub(crate) fn reference(name: &str) -> Option<Try> {
    match name {
        "softmax" | "log_softmax" => Some(softmax),
        "topk" | "argtopk" => Some(top),
        "sort" | "argsort" => Some(sort),
        "cumsum" => Some(cumsum),
        _ => ROWS.iter().any(|row| row.0 == name).then_some(reduce),
    }
}

/// The places of a line's elements from the largest to the smallest: of equals the first one first, NaN before everything.
fn descending(line: &[f64]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..line.len()).collect();
    // Sorting keeps the order of equals.
    places.sort_by(|&a, &b| {
        let (a, b) = (line[a], line[b]);
        b.is_nan().cmp(&a.is_nan()).then(b.partial_cmp(&a).unwrap_or(std::cmp::Ordering::Equal))
    });
    places
}

fn top(device: &Device, op: &'static Op) {
    let is_place = op.name == "argtopk";
    for &dtype in WITH_INTEGERS {
        let result = if is_place { DType::I32 } else { dtype };
        let try_all = |input: &Input, ks: &[usize]| {
            for &k in ks {
                let expected = input.nd.along(input.nd.rank() - 1, k, |line| {
                    let value = |place: &usize| if is_place { *place as f64 } else { line[*place] };
                    descending(line)[..k].iter().map(value).collect()
                });
                check(device, op, &[input.arg(), Arg::Int(k as i64)], &input.label, (result, &expected), EXACT);
            }
        };
        for dims in [&[1][..], &[7], &[3, 5], &[2, 3, 4], &[33, 65], &[0, 4], &[2, 0], &[40, 300], &[2, 3000]] {
            let n = dims[dims.len() - 1];
            // Some of them equal.
            let values = random(dtype, dims, (-4.0, 4.0)).map(|x| (x * 8.0).round() / 8.0);
            for input in arrangements(device, dtype, &values) {
                let ks: Vec<usize> = [0, 1, 3, 4, 8].into_iter().filter(|&k| k <= n).collect();
                try_all(&input, &ks);
            }
        }
        for input in arrangements(device, dtype, &random(dtype, &[3, 5, 4], (-9.0, 9.0))) {
            for axis in 0..3 {
                let expected = input.nd.along(axis, 2, |line| {
                    let value = |place: &usize| if is_place { *place as f64 } else { line[*place] };
                    descending(line)[..2].iter().map(value).collect()
                });
                let args = [input.arg(), Arg::Int(2), Arg::Int(axis as i64 - 3)];
                check(device, op, &args, &input.label, (result, &expected), EXACT);
            }
        }
        if dtype == DType::I32 {
            continue;
        }
        let values = vec![1.0, f64::NAN, -2.0, 2.0, f64::NEG_INFINITY, 2.0, f64::NAN, f64::INFINITY, 1e-7, -1e-7];
        let values = Nd::new(&[1, values.len()], values).map(|x| crate::values::stored(dtype, x));
        try_all(&Input::contiguous(device, dtype, values), &[1, 2, 3, 7, 10]);
    }
}

/// The places of a line's elements from the smallest to the largest: of equals the first one first, NaN after everything.
fn ascending(line: &[f64]) -> Vec<usize> {
    let mut places: Vec<usize> = (0..line.len()).collect();
    places.sort_by(|&a, &b| {
        let (a, b) = (line[a], line[b]);
        a.is_nan().cmp(&b.is_nan()).then(a.partial_cmp(&b).unwrap_or(std::cmp::Ordering::Equal))
    });
    places
}

/// Calls `try_one` with tensors of one type along each of their dimensions, by its number from the end.
fn along_dimensions(device: &Device, dtype: DType, mut try_one: impl FnMut(&Input, usize, Arg<'_>)) {
    for dims in SHAPES.iter().chain(EMPTY).filter(|dims| !dims.is_empty()) {
        // Some of them equal.
        let values = random(dtype, dims, (-4.0, 4.0)).map(|x| (x * 8.0).round() / 8.0);
        let values = if dtype == DType::Bool { random(dtype, dims, (0.0, 2.0)) } else { values };
        let values = values.map(|x| crate::values::stored(dtype, x));
        for input in arrangements(device, dtype, &values) {
            for axis in 0..dims.len() {
                try_one(&input, axis, Arg::Int(axis as i64 - dims.len() as i64));
            }
        }
    }
}

fn sort(device: &Device, op: &'static Op) {
    let is_place = op.name == "argsort";
    for &dtype in WITH_INTEGERS {
        let result = if is_place { DType::I32 } else { dtype };
        let try_one = |input: &Input, axis: usize, dim: Arg<'_>| {
            let n = input.nd.dims[axis];
            for order in [ascending, descending] {
                let expected = input.nd.along(axis, n, |line| {
                    let value = |place: &usize| if is_place { *place as f64 } else { line[*place] };
                    order(line).iter().map(value).collect()
                });
                let is_descending = Arg::Bool(order(&[0.0, 1.0])[0] == 1);
                check(device, op, &[input.arg(), dim, is_descending], &input.label, (result, &expected), EXACT);
            }
        };
        along_dimensions(device, dtype, try_one);
        if dtype != DType::I32 {
            let values = vec![f64::NAN, 1.0, f64::NEG_INFINITY, f64::INFINITY, 1.0, f64::NAN, -2.0];
            try_one(&Input::contiguous(device, dtype, Nd::new(&[7], values)), 0, Arg::Int(0));
        }
    }
}

fn cumsum(device: &Device, op: &'static Op) {
    for dtype in ALL {
        let result = if dtype == DType::Bool { DType::I32 } else { dtype };
        along_dimensions(device, dtype, |input, axis, dim| {
            let n = input.nd.dims[axis];
            let expected = input.nd.along(axis, n, |line| {
                let sums = line.iter().scan(0.0, |sum, x| {
                    *sum += x;
                    Some(*sum)
                });
                sums.collect()
            });
            // Eighths are summed exactly as long as they are small.
            check(device, op, &[input.arg(), dim], &input.label, (result, &expected), sum_of(n, 4.0));
        });
    }
}

fn reduce(device: &Device, op: &'static Op) {
    let &(_, dtypes, f) = ROWS.iter().find(|row| row.0 == op.name).unwrap();
    let is_place = op.name.starts_with("arg");
    for &dtype in dtypes {
        let result = result_of(op.name, dtype);
        for dims in SHAPES.iter().chain(if is_place { &[][..] } else { EMPTY }) {
            for input in arrangements(device, dtype, &random(dtype, dims, (-4.0, 4.0))) {
                along_each_axis(device, op, &input, result, f);
            }
        }
    }
    for dtype in FLOATS {
        // Equal elements, of which the first counts, and NaN, which is never lost.
        let values = vec![1.0, 2.0, 2.0, f64::NAN, 5.0, f64::NAN, -1.0, -1.0, f64::NEG_INFINITY, f64::INFINITY];
        let input = Input::contiguous(device, dtype, Nd::new(&[5, 2], values));
        along_each_axis(device, op, &input, result_of(op.name, dtype), f);
    }
}

/// Over everything, and along every dimension by its number from either end, with and without `keepdim`.
fn along_each_axis(device: &Device, op: &'static Op, input: &Input, result: DType, f: fn(&[f64]) -> f64) {
    let tolerance = |n: usize| match op.name {
        "sum" => sum_of(n, 4.0),
        // The sum's tolerance, divided like the sum.
        "mean" => Tolerance { absolute: sum_of(n, 4.0).absolute / n.max(1) as f64, ..sum_of(n, 4.0) },
        "norm" => Tolerance { absolute: 1e-7, relative: 2e-6 },
        // The order of factors and terms, in 64 bits.
        "prod" | "var" | "std" => Tolerance { absolute: 1e-12, relative: 1e-12 },
        _ => EXACT,
    };
    let rank = input.nd.rank();
    let all = f(&input.nd.data);
    let n = input.nd.data.len();
    check(device, op, &[input.arg()], &input.label, (result, &Nd::scalar(all)), tolerance(n));
    let kept = Nd::new(&vec![1; rank], vec![all]);
    check(device, op, &[input.arg(), Arg::None, Arg::Bool(true)], &input.label, (result, &kept), tolerance(n));
    for axis in 0..rank {
        let n = input.nd.dims[axis];
        let kept = input.nd.along(axis, 1, |line| vec![f(line)]);
        let mut dims = input.nd.dims.clone();
        dims.remove(axis);
        let reduced = kept.reshaped(&dims);
        let from_end = Arg::Int(axis as i64 - rank as i64);
        let label = format!("{} along {axis}", input.label);
        let check = |args: &[Arg<'_>], expected: &Nd| {
            check(device, op, args, &label, (result, expected), tolerance(n));
        };
        check(&[input.arg(), Arg::Int(axis as i64)], &reduced);
        check(&[input.arg(), from_end, Arg::Bool(true)], &kept);
    }
}

fn softmax(device: &Device, op: &'static Op) {
    let is_log = op.name == "log_softmax";
    let f = |line: &[f64]| -> Vec<f64> {
        let largest = line.iter().copied().fold(f64::NEG_INFINITY, larger);
        let sum: f64 = line.iter().map(|x| (x - largest).exp()).sum();
        line.iter().map(|x| if is_log { x - largest - sum.ln() } else { (x - largest).exp() / sum }).collect()
    };
    // Exponentials of sums: the relative error of a term is the absolute one of its exponent.
    let tolerance = Tolerance { absolute: 2e-6, relative: 2e-6 };
    for dtype in FLOATS {
        for dims in SHAPES.iter().chain(EMPTY).filter(|dims| !dims.is_empty()) {
            for input in arrangements(device, dtype, &random(dtype, dims, (-8.0, 8.0))) {
                for axis in 0..dims.len() {
                    let expected = input.nd.along(axis, dims[axis], f);
                    let args = [input.arg(), Arg::Int(axis as i64)];
                    check(device, op, &args, &format!("{} along {axis}", input.label), (dtype, &expected), tolerance);
                }
                let last = input.nd.along(dims.len() - 1, dims[dims.len() - 1], f);
                check(device, op, &[input.arg()], &input.label, (dtype, &last), tolerance);
            }
        }
        // Masked scores; and scores whose exponentials do not fit.
        let values = vec![f64::NEG_INFINITY, 3.0, f64::NEG_INFINITY, 1.0, 60000.0, 59000.0, -60000.0, 60000.0];
        let input = Input::contiguous(device, dtype, Nd::new(&[2, 4], values).map(|x| crate::values::stored(dtype, x)));
        let columns = Input::contiguous(device, dtype, input.nd.permuted(&[1, 0]));
        let (by_row, by_column) = (input.nd.along(1, 4, f), columns.nd.along(0, 4, f));
        check(device, op, &[input.arg(), Arg::Int(-1)], "extremes", (dtype, &by_row), tolerance);
        check(device, op, &[columns.arg(), Arg::Int(0)], "extremes", (dtype, &by_column), tolerance);
    }
}
