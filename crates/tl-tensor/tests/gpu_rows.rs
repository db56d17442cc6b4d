//! Row-wise operations on a GPU against the CPU's results: awkward sizes, large ones, and that nothing falls back to the CPU.
//!
//! Skipped where the machine has no GPU, unless `TL_REQUIRE_GPU` is set.

use tl_device::{DType, Device, DeviceOptions, Layout, Role, Shape};
use tl_tensor::ops::{self, Arg};
use tl_tensor::quant::FORMATS;
use tl_tensor::{Random, Tensor, TensorMut};

#[path = "../../../tests/gpu.rs"]
mod gpu;
use gpu::gpu;

/// With everything that the device offers, and with what every device has; none where there is no GPU.
fn gpus() -> Vec<Device> {
    gpus_with(&DeviceOptions::default())
}

fn gpus_with(options: &DeviceOptions) -> Vec<Device> {
    let mut plain = options.clone();
    (plain.gpu.use_f16, plain.gpu.use_subgroups) = (false, false);
    let open = |options: &DeviceOptions| gpu(options);
    [options.clone(), plain].iter().filter_map(open).collect()
}

/// An operand by its values; `shift` elements lie before it in the same memory.
#[derive(Clone)]
struct Values {
    dtype: DType,
    dims: Vec<usize>,
    shift: usize,
    data: Vec<f32>,
}

impl Values {
    fn random(dtype: DType, dims: &[usize], (low, high): (f32, f32)) -> Values {
        let n = dims.iter().product::<usize>();
        let mut random = Random::new(n as u64 + 3);
        let mut next = || low + (high - low) * random.uniform();
        let data = (0..n).map(|_| if dtype == DType::I32 { next().floor() } else { next() }).collect();
        Values { dtype, dims: dims.to_vec(), shift: 0, data }
    }

    fn shifted(&self, shift: usize) -> Values {
        Values { shift, ..self.clone() }
    }

    fn tensor(&self, device: &Device) -> Tensor {
        let all: Vec<f32> = vec![7.0; self.shift].into_iter().chain(self.data.iter().copied()).collect();
        let n = all.len();
        let cast = |what: &'static str, tensor: Tensor| {
            let args = [Arg::Tensor(tensor.as_dyn()), Arg::DType(self.dtype)];
            Tensor::from(ops::apply(ops::by_name(what).unwrap(), device, &args).unwrap())
        };
        let flat = match self.dtype {
            DType::I32 => Tensor::from_vec(device, all.iter().map(|&x| x as i32).collect(), [n]).unwrap().into_dyn(),
            DType::F32 => Tensor::from_vec(device, all, [n]).unwrap().into_dyn(),
            _ => cast("cast", Tensor::from_vec(device, all, [n]).unwrap().into_dyn()),
        };
        flat.slice(0, self.shift, n).unwrap().reshape(&self.dims[..]).unwrap()
    }
}

/// Operations that were left to the CPU.
fn host_fallbacks(device: &Device) -> u64 {
    device.gpu_stats().map_or(0, |stats| stats.host_fallbacks)
}

fn elements(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.clone();
    match tensor.dtype() {
        DType::F16 => tensor.into_typed::<half::f16>().unwrap().to_vec().unwrap().iter().map(|x| x.to_f64()).collect(),
        DType::F32 => tensor.into_typed::<f32>().unwrap().to_vec().unwrap().iter().map(|&x| x.into()).collect(),
        DType::I32 => tensor.into_typed::<i32>().unwrap().to_vec().unwrap().iter().map(|&x| x.into()).collect(),
        _ => tensor.into_typed::<bool>().unwrap().to_vec().unwrap().iter().map(|&x| f64::from(x)).collect(),
    }
}

/// An operation on these operands and, behind them, these arguments: the GPU's result is the CPU's but for `tolerance`,
/// absolute and relative, and no work is left to the CPU.
fn check(devices: &[Device], name: &str, operands: &[Values], rest: &[Arg], tolerance: f64) {
    let op = ops::by_name(name).unwrap();
    let run = |device: &Device| {
        let tensors: Vec<Tensor> = operands.iter().map(|values| values.tensor(device)).collect();
        let before = host_fallbacks(device);
        let mut args: Vec<Arg> = tensors.iter().map(|tensor| Arg::Tensor(tensor.as_dyn())).collect();
        args.extend(rest.iter().cloned());
        let shapes: Vec<_> = operands.iter().map(|x| (x.dtype.to_string(), &x.dims, x.shift)).collect();
        let result = ops::apply(op, device, &args).unwrap_or_else(|error| panic!("{name} of {shapes:?}: {error}"));
        let result = elements(&Tensor::from(result));
        assert_eq!(before, host_fallbacks(device), "{name} of {shapes:?} ran on the CPU");
        (result, format!("{name} of {shapes:?}"))
    };
    let (expected, label) = run(&Device::cpu());
    for device in devices {
        let (found, _) = run(device);
        assert_eq!(found.len(), expected.len(), "{label}");
        for (i, (&found, &want)) in found.iter().zip(&expected).enumerate() {
            let is_near = found == want || (found - want).abs() <= tolerance * (1.0 + want.abs());
            assert!(is_near || found.is_nan() && want.is_nan(), "{label}: element {i} is {found}, not {want}");
        }
    }
}

const FLOATS: [DType; 2] = [DType::F16, DType::F32];

/// What a result rounded to this type may be off by.
fn near(dtype: DType) -> f64 {
    if dtype == DType::F16 { 1e-3 } else { 5e-6 }
}

#[test]
fn softmax_of_long_rows_and_columns() {
    let devices = gpus();
    for dtype in FLOATS {
        for dims in
            [&[1, 4][..], &[3, 1, 400], &[1, 1024], &[1, 32_000], &[2, 32_003], &[5, 70], &[3, 300, 8], &[2, 300, 7]]
        {
            let x = Values::random(dtype, dims, (-8.0, 8.0));
            for shift in [0, 3, 4] {
                for axis in 1..dims.len() {
                    for name in ["softmax", "log_softmax"] {
                        check(&devices, name, &[x.shifted(shift)], &[Arg::Int(axis as i64)], near(dtype));
                    }
                }
            }
        }
    }
}

#[test]
fn reductions_of_long_and_wide_dimensions() {
    let devices = gpus();
    for dtype in [DType::F16, DType::F32, DType::I32] {
        let shapes: &[&[usize]] = &[
            &[1, 1],
            &[3, 16],
            &[3, 17],
            &[1, 32_000],
            &[2, 31_999],
            &[9, 2048],
            &[515, 70],
            &[2000, 3, 5],
            &[3, 1000, 68],
            &[700, 30, 2],
        ];
        for dims in shapes {
            let x = Values::random(dtype, dims, (-5.0, 5.0));
            for shift in [0, 1] {
                for axis in (0..dims.len()).map(|axis| Arg::Int(axis as i64)).chain([Arg::None]) {
                    for name in ["max", "min", "argmax", "argmin"] {
                        check(&devices, name, &[x.shifted(shift)], std::slice::from_ref(&axis), 0.0);
                    }
                    for name in ["sum", "mean", "norm"] {
                        // Of integers, sums are the CPU's.
                        if dtype != DType::I32 {
                            check(&devices, name, &[x.shifted(shift)], std::slice::from_ref(&axis), 4.0 * near(dtype));
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn the_extreme_is_found_among_equals_and_nan() {
    let devices = gpus();
    for n in [5, 40, 3000] {
        for dims in [[1, n], [n, 1]] {
            let mut x = Values::random(DType::F32, &dims, (0.0, 1.0));
            let last = n - 1;
            for special in
                [&[(last, -0.0f32), (1, 0.0)][..], &[(2, 9.0), (last, 9.0)], &[(3, f32::NAN), (last, f32::NAN)]]
            {
                special.iter().for_each(|&(at, value)| x.data[at] = value);
                for name in ["max", "min", "argmax", "argmin"] {
                    check(&devices, name, std::slice::from_ref(&x), &[], 0.0);
                    check(&devices, name, std::slice::from_ref(&x), &[Arg::Int(0)], 0.0);
                    check(&devices, name, std::slice::from_ref(&x), &[Arg::Int(1)], 0.0);
                }
            }
            let lowest = Values { data: vec![f32::NEG_INFINITY; n], ..x };
            for name in ["max", "argmax", "min", "argmin", "softmax", "log_softmax"] {
                check(&devices, name, std::slice::from_ref(&lowest), &[Arg::Int(1)], 0.0);
            }
        }
    }
}

#[test]
fn normalizations_of_rows_that_do_and_do_not_come_in_fours() {
    let devices = gpus();
    for dtype in FLOATS {
        for (rows, n) in [(1, 1), (1, 7), (6, 5), (1, 2048), (512, 64), (3, 4097), (2, 32_000)] {
            let x = Values::random(dtype, &[rows, n], (-3.0, 3.0));
            let w = Values::random(DType::F32, &[n], (-2.0, 2.0));
            let b = Values::random(DType::F16, &[n], (-1.0, 1.0));
            for (shift, w_shift) in [(0, 0), (4, 8), (0, 1), (2, 0)] {
                let (x, w, b) = (x.shifted(shift), w.shifted(w_shift), b.shifted(w_shift));
                check(&devices, "rms_norm", &[x.clone(), w.clone()], &[], 2.0 * near(dtype));
                check(&devices, "rms_norm", &[x.clone(), b.clone()], &[Arg::Number(0.5)], 2.0 * near(dtype));
                // With one element, all that remains is the rounding of its deviation.
                if n > 1 {
                    check(&devices, "layer_norm", &[x.clone(), w.clone()], &[], 2.0 * near(dtype));
                    check(&devices, "layer_norm", &[x.clone(), w, b], &[], 2.0 * near(dtype));
                }
                check(&devices, "swiglu", &[x.clone(), x.shifted(w_shift)], &[], near(dtype));
            }
        }
    }
}

#[test]
fn angles_stay_exact_at_far_positions() {
    let devices = gpus();
    for dtype in FLOATS {
        for dims in [&[1, 32, 64][..], &[33, 4, 128], &[5, 3, 6], &[2, 1, 2], &[3, 5, 7], &[2, 2, 512]] {
            let x = Values::random(dtype, dims, (-3.0, 3.0));
            let even = (dims[2] / 4 * 2) as i64;
            for (pos, base, rotated) in [(0, 1e4, dims[2] as i64 & !1), (131_000, 1e4, even), (5_000_000, 5e5, even)] {
                for shift in [0, 1] {
                    let rest = [Arg::Int(pos), Arg::Number(base), Arg::Int(rotated)];
                    check(&devices, "rope", &[x.shifted(shift)], &rest, near(dtype));
                }
            }
        }
    }
}

/// A weight in a stored format, on each of the devices.
fn weight(devices: &[&Device], format: &tl_tensor::quant::Format, dims: &[usize]) -> Vec<Tensor> {
    let values = Values::random(DType::F32, dims, (-2.0, 2.0)).data;
    let layout = Layout::new(format.dtype, dims);
    let on = |device: &&Device| {
        let mut lease = device.take(&layout, Role::Learnable).unwrap();
        let mut blocks = vec![0; lease.len_bytes()];
        (format.kernels.quantize.expect("a format that can be written"))(&values, &mut blocks);
        lease.write(0, &blocks).unwrap();
        Tensor::from_lease(lease, &layout).unwrap()
    };
    devices.iter().map(on).collect()
}

#[test]
fn embedding_of_tables_in_every_format_and_in_parts() {
    let mut options = DeviceOptions::default();
    options.gpu.max_binding_bytes = Some(300 << 10);
    let (devices, in_parts) = (gpus(), gpus_with(&options));
    let cpu = Device::cpu();
    for format in FORMATS.iter().filter(|format| format.kernels.quantize.is_some()) {
        for (rows, n, first) in [(1usize, 256usize, 0), (40, 512, 3), (2500, 768, 1), (37, 13, 1), (5, 12, 2)] {
            if !n.is_multiple_of(format.dtype.block_elems()) {
                continue;
            }
            let all: Vec<&Device> = std::iter::once(&cpu).chain(&devices).chain(&in_parts).collect();
            let tables = weight(&all, format, &[rows + first, n]);
            let ids: Vec<i32> = (0..57).map(|i| (i * 911 % rows) as i32).chain([0, rows as i32 - 1]).collect();
            for dtype in FLOATS {
                let mut expected = None;
                for (device, table) in all.iter().zip(&tables) {
                    // A view of a larger table that is bound in parts: what lies before it is bound too.
                    let table = table.slice(0, first, rows + first).unwrap();
                    let ids = Tensor::from_vec(device, ids.clone(), [ids.len()]).unwrap();
                    let before = host_fallbacks(device);
                    let found = elements(&table.embedding_as(&ids, dtype).unwrap());
                    // The one format that no program unpacks.
                    let is_left = host_fallbacks(device) > before && format.dtype.to_string() != "iq4_nl";
                    assert!(!is_left, "{} [{rows}, {n}] ran on the CPU", format.dtype);
                    let expected = expected.get_or_insert_with(|| found.clone());
                    assert!(found == *expected, "{} [{rows}, {n}] as {dtype}", format.dtype);
                }
            }
        }
    }
}

#[test]
fn elements_by_their_index() {
    let devices = gpus();
    for dtype in [DType::F16, DType::F32, DType::I32] {
        let x = Values::random(dtype, &[70, 31, 9], (-50.0, 50.0));
        for (axis, size) in [(0, 70.0), (1, 31.0), (2, 9.0)] {
            for n in [1, 6, 500] {
                let index = Values::random(DType::I32, &[n], (-size, size));
                let op = ops::by_name("index_select").unwrap();
                let run = |device: &Device| {
                    let (x, index) = (x.tensor(device), index.tensor(device));
                    let args = [Arg::Tensor(x.as_dyn()), Arg::Int(axis), Arg::Tensor(index.as_dyn())];
                    elements(&Tensor::from(ops::apply(op, device, &args).unwrap()))
                };
                let expected = run(&Device::cpu());
                for device in &devices {
                    assert!(run(device) == expected, "{dtype} {axis} {n}");
                    assert_eq!(host_fallbacks(device), 0);
                }
            }
        }
    }
    let fills: [(&str, &[Arg]); 5] = [
        ("arange", &[Arg::Int(-3), Arg::Int(1000), Arg::Int(7)]),
        // Positions of tokens, which float16 would round.
        ("arange", &[Arg::Int(99_000), Arg::Int(100_001), Arg::Int(1), Arg::DType(DType::F32)]),
        ("eye", &[Arg::Int(131)]),
        ("causal_mask", &[Arg::Int(5), Arg::Int(301)]),
        ("causal_mask", &[Arg::Int(301), Arg::Int(5)]),
    ];
    for (name, args) in fills {
        check(&devices, name, &[], args, 0.0);
    }
}

#[test]
fn an_index_that_names_nothing_is_an_error_when_the_result_is_read() {
    for device in gpus() {
        let x = Values::random(DType::F32, &[3, 4], (0.0, 1.0)).tensor(&device);
        for id in [-1, 3, i32::MAX] {
            let ids = Tensor::from_vec(&device, vec![0, id], [2]).unwrap();
            let found = x.embedding::<f32>(&ids).unwrap().to_vec().unwrap_err().to_string();
            assert!(found.contains(&format!("{id}")) && found.contains('3'), "{found}");
        }
        for id in [-4, 3, i32::MIN, i32::MAX] {
            let ids = Tensor::from_vec(&device, vec![0, id], [2]).unwrap();
            let found = x.index_select(0, &ids).unwrap().into_typed::<f32>().unwrap().to_vec().unwrap_err().to_string();
            assert!(found.contains(&format!("{id}")) && found.contains('3'), "{found}");
        }
    }
}

/// Rows move onto those that they come from, as on the CPU, whether they lie close or far.
#[test]
fn rows_move_to_the_front() {
    for device in gpus() {
        for dtype in [DType::F16, DType::F32] {
            for (rows, width, start, n) in [
                (9, 4, 0, 0),
                (9, 4, 3, 0),
                (9, 4, 0, 9),
                (9, 4, 2, 7),
                (9, 2, 8, 1),
                (600, 6, 5, 590),
                (700, 34, 300, 400),
            ] {
                let values = Values::random(dtype, &[rows, width], (-8.0, 8.0));
                let moved = |device: &Device| {
                    let mut memory = TensorMut::new(device, &Layout::new(dtype, [rows, width])).unwrap();
                    memory.write_rows(0, &values.tensor(device)).unwrap();
                    memory.move_to_front(start, n).unwrap();
                    let mut dims = Shape::new(&[]);
                    let args = [Arg::Operand(&memory.rows(rows, &mut dims)), Arg::DType(DType::F32)];
                    let all = ops::apply(ops::by_name("cast").unwrap(), device, &args).unwrap();
                    Tensor::from(all).into_typed::<f32>().unwrap().to_vec().unwrap()
                };
                let (found, expected) = (moved(&device), moved(&Device::cpu()));
                assert_eq!(found, expected, "{dtype} [{rows}, {width}]: {n} rows from {start} on");
                assert!(n == 0 || start == 0 || found[0] != values.data[0], "nothing moved");
            }
        }
        let mut odd = TensorMut::new(&device, &Layout::new(DType::F16, [4, 3])).unwrap();
        let error = odd.move_to_front(1, 2).unwrap_err().to_string();
        assert!(error.contains("a multiple of 4 on a GPU"), "{error}");
        assert!(odd.move_to_front(3, 2).is_err());
    }
}

/// Tensors of more dimensions than a program steps through, and of a type that programs cannot store, are joined on the host.
#[test]
fn concat_on_the_host() {
    let cpu = Device::cpu();
    for device in gpus() {
        let joined = |device: &Device| {
            let x = Values::random(DType::F32, &[2, 3, 2, 3, 2, 3], (-1.0, 1.0)).shifted(5).tensor(device);
            let turned = x.permute(&[5, 1, 3, 0, 4, 2]).unwrap();
            elements(&Tensor::concat(&[turned.slice(1, 1, 3).unwrap(), turned], 1).unwrap())
        };
        let before = host_fallbacks(&device);
        assert_eq!(joined(&device), joined(&cpu));
        assert_eq!(host_fallbacks(&device), before + 1);
        let bf16 = FORMATS.iter().find(|format| format.dtype.to_string() == "bf16").unwrap();
        let [found, expected] = weight(&[&device, &cpu], bf16, &[6, 8]).try_into().unwrap();
        let read = |x: Tensor| {
            let all = Tensor::concat(&[x.clone(), x], 0).unwrap();
            let mut values = vec![0.0; all.n_elems()];
            all.read_f32(&mut values).unwrap();
            values
        };
        assert_eq!(read(found), read(expected));
    }
}
