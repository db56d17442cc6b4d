//! The features available to GPU programs. Plain data, the same in builds without GPU support.

/// Maximum bytes of immediate data of a launch, available on every backend.
pub const MAX_IMMEDIATE_BYTES: usize = 128;

/// The features available to a GPU's programs. Kernels are generated for them.
///
/// ```
/// use tl_device::ShaderTarget;
/// let plain = ShaderTarget::default();
/// assert!(!plain.has_f16 && plain.max_workgroup_size >= 128);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShaderTarget {
    /// Whether `float16` is a type of the shading language; else it is unpacked from words.
    pub has_f16: bool,
    /// Smallest and largest size of a subgroup; `None`: no subgroup operations.
    pub subgroup: Option<(u32, u32)>,
    /// Whether there is an instruction for 16×16 `float16` matrix products with `float32` sums.
    pub has_matrix_16: bool,
    /// Whether there is an instruction for 8×8 `float16` matrix products with `float32` sums.
    pub has_matrix_8: bool,
    /// Maximum invocations of a workgroup.
    pub max_workgroup_size: u32,
    /// Bytes of workgroup memory.
    pub max_workgroup_bytes: u32,
    /// Maximum bytes of one binding; larger weights are bound in parts.
    pub max_binding_bytes: u64,
    /// Alignment of the start of a binding in bytes.
    pub binding_alignment: u32,
}

impl Default for ShaderTarget {
    /// WebGPU's guaranteed minimum.
    fn default() -> Self {
        ShaderTarget {
            has_f16: false,
            subgroup: None,
            has_matrix_16: false,
            has_matrix_8: false,
            max_workgroup_size: 256,
            max_workgroup_bytes: 16 << 10,
            max_binding_bytes: 128 << 20,
            binding_alignment: 256,
        }
    }
}
