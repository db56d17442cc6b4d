//! Memory that a product keeps its activations in, quantized or rearranged once for all threads: a fixed piece per set of
//! threads, which is allocated once and lent to one product at a time.
#![allow(unsafe_code)]

use bytemuck::{Pod, Zeroable};
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

/// Bytes that a workspace lends. They hold the activations of some hundred tokens at the widths of today's models; products
/// of more go in parts.
pub(crate) const LENT_BYTES: usize = 4 << 20;

/// Bytes of a workspace: what it lends, and a line to spare for its alignment.
pub const WORKSPACE_BYTES: usize = LENT_BYTES + size_of::<Line>();

/// A cache line: what a workspace is counted in.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

// SAFETY: 64 bytes of an array, aligned to 64: no padding, and every pattern of bits is a value.
unsafe impl Zeroable for Line {}
// SAFETY: as above.
unsafe impl Pod for Line {}

/// [`WORKSPACE_BYTES`], every page of which is resident.
pub(crate) type Workspace = Vec<u8>;

/// Allocates a workspace; `None` without the memory.
pub(crate) fn allocate() -> Option<Workspace> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(WORKSPACE_BYTES).ok()?;
    bytes.resize(WORKSPACE_BYTES, 0);
    // The system hands over a page of zeros when it is written, and not before.
    bytes.iter_mut().step_by(4096).for_each(|byte| *std::hint::black_box(byte) = 0);
    Some(bytes)
}

/// The lent workspace.
pub(crate) struct WorkspaceGuard<'a> {
    guard: MutexGuard<'a, Option<Workspace>>,
}

impl<'a> WorkspaceGuard<'a> {
    /// A failed allocation ends the process, as any does; [`Threads::take_workspace`](crate::Threads::take_workspace) allocates
    /// beforehand and reports the failure.
    pub(crate) fn new(mut guard: MutexGuard<'a, Option<Workspace>>) -> Self {
        guard.get_or_insert_with(|| allocate().unwrap_or_else(|| vec![0; WORKSPACE_BYTES]));
        WorkspaceGuard { guard }
    }
}

impl Deref for WorkspaceGuard<'_> {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        let bytes = self.guard.as_deref().unwrap_or_default();
        &bytemuck::pod_align_to(bytes).1[..LENT_BYTES / size_of::<Line>()]
    }
}

impl DerefMut for WorkspaceGuard<'_> {
    fn deref_mut(&mut self) -> &mut [Line] {
        let bytes = self.guard.as_deref_mut().unwrap_or_default();
        &mut bytemuck::pod_align_to_mut(bytes).1[..LENT_BYTES / size_of::<Line>()]
    }
}
