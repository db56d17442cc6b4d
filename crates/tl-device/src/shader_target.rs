//! What programs for a GPU may use. Plain data, the same where the crate is built without GPUs.

/// The most bytes of numbers that a launch may carry: what every backend offers.
pub const MAX_IMMEDIATE_BYTES: usize = 128;

/// What a GPU's programs may use. Kernels are written out for it.
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
    /// The sizes that a subgroup can have, smallest and largest; `None`: no subgroup operations.
    pub subgroup: Option<(u32, u32)>,
    /// Whether products of `float16` matrices of 16 by 16 with `float32` sums have an instruction.
    pub has_matrix_16: bool,
    /// Whether products of `float16` matrices of 8 by 8 with `float32` sums have an instruction.
    pub has_matrix_8: bool,
    /// The most invocations of a workgroup.
    pub max_workgroup_size: u32,
    /// Bytes of memory that a workgroup shares.
    pub max_workgroup_bytes: u32,
    /// The most bytes that one binding may show; larger weights are bound in parts.
    pub max_binding_bytes: u64,
    /// A binding begins at a multiple of this.
    pub binding_alignment: u32,
}

impl Default for ShaderTarget {
    /// What WebGPU promises everywhere.
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
