//! Launching GPU programs over operands.

use smallvec::SmallVec;
use tl_device::{Binding, DType, Device, Launch, ShaderTarget};

use super::wgsl::Wgsl;
use crate::OpError;
use crate::op::kernel::{Call, Dispatch};
use crate::operand::Operand;

/// The numbers (immediates) of a launch.
pub(crate) type Immediates = SmallVec<[u32; 32]>;

/// A program for certain data types and flags; compiled once and cached by name and [key](ShaderVariant::key).
pub(crate) struct ShaderVariant<'a> {
    /// The name. Name, data types and `flags` determine the text.
    pub(crate) name: &'static str,
    /// The data types of its bindings.
    pub(crate) dtypes: &'a [DType],
    /// Everything else that the text depends on.
    pub(crate) flags: u32,
    /// Whether it binds the word that reports indices out of range.
    pub(crate) reports_faults: bool,
    /// Writes the text.
    pub(crate) source: &'a dyn Fn(Wgsl) -> String,
}

impl ShaderVariant<'_> {
    /// A number that identifies data types and flags.
    fn key(&self) -> u64 {
        let code = |dtype: &DType| match dtype {
            DType::F16 => 1,
            DType::F32 => 2,
            DType::I32 => 3,
            DType::Bool => 4,
            DType::Block(format) => 5 + u64::from(format.id),
        };
        let start = u64::from(self.flags) << 4 | self.dtypes.len() as u64;
        self.dtypes.iter().fold(start, |variant, dtype| variant << 8 | code(dtype))
    }
}

/// An operand on a GPU: its binding, and where it begins there.
pub(crate) struct GpuOperand<'a> {
    pub(crate) binding: Binding<'a>,
    /// The first element, counted from the binding's start.
    pub(crate) offset: u32,
}

impl<'a> Operand<'a> {
    /// The operand's binding; an error where it is not on a GPU, or its offset exceeds 32 bits.
    pub(crate) fn on_gpu(&self) -> Result<GpuOperand<'a>, OpError> {
        let binding = self.binding.ok_or(OpError::Devices)?;
        let offset = u32::try_from(self.offset).map_err(|_| OpError::Unknown)?;
        Ok(GpuOperand { binding, offset })
    }

    /// Whether 32 bits can address every element.
    pub(crate) fn fits_u32(&self) -> bool {
        let span: usize =
            self.dims.iter().zip(self.strides).map(|(&dim, &stride)| dim.saturating_sub(1) * stride).sum();
        self.offset.saturating_add(span) < u32::MAX as usize / 4
    }
}

impl Call<'_> {
    /// Launches a program over `reads` into the result.
    pub(crate) fn launch(
        &mut self,
        shader: &ShaderVariant,
        reads: &[Binding],
        immediates: &[u32],
        groups: usize,
    ) -> Result<Dispatch, OpError> {
        let Some(lease) = self.lease.as_deref_mut() else { return Ok(Dispatch::Unsupported) };
        let writes = [Binding::write(lease)];
        launch(self.device, shader, reads, &writes, immediates, groups)
    }

    /// Elements of the result.
    pub(crate) fn n_out(&self) -> usize {
        self.dims.iter().product()
    }
}

/// Launches a shader.
pub(crate) fn launch(
    device: &Device,
    shader: &ShaderVariant,
    reads: &[Binding],
    writes: &[Binding],
    immediates: &[u32],
    groups: usize,
) -> Result<Dispatch, OpError> {
    let Ok(groups) = u32::try_from(groups) else { return Ok(Dispatch::Unsupported) };
    let source = |target: &ShaderTarget| (shader.source)(Wgsl::new(target));
    device
        .launch(&Launch {
            name: shader.name,
            variant: shader.key(),
            source: &source,
            reads,
            writes,
            reports_faults: shader.reports_faults,
            immediates,
            groups,
        })
        .map_err(|error| OpError::Device(Box::new(error)))?;
    Ok(Dispatch::Launched)
}
