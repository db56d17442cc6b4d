//! The launch of a GPU program: its text, the memory that it reads and writes, a few numbers.
//!
//! Plain data: a kernel's caller describes a launch here, and [`Device::launch`](crate::Device::launch) records it.
//! Nothing in this file knows a graphics interface, and it is the same in builds without one.

use crate::Error;
use crate::shader_target::ShaderTarget;
use crate::slot::Slot;

/// Memory bound to a program: a buffer from `offset_bytes` on.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    pub(crate) slot: &'a Slot,
    offset_bytes: u64,
    /// 0: up to the end of the buffer.
    len_bytes: u64,
}

impl<'a> Binding<'a> {
    /// All of the slot's memory.
    pub(crate) fn of(slot: &'a Slot) -> Binding<'a> {
        Binding { slot, offset_bytes: 0, len_bytes: 0 }
    }

    /// A part of the memory. The offset must be a multiple of [`ShaderTarget::binding_alignment`].
    pub fn part(self, offset_bytes: u64, len_bytes: u64) -> Binding<'a> {
        Binding { offset_bytes, len_bytes, ..self }
    }

    /// The offset and the length of the bound bytes; a length of 0 extends to the end.
    pub fn range(&self) -> (u64, u64) {
        (self.offset_bytes, self.len_bytes)
    }

    /// Bytes of the layout that the memory was taken for.
    pub fn len_bytes(&self) -> usize {
        self.slot.len_bytes()
    }

    /// As [`Storage::read`](crate::Storage::read).
    ///
    /// # Errors
    /// As for [`Storage::read`](crate::Storage::read).
    pub fn download(&self, offset: usize, len: usize, sink: &mut dyn FnMut(&[u8])) -> Result<(), Error> {
        self.slot.read(offset, len, sink)
    }
}

/// One run of a program.
pub struct Launch<'a> {
    /// The program's name, for errors and statistics.
    pub name: &'static str,
    /// Distinguishes programs of one name: the data types that they were generated for, and the like.
    pub variant: u64,
    /// The program in WGSL, called once for each name and variant. Its entry point is `main`; bindings are numbered
    /// from 0 in group 0, reads before writes; numbers are in `var<immediate>`.
    pub source: &'a dyn Fn(&ShaderTarget) -> String,
    /// Memory that the program reads.
    pub reads: &'a [Binding<'a>],
    /// Memory that the program writes (and may read). It must not overlap the memory in `reads`.
    pub writes: &'a [Binding<'a>],
    /// Whether the program has, after its other bindings, the device's record of indices out of range: four words that
    /// it sets to 1, the index and the size, through an atomic exchange of the first.
    pub reports_faults: bool,
    /// The numbers, at most [`MAX_IMMEDIATE_BYTES`](crate::MAX_IMMEDIATE_BYTES) of them.
    pub immediates: &'a [u32],
    /// Number of workgroups. They are spread over two dimensions, `x` first: index `x + y * num_workgroups.x`; a few
    /// more than requested may run.
    pub groups: u32,
}
