//! Memory that a product keeps its activations in, quantized or rearranged once for all threads: a fixed piece per set of
//! threads, which is allocated once and lent to one product at a time.
#![allow(unsafe_code)]

use bytemuck::{Pod, Zeroable};
use std::ops::{Deref, DerefMut};
use std::sync::MutexGuard;

/// Bytes of a workspace. It holds the activations of some hundred tokens at the widths of today's models; products of
/// more go in parts.
pub(crate) const WORKSPACE_BYTES: usize = 4 << 20;

/// A cache line: what a workspace is counted in.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct Line(pub(crate) [u8; 64]);

// SAFETY: 64 bytes of an array, aligned to 64: no padding, and every pattern of bits is a value.
unsafe impl Zeroable for Line {}
// SAFETY: as above.
unsafe impl Pod for Line {}

/// [`WORKSPACE_BYTES`], and a line to spare: bytes without an alignment are what the allocator takes from the system as zeros
/// that nobody has written, so that a page costs something only when it is first used.
pub(crate) type Workspace = Vec<u8>;

/// The workspace while somebody has it.
pub(crate) struct WorkspaceGuard<'a> {
    guard: MutexGuard<'a, Option<Workspace>>,
}

impl<'a> WorkspaceGuard<'a> {
    pub(crate) fn new(mut guard: MutexGuard<'a, Option<Workspace>>) -> Self {
        guard.get_or_insert_with(|| vec![0; WORKSPACE_BYTES + size_of::<Line>()]);
        WorkspaceGuard { guard }
    }
}

impl Deref for WorkspaceGuard<'_> {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        let bytes = self.guard.as_deref().unwrap_or_default();
        &bytemuck::pod_align_to(bytes).1[..WORKSPACE_BYTES / size_of::<Line>()]
    }
}

impl DerefMut for WorkspaceGuard<'_> {
    fn deref_mut(&mut self) -> &mut [Line] {
        let bytes = self.guard.as_deref_mut().unwrap_or_default();
        &mut bytemuck::pod_align_to_mut(bytes).1[..WORKSPACE_BYTES / size_of::<Line>()]
    }
}
