//! What a program that runs on a GPU is given: its text, the memory that it reads and writes, a few numbers.
//!
//! Plain data: whoever has a kernel describes a launch here, and [`Device::launch`](crate::Device::launch) records it.
//! Nothing in this file knows a graphics interface, and it is the same where the crate is built without one.

use crate::storage::{Slot, Storage};
use crate::{Error, Lease};

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

/// Memory that a program sees: a buffer from `offset_bytes` on.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    pub(crate) slot: &'a Slot,
    offset_bytes: u64,
    /// 0: all that is behind the offset.
    len_bytes: u64,
}

impl<'a> Binding<'a> {
    /// All of the memory, to be read.
    pub fn read(storage: &'a Storage) -> Binding<'a> {
        Binding { slot: storage.slot(), offset_bytes: 0, len_bytes: 0 }
    }

    /// All of the memory, to be read, while its holder keeps the right to write it.
    pub fn read_lease(lease: &'a Lease) -> Binding<'a> {
        Binding { slot: lease.slot(), offset_bytes: 0, len_bytes: 0 }
    }

    /// All of the memory, to be written.
    pub fn write(lease: &'a mut Lease) -> Binding<'a> {
        Binding { slot: lease.slot(), offset_bytes: 0, len_bytes: 0 }
    }

    /// A part of the memory. The offset is a multiple of [`ShaderTarget::binding_alignment`].
    pub fn part(self, offset_bytes: u64, len_bytes: u64) -> Binding<'a> {
        Binding { offset_bytes, len_bytes, ..self }
    }

    /// The bytes that the program sees: the first, and how many; 0: all that are behind it.
    pub fn range(&self) -> (u64, u64) {
        (self.offset_bytes, self.len_bytes)
    }

    /// Bytes of the layout that the memory was taken for.
    pub fn len_bytes(&self) -> usize {
        self.slot.len_bytes()
    }

    /// As [`Storage::read`].
    ///
    /// # Errors
    /// As for [`Storage::read`].
    pub fn download(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.slot.read(offset, len, sink)
    }
}

/// One run of a program.
pub struct Launch<'a> {
    /// The program's name, for errors and statistics.
    pub name: &'static str,
    /// Tells programs of one name apart: the data types they were written out for, and the like.
    pub variant: u64,
    /// The program in WGSL, asked for once for each name and variant. Its entry point is `main`; bindings are numbered from
    /// 0 in group 0, those that are read before those that are written; numbers are in `var<immediate>`.
    pub source: &'a dyn Fn(&ShaderTarget) -> String,
    /// Memory that the program reads.
    pub reads: &'a [Binding<'a>],
    /// Memory that the program writes (and may read). None of it is among what it reads.
    pub writes: &'a [Binding<'a>],
    /// Whether the program has, behind its other bindings, the device's word for indices out of range: four words that it
    /// sets to 1, the index and the size, through an atomic exchange of the first.
    pub reports_faults: bool,
    /// The numbers, at most [`MAX_IMMEDIATE_BYTES`] of them.
    pub immediates: &'a [u32],
    /// Workgroups. They are spread over two dimensions, `x` first: number `x + y * num_workgroups.x`, and there may be a few
    /// more than asked for.
    pub groups: u32,
}
