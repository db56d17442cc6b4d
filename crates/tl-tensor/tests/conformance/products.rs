//! References of the products of matrices.

use tl_device::{DType, Device};
use tl_kernels::Dot;
use tl_tensor::Tensor;
use tl_tensor::ops::{Arg, Op};
use tl_tensor::quant::{FORMATS, Format};

use crate::Try;
use crate::nd::{Nd, broadcast_dims};
use crate::values::{
    EXACT, FLOATS, Input, Tolerance, arrangements, check, check_each, random, sum_of, weight, whole_rows,
};

pub(crate) fn reference(name: &str) -> Option<Try> {
    Some(match name {
        "matmul" => matmul,
        "linear" => linear,
        "linear_experts" => linear_experts,
        "einsum" => einsum,
        _ => return None,
    })
}

/// `a @ b` as NumPy has it.
fn product(a: &Nd, b: &Nd) -> Nd {
    let (is_row, is_column) = (a.rank() == 1, b.rank() == 1);
    let a = if is_row { a.reshaped(&[1, a.dims[0]]) } else { a.clone() };
    let b = if is_column { b.reshaped(&[b.dims[0], 1]) } else { b.clone() };
    let ((a_batch, [m, k]), (b_batch, [_, n])) = (split(&a.dims), split(&b.dims));
    let mut dims = broadcast_dims(a_batch, b_batch);
    let batch = dims.len();
    let of_a = a.broadcast_to(&[&dims[..], &[m, k]].concat());
    let of_b = b.broadcast_to(&[&dims[..], &[k, n]].concat());
    dims.extend([m, n]);
    let mut result = Nd::from_fn(&dims, |index| {
        let which = index[..batch].iter().zip(&dims).fold(0, |at, (i, dim)| at * dim + i);
        let (row, column) = (index[batch], index[batch + 1]);
        (0..k).map(|i| of_a.data[(which * m + row) * k + i] * of_b.data[(which * k + i) * n + column]).sum()
    });
    if is_column {
        result.dims.pop();
    }
    if is_row {
        result.dims.remove(batch);
    }
    result
}

fn split(dims: &[usize]) -> (&[usize], [usize; 2]) {
    let (batch, last) = dims.split_at(dims.len() - 2);
    (batch, [last[0], last[1]])
}

fn matmul(device: &Device, op: &'static Op) {
    let cases: &[(&[usize], &[usize])] = &[
        (&[5], &[5]),
        (&[5], &[5, 4]),
        (&[3, 5], &[5]),
        (&[3, 5], &[5, 4]),
        (&[1, 1], &[1, 1]),
        (&[2, 3, 5], &[5, 4]),
        (&[2, 3, 5], &[2, 5, 4]),
        (&[2, 1, 3, 5], &[4, 5, 2]),
        (&[5], &[2, 5, 4]),
        (&[0, 5], &[5, 3]),
        (&[3, 0], &[0, 4]),
        (&[2, 3, 0], &[0, 4]),
        (&[2, 3, 0], &[2, 0, 4]),
        (&[0, 3, 5], &[5, 2]),
        (&[1, 257], &[257, 190]),
        (&[130, 257], &[257, 75]),
    ];
    for dtype in FLOATS {
        for (a, b) in cases {
            let (a, b) = (random(dtype, a, (-2.0, 2.0)), random(dtype, b, (-2.0, 2.0)));
            let (a, b) = (arrangements(device, dtype, &a), arrangements(device, dtype, &b));
            let pairs = (a.iter().map(|a| (a, &b[0]))).chain(b.iter().map(|b| (&a[0], b))).chain(a.iter().zip(&b));
            for (a, b) in pairs {
                let tolerance = sum_of(a.nd.dims[a.nd.rank() - 1], 4.0);
                let label = format!("{} and {}", a.label, b.label);
                check(device, op, &[a.arg(), b.arg()], &label, (dtype, &product(&a.nd, &b.nd)), tolerance);
            }
        }
        for format in FORMATS {
            stored_weights(device, op, dtype, format);
        }
    }
}

/// A stored weight on the right, as it is and as its transposed view; rows of a larger one; and a left side that does
/// not lie contiguous.
fn stored_weights(device: &Device, op: &'static Op, dtype: DType, format: &Format) {
    for (m, k, n) in [
        (1usize, 32usize, 64usize),
        (3, 64, 32),
        (70, 96, 320),
        (1, 32, 1),
        (2, 64, 1),
        (0, 32, 32),
        (2, 3, 32),
        (3, 256, 256),
    ] {
        let inputs = arrangements(device, dtype, &random(dtype, &[m, k], (-2.0, 2.0)));
        let mut weights = Vec::new();
        if n.is_multiple_of(format.dtype.block_elems()) {
            let (w, nd) = weight(device, format, &[k + 2, n], (-1.0, 1.0));
            weights.push((w.slice(0, 1, k + 1).unwrap(), nd.sliced(0, 1, k + 1), "rows"));
            let (w, nd) = weight(device, format, &[k, n], (-1.0, 1.0));
            weights.push((w, nd, "a weight"));
            let (w, nd) = weight(device, format, &[k, 2, n], (-1.0, 1.0));
            weights.push((w.select(1, 1).unwrap(), nd.sliced(1, 1, 2).reshaped(&[k, n]), "rows with gaps"));
        }
        if k.is_multiple_of(format.dtype.block_elems()) {
            let (w, nd) = weight(device, format, &[n, k], (-1.0, 1.0));
            weights.push((w.transpose(0, 1).unwrap(), nd.permuted(&[1, 0]), "a transposed weight"));
            let (w, nd) = weight(device, format, &[n + 2, k], (-1.0, 1.0));
            let rows = w.slice(0, 2, n + 2).unwrap().transpose(-1, -2).unwrap();
            weights.push((rows, nd.sliced(0, 2, n + 2).permuted(&[1, 0]), "transposed rows"));
        }
        for (w, nd, what) in &weights {
            for x in &inputs {
                let label = format!("{} and {what} {w:?}", x.label);
                let expected = product(&x.nd, nd);
                let tolerance = weight_tolerance(format, &x.nd, nd);
                check_each(device, op, &[x.arg(), Arg::from(w)], &label, (dtype, &expected), tolerance);
            }
            let vector = Input::contiguous(device, dtype, random(dtype, &[k], (-2.0, 2.0)));
            let label = format!("{} and {what} {w:?}", vector.label);
            let expected = product(&vector.nd, nd);
            let tolerance = weight_tolerance(format, &vector.nd.reshaped(&[1, k]), nd);
            check_each(device, op, &[vector.arg(), Arg::from(w)], &label, (dtype, &expected), tolerance);
        }
    }
}

/// Formats with integer blocks round `x` to 8 bits: steps of `max|x| / 127`, whose errors are spread evenly over a step, so
/// that the sum of `error · w` has the deviation `step / √12 · |w|`. Six of those are allowed. `x: [m, k], w: [k, n]`.
fn weight_tolerance(format: &Format, x: &Nd, w: &Nd) -> impl Fn(usize) -> Tolerance + use<> {
    let (k, n) = (w.dims[0], w.dims[1]);
    let is_integer = matches!(format.kernels.dot, Dot::Integer(_));
    let largest = x.data.iter().fold(0f64, |largest, x| largest.max(x.abs()));
    let step = if is_integer { largest / 127.0 } else { 0.0 };
    let lengths: Vec<f64> =
        (0..n).map(|column| (0..k).map(|i| w.data[i * n + column].powi(2)).sum::<f64>().sqrt()).collect();
    move |element| {
        let rounded = 6.0 * step / 12f64.sqrt() * lengths[element % n];
        Tolerance { absolute: sum_of(k, 2.0).absolute + rounded, ..sum_of(k, 2.0) }
    }
}

fn linear(device: &Device, op: &'static Op) {
    // Rows of the result that are no multiple of four have a plain program on a GPU, which a software device takes long for.
    let many = if device.is_gpu() { 256 } else { 257 };
    for dtype in FLOATS {
        for format in FORMATS {
            for (x, n) in
                [(&[64][..], 3), (&[5, 32], 1), (&[2, 3, 96], 40), (&[70, 64], many), (&[0, 32], 4), (&[2, 32], 0)]
            {
                linear_case(device, op, dtype, format, &whole_rows(format, x), n);
            }
        }
    }
}

fn linear_case(device: &Device, op: &'static Op, dtype: DType, format: &Format, x: &[usize], n: usize) {
    let k = x[x.len() - 1];
    let (w, nd) = weight(device, format, &[n, k], (-1.0, 1.0));
    let (larger, larger_nd) = weight(device, format, &[3, n, k], (-1.0, 1.0));
    let weights = [
        (w, nd),
        (larger.select(0, 1).unwrap(), larger_nd.sliced(0, 1, 2).reshaped(&[n, k])),
        (larger.transpose(0, 1).unwrap().select(1, 2).unwrap(), larger_nd.sliced(0, 2, 3).reshaped(&[n, k])),
    ];
    for x in arrangements(device, dtype, &random(dtype, x, (-2.0, 2.0))) {
        for (w, nd) in &weights {
            let transposed = nd.permuted(&[1, 0]);
            let expected = product(&x.nd, &transposed);
            let label = format!("{} and {w:?}", x.label);
            let tolerance = weight_tolerance(format, &x.nd, &transposed);
            check_each(device, op, &[x.arg(), Arg::from(w)], &label, (dtype, &expected), &tolerance);
            // On a GPU each pair of formats is a program of its own: there a block format meets floats and itself.
            let is_tried = |bias: &Format| {
                let is_pair = !device.is_gpu() || bias.dtype.block_elems() == 1 || bias.dtype == format.dtype;
                is_pair && n.is_multiple_of(bias.dtype.block_elems())
            };
            for bias_format in FORMATS.iter().filter(|bias| is_tried(bias)) {
                let (bias, bias_nd) = weight(device, bias_format, &[n], (-3.0, 3.0));
                let shifted = Nd::from_fn(&expected.dims, |i| expected.at(i) + bias_nd.broadcast_at(&i[i.len() - 1..]));
                let args = [x.arg(), Arg::from(w), Arg::from(&bias)];
                check_each(device, op, &args, &label, (dtype, &shifted), &tolerance);
            }
        }
    }
}

/// Tokens, experts of a token, experts, elements of a row, rows of an expert.
type ExpertSizes = [usize; 5];

fn linear_experts(device: &Device, op: &'static Op) {
    let cases: &[ExpertSizes] = &[
        [1, 2, 4, 32, 3],
        [3, 2, 5, 64, 8],
        [40, 2, 3, 96, 36],
        [2, 1, 1, 32, 4],
        [0, 2, 3, 32, 4],
        [2, 0, 3, 32, 4],
        [2, 2, 3, 32, 0],
    ];
    for dtype in FLOATS {
        for format in FORMATS {
            for sizes in cases {
                experts_case(device, op, dtype, format, *sizes);
            }
        }
    }
}

fn experts_case(device: &Device, op: &'static Op, dtype: DType, format: &Format, sizes: ExpertSizes) {
    let [n_tokens, top, n_experts, k, n] = sizes;
    let k = whole_rows(format, &[k])[0];
    let (w, nd) = weight(device, format, &[n_experts, n, k], (-1.0, 1.0));
    let (larger, larger_nd) = weight(device, format, &[n_experts + 2, n, k], (-1.0, 1.0));
    let part = (larger.slice(0, 1, n_experts + 1).unwrap(), larger_nd.sliced(0, 1, n_experts + 1));
    let chosen = random(DType::I32, &[n_tokens, top], (0.0, n_experts as f64));
    let chosen = arrangements(device, DType::I32, &chosen);
    for dims in [&[n_tokens, k][..], &[n_tokens, top, k]] {
        let xs = arrangements(device, dtype, &random(dtype, dims, (-2.0, 2.0)));
        let pairs = xs.iter().map(|x| (x, &chosen[0])).chain(chosen.iter().map(|chosen| (&xs[0], chosen)));
        // What does not lie contiguous is copied; a software GPU takes long for each.
        for (x, chosen) in pairs.take(if device.is_gpu() { 2 } else { usize::MAX }) {
            for (w, nd) in [&(w.clone(), nd.clone()), &part] {
                let expert = |i: &[usize]| chosen.nd.at(&i[..2]) as usize;
                let expected = Nd::from_fn(&[n_tokens, top, n], |i| {
                    let x_at = |e| if dims.len() == 2 { x.nd.at(&[i[0], e]) } else { x.nd.at(&[i[0], i[1], e]) };
                    (0..k).map(|e| x_at(e) * nd.at(&[expert(i), i[2], e])).sum()
                });
                // As if all rows were those of one expert.
                let largest =
                    Nd::from_fn(&[k, n], |i| (0..n_experts).map(|e| nd.at(&[e, i[1], i[0]]).abs()).fold(0.0, f64::max));
                let tolerance = weight_tolerance(format, &x.nd, &largest);
                let label = format!("{}, {} and {w:?}", x.label, chosen.label);
                let args = [x.arg(), Arg::from(w), chosen.arg()];
                check_each(device, op, &args, &label, (dtype, &expected), &tolerance);
                // Float types of all kinds; the others are linear's affair.
                for bias_format in FORMATS.iter().filter(|bias| bias.dtype.block_elems() == 1) {
                    let (bias, bias_nd) = weight(device, bias_format, &[n_experts, n], (-3.0, 3.0));
                    let shifted = Nd::from_fn(&expected.dims, |i| expected.at(i) + bias_nd.at(&[expert(i), i[2]]));
                    let args = [&args[..], &[Arg::from(&bias)]].concat();
                    check_each(device, op, &args, &label, (dtype, &shifted), &tolerance);
                }
            }
        }
    }
}

/// The sum of products that a specification means, letter by letter.
fn einsum_of(spec: &str, operands: &[&Nd]) -> Nd {
    let (left, result) = spec.split_once("->").unwrap();
    let parts: Vec<&[u8]> = left.split(',').map(str::trim).map(str::as_bytes).collect();
    let result = result.trim().as_bytes();
    let letters: Vec<(u8, usize)> = parts
        .iter()
        .zip(operands)
        .flat_map(|(part, operand)| part.iter().copied().zip(operand.dims.iter().copied()))
        .collect();
    let size = |letter: u8| letters.iter().find(|(known, _)| *known == letter).unwrap().1;
    let mut summed: Vec<u8> =
        letters.iter().map(|(letter, _)| *letter).filter(|letter| !result.contains(letter)).collect();
    summed.sort_unstable();
    summed.dedup();
    let all: Vec<u8> = result.iter().chain(&summed).copied().collect();
    let dims: Vec<usize> = result.iter().map(|&letter| size(letter)).collect();
    let inner: Vec<usize> = summed.iter().map(|&letter| size(letter)).collect();
    Nd::from_fn(&dims, |outer| {
        let terms = Nd::from_fn(&inner, |within| {
            let value = |letter: u8| {
                let at = all.iter().position(|own| *own == letter).unwrap();
                if at < outer.len() { outer[at] } else { within[at - outer.len()] }
            };
            parts
                .iter()
                .zip(operands)
                .map(|(part, operand)| operand.at(&part.iter().map(|&l| value(l)).collect::<Vec<_>>()))
                .product()
        });
        terms.data.iter().sum()
    })
}

fn einsum(device: &Device, op: &'static Op) {
    let two: &[(&str, &[usize], &[usize])] = &[
        ("ij,jk->ik", &[3, 5], &[5, 4]),
        ("ij,kj->ik", &[3, 5], &[4, 5]),
        ("ij,jk->ki", &[3, 5], &[5, 4]),
        ("ji,jk->ik", &[5, 3], &[5, 4]),
        ("i,i->", &[7], &[7]),
        ("i,ij->j", &[3], &[3, 4]),
        ("ij,j->i", &[3, 4], &[4]),
        ("ihd,jhd->ihj", &[5, 2, 8], &[6, 2, 8]),
        ("ihj,jhd->ihd", &[5, 2, 6], &[6, 2, 8]),
        ("ihd,jhd->hij", &[5, 2, 8], &[6, 2, 8]),
        ("bij,bjk->bik", &[2, 3, 5], &[2, 5, 4]),
        ("bij , bjk -> ikb", &[2, 3, 5], &[2, 5, 4]),
        ("abij,jk->abik", &[2, 2, 3, 5], &[5, 4]),
        ("i,j->ij", &[3], &[4]),
        ("i,j->", &[3], &[4]),
        ("ij,ij->ij", &[3, 4], &[3, 4]),
        ("ij,ij->", &[3, 4], &[3, 4]),
        ("ij,jk->", &[3, 5], &[5, 4]),
        ("ij,jk->k", &[3, 5], &[5, 4]),
        ("ii,ij->j", &[3, 3], &[3, 4]),
        ("ii,i->", &[3, 3], &[3]),
        ("ijk,j->ik", &[2, 3, 4], &[3]),
        (",i->i", &[], &[4]),
        ("i,->i", &[4], &[]),
        (",->", &[], &[]),
        ("ij,jk->ik", &[3, 0], &[0, 4]),
        ("bij,bjk->bik", &[2, 3, 0], &[2, 0, 4]),
        ("ij,jk->ik", &[0, 5], &[5, 4]),
        ("ij,j->", &[3, 0], &[0]),
        ("Ij,jI->I", &[3, 5], &[5, 3]),
        ("ij,jk->ik", &[120, 130], &[130, 110]),
        ("ihd,jhd->ij", &[5, 2, 8], &[6, 2, 8]),
        ("ijk,ijl->lk", &[2, 3, 4], &[2, 3, 5]),
        ("ijk,jil->kl", &[2, 3, 4], &[3, 2, 5]),
        ("ij,ji->", &[3, 4], &[4, 3]),
    ];
    for dtype in FLOATS {
        for (spec, a, b) in two {
            let (a, b) = (random(dtype, a, (-2.0, 2.0)), random(dtype, b, (-2.0, 2.0)));
            let (a, b) = (arrangements(device, dtype, &a), arrangements(device, dtype, &b));
            for (a, b) in a.iter().map(|a| (a, &b[0])).chain(b.iter().map(|b| (&a[0], b))).chain(a.iter().zip(&b)) {
                let expected = einsum_of(spec, &[&a.nd, &b.nd]);
                let label = format!("{spec:?}, {} and {}", a.label, b.label);
                let tolerance = sum_of(a.nd.data.len().max(b.nd.data.len()), 4.0);
                check(device, op, &[Arg::Text(spec), a.arg(), b.arg()], &label, (dtype, &expected), tolerance);
            }
        }
        let one: &[(&str, &[usize])] = &[
            ("ij->ji", &[3, 5]),
            ("ij->ij", &[3, 5]),
            ("ij->", &[3, 5]),
            ("ij->j", &[3, 5]),
            ("ii->i", &[4, 4]),
            ("ii->", &[4, 4]),
            ("iji->j", &[4, 2, 4]),
            ("->", &[]),
            ("abc->cab", &[2, 3, 4]),
            ("i->", &[0]),
        ];
        for (spec, x) in one {
            for x in arrangements(device, dtype, &random(dtype, x, (-2.0, 2.0))) {
                let expected = einsum_of(spec, &[&x.nd]);
                let label = format!("{spec:?}, {}", x.label);
                check(
                    device,
                    op,
                    &[Arg::Text(spec), x.arg()],
                    &label,
                    (dtype, &expected),
                    sum_of(x.nd.data.len(), 2.0),
                );
            }
        }
    }
}

/// A specification, the same with a result and without `...`, the operands, and their dimensions after repetition.
type Several = (&'static str, &'static str, &'static [&'static [usize]], &'static [&'static [usize]]);

/// Several operands, `...`, and results that are not written, in the arithmetic of every type.
#[test]
fn einsum_of_several_operands() {
    let device = crate::device();
    let einsum = tl_tensor::ops::by_name("einsum").unwrap();
    let cases: &[Several] = &[
        ("ij,jk", "ij,jk->ik", &[&[3, 5], &[5, 4]], &[]),
        ("ba,ab", "ba,ab->", &[&[3, 5], &[5, 3]], &[]),
        ("ji", "ji->ij", &[&[3, 5]], &[]),
        ("ii", "ii->", &[&[4, 4]], &[]),
        ("i,j", "i,j->ij", &[&[3], &[4]], &[]),
        ("bA", "bA->Ab", &[&[2, 3]], &[]),
        ("i j -> j i", "ij->ji", &[&[3, 5]], &[]),
        ("...ij,...jk->...ik", "bij,bjk->bik", &[&[2, 3, 5], &[2, 5, 4]], &[]),
        ("...ij,...jk->...ik", "bij,bjk->bik", &[&[2, 3, 5], &[1, 5, 4]], &[&[2, 3, 5], &[2, 5, 4]]),
        ("...ij,...jk", "ij,bjk->bik", &[&[3, 5], &[2, 5, 4]], &[]),
        ("...ij,...jk", "abij,abjk->abik", &[&[2, 1, 3, 5], &[6, 5, 4]], &[&[2, 6, 3, 5], &[2, 6, 5, 4]]),
        ("i...->...i", "iab->abi", &[&[2, 3, 4]], &[]),
        ("...", "ab->ab", &[&[2, 3]], &[]),
        ("i...i->...", "iabi->ab", &[&[2, 3, 4, 2]], &[]),
        ("...i,...i->...i", "ai,ai->ai", &[&[1, 3], &[1, 3]], &[]),
        ("i,i,i->", "i,i,i->", &[&[7], &[7], &[7]], &[]),
        ("i,i,i->i", "i,i,i->i", &[&[7], &[7], &[7]], &[]),
        ("ij,jk,kl->il", "ij,jk,kl->il", &[&[3, 5], &[5, 4], &[4, 2]], &[]),
        ("ij,jk,kl", "ij,jk,kl->il", &[&[3, 5], &[5, 4], &[4, 2]], &[]),
        ("ij,jk,kl,lm->mi", "ij,jk,kl,lm->mi", &[&[3, 5], &[5, 4], &[4, 2], &[2, 6]], &[]),
        ("a,b,c->cab", "a,b,c->cab", &[&[2], &[3], &[4]], &[]),
        ("ab,c,cd->a", "ab,c,cd->a", &[&[2, 3], &[4], &[4, 5]], &[]),
        ("aab,b,bc->c", "aab,b,bc->c", &[&[2, 2, 3], &[3], &[3, 4]], &[]),
        (",,i->i", ",,i->i", &[&[], &[], &[3]], &[]),
        ("i,j,k->", "i,j,k->", &[&[2], &[3], &[4]], &[]),
        ("ij,jk,kl->il", "ij,jk,kl->il", &[&[3, 0], &[0, 4], &[4, 2]], &[]),
        ("...i,ij,j...->...", "abi,ij,jab->ab", &[&[2, 3, 4], &[4, 5], &[5, 2, 3]], &[]),
        ("...i,...i,...->...", "ai,ai,a->a", &[&[1, 3], &[4, 3], &[1]], &[&[4, 3], &[4, 3], &[4]]),
        ("...i,...i,...i->...", "ai,ai,ai->a", &[&[1, 3], &[1, 3], &[3]], &[&[1, 3], &[1, 3], &[1, 3]]),
        (
            "a,ab,bc,cd,de,ef,fg,gh,h->",
            "a,ab,bc,cd,de,ef,fg,gh,h->",
            &[&[2], &[2, 3], &[3, 2], &[2, 2], &[2, 3], &[3, 2], &[2, 2], &[2, 2], &[2]],
            &[],
        ),
    ];
    for dtype in [DType::F16, DType::F32, DType::I32, DType::Bool] {
        for (spec, explicit, shapes, full) in cases {
            // Small whole numbers, so that no order of sums and no intermediate result is rounded.
            let range = if dtype == DType::Bool { (0.0, 2.0) } else { (-2.0, 2.0) };
            let inputs: Vec<Vec<Input>> = shapes
                .iter()
                .map(|dims| arrangements(&device, dtype, &random(dtype, dims, range).map(f64::trunc)))
                .collect();
            for arrangement in 0..inputs.iter().map(Vec::len).min().unwrap() {
                let inputs: Vec<&Input> = inputs.iter().map(|all| &all[arrangement]).collect();
                let operands: Vec<Nd> = inputs
                    .iter()
                    .enumerate()
                    .map(|(index, input)| full.get(index).map_or(input.nd.clone(), |dims| input.nd.broadcast_to(dims)))
                    .collect();
                let expected = einsum_of(explicit, &operands.iter().collect::<Vec<_>>());
                let expected = if dtype == DType::Bool { expected.map(|x| f64::from(x > 0.0)) } else { expected };
                let others: Vec<Tensor> = inputs.iter().skip(2).map(|input| input.tensor.clone()).collect();
                let mut args = vec![Arg::Text(spec)];
                args.extend(inputs.iter().take(2).map(|input| input.arg()));
                if !others.is_empty() {
                    args.push(Arg::Tensors(&others));
                }
                check(&device, einsum, &args, &format!("{spec:?}, {}", inputs[0].label), (dtype, &expected), EXACT);
            }
        }
    }
}

/// A specification and its two operands: the dimensions before any repetition; which one is repeated, and how often (1: none).
type Repeated = (&'static str, &'static [usize], (usize, usize), &'static [usize], (usize, usize));

/// Repeated dimensions, of tensors in every arrangement: read as they lie, or copied where they cannot be.
#[test]
fn einsum_of_repeated_dimensions() {
    let device = crate::device();
    let einsum = tl_tensor::ops::by_name("einsum").unwrap();
    let cases: &[Repeated] = &[
        ("ihd,jhd->ihj", &[1, 6, 5], (0, 1), &[7, 2, 5], (1, 3)),
        ("ihd,jhd->ihj", &[7, 6, 5], (0, 1), &[1, 3, 5], (1, 2)),
        ("ihd,jhd->ihj", &[13, 32, 16], (0, 1), &[33, 4, 16], (1, 8)),
        ("ihd,jhd->ihj", &[2, 3, 5], (0, 1), &[7, 1, 5], (1, 3)),
        ("ihd,jhd->ihj", &[2, 3, 5], (0, 1), &[7, 3, 5], (1, 1)),
        ("ihd,jhd->ihj", &[0, 6, 5], (0, 1), &[7, 2, 5], (1, 3)),
        ("ihd,jhd->ihj", &[2, 6, 0], (0, 1), &[7, 2, 0], (1, 3)),
        ("ihj,jhd->ihd", &[1, 6, 7], (0, 1), &[7, 2, 5], (1, 3)),
        ("ihj,jhd->ihd", &[11, 32, 33], (0, 1), &[33, 4, 16], (1, 8)),
        ("jhd,ihd->ihj", &[7, 2, 5], (1, 3), &[4, 6, 5], (0, 1)),
        ("ihd,jhd->hij", &[3, 2, 5], (1, 3), &[7, 2, 5], (1, 3)),
        ("ihd,jhd->ijh", &[3, 3, 5], (1, 2), &[7, 2, 5], (1, 3)),
        ("ihd,jhd->ihj", &[3, 2, 5], (0, 2), &[7, 2, 5], (0, 2)),
        ("ihd,jhd->ihj", &[3, 2, 5], (2, 2), &[7, 2, 10], (0, 2)),
        ("ihd,jhd->ihj", &[3, 2, 10], (1, 2), &[7, 4, 5], (2, 2)),
        ("ij,jk->ik", &[2, 5], (0, 3), &[5, 2], (1, 7)),
        ("ij,jk->ki", &[2, 5], (0, 3), &[5, 2], (1, 7)),
        ("bij,bjk->bik", &[2, 3, 5], (0, 2), &[4, 5, 3], (0, 1)),
        ("abij,jk->abik", &[2, 2, 3, 5], (2, 2), &[5, 4], (0, 1)),
        ("iij,jk->ik", &[2, 4, 3], (0, 2), &[3, 5], (0, 1)),
        ("ij,ij->ij", &[2, 5], (0, 2), &[4, 5], (0, 1)),
        ("i,j->ij", &[2], (0, 2), &[3], (0, 3)),
        ("ij,ij->", &[2, 5], (0, 2), &[4, 5], (0, 1)),
        ("hd,hd->h", &[2, 5], (0, 2), &[4, 5], (0, 1)),
    ];
    for dtype in FLOATS {
        for (spec, a, (a_axis, a_times), b, (b_axis, b_times)) in cases {
            let inputs = |dims: &[usize], axis: usize, times: usize| -> Vec<Input> {
                let plain = arrangements(&device, dtype, &random(dtype, dims, (-2.0, 2.0)));
                let is_plain = |input: &Input| !input.is_repeated();
                let repeat = |input: Input| if times > 1 { input.repeated(axis, times) } else { input };
                plain.into_iter().filter(is_plain).map(repeat).collect()
            };
            let (a, b) = (inputs(a, *a_axis, *a_times), inputs(b, *b_axis, *b_times));
            for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (a, b))) {
                let expected = einsum_of(spec, &[&a.nd, &b.nd]);
                let label = format!("{spec:?}, {} and {}", a.label, b.label);
                let tolerance = sum_of(a.nd.data.len().max(b.nd.data.len()), 4.0);
                check(&device, einsum, &[Arg::Text(spec), a.arg(), b.arg()], &label, (dtype, &expected), tolerance);
            }
        }
        for (spec, x, axis) in [("ij->ji", [3, 5], 0), ("ij->i", [3, 5], 0), ("ij->j", [3, 5], 0), ("ij->", [3, 5], 1)]
        {
            let x = Input::contiguous(&device, dtype, random(dtype, &x, (-2.0, 2.0))).repeated(axis, 3);
            let expected = einsum_of(spec, &[&x.nd]);
            check(&device, einsum, &[Arg::Text(spec), x.arg()], &x.label, (dtype, &expected), sum_of(45, 2.0));
        }
    }
}

/// A weight that is a plain float tensor may have another float type than the activation.
#[test]
fn weights_keep_their_type() {
    let device = crate::device();
    let x = Input::contiguous(&device, DType::F32, random(DType::F32, &[3, 8], (-2.0, 2.0)));
    let w = Input::contiguous(&device, DType::F16, random(DType::F16, &[8, 5], (-2.0, 2.0)));
    let expected = product(&x.nd, &w.nd);
    let by_name = |name| tl_tensor::ops::by_name(name).unwrap();
    // A weight may have another type than the activations; two activations may not.
    let weight = w.tensor.to_learnable().unwrap();
    check(&device, by_name("matmul"), &[x.arg(), Arg::from(&weight)], "mixed", (DType::F32, &expected), sum_of(8, 4.0));
    let mixed = tl_tensor::ops::apply(by_name("matmul"), &device, &[x.arg(), w.arg()]).err().unwrap().to_string();
    assert!(mixed.contains("float32 and float16 do not mix"), "{mixed}");
    let transposed: Tensor = w.tensor.transpose(0, 1).unwrap();
    let args = [x.arg(), Arg::from(&transposed)];
    check(&device, by_name("linear"), &args, "mixed", (DType::F32, &expected), sum_of(8, 4.0));
}
