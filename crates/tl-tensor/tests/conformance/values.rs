//! The tensors that operations are tried on, and the comparison of results.

use half::f16;
use tl_device::{DType, Device, Layout, Role};
use tl_tensor::ops::{self, Arg, Op};
use tl_tensor::quant::Format;
use tl_tensor::{Error, Random, Tensor};

use crate::nd::Nd;

pub(crate) const FLOATS: [DType; 2] = [DType::F16, DType::F32];
pub(crate) const ALL: [DType; 4] = [DType::F16, DType::F32, DType::I32, DType::Bool];

/// The value that a tensor of this type keeps of `x`: rounded to nearest, or truncated within the range, or as truth.
pub(crate) fn stored(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F16 => f16::from_f64(x).to_f64(),
        DType::F32 => f64::from(x as f32),
        DType::I32 => f64::from(x as i32),
        _ => f64::from(x != 0.0),
    }
}

/// Random values that a tensor of this type can have, from `low` to `high`.
pub(crate) fn random(dtype: DType, dims: &[usize], (low, high): (f64, f64)) -> Nd {
    let mut random = Random::new(dims.iter().fold(7, |seed, &dim| seed * 31 + dim as u64));
    Nd::from_fn(dims, |_| {
        let x = f64::from(random.uniform());
        stored(dtype, if dtype == DType::Bool { f64::from(x < 0.5) } else { low + x * (high - low) })
    })
}

pub(crate) fn tensor(device: &Device, dtype: DType, nd: &Nd) -> Tensor {
    let dims = &nd.dims[..];
    let data = nd.data.iter();
    let made = match dtype {
        DType::F16 => Tensor::from_vec(device, data.map(|&x| f16::from_f64(x)).collect(), dims).map(Tensor::into_dyn),
        DType::F32 => Tensor::from_vec(device, data.map(|&x| x as f32).collect(), dims).map(Tensor::into_dyn),
        DType::I32 => Tensor::from_vec(device, data.map(|&x| x as i32).collect(), dims).map(Tensor::into_dyn),
        _ => Tensor::from_vec(device, data.map(|&x| x != 0.0).collect(), dims).map(Tensor::into_dyn),
    };
    made.unwrap()
}

/// The elements of a tensor.
pub(crate) fn elements(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.clone();
    match tensor.dtype() {
        DType::F16 => tensor.into_typed::<f16>().unwrap().to_vec().unwrap().iter().map(|x| x.to_f64()).collect(),
        DType::F32 => tensor.into_typed::<f32>().unwrap().to_vec().unwrap().iter().map(|&x| x.into()).collect(),
        DType::I32 => tensor.into_typed::<i32>().unwrap().to_vec().unwrap().iter().map(|&x| x.into()).collect(),
        _ => tensor.into_typed::<bool>().unwrap().to_vec().unwrap().iter().map(|&x| f64::from(x)).collect(),
    }
}

/// The tensor has exactly these elements; on a simulated device it has none to compare.
pub(crate) fn assert_elements(tensor: &Tensor, expected: &Nd) {
    if !tensor.device().is_simulated() {
        assert_eq!(elements(tensor), expected.data, "{}", tensor.layout());
    }
}

/// A tensor, its elements, and how it lies in memory.
pub(crate) struct Input {
    pub(crate) tensor: Tensor,
    pub(crate) nd: Nd,
    pub(crate) label: String,
}

impl Input {
    pub(crate) fn contiguous(device: &Device, dtype: DType, nd: Nd) -> Input {
        Input { tensor: tensor(device, dtype, &nd), label: format!("{dtype}{:?} contiguous", nd.dims), nd }
    }

    pub(crate) fn arg(&self) -> Arg<'_> {
        Arg::Tensor(self.tensor.as_dyn())
    }

    /// Whether one of the dimensions repeats each of its elements: of such a tensor there are no views.
    pub(crate) fn is_repeated(&self) -> bool {
        self.label.ends_with(REPEATED)
    }

    /// Each element along a dimension `times` times, without a copy.
    pub(crate) fn repeated(&self, axis: usize, times: usize) -> Input {
        let nd = &self.nd;
        let mut dims = nd.dims.clone();
        dims.insert(axis + 1, times);
        let broadcast = self.tensor.unsqueeze(axis as isize + 1).unwrap().broadcast_to(&dims[..]).unwrap();
        dims.remove(axis + 1);
        dims[axis] *= times;
        let tensor = broadcast.reshape(&dims[..]).unwrap();
        assert!(is_same_memory(&tensor, &self.tensor), "{dims:?} is a view");
        let nd = Nd::from_fn(&dims, |index| {
            let mut own = index.to_vec();
            own[axis] /= times;
            nd.at(&own)
        });
        Input { tensor, label: format!("{}, {dims:?}, {axis} {REPEATED}", self.label), nd }
    }
}

const REPEATED: &str = "repeated";

/// The same elements in every arrangement: contiguous, transposed, cut out of a larger tensor, every second element of
/// one, and (with equal elements along a dimension) broadcast, or each repeated.
pub(crate) fn arrangements(device: &Device, dtype: DType, nd: &Nd) -> Vec<Input> {
    let rank = nd.rank();
    let mut all = vec![Input::contiguous(device, dtype, nd.clone())];
    let mut add = |tensor: Tensor, nd: Nd, what: &str| {
        let label = format!("{dtype}{:?} {what}", nd.dims);
        all.push(Input { tensor, nd, label });
    };
    let pairs = Nd::from_fn(&[&nd.dims[..], &[2]].concat(), |i| if i[rank] == 1 { nd.at(&i[..rank]) } else { 99.0 });
    add(tensor(device, dtype, &pairs).select(-1, 1).unwrap(), nd.clone(), "every second");
    if rank == 0 {
        return all;
    }
    let reversed: Vec<usize> = (0..rank).rev().collect();
    let axes: Vec<i64> = reversed.iter().map(|&axis| axis as i64).collect();
    add(tensor(device, dtype, &nd.permuted(&reversed)).permute(&axes).unwrap(), nd.clone(), "transposed");
    let padded: Vec<usize> = nd.dims.iter().map(|dim| dim + 3).collect();
    let larger = Nd::from_fn(&padded, |index| {
        let is_inside = index.iter().zip(&nd.dims).all(|(&i, &dim)| (1..=dim).contains(&i));
        if is_inside { nd.at(&index.iter().map(|i| i - 1).collect::<Vec<_>>()) } else { 99.0 }
    });
    let cut = (0..rank)
        .fold(tensor(device, dtype, &larger), |cut, axis| cut.slice(axis as isize, 1, 1 + nd.dims[axis]).unwrap());
    add(cut, nd.clone(), "cut out");
    if nd.dims[0] > 0 {
        let row = nd.sliced(0, 0, 1);
        let broadcast = tensor(device, dtype, &row).broadcast_to(&nd.dims[..]).unwrap();
        add(broadcast, row.broadcast_to(&nd.dims), "broadcast");
    }
    for (axis, &n) in nd.dims.iter().enumerate() {
        if let Some(times) = (2..n).find(|times| n.is_multiple_of(*times)) {
            let mut dims = nd.dims.clone();
            dims[axis] /= times;
            let once = Nd::from_fn(&dims, |index| nd.at(index));
            all.push(Input::contiguous(device, dtype, once).repeated(axis, times));
        }
    }
    all
}

/// How far a result may be from the reference, beyond the rounding of the result to its type (half a unit in the last
/// place), which always is allowed.
#[derive(Clone, Copy)]
pub(crate) struct Tolerance {
    pub(crate) absolute: f64,
    pub(crate) relative: f64,
}

/// The same to the last bit of the type.
pub(crate) const EXACT: Tolerance = Tolerance { absolute: 0.0, relative: 0.0 };
/// A few roundings in `f32`, each of 6e-8.
pub(crate) const FEW_ROUNDINGS: Tolerance = Tolerance { absolute: 1e-7, relative: 5e-7 };

/// A sum of `n` terms of no more than `size` in `f32`. The roundings of its independent parts add up like a random walk,
/// but where all terms are equal: those of a part, up to 64 of 3e-8 on average, then go the same way.
pub(crate) fn sum_of(n: usize, size: f64) -> Tolerance {
    Tolerance { absolute: 6e-7 * size * (n as f64 + 1.0).sqrt(), relative: 2e-6 }
}

fn rounding(dtype: DType, x: f64) -> f64 {
    match dtype {
        DType::F16 => (x.abs() * 4.9e-4).max(3.0e-8),
        DType::F32 => (x.abs() * 6.0e-8).max(1e-45),
        _ => 0.0,
    }
}

/// Runs an operation and compares its result. The result must have the type that the rule names, which `apply` promises.
pub(crate) fn check(
    device: &Device,
    op: &'static Op,
    args: &[Arg<'_>],
    label: &str,
    (dtype, expected): (DType, &Nd),
    tolerance: Tolerance,
) -> Tensor {
    check_each(device, op, args, label, (dtype, expected), |_| tolerance)
}

/// As `check`, with a tolerance for each element.
pub(crate) fn check_each(
    device: &Device,
    op: &'static Op,
    args: &[Arg<'_>],
    label: &str,
    (dtype, expected): (DType, &Nd),
    tolerance: impl Fn(usize) -> Tolerance,
) -> Tensor {
    let raw = ops::apply(op, device, args).unwrap_or_else(|error| panic!("{} of {label}: {error}", op.name));
    let result = Tensor::from(raw);
    assert_eq!((result.dtype(), result.dims()), (dtype, &expected.dims[..]), "{} of {label}", op.name);
    for (i, (found, want)) in elements(&result).into_iter().zip(expected.data.iter().copied()).enumerate() {
        let tolerance = tolerance(i);
        // WGSL lets a device compute quotients, exponentials and logarithms to a few units in the last place.
        let slack = if device.is_gpu() { 8.0 } else { 1.0 };
        let tolerance = Tolerance { absolute: slack * tolerance.absolute, relative: slack * tolerance.relative };
        let near = tolerance.absolute + tolerance.relative * want.abs() + rounding(dtype, want);
        let is_right = match dtype {
            DType::F16 | DType::F32 if want.is_nan() => found.is_nan(),
            DType::F16 | DType::F32 => found == stored(dtype, want) || (found - want).abs() <= near,
            _ => found == stored(dtype, want),
        };
        assert!(is_right, "{} of {label}: element {i} is {found}, not {want} (± {near:e})", op.name);
    }
    result
}

/// What an operation answers to arguments that it refuses.
pub(crate) fn refusal(device: &Device, op: &'static Op, args: &[Arg<'_>]) -> Error {
    match ops::apply(op, device, args) {
        Ok(raw) => panic!("{} gave {}{}", op.name, raw.dtype(), raw.shape()),
        Err(error) => error,
    }
}

/// A weight in a stored format, and the values that it has after rounding to the format.
pub(crate) fn weight(device: &Device, format: &Format, dims: &[usize], (low, high): (f64, f64)) -> (Tensor, Nd) {
    let layout = Layout::new(format.dtype, dims);
    let mut lease = device.take(&layout, Role::Learnable).unwrap();
    let nd = random(DType::F32, dims, (low, high));
    let values: Vec<f32> = nd.data.iter().map(|&x| x as f32).collect();
    let mut blocks = vec![0; lease.len_bytes()];
    (format.kernels.quantize.expect("a format that can be written"))(&values, &mut blocks);
    lease.write(0, &blocks).unwrap();
    let mut rounded = vec![0f32; values.len()];
    (format.kernels.dequantize)(device.threads().isa(), &blocks, &mut rounded);
    let tensor = Tensor::from_lease(lease, &layout).unwrap();
    (tensor, Nd::new(dims, rounded.into_iter().map(f64::from).collect()))
}

/// Dimensions whose rows are whole blocks of a format: the last one, or the next larger that is.
pub(crate) fn whole_rows(format: &Format, dims: &[usize]) -> Vec<usize> {
    let mut dims = dims.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = last.next_multiple_of(format.dtype.block_elems());
    }
    dims
}

/// Whether two tensors are views of the same memory.
pub(crate) fn is_same_memory(a: &Tensor, b: &Tensor) -> bool {
    tl_device::HoldsMemory::storage(a).is_same(tl_device::HoldsMemory::storage(b))
}
