//! References of the operations that arrange elements anew, by copy or as views. Views are tested by their contents, and by
//! lying in the memory that they are views of.

use std::sync::LazyLock;

use proptest::prelude::*;
use tl_device::{DType, Device};
use tl_tensor::ops::{Arg, Op};
use tl_tensor::quant::FORMATS;
use tl_tensor::{Random, Tensor};

use crate::Try;
use crate::nd::Nd;
use crate::values::{
    ALL, EXACT, Input, arrangements, assert_elements, check, elements, is_same_memory, random, stored, tensor, weight,
    whole_rows,
};

const SHAPES: &[&[usize]] = &[&[], &[1], &[7], &[0], &[3, 0, 2], &[3, 5], &[1, 4, 1], &[2, 3, 4], &[33, 1100]];

pub(crate) fn reference(name: &str) -> Option<Try> {
    Some(match name {
        "reshape" => reshape,
        "flatten" => flatten,
        "transpose" => transpose,
        "permute" => permute,
        "squeeze" => squeeze,
        "unsqueeze" => unsqueeze,
        "broadcast_to" => broadcast_to,
        "slice" => slice,
        "slice_last" => slice_last,
        "select" => select,
        "contiguous" => contiguous,
        "concat" => concat,
        "index_select" => index_select,
        "gather" => gather,
        "scatter" => scatter,
        _ => return None,
    })
}

/// Calls `body` with every type, shape and arrangement; the elements tell places apart.
fn for_inputs(device: &Device, mut body: impl FnMut(&Input)) {
    for dtype in ALL {
        for dims in SHAPES {
            let mut n = 0.0;
            // Up to 2048, whole numbers are exact in every number type.
            let counted = Nd::from_fn(dims, |_| {
                n = (n + 1.0) % 2000.0;
                if dtype == DType::Bool { f64::from((n as u32 * 7).is_multiple_of(3)) } else { n }
            });
            arrangements(device, dtype, &counted).iter().for_each(&mut body);
        }
    }
}

fn check_view(device: &Device, op: &'static Op, input: &Input, rest: &[Arg<'_>], expected: &Nd) {
    let result = check_copy(device, op, input, rest, expected);
    let is_view = is_same_memory(&result, &input.tensor);
    assert!(is_view || input.is_repeated(), "{} of {} is no view", op.name, input.label);
}

fn check_copy(device: &Device, op: &'static Op, input: &Input, rest: &[Arg<'_>], expected: &Nd) -> Tensor {
    let args: Vec<Arg> = std::iter::once(input.arg()).chain(rest.iter().cloned()).collect();
    check(device, op, &args, &input.label, (input.tensor.dtype(), expected), EXACT)
}

fn reshape(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let n = input.nd.data.len();
        let mut shapes = vec![vec![n], vec![1, n, 1]];
        shapes.extend([2, 3, 4, 5].iter().filter(|&d| n % d == 0).map(|&d| vec![n / d, d]));
        let reversed: Vec<usize> = input.nd.dims.iter().rev().copied().collect();
        shapes.push(reversed);
        for dims in shapes {
            let expected = input.nd.reshaped(&dims);
            let ints: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
            if input.tensor.as_dyn().is_contiguous() {
                check_view(device, op, input, &[Arg::Ints(&ints)], &expected);
            } else {
                check_copy(device, op, input, &[Arg::Ints(&ints)], &expected);
            }
            for hole in 0..dims.len() {
                if n > 0 {
                    let ints: Vec<i64> = (0..dims.len()).map(|i| if i == hole { -1 } else { ints[i] }).collect();
                    check_copy(device, op, input, &[Arg::Ints(&ints)], &expected);
                }
            }
        }
        // Dimensions of size 1 come and go without a copy, however the tensor lies.
        let with_ones: Vec<i64> = input.nd.dims.iter().flat_map(|&dim| [1, dim as i64]).collect();
        let expected = input.nd.reshaped(&with_ones.iter().map(|&dim| dim as usize).collect::<Vec<_>>());
        check_view(device, op, input, &[Arg::Ints(&with_ones)], &expected);
    });
    // A part of a transposed tensor whose dimensions continue each other is reshaped where it lies.
    let nd = Nd::from_fn(&[4, 2, 3], |i| (i[0] * 6 + i[1] * 3 + i[2]) as f64);
    let permuted = tensor(device, DType::F32, &nd).permute(&[1, 2, 0]).unwrap();
    let input = Input { tensor: permuted, nd: nd.permuted(&[1, 2, 0]), label: "permuted".into() };
    check_view(device, op, &input, &[Arg::Ints(&[6, 4])], &input.nd.reshaped(&[6, 4]));
    check_view(device, op, &input, &[Arg::Ints(&[3, 2, 2, 2])], &input.nd.reshaped(&[3, 2, 2, 2]));
}

fn flatten(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        check_copy(device, op, input, &[], &input.nd.reshaped(&[input.nd.data.len()]));
    });
}

fn swapped(rank: usize, a: usize, b: usize) -> Vec<usize> {
    let mut axes: Vec<usize> = (0..rank).collect();
    axes.swap(a, b);
    axes
}

fn transpose(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let rank = input.nd.rank();
        for (a, b) in (0..rank).flat_map(|a| (0..rank).map(move |b| (a, b))) {
            let expected = input.nd.permuted(&swapped(rank, a, b));
            let (a, from_end) = (Arg::Int(a as i64), Arg::Int(b as i64 - rank as i64));
            check_view(device, op, input, &[a, from_end], &expected);
        }
        if rank >= 2 {
            check_view(device, op, input, &[], &input.nd.permuted(&swapped(rank, rank - 2, rank - 1)));
        }
    });
}

fn permute(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let rank = input.nd.rank();
        for first in 0..rank.max(1) {
            let axes: Vec<usize> = (0..rank).map(|i| (i + first) % rank).collect();
            let ints: Vec<i64> =
                axes.iter().map(|&axis| if axis == 1 { 1 - rank as i64 } else { axis as i64 }).collect();
            check_view(device, op, input, &[Arg::Ints(&ints)], &input.nd.permuted(&axes));
        }
    });
}

fn squeeze(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let rank = input.nd.rank();
        for axis in (0..rank).filter(|&axis| input.nd.dims[axis] == 1) {
            let mut dims = input.nd.dims.clone();
            dims.remove(axis);
            for axis in [axis as i64, axis as i64 - rank as i64] {
                check_view(device, op, input, &[Arg::Int(axis)], &input.nd.reshaped(&dims));
            }
        }
    });
}

fn unsqueeze(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let rank = input.nd.rank();
        for axis in 0..=rank {
            let mut dims = input.nd.dims.clone();
            dims.insert(axis, 1);
            for axis in [axis as i64, axis as i64 - rank as i64 - 1] {
                check_view(device, op, input, &[Arg::Int(axis)], &input.nd.reshaped(&dims));
            }
        }
    });
}

fn broadcast_to(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let mut targets =
            vec![input.nd.dims.clone(), [&[2, 3], &input.nd.dims[..]].concat(), [&[0], &input.nd.dims[..]].concat()];
        targets.push(input.nd.dims.iter().map(|&dim| if dim == 1 { 4 } else { dim }).collect());
        targets.push(input.nd.dims.iter().map(|&dim| if dim == 1 { 0 } else { dim }).collect());
        for dims in targets {
            let ints: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
            check_view(device, op, input, &[Arg::Ints(&ints)], &input.nd.broadcast_to(&dims));
        }
    });
}

fn slice(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        for (axis, &n) in input.nd.dims.iter().enumerate() {
            for (start, end) in [(0, n), (0, 0), (n, n), (n / 2, n), (n / 3, n - n / 3)] {
                let expected = input.nd.sliced(axis, start, end);
                let args = [Arg::Int(axis as i64), Arg::Int(start as i64), Arg::Int(end as i64)];
                check_view(device, op, input, &args, &expected);
                if start < n && end < n {
                    let from_end = |i: usize| Arg::Int(i as i64 - n as i64);
                    let args = [Arg::Int(axis as i64 - input.nd.rank() as i64), from_end(start), from_end(end)];
                    check_view(device, op, input, &args, &expected);
                }
            }
        }
    });
}

fn slice_last(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        for (axis, &n) in input.nd.dims.iter().enumerate().filter(|(_, n)| **n > 0) {
            check_view(device, op, input, &[Arg::Int(axis as i64)], &input.nd.sliced(axis, n - 1, n));
        }
    });
}

fn select(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        for (axis, &n) in input.nd.dims.iter().enumerate() {
            let mut dims = input.nd.dims.clone();
            dims.remove(axis);
            for index in [0, n / 2, n.saturating_sub(1)].into_iter().filter(|&index| index < n) {
                let expected = input.nd.sliced(axis, index, index + 1).reshaped(&dims);
                for index in [index as i64, index as i64 - n as i64] {
                    check_view(device, op, input, &[Arg::Int(axis as i64), Arg::Int(index)], &expected);
                }
            }
        }
    });
}

fn contiguous(device: &Device, op: &'static Op) {
    for_inputs(device, |input| {
        let result = check_copy(device, op, input, &[], &input.nd);
        assert!(result.as_dyn().is_contiguous());
        assert!(!is_same_memory(&result, &input.tensor), "the operation always copies");
        let method = input.tensor.contiguous().unwrap();
        assert_elements(&method, &input.nd);
        let is_same = is_same_memory(&method, &input.tensor);
        assert_eq!(is_same, input.tensor.as_dyn().is_contiguous(), "the method copies where it must");
    });
    // A weight keeps its format.
    for format in FORMATS {
        let (w, nd) = weight(device, format, &whole_rows(format, &[3, 4, 64]), (-1.0, 1.0));
        for (view, nd) in [
            (w.clone(), nd.clone()),
            (w.slice(1, 1, 3).unwrap(), nd.sliced(1, 1, 3)),
            (w.transpose(0, 1).unwrap(), nd.permuted(&[1, 0, 2])),
        ] {
            let copy = Tensor::from(tl_tensor::ops::apply(op, device, &[Arg::from(&view)]).unwrap());
            assert_eq!((copy.dtype(), copy.dims()), (format.dtype, &nd.dims[..]));
            assert_elements(&copy.cast::<f32>().unwrap().into_dyn(), &nd);
        }
    }
}

fn concat(device: &Device, op: &'static Op) {
    let cases: &[(&[&[usize]], usize)] = &[
        (&[&[3]], 0),
        (&[&[3], &[0], &[2]], 0),
        (&[&[2, 3], &[4, 3]], 0),
        (&[&[2, 3], &[2, 1], &[2, 5]], 1),
        (&[&[2, 3, 4], &[2, 1, 4]], 1),
        (&[&[0, 3], &[0, 4]], 1),
        (&[&[40, 900], &[40, 33]], 1),
    ];
    for dtype in ALL {
        for (shapes, axis) in cases {
            let parts: Vec<Vec<Input>> =
                shapes.iter().map(|dims| arrangements(device, dtype, &random(dtype, dims, (-99.0, 99.0)))).collect();
            for arrangement in 0..parts.iter().map(Vec::len).min().unwrap() {
                let parts: Vec<&Input> = parts.iter().map(|inputs| &inputs[arrangement]).collect();
                let mut dims = parts[0].nd.dims.clone();
                dims[*axis] = parts.iter().map(|part| part.nd.dims[*axis]).sum();
                let expected = Nd::from_fn(&dims, |index| {
                    let mut own = index.to_vec();
                    let part = parts.iter().find(|part| {
                        let is_here = own[*axis] < part.nd.dims[*axis];
                        own[*axis] -= if is_here { 0 } else { part.nd.dims[*axis] };
                        is_here
                    });
                    part.unwrap().nd.at(&own)
                });
                let tensors: Vec<Tensor> = parts.iter().map(|part| part.tensor.clone()).collect();
                let args = [Arg::Tensors(&tensors), Arg::Int(*axis as i64 - dims.len() as i64)];
                check(device, op, &args, &parts[0].label, (dtype, &expected), EXACT);
                if *axis == 0 {
                    check(device, op, &args[..1], &parts[0].label, (dtype, &expected), EXACT);
                }
            }
        }
    }
}

/// Random places in a dimension, counted from either end.
fn places(dims: &[usize], size: usize) -> Nd {
    let mut random = Random::new(size as u64 + 1);
    Nd::from_fn(dims, |_| (random.next_u64() % (2 * size as u64)) as f64 - size as f64)
}

fn place(index: f64, size: usize) -> usize {
    if index < 0.0 { (index + size as f64) as usize } else { index as usize }
}

fn index_select(device: &Device, op: &'static Op) {
    for dtype in ALL {
        for dims in [&[7][..], &[3, 5], &[2, 3, 4], &[4, 0]] {
            for input in arrangements(device, dtype, &random(dtype, dims, (-99.0, 99.0))) {
                for (axis, &size) in dims.iter().enumerate().filter(|(_, size)| **size > 0) {
                    for index in arrangements(device, DType::I32, &places(&[6], size)) {
                        let mut result = dims.to_vec();
                        result[axis] = 6;
                        let expected = Nd::from_fn(&result, |i| {
                            let mut own = i.to_vec();
                            own[axis] = place(index.nd.data[i[axis]], size);
                            input.nd.at(&own)
                        });
                        check_copy(device, op, &input, &[Arg::Int(axis as i64), index.arg()], &expected);
                    }
                    for shape in [&[][..], &[2, 3]] {
                        for index in arrangements(device, DType::I32, &places(shape, size)) {
                            let result = [&dims[..axis], shape, &dims[axis + 1..]].concat();
                            let expected = Nd::from_fn(&result, |i| {
                                let (before, rest) = i.split_at(axis);
                                let (inner, after) = rest.split_at(shape.len());
                                let own = [before, &[place(index.nd.at(inner), size)], after].concat();
                                input.nd.at(&own)
                            });
                            check_copy(device, op, &input, &[Arg::Int(axis as i64), index.arg()], &expected);
                        }
                    }
                    let none = Input::contiguous(device, DType::I32, Nd::new(&[0], vec![]));
                    let expected = input.nd.sliced(axis, 0, 0);
                    check_copy(device, op, &input, &[Arg::Int(axis as i64), none.arg()], &expected);
                }
            }
        }
    }
}

/// For a shape and a dimension, the shapes that an index may have: shorter in every dimension, longer in that one.
fn index_shapes(dims: &[usize], axis: usize) -> [Vec<usize>; 2] {
    let smaller: Vec<usize> = dims.iter().map(|&dim| dim.div_ceil(2)).collect();
    let mut longer = dims.to_vec();
    longer[axis] += 3;
    [smaller, longer]
}

fn gather(device: &Device, op: &'static Op) {
    for dtype in ALL {
        for dims in [&[7][..], &[3, 5], &[2, 3, 4]] {
            for input in arrangements(device, dtype, &random(dtype, dims, (-99.0, 99.0))) {
                for axis in 0..dims.len() {
                    for shape in index_shapes(dims, axis) {
                        for index in arrangements(device, DType::I32, &places(&shape, dims[axis])) {
                            let expected = Nd::from_fn(&shape, |i| {
                                let mut own = i.to_vec();
                                own[axis] = place(index.nd.at(i), dims[axis]);
                                input.nd.at(&own)
                            });
                            check_copy(device, op, &input, &[Arg::Int(axis as i64), index.arg()], &expected);
                        }
                    }
                }
            }
        }
    }
}

fn scatter(device: &Device, op: &'static Op) {
    for dtype in ALL {
        for dims in [&[7][..], &[3, 5], &[2, 3, 4]] {
            for input in arrangements(device, dtype, &random(dtype, dims, (-99.0, 99.0))) {
                for axis in 0..dims.len() {
                    for shape in index_shapes(dims, axis) {
                        let index = Input::contiguous(device, DType::I32, places(&shape, dims[axis]));
                        for source in arrangements(device, dtype, &random(dtype, &shape, (-99.0, 99.0))) {
                            let mut expected = input.nd.clone();
                            // In the order of the indices: the last one stays.
                            Nd::from_fn(&shape, |i| {
                                let mut own = i.to_vec();
                                own[axis] = place(index.nd.at(i), dims[axis]);
                                let at = own.iter().zip(dims).fold(0, |at, (i, dim)| at * dim + i);
                                expected.data[at] = source.nd.at(i);
                                0.0
                            });
                            check_copy(
                                device,
                                op,
                                &input,
                                &[Arg::Int(axis as i64), index.arg(), source.arg()],
                                &expected,
                            );
                        }
                    }
                }
            }
        }
    }
}

/// A view of a view, each step picked by three numbers.
fn view_of(x: &Tensor, nd: &Nd, (kind, a, b): (u8, usize, usize)) -> (Tensor, Nd) {
    let rank = nd.rank();
    let axis = a % rank.max(1);
    let size = nd.dims.get(axis).copied().unwrap_or(0);
    let at = axis as isize;
    match kind {
        0 if rank > 0 => {
            let (start, end) = ((b % (size + 1)).min(b / 7 % (size + 1)), (b % (size + 1)).max(b / 7 % (size + 1)));
            (x.slice(at, start, end).unwrap(), nd.sliced(axis, start, end))
        }
        1 if size > 0 => {
            let mut dims = nd.dims.clone();
            dims.remove(axis);
            let picked = nd.sliced(axis, b % size, b % size + 1).reshaped(&dims);
            (x.select(at, (b % size) as isize).unwrap(), picked)
        }
        2 if rank > 0 => (x.transpose(at, (b % rank) as isize).unwrap(), nd.permuted(&swapped(rank, axis, b % rank))),
        3 if rank < 6 => {
            let mut dims = nd.dims.clone();
            dims.insert(b % (rank + 1), 1);
            (x.unsqueeze((b % (rank + 1)) as isize).unwrap(), nd.reshaped(&dims))
        }
        4 if size == 1 => {
            let mut dims = nd.dims.clone();
            dims[axis] = 1 + b % 3;
            (x.broadcast_to(&dims[..]).unwrap(), nd.broadcast_to(&dims))
        }
        5 => (x.flatten().unwrap(), nd.reshaped(&[nd.data.len()])),
        6 if rank > 1 => {
            // Two neighbouring dimensions become one, by a copy if need be.
            let axis = axis.min(rank - 2);
            let mut dims = nd.dims.clone();
            let joined = dims.remove(axis + 1);
            dims[axis] *= joined;
            (x.reshape(&dims[..]).unwrap(), nd.reshaped(&dims))
        }
        7 if size > 0 => (x.slice_last(at).unwrap(), nd.sliced(axis, size - 1, size)),
        _ => (x.clone(), nd.clone()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn views_of_views(
        dims in prop::collection::vec(1..6usize, 1..5),
        steps in prop::collection::vec((0..8u8, 0..1000usize, 0..1000usize), 1..9),
        is_half in any::<bool>(),
    ) {
        static DEVICE: LazyLock<Device> = LazyLock::new(crate::device);
        let device = DEVICE.clone();
        let dtype = if is_half { DType::F16 } else { DType::I32 };
        let mut n = 0.0;
        let mut nd = Nd::from_fn(&dims, |_| { n += 1.0; stored(dtype, n) });
        let mut x = tensor(&device, dtype, &nd);
        for step in steps {
            (x, nd) = view_of(&x, &nd, step);
            prop_assert_eq!(x.dims(), &nd.dims[..]);
            prop_assert_eq!(elements(&x), nd.data.clone(), "after {:?}", step);
        }
    }
}
