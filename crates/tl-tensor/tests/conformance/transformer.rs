//! References of what transformers are made of.

use tl_device::{DType, Device};
use tl_tensor::ops::{Arg, Op};
use tl_tensor::quant::FORMATS;

use crate::Try;
use crate::nd::Nd;
use crate::values::{EXACT, FEW_ROUNDINGS, FLOATS, Input, Tolerance, arrangements, check, random, weight, whole_rows};

pub(crate) fn reference(name: &str) -> Option<Try> {
    Some(match name {
        "rms_norm" => rms_norm,
        "layer_norm" => layer_norm,
        "swiglu" => swiglu,
        "rope" => rope,
        "attention" => attention,
        "embedding" => embedding,
        _ => return None,
    })
}

/// Sums of squares and a root, and with a mean subtracted some cancellation.
const NORMALIZED: Tolerance = Tolerance { absolute: 2e-6, relative: 2e-6 };

fn rms_norm(device: &Device, op: &'static Op) {
    for dtype in FLOATS {
        for format in FORMATS {
            for dims in [&[32][..], &[3, 64], &[2, 0, 32], &[2, 3, 32], &[65, 1024]] {
                let dims = &whole_rows(format, dims)[..];
                let n = dims[dims.len() - 1];
                let (w, w_nd) = weight(device, format, &[n], (-2.0, 2.0));
                let (rows, rows_nd) = weight(device, format, &[4, n], (-2.0, 2.0));
                let row = (rows.select(0, 2).unwrap(), rows_nd.sliced(0, 2, 3).reshaped(&[n]));
                for x in arrangements(device, dtype, &random(dtype, dims, (-3.0, 3.0))) {
                    for (w, w_nd) in [&(w.clone(), w_nd.clone()), &row] {
                        for (eps, rest) in [(1e-5, vec![]), (0.5, vec![Arg::Number(0.5)]), (1.0, vec![Arg::Int(1)])] {
                            let expected = x.nd.along(dims.len() - 1, n, |line| {
                                let mean = line.iter().map(|x| x * x).sum::<f64>() / n as f64;
                                line.iter().zip(&w_nd.data).map(|(x, w)| x / (mean + eps).sqrt() * w).collect()
                            });
                            let args: Vec<Arg> = [x.arg(), Arg::from(w)].into_iter().chain(rest).collect();
                            check(device, op, &args, &format!("{}, {w:?}", x.label), (dtype, &expected), NORMALIZED);
                        }
                    }
                }
            }
        }
        // A last dimension without elements, or with one.
        for (dims, n) in [(&[3, 0][..], 0), (&[3, 1], 1)] {
            let x = Input::contiguous(device, dtype, random(dtype, dims, (0.5, 1.0)));
            let w = Input::contiguous(device, dtype, random(dtype, &[n], (0.5, 1.0)));
            let expected = Nd::from_fn(dims, |_| w.nd.data[0]);
            let near = Tolerance { absolute: 1e-4, relative: 0.0 };
            check(device, op, &[x.arg(), w.arg()], &x.label, (dtype, &expected), near);
        }
    }
}

fn layer_norm(device: &Device, op: &'static Op) {
    for dtype in FLOATS {
        for format in FORMATS {
            for dims in [&[32][..], &[3, 64], &[0, 32], &[2, 3, 32], &[65, 1024]] {
                let dims = &whole_rows(format, dims)[..];
                let n = dims[dims.len() - 1];
                let (w, w_nd) = weight(device, format, &[n], (-2.0, 2.0));
                let (bias, bias_nd) = weight(device, format, &[n], (-1.0, 3.0));
                for x in arrangements(device, dtype, &random(dtype, dims, (-3.0, 3.0))) {
                    for (has_bias, eps) in [(true, 1e-5), (false, 1e-5), (true, 0.25), (false, 0.25)] {
                        let expected = x.nd.along(dims.len() - 1, n, |line| {
                            let mean = line.iter().sum::<f64>() / n as f64;
                            let variance = line.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
                            let scale = 1.0 / (variance + eps).sqrt();
                            let shift = |i: usize| if has_bias { bias_nd.data[i] } else { 0.0 };
                            (0..n).map(|i| (line[i] - mean) * scale * w_nd.data[i] + shift(i)).collect()
                        });
                        let bias = if has_bias { Arg::from(&bias) } else { Arg::None };
                        let eps = if eps == 1e-5 { Arg::None } else { Arg::Number(eps) };
                        let args = [x.arg(), Arg::from(&w), bias, eps];
                        check(device, op, &args, &format!("{}, {w:?}", x.label), (dtype, &expected), NORMALIZED);
                    }
                }
            }
        }
    }
}

fn swiglu(device: &Device, op: &'static Op) {
    for dtype in FLOATS {
        for dims in [&[][..], &[1], &[0, 3], &[7], &[3, 5], &[2, 3, 4], &[257, 300]] {
            let gates = arrangements(device, dtype, &random(dtype, dims, (-9.0, 9.0)));
            let ups = arrangements(device, dtype, &random(dtype, dims, (-2.0, 2.0)));
            for (gate, up) in gates.iter().map(|gate| (gate, &ups[0])).chain(ups.iter().map(|up| (&gates[0], up))) {
                let expected = Nd::from_fn(dims, |i| {
                    let x = gate.nd.at(i);
                    x / (1.0 + (-x).exp()) * up.nd.at(i)
                });
                let label = format!("{} and {}", gate.label, up.label);
                check(device, op, &[gate.arg(), up.arg()], &label, (dtype, &expected), FEW_ROUNDINGS);
            }
        }
    }
}

/// The arguments behind `x`, and what they come to.
struct Turn<'a> {
    pos: usize,
    base: f64,
    rotated: usize,
    halves: bool,
    scale: f64,
    factors: &'a [f64],
    magnitude: f64,
    rest: Vec<Arg<'a>>,
}

fn rope(device: &Device, op: &'static Op) {
    for dtype in FLOATS {
        for dims in
            [&[1, 1, 2][..], &[5, 2, 8], &[3, 1, 64], &[0, 2, 4], &[2, 0, 4], &[2, 3, 0], &[70, 4, 128], &[2, 3, 22]]
        {
            let d = dims[2];
            let part = d / 4 * 2;
            let turn = |pos, base, rotated, rest| Turn {
                pos,
                base,
                rotated,
                halves: false,
                scale: 1.0,
                factors: &[],
                magnitude: 1.0,
                rest,
            };
            let factors = random(DType::F32, &[part / 2], (0.5, 30.0));
            let factors = arrangements(device, DType::F32, &factors);
            let (none, yes) = (Arg::None, Arg::Bool(true));
            let mut cases = vec![
                turn(0, 1e4, d, vec![]),
                turn(7, 1e4, d, vec![Arg::Int(7)]),
                turn(2000, 5e5, d, vec![Arg::Int(2000), Arg::Number(5e5)]),
                turn(3, 100.0, part, vec![Arg::Int(3), Arg::Int(100), Arg::Int(part as i64)]),
                turn(1, 1e4, 0, vec![Arg::Int(1), none, Arg::Int(0)]),
                Turn { halves: true, ..turn(40_000, 1e4, d, vec![Arg::Int(40_000), none, none, yes]) },
                Turn { scale: 4.0, ..turn(99, 1e4, d, vec![Arg::Int(99), none, none, none, Arg::Number(4.0)]) },
                Turn {
                    scale: 0.125,
                    magnitude: -1.5,
                    ..turn(9, 1e4, d, vec![Arg::Int(9), none, none, none, Arg::Number(0.125), none, Arg::Number(-1.5)])
                },
            ];
            for factors in &factors {
                for halves in [false, true] {
                    let rest = [Arg::Int(3001), none, Arg::Int(part as i64), Arg::Bool(halves), Arg::Number(2.0)];
                    let rest = [&rest[..], &[factors.arg(), Arg::Number(1.25)]].concat();
                    let (scale, magnitude) = (2.0, 1.25);
                    let turn = turn(3001, 1e4, part, rest);
                    cases.push(Turn { halves, scale, magnitude, factors: &factors.nd.data, ..turn });
                }
            }
            for x in arrangements(device, dtype, &random(dtype, dims, (-3.0, 3.0))) {
                for turn in &cases {
                    let expected = Nd::from_fn(dims, |i| rotated(&x.nd, turn, i));
                    let label = format!("{} at {}, {} by {}", x.label, turn.pos, turn.rotated, turn.scale);
                    let args: Vec<Arg> = std::iter::once(x.arg()).chain(turn.rest.iter().copied()).collect();
                    let tolerance = Tolerance { absolute: 2e-6 * turn.magnitude.abs(), relative: 0.0 };
                    check(device, op, &args, &label, (dtype, &expected), tolerance);
                }
            }
        }
    }
}

/// An element of `x` rotated.
fn rotated(x: &Nd, turn: &Turn, at: &[usize]) -> f64 {
    let (t, h, j) = (at[0], at[1], at[2]);
    if j >= turn.rotated {
        return x.at(at);
    }
    let n_pairs = turn.rotated / 2;
    let (pair, is_first) = if turn.halves { (j % n_pairs, j < n_pairs) } else { (j / 2, j % 2 == 0) };
    let (a, b) = if turn.halves { (pair, pair + n_pairs) } else { (2 * pair, 2 * pair + 1) };
    let frequency = f64::powf(turn.base, -(pair as f64) / n_pairs as f64);
    let factor = turn.factors.get(pair).copied().unwrap_or(1.0);
    let angle = (turn.pos + t) as f64 * frequency / turn.scale / factor;
    let (sin, cos) = (angle.sin() * turn.magnitude, angle.cos() * turn.magnitude);
    let (a, b) = (x.at(&[t, h, a]), x.at(&[t, h, b]));
    if is_first { a * cos - b * sin } else { a * sin + b * cos }
}

/// What the arguments behind `q`, `k` and `v` come to.
struct Scores<'a> {
    is_causal: bool,
    scale: f64,
    window: usize,
    softcap: f64,
    sinks: &'a [f64],
    rest: Vec<Arg<'a>>,
}

impl<'a> Scores<'a> {
    fn new(is_causal: bool, scale: f64, rest: Vec<Arg<'a>>) -> Scores<'a> {
        Scores { is_causal, scale, window: 0, softcap: 0.0, sinks: &[], rest }
    }
}

/// `softmax(q kᵀ · scale) v`; a query that sees no key gets zeros.
fn attention_of(q: &Nd, k: &Nd, v: &Nd, scores: &Scores) -> Nd {
    let (n, heads, d) = (q.dims[0], q.dims[1], q.dims[2]);
    let (m, kv_heads, width) = (k.dims[0], k.dims[1], v.dims[2]);
    let mut result = Nd::from_fn(&[n, heads, width], |_| 0.0);
    for row in 0..n * heads {
        let (i, h) = (row / heads, row % heads);
        let g = h / (heads / kv_heads);
        let end = if scores.is_causal { (i + 1 + m).saturating_sub(n) } else { m };
        let start = if scores.window > 0 { end.saturating_sub(scores.window) } else { 0 };
        let score = |j: usize| {
            let score = scores.scale * (0..d).map(|e| q.at(&[i, h, e]) * k.at(&[j, g, e])).sum::<f64>();
            if scores.softcap > 0.0 { scores.softcap * (score / scores.softcap).tanh() } else { score }
        };
        let of_keys: Vec<f64> = (start..end).map(score).collect();
        let sink = scores.sinks.get(h).copied().unwrap_or(f64::NEG_INFINITY);
        let largest = of_keys.iter().copied().fold(sink, f64::max);
        let sum: f64 = of_keys.iter().chain([&sink]).map(|score| (score - largest).exp()).sum();
        for e in 0..width {
            let weighted = |(j, score): (usize, &f64)| (score - largest).exp() / sum * v.at(&[start + j, g, e]);
            result.data[row * width + e] = of_keys.iter().enumerate().map(weighted).sum();
        }
    }
    result
}

fn attention(device: &Device, op: &'static Op) {
    // Queries, keys, the width of values.
    let cases: &[(&[usize], &[usize], usize)] = &[
        (&[1, 1, 1], &[1, 1, 1], 1),
        (&[1, 4, 8], &[7, 2, 8], 8),
        (&[5, 2, 8], &[5, 2, 8], 8),
        (&[3, 6, 16], &[7, 3, 16], 24),
        (&[4, 2, 8], &[2, 1, 8], 8),
        (&[3, 2, 8], &[0, 2, 8], 4),
        (&[0, 2, 8], &[3, 2, 8], 8),
        (&[2, 0, 8], &[3, 2, 8], 8),
        (&[2, 2, 0], &[3, 2, 0], 0),
        (&[2, 2, 0], &[3, 2, 0], 3),
        (&[2, 2, 8], &[3, 2, 8], 0),
        (&[33, 4, 64], &[100, 2, 64], 64),
        (&[3, 8, 48], &[300, 2, 48], 32),
        // As of latents, which all heads share.
        (&[2, 8, 576], &[30, 1, 576], 512),
    ];
    // Exponentials of sums of products, then a weighted mean of values up to 2.
    let tolerance = Tolerance { absolute: 5e-6, relative: 2e-6 };
    for (dtype, cache) in [(DType::F16, DType::F16), (DType::F32, DType::F32), (DType::F32, DType::F16)] {
        for &(q, kv, width) in cases {
            let qs = arrangements(device, dtype, &random(dtype, q, (-2.0, 2.0)));
            let ks = arrangements(device, cache, &random(cache, kv, (-2.0, 2.0)));
            let vs = arrangements(device, cache, &random(cache, &[kv[0], kv[1], width], (-1.0, 2.0)));
            let sinks = arrangements(device, DType::F32, &random(DType::F32, &[q[1]], (-1.0, 2.0)));
            let half_sinks = Input::contiguous(device, DType::F16, random(DType::F16, &[q[1]], (-1.0, 2.0)));
            let triples = (qs.iter().map(|q| (q, &ks[0], &vs[0])))
                .chain(ks.iter().map(|k| (&qs[0], k, &vs[0])))
                .chain(vs.iter().map(|v| (&qs[0], &ks[0], v)));
            for (q, k, v) in triples {
                let label = format!("{}, {}, {}", q.label, k.label, v.label);
                // Scores without elements are 0.
                let own = 1.0 / (q.nd.dims[2].max(1) as f64).sqrt();
                let none = Arg::None;
                let mut cases = vec![
                    Scores::new(true, own, vec![]),
                    Scores::new(false, own, vec![Arg::Bool(false)]),
                    Scores::new(true, 0.25, vec![none, Arg::Number(0.25)]),
                    Scores::new(false, 2.0, vec![Arg::Bool(false), Arg::Int(2)]),
                    Scores { window: 1, ..Scores::new(true, own, vec![none, none, Arg::Int(1)]) },
                    Scores { window: 5, ..Scores::new(true, own, vec![none, none, Arg::Int(5)]) },
                    Scores { softcap: 1.5, ..Scores::new(true, own, vec![none, none, none, Arg::Number(1.5)]) },
                    Scores {
                        softcap: 50.0,
                        sinks: &half_sinks.nd.data,
                        ..Scores::new(false, own, vec![Arg::Bool(false), none, none, Arg::Int(50), half_sinks.arg()])
                    },
                ];
                for sinks in &sinks {
                    let rest = vec![Arg::Bool(true), Arg::Number(0.5), Arg::Int(70), Arg::Number(2.0), sinks.arg()];
                    let scores = Scores::new(true, 0.5, rest);
                    cases.push(Scores { window: 70, softcap: 2.0, sinks: &sinks.nd.data, ..scores });
                }
                // A software GPU takes long for each: options on operands that lie contiguous, arrangements without.
                let is_arranged = !(std::ptr::eq(q, &qs[0]) && std::ptr::eq(k, &ks[0]) && std::ptr::eq(v, &vs[0]));
                cases.truncate(if device.is_gpu() && is_arranged { 4 } else { usize::MAX });
                for scores in &cases {
                    let expected = attention_of(&q.nd, &k.nd, &v.nd, scores);
                    let args: Vec<Arg> = [q.arg(), k.arg(), v.arg()].into_iter().chain(scores.rest.clone()).collect();
                    // A score is as far off as it is large, and its exponential by as large a part of itself.
                    let near = Tolerance { absolute: tolerance.absolute * scores.scale.max(1.0), ..tolerance };
                    check(device, op, &args, &label, (dtype, &expected), near);
                }
            }
        }
    }
}

/// Queries; then the heads of keys and of values, and how often each stands there.
type RepeatedHeads = ([usize; 3], (usize, usize), (usize, usize));

/// Heads of keys and values that stand several times in a row, as a textbook repeats them for the heads of queries: read where they
/// lie if both repeat alike, else copied.
#[test]
fn attention_over_repeated_heads() {
    let device = &crate::device();
    let op = tl_tensor::ops::by_name("attention").unwrap();
    let cases: &[RepeatedHeads] = &[
        ([1, 6, 8], (2, 3), (2, 3)),
        ([1, 3, 32], (1, 3), (1, 3)),
        ([5, 12, 16], (2, 3), (2, 3)),
        ([5, 32, 8], (4, 8), (4, 8)),
        ([4, 6, 8], (2, 3), (3, 2)),
        ([4, 6, 8], (1, 6), (3, 2)),
        ([4, 6, 8], (6, 1), (2, 3)),
        ([4, 6, 8], (2, 3), (6, 1)),
    ];
    let tolerance = Tolerance { absolute: 5e-6, relative: 2e-6 };
    for dtype in FLOATS {
        for &(q, k, v) in cases {
            for m in [7, 150] {
                let of = |(heads, times): (usize, usize)| {
                    let once = Input::contiguous(device, dtype, random(dtype, &[m, heads, q[2]], (-2.0, 2.0)));
                    if times > 1 { once.repeated(1, times) } else { once }
                };
                let (k, v) = (of(k), of(v));
                let scale = 1.0 / (q[2] as f64).sqrt();
                // Repeated queries are copied.
                let queries = random(dtype, &[q[0], q[1] / 2, q[2]], (-2.0, 2.0));
                let mut all = arrangements(device, dtype, &random(dtype, &q, (-2.0, 2.0)));
                if q[1].is_multiple_of(2) {
                    all.push(Input::contiguous(device, dtype, queries).repeated(1, 2));
                }
                for q in all {
                    let expected = attention_of(&q.nd, &k.nd, &v.nd, &Scores::new(true, scale, vec![]));
                    let label = format!("{}, {}, {}", q.label, k.label, v.label);
                    check(device, op, &[q.arg(), k.arg(), v.arg()], &label, (dtype, &expected), tolerance);
                }
            }
        }
    }
}

fn embedding(device: &Device, op: &'static Op) {
    for format in FORMATS {
        for (rows, n) in [(1, 32), (9, 64), (300, 1024)] {
            let n = whole_rows(format, &[n])[0];
            let (table, nd) = weight(device, format, &[rows, n], (-2.0, 2.0));
            let (larger, larger_nd) = weight(device, format, &[rows + 2, n], (-2.0, 2.0));
            let part = (larger.slice(0, 1, rows + 1).unwrap(), larger_nd.sliced(0, 1, rows + 1));
            for ids in [&[][..], &[0], &[3], &[2, 2], &[100]] {
                let ids = random(DType::I32, ids, (0.0, rows as f64));
                for ids in arrangements(device, DType::I32, &ids) {
                    for (table, nd) in [&(table.clone(), nd.clone()), &part] {
                        let dims = [&ids.nd.dims[..], &[n]].concat();
                        let rank = ids.nd.rank();
                        let row = |i: &[usize]| nd.at(&[ids.nd.at(&i[..rank]) as usize, i[rank]]);
                        let expected = Nd::from_fn(&dims, row);
                        let label = format!("{table:?} and {}", ids.label);
                        let args = [Arg::from(table), ids.arg()];
                        check(device, op, &args, &label, (DType::F16, &expected), EXACT);
                        for dtype in FLOATS {
                            let args = [Arg::from(table), ids.arg(), Arg::DType(dtype)];
                            check(device, op, &args, &label, (dtype, &expected), EXACT);
                        }
                    }
                }
            }
        }
    }
    // A float table need not lie contiguous.
    for dtype in FLOATS {
        let ids = Input::contiguous(device, DType::I32, Nd::new(&[3], vec![2.0, 0.0, 2.0]));
        for table in arrangements(device, dtype, &random(dtype, &[3, 5], (-2.0, 2.0))) {
            let expected = Nd::from_fn(&[3, 5], |i| table.nd.at(&[ids.nd.data[i[0]] as usize, i[1]]));
            let args = [table.arg(), ids.arg(), Arg::DType(dtype)];
            check(device, op, &args, &table.label, (dtype, &expected), EXACT);
        }
    }
}
