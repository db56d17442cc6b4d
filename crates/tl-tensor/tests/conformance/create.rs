//! References of the operations that make tensors from nothing.

use tl_device::{DType, Device};
use tl_tensor::ops::{Arg, Op};

use crate::Try;
use crate::nd::Nd;
use crate::values::{ALL, EXACT, FEW_ROUNDINGS, FLOATS, check};

pub(crate) fn reference(name: &str) -> Option<Try> {
    Some(match name {
        "zeros" => |device, op| filled(device, op, &[], 0.0),
        "ones" => |device, op| filled(device, op, &[], 1.0),
        "full" => full,
        "arange" => arange,
        "eye" => eye,
        "positional_encoding" => positional_encoding,
        "causal_mask" => causal_mask,
        "yarn_factors" => yarn_factors,
        _ => return None,
    })
}

fn filled(device: &Device, op: &'static Op, value: &[Arg<'_>], x: f64) {
    for dims in [&[][..], &[1], &[0], &[3, 0], &[3, 5], &[2, 3, 4], &[257, 300]] {
        let ints: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let expected = Nd::from_fn(dims, |_| x);
        let args: Vec<Arg> = std::iter::once(Arg::Ints(&ints)).chain(value.iter().cloned()).collect();
        check(device, op, &args, "a shape", (DType::F16, &expected), EXACT);
        for dtype in ALL {
            let args: Vec<Arg> = args.iter().cloned().chain([Arg::DType(dtype)]).collect();
            check(device, op, &args, "a shape", (dtype, &expected), EXACT);
        }
    }
}

fn full(device: &Device, op: &'static Op) {
    for x in [0.0, -0.0, 2.5, -1.0, 1e9, 0.1, f64::NAN, f64::NEG_INFINITY] {
        filled(device, op, &[Arg::Number(x)], x);
    }
    filled(device, op, &[Arg::Int(-7)], -7.0);
}

fn arange(device: &Device, op: &'static Op) {
    for (start, end, step) in
        [(0, 5, 1), (0, 5, 2), (-3, 4, 3), (5, 0, -2), (5, 0, 1), (0, 0, 1), (7, 8, 100), (-1, -9, -4)]
    {
        let values = (0..).map(|i| start + i * step).take_while(|&x| if step > 0 { x < end } else { x > end });
        let values: Vec<f64> = values.map(|x| x as f64).collect();
        let expected = Nd::new(&[values.len()], values);
        let args = [Arg::Int(start), Arg::Int(end), Arg::Int(step)];
        check(device, op, &args, "bounds", (DType::I32, &expected), EXACT);
        for dtype in ALL {
            let args: Vec<Arg> = args.iter().cloned().chain([Arg::DType(dtype)]).collect();
            check(device, op, &args, "bounds", (dtype, &expected), EXACT);
        }
    }
    let three = Nd::new(&[3], vec![4.0, 5.0, 6.0]);
    check(device, op, &[Arg::Int(4), Arg::Int(7)], "no step", (DType::I32, &three), EXACT);
}

fn eye(device: &Device, op: &'static Op) {
    for n in [0, 1, 5, 70] {
        let expected = Nd::from_fn(&[n, n], |i| f64::from(i[0] == i[1]));
        check(device, op, &[Arg::Int(n as i64)], "a size", (DType::F16, &expected), EXACT);
        for dtype in ALL {
            check(device, op, &[Arg::Int(n as i64), Arg::DType(dtype)], "a size", (dtype, &expected), EXACT);
        }
    }
}

fn positional_encoding(device: &Device, op: &'static Op) {
    for (n, d) in [(0, 4), (1, 1), (9, 7), (100, 64), (3, 0)] {
        let expected = Nd::from_fn(&[n, d], |i| {
            let angle = i[0] as f64 * 10000f64.powf(-((i[1] / 2 * 2) as f64) / d as f64);
            if i[1] % 2 == 0 { angle.sin() } else { angle.cos() }
        });
        let args = [Arg::Int(n as i64), Arg::Int(d as i64)];
        check(device, op, &args, "sizes", (DType::F16, &expected), FEW_ROUNDINGS);
        for dtype in FLOATS {
            let args: Vec<Arg> = args.iter().cloned().chain([Arg::DType(dtype)]).collect();
            check(device, op, &args, "sizes", (dtype, &expected), FEW_ROUNDINGS);
        }
    }
}

fn causal_mask(device: &Device, op: &'static Op) {
    for (n, m) in [(0, 0), (1, 1), (5, 5), (2, 7), (7, 2), (3, 0), (0, 3)] {
        let expected = Nd::from_fn(&[n, m], |i| f64::from((i[1] + n) <= i[0] + m));
        let args = [Arg::Int(n as i64), Arg::Int(m as i64)];
        check(device, op, &args, "sizes", (DType::Bool, &expected), EXACT);
        if n == m {
            check(device, op, &args[..1], "one size", (DType::Bool, &expected), EXACT);
        }
    }
}

fn yarn_factors(device: &Device, op: &'static Op) {
    // From frequencies, as the paper has them.
    let divisor = |pair: usize, dims: usize, [base, factor, context, fast, slow]: [f64; 5], truncate: bool| {
        let frequency = f64::powf(base, -2.0 * pair as f64 / dims as f64);
        // Where a frequency turns so many times in the context.
        let pair_of =
            |turns: f64| dims as f64 * f64::ln(context / (turns * 2.0 * std::f64::consts::PI)) / (2.0 * base.ln());
        let (low, high) = (pair_of(fast), pair_of(slow));
        let (low, high) = if truncate { (low.floor(), high.ceil()) } else { (low, high) };
        let (low, mut high) = (low.max(0.0), high.min(dims as f64 - 1.0));
        if low == high {
            high += 0.001;
        }
        let kept = 1.0 - ((pair as f64 - low) / (high - low)).clamp(0.0, 1.0);
        frequency / (frequency / factor * (1.0 - kept) + frequency * kept)
    };
    for dims in [0, 2, 16, 64, 600] {
        for (numbers, truncate) in [
            ([10000.0, 4.0, 4096.0, 32.0, 1.0], true),
            ([150000.0, 32.0, 4096.0, 32.0, 1.0], false),
            ([1e6, 4.0, 32768.0, 32.0, 1.0], true),
            ([1e4, 2.0, 64.0, 1.0, 1.0], true),
            ([1e4, 8.0, 1.0, 32.0, 1.0], true),
            ([1e4, 0.5, 1e9, 4.0, 2.0], false),
        ] {
            let expected = Nd::from_fn(&[dims / 2], |i| divisor(i[0], dims, numbers, truncate));
            let args: Vec<Arg> = std::iter::once(Arg::Int(dims as i64))
                .chain(numbers.map(Arg::Number))
                .chain(std::iter::once(Arg::Bool(truncate)))
                .collect();
            check(device, op, &args, "numbers", (DType::F32, &expected), FEW_ROUNDINGS);
        }
    }
    // Worked out by hand: bounds at 2.02 and 6.1, whole numbers of which mix three pairs; and without rounding, as gpt-oss has it.
    let rounded = [1.0, 1.0, 1.0, 16.0 / 13.0, 1.6, 16.0 / 7.0, 4.0, 4.0];
    let args = [Arg::Int(16), Arg::Number(1e4), Arg::Int(4), Arg::Int(4096)];
    check(device, op, &args, "defaults", (DType::F32, &Nd::new(&[8], rounded.to_vec())), FEW_ROUNDINGS);
    let mut unrounded = vec![4.0; 16];
    unrounded[..4].copy_from_slice(&[1.0, 1.317_008_8, 1.928_295_4, 3.598_557_5]);
    let args = [Arg::Int(32), Arg::Int(150_000), Arg::Int(4), Arg::Int(64), Arg::None, Arg::None, Arg::Bool(false)];
    check(device, op, &args, "not rounded", (DType::F32, &Nd::new(&[16], unrounded)), FEW_ROUNDINGS);
}
