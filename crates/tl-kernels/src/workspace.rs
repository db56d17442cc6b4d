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

/// Lines that come from the system when they are first touched.
pub(crate) type Workspace = Box<[Line]>;

/// The workspace while somebody has it.
pub(crate) struct WorkspaceGuard<'a> {
    guard: MutexGuard<'a, Option<Workspace>>,
}

impl<'a> WorkspaceGuard<'a> {
    pub(crate) fn new(mut guard: MutexGuard<'a, Option<Workspace>>) -> Self {
        guard.get_or_insert_with(|| {
            let lines = Box::new_zeroed_slice(WORKSPACE_BYTES / size_of::<Line>());
            // SAFETY: zeros are a value of `Line`.
            unsafe { lines.assume_init() }
        });
        WorkspaceGuard { guard }
    }
}

impl Deref for WorkspaceGuard<'_> {
    type Target = [Line];

    fn deref(&self) -> &[Line] {
        self.guard.as_deref().unwrap_or_default()
    }
}

impl DerefMut for WorkspaceGuard<'_> {
    fn deref_mut(&mut self) -> &mut [Line] {
        self.guard.as_deref_mut().unwrap_or_default()
    }
}
