//! Operations: the table [`OPS`], and [`apply`], the one way to run a row of it.
//!
//! An operation has one file or shares one with its kind: its parameters, its shape rule (which serves the checker and the
//! running program alike), its kernel, its method on `Tensor`. A row joins the language, the documentation and the tests
//! by being in the table. To add an elementwise operation, add a row in `elementwise.rs`; to add another, write its file
//! and put its row into [`OPS`].

pub(crate) mod access;
mod attention;
pub(crate) mod cast;
pub(crate) mod create;
mod einsum;
mod elementwise;
mod embedding;
mod gather;
mod join;
mod matmul;
mod norm;
mod reduce;
mod rope;
mod rule;
mod view;

use smallvec::SmallVec;
use tl_device::{DType, Device, Layout, Role};
use tl_kernels::{Threads, View, Weight};

pub use rule::{ArgType, RuleArgs, Size, Sizes, TensorType};

use crate::tensor::{Raw, contiguous_strides, is_contiguous, take};
use crate::{Error, Fault, Tensor};

pub(crate) use view::CONTIGUOUS;

/// A row of [`OPS`].
pub struct Op {
    /// The name in programs.
    pub name: &'static str,
    /// Where it stands in the documentation.
    pub group: Group,
    /// One sentence, the formula, shapes, dtypes.
    pub doc: &'static str,
    /// The parameters, in order.
    pub params: &'static [Param],
    /// The type of the result, or the rule that the operands break.
    pub rule: fn(&RuleArgs) -> Result<TensorType, Fault>,
    /// How it is done.
    pub run: Run,
}

impl std::fmt::Debug for Op {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Op({})", self.name)
    }
}

/// The chapters of the documentation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Group {
    /// Tensors from nothing.
    Create,
    /// The same elements in another arrangement.
    Shape,
    /// Each element for itself.
    Elementwise,
    /// Many elements to one.
    Reduce,
    /// Products of matrices.
    Linear,
    /// What transformers are made of.
    Transformer,
}

/// A parameter of an operation.
pub struct Param {
    /// Its name, which callers may use.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is when left out; `None`: it must be given.
    pub default: Option<Default>,
}

/// What a parameter takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A tensor of activations.
    Tensor,
    /// A tensor that may also be a weight in a stored format.
    Weight,
    /// A tensor or a plain number, which takes the tensors' type.
    TensorOrNumber,
    /// A list of tensors.
    Tensors,
    /// A tensor of `int32`, or a list of integers.
    Ids,
    /// An integer.
    Int,
    /// A list of integers.
    Ints,
    /// A plain number.
    Number,
    /// A truth value.
    Bool,
    /// A text.
    Text,
    /// A data type's name.
    DType,
}

/// The value of a parameter that is left out.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Default {
    /// Nothing; the operation does without.
    Absent,
    /// This integer.
    Int(i64),
    /// This number.
    Number(f64),
    /// This truth value.
    Bool(bool),
}

impl Default {
    /// The default as an argument.
    pub fn arg(self) -> Arg<'static> {
        match self {
            Default::Absent => Arg::None,
            Default::Int(n) => Arg::Int(n),
            Default::Number(x) => Arg::Number(x),
            Default::Bool(value) => Arg::Bool(value),
        }
    }
}

/// A parameter that must be given.
pub(crate) const fn required(name: &'static str, kind: Kind) -> Param {
    Param { name, kind, default: None }
}

/// A parameter that may be left out.
pub(crate) const fn optional(name: &'static str, kind: Kind, default: Default) -> Param {
    Param { name, kind, default: Some(default) }
}

/// An argument of [`apply`], by the position of its parameter.
#[derive(Clone)]
pub enum Arg<'a> {
    /// Left out.
    None,
    /// A tensor.
    Tensor(&'a Raw),
    /// Memory that is read like a tensor: rows of a [`TensorMut`](crate::TensorMut).
    Operand(Operand<'a>),
    /// A list of tensors.
    Tensors(&'a [Tensor]),
    /// A number with a fraction.
    Number(f64),
    /// An integer; taken wherever a number is.
    Int(i64),
    /// A list of integers.
    Ints(&'a [i64]),
    /// A truth value.
    Bool(bool),
    /// A text.
    Text(&'a str),
    /// A data type.
    DType(DType),
}

/// A tensor as a kernel reads it: bytes from its first element on, dimensions, strides.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub(crate) dtype: DType,
    pub(crate) bytes: &'a [u8],
    pub(crate) dims: &'a [usize],
    pub(crate) strides: &'a [usize],
}

impl<'a> Operand<'a> {
    /// The elements from the first one on.
    pub(crate) fn data<T: bytemuck::Pod>(&self) -> Result<&'a [T], Fault> {
        let whole = self.bytes.len() / size_of::<T>() * size_of::<T>();
        bytemuck::try_cast_slice(&self.bytes[..whole]).map_err(|_| Fault::Unaligned { dtype: self.dtype })
    }

    pub(crate) fn kernel_view<T: bytemuck::Pod>(&self) -> Result<View<'a, T>, Fault> {
        Ok(View { data: self.data()?, dims: self.dims, strides: self.strides })
    }

    /// Exactly the elements of a contiguous operand.
    pub(crate) fn slice<T: bytemuck::Pod>(&self) -> Result<&'a [T], Fault> {
        self.data::<T>().map(|data| data.get(..self.n_elems()).unwrap_or_default())
    }

    pub(crate) fn n_elems(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn is_contiguous(&self) -> bool {
        is_contiguous(self.dims, self.strides)
    }

    /// The operand as a weight: rows of blocks.
    pub(crate) fn weight(&self) -> Result<Weight<'a>, Fault> {
        let expected = "a float type or a weight format";
        let fault = Fault::DType { operand: "a weight", expected, found: self.dtype };
        let format = crate::quant::format_of(self.dtype).ok_or(fault)?;
        Ok(Weight { bytes: self.bytes, format: format.kernels })
    }
}

/// How an operation is done.
pub enum Run {
    /// The result is a view of the first operand, where its strides allow it; else a copy is taken first.
    View(fn(&Raw, &[Arg], &Layout) -> Option<Raw>),
    /// The result is computed into new memory.
    Kernel(fn(&mut Call) -> Result<(), Fault>),
    /// As `Kernel`, on operands that lie contiguous; others are copied first.
    ContiguousKernel(fn(&mut Call) -> Result<(), Fault>),
}

/// What a kernel gets: its arguments and the memory of its result.
pub struct Call<'a> {
    pub(crate) threads: &'a Threads,
    args: &'a [Arg<'a>],
    /// The type of the result.
    pub(crate) dtype: DType,
    /// The dimensions of the result, which is contiguous.
    pub(crate) dims: &'a [usize],
    pub(crate) out: &'a mut [u8],
}

impl<'a> Call<'a> {
    pub(crate) fn arg(&self, index: usize) -> &'a Arg<'a> {
        self.args.get(index).unwrap_or(&Arg::None)
    }

    /// An operand that must be a tensor.
    pub(crate) fn operand(&self, index: usize) -> Result<Operand<'a>, Fault> {
        self.optional_operand(index).ok_or(Fault::Unknown)
    }

    pub(crate) fn optional_operand(&self, index: usize) -> Option<Operand<'a>> {
        operand_of(self.arg(index))
    }

    pub(crate) fn number(&self, index: usize) -> Result<f64, Fault> {
        match self.arg(index) {
            Arg::Number(x) => Ok(*x),
            Arg::Int(n) => Ok(*n as f64),
            _ => Err(Fault::Unknown),
        }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, Fault> {
        match self.arg(index) {
            Arg::Int(n) => Ok(*n),
            _ => Err(Fault::Unknown),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> bool {
        matches!(self.arg(index), Arg::Bool(true))
    }

    /// The result's memory as elements.
    pub(crate) fn out<T: bytemuck::Pod>(&mut self) -> Result<&mut [T], Fault> {
        let dtype = self.dtype;
        bytemuck::try_cast_slice_mut(self.out).map_err(|_| Fault::Unaligned { dtype })
    }
}

fn operand_of<'a>(arg: &Arg<'a>) -> Option<Operand<'a>> {
    match arg {
        Arg::Tensor(raw) => Some(raw.operand()),
        Arg::Operand(operand) => Some(*operand),
        _ => None,
    }
}

/// Runs the same code for `float16` and `float32`; another type is the fault given.
macro_rules! with_float {
    ($dtype:expr, $operand:expr, $T:ident => $body:expr) => {
        match $dtype {
            tl_device::DType::F16 => {
                type $T = half::f16;
                $body
            }
            tl_device::DType::F32 => {
                type $T = f32;
                $body
            }
            found => Err(crate::Fault::DType { operand: $operand, expected: "float16 or float32", found }),
        }
    };
}
pub(crate) use with_float;

/// Every operation.
pub static OPS: &[&[&Op]] = &[
    create::OPS,
    view::OPS,
    join::OPS,
    gather::OPS,
    cast::OPS,
    elementwise::TABLES[0],
    elementwise::TABLES[1],
    elementwise::TABLES[2],
    elementwise::TABLES[3],
    elementwise::TABLES[4],
    reduce::OPS,
    matmul::OPS,
    einsum::OPS,
    norm::OPS,
    rope::OPS,
    attention::OPS,
    embedding::OPS,
];

/// All rows of [`OPS`], one after the other.
pub fn all() -> impl Iterator<Item = &'static Op> {
    OPS.iter().flat_map(|rows| rows.iter().copied())
}

/// The row with this name.
pub fn by_name(name: &str) -> Option<&'static Op> {
    all().find(|op| op.name == name)
}

/// Does an operation: checks the arguments by its rule, takes the memory of the result, runs the kernel.
///
/// `args` stand in the order of `op.params`; what is left out at the end has its default.
///
/// # Errors
/// [`Error::Op`] where the arguments break the operation's rule, [`Error::Memory`] where the result finds no memory.
pub fn apply(op: &'static Op, device: &Device, args: &[Arg<'_>]) -> Result<Raw, Error> {
    if args.len() < op.params.len() {
        let defaults = op.params[args.len()..].iter().map(|param| param.default.map_or(Arg::None, Default::arg));
        let all: SmallVec<[Arg<'_>; 8]> = args.iter().cloned().chain(defaults).collect();
        return apply_all(op, device, &all);
    }
    apply_all(op, device, args)
}

fn apply_all(op: &'static Op, device: &Device, args: &[Arg<'_>]) -> Result<Raw, Error> {
    let layout = result_layout(op, device, args).map_err(|fault| fault_of(op, args, fault))?;
    match op.run {
        Run::View(view) => {
            let Some(Arg::Tensor(source)) = args.first() else {
                return Err(fault_of(op, args, Fault::Unknown));
            };
            match view(source, args, &layout) {
                Some(raw) => Ok(raw),
                None => {
                    let source = source.contiguous()?;
                    view(&source, args, &layout).ok_or_else(|| fault_of(op, args, Fault::Unknown))
                }
            }
        }
        Run::Kernel(kernel) => run_kernel(op, kernel, device, args, &layout),
        Run::ContiguousKernel(kernel) => {
            let is_ready = |arg: &Arg| operand_of(arg).is_none_or(|operand| operand.is_contiguous());
            if args.iter().all(is_ready) {
                return run_kernel(op, kernel, device, args, &layout);
            }
            let copies: Result<SmallVec<[Option<Raw>; 8]>, Error> = args
                .iter()
                .map(|arg| match arg {
                    Arg::Tensor(raw) if !raw.is_contiguous() => raw.contiguous().map(Some),
                    _ => Ok(None),
                })
                .collect();
            let copies = copies?;
            let ready: SmallVec<[Arg<'_>; 8]> = args
                .iter()
                .zip(&copies)
                .map(|(arg, copy)| copy.as_ref().map_or_else(|| arg.clone(), Arg::Tensor))
                .collect();
            run_kernel(op, kernel, device, &ready, &layout)
        }
    }
}

/// The layout of the result, by the operation's rule.
fn result_layout(op: &Op, device: &Device, args: &[Arg<'_>]) -> Result<Layout, Fault> {
    let is_elsewhere = |arg: &Arg| matches!(arg, Arg::Tensor(raw) if !raw.device().is_same(device));
    if args.iter().any(is_elsewhere) {
        return Err(Fault::Devices);
    }
    let types: SmallVec<[ArgType<'_>; 6]> = args.iter().map(ArgType::from).collect();
    (op.rule)(&RuleArgs(&types))?.layout().ok_or(Fault::Unknown)
}

fn run_kernel(
    op: &'static Op,
    kernel: fn(&mut Call) -> Result<(), Fault>,
    device: &Device,
    args: &[Arg<'_>],
    layout: &Layout,
) -> Result<Raw, Error> {
    let mut lease = take(device, layout, Role::Activation, op.name)?;
    let (dtype, dims) = (layout.dtype(), layout.shape().dims());
    let mut call = Call { threads: device.threads(), args, dtype, dims, out: lease.bytes_mut() };
    kernel(&mut call).map_err(|fault| fault_of(op, args, fault))?;
    Ok(Raw::new(lease.share(), layout))
}

#[cold]
fn fault_of(op: &'static Op, args: &[Arg<'_>], fault: Fault) -> Error {
    let mut operands = Vec::new();
    for arg in args {
        match arg {
            Arg::Tensors(tensors) => operands.extend(tensors.iter().map(|tensor| tensor.layout().to_string())),
            arg => operands.extend(operand_of(arg).map(|o| Layout::new(o.dtype, o.dims).to_string())),
        }
    }
    Error::Op { op: op.name, operands, fault }
}

impl<T> Tensor<T> {
    /// Applies a row of [`OPS`] to this tensor and what else it needs.
    ///
    /// # Errors
    /// As for [`apply`].
    pub fn apply<U>(&self, op: &'static Op, rest: &[Arg<'_>]) -> Result<Tensor<U>, Error> {
        let args: SmallVec<[Arg<'_>; 8]> =
            std::iter::once(Arg::Tensor(self.raw())).chain(rest.iter().cloned()).collect();
        apply(op, self.device(), &args).map(Tensor::from_raw)
    }
}

/// Strides with which a tensor is read as if it had the dimensions of `dims`.
pub(crate) fn broadcast_strides(own: &[usize], strides: &[usize], dims: &[usize]) -> crate::Strides {
    let missing = dims.len() - own.len();
    (0..dims.len())
        .map(|i| if i < missing || (own[i - missing] == 1 && dims[i] != 1) { 0 } else { strides[i - missing] })
        .collect()
}

/// Strides of a contiguous tensor with these dimensions.
pub(crate) fn strides_of(dims: &[usize]) -> crate::Strides {
    contiguous_strides(dims)
}
