//! Memory on a device: its owners, its sources, its return.
//!
//! A [`Device`] serves requests for memory from three sources, in this order: the [`TensorBuffer`], whose buffers were
//! reserved by exact layout beforehand; the [`BufferPool`], which keeps returned buffers; the system. A request yields
//! a [`Lease`], unique and writable; [`Lease::share`] makes it a [`Storage`], shared and read-only; dropping the last
//! handle returns the memory. Taking, sharing, cloning and returning never allocate on the heap.
//!
//! This crate knows data types and dimensions ([`Layout`]), and nothing of tensors or operations.

#![cfg_attr(not(test), warn(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr))]

mod admission;
#[expect(clippy::disallowed_methods, reason = "what the system has available is read from /proc and /sys")]
mod available;
mod device;
mod error;
#[cfg(feature = "gpu")]
mod gpu;
mod gpu_options;
pub mod heap;
mod launch;
mod layout;
#[expect(clippy::disallowed_methods, reason = "maps the files that it is given")]
mod mapping;
mod memory;
mod options;
mod plan;
mod purpose;
mod shader_target;
mod slot;
mod stats;
mod storage;
mod sync;
mod tensor_buffer;
mod trace;

pub use admission::{Admission, Entered, SessionPlan};
pub use available::{Available, MemoryBound, available_memory};
pub use device::{BufferPool, Device, Scope};
pub use error::{Error, GpuProblem, bytes};
pub use gpu_options::{GpuChoice, GpuInfo, GpuKind, GpuOptions, GpuStats};
pub use launch::{Binding, Launch};
pub use layout::{DType, Layout, LayoutError, Shape};
pub use mapping::Mapping;
pub use options::{DeviceOptions, LaunchListener, MemoryOptions, Simulation, Work};
pub use plan::{
    FitError, FittedPlan, PlanError, PlanRow, ReservationPlan, SizeRange, SymbolicPlan, SymbolicReservation,
};
pub use purpose::{Purpose, Role};
pub use shader_target::{MAX_IMMEDIATE_BYTES, ShaderTarget};
pub use stats::{BufferPoolStats, LayoutStats, MemoryStats, ReserveKind, TensorBufferStats};
pub use storage::{Lease, Storage};
pub use tensor_buffer::{HoldsMemory, StillShared, TensorBuffer};
pub use tl_kernels::{BlockFormat, Isa, has_address_space};
pub use trace::{Action, ArenaPlan, Event, Source, Trace, TraceTotals, TracedLayout, TracedSite};
