//! What a program that runs on a GPU is given: its text, the memory that it reads and writes, a few numbers.
//!
//! Plain data: whoever has a kernel describes a launch here, and [`Device::launch`](crate::Device::launch) records it.
//! Nothing in this file knows a graphics interface, and it is the same where the crate is built without one.

use crate::Error;
use crate::shader_target::ShaderTarget;
use crate::slot::Slot;

/// Memory that a program sees: a buffer from `offset_bytes` on.
#[derive(Clone, Copy)]
pub struct Binding<'a> {
    pub(crate) slot: &'a Slot,
    offset_bytes: u64,
    /// 0: all that is behind the offset.
    len_bytes: u64,
}

impl<'a> Binding<'a> {
    /// All of the slot's memory.
    pub(crate) fn of(slot: &'a Slot) -> Binding<'a> {
        Binding { slot, offset_bytes: 0, len_bytes: 0 }
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
    /// The numbers, at most [`MAX_IMMEDIATE_BYTES`](crate::MAX_IMMEDIATE_BYTES) of them.
    pub immediates: &'a [u32],
    /// Workgroups. They are spread over two dimensions, `x` first: number `x + y * num_workgroups.x`, and there may be a few
    /// more than asked for.
    pub groups: u32,
}
