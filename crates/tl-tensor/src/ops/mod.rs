//! Operations: the table [`OPS`], and [`apply`], the one way to run a row of it.
//!
//! An operation has one file or shares one with its kind: its parameters, its shape rule (which serves the checker and the
//! running program alike), its kernel, its method on `Tensor`. A row joins the language, the documentation and the tests
//! by being in the table. To add an elementwise operation, add a row in `elementwise.rs`; to add another, write its file
//! and put its row into [`OPS`].

pub(crate) mod access;
mod argument;
mod attention;
mod attention_gpu;
pub(crate) mod cast;
mod chain;
pub(crate) mod create;
mod einsum;
mod elementwise;
mod embedding;
mod experts;
mod experts_gpu;
mod gather;
pub(crate) mod gpu;
mod host;
pub(crate) mod join;
mod linear_gpu;
mod linear_matrix;
mod matmul;
mod norm;
mod product_gpu;
mod recurrent;
mod reduce;
mod reduce_gpu;
mod rope;
mod rows_gpu;
mod rule;
mod site;
mod top;
mod view;
mod work;

use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, Layout, Lease, Role};
use tl_kernels::{BinaryMap, Threads, UnaryMap, View, Weight, WeightKernels};

pub use argument::{Arg, DefaultValue, Kind, Param};
pub use attention::{Attention, MAX_HEAD_DIM};
pub use chain::{Link, MAX_LINKS, MAX_WAITING, apply_chain, link_layout};
pub use gpu::{Dispatch, GpuKernel};
pub use recurrent::{DeltaStep, convolution_state, delta_state};
pub use rope::Rope;
pub use rule::{ArgType, RuleArgs, Size, Sizes, TensorType};
pub use site::Site;

use crate::tensor::{DynTensor, Repeat, contiguous_strides, is_contiguous, take};
use crate::{Error, OpError, Tensor};

pub(crate) use argument::{optional, required};
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
    pub rule: fn(&RuleArgs) -> Result<TensorType, OpError>,
    /// How it is done.
    pub kernel: OpKernel,
    /// How a GPU does it; `None`: it does not, and the CPU does it instead. Views need nothing.
    pub gpu: Option<GpuKernel>,
}

impl Op {
    /// Whether its result is the operand's memory, seen otherwise.
    pub fn is_view(&self) -> bool {
        matches!(self.kernel, OpKernel::View(_))
    }

    /// Whether its kernels keep activations in the threads' workspace: products of matrices, and attention, which is two.
    fn uses_workspace(&self) -> bool {
        self.group == Group::Linear || std::ptr::eq(self, &attention::ATTENTION)
    }
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

/// A tensor as a kernel reads it: bytes from its first element on or their place on a GPU, dimensions, strides.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub(crate) dtype: DType,
    /// From the first element on; none where they lie on a GPU.
    pub(crate) bytes: &'a [u8],
    /// The memory on a GPU that the elements lie in; `None`: they are in `bytes`.
    pub(crate) binding: Option<Binding<'a>>,
    /// The first element, counted in elements from the start of that memory.
    pub(crate) offset: usize,
    /// Whether it is a parameter's tensor: learnable, or mapped from a model's file.
    pub(crate) is_weight: bool,
    pub(crate) dims: &'a [usize],
    pub(crate) strides: &'a [usize],
    /// The dimension that repeats its elements. Kernels get operands without, but for those of [`OpKernel::RepeatKernel`].
    pub(crate) repeat: Option<Repeat>,
}

impl<'a> Operand<'a> {
    /// The elements from the first one on.
    pub(crate) fn data<T: bytemuck::Pod>(&self) -> Result<&'a [T], OpError> {
        let whole = self.bytes.len() / size_of::<T>() * size_of::<T>();
        bytemuck::try_cast_slice(&self.bytes[..whole]).map_err(|_| OpError::Unaligned { dtype: self.dtype })
    }

    pub(crate) fn kernel_view<T: bytemuck::Pod>(&self) -> Result<View<'a, T>, OpError> {
        Ok(View { data: self.data()?, dims: self.dims, strides: self.strides })
    }

    /// Exactly the elements of a contiguous operand.
    pub(crate) fn slice<T: bytemuck::Pod>(&self) -> Result<&'a [T], OpError> {
        self.data::<T>().map(|data| data.get(..self.n_elems()).unwrap_or_default())
    }

    pub(crate) fn n_elems(&self) -> usize {
        self.dims.iter().product()
    }

    pub(crate) fn is_contiguous(&self) -> bool {
        self.repeat.is_none() && is_contiguous(self.dims, self.strides)
    }

    /// The operand as a weight: rows of blocks, without what lies behind it. Not for views with gaps, whose rows the
    /// caller finds by their strides in `bytes`.
    pub(crate) fn weight(&self) -> Result<Weight<'a>, OpError> {
        let format = self.weight_format()?;
        let len = self.n_elems() / format.block_elems * format.block_bytes;
        Ok(Weight { bytes: self.bytes.get(..len).unwrap_or_default(), format })
    }

    pub(crate) fn weight_format(&self) -> Result<&'static WeightKernels, OpError> {
        let expected = "a float type or a weight format";
        let error = OpError::DType { operand: "a weight", expected, found: self.dtype };
        crate::quant::format_of(self.dtype).map(|format| format.kernels).ok_or(error)
    }
}

/// How an operation is done.
pub enum OpKernel {
    /// The result is a view of the first operand, where its strides allow it; else a copy is taken first.
    View(fn(&DynTensor, &[Arg], &Layout) -> Option<DynTensor>),
    /// The result is computed into new memory.
    Kernel(fn(&mut Call) -> Result<(), OpError>),
    /// As `Kernel`; on floats, each element of the result comes from one of each operand, so that several such operations
    /// may be done in one pass.
    Elementwise(Map, fn(&mut Call) -> Result<(), OpError>),
    /// As `Kernel`, on operands that lie contiguous; others are copied first.
    ContiguousKernel(fn(&mut Call) -> Result<(), OpError>),
    /// As `Kernel`, on operands of which those that the kernel cannot read as they lie are copied first.
    PreparedKernel {
        /// Whether the operand at this position must be copied.
        must_copy: fn(&[Arg], usize) -> bool,
        /// The kernel.
        kernel: fn(&mut Call) -> Result<(), OpError>,
    },
    /// As `PreparedKernel`, and a dimension that repeats its elements is the kernel's own business: see
    /// `Call::operand_with_repeat`. For all others, operands with such a dimension are copied first.
    RepeatKernel {
        /// Whether the operand at this position must be copied.
        must_copy: fn(&[Arg], usize) -> bool,
        /// The kernel.
        kernel: fn(&mut Call) -> Result<(), OpError>,
    },
}

/// What an elementwise operation does with a block of floats. Its operands are its first arguments.
#[derive(Clone, Copy)]
pub enum Map {
    /// Of one operand.
    Unary(UnaryMap),
    /// Of two operands, which broadcast.
    Binary(BinaryMap),
    /// Nothing but that the result is stored in another type.
    Store,
}

impl Op {
    /// What the operation does with a block of floats, where it is elementwise.
    pub fn map(&self) -> Option<Map> {
        match self.kernel {
            OpKernel::Elementwise(map, _) => Some(map),
            _ => None,
        }
    }
}

/// What a kernel gets: its arguments and the memory of its result.
pub struct Call<'a> {
    pub(crate) device: &'a Device,
    pub(crate) threads: &'a Threads,
    args: &'a [Arg<'a>],
    /// The type of the result.
    pub(crate) dtype: DType,
    /// The dimensions of the result, which is contiguous.
    pub(crate) dims: &'a [usize],
    /// The result's bytes; none where they lie on a GPU.
    pub(crate) out: &'a mut [u8],
    /// The result's memory on a GPU.
    pub(crate) lease: Option<&'a mut Lease>,
}

impl<'a> Call<'a> {
    pub(crate) fn arg(&self, index: usize) -> &'a Arg<'a> {
        self.args.get(index).unwrap_or(&Arg::None)
    }

    /// An operand that must be a tensor.
    pub(crate) fn operand(&self, index: usize) -> Result<Operand<'a>, OpError> {
        self.optional_operand(index).ok_or(OpError::Unknown)
    }

    pub(crate) fn optional_operand(&self, index: usize) -> Option<Operand<'a>> {
        let operand = operand_of(self.arg(index))?;
        assert!(operand.repeat.is_none(), "an operand with a repeated dimension is read as if it had none");
        Some(operand)
    }

    /// An operand of which a dimension may repeat its elements, if the argument is one.
    pub(crate) fn operand_with_repeat(&self, index: usize) -> Option<Operand<'a>> {
        operand_of(self.arg(index))
    }

    /// Whether the argument is a parameter's tensor: learnable, or mapped from a model's file.
    pub(crate) fn is_weight(&self, index: usize) -> bool {
        self.optional_operand(index).is_some_and(|operand| operand.is_weight)
    }

    pub(crate) fn number(&self, index: usize) -> Result<f64, OpError> {
        match self.arg(index) {
            Arg::Number(x) => Ok(*x),
            Arg::Int(n) => Ok(*n as f64),
            _ => Err(OpError::Unknown),
        }
    }

    pub(crate) fn int(&self, index: usize) -> Result<i64, OpError> {
        match self.arg(index) {
            Arg::Int(n) => Ok(*n),
            _ => Err(OpError::Unknown),
        }
    }

    pub(crate) fn bool(&self, index: usize) -> bool {
        matches!(self.arg(index), Arg::Bool(true))
    }

    /// The result's memory as elements.
    pub(crate) fn out<T: bytemuck::Pod>(&mut self) -> Result<&mut [T], OpError> {
        let dtype = self.dtype;
        bytemuck::try_cast_slice_mut(self.out).map_err(|_| OpError::Unaligned { dtype })
    }
}

/// The operand that an argument is, as it lies: for its strides to say where elements lie, nothing of it may be repeated.
fn operand_of<'a>(arg: &Arg<'a>) -> Option<Operand<'a>> {
    match arg {
        Arg::Tensor(raw) => Some(raw.operand_with_repeat()),
        Arg::Operand(operand) => Some(**operand),
        _ => None,
    }
}

/// Runs the same code for `float16` and `float32`; another type is the error given.
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
            found => Err(crate::OpError::DType { operand: $operand, expected: "float16 or float32", found }),
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
    top::OPS,
    matmul::OPS,
    experts::OPS,
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
/// `args` stand in the order of `op.params`; what is left out, at the end or as [`Arg::None`], has its default.
///
/// # Errors
/// [`Error::Op`] where the arguments break the operation's rule, [`Error::Memory`] where the result finds no memory.
pub fn apply(op: &'static Op, device: &Device, args: &[Arg<'_>]) -> Result<DynTensor, Error> {
    let is_default_needed = |(i, param): (usize, &Param)| {
        matches!(args.get(i), None | Some(Arg::None)) && !matches!(param.default, None | Some(DefaultValue::Absent))
    };
    let all: SmallVec<[Arg<'_>; 8]>;
    let args = if args.len() < op.params.len() || op.params.iter().enumerate().any(is_default_needed) {
        all = (0..op.params.len().max(args.len()))
            .map(|i| match (args.get(i), op.params.get(i)) {
                (None | Some(Arg::None), Some(param)) => param.default.map_or(Arg::None, DefaultValue::arg),
                (arg, _) => arg.copied().unwrap_or(Arg::None),
            })
            .collect();
        &all
    } else {
        args
    };
    let layout = result_layout(op, device, args).map_err(|error| op_error(op, args, error))?;
    run(op, device, args, &ResultMemory::of_activation(&layout))
}

/// As [`apply`], for a place in a program that does the operation again and again: `site` is that place's own. There is
/// an argument for each parameter, defaults included.
///
/// # Errors
/// As for [`apply`].
pub fn apply_at(site: &mut Site, op: &'static Op, device: &Device, args: &[Arg<'_>]) -> Result<DynTensor, Error> {
    apply_as(Role::Activation, site, op, device, args)
}

/// As [`apply_at`], with the result in memory for this: a parameter is written where it stays. The result of a view lies where
/// its operand does, whatever the role.
///
/// # Errors
/// As for [`apply`].
pub fn apply_as(
    role: Role,
    site: &mut Site,
    op: &'static Op,
    device: &Device,
    args: &[Arg<'_>],
) -> Result<DynTensor, Error> {
    debug_assert_eq!(args.len(), op.params.len(), "`{}`: an argument for each parameter", op.name);
    if let Some(layout) = site.recall(op, args) {
        check_devices(device, args).map_err(|error| op_error(op, args, error))?;
        return run(op, device, args, &ResultMemory { layout, role });
    }
    let layout = result_layout(op, device, args).map_err(|error| op_error(op, args, error))?;
    site.remember(op, args, &layout);
    run(op, device, args, &ResultMemory { layout: &layout, role })
}

/// What a result is, and what its memory is for.
#[derive(Clone, Copy)]
struct ResultMemory<'a> {
    layout: &'a Layout,
    role: Role,
}

impl ResultMemory<'_> {
    fn of_activation(layout: &Layout) -> ResultMemory<'_> {
        ResultMemory { layout, role: Role::Activation }
    }
}

/// Does an operation whose result has this layout by its rule.
fn run(op: &'static Op, device: &Device, args: &[Arg<'_>], target: &ResultMemory<'_>) -> Result<DynTensor, Error> {
    if args.iter().any(|arg| matches!(arg, Arg::Planned(_))) {
        let error = OpError::Argument { parameter: "an operand", expected: "computed before it is read" };
        return Err(op_error(op, args, error));
    }
    match op.kernel {
        OpKernel::RepeatKernel { must_copy, kernel } => run_prepared(op, must_copy, kernel, device, args, target),
        // What it does is what makes arguments plain.
        _ if std::ptr::eq(op, &CONTIGUOUS)
            && let Some(Arg::Tensor(raw)) = args.first()
            && raw.has_repeat() =>
        {
            raw.contiguous()
        }
        _ => with_plain(args, |args| run_plain(op, device, args, target)),
    }
}

/// Gives `body` the arguments with copies of those of which a dimension repeats its elements.
fn with_plain<T>(args: &[Arg<'_>], body: impl FnOnce(&[Arg<'_>]) -> Result<T, Error>) -> Result<T, Error> {
    let is_plain = |arg: &Arg<'_>| match arg {
        Arg::Tensor(raw) => !raw.has_repeat(),
        Arg::Tensors(tensors) => !tensors.iter().any(|tensor| tensor.raw().has_repeat()),
        _ => true,
    };
    if args.iter().all(is_plain) {
        return body(args);
    }
    // Of each argument the tensors that take its place.
    let mut copies: SmallVec<[SmallVec<[Tensor; 1]>; 8]> = SmallVec::new();
    for arg in args {
        copies.push(match arg {
            arg if is_plain(arg) => SmallVec::new(),
            Arg::Tensor(raw) => SmallVec::from_elem(raw.contiguous()?.into(), 1),
            Arg::Tensors(tensors) => {
                let plain =
                    |tensor: &Tensor| if tensor.raw().has_repeat() { tensor.contiguous() } else { Ok(tensor.clone()) };
                tensors.iter().map(plain).collect::<Result<_, _>>()?
            }
            _ => SmallVec::new(),
        });
    }
    let plain: SmallVec<[Arg<'_>; 8]> = args
        .iter()
        .zip(&copies)
        .map(|(arg, copies)| match (arg, copies.as_slice()) {
            (_, []) => *arg,
            (Arg::Tensors(_), copies) => Arg::Tensors(copies),
            (_, [copy, ..]) => Arg::Tensor(copy.raw()),
        })
        .collect();
    body(&plain)
}

/// As [`run`], with arguments that strides describe.
fn run_plain(
    op: &'static Op,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    let layout = target.layout;
    match op.kernel {
        OpKernel::View(view) => {
            let Some(Arg::Tensor(source)) = args.first() else {
                return Err(op_error(op, args, OpError::Unknown));
            };
            if layout.shape().checked_elems().is_none() {
                return Err(Error::Memory {
                    op: op.name,
                    error: tl_device::LayoutError::TooLarge { layout: layout.clone() }.into(),
                });
            }
            match view(source, args, layout) {
                Some(raw) => Ok(raw),
                None => {
                    let source = source.contiguous()?;
                    view(&source, args, layout).ok_or_else(|| op_error(op, args, OpError::Unknown))
                }
            }
        }
        OpKernel::Kernel(kernel) | OpKernel::Elementwise(_, kernel) => run_kernel(op, kernel, device, args, target),
        OpKernel::ContiguousKernel(kernel) => run_prepared(op, |_, _| true, kernel, device, args, target),
        OpKernel::PreparedKernel { must_copy, kernel } | OpKernel::RepeatKernel { must_copy, kernel } => {
            run_prepared(op, must_copy, kernel, device, args, target)
        }
    }
}

/// Runs a kernel after the operands that it cannot read as they lie have been copied.
fn run_prepared(
    op: &'static Op,
    must_copy: fn(&[Arg], usize) -> bool,
    kernel: fn(&mut Call) -> Result<(), OpError>,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    let copied = |i: usize| match &args[i] {
        Arg::Tensor(raw) if !raw.is_contiguous() && must_copy(args, i) => Some(*raw),
        _ => None,
    };
    if (0..args.len()).all(|i| copied(i).is_none()) {
        return run_kernel(op, kernel, device, args, target);
    }
    let copies: Result<SmallVec<[Option<DynTensor>; 8]>, Error> =
        (0..args.len()).map(|i| copied(i).map(DynTensor::contiguous).transpose()).collect();
    let copies = copies?;
    let ready: SmallVec<[Arg<'_>; 8]> =
        args.iter().zip(&copies).map(|(arg, copy)| copy.as_ref().map_or(*arg, Arg::Tensor)).collect();
    run_kernel(op, kernel, device, &ready, target)
}

/// The layout of the result, by the operation's rule.
fn result_layout(op: &Op, device: &Device, args: &[Arg<'_>]) -> Result<Layout, OpError> {
    argument::check(op.params, args)?;
    check_devices(device, args)?;
    let types: SmallVec<[ArgType<'_>; 8]> = args.iter().map(ArgType::from).collect();
    // Here everything is known but what two plain numbers are to an operation on tensors.
    let no_tensor = || OpError::Argument { parameter: "one of the operands", expected: "a tensor" };
    match (op.rule)(&RuleArgs(&types)) {
        Ok(result) => result.layout().ok_or_else(no_tensor),
        Err(OpError::Unknown) => Err(no_tensor()),
        Err(error) => Err(error),
    }
}

/// All operands lie on the device that the operation runs on.
fn check_devices(device: &Device, args: &[Arg<'_>]) -> Result<(), OpError> {
    let is_elsewhere = |arg: &Arg| match arg {
        Arg::Tensor(raw) => !raw.device().is_same(device),
        Arg::Tensors(tensors) => tensors.iter().any(|tensor| !tensor.device().is_same(device)),
        _ => false,
    };
    if args.iter().any(is_elsewhere) { Err(OpError::Devices) } else { Ok(()) }
}

fn run_kernel(
    op: &'static Op,
    kernel: fn(&mut Call) -> Result<(), OpError>,
    device: &Device,
    args: &[Arg<'_>],
    target: &ResultMemory<'_>,
) -> Result<DynTensor, Error> {
    if op.uses_workspace() {
        device.take_workspace().map_err(|error| Error::Memory { op: op.name, error })?;
    }
    let layout = target.layout;
    let mut lease = take(device, layout, target.role, op.name)?;
    if device.is_simulated() {
        device.count_work(work::of(op, args, layout));
    }
    if device.is_simulated() && !device.is_gpu() {
        // There are no bytes to compute; what counts is that the memory was taken.
        return Ok(DynTensor::new(lease.share(), layout));
    }
    if device.is_gpu() {
        return run_on_gpu(op, kernel, device, args, layout, lease);
    }
    let (dtype, dims) = (layout.dtype(), layout.shape().dims());
    let out = lease.bytes_mut();
    let mut call = Call { device, threads: device.threads(), args, dtype, dims, out, lease: None };
    kernel(&mut call).map_err(|error| op_error(op, args, error))?;
    Ok(DynTensor::new(lease.share(), layout))
}

/// Launches the operation's program; where there is none for these arguments, the CPU does the work on copies.
fn run_on_gpu(
    op: &'static Op,
    kernel: fn(&mut Call) -> Result<(), OpError>,
    device: &Device,
    args: &[Arg<'_>],
    layout: &Layout,
    mut lease: Lease,
) -> Result<DynTensor, Error> {
    let (dtype, dims) = (layout.dtype(), layout.shape().dims());
    let ran = match op.gpu {
        Some(_) if layout.shape().contains(&0) => Dispatch::Launched,
        Some(gpu) => {
            let (threads, lease) = (device.threads(), Some(&mut lease));
            gpu(&mut Call { device, threads, args, dtype, dims, out: &mut [], lease })
                .map_err(|error| op_error(op, args, error))?
        }
        None => Dispatch::Unsupported,
    };
    if ran == Dispatch::Unsupported && !device.is_simulated() {
        device.count_host_fallback(op.name);
        host::run(op, kernel, device, args, layout, &mut lease)?;
    }
    Ok(DynTensor::new(lease.share(), layout))
}

#[cold]
fn op_error(op: &'static Op, args: &[Arg<'_>], error: OpError) -> Error {
    if let OpError::Device(error) = error {
        return Error::Memory { op: op.name, error: *error };
    }
    let mut operands = Vec::new();
    for arg in args {
        match arg {
            Arg::Tensors(tensors) => operands.extend(tensors.iter().map(|tensor| tensor.layout().to_string())),
            Arg::Planned(layout) => operands.push(layout.to_string()),
            arg => operands.extend(operand_of(arg).map(|o| Layout::new(o.dtype, o.dims).to_string())),
        }
    }
    Error::Op { op: op.name, operands, error }
}

impl<T> Tensor<T> {
    /// Applies a row of [`OPS`] to this tensor and what else it needs.
    ///
    /// # Errors
    /// As for [`apply`].
    pub fn apply<U>(&self, op: &'static Op, rest: &[Arg<'_>]) -> Result<Tensor<U>, Error> {
        let args: SmallVec<[Arg<'_>; 8]> =
            std::iter::once(Arg::Tensor(self.raw())).chain(rest.iter().copied()).collect();
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
